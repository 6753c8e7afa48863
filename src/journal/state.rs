//! What a log's records add up to: the chunks that are not settled, and the batches that are under way.
//!
//! In: durable [`Entry`]s, each with its place. Out: which segments nobody needs any more, and the snapshot at the
//! beginning of the next one. Destinations and sources are numbers of the log's [`Names`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::content::{IN_TRANSACTION, Reader, Writer};
use super::record::{Header, Key, Kind};
use crate::event::{Members, Position};

/// What a shard tells its log.
#[derive(Debug)]
pub(super) enum Entry {
    /// The chunks of one transaction.
    Chunks(Vec<NewChunk>),
    /// What destinations are to get of a chunk.
    Verdict(Position, Verdict),
    /// A batch before its first attempt.
    Manifest(Batch),
    /// What a destination has; the id is that of the batch's manifest.
    Settled(u16, u128, Vec<Members>),
    /// A chunk that cannot be read.
    Lost(Position),
    /// Nothing: somebody waits for what was told before.
    Flush,
}

/// Who is to get what of a chunk.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Hash of the plan that decided.
    pub(super) plan: u64,
    /// By number of the destination.
    pub(super) expected: Vec<(u16, Members)>,
    /// A bit for each destination that is behind and comes back for its part. Not written: after a restart it is what
    /// no batch has.
    pub(super) deferred: u64,
}

/// A chunk on its way to the log.
#[derive(Debug)]
pub(super) struct NewChunk {
    /// Its place in the order of all events.
    pub(super) position: Position,
    /// Number of its source.
    pub(super) source: u16,
    /// Number of its events.
    pub(super) frames: u32,
    /// Body of its record.
    pub(super) body: Vec<u8>,
    /// Flags of its record.
    pub(super) flags: u8,
}

/// A sealed batch, or the part of it whose chunks are in one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Number of its destination.
    pub(super) destination: u16,
    /// Its id.
    pub(super) id: u128,
    /// Hash of the plan that made it.
    pub(super) plan: u64,
    /// Its partition.
    pub(super) partition: Box<str>,
    /// Arrival of its oldest event.
    pub(super) oldest_ms: i64,
    /// What is not settled of it.
    pub(super) members: Vec<Members>,
}

/// Where a record is in the log of its chunk's epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// Number of the segment.
    pub(super) segment: u32,
    /// Offset of the record in it.
    pub(super) offset: u64,
}

/// A chunk that some destination has not all of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenChunk {
    /// Where its record is.
    pub(super) at: Location,
    /// Number of its source.
    pub(super) source: u16,
    /// Number of its events.
    pub(super) frames: u32,
    /// Hash of the plan that decided who gets what; `None` before that.
    pub(super) verdict: Option<u64>,
    /// What each destination expects and has.
    pub(super) shares: Vec<Share>,
}

/// What one destination expects and has of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Number of the destination.
    pub(super) destination: u16,
    /// What it is to get.
    pub(super) expected: Members,
    /// What it has, or will never get.
    pub(super) settled: Members,
    /// Whether what it lacks, but for what batches have, is kept for it here and nowhere else. Not written.
    pub(super) is_deferred: bool,
}

/// What is dropped so that there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// What makes the oldest segment free for which that is possible, all but this one.
    Segment((u64, u32)),
    /// Up to so many of the oldest chunks.
    Chunks(usize),
}

/// What was taken out of the deferred chunks, to be settled.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    /// By destination: what it will not get.
    pub(super) members: BTreeMap<u16, Vec<Members>>,
    /// By destination: how many chunks are not deferred any more.
    pub(super) taken: BTreeMap<u16, usize>,
}

impl OpenChunk {
    /// Nobody waits for any of it.
    pub(super) fn is_done(&self) -> bool {
        self.verdict.is_some() && self.shares.iter().all(|share| share.expected.is_within(&share.settled))
    }

    /// The share of a destination.
    pub(super) fn share(&mut self, destination: u16, chunk: Position) -> &mut Share {
        let index = self.shares.iter().position(|share| share.destination == destination).unwrap_or_else(|| {
            let none = Members::none(chunk, self.frames as usize);
            self.shares.push(Share { destination, expected: none.clone(), settled: none, is_deferred: false });
            self.shares.len() - 1
        });
        &mut self.shares[index]
    }
}

/// Names that records refer to by number; they stay the same for a whole log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// Of destinations.
    pub(super) destinations: Vec<String>,
    /// Of sources.
    pub(super) sources: Vec<String>,
}

impl Names {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Writer::default();
        for names in [&self.destinations, &self.sources] {
            out.number(names.len() as u64);
            names.iter().for_each(|name| out.bytes(name.as_bytes()));
        }
        out.0
    }

    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut read = Reader(body);
        let mut names = || (0..read.count()?).map(|_| Some(read.text()?.to_owned())).collect::<Option<Vec<String>>>();
        Some(Self { destinations: names()?, sources: names()? })
    }
}

/// A file of the journal, as far as somebody needs it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Chunks in it that are not settled.
    pub(super) open: usize,
    /// Bytes that it takes on the disk.
    pub(super) bytes: u64,
    /// When it was written the last time, or begun if it is the current one, ms since 1970 UTC.
    pub(super) closed_ms: i64,
}

/// The state of one log.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The epochs that this log answers for, and the first position of each that it does not speak of yet.
    pub(super) epochs: BTreeMap<u64, u64>,
    /// Chunks that are not settled.
    pub(super) chunks: BTreeMap<Position, OpenChunk>,
    /// Batches that are not settled, by destination and id.
    pub(super) batches: BTreeMap<(u16, u128), Batch>,
    /// Segments by epoch and number.
    pub(super) segments: BTreeMap<(u64, u32), Usage>,
    /// By destination: chunks that are kept for it here and nowhere else.
    pub(super) deferred: BTreeMap<u16, VecDeque<Position>>,
    /// A bit for each destination that comes back for nothing before it settles it.
    pub(super) kept: u64,
}

impl State {
    /// Takes in an entry that is durable; `places` are those of its chunks.
    pub(super) fn apply(&mut self, entry: Entry, places: &mut impl Iterator<Item = Location>) {
        match entry {
            Entry::Chunks(chunks) => {
                for chunk in chunks {
                    let Some(at) = places.next() else { return };
                    let position = chunk.position;
                    let (source, frames) = (chunk.source, chunk.frames);
                    self.open(position, OpenChunk { at, source, frames, verdict: None, shares: Vec::new() });
                    let end = position.sequence + u64::from(frames.max(1));
                    let horizon = self.epochs.entry(position.epoch).or_default();
                    *horizon = (*horizon).max(end);
                }
            }
            Entry::Verdict(position, verdict) => {
                if let Some(chunk) = self.chunks.get_mut(&position) {
                    chunk.verdict = Some(verdict.plan);
                    for (destination, members) in verdict.expected {
                        let share = chunk.share(destination, position);
                        share.expected = members;
                        share.is_deferred |= has_bit(verdict.deferred | self.kept, destination);
                        if has_bit(verdict.deferred, destination) {
                            self.deferred.entry(destination).or_default().push_back(position);
                        }
                    }
                    self.close_if_done(position);
                }
            }
            Entry::Manifest(batch) => {
                self.batches.insert((batch.destination, batch.id), batch);
            }
            Entry::Settled(destination, batch, members) => self.settle(destination, batch, &members),
            Entry::Lost(position) => self.close(position),
            Entry::Flush => {}
        }
    }

    /// Adds a chunk.
    pub(super) fn open(&mut self, position: Position, chunk: OpenChunk) {
        self.segments.entry((position.epoch, chunk.at.segment)).or_default().open += 1;
        if let Some(before) = self.chunks.insert(position, chunk) {
            // The same one, written again after an error.
            self.release(position.epoch, before.at.segment);
        }
    }

    fn release(&mut self, epoch: u64, segment: u32) {
        if let Some(usage) = self.segments.get_mut(&(epoch, segment)) {
            usage.open = usage.open.saturating_sub(1);
        }
    }

    fn close(&mut self, position: Position) {
        if let Some(chunk) = self.chunks.remove(&position) {
            self.release(position.epoch, chunk.at.segment);
            for batch in self.batches.values_mut() {
                batch.members.retain(|members| members.chunk != position);
            }
            self.batches.retain(|_, batch| !batch.members.is_empty());
        }
    }

    fn close_if_done(&mut self, position: Position) {
        if self.chunks.get(&position).is_some_and(OpenChunk::is_done) {
            // What is done is in no batch any more.
            if let Some(chunk) = self.chunks.remove(&position) {
                self.release(position.epoch, chunk.at.segment);
            }
        }
    }

    fn settle(&mut self, destination: u16, id: u128, settled: &[Members]) {
        for members in settled {
            if let Some(chunk) = self.chunks.get_mut(&members.chunk) {
                chunk.share(destination, members.chunk).settled.add(members);
                self.close_if_done(members.chunk);
            }
        }
        let Some(batch) = self.batches.get_mut(&(destination, id)) else { return };
        // Small requests make batches of thousands of chunks: each is looked up, not searched for.
        let by_chunk: BTreeMap<Position, &Members> = settled.iter().map(|members| (members.chunk, members)).collect();
        batch.members.retain_mut(|left| {
            by_chunk.get(&left.chunk).into_iter().for_each(|members| left.remove(members));
            !left.is_empty()
        });
        if batch.members.is_empty() {
            self.batches.remove(&(destination, id));
        }
    }

    /// Takes up to `count` deferred chunks of a destination out: what it lacks of each and no batch has. Also how many were
    /// taken out, since of some it may lack nothing any more.
    pub(super) fn take_deferred(&mut self, destination: u16, count: usize) -> (Vec<(Position, Location, Members)>, usize) {
        let Some(queue) = self.deferred.get_mut(&destination) else { return (Vec::new(), 0) };
        let taken: Vec<Position> = queue.drain(..count.min(queue.len())).collect();
        for position in &taken {
            let share = self.chunks.get_mut(position).and_then(|chunk| chunk.shares.iter_mut().find(|s| s.destination == destination));
            share.into_iter().for_each(|share| share.is_deferred = false);
        }
        let mut sealed: BTreeMap<Position, Vec<&Members>> = BTreeMap::new();
        for batch in self.batches.range((destination, 0)..=(destination, u128::MAX)).map(|(_, batch)| batch) {
            batch.members.iter().for_each(|members| sealed.entry(members.chunk).or_default().push(members));
        }
        let mut pieces = Vec::new();
        for position in &taken {
            let Some(chunk) = self.chunks.get(position) else { continue };
            let Some(share) = chunk.shares.iter().find(|share| share.destination == destination) else { continue };
            let mut left = share.expected.clone();
            left.remove(&share.settled);
            sealed.get(position).into_iter().flatten().for_each(|members| left.remove(members));
            if !left.is_empty() {
                pieces.push((*position, chunk.at, left));
            }
        }
        (pieces, taken.len())
    }

    /// Takes deferred chunks out for good, the oldest first: those of which nobody lacks anything but `destinations` (a bit
    /// each), and that are in no batch. What others lack stays, so dropping a part of a chunk would gain nothing.
    pub(super) fn drop_oldest(&mut self, destinations: u64, wanted: Wanted) -> Dropped {
        let is_asked = |destination: u16| has_bit(destinations, destination);
        let batches = self.batches.values().filter(|batch| is_asked(batch.destination));
        let sealed: BTreeSet<(u16, Position)> =
            batches.flat_map(|batch| batch.members.iter().map(|members| (batch.destination, members.chunk))).collect();
        let can_go = |position: Position, share: &Share| {
            let is_kept = is_asked(share.destination) && share.is_deferred && !sealed.contains(&(share.destination, position));
            is_kept || share.expected.is_within(&share.settled)
        };
        let is_free = |(position, chunk): &(&Position, &OpenChunk)| {
            chunk.verdict.is_some() && chunk.shares.iter().all(|share| can_go(**position, share))
        };
        let chosen: Vec<Position> = match wanted {
            Wanted::Chunks(count) => self.chunks.iter().filter(is_free).map(|(position, _)| *position).take(count).collect(),
            Wanted::Segment(current) => {
                let mut segments: BTreeMap<(u64, u32), Option<Vec<Position>>> = BTreeMap::new();
                for (position, chunk) in &self.chunks {
                    let all = segments.entry((position.epoch, chunk.at.segment)).or_insert_with(|| Some(Vec::new()));
                    if !is_free(&(position, chunk)) {
                        *all = None;
                    } else if let Some(all) = all {
                        all.push(*position);
                    }
                }
                segments.remove(&current);
                segments.into_values().flatten().next().unwrap_or_default()
            }
        };
        self.take_out(&chosen)
    }

    fn take_out(&mut self, chosen: &[Position]) -> Dropped {
        let mut dropped = Dropped::default();
        for position in chosen {
            for share in self.chunks.get_mut(position).into_iter().flat_map(|chunk| &mut chunk.shares) {
                let mut left = share.expected.clone();
                left.remove(&share.settled);
                share.is_deferred = false;
                if !left.is_empty() {
                    dropped.members.entry(share.destination).or_default().push(left);
                }
            }
        }
        for destination in dropped.members.keys() {
            let Some(queue) = self.deferred.get_mut(destination) else { continue };
            let before = queue.len();
            let is_left = |position: &Position| {
                let shares = self.chunks.get(position).map_or(&[][..], |chunk| &chunk.shares);
                shares.iter().any(|share| share.destination == *destination && share.is_deferred)
            };
            queue.retain(is_left);
            dropped.taken.insert(*destination, before - queue.len());
        }
        dropped
    }

    /// Segments that nobody waits for any more, all but the one that is being written, the oldest first.
    pub(super) fn free(&self, current: (u64, u32)) -> Vec<(u64, u32)> {
        self.segments.iter().filter(|(key, usage)| **key != current && usage.open == 0).map(|(key, _)| *key).collect()
    }

    /// Forgets segments that are gone. Their epochs stay: a snapshot of another log may still speak of them, and
    /// it would say that something is open there.
    pub(super) fn forget(&mut self, gone: &[(u64, u32)]) {
        self.segments.retain(|key, _| !gone.contains(key));
    }

    /// The body of a snapshot.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.number(self.epochs.len() as u64);
        for (epoch, horizon) in &self.epochs {
            out.number(*epoch);
            out.number(*horizon);
        }
        out.number(self.chunks.len() as u64);
        for (position, chunk) in &self.chunks {
            out.position(*position);
            out.number(u64::from(chunk.at.segment));
            out.number(chunk.at.offset);
            out.number(u64::from(chunk.source));
            out.number(u64::from(chunk.frames));
            out.number(u64::from(chunk.verdict.is_some()));
            out.number(chunk.verdict.unwrap_or(0));
            out.number(chunk.shares.len() as u64);
            for share in &chunk.shares {
                out.number(u64::from(share.destination));
                out.members(&share.expected);
                out.members(&share.settled);
            }
        }
        out.number(self.batches.len() as u64);
        self.batches.values().for_each(|batch| write_batch(batch, &mut out));
        out.0
    }

    /// Reads a snapshot; segments are not in it.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let mut read = Reader(body);
        let mut state = Self::default();
        for _ in 0..read.count()? {
            state.epochs.insert(read.number()?, read.number()?);
        }
        for _ in 0..read.count()? {
            let position = read.position()?;
            let at = Location { segment: u32::try_from(read.number()?).ok()?, offset: read.number()? };
            let source = u16::try_from(read.number()?).ok()?;
            let frames = u32::try_from(read.number()?).ok()?;
            let (is_decided, plan) = (read.number()? != 0, read.number()?);
            let mut shares = Vec::new();
            for _ in 0..read.count()? {
                let destination = u16::try_from(read.number()?).ok()?;
                shares.push(Share { destination, expected: read.members()?, settled: read.members()?, is_deferred: false });
            }
            state.chunks.insert(position, OpenChunk { at, source, frames, verdict: is_decided.then_some(plan), shares });
        }
        for _ in 0..read.count()? {
            let batch = read_batch(&mut read)?;
            state.batches.insert((batch.destination, batch.id), batch);
        }
        Some(state)
    }
}

/// Whether a set of destinations has one of them.
pub(super) fn has_bit(bits: u64, destination: u16) -> bool {
    1u64.checked_shl(u32::from(destination)).is_some_and(|bit| bits & bit != 0)
}

fn write_batch(batch: &Batch, out: &mut Writer) {
    out.number(u64::from(batch.destination));
    out.id(batch.id);
    out.number(batch.plan);
    out.bytes(batch.partition.as_bytes());
    out.time(batch.oldest_ms);
    write_all(&batch.members, out);
}

fn write_all(members: &[Members], out: &mut Writer) {
    out.number(members.len() as u64);
    members.iter().for_each(|members| out.members(members));
}

/// A batch of a manifest's record or a snapshot.
pub(super) fn read_batch(read: &mut Reader<'_>) -> Option<Batch> {
    Some(Batch {
        destination: u16::try_from(read.number()?).ok()?,
        id: read.id()?,
        plan: read.number()?,
        partition: read.text()?.into(),
        oldest_ms: read.time()?,
        members: read_all(read)?,
    })
}

/// Sets with their number before them.
pub(super) fn read_all(read: &mut Reader<'_>) -> Option<Vec<Members>> {
    (0..read.count()?).map(|_| read.members()).collect()
}

/// What a verdict's record says: the plan's hash, and what each destination is to get.
pub(super) fn read_verdict(body: &[u8]) -> Option<(u64, Vec<(u16, Members)>)> {
    let mut read = Reader(body);
    let plan = read.number()?;
    let expected = (0..read.count()?).map(|_| Some((u16::try_from(read.number()?).ok()?, read.members()?))).collect::<Option<_>>()?;
    Some((plan, expected))
}

/// What a settlement's record says: destination, manifest, sets.
pub(super) fn read_settled(body: &[u8]) -> Option<(u16, u128, Vec<Members>)> {
    let mut read = Reader(body);
    Some((u16::try_from(read.number()?).ok()?, read.id()?, read_all(&mut read)?))
}

/// The sequences of a commit mark.
pub(super) fn read_commit(body: &[u8]) -> Option<Vec<u64>> {
    let mut read = Reader(body);
    (0..read.count()?).map(|_| read.number()).collect()
}

impl Entry {
    /// About how many bytes its records take.
    pub(super) fn bytes(&self) -> usize {
        let sets = |members: &[Members]| members.iter().map(|m| 64 + m.bits.len() * 8 + m.alerts.len() * 13).sum::<usize>();
        match self {
            Self::Chunks(chunks) => chunks.iter().map(|chunk| chunk.body.len() + 64).sum(),
            Self::Verdict(_, verdict) => 64 + verdict.expected.iter().map(|(_, m)| sets(std::slice::from_ref(m))).sum::<usize>(),
            Self::Manifest(batch) => 128 + batch.partition.len() + sets(&batch.members),
            Self::Settled(_, _, members) => 64 + sets(members),
            Self::Lost(_) => 32,
            Self::Flush => 0,
        }
    }

    /// Appends its records to a group that begins at `base`; notes where chunks are.
    pub(super) fn write(&self, key: &Key, base: u64, out: &mut Vec<u8>, places: &mut Vec<Location>) {
        let mut put = |kind, flags, position, body: &[u8]| {
            let offset = base + out.len() as u64;
            if kind == Kind::Chunk {
                places.push(Location { segment: key.segment, offset });
            }
            Header::new(kind, flags, position, body).write(key, offset, body, out);
        };
        let mut body = Writer::default();
        match self {
            Self::Chunks(chunks) => {
                let transaction = if chunks.len() > 1 { IN_TRANSACTION } else { 0 };
                chunks.iter().for_each(|chunk| put(Kind::Chunk, chunk.flags | transaction, chunk.position, &chunk.body));
                if let Some(first) = chunks.first().filter(|_| chunks.len() > 1) {
                    body.number(chunks.len() as u64);
                    chunks.iter().for_each(|chunk| body.number(chunk.position.sequence));
                    put(Kind::Commit, 0, first.position, &body.0);
                }
            }
            Self::Verdict(position, verdict) => {
                body.number(verdict.plan);
                body.number(verdict.expected.len() as u64);
                for (destination, members) in &verdict.expected {
                    body.number(u64::from(*destination));
                    body.members(members);
                }
                put(Kind::Verdict, 0, *position, &body.0);
            }
            Self::Manifest(batch) => {
                write_batch(batch, &mut body);
                put(Kind::Manifest, 0, Position::default(), &body.0);
            }
            Self::Settled(destination, batch, members) => {
                body.number(u64::from(*destination));
                body.id(*batch);
                write_all(members, &mut body);
                put(Kind::Settled, 0, Position::default(), &body.0);
            }
            Self::Lost(position) => put(Kind::Lost, 0, *position, &[]),
            Self::Flush => {}
        }
    }
}
