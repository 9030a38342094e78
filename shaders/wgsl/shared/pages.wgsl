// Where keys and values lie in `k_pages` and `v_pages`, and what a 16-byte word of them holds: VALUES values, QUADS times four.
#if INT8
#set VALUES 16
#set QUADS 4
#set FOLDS 2
#else
#set VALUES 8
#set QUADS 2
#set FOLDS 1
#end

// The first word of a position's head; NO_PAGE where its page has been let go.
fn page_base(sequence: u32, position: u32, kv_head: u32) -> u32 {
    let page = tables[params.table_offset + sequence * params.table_stride + position / PAGE_LEN];
    if (page == NO_PAGE) {
        return NO_PAGE;
    }
    #if INT8
    // Behind the codes of all heads, a page holds their scales: two words a head.
    return page * params.kv_heads * (params.kv_stride + 2u) + (kv_head * PAGE_LEN + position % PAGE_LEN) * (params.kv_stride / 16u);
    #else
    return ((page * params.kv_heads + kv_head) * PAGE_LEN + position % PAGE_LEN) * (params.kv_stride / 8u);
    #end
}

#if INT8
// The word that holds the scale of the head that begins at `base`, and the scale in the component of it that `scale_part` names.
fn scale_word(base: u32, position: u32, kv_head: u32) -> u32 {
    let slot = position % PAGE_LEN;
    let from_page = (kv_head * PAGE_LEN + slot) * (params.kv_stride / 16u);
    return base - from_page + params.kv_heads * params.kv_stride + 2u * kv_head + slot / 8u;
}

fn scale_part(position: u32) -> u32 {
    return (position % 8u) / 2u;
}

fn scale_of(pair: u32, position: u32) -> f32 {
    let scales = unpack2x16float(pair);
    return select(scales.x, scales.y, position % 2u == 1u);
}

#for V in 0..4
fn values$V(word: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(word[$V]));
}
#end
#else
fn values0(word: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y));
}

fn values1(word: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(word.z), unpack2x16float(word.w));
}
#end
