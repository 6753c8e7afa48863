//! One bounded single-producer single-consumer ring for each ordered pair of shards, and a wake-up for each shard.
//!
//! A producer never waits: what finds no room comes back. A consumer sleeps on a `Notify`, which keeps a wake-up that comes
//! before the sleep, so none is lost. `loom/` checks it in every interleaving, as part of the mesh and of the exchange.

use std::sync::Arc;

use tokio::sync::Notify;

/// One shard's ends of the rings to and from all others.
pub struct Links<T> {
    index: usize,
    /// By shard.
    wakes: Arc<[Notify]>,
    /// By shard; none to itself.
    outgoing: Vec<Option<rtrb::Producer<T>>>,
    incoming: Vec<rtrb::Consumer<T>>,
}

/// The ends of `count` shards, with `places` in each ring.
pub fn links<T>(count: usize, places: usize) -> Vec<Links<T>> {
    let wakes: Arc<[Notify]> = (0..count).map(|_| Notify::new()).collect();
    let end = |index| Links { index, wakes: wakes.clone(), outgoing: Vec::new(), incoming: Vec::new() };
    let mut ends: Vec<Links<T>> = (0..count).map(end).collect();
    for from in 0..count {
        for to in 0..count {
            if from == to {
                ends[from].outgoing.push(None);
                continue;
            }
            let (producer, consumer) = rtrb::RingBuffer::new(places);
            ends[from].outgoing.push(Some(producer));
            ends[to].incoming.push(consumer);
        }
    }
    ends
}

impl<T> Links<T> {
    /// Which shard this is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many shards there are.
    pub fn count(&self) -> usize {
        self.wakes.len()
    }

    /// Whether that is another shard which still takes something: one that has failed does not.
    pub fn reaches(&self, to: usize) -> bool {
        self.outgoing.get(to).and_then(Option::as_ref).is_some_and(|producer| !producer.is_abandoned())
    }

    /// Gives something to another shard and wakes it.
    ///
    /// # Errors
    /// What was to be given: the ring is full.
    pub fn push(&mut self, to: usize, element: T) -> Result<(), T> {
        let Some(Some(producer)) = self.outgoing.get_mut(to) else { return Err(element) };
        producer.push(element).map_err(|rtrb::PushError::Full(element)| element)?;
        self.wakes[to].notify_one();
        Ok(())
    }

    /// Takes the oldest of what one of the other shards has given.
    pub fn pop(&mut self) -> Option<T> {
        self.incoming.iter_mut().find_map(|consumer| consumer.pop().ok())
    }

    /// Resolves when something was given to this shard since the last call, or has been before it.
    pub fn woken(&self) -> impl Future<Output = ()> + use<T> {
        let (wakes, index) = (self.wakes.clone(), self.index);
        async move { wakes[index].notified().await }
    }
}
