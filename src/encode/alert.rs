//! What an alert says, read from its row: what all who render alerts begin with.
//!
//! In: the row of an alert, the JSON of its rule and what else is known of it. Out: an [`Alert`]. There are two kinds.
//! The alert of a rule is about the event that its row is a copy of. An alert that Hydrant makes itself (a correlation, the
//! health of a source) says all by itself, in a frame of its own; the event that a deduplicated one is about is in there too.
//!
//! MITRE ATT&CK: tags of Sigma rules (`attack.initial-access`, `attack.t1110.001`; Sigma tags appendix 2.1.0). The tactics are
//! those of ATT&CK v19 for enterprises, and `defense-evasion` of the versions before. Sigma does not say which tactic a
//! technique is meant for, so neither do we, unless there is but one.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

use crate::encode::body::{Context, details_field};
use crate::event::{Event, Fields, Kind, Position, SlotId, Value};
use crate::json;

/// The slot in which an alert has what its rule matched: a JSON array of objects of a field and its value.
pub const MATCHED_FIELD: &str = "%hydrant.matched";

/// What renderers of alerts want of events that rules look at, beside what these read: who did what to whom. Few, because
/// every event pays for them.
pub const WANTED: &[&str] = &[
    MATCHED_FIELD,
    "destination.ip",
    "destination.port",
    "host.hostname",
    "network.transport",
    "observer.name",
    "source.ip",
    "source.port",
    "source.user.name",
    "url.original",
    "user.name",
];

/// What an alert looks like where it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertForm {
    /// As an event with ECS names.
    Flat,
    /// An OCSF Detection Finding.
    #[default]
    Ocsf,
}

impl AlertForm {
    /// What it wants of events ([`WANTED`]).
    pub fn wants(self) -> &'static [&'static str] {
        match self {
            Self::Flat => &[],
            Self::Ocsf => WANTED,
        }
    }
}

/// A rule as alerts name it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rule<'a> {
    /// Its id.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// What it detects.
    #[serde(borrow)]
    pub title: Cow<'a, str>,
    /// How bad that is, as Sigma writes it.
    #[serde(borrow)]
    pub level: Cow<'a, str>,
    /// Its tags.
    #[serde(borrow)]
    pub tags: Vec<Cow<'a, str>>,
    /// Hash of its text.
    #[serde(borrow)]
    pub hash: Cow<'a, str>,
}

/// What else is known of a rule, as long as it is in the configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Notes<'a> {
    /// The long text.
    #[serde(borrow)]
    pub description: Cow<'a, str>,
    /// When it was changed last, or written.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    /// The events it is for.
    #[serde(borrow)]
    pub category: Cow<'a, str>,
    /// Where the idea comes from.
    #[serde(borrow)]
    pub references: Vec<Cow<'a, str>>,
    /// What else may hit.
    #[serde(borrow)]
    pub falsepositives: Vec<Cow<'a, str>>,
}

/// The event that an alert is about which is not a copy of its row.
#[derive(Debug, Deserialize)]
pub struct Evidence {
    /// The frame.
    #[serde(default)]
    pub raw: String,
    /// Where it stands in the journal.
    #[serde(default)]
    pub position: String,
    #[serde(default)]
    decoder: String,
}

/// An alert.
#[derive(Debug)]
pub struct Alert<'a> {
    /// Its id: the same whenever it is made of the same events, so receivers can tell a repetition.
    pub id: Cow<'a, str>,
    /// Its rule.
    pub rule: Rule<'a>,
    /// What else is known of that.
    pub notes: Notes<'a>,
    /// One line for people.
    pub message: Cow<'a, str>,
    /// What a rule matched: a JSON array.
    pub matched: Option<&'a [u8]>,
    /// What an alert that Hydrant makes itself has found.
    pub details: Json,
    /// The event it is about, if that is not the row's.
    pub evidence: Option<Evidence>,
    /// Name of the decoder of the event it is about; empty if it is about none, or was made by a version before this.
    pub decoder: Cow<'a, str>,
    /// Whether the row is a copy of the event it is about.
    pub is_of_event: bool,
}

/// Reads alerts of one decoder's events.
#[derive(Clone, Debug)]
pub struct Reader {
    rules: Arc<[Box<str>]>,
    notes: Arc<[Box<str>]>,
    matched: Option<SlotId>,
    decoder: &'static str,
    own: Option<OwnSlots>,
}

/// Where alerts that Hydrant makes itself say what they say.
#[derive(Clone, Copy, Debug)]
struct OwnSlots {
    rule: Option<SlotId>,
    id: Option<SlotId>,
    message: Option<SlotId>,
    details: Option<SlotId>,
    evidence: Option<SlotId>,
}

impl Reader {
    /// For the events of a decoder.
    pub fn new(context: &Context) -> Self {
        let find = |key: &str| context.fields.find(&details_field(key));
        let own = context.details.map(|details| OwnSlots {
            rule: find("rule"),
            id: find("alert_id"),
            message: context.fields.find("message"),
            details: find(details),
            evidence: find("evidence"),
        });
        let matched = context.fields.find(MATCHED_FIELD);
        Self { rules: context.rules.clone(), notes: context.notes.clone(), matched, decoder: context.decoder, own }
    }

    /// Reads the alert in a row; `position` is that of its frame.
    pub fn read<'a>(&'a self, event: Event<'a>, position: Position) -> Alert<'a> {
        let notes = by_index(&self.notes, event);
        let Some(own) = self.own else {
            let rule: Rule<'a> = by_index(&self.rules, event);
            let id = format!("{position}:{}", event.alert.unwrap_or_default()).into();
            let matched = match self.matched.map(|slot| event.value(slot)) {
                Some(Value::Array(matched)) => Some(matched),
                _ => None,
            };
            let message = rule.title.clone();
            let (details, evidence, decoder) = (Json::Null, None, self.decoder.into());
            return Alert { id, rule, notes, message, matched, details, evidence, decoder, is_of_event: true };
        };
        let value = |slot: Option<SlotId>| slot.map_or(Value::Missing, |slot| event.value(slot));
        let text = |slot| scalar(value(slot)).map(lossy).unwrap_or_default();
        let evidence: Option<Evidence> = object(value(own.evidence)).and_then(|json| serde_json::from_slice(json).ok());
        Alert {
            id: text(own.id),
            rule: object(value(own.rule)).and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default(),
            notes,
            message: text(own.message),
            matched: None,
            details: object(value(own.details)).and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default(),
            decoder: evidence.as_ref().map_or_else(Cow::default, |evidence| evidence.decoder.clone().into()),
            evidence,
            is_of_event: false,
        }
    }
}

/// Where the events come from that alerts are about.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The source of a decoder's events; of alerts that Hydrant makes itself what it calls them.
    own: Box<str>,
    /// Where one of those names the source of its event, or those that feed it.
    named: Vec<SlotId>,
}

impl Sources {
    /// What it reads in alerts that Hydrant makes itself; `details` is the key of what was found.
    pub fn fields(details: &str) -> [String; 3] {
        [details_field("evidence.source"), details_field(&format!("{details}.source")), details_field(&format!("{details}.sources"))]
    }

    /// For the events of a decoder.
    pub fn new(context: &Context) -> Self {
        let fields = context.details.map(Self::fields);
        let named = fields.iter().flatten().filter_map(|name| context.fields.find(name)).collect();
        Self { own: context.source.as_str().into(), named }
    }

    /// All of them, at least one.
    pub fn all<'a>(&'a self, event: Event<'a>) -> Vec<Cow<'a, str>> {
        let named: Vec<_> = self.named.iter().flat_map(|slot| texts(event.value(*slot))).map(lossy).collect();
        if named.is_empty() { vec![Cow::Borrowed(&*self.own)] } else { named }
    }

    /// The only one; if there are several, what Hydrant calls the alert.
    pub fn one<'a>(&'a self, event: Event<'a>) -> Cow<'a, str> {
        if self.named.is_empty() {
            return Cow::Borrowed(&self.own);
        }
        <[_; 1]>::try_from(self.all(event)).map_or(Cow::Borrowed(&self.own), |[one]| one)
    }
}

fn by_index<'a, T: Deserialize<'a> + Default>(list: &'a [Box<str>], event: Event<'_>) -> T {
    let text = event.alert.and_then(|rule| list.get(rule as usize));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn object(value: Value<'_>) -> Option<&[u8]> {
    if let Value::Object(json) = value { Some(json) } else { None }
}

fn lossy(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
    }
}

/// The text of a scalar that is not empty; of a list that of its first member.
pub fn scalar(value: Value<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::Text(bytes) => text(Kind::Text, bytes),
        Value::Number(bytes) => text(Kind::Number, bytes),
        Value::Escaped(bytes) => text(Kind::Escaped, bytes),
        Value::Array(array) => json::elements(array).next().and_then(|(kind, bytes)| text(kind, bytes)),
        Value::Missing | Value::Null | Value::Boolean(_) | Value::Object(_) => None,
    }
}

/// The texts of a list; of a scalar its own.
fn texts(value: Value<'_>) -> Vec<Cow<'_, [u8]>> {
    match value {
        Value::Array(array) => json::elements(array).filter_map(|(kind, bytes)| text(kind, bytes)).collect(),
        other => scalar(other).into_iter().collect(),
    }
}

fn text(kind: Kind, bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    match kind {
        Kind::Text | Kind::Number if !bytes.is_empty() => Some(bytes.into()),
        Kind::Escaped => {
            let mut text = Vec::with_capacity(bytes.len());
            json::unescape(bytes, &mut text);
            Some(text.into())
        }
        _ => None,
    }
}

/// Canonical fields of events by name, for those who want a few of them.
#[derive(Clone, Debug, Default)]
pub struct Named(Vec<(&'static str, SlotId)>);

impl Named {
    /// Those of `names` that there are.
    pub fn new(names: &[&'static str], fields: &Fields) -> Self {
        let mut found: Vec<_> = names.iter().filter_map(|name| Some((*name, fields.find(name)?))).collect();
        found.sort_unstable();
        Self(found)
    }

    /// The value of one as [`scalar`] text.
    pub fn text<'e>(&self, event: Event<'e>, name: &str) -> Option<Cow<'e, [u8]>> {
        let index = self.0.binary_search_by_key(&name, |(name, _)| name).ok()?;
        self.0.get(index).and_then(|(_, slot)| scalar(event.value(*slot)))
    }

    /// The first of some that there is.
    pub fn first<'e>(&self, event: Event<'e>, names: &[&str]) -> Option<Cow<'e, [u8]>> {
        names.iter().find_map(|name| self.text(event, name))
    }

    /// The text of one that is an address.
    pub fn address<'e>(&self, event: Event<'e>, name: &str) -> Option<Cow<'e, [u8]>> {
        let text = self.text(event, name)?;
        std::str::from_utf8(&text).ok()?.parse::<std::net::IpAddr>().ok().map(|_| text)
    }

    /// The value of one that is a whole number of some range.
    pub fn whole(&self, event: Event<'_>, name: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let number = std::str::from_utf8(&self.text(event, name)?).ok()?.parse().ok()?;
        range.contains(&number).then_some(number)
    }
}

/// Sigma's levels in their order; a level's place is OCSF's `severity_id` less one.
const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];

/// OCSF's `severity_id` of a level, 0 if it is none.
pub fn severity(level: &str) -> usize {
    LEVELS.iter().position(|known| *known == level).map_or(0, |place| place + 1)
}

/// A score from 0 to 100 for those who add up scores; our own scale.
pub fn risk_score(level: &str) -> usize {
    [0, 10, 25, 50, 75, 100].get(severity(level)).copied().unwrap_or_default()
}

/// A tactic of ATT&CK.
#[derive(Debug, PartialEq, Eq)]
pub struct Tactic {
    /// As Sigma's tags have it.
    pub tag: &'static str,
    /// As people write it.
    pub name: &'static str,
    /// Its id.
    pub uid: &'static str,
}

const fn tactic(tag: &'static str, name: &'static str, uid: &'static str) -> Tactic {
    Tactic { tag, name, uid }
}

/// In the order of the matrix. `TA0005` was called Defense Evasion up to v18.
static TACTICS: [Tactic; 16] = [
    tactic("reconnaissance", "Reconnaissance", "TA0043"),
    tactic("resource-development", "Resource Development", "TA0042"),
    tactic("initial-access", "Initial Access", "TA0001"),
    tactic("execution", "Execution", "TA0002"),
    tactic("persistence", "Persistence", "TA0003"),
    tactic("privilege-escalation", "Privilege Escalation", "TA0004"),
    tactic("stealth", "Stealth", "TA0005"),
    tactic("defense-evasion", "Defense Evasion", "TA0005"),
    tactic("defense-impairment", "Defense Impairment", "TA0112"),
    tactic("credential-access", "Credential Access", "TA0006"),
    tactic("discovery", "Discovery", "TA0007"),
    tactic("lateral-movement", "Lateral Movement", "TA0008"),
    tactic("collection", "Collection", "TA0009"),
    tactic("command-and-control", "Command and Control", "TA0011"),
    tactic("exfiltration", "Exfiltration", "TA0010"),
    tactic("impact", "Impact", "TA0040"),
];

/// What the tags of a rule say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attack {
    /// The tactics.
    pub tactics: Vec<&'static Tactic>,
    /// Ids of techniques and sub-techniques, `T1110.001`.
    pub techniques: Vec<String>,
    /// Tags that are neither.
    pub others: Vec<String>,
}

impl Attack {
    /// Reads tags.
    pub fn new<'t>(tags: impl IntoIterator<Item = impl AsRef<str> + 't>) -> Self {
        let mut attack = Self::default();
        for tag in tags {
            let tag = tag.as_ref();
            let lower = tag.to_ascii_lowercase().replace('_', "-");
            let word = lower.strip_prefix("attack.").unwrap_or_default();
            if let Some(tactic) = TACTICS.iter().find(|tactic| tactic.tag == word) {
                attack.tactics.push(tactic);
            } else if is_technique(word) {
                attack.techniques.push(word.to_ascii_uppercase());
            } else {
                attack.others.push(tag.to_owned());
            }
        }
        attack
    }
}

/// `t1110` or `t1110.001`.
fn is_technique(word: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    word.strip_prefix('t').is_some_and(|id| match id.split_once('.') {
        Some((technique, sub)) => digits(technique, 4) && digits(sub, 3),
        None => digits(id, 4),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_tactics_techniques_or_others() {
        let tags = ["attack.initial-access", "attack.Command_and_Control", "attack.t1110.001", "attack.T1190"];
        let others = ["attack.g0007", "attack.t12", "attack.t1110.1", "cve.2021-44228", "attack.", ""];
        let attack = Attack::new(tags.into_iter().chain(others));
        let tactics: Vec<&str> = attack.tactics.iter().map(|tactic| tactic.uid).collect();
        assert_eq!(tactics, ["TA0001", "TA0011"]);
        assert_eq!(attack.techniques, ["T1110.001", "T1190"]);
        assert_eq!(attack.others, others);
    }

    #[test]
    fn levels_have_the_severities_of_the_schema() {
        let levels = ["informational", "low", "medium", "high", "critical", "bad", ""];
        assert_eq!(levels.map(severity), [1, 2, 3, 4, 5, 0, 0]);
    }

    #[test]
    fn a_list_counts_by_its_first_member_and_what_is_no_scalar_not_at_all() {
        let text = |value| scalar(value).map(|text| String::from_utf8(text.into_owned()).unwrap());
        assert_eq!(text(Value::Array(br#"[ "a\u0062", "c"]"#)).as_deref(), Some("ab"));
        assert_eq!(text(Value::Array(b"[7,8]")).as_deref(), Some("7"));
        for value in [Value::Missing, Value::Null, Value::Boolean(true), Value::Object(b"{}"), Value::Array(b"[]"), Value::Text(b"")] {
            assert_eq!(text(value), None, "{value:?}");
        }
    }
}
