//! `misp`: attributes of MISP events ("MISP core format", draft-dulaunoy-misp-core-format, section 2.4).
//!
//! Taken: attributes with `to_ids`, of events and of their objects, that are not deleted and of a type with a value to
//! look up. `domain|ip` and `filename|md5` are two values; a name of a file alone is none. What an attribute says in
//! `comment` is the description.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Details, Found, Kind, Refusal, push, text, time_ms};
use crate::enrich::elements::{ElementError, Elements, Wanted};

#[derive(Deserialize)]
struct Attribute {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    to_ids: Flag,
    #[serde(default)]
    deleted: Flag,
    #[serde(default)]
    first_seen: Option<String>,
    #[serde(default)]
    last_seen: Option<String>,
}

/// `true`, `1` or `"1"`, as different versions write it.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Flag {
    Boolean(bool),
    Number(u8),
    Text(String),
    #[default]
    Absent,
}

impl Flag {
    fn is_set(&self) -> bool {
        match self {
            Self::Boolean(value) => *value,
            Self::Number(value) => *value != 0,
            Self::Text(value) => value == "1" || value.eq_ignore_ascii_case("true"),
            Self::Absent => false,
        }
    }
}

/// Reads one attribute.
pub(super) fn read(line: usize, object: &[u8], found: &mut VecDeque<Found>) {
    let attribute: Attribute = match serde_json::from_slice(object) {
        Ok(attribute) => attribute,
        Err(error) => {
            found.push_back(Err(Refusal::skipped(line, "not an attribute of MISP", &error.to_string())));
            return;
        }
    };
    let Attribute { r#type, value, .. } = &attribute;
    let refuse = |reason: String| Err(Refusal::skipped(line, reason, value));
    if attribute.deleted.is_set() {
        return found.push_back(refuse("deleted".to_owned()));
    }
    if !attribute.to_ids.is_set() {
        return found.push_back(refuse("not meant for detection (to_ids)".to_owned()));
    }
    let details = Details {
        description: attribute.comment.as_deref().and_then(text),
        first_seen_ms: attribute.first_seen.as_deref().and_then(time_ms),
        last_seen_ms: attribute.last_seen.as_deref().and_then(time_ms),
        ..Details::default()
    };
    if let Some(kind) = Kind::parse(r#type) {
        return push(found, line, (Some(kind), value), details);
    }
    match (r#type.split_once('|'), value.split_once('|')) {
        (Some(("domain", "ip")), Some((name, address))) => {
            push(found, line, (Some(Kind::Domain), name), details.clone());
            push(found, line, (Some(Kind::Ip), address), details);
        }
        (Some(("filename", hash)), Some((_, value))) if Kind::parse(hash) == Some(Kind::Hash) => {
            push(found, line, (Some(Kind::Hash), value), details);
        }
        (None, Some((_, value))) if r#type == "malware-sample" => push(found, line, (Some(Kind::Hash), value), details),
        _ => found.push_back(refuse(format!("nothing is looked up for the type `{}`", super::cut(r#type, 40)))),
    }
}

/// An attribute as a list of many events keeps it: what [`read`] reads of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MispAttribute {
    r#type: String,
    value: String,
    comment: Option<String>,
    to_ids: bool,
    first_seen: Option<String>,
    last_seen: Option<String>,
}

/// The attributes of an event that are meant for detection, and how many are not. One that says nothing of itself says what
/// its event is about.
///
/// # Errors
/// What is sent is no event.
pub fn misp_attributes(sent: &[u8], about: &str) -> Result<(Vec<MispAttribute>, u64), String> {
    if memchr::memmem::find(sent, b"\"Event\"").is_none() {
        return Err("this is not an event of MISP".to_owned());
    }
    let mut elements = Elements::new(sent, Wanted::Named("Attribute"));
    let (mut object, mut attributes, mut left_out) = (Vec::new(), Vec::new(), 0);
    loop {
        match elements.next(&mut object) {
            Ok(Some(_)) => match serde_json::from_slice::<Attribute>(&object) {
                Ok(Attribute { r#type, value, comment, to_ids, deleted, first_seen, last_seen })
                    if to_ids.is_set() && !deleted.is_set() =>
                {
                    let comment = comment.filter(|comment| !comment.trim().is_empty()).or_else(|| text(about));
                    attributes.push(MispAttribute { r#type, value, comment, to_ids: true, first_seen, last_seen });
                }
                _ => left_out += 1,
            },
            Ok(None) => return Ok((attributes, left_out)),
            Err(ElementError::TooLong(_)) => left_out += 1,
            Err(error) => return Err(error.to_string()),
        }
    }
}
