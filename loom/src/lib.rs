//! The source of `pipeline/mesh.rs`, unchanged, where `rtrb` and `tokio` are stand-ins over loom.
//!
//! The whole package cannot be built for loom: hyper and rustls have no such form, and tokio has no network in its
//! own. What stays as it is: `Arc`, and the time at which a shard was busy last, a hint that no answer depends on
//! (in the models no shard is).

#[path = "../../src/pipeline/mesh.rs"]
pub mod mesh;

/// Stands in for `crate::budget`.
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
