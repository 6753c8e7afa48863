//! The exchange of hits between shards in every interleaving that loom finds: who looks at a time and then takes what was
//! sent has every hit up to that time, also when rings are full, and so does who begins behind a restart.
//!
//! A parcel here is one hit, and that is its event time.

use hydrant_loom::peers::{Face, Peers, Reach, below, peers};
use loom::thread;

/// Thread switches that are not forced, in one run, as in the model of the mesh.
const PREEMPTIONS: usize = 3;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

fn ends<const SHARDS: usize>(places: usize) -> [Peers<i64>; SHARDS] {
    peers(SHARDS, places).try_into().unwrap_or_else(|_| unreachable!("as many as asked for"))
}

/// Looks at a time and takes what was sent: every hit up to the time is here, and they come in their order.
fn look(end: &mut Peers<i64>, hits: &mut Vec<i64>, time: impl FnOnce(&[Face]) -> i64) -> i64 {
    let reached = end.reach(hits, |_, faces| time(faces), |hits, hit| hits.push(hit));
    assert!(hits.iter().copied().eq(1..=hits.len() as i64), "in order: {hits:?}");
    assert!(hits.len() as i64 >= reached, "{reached} was reached with {hits:?}");
    reached
}

fn newest_of_first(faces: &[Face]) -> i64 {
    faces[0].seen().1
}

#[test]
fn hits_are_there_before_the_time_of_their_events() {
    explore(|| {
        let [mut producer, mut consumer] = ends(4);
        let thread = thread::spawn(move || {
            for time in 1..=2 {
                producer.send([(1, time)], Reach::Events(time));
            }
        });
        let mut hits = Vec::new();
        for _ in 0..2 {
            look(&mut consumer, &mut hits, newest_of_first);
        }
        thread.join().unwrap();
        assert_eq!(look(&mut consumer, &mut hits, newest_of_first), 2);
        assert_eq!(hits, [1, 2]);
    });
}

#[test]
fn a_full_ring_holds_back_the_time_with_the_hits() {
    explore(|| {
        let [mut producer, mut consumer] = ends(1);
        let thread = thread::spawn(move || {
            for time in 1..=3 {
                producer.send([(1, time)], Reach::Events(time));
            }
            producer.flush();
            producer
        });
        let mut hits = Vec::new();
        for _ in 0..2 {
            look(&mut consumer, &mut hits, newest_of_first);
        }
        let mut producer = thread.join().unwrap();
        while !producer.is_flushed() {
            assert!(look(&mut consumer, &mut hits, newest_of_first) < 3, "some wait at their sender");
            producer.flush();
        }
        assert_eq!(look(&mut consumer, &mut hits, newest_of_first), 3);
        assert_eq!(hits, [1, 2, 3]);
    });
}

/// A hit of the first shard makes the second fire, and what that fires goes to the third: what the third sees of the second
/// has the hit in it as well.
#[test]
fn what_a_level_fired_is_there_before_how_far_it_has_come() {
    explore(|| {
        let [mut first, mut second, mut third] = ends(2);
        for end in [&mut first, &mut third] {
            end.send([], Reach::Below(1, i64::MAX));
        }
        let one = thread::spawn(move || first.send([(1, 1)], Reach::Events(1)));
        let other = thread::spawn(move || {
            let mut hits = Vec::new();
            let reached = look(&mut second, &mut hits, newest_of_first);
            second.send(hits.into_iter().map(|hit| (2, hit)), Reach::Below(1, reached));
        });
        let mut hits = Vec::new();
        look(&mut third, &mut hits, |faces| below(faces, 1));
        one.join().unwrap();
        other.join().unwrap();
        look(&mut third, &mut hits, |faces| below(faces, 1));
    });
}

#[test]
fn a_full_ring_holds_back_how_far_a_level_has_come() {
    explore(|| {
        let [mut producer, mut consumer] = ends(1);
        consumer.send([], Reach::Below(1, i64::MAX));
        let thread = thread::spawn(move || {
            for time in 1..=2 {
                producer.send([(1, time)], Reach::Below(1, time));
            }
            producer
        });
        let mut hits = Vec::new();
        for _ in 0..2 {
            look(&mut consumer, &mut hits, |faces| below(faces, 1));
        }
        let mut producer = thread.join().unwrap();
        look(&mut consumer, &mut hits, |faces| below(faces, 1));
        // The next tick.
        producer.flush();
        producer.send([], Reach::Below(1, 2));
        assert_eq!(look(&mut consumer, &mut hits, |faces| below(faces, 1)), 2);
        assert_eq!(hits, [1, 2]);
    });
}

/// A start: both shards have hits of an earlier run for the other, and were told how far that had come.
fn start(places: usize) {
    explore(move || {
        let [mut first, mut second] = ends(places);
        first.note_behind();
        second.note_behind();
        let thread = thread::spawn(move || {
            first.note_told(5);
            for hit in 1..=2 {
                first.send([(1, hit)], Reach::Same);
            }
            // As `Gate::hits_sent` does, once: otherwise it goes on behind the end of this thread.
            first.flush();
            if first.is_flushed() {
                first.note_caught_up();
            }
            first
        });
        second.note_told(4);
        second.note_caught_up();
        let mut hits = Vec::new();
        let mut begun = None;
        for _ in 0..2 {
            // While it has not begun a shard takes hits as well.
            begun = begun.or_else(|| begin(&mut second, &mut hits));
            second.take(|hit| hits.push(hit));
        }
        let mut first = thread.join().unwrap();
        while !first.is_flushed() {
            assert_eq!(begun, None);
            second.take(|hit| hits.push(hit));
            first.flush();
        }
        first.note_caught_up();
        begun = begun.or_else(|| begin(&mut second, &mut hits));
        assert_eq!(begun, Some(5));
    });
}

/// Begins, if it may: then all is there.
fn begin(end: &mut Peers<i64>, hits: &mut Vec<i64>) -> Option<i64> {
    let told = end.begin(|hit| hits.push(hit));
    assert!(told.is_none_or(|told| told == 5 && hits[..] == [1, 2]), "begun at {told:?} with {hits:?}");
    told
}

#[test]
fn who_sees_that_nobody_is_behind_has_all_hits() {
    start(2);
}

#[test]
fn who_sees_that_nobody_is_behind_has_all_hits_although_a_ring_was_full() {
    start(1);
}
