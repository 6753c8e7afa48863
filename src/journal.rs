//! Journals: one log in front of the processing, one cursor per destination.
//!
//! Kinds: `memory` keeps positions, cursors and manifests in RAM: a record is acknowledged on receipt,
//! within the memory budget, and lost when the process dies.

mod memory;

pub use memory::Memory;
