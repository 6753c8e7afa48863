//! Items to batches: `encoded items -> sealed batch`, by bytes, count and age.
//!
//! Owned by a shard, one per destination. Items are compressed as they come, so a batch holds compressed
//! bytes and some bytes an item. Full: the batch is sealed and a new one begins; the budget is charged for
//! what is held. An item that is longer than the destination can ever take is handed back as too long.
//!
//! A sink that names a partition for each item ([`Items::push_in`]) gets batches of one partition each. At
//! most [`PARTITIONS_OPEN_MAX`] are open; one more seals the oldest early. A partition stays uncompressed
//! until it has [`SMALL_PARTITION_BYTES`], since a compressor takes up to a megabyte. When the memory budget is
//! nearly used up and much of it is in open batches here, the oldest is sealed early as well. Both are counted.
//!
//! Never: I/O, waiting, dropping.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::Bytes;
use foldhash::fast::RandomState;
use serde::Deserialize;

use crate::budget::{Budget, Reservation};
use crate::config::{ByteSize, Interval, Section};
use crate::encode::compress::{Codec, Compressor, CompressorPool};
use crate::error::{Diagnostics, Error};
use crate::event::{Acknowledgement, AlertKey, Arrival, Chunk, Events, Members, Position};
use crate::ledger::{DestinationCounts, Waiting};

/// Open partitions of one destination and shard: the quota of Amazon Data Firehose (Developer Guide, "Quota").
pub const PARTITIONS_OPEN_MAX: usize = 500;

/// A partition is compressed from this size on: below it a compressor (0.3 to 1.1 MB) costs more than it saves.
pub const SMALL_PARTITION_BYTES: usize = 64 * 1024;

/// Above this share of the budget, memory in open batches is given up ...
const PRESSURE_SHARE: f64 = 0.75;

/// ... if they hold more than this share of it: tiny batches would free nothing while a destination is down.
const OPEN_SHARE: f64 = 0.125;

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

/// What a user may say about batches; each sink has its own [`BufferRange`].
#[derive(Clone, Copy, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Buffer {
    /// Bytes before compression.
    size: Option<ByteSize>,
    /// The same in MiB, as Amazon Data Firehose has it.
    size_mb: Option<usize>,
    /// Time since the first event.
    interval: Option<Interval>,
    /// Number of events.
    events: Option<usize>,
}

/// Defaults and upper bounds of a sink's batches.
#[derive(Clone, Copy, Debug)]
pub struct BufferRange {
    /// Default size in bytes.
    pub bytes: usize,
    /// Least and most bytes.
    pub bytes_range: (usize, usize),
    /// Default interval.
    pub interval: Duration,
    /// Longest interval.
    pub interval_max: Duration,
    /// Default number of events.
    pub items: usize,
    /// Most events.
    pub items_max: usize,
}

/// Size, interval and number of events within the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes before compression.
    pub bytes: usize,
    /// Time since the first event.
    pub interval: Duration,
    /// Number of events.
    pub items: usize,
}

impl Buffer {
    /// What holds, with the defaults of `range`; `section` is the sink's, for messages.
    ///
    /// # Errors
    /// Values outside the range.
    pub fn limits(self, range: &BufferRange, section: &Section) -> Result<Limits, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let place = |key: &str| section.child("buffer").and_then(|buffer| buffer.child(key)).unwrap_or_else(|| section.clone());
        if self.size.is_some() && self.size_mb.is_some() {
            diagnostics.push(place("size_mb").error("`size` says this already"));
        }
        let bytes = self.size.map(|size| size.0).or_else(|| self.size_mb.map(|size| size.saturating_mul(1 << 20))).unwrap_or(range.bytes);
        let (least, most) = range.bytes_range;
        if !(least..=most).contains(&bytes) {
            let place = place(if self.size.is_some() { "size" } else { "size_mb" });
            diagnostics.push(place.error(format!("a batch has {} to {}", ByteSize(least), ByteSize(most))));
        }
        let interval = self.interval.map_or(range.interval, |interval| interval.0);
        if interval > range.interval_max {
            diagnostics.push(place("interval").error(format!("the longest interval is {} s", range.interval_max.as_secs())));
        }
        let items = self.events.unwrap_or(range.items);
        if !(1..=range.items_max).contains(&items) {
            diagnostics.push(place("events").error(format!("a batch has 1 to {} events", range.items_max)));
        }
        diagnostics.into_result(Limits { bytes, interval, items })
    }
}

/// Encoded items, one after the other, the sink's separator before each.
#[derive(Debug, Default)]
pub struct Items {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// For each: where its bytes end.
    pub ends: Vec<u32>,
    separator: &'static [u8],
    partitions: Partitions,
}

/// Names of partitions, and which item goes to which.
#[derive(Debug, Default)]
struct Partitions {
    names: Vec<Box<str>>,
    index: HashMap<Box<str>, u32, RandomState>,
    /// For each item; empty if the sink has no partitions.
    of: Vec<u32>,
}

impl Partitions {
    fn intern(&mut self, name: &str) -> u32 {
        if let Some(index) = self.index.get(name) {
            return *index;
        }
        let index = self.names.len() as u32;
        self.names.push(name.into());
        self.index.insert(name.into(), index);
        index
    }
}

impl Items {
    /// Forgets them, keeps the memory.
    pub fn clear(&mut self, separator: &'static [u8]) {
        self.bytes.clear();
        self.ends.clear();
        self.separator = separator;
        self.partitions.of.clear();
        // Names stay, as the next chunk has the same ones, unless a sender makes up new ones all the time.
        if self.partitions.names.len() > PARTITIONS_OPEN_MAX {
            self.partitions = Partitions::default();
        }
    }

    /// Adds the item that `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(self.separator);
        write(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Adds the item that `write` appends to a partition. An encoder uses only this or only [`Items::push`].
    pub fn push_in(&mut self, partition: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let partition = self.partitions.intern(partition);
        self.partitions.of.push(partition);
        self.push(write);
    }

    /// Adds item `index` of `other`, separator included.
    fn push_copy(&mut self, other: &Self, index: usize) {
        let end = other.ends.get(index).map_or(0, |end| *end as usize);
        self.bytes.extend_from_slice(other.bytes.get(other.start(index)..end).unwrap_or_default());
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
    /// Whether it is an alert: the next of its member's.
    pub is_alert: bool,
}

/// A batch that will not change any more.
#[derive(Debug)]
pub struct Sealed {
    /// The same for every attempt, also after a restart; names of objects are derived from it.
    pub id: u128,
    /// The id that its manifest has: its own, or that of the batch of which it is a part.
    pub manifest: u128,
    /// Hash of the plan that was in force when it was sealed.
    pub plan: u64,
    /// The partition that the sink named for its items; empty if it names none.
    pub partition: Box<str>,
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
    /// For each of the members: how it arrived, for dead letters.
    pub arrivals: Vec<Arrival>,
    /// Its items, for the ledger.
    pub waiting: Waiting,
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
    /// By partition; the only key is empty if the sink has none.
    open: HashMap<Box<str>, Open, RandomState>,
    next_id: u128,
    names_by_content: bool,
    plan: u64,
    counts: Rc<DestinationCounts>,
    /// Items and rows of one partition of a chunk, kept for their memory.
    gathered: (Items, Vec<u32>),
}

struct Open {
    /// Nothing while a partition is small: the body is not compressed yet.
    compressor: Option<Compressor>,
    body: Vec<u8>,
    plain_bytes: usize,
    items: Vec<Item>,
    members: Vec<Members>,
    member_bytes: usize,
    acknowledgements: Vec<Acknowledgement>,
    oldest_ms: i64,
    arrivals: Vec<Arrival>,
    waiting: Waiting,
    reservation: Reservation,
    since: Instant,
}

/// What became of some items.
#[derive(Debug, Default)]
pub struct Added {
    /// Batches that became full.
    pub sealed: Vec<Held>,
    /// Items that are longer than the destination takes, each alone. Their manifest is 0: none is made.
    pub too_long: Vec<Held>,
    /// How many of the batches were sealed before their time, for another partition or for memory.
    pub sealed_early: u64,
}

impl Batcher {
    /// An empty batcher; `seed` makes the ids of its batches unique in the process.
    ///
    /// # Errors
    /// A compression level that does not exist.
    pub fn new(batching: Batching, budget: Arc<Budget>, seed: u128) -> Result<Self, Error> {
        let pool = CompressorPool::new(batching.codec)?;
        let (open, counts, gathered) = Default::default();
        Ok(Self { batching, budget, pool, open, next_id: seed, names_by_content: false, plan: 0, counts, gathered })
    }

    /// Says where the ledger of its destination is.
    pub fn set_counts(&mut self, counts: Rc<DestinationCounts>) {
        self.counts = counts;
    }

    /// From here on the ids of batches follow from what is in them: who may make the same batch again, without having kept
    /// its id, gives it the same name, and another one the same name never.
    pub fn name_by_content(&mut self) {
        self.names_by_content = true;
    }

    /// Says the hash of the plan that is in force.
    pub fn set_plan(&mut self, plan: u64) {
        self.plan = plan;
    }

    /// Adds the items that `rows` of a chunk were encoded to.
    ///
    /// # Errors
    /// The compressor's, which are defects or the end of memory.
    pub fn add(&mut self, chunk: &Chunk, events: &Events, rows: &[u32], items: &Items) -> Result<Added, Error> {
        let mut added = Added::default();
        if items.partitions.of.is_empty() {
            self.add_to("", Run { chunk, events, rows }, items, &mut added)?;
        } else {
            self.add_by_partition(Run { chunk, events, rows }, items, &mut added)?;
        }
        if self.is_under_pressure() {
            self.seal_oldest(&mut added)?;
        }
        Ok(added)
    }

    /// Brings the items of each partition together, so that each is looked up once a chunk.
    fn add_by_partition(&mut self, run: Run<'_>, items: &Items, added: &mut Added) -> Result<(), Error> {
        let of = &items.partitions.of;
        let mut order: Vec<u32> = (0..of.len() as u32).collect();
        order.sort_by_key(|item| of[*item as usize]);
        let (mut gathered, mut rows) = std::mem::take(&mut self.gathered);
        for group in order.chunk_by(|a, b| of[*a as usize] == of[*b as usize]) {
            gathered.clear(items.separator);
            rows.clear();
            for item in group {
                gathered.push_copy(items, *item as usize);
                rows.push(run.rows[*item as usize]);
            }
            let name = group.first().map_or("", |item| &items.partitions.names[of[*item as usize] as usize]);
            self.add_to(name, Run { rows: &rows, ..run }, &gathered, added)?;
        }
        self.gathered = (gathered, rows);
        Ok(())
    }

    fn add_to(&mut self, partition: &str, run: Run<'_>, items: &Items, added: &mut Added) -> Result<(), Error> {
        let mut first = 0;
        while first < run.rows.len() {
            if !self.open.contains_key(partition) {
                if self.open.len() >= PARTITIONS_OPEN_MAX {
                    self.seal_oldest(added)?;
                }
                let open = Open::new(&self.batching, &self.budget, &mut self.pool, (run.chunk, partition), &self.counts)?;
                self.open.insert(partition.into(), open);
            }
            let Some(open) = self.open.get_mut(partition) else { break };
            let count = open.count_fitting(&self.batching, items, first);
            if count > 0 {
                let part = Run { rows: &run.rows[first..first + count], ..run };
                open.append(&self.batching, &mut self.pool, part, items, first)?;
                first += count;
            } else if open.items.is_empty() {
                open.append(&self.batching, &mut self.pool, Run { rows: &run.rows[first..=first], ..run }, items, first)?;
                let alone = self.seal(partition)?;
                added.too_long.extend(alone.map(|held| Held { batch: Sealed { manifest: 0, ..held.batch }, ..held }));
                first += 1;
                continue;
            }
            let is_full = open.items.len() >= self.batching.items_max || open.plain_bytes >= self.batching.bytes_max;
            let is_next_too_much = count == 0;
            if is_full || is_next_too_much {
                added.sealed.extend(self.seal(partition)?);
            }
        }
        Ok(())
    }

    fn is_under_pressure(&self) -> bool {
        let limit = self.budget.limit_bytes() as f64;
        let open_bytes = || self.open.values().map(|open| open.reservation.bytes()).sum::<usize>();
        self.budget.used_bytes() as f64 > limit * PRESSURE_SHARE && open_bytes() as f64 > limit * OPEN_SHARE
    }

    fn seal_oldest(&mut self, added: &mut Added) -> Result<(), Error> {
        let oldest = self.open.iter().min_by_key(|(_, open)| open.since).map(|(name, _)| name.clone());
        if let Some(name) = oldest {
            added.sealed_early += 1;
            added.sealed.extend(self.seal(&name)?);
        }
        Ok(())
    }

    /// How batches are cut.
    pub fn batching(&self) -> &Batching {
        &self.batching
    }

    /// When the next open batch is due.
    pub fn due(&self) -> Option<Instant> {
        self.open.values().map(|open| open.since).min().map(|since| since + self.batching.interval)
    }

    /// Ends the open batches that are due.
    ///
    /// # Errors
    /// The compressor's.
    pub fn seal_due(&mut self, now: Instant) -> Result<Vec<Held>, Error> {
        let is_due = |open: &Open| open.since + self.batching.interval <= now;
        let due: Vec<Box<str>> = self.open.iter().filter(|(_, open)| is_due(open)).map(|(name, _)| name.clone()).collect();
        due.iter().filter_map(|name| self.seal(name).transpose()).collect()
    }

    /// Ends all open batches.
    ///
    /// # Errors
    /// The compressor's.
    pub fn seal_all(&mut self) -> Result<Vec<Held>, Error> {
        let names: Vec<Box<str>> = self.open.keys().cloned().collect();
        names.iter().filter_map(|name| self.seal(name).transpose()).collect()
    }

    /// Ends the open batch of a partition; one without items leaves nothing.
    fn seal(&mut self, partition: &str) -> Result<Option<Held>, Error> {
        let Some((partition, open)) = self.open.remove_entry(partition) else { return Ok(None) };
        self.next_id = self.next_id.wrapping_add(1);
        self.end(open, partition, self.next_id)
    }

    /// Adds all items to a batch that is built again, whatever partition they would be in and however many they are.
    ///
    /// # Errors
    /// The compressor's.
    pub fn add_again(&mut self, again: &mut Again, chunk: &Chunk, events: &Events, rows: &[u32], items: &Items) -> Result<(), Error> {
        if again.open.is_none() {
            // It counts when it is complete: until then the journal has its items.
            again.open = Some(Open::new(&self.batching, &self.budget, &mut self.pool, (chunk, &again.partition), &Rc::default())?);
        }
        let Some(open) = again.open.as_mut().filter(|_| !rows.is_empty()) else { return Ok(()) };
        open.append(&self.batching, &mut self.pool, Run { chunk, events, rows }, items, 0)
    }

    /// Ends a batch that was built again; nothing if it has no items.
    ///
    /// # Errors
    /// The compressor's.
    pub fn seal_again(&mut self, again: Again) -> Result<Option<Held>, Error> {
        let Again { id, partition, oldest_ms, open: Some(mut open) } = again else { return Ok(None) };
        open.oldest_ms = oldest_ms;
        self.end(open, partition, id)
    }

    fn end(&mut self, mut open: Open, partition: Box<str>, id: u128) -> Result<Option<Held>, Error> {
        open.write(self.batching.tail, self.batching.codec.slice_bytes())?;
        let mut compressor = open.compress(&mut self.pool, self.batching.codec.slice_bytes())?;
        compressor.finish(&mut open.body)?;
        self.pool.give_back(compressor);
        if open.items.is_empty() {
            return Ok(None);
        }
        open.body.shrink_to_fit();
        let id = if self.names_by_content { open.digest(&partition) } else { id };
        let batch = Sealed {
            id,
            manifest: id,
            plan: self.plan,
            partition,
            body: Bytes::from(open.body),
            codec: self.batching.codec,
            plain_bytes: open.plain_bytes + self.batching.tail.len(),
            items: open.items,
            members: open.members,
            oldest_ms: open.oldest_ms,
            acknowledgements: open.acknowledgements,
            arrivals: open.arrivals,
            waiting: open.waiting,
        };
        open.reservation.resize(batch.body.len() + batch.items.len() * size_of::<Item>() + open.member_bytes);
        Ok(Some(Held { batch, reservation: open.reservation }))
    }
}

/// A batch of an earlier run, built again: the same name and the same members.
pub struct Again {
    /// Its id.
    pub id: u128,
    partition: Box<str>,
    oldest_ms: i64,
    open: Option<Open>,
}

impl Again {
    /// A batch without items so far, with the id, partition and time that its manifest has.
    pub fn new(id: u128, partition: Box<str>, oldest_ms: i64) -> Self {
        Self { id, partition, oldest_ms, open: None }
    }
}

/// Rows whose items go into a batch together.
#[derive(Clone, Copy)]
struct Run<'a> {
    chunk: &'a Chunk,
    events: &'a Events,
    rows: &'a [u32],
}

impl Open {
    fn new(
        batching: &Batching,
        budget: &Arc<Budget>,
        pool: &mut CompressorPool,
        (chunk, partition): (&Chunk, &str),
        counts: &Rc<DestinationCounts>,
    ) -> Result<Self, Error> {
        let starts_small = !partition.is_empty() && batching.codec != Codec::None;
        let compressor = if starts_small { None } else { Some(pool.take()?) };
        let reservation = budget.take(compressor.as_ref().map_or(0, Compressor::memory_bytes));
        let mut open = Self {
            compressor,
            body: Vec::new(),
            plain_bytes: batching.head.len(),
            items: Vec::new(),
            members: Vec::new(),
            member_bytes: 0,
            acknowledgements: Vec::new(),
            oldest_ms: chunk.received_ms,
            arrivals: Vec::new(),
            waiting: Waiting::new(counts.clone()),
            reservation,
            since: Instant::now(),
        };
        open.write(batching.head, batching.codec.slice_bytes())?;
        Ok(open)
    }

    fn write(&mut self, bytes: &[u8], slice_bytes: usize) -> Result<(), Error> {
        let Some(compressor) = &mut self.compressor else {
            self.body.extend_from_slice(bytes);
            return Ok(());
        };
        bytes.chunks(slice_bytes).try_for_each(|slice| compressor.write(slice, &mut self.body))
    }

    /// Takes the compressor out; a body that was not compressed before is compressed now.
    fn compress(&mut self, pool: &mut CompressorPool, slice_bytes: usize) -> Result<Compressor, Error> {
        if let Some(compressor) = self.compressor.take() {
            return Ok(compressor);
        }
        let mut compressor = pool.take()?;
        let plain = std::mem::take(&mut self.body);
        plain.chunks(slice_bytes).try_for_each(|slice| compressor.write(slice, &mut self.body))?;
        Ok(compressor)
    }

    /// A name of what is in it: its bytes, and the chunks that they are of, since events may look the same.
    fn digest(&self, partition: &str) -> u128 {
        let mut context = digest::Context::new(&digest::SHA256);
        for Position { epoch, sequence } in self.members.iter().map(|members| members.chunk) {
            context.update(&epoch.to_le_bytes());
            context.update(&sequence.to_le_bytes());
        }
        context.update(partition.as_bytes());
        context.update(&self.body);
        let hash = context.finish();
        hash.as_ref().iter().take(size_of::<u128>()).fold(0, |id, byte| id << 8 | u128::from(*byte))
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

    fn append(&mut self, batching: &Batching, pool: &mut CompressorPool, run: Run<'_>, items: &Items, first: usize) -> Result<(), Error> {
        let skipped = if self.items.is_empty() { batching.separator.len() } else { 0 };
        let start = items.start(first) + skipped;
        let base = self.plain_bytes;
        if self.members.last().is_none_or(|last| last.chunk != run.chunk.position) {
            let members = Members::none(run.chunk.position, run.chunk.frames().len());
            self.member_bytes += size_of::<Members>() + size_of_val(&*members.bits) + size_of::<Arrival>();
            self.members.push(members);
            self.arrivals.push(run.chunk.arrival());
            self.acknowledgements.extend(run.chunk.acknowledgement.clone());
        }
        let member = self.members.len() - 1;
        let mut alerts = 0;
        let set = &mut self.members[member];
        for (row, end) in run.rows.iter().zip(&items.ends[first..]) {
            let event = run.events.event(run.chunk, *row as usize);
            let is_alert = event.alert.is_some();
            alerts += u64::from(is_alert);
            match run.events.alert_key(*row as usize) {
                Some(alert) => {
                    set.alerts.push(alert);
                    self.member_bytes += size_of::<AlertKey>();
                }
                None => set.insert(event.frame),
            }
            let end = (base + (*end as usize - start)) as u32;
            self.items.push(Item { end, member: member as u32, frame: event.frame, is_alert });
        }
        self.waiting.add(run.rows.len() as u64 - alerts, alerts);
        let stop = items.ends[first + run.rows.len() - 1] as usize;
        self.plain_bytes = base + (stop - start);
        self.oldest_ms = self.oldest_ms.min(run.chunk.received_ms);
        self.write(&items.bytes[start..stop], batching.codec.slice_bytes())?;
        if self.compressor.is_none() && self.plain_bytes > SMALL_PARTITION_BYTES {
            self.compressor = Some(self.compress(pool, batching.codec.slice_bytes())?);
        }
        let compressor_bytes = self.compressor.as_ref().map_or(0, Compressor::memory_bytes);
        let item_bytes = self.items.capacity() * size_of::<Item>();
        self.reservation.resize(compressor_bytes + self.body.capacity() + item_bytes + self.member_bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::compress::decompress;
    use crate::event::{Fields, Sender, Span};

    const BATCHING: Batching = Batching {
        bytes_max: 1 << 20,
        items_max: 100_000,
        item_bytes_max: 1000,
        interval: Duration::from_secs(60),
        codec: Codec::GZIP_FAST,
        head: b"[",
        separator: b",",
        tail: b"]",
    };

    fn chunk(lines: &[String], sequence: u64) -> (Chunk, Events) {
        let mut bytes = Vec::new();
        let mut frames = Vec::new();
        for line in lines {
            frames.push(Span::new(bytes.len(), bytes.len() + line.len()));
            bytes.extend_from_slice(line.as_bytes());
        }
        let sender = Arc::new(Sender { source: "t".into(), source_index: 0 });
        let mut chunk = Chunk::new(bytes, frames, sender, 1000);
        chunk.position.sequence = sequence;
        let mut events = Events::default();
        events.reset(&chunk, Fields::default().width());
        (chunk, events)
    }

    /// Adds lines, each to the partition that `partition` names for it.
    fn add(batcher: &mut Batcher, items: &mut Items, lines: &[String], sequence: u64, partition: impl Fn(&str) -> Option<String>) -> Added {
        let (chunk, events) = chunk(lines, sequence);
        items.clear(batcher.batching.separator);
        for line in lines {
            match partition(line) {
                Some(name) => items.push_in(&name, |out| out.extend_from_slice(line.as_bytes())),
                None => items.push(|out| out.extend_from_slice(line.as_bytes())),
            }
        }
        let rows: Vec<u32> = (0..lines.len() as u32).collect();
        batcher.add(&chunk, &events, &rows, items).unwrap()
    }

    fn text(held: &Held) -> String {
        String::from_utf8(decompress(held.batch.codec, &held.batch.body, held.batch.plain_bytes).unwrap()).unwrap()
    }

    fn batcher(batching: Batching, budget_bytes: usize) -> Batcher {
        Batcher::new(batching, Budget::new(budget_bytes), 7).unwrap()
    }

    #[test]
    fn without_partitions_there_is_one_batch_and_its_limits_hold() {
        let mut batcher = batcher(Batching { items_max: 3, ..BATCHING }, 1 << 30);
        let mut items = Items::default();
        let long = "x".repeat(1001);
        let lines = ["a", "b", &long, "c", "d"].map(str::to_owned);
        let added = add(&mut batcher, &mut items, &lines, 0, |_| None);
        let too_long: Vec<_> = added.too_long.iter().map(|held| (text(held), held.batch.members[0].bits[0], held.batch.manifest)).collect();
        assert_eq!(too_long, [(format!("[{long}]"), 0b100, 0)]);
        let bodies: Vec<String> = added.sealed.iter().chain(&batcher.seal_all().unwrap()).map(text).collect();
        assert_eq!(bodies, ["[a,b]", "[c,d]"]);
    }

    #[test]
    fn each_partition_gets_its_own_batches_and_every_event_is_in_one() {
        let mut batcher = batcher(BATCHING, 1 << 30);
        let mut items = Items::default();
        let first_letter = |line: &str| Some(line[..1].to_owned());
        for sequence in [0, 4] {
            let lines = ["a1", "b1", "a2", "c1"].map(|line| format!("{line}-{sequence}"));
            assert!(add(&mut batcher, &mut items, &lines, sequence, first_letter).sealed.is_empty());
        }
        assert!(batcher.due().is_some_and(|due| due > Instant::now()));
        assert!(batcher.seal_due(Instant::now()).unwrap().is_empty());
        let mut sealed = batcher.seal_due(Instant::now() + BATCHING.interval).unwrap();
        assert_eq!(batcher.due(), None);
        sealed.sort_by(|a, b| a.batch.partition.cmp(&b.batch.partition));
        let found: Vec<_> = sealed.iter().map(|held| (&*held.batch.partition, text(held))).collect();
        let expected = [("a", "[a1-0,a2-0,a1-4,a2-4]"), ("b", "[b1-0,b1-4]"), ("c", "[c1-0,c1-4]")];
        assert_eq!(found, expected.map(|(name, body)| (name, body.to_owned())));
        let bits = |held: &Held| held.batch.members.iter().map(|m| (m.chunk.sequence, m.count, m.bits[0])).collect::<Vec<_>>();
        assert_eq!(
            sealed.iter().map(bits).collect::<Vec<_>>(),
            [[(0, 2, 0b101), (4, 2, 0b101)], [(0, 1, 0b10), (4, 1, 0b10)], [(0, 1, 0b1000), (4, 1, 0b1000)]]
        );
        assert_eq!(sealed[0].batch.items.iter().map(|item| item.end).collect::<Vec<_>>(), [5, 10, 15, 20]);
    }

    #[test]
    fn a_batch_that_is_built_again_is_the_same_one() {
        let mut items = Items::default();
        let mut first = batcher(BATCHING, 1 << 30);
        let lines = ["a1", "b1", "a2"].map(str::to_owned);
        for sequence in [0, 3] {
            assert!(add(&mut first, &mut items, &lines, sequence, |line| Some(line[..1].to_owned())).sealed.is_empty());
        }
        let sealed = first.seal_all().unwrap();
        let Sealed { id, partition, body, members, items: ends, .. } =
            &sealed.iter().find(|held| *held.batch.partition == *"a").unwrap().batch;
        let mut second = batcher(Batching { items_max: 1, ..BATCHING }, 1 << 30);
        let mut again = Again::new(*id, partition.clone(), 77);
        for set in members {
            let (chunk, events) = chunk(&lines, set.chunk.sequence);
            let rows: Vec<u32> = events.rows_of(set).collect();
            items.clear(b",");
            rows.iter().for_each(|row| items.push_in("elsewhere", |out| out.extend_from_slice(chunk.frame(*row as usize))));
            second.add_again(&mut again, &chunk, &events, &rows, &items).unwrap();
        }
        let built = second.seal_again(again).unwrap().unwrap().batch;
        assert_eq!((built.id, built.manifest, &built.partition, built.oldest_ms), (*id, *id, partition, 77));
        assert_eq!((&built.body, &built.members), (body, members));
        assert_eq!(format!("{:?}", built.items), format!("{ends:?}"));
        assert!(second.seal_again(Again::new(1, "".into(), 0)).unwrap().is_none(), "nothing was left of it");
    }

    #[test]
    fn a_partition_is_compressed_only_when_it_has_grown() {
        let mut batcher = batcher(BATCHING, 1 << 30);
        let mut items = Items::default();
        let lines: Vec<String> = (0..100).map(|n| format!("{n:0>500}")).collect();
        add(&mut batcher, &mut items, &lines, 0, |_| Some("p".into()));
        assert!(batcher.open["p"].compressor.is_none() && batcher.open["p"].body.len() > 100 * 500);
        add(&mut batcher, &mut items, &lines, 100, |_| Some("p".into()));
        assert!(batcher.open["p"].compressor.is_some() && batcher.open["p"].body.len() < SMALL_PARTITION_BYTES);
        let sealed = batcher.seal_all().unwrap();
        assert_eq!(text(&sealed[0]), format!("[{},{}]", lines.join(","), lines.join(",")));
    }

    #[test]
    fn one_partition_too_many_seals_the_oldest() {
        let mut batcher = batcher(BATCHING, 1 << 30);
        let mut items = Items::default();
        let mut early = 0;
        let mut seen = Vec::new();
        for number in 0..PARTITIONS_OPEN_MAX + 3 {
            let added = add(&mut batcher, &mut items, &[format!("{number}")], number as u64, |line| Some(line.to_owned()));
            early += added.sealed_early;
            seen.extend(added.sealed.iter().map(text));
        }
        assert_eq!((early, batcher.open.len()), (3, PARTITIONS_OPEN_MAX));
        assert_eq!(seen, ["[0]", "[1]", "[2]"]);
        assert!(items.partitions.names.len() <= PARTITIONS_OPEN_MAX + 1, "names that nobody uses are forgotten");
    }

    #[test]
    fn memory_pressure_seals_what_is_open_and_the_budget_gets_all_back() {
        let batching = Batching { codec: Codec::None, ..BATCHING };
        let mut batcher = batcher(batching, 100_000);
        let mut items = Items::default();
        let lines: Vec<String> = (0..200).map(|n| format!("{n:0>500}")).collect();
        let added = add(&mut batcher, &mut items, &lines, 0, |_| Some("p".into()));
        assert_eq!((added.sealed.len(), added.sealed_early), (1, 1));
        let budget = batcher.budget.clone();
        assert!(budget.used_bytes() > 100_000);
        drop(added);
        assert_eq!(budget.used_bytes(), 0);
    }
}
