// What lora_shrink and lora_expand share. `table` holds, for each adapter, `parts` entries of what it does to one linear.
struct Params {
    columns: u32,
    outputs: u32,
    rows: u32,
    first_row: u32,
    x_stride: u32,
    low_stride: u32,
    delta_stride: u32,
    parts: u32,
    ranks: u32,
    gather: u32,
    gather_x: u32,
    eps: f32,
}

struct Entry {
    a: u32,
    b: u32,
    rank: u32,
    first_row: u32,
    rows: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

// The batch row that row `row` of this dispatch's outputs is of.
fn batch_row(row: u32) -> u32 {
    if (params.gather == 1u) {
        return indices[row];
    }
    return row;
}
