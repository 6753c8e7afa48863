//! Single lines through the whole decoding path (schema map, instance, row), for the decoders' tests.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::{Compiled, DECODERS, DecoderKind, ENVELOPE_FIELDS, Instance, Schema};
use crate::event::{Chunk, Events, Fields, Flaw, Sender, SlotId, Span, Value};

/// 2026-11-21T08:00:00Z: when the tests' lines arrive.
pub(super) const RECEIVED_MS: i64 = 1_795_248_000_000;

/// A decoded line.
#[derive(Debug)]
pub(super) struct Decoded {
    /// The wanted names that the event has, in the order in which they were asked for.
    pub(super) fields: Vec<(String, String)>,
    pub(super) flaw: Option<Flaw>,
    pub(super) time_ms: i64,
}

impl Decoded {
    /// The value of a name, empty if the event does not have it.
    pub(super) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

pub(super) fn schema(kind: &'static dyn DecoderKind) -> Schema {
    let parsed = Schema::parse(Path::new(kind.name()), kind.schema(), kind.natives().as_deref());
    parsed.unwrap_or_else(|mistakes| panic!("{}: {mistakes:?}", kind.name()))
}

/// A decoder compiled for some names.
pub(super) struct Bench {
    instance: RefCell<Instance>,
    fields: Fields,
    names: Vec<(String, SlotId)>,
}

impl Bench {
    pub(super) fn new(kind: &'static dyn DecoderKind, names: &[&str]) -> Self {
        let mut fields = Fields::default();
        let names = names.iter().map(|name| ((*name).to_owned(), fields.slot(name))).collect();
        let compiled = Compiled::new(kind, &schema(kind), &mut fields, 0).unwrap();
        Self { instance: RefCell::new(compiled.instance()), fields, names }
    }

    /// A decoder that wants every name of the schema map and of the header.
    pub(super) fn of_everything(kind: &'static dyn DecoderKind) -> Self {
        let schema = schema(kind);
        let names: Vec<&str> = schema.ecs.keys().map(String::as_str).chain(ENVELOPE_FIELDS.iter().copied()).collect();
        Self::new(kind, &names)
    }

    pub(super) fn decode(&self, line: &[u8]) -> Decoded {
        let sender = Arc::new(Sender { source: "test".into(), source_index: 0 });
        // Something before the line: offsets that are not moved show up.
        let bytes = [b"before: ", line].concat();
        let chunk = Chunk::new(bytes, vec![Span::new(8, 8 + line.len())], sender, RECEIVED_MS);
        let mut events = Events::default();
        events.reset(&chunk, self.fields.width());
        self.instance.borrow_mut().decode(&chunk, 0..1, &mut events);
        let event = events.event(&chunk, 0);
        event.values().for_each(|value| drop(text(value)));
        let field = |(name, slot): &(String, SlotId)| Some((name.clone(), text(event.value(*slot))?));
        Decoded { fields: self.names.iter().filter_map(field).collect(), flaw: event.flaw, time_ms: event.time_ms }
    }
}

fn text(value: Value<'_>) -> Option<String> {
    let bytes = match value {
        Value::Missing => return None,
        Value::Null => b"null",
        Value::Boolean(true) => &b"true"[..],
        Value::Boolean(false) => b"false",
        Value::Number(bytes) | Value::Text(bytes) | Value::Escaped(bytes) | Value::Array(bytes) | Value::Object(bytes) => bytes,
    };
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// What a decoder reads of a line.
pub(super) fn decode(kind: &'static dyn DecoderKind, names: &[&str], line: &str) -> Decoded {
    Bench::new(kind, names).decode(line.as_bytes())
}

/// A line and what it must give; an empty value means that the event must not have the field.
pub(super) type Case<'a> = (&'a str, &'a [(&'a str, &'a str)]);

/// Holds a table of whole lines against what is read, and that none of them has a flaw.
pub(super) fn check(kind: &'static dyn DecoderKind, cases: &[Case<'_>]) {
    let mut mistakes = Vec::new();
    for (line, expected) in cases {
        let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        let decoded = decode(kind, &names, line);
        for (name, value) in expected.iter().filter(|(name, value)| decoded.field(name) != *value) {
            mistakes.push(format!("{name} is `{}`, not `{value}`, in {line}", decoded.field(name)));
        }
        mistakes.extend(decoded.flaw.map(|flaw| format!("{flaw:?}: {line}")));
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

/// Holds that each name of the schema map is filled by one of the lines at least. `documented` are names that
/// stand in the vendor's reference but in none of the lines; none of those may be filled, so that the list
/// stays short.
pub(super) fn check_every_name_is_filled<'a>(
    kind: &'static dyn DecoderKind,
    lines: impl IntoIterator<Item = &'a str>,
    documented: &[&str],
) {
    let bench = Bench::of_everything(kind);
    let mut filled = BTreeSet::new();
    for line in lines {
        filled.extend(bench.decode(line.as_bytes()).fields.into_iter().map(|(name, _)| name));
    }
    let schema = schema(kind);
    let missing: Vec<&String> = schema.ecs.keys().filter(|name| !filled.contains(*name) && !documented.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "no line fills {missing:?}");
    let stale: Vec<&&str> = documented.iter().filter(|name| filled.contains(**name)).collect();
    assert!(stale.is_empty(), "a line fills {stale:?}");
}

/// Every prefix of the lines, and lines with bytes changed, cut and doubled at random: no panic, and every
/// slot lies inside its buffer.
pub(super) fn check_broken_lines<'a>(kind: &'static dyn DecoderKind, lines: impl IntoIterator<Item = &'a str>) {
    let bench = Bench::of_everything(kind);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for line in lines {
        for end in 0..line.len() {
            bench.decode(&line.as_bytes()[..end]);
        }
        for _ in 0..60 {
            let mut bytes = line.as_bytes().to_vec();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at.min(bytes.len()), b"\"=\\|:/( )<>,%\0\xff{}"[random(17)]),
                    2 if at < bytes.len() => bytes[at] = random(256) as u8,
                    _ => bytes.extend_from_within(at.min(bytes.len())..),
                }
            }
            bench.decode(&bytes);
        }
    }
}

/// Holds that `auto` gives each line to this decoder.
pub(super) fn check_sniffed<'a>(kind: &'static dyn DecoderKind, lines: impl IntoIterator<Item = &'a str>) {
    for line in lines {
        let found = DECODERS.iter().find(|decoder| decoder.sniff(line.as_bytes()).is_some()).map(|decoder| decoder.name());
        assert_eq!(found, Some(kind.name()), "{line}");
    }
}

#[test]
fn every_sample_is_recognised_and_read_without_a_flaw() {
    for kind in DECODERS {
        check_sniffed(*kind, [kind.sample()]);
        let decoded = Bench::of_everything(*kind).decode(kind.sample().as_bytes());
        assert_eq!(decoded.flaw, None, "{}", kind.name());
        assert!(decoded.fields.len() > 2, "{}: {decoded:?}", kind.name());
    }
}
