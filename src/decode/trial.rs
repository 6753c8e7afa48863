//! What the tests of the JSON decoders share: a line goes the whole way, through the schema map.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use super::{Compiled, DECODERS, DecoderKind, Options, Schema};
use crate::event::{Chunk, Events, Fields, Flaw, Sender, Span, Value};
use crate::json;

/// 2026-11-21T08:00:00Z.
pub(crate) const RECEIVED_MS: i64 = 1_795_248_000_000;

/// A line, decoded.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The wanted fields that the event has; arrays and objects as JSON.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) flaw: Option<Flaw>,
    pub(crate) time_ms: i64,
    pub(crate) is_strict_object: bool,
}

impl Decoded {
    /// The text of a field, empty if the event has none.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| field == name).map_or("", |(_, text)| text)
    }
}

/// A chunk of one sender with one frame a line.
pub(crate) fn chunk(lines: &[&[u8]], peer: u8) -> Chunk {
    let mut frames = Vec::new();
    let mut bytes = Vec::new();
    for line in lines {
        frames.push(Span::new(bytes.len(), bytes.len() + line.len()));
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    }
    let sender = Sender { source: "test".into(), source_index: 0 };
    let peers = vec![(0, IpAddr::V4(Ipv4Addr::new(10, 0, 0, peer)))];
    Chunk::new(bytes, frames, Arc::new(sender), RECEIVED_MS).with_peers(peers)
}

pub(crate) fn schema(kind: &'static dyn DecoderKind) -> Schema {
    Schema::parse(Path::new(kind.name()), kind.schema(), kind.natives().as_deref()).unwrap()
}

/// Decodes lines of one sender.
pub(crate) fn decode_all(kind: &'static dyn DecoderKind, options: Options, wanted: &[&str], lines: &[&[u8]]) -> Vec<Decoded> {
    decode_chunk(kind, options, wanted, &chunk(lines, 1))
}

/// The fields of every frame of a chunk.
pub(crate) fn decode_chunk(kind: &'static dyn DecoderKind, options: Options, wanted: &[&str], chunk: &Chunk) -> Vec<Decoded> {
    let mut fields = Fields::default();
    let slots: Vec<_> = wanted.iter().map(|name| (*name, fields.slot(name))).collect();
    let compiled = Compiled::new(kind, &schema(kind), &mut fields, 0).unwrap().with_options(options);
    let count = chunk.frames().len();
    let mut events = Events::default();
    events.reset(chunk, fields.width());
    compiled.instance().decode(chunk, 0..count, &mut events);
    let decoded = |index| {
        let event = events.event(chunk, index);
        let fields = slots.iter().filter_map(|(name, slot)| Some(((*name).to_owned(), text(event.value(*slot))?))).collect();
        Decoded { fields, flaw: event.flaw, time_ms: event.time_ms, is_strict_object: event.is_strict_object }
    };
    (0..count).map(decoded).collect()
}

/// Decodes a line.
pub(crate) fn decode(kind: &'static dyn DecoderKind, wanted: &[&str], line: &[u8]) -> Decoded {
    decode_all(kind, Options::default(), wanted, &[line]).remove(0)
}

fn text(value: Value<'_>) -> Option<String> {
    let bytes = match value {
        Value::Missing => return None,
        Value::Null => b"null".to_vec(),
        Value::Boolean(boolean) => boolean.to_string().into_bytes(),
        Value::Number(text) | Value::Text(text) | Value::Array(text) | Value::Object(text) => text.to_vec(),
        Value::Escaped(inside) => {
            let mut out = Vec::new();
            json::unescape(inside, &mut out);
            out
        }
    };
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Holds lines against the fields that they must give.
pub(crate) fn check(kind: &'static dyn DecoderKind, cases: &[(&str, &[(&str, &str)])]) {
    for (line, expected) in cases {
        let wanted: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
        let decoded = decode(kind, &wanted, line.as_bytes());
        for (name, value) in *expected {
            assert_eq!(decoded.field(name), *value, "{name} of {line}");
        }
    }
}

/// Every canonical name of the schema map that none of the lines fills.
pub(crate) fn never_filled(kind: &'static dyn DecoderKind, lines: &[&str]) -> Vec<String> {
    let schema = schema(kind);
    let names: Vec<&str> = schema.ecs.keys().map(String::as_str).collect();
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    let decoded = decode_all(kind, Options::default(), &names, &lines);
    let is_filled = |name: &&str| decoded.iter().any(|decoded| !decoded.field(name).is_empty());
    names.iter().filter(|name| !is_filled(name)).map(|name| (*name).to_owned()).collect()
}

/// Every prefix of every line, and lines with bytes changed, are decoded without a panic; `auto` looks at them too.
pub(crate) fn torture(kind: &'static dyn DecoderKind, lines: &[&str]) {
    let schema = schema(kind);
    let names: Vec<&str> = schema.ecs.keys().map(String::as_str).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for line in lines.iter().map(|line| line.as_bytes()) {
        let mut broken: Vec<Vec<u8>> = (0..line.len()).map(|end| line[..end].to_vec()).collect();
        for _ in 0..300 {
            let mut bytes = line.to_vec();
            for _ in 0..=random(4) {
                let at = random(bytes.len());
                bytes[at] = b"\"\\{}[]:, -<>=/\x00\xff\xc3\x801T.\n"[random(22)];
            }
            bytes.drain(..random(3) * random(bytes.len() / 4 + 1));
            broken.push(bytes);
        }
        let lines: Vec<&[u8]> = broken.iter().map(Vec::as_slice).collect();
        assert_eq!(decode_all(kind, Options::default(), &names, &lines).len(), lines.len());
        for line in &lines {
            assert!(DECODERS.iter().any(|kind| kind.name() == super::explain(line).0));
        }
    }
}
