//! An alert as people are told of it: `alert -> one small JSON object -> what is said about many of them`.
//!
//! ```json
//! {"id":"1:40:0","time":"2026-11-21T06:00:00.123Z","rule":{"id":"..","title":"..","level":"high","references":[..]},
//!  "source":"fw","message":"the line","fields":{"source.ip":"10.1.2.3"}}
//! ```
//!
//! A batch for people is a JSON array of these. A [`Digest`] is what one message says of some batches: how many alerts, of
//! which rules and levels, and the newest of them. The message and the fields are cut, so that an alert whose event is
//! a megabyte is told like any other; the whole of it is where the alerts are stored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::clock;
use crate::encode::alert::Sources;
use crate::encode::body::{Context, OWN_ALERT_FIELDS};
use crate::encode::rows;
use crate::event::{Event, Position, SlotId, Value};
use crate::json;

/// Bytes of a message: what a person reads before opening the SIEM.
const MESSAGE_BYTES_MAX: usize = 1000;

/// Bytes of a field.
const FIELD_BYTES_MAX: usize = 200;

/// Fields of an alert, at most.
pub const FIELDS_MAX: usize = 20;

/// What is told of an alert if the configuration names no fields: who did what to whom, and where it was seen.
pub const DEFAULT_FIELDS: [&str; 8] =
    ["source.ip", "source.user.name", "user.name", "destination.ip", "destination.port", "event.action", "url.original", "host.hostname"];

/// What a rule says of itself in its alerts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// What it detects.
    pub title: String,
    /// How bad that is, in Sigma's words.
    pub level: String,
    /// Tags such as `attack.t1110`.
    pub tags: Vec<String>,
    /// Where to read on; the addresses among them.
    pub references: Vec<String>,
}

/// Rule and id of alerts, whether a rule of the configuration made them or Hydrant itself did.
#[derive(Clone, Debug)]
pub struct Identity {
    rules: Arc<[Box<str>]>,
    rule: Option<SlotId>,
    id: Option<SlotId>,
}

impl Identity {
    /// For one decoder's events.
    pub fn new(context: &Context) -> Self {
        let own = |name: &str| context.fields.find(name).filter(|_| context.details.is_some());
        let [rule, _, _, _, id] = OWN_ALERT_FIELDS;
        Self { rules: context.rules.clone(), rule: own(rule), id: own(id) }
    }

    /// The rule as a JSON object. An event that no rule has found, which a sink for people gets only from an older
    /// configuration, is one of level `informational`.
    pub fn rule_json<'a>(&'a self, event: Event<'a>) -> &'a [u8] {
        match (self.rule.map(|slot| event.value(slot)), event.alert) {
            (Some(Value::Object(rule)), _) => rule,
            (_, Some(rule)) => self.rules.get(rule as usize).map_or(b"{}", |rule| rule.as_bytes()),
            (_, None) => br#"{"title":"Event","level":"informational"}"#,
        }
    }

    /// The rule, read.
    pub fn rule(&self, event: Event<'_>) -> Rule {
        serde_json::from_slice(self.rule_json(event)).unwrap_or_default()
    }

    /// The alert's id.
    pub fn id<'a>(&self, event: Event<'a>, position: Position) -> Cow<'a, str> {
        match (self.id.map(|slot| event.value(slot)), event.alert) {
            (Some(Value::Text(id)), _) => String::from_utf8_lossy(id),
            (_, Some(rule)) => format!("{position}:{rule}").into(),
            (_, None) => position.to_string().into(),
        }
    }
}

/// Writes alerts for people.
pub struct Notices {
    identity: Identity,
    /// Of what has no frame of its own.
    message: Option<SlotId>,
    sources: Sources,
    fields: Vec<(String, SlotId)>,
}

impl Notices {
    /// A writer that names these fields, where an alert has them.
    pub fn new(fields: &[String], context: &Context) -> Self {
        let find = |name: &String| Some((name.clone(), context.fields.find(name)?));
        Self {
            identity: Identity::new(context),
            message: context.fields.find("message").filter(|_| context.details.is_some()),
            sources: Sources::new(context),
            fields: fields.iter().filter_map(find).collect(),
        }
    }

    /// Appends an alert.
    pub fn write(&self, event: Event<'_>, position: Position, out: &mut Vec<u8>) {
        let string = |key: &str, text: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(key.as_bytes());
            json::write_string(text, out);
        };
        string("{\"id\":", self.identity.id(event, position).as_bytes(), out);
        out.extend_from_slice(b",\"time\":\"");
        clock::write_rfc3339(event.time_ms, out);
        out.extend_from_slice(b"\",\"rule\":");
        json::write_checked(self.identity.rule_json(event), false, out);
        string(",\"source\":", self.sources.one(event).as_bytes(), out);
        let message = match self.message.map(|slot| event.value(slot)) {
            Some(Value::Text(message)) => message,
            _ => event.raw(),
        };
        string(",\"message\":", &cut(message, MESSAGE_BYTES_MAX), out);
        out.extend_from_slice(b",\"fields\":{");
        let mut separator = "";
        for (name, slot) in &self.fields {
            let Some(value) = rows::text(event.value(*slot)) else { continue };
            out.extend_from_slice(separator.as_bytes());
            string("", name.as_bytes(), out);
            string(":", &cut(&value, FIELD_BYTES_MAX), out);
            separator = ",";
        }
        out.extend_from_slice(b"}}");
    }
}

/// What stands behind a text that was cut.
const CUT: &str = " ...";

/// At most so many bytes of UTF-8 and a mark behind them; a character is not cut in two.
fn cut(text: &[u8], bytes_max: usize) -> Cow<'_, [u8]> {
    if text.len() <= bytes_max {
        return text.into();
    }
    let is_inside = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (bytes_max.saturating_sub(3)..=bytes_max).rev().find(|at| !is_inside(at)).unwrap_or(bytes_max);
    [text.get(..end).unwrap_or_default(), CUT.as_bytes()].concat().into()
}

/// At most so many characters, a mark behind them included.
pub fn shorten(text: &str, characters_max: usize) -> Cow<'_, str> {
    if text.chars().count() <= characters_max {
        return text.into();
    }
    let kept: String = text.chars().take(characters_max.saturating_sub(CUT.len())).collect();
    format!("{kept}{CUT}").into()
}

/// An alert, read.
#[derive(Clone, Debug, Deserialize)]
pub struct Notice {
    /// Its id: the same whenever it is told.
    pub id: String,
    /// When, RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// The rule.
    pub rule: Rule,
    /// The source of the event.
    pub source: String,
    /// The event's line, or what Hydrant says itself.
    pub message: String,
    /// Fields by name.
    pub fields: BTreeMap<String, String>,
}

/// Sigma's levels, the worst first.
pub const LEVELS: [&str; 5] = ["critical", "high", "medium", "low", "informational"];

/// What one message says of some alerts.
#[derive(Debug)]
pub struct Digest {
    /// How many.
    pub count: usize,
    /// The worst of their levels.
    pub level: &'static str,
    /// How many of each level there are, the worst first.
    pub levels: Vec<(&'static str, usize)>,
    /// Their rules and how many of each there are, most first.
    pub rules: Vec<(Rule, usize)>,
    /// The newest of them, newest first.
    pub newest: Vec<Notice>,
}

impl Digest {
    /// Reads JSON arrays of alerts, of which the newest few are kept whole.
    ///
    /// # Errors
    /// Bytes that [`Notices`] did not write.
    pub fn read(bodies: &[Bytes], newest_max: usize) -> Result<Self, serde_json::Error> {
        let mut notices: Vec<Notice> = Vec::new();
        for body in bodies {
            notices.append(&mut serde_json::from_slice(body)?);
        }
        let level_of = |notice: &Notice| LEVELS.iter().position(|level| *level == notice.rule.level).unwrap_or(LEVELS.len() - 1);
        let counts = notices.iter().fold([0; LEVELS.len()], |mut counts, notice| {
            counts[level_of(notice)] += 1;
            counts
        });
        let levels: Vec<(&str, usize)> = LEVELS.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
        let mut rules: BTreeMap<&str, (&Rule, usize)> = BTreeMap::new();
        notices.iter().for_each(|notice| rules.entry(&notice.rule.id).or_insert((&notice.rule, 0)).1 += 1);
        let mut rules: Vec<(Rule, usize)> = rules.into_values().map(|(rule, count)| (rule.clone(), count)).collect();
        rules.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let count = notices.len();
        // RFC 3339 in UTC sorts as text.
        notices.sort_by(|a, b| b.time.cmp(&a.time));
        notices.truncate(newest_max);
        let level = levels.first().map_or("informational", |(level, _)| level);
        Ok(Self { count, level, levels, rules, newest: notices })
    }

    /// One line: how many alerts of what.
    pub fn headline(&self) -> String {
        let title = self.rules.first().map_or("", |(rule, _)| &rule.title);
        match (self.count, self.rules.len()) {
            (1, _) => title.to_owned(),
            (count, 1) => format!("{title} ({count} alerts)"),
            (count, rules) => format!("{count} alerts of {rules} rules, most of {title}"),
        }
    }

    /// Addresses to read on at, of the rules with most alerts first, each once.
    pub fn links(&self, links_max: usize) -> Vec<&str> {
        let mut links: Vec<&str> = Vec::new();
        for link in self.rules.iter().flat_map(|(rule, _)| &rule.references) {
            let is_address = link.starts_with("https://") || link.starts_with("http://");
            if is_address && links.len() < links_max && !links.contains(&link.as_str()) {
                links.push(link);
            }
        }
        links
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters_and_say_so() {
        assert_eq!(&*cut("äöü".as_bytes(), 6), "äöü".as_bytes());
        assert_eq!(&*cut("äöü".as_bytes(), 5), "äö ...".as_bytes());
        assert_eq!(&*cut("äöü".as_bytes(), 4), "äö ...".as_bytes());
        assert_eq!(&*cut(&[0xbf; 9], 4), [[0xbf; 4].as_slice(), b" ..."].concat(), "what is no UTF-8 is cut anywhere");
        assert_eq!((&*shorten("äöüäöü", 6), &*shorten("äöüäöüß", 6)), ("äöüäöü", "äö ..."));
    }

    #[test]
    fn a_digest_counts_rules_and_levels_and_keeps_the_newest() {
        let alert = |rule: &str, level: &str, second: usize| {
            format!(
                r#"{{"id":"{rule}{second}","time":"2026-11-21T06:00:{second:02}.000Z","rule":{{"id":"{rule}","title":"T{rule}","level":"{level}","references":["https://{rule}","book"],"hash":"x"}},"source":"fw","message":"m","fields":{{}}}}"#
            )
        };
        let body = |alerts: &[String]| Bytes::from(format!("[{}]", alerts.join(",")));
        let bodies = [body(&[alert("a", "low", 3), alert("b", "high", 9)]), body(&[alert("a", "low", 7), alert("c", "odd", 1)])];
        let digest = Digest::read(&bodies, 2).unwrap();
        assert_eq!((digest.count, digest.level), (4, "high"));
        assert_eq!(digest.levels, [("high", 1), ("low", 2), ("informational", 1)]);
        let rules: Vec<(&str, usize)> = digest.rules.iter().map(|(rule, count)| (rule.id.as_str(), *count)).collect();
        assert_eq!(rules, [("a", 2), ("b", 1), ("c", 1)]);
        assert_eq!(digest.newest.iter().map(|notice| notice.id.as_str()).collect::<Vec<_>>(), ["b9", "a7"]);
        assert_eq!(digest.headline(), "4 alerts of 3 rules, most of Ta");
        assert_eq!(digest.links(2), ["https://a", "https://b"]);
        assert_eq!(Digest::read(&[body(&[alert("a", "low", 3)])], 1).unwrap().headline(), "Ta");
        assert!(Digest::read(&[Bytes::from_static(b"[{}]")], 1).is_err());
    }
}
