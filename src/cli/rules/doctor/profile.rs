//! What the events of one decoder have: `events -> which fields, how often, with which values`; and whether a rule can match
//! anything of it.
//!
//! Of a field only the first [`VALUES_MAX`] different values are kept. One with more of them can have any value, as far as
//! this goes.

use std::collections::HashMap;

use crate::detect::sigma::SigmaRule;
use crate::event::{Event, Kind, Slot, SlotId, Value};
use crate::matcher::explain::{holds, nearly};
use crate::matcher::{Expr, Predicate, Type};
use crate::pipeline::offline::Offline;

/// Different values of one field that are kept. Actions, protocols and ports of one network have fewer.
const VALUES_MAX: usize = 64;

/// Longer values are not kept; who lists whole values lists short ones.
const VALUE_BYTES_MAX: usize = 256;

/// How far a profile is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Only that a field never comes.
    Presence,
    /// That there are no other values either.
    Values,
}

/// One field.
#[derive(Default)]
struct Filled {
    events: u64,
    /// Values of a field that a rule asks for.
    values: Vec<(Kind, Vec<u8>)>,
    /// Whether there are more values than that.
    is_cut: bool,
    is_asked: bool,
}

/// The events of one decoder.
pub(super) struct Profile {
    pub(super) events: u64,
    names: HashMap<String, usize>,
    slots: Vec<(SlotId, Filled)>,
}

impl Profile {
    /// For a decoder; of the fields in `asked` the values are kept as well.
    pub(super) fn new(offline: &Offline, decoder: &str, asked: &[&str]) -> Self {
        let mut profile = Self { events: 0, names: HashMap::new(), slots: Vec::new() };
        let mut by_slot: HashMap<SlotId, usize> = HashMap::new();
        let own = offline.names(decoder).into_iter().map(|name| (name, false));
        for (name, is_asked) in own.chain(asked.iter().map(|name| (*name, true))) {
            let Some(slot) = offline.slot(decoder, name) else { continue };
            let index = *by_slot.entry(slot).or_insert(profile.slots.len());
            if index == profile.slots.len() {
                profile.slots.push((slot, Filled::default()));
            }
            profile.slots[index].1.is_asked |= is_asked;
            profile.names.insert(name.to_owned(), index);
        }
        profile
    }

    /// Takes an event of the decoder.
    pub(super) fn add(&mut self, event: Event<'_>) {
        self.events += 1;
        for (slot, filled) in &mut self.slots {
            let value = event.value(*slot);
            if value == Value::Missing {
                continue;
            }
            filled.events += 1;
            if !filled.is_asked || filled.is_cut {
                continue;
            }
            let kind = event.slot(*slot).kind();
            let bytes = match value {
                Value::Number(bytes) | Value::Text(bytes) | Value::Escaped(bytes) | Value::Array(bytes) | Value::Object(bytes) => bytes,
                Value::Missing | Value::Null | Value::Boolean(_) => &[],
            };
            if filled.values.iter().any(|(other, known)| *other == kind && known == bytes) {
                continue;
            }
            if filled.values.len() < VALUES_MAX && bytes.len() <= VALUE_BYTES_MAX {
                filled.values.push((kind, bytes.to_vec()));
            } else {
                (filled.is_cut, filled.values) = (true, Vec::new());
            }
        }
    }

    fn field(&self, name: &str) -> Option<&Filled> {
        self.names.get(name).and_then(|index| self.slots.get(*index)).map(|(_, filled)| filled)
    }

    /// Events that have a field.
    pub(super) fn filled(&self, name: &str) -> u64 {
        self.field(name).map_or(0, |filled| filled.events)
    }

    /// The names of fields that events have.
    pub(super) fn filled_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str).filter(|name| self.filled(name) > 0)
    }

    /// Whether some event could match.
    pub(super) fn can_match(&self, rule: &SigmaRule, doubt: Doubt) -> bool {
        self.can(&rule.condition, doubt).0
    }

    /// Whether an expression can hold, and whether it can fail.
    fn can(&self, expr: &Expr<String>, doubt: Doubt) -> (bool, bool) {
        let list = |items: &[Expr<String>]| items.iter().map(|item| self.can(item, doubt)).collect::<Vec<_>>();
        match expr {
            Expr::All(items) => {
                let items = list(items);
                (items.iter().all(|(can_hold, _)| *can_hold), items.iter().any(|(_, can_fail)| *can_fail))
            }
            Expr::Any(items) => {
                let items = list(items);
                (items.iter().any(|(can_hold, _)| *can_hold), items.iter().all(|(_, can_fail)| *can_fail))
            }
            Expr::Not(inner) => {
                let (can_hold, can_fail) = self.can(inner, doubt);
                (can_fail, can_hold)
            }
            Expr::Field(name, predicate) => self.predicate(name, predicate, doubt),
            Expr::Fields { left, right, .. } => (self.filled(left) > 0 && self.filled(right) > 0, true),
            Expr::Keyword(_) => (true, true),
        }
    }

    fn predicate(&self, name: &str, predicate: &Predicate, doubt: Doubt) -> (bool, bool) {
        let Some(filled) = self.field(name).filter(|filled| filled.events > 0) else {
            let asks_absence = matches!(predicate, Predicate::Null | Predicate::Type(Type::Null));
            return (asks_absence, !asks_absence);
        };
        if doubt == Doubt::Presence || filled.is_cut {
            return (true, true);
        }
        let missing = (filled.events < self.events).then_some(Value::Missing);
        let decided = filled.values().chain(missing).map(|value| holds(predicate, value));
        decided.fold((false, false), |(can_hold, can_fail), holds| (can_hold | holds, can_fail | !holds))
    }

    /// What nearly fits, for each predicate that the rule needs and no value fulfils.
    pub(super) fn misfits(&self, rule: &SigmaRule) -> Vec<String> {
        let mut found = Vec::new();
        self.collect(&rule.condition, &mut found);
        found
    }

    fn collect(&self, expr: &Expr<String>, found: &mut Vec<String>) {
        match expr {
            Expr::All(items) => items.iter().filter(|item| !self.can(item, Doubt::Values).0).for_each(|item| self.collect(item, found)),
            // One of them is enough to tell.
            Expr::Any(items) => {
                let told = items.iter().find_map(|item| {
                    let mut own = Vec::new();
                    self.collect(item, &mut own);
                    own.into_iter().next()
                });
                found.extend(told);
            }
            Expr::Field(name, predicate) => {
                let Some(filled) = self.field(name).filter(|filled| !filled.is_cut) else { return };
                let near = filled.values().find_map(|value| Some((value, nearly(predicate, value)?)));
                if let Some((value, near)) = near {
                    found.push(format!("`{name}` {predicate}: every value fails, {} for one: {near}", text(value)));
                }
            }
            Expr::Not(_) | Expr::Fields { .. } | Expr::Keyword(_) => {}
        }
    }
}

impl Filled {
    fn values(&self) -> impl Iterator<Item = Value<'_>> {
        self.values.iter().map(|(kind, bytes)| Slot::new(*kind, 0, bytes.len()).value(bytes, &[]))
    }
}

fn text(value: Value<'_>) -> String {
    let mut text = Vec::new();
    crate::encode::template::write_value(value, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
