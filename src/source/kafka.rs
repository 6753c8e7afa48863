//! `kafka`: topics of Apache Kafka, Redpanda, Amazon MSK, as a member of a consumer group.
//!
//! In: the values of records, in every compression (gzip, snappy, lz4, zstd). Out: one message a record, which is one
//! frame unless `framing` says otherwise (`newline`, `json` for producers that join several), with `%hydrant.topic` and
//! `%hydrant.partition` beside it. Keys, headers, offsets and timestamps of records are not taken: a record that names no
//! time has that of its arrival.
//!
//! * An offset is committed when the journal has everything before it (`acknowledge: delivery`: when it is delivered,
//!   which is what a journal in memory needs to lose nothing), once a second, and when partitions move to another member.
//! * **What may come twice**: what a crash, a lost session or a broker that takes no commit leaves uncommitted: about a
//!   second of records, or everything that is on its way. Nothing is lost. `(topic, partition, offset)` is not compared
//!   with the journal: that would need each partition's last offset in every record of the journal, read at each start.
//! * When there is no room, partitions are paused and the member stays in the group. At most 32 MiB are on their way and
//!   32 MiB fetched ahead, beside the memory budget; with `acknowledge: delivery` that is also what one interval of a
//!   destination's batches may hold.
//! * Assignment is cooperative and sticky: partitions that stay are read on. All members of a group must do it so; do
//!   not share a group with other programs.
//! * A broker that is away, a refused password, a topic that is not there, an offset that cannot be committed: logged,
//!   counted (`hydrant_component_refused_total`: `broker`, `authentication`, `tls`, `access_denied`, `unknown_topic`,
//!   `commit`, `group`, `client`) and tried again for ever. Records that the topic's retention deleted before they were
//!   read are counted one by one (`deleted_unread`) and logged with partition and offsets.
//! * Not taken, but counted and committed: records without a value (`tombstone`), empty ones (`empty`), those above 64
//!   MiB (`too_large`); longer ones than `frame_bytes_max` are cut. Of transactions only committed records are read.
//! * `start` is for a group without offsets. With `latest`, records of a partition that is added later are read from when
//!   it is seen: up to half a minute of them may be missed. `earliest` misses none.
//!
//! Not supported: MSK IAM and other OAUTHBEARER, Kerberos, patterns of topics, group protocol `consumer` (KIP-848).
//!
//! Rights: `Read` on the topics and the group, `Describe` on the topics.
//!
//! Not sharded: one thread reads for the first shard, whole chunks go to idle shards. The order of a partition's records
//! is kept inside a batch only.

mod consumer;
mod mark;
mod progress;
mod settings;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;

use super::{Intake, Messages, Refused, Source, SourceKind};
use crate::config::{Section, schema_of};
use crate::error::{Diagnostics, Error, ErrorKind};
use crate::task::{LocalFuture, Stop};
use consumer::Consumer;
use progress::{Event, Outcome, Progress};
use settings::Settings;

pub(super) struct Kafka;

const SAMPLE: &str = r#"
type: kafka
brokers: ["kafka-1:9096", "kafka-2:9096"]
topics: [firewall, waf]
group_id: hydrant
start: earliest                 # or latest: for a group without offsets
tls: {}                         # ca, cert, key, verify; {} trusts the system's authorities
sasl: { mechanism: SCRAM-SHA-512, username: hydrant, password: "secret://env/KAFKA_PASSWORD" }
session_timeout: 45s            # how long the group waits for a member that died
"#;

/// How long a stop waits for the thread: its own patience, and a little for librdkafka to leave the group.
const STOP_PATIENCE: Duration = Duration::from_secs(12);

impl SourceKind for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Settings>()
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn Source>, Diagnostics> {
        Ok(Arc::new(Configured(Settings::read(section)?)))
    }
}

struct Configured(Settings);

impl Source for Configured {
    fn framing(&self) -> &'static str {
        "whole"
    }

    fn is_sharded(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, intake: Rc<dyn Intake>, stop: Stop) -> LocalFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            let (given, mut events) = unbounded_channel();
            let (outcomes, settled) = mpsc::channel();
            if self.0.shows_password() {
                tracing::warn!("Kafka: PLAIN without TLS shows the password to everybody on the way");
            }
            let consumer = Consumer::new(self.0.clone(), Progress::new(given), settled, stop.clone());
            let thread = std::thread::Builder::new().name("hydrant-kafka".to_owned()).spawn(move || consumer.run());
            let thread = thread.map_err(|error| Error::new(ErrorKind::Unexpected, READ, "no thread").because(error))?;
            let mut limit = std::pin::pin!(async {
                stop.wait().await;
                tokio::time::sleep(STOP_PATIENCE).await;
            });
            loop {
                let event = tokio::select! {
                    event = events.recv() => event,
                    () = &mut limit => {
                        tracing::warn!("Kafka: leaving the group takes too long; it will notice by itself");
                        return Ok(());
                    }
                };
                match event {
                    Some(Event::Refused(reason, count)) => intake.count_refused_many(reason, count),
                    Some(Event::Batch { number, messages }) => {
                        let (intake, outcomes) = (intake.clone(), outcomes.clone());
                        tokio::task::spawn_local(async move {
                            let result = take(&*intake, messages).await;
                            // An error means that the thread has ended, and with it its interest.
                            let _ = outcomes.send(Outcome { number, result });
                        });
                    }
                    None => break,
                }
            }
            let ended = thread.join().map_err(|_| Error::new(ErrorKind::Unexpected, READ, "the thread panicked"))?;
            ended.map_err(|error| Error::new(ErrorKind::Configuration, READ, "the settings are of no use").because(error))
        })
    }
}

const READ: &str = "read from Kafka";

/// Gives a batch to the journal and waits until it is durable, or delivered if the source waits for that.
async fn take(intake: &dyn Intake, messages: Messages) -> Result<(), Refused> {
    intake.submit(messages).await?;
    intake.committed().await
}
