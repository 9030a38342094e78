// x[row] (=, +=) scale · table[id]: one invocation a chunk of 32 values.
#import "shared/rows.wgsl"
#import "shared/quant/{format}.wgsl"
#import "shared/quant/dequantise.wgsl"

struct Params {
    columns: u32,
    rows: u32,
    first_row: u32,
    source: u32,
    first_id: u32,
    ids: u32,
    accumulate: u32,
    x_stride: u32,
    planes: vec4<u32>,
    scale: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> words: array<u32>;
@group(0) @binding(5) var<storage, read_write> x: array<f32>; // [rows, x_stride]

fn put(at: u32, k: u32, v: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if (k + i < params.columns) {
            if (params.accumulate == 1u) {
                x[at + i] += v[i];
            } else {
                x[at + i] = v[i];
            }
        }
    }
}

@compute @workgroup_size(64)
fn embed(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(global_invocation_id) invocation: vec3<u32>) {
    let row = params.first_row + workgroup.y;
    let chunks = (params.columns + 31u) / 32u;
    let chunk = invocation.x;
    if (chunk >= chunks) {
        return;
    }
    let about = rows[row];
    var id = about.token;
    if (params.source == 1u) {
        id = about.segment;
    } else if (params.source == 2u) {
        id = about.position;
    } else if ((id & 0x80000000u) != 0u) {
        id = slots[id & 0x7fffffffu];
    }
    // Another piece of the table holds it.
    if (id < params.first_id || id - params.first_id >= params.ids) {
        return;
    }
    let c = load_chunk(id - params.first_id, chunk, chunks);
    let at = row * params.x_stride + chunk * 32u;
    #for J in 0..8
    put(at + 4u * $Ju, chunk * 32u + 4u * $Ju, params.scale * weights$J(c));
    #end
}
