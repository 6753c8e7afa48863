//! Hydrant: a self-hosted firehose for security logs, with a detection engine inside.
//!
//! # The path of a record
//!
//! ```text
//! source -> unwrap -> frame -> journal -> decode -> transform -> enrich -> detect -> route -> encode -> batch -> deliver -> sink
//!              ^ acknowledged <--'                       (the plan)                                  cursor moves <--'
//! ```
//!
//! The modules below are listed in that order, lower layers first; a module imports lower layers only, and
//! modules of one layer never import each other (`tests/it/tidy.rs` holds the code to it).
//!
//! # Where things are
//!
//! * A component (source, framer, decoder, enricher, sink) is one file and two lines in its stage's root. Its
//!   name is the same everywhere: file, `type:` in the configuration, metric label.
//! * [`pipeline::plan`] compiles the whole configuration, once, to the slots that every decoder has to fill;
//!   [`pipeline::shard`] is one thread's work on a chunk and reads like the line above.
//! * [`event`] is what flows: a [`event::Chunk`] (one buffer, spans of frames) and [`event::Events`] (one row of
//!   typed spans per frame). `dyn` calls happen per chunk or batch, never per event.
//! * [`matcher`] decides predicates for rules and routes alike; [`detect`] knows rules, [`route`] destinations.
//! * [`deliver`] does the I/O of every sink: retry, backoff, splitting a refused batch, dead letters. A sink only
//!   encodes and reads answers.
//! * [`ledger`] counts what becomes of every event, term by term, so that it shows when one is lost.
//! * [`cursor`] is what a journal promises; [`journal`] has the kinds.
//!
//! # What is deliberately absent
//!
//! * No tree of an event: nothing is parsed that no rule, route or output reads.
//! * No queue between stages: a chunk goes through all of them in one call; what waits are sealed batches.
//! * No lock on the hot path: shards share counters, the budget and the plan, and hand over whole chunks.
//! * No decision to drop outside a written policy: what cannot be read stays an event with a flaw, what is
//!   refused goes to the dead letters.

pub mod atomic_file;
pub mod clock;
pub mod error;
pub mod limits;
pub mod sync;

pub mod budget;
pub mod config;
pub mod event;
pub mod metrics;
pub mod scan;
pub mod task;

pub mod cursor;
pub mod json;
pub mod ledger;

pub mod source_health;

pub mod net;
pub mod envelope;
pub mod matcher;
pub mod encode;
pub mod traffic;
pub mod vrl;

pub mod source;
pub mod unwrap;
pub mod frame;
pub mod decode;
pub mod transform;
pub mod enrich;
pub mod detect;
pub mod route;
pub mod batch;
pub mod sink;

pub mod journal;
pub mod deliver;

pub mod pipeline;

pub mod admin;
pub mod cli;
