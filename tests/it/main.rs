//! The one integration test binary: each file tests the whole of something.

mod hec;
mod process;
mod registry;
mod slice;
mod tidy;
