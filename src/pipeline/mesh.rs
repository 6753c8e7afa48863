//! Whole chunks from a busy shard to an idle one, so that one hot connection uses every core.
//!
//! One bounded single-producer single-consumer ring for each ordered pair of shards, and a parking path: the
//! consumer sleeps on a `Notify`, which keeps a wake-up that comes before the sleep, so none is lost. A
//! producer never waits: if every other shard is busy or its ring is full it does the work itself.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use crate::budget::Reservation;
use crate::event::Chunk;
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

/// What others see of a shard.
#[derive(Debug, Default)]
struct Face {
    wake: Notify,
    /// When the shard last worked on a chunk of its own, in us since the mesh was made.
    own_us: AtomicU64,
}

/// One shard's end of the mesh.
pub struct Port {
    index: usize,
    since: Instant,
    faces: Arc<[Face]>,
    /// By shard; none to itself.
    outgoing: Vec<Option<rtrb::Producer<Handed>>>,
    incoming: Vec<rtrb::Consumer<Handed>>,
}

/// The ports of `count` shards.
pub fn mesh(count: usize) -> Vec<Port> {
    let faces: Arc<[Face]> = (0..count).map(|_| Face::default()).collect();
    let since = Instant::now();
    let mut ports: Vec<Port> =
        (0..count).map(|index| Port { index, since, faces: faces.clone(), outgoing: Vec::new(), incoming: Vec::new() }).collect();
    for from in 0..count {
        for to in 0..count {
            if from == to {
                ports[from].outgoing.push(None);
                continue;
            }
            let (producer, consumer) = rtrb::RingBuffer::new(RING_CHUNKS);
            ports[from].outgoing.push(Some(producer));
            ports[to].incoming.push(consumer);
        }
    }
    ports
}

impl Port {
    /// Which shard this is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Gives a chunk to an idle shard; gives it back if there is none or it is small. `before` is told of the shard just
    /// before it gets the chunk.
    ///
    /// # Errors
    /// The chunk, for the caller to work on.
    pub fn offer(&mut self, mut handed: Handed, before: impl Fn(usize)) -> Result<(), Handed> {
        if self.faces.len() == 1 || handed.chunk.bytes().len() < HANDED_BYTES_MIN {
            return Err(handed);
        }
        let now_us = self.now_us();
        let count = self.faces.len();
        for offset in 1..count {
            let to = (self.index + offset) % count;
            let is_busy = now_us.saturating_sub(self.faces[to].own_us.load(Ordering::Relaxed)) < BUSY_US;
            let Some(producer) = self.outgoing[to].as_mut().filter(|producer| !is_busy && !producer.is_abandoned()) else { continue };
            before(to);
            match producer.push(handed) {
                Ok(()) => {
                    self.faces[to].wake.notify_one();
                    return Ok(());
                }
                Err(rtrb::PushError::Full(back)) => handed = back,
            }
        }
        Err(handed)
    }

    /// A chunk that another shard gave.
    pub fn take(&mut self) -> Option<Handed> {
        self.incoming.iter_mut().find_map(|consumer| consumer.pop().ok())
    }

    /// Says that this shard works on a chunk of its own.
    pub fn note_own(&self) {
        self.faces[self.index].own_us.store(self.now_us(), Ordering::Relaxed);
    }

    /// Resolves when a chunk was given since the last call, or has been before it.
    pub fn woken(&self) -> impl Future<Output = ()> + use<> {
        let (faces, index) = (self.faces.clone(), self.index);
        async move { faces[index].wake.notified().await }
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
