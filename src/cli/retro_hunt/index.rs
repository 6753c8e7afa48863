//! Indicators by their value, and the words of a line: `bytes -> the indicators that stand in them`.
//!
//! A word is a run of letters, digits, `.`, `-`, `_` and `:`. It is looked up as an address, as a name and each name above it, as
//! a hash, and its parts between colons likewise (`inside:10.0.0.1`, `evil.example:443`). With what follows it is a link if a
//! `/` or `?` stands behind it, and an e-mail address if an `@` does.
//!
//! A line with backslashes is looked at a second time with JSON's escapes resolved.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::enrich::indicators::{Indicator, Pattern};
use crate::json;

/// Longest word that is looked up: SHA-512 in hexadecimal has 128 bytes, a name 253.
const WORD_BYTES_MAX: usize = 260;

/// Longest link that is looked up.
const LINK_BYTES_MAX: usize = 8_192;

type Table<K> = HashMap<K, u32, foldhash::fast::RandomState>;

/// What is told of an indicator.
struct Entry {
    kind: &'static str,
    text: Box<str>,
    /// From when on it is none any more.
    valid_until_ms: i64,
}

/// All indicators.
#[derive(Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    /// By length of the prefix; addresses of both families stand at the top of 128 bits.
    v4: Vec<(u128, Table<u128>)>,
    v6: Vec<(u128, Table<u128>)>,
    domains: Table<Box<[u8]>>,
    links: Table<Box<[u8]>>,
    /// By hexadecimal digits.
    hashes: Table<Box<[u8]>>,
    emails: Table<Box<[u8]>>,
}

impl Index {
    /// Number of indicators.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Kind and text of an indicator.
    pub(super) fn name(&self, id: u32) -> (&'static str, &str) {
        self.entries.get(id as usize).map_or(("", ""), |entry| (entry.kind, &*entry.text))
    }

    /// Whether an indicator is one for an event of this time.
    pub(super) fn counts(&self, id: u32, time_ms: i64) -> bool {
        self.entries.get(id as usize).is_some_and(|entry| time_ms < entry.valid_until_ms)
    }

    /// Adds an indicator; one that is there already counts once, as long as either does.
    pub(super) fn add(&mut self, Indicator { pattern, details }: &Indicator) {
        let next = self.entries.len() as u32;
        let text = pattern.to_string();
        let number = |table: &mut Table<Box<[u8]>>| *table.entry(text.as_bytes().into()).or_insert(next);
        let (kind, id) = match pattern {
            Pattern::Network(network) if network.prefix_len() == network.max_prefix_len() => ("ip", self.add_network(*network, next)),
            Pattern::Network(network) => ("cidr", self.add_network(*network, next)),
            Pattern::Domain(_) => ("domain", number(&mut self.domains)),
            Pattern::Url(_) => ("url", number(&mut self.links)),
            Pattern::Hash(_) => ("hash", number(&mut self.hashes)),
            Pattern::Email(_) => ("email", number(&mut self.emails)),
        };
        let valid_until_ms = details.valid_until_ms.unwrap_or(i64::MAX);
        match self.entries.get_mut(id as usize) {
            Some(entry) => entry.valid_until_ms = entry.valid_until_ms.max(valid_until_ms),
            None => self.entries.push(Entry { kind, text: text.into(), valid_until_ms }),
        }
    }

    /// The number of a network, which is `id` if it is new.
    fn add_network(&mut self, network: IpNet, id: u32) -> u32 {
        let (tables, address) = match network.network() {
            IpAddr::V4(address) => (&mut self.v4, u128::from(address.to_bits()) << 96),
            IpAddr::V6(address) => (&mut self.v6, address.to_bits()),
        };
        let mask = u128::MAX.checked_shl(128 - u32::from(network.prefix_len())).unwrap_or(0);
        if !tables.iter().any(|(other, _)| *other == mask) {
            tables.push((mask, Table::default()));
        }
        let table = tables.iter_mut().find(|(other, _)| *other == mask);
        table.map_or(id, |(_, table)| *table.entry(address).or_insert(id))
    }

    fn address(&self, address: IpAddr, found: &mut Vec<u32>) {
        let (tables, address) = match address.to_canonical() {
            IpAddr::V4(address) => (&self.v4, u128::from(address.to_bits()) << 96),
            IpAddr::V6(address) => (&self.v6, address.to_bits()),
        };
        found.extend(tables.iter().filter_map(|(mask, table)| table.get(&(address & mask))));
    }
}

/// Looks at lines; working memory.
#[derive(Default)]
pub(super) struct Words {
    unescaped: Vec<u8>,
    folded: Vec<u8>,
    found: Vec<u32>,
}

impl Words {
    /// The indicators that stand in `line`, each once, ascending.
    pub(super) fn find(&mut self, line: &[u8], index: &Index) -> &[u32] {
        self.found.clear();
        self.scan(line, index);
        if memchr::memchr(b'\\', line).is_some() {
            let mut unescaped = std::mem::take(&mut self.unescaped);
            unescaped.clear();
            json::unescape(line, &mut unescaped);
            self.scan(&unescaped, index);
            self.unescaped = unescaped;
        }
        self.found.sort_unstable();
        self.found.dedup();
        &self.found
    }

    fn scan(&mut self, line: &[u8], index: &Index) {
        let mut at = 0;
        while let Some(start) = line.get(at..).and_then(|rest| rest.iter().position(|byte| is_word(*byte))) {
            let start = at + start;
            let rest = line.get(start..).unwrap_or_default();
            let end = start + rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
            let word = line.get(start..end).unwrap_or_default();
            if word.len() <= WORD_BYTES_MAX {
                self.word(word, index);
            }
            match line.get(end) {
                Some(b'@') if !index.emails.is_empty() => self.email(word, line.get(end + 1..).unwrap_or_default(), index),
                next if !index.links.is_empty() && memchr::memchr(b'.', word).is_some() && next != Some(&b'@') => self.link(rest, index),
                _ => {}
            }
            at = end;
        }
    }

    fn word(&mut self, word: &[u8], index: &Index) {
        let colons = memchr::memchr_iter(b':', word).count();
        if colons > 1
            && let Some(address) = parse(word)
        {
            return index.address(address, &mut self.found);
        }
        for part in word.split(|byte| *byte == b':') {
            self.part(trim(part), index);
        }
    }

    /// A word without colons.
    fn part(&mut self, part: &[u8], index: &Index) {
        if part.len() < 4 {
            return;
        }
        let has_dot = memchr::memchr(b'.', part).is_some();
        if !has_dot {
            if !index.hashes.is_empty() && part.len() >= 32 {
                self.fold(part);
                self.found.extend(index.hashes.get(self.folded.as_slice()));
            }
            return;
        }
        if part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-')) {
            // A range of addresses has two.
            let addresses = part.split(|byte| *byte == b'-').filter_map(parse);
            addresses.for_each(|address| index.address(address, &mut self.found));
        } else if !index.domains.is_empty() {
            self.fold(part);
            let names =
                std::iter::successors(Some(self.folded.as_slice()), |name| memchr::memchr(b'.', name).and_then(|dot| name.get(dot + 1..)));
            self.found.extend(names.filter_map(|name| index.domains.get(name)));
        }
    }

    /// A link that begins at `text`.
    fn link(&mut self, text: &[u8], index: &Index) {
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || b"\"'<>\\^`{|}#".contains(byte);
        let text = text.get(..LINK_BYTES_MAX).unwrap_or(text);
        let text = text.get(..text.iter().position(is_end).unwrap_or(text.len())).unwrap_or_default();
        let host = text.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(text.len());
        let (host, path) = text.split_at(host);
        let host = host.strip_suffix(b":80").or_else(|| host.strip_suffix(b":443")).unwrap_or(host);
        self.fold(host);
        if !path.starts_with(b"/") {
            self.folded.push(b'/');
        }
        self.folded.extend_from_slice(path);
        // In running text a link may be followed by a sign that is not its own.
        let whole = index.links.get(self.folded.as_slice());
        let trimmed = || index.links.get(self.folded.trim_ascii_end().strip_suffix(b",").or_else(|| self.folded.strip_suffix(b")"))?);
        self.found.extend(whole.or_else(trimmed));
    }

    fn email(&mut self, user: &[u8], behind: &[u8], index: &Index) {
        let end = behind.iter().position(|byte| !is_word(*byte) || *byte == b':').unwrap_or(behind.len());
        let host = trim(behind.get(..end).unwrap_or_default());
        let user = user.rsplit(|byte| *byte == b':').next().unwrap_or_default();
        if user.len() + host.len() < WORD_BYTES_MAX {
            self.fold(user);
            self.folded.push(b'@');
            self.folded.extend(host.iter().map(u8::to_ascii_lowercase));
            self.found.extend(index.emails.get(self.folded.as_slice()));
        }
    }

    fn fold(&mut self, text: &[u8]) {
        self.folded.clear();
        self.folded.extend(text.iter().map(u8::to_ascii_lowercase));
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':') || byte >= 0x80
}

fn trim(part: &[u8]) -> &[u8] {
    let is_edge = |byte: &u8| matches!(byte, b'.' | b'-');
    let start = part.iter().position(|byte| !is_edge(byte)).unwrap_or(part.len());
    let end = part.iter().rposition(|byte| !is_edge(byte)).map_or(start, |last| last + 1);
    part.get(start..end).unwrap_or_default()
}

fn parse(text: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::indicators::{Details, Format, read_indicators};

    fn found(indicators: &[&str], line: &str) -> Vec<String> {
        let mut index = Index::default();
        let list = indicators.join("\n");
        read_indicators(&Format::Plain(None), list.as_bytes()).for_each(|indicator| index.add(&indicator.unwrap()));
        let mut words = Words::default();
        words.find(line.as_bytes(), &index).iter().map(|id| index.name(*id).1.to_owned()).collect()
    }

    #[test]
    fn indicators_are_found_as_whole_words_wherever_they_stand() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        let upper = format!("hash=\"{}\"", md5.to_uppercase());
        for (indicator, line, expected) in [
            ("198.51.100.7", "src=198.51.100.7 dst=10.0.0.1", true),
            ("198.51.100.7", "Deny tcp src outside:198.51.100.7/443", true),
            ("198.51.100.7", "198.51.100.7:443,", true),
            ("198.51.100.7", "198.51.100.70", false),
            ("198.51.100.7", "1198.51.100.7", false),
            ("198.51.100.0/24", "range 198.51.99.1-198.51.100.9", true),
            ("2001:db8::/32", "[2001:db8::1]:443", true),
            ("198.51.100.7", "::ffff:198.51.100.7", true),
            ("evil.example", "host: www.Evil.Example.", true),
            ("evil.example", "notevil.example", false),
            ("evil.example", "evil.example.org", false),
            ("evil.example", "https://evil.example:8443/x", true),
            ("evil.example", "http:\\/\\/evil.example\\/x", true),
            ("http://evil.example/A?b=1", "url=\"HTTP://EVIL.example:80/A?b=1\"", true),
            ("http://evil.example/A?b=1", "evil.example/a?b=1", false),
            ("http://evil.example/A", "{\"u\":\"http:\\/\\/evil.example\\/A\"}", true),
            ("http://evil.example", "GET http://evil.example/ 200", true),
            (md5, upper.as_str(), true),
            (md5, "d41d8cd98f00b204e9800998ecf8427e0", false),
            ("bad@evil.example", "from=<Bad@Evil.Example>", true),
            ("bad@evil.example", "to:bad@evil.example,", true),
            ("bad@evil.example", "notbad@evil.example", false),
        ] {
            assert_eq!(found(&[indicator], line).len(), usize::from(expected), "{indicator} in {line}");
        }
    }

    #[test]
    fn an_event_counts_once_for_each_indicator() {
        let all = ["198.51.100.0/24", "198.51.100.7", "evil.example", "198.51.100.7/32"];
        assert_eq!(found(&all, "198.51.100.7 198.51.100.7 a.evil.example b.evil.example"), all[..3]);
    }

    #[test]
    fn an_indicator_counts_until_its_last_end() {
        let mut index = Index::default();
        let mut add = |text: &str, valid_until_ms| {
            let details = Details { valid_until_ms, ..Details::default() };
            index.add(&Indicator { pattern: Pattern::Domain(text.into()), details });
        };
        add("a.example", Some(10));
        add("a.example", Some(20));
        add("a.example", Some(5));
        add("b.example", Some(10));
        add("b.example", None);
        assert_eq!(index.len(), 2);
        assert_eq!([9, 19, 20].map(|time_ms| index.counts(0, time_ms)), [true, true, false]);
        assert!(index.counts(1, i64::MAX - 1));
    }
}
