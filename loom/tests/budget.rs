//! The memory budget in every interleaving that loom finds: a sender that waits for room goes on when there is some; a
//! lost wake-up would hold it for good, which loom reports as a deadlock.

use std::sync::Arc;

use hydrant_loom::memory::Budget;
use loom::future::block_on;
use loom::thread;

/// Thread switches that are not forced, in one run; without a bound it takes more than minutes.
const PREEMPTIONS: usize = 3;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// As `pipeline/intake.rs` waits: the future is made before the last look.
fn wait(budget: &Arc<Budget>, bytes: usize) {
    while !budget.has_room(bytes) {
        let freed = budget.freed();
        if budget.has_room(bytes) {
            break;
        }
        block_on(freed);
    }
}

#[test]
fn who_waits_for_room_is_woken() {
    explore(|| {
        let budget = Budget::new(10);
        let held = [budget.take(5), budget.take(5)];
        let threads = held.map(|held| thread::spawn(move || drop(held)));
        wait(&budget, 10);
        assert!(budget.has_room(10));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(budget.used_bytes(), 0);
    });
}

#[test]
fn two_who_wait_are_both_woken() {
    explore(|| {
        let budget = Budget::new(10);
        let mut held = budget.take(10);
        let waiting = [budget.clone(), budget.clone()].map(|budget| thread::spawn(move || wait(&budget, 4)));
        held.resize(2);
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
