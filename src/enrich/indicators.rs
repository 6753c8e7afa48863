//! Indicators of compromise, read from lists as they are published.
//!
//! [`read_indicators`] takes one of four formats and gives one [`Indicator`] after the other; memory is that of one
//! line or object, whatever the list's length. What is in a list and cannot be used is given too, with the reason
//! ([`Refusal::Skipped`]): nothing is left out in silence.
//!
//! * `plain`: one a line; what follows `#` or `;` is a comment. Lines of a hosts file (`0.0.0.0 name`) are names.
//! * `csv`: a line names the columns, also in a comment as abuse.ch writes them.
//! * `misp`: an event as exported or in a feed, a list of events, or the answer of a search for attributes.
//! * `stix`: a bundle (STIX 2.0 and 2.1), its indicators with STIX patterns.
//!
//! Values are taken in the form in which they are compared: small letters, no last dot, hashes as bytes; `1.2.3[.]4` and
//! `hxxp://` are read as what they stand for. Not taken: a network so wide that it is a part of the Internet and no
//! indicator ([`V4_PREFIX_MIN`]), a top-level domain.

mod csv_list;
mod misp;
mod plain;
mod stix;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, BufRead};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;

use super::elements::{ElementError, Elements, Wanted};
use super::keys;
use crate::error::{Diagnostic, Diagnostics};

pub use csv_list::Columns;
pub use misp::{MispAttribute, misp_attributes};

/// Longest line; a link of 8 KiB is the longest that lists have.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Longest description or name that is kept with an indicator.
const TEXT_BYTES_MAX: usize = 256;

/// Bytes of what could not be used that a message repeats.
const SHOWN_BYTES_MAX: usize = 80;

/// Different reasons that are told; a list has a handful.
const REASONS_MAX: usize = 24;

/// The widest network: an eighth of what one registry hands out.
pub const V4_PREFIX_MIN: u8 = 8;

/// The same for IPv6: what a registry hands out to a large provider.
pub const V6_PREFIX_MIN: u8 = 19;

/// What an indicator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An address or network.
    #[serde(alias = "cidr")]
    Ip,
    /// A name, with all names below it.
    Domain,
    /// A link.
    Url,
    /// MD5, SHA-1, SHA-2; of files, certificates, JA3.
    Hash,
    /// An e-mail address.
    Email,
}

impl Kind {
    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Domain => "domain",
            Self::Url => "url",
            Self::Hash => "hash",
            Self::Email => "email",
        }
    }

    /// What lists, MISP's types among them, call it.
    fn parse(text: &str) -> Option<Self> {
        let folded = text.trim().to_ascii_lowercase();
        Some(match folded.as_str() {
            "ip" | "cidr" | "ipv4" | "ipv6" | "ipv4-addr" | "ipv6-addr" | "ip:port" | "ip-src" | "ip-dst" | "ip-src|port"
            | "ip-dst|port" | "network" | "netblock" => Self::Ip,
            "domain" | "hostname" | "host" | "fqdn" | "domain-name" | "hostname|port" => Self::Domain,
            "url" | "uri" | "link" => Self::Url,
            "email" | "email-addr" | "email-src" | "email-dst" | "email-reply-to" => Self::Email,
            "hash"
            | "md5"
            | "sha1"
            | "sha224"
            | "sha256"
            | "sha384"
            | "sha512"
            | "md5_hash"
            | "sha1_hash"
            | "sha256_hash"
            | "sha-1"
            | "sha-256"
            | "sha-512"
            | "ja3-fingerprint-md5"
            | "x509-fingerprint-md5"
            | "x509-fingerprint-sha1"
            | "x509-fingerprint-sha256" => Self::Hash,
            _ => return None,
        })
    }
}

/// The value of an indicator, in the form in which it is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// An address or network.
    Network(IpNet),
    /// A name; it stands for those below it too.
    Domain(String),
    /// A link without scheme: see the module `keys`.
    Url(String),
    /// A hash.
    Hash(Vec<u8>),
    /// An e-mail address.
    Email(String),
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => write!(f, "{}", network.addr()),
            Self::Network(network) => write!(f, "{network}"),
            Self::Domain(text) | Self::Url(text) | Self::Email(text) => f.write_str(text),
            Self::Hash(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// What a list says of an indicator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// How sure the list is, 0 to 100.
    pub confidence: Option<u8>,
    /// Who says so.
    pub provider: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// When it was seen first, ms since 1970 UTC.
    pub first_seen_ms: Option<i64>,
    /// When it was seen last.
    pub last_seen_ms: Option<i64>,
    /// From when on it is none any more.
    pub valid_until_ms: Option<i64>,
}

/// An indicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indicator {
    /// The value.
    pub pattern: Pattern,
    /// What is said of it.
    pub details: Details,
}

/// What is in a list and is no indicator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// One entry cannot be used; there may be more.
    Skipped {
        /// 1-based.
        line: usize,
        /// The same for all entries with the same fault.
        reason: Cow<'static, str>,
        /// The entry, cut.
        text: String,
    },
    /// The list as a whole is none; nothing follows.
    Broken {
        /// 1-based, 0 if unknown.
        line: usize,
        /// What is wrong.
        message: String,
        /// What would be right.
        help: Option<String>,
    },
}

impl Refusal {
    fn skipped(line: usize, reason: impl Into<Cow<'static, str>>, text: &str) -> Self {
        Self::Skipped { line, reason: reason.into(), text: cut(text, SHOWN_BYTES_MAX).to_owned() }
    }

    fn broken(line: usize, message: impl Into<String>) -> Self {
        Self::Broken { line, message: message.into(), help: None }
    }

    fn unreadable(error: &io::Error) -> Self {
        Self::broken(0, format!("cannot be read: {error}"))
    }
}

/// What was left out of a list: for each reason how often, and the first entry.
#[derive(Debug, Default)]
pub struct LeftOut(BTreeMap<String, (usize, usize, String)>);

impl LeftOut {
    /// Takes an entry that was left out.
    pub fn add(&mut self, line: usize, reason: String, text: String) {
        let is_known = self.0.contains_key(&reason);
        let reason = if is_known || self.0.len() < REASONS_MAX { reason } else { "other reasons".to_owned() };
        self.0.entry(reason).or_insert((0, line, text)).0 += 1;
    }

    /// A warning for each reason.
    pub fn warnings(&self, path: &Path) -> Diagnostics {
        let warning = |(reason, (count, line, text)): (&String, &(usize, usize, String))| {
            let such = if text.is_empty() { String::new() } else { format!(", such as `{text}`") };
            Diagnostic::error(path, *line, 0, "", format!("{count} left out: {reason}{such}")).warning()
        };
        Diagnostics(self.0.iter().map(warning).collect())
    }
}

type Found = Result<Indicator, Refusal>;

/// How a list is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One indicator a line; of this kind, or of the one that each looks like.
    Plain(Option<Kind>),
    /// Columns.
    Csv(Box<Columns>),
    /// MISP's JSON.
    Misp,
    /// A STIX 2 bundle.
    Stix,
}

/// Reads a list.
pub fn read_indicators<R: BufRead>(format: &Format, reader: R) -> Indicators<R> {
    let state = match format {
        Format::Plain(kind) => State::Plain(plain::Plain::new(reader, *kind)),
        Format::Csv(columns) => State::Csv(Box::new(csv_list::CsvList::new(reader, columns))),
        Format::Misp => State::Misp(Document::new(reader, "Attribute")),
        Format::Stix => State::Stix(Document::new(reader, "objects")),
    };
    Indicators { state, found: VecDeque::new(), is_begun: false }
}

/// The indicators of a list. After [`Refusal::Broken`] it is at its end.
pub struct Indicators<R> {
    state: State<R>,
    found: VecDeque<Found>,
    is_begun: bool,
}

enum State<R> {
    Plain(plain::Plain<R>),
    Csv(Box<csv_list::CsvList<R>>),
    Misp(Document<R>),
    Stix(Document<R>),
    End,
}

impl<R: BufRead> Iterator for Indicators<R> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        if !self.is_begun {
            self.is_begun = true;
            if let Some(refusal) = self.sniff() {
                self.state = State::End;
                return Some(Err(refusal));
            }
        }
        while self.found.is_empty() {
            let goes_on = match &mut self.state {
                State::Plain(plain) => plain.read(&mut self.found),
                State::Csv(csv) => csv.read(&mut self.found),
                State::Misp(document) => document.read(misp::read, &mut self.found),
                State::Stix(document) => document.read(stix::read, &mut self.found),
                State::End => return None,
            };
            if !goes_on {
                self.state = State::End;
            }
        }
        self.found.pop_front()
    }
}

impl<R: BufRead> Indicators<R> {
    /// What servers send in place of a list.
    fn sniff(&mut self) -> Option<Refusal> {
        let reader = match &mut self.state {
            State::Plain(plain) => plain.reader(),
            State::Csv(csv) => csv.reader(),
            State::Misp(document) | State::Stix(document) => document.reader(),
            State::End => return None,
        };
        let head = match reader.fill_buf() {
            Ok(head) => head,
            Err(error) => return Some(Refusal::unreadable(&error)),
        };
        let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        let (what, help) = match text {
            [b'<', ..] => (
                "this is a web page or XML, not a list of indicators",
                "the server may want a log-in, or the address is that of a page about the list",
            ),
            [b'P', b'K', 3, 4, ..] => ("this is a ZIP archive", "take the list's other form, or unpack it"),
            [0x1f, 0x8b, ..] => ("this is compressed by gzip", "unpack the file; what comes over HTTP is unpacked"),
            _ => return None,
        };
        Some(Refusal::Broken { line: 1, message: what.to_owned(), help: Some(help.to_owned()) })
    }
}

/// A JSON document.
struct Document<R> {
    elements: Elements<R>,
    object: Vec<u8>,
}

impl<R: BufRead> Document<R> {
    fn new(reader: R, array: &'static str) -> Self {
        Self { elements: Elements::new(reader, Wanted::Named(array)), object: Vec::new() }
    }

    fn reader(&mut self) -> &mut R {
        self.elements.reader()
    }

    /// Reads one object; false at the end.
    fn read(&mut self, parse: fn(usize, &[u8], &mut VecDeque<Found>), found: &mut VecDeque<Found>) -> bool {
        match self.elements.next(&mut self.object) {
            Ok(Some(line)) => parse(line, &self.object, found),
            Ok(None) => return false,
            Err(error @ ElementError::TooLong(line)) => found.push_back(Err(Refusal::skipped(line, error.to_string(), ""))),
            Err(error) => {
                let line = if let ElementError::NotJson(line, _) = &error { *line } else { 0 };
                found.push_back(Err(Refusal::broken(line, error.to_string())));
                return false;
            }
        }
        true
    }
}

/// Puts an indicator, or why its value is none, to what was found.
fn push(found: &mut VecDeque<Found>, line: usize, (kind, text): (Option<Kind>, &str), details: Details) {
    found.push_back(match pattern(kind, text) {
        Ok(pattern) => Ok(Indicator { pattern, details }),
        Err(reason) => Err(Refusal::skipped(line, reason, text)),
    });
}

/// The value that a text is, of a kind or of the one that it looks like.
fn pattern(kind: Option<Kind>, text: &str) -> Result<Pattern, &'static str> {
    let text = refang(text.trim());
    let mut out = Vec::new();
    match kind.unwrap_or_else(|| guess(&text)) {
        Kind::Ip => network(&text).ok_or("not an address or network").and_then(narrow),
        Kind::Domain => {
            if let Some(network) = network(&text) {
                return narrow(network);
            }
            // A name with a port, as MISP's `hostname|port`.
            let name = text.split([':', '|']).next().unwrap_or_default();
            let name = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')).unwrap_or(name);
            // An address with something behind it that is no port would be a name that no event has.
            if !keys::domain(name.as_bytes(), &mut out) || keys::address(&out).is_some() {
                return Err("not a domain name");
            }
            if !out.contains(&b'.') {
                return Err("a top-level domain or a name without a domain");
            }
            string(out).map(Pattern::Domain)
        }
        Kind::Url => {
            keys::url(text.as_bytes(), &mut out).ok_or("not a URL")?;
            string(out).map(Pattern::Url)
        }
        Kind::Hash if keys::hash(text.as_bytes(), &mut out) => Ok(Pattern::Hash(out)),
        Kind::Hash => Err("not an MD5, SHA-1 or SHA-2 hash"),
        Kind::Email => match text.split_once('@') {
            Some((name, host)) if !name.is_empty() && host.contains('.') && !text.contains(char::is_whitespace) => {
                Ok(Pattern::Email(text.to_ascii_lowercase()))
            }
            _ => Err("not an e-mail address"),
        },
    }
}

fn string(bytes: Vec<u8>) -> Result<String, &'static str> {
    String::from_utf8(bytes).map_err(|_| "not UTF-8")
}

/// What a text without a kind looks like.
fn guess(text: &str) -> Kind {
    if text.contains("://") {
        Kind::Url
    } else if network(text).is_some() {
        Kind::Ip
    } else if keys::hash(text.as_bytes(), &mut Vec::new()) {
        Kind::Hash
    } else if text.contains('/') {
        Kind::Url
    } else if text.contains('@') {
        Kind::Email
    } else {
        Kind::Domain
    }
}

/// As it was before somebody made it safe to click on.
fn refang(text: &str) -> Cow<'_, str> {
    let is_safe = text.contains("[.]") || text.contains("[:]") || text.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("hxxp"));
    if !is_safe {
        return Cow::Borrowed(text);
    }
    let text = text.replace("[.]", ".").replace("[:]", ":");
    match text.get(..4).filter(|head| head.eq_ignore_ascii_case("hxxp")).and_then(|_| text.get(4..)) {
        Some(rest) => Cow::Owned(format!("http{rest}")),
        None => Cow::Owned(text),
    }
}

/// A network or a single address, also one with a port behind it; IPv4 wherever it can be.
pub(super) fn network(text: &str) -> Option<IpNet> {
    const MAPPED_BITS: u8 = 96;
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network = parsed.or_else(|| with_port(text).map(IpNet::from))?.trunc();
    match (network, network.addr().to_canonical()) {
        (IpNet::V6(network), canonical @ IpAddr::V4(_)) if network.prefix_len() >= MAPPED_BITS => {
            IpNet::new(canonical, network.prefix_len() - MAPPED_BITS).ok()
        }
        _ => Some(network),
    }
}

fn with_port(text: &str) -> Option<IpAddr> {
    let (address, port) = text.rsplit_once([':', '|'])?;
    port.parse::<u16>().ok()?;
    match address.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']')?.parse().ok(),
        // The last group of an IPv6 address is no port.
        None => address.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

fn narrow(network: IpNet) -> Result<Pattern, &'static str> {
    let least = if network.addr().is_ipv4() { V4_PREFIX_MIN } else { V6_PREFIX_MIN };
    if network.prefix_len() < least { Err("too wide a network") } else { Ok(Pattern::Network(network)) }
}

/// A time as lists write them: RFC 3339, the same without a zone (UTC), a day, seconds since 1970.
fn time_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Some((seconds * 1000.0) as i64).filter(|ms| *ms > 0);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let text = text.strip_suffix(" UTC").unwrap_or(text);
    let civil = text.parse::<jiff::civil::DateTime>().or_else(|_| text.parse::<jiff::civil::Date>().map(Into::into)).ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// A number from 0 to 100.
fn confidence(text: &str) -> Option<u8> {
    text.trim().trim_end_matches('%').parse::<u8>().ok().filter(|percent| *percent <= 100)
}

/// A text that says something, cut.
fn text(text: &str) -> Option<String> {
    let text = cut(text.trim(), TEXT_BYTES_MAX);
    (!text.is_empty() && text != "None").then(|| text.to_owned())
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Reads a line without its end; false at the end of the text. Of a line that is too long the rest is passed over, and
/// `out` has more than [`LINE_BYTES_MAX`] bytes.
fn read_line(reader: &mut impl BufRead, out: &mut Vec<u8>) -> io::Result<bool> {
    let before = out.len();
    let is_there = io::Read::take(&mut *reader, LINE_BYTES_MAX as u64 + 1).read_until(b'\n', out)? > 0;
    if out.len() - before > LINE_BYTES_MAX && out.last() != Some(&b'\n') {
        reader.skip_until(b'\n')?;
    }
    if out.last() == Some(&b'\n') {
        out.pop();
        out.pop_if(|byte| *byte == b'\r');
    }
    Ok(is_there)
}

#[cfg(test)]
mod tests;
