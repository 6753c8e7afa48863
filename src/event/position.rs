//! Where an event stands in the journal, and sets of such places.

use std::fmt;

/// Place of an event: every start of a journal opens a new epoch, so a position is never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Start of the journal that the event arrived in.
    pub epoch: u64,
    /// Running number within the epoch.
    pub sequence: u64,
}

impl Position {
    /// The position `offset` events further on.
    pub fn plus(self, offset: usize) -> Self {
        Self { sequence: self.sequence + offset as u64, ..self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.sequence)
    }
}

/// Which events of one chunk a batch carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// Position of the chunk's first event.
    pub chunk: Position,
    /// Number of events of the chunk that are in the batch (an alert counts with its event's position).
    pub count: u32,
    /// One bit per event of the chunk, lowest first.
    pub bits: Box<[u64]>,
}
