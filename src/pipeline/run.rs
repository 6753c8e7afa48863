//! Starts the shards, stops them, drains.
//!
//! One thread for each shard with a current-thread runtime. A stop has three steps, which together may take
//! `drain_timeout`: sources end and what they have is processed; when that is so on every shard, and no chunk can
//! be handed over any more, each seals its batches; then the destinations are waited for. A hand-over to another process
//! takes the same steps in a shorter time, where the journal on disk has the rest.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::task::{JoinHandle, JoinSet, LocalSet};

use crate::budget::Budget;
use crate::clock;
use crate::cursor::Journal;
use crate::deliver::dead_letter::Shipping;
use crate::detect::correlate::LEVELS_MAX;
use crate::enrich::{POLL_INTERVAL, Refresh};
use crate::error::{Error, ErrorKind};
use crate::journal::{self, ChunkReader, Closer, Disk, Memory, Opened, Work};
use crate::ledger::{Ledger, PUBLISH_INTERVAL, Writer};
use crate::metrics::{self, Registry};
use crate::net::listen::{self, Address};
use crate::pipeline::catch_up::CatchUp;
use crate::pipeline::correlation::{self, Exchange, work};
use crate::pipeline::health::Health;
use crate::pipeline::intake::{Gate, SourcePort};
use crate::pipeline::mesh::{self, Port};
use crate::pipeline::plan::{CORRELATION_SOURCE, JournalPlan, Plan, WhenFull};
use crate::pipeline::room::Room;
use crate::pipeline::shard::{Common, Shard};
use crate::pipeline::watch;
use crate::source_health::SourceHealth;
use crate::task::{self, Stop, Stopper};

/// Where the ids of this start's batches begin: names of objects follow from them, and machines that start in
/// the same millisecond write to the same bucket, so the time is not enough. Of the low 80 bits,
/// 64 to 69 are the destination, 48 to 61 the shard and the rest below the count: version and variant of a uuid
/// (76 to 79, 62 and 63) overwrite nothing.
fn batch_seed() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    u128::from(RandomState::new().hash_one(clock::now_ms()) >> 16) << 80
}

/// A running pipeline.
pub struct Running {
    threads: Vec<std::thread::JoinHandle<Result<usize, Error>>>,
    plans: tokio::sync::watch::Sender<Arc<Plan>>,
    common: Common,
    closer: Option<Closer>,
    ledger: Writer,
}

/// The journals of all shards, each with what an earlier run left for it.
struct Journals {
    shards: Vec<(ShardJournal, Vec<Work>)>,
    closer: Option<Closer>,
}

/// One shard's journal, before it is on the shard's thread.
enum ShardJournal {
    Memory(Memory),
    Disk(Disk, ChunkReader),
}

/// The part of the memory budget that the chunks may take which are open in the journal: a quarter.
const OPEN_CHUNKS_SHARE: usize = 4;

/// What an open chunk takes in its log's state, about, with two destinations.
const OPEN_CHUNK_BYTES: usize = 512;

/// Open chunks that a log may have however small the budget is.
const OPEN_CHUNKS_MIN: usize = 10_000;

fn open_journals(plan: &Plan, registry: &Registry) -> Result<Journals, Error> {
    let settings = &plan.settings;
    let JournalPlan::Disk(disk) = &settings.journal else {
        let (epoch, next) = (clock::now_ms() as u64, Arc::new(AtomicU64::new(0)));
        let shards = (0..settings.shards).map(|_| (ShardJournal::Memory(Memory::new(epoch, next.clone())), Vec::new())).collect();
        return Ok(Journals { shards, closer: None });
    };
    let sources = plan.sources.iter().map(|source| source.name.to_string());
    let own = plan.alerts.iter().map(|alerts| alerts.sender.source.to_string());
    let options = journal::Options {
        folder: settings.data_dir.join("journal"),
        shards: settings.shards,
        destinations: plan.sinks.iter().map(|sink| sink.name.to_string()).chain([CORRELATION_SOURCE.to_owned()]).collect(),
        sources: sources.chain(own).collect(),
        forget: disk.forget.clone(),
        drop_oldest: drop_oldest(plan),
        kept: 1 << plan.sinks.len(),
        commit_interval: disk.commit_interval,
        commit_bytes: disk.commit_bytes,
        segment_bytes: disk.segment_bytes as u64,
        max_bytes: disk.max_bytes as u64,
        retain: disk.retain,
        open_chunks_max: (settings.memory_bytes / OPEN_CHUNKS_SHARE / OPEN_CHUNK_BYTES / settings.shards).max(OPEN_CHUNKS_MIN),
        compress: disk.compress,
    };
    let Opened { journals, work, reader, closer, .. } = journal::open(&options, registry)?;
    let shards = journals.into_iter().map(|journal| ShardJournal::Disk(journal, reader.clone())).zip(work).collect();
    Ok(Journals { shards, closer: Some(closer) })
}

/// A bit for each destination that the oldest is dropped for.
fn drop_oldest(plan: &Plan) -> u64 {
    let sinks = plan.sinks.iter().enumerate().filter(|(_, sink)| sink.when_full == WhenFull::DropOldest);
    sinks.fold(0, |bits, (index, _)| bits | 1 << index)
}

/// Starts every shard. `stop` ends the sources; [`Running::join`] waits for the rest.
///
/// # Errors
/// A thread that cannot be started.
pub fn start(plan: Arc<Plan>, registry: Registry, stop: &Stop) -> Result<Running, Error> {
    // Shards share their ports, so that nothing else would tell of another Hydrant at the same one.
    for address in plan.sources.iter().flat_map(|source| source.source.listens_on()) {
        if let Address::Ip { socket, transport } = address {
            listen::ensure_free(socket, transport)?;
        }
    }
    let shards = plan.settings.shards;
    let sources = plan.sources.iter().map(|source| if source.source.is_sharded() { shards } else { 1 }).sum();
    let (health, taps) = (Health::new(sources, shards, stop.clone()), Arc::default());
    let budget = Budget::new(plan.settings.memory_bytes);
    let (plans, plan) = tokio::sync::watch::channel(plan);
    let ledger = open_ledger(&plan.borrow(), &registry);
    let source_health = Arc::new(SourceHealth::open(&plan.borrow().settings.data_dir, clock::now_ms()));
    let common = Common { budget, plan, registry, health, taps, ledger, source_health };
    let Journals { shards: journals, closer } = open_journals(&common.plan.borrow(), &common.registry)?;
    let seed = batch_seed();
    let mut threads = Vec::new();
    let rounds = Rounds::new();
    let mut exchange = correlation::exchange(shards);
    if closer.is_some() {
        exchange.iter_mut().for_each(Exchange::wait_for_journal);
    }
    let ports = mesh::mesh(shards).into_iter().zip(exchange);
    for (index, (port, journal)) in ports.zip(journals).enumerate() {
        let common = common.clone();
        let ends = Ends { stop: stop.clone(), rounds: rounds.clone() };
        let run = move || {
            let _guard = common.health.shard();
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Error::new(ErrorKind::Unexpected, "start a shard", "no runtime").because(error))?;
            LocalSet::new().block_on(&runtime, shard(common, journal, port, ends, seed | (index as u128) << 48))
        };
        let thread = std::thread::Builder::new().name(format!("hydrant-{index}")).spawn(run);
        threads.push(thread.map_err(|error| Error::new(ErrorKind::Unexpected, "start a shard", "no thread").because(error))?);
    }
    let ledger = Writer::start(common.ledger.clone())?;
    Ok(Running { threads, plans, common, closer, ledger })
}

fn open_ledger(plan: &Plan, registry: &Registry) -> Arc<Ledger> {
    let sources = plan.sources.iter().map(|source| source.name.to_string()).collect();
    let sinks = plan.sinks.iter().map(|sink| sink.name.to_string()).collect();
    let is_durable = matches!(plan.settings.journal, JournalPlan::Disk(_));
    Ledger::open(&plan.settings.data_dir, (sources, sinks), is_durable, registry.clone())
}

impl Running {
    /// Waits until every shard has ended; returns the number of batches that could not be delivered in time.
    ///
    /// # Errors
    /// The first error of a shard.
    pub fn join(self) -> Result<usize, Error> {
        let mut undelivered = 0;
        let mut failed = None;
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(count)) => undelivered += count,
                Ok(Err(error)) => {
                    failed.get_or_insert(error);
                }
                Err(_) => {
                    failed.get_or_insert_with(|| Error::new(ErrorKind::Unexpected, "run a shard", "it panicked"));
                }
            }
        }
        self.ledger.close().unwrap_or_else(|error| tracing::error!(%error, "the last counts are not written down"));
        let written = self.common.source_health.write(clock::now_ms(), true);
        written.unwrap_or_else(|error| tracing::error!(%error, "what was learned of senders is not written down"));
        let Some(closer) = self.closer else { return failed.map_or(Ok(undelivered), Err) };
        if !closer.close() {
            failed.get_or_insert_with(|| Error::new(ErrorKind::Storage, "close the journal", "the disk does not take it"));
        }
        if undelivered > 0 {
            tracing::warn!(batches = undelivered, "not delivered in time; they stay in the journal for the next start");
        }
        failed.map_or(Ok(0), Err)
    }

    /// What the shards share: budget, metrics, health, taps, the plan.
    pub fn common(&self) -> &Common {
        &self.common
    }

    /// Gives the shards a plan made by [`Plan::reload`]; each takes it up at its next chunk.
    pub fn replace(&self, plan: Plan) {
        let old = self.common.plan.borrow().clone();
        for title in plan.correlation.begins_empty(&old.correlation) {
            tracing::info!(correlation = title, "new or changed: it begins without any state");
        }
        for title in plan.correlation.forgets(&old.correlation) {
            tracing::info!(correlation = title, "gone or changed: its state is forgotten");
        }
        self.plans.send_replace(Arc::new(plan));
    }

    /// Whether every shard has ended by itself: all sources were read to their end.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(std::thread::JoinHandle::is_finished)
    }
}

/// How long sources may take to end, and then destinations to take what is on its way, when another process takes over:
/// senders wait meanwhile. Requests that take longer have no answer and come again; batches go on from the journal.
const HAND_OVER_TIME: Duration = Duration::from_secs(1);

/// What tells a shard when to end.
struct Ends {
    /// Sources end.
    stop: Stop,
    rounds: Rounds,
}

/// Rounds of the end, which all shards begin together. In the first nothing is handed over any more, in the second all
/// hits of rules are sent, in each further one those that a level of correlations has fired.
#[derive(Clone)]
struct Rounds(std::collections::VecDeque<(Arc<Stopper>, Stop)>);

impl Rounds {
    fn new() -> Self {
        // Stops that nobody sets: each comes when all shards have dropped their side, also by a panic.
        let round = || {
            let (stopper, stop) = task::pair();
            (Arc::new(stopper), stop)
        };
        Self((0..2 + LEVELS_MAX).map(|_| round()).collect())
    }

    /// Waits until all shards are done with this round.
    async fn pass(&mut self) {
        let Some((own, all)) = self.0.pop_front() else { return };
        drop(own);
        all.wait().await;
    }
}

/// Runs one shard to its end. The first one runs the sources that are not sharded.
async fn shard(
    common: Common,
    (journal, work): (ShardJournal, Vec<Work>),
    (port, exchange): (Port, Exchange),
    ends: Ends,
    seed: u128,
) -> Result<usize, Error> {
    let index = port.index();
    let is_first = index == 0;
    let (stopper, stop_now) = task::pair();
    let (journal, log): (Rc<dyn Journal>, _) = match journal {
        ShardJournal::Memory(memory) => (Rc::new(memory), None),
        ShardJournal::Disk(disk, reader) => {
            let disk = Rc::new(disk);
            (disk.clone(), Some((disk, reader)))
        }
    };
    let stages = Shard::new(&common, journal.clone(), seed, exchange)?;
    let gate = Gate::new(common.budget.clone(), journal, stages, port, stop_now);
    let room = log.as_ref().map(|(disk, _)| Room::new(disk.clone(), gate.page(), &common));
    let making_room = room.clone().map(|room| tokio::task::spawn_local(room.run()));
    let catch_up = log.map(|(disk, reader)| CatchUp::new(gate.clone(), disk, reader, &common));
    let catching_up = catch_up.clone().map(|catch_up| tokio::task::spawn_local(catch_up.run(work)));
    let mesh = tokio::task::spawn_local(gate.clone().serve_mesh());
    let timer = tokio::task::spawn_local(seal_in_time(gate.clone()));
    let correlation = [
        tokio::task::spawn_local(work::correlate(gate.clone(), common.plan.clone())),
        tokio::task::spawn_local(work::admit_alerts(gate.clone())),
    ];
    let counts = tokio::task::spawn_local(publish(common.ledger.clone(), index, gate.clone()));
    // A reload may bring enrichments where there were none.
    let files = is_first.then(|| tokio::task::spawn_local(refresh_files(common.clone())));
    let watch = is_first.then(|| tokio::task::spawn_local(watch::watch(gate.clone(), common.clone())));
    let plan = common.plan.borrow().clone();
    let bucket = plan.settings.dead_letters_to.as_deref().filter(|_| is_first);
    let shipping = bucket.map(|bucket| Shipping::new(&plan.settings.data_dir, bucket, common.registry.clone())).transpose()?;
    let shipping = shipping.map(|shipping| tokio::task::spawn_local(shipping.run()));
    let mut sources = JoinSet::new();
    for (number, source) in plan.sources.iter().enumerate().filter(|(_, source)| is_first || source.source.is_sharded()) {
        let port = SourcePort::new(gate.clone(), &common, number);
        if source.source.listens_on().is_empty() {
            common.health.note_opened();
        }
        sources.spawn_local(source.source.clone().run(Rc::new(port), ends.stop.clone()));
    }
    let mut failed = None;
    let mut patience = std::pin::pin!(hand_over_time(ends.stop.clone(), catch_up.is_some()));
    loop {
        let ended = tokio::select! {
            ended = sources.join_next() => ended,
            () = &mut patience => break,
        };
        let Some(ended) = ended else { break };
        let result = ended.map_err(|error| Error::new(ErrorKind::Unexpected, "run a source", "it panicked").because(error));
        if let Err(error) = result.and_then(|result| result) {
            tracing::error!(%error, "a source ended");
            common.health.note_failed();
            failed.get_or_insert(error);
        }
    }
    drop(sources);
    let undelivered = drain(&gate, ends, plan.settings.drain_timeout.0, catch_up.zip(catching_up)).await?;
    counts.abort();
    making_room.iter().for_each(JoinHandle::abort);
    if let Some(room) = &room {
        room.settle().await;
    }
    common.ledger.publish(index, gate.page().data());
    stopper.stop();
    timer.abort();
    mesh.abort();
    correlation.iter().for_each(JoinHandle::abort);
    files.iter().chain(&watch).chain(&shipping).for_each(JoinHandle::abort);
    failed.map_or(Ok(undelivered), Err)
}

/// Resolves when sources have had their time in a hand-over; never in a run or another stop. Without a log they have all the
/// time that they need: what they take after the last batch would be lost.
async fn hand_over_time(stop: Stop, has_log: bool) {
    stop.wait().await;
    if !stop.is_hand_over() || !has_log {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(HAND_OVER_TIME).await;
}

/// Gives away what a shard has counted, between two pieces of its work.
async fn publish(ledger: Arc<Ledger>, shard: usize, gate: Rc<Gate>) {
    loop {
        let mut data = gate.page().data();
        data.is_held_back = gate.is_held_back();
        ledger.publish(shard, data);
        tokio::time::sleep(PUBLISH_INTERVAL).await;
    }
}

/// Returns what is undelivered: batches, and whatever has not even become one.
async fn drain(gate: &Gate, ends: Ends, timeout: Duration, catch_up: Option<(Rc<CatchUp>, JoinHandle<()>)>) -> Result<usize, Error> {
    let Ends { stop, mut rounds } = ends;
    let mut is_over = false;
    let has_log = catch_up.is_some();
    let mut limit = std::pin::pin!(async {
        stop.wait().await;
        let is_short = stop.is_hand_over() && has_log;
        tokio::time::sleep(if is_short { timeout.min(HAND_OVER_TIME) } else { timeout }).await;
    });
    let nothing_comes = async {
        gate.idle().await;
        rounds.pass().await;
    };
    tokio::select! {
        () = nothing_comes => {}
        () = &mut limit => is_over = true,
    }
    if let Some((catch_up, task)) = catch_up {
        // Sources that were read to their end leave nothing behind; a stop leaves it to the next start.
        tokio::select! {
            () = catch_up.done() => {}
            () = stop.wait() => {}
        }
        task.abort();
    }
    let correlated = async {
        gate.finish_mesh().await;
        rounds.pass().await;
        for level in 0..LEVELS_MAX {
            gate.finish_level(level).await;
            rounds.pass().await;
        }
    };
    tokio::select! {
        () = correlated, if !is_over => {}
        () = &mut limit, if !is_over => is_over = true,
        () = std::future::ready(()), if is_over => {}
    }
    let destinations = gate.finish()?;
    let drained = async {
        for destination in &destinations {
            destination.drained().await;
        }
    };
    tokio::select! {
        biased;
        () = drained => {}
        () = &mut limit, if !is_over => is_over = true,
        () = tokio::time::sleep(timeout), if !is_over => is_over = true,
        () = std::future::ready(()), if is_over => {}
    }
    if is_over && !(stop.is_hand_over() && has_log) {
        tracing::error!("destinations did not take everything before the stop");
    }
    Ok(gate.at_work() + destinations.iter().map(crate::deliver::Destination::pending).sum::<usize>())
}

/// Seals batches whose interval is over.
async fn seal_in_time(gate: Rc<Gate>) {
    loop {
        match gate.with_shard(|shard| shard.seal_due(Instant::now())) {
            Ok(Some(due)) => tokio::time::sleep_until(due.into()).await,
            Ok(None) => gate.opened.notified().await,
            Err(error) => tracing::error!(%error, "a batch could not be sealed"),
        }
    }
}

/// Looks at the files of all enrichers, once for the process. They are read on a thread of their own.
async fn refresh_files(common: Common) {
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        let plan = common.plan.borrow().clone();
        for plan in &plan.enrichers {
            let enricher = plan.enricher.clone();
            let Ok(outcome) = tokio::task::spawn_blocking(move || enricher.refresh()).await else {
                tracing::error!(enrichment = %plan.name, "reading the file panicked; the old content stays");
                continue;
            };
            let outcome = match outcome {
                Refresh::Unchanged => continue,
                Refresh::Loaded => {
                    tracing::info!(enrichment = %plan.name, "the new content is in use");
                    "loaded"
                }
                Refresh::Partly(diagnostics) => {
                    tracing::warn!(enrichment = %plan.name, %diagnostics, "the new content is in use, but for a part of it");
                    "loaded"
                }
                Refresh::Failed(diagnostics) => {
                    tracing::error!(enrichment = %plan.name, %diagnostics, "the new content cannot be used; the old stays");
                    "failed"
                }
            };
            common.registry.cell(&metrics::ENRICHMENT_LOADS, &[("component_id", &plan.name), ("outcome", outcome)]).add(1);
        }
    }
}
