//! One event as one JSON value or as the bytes that came: what all sinks put into their envelopes.
//!
//! * `raw`: the frame. As a JSON value: the object itself if it is one strict JSON object (bytes spliced, not
//!   parsed), else a JSON string, beside it `raw_base64` where the bytes are not UTF-8.
//! * `json`: an object with ECS names, `@timestamp` and, if asked for, `event.original`.
//!
//! An alert is an OCSF Detection Finding ([`crate::encode::ocsf`]) unless it is to be `flat`, which is the form of events.
//!
//! Where each row must be an object ([`Wrapping`]), a frame that is none becomes `message` of one.
//!
//! What Hydrant adds (rule ids, alerts, flaws) stands under one reserved key, `hydrant`; the fields that
//! enrichment and transforms add stand in place in `json` and under `hydrant.added` in `raw`. Nobody
//! else can write it: a sender's own copy of that key makes the event take the slow path, as a string.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::clock;
use crate::encode::alert::AlertForm;
use crate::encode::ocsf::Finding;
use crate::encode::template::{Template, write_value};
use crate::event::{Event, Fields, Position, SlotId, Value};
use crate::json;

/// The key under which Hydrant's own fields stand.
pub const RESERVED_KEY: &str = "hydrant";

/// What a body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// An object with ECS names.
    Json,
    /// The bytes that came.
    #[default]
    Raw,
}

/// What `raw` puts around a frame where a JSON value is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wrapping {
    /// Nothing: an object or a string, for envelopes of the destination's own.
    #[default]
    Bare,
    /// An object, always: for rows that stand alone.
    Object,
    /// An object that also says when and from whom the frame came, to be replayed from an archive.
    Described,
}

/// What encoders need to know of a decoder's plan. Shared by all sinks of a source.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Names to slots.
    pub fields: Fields,
    /// Canonical names that the decoder can fill, for `json`.
    pub canonical: Vec<String>,
    /// Fields that enrichment and transforms add: written under `hydrant.added` in `raw`, in place in `json`.
    pub added: Vec<String>,
    /// One JSON object per rule, by rule index: id, title, level, tags.
    pub rules: std::sync::Arc<[Box<str>]>,
    /// By the same index what else is known of a rule ([`crate::encode::alert::Notes`]).
    pub notes: std::sync::Arc<[Box<str>]>,
    /// Name of the source.
    pub source: String,
    /// Name of the decoder.
    pub decoder: &'static str,
    /// Of alerts that Hydrant makes itself, which say all that stands under [`RESERVED_KEY`]: the key of what was found.
    pub details: Option<&'static str>,
}

/// What alerts that Hydrant makes itself say, beside what was found ([`details_field`]): rule, its id, title and level, id of
/// the alert.
pub const OWN_ALERT_FIELDS: [&str; 5] = [
    "%native.hydrant.rule",
    "%native.hydrant.rule.id",
    "%native.hydrant.rule.title",
    "%native.hydrant.rule.level",
    "%native.hydrant.alert_id",
];

/// What an alert of a deduplicated rule says in the place of what was found: how it was deduplicated, and what is left of its
/// event, its source and decoder among it.
pub const DEDUPLICATION_FIELDS: [&str; 4] =
    ["%native.hydrant.deduplication", "%native.hydrant.evidence", "%native.hydrant.evidence.source", "%native.hydrant.evidence.decoder"];

/// The field that holds what was found.
pub fn details_field(key: &str) -> String {
    format!("%native.hydrant.{key}")
}

/// Writes bodies of one form for one decoder's events.
#[derive(Clone, Debug)]
pub struct Body {
    form: Form,
    keep_raw: bool,
    wrapping: Wrapping,
    canonical: Template,
    added: Template,
    rule_ids: Option<SlotId>,
    peer: Option<SlotId>,
    /// Key and slot of what an alert that Hydrant makes itself says.
    own_alert: Vec<(String, SlotId)>,
    /// Writes alerts that are not flat.
    finding: Option<Box<Finding>>,
    /// The source of the event that such an alert is about, if it is about one.
    own_source: Option<SlotId>,
    /// The same for its decoder.
    own_decoder: Option<SlotId>,
    rules: std::sync::Arc<[Box<str>]>,
    source: Box<[u8]>,
    /// `,"decoder":".."`
    decoder: Box<[u8]>,
}

fn own_alert_slots(context: &Context) -> Vec<(String, SlotId)> {
    let Some(details) = context.details else { return Vec::new() };
    let keys = ["rule", "alert_id", details, "deduplication", "evidence"];
    keys.iter().filter_map(|key| Some((format!(",\"{key}\":"), context.fields.find(&details_field(key))?))).collect()
}

impl Body {
    /// A writer; `keep_raw` puts the frame into `event.original` of a `json` body.
    pub fn new(form: Form, keep_raw: bool, context: &Context) -> Self {
        let slots = |names: &[String]| -> Vec<(String, SlotId)> {
            names.iter().filter_map(|name| Some((name.clone(), context.fields.find(name)?))).collect()
        };
        let template = |names: &[String]| Template::new(slots(names).iter().map(|(name, slot)| (name.as_str(), *slot)));
        let all: Vec<String> = context.canonical.iter().chain(&context.added).filter(|name| *name != "@timestamp").cloned().collect();
        let of_evidence = |name: &str| context.fields.find(name).filter(|_| context.details.is_some());
        let mut source = Vec::new();
        json::write_string(context.source.as_bytes(), &mut source);
        Self {
            form,
            keep_raw,
            wrapping: Wrapping::Bare,
            canonical: template(&all),
            added: template(&context.added),
            rule_ids: context.fields.find("%hydrant.rule_ids"),
            peer: context.fields.find("%hydrant.peer"),
            own_alert: own_alert_slots(context),
            finding: None,
            own_source: of_evidence(DEDUPLICATION_FIELDS[2]),
            own_decoder: of_evidence(DEDUPLICATION_FIELDS[3]),
            rules: context.rules.clone(),
            source: source.into_boxed_slice(),
            decoder: format!(",\"decoder\":\"{}\"", context.decoder).into_bytes().into_boxed_slice(),
        }
    }

    /// The same with something around `raw` frames.
    #[must_use]
    pub fn wrapped(self, wrapping: Wrapping) -> Self {
        Self { wrapping, ..self }
    }

    /// The same with alerts of a form; `context` is that of [`Self::new`].
    #[must_use]
    pub fn with_alerts(self, form: AlertForm, context: &Context) -> Self {
        let finding = (form == AlertForm::Ocsf).then(|| Box::new(Finding::new(context, self.canonical.clone())));
        Self { finding, ..self }
    }

    /// Appends the event as one JSON value.
    pub fn write_json(&self, event: Event<'_>, position: Position, out: &mut Vec<u8>) {
        if let Some(finding) = self.finding.as_ref().filter(|_| event.alert.is_some()) {
            finding.write(event, position, |out| self.write_own(event, position, out), out);
        } else if event.alert.is_some() || self.form == Form::Json {
            self.write_object(event, position, out);
        } else {
            self.write_raw_json(event, position, out);
        }
    }

    /// Appends `,"source":{..},..,"hydrant":{..}`: the members of a `json` body but the time and the frame, for
    /// an object that the destination has its own keys in.
    pub fn write_members(&self, event: Event<'_>, position: Position, out: &mut Vec<u8>) {
        self.canonical.write(event, true, out);
        out.push(b',');
        self.write_own(event, position, out);
    }

    /// Appends the fields that a `json` body has, without the outer braces.
    pub fn write_fields(&self, event: Event<'_>, out: &mut Vec<u8>) {
        self.canonical.write(event, false, out);
    }

    /// Appends `"hydrant":{..}`.
    pub fn write_own(&self, event: Event<'_>, position: Position, out: &mut Vec<u8>) {
        self.write_reserved(event, Some(position), false, out);
    }

    /// Appends the event as text: the frame as it came, or a JSON object if the form is `json`, the event is
    /// an alert, or the frame itself holds a line break that would make two lines of it.
    pub fn write_text(&self, event: Event<'_>, position: Position, out: &mut Vec<u8>) {
        let is_plain = event.alert.is_none() && self.form == Form::Raw;
        if is_plain && !self.is_tagged(event) && !self.added.has_any(event) && memchr::memchr(b'\n', event.raw()).is_none() {
            out.extend_from_slice(event.raw());
        } else {
            self.write_json(event, position, out);
        }
    }

    fn is_tagged(&self, event: Event<'_>) -> bool {
        self.rule_ids.is_some_and(|slot| event.value(slot) != Value::Missing)
    }

    fn write_raw_json(&self, event: Event<'_>, position: Position, out: &mut Vec<u8>) {
        let raw = event.raw();
        let is_described = self.wrapping == Wrapping::Described;
        let needs_more = is_described
            || self.is_tagged(event)
            || event.flaw.is_some()
            || self.added.has_any(event)
            || (self.wrapping == Wrapping::Object && !event.is_strict_object);
        let position = is_described.then_some(position);
        if event.is_strict_object {
            if !needs_more {
                out.extend_from_slice(raw);
                return;
            }
            // A strict object ends in `}`; an empty one takes no comma.
            let inside = raw.len() - 1;
            out.extend_from_slice(&raw[..inside]);
            if raw[1..inside].iter().any(|b| !b.is_ascii_whitespace()) {
                out.push(b',');
            }
            self.write_reserved(event, position, true, out);
            out.push(b'}');
        } else if needs_more {
            out.extend_from_slice(b"{\"message\":");
            json::write_string(raw, out);
            out.push(b',');
            self.write_reserved(event, position, true, out);
            out.push(b'}');
        } else {
            json::write_string(raw, out);
        }
    }

    fn write_object(&self, event: Event<'_>, position: Position, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"@timestamp\":\"");
        clock::write_rfc3339(event.time_ms, out);
        out.push(b'"');
        self.canonical.write(event, true, out);
        if self.keep_raw || event.flaw.is_some() || (event.alert.is_some() && self.own_alert.is_empty()) {
            out.extend_from_slice(b",\"event.original\":");
            json::write_string(event.raw(), out);
        }
        out.push(b',');
        self.write_reserved(event, Some(position), false, out);
        out.push(b'}');
    }

    /// Appends `"hydrant":{...}`; with `added` the fields that enrichment and transforms made stand in it. The
    /// position is for alerts, which are told apart by it, and for described frames.
    fn write_reserved(&self, event: Event<'_>, position: Option<Position>, added: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"hydrant\":{\"source\":");
        match self.own_source.filter(|slot| event.value(*slot) != Value::Missing) {
            Some(slot) => write_value(event.value(slot), out),
            None => out.extend_from_slice(&self.source),
        }
        if let Some(position) = position.filter(|_| self.wrapping == Wrapping::Described && event.alert.is_none()) {
            out.extend_from_slice(&self.decoder);
            if self.form == Form::Raw {
                out.extend_from_slice(b",\"time\":\"");
                clock::write_rfc3339(event.time_ms, out);
                out.push(b'"');
                if event.is_strict_object && event.raw().starts_with(b"{\"message\":\"") {
                    // It looks as a text does that became `message` of an object.
                    out.extend_from_slice(b",\"object\":true");
                }
            }
            // Writing to a vector cannot fail.
            drop(write!(out, ",\"position\":\"{position}\""));
            if let Some(slot) = self.peer.filter(|slot| event.value(*slot) != Value::Missing) {
                out.extend_from_slice(b",\"peer\":");
                write_value(event.value(slot), out);
            }
        }
        if self.finding.is_some() && event.alert.is_some() && self.own_alert.is_empty() {
            out.extend_from_slice(&self.decoder);
            drop(write!(out, ",\"position\":\"{}\"", position.unwrap_or_default()));
        }
        let decoder = self.own_decoder.filter(|slot| self.finding.is_some() && event.value(*slot) != Value::Missing);
        if let Some(slot) = decoder {
            out.extend_from_slice(b",\"decoder\":");
            write_value(event.value(slot), out);
        }
        if let Some(slot) = self.rule_ids.filter(|slot| event.value(*slot) != Value::Missing) {
            out.extend_from_slice(b",\"rule_ids\":");
            write_value(event.value(slot), out);
        }
        if event.alert.is_some() && !self.own_alert.is_empty() {
            out.extend_from_slice(b",\"alert\":true");
            for (key, slot) in self.own_alert.iter().filter(|(_, slot)| event.value(*slot) != Value::Missing) {
                out.extend_from_slice(key.as_bytes());
                write_value(event.value(*slot), out);
            }
        } else if let Some(rule) = event.alert {
            out.extend_from_slice(b",\"alert\":true,\"rule\":");
            out.extend_from_slice(self.rules.get(rule as usize).map_or(b"null", |rule| rule.as_bytes()));
            if let Some(position) = position {
                out.extend_from_slice(format!(",\"alert_id\":\"{position}:{rule}\"").as_bytes());
            }
        }
        if let Some(flaw) = event.flaw {
            out.extend_from_slice(b",\"flaw\":\"");
            out.extend_from_slice(flaw.name().as_bytes());
            out.push(b'"');
        }
        // An alert is the evidence: none of its bytes are lost.
        let is_evidence = event.alert.is_some() && self.own_alert.is_empty();
        if (event.flaw.is_some() || is_evidence) && simdutf8::basic::from_utf8(event.raw()).is_err() {
            out.extend_from_slice(b",\"raw_base64\":\"");
            out.extend_from_slice(STANDARD.encode(event.raw()).as_bytes());
            out.push(b'"');
        }
        if added && self.added.has_any(event) {
            // In an object of their own: names such as `source.owner` would meet our own keys.
            out.extend_from_slice(b",\"added\":{");
            self.added.write(event, false, out);
            out.push(b'}');
        }
        out.push(b'}');
    }
}
