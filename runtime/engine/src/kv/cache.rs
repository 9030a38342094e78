//! The groups' pools together, a sequence's tables over them, and the prefixes that stay when their sequences are gone.
//!
//! A page is held by the tables it stands in and by the prefix it belongs to. Pages that only a prefix holds are *idle*: they count as
//! available, and the longest unused are given up when a pool runs out, pinned ones last.

use std::collections::BTreeSet;
use std::time::Duration;

use super::prefix::{Block, NodeId, PrefixTree};
use super::{KvGroup, PAGE_LEN, PageId, PagePool, pages_for, window_pages};
use crate::backend::AdapterId;
use crate::batch::Class;

/// Which page holds each block of a sequence's positions, in every group.
///
/// Only [`KvCache`] changes it, and it must be given back to [`KvCache::release`]: dropping it leaks its pages.
#[derive(Debug, Default)]
pub struct BlockTables {
    /// `[group][block]`.
    groups: Vec<Table>,
    /// Blocks that are prefixes of the cache, and the last of them.
    known: usize,
    tail: Option<NodeId>,
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

/// A text by its tokens, and how its positions are computed: what a prefix is known by.
#[derive(Clone, Copy, Debug)]
pub struct Prefix<'a> {
    /// Only requests of one namespace share prefixes.
    pub namespace: &'a str,
    /// The LoRA adapter that computes them: it changes every key and value, so nothing is shared across adapters.
    pub adapter: Option<AdapterId>,
    /// From the first.
    pub tokens: &'a [u32],
    /// Positions from this one on are of the generated class; `u32::MAX` where the backend has one class.
    pub generated_from: u32,
}

impl Prefix<'_> {
    fn class(&self, position: usize) -> Class {
        if position < self.generated_from as usize { Class::Prompt } else { Class::Generated }
    }

    fn block(&self, index: usize) -> Option<Block> {
        let start = index * PAGE_LEN;
        let tokens = self.tokens.get(start..start + PAGE_LEN)?.try_into().ok()?;
        let generated = (0..PAGE_LEN).filter(|i| self.class(start + i) == Class::Generated).fold(0, |bits, i| bits | 1 << i);
        Some(Block { tokens, generated })
    }
}

/// Every group's pages.
#[derive(Clone, Debug)]
pub struct KvCache {
    groups: Vec<Group>,
    prefixes: PrefixTree,
    /// Rises whenever a sequence lets go of a prefix.
    stamp: u64,
}

#[derive(Clone, Debug)]
struct Group {
    window: Option<u32>,
    pool: PagePool,
    /// By page, the prefix that holds it.
    owner: Vec<Option<NodeId>>,
    /// Pages that only a prefix holds, the first to give up first.
    idle: BTreeSet<IdleKey>,
}

/// Unpinned before pinned, long unused before used, then by depth: a full group gives up the end of a prefix first, because what
/// follows a missing block is of no use; a window group its beginning, because a row sees the end.
type IdleKey = (bool, u64, u32, NodeId);

impl Group {
    /// The first block that a row at `next` sees: it sees `next − window + 1 ..= next`.
    fn first_seen(&self, next: usize) -> usize {
        self.window.map_or(0, |window| (next + 1).saturating_sub(window as usize) / PAGE_LEN)
    }

    fn available(&self) -> u32 {
        self.pool.free() + self.idle.len() as u32
    }

    fn idle_key(&self, prefixes: &PrefixTree, id: NodeId) -> IdleKey {
        let node = prefixes.node(id);
        let depth = if self.window.is_some() { node.depth } else { u32::MAX - node.depth };
        (node.pinned_until.is_some(), node.stamp, depth, id)
    }

    /// One more table holds a page.
    fn retain(&mut self, prefixes: &PrefixTree, page: PageId) {
        if let Some(id) = self.owner[page.0 as usize].filter(|_| self.pool.references(page) == 1) {
            self.idle.remove(&self.idle_key(prefixes, id));
        }
        self.pool.retain(page);
    }

    /// One table less holds a page.
    fn release(&mut self, prefixes: &PrefixTree, page: PageId) {
        self.pool.release(page);
        if let Some(id) = self.owner[page.0 as usize].filter(|_| self.pool.references(page) == 1) {
            self.idle.insert(self.idle_key(prefixes, id));
        }
    }

    /// A page that a table holds becomes a prefix's as well.
    fn give_to(&mut self, id: NodeId, page: PageId) {
        self.pool.retain(page);
        self.owner[page.0 as usize] = Some(id);
    }
}

impl KvCache {
    /// As many free pages as the groups say.
    pub fn new(groups: &[KvGroup]) -> KvCache {
        let group = |g: &KvGroup| Group {
            window: g.window,
            pool: PagePool::new(g.pages),
            owner: vec![None; g.pages as usize],
            idle: BTreeSet::new(),
        };
        KvCache { groups: groups.iter().map(group).collect(), prefixes: PrefixTree::default(), stamp: 0 }
    }

    /// A new sequence's tables: no pages yet.
    pub fn tables(&self) -> BlockTables {
        BlockTables { groups: vec![Table::default(); self.groups.len()], known: 0, tail: None }
    }

    /// How many of a text's first `most` positions the cache has, in every group all that a row behind them sees. A multiple of [`PAGE_LEN`].
    pub fn known(&self, prefix: &Prefix<'_>, most: u32) -> u32 {
        (self.find(prefix, most).len() * PAGE_LEN) as u32
    }

    /// The nodes of the longest such prefix.
    fn find(&self, prefix: &Prefix<'_>, most: u32) -> Vec<NodeId> {
        let mut path = Vec::new();
        let Some(mut at) = self.prefixes.root(prefix.namespace, prefix.adapter) else { return path };
        while path.len() < most as usize / PAGE_LEN {
            let Some(next) = prefix.block(path.len()).and_then(|block| self.prefixes.child(at, &block)) else { break };
            path.push(next);
            at = next;
        }
        let has = |blocks: std::ops::Range<usize>, group: usize| {
            path[blocks].iter().all(|&id| self.prefixes.node(id).pages[group] != PageId::NONE)
        };
        let whole =
            |&blocks: &usize| (0..self.groups.len()).all(|group| has(self.groups[group].first_seen(blocks * PAGE_LEN)..blocks, group));
        let blocks = (1..=path.len()).rev().find(whole).unwrap_or(0);
        path.truncate(blocks);
        path
    }

    /// Puts the longest known prefix of at most `most` positions into tables that have no pages yet. How many positions it has.
    pub fn attach(&mut self, tables: &mut BlockTables, prefix: &Prefix<'_>, most: u32) -> u32 {
        assert!(tables.tail.is_none() && tables.groups.iter().all(|t| t.pages.is_empty()), "a prefix is attached to empty tables");
        let path = self.find(prefix, most);
        let Some(&tail) = path.last() else { return 0 };
        for (index, (group, table)) in self.groups.iter_mut().zip(&mut tables.groups).enumerate() {
            table.seen_from = group.first_seen(path.len() * PAGE_LEN);
            table.pages = vec![PageId::NONE; table.seen_from];
            for &id in &path[table.seen_from..] {
                let page = self.prefixes.node(id).pages[index];
                group.retain(&self.prefixes, page);
                table.pages.push(page);
            }
        }
        self.prefixes.hold(tail);
        tables.tail = Some(tail);
        tables.known = path.len();
        (path.len() * PAGE_LEN) as u32
    }

    /// Makes the blocks of a sequence's first `computed` positions known, and returns how many positions were not known before. Where another
    /// sequence was first with a block, its pages take the place of this one's, which hold the same.
    pub fn publish(&mut self, tables: &mut BlockTables, prefix: &Prefix<'_>, computed: u32) -> u32 {
        let mut new = 0;
        while tables.known < computed as usize / PAGE_LEN {
            let Some(block) = prefix.block(tables.known) else { break };
            let parent = match tables.tail {
                Some(tail) => tail,
                None => {
                    let root = self.prefixes.root_or_new(prefix.namespace, prefix.adapter, self.groups.len());
                    self.prefixes.hold(root);
                    root
                }
            };
            let id = match self.prefixes.child(parent, &block) {
                Some(id) => {
                    self.merge(tables, id);
                    id
                }
                None => {
                    let pages: Vec<PageId> = tables.groups.iter().map(|t| t.pages[tables.known]).collect();
                    let id = self.prefixes.add_child(parent, block, pages.clone());
                    for (group, page) in self.groups.iter_mut().zip(pages).filter(|(_, page)| *page != PageId::NONE) {
                        group.give_to(id, page);
                    }
                    new += PAGE_LEN as u32;
                    id
                }
            };
            self.prefixes.hold(id);
            self.prefixes.let_go(parent);
            tables.tail = Some(id);
            tables.known += 1;
        }
        new
    }

    /// A table's next block is known already: its pages go where the prefix has none, and make room for the prefix's where it has.
    fn merge(&mut self, tables: &mut BlockTables, id: NodeId) {
        for (index, (group, table)) in self.groups.iter_mut().zip(&mut tables.groups).enumerate() {
            let ours = table.pages[tables.known];
            let theirs = self.prefixes.node(id).pages[index];
            if ours == PageId::NONE || ours == theirs {
                continue;
            }
            if theirs == PageId::NONE {
                self.prefixes.node_mut(id).pages[index] = ours;
                group.give_to(id, ours);
            } else {
                group.retain(&self.prefixes, theirs);
                group.release(&self.prefixes, ours);
                table.pages[tables.known] = theirs;
            }
        }
    }

    /// Keeps the known blocks among a sequence's first `positions` before others, until `until` or longer where they are pinned for longer.
    pub fn pin(&mut self, tables: &BlockTables, positions: u32, until: Duration) {
        let mut next = tables.tail;
        while let Some(id) = next {
            next = self.prefixes.parent(id);
            let node = self.prefixes.node(id);
            if node.depth as usize > positions as usize / PAGE_LEN || next.is_none() {
                continue;
            }
            let longer = node.pinned_until.is_none_or(|pinned| pinned < until);
            if !longer {
                // Those before it are pinned for as long at least.
                break;
            }
            self.reorder(id, |prefixes| prefixes.set_pin(id, Some(until)));
        }
    }

    /// Ends pins whose time is over.
    pub fn expire(&mut self, now: Duration) {
        while let Some(id) = self.prefixes.expired(now) {
            self.reorder(id, |prefixes| prefixes.set_pin(id, None));
        }
    }

    /// Changes what a node's place among the idle depends on.
    fn reorder(&mut self, id: NodeId, change: impl FnOnce(&mut PrefixTree)) {
        let idle: Vec<bool> = self.groups.iter_mut().map(|group| group.idle.remove(&group.idle_key(&self.prefixes, id))).collect();
        change(&mut self.prefixes);
        for (group, idle) in self.groups.iter_mut().zip(idle) {
            if idle {
                group.idle.insert(group.idle_key(&self.prefixes, id));
            }
        }
    }

    /// Takes the page that is to be given up first from its prefix. There is one: `available` said so.
    fn evict(&mut self, group: usize) {
        let Some(&(_, _, _, id)) = self.groups[group].idle.first() else { return };
        // A full group's page is the last of its prefix, and nothing holds the block's other pages either.
        let every = self.groups[group].window.is_none();
        for (index, group) in self.groups.iter_mut().enumerate().filter(|(index, _)| every || *index == group) {
            let page = self.prefixes.node(id).pages[index];
            if page == PageId::NONE {
                continue;
            }
            let was_idle = group.idle.remove(&group.idle_key(&self.prefixes, id));
            assert!(was_idle, "page {} is given up while a sequence holds it", page.0);
            group.owner[page.0 as usize] = None;
            group.pool.release(page);
            self.prefixes.node_mut(id).pages[index] = PageId::NONE;
        }
        self.prefixes.prune(id);
    }

    /// Finds pages for rows at `start..start + rows`, given that positions before `start` are written. Returns how many
    /// of the rows have pages now, which is fewer where a pool runs out, and the same number in every group. Asking twice for the
    /// same rows changes nothing.
    pub fn extend(&mut self, tables: &mut BlockTables, start: u32, rows: u32) -> u32 {
        self.release_unseen(tables, start);
        let granted = self.groups.iter().zip(&tables.groups).map(|(group, table)| {
            let pages = table.pages.len() + group.available() as usize;
            (pages * PAGE_LEN).saturating_sub(start as usize)
        });
        let granted = granted.min().unwrap_or(usize::MAX).min(rows as usize);
        let blocks = (start as usize + granted).div_ceil(PAGE_LEN);
        for (index, table) in tables.groups.iter_mut().enumerate() {
            while table.pages.len() < blocks {
                if self.groups[index].pool.free() == 0 {
                    self.evict(index);
                }
                let page = self.groups[index].pool.allocate().expect("available pages were counted above");
                table.pages.push(page);
            }
        }
        granted as u32
    }

    /// Whether a sequence that holds no pages could have positions `0..length`, computed `step` at a time, out of the pages that are available
    /// now, or would be if those of `gone` were, and that `others`, with their tables and lengths, will not need to come as far. True for any length up to
    /// the context when there are no others. Pages that `gone` share with each other or with others count as if they were their own.
    pub fn has_room<'a>(
        &self,
        length: u32,
        step: u32,
        others: impl Iterator<Item = (&'a BlockTables, u32)>,
        gone: impl Iterator<Item = &'a BlockTables>,
    ) -> bool {
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
        let mut available: Vec<u64> = self.groups.iter().map(|group| group.available().into()).collect();
        for tables in gone {
            for (available, table) in available.iter_mut().zip(&tables.groups) {
                *available += (table.pages.len() - table.seen_from) as u64;
            }
        }
        needed.iter().zip(available).all(|(&needed, available)| needed <= available)
    }

    /// Lets go, in window groups, of pages that no row at `next` or later sees.
    pub fn release_unseen(&mut self, tables: &mut BlockTables, next: u32) {
        for (group, table) in self.groups.iter_mut().zip(&mut tables.groups) {
            let blocks = group.first_seen(next as usize).min(table.pages.len());
            for page in table.pages.iter_mut().take(blocks).skip(table.seen_from) {
                group.release(&self.prefixes, std::mem::replace(page, PageId::NONE));
            }
            table.seen_from = table.seen_from.max(blocks);
        }
    }

    /// Lets go of every page; the tables are as new.
    pub fn release(&mut self, tables: &mut BlockTables) {
        self.stamp += 1;
        let mut next = tables.tail;
        while let Some(id) = next {
            let stamp = self.stamp;
            self.reorder(id, |prefixes| prefixes.node_mut(id).stamp = stamp);
            next = self.prefixes.parent(id);
        }
        for (group, table) in self.groups.iter_mut().zip(&mut tables.groups) {
            for page in table.pages.drain(..).skip(table.seen_from) {
                group.release(&self.prefixes, page);
            }
            table.seen_from = 0;
        }
        tables.known = 0;
        if let Some(tail) = tables.tail.take() {
            self.prefixes.let_go(tail);
        }
    }

    /// Gives up every prefix that no sequence holds.
    pub fn forget(&mut self) {
        for group in 0..self.groups.len() {
            while !self.groups[group].idle.is_empty() {
                self.evict(group);
            }
        }
    }

    /// Each group's pool, for counts.
    pub fn pools(&self) -> impl Iterator<Item = &PagePool> {
        self.groups.iter().map(|g| &g.pool)
    }

    /// Pages that sequences hold, over all groups.
    pub fn used_pages(&self) -> u32 {
        self.groups.iter().map(|g| g.pool.used() - g.idle.len() as u32).sum()
    }

    /// Pages that only known prefixes hold, over all groups: available to whoever needs them.
    pub fn idle_pages(&self) -> u32 {
        self.groups.iter().map(|g| g.idle.len() as u32).sum()
    }

    /// All pages, over all groups.
    pub fn total_pages(&self) -> u32 {
        self.pools().map(PagePool::len).sum()
    }

    /// Blocks and namespaces that are known, for tests that look for leaks.
    pub fn prefix_nodes(&self) -> usize {
        self.prefixes.len()
    }
}

#[cfg(test)]
mod tests;
