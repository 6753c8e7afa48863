//! Events of the past through all stages again, by the plan of now: `chunks -> destinations, counted`.
//!
//! One shard without sources and without a journal of its own. It counts into a [`Book`] that is only about this replay and
//! goes on across restarts of it. Batches are sealed when they are full and when the caller says so, and named by what is in
//! them: a batch that is made again has the same name, so that S3 takes it only once.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;

use crate::budget::Budget;
use crate::clock;
use crate::deliver::Destination;
use crate::detect::correlate::LEVELS_MAX;
use crate::error::{Error, ErrorKind};
use crate::event::{Chunk, Position, Sender, Span, fingerprint};
use crate::journal::Memory;
use crate::ledger::{Book, Ledger};
use crate::metrics::{self, Registry};
use crate::pipeline::correlation;
use crate::pipeline::health::Health;
use crate::pipeline::plan::{CORRELATION_SOURCE, Plan};
use crate::pipeline::shard::{Common, Shard};
use crate::source_health::SourceHealth;
use crate::task::{self, Stopper};

/// A replay under way.
pub struct Replay {
    plan: Arc<Plan>,
    shard: Shard,
    common: Common,
    destinations: Vec<Destination>,
    /// Dropped with it: nobody is told before.
    _stopper: Stopper,
}

impl Replay {
    /// Starts the stages and the workers of the destinations on the current thread's `LocalSet`; goes on with `book`.
    ///
    /// # Errors
    /// Sinks whose certificates or files cannot be read.
    pub fn start(plan: &Arc<Plan>, book: Book) -> Result<Self, Error> {
        let (stopper, stop) = task::pair();
        let (_, receiver) = watch::channel(plan.clone());
        let registry = Registry::default();
        let names = (
            plan.sources.iter().map(|source| source.name.to_string()).collect(),
            plan.sinks.iter().map(|sink| sink.name.to_string()).collect(),
        );
        let ledger = Ledger::begun(book, names, &plan.settings.data_dir, registry.clone());
        let budget = Budget::new(plan.settings.memory_bytes);
        // Nobody looks at it here: senders are judged by the run.
        let source_health = Arc::new(SourceHealth::open(&plan.settings.data_dir, clock::now_ms()));
        let (health, taps) = (Health::new(0, 1, stop), Arc::default());
        let common = Common { budget, plan: receiver, registry, health, taps, ledger, source_health };
        let exchange = correlation::exchange(1).pop();
        let exchange = exchange.ok_or_else(|| Error::new(ErrorKind::Unexpected, "replay", "no exchange of hits"))?;
        let mut shard = Shard::new(&common, Rc::new(Memory::new(0, Arc::default())), 0, exchange)?;
        shard.name_by_content();
        Ok(Self { plan: plan.clone(), shard, common, destinations: Vec::new(), _stopper: stopper })
    }

    /// The sender that stands for a source; `None` if the plan does not have it.
    pub fn sender(&self, source: &str) -> Option<Arc<Sender>> {
        let index = self.plan.sources.iter().position(|known| *known.name == *source)?;
        Some(Arc::new(Sender { source: source.into(), source_index: index as u16 }))
    }

    /// Takes a chunk through all stages.
    ///
    /// # Errors
    /// A compressor's.
    pub fn take(&mut self, chunk: Chunk) -> Result<(), Error> {
        self.process(chunk)?;
        self.shard.exchange().tick(clock::now_ms(), false);
        self.take_alerts()
    }

    /// Says that nothing more comes: what correlations wait for is decided.
    ///
    /// # Errors
    /// A compressor's.
    pub fn finish(&mut self) -> Result<(), Error> {
        (0..LEVELS_MAX).try_for_each(|level| {
            self.shard.exchange().finish_level(level);
            self.take_alerts()
        })
    }

    /// Takes the alerts that correlations have made through all stages.
    fn take_alerts(&mut self) -> Result<(), Error> {
        let alerts = self.shard.exchange().take_alerts();
        let Some(sender) = self.shard.alerts_sender(CORRELATION_SOURCE) else { return Ok(()) };
        for span in &alerts.spans {
            let bytes = alerts.bytes.get(span.start as usize..span.end as usize).unwrap_or_default();
            let mut chunk = Chunk::new(bytes.to_vec(), vec![Span::new(0, bytes.len())], sender.clone(), clock::now_ms());
            // By its content, so that a batch with it has the same name when it is made again.
            chunk.position = Position { epoch: 0, sequence: fingerprint(bytes) };
            self.process(chunk)?;
        }
        Ok(())
    }

    fn process(&mut self, chunk: Chunk) -> Result<(), Error> {
        let in_work = self.shard.page().received(&chunk);
        let done = self.shard.process(chunk);
        drop(in_work);
        done.map(drop)
    }

    /// Seals what was taken, so that it is sent.
    ///
    /// # Errors
    /// A compressor's.
    pub fn seal(&mut self) -> Result<(), Error> {
        self.destinations = self.shard.finish()?;
        Ok(())
    }

    /// Waits until everything that was sealed is stored or in the dead letters.
    pub async fn drained(&self) {
        for destination in &self.destinations {
            destination.drained().await;
        }
    }

    /// What was counted so far.
    pub fn book(&self) -> Book {
        self.common.ledger.publish(0, self.shard.page().data());
        self.common.ledger.book()
    }

    /// Hits that no correlation has counted since they came too late.
    pub fn late_hits(&self) -> u64 {
        self.common.registry.sum(&metrics::CORRELATION_LEFT_OUT, "reason", "late")
    }

    /// A number that changes whenever a destination has taken or refused something.
    pub fn progress(&self) -> u64 {
        let book = self.book();
        let flows = book.destinations.values().flat_map(|destination| [&destination.events, &destination.alerts]);
        flows.map(|flow| flow.delivered + flow.dead).sum()
    }
}
