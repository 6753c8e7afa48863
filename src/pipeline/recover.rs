//! What an earlier run left in the journal, taken up while sources are open.
//!
//! Batches that were sealed are built again from their members and go out under their old names; then what is owed of
//! single chunks. Everything waits for room in the budget like a source. Nothing is counted as received again.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Again;
use crate::error::{Error, ErrorKind};
use crate::event::{Chunk, Members, Sender};
use crate::journal::{ChunkReader, Place, Work};
use crate::metrics::{self, Registry};
use crate::pipeline::intake::Gate;
use crate::pipeline::plan::Plan;
use crate::source::Refused;

/// Wait before a file that could not be read is read again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Takes up one shard's part.
pub struct Recovery {
    gate: Rc<Gate>,
    reader: ChunkReader,
    plan: Arc<Plan>,
    registry: Registry,
}

impl Recovery {
    /// What works into the shard of `gate`.
    pub fn new(gate: Rc<Gate>, reader: ChunkReader, plan: Arc<Plan>, registry: Registry) -> Self {
        Self { gate, reader, plan, registry }
    }

    /// Works until everything is taken up; ends early when Hydrant stops, and the rest stays in the journal.
    pub async fn run(self, work: Vec<Work>) {
        if work.is_empty() {
            return;
        }
        tracing::info!(pieces = work.len(), "taking up what an earlier run left in the journal");
        for piece in work {
            match self.take_up(piece).await {
                Ok(()) => {}
                Err(Failed::Stopping) => return,
                Err(Failed::Error(error)) => tracing::error!(%error, "a piece of the journal is left for the next start"),
            }
            self.gate.opened.notify_one();
            tokio::task::yield_now().await;
        }
    }

    async fn take_up(&self, piece: Work) -> Result<(), Failed> {
        match piece {
            Work::Batch { destination, id, partition, oldest_ms, members } => {
                let mut again = Again::new(id, partition, oldest_ms);
                for (index, (place, members)) in members.into_iter().enumerate() {
                    if let Some(chunk) = self.chunk(place).await? {
                        // Once begun it goes on: what it holds would keep the room from coming.
                        if index == 0 {
                            self.gate.wait_for_memory(chunk.cost_bytes()).await?;
                        }
                        self.count(&chunk, std::slice::from_ref(&(destination, members.clone())));
                        self.gate.with_shard(|shard| shard.process_member(&chunk, destination, &members, &mut again))?;
                    }
                }
                Ok(self.gate.with_shard(|shard| shard.finish_again(destination, again))?)
            }
            Work::Owed(place, owed) => {
                let Some(chunk) = self.chunk(place).await? else { return Ok(()) };
                self.gate.wait_for_memory(chunk.cost_bytes()).await?;
                self.count(&chunk, &owed);
                Ok(self.gate.with_shard(|shard| shard.process_owed(&chunk, &owed))?)
            }
            Work::Undecided(place, had) => {
                let Some(chunk) = self.chunk(place).await? else { return Ok(()) };
                self.gate.wait_for_memory(chunk.cost_bytes()).await?;
                self.count_all(&chunk, chunk.frames().len() as u64);
                Ok(self.gate.with_shard(|shard| shard.process_rest(&chunk, &had))?)
            }
        }
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

    fn count(&self, chunk: &Chunk, shares: &[(usize, Members)]) {
        self.count_all(chunk, shares.iter().map(|(_, members)| u64::from(members.count)).sum());
    }

    fn count_all(&self, chunk: &Chunk, events: u64) {
        self.registry.cell(&metrics::EVENTS_RECOVERED, &[("component_id", &chunk.sender.source)]).add(events);
    }
}

fn sender(plan: &Plan, name: &str) -> Arc<Sender> {
    // A source that is gone has stopped the start.
    let index = plan.sources.iter().position(|source| *source.name == *name).unwrap_or_else(|| usize::from(u16::MAX));
    Arc::new(Sender { source: name.into(), source_index: index as u16 })
}

enum Failed {
    Stopping,
    Error(Error),
}

impl From<Refused> for Failed {
    fn from(_: Refused) -> Self {
        Self::Stopping
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
