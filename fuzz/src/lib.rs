//! What the fuzz targets share: choices out of the input, seeds, chunks; and what they share with the package's own tests:
//! rules and events, and whom to ask about them.
//!
//! Seeds are made, not kept: where `HYDRANT_FUZZ_SEEDS` names a folder, each target writes its own there before
//! it begins, from what hydrant itself ships (samples, rules), so that they follow the code.

use std::path::Path;
use std::sync::Arc;

use hydrant::decode::{DecoderKind, Schema};
use hydrant::event::{Chunk, Sender, Span};

#[path = "../../tests/it/generated.rs"]
pub mod generated;

#[path = "../../tests/it/oracles.rs"]
pub mod oracles;

pub use generated::{Choices, Random};

/// 2026-11-21T08:00:00Z: when every chunk arrives.
pub const RECEIVED_MS: i64 = 1_795_248_000_000;

/// A chunk of one sender whose frames are the lines of `bytes`; empty ones are none.
pub fn chunk_of_lines(bytes: &[u8]) -> Chunk {
    let mut frames = Vec::new();
    let mut start = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        if !line.is_empty() {
            frames.push(Span::new(start, start + line.len()));
        }
        start += line.len() + 1;
    }
    Chunk::new(bytes.to_vec(), frames, sender(), RECEIVED_MS)
}

/// Who sends all chunks.
pub fn sender() -> Arc<Sender> {
    Arc::new(Sender { source: "fuzz".into(), source_index: 0 })
}

/// The schema map of a decoder.
pub fn schema(kind: &'static dyn DecoderKind) -> Schema {
    Schema::parse(Path::new(kind.name()), kind.schema(), kind.natives().as_deref()).expect("its own schema map")
}

/// Writes the seeds of a target, if they are asked for.
pub fn seed(seeds: impl IntoIterator<Item = Vec<u8>>) {
    let Some(folder) = std::env::var_os("HYDRANT_FUZZ_SEEDS") else { return };
    std::fs::create_dir_all(&folder).expect("the folder of seeds");
    for (index, seed) in seeds.into_iter().enumerate() {
        std::fs::write(Path::new(&folder).join(format!("seed-{index:03}")), seed).expect("a seed is written");
    }
}

/// Real lines, one of every format.
pub fn samples() -> Vec<Vec<u8>> {
    hydrant::decode::DECODERS.iter().map(|kind| kind.sample().as_bytes().to_vec()).collect()
}

/// A seed that begins with these choices.
pub fn chosen(choices: &[u8], rest: &[u8]) -> Vec<u8> {
    [choices, rest].concat()
}
