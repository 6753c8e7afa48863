//! Events one after the other: lines of JSON, a JSON array, or lines of text; and which partition each goes to.
//!
//! In: an event and its position. Out: the bytes of one row, without what stands between rows. What all
//! sinks share that write plain files or bodies. A row never has a line break inside, and every alert is a
//! JSON object, whatever the format.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;

use crate::encode::alert::AlertForm;
use crate::encode::body::{Body, Context, Form, Wrapping};
use crate::encode::key_template::{KeyTemplate, Reference};
use crate::event::{Event, Flaw, Position, SlotId, Value};
use crate::json;

/// How rows follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON array.
    JsonArray,
    /// One JSON object a line.
    #[default]
    Ndjson,
    /// One line of text an event, as it came; alerts and frames with line breaks as JSON.
    Text,
}

impl Format {
    /// Bytes before the first row.
    pub fn head(self) -> &'static [u8] {
        if self == Self::JsonArray { b"[" } else { b"" }
    }

    /// Bytes between rows.
    pub fn separator(self) -> &'static [u8] {
        if self == Self::JsonArray { b"," } else { b"\n" }
    }

    /// Bytes behind the last row. Bodies of lines can be put one after the other.
    pub fn tail(self) -> &'static [u8] {
        if self == Self::JsonArray { b"]" } else { b"\n" }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::JsonArray => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Text => "text/plain; charset=utf-8",
        }
    }

    /// What a file name ends with.
    pub fn file_extension(self) -> &'static str {
        match self {
            Self::JsonArray => ".json",
            Self::Ndjson => ".ndjson",
            Self::Text => ".log",
        }
    }
}

/// Writes rows for one decoder's events.
#[derive(Clone, Debug)]
pub struct Rows {
    body: Body,
    is_text: bool,
}

impl Rows {
    /// A writer of `body` in a format.
    pub fn new(format: Format, body: Body) -> Self {
        Self { body, is_text: format == Format::Text }
    }

    /// Appends an event as one row.
    pub fn write(&self, event: Event<'_>, position: Position, out: &mut Vec<u8>) {
        if self.is_text {
            self.body.write_text(event, position, out);
        } else {
            self.body.write_json(event, position, out);
        }
    }
}

/// The body that stands alone in a row: an object, described if it is to be replayed.
pub fn body((form, alert_form): (Form, AlertForm), keep_raw: bool, is_described: bool, context: &Context) -> Body {
    let wrapping = if is_described { Wrapping::Described } else { Wrapping::Object };
    Body::new(form, keep_raw, context).with_alerts(alert_form, context).wrapped(wrapping)
}

/// The partition of what failed begins with it, what failed follows as Firehose calls it. No other has it in its name.
pub const ERROR_MARK: char = '!';

/// The partition of frames that their decoder could not read.
pub const UNREADABLE_PARTITION: &str = "!processing-failed";

/// Says which partition an event goes to, by the fields that a template names.
#[derive(Debug)]
pub struct Partitioner {
    template: Arc<KeyTemplate>,
    slots: Vec<Option<SlotId>>,
    separates_unreadable: bool,
    name: String,
}

impl Partitioner {
    /// One for a decoder's events, if there is anything to part them by. With `separates_unreadable`, frames
    /// that their decoder could not read go to [`UNREADABLE_PARTITION`].
    pub fn new(template: &Arc<KeyTemplate>, separates_unreadable: bool, context: &Context) -> Option<Self> {
        let slot = |reference: &Reference| match reference {
            Reference::Field(name) => context.fields.find(name),
            Reference::Query(_) | Reference::Lambda(_) => None,
        };
        let slots: Vec<Option<SlotId>> = template.references().iter().map(slot).collect();
        let template = template.clone();
        (separates_unreadable || !slots.is_empty()).then(|| Self { template, slots, separates_unreadable, name: String::new() })
    }

    /// The name of the event's partition.
    pub fn partition(&mut self, event: Event<'_>) -> &str {
        if self.separates_unreadable && event.alert.is_none() && event.flaw == Some(Flaw::Malformed) {
            return UNREADABLE_PARTITION;
        }
        let slots = &self.slots;
        self.template.partition(|index| text(event.value(*slots.get(index)?.as_ref()?)), &mut self.name);
        &self.name
    }
}

/// A value as text; a missing one and `null` are none.
pub fn text(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Missing | Value::Null => None,
        Value::Boolean(true) => Some(b"true".into()),
        Value::Boolean(false) => Some(b"false".into()),
        Value::Number(text) | Value::Text(text) | Value::Array(text) | Value::Object(text) => Some(text.into()),
        Value::Escaped(inside) => {
            let mut text = Vec::with_capacity(inside.len());
            json::unescape(inside, &mut text);
            Some(text.into())
        }
    }
}

/// The fields that a template takes from events.
///
/// # Errors
/// The name of one that is not a field: Firehose's partition keys by jq and Lambda do not exist here.
pub fn field_names(template: &KeyTemplate) -> Result<Vec<String>, String> {
    let name = |reference: &Reference| match reference {
        Reference::Field(name) => Ok(name.clone()),
        Reference::Query(name) => Err(format!("!{{partitionKeyFromQuery:{name}}}")),
        Reference::Lambda(name) => Err(format!("!{{partitionKeyFromLambda:{name}}}")),
    };
    template.references().iter().map(name).collect()
}
