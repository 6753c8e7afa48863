//! What the fuzz targets share: choices out of the input, seeds, chunks.
//!
//! Seeds are made, not kept: where `HYDRANT_FUZZ_SEEDS` names a folder, each target writes its own there before
//! it begins, from what hydrant itself ships (samples, rules), so that they follow the code.

use std::path::Path;
use std::sync::Arc;

use hydrant::decode::{DecoderKind, Schema};
use hydrant::event::{Chunk, Sender, Span};

/// 2026-11-21T08:00:00Z: when every chunk arrives.
pub const RECEIVED_MS: i64 = 1_795_248_000_000;

/// Reads the input as a stream of choices, so that the fuzzer can change one without moving the others.
pub struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    /// The next byte, 0 behind the end.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `limit`, which is at most 256.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// The next bytes, up to a number that is chosen too.
    pub fn bytes(&mut self, max: usize) -> &'a [u8] {
        let len = self.below(max).min(self.0.len());
        let (found, rest) = self.0.split_at(len);
        self.0 = rest;
        found
    }
}

/// Pseudo-random numbers (Knuth's MMIX generator), for choices that would only water the input down.
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

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
