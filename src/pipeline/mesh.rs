//! Whole chunks from a busy shard to an idle one, so that one hot connection uses every core.
//!
//! They go over [`Links`]. A producer never waits: if every other shard is busy or its ring is full it does the work itself.

use std::sync::Arc;
use std::time::Instant;

use crate::budget::Reservation;
use crate::event::Chunk;
use crate::pipeline::links::{self, Links};
use crate::sync::atomic::{AtomicU64, Ordering};

/// Chunks that wait in one ring: enough that the consumer has work while the producer is in its own chunk.
const RING_CHUNKS: usize = 4;

/// Smaller chunks are not worth the hand-over: waking another core costs about as much as their work.
const HANDED_BYTES_MIN: usize = 16 * 1024;

/// A shard that worked on a chunk of its own within this time is not idle.
const BUSY_US: u64 = 1_000;

/// A chunk with the memory that it holds.
#[derive(Debug)]
pub struct Handed {
    /// The chunk, journaled.
    pub chunk: Chunk,
    /// Its share of the budget.
    pub reservation: Reservation,
}

/// One shard's end of the mesh.
pub struct Port {
    since: Instant,
    /// By shard: when it last worked on a chunk of its own, in us since the mesh was made.
    own_us: Arc<[AtomicU64]>,
    links: Links<Handed>,
}

/// The ports of `count` shards.
pub fn mesh(count: usize) -> Vec<Port> {
    let own_us: Arc<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
    let since = Instant::now();
    links::links(count, RING_CHUNKS).into_iter().map(|links| Port { since, own_us: own_us.clone(), links }).collect()
}

impl Port {
    /// Which shard this is.
    pub fn index(&self) -> usize {
        self.links.index()
    }

    /// Gives a chunk to an idle shard; gives it back if there is none or it is small. `before` is told of the shard just
    /// before it gets the chunk.
    ///
    /// # Errors
    /// The chunk, for the caller to work on.
    pub fn offer(&mut self, mut handed: Handed, before: impl Fn(usize)) -> Result<(), Handed> {
        let count = self.links.count();
        if count == 1 || handed.chunk.bytes().len() < HANDED_BYTES_MIN {
            return Err(handed);
        }
        let now_us = self.now_us();
        for offset in 1..count {
            let to = (self.index() + offset) % count;
            let is_busy = now_us.saturating_sub(self.own_us[to].load(Ordering::Relaxed)) < BUSY_US;
            if is_busy || !self.links.reaches(to) {
                continue;
            }
            before(to);
            match self.links.push(to, handed) {
                Ok(()) => return Ok(()),
                Err(back) => handed = back,
            }
        }
        Err(handed)
    }

    /// A chunk that another shard gave.
    pub fn take(&mut self) -> Option<Handed> {
        self.links.pop()
    }

    /// Says that this shard works on a chunk of its own.
    pub fn note_own(&self) {
        self.own_us[self.index()].store(self.now_us(), Ordering::Relaxed);
    }

    /// Resolves when a chunk was given since the last call, or has been before it.
    pub fn woken(&self) -> impl Future<Output = ()> + use<> {
        self.links.woken()
    }

    fn now_us(&self) -> u64 {
        // Never 0 at the beginning, which would look busy.
        self.since.elapsed().as_micros() as u64 + 2 * BUSY_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::event::{Sender, Span};

    fn handed(size: usize) -> Handed {
        let sender = Arc::new(Sender { source: "t".into(), source_index: 0 });
        Handed { chunk: Chunk::new(vec![b'x'; size], vec![Span::new(0, size)], sender, 0), reservation: Budget::new(1).take(0) }
    }

    #[test]
    fn chunks_go_to_an_idle_shard_until_its_ring_is_full() {
        let mut ports = mesh(2);
        for _ in 0..RING_CHUNKS {
            assert!(ports[0].offer(handed(HANDED_BYTES_MIN), |_| {}).is_ok());
        }
        assert!(ports[0].offer(handed(HANDED_BYTES_MIN), |_| {}).is_err(), "the ring is full");
        assert!(ports[1].take().is_some());
        assert!(ports[0].offer(handed(HANDED_BYTES_MIN), |_| {}).is_ok());
        assert!(ports[1].offer(handed(10), |_| {}).is_err(), "too small");
        ports[0].note_own();
        assert!(ports[1].offer(handed(HANDED_BYTES_MIN), |_| {}).is_err(), "the other shard is busy");
    }

    #[test]
    fn every_chunk_arrives_although_the_consumer_sleeps() {
        let mut ports = mesh(2);
        let mut consumer = ports.remove(1);
        let mut producer = ports.remove(0);
        let reader = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut count = 0;
                while count < 10_000 {
                    consumer.woken().await;
                    while consumer.take().is_some() {
                        count += 1;
                    }
                }
            });
        });
        for _ in 0..10_000 {
            let mut next = handed(HANDED_BYTES_MIN);
            while let Err(back) = producer.offer(next, |_| {}) {
                next = back;
                std::thread::yield_now();
            }
        }
        reader.join().unwrap();
    }
}
