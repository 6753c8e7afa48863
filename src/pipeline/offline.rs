//! The stages that need no run: `frames -> decoded rows and the rules that match`, for `decode`, `detect` and `test`.
//!
//! The same decoders, schema maps and detectors as in a run. Not here: transforms and enrichments, which belong
//! to a configuration; a rule that reads a field which they add does not match here.

use std::path::{Path, PathBuf};

use crate::decode::{Compiled, DECODERS, DecoderKind, Instance, explain};
use crate::detect::sigma::SigmaRule;
use crate::detect::{self, Detector};
use crate::encode::template::Template;
use crate::error::{Diagnostic, Diagnostics, nearest};
use crate::event::{Chunk, Event, Events, Fields, Flaw, SlotId, Value};
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
}

struct Line {
    kind: &'static dyn DecoderKind,
    instance: Instance,
    names: Vec<(String, SlotId)>,
    template: Template,
    detector: Detector,
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
    /// Compiles the rules for a decoder, or for all of them (`auto`); every canonical field is decoded.
    ///
    /// # Errors
    /// No such decoder; mistakes of a schema map; more fields than a row can have.
    pub fn new(decoder: &str, rules: &[SigmaRule]) -> Result<Self, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let kinds = decoders(decoder).map_err(|message| Diagnostic::error(Path::new("--decoder"), 0, 0, "", message))?;
        let mut fields = Fields::default();
        let mut prepared = Vec::new();
        for kind in kinds {
            let Some(words) = Words::new(kind, &mut diagnostics) else { continue };
            // Which fields a rule lacks where is for `rules lint` to tell: it looks at all decoders together.
            let (detector, _) = Detector::new(rules, &words, &mut fields);
            let names: Vec<_> =
                words.canonical().into_iter().map(|name| (fields.slot(&name), name)).map(|(slot, name)| (name, slot)).collect();
            prepared.push((kind, words, detector, names));
        }
        let mut lines = Vec::new();
        for (kind, words, detector, names) in prepared {
            let Some(compiled) = diagnostics.absorb(Compiled::new(kind, &words.schema, &mut fields, 0)) else { continue };
            let template = Template::new(names.iter().map(|(name, slot)| (name.as_str(), *slot)));
            let scratch = detector.scratch();
            lines.push(Line { kind, instance: compiled.instance(), names, template, detector, scratch });
        }
        if fields.width() > SLOTS_MAX {
            let message = format!("the rules want {} fields; at most {SLOTS_MAX} are supported", fields.width());
            diagnostics.push(Diagnostic::error(Path::new("rules"), 0, 0, "", message));
        }
        let is_auto = decoder == "auto";
        diagnostics.into_result(Self { lines, is_auto, width: fields.width(), events: Events::default(), hits: Vec::new() })
    }

    /// Decoders that a rule runs on.
    pub fn carriers(&self, rule: usize) -> Vec<&'static str> {
        let runs = |line: &&Line| line.detector.rules().contains(&(rule as u32));
        self.lines.iter().filter(runs).map(|line| line.kind.name()).collect()
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
            each(Examined { line, why, event: self.events.event(chunk, frame), rules })?;
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

/// What is wrong with rules beyond their form: those that no decoder can ever feed, with the reason.
pub fn lint(rules: &[SigmaRule]) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let mut complaints = Vec::new();
    let mut runs = vec![false; rules.len()];
    let mut vocabularies = Vec::new();
    for kind in DECODERS {
        let Some(words) = Words::new(*kind, &mut diagnostics) else { continue };
        let (detector, mut warnings) = Detector::new(rules, &words, &mut Fields::default());
        detector.rules().iter().for_each(|rule| runs[*rule as usize] = true);
        complaints.append(&mut warnings.0);
        vocabularies.push(words);
    }
    for rule in rules.iter().zip(&runs).filter(|(_, runs)| !**runs).map(|(rule, _)| rule) {
        let is_about = |complaint: &&Diagnostic| complaint.file == rule.file && complaint.line == rule.line;
        let mut own: Vec<Diagnostic> = complaints.iter().filter(is_about).cloned().collect();
        own.dedup();
        if own.is_empty() {
            let message = format!("rule `{}`: no decoder carries this log source, so it never runs", rule.title);
            own.push(Diagnostic::error(&PathBuf::from(&rule.file), rule.line, 0, "logsource", message).warning());
        }
        diagnostics.0.append(&mut own);
    }
    diagnostics
}
