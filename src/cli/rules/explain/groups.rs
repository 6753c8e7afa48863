//! What correlations count: `hits of their rules -> groups, and how much was in the fullest window of each`.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value as Json, json};

use crate::clock;
use crate::detect::Rules;
use crate::detect::sigma::correlation::{Kind, Linked, Source};
use crate::pipeline::offline::Examined;

/// Hits that are looked at; this is for samples, `hydrant backtest` counts more.
const HITS_MAX: usize = 100_000;

/// Groups of one correlation that are told, the fullest first.
const GROUPS_SHOWN_MAX: usize = 10;

/// A hit of one of a correlation's rules.
struct Hit {
    time_ms: i64,
    event: u64,
    base: u8,
    value: Option<String>,
}

/// The hits of one correlation.
#[derive(Default)]
struct Counted {
    groups: BTreeMap<Vec<String>, Vec<Hit>>,
    /// By rule: hits.
    hits: HashMap<u8, usize>,
    /// Events that lack a field of the group.
    groupless: usize,
}

/// The hits of all correlations.
pub(super) struct Groups {
    counted: Vec<Counted>,
    hits: usize,
    /// Hits beyond [`HITS_MAX`].
    beyond: usize,
}

/// A window with the most in it.
struct Fullest {
    measure: usize,
    end_ms: i64,
}

/// A group, its hits and its fullest window.
type Ranked<'a> = (&'a Vec<String>, usize, Fullest);

impl Groups {
    pub(super) fn new(rules: &Rules) -> Self {
        Self { counted: rules.correlations.iter().map(|_| Counted::default()).collect(), hits: 0, beyond: 0 }
    }

    pub(super) fn add(&mut self, event: u64, examined: &Examined<'_>) {
        for fed in examined.fed() {
            let Some(counted) = self.counted.get_mut(fed.correlation as usize) else { continue };
            *counted.hits.entry(fed.base).or_default() += 1;
            let Some(group) = fed.group else {
                counted.groupless += 1;
                continue;
            };
            if self.hits >= HITS_MAX {
                self.beyond += 1;
                continue;
            }
            self.hits += 1;
            let hit = Hit { time_ms: examined.event.time_ms, event, base: fed.base, value: fed.value };
            counted.groups.entry(group).or_default().push(hit);
        }
    }

    /// The groups of a correlation with their fullest windows, fullest first, and how many there are.
    fn fullest(&mut self, linked: &Linked, index: usize) -> (Vec<Ranked<'_>>, usize) {
        let (kind, timespan_ms) = (linked.correlation.kind, linked.correlation.timespan_ms);
        let Some(counted) = self.counted.get_mut(index) else { return (Vec::new(), 0) };
        let mut groups: Vec<Ranked<'_>> =
            counted.groups.iter_mut().map(|(group, hits)| (group, hits.len(), fullest(hits, kind, timespan_ms))).collect();
        groups.sort_by_key(|(_, _, fullest)| std::cmp::Reverse(fullest.measure));
        let count = groups.len();
        groups.truncate(GROUPS_SHOWN_MAX);
        (groups, count)
    }

    /// Each rule with its hits.
    fn bases(&self, rules: &Rules, index: usize) -> Vec<(String, usize)> {
        let (Some(linked), Some(counted)) = (rules.correlations.get(index), self.counted.get(index)) else { return Vec::new() };
        let title = |source| match source {
            Source::Rule(rule) => rules.rules.get(rule as usize).map(|rule| rule.title.clone()),
            Source::Correlation(other) => rules.correlations.get(other as usize).map(|other| other.correlation.title.clone()),
        };
        let bases = linked.bases.iter().zip(0_u8..);
        bases.map(|(base, number)| (title(base.source).unwrap_or_default(), counted.hits.get(&number).copied().unwrap_or(0))).collect()
    }

    pub(super) fn json(&mut self, rules: &Rules, index: usize, matches: usize) -> Json {
        let Some(linked) = rules.correlations.get(index) else { return Json::Null };
        let correlation = &linked.correlation;
        let bases: Vec<Json> = self.bases(rules, index).into_iter().map(|(title, hits)| json!({ "title": title, "hits": hits })).collect();
        let (groupless, beyond) = (self.counted.get(index).map_or(0, |counted| counted.groupless), self.beyond);
        let (groups, count) = self.fullest(linked, index);
        let groups: Vec<Json> = groups
            .into_iter()
            .map(|(group, hits, fullest)| {
                let names = correlation.group_by.iter().map(|name| name.text.clone());
                let group: serde_json::Map<String, Json> = names.zip(group.iter().cloned().map(Json::from)).collect();
                json!({ "group": group, "hits": hits, "in_window": fullest.measure, "window_end": time(fullest.end_ms) })
            })
            .collect();
        json!({
            "correlation_id": correlation.id, "title": correlation.title, "type": correlation.kind.as_str(),
            "timespan_ms": correlation.timespan_ms, "matches": matches, "rules": bases, "groups": groups, "group_count": count,
            "without_group": groupless, "not_counted": beyond,
        })
    }

    pub(super) fn text(&mut self, rules: &Rules, index: usize, matches: usize) -> String {
        let Some(linked) = rules.correlations.get(index) else { return String::new() };
        let correlation = &linked.correlation;
        let verdict = if matches > 0 { format!("matches {matches} times") } else { "does not match".to_owned() };
        let (kind, seconds) = (correlation.kind.as_str(), correlation.timespan_ms / 1_000);
        let mut out = format!("correlation `{}` [{}], {kind} in {seconds} s: {verdict}\n", correlation.title, correlation.id);
        for (title, hits) in self.bases(rules, index) {
            out.push_str(&format!("  {} `{title}`: {hits} hits\n", if hits > 0 { '+' } else { '-' }));
        }
        let groupless = self.counted.get(index).map_or(0, |counted| counted.groupless);
        if groupless > 0 {
            let names: Vec<&str> = correlation.group_by.iter().map(|name| name.text.as_str()).collect();
            out.push_str(&format!("  {groupless} hits belong to no group: they lack one of {}\n", names.join(", ")));
        }
        let beyond = self.beyond;
        let (groups, count) = self.fullest(linked, index);
        let (shown, what) = (groups.len(), measured(correlation.kind));
        for (group, hits, fullest) in groups {
            let parts: Vec<String> = correlation.group_by.iter().zip(group).map(|(name, value)| format!("{}={value}", name.text)).collect();
            let (group, end) = (parts.join(" "), time(fullest.end_ms));
            let group = if group.is_empty() { "all".to_owned() } else { group };
            out.push_str(&format!("  group {group}: {hits} hits, at most {} {what} in a window, which ends at {end}\n", fullest.measure));
        }
        if count > shown {
            out.push_str(&format!("  ... {} more groups\n", count - shown));
        }
        if beyond > 0 {
            out.push_str(&format!("  {beyond} hits beyond {HITS_MAX} are not in these counts\n"));
        }
        out
    }
}

/// What [`Fullest::measure`] counts.
fn measured(kind: Kind) -> &'static str {
    match kind {
        Kind::ValueCount => "distinct values",
        Kind::Temporal | Kind::TemporalOrdered => "different rules",
        Kind::EventCount | Kind::ValueSum | Kind::ValueAvg | Kind::ValuePercentile => "events",
    }
}

fn time(time_ms: i64) -> String {
    let mut text = Vec::new();
    clock::write_rfc3339(time_ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The window with the most in it, of those that end with an event.
fn fullest(hits: &mut [Hit], kind: Kind, timespan_ms: i64) -> Fullest {
    hits.sort_by_key(|hit| (hit.time_ms, hit.event));
    let key = |hit: &Hit| match kind {
        Kind::ValueCount => hit.value.clone().unwrap_or_default(),
        Kind::Temporal | Kind::TemporalOrdered => hit.base.to_string(),
        Kind::EventCount | Kind::ValueSum | Kind::ValueAvg | Kind::ValuePercentile => hit.event.to_string(),
    };
    let mut inside: HashMap<String, usize> = HashMap::new();
    let mut best = Fullest { measure: 0, end_ms: 0 };
    let mut first = 0;
    for hit in &*hits {
        *inside.entry(key(hit)).or_default() += 1;
        while let Some(old) = hits.get(first).filter(|old| old.time_ms.saturating_add(timespan_ms) <= hit.time_ms) {
            let old = key(old);
            let count = inside.get_mut(&old).map_or(0, |count| {
                *count -= 1;
                *count
            });
            if count == 0 {
                inside.remove(&old);
            }
            first += 1;
        }
        if inside.len() > best.measure {
            best = Fullest { measure: inside.len(), end_ms: hit.time_ms };
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_window_counts_what_the_correlation_measures() {
        let hit = |time_ms, event, base, value: &str| Hit { time_ms, event, base, value: Some(value.into()) };
        let mut hits = [hit(0, 1, 0, "a"), hit(500, 2, 0, "b"), hit(999, 3, 1, "b"), hit(1_000, 4, 1, "b"), hit(5_000, 5, 0, "c")];
        for (kind, expected) in [(Kind::EventCount, (3, 999)), (Kind::ValueCount, (2, 500)), (Kind::Temporal, (2, 999))] {
            let Fullest { measure, end_ms } = fullest(&mut hits, kind, 1_000);
            assert_eq!((measure, end_ms), expected, "{kind:?}");
        }
    }
}
