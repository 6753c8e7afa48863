//! Where the rules are, what is put into them, and what alerts say of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use crate::config::{Node, Section};
use crate::detect::correlate::Form;
use crate::detect::preparation::Preparation;
use crate::detect::sigma::correlation::Linked;
use crate::detect::sigma::{LogSource, SigmaRule};
use crate::detect::{BUILTIN, Rules};
use crate::error::Diagnostics;
use crate::source_health as health;

/// What is put into the rules.
pub(super) fn preparation(root: &Section, pipelines: &[PathBuf], base: &Path, diagnostics: &mut Diagnostics) -> Preparation {
    let mut preparation = Preparation::default();
    if let Some(section) = root.child("placeholders") {
        preparation.add_placeholders(&section, diagnostics);
    }
    let files: Vec<PathBuf> = pipelines.iter().map(|file| base.join(file)).collect();
    preparation.read_pipelines(&files, diagnostics);
    preparation
}

/// Where the rules are; a path that leads nowhere is a mistake of the configuration.
pub(super) fn paths(root: &Section, named: &[PathBuf], base: &Path, diagnostics: &mut Diagnostics) -> Vec<PathBuf> {
    let places = root.child("rules").map(|section| section.items()).unwrap_or_default();
    let mut paths = Vec::new();
    for (path, place) in named.iter().zip(places) {
        // The pack is a word, not a path beside the configuration.
        let path = if path.as_os_str() == BUILTIN { path.clone() } else { base.join(path) };
        if path.as_os_str() == BUILTIN || path.exists() {
            paths.push(path);
        } else {
            let mistake = place.error(format!("there is no file or folder `{}`", path.display()));
            diagnostics.push(mistake.help("a rule file, a folder of them, or `builtin` for the rules that come with hydrant"));
        }
    }
    paths
}

/// One JSON object per rule, for alerts, then one per correlation, deduplications among them, and per rule of source health.
/// The author stays with the rule: its licence may ask for that.
pub(super) fn info(rules: &Rules, linked: &[Linked], is_replay: bool) -> Arc<[Box<str>]> {
    let info = |rule: &SigmaRule| {
        let object = json!({
            "id": rule.id, "title": rule.title, "level": rule.level.as_str(), "tags": rule.tags, "author": rule.author,
            "references": rule.references, "hash": rule.hash,
        });
        object.to_string().into_boxed_str()
    };
    let told = |info: Box<str>| match info.strip_suffix('}').filter(|_| is_replay) {
        Some(open) => format!("{open},\"replay\":true}}").into_boxed_str(),
        None => info,
    };
    rules.rules.iter().map(info).chain(linked.iter().map(Form::rule)).chain(health::rules()).map(told).collect()
}

/// What findings say of rules beside that, by the same index. Of rules of source health there is nothing more to say.
pub(super) fn notes(rules: &Rules, linked: &[Linked]) -> Arc<[Box<str>]> {
    let of_rule = |rule: &SigmaRule| {
        let text = |key: &str| rule.custom.entry(key).and_then(Node::text);
        let LogSource { category, product, service } = &rule.logsource;
        let logsource: Vec<&str> = [product, category, service].into_iter().flatten().map(String::as_str).collect();
        let notes = json!({
            "description": rule.description, "references": rule.references, "falsepositives": rule.falsepositives,
            "version": text("modified").or_else(|| text("date")).unwrap_or_default(), "category": logsource.join("/"),
        });
        notes.to_string().into_boxed_str()
    };
    let of_correlation = |linked: &Linked| {
        let correlation = &linked.correlation;
        let notes = json!({
            "description": correlation.description, "references": correlation.references,
            "falsepositives": correlation.falsepositives, "category": correlation.kind.as_str(),
        });
        notes.to_string().into_boxed_str()
    };
    let of_linked = |linked: &Linked| {
        let deduplicated = linked.deduplicates().and_then(|rule| rules.rules.get(rule as usize));
        deduplicated.map_or_else(|| of_correlation(linked), of_rule)
    };
    rules.rules.iter().map(of_rule).chain(linked.iter().map(of_linked)).collect()
}
