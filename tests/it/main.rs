//! The one integration test binary: each file tests the whole of something.

#![expect(clippy::unwrap_used, clippy::print_stderr, clippy::panic, reason = "a test that cannot go on says so")]

mod hec;
mod process;
mod registry;
mod rules;
mod slice;
mod tidy;
