//! Which correlations a rule of one decoder feeds, and with which slots: `event of a hit -> group, value, carried fields`.

use super::Assembly;
use super::evidence::{self, Way};
use super::part::{push_absent, push_text, push_value};
use super::wiring::{Correlations, below_name};
use crate::detect::sigma::correlation::{Linked, Role, Source};
use crate::detect::{Detector, Vocabulary};
use crate::error::{Diagnostic, Diagnostics, nearest};
use crate::event::{Event, Fields, SlotId};

/// By rule of a decoder: the correlations that it feeds.
#[derive(Debug, Default)]
pub struct Feeds {
    /// By index of the rule: where its feeds begin; empty if there is no feed at all.
    starts: Box<[u32]>,
    feeds: Box<[Feed]>,
}

/// One correlation that a rule feeds.
#[derive(Debug)]
pub struct Feed {
    /// Its index.
    pub correlation: u32,
    /// Which of its rules.
    pub base: u8,
    /// A part that the decoder never fills is missing in every event, which only deduplication takes.
    group: Box<[Option<SlotId>]>,
    fields: Box<[SlotId]>,
    carried: Box<[Option<SlotId>]>,
    is_deduplication: bool,
}

/// What is needed beside a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The correlations as linked.
    pub linked: &'a [Linked],
    /// The same, compiled.
    pub correlations: &'a Correlations,
}

/// Told of each group: index of the correlation, place in its `group-by`, name of the field.
pub(super) type Named<'a> = dyn FnMut(usize, usize, &str) + 'a;

impl Feeds {
    /// Finds the slots for the rules that `detector` runs; what is needed is added to `fields`. The warnings name
    /// groups that cannot be made here, since the decoder never fills a field.
    pub fn new(
        wanted: Wanted<'_>,
        detector: &Detector,
        vocabulary: &dyn Vocabulary,
        fields: &mut Fields,
        named: &mut Named<'_>,
    ) -> (Self, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let mut found: Vec<(u32, Feed)> = Vec::new();
        for (index, (linked, compiled)) in wanted.linked.iter().zip(wanted.correlations.list()).enumerate() {
            for (number, base) in linked.bases.iter().enumerate() {
                let Source::Rule(rule) = base.source else { continue };
                if detector.rules().binary_search(&rule).is_err() {
                    continue;
                }
                let names = base.group_by.iter().chain(&base.fields);
                let resolved: Vec<Option<String>> = names.clone().map(|name| vocabulary.resolve(name)).collect();
                let is_deduplication = linked.role == Role::Deduplication;
                let missing = names.zip(&resolved).find(|(_, resolved)| resolved.is_none()).map(|(name, _)| name);
                if let Some(missing) = missing.filter(|_| !is_deduplication) {
                    diagnostics.push(unknown_field(linked, missing, vocabulary));
                    continue;
                }
                let slots: Vec<Option<SlotId>> = resolved.iter().map(|name| Some(fields.slot(name.as_ref()?))).collect();
                let (group, values) = slots.split_at(base.group_by.len());
                let group_names = resolved.iter().take(group.len()).enumerate();
                group_names.filter_map(|(place, name)| Some((place, name.as_ref()?))).for_each(|(place, name)| named(index, place, name));
                let carried = compiled.carried.iter().map(|name| below_name(name, &linked.correlation, base));
                let carried = carried.map(|name| vocabulary.resolve(&name).map(|name| fields.slot(&name))).collect();
                let (correlation, base, fields) = (index as u32, number as u8, values.iter().flatten().copied().collect());
                found.push((rule, Feed { correlation, base, group: group.into(), fields, carried, is_deduplication }));
            }
        }
        (Self::sorted(found), diagnostics)
    }

    fn sorted(mut found: Vec<(u32, Feed)>) -> Self {
        found.sort_by_key(|(rule, _)| *rule);
        let Some((last, _)) = found.last() else { return Self::default() };
        let starts = (0..=last + 1).map(|rule| found.partition_point(|(other, _)| *other < rule) as u32).collect();
        Self { starts, feeds: found.into_iter().map(|(_, feed)| feed).collect() }
    }

    /// Whether no rule feeds any.
    pub fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }

    /// What a rule feeds.
    pub fn of(&self, rule: u32) -> &[Feed] {
        let at = |index: usize| self.starts.get(index).map(|start| *start as usize);
        let (Some(start), Some(end)) = (at(rule as usize), at(rule as usize + 1)) else { return &[] };
        self.feeds.get(start..end).unwrap_or_default()
    }

    /// The correlations that are fed, some of them more than once.
    pub fn correlations(&self) -> impl Iterator<Item = u32> {
        self.feeds.iter().map(|feed| feed.correlation)
    }

    /// The same, each with the parts of its group that events can have.
    pub fn groups(&self) -> impl Iterator<Item = (u32, Vec<bool>)> {
        self.feeds.iter().map(|feed| (feed.correlation, feed.group.iter().map(Option::is_some).collect()))
    }
}

impl Feed {
    /// Whether the alerts of a rule are deduplicated by it.
    pub fn is_deduplication(&self) -> bool {
        self.is_deduplication
    }

    /// Puts the hit of an event together; false if the event lacks a field of the group.
    pub fn assemble(&self, event: Event<'_>, way: Way<'_>, out: &mut Assembly) -> bool {
        out.clear();
        for slot in &self.group {
            if !slot.is_some_and(|slot| push_value(&mut out.key, event.value(slot))) {
                if !self.is_deduplication {
                    return false;
                }
                // An alert is worth more than a whole key.
                push_absent(&mut out.key);
            }
        }
        if self.is_deduplication {
            evidence::push(event, way, &mut out.carry);
            return true;
        }
        out.has_value = match &*self.fields {
            [] => false,
            [one] => push_text(&mut out.value, event.value(*one)),
            several => several.iter().all(|slot| push_value(&mut out.value, event.value(*slot))),
        };
        for slot in &self.carried {
            if !slot.is_some_and(|slot| push_value(&mut out.carry, event.value(slot))) {
                push_absent(&mut out.carry);
            }
        }
        true
    }
}

fn unknown_field(linked: &Linked, name: &str, vocabulary: &dyn Vocabulary) -> Diagnostic {
    let correlation = &linked.correlation;
    let message = format!("correlation `{}`: events of one of its rules have no field `{name}`", correlation.title);
    let mut diagnostic = Diagnostic::error(&correlation.file, correlation.line, 0, "correlation", message).warning().code("unknown-field");
    diagnostic.help = nearest(name, vocabulary.names()).map(|near| format!("did you mean `{near}`?"));
    diagnostic
}
