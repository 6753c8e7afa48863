//! The event as a VRL target that materialises only what the program touches.
//!
//! The paths that a program touches are grouped at compile time: two paths belong together if one leads to
//! the other, and a group is known by its shortest path, its *root*. Each group is a small tree of its own,
//! loaded from the slots at its first use and kept for the rest of the run; groups never overlap, so a write
//! in one is seen by every later read of the same path and by no other group. A program that touches `.` has one
//! group for the whole canonical view. Nothing goes back to the event from here.

use std::cell::OnceCell;

use ::vrl::compiler::{SecretTarget, Target};
use ::vrl::path::{OwnedSegment, OwnedTargetPath, OwnedValuePath, PathPrefix};
use ::vrl::value::{ObjectMap, Value};

use crate::event::{Event, SlotId};
use crate::vrl::value;

/// A field below a root.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) name: Box<str>,
    /// From the root.
    pub(super) path: OwnedValuePath,
    pub(super) slot: SlotId,
}

/// A group of paths over the slots of one decoder.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) prefix: PathPrefix,
    pub(super) field: Box<[OwnedSegment]>,
    pub(super) name: Box<str>,
    /// The slot of the root itself, if it is a field.
    pub(super) own: Option<SlotId>,
    pub(super) leaves: Vec<Leaf>,
}

/// A group while a program runs.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) value: OnceCell<Option<Value>>,
    pub(super) dirty: bool,
}

/// The target of one run.
#[derive(Debug)]
pub(super) struct Lazy<'a> {
    pub(super) event: Event<'a>,
    pub(super) roots: &'a [Root],
    pub(super) trees: &'a mut [Tree],
    /// What the interpreter sees when it makes sure that there is an event.
    pub(super) placeholder: &'a Value,
}

impl Root {
    /// Whether it is `.`.
    pub(super) fn is_whole(&self) -> bool {
        self.field.is_empty()
    }

    /// The tree of this group.
    pub(super) fn load(&self, event: Event<'_>) -> Option<Value> {
        let mut tree = self.own.and_then(|slot| value::load(event.value(slot)));
        if self.is_whole() {
            tree = Some(Value::Object(ObjectMap::new()));
        }
        for leaf in &self.leaves {
            if let Some(value) = value::load(event.value(leaf.slot)) {
                tree.get_or_insert_with(|| Value::Object(ObjectMap::new())).insert(&leaf.path, value);
            }
        }
        tree
    }
}

impl<'a> Lazy<'a> {
    fn find<'p>(&self, path: &'p OwnedTargetPath) -> Option<(usize, &'p [OwnedSegment])> {
        self.roots.iter().enumerate().find_map(|(index, root)| {
            let rest = path.path.segments.strip_prefix(&*root.field)?;
            (root.prefix == path.prefix).then_some((index, rest))
        })
    }

    /// The loaded tree, to be written to, and the path inside.
    fn write(&mut self, path: &OwnedTargetPath) -> Option<(&mut Option<Value>, OwnedValuePath, &'a Root)> {
        let (index, rest) = self.find(path)?;
        let (root, tree) = (self.roots.get(index)?, self.trees.get_mut(index)?);
        tree.value.get_or_init(|| root.load(self.event));
        tree.dirty = true;
        Some((tree.value.get_mut()?, OwnedValuePath { segments: rest.to_vec() }, root))
    }
}

/// A step-wise look-up: VRL's own takes whole paths only.
fn descend<'v>(mut value: &'v Value, path: &[OwnedSegment]) -> Option<&'v Value> {
    for segment in path {
        value = match (segment, value) {
            (OwnedSegment::Field(key), Value::Object(map)) => map.get(key)?,
            (OwnedSegment::Index(index), Value::Array(items)) => {
                let from_end = || items.len().checked_sub(index.unsigned_abs());
                items.get(usize::try_from(*index).ok().or_else(from_end)?)?
            }
            _ => return None,
        };
    }
    Some(value)
}

impl Target for Lazy<'_> {
    fn target_insert(&mut self, path: &OwnedTargetPath, value: Value) -> Result<(), String> {
        let (tree, rest, _) = self.write(path).ok_or("unknown path")?;
        tree.get_or_insert(Value::Null).insert(&rest, value);
        Ok(())
    }

    fn target_get(&self, path: &OwnedTargetPath) -> Result<Option<&Value>, String> {
        let Some((index, rest)) = self.find(path) else {
            let is_root = path.prefix == PathPrefix::Event && path.path.segments.is_empty();
            return Ok(is_root.then_some(self.placeholder));
        };
        let (Some(root), Some(tree)) = (self.roots.get(index), self.trees.get(index)) else { return Ok(None) };
        let value = tree.value.get_or_init(|| root.load(self.event));
        Ok(value.as_ref().and_then(|value| descend(value, rest)))
    }

    fn target_get_mut(&mut self, path: &OwnedTargetPath) -> Result<Option<&mut Value>, String> {
        let (tree, rest, _) = self.write(path).ok_or("unknown path")?;
        Ok(tree.as_mut().and_then(|value| value.get_mut(&rest)))
    }

    fn target_remove(&mut self, path: &OwnedTargetPath, compact: bool) -> Result<Option<Value>, String> {
        let (tree, rest, root) = self.write(path).ok_or("unknown path")?;
        if rest.segments.is_empty() && !root.is_whole() {
            return Ok(tree.take());
        }
        let removed = tree.as_mut().and_then(|value| value.remove(&rest, compact));
        let hollow = match tree {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            _ => false,
        };
        if removed.is_some() && compact && hollow && !root.is_whole() {
            *tree = None;
        }
        Ok(removed)
    }
}

/// No secrets: sinks and sources have theirs in the configuration, events carry none.
impl SecretTarget for Lazy<'_> {
    fn get_secret(&self, _key: &str) -> Option<&str> {
        None
    }

    fn insert_secret(&mut self, _key: &str, _value: &str) {}

    fn remove_secret(&mut self, _key: &str) {}
}
