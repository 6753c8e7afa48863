//! Sigma rules and JSON events at random: the index finds what the full scan finds, and so does `rsigma`, but for known
//! differences. `HYDRANT_EVENTS` sets how many sets of rules are tried, `HYDRANT_SEED` makes other ones. The fuzz target
//! `detection` looks for the rules and events itself.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::oracles::{DIFFERENCES, Tally, trial};

/// Sets of rules, each with a few events, unless `HYDRANT_EVENTS` says otherwise.
const TRIALS: u32 = 400;

/// Sets of rules among which every difference occurs.
const TRIALS_OF_ALL: u32 = 10_000;

/// Bytes of choices: enough for eight rules or for twelve events.
const BYTES_MAX: usize = 1000;

#[test]
fn rules_and_events_at_random_are_decided_as_by_the_full_scan_and_by_rsigma() {
    let number = |name: &str, default: u32| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let trials = number("HYDRANT_EVENTS", TRIALS);
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&number("HYDRANT_SEED", 7).to_le_bytes());
    let config = Config { cases: trials, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let tally = RefCell::new(Tally::default());
    let tried = runner.run(&prop::collection::vec(any::<u8>(), 0..BYTES_MAX), |input| {
        trial(&input, &mut tally.borrow_mut()).map_err(TestCaseError::fail)
    });
    let Tally { agreed, hits, same, same_hits, explained } = tally.into_inner();
    println!("{trials} trials: {agreed} pairs of rule and event, {hits} hits; rsigma decides {same} of them too, {same_hits} hits");
    for (difference, count) in DIFFERENCES.iter().zip(explained) {
        println!("{count} differ because {}", difference.reason);
    }
    if let Err(error) = tried {
        panic!("{error}");
    }
    assert!(hits * 10 > agreed && same_hits * 10 > same, "too few match");
    assert!(trials < TRIALS_OF_ALL || explained.iter().all(|count| *count > 0), "a reason explains nothing");
}
