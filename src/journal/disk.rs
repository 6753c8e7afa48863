//! `disk`: a log and a writer thread for each shard.
//!
//! A shard encodes what it has to say and queues it; the thread commits every `commit_interval`, sooner with
//! `commit_bytes`, and tells who waits. While the disk fails it tries again for as long as it takes; what is
//! not durable stays in memory, and nothing more is taken than [`BACKLOG_BYTES_MAX`].

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::adopt::{self, Adopted, Work};
use super::content::write_chunk;
use super::group_commit::{self, Group, Queue};
use super::record::Key;
use super::recover::{self, ChunkReader, Damage, Place};
use super::segment::{Log, file_name};
use super::state::{Batch, Dropped, Entry, Names, NewChunk, Verdict};
use super::storage::{Folder, Storage};
use crate::budget::{Budget, Reservation};
use crate::clock;
use crate::cursor::{self, Commit, Journal, Manifest};
use crate::error::{Error, ErrorKind};
use crate::event::{Chunk, Members, Position};
use crate::metrics::{self, Registry};
use crate::task::LocalFuture;

/// Bytes of one shard that may be on their way to the disk: some commits of a disk that writes 500 MB/s and takes
/// 10 ms to sync.
const BACKLOG_BYTES_MAX: usize = 16 << 20;

/// Wait after the first failure of the disk; doubles up to [`RETRY_MAX`].
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// Longest wait: a disk that has room again is used within this time.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// How often a failure that goes on is told.
const TELL_INTERVAL: Duration = Duration::from_secs(30);

/// How long a stop waits for a disk that fails.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// The file that has the last epoch that was given out.
const EPOCH: &str = "epoch";

/// What a journal needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder.
    pub folder: PathBuf,
    /// Number of logs.
    pub shards: usize,
    /// Names of the destinations, in the order of the plan.
    pub destinations: Vec<String>,
    /// Names of the sources, in the order of the plan.
    pub sources: Vec<String>,
    /// Names that are gone: what waits for them is given up.
    pub forget: Vec<String>,
    /// A bit for each destination for which the oldest is dropped when there is no room, in place of holding senders back.
    pub drop_oldest: u64,
    /// A bit for each destination that is given nothing before a restart, and settles it when that is not needed any more.
    /// Senders are never held back for it: when half of the space is used, its oldest is dropped.
    pub kept: u64,
    /// How far apart commits are.
    pub commit_interval: Duration,
    /// Bytes at which one does not wait.
    pub commit_bytes: usize,
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Bytes that all segments may take.
    pub max_bytes: u64,
    /// How long segments are kept that nobody waits for any more, for as long as there is room.
    pub retain: Duration,
    /// Chunks of one log that may be open, since each takes memory.
    pub open_chunks_max: usize,
    /// Whether chunks are compressed.
    pub compress: bool,
}

impl Options {
    /// Above this nothing is taken any more: each log may need one more segment for what becomes of what it has.
    fn full_bytes(&self) -> u64 {
        self.max_bytes.saturating_sub(self.segment_bytes.saturating_mul(self.shards as u64))
    }

    /// Above this nothing is kept that nobody waits for: there is a segment less than would hold senders back.
    fn retained_max_bytes(&self) -> u64 {
        self.full_bytes().saturating_sub(self.segment_bytes)
    }
}

/// What was dropped for a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedCount {
    /// Events and alerts that this run had deferred.
    pub deferred: (u64, u64),
    /// Events and alerts that an earlier run had left.
    pub earlier: (u64, u64),
}

/// What a destination lacks of a chunk that was deferred.
#[derive(Debug)]
pub struct Piece {
    /// The chunk.
    pub place: Place,
    /// What is lacking.
    pub members: Members,
    /// Whether an earlier run received it.
    pub is_earlier: bool,
}

/// A journal that is open.
pub struct Opened {
    /// One for each shard.
    pub journals: Vec<Disk>,
    /// For each shard: what an earlier run left.
    pub work: Vec<Vec<Work>>,
    /// Reads the chunks of that work, and those that are deferred.
    pub reader: ChunkReader,
    /// What of the earlier run's logs cannot be read.
    pub damage: Vec<Damage>,
    /// Ends the writers.
    pub closer: Closer,
}

/// Opens the journal, takes over what an earlier run left, and starts the writers.
///
/// # Errors
/// Another process has it; the disk; events that wait for a destination or source that is gone.
pub fn open(options: &Options, registry: &Registry) -> Result<Opened, Error> {
    let failed = |error: io::Error| {
        let error = Error::new(ErrorKind::Storage, "open the journal", error.to_string());
        error.with("folder", options.folder.display())
    };
    open_on(&(Arc::new(Folder::lock(&options.folder).map_err(failed)?) as Arc<dyn Storage>), options, registry)
}

/// As [`open`], on any storage.
pub(super) fn open_on(storage: &Arc<dyn Storage>, options: &Options, registry: &Registry) -> Result<Opened, Error> {
    let started = start_logs(storage, options)?;
    let Started { logs, work, owners, damage, reader, used_bytes, forgotten, torn_bytes } = started;
    for (name, count) in forgotten {
        tracing::warn!(name, count, "events that waited for what the configuration does not have any more are given up");
        registry.cell(&metrics::EVENTS_DROPPED, &[("component_id", &name), ("reason", "forgotten")]).add(count);
    }
    for damage in &damage {
        tracing::error!(?damage, "a part of the journal cannot be read");
    }
    registry.cell(&metrics::JOURNAL_DAMAGE, &[]).add(damage.len() as u64);
    if torn_bytes > 0 {
        tracing::info!(
            bytes = torn_bytes,
            "the journal ends with what was being written when Hydrant died; nobody was told that it is durable"
        );
    }
    let mut queues = Vec::new();
    let mut receivers = Vec::new();
    for _ in &logs {
        let (queue, receiver) = group_commit::channel();
        queues.push(queue);
        receivers.push(receiver);
    }
    let backlogs = (0..options.shards).map(|_| Budget::new(BACKLOG_BYTES_MAX)).collect();
    let failing = (0..options.shards).map(|_| AtomicBool::new(false)).collect();
    let count = |log: &Log, destination| log.state().deferred.get(&destination).map_or(0, VecDeque::len);
    let deferred = |(log, _): &(Log, u64)| Deferred {
        counts: (0..options.destinations.len()).map(|index| AtomicUsize::new(count(log, index as u16))).collect(),
        more: Notify::new(),
        dropped: options.destinations.iter().map(|_| Mutex::default()).collect(),
    };
    let shared = Arc::new(Shared {
        queues,
        owners,
        backlogs,
        failing,
        closing: Arc::default(),
        used_bytes,
        full_bytes: options.full_bytes(),
        retained_max: options.retained_max_bytes(),
        is_disk_full: AtomicBool::new(false),
        retained: logs.iter().map(|(log, _)| AtomicU64::new(log.retained_bytes())).collect(),
        open_chunks: (0..options.shards).map(|_| AtomicUsize::new(0)).collect(),
        open_chunks_max: options.open_chunks_max,
        drop_oldest: options.drop_oldest,
        kept: options.kept,
        first_epoch: logs.iter().map(|(_, epoch)| *epoch).min().unwrap_or(0),
        deferred: logs.iter().map(deferred).collect(),
    });
    registry.cell(&metrics::JOURNAL_LIMIT, &[]).set(options.max_bytes);
    let mut threads = Vec::new();
    let mut journals = Vec::new();
    for (own, ((log, epoch), queue)) in logs.into_iter().zip(receivers).enumerate() {
        let counters = Counters::new(registry, own);
        let writer = Writer { log, own, shared: shared.clone(), dropped: Vec::new(), rooms: Vec::new(), counters };
        let (group, closing) = (Group { interval: options.commit_interval, bytes: options.commit_bytes }, shared.closing.clone());
        let run = move || queue.run(writer, group, &closing);
        let thread = std::thread::Builder::new().name(format!("hydrant-log-{own}")).spawn(run);
        let failed = |error: io::Error| Error::new(ErrorKind::Unexpected, "open the journal", "no thread").because(error);
        threads.push(thread.map_err(failed)?);
        journals.push(Disk { shared: shared.clone(), own, epoch, next: Cell::new(0), compress: options.compress });
    }
    Ok(Opened { journals, work, reader, damage, closer: Closer { shared, threads } })
}

/// What is there before the writers run.
pub(super) struct Started {
    /// Each with its epoch.
    pub(super) logs: Vec<(Log, u64)>,
    pub(super) work: Vec<Vec<Work>>,
    pub(super) owners: HashMap<u64, usize>,
    pub(super) damage: Vec<Damage>,
    pub(super) reader: ChunkReader,
    pub(super) used_bytes: Arc<AtomicU64>,
    pub(super) forgotten: std::collections::BTreeMap<String, u64>,
    pub(super) torn_bytes: u64,
}

pub(super) fn start_logs(storage: &Arc<dyn Storage>, options: &Options) -> Result<Started, Error> {
    let failed = |error: io::Error| {
        let error = Error::new(ErrorKind::Storage, "open the journal", error.to_string());
        error.with("folder", options.folder.display())
    };
    // What an earlier run removed must not come back when nothing speaks of it any more.
    storage.sync_folder().map_err(failed)?;
    start_from(storage, options, recover::load(&**storage, false).map_err(failed)?)
}

/// As [`start_logs`], from what was loaded before.
pub(super) fn start_from(storage: &Arc<dyn Storage>, options: &Options, mut loaded: recover::Loaded) -> Result<Started, Error> {
    let failed = |error: io::Error| {
        let error = Error::new(ErrorKind::Storage, "open the journal", error.to_string());
        error.with("folder", options.folder.display())
    };
    for ((epoch, segment), end) in &loaded.ends {
        // The room that was kept for records to come. And what a process wrote that was killed may be nowhere but in
        // the cache: it has been read, so from here on it has to stay.
        storage.shrink(&file_name(*epoch, *segment), *end).map_err(failed)?;
        loaded.files.entry((*epoch, *segment)).and_modify(|bytes| *bytes = (*bytes).min(*end));
    }
    let first = next_epoch(&**storage, &loaded, options.shards as u64).map_err(failed)?;
    let mut names = Names { destinations: options.destinations.clone(), sources: options.sources.clone() };
    let damage = std::mem::take(&mut loaded.damage);
    let mut secrets = loaded.secrets.clone();
    let used_bytes = Arc::new(AtomicU64::new(loaded.files.values().sum()));
    let torn_bytes = loaded.torn_bytes;
    let Adopted { states, work, mut owners, forgotten } = adopt::adopt(loaded, &mut names, options)?;
    let mut logs = Vec::new();
    for (index, state) in states.into_iter().enumerate() {
        let epoch = first + index as u64;
        owners.insert(epoch, index);
        let key = Key { secret: RandomState::new().hash_one(epoch), epoch, segment: 0 };
        secrets.insert(epoch, key.secret);
        let log = Log::new(storage.clone(), key, names.clone(), state).with_segments(options.segment_bytes, used_bytes.clone());
        let mut log = log.retaining(options.retain);
        for (epoch, segment) in log.state().segments.keys().copied().collect::<Vec<_>>() {
            log.note_closed((epoch, segment), storage.modified_ms(&file_name(epoch, segment)).map_err(failed)?);
        }
        logs.push((log, epoch));
    }
    let reader = ChunkReader::new(storage.clone(), secrets);
    // Only when all snapshots are durable may what they were made from go.
    logs.iter_mut().try_for_each(|(log, _)| log.begin()).map_err(failed)?;
    logs.iter_mut().try_for_each(|(log, _)| log.free().map(drop)).map_err(failed)?;
    for (log, _) in &mut logs {
        // Nobody would write, and free, anything before there is room.
        while used_bytes.load(Ordering::Relaxed) > options.retained_max_bytes() && log.free_oldest().map_err(failed)? {}
    }
    Ok(Started { logs, work, owners, damage, reader, used_bytes, forgotten, torn_bytes })
}

/// The first of `count` epochs that were never used, durably taken. Not below the clock, so that positions of the
/// `memory` journal do not come again.
fn next_epoch(storage: &dyn Storage, loaded: &recover::Loaded, count: u64) -> io::Result<u64> {
    let stored = storage.read(EPOCH, 0, 32).ok().and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse::<u64>().ok());
    let seen = loaded.files.keys().map(|(epoch, _)| *epoch).max();
    let after = stored.max(seen).map_or(0, |epoch| epoch + 1);
    let first = after.max(clock::now_ms().unsigned_abs());
    storage.replace(EPOCH, format!("{}\n", first + count - 1).as_bytes())?;
    Ok(first)
}

struct Shared {
    queues: Vec<Queue<Entry, Question>>,
    /// Which log answers for an epoch.
    owners: HashMap<u64, usize>,
    /// What is on its way, by log.
    backlogs: Vec<Arc<Budget>>,
    failing: Vec<AtomicBool>,
    closing: Arc<AtomicBool>,
    used_bytes: Arc<AtomicU64>,
    /// Above this nothing is taken any more.
    full_bytes: u64,
    /// Above this nothing is kept that nobody waits for.
    retained_max: u64,
    /// A log could not be written, since the disk has no room.
    is_disk_full: AtomicBool,
    /// By log: bytes that are kept although nobody waits for them.
    retained: Vec<AtomicU64>,
    /// By log.
    open_chunks: Vec<AtomicUsize>,
    open_chunks_max: usize,
    drop_oldest: u64,
    kept: u64,
    /// Of this run.
    first_epoch: u64,
    /// By log.
    deferred: Vec<Deferred>,
}

/// How much of a log is deferred.
struct Deferred {
    /// Chunks, by destination.
    counts: Vec<AtomicUsize>,
    /// Told when there are more.
    more: Notify,
    /// What was dropped and is not counted anywhere else yet, by destination.
    dropped: Vec<Mutex<DroppedCount>>,
}

/// Of the chunks that a log may have open, so many are dropped at once when there are too many: looking for them takes a
/// while.
const DROP_SHARE: usize = 16;

impl Shared {
    /// Whether the log takes nothing more before something is given back.
    fn is_full(&self, own: usize) -> bool {
        self.used_bytes.load(Ordering::Relaxed) > self.full_bytes || self.has_open(own, self.open_chunks_max)
    }

    /// Bytes of what somebody waits for.
    fn needed_bytes(&self) -> u64 {
        let retained: u64 = self.retained.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum();
        self.used_bytes.load(Ordering::Relaxed).saturating_sub(retained)
    }

    /// Whether what nobody waits for has to go.
    fn is_pressed(&self) -> bool {
        self.is_disk_full.load(Ordering::Relaxed) || self.used_bytes.load(Ordering::Relaxed) > self.retained_max
    }

    /// Wakes the other logs that keep what nobody waits for.
    fn press(&self, own: usize) {
        for (log, bytes) in self.retained.iter().enumerate() {
            if log != own && bytes.load(Ordering::Relaxed) > 0 {
                drop(self.send(log, Entry::Flush, None));
            }
        }
    }

    /// Whether half of the space is used.
    fn is_filling(&self, own: usize) -> bool {
        self.needed_bytes() > self.full_bytes / 2 || self.has_open(own, self.open_chunks_max / 2)
    }

    /// A bit for each destination for which the oldest is to be dropped now.
    fn droppable(&self, own: usize) -> u64 {
        let drop_oldest = if self.is_full(own) { self.drop_oldest } else { 0 };
        drop_oldest | if self.is_filling(own) { self.kept } else { 0 }
    }

    fn has_open(&self, own: usize, count: usize) -> bool {
        self.open_chunks.get(own).is_some_and(|open| open.load(Ordering::Relaxed) >= count)
    }

    /// Wakes those who wait for room although nothing of their own backlog was freed.
    fn wake(&self) {
        self.backlogs.iter().for_each(|backlog| drop(backlog.take(1)));
    }

    fn defer(&self, owner: usize, destination: usize) {
        let Some(deferred) = self.deferred.get(owner) else { return };
        if let Some(count) = deferred.counts.get(destination) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        deferred.more.notify_one();
    }

    fn send(&self, owner: usize, entry: Entry, reservation: Option<Reservation>) -> Commit {
        // A log that is not there takes nothing, which who waits is told.
        self.queues.get(owner).map_or_else(Commit::never, |queue| Commit::pending(queue.push(entry, reservation)))
    }

    fn owner(&self, position: Position) -> Option<usize> {
        self.owners.get(&position.epoch).copied()
    }

    /// Sets of chunks, by the log that answers for them.
    fn by_owner(&self, members: &[Members]) -> Vec<(usize, Vec<Members>)> {
        let mut parts: Vec<(usize, Vec<Members>)> = Vec::new();
        for members in members.iter().filter(|members| !members.is_empty()) {
            let Some(owner) = self.owner(members.chunk) else { continue };
            match parts.iter_mut().find(|(log, _)| *log == owner) {
                Some((_, part)) => part.push(members.clone()),
                None => parts.push((owner, vec![members.clone()])),
            }
        }
        parts
    }
}

/// What the writer is asked beside entries.
enum Question {
    /// For so many deferred chunks of a destination; answered from what is durable.
    Deferred { destination: u16, count: usize, answer: oneshot::Sender<Vec<Piece>> },
    /// That the oldest is dropped if there is little room. Answered when that is durable: whether there was anything.
    MakeRoom(oneshot::Sender<bool>),
}

/// Ends the writers when the shards have ended.
pub struct Closer {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<bool>>,
}

impl Closer {
    /// Makes durable what is on its way. False if the disk did not take it.
    pub fn close(self) -> bool {
        self.shared.closing.store(true, Ordering::Release);
        for owner in 0..self.threads.len() {
            drop(self.shared.send(owner, Entry::Flush, None));
        }
        // All of them, whatever the first ones say.
        let ended: Vec<bool> = self.threads.into_iter().map(|thread| thread.join().unwrap_or(false)).collect();
        ended.into_iter().all(|is_durable| is_durable)
    }
}

/// The journal of one shard.
pub struct Disk {
    shared: Arc<Shared>,
    own: usize,
    epoch: u64,
    next: Cell<u64>,
    compress: bool,
}

impl Disk {
    /// How many chunks of this log are deferred for a destination.
    pub fn deferred(&self, destination: usize) -> usize {
        let counts = self.shared.deferred.get(self.own).map_or(&[][..], |deferred| &deferred.counts);
        counts.get(destination).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Resolves when more chunks of this log have been deferred since it did so the last time.
    pub async fn deferred_more(&self) {
        if let Some(deferred) = self.shared.deferred.get(self.own) {
            deferred.more.notified().await;
        }
    }

    /// Takes up to `count` deferred chunks of a destination out, the oldest first. They have to be delivered or
    /// settled: only a restart brings them back.
    pub async fn take_deferred(&self, destination: usize, count: usize) -> Vec<Piece> {
        let (answer, pieces) = oneshot::channel();
        if let Some(queue) = self.shared.queues.get(self.own) {
            queue.ask(Question::Deferred { destination: destination as u16, count, answer });
        }
        pieces.await.unwrap_or_default()
    }

    /// Whether [`Disk::make_room`] has something to do.
    pub fn needs_room(&self) -> bool {
        self.shared.droppable(self.own) != 0
    }

    /// Drops the oldest chunks of this log that wait for nobody but the destinations of [`Options::drop_oldest`], if it is
    /// full, or of [`Options::kept`], and are in no batch: those of a whole segment, or some if too many are open. Whether there
    /// were any.
    pub async fn make_room(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        if let Some(queue) = self.shared.queues.get(self.own) {
            queue.ask(Question::MakeRoom(answer));
        }
        answered.await.unwrap_or(false)
    }

    /// What was dropped of this log for a destination, durably, since this was asked the last time.
    pub fn take_dropped(&self, destination: usize) -> DroppedCount {
        let deferred = self.shared.deferred.get(self.own);
        let dropped = deferred.and_then(|deferred| deferred.dropped.get(destination));
        dropped.map(|dropped| std::mem::take(&mut *dropped.lock().unwrap_or_else(PoisonError::into_inner))).unwrap_or_default()
    }
}

impl Journal for Disk {
    fn has_room(&self, bytes: usize) -> bool {
        let shared = &self.shared;
        let is_failing = shared.failing[self.own].load(Ordering::Relaxed);
        // A large request must not wait for the moment in which nothing at all is on its way.
        !is_failing && !shared.is_full(self.own) && shared.backlogs[self.own].has_room(bytes.min(BACKLOG_BYTES_MAX / 4))
    }

    fn freed(&self) -> LocalFuture<'_, ()> {
        Box::pin(self.shared.backlogs[self.own].freed())
    }

    fn is_filling(&self) -> bool {
        self.shared.is_filling(self.own)
    }

    fn append(&self, chunks: &mut [Chunk]) -> Commit {
        let mut new = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let frames = chunk.frames().len();
            chunk.position = Position { epoch: self.epoch, sequence: self.next.get() };
            self.next.set(self.next.get() + frames.max(1) as u64);
            let (body, flags) = write_chunk(chunk, self.compress);
            new.push(NewChunk { position: chunk.position, source: chunk.sender.source_index, frames: frames as u32, body, flags });
        }
        let reservation = self.shared.backlogs[self.own].take(new.iter().map(|chunk| chunk.body.capacity()).sum());
        self.shared.send(self.own, Entry::Chunks(new), Some(reservation))
    }

    fn flush(&self) -> Commit {
        self.shared.send(self.own, Entry::Flush, None)
    }

    fn keeps_verdicts(&self) -> bool {
        true
    }

    fn decide(&self, chunk: Position, verdict: cursor::Verdict) {
        if let Some(owner) = self.shared.owner(chunk) {
            let cursor::Verdict { plan, expected, deferred } = verdict;
            let mut left = deferred;
            while left != 0 {
                self.shared.defer(owner, left.trailing_zeros() as usize);
                left &= left - 1;
            }
            let expected = expected.into_iter().map(|(destination, members)| (destination as u16, members)).collect();
            drop(self.shared.send(owner, Entry::Verdict(chunk, Verdict { plan, expected, deferred }), None));
        }
    }

    fn seal<'a>(&'a self, destination: usize, manifest: Manifest<'a>) -> LocalFuture<'a, Result<(), Error>> {
        let parts = self.shared.by_owner(manifest.members);
        let commits: Vec<Commit> = parts
            .into_iter()
            .map(|(owner, members)| {
                let batch = Batch {
                    destination: destination as u16,
                    id: manifest.batch,
                    plan: manifest.plan,
                    partition: manifest.partition.into(),
                    oldest_ms: manifest.oldest_ms,
                    members,
                };
                self.shared.send(owner, Entry::Manifest(batch), None)
            })
            .collect();
        Box::pin(async move {
            for commit in commits {
                commit.await?;
            }
            Ok(())
        })
    }

    fn settle(&self, destination: usize, batch: u128, members: &[Members]) {
        for (owner, members) in self.shared.by_owner(members) {
            drop(self.shared.send(owner, Entry::Settled(destination as u16, batch, members), None));
        }
    }

    fn give_up(&self, chunk: Position) {
        if let Some(owner) = self.shared.owner(chunk) {
            drop(self.shared.send(owner, Entry::Lost(chunk), None));
        }
    }
}

struct Counters {
    commits: metrics::Cell,
    bytes: metrics::Cell,
    failures: metrics::Cell,
    failing: metrics::Cell,
    used: metrics::Cell,
    retained: metrics::Cell,
    open: metrics::Cell,
}

impl Counters {
    fn new(registry: &Registry, own: usize) -> Self {
        let shard = own.to_string();
        let cell = |family| registry.cell(family, &[("shard", &shard)]);
        Self {
            commits: cell(&metrics::JOURNAL_COMMITS),
            bytes: cell(&metrics::JOURNAL_BYTES),
            failures: cell(&metrics::JOURNAL_FAILURES),
            failing: cell(&metrics::JOURNAL_FAILING),
            used: registry.cell(&metrics::JOURNAL_USED, &[]),
            retained: cell(&metrics::JOURNAL_RETAINED),
            open: cell(&metrics::JOURNAL_OPEN),
        }
    }
}

struct Writer {
    log: Log,
    own: usize,
    shared: Arc<Shared>,
    /// What the entries under way drop.
    dropped: Vec<(u16, DroppedCount)>,
    /// Who asked for room, and whether there was anything to drop.
    rooms: Vec<(oneshot::Sender<bool>, bool)>,
    counters: Counters,
}

impl group_commit::Store for Writer {
    type Entry = Entry;
    type Question = Question;

    fn bytes(entry: &Entry) -> usize {
        entry.bytes()
    }

    fn answer(&mut self, question: Question, entries: &mut Vec<Entry>) {
        match question {
            Question::Deferred { destination, count, answer } => drop(answer.send(self.take_deferred(destination, count))),
            Question::MakeRoom(answer) => {
                let dropped = self.drop_oldest();
                self.rooms.push((answer, !dropped.is_empty()));
                entries.extend(dropped);
            }
        }
    }

    fn make_durable(&mut self, entries: &mut Vec<Entry>, bytes: usize) -> bool {
        let mut pause = RETRY_FIRST;
        let mut told: Option<Instant> = None;
        let start = Instant::now();
        while let Err(error) = self.log.commit(entries) {
            // What nobody waits for goes first: then nobody is held back.
            if error.kind() == io::ErrorKind::StorageFull && matches!(self.log.free_oldest(), Ok(true)) {
                continue;
            }
            self.counters.failures.add(1);
            self.counters.failing.set(1);
            self.shared.failing[self.own].store(true, Ordering::Relaxed);
            if told.is_none_or(|told| told.elapsed() > TELL_INTERVAL) {
                tracing::error!(%error, log = self.own, "the journal cannot be written; senders are held back, nothing is acknowledged");
                told = Some(Instant::now());
            }
            if error.kind() == io::ErrorKind::StorageFull {
                self.shared.is_disk_full.store(true, Ordering::Relaxed);
                self.shared.press(self.own);
            }
            if self.shared.closing.load(Ordering::Acquire) && start.elapsed() > CLOSE_PATIENCE {
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(RETRY_MAX);
        }
        if told.is_some() {
            tracing::info!(log = self.own, seconds = start.elapsed().as_secs(), "the journal can be written again");
            self.counters.failing.set(0);
            self.shared.failing[self.own].store(false, Ordering::Relaxed);
            self.shared.is_disk_full.store(false, Ordering::Relaxed);
            self.shared.wake();
        }
        self.counters.commits.add(1);
        self.counters.bytes.add(bytes as u64);
        self.counters.open.set(self.log.state().chunks.len() as u64);
        true
    }

    fn told(&mut self) {
        self.free();
        self.count_dropped();
        for (answer, was_any) in self.rooms.drain(..) {
            // Who asked may be gone.
            let _ = answer.send(was_any);
        }
    }
}

impl Writer {
    fn take_deferred(&mut self, destination: u16, count: usize) -> Vec<Piece> {
        let (pieces, taken) = self.log.take_deferred(destination, count);
        self.note_taken(destination, taken);
        let is_earlier = |position: Position| position.epoch < self.shared.first_epoch;
        let piece = |(position, at, members)| Piece { place: Place { position, at }, members, is_earlier: is_earlier(position) };
        pieces.into_iter().map(piece).collect()
    }

    /// What settles the oldest chunks that may be dropped now.
    fn drop_oldest(&mut self) -> Vec<Entry> {
        let shared = self.shared.clone();
        let destinations = shared.droppable(self.own);
        if destinations == 0 {
            return Vec::new();
        }
        let open_max = if shared.is_full(self.own) { shared.open_chunks_max } else { shared.open_chunks_max / 2 };
        let count = shared.has_open(self.own, open_max).then(|| (shared.open_chunks_max / DROP_SHARE).max(1));
        let Dropped { members, taken } = self.log.drop_oldest(destinations, count);
        for (destination, count) in taken {
            self.note_taken(destination, count);
        }
        for (destination, members) in &members {
            let mut count = DroppedCount::default();
            for members in members {
                let part = if members.chunk.epoch < shared.first_epoch { &mut count.earlier } else { &mut count.deferred };
                *part = (part.0 + u64::from(members.count), part.1 + members.alerts.len() as u64);
            }
            self.dropped.push((*destination, count));
        }
        members.into_iter().map(|(destination, members)| Entry::Settled(destination, 0, members)).collect()
    }

    /// Tells what was dropped, which is durable now.
    fn count_dropped(&mut self) {
        let deferred = self.shared.deferred.get(self.own);
        for (destination, count) in self.dropped.drain(..) {
            let Some(all) = deferred.and_then(|deferred| deferred.dropped.get(usize::from(destination))) else { continue };
            let all = &mut *all.lock().unwrap_or_else(PoisonError::into_inner);
            for (sum, more) in [(&mut all.deferred, count.deferred), (&mut all.earlier, count.earlier)] {
                *sum = (sum.0 + more.0, sum.1 + more.1);
            }
        }
    }

    fn note_taken(&self, destination: u16, taken: usize) {
        if let Some(count) = self.shared.deferred.get(self.own).and_then(|deferred| deferred.counts.get(usize::from(destination))) {
            count.fetch_sub(taken, Ordering::Relaxed);
        }
    }

    fn free_segments(&mut self) -> io::Result<bool> {
        let mut has_freed = self.log.free()?;
        while self.shared.is_pressed() && self.log.free_oldest()? {
            has_freed = true;
        }
        if self.shared.is_pressed() {
            self.shared.press(self.own);
        }
        Ok(has_freed)
    }

    fn free(&mut self) {
        let open = self.log.state().chunks.len();
        let before = self.shared.open_chunks[self.own].swap(open, Ordering::Relaxed);
        if before >= self.shared.open_chunks_max && open < self.shared.open_chunks_max {
            self.shared.wake();
        }
        match self.free_segments() {
            Ok(true) => self.shared.wake(),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, log = self.own, "segments that nobody needs any more cannot be removed"),
        }
        let retained_bytes = self.log.retained_bytes();
        self.shared.retained[self.own].store(retained_bytes, Ordering::Relaxed);
        self.counters.retained.set(retained_bytes);
        self.counters.used.set(self.shared.used_bytes.load(Ordering::Relaxed));
    }
}
