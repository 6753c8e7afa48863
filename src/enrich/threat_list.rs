//! `threat_list`: events that have to do with an indicator of compromise.
//!
//! In: a list of indicators (see [`super::indicators`]) in a file, read again when it changes, or from an HTTP(S) address
//! on a schedule (see [`super::feed`]); nothing is fetched unless an address is given. Out, in ECS 8 names, for an event one
//! of whose fields is in the list:
//!
//! | Field | |
//! |---|---|
//! | `threat.feed.name` | `name`, or that of the enrichment |
//! | `threat.indicator.type` | `ipv4-addr`, `ipv6-addr`, `domain-name`, `url`, `file` (any hash), `email-addr` |
//! | `threat.indicator.name` | the indicator as the list has it: the network, the name above |
//! | `threat.indicator.matched.field`, `.matched.atomic` | the field of the event, and its value |
//! | `threat.indicator.provider`, `.description`, `.confidence`, `.first_seen`, `.last_seen` | where the list says it; confidence 0 to 100 |
//!
//! * Names stand for those below them; a link is compared without its scheme, and its host is looked up as a name or
//!   address too. Forms and what is not taken: [`super::keys`], [`super::indicators`].
//! * The first field of the order below that is in the list says what is added. Where several lists know an event, the one
//!   that stands last in the configuration does, as a whole.
//! * A list that is bad, empty or too large leaves the one in use as it is.

mod content;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Uri};
use serde::Deserialize;

use super::feed::{Feed, Form, MANIFEST};
use super::indicators::{Columns, Format, Kind};
use super::watch::{Handle, Parse, Published};
use super::{Bound, Enricher, EnricherKind, Folders, Lookup, Refresh, Watched, check_name};
use crate::clock;
use crate::config::{ByteSize, Interval, Secret, Section, schema_of};
use crate::error::Diagnostics;
use crate::event::{self, Chunk, Events, Fields, Row, Slot, SlotId, Value};
use crate::json;
use crate::net::download::Downloader;
use crate::net::http_client::{Reach, parse_address};
use crate::net::tls::{ClientTls, TlsClient};

use content::{Content, Demands, Found, Name};

pub(super) struct ThreatList;

const SAMPLE: &str = r#"
type: threat_list
format: csv                            # plain (one a line), csv, misp or stix
path: /etc/hydrant/threatfox.csv       # or `url: https://...` with interval, headers, tls
columns: { value: ioc_value, kind: ioc_type, confidence: confidence_level, first_seen: first_seen_utc }   # csv only
name: threatfox                        # threat.feed.name; without it the name of the enrichment
provider: abuse.ch                     # threat.indicator.provider, where the list does not say it
fields: { ip: [destination.ip] }       # look only here for this kind; without it wherever it belongs
"#;

/// What is looked at for each kind, in this order: what we connect to says more than who connects to us.
const USUAL: [(Kind, &[&str]); 5] = [
    (Kind::Ip, &["destination.ip", "server.ip", "source.ip", "client.ip", "destination.nat.ip", "source.nat.ip", "network.forwarded_ip"]),
    (Kind::Domain, &["dns.question.name", "url.domain", "tls.client.server_name", "destination.domain", "source.domain"]),
    (Kind::Url, &["url.full", "url.original"]),
    (
        Kind::Hash,
        &[
            "file.hash.sha256",
            "file.hash.sha1",
            "file.hash.md5",
            "process.hash.sha256",
            "tls.client.ja3",
            "tls.server.ja3s",
            "tls.server.hash.sha1",
        ],
    ),
    (Kind::Email, &["email.from.address", "email.sender.address", "email.to.address"]),
];

/// What is added, in the order of the constants below.
const ADDS: [&str; 10] = [
    "threat.feed.name",
    "threat.indicator.type",
    "threat.indicator.name",
    "threat.indicator.matched.field",
    "threat.indicator.matched.atomic",
    "threat.indicator.provider",
    "threat.indicator.description",
    "threat.indicator.confidence",
    "threat.indicator.first_seen",
    "threat.indicator.last_seen",
];
const FEED: usize = 0;
const TYPE: usize = 1;
const NAME: usize = 2;
const FIELD: usize = 3;
const ATOMIC: usize = 4;
const PROVIDER: usize = 5;
const DESCRIPTION: usize = 6;
const CONFIDENCE: usize = 7;
const FIRST_SEEN: usize = 8;
const LAST_SEEN: usize = 9;

/// Room that is asked for before a hit is written: the longest link and some short texts.
const HIT_BYTES_MAX: usize = 64 * 1024;

/// Default of `max_size`: four million SHA-256, one a line.
const SIZE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What `max_size` may be: offsets in an index have 32 bits.
const SIZE_RANGE: std::ops::RangeInclusive<usize> = 1024..=2 * 1024 * 1024 * 1024;

/// Default of `max_entries`: about 150 MiB of SHA-256.
const ENTRIES_MAX: usize = 3_000_000;

/// What `max_entries` may be.
const ENTRIES_RANGE: std::ops::RangeInclusive<usize> = 1..=50_000_000;

/// Default of `max_events`: the public feeds of MISP have about two thousand each.
const EVENTS_MAX: usize = 10_000;

/// What `max_events` may be: each is a request at the first time.
const EVENTS_RANGE: std::ops::RangeInclusive<usize> = 1..=100_000;

/// Default of `interval`.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Asking a stranger more often than this is rude, and some answer it by a ban.
const INTERVAL_MIN: Duration = Duration::from_secs(10);

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// How the list is written.
    format: FormatName,
    /// The file; or `url`.
    path: Option<PathBuf>,
    /// Where the list comes from, `https://` or `http://`; or `path`.
    url: Option<String>,
    /// How often the address is asked; 1h by default.
    interval: Option<Interval>,
    /// More headers of the request, such as a key. They are not sent on to another host.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// TLS of `url`.
    tls: Option<TlsClient>,
    /// Whether `url` may lead to a private address (10.0.0.0/8, fd00::/8 ...). Link-local and metadata addresses never.
    #[serde(default)]
    allow_private: bool,
    /// Whether `url` may lead to this machine.
    #[serde(default)]
    allow_loopback: bool,
    /// What all entries of a `plain` or `csv` list are; without it each is what it looks like.
    kind: Option<Kind>,
    /// Which columns of a `csv` list hold what.
    columns: Option<Columns>,
    /// Name of the list in events.
    name: Option<String>,
    /// Who publishes it, for entries that do not say it.
    provider: Option<String>,
    /// How sure it is, 0 to 100, for entries that do not say it.
    confidence: Option<u8>,
    /// Kind to the fields where it is looked for, in place of the usual ones; an empty list for nowhere.
    #[serde(default)]
    fields: FieldsConfig,
    /// Whether private and reserved addresses in the list are left out.
    #[serde(default = "yes")]
    skip_private: bool,
    /// Whether a list without an entry is one.
    #[serde(default)]
    allow_empty: bool,
    /// Longest list, unpacked; 256MiB by default.
    max_size: Option<ByteSize>,
    /// Most entries; 3,000,000 by default.
    max_entries: Option<usize>,
    /// Most events of a MISP feed, the newest; 10,000 by default.
    max_events: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum FormatName {
    /// One indicator a line.
    Plain,
    /// Columns, named in the first line or the comment before the first record.
    Csv,
    /// JSON of MISP: an event, a list of them, attributes; or a feed, if `url` ends in `/` or `/manifest.json`.
    Misp,
    /// A STIX 2 bundle.
    Stix,
}

#[derive(Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct FieldsConfig {
    /// Fields that hold addresses.
    ip: Option<Vec<String>>,
    /// Fields that hold names.
    domain: Option<Vec<String>>,
    /// Fields that hold links.
    url: Option<Vec<String>>,
    /// Fields that hold hashes.
    hash: Option<Vec<String>>,
    /// Fields that hold e-mail addresses.
    email: Option<Vec<String>>,
}

fn yes() -> bool {
    true
}

impl FieldsConfig {
    fn of(&self, kind: Kind) -> Option<&[String]> {
        match kind {
            Kind::Ip => &self.ip,
            Kind::Domain => &self.domain,
            Kind::Url => &self.url,
            Kind::Hash => &self.hash,
            Kind::Email => &self.email,
        }
        .as_deref()
    }

    /// The fields with the kind that is looked for in each, and whether somebody named them.
    fn all(&self) -> Vec<(Kind, String, bool)> {
        let fields = |(kind, usual): &(Kind, &[&str])| -> Vec<(Kind, String, bool)> {
            match self.of(*kind) {
                Some(named) => named.iter().map(|field| (*kind, field.clone(), false)).collect(),
                None => usual.iter().map(|field| (*kind, (*field).to_owned(), true)).collect(),
            }
        };
        USUAL.iter().flat_map(fields).collect()
    }
}

impl EnricherKind for ThreatList {
    fn name(&self) -> &'static str {
        "threat_list"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section, folders: Folders<'_>) -> Result<Box<dyn Enricher>, Diagnostics> {
        let mut config: Config = section.read()?;
        let mut diagnostics = Diagnostics::new();
        check_fields(section, &config.fields, &mut diagnostics);
        let size = config.max_size.map_or(SIZE_BYTES_MAX, |size| size.0);
        let entries_max = config.max_entries.unwrap_or(ENTRIES_MAX);
        for (key, is_good, expected) in [
            ("max_size", SIZE_RANGE.contains(&size), "from 1KiB to 2GiB"),
            ("max_entries", ENTRIES_RANGE.contains(&entries_max), "from 1 to 50000000"),
            ("max_events", config.max_events.is_none_or(|events| EVENTS_RANGE.contains(&events)), "from 1 to 100000"),
            ("confidence", config.confidence.is_none_or(|percent| percent <= 100), "from 0 to 100"),
            ("interval", config.interval.is_none_or(|interval| interval.0 >= INTERVAL_MIN), "at least 10s"),
        ] {
            if !is_good {
                diagnostics.push(at(section, key).error(format!("is out of range; {expected}")));
            }
        }
        let format = diagnostics.absorb(format(section, &mut config));
        let origin = diagnostics.absorb(origin(section, &config, size as u64));
        let fields = config.fields.all();
        let adds: Vec<String> = ADDS.iter().map(|name| (*name).to_owned()).collect();
        let lookup = |(_, key, is_usual): &(Kind, String, bool)| Lookup { key: key.clone(), adds: adds.clone(), is_usual: *is_usual };
        let lookups = fields.iter().map(lookup).collect();
        let name = config.name.unwrap_or_else(|| section.path().rsplit('.').next().unwrap_or_default().to_owned());
        let fixed = Fixed { feed: name.into(), provider: config.provider.unwrap_or_default().into(), confidence: config.confidence };
        let fields = fields.into_iter().map(|(kind, field, _)| (kind, field)).collect();
        let (Some(format), Some(origin)) = (format, origin) else { return Err(diagnostics) };
        let demands = Demands { format, entries_max, skip_private: config.skip_private, allow_empty: config.allow_empty };
        let parse: Parse<Content> = Box::new(move |path, file| Content::read(path, BufReader::with_capacity(READ_BYTES, file), &demands));
        let list = match origin {
            Origin::File(path) => List::File(Watched::streamed(folders.base.join(path), size as u64, parse)),
            Origin::Address(address, interval) => {
                List::Feed(Feed::new(*address, section.path(), (interval, size as u64), folders.data, parse))
            }
        };
        diagnostics.into_result(Box::new(Configured { list, lookups, fields, fixed: Arc::new(fixed) }))
    }
}

/// Read at once from a list.
const READ_BYTES: usize = 128 * 1024;

/// The place of a key, or of the section if it is not written.
fn at(section: &Section, key: &str) -> Section {
    section.child(key).unwrap_or_else(|| section.clone())
}

fn check_fields(section: &Section, fields: &FieldsConfig, diagnostics: &mut Diagnostics) {
    for (kind, _) in USUAL {
        let place = at(&at(section, "fields"), kind.name());
        for (field, item) in fields.of(kind).unwrap_or_default().iter().zip(place.items()) {
            diagnostics.absorb(check_name(&item, field).map_err(Diagnostics::from));
            if field.starts_with("threat.") {
                diagnostics.push(item.error(format!("`{field}` is what is added; it cannot be looked up as well")));
            }
        }
    }
}

/// How the list is read.
fn format(section: &Section, config: &mut Config) -> Result<Format, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let columns = config.columns.take();
    if columns.is_some() && config.format != FormatName::Csv {
        diagnostics.push(at(section, "columns").error("only `format: csv` has columns"));
    }
    if config.kind.is_some() && !matches!(config.format, FormatName::Plain | FormatName::Csv) {
        diagnostics.push(at(section, "kind").error("a list in this format says itself what its entries are"));
    }
    let format = match (config.format, columns) {
        (FormatName::Plain, _) => Format::Plain(config.kind),
        (FormatName::Misp, _) => Format::Misp,
        (FormatName::Stix, _) => Format::Stix,
        (FormatName::Csv, Some(columns)) => Format::Csv(Box::new(Columns { all: config.kind, ..columns })),
        (FormatName::Csv, None) => {
            return Err(section
                .error("`columns` is missing")
                .help("columns: { value: ioc_value }, with `kind: ip` or a column `kind`")
                .into());
        }
    };
    diagnostics.into_result(format)
}

/// Where the list comes from.
enum Origin {
    File(PathBuf),
    Address(Box<(Downloader, Form)>, Duration),
}

fn origin(section: &Section, config: &Config, size: u64) -> Result<Origin, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let url = match (&config.path, &config.url) {
        (Some(path), None) => {
            let of_url = ["interval", "headers", "tls", "allow_private", "allow_loopback", "max_events"];
            for (key, place) in section.children().iter().filter(|(key, _)| of_url.contains(&key.as_str())) {
                diagnostics.push(place.error(format!("`{key}` goes with `url`, not with `path`")));
            }
            return diagnostics.into_result(Origin::File(path.clone()));
        }
        (None, Some(url)) => url,
        (Some(_), Some(_)) => return Err(at(section, "url").error("either `path` or `url`: one list comes from one place").into()),
        (None, None) => return Err(section.error("`path` or `url` is missing").help("path: list.txt").into()),
    };
    let uri = parse_address(url).map_err(|error| at(section, "url").error(error.explain("https://host/path")).into());
    let uri = diagnostics.absorb(uri).map(|uri: Uri| feed_of(config, uri));
    if config.max_events.is_some() && !matches!(uri, Some((_, Form::Misp(_)))) {
        let message = "goes with a feed of MISP: `format: misp` and a `url` that ends in `/` or `/manifest.json`";
        diagnostics.push(at(section, "max_events").error(message));
    }
    let headers = diagnostics.absorb(headers(section, &config.headers));
    let settings = config.tls.clone().unwrap_or_default();
    let tls = ClientTls::load(&settings).map_err(|error| at(section, "tls").error(error.to_string()).into());
    let tls = diagnostics.absorb(tls);
    let (Some((uri, form)), Some(headers), Some(tls)) = (uri, headers, tls) else { return Err(diagnostics) };
    let reach = Reach { private: config.allow_private, loopback: config.allow_loopback };
    let interval = config.interval.map_or(INTERVAL, |interval| interval.0);
    diagnostics.into_result(Origin::Address(Box::new((Downloader::new(uri, headers, tls, reach, size), form)), interval))
}

/// Whether an address is that of a list or of a MISP feed; if it is the feed's folder, the address of its manifest.
fn feed_of(config: &Config, uri: Uri) -> (Uri, Form) {
    let manifest = if uri.path().ends_with('/') { format!("{}{MANIFEST}", uri.path()) } else { uri.path().to_owned() };
    if config.format != FormatName::Misp || !manifest.ends_with(&format!("/{MANIFEST}")) {
        return (uri, Form::File);
    }
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("{manifest}{query}").parse().ok();
    (Uri::from_parts(parts).unwrap_or(uri), Form::Misp(config.max_events.unwrap_or(EVENTS_MAX)))
}

fn headers(section: &Section, written: &BTreeMap<String, Secret>) -> Result<HeaderMap, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let place = at(&at(section, "headers"), name);
        match (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value.reveal())) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            (Err(_), _) => diagnostics.push(place.error(format!("`{name}` is not the name of a header"))),
            (_, Err(_)) => diagnostics.push(place.error("the value has characters that a header cannot have")),
        }
    }
    diagnostics.into_result(headers)
}

/// A list that changes.
enum List {
    File(Arc<Watched<Content>>),
    Feed(Arc<Feed<Content>>),
}

impl List {
    fn refresh(&self) -> Refresh {
        let refresh = match self {
            Self::File(file) => file.refresh(),
            Self::Feed(feed) => feed.refresh(),
        };
        let notes = || self.published().newest().map(|content| content.notes().clone()).filter(|notes| !notes.0.is_empty());
        match refresh {
            Refresh::Loaded => notes().map_or(Refresh::Loaded, Refresh::Partly),
            Refresh::Partly(mut told) => {
                told.0.extend(notes().unwrap_or_default().0);
                Refresh::Partly(told)
            }
            other => other,
        }
    }

    fn published(&self) -> &Arc<Published<Content>> {
        match self {
            Self::File(file) => file.published(),
            Self::Feed(feed) => feed.published(),
        }
    }

    fn handle(&self) -> Handle<Content> {
        match self {
            Self::File(file) => file.handle(),
            Self::Feed(feed) => feed.handle(),
        }
    }
}

struct Configured {
    list: List,
    lookups: Vec<Lookup>,
    fields: Vec<(Kind, String)>,
    fixed: Arc<Fixed>,
}

/// What is said of every indicator of the list.
struct Fixed {
    feed: Box<str>,
    provider: Box<str>,
    confidence: Option<u8>,
}

impl Enricher for Configured {
    fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    fn refresh(&self) -> Refresh {
        self.list.refresh()
    }

    fn lacks(&self) -> Option<&'static str> {
        self.list.published().newest().is_none().then_some("its list was never fetched")
    }

    fn bind(&self, fields: &Fields) -> Box<dyn Bound> {
        let targets = ADDS.map(|name| fields.find(name));
        let is_wanted = targets.iter().any(Option::is_some);
        let key = |(kind, name): &(Kind, String)| Some((*kind, fields.find(name).filter(|_| is_wanted)?, name.as_str().into()));
        let keys = self.fields.iter().filter_map(key).collect();
        let hit = Hit { targets, fixed: self.fixed.clone() };
        Box::new(Search { content: self.list.handle(), keys, hit, text: Vec::new(), scratch: Vec::new() })
    }
}

/// The list of one shard.
struct Search {
    content: Handle<Content>,
    keys: Vec<(Kind, SlotId, Box<str>)>,
    hit: Hit,
    text: Vec<u8>,
    scratch: Vec<u8>,
}

impl Bound for Search {
    fn enrich(&mut self, chunk: &Chunk, rows: Range<usize>, events: &mut Events) -> u64 {
        let Some(content) = self.content.current() else { return 0 };
        let now_ms = clock::now_ms();
        let mut given_up = 0;
        for index in rows {
            let mut row = events.row_mut(chunk, index);
            for (kind, slot, field) in &self.keys {
                let value = match row.value(*slot) {
                    Value::Text(value) | Value::Number(value) => value,
                    Value::Escaped(inside) => {
                        self.text.clear();
                        json::unescape(inside, &mut self.text);
                        &self.text
                    }
                    _ => continue,
                };
                if let Some(found) = content.find(*kind, value, &mut self.scratch, now_ms) {
                    given_up += u64::from(!self.hit.write(&mut row, *slot, field, &found));
                    break;
                }
            }
        }
        given_up
    }
}

/// Where what is said of an indicator goes.
struct Hit {
    targets: [Option<SlotId>; ADDS.len()],
    fixed: Arc<Fixed>,
}

impl Hit {
    /// Fills one row, also with nothing: what another list has said is about another indicator. False without room.
    fn write(&self, row: &mut Row<'_>, key: SlotId, field: &str, found: &Found<'_>) -> bool {
        if !row.has_room(HIT_BYTES_MAX) {
            return false;
        }
        let Fixed { feed, provider, confidence } = &*self.fixed;
        let details = found.details;
        let provider = if details.provider.is_empty() { provider.as_bytes() } else { details.provider };
        let texts = [
            (FEED, feed.as_bytes()),
            (TYPE, found.type_name.as_bytes()),
            (FIELD, field.as_bytes()),
            (PROVIDER, provider),
            (DESCRIPTION, details.description),
        ];
        for (column, text) in texts {
            self.set(row, column, event::Kind::Text, (!text.is_empty()).then_some(|out: &mut Vec<u8>| out.extend_from_slice(text)));
        }
        let confidence = details.confidence.or(*confidence);
        self.set(row, CONFIDENCE, event::Kind::Number, confidence.map(|percent| move |out: &mut Vec<u8>| display(out, percent)));
        for (column, ms) in [(FIRST_SEEN, details.first_seen_ms), (LAST_SEEN, details.last_seen_ms)] {
            let time = ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            self.set(row, column, event::Kind::Text, time.map(|time| move |out: &mut Vec<u8>| display(out, time)));
        }
        self.set(row, NAME, event::Kind::Text, Some(|out: &mut Vec<u8>| write_name(out, &found.name)));
        if let Some(target) = self.targets[ATOMIC] {
            row.set(target, row.slot(key));
        }
        true
    }

    /// Sets one column, if anybody wants it.
    fn set(&self, row: &mut Row<'_>, column: usize, kind: event::Kind, write: Option<impl FnOnce(&mut Vec<u8>)>) {
        match (self.targets[column], write) {
            (Some(target), Some(write)) => row.set_written(target, kind, write),
            (Some(target), None) => row.set(target, Slot::MISSING),
            (None, _) => {}
        }
    }
}

fn write_name(out: &mut Vec<u8>, name: &Name<'_>) {
    match name {
        Name::Address(address) => display(out, address),
        Name::Network(network) => display(out, network),
        Name::Text(text) => out.extend_from_slice(text),
        Name::Hash(bytes) => bytes.iter().for_each(|byte| display(out, format_args!("{byte:02x}"))),
    }
}

fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    use std::io::Write as _;
    // Writing to a vector cannot fail.
    write!(out, "{value}").unwrap_or_default();
}

#[cfg(test)]
mod tests;
