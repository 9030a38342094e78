// delta[row, n] = Σᵣ B[n, r] · low[row, part, r]: what matvec and matmul add to output n of a row that has an adapter.
//
// One invocation an output; ranks in order. A row's delta begins with 1 where its adapter adapts this linear and with 0 where not, in
// which case nothing behind it is written or read: a row without an adapter keeps its bits.
#import "shared/rows.wgsl"
#import "shared/lora.wgsl"

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(2) var<storage, read> table: array<Entry>; // [adapters, parts]
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read> low: array<f32>; // [rows, low_stride]
@group(0) @binding(5) var<storage, read> indices: array<u32>;
@group(0) @binding(6) var<storage, read_write> delta: array<f32>; // [rows, delta_stride]

@compute @workgroup_size(64)
fn lora_expand(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = params.first_row + workgroup.z;
    let n = workgroup.x * 64u + t;
    let at = row * params.delta_stride;
    let adapter = rows[batch_row(row)].adapter;
    var adapts = 0.0;
    var sum = 0.0;
    if (adapter > 0u) {
        for (var part = 0u; part < params.parts; part++) {
            let entry = table[(adapter - 1u) * params.parts + part];
            if (entry.rank > 0u) {
                adapts = 1.0;
            }
            if (n >= entry.first_row && n - entry.first_row < entry.rows) {
                let b = entry.b + n - entry.first_row;
                let from_low = row * params.low_stride + part * params.ranks;
                for (var r = 0u; r < entry.rank; r++) {
                    sum = fma(weights[b + r * entry.rows], low[from_low + r], sum);
                }
            }
        }
    }
    if (n == 0u) {
        delta[at] = adapts;
    }
    if (adapts > 0.0 && n < params.outputs) {
        delta[at + 4u + n] = sum;
    }
}
