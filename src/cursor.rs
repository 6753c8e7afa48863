//! What a journal promises: to sources (durable, then acknowledged) and to destinations (what is settled).
//!
//! [`Journal::append`] gives positions at once, so that a chunk is worked on while its commit is under way; the
//! [`Commit`] that it returns resolves when the chunks are durable: only then may a sender be told. The first
//! pass says what each destination is to get ([`Journal::decide`]). Before the first attempt of a batch its
//! manifest is made durable ([`Journal::seal`]), behind the chunks of its members. What is stored, dead-lettered
//! or dropped by policy is settled. Space of chunks that are settled for every destination is free.
//!
//! One handle per shard. A shard may speak of chunks that another one appended: it got them handed over.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind};
use crate::event::{Chunk, Members, Position};
use crate::task::LocalFuture;

/// What is made durable of a batch before its first attempt.
#[derive(Clone, Debug)]
pub struct Manifest<'a> {
    /// The batch's id, the same for every attempt.
    pub batch: u128,
    /// Hash of the plan that made it.
    pub plan: u64,
    /// Its partition.
    pub partition: &'a str,
    /// Arrival of its oldest event, ms since 1970 UTC: names of objects have it.
    pub oldest_ms: i64,
    /// The events in it.
    pub members: &'a [Members],
}

/// Who is to get what of a chunk.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Hash of the plan that decided.
    pub plan: u64,
    /// By index of the destination in the plan.
    pub expected: Vec<(usize, Members)>,
    /// A bit for each destination that does not get its part now, since it is behind: the log keeps it for later.
    pub deferred: u64,
}

/// The log of one shard.
pub trait Journal {
    /// Whether `bytes` more can be taken now. Not while the disk fails or is full, or much is on its way.
    fn has_room(&self, bytes: usize) -> bool;
    /// Resolves when there may be room again.
    fn freed(&self) -> LocalFuture<'_, ()>;
    /// Whether more than half of the space is used, so that what is not sent soon should be left to the log.
    fn is_filling(&self) -> bool;
    /// Gives chunks their positions. They are one transaction: after a crash all of them are there, or none.
    fn append(&self, chunks: &mut [Chunk]) -> Commit;
    /// Resolves when everything that was appended here before is durable.
    fn flush(&self) -> Commit;
    /// Whether [`Journal::decide`] is of use, since it costs something to say.
    fn keeps_verdicts(&self) -> bool;
    /// Says who gets what of a chunk. A chunk of which nobody gets anything is settled by this.
    fn decide(&self, chunk: Position, verdict: Verdict);
    /// Makes a manifest durable, and everything that was appended of its members.
    fn seal<'a>(&'a self, destination: usize, manifest: Manifest<'a>) -> LocalFuture<'a, Result<(), Error>>;
    /// These need not be delivered to this destination any more. `batch` is that of their manifest; 0 for none.
    fn settle(&self, destination: usize, batch: u128, members: &[Members]);
    /// A chunk that recovery found cannot be read: it is given up.
    fn give_up(&self, chunk: Position);
}

/// Resolves when something is durable.
#[derive(Debug)]
pub struct Commit(Option<oneshot::Receiver<()>>);

impl Commit {
    /// Nothing to wait for.
    pub fn ready() -> Self {
        Self(None)
    }

    /// Nobody will make it durable.
    pub fn never() -> Self {
        Self::pending(oneshot::channel().1)
    }

    /// Waits for a message; it never comes if the writer is gone.
    pub fn pending(receiver: oneshot::Receiver<()>) -> Self {
        Self(Some(receiver))
    }
}

impl Future for Commit {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(receiver) = &mut self.0 else { return Poll::Ready(Ok(())) };
        let gone = |_| Error::new(ErrorKind::Storage, "write the journal", "its writer has ended");
        Pin::new(receiver).poll(context).map(|answer| answer.map_err(gone))
    }
}
