//! Every metric, declared once: name, meaning, unit and labels; and the registry that renders them.
//!
//! Counters are bumped once per chunk, batch or request, never per event, so a shared atomic costs nothing
//! that can be measured. Names follow Vector's where it has the same metric, so dashboards carry over.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Name, kind, labels and meaning of a metric.
#[derive(Debug)]
pub struct Family {
    /// Name as exposed.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// Meaning and unit.
    pub help: &'static str,
}

macro_rules! families {
    ($($(#[doc = $help:literal])* $constant:ident $kind:ident $name:literal;)*) => {
        $($(#[doc = $help])* pub static $constant: Family = Family { name: $name, kind: MetricKind::$kind, help: concat!($($help),*) };)*
        /// Every family, in the order of declaration.
        pub static FAMILIES: &[&Family] = &[$(&$constant),*];
    };
}

families! {
    /// Events (frames) that a source received, per component.
    EVENTS_RECEIVED Counter "hydrant_component_received_events_total";
    /// Bytes that a source received, before unwrapping, per component.
    BYTES_RECEIVED Counter "hydrant_component_received_bytes_total";
    /// Frames cut because they were longer than the limit, per component.
    FRAMES_CUT Counter "hydrant_frames_cut_total";
    /// Requests or connections refused, per component and reason.
    REFUSED Counter "hydrant_component_refused_total";
    /// Messages whose envelope was dropped (`control`) or could not be taken off, per component and reason.
    UNWRAP Counter "hydrant_unwrap_total";
    /// Datagrams that the kernel dropped before they could be read, per component.
    KERNEL_DROPS Counter "hydrant_udp_kernel_drops_total";
    /// Frames whose decoder found a flaw, per source and reason.
    DECODE_FLAWS Counter "hydrant_decode_flaws_total";
    /// Programs that failed on an event, or made a field that nothing can hold, per source and reason.
    TRANSFORM_ERRORS Counter "hydrant_transform_errors_total";
    /// Files of enrichments that were read, per enrichment and outcome (`loaded`, `failed`).
    ENRICHMENT_LOADS Counter "hydrant_enrichment_loads_total";
    /// Look-ups given up because of a damaged entry or a full chunk, per enrichment.
    ENRICHMENT_ERRORS Counter "hydrant_enrichment_errors_total";
    /// Addresses that a `reverse_dns` looked for in its memory, one that repeats in a chunk once, per enrichment and result:
    /// `name`, `no_name` (it is known that there is none), `unknown` (asked for), `private` (not asked for).
    REVERSE_DNS_LOOKUPS Counter "hydrant_reverse_dns_lookups_total";
    /// Questions to name servers, per enrichment and outcome: `name`, `no_name`, `not_a_host`, `not_confirmed`, `timeout`,
    /// `refused`, `malformed`, `unreachable`; `dropped` were not asked, as too many wait.
    REVERSE_DNS_QUESTIONS Counter "hydrant_reverse_dns_questions_total";
    /// Addresses that a `reverse_dns` remembers, per enrichment.
    REVERSE_DNS_CACHED Gauge "hydrant_reverse_dns_cached_addresses";
    /// Addresses that it forgot for want of room, per enrichment.
    REVERSE_DNS_EVICTED Counter "hydrant_reverse_dns_evicted_total";
    /// Rule matches, per rule.
    RULE_HITS Counter "hydrant_rule_hits_total";
    /// CPU time of looking at a rule, without what all rules share, estimated from one event in 509, per rule.
    RULE_CPU Counter "hydrant_rule_cpu_nanoseconds_total";
    /// CPU time of detection that belongs to no rule since all share it, estimated from one event in 509.
    RULES_SHARED_CPU Counter "hydrant_rules_shared_cpu_nanoseconds_total";
    /// 1 if the rule takes more than its budget and is not looked at until the next reload, per rule.
    RULES_QUARANTINED Gauge "hydrant_rule_quarantined";
    /// Hits of rules that were given to a correlation, per correlation.
    CORRELATION_HITS Counter "hydrant_correlation_hits_total";
    /// Hits that a correlation left out: behind the watermark (`late`), or without the field or number (`without_value`).
    CORRELATION_LEFT_OUT Counter "hydrant_correlation_left_out_total";
    /// Hits taken before the watermark because of the memory budget, per correlation.
    CORRELATION_FORCED Counter "hydrant_correlation_forced_total";
    /// Groups forgotten because of the memory budget, per correlation.
    CORRELATION_EVICTED Counter "hydrant_correlation_evicted_groups_total";
    /// Groups alive, per correlation.
    CORRELATION_GROUPS Gauge "hydrant_correlation_groups";
    /// Events of open windows that the journal has no room for: a restart does not count them.
    CORRELATION_FORGOTTEN Counter "hydrant_correlation_forgotten_events_total";
    /// Bytes that groups and waiting hits hold, per correlation.
    CORRELATION_BYTES Gauge "hydrant_correlation_used_bytes";
    /// Senders that are `silent`, have a `volume_drop` or `clock_skew`, or are `unreadable`, per component and condition.
    SOURCE_HEALTH Gauge "hydrant_source_health_senders";
    /// Alerts made.
    ALERTS Counter "hydrant_alerts_total";
    /// Hits that made no alert, per reason: in the `shadow` and `deduplicated` per rule, `silenced` per silence.
    ALERTS_NOT_MADE Counter "hydrant_alerts_not_made_total";
    /// Events routed to a destination, alerts included, per component.
    EVENTS_ROUTED Counter "hydrant_component_routed_events_total";
    /// Events that no route sends to a destination, per component.
    EVENTS_FILTERED Counter "hydrant_component_filtered_events_total";
    /// Events that a destination confirmed, per component.
    EVENTS_SENT Counter "hydrant_component_sent_events_total";
    /// Bytes that a destination confirmed, as sent (compressed), per component.
    BYTES_SENT Counter "hydrant_component_sent_bytes_total";
    /// Alerts that a destination confirmed, per component.
    ALERTS_SENT Counter "hydrant_component_sent_alerts_total";
    /// Events given up with a reason and written to the dead letters, per component.
    EVENTS_DEAD Counter "hydrant_dead_letter_events_total";
    /// Events and alerts that wait for a destination, per component.
    EVENTS_WAITING Gauge "hydrant_component_waiting_events";
    /// Events and alerts in attempts behind the first one, per component.
    EVENTS_RESENT Counter "hydrant_component_resent_events_total";
    /// Equations of the ledger that do not hold; anything but 0 means that events were lost or invented.
    LEDGER_IMBALANCES Gauge "hydrant_ledger_imbalances";
    /// Bytes that the dead letters of a destination take on the disk, per component.
    DEAD_LETTER_BYTES Gauge "hydrant_dead_letter_used_bytes";
    /// Bytes that they may take, per component.
    DEAD_LETTER_LIMIT Gauge "hydrant_dead_letter_limit_bytes";
    /// Dead letters that are in the bucket and no longer on the disk, per component.
    DEAD_LETTERS_SHIPPED Counter "hydrant_dead_letters_shipped_total";
    /// 1 while a dead letter cannot be written, because of the limit or the disk, and its event is held, per component.
    DEAD_LETTERS_FULL Gauge "hydrant_dead_letters_held";
    /// Events dropped by a written policy, per component and reason.
    EVENTS_DROPPED Counter "hydrant_component_discarded_events_total";
    /// Batches sealed before their time, for another partition or for memory, per component.
    SEALED_EARLY Counter "hydrant_batches_sealed_early_total";
    /// Attempts that failed and are tried again, per component.
    RETRIES Counter "hydrant_delivery_retries_total";
    /// 1 while a destination is held because a person has to act, per component.
    HELD Gauge "hydrant_destination_held";
    /// Bytes accounted in the memory budget.
    BUDGET_USED Gauge "hydrant_memory_budget_used_bytes";
    /// Size of the memory budget in bytes.
    BUDGET_LIMIT Gauge "hydrant_memory_budget_limit_bytes";
    /// Reloads of the configuration, per result: `ok`, or `refused` with the old plan kept.
    RELOADS Counter "hydrant_config_reloads_total";
    /// Hand-overs to a new process, per result: `ok`, or `refused` with this one going on.
    HAND_OVERS Counter "hydrant_hand_overs_total";
    /// Chunks that one shard handed to another.
    CHUNKS_HANDED_OVER Counter "hydrant_chunks_handed_over_total";
    /// Groups that the journal made durable, per shard.
    JOURNAL_COMMITS Counter "hydrant_journal_commits_total";
    /// Bytes that the journal made durable, without headers, per shard.
    JOURNAL_BYTES Counter "hydrant_journal_written_bytes_total";
    /// Writes and syncs of the journal that failed, per shard.
    JOURNAL_FAILURES Counter "hydrant_journal_failures_total";
    /// 1 while the journal cannot be written and senders are held back, per shard.
    JOURNAL_FAILING Gauge "hydrant_journal_failing";
    /// Bytes that the journal's segments take on the disk.
    JOURNAL_USED Gauge "hydrant_journal_used_bytes";
    /// Bytes of those that nobody waits for and that are kept for `retain`, per shard. They go before senders are held back.
    JOURNAL_RETAINED Gauge "hydrant_journal_retained_bytes";
    /// Bytes that all may take; senders are held back before.
    JOURNAL_LIMIT Gauge "hydrant_journal_limit_bytes";
    /// Chunks that some destination has not all of, per shard.
    JOURNAL_OPEN Gauge "hydrant_journal_open_chunks";
    /// Places of the journal that could not be read when it was opened, and chunks that could not be read later.
    JOURNAL_DAMAGE Counter "hydrant_journal_damaged_total";
    /// Events that an earlier run had journaled and that were taken up again, per component.
    EVENTS_RECOVERED Counter "hydrant_recovered_events_total";
    /// Events left to the journal because their destination was behind, per destination.
    EVENTS_DEFERRED Counter "hydrant_deferred_events_total";
    /// Events that a destination was behind with and that were taken up from the journal, per destination.
    EVENTS_RESUMED Counter "hydrant_resumed_events_total";
    /// CPU time of a stage in nanoseconds, when profiling is on, per stage.
    STAGE_CPU Counter "hydrant_stage_cpu_nanoseconds_total";
}

/// One time series; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cell(Arc<AtomicU64>);

impl Cell {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        if count > 0 {
            self.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Sets it (gauges).
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads it.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

type Series = BTreeMap<(&'static str, Vec<(&'static str, String)>), Cell>;

/// All time series of the process.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<Series>>);

impl Registry {
    /// The series of `family` with these labels, made if it is new.
    pub fn cell(&self, family: &'static Family, labels: &[(&'static str, &str)]) -> Cell {
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let mut series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        series.entry((family.name, labels)).or_default().clone()
    }

    /// Sum over all series of `family` whose label `key` is `value`.
    pub fn sum(&self, family: &'static Family, key: &str, value: &str) -> u64 {
        let series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |labels: &[(&'static str, String)]| labels.iter().any(|(k, v)| *k == key && v == value);
        series.iter().filter(|((name, labels), _)| *name == family.name && has(labels)).map(|(_, cell)| cell.value()).sum()
    }

    /// Every series of `family` with its labels.
    pub fn list(&self, family: &'static Family) -> Vec<(Vec<(&'static str, String)>, u64)> {
        let series = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        series.iter().filter(|((name, _), _)| *name == family.name).map(|((_, labels), cell)| (labels.clone(), cell.value())).collect()
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for family in FAMILIES {
            let series = self.list(family);
            if series.is_empty() {
                continue;
            }
            let kind = if family.kind == MetricKind::Counter { "counter" } else { "gauge" };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", family.name, family.help.trim(), family.name);
            for (labels, value) in series {
                out.push_str(family.name);
                render_labels(&mut out, &labels);
                let _ = writeln!(out, " {value}");
            }
        }
        out
    }
}

fn render_labels(out: &mut String, labels: &[(&'static str, String)]) {
    for (index, (key, value)) in labels.iter().enumerate() {
        let open = if index == 0 { '{' } else { ',' };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(out, "{open}{key}=\"{value}\"");
    }
    if !labels.is_empty() {
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_rendered_with_escaped_labels() {
        let registry = Registry::default();
        registry.cell(&EVENTS_RECEIVED, &[("component_id", "fw\"\n")]).add(3);
        registry.cell(&EVENTS_RECEIVED, &[("component_id", "fw\"\n")]).add(4);
        assert!(registry.render().contains("hydrant_component_received_events_total{component_id=\"fw\\\"\\n\"} 7\n"));
        assert_eq!(registry.sum(&EVENTS_RECEIVED, "component_id", "fw\"\n"), 7);
    }
}
