// Where a position's head begins in `k_pages` and `v_pages`, in 16-byte words; NO_PAGE where its page has been let go.
fn page_base(sequence: u32, position: u32, kv_head: u32) -> u32 {
    let page = tables[params.table_offset + sequence * params.table_stride + position / PAGE_LEN];
    if (page == NO_PAGE) {
        return NO_PAGE;
    }
    return ((page * params.kv_heads + kv_head) * PAGE_LEN + position % PAGE_LEN) * (params.kv_stride / 8u);
}

fn halves(pair: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(pair.x), unpack2x16float(pair.y));
}
