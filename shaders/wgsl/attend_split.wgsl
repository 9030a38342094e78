// Split-K flash decode: the generated class. A workgroup folds SPLIT positions for GROUP query heads of one KV head of one row.
//
// Splits begin at absolute multiples of SPLIT, so a row's arithmetic depends on its position alone. Scores: four lanes share a
// position, its 16-byte words dealt among them. Output: a lane holds 8 elements of the head, lanes / (head_dim / 8) groups
// share the positions, and are summed in order.
#import "shared/attend.wgsl"

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read> qkv: array<f32>; // [rows, qkv_stride]
@group(0) @binding(4) var<storage, read> k_pages: array<vec4<u32>>; // [page][kv head][position][kv_stride / 8]
@group(0) @binding(5) var<storage, read> v_pages: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read_write> partials: array<f32>; // [rows][heads][splits][head_dim + 2]

#import "shared/pages.wgsl"

var<workgroup> q: array<vec4<f32>, GROUP * 64u>;
var<workgroup> scores: array<f32, GROUP * SPLIT>; // [head][position]
var<workgroup> lanes: array<f32, GROUP * 32u>; // [head][lane]: partial maxima, then partial sums
var<workgroup> folded: array<vec4<f32>, 256>; // [invocation][2]
#if !SUBGROUP
var<workgroup> parts: array<f32, GROUP * 128u>; // [head][invocation]
#end

@compute @workgroup_size(128)
fn attend_split(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let about = rows[params.first_row + workgroup.z];
    let first = first_seen(about);
    let end = end_seen(about);
    let split = first / SPLIT + workgroup.y;
    let start = split * SPLIT;
    if (start >= end) {
        return;
    }
    let per_kv = params.heads / params.kv_heads;
    let pieces = (per_kv + GROUP - 1u) / GROUP;
    let kv_head = workgroup.x / pieces;
    let within = (workgroup.x % pieces) * GROUP; // first query head, counted within those of the KV head
    let width = params.kv_stride / 8u;

    for (var i = t; i < GROUP * 64u; i += 128u) {
        let head = within + i / 64u;
        var v = vec4<f32>(0.0);
        if (head < per_kv) {
            let from_column = (params.first_row + workgroup.z) * params.qkv_stride + (kv_head * per_kv + head) * params.head_dim;
            for (var e = 0u; e < 4u; e++) {
                let d = (i % 64u) * 4u + e;
                if (d < params.head_dim) {
                    v[e] = qkv[from_column + d];
                }
            }
        }
        q[i] = v;
    }
    workgroupBarrier();

    for (var step = 0u; step < 4u; step++) {
        let position = start + step * 32u + t / 4u;
        var base = NO_PAGE;
        if (position >= first && position < end) {
            base = page_base(about.sequence, position, kv_head);
        }
        #for G in 0..GROUP
        var s$G = 0.0;
        #end
        if (base != NO_PAGE) {
            for (var i = t % 4u; i < width; i += 4u) {
                let pair = k_pages[base + i];
                let low = halves(pair.xy);
                let high = halves(pair.zw);
                #for G in 0..GROUP
                let a$G = q[$Gu * 64u + 2u * i];
                let b$G = q[$Gu * 64u + 2u * i + 1u];
                s$G = fma(low.w, a$G.w, fma(low.z, a$G.z, fma(low.y, a$G.y, fma(low.x, a$G.x, s$G))));
                s$G = fma(high.w, b$G.w, fma(high.z, b$G.z, fma(high.y, b$G.y, fma(high.x, b$G.x, s$G))));
                #end
            }
        }
        #if SUBGROUP
        #for G in 0..GROUP
        s$G += subgroupShuffleXor(s$G, 1u);
        s$G += subgroupShuffleXor(s$G, 2u);
        #end
        #else
        workgroupBarrier();
        #for G in 0..GROUP
        parts[$Gu * 128u + t] = s$G;
        #end
        workgroupBarrier();
        #for G in 0..GROUP
        {
            let at = $Gu * 128u + (t & 124u);
            s$G = (parts[at] + parts[at + 1u]) + (parts[at + 2u] + parts[at + 3u]);
        }
        #end
        #end
        if (t % 4u == 0u) {
            #for G in 0..GROUP
            scores[$Gu * SPLIT + step * 32u + t / 4u] = select(MASKED, capped(s$G), base != NO_PAGE);
            #end
        }
    }
    workgroupBarrier();

    // Softmax: 32 lanes a head, four positions a lane.
    let head = t / 32u;
    let lane = t % 32u;
    var largest = MASKED;
    if (head < GROUP) {
        let at = head * SPLIT + 4u * lane;
        lanes[t] = max(max(scores[at], scores[at + 1u]), max(scores[at + 2u], scores[at + 3u]));
    }
    workgroupBarrier();
    var weight = vec4<f32>(0.0);
    if (head < GROUP) {
        for (var i = 0u; i < 32u; i++) {
            largest = max(largest, lanes[head * 32u + i]);
        }
        let at = head * SPLIT + 4u * lane;
        let s = vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]);
        weight = select(exp(s - largest), vec4<f32>(0.0), s <= vec4<f32>(MASKED));
        scores[at] = weight.x;
        scores[at + 1u] = weight.y;
        scores[at + 2u] = weight.z;
        scores[at + 3u] = weight.w;
    }
    workgroupBarrier();
    if (head < GROUP) {
        lanes[t] = (weight.x + weight.y) + (weight.z + weight.w);
    }
    workgroupBarrier();
    let room = params.head_dim + 2u;
    if (head < GROUP && lane == 0u && within + head < per_kv) {
        var sum = 0.0;
        for (var i = 0u; i < 32u; i++) {
            sum += lanes[head * 32u + i];
        }
        let at = ((workgroup.z * params.heads + kv_head * per_kv + within + head) * params.splits + workgroup.y) * room;
        partials[at + params.head_dim] = largest;
        partials[at + params.head_dim + 1u] = sum;
    }

    // Lanes of one position: `width` rounded up to a power of two.
    let span = select(1u << (32u - countLeadingZeros(width - 1u)), 1u, width == 1u);
    let word = t % span;
    let groups = 128u / span;
    #for G in 0..GROUP
    var low$G = vec4<f32>(0.0);
    var high$G = vec4<f32>(0.0);
    #end
    if (word < width) {
        for (var i = t / span; i < SPLIT; i += groups) {
            let position = start + i;
            if (position >= first && position < end) {
                let base = page_base(about.sequence, position, kv_head);
                if (base != NO_PAGE) {
                    let pair = v_pages[base + word];
                    let low = halves(pair.xy);
                    let high = halves(pair.zw);
                    #for G in 0..GROUP
                    low$G = fma(vec4<f32>(scores[$Gu * SPLIT + i]), low, low$G);
                    high$G = fma(vec4<f32>(scores[$Gu * SPLIT + i]), high, high$G);
                    #end
                }
            }
        }
    }
    #for G in 0..GROUP
    workgroupBarrier();
    folded[2u * t] = low$G;
    folded[2u * t + 1u] = high$G;
    workgroupBarrier();
    if (t < 2u * width && within + $Gu < per_kv) {
        var sum = vec4<f32>(0.0);
        for (var i = 0u; i < groups; i++) {
            sum += folded[2u * span * i + t];
        }
        let at = ((workgroup.z * params.heads + kv_head * per_kv + within + $Gu) * params.splits + workgroup.y) * room;
        for (var e = 0u; e < 4u; e++) {
            if (4u * t + e < params.head_dim) {
                partials[at + 4u * t + e] = sum[e];
            }
        }
    }
    #end
}
