//! Against the brokers that librdkafka brings for tests: real connections, groups and offsets. tests/real/kafka.py has a
//! broker of somebody else.

use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::config::Section;
use crate::event::{Origin, OriginField};
use crate::source::Refused;
use crate::source::kafka::progress::Event;
use crate::task::{self, Stopper};

const TOPIC: &str = "firewall";
const PARTITIONS: i32 = 2;

/// Longer than any of this takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(240);

struct Brokers(MockCluster<'static, DefaultProducerContext>);

impl Brokers {
    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
        Self(cluster)
    }

    /// Puts records with the given texts into a partition.
    fn produce(&self, partition: i32, texts: impl Iterator<Item = String>) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.0.bootstrap_servers()).set("linger.ms", "5").set("compression.type", "none");
        let producer: BaseProducer = config.create().unwrap();
        for text in texts {
            let record: BaseRecord<'_, (), String> = BaseRecord::to(TOPIC).partition(partition).payload(&text);
            producer.send(record).map_err(|(error, _)| error).unwrap();
            producer.poll(Duration::ZERO);
        }
        producer.flush(PATIENCE).unwrap();
    }

    /// What the group has committed, by partition.
    fn committed(&self) -> Vec<Offset> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.0.bootstrap_servers()).set("group.id", "g");
        let asking: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_range(TOPIC, 0, PARTITIONS - 1);
        let list = asking.committed_offsets(list, PATIENCE).unwrap();
        list.elements().iter().map(|place| place.offset()).collect()
    }

    fn wait_for_commits(&self, wanted: [i64; PARTITIONS as usize]) {
        let wanted = wanted.map(Offset::Offset);
        let deadline = Instant::now() + PATIENCE;
        while self.committed() != wanted {
            assert!(Instant::now() < deadline, "{:?}, expected {wanted:?}", self.committed());
            std::thread::sleep(IDLE);
        }
    }
}

/// A consumer on its thread, and the other ends of its channels.
struct Member {
    events: UnboundedReceiver<Event>,
    outcomes: Sender<Outcome>,
    stopper: Stopper,
    thread: JoinHandle<Result<(), KafkaError>>,
    refused: Vec<(&'static str, u64)>,
}

impl Member {
    fn new(brokers: &str, more: &str) -> Self {
        Self::with_session(brokers, 6, more)
    }

    fn with_session(brokers: &str, seconds: u64, more: &str) -> Self {
        let text = format!("{{ brokers: ['{brokers}'], topics: [{TOPIC}], group_id: g, session_timeout: {seconds}s{more} }}");
        let settings = Settings::read(&Section::parse(Path::new("t.yaml"), &text).unwrap()).unwrap();
        let (given, events) = unbounded_channel();
        let (outcomes, settled) = mpsc::channel();
        let (stopper, stop) = task::pair();
        let consumer = Consumer::new(settings, Progress::new(given), settled, stop);
        Self { events, outcomes, stopper, thread: std::thread::spawn(move || consumer.run()), refused: Vec::new() }
    }

    /// The next batch: its number, and its records as (partition, text).
    fn batch(&mut self) -> (u64, Vec<(String, String)>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no batch; refused: {:?}", self.refused);
            match self.events.try_recv() {
                Ok(Event::Refused(reason, count)) => self.refused.push((reason, count)),
                Ok(Event::Batch { number, messages }) => {
                    let partition = |index: usize| {
                        let run = messages.origins.iter().rfind(|(first, _)| *first as usize <= index);
                        let origin: &Origin = &run.unwrap().1;
                        origin.value(OriginField::Partition).unwrap().to_owned()
                    };
                    let text = |span: &crate::event::Span| String::from_utf8(span.of(&messages.bytes).to_vec()).unwrap();
                    let records = messages.spans.iter().enumerate().map(|(index, span)| (partition(index), text(span)));
                    return (number, records.collect());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Batches with so many records together.
    fn batches(&mut self, records: usize) -> (Vec<u64>, Vec<(String, String)>) {
        let (mut numbers, mut all) = (Vec::new(), Vec::new());
        while all.len() < records {
            let (number, mut more) = self.batch();
            numbers.push(number);
            all.append(&mut more);
        }
        (numbers, all)
    }

    fn wait_for_refused(&mut self, wanted: &str) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Ok(event) = self.events.try_recv() {
                if let Event::Refused(reason, count) = event {
                    self.refused.push((reason, count));
                }
            }
            if let Some((_, count)) = self.refused.iter().find(|(reason, _)| *reason == wanted) {
                return *count;
            }
            assert!(Instant::now() < deadline, "never counted: {wanted}; {:?}", self.refused);
            std::thread::sleep(IDLE);
        }
    }

    fn done(&self, number: u64) {
        self.outcomes.send(Outcome { number, result: Ok(()) }).unwrap();
    }

    fn stop(self) {
        self.stopper.stop();
        self.thread.join().unwrap().unwrap();
    }
}

fn texts(name: &str, count: usize) -> Vec<(String, String)> {
    (0..count).map(|number| (name.to_owned(), format!("{name}-{number}"))).collect()
}

fn sorted(mut records: Vec<(String, String)>) -> Vec<(String, String)> {
    records.sort();
    records
}

fn all() -> Vec<(String, String)> {
    sorted(texts("0", 300).into_iter().chain(texts("1", 200)).collect())
}

fn filled() -> Brokers {
    let brokers = Brokers::new();
    brokers.produce(0, texts("0", 300).into_iter().map(|(_, text)| text));
    brokers.produce(1, texts("1", 200).into_iter().map(|(_, text)| text));
    brokers
}

#[test]
fn nothing_is_committed_before_it_is_done_and_everything_is_afterwards() {
    let brokers = filled();
    let mut member = Member::new(&brokers.0.bootstrap_servers(), "");
    let (numbers, records) = member.batches(500);
    assert_eq!(sorted(records), all());
    std::thread::sleep(2 * COMMIT_INTERVAL);
    assert_eq!(brokers.committed(), [Offset::Invalid; 2]);
    numbers.iter().rev().for_each(|number| member.done(*number));
    brokers.wait_for_commits([300, 200]);
    member.stop();
    let mut next = Member::new(&brokers.0.bootstrap_servers(), "");
    brokers.produce(1, std::iter::once("new".to_owned()));
    assert_eq!(next.batch().1, [("1".to_owned(), "new".to_owned())]);
    next.stop();
}

#[test]
fn a_stop_commits_what_is_done_and_leaves_the_rest() {
    let brokers = filled();
    let mut member = Member::new(&brokers.0.bootstrap_servers(), "");
    let (numbers, records) = member.batches(500);
    let (first, rest) = numbers.split_first().unwrap();
    member.done(*first);
    member.stop();
    let committed = brokers.committed();
    let done: i64 = committed.iter().map(|offset| if let Offset::Offset(offset) = offset { *offset } else { 0 }).sum();
    assert!(done > 0 && (rest.is_empty() || done < 500), "{committed:?}");
    let mut next = Member::new(&brokers.0.bootstrap_servers(), "");
    let mut again = if done < 500 { next.batches(500 - done as usize).1 } else { Vec::new() };
    let seen_before = again.iter().all(|record| records.contains(record));
    assert!(seen_before);
    again.truncate(500);
    assert_eq!(again.len(), 500 - done as usize);
    next.stop();
}

#[test]
fn a_batch_that_was_not_taken_is_read_again() {
    let brokers = filled();
    let mut member = Member::new(&brokers.0.bootstrap_servers(), "");
    let (numbers, _) = member.batches(500);
    for number in numbers {
        member.outcomes.send(Outcome { number, result: Err(Refused::NotStored) }).unwrap();
    }
    let (numbers, records) = member.batches(500);
    assert_eq!(sorted(records), all());
    numbers.into_iter().for_each(|number| member.done(number));
    brokers.wait_for_commits([300, 200]);
    assert_eq!(member.wait_for_refused("not_stored"), 1);
    member.stop();
}

#[test]
fn a_second_member_reads_on_where_the_first_has_committed() {
    let brokers = filled();
    let mut first = Member::new(&brokers.0.bootstrap_servers(), "");
    let (numbers, records) = first.batches(500);
    assert_eq!(sorted(records), all());
    numbers.into_iter().for_each(|number| first.done(number));
    // A group that is being rebalanced may refuse commits, and what it refuses is read again.
    brokers.wait_for_commits([300, 200]);
    let mut second = Member::new(&brokers.0.bootstrap_servers(), "");
    // Until then it may be either's; a record a partition, until each has its own.
    let deadline = Instant::now() + PATIENCE;
    let mut turn = 0;
    let taken = loop {
        assert!(Instant::now() < deadline, "the second member was given nothing");
        (0..PARTITIONS).for_each(|partition| brokers.produce(partition, std::iter::once(format!("later-{turn}"))));
        turn += 1;
        std::thread::sleep(5 * IDLE);
        while let Ok(event) = first.events.try_recv() {
            if let Event::Batch { number, .. } = event {
                first.done(number);
            }
        }
        if let Ok(Event::Batch { number, messages }) = second.events.try_recv() {
            second.done(number);
            break messages;
        }
    };
    let begins_with = taken.spans[0].of(&taken.bytes);
    assert!(begins_with.starts_with(b"later-"), "the second member read again what the first had done");
    first.stop();
    second.stop();
}

#[test]
fn a_member_without_room_pauses_and_stays_in_the_group() {
    let brokers = Brokers::new();
    let text = "x".repeat(900_000);
    // A machine that is busy with other tests must not be what ends the session.
    let session_s = 20;
    let mut member = Member::with_session(&brokers.0.bootstrap_servers(), session_s, "");
    let mut numbers = Vec::new();
    // The brokers keep five megabytes a partition: they are given no more than is read, but for the last four.
    let (bound, produced) = (38, 42);
    for turn in 0..produced {
        brokers.produce(turn % 2, std::iter::once(format!("{turn:04}{text}")));
        if turn < bound {
            numbers.push(member.batch());
        }
    }
    // Four records are behind the bound; longer than a session without a heartbeat would live.
    std::thread::sleep(Duration::from_secs(session_s + 3));
    let mut seen: Vec<String> = numbers.iter().flat_map(|(_, records)| records.iter().map(|(_, text)| text[..4].to_owned())).collect();
    for (number, _) in numbers.drain(..) {
        member.done(number);
    }
    while seen.len() < produced as usize {
        let (number, records) = member.batch();
        member.done(number);
        seen.extend(records.into_iter().map(|(_, text)| text[..4].to_owned()));
    }
    let wanted: Vec<String> = (0..produced).map(|turn| format!("{turn:04}")).collect();
    seen.sort();
    assert_eq!(seen, wanted, "each once: nobody has read anything again");
    brokers.wait_for_commits([21, 21]);
    member.stop();
}

#[test]
fn records_that_were_deleted_unread_are_counted() {
    let brokers = filled();
    let mut member = Member::new(&brokers.0.bootstrap_servers(), "");
    member.batches(500).0.into_iter().for_each(|number| member.done(number));
    brokers.wait_for_commits([300, 200]);
    member.stop();
    // The brokers keep five megabytes a partition.
    let text = "x".repeat(100_000);
    brokers.produce(0, (0..80).map(|number| format!("{number:02}{text}")));
    let mut next = Member::new(&brokers.0.bootstrap_servers(), "");
    let (_, records) = next.batch();
    let first: u64 = records[0].1[..2].parse().unwrap();
    assert!(first > 0, "nothing was deleted");
    assert_eq!(next.wait_for_refused("deleted_unread"), first);
    next.stop();
}

#[test]
fn latest_begins_at_the_end_and_remembers_it() {
    let brokers = filled();
    let member = Member::new(&brokers.0.bootstrap_servers(), ", start: latest");
    brokers.wait_for_commits([300, 200]);
    member.stop();
    brokers.produce(1, std::iter::once("while nobody read".to_owned()));
    let mut next = Member::new(&brokers.0.bootstrap_servers(), ", start: latest");
    assert_eq!(next.batch().1, [("1".to_owned(), "while nobody read".to_owned())]);
    next.stop();
}

#[test]
fn a_broker_that_is_away_is_counted_and_waited_for() {
    let mut member = Member::new("127.0.0.1:1", "");
    member.wait_for_refused("broker");
    assert!(!member.thread.is_finished());
    member.stop();
}

#[test]
fn a_commit_that_is_refused_is_tried_again() {
    let brokers = filled();
    let mut member = Member::new(&brokers.0.bootstrap_servers(), "");
    let numbers = member.batches(500).0;
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
    brokers.0.request_errors(rdkafka::types::RDKafkaApiKey::OffsetCommit, &[refused]);
    numbers.into_iter().for_each(|number| member.done(number));
    brokers.wait_for_commits([300, 200]);
    member.wait_for_refused("commit");
    member.stop();
}

#[test]
fn settings_of_no_use_end_the_source_with_their_reason() {
    let member = Member::new("127.0.0.1:1", ", tls: { ca: /nonexistent.pem }");
    let error = member.thread.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("ssl.ca.location"), "{error}");
}
