//! Atomics and shared ownership for what `loom/` checks in every interleaving: there these names are loom's.

pub use std::sync::{Arc, mpsc};

/// `std::sync::atomic`, as far as it is needed.
pub mod atomic {
    pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
}
