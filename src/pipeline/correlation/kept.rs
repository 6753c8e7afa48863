//! Events that the journal keeps since open windows need them: `members, until when -> those that are needed no more`.
//!
//! A restart makes their hits again. Only who they are is held here, the events are in the journal.

use std::collections::BTreeMap;

use crate::event::{Chunk, Members};

/// Chunks that one shard keeps events of: 150 bytes each, about. Beyond them the oldest are given up.
const CHUNKS_MAX: usize = 1 << 16;

/// Times are rounded up to this, so that many chunks are given back at once.
const STEP_MS: i64 = 1_000;

/// What the journal keeps of one chunk.
#[derive(Debug)]
pub struct Share {
    /// What it keeps.
    pub members: Members,
    /// When none of its hits and matches is needed any more.
    until_ms: Option<i64>,
    /// How far everything has come, if the chunk tells that.
    reached_ms: Option<i64>,
}

impl Share {
    /// Nothing of a chunk.
    pub fn none(chunk: &Chunk) -> Self {
        Self { members: Members::none(chunk.position, chunk.frames().len()), until_ms: None, reached_ms: None }
    }

    /// Adds a frame that is needed until a time.
    pub fn add(&mut self, frame: usize, until_ms: i64) {
        self.members.insert(frame as u32);
        self.until_ms = self.until_ms.max(Some(until_ms));
    }

    /// Adds a frame that tells how far everything has come. It is needed until a newer one is durable.
    pub fn add_reached(&mut self, frame: usize, reached_ms: i64) {
        self.members.insert(frame as u32);
        self.reached_ms = self.reached_ms.max(Some(reached_ms));
    }
}

/// What one shard keeps.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// By the time until which they are needed, in steps.
    needed: BTreeMap<i64, Vec<Members>>,
    /// How many there are.
    chunks: usize,
    /// Chunks that tell nothing but how far everything has come.
    reached: Vec<(i64, Members)>,
    /// What is given up.
    surplus: Vec<Members>,
}

impl Kept {
    /// Adds a chunk's. Returns how many events are given up for it.
    pub(super) fn add(&mut self, share: Share) -> u64 {
        let Share { members, until_ms, reached_ms } = share;
        let Some(until_ms) = until_ms else {
            self.reached.push((reached_ms.unwrap_or(i64::MIN), members));
            return 0;
        };
        self.needed.entry(step(until_ms)).or_default().push(members);
        self.chunks += 1;
        let oldest = if self.chunks > CHUNKS_MAX { self.needed.pop_first() } else { None };
        let Some((_, oldest)) = oldest else { return 0 };
        self.chunks -= oldest.len();
        let events = oldest.iter().map(|members| u64::from(members.count)).sum();
        self.surplus.extend(oldest);
        events
    }

    /// Whether anything is needed no more when everything has come so far.
    pub(super) fn is_due(&self, reached_ms: i64) -> bool {
        self.needed.first_key_value().is_some_and(|(until, _)| until.saturating_mul(STEP_MS) <= reached_ms)
    }

    /// Takes out what is needed no more, since it is durable that everything has come so far.
    pub(super) fn take_due(&mut self, reached_ms: i64) -> Vec<Members> {
        let mut due = std::mem::take(&mut self.surplus);
        while self.is_due(reached_ms)
            && let Some((_, members)) = self.needed.pop_first()
        {
            self.chunks -= members.len();
            due.extend(members);
        }
        due.extend(self.reached.extract_if(.., |(told_ms, _)| *told_ms < reached_ms).map(|(_, members)| members));
        due
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<Members> {
        let Self { needed, reached, surplus, .. } = std::mem::take(self);
        needed.into_values().flatten().chain(reached.into_iter().map(|(_, members)| members)).chain(surplus).collect()
    }
}

fn step(until_ms: i64) -> i64 {
    until_ms.saturating_add(STEP_MS - 1).div_euclid(STEP_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Position;

    fn members(sequence: u64) -> Members {
        Members::first(Position { epoch: 1, sequence }, 3, 3)
    }

    fn needed(sequence: u64, until_ms: i64) -> Share {
        Share { members: members(sequence), until_ms: Some(until_ms), reached_ms: None }
    }

    #[test]
    fn what_is_kept_goes_when_everything_has_come_as_far_as_it_is_needed() {
        let mut kept = Kept::default();
        for (sequence, until_ms) in [(1, 2_001), (2, 1_500), (3, i64::MAX)] {
            assert_eq!(kept.add(needed(sequence, until_ms)), 0);
        }
        kept.add(Share { members: members(4), until_ms: None, reached_ms: Some(2_000) });
        assert!(!kept.is_due(1_999) && kept.take_due(1_999).is_empty());
        assert_eq!(kept.take_due(2_000), [members(2)], "what tells of it stays until something newer does");
        assert!(!kept.is_due(2_500), "a newer one alone is no reason to tell again");
        assert_eq!(kept.take_due(3_000), [members(1), members(4)]);
        assert_eq!((kept.take_all(), kept.chunks), (vec![members(3)], 0));
    }

    #[test]
    fn the_oldest_give_way_at_the_bound_and_are_counted() {
        let mut kept = Kept::default();
        let given_up: u64 = (0..CHUNKS_MAX as i64 + 2).map(|n| kept.add(needed(n as u64, n * STEP_MS))).sum();
        assert_eq!((given_up, kept.chunks), (6, CHUNKS_MAX));
        assert_eq!(kept.take_due(i64::MIN), [members(0), members(1)]);
    }
}
