//! The only code that knows all the stages: `file -> plan -> shards`.
//!
//! * [`plan`]: the whole configuration, compiled once, all mistakes named at once, nothing opened.
//! * [`shard`]: one thread's work on a chunk, stage by stage.
//! * [`intake`]: what sources give their bytes to: framing, budget, journal.
//! * [`mesh`]: whole chunks from a busy shard to an idle one.
//! * [`correlation`]: hits of rules to the shards that own their groups, and alerts of what they find.
//! * [`catch_up`]: what the journal keeps for destinations that are behind, and what an earlier run left there.
//! * [`room`]: at the journal's cap, the oldest is dropped for destinations that say so.
//! * [`run`]: starts the shards, stops them, drains.
//! * [`watch`]: looks at the senders once in a while, and journals the alerts about them.
//! * [`health`]: what is open, what has ended; [`tap`]: a sample of live events for those who watch.
//! * [`replay`]: events of the past through all stages again, from the journal or from an [`archive`].
//! * [`reload`]: a changed configuration for a running pipeline.
//! * [`offline`]: decoding and detection without a run; [`schema`]: the JSON schema of the configuration.

pub mod archive;
pub mod catch_up;
pub mod correlation;
mod framed;
pub mod health;
pub mod intake;
pub mod links;
pub mod mesh;
pub mod offline;
mod own;
pub mod plan;
pub mod reload;
pub mod replay;
pub mod room;
pub mod run;
pub mod schema;
pub mod shard;
pub mod silence;
pub mod tap;
mod watch;
