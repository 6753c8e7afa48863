//! Programs: what they read and write, bound to slots, run over events.
//!
//! A run leaves the event as it is. What a program assigned or deleted is handed back as [`Change`]s, only
//! if it ended well and only for fields whose value is another one now; the caller puts them into slots.
//! An `abort` and an error hand back nothing but their name.
//!
//! Limits: [`STEPS_MAX`] expressions; a value of at most [`FRAME_BYTES_MAX`]. The steps are counted between expressions, so
//! one call of a function runs to its end: patterns in `parse_grok` and repetitions (`"x" * n`) are the
//! writer's responsibility. Times without zone are UTC.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ::vrl::compiler::runtime::{Runtime, Terminate};
use ::vrl::compiler::{ExpressionError, Program as Compiled, TimeZone};
use ::vrl::path::{OwnedSegment, OwnedTargetPath, OwnedValuePath, PathPrefix};
use ::vrl::value::{ObjectMap, Value};

use crate::error::Diagnostics;
use crate::event::{Event, Kind, SlotId};
use crate::limits::FRAME_BYTES_MAX;
use crate::vrl::Failure;
use crate::vrl::source::{self, Facts, Place, Use, field_of, name_of};
use crate::vrl::target::{Lazy, Leaf, Root, Tree};
use crate::vrl::value;

/// Expressions that one run may evaluate: about 1 ms, the time that a shard may be held, and ten times
/// what long transforms take.
const STEPS_MAX: u32 = 20_000;

/// A compiled program.
#[derive(Clone)]
pub struct Program {
    compiled: Compiled,
    roots: Vec<(PathPrefix, Box<[OwnedSegment]>)>,
    reads: Vec<String>,
    writes: Vec<String>,
    reads_whole: bool,
    writes_whole: bool,
    time_zone: TimeZone,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("reads", &self.reads).field("writes", &self.writes).finish_non_exhaustive()
    }
}

/// A program over the slots of one decoder.
#[derive(Clone, Debug)]
pub struct Bound {
    roots: Vec<Root>,
}

/// Room for runs, kept from event to event: one for each thread.
pub struct Scratch {
    runtime: Runtime,
    trees: Vec<Tree>,
    changes: Vec<Change>,
    placeholder: Value,
}

impl Default for Scratch {
    fn default() -> Self {
        let placeholder = Value::Object(ObjectMap::new());
        Self { runtime: Runtime::default(), trees: Vec::new(), changes: Vec::new(), placeholder }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("changes", &self.changes).finish_non_exhaustive()
    }
}

/// A field that a program changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    name: Box<str>,
    slot: Option<SlotId>,
    value: Option<Value>,
}

/// What came of a run.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// These fields have another value now.
    Changed(&'a [Change]),
    /// It ended well and changed nothing.
    Unchanged,
    /// It called `abort`: nothing is changed, and the caller drops or keeps the event as it is told.
    Aborted,
    /// It failed: nothing is changed.
    Failed(Failure),
}

impl Change {
    /// The field.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its slot; none if the program made a field that was not known when it was bound.
    pub fn slot(&self) -> Option<SlotId> {
        self.slot
    }

    /// Appends the new value as a slot holds it (text as it is, all else as JSON) and says what it is;
    /// [`Kind::Missing`] if the field was deleted.
    pub fn write_json(&self, out: &mut Vec<u8>) -> Kind {
        self.value.as_ref().map_or(Kind::Missing, |value| value::write(value, out))
    }
}

impl Program {
    /// Compiles `source`, which begins at `line` of `file`; `path` is the field of the configuration that holds it.
    ///
    /// # Errors
    /// What VRL refuses, assignments to `%native`, names that do not exist.
    pub fn compile(source: &str, file: &Path, line: usize, path: &str) -> Result<Self, Diagnostics> {
        let place = Place { source, file, line, path };
        let (tree, facts) = source::parse(&place, Use::Transform)?;
        let compiled = source::compile(tree, Use::Transform).map_err(|list| place.refuse(list))?;
        Ok(Self::new(compiled, &facts))
    }

    /// The program of what is already compiled.
    pub(super) fn new(compiled: Compiled, facts: &Facts) -> Self {
        let info = compiled.info();
        let root = facts.copies_whole.then(OwnedTargetPath::event_root);
        let reads: Vec<&OwnedTargetPath> = info.target_queries.iter().chain(&root).collect();
        let writes: Vec<&OwnedTargetPath> = info.target_assignments.iter().chain(&facts.deleted).collect();
        let names = |paths: &[&OwnedTargetPath]| {
            let names: BTreeSet<String> = paths.iter().map(|path| name_of(path.prefix, field_of(path))).collect();
            let whole = names.contains("");
            (names.into_iter().filter(|name| !name.is_empty()).collect(), whole)
        };
        let ((reads_names, reads_whole), (write_names, writes_whole)) = (names(&reads), names(&writes));
        let mut fields: Vec<_> = reads.iter().chain(&writes).map(|path| (path.prefix, field_of(path))).collect();
        fields.sort_by_key(|(_, field)| field.len());
        let mut roots: Vec<(PathPrefix, Box<[OwnedSegment]>)> = Vec::new();
        for (prefix, field) in fields {
            if !roots.iter().any(|(other, root)| *other == prefix && field.starts_with(root)) {
                roots.push((prefix, field.into()));
            }
        }
        let time_zone = TimeZone::parse("UTC").unwrap_or_default();
        Self { roots, reads: reads_names, writes: write_names, reads_whole, writes_whole, time_zone, compiled }
    }

    /// The fields that it reads, by name; a parent (`source`) stands for all below it.
    pub fn reads(&self) -> &[String] {
        &self.reads
    }

    /// Whether it reads every canonical field.
    pub fn reads_whole(&self) -> bool {
        self.reads_whole
    }

    /// The fields that it assigns or deletes, by name; a parent stands for all below it.
    pub fn writes(&self) -> &[String] {
        &self.writes
    }

    /// Whether it may write any canonical field.
    pub fn writes_whole(&self) -> bool {
        self.writes_whole
    }

    /// The program over the slots of one decoder. `names` are the fields that there are: all canonical ones, and
    /// those of `%native` and `%hydrant` whose parents a program may read. `slot` is asked for the slots of all
    /// that the program touches, and of fields that it makes: what it asks for is what the decoder must fill.
    pub fn bind(&self, names: &[&str], slot: &mut dyn FnMut(&str) -> SlotId) -> Bound {
        let names: BTreeSet<&str> = names.iter().copied().collect();
        let known: BTreeSet<&str> = names.iter().copied().chain(self.writes.iter().map(String::as_str)).collect();
        let mut roots: Vec<(PathPrefix, &[OwnedSegment])> = Vec::new();
        let mut lifted: Vec<_> = self.roots.iter().map(|(prefix, field)| (*prefix, self.lift(*prefix, field, &names))).collect();
        lifted.sort_by_key(|(_, field)| field.len());
        for (prefix, field) in lifted {
            if !roots.iter().any(|(other, root)| *other == prefix && field.starts_with(root)) {
                roots.push((prefix, field));
            }
        }
        let roots = roots.into_iter().map(|(prefix, field)| {
            let name = name_of(prefix, field);
            let below = |other: &str| -> Option<OwnedValuePath> {
                let rest = if field.is_empty() { other } else { other.strip_prefix(&*name)?.strip_prefix('.')? };
                let segments = rest.split('.').map(OwnedSegment::field).collect();
                (!field.is_empty() || !other.starts_with('%')).then_some(OwnedValuePath { segments })
            };
            let leaves: Vec<Leaf> =
                known.iter().filter_map(|other| below(other).map(|path| Leaf { name: (*other).into(), path, slot: slot(other) })).collect();
            let is_field = !field.is_empty() && (leaves.is_empty() || names.contains(name.as_str()));
            let own = is_field.then(|| slot(&name));
            Root { prefix, field: field.into(), name: name.into(), own, leaves }
        });
        Bound { roots: roots.collect() }
    }

    /// A path below a field (`.labels.team` where `labels` is one) belongs to that field, unless it is one
    /// itself and only read.
    fn lift<'f>(&self, prefix: PathPrefix, field: &'f [OwnedSegment], names: &BTreeSet<&str>) -> &'f [OwnedSegment] {
        let name = name_of(prefix, field);
        if names.contains(name.as_str()) && !self.writes.contains(&name) {
            return field;
        }
        let shorter = (1..field.len()).filter_map(|end| field.get(..end));
        shorter.into_iter().find(|part| names.contains(name_of(prefix, part).as_str())).unwrap_or(field)
    }

    /// Runs it as a condition: whether it ended with `true`.
    pub fn check(&self, event: Event<'_>, bound: &Bound, scratch: &mut Scratch) -> bool {
        matches!(self.resolve(event, bound, scratch), Ok(Value::Boolean(true)))
    }

    /// Runs it.
    pub fn run<'s>(&self, event: Event<'_>, bound: &Bound, scratch: &'s mut Scratch) -> Outcome<'s> {
        match self.resolve(event, bound, scratch) {
            Ok(_) => {}
            Err(Stop::Abort) => return Outcome::Aborted,
            Err(Stop::Failure(failure)) => return Outcome::Failed(failure),
        }
        for (root, tree) in bound.roots.iter().zip(&mut scratch.trees) {
            if let Some(new) = tree.value.take().filter(|_| tree.dirty)
                && let Err(failure) = root.changes(event, new, &mut scratch.changes)
            {
                return Outcome::Failed(failure);
            }
        }
        let large = scratch.changes.iter().find(|change| change.value.as_ref().is_some_and(|v| value::size_bytes(v) > FRAME_BYTES_MAX));
        match large {
            Some(change) => Outcome::Failed(Failure::TooLarge(change.name.to_string())),
            None if scratch.changes.is_empty() => Outcome::Unchanged,
            None => Outcome::Changed(&scratch.changes),
        }
    }

    fn resolve(&self, event: Event<'_>, bound: &Bound, scratch: &mut Scratch) -> Result<Value, Stop> {
        let Scratch { runtime, trees, changes, placeholder } = scratch;
        changes.clear();
        trees.clear();
        trees.resize_with(bound.roots.len(), Tree::default);
        runtime.clear();
        let mut target = Lazy { event, roots: &bound.roots, trees, placeholder };
        let mut steps = 0;
        let mut control = || {
            steps += 1;
            if steps > STEPS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        // What a panic may leave half done, the runtime's variables and the trees, is cleared before the next run.
        let run = || runtime.resolve_with_control(&mut target, &self.compiled, &self.time_zone, &mut control);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Terminate::Interrupted)) => Err(Stop::Failure(Failure::Steps)),
            Ok(Err(Terminate::Abort(ExpressionError::Abort { .. }))) => Err(Stop::Abort),
            Ok(Err(Terminate::Abort(error) | Terminate::Error(error))) => Err(Stop::Failure(Failure::Error(error.to_string()))),
            Err(_) => Err(Stop::Failure(Failure::Panic)),
        }
    }
}

/// Why a run did not end well.
enum Stop {
    Abort,
    Failure(Failure),
}

impl Root {
    /// What differs between the event and the tree that a program left.
    fn changes(&self, event: Event<'_>, new: Option<Value>, changes: &mut Vec<Change>) -> Result<(), Failure> {
        if self.is_whole() && !matches!(new, Some(Value::Object(_))) {
            return Err(Failure::Error("`.` must stay an object".to_owned()));
        }
        for leaf in &self.leaves {
            let value = new.as_ref().and_then(|new| new.get(&leaf.path));
            if value != value::load(event.value(leaf.slot)).as_ref() {
                changes.push(Change { name: leaf.name.clone(), slot: Some(leaf.slot), value: value.cloned() });
            }
        }
        match (self.own, new) {
            (Some(slot), new) if new != value::load(event.value(slot)) => {
                changes.push(Change { name: self.name.clone(), slot: Some(slot), value: new });
            }
            (None, Some(new)) => self.made(&new, self.name.to_string(), changes),
            _ => {}
        }
        Ok(())
    }

    /// The fields that nobody knew when the program was bound.
    fn made(&self, value: &Value, name: String, changes: &mut Vec<Change>) {
        if self.leaves.iter().any(|leaf| *leaf.name == *name) {
            return;
        }
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    let below = if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
                    self.made(value, below, changes);
                }
            }
            // What is left of a parent whose fields are deleted.
            Value::Object(_) if self.is_parent(&name) => {}
            _ => changes.push(Change { name: name.into(), slot: None, value: Some(value.clone()) }),
        }
    }

    fn is_parent(&self, name: &str) -> bool {
        name.is_empty() || self.leaves.iter().any(|leaf| leaf.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }
}
