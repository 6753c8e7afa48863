//! The one integration test binary: each file tests the whole of something.

#![expect(clippy::unwrap_used, clippy::print_stderr, clippy::panic, reason = "a test that cannot go on says so")]

mod client;
mod file;
mod firehose;
mod hec;
mod http;
mod process;
mod registry;
mod slice;
mod tidy;
