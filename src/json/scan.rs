//! The pass over a document that fills slots.
//!
//! Wanted objects are walked key by key along the tree of paths, everything else is skipped, all of it
//! checked. One thing the pass cannot decide as it goes: two candidates for one slot (an object that comes
//! twice, a path in two spellings). It then says so, and `resolve` looks again.

use super::order::{Order, Place};
use super::paths::{NONE, Node, NodeId, ROOT, Tree};
use super::simd::Word;
use super::strings::unescape;
use super::text::{Inside, Read, Stop, Text};
use crate::event::{Kind, Row, Slot, SlotId};
use crate::limits::CHUNK_BYTES_MAX;

/// Values that are collected of one document, so that an array of a million elements does not hold the
/// thread; as many as are given of one array.
const COLLECTED_MAX: usize = super::elements::ELEMENTS_MAX;

/// Rounds that may have been before a document begins: those that are left are more than a document has elements.
pub(super) const ROUNDS_MAX: u32 = u32::MAX / 2;

/// A value for a path that crosses an array.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    path: u32,
    /// The value as written, quotes included.
    start: u32,
    end: u32,
}

/// Memory of one thread that is used again for every document.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) marks: Vec<Word>,
    pub(super) found: Vec<Found>,
    /// The two of [`Scan`], and the last round of the last document: what is older counts for nothing, so that neither is
    /// cleared for each document.
    visited: Vec<u32>,
    filled: Vec<(NodeId, u32)>,
    pub(super) rounds: u32,
    order: Box<Order>,
    pub(super) key: Vec<u8>,
}

/// Where values go: slots of the row, at once or collected.
#[derive(Debug)]
pub(super) struct Output<'s, 'r, 'c> {
    pub(super) tree: &'s Tree,
    pub(super) row: &'s mut Row<'r>,
    /// Where the document starts in the chunk's buffer.
    pub(super) base: usize,
    pub(super) found: &'c mut Vec<Found>,
}

impl Output<'_, '_, '_> {
    /// Takes the value from `start` to `end` for a path.
    #[inline(always)]
    pub(super) fn put(&mut self, path: usize, kind: Kind, start: usize, end: usize) -> Result<(), Stop> {
        let Some(target) = self.tree.targets.get(path) else { return Ok(()) };
        if target.collects {
            if self.found.len() >= COLLECTED_MAX {
                return Err(Stop::Many);
            }
            self.found.push(Found { path: path as u32, start: start as u32, end: end as u32 });
            return Ok(());
        }
        let quotes = usize::from(matches!(kind, Kind::Text | Kind::Escaped));
        let slot = Slot::new(kind, self.base + start + quotes, end - start - 2 * quotes);
        self.row.set(target.slot, slot);
        for id in &target.others {
            self.row.set(*id, slot);
        }
        Ok(())
    }

    /// Forgets everything put so far.
    pub(super) fn clear(&mut self) {
        self.found.clear();
        for target in &self.tree.targets {
            std::iter::once(&target.slot).chain(&target.others).for_each(|slot| self.row.set(*slot, Slot::MISSING));
        }
    }

    /// Writes what was collected to the arena, one JSON array a path.
    pub(super) fn flush(&mut self, document: &[u8]) -> Result<(), Stop> {
        // By path, and within a path in the order of the document.
        self.found.sort_unstable_by_key(|found| (found.path, found.start));
        let mut fits = true;
        for values in self.found.chunk_by(|a, b| a.path == b.path) {
            let Some(target) = values.first().and_then(|found| self.tree.targets.get(found.path as usize)) else { continue };
            let bytes = values.iter().map(|found| (found.end - found.start) as usize + 1).sum::<usize>() + 1;
            let mut written = true;
            self.row.set_written(target.slot, Kind::Array, |arena| {
                // The offset of a slot must stay below the limit.
                written = arena.len() + bytes <= CHUNK_BYTES_MAX;
                if written {
                    write_array(document, values, arena);
                }
            });
            if !written {
                self.row.set(target.slot, Slot::MISSING);
                fits = false;
            }
            for slot in &target.others {
                self.row.set(*slot, self.row.slot(target.slot));
            }
        }
        self.found.clear();
        if fits { Ok(()) } else { Err(Stop::Many) }
    }
}

fn write_array(document: &[u8], values: &[Found], arena: &mut Vec<u8>) {
    for (index, found) in values.iter().enumerate() {
        arena.push(if index == 0 { b'[' } else { b',' });
        arena.extend_from_slice(document.get(found.start as usize..found.end as usize).unwrap_or_default());
    }
    arena.push(b']');
}

/// The pass. Positions count from the start of the document.
#[derive(Debug)]
pub(super) struct Scan<'s, 'd, 'r, 'c> {
    text: &'s Text<'d>,
    out: Output<'s, 'r, 'c>,
    /// For each node: the round in which it was visited last.
    visited: &'c mut [u32],
    /// For each path that collects: the leaf that filled it last, and in which round.
    filled: &'c mut [(NodeId, u32)],
    order: &'c mut Order,
    key: &'c mut Vec<u8>,
    /// Number of the array element that values are collected from; outside of arrays that of the document. Each element
    /// has its own, so that a key that comes again in the next element is no repetition.
    round: u32,
    first_round: u32,
    rounds: &'c mut u32,
    /// Whether the reserved key occurs.
    pub(super) reserved: bool,
}

impl<'s, 'd, 'r, 'c> Scan<'s, 'd, 'r, 'c> {
    /// A pass over the document of `text`, which starts at `base` of the row's buffer.
    pub(super) fn new(text: &'s Text<'d>, tree: &'s Tree, row: &'s mut Row<'r>, base: usize, scratch: &'c mut Scratch) -> Self {
        let Scratch { found, visited, filled, rounds, order, key, .. } = scratch;
        if *rounds > ROUNDS_MAX {
            visited.clear();
            filled.clear();
            *rounds = 0;
        }
        if visited.len() < tree.nodes.len() {
            visited.resize(tree.nodes.len(), 0);
        }
        if filled.len() < tree.targets.len() {
            filled.resize(tree.targets.len(), (NONE, 0));
        }
        *rounds += 1;
        found.clear();
        let out = Output { tree, row, base, found };
        Self { text, out, visited, filled, order, key, round: *rounds, first_round: *rounds, rounds, reserved: false }
    }

    /// Reads the object at `open` and fills what is wanted. What stands before a break is filled.
    pub(super) fn run(mut self, open: usize) -> (Read, Output<'s, 'r, 'c>, bool) {
        let end = self.object(open, ROOT, 0);
        (end, self.out, self.reserved)
    }

    #[inline(always)]
    fn node(&self, id: NodeId) -> &'s Node {
        &self.out.tree.nodes[id as usize]
    }

    fn object(&mut self, open: usize, id: NodeId, depth: usize) -> Read {
        let text = self.text;
        let owner = self.out.tree.everywhere(id);
        let mut place = Order::start(owner);
        text.each_key(open, depth, |start| {
            let (child, at) = match self.order.expected(&mut place, owner, text, start) {
                Some((child, behind)) => (child, text.space(behind)),
                None => self.find(&mut place, id, start)?,
            };
            match self.out.tree.plain.get(child as usize) {
                None => text.value(at, depth + 1),
                Some(Some(slot)) if self.out.row.slot(*slot) == Slot::MISSING => self.plain(at, *slot, depth + 1),
                Some(_) => self.wanted(at, child, depth + 1),
            }
        })
    }

    /// Reads a value for one slot, which has none.
    #[inline(always)]
    fn plain(&mut self, at: usize, slot: SlotId, depth: usize) -> Read {
        let (kind, start, end, behind) = match self.text.byte(at) {
            b'"' => {
                let string = self.text.string(at)?;
                (if string.escaped { Kind::Escaped } else { Kind::Text }, string.start, string.end, string.end + 1)
            }
            byte => {
                let (kind, end) = match byte {
                    b'{' => (Kind::Object, self.text.value(at, depth)?),
                    b'[' => (Kind::Array, self.text.value(at, depth)?),
                    _ => (scalar_kind(byte), self.text.scalar(at)?),
                };
                (kind, at, end, end)
            }
        };
        self.out.row.set(slot, Slot::new(kind, self.out.base + start, end - start));
        Ok(behind)
    }

    /// Looks up the key at `start`, which is not the one that was expected: what it leads to, and the position of its value.
    #[inline(never)]
    fn find(&mut self, place: &mut Place, id: NodeId, start: usize) -> Result<(NodeId, usize), Stop> {
        let node = self.node(id);
        let (key, at) = self.text.key(start)?;
        let child = if key.escaped { self.find_escaped(node, key) } else { node.find(self.text.inside(key)) };
        self.order.note(place, self.out.tree.everywhere(id), self.text, key, child);
        Ok((child, at))
    }

    fn find_escaped(&mut self, node: &Node, key: Inside) -> NodeId {
        self.key.clear();
        unescape(self.text.inside(key), self.key);
        node.find(self.key)
    }

    /// Reads the value of a wanted key.
    fn wanted(&mut self, at: usize, id: NodeId, depth: usize) -> Read {
        let node = self.node(id);
        if node.is_inner {
            self.visit(id)?;
        }
        self.reserved |= node.reserved;
        self.wanted_value(at, id, depth)
    }

    fn wanted_value(&mut self, at: usize, id: NodeId, depth: usize) -> Read {
        let node = self.node(id);
        let (kind, end) = match self.text.byte(at) {
            b'"' => {
                let string = self.text.string(at)?;
                (if string.escaped { Kind::Escaped } else { Kind::Text }, string.end + 1)
            }
            b'{' if !node.edges.is_empty() => (Kind::Object, self.object(at, id, depth)?),
            b'{' => (Kind::Object, self.text.value(at, depth)?),
            b'[' if node.each != 0 || !node.selectors.is_empty() => (Kind::Array, self.array(at, node, depth)?),
            b'[' => (Kind::Array, self.text.value(at, depth)?),
            byte => (scalar_kind(byte), self.text.scalar(at)?),
        };
        if node.path > 0 {
            self.fill(node.path as usize - 1, id, kind, at, end)?;
        }
        Ok(end)
    }

    fn array(&mut self, open: usize, node: &'s Node, depth: usize) -> Read {
        let text = self.text;
        text.each_element(open, depth, |at| {
            let mut end = None;
            if node.each != 0 {
                let outer = self.round;
                *self.rounds += 1;
                self.round = *self.rounds;
                end = Some(self.wanted(at, node.each, depth + 1)?);
                self.round = outer;
            }
            for selector in &node.selectors {
                let (behind, name) = self.name_of(at, &selector.key, depth + 1)?;
                end = Some(behind);
                let Some(name) = name else { continue };
                let child = if name.escaped {
                    self.key.clear();
                    unescape(text.inside(name), self.key);
                    selector.find(self.key)
                } else {
                    selector.find(text.inside(name))
                };
                // The first match wins, so a second visit is not a conflict here.
                if child != NONE && self.visit(child).is_ok() {
                    self.wanted_value(at, child, depth + 1)?;
                }
            }
            end.ok_or(Stop::Broken)
        })
    }

    /// Reads a value; if it is an object whose member `wanted` is a string, that string too.
    fn name_of(&mut self, at: usize, wanted: &[u8], depth: usize) -> Result<(usize, Option<Inside>), Stop> {
        if self.text.byte(at) != b'{' {
            return Ok((self.text.value(at, depth)?, None));
        }
        let text = self.text;
        let mut name = None;
        let end = text.each_member(at, depth, |key, value| {
            let is_wanted = if key.escaped {
                self.key.clear();
                unescape(text.inside(key), self.key);
                **self.key == *wanted
            } else {
                text.inside(key) == wanted
            };
            if is_wanted {
                name = None;
                if text.byte(value) == b'"' {
                    let string = text.string(value)?;
                    name = Some(string);
                    return Ok(string.end + 1);
                }
            }
            text.value(value, depth + 1)
        })?;
        Ok((end, name))
    }

    /// Notes the visit of an inner node; a second one in the same round is for `resolve`.
    #[inline(always)]
    fn visit(&mut self, id: NodeId) -> Result<(), Stop> {
        let visited = &mut self.visited[id as usize];
        if *visited == self.round {
            return Err(Stop::Conflict);
        }
        *visited = self.round;
        Ok(())
    }

    #[inline(always)]
    fn fill(&mut self, path: usize, leaf: NodeId, kind: Kind, start: usize, end: usize) -> Result<(), Stop> {
        let target = &self.out.tree.targets[path];
        let is_conflict = if target.collects {
            let filled = &mut self.filled[path];
            let (before, round) = std::mem::replace(filled, (leaf, self.round));
            round >= self.first_round && (before != leaf || round == self.round)
        } else {
            // A repeated key overwrites its slot, as the last one counts. Other repetitions are not that easy.
            target.leaves > 1 && self.out.row.slot(target.slot) != Slot::MISSING
        };
        if is_conflict {
            return Err(Stop::Conflict);
        }
        self.out.put(path, kind, start, end)
    }
}

/// Kind of the number or literal that begins with `byte`.
pub(super) fn scalar_kind(byte: u8) -> Kind {
    match byte {
        b't' => Kind::True,
        b'f' => Kind::False,
        b'n' => Kind::Null,
        _ => Kind::Number,
    }
}
