//! The configuration, compiled: what every decoder has to fill, which rules run where, what goes to whom.
//!
//! Reading opens nothing but the files that the configuration names (rules, tables), so `validate` and the tests
//! run exactly what `run` runs. All mistakes are named at once. A plan is immutable and shared by all shards.

pub(super) mod additions;
mod alerts;
mod correlation;
pub(super) mod dead_letters;
mod journal;
mod lines;
mod quarantine;
pub(super) mod routes;
mod rules;
mod sections;
pub(super) mod settings;
pub(super) mod sinks;
mod source_health;
pub(super) mod sources;
mod treatment;
pub(super) mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use additions::EnricherPlan;
pub use alerts::{AlertLine, CORRELATION_SOURCE, HEALTH_SOURCE};
pub use correlation::CorrelationPlan;
pub use journal::{BackfillFrom, DiskPlan, JournalPlan, WhenFull};
pub use lines::{DecoderLine, Line, OWN_FIELDS, OwnSlots};
pub use quarantine::Quarantine;
pub use settings::Settings;
pub use sinks::SinkPlan;
pub use source_health::SourceHealthPlan;
pub use sources::{Acknowledge, SourcePlan};

use crate::config::{Content, Section};
use crate::detect::Rules;
use crate::detect::sigma::Level;
use crate::detect::treatment::Treatment;
use crate::error::{Diagnostic, Diagnostics, nearest};
use crate::event::Sender;
use crate::pipeline::offline::Fill;
use crate::pipeline::silence::SilencePlan;

use correlation::Collected;
use lines::Compiler;
use sections::Sections;

/// Everything that a start needs to know.
pub struct Plan {
    /// Settings of the process.
    pub settings: Settings,
    /// The sources with what happens to their events.
    pub sources: Vec<SourcePlan>,
    /// The enrichments.
    pub enrichers: Vec<EnricherPlan>,
    /// The destinations; a route's bit is the index here.
    pub sinks: Vec<SinkPlan>,
    /// The rules.
    pub rules: Rules,
    /// What becomes of hits, by rule.
    pub treatments: Vec<Treatment>,
    /// Rules that are stopped because of what they cost.
    pub quarantine: Quarantine,
    /// The correlations, deduplications among them.
    pub correlation: CorrelationPlan,
    /// Which alerts are not made for now.
    pub silences: SilencePlan,
    /// How senders are judged.
    pub source_health: SourceHealthPlan,
    /// What happens to the alerts of these two; their indices are behind those of the sources.
    pub alerts: Vec<AlertLine>,
    /// What works, but probably not as meant.
    pub warnings: Diagnostics,
    /// Tells configurations apart, in the journal's records.
    pub hash: u64,
    /// The file as written, for a reload to be compared with. References to secrets are not resolved in it.
    pub written: Section,
}

/// What a replay, or a look at rules, changes of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Only this sink.
    pub sink: Option<String>,
    /// Rule files and folders in the place of those that are named.
    pub rules: Option<Vec<PathBuf>>,
    /// Alerts say that they are of a replay.
    pub is_replay: bool,
    /// Sinks take everything and send nothing, enrichments ask nobody; secrets may be missing.
    pub sends_nothing: bool,
    /// Fields that are decoded although nobody in the configuration asks for them.
    pub fill: Fill,
}

impl Plan {
    /// Reads and compiles a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(file: &Path, text: &str) -> Result<Self, Diagnostics> {
        Self::read_changed(file, text, &Changes::default())
    }

    /// The same with something in the place of what it says.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read_changed(file: &Path, text: &str, changes: &Changes) -> Result<Self, Diagnostics> {
        let root = if changes.sends_nothing { Section::parse_elsewhere(file, text) } else { Section::parse(file, text) }?;
        let mut diagnostics = Diagnostics::new();
        let read = Sections::read(&root, changes, &mut diagnostics);
        let Sections { mut top, mut sinks, routes, enrichers, transforms, rules, silences } = read;
        let alerts = top.as_mut().map(|top| std::mem::take(&mut top.alerts)).unwrap_or_default();
        let treated = treatment::treat(alerts, &rules, &root, &mut diagnostics);
        let config = top.as_mut().and_then(|top| top.correlation.take());
        let mut compiler = Compiler {
            sinks: &sinks,
            routes: &routes,
            silences: &silences,
            rules: &rules.rules,
            linked: &treated.linked,
            correlations: &treated.correlations,
            collected: Collected::new(config, &treated.linked, &root, &mut diagnostics),
            rule_info: rules::info(&rules, &treated.linked, changes.is_replay),
            rule_notes: rules::notes(&rules, &treated.linked),
            root: &root,
            fill: changes.fill,
            transforms: &transforms,
            enrichers: &enrichers,
            unknown_keys: additions::keys(&enrichers),
            canonical: Vec::new(),
            diagnostics,
        };
        let sources = sources::read(&root, &mut compiler);
        let (mut correlation, grouped) = correlation::plan(&mut compiler, &treated);
        let alerts = alerts::lines(&mut compiler, grouped, sources.len());
        let Compiler { unknown_keys, canonical, collected, mut diagnostics, .. } = compiler;
        treated.warn_of_keys(&collected, &canonical, &root, &mut diagnostics);
        silences.warn_of_fields(&canonical, &mut diagnostics);
        additions::warn_of(&unknown_keys, &enrichers, &canonical, &root, &mut diagnostics);
        sources::check_listeners(&root, &sources, &mut diagnostics);
        let health = top.as_mut().map(|top| std::mem::take(&mut top.source_health)).unwrap_or_default();
        let source_health = health.plan(&sources, &root, &mut diagnostics);
        let settings = top.and_then(|top| settings::read(&root, top, &mut diagnostics));
        settings.iter().for_each(|settings| sinks::check(&root, &settings.journal, &mut sinks, &mut diagnostics));
        // In the order of the file, then those of rule files.
        diagnostics.0.sort_by(|a, b| (a.file != file, &a.file, a.line, a.column).cmp(&(b.file != file, &b.file, b.line, b.column)));
        if diagnostics.has_errors() {
            return Err(diagnostics);
        }
        let (Some(settings), Some(alerts)) = (settings, alerts) else { return Err(diagnostics) };
        correlation.set_budget(settings.memory_bytes, settings.shards);
        Ok(Self {
            hash: hash(text, &rules),
            settings,
            sources,
            enrichers,
            sinks,
            quarantine: Quarantine::new(rules.rules.len()),
            rules,
            treatments: treated.treatments,
            correlation,
            silences,
            source_health,
            alerts,
            warnings: diagnostics,
            written: root,
        })
    }
}

fn hash(text: &str, rules: &Rules) -> u64 {
    let ids: Vec<u8> = rules.rules.iter().flat_map(|rule| rule.id.bytes().chain([0])).collect();
    u64::from(crc32c::crc32c(text.as_bytes())) << 32 | u64::from(crc32c::crc32c(&ids))
}

/// Columns inside a value of one line to columns of the file.
fn in_file(mut mistakes: Diagnostics, place: &Section) -> Diagnostics {
    if let Content::Scalar { text, plain } = &place.node().content
        && !text.contains('\n')
    {
        let before = place.node().column - 1 + usize::from(!plain);
        mistakes.0.iter_mut().for_each(|mistake| mistake.column += before);
    }
    mistakes
}

fn unknown_name(place: &Section, what: &str, name: &str, names: &[&str]) -> Diagnostic {
    let near = nearest(name, names.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
    place.error(format!("there is no {what} `{name}`")).help(format!("{near}one of: {}", names.join(", ")))
}

impl Plan {
    /// The line of the source with this index; behind the sources stand those of our own alerts.
    pub fn line(&self, index: usize) -> Option<&Line> {
        let alerts = || self.alerts.get(index.checked_sub(self.sources.len())?).map(|alerts| &alerts.line);
        self.sources.get(index).map(|source| &source.line).or_else(alerts)
    }

    /// Who our own alerts come from, by the name of their source.
    pub fn alerts_sender(&self, source: &str) -> Option<Arc<Sender>> {
        let alerts = self.alerts.iter().find(|alerts| *alerts.sender.source == *source);
        alerts.map(|alerts| alerts.sender.clone())
    }

    /// The index of a source by its name in the journal.
    pub fn source_index(&self, name: &str) -> Option<usize> {
        let alerts = || self.alerts_sender(name).map(|sender| usize::from(sender.source_index));
        self.sources.iter().position(|source| *source.name == *name).or_else(alerts)
    }

    /// The highest level of some rules.
    pub fn level(&self, rules: impl Iterator<Item = u32>) -> Option<Level> {
        rules.filter_map(|rule| self.rules.rules.get(rule as usize)).map(|rule| rule.level).max()
    }
}
