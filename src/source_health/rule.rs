//! The built-in rules, and their alerts: JSON objects with `@timestamp`, `message`, `observer.ip` (the sender) and `hydrant`:
//! `rule`, `alert_id`, and under `source_health` what was found.
//!
//! That a condition is over is a rule of its own, of level `informational`: it can be routed, or left out, by its id. `episode`
//! is the same in both alerts, and it as well as `alert_id` are the same if an alert has to be made again after a crash.

use std::net::IpAddr;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::clock;

/// The key under which alerts say what was found.
pub const DETAILS: &str = "source_health";

/// What can be wrong with a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It used to send, and nothing comes.
    Silent,
    /// It sends much less than it used to.
    VolumeDrop,
    /// Its clock is off.
    ClockSkew,
    /// No decoder can read what it sends.
    Unreadable,
}

struct Rule {
    id: &'static str,
    title: &'static str,
    level: &'static str,
}

/// In the order of [`Condition::ALL`], then that of what is over.
const RULES: [Rule; 5] = [
    Rule { id: "85f067f6-3b9f-43b8-b898-b58da354d446", title: "Log Source Silent", level: "high" },
    Rule { id: "b13dfe85-85dd-42c7-823e-5b64dcba54ef", title: "Log Source Sends Less Than Usual", level: "medium" },
    Rule { id: "c8e784f9-13f4-4100-b7bb-5dcd81930dfa", title: "Log Source With a Wrong Clock", level: "low" },
    Rule { id: "7ef75f1a-5a3a-4133-8c4f-e55c3c2b968e", title: "Log Source Unreadable", level: "medium" },
    Rule { id: "d34d0c19-208e-4484-9b7a-37d182a23842", title: "Log Source Well Again", level: "informational" },
];

/// The ids of the rules; their alerts say them.
pub const RULE_IDS: [&str; RULES.len()] = [RULES[0].id, RULES[1].id, RULES[2].id, RULES[3].id, RULES[4].id];

impl Rule {
    fn json(&self) -> Value {
        json!({ "id": self.id, "title": self.title, "level": self.level, "tags": [] })
    }
}

/// The rules as alerts name them, in the order of [`RULE_IDS`].
pub fn rules() -> impl Iterator<Item = Box<str>> {
    RULES.iter().map(|rule| rule.json().to_string().into())
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Silent, Self::VolumeDrop, Self::ClockSkew, Self::Unreadable];

    /// Its name in alerts, metrics and the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::VolumeDrop => "volume_drop",
            Self::ClockSkew => "clock_skew",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A condition of a sender begins or is over.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) condition: Condition,
    pub(super) is_over: bool,
    /// When it began; ms.
    pub(super) since_ms: i64,
    /// The how manieth episode of this sender it is.
    pub(super) episode: u64,
    /// For people.
    pub(super) text: String,
    /// For programs.
    pub(super) figures: Value,
}

impl Change {
    fn rule(&self) -> &'static Rule {
        match self.condition {
            _ if self.is_over => &RULES[4],
            Condition::Silent => &RULES[0],
            Condition::VolumeDrop => &RULES[1],
            Condition::ClockSkew => &RULES[2],
            Condition::Unreadable => &RULES[3],
        }
    }

    pub(super) fn rule_id(&self) -> &'static str {
        self.rule().id
    }

    pub(super) fn title(&self) -> &'static str {
        self.rule().title
    }
}

/// Whom and when an alert is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) source: &'a str,
    /// By name; `-` is all of the source.
    pub(super) sender: &'a str,
    pub(super) at_ms: i64,
}

/// The alert.
pub(super) fn alert(subject: Subject<'_>, change: &Change) -> Vec<u8> {
    let Subject { source, sender, at_ms } = subject;
    let condition = change.condition.name();
    let state = if change.is_over { "over" } else { "begun" };
    let episode = id(&[source, sender, condition, &change.episode.to_string()]);
    let mut found = Map::new();
    for (key, value) in [("condition", condition), ("state", state), ("source", source), ("sender", sender), ("episode", &episode)] {
        found.insert(key.to_owned(), value.into());
    }
    found.insert("since".to_owned(), time(change.since_ms).into());
    found.extend(change.figures.as_object().cloned().unwrap_or_default());
    let who = if sender == "-" { format!("source {source}") } else { format!("{sender} of source {source}") };
    let mut alert = json!({
        "@timestamp": time(at_ms),
        "message": format!("{}: {who}: {}", change.title(), change.text),
        "hydrant": { "rule": change.rule().json(), "alert_id": id(&[&episode, state]), DETAILS: found },
    });
    if sender.parse::<IpAddr>().is_ok() {
        alert["observer.ip"] = sender.into();
    }
    alert.to_string().into_bytes()
}

/// A time as it is written everywhere.
pub(super) fn time(ms: i64) -> String {
    let mut text = Vec::new();
    clock::write_rfc3339(ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// 16 bytes of a hash, in hex; the parts cannot run into each other.
fn id(parts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
