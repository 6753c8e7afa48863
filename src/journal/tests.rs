//! The journal on a disk that fails, held against an oracle that knows what was promised.
//!
//! Each case is a seed: some runs of a journal, each with appends, verdicts, batches, settlements and commits on one
//! to three logs, ended by a crash (of the process or of the machine), while the disk fails, fills up and rots. After
//! every crash: every chunk that was acknowledged and not settled is there with its bytes, nothing is there that
//! was never appended, a transaction is there as a whole or not at all, what was durably settled stays settled, a
//! durable manifest has its name and members. `HYDRANT_CASES` sets the number of cases, `HYDRANT_SEED` the first.

mod disk;
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::adopt::Work;
use super::content::write_chunk;
use super::disk::{DroppedCount, Options, Piece, Started, start_logs};
use super::history::History;
use super::record::{Found, Key, Kind, scan};
use super::recover::{ChunkReader, Damage, Loaded, Place, load};
use super::repair::{Repaired, repair_on};
use super::segment::{RECORDS_START, SegmentHeader, parse_name};
use super::state::{Batch, Entry, NewChunk, Verdict};
use super::storage::Storage;
use crate::cursor::{self, Journal as _, Manifest};
use crate::event::{AlertKey, Chunk, Members, Position, Sender, Span};
use crate::metrics::{self, Registry};
use disk::{Disk, Faults};

/// Cases of an ordinary run of the tests.
const CASES: u64 = 1_000;

/// SplitMix64.
#[derive(Clone, Default)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What the oracle knows of a chunk.
#[derive(Clone, Default)]
struct Known {
    bytes: Vec<u8>,
    frames: usize,
    /// Chunks of the same transaction.
    transaction: Vec<Position>,
    /// Somebody was told that it is durable.
    acknowledged: bool,
    decided: Told<bool>,
    /// By destination.
    shares: BTreeMap<String, (Told<Members>, Told<Members>)>,
    /// By destination: what it was sent and has confirmed.
    delivered: BTreeMap<String, Members>,
    /// By destination: what was dropped, and counted when that was durable.
    dropped: BTreeMap<String, Told<Members>>,
    /// Destinations for which the log keeps it.
    deferred: BTreeSet<String>,
}

/// What was said, and what of it is durable.
#[derive(Clone, Default)]
struct Told<T> {
    said: T,
    durable: T,
}

impl Known {
    fn is_done(&self, durable: bool) -> bool {
        let of = |told: &Told<Members>| if durable { told.durable.clone() } else { told.said.clone() };
        let is_decided = if durable { self.decided.durable } else { self.decided.said };
        is_decided && self.shares.values().all(|(expected, settled)| of(expected).is_within(&of(settled)))
    }
}

struct KnownBatch {
    destination: String,
    partition: Box<str>,
    oldest_ms: i64,
    /// What it began with, and what is left of that.
    all: Vec<Members>,
    members: Vec<Members>,
    durable: bool,
}

/// Prints the seed of the case that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test's output, which is shown because it fails.
            let _ = writeln!(std::io::stderr(), "failed with HYDRANT_SEED={}", self.0);
        }
    }
}

struct Case {
    random: Random,
    disk: Disk,
    chunks: BTreeMap<Position, Known>,
    /// Everything that was ever appended.
    ever: BTreeMap<Position, Known>,
    /// Where bits have flipped: what was settled may come again.
    rotten: Vec<(String, usize)>,
    /// Found unreadable before.
    dead: BTreeSet<Position>,
    batches: BTreeMap<u128, KnownBatch>,
    epochs: BTreeSet<u64>,
    next_batch: u128,
    /// The last crash was one of the machine.
    is_cut: bool,
}

/// One run of the journal.
struct Run {
    started: Started,
    names: Vec<String>,
    /// What was said to each log and is not committed.
    queues: Vec<Vec<Entry>>,
    next: Vec<u64>,
}

const DESTINATIONS: [&str; 3] = ["lake", "siem", "chat"];

fn options(names: &[String], shards: usize) -> Options {
    Options {
        folder: PathBuf::from("simulated"),
        shards,
        destinations: names.to_vec(),
        sources: vec!["fw".into()],
        forget: Vec::new(),
        drop_oldest: 0,
        kept: 0,
        commit_interval: Duration::ZERO,
        commit_bytes: 1,
        segment_bytes: 6 * 1024,
        max_bytes: 1 << 30,
        retain: Duration::ZERO,
        open_chunks_max: 1 << 20,
        compress: false,
    }
}

fn sender(source: &str) -> Arc<Sender> {
    Arc::new(Sender { source: source.into(), source_index: 0 })
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let disk = Disk::new(random.next());
        Self {
            random,
            disk,
            chunks: BTreeMap::new(),
            ever: BTreeMap::new(),
            rotten: Vec::new(),
            dead: BTreeSet::new(),
            batches: BTreeMap::new(),
            epochs: BTreeSet::new(),
            next_batch: 1,
            is_cut: false,
        }
    }

    fn run(&mut self) {
        for round in 0..1 + self.random.below(4) {
            let rate = if self.random.one_in(2) { self.random.below(80) } else { 0 };
            let space = self.random.one_in(3).then(|| self.disk.used() + self.random.below(24 * 1024));
            self.disk.set_faults(Faults { rate, space });
            let Some(mut run) = self.start() else {
                // What is in the cache only has been read, and nothing was built on it: the power may not go now.
                self.crash(false, false);
                continue;
            };
            for _ in 0..self.random.below(40) {
                self.step(&mut run);
            }
            // A disk that never fails again takes everything.
            if self.random.one_in(3) {
                self.disk.set_faults(Faults::default());
                (0..run.queues.len()).for_each(|log| assert!(self.commit(&mut run, log), "the disk is well"));
            }
            let rots = round > 0 && self.random.one_in(3);
            let is_cut = self.random.one_in(2);
            self.crash(rots, is_cut);
        }
    }

    fn start(&mut self) -> Option<Run> {
        let mut names: Vec<String> = DESTINATIONS.iter().map(ToString::to_string).collect();
        let turn = self.random.below(3) as usize;
        names.rotate_left(turn);
        let shards = 1 + self.random.below(3) as usize;
        let storage: Arc<dyn Storage> = Arc::new(self.disk.clone());
        let retain = if self.random.one_in(2) { Duration::from_secs(3600) } else { Duration::ZERO };
        let mut started = start_logs(&storage, &Options { retain, ..options(&names, shards) }).ok()?;
        for (_, epoch) in &started.logs {
            assert!(self.epochs.insert(*epoch), "the epoch {epoch} is used twice");
        }
        self.check_work(&mut started, &names);
        Some(Run { queues: started.logs.iter().map(|_| Vec::new()).collect(), next: vec![0; shards], names, started })
    }

    /// Everything that is not settled is given back as work: in its batch, or alone, once.
    fn check_work(&mut self, started: &mut Started, names: &[String]) {
        let mut given: BTreeMap<(Position, String), Members> = BTreeMap::new();
        let mut undecided = BTreeSet::new();
        let mut give = |position: Position, destination: usize, members: &Members| {
            let entry =
                given.entry((position, names[destination].clone())).or_insert_with(|| Members { chunk: position, ..Members::default() });
            let before = entry.count as usize + entry.alerts.len();
            entry.add(members);
            assert_eq!(before + members.count as usize + members.alerts.len(), entry.count as usize + entry.alerts.len(), "given twice");
        };
        for work in started.work.iter().flatten() {
            match work {
                Work::Batch { destination, id, members, .. } => {
                    assert!(self.batches.contains_key(id));
                    members.iter().for_each(|(place, members)| give(place.position, *destination, members));
                }
                Work::Undecided(place, _) => drop(undecided.insert(place.position)),
                Work::Kept(place, _) => panic!("{} is kept for nobody", place.position),
            }
        }
        let mut deferred = Vec::new();
        for (log, _) in &mut started.logs {
            for (destination, name) in names.iter().enumerate() {
                let (pieces, _) = log.take_deferred(destination as u16, usize::MAX);
                pieces.iter().for_each(|(position, _, members)| give(*position, destination, members));
                for (position, _, _) in pieces {
                    log.defer_again(destination as u16, position);
                    deferred.push((position, name.clone()));
                }
            }
        }
        for (position, known) in &self.chunks {
            if undecided.contains(position) {
                continue;
            }
            for (name, (expected, settled)) in &known.shares {
                let mut left = expected.durable.clone();
                left.remove(&settled.durable);
                let none = Members::none(*position, known.frames);
                let got = given.get(&(*position, name.clone())).unwrap_or(&none);
                assert!(left.is_within(got) && got.is_within(&left), "{position} {name}: {left:?} is owed, {got:?} is given");
            }
        }
        for (position, name) in deferred {
            if let Some(known) = self.chunks.get_mut(&position) {
                known.deferred.insert(name);
            }
        }
    }

    fn step(&mut self, run: &mut Run) {
        let log = self.random.below(run.queues.len() as u64) as usize;
        match self.random.below(12) {
            10 => self.resume(run, log),
            11 => self.drop_oldest(run, log),
            0..=3 => self.append(run, log),
            4 => self.decide(run),
            5 => self.seal(run),
            6 => self.settle(run),
            7 if self.random.one_in(4) => drop(run.started.logs[log].0.free_oldest()),
            7 => drop(run.started.logs[log].0.free()),
            _ => drop(self.commit(run, log)),
        }
    }

    fn append(&mut self, run: &mut Run, log: usize) {
        let epoch = run.started.logs[log].1;
        let mut new = Vec::new();
        let mut positions = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let frames = 1 + self.random.below(70) as usize;
            let bytes: Vec<u8> = (0..frames * (1 + self.random.below(20) as usize)).map(|_| self.random.next() as u8).collect();
            let width = bytes.len() / frames;
            let spans = (0..frames).map(|frame| Span::new(frame * width, (frame + 1) * width)).collect();
            let mut chunk = Chunk::new(bytes.clone(), spans, sender("fw"), 5);
            chunk.position = Position { epoch, sequence: run.next[log] };
            run.next[log] += frames as u64;
            let (body, flags) = write_chunk(&chunk, self.random.one_in(2));
            new.push(NewChunk { position: chunk.position, source: 0, frames: frames as u32, body, flags });
            positions.push(chunk.position);
            let known = Known { bytes, frames, ..Known::default() };
            self.chunks.insert(chunk.position, known);
        }
        for position in &positions {
            let known = self.chunks.get_mut(position).unwrap();
            known.transaction.clone_from(&positions);
            self.ever.insert(*position, known.clone());
        }
        run.queues[log].push(Entry::Chunks(new));
    }

    fn members(&mut self, position: Position, frames: usize) -> Members {
        let mut members = Members::none(position, frames);
        let all = self.random.one_in(2);
        (0..frames as u32).filter(|_| all || self.random.one_in(2)).collect::<Vec<_>>().into_iter().for_each(|frame| members.insert(frame));
        if self.random.one_in(4) {
            members.alerts.push(AlertKey { frame: 0, rule: self.random.below(3) });
        }
        members
    }

    fn owner(run: &Run, position: Position) -> usize {
        run.started.owners[&position.epoch]
    }

    /// A chunk that has (no) verdict.
    fn pick(&mut self, is_decided: bool) -> Option<Position> {
        let fitting: Vec<Position> =
            self.chunks.iter().filter(|(_, known)| known.decided.said == is_decided).map(|(position, _)| *position).collect();
        fitting.get(self.random.below(fitting.len() as u64) as usize).copied()
    }

    fn decide(&mut self, run: &mut Run) {
        let Some(position) = self.pick(false) else { return };
        let frames = self.chunks[&position].frames;
        let (mut expected, mut deferred) = (Vec::new(), 0);
        for number in 0..run.names.len() {
            let mut members = self.members(position, frames);
            // Recovery keeps what a destination has, and its batches.
            if let Some((_, settled)) = self.chunks[&position].shares.get(&run.names[number]) {
                members.add(&settled.said);
            }
            if self.random.one_in(3) || members.is_empty() {
                continue;
            }
            let known = self.chunks.get_mut(&position).unwrap();
            known.shares.entry(run.names[number].clone()).or_default().0.said = members.clone();
            expected.push((number as u16, members));
            if self.random.one_in(2) {
                deferred |= 1 << number;
                self.chunks.get_mut(&position).unwrap().deferred.insert(run.names[number].clone());
            }
        }
        self.chunks.get_mut(&position).unwrap().decided.said = true;
        let owner = Self::owner(run, position);
        run.queues[owner].push(Entry::Verdict(position, Verdict { plan: 1, expected, deferred }));
    }

    /// Takes up what the log keeps for a destination that has come back.
    fn resume(&mut self, run: &mut Run, log: usize) {
        let (number, count) = (self.random.below(3) as u16, self.random.below(4) as usize);
        let name = &run.names[usize::from(number)];
        for (position, _, members) in run.started.logs[log].0.take_deferred(number, count).0 {
            if self.is_rotten(position) {
                continue;
            }
            let lacks = self.lacks(position, name);
            assert!(lacks.is_within(&members) && members.is_within(&lacks), "{position} {name}: {lacks:?}, {members:?}");
            assert!(self.chunks.get_mut(&position).unwrap().deferred.remove(name));
        }
    }

    /// Drops for some destinations: only for them, only what no batch has, and all that the destination lacks of a chunk.
    fn drop_oldest(&mut self, run: &mut Run, log: usize) {
        let asked = self.random.below(8);
        let count = self.random.one_in(2).then(|| 1 + self.random.below(3) as usize);
        for (number, members) in run.started.logs[log].0.drop_oldest(asked, count).members {
            let name = run.names[usize::from(number)].clone();
            assert!(asked & 1 << number != 0, "nobody asked to drop for {name}");
            for members in &members {
                if self.is_rotten(members.chunk) {
                    continue;
                }
                let lacks = self.lacks(members.chunk, &name);
                assert!(lacks.is_within(members) && members.is_within(&lacks), "{}: {lacks:?}, {members:?}", members.chunk);
                let known = self.chunks.get_mut(&members.chunk).unwrap();
                assert!(known.deferred.remove(&name), "what was dropped was kept for nobody");
                known.shares.get_mut(&name).unwrap().1.said.add(members);
                known.dropped.entry(name.clone()).or_default().said.add(members);
            }
            run.queues[log].push(Entry::Settled(number, 0, members));
        }
    }

    /// Whether the log waits for a chunk that cannot be read any more, as it finds out when it reads it.
    fn is_rotten(&self, position: Position) -> bool {
        assert!(self.chunks.contains_key(&position) || self.dead.contains(&position), "{position} is invented");
        !self.chunks.contains_key(&position)
    }

    /// What a destination is to get of a chunk, is in no batch, and does not have.
    fn lacks(&self, position: Position, name: &str) -> Members {
        let known = &self.chunks[&position];
        let Some((expected, settled)) = known.shares.get(name) else { return Members::none(position, known.frames) };
        let mut left = expected.said.clone();
        left.remove(&settled.said);
        for batch in self.batches.values().filter(|batch| batch.destination == name) {
            batch.members.iter().filter(|members| members.chunk == position).for_each(|members| left.remove(members));
        }
        left
    }

    fn seal(&mut self, run: &mut Run) {
        let number = self.random.below(3) as usize;
        let name = run.names[number].clone();
        let mut members = Vec::new();
        for position in self.chunks.keys().copied().collect::<Vec<_>>() {
            // What the log keeps has to be taken up first.
            let is_kept = self.chunks[&position].deferred.contains(&name);
            let left = self.lacks(position, &name);
            if !is_kept && !left.is_empty() && self.random.one_in(2) {
                members.push(left);
            }
        }
        if members.is_empty() {
            return;
        }
        let id = self.next_batch;
        self.next_batch += 1;
        let (partition, oldest_ms): (Box<str>, i64) = (format!("p{}", self.random.below(9)).into(), self.random.below(1000) as i64);
        for log in 0..run.queues.len() {
            let part: Vec<Members> = members.iter().filter(|members| Self::owner(run, members.chunk) == log).cloned().collect();
            if !part.is_empty() {
                let (destination, partition) = (number as u16, partition.clone());
                run.queues[log].push(Entry::Manifest(Batch { destination, id, plan: 1, partition, oldest_ms, members: part }));
            }
        }
        self.batches.insert(id, KnownBatch { destination: name, partition, oldest_ms, all: members.clone(), members, durable: false });
    }

    fn settle(&mut self, run: &mut Run) {
        let durable: Vec<u128> = self.batches.iter().filter(|(_, batch)| batch.durable).map(|(id, _)| *id).collect();
        let Some(id) = durable.get(self.random.below(durable.len() as u64) as usize).copied() else { return };
        let batch = &self.batches[&id];
        let (name, mut settled) = (batch.destination.clone(), batch.members.clone());
        assert!(!settled.is_empty());
        if self.random.one_in(3) {
            // A part of it, as after a split.
            settled.truncate(1 + self.random.below(settled.len() as u64) as usize);
            settled.iter_mut().for_each(|members| members.alerts.clear());
        }
        let number = run.names.iter().position(|known| *known == name).unwrap() as u16;
        for members in &settled {
            if let Some(known) = self.chunks.get_mut(&members.chunk) {
                known.shares.entry(name.clone()).or_default().1.said.add(members);
                known.delivered.entry(name.clone()).or_default().add(members);
            }
        }
        for log in 0..run.queues.len() {
            let part: Vec<Members> = settled.iter().filter(|members| Self::owner(run, members.chunk) == log).cloned().collect();
            if !part.is_empty() {
                run.queues[log].push(Entry::Settled(number, id, part));
            }
        }
    }

    /// Commits what was said to a log; whether the disk took it.
    fn commit(&mut self, run: &mut Run, log: usize) -> bool {
        let told: Vec<Told1> = run.queues[log].iter().map(|entry| Told1::of(entry, &run.names)).collect();
        let (writer, queue) = (&mut run.started.logs[log].0, &mut run.queues[log]);
        let mut tries = 0;
        while let Err(error) = writer.commit(queue) {
            // As the writer's thread does: what nobody waits for goes before anybody is held back.
            if error.kind() == std::io::ErrorKind::StorageFull && matches!(writer.free_oldest(), Ok(true)) {
                continue;
            }
            tries += 1;
            if tries == 4 {
                return false;
            }
        }
        for told in told {
            self.note(told);
        }
        // A batch is attempted when all parts of its manifest are durable.
        for (id, batch) in &mut self.batches {
            let waits = run.queues.iter().flatten().any(|entry| matches!(entry, Entry::Manifest(part) if part.id == *id));
            batch.durable = batch.durable || !waits && !batch.members.is_empty();
        }
        true
    }

    fn note(&mut self, told: Told1) {
        match told {
            Told1::Chunks(positions) => positions.iter().for_each(|position| self.chunks.get_mut(position).unwrap().acknowledged = true),
            Told1::Verdict(position, expected) => {
                let known = self.chunks.get_mut(&position).unwrap();
                known.decided.durable = true;
                expected.into_iter().for_each(|(name, members)| known.shares.entry(name).or_default().0.durable = members);
            }
            Told1::Settled(name, batch, settled) => {
                for members in settled {
                    if let Some(known) = self.chunks.get_mut(&members.chunk) {
                        known.shares.entry(name.clone()).or_default().1.durable.add(&members);
                        if batch == 0 {
                            known.dropped.entry(name.clone()).or_default().durable.add(&members);
                        }
                    }
                }
            }
            Told1::Nothing => {}
        }
    }

    /// Ends a run, looks at what is left, and lets the oracle go on from there. With `rots`: a bit flips first.
    fn crash(&mut self, rots: bool, is_cut: bool) {
        self.is_cut = is_cut;
        if self.is_cut {
            self.disk.lose_power();
        }
        self.disk.set_faults(Faults::default());
        let before = load(&self.disk, false).unwrap();
        assert!(!self.rotten.is_empty() || before.damage.is_empty(), "{:?}", before.damage);
        self.check(&before, &BTreeSet::new(), false);
        if self.rotten.is_empty() {
            self.check_dropped(&before);
        }
        if !rots {
            return self.go_on(before);
        }
        let secrets = before.secrets.clone();
        let whole: BTreeMap<String, Vec<u8>> =
            self.disk.list().unwrap().iter().map(|(name, bytes)| (name.clone(), self.disk.read(name, 0, *bytes).unwrap())).collect();
        let Some((name, at)) = self.disk.rot() else { return self.go_on(before) };
        self.rotten.push((name.clone(), at));
        let (epoch, segment) = parse_name(&name).unwrap();
        let key = Key { secret: secrets.get(&epoch).copied().unwrap_or(0), epoch, segment };
        let head = self.disk.read(&name, 0, RECORDS_START as u64).unwrap();
        // Two flips have met both copies of the header: without it nothing tells the records from noise.
        let is_headless = SegmentHeader::read(&head, epoch, segment).unwrap().is_none();
        let lost = if is_headless { chunks_in(key, &whole[&name]) } else { hit(key, &whole[&name], at) };
        let after = load(&self.disk, true).unwrap();
        self.check(&after, &lost, true);
        let promised =
            |position: &&Position| self.chunks.get(position).is_some_and(|known| known.acknowledged) && !self.dead.contains(position);
        for position in before.chunks.keys().filter(promised).filter(|position| !readable(&self.disk, &after, **position)) {
            assert!(lost.contains(position), "{position} is lost by a bit at {name}:{at} that hit {lost:?}");
            let named = after.damage.iter().any(|damage| damage.epoch == epoch && damage.segment == segment);
            assert!(
                named || after.torn_bytes > before.torn_bytes || after.chunks.contains_key(position),
                "{position} is lost without a word"
            );
        }
        let after = if self.random.one_in(2) { self.repair(after.damage, &lost) } else { after };
        self.go_on(after);
        // It may have been settled, and come again when another bit flips.
        self.dead.extend(lost);
    }

    /// What a destination does not have and will not get is what was dropped for it: all that was counted, and no more than
    /// was on its way to the disk when the process died.
    fn check_dropped(&self, loaded: &Loaded) {
        let names = &loaded.names.destinations;
        for (position, known) in self.chunks.iter().filter(|(_, known)| known.decided.durable) {
            for (name, (expected, _)) in &known.shares {
                let mut missing = expected.durable.clone();
                known.delivered.get(name).into_iter().for_each(|delivered| missing.remove(delivered));
                let shares = loaded.chunks.get(position).map_or(&[][..], |chunk| &chunk.shares);
                if let Some(share) = shares.iter().find(|share| names[usize::from(share.destination)] == *name) {
                    let mut owed = share.expected.clone();
                    owed.remove(&share.settled);
                    missing.remove(&owed);
                }
                let Told { said, durable } = known.dropped.get(name).cloned().unwrap_or_default();
                assert!(durable.is_within(&missing), "{position} {name}: {durable:?} was dropped and comes back; missing: {missing:?}");
                assert!(missing.is_within(&said), "{position} {name}: {missing:?} is missing, {said:?} was dropped");
            }
        }
    }

    /// A repair loses no more than the damage does, and leaves none.
    fn repair(&self, damage: Vec<Damage>, lost: &BTreeSet<Position>) -> Loaded {
        let storage: Arc<dyn Storage> = Arc::new(self.disk.clone());
        let repaired = repair_on(&storage, Path::new("simulated")).unwrap();
        assert_eq!(repaired.damage, damage);
        let after = load(&self.disk, true).unwrap();
        assert_eq!(after.damage, []);
        self.check(&after, lost, true);
        let unreadable = after.chunks.keys().find(|position| !readable(&self.disk, &after, **position));
        assert!(unreadable.is_none() || damage.is_empty(), "{unreadable:?} is still waited for");
        assert_eq!(repair_on(&storage, Path::new("simulated")).unwrap(), Repaired::default(), "once is enough");
        after
    }

    fn check(&self, loaded: &Loaded, lost: &BTreeSet<Position>, is_rotten: bool) {
        let names = &loaded.names.destinations;
        for (position, known) in &self.chunks {
            let is_there = loaded.chunks.contains_key(position);
            if known.acknowledged && !known.is_done(false) && !lost.contains(position) {
                let Loaded { damage, files, .. } = loaded;
                let rotted = &self.rotten;
                assert!(is_there, "{position} was acknowledged and is gone; rotted: {rotted:?}, lost: {lost:?}, {damage:?}, {files:?}");
            }
            // A power cut may leave the mark and not all of its chunks, which then look like rotten ones.
            if !known.acknowledged && !is_rotten && !self.is_cut && known.transaction.iter().all(|other| !self.chunks[other].is_done(false))
            {
                let others = known.transaction.iter().filter(|other| loaded.chunks.contains_key(other)).count();
                assert!(others == 0 || others == known.transaction.len(), "a part of the transaction of {position}");
            }
        }
        for (position, chunk) in &loaded.chunks {
            let ever = self.ever.get(position).filter(|_| !self.rotten.is_empty());
            let known = self.chunks.get(position).or(ever).unwrap_or_else(|| panic!("{position} is invented"));
            assert!(is_rotten || !known.is_done(true), "{position} was settled for everybody");
            for share in &chunk.shares {
                let (expected, settled) = known.shares.get(&names[usize::from(share.destination)]).cloned().unwrap_or_default();
                let is_said = share.expected.is_within(&expected.said) && share.settled.is_within(&settled.said);
                assert!(!self.rotten.is_empty() || is_said, "{position}: never said");
            }
            for (name, (_, settled)) in &known.shares {
                let share = chunk.shares.iter().find(|share| names[usize::from(share.destination)] == *name);
                let none = Members::none(*position, known.frames);
                let has = share.map_or(&none, |share| &share.settled);
                assert!(is_rotten || settled.durable.is_within(has), "{position}: {name} has it and would get it again");
            }
            if known.acknowledged && !lost.contains(position) && !self.dead.contains(position) {
                let chunk = read(&self.disk, loaded, *position)
                    .unwrap_or_else(|| panic!("{position} cannot be read; rotten: {:?}, {:?}", self.rotten, loaded.chunks[position].at));
                assert!(
                    chunk.frames().len() == known.frames && chunk.bytes()[..known.bytes.len()] == known.bytes,
                    "{position} has changed"
                );
            }
        }
        for ((destination, id), batch) in &loaded.batches {
            let known = &self.batches[id];
            assert_eq!(
                (&*known.destination, &known.partition, known.oldest_ms),
                (&*names[usize::from(*destination)], &batch.partition, batch.oldest_ms)
            );
            for members in &batch.members {
                assert!(known.all.iter().any(|known| members.chunk == known.chunk && members.is_within(known)));
            }
        }
        for (id, known) in self.batches.iter().filter(|(_, batch)| batch.durable && !is_rotten) {
            for members in &known.members {
                let Some(chunk) = loaded.chunks.get(&members.chunk) else { continue };
                let share = chunk.shares.iter().find(|share| names[usize::from(share.destination)] == known.destination);
                let mut left = members.clone();
                share.into_iter().for_each(|share| left.remove(&share.settled));
                let batch = loaded.batches.iter().find(|((_, key), _)| key == id).map(|(_, batch)| batch);
                let kept = batch.and_then(|batch| batch.members.iter().find(|kept| kept.chunk == members.chunk));
                assert!(left.is_empty() || kept.is_some_and(|kept| left.is_within(kept)), "the batch {id} has lost members");
            }
        }
    }

    /// What was found is what the next run answers for.
    fn go_on(&mut self, loaded: Loaded) {
        let names = &loaded.names.destinations;
        self.chunks.retain(|position, _| loaded.chunks.contains_key(position) && readable(&self.disk, &loaded, *position));
        for position in loaded.chunks.keys() {
            if readable(&self.disk, &loaded, *position) {
                self.chunks.entry(*position).or_insert_with(|| self.ever[position].clone());
            } else {
                self.dead.insert(*position);
            }
        }
        for (position, known) in &mut self.chunks {
            let chunk = &loaded.chunks[position];
            // What was found without having been acknowledged is as good as before, but nobody was promised it.
            known.transaction = vec![*position];
            known.decided = Told { said: chunk.verdict.is_some(), durable: chunk.verdict.is_some() };
            let both = |members: &Members| Told { said: members.clone(), durable: members.clone() };
            let share = |share: &super::state::Share| {
                (names[usize::from(share.destination)].clone(), (both(&share.expected), both(&share.settled)))
            };
            known.shares = chunk.shares.iter().map(share).collect();
            known.deferred.clear();
            // A confirmation that nobody wrote down is not known any more: it is sent again, or dropped.
            for (name, delivered) in &mut known.delivered {
                let mut lost = delivered.clone();
                known.shares.get(name).into_iter().for_each(|(_, settled)| lost.remove(&settled.said));
                delivered.remove(&lost);
            }
            for (name, dropped) in &mut known.dropped {
                // What was on its way to the disk is there, or it is owed again.
                let mut lost = dropped.said.clone();
                known.shares.get(name).into_iter().for_each(|(_, settled)| lost.remove(&settled.said));
                dropped.said.remove(&lost);
                dropped.durable.clone_from(&dropped.said);
            }
        }
        for batch in self.batches.values_mut() {
            batch.members.clear();
            batch.durable = false;
        }
        for ((_, id), batch) in &loaded.batches {
            let known = self.batches.get_mut(id).unwrap();
            known.members.clone_from(&batch.members);
            known.members.retain(|members| self.chunks.contains_key(&members.chunk));
            known.durable = !known.members.is_empty();
        }
    }
}

/// What an entry says, kept while its log takes it.
enum Told1 {
    Chunks(Vec<Position>),
    Verdict(Position, Vec<(String, Members)>),
    Settled(String, u128, Vec<Members>),
    Nothing,
}

impl Told1 {
    fn of(entry: &Entry, names: &[String]) -> Self {
        let name = |number: u16| names[usize::from(number)].clone();
        match entry {
            Entry::Chunks(chunks) => Self::Chunks(chunks.iter().map(|chunk| chunk.position).collect()),
            Entry::Verdict(position, Verdict { expected, .. }) => {
                Self::Verdict(*position, expected.iter().map(|(number, members)| (name(*number), members.clone())).collect())
            }
            Entry::Settled(number, batch, members) => Self::Settled(name(*number), *batch, members.clone()),
            Entry::Manifest(_) | Entry::Lost(_) | Entry::Flush => Self::Nothing,
        }
    }
}

fn read(disk: &Disk, loaded: &Loaded, position: Position) -> Option<Chunk> {
    let reader = ChunkReader::new(Arc::new(disk.clone()), loaded.secrets.clone());
    reader.read(Place { position, at: loaded.chunks.get(&position)?.at }, sender).unwrap()
}

fn readable(disk: &Disk, loaded: &Loaded, position: Position) -> bool {
    read(disk, loaded, position).is_some()
}

fn chunks_in(key: Key, whole: &[u8]) -> BTreeSet<Position> {
    let chunk = |found| match found {
        Found::Record { header, .. } if header.kind == Kind::Chunk => Some(header.position),
        _ => None,
    };
    scan(key, whole, RECORDS_START).filter_map(chunk).collect()
}

/// The chunks that a damaged byte may cost: that of its record, or those of its transaction if it is the mark.
fn hit(key: Key, whole: &[u8], at: usize) -> BTreeSet<Position> {
    for found in scan(key, whole, RECORDS_START) {
        let Found::Record { offset, header, body } = found else { continue };
        if (offset as usize..offset as usize + header.record_bytes()).contains(&at) {
            return match header.kind {
                Kind::Chunk => BTreeSet::from([header.position]),
                Kind::Commit => {
                    let sequences = super::state::read_commit(body).unwrap();
                    sequences.into_iter().map(|sequence| Position { sequence, ..header.position }).collect()
                }
                _ => BTreeSet::new(),
            };
        }
    }
    BTreeSet::new()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap())
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_invented_whatever_the_disk_does() {
    let cases = match number("HYDRANT_SEED") {
        Some(seed) => seed..seed + number("HYDRANT_CASES").unwrap_or(1),
        None => 0..number("HYDRANT_CASES").unwrap_or(CASES),
    };
    for seed in cases {
        let _seed = Seed(seed);
        Case::new(seed).run();
    }
}

fn chunk(source_index: u16, frames: usize) -> Chunk {
    let sender = Arc::new(Sender { source: "fw".into(), source_index });
    Chunk::new(b"ab".repeat(frames), (0..frames).map(|frame| Span::new(2 * frame, 2 * frame + 2)).collect(), sender, 5)
}

fn all(chunk: &Chunk) -> Members {
    let mut members = Members::none(chunk.position, chunk.frames().len());
    (0..chunk.frames().len() as u32).for_each(|frame| members.insert(frame));
    members
}

fn decided(expected: Vec<(usize, Members)>) -> cursor::Verdict {
    cursor::Verdict { plan: 1, expected, deferred: 0 }
}

fn open(disk: &Disk, options: &Options) -> Result<(super::Opened, Registry), String> {
    let registry = Registry::default();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    super::disk::open_on(&storage, options, &registry).map(|opened| (opened, registry)).map_err(|error| error.to_string())
}

fn two_names() -> Vec<String> {
    vec!["lake".into(), "siem".into()]
}

#[tokio::test]
async fn while_the_disk_fails_nothing_is_acknowledged_and_nothing_more_is_taken_and_then_it_heals() {
    let disk = Disk::new(1);
    let (opened, registry) = open(&disk, &options(&two_names(), 1)).unwrap();
    let journal = &opened.journals[0];
    journal.append(&mut [chunk(0, 3)]).await.unwrap();
    assert!(journal.has_room(1000));
    disk.set_faults(Faults { rate: 1000, space: None });
    let mut chunks = [chunk(0, 4)];
    let mut commit = journal.append(&mut chunks);
    assert!(tokio::time::timeout(Duration::from_millis(700), &mut commit).await.is_err(), "it cannot be durable");
    assert!(!journal.has_room(1), "senders are held back");
    assert_eq!(registry.sum(&metrics::JOURNAL_FAILING, "shard", "0"), 1);
    assert!(registry.sum(&metrics::JOURNAL_FAILURES, "shard", "0") >= 2);
    let freed = journal.freed();
    disk.set_faults(Faults::default());
    commit.await.unwrap();
    freed.await;
    assert!(journal.has_room(1));
    assert_eq!(registry.sum(&metrics::JOURNAL_FAILING, "shard", "0"), 0);
    // As if the process died here.
    let loaded = load(&disk, true).unwrap();
    assert_eq!(loaded.chunks.len(), 2);
    assert_eq!(loaded.damage, []);
    assert!(opened.closer.close());
}

#[tokio::test]
async fn at_its_cap_the_journal_takes_nothing_more_until_destinations_have_taken_something() {
    let disk = Disk::new(1);
    let options = Options { segment_bytes: 16 << 10, max_bytes: 3 * (16 << 10), ..options(&two_names(), 1) };
    let (opened, _) = open(&disk, &options).unwrap();
    let journal = &opened.journals[0];
    let mut taken = Vec::new();
    while journal.has_room(3000) {
        let mut chunks = [chunk(0, 1000)];
        journal.append(&mut chunks).await.unwrap();
        let [chunk] = chunks;
        journal.decide(chunk.position, decided(vec![(0, all(&chunk))]));
        taken.push(chunk);
        // What the commit made free is given back after it is told: the next one comes after that.
        journal.flush().await.unwrap();
        assert!(taken.len() < 20, "the cap does not hold");
    }
    assert!(taken.len() >= 4, "{} chunks fill three segments", taken.len());
    let freed = journal.freed();
    taken.iter().for_each(|chunk| journal.settle(0, 0, &[all(chunk)]));
    // A segment is given back as a whole, by whoever commits next.
    journal.flush().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), freed).await.unwrap();
    while !journal.has_room(3000) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(opened.closer.close());
}

#[tokio::test]
async fn at_its_cap_the_oldest_is_dropped_for_a_destination_that_says_so_and_never_what_another_one_lacks() {
    let disk = Disk::new(1);
    let capped = Options { segment_bytes: 16 << 10, max_bytes: 5 * (16 << 10), drop_oldest: 0b10, ..options(&two_names(), 1) };
    let (opened, _) = open(&disk, &capped).unwrap();
    let journal = &opened.journals[0];
    let mut taken = Vec::new();
    assert!(!journal.make_room().await, "there is room");
    while journal.has_room(3000) {
        let mut chunks = [chunk(0, 1000)];
        journal.append(&mut chunks).await.unwrap();
        let [chunk] = chunks;
        let verdict = decided(vec![(0, all(&chunk)), (1, all(&chunk))]);
        journal.decide(chunk.position, cursor::Verdict { deferred: 0b10, ..verdict });
        // The first one is not confirmed by the other destination.
        if !taken.is_empty() {
            journal.settle(0, 0, &[all(&chunk)]);
        }
        taken.push(all(&chunk));
        journal.flush().await.unwrap();
        assert!(taken.len() < 60, "the cap does not hold");
    }
    assert!(journal.needs_room() && journal.is_filling() && journal.make_room().await && journal.has_room(3000));
    let dropped = journal.take_dropped(1);
    let chunks = dropped.deferred.0 / 1000;
    assert!(chunks >= 2 && dropped.deferred == (chunks * 1000, 0) && dropped.earlier == (0, 0), "{dropped:?}");
    assert_eq!((journal.take_dropped(1), journal.take_dropped(0)), (DroppedCount::default(), DroppedCount::default()));
    assert_eq!(journal.deferred(1) as u64, taken.len() as u64 - chunks);
    assert!(opened.closer.close());

    let (opened, _) = open(&disk, &capped).unwrap();
    let journal = &opened.journals[0];
    let owed: BTreeSet<Position> = journal.take_deferred(1, 99).await.iter().map(|piece| piece.place.position).collect();
    assert_eq!(owed.len() as u64, taken.len() as u64 - chunks, "what was dropped stays dropped");
    let is_gone: Vec<bool> = taken.iter().map(|members| !owed.contains(&members.chunk)).collect();
    let first = is_gone.iter().position(|is_gone| *is_gone).unwrap();
    assert!(first > 0 && is_gone[first..first + chunks as usize].iter().all(|is_gone| *is_gone), "the oldest that could go: {is_gone:?}");
    assert!(opened.closer.close());
}

#[tokio::test]
async fn what_is_kept_comes_back_after_a_restart_until_it_is_settled_and_gives_way_before_senders_are_held_back() {
    let disk = Disk::new(1);
    let capped = Options { segment_bytes: 16 << 10, max_bytes: 7 * (16 << 10), kept: 0b10, ..options(&two_names(), 1) };
    let (opened, _) = open(&disk, &capped).unwrap();
    let journal = &opened.journals[0];
    let (mut taken, mut dropped) = (Vec::new(), 0);
    for _ in 0..60 {
        let mut chunks = [chunk(0, 1000)];
        journal.append(&mut chunks).await.unwrap();
        journal.decide(chunks[0].position, decided(vec![(1, all(&chunks[0]))]));
        taken.push(all(&chunks[0]));
        journal.flush().await.unwrap();
        assert!(journal.has_room(3000), "senders are held back");
        if journal.needs_room() {
            assert!(journal.make_room().await);
            dropped += journal.take_dropped(1).deferred.0 as usize / 1000;
        }
    }
    assert_eq!(journal.deferred(1), 0, "nobody takes it up in this run");
    assert!(dropped > 30 && dropped < 57, "{dropped}");
    journal.settle(1, 0, &taken[58..59]);
    assert!(opened.closer.close());
    for _ in 0..2 {
        let (opened, _) = open(&disk, &capped).unwrap();
        let kept = opened.work.iter().flatten().map(|work| match work {
            Work::Kept(place, members) => (place.position, members.clone()),
            other => panic!("{other:?}"),
        });
        let left = taken.iter().enumerate().filter(|(index, _)| *index >= dropped && *index != 58);
        assert_eq!(kept.collect::<Vec<_>>(), left.map(|(_, members)| (members.chunk, members.clone())).collect::<Vec<_>>());
        assert!(opened.closer.close());
    }
}

#[tokio::test]
async fn too_many_open_chunks_are_dropped_and_those_of_an_earlier_run_are_counted_as_such() {
    let disk = Disk::new(1);
    let bounded = Options { open_chunks_max: 20, drop_oldest: 0b10, ..options(&two_names(), 1) };
    for (run, expected) in
        [(0, DroppedCount { deferred: (3, 0), earlier: (0, 0) }), (1, DroppedCount { deferred: (0, 0), earlier: (3, 0) })]
    {
        let (opened, _) = open(&disk, &bounded).unwrap();
        let journal = &opened.journals[0];
        while journal.has_room(1) {
            let mut chunks = [chunk(0, 3)];
            journal.append(&mut chunks).await.unwrap();
            let verdict = decided(vec![(1, all(&chunks[0]))]);
            journal.decide(chunks[0].position, cursor::Verdict { deferred: 0b10, ..verdict });
            journal.flush().await.unwrap();
            journal.flush().await.unwrap();
        }
        assert!(journal.make_room().await && journal.has_room(1), "run {run}");
        assert_eq!((journal.take_dropped(1), journal.deferred(1)), (expected, 19));
        assert!(opened.closer.close());
    }
}

#[tokio::test]
async fn what_nobody_waits_for_is_kept_for_a_while_and_makes_room_when_it_is_needed() {
    let disk = Disk::new(1);
    let (segment_bytes, max_bytes) = (16 << 10, 6 * (16 << 10));
    let keeping = Options { segment_bytes, max_bytes, retain: Duration::from_secs(3600), ..options(&two_names(), 1) };
    let files = |disk: &Disk| disk.list().unwrap().iter().filter(|(name, _)| name.ends_with(".log")).count();
    let kept = |disk: &Disk| {
        let mut history = History::open_on(Arc::new(disk.clone()), 0..i64::MAX, None).unwrap();
        let kept: Vec<_> = std::iter::from_fn(|| history.next_chunk().unwrap()).collect();
        assert_eq!((history.damaged, history.gone), (0, 0));
        let half = kept.len() / 2;
        let mut rest = History::open_on(Arc::new(disk.clone()), 0..i64::MAX, Some(kept[half].turn)).unwrap();
        assert_eq!(std::iter::from_fn(|| rest.next_chunk().unwrap()).count(), kept.len() - half - 1, "it goes on behind a turn");
        assert!(History::open_on(Arc::new(disk.clone()), 6..7, None).unwrap().next_chunk().unwrap().is_none(), "all arrived at 5");
        kept.iter().map(|kept| (kept.place.position, kept.events)).collect::<Vec<_>>()
    };
    let (mut appended, mut last) = (Vec::new(), 0);
    for run in 0..3 {
        let (opened, _) = open(&disk, &keeping).unwrap();
        let journal = &opened.journals[0];
        for _ in 0..20 {
            assert!(journal.has_room(3000), "what is kept holds nobody back");
            let mut chunks = [chunk(0, 1000)];
            journal.append(&mut chunks).await.unwrap();
            journal.decide(chunks[0].position, decided(vec![(0, all(&chunks[0]))]));
            journal.settle(0, 0, &[all(&chunks[0])]);
            appended.push(chunks[0].position);
            journal.flush().await.unwrap();
            journal.flush().await.unwrap();
            assert!(disk.used() <= max_bytes + segment_bytes && !journal.is_filling(), "run {run}: {}", disk.used());
        }
        assert!(opened.closer.close());
        assert!(load(&disk, false).unwrap().chunks.is_empty(), "nobody waits for it");
        let kept = kept(&disk);
        assert!(kept.len() > 10 && kept.iter().all(|(_, events)| *events == 1000), "{kept:?}");
        let newest: Vec<Position> = kept.iter().map(|(position, _)| *position).collect();
        assert_eq!(newest, appended[appended.len() - kept.len()..], "the newest, across runs");
        last = files(&disk);
    }
    let (opened, registry) = open(&disk, &Options { max_bytes: 1 << 30, ..keeping.clone() }).unwrap();
    disk.set_faults(Faults { rate: 0, space: Some(disk.used()) });
    for _ in 0..20 {
        let mut chunks = [chunk(0, 1000)];
        opened.journals[0].append(&mut chunks).await.unwrap();
        opened.journals[0].decide(chunks[0].position, decided(Vec::new()));
    }
    assert_eq!(registry.sum(&metrics::JOURNAL_FAILURES, "shard", "0"), 0, "a full disk holds nobody back while anything is only kept");
    assert!(opened.closer.close());
    disk.set_faults(Faults::default());
    let (opened, _) = open(&disk, &Options { retain: Duration::ZERO, ..keeping }).unwrap();
    assert!(files(&disk) < last && files(&disk) == 1, "what is not to be kept goes at the start");
    assert!(opened.closer.close());
}

#[test]
fn what_a_start_that_was_interrupted_took_over_hides_nothing_of_what_it_did_not() {
    let disk = Disk::new(1);
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    let start = |shards| start_logs(&storage, &Options { retain: Duration::from_secs(3600), ..options(&two_names(), shards) });
    let logs = || disk.list().unwrap().iter().filter(|(name, _)| name.ends_with(".log")).count();
    drop(start(1).unwrap());
    let mut second = start(1).unwrap();
    let mut chunk = chunk(0, 10);
    chunk.position = Position { epoch: second.logs[0].1, sequence: 0 };
    let (body, flags) = write_chunk(&chunk, false);
    let new = NewChunk { position: chunk.position, source: 0, frames: 10, body, flags };
    second.logs[0].0.commit(&mut vec![Entry::Chunks(vec![new])]).unwrap();
    drop(second);
    // The third log decides about the chunk of the second.
    let mut third = start(1).unwrap();
    let verdict = Verdict { plan: 1, expected: vec![(0, all(&chunk)), (1, all(&chunk))], deferred: 0 };
    let settled = Entry::Settled(0, 0, vec![all(&chunk)]);
    third.logs[0].0.commit(&mut vec![Entry::Verdict(chunk.position, verdict), settled]).unwrap();
    drop(third);
    // The first of two logs takes over the first and the third, the other one, which is to have the second, finds no room.
    let before = logs();
    for space in (0..).step_by(512) {
        disk.set_faults(Faults { rate: 0, space: Some(space) });
        assert!(start(2).is_err(), "there is room for both");
        if logs() > before {
            break;
        }
    }
    disk.set_faults(Faults::default());
    let mut last = start(1).unwrap();
    assert!(last.work.iter().all(Vec::is_empty), "what was decided is undecided again");
    assert_eq!(last.logs[0].0.take_deferred(0, usize::MAX).0.len(), 0, "what was settled comes again");
    let left: Vec<Members> = last.logs[0].0.take_deferred(1, usize::MAX).0.into_iter().map(|(_, _, members)| members).collect();
    assert_eq!(left, [all(&chunk)]);
}

#[tokio::test]
async fn any_number_of_shards_takes_over_and_a_destination_that_is_gone_is_not_forgotten_silently() {
    let disk = Disk::new(1);
    let (opened, _) = open(&disk, &options(&two_names(), 3)).unwrap();
    let mut sealed = Vec::new();
    for journal in &opened.journals {
        let mut chunks = [chunk(0, 70)];
        journal.append(&mut chunks).await.unwrap();
        journal.decide(chunks[0].position, decided(vec![(0, all(&chunks[0])), (1, all(&chunks[0]))]));
        sealed.push(all(&chunks[0]));
    }
    // The first shard was given the chunks of all.
    let manifest = Manifest { batch: 77, plan: 1, partition: "p", oldest_ms: 9, members: &sealed };
    opened.journals[0].seal(0, manifest).await.unwrap();
    opened.journals[0].settle(1, 78, &sealed[..2]);
    assert!(opened.closer.close());

    let only_lake = options(&["lake".to_owned()], 2);
    let error = open(&disk, &only_lake).err().unwrap();
    assert!(error.contains("events wait in the journal for `siem`"), "{error}");
    let (opened, registry) = open(&disk, &Options { forget: vec!["siem".into()], ..only_lake }).unwrap();
    assert_eq!(registry.sum(&metrics::EVENTS_DROPPED, "component_id", "siem"), 70);
    let work: Vec<&Work> = opened.work.iter().flatten().collect();
    let [Work::Batch { destination: 0, id: 77, partition, oldest_ms: 9, members }] = &work[..] else { panic!("{work:?}") };
    assert_eq!((&**partition, members.len()), ("p", 3));
    for (place, members) in members {
        let chunk = opened.reader.read(*place, sender).unwrap().unwrap();
        assert_eq!((chunk.frames().len(), members.count), (70, 70));
        assert_eq!(chunk.position, place.position);
    }
    let members: Vec<Members> = members.iter().map(|(_, members)| members.clone()).collect();
    opened.journals[1].settle(0, 77, &members);
    assert!(opened.closer.close());
    let loaded = load(&disk, true).unwrap();
    assert!(loaded.chunks.is_empty() && loaded.batches.is_empty());
}

#[tokio::test]
async fn what_is_deferred_comes_back_in_order_without_what_batches_have_and_again_after_a_restart() {
    let disk = Disk::new(1);
    let (opened, registry) = open(&disk, &options(&two_names(), 1)).unwrap();
    let journal = &opened.journals[0];
    let mut chunks = [chunk(0, 70), chunk(0, 8), chunk(0, 9)];
    for chunk in &mut chunks {
        journal.append(std::slice::from_mut(chunk)).await.unwrap();
        let verdict = decided(vec![(0, all(chunk)), (1, all(chunk))]);
        journal.decide(chunk.position, cursor::Verdict { deferred: 0b10, ..verdict });
    }
    let mut part = Members::none(chunks[0].position, 70);
    part.insert(69);
    journal.seal(1, Manifest { batch: 5, plan: 1, partition: "", oldest_ms: 5, members: &[part.clone()] }).await.unwrap();
    journal.settle(1, 0, &[all(&chunks[1])]);
    journal.flush().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), journal.deferred_more()).await.unwrap();
    assert_eq!((journal.deferred(0), journal.deferred(1)), (0, 3));
    assert!(journal.take_deferred(0, 9).await.is_empty());
    let first = journal.take_deferred(1, 2).await;
    let [Piece { place, members, is_earlier: false }] = &first[..] else { panic!("{first:?}") };
    assert_eq!((place.position, members.count, members.has(69)), (chunks[0].position, 69, false));
    assert_eq!(opened.reader.read(*place, sender).unwrap().unwrap().frames().len(), 70, "this run's chunks can be read");
    assert_eq!(journal.deferred(1), 1);
    assert!(opened.closer.close());

    let (opened, _) = open(&disk, &options(&two_names(), 1)).unwrap();
    let journal = &opened.journals[0];
    assert_eq!((journal.deferred(0), journal.deferred(1)), (3, 2), "taken out is not delivered");
    let again = journal.take_deferred(1, 9).await;
    let found: Vec<_> = again.iter().map(|piece| (piece.place.position, piece.members.count, piece.is_earlier)).collect();
    assert_eq!(found, [(chunks[0].position, 69, true), (chunks[2].position, 9, true)]);
    assert!(opened.closer.close());
    drop(registry);
}

#[tokio::test]
async fn a_log_with_too_many_open_chunks_holds_senders_back_until_some_are_settled() {
    let disk = Disk::new(1);
    let (opened, _) = open(&disk, &Options { open_chunks_max: 2, ..options(&two_names(), 1) }).unwrap();
    let journal = &opened.journals[0];
    let mut chunks = [chunk(0, 3), chunk(0, 3)];
    for chunk in &mut chunks {
        assert!(journal.has_room(1));
        journal.append(std::slice::from_mut(chunk)).await.unwrap();
        journal.decide(chunk.position, decided(vec![(0, all(chunk))]));
        // A flush is answered after what came before it has been looked at.
        journal.flush().await.unwrap();
        journal.flush().await.unwrap();
    }
    assert!(!journal.has_room(1));
    let freed = journal.freed();
    journal.settle(0, 0, &[all(&chunks[0])]);
    tokio::time::timeout(Duration::from_secs(5), freed).await.unwrap();
    assert!(journal.has_room(1));
    assert!(opened.closer.close());
}
