//! How many pages each group gets.

use super::{KvGroup, PAGE_LEN, pages_for, window_pages};
use crate::error::{Error, ErrorCode, Result};

/// How large the KV cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheSize {
    /// Room for every sequence at full context, but at most [`CacheSize::AUTO_BYTES`], and at most what one binding of
    /// the most modest GPU holds of a layer.
    #[default]
    Auto,
    /// Room for this many positions, over all sequences together, however they are spread.
    Positions(u64),
    /// At most this many bytes, over all layers.
    Bytes(u64),
}

/// The largest storage buffer every WebGPU device can bind.
const BINDING_BYTES: u64 = 128 << 20;

impl CacheSize {
    /// What [`CacheSize::Auto`] never passes: 1 GiB, and 256 MiB where an address has 32 bits.
    pub const AUTO_BYTES: u64 = if cfg!(target_pointer_width = "64") { 1 << 30 } else { 256 << 20 };
}

/// What the cache is sized for, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    /// Positions one sequence may have.
    pub context: u32,
    /// Sequences that run at once.
    pub sequences: u32,
    /// Rows of one step.
    pub step_rows: u32,
}

impl Sizing {
    /// Sets the groups' page counts. Returns the context one sequence can have, alone, with so many pages: that asked for or less.
    ///
    /// All groups are sized for one number of positions; a window group for no more than what its sequences can see. No
    /// room for even one page of positions is an error.
    pub fn apply(&self, groups: &mut [KvGroup], size: CacheSize) -> Result<u32> {
        let wanted = pages_for(u64::from(self.context)) * u64::from(self.sequences);
        let bytes = |blocks: u64| -> u128 { groups.iter().map(|g| u128::from(self.pages(g, blocks)) * u128::from(g.page_bytes())).sum() };
        let within = |limit: u64| largest(wanted, |blocks| bytes(blocks) <= u128::from(limit));
        let blocks = match size {
            // However they are spread: each sequence's last page may hold a single one.
            CacheSize::Positions(positions) => {
                let slack = u64::from(self.sequences.saturating_sub(1)) * (PAGE_LEN as u64 - 1);
                pages_for(positions.saturating_add(slack)).min(positions).min(wanted)
            }
            CacheSize::Bytes(limit) => within(limit),
            CacheSize::Auto => {
                let bound = |blocks| groups.iter().all(|g| self.pages(g, blocks) * g.layer_page_bytes() <= BINDING_BYTES);
                within(CacheSize::AUTO_BYTES).min(largest(wanted, bound))
            }
        };
        if blocks == 0 {
            return Err(Error::new(
                ErrorCode::Memory,
                format!(
                    "a KV cache of {size:?} has no room for a single page of {PAGE_LEN} positions, which takes {} bytes; make it larger",
                    bytes(1)
                ),
            ));
        }
        let mut context = u64::from(self.context);
        for group in groups.iter_mut() {
            let pages = self.pages(group, blocks);
            group.pages = u32::try_from(pages).map_err(|_| {
                Error::new(ErrorCode::Memory, format!("a KV cache of {pages} pages is beyond what can be addressed; make it smaller"))
            })?;
            if group.window.is_none_or(|window| pages < window_pages(window)) {
                context = context.min(pages * PAGE_LEN as u64);
            }
        }
        Ok(context as u32)
    }

    /// A group's pages where every group must hold `blocks` blocks of positions.
    fn pages(&self, group: &KvGroup, blocks: u64) -> u64 {
        match group.window {
            None => blocks,
            Some(window) => {
                let seen = window_pages(window) * u64::from(self.sequences);
                blocks.min(seen + pages_for(u64::from(self.step_rows)))
            }
        }
    }
}

/// The largest number up to `most` for which `holds`, which holds for all smaller ones; 0 where none does.
fn largest(most: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}
