//! What rules cost this shard, and which are stopped because of that: `measured events -> metrics, quarantine`.
//!
//! A detector measures one event in so many ([`crate::matcher::COST_EVERY`]). From that follow `hydrant_rule_cpu_nanoseconds_total`
//! and the share of the time that a rule takes. A rule that takes more than its budget in [`STRIKES`] windows in a row is
//! quarantined, on all shards, until the next reload: with it, everything else would come late or be held back.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::detect::sigma::SigmaRule;
use crate::detect::{self, Detector};
use crate::matcher::Cost;
use crate::metrics::{self, Cell, Registry};
use crate::pipeline::plan::Plan;

/// How long costs are summed up before they are judged.
const WINDOW: Duration = Duration::from_secs(10);

/// Windows over the budget before a rule is stopped. One alone may be a burst.
const STRIKES: u32 = 3;

/// The costs of all rules on one shard.
pub(super) struct RuleCosts {
    since: Instant,
    /// What belongs to no rule.
    shared: Cell,
    /// By rule.
    rules: Vec<RuleCost>,
}

struct RuleCost {
    cpu_ns: u64,
    strikes: u32,
    cpu: Cell,
    quarantined: Cell,
}

impl RuleCosts {
    pub(super) fn new(plan: &Plan, registry: &Registry) -> Self {
        let cost = |rule: &SigmaRule| {
            let labels: &[(&str, &str)] = &[("rule_id", &rule.id), ("rule", &rule.title)];
            let [cpu, quarantined] = [&metrics::RULE_CPU, &metrics::RULES_QUARANTINED].map(|family| registry.cell(family, labels));
            quarantined.set(0);
            RuleCost { cpu_ns: 0, strikes: 0, cpu, quarantined }
        };
        let shared = registry.cell(&metrics::RULES_SHARED_CPU, &[]);
        Self { since: Instant::now(), shared, rules: plan.rules.rules.iter().map(cost).collect() }
    }

    /// Takes what was measured since the last call, and when a window is over, judges. No rule is left out where alerts are
    /// owed: those were decided before.
    pub(super) fn judge<'a>(
        &mut self,
        plan: &Plan,
        is_owed: bool,
        detectors: impl Iterator<Item = (&'a mut detect::Scratch, &'a Detector)>,
    ) {
        let quarantine = &plan.quarantine;
        let stopped = if is_owed { 0 } else { quarantine.stopped.load(Ordering::Acquire) };
        for (scratch, detector) in detectors {
            let shared = detector.take_costs(scratch, |rule, Cost { ns, .. }| {
                if let Some(cost) = self.rules.get_mut(rule as usize) {
                    cost.cpu_ns += ns;
                    cost.cpu.add(ns);
                }
            });
            self.shared.add(shared.ns);
            if scratch.stopped() != stopped {
                detector.stop(scratch, stopped, |rule| !is_owed && quarantine.has(rule));
            }
        }
        let elapsed = self.since.elapsed();
        if elapsed >= WINDOW {
            self.since = Instant::now();
            self.end_window(plan, elapsed);
        }
    }

    fn end_window(&mut self, plan: &Plan, elapsed: Duration) {
        let Some(budget_percent) = plan.settings.rule_budget_percent else { return };
        let budget_ns = elapsed.as_nanos() as u64 / 100 * budget_percent;
        for (index, (cost, rule)) in self.rules.iter_mut().zip(&plan.rules.rules).enumerate() {
            let cpu_ns = std::mem::take(&mut cost.cpu_ns);
            cost.strikes = if cpu_ns > budget_ns { cost.strikes + 1 } else { 0 };
            if cost.strikes == STRIKES && plan.quarantine.add(index as u32) {
                cost.quarantined.set(1);
                tracing::error!(
                    rule = %rule.title, id = %rule.id, file = %rule.file.display(), line = rule.line,
                    "quarantined until the next reload: it takes {} % of a shard's time and may take {budget_percent} (`rule_budget_percent`)",
                    cpu_ns * 100 / (elapsed.as_nanos() as u64).max(1)
                );
            }
        }
    }
}

#[cfg(test)]
impl super::Shard {
    /// As if a window had ended in which the rules took so many ms.
    pub(super) fn spend(&mut self, rules_ms: [u64; 2]) {
        self.costs.rules.iter_mut().zip(rules_ms).for_each(|(cost, ms)| cost.cpu_ns = ms * 1_000_000);
        self.costs.end_window(&self.plan, WINDOW);
    }
}
