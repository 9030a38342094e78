//! The paged KV cache: ids and counts only, no buffers.
//!
//! Layers belong to KV groups (full attention, or a window W); each group has its own pool of pages, block tables and
//! allocator. Backends hold, per layer, a K and a V buffer of f16 laid out `[page][kv head][position in page][head dim]`.

/// Positions in one page.
pub const PAGE_LEN: usize = 16;

/// A page of one KV group's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId(pub u32);

impl PageId {
    /// Stands in a block table where a window group has let a page go.
    pub const NONE: PageId = PageId(u32::MAX);
}

/// What a backend must allocate for one KV group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvGroup {
    /// Layers whose K and V live here, ascending.
    pub layers: Vec<u32>,
    /// Positions a row sees, itself included; `None` is all.
    pub window: Option<u32>,
    /// Key-value heads.
    pub kv_heads: u32,
    /// Width of a key or value head.
    pub head_dim: u32,
    /// Pages in the pool.
    pub pages: u32,
}
