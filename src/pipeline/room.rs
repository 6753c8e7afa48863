//! At the cap of the journal the oldest is dropped for destinations that say so: `full -> dropped, counted, told`.
//!
//! One task a shard, for the log of that shard. It asks the log for room for as long as it is full; what that drops is
//! durable before it is counted. Never dropped: what another destination lacks, what is in a batch, what is in the current
//! segment. If all of that fills the journal, senders are held back.

use std::cell::Cell as StdCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::cursor::Journal as _;
use crate::journal::{Disk, DroppedCount};
use crate::ledger::{DestinationCounts, JOURNAL_FULL, Page};
use crate::metrics::{self, Cell};
use crate::pipeline::plan::WhenFull;
use crate::pipeline::shard::Common;

/// How often it is looked whether the log is full: senders wait for so long.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How often it is told that events are dropped.
const TELL_INTERVAL: Duration = Duration::from_secs(30);

/// How long the end of a shard waits for a disk that fails.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// Makes room in one shard's log.
pub struct Room {
    disk: Rc<Disk>,
    destinations: Vec<Dropping>,
}

struct Dropping {
    name: String,
    index: usize,
    counts: Rc<DestinationCounts>,
    dropped: Cell,
    told: StdCell<Option<Instant>>,
    untold: StdCell<u64>,
}

impl Room {
    /// What makes room in a log; `None` if nothing may be dropped for any destination.
    pub fn new(disk: Rc<Disk>, page: &Page, common: &Common) -> Option<Rc<Self>> {
        let plan = common.plan.borrow();
        let sinks = plan.sinks.iter().enumerate().filter(|(_, sink)| sink.when_full == WhenFull::DropOldest);
        let dropping = |(index, sink): (usize, &crate::pipeline::plan::SinkPlan)| Dropping {
            name: sink.name.to_string(),
            index,
            counts: page.destination(index),
            dropped: common.registry.cell(&metrics::EVENTS_DROPPED, &[("component_id", &sink.name), ("reason", JOURNAL_FULL)]),
            told: StdCell::new(None),
            untold: StdCell::new(0),
        };
        let destinations: Vec<Dropping> = sinks.map(dropping).collect();
        (!destinations.is_empty()).then(|| Rc::new(Self { disk, destinations }))
    }

    /// Works until it is aborted.
    pub async fn run(self: Rc<Self>) {
        loop {
            while self.disk.is_full() {
                let has_dropped = self.disk.make_room().await;
                self.count();
                if !has_dropped {
                    break;
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Counts what was asked for last, when nothing is asked any more.
    pub async fn settle(&self) {
        // A disk that fails has dropped nothing.
        let _ = tokio::time::timeout(SETTLE_PATIENCE, self.disk.flush()).await;
        self.count();
    }

    fn count(&self) {
        for destination in &self.destinations {
            let DroppedCount { deferred, earlier } = self.disk.take_dropped(destination.index);
            destination.counts.events.dropped_full(deferred.0, earlier.0);
            destination.counts.alerts.dropped_full(deferred.1, earlier.1);
            destination.dropped.add(deferred.0 + earlier.0);
            destination.tell(deferred.0 + deferred.1 + earlier.0 + earlier.1);
        }
    }
}

impl Dropping {
    fn tell(&self, count: u64) {
        let count = self.untold.get() + count;
        self.untold.set(count);
        if count > 0 && self.told.get().is_none_or(|told| told.elapsed() > TELL_INTERVAL) {
            tracing::error!(
                destination = self.name,
                count,
                "the journal is full: the oldest events and alerts that wait for this destination are dropped"
            );
            self.told.set(Some(Instant::now()));
            self.untold.set(0);
        }
    }
}
