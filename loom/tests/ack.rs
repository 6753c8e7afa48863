//! The acknowledgement tracker in every interleaving that loom finds: a sender is told when nobody works on its
//! events any more, not before, and never that all is well when a part was dropped.

use hydrant_loom::ack::Acknowledgement;
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// Two parts of a chunk are worked on by two shards; `fails` of them are dropped. What the sender hears.
fn two_parts(fails: usize) -> bool {
    let (first, receipt) = Acknowledgement::pair();
    let parts = [first.clone(), first];
    let done = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = parts
        .into_iter()
        .enumerate()
        .map(|(number, part)| {
            let done = done.clone();
            thread::spawn(move || {
                if number < fails {
                    part.fail();
                }
                // Relaxed: that it is seen is up to the tracker.
                done.fetch_add(1, Ordering::Relaxed);
                drop(part);
            })
        })
        .collect();
    let is_stored = block_on(receipt);
    assert_eq!(done.load(Ordering::Relaxed), 2, "told before all was done");
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    is_stored
}

#[test]
fn the_sender_is_told_when_the_last_part_is_done() {
    loom::model(|| assert!(two_parts(0)));
}

#[test]
fn one_dropped_part_is_never_acknowledged() {
    loom::model(|| assert!(!two_parts(1)));
}
