//! What is gathered, on its way, done: `records in, batches out, outcomes in, offsets to commit out`.
//!
//! No I/O: [`super::consumer`] drives it. Records are gathered to batches of a chunk's size, over all partitions. A
//! batch that failed ends the consumer's session, and with it every partition's stay: what is not committed is read
//! again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::mark::Mark;
use super::{Messages, Refused};
use crate::event::{Origin, OriginField, Span};
use crate::limits::{CHUNK_PADDING_BYTES, CHUNK_TARGET_BYTES, INFLATED_BYTES_MAX};

/// Bytes of batches that wait for room or for their outcome: a hundred chunks, so that waiting for a disk's sync does
/// not slow the reading down; with what librdkafka has fetched it is what a source may hold beside the memory budget.
const FLIGHT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Batches on their way: those of single records are small.
const FLIGHT_BATCHES_MAX: usize = 4096;

/// Longest record; what is longer than `frame_bytes_max` is cut by the framer. Together with a batch it fits a chunk.
const RECORD_BYTES_MAX: usize = INFLATED_BYTES_MAX;

/// How often a partition is asked whether a gap in its offsets is a loss: compaction and transactions leave gaps too.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often one kind of trouble is logged. Every one is counted.
const ALARM_INTERVAL: Duration = Duration::from_secs(60);

/// From the thread that reads to the shard.
#[derive(Debug)]
pub(super) enum Event {
    /// Records to take.
    Batch { number: u64, messages: Messages },
    /// Things to count, by reason.
    Refused(&'static str, u64),
}

/// From the shard: what became of a batch.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) number: u64,
    pub(super) result: Result<(), Refused>,
}

/// What is known of where a partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// The group has an offset.
    Committed(i64),
    /// It has none; we chose one, which it shall remember.
    Chosen(i64),
    /// The broker will say.
    Unknown,
}

/// Offsets that did not come.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// The first that is missing.
    pub(super) from: i64,
    /// The first that came.
    pub(super) to: i64,
}

struct Partition {
    topic: Arc<str>,
    number: i32,
    origin: Arc<Origin>,
    mark: Mark,
    /// The offset that comes next.
    next: Option<i64>,
    /// The batch that is being gathered has its records before this offset.
    gathered: Option<i64>,
    looked: Option<Instant>,
}

impl Partition {
    fn is(&self, topic: &str, number: i32) -> bool {
        self.number == number && *self.topic == *topic
    }
}

/// The books of all partitions that are ours now.
pub(super) struct Progress {
    partitions: Vec<Partition>,
    /// Index of the partition of the last record: most come in runs.
    last: usize,
    pending: Messages,
    tombstones: u64,
    empty: u64,
    /// When the first record of the pending batch came.
    since: Option<Instant>,
    given: UnboundedSender<Event>,
    next_batch: u64,
    /// Bytes of the batches that are on their way.
    flight: HashMap<u64, usize>,
    flight_bytes: usize,
    failed: Option<Refused>,
    /// Nothing is fetched.
    pub(super) is_paused: bool,
    alarms: HashMap<&'static str, Instant>,
}

impl Progress {
    /// Books without partitions.
    pub(super) fn new(given: UnboundedSender<Event>) -> Self {
        Self {
            partitions: Vec::new(),
            last: 0,
            pending: Messages::default(),
            tombstones: 0,
            empty: 0,
            since: None,
            given,
            next_batch: 0,
            flight: HashMap::new(),
            flight_bytes: 0,
            failed: None,
            is_paused: false,
            alarms: HashMap::new(),
        }
    }

    /// A partition is ours from now on.
    pub(super) fn assign(&mut self, topic: &str, number: i32, begin: Begin) {
        self.forget(topic, number);
        let (mark, next) = match begin {
            Begin::Committed(offset) => (Mark::at(Some(offset)), Some(offset)),
            Begin::Chosen(offset) => (Mark::from(offset), Some(offset)),
            Begin::Unknown => (Mark::at(None), None),
        };
        let origin = Origin::default().with(OriginField::Topic, topic).with(OriginField::Partition, number.to_string());
        self.partitions.push(Partition { topic: topic.into(), number, origin: Arc::new(origin), mark, next, gathered: None, looked: None });
    }

    /// A partition is no longer ours. What is on its way of it is not committed any more. The pending batch is given or
    /// dropped before.
    pub(super) fn forget(&mut self, topic: &str, number: i32) {
        self.partitions.retain(|partition| !partition.is(topic, number));
    }

    /// No partition is ours, nothing is pending, nothing has failed: a session begins or ends.
    pub(super) fn reset(&mut self) {
        self.drop_pending();
        self.partitions.clear();
        self.failed = None;
        self.is_paused = false;
    }

    /// Takes a record up. Says so if offsets before it are missing.
    pub(super) fn record(&mut self, topic: &str, number: i32, offset: i64, payload: Option<&[u8]>) -> Option<Gap> {
        if !self.partitions.get(self.last).is_some_and(|partition| partition.is(topic, number)) {
            // One that is not ours any more is read by its new owner.
            self.last = self.partitions.iter().position(|partition| partition.is(topic, number))?;
        }
        let partition = self.partitions.get_mut(self.last)?;
        let missing = partition.next.filter(|next| offset > *next);
        if partition.next.is_some_and(|next| offset < next) {
            tracing::warn!(topic, partition = number, offset, expected = partition.next, "the offsets of a partition went back");
        }
        partition.next = Some(offset + 1);
        partition.gathered = Some(offset + 1);
        let origin = partition.origin.clone();
        let is_due = missing.is_some() && partition.looked.is_none_or(|looked| looked.elapsed() >= LOOK_INTERVAL);
        if is_due {
            partition.looked = Some(Instant::now());
        }
        let gap = missing.filter(|_| is_due).map(|from| Gap { topic: partition.topic.clone(), partition: number, from, to: offset });
        self.since.get_or_insert_with(Instant::now);
        match payload {
            None => self.tombstones += 1,
            Some([]) => self.empty += 1,
            Some(payload) if payload.len() > RECORD_BYTES_MAX => {
                tracing::warn!(topic, partition = number, offset, bytes = payload.len(), "a record is too large and left out");
                self.count("too_large", 1);
            }
            Some(payload) => self.append(payload, origin),
        }
        gap
    }

    fn append(&mut self, payload: &[u8], origin: Arc<Origin>) {
        let Messages { bytes, spans, origins, .. } = &mut self.pending;
        if bytes.capacity() == 0 {
            bytes.reserve(CHUNK_TARGET_BYTES + CHUNK_PADDING_BYTES);
        }
        if origins.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, &origin)) {
            origins.push((spans.len() as u32, origin));
        }
        let start = bytes.len();
        bytes.extend_from_slice(payload);
        spans.push(Span::new(start, bytes.len()));
    }

    /// When the first record of the pending batch came; `None` if there is none.
    pub(super) fn pending_since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether the pending batch has the size of a chunk.
    pub(super) fn is_full(&self) -> bool {
        self.pending.bytes.len() >= CHUNK_TARGET_BYTES
    }

    /// Gives the pending batch to the shard.
    pub(super) fn give(&mut self) {
        if self.since.take().is_none() {
            return;
        }
        let (number, mut messages) = (self.next_batch, std::mem::take(&mut self.pending));
        self.next_batch += 1;
        for partition in &mut self.partitions {
            if let Some(next) = partition.gathered.take() {
                partition.mark.given(number, next);
            }
        }
        let (tombstones, empty) = (std::mem::take(&mut self.tombstones), std::mem::take(&mut self.empty));
        self.count("tombstone", tombstones);
        self.count("empty", empty);
        if messages.spans.is_empty() {
            self.partitions.iter_mut().for_each(|partition| partition.mark.done(number));
            return;
        }
        let bytes = messages.bytes.len();
        if bytes < messages.bytes.capacity() / 2 {
            // A trickle's batches would each count as a full one in the memory budget.
            messages.bytes.shrink_to(bytes + CHUNK_PADDING_BYTES);
        }
        self.flight.insert(number, bytes);
        self.flight_bytes += bytes;
        // An error means that the shard has ended, of which the thread is told by its stop.
        let _ = self.given.send(Event::Batch { number, messages });
    }

    /// Drops the pending batch: it is read again, by us or another.
    pub(super) fn drop_pending(&mut self) {
        self.since = None;
        self.pending = Messages::default();
        (self.tombstones, self.empty) = (0, 0);
        self.partitions.iter_mut().for_each(|partition| partition.gathered = None);
    }

    /// Takes down what became of a batch.
    pub(super) fn settle(&mut self, outcome: &Outcome) {
        if let Some(bytes) = self.flight.remove(&outcome.number) {
            self.flight_bytes -= bytes;
        }
        match outcome.result {
            Ok(()) => self.partitions.iter_mut().for_each(|partition| partition.mark.done(outcome.number)),
            Err(refused) => self.failed = self.failed.or(Some(refused)),
        }
    }

    /// Why a batch was not taken, if one was not.
    pub(super) fn failed(&self) -> Option<Refused> {
        self.failed
    }

    /// Whether one more batch may go on its way.
    pub(super) fn has_room(&self) -> bool {
        self.flight.is_empty() || self.flight.len() < FLIGHT_BATCHES_MAX && self.flight_bytes + self.pending.bytes.len() <= FLIGHT_BYTES_MAX
    }

    /// Whether so many batches are done that reading may begin again after a pause, which costs what was fetched ahead.
    pub(super) fn has_much_room(&self) -> bool {
        self.flight.len() <= FLIGHT_BATCHES_MAX / 2 && self.flight_bytes <= FLIGHT_BYTES_MAX / 2
    }

    /// Whether nothing of these partitions is on its way.
    pub(super) fn is_idle(&self, places: &[(String, i32)]) -> bool {
        let is_meant = |partition: &&Partition| places.iter().any(|(topic, number)| partition.is(topic, *number));
        self.partitions.iter().filter(is_meant).all(|partition| partition.mark.is_idle())
    }

    /// Every partition that is ours.
    pub(super) fn places(&self) -> Vec<(String, i32)> {
        self.partitions.iter().map(|partition| (partition.topic.to_string(), partition.number)).collect()
    }

    /// Offsets to commit that the group was not asked to remember yet.
    pub(super) fn take_commits(&mut self) -> Vec<(Arc<str>, i32, i64)> {
        let commit = |partition: &mut Partition| Some((partition.topic.clone(), partition.number, partition.mark.take_commit()?));
        self.partitions.iter_mut().filter_map(commit).collect()
    }

    /// The group did not remember a partition's offset.
    pub(super) fn was_refused(&mut self, topic: &str, number: i32) {
        let partition = self.partitions.iter_mut().find(|partition| partition.is(topic, number));
        partition.into_iter().for_each(|partition| partition.mark.was_refused());
    }

    /// Counts something.
    pub(super) fn count(&self, reason: &'static str, count: u64) {
        if count > 0 {
            // As in `give`.
            let _ = self.given.send(Event::Refused(reason, count));
        }
    }

    /// Counts trouble, and logs it unless that was done a moment ago.
    pub(super) fn alarm(&mut self, reason: &'static str, text: &str) {
        self.count(reason, 1);
        let is_old = |last: &Instant| last.elapsed() >= ALARM_INTERVAL;
        if self.alarms.get(reason).is_none_or(is_old) {
            self.alarms.insert(reason, Instant::now());
            tracing::warn!(reason, "Kafka: {text}; it is tried again");
        }
    }

    /// Records come: what was wrong is over.
    pub(super) fn all_clear(&mut self) {
        if !self.alarms.is_empty() {
            self.alarms.clear();
            tracing::info!("Kafka: records come again");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    fn progress() -> (Progress, UnboundedReceiver<Event>) {
        let (given, events) = unbounded_channel();
        (Progress::new(given), events)
    }

    fn commits(progress: &mut Progress) -> Vec<(String, i32, i64)> {
        progress.take_commits().into_iter().map(|(topic, number, offset)| (topic.to_string(), number, offset)).collect()
    }

    fn batch(events: &mut UnboundedReceiver<Event>) -> (u64, Messages) {
        match events.try_recv() {
            Ok(Event::Batch { number, messages }) => (number, messages),
            other => panic!("{other:?}"),
        }
    }

    fn done(number: u64) -> Outcome {
        Outcome { number, result: Ok(()) }
    }

    #[test]
    fn a_batch_says_where_its_records_come_from_and_is_committed_when_it_is_done() {
        let (mut progress, mut events) = progress();
        progress.assign("a", 0, Begin::Unknown);
        progress.assign("a", 1, Begin::Committed(7));
        for (number, offset, text) in [(0, 0, "one"), (0, 1, "two"), (1, 7, "three"), (0, 2, "four")] {
            assert_eq!(progress.record("a", number, offset, Some(text.as_bytes())), None);
        }
        assert!(commits(&mut progress).is_empty());
        progress.give();
        let (number, messages) = batch(&mut events);
        let texts: Vec<_> = messages.spans.iter().map(|span| span.of(&messages.bytes)).collect();
        assert_eq!(texts, [&b"one"[..], b"two", b"three", b"four"]);
        let runs: Vec<_> = messages.origins.iter().map(|(first, origin)| (*first, origin.value(OriginField::Partition).unwrap())).collect();
        assert_eq!(runs, [(0, "0"), (2, "1"), (3, "0")]);
        assert!(messages.origins.iter().all(|(_, origin)| origin.value(OriginField::Topic) == Some("a")));
        assert!(commits(&mut progress).is_empty() && !progress.is_idle(&[("a".into(), 1)]));
        progress.settle(&done(number));
        assert_eq!(commits(&mut progress), [("a".into(), 0, 3), ("a".into(), 1, 8)]);
        assert!(progress.is_idle(&progress.places()));
        progress.give();
        assert!(events.try_recv().is_err(), "an empty batch was given");
    }

    #[test]
    fn tombstones_and_empty_records_are_counted_and_committed() {
        let (mut progress, mut events) = progress();
        progress.assign("a", 0, Begin::Unknown);
        progress.record("a", 0, 4, None);
        progress.record("a", 0, 5, Some(b""));
        progress.give();
        assert!(matches!(events.try_recv(), Ok(Event::Refused("tombstone", 1))));
        assert!(matches!(events.try_recv(), Ok(Event::Refused("empty", 1))));
        assert!(events.try_recv().is_err());
        assert_eq!(commits(&mut progress), [("a".into(), 0, 6)]);
    }

    #[test]
    fn a_tombstone_behind_records_waits_for_them() {
        let (mut progress, mut events) = progress();
        progress.assign("a", 0, Begin::Unknown);
        progress.record("a", 0, 0, Some(b"x"));
        progress.give();
        progress.record("a", 0, 1, None);
        progress.give();
        assert!(commits(&mut progress).is_empty());
        progress.settle(&done(batch(&mut events).0));
        assert_eq!(commits(&mut progress), [("a".into(), 0, 2)]);
    }

    #[test]
    fn a_partition_that_comes_back_is_not_committed_by_what_was_on_its_way_before() {
        let (mut progress, mut events) = progress();
        progress.assign("a", 0, Begin::Committed(0));
        progress.record("a", 0, 0, Some(b"x"));
        progress.give();
        let (number, _) = batch(&mut events);
        progress.forget("a", 0);
        assert_eq!(progress.record("a", 0, 1, Some(b"not ours")), None);
        progress.assign("a", 0, Begin::Committed(0));
        progress.settle(&done(number));
        assert!(commits(&mut progress).is_empty());
        assert!(progress.has_much_room());
    }

    #[test]
    fn a_batch_that_was_not_taken_ends_the_session_and_is_not_committed() {
        let (mut progress, mut events) = progress();
        progress.assign("a", 0, Begin::Committed(0));
        for offset in 0..2 {
            progress.record("a", 0, offset, Some(b"x"));
            progress.give();
        }
        let numbers = [batch(&mut events).0, batch(&mut events).0];
        progress.settle(&Outcome { number: numbers[0], result: Err(Refused::NotStored) });
        progress.settle(&done(numbers[1]));
        assert_eq!(progress.failed(), Some(Refused::NotStored));
        assert!(commits(&mut progress).is_empty());
        progress.reset();
        assert_eq!(progress.failed(), None);
    }

    #[test]
    fn gaps_are_told_once_a_second_and_only_behind_a_known_offset() {
        let (mut progress, _events) = progress();
        progress.assign("a", 0, Begin::Unknown);
        progress.assign("a", 1, Begin::Committed(3));
        assert_eq!(progress.record("a", 0, 100, Some(b"x")), None);
        assert_eq!(progress.record("a", 0, 101, Some(b"x")), None);
        let gap = progress.record("a", 1, 50, Some(b"x"));
        assert_eq!(gap, Some(Gap { topic: "a".into(), partition: 1, from: 3, to: 50 }));
        assert_eq!(progress.record("a", 1, 90, Some(b"x")), None, "told a moment ago");
        assert_eq!(progress.record("a", 0, 50, Some(b"x")), None, "an offset that went back is no gap");
    }

    #[test]
    fn what_is_on_its_way_is_bounded() {
        let (mut progress, mut events) = progress();
        progress.assign("a", 0, Begin::Unknown);
        let payload = vec![b'x'; CHUNK_TARGET_BYTES];
        let mut given = 0;
        while progress.has_room() {
            progress.record("a", 0, given, Some(&payload));
            assert!(progress.is_full() && progress.pending_since().is_some());
            progress.give();
            given += 1;
        }
        assert!((given as usize - 1) * CHUNK_TARGET_BYTES <= FLIGHT_BYTES_MAX && !progress.has_much_room());
        while !progress.has_much_room() {
            progress.settle(&done(batch(&mut events).0));
        }
        assert!(progress.has_room());
    }
}
