// What kernels know of one batch row; twin of params::RowInfo.
struct RowInfo {
    token: u32,
    position: u32,
    sequence: u32,
    segment: u32,
    length: u32,
    adapter: u32,
    pad0: u32,
    pad1: u32,
}

const PAGE_LEN: u32 = 16u;
const NO_PAGE: u32 = 0xffffffffu;
