//! Content that comes over HTTP(S) on a schedule.
//!
//! A feed keeps the last good download in the data folder (`feeds/NAME`, with `NAME.json` beside it: what the server said
//! of its state, and when it was asked), so that a start without a network has a list, and a restart asks no sooner than
//! the schedule says. [`Feed::refresh`] never waits: when it is time it starts a thread, which downloads, parses, and
//! exchanges the content; a later call tells what became of it. The first call only reads what is kept, so making a plan
//! (`hydrant validate`) sends nothing.
//!
//! A list is one file, or many: the module `misp` makes one of those.
//!
//! A download that fails, or whose content the parser refuses, leaves everything as it was and is tried again after
//! [`RETRY_FIRST_MS`], twice as long each time up to the interval, or after what the server asks for. Each wait is up to a
//! tenth shorter, so that many instances do not come at once.

mod misp;

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Refresh;
use super::watch::{Handle, Parse, Published, open};
use crate::atomic_file::{self, Draft};
use crate::clock;
use crate::error::{Diagnostic, Diagnostics};
use crate::event::fingerprint;
use crate::net::download::{DownloadError, Downloaded, Downloader, Shown, Validators};

pub(super) use misp::MANIFEST;
use misp::MispFeed;

/// Wait after the first failure.
const RETRY_FIRST_MS: i64 = 30_000;

/// Longest file beside a list.
const STATE_BYTES_MAX: u64 = 16 * 1024;

/// What stands at the address.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// The list.
    File,
    /// The manifest of a MISP feed, of which so many events are taken.
    Misp(usize),
}

/// A list of somebody else's.
pub(super) struct Feed<T> {
    downloader: Downloader,
    form: Form,
    interval_ms: i64,
    bytes_max: u64,
    parse: Parse<T>,
    /// The last good download.
    list: PathBuf,
    /// The address without its query, for messages.
    shown: PathBuf,
    published: Arc<Published<T>>,
    schedule: Mutex<Schedule>,
}

#[derive(Default)]
struct Schedule {
    is_begun: bool,
    due_ms: i64,
    failures: u32,
    known: Validators,
    running: Option<JoinHandle<Outcome>>,
}

/// The lists that are being downloaded: after a reload the feed of the old plan may still be at work.
static BUSY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The right to download a list, until it is dropped.
struct Turn(PathBuf);

impl Turn {
    fn take(list: &Path) -> Option<Self> {
        let is_free = BUSY.lock().unwrap_or_else(PoisonError::into_inner).insert(list.to_owned());
        is_free.then(|| Self(list.to_owned()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// What is kept beside the list.
#[derive(Default, Serialize, Deserialize)]
struct State {
    asked_ms: i64,
    #[serde(flatten)]
    known: Validators,
}

enum Outcome {
    NotModified,
    /// With what there is to say of it.
    Loaded(Validators, Diagnostics),
    Failed(Diagnostics, Option<Duration>),
}

impl<T: Send + Sync + 'static> Feed<T> {
    /// A feed that is kept below `data` under its name and address: with another address it begins anew.
    pub(super) fn new(
        (downloader, form): (Downloader, Form),
        name: &str,
        (interval, bytes_max): (Duration, u64),
        data: &Path,
        parse: Parse<T>,
    ) -> Arc<Self> {
        let uri = downloader.uri();
        let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(64).collect();
        let name = format!("{plain}-{:016x}", fingerprint(format!("{name}\0{uri}").as_bytes()));
        Arc::new(Self {
            interval_ms: i64::try_from(interval.as_millis()).unwrap_or(i64::MAX),
            bytes_max,
            parse,
            list: data.join("feeds").join(name),
            shown: Shown(uri).to_string().into(),
            published: Arc::default(),
            schedule: Mutex::default(),
            downloader,
            form,
        })
    }

    /// What shards read.
    pub(super) fn published(&self) -> &Arc<Published<T>> {
        &self.published
    }

    /// A reader for one shard.
    pub(super) fn handle(&self) -> Handle<T> {
        self.published.handle()
    }

    /// Goes one step on; at once.
    pub(super) fn refresh(self: &Arc<Self>) -> Refresh {
        let mut schedule = self.schedule.lock().unwrap_or_else(PoisonError::into_inner);
        if !schedule.is_begun {
            return self.begin(&mut schedule);
        }
        match schedule.running.take_if(|running| running.is_finished()) {
            Some(done) => {
                let lost = || Outcome::Failed(self.error("the download ended by a panic"), None);
                let outcome = done.join().unwrap_or_else(|_| lost());
                self.take(&mut schedule, outcome)
            }
            None => {
                if schedule.running.is_none() && clock::now_ms() >= schedule.due_ms {
                    return self.start(&mut schedule);
                }
                Refresh::Unchanged
            }
        }
    }

    /// Takes up what is kept. If it cannot be used, it is downloaded anew.
    fn begin(&self, schedule: &mut Schedule) -> Refresh {
        schedule.is_begun = true;
        if !self.list.exists() {
            return Refresh::Unchanged;
        }
        match open(&self.list, self.bytes_max).and_then(|file| (self.parse)(&self.shown, file)) {
            Ok(content) => {
                let state = self.state();
                // A clock that was set back must not hold a feed for years.
                schedule.due_ms = state.asked_ms.min(clock::now_ms()).saturating_add(self.interval_ms);
                schedule.known = state.known;
                self.published.put(content);
                Refresh::Loaded
            }
            Err(mut diagnostics) => {
                diagnostics.0.iter_mut().for_each(|diagnostic| {
                    *diagnostic = diagnostic.clone().warning();
                    diagnostic.message.insert_str(0, "the copy at hand cannot be used: ");
                });
                Refresh::Partly(diagnostics)
            }
        }
    }

    fn start(self: &Arc<Self>, schedule: &mut Schedule) -> Refresh {
        let Some(turn) = Turn::take(&self.list) else { return Refresh::Unchanged };
        let (feed, known) = (self.clone(), schedule.known.clone());
        let work = move || {
            let _turn = turn;
            feed.update(&known)
        };
        match std::thread::Builder::new().name("hydrant-feed".to_owned()).spawn(work) {
            Ok(running) => {
                schedule.running = Some(running);
                Refresh::Unchanged
            }
            Err(error) => self.take(schedule, Outcome::Failed(self.error(format!("no thread to download: {error}")), None)),
        }
    }

    /// Notes what became of a download.
    fn take(&self, schedule: &mut Schedule, outcome: Outcome) -> Refresh {
        let (wait_ms, refresh) = match outcome {
            Outcome::NotModified => (self.interval_ms, Refresh::Unchanged),
            Outcome::Loaded(known, notes) => {
                schedule.known = known;
                (self.interval_ms, if notes.0.is_empty() { Refresh::Loaded } else { Refresh::Partly(notes) })
            }
            Outcome::Failed(diagnostics, retry_after) => {
                let backoff_ms = RETRY_FIRST_MS.saturating_mul(1 << schedule.failures.min(20)).min(self.interval_ms);
                let asked_ms = retry_after.map_or(0, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
                schedule.failures += 1;
                schedule.due_ms = clock::now_ms().saturating_add(jittered(backoff_ms).max(asked_ms));
                return Refresh::Failed(diagnostics);
            }
        };
        schedule.failures = 0;
        schedule.due_ms = clock::now_ms().saturating_add(jittered(wait_ms));
        refresh
    }

    /// Downloads and exchanges, on a thread of its own.
    fn update(&self, known: &Validators) -> Outcome {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return Outcome::Failed(self.error(format!("no runtime to download: {error}")), None),
        };
        let stored =
            |error: std::io::Error| Outcome::Failed(self.error(format!("cannot be kept in {}: {error}", self.list.display())), None);
        if let Err(error) = self.list.parent().map_or(Ok(()), fs::create_dir_all) {
            return stored(error);
        }
        let mut draft = match Draft::new(&self.list) {
            Ok(draft) => draft,
            Err(error) => return stored(error),
        };
        let mut out = BufWriter::new(&mut draft.file);
        let downloaded = runtime.block_on(self.download(known, &mut out));
        let (downloaded, mut notes) = match (downloaded, out.flush()) {
            (Ok(_), Err(error)) => return stored(error),
            (Ok(downloaded), Ok(())) => downloaded,
            (Err(error), _) => {
                // The message begins with the address where it happened.
                return Outcome::Failed(self.error(error.message), error.retry_after);
            }
        };
        drop(out);
        let new = match downloaded {
            Downloaded::NotModified => {
                self.note(known);
                return Outcome::NotModified;
            }
            Downloaded::Whole(new) => new,
        };
        let content = match open(draft.path(), self.bytes_max).and_then(|file| (self.parse)(&self.shown, file)) {
            Ok(content) => content,
            Err(mut diagnostics) => {
                diagnostics.0.append(&mut notes.0);
                return Outcome::Failed(diagnostics, None);
            }
        };
        if let Err(error) = draft.publish() {
            return stored(error);
        }
        self.note(&new);
        self.published.put(content);
        Outcome::Loaded(new, notes)
    }

    /// Writes what stands at the address to `out`, with what there is to say of it.
    async fn download(&self, known: &Validators, out: &mut impl Write) -> Result<(Downloaded, Diagnostics), DownloadError> {
        match self.form {
            Form::File => Ok((self.downloader.download(known, out).await?, Diagnostics::new())),
            Form::Misp(events_max) => {
                let old = open(&self.list, self.bytes_max).ok();
                MispFeed { downloader: &self.downloader, events_max, bytes_max: self.bytes_max }.gather(known, old, out).await
            }
        }
    }

    fn state_path(&self) -> PathBuf {
        self.list.with_added_extension("json")
    }

    /// What is kept of the last download; nothing if it is not readable.
    fn state(&self) -> State {
        open(&self.state_path(), STATE_BYTES_MAX).ok().and_then(|file| serde_json::from_reader(file).ok()).unwrap_or_default()
    }

    /// Keeps it. Without it the next start asks again.
    fn note(&self, known: &Validators) {
        let state = State { asked_ms: clock::now_ms(), known: known.clone() };
        let written = serde_json::to_vec(&state).map_err(Into::into).and_then(|bytes| atomic_file::replace(&self.state_path(), &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.state_path().display(), "the state of a feed is not written down");
        }
    }

    fn error(&self, message: impl Into<String>) -> Diagnostics {
        Diagnostic::error(&self.shown, 0, 0, "", message).into()
    }
}

/// The time, up to a tenth less.
fn jittered(ms: i64) -> i64 {
    let part = (RandomState::new().hash_one(0) % 256) as i64;
    ms - ms / 10 / 256 * part
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Take};
    use std::net::{TcpListener, TcpStream};

    use hyper::HeaderMap;

    use super::*;
    use crate::net::http_client::Reach;
    use crate::net::tls::{ClientTls, TlsClient};

    type Shared<T> = Arc<Mutex<Vec<T>>>;

    /// Answers every request with what is in the cell and keeps what was asked.
    fn server() -> (u16, Shared<u8>, Shared<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, asked) = (Shared::<u8>::default(), Shared::<String>::default());
        let cells = (answer.clone(), asked.clone());
        std::thread::spawn(move || {
            let serve = |mut stream: TcpStream| {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                    head.push(byte[0]);
                }
                cells.1.lock().unwrap().push(String::from_utf8_lossy(&head).to_ascii_lowercase());
                stream.write_all(&cells.0.lock().unwrap())
            };
            listener.incoming().map_while(Result::ok).for_each(|stream| drop(serve(stream)));
        });
        (port, answer, asked)
    }

    fn feed(port: u16, data: &Path) -> Arc<Feed<String>> {
        let tls = ClientTls::load(&TlsClient { verify: false, ..TlsClient::default() }).unwrap();
        let uri = format!("http://127.0.0.1:{port}/list?key=s3cret").parse().unwrap();
        let downloader = Downloader::new(uri, HeaderMap::new(), tls, Reach { private: false, loopback: true }, 1000);
        let parse = |path: &Path, mut file: Take<fs::File>| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            if text.starts_with('<') { Err(Diagnostic::error(path, 1, 0, "", "a page").into()) } else { Ok(text) }
        };
        Feed::new((downloader, Form::File), "evil list", (Duration::from_secs(3600), 1000), data, Box::new(parse))
    }

    /// Looks until something has become of a download that is due.
    fn next(feed: &Arc<Feed<String>>) -> Refresh {
        feed.schedule.lock().unwrap().due_ms = 0;
        assert!(matches!(feed.refresh(), Refresh::Unchanged));
        loop {
            let is_done = feed.schedule.lock().unwrap().running.as_ref().is_none_or(JoinHandle::is_finished);
            if is_done {
                return feed.refresh();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn answer(head: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[test]
    fn a_feed_is_loaded_kept_asked_again_and_there_after_a_restart_without_a_network() {
        let folder = tempfile::tempdir().unwrap();
        let (port, cell, asked) = server();
        let first = feed(port, folder.path());
        assert!(matches!(first.refresh(), Refresh::Unchanged), "nothing is kept yet");
        assert!(asked.lock().unwrap().is_empty(), "the first look sends nothing");
        *cell.lock().unwrap() = answer("200 OK\r\netag: \"one\"", "one");
        assert!(matches!(next(&first), Refresh::Loaded));
        assert_eq!(*first.published.newest().unwrap(), "one");
        assert!(matches!(first.refresh(), Refresh::Unchanged), "the interval is not over");
        *cell.lock().unwrap() = b"HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n".to_vec();
        assert!(matches!(next(&first), Refresh::Unchanged));
        assert!(asked.lock().unwrap()[1].contains("if-none-match: \"one\""));
        for (bad, message) in [
            (answer("200 OK", "<html>"), "error: a page"),
            (answer("500 x", ""), "the answer is 500"),
            (answer("200 OK", &"x".repeat(1001)), "more than 1000 bytes"),
            (Vec::new(), "error: http://127.0.0.1"),
        ] {
            *cell.lock().unwrap() = bad;
            let Refresh::Failed(diagnostics) = next(&first) else { panic!("{message}: it was taken") };
            let text = diagnostics.to_string();
            assert!(text.contains(message) && !text.contains("s3cret"), "{text}");
            assert_eq!(*first.published.newest().unwrap(), "one");
        }
        drop(first);
        let nobody = feed(port, folder.path());
        assert!(matches!(nobody.refresh(), Refresh::Loaded));
        assert_eq!(*nobody.published.newest().unwrap(), "one");
        let count = asked.lock().unwrap().len();
        assert!(matches!(nobody.refresh(), Refresh::Unchanged), "it was asked for a moment ago");
        assert!(nobody.schedule.lock().unwrap().running.is_none());
        assert_eq!(asked.lock().unwrap().len(), count);
        let files: Vec<_> = fs::read_dir(folder.path().join("feeds")).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files.len(), 2, "no draft stays: {files:?}");
    }

    #[test]
    fn waits_grow_with_failures_and_end_at_the_interval() {
        let folder = tempfile::tempdir().unwrap();
        let feed = feed(9, folder.path());
        let mut schedule = Schedule::default();
        let mut wait = |retry_after| {
            feed.take(&mut schedule, Outcome::Failed(feed.error("x"), retry_after));
            (schedule.due_ms - clock::now_ms() + 500) / 1000
        };
        let waits: Vec<i64> = (0..9).map(|_| wait(None)).collect();
        for (wait, expected) in waits.iter().zip([30, 60, 120, 240, 480, 960, 1920, 3600, 3600]) {
            assert!((expected * 9 / 10..=expected).contains(wait), "{waits:?}");
        }
        assert_eq!(wait(Some(Duration::from_secs(9000))), 9000);
    }

    #[test]
    fn a_copy_that_cannot_be_used_does_not_hold_up_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let feed = feed(9, folder.path());
        fs::create_dir_all(folder.path().join("feeds")).unwrap();
        fs::write(&feed.list, "<html>").unwrap();
        let Refresh::Partly(diagnostics) = feed.refresh() else { panic!("it was taken or is an error") };
        assert!(diagnostics.to_string().contains("warning: the copy at hand cannot be used: a page"), "{diagnostics}");
        assert!(!diagnostics.has_errors());
    }
}
