//! All correlators of one shard under one budget: `hits by correlation, watermark by level -> matches`.
//!
//! The budget is shared out by need: who holds little keeps half of an equal share, the rest goes to those who need it,
//! in equal parts. So the sum never exceeds the budget, and one correlation under attack does not starve the others.

use std::sync::Arc;

use super::wiring::Correlations;
use super::{Correlator, Counters, Fired, Hit};

/// What an idle correlation keeps of its equal share, as a divisor.
const RESERVED: usize = 2;

/// Below this part of its equal share, as a divisor, a correlation holds little.
const LITTLE: usize = 4;

/// The correlators of one shard.
#[derive(Debug)]
pub struct Set {
    correlations: Arc<Correlations>,
    correlators: Vec<Correlator>,
    budget_bytes: usize,
}

/// What one correlator holds and went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Groups alive.
    pub groups: usize,
    /// Bytes held.
    pub bytes: usize,
    /// What it went through.
    pub counters: Counters,
}

impl Set {
    /// Without any state; `budget_bytes` is what all of it may hold.
    pub fn new(correlations: Arc<Correlations>, budget_bytes: usize) -> Self {
        let correlators = correlations.list().iter().map(|compiled| Correlator::new(compiled.program.clone())).collect();
        let mut set = Self { correlations, correlators, budget_bytes };
        set.share(&mut Vec::new());
        set
    }

    /// The correlations that it runs.
    pub fn correlations(&self) -> &Arc<Correlations> {
        &self.correlations
    }

    /// Goes on with other correlations. Those that mean the same keep their state.
    pub fn take_up(&mut self, correlations: Arc<Correlations>, budget_bytes: usize, fired: &mut Vec<(u32, Fired)>) {
        let mut old: Vec<Option<Correlator>> = std::mem::take(&mut self.correlators).into_iter().map(Some).collect();
        let before = std::mem::replace(&mut self.correlations, correlations);
        let correlator = |compiled: &super::Compiled| {
            let same = before.find(compiled.key).and_then(|index| old.get_mut(index as usize)?.take());
            same.unwrap_or_else(|| Correlator::new(compiled.program.clone()))
        };
        self.correlators = self.correlations.list().iter().map(correlator).collect();
        self.budget_bytes = budget_bytes;
        self.share(fired);
    }

    /// Takes a hit. `fired` gets something only if the budget forces hits to be taken early.
    pub fn accept(&mut self, correlation: u32, hit: &Hit<'_>, fired: &mut Vec<(u32, Fired)>) {
        let Some(correlator) = self.correlators.get_mut(correlation as usize) else { return };
        let mut found = Vec::new();
        correlator.accept(hit, &mut found);
        fired.extend(found.into_iter().map(|found| (correlation, found)));
    }

    /// Moves the correlations of a level on: of the newest event everything up to `reached_ms` has been seen.
    pub fn advance(&mut self, level: usize, reached_ms: i64, fired: &mut Vec<(u32, Fired)>) {
        self.each(level, fired, |correlator, lateness_ms, found| correlator.advance(reached_ms.saturating_sub(lateness_ms), found));
    }

    /// Begins behind an earlier run, which was done with everything up to `reached_ms`.
    pub fn begin_behind(&mut self, reached_ms: i64) {
        for (correlator, compiled) in self.correlators.iter_mut().zip(self.correlations.list()) {
            correlator.begin_behind(reached_ms.saturating_sub(compiled.retain_ms));
        }
    }

    /// Takes everything of a level that waits; windows that are over by then are judged, others stay open.
    pub fn take_waiting(&mut self, level: usize, reached_ms: i64, fired: &mut Vec<(u32, Fired)>) {
        self.each(level, fired, |correlator, _, found| correlator.take_waiting(reached_ms, found));
    }

    fn each(&mut self, level: usize, fired: &mut Vec<(u32, Fired)>, mut work: impl FnMut(&mut Correlator, i64, &mut Vec<Fired>)) {
        let mut found = Vec::new();
        for ((correlator, compiled), index) in self.correlators.iter_mut().zip(self.correlations.list()).zip(0..) {
            if compiled.level == level {
                work(correlator, compiled.lateness_ms, &mut found);
                fired.extend(found.drain(..).map(|found| (index, found)));
            }
        }
    }

    /// Shares the budget out anew.
    pub fn share(&mut self, fired: &mut Vec<(u32, Fired)>) {
        let count = self.correlators.len().max(1);
        let equal = self.budget_bytes / count;
        let has_little = |correlator: &Correlator| correlator.used_bytes() <= equal / LITTLE;
        let idle = self.correlators.iter().filter(|correlator| has_little(correlator)).count();
        let spare = idle * (equal - equal / RESERVED);
        let more = spare / (self.correlators.len() - idle).max(1);
        let mut found = Vec::new();
        for (correlator, index) in self.correlators.iter_mut().zip(0..) {
            let bytes = if has_little(correlator) { equal / RESERVED } else { equal + more };
            correlator.set_budget(bytes, &mut found);
            fired.extend(found.drain(..).map(|found| (index, found)));
        }
    }

    /// What each correlator holds, in the order of the correlations.
    pub fn holdings(&self) -> impl Iterator<Item = Holding> {
        let holding = |correlator: &Correlator| Holding {
            groups: correlator.keys_alive(),
            bytes: correlator.used_bytes(),
            counters: correlator.counters(),
        };
        self.correlators.iter().map(holding)
    }
}
