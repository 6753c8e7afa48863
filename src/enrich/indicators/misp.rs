//! `misp`: attributes of MISP events ("MISP core format", draft-dulaunoy-misp-core-format, section 2.4).
//!
//! Taken: attributes with `to_ids`, of events and of their objects, that are not deleted and of a type with a value to
//! look up. `domain|ip` and `filename|md5` are two values; a name of a file alone is none. What an attribute says in
//! `comment` is the description.

use std::collections::VecDeque;

use serde::Deserialize;

use super::{Details, Found, Kind, Refusal, push, text, time_ms};

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
