//! What the journal keeps for destinations, taken up while sources are open: `log -> shard`.
//!
//! That is what an earlier run left, and what this one deferred since a destination was behind. One task a shard, for the
//! log of that shard. First come events that correlation needs yet, whose hits are made again, and chunks that nobody has
//! decided yet; correlation waits for these. Then, for each destination that keeps up, sealed batches of the earlier run,
//! which go out under their old names, and deferred chunks. Between two of them live traffic has its turn. Nothing is
//! counted as received again.
//!
//! Never: more for a destination than half of its share of the memory; waits for one destination on behalf of another.

use std::cell::{Cell as StdCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::batch::Again;
use crate::error::{Error, ErrorKind};
use crate::event::{Chunk, Members, Sender};
use crate::journal::{ChunkReader, Disk, Piece, Place, Work};
use crate::metrics::{self, Cell, Registry};
use crate::pipeline::intake::Gate;
use crate::pipeline::plan::Plan;
use crate::pipeline::shard::{Came, Common};
use crate::source::Refused;

/// Wait before a file that could not be read is read again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// How often it is looked whether a destination keeps up again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Pieces that are asked of the log at once: each answer may wait for a commit.
const PIECES: usize = 64;

/// Takes up one shard's part.
pub struct CatchUp {
    gate: Rc<Gate>,
    disk: Rc<Disk>,
    reader: ChunkReader,
    plan: Arc<Plan>,
    registry: Registry,
    /// What correlation needs.
    kept: RefCell<VecDeque<(Place, Members)>>,
    undecided: RefCell<VecDeque<Undecided>>,
    /// Whether both were taken up.
    is_correlated: StdCell<bool>,
    /// By destination.
    lanes: Vec<Lane>,
    looked: Notify,
}

/// What waits for one destination.
struct Lane {
    batches: RefCell<VecDeque<SealedWork>>,
    pieces: RefCell<VecDeque<Piece>>,
    resumed: Cell,
}

/// A chunk that nobody has decided about, and what destinations have of it or get in batches.
struct Undecided {
    place: Place,
    had: Vec<(usize, Members)>,
}

struct SealedWork {
    again: Again,
    members: Vec<(Place, Members)>,
}

impl CatchUp {
    /// What works into the shard of `gate`, whose log is `disk`.
    pub fn new(gate: Rc<Gate>, disk: Rc<Disk>, reader: ChunkReader, common: &Common) -> Rc<Self> {
        let (plan, registry) = (common.plan.borrow().clone(), common.registry.clone());
        let lane = |name: &str| Lane {
            batches: RefCell::default(),
            pieces: RefCell::default(),
            resumed: registry.cell(&metrics::EVENTS_RESUMED, &[("component_id", name)]),
        };
        let lanes = plan.sinks.iter().map(|sink| lane(&sink.name)).collect();
        Rc::new(Self {
            gate,
            disk,
            reader,
            plan,
            registry,
            kept: RefCell::default(),
            undecided: RefCell::default(),
            is_correlated: StdCell::new(false),
            lanes,
            looked: Notify::new(),
        })
    }

    /// Works until Hydrant stops; what is left stays in the journal. `work` is what an earlier run left.
    pub async fn run(self: Rc<Self>, work: Vec<Work>) {
        let deferred: usize = (0..self.lanes.len()).map(|lane| self.disk.deferred(lane)).sum();
        if !work.is_empty() || deferred > 0 {
            tracing::info!(pieces = work.len() + deferred, "taking up what an earlier run left in the journal");
        }
        for piece in work {
            match piece {
                Work::Kept(place, members) => self.kept.borrow_mut().push_back((place, members)),
                Work::Undecided(place, had) => self.undecided.borrow_mut().push_back(Undecided { place, had }),
                Work::Batch { destination, id, partition, oldest_ms, members } => {
                    let Some(lane) = self.lanes.get(destination) else { continue };
                    lane.batches.borrow_mut().push_back(SealedWork { again: Again::new(id, partition, oldest_ms), members });
                }
            }
        }
        loop {
            match self.round().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(Refused::Stopping | Refused::Busy | Refused::NotStored) => return,
            }
            self.looked.notify_waiters();
            if self.is_empty() {
                self.disk.deferred_more().await;
            } else {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// Resolves when nothing is left to be taken up.
    pub async fn done(&self) {
        while !self.is_empty() {
            self.looked.notified().await;
        }
    }

    fn is_empty(&self) -> bool {
        let is_done = |(index, lane): (usize, &Lane)| {
            lane.batches.borrow().is_empty() && lane.pieces.borrow().is_empty() && self.disk.deferred(index) == 0
        };
        self.is_correlated.get() && self.lanes.iter().enumerate().all(is_done)
    }

    /// One piece of each kind; whether there was any.
    async fn round(&self) -> Result<bool, Refused> {
        let mut has_worked = false;
        // All of it: alerts wait for it, and it needs no room at a destination.
        while let Some((place, members)) = { self.kept.borrow_mut().pop_front() } {
            told(self.take_kept(place, members).await)?;
            self.turn().await;
        }
        let undecided = self.undecided.borrow_mut().pop_front();
        if let Some(Undecided { place, had }) = undecided {
            has_worked = true;
            told(self.take_undecided(place, &had).await)?;
            self.turn().await;
        } else if !self.is_correlated.replace(true) {
            self.gate.hits_sent().await;
            self.gate.with_shard(|shard| shard.exchange().caught_up());
        }
        for (destination, lane) in self.lanes.iter().enumerate() {
            if !self.gate.with_shard(|shard| shard.keeps_up(destination)) {
                continue;
            }
            let batch = lane.batches.borrow_mut().pop_front();
            if let Some(batch) = batch {
                has_worked = true;
                told(self.take_batch(destination, batch).await)?;
                self.turn().await;
                continue;
            }
            if let Some(piece) = self.next_piece(destination, lane).await {
                has_worked = true;
                told(self.take_piece(destination, lane, piece).await)?;
                self.turn().await;
            }
        }
        Ok(has_worked)
    }

    /// Gives everything else on this shard a turn.
    async fn turn(&self) {
        self.gate.opened.notify_one();
        tokio::task::yield_now().await;
    }

    async fn next_piece(&self, destination: usize, lane: &Lane) -> Option<Piece> {
        let is_asked = lane.pieces.borrow().is_empty() && self.disk.deferred(destination) > 0;
        if is_asked {
            // What was taken out cannot be dropped any more.
            let count = if self.gate.with_shard(|shard| shard.spares_batches(destination)) { 1 } else { PIECES };
            let pieces = self.disk.take_deferred(destination, count).await;
            lane.pieces.borrow_mut().extend(pieces);
        }
        lane.pieces.borrow_mut().pop_front()
    }

    async fn take_kept(&self, place: Place, members: Members) -> Result<(), Failed> {
        let Some(chunk) = self.chunk(place).await? else { return Ok(()) };
        self.gate.hits_sent().await;
        Ok(self.gate.with_shard(|shard| shard.process_kept(&chunk, members))?)
    }

    async fn take_undecided(&self, place: Place, had: &[(usize, Members)]) -> Result<(), Failed> {
        let Some(chunk) = self.chunk(place).await? else { return Ok(()) };
        self.gate.wait_for_memory(chunk.cost_bytes()).await?;
        self.gate.hits_sent().await;
        self.note_recovered(&chunk, chunk.frames().len() as u64);
        Ok(self.gate.with_shard(|shard| shard.process_rest(&chunk, had))?)
    }

    async fn take_batch(&self, destination: usize, batch: SealedWork) -> Result<(), Failed> {
        let SealedWork { mut again, members } = batch;
        for (index, (place, members)) in members.into_iter().enumerate() {
            let Some(chunk) = self.chunk(place).await? else { continue };
            // Once begun it goes on: what it holds would keep the room from coming.
            if index == 0 {
                self.gate.wait_for_memory(chunk.cost_bytes()).await?;
            }
            self.note_recovered(&chunk, u64::from(members.count));
            self.gate.with_shard(|shard| shard.process_member(&chunk, destination, &members, &mut again))?;
        }
        Ok(self.gate.with_shard(|shard| shard.finish_again(destination, again))?)
    }

    async fn take_piece(&self, destination: usize, lane: &Lane, piece: Piece) -> Result<(), Failed> {
        let Piece { place, members, is_earlier } = piece;
        let Some(chunk) = self.chunk(place).await? else { return Ok(()) };
        self.gate.wait_for_memory(chunk.cost_bytes()).await?;
        let count = u64::from(members.count);
        let came = if is_earlier { Came::Earlier } else { Came::Deferred };
        if is_earlier {
            self.note_recovered(&chunk, count);
        }
        lane.resumed.add(count);
        Ok(self.gate.with_shard(|shard| shard.process_owed(&chunk, destination, &members, came))?)
    }

    /// The chunk at a place. One that is damaged is given up, by name.
    async fn chunk(&self, place: Place) -> Result<Option<Chunk>, Failed> {
        loop {
            let (reader, plan) = (self.reader.clone(), self.plan.clone());
            let read = tokio::task::spawn_blocking(move || reader.read(place, |name| sender(&plan, name))).await;
            match read {
                Ok(Ok(Some(chunk))) => return Ok(Some(chunk)),
                Ok(Ok(None)) => {
                    tracing::error!(chunk = %place.position, "a chunk of the journal is damaged; its events are lost");
                    self.registry.cell(&metrics::JOURNAL_DAMAGE, &[]).add(1);
                    self.gate.journal().give_up(place.position);
                    return Ok(None);
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, chunk = %place.position, "a chunk of the journal cannot be read; trying again");
                    tokio::time::sleep(READ_AGAIN).await;
                }
                Err(_) => return Err(Error::new(ErrorKind::Unexpected, "read the journal", "the reader panicked").into()),
            }
        }
    }

    fn note_recovered(&self, chunk: &Chunk, events: u64) {
        self.registry.cell(&metrics::EVENTS_RECOVERED, &[("component_id", &chunk.sender.source)]).add(events);
    }
}

/// A piece that failed is told and left behind; only a stop ends the work.
fn told(taken: Result<(), Failed>) -> Result<(), Refused> {
    match taken {
        Ok(()) => Ok(()),
        Err(Failed::Stopping(refused)) => Err(refused),
        Err(Failed::Error(error)) => {
            tracing::error!(%error, "a piece of the journal is left for the next start");
            Ok(())
        }
    }
}

fn sender(plan: &Plan, name: &str) -> Arc<Sender> {
    // A source that is gone has stopped the start.
    let index = plan.source_index(name).unwrap_or_else(|| usize::from(u16::MAX));
    Arc::new(Sender { source: name.into(), source_index: index as u16 })
}

enum Failed {
    Stopping(Refused),
    Error(Error),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Stopping(refused)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
