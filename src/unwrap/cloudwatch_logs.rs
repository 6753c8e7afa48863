//! The envelope of a CloudWatch Logs subscription: `{"messageType", "owner", "logGroup", "logStream",
//! "subscriptionFilters", "logEvents": [{"id", "timestamp", "message"}]}`.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::event::{Origin, OriginField, Span};
use crate::limits::CHUNK_FRAMES_MAX;

/// An envelope, read.
pub(super) enum Envelope {
    /// Log events.
    Data(Box<Data>),
    /// A test whether the way is open.
    Control,
}

/// The log events of an envelope.
#[derive(Default)]
pub(super) struct Data {
    kind: String,
    owner: Option<String>,
    log_group: Option<String>,
    log_stream: Option<String>,
    has_events: bool,
    /// All messages, unescaped, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Each message with its time.
    pub(super) messages: Vec<(Span, Option<i64>)>,
}

/// Keys with which an envelope begins, depending on which service wrote it.
const KEYS: [&[u8]; 6] = [b"messageType", b"owner", b"logGroup", b"logStream", b"subscriptionFilters", b"logEvents"];

/// Whether the first key is one of an envelope's.
pub(super) fn is_likely(message: &[u8]) -> bool {
    let Some(rest) = message.trim_ascii_start().strip_prefix(b"{") else { return false };
    let Some(rest) = rest.trim_ascii_start().strip_prefix(b"\"") else { return false };
    KEYS.iter().any(|key| rest.strip_prefix(*key).is_some_and(|rest| rest.starts_with(b"\"")))
}

impl Envelope {
    /// Reads an envelope; `None` if it is none.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let mut data = Box::<Data>::default();
        let mut reader = serde_json::Deserializer::from_slice(message);
        Object(&mut data).deserialize(&mut reader).ok()?;
        reader.end().ok()?;
        match data.kind.as_str() {
            "CONTROL_MESSAGE" => Some(Self::Control),
            "DATA_MESSAGE" if data.has_events => Some(Self::Data(data)),
            _ => None,
        }
    }
}

impl Data {
    /// What was known of the envelope, and what it says itself.
    pub(super) fn origin(&self, outer: &Origin) -> Origin {
        let named =
            [(OriginField::Account, &self.owner), (OriginField::LogGroup, &self.log_group), (OriginField::LogStream, &self.log_stream)];
        named.into_iter().fold(outer.clone(), |origin, (field, value)| match value {
            Some(value) => origin.with(field, value.as_str()),
            None => origin,
        })
    }
}

/// The envelope itself. Messages go straight into one buffer, so that an event costs no allocation.
struct Object<'d>(&'d mut Data);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope of CloudWatch Logs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match key.as_ref() {
                "messageType" => self.0.kind = map.next_value()?,
                "owner" => self.0.owner = map.next_value()?,
                "logGroup" => self.0.log_group = map.next_value()?,
                "logStream" => self.0.log_stream = map.next_value()?,
                "logEvents" => {
                    self.0.has_events = true;
                    map.next_value_seed(Events(self.0))?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct Events<'d>(&'d mut Data);

impl<'de> DeserializeSeed<'de> for Events<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Events<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of log events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut events: A) -> Result<(), A::Error> {
        while events.next_element_seed(Event(self.0))?.is_some() {
            // An empty event takes ten times the memory of its two braces.
            if self.0.messages.len() > CHUNK_FRAMES_MAX {
                return Err(de::Error::custom("more log events than a chunk holds"));
            }
        }
        Ok(())
    }
}

struct Event<'d>(&'d mut Data);

impl<'de> DeserializeSeed<'de> for Event<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Event<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a log event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let start = self.0.bytes.len();
        let mut time_ms = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match key.as_ref() {
                "timestamp" => time_ms = map.next_value()?,
                "message" => map.next_value_seed(Message(&mut self.0.bytes))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        self.0.messages.push((Span::new(start, self.0.bytes.len()), time_ms));
        Ok(())
    }
}

struct Message<'b>(&'b mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Message<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a log message")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
