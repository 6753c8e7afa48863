//! Reading logs: `files -> what is not settled, and what is damaged`.
//!
//! Of each log the segments from the last good snapshot on are read, which is normally one. Everything found is a
//! set that only grows (expected, settled, claimed done), so logs may be read in any order and a record may be
//! read twice. Nothing is written.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use super::content::{IN_TRANSACTION, Reader, peek_chunk, read_chunk};
use super::record::{Found, HEADER_BYTES, Header, Key, Kind, scan};
use super::segment::{RECORDS_START, SegmentHeader, parse_name};
use super::state::{self, Batch, Location, Names, OpenChunk, Share, State};
use super::storage::Storage;
use crate::event::{Chunk, Members, Position, Sender};

/// A place that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Log and segment.
    pub epoch: u64,
    /// Number of the segment.
    pub segment: u32,
    /// Where it begins in the segment's file.
    pub offset: u64,
    /// How many bytes are damaged, with the rest of their record if that is known.
    pub bytes: u64,
    /// The chunk that is lost, if its header can be read.
    pub position: Option<Position>,
    /// What it was.
    pub what: &'static str,
}

/// What the files of a journal say.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Names of the numbers below.
    pub(super) names: Names,
    /// Chunks that are not settled.
    pub(super) chunks: BTreeMap<Position, OpenChunk>,
    /// Batches that are not settled.
    pub(super) batches: BTreeMap<(u16, u128), Batch>,
    /// Segments and their sizes.
    pub(super) files: BTreeMap<(u64, u32), u64>,
    /// What their records are bound to, by epoch.
    pub(super) secrets: HashMap<u64, u64>,
    /// What was found damaged; damage in segments that were not read is not known.
    pub(super) damage: Vec<Damage>,
    /// Bytes that were being written when the process ended; nobody was told that they are durable.
    pub(super) torn_bytes: u64,
    /// Epochs that anything speaks of, whether there are files of them or not.
    pub(super) epochs: BTreeSet<u64>,
    /// Where segments end: where the zeros begin in those that were read; where a later segment says so, whatever stands
    /// behind that.
    pub(super) ends: BTreeMap<(u64, u32), u64>,
}

/// Reads all logs. `every_segment`: those that recovery would not read as well, to find damage.
///
/// # Errors
/// Files that cannot be read at all, and formats of later versions.
pub(super) fn load(storage: &dyn Storage, every_segment: bool) -> io::Result<Loaded> {
    let mut merge = Merge { scanned: every_segment.then(Scanned::default), ..Merge::default() };
    let files = storage.list()?;
    merge.loaded.files = files.iter().filter_map(|(name, bytes)| Some((parse_name(name)?, *bytes))).collect();
    let epochs: BTreeSet<u64> = merge.loaded.files.keys().map(|(epoch, _)| *epoch).collect();
    // Segments that are only kept for a while must not make every start slower.
    for epoch in epochs.iter().copied().rev() {
        if !every_segment && epochs.range(..=epoch).rev().all(|epoch| merge.is_taken_over(*epoch)) {
            // Later logs have taken over, with their snapshots, all that this one can speak of: itself, and earlier ones. Itself
            // would not be enough: a start that was interrupted has taken over only some of them.
            let (headers, _) = headers(storage, epoch, &merge.loaded.files)?;
            let secret = headers.values().flatten().next().map(|header| header.key.secret);
            merge.loaded.secrets.extend(secret.map(|secret| (epoch, secret)));
            continue;
        }
        let log = Log::read(storage, epoch, &merge.loaded.files, every_segment)?;
        log.merge_into(storage, &mut merge)?;
    }
    Ok(merge.finish())
}

/// The headers of a log's segments by number, and the segments and ends that they name as those before them.
type Headers = (BTreeMap<u32, Option<SegmentHeader>>, Vec<(u32, u64)>);

fn headers(storage: &dyn Storage, epoch: u64, files: &BTreeMap<(u64, u32), u64>) -> io::Result<Headers> {
    let mut headers = BTreeMap::new();
    for (_, number) in files.range((epoch, 0)..=(epoch, u32::MAX)).map(|(key, _)| *key) {
        let head = match storage.read(&super::segment::file_name(epoch, number), 0, RECORDS_START as u64) {
            // A Hydrant that runs has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            head => head?,
        };
        headers.insert(number, SegmentHeader::read(&head, epoch, number)?);
    }
    let named = headers.values().filter_map(|header: &Option<SegmentHeader>| header.as_ref()?.previous);
    let named = named.filter(|(number, _)| headers.contains_key(number)).collect();
    Ok((headers, named))
}

/// Arrival, place and number of events of a chunk.
pub(super) type Arrived = (i64, Place, u32);

/// A segment whose chunks are listed whatever became of them.
#[derive(Clone, Copy)]
pub(super) struct Past {
    /// What its records are bound to.
    pub(super) key: Key,
    /// When it was begun, ms since 1970 UTC.
    pub(super) created_ms: i64,
    end: End,
}

impl Past {
    /// The segments of one log, the oldest first; without those that were begun and never used.
    pub(super) fn of(storage: &dyn Storage, epoch: u64, files: &BTreeMap<(u64, u32), u64>) -> io::Result<Vec<Self>> {
        let (headers, _) = headers(storage, epoch, files)?;
        let Some(secret) = headers.values().flatten().next().map(|header| header.key.secret) else { return Ok(Vec::new()) };
        let mut segments: Vec<Self> = Vec::new();
        let mut newer: Option<SegmentHeader> = None;
        for (segment, header) in headers.into_iter().rev() {
            if newer.is_some_and(|newer| newer.previous.is_none_or(|(previous, _)| previous < segment)) {
                continue;
            }
            let end = newer.and_then(|newer| newer.previous).filter(|(named, _)| *named == segment);
            let end = end.map_or(End::Open, |(_, end)| End::Known(end));
            // One whose header is damaged is listed first of all: it is older than the next one, and nobody knows by how much.
            let created_ms = header.map_or(i64::MIN, |header| header.created_ms);
            segments.push(Self { key: Key { secret, epoch, segment }, created_ms, end });
            newer = header;
        }
        segments.reverse();
        Ok(segments)
    }

    /// Its chunks, and how many places cannot be read.
    pub(super) fn chunks(&self, storage: &dyn Storage) -> io::Result<(Vec<Arrived>, usize)> {
        let mut segment = Segment { key: self.key, header: None, bytes: Vec::new() };
        segment.read(storage)?;
        let found: Vec<Found<'_>> = segment.records().collect();
        let mut merge = Merge::default();
        merge.take(&segment, &found, self.end, &Numbers { destinations: Vec::new(), sources: Vec::new() }, true);
        let mut chunks = Vec::new();
        for (position, known) in merge.known {
            let is_here = |at: &Location| position.epoch == self.key.epoch && at.segment == self.key.segment;
            let Some((at, _, events)) = known.place.filter(|(at, _, _)| is_here(at)) else { continue };
            let body = segment.bytes.get(at.offset as usize + HEADER_BYTES..).unwrap_or_default();
            chunks.extend(peek_chunk(body).map(|(_, received_ms, _)| (received_ms, Place { position, at }, events)));
        }
        Ok((chunks, merge.loaded.damage.len()))
    }
}

/// Segments of one log, the newest first.
struct Log {
    segments: Vec<Segment>,
    /// How many of them recovery needs; the rest is only looked at.
    needed: usize,
    /// The ends of segments that others name as the one before them.
    named_ends: Vec<(u32, u64)>,
}

struct Segment {
    key: Key,
    /// None if both copies are damaged; then the secret is that of another segment.
    header: Option<SegmentHeader>,
    bytes: Vec<u8>,
}

impl Segment {
    fn read(&mut self, storage: &dyn Storage) -> io::Result<()> {
        self.bytes = storage.read(&super::segment::file_name(self.key.epoch, self.key.segment), 0, u64::MAX)?;
        Ok(())
    }

    fn records(&self) -> impl Iterator<Item = Found<'_>> {
        scan(self.key, &self.bytes, RECORDS_START)
    }

    fn body(&self, wanted: Kind) -> Option<&[u8]> {
        // Names and snapshot stand before the first group.
        let before_groups = self.records().take_while(|found| !matches!(found, Found::Record { header, .. } if header.kind == Kind::Mark));
        before_groups.into_iter().find_map(|found| match found {
            Found::Record { header, body, .. } if header.kind == wanted => Some(body),
            _ => None,
        })
    }
}

impl Log {
    fn read(storage: &dyn Storage, epoch: u64, files: &BTreeMap<(u64, u32), u64>, every_segment: bool) -> io::Result<Self> {
        let mut log = Self { segments: Vec::new(), needed: 0, named_ends: Vec::new() };
        let (mut headers, named_ends) = headers(storage, epoch, files)?;
        log.named_ends = named_ends;
        let numbers: Vec<u32> = headers.keys().copied().collect();
        // A log without one readable header has nothing that can be told from noise.
        let secret = headers.values().flatten().next().map(|header| header.key.secret);
        for number in numbers.into_iter().rev() {
            let newer = log.segments.last().and_then(|segment| segment.header);
            if newer.is_some_and(|newer| newer.previous.is_none_or(|(previous, _)| previous < number)) {
                // Begun and never used, because its disk failed; whether all of it got there does not matter.
                continue;
            }
            let key = Key { secret: secret.unwrap_or(0), epoch, segment: number };
            let mut segment = Segment { key, header: headers.remove(&number).flatten(), bytes: Vec::new() };
            if log.needed > 0 {
                // It is looked at when its turn comes: all of them would not fit into the memory.
                log.segments.push(segment);
                continue;
            }
            segment.read(storage)?;
            let is_enough =
                segment.body(Kind::Snapshot).is_some_and(|body| State::read(body).is_some()) && segment.body(Kind::Names).is_some();
            log.segments.push(segment);
            if is_enough && log.needed == 0 {
                log.needed = log.segments.len();
                if !every_segment {
                    break;
                }
            }
        }
        if log.needed == 0 {
            log.needed = log.segments.len();
        }
        Ok(log)
    }

    fn merge_into(mut self, storage: &dyn Storage, merge: &mut Merge) -> io::Result<()> {
        let names = self.segments.iter().find_map(|segment| Names::read(segment.body(Kind::Names)?)).unwrap_or_default();
        let numbers = Numbers {
            destinations: names.destinations.iter().map(|name| number(&mut merge.loaded.names.destinations, name)).collect(),
            sources: names.sources.iter().map(|name| number(&mut merge.loaded.names.sources, name)).collect(),
        };
        let headers: Vec<Option<SegmentHeader>> = self.segments.iter().map(|segment| segment.header).collect();
        for index in (0..self.segments.len()).rev() {
            if index >= self.needed {
                self.segments[index].read(storage)?;
            }
            let segment = &self.segments[index];
            merge.loaded.secrets.insert(segment.key.epoch, segment.key.secret);
            let next = index.checked_sub(1).and_then(|newer| headers.get(newer).copied().flatten());
            let previous = next.and_then(|next| next.previous);
            // The last one, and one whose successor is gone or damaged: up to where it was surely durable, and on.
            let end = previous.filter(|(number, _)| *number == segment.key.segment).map_or(End::Open, |(_, end)| End::Known(end));
            let found: Vec<Found<'_>> = segment.records().collect();
            let written = found.iter().filter(|found| !matches!(found, Found::Zeros { .. }));
            let written = written.map(|found| extent(found, segment.bytes.len() as u64).1).max();
            merge.loaded.ends.insert((segment.key.epoch, segment.key.segment), written.unwrap_or(RECORDS_START as u64));
            merge.take(segment, &found, end, &numbers, index < self.needed);
            self.segments[index].bytes = Vec::new();
        }
        // What was never durable must not come back when the segment is gone that says so.
        let epoch = self.segments.first().map(|segment| segment.key.epoch);
        for (number, end) in epoch.into_iter().flat_map(|epoch| self.named_ends.iter().map(move |(number, end)| ((epoch, *number), *end))) {
            merge.loaded.ends.insert(number, end);
        }
        Ok(())
    }
}

/// How far a segment is good.
#[derive(Clone, Copy)]
enum End {
    Open,
    Known(u64),
}

/// Numbers of one log to those of [`Loaded::names`].
struct Numbers {
    destinations: Vec<u16>,
    sources: Vec<u16>,
}

impl Numbers {
    /// Whether the log's names could be read. There is a destination in all of them.
    fn are_known(&self) -> bool {
        !self.destinations.is_empty()
    }
}

fn number(names: &mut Vec<String>, name: &str) -> u16 {
    let index = names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// A snapshot's word that everything of an epoch before a sequence is settled, but these.
struct Claim {
    epoch: u64,
    horizon: u64,
    open: BTreeSet<u64>,
    /// Whether what it says of them can be understood: with its names gone, nobody knows for whom they are open.
    is_named: bool,
}

#[derive(Default)]
struct Merge {
    loaded: Loaded,
    claims: Vec<Claim>,
    lost: BTreeSet<Position>,
    /// What is good in the segments that were read, if every one is.
    scanned: Option<Scanned>,
    /// Chunks that records say something of; the place is missing for those of other logs and segments.
    known: BTreeMap<Position, Known>,
}

#[derive(Default)]
struct Scanned {
    segments: BTreeSet<(u64, u32)>,
    /// Segment and offset of the records of chunks.
    chunks: HashSet<(Position, u32, u64)>,
}

#[derive(Default)]
struct Known {
    place: Option<(Location, u16, u32)>,
    told: Option<OpenChunk>,
}

impl Merge {
    fn take(&mut self, segment: &Segment, records: &[Found<'_>], end: End, numbers: &Numbers, is_needed: bool) {
        let durable = match end {
            End::Known(end) => end,
            End::Open => records.iter().filter_map(mark).max().unwrap_or(0),
        };
        let mut pending: Vec<(Position, Location, u16, u32)> = Vec::new();
        if let Some(scanned) = &mut self.scanned {
            scanned.segments.insert((segment.key.epoch, segment.key.segment));
        }
        for found in records.iter().copied() {
            let (from, to) = extent(&found, segment.bytes.len() as u64);
            if matches!(end, End::Known(end) if from >= end) {
                break;
            }
            let (offset, header, body) = match found {
                Found::Record { offset, header, body } => (offset, header, body),
                Found::Zeros { .. } if from >= durable => continue,
                _ if from >= durable => {
                    self.loaded.torn_bytes += to - from;
                    continue;
                }
                Found::BadBody { header, .. } => {
                    let is_chunk = header.kind == Kind::Chunk;
                    self.note_damage(segment, (from, to), is_chunk.then_some(header.position), header.kind.name());
                    continue;
                }
                Found::Gap { .. } | Found::Zeros { .. } => {
                    // What was above the last mark stays above it, whatever stands before it in the same gap.
                    self.note_damage(segment, (from, to.min(durable)), None, "records");
                    continue;
                }
            };
            let at = Location { segment: segment.key.segment, offset };
            if let Some(scanned) = self.scanned.as_mut().filter(|_| header.kind == Kind::Chunk) {
                scanned.chunks.insert((header.position, at.segment, at.offset));
            }
            // What a repair has given up, it has wherever the chunk was.
            if !is_needed && header.kind != Kind::Lost {
                continue;
            }
            match header.kind {
                Kind::Chunk => {
                    let Some((source, _, frames)) = peek_chunk(body) else { continue };
                    let source = number(&mut self.loaded.names.sources, source);
                    let chunk = (header.position, at, source, frames as u32);
                    if header.flags & IN_TRANSACTION == 0 { self.place(chunk) } else { pending.push(chunk) }
                }
                Kind::Commit => {
                    // All of its chunks are there, but for one that rotted, or that a power cut kept from the disk and not
                    // the mark behind it. The two look alike, so what is there counts: it may have been acknowledged.
                    let sequences = state::read_commit(body).unwrap_or_default();
                    let epoch = header.position.epoch;
                    let is_in = |chunk: &(Position, Location, u16, u32)| chunk.0.epoch == epoch && sequences.contains(&chunk.0.sequence);
                    pending.extract_if(.., |chunk| is_in(chunk)).collect::<Vec<_>>().into_iter().for_each(|chunk| self.place(chunk));
                }
                _ => self.take_record(header, body, numbers),
            }
        }
        // A mark that was surely written and cannot be read is damage, not a transaction that was cut off.
        for chunk in pending.into_iter().filter(|chunk| chunk.1.offset < durable) {
            self.place(chunk);
        }
    }

    /// Whether a good snapshot, with its names, speaks of all of an epoch.
    fn is_taken_over(&self, epoch: u64) -> bool {
        self.claims.iter().any(|claim| claim.epoch == epoch && claim.horizon == u64::MAX && claim.is_named)
    }

    fn note_damage(&mut self, segment: &Segment, (from, to): (u64, u64), position: Option<Position>, what: &'static str) {
        let Key { epoch, segment, .. } = segment.key;
        self.loaded.damage.push(Damage { epoch, segment, offset: from, bytes: to - from, position, what });
    }

    fn place(&mut self, (position, at, source, frames): (Position, Location, u16, u32)) {
        self.known.entry(position).or_default().place = Some((at, source, frames));
    }

    /// What records say of a chunk.
    fn chunk(&mut self, position: Position) -> &mut OpenChunk {
        let empty = || OpenChunk { at: Location { segment: 0, offset: 0 }, source: 0, frames: 0, verdict: None, shares: Vec::new() };
        self.known.entry(position).or_default().told.get_or_insert_with(empty)
    }

    fn take_record(&mut self, header: Header, body: &[u8], numbers: &Numbers) {
        let destination = |number: u16| numbers.destinations.get(usize::from(number)).copied();
        match header.kind {
            Kind::Snapshot => {
                let Some(state) = State::read(body) else { return };
                self.take_snapshot(state, numbers);
            }
            Kind::Verdict => {
                let Some((plan, expected)) = state::read_verdict(body) else { return };
                // Without the names of all of them it says nothing: the chunk would look settled that waits for one.
                let named = expected.into_iter().map(|(number, members)| Some((destination(number)?, members)));
                let Some(expected) = named.collect::<Option<Vec<_>>>() else { return };
                let chunk = self.chunk(header.position);
                chunk.verdict = Some(plan);
                for (destination, members) in expected {
                    chunk.share(destination, header.position).expected.add(&members);
                }
            }
            Kind::Manifest => {
                let Some(mut batch) = state::read_batch(&mut Reader(body)) else { return };
                let Some(destination) = destination(batch.destination) else { return };
                batch.destination = destination;
                self.take_batch(batch);
            }
            Kind::Settled => {
                let Some((number, _, settled)) = state::read_settled(body) else { return };
                let Some(destination) = destination(number) else { return };
                for members in settled {
                    self.chunk(members.chunk).share(destination, members.chunk).settled.add(&members);
                }
            }
            Kind::Lost => drop(self.lost.insert(header.position)),
            Kind::Mark | Kind::Names | Kind::Chunk | Kind::Commit | Kind::Void => {}
        }
    }

    fn take_snapshot(&mut self, state: State, numbers: &Numbers) {
        for (epoch, horizon) in &state.epochs {
            let open = state.chunks.range(Position { epoch: *epoch, sequence: 0 }..=Position { epoch: *epoch, sequence: u64::MAX });
            let open = open.map(|(position, _)| position.sequence).collect();
            self.claims.push(Claim { epoch: *epoch, horizon: *horizon, open, is_named: numbers.are_known() });
        }
        for (position, open) in state.chunks {
            let source = numbers.sources.get(usize::from(open.source)).copied().unwrap_or(u16::MAX);
            self.place((position, open.at, source, open.frames));
            let is_named = |share: &Share| usize::from(share.destination) < numbers.destinations.len();
            let verdict = open.verdict.filter(|_| open.shares.iter().all(is_named));
            let chunk = self.chunk(position);
            chunk.verdict = chunk.verdict.or(verdict);
            for share in open.shares {
                let Some(destination) = numbers.destinations.get(usize::from(share.destination)) else { continue };
                let known = chunk.share(*destination, position);
                known.expected.add(&share.expected);
                known.settled.add(&share.settled);
            }
        }
        for (_, mut batch) in state.batches {
            if let Some(destination) = numbers.destinations.get(usize::from(batch.destination)) {
                batch.destination = *destination;
                self.take_batch(batch);
            }
        }
    }

    fn take_batch(&mut self, batch: Batch) {
        let known = self.loaded.batches.entry((batch.destination, batch.id));
        let known = match known {
            Entry::Vacant(place) => {
                place.insert(batch);
                return;
            }
            Entry::Occupied(known) => known.into_mut(),
        };
        let mut more: BTreeMap<Position, Members> = batch.members.into_iter().map(|members| (members.chunk, members)).collect();
        for members in &mut known.members {
            more.remove(&members.chunk).into_iter().for_each(|others| members.add(&others));
        }
        known.members.extend(more.into_values());
    }

    fn finish(mut self) -> Loaded {
        let claims = std::mem::take(&mut self.claims);
        let is_done = |position: Position| {
            let speaks = |claim: &&Claim| claim.epoch == position.epoch && position.sequence < claim.horizon;
            claims.iter().filter(speaks).any(|claim| !claim.open.contains(&position.sequence))
        };
        for (position, known) in std::mem::take(&mut self.known) {
            let Some((at, source, frames)) = known.place else { continue };
            self.loaded.epochs.insert(position.epoch);
            let (verdict, shares) = known.told.map(|told| (told.verdict, told.shares)).unwrap_or_default();
            let chunk = OpenChunk { at, source, frames, verdict, shares };
            if !chunk.is_done() && !self.lost.contains(&position) && !is_done(position) {
                self.loaded.chunks.insert(position, chunk);
            }
        }
        let Loaded { chunks, batches, damage, files, epochs, .. } = &mut self.loaded;
        epochs.extend(files.keys().map(|(epoch, _)| *epoch));
        // What was settled, and of chunks that are gone, is in no batch any more.
        for batch in batches.values_mut() {
            let destination = batch.destination;
            batch.members.retain_mut(|members| {
                let Some(chunk) = chunks.get_mut(&members.chunk) else { return false };
                members.remove(&chunk.share(destination, members.chunk).settled);
                !members.is_empty()
            });
        }
        batches.retain(|_, batch| !batch.members.is_empty());
        let is_here = |position: &Position, chunk: &OpenChunk| files.contains_key(&(position.epoch, chunk.at.segment));
        for (position, chunk) in chunks.extract_if(.., |position, chunk| !is_here(position, chunk)) {
            let Location { segment, offset } = chunk.at;
            damage.push(Damage { epoch: position.epoch, segment, offset, bytes: 0, position: Some(position), what: "missing file" });
        }
        // A chunk that is settled is no loss.
        damage.retain(|damage| damage.position.is_none_or(|position| !is_done(position) && !self.lost.contains(&position)));
        self.scanned.into_iter().for_each(|scanned| scanned.name_missing(chunks, damage));
        self.loaded
    }
}

impl Scanned {
    /// Names the chunks that wait and whose records are not in their places any more.
    fn name_missing(&self, chunks: &BTreeMap<Position, OpenChunk>, damage: &mut Vec<Damage>) {
        let named: BTreeSet<Position> = damage.iter().filter_map(|damage| damage.position).collect();
        let is_missing = |position: &Position, at: Location| {
            let is_read = self.segments.contains(&(position.epoch, at.segment));
            is_read && !named.contains(position) && !self.chunks.contains(&(*position, at.segment, at.offset))
        };
        for (position, chunk) in chunks.iter().filter(|(position, chunk)| is_missing(position, chunk.at)) {
            let Location { segment, offset } = chunk.at;
            let is_hole = |damage: &&mut Damage| {
                let is_here = (damage.epoch, damage.segment) == (position.epoch, segment);
                is_here && damage.position.is_none() && (damage.offset..damage.offset + damage.bytes).contains(&offset)
            };
            match damage.iter_mut().find(is_hole) {
                Some(hole) => (hole.position, hole.what) = (Some(*position), Kind::Chunk.name()),
                None => {
                    let what = "missing record";
                    damage.push(Damage { epoch: position.epoch, segment, offset, bytes: 0, position: Some(*position), what });
                }
            }
        }
    }
}

impl Loaded {
    /// Gives up chunks that cannot be read.
    pub(super) fn give_up(&mut self, lost: &BTreeSet<Position>) {
        self.chunks.retain(|position, _| !lost.contains(position));
        for batch in self.batches.values_mut() {
            batch.members.retain(|members| !lost.contains(&members.chunk));
        }
        self.batches.retain(|_, batch| !batch.members.is_empty());
    }
}

fn mark(found: &Found<'_>) -> Option<u64> {
    match found {
        Found::Record { header, body, .. } if header.kind == Kind::Mark => Reader(body).number(),
        _ => None,
    }
}

fn extent(found: &Found<'_>, end: u64) -> (u64, u64) {
    match found {
        Found::Record { offset, header, .. } | Found::BadBody { offset, header } => {
            (*offset, (*offset + header.record_bytes() as u64).min(end))
        }
        Found::Gap { from, to } | Found::Zeros { from, to } => (*from, *to),
    }
}

/// Where a chunk of an earlier run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its position.
    pub position: Position,
    /// Its record.
    pub(super) at: Location,
}

/// Reads chunks of earlier logs, each from its place.
#[derive(Clone)]
pub struct ChunkReader {
    storage: Arc<dyn Storage>,
    secrets: Arc<HashMap<u64, u64>>,
}

impl ChunkReader {
    /// A reader of what was loaded.
    pub(super) fn new(storage: Arc<dyn Storage>, secrets: HashMap<u64, u64>) -> Self {
        Self { storage, secrets: Arc::new(secrets) }
    }

    /// The chunk at a place; `None` if it is damaged. `sender` finds the source by its name.
    ///
    /// # Errors
    /// A file that cannot be read now.
    pub fn read(&self, place: Place, sender: impl FnOnce(&str) -> Arc<Sender>) -> io::Result<Option<Chunk>> {
        let Place { position, at } = place;
        let Some(secret) = self.secrets.get(&position.epoch) else { return Ok(None) };
        let key = Key { secret: *secret, epoch: position.epoch, segment: at.segment };
        let name = super::segment::file_name(position.epoch, at.segment);
        let head = self.storage.read(&name, at.offset, HEADER_BYTES as u64)?;
        let header = Header::read(&key, at.offset, &head).filter(|header| header.kind == Kind::Chunk && header.position == position);
        let Some(header) = header else { return Ok(None) };
        let body = self.storage.read(&name, at.offset + HEADER_BYTES as u64, u64::from(header.body_bytes))?;
        Ok(if header.fits(&body) { read_chunk(&body, header.flags, position, sender) } else { None })
    }
}
