//! Detection: `rules and rows -> hits`.
//!
//! In goes the text of rule files; a [`Detector`] holds the rules that one decoder's events are held against.
//! Which rules those are is strict: a rule runs only where the decoder's schema map says that its log source
//! is carried. What a field name of a rule means for the decoder is decided here too; a rule that names a
//! field that the decoder can never fill is reported with the nearest name, and left out there.
//!
//! Never: I/O after loading, allocation per event, deciding what happens to a hit. Immutable and shared by
//! all shards; each shard has its own [`Scratch`].

pub mod cases;
pub mod correlate;
pub mod matched;
mod pack;
pub mod preparation;
pub mod sigma;
pub mod treatment;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Diagnostic, Diagnostics, nearest};
use crate::event::{Chunk, Event, Events, Fields};
use crate::limits::DOCUMENT_BYTES_MAX;
use crate::matcher::{self, Builder, Cost, Expr, Matched, Matcher, ProgramId};

use correlate::Correlations;
use preparation::Preparation;
use sigma::correlation::{self, Linked};
use sigma::{Loader, SigmaRule, Skipped};

/// The word that stands for the pack where a path of rules is expected. A folder of that name is `./builtin`.
pub const BUILTIN: &str = "builtin";

/// The rules that come with the program: path in the repository and text, sorted by path.
pub fn pack() -> &'static [(&'static str, &'static str)] {
    pack::PACK
}

/// Rules of some files and folders.
#[derive(Debug, Default)]
pub struct Rules {
    /// The rules, in the order of their files.
    pub rules: Vec<SigmaRule>,
    /// What was recognised but is not evaluated, with the reason.
    pub skipped: Vec<Skipped>,
    /// Whether a hit of a rule alone is an alert; a correlation may want it for itself.
    pub alone: Vec<bool>,
    /// The correlations, each behind those that it refers to.
    pub correlations: Vec<Linked>,
    /// The same, compiled.
    pub compiled: Correlations,
}

impl Rules {
    /// Loads files, `*.yml`/`*.yaml` below folders except those called `schema`, and the pack for the path
    /// [`BUILTIN`]. Mistakes of one file do not keep the others out; all of them are returned.
    pub fn load(paths: &[PathBuf], preparation: &Preparation) -> (Self, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let mut loader = Loader::new(&preparation.placeholders, &preparation.pipelines);
        let mut files = Vec::new();
        for path in paths {
            if path.as_os_str() == BUILTIN {
                pack().iter().for_each(|(file, text)| loader.add(Path::new(file), text));
            } else {
                collect(path, &mut files, &mut diagnostics);
            }
        }
        for file in files {
            match text_of(&file) {
                Ok(text) => loader.add(&file, &text),
                Err(diagnostic) => diagnostics.push(diagnostic),
            }
        }
        let mut loaded = loader.finish();
        diagnostics.0.append(&mut loaded.diagnostics.0);
        let (linked, alone, mut mistakes) = correlation::link(&loaded.rules, loaded.correlations);
        diagnostics.0.append(&mut mistakes.0);
        let (compiled, mut mistakes) = Correlations::new(&linked, &loaded.rules);
        diagnostics.0.append(&mut mistakes.0);
        let rules = Self { rules: loaded.rules, skipped: loaded.skipped, alone, correlations: linked, compiled };
        let mut seen = std::collections::HashMap::new();
        for rule in &rules.rules {
            if let Some(first) = seen.insert(rule.id.as_str(), rule).filter(|_| !rule.id.is_empty()) {
                let message = format!("the id {} is also that of {}:{}", rule.id, first.file.display(), first.line);
                diagnostics.push(Diagnostic::error(&rule.file, rule.line, 0, "id", message).warning().code("duplicate-id"));
            }
        }
        (rules, diagnostics)
    }
}

/// The text of a file that a person wrote; of one that is too long for that nothing more is read.
fn text_of(file: &Path) -> Result<String, Diagnostic> {
    let mut text = String::new();
    let limit = DOCUMENT_BYTES_MAX as u64 + 1;
    match File::open(file).and_then(|open| open.take(limit).read_to_string(&mut text)) {
        Ok(count) if count as u64 == limit => {
            Err(Diagnostic::error(file, 0, 0, "", format!("the file has more than {DOCUMENT_BYTES_MAX} bytes")))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(Diagnostic::error(file, 0, 0, "", format!("cannot be read: {error}"))),
    }
}

/// Folders inside folders that are followed.
const FOLDER_DEPTH_MAX: usize = 16;

fn collect(path: &Path, files: &mut Vec<PathBuf>, diagnostics: &mut Diagnostics) {
    let mut open = vec![(path.to_owned(), 0)];
    let is_rule = |path: &Path| path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
    while let Some((path, depth)) = open.pop() {
        if !path.is_dir() {
            files.push(path);
            continue;
        }
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) => {
                diagnostics.push(Diagnostic::error(&path, 0, 0, "", format!("cannot be read: {error}")));
                continue;
            }
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| if path.is_dir() { depth < FOLDER_DEPTH_MAX && !path.ends_with("schema") } else { is_rule(path) });
        paths.sort_unstable_by(|a, b| b.cmp(a));
        open.extend(paths.into_iter().map(|path| (path, depth + 1)));
    }
}

/// What a decoder says about the names in rules.
pub trait Vocabulary {
    /// Whether events of this log source can come from the decoder.
    fn carries(&self, logsource: &sigma::LogSource) -> bool;
    /// The name that the plan uses for a rule's field; `None` if the decoder can never fill it.
    fn resolve(&self, field: &str) -> Option<String>;
    /// Every name it knows, for suggestions.
    fn names(&self) -> Vec<&str>;
}

/// The rules that one decoder's events are held against.
#[derive(Debug)]
pub struct Detector {
    matcher: Matcher,
    /// Program to index in [`Rules::rules`], ascending.
    rules: Vec<u32>,
}

/// A rule that matched an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Row of the event.
    pub row: u32,
    /// Index of the rule.
    pub rule: u32,
}

/// Working memory of one shard for one detector.
#[derive(Debug)]
pub struct Scratch {
    matcher: matcher::Scratch,
    programs: Vec<ProgramId>,
    stopped: u32,
}

impl Scratch {
    /// How many rules were stopped when [`Detector::stop`] was called.
    pub fn stopped(&self) -> u32 {
        self.stopped
    }

    /// Has the cost of rules measured on one event in so many from now on; 1 is every event.
    pub fn measure_every(&mut self, every: u32) {
        self.matcher.measure_every(every);
    }
}

impl Detector {
    /// Compiles the rules that `vocabulary` carries; the fields that they need are added to `fields`.
    /// The warnings name rules that cannot match here because of a field.
    pub fn new(rules: &[SigmaRule], vocabulary: &dyn Vocabulary, fields: &mut Fields) -> (Self, Diagnostics) {
        let mut builder = Builder::new();
        let mut programs = Vec::new();
        let mut diagnostics = Diagnostics::new();
        let carried = || rules.iter().enumerate().filter(|(_, rule)| vocabulary.carries(&rule.logsource));
        add_most_asked_first(carried().map(|(_, rule)| &rule.condition), vocabulary, fields);
        for (index, rule) in carried() {
            let condition = rule.condition.clone();
            let mut resolve = |name: String| vocabulary.resolve(&name).map(|name| fields.slot(&name)).ok_or(name);
            match condition.map_fields(&mut resolve) {
                Ok(condition) => {
                    builder.add(condition);
                    programs.push(index as u32);
                }
                Err(name) => diagnostics.push(unknown_field(rule, &name, vocabulary)),
            }
        }
        (Self { matcher: builder.build(), rules: programs }, diagnostics)
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether no rule runs here.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Indices of the rules.
    pub fn rules(&self) -> &[u32] {
        &self.rules
    }

    /// Working memory for one shard.
    pub fn scratch(&self) -> Scratch {
        Scratch { matcher: self.matcher.scratch(), programs: Vec::new(), stopped: 0 }
    }

    /// Appends the hits of some rows.
    pub fn detect(&self, chunk: &Chunk, events: &Events, rows: impl Iterator<Item = u32>, scratch: &mut Scratch, hits: &mut Vec<Hit>) {
        for row in rows {
            self.matcher.evaluate(events.event(chunk, row as usize), &mut scratch.matcher, &mut scratch.programs);
            hits.extend(scratch.programs.iter().map(|program| Hit { row, rule: self.rules[program.0 as usize] }));
        }
    }

    /// Calls `visit` with what made a rule match an event that it is known to match.
    pub fn matched(&self, rule: u32, event: Event<'_>, visit: &mut dyn FnMut(Matched<'_>)) {
        if let Ok(program) = self.rules.binary_search(&rule) {
            self.matcher.matched(ProgramId(program as u32), event, visit);
        }
    }

    /// Calls `of` with each rule that was looked at on a measured event since the last call, and what it is estimated to have
    /// cost on all events; gives what belongs to no rule.
    pub fn take_costs(&self, scratch: &mut Scratch, mut of: impl FnMut(u32, Cost)) -> Cost {
        scratch.matcher.take_costs(|program, cost| of(self.rules[program.0 as usize], cost))
    }

    /// Leaves out the rules that `is_stopped` names, `count` in all, from now on.
    pub fn stop(&self, scratch: &mut Scratch, count: u32, is_stopped: impl Fn(u32) -> bool) {
        scratch.stopped = count;
        let programs = self.rules.iter().zip(0..).filter(|(rule, _)| is_stopped(**rule)).map(|(_, program)| ProgramId(program));
        scratch.matcher.stop(programs.collect());
    }

    /// The same by the full scan: the oracle.
    pub fn full_scan(&self, chunk: &Chunk, events: &Events, rows: impl Iterator<Item = u32>, hits: &mut Vec<Hit>) {
        let mut programs = Vec::new();
        for row in rows {
            self.matcher.full_scan(events.event(chunk, row as usize), &mut programs);
            hits.extend(programs.iter().map(|program| Hit { row, rule: self.rules[program.0 as usize] }));
        }
    }
}

/// Gives the fields that most rules ask for the first slots: those are what events have, and side by side they lie in few lines
/// of the cache.
fn add_most_asked_first<'a>(conditions: impl Iterator<Item = &'a Expr<String>>, vocabulary: &dyn Vocabulary, fields: &mut Fields) {
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for condition in conditions {
        let mut names = Vec::new();
        condition.for_each_field(&mut |name| names.push(name.as_str()));
        // A rule with a field that nothing fills is left out, and needs no slots.
        if names.iter().all(|name| vocabulary.resolve(name).is_some()) {
            names.into_iter().for_each(|name| *asked.entry(name).or_default() += 1);
        }
    }
    let mut names: Vec<_> = asked.into_iter().collect();
    names.sort_by_key(|(_, count)| Reverse(*count));
    for name in names.into_iter().filter_map(|(name, _)| vocabulary.resolve(name)) {
        fields.slot(&name);
    }
}

fn unknown_field(rule: &SigmaRule, name: &str, vocabulary: &dyn Vocabulary) -> Diagnostic {
    let message = format!("rule `{}`: events of this log source have no field `{name}`", rule.title);
    let mut diagnostic = Diagnostic::error(&rule.file, rule.line, 0, "detection", message).warning().code("unknown-field");
    diagnostic.help = nearest(name, vocabulary.names()).map(|near| format!("did you mean `{near}`?"));
    diagnostic
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Kind, Sender, Span};

    struct Anything;

    impl Vocabulary for Anything {
        fn carries(&self, logsource: &sigma::LogSource) -> bool {
            logsource.product.as_deref() == Some("test")
        }

        fn resolve(&self, field: &str) -> Option<String> {
            (field != "nowhere").then(|| field.to_owned())
        }

        fn names(&self) -> Vec<&str> {
            vec!["somewhere"]
        }
    }

    fn hits(detection: &str, value: &str) -> (usize, usize) {
        let text = format!(
            "title: t\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f\nlogsource: {{ product: test }}\ndetection:\n  s:\n    {detection}\n  condition: s\n"
        );
        let loaded = sigma::load(Path::new("t.yml"), &text, &Default::default());
        assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics);
        let mut fields = Fields::default();
        let (detector, _) = Detector::new(&loaded.rules, &Anything, &mut fields);
        let sender = Arc::new(Sender { source: "t".into(), source_index: 0 });
        let chunk = Chunk::new(value.as_bytes().to_vec(), vec![Span::new(0, value.len())], sender, 0);
        let mut events = Events::default();
        events.reset(&chunk, fields.width());
        for (slot, _) in fields.iter() {
            events.row_mut(&chunk, 0).set_written(slot, Kind::Text, |out| out.extend_from_slice(value.as_bytes()));
        }
        let (mut indexed, mut scanned) = (Vec::new(), Vec::new());
        detector.detect(&chunk, &events, 0..1, &mut detector.scratch(), &mut indexed);
        detector.full_scan(&chunk, &events, 0..1, &mut scanned);
        (indexed.len(), scanned.len())
    }

    #[test]
    fn flags_of_a_regex_reach_the_index() {
        assert_eq!(hits("f|re|i: 'select .* from'", "SELECT a FROM b"), (1, 1));
        assert_eq!(hits("f|re: 'select .* from'", "SELECT a FROM b"), (0, 0));
        assert_eq!(hits("f|re|m: '^b$'", "a\nb"), (1, 1));
        assert_eq!(hits("f|re|s: 'a.b'", "a\nb"), (1, 1));
        assert_eq!(hits("f|re|i: 'x|union'", "UNION"), (1, 1));
    }

    #[test]
    fn a_rule_with_a_field_that_never_comes_is_reported_with_the_nearest_name() {
        let text = "title: t\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f\nlogsource: { product: test }\ndetection:\n  s: { nowhere: x }\n  condition: s\n";
        let loaded = sigma::load(Path::new("t.yml"), text, &Default::default());
        let (detector, diagnostics) = Detector::new(&loaded.rules, &Anything, &mut Fields::default());
        assert!(detector.is_empty());
        let expected =
            "t.yml:1: warning: detection: rule `t`: events of this log source have no field `nowhere`\n  help: did you mean `somewhere`?";
        assert_eq!(diagnostics.to_string(), expected);
    }
}
