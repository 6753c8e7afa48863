//! What happens to the events of one source, compiled to the slots of its rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::additions::{self, Additions, EnricherPlan};
use super::correlation::Collected;
use super::sinks::SinkPlan;
use super::words::Words;
use crate::config::Section;
use crate::decode::{Compiled, DecoderKind, Options};
use crate::detect::Detector;
use crate::detect::correlate::{Correlations, Feeds, Wanted};
use crate::detect::sigma::SigmaRule;
use crate::detect::sigma::correlation::Linked;
use crate::encode::alert::MATCHED_FIELD;
use crate::encode::body::Context;
use crate::error::Diagnostics;
use crate::event::{Fields, OriginField, SlotId};
use crate::limits::SLOTS_MAX;
use crate::pipeline::offline::Fill;
use crate::pipeline::silence::{self, SilencePlan, Silencer};
use crate::route::{Route, Router};
use crate::transform::{self, Transform, Transforms};

/// The stages of one source, compiled.
pub struct Line {
    /// Slots of a row.
    pub width: usize,
    /// The decoders that its frames may need, each with its rules: one, or the whole table for `auto`.
    pub decoders: Vec<DecoderLine>,
    /// Whether the decoder is found frame by frame.
    pub is_auto: bool,
    /// The slots of its rows.
    pub fields: Fields,
    /// Indices of the enrichers that add to its events, in their order.
    pub enrichers: Vec<usize>,
    /// What changes or drops its events.
    pub transforms: Transforms,
    /// Which alerts are not made.
    pub silencer: Silencer,
    /// Where events go.
    pub router: Router,
    /// Slots that the pipeline itself fills.
    pub own: OwnSlots,
}

/// One decoder of a line.
pub struct DecoderLine {
    /// The decoder.
    pub compiled: Compiled,
    /// What it calls its fields.
    pub(in crate::pipeline) words: Words,
    /// Its rules.
    pub detector: Detector,
    /// The correlations that they feed.
    pub feeds: Feeds,
    /// What encoders need to know.
    pub context: Context,
}

/// Slots under `%hydrant` that the pipeline fills.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnSlots {
    /// `%hydrant.alert`
    pub alert: Option<SlotId>,
    /// `%hydrant.decoder`
    pub decoder: Option<SlotId>,
    /// `%hydrant.flaw`
    pub flaw: Option<SlotId>,
    /// `%hydrant.kind`: `alert` or `event`
    pub kind: Option<SlotId>,
    /// `%hydrant.level`: the highest level of the rules that matched; of an alert that of its rule
    pub level: Option<SlotId>,
    /// `%hydrant.matched`
    pub matched: Option<SlotId>,
    /// `%hydrant.peer`
    pub peer: Option<SlotId>,
    /// `%hydrant.rule_id`: of an alert
    pub rule_id: Option<SlotId>,
    /// `%hydrant.rule_ids`
    pub rule_ids: Option<SlotId>,
    /// `%hydrant.rule_title`: of an alert
    pub rule_title: Option<SlotId>,
    /// `%hydrant.source`
    pub source: Option<SlotId>,
    /// What is known of a frame beside its bytes, by [`OriginField`].
    pub origin: [Option<SlotId>; OriginField::ALL.len()],
}

/// Names of [`OwnSlots`].
pub const OWN_FIELDS: &[&str] = &[
    "%hydrant.account",
    "%hydrant.alert",
    "%hydrant.attributes",
    "%hydrant.bucket",
    "%hydrant.decoder",
    "%hydrant.flaw",
    "%hydrant.header",
    "%hydrant.key",
    "%hydrant.kind",
    "%hydrant.level",
    "%hydrant.log_group",
    "%hydrant.log_stream",
    MATCHED_FIELD,
    "%hydrant.partition",
    "%hydrant.path",
    "%hydrant.peer",
    silence::RULE_ID,
    "%hydrant.rule_ids",
    silence::RULE_TITLE,
    "%hydrant.source",
    "%hydrant.stream",
    "%hydrant.topic",
    transform::ERROR_FIELD,
];

impl OwnSlots {
    pub(super) fn find(fields: &Fields) -> Self {
        let find = |name: &str| fields.find(name);
        Self {
            alert: find("%hydrant.alert"),
            decoder: find("%hydrant.decoder"),
            flaw: find("%hydrant.flaw"),
            kind: find("%hydrant.kind"),
            level: find("%hydrant.level"),
            matched: find(MATCHED_FIELD),
            peer: find("%hydrant.peer"),
            rule_id: find(silence::RULE_ID),
            rule_ids: find("%hydrant.rule_ids"),
            rule_title: find(silence::RULE_TITLE),
            source: find("%hydrant.source"),
            origin: OriginField::ALL.map(|field| find(field.name())),
        }
    }
}

/// What lines are compiled from.
pub(super) struct Compiler<'a> {
    pub(super) sinks: &'a [SinkPlan],
    pub(super) routes: &'a [Route],
    pub(super) silences: &'a SilencePlan,
    pub(super) rules: &'a [SigmaRule],
    pub(super) linked: &'a [Linked],
    pub(super) correlations: &'a Correlations,
    pub(super) collected: Collected,
    pub(super) rule_info: Arc<[Box<str>]>,
    pub(super) rule_notes: Arc<[Box<str>]>,
    pub(super) root: &'a Section,
    pub(super) fill: Fill,
    pub(super) transforms: &'a [Transform],
    pub(super) enrichers: &'a [EnricherPlan],
    /// Keys of enrichers that no source so far can have, by index.
    pub(super) unknown_keys: Vec<(usize, String)>,
    /// Canonical names of the sources so far.
    pub(super) canonical: Vec<String>,
    pub(super) diagnostics: Diagnostics,
}

/// What a source says about the format of its frames.
pub(super) struct Dialect {
    pub(super) offset_ms: i64,
    pub(super) options: Options,
}

impl<'a> Compiler<'a> {
    /// Compiles what happens to the events of one source.
    pub(super) fn line(&mut self, section: &Section, source: &str, kinds: &[&'static dyn DecoderKind], dialect: &Dialect) -> Option<Line> {
        let mut fields = Fields::default();
        let mut words = Vec::new();
        for kind in kinds {
            words.push(Words::new(*kind, &mut self.diagnostics)?);
        }
        let canonical: BTreeSet<String> = words.iter().flat_map(Words::canonical).collect();
        let before: Vec<&str> = canonical.iter().map(String::as_str).chain(OWN_FIELDS.iter().copied()).collect();
        let mut transforms = Transforms::new(self.transforms, &before, &mut fields);
        let (additions, added) = self.additions(&mut words, &canonical);
        let detectors = self.detectors(&words, &mut fields);
        let names: Vec<String> = canonical.iter().chain(&added).cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let known: Vec<&str> = names.iter().map(String::as_str).chain(OWN_FIELDS.iter().copied()).collect();
        let router = Router::new(self.routes, &known, &|name| name.to_owned(), &mut fields);
        self.add_fields_of_alerts(&detectors, &names, &mut fields);
        let silencer = self.silences.silencer(&known, &mut fields);
        for sink in self.sinks {
            let written = added.iter().filter(|_| sink.sink.writes_added()).cloned();
            sink.sink.wants(&names).into_iter().chain(written).for_each(|name| {
                fields.slot(&name);
            });
        }
        for name in words.iter().flat_map(|words| self.fill.names(words, self.rules)) {
            fields.slot(&name);
        }
        let enrichers = additions.wanted(&mut fields);
        let mut decoders = Vec::new();
        for ((kind, words), (detector, feeds)) in kinds.iter().zip(words).zip(detectors) {
            let compiled = self.diagnostics.absorb(Compiled::new(*kind, &words.schema, &mut fields, dialect.offset_ms))?;
            let compiled = compiled.with_options(dialect.options.clone());
            decoders.push((compiled, (detector, feeds), words));
        }
        if fields.width() > SLOTS_MAX {
            self.diagnostics
                .push(section.error(format!("rules and sinks want {} fields; at most {SLOTS_MAX} are supported", fields.width())));
        }
        self.canonical.extend(names);
        transforms.finish(&fields);
        let own = OwnSlots::find(&fields);
        let decoders = decoders.into_iter().map(|(compiled, (detector, feeds), words)| {
            let (decoder, canonical) = (compiled.kind().name(), words.canonical());
            let (rules, notes, added) = (self.rule_info.clone(), self.rule_notes.clone(), added.clone());
            let source = source.to_owned();
            let context = Context { fields: fields.clone(), canonical, added, rules, notes, source, decoder, details: None };
            DecoderLine { compiled, words, detector, feeds, context }
        });
        let (width, decoders) = (fields.width(), decoders.collect());
        Some(Line { width, decoders, is_auto: false, fields, transforms, enrichers, silencer, router, own })
    }

    /// Only events that some rule looks at can become alerts.
    fn add_fields_of_alerts(&self, detectors: &[(Detector, Feeds)], names: &[String], fields: &mut Fields) {
        let has_rules = detectors.iter().any(|(detector, _)| !detector.is_empty());
        let wanted = self.sinks.iter().filter(|_| has_rules).flat_map(|sink| sink.sink.wants_of_alerts());
        let can_be = |name: &&&str| **name == MATCHED_FIELD || names.iter().any(|known| known == **name);
        wanted.filter(can_be).for_each(|name| {
            fields.slot(name);
        });
    }

    /// What can be added to the events of one source, and the names that output writes as added: everything
    /// that enrichment adds, and what programs write that no decoder fills.
    fn additions(&mut self, words: &mut [Words], canonical: &BTreeSet<String>) -> (Additions<'a>, Vec<String>) {
        let written = additions::written(self.transforms);
        let additions = Additions::new(self.enrichers, words, &written);
        additions.cross_off(&mut self.unknown_keys);
        let mut names = additions.names();
        let too_late: Vec<String> =
            names.iter().filter(|name| !written.contains(name) && !words.iter().any(|words| words.can_fill(name))).cloned().collect();
        additions::warn_of_order(self.transforms, &too_late, self.root, &mut self.diagnostics);
        let is_ours = |name: &&String| !canonical.contains(*name) && !name.starts_with(['%', '@']);
        names.extend(written.iter().filter(is_ours).cloned());
        names.sort_unstable();
        names.dedup();
        words.iter_mut().for_each(|words| words.added.clone_from(&names));
        (additions, names)
    }

    fn detectors(&mut self, words: &[Words], fields: &mut Fields) -> Vec<(Detector, Feeds)> {
        let wanted = Wanted { linked: self.linked, correlations: self.correlations };
        let detector = |words: &Words| {
            let (detector, mut warnings) = Detector::new(self.rules, words, fields);
            self.diagnostics.0.append(&mut warnings.0);
            let feeds = self.collected.feeds(wanted, &detector, words, fields, &mut self.diagnostics);
            (detector, feeds)
        };
        let detectors: Vec<(Detector, Feeds)> = words.iter().map(detector).collect();
        if detectors.iter().any(|(detector, _)| !detector.is_empty()) {
            fields.slot("%hydrant.rule_ids");
        }
        detectors
    }
}
