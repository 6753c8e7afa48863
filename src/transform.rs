//! VRL programs over rows: `row -> the row with other values, or dropped`.
//!
//! Programs run in order, after decoding and before enrichment: so they can repair or make the fields that
//! look-ups are keyed by, and what they write is enriched like what a decoder wrote. The price is that they
//! do not see what enrichment adds; rules and routes do.
//!
//! * Each program sees what those before it wrote, and so does its `when`. Native conditions that no program
//!   in between can change share one matcher.
//! * What a program writes goes to slots, for rules, routes, later programs and structured output; the raw
//!   bytes never change. A field that nobody knew when the plan was compiled (`. = parse_json!(.x)`) has no slot: it is
//!   left out and counted as `unknown_field`.
//! * Assigning `."@timestamp"` sets the event's time; anything but RFC 3339 (or a timestamp) is an error. It
//!   cannot be read.
//! * `abort` drops the event or, with `on_abort: keep`, leaves it as it was before that program.
//! * A program that fails (an error, too many steps, a panic, a value larger than a frame) leaves the event as
//!   it was; the reason is counted, stands in `%hydrant.transform_error` (the first one), and the first message
//!   of each program is logged.
//!
//! Owned by the shard's thread, called once per chunk. Never: I/O, knowing what is enriched or detected.

use crate::clock;
use crate::event::{Chunk, Event, Events, Fields, Kind, Row, Slot, SlotId, Value};
use crate::matcher::{self, Builder, Matcher, ProgramId};
use crate::vrl::{Bound, Change, Condition, Failure, Outcome, Program, Scratch as VrlScratch};

/// A transform before it is compiled.
#[derive(Debug)]
pub struct Transform {
    /// When it runs; `None` is always.
    pub when: Option<Condition>,
    /// What it does.
    pub program: Program,
    /// What an `abort` means.
    pub on_abort: OnAbort,
}

/// What an `abort` means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnAbort {
    /// The event goes nowhere, and is counted.
    #[default]
    Drop,
    /// The event goes on as it was before the program.
    Keep,
}

/// The field that holds the name of the first failure.
pub const ERROR_FIELD: &str = "%hydrant.transform_error";

/// Names of [`Counts::errors`].
pub const REASONS: [&str; 5] = ["error", "panic", "steps", "too_large", "unknown_field"];

/// The field that stands for the event's time.
const TIME_FIELD: &str = "@timestamp";

/// The reason of a field without a slot.
const UNKNOWN_FIELD: usize = 4;

/// What a chunk came to.
#[derive(Debug, Default)]
pub struct Counts {
    /// Rows that were dropped, ascending.
    pub dropped: Vec<u32>,
    /// By reason, in the order of [`REASONS`].
    pub errors: [u64; REASONS.len()],
}

/// The transforms of one source.
pub struct Transforms {
    groups: Vec<Group>,
    /// Where the name of a failure goes.
    error: Option<SlotId>,
    /// What sets the event's time.
    time: Option<SlotId>,
}

/// Transforms whose native conditions are decided together.
#[derive(Default)]
struct Group {
    matcher: Option<Matcher>,
    steps: Vec<Step>,
}

struct Step {
    gate: Gate,
    program: Program,
    bound: Bound,
    on_abort: OnAbort,
}

enum Gate {
    Always,
    Native(ProgramId),
    Program(Box<Program>, Bound),
}

/// Working memory of one shard.
pub struct Scratch {
    /// What the last chunk came to.
    pub counts: Counts,
    /// By group.
    matchers: Vec<Option<matcher::Scratch>>,
    hits: Vec<ProgramId>,
    vrl: VrlScratch,
    /// Values of one program's changes, one after the other.
    text: Vec<u8>,
    changes: Vec<(SlotId, Kind, usize)>,
    /// Whether a message of any program was logged, by group and step.
    logged: Vec<Vec<bool>>,
}

/// A group while it is compiled.
#[derive(Default)]
struct Open {
    builder: Builder,
    steps: Vec<Step>,
    /// What its programs may write; `None` is anything.
    written: Option<Vec<String>>,
    has_native: bool,
}

impl Open {
    fn new() -> Self {
        Self { written: Some(Vec::new()), ..Self::default() }
    }

    /// Whether a program of the group may change what a condition looks at.
    fn may_change(&self, name: &str) -> bool {
        let Some(written) = &self.written else { return true };
        written.iter().any(|other| is_within(name, other) || is_within(other, name))
    }

    fn close(self) -> Group {
        Group { matcher: self.has_native.then(|| self.builder.build()), steps: self.steps }
    }
}

/// Whether a field is another one or below it.
fn is_within(name: &str, parent: &str) -> bool {
    name.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl Transforms {
    /// Compiles transforms; the fields that they need and make are added to `fields`. `names` are those that
    /// the events can have.
    pub fn new(transforms: &[Transform], names: &[&str], fields: &mut Fields) -> Self {
        let mut names: Vec<&str> = names.to_vec();
        let mut groups = Vec::new();
        let mut open = Open::new();
        for transform in transforms {
            let gate = match &transform.when {
                None => Gate::Always,
                Some(Condition::Program(program)) => Gate::Program(program.clone(), program.bind(&names, &mut |name| fields.slot(name))),
                Some(Condition::Native(condition)) => {
                    let mut is_stale = false;
                    condition.for_each_field(&mut |name| is_stale |= open.may_change(name));
                    if is_stale {
                        groups.push(std::mem::replace(&mut open, Open::new()).close());
                    }
                    let slots = condition.clone().map_fields(&mut |name: String| Ok::<_, std::convert::Infallible>(fields.slot(&name)));
                    let Ok(slots) = slots;
                    open.has_native = true;
                    Gate::Native(open.builder.add(slots))
                }
            };
            let program = &transform.program;
            let bound = program.bind(&names, &mut |name| fields.slot(name));
            names.extend(program.writes().iter().map(String::as_str).filter(|name| !names.contains(name)).collect::<Vec<_>>());
            match &mut open.written {
                Some(written) if !program.writes_whole() => written.extend_from_slice(program.writes()),
                written => *written = None,
            }
            open.steps.push(Step { gate, program: program.clone(), bound, on_abort: transform.on_abort });
        }
        groups.push(open.close());
        groups.retain(|group| !group.steps.is_empty());
        Self { groups, error: None, time: fields.find(TIME_FIELD) }
    }

    /// Finds the slot of [`ERROR_FIELD`], once everybody has said what they want.
    pub fn finish(&mut self, fields: &Fields) {
        self.error = fields.find(ERROR_FIELD);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Working memory for one shard.
    pub fn scratch(&self) -> Scratch {
        Scratch {
            counts: Counts::default(),
            matchers: self.groups.iter().map(|group| group.matcher.as_ref().map(Matcher::scratch)).collect(),
            hits: Vec::new(),
            vrl: VrlScratch::default(),
            text: Vec::new(),
            changes: Vec::new(),
            logged: self.groups.iter().map(|group| vec![false; group.steps.len()]).collect(),
        }
    }

    /// Runs all of them over the rows of a chunk's frames. [`Scratch::counts`] are those of this call.
    pub fn run(&self, chunk: &Chunk, events: &mut Events, scratch: &mut Scratch) {
        scratch.counts.dropped.clear();
        scratch.counts.errors = [0; REASONS.len()];
        for row in 0..chunk.frames().len() {
            let is_kept = (0..self.groups.len()).all(|group| self.run_group(group, chunk, events, row, scratch));
            if !is_kept {
                scratch.counts.dropped.push(row as u32);
            }
        }
    }

    /// Runs a group over one row; false if the row is dropped.
    fn run_group(&self, index: usize, chunk: &Chunk, events: &mut Events, row: usize, scratch: &mut Scratch) -> bool {
        let Scratch { counts, matchers, hits, vrl, text, changes, logged } = scratch;
        let (Some(group), Some(matcher), Some(logged)) = (self.groups.get(index), matchers.get_mut(index), logged.get_mut(index)) else {
            return true;
        };
        if let (Some(compiled), Some(matcher)) = (&group.matcher, matcher) {
            compiled.evaluate(events.event(chunk, row), matcher, hits);
        }
        for (step, logged) in group.steps.iter().zip(logged) {
            let event = events.event(chunk, row);
            if !step.gate.holds(event, hits, vrl) {
                continue;
            }
            let failure = match step.program.run(event, &step.bound, vrl) {
                Outcome::Unchanged => None,
                Outcome::Aborted if step.on_abort == OnAbort::Drop => return false,
                Outcome::Aborted => None,
                Outcome::Failed(failure) => Some(failure),
                Outcome::Changed(found) => {
                    counts.errors[UNKNOWN_FIELD] += collect(found, text, changes);
                    self.commit(text, changes, &mut events.row_mut(chunk, row)).err()
                }
            };
            if let Some(failure) = failure {
                self.fail(&failure, &mut events.row_mut(chunk, row), counts);
                if !std::mem::replace(logged, true) {
                    tracing::warn!(source = &*chunk.sender.source, %failure, program = ?step.program, "a transform failed; more of it is counted only");
                }
            }
        }
        true
    }

    fn fail(&self, failure: &Failure, row: &mut Row<'_>, counts: &mut Counts) {
        let reason = REASONS.iter().position(|reason| *reason == failure.name());
        if let Some(count) = reason.and_then(|reason| counts.errors.get_mut(reason)) {
            *count += 1;
        }
        if let Some(slot) = self.error.filter(|slot| row.value(*slot) == Value::Missing) {
            row.set_written(slot, Kind::Text, |out| out.extend_from_slice(failure.name().as_bytes()));
        }
    }

    /// Puts values into a row, all or none.
    fn commit(&self, text: &[u8], changes: &[(SlotId, Kind, usize)], row: &mut Row<'_>) -> Result<(), Failure> {
        if !row.has_room(text.len()) {
            return Err(Failure::TooLarge("the chunk".to_owned()));
        }
        let mut time_ms = None;
        let mut start = 0;
        for (slot, kind, end) in changes {
            if Some(*slot) == self.time && *kind != Kind::Missing {
                let time = clock::rfc3339_ms(&text[start..*end]).filter(|_| *kind == Kind::Text);
                time_ms = Some(time.ok_or_else(|| Failure::Error("`@timestamp` is no RFC 3339 time".to_owned()))?);
            }
            start = *end;
        }
        start = 0;
        for (slot, kind, end) in changes {
            if *kind == Kind::Missing {
                row.set(*slot, Slot::MISSING);
            } else {
                row.set_written(*slot, *kind, |out| out.extend_from_slice(&text[start..*end]));
            }
            start = *end;
        }
        time_ms.into_iter().for_each(|time_ms| row.set_time_ms(time_ms));
        Ok(())
    }
}

impl Gate {
    fn holds(&self, event: Event<'_>, hits: &[ProgramId], vrl: &mut VrlScratch) -> bool {
        match self {
            Self::Always => true,
            Self::Native(id) => hits.binary_search(id).is_ok(),
            Self::Program(program, bound) => program.check(event, bound, vrl),
        }
    }
}

/// Takes the new values over. Returns how many fields have no slot.
fn collect(found: &[Change], text: &mut Vec<u8>, changes: &mut Vec<(SlotId, Kind, usize)>) -> u64 {
    text.clear();
    changes.clear();
    let mut unknown = 0;
    for change in found {
        match change.slot() {
            Some(slot) => {
                let kind = change.write_json(text);
                changes.push((slot, kind, text.len()));
            }
            None => unknown += 1,
        }
    }
    unknown
}

#[cfg(test)]
#[cfg(feature = "vrl")]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::event::{Sender, Span};

    const NAMES: &[&str] = &["event.action", "source.ip", "source.port"];

    /// One event per action, all from the same address; what is there after the transforms, `-` for nothing.
    fn run(transforms: &[(&str, &str, OnAbort)], actions: &[&str], wanted: &[&str]) -> (Vec<Vec<String>>, Counts) {
        let file = Path::new("c.yaml");
        let compile = |(when, program, on_abort): &(&str, &str, OnAbort)| Transform {
            when: (!when.is_empty()).then(|| Condition::compile(when, file, 1, "when").unwrap()),
            program: Program::compile(program, file, 1, "program").unwrap(),
            on_abort: *on_abort,
        };
        let mut fields = Fields::default();
        let given = [fields.slot("event.action"), fields.slot("source.ip"), fields.slot("source.port")];
        let mut compiled = Transforms::new(&transforms.iter().map(compile).collect::<Vec<_>>(), NAMES, &mut fields);
        let slots: Vec<SlotId> = wanted.iter().map(|name| fields.slot(name)).collect();
        compiled.finish(&fields);
        let sender = Arc::new(Sender { source: "t".into(), source_index: 0 });
        let chunk = Chunk::new(b"x".to_vec(), vec![Span::new(0, 1); actions.len()], sender, 7);
        let mut events = Events::default();
        events.reset(&chunk, fields.width());
        for (index, action) in actions.iter().enumerate() {
            for (slot, kind, text) in [(given[0], Kind::Text, *action), (given[1], Kind::Text, "10.1.2.3"), (given[2], Kind::Number, "443")]
            {
                events.row_mut(&chunk, index).set_written(slot, kind, |out| out.extend_from_slice(text.as_bytes()));
            }
        }
        let mut scratch = compiled.scratch();
        scratch.counts = Counts { dropped: vec![9], errors: [9; 5] };
        compiled.run(&chunk, &mut events, &mut scratch);
        let text = |row: usize, slot: SlotId| match events.event(&chunk, row).value(slot) {
            Value::Missing => "-".to_owned(),
            Value::Boolean(value) => value.to_string(),
            Value::Text(text) | Value::Number(text) | Value::Object(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        let row = |row: usize| {
            let time = events.event(&chunk, row).time_ms.to_string();
            slots.iter().map(|slot| text(row, *slot)).chain([time]).take(wanted.len().max(1)).collect()
        };
        ((0..actions.len()).map(row).collect(), scratch.counts)
    }

    #[test]
    fn programs_write_where_their_condition_holds() {
        let transforms = [
            (".event.action == \"deny\"", ".labels.team = \"net\"; .n = .source.port", OnAbort::Drop),
            ("length!(.event.action) == 5", "del(.source.ip)", OnAbort::Drop),
        ];
        let (rows, counts) = run(&transforms, &["deny", "allow"], &["labels.team", "n", "source.ip"]);
        assert_eq!(rows, [["net", "443", "10.1.2.3"], ["-", "-", "-"]]);
        assert_eq!((counts.dropped, counts.errors), (vec![], [0; 5]));
    }

    #[test]
    fn a_condition_sees_what_the_programs_before_it_wrote() {
        let native = [
            ("", ".event.action = \"deny\"", OnAbort::Drop),
            (".event.action == \"deny\"", ".a = 1", OnAbort::Drop),
            (".event.action == \"allow\"", ".b = 1", OnAbort::Drop),
            ("", ". = merge(., {\"source\": {\"port\": 1}})", OnAbort::Drop),
            (".source.port == 1", ".c = 1", OnAbort::Drop),
        ];
        assert_eq!(run(&native, &["allow"], &["a", "b", "c"]).0, [["1", "-", "1"]]);
    }

    #[test]
    fn conditions_that_nothing_changes_share_a_matcher() {
        let file = Path::new("c.yaml");
        let transform = |when: &str, program: &str| Transform {
            when: Some(Condition::compile(when, file, 1, "when").unwrap()),
            program: Program::compile(program, file, 1, "program").unwrap(),
            on_abort: OnAbort::Drop,
        };
        let groups = |transforms: &[Transform]| Transforms::new(transforms, NAMES, &mut Fields::default()).groups.len();
        let (a, b) = (".event.action == \"deny\"", ".source.port == 443");
        assert_eq!(groups(&[transform(a, ".x = 1"), transform(b, ".y = 1"), transform(a, ".z = 1")]), 1);
        assert_eq!(groups(&[transform(a, ".source = {}"), transform(b, ".y = 1"), transform(a, ".z = 1")]), 2);
        assert_eq!(groups(&[transform(a, ".event.action = 1"), transform(b, ".y = 1"), transform(a, ".z = 1")]), 2);
        assert_eq!(groups(&[]), 0);
    }

    #[test]
    fn abort_drops_or_leaves_the_event_as_it_was() {
        let program = ".labels.team = \"net\"; if .event.action == \"deny\" { abort }";
        let behind = ("", ".behind = true", OnAbort::Drop);
        let (rows, counts) = run(&[("", program, OnAbort::Drop), behind], &["deny", "allow", "deny"], &["labels.team", "behind"]);
        assert_eq!((rows[1].as_slice(), counts.dropped), (["net", "true"].map(str::to_owned).as_slice(), vec![0, 2]));
        let (rows, counts) = run(&[("", program, OnAbort::Keep), behind], &["deny", "allow"], &["labels.team", "behind"]);
        assert_eq!(
            (rows, counts.dropped),
            (vec![vec!["-".to_owned(), "true".to_owned()], vec!["net".to_owned(), "true".to_owned()]], vec![])
        );
    }

    #[test]
    fn failures_leave_the_event_and_are_tagged_and_counted_by_reason() {
        let list = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let endless =
            format!("l = [{list}]; for_each(l) -> |_, a| {{ for_each(l) -> |_, b| {{ for_each(l) -> |_, c| {{ .a = a + b + c }} }} }}");
        let transforms = [
            (".event.action == \"one\"", ".a = 1; .a = to_int!(.event.action)", OnAbort::Drop),
            (".event.action == \"two\"", endless.as_str(), OnAbort::Drop),
            ("includes([\"one\", \"three\"], .event.action)", ".third = true", OnAbort::Drop),
            ("", ".behind = true", OnAbort::Drop),
        ];
        let (rows, counts) = run(&transforms, &["one", "two", "three"], &["a", "third", "behind", ERROR_FIELD]);
        assert_eq!(rows, [["-", "true", "true", "error"], ["-", "-", "true", "steps"], ["-", "true", "true", "-"]]);
        assert_eq!(counts.errors, [1, 0, 1, 0, 0]);
    }

    #[test]
    fn fields_that_nobody_knows_are_left_out_and_counted() {
        let (rows, counts) = run(&[("", ". = merge(., {\"x\": 1, \"source\": {\"port\": 1}})", OnAbort::Drop)], &["a"], &["source.port"]);
        assert_eq!((rows, counts.errors), (vec![vec!["1".to_owned()]], [0, 0, 0, 0, 1]));
    }

    #[test]
    fn the_time_is_set_from_rfc_3339_only() {
        let set = |value: &str| {
            let program = format!("if .event.action == \"a\" {{ .\"@timestamp\" = {value} }}");
            let (rows, counts) = run(&[("", &program, OnAbort::Drop)], &["a"], &[]);
            (rows[0][0].clone(), counts.errors[0])
        };
        assert_eq!(set("\"2026-11-21T08:00:00Z\""), ("1795248000000".to_owned(), 0));
        assert_eq!(set("t'2026-11-21T08:00:00Z'"), ("1795248000000".to_owned(), 0));
        assert_eq!(set("\"yesterday\""), ("7".to_owned(), 1));
        assert_eq!(set("12"), ("7".to_owned(), 1));
    }
}
