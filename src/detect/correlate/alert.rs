//! A match as people and other programs see it: `match -> one JSON object on one line`.
//!
//! The object says everything about the alert by itself, because it is what the journal keeps: a reload or a restart
//! may know the correlation no more. Canonical fields of the group stand at the top, the rest under `hydrant`:
//!
//! ```json
//! {"@timestamp":"..","message":"..","source.ip":"198.51.100.7","hydrant":{"rule":{"id":"..","title":".."},
//!  "alert_id":"..","correlation":{"type":"event_count","group":{"source.ip":"198.51.100.7"},"value":10,
//!  "timespan_ms":300000,"window_start":"..","window_end":"..","sample":["1:42","1:57"],"sources":["fw"]},
//!  "match":{"key":"..","time_ms":1795240800000,"is_alert":true}}}
//! ```
//!
//! `sources` are those whose events the correlation counts, whether or not one of them is in this window.
//!
//! The alert of a deduplicated rule is that rule's. In the place of `correlation` it has
//!
//! ```json
//! "deduplication":{"group":{"source.ip":"198.51.100.7"},"window_ms":3600000,"suppressed":41},
//! "evidence":{"source":"fw","decoder":"palo_alto","position":"1:42","raw":".."}
//! ```
//!
//! and its time is that of its event.
//!
//! `match` is for the next run alone ([`Told`]), no destination gets it. A match that is no alert is written as well: the
//! group is quiet behind it, and those chained to it have counted it.
//!
//! The alert's id is the first half of the SHA-256 over the correlation's id, the group and the position of the event
//! that completed it: the same match has the same id after a restart.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use aws_lc_rs::digest::{Context, SHA256};

use super::Fired;
use super::evidence::Evidence;
use super::part::{Part, parts};
use crate::clock;
use crate::detect::sigma::correlation::{Linked, Role};
use crate::json;

/// Bytes of an alert's id; 16 are unique for all practical purposes.
const ID_BYTES: usize = 16;

/// How the matches of one correlation are written.
#[derive(Clone, Debug)]
pub struct Form {
    /// Id of the correlation.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Its level, as Sigma writes it.
    pub level: &'static str,
    /// Whether its matches are alerts, and not just hits of other correlations.
    pub is_alert: bool,
    /// What the correlation is for.
    pub role: Role,
    rule: Box<str>,
    kind: &'static str,
    timespan_ms: i64,
    /// Names of the group's parts.
    names: Vec<String>,
    /// The canonical field of each, if it has one.
    canonical: Vec<Option<String>>,
    /// `,"sources":[..]`, if it is known what feeds it.
    sources: Box<str>,
}

impl Form {
    /// For a correlation; `canonical` are the fields of its group where they have a canonical name.
    pub fn new(linked: &Linked, canonical: Vec<Option<String>>) -> Self {
        let correlation = &linked.correlation;
        Self {
            id: correlation.id.clone(),
            title: correlation.title.clone(),
            level: linked.level.as_str(),
            is_alert: linked.is_alert,
            role: linked.role,
            rule: Self::rule(linked),
            kind: correlation.kind.as_str(),
            timespan_ms: correlation.timespan_ms,
            names: correlation.group_by.iter().map(|name| name.text.clone()).collect(),
            canonical,
            sources: Box::default(),
        }
    }

    /// The same for one that is fed by some sources.
    #[must_use]
    pub fn fed_by(self, sources: &BTreeSet<String>) -> Self {
        Self { sources: format!(",\"sources\":{}", serde_json::json!(sources)).into(), ..self }
    }

    /// A correlation as alerts name their rule.
    pub fn rule(linked: &Linked) -> Box<str> {
        let correlation = &linked.correlation;
        let rule = serde_json::json!({
            "id": correlation.id, "title": correlation.title, "level": linked.level.as_str(), "tags": correlation.tags,
            "author": correlation.author, "references": correlation.references, "hash": correlation.hash,
        });
        rule.to_string().into()
    }

    /// Appends the alert.
    pub fn write(&self, fired: &Fired, out: &mut Vec<u8>) {
        let evidence = Evidence::read(&fired.carry).filter(|_| self.role == Role::Deduplication);
        out.extend_from_slice(b"{\"@timestamp\":\"");
        clock::write_rfc3339(evidence.map_or(fired.time_ms, |evidence| evidence.time_ms), out);
        out.extend_from_slice(b"\",\"message\":");
        json::write_string(self.message(fired).as_bytes(), out);
        for (name, part) in self.canonical.iter().zip(parts(&fired.key)) {
            let (Some(name), Part::Value(value)) = (name, part) else { continue };
            out.push(b',');
            json::write_string(name.as_bytes(), out);
            out.push(b':');
            json::write_string(value, out);
        }
        out.extend_from_slice(b",\"hydrant\":{\"rule\":");
        out.extend_from_slice(self.rule.as_bytes());
        out.extend_from_slice(format!(",\"alert_id\":\"{}\"", self.alert_id(fired)).as_bytes());
        match evidence {
            None => {
                out.extend_from_slice(b",\"correlation\":");
                self.write_details(fired, out);
            }
            Some(evidence) => {
                out.extend_from_slice(b",\"deduplication\":{");
                self.write_group(fired, out);
                out.extend_from_slice(format!(",\"window_ms\":{},\"suppressed\":{}}}", self.timespan_ms, fired.suppressed).as_bytes());
                out.extend_from_slice(b",\"evidence\":");
                evidence.write(fired.position, out);
            }
        }
        let (key, time_ms, is_alert) = (hex(&fired.key), fired.time_ms, self.is_alert);
        out.extend_from_slice(format!(",\"match\":{{\"key\":\"{key}\",\"time_ms\":{time_ms},\"is_alert\":{is_alert}}}}}}}").as_bytes());
    }

    /// Appends what was found, as a JSON object.
    pub fn write_details(&self, fired: &Fired, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{{\"type\":\"{}\",", self.kind).as_bytes());
        self.write_group(fired, out);
        out.extend_from_slice(format!(",\"value\":{},\"timespan_ms\":{},\"window_start\":\"", fired.measure, self.timespan_ms).as_bytes());
        // Both limits belong to the window.
        clock::write_rfc3339(fired.time_ms.saturating_sub(self.timespan_ms).saturating_add(1), out);
        out.extend_from_slice(b"\",\"window_end\":\"");
        clock::write_rfc3339(fired.time_ms, out);
        out.extend_from_slice(b"\",\"sample\":[");
        for (index, position) in fired.sample.iter().enumerate() {
            out.extend_from_slice(format!("{}\"{position}\"", if index > 0 { "," } else { "" }).as_bytes());
        }
        out.push(b']');
        out.extend_from_slice(self.sources.as_bytes());
        out.push(b'}');
    }

    /// Appends `"group":{..}`.
    fn write_group(&self, fired: &Fired, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"group\":{");
        for (index, (name, part)) in self.names.iter().zip(parts(&fired.key)).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            json::write_string(name.as_bytes(), out);
            out.push(b':');
            match part {
                Part::Value(value) => json::write_string(value, out),
                Part::Digest(hash) => json::write_string(digest_text(hash).as_bytes(), out),
                Part::Absent => out.extend_from_slice(b"null"),
            }
        }
        out.push(b'}');
    }

    /// The same for the same match, whenever it is found.
    pub fn alert_id(&self, fired: &Fired) -> String {
        let mut context = Context::new(&SHA256);
        context.update(&(self.id.len() as u64).to_be_bytes());
        context.update(self.id.as_bytes());
        context.update(&fired.position.epoch.to_be_bytes());
        context.update(&fired.position.sequence.to_be_bytes());
        context.update(&fired.key);
        hex(context.finish().as_ref().get(..ID_BYTES).unwrap_or_default())
    }

    /// One line for people.
    fn message(&self, fired: &Fired) -> String {
        let mut text = match self.role {
            Role::Deduplication => self.title.clone(),
            _ => format!("{}: {} {} in {} s", self.title, self.kind, fired.measure, self.timespan_ms / 1_000),
        };
        for (name, part) in self.names.iter().zip(parts(&fired.key)) {
            let value = match part {
                Part::Value(value) => String::from_utf8_lossy(value).into_owned(),
                Part::Digest(hash) => digest_text(hash),
                Part::Absent => continue,
            };
            // Writing to a String cannot fail.
            let _ = write!(text, ", {name} {value}");
        }
        text
    }
}

/// What a frame tells the next run.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// A match that was found.
    Match(Match),
    /// Everything up to this time was done with, and its matches are in the journal.
    Reached(i64),
}

/// A match that an earlier run has found.
#[derive(Debug, PartialEq, Eq)]
pub struct Match {
    /// Id of the correlation.
    pub rule: String,
    /// The group.
    pub key: Vec<u8>,
    /// When it was complete in event time.
    pub time_ms: i64,
    /// Whether it is an alert.
    pub is_alert: bool,
}

#[derive(serde::Deserialize)]
struct Frame {
    hydrant: Inside,
}

#[derive(serde::Deserialize)]
struct Inside {
    rule: Option<Rule>,
    r#match: Option<Found>,
    reached_ms: Option<i64>,
}

#[derive(serde::Deserialize)]
struct Rule {
    id: String,
}

#[derive(serde::Deserialize)]
struct Found {
    key: String,
    time_ms: i64,
    is_alert: bool,
}

/// Appends a frame that tells how far everything has come.
pub fn write_reached(reached_ms: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"hydrant\":{{\"reached_ms\":{reached_ms}}}}}").as_bytes());
}

impl Told {
    /// Reads a frame. Alerts of versions before this tell nothing.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let Inside { rule, r#match, reached_ms } = serde_json::from_slice::<Frame>(frame).ok()?.hydrant;
        let (Some(rule), Some(Found { key, time_ms, is_alert })) = (rule, r#match) else { return reached_ms.map(Self::Reached) };
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let key = key.as_bytes().chunks(2).map(byte).collect::<Option<Vec<u8>>>()?;
        Some(Self::Match(Match { rule: rule.id, key, time_ms, is_alert }))
    }
}

fn digest_text(hash: &[u8]) -> String {
    format!("sha256:{}", hex(hash))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_next_run_is_told_is_read_back_and_older_alerts_tell_nothing() {
        let mut frame = Vec::new();
        write_reached(-5, &mut frame);
        assert_eq!(Told::read(&frame), Some(Told::Reached(-5)));
        let frame = br#"{"message":"m","hydrant":{"rule":{"id":"r","title":"t"},"match":{"key":"00ff","time_ms":7,"is_alert":false}}}"#;
        let found = Match { rule: "r".into(), key: vec![0, 255], time_ms: 7, is_alert: false };
        assert_eq!(Told::read(frame), Some(Told::Match(found)));
        for other in [
            r#"{"hydrant":{"rule":{"id":"r"},"alert_id":"1"}}"#,
            r#"{"hydrant":{"rule":{"id":"r"},"match":{"key":"é","time_ms":7,"is_alert":true}}}"#,
            "x",
        ] {
            assert_eq!(Told::read(other.as_bytes()), None, "{other}");
        }
    }
}
