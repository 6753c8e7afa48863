//! Decoding by paths: what all decoders of JSON documents share.
//!
//! In: a message that is one JSON object, or has one behind a short prefix (a header without PRI, the `@cee:`
//! of rsyslog and Suricata, a byte order mark). Out: the wanted paths in their slots, and what the format makes
//! of them (its time, fields that stand in no place of their own). A native name is a path of
//! [`crate::json::Paths`], or one of the names that the format makes.
//!
//! A message without an object is [`Flaw::Malformed`]. What is broken, too deep or not UTF-8 has the fields in
//! front of the flaw. A name that is no path is never found.

use crate::clock;
use crate::encode::body::RESERVED_KEY;
use crate::envelope::{self, TimeContext};
use crate::event::{Flaw, Row, SlotId, Span, Value};
use crate::json::Paths;

use super::{Decoder, MessageDecoder, Wanted, with_envelope};

/// Bytes in front of the object that are skipped: a header with a long host name and a tag.
const PREFIX_BYTES_MAX: usize = 512;

/// Bytes of the object that formats are told apart by: its first keys stand there.
const HEAD_BYTES_MAX: usize = 1024;

/// A decoder that reads paths and calls `finish` with every row. The names of `made` are filled there and are
/// not looked for in the document.
pub(super) fn document(wanted: &Wanted, made: &[&str], finish: impl FnMut(&mut Row<'_>) + Send + 'static) -> Box<dyn Decoder> {
    let natives: Vec<_> = wanted.natives.iter().filter(|(name, _)| !made.contains(&name.as_str())).collect();
    let paths = compile(&natives.iter().map(|(name, slot)| (name.as_str(), *slot)).collect::<Vec<_>>());
    with_envelope(wanted, Document { paths, finish, strict: false })
}

/// Compiles every name that is a path. Should they be too many in all, those at the end are left out.
pub(super) fn compile(natives: &[(&str, SlotId)]) -> Paths {
    let mut natives: Vec<_> = natives.iter().copied().filter(|native| Paths::new(std::iter::once(*native)).is_ok()).collect();
    loop {
        match Paths::new(natives.iter().copied()) {
            // There our own alerts have it.
            Ok(paths) => return paths.reserve(&[RESERVED_KEY]).reserve(&["unmapped", RESERVED_KEY]),
            Err(_) => natives.truncate(natives.len() / 2),
        }
    }
}

struct Document<F> {
    paths: Paths,
    finish: F,
    strict: bool,
}

impl<F: FnMut(&mut Row<'_>) + Send> MessageDecoder for Document<F> {
    fn message(&mut self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        self.strict = false;
        let text = message.of(row.bytes());
        let prefix = memchr::memchr(b'{', &text[..text.len().min(PREFIX_BYTES_MAX)]).ok_or(Flaw::Malformed)?;
        let scanned = self.paths.scan(row, Span::new(message.start as usize + prefix, message.end as usize));
        (self.finish)(row);
        let scanned = scanned?;
        self.strict = prefix == 0 && scanned.strict && scanned.one_line && !scanned.reserved;
        Ok(())
    }

    fn is_strict_object(&self) -> bool {
        self.strict
    }
}

/// The first bytes of the object that a frame is or carries behind a header. For `sniff`.
pub(super) fn head(frame: &[u8]) -> Option<&[u8]> {
    let at = memchr::memchr(b'{', &frame[..frame.len().min(PREFIX_BYTES_MAX)])?;
    let (before, object) = frame.split_at(at);
    let is_blank = |text: &[u8]| text.trim_ascii().is_empty() || text == b"\xef\xbb\xbf" || text.trim_ascii() == b"@cee:";
    if !is_blank(before) {
        let message = envelope::parse(frame, TimeContext::default()).message;
        let between = frame.get(message.start as usize..at)?;
        if message.is_empty() || message.start == 0 || !is_blank(between) {
            return None;
        }
    }
    Some(&object[..object.len().min(HEAD_BYTES_MAX)])
}

/// Whether `text` contains `part`.
pub(super) fn contains(text: &[u8], part: &str) -> bool {
    memchr::memmem::find(text, part.as_bytes()).is_some()
}

/// A whole number, also one written as text.
pub(super) fn integer(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Number(text) | Value::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

/// RFC 3339 in ms since 1970 UTC; `offset_ms` is that of senders that do not write theirs.
pub(super) fn written_time_ms(value: Value<'_>, offset_ms: i64) -> Option<i64> {
    let Value::Text(text) = value else { return None };
    let ms = clock::rfc3339_ms(text)?;
    let says_offset = text.get(19..)?.iter().any(|byte| matches!(byte, b'Z' | b'z' | b'+' | b'-'));
    Some(if says_offset { ms } else { ms - offset_ms })
}

/// Appends an array of the inside of JSON strings, one at a time.
pub(super) fn push_string(inside: &[u8], array: &mut Vec<u8>) {
    array.extend_from_slice(if array.is_empty() { b"[\"" } else { b",\"" });
    array.extend_from_slice(inside);
    array.push(b'"');
}

/// Ends an array of [`push_string`] and sets a slot to it; without strings the slot stays.
pub(super) fn set_array(row: &mut Row<'_>, slot: Option<SlotId>, array: &[u8]) {
    let Some(slot) = slot.filter(|_| !array.is_empty()) else { return };
    row.set_written(slot, crate::event::Kind::Array, |out| {
        out.extend_from_slice(array);
        out.push(b']');
    });
}
