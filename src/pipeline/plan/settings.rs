//! Settings of the process: the keys at the top of the configuration that are no components.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::correlation::CorrelationConfig;
use super::dead_letters::{self, DeadLettersConfig};
use super::journal::{JournalConfig, JournalPlan};
use super::source_health::SourceHealthConfig;
use super::treatment::AlertsConfig;
use crate::budget;
use crate::config::{ByteSize, Interval, Section};
use crate::deliver::dead_letter::Limits;
use crate::detect::preparation::Values;
use crate::error::Diagnostics;
use crate::net::listen::{Address, Transport};
use crate::sink::Sink;

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

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::pipeline) struct Top {
    /// Where dead letters and the journal are kept.
    #[serde(default = "default_data_dir")]
    pub(super) data_dir: PathBuf,
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
    pub(super) rules: Vec<PathBuf>,
    /// Values of placeholders (`%name%` under `expand`) in rules.
    #[serde(default, rename = "placeholders")]
    #[schemars(with = "BTreeMap<String, Values>")]
    _placeholders: IgnoredAny,
    /// pySigma processing pipelines that change the rules.
    #[serde(default)]
    pub(super) pipelines: Vec<PathBuf>,
    /// Whose hits make no alert, and whose make one for many.
    #[serde(default)]
    pub(super) alerts: AlertsConfig,
    /// What correlations may hold, and how long they wait.
    pub(super) correlation: Option<CorrelationConfig>,
    /// Built-in alerts about senders: silent, less than usual, wrong clock, unreadable.
    #[serde(default)]
    pub(super) source_health: SourceHealthConfig,
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

pub(super) fn default_data_dir() -> PathBuf {
    "./data".into()
}

fn default_drain_timeout() -> Interval {
    Interval(std::time::Duration::from_secs(30))
}

pub(super) fn read(root: &Section, top: Top, diagnostics: &mut Diagnostics) -> Option<Settings> {
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
