//! The thread that speaks with the brokers: `a group's partitions in, batches out; outcomes in, commits out`.
//!
//! librdkafka has threads of its own; this one polls it, and its call-backs (assignment, revocation, errors) run here,
//! inside [`BaseConsumer::poll`]. A session is one consumer's life; it ends at a stop, with a batch that was not taken,
//! or with an error that librdkafka calls fatal, and all but the stop begin a new one.
//!
//! While there is no room for batches nothing is polled, and after [`BLOCKED_MAX`] the partitions are paused and polled
//! again, so that we stay in the group however long it takes (librdkafka, INTRODUCTION.md, "Consumer": `max.poll.interval.ms`).
//!
//! Commits are waited for: librdkafka tells nobody what became of one that is not, unless a C call-back is set, which this
//! crate does not do. A coordinator that is away thus holds the reading up for as long as a session lasts; it would end the
//! session anyway.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::progress::{Begin, Gap, Outcome, Progress};
use super::settings::{Settings, Start};
use crate::task::Stop;

/// How long a poll waits for a first record; a stop is seen between two.
const IDLE: Duration = Duration::from_millis(100);

/// How long the first record of a batch waits for others.
const GATHER_INTERVAL: Duration = Duration::from_millis(5);

/// Time without room after which partitions are paused: that drops what was fetched ahead, so that a short wait must
/// not do it.
const BLOCKED_MAX: Duration = Duration::from_secs(1);

/// How often offsets are committed: what a crash reads again is what came in this time.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a revocation, and a session's end, waits for batches that are on their way: longer than a disk's sync,
/// shorter than the others of the group would like to wait.
const OUTCOME_PATIENCE: Duration = Duration::from_secs(5);

/// The same when another process takes over and waits: the outcomes are there within milliseconds, or the records are read
/// again.
const HAND_OVER_PATIENCE: Duration = Duration::from_millis(300);

/// How long a question to the brokers may take while the group waits for us.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Pauses between sessions: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A session of this length was a good one: the next pause is the first again.
const GOOD_SESSION: Duration = Duration::from_secs(60);

/// How a session ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Stopped,
    NotTaken,
    Fatal,
}

/// What the thread works with.
pub(super) struct Consumer {
    settings: Settings,
    shared: Arc<Shared>,
    stop: Stop,
}

/// What the call-backs share with the thread. They run on it: the locks are never waited for.
struct Shared {
    progress: Mutex<Progress>,
    outcomes: Mutex<Receiver<Outcome>>,
    start: Start,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes down the outcomes that are there; waits for a first one if `patience` is not zero.
    fn settle(&self, patience: Duration) {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let first = if patience.is_zero() { outcomes.try_recv().ok() } else { outcomes.recv_timeout(patience).ok() };
        let mut progress = self.progress();
        first.into_iter().chain(outcomes.try_iter()).for_each(|outcome| progress.settle(&outcome));
    }

    /// Waits a little for batches of these partitions that are on their way.
    fn wait_for(&self, places: &[(String, i32)], patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.progress().is_idle(places) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.progress().failed().is_some() {
                tracing::warn!("Kafka: records are on their way whose offsets are not committed; they are read again");
                return;
            }
            self.settle(left.min(IDLE));
        }
    }

    /// Asks the group to remember how far everything is done.
    fn commit(&self, consumer: &BaseConsumer<Context>) {
        let commits = self.progress().take_commits();
        if commits.is_empty() {
            return;
        }
        let mut offsets = TopicPartitionList::new();
        let mut add =
            |(topic, partition, offset): &(Arc<str>, i32, i64)| offsets.add_partition_offset(topic, *partition, Offset::Offset(*offset));
        let result = commits.iter().try_for_each(&mut add).and_then(|()| consumer.commit(&offsets, CommitMode::Sync));
        if let Err(error) = result {
            let mut progress = self.progress();
            commits.iter().for_each(|(topic, partition, _)| progress.was_refused(topic, *partition));
            progress.alarm("commit", &error.to_string());
        }
    }
}

fn places(list: &TopicPartitionList) -> Vec<(String, i32)> {
    list.elements().iter().map(|place| (place.topic().to_owned(), place.partition())).collect()
}

impl Consumer {
    /// A consumer that gives its batches to `progress` and hears of them through `outcomes`.
    pub(super) fn new(settings: Settings, progress: Progress, outcomes: Receiver<Outcome>, stop: Stop) -> Self {
        let shared = Shared { progress: Mutex::new(progress), outcomes: Mutex::new(outcomes), start: settings.start };
        Self { settings, shared: Arc::new(shared), stop }
    }

    /// Reads until `stop`.
    ///
    /// # Errors
    /// The settings are of no use, such as a certificate that cannot be read.
    pub(super) fn run(self) -> Result<(), KafkaError> {
        let mut pause = PAUSE;
        let mut is_first = true;
        while !self.stop.is_set() {
            let begun = Instant::now();
            match self.session() {
                Ok(End::Stopped) => return Ok(()),
                Ok(End::NotTaken) => self.shared.progress().alarm("not_stored", "a batch was not taken"),
                Ok(End::Fatal) => {}
                Err(error) if is_first => return Err(error),
                Err(error) => self.shared.progress().alarm("client", &error.to_string()),
            }
            self.shared.progress().reset();
            is_first = false;
            if begun.elapsed() >= GOOD_SESSION {
                pause = PAUSE;
            }
            let until = Instant::now() + pause;
            while Instant::now() < until && !self.stop.is_set() {
                self.shared.settle(IDLE);
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(())
    }

    fn session(&self) -> KafkaResult<End> {
        let consumer: BaseConsumer<Context> = self.settings.client().create_with_context(Context(self.shared.clone()))?;
        let topics: Vec<&str> = self.settings.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics)?;
        let end = self.read(&consumer);
        self.close(&consumer);
        Ok(end)
    }

    fn read(&self, consumer: &BaseConsumer<Context>) -> End {
        let mut committed = Instant::now();
        let mut blocked: Option<Instant> = None;
        loop {
            if self.stop.is_set() {
                return End::Stopped;
            }
            self.shared.settle(Duration::ZERO);
            if self.shared.progress().failed().is_some() {
                return End::NotTaken;
            }
            if committed.elapsed() >= COMMIT_INTERVAL {
                self.shared.commit(consumer);
                committed = Instant::now();
            }
            let is_fatal = if self.may_read(consumer) {
                blocked = None;
                self.gather(consumer)
            } else {
                let since = *blocked.get_or_insert_with(Instant::now);
                // The record that took the last room may still be pending, and nothing else would give it before there is room.
                self.shared.progress().give();
                self.shared.settle(IDLE);
                since.elapsed() >= BLOCKED_MAX && self.hold(consumer)
            };
            if is_fatal {
                return End::Fatal;
            }
        }
    }

    /// Whether there is room; if so, nothing is paused any more.
    fn may_read(&self, consumer: &BaseConsumer<Context>) -> bool {
        let (has_room, is_paused) = {
            let progress = self.shared.progress();
            (if progress.is_paused { progress.has_much_room() } else { progress.has_room() }, progress.is_paused)
        };
        if has_room && is_paused {
            self.shared.progress().is_paused = false;
            if let Err(error) = consumer.assignment().and_then(|all| consumer.resume(&all)) {
                self.shared.progress().alarm("client", &error.to_string());
            }
        }
        has_room
    }

    /// Stays in the group without reading. Says whether something fatal happened.
    fn hold(&self, consumer: &BaseConsumer<Context>) -> bool {
        if !self.shared.progress().is_paused {
            tracing::info!("Kafka: no room for records; the partitions are paused");
            if let Err(error) = consumer.assignment().and_then(|all| consumer.pause(&all)) {
                self.shared.progress().alarm("client", &error.to_string());
            }
            self.shared.progress().is_paused = true;
        }
        self.poll(consumer, Duration::ZERO).is_err()
    }

    /// Polls until a batch is full, or old enough, and gives it. Says whether something fatal happened.
    fn gather(&self, consumer: &BaseConsumer<Context>) -> bool {
        let begun = Instant::now();
        loop {
            let (since, is_full) = {
                let progress = self.shared.progress();
                (progress.pending_since(), progress.is_full())
            };
            let patience = since.map_or(IDLE, |since| GATHER_INTERVAL.saturating_sub(since.elapsed()));
            if is_full || since.is_some() && patience.is_zero() {
                self.shared.progress().give();
                return false;
            }
            let Ok(is_record) = self.poll(consumer, patience) else { return true };
            if !is_record && since.is_none() || begun.elapsed() >= IDLE {
                return false;
            }
        }
    }

    /// One poll; whether a record came.
    ///
    /// # Errors
    /// librdkafka says that this consumer is of no more use.
    fn poll(&self, consumer: &BaseConsumer<Context>, patience: Duration) -> Result<bool, ()> {
        match consumer.poll(patience) {
            Some(Ok(record)) => {
                let gap = {
                    let mut progress = self.shared.progress();
                    progress.all_clear();
                    progress.record(record.topic(), record.partition(), record.offset(), record.payload())
                };
                if let Some(gap) = gap {
                    self.look_at(consumer, &gap);
                }
                Ok(true)
            }
            // The others were counted when the call-back for errors had their text.
            Some(Err(KafkaError::MessageConsumptionFatal(_))) => Err(()),
            Some(Err(_)) | None => Ok(false),
        }
    }

    /// Finds out whether records were deleted before we had read them, as the retention of a topic does.
    fn look_at(&self, consumer: &BaseConsumer<Context>, gap: &Gap) {
        let Gap { topic, partition, from, to } = gap;
        match consumer.fetch_watermarks(topic, *partition, QUESTION_TIMEOUT) {
            Ok((low, _)) if low > *from => {
                let lost = low.min(*to) - from;
                self.shared.progress().count("deleted_unread", u64::try_from(lost).unwrap_or(0));
                tracing::error!(%topic, partition, from, to = low.min(*to), lost, "Kafka has deleted records that were not read yet");
            }
            // Compaction and the marks of transactions leave gaps.
            Ok(_) => tracing::debug!(%topic, partition, from, to, "offsets without records"),
            Err(error) => {
                tracing::error!(%topic, partition, from, to, %error, "offsets without records; whether any are lost is not known")
            }
        }
    }

    /// Commits what is done a little later, and leaves the group.
    fn close(&self, consumer: &BaseConsumer<Context>) {
        self.shared.progress().drop_pending();
        let all = self.shared.progress().places();
        let is_short = self.stop.is_hand_over();
        self.shared.wait_for(&all, if is_short { HAND_OVER_PATIENCE } else { OUTCOME_PATIENCE });
        self.shared.commit(consumer);
        self.shared.progress().reset();
    }
}

/// The call-backs.
struct Context(Arc<Shared>);

impl Context {
    /// Says where new partitions begin, and takes them.
    fn assigned(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        let asked = consumer.committed_offsets(list.clone(), QUESTION_TIMEOUT);
        let is_known = asked.is_ok();
        let starts = asked.unwrap_or_else(|error| {
            tracing::warn!(%error, "the group does not say how far it is; the broker will, and where it knows nothing all is read");
            list.clone()
        });
        for mut place in starts.elements() {
            let (topic, partition) = (place.topic().to_owned(), place.partition());
            let begin = match place.offset() {
                Offset::Offset(offset) => Begin::Committed(offset),
                _ if !is_known || place.error().is_err() => Begin::Unknown,
                _ if self.0.start == Start::Earliest => {
                    place.set_offset(Offset::Beginning)?;
                    Begin::Unknown
                }
                _ => match consumer.fetch_watermarks(&topic, partition, QUESTION_TIMEOUT) {
                    Ok((_, high)) => {
                        place.set_offset(Offset::Offset(high))?;
                        Begin::Chosen(high)
                    }
                    Err(error) => {
                        tracing::warn!(topic, partition, %error, "the end of a partition is not known; it begins there a little later");
                        place.set_offset(Offset::End)?;
                        Begin::Unknown
                    }
                },
            };
            tracing::info!(topic, partition, ?begin, "Kafka: a partition is ours");
            self.0.progress().assign(&topic, partition, begin);
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(&starts)?,
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(&starts)?,
        }
        if self.0.progress().is_paused {
            consumer.pause(&starts)?;
        }
        Ok(())
    }

    /// Waits for what is on its way of partitions that go, commits it, and lets them go.
    fn revoked(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        let places = places(list);
        tracing::info!(?places, is_lost = consumer.assignment_lost(), "Kafka: partitions are no longer ours");
        if consumer.assignment_lost() {
            self.0.progress().drop_pending();
        } else {
            self.0.progress().give();
            self.0.wait_for(&places, OUTCOME_PATIENCE);
            self.0.commit(consumer);
        }
        places.iter().for_each(|(topic, partition)| self.0.progress().forget(topic, *partition));
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let result = match error {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, list),
            _ => self.revoked(consumer, list),
        };
        if let Err(error) = result {
            self.0.progress().alarm("group", &error.to_string());
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        // Trouble comes as errors too; these are its details.
        tracing::debug!(?level, facility, text, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.progress().alarm(kind(error.rdkafka_error_code()), reason);
    }
}

/// The label in metrics.
fn kind(code: Option<RDKafkaErrorCode>) -> &'static str {
    use RDKafkaErrorCode as Code;
    match code {
        Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism | Code::IllegalSASLState) => {
            "authentication"
        }
        Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed) => "access_denied",
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => "unknown_topic",
        Some(Code::BadMessage | Code::InvalidMessage | Code::BadCompression | Code::NotImplemented) => "corrupt",
        Some(Code::SSL) => "tls",
        _ => "broker",
    }
}

#[cfg(test)]
mod tests;
