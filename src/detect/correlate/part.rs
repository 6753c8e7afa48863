//! Values in a row, such as the fields of a group: `values -> bytes that can be compared and taken apart`.
//!
//! Each part is its length (32 bits, big endian) and its bytes, so that `a` and `bc` are not `ab` and `c`. Of a long
//! value only the SHA-256 stands there, marked as such. A value that is not there is a part as well, where it may be.

use aws_lc_rs::digest::{SHA256, digest};

use crate::event::Value;
use crate::json;

/// Longest value that is kept as it is; of longer ones the SHA-256 is compared, so that long URLs cost no more.
pub(super) const VALUE_BYTES_MAX: usize = 64;

/// Set in the length of a part that is a digest.
const DIGEST: u32 = 1 << 31;

/// Stands for the length of a part that is not there.
const ABSENT: u32 = u32::MAX;

const LENGTH_BYTES: usize = 4;

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The event had no such value.
    Absent,
    /// The value.
    Value(&'a [u8]),
    /// SHA-256 of the value.
    Digest(&'a [u8]),
}

/// Appends a part.
pub fn push_part(parts: &mut Vec<u8>, value: &[u8]) {
    let start = parts.len();
    parts.extend_from_slice(&[0; LENGTH_BYTES]);
    parts.extend_from_slice(value);
    close(parts, start);
}

/// Appends the value of a field; nothing, and false, if there is none.
pub(super) fn push_value(parts: &mut Vec<u8>, value: Value<'_>) -> bool {
    let start = parts.len();
    parts.extend_from_slice(&[0; LENGTH_BYTES]);
    let is_there = push_text(parts, value);
    if is_there {
        close(parts, start)
    } else {
        parts.truncate(start)
    }
    is_there
}

/// Appends a part that says that there is no value.
pub(super) fn push_absent(parts: &mut Vec<u8>) {
    parts.extend_from_slice(&ABSENT.to_be_bytes());
}

/// Appends a part as it was.
pub(super) fn push_same(parts: &mut Vec<u8>, part: Part<'_>) {
    let (mark, bytes) = match part {
        Part::Absent => return push_absent(parts),
        Part::Value(bytes) => (0, bytes),
        Part::Digest(bytes) => (DIGEST, bytes),
    };
    parts.extend_from_slice(&(bytes.len() as u32 | mark).to_be_bytes());
    parts.extend_from_slice(bytes);
}

/// Appends a value as text: what two events have to agree in to have the same. JSON escapes are resolved, numbers are
/// as written. `null` is no value.
pub(super) fn push_text(out: &mut Vec<u8>, value: Value<'_>) -> bool {
    match value {
        Value::Missing | Value::Null => return false,
        Value::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Value::Escaped(inside) => json::unescape(inside, out),
        Value::Number(bytes) | Value::Text(bytes) | Value::Array(bytes) | Value::Object(bytes) => out.extend_from_slice(bytes),
    }
    true
}

/// Writes the length of the part that begins at `start` and goes to the end.
fn close(parts: &mut Vec<u8>, start: usize) {
    let value = parts.get(start + LENGTH_BYTES..).unwrap_or_default();
    let mut length = value.len() as u32;
    if value.len() > VALUE_BYTES_MAX {
        let hash = digest(&SHA256, value);
        parts.truncate(start + LENGTH_BYTES);
        parts.extend_from_slice(hash.as_ref());
        length = hash.as_ref().len() as u32 | DIGEST;
    }
    if let Some(place) = parts.get_mut(start..start + LENGTH_BYTES) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// The parts in their order.
pub fn parts(mut bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
        let length = u32::from_be_bytes(*length);
        if length == ABSENT {
            bytes = rest;
            return Some(Part::Absent);
        }
        let (value, rest) = rest.split_at_checked((length & !DIGEST) as usize)?;
        bytes = rest;
        Some(if length & DIGEST == 0 { Part::Value(value) } else { Part::Digest(value) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together_and_are_taken_apart_again() {
        let mut key = Vec::new();
        push_part(&mut key, b"a");
        push_absent(&mut key);
        push_part(&mut key, b"");
        push_part(&mut key, &[b'x'; 65]);
        assert!(push_value(&mut key, Value::Escaped(br#"a\"b"#)));
        assert!(!push_value(&mut key, Value::Null));
        let hash = digest(&SHA256, &[b'x'; 65]);
        let expected = [Part::Value(b"a"), Part::Absent, Part::Value(b""), Part::Digest(hash.as_ref()), Part::Value(b"a\"b")];
        assert_eq!(parts(&key).collect::<Vec<_>>(), expected);
        let mut copy = Vec::new();
        expected.into_iter().for_each(|part| push_same(&mut copy, part));
        assert_eq!(copy, key);
        let lengths = [b"ab".as_slice(), b"c", b"a", b"bc"].map(|value| {
            let mut key = Vec::new();
            push_part(&mut key, value);
            key
        });
        assert_ne!(lengths[..2].concat(), lengths[2..].concat());
    }
}
