//! `aws_s3`: objects in Amazon S3, announced by a queue of SQS, and those that were there before.
//!
//! In: messages of a queue that S3 writes to, directly, through SNS or EventBridge ([`notification`]); the objects that
//! they name, told by their bytes: gzip, zstd or plain; JSON objects, CloudTrail's `Records`, lines of text, VPC flow logs
//! with their header line ([`content`]). Out: frames, with `%hydrant.bucket` and `%hydrant.key` beside them. Set
//! `decoder:` if all objects are of one format; `auto` finds WAF, Network Firewall and VPC flow logs by themselves.
//!
//! * A message is deleted when the journal has all events of its objects (`acknowledge: delivery`: when they are
//!   delivered, which is what a journal in memory needs to lose nothing), and kept invisible until then. An object that fails is logged and counted
//!   (`hydrant_component_refused_total`: `no_such_key`, `access_denied`, `corrupt`, `too_large`, `format`, `bucket`,
//!   `store`) and its message stays: it comes again after `visibility_timeout`, and the queue's redrive policy moves it
//!   to its dead-letter queue. A queue without one brings it until its retention is over. The same for a message that
//!   is none of S3's (`notification`).
//! * SQS and S3 may say a thing twice: what was done in this run is remembered ([`recent`]) and not read again, nor the
//!   part of a damaged object that was taken the first time. A crash may bring the events of the objects that were being
//!   read a second time; it loses none.
//! * An object that was written anew before it was read gives its new content; the message of that reads it no more.
//! * At most `concurrency` objects are read at once, each in bounded memory whatever its size: about 1 MiB, and 8 MiB
//!   more for zstd. They wait when the intake does, and hold no budget but that of their chunks.
//! * `backfill` reads what lies below a prefix, each object once, across restarts ([`backfill`]).
//!
//! Not read, since they hold no events: empty objects, folders (a key that ends with `/`), CloudTrail's digests, the test
//! file of load balancers. Not supported: buckets of several regions in one source, Parquet, envelopes of CloudWatch Logs
//! inside objects, keys that are encoded twice.
//!
//! Rights: `sqs:ReceiveMessage`, `sqs:DeleteMessage`, `sqs:ChangeMessageVisibility`; `s3:GetObject`,
//! `s3:GetObjectVersion`; for `backfill` and to tell a missing object from a forbidden one, `s3:ListBucket`. Whoever may
//! write to the queue chooses what is read: name the `buckets` if others may.
//!
//! Not sharded: the first shard reads, threads decompress, whole chunks go to idle shards.

mod backfill;
mod content;
mod notification;
mod object;
mod queue;
mod recent;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use serde::Deserialize;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{Intake, Refused, Source, SourceKind, Stream};
use crate::config::{ByteSize, Interval, Section, schema_of};
use crate::error::{Diagnostics, Error};
use crate::net::aws::{self, Keys};
use crate::net::http_client::parse_address;
use crate::task::{self, LocalFuture, Stop};
use backfill::Backfill;
use notification::Announced;
use object::{Failure, Given, Reading, Reason};
use queue::{Message, Queue, RECEIVED_MAX};
use recent::{Id, Recent};

pub(super) struct AwsS3;

const SAMPLE: &str = r#"
type: aws_s3
queue: "https://sqs.eu-central-1.amazonaws.com/123456789012/s3-events"
buckets: [security-logs]        # only these; default: whatever the queue names
region: eu-central-1            # default: that of the queue's address, or of the environment
concurrency: 10                 # objects that are read at once
visibility_timeout: 2m          # prolonged as long as an object is read
object_bytes_max: 16GiB         # after decompression
backfill: { bucket: security-logs, prefix: "AWSLogs/", start_after: "AWSLogs/123456789012/2026" }
# For others than AWS, and for keys outside the default chain:
# endpoint: "https://minio:9000"
# credentials: { access_key_id: AKIA..., secret_access_key: "secret://env/S3_SECRET" }
"#;

/// Objects read at once: each has a thread that decompresses, of which a runtime has 512.
const CONCURRENCY_MAX: usize = 128;

/// SQS's own limits (API reference, `ChangeMessageVisibility`); below a few seconds no heartbeat comes in time.
const VISIBILITY_RANGE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(12 * 3600));

/// Time for a connection, and for an answer to begin.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Pauses between receives that fail: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long a stop waits for objects that are being read: most take less, and need not be read twice then.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// AWS WAF and VPC flow logs write a file every five minutes, flow logs up to ten minutes after the traffic.
const DELAY: Duration = Duration::from_secs(15 * 60);

/// How long a stop waits for the answer of a receive: messages in it would stay invisible for their timeout.
const RECEIVE_PATIENCE: Duration = Duration::from_secs(1);

impl SourceKind for AwsS3 {
    fn name(&self) -> &'static str {
        "aws_s3"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn Source>, Diagnostics> {
        let config: Config = section.read()?;
        let child = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
        let mut diagnostics = Diagnostics::new();
        if config.queue.is_none() && config.backfill.is_none() {
            let help = "queue: \"https://sqs.REGION.amazonaws.com/ACCOUNT/NAME\", or backfill: { bucket: NAME }, or both";
            diagnostics.push(section.error("neither `queue` nor `backfill` says what to read").help(help));
        }
        for (key, address) in [("queue", &config.queue), ("endpoint", &config.endpoint)] {
            if let Some(Err(error)) = address.as_deref().map(parse_address) {
                let form = if key == "queue" { "https://sqs.REGION.amazonaws.com/ACCOUNT/NAME" } else { "https://host:port" };
                diagnostics.push(child(key).error(error.explain(form)));
            }
        }
        if config.queue.as_deref().is_some_and(|queue| queue.starts_with("arn:")) {
            diagnostics.push(
                child("queue").error("the address of the queue is needed, not its ARN").help("aws sqs get-queue-url --queue-name NAME"),
            );
        }
        if !(1..=CONCURRENCY_MAX).contains(&config.concurrency) {
            diagnostics.push(child("concurrency").error(format!("1 to {CONCURRENCY_MAX}")));
        }
        let (least, most) = VISIBILITY_RANGE;
        if !(least..=most).contains(&config.visibility_timeout.0) {
            diagnostics.push(child("visibility_timeout").error("2s to 12h, as SQS permits").help("visibility_timeout: 2m"));
        }
        if config.object_bytes_max.0 == 0 {
            diagnostics.push(child("object_bytes_max").error("at least 1 byte"));
        }
        let backfill = section.child("backfill").and_then(|section| section.child("bucket"));
        for place in child("buckets").items().into_iter().chain(backfill) {
            if place.node().text().is_some_and(|name| name.is_empty() || name.contains(['/', ' ', ':'])) {
                diagnostics.push(place.error("expected the name of a bucket, without a path"));
            }
        }
        if config.region().is_none() && config.credentials.is_some() {
            diagnostics.push(section.error("`region` is missing").help("region: eu-central-1"));
        }
        diagnostics.into_result(Arc::new(config))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Address of the queue that announces objects.
    queue: Option<String>,
    /// Buckets that may be read; objects of others are refused. Default: every bucket that the queue names.
    buckets: Option<Vec<String>>,
    /// Region; by default that of the queue's address, or of the environment.
    region: Option<String>,
    /// Address of another store than AWS.
    endpoint: Option<String>,
    /// Whether the bucket stands in the path instead of the host name; default: with an `endpoint`.
    path_style: Option<bool>,
    /// Keys; by default those of the environment, the profile, the container or the machine.
    credentials: Option<Keys>,
    /// Objects that are read at once; as many again for `backfill`.
    #[serde(default = "Config::concurrency")]
    concurrency: usize,
    /// How long a message is invisible to others; prolonged while its objects are read.
    #[serde(default = "Config::visibility_timeout")]
    visibility_timeout: Interval,
    /// Largest object, after decompression.
    #[serde(default = "Config::object_bytes_max")]
    object_bytes_max: ByteSize,
    /// Objects that are there already.
    backfill: Option<Backfill>,
}

impl Config {
    fn concurrency() -> usize {
        RECEIVED_MAX
    }

    fn visibility_timeout() -> Interval {
        Interval(Duration::from_secs(120))
    }

    /// Three times the largest object that one PUT makes.
    fn object_bytes_max() -> ByteSize {
        ByteSize(16 << 30)
    }

    fn region(&self) -> Option<String> {
        let of_queue = || self.queue.as_deref().and_then(queue::region).map(str::to_owned);
        let other = || self.endpoint.as_ref().map(|_| "us-east-1".to_owned());
        self.region.clone().or_else(of_queue).or_else(other)
    }

    async fn reader(self: Arc<Self>, intake: Rc<dyn Intake>, abandon: Stop) -> Reader {
        let base = aws::base(self.credentials.as_ref(), self.region()).await;
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(ANSWER_TIMEOUT);
        let builder = aws::store(&base, self.endpoint.as_deref(), self.path_style)
            .retry_config(RetryConfig::disabled())
            // An object that waits for the intake is no stalled one.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(timeouts.build());
        Reader {
            store: Client::from_conf(builder.build()),
            queue: self.queue.as_deref().map(|url| Queue::new(&base, url, self.visibility_timeout.0)),
            config: self,
            intake,
            abandon,
            known: RefCell::default(),
            ended: Notify::new(),
            at_work: Cell::new(0),
        }
    }
}

impl Source for Config {
    fn framing(&self) -> &'static str {
        "newline"
    }

    fn is_sharded(&self) -> bool {
        false
    }

    fn delay(&self) -> Duration {
        DELAY
    }

    fn run(self: Arc<Self>, intake: Rc<dyn Intake>, stop: Stop) -> LocalFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            let (stopper, abandon) = task::pair();
            let reader = tokio::select! {
                reader = self.reader(intake, abandon) => Rc::new(reader),
                () = stop.wait() => return Ok(()),
            };
            let pollers = if reader.queue.is_some() { reader.config.concurrency.div_ceil(RECEIVED_MAX) } else { 0 };
            let slots = Arc::new(Semaphore::new(reader.config.concurrency));
            let polling = (0..pollers).map(|_| tokio::task::spawn_local(reader.clone().poll(slots.clone(), stop.clone())));
            let polling: Vec<_> = polling.collect();
            let filled = backfill::run(reader.clone(), &stop).await;
            if let Err(error) = &filled {
                tracing::error!(%error, "the backfill ended");
            }
            for poller in polling {
                // A poller only ends when it is told to; its panic is a bug, and told by the runtime.
                let _ = poller.await;
            }
            // Tasks go on behind this: what the journal has must go through all stages.
            if tokio::time::timeout(STOP_PATIENCE, reader.idle()).await.is_err() {
                stopper.stop();
                let _ = tokio::time::timeout(STOP_PATIENCE, reader.idle()).await;
            }
            filled
        })
    }
}

/// What was done in this run.
#[derive(Default)]
struct Known {
    /// Announcements whose objects were read.
    done: Recent<()>,
    /// Contents that were read because they were announced.
    contents: Recent<()>,
    /// Contents that were read before they were announced.
    ahead: Recent<()>,
    /// What was given of objects that could not be read to their end.
    partly: Recent<Given>,
    /// Contents that are being worked on.
    open: HashSet<Id>,
}

/// The source at work.
struct Reader {
    config: Arc<Config>,
    store: Client,
    queue: Option<Queue>,
    intake: Rc<dyn Intake>,
    /// Objects are not read to their end any more.
    abandon: Stop,
    known: RefCell<Known>,
    /// An object or message is done with.
    ended: Notify,
    /// Messages and objects that are being worked on.
    at_work: Cell<usize>,
}

/// Somebody at work.
struct AtWork(Rc<Reader>);

impl AtWork {
    fn new(reader: &Rc<Reader>) -> Self {
        reader.at_work.set(reader.at_work.get() + 1);
        Self(reader.clone())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.set(self.0.at_work.get() - 1);
        self.0.ended.notify_waiters();
    }
}

/// A content that nobody else works on meanwhile.
struct Open<'a>(&'a Reader, Id);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.known.borrow_mut().open.remove(&self.1);
        self.0.ended.notify_waiters();
    }
}

impl Reader {
    async fn idle(&self) {
        while self.at_work.get() > 0 {
            self.ended.notified().await;
        }
    }

    /// Receives messages for as many slots as are free, until `stop`.
    async fn poll(self: Rc<Self>, slots: Arc<Semaphore>, stop: Stop) {
        let mut pause = PAUSE;
        while !stop.is_set() {
            let mut free = tokio::select! {
                free = take(&slots) => free,
                () = stop.wait() => return,
            };
            let Some(queue) = &self.queue else { return };
            let receive = queue.receive(free.len());
            let limit = async {
                stop.wait().await;
                tokio::time::sleep(RECEIVE_PATIENCE).await;
            };
            let received = tokio::select! {
                received = receive => received,
                () = limit => return,
            };
            match received {
                Ok(messages) => {
                    pause = PAUSE;
                    for message in messages {
                        let (reader, slot, at_work) = (self.clone(), free.pop(), AtWork::new(&self));
                        tokio::task::spawn_local(async move {
                            reader.work(&message).await;
                            drop((slot, at_work));
                        });
                    }
                }
                Err(error) => {
                    self.intake.count_refused("queue");
                    tracing::warn!(error, retry_ms = pause.as_millis() as u64, "the queue gives no messages");
                    drop(free);
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stop.wait() => {}
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Works on a message while it is kept invisible.
    async fn work(&self, message: &Message) {
        let Some(queue) = &self.queue else { return };
        let mut take = std::pin::pin!(self.take(message));
        let mut hold = std::pin::pin!(queue.hold(message));
        let worst = loop {
            tokio::select! {
                worst = &mut take => break worst,
                () = &mut hold => {}
            }
        };
        match worst {
            None => drop(queue.delete(message).await),
            Some(Reason::Stopping) => queue.release(message).await,
            Some(_) => {}
        }
    }

    /// Reads what a message names; the reason if it has to come again.
    async fn take(&self, message: &Message) -> Option<Reason> {
        let objects = match notification::parse(&message.body) {
            Ok(objects) => objects,
            Err(error) => {
                self.intake.count_refused("notification");
                tracing::warn!(
                    message_id = message.id,
                    receives = message.count,
                    error,
                    "a message of the queue is none of S3's; it stays there"
                );
                return Some(Reason::Format);
            }
        };
        let mut worst = None;
        for object in &objects {
            if let Err(failure) = self.once(object).await {
                worst = Some(failure.reason);
                if failure.reason == Reason::Stopping {
                    break;
                }
                self.intake.count_refused(failure.reason.name());
                tracing::warn!(
                    bucket = object.bucket,
                    key = object.key,
                    reason = failure.reason.name(),
                    receives = message.count,
                    error = failure.message,
                    "an object could not be read; its message stays in the queue"
                );
            }
        }
        worst
    }

    /// Reads an object that was announced unless that was done before.
    async fn once(&self, object: &Announced) -> Result<(), Failure> {
        if self.config.buckets.as_ref().is_some_and(|buckets| !buckets.contains(&object.bucket)) {
            return Err(Failure::new(Reason::Bucket, "`buckets` does not name its bucket"));
        }
        if holds_no_events(&object.key, object.size_bytes) {
            return Ok(());
        }
        let id = Id::of_event(object);
        let _open = self.open(Id::of_content(object)).await;
        if self.is_done(object, &id) {
            tracing::debug!(bucket = object.bucket, key = object.key, "announced again");
            return Ok(());
        }
        let etag = self.read(object).await?;
        let mut known = self.known.borrow_mut();
        known.done.put(id, ());
        let found = Id::of_content(&Announced { etag: Some(etag.clone()), ..object.clone() });
        known.contents.put(found, ());
        if object.version.is_none() && object.etag.as_ref().is_some_and(|announced| *announced != etag) {
            // Somebody wrote it anew meanwhile, which will be announced too.
            known.ahead.put(found, ());
        }
        Ok(())
    }

    /// Waits until nobody else works on a content.
    async fn open(&self, id: Id) -> Open<'_> {
        loop {
            let ended = self.ended.notified();
            if self.known.borrow_mut().open.insert(id) {
                return Open(self, id);
            }
            ended.await;
        }
    }

    fn is_done(&self, object: &Announced, id: &Id) -> bool {
        let mut known = self.known.borrow_mut();
        if known.done.has(id) {
            return true;
        }
        let is_ahead = object.etag.is_some() && known.ahead.remove(&Id::of_content(object)).is_some();
        if is_ahead {
            known.done.put(*id, ());
        }
        is_ahead
    }

    /// Reads an object, until its events are durable or delivered; gives its ETag.
    async fn read(&self, object: &Announced) -> Result<String, Failure> {
        let id = Id::of_event(object);
        let reading = Reading {
            client: &self.store,
            intake: &self.intake,
            bytes_max: self.config.object_bytes_max.0 as u64,
            skip: self.known.borrow().partly.value(&id).cloned().unwrap_or_default(),
            at: RefCell::default(),
            abandon: &self.abandon,
        };
        let result = match Box::pin(reading.run(object)).await {
            Ok(etag) => self.intake.committed().await.map(|()| etag).map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        let mut known = self.known.borrow_mut();
        match &result {
            Err(failure) if failure.given.bytes > 0 && !failure.given.etag.is_empty() => known.partly.put(id, failure.given.clone()),
            _ => drop(known.partly.remove(&id)),
        }
        result.map(|etag| etag.trim_matches('"').to_owned())
    }
}

/// One free slot, and as many more as there are, up to one receive.
async fn take(slots: &Arc<Semaphore>) -> Vec<OwnedSemaphorePermit> {
    let mut taken: Vec<_> = slots.clone().acquire_owned().await.into_iter().collect();
    while taken.len() < RECEIVED_MAX {
        let Ok(permit) = slots.clone().try_acquire_owned() else { break };
        taken.push(permit);
    }
    taken
}

/// Whether an object is one of those that services put between their logs.
fn holds_no_events(key: &str, size_bytes: Option<u64>) -> bool {
    size_bytes == Some(0) || key.ends_with('/') || key.contains("/CloudTrail-Digest/") || key.ends_with("/ELBAccessLogTestFile")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<Arc<dyn Source>, String> {
        let section = Section::parse(Path::new("t.yaml"), text).map_err(|error| error.to_string())?;
        AwsS3.read(&section.without(&["type"])).map_err(|error| error.to_string())
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let queue = "queue: 'https://sqs.eu-central-1.amazonaws.com/123456789012/q'";
        for (text, part) in [
            ("{}", "neither `queue` nor `backfill`"),
            ("queue: 'arn:aws:sqs:eu-central-1:123456789012:q'", "not its ARN"),
            ("queue: my-queue", "https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"),
            ("queue: 'https://me:secret@sqs.x/1/q'", "a name and password"),
            ("{ QUEUE, concurrency: 0 }", "concurrency: 1 to 128"),
            ("{ QUEUE, concurrency: 129 }", "1 to 128"),
            ("{ QUEUE, visibility_timeout: 1s }", "2s to 12h"),
            ("{ QUEUE, visibility_timeout: 13h }", "2s to 12h"),
            ("{ QUEUE, buckets: [a, 's3://b'] }", "buckets[1]: expected the name of a bucket"),
            ("{ QUEUE, object_bytes_max: 0B }", "at least 1 byte"),
            ("{ QUEUE, backfill: { prefix: x } }", "`bucket`"),
            ("{ QUEUE, backfill: { bucket: a/b } }", "backfill.bucket: expected the name of a bucket"),
            ("{ QUEUE, endpoint: 'minio:9000' }", "https://host:port"),
            ("{ QUEUE, visibility: 1s }", "visibility_timeout"),
            ("{ backfill: { bucket: b }, credentials: { access_key_id: a, secret_access_key: b } }", "`region` is missing"),
        ] {
            let error = read(&text.replace("QUEUE", queue)).err().unwrap_or_default();
            assert!(error.contains(part), "{text}: {error}");
        }
        for text in ["QUEUE", "backfill: { bucket: b }", "{ QUEUE, credentials: { access_key_id: a, secret_access_key: b } }"] {
            assert!(read(&text.replace("QUEUE", queue)).is_ok_and(|source| !source.is_sharded()), "{text}");
        }
    }

    #[test]
    fn objects_that_services_put_between_their_logs_are_known() {
        for (key, size_bytes) in [
            ("a/", None),
            ("a", Some(0)),
            ("AWSLogs/1/CloudTrail-Digest/eu-central-1/x.json.gz", Some(9)),
            ("AWSLogs/1/ELBAccessLogTestFile", Some(9)),
        ] {
            assert!(holds_no_events(key, size_bytes), "{key}");
        }
        assert!(!holds_no_events("AWSLogs/1/CloudTrail/eu-central-1/x.json.gz", None) && !holds_no_events("a", Some(1)));
    }
}
