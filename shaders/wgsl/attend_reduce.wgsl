// att[row, head] = Σ over splits, weighed by how their largest scores differ, over the weighed sum of weights.
#import "shared/attend.wgsl"

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(2) var<storage, read> partials: array<f32>; // [rows][heads][splits][head_dim + 2]
@group(0) @binding(3) var<storage, read_write> att: array<f32>; // [rows, att_stride]

@compute @workgroup_size(64)
fn attend_reduce(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = params.first_row + workgroup.y;
    let about = rows[row];
    let count = (end_seen(about) + SPLIT - 1u) / SPLIT - first_seen(about) / SPLIT;
    let room = params.head_dim + 2u;
    let from_split = (workgroup.y * params.heads + workgroup.x) * params.splits * room;
    var largest = MASKED;
    for (var s = 0u; s < count; s++) {
        largest = max(largest, partials[from_split + s * room + params.head_dim]);
    }
    for (var d = t; d < params.head_dim; d += 64u) {
        var sum = 0.0;
        var weight = 0.0;
        for (var s = 0u; s < count; s++) {
            let at = from_split + s * room;
            let w = exp(partials[at + params.head_dim] - largest);
            weight = fma(w, partials[at + params.head_dim + 1u], weight);
            sum = fma(w, partials[at + d], sum);
        }
        att[row * params.att_stride + workgroup.x * params.head_dim + d] = sum / weight;
    }
}
