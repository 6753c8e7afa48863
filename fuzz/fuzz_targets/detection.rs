//! Sigma rules and events: the index finds what the full scan finds, and so does `rsigma`, but for known differences. Rules are
//! in one matcher, and events go through the same memory one behind the other. The test `sigma_peer` asks the same at random.
#![no_main]

use hydrant_fuzz::oracles::{Tally, trial};
use hydrant_fuzz::{Random, seed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seed(seeds()), |input: &[u8]| {
    if let Err(difference) = trial(input, &mut Tally::default()) {
        panic!("{difference}");
    }
});

/// Choices at random.
fn seeds() -> Vec<Vec<u8>> {
    let mut random = Random(2);
    (0..60).map(|index| random.bytes(100 + 15 * index)).collect()
}
