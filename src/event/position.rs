//! Where an event stands in the journal, and sets of such places.

use std::fmt;

/// Place of an event: every start of a journal opens a new epoch, so a position is never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Start of the journal that the event arrived in.
    pub epoch: u64,
    /// Running number within the epoch.
    pub sequence: u64,
}

impl Position {
    /// The position `offset` events further on.
    pub fn plus(self, offset: usize) -> Self {
        Self { sequence: self.sequence + offset as u64, ..self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.sequence)
    }
}

/// An alert, by the event that it is about and the rule: the same after a restart, whatever index the rule has then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertKey {
    /// The frame of its event.
    pub frame: u32,
    /// FNV-1a of the rule's id.
    pub rule: u64,
}

impl AlertKey {
    /// The part of a key that stands for a rule.
    pub fn rule(id: &str) -> u64 {
        fingerprint(id.as_bytes())
    }
}

/// FNV-1a, 64 bits, so that it is the same in every version.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Which events of one chunk, and which alerts about them, a batch carries or a destination gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Position of the chunk's first event.
    pub chunk: Position,
    /// Number of events in the set; alerts are not counted.
    pub count: u32,
    /// One bit per event of the chunk, lowest first.
    pub bits: Box<[u64]>,
    /// The alerts, in the order in which they were added.
    pub alerts: Vec<AlertKey>,
}

impl Members {
    /// An empty set for a chunk of `frames` events.
    pub fn none(chunk: Position, frames: usize) -> Self {
        Self { chunk, count: 0, bits: vec![0; frames.div_ceil(64)].into_boxed_slice(), alerts: Vec::new() }
    }

    /// The first `count` of a chunk of `frames` events.
    pub fn first(chunk: Position, frames: usize, count: usize) -> Self {
        let mut members = Self::none(chunk, frames);
        let count = count.min(members.bits.len() * 64);
        let (whole, rest) = (count / 64, count % 64);
        members.bits[..whole].fill(u64::MAX);
        if rest > 0 {
            members.bits[whole] = (1 << rest) - 1;
        }
        members.count = count as u32;
        members
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.alerts.is_empty()
    }

    /// Whether the event of this frame is in it.
    pub fn has(&self, frame: u32) -> bool {
        self.bits.get(frame as usize / 64).is_some_and(|word| word & 1 << (frame % 64) != 0)
    }

    /// Adds an event; a frame that the chunk does not have is left out.
    pub fn insert(&mut self, frame: u32) {
        if let Some(word) = self.bits.get_mut(frame as usize / 64).filter(|word| **word & 1 << (frame % 64) == 0) {
            *word |= 1 << (frame % 64);
            self.count += 1;
        }
    }

    /// Adds what `other`, of the same chunk, has.
    pub fn add(&mut self, other: &Self) {
        if self.bits.len() < other.bits.len() {
            let mut bits = std::mem::take(&mut self.bits).into_vec();
            bits.resize(other.bits.len(), 0);
            self.bits = bits.into_boxed_slice();
        }
        self.bits.iter_mut().zip(&other.bits).for_each(|(own, others)| *own |= others);
        let new = other.alerts.iter().filter(|alert| !self.alerts.contains(alert)).copied().collect::<Vec<_>>();
        self.alerts.extend(new);
        self.recount();
    }

    /// Takes out what `other`, of the same chunk, has.
    pub fn remove(&mut self, other: &Self) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(own, others)| *own &= !others);
        self.alerts.retain(|alert| !other.alerts.contains(alert));
        self.recount();
    }

    /// Whether everything in it is in `other` as well.
    pub fn is_within(&self, other: &Self) -> bool {
        let in_other = |(index, word): (usize, &u64)| word & !other.bits.get(index).copied().unwrap_or(0) == 0;
        self.bits.iter().enumerate().all(in_other) && self.alerts.iter().all(|alert| other.alerts.contains(alert))
    }

    fn recount(&mut self) {
        self.count = self.bits.iter().map(|word| word.count_ones()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_chunk_are_those_below_their_number() {
        for count in [0, 1, 63, 64, 65, 127, 128, 130] {
            let mut one_by_one = Members::none(Position::default(), 130);
            (0..count).for_each(|frame| one_by_one.insert(frame));
            assert_eq!(Members::first(Position::default(), 130, count as usize), one_by_one);
        }
        assert_eq!(Members::first(Position::default(), 10, 1000).count, 64);
    }

    #[test]
    fn sets_of_events_and_alerts_are_joined_and_taken_apart() {
        let alert = |frame| AlertKey { frame, rule: AlertKey::rule("r1") };
        let mut a = Members::none(Position::default(), 100);
        [3, 70, 70, 99, 200].into_iter().for_each(|frame| a.insert(frame));
        assert_eq!((a.count, a.has(70), a.has(71), a.has(5000)), (3, true, false, false));
        let mut b = Members::none(Position::default(), 100);
        b.insert(3);
        b.alerts.push(alert(3));
        assert!(!b.is_within(&a));
        a.add(&b);
        assert!(b.is_within(&a) && a.alerts.len() == 1);
        a.remove(&b);
        assert_eq!((a.count, a.alerts.len(), a.has(3)), (2, 0, false));
    }
}
