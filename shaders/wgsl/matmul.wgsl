// y[row, n] = epilogue(Σₖ W[n, k] · x[row, k]) for many rows: the prompt class.
//
// 128 invocations compute a tile of ROWS batch rows × 64 weight rows, each TM = ROWS / 8 rows (t / 16, + 8, …) × 4 outputs
// (t % 16, + 16, …). Chunk by chunk of 32 values (two at a time with INTDOT), activations and decoded weights are staged in
// workgroup memory as vec4s along k. A product's sum runs over k in order, whatever the tile: ROWS never changes it.
#import "shared/matrix.wgsl"
#import "shared/quant/{format}.wgsl"
#import "shared/quant/dequantise.wgsl"

const_assert ROWS == 8u * TM;
const_assert OUTPUTS == 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> words: array<u32>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [rows, x_stride / 4]
@group(0) @binding(4) var<storage, read> bias: array<f32>; // [outputs]
@group(0) @binding(5) var<storage, read> indices: array<u32>;
@group(0) @binding(6) var<storage, read> delta: array<f32>; // [rows, delta_stride]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [rows, y_stride]

// vec4 k of row m of the activations stands at k·ROWS + (m xor k), of weight row n at k·64 + n: neighbours never meet in a bank.
#if INTDOT
var<workgroup> a_codes: array<vec4<u32>, 4u * ROWS>; // [chunk, half][row]
var<workgroup> a_scales: array<f32, 2u * ROWS>; // [chunk][row]
var<workgroup> b_codes: array<vec4<u32>, 256>; // [chunk, half][output]
var<workgroup> b_scales: array<vec2<f32>, 128>; // [chunk][output]: a scale a half, or scale and minimum
#else
#if F16
var<workgroup> a_tile: array<vec4<f16>, 8u * ROWS>;
var<workgroup> b_tile: array<vec4<f16>, 512>;
#else
var<workgroup> a_tile: array<vec4<f32>, 8u * ROWS>;
var<workgroup> b_tile: array<vec4<f32>, 512>;
#end
#end

fn activations(row: u32, k: u32) -> vec4<f32> {
    let inside = vec4<u32>(4u * k, 4u * k + 1u, 4u * k + 2u, 4u * k + 3u) < vec4<u32>(params.columns);
    if (!inside.x) {
        return vec4<f32>(0.0);
    }
    return select(vec4<f32>(0.0), x[row + k], inside);
}

#if F16
fn narrow(v: vec4<f32>) -> vec4<f16> {
    return vec4<f16>(clamp(v, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}
#else
fn narrow(v: vec4<f32>) -> vec4<f32> {
    return v;
}
#end

@compute @workgroup_size(128)
fn matmul(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let chunks = (params.columns + 31u) / 32u;
    let first = workgroup.y * ROWS;
    let gated = EPILOGUE == GATED;
    let block = workgroup.x * select(64u, 32u, gated);
    let last = select(params.outputs, 2u * params.outputs, gated) - 1u;
    // Row t % 64 of the weight tile: with GATED the first 32 are gates, the others their ups.
    let local = t % 64u;
    let upper = t / 64u;
    let n = min(block + select(local, params.outputs + local - 32u, gated && local >= 32u), last);
    let tm = t / 16u;
    let tn = t % 16u;
    #for M in 0..TM
    #for N in 0..4
    var sum$M_$N = 0.0;
    #end
    #end

    #if INTDOT
    let from_row = source_row(first + t % ROWS) * (params.x_stride / 4u);
    for (var base = 0u; base < chunks; base += 2u) {
        workgroupBarrier();
        // Each invocation quantises a chunk of one row, by its largest magnitude.
        for (var item = t; item < 2u * ROWS; item += 128u) {
            let k = (base + item / ROWS) * 8u;
            #for J in 0..8
            let a$J = activations(from_row, k + $Ju);
            #end
            let largest4 = max(max(max(abs(a0), abs(a1)), max(abs(a2), abs(a3))), max(max(abs(a4), abs(a5)), max(abs(a6), abs(a7))));
            let largest = max(max(largest4.x, largest4.y), max(largest4.z, largest4.w));
            let inverse = select(0.0, 127.0 / largest, largest > 0.0);
            #for J in 0..8
            let q$J = pack4xI8(vec4<i32>(round(a$J * inverse)));
            #end
            let at = (item / ROWS) * 2u * ROWS + item % ROWS;
            a_codes[at] = vec4<u32>(q0, q1, q2, q3);
            a_codes[at + ROWS] = vec4<u32>(q4, q5, q6, q7);
            a_scales[item] = largest / 127.0;
        }
        {
            let c = load_chunk(n, min(base + upper, chunks - 1u), chunks);
            let at = upper * 128u + local;
            b_codes[at] = vec4<u32>(codes0(c), codes1(c), codes2(c), codes3(c));
            b_codes[at + 64u] = vec4<u32>(codes4(c), codes5(c), codes6(c), codes7(c));
            #if HALVES == 2
            b_scales[t] = vec2<f32>(scale0(c), scale1(c));
            #else
            #if HAS_MIN
            b_scales[t] = vec2<f32>(scale0(c), minimum(c));
            #else
            b_scales[t] = vec2<f32>(scale0(c), 0.0);
            #end
            #end
        }
        workgroupBarrier();
        #for C in 0..2
        {
            #for N in 0..4
            let low$N = b_codes[$Cu * 128u + tn + 16u * $Nu];
            let high$N = b_codes[$Cu * 128u + 64u + tn + 16u * $Nu];
            let scale$N = b_scales[$Cu * 64u + tn + 16u * $Nu];
            #end
            #for M in 0..TM
            {
                let low = a_codes[$Cu * 2u * ROWS + tm + 8u * $Mu];
                let high = a_codes[($Cu * 2u + 1u) * ROWS + tm + 8u * $Mu];
                let scale = a_scales[$Cu * ROWS + tm + 8u * $Mu];
                #if HAS_MIN
                let codesum = f32(dot4(low, vec4<u32>(0x01010101u)) + dot4(high, vec4<u32>(0x01010101u)));
                #end
                #for N in 0..4
                #if HALVES == 2
                sum$M_$N = fma(scale * scale$N.x, f32(dot4(low, low$N)), sum$M_$N);
                sum$M_$N = fma(scale * scale$N.y, f32(dot4(high, high$N)), sum$M_$N);
                #else
                sum$M_$N = fma(scale * scale$N.x, f32(dot4(low, low$N) + dot4(high, high$N)), sum$M_$N);
                #if HAS_MIN
                sum$M_$N = fma(-scale * scale$N.y, codesum, sum$M_$N);
                #end
                #end
                #end
            }
            #end
        }
        #end
    }
    #else
    for (var base = 0u; base < chunks; base += 1u) {
        let c = load_chunk(n, base, chunks);
        workgroupBarrier();
        {
            let k = t % 8u;
            for (var m = t / 8u; m < ROWS; m += 16u) {
                a_tile[k * ROWS + (m ^ k)] = narrow(activations(source_row(first + m) * (params.x_stride / 4u), base * 8u + k));
            }
        }
        if (upper == 0u) {
            #for J in 0..4
            b_tile[$Ju * 64u + local] = narrow(weights$J(c));
            #end
        } else {
            #for J in 4..8
            b_tile[$Ju * 64u + local] = narrow(weights$J(c));
            #end
        }
        workgroupBarrier();
        #for J in 0..8
        {
            #for N in 0..4
            let b$N = vec4<f32>(b_tile[$Ju * 64u + tn + 16u * $Nu]);
            #end
            #for M in 0..TM
            let a$M = vec4<f32>(a_tile[$Ju * ROWS + ((tm + 8u * $Mu) ^ $Ju)]);
            #for N in 0..4
            sum$M_$N = fma(a$M.w, b$N.w, fma(a$M.z, b$N.z, fma(a$M.y, b$N.y, fma(a$M.x, b$N.x, sum$M_$N))));
            #end
            #end
        }
        #end
    }
    #end

    #for M in 0..TM
    {
        let r = first + tm + 8u * $Mu;
        if (gated) {
            finish(r, block + tn, sum$M_0, sum$M_2);
            finish(r, block + tn + 16u, sum$M_1, sum$M_3);
        } else {
            #for N in 0..4
            finish(r, block + tn + 16u * $Nu, sum$M_$N, 0.0);
            #end
        }
    }
    #end
}

#if INTDOT
fn dot4(a: vec4<u32>, b: vec4<u32>) -> i32 {
    return (dot4I8Packed(a.x, b.x) + dot4I8Packed(a.y, b.y)) + (dot4I8Packed(a.z, b.z) + dot4I8Packed(a.w, b.w));
}
#end
