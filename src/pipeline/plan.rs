//! The configuration, compiled: what every decoder has to fill, which rules run where, what goes to whom.
//!
//! Reading opens nothing but the files that the configuration names (rules, tables), so `validate` and the tests
//! run exactly what `run` runs. All mistakes are named at once. A plan is immutable and shared by all shards.

pub(super) mod additions;
mod alerts;
mod correlation;
pub(super) mod dead_letters;
mod journal;
mod quarantine;
mod source_health;
mod treatment;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use additions::EnricherPlan;
pub use alerts::{AlertLine, CORRELATION_SOURCE, HEALTH_SOURCE};
pub use correlation::CorrelationPlan;
pub use journal::{BackfillFrom, DiskPlan, JournalPlan, WhenFull};
pub use quarantine::Quarantine;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
pub use source_health::SourceHealthPlan;

use crate::budget;
use crate::config::{ByteSize, Content, Interval, Node, Section};
use crate::decode::{Compiled, DECODERS, DecoderKind, ENVELOPE_FIELDS, LogSource, Options, Schema};
use crate::deliver::dead_letter::Limits;
use crate::detect::correlate::{Correlations, Feeds, Form, Wanted};
use crate::detect::preparation::{Preparation, Values};
use crate::detect::sigma::correlation::Linked;
use crate::detect::sigma::{self, Level, SigmaRule};
use crate::detect::treatment::Treatment;
use crate::detect::{BUILTIN, Detector, Rules, Vocabulary};
use crate::encode::alert::MATCHED_FIELD;
use crate::encode::body::Context;
use crate::enrich::Folders;
use crate::error::{Diagnostic, Diagnostics, nearest};
use crate::event::{Fields, OriginField, Sender, SlotId};
use crate::frame::{self, FRAMERS, FramerKind};
use crate::limits::{DESTINATIONS_MAX, FRAME_BYTES_MAX, FRAME_BYTES_MAX_RANGE, SLOTS_MAX};
use crate::net::listen::{Address, Transport};
use crate::pipeline::silence::{self, SilencePlan, Silencer};
use crate::route::{Route, Router};
use crate::sink::{SINKS, Sink};
use crate::source::{SOURCES, Source};
use crate::source_health as health;
use crate::transform::{self, Transform, Transforms};
use crate::unwrap::{Layer, Layers};
use crate::vrl::Condition;

use additions::Additions;
use correlation::{Collected, CorrelationConfig};
use dead_letters::DeadLettersConfig;
use journal::JournalConfig;
use source_health::SourceHealthConfig;
use treatment::AlertsConfig;

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

/// Settings of the process.
pub struct Settings {
    /// Where dead letters (and the journal) are.
    pub data_dir: PathBuf,
    /// Budget for event bytes.
    pub memory_bytes: usize,
    /// What keeps events until they are delivered.
    pub journal: JournalPlan,
    /// How much is kept of what a destination refuses.
    pub dead_letters: Limits,
    /// The bucket that they are shipped to.
    pub dead_letters_to: Option<Arc<dyn Sink>>,
    /// Number of shards; by default one for each CPU that this process may use.
    pub shards: usize,
    /// How long a stop waits for destinations.
    pub drain_timeout: Interval,
    /// Address of the admin API; loopback.
    pub admin: Option<SocketAddr>,
    /// Whether the CPU time of each stage is measured.
    pub profile: bool,
    /// How much of a shard's time one rule may take; `None` for all of it.
    pub rule_budget_percent: Option<u64>,
}

/// A source and its line.
pub struct SourcePlan {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Its `type`.
    pub kind: &'static str,
    /// The source.
    pub source: Arc<dyn Source>,
    /// Envelopes that are taken off its messages.
    pub unwrap: Layers,
    /// How its bytes become frames.
    pub framer: &'static dyn FramerKind,
    /// Whether the configuration names the framer; what a request says itself then does not count.
    pub framer_is_configured: bool,
    /// Longest frame.
    pub frame_bytes_max: usize,
    /// When its sender is told that an event has arrived.
    pub acknowledge: Acknowledge,
    /// Whether its senders are judged.
    pub has_health: bool,
    /// What happens to its events.
    pub line: Line,
}

/// When a sender is told that an event has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Acknowledge {
    /// When every destination has it.
    Delivery,
    /// When the journal has it.
    #[default]
    Receipt,
}

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
    fn find(fields: &Fields) -> Self {
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

/// A destination. Clones are the same.
#[derive(Clone)]
pub struct SinkPlan {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Its `type`.
    pub kind: &'static str,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// Whether no events go to it, only alerts.
    pub takes_only_alerts: bool,
    /// What happens when the journal is full and this one has not taken something.
    pub when_full: WhenFull,
    /// Where it begins when it is new to the data folder; with what comes from then on if not said.
    pub backfill_from: Option<BackfillFrom>,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Top {
    /// Where dead letters and the journal are kept.
    #[serde(default = "default_data_dir")]
    data_dir: PathBuf,
    /// The journal.
    #[serde(default)]
    journal: JournalConfig,
    /// What destinations refuse.
    #[serde(default)]
    dead_letters: DeadLettersConfig,
    /// Number of shards.
    shards: Option<usize>,
    /// Budget for event bytes.
    memory: Option<ByteSize>,
    /// Rule files and folders; `builtin` is the pack that comes with the program.
    #[serde(default)]
    rules: Vec<PathBuf>,
    /// Values of placeholders (`%name%` under `expand`) in rules.
    #[serde(default, rename = "placeholders")]
    #[schemars(with = "BTreeMap<String, Values>")]
    _placeholders: IgnoredAny,
    /// pySigma processing pipelines that change the rules.
    #[serde(default)]
    pipelines: Vec<PathBuf>,
    /// Whose hits make no alert, and whose make one for many.
    #[serde(default)]
    alerts: AlertsConfig,
    /// What correlations may hold, and how long they wait.
    correlation: Option<CorrelationConfig>,
    /// Built-in alerts about senders: silent, less than usual, wrong clock, unreadable.
    #[serde(default)]
    source_health: SourceHealthConfig,
    /// How long a stop waits for destinations.
    #[serde(default = "default_drain_timeout")]
    drain_timeout: Interval,
    /// Address of health, metrics and API; loopback only.
    admin: Option<String>,
    /// Whether the CPU time of each stage is measured.
    #[serde(default)]
    profile: bool,
    /// A rule that takes more than this percentage of a shard's time for half a minute is stopped until the next reload, and
    /// an error is logged; 0 is never.
    #[serde(default = "default_rule_budget_percent")]
    rule_budget_percent: u64,
    // Read on their own; they are here to be known as keys.
    #[serde(default, rename = "sources")]
    #[schemars(skip)]
    _sources: IgnoredAny,
    #[serde(default, rename = "sinks")]
    #[schemars(skip)]
    _sinks: IgnoredAny,
    #[serde(default, rename = "routes")]
    #[schemars(skip)]
    _routes: IgnoredAny,
    #[serde(default, rename = "enrichments")]
    #[schemars(skip)]
    _enrichments: IgnoredAny,
    #[serde(default, rename = "transforms")]
    #[schemars(skip)]
    _transforms: IgnoredAny,
}

fn default_rule_budget_percent() -> u64 {
    20
}

fn default_data_dir() -> PathBuf {
    "./data".into()
}

fn default_drain_timeout() -> Interval {
    Interval(std::time::Duration::from_secs(30))
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceCommon {
    /// The format of its frames.
    decoder: Option<String>,
    /// How its bytes become frames.
    framing: Option<String>,
    /// Envelopes that are taken off whole messages (request bodies, records, datagrams).
    unwrap: Option<Vec<Layer>>,
    /// Longest frame; longer ones are cut and counted.
    frame_bytes_max: Option<ByteSize>,
    /// Offset from UTC of times that do not say theirs, such as `+02:00`.
    utc_offset: Option<String>,
    /// Columns of `aws_vpc_flow`: the names of its fields in their order, as in a header line.
    vpc_flow_format: Option<String>,
    /// When the sender is told that an event has arrived.
    #[serde(default)]
    acknowledge: Acknowledge,
    /// How much later than their time its events may come and still count for correlations.
    lateness: Option<Interval>,
    /// Whether there are alerts about its senders.
    #[serde(default = "default_source_health")]
    source_health: bool,
}

fn default_source_health() -> bool {
    true
}

const SOURCE_KEYS: &[&str] =
    &["decoder", "framing", "unwrap", "frame_bytes_max", "utc_offset", "vpc_flow_format", "acknowledge", "lateness", "source_health"];

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkCommon {
    /// What happens when the journal is full and this destination has not taken something; otherwise what `journal.full`
    /// says.
    when_journal_full: Option<WhenFull>,
    /// Where a destination begins that is new to the data folder: `beginning`, `6h` ago, or a time; otherwise with what comes from
    /// now on.
    #[schemars(with = "Option<String>")]
    backfill_from: Option<BackfillFrom>,
}

const SINK_KEYS: &[&str] = &["when_journal_full", "backfill_from"];

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteConfig {
    /// VRL condition; without it the route takes everything.
    when: Option<String>,
    /// Names of sinks.
    to: Vec<String>,
}

/// What a replay changes of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Only this sink.
    pub sink: Option<String>,
    /// Rule files and folders in the place of those that are named.
    pub rules: Option<Vec<PathBuf>>,
    /// Alerts say that they are of a replay.
    pub is_replay: bool,
    /// Sinks take everything and send nothing.
    pub sends_nothing: bool,
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
        let root = Section::parse(file, text)?;
        let mut diagnostics = Diagnostics::new();
        let mut top = diagnostics.absorb(root.read::<Top>());
        let mut sinks = read_sinks(&root, &mut diagnostics);
        change_sinks(&root, changes, &mut sinks, &mut diagnostics);
        let (routes, base) = (read_routes(&root, &sinks, &mut diagnostics), file.parent().unwrap_or_else(|| Path::new(".")));
        let own_paths = |diagnostics: &mut _| rule_paths(&root, top.as_ref().map_or(&[], |top| &top.rules), base, diagnostics);
        let paths = changes.rules.clone().unwrap_or_else(|| own_paths(&mut diagnostics));
        let data = top.as_ref().map_or_else(default_data_dir, |top| top.data_dir.clone());
        let enrichers = additions::read(&root, Folders { base, data: &data }, &mut diagnostics);
        let transforms = additions::read_transforms(&root, &mut diagnostics);
        let preparation = preparation(&root, top.as_ref().map_or(&[], |top| &top.pipelines), base, &mut diagnostics);
        let (rules, mut found) = Rules::load(&paths, &preparation);
        diagnostics.0.append(&mut found.0);
        let alerts = top.as_mut().map(|top| std::mem::take(&mut top.alerts)).unwrap_or_default();
        let treated = treatment::treat(alerts, &rules, &root, &mut diagnostics);
        let silences = SilencePlan::new(&data, &mut diagnostics);
        let config = top.as_mut().and_then(|top| top.correlation.take());
        let mut compiler = Compiler {
            sinks: &sinks,
            routes: &routes,
            silences: &silences,
            rules: &rules.rules,
            linked: &treated.linked,
            correlations: &treated.correlations,
            collected: Collected::new(config, &treated.linked, &root, &mut diagnostics),
            rule_info: rule_info(&rules, &treated.linked, changes.is_replay),
            rule_notes: rule_notes(&rules, &treated.linked),
            root: &root,
            transforms: &transforms,
            enrichers: &enrichers,
            unknown_keys: additions::keys(&enrichers),
            canonical: Vec::new(),
            diagnostics,
        };
        let sources = read_sources(&root, &mut compiler);
        let (mut correlation, grouped) = correlation::plan(&mut compiler, &treated);
        let alerts = alerts::lines(&mut compiler, grouped, sources.len());
        let Compiler { unknown_keys, canonical, collected, mut diagnostics, .. } = compiler;
        treated.warn_of_keys(&collected, &canonical, &root, &mut diagnostics);
        silences.warn_of_fields(&canonical, &mut diagnostics);
        additions::warn_of(&unknown_keys, &enrichers, &canonical, &root, &mut diagnostics);
        check_listeners(&root, &sources, &mut diagnostics);
        let health = top.as_mut().map(|top| std::mem::take(&mut top.source_health)).unwrap_or_default();
        let source_health = health.plan(&sources, &root, &mut diagnostics);
        let settings = top.and_then(|top| settings(&root, top, &mut diagnostics));
        settings.iter().for_each(|settings| check_sinks(&root, &settings.journal, &mut sinks, &mut diagnostics));
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

fn settings(root: &Section, top: Top, diagnostics: &mut Diagnostics) -> Option<Settings> {
    let available = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let shards = top.shards.unwrap_or(available).max(1);
    let journal = top.journal.plan(root, shards, diagnostics);
    let mut dead_letters = top.dead_letters.limits(root, diagnostics);
    let dead_letters_to = dead_letters::shipped_to(root, diagnostics);
    if let Some(bucket) = &dead_letters_to {
        // A file is an object.
        dead_letters.file_bytes = dead_letters.file_bytes.min(bucket.batching().bytes_max as u64);
    }
    let admin = match top.admin.as_deref().map(str::parse::<Address>) {
        None => None,
        Some(Ok(Address::Ip { socket, transport: Transport::Any | Transport::Tcp })) if socket.ip().to_canonical().is_loopback() => {
            Some(socket)
        }
        Some(Ok(Address::Ip { transport: Transport::Udp, .. } | Address::Unix { .. })) => {
            diagnostics.push(root.child("admin")?.error("the admin API speaks HTTP by TCP").help("127.0.0.1:8686"));
            None
        }
        Some(Ok(_)) => {
            let place = root.child("admin")?;
            diagnostics.push(place.error("the admin API has no authentication; it listens on loopback only").help("127.0.0.1:8686"));
            None
        }
        Some(Err(message)) => {
            diagnostics.push(root.child("admin")?.error(message));
            None
        }
    };
    if top.rule_budget_percent > 99 {
        let place = root.child("rule_budget_percent").unwrap_or_else(|| root.clone());
        diagnostics.push(place.error(format!("expected 0 (never) to 99, found {}", top.rule_budget_percent)));
    }
    Some(Settings {
        data_dir: top.data_dir,
        memory_bytes: top.memory.map_or_else(budget::default_limit_bytes, |size| size.0),
        shards,
        journal,
        dead_letters,
        dead_letters_to,
        drain_timeout: top.drain_timeout,
        admin,
        profile: top.profile,
        rule_budget_percent: Some(top.rule_budget_percent).filter(|percent| *percent > 0),
    })
}

/// What is put into the rules.
fn preparation(root: &Section, pipelines: &[PathBuf], base: &Path, diagnostics: &mut Diagnostics) -> Preparation {
    let mut preparation = Preparation::default();
    if let Some(section) = root.child("placeholders") {
        preparation.add_placeholders(&section, diagnostics);
    }
    let files: Vec<PathBuf> = pipelines.iter().map(|file| base.join(file)).collect();
    preparation.read_pipelines(&files, diagnostics);
    preparation
}

/// Where the rules are; a path that leads nowhere is a mistake of the configuration.
fn rule_paths(root: &Section, named: &[PathBuf], base: &Path, diagnostics: &mut Diagnostics) -> Vec<PathBuf> {
    let places = root.child("rules").map(|section| section.items()).unwrap_or_default();
    let mut paths = Vec::new();
    for (path, place) in named.iter().zip(places) {
        // The pack is a word, not a path beside the configuration.
        let path = if path.as_os_str() == BUILTIN { path.clone() } else { base.join(path) };
        if path.as_os_str() == BUILTIN || path.exists() {
            paths.push(path);
        } else {
            let mistake = place.error(format!("there is no file or folder `{}`", path.display()));
            diagnostics.push(mistake.help("a rule file, a folder of them, or `builtin` for the rules that come with hydrant"));
        }
    }
    paths
}

/// Leaves the sinks of a replay.
fn change_sinks(root: &Section, changes: &Changes, sinks: &mut Vec<SinkPlan>, diagnostics: &mut Diagnostics) {
    if let Some(name) = &changes.sink {
        let names: Vec<String> = sinks.iter().map(|sink| sink.name.to_string()).collect();
        sinks.retain(|sink| *sink.name == **name);
        if sinks.is_empty() {
            let place = root.child("sinks").unwrap_or_else(|| root.clone());
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            diagnostics.push(unknown_name(&place, "sink", name, &names));
        }
    }
    let nowhere = SINKS.iter().find(|kind| changes.sends_nothing && kind.name() == "blackhole");
    let Some((nowhere, section)) = nowhere.zip(diagnostics.absorb(Section::parse(root.file(), "{}"))) else { return };
    if let Some(nowhere) = diagnostics.absorb(nowhere.read(&section)) {
        let nowhere: Arc<dyn Sink> = nowhere.into();
        for sink in sinks {
            (sink.sink, sink.kind) = (nowhere.clone(), "blackhole");
        }
    }
}

/// What sinks say of the journal has to fit it.
fn check_sinks(root: &Section, journal: &JournalPlan, sinks: &mut [SinkPlan], diagnostics: &mut Diagnostics) {
    set_when_full(root, journal, sinks, diagnostics);
    check_backfill(root, journal, sinks, diagnostics);
}

/// Sinks that do not say what happens when the journal is full have what it says.
fn set_when_full(root: &Section, journal: &JournalPlan, sinks: &mut [SinkPlan], diagnostics: &mut Diagnostics) {
    for sink in sinks {
        let place = root.child("sinks").and_then(|sinks| sinks.child(&sink.name)?.child("when_journal_full"));
        match (journal, place) {
            (JournalPlan::Disk(disk), None) => sink.when_full = disk.full,
            (JournalPlan::Disk(_), Some(_)) | (JournalPlan::Memory, None) => {}
            (JournalPlan::Memory, Some(place)) => diagnostics.push(place.error("only a journal of `type: disk` becomes full")),
        }
    }
}

/// What is to be back-filled needs a past.
fn check_backfill(root: &Section, journal: &JournalPlan, sinks: &[SinkPlan], diagnostics: &mut Diagnostics) {
    for sink in sinks.iter().filter(|sink| sink.backfill_from.is_some()) {
        let Some(place) = root.child("sinks").and_then(|sinks| sinks.child(&sink.name)?.child("backfill_from")) else { continue };
        match journal {
            JournalPlan::Memory => {
                let help = "journal: { type: disk, retain: 24h }";
                diagnostics.push(place.error("a journal of `type: memory` has no past to begin in").help(help));
            }
            JournalPlan::Disk(_) if sink.kind == "file" => {
                let help = "stop Hydrant once and use `hydrant replay --sink`";
                diagnostics.push(place.error("a file cannot be back-filled while it is written").help(help));
            }
            JournalPlan::Disk(disk) if disk.retain.is_zero() => {
                let message = "without `journal: { retain }` the past is only what other destinations still lack";
                diagnostics.push(place.error(message).warning().help("journal: { retain: 24h }"));
            }
            JournalPlan::Disk(_) => {}
        }
    }
}

fn read_sinks(root: &Section, diagnostics: &mut Diagnostics) -> Vec<SinkPlan> {
    let Some(section) = root.child("sinks").filter(|section| !section.node().entries().is_empty()) else {
        diagnostics.push(root.error("there are no `sinks`").help("sinks: { out: { type: stdout } }"));
        return Vec::new();
    };
    let mut sinks = Vec::new();
    for (name, section) in section.children() {
        let Some(kind) = diagnostics.absorb(section.component(SINKS, |kind| kind.name())) else { continue };
        let mut common_keys = vec!["type"];
        common_keys.extend_from_slice(SINK_KEYS);
        let sink = diagnostics.absorb(kind.read(&section.without(&common_keys)));
        let own: Vec<&str> =
            section.node().entries().iter().filter_map(|(key, _)| key.text()).filter(|key| !SINK_KEYS.contains(key)).collect();
        let common = diagnostics.absorb(section.without(&own).read::<SinkCommon>());
        if let (Some(sink), Some(common)) = (sink, common) {
            let when_full = common.when_journal_full.unwrap_or_default();
            let backfill_from = common.backfill_from;
            let (name, kind, takes_only_alerts) = (name.into(), kind.name(), sink.takes_only_alerts());
            sinks.push(SinkPlan { name, kind, sink: sink.into(), takes_only_alerts, when_full, backfill_from });
        }
    }
    if sinks.len() > DESTINATIONS_MAX {
        diagnostics.push(section.error(format!("{} sinks; at most {DESTINATIONS_MAX} are supported", sinks.len())));
    }
    sinks
}

fn read_routes(root: &Section, sinks: &[SinkPlan], diagnostics: &mut Diagnostics) -> Vec<Route> {
    let everywhere = (0..sinks.len()).fold(0u64, |bits, index| bits | 1 << (index % DESTINATIONS_MAX));
    let Some(section) = root.child("routes") else { return vec![Route { when: None, to: everywhere }] };
    let declared: Vec<String> = root.child("sinks").map(|s| s.children().into_iter().map(|(name, _)| name).collect()).unwrap_or_default();
    let mut routes = Vec::new();
    if section.items().is_empty() {
        // Nothing would be delivered, which nobody means.
        let message = format!("expected a list of routes, found {}", section.node().describe());
        diagnostics.push(section.error(message).help("routes: [ { to: [NAME] } ]; without `routes` everything goes to every sink"));
    }
    for section in section.items() {
        let Some(config) = diagnostics.absorb(section.read::<RouteConfig>()) else { continue };
        let mut to = 0;
        for name in &config.to {
            match sinks.iter().position(|sink| *sink.name == **name) {
                Some(index) => to |= 1 << (index % DESTINATIONS_MAX),
                // A sink with mistakes of its own is reported there.
                None if declared.contains(name) => {}
                None => {
                    let place = section.child("to").unwrap_or_else(|| section.clone());
                    let mut diagnostic = place.error(format!("there is no sink `{name}`"));
                    diagnostic.help = nearest(name, declared.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
                    diagnostics.push(diagnostic);
                }
            }
        }
        let when = config.when.as_deref().and_then(|source| {
            let place = section.child("when")?;
            let condition = Condition::compile(source, place.file(), place.node().line, place.path());
            diagnostics.absorb(condition.map_err(|mistakes| in_file(mistakes, &place)))
        });
        routes.push(Route { when, to });
    }
    routes
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

/// What lines are compiled from.
struct Compiler<'a> {
    sinks: &'a [SinkPlan],
    routes: &'a [Route],
    silences: &'a SilencePlan,
    rules: &'a [SigmaRule],
    linked: &'a [Linked],
    correlations: &'a Correlations,
    collected: Collected,
    rule_info: Arc<[Box<str>]>,
    rule_notes: Arc<[Box<str>]>,
    root: &'a Section,
    transforms: &'a [Transform],
    enrichers: &'a [EnricherPlan],
    /// Keys of enrichers that no source so far can have, by index.
    unknown_keys: Vec<(usize, String)>,
    /// Canonical names of the sources so far.
    canonical: Vec<String>,
    diagnostics: Diagnostics,
}

/// One JSON object per rule, for alerts, then one per correlation, deduplications among them, and per rule of source health.
/// The author stays with the rule: its licence may ask for that.
fn rule_info(rules: &Rules, linked: &[Linked], is_replay: bool) -> Arc<[Box<str>]> {
    let info = |rule: &SigmaRule| {
        let object = json!({
            "id": rule.id, "title": rule.title, "level": rule.level.as_str(), "tags": rule.tags, "author": rule.author,
            "references": rule.references, "hash": rule.hash,
        });
        object.to_string().into_boxed_str()
    };
    let told = |info: Box<str>| match info.strip_suffix('}').filter(|_| is_replay) {
        Some(open) => format!("{open},\"replay\":true}}").into_boxed_str(),
        None => info,
    };
    rules.rules.iter().map(info).chain(linked.iter().map(Form::rule)).chain(health::rules()).map(told).collect()
}

/// What findings say of rules beside that, by the same index. Of rules of source health there is nothing more to say.
fn rule_notes(rules: &Rules, linked: &[Linked]) -> Arc<[Box<str>]> {
    let of_rule = |rule: &SigmaRule| {
        let text = |key: &str| rule.custom.entry(key).and_then(Node::text);
        let sigma::LogSource { category, product, service } = &rule.logsource;
        let logsource: Vec<&str> = [product, category, service].into_iter().flatten().map(String::as_str).collect();
        let notes = json!({
            "description": rule.description, "references": rule.references, "falsepositives": rule.falsepositives,
            "version": text("modified").or_else(|| text("date")).unwrap_or_default(), "category": logsource.join("/"),
        });
        notes.to_string().into_boxed_str()
    };
    let of_correlation = |linked: &Linked| {
        let correlation = &linked.correlation;
        let notes = json!({
            "description": correlation.description, "references": correlation.references,
            "falsepositives": correlation.falsepositives, "category": correlation.kind.as_str(),
        });
        notes.to_string().into_boxed_str()
    };
    let of_linked = |linked: &Linked| {
        let deduplicated = linked.deduplicates().and_then(|rule| rules.rules.get(rule as usize));
        deduplicated.map_or_else(|| of_correlation(linked), of_rule)
    };
    rules.rules.iter().map(of_rule).chain(linked.iter().map(of_linked)).collect()
}

fn read_sources(root: &Section, compiler: &mut Compiler<'_>) -> Vec<SourcePlan> {
    let Some(section) = root.child("sources").filter(|section| !section.node().entries().is_empty()) else {
        compiler
            .diagnostics
            .push(root.error("there are no `sources`").help("sources: { firewalls: { type: syslog, listen: \"0.0.0.0:5514\" } }"));
        return Vec::new();
    };
    let mut sources = Vec::new();
    for (name, section) in section.children() {
        if name.starts_with('%') {
            compiler.diagnostics.push(section.error("the name of a source does not begin with `%`"));
        }
        let Some(kind) = compiler.diagnostics.absorb(section.component(SOURCES, |kind| kind.name())) else { continue };
        let mut component_keys = vec!["type"];
        component_keys.extend_from_slice(SOURCE_KEYS);
        let source = compiler.diagnostics.absorb(kind.read(&section.without(&component_keys)));
        let own: Vec<&str> =
            section.node().entries().iter().filter_map(|(key, _)| key.text()).filter(|key| !SOURCE_KEYS.contains(key)).collect();
        let common = compiler.diagnostics.absorb(section.without(&own).read::<SourceCommon>());
        let (Some(source), Some(common)) = (source, common) else { continue };
        sources.extend(source_plan(name, kind.name(), &section, source, &common, compiler));
    }
    sources
}

fn source_plan(
    name: String,
    kind: &'static str,
    section: &Section,
    source: Arc<dyn Source>,
    common: &SourceCommon,
    compiler: &mut Compiler<'_>,
) -> Option<SourcePlan> {
    let place = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
    let framing = common.framing.as_deref().unwrap_or_else(|| source.framing());
    let framer = frame::find(framing).or_else(|| {
        let names: Vec<&str> = FRAMERS.iter().map(|kind| kind.name()).collect();
        compiler.diagnostics.push(unknown_name(&place("framing"), "framing", framing, &names));
        None
    });
    let offset_ms = match common.utc_offset.as_deref().map(utc_offset_ms) {
        None => 0,
        Some(Some(offset)) => offset,
        Some(None) => {
            compiler.diagnostics.push(place("utc_offset").error("expected an offset such as `+02:00`"));
            0
        }
    };
    let frame_bytes_max = common.frame_bytes_max.map_or(FRAME_BYTES_MAX, |size| size.0);
    if !FRAME_BYTES_MAX_RANGE.contains(&frame_bytes_max) {
        let [least, most] = [FRAME_BYTES_MAX_RANGE.start(), FRAME_BYTES_MAX_RANGE.end()].map(|bytes| ByteSize(*bytes));
        compiler
            .diagnostics
            .push(place("frame_bytes_max").error(format!("expected {least} to {most}, found {}", ByteSize(frame_bytes_max))));
    }
    let decoder = common.decoder.as_deref().unwrap_or_else(|| source.decoder());
    let kinds: Vec<&'static dyn DecoderKind> = match decoder {
        "auto" => DECODERS.to_vec(),
        name => DECODERS.iter().filter(|kind| kind.name() == name).copied().collect(),
    };
    if kinds.is_empty() {
        let names: Vec<&str> = DECODERS.iter().map(|kind| kind.name()).chain(["auto"]).collect();
        compiler.diagnostics.push(unknown_name(&place("decoder"), "decoder", decoder, &names));
    }
    compiler.collected.begin_source(&name, common.lateness, source.delay(), &place("lateness"), &mut compiler.diagnostics);
    let options = Options { vpc_flow_format: common.vpc_flow_format.clone() };
    if let Some(mistake) = mistake(&options, &kinds) {
        compiler.diagnostics.push(place("vpc_flow_format").error(mistake));
        return None;
    }
    let mut line = compiler.line(section, &name, &kinds, &Dialect { offset_ms, options });
    line.iter_mut().for_each(|line| line.is_auto = decoder == "auto");
    let unwrap = match &common.unwrap {
        Some(layers) => layers.iter().copied().collect(),
        None => source.unwrap().iter().filter_map(|name| Layer::find(name)).collect(),
    };
    Some(SourcePlan {
        name: name.into(),
        kind,
        source,
        unwrap,
        framer: framer?,
        framer_is_configured: common.framing.is_some(),
        frame_bytes_max,
        acknowledge: common.acknowledge,
        has_health: common.source_health,
        line: line?,
    })
}

/// What a source says about the format of its frames.
struct Dialect {
    offset_ms: i64,
    options: Options,
}

/// What is wrong with the options of a source, for its decoders.
fn mistake(options: &Options, kinds: &[&'static dyn DecoderKind]) -> Option<String> {
    if options.vpc_flow_format.is_some() && !kinds.iter().any(|kind| kind.name() == "aws_vpc_flow") {
        return Some("only the decoder `aws_vpc_flow` reads this".to_owned());
    }
    kinds.iter().find_map(|kind| kind.check(options).err())
}

fn unknown_name(place: &Section, what: &str, name: &str, names: &[&str]) -> Diagnostic {
    let near = nearest(name, names.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
    place.error(format!("there is no {what} `{name}`")).help(format!("{near}one of: {}", names.join(", ")))
}

fn utc_offset_ms(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=14).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 60 + minutes) * 60_000)
}

impl<'a> Compiler<'a> {
    /// Compiles what happens to the events of one source.
    fn line(&mut self, section: &Section, source: &str, kinds: &[&'static dyn DecoderKind], dialect: &Dialect) -> Option<Line> {
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
        let enrichers = additions.wanted(&mut fields);
        let mut decoders = Vec::new();
        for ((kind, words), (detector, feeds)) in kinds.iter().zip(&words).zip(detectors) {
            let compiled = self.diagnostics.absorb(Compiled::new(*kind, &words.schema, &mut fields, dialect.offset_ms))?;
            let compiled = compiled.with_options(dialect.options.clone());
            decoders.push((compiled, (detector, feeds), words.canonical()));
        }
        if fields.width() > SLOTS_MAX {
            self.diagnostics
                .push(section.error(format!("rules and sinks want {} fields; at most {SLOTS_MAX} are supported", fields.width())));
        }
        self.canonical.extend(names);
        transforms.finish(&fields);
        let own = OwnSlots::find(&fields);
        let decoders = decoders.into_iter().map(|(compiled, (detector, feeds), canonical)| {
            let decoder = compiled.kind().name();
            let (rules, notes, added) = (self.rule_info.clone(), self.rule_notes.clone(), added.clone());
            let source = source.to_owned();
            let context = Context { fields: fields.clone(), canonical, added, rules, notes, source, decoder, details: None };
            DecoderLine { compiled, detector, feeds, context }
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

/// What a decoder calls its fields.
pub(super) struct Words {
    pub(super) schema: Schema,
    natives: Option<Vec<&'static str>>,
    /// What transforms and enrichment may add.
    added: Vec<String>,
}

impl Words {
    pub(super) fn new(kind: &'static dyn DecoderKind, diagnostics: &mut Diagnostics) -> Option<Self> {
        let natives = kind.natives();
        let file = PathBuf::from(format!("rules/schema/{}.yaml", kind.name()));
        let schema = diagnostics.absorb(Schema::parse(&file, kind.schema(), natives.as_deref()))?;
        Some(Self { schema, natives, added: Vec::new() })
    }

    /// Whether events can have a canonical field before anything is added.
    fn can_fill(&self, name: &str) -> bool {
        self.natives.is_none() || self.schema.ecs.contains_key(name) || ENVELOPE_FIELDS.contains(&name)
    }

    pub(super) fn canonical(&self) -> Vec<String> {
        self.schema.ecs.keys().cloned().chain(ENVELOPE_FIELDS.iter().map(|name| (*name).to_owned())).collect()
    }
}

impl Vocabulary for Words {
    fn carries(&self, rule: &sigma::LogSource) -> bool {
        let fits = |asked: &Option<String>, carried: &Option<String>| asked.is_none() || asked == carried;
        let carries = |carried: &LogSource| {
            fits(&rule.product, &carried.product) && fits(&rule.category, &carried.category) && fits(&rule.service, &carried.service)
        };
        self.schema.logsources.iter().any(carries)
    }

    fn resolve(&self, field: &str) -> Option<String> {
        if let Some(name) = self.schema.sigma.get(field) {
            return Some(name.clone());
        }
        let is_added = self.added.iter().any(|name| name == field);
        if is_added || self.schema.ecs.contains_key(field) || ENVELOPE_FIELDS.contains(&field) {
            return Some(field.to_owned());
        }
        let is_native = self.natives.as_ref().is_none_or(|natives| natives.contains(&field));
        is_native.then(|| format!("%native.{field}"))
    }

    fn names(&self) -> Vec<&str> {
        let natives = self.natives.iter().flatten().copied();
        let canonical = self.schema.ecs.keys().chain(&self.added).map(String::as_str);
        self.schema.sigma.keys().map(String::as_str).chain(canonical).chain(natives).collect()
    }
}

/// Two sources on one port.
fn check_listeners(root: &Section, sources: &[SourcePlan], diagnostics: &mut Diagnostics) {
    let mut seen: Vec<(&SourcePlan, Address)> = Vec::new();
    for source in sources {
        for address in source.source.listens_on() {
            if let Some((other, _)) = seen.iter().find(|(_, other)| collide(&address, other)) {
                let place = root.child("sources").and_then(|sources| sources.child(&source.name)).and_then(|source| source.child("listen"));
                let message = format!("source `{}` listens here already", other.name);
                diagnostics.push(place.unwrap_or_else(|| root.clone()).error(message));
            }
            seen.push((source, address));
        }
    }
}

fn collide(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Ip { socket: a, transport: s }, Address::Ip { socket: b, transport: t }) => {
            let is_any = |ip: IpAddr| ip.is_unspecified();
            let same_ip = a.ip() == b.ip() || is_any(a.ip()) || is_any(b.ip());
            let same_transport = *s == Transport::Any || *t == Transport::Any || s == t;
            a.port() == b.port() && a.port() != 0 && same_ip && same_transport
        }
        _ => a == b,
    }
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
