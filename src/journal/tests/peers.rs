//! What other disk buffers did wrong, by the number of the report, on the simulated disk: a process cannot see these.
//!
//! `vector_N` is issue or pull request N of vectordotdev/vector. What a process can see is in `tests/it/peers.rs`.

use super::*;

/// Each with other sectors that survive.
const DISKS: u64 = 200;

fn start(disk: &Disk) -> Started {
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    start_logs(&storage, &options(&["lake".to_owned()], 1)).unwrap()
}

/// A chunk of 100 frames that no other one is like.
fn numbered(started: &Started, number: u64) -> (Chunk, Vec<Entry>) {
    let bytes: Vec<u8> = (0..1000u64).map(|at| (at * 7 + number * 13) as u8).collect();
    let mut chunk = Chunk::new(bytes, (0..100).map(|frame| Span::new(10 * frame, 10 * frame + 10)).collect(), sender("fw"), 5);
    chunk.position = Position { epoch: started.logs[0].1, sequence: 100 * number };
    let (body, flags) = write_chunk(&chunk, false);
    let entry = Entry::Chunks(vec![NewChunk { position: chunk.position, source: 0, frames: 100, body, flags }]);
    (chunk, vec![entry])
}

fn is_readable(started: &Started, chunk: &Chunk) -> bool {
    let places = started.work.iter().flatten().filter_map(|work| match work {
        Work::Undecided(place, _) => Some(*place),
        Work::Batch { .. } | Work::Kept(..) => None,
    });
    let found = places.into_iter().find(|place| place.position == chunk.position);
    found.is_some_and(|place| started.reader.read(place, sender).unwrap().unwrap().bytes() == chunk.bytes())
}

/// Events were acknowledged when they were in the buffer of the writer (#8540), or written and not synced (#22489).
#[test]
fn vector_22489_8540_a_commit_that_says_done_has_synced() {
    for seed in 0..DISKS {
        let disk = Disk::new(seed);
        let mut started = start(&disk);
        disk.set_faults(Faults { rate: 200, space: None });
        let (mut told, mut number) = (Vec::new(), 0);
        while number < 12 {
            let (chunk, mut entries) = numbered(&started, number);
            number += 1;
            if started.logs[0].0.commit(&mut entries).is_ok() {
                told.push(chunk);
            }
        }
        disk.set_faults(Faults::default());
        disk.lose_power();
        let after = start(&disk);
        assert_eq!(after.damage, [], "seed {seed}");
        told.iter().for_each(|chunk| assert!(is_readable(&after, chunk), "seed {seed}: {} was acknowledged", chunk.position));
    }
}

/// A data file was unlinked before the ledger said durably that nobody needs it: each start after a crash then looked for it
/// and ended (#25570).
#[test]
fn vector_25570_a_file_that_is_gone_is_missed_by_nobody_and_comes_back_for_nobody() {
    for seed in 0..DISKS {
        let disk = Disk::new(seed);
        let mut started = start(&disk);
        let before = disk.used();
        for number in 0..30 {
            let (chunk, mut entries) = numbered(&started, number);
            let verdict = Verdict { plan: 1, expected: vec![(0, all(&chunk))], deferred: 0 };
            entries.push(Entry::Verdict(chunk.position, verdict));
            entries.push(Entry::Settled(0, 0, vec![all(&chunk)]));
            started.logs[0].0.commit(&mut entries).unwrap();
        }
        assert!(disk.used() > before, "segments were filled");
        assert!(started.logs[0].0.free().unwrap(), "seed {seed}: nothing was removed, so nothing is tested");
        // The removal may have reached the disk or not; and the next start may be cut as well.
        for _ in 0..3 {
            disk.lose_power();
            let after = start(&disk);
            assert_eq!((after.damage, after.work.iter().flatten().count()), (Vec::new(), 0), "seed {seed}");
        }
    }
}

/// Three steps broke the buffer's model (#25639): a write, a crash before it is flushed, a flush after it.
#[test]
fn vector_25639_a_write_that_a_crash_tore_does_not_damage_what_is_flushed_after_it() {
    for seed in 0..DISKS {
        let disk = Disk::new(seed);
        let mut started = start(&disk);
        let (first, mut entries) = numbered(&started, 0);
        started.logs[0].0.commit(&mut entries).unwrap();
        let (torn, mut entries) = numbered(&started, 1);
        disk.set_faults(Faults { rate: 1000, space: None });
        started.logs[0].0.commit(&mut entries).unwrap_err();
        disk.set_faults(Faults::default());
        disk.lose_power();
        let mut second = start(&disk);
        let (flushed, mut entries) = numbered(&second, 0);
        assert!(flushed.position != first.position && flushed.position != torn.position, "positions are used once");
        second.logs[0].0.commit(&mut entries).unwrap();
        disk.lose_power();
        let after = start(&disk);
        assert_eq!(after.damage, [], "seed {seed}");
        assert!(is_readable(&after, &first) && is_readable(&after, &flushed), "seed {seed}");
    }
}
