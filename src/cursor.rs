//! What a journal promises: to sources (durable, then acknowledged) and to destinations (a cursor each).
//!
//! Positions are given by [`Journal::append`]; a destination's [`Cursor`] is told which events of a chunk it
//! is to get, is asked to make a batch's manifest durable before its first attempt, and moves when events
//! are settled: stored, dead-lettered or dropped by policy. Its low-water mark is the first position that
//! is not settled; space behind the slowest cursor is free. One of each per shard; nothing is shared.

use crate::error::Error;
use crate::event::{Chunk, Members, Position};
use crate::task::LocalFuture;

/// What is made durable of a batch before its first attempt.
#[derive(Clone, Debug)]
pub struct Manifest<'a> {
    /// The batch's id, the same for every attempt.
    pub batch: u128,
    /// The events in it.
    pub members: &'a [Members],
}

/// One log, written by one shard.
pub trait Journal {
    /// Gives the chunk its position; resolves when it is as durable as this kind makes it.
    fn append<'a>(&'a self, chunk: &'a mut Chunk) -> LocalFuture<'a, Result<(), Error>>;
    /// The cursor of a destination, by its index in the plan.
    fn cursor(&self, destination: usize) -> &dyn Cursor;
}

/// How far one destination has come.
pub trait Cursor {
    /// `count` events of the chunk at `chunk` go to this destination.
    fn expect(&self, chunk: Position, count: u32);
    /// Makes a manifest durable.
    fn seal<'a>(&'a self, manifest: Manifest<'a>) -> LocalFuture<'a, Result<(), Error>>;
    /// `count` events of the chunk are settled.
    fn settle(&self, chunk: Position, count: u32);
    /// The first position that is not settled; `None` if everything is.
    fn low_water(&self) -> Option<Position>;
}
