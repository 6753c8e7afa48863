//! One version of the rules: `chunks -> hits, counted per rule and day`.

use std::collections::BTreeMap;
use std::convert::Infallible;

use crate::clock;
use crate::detect::Rules;
use crate::detect::correlate::{Counters, Fired, Form};
use crate::detect::sigma::correlation::Linked;
use crate::event::Chunk;
use crate::pipeline::offline::Offline;

/// Days of all rules that are counted apart. Honest events have a few hundred days; of forged times the rest is one number.
const DAYS_MAX: usize = 1_000_000;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Bytes of an event that a sample keeps.
const SAMPLE_BYTES_MAX: usize = 2_048;

/// What a rule is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its hits alert.
    Rule,
    /// Only correlations count its hits.
    Base,
    /// It counts across events, and alerts.
    Correlation,
    /// It counts across events, and only other correlations count it.
    BaseCorrelation,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Base => "base",
            Self::Correlation => "correlation",
            Self::BaseCorrelation => "base correlation",
        }
    }

    pub(super) fn alerts(self) -> bool {
        matches!(self, Self::Rule | Self::Correlation)
    }
}

/// An event, or what a correlation has found.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) time_ms: i64,
    /// Of an event.
    pub(super) decoder: Option<&'static str>,
    /// The event as it came, cut; or the JSON object about the match.
    pub(super) text: String,
}

impl Sample {
    /// The event in a row of a chunk.
    pub(super) fn event(chunk: &Chunk, row: u32, rows: &[Row]) -> Self {
        let raw = chunk.frame(row as usize);
        let text = String::from_utf8_lossy(raw.get(..SAMPLE_BYTES_MAX).unwrap_or(raw)).into_owned();
        let Row { time_ms, decoder } = rows.get(row as usize).copied().unwrap_or_default();
        Self { time_ms, decoder, text }
    }

    /// What a correlation has found.
    pub(super) fn found(linked: &Linked, fired: &Fired) -> Self {
        let mut details = Vec::new();
        Form::new(linked, Vec::new()).write_details(fired, &mut details);
        Self { time_ms: fired.time_ms, decoder: None, text: String::from_utf8_lossy(&details).into_owned() }
    }
}

/// What is known of a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    time_ms: i64,
    decoder: Option<&'static str>,
}

/// What the rules have found in a chunk.
pub(super) struct Found<'a> {
    /// Row and id of the rule, sorted.
    pub(super) hits: Vec<(u32, &'a str)>,
    pub(super) rows: Vec<Row>,
}

/// A rule or correlation with its counts.
pub(super) struct Subject<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) level: &'static str,
    pub(super) kind: Kind,
    /// Of its document.
    pub(super) hash: &'a str,
    pub(super) hits: u64,
    /// By day since 1970.
    pub(super) days: BTreeMap<i64, u64>,
    /// On days that are not counted apart.
    pub(super) other_days: u64,
    pub(super) samples: Vec<Sample>,
}

/// One version of the rules at work.
pub(super) struct Side<'a> {
    rules: &'a Rules,
    offline: Offline,
    /// The rules, then the correlations.
    pub(super) subjects: Vec<Subject<'a>>,
    days: usize,
    samples: usize,
}

impl<'a> Side<'a> {
    pub(super) fn new(rules: &'a Rules, offline: Offline, samples: usize) -> Self {
        let subject = |id, title, level, kind, hash| {
            let (hits, days, other_days, samples) = Default::default();
            Subject { id, title, level, kind, hash, hits, days, other_days, samples }
        };
        let own = rules.rules.iter().enumerate().map(|(index, rule)| {
            let kind = if rules.alone.get(index) == Some(&false) { Kind::Base } else { Kind::Rule };
            subject(&*rule.id, &*rule.title, rule.level.as_str(), kind, &*rule.hash)
        });
        let correlations = rules.correlations.iter().map(|linked| {
            let kind = if linked.is_alert { Kind::Correlation } else { Kind::BaseCorrelation };
            let correlation = &linked.correlation;
            subject(&*correlation.id, &*correlation.title, linked.level.as_str(), kind, &*correlation.hash)
        });
        let subjects = own.chain(correlations).collect();
        Self { rules, offline, subjects, days: 0, samples }
    }

    /// Counts the hits of rules in a chunk.
    pub(super) fn take(&mut self, chunk: &Chunk) -> Found<'a> {
        let (mut hits, mut rows) = (Vec::new(), Vec::with_capacity(chunk.frames().len()));
        let Ok(()) = self.offline.examine(chunk, |examined| {
            hits.extend(examined.rules.iter().map(|rule| (rows.len() as u32, *rule as usize)));
            rows.push(Row { time_ms: examined.event.time_ms, decoder: examined.decoder() });
            Ok::<_, Infallible>(())
        });
        for (row, subject) in &hits {
            let time_ms = rows.get(*row as usize).map_or(0, |row| row.time_ms);
            self.count(*subject, time_ms, || Sample::event(chunk, *row, &rows));
        }
        let mut hits: Vec<_> = hits.into_iter().filter_map(|(row, rule)| Some((row, self.subjects.get(rule)?.id))).collect();
        hits.sort_unstable();
        Found { hits, rows }
    }

    /// Counts what correlations have found, and gives it; all of it at the end.
    pub(super) fn alerts(&mut self, is_end: bool) -> Vec<(u32, Fired)> {
        let found = if is_end { self.offline.finish() } else { self.offline.found() };
        let rules = self.rules;
        for (index, fired) in &found {
            let Some(linked) = rules.correlations.get(*index as usize) else { continue };
            self.count(rules.rules.len() + *index as usize, fired.time_ms, || Sample::found(linked, fired));
        }
        found
    }

    /// A correlation by its index.
    pub(super) fn linked(&self, index: u32) -> Option<&'a Linked> {
        self.rules.correlations.get(index as usize)
    }

    fn count(&mut self, subject: usize, time_ms: i64, sample: impl FnOnce() -> Sample) {
        let Some(subject) = self.subjects.get_mut(subject) else { return };
        subject.hits += 1;
        let day = time_ms.div_euclid(DAY_MS);
        match subject.days.get_mut(&day) {
            Some(count) => *count += 1,
            None if self.days < DAYS_MAX => {
                self.days += 1;
                subject.days.insert(day, 1);
            }
            None => subject.other_days += 1,
        }
        if subject.samples.len() < self.samples {
            subject.samples.push(sample());
        }
    }

    /// What correlations could not count as they should.
    pub(super) fn left_out(&self) -> Counters {
        self.offline.left_out()
    }
}

/// A day since 1970 as text.
pub(super) fn day_text(day: i64) -> String {
    time_text(day.saturating_mul(DAY_MS)).chars().take_while(|c| *c != 'T').collect()
}

/// A time as text.
pub(super) fn time_text(time_ms: i64) -> String {
    let mut text = Vec::new();
    clock::write_rfc3339(time_ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
