//! Rules that are stopped because of what they cost, for all shards.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Which rules of a plan are stopped. A reload begins without any.
#[derive(Debug, Default)]
pub struct Quarantine {
    rules: Vec<AtomicBool>,
    /// How many are, so that a shard sees at a glance that one more is.
    pub stopped: AtomicU32,
}

impl Quarantine {
    /// For so many rules, none stopped.
    pub(super) fn new(rules: usize) -> Self {
        Self { rules: (0..rules).map(|_| AtomicBool::new(false)).collect(), stopped: AtomicU32::new(0) }
    }

    /// Stops a rule; false if another shard already has.
    pub fn add(&self, rule: u32) -> bool {
        let is_first = self.rules.get(rule as usize).is_some_and(|stopped| !stopped.swap(true, Ordering::Relaxed));
        if is_first {
            self.stopped.fetch_add(1, Ordering::Release);
        }
        is_first
    }

    /// Whether a rule is stopped.
    pub fn has(&self, rule: u32) -> bool {
        self.rules.get(rule as usize).is_some_and(|stopped| stopped.load(Ordering::Relaxed))
    }
}
