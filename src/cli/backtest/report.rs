//! What a backtest has found, as tables or as one JSON object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::side::{Sample, Subject, day_text, time_text};
use super::{Comparison, Difference};
use crate::cli::past::Seen;
use crate::cli::{Failure, Output, message, print, print_json, table};
use crate::detect::correlate::Counters;

/// Characters of a sample in a table.
const SAMPLE_SHOWN_MAX: usize = 300;

/// Rules and days above the limit that are named.
const OVER_SHOWN_MAX: usize = 20;

/// What became of a rule between two versions.
struct Change<'a> {
    id: &'a str,
    title: &'a str,
    /// `new`, `gone`, `changed`, or `same`: then something that it depends on has changed.
    what: &'static str,
    old_hits: u64,
    new_hits: u64,
}

/// Prints everything; an error if something could not be read or a rule is above the limit.
pub(super) fn show(comparison: &Comparison<'_>, seen: &Seen, output: Output, fail_above: Option<u64>) -> Result<(), Failure> {
    let over = fail_above.map_or(Vec::new(), |limit| over(comparison, limit));
    let changes = changes(comparison);
    match output {
        Output::Json => print_json(&as_json(comparison, seen, &changes, &over))?,
        Output::Table => print(as_text(comparison, seen, &changes).as_bytes())?,
    }
    let silent = comparison.new.subjects.iter().filter(|subject| subject.hits == 0).count();
    message(&format!("{} rules, {silent} of them without a hit", comparison.new.subjects.len()));
    let counters = comparison.new.left_out();
    if counters.late_events > 0 {
        let late = counters.late_events;
        message(&format!(
            "{late} hits came too late for correlations, more than an hour: give the input in the order of its time, or less of it"
        ));
    }
    if counters.evicted_keys + counters.forced_events > 0 {
        let Counters { evicted_keys, forced_events, .. } = counters;
        message(&format!("correlations ran out of memory: {evicted_keys} groups were forgotten, {forced_events} hits were counted early"));
    }
    seen.tell()?;
    let Some(limit) = fail_above.filter(|_| !over.is_empty()) else { return Ok(()) };
    for (subject, day, hits) in over.iter().take(OVER_SHOWN_MAX) {
        message(&format!("{}: `{}` has {hits} hits, more than {limit}", day.map_or("other days".to_owned(), day_text), subject.title));
    }
    let summary = format!("{} times a rule has more than {limit} hits on a day", over.len());
    Err(Failure::Found { summary, exit_code: 1 })
}

/// Rules that alert, and days on which they have more hits than the limit.
fn over<'a>(comparison: &'a Comparison<'_>, limit: u64) -> Vec<(&'a Subject<'a>, Option<i64>, u64)> {
    let mut over = Vec::new();
    for subject in comparison.new.subjects.iter().filter(|subject| subject.kind.alerts()) {
        let days = subject.days.iter().map(|(day, hits)| (Some(*day), *hits)).chain([(None, subject.other_days)]);
        over.extend(days.filter(|(_, hits)| *hits > limit).map(|(day, hits)| (subject, day, hits)));
    }
    over
}

fn changes<'a>(comparison: &'a Comparison<'_>) -> Vec<Change<'a>> {
    let Some(old) = &comparison.old else { return Vec::new() };
    let by_id = |subjects: &'a [Subject<'_>]| subjects.iter().map(|subject| (subject.id, subject)).collect::<BTreeMap<_, _>>();
    let (new, old) = (by_id(&comparison.new.subjects), by_id(&old.subjects));
    let ids: BTreeSet<&str> = new.keys().chain(old.keys()).copied().collect();
    let change = |id: &'a str| {
        let (new, old) = (new.get(id), old.get(id));
        let what = match (new, old) {
            (Some(new), Some(old)) if new.hash == old.hash => "same",
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "new",
            (None, _) => "gone",
        };
        let title = new.or(old).map_or("", |subject| subject.title);
        let hits = |subject: Option<&&Subject<'_>>| subject.map_or(0, |subject| subject.hits);
        let differs = what != "same" || comparison.differences.contains_key(id);
        differs.then(|| Change { id, title, what, old_hits: hits(old), new_hits: hits(new) })
    };
    ids.into_iter().filter_map(change).collect()
}

fn per_million(hits: u64, events: u64) -> f64 {
    let exact = hits as f64 * 1e6 / events.max(1) as f64;
    (exact * 100.0).round() / 100.0
}

fn as_json(comparison: &Comparison<'_>, seen: &Seen, changes: &[Change<'_>], over: &[(&Subject<'_>, Option<i64>, u64)]) -> Value {
    let sample = |sample: &Sample| {
        let time = time_text(sample.time_ms);
        match sample.decoder {
            None if sample.text.starts_with('{') => {
                let found: Value = serde_json::from_str(&sample.text).unwrap_or(Value::Null);
                json!({ "time": time, "correlation": found })
            }
            decoder => json!({ "time": time, "decoder": decoder, "raw": sample.text }),
        }
    };
    let list = |samples: &[Sample]| samples.iter().map(sample).collect::<Vec<Value>>();
    let rules: Vec<Value> = comparison
        .new
        .subjects
        .iter()
        .map(|subject| {
            let days: serde_json::Map<String, Value> = subject.days.iter().map(|(day, hits)| (day_text(*day), (*hits).into())).collect();
            json!({
                "rule_id": subject.id, "title": subject.title, "level": subject.level, "kind": subject.kind.as_str(),
                "hits": subject.hits, "per_million": per_million(subject.hits, seen.events), "days": days,
                "other_days": subject.other_days, "samples": list(&subject.samples),
            })
        })
        .collect();
    let none = Difference::default();
    let diff: Vec<Value> = changes
        .iter()
        .map(|change| {
            let difference = comparison.differences.get(change.id).unwrap_or(&none);
            json!({
                "rule_id": change.id, "title": change.title, "change": change.what, "old_hits": change.old_hits,
                "new_hits": change.new_hits, "gained": difference.gained, "lost": difference.lost,
                "gained_samples": list(&difference.gained_samples), "lost_samples": list(&difference.lost_samples),
            })
        })
        .collect();
    let over: Vec<Value> =
        over.iter().map(|(subject, day, hits)| json!({ "rule_id": subject.id, "day": day.map(day_text), "hits": hits })).collect();
    let mut told = json!({ "input": seen.json(), "rules": rules, "above": over });
    if let (Value::Object(members), true) = (&mut told, comparison.old.is_some()) {
        members.insert("diff".to_owned(), diff.into());
    }
    told
}

fn as_text(comparison: &Comparison<'_>, seen: &Seen, changes: &[Change<'_>]) -> String {
    let mut found: Vec<&Subject<'_>> = comparison.new.subjects.iter().filter(|subject| subject.hits > 0).collect();
    found.sort_by_key(|subject| std::cmp::Reverse(subject.hits));
    let row = |subject: &&Subject<'_>| {
        let most = subject.days.iter().max_by_key(|(_, hits)| **hits).map(|(day, hits)| format!("{hits} on {}", day_text(*day)));
        vec![
            subject.hits.to_string(),
            format!("{:.2}", per_million(subject.hits, seen.events)),
            subject.days.len().to_string(),
            most.unwrap_or_default(),
            subject.level.to_owned(),
            subject.kind.as_str().to_owned(),
            subject.title.to_owned(),
            subject.id.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = found.iter().map(row).collect();
    let mut out = table::render(&["HITS", "PER MILLION", "DAYS", "MOST", "LEVEL", "KIND", "TITLE", "ID"], &rows);
    if comparison.old.is_some() {
        out.push('\n');
        out.push_str(&difference_table(comparison, changes));
    }
    for subject in found.iter().filter(|subject| !subject.samples.is_empty()) {
        samples(&format!("`{}`", subject.title), ' ', &subject.samples, &mut out);
    }
    for change in changes {
        let Some(difference) = comparison.differences.get(change.id) else { continue };
        for (sign, kept) in [('+', &difference.gained_samples), ('-', &difference.lost_samples)] {
            if !kept.is_empty() {
                let what = if sign == '+' { "only the new rules" } else { "only the old rules" };
                samples(&format!("`{}`, {what}", change.title), sign, kept, &mut out);
            }
        }
    }
    out
}

fn difference_table(comparison: &Comparison<'_>, changes: &[Change<'_>]) -> String {
    let none = Difference::default();
    let row = |change: &Change<'_>| {
        let difference = comparison.differences.get(change.id).unwrap_or(&none);
        let numbers = [change.old_hits, change.new_hits, difference.gained, difference.lost].map(|number| number.to_string());
        [vec![change.what.to_owned()], numbers.to_vec(), vec![change.title.to_owned(), change.id.to_owned()]].concat()
    };
    let rows: Vec<Vec<String>> = changes.iter().map(row).collect();
    table::render(&["CHANGE", "OLD", "NEW", "GAINED", "LOST", "TITLE", "ID"], &rows)
}

/// Samples below a heading; control characters in them become blanks.
fn samples(heading: &str, sign: char, samples: &[Sample], out: &mut String) {
    out.push_str(&format!("\n{heading}:\n"));
    for sample in samples {
        let text: String = sample.text.chars().take(SAMPLE_SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let cut = if text.len() < sample.text.len() { "..." } else { "" };
        out.push_str(&format!("{sign} {} {text}{cut}\n", time_text(sample.time_ms)));
    }
}
