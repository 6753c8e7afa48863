//! Frames to slots: `frame -> one row of Events`.
//!
//! Decoding never fails. A frame that its decoder cannot read stays an event with its raw bytes and a
//! [`Flaw`], counted per source, and can be routed. Nothing is allocated per event: values are spans of the
//! chunk's buffer, or of the arena where the bytes are not in the frame as they are.
//!
//! A decoder knows only its own, *native* names. What rules, routes and outputs call a field is decided by
//! the decoder's schema map (`rules/schema/<decoder>.yaml`), resolved when the plan is compiled, so a
//! canonical name costs nothing per event unless the map asks for work (a value table, a first-of list).
//! A syslog header in front of any format is read here, once, for all decoders.
//!
//! Owned by the shard's thread; called once per chunk. To add one: a file with a `DecoderKind`, its schema
//! map, and its two lines in [`DECODERS`].

mod auto;
mod aws_network_firewall;
mod aws_vpc_flow;
mod aws_waf;
mod document;
mod eve;
mod json;
mod modsecurity;
mod palo_alto;
mod schema;
mod suricata_eve;

use std::collections::HashMap;
use std::ops::Range;

pub use auto::{Auto, explain};
pub use schema::{LogSource, Meaning, Origin, Schema};

use crate::envelope::{self, TimeContext};
use crate::error::Diagnostics;
use crate::event::{Chunk, Events, Fields, Flaw, Kind, Row, Slot, SlotId, Span, Value};

/// Every decoder; `auto` tries them in this order: the most specific first, those that take nearly anything last.
pub static DECODERS: &[&dyn DecoderKind] = &[
    &aws_network_firewall::AwsNetworkFirewall,
    &aws_vpc_flow::AwsVpcFlow,
    &aws_waf::AwsWaf,
    &modsecurity::Modsecurity,
    &palo_alto::PaloAlto,
    &suricata_eve::SuricataEve,
    &json::Json,
];

/// A format: how it is recognised and how a decoder for it is made.
pub trait DecoderKind: Sync {
    /// File name, `decoder:` in the configuration, metric label.
    fn name(&self) -> &'static str;
    /// One real line.
    fn sample(&self) -> &'static str;
    /// Text of its schema map.
    fn schema(&self) -> &'static str;
    /// The native names, or nothing if any name may occur (JSON, key=value).
    fn natives(&self) -> Option<Vec<&'static str>>;
    /// Why this frame (syslog header included) is this format, if it is.
    fn sniff(&self, frame: &[u8]) -> Option<&'static str>;
    /// Natives that the event's own time is read from; they are filled whether anybody wants them or not.
    fn time_natives(&self) -> &'static [&'static str] {
        &[]
    }
    /// Natives that the decoder needs to make another native.
    fn made_from(&self, _native: &str) -> &'static [&'static str] {
        &[]
    }
    /// What is wrong with the options of a source, if anything.
    ///
    /// # Errors
    /// The mistake, for people.
    fn check(&self, _options: &Options) -> Result<(), String> {
        Ok(())
    }
    /// A decoder that fills the wanted natives.
    fn build(&self, wanted: Wanted) -> Box<dyn Decoder>;
}

/// Fills rows. One per shard.
pub trait Decoder: Send {
    /// Decodes the frames of a range into the rows of the same numbers.
    fn decode(&mut self, chunk: &Chunk, frames: Range<usize>, events: &mut Events);
}

/// What a decoder has to fill.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Native names and their slots; no name twice.
    pub natives: Vec<(String, SlotId)>,
    /// Parts of a syslog header.
    pub envelope: EnvelopeSlots,
    /// Offset from UTC of times that do not say theirs, in ms.
    pub offset_ms: i64,
    /// What the source says about its format.
    pub options: Options,
}

/// What a source may say about its format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Field order of `aws_vpc_flow`, as in the flow log's own definition: `${version} ${srcaddr} ...`.
    pub vpc_flow_format: Option<String>,
}

impl Wanted {
    /// The slot of a native name.
    pub fn slot(&self, native: &str) -> Option<SlotId> {
        self.natives.iter().find(|(name, _)| name == native).map(|(_, slot)| *slot)
    }
}

/// Where the parts of a syslog header go.
#[derive(Clone, Copy, Debug, Default)]
pub struct EnvelopeSlots {
    /// `host.hostname`
    pub host: Option<SlotId>,
    /// `log.syslog.appname`
    pub app: Option<SlotId>,
    /// `log.syslog.procid`
    pub process: Option<SlotId>,
    /// `log.syslog.msgid`
    pub message_id: Option<SlotId>,
    /// `log.syslog.structured_data` (as text)
    pub structured_data: Option<SlotId>,
    /// `log.syslog.priority`
    pub priority: Option<SlotId>,
    /// `log.syslog.facility.code`
    pub facility: Option<SlotId>,
    /// `log.syslog.severity.code`
    pub severity: Option<SlotId>,
    /// `message`
    pub message: Option<SlotId>,
}

/// Canonical names that the header fills for every decoder.
pub const ENVELOPE_FIELDS: &[&str] = &[
    "host.hostname",
    "log.syslog.appname",
    "log.syslog.facility.code",
    "log.syslog.msgid",
    "log.syslog.priority",
    "log.syslog.procid",
    "log.syslog.severity.code",
    "log.syslog.structured_data",
    "message",
];

impl EnvelopeSlots {
    fn find(fields: &Fields) -> Self {
        Self {
            host: fields.find("host.hostname"),
            app: fields.find("log.syslog.appname"),
            process: fields.find("log.syslog.procid"),
            message_id: fields.find("log.syslog.msgid"),
            structured_data: fields.find("log.syslog.structured_data"),
            priority: fields.find("log.syslog.priority"),
            facility: fields.find("log.syslog.facility.code"),
            severity: fields.find("log.syslog.severity.code"),
            message: fields.find("message"),
        }
    }

    fn fill(&self, start: usize, header: &envelope::Header, row: &mut Row<'_>) {
        let texts = [
            (self.host, header.host),
            (self.app, header.app),
            (self.process, header.process),
            (self.message_id, header.message_id),
            (self.structured_data, header.structured_data),
            (self.message, header.message),
        ];
        for (slot, span) in texts {
            if let Some(slot) = slot.filter(|_| !span.is_empty()) {
                row.set_text(slot, moved(span, start));
            }
        }
        let Some(priority) = header.priority else { return };
        for (slot, number) in [(self.priority, priority), (self.facility, priority >> 3), (self.severity, priority & 7)] {
            if let Some(slot) = slot {
                row.set_written(slot, Kind::Number, |out| out.extend_from_slice(number.to_string().as_bytes()));
            }
        }
    }
}

fn moved(span: Span, by: usize) -> Span {
    Span::new(span.start as usize + by, span.end as usize + by)
}

/// Reads one message, the syslog header already taken off.
pub trait MessageDecoder: Send {
    /// The next message is that of frame `index`, for decoders that remember something of its sender.
    fn begin(&mut self, _chunk: &Chunk, _index: usize) {}

    /// Fills the row from `message`, a span of the chunk's buffer.
    ///
    /// # Errors
    /// What is wrong; slots filled before stay.
    fn message(&mut self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw>;

    /// Whether the last message was exactly one valid JSON object on one line without our reserved key.
    fn is_strict_object(&self) -> bool {
        false
    }
}

/// A decoder from a [`MessageDecoder`]: takes the syslog header off first.
pub fn with_envelope(wanted: &Wanted, decoder: impl MessageDecoder + 'static) -> Box<dyn Decoder> {
    Box::new(WithEnvelope { slots: wanted.envelope, offset_ms: wanted.offset_ms, decoder })
}

struct WithEnvelope<D> {
    slots: EnvelopeSlots,
    offset_ms: i64,
    decoder: D,
}

impl<D: MessageDecoder> Decoder for WithEnvelope<D> {
    fn decode(&mut self, chunk: &Chunk, frames: Range<usize>, events: &mut Events) {
        let context = TimeContext { received_ms: chunk.received_ms, offset_ms: self.offset_ms };
        for index in frames {
            self.decoder.begin(chunk, index);
            let frame = chunk.frames()[index];
            let mut row = events.row_mut(chunk, index);
            let mut message = frame;
            if frame.of(chunk.bytes()).first() == Some(&b'<') {
                let header = envelope::parse(frame.of(chunk.bytes()), context);
                self.slots.fill(frame.start as usize, &header, &mut row);
                if let Some(ms) = header.time_ms {
                    row.set_time_ms(ms);
                }
                message = moved(header.message, frame.start as usize);
            } else if let Some(slot) = self.slots.message {
                row.set_text(slot, frame);
            }
            if let Err(flaw) = self.decoder.message(message, &mut row) {
                row.set_flaw(flaw);
            } else if message == frame && self.decoder.is_strict_object() {
                row.set_strict_object();
            }
        }
    }
}

/// A decoder kind with its schema, compiled for the fields that a plan wants. Shared by all shards.
pub struct Compiled {
    kind: &'static dyn DecoderKind,
    wanted: Wanted,
    steps: Vec<Step>,
}

/// What a schema map does to a row beyond naming.
#[derive(Clone, Debug)]
enum Step {
    /// Text that is a number becomes one.
    Integer(SlotId),
    /// A fixed text.
    Constant(SlotId, String),
    /// The first of these that the event has.
    FirstOf(SlotId, Vec<SlotId>),
    /// A table of texts, keyed by the lower-case text of a text, number or boolean.
    Table { target: SlotId, from: SlotId, table: HashMap<Vec<u8>, String>, otherwise: Option<String> },
}

impl Compiled {
    /// Resolves every name of `fields` that this decoder knows. Names may be added to `fields`.
    ///
    /// # Errors
    /// Mistakes of the schema map.
    pub fn new(kind: &'static dyn DecoderKind, schema: &Schema, fields: &mut Fields, offset_ms: i64) -> Result<Self, Diagnostics> {
        let mut compiled = Self { kind, wanted: Wanted { offset_ms, ..Wanted::default() }, steps: Vec::new() };
        let names: Vec<(SlotId, String)> = fields.iter().map(|(slot, name)| (slot, name.to_owned())).collect();
        for (slot, name) in names {
            if let Some(native) = name.strip_prefix("%native.") {
                compiled.bind(native, slot);
            } else if let Some(source) = schema.ecs.get(&name) {
                compiled.resolve(slot, source, fields);
            } else if kind.natives().is_none() && !name.starts_with('%') && !ENVELOPE_FIELDS.contains(&name.as_str()) {
                // A format without a closed list of names: a name that the map does not know is read as it is.
                compiled.bind(&name, slot);
            }
        }
        for native in kind.time_natives() {
            compiled.native_slot(native, fields);
        }
        let mut made = 0;
        while let Some((native, _)) = compiled.wanted.natives.get(made) {
            for input in kind.made_from(native) {
                compiled.native_slot(input, fields);
            }
            made += 1;
        }
        compiled.wanted.envelope = EnvelopeSlots::find(fields);
        Ok(compiled)
    }

    /// Takes over what the source says about its format.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn with_options(mut self, options: Options) -> Result<Self, String> {
        self.kind.check(&options)?;
        self.wanted.options = options;
        Ok(self)
    }

    /// Lets `slot` be filled from a native; one that is filled already is copied by a step.
    fn bind(&mut self, native: &str, slot: SlotId) {
        match self.wanted.slot(native) {
            Some(first) => self.steps.push(Step::FirstOf(slot, vec![first])),
            None => self.wanted.natives.push((native.to_owned(), slot)),
        }
    }

    fn native_slot(&mut self, native: &str, fields: &mut Fields) -> SlotId {
        self.wanted.slot(native).unwrap_or_else(|| {
            let slot = fields.slot(&format!("%native.{native}"));
            self.wanted.natives.push((native.to_owned(), slot));
            slot
        })
    }

    fn resolve(&mut self, slot: SlotId, source: &Origin, fields: &mut Fields) {
        match &source.meaning {
            Meaning::Value(text) => self.steps.push(Step::Constant(slot, text.clone())),
            Meaning::From(natives) if natives.len() == 1 => self.bind(&natives[0], slot),
            Meaning::From(natives) => {
                let slots = natives.iter().map(|native| self.native_slot(native, fields)).collect();
                self.steps.push(Step::FirstOf(slot, slots));
            }
            Meaning::Table { from, table, otherwise } => {
                let from = self.native_slot(from, fields);
                let table = table.iter().map(|(key, value)| (key.to_ascii_lowercase().into_bytes(), value.clone())).collect();
                self.steps.push(Step::Table { target: slot, from, table, otherwise: otherwise.clone() });
            }
        }
        if source.integer {
            self.steps.push(Step::Integer(slot));
        }
    }

    /// The format.
    pub fn kind(&self) -> &'static dyn DecoderKind {
        self.kind
    }

    /// A decoder for one shard.
    pub fn instance(&self) -> Instance {
        Instance { decoder: self.kind.build(self.wanted.clone()), steps: self.steps.clone() }
    }
}

/// A decoder of one shard with its schema's steps.
pub struct Instance {
    decoder: Box<dyn Decoder>,
    steps: Vec<Step>,
}

impl Instance {
    /// Decodes the frames of a range into the rows of the same numbers and applies the schema map.
    pub fn decode(&mut self, chunk: &Chunk, frames: Range<usize>, events: &mut Events) {
        self.decoder.decode(chunk, frames.clone(), events);
        if self.steps.is_empty() {
            return;
        }
        for index in frames {
            let mut row = events.row_mut(chunk, index);
            self.steps.iter().for_each(|step| step.apply(&mut row));
        }
    }
}

impl Step {
    fn apply(&self, row: &mut Row<'_>) {
        match self {
            Self::Integer(slot) => {
                if let Value::Text(text) = row.value(*slot) {
                    if is_integer(text) {
                        let number = row.slot(*slot).with_kind(Kind::Number);
                        row.set(*slot, number);
                    } else if text.is_empty() {
                        row.set(*slot, Slot::MISSING);
                    }
                }
            }
            Self::Constant(slot, text) => row.set_written(*slot, Kind::Text, |out| out.extend_from_slice(text.as_bytes())),
            Self::FirstOf(slot, from) => {
                let is_there = |s: &&SlotId| !matches!(row.value(**s), Value::Missing | Value::Null | Value::Text(b""));
                if let Some(found) = from.iter().find(is_there) {
                    row.set(*slot, row.slot(*found));
                }
            }
            Self::Table { target, from, table, otherwise } => {
                let text: &[u8] = match row.value(*from) {
                    Value::Text(text) | Value::Number(text) => text,
                    Value::Boolean(true) => b"true",
                    Value::Boolean(false) => b"false",
                    _ => return,
                };
                // Keys of tables are short; longer values cannot be in it.
                let mut key = [0; 64];
                let known = key.get_mut(..text.len()).and_then(|key| {
                    key.copy_from_slice(text);
                    key.make_ascii_lowercase();
                    table.get(&*key)
                });
                if let Some(value) = known.or(otherwise.as_ref()) {
                    row.set_written(*target, Kind::Text, |out| out.extend_from_slice(value.as_bytes()));
                }
            }
        }
    }
}

/// Whether JSON would take this text as an integer.
fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    !digits.is_empty() && digits.len() <= 20 && digits.iter().all(u8::is_ascii_digit) && (digits[0] != b'0' || digits.len() == 1)
}

/// What the tests of the decoders share: a line goes the whole way, through the schema map.
#[cfg(test)]
pub(super) mod testing {
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
        let mut fields = Fields::default();
        let slots: Vec<_> = wanted.iter().map(|name| (*name, fields.slot(name))).collect();
        let compiled = Compiled::new(kind, &schema(kind), &mut fields, 0).unwrap().with_options(options).unwrap();
        let chunk = chunk(lines, 1);
        let mut events = Events::default();
        events.reset(&chunk, fields.width());
        compiled.instance().decode(&chunk, 0..lines.len(), &mut events);
        let decoded = |index| {
            let event = events.event(&chunk, index);
            let fields = slots.iter().filter_map(|(name, slot)| Some(((*name).to_owned(), text(event.value(*slot))?))).collect();
            Decoded { fields, flaw: event.flaw, time_ms: event.time_ms, is_strict_object: event.is_strict_object }
        };
        (0..lines.len()).map(decoded).collect()
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
}
