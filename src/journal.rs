//! Journals: one log in front of the processing, one low-water mark per destination.
//!
//! Kinds: `memory` gives positions only: a record is acknowledged on receipt, within the memory budget, and lost when
//! the process dies. `disk` is a write-ahead log of chunks and of what became of them
//! (`docs/adr/0009-journal-on-disk.md`): what was acknowledged outlives the process and the machine's power.
//!
//! On disk: [`record`] frames, [`content`] encodes bodies, [`state`] is what records add up to, [`segment`] writes one
//! log, [`disk`] runs a writer thread for each by the rules of [`group_commit`], [`recover`] reads what an earlier run left,
//! [`repair`] takes damage out of it, [`history`] lists what is still there, all through [`storage`].

mod adopt;
mod content;
mod disk;
mod group_commit;
mod history;
mod inspect;
mod memory;
mod record;
mod recover;
mod repair;
mod segment;
mod state;
mod storage;

#[cfg(test)]
mod tests;

pub use adopt::Work;
pub use disk::{Closer, Disk, DroppedCount, Opened, Options, Piece, open};
pub use history::{History, Hold, Kept, Turn, hold};
pub use inspect::{Report, Waiting, export, inspect};
pub use memory::Memory;
pub use recover::{ChunkReader, Damage, Place};
pub use repair::{Repaired, repair};
