// What the attention kernels share: parameters, what a row sees, scores, pages.
#import "shared/rows.wgsl"

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    kv_stride: u32,
    qkv_stride: u32,
    att_stride: u32,
    rows: u32,
    first_row: u32,
    table_offset: u32,
    table_stride: u32,
    window: u32,
    causal: u32,
    splits: u32,
    scale: f32,
    softcap: f32,
    pad: u32,
}

const SPLIT: u32 = 128u;

// Below every score; finite, so that differences of two are never NaN.
const MASKED: f32 = -1e30;

// First position that the row sees.
fn first_seen(about: RowInfo) -> u32 {
    if (params.window == 0u || about.position < params.window) {
        return 0u;
    }
    return about.position + 1u - params.window;
}

// One past the last position that the row sees.
fn end_seen(about: RowInfo) -> u32 {
    if (params.causal == 1u) {
        return about.position + 1u;
    }
    return about.length;
}

fn capped(score: f32) -> f32 {
    let s = score * params.scale;
    if (params.softcap > 0.0) {
        return params.softcap * tanh(clamp(s / params.softcap, -15.0, 15.0));
    }
    return s;
}
