//! A list in memory: an index for each kind of indicator, and what is said of each.
//!
//! Networks are ranges of addresses (IPv4: 16 bytes for an address that stands alone); all others are byte strings found
//! by hash, a SHA-256 as 32 bytes. What is said of an indicator is packed into a string that is kept once however many
//! say the same, so an indicator without details of its own takes 4 bytes more than its key. Of an indicator that stands
//! twice the one counts that is valid longer, of equal ones the first.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::clock;
use crate::enrich::indicators::{Details, Format, Indicator, Kind, LeftOut, Pattern, Refusal, read_indicators};
use crate::enrich::keys;
use crate::enrich::networks::{Network, Networks};
use crate::enrich::pool::Pool;
use crate::error::{Diagnostic, Diagnostics};

/// What is asked of a list.
#[derive(Clone, Debug)]
pub(super) struct Demands {
    pub(super) format: Format,
    pub(super) entries_max: usize,
    pub(super) skip_private: bool,
    pub(super) allow_empty: bool,
}

/// The indicators of one list.
pub(super) struct Content {
    networks: Networks,
    /// By row of `networks`.
    network_details: Vec<u32>,
    /// Networks of more than one address, by row.
    wide: BTreeMap<u32, IpNet>,
    domains: Keyed,
    urls: Keyed,
    hashes: Keyed,
    emails: Keyed,
    /// Packed [`Details`].
    details: Pool,
    /// What is left out of the list, as warnings.
    notes: Diagnostics,
}

/// An indicator that was found.
pub(super) struct Found<'a> {
    /// What ECS calls its kind.
    pub(super) type_name: &'static str,
    /// The indicator as it is in the list.
    pub(super) name: Name<'a>,
    /// What is said of it.
    pub(super) details: Unpacked<'a>,
}

/// The text of an indicator.
pub(super) enum Name<'a> {
    Address(IpAddr),
    Network(IpNet),
    Text(&'a [u8]),
    Hash(&'a [u8]),
}

impl Content {
    /// Reads a list.
    ///
    /// # Errors
    /// It is none, has too many entries, or nothing in it can be used.
    pub(super) fn read(path: &Path, reader: impl BufRead, demands: &Demands) -> Result<Self, Diagnostics> {
        let mut build = Build::new();
        for found in read_indicators(&demands.format, reader) {
            match found {
                Ok(Indicator { pattern: Pattern::Network(network), .. }) if demands.skip_private && is_private(network) => {
                    build.left_out.add(
                        0,
                        "private or reserved addresses (`skip_private: false` takes them)".to_owned(),
                        network.to_string(),
                    );
                }
                Ok(Indicator { pattern, details }) if details.valid_until_ms.is_some_and(|until| until <= clock::now_ms()) => {
                    build.left_out.add(0, "no longer valid".to_owned(), pattern.to_string());
                }
                Ok(_) if build.entries >= demands.entries_max => {
                    let message = format!("the list has more than {} indicators", demands.entries_max);
                    return Err(Diagnostic::error(path, 0, 0, "", message).help("`max_entries` says how many are taken").into());
                }
                Ok(indicator) => build.add(indicator),
                Err(Refusal::Skipped { line, reason, text }) => build.left_out.add(line, reason.into_owned(), text),
                Err(Refusal::Broken { line, message, help }) => {
                    return Err(Diagnostics::from(Diagnostic { help, ..Diagnostic::error(path, line, 0, "", message) }));
                }
            }
        }
        if build.entries > 0 || demands.allow_empty {
            return Ok(build.finish(path));
        }
        let help = "a list that is empty on purpose: `allow_empty: true`";
        let mut diagnostics =
            Diagnostics::from(Diagnostic::error(path, 0, 0, "", "there is no indicator in it that can be used").help(help));
        diagnostics.0.append(&mut build.left_out.warnings(path).0);
        Err(diagnostics)
    }

    /// What was left out.
    pub(super) fn notes(&self) -> &Diagnostics {
        &self.notes
    }

    /// The indicator that a value is or belongs to; `scratch` is working memory.
    pub(super) fn find(&self, kind: Kind, value: &[u8], scratch: &mut Vec<u8>, now_ms: i64) -> Option<Found<'_>> {
        match kind {
            Kind::Ip => self.address(keys::address(value)?, now_ms),
            Kind::Domain if keys::domain(value, scratch) => self.host(scratch, now_ms),
            Kind::Domain => self.host(value, now_ms),
            Kind::Url => {
                let host_len = keys::url(value, scratch)?;
                match self.urls.find(scratch, &self.details, now_ms) {
                    Some((name, details)) => Some(Found { type_name: "url", name: Name::Text(name), details }),
                    None => self.host(scratch.get(..host_len)?, now_ms),
                }
            }
            Kind::Hash => {
                if !keys::hash(value, scratch) {
                    return None;
                }
                let (name, details) = self.hashes.find(scratch, &self.details, now_ms)?;
                Some(Found { type_name: "file", name: Name::Hash(name), details })
            }
            Kind::Email => {
                scratch.clear();
                scratch.extend(value.iter().map(u8::to_ascii_lowercase));
                let (name, details) = self.emails.find(scratch, &self.details, now_ms)?;
                Some(Found { type_name: "email-addr", name: Name::Text(name), details })
            }
        }
    }

    fn address(&self, address: IpAddr, now_ms: i64) -> Option<Found<'_>> {
        let row = self.networks.find(address)?;
        let details =
            Unpacked::of(self.details.bytes(*self.network_details.get(row as usize)?)).filter(|details| details.counts(now_ms))?;
        let name = self.wide.get(&row).map_or(Name::Address(address), |network| Name::Network(*network));
        Some(Found { type_name: if address.is_ipv4() { "ipv4-addr" } else { "ipv6-addr" }, name, details })
    }

    /// A name in small letters, or an address in the place of one.
    fn host(&self, host: &[u8], now_ms: i64) -> Option<Found<'_>> {
        let bare = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host);
        if let Some(address) = keys::address(bare) {
            return self.address(address, now_ms);
        }
        let (name, details) =
            keys::suffixes(host).filter(|name| name.contains(&b'.')).find_map(|name| self.domains.find(name, &self.details, now_ms))?;
        Some(Found { type_name: "domain-name", name: Name::Text(name), details })
    }
}

/// Byte strings with details.
struct Keyed {
    keys: Pool,
    /// By number of the key.
    details: Vec<u32>,
}

impl Keyed {
    fn new() -> Self {
        Self { keys: Pool::new(), details: Vec::new() }
    }

    fn find<'a>(&'a self, key: &[u8], pool: &'a Pool, now_ms: i64) -> Option<(&'a [u8], Unpacked<'a>)> {
        if self.details.is_empty() {
            return None;
        }
        let number = self.keys.find(key)?;
        let details = Unpacked::of(pool.bytes(*self.details.get(number as usize)?))?;
        details.counts(now_ms).then(|| (self.keys.bytes(number), details))
    }

    fn insert(&mut self, key: &[u8], details: u32, pool: &Pool) {
        let number = self.keys.insert(key) as usize;
        match self.details.get_mut(number) {
            None => self.details.push(details),
            Some(first) if lasts_longer(pool, details, *first) => *first = details,
            Some(_) => {}
        }
    }

    fn shrink(mut self) -> Self {
        self.keys.shrink();
        self.details.shrink_to_fit();
        self
    }
}

fn lasts_longer(pool: &Pool, one: u32, other: u32) -> bool {
    let end = |details: u32| Unpacked::of(pool.bytes(details)).and_then(|details| details.valid_until_ms).unwrap_or(i64::MAX);
    end(one) > end(other)
}

/// What is said of an indicator, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unpacked<'a> {
    pub(super) confidence: Option<u8>,
    pub(super) provider: &'a [u8],
    pub(super) description: &'a [u8],
    pub(super) first_seen_ms: Option<i64>,
    pub(super) last_seen_ms: Option<i64>,
    valid_until_ms: Option<i64>,
}

/// Stands for a time or number that is not known.
const NOTHING: i64 = i64::MIN;

fn pack(details: &Details, out: &mut Vec<u8>) {
    out.clear();
    let provider = details.provider.as_deref().unwrap_or_default();
    let numbers = [
        details.confidence.map_or(NOTHING, i64::from),
        details.first_seen_ms.unwrap_or(NOTHING),
        details.last_seen_ms.unwrap_or(NOTHING),
        details.valid_until_ms.unwrap_or(NOTHING),
        provider.len() as i64,
    ];
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    out.extend_from_slice(provider.as_bytes());
    out.extend_from_slice(details.description.as_deref().unwrap_or_default().as_bytes());
}

impl<'a> Unpacked<'a> {
    /// What [`pack`] made.
    fn of(packed: &'a [u8]) -> Option<Self> {
        let (numbers, texts) = packed.split_first_chunk::<40>()?;
        let number = |index: usize| {
            let bytes = numbers.chunks_exact(8).nth(index)?;
            Some(i64::from_le_bytes(bytes.try_into().ok()?)).filter(|number| *number != NOTHING)
        };
        let (provider, description) = texts.split_at_checked(usize::try_from(number(4)?).ok()?)?;
        Some(Self {
            confidence: number(0).and_then(|number| u8::try_from(number).ok()),
            provider,
            description,
            first_seen_ms: number(1),
            last_seen_ms: number(2),
            valid_until_ms: number(3),
        })
    }

    fn counts(&self, now_ms: i64) -> bool {
        self.valid_until_ms.is_none_or(|until| until > now_ms)
    }
}

/// A [`Content`] being built.
struct Build {
    networks: Vec<Network>,
    network_details: Vec<u32>,
    wide: BTreeMap<u32, IpNet>,
    domains: Keyed,
    urls: Keyed,
    hashes: Keyed,
    emails: Keyed,
    details: Pool,
    packed: Vec<u8>,
    entries: usize,
    left_out: LeftOut,
}

impl Build {
    fn new() -> Self {
        Self {
            networks: Vec::new(),
            network_details: Vec::new(),
            wide: BTreeMap::new(),
            domains: Keyed::new(),
            urls: Keyed::new(),
            hashes: Keyed::new(),
            emails: Keyed::new(),
            details: Pool::new(),
            packed: Vec::new(),
            entries: 0,
            left_out: LeftOut::default(),
        }
    }

    fn add(&mut self, Indicator { pattern, details }: Indicator) {
        self.entries += 1;
        pack(&details, &mut self.packed);
        let details = self.details.insert(&self.packed);
        match pattern {
            Pattern::Network(network) => {
                let row = self.network_details.len() as u32;
                self.networks.push(Network { network, row });
                self.network_details.push(details);
                if network.prefix_len() < network.max_prefix_len() {
                    self.wide.insert(row, network);
                }
            }
            Pattern::Domain(text) => self.domains.insert(text.as_bytes(), details, &self.details),
            Pattern::Url(text) => self.urls.insert(text.as_bytes(), details, &self.details),
            Pattern::Hash(bytes) => self.hashes.insert(&bytes, details, &self.details),
            Pattern::Email(text) => self.emails.insert(text.as_bytes(), details, &self.details),
        }
    }

    fn finish(mut self, path: &Path) -> Content {
        let notes = self.left_out.warnings(path);
        self.networks.sort_unstable();
        let (rows, details) = (&self.network_details, &self.details);
        self.networks.dedup_by(|later, first| {
            let is_same = later.network == first.network;
            if is_same && lasts_longer(details, rows[later.row as usize], rows[first.row as usize]) {
                first.row = later.row;
            }
            is_same
        });
        let networks = Networks::new(&self.networks);
        self.network_details.shrink_to_fit();
        self.details.shrink();
        Content {
            networks,
            network_details: self.network_details,
            wide: self.wide,
            domains: self.domains.shrink(),
            urls: self.urls.shrink(),
            hashes: self.hashes.shrink(),
            emails: self.emails.shrink(),
            details: self.details,
            notes,
        }
    }
}

/// Whether a network has addresses that many networks use for themselves, or that nobody has (RFC 6890).
fn is_private(network: IpNet) -> bool {
    const RANGES: [([u8; 4], u8); 8] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 168, 0, 0], 16),
        ([224, 0, 0, 0], 3),
    ];
    const RANGES_V6: [(u16, u8); 4] = [(0, 64), (0xfc00, 7), (0xfe80, 10), (0xff00, 8)];
    let overlaps = |range: IpNet| range.contains(&network) || network.contains(&range);
    match network {
        IpNet::V4(_) => RANGES.iter().any(|(address, len)| IpNet::new(IpAddr::from(*address), *len).is_ok_and(overlaps)),
        IpNet::V6(_) => {
            RANGES_V6.iter().any(|(first, len)| IpNet::new(IpAddr::from([*first, 0, 0, 0, 0, 0, 0, 0]), *len).is_ok_and(overlaps))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demands() -> Demands {
        Demands { format: Format::Plain(None), entries_max: 1000, skip_private: true, allow_empty: false }
    }

    fn read(text: &str, demands: &Demands) -> Result<Content, String> {
        Content::read(Path::new("l.txt"), text.as_bytes(), demands).map_err(|diagnostics| diagnostics.to_string())
    }

    fn name(found: &Found<'_>) -> String {
        match &found.name {
            Name::Address(address) => address.to_string(),
            Name::Network(network) => network.to_string(),
            Name::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Name::Hash(bytes) => format!("{} bytes", bytes.len()),
        }
    }

    #[test]
    fn every_kind_is_found_where_it_belongs() {
        let list = "198.51.100.7\n203.0.113.0/24\n2001:db8:bad::/48\nevil.example\nhttp://shop.example/a?b\nd41d8cd98f00b204e9800998ecf8427e\nPhish@mail.example\n";
        let content = read(list, &demands()).unwrap();
        let find = |kind, value: &str| {
            content.find(kind, value.as_bytes(), &mut Vec::new(), 0).map(|found| format!("{} {}", found.type_name, name(&found)))
        };
        for (kind, value, expected) in [
            (Kind::Ip, "198.51.100.7", Some("ipv4-addr 198.51.100.7")),
            (Kind::Ip, "::ffff:198.51.100.7", Some("ipv4-addr 198.51.100.7")),
            (Kind::Ip, "203.0.113.9", Some("ipv4-addr 203.0.113.0/24")),
            (Kind::Ip, "2001:db8:bad::9", Some("ipv6-addr 2001:db8:bad::/48")),
            (Kind::Ip, "198.51.100.8", None),
            (Kind::Ip, "evil.example", None),
            (Kind::Domain, "WWW.evil.example.", Some("domain-name evil.example")),
            (Kind::Domain, "notevil.example", None),
            (Kind::Domain, "example", None),
            (Kind::Domain, "203.0.113.9", Some("ipv4-addr 203.0.113.0/24")),
            (Kind::Url, "https://shop.example/a?b#c", Some("url shop.example/a?b")),
            (Kind::Url, "shop.example/a", None),
            (Kind::Url, "http://a.evil.example:8080/x", Some("domain-name evil.example")),
            (Kind::Url, "http://203.0.113.9/x", Some("ipv4-addr 203.0.113.0/24")),
            (Kind::Hash, "D41D8CD98F00B204E9800998ECF8427E", Some("file 16 bytes")),
            (Kind::Hash, "d41d8cd98f00b204e9800998ecf8427f", None),
            (Kind::Email, "phish@MAIL.example", Some("email-addr phish@mail.example")),
        ] {
            assert_eq!(find(kind, value).as_deref(), expected, "{kind:?} {value}");
        }
    }

    #[test]
    fn what_is_left_out_is_counted_with_its_reason() {
        let content = read("evil.example\n10.1.2.3\n192.168.0.0/16\n0.0.0.0/0\ncom\n", &demands()).unwrap();
        assert_eq!(
            content.notes().to_string(),
            "l.txt:5: warning: 1 left out: a top-level domain or a name without a domain, such as `com`\n\
             l.txt: warning: 2 left out: private or reserved addresses (`skip_private: false` takes them), such as `10.1.2.3/32`\n\
             l.txt:4: warning: 1 left out: too wide a network, such as `0.0.0.0/0`"
        );
        let content = read("10.1.2.3\n", &Demands { skip_private: false, ..demands() }).unwrap();
        assert!(content.find(Kind::Ip, b"10.1.2.3", &mut Vec::new(), 0).is_some());
    }

    #[test]
    fn nothing_too_much_and_what_is_no_list_are_refused() {
        for (text, expected) in [
            ("", "l.txt: error: there is no indicator in it that can be used\n  help: a list that is empty on purpose"),
            ("404 page not found\n", "no indicator in it that can be used"),
            ("{\"error\":\"wrong key\"}\n", "1 left out: more than one word"),
            ("\n <!DOCTYPE html><html>evil.example</html>", "l.txt:1: error: this is a web page or XML"),
            ("PK\u{3}\u{4}", "ZIP"),
            ("a.example\nb.example\nc.example", "more than 2 indicators"),
        ] {
            let error = read(text, &Demands { entries_max: 2, ..demands() }).err().unwrap();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(read("", &Demands { allow_empty: true, ..demands() }).is_ok());
    }

    #[test]
    fn an_indicator_ends_when_it_is_no_longer_valid_and_the_longest_of_doubles_counts() {
        // 2026-11-21.
        clock::fix_ms(Some(1_795_240_800_000));
        let columns = crate::enrich::indicators::Columns { value: "v".to_owned(), valid_until: Some("u".to_owned()), ..Default::default() };
        let demands = Demands { format: Format::Csv(Box::new(columns)), ..demands() };
        let content = read("v,u\nover.example,2026-11-20\na.example,2030-01-01\na.example,2031-01-01\na.example,2029-01-01\n192.0.2.1,2030-01-01\n192.0.2.1,\n192.0.2.2,2030-01-01\n", &demands).unwrap();
        let counts = |kind, value: &str, now: &str| {
            let now_ms = now.parse::<jiff::Timestamp>().unwrap().as_millisecond();
            content.find(kind, value.as_bytes(), &mut Vec::new(), now_ms).is_some()
        };
        assert!(counts(Kind::Domain, "a.example", "2030-06-01T00:00:00Z"));
        assert!(!counts(Kind::Domain, "a.example", "2031-01-01T00:00:00Z"));
        assert!(counts(Kind::Ip, "192.0.2.1", "2099-01-01T00:00:00Z"));
        assert!(counts(Kind::Ip, "192.0.2.2", "2029-12-31T00:00:00Z"));
        assert!(!counts(Kind::Ip, "192.0.2.2", "2030-01-01T00:00:00Z"));
        assert_eq!(content.notes().to_string(), "l.txt: warning: 1 left out: no longer valid, such as `over.example`");
    }

    #[test]
    fn details_come_out_as_they_went_in() {
        let details = Details {
            confidence: Some(75),
            provider: Some("ünit 42".to_owned()),
            description: Some("Emotet".to_owned()),
            first_seen_ms: Some(1),
            last_seen_ms: None,
            valid_until_ms: Some(i64::MAX),
        };
        let mut packed = Vec::new();
        pack(&details, &mut packed);
        let unpacked = Unpacked::of(&packed).unwrap();
        assert_eq!((unpacked.confidence, unpacked.first_seen_ms, unpacked.last_seen_ms), (Some(75), Some(1), None));
        assert_eq!((unpacked.provider, unpacked.description), ("ünit 42".as_bytes(), &b"Emotet"[..]));
        pack(&Details::default(), &mut packed);
        assert_eq!(
            Unpacked::of(&packed).unwrap(),
            Unpacked { confidence: None, provider: b"", description: b"", first_seen_ms: None, last_seen_ms: None, valid_until_ms: None }
        );
    }
}
