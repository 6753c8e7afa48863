//! What transforms and enrichment add to the events of a source: which fields programs write, which look-ups
//! events can have a key for, and which of those anybody wants.

use std::sync::Arc;

use serde::Deserialize;

use super::in_file;
use super::words::Words;
use crate::config::Section;
use crate::enrich::{ENRICHERS, Enricher, Folders, Local, Lookup, Refresh};
use crate::error::{Diagnostics, nearest};
use crate::event::Fields;
use crate::transform::{OnAbort, Transform};
use crate::vrl::{Condition, Program};

/// An enrichment.
pub struct EnricherPlan {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// The enricher, its file loaded.
    pub enricher: Arc<dyn Enricher>,
}

/// Reads the enrichments and loads their files. Where nothing is sent, they ask nobody.
pub(super) fn read(root: &Section, folders: Folders<'_>, sends_nothing: bool, diagnostics: &mut Diagnostics) -> Vec<EnricherPlan> {
    let mut enrichers = Vec::new();
    for (name, section) in root.child("enrichments").map(|section| section.children()).unwrap_or_default() {
        let Some(kind) = diagnostics.absorb(section.component(ENRICHERS, |kind| kind.name())) else { continue };
        let Some(enricher) = diagnostics.absorb(kind.read(&section.without(&["type"]), folders)) else { continue };
        if let Refresh::Failed(mut found) | Refresh::Partly(mut found) = enricher.refresh() {
            diagnostics.0.append(&mut found.0);
        }
        if let Some(lack) = enricher.lacks().filter(|_| sends_nothing) {
            diagnostics.push(section.error(format!("{lack}, and nothing is sent here: it is left out")).warning());
        }
        let enricher: Arc<dyn Enricher> = if sends_nothing { Arc::new(Local(enricher)) } else { enricher.into() };
        enrichers.push(EnricherPlan { name: name.into(), enricher });
    }
    enrichers
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::pipeline) struct TransformConfig {
    /// VRL condition; without it the program runs for every event.
    when: Option<String>,
    /// VRL program.
    program: String,
    /// What its `abort` means: `drop` or `keep`.
    #[serde(default)]
    on_abort: OnAbort,
}

/// Reads and compiles the transforms.
pub(super) fn read_transforms(root: &Section, diagnostics: &mut Diagnostics) -> Vec<Transform> {
    let Some(section) = root.child("transforms") else { return Vec::new() };
    if section.items().is_empty() && !section.node().is_null() {
        diagnostics.push(section.error("expected a list").help("transforms: [ { program: '.labels.team = \"net\"' } ]"));
    }
    let mut transforms = Vec::new();
    for section in section.items() {
        let Some(config) = diagnostics.absorb(section.read::<TransformConfig>()) else { continue };
        let when = config.when.as_deref().map(|source| {
            let place = section.child("when").unwrap_or_else(|| section.clone());
            let condition = Condition::compile(source, place.file(), place.node().line, place.path());
            diagnostics.absorb(condition.map_err(|mistakes| in_file(mistakes, &place)))
        });
        let place = section.child("program").unwrap_or_else(|| section.clone());
        let program = Program::compile(&config.program, place.file(), place.node().line, place.path());
        let program = diagnostics.absorb(program.map_err(|mistakes| in_file(mistakes, &place)));
        let Some(program) = program else { continue };
        if program.writes_whole() {
            let message = "it may write any field; those that nothing else names are not kept";
            diagnostics.push(place.error(message).warning().help("assign the fields that are needed by name: `.labels.team = ...`"));
        }
        // A condition that does not compile is an error already.
        let when = match when {
            Some(None) => continue,
            Some(Some(when)) => Some(when),
            None => None,
        };
        transforms.push(Transform { when, program, on_abort: config.on_abort });
    }
    transforms
}

/// The fields that transforms write, each once.
pub(super) fn written(transforms: &[Transform]) -> Vec<String> {
    let mut names: Vec<String> = transforms.iter().flat_map(|transform| transform.program.writes().iter().cloned()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Warns of fields that transforms read although only enrichment, which runs later, can fill them.
pub(super) fn warn_of_order(transforms: &[Transform], too_late: &[String], root: &Section, diagnostics: &mut Diagnostics) {
    let items = root.child("transforms").map(|section| section.items()).unwrap_or_default();
    for (transform, place) in transforms.iter().zip(items) {
        let mut reads: Vec<&String> = transform.program.reads().iter().collect();
        match &transform.when {
            Some(Condition::Native(condition)) => condition.for_each_field(&mut |name| reads.push(name)),
            Some(Condition::Program(program)) => reads.extend(program.reads()),
            None => {}
        }
        reads.sort_unstable();
        reads.dedup();
        for name in reads.into_iter().filter(|name| too_late.contains(name)) {
            let message = format!("transforms run before enrichment: `{name}` is not there yet");
            let diagnostic = place.error(message).warning();
            if !diagnostics.0.contains(&diagnostic) {
                diagnostics.push(diagnostic);
            }
        }
    }
}

/// The look-ups that the events of one source can have a key for.
pub(super) struct Additions<'a> {
    /// Index of the enricher, in the order in which they run.
    lookups: Vec<(usize, &'a Lookup)>,
}

impl<'a> Additions<'a> {
    /// A key comes from the decoder, from a transform (`written`), or from an enricher before.
    pub(super) fn new(enrichers: &'a [EnricherPlan], words: &[Words], written: &[String]) -> Self {
        let mut lookups: Vec<(usize, &Lookup)> = Vec::new();
        for (index, plan) in enrichers.iter().enumerate() {
            let earlier = lookups.len();
            for lookup in plan.enricher.lookups() {
                let is_added = lookups.iter().take(earlier).any(|(_, lookup_before)| lookup_before.adds.contains(&lookup.key));
                if is_added || written.contains(&lookup.key) || words.iter().any(|words| words.can_fill(&lookup.key)) {
                    lookups.push((index, lookup));
                }
            }
        }
        Self { lookups }
    }

    /// The fields that may be added, each once.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.lookups.iter().flat_map(|(_, lookup)| lookup.adds.iter().cloned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The enrichers that add a field of `fields`, in their order; their keys are added to `fields`.
    pub(super) fn wanted(&self, fields: &mut Fields) -> Vec<usize> {
        let mut wanted = Vec::new();
        // The last first: what a later one needs as its key is wanted of the earlier ones.
        for (index, lookup) in self.lookups.iter().rev() {
            if lookup.adds.iter().any(|name| fields.find(name).is_some()) {
                fields.slot(&lookup.key);
                wanted.push(*index);
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Takes the keys that this source's events can have off the list.
    pub(super) fn cross_off(&self, unknown: &mut Vec<(usize, String)>) {
        unknown.retain(|(enricher, key)| !self.lookups.iter().any(|(index, lookup)| index == enricher && lookup.key == *key));
    }
}

/// Every key of every enricher: those that no source crosses off can never be found.
pub(super) fn keys(enrichers: &[EnricherPlan]) -> Vec<(usize, String)> {
    let keys = |(index, plan): (usize, &EnricherPlan)| -> Vec<(usize, String)> {
        plan.enricher.lookups().iter().map(|lookup| (index, lookup.key.clone())).collect()
    };
    enrichers.iter().enumerate().flat_map(keys).collect()
}

/// Warns of keys that no source's events can have.
pub(super) fn warn_of(
    unknown: &[(usize, String)],
    enrichers: &[EnricherPlan],
    names: &[String],
    root: &Section,
    diagnostics: &mut Diagnostics,
) {
    for (index, key) in unknown {
        let Some(plan) = enrichers.get(*index) else { continue };
        if !is_worth_a_word(unknown, *index, key, plan.enricher.lookups()) {
            continue;
        }
        let place = root.child("enrichments").and_then(|section| section.child(&plan.name)).unwrap_or_else(|| root.clone());
        let mut diagnostic = place.error(format!("no source's events have the field `{key}`; nothing is looked up by it")).warning();
        diagnostic.help = nearest(key, names.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
        diagnostics.push(diagnostic);
    }
}

/// Whether a key that no source has is to be told: somebody asked for it, or it is the last of those that enrichers of
/// this kind look at of themselves and all the others are missing too.
fn is_worth_a_word(unknown: &[(usize, String)], enricher: usize, key: &str, lookups: &[Lookup]) -> bool {
    let is_unknown = |lookup: &Lookup| unknown.iter().any(|(index, key)| *index == enricher && *key == lookup.key);
    let is_asked_for = lookups.iter().any(|lookup| lookup.key == key && !lookup.is_usual);
    is_asked_for || (lookups.iter().all(is_unknown) && lookups.last().is_some_and(|last| last.key == key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::DECODERS;
    use crate::enrich::Bound;

    struct Fake(Vec<Lookup>);

    impl Enricher for Fake {
        fn lookups(&self) -> &[Lookup] {
            &self.0
        }

        fn refresh(&self) -> Refresh {
            Refresh::Unchanged
        }

        fn bind(&self, _: &Fields) -> Box<dyn Bound> {
            unreachable!("nothing is bound here")
        }
    }

    fn plans(lookups: &[(&str, &str)]) -> Vec<EnricherPlan> {
        let plan = |(key, adds): &(&str, &str)| {
            let lookup = Lookup { key: (*key).to_owned(), adds: vec![(*adds).to_owned()], is_usual: false };
            EnricherPlan { name: "x".into(), enricher: Arc::new(Fake(vec![lookup])) }
        };
        lookups.iter().map(plan).collect()
    }

    fn words() -> Vec<Words> {
        let kind = DECODERS.iter().find(|kind| kind.name() == "palo_alto").unwrap();
        vec![Words::new(*kind, &mut Diagnostics::new()).unwrap()]
    }

    #[test]
    fn only_what_somebody_wants_is_looked_up_and_what_that_needs() {
        let plans = plans(&[("source.ip", "a"), ("a", "b"), ("source.ip", "c"), ("b", "d")]);
        let words = words();
        let additions = Additions::new(&plans, &words, &[]);
        let wanted = |names: &[&str]| {
            let mut fields = Fields::default();
            names.iter().for_each(|name| _ = fields.slot(name));
            let wanted = additions.wanted(&mut fields);
            (wanted, fields.find("source.ip").is_some())
        };
        assert_eq!(wanted(&["event.action"]), (vec![], false));
        assert_eq!(wanted(&["c"]), (vec![2], true));
        assert_eq!(wanted(&["d"]), (vec![0, 1, 3], true));
    }

    #[test]
    fn a_key_comes_from_the_decoder_a_transform_or_an_earlier_enricher() {
        let plans = plans(&[("a", "b"), ("source.ip", "a"), ("labels.team", "c")]);
        let words = words();
        let additions = Additions::new(&plans, &words, &[]);
        assert_eq!(additions.names(), ["a"], "the first runs before its key is there");
        let mut unknown = keys(&plans);
        additions.cross_off(&mut unknown);
        assert_eq!(unknown, [(0, "a".to_owned()), (2, "labels.team".to_owned())]);
        let written = ["labels.team".to_owned()];
        assert_eq!(Additions::new(&plans, &words, &written).names(), ["a", "c"]);
    }
}
