//! Correlations without a run: one owner, and the watermark passes everything at the end, so that the order of the input does
//! not matter. What is too large for that goes on behind the newest event, as in a run.

use std::sync::Arc;

use crate::detect::Rules;
use crate::detect::correlate::{Assembly, Counters, Feed, Fired, LEVELS_MAX, Set, Way};
use crate::event::{Event, Position};

/// What groups and waiting hits may hold: a file is looked at as a whole.
const BUDGET_BYTES: usize = 256 << 20;

/// Beyond this, hits do not wait for the end any more. Far enough from the budget that no correlation has used up its share.
const WAITING_BYTES_MAX: usize = BUDGET_BYTES / 8;

/// Then this much later than the newest event may an event come. Files of several senders or shards, one behind the other,
/// are further apart.
const LATENESS_MS: i64 = 3_600_000;

/// The correlations of some rules, and what they have found.
pub(super) struct Correlation {
    set: Set,
    assembly: Assembly,
    fired: Vec<(u32, Fired)>,
    found: Vec<(u32, Fired)>,
    newest_ms: i64,
    /// Of what is finished.
    left_out: Counters,
}

impl Correlation {
    /// Without any state.
    pub(super) fn new(rules: &Rules) -> Self {
        let set = Set::new(Arc::new(rules.compiled.clone()), BUDGET_BYTES);
        Self {
            set,
            assembly: Assembly::default(),
            fired: Vec::new(),
            found: Vec::new(),
            newest_ms: i64::MIN,
            left_out: Counters::default(),
        }
    }

    /// Takes the hit of a rule.
    pub(super) fn add(&mut self, feed: &Feed, event: Event<'_>, position: Position) {
        if feed.assemble(event, Way::default(), &mut self.assembly) {
            let hit = self.assembly.hit(position, event.time_ms, feed.base);
            self.set.accept(feed.correlation, &hit, &mut self.fired);
            self.chain();
        }
    }

    /// Everything of a chunk was taken; the newest event of it that is not of the future is of `newest_ms`.
    pub(super) fn go_on(&mut self, newest_ms: i64) {
        self.newest_ms = self.newest_ms.max(newest_ms);
        self.set.share(&mut self.fired);
        self.chain();
        if self.set.holdings().map(|holding| holding.bytes).sum::<usize>() > WAITING_BYTES_MAX {
            self.advance(self.newest_ms.saturating_sub(LATENESS_MS));
        }
    }

    fn advance(&mut self, reached_ms: i64) {
        for level in 0..LEVELS_MAX {
            self.set.advance(level, reached_ms, &mut self.fired);
            self.chain();
        }
    }

    /// Nothing more comes: gives all matches with the indices of their correlations, and begins anew.
    pub(super) fn finish(&mut self) -> Vec<(u32, Fired)> {
        self.advance(i64::MAX);
        self.newest_ms = i64::MIN;
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
