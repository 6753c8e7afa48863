//! From event bytes to output bytes: what a batch is made of before a sink addresses it.
//!
//! * [`compress`]: a batch is compressed while it fills, one gzip member or one zstd frame each.
//! * [`key_template`]: object keys and file paths, in Firehose's `!{...}` syntax.
//!
//! No sink is in here: nothing knows an endpoint, a request or an answer.

pub mod compress;
#[cfg(isal)]
mod isal;
pub mod key_template;
