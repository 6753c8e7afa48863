//! Items to batches: `encoded items -> sealed batch`, by bytes, count and age.
//!
//! Owned by a shard, one per destination. Items are compressed as they come, so a batch holds compressed
//! bytes and eight bytes an item. Full: the batch is sealed and a new one begins; the budget is charged for
//! what is held. An item that is longer than the destination can ever take is handed back as too long.
//!
//! Never: I/O, waiting, dropping.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::budget::{Budget, Reservation};
use crate::encode::compress::{Codec, Compressor, CompressorPool};
use crate::error::Error;
use crate::event::{Acknowledgement, Chunk, Events, Members};

/// How batches are cut.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Sealed before it would exceed this many bytes, before compression.
    pub bytes_max: usize,
    /// Sealed at this many items.
    pub items_max: usize,
    /// Longer items go to the dead letters instead of failing a whole batch.
    pub item_bytes_max: usize,
    /// Sealed this long after its first item.
    pub interval: Duration,
    /// How it is compressed.
    pub codec: Codec,
    /// Bytes before the first item.
    pub head: &'static [u8],
    /// Bytes between items.
    pub separator: &'static [u8],
    /// Bytes behind the last item.
    pub tail: &'static [u8],
}

/// Encoded items, one after the other, the sink's separator before each.
#[derive(Debug, Default)]
pub struct Items {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// For each: where its bytes end.
    pub ends: Vec<u32>,
    separator: &'static [u8],
}

impl Items {
    /// Forgets them, keeps the memory.
    pub fn clear(&mut self, separator: &'static [u8]) {
        self.bytes.clear();
        self.ends.clear();
        self.separator = separator;
    }

    /// Adds the item that `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(self.separator);
        write(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Where item `index` begins, its separator included.
    pub fn start(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize)
    }
}

/// One item of a sealed batch.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Where its bytes end in the uncompressed body, head and separators included.
    pub end: u32,
    /// The chunk, as an index into the batch's members.
    pub member: u32,
    /// The frame in the chunk; alerts have that of their event.
    pub frame: u32,
    /// Whether it is an alert: derived, so not part of the members' sets.
    pub is_alert: bool,
}

/// A batch that will not change any more.
#[derive(Debug)]
pub struct Sealed {
    /// The same for every attempt, also after a restart; names of objects are derived from it.
    pub id: u128,
    /// The compressed body.
    pub body: Bytes,
    /// How it is compressed.
    pub codec: Codec,
    /// Length before compression.
    pub plain_bytes: usize,
    /// The items.
    pub items: Vec<Item>,
    /// The events behind them.
    pub members: Vec<Members>,
    /// Arrival of the oldest event, ms since 1970 UTC.
    pub oldest_ms: i64,
    /// Told when the batch is done with.
    pub acknowledgements: Vec<Acknowledgement>,
    /// Peer of the first event, for dead letters.
    pub peer: Option<IpAddr>,
}

/// A sealed batch with the memory that it holds.
#[derive(Debug)]
pub struct Held {
    /// The batch.
    pub batch: Sealed,
    /// Its share of the budget.
    pub reservation: Reservation,
}

/// Collects the items of one destination on one shard.
pub struct Batcher {
    batching: Batching,
    budget: Arc<Budget>,
    pool: CompressorPool,
    open: Option<Open>,
    next_id: u128,
}

struct Open {
    compressor: Compressor,
    body: Vec<u8>,
    plain_bytes: usize,
    items: Vec<Item>,
    members: Vec<Members>,
    acknowledgements: Vec<Acknowledgement>,
    oldest_ms: i64,
    peer: Option<IpAddr>,
    reservation: Reservation,
    since: Instant,
}

/// What became of some items.
#[derive(Debug, Default)]
pub struct Added {
    /// Batches that became full.
    pub sealed: Vec<Held>,
    /// Rows whose item is longer than the destination takes.
    pub too_long: Vec<u32>,
}

impl Batcher {
    /// An empty batcher; `seed` makes the ids of its batches unique in the process.
    ///
    /// # Errors
    /// A compression level that does not exist.
    pub fn new(batching: Batching, budget: Arc<Budget>, seed: u128) -> Result<Self, Error> {
        Ok(Self { batching, budget, pool: CompressorPool::new(batching.codec)?, open: None, next_id: seed })
    }

    /// Adds the items that `rows` of a chunk were encoded to.
    ///
    /// # Errors
    /// The compressor's, which are defects or the end of memory.
    pub fn add(&mut self, chunk: &Chunk, events: &Events, rows: &[u32], items: &Items) -> Result<Added, Error> {
        let mut added = Added::default();
        let mut first = 0;
        while first < rows.len() {
            let mut open = match self.open.take() {
                Some(open) => open,
                None => Open::new(&self.batching, &self.budget, &mut self.pool, chunk)?,
            };
            let count = open.count_fitting(&self.batching, items, first);
            if count > 0 {
                open.append(&self.batching, Run { chunk, events, rows: &rows[first..first + count] }, items, first)?;
                first += count;
            } else if open.items.is_empty() {
                added.too_long.push(rows[first]);
                first += 1;
            }
            let is_full = open.items.len() >= self.batching.items_max || open.plain_bytes >= self.batching.bytes_max;
            let is_next_too_much = count == 0 && !open.items.is_empty();
            self.open = Some(open);
            if is_full || is_next_too_much {
                added.sealed.extend(self.seal()?);
            }
        }
        Ok(added)
    }

    /// When the open batch is due.
    pub fn due(&self) -> Option<Instant> {
        self.open.as_ref().filter(|open| !open.items.is_empty()).map(|open| open.since + self.batching.interval)
    }

    /// Ends the open batch, if it has items.
    ///
    /// # Errors
    /// The compressor's.
    pub fn seal(&mut self) -> Result<Option<Held>, Error> {
        let Some(mut open) = self.open.take() else { return Ok(None) };
        if open.items.is_empty() {
            self.pool.give_back(open.compressor);
            return Ok(None);
        }
        open.compressor.write(self.batching.tail, &mut open.body)?;
        open.compressor.finish(&mut open.body)?;
        self.pool.give_back(open.compressor);
        open.body.shrink_to_fit();
        self.next_id = self.next_id.wrapping_add(1);
        let batch = Sealed {
            id: self.next_id,
            body: Bytes::from(open.body),
            codec: self.batching.codec,
            plain_bytes: open.plain_bytes + self.batching.tail.len(),
            items: open.items,
            members: open.members,
            oldest_ms: open.oldest_ms,
            acknowledgements: open.acknowledgements,
            peer: open.peer,
        };
        open.reservation.resize(batch.body.len() + batch.items.len() * size_of::<Item>());
        Ok(Some(Held { batch, reservation: open.reservation }))
    }
}

/// Rows whose items go into a batch together.
struct Run<'a> {
    chunk: &'a Chunk,
    events: &'a Events,
    rows: &'a [u32],
}

impl Open {
    fn new(batching: &Batching, budget: &Arc<Budget>, pool: &mut CompressorPool, chunk: &Chunk) -> Result<Self, Error> {
        let compressor = pool.take()?;
        let reservation = budget.take(compressor.memory_bytes());
        let mut open = Self {
            compressor,
            body: Vec::new(),
            plain_bytes: batching.head.len(),
            items: Vec::new(),
            members: Vec::new(),
            acknowledgements: Vec::new(),
            oldest_ms: chunk.received_ms,
            peer: chunk.sender.peer,
            reservation,
            since: Instant::now(),
        };
        open.compressor.write(batching.head, &mut open.body)?;
        Ok(open)
    }

    /// How many of the items from `first` on fit.
    fn count_fitting(&self, batching: &Batching, items: &Items, first: usize) -> usize {
        let start = items.start(first) + if self.items.is_empty() { batching.separator.len() } else { 0 };
        let mut previous = start;
        let mut count = 0;
        for end in items.ends[first..].iter().map(|end| *end as usize) {
            let total = self.plain_bytes + (end - start) + batching.tail.len();
            let is_first = self.items.is_empty() && count == 0;
            let fits = (is_first || total <= batching.bytes_max) && self.items.len() + count < batching.items_max;
            if !fits || end - previous > batching.item_bytes_max {
                break;
            }
            previous = end;
            count += 1;
        }
        count
    }

    fn append(&mut self, batching: &Batching, run: Run<'_>, items: &Items, first: usize) -> Result<(), Error> {
        let skipped = if self.items.is_empty() { batching.separator.len() } else { 0 };
        let start = items.start(first) + skipped;
        let base = self.plain_bytes;
        if self.members.last().is_none_or(|last| last.chunk != run.chunk.position) {
            let words = run.chunk.frames().len().div_ceil(64);
            self.members.push(Members { chunk: run.chunk.position, count: 0, bits: vec![0; words].into_boxed_slice() });
            self.acknowledgements.extend(run.chunk.acknowledgement.clone());
        }
        let member = self.members.len() - 1;
        let set = &mut self.members[member];
        for (row, end) in run.rows.iter().zip(&items.ends[first..]) {
            let event = run.events.event(run.chunk, *row as usize);
            let is_alert = event.alert.is_some();
            if !is_alert {
                set.bits[event.frame as usize / 64] |= 1 << (event.frame % 64);
                set.count += 1;
            }
            let end = (base + (*end as usize - start)) as u32;
            self.items.push(Item { end, member: member as u32, frame: event.frame, is_alert });
        }
        let stop = items.ends[first + run.rows.len() - 1] as usize;
        self.plain_bytes = base + (stop - start);
        self.oldest_ms = self.oldest_ms.min(run.chunk.received_ms);
        for slice in items.bytes[start..stop].chunks(batching.codec.slice_bytes()) {
            self.compressor.write(slice, &mut self.body)?;
        }
        let held = self.compressor.memory_bytes() + self.body.capacity() + self.items.capacity() * size_of::<Item>();
        self.reservation.resize(held);
        Ok(())
    }
}
