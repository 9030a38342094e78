// The f16 scale of a chunk: two chunks a word, rows padded to a word.
fn chunk_scale(row: u32, chunk: u32, chunks: u32) -> f32 {
    let pair = unpack2x16float(words[params.planes.z * 4u + row * ((chunks + 1u) >> 1u) + (chunk >> 1u)]);
    return select(pair.x, pair.y, (chunk & 1u) == 1u);
}
