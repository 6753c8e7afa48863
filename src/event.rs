//! The chunk and what decoding finds in it.
//!
//! A [`Chunk`] is the unit of work: one contiguous buffer, the spans of its frames, and what is known of
//! the sender. Decoding builds no tree: it fills one row of [`Slot`]s per frame in [`Events`], each slot a
//! typed span of the chunk's buffer or of the arena beside it. Which slot holds what was decided when the
//! plan was compiled ([`Fields`]). Nothing here is allocated per event.

mod ack;
mod fields;
mod origin;
mod position;
mod slot;

pub use ack::{Acknowledgement, Receipt};
pub use fields::{Fields, SlotId};
pub use origin::{Origin, OriginField};
pub use position::{AlertKey, Members, Position, fingerprint};
pub use slot::{Kind, Slot, Value};

use std::net::IpAddr;
use std::sync::Arc;

use crate::limits::{CHUNK_BYTES_MAX, CHUNK_FRAMES_MAX, CHUNK_PADDING_BYTES};

/// A range of bytes in a chunk's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A span; both ends in bytes from the start of the buffer.
    #[inline]
    pub fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= CHUNK_BYTES_MAX);
        Self { start: start as u32, end: end as u32 }
    }

    /// Length in bytes.
    #[inline]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes it covers.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// The source of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub struct Sender {
    /// Name of the source in the configuration.
    pub source: Arc<str>,
    /// Its index in the plan.
    pub source_index: u16,
}

/// Frames of one sender in one buffer.
///
/// The buffer is followed by [`CHUNK_PADDING_BYTES`] readable bytes that belong to no frame, so that vector
/// loads at the end of a frame stay inside.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    frames: Vec<Span>,
    /// Addresses of the senders: each holds from this frame on. Empty if the source has none.
    /// Shared with the batches that its events go to.
    peers: Arc<Vec<(u32, IpAddr)>>,
    /// What is known beside the bytes: each holds from this frame on.
    origins: Vec<(u32, Arc<Origin>)>,
    /// Times that an envelope gives, ms since 1970 UTC: each holds from this frame on, `None` for no time.
    times: Vec<(u32, Option<i64>)>,
    /// Which source it came through.
    pub sender: Arc<Sender>,
    /// When its last byte arrived, ms since 1970 UTC.
    pub received_ms: i64,
    /// Position of its first frame; frame `i` has the position `i` further on. Set by the journal.
    pub position: Position,
    /// Told when every destination has its events, if the source waits for that.
    pub acknowledgement: Option<Acknowledgement>,
}

impl Chunk {
    /// A chunk over `bytes` (padding is added here) and the spans of its frames.
    pub fn new(mut bytes: Vec<u8>, frames: Vec<Span>, sender: Arc<Sender>, received_ms: i64) -> Self {
        debug_assert!(bytes.len() <= CHUNK_BYTES_MAX && frames.len() <= CHUNK_FRAMES_MAX);
        bytes.resize(bytes.len() + CHUNK_PADDING_BYTES, 0);
        Self {
            bytes,
            frames,
            peers: Arc::default(),
            origins: Vec::new(),
            times: Vec::new(),
            sender,
            received_ms,
            position: Position::default(),
            acknowledgement: None,
        }
    }

    /// The same chunk with the addresses that sent it, each with the first frame that is from it.
    #[must_use]
    pub fn with_peers(self, peers: Vec<(u32, IpAddr)>) -> Self {
        Self { peers: Arc::new(peers), ..self }
    }

    /// The same chunk with what is known of its frames beside their bytes.
    #[must_use]
    pub fn with_origins(self, origins: Vec<(u32, Arc<Origin>)>) -> Self {
        Self { origins, ..self }
    }

    /// The same chunk with the times that an envelope gives to its frames; a decoder that finds a time in the
    /// frame itself overrides it.
    #[must_use]
    pub fn with_times(self, times: Vec<(u32, Option<i64>)>) -> Self {
        Self { times, ..self }
    }

    /// The buffer with its padding.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Spans of the frames.
    #[inline]
    pub fn frames(&self) -> &[Span] {
        &self.frames
    }

    /// The bytes of frame `index`.
    #[inline]
    pub fn frame(&self, index: usize) -> &[u8] {
        self.frames[index].of(&self.bytes)
    }

    /// Who sent frame `index`, if the source knows.
    pub fn peer(&self, index: usize) -> Option<IpAddr> {
        peer_of(&self.peers, index)
    }

    /// What outlives the chunk of how its frames arrived.
    pub fn arrival(&self) -> Arrival {
        Arrival { received_ms: self.received_ms, sender: self.sender.clone(), peers: self.peers.clone() }
    }

    /// Addresses and the first frame of each run.
    pub fn peers(&self) -> &[(u32, IpAddr)] {
        &self.peers
    }

    /// What is known of frame `index` beside its bytes.
    pub fn origin(&self, index: usize) -> Option<&Arc<Origin>> {
        let after = self.origins.partition_point(|(first, _)| *first as usize <= index);
        after.checked_sub(1).map(|at| &self.origins[at].1)
    }

    /// What is known beside the bytes, and the first frame of each run.
    pub fn origins(&self) -> &[(u32, Arc<Origin>)] {
        &self.origins
    }

    /// The times that an envelope gives, and the first frame of each run.
    pub fn times(&self) -> &[(u32, Option<i64>)] {
        &self.times
    }

    /// What the chunk costs in the memory budget, in bytes.
    pub fn cost_bytes(&self) -> usize {
        self.bytes.capacity() + self.frames.capacity() * size_of::<Span>()
    }

    /// Gives the buffers back for reuse.
    pub fn into_buffers(self) -> (Vec<u8>, Vec<Span>) {
        (self.bytes, self.frames)
    }
}

fn peer_of(peers: &[(u32, IpAddr)], frame: usize) -> Option<IpAddr> {
    let after = peers.partition_point(|(first, _)| *first as usize <= frame);
    after.checked_sub(1).map(|at| peers[at].1)
}

/// When and from whom the frames of a chunk came.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When the chunk's last byte arrived, ms since 1970 UTC.
    pub received_ms: i64,
    /// Which source it came through.
    pub sender: Arc<Sender>,
    /// Addresses of the senders: each holds from this frame on.
    pub peers: Arc<Vec<(u32, IpAddr)>>,
}

impl Arrival {
    /// Who sent a frame, if the source knows.
    pub fn peer(&self, frame: u32) -> Option<IpAddr> {
        peer_of(&self.peers, frame as usize)
    }
}

/// Why a frame is less than its decoder promises. The event stays, with its raw bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flaw {
    /// Not the decoder's format at all: only the raw bytes and the sender are known.
    Malformed,
    /// It begins right and ends too early or goes on wrong: the fields before that are there.
    Truncated,
    /// Nested, long or many beyond a limit; what was read before stays.
    TooLarge,
    /// Not valid UTF-8: written out as base64 beside the readable part.
    NotUtf8,
}

impl Flaw {
    /// Its name in metrics and in `%hydrant.flaw`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge => "too_large",
            Self::Truncated => "truncated",
        }
    }
}

/// One row of slots per frame of a chunk, filled by decoders and enrichers.
#[derive(Debug, Default)]
pub struct Events {
    width: usize,
    slots: Vec<Slot>,
    /// By row: a bit for each slot that was ever set, so that nobody walks through those that are missing.
    present: Vec<u64>,
    arena: Vec<u8>,
    meta: Vec<Meta>,
    /// Frames of the chunk; rows behind them are alerts.
    frames: usize,
    /// By alert: what stands for its rule.
    rules: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Meta {
    frame: u32,
    alert: u32,
    time_ms: i64,
    flaw: Option<Flaw>,
    is_strict_object: bool,
}

const NO_ALERT: u32 = u32::MAX;

/// Rows of up to so many slots are cleared as a whole: a kilobyte of zeros costs less than looking for what to clear.
const CLEARED_WHOLE_MAX: usize = 128;

impl Events {
    /// Makes room for one row of `width` slots per frame of `chunk`: all missing, the time that of arrival.
    pub fn reset(&mut self, chunk: &Chunk, width: usize) {
        let rows = chunk.frames().len();
        self.clear_slots(width);
        self.frames = rows;
        self.rules.clear();
        self.arena.clear();
        self.slots.resize(rows * width, Slot::MISSING);
        self.present.clear();
        self.present.resize(rows * words(width), 0);
        self.meta.clear();
        self.meta.extend((0..rows as u32).map(|frame| Meta {
            frame,
            alert: NO_ALERT,
            time_ms: chunk.received_ms,
            flaw: None,
            is_strict_object: false,
        }));
        for (index, (first, time_ms)) in chunk.times().iter().enumerate() {
            let end = chunk.times().get(index + 1).map_or(rows, |(next, _)| *next as usize);
            if let (Some(time_ms), Some(run)) = (time_ms, self.meta.get_mut(*first as usize..end)) {
                run.iter_mut().for_each(|meta| meta.time_ms = *time_ms);
            }
        }
    }

    /// Makes rows of `width` slots, those that stay all missing. Of wide rows only those slots are written to that were set:
    /// rules ask for thousands of fields, of which an event has some ten.
    fn clear_slots(&mut self, width: usize) {
        if width != self.width || width <= CLEARED_WHOLE_MAX {
            self.slots.clear();
            self.width = width;
            return;
        }
        for (row, present) in self.slots.chunks_exact_mut(width).zip(self.present.chunks_exact(words(width))) {
            bits(present.iter().copied()).for_each(|index| row[index] = Slot::MISSING);
        }
    }

    /// Sets a slot of the rows `rows` to the same bytes.
    pub fn fill_run(&mut self, rows: std::ops::Range<usize>, slot: SlotId, kind: Kind, bytes: &[u8]) {
        let value = Slot::in_arena(kind, self.arena.len(), bytes.len());
        self.arena.extend_from_slice(bytes);
        let count = rows.len();
        self.slots.iter_mut().skip(rows.start * self.width + slot.index()).step_by(self.width).take(count).for_each(|s| *s = value);
        let words = words(self.width);
        let of_slot = self.present.iter_mut().skip(rows.start * words + slot.index() / WORD).step_by(words).take(count);
        of_slot.for_each(|word| *word |= bit(slot));
    }

    /// Adds a row that begins as a copy of `row`: the alert of rule `rule`, for which `key` stands
    /// ([`AlertKey::rule`]), about that event. Returns its index.
    pub fn push_alert(&mut self, row: usize, rule: u32, key: u64) -> usize {
        self.rules.push(key);
        let start = row * self.width;
        self.slots.extend_from_within(start..start + self.width);
        let words = words(self.width);
        self.present.extend_from_within(row * words..(row + 1) * words);
        self.meta.push(Meta { alert: rule, ..self.meta[row] });
        self.meta.len() - 1
    }

    /// Takes the last row away again, if it is an alert.
    pub fn pop_alert(&mut self) {
        if self.rules.pop().is_some() {
            self.meta.pop();
            self.slots.truncate(self.meta.len() * self.width);
            self.present.truncate(self.meta.len() * words(self.width));
        }
    }

    /// What stands for the alert in row `index`; `None` for an event that came in.
    pub fn alert_key(&self, index: usize) -> Option<AlertKey> {
        let rule = *self.rules.get(index.checked_sub(self.frames)?)?;
        Some(AlertKey { frame: self.meta.get(index)?.frame, rule })
    }

    /// The rows that a set has, ascending.
    pub fn rows_of<'a>(&'a self, members: &'a Members) -> impl Iterator<Item = u32> + 'a {
        let has = |row: &usize| match self.alert_key(*row) {
            Some(alert) => members.alerts.contains(&alert),
            None => members.has(*row as u32),
        };
        (0..self.len()).filter(has).map(|row| row as u32)
    }

    /// The set of some rows of `chunk`.
    pub fn members(&self, chunk: &Chunk, rows: &[u32]) -> Members {
        let mut members = Members::none(chunk.position, self.frames);
        for row in rows {
            match self.alert_key(*row as usize) {
                Some(alert) => members.alerts.push(alert),
                None => members.insert(*row),
            }
        }
        members
    }

    /// Sets a slot of every row to the same bytes.
    pub fn fill(&mut self, slot: SlotId, kind: Kind, bytes: &[u8]) {
        self.fill_run(0..self.len(), slot, kind, bytes);
    }

    /// The newest time of an event; alerts have that of theirs.
    pub fn newest_ms(&self) -> i64 {
        self.meta.iter().map(|meta| meta.time_ms).max().unwrap_or(i64::MIN)
    }

    /// Number of rows, alerts included.
    pub fn len(&self) -> usize {
        self.meta.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.meta.is_empty()
    }

    /// The row to be filled; row `index` belongs to frame `index`, alerts come behind.
    #[inline]
    pub fn row_mut<'a>(&'a mut self, chunk: &'a Chunk, index: usize) -> Row<'a> {
        let (start, words) = (index * self.width, words(self.width));
        Row {
            bytes: chunk.bytes(),
            slots: &mut self.slots[start..start + self.width],
            present: &mut self.present[index * words..(index + 1) * words],
            arena: &mut self.arena,
            meta: &mut self.meta[index],
        }
    }

    /// The event in row `index`.
    #[inline]
    pub fn event<'a>(&'a self, chunk: &'a Chunk, index: usize) -> Event<'a> {
        let (start, words) = (index * self.width, words(self.width));
        let meta = self.meta[index];
        Event {
            raw: chunk.frames()[meta.frame as usize],
            bytes: chunk.bytes(),
            arena: &self.arena,
            slots: &self.slots[start..start + self.width],
            present: &self.present[index * words..(index + 1) * words],
            frame: meta.frame,
            alert: (meta.alert != NO_ALERT).then_some(meta.alert),
            time_ms: meta.time_ms,
            flaw: meta.flaw,
            is_strict_object: meta.is_strict_object,
        }
    }
}

/// A row while it is filled.
#[derive(Debug)]
pub struct Row<'a> {
    bytes: &'a [u8],
    slots: &'a mut [Slot],
    present: &'a mut [u64],
    arena: &'a mut Vec<u8>,
    meta: &'a mut Meta,
}

impl<'a> Row<'a> {
    /// The chunk's buffer, padding included; spans and slot offsets count from its start.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Sets a slot; the last write wins.
    #[inline]
    pub fn set(&mut self, slot: SlotId, value: Slot) {
        self.slots[slot.index()] = value;
        self.present[slot.index() / WORD] |= bit(slot);
    }

    /// Sets a slot to text of the chunk's buffer.
    #[inline]
    pub fn set_text(&mut self, slot: SlotId, span: Span) {
        self.set(slot, Slot::new(Kind::Text, span.start as usize, span.len()));
    }

    /// Sets a slot to a value that is not in the buffer as it is: `write` appends it to the arena.
    #[inline]
    pub fn set_written(&mut self, slot: SlotId, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len();
        write(self.arena);
        let len = self.arena.len() - start;
        self.set(slot, Slot::in_arena(kind, start, len));
    }

    /// The value of a slot as filled so far.
    #[inline]
    pub fn value(&self, slot: SlotId) -> Value<'_> {
        self.slots[slot.index()].value(self.bytes, self.arena)
    }

    /// The slot as filled so far.
    #[inline]
    pub fn slot(&self, slot: SlotId) -> Slot {
        self.slots[slot.index()]
    }

    /// Whether `bytes` more can be written: offsets end at [`CHUNK_BYTES_MAX`]. Who writes as much as an
    /// outside file or program says asks first.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.arena.len() + bytes <= CHUNK_BYTES_MAX
    }

    /// Sets the event's own time, ms since 1970 UTC.
    pub fn set_time_ms(&mut self, time_ms: i64) {
        self.meta.time_ms = time_ms;
    }

    /// The event's time as known so far.
    pub fn time_ms(&self) -> i64 {
        self.meta.time_ms
    }

    /// Says that the frame is exactly one valid JSON object on one line without our reserved key, so that its
    /// bytes may be spliced into an output as they are.
    pub fn set_strict_object(&mut self) {
        self.meta.is_strict_object = true;
    }

    /// Says that something is wrong; the first flaw stays.
    pub fn set_flaw(&mut self, flaw: Flaw) {
        self.meta.flaw.get_or_insert(flaw);
    }
}

/// Slots in one word of a bit set.
const WORD: usize = u64::BITS as usize;

fn words(width: usize) -> usize {
    width.div_ceil(WORD)
}

fn bit(slot: SlotId) -> u64 {
    1 << (slot.index() % WORD)
}

/// The numbers of the bits that are set.
fn bits(mut words: impl Iterator<Item = u64>) -> impl Iterator<Item = usize> {
    let (mut word, mut behind) = (0_u64, 0);
    std::iter::from_fn(move || {
        while word == 0 {
            word = words.next()?;
            behind += WORD;
        }
        let bit = word.trailing_zeros() as usize;
        word &= word - 1;
        Some(behind - WORD + bit)
    })
}

/// Some slots.
#[derive(Clone, Debug, Default)]
pub struct SlotSet {
    words: Vec<u64>,
}

impl FromIterator<SlotId> for SlotSet {
    fn from_iter<T: IntoIterator<Item = SlotId>>(slots: T) -> Self {
        let mut words = Vec::new();
        for slot in slots {
            if words.len() <= slot.index() / WORD {
                words.resize(slot.index() / WORD + 1, 0);
            }
            words[slot.index() / WORD] |= bit(slot);
        }
        Self { words }
    }
}

/// A filled row: what rules, routes and encoders see of one event.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    raw: Span,
    bytes: &'a [u8],
    arena: &'a [u8],
    slots: &'a [Slot],
    present: &'a [u64],
    /// Index of its frame in the chunk; an alert has that of the event it is about.
    pub frame: u32,
    /// The index of the rule whose alert this is; `None` for an event that came in.
    pub alert: Option<u32>,
    /// The event's own time, or the time of arrival, ms since 1970 UTC.
    pub time_ms: i64,
    /// What was wrong with the frame.
    pub flaw: Option<Flaw>,
    /// Whether the frame is exactly one valid JSON object on one line without our reserved key.
    pub is_strict_object: bool,
}

impl<'a> Event<'a> {
    /// The frame as it came.
    #[inline]
    pub fn raw(&self) -> &'a [u8] {
        self.raw.of(self.bytes)
    }

    /// The value of a slot.
    #[inline]
    pub fn value(&self, slot: SlotId) -> Value<'a> {
        self.slots[slot.index()].value(self.bytes, self.arena)
    }

    /// The slot itself.
    #[inline]
    pub fn slot(&self, slot: SlotId) -> Slot {
        self.slots[slot.index()]
    }

    /// The bytes of a slot, whatever they are.
    #[inline]
    pub fn bytes(&self, slot: SlotId) -> &'a [u8] {
        self.slots[slot.index()].bytes(self.bytes, self.arena)
    }

    /// The values that the event has.
    pub fn values(self) -> impl Iterator<Item = Value<'a>> {
        bits(self.present.iter().copied()).map(move |index| self.slots[index].value(self.bytes, self.arena))
    }

    /// The values that the event has and that are not written inside it as it came: those of enrichments, for one. A boolean that
    /// has bytes of the event is spelled there.
    pub fn values_beside_raw(self) -> impl Iterator<Item = Value<'a>> {
        let slots = bits(self.present.iter().copied()).map(move |index| self.slots[index]);
        slots.filter(move |slot| !slot.is_within(self.raw)).map(move |slot| slot.value(self.bytes, self.arena))
    }

    /// Those of `slots` that were set, by index; one that was set to nothing is among them.
    pub fn present(&self, slots: &'a SlotSet) -> impl Iterator<Item = usize> + use<'a> {
        bits(self.present.iter().zip(&slots.words).map(|(present, wanted)| present & wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_used_again_with_all_slots_missing() {
        let sender = Arc::new(Sender { source: "test".into(), source_index: 0 });
        let chunk =
            |frames: usize| Chunk::new(vec![b'x'; frames], (0..frames).map(|at| Span::new(at, at + 1)).collect(), sender.clone(), 0);
        let mut fields = Fields::default();
        let slots: Vec<SlotId> = (0..1_000).map(|number: usize| fields.slot(&number.to_string())).collect();
        let mut events = Events::default();
        for (frames, width) in [(3, 1_000), (5, 1_000), (2, 1_000), (4, 1_000), (4, 999), (6, 7), (6, 7), (2, 129)] {
            let chunk = chunk(frames);
            events.reset(&chunk, width);
            assert_eq!(events.len(), frames);
            for index in 0..frames {
                let event = events.event(&chunk, index);
                assert!((0..width).all(|slot| event.value(slots[slot]) == Value::Missing), "{frames} {width}");
                assert_eq!(event.values().count(), 0);
            }
            for (index, slot) in (0..frames).flat_map(|index| [(index, 0), (index, width - 1), (index, index)]) {
                events.row_mut(&chunk, index).set_text(slots[slot], chunk.frames()[index]);
            }
            events.fill(slots[width / 2], Kind::Text, b"all");
            events.push_alert(frames - 1, 0, 0);
            assert_eq!(events.event(&chunk, frames).value(slots[width / 2]), Value::Text(b"all"));
        }
    }
}
