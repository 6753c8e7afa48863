//! What becomes of the hits of a rule beyond the mark on their events: `rules and selectors -> shadow, one alert a window,
//! or an alert each`.
//!
//! A rule may say it itself, under a key at the top level that other tools ignore:
//!
//! ```yaml
//! hydrant:
//!   shadow: true                                      # mark and count, no alert
//!   deduplicate: { by: [source.ip], window: 1h }      # one alert for each value of the key in an hour
//! ```
//!
//! Deduplication is a correlation of one ([`deduplication`]): `event_count` of at least one by the key over the window. So it
//! has an owner among the shards, a bound on its memory, and outlives a restart, like any correlation. Unlike with those, an
//! event that lacks a part of the key still counts (the part is then `null`), and so does one that comes late.
//!
//! Nothing is decided here about an event: the plan asks, the shards do.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::sigma::correlation::{Base, Condition, Correlation, Decimal, FIELDS_MAX, Kind, Linked, Name, Operator, Role, Source};
use super::sigma::{LEVELS, Level, STATUSES, SigmaRule, Status};
use crate::config::{Content, Interval, Node, Section};
use crate::error::{Diagnostics, nearest};

/// The key of a rule.
pub const KEY: &str = "hydrant";

/// Longest window. State is held for each key so long, and the journal keeps alerts twice as long.
const WINDOW_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Shortest window: times of events are often whole seconds.
const WINDOW_MIN: Duration = Duration::from_secs(1);

/// What becomes of the hits of a rule. Whether it alerts at all is decided before: `informational` ones and those of
/// correlations do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Treatment {
    /// Each is an alert.
    #[default]
    Alert,
    /// They only mark their events.
    Shadow,
    /// The first one in a window is an alert.
    Deduplicate,
}

/// What a rule says of its own hits.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Own {
    /// Its hits only mark their events.
    pub shadow: bool,
    /// One alert for each key in a window.
    pub deduplicate: Option<Deduplication>,
}

/// One alert for each key in a window.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deduplication {
    /// The fields whose values are the key, as rules or ECS call them; none is one key for all events.
    pub by: Vec<String>,
    /// For how long there is no other alert with the same key.
    pub window: Interval,
}

impl Deduplication {
    /// Says what is wrong with it at its place.
    pub fn check(&self, place: &Section, diagnostics: &mut Diagnostics) {
        let at = |key: &str| place.child(key).unwrap_or_else(|| place.clone());
        if !(WINDOW_MIN..=WINDOW_MAX).contains(&self.window.0) {
            diagnostics.push(at("window").error("expected a time span of 1s to 7d").help("such as `1h`"));
        }
        if self.by.len() > FIELDS_MAX {
            diagnostics.push(at("by").error(format!("{} fields; at most {FIELDS_MAX} are a key", self.by.len())));
        }
        for (index, name) in self.by.iter().enumerate() {
            if name.is_empty() || self.by.iter().take(index).any(|other| other == name) {
                let message =
                    if name.is_empty() { "expected the name of a field".to_owned() } else { format!("`{name}` stands here twice") };
                diagnostics.push(at("by").error(message));
            }
        }
    }
}

/// What a rule says under [`KEY`].
///
/// # Errors
/// Unknown keys, wrong values.
pub fn read(rule: &SigmaRule) -> Result<Own, Diagnostics> {
    read_at(&rule.file, &rule.custom)
}

/// What a correlation says: only shadow has a meaning there.
///
/// # Errors
/// As [`read`].
pub fn read_correlation(correlation: &Correlation) -> Result<Own, Diagnostics> {
    let own = read_at(&correlation.file, &correlation.custom)?;
    match correlation.custom.entry(KEY).and_then(|node| node.entry("deduplicate")) {
        Some(node) if own.deduplicate.is_some() => {
            let place = Section::at(&correlation.file, "hydrant.deduplicate", node.clone());
            let help = "a group is quiet for a `timespan` after a match; a longer one, or fewer fields in `group-by`, means fewer alerts";
            Err(place.error("a correlation is not deduplicated").help(help).into())
        }
        _ => Ok(own),
    }
}

fn read_at(file: &Path, custom: &Node) -> Result<Own, Diagnostics> {
    let Some(node) = custom.entry(KEY) else { return Ok(Own::default()) };
    let section = Section::at(file, KEY, node.clone());
    if !matches!(node.content, Content::Mapping(_)) {
        let message = format!("expected a map, found {}", node.describe());
        return Err(section.error(message).help("hydrant: { deduplicate: { by: [source.ip], window: 1h } }").into());
    }
    let own: Own = section.read()?;
    let mut diagnostics = Diagnostics::new();
    if let (Some(deduplicate), Some(place)) = (&own.deduplicate, section.child("deduplicate")) {
        deduplicate.check(&place, &mut diagnostics);
    }
    diagnostics.into_result(own)
}

/// The correlation that a rule's deduplication is.
pub fn deduplication(rule: &SigmaRule, index: u32, how: &Deduplication) -> Linked {
    let name = |text: &String| Name { text: text.clone(), line: rule.line, column: 0 };
    let correlation = Correlation {
        id: rule.id.clone(),
        name: None,
        title: rule.title.clone(),
        level: Some(rule.level),
        status: rule.status,
        description: rule.description.clone(),
        author: rule.author.clone(),
        references: rule.references.clone(),
        tags: rule.tags.clone(),
        falsepositives: rule.falsepositives.clone(),
        kind: Kind::EventCount,
        rules: Vec::new(),
        group_by: how.by.iter().map(name).collect(),
        timespan_ms: i64::try_from(how.window.0.as_millis()).unwrap_or(i64::MAX),
        condition: Condition { criteria: vec![(Operator::Gte, Decimal::whole(1))], fields: Vec::new(), percentile: 0 },
        aliases: Vec::new(),
        generate: false,
        file: rule.file.clone(),
        line: rule.line,
        hash: rule.hash.clone(),
        custom: Node { line: rule.line, column: 0, content: Content::Sequence(Vec::new()) },
    };
    let base = Base { source: Source::Rule(index), group_by: how.by.clone(), fields: Vec::new() };
    Linked { correlation, bases: vec![base], level: rule.level, is_alert: true, role: Role::Deduplication }
}

/// What selectors look at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    id: &'a str,
    title: &'a str,
    level: Level,
    status: Option<Status>,
}

impl<'a> From<&'a SigmaRule> for Subject<'a> {
    fn from(rule: &'a SigmaRule) -> Self {
        Self { id: &rule.id, title: &rule.title, level: rule.level, status: rule.status }
    }
}

impl<'a> From<&'a Linked> for Subject<'a> {
    fn from(linked: &'a Linked) -> Self {
        let correlation = &linked.correlation;
        Self { id: &correlation.id, title: &correlation.title, level: linked.level, status: correlation.status }
    }
}

/// Which rules are meant: an id, a title, in which `*` stands for anything, `status:experimental` or `level:low`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Those of a level.
    Level(Level),
    /// An id, or a title with `*`.
    Named(String),
    /// Those of a status.
    Status(Status),
}

impl Selector {
    /// Reads one.
    ///
    /// # Errors
    /// A level or status that does not exist; what there is.
    pub fn parse(text: &str) -> Result<Self, String> {
        fn find<T: Copy>(what: &str, name: &str, table: impl Iterator<Item = (&'static str, T)> + Clone) -> Result<T, String> {
            let names = table.clone().map(|(known, _)| known);
            let near = nearest(name, names.clone()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let unknown = || format!("there is no {what} `{name}`; {near}one of: {}", names.collect::<Vec<_>>().join(", "));
            table.clone().find(|(known, _)| *known == name).map(|(_, value)| value).ok_or_else(unknown)
        }
        match text.split_once(':') {
            Some(("level", name)) => find("level", name.trim(), LEVELS.into_iter()).map(Self::Level),
            Some(("status", name)) => {
                let loaded = STATUSES.into_iter().filter_map(|(name, status)| Some((name, status?)));
                find("status", name.trim(), loaded).map(Self::Status)
            }
            _ if text.is_empty() => Err("expected an id, a title such as `Foo*`, `status:experimental` or `level:low`".to_owned()),
            _ => Ok(Self::Named(text.to_owned())),
        }
    }

    /// Whether it means this rule.
    pub fn fits<'a>(&self, subject: impl Into<Subject<'a>>) -> bool {
        let subject = subject.into();
        match self {
            Self::Level(level) => *level == subject.level,
            Self::Status(status) => Some(*status) == subject.status,
            Self::Named(name) => name == subject.id || is_like(subject.title, name),
        }
    }
}

/// Whether a text is like a pattern in which `*` stands for anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, behind)) = text.split_once(part) else { return false };
        text = behind;
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::sigma::{self, Placeholders};

    fn rule(more: &str) -> SigmaRule {
        let text = format!(
            "title: Web Scan Found\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\nstatus: experimental\nlevel: low\n\
             logsource: {{ category: firewall }}\ndetection:\n  s: {{ a: 1 }}\n  condition: s\n{more}"
        );
        let mut loaded = sigma::load(Path::new("r.yml"), &text, &Placeholders::new());
        assert_eq!(loaded.diagnostics.to_string(), "", "`hydrant` is a known key");
        loaded.rules.remove(0)
    }

    #[test]
    fn selectors_name_rules_by_id_title_status_and_level() {
        let rule = rule("");
        let fits = |text: &str| Selector::parse(text).unwrap().fits(&rule);
        for text in
            ["*", "Web*", "*Found", "Web*Found", "W*b*can*d", "Web Scan Found", "status:experimental", "level: low", rule.id.as_str()]
        {
            assert!(fits(text), "{text}");
        }
        for text in ["web*", "Web", "*Scan", "Web*Fount", "Web*Scan*Scan*", "Web Scan Found*x", "status:stable", "level:high", "5d8f"] {
            assert!(!fits(text), "{text}");
        }
        let refused = |text: &str| Selector::parse(text).unwrap_err();
        assert!(refused("level:hihg").starts_with("there is no level `hihg`; did you mean `high`? one of: informational, low"));
        assert!(refused("status:unsupported").contains("one of: stable, test, experimental, deprecated"));
        assert!(refused("").contains("expected an id"));
        assert_eq!(Selector::parse("AWS: Scan*"), Ok(Selector::Named("AWS: Scan*".into())), "titles may have a colon");
    }

    #[test]
    fn a_rule_says_it_itself_and_every_mistake_is_named_with_its_line() {
        let own = |text: &str| read(&rule(text)).map_err(|mistakes| mistakes.to_string());
        assert!(!own("").unwrap().shadow);
        assert!(own("hydrant: { shadow: true }\n").unwrap().shadow);
        let how = own("hydrant: { deduplicate: { by: [source.ip], window: 1h } }\n").unwrap().deduplicate.unwrap();
        assert_eq!((how.by, how.window.0.as_secs()), (vec!["source.ip".to_owned()], 3_600));
        for (text, expected) in [
            ("hydrant: { shado: true }\n", "r.yml:9:12: error: hydrant.shado: unknown key\n  help: did you mean `shadow`?"),
            ("hydrant: shadow\n", "r.yml:9:10: error: hydrant: expected a map, found `shadow`"),
            (
                "hydrant:\n  deduplicate: { by: [a, a, ''], window: 8d }\n",
                "r.yml:10:42: error: hydrant.deduplicate.window: expected a time span of 1s to 7d\n  help: such as `1h`\n\
                 r.yml:10:22: error: hydrant.deduplicate.by: `a` stands here twice\n\
                 r.yml:10:22: error: hydrant.deduplicate.by: expected the name of a field",
            ),
            ("hydrant: { deduplicate: { by: [a] } }\n", "r.yml:9:25: error: hydrant.deduplicate: the key `window` is missing"),
            ("hydrant: { deduplicate: { by: [a], window: soon } }\n", "hydrant.deduplicate.window: `soon` is not a time span"),
        ] {
            let found = own(text).unwrap_err();
            assert!(found.contains(expected), "{text}\n{found}");
        }
    }

    #[test]
    fn a_correlation_may_only_be_in_the_shadow() {
        let text = "title: c\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\n\
                    correlation: { type: event_count, rules: [r], group-by: [a], timespan: 1m, condition: { gte: 3 } }\n";
        let read = |more: &str| {
            let loaded = sigma::load(Path::new("r.yml"), &format!("{text}{more}"), &Placeholders::new());
            read_correlation(&loaded.correlations[0]).map_err(|mistakes| mistakes.to_string())
        };
        assert!(read("hydrant: { shadow: true }\n").unwrap().shadow);
        let refused = read("hydrant: { deduplicate: { by: [a], window: 1h } }\n").unwrap_err();
        assert!(refused.starts_with("r.yml:4:25: error: hydrant.deduplicate: a correlation is not deduplicated"), "{refused}");
    }
}
