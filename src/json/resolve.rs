//! The second look at a document in which two places compete for one slot.
//!
//! Slow and exact: an object is read to its end before anything in it counts, so that the last of repeated
//! keys is known; then its wanted members are followed, those with most keys joined first, and the first
//! value found for a path stays. The cost is linear in the document for each level of wanted keys.

use super::paths::{NONE, Node, NodeId, ROOT};
use super::scan::{Output, scalar_kind};
use super::strings::unescape;
use super::text::{Inside, Read, Stop, Text};
use crate::event::Kind;

/// Fills the slots of `out` anew from the object at `open`. What stands before a break is filled. Also tells
/// whether the reserved key occurs.
pub(super) fn resolve(text: &Text<'_>, out: &mut Output<'_, '_, '_>, open: usize) -> (Read, bool) {
    out.clear();
    let done = vec![0; out.tree.targets.len().div_ceil(64)];
    let mut look = Resolve { text, out, done, reserved: false };
    (look.value(open, ROOT, 0), look.reserved)
}

struct Resolve<'a, 'd, 's, 'r, 'c> {
    text: &'a Text<'d>,
    out: &'a mut Output<'s, 'r, 'c>,
    /// One bit a path: whether it has its value.
    done: Vec<u64>,
    reserved: bool,
}

impl<'s> Resolve<'_, '_, 's, '_, '_> {
    fn node(&self, id: NodeId) -> &'s Node {
        &self.out.tree.nodes[id as usize]
    }

    fn value(&mut self, at: usize, id: NodeId, depth: usize) -> Read {
        let node = self.node(id);
        self.reserved |= node.reserved;
        let (kind, end) = match self.text.byte(at) {
            b'"' => {
                let string = self.text.string(at)?;
                (if string.escaped { Kind::Escaped } else { Kind::Text }, string.end + 1)
            }
            b'{' => (Kind::Object, self.object(at, node, depth)?),
            b'[' => (Kind::Array, self.array(at, node, depth)?),
            byte => (scalar_kind(byte), self.text.scalar(at)?),
        };
        if let Some(path) = (node.path as usize).checked_sub(1) {
            let bit = 1 << (path % 64);
            if self.done[path / 64] & bit == 0 {
                self.done[path / 64] |= bit;
                self.out.put(path, kind, at, end)?;
            }
        }
        Ok(end)
    }

    fn object(&mut self, open: usize, node: &Node, depth: usize) -> Read {
        let text = self.text;
        let mut last = vec![None; node.edges.len()];
        let end = text.each_member(open, depth, |key, at| {
            let child = with_text(text, key, |key| node.find(key));
            if let Some(edge) = node.edges.iter().position(|edge| child != NONE && edge.node == child) {
                last[edge] = Some(at);
            }
            text.value(at, depth + 1)
        });
        for (edge, at) in node.edges.iter().zip(last) {
            if let Some(at) = at {
                let inner = self.value(at, edge.node, depth + 1);
                // A break inside is the break that ended the object.
                if matches!(inner, Err(Stop::Many)) {
                    return inner;
                }
            }
        }
        end
    }

    fn array(&mut self, open: usize, node: &Node, depth: usize) -> Read {
        if node.each == 0 && node.selectors.is_empty() {
            return self.text.value(open, depth);
        }
        let text = self.text;
        let before = self.done.clone();
        let mut any = before.clone();
        let mut chosen = vec![];
        let end = text.each_element(open, depth, |at| {
            if node.each != 0 {
                // Each element gives its own value, unless a better spelling gave values before the array.
                self.done.clone_from(&before);
                let inner = self.value(at, node.each, depth + 1);
                any.iter_mut().zip(&self.done).for_each(|(any, done)| *any |= done);
                inner?;
            }
            for selector in &node.selectors {
                let child =
                    self.name_of(at, &selector.key, depth + 1)?.map_or(NONE, |name| with_text(text, name, |name| selector.find(name)));
                if child != NONE && !chosen.iter().any(|(node, _)| *node == child) {
                    chosen.push((child, at));
                }
            }
            text.value(at, depth + 1)
        });
        self.done = any;
        for (child, at) in chosen {
            self.value(at, child, depth + 1)?;
        }
        end
    }

    /// The member `wanted` of the object at `at`, if it is a string.
    fn name_of(&self, at: usize, wanted: &[u8], depth: usize) -> Result<Option<Inside>, Stop> {
        let text = self.text;
        let mut name = None;
        if text.byte(at) == b'{' {
            text.each_member(at, depth, |key, value| {
                if with_text(text, key, |key| key == wanted) {
                    name = if text.byte(value) == b'"' { Some(text.string(value)?) } else { None };
                }
                text.value(value, depth + 1)
            })?;
        }
        Ok(name)
    }
}

/// Calls `read` with the text that a key or string stands for.
fn with_text<T>(text: &Text<'_>, inside: Inside, read: impl FnOnce(&[u8]) -> T) -> T {
    if !inside.escaped {
        return read(text.inside(inside));
    }
    let mut unescaped = Vec::new();
    unescape(text.inside(inside), &mut unescaped);
    read(&unescaped)
}
