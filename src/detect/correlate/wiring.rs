//! What goes from where to where: `linked correlations -> levels, hits of chains, fields that hits carry`.
//!
//! A match of a correlation is a hit of those chained to it. Which values those want is known beforehand, so the first
//! hit carries them and the event itself is not needed any more. A name in a chained correlation means the group of the
//! one below it if that has such a group, otherwise the field of the event that completed it.

use std::collections::HashMap;

use super::part::{Part, parts, push_absent, push_same};
use super::{Assembly, Fired, Program};
use crate::detect::sigma::SigmaRule;
use crate::detect::sigma::correlation::{Base, Correlation, Linked, Role, Source};
use crate::error::{Diagnostic, Diagnostics};
use crate::event::AlertKey;

/// Correlations of correlations of correlations; people write two. A stop takes a round for each.
pub const LEVELS_MAX: usize = 8;

/// How far the watermarks of two shards may be apart: both look ten times a second. What is late for one that deduplicates is
/// taken with its watermark, and has to be kept until that has been told.
const LATE_MS: i64 = 1_000;

/// The correlations of a plan, ready to run. Shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct Correlations {
    list: Vec<Compiled>,
    /// By [`Compiled::key`].
    indices: HashMap<u64, u32>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Stands for the text of the correlation and of all rules below it: who has the same, means the same.
    pub key: u64,
    /// 0 if it looks at rules only, otherwise one more than the highest that it looks at.
    pub level: usize,
    /// How far its watermark stays behind the newest event.
    pub lateness_ms: i64,
    /// How long a hit may matter to it and to those chained to it, behind the hit's own time.
    pub retain_ms: i64,
    /// How long the journal has to keep the event of a hit, so that the next run can make the hit again.
    pub keep_ms: i64,
    /// What it does.
    pub program: Program,
    /// What a match of it is to others.
    pub steps: Vec<Step>,
    /// Fields that its hits carry, as it calls them.
    pub(super) carried: Vec<String>,
}

/// A match as the hit of a chained correlation. The numbers are places in what the match carries.
#[derive(Clone, Debug)]
pub struct Step {
    /// The chained correlation.
    pub to: u32,
    /// Which of its rules.
    pub base: u8,
    group: Vec<usize>,
    fields: Vec<usize>,
    carried: Vec<usize>,
}

impl Correlations {
    /// Compiles linked correlations; those that stand too high upon others are refused.
    pub fn new(linked: &[Linked], rules: &[SigmaRule]) -> (Self, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let carried = carried(linked);
        let mut list: Vec<Compiled> = Vec::with_capacity(linked.len());
        for (linked, carried) in linked.iter().zip(&carried) {
            let below = linked.bases.iter().filter_map(|base| match base.source {
                Source::Correlation(other) => list.get(other as usize).map(|other| other.level + 1),
                Source::Rule(_) => None,
            });
            let level = below.max().unwrap_or(0);
            if level >= LEVELS_MAX {
                let message = format!("correlations stand on each other {} high; at most {LEVELS_MAX} do", level + 1);
                let correlation = &linked.correlation;
                diagnostics.push(Diagnostic::error(&correlation.file, correlation.line, 0, "correlation.rules", message));
            }
            list.push(Compiled {
                key: key(linked, rules, &list),
                level,
                lateness_ms: 0,
                retain_ms: 0,
                keep_ms: 0,
                program: program(linked),
                steps: Vec::new(),
                carried: carried.clone(),
            });
        }
        for (to, chained) in linked.iter().enumerate() {
            for (number, base) in chained.bases.iter().enumerate() {
                let Source::Correlation(from) = base.source else { continue };
                let Some(from) = list.get_mut(from as usize) else { continue };
                let place = |name: &String| from.carried.iter().position(|carried| carried == name).unwrap_or(usize::MAX);
                let behind = carried.get(to).into_iter().flatten().map(|name| below_name(name, &chained.correlation, base));
                let step = Step {
                    to: to as u32,
                    base: number as u8,
                    group: base.group_by.iter().map(place).collect(),
                    fields: base.fields.iter().map(place).collect(),
                    carried: behind.map(|name| place(&name)).collect(),
                };
                from.steps.push(step);
            }
        }
        let indices = list.iter().zip(0..).map(|(compiled, index)| (compiled.key, index)).collect();
        (Self { list, indices }, diagnostics)
    }

    /// Says how late the hits of each may come; a chained one waits as long as those below it. From that follows how long
    /// hits matter.
    pub fn set_lateness(&mut self, linked: &[Linked], lateness_ms: &[i64]) {
        for (index, (linked, own)) in linked.iter().zip(lateness_ms).enumerate() {
            let below = linked.bases.iter().filter_map(|base| match base.source {
                Source::Correlation(other) => self.list.get(other as usize).map(|other| other.lateness_ms),
                Source::Rule(_) => None,
            });
            let lateness_ms = below.chain([*own]).max().unwrap_or(0);
            self.list.get_mut(index).into_iter().for_each(|compiled| compiled.lateness_ms = lateness_ms);
        }
        // Each is behind those that it looks at.
        for index in (0..self.list.len()).rev() {
            let Compiled { program, steps, lateness_ms, .. } = &self.list[index];
            let above = steps.iter().filter_map(|step| self.list.get(step.to as usize)).map(|above| above.retain_ms);
            let behind_ms = above.max().map_or(*lateness_ms, |above| above.max(*lateness_ms));
            let retain_ms = program.timespan_ms.saturating_add(behind_ms);
            // What makes no second alert in a window is known by the first one.
            let keep_ms = if program.is_deduplication { behind_ms.saturating_add(LATE_MS) } else { retain_ms };
            (self.list[index].retain_ms, self.list[index].keep_ms) = (retain_ms, keep_ms);
        }
    }

    /// All of them, each behind those that it looks at.
    pub fn list(&self) -> &[Compiled] {
        &self.list
    }

    /// The one that means the same.
    pub fn find(&self, key: u64) -> Option<u32> {
        self.indices.get(&key).copied()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Number of levels.
    pub fn levels(&self) -> usize {
        self.list.iter().map(|compiled| compiled.level + 1).max().unwrap_or(0)
    }
}

impl Step {
    /// Puts the hit together; false if the match lacks a field of the group.
    pub fn assemble(&self, fired: &Fired, out: &mut Assembly) -> bool {
        out.clear();
        let values: Vec<Part<'_>> = parts(&fired.carry).collect();
        let value = |place: &usize| values.get(*place).copied().unwrap_or(Part::Absent);
        for part in self.group.iter().map(value) {
            if part == Part::Absent {
                return false;
            }
            push_same(&mut out.key, part);
        }
        out.has_value = !self.fields.is_empty() && self.fields.iter().map(value).all(|part| part != Part::Absent);
        match self.fields.as_slice() {
            [one] => match value(one) {
                Part::Value(bytes) | Part::Digest(bytes) => out.value.extend_from_slice(bytes),
                Part::Absent => {}
            },
            several => several.iter().map(value).for_each(|part| push_same(&mut out.value, part)),
        }
        for place in &self.carried {
            match value(place) {
                Part::Absent => push_absent(&mut out.carry),
                part => push_same(&mut out.carry, part),
            }
        }
        true
    }
}

fn program(linked: &Linked) -> Program {
    let Correlation { kind, condition, timespan_ms, .. } = &linked.correlation;
    Program {
        kind: *kind,
        condition: condition.clone(),
        timespan_ms: *timespan_ms,
        rule_count: linked.bases.len(),
        is_deduplication: linked.role == Role::Deduplication,
        budget_bytes: 0,
    }
}

fn key(linked: &Linked, rules: &[SigmaRule], below: &[Compiled]) -> u64 {
    let mut text = linked.correlation.hash.clone();
    if linked.role == Role::Deduplication {
        let names: Vec<&str> = linked.correlation.group_by.iter().map(|name| name.text.as_str()).collect();
        text.push_str(&format!("\n{}\n{}", linked.correlation.timespan_ms, names.join("\n")));
    }
    for base in &linked.bases {
        text.push('\n');
        match base.source {
            Source::Rule(rule) => text.push_str(rules.get(rule as usize).map_or("", |rule| &rule.hash)),
            Source::Correlation(other) => text.push_str(&below.get(other as usize).map_or(0, |other| other.key).to_string()),
        }
    }
    AlertKey::rule(&text)
}

/// What `name`, in a correlation or one chained to it, is called in the events of one of its rules.
pub(super) fn below_name(name: &str, correlation: &Correlation, base: &Base) -> String {
    let group = correlation.group_by.iter().position(|group| group.text == name);
    group.and_then(|index| base.group_by.get(index)).cloned().unwrap_or_else(|| name.to_owned())
}

/// By correlation: the fields that those chained to it want of its matches, as it calls them.
fn carried(linked: &[Linked]) -> Vec<Vec<String>> {
    let mut carried = vec![Vec::new(); linked.len()];
    for (index, chained) in linked.iter().enumerate().rev() {
        for base in &chained.bases {
            let Source::Correlation(below) = base.source else { continue };
            let own = base.group_by.iter().chain(&base.fields).cloned();
            let behind = carried[index].iter().map(|name: &String| below_name(name, &chained.correlation, base));
            let wanted: Vec<String> = own.chain(behind).collect();
            let list: &mut Vec<String> = &mut carried[below as usize];
            for name in wanted {
                if !list.contains(&name) {
                    list.push(name);
                }
            }
        }
    }
    carried
}
