//! The stages that need no run: `frames -> decoded rows and the rules that match`, for the commands that look at lines and
//! rules.
//!
//! The same decoders, schema maps and detectors as in a run. Transforms and enrichments belong to a configuration: a rule that
//! reads a field which they add matches only where the events are said to be those of a source ([`Offline::of_source`]). They
//! then go through the code of a shard's stages, but for envelopes, which are taken off before anything is kept of an event.

mod correlation;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::clock;
use crate::decode::{Compiled, DECODERS, DecoderKind, Instance, explain};
use correlation::Correlation;

use crate::detect::correlate::{Assembly, Counters, Feed, Feeds, Fired, Part, Wanted, Way, parts};
use crate::detect::sigma::SigmaRule;
use crate::detect::sigma::correlation::{Linked, Source};
use crate::detect::{self, Detector, Rules, Vocabulary as _};
use crate::encode::template::Template;
use crate::enrich::Bound;
use crate::error::{Diagnostic, Diagnostics, nearest};
use crate::event::{Chunk, Event, Events, Fields, Flaw, Position, SlotId, Value};
use crate::limits::SLOTS_MAX;
use crate::matcher::Cost;
use crate::matcher::explain::{Explained, explain as explain_expression};
use crate::pipeline::own::note_encoding;
use crate::pipeline::plan::words::Words;
use crate::pipeline::plan::{self, DecoderLine, OwnSlots, Plan, SourcePlan};
use crate::transform::{self, Transforms};

/// Decoders and rules, ready for frames.
pub struct Offline {
    /// One unless the decoder is `auto`.
    lines: Vec<Line>,
    is_auto: bool,
    fields: Fields,
    /// Of a source of a configuration.
    stages: Option<Stages>,
    events: Events,
    hits: Vec<detect::Hit>,
    correlation: Correlation,
    /// Events so far.
    seen: u64,
}

/// Which fields are decoded beside those that the rules of a decoder ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// None.
    #[default]
    Rules,
    /// The canonical ones.
    Canonical,
    /// Everything that has a name: canonical, the decoders' own, and what rules of other log sources ask for.
    Everything,
}

impl Fill {
    /// The names of those fields.
    pub(super) fn names(self, words: &Words, rules: &[SigmaRule]) -> Vec<String> {
        let mut names = if self == Self::Rules { Vec::new() } else { shown(words) };
        if self == Self::Everything {
            let asked = rules.iter().flat_map(|rule| asked(rule));
            names.extend(words.names().into_iter().chain(asked).filter_map(|name| words.resolve(name)));
        }
        names
    }
}

/// The canonical fields of a decoder's events, and those that are added to them.
fn shown(words: &Words) -> Vec<String> {
    let mut names = words.canonical();
    names.extend_from_slice(&words.added);
    names.sort_unstable();
    names.dedup();
    names
}

/// What a configuration does to the events of a source between decoding and its rules.
struct Stages {
    source: Arc<str>,
    own: OwnSlots,
    transforms: Transforms,
    scratch: transform::Scratch,
    enrichers: Vec<Box<dyn Bound>>,
}

impl Stages {
    fn run(&mut self, chunk: &Chunk, runs: &[(Range<usize>, usize)], lines: &[Line], events: &mut Events) {
        note_encoding(chunk, events);
        self.own.fill(&self.source, chunk, runs, |line| lines[line].kind.name(), events);
        self.transforms.run(chunk, events, &mut self.scratch);
        for enricher in &mut self.enrichers {
            enricher.enrich(chunk, 0..chunk.frames().len(), events);
        }
    }

    /// Rows that the transforms have dropped, ascending.
    fn dropped(&self) -> &[u32] {
        &self.scratch.counts.dropped
    }
}

struct Line {
    kind: &'static dyn DecoderKind,
    words: Words,
    instance: Instance,
    names: Vec<(String, SlotId)>,
    template: Template,
    detector: Detector,
    feeds: Feeds,
    scratch: detect::Scratch,
}

/// A frame, decoded and held against the rules.
pub struct Examined<'a> {
    line: Option<&'a Line>,
    fields: &'a Fields,
    /// Why it got its decoder.
    pub why: &'static str,
    /// Whether a transform has dropped it, so that no rule is asked.
    pub is_dropped: bool,
    /// The row.
    pub event: Event<'a>,
    /// Indices of the rules that match, ascending.
    pub rules: Vec<u32>,
}

/// What a correlation makes of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Its index.
    pub correlation: u32,
    /// Which of its rules.
    pub base: u8,
    /// The group, one value for each of its fields; `None` if the event lacks one.
    pub group: Option<Vec<String>>,
    /// The value that is looked at.
    pub value: Option<String>,
}

/// The decoder kinds that a name stands for: all of them for `auto`.
///
/// # Errors
/// No such decoder; the message names the nearest.
pub fn decoders(name: &str) -> Result<Vec<&'static dyn DecoderKind>, String> {
    let kinds: Vec<_> = DECODERS.iter().filter(|kind| name == "auto" || kind.name() == name).copied().collect();
    if !kinds.is_empty() {
        return Ok(kinds);
    }
    let names: Vec<&str> = DECODERS.iter().map(|kind| kind.name()).chain(["auto"]).collect();
    let near = nearest(name, names.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
    Err(format!("there is no decoder `{name}`; {near}one of: {}", names.join(", ")))
}

impl Offline {
    /// Compiles rules and correlations for a decoder, or for all of them (`auto`); every canonical field is decoded.
    ///
    /// # Errors
    /// No such decoder; mistakes of a schema map; more fields than a row can have.
    pub fn new(decoder: &str, rules: &Rules) -> Result<Self, Diagnostics> {
        Self::filled(decoder, rules, Fill::Canonical)
    }

    /// The same with other fields.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn filled(decoder: &str, rules: &Rules, fill: Fill) -> Result<Self, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let kinds = decoders(decoder).map_err(|message| Diagnostic::error(Path::new("--decoder"), 0, 0, "", message))?;
        let mut fields = Fields::default();
        let mut prepared = Vec::new();
        for kind in kinds {
            let Some(words) = Words::new(kind, &mut diagnostics) else { continue };
            // Which fields a rule lacks where is for `rules lint` to tell: it looks at all decoders together.
            let (detector, _) = Detector::new(&rules.rules, &words, &mut fields);
            let wanted = Wanted { linked: &rules.correlations, correlations: &rules.compiled };
            let (feeds, _) = Feeds::new(wanted, &detector, &words, &mut fields, &mut |_, _, _| {});
            fill.names(&words, &rules.rules).iter().for_each(|name| _ = fields.slot(name));
            prepared.push((kind, words, (detector, feeds)));
        }
        let mut lines = Vec::new();
        for (kind, words, (detector, feeds)) in prepared {
            let Some(compiled) = diagnostics.absorb(Compiled::new(kind, &words.schema, &mut fields, 0)) else { continue };
            lines.push(Line::new(&compiled, words, (detector, feeds), &fields));
        }
        if fields.width() > SLOTS_MAX {
            let message = format!("the rules want {} fields; at most {SLOTS_MAX} are supported", fields.width());
            diagnostics.push(Diagnostic::error(Path::new("rules"), 0, 0, "", message));
        }
        diagnostics.into_result(Self::with(lines, decoder == "auto", fields, rules))
    }

    /// The stages of a source of a configuration, and its rules. [`plan::Changes::fill`] says which fields are decoded.
    ///
    /// # Errors
    /// No such source; the message names the nearest.
    pub fn of_source(mut plan: Plan, source: &str) -> Result<(Rules, Self), Diagnostics> {
        let Some(index) = plan.sources.iter().position(|known| *known.name == *source) else {
            let names: Vec<&str> = plan.sources.iter().map(|source| &*source.name).collect();
            let near = nearest(source, names.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let mistake = Diagnostic::error(Path::new("--source"), 0, 0, "", format!("there is no source `{source}`"));
            return Err(mistake.help(format!("{near}one of: {}", names.join(", "))).into());
        };
        let SourcePlan { name, line, .. } = plan.sources.swap_remove(index);
        let plan::Line { decoders, is_auto, fields, enrichers, transforms, own, .. } = line;
        let enrichers = enrichers.iter().filter_map(|index| plan.enrichers.get(*index)).map(|plan| plan.enricher.bind(&fields)).collect();
        let stages = Stages { source: name, own, scratch: transforms.scratch(), transforms, enrichers };
        let line = |line: DecoderLine| Line::new(&line.compiled, line.words, (line.detector, line.feeds), &fields);
        let lines = decoders.into_iter().map(line).collect();
        let offline = Self { stages: Some(stages), ..Self::with(lines, is_auto, fields, &plan.rules) };
        Ok((plan.rules, offline))
    }

    fn with(lines: Vec<Line>, is_auto: bool, fields: Fields, rules: &Rules) -> Self {
        let (events, hits, correlation) = (Events::default(), Vec::new(), Correlation::new(rules));
        Self { lines, is_auto, fields, stages: None, events, hits, correlation, seen: 0 }
    }

    /// Has what rules cost measured on every event from now on.
    pub fn measure_rules(&mut self) {
        self.lines.iter_mut().for_each(|line| line.scratch.measure_every(1));
    }

    /// Calls `of` with what each rule that was looked at since the last call has cost on a decoder's events, and gives what
    /// belongs to no rule.
    pub fn take_costs(&mut self, mut of: impl FnMut(u32, Cost)) -> Cost {
        let mut shared = Cost::default();
        for line in &mut self.lines {
            let own = line.detector.take_costs(&mut line.scratch, &mut of);
            shared = Cost { ns: shared.ns + own.ns, looks: shared.looks + own.looks };
        }
        shared
    }

    /// The decoders that frames may get.
    pub fn decoders(&self) -> Vec<&'static str> {
        self.lines.iter().map(|line| line.kind.name()).collect()
    }

    /// Decoders that a rule runs on.
    pub fn carriers(&self, rule: usize) -> Vec<&'static str> {
        let runs = |line: &&Line| line.detector.rules().contains(&(rule as u32));
        self.lines.iter().filter(runs).map(|line| line.kind.name()).collect()
    }

    /// Decoders whose events a correlation counts.
    pub fn feeders(&self, correlation: usize) -> Vec<&'static str> {
        let feeds = |line: &&Line| line.feeds.correlations().any(|fed| fed as usize == correlation);
        self.lines.iter().filter(feeds).map(|line| line.kind.name()).collect()
    }

    /// The names by which rules can ask for fields of a decoder.
    pub fn names(&self, decoder: &str) -> Vec<&str> {
        self.line(decoder).map(|line| line.words.names()).unwrap_or_default()
    }

    /// Where a decoder puts a field of a rule; `None` if it can never fill it.
    pub fn slot(&self, decoder: &str, field: &str) -> Option<SlotId> {
        self.fields.find(&self.line(decoder)?.words.resolve(field)?)
    }

    fn line(&self, decoder: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.kind.name() == decoder)
    }

    /// Nothing more comes: what correlations have found, each with the index of its correlation. In positions stands the
    /// number of an event behind the colon. The next event begins anew.
    pub fn finish(&mut self) -> Vec<(u32, Fired)> {
        self.seen = 0;
        self.correlation.finish()
    }

    /// What correlations have found so far and was not given yet: nothing before the end, unless too many hits wait for it.
    pub fn found(&mut self) -> Vec<(u32, Fired)> {
        self.correlation.found()
    }

    /// What correlations could not count as they should, in all inputs that are finished.
    pub fn left_out(&self) -> Counters {
        self.correlation.left_out()
    }

    /// Decodes every frame of a chunk and calls `each` with what was found, in order.
    ///
    /// # Errors
    /// What `each` returns.
    pub fn examine<E>(&mut self, chunk: &Chunk, mut each: impl FnMut(Examined<'_>) -> Result<(), E>) -> Result<(), E> {
        let chosen: Vec<_> = (0..chunk.frames().len()).map(|frame| self.choose(chunk.frame(frame))).collect();
        self.detect(chunk, chosen.iter().map(|(line, _)| *line));
        self.hits.sort_unstable_by_key(|hit| (hit.row, hit.rule));
        let mut hits = self.hits.as_slice();
        let (now_ms, mut newest_ms) = (clock::now_ms(), i64::MIN);
        for (frame, (line, why)) in chosen.into_iter().enumerate() {
            let (own, behind) = hits.split_at(hits.partition_point(|hit| hit.row as usize <= frame));
            hits = behind;
            let rules: Vec<u32> = own.iter().map(|hit| hit.rule).collect();
            let line = line.and_then(|index| self.lines.get(index));
            let event = self.events.event(chunk, frame);
            self.seen += 1;
            newest_ms = newest_ms.max(event.time_ms.min(now_ms));
            let position = Position { epoch: 1, sequence: self.seen };
            for feed in line.into_iter().flat_map(|line| line.fed(&rules)) {
                self.correlation.add(feed, event, position);
            }
            let is_dropped = self.stages.as_ref().is_some_and(|stages| stages.dropped().binary_search(&(frame as u32)).is_ok());
            each(Examined { line, fields: &self.fields, why, is_dropped, event, rules })?;
        }
        self.correlation.go_on(newest_ms);
        Ok(())
    }

    /// Everything up to the hits of rules, for frames whose lines are chosen.
    fn detect(&mut self, chunk: &Chunk, chosen: impl Iterator<Item = Option<usize>>) {
        let Self { lines, fields, stages, events, hits, .. } = self;
        events.reset(chunk, fields.width());
        hits.clear();
        let mut runs: Vec<(Range<usize>, usize)> = Vec::new();
        for (frame, line) in chosen.enumerate().filter_map(|(frame, line)| Some((frame, line?))) {
            match runs.last_mut() {
                Some((frames, last)) if *last == line && frames.end == frame => frames.end += 1,
                _ => runs.push((frame..frame + 1, line)),
            }
        }
        for (frames, line) in &runs {
            lines[*line].instance.decode(chunk, frames.clone(), events);
        }
        if let Some(stages) = stages {
            stages.run(chunk, &runs, lines, events);
        }
        let dropped = stages.as_ref().map_or(&[][..], Stages::dropped);
        for (frames, line) in runs {
            let Line { detector, scratch, .. } = &mut lines[line];
            if !detector.is_empty() {
                let rows = frames.start as u32..frames.end as u32;
                let kept = rows.filter(|row| dropped.is_empty() || dropped.binary_search(row).is_err());
                detector.detect(chunk, events, kept, scratch, hits);
            }
        }
    }

    fn choose(&self, frame: &[u8]) -> (Option<usize>, &'static str) {
        if !self.is_auto {
            return (Some(0), "it was named");
        }
        let (name, why) = explain(frame);
        (self.lines.iter().position(|line| line.kind.name() == name), why)
    }
}

impl Line {
    fn new(compiled: &Compiled, words: Words, (detector, feeds): (Detector, Feeds), fields: &Fields) -> Self {
        let names: Vec<_> = shown(&words).into_iter().filter_map(|name| fields.find(&name).map(|slot| (name, slot))).collect();
        let template = Template::new(names.iter().map(|(name, slot)| (name.as_str(), *slot)));
        let (kind, instance, scratch) = (compiled.kind(), compiled.instance(), detector.scratch());
        Self { kind, words, instance, names, template, detector, feeds, scratch }
    }

    /// The correlations that hits of rules are given to; deduplication is none here.
    fn fed(&self, rules: &[u32]) -> impl Iterator<Item = &Feed> {
        rules.iter().flat_map(move |rule| self.feeds.of(*rule)).filter(|feed| !feed.is_deduplication())
    }
}

impl Examined<'_> {
    /// The decoder, if one took the frame.
    pub fn decoder(&self) -> Option<&'static str> {
        self.line.map(|line| line.kind.name())
    }

    /// What is wrong with the frame.
    pub fn flaws(&self) -> Vec<&'static str> {
        let encoding = simdutf8::basic::from_utf8(self.event.raw()).is_err().then_some(Flaw::NotUtf8);
        let decoding = self.event.flaw.filter(|flaw| *flaw != Flaw::NotUtf8);
        decoding.into_iter().chain(encoding).map(Flaw::name).collect()
    }

    /// The canonical fields that the event has, by name.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let names = self.line.iter().flat_map(|line| &line.names);
        names.map(|(name, slot)| (name.as_str(), self.event.value(*slot))).filter(|(_, value)| *value != Value::Missing)
    }

    /// What the decoder calls a field of a rule; `None` if it can never fill it.
    pub fn resolve(&self, field: &str) -> Option<String> {
        self.line.and_then(|line| line.words.resolve(field))
    }

    /// The value of a field of a rule.
    pub fn value(&self, field: &str) -> Value<'_> {
        self.slot(field).map_or(Value::Missing, |slot| self.event.value(slot))
    }

    fn slot(&self, field: &str) -> Option<SlotId> {
        self.fields.find(&self.resolve(field)?)
    }

    /// The names by which a rule can ask for what the event has, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names = self.line.map(|line| line.words.names()).unwrap_or_default();
        names.retain(|name| self.value(name) != Value::Missing);
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Why a rule matches or not, as far as its condition goes; whether it runs on this decoder is another matter.
    pub fn explain<'r>(&self, rule: &'r SigmaRule) -> Explained<'r, String> {
        explain_expression(&rule.condition, self.event, &|name: &String| self.slot(name))
    }

    /// What correlations make of the event.
    pub fn fed(&self) -> Vec<Fed> {
        let mut assembly = Assembly::default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let feeds = self.line.into_iter().flat_map(|line| line.fed(&self.rules));
        let fed = feeds.map(|feed| {
            let is_whole = feed.assemble(self.event, Way::default(), &mut assembly);
            let group = is_whole.then(|| {
                let part = |part: Part<'_>| match part {
                    Part::Value(value) => text(value),
                    Part::Digest(_) => "(a long value)".to_owned(),
                    Part::Absent => String::new(),
                };
                parts(&assembly.key).map(part).collect()
            });
            let value = assembly.hit(Position::default(), 0, feed.base).value.map(text);
            Fed { correlation: feed.correlation, base: feed.base, group, value }
        });
        fed.collect()
    }

    /// Appends the canonical fields as members of a JSON object, each with a comma before it.
    pub fn write_fields(&self, out: &mut Vec<u8>) {
        if let Some(line) = self.line {
            line.template.write(self.event, true, out);
        }
    }
}

/// The fields that a rule asks for, each once.
pub fn asked(rule: &SigmaRule) -> Vec<&str> {
    let mut names = Vec::new();
    rule.condition.for_each_field(&mut |name| names.push(name.as_str()));
    names.sort_unstable();
    names.dedup();
    names
}

/// What is wrong with rules beyond their form: rules and correlations that no decoder can ever feed, with the reason.
pub fn lint(rules: &Rules) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let mut complaints = Vec::new();
    let mut runs = vec![false; rules.rules.len()];
    let mut feeds = vec![false; rules.correlations.len()];
    for kind in DECODERS {
        let Some(words) = Words::new(*kind, &mut diagnostics) else { continue };
        let (detector, mut warnings) = Detector::new(&rules.rules, &words, &mut Fields::default());
        detector.rules().iter().for_each(|rule| runs[*rule as usize] = true);
        complaints.append(&mut warnings.0);
        let wanted = Wanted { linked: &rules.correlations, correlations: &rules.compiled };
        let (found, mut warnings) = Feeds::new(wanted, &detector, &words, &mut Fields::default(), &mut |_, _, _| {});
        found.correlations().for_each(|fed| feeds[fed as usize] = true);
        complaints.append(&mut warnings.0);
    }
    let own = |file: &Path, line: usize| {
        let mut own: Vec<Diagnostic> =
            complaints.iter().filter(|complaint| complaint.file == file && complaint.line == line).cloned().collect();
        own.dedup();
        own
    };
    for rule in rules.rules.iter().zip(&runs).filter(|(_, runs)| !**runs).map(|(rule, _)| rule) {
        let mut own = own(&rule.file, rule.line);
        if own.is_empty() {
            let message = format!("rule `{}`: no decoder carries this log source, so it never runs", rule.title);
            own.push(Diagnostic::error(&rule.file, rule.line, 0, "logsource", message).warning().code("unheard-logsource"));
        }
        diagnostics.0.append(&mut own);
    }
    for (index, linked) in rules.correlations.iter().enumerate() {
        let is_fed = feeds[index] || linked.bases.iter().any(|base| is_fed_below(base.source, &rules.correlations, &feeds));
        if !is_fed {
            let correlation = &linked.correlation;
            let mut own = own(&correlation.file, correlation.line);
            if own.is_empty() {
                let message = format!("correlation `{}`: none of its rules ever runs", correlation.title);
                let diagnostic = Diagnostic::error(&correlation.file, correlation.line, 0, "correlation.rules", message).warning();
                own.push(diagnostic.code("unfed-correlation"));
            }
            diagnostics.0.append(&mut own);
        }
    }
    diagnostics
}

/// Whether a correlation that another one looks at is fed. They refer to smaller indices only, so this ends.
fn is_fed_below(source: Source, linked: &[Linked], feeds: &[bool]) -> bool {
    let Source::Correlation(below) = source else { return false };
    let is_fed = feeds.get(below as usize).is_some_and(|fed| *fed);
    let bases = linked.get(below as usize).into_iter().flat_map(|below| &below.bases);
    is_fed || bases.into_iter().any(|base| is_fed_below(base.source, linked, feeds))
}
