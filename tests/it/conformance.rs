//! Sigma 2.1.0 case by case: `tests/cases/sigma/*.yaml` holds rules, events and what has to come of them; the table in
//! `docs/reference/sigma.md` has a row for each case.
//!
//! A case has `detection`, the body of a rule (`condition` is `s` unless it says otherwise), and events as JSON that
//! the rule has to `match` or not (`no_match`). Field names stand for themselves, and the log source is let pass.
//! Or it has `rules`, whole documents, with the `lines` that a `decoder` gets and the titles that are `found`. Instead
//! of events a case may have what loading says: `refused`, `warns`, `skipped`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hydrant::config::Section;
use hydrant::detect::Rules;
use hydrant::detect::preparation::Preparation;
use hydrant::detect::sigma::{self, SigmaRule};
use hydrant::event::{Chunk, Sender, Span};
use hydrant::pipeline::offline::Offline;
use serde::Deserialize;

use crate::oracles::Asked;

const FOLDER: &str = "tests/cases/sigma";

const TABLE: &str = "docs/reference/sigma.md";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    detection: Option<String>,
    condition: Option<String>,
    rules: Option<String>,
    #[serde(default)]
    placeholders: HashMap<String, Vec<String>>,
    #[serde(default, rename = "match")]
    matching: Vec<String>,
    #[serde(default)]
    no_match: Vec<String>,
    decoder: Option<String>,
    #[serde(default)]
    lines: Vec<String>,
    found: Option<Vec<String>>,
    refused: Option<String>,
    warns: Option<String>,
    skipped: Option<String>,
    level: Option<String>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |file: PathBuf| {
        let section = Section::parse(&file, &std::fs::read_to_string(&file).unwrap()).unwrap_or_else(|error| panic!("{error}"));
        section.read::<Vec<Case>>().unwrap_or_else(|error| panic!("{error}"))
    };
    files.into_iter().flat_map(read).collect()
}

fn chunk(lines: &[String]) -> Chunk {
    let (mut frames, mut bytes) = (Vec::new(), Vec::new());
    for line in lines {
        frames.push(Span::new(bytes.len(), bytes.len() + line.len()));
        bytes.extend_from_slice(line.as_bytes());
    }
    Chunk::new(bytes, frames, Arc::new(Sender { source: "test".into(), source_index: 0 }), 1_795_248_000_000)
}

/// Numbers of the events that the rules match, by the index and by the full scan.
fn decide(rules: &[SigmaRule], lines: &[String]) -> [BTreeSet<usize>; 2] {
    let asked = Asked::new(rules.to_vec());
    let matched = |decided: Vec<BTreeSet<u32>>| (0..lines.len()).filter(|event| !decided[*event].is_empty()).collect();
    asked.decide(&mut asked.shard(), lines, true).map(matched)
}

impl Case {
    fn text(&self) -> String {
        let Some(detection) = &self.detection else { return self.rules.clone().expect("`detection` or `rules`") };
        let indented: String = detection.lines().map(|line| format!("  {line}\n")).collect();
        let condition = self.condition.as_deref().unwrap_or("s");
        format!(
            "title: t\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\nlogsource: {{ category: test }}\ndetection:\n{indented}  condition: {condition}\n"
        )
    }

    /// What is wrong, if anything.
    fn check(&self) -> Option<String> {
        let loaded = sigma::load(Path::new("case.yml"), &self.text(), &self.placeholders);
        let said = loaded.diagnostics.to_string();
        if let Some(expected) = &self.refused {
            // References of correlations are resolved behind the loader.
            let is_refused = loaded.diagnostics.has_errors() && said.contains(expected.as_str());
            return (!is_refused).then(|| format!("not refused for that: {said}"));
        }
        if loaded.diagnostics.has_errors() || self.warns.as_ref().is_some_and(|expected| !said.contains(expected.as_str())) {
            return Some(format!("loading says: {said}"));
        }
        if let Some(expected) = &self.skipped {
            let is_skipped =
                loaded.rules.is_empty() && loaded.skipped.iter().any(|skipped| skipped.to_string().contains(expected.as_str()));
            return (!is_skipped).then(|| "it is not skipped".to_owned());
        }
        if let Some(expected) = &self.level {
            return (loaded.rules[0].level.as_str() != expected).then(|| format!("its level is {}", loaded.rules[0].level));
        }
        match &self.found {
            Some(found) => self.look(found),
            None => self.hold(&loaded.rules),
        }
    }

    fn hold(&self, rules: &[SigmaRule]) -> Option<String> {
        if self.matching.is_empty() || self.no_match.is_empty() {
            return Some("a case needs events for `match` and `no_match`".to_owned());
        }
        let lines = [self.matching.as_slice(), &self.no_match].concat();
        let [indexed, scanned] = decide(rules, &lines);
        if indexed != scanned {
            return Some(format!("the index finds {indexed:?}, the full scan {scanned:?}"));
        }
        let expected: BTreeSet<usize> = (0..self.matching.len()).collect();
        let wrong = indexed.symmetric_difference(&expected).map(|event| lines[*event].as_str());
        let wrong: Vec<&str> = wrong.collect();
        (!wrong.is_empty()).then(|| format!("the other way round for {}", wrong.join(" and ")))
    }

    /// Through a decoder with its log sources and field names, and through the correlations.
    fn look(&self, expected: &[String]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("case.yml"), self.text()).unwrap();
        let (rules, diagnostics) = Rules::load(&[folder.path().to_owned()], &Preparation::default());
        assert!(!diagnostics.has_errors(), "{diagnostics}");
        let mut offline = Offline::new(self.decoder.as_deref().expect("a decoder"), &rules).unwrap();
        let mut found = Vec::new();
        let examined = offline.examine(&chunk(&self.lines), |examined| {
            let alone = examined.rules.iter().filter(|rule| rules.alone[**rule as usize]);
            found.extend(alone.map(|rule| rules.rules[*rule as usize].title.clone()));
            Ok::<_, ()>(())
        });
        examined.unwrap();
        let correlations = offline.finish();
        let alerts = correlations.into_iter().map(|(index, _)| &rules.correlations[index as usize]).filter(|linked| linked.is_alert);
        found.extend(alerts.map(|linked| linked.correlation.title.clone()));
        (found != expected).then(|| format!("found {found:?}"))
    }
}

#[test]
fn every_case_holds_by_index_and_full_scan() {
    let cases = cases();
    let wrong: Vec<String> = cases.iter().filter_map(|case| Some(format!("{}: {}", case.name, case.check()?))).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{} cases", cases.len());
}

#[test]
fn the_table_has_a_row_for_every_case_and_a_case_for_every_row() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE)).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---") && !line.ends_with("| Case |"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let cases = cases();
    let mut unnamed: BTreeMap<&str, usize> = cases.iter().map(|case| (case.name.as_str(), 0)).collect();
    assert_eq!(unnamed.len(), cases.len(), "two cases have one name");
    let mut wrong = Vec::new();
    for row in &rows {
        let named = row.last().map_or("", |cell| *cell);
        for name in named.split(", ") {
            match unnamed.get_mut(name.trim_matches('`')) {
                Some(count) => *count += 1,
                None => wrong.push(format!("the row `{}` names the case {name}, which is not there", row[0])),
            }
        }
    }
    wrong.extend(unnamed.iter().filter(|(_, count)| **count != 1).map(|(name, count)| format!("{count} rows name the case {name}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} rows, {} cases", rows.len(), cases.len());
}
