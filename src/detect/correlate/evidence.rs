//! What the alert of a deduplicated rule says of its event, which is not there any more when it is made: `event -> bytes that
//! a hit carries -> JSON`.
//!
//! The bytes are the event's time (little endian), the names of its source and of its decoder, each behind its length, and the
//! frame as it came, cut at [`RAW_BYTES_MAX`]. Only Hydrant itself writes and reads them, in one process.

use crate::event::{Event, Position};
use crate::json;

/// How much of a frame is kept: every hit carries it to the owner of its group and waits with it. A log line of a firewall
/// has some hundred bytes, of a WAF some thousand.
pub const RAW_BYTES_MAX: usize = 4 << 10;

/// What an event came through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way<'a> {
    /// Name of its source.
    pub source: &'a str,
    /// Name of its decoder.
    pub decoder: &'a str,
}

/// An event as a hit carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Evidence<'a> {
    /// The event's own time, in ms since 1970.
    pub(super) time_ms: i64,
    /// Name of its source.
    pub(super) source: &'a [u8],
    /// Name of its decoder.
    pub(super) decoder: &'a [u8],
    /// Its frame, perhaps cut.
    pub(super) raw: &'a [u8],
}

/// Appends an event.
pub(super) fn push(event: Event<'_>, way: Way<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(&event.time_ms.to_le_bytes());
    for name in [way.source, way.decoder] {
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
    }
    let raw = event.raw();
    out.extend_from_slice(raw.get(..end(raw)).unwrap_or_default());
}

/// Where a frame is cut: not inside a character of UTF-8.
fn end(raw: &[u8]) -> usize {
    if raw.len() <= RAW_BYTES_MAX {
        return raw.len();
    }
    let is_inside = |at: &usize| raw.get(*at).is_some_and(|byte| byte & 0xC0 == 0x80);
    // A character has at most four bytes; what is no UTF-8 is cut anywhere.
    (RAW_BYTES_MAX - 3..=RAW_BYTES_MAX).rev().find(|at| !is_inside(at)).unwrap_or(RAW_BYTES_MAX)
}

impl<'a> Evidence<'a> {
    /// Reads what a hit has carried; nothing if it carried something else.
    pub(super) fn read(carry: &'a [u8]) -> Option<Self> {
        let (time, rest) = carry.split_first_chunk()?;
        let (source, rest) = name(rest)?;
        let (decoder, raw) = name(rest)?;
        Some(Self { time_ms: i64::from_le_bytes(*time), source, decoder, raw })
    }

    /// Appends it as a JSON object.
    pub(super) fn write(&self, position: Position, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"source\":");
        json::write_string(self.source, out);
        out.extend_from_slice(b",\"decoder\":");
        json::write_string(self.decoder, out);
        out.extend_from_slice(format!(",\"position\":\"{position}\",\"raw\":").as_bytes());
        json::write_string(self.raw, out);
        out.push(b'}');
    }
}

/// A name behind its length, and what follows.
fn name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Chunk, Events, Sender, Span};

    fn carried(raw: &[u8]) -> Vec<u8> {
        let sender = Arc::new(Sender { source: "fw".into(), source_index: 0 });
        let chunk = Chunk::new(raw.to_vec(), vec![Span::new(0, raw.len())], sender, -7);
        let mut events = Events::default();
        events.reset(&chunk, 0);
        let mut out = Vec::new();
        push(events.event(&chunk, 0), Way { source: "fw", decoder: "cef" }, &mut out);
        out
    }

    #[test]
    fn an_event_comes_out_as_it_went_in_and_a_long_one_is_cut_between_characters() {
        let carry = carried(b"a \"line\"");
        let evidence = Evidence::read(&carry).unwrap();
        assert_eq!(evidence, Evidence { time_ms: -7, source: b"fw", decoder: b"cef", raw: b"a \"line\"" });
        let mut out = Vec::new();
        evidence.write(Position { epoch: 2, sequence: 9 }, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"source":"fw","decoder":"cef","position":"2:9","raw":"a \"line\""}"#);
        let long = "ä€😀".repeat(RAW_BYTES_MAX).into_bytes();
        for start in 0..9 {
            let carry = carried(&long[start..]);
            let raw = Evidence::read(&carry).unwrap().raw;
            assert!((RAW_BYTES_MAX - 3..=RAW_BYTES_MAX).contains(&raw.len()));
            assert_eq!(std::str::from_utf8(raw).is_ok(), std::str::from_utf8(&long[start..]).is_ok());
        }
        assert_eq!(Evidence::read(&carried(&[0x80; 9000])).unwrap().raw.len(), RAW_BYTES_MAX);
        assert_eq!(Evidence::read(b"short"), None);
    }
}
