//! Wanted paths, compiled to a tree of keys.
//!
//! A key may itself contain dots, so `a.b.c` is looked for in every spelling: `"a.b.c"`, `"a.b"` then `"c"`,
//! `"a"` then `"b.c"`, `"a"` then `"b"` then `"c"`. Each spelling is its own branch of the tree; a row of n
//! keys has 2^(n-1) of them, which is why [`KEYS_MAX`] bounds n. Branches with more keys joined come first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::event::SlotId;

/// Keys in a row between two array steps: 512 spellings. Deeper fields of known formats have 7.
pub(super) const KEYS_MAX: usize = 10;

/// Nodes of the tree: about 200 bytes each, and node numbers are 32 bits. 4096 paths of 4 keys need 61,440.
const NODES_MAX: usize = 1 << 20;

/// Members of one object that lead on; their numbers are the low half of a table's entries, and one is left for a reserved key.
const EDGES_MAX: usize = !TAG as usize - 1;

/// The bits of a table's entry that are the tag.
const TAG: u32 = 0xffff_0000;

/// Index of a [`Node`].
pub(super) type NodeId = u32;

/// No node.
pub(super) const NONE: NodeId = u32::MAX;

/// The root, which stands for the document.
pub(super) const ROOT: NodeId = 0;

/// A place in the documents that some path leads through or to.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Members that lead on; those with most keys joined come first.
    pub(super) edges: Vec<Edge>,
    /// Open-addressed table over `edges`: number of the edge plus 1, and above it the key's tag, so that a key that is not
    /// wanted is seldom compared; its length is a power of two, at least twice the number of edges.
    table: Vec<u32>,
    /// What is below `[]`, or 0.
    pub(super) each: NodeId,
    /// What is below `{key=value}`.
    pub(super) selectors: Vec<Selector>,
    /// Index of the path that ends here, plus 1.
    pub(super) path: u32,
    /// Whether this is a reserved key.
    pub(super) reserved: bool,
    /// Whether any path leads on from here: kept, so that of a leaf nothing but the fields beside it is read.
    pub(super) is_inner: bool,
}

impl Node {
    /// The node below the member `key`, or [`NONE`].
    #[inline(always)]
    pub(super) fn find(&self, key: &[u8]) -> NodeId {
        if self.table.is_empty() {
            return NONE;
        }
        let print = Print::of(key);
        let mask = self.table.len() - 1;
        let (mut at, tag) = print.hash();
        // Ends: the table is at most half full.
        loop {
            let entry = self.table[at & mask];
            if entry == 0 {
                return NONE;
            }
            if entry & TAG == tag
                && let Some(edge) = self.edges.get((entry & !TAG) as usize - 1)
                && edge.print == print
                && (key.len() <= PRINTED || *edge.key == *key)
            {
                return edge.node;
            }
            at += 1;
        }
    }

    fn build(&mut self) {
        self.is_inner = !self.edges.is_empty() || self.each != 0 || !self.selectors.is_empty();
        self.edges.sort_by_key(|edge| std::cmp::Reverse(edge.joined));
        if self.edges.is_empty() {
            return;
        }
        let mask = (self.edges.len() * 2).next_power_of_two() - 1;
        self.table = vec![0; mask + 1];
        for (edge, number) in self.edges.iter().zip(1..) {
            let (mut at, tag) = edge.print.hash();
            while self.table[at & mask] != 0 {
                at += 1;
            }
            self.table[at & mask] = tag | number;
        }
    }
}

/// A member that leads on.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    key: Box<[u8]>,
    print: Print,
    /// Keys of the path that are joined in `key`.
    joined: u32,
    pub(super) node: NodeId,
}

/// Choice of an array's element by the text of one of its members.
#[derive(Clone, Debug)]
pub(super) struct Selector {
    pub(super) key: Box<[u8]>,
    /// ASCII lower-case texts and what is below the element chosen.
    choices: Vec<(Box<[u8]>, NodeId)>,
}

impl Selector {
    /// What is below the element whose member has the text `name`, or [`NONE`].
    pub(super) fn find(&self, name: &[u8]) -> NodeId {
        self.choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(name)).map_or(NONE, |(_, node)| *node)
    }
}

/// What a path fills.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) slot: SlotId,
    /// Others that get the same.
    pub(super) others: Vec<SlotId>,
    /// Whether the path has a `[]`, so that its values are collected.
    pub(super) collects: bool,
    /// Nodes that the path ends at, one a spelling.
    pub(super) leaves: u32,
}

/// The tree and the targets that its leaves name.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) targets: Vec<Target>,
    /// By node: the slot that takes its value, if nothing else depends on the value.
    pub(super) plain: Vec<Option<SlotId>>,
    /// Number of the root among the nodes of all trees, or [`UNNUMBERED`].
    pub(super) base: u32,
}

/// What a tree's nodes have instead of numbers of their own if there were too many trees.
pub(super) const UNNUMBERED: u32 = u32::MAX;

/// The next number of a node; none has 0.
static NODES: AtomicU32 = AtomicU32::new(1);

impl Tree {
    /// The node's number among those of all trees.
    #[inline(always)]
    pub(super) fn everywhere(&self, node: NodeId) -> u32 {
        if self.base == UNNUMBERED { UNNUMBERED } else { self.base + node }
    }

    /// Compiles paths; the error says which path is wrong, and how.
    pub(super) fn new<'p>(paths: impl Iterator<Item = (&'p str, SlotId)>) -> Result<Self, String> {
        let mut tree = Self { nodes: vec![Node::default()], targets: Vec::new(), plain: Vec::new(), base: UNNUMBERED };
        let mut known: HashMap<Vec<Step>, usize> = HashMap::new();
        for (path, slot) in paths {
            let steps = parse(path).map_err(|wrong| format!("path `{path}`: {wrong}"))?;
            if let Some(target) = known.get(&steps) {
                tree.targets[*target].others.push(slot);
                continue;
            }
            let target = tree.targets.len();
            tree.targets.push(Target { slot, others: Vec::new(), collects: steps.contains(&Step::Each), leaves: 0 });
            tree.insert(ROOT, &steps, target);
            if tree.nodes.len() > NODES_MAX {
                return Err(format!("path `{path}`: more than {NODES_MAX} spellings in all"));
            }
            known.insert(steps, target);
        }
        tree.nodes.iter_mut().for_each(Node::build);
        match tree.nodes.iter().find(|node| node.edges.len() > EDGES_MAX) {
            Some(_) => Err("more than 65534 different keys in one object".to_owned()),
            None => Ok(tree.finished()),
        }
    }

    /// Notes what follows from the nodes, which are as they will be.
    fn finished(mut self) -> Self {
        let plain = |node: &Node| {
            let target = self.targets.get((node.path as usize).checked_sub(1)?)?;
            let is_plain = !node.is_inner && !node.reserved && !target.collects && target.others.is_empty();
            is_plain.then_some(target.slot)
        };
        self.plain = self.nodes.iter().map(plain).collect();
        let nodes = self.nodes.len() as u32;
        self.base = NODES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sum| sum.checked_add(nodes)).unwrap_or(UNNUMBERED);
        self
    }

    /// Marks a key below some others.
    pub(super) fn reserve(mut self, keys: &[&str]) -> Self {
        let mut node = ROOT;
        for key in keys {
            let below = self.below(node, key, 1);
            self.nodes[node as usize].build();
            node = below;
        }
        self.nodes[node as usize].reserved = true;
        self.finished()
    }

    fn insert(&mut self, from: NodeId, steps: &[Step], target: usize) {
        match steps.first() {
            None => {
                self.nodes[from as usize].path = target as u32 + 1;
                self.targets[target].leaves += 1;
            }
            Some(Step::Each) => {
                let node = match self.nodes[from as usize].each {
                    0 => self.add(),
                    node => node,
                };
                self.nodes[from as usize].each = node;
                self.insert(node, &steps[1..], target);
            }
            Some(Step::Where { key, value }) => {
                let node = self.chosen(from, key, value);
                self.insert(node, &steps[1..], target);
            }
            Some(Step::Key(first)) => {
                let mut key = first.clone();
                let mut joined = 1;
                loop {
                    let node = self.below(from, &key, joined);
                    self.insert(node, &steps[joined..], target);
                    let Some(Step::Key(next)) = steps.get(joined) else { break };
                    key = format!("{key}.{next}");
                    joined += 1;
                }
            }
        }
    }

    fn add(&mut self) -> NodeId {
        self.nodes.push(Node::default());
        (self.nodes.len() - 1) as NodeId
    }

    fn below(&mut self, from: NodeId, key: &str, joined: usize) -> NodeId {
        if let Some(edge) = self.nodes[from as usize].edges.iter().find(|edge| *edge.key == *key.as_bytes()) {
            return edge.node;
        }
        let node = self.add();
        let edge = Edge { key: key.as_bytes().into(), print: Print::of(key.as_bytes()), joined: joined as u32, node };
        self.nodes[from as usize].edges.push(edge);
        node
    }

    fn chosen(&mut self, from: NodeId, key: &str, value: &str) -> NodeId {
        let selectors = &mut self.nodes[from as usize].selectors;
        let index = match selectors.iter().position(|selector| *selector.key == *key.as_bytes()) {
            Some(index) => index,
            None => {
                selectors.push(Selector { key: key.as_bytes().into(), choices: Vec::new() });
                selectors.len() - 1
            }
        };
        let known = selectors[index].find(value.as_bytes());
        if known != NONE {
            return known;
        }
        let node = self.add();
        self.nodes[from as usize].selectors[index].choices.push((value.as_bytes().into(), node));
        node
    }
}

/// Start, end and length of a key: all of it up to [`PRINTED`] bytes, so that most comparisons need no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Print {
    first: u64,
    last: u64,
    len: u32,
}

/// Longest key that its print holds whole.
const PRINTED: usize = 16;

impl Print {
    #[inline(always)]
    pub(super) fn of(key: &[u8]) -> Self {
        let (first, last) = if let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) {
            (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
        } else if let (Some(first), Some(last)) = (key.first_chunk(), key.last_chunk()) {
            (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)))
        } else {
            let byte = |index: usize| u64::from(key.get(index).copied().unwrap_or(0));
            (byte(0) | byte(1) << 8 | byte(2) << 16, 0)
        };
        Self { first, last, len: key.len() as u32 }
    }

    /// Where to look first, and the tag. Collisions cost a comparison, and only wanted keys are in a table, so a sender
    /// cannot fill it.
    #[inline(always)]
    fn hash(self) -> (usize, u32) {
        (self.place(), self.place() as u32 & TAG)
    }

    /// A number that is nearly its own.
    #[inline(always)]
    pub(super) fn place(self) -> usize {
        ((self.first ^ self.last.rotate_left(23) ^ u64::from(self.len)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Key(String),
    Each,
    /// `value` in ASCII lower case.
    Where {
        key: String,
        value: String,
    },
}

fn parse(path: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut keys = 0;
    let mut rest = path;
    loop {
        let end = rest.find(['.', '[', ']', '{', '}']).unwrap_or(rest.len());
        let (key, behind) = rest.split_at(end);
        if key.is_empty() {
            return Err("a key is empty".to_owned());
        }
        steps.push(Step::Key(key.to_owned()));
        keys += 1;
        if keys > KEYS_MAX {
            return Err(format!("more than {KEYS_MAX} keys in a row"));
        }
        rest = behind;
        while let Some((step, behind)) = parse_array_step(rest)? {
            steps.push(step);
            keys = 0;
            rest = behind;
        }
        if rest.is_empty() {
            return Ok(steps);
        }
        rest = rest.strip_prefix('.').ok_or_else(|| format!("expected `.`, `[]` or `{{key=value}}` at `{rest}`"))?;
    }
}

/// A `[]` or `{key=value}` at the start of `rest`, and what is behind it.
fn parse_array_step(rest: &str) -> Result<Option<(Step, &str)>, String> {
    if let Some(behind) = rest.strip_prefix("[]") {
        return Ok(Some((Step::Each, behind)));
    }
    let Some(inside) = rest.strip_prefix('{') else { return Ok(None) };
    let (choice, behind) = inside.split_once('}').ok_or("`{` without `}`")?;
    let (key, value) = choice.split_once('=').ok_or("`{}` without `=`: write {key=value}")?;
    if key.is_empty() {
        return Err("a key is empty".to_owned());
    }
    Ok(Some((Step::Where { key: key.to_owned(), value: value.to_ascii_lowercase() }, behind)))
}
