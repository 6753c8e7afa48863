//! The only code that knows all the stages: `file -> plan -> shards`.
//!
//! * [`plan`]: the whole configuration, compiled once, all mistakes named at once, nothing opened.
//! * [`shard`]: one thread's work on a chunk, stage by stage.
//! * [`intake`]: what sources give their bytes to: framing, budget, journal.
//! * [`mesh`]: whole chunks from a busy shard to an idle one.
//! * [`run`]: starts the shards, stops them, drains.

pub mod intake;
pub mod mesh;
pub mod plan;
pub mod run;
pub mod shard;
