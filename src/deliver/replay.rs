//! Dead letters, sent again: `records -> batches -> their destination -> which are stored, which refused`.
//!
//! Items are batched anew by the sink's own rules, each partition for itself, and go through [`Destination`] like any
//! other: backoff, splitting of a refused batch, holding. What is refused again is only told: its record stays where it
//! is. The id of a batch follows from its items, so that a replay that is cut off and begun again names its objects as
//! before, where the same items come together.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{Batching, Held, Item, Sealed};
use crate::budget::Budget;
use crate::cursor::{Commit, Journal, Manifest, Verdict};
use crate::deliver::dead_letter::{Letter, Letters, Record};
use crate::deliver::{Destination, Options};
use crate::encode::compress::Compressor;
use crate::error::{Error, ErrorKind};
use crate::event::{AlertKey, Arrival, Chunk, Members, Position, Sender};
use crate::ledger::Waiting;
use crate::metrics::Registry;
use crate::sink::Transport;
use crate::task::LocalFuture;

/// What became of a record, by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has it.
    Stored,
    /// It was refused again, for this reason.
    Refused(String),
}

/// The journal of a replay, and its dead letters: both only take notes. A record's number is its position.
#[derive(Debug, Default)]
struct Notes(RefCell<BTreeMap<u64, Outcome>>);

impl Letters for Notes {
    fn keep(&self, letter: Letter) -> LocalFuture<'_, Result<(), Error>> {
        self.0.borrow_mut().insert(letter.position.sequence, Outcome::Refused(letter.why));
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Journal for Notes {
    fn has_room(&self, _: usize) -> bool {
        true
    }

    fn freed(&self) -> LocalFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn is_filling(&self) -> bool {
        false
    }

    fn append(&self, _: &mut [Chunk]) -> Commit {
        Commit::ready()
    }

    fn flush(&self) -> Commit {
        Commit::ready()
    }

    fn keeps_verdicts(&self) -> bool {
        false
    }

    fn decide(&self, _: Position, _: Verdict) {}

    fn seal<'a>(&'a self, _: usize, _: Manifest<'a>) -> LocalFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn settle(&self, _: usize, _: u128, members: &[Members]) {
        let mut notes = self.0.borrow_mut();
        for member in members.iter().filter(|member| !member.is_empty()) {
            notes.entry(member.chunk.sequence).or_insert(Outcome::Stored);
        }
    }

    fn give_up(&self, _: Position) {}
}

/// Items that will be a batch.
#[derive(Default)]
struct Group {
    items: Vec<(usize, Record, Vec<u8>)>,
    bytes: usize,
}

/// Sends records to one destination.
pub struct Replay {
    destination: Destination,
    batching: Batching,
    groups: BTreeMap<String, Group>,
    waiting_bytes: usize,
    notes: Rc<Notes>,
    budget: Arc<Budget>,
}

impl Replay {
    /// Starts the worker of a destination on the current thread's `LocalSet`.
    pub fn start(name: &str, batching: Batching, transport: Transport) -> Self {
        let notes = Rc::new(Notes::default());
        let destination = Destination::start(Options {
            name: name.to_owned(),
            index: 0,
            batching,
            transport,
            journal: notes.clone(),
            dead_letters: notes.clone(),
            registry: Registry::default(),
            counts: Rc::default(),
        });
        Self { destination, batching, groups: BTreeMap::new(), waiting_bytes: 0, notes, budget: Budget::new(usize::MAX) }
    }

    /// Adds a record; `number` tells it from the others.
    ///
    /// # Errors
    /// It has no data that can be read; the compressor's.
    pub fn add(&mut self, number: usize, record: Record) -> Result<(), Error> {
        let unreadable =
            || Error::new(ErrorKind::Protocol, "replay", "the record's `rawData` is not base64").with("event", &record.event_id);
        let raw = record.raw().ok_or_else(unreadable)?;
        if raw.len() + self.batching.separator.len() > self.batching.item_bytes_max {
            let why = "longer than the destination takes".to_owned();
            self.notes.0.borrow_mut().insert(number as u64, Outcome::Refused(why));
            return Ok(());
        }
        let ends = self.batching.head.len() + self.batching.tail.len();
        let group = self.groups.entry(record.partition.clone()).or_default();
        let bytes = raw.len() + self.batching.separator.len();
        let is_full = group.items.len() >= self.batching.items_max || group.bytes + bytes + ends > self.batching.bytes_max;
        let full = (is_full && !group.items.is_empty()).then(|| std::mem::take(group));
        group.bytes += bytes;
        group.items.push((number, record, raw));
        self.waiting_bytes += bytes;
        full.map_or(Ok(()), |group| self.send(&group))
    }

    /// Bytes that were added since the last time that everything was done with.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Sends what is not a full batch yet.
    ///
    /// # Errors
    /// The compressor's.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.waiting_bytes = 0;
        std::mem::take(&mut self.groups).into_values().try_for_each(|group| self.send(&group))
    }

    /// Waits until everything that was sent is stored or refused.
    pub async fn drained(&self) {
        self.destination.drained().await;
    }

    /// What is known so far, by number.
    pub fn outcomes(&self) -> BTreeMap<u64, Outcome> {
        self.notes.0.borrow().clone()
    }

    /// How many records are stored, and how many refused again.
    pub fn counts(&self) -> (usize, usize) {
        let notes = self.notes.0.borrow();
        let stored = notes.values().filter(|outcome| **outcome == Outcome::Stored).count();
        (stored, notes.len() - stored)
    }

    fn send(&self, group: &Group) -> Result<(), Error> {
        let batch = sealed(&group.items, &self.batching)?;
        self.destination.send(Held { batch, reservation: self.budget.take(group.bytes) });
        Ok(())
    }
}

/// A batch of records, all of one partition.
fn sealed(records: &[(usize, Record, Vec<u8>)], batching: &Batching) -> Result<Sealed, Error> {
    let mut compressor = Compressor::new(batching.codec)?;
    let (mut body, mut plain_bytes) = (Vec::new(), 0);
    let mut write = |bytes: &[u8]| {
        plain_bytes += bytes.len();
        compressor.write(bytes, &mut body).map(|()| plain_bytes as u32)
    };
    write(batching.head)?;
    let (mut items, mut members, mut arrivals) = (Vec::new(), Vec::new(), Vec::new());
    let mut id = [0xcbf2_9ce4_8422_2325_u64, 0x8422_2325_cbf2_9ce4];
    for (index, (number, record, raw)) in records.iter().enumerate() {
        if index > 0 {
            write(batching.separator)?;
        }
        items.push(Item { end: write(raw)?, member: index as u32, frame: 0, is_alert: record.alert });
        let mut member = Members::none(Position { epoch: 0, sequence: *number as u64 }, 1);
        match record.alert {
            true => member.alerts.push(AlertKey { frame: 0, rule: 0 }),
            false => member.insert(0),
        }
        members.push(member);
        arrivals.push(arrival(record));
        // FNV-1a from two beginnings.
        let named = record.event_id.bytes().chain([0]).chain(raw.iter().copied());
        named.for_each(|byte| id = id.map(|hash| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)));
    }
    write(batching.tail)?;
    compressor.finish(&mut body)?;
    let first = records.first().map(|(_, record, _)| record);
    let id = u128::from(id[0]) << 64 | u128::from(id[1]);
    Ok(Sealed {
        id,
        manifest: id,
        plan: first.and_then(|record| u64::from_str_radix(&record.plan_hash, 16).ok()).unwrap_or(0),
        partition: first.map_or("", |record| &record.partition).into(),
        body: Bytes::from(body),
        codec: batching.codec,
        plain_bytes,
        items,
        members,
        oldest_ms: records.iter().map(|(_, record, _)| record.arrival_timestamp).min().unwrap_or(0),
        acknowledgements: Vec::new(),
        arrivals,
        waiting: Waiting::default(),
    })
}

fn arrival(record: &Record) -> Arrival {
    let peer: Option<IpAddr> = record.sender.as_deref().and_then(|sender| sender.parse().ok());
    let sender = Arc::new(Sender { source: record.source.as_str().into(), source_index: 0 });
    Arrival { received_ms: record.arrival_timestamp, sender, peers: Arc::new(peer.map(|peer| (0, peer)).into_iter().collect()) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::deliver::dead_letter::Reason;
    use crate::encode::compress::{Codec, decompress};
    use crate::event::Position;
    use crate::net::http_client::{Answer, ClientOptions};
    use crate::sink::{Client, Exchange, Http, Step};
    use tokio::task::LocalSet;

    const BATCHING: Batching = Batching {
        bytes_max: 40,
        items_max: 100,
        item_bytes_max: 20,
        interval: Duration::from_secs(1),
        codec: Codec::GZIP_FAST,
        head: b"[",
        separator: b",",
        tail: b"]",
    };

    /// Takes batches that have nothing bad in them, and refuses others as a whole.
    #[derive(Default)]
    struct Fussy {
        taken: RefCell<Vec<Batch>>,
    }

    impl Client for Fussy {
        fn write<'a>(&'a self, batch: &'a Sealed) -> LocalFuture<'a, Step> {
            let text = String::from_utf8(decompress(batch.codec, &batch.body, batch.plain_bytes).unwrap()).unwrap();
            let step = if text.contains("bad") { Step::Rejected("it is bad".into()) } else { Step::Stored };
            if matches!(step, Step::Stored) {
                self.taken.borrow_mut().push((batch.partition.to_string(), text, batch.id));
            }
            Box::pin(std::future::ready(step))
        }
    }

    fn record(raw: &str, partition: &str, is_alert: bool) -> Record {
        let letter = Letter {
            position: Position { epoch: 7, sequence: raw.len() as u64 },
            arrival_ms: 1000,
            source: "fw".into(),
            peer: Some([192, 0, 2, 7].into()),
            plan: 0xabc,
            partition: partition.into(),
            raw: raw.as_bytes().to_vec(),
            is_alert,
            reason: Reason::Refused(Some(400)),
            why: "no".into(),
            attempts: 2,
        };
        Record::new(&letter, "siem", "http")
    }

    /// Partition, body and id of a batch.
    type Batch = (String, String, u128);

    fn replayed(records: &[Record]) -> (Vec<Batch>, BTreeMap<u64, Outcome>) {
        let fussy = Rc::new(Fussy::default());
        let client = fussy.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcomes = LocalSet::new().block_on(&runtime, async move {
            let mut replay = Replay::start("siem", BATCHING, Transport::Client(client));
            records.iter().enumerate().for_each(|(number, record)| replay.add(number, record.clone()).unwrap());
            replay.flush().unwrap();
            replay.drained().await;
            replay.outcomes()
        });
        let mut taken = fussy.taken.borrow().clone();
        taken.sort();
        (taken, outcomes)
    }

    #[test]
    fn records_are_batched_by_the_rules_of_the_sink_and_bad_ones_are_found_again() {
        let long = "x".repeat(20);
        let records = [("one", "p", false), ("bad", "p", true), (&long, "p", false), ("two", "q", true), ("three", "p", true)]
            .map(|(raw, partition, is_alert)| record(raw, partition, is_alert));
        let (taken, outcomes) = replayed(&records);
        let bodies: Vec<(&str, &str)> = taken.iter().map(|(partition, body, _)| (partition.as_str(), body.as_str())).collect();
        assert_eq!(bodies, [("p", "[one]"), ("p", "[three]"), ("q", "[two]")]);
        let refused = |why: &str| Outcome::Refused(why.into());
        let expected =
            [Outcome::Stored, refused("it is bad"), refused("longer than the destination takes"), Outcome::Stored, Outcome::Stored];
        assert_eq!(outcomes, (0..).zip(expected).collect());
        assert_eq!(replayed(&records).0, taken, "the same batches have the same names again");
    }

    /// Partition `p` is not due for an hour.
    #[derive(Default)]
    struct Patient {
        told: Rc<RefCell<Vec<String>>>,
        is_last: Rc<std::cell::Cell<bool>>,
    }

    impl Http for Patient {
        fn begin(&self, batch: &Sealed) -> Box<dyn Exchange> {
            let (told, is_last) = (self.told.clone(), self.is_last.clone());
            Box::new(Turn { partition: batch.partition.to_string(), told, is_last })
        }

        fn hurry(&self) {
            self.is_last.set(true);
        }
    }

    struct Turn {
        partition: String,
        told: Rc<RefCell<Vec<String>>>,
        is_last: Rc<std::cell::Cell<bool>>,
    }

    impl Exchange for Turn {
        fn next(&mut self, _: Option<&Answer>) -> Step {
            if self.partition == "p" && !self.is_last.get() {
                return Step::Later(Duration::from_secs(3600));
            }
            self.told.borrow_mut().push(self.partition.clone());
            Step::Stored
        }
    }

    #[test]
    fn a_batch_that_is_not_due_lets_others_go_first_and_goes_out_when_no_more_come() {
        let patient = Rc::new(Patient::default());
        let told = patient.told.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let mut replay = Replay::start("people", BATCHING, Transport::Http(patient, ClientOptions::default()));
            for (number, partition) in ["p", "q", "r"].into_iter().enumerate() {
                replay.add(number, record("one", partition, true)).unwrap();
                replay.flush().unwrap();
            }
            // One batch at a time is under way at first.
            while told.borrow().len() < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(*told.borrow(), ["q", "r"]);
            assert!(replay.destination.queued_bytes() > 0 && replay.destination.pending() == 1);
            replay.drained().await;
        });
        assert_eq!(*told.borrow(), ["q", "r", "p"]);
    }

    #[test]
    fn a_batch_is_as_large_as_the_sink_allows() {
        let records: Vec<Record> = (10..20).map(|index| record(&format!("item-{index}"), "", false)).collect();
        let (taken, outcomes) = replayed(&records);
        assert_eq!((taken.len(), outcomes.len()), (3, 10));
        assert!(taken.iter().all(|(_, body, _)| body.len() <= BATCHING.bytes_max), "{taken:?}");
        assert!(outcomes.values().all(|outcome| *outcome == Outcome::Stored));
    }
}
