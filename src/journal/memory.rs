//! `memory`: the positions, cursors and manifests of a journal, kept in RAM.
//!
//! Events themselves are held by the batches of their destinations, inside the budget; this kind adds some
//! bytes per chunk that is not settled. It makes nothing durable.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cursor::{Cursor, Journal, Manifest};
use crate::error::Error;
use crate::event::{Chunk, Position};
use crate::task::LocalFuture;

/// The journal of one shard.
#[derive(Debug)]
pub struct Memory {
    epoch: u64,
    next: Arc<AtomicU64>,
    cursors: Vec<MemoryCursor>,
}

impl Memory {
    /// A journal whose positions are of `epoch` and are shared with the other shards through `next`.
    pub fn new(epoch: u64, next: Arc<AtomicU64>, destinations: usize) -> Self {
        Self { epoch, next, cursors: (0..destinations).map(|_| MemoryCursor::default()).collect() }
    }
}

impl Journal for Memory {
    fn append<'a>(&'a self, chunk: &'a mut Chunk) -> LocalFuture<'a, Result<(), Error>> {
        let sequence = self.next.fetch_add(chunk.frames().len() as u64, Ordering::Relaxed);
        chunk.position = Position { epoch: self.epoch, sequence };
        Box::pin(std::future::ready(Ok(())))
    }

    fn cursor(&self, destination: usize) -> &dyn Cursor {
        &self.cursors[destination]
    }
}

#[derive(Debug, Default)]
struct MemoryCursor {
    /// Chunks that are not settled, and how many of their events are not.
    open: RefCell<BTreeMap<Position, u32>>,
}

impl Cursor for MemoryCursor {
    fn expect(&self, chunk: Position, count: u32) {
        if count > 0 {
            *self.open.borrow_mut().entry(chunk).or_default() += count;
        }
    }

    fn seal<'a>(&'a self, _: Manifest<'a>) -> LocalFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn settle(&self, chunk: Position, count: u32) {
        let mut open = self.open.borrow_mut();
        let Some(left) = open.get_mut(&chunk) else { return };
        debug_assert!(*left >= count, "more events settled than expected");
        *left = left.saturating_sub(count);
        if *left == 0 {
            open.remove(&chunk);
        }
    }

    fn low_water(&self) -> Option<Position> {
        self.open.borrow().keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_water_mark_waits_for_the_oldest_chunk() {
        let cursor = MemoryCursor::default();
        let at = |sequence| Position { epoch: 1, sequence };
        cursor.expect(at(0), 2);
        cursor.expect(at(10), 1);
        cursor.settle(at(10), 1);
        assert_eq!(cursor.low_water(), Some(at(0)));
        cursor.settle(at(0), 1);
        assert_eq!(cursor.low_water(), Some(at(0)));
        cursor.settle(at(0), 1);
        assert_eq!(cursor.low_water(), None);
    }
}
