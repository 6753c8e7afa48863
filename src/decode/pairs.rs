//! `key=value` text: finding the pairs, and which of them anybody wants.
//!
//! Shared by the decoders of such formats. [`Keys`] says what a key is for, [`scan`] walks a line of
//! `key=value key="quoted value"`, [`unescape`] takes backslashes out of a value. Time is linear in the
//! line: no byte is looked at more than a few times, whatever the line holds.

use std::ops::Range;

use crate::event::{Kind, Row, SlotId, Span, Value};
use crate::scan::for_each_of;

/// Longest key that is looked up: the longest of any vendor's reference (CEF's
/// `destinationTranslatedZoneExternalID`) has 35 bytes.
const KEY_BYTES_MAX: usize = 64;

/// Keys and what they are for: a hash table that is asked once a pair.
#[derive(Clone, Debug)]
pub(super) struct Keys<T> {
    entries: Vec<(Box<[u8]>, T)>,
    /// Open-addressed; number of the entry plus 1. A power of two, at least four times the entries.
    table: Vec<u16>,
}

impl<T: Copy> Keys<T> {
    /// A table of these keys; the first meaning of a key stays.
    pub(super) fn new<'k>(keys: impl IntoIterator<Item = (&'k str, T)>) -> Self {
        let mut entries: Vec<(Box<[u8]>, T)> = Vec::new();
        for (key, value) in keys {
            if entries.iter().all(|(known, _)| **known != *key.as_bytes()) && entries.len() < usize::from(u16::MAX) {
                entries.push((key.as_bytes().into(), value));
            }
        }
        let mut table = vec![0u16; (entries.len() * 4).next_power_of_two().max(16)];
        let mask = table.len() - 1;
        for (index, (key, _)) in entries.iter().enumerate() {
            let mut at = hash(key) as usize;
            while table[at & mask] != 0 {
                at += 1;
            }
            table[at & mask] = index as u16 + 1;
        }
        Self { entries, table }
    }

    /// What `key` is for.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<T> {
        let mask = self.table.len() - 1;
        let mut at = hash(key) as usize;
        // Ends: at most a quarter of the table is used.
        loop {
            let (known, value) = self.entries.get(usize::from(self.table[at & mask]).wrapping_sub(1))?;
            if **known == *key {
                return Some(*value);
            }
            at += 1;
        }
    }
}

/// Mixes length, start and end of a key. Only wanted keys are in a table, so a sender cannot fill it.
#[inline]
fn hash(key: &[u8]) -> u32 {
    let (first, last) = match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (key.first_chunk::<4>(), key.last_chunk::<4>()) {
            (Some(first), Some(last)) => (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last))),
            _ => (key.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)), 0),
        },
    };
    ((first ^ last.rotate_left(23) ^ key.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// A value of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The value without its quotes.
    pub(super) span: Span,
    /// Whether it stood in quotes: only then are backslashes escapes.
    pub(super) quoted: bool,
}

/// How a walk over the pairs ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// Keys seen, wanted or not.
    pub(super) keys: usize,
    /// Whether the line ended inside quotes.
    pub(super) open: bool,
}

/// Walks the pairs of `span` and gives every value whose key is in `keys`, in order.
///
/// Pairs are separated by blanks, tabs, commas or semicolons. A key is letters, digits and `_ - . @ /`, right
/// behind a separator, so that the `=` in `url=/a?b=c` is none of a pair. A value without quotes ends at the
/// first blank or tab; one with quotes ends at a quote that no backslash escapes and that a separator or a
/// closing bracket follows, so that `msg="a "b" c"` costs at most the words in the middle.
pub(super) fn scan<T: Copy>(bytes: &[u8], span: Span, keys: &Keys<T>, mut hit: impl FnMut(T, Found)) -> Walked {
    let (start, end) = (span.start as usize, span.end as usize);
    let mut walked = Walked { keys: 0, open: false };
    // Where the value of the last key begins, and what the key is for.
    let mut value = start;
    let mut pending: Option<T> = None;
    for_each_of(bytes, start, end, b'=', b'"', |at| {
        if bytes[at] == b'"' {
            if !walked.open {
                walked.open = at == value && walked.keys > 0;
            } else if closes(bytes, value + 1, at, end) {
                walked.open = false;
                if let Some(wanted) = pending.take() {
                    hit(wanted, Found { span: Span::new(value + 1, at), quoted: true });
                }
                value = at + 1;
            }
        } else if !walked.open {
            let key = key_before(bytes, if walked.keys == 0 { start } else { value }, at, walked.keys == 0);
            if !key.is_empty() {
                if let Some(wanted) = pending.take() {
                    hit(wanted, unquoted(bytes, value, key.start));
                }
                pending = keys.find(&bytes[key]);
                walked.keys += 1;
                value = at + 1;
            }
        }
        true
    });
    if let Some(wanted) = pending {
        let found = if walked.open { Found { span: Span::new(value + 1, end), quoted: true } } else { unquoted(bytes, value, end) };
        hit(wanted, found);
    }
    walked
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b',' | b';')
}

/// The key that ends at `at`, empty if there is none. It begins behind a separator, at `from` only if that is
/// the start of the line.
#[inline]
fn key_before(bytes: &[u8], from: usize, at: usize, first: bool) -> Range<usize> {
    let lowest = from.max(at.saturating_sub(KEY_BYTES_MAX));
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@' | b'/');
    let len = bytes[lowest..at].iter().rev().take_while(|byte| is_key(byte)).count();
    let begin = at - len;
    let behind_separator =
        if begin > from { is_separator(bytes[begin - 1]) || matches!(bytes[begin - 1], b'(' | b'[' | b'{' | b'"') } else { first };
    if behind_separator { begin..at } else { at..at }
}

/// Whether the quote at `at` ends the value that begins at `from`.
fn closes(bytes: &[u8], from: usize, at: usize, end: usize) -> bool {
    let escapes = bytes[from..at].iter().rev().take_while(|byte| **byte == b'\\').count();
    let behind = bytes[at + 1..end]
        .first()
        .is_none_or(|byte| is_separator(*byte) || matches!(byte, b'|' | b')' | b']' | b'}' | b'>' | b'\r' | b'\n'));
    escapes % 2 == 0 && behind
}

/// The value of `bytes[from..to]` up to its first blank, a comma or semicolon at its end left out.
fn unquoted(bytes: &[u8], from: usize, to: usize) -> Found {
    let text = &bytes[from..to];
    let mut len = memchr::memchr3(b' ', b'\t', b'"', text).unwrap_or(text.len());
    while len > 0 && matches!(text[len - 1], b',' | b';') {
        len -= 1;
    }
    Found { span: Span::new(from, from + len), quoted: false }
}

/// Sets a slot that is still missing: of repeated keys the first counts. The attacker-controlled parts of a
/// log line stand behind the device's own, so a pair smuggled into one of them cannot replace those. With a
/// table of escapes, backslashes are taken out into the arena where there are any.
pub(super) fn set_first(row: &mut Row<'_>, slot: SlotId, span: Span, escapes: Option<fn(u8) -> Option<u8>>) {
    if span.is_empty() || row.value(slot) != Value::Missing {
        return;
    }
    let text = span.of(row.bytes());
    match escapes {
        Some(escapes) if memchr::memchr(b'\\', text).is_some() => row.set_written(slot, Kind::Text, |out| unescape(text, escapes, out)),
        _ => row.set_text(slot, span),
    }
}

/// Appends `text` without its backslash escapes; `escapes` gives what a character behind a backslash stands
/// for, and one that stands for nothing keeps its backslash (`C:\Windows`).
pub(super) fn unescape(text: &[u8], escapes: fn(u8) -> Option<u8>, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, behind) = rest.split_at(at);
        out.extend_from_slice(plain);
        match behind.get(1).and_then(|byte| escapes(*byte)) {
            Some(byte) => {
                out.push(byte);
                rest = &behind[2..];
            }
            None => {
                out.push(b'\\');
                rest = &behind[1..];
            }
        }
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(line: &str, wanted: &[&str]) -> (Vec<String>, Walked) {
        let keys = Keys::new(wanted.iter().map(|key| (*key, *key)));
        let mut found = Vec::new();
        let walked = scan(line.as_bytes(), Span::new(0, line.len()), &keys, |key, value| {
            found.push(format!("{key}:{}", String::from_utf8_lossy(value.span.of(line.as_bytes()))));
        });
        (found, walked)
    }

    #[test]
    fn pairs_are_found_as_real_senders_write_them() {
        let wanted = ["a", "b", "c", "url"];
        let cases: &[(&str, &[&str])] = &[
            ("a=1 b=2", &["a:1", "b:2"]),
            ("a=1,b=2,c=\"x, y=z\",url=/", &["a:1", "b:2", "c:x, y=z", "url:/"]),
            ("a=1; b=\"2\"; c=3", &["a:1", "b:2", "c:3"]),
            ("url=/x?a=1&b=2 b=3", &["url:/x?a=1&b=2", "b:3"]),
            ("url=/x?a=1&b==== b=3", &["url:/x?a=1&b====", "b:3"]),
            ("a=\"x \\\" y\" b=1", &["a:x \\\" y", "b:1"]),
            ("a=\"x \\\\\" b=1", &["a:x \\\\", "b:1"]),
            ("a=\"say \"hello\"world\" b=1", &["a:say \"hello\"world", "b:1"]),
            ("a=one free text b=2", &["a:one", "b:2"]),
            ("some text a=1 more b=2 end", &["a:1", "b:2"]),
            ("a= b=\"\" c=3", &["a:", "b:", "c:3"]),
            ("a=1 a=2", &["a:1", "a:2"]),
            ("z=\"a=1\" b=2", &["b:2"]),
            ("a=1   b=2", &["a:1", "b:2"]),
            ("(a=1) [b=2]", &["a:1)", "b:2]"]),
            ("=1 a=2", &["a:2"]),
            ("a", &[]),
            ("", &[]),
        ];
        for (line, expected) in cases {
            assert_eq!(pairs(line, &wanted).0, *expected, "{line}");
        }
    }

    #[test]
    fn an_open_quote_is_told_and_its_value_kept() {
        assert_eq!(pairs("a=1 b=\"cut he", &["b"]), (vec!["b:cut he".into()], Walked { keys: 2, open: true }));
        assert_eq!(pairs("a=1 b=\"", &["b"]).0, ["b:"]);
    }

    #[test]
    fn keys_of_every_length_are_told_apart() {
        let names: Vec<String> = (1..60usize).flat_map(|len| [format!("{len:0>len$}"), format!("{len:x>len$}")]).collect();
        let keys = Keys::new(names.iter().enumerate().map(|(index, name)| (name.as_str(), index)));
        for name in &names {
            assert_eq!(keys.find(name.as_bytes()).map(|index| &names[index]), Some(name));
            assert_eq!(keys.find(format!("{name}?").as_bytes()), None);
        }
        assert_eq!(Keys::<u8>::new([]).find(b""), None);
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        let mut out = Vec::new();
        unescape(b"\\\"a\\\\b\\c\\", |byte| matches!(byte, b'"' | b'\\').then_some(byte), &mut out);
        assert_eq!(out, b"\"a\\b\\c\\");
    }
}
