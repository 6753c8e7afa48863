//! The one integration test binary: each file tests the whole of something.

mod enrich;
mod hec;
mod process;
mod registry;
mod slice;
mod tidy;
