//! `memory`: positions without a disk.
//!
//! Events are held by the batches of their destinations, inside the budget. It makes nothing durable: what was
//! acknowledged on receipt is lost when the process dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cursor::{Commit, Journal, Manifest, Verdict};
use crate::error::Error;
use crate::event::{Chunk, Members, Position};
use crate::task::LocalFuture;

/// The journal of one shard.
#[derive(Debug)]
pub struct Memory {
    epoch: u64,
    next: Arc<AtomicU64>,
}

impl Memory {
    /// A journal whose positions are of `epoch` and are shared with the other shards through `next`.
    pub fn new(epoch: u64, next: Arc<AtomicU64>) -> Self {
        Self { epoch, next }
    }
}

impl Journal for Memory {
    fn has_room(&self, _: usize) -> bool {
        true
    }

    fn freed(&self) -> LocalFuture<'_, ()> {
        // There always is. A future that is ready would turn who waits for the budget into a loop that never yields.
        Box::pin(std::future::pending())
    }

    fn is_filling(&self) -> bool {
        false
    }

    fn append(&self, chunks: &mut [Chunk]) -> Commit {
        for chunk in chunks {
            let sequence = self.next.fetch_add(chunk.frames().len() as u64, Ordering::Relaxed);
            chunk.position = Position { epoch: self.epoch, sequence };
        }
        Commit::ready()
    }

    fn flush(&self) -> Commit {
        Commit::ready()
    }

    fn keeps_verdicts(&self) -> bool {
        false
    }

    fn decide(&self, _: Position, _: Verdict) {}

    fn seal<'a>(&'a self, _: usize, _: Manifest<'a>) -> LocalFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn settle(&self, _: usize, _: u128, _: &[Members]) {}

    fn give_up(&self, _: Position) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Sender, Span};

    #[test]
    fn who_waits_for_the_budget_is_not_woken_by_a_journal_that_always_has_room() {
        let memory = Memory::new(7, Arc::new(AtomicU64::new(0)));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(memory.has_room(usize::MAX) && memory.freed().as_mut().poll(&mut context).is_pending());
    }

    #[test]
    fn positions_of_two_shards_never_meet() {
        let next = Arc::new(AtomicU64::new(0));
        let shards = [Memory::new(7, next.clone()), Memory::new(7, next)];
        let sender = Arc::new(Sender { source: "t".into(), source_index: 0 });
        let chunk = |frames| Chunk::new(b"abc".to_vec(), vec![Span::new(0, 1); frames], sender.clone(), 0);
        let mut seen = Vec::new();
        for (shard, frames) in [(0, 2), (1, 3), (0, 1)] {
            let mut chunks = [chunk(frames)];
            drop(shards[shard].append(&mut chunks));
            seen.push(chunks[0].position);
        }
        assert_eq!(seen, [0, 2, 5].map(|sequence| Position { epoch: 7, sequence }));
    }
}
