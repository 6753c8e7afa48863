//! Hits on their way to the shard that owns their groups: many in one buffer, no allocation for each.
//!
//! A hit is a head of fixed size in little endian, then key, value and carried values. Only Hydrant itself writes and
//! reads this, in one process; reading ends at anything that is cut off.

use super::Hit;
use crate::event::Position;

/// Stands for the length of a value that is not there.
const NO_VALUE: u32 = u32::MAX;

/// Hits of one chunk for one owner.
#[derive(Clone, Debug, Default)]
pub struct Hits {
    bytes: Vec<u8>,
    count: usize,
}

impl Hits {
    /// Adds a hit of the correlation with this index.
    pub fn push(&mut self, correlation: u32, hit: &Hit<'_>) {
        let out = &mut self.bytes;
        out.extend_from_slice(&correlation.to_le_bytes());
        out.extend_from_slice(&hit.time_ms.to_le_bytes());
        out.extend_from_slice(&hit.position.epoch.to_le_bytes());
        out.extend_from_slice(&hit.position.sequence.to_le_bytes());
        let lengths = [hit.key.len() as u32, hit.value.map_or(NO_VALUE, |value| value.len() as u32), hit.carry.len() as u32];
        lengths.iter().for_each(|length| out.extend_from_slice(&length.to_le_bytes()));
        out.push(hit.base);
        [hit.key, hit.value.unwrap_or_default(), hit.carry].iter().for_each(|bytes| out.extend_from_slice(bytes));
        self.count += 1;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// The hits in their order, each with the index of its correlation.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Hit<'_>)> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || read(&mut rest))
    }
}

fn read<'a>(rest: &mut &'a [u8]) -> Option<(u32, Hit<'a>)> {
    let correlation = u32::from_le_bytes(*fixed(rest)?);
    let time_ms = i64::from_le_bytes(*fixed(rest)?);
    let position = Position { epoch: u64::from_le_bytes(*fixed(rest)?), sequence: u64::from_le_bytes(*fixed(rest)?) };
    let mut length = || Some(u32::from_le_bytes(*fixed(rest)?));
    let (key, value, carry) = (length()?, length()?, length()?);
    let [base] = *fixed(rest)?;
    let key = bytes(rest, key)?;
    let value = if value == NO_VALUE { None } else { Some(bytes(rest, value)?) };
    let carry = bytes(rest, carry)?;
    Some((correlation, Hit { position, time_ms, base, key, value, carry }))
}

fn fixed<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (value, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(value)
}

fn bytes<'a>(rest: &mut &'a [u8], length: u32) -> Option<&'a [u8]> {
    let (value, behind) = rest.split_at_checked(length as usize)?;
    *rest = behind;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_come_out_as_they_went_in() {
        let hit = |base, value| Hit {
            position: Position { epoch: 3, sequence: u64::MAX },
            time_ms: -5,
            base,
            key: b"key",
            value,
            carry: b"carried",
        };
        let sent = [(7, hit(1, Some(&b"v"[..]))), (8, hit(255, None)), (u32::MAX, hit(0, Some(&b""[..])))];
        let mut hits = Hits::default();
        sent.iter().for_each(|(correlation, hit)| hits.push(*correlation, hit));
        let shown = |hits: &mut dyn Iterator<Item = (u32, Hit<'_>)>| hits.map(|hit| format!("{hit:?}")).collect::<Vec<_>>();
        assert_eq!(shown(&mut hits.iter()), shown(&mut sent.iter().copied()));
        assert_eq!(hits.len(), 3);
        hits.clear();
        assert!(hits.is_empty() && hits.iter().next().is_none());
    }
}
