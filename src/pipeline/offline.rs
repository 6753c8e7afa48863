//! The stages that need no run: `frames -> decoded rows and the rules that match`, for `decode`, `detect` and `test`.
//!
//! The same decoders, schema maps and detectors as in a run. Not here: transforms and enrichments, which belong
//! to a configuration; a rule that reads a field which they add does not match here.

mod correlation;

use std::path::Path;

use crate::decode::{Compiled, DECODERS, DecoderKind, Instance, explain};
use correlation::Correlation;

use crate::detect::correlate::{Feeds, Fired, Wanted};
use crate::detect::sigma::correlation::{Linked, Source};
use crate::detect::{self, Detector, Rules};
use crate::encode::template::Template;
use crate::error::{Diagnostic, Diagnostics, nearest};
use crate::event::{Chunk, Event, Events, Fields, Flaw, Position, SlotId, Value};
use crate::limits::SLOTS_MAX;
use crate::pipeline::plan::Words;

/// Decoders and rules, ready for frames.
pub struct Offline {
    /// One unless the decoder is `auto`.
    lines: Vec<Line>,
    is_auto: bool,
    width: usize,
    events: Events,
    hits: Vec<detect::Hit>,
    correlation: Correlation,
    /// Events so far.
    seen: u64,
}

struct Line {
    kind: &'static dyn DecoderKind,
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
    /// Why it got its decoder.
    pub why: &'static str,
    /// The row.
    pub event: Event<'a>,
    /// Indices of the rules that match, ascending.
    pub rules: Vec<u32>,
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
            let names: Vec<_> =
                words.canonical().into_iter().map(|name| (fields.slot(&name), name)).map(|(slot, name)| (name, slot)).collect();
            prepared.push((kind, words, (detector, feeds), names));
        }
        let mut lines = Vec::new();
        for (kind, words, (detector, feeds), names) in prepared {
            let Some(compiled) = diagnostics.absorb(Compiled::new(kind, &words.schema, &mut fields, 0)) else { continue };
            let template = Template::new(names.iter().map(|(name, slot)| (name.as_str(), *slot)));
            let scratch = detector.scratch();
            lines.push(Line { kind, instance: compiled.instance(), names, template, detector, feeds, scratch });
        }
        if fields.width() > SLOTS_MAX {
            let message = format!("the rules want {} fields; at most {SLOTS_MAX} are supported", fields.width());
            diagnostics.push(Diagnostic::error(Path::new("rules"), 0, 0, "", message));
        }
        let is_auto = decoder == "auto";
        let (correlation, width) = (Correlation::new(rules), fields.width());
        diagnostics.into_result(Self { lines, is_auto, width, events: Events::default(), hits: Vec::new(), correlation, seen: 0 })
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

    /// Nothing more comes: what correlations have found, each with the index of its correlation. In positions stands the
    /// number of an event behind the colon. The next event begins anew.
    pub fn finish(&mut self) -> Vec<(u32, Fired)> {
        self.seen = 0;
        self.correlation.finish()
    }

    /// Decodes every frame of a chunk and calls `each` with what was found, in order.
    ///
    /// # Errors
    /// What `each` returns.
    pub fn examine<E>(&mut self, chunk: &Chunk, mut each: impl FnMut(Examined<'_>) -> Result<(), E>) -> Result<(), E> {
        let frames = chunk.frames().len();
        let chosen: Vec<_> = (0..frames).map(|frame| self.choose(chunk.frame(frame))).collect();
        self.events.reset(chunk, self.width);
        self.hits.clear();
        for (frame, (line, _)) in chosen.iter().enumerate() {
            let Some(line) = line.and_then(|index| self.lines.get_mut(index)) else { continue };
            line.instance.decode(chunk, frame..frame + 1, &mut self.events);
            let rows = std::iter::once(frame as u32);
            line.detector.detect(chunk, &self.events, rows, &mut line.scratch, &mut self.hits);
        }
        for (frame, (line, why)) in chosen.into_iter().enumerate() {
            let mut rules: Vec<u32> = self.hits.iter().filter(|hit| hit.row as usize == frame).map(|hit| hit.rule).collect();
            rules.sort_unstable();
            let line = line.and_then(|index| self.lines.get(index));
            let event = self.events.event(chunk, frame);
            self.seen += 1;
            let position = Position { epoch: 1, sequence: self.seen };
            for feed in line.into_iter().flat_map(|line| rules.iter().flat_map(|rule| line.feeds.of(*rule))) {
                self.correlation.add(feed, event, position);
            }
            each(Examined { line, why, event, rules })?;
        }
        Ok(())
    }

    fn choose(&self, frame: &[u8]) -> (Option<usize>, &'static str) {
        if !self.is_auto {
            return (Some(0), "it was named");
        }
        let (name, why) = explain(frame);
        (self.lines.iter().position(|line| line.kind.name() == name), why)
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

    /// Appends the canonical fields as members of a JSON object, each with a comma before it.
    pub fn write_fields(&self, out: &mut Vec<u8>) {
        if let Some(line) = self.line {
            line.template.write(self.event, true, out);
        }
    }
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
            own.push(Diagnostic::error(&rule.file, rule.line, 0, "logsource", message).warning());
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
                own.push(Diagnostic::error(&correlation.file, correlation.line, 0, "correlation.rules", message).warning());
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
