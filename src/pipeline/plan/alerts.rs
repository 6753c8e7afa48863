//! The lines of alerts that Hydrant makes itself: matches of correlations, and source health.
//!
//! Each becomes an event of a source of our own, which nobody can name: a self-contained JSON object
//! ([`crate::detect::correlate::Form`], [`crate::source_health`]) that is journaled, routed and encoded like an alert of a
//! rule. No rule, transform or enrichment sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lines::{Compiler, DecoderLine, Line, OWN_FIELDS, OwnSlots};
use super::words::Words;
use crate::decode::{Compiled, DECODERS, Meaning, Origin, Schema};
use crate::detect::Detector;
use crate::detect::correlate::Feeds;
use crate::encode::alert::Sources;
use crate::encode::body::{Context, DEDUPLICATION_FIELDS, OWN_ALERT_FIELDS, details_field};
use crate::event::{Fields, Sender};
use crate::route::Router;
use crate::source_health::DETAILS;
use crate::transform::Transforms;

/// Name of the source that alerts of correlations come through, in the journal. No source of a configuration begins so.
pub const CORRELATION_SOURCE: &str = "%correlation";

/// The same for alerts of source health.
pub const HEALTH_SOURCE: &str = "%source_health";

/// What happens to alerts of one origin.
pub struct AlertLine {
    /// Who they come from.
    pub sender: Arc<Sender>,
    /// Their stages.
    pub line: Line,
}

/// The lines, for indices behind those of the sources; `grouped` are canonical names in alerts of correlations.
pub(super) fn lines(compiler: &mut Compiler<'_>, grouped: BTreeSet<String>, sources: usize) -> Option<Vec<AlertLine>> {
    let origins = [(CORRELATION_SOURCE, "correlation", grouped), (HEALTH_SOURCE, DETAILS, ["observer.ip".to_owned()].into())];
    let line = |(index, (source, details, canonical)): (usize, (&str, &'static str, BTreeSet<String>))| {
        let source_index = u16::try_from(sources + index).unwrap_or(u16::MAX);
        let sender = Arc::new(Sender { source: source.into(), source_index });
        Some(AlertLine { sender, line: line(compiler, canonical, (source, details))? })
    };
    origins.into_iter().enumerate().map(line).collect()
}

/// Read as JSON, routed, encoded. `details` is the key of what was found.
fn line(compiler: &mut Compiler<'_>, mut canonical: BTreeSet<String>, (source, details): (&str, &'static str)) -> Option<Line> {
    let kind = *DECODERS.iter().find(|kind| kind.name() == "json")?;
    canonical.insert("message".to_owned());
    let integers = &compiler.collected.integers;
    let origin = |name: &String| Origin { meaning: Meaning::From(vec![name.clone()]), integer: integers.contains(name) };
    let ecs: BTreeMap<String, Origin> = canonical.iter().map(|name| (name.clone(), origin(name))).collect();
    let schema = Schema { ecs, ..Schema::default() };
    let names: Vec<String> = schema.ecs.keys().cloned().collect();
    let known: Vec<&str> = names.iter().map(String::as_str).chain(OWN_FIELDS.iter().copied()).collect();
    let mut fields = Fields::default();
    let mut transforms = Transforms::new(&[], &known, &mut fields);
    let router = Router::new(compiler.routes, &known, &|name| name.to_owned(), &mut fields);
    let silencer = compiler.silences.silencer(&known, &mut fields);
    for sink in compiler.sinks {
        sink.sink.wants(&names).into_iter().for_each(|name| {
            fields.slot(&name);
        });
    }
    // Whatever sinks ask for: an alert has no frame of its own that would say the same.
    let (found, sources) = (details_field(details), Sources::fields(details));
    let always = names.iter().map(String::as_str).chain(OWN_ALERT_FIELDS).chain([found.as_str(), "%hydrant.rule_ids"]);
    let always = always.chain(sources.iter().map(String::as_str));
    let deduplicated = DEDUPLICATION_FIELDS.into_iter().filter(|_| source == CORRELATION_SOURCE);
    always.chain(deduplicated).for_each(|name| {
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
        notes: compiler.rule_notes.clone(),
        source: details.to_owned(),
        decoder: kind.name(),
        details: Some(details),
    };
    let own = OwnSlots::find(&fields);
    let decoders = vec![DecoderLine { compiled, words, detector, feeds: Feeds::default(), context }];
    Some(Line { width: fields.width(), decoders, is_auto: false, fields, enrichers: Vec::new(), transforms, silencer, router, own })
}
