//! What a configuration says of correlation, and what its alerts are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::lines::Compiler;
use super::treatment::Treated;
use super::words::Words;
use crate::config::{ByteSize, Interval, Section};
use crate::detect::Detector;
use crate::detect::correlate::{Correlations, Feeds, Form, Wanted};
use crate::detect::sigma::correlation::{Linked, Role};
use crate::error::Diagnostics;
use crate::event::Fields;

/// How late an event may be by default: clocks that differ, senders that buffer.
const LATENESS: Duration = Duration::from_secs(30);

/// Longest lateness: hits wait in memory for as long.
const LATENESS_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The part of the memory budget that correlation may take by default, as a divisor. It comes on top of that budget.
const MEMORY_SHARE: usize = 8;

/// Least memory: some thousand groups.
const MEMORY_BYTES_MIN: usize = 1 << 20;

#[derive(Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::pipeline) struct CorrelationConfig {
    /// What the groups and waiting hits of all correlations may hold; by default an eighth of `memory`, on top of it.
    memory: Option<ByteSize>,
    /// How much later than its time an event may come and still count. Alerts come so much later.
    lateness: Option<Interval>,
}

/// The correlations, compiled for a configuration.
pub struct CorrelationPlan {
    /// What runs.
    pub correlations: Arc<Correlations>,
    /// How their matches are written, by index.
    pub forms: Arc<[Form]>,
    /// What each shard may hold.
    pub budget_bytes: usize,
}

/// Settings, and what the lines of the sources have told.
pub(super) struct Collected {
    memory_bytes: Option<usize>,
    default_lateness: Duration,
    /// The source which is compiled now, and its lateness.
    source: String,
    source_lateness_ms: i64,
    /// By correlation.
    lateness_ms: Vec<i64>,
    /// By correlation: the sources that feed it.
    sources: Vec<BTreeSet<String>>,
    /// By correlation and place in `group-by`.
    names: Vec<Vec<Option<String>>>,
    /// By correlation that is fed: the parts of its group that some event can have.
    pub(super) parts: BTreeMap<usize, Vec<bool>>,
    /// Canonical fields that hold numbers.
    pub(super) integers: BTreeSet<String>,
}

impl Collected {
    /// Checks what is written.
    pub(super) fn new(config: Option<CorrelationConfig>, linked: &[Linked], root: &Section, diagnostics: &mut Diagnostics) -> Self {
        let config = config.unwrap_or_default();
        let section = root.child("correlation").unwrap_or_else(|| root.clone());
        let place = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
        if config.memory.is_some_and(|memory| memory.0 < MEMORY_BYTES_MIN) {
            diagnostics.push(place("memory").error(format!("at least {} are needed", ByteSize(MEMORY_BYTES_MIN))));
        }
        let default_lateness = config.lateness.map_or(LATENESS, |lateness| lateness.0);
        check_lateness(default_lateness, &place("lateness"), diagnostics);
        Self {
            memory_bytes: config.memory.map(|memory| memory.0),
            default_lateness,
            source: String::new(),
            source_lateness_ms: 0,
            lateness_ms: vec![0; linked.len()],
            sources: vec![BTreeSet::new(); linked.len()],
            names: linked.iter().map(|linked| vec![None; linked.correlation.group_by.len()]).collect(),
            parts: BTreeMap::new(),
            integers: BTreeSet::new(),
        }
    }

    /// Begins a source: its own lateness, or the default and what it takes by design.
    pub(super) fn begin_source(
        &mut self,
        name: &str,
        own: Option<Interval>,
        delay: Duration,
        place: &Section,
        diagnostics: &mut Diagnostics,
    ) {
        name.clone_into(&mut self.source);
        let lateness = own.map_or(self.default_lateness + delay, |lateness| lateness.0);
        check_lateness(lateness, place, diagnostics);
        self.source_lateness_ms = i64::try_from(lateness.as_millis()).unwrap_or(i64::MAX);
    }

    /// What the rules of one decoder feed.
    pub(super) fn feeds(
        &mut self,
        wanted: Wanted<'_>,
        detector: &Detector,
        words: &Words,
        fields: &mut Fields,
        diagnostics: &mut Diagnostics,
    ) -> Feeds {
        let mut named = |correlation: usize, place: usize, name: &str| {
            let known = self.names.get_mut(correlation).and_then(|names| names.get_mut(place));
            if let Some(known) = known.filter(|_| !name.starts_with('%')) {
                known.get_or_insert_with(|| name.to_owned());
                if words.schema.ecs.get(name).is_some_and(|origin| origin.integer) {
                    self.integers.insert(name.to_owned());
                }
            }
        };
        let (feeds, mut warnings) = Feeds::new(wanted, detector, words, fields, &mut named);
        warnings.0.retain(|warning| !diagnostics.0.contains(warning));
        diagnostics.0.append(&mut warnings.0);
        for (correlation, parts) in feeds.groups() {
            if let Some(lateness_ms) = self.lateness_ms.get_mut(correlation as usize) {
                *lateness_ms = (*lateness_ms).max(self.source_lateness_ms);
            }
            if let Some(sources) = self.sources.get_mut(correlation as usize) {
                sources.insert(self.source.clone());
            }
            let known = self.parts.entry(correlation as usize).or_insert_with(|| vec![false; parts.len()]);
            known.iter_mut().zip(parts).for_each(|(known, is_there)| *known |= is_there);
        }
        feeds
    }

    /// What feeds a correlation feeds those that are chained to it, which stand behind it.
    fn feed_chains(&mut self, correlations: &Correlations) {
        for (index, compiled) in correlations.list().iter().enumerate() {
            let below = self.sources.get(index).cloned().unwrap_or_default();
            for step in &compiled.steps {
                self.sources.get_mut(step.to as usize).into_iter().for_each(|sources| sources.extend(below.iter().cloned()));
            }
        }
    }

    /// Canonical names for the groups of chained correlations: those of what they look at, or the name itself.
    fn name_chains(&mut self, linked: &[Linked], correlations: &Correlations, canonical: &[String]) {
        for (index, compiled) in correlations.list().iter().enumerate() {
            for step in &compiled.steps {
                let Some(chained) = linked.get(step.to as usize) else { continue };
                let Some(base) = chained.bases.get(usize::from(step.base)) else { continue };
                for (place, name) in base.group_by.iter().enumerate() {
                    let below = linked.get(index).and_then(|below| below.correlation.group_by.iter().position(|group| group.text == *name));
                    let found = below.and_then(|below| self.names.get(index)?.get(below)?.clone());
                    let found = found.or_else(|| canonical.contains(name).then(|| name.clone()));
                    let own = self.names.get_mut(step.to as usize).and_then(|names| names.get_mut(place));
                    own.into_iter().filter(|own| own.is_none()).for_each(|own| own.clone_from(&found));
                }
            }
        }
    }
}

fn check_lateness(lateness: Duration, place: &Section, diagnostics: &mut Diagnostics) {
    if lateness > LATENESS_MAX {
        diagnostics.push(place.error(format!("the longest lateness is {} h", LATENESS_MAX.as_secs() / 3_600)));
    }
}

/// Everything but the budget, which [`CorrelationPlan::set_budget`] sets; and the canonical names of what is grouped by.
pub(super) fn plan(compiler: &mut Compiler<'_>, treated: &Treated) -> (CorrelationPlan, BTreeSet<String>) {
    let (linked, mut correlations) = (&treated.linked, treated.correlations.clone());
    compiler.collected.name_chains(linked, &correlations, &compiler.canonical);
    compiler.collected.feed_chains(&correlations);
    correlations.set_lateness(linked, &compiler.collected.lateness_ms);
    let names = std::mem::take(&mut compiler.collected.names);
    let canonical: BTreeSet<String> = names.iter().flatten().flatten().cloned().collect();
    let told = linked.iter().zip(names).zip(&compiler.collected.sources);
    let forms = told.map(|((linked, names), sources)| Form::new(linked, names).fed_by(sources)).collect();
    let budget_bytes = compiler.collected.memory_bytes.unwrap_or_default();
    (CorrelationPlan { correlations: Arc::new(correlations), forms, budget_bytes }, canonical)
}

impl CorrelationPlan {
    /// Divides what is configured, or the default, among the shards.
    pub(super) fn set_budget(&mut self, memory_bytes: usize, shards: usize) {
        if self.budget_bytes == 0 {
            self.budget_bytes = (memory_bytes / MEMORY_SHARE).max(MEMORY_BYTES_MIN);
        }
        self.budget_bytes /= shards.max(1);
    }

    /// Titles of the correlations that begin with no state when this plan takes the place of `old`. Deduplications are left
    /// out: there is one for each of many rules.
    pub fn begins_empty<'a>(&'a self, old: &'a Self) -> impl Iterator<Item = &'a str> {
        let compiled = self.correlations.list().iter().zip(self.forms.iter()).filter(|(_, form)| form.role != Role::Deduplication);
        compiled.filter(|(compiled, _)| old.correlations.find(compiled.key).is_none()).map(|(_, form)| form.title.as_str())
    }

    /// Correlations of `old` that this plan does not have; what they know is forgotten.
    pub fn forgets<'a>(&'a self, old: &'a Self) -> impl Iterator<Item = &'a str> {
        old.begins_empty(self)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::detect::correlate::Fired;
    use crate::detect::sigma::correlation::Decimal;
    use crate::pipeline::plan::Plan;

    const RULES: &str = "
title: Denied
name: denied
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a31
logsource: { category: firewall }
detection: { s: { event.outcome: failure }, condition: s }
---
title: Failed
name: failed
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a32
logsource: { product: paloalto, service: globalprotect }
detection: { s: { status: failure }, condition: s }
---
title: Everywhere
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a33
correlation: { type: event_count, rules: [denied], group-by: [source.ip], timespan: 10s, condition: { gte: 3 } }
---
title: One Vendor
name: one
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a34
correlation: { type: value_count, rules: [failed], group-by: [source.ip], timespan: 10s, condition: { field: source.user.name, gte: 3 } }
---
title: Chained
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a35
correlation: { type: temporal, rules: [one, denied], group-by: [source.ip], timespan: 10s }
";

    fn plan(config: &str, rules: &str) -> Result<Plan, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
        let config = format!(
            "{config}\nrules: [rules.yml]\nshards: 2\nmemory: 800MiB\nsinks: {{ out: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:9\", token: x }} }}\n\
             sources:\n  fw: {{ type: syslog, listen: \"127.0.0.1:5514\", decoder: palo_alto }}\n  \
             flows: {{ type: syslog, listen: \"127.0.0.1:5515\", decoder: aws_vpc_flow, lateness: 20m }}\n"
        );
        let read = Plan::read(Path::new(&folder.path().join("c.yaml")), &config);
        read.map_err(|mistakes| mistakes.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn a_correlation_waits_for_the_slowest_source_that_feeds_it_and_those_above_wait_with_it() {
        let plan = plan("", RULES).unwrap();
        assert_eq!(plan.warnings.to_string(), "");
        let lateness: Vec<i64> = plan.correlation.correlations.list().iter().map(|compiled| compiled.lateness_ms).collect();
        assert_eq!(lateness, [1_200_000, 30_000, 1_200_000]);
        assert_eq!(plan.correlation.correlations.levels(), 2);
        let details = |form: &Form| {
            let mut out = Vec::new();
            let (key, measure, time_ms) = (Arc::default(), Decimal::whole(1), 0);
            let (position, sample, carry) = Default::default();
            form.write_details(&Fired { key, time_ms, position, measure, sample, carry, suppressed: 0, is_known: false }, &mut out);
            serde_json::from_slice::<serde_json::Value>(&out).unwrap()["sources"].to_string()
        };
        let sources: Vec<String> = plan.correlation.forms.iter().map(details).collect();
        assert_eq!(sources, [r#"["flows","fw"]"#, r#"["fw"]"#, r#"["flows","fw"]"#]);
        assert_eq!(plan.correlation.budget_bytes, 50 << 20, "an eighth of the memory, for two shards");
        assert!(plan.alerts[0].line.fields.find("source.ip").is_some(), "routes see the group");
        assert_eq!(plan.rules.alone, [false, false]);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let mistakes = plan("correlation: { memory: 10KB, lateness: 48h, budget: 1 }", RULES).err().unwrap();
        assert!(mistakes.contains("correlation.budget: unknown key"), "{mistakes}");
        let mistakes = plan("correlation: { memory: 10KB, lateness: 48h }", RULES).err().unwrap();
        for part in ["correlation.memory: at least 1.0MiB are needed", "correlation.lateness: the longest lateness is 24 h"] {
            assert!(mistakes.contains(part), "{mistakes}");
        }
    }

    #[test]
    fn a_group_that_no_event_can_have_is_told_with_the_nearest_name() {
        let warnings = plan("", &RULES.replacen("[source.ip]", "[source.ipp]", 1)).unwrap().warnings.to_string();
        assert!(warnings.contains("correlation `Everywhere`: events of one of its rules have no field `source.ipp`"), "{warnings}");
        assert!(warnings.contains("did you mean `source.ip`?"), "{warnings}");
    }

    #[test]
    fn correlations_too_high_upon_each_other_are_refused() {
        let mut rules = RULES.to_owned();
        for level in 0..9 {
            let below = if level == 0 { "one".to_owned() } else { format!("level{}", level - 1) };
            rules += &format!(
                "---\ntitle: Level {level}\nname: level{level}\ncorrelation: {{ type: event_count, rules: [{below}], group-by: [source.ip], timespan: 1m, condition: {{ gte: 1 }} }}\n"
            );
        }
        let mistakes = plan("", &rules).err().unwrap();
        assert!(mistakes.contains("correlations stand on each other 9 high; at most 8 do"), "{mistakes}");
    }
}
