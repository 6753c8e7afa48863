//! `reverse_dns`: the name that the DNS has for an address.
//!
//! In: a field with an address. Out: a field with the name of a host, in small letters (PTR, RFC 1035). Off unless it is
//! configured: name servers, and whoever owns the address, learn that somebody looks.
//!
//! * **No event waits.** A shard looks into memory (the module `cache` says how). An address that is not there goes
//!   into a queue of [`QUEUE`]; a thread of its own asks for it, and the events to come have the name. So the first events of an
//!   address have none, and an event that is worked on again after a restart may have one that it had not. There is no
//!   other mode: a rule that must not miss the first event looks at the address.
//! * A full queue drops the address, counted; the next event asks again.
//! * A name holds as long as the server says, within `ttl_min` and `ttl_max`, and a minute more while it is asked for anew; that
//!   there is none holds too. After a failure an address is left alone for half a minute.
//! * A name is what a stranger says: anything but the name of a host counts as none. With `verify` the name has to have
//!   the address.
//! * A reload keeps what is known if the section says the same.

mod asking;
mod cache;

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::watch::Published;
use super::{Bound, Enricher, EnricherKind, Folders, Lookup, Memo, Refresh, Watched, check_name, keys};
use crate::config::{ByteSize, Interval, Section, schema_of};
use crate::error::{Diagnostic, Diagnostics};
use crate::event::{Chunk, Events, Fields, Kind, Row, SlotId, Value};
use crate::json;
use crate::metrics::{self, Cell, Registry};
use crate::net::dns::{HOST_BYTES_MAX, PORT, SERVERS_MAX, servers_of};
use crate::net::http_client::Reach;

use asking::Asking;
use cache::{Cache, Known, Reader, SEGMENTS};

pub(super) struct ReverseDns;

const SAMPLE: &str = r#"
type: reverse_dns
field: source.ip
into: source.domain
servers: [10.0.0.53, "10.0.1.53:5353"]   # without it those of /etc/resolv.conf
private: true                            # ask for private addresses too
verify: true                             # only names that have the address
"#;

/// Addresses that wait to be asked for.
const QUEUE: usize = 4096;

/// Where the system's name servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Longest resolv.conf.
const RESOLV_CONF_BYTES_MAX: u64 = 64 * 1024;

/// Addresses that a shard remembers to have asked for.
const ASKED: usize = 1024;

/// When a shard asks again for an address of which it still knows nothing.
const ASK_AGAIN_MS: u64 = 10_000;

/// Defaults of the section, and what its values may be.
const TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(30);
const IN_FLIGHT_MAX: usize = 64;
const IN_FLIGHT_RANGE: std::ops::RangeInclusive<usize> = 1..=1024;
/// A flood of forged addresses must not become one of questions.
const PER_SECOND_MAX: u32 = 1000;
const PER_SECOND_RANGE: std::ops::RangeInclusive<u32> = 1..=100_000;
const ENTRIES_MAX: usize = 65_536;
const ENTRIES_RANGE: std::ops::RangeInclusive<usize> = SEGMENTS..=1_000_000;
/// A name has some 30 bytes, an entry with its name about 100.
const SIZE_BYTES_MAX: usize = 16 * 1024 * 1024;
const SIZE_RANGE: std::ops::RangeInclusive<usize> = 128 * 1024..=1024 * 1024 * 1024;
const TTL_MIN: Duration = Duration::from_secs(60);
const TTL_MAX: Duration = Duration::from_secs(86_400);
/// RFC 8767 section 4: a week is the longest that is sensible.
const TTL_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The field with the address.
    field: String,
    /// The field that the name becomes.
    into: String,
    /// Name servers, `ADDRESS` or `ADDRESS:PORT`, asked one after the other; those of /etc/resolv.conf by default.
    servers: Option<Vec<String>>,
    /// How long a server is waited for, by questions and not by events; 2s by default.
    timeout: Option<Interval>,
    /// Questions under way at a time; 64 by default.
    max_in_flight: Option<usize>,
    /// Questions in a second; 1000 by default.
    max_per_second: Option<u32>,
    /// Addresses that are remembered; 65536 by default.
    max_entries: Option<usize>,
    /// What they may take; 16MiB by default.
    max_size: Option<ByteSize>,
    /// Shortest time that an answer holds; 1m by default.
    ttl_min: Option<Interval>,
    /// Longest time that an answer holds; 1d by default.
    ttl_max: Option<Interval>,
    /// Whether private addresses and those of this machine are asked for.
    #[serde(default)]
    private: bool,
    /// Whether a name counts only if it has the address.
    #[serde(default)]
    verify: bool,
}

/// What questions need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    /// `None` for those of the system.
    servers: Option<Vec<SocketAddr>>,
    timeout: Duration,
    in_flight_max: usize,
    /// Between two questions.
    pause: Duration,
    entries_max: usize,
    bytes_max: usize,
    ttl: (Duration, Duration),
    verify: bool,
}

impl EnricherKind for ReverseDns {
    fn name(&self) -> &'static str {
        "reverse_dns"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section, _: Folders<'_>) -> Result<Box<dyn Enricher>, Diagnostics> {
        let config: Config = section.read()?;
        let mut diagnostics = Diagnostics::new();
        for (key, name) in [("field", &config.field), ("into", &config.into)] {
            diagnostics.absorb(check_name(&at(section, key), name).map_err(Diagnostics::from));
        }
        if config.field == config.into {
            diagnostics.push(at(section, "into").error("the name would take the place of its address").help("into: source.domain"));
        }
        let settings = diagnostics.absorb(settings(section, &config));
        let Some(settings) = settings else { return Err(diagnostics) };
        let lookups = vec![Lookup { key: config.field, adds: vec![config.into], is_usual: false }];
        let reach = Reach { private: config.private, loopback: config.private };
        diagnostics.into_result(())?;
        Ok(Box::new(Configured { names: Names::of(section.path(), settings), lookups, reach }))
    }
}

/// The place of a key, or of the section if it is not written.
fn at(section: &Section, key: &str) -> Section {
    section.child(key).unwrap_or_else(|| section.clone())
}

fn settings(section: &Section, config: &Config) -> Result<Settings, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let interval = |written: Option<Interval>, default| written.map_or(default, |interval: Interval| interval.0);
    let settings = Settings {
        servers: config.servers.as_ref().map(|_| servers(&at(section, "servers"), config, &mut diagnostics)),
        timeout: interval(config.timeout, TIMEOUT),
        in_flight_max: config.max_in_flight.unwrap_or(IN_FLIGHT_MAX),
        pause: Duration::from_secs(1) / config.max_per_second.unwrap_or(PER_SECOND_MAX).max(1),
        entries_max: config.max_entries.unwrap_or(ENTRIES_MAX),
        bytes_max: config.max_size.map_or(SIZE_BYTES_MAX, |size| size.0),
        ttl: (interval(config.ttl_min, TTL_MIN), interval(config.ttl_max, TTL_MAX)),
        verify: config.verify,
    };
    for (key, is_good, expected) in [
        ("timeout", TIMEOUT_RANGE.contains(&settings.timeout), "from 50ms to 30s"),
        ("max_in_flight", IN_FLIGHT_RANGE.contains(&settings.in_flight_max), "from 1 to 1024"),
        ("max_per_second", config.max_per_second.is_none_or(|count| PER_SECOND_RANGE.contains(&count)), "from 1 to 100000"),
        ("max_entries", ENTRIES_RANGE.contains(&settings.entries_max), "from 256 to 1000000"),
        ("max_size", SIZE_RANGE.contains(&settings.bytes_max), "from 128KiB to 1GiB"),
        ("ttl_min", TTL_RANGE.contains(&settings.ttl.0), "from 1s to 7d"),
        ("ttl_max", TTL_RANGE.contains(&settings.ttl.1), "from 1s to 7d"),
        ("ttl_max", settings.ttl.0 <= settings.ttl.1, "not less than `ttl_min`"),
    ] {
        if !is_good {
            diagnostics.push(at(section, key).error(format!("is out of range; {expected}")));
        }
    }
    diagnostics.into_result(settings)
}

fn servers(place: &Section, config: &Config, diagnostics: &mut Diagnostics) -> Vec<SocketAddr> {
    let written = config.servers.as_deref().unwrap_or_default();
    if !(1..=SERVERS_MAX).contains(&written.len()) {
        let help = format!("those of {RESOLV_CONF} are asked where `servers` is not written");
        diagnostics.push(place.error(format!("expected 1 to {SERVERS_MAX} servers")).help(help));
    }
    let mut servers = Vec::new();
    for (text, item) in written.iter().zip(place.items()) {
        match text.parse().or_else(|_| text.parse::<IpAddr>().map(|address| SocketAddr::new(address, PORT))) {
            Ok(server) if server.port() > 0 && !server.ip().is_unspecified() => servers.push(server),
            _ => diagnostics.push(
                item.error(format!("`{text}` is not the address of a server"))
                    .help("10.0.0.53, \"10.0.0.53:5353\" or \"[2001:db8::53]:53\"; a name would have to be looked up first"),
            ),
        }
    }
    servers
}

/// What is known, and the way to ask for more. Lives as long as a plan has it.
struct Names {
    name: String,
    settings: Settings,
    cache: Arc<Cache>,
    servers: Servers,
    counters: Arc<Counters>,
    queue: Sender<IpAddr>,
    /// Until the thread has it.
    questions: Mutex<Option<Receiver<IpAddr>>>,
}

enum Servers {
    Written(Arc<Published<Vec<SocketAddr>>>),
    System(Arc<Watched<Vec<SocketAddr>>>),
}

/// Those of the plans that there are: after a reload the new plan finds what the old one knows.
static KNOWN: Mutex<Vec<Weak<Names>>> = Mutex::new(Vec::new());

impl Names {
    /// That of the plan before, if its section said the same; else a new one.
    fn of(name: &str, settings: Settings) -> Arc<Self> {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|names| names.strong_count() > 0);
        let same = known.iter().filter_map(Weak::upgrade).find(|names| names.name == name && names.settings == settings);
        same.unwrap_or_else(|| {
            let names = Arc::new(Self::new(name.to_owned(), settings));
            known.push(Arc::downgrade(&names));
            names
        })
    }

    fn new(name: String, settings: Settings) -> Self {
        let (queue, questions) = channel(QUEUE);
        let servers = match &settings.servers {
            Some(servers) => {
                let published = Arc::<Published<_>>::default();
                published.put(servers.clone());
                Servers::Written(published)
            }
            None => Servers::System(Watched::new(PathBuf::from(RESOLV_CONF), RESOLV_CONF_BYTES_MAX, |path, bytes| {
                let text = String::from_utf8(bytes).map_err(|_| Diagnostic::error(path, 0, 0, "", "the text is not UTF-8"))?;
                Ok(servers_of(&text))
            })),
        };
        let cache = Cache::new(settings.entries_max, settings.bytes_max);
        Self { name, settings, cache, servers, counters: Arc::default(), queue, questions: Mutex::new(Some(questions)) }
    }

    /// Starts the thread, unless it runs: nothing is asked before there are events.
    fn start(&self) {
        let Some(questions) = self.questions.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let servers = match &self.servers {
            Servers::Written(published) => published.handle(),
            Servers::System(file) => file.handle(),
        };
        let asking = Asking {
            name: self.name.clone(),
            settings: self.settings.clone(),
            servers,
            cache: self.cache.clone(),
            counters: self.counters.clone(),
        };
        let thread = std::thread::Builder::new().name("hydrant-dns".to_owned()).spawn(move || asking.run(questions));
        if let Err(error) = thread {
            tracing::error!(enrichment = %self.name, %error, "no thread to ask name servers");
        }
    }
}

struct Configured {
    names: Arc<Names>,
    lookups: Vec<Lookup>,
    reach: Reach,
}

impl Enricher for Configured {
    fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    fn refresh(&self) -> Refresh {
        match &self.names.servers {
            Servers::Written(_) => Refresh::Unchanged,
            Servers::System(file) => file.refresh(),
        }
    }

    fn lacks(&self) -> Option<&'static str> {
        Some("reverse DNS asks name servers")
    }

    fn observe(&self, registry: &Registry, name: &str) {
        self.names.counters.cells.get_or_init(|| Cells::new(registry, name));
    }

    fn bind(&self, fields: &Fields) -> Box<dyn Bound> {
        self.names.start();
        let slot = |name: &String| fields.find(name);
        let slots = self.lookups.first().and_then(|lookup| Some((slot(&lookup.key)?, slot(lookup.adds.first()?)?)));
        Box::new(Search {
            slots,
            reader: self.names.cache.reader(),
            asked: vec![(0, 0); ASKED],
            queue: self.names.queue.clone(),
            reach: self.reach,
            counters: self.names.counters.clone(),
            memo: Memo::new(1),
            text: Vec::new(),
        })
    }
}

/// The names of one shard.
struct Search {
    /// The address, and where the name goes.
    slots: Option<(SlotId, SlotId)>,
    reader: Reader,
    /// Addresses that were asked for, and until when that is enough; each at one place only.
    asked: Vec<(u128, u64)>,
    queue: Sender<IpAddr>,
    reach: Reach,
    counters: Arc<Counters>,
    memo: Memo,
    text: Vec<u8>,
}

impl Bound for Search {
    fn enrich(&mut self, chunk: &Chunk, rows: Range<usize>, events: &mut Events) -> u64 {
        let Some((field, into)) = self.slots else { return 0 };
        let now_ms = self.reader.now_ms();
        let mut seen = Seen::default();
        self.memo.begin();
        for index in rows {
            let mut row = events.row_mut(chunk, index);
            let address = match row.value(field) {
                Value::Text(text) => keys::address(text),
                Value::Escaped(inside) => {
                    self.text.clear();
                    json::unescape(inside, &mut self.text);
                    keys::address(&self.text)
                }
                _ => None,
            };
            if let Some(address) = address {
                self.fill(address, &mut row, into, (now_ms, &mut seen));
            }
        }
        self.counters.looked_up(&seen);
        seen.given_up
    }
}

impl Search {
    fn fill(&mut self, address: IpAddr, row: &mut Row<'_>, into: SlotId, (now_ms, seen): (u64, &mut Seen)) {
        let key = cache::key(address);
        let (slots, is_done) = self.memo.at(key);
        if is_done {
            // One place: the name, where the chunk has had it already.
            slots.iter().filter(|slot| slot.kind() != Kind::Missing).for_each(|slot| row.set(into, *slot));
            return;
        }
        let known = self.reader.find(key, now_ms);
        let is_fresh = known.is_some_and(|known| known.is_fresh);
        match known {
            Some(Known { name: Some(_), .. }) if !row.has_room(HOST_BYTES_MAX) => seen.given_up += 1,
            Some(Known { name: Some(name), .. }) => {
                seen.names += 1;
                row.set_written(into, Kind::Text, |out| out.extend_from_slice(name.as_bytes()));
                slots.fill(row.slot(into));
            }
            Some(Known { name: None, .. }) => seen.no_names += 1,
            None if self.reach.admit(address).is_err() => {
                seen.private += 1;
                return;
            }
            None => seen.unknown += 1,
        }
        if !is_fresh {
            self.ask(address, key, (now_ms, seen));
        }
    }

    /// Has an address asked for, unless it was a moment ago.
    fn ask(&mut self, address: IpAddr, key: u128, (now_ms, seen): (u64, &mut Seen)) {
        let folded = (key as u64) ^ (key >> 64) as u64;
        let place = (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - ASKED.ilog2())) as usize;
        let Some(asked) = self.asked.get_mut(place) else { return };
        if asked.0 == key && asked.1 > now_ms {
            return;
        }
        match self.queue.try_send(address) {
            Ok(()) => *asked = (key, now_ms + ASK_AGAIN_MS),
            Err(_) => seen.dropped += 1,
        }
    }
}

/// What one chunk came to.
#[derive(Default)]
struct Seen {
    names: u64,
    no_names: u64,
    unknown: u64,
    private: u64,
    dropped: u64,
    given_up: u64,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Name,
    NoName,
    NotAHost,
    NotConfirmed,
    Timeout,
    Refused,
    Malformed,
    Unreachable,
}

/// All of them, in their order.
const OUTCOMES: [Outcome; 8] = [
    Outcome::Name,
    Outcome::NoName,
    Outcome::NotAHost,
    Outcome::NotConfirmed,
    Outcome::Timeout,
    Outcome::Refused,
    Outcome::Malformed,
    Outcome::Unreachable,
];

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::NoName => "no_name",
            Self::NotAHost => "not_a_host",
            Self::NotConfirmed => "not_confirmed",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Unreachable => "unreachable",
        }
    }

    /// Whether nothing is known for want of an answer.
    fn is_failure(self) -> bool {
        matches!(self, Self::Timeout | Self::Refused | Self::Malformed | Self::Unreachable)
    }
}

/// Counts of shards and of the thread that asks; nothing before somebody wants to see them.
#[derive(Default)]
struct Counters {
    cells: OnceLock<Cells>,
}

struct Cells {
    names: Cell,
    no_names: Cell,
    unknown: Cell,
    private: Cell,
    dropped: Cell,
    outcomes: [Cell; OUTCOMES.len()],
    cached: Cell,
    evicted: Cell,
}

impl Cells {
    fn new(registry: &Registry, name: &str) -> Self {
        let lookup = |result| registry.cell(&metrics::REVERSE_DNS_LOOKUPS, &[("component_id", name), ("result", result)]);
        let question = |outcome| registry.cell(&metrics::REVERSE_DNS_QUESTIONS, &[("component_id", name), ("outcome", outcome)]);
        let cached = registry.cell(&metrics::REVERSE_DNS_CACHED, &[("component_id", name)]);
        // Of a plan before this one, whose section said something else.
        cached.set(0);
        Self {
            names: lookup("name"),
            no_names: lookup("no_name"),
            unknown: lookup("unknown"),
            private: lookup("private"),
            dropped: question("dropped"),
            outcomes: OUTCOMES.map(|outcome| question(outcome.name())),
            cached,
            evicted: registry.cell(&metrics::REVERSE_DNS_EVICTED, &[("component_id", name)]),
        }
    }
}

impl Counters {
    fn looked_up(&self, seen: &Seen) {
        let Some(cells) = self.cells.get() else { return };
        for (cell, count) in [
            (&cells.names, seen.names),
            (&cells.no_names, seen.no_names),
            (&cells.unknown, seen.unknown),
            (&cells.private, seen.private),
            (&cells.dropped, seen.dropped),
        ] {
            cell.add(count);
        }
    }

    /// Counts an answer and how the cache changed by it.
    fn answered(&self, outcome: Outcome, entries: isize, evicted: u64) {
        let Some(cells) = self.cells.get() else { return };
        cells.outcomes[outcome as usize].add(1);
        // One thread writes it.
        cells.cached.set(cells.cached.value().saturating_add_signed(entries as i64));
        cells.evicted.add(evicted);
    }
}

#[cfg(test)]
mod tests;
