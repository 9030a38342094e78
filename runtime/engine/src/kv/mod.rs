//! The paged KV cache: ids and counts only, no buffers.
//!
//! Layers belong to KV groups (full attention, or a window W); each group has its own pool of pages, block tables and
//! allocator. Pages that hold the beginning of a text stay known when its sequence ends, until their room is needed.
//! Backends hold, per layer, a K and a V buffer whose values are stored as the group's [`KvFormat`] says.

mod cache;
mod pool;
mod prefix;
mod size;

pub use firecrest_shaders::KvFormat;

pub use cache::{BlockTables, KvCache, Prefix};
pub use pool::PagePool;
pub use size::{CacheSize, Sizing};

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
    /// How keys and values are stored.
    pub format: KvFormat,
    /// Pages in the pool.
    pub pages: u32,
}

impl KvGroup {
    /// Bytes one page takes in one layer's K buffer, and as much again in its V buffer; what pads odd heads aside.
    pub fn layer_page_bytes(&self) -> u64 {
        u64::from(self.kv_heads) * PAGE_LEN as u64 * self.format.head_bytes(self.head_dim)
    }

    /// Bytes one page takes over all layers, K and V.
    pub fn page_bytes(&self) -> u64 {
        self.layer_page_bytes() * 2 * self.layers.len() as u64
    }
}

/// Pages that hold `positions`.
pub const fn pages_for(positions: u64) -> u64 {
    positions.div_ceil(PAGE_LEN as u64)
}

/// Pages with which a window group's sequence can always go on: those that the `window` positions a row sees, its own among them, lie in,
/// wherever page borders fall.
const fn window_pages(window: u32) -> u64 {
    pages_for((window as u64).saturating_sub(1)) + 1
}
