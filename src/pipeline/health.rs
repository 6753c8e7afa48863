//! How a running pipeline is: what is open, what has ended, whether it stops. Counted by the shards, read by `admin`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::task::Stop;

/// Counts that the shards keep. Sources count once for each shard that runs them.
#[derive(Debug)]
pub struct Health {
    sources: usize,
    opened: AtomicUsize,
    failed: AtomicUsize,
    shards: usize,
    ended: AtomicUsize,
    stop: Stop,
}

/// Whether traffic should be sent here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Every listener is open.
    Ready,
    /// Not every listener is open yet.
    Starting {
        /// Sources that are open.
        opened: usize,
        /// Sources that have to be.
        of: usize,
    },
    /// A source ended with an error.
    Failed(usize),
    /// It was told to stop.
    Stopping,
}

impl Health {
    /// Nothing is open yet.
    pub fn new(sources: usize, shards: usize, stop: Stop) -> Arc<Self> {
        Arc::new(Self { sources, opened: AtomicUsize::new(0), failed: AtomicUsize::new(0), shards, ended: AtomicUsize::new(0), stop })
    }

    /// A source of a shard is open.
    pub fn note_opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// A source of a shard ended with an error.
    pub fn note_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Resolves when Hydrant has been stopping for this long.
    pub async fn stopping_for(&self, patience: Duration) {
        self.stop.wait().await;
        tokio::time::sleep(patience).await;
    }

    /// Counts a shard as ended when the guard is dropped, also by a panic.
    pub fn shard(self: &Arc<Self>) -> ShardGuard {
        ShardGuard(self.clone())
    }

    /// Whether traffic should be sent here. A destination that is held does not count: what comes in waits for it
    /// in the journal, and sending the traffic elsewhere would not mend it.
    pub fn readiness(&self) -> Readiness {
        let (opened, failed) = (self.opened.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        match () {
            () if self.stop.is_set() => Readiness::Stopping,
            () if failed > 0 => Readiness::Failed(failed),
            () if opened < self.sources => Readiness::Starting { opened, of: self.sources },
            () => Readiness::Ready,
        }
    }

    /// Shards that ended although nobody told them to and their sources have not come to an end.
    pub fn shards_lost(&self) -> usize {
        let ended = self.ended.load(Ordering::Relaxed);
        // When all have ended, the run is over: files were read to their end.
        if self.stop.is_set() || ended == self.shards { 0 } else { ended }
    }
}

/// A shard that runs.
#[derive(Debug)]
pub struct ShardGuard(Arc<Health>);

impl Drop for ShardGuard {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task;

    #[test]
    fn it_is_ready_while_every_source_is_open_and_nobody_stops_it() {
        let (stopper, stop) = task::pair();
        let health = Health::new(2, 2, stop);
        health.note_opened();
        assert_eq!(health.readiness(), Readiness::Starting { opened: 1, of: 2 });
        health.note_opened();
        assert_eq!(health.readiness(), Readiness::Ready);
        drop(health.shard());
        assert_eq!(health.shards_lost(), 1);
        health.note_failed();
        assert_eq!(health.readiness(), Readiness::Failed(1));
        stopper.stop();
        assert_eq!((health.readiness(), health.shards_lost()), (Readiness::Stopping, 0));
    }
}
