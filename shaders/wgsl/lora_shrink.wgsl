// low[row, part, r] = Σₖ A[r, k] · x[row, k] for the adapter that the row has, if it has one.
//
// A workgroup computes 4 ranks of one part for one row: 128 invocations, invocation t taking vec4s t, t + 128, …; then a fixed tree. With
// PROLOGUE x is normalised in the same pass, as in matvec. A row's sums depend on the row and its adapter only.
#import "shared/rows.wgsl"
#import "shared/lora.wgsl"

override PROLOGUE: u32 = 0u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(2) var<storage, read> table: array<Entry>; // [adapters, parts]
@group(0) @binding(3) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>; // [rows, x_stride / 4]
@group(0) @binding(5) var<storage, read> gain: array<vec4<f32>>; // [columns / 4]
@group(0) @binding(6) var<storage, read> indices: array<u32>;
@group(0) @binding(7) var<storage, read_write> low: array<f32>; // [rows, low_stride]

var<workgroup> sums: array<vec4<f32>, 128>;
var<workgroup> squares: array<f32, 128>;

@compute @workgroup_size(128)
fn lora_shrink(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = params.first_row + workgroup.z;
    let from_batch = batch_row(row);
    let adapter = rows[from_batch].adapter;
    var rank = 0u;
    var a = 0u;
    if (adapter > 0u) {
        let entry = (adapter - 1u) * params.parts + workgroup.y;
        rank = table[entry].rank;
        a = table[entry].a;
    }
    let first = workgroup.x * 4u;
    if (first < rank) {
        let width = (params.columns + 3u) / 4u;
        let source = select(row, from_batch, params.gather_x == 1u) * (params.x_stride / 4u);
        #for R in 0..4
        // Ranks past the last read the last one and are not stored.
        let a$R = a + min(first + $Ru, rank - 1u) * width;
        var sum$R = vec4<f32>(0.0);
        #end
        var square = 0.0;
        for (var i = t; i < width; i += 128u) {
            let k = 4u * i;
            // What pads a row of x is not for us to multiply, whatever it is.
            var v = select(vec4<f32>(0.0), x[source + i], vec4<u32>(k, k + 1u, k + 2u, k + 3u) < vec4<u32>(params.columns));
            square = fma(v.w, v.w, fma(v.z, v.z, fma(v.y, v.y, fma(v.x, v.x, square))));
            if (PROLOGUE == 1u) {
                v = v * gain[i];
            }
            #for R in 0..4
            sum$R = fma(weights[a$R + i], v, sum$R);
            #end
        }
        sums[t] = vec4<f32>(
            (sum0.x + sum0.y) + (sum0.z + sum0.w),
            (sum1.x + sum1.y) + (sum1.z + sum1.w),
            (sum2.x + sum2.y) + (sum2.z + sum2.w),
            (sum3.x + sum3.y) + (sum3.z + sum3.w),
        );
        squares[t] = square;
        workgroupBarrier();
        if (t < 16u) {
            var sum = vec4<f32>(0.0);
            var s = 0.0;
            for (var i = 0u; i < 8u; i++) {
                sum += sums[t * 8u + i];
                s += squares[t * 8u + i];
            }
            sums[t * 8u] = sum;
            squares[t * 8u] = s;
        }
        workgroupBarrier();
        if (t < 4u && first + t < rank) {
            var sum = 0.0;
            var s = 0.0;
            for (var i = 0u; i < 16u; i++) {
                sum += sums[i * 8u][t];
                s += squares[i * 8u];
            }
            if (PROLOGUE == 1u) {
                sum *= inverseSqrt(s / f32(params.columns) + params.eps);
            }
            low[row * params.low_stride + workgroup.y * params.ranks + first + t] = sum;
        }
    }
}
