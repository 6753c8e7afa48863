//! What a configuration says of correlation, and the line that its alerts go through.
//!
//! A match becomes an event of a source of our own, [`SOURCE`], which nobody can name: a JSON object
//! ([`crate::detect::correlate::Form`]) that is journaled, routed and encoded like an alert of a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::{Compiler, DecoderLine, Line, OWN_FIELDS, OwnSlots, Words};
use crate::config::{ByteSize, Interval, Section};
use crate::decode::{Compiled, DECODERS, Meaning, Origin, Schema};
use crate::detect::correlate::{Correlations, Feeds, Form, Wanted};
use crate::detect::sigma::correlation::Linked;
use crate::detect::{Detector, Rules};
use crate::encode::body::{CORRELATION_FIELDS, Context};
use crate::error::Diagnostics;
use crate::event::{Fields, Sender};
use crate::route::Router;
use crate::transform::Transforms;

/// Name of the source that alerts of correlations come through, in the journal. No source of a configuration begins so.
pub const SOURCE: &str = "%correlation";

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
    /// What happens to alerts.
    pub line: Line,
    /// The sender of alerts.
    pub sender: Arc<Sender>,
}

/// Settings, and what the lines of the sources have told.
pub(super) struct Collected {
    memory_bytes: Option<usize>,
    default_lateness: Duration,
    /// That of the source which is compiled now.
    source_lateness_ms: i64,
    /// By correlation.
    lateness_ms: Vec<i64>,
    /// By correlation and place in `group-by`.
    names: Vec<Vec<Option<String>>>,
    /// Canonical fields that hold numbers.
    integers: BTreeSet<String>,
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
            source_lateness_ms: 0,
            lateness_ms: vec![0; linked.len()],
            names: linked.iter().map(|linked| vec![None; linked.correlation.group_by.len()]).collect(),
            integers: BTreeSet::new(),
        }
    }

    /// Begins a source: its own lateness, or the default and what it takes by design.
    pub(super) fn begin_source(&mut self, own: Option<Interval>, delay: Duration, place: &Section, diagnostics: &mut Diagnostics) {
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
        for correlation in feeds.correlations() {
            if let Some(lateness_ms) = self.lateness_ms.get_mut(correlation as usize) {
                *lateness_ms = (*lateness_ms).max(self.source_lateness_ms);
            }
        }
        feeds
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

/// Everything but the budget, which [`CorrelationPlan::set_budget`] sets. `source_index` is behind those of the sources.
pub(super) fn plan(compiler: &mut Compiler<'_>, rules: &Rules, source_index: usize) -> Option<CorrelationPlan> {
    let mut correlations = rules.compiled.clone();
    compiler.collected.name_chains(&rules.correlations, &correlations, &compiler.canonical);
    correlations.set_lateness(&rules.correlations, &compiler.collected.lateness_ms);
    let names = std::mem::take(&mut compiler.collected.names);
    let canonical: BTreeSet<String> = names.iter().flatten().flatten().cloned().collect();
    let forms = rules.correlations.iter().zip(names).map(|(linked, names)| Form::new(linked, names)).collect();
    let sender = Arc::new(Sender { source: SOURCE.into(), source_index: u16::try_from(source_index).unwrap_or(u16::MAX) });
    let budget_bytes = compiler.collected.memory_bytes.unwrap_or_default();
    Some(CorrelationPlan { correlations: Arc::new(correlations), forms, budget_bytes, line: line(compiler, &canonical)?, sender })
}

impl CorrelationPlan {
    /// Divides what is configured, or the default, among the shards.
    pub(super) fn set_budget(&mut self, memory_bytes: usize, shards: usize) {
        if self.budget_bytes == 0 {
            self.budget_bytes = (memory_bytes / MEMORY_SHARE).max(MEMORY_BYTES_MIN);
        }
        self.budget_bytes /= shards.max(1);
    }

    /// Titles of the correlations that begin with no state when this plan takes the place of `old`.
    pub fn begins_empty<'a>(&'a self, old: &'a Self) -> impl Iterator<Item = &'a str> {
        let compiled = self.correlations.list().iter().zip(self.forms.iter());
        compiled.filter(|(compiled, _)| old.correlations.find(compiled.key).is_none()).map(|(_, form)| form.title.as_str())
    }

    /// Correlations of `old` that this plan does not have; what they know is forgotten.
    pub fn forgets<'a>(&'a self, old: &'a Self) -> impl Iterator<Item = &'a str> {
        old.begins_empty(self)
    }
}

/// The stages of alerts: read as JSON, routed, encoded. No rule, transform or enrichment sees them.
fn line(compiler: &mut Compiler<'_>, canonical: &BTreeSet<String>) -> Option<Line> {
    let kind = *DECODERS.iter().find(|kind| kind.name() == "json")?;
    let integers = &compiler.collected.integers;
    let origin = |name: &String| Origin { meaning: Meaning::From(vec![name.clone()]), integer: integers.contains(name) };
    let mut ecs: BTreeMap<String, Origin> = canonical.iter().map(|name| (name.clone(), origin(name))).collect();
    ecs.insert("message".to_owned(), origin(&"message".to_owned()));
    let schema = Schema { ecs, ..Schema::default() };
    let names: Vec<String> = schema.ecs.keys().cloned().collect();
    let known: Vec<&str> = names.iter().map(String::as_str).chain(OWN_FIELDS.iter().copied()).collect();
    let mut fields = Fields::default();
    let mut transforms = Transforms::new(&[], &known, &mut fields);
    let router = Router::new(compiler.routes, &known, &|name| name.to_owned(), &mut fields);
    for sink in compiler.sinks {
        sink.sink.wants(&names).into_iter().for_each(|name| {
            fields.slot(&name);
        });
    }
    // Whatever sinks ask for: an alert has no frame of its own that would say the same.
    let always = names.iter().map(String::as_str).chain(CORRELATION_FIELDS).chain(["%hydrant.rule_ids"]);
    always.for_each(|name| {
        fields.slot(name);
    });
    let compiled = compiler.diagnostics.absorb(Compiled::new(kind, &schema, &mut fields, 0))?;
    transforms.finish(&fields);
    let words = Words { schema, natives: None, added: Vec::new() };
    let (detector, _) = Detector::new(&[], &words, &mut fields);
    let context = Context {
        fields: fields.clone(),
        canonical: names,
        added: Vec::new(),
        rules: compiler.rule_info.clone(),
        source: "correlation".to_owned(),
        decoder: kind.name(),
        is_correlation: true,
    };
    let own = OwnSlots::find(&fields);
    let decoders = vec![DecoderLine { compiled, detector, feeds: Feeds::default(), context }];
    Some(Line { width: fields.width(), decoders, is_auto: false, fields, enrichers: Vec::new(), transforms, router, own })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
        assert_eq!(plan.correlation.budget_bytes, 50 << 20, "an eighth of the memory, for two shards");
        assert!(plan.correlation.line.fields.find("source.ip").is_some(), "routes see the group");
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
