//! `hydrant rules coverage`: which techniques of ATT&CK the rules are about: `tags -> a layer for the ATT&CK Navigator`.
//!
//! A technique's score is the number of rules and correlations with its tag, its comment their titles. A rule counts for what
//! it is tagged with, a sub-technique does not count for its technique: the Navigator adds them up if told to. Tags of tactics
//! and groups are left out; what looks like a technique and is none is told.
//!
//! Format: Navigator layer 4.5 (`layers/spec/v4.5/layerformat.md` of mitre-attack/attack-navigator). Techniques of ICS
//! (`T0...`) are in another matrix: `--domain ics-attack`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::preparing::Preparing;
use crate::cli::{Failure, Output, message, print, print_json, table};
use crate::detect::Rules;

/// Titles in a comment; the Navigator shows it as a tooltip.
const TITLES_MAX: usize = 20;

#[derive(Args)]
pub(super) struct Arguments {
    /// Rule files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    preparing: Preparing,
    /// The matrix.
    #[arg(long, value_enum, default_value = "enterprise-attack")]
    domain: Domain,
    /// How it is printed: `json` is the layer.
    #[arg(long, value_enum, default_value = "json")]
    output: Output,
}

/// A matrix of ATT&CK.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Domain {
    #[value(name = "enterprise-attack")]
    Enterprise,
    #[value(name = "ics-attack")]
    Ics,
    #[value(name = "mobile-attack")]
    Mobile,
}

impl Domain {
    fn as_str(self) -> &'static str {
        match self {
            Self::Enterprise => "enterprise-attack",
            Self::Ics => "ics-attack",
            Self::Mobile => "mobile-attack",
        }
    }

    fn has(self, technique: &str) -> bool {
        technique.starts_with("T0") == (self == Self::Ics)
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (rules, diagnostics) = Rules::load(&arguments.paths, &arguments.preparing.read()?);
    if diagnostics.has_errors() {
        return Err(diagnostics.into());
    }
    let own = rules.rules.iter().map(|rule| (rule.title.as_str(), &rule.tags));
    let correlations = rules.correlations.iter().map(|linked| (linked.correlation.title.as_str(), &linked.correlation.tags));
    let tagged: Vec<_> = own.chain(correlations).collect();
    let mut techniques: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let (mut untagged, mut elsewhere) = (0, BTreeSet::new());
    for (title, tags) in &tagged {
        let own: Vec<String> = tags.iter().filter_map(|tag| technique(tag)).collect();
        untagged += usize::from(own.is_empty());
        for technique in own {
            if arguments.domain.has(&technique) {
                techniques.entry(technique).or_default().insert(title);
            } else {
                elsewhere.insert(technique);
            }
        }
    }
    match arguments.output {
        Output::Json => print_json(&layer(arguments.domain, &techniques))?,
        Output::Table => {
            let row = |(technique, titles): (&String, &BTreeSet<&str>)| vec![technique.clone(), titles.len().to_string(), comment(titles)];
            let rows: Vec<Vec<String>> = techniques.iter().map(row).collect();
            print(table::render(&["TECHNIQUE", "RULES", "TITLES"], &rows).as_bytes())?;
        }
    }
    let wrong: BTreeSet<&String> = tagged.iter().flat_map(|(_, tags)| tags.iter()).filter(|tag| is_malformed(tag)).collect();
    for tag in wrong {
        message(&format!("`{tag}` is no technique: expected attack.t1234 or attack.t1234.001"));
    }
    let elsewhere =
        if elsewhere.is_empty() { String::new() } else { format!(", {} techniques of other matrices left out", elsewhere.len()) };
    message(&format!("{} rules, {} techniques, {untagged} rules without a technique{elsewhere}", tagged.len(), techniques.len()));
    Ok(())
}

/// The technique that a tag names, as ATT&CK writes it.
fn technique(tag: &str) -> Option<String> {
    let lower = tag.to_ascii_lowercase();
    let number = lower.strip_prefix("attack.t")?;
    let (whole, part) = number.split_once('.').map_or((number, None), |(whole, part)| (whole, Some(part)));
    let is_number = |text: &str, digits: usize| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(whole, 4) && part.is_none_or(|part| is_number(part, 3))).then(|| format!("T{number}"))
}

/// Whether a tag begins as a technique and goes on otherwise; names of tactics have letters behind the `t`.
fn is_malformed(tag: &str) -> bool {
    let lower = tag.to_ascii_lowercase();
    let number = lower.strip_prefix("attack.t");
    number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit())) && technique(tag).is_none()
}

fn comment(titles: &BTreeSet<&str>) -> String {
    let mut text = titles.iter().copied().take(TITLES_MAX).collect::<Vec<_>>().join("; ");
    if titles.len() > TITLES_MAX {
        text.push_str(&format!("; and {} more", titles.len() - TITLES_MAX));
    }
    text
}

fn layer(domain: Domain, techniques: &BTreeMap<String, BTreeSet<&str>>) -> Value {
    let most = techniques.values().map(BTreeSet::len).max().unwrap_or(0);
    let technique = |(technique, titles): (&String, &BTreeSet<&str>)| {
        let has_parts = techniques.keys().any(|other| other.strip_prefix(technique.as_str()).is_some_and(|rest| rest.starts_with('.')));
        let mut told = json!({ "techniqueID": technique, "score": titles.len(), "comment": comment(titles) });
        if let (Value::Object(members), true) = (&mut told, has_parts) {
            members.insert("showSubtechniques".to_owned(), true.into());
        }
        told
    };
    json!({
        "name": "Hydrant rules",
        "versions": { "navigator": "4.9.0", "layer": "4.5" },
        "domain": domain.as_str(),
        "description": "The score of a technique is the number of rules that are about it.",
        "sorting": 3,
        "layout": { "layout": "side", "showName": true, "showID": true, "expandedSubtechniques": "annotated" },
        "techniques": techniques.iter().map(technique).collect::<Vec<Value>>(),
        // `maxValue` has to be above `minValue`.
        "gradient": { "colors": ["#ffe766", "#8ec843"], "minValue": 0, "maxValue": most.max(1) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_as_techniques_or_left_out() {
        for (tag, expected) in [
            ("attack.t1059", Some("T1059")),
            ("attack.T1059.001", Some("T1059.001")),
            ("attack.execution", None),
            ("attack.t1059.1", None),
            ("attack.g0007", None),
            ("cve.2021-44228", None),
        ] {
            assert_eq!(technique(tag).as_deref(), expected, "{tag}");
        }
        assert!(is_malformed("attack.t1059.1") && !is_malformed("attack.ta0001") && !is_malformed("attack.t1059"));
    }
}
