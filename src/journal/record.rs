//! Records of a segment: `header, body, padding`, and finding them again in damaged bytes.
//!
//! Header, 32 bytes, little endian: kind u8, flags u8, 0 u16, body length u32, epoch u64, sequence u64, CRC32C of the
//! body u32, CRC32C of the header u32. The last one begins with the [`Key`] and the offset, so a record is valid
//! only in the place where it was written, and cannot be forged by bytes that a sender wrote. The body is
//! followed by zeros up to the next multiple of 8.

use crate::event::Position;

/// Bytes of a record's header.
pub(super) const HEADER_BYTES: usize = 32;

/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// How far the segment was durable before this group.
    Mark = 1,
    /// Names of destinations and sources.
    Names = 2,
    /// The state at the beginning of the segment.
    Snapshot = 3,
    /// A chunk.
    Chunk = 4,
    /// The chunks of a transaction are complete.
    Commit = 5,
    /// What destinations are to get of a chunk.
    Verdict = 6,
    /// A batch before its first attempt.
    Manifest = 7,
    /// What a destination has.
    Settled = 8,
    /// A chunk that cannot be read any more.
    Lost = 9,
    /// Nothing: a repair put it in the place of what could not be read.
    Void = 10,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Mark,
        Self::Names,
        Self::Snapshot,
        Self::Chunk,
        Self::Commit,
        Self::Verdict,
        Self::Manifest,
        Self::Settled,
        Self::Lost,
        Self::Void,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Names => "names",
            Self::Snapshot => "snapshot",
            Self::Chunk => "chunk",
            Self::Commit => "commit",
            Self::Verdict => "verdict",
            Self::Manifest => "manifest",
            Self::Settled => "settled",
            Self::Lost => "lost",
            Self::Void => "void",
        }
    }
}

/// What the headers of one segment are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Random, the same for all segments of a log.
    pub(super) secret: u64,
    /// The log's epoch.
    pub(super) epoch: u64,
    /// The segment's number.
    pub(super) segment: u32,
}

impl Key {
    fn header_crc(&self, offset: u64, head: &[u8]) -> u32 {
        let mut seed = [0; 28];
        seed[..8].copy_from_slice(&self.secret.to_le_bytes());
        seed[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        seed[16..20].copy_from_slice(&self.segment.to_le_bytes());
        seed[20..].copy_from_slice(&offset.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&seed), head)
    }
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// What the record says.
    pub(super) kind: Kind,
    /// By kind.
    pub(super) flags: u8,
    /// The chunk that it is about; zeros if it is about none or several.
    pub(super) position: Position,
    /// Length of the body.
    pub(super) body_bytes: u32,
    body_crc: u32,
}

impl Header {
    /// The header of a body.
    pub(super) fn new(kind: Kind, flags: u8, position: Position, body: &[u8]) -> Self {
        Self { kind, flags, position, body_bytes: body.len() as u32, body_crc: crc32c::crc32c(body) }
    }

    /// Bytes of the whole record.
    pub(super) fn record_bytes(&self) -> usize {
        HEADER_BYTES + (self.body_bytes as usize).next_multiple_of(ALIGNMENT)
    }

    /// Whether this is the body.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        body.len() == self.body_bytes as usize && crc32c::crc32c(body) == self.body_crc
    }

    /// Appends header, body and padding; `offset` is where the record begins in its segment.
    pub(super) fn write(&self, key: &Key, offset: u64, body: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.kind as u8, self.flags, 0, 0]);
        out.extend_from_slice(&self.body_bytes.to_le_bytes());
        out.extend_from_slice(&self.position.epoch.to_le_bytes());
        out.extend_from_slice(&self.position.sequence.to_le_bytes());
        out.extend_from_slice(&self.body_crc.to_le_bytes());
        let crc = key.header_crc(offset, &out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(body);
        out.resize(start + self.record_bytes(), 0);
    }

    /// The header at `offset`, if these bytes are one.
    pub(super) fn read(key: &Key, offset: u64, bytes: &[u8]) -> Option<Self> {
        let (head, crc) = bytes.get(..HEADER_BYTES)?.split_at(HEADER_BYTES - 4);
        // A search for the next record comes by here at every multiple of 8: most are told by their first byte.
        let kind = Kind::from_byte(head[0]).filter(|_| head[2] == 0 && head[3] == 0)?;
        let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
        if key.header_crc(offset, head).to_le_bytes() != crc {
            return None;
        }
        let position = Position { epoch: long(8)?, sequence: long(16)? };
        Some(Self { kind, flags: head[1], position, body_bytes: word(4)?, body_crc: word(24)? })
    }
}

/// What stands in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    /// A good record.
    Record {
        /// Where it begins.
        offset: u64,
        /// Its header.
        header: Header,
        /// Its body.
        body: &'a [u8],
    },
    /// A record whose body is damaged.
    BadBody {
        /// Where it begins.
        offset: u64,
        /// Its header.
        header: Header,
    },
    /// Bytes that are no record, not all of them zero.
    Gap {
        /// Where they begin.
        from: u64,
        /// Where the next record begins, or the segment ends.
        to: u64,
    },
    /// Zeros up to the next record or the end of the segment.
    Zeros {
        /// Where they begin.
        from: u64,
        /// Where the next record begins, or the segment ends.
        to: u64,
    },
}

/// Everything in `bytes`, which are those of a segment from its beginning, from `start` on.
pub(super) fn scan<'a>(key: Key, bytes: &'a [u8], start: usize) -> impl Iterator<Item = Found<'a>> {
    let mut at = start.next_multiple_of(ALIGNMENT);
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        let from = at as u64;
        if let Some(header) = Header::read(&key, from, &bytes[at..]) {
            let body = bytes.get(at + HEADER_BYTES..at + HEADER_BYTES + header.body_bytes as usize);
            let good = body.filter(|body| header.fits(body));
            at = at.saturating_add(header.record_bytes()).min(bytes.len());
            return Some(match good {
                Some(body) => Found::Record { offset: from, header, body },
                None => Found::BadBody { offset: from, header },
            });
        }
        let start = at;
        at = next_record(&key, bytes, at);
        let is_zero = bytes[start..at].chunks(ZEROS.len()).all(|part| part == &ZEROS[..part.len()]);
        Some(if is_zero { Found::Zeros { from, to: at as u64 } } else { Found::Gap { from, to: at as u64 } })
    })
}

/// Most of a segment that was begun not long ago: skipped by the page.
static ZEROS: [u8; 4096] = [0; 4096];

/// Where the next header is behind `at`, or the end.
fn next_record(key: &Key, bytes: &[u8], mut at: usize) -> usize {
    at += ALIGNMENT;
    while at < bytes.len() {
        if bytes[at..].starts_with(&ZEROS) {
            at += ZEROS.len();
            continue;
        }
        if bytes[at] != 0 && Header::read(key, at as u64, &bytes[at..]).is_some() {
            return at;
        }
        at += ALIGNMENT;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { secret: 7, epoch: 3, segment: 1 };

    fn segment(bodies: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for (sequence, body) in bodies.iter().enumerate() {
            let header = Header::new(Kind::Chunk, 0, Position { epoch: 3, sequence: sequence as u64 }, body);
            let offset = out.len() as u64;
            header.write(&KEY, offset, body, &mut out);
        }
        out
    }

    fn summary(bytes: &[u8]) -> Vec<String> {
        let tell = |found| match found {
            Found::Record { offset, header, body } => format!("{offset} record {} {}", header.position, body.len()),
            Found::BadBody { offset, header } => format!("{offset} bad {}", header.position),
            Found::Gap { from, to } => format!("{from}-{to} gap"),
            Found::Zeros { from, to } => format!("{from}-{to} zeros"),
        };
        scan(KEY, bytes, 0).map(tell).collect()
    }

    #[test]
    fn records_are_found_again_behind_damage_of_any_kind() {
        let mut bytes = segment(&[b"one", b"", b"three three three"]);
        bytes.resize(bytes.len() + 80, 0);
        assert_eq!(summary(&bytes), ["0 record 3:0 3", "40 record 3:1 0", "72 record 3:2 17", "128-208 zeros"]);
        let damaged = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            summary(&bytes)
        };
        assert_eq!(damaged(33), ["0 bad 3:0", "40 record 3:1 0", "72 record 3:2 17", "128-208 zeros"]);
        assert_eq!(damaged(44), ["0 record 3:0 3", "40-72 gap", "72 record 3:2 17", "128-208 zeros"]);
        assert_eq!(damaged(150).last().unwrap(), "128-208 gap");
        let mut far = bytes.clone();
        far.resize(5 * ZEROS.len() + 16, 0);
        let header = Header::new(Kind::Chunk, 0, Position { epoch: 3, sequence: 9 }, b"far");
        header.write(&KEY, far.len() as u64, b"far", &mut far);
        assert_eq!(summary(&far)[3..], ["128-20496 zeros", "20496 record 3:9 3"]);
        assert_eq!(summary(&bytes[..100]), ["0 record 3:0 3", "40 record 3:1 0", "72-100 gap"]);
        assert_eq!(summary(&bytes[..110]), ["0 record 3:0 3", "40 record 3:1 0", "72 bad 3:2"]);
    }

    #[test]
    fn a_record_in_another_place_or_hidden_in_a_line_is_none() {
        let hidden = segment(&[b"forged"]);
        let mut bytes = segment(&[&hidden]);
        // The outer header is gone, the search runs through the body.
        bytes[5] ^= 1;
        assert_eq!(summary(&bytes), [format!("0-{} gap", bytes.len())]);
    }

    #[test]
    fn no_bytes_make_the_search_fail() {
        let mut state = 1u64;
        for length in 0..600 {
            let mut noise: Vec<u8> = Vec::new();
            for _ in 0..length {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                noise.push((state >> 56) as u8 & 15);
            }
            assert!(scan(KEY, &noise, 0).all(|found| matches!(found, Found::Gap { .. } | Found::Zeros { .. })));
        }
    }
}
