//! Source files of the package, unchanged, where `crate::sync`, `rtrb` and `tokio` are stand-ins over loom.
//!
//! The whole package cannot be built for loom: hyper and rustls have no such form, and tokio has no network in its
//! own. Where a file shares slices or has methods on `Arc<Self>`, which
//! loom's `Arc` cannot, it takes the one of `std`.

#[path = "../../src/pipeline/links.rs"]
pub mod links;

#[path = "../../src/pipeline/mesh.rs"]
pub mod mesh;

#[path = "../../src/pipeline/correlation/peers.rs"]
pub mod peers;

/// Where the package has what is above.
pub mod pipeline {
    pub use crate::links;
}

/// Stands in for `crate::detect::correlate`.
pub mod detect {
    /// Of it the exchange between shards needs only how many levels there are; the models have one above the first.
    pub mod correlate {
        /// Levels of correlations, fewer than in the source: each is an atomic that loom follows.
        pub const LEVELS_MAX: usize = 2;
    }
}

/// `crate::budget`; the hand-over gets a stand-in for it, which has nothing to interleave.
#[path = "../../src/budget.rs"]
pub mod memory;

#[path = "../../src/limits.rs"]
pub mod limits;

#[path = "../../src/event/ack.rs"]
pub mod ack;

/// Stands in for `crate::sync`.
pub mod sync {
    pub use loom::sync::{Arc, atomic};
}

/// Stands in for `crate::budget` in the hand-over, which only carries it.
pub mod budget {
    /// Held memory.
    #[derive(Debug, Default)]
    pub struct Reservation;
}

/// Stands in for `crate::event`.
pub mod event {
    /// Large enough to be handed over.
    static BYTES: [u8; 64 * 1024] = [0; 64 * 1024];

    /// A chunk that is told apart by its number.
    #[derive(Debug)]
    pub struct Chunk(pub usize);

    impl Chunk {
        /// What it holds.
        pub fn bytes(&self) -> &[u8] {
            &BYTES
        }
    }
}
