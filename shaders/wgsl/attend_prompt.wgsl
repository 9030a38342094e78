// Tiled flash prefill: the prompt class. A workgroup computes one query head for up to 32 rows of one sequence.
//
// Keys come in blocks of 32 that begin at absolute multiples of 32. A block that a row does not see leaves its state as it is,
// bit for bit, so a row's arithmetic depends on its own position alone, not on its tile. 128 invocations: 16 pairs of rows × 8
// lanes. Heads are walked in slices of 32 elements.
#import "shared/attend.wgsl"

const_assert HEAD_DIM == 32u * SLICES;
const BLOCK: u32 = 32u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read> tiles: array<vec2<u32>>; // first row, rows
@group(0) @binding(4) var<storage, read> qkv: array<f32>; // [rows, qkv_stride]
@group(0) @binding(5) var<storage, read> k_pages: array<vec4<u32>>; // see shared/pages.wgsl
@group(0) @binding(6) var<storage, read> v_pages: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> att: array<f32>; // [rows, att_stride]

#import "shared/pages.wgsl"

var<workgroup> q_tile: array<vec4<f32>, 256>; // [vec4 of the slice][row]
var<workgroup> kv_tile: array<vec4<f32>, 256>; // K: [vec4 of the slice][key]; V: [key][vec4 of the slice]
var<workgroup> p_tile: array<vec4<f32>, 256>; // [row][lane]: weights of keys lane, lane + 8, lane + 16, lane + 24
var<workgroup> maxima: array<f32, 256>; // [row][lane]

// LANES invocations stage a key's or a value's slice, a 16-byte word each; those past 32 · LANES stage nothing.
#if INT8
#set LANES 2
#else
#set LANES 4
#end

// Slice `slice` of the head at `base`, word t % LANES of it: its elements are zero where there are none.
fn word_of(base: u32, slice: u32, t: u32) -> u32 {
    let word = slice * $LANESu + t % $LANESu;
    return select(NO_PAGE, base + word, base != NO_PAGE && word < params.kv_stride / $VALUESu);
}

@compute @workgroup_size(128)
fn attend_prompt(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let tile = tiles[params.first_row + workgroup.y];
    let head = workgroup.x;
    let kv_head = head / (params.heads / params.kv_heads);
    let pair = t / 8u;
    let lane = t % 8u;
    let top = rows[tile.x];
    let bottom = rows[tile.x + tile.y - 1u];
    let from_block = first_seen(top) / BLOCK;
    let to_block = (end_seen(bottom) + BLOCK - 1u) / BLOCK;

    #for R in 0..2
    let row$R = tile.x + min(2u * pair + $Ru, tile.y - 1u);
    let first$R = first_seen(rows[row$R]);
    let end$R = end_seen(rows[row$R]);
    var largest$R = MASKED;
    var sum$R = 0.0;
    #for S in 0..SLICES
    var out$R_$S = vec4<f32>(0.0);
    #end
    #end

    for (var block = from_block; block < to_block; block++) {
        // The page of key t / LANES: what this invocation stages.
        let staged = block * BLOCK + t / $LANESu;
        var base = NO_PAGE;
        if (t < $LANESu * BLOCK && staged < end_seen(bottom) && staged >= first_seen(top)) {
            base = page_base(top.sequence, staged, kv_head);
        }
        #if INT8
        var k_scale = 0.0;
        var v_scale = 0.0;
        if (base != NO_PAGE) {
            let at = scale_word(base, staged, kv_head);
            k_scale = scale_of(k_pages[at][scale_part(staged)], staged);
            v_scale = scale_of(v_pages[at][scale_part(staged)], staged);
        }
        #end

        #for R in 0..2
        var s$R = vec4<f32>(0.0);
        #end
        for (var slice = 0u; slice * 32u < params.head_dim; slice++) {
            workgroupBarrier();
            for (var i = t; i < 256u; i += 128u) {
                // Row i / 8, vec4 i % 8 of the slice; the xor keeps neighbours out of one bank.
                let row = min(i / 8u, tile.y - 1u);
                let d = slice * 32u + 4u * (i % 8u);
                let at = (tile.x + row) * params.qkv_stride + head * params.head_dim + d;
                var v = vec4<f32>(0.0);
                for (var e = 0u; e < 4u; e++) {
                    if (d + e < params.head_dim) {
                        v[e] = qkv[at + e];
                    }
                }
                q_tile[(i % 8u) * 32u + ((i / 8u) ^ (i % 8u))] = v;
            }
            let word = word_of(base, slice, t);
            var loaded = vec4<u32>(0u);
            if (word != NO_PAGE) {
                loaded = k_pages[word];
            }
            if (t < $LANESu * BLOCK) {
                #for V in 0..QUADS
                #if INT8
                kv_tile[(t % 2u) * 128u + $Vu * 32u + t / 2u] = values$V(loaded) * k_scale;
                #else
                kv_tile[(t % 4u) * 64u + $Vu * 32u + t / 4u] = values$V(loaded);
                #end
                #end
            }
            workgroupBarrier();
            #for J in 0..8
            {
                let k0 = kv_tile[$Ju * 32u + lane];
                let k1 = kv_tile[$Ju * 32u + lane + 8u];
                let k2 = kv_tile[$Ju * 32u + lane + 16u];
                let k3 = kv_tile[$Ju * 32u + lane + 24u];
                #for R in 0..2
                let q$R = q_tile[$Ju * 32u + ((2u * pair + $Ru) ^ $Ju)];
                #for I in 0..4
                s$R[$I] = fma(q$R.w, k$I.w, fma(q$R.z, k$I.z, fma(q$R.y, k$I.y, fma(q$R.x, k$I.x, s$R[$I]))));
                #end
                #end
            }
            #end
        }

        // Scores of keys lane, lane + 8, …, masked; the largest of a row over its eight lanes.
        let keys = vec4<u32>(block * BLOCK + lane) + vec4<u32>(0u, 8u, 16u, 24u);
        #for R in 0..2
        let seen$R = (keys >= vec4<u32>(first$R)) & (keys < vec4<u32>(end$R));
        s$R = select(vec4<f32>(MASKED), vec4<f32>(capped(s$R.x), capped(s$R.y), capped(s$R.z), capped(s$R.w)), seen$R);
        maxima[(2u * pair + $Ru) * 8u + lane] = max(max(s$R.x, s$R.y), max(s$R.z, s$R.w));
        #end
        workgroupBarrier();
        #for R in 0..2
        var next$R = largest$R;
        for (var i = 0u; i < 8u; i++) {
            next$R = max(next$R, maxima[(2u * pair + $Ru) * 8u + i]);
        }
        let shrink$R = exp(largest$R - next$R);
        largest$R = next$R;
        p_tile[(2u * pair + $Ru) * 8u + lane] = select(vec4<f32>(0.0), exp(s$R - next$R), seen$R);
        #end
        workgroupBarrier();
        #for R in 0..2
        var added$R = 0.0;
        for (var i = 0u; i < 8u; i++) {
            let p = p_tile[(2u * pair + $Ru) * 8u + i];
            added$R += (p.x + p.y) + (p.z + p.w);
        }
        sum$R = fma(sum$R, shrink$R, added$R);
        #end

        #for S in 0..SLICES
        {
            workgroupBarrier();
            let word = word_of(base, $Su, t);
            var loaded = vec4<u32>(0u);
            if (word != NO_PAGE) {
                loaded = v_pages[word];
            }
            if (t < $LANESu * BLOCK) {
                #for V in 0..QUADS
                #if INT8
                kv_tile[t * 4u + $Vu] = values$V(loaded) * v_scale;
                #else
                kv_tile[t * 2u + $Vu] = values$V(loaded);
                #end
                #end
            }
            workgroupBarrier();
            #for R in 0..2
            out$R_$S = out$R_$S * shrink$R;
            #end
            for (var i = 0u; i < 8u; i++) {
                let v0 = kv_tile[i * 8u + lane];
                let v1 = kv_tile[(i + 8u) * 8u + lane];
                let v2 = kv_tile[(i + 16u) * 8u + lane];
                let v3 = kv_tile[(i + 24u) * 8u + lane];
                #for R in 0..2
                let p$R = p_tile[(2u * pair + $Ru) * 8u + i];
                out$R_$S = fma(vec4<f32>(p$R.w), v3, fma(vec4<f32>(p$R.z), v2, fma(vec4<f32>(p$R.y), v1, fma(vec4<f32>(p$R.x), v0, out$R_$S))));
                #end
            }
        }
        #end
    }

    #for R in 0..2
    if (2u * pair + $Ru < tile.y) {
        #for S in 0..SLICES
        for (var e = 0u; e < 4u; e++) {
            let d = $Su * 32u + 4u * lane + e;
            if (d < params.head_dim) {
                att[row$R * params.att_stride + head * params.head_dim + d] = out$R_$S[e] / sum$R;
            }
        }
        #end
    }
    #end
}
