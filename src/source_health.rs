//! Source health: `what the ledger has seen of senders -> who fell silent, sends less, is off in time, cannot be read`.
//!
//! Looked at once an interval ([`Settings::interval`]), never an event. Each condition of a sender is an alert when it begins
//! and another one when it is over, and none in between. [`sender`] says when that is so, [`rule`] how it is written.
//!
//! Time is what Hydrant has watched: it stands still while Hydrant does not run, is starved, or holds senders back, since
//! nobody can be heard then. Senders without a name in the ledger are not judged; neither is one that is not known yet.
//!
//! `<data_dir>/ledger/source_health.json` keeps what was learned and what holds, once an hour, at the end, and with every
//! alert behind it: a process that is killed in between gives the same alert again, under the same id.

mod rule;
mod sender;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};
use crate::ledger::{SENDERS_MAX, SenderName, Sighting, Sightings, Store};
use crate::metrics::{self, Registry};

pub use rule::{Condition, DETAILS, RULE_IDS, rules};
use rule::{Subject, alert};
use sender::{HOUR_MS, Sender, Tick};

const FILE: &str = "source_health.json";

/// Senders are looked at so often in the time after which one is silent ...
const LOOKS: u32 = 15;

/// ... but not more often, since that is many senders, ...
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// ... and not less often, so that one sample a look is enough to judge a clock in a quarter of an hour.
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// A sender that was not heard for so long is forgotten by the next start.
const FORGOTTEN_AFTER_MS: i64 = 30 * 24 * HOUR_MS;

/// When something is to be told. 0 is never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Silence of a sender that usually pauses for less than half of that.
    pub silent_after: Duration,
    /// For so long a sender is only looked at.
    pub learning: Duration,
    /// Less than this percentage of what came in the same hour of each of the last seven days.
    pub volume_below_percent: u64,
    /// A clock that is further off.
    pub clock_skew: Duration,
    /// More events than this percentage that are no decoder's format.
    pub unreadable_above_percent: u64,
}

impl Settings {
    /// How often senders are looked at.
    pub fn interval(&self) -> Duration {
        if self.silent_after.is_zero() { INTERVAL_MAX } else { (self.silent_after / LOOKS).clamp(INTERVAL_MIN, INTERVAL_MAX) }
    }
}

/// A source whose senders are judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// Whether an address is a device. The senders of a cloud service come and go: they are judged as one.
    pub names_devices: bool,
    /// How much later than its time an event may come by design; `None` if it may be as late as it likes.
    pub delay: Option<Duration>,
}

/// What is known of all senders.
#[derive(Debug)]
pub struct SourceHealth {
    store: Store,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By source and name.
    senders: Senders,
    /// Alerts were made, and nobody has said that they are safe.
    is_owing: bool,
    /// When it was written last; ms.
    written_ms: i64,
}

type Senders = BTreeMap<String, BTreeMap<String, Sender>>;

/// When and how senders are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Since the last look.
    pub elapsed: Duration,
    /// By the clock; ms since 1970 UTC.
    pub now_ms: i64,
}

impl SourceHealth {
    /// Goes on with what is known below a data folder. What cannot be read is learned anew: events matter more.
    pub fn open(data_dir: &Path, now_ms: i64) -> Self {
        let store = Store::new(data_dir);
        let read: Option<Senders> = store.read_file(FILE).unwrap_or_else(|error| {
            tracing::error!(%error, file = %store.folder().join(FILE).display(), "source health cannot be read; it is learned anew");
            None
        });
        let mut senders = read.unwrap_or_default();
        senders.values_mut().for_each(|senders| senders.retain(|_, sender| now_ms - sender.heard_at_ms() <= FORGOTTEN_AFTER_MS));
        Self { store, state: Mutex::new(State { senders, ..State::default() }) }
    }

    /// Looks at all senders; returns alerts, one JSON object each, to be journaled and then said to be [`Self::given`].
    pub fn look(&self, seen: &Sightings, look: Look, (settings, watched): (&Settings, &[Watched]), registry: &Registry) -> Vec<Vec<u8>> {
        let mut state = self.state();
        let elapsed = if seen.is_held_back { Duration::ZERO } else { look.elapsed.min(2 * settings.interval()) };
        let mut alerts = Vec::new();
        for (name, senders) in &seen.sources {
            let Some(source) = watched.iter().find(|source| source.name == *name) else {
                state.senders.remove(name);
                count(name, &BTreeMap::new(), registry);
                continue;
            };
            let known = state.senders.entry(name.clone()).or_default();
            let tick = Tick { elapsed_ms: elapsed.as_millis() as u64, now_ms: look.now_ms, delay: source.delay };
            for (sender, change) in judge(known, &sightings(senders, source), tick, settings) {
                let subject = Subject { source: name, sender: &sender, at_ms: look.now_ms };
                let labels = [("rule_id", change.rule_id()), ("rule", change.title())];
                registry.cell(&metrics::RULE_HITS, &labels).add(1);
                alerts.push(alert(subject, &change));
            }
            count(name, known, registry);
        }
        state.is_owing |= !alerts.is_empty();
        alerts
    }

    /// The alerts of all looks so far are in the journal: they need not be made again.
    pub fn given(&self) {
        self.state().is_owing = false;
    }

    /// Writes down what is known if that was not done for an hour, or `now`. Not while alerts are on their way: a state that
    /// knows of them would never give them again.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn write(&self, now_ms: i64, now: bool) -> Result<(), Error> {
        let mut state = self.state();
        if state.is_owing || (!now && (now_ms - state.written_ms).abs() < HOUR_MS) {
            return Ok(());
        }
        self.store.write_file(FILE, &state.senders).map_err(|error| {
            Error::new(ErrorKind::Storage, "write source health", error.to_string()).with("folder", self.store.folder().display())
        })?;
        state.written_ms = now_ms;
        Ok(())
    }

    /// How every sender is: `sources`, by name; in each `senders`, by name.
    pub fn report(&self, settings: &Settings) -> Value {
        let state = self.state();
        let source = |senders: &BTreeMap<String, Sender>| -> BTreeMap<String, Value> {
            senders.iter().map(|(name, sender)| (name.clone(), sender.report(settings))).collect()
        };
        let sources: BTreeMap<&String, Value> =
            state.senders.iter().map(|(name, senders)| (name, json!({ "senders": source(senders) }))).collect();
        json!({ "sources": sources })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By name; together where an address says nothing.
fn sightings(senders: &HashMap<SenderName, Sighting>, source: &Watched) -> BTreeMap<String, Sighting> {
    let mut named: BTreeMap<String, Sighting> = BTreeMap::new();
    for (name, sighting) in senders {
        let name = if source.names_devices { *name } else { SenderName::Local };
        let all = named.entry(name.to_string()).or_default();
        all.received += sighting.received;
        all.unreadable += sighting.unreadable;
        all.skew = all.skew.max(sighting.skew);
    }
    named
}

/// What has changed, with the name of the sender.
fn judge(
    known: &mut BTreeMap<String, Sender>,
    seen: &BTreeMap<String, Sighting>,
    tick: Tick,
    settings: &Settings,
) -> Vec<(String, rule::Change)> {
    let mut count = known.len();
    for (name, _) in seen.iter().filter(|(_, sighting)| sighting.received > 0) {
        if let Entry::Vacant(place) = known.entry(name.clone())
            && count < SENDERS_MAX
        {
            place.insert(Sender::new(tick.now_ms));
            count += 1;
        }
    }
    let mut changes = Vec::new();
    for (name, sender) in known {
        let sighting = seen.get(name).copied().unwrap_or_default();
        changes.extend(sender.look(sighting, tick, settings).into_iter().map(|change| (name.clone(), change)));
    }
    changes
}

/// How many senders of a source are in each condition.
fn count(source: &str, senders: &BTreeMap<String, Sender>, registry: &Registry) {
    for condition in Condition::ALL {
        let labels = [("component_id", source), ("condition", condition.name())];
        let count = senders.values().filter(|sender| sender.is_in(condition)).count();
        registry.cell(&metrics::SOURCE_HEALTH, &labels).set(count as u64);
    }
}

#[cfg(test)]
mod tests;
