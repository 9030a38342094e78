// y[row, n] = epilogue(Σₖ W[n, k] · x[row, k]) for up to ROWS batch rows: the generated class.
//
// 128 invocations: 8 groups of 16 lanes. Lane l of every group takes chunks l, l + 16, … of the PER weight rows of its group, so
// that neighbours load neighbouring 16-byte words. A tile of 512 values of every batch row is staged in workgroup memory
// (with the norm's gain; the root of the mean square is applied to the finished sum), and a chunk of weights is decoded
// once for all rows. A row's sum is the same whatever ROWS, PER and its neighbours: chunk by chunk within a lane, then
// a fixed tree over the lanes.
#import "shared/matrix.wgsl"
#import "shared/quant/{format}.wgsl"

const THREADS: u32 = 128u;
const LANES: u32 = 16u;
const TILE: u32 = 128u; // vec4 of one row in a tile
const_assert OUTPUTS == 8u * PER;

override PROLOGUE: u32 = 0u;
#if SUBGROUP
override SHUFFLE_WIDTH: u32 = 4u;
#end

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> words: array<u32>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>; // [rows, x_stride / 4]
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>; // [columns / 4]
@group(0) @binding(5) var<storage, read> bias: array<f32>; // [outputs]
@group(0) @binding(6) var<storage, read> indices: array<u32>;
@group(0) @binding(7) var<storage, read> delta: array<f32>; // [rows, delta_stride]
@group(0) @binding(8) var<storage, read_write> y: array<f32>; // [rows, y_stride]

// Value vec4 j of chunk c of row r stands at r·128 + j·16 + (c xor j): neither writing (neighbours hold one chunk's vec4s) nor
// reading (neighbours hold one vec4 of several chunks) meets in a bank. Sums reuse the memory.
#if INTDOT
var<workgroup> codes: array<u32, ROWS * TILE>;
var<workgroup> scales: array<f32, ROWS * LANES>;
var<workgroup> scratch: array<f32, ROWS * PER * THREADS>;
#else
var<workgroup> scratch: array<vec4<f32>, ROWS * TILE>;
#end

fn put(slot: u32, t: u32, v: f32) {
    #if INTDOT
    scratch[slot * THREADS + t] = v;
    #else
    scratch[slot * THREADS + t] = vec4<f32>(v);
    #end
}

fn held(slot: u32, t: u32) -> f32 {
    #if INTDOT
    return scratch[slot * THREADS + t];
    #else
    return scratch[slot * THREADS + t].x;
    #end
}

// The sum over the lanes of a group for batch row r and its weight row p: pairs, pairs of pairs, …
fn total(r: u32, p: u32, group: u32) -> f32 {
    #for I in 0..16
    #if INTDOT
    let v$I = scratch[(r * PER + p) * THREADS + group * LANES + $Iu];
    #else
    let v$I = scratch[r * THREADS + group * LANES + $Iu][p];
    #end
    #end
    #if SUBGROUP
    if (SHUFFLE_WIDTH >= 16u) {
        return v0;
    }
    if (SHUFFLE_WIDTH >= 8u) {
        return v0 + v8;
    }
    return (v0 + v4) + (v8 + v12);
    #else
    return (((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7))) + (((v8 + v9) + (v10 + v11)) + ((v12 + v13) + (v14 + v15)));
    #end
}

fn across(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

#if SUBGROUP
// The same tree as total(), its first levels by shuffles: neighbours differ in one bit of the lane.
fn shuffled(v: f32) -> f32 {
    var sum = v;
    sum += subgroupShuffleXor(sum, 1u);
    sum += subgroupShuffleXor(sum, 2u);
    if (SHUFFLE_WIDTH >= 8u) {
        sum += subgroupShuffleXor(sum, 4u);
    }
    if (SHUFFLE_WIDTH >= 16u) {
        sum += subgroupShuffleXor(sum, 8u);
    }
    return sum;
}
#end

@compute @workgroup_size(128)
fn matvec(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let chunks = (params.columns + 31u) / 32u;
    let group = t / LANES;
    let lane = t % LANES;
    let first = workgroup.z * ROWS;
    let gated = EPILOGUE == GATED;
    let half = select(PER, PER / 2u, gated);
    let block = workgroup.x * 8u * half;
    let last = select(params.outputs, 2u * params.outputs, gated) - 1u;
    // Gated groups take half their rows among the gates, half among the ups.
    #for P in 0..PER
    let n$P = min(block + group * half + select($Pu, params.outputs + $Pu - half, $Pu >= half), last);
    #end
    #for R in 0..ROWS
    let x$R = source_row(first + $Ru) * (params.x_stride / 4u);
    var square$R = 0.0;
    #for P in 0..PER
    var sum$R_$P = 0.0;
    #end
    #end

    for (var base = 0u; base < chunks; base += LANES) {
        // Weights are asked for before the barriers, to travel while the tile is staged.
        let chunk = min(base + lane, chunks - 1u);
        #for P in 0..PER
        let w$P = load_chunk(n$P, chunk, chunks);
        #end

        // Stage: invocation t holds vec4 t of the tile for every row. What lies past the end is zero, and adds nothing.
        let k = base * 8u + t;
        let inside = vec4<u32>(4u * k, 4u * k + 1u, 4u * k + 2u, 4u * k + 3u) < vec4<u32>(params.columns);
        let j = t % 8u;
        let slot = j * LANES + ((t / 8u) ^ j);
        var g = vec4<f32>(1.0);
        if (PROLOGUE == 1u && inside.x) {
            g = gain[k];
        }
        #for R in 0..ROWS
        var a$R = vec4<f32>(0.0);
        if (inside.x) {
            a$R = select(vec4<f32>(0.0), x[x$R + k], inside);
        }
        square$R = fma(a$R.w, a$R.w, fma(a$R.z, a$R.z, fma(a$R.y, a$R.y, fma(a$R.x, a$R.x, square$R))));
        a$R = a$R * g;
        #end
        workgroupBarrier();
        #if INTDOT
        // Eight neighbours hold a chunk: they share its largest magnitude, and round by it.
        #for R in 0..ROWS
        let magnitude$R = abs(a$R);
        scratch[$Ru * THREADS + t] = max(max(magnitude$R.x, magnitude$R.y), max(magnitude$R.z, magnitude$R.w));
        #end
        workgroupBarrier();
        let first_of_chunk = t - j;
        #for R in 0..ROWS
        var largest$R = 0.0;
        #for I in 0..8
        largest$R = max(largest$R, scratch[$Ru * THREADS + first_of_chunk + $Iu]);
        #end
        let inverse$R = select(0.0, 127.0 / largest$R, largest$R > 0.0);
        codes[$Ru * TILE + slot] = pack4xI8(vec4<i32>(round(a$R * inverse$R)));
        if (j == 0u) {
            scales[$Ru * LANES + t / 8u] = largest$R / 127.0;
        }
        #end
        #else
        #for R in 0..ROWS
        scratch[$Ru * TILE + slot] = a$R;
        #end
        #end
        workgroupBarrier();

        #for R in 0..ROWS
        #if INTDOT
        var codesum$R = 0i;
        #else
        var xsum$R = vec4<f32>(0.0);
        #end
        #for P in 0..PER
        #if INTDOT
        var dot$R_$P = 0i;
        #else
        var dot$R_$P = vec4<f32>(0.0);
        #end
        #end
        #end
        #for J in 0..8
        {
            #for R in 0..ROWS
            #if INTDOT
            let a$R = codes[$Ru * TILE + $Ju * LANES + (lane ^ $Ju)];
            #if HAS_MIN
            codesum$R += dot4I8Packed(a$R, 0x01010101u);
            #end
            #else
            let a$R = scratch[$Ru * TILE + $Ju * LANES + (lane ^ $Ju)];
            #if HAS_MIN
            xsum$R += a$R;
            #end
            #end
            #end
            #for P in 0..PER
            #if INTDOT
            let v$P = codes$J(w$P);
            #for R in 0..ROWS
            dot$R_$P += dot4I8Packed(v$P, a$R);
            #end
            #else
            let v$P = values$J(w$P);
            #for R in 0..ROWS
            dot$R_$P = fma(v$P, a$R, dot$R_$P);
            #end
            #end
            #end
        }
        #if HALVES == 2 && J == 3
        #for P in 0..PER
        #for R in 0..ROWS
        #if INTDOT
        sum$R_$P = fma(scale0(w$P) * scales[$Ru * LANES + lane], f32(dot$R_$P), sum$R_$P);
        dot$R_$P = 0i;
        #else
        sum$R_$P = fma(scale0(w$P), across(dot$R_$P), sum$R_$P);
        dot$R_$P = vec4<f32>(0.0);
        #end
        #end
        #end
        #end
        #end
        #for P in 0..PER
        #for R in 0..ROWS
        #if INTDOT
        #if HALVES == 2
        sum$R_$P = fma(scale1(w$P) * scales[$Ru * LANES + lane], f32(dot$R_$P), sum$R_$P);
        #else
        sum$R_$P = fma(scale0(w$P) * scales[$Ru * LANES + lane], f32(dot$R_$P), sum$R_$P);
        #end
        #if HAS_MIN
        sum$R_$P = fma(-minimum(w$P) * scales[$Ru * LANES + lane], f32(codesum$R), sum$R_$P);
        #end
        #else
        #if SCALED
        #if HALVES == 2
        sum$R_$P = fma(scale1(w$P), across(dot$R_$P), sum$R_$P);
        #else
        sum$R_$P = fma(scale0(w$P), across(dot$R_$P), sum$R_$P);
        #end
        #if HAS_MIN
        sum$R_$P = fma(-minimum(w$P), across(xsum$R), sum$R_$P);
        #end
        #else
        sum$R_$P += across(dot$R_$P);
        #end
        #end
        #end
        #end
    }

    // Which result is this invocation's.
    let r = t / (8u * half);
    let n = t % (8u * half);
    let mine = r < ROWS;
    var root = 1.0;
    if (PROLOGUE == 1u) {
        workgroupBarrier();
        #for R in 0..ROWS
        put($Ru, t, square$R);
        #end
        workgroupBarrier();
        if (t < ROWS * 16u) {
            var sum = 0.0;
            #for I in 0..8
            sum += held(t / 16u, (t % 16u) * 8u + $Iu);
            #end
            put(t / 16u, (t % 16u) * 8u, sum);
        }
        workgroupBarrier();
        if (mine) {
            var sum = 0.0;
            #for I in 0..16
            sum += held(r, $Iu * 8u);
            #end
            root = inverseSqrt(sum / f32(params.columns) + params.eps);
        }
    }
    workgroupBarrier();
    #if SUBGROUP
    #for R in 0..ROWS
    #for P in 0..PER
    sum$R_$P = shuffled(sum$R_$P);
    #end
    #end
    #end
    #for R in 0..ROWS
    #if INTDOT
    #for P in 0..PER
    scratch[($Ru * PER + $Pu) * THREADS + t] = sum$R_$P;
    #end
    #else
    #if PER == 4
    scratch[$Ru * THREADS + t] = vec4<f32>(sum$R_0, sum$R_1, sum$R_2, sum$R_3);
    #else
    scratch[$Ru * THREADS + t] = vec4<f32>(sum$R_0, sum$R_1, 0.0, 0.0);
    #end
    #end
    #end
    workgroupBarrier();
    if (mine) {
        let v = root * total(r, n % half, n / half);
        var up = 0.0;
        if (gated) {
            up = root * total(r, n % half + half, n / half);
        }
        finish(first + r, block + n, v, up);
    }
}
