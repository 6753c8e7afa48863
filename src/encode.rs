//! From event bytes to output bytes: what a batch is made of before a sink addresses it.
//!
//! * [`alert`], [`ocsf`]: what an alert says, and that as an OCSF Detection Finding.
//! * [`body`]: one event as one JSON value, or as the bytes that came.
//! * [`object`]: one JSON object, member by member.
//! * [`rows`]: events one after the other, each a line or an element; partitions by the names of objects.
//! * [`template`]: slots to a nested JSON object by a plan made once.
//! * [`compress`]: a batch is compressed while it fills, one gzip member or one zstd frame each.
//! * [`key_template`]: the names that batches get as objects and files.
//! * [`notice`], [`group`]: alerts as people are told of them, and which of them together.
//!
//! No sink is in here: nothing knows an endpoint, a request or an answer.

pub mod alert;
pub mod body;
pub mod compress;
pub mod group;
#[cfg(isal)]
mod isal;
pub mod key_template;
pub mod notice;
pub mod object;
pub mod ocsf;
pub mod rows;
pub mod template;
