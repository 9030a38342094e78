// One head of one row: normalised where asked, rotated, Q back to QKV, K and V to the row's page.
#import "shared/rows.wgsl"

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    kv_stride: u32,
    qkv_stride: u32,
    rows: u32,
    first_row: u32,
    rotated: u32,
    table_offset: u32,
    table_stride: u32,
    magnitude: f32,
    eps: f32,
}

override PAIRS: u32 = 0u;
override QK_NORM: u32 = 0u;

const NO_PAIRS: u32 = 0u;
const ADJACENT: u32 = 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read> frequencies: array<f32>; // [rotated / 2]
@group(0) @binding(4) var<storage, read> q_gain: array<f32>; // [head_dim]
@group(0) @binding(5) var<storage, read> k_gain: array<f32>; // [head_dim]
@group(0) @binding(6) var<storage, read_write> qkv: array<f32>; // [rows, qkv_stride]: Q heads, K heads, V heads
#if INT8
// [page]: codes [kv head][position][kv_stride / 4], then scales [kv head][position / 2]. Atomic, for two workgroups of one dispatch
// may write the scales that share a word.
@group(0) @binding(7) var<storage, read_write> k_pages: array<atomic<u32>>;
@group(0) @binding(8) var<storage, read_write> v_pages: array<atomic<u32>>;
#else
@group(0) @binding(7) var<storage, read_write> k_pages: array<u32>; // [page][kv head][position][kv_stride / 2]
@group(0) @binding(8) var<storage, read_write> v_pages: array<u32>;
#end

var<workgroup> head: array<f32, 256>;
var<workgroup> squares: array<f32, 64>;
#if INT8
var<workgroup> sizes: array<u32, 64>;

// 127 · 65504 as f32: the largest magnitude whose scale is an f16.
const LARGEST: u32 = 0x4afde040u;
const NAN: u32 = 0x7e00u; // f16
#end

// An angle less the nearest multiple of π/2, and that multiple. π/2 comes in four parts, the first three so short that their
// products with a multiple below 2^17 are exact.
fn reduced(angle: f32) -> vec2<f32> {
    let k = round(angle * 0.6366197723675814);
    let r = ((angle - k * 1.5625) - k * 0.0081787109375) - k * 0.00011730194091796875;
    return vec2<f32>(r - k * 3.1391647865e-7, k);
}

// Cosine and sine of position · frequency. WGSL promises 2^-11 and only within ±π, and the product alone would be off by a
// hundredth of a radian at position 100000. So it is taken apart into four exact products, each brought to ±π/4.
fn rotation(position: u32, frequency: f32) -> vec2<f32> {
    let near = f32(position & 255u);
    let far = f32(position & ~255u);
    let high = bitcast<f32>(bitcast<u32>(frequency) & 0xfffff000u);
    let low = frequency - high;
    let parts = (reduced(far * high) + reduced(near * high)) + reduced(far * low);
    let last = reduced(parts.x + near * low);
    let r = last.x;
    let z = r * r;
    let s = fma(r * z, fma(z, fma(z, -1.9515295891e-4, 8.3321608736e-3), -1.6666654611e-1), r);
    let c = fma(z * z, fma(z, fma(z, 2.443315711809948e-5, -1.388731625493765e-3), 4.166664568298827e-2), fma(z, -0.5, 1.0));
    let q = bitcast<u32>(i32(parts.y + last.y)) & 3u;
    let swapped = select(vec2<f32>(c, s), vec2<f32>(s, c), (q & 1u) == 1u);
    return swapped * vec2<f32>(select(1.0, -1.0, q == 1u || q == 2u), select(1.0, -1.0, q >= 2u));
}

@compute @workgroup_size(64)
fn rope_write(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = params.first_row + workgroup.y;
    let about = rows[row];
    let h = workgroup.x;
    let from_column = row * params.qkv_stride + h * params.head_dim;
    let is_q = h < params.heads;
    let is_v = h >= params.heads + params.kv_heads;

    for (var i = t; i < 256u; i += 64u) {
        var v = 0.0;
        if (i < params.head_dim) {
            v = qkv[from_column + i];
        }
        head[i] = v;
    }
    workgroupBarrier();

    if (QK_NORM == 1u && !is_v) {
        var s = 0.0;
        for (var i = t; i < params.head_dim; i += 64u) {
            s = fma(head[i], head[i], s);
        }
        squares[t] = s;
        workgroupBarrier();
        var sum = 0.0;
        for (var i = 0u; i < 64u; i++) {
            sum += squares[i];
        }
        let root = inverseSqrt(sum / f32(params.head_dim) + params.eps);
        for (var i = t; i < params.head_dim; i += 64u) {
            var g = 0.0;
            if (is_q) {
                g = q_gain[i];
            } else {
                g = k_gain[i];
            }
            head[i] = head[i] * root * g;
        }
        workgroupBarrier();
    }

    if (PAIRS != NO_PAIRS && !is_v) {
        let pairs = params.rotated / 2u;
        for (var i = t; i < pairs; i += 64u) {
            let a = select(i, 2u * i, PAIRS == ADJACENT);
            let b = select(i + pairs, 2u * i + 1u, PAIRS == ADJACENT);
            let cs = rotation(about.position, frequencies[i]) * params.magnitude;
            let u = head[a];
            let v = head[b];
            head[a] = fma(u, cs.x, -v * cs.y);
            head[b] = fma(u, cs.y, v * cs.x);
        }
        workgroupBarrier();
    }

    if (is_q) {
        for (var i = t; i < params.head_dim; i += 64u) {
            qkv[from_column + i] = head[i];
        }
        return;
    }
    let kv_head = h - params.heads - select(0u, params.kv_heads, is_v);
    let page = tables[params.table_offset + about.sequence * params.table_stride + about.position / PAGE_LEN];
    if (page == NO_PAGE) {
        return;
    }
    #if INT8
    // Magnitudes as bits: they order as integers do, infinity and what is no number above all others.
    var largest = 0u;
    for (var i = t; i < params.head_dim; i += 64u) {
        largest = max(largest, bitcast<u32>(head[i]) & 0x7fffffffu);
    }
    sizes[t] = largest;
    workgroupBarrier();
    for (var i = 0u; i < 64u; i++) {
        largest = max(largest, sizes[i]);
    }
    let fits = largest <= LARGEST;
    let wanted = min(bitcast<f32>(select(0u, largest, fits)) / 127.0, 65504.0);
    let rounded = pack2x16float(vec2<f32>(wanted, 0.0)) & 0xffffu;
    let scale = unpack2x16float(rounded).x;
    let slot = kv_head * PAGE_LEN + about.position % PAGE_LEN;
    let from_page = page * params.kv_heads * (params.kv_stride + 2u) * 4u;
    if (t < params.kv_stride / 4u) {
        var codes = vec4<f32>(0.0);
        if (scale > 0.0) {
            let x = vec4<f32>(head[4u * t], head[4u * t + 1u], head[4u * t + 2u], head[4u * t + 3u]);
            codes = clamp(round(x / scale), vec4<f32>(-127.0), vec4<f32>(127.0));
        }
        let packed = pack4xI8(vec4<i32>(codes));
        let at = from_page + slot * (params.kv_stride / 4u) + t;
        if (is_v) {
            atomicStore(&v_pages[at], packed);
        } else {
            atomicStore(&k_pages[at], packed);
        }
    }
    if (t == 0u) {
        let at = from_page + params.kv_heads * PAGE_LEN * (params.kv_stride / 4u) + slot / 2u;
        let shift = 16u * (slot % 2u);
        let kept = ~(0xffffu << shift);
        let bits = select(NAN, rounded, fits) << shift;
        if (is_v) {
            atomicAnd(&v_pages[at], kept);
            atomicOr(&v_pages[at], bits);
        } else {
            atomicAnd(&k_pages[at], kept);
            atomicOr(&k_pages[at], bits);
        }
    }
    #else
    let at = ((page * params.kv_heads + kv_head) * PAGE_LEN + about.position % PAGE_LEN) * (params.kv_stride / 2u);
    for (var i = t; i < params.kv_stride / 2u; i += 64u) {
        let pair = pack2x16float(vec2<f32>(head[2u * i], head[2u * i + 1u]));
        if (is_v) {
            v_pages[at + i] = pair;
        } else {
            k_pages[at + i] = pair;
        }
    }
    #end
}
