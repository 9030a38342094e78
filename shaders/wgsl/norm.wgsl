// Whole rows normalised, one workgroup a row: 256 invocations, invocation t taking vec4s t, t + 256, …
struct Params {
    columns: u32,
    rows: u32,
    first_row: u32,
    gather: u32,
    input_stride: u32,
    output_stride: u32,
    eps: f32,
    pad: u32,
}

override KIND: u32 = 0u;
override JOIN: u32 = 0u;

const LAYER: u32 = 1u;
const STORE: u32 = 0u;
const NORM_THEN_ADD: u32 = 1u;
const ADD_THEN_NORM: u32 = 2u;
const IN_PLACE: u32 = 3u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>; // [rows, input_stride / 4]
@group(0) @binding(2) var<storage, read> gain: array<f32>; // [columns]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [columns]
@group(0) @binding(4) var<storage, read> indices: array<u32>;
@group(0) @binding(5) var<storage, read_write> output: array<f32>; // [rows, output_stride]

var<workgroup> partial: array<f32, 256>;

// The sum over the workgroup, the same in every invocation.
fn sum(t: u32, v: f32) -> f32 {
    workgroupBarrier();
    partial[t] = v;
    workgroupBarrier();
    if (t < 16u) {
        var s = 0.0;
        for (var i = 0u; i < 16u; i++) {
            s += partial[t * 16u + i];
        }
        partial[t * 16u] = s;
    }
    workgroupBarrier();
    var s = 0.0;
    for (var i = 0u; i < 16u; i++) {
        s += partial[i * 16u];
    }
    return s;
}

// vec4 i of what is normalised, zero past the end.
fn value(i: u32, source: u32, out: u32) -> vec4<f32> {
    var v = vec4<f32>(0.0);
    if (JOIN != IN_PLACE) {
        v = input[source + i];
    }
    if (JOIN == ADD_THEN_NORM || JOIN == IN_PLACE) {
        for (var e = 0u; e < 4u; e++) {
            if (4u * i + e < params.columns) {
                v[e] += output[out + 4u * i + e];
            }
        }
    }
    let k = 4u * i;
    return select(vec4<f32>(0.0), v, vec4<u32>(k, k + 1u, k + 2u, k + 3u) < vec4<u32>(params.columns));
}

@compute @workgroup_size(256)
fn norm(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = params.first_row + workgroup.x;
    var from_row = row;
    if (params.gather == 1u) {
        from_row = indices[row];
    }
    let source = from_row * (params.input_stride / 4u);
    let out = row * params.output_stride;
    let width = (params.columns + 3u) / 4u;

    var mean = 0.0;
    if (KIND == LAYER) {
        var s = 0.0;
        for (var i = t; i < width; i += 256u) {
            let v = value(i, source, out);
            s += (v.x + v.y) + (v.z + v.w);
        }
        mean = sum(t, s) / f32(params.columns);
    }
    var s = 0.0;
    for (var i = t; i < width; i += 256u) {
        let k = 4u * i;
        let d = value(i, source, out) - mean;
        let v = select(vec4<f32>(0.0), d, vec4<u32>(k, k + 1u, k + 2u, k + 3u) < vec4<u32>(params.columns));
        s = fma(v.w, v.w, fma(v.z, v.z, fma(v.y, v.y, fma(v.x, v.x, s))));
    }
    let root = inverseSqrt(sum(t, s) / f32(params.columns) + params.eps);
    for (var i = t; i < width; i += 256u) {
        let v = (value(i, source, out) - mean) * root;
        for (var e = 0u; e < 4u; e++) {
            let k = 4u * i + e;
            if (k < params.columns) {
                var r = v[e] * gain[k];
                if (KIND == LAYER) {
                    r += bias[k];
                }
                if (JOIN == NORM_THEN_ADD) {
                    output[out + k] += r;
                } else {
                    output[out + k] = r;
                }
            }
        }
    }
}
