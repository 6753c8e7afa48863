//! Correlations without a run: one owner, and the watermark passes everything at the end.

use std::sync::Arc;

use crate::detect::Rules;
use crate::detect::correlate::{Assembly, Counters, Feed, Fired, LEVELS_MAX, Set};
use crate::event::{Event, Position};

/// What groups and waiting hits may hold: a file is looked at as a whole.
const BUDGET_BYTES: usize = 256 << 20;

/// The correlations of some rules, and what they have found.
pub(super) struct Correlation {
    set: Set,
    assembly: Assembly,
    fired: Vec<(u32, Fired)>,
    found: Vec<(u32, Fired)>,
    /// Of what is finished.
    left_out: Counters,
}

impl Correlation {
    /// Without any state.
    pub(super) fn new(rules: &Rules) -> Self {
        let set = Set::new(Arc::new(rules.compiled.clone()), BUDGET_BYTES);
        Self { set, assembly: Assembly::default(), fired: Vec::new(), found: Vec::new(), left_out: Counters::default() }
    }

    /// Takes the hit of a rule.
    pub(super) fn add(&mut self, feed: &Feed, event: Event<'_>, position: Position) {
        if feed.assemble(event, &mut self.assembly) {
            let hit = self.assembly.hit(position, event.time_ms, feed.base);
            self.set.accept(feed.correlation, &hit, &mut self.fired);
            self.chain();
        }
    }

    /// Nothing more comes: gives all matches with the indices of their correlations, and begins anew.
    pub(super) fn finish(&mut self) -> Vec<(u32, Fired)> {
        for level in 0..LEVELS_MAX {
            self.set.advance(level, i64::MAX, &mut self.fired);
            self.chain();
        }
        for holding in self.set.holdings() {
            let (all, own) = (&mut self.left_out, holding.counters);
            all.late_events += own.late_events;
            all.without_value += own.without_value;
            all.evicted_keys += own.evicted_keys;
            all.forced_events += own.forced_events;
        }
        self.set = Set::new(self.set.correlations().clone(), BUDGET_BYTES);
        std::mem::take(&mut self.found)
    }

    /// What was found so far.
    pub(super) fn found(&mut self) -> Vec<(u32, Fired)> {
        std::mem::take(&mut self.found)
    }

    /// What could not be counted as it should.
    pub(super) fn left_out(&self) -> Counters {
        self.left_out
    }

    fn chain(&mut self) {
        while !self.fired.is_empty() {
            for (index, fired) in std::mem::take(&mut self.fired) {
                let correlations = self.set.correlations().clone();
                for step in correlations.list().get(index as usize).map_or(&[][..], |compiled| &compiled.steps) {
                    if step.assemble(&fired, &mut self.assembly) {
                        let hit = self.assembly.hit(fired.position, fired.time_ms, step.base);
                        self.set.accept(step.to, &hit, &mut self.fired);
                    }
                }
                self.found.push((index, fired));
            }
        }
    }
}
