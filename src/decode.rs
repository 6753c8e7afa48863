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
mod cef;
mod cisco_asa;
mod document;
mod eve;
mod fortigate;
mod json;
mod key_value;
mod leef;
mod modsecurity;
mod netfilter;
mod pairs;
mod palo_alto;
mod schema;
mod suricata_eve;
mod syslog;

use std::collections::HashMap;
use std::io::Write as _;
use std::ops::Range;

pub use auto::{Auto, explain};
pub use schema::{LogSource, Meaning, Origin, Schema};

use crate::envelope::{self, TimeContext};
use crate::error::Diagnostics;
use crate::event::{Chunk, Events, Fields, Flaw, Kind, Row, Slot, SlotId, Span, Value};

/// Every decoder; `auto` tries them in this order: the most specific first, those that take nearly anything last.
pub static DECODERS: &[&dyn DecoderKind] = &[
    &cef::Cef,
    &leef::Leef,
    &aws_network_firewall::AwsNetworkFirewall,
    &aws_vpc_flow::AwsVpcFlow,
    &aws_waf::AwsWaf,
    &modsecurity::Modsecurity,
    &suricata_eve::SuricataEve,
    &palo_alto::PaloAlto,
    &fortigate::Fortigate,
    &cisco_asa::CiscoAsa,
    &netfilter::Netfilter,
    // The last three take what nothing else does.
    &json::Json,
    &key_value::KeyValue,
    &syslog::Syslog,
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
                // Writing to a vector cannot fail.
                row.set_written(slot, Kind::Number, |out| write!(out, "{number}").unwrap_or_default());
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

    /// The same for formats to which a part of the header matters. `header` has been filled in already; its
    /// spans count from `start`, the offset of the frame.
    ///
    /// # Errors
    /// As [`MessageDecoder::message`].
    fn headed(&mut self, _header: &envelope::Header, _start: usize, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        self.message(message, row)
    }
}

/// The message of a frame, behind its syslog header if it has one. For [`DecoderKind::sniff`].
fn body(frame: &[u8]) -> &[u8] {
    if envelope::begins(frame) { envelope::parse(frame, TimeContext::default()).message.of(frame) } else { frame }
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
            let start = frame.start as usize;
            let bytes = frame.of(chunk.bytes());
            let header = match envelope::begins(bytes) {
                true => envelope::parse(bytes, context),
                false => envelope::Header { message: Span::new(0, bytes.len()), ..envelope::Header::default() },
            };
            self.slots.fill(start, &header, &mut row);
            if let Some(ms) = header.time_ms {
                row.set_time_ms(ms);
            }
            if let Err(flaw) = self.decoder.headed(&header, start, moved(header.message, start), &mut row) {
                row.set_flaw(flaw);
            } else if header.message.len() == frame.len() && self.decoder.is_strict_object() {
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

/// Lower-case text to what it becomes. The keys are ours, so a fast hash will do.
type Texts = HashMap<Vec<u8>, String, foldhash::fast::RandomState>;

/// What a schema map does to a row beyond naming.
#[derive(Clone, Debug)]
enum Step {
    /// Text that is a number becomes one.
    Integer(SlotId),
    /// A fixed text.
    Constant(SlotId, String),
    /// The first of these that the event has.
    FirstOf(SlotId, Vec<SlotId>),
    /// A table of texts, keyed by the lower-case text of a text, number or boolean; the first field whose text is
    /// in it decides.
    Table { target: SlotId, from: Vec<SlotId>, table: Texts, otherwise: Option<String> },
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

    /// Takes over what the source says about its format; [`DecoderKind::check`] has found it right.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.wanted.options = options;
        self
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
                let from = from.iter().map(|native| self.native_slot(native, fields)).collect();
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
                let is_there = |id: &&SlotId| match row.slot(**id).kind() {
                    Kind::Missing | Kind::Null => false,
                    Kind::Text => !row.slot(**id).is_empty(),
                    _ => true,
                };
                if let Some(found) = from.iter().find(is_there) {
                    row.set(*slot, row.slot(*found));
                }
            }
            Self::Table { target, from, table, otherwise } => {
                let text = |slot: &SlotId| match row.value(*slot) {
                    Value::Text(text) | Value::Number(text) => Some(text),
                    Value::Boolean(true) => Some(&b"true"[..]),
                    Value::Boolean(false) => Some(&b"false"[..]),
                    _ => None,
                };
                let any = from.iter().any(|slot| text(slot).is_some());
                let known = from.iter().find_map(|slot| {
                    let text = text(slot)?;
                    look_up(table, text)
                });
                if let Some(value) = known.or(otherwise.as_ref()).filter(|_| any) {
                    row.set_written(*target, Kind::Text, |out| out.extend_from_slice(value.as_bytes()));
                }
            }
        }
    }
}

/// What a table has for a text in any case.
fn look_up<'t>(table: &'t Texts, text: &[u8]) -> Option<&'t String> {
    // Keys of tables are short; longer values cannot be in it.
    let mut key = [0; 64];
    let key = key.get_mut(..text.len())?;
    key.copy_from_slice(text);
    key.make_ascii_lowercase();
    table.get(&*key)
}

/// Whether JSON would take this text as an integer.
fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    !digits.is_empty() && digits.len() <= 20 && digits.iter().all(u8::is_ascii_digit) && (digits[0] != b'0' || digits.len() == 1)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod trial;
