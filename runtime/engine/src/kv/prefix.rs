//! Which prefixes the cache knows: a tree of blocks of tokens, one root a namespace and adapter.
//!
//! A node is one page length of tokens behind its parent's, with the numeric class of each, and the pages that hold them. Keys are the tokens
//! themselves, so no two prefixes are ever taken for one another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{PAGE_LEN, PageId};
use crate::backend::AdapterId;

/// A node of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(u32);

/// The tokens of one page, and which of them (bit i: token i) are of the generated class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Block {
    pub(super) tokens: [u32; PAGE_LEN],
    pub(super) generated: u16,
}

/// A namespace, and the adapter that its texts are computed with.
type Root = (Option<AdapterId>, String);

/// What a child hangs on.
#[derive(Clone, Debug)]
enum Stem {
    Root(Root),
    Block(NodeId, Block),
}

/// One block, or a namespace's root.
#[derive(Clone, Debug)]
pub(super) struct Node {
    stem: Stem,
    /// Blocks up to and with this one; a root has none.
    pub(super) depth: u32,
    /// By group; `NONE` where a window group has no page of it (any more).
    pub(super) pages: Vec<PageId>,
    /// When it was last let go of; never above its parent's.
    pub(super) stamp: u64,
    /// Kept before others until then; never after its parent's.
    pub(super) pinned_until: Option<Duration>,
    children: u32,
    /// Block tables that end here.
    holders: u32,
}

/// The tree.
#[derive(Clone, Debug, Default)]
pub(super) struct PrefixTree {
    nodes: Vec<Option<Node>>,
    free: Vec<NodeId>,
    children: BTreeMap<(NodeId, Block), NodeId>,
    roots: BTreeMap<Root, NodeId>,
    /// Every pinned node, the first to be unpinned first.
    pins: BTreeSet<(Duration, NodeId)>,
}

impl PrefixTree {
    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.nodes[id.0 as usize].as_ref().expect("a node that is named exists")
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id.0 as usize].as_mut().expect("a node that is named exists")
    }

    pub(super) fn root(&self, namespace: &str, adapter: Option<AdapterId>) -> Option<NodeId> {
        self.roots.get(&(adapter, namespace.to_owned())).copied()
    }

    pub(super) fn root_or_new(&mut self, namespace: &str, adapter: Option<AdapterId>, groups: usize) -> NodeId {
        if let Some(root) = self.root(namespace, adapter) {
            return root;
        }
        let key = (adapter, namespace.to_owned());
        let root = self.insert(Stem::Root(key.clone()), 0, vec![PageId::NONE; groups], 0);
        self.roots.insert(key, root);
        root
    }

    pub(super) fn child(&self, parent: NodeId, block: &Block) -> Option<NodeId> {
        self.children.get(&(parent, *block)).copied()
    }

    pub(super) fn add_child(&mut self, parent: NodeId, block: Block, pages: Vec<PageId>) -> NodeId {
        let Node { depth, stamp, .. } = *self.node(parent);
        let child = self.insert(Stem::Block(parent, block), depth + 1, pages, stamp);
        self.node_mut(parent).children += 1;
        self.children.insert((parent, block), child);
        child
    }

    fn insert(&mut self, stem: Stem, depth: u32, pages: Vec<PageId>, stamp: u64) -> NodeId {
        let node = Node { stem, depth, pages, stamp, pinned_until: None, children: 0, holders: 0 };
        match self.free.pop() {
            Some(id) => {
                self.nodes[id.0 as usize] = Some(node);
                id
            }
            None => {
                self.nodes.push(Some(node));
                NodeId(self.nodes.len() as u32 - 1)
            }
        }
    }

    /// `None` for a root.
    pub(super) fn parent(&self, id: NodeId) -> Option<NodeId> {
        match self.node(id).stem {
            Stem::Root(_) => None,
            Stem::Block(parent, _) => Some(parent),
        }
    }

    /// A block table's end moves.
    pub(super) fn hold(&mut self, id: NodeId) {
        self.node_mut(id).holders += 1;
    }

    /// Undoes [`PrefixTree::hold`].
    pub(super) fn let_go(&mut self, id: NodeId) {
        self.node_mut(id).holders -= 1;
        self.prune(id);
    }

    /// Removes a node without pages, children and holders, then its parent if that has become such a one.
    pub(super) fn prune(&mut self, id: NodeId) {
        let mut next = Some(id);
        while let Some(id) = next {
            let node = self.node(id);
            if node.children > 0 || node.holders > 0 || node.pages.iter().any(|&page| page != PageId::NONE) {
                return;
            }
            self.set_pin(id, None);
            next = match self.nodes[id.0 as usize].take().map(|node| node.stem) {
                Some(Stem::Block(parent, block)) => {
                    self.children.remove(&(parent, block));
                    self.node_mut(parent).children -= 1;
                    Some(parent)
                }
                Some(Stem::Root(key)) => {
                    self.roots.remove(&key);
                    None
                }
                None => None,
            };
            self.free.push(id);
        }
    }

    /// Pins, pins for longer, or unpins a node.
    pub(super) fn set_pin(&mut self, id: NodeId, until: Option<Duration>) {
        if let Some(pinned) = std::mem::replace(&mut self.node_mut(id).pinned_until, until) {
            self.pins.remove(&(pinned, id));
        }
        self.pins.extend(until.map(|until| (until, id)));
    }

    /// A node whose pin's time is over.
    pub(super) fn expired(&self, now: Duration) -> Option<NodeId> {
        self.pins.first().filter(|(until, _)| *until <= now).map(|&(_, id)| id)
    }

    /// Every node there is.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}
