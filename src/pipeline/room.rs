//! At the cap of the journal the oldest is dropped for destinations that say so: `full -> dropped, counted, told`. What is
//! kept for correlation gives way before that, when half is used, so that nobody is held back for it.
//!
//! One task a shard, for the log of that shard. It asks the log for room for as long as it needs some; what that drops is
//! durable before it is counted. Never dropped: what another destination lacks, what is in a batch, what is in the current
//! segment. If all of that fills the journal, senders are held back.

use std::cell::Cell as StdCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::cursor::Journal as _;
use crate::journal::{Disk, DroppedCount};
use crate::ledger::{DestinationCounts, JOURNAL_FULL, Page};
use crate::metrics::{self, Cell};
use crate::pipeline::plan::{CORRELATION_SOURCE, WhenFull};
use crate::pipeline::shard::Common;

/// How often it is looked whether the log needs room: senders wait for so long.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The same while nothing can be dropped, since the log looks at all its open chunks each time.
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(500);

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
    /// None for correlation: what is dropped for it is no event that is lost.
    counts: Option<Rc<DestinationCounts>>,
    dropped: Cell,
    told: StdCell<Option<Instant>>,
    untold: StdCell<u64>,
}

impl Room {
    /// What makes room in a log.
    pub fn new(disk: Rc<Disk>, page: &Page, common: &Common) -> Rc<Self> {
        let plan = common.plan.borrow();
        let sinks = plan.sinks.iter().enumerate().filter(|(_, sink)| sink.when_full == WhenFull::DropOldest);
        let dropping = |(index, sink): (usize, &crate::pipeline::plan::SinkPlan)| Dropping {
            name: sink.name.to_string(),
            index,
            counts: Some(page.destination(index)),
            dropped: common.registry.cell(&metrics::EVENTS_DROPPED, &[("component_id", &sink.name), ("reason", JOURNAL_FULL)]),
            told: StdCell::new(None),
            untold: StdCell::new(0),
        };
        let correlation = Dropping {
            name: CORRELATION_SOURCE.to_owned(),
            index: plan.sinks.len(),
            counts: None,
            dropped: common.registry.cell(&metrics::CORRELATION_FORGOTTEN, &[]),
            told: StdCell::default(),
            untold: StdCell::default(),
        };
        Rc::new(Self { disk, destinations: sinks.map(dropping).chain([correlation]).collect() })
    }

    /// Works until it is aborted.
    pub async fn run(self: Rc<Self>) {
        let mut interval = LOOK_INTERVAL;
        loop {
            let mut has_dropped = true;
            while has_dropped && self.disk.needs_room() {
                has_dropped = self.disk.make_room().await;
                self.count();
            }
            interval = if has_dropped { LOOK_INTERVAL } else { (2 * interval).min(LOOK_INTERVAL_MAX) };
            tokio::time::sleep(interval).await;
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
            if let Some(counts) = &destination.counts {
                counts.events.dropped_full(deferred.0, earlier.0);
                counts.alerts.dropped_full(deferred.1, earlier.1);
            }
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
            if self.counts.is_some() {
                tracing::error!(
                    destination = self.name,
                    count,
                    "the journal is full: the oldest events and alerts that wait for this destination are dropped"
                );
            } else {
                tracing::warn!(count, "the journal has no room for the oldest events of open windows: a restart will not count them");
            }
            self.told.set(Some(Instant::now()));
            self.untold.set(0);
        }
    }
}
