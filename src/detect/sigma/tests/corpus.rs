//! The loader held against the public rules of SigmaHQ, and these against the events that came with them.
//!
//! The archive stands beside this project's folder (`../shared`), not in it: without it these tests print
//! so and do nothing. Events are decided by a plain evaluator over JSON, written for this test only.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Loaded, Placeholders, cpu_seconds, load};
use crate::config::Node;
use crate::error::Severity;
use crate::matcher::{Expr, Glob, Number, Order, Predicate, TextOp};

fn unpacked() -> Option<tempfile::TempDir> {
    let archive = Path::new("../shared/corpora/sigmahq-rules.tar.zst");
    if !archive.exists() {
        println!("skipped: {} is absent", archive.display());
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("tar").arg("--zstd").arg("-xf").arg(archive).arg("-C").arg(folder.path()).status().unwrap();
    assert!(status.success(), "tar: {status}");
    Some(folder)
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
}

fn rule_texts(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(folder, "yml", &mut found);
    found.retain(|file| !file.starts_with(folder.join("regression_data")));
    found.into_iter().map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn every_sigmahq_rule_loads_or_wants_a_placeholder() {
    let Some(folder) = unpacked() else { return };
    let texts = rule_texts(folder.path());
    let start = cpu_seconds();
    let loaded: Vec<Loaded> = texts.iter().map(|(file, text)| load(file, text, &Placeholders::new())).collect();
    let seconds = cpu_seconds() - start;
    let rules = loaded.iter().map(|l| l.rules.len()).sum::<usize>();
    let diagnostics: Vec<_> = loaded.iter().flat_map(|l| &l.diagnostics.0).collect();
    let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.into_iter().partition(|d| d.severity == Severity::Error);
    let refused = loaded.iter().filter(|l| l.diagnostics.has_errors()).count();
    println!("{} files, {rules} rules, {refused} refused, {} warnings, {seconds:.2} s CPU", texts.len(), warnings.len());
    warnings.iter().for_each(|warning| println!("{warning}"));
    for error in &errors {
        assert!(error.message.contains("the placeholder") && error.path.contains("expand"), "{error}");
    }
    assert_eq!((texts.len(), rules + refused), (3780, 3780));
    assert!(loaded.iter().all(|l| l.skipped.is_empty()));
}

#[test]
fn the_events_that_came_with_rules_match_them() {
    let Some(folder) = unpacked() else { return };
    let mut rules = HashMap::new();
    for (file, text) in rule_texts(folder.path()) {
        for rule in load(&file, &text, &Placeholders::new()).rules {
            if let Some(tests) = rule.custom.entry("regression_tests_path").and_then(Node::text) {
                rules.insert(Path::new(tests).parent().unwrap().to_owned(), rule);
            }
        }
    }
    let mut events = Vec::new();
    files(&folder.path().join("regression_data"), "json", &mut events);
    let (mut matched, mut missed) = (0, Vec::new());
    for file in events {
        let place = file.strip_prefix(folder.path()).unwrap().parent().unwrap();
        let Some(rule) = rules.get(place) else {
            missed.push(format!("{}: no rule", place.display()));
            continue;
        };
        let text = std::fs::read_to_string(&file).unwrap();
        let documents: Vec<Value> = serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
        if documents.iter().any(|event| holds(&rule.condition, &flat(event))) {
            matched += 1;
        } else {
            missed.push(place.display().to_string());
        }
    }
    println!("{matched} matched, {} missed", missed.len());
    missed.iter().for_each(|place| println!("{place}"));
    assert_eq!((matched, missed.len()), (202, 0));
}

/// A Windows event by the names that Sigma uses (R, "Field Usage"): `EventData` and `System` flat without
/// spaces in names, attributes behind `_`, `UserData` without the element around its values.
fn flat(event: &Value) -> HashMap<String, Value> {
    let mut fields = HashMap::new();
    let user_data = event["Event"]["UserData"].as_object().into_iter().flat_map(|data| data.values());
    for part in user_data.chain([&event["Event"]["System"], &event["Event"]["EventData"]]) {
        for (name, value) in part.as_object().into_iter().flatten() {
            for (attribute, value) in value["#attributes"].as_object().into_iter().flatten() {
                fields.insert(format!("{name}_{attribute}"), value.clone());
            }
            fields.insert(name.replace(' ', ""), value.clone());
        }
    }
    fields
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn holds(expr: &Expr<String>, event: &HashMap<String, Value>) -> bool {
    match expr {
        Expr::All(items) => items.iter().all(|item| holds(item, event)),
        Expr::Any(items) => items.iter().any(|item| holds(item, event)),
        Expr::Not(inner) => !holds(inner, event),
        Expr::Field(field, predicate) => decide(predicate, event.get(field)),
        Expr::Fields { left, op, right, cased } => match (event.get(left), event.get(right)) {
            (Some(left), Some(right)) => compare_text(*op, &text(left), &text(right), *cased),
            _ => false,
        },
        Expr::Keyword(predicate) => event.values().any(|value| decide(predicate, Some(value))),
    }
}

fn decide(predicate: &Predicate, value: Option<&Value>) -> bool {
    let Some(value) = value else { return matches!(predicate, Predicate::Null) };
    match predicate {
        Predicate::Null => value.is_null(),
        Predicate::Exists => true,
        Predicate::Text { op, text: wanted, cased } => compare_text(*op, &text(value), wanted, *cased),
        Predicate::Glob { pieces, cased } => {
            let piece = |piece: &Glob| match piece {
                Glob::Any => ".*".to_owned(),
                Glob::One => ".".to_owned(),
                Glob::Text(text) => regex::escape(text),
            };
            let body: String = pieces.iter().map(piece).collect();
            let flags = if *cased { "s" } else { "si" };
            regex::Regex::new(&format!("(?{flags})^{body}$")).unwrap().is_match(&text(value))
        }
        Predicate::Regex(regex) => regex.is_match(text(value).as_bytes()),
        Predicate::Number { op: Order::Equal, number: Number::Integer(wanted) } => text(value).parse() == Ok(*wanted),
        Predicate::Boolean(wanted) => text(value).to_lowercase() == wanted.to_string(),
        Predicate::Cidr(network) => text(value).parse().is_ok_and(|address: std::net::IpAddr| network.contains(&address)),
        Predicate::Number { .. } | Predicate::Time { .. } | Predicate::Type(_) => panic!("no rule with events uses {predicate:?}"),
    }
}

fn compare_text(op: TextOp, value: &str, wanted: &str, cased: bool) -> bool {
    let fold = |text: &str| if cased { text.to_owned() } else { text.to_lowercase() };
    let (value, wanted) = (fold(value), fold(wanted));
    match op {
        TextOp::Contains => value.contains(&wanted),
        TextOp::EndsWith => value.ends_with(&wanted),
        TextOp::Equals => value == wanted,
        TextOp::StartsWith => value.starts_with(&wanted),
    }
}
