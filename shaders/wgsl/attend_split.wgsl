// Split-K flash decode: the generated class. A workgroup folds SPLIT positions for GROUP query heads of one KV head of one row.
//
// Splits begin at absolute multiples of SPLIT, so a row's arithmetic depends on its position alone. Scores: four lanes share a
// position, its 16-byte words dealt among them. Output: a lane holds a word's elements of the head, lanes / words of a head groups
// share the positions, and are summed in order. 8-bit codes are summed as they are: a score is multiplied by its position's
// scale when it is whole, a weight by its value's before it is spread.
#import "shared/attend.wgsl"

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read> qkv: array<f32>; // [rows, qkv_stride]
@group(0) @binding(4) var<storage, read> k_pages: array<vec4<u32>>; // see shared/pages.wgsl
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
    let width = params.kv_stride / $VALUESu;

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
                let word = k_pages[base + i];
                #for V in 0..QUADS
                let k$V = values$V(word);
                #for G in 0..GROUP
                let q$G_$V = q[$Gu * 64u + $QUADSu * i + $Vu];
                s$G = fma(k$V.w, q$G_$V.w, fma(k$V.z, q$G_$V.z, fma(k$V.y, q$G_$V.y, fma(k$V.x, q$G_$V.x, s$G))));
                #end
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
            #if INT8
            var scale = 0.0;
            if (base != NO_PAGE) {
                scale = scale_of(k_pages[scale_word(base, position, kv_head)][scale_part(position)], position);
            }
            #for G in 0..GROUP
            s$G *= scale;
            #end
            #end
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
    #for V in 0..QUADS
    var out$G_$V = vec4<f32>(0.0);
    #end
    #end
    if (word < width) {
        for (var i = t / span; i < SPLIT; i += groups) {
            let position = start + i;
            if (position >= first && position < end) {
                let base = page_base(about.sequence, position, kv_head);
                if (base != NO_PAGE) {
                    let loaded = v_pages[base + word];
                    #for V in 0..QUADS
                    let v$V = values$V(loaded);
                    #end
                    #if INT8
                    let scale = scale_of(v_pages[scale_word(base, position, kv_head)][scale_part(position)], position);
                    #end
                    #for G in 0..GROUP
                    #if INT8
                    let weight$G = vec4<f32>(scores[$Gu * SPLIT + i] * scale);
                    #else
                    let weight$G = vec4<f32>(scores[$Gu * SPLIT + i]);
                    #end
                    #for V in 0..QUADS
                    out$G_$V = fma(weight$G, v$V, out$G_$V);
                    #end
                    #end
                }
            }
        }
    }
    // Two quads of each lane at a time, so that 16 KiB hold them.
    #for G in 0..GROUP
    #for H in 0..FOLDS
    workgroupBarrier();
    #if H == 0
    folded[2u * t] = out$G_0;
    folded[2u * t + 1u] = out$G_1;
    #else
    folded[2u * t] = out$G_2;
    folded[2u * t + 1u] = out$G_3;
    #end
    workgroupBarrier();
    if (t < 2u * width && within + $Gu < per_kv) {
        var sum = vec4<f32>(0.0);
        for (var i = 0u; i < groups; i++) {
            sum += folded[2u * span * i + t];
        }
        let first_element = 4u * ($QUADSu * (t / 2u) + 2u * $Hu + t % 2u);
        let at = ((workgroup.z * params.heads + kv_head * per_kv + within + $Gu) * params.splits + workgroup.y) * room;
        for (var e = 0u; e < 4u; e++) {
            if (first_element + e < params.head_dim) {
                partials[at + first_element + e] = sum[e];
            }
        }
    }
    #end
    #end
}
