//! Segments: their names, their headers, and the log that writes them.
//!
//! Header, 64 bytes little endian, written at 0 and again at 512: magic, version u32, segment u32, epoch u64, secret
//! u64, previous segment u32, 0 u32, end of the previous segment u64, time of creation i64, CRC32C u32. Records
//! begin at 1024: names, snapshot, then groups.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::content::Writer;
use super::record::{Header, Key, Kind};
use super::state::{Dropped, Entry, Location, Names, State, Usage, Wanted};
use super::storage::{SegmentFile, Storage};
use crate::clock;
use crate::event::{Members, Position};

/// Where records begin.
pub(super) const RECORDS_START: usize = 1024;

/// Where the second copy of the header is: another sector than the first.
const COPY_AT: usize = 512;

const MAGIC: &[u8; 8] = b"HYDRANTJ";

/// Version of the format. A higher one is refused.
const VERSION: u32 = 1;

/// Bytes of one copy of the header.
const HEADER_BYTES: usize = 64;

/// A segment that has none before it.
const NO_SEGMENT: u32 = u32::MAX;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// What its records are bound to.
    pub(super) key: Key,
    /// The segment before it, and how far that is good.
    pub(super) previous: Option<(u32, u64)>,
    /// When it was made, ms since 1970 UTC.
    pub(super) created_ms: i64,
}

impl SegmentHeader {
    fn write(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(RECORDS_START);
        let (segment, end) = self.previous.unwrap_or((NO_SEGMENT, 0));
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&self.key.segment.to_le_bytes());
        head.extend_from_slice(&self.key.epoch.to_le_bytes());
        head.extend_from_slice(&self.key.secret.to_le_bytes());
        head.extend_from_slice(&segment.to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&end.to_le_bytes());
        head.extend_from_slice(&self.created_ms.to_le_bytes());
        head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
        let copy = head.clone();
        head.resize(COPY_AT, 0);
        head.extend_from_slice(&copy);
        head.resize(RECORDS_START, 0);
        head
    }

    /// The header of a segment with this name, from either copy.
    ///
    /// # Errors
    /// A version that this program does not know.
    pub(super) fn read(bytes: &[u8], epoch: u64, segment: u32) -> io::Result<Option<Self>> {
        for at in [0, COPY_AT] {
            let Some(head) = bytes.get(at..at + HEADER_BYTES) else { continue };
            let (word, long) = (|at: usize| read_word(head, at), |at: usize| read_long(head, at));
            if !head.starts_with(MAGIC) || crc32c::crc32c(&head[..56]) != word(56) || (long(16), word(12)) != (epoch, segment) {
                continue;
            }
            if word(8) > VERSION {
                let message = format!("the journal has format {}, this program knows {VERSION}", word(8));
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
            let previous = (word(32) != NO_SEGMENT).then(|| (word(32), long(40)));
            return Ok(Some(Self { key: Key { secret: long(24), epoch, segment }, previous, created_ms: long(48) as i64 }));
        }
        Ok(None)
    }
}

fn read_word(head: &[u8], at: usize) -> u32 {
    head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn read_long(head: &[u8], at: usize) -> u64 {
    u64::from(read_word(head, at)) | u64::from(read_word(head, at + 4)) << 32
}

/// The file of a segment.
pub(super) fn file_name(epoch: u64, segment: u32) -> String {
    format!("{epoch:016x}-{segment:08}.log")
}

/// Epoch and number of a segment's file.
pub(super) fn parse_name(name: &str) -> Option<(u64, u32)> {
    let (epoch, segment) = name.strip_suffix(".log")?.split_once('-')?;
    let parsed = (u64::from_str_radix(epoch, 16).ok()?, segment.parse().ok()?);
    (file_name(parsed.0, parsed.1) == name).then_some(parsed)
}

/// One shard's log, while it is written.
pub(super) struct Log {
    storage: Arc<dyn Storage>,
    key: Key,
    names: Names,
    segment_bytes: u64,
    /// How long segments are kept that nobody waits for.
    retain_ms: i64,
    /// Bytes that all logs take.
    used_bytes: Arc<AtomicU64>,
    state: State,
    /// None at the beginning, and after an error: that file is never written again.
    file: Option<Box<dyn SegmentFile>>,
    next_segment: u32,
    /// Number of the last segment that was begun, and how far it is durable.
    last: Option<(u32, u64)>,
    group: Vec<u8>,
}

impl Log {
    /// A log that begins with `state`; nothing is written before the first commit.
    pub(super) fn new(storage: Arc<dyn Storage>, key: Key, names: Names, state: State) -> Self {
        let segment_bytes = 128 << 20;
        let used_bytes = Arc::default();
        let retain_ms = 0;
        Self {
            storage,
            key,
            names,
            segment_bytes,
            retain_ms,
            used_bytes,
            state,
            file: None,
            next_segment: key.segment,
            last: None,
            group: Vec::new(),
        }
    }

    /// The same with segments of this size, that are counted here.
    pub(super) fn with_segments(self, segment_bytes: u64, used_bytes: Arc<AtomicU64>) -> Self {
        Self { segment_bytes, used_bytes, ..self }
    }

    /// The same that keeps segments for a while when nobody waits for them any more.
    pub(super) fn retaining(self, retain: Duration) -> Self {
        Self { retain_ms: i64::try_from(retain.as_millis()).unwrap_or(i64::MAX), ..self }
    }

    /// Notes when a segment of an earlier log was written the last time.
    pub(super) fn note_closed(&mut self, key: (u64, u32), closed_ms: i64) {
        self.state.segments.get_mut(&key).into_iter().for_each(|usage| usage.closed_ms = closed_ms);
    }

    /// What is durable.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Begins the first segment: what the log begins with is durable. On a full disk it gets no more room than that
    /// needs, so that what waits can be delivered and space comes free.
    ///
    /// # Errors
    /// Any of the storage.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        match self.open_next(self.segment_bytes) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => self.open_next(0),
            begun => begun,
        }
    }

    /// Takes deferred chunks of a destination out: see [`State::take_deferred`].
    pub(super) fn take_deferred(&mut self, destination: u16, count: usize) -> (Vec<(Position, Location, Members)>, usize) {
        self.state.take_deferred(destination, count)
    }

    /// Puts back what [`Log::take_deferred`] took out.
    #[cfg(test)]
    pub(super) fn defer_again(&mut self, destination: u16, position: Position) {
        if let Some(chunk) = self.state.chunks.get_mut(&position) {
            chunk.share(destination, position).is_deferred = true;
            self.state.deferred.entry(destination).or_default().push_back(position);
        }
    }

    /// Takes deferred chunks out for good: see [`State::drop_oldest`]. With `count` so many, else those of the oldest segment
    /// that becomes free by it.
    pub(super) fn drop_oldest(&mut self, destinations: u64, count: Option<usize>) -> Dropped {
        let current = (self.key.epoch, self.last.map_or(NO_SEGMENT, |(segment, _)| segment));
        self.state.drop_oldest(destinations, count.map_or(Wanted::Segment(current), Wanted::Chunks))
    }

    /// Makes entries durable, in their order, and takes them in. After an error nothing is taken in; the same
    /// entries are to be given again, and go to a new segment.
    ///
    /// # Errors
    /// Any of the storage.
    pub(super) fn commit(&mut self, entries: &mut Vec<Entry>) -> io::Result<()> {
        let bytes = entries.iter().map(Entry::bytes).sum::<usize>() as u64;
        let is_full = self.last.is_some_and(|(_, end)| end + bytes > self.segment_bytes);
        if self.file.is_none() || is_full {
            self.open_next(self.segment_bytes)?;
        }
        let (Some(file), Some((segment, end))) = (&mut self.file, self.last) else { return Ok(()) };
        let key = Key { segment, ..self.key };
        let mut group = std::mem::take(&mut self.group);
        group.clear();
        let mut mark = Writer::default();
        mark.number(end);
        Header::new(Kind::Mark, 0, Position::default(), &mark.0).write(&key, end, &mark.0, &mut group);
        let mut places = Vec::new();
        entries.iter().for_each(|entry| entry.write(&key, end, &mut group, &mut places));
        let written = file.write(end, &group).and_then(|()| file.sync());
        let end = end + group.len() as u64;
        self.group = group;
        if let Err(error) = written {
            self.file = None;
            return Err(error);
        }
        self.last = Some((segment, end));
        self.note_size(segment, end);
        let mut places = places.into_iter();
        entries.drain(..).for_each(|entry| self.state.apply(entry, &mut places));
        self.group.shrink_to(GROUP_BYTES_KEPT_MAX);
        Ok(())
    }

    fn note_size(&mut self, segment: u32, end: u64) {
        if let Some(usage) = self.state.segments.get_mut(&(self.key.epoch, segment)).filter(|usage| usage.bytes < end) {
            self.used_bytes.fetch_add(end - usage.bytes, Ordering::Relaxed);
            usage.bytes = end;
        }
    }

    /// Begins a segment with room for so many bytes.
    fn open_next(&mut self, bytes: u64) -> io::Result<()> {
        self.file = None;
        let segment = self.next_segment;
        // Every attempt has its own number: nobody can take the rest of one for another.
        self.next_segment += 1;
        let key = Key { segment, ..self.key };
        self.state.epochs.entry(key.epoch).or_default();
        let mut head = SegmentHeader { key, previous: self.last, created_ms: clock::now_ms() }.write();
        for (kind, body) in [(Kind::Names, self.names.write()), (Kind::Snapshot, self.state.write())] {
            let offset = head.len() as u64;
            Header::new(kind, 0, Position::default(), &body).write(&key, offset, &body, &mut head);
        }
        let name = file_name(key.epoch, segment);
        let bytes = bytes.max(head.len() as u64);
        let begun = self.storage.create(&name, bytes).and_then(|mut file| {
            file.write(0, &head)?;
            file.sync()?;
            self.storage.sync_folder()?;
            Ok(file)
        });
        match begun {
            Ok(file) => {
                self.file = Some(file);
                let now_ms = clock::now_ms();
                if let Some(closed) = self.last.and_then(|(segment, _)| self.state.segments.get_mut(&(key.epoch, segment))) {
                    closed.closed_ms = now_ms;
                }
                self.last = Some((segment, head.len() as u64));
                self.state.segments.insert((key.epoch, segment), Usage { open: 0, bytes, closed_ms: now_ms });
                self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                // It may not be there at all; recovery ignores what is left of it.
                let _ = self.storage.remove(&name);
                Err(error)
            }
        }
    }

    /// Segments that nobody waits for, the oldest first.
    fn settled(&self) -> Vec<(u64, u32)> {
        self.state.free((self.key.epoch, self.last.map_or(NO_SEGMENT, |(segment, _)| segment)))
    }

    /// Bytes of the segments that are kept although nobody waits for them.
    pub(super) fn retained_bytes(&self) -> u64 {
        self.settled().iter().filter_map(|key| self.state.segments.get(key)).map(|usage| usage.bytes).sum()
    }

    /// Removes segments that nobody waits for and that have been kept for long enough. Whether there were any.
    ///
    /// # Errors
    /// Any of the storage; what is left is removed the next time.
    pub(super) fn free(&mut self) -> io::Result<bool> {
        let now_ms = clock::now_ms();
        let closed_ms = |key: &(u64, u32)| self.state.segments.get(key).map_or(0, |usage| usage.closed_ms);
        let is_over = |key: &(u64, u32)| self.retain_ms == 0 || now_ms.saturating_sub(closed_ms(key)) >= self.retain_ms;
        let free: Vec<(u64, u32)> = self.settled().into_iter().filter(is_over).collect();
        self.remove(&free)
    }

    /// Removes the oldest segment that nobody waits for, however long it was kept. Whether there was one.
    ///
    /// # Errors
    /// Any of the storage.
    pub(super) fn free_oldest(&mut self) -> io::Result<bool> {
        let oldest = self.settled().into_iter().next();
        self.remove(oldest.as_slice())
    }

    fn remove(&mut self, free: &[(u64, u32)]) -> io::Result<bool> {
        if free.is_empty() {
            return Ok(false);
        }
        for (epoch, segment) in free {
            match self.storage.remove(&file_name(*epoch, *segment)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // A segment that comes back after a crash would be taken for one that somebody needs.
        self.storage.sync_folder()?;
        let bytes = free.iter().filter_map(|key| self.state.segments.get(key)).map(|usage| usage.bytes).sum::<u64>();
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.state.forget(free);
        Ok(true)
    }
}

/// Memory that a log keeps for its next group; a large request should not be paid for ever.
const GROUP_BYTES_KEPT_MAX: usize = 4 << 20;
