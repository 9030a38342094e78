//! The groups' pools together, and a sequence's tables over them.

use super::{KvGroup, PAGE_LEN, PageId, PagePool, pages_for, window_pages};

/// Which page holds each block of a sequence's positions, in every group.
///
/// Only [`KvCache`] changes it, and it must be given back to [`KvCache::release`]: dropping it leaks its pages.
#[derive(Debug, Default)]
pub struct BlockTables {
    /// `[group][block]`.
    groups: Vec<Table>,
}

/// One group's table.
#[derive(Clone, Debug, Default)]
struct Table {
    pages: Vec<PageId>,
    /// Blocks before this one were let go.
    seen_from: usize,
}

impl BlockTables {
    /// Per group, the page of each block: what [`crate::batch::SequenceView::tables`] wants.
    pub fn to_vecs(&self) -> Vec<Vec<PageId>> {
        self.groups.iter().map(|t| t.pages.clone()).collect()
    }

    /// Per group, the page of each block.
    pub fn iter(&self) -> impl Iterator<Item = &[PageId]> {
        self.groups.iter().map(|t| t.pages.as_slice())
    }
}

/// Every group's pages.
#[derive(Clone, Debug)]
pub struct KvCache {
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    window: Option<u32>,
    pool: PagePool,
}

impl KvCache {
    /// As many free pages as the groups say.
    pub fn new(groups: &[KvGroup]) -> KvCache {
        KvCache { groups: groups.iter().map(|g| Group { window: g.window, pool: PagePool::new(g.pages) }).collect() }
    }

    /// A new sequence's tables: no pages yet.
    pub fn tables(&self) -> BlockTables {
        BlockTables { groups: vec![Table::default(); self.groups.len()] }
    }

    /// Finds pages for rows at `start..start + rows`, given that positions before `start` are written. Returns how many
    /// of the rows have pages now, which is fewer where a pool runs out, and the same number in every group. Asking twice for the
    /// same rows changes nothing.
    pub fn extend(&mut self, tables: &mut BlockTables, start: u32, rows: u32) -> u32 {
        self.release_unseen(tables, start);
        let granted = self.groups.iter().zip(&tables.groups).map(|(group, table)| {
            let pages = table.pages.len() + group.pool.free() as usize;
            (pages * PAGE_LEN).saturating_sub(start as usize)
        });
        let granted = granted.min().unwrap_or(usize::MAX).min(rows as usize);
        let blocks = (start as usize + granted).div_ceil(PAGE_LEN);
        for (group, table) in self.groups.iter_mut().zip(&mut tables.groups) {
            while table.pages.len() < blocks {
                let page = group.pool.allocate().expect("free pages were counted above");
                table.pages.push(page);
            }
        }
        granted as u32
    }

    /// Whether a sequence that holds no pages could have positions `0..length`, computed `step` at a time, out of the pages that are free
    /// now and that `others`, with their tables and lengths, will not need to come as far. True for any length up to the
    /// context when there are no others.
    pub fn has_room<'a>(&self, length: u32, step: u32, others: impl Iterator<Item = (&'a BlockTables, u32)>) -> bool {
        let need = |group: &Group, length: u32| {
            let all = pages_for(length.into());
            let held = group.window.map_or(all, |window| all.min(window_pages(window) + pages_for(step.into())));
            held.min(group.pool.len().into())
        };
        let mut needed: Vec<u64> = self.groups.iter().map(|group| need(group, length)).collect();
        for (tables, length) in others {
            for ((needed, group), table) in needed.iter_mut().zip(&self.groups).zip(&tables.groups) {
                let held = (table.pages.len() - table.seen_from) as u64;
                *needed += need(group, length).saturating_sub(held);
            }
        }
        needed.iter().zip(&self.groups).all(|(&needed, group)| needed <= group.pool.free().into())
    }

    /// Lets go, in window groups, of pages that no row at `next` or later sees.
    pub fn release_unseen(&mut self, tables: &mut BlockTables, next: u32) {
        for (group, table) in self.groups.iter_mut().zip(&mut tables.groups) {
            let Some(window) = group.window else { continue };
            // A row at p sees p − window + 1 ..= p.
            let first_seen = next.saturating_add(1).saturating_sub(window) as usize;
            let blocks = (first_seen / PAGE_LEN).min(table.pages.len());
            for page in table.pages.iter_mut().take(blocks).skip(table.seen_from) {
                group.pool.release(std::mem::replace(page, PageId::NONE));
            }
            table.seen_from = table.seen_from.max(blocks);
        }
    }

    /// Lets go of every page; the tables are as new.
    pub fn release(&mut self, tables: &mut BlockTables) {
        for (group, table) in self.groups.iter_mut().zip(&mut tables.groups) {
            for page in table.pages.drain(..).skip(table.seen_from) {
                group.pool.release(page);
            }
            table.seen_from = 0;
        }
    }

    /// Each group's pool, for counts.
    pub fn pools(&self) -> impl Iterator<Item = &PagePool> {
        self.groups.iter().map(|g| &g.pool)
    }

    /// Pages held, over all groups.
    pub fn used_pages(&self) -> u32 {
        self.pools().map(PagePool::used).sum()
    }

    /// All pages, over all groups.
    pub fn total_pages(&self) -> u32 {
        self.pools().map(PagePool::len).sum()
    }
}
