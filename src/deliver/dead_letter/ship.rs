//! Dead letters, moved to a bucket: `closed files -> objects -> off the disk`.
//!
//! A letter is on the disk first, as without a bucket. A file that is closed, by its size or because its first letter is
//! older than the interval, becomes one object of the same lines (several, if it is longer than the buffer: files of an
//! earlier configuration). When the bucket has all of a file, the file is removed. The object is called by what is in it
//! (the first 128 bits of SHA-256, the oldest arrival, the kind of destination), so a process that ends between upload and
//! removal makes the same object again, and the bucket has it already. A line that a crash tore goes with the others.
//!
//! Everything on the disk happens on a thread of its own; the lock that a shard waits for is only taken to close a file.
//! The memory is that of one compressed object and one letter. Whoever replays or purges goes first. What fails is tried
//! again for ever, and warned of at once and then every [`WARN_INTERVAL`]; the cap of the disk holds meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};

use super::{Files, LettersOf, Limits, Maintenance, Record, destinations};
use crate::batch::{Batching, Sealed};
use crate::encode::compress::Compressor;
use crate::encode::rows::{ERROR_MARK, UNREADABLE_PARTITION};
use crate::error::{Error, ErrorKind};
use crate::ledger::Waiting;
use crate::metrics::{self, Registry};
use crate::sink::{Client, SINKS, Sink, Step, Transport};

/// Time between two looks at the files: the least that an interval can mean.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait after failures: what waits is on the disk, and a bucket that is back is not in a hurry.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Time between two warnings about the same trouble.
const WARN_INTERVAL: Duration = Duration::from_mins(10);

/// Moves the dead letters of all destinations to one bucket.
pub struct Shipping {
    data_dir: PathBuf,
    batching: Batching,
    client: Rc<dyn Client>,
    registry: Registry,
}

/// Lines that become an object.
struct Object {
    id: u128,
    partition: String,
    oldest_ms: i64,
    lines: u64,
    plain_bytes: usize,
    body: Vec<u8>,
}

impl Shipping {
    /// From below a data folder to where a sink writes.
    ///
    /// # Errors
    /// The sink's; it writes no objects.
    pub fn new(data_dir: &Path, sink: &dyn Sink, registry: Registry) -> Result<Self, Error> {
        let Transport::Client(client) = sink.transport()? else {
            return Err(Error::new(ErrorKind::Configuration, "ship dead letters", "this sink has no objects"));
        };
        Ok(Self { data_dir: data_dir.to_owned(), batching: sink.batching(), client, registry })
    }

    /// Ships for as long as it is let.
    pub async fn run(self) {
        let mut wait = LOOK_INTERVAL;
        let mut warned: Option<Instant> = None;
        loop {
            tokio::time::sleep(wait).await;
            let Err(error) = self.ship_all().await else {
                if warned.take().is_some() {
                    tracing::info!("dead letters are shipped again");
                }
                wait = LOOK_INTERVAL;
                continue;
            };
            if warned.is_none_or(|warned| warned.elapsed() >= WARN_INTERVAL) {
                tracing::warn!(%error, "dead letters cannot be shipped; they stay on the disk, and it is tried again");
                warned = Some(Instant::now());
            }
            wait = (wait * 2).min(RETRY_INTERVAL_MAX);
        }
    }

    /// Ships what is due of every destination; the first error, when all were tried.
    async fn ship_all(&self) -> Result<(), Error> {
        let data_dir = self.data_dir.clone();
        let names = aside(move || destinations(&data_dir)).await;
        let names = names.map_err(|error| Error::new(ErrorKind::Storage, "list dead letters", error.to_string()))?;
        let mut shipped = Ok(());
        for name in names {
            shipped = shipped.and(self.ship(Files::new(&self.data_dir, &name, Limits::NONE)).await);
        }
        shipped
    }

    async fn ship(&self, files: Files) -> Result<(), Error> {
        let failed = |error: io::Error| files.failed("ship dead letters", &error);
        let (due, interval) = (files.clone(), self.batching.interval);
        let due = aside(move || due.maintain_due(interval)?.map(|maintenance| Ok((maintenance.closed()?, maintenance))).transpose());
        let Some((numbers, maintenance)) = due.await.map_err(failed)? else { return Ok(()) };
        let maintenance = Arc::new(maintenance);
        for number in numbers {
            let lines = self.upload(&maintenance, number).await?;
            let shipped = maintenance.clone();
            let used = aside(move || shipped.delete(number).and_then(|()| shipped.files().used_bytes())).await.map_err(failed)?;
            let labels: &[(&str, &str)] = &[("component_id", files.destination())];
            self.registry.cell(&metrics::DEAD_LETTERS_SHIPPED, labels).add(lines);
            self.registry.cell(&metrics::DEAD_LETTER_BYTES, labels).set(used);
        }
        Ok(())
    }

    /// Uploads all of a file. Returns how many lines it has.
    async fn upload(&self, maintenance: &Arc<Maintenance>, number: u64) -> Result<u64, Error> {
        let failed = |error: io::Error| maintenance.files().failed("ship dead letters", &error);
        let opened = maintenance.clone();
        let mut letters = aside(move || opened.open(number)).await.map_err(failed)?;
        let mut lines = 0;
        loop {
            let batching = self.batching;
            let (rest, object) =
                aside(move || next_object(&mut letters, &batching).map(|object| (letters, object))).await.map_err(failed)?;
            let Some(object) = object else { return Ok(lines) };
            letters = rest;
            lines += object.lines;
            let batch = object.sealed(&batching);
            match self.client.write(&batch).await {
                Step::Stored => {}
                Step::Retry(why, _) | Step::Hold(why) | Step::Rejected(why) => return Err(failed(io::Error::other(why))),
                step => return Err(failed(io::Error::other(format!("the sink wants {step:?}")))),
            }
        }
    }
}

impl Object {
    /// It as the sink takes it: no event of the pipeline is in it, so that nothing is counted or settled.
    fn sealed(self, batching: &Batching) -> Sealed {
        Sealed {
            id: self.id,
            manifest: self.id,
            plan: 0,
            partition: self.partition.into(),
            body: self.body.into(),
            codec: batching.codec,
            plain_bytes: self.plain_bytes,
            items: Vec::new(),
            members: Vec::new(),
            oldest_ms: self.oldest_ms,
            acknowledgements: Vec::new(),
            arrivals: Vec::new(),
            waiting: Waiting::default(),
        }
    }
}

/// The next lines of a file, until they are as many as fill an object.
fn next_object(letters: &mut LettersOf, batching: &Batching) -> io::Result<Option<Object>> {
    let mut compressor = Compressor::new(batching.codec).map_err(io::Error::other)?;
    let (mut hash, mut body) = (Context::new(&SHA256), Vec::new());
    let (mut lines, mut plain_bytes) = (0, 0);
    let (mut oldest_ms, mut partition) = (None, None);
    while plain_bytes < batching.bytes_max
        && let Some(line) = letters.next_line()?
    {
        let end: &[u8] = if line.ends_with(b"\n") { b"" } else { b"\n" };
        for piece in [line, end] {
            hash.update(piece);
            compressor.write(piece, &mut body).map_err(io::Error::other)?;
            plain_bytes += piece.len();
        }
        lines += 1;
        if let Some(record) = Record::read(line) {
            oldest_ms = Some(oldest_ms.map_or(record.arrival_timestamp, |oldest: i64| oldest.min(record.arrival_timestamp)));
            partition.get_or_insert_with(|| partition_of(&record));
        }
    }
    compressor.finish(&mut body).map_err(io::Error::other)?;
    let id = hash.finish().as_ref().iter().take(size_of::<u128>()).fold(0, |id, byte| id << 8 | u128::from(*byte));
    let partition = partition.unwrap_or_else(|| UNREADABLE_PARTITION.to_owned());
    let object = Object { id, partition, oldest_ms: oldest_ms.unwrap_or(0), lines, plain_bytes, body };
    Ok((lines > 0).then_some(object))
}

/// By what Firehose calls failures of the letter's destination. All letters of a file have the same one.
fn partition_of(record: &Record) -> String {
    let kind = SINKS.iter().find(|kind| kind.name() == record.destination_type);
    kind.map_or_else(|| UNREADABLE_PARTITION.to_owned(), |kind| format!("{ERROR_MARK}{}", kind.error_output_type()))
}

/// Does what waits for the disk on a thread where nobody waits for it.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::Error::other("the worker panicked")))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use super::*;
    use crate::deliver::dead_letter::{Letter, Reason};
    use crate::encode::compress::{Codec, decompress};
    use crate::event::Position;
    use crate::task::LocalFuture;

    /// A bucket that answers as it is told, and else stores.
    #[derive(Default)]
    struct Bucket {
        answers: RefCell<VecDeque<Step>>,
        /// Partition, id, oldest arrival and text of what was sent, stored or not.
        sent: RefCell<Vec<(String, u128, i64, String)>>,
    }

    impl Client for Bucket {
        fn write<'a>(&'a self, batch: &'a Sealed) -> LocalFuture<'a, Step> {
            let text = String::from_utf8(decompress(batch.codec, &batch.body, batch.plain_bytes).unwrap()).unwrap();
            self.sent.borrow_mut().push((batch.partition.to_string(), batch.id, batch.oldest_ms, text));
            Box::pin(std::future::ready(self.answers.borrow_mut().pop_front().unwrap_or(Step::Stored)))
        }
    }

    const AN_HOUR: Duration = Duration::from_hours(1);

    struct Scene {
        folder: tempfile::TempDir,
        bucket: Rc<Bucket>,
    }

    impl Scene {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), bucket: Rc::default() }
        }

        fn files(&self, destination: &str, file_bytes: u64) -> Files {
            Files::new(self.folder.path(), destination, Limits { file_bytes, max_bytes: 1 << 30 })
        }

        /// One look of a process that has just begun.
        fn look(&self, bytes_max: usize, interval: Duration) -> Result<(), String> {
            let batching = Batching {
                bytes_max,
                items_max: usize::MAX,
                item_bytes_max: usize::MAX,
                interval,
                codec: Codec::GZIP_FAST,
                head: b"",
                separator: b"",
                tail: b"",
            };
            let client = self.bucket.clone();
            let shipping = Shipping { data_dir: self.folder.path().to_owned(), batching, client, registry: Registry::default() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(shipping.ship_all()).map_err(|error| error.to_string())
        }

        fn sent(&self) -> Vec<(String, u128, i64, String)> {
            self.bucket.sent.take()
        }
    }

    fn line(number: u64, kind: &str) -> String {
        let letter = Letter {
            position: Position { epoch: 7, sequence: number },
            arrival_ms: 5000 - number as i64,
            source: "fw".into(),
            peer: None,
            plan: 1,
            partition: "".into(),
            raw: vec![b'x'; 20],
            is_alert: false,
            reason: Reason::Refused(Some(400)),
            why: "no".into(),
            attempts: 2,
        };
        String::from_utf8(Record::new(&letter, "siem", kind).line()).unwrap()
    }

    #[test]
    fn a_file_is_shipped_when_it_is_closed_or_old_enough_and_then_it_is_gone() {
        let scene = Scene::new();
        let lines: Vec<String> = (0..3).map(|number| line(number, "splunk_hec")).collect();
        let files = scene.files("siem", 2 * lines[0].len() as u64);
        files.append(lines[0].as_bytes()).unwrap();
        scene.look(1 << 20, AN_HOUR).unwrap();
        assert_eq!(scene.sent(), [], "it is neither large nor old");
        scene.look(1 << 20, Duration::ZERO).unwrap();
        let sent = scene.sent();
        assert_eq!((sent.len(), &sent[0].0[..], sent[0].2, &sent[0].3), (1, "!splunk-failed", 5000, &lines[0]));
        lines.iter().for_each(|line| assert!(files.append(line.as_bytes()).is_ok()));
        scene.look(1 << 20, AN_HOUR).unwrap();
        let sent = scene.sent();
        assert_eq!((sent.len(), &sent[0].3, sent[0].2), (1, &lines[..2].concat(), 4999), "the oldest arrival is not the first");
        assert_eq!(files.used_bytes().unwrap(), lines[2].len() as u64, "the current file is young");
        scene.look(1 << 20, Duration::ZERO).unwrap();
        let sent = scene.sent();
        assert_eq!((sent.len(), &sent[0].3), (1, &lines[2]), "what is gone is not shipped again");
        assert_eq!(files.used_bytes().unwrap(), 0);
    }

    #[test]
    fn what_is_not_stored_stays_and_goes_out_under_the_same_name_again() {
        let scene = Scene::new();
        let (files, other) = (scene.files("siem", 1 << 20), scene.files("aside", 1 << 20));
        files.append(line(1, "http").as_bytes()).unwrap();
        other.append(line(2, "file").as_bytes()).unwrap();
        let failures = [Step::Retry("away".into(), None), Step::Hold("no key".into()), Step::Rejected("large".into())];
        let mut first = None;
        for (failure, why) in failures.into_iter().zip(["away", "no key", "large"]) {
            other.append(line(2, "file").as_bytes()).unwrap();
            scene.bucket.answers.borrow_mut().extend([Step::Stored, failure]);
            let error = scene.look(1 << 20, Duration::ZERO).unwrap_err();
            assert!(error.contains(why) && error.contains("siem"), "{error}");
            let sent = scene.sent();
            assert_eq!((&sent[0].0[..], &sent[1].0[..]), ("!processing-failed", "!http-endpoint-failed"));
            assert_eq!(first.get_or_insert_with(|| sent[1].clone()), &sent[1]);
            assert_eq!(other.used_bytes().unwrap(), 0, "one destination does not keep another");
            // What comes meanwhile is another file, and another object.
            files.append(line(3, "http").as_bytes()).unwrap();
        }
        scene.look(1 << 20, Duration::ZERO).unwrap();
        assert_eq!(scene.sent()[0], first.unwrap());
        assert_eq!(files.used_bytes().unwrap(), 0);
    }

    #[test]
    fn a_process_that_ends_before_the_removal_sends_the_same_objects_again() {
        let scene = Scene::new();
        let files = scene.files("siem", 1 << 20);
        let lines: Vec<String> = (0..5).map(|number| line(number, "http")).collect();
        lines.iter().for_each(|line| assert!(files.append(line.as_bytes()).is_ok()));
        let limit = lines[0].len() + 1;
        // The bucket stores the first two objects; of the third nobody hears any more.
        scene.bucket.answers.borrow_mut().extend([Step::Stored, Step::Stored, Step::Retry("gone".into(), None)]);
        scene.look(limit, Duration::ZERO).unwrap_err();
        let before = scene.sent();
        scene.look(limit, Duration::ZERO).unwrap();
        let after = scene.sent();
        assert_eq!((before.len(), &before[..]), (3, &after[..]));
        assert_eq!(after.iter().map(|(.., text)| text.as_str()).collect::<String>(), lines.concat());
        let ids: std::collections::HashSet<u128> = after.iter().map(|(_, id, ..)| *id).collect();
        assert_eq!((ids.len(), files.used_bytes().unwrap()), (3, 0));
    }

    #[test]
    fn a_torn_line_is_shipped_with_the_others_and_whoever_replays_goes_first() {
        let scene = Scene::new();
        let files = scene.files("siem", 1 << 20);
        files.append(b"{\"torn").unwrap();
        let whole = line(1, "stdout");
        files.append(whole.as_bytes()).unwrap();
        let replay = files.maintain().unwrap();
        scene.look(1 << 20, AN_HOUR).unwrap();
        assert_eq!(scene.sent(), []);
        drop(replay);
        scene.look(1 << 20, AN_HOUR).unwrap();
        let sent = scene.sent();
        assert_eq!((&sent[0].0[..], &sent[0].3), ("!processing-failed", &format!("{{\"torn\n{whole}")));
        files.append(b"{\"torn").unwrap();
        scene.look(1 << 20, AN_HOUR).unwrap();
        assert_eq!(scene.sent()[0].3, "{\"torn\n", "what has no time is old");
    }
}
