//! What a shard makes of a hit that may alert: a row of its own, unless the rule's alerts are deduplicated or somebody has
//! silenced them.

use super::{Pass, Shard};
use crate::detect::Hit;
use crate::detect::sigma::{Level, SigmaRule};
use crate::detect::treatment::Treatment;
use crate::event::{Chunk, Kind, Slot, SlotId};
use crate::limits::CHUNK_BYTES_MAX;
use crate::metrics::{self, Cell, Registry};
use crate::pipeline::plan::{Line, OwnSlots, Plan};

/// Counts hits that made no alert.
#[derive(Default)]
pub(super) struct NotMade {
    /// By rule, if it is in the shadow and would alert.
    shadow: Vec<Option<Cell>>,
    /// By silence.
    silenced: Vec<Cell>,
}

impl NotMade {
    /// For the rules and silences of a plan.
    pub(super) fn new(plan: &Plan, registry: &Registry) -> Self {
        let cell = |labels: &[(&'static str, &str)]| registry.cell(&metrics::ALERTS_NOT_MADE, labels);
        let shadow = |(index, rule): (usize, &SigmaRule)| {
            let is_shadow = plan.treatments.get(index) == Some(&Treatment::Shadow) && may_alert(plan, index as u32);
            is_shadow.then(|| cell(&[("rule_id", &rule.id), ("rule", &rule.title), ("reason", "shadow")]))
        };
        let silenced = plan.silences.list.iter().map(|silence| cell(&[("reason", "silenced"), ("silence", &silence.id)]));
        Self { shadow: plan.rules.rules.iter().enumerate().map(shadow).collect(), silenced: silenced.collect() }
    }
}

/// Whether a hit of a rule is an alert if nobody objects.
pub(super) fn may_alert(plan: &Plan, rule: u32) -> bool {
    let index = rule as usize;
    plan.rules.alone.get(index) == Some(&true) && plan.rules.rules.get(index).is_some_and(|rule| rule.level > Level::Informational)
}

impl Pass<'_> {
    /// Whether every alert is made that was owed before, whatever holds now: only those that are owed are taken.
    pub(super) fn is_owed(&self) -> bool {
        matches!(self, Self::Owed(..) | Self::Batch(..))
    }
}

impl Shard {
    /// Makes the alerts of an event's hits, with what each has matched; whether there is any, or one that stands for this one.
    pub(super) fn make_alerts(&mut self, plan: &Plan, (index, chunk): (usize, &Chunk), hits: &[Hit], matched: &[Vec<u8>]) -> bool {
        let Some(line) = plan.line(index) else { return false };
        let mut is_any = false;
        for (hit, matched) in hits.iter().zip(matched).filter(|(hit, _)| may_alert(plan, hit.rule)) {
            let treatment = plan.treatments.get(hit.rule as usize).copied().unwrap_or_default();
            match treatment {
                _ if self.is_owed => {}
                Treatment::Shadow => {
                    let cell = self.not_made.shadow.get(hit.rule as usize);
                    cell.into_iter().flatten().for_each(|cell| cell.add(1));
                    continue;
                }
                Treatment::Deduplicate if !plan.silences.is_any_active(chunk.received_ms) => {
                    is_any = true;
                    continue;
                }
                Treatment::Alert | Treatment::Deduplicate => {}
            }
            let is_silenced = self.make_alert((plan, line), (index, chunk), *hit, matched);
            if is_silenced {
                self.silenced.push(*hit);
            } else if treatment == Treatment::Deduplicate && !self.is_owed {
                // Asked of a row that is not needed: the correlation makes the alert.
                self.lines[index].events.pop_alert();
            } else {
                self.alerts.add(1);
            }
            is_any |= !is_silenced;
        }
        is_any
    }

    /// Adds the row of an alert; takes it away again if a silence holds, and says so.
    fn make_alert(&mut self, (plan, line): (&Plan, &Line), (index, chunk): (usize, &Chunk), hit: Hit, matched: &[u8]) -> bool {
        let Some(rule) = plan.rules.rules.get(hit.rule as usize) else { return false };
        let events = &mut self.lines[index].events;
        let alert = events.push_alert(hit.row as usize, hit.rule, self.rule_keys[hit.rule as usize]);
        let texts = Texts { id: rule.id.as_bytes(), title: rule.title.as_bytes(), level: rule.level.as_str().as_bytes() };
        let mut row = events.row_mut(chunk, alert);
        texts.own(line.own, |slot, text| row.set_written(slot, Kind::Text, |out| out.extend_from_slice(text)));
        // Half of the room is for what has to be written.
        if let Some(slot) = line.own.matched.filter(|_| !matched.is_empty() && row.has_room(CHUNK_BYTES_MAX / 2 + matched.len())) {
            row.set_written(slot, Kind::Array, |out| out.extend_from_slice(matched));
        }
        self.silence(plan, (index, chunk), alert)
    }

    /// Takes the last row, an alert, away if a silence holds for it, and says so.
    pub(super) fn silence(&mut self, plan: &Plan, (index, chunk): (usize, &Chunk), alert: usize) -> bool {
        let silences = &plan.silences;
        let Some(line) = plan.line(index).filter(|_| !self.is_owed && silences.is_any_active(chunk.received_ms)) else { return false };
        let state = &mut self.lines[index];
        let held = line.silencer.find(&silences.list, chunk.received_ms, state.events.event(chunk, alert), &mut state.silencer);
        let Some(silence) = held else { return false };
        state.events.pop_alert();
        self.not_made.silenced.get(silence).into_iter().for_each(|cell| cell.add(1));
        true
    }

    /// Marks an event as one that has an alert, or takes the mark away.
    pub(super) fn mark_alert(&mut self, own: OwnSlots, (index, chunk): (usize, &Chunk), row: usize, is_alert: bool) {
        if let Some(slot) = own.alert {
            self.lines[index].events.row_mut(chunk, row).set(slot, if is_alert { Slot::new(Kind::True, 0, 0) } else { Slot::MISSING });
        }
    }
}

/// What an alert says of its rule, for routes and silences.
pub(super) struct Texts<'a> {
    /// Its id.
    pub(super) id: &'a [u8],
    /// Its title.
    pub(super) title: &'a [u8],
    /// Its level.
    pub(super) level: &'a [u8],
}

impl Texts<'_> {
    /// Gives what anybody wants to know to `set`.
    pub(super) fn own(&self, own: OwnSlots, mut set: impl FnMut(SlotId, &[u8])) {
        let texts = [(own.kind, &b"alert"[..]), (own.level, self.level), (own.rule_id, self.id), (own.rule_title, self.title)];
        texts.into_iter().filter_map(|(slot, text)| Some((slot?, text))).for_each(|(slot, text)| set(slot, text));
    }
}
