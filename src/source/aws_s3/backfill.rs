//! What was in a bucket before: `backfill: { bucket, prefix, start_after }`.
//!
//! Objects are listed in the order of their keys and read, several at once. Which of them are done stands in
//! `data_dir/sources/<name>/backfill.json`, so that a restart goes on and reads each object once (what was being read
//! at a crash may be read again). It is written when the events are durable, at most every [`SAVE_INTERVAL`]. Another `bucket`,
//! `prefix` or `start_after` begins anew; when all is done, the file says so and nothing is read again.
//!
//! An object that is also announced by the queue in this run is read once. One that is damaged, forbidden ([`TRIES`]
//! attempts), too large or gone is logged, counted, and noted as `failed` in the file: there is no queue that would bring
//! it again. A store that does not answer is waited for.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use aws_sdk_s3::types::Object;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::notification::Announced;
use super::object::{Failure, Reason};
use super::recent::Id;
use super::{AtWork, PAUSE, PAUSE_MAX, Reader, STOP_PATIENCE, holds_no_events};
use crate::atomic_file;
use crate::error::{Error, ErrorKind};
use crate::net::aws;
use crate::task::Stop;

/// Attempts at an object that the store refuses.
const TRIES: u32 = 3;

/// Keys of one answer, by S3's rules.
const PAGE_KEYS: i32 = 1000;

/// The checkpoint is written at most so often: what is done in between is read twice after a crash, and each time costs
/// two syncs, for which only the next object waits.
const SAVE_INTERVAL: Duration = Duration::from_millis(50);

/// Keys of failed objects that the checkpoint keeps; all of them are in the log.
const FAILED_MAX: usize = 10_000;

/// Largest checkpoint: [`FAILED_MAX`] keys, escaped.
const FILE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Backfill {
    /// Name of the bucket.
    bucket: String,
    /// Beginning of the keys.
    #[serde(default)]
    prefix: String,
    /// Only keys behind this one, in the order of their bytes.
    #[serde(default)]
    start_after: String,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
struct Checkpoint {
    /// What it is of.
    of: Option<Backfill>,
    /// All objects up to this key are done.
    after: String,
    /// Objects behind it that are done too.
    done: Vec<String>,
    /// Objects that could not be read.
    failed: Vec<String>,
    is_complete: bool,
}

impl Checkpoint {
    fn load(folder: &Path) -> io::Result<Self> {
        let path = folder.join("backfill.json");
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
            Ok(meta) if meta.len() > FILE_BYTES_MAX => return Err(io::Error::other("the file is too large to be a checkpoint")),
            Ok(_) => {}
        }
        serde_json::from_slice(&fs::read(&path)?).map_err(io::Error::other)
    }

    /// Replaces the file as a whole: after a crash it is the old or the new one.
    fn save(&self, folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        atomic_file::replace(&folder.join("backfill.json"), &serde_json::to_vec(self).map_err(io::Error::other)?)
    }
}

/// Objects that are being read, in the order of their keys, and how far all is done.
#[derive(Default)]
struct Window {
    checkpoint: Checkpoint,
    /// Keys and whether they are done.
    open: VecDeque<(String, bool)>,
    reading: usize,
}

impl Window {
    fn begin(&mut self, key: &str) {
        self.open.push_back((key.to_owned(), false));
        self.reading += 1;
    }

    /// A key that need not be read.
    fn pass(&mut self, key: &str) {
        self.open.push_back((key.to_owned(), true));
        self.advance();
    }

    fn end(&mut self, key: &str, has_failed: bool) {
        self.reading = self.reading.saturating_sub(1);
        if let Some((_, is_done)) = self.open.iter_mut().find(|(own, _)| own == key) {
            *is_done = true;
        }
        if has_failed && self.checkpoint.failed.len() < FAILED_MAX {
            self.checkpoint.failed.push(key.to_owned());
        }
        self.advance();
    }

    fn advance(&mut self) {
        while let Some((key, _)) = self.open.pop_front_if(|(_, is_done)| *is_done) {
            self.checkpoint.after = key;
        }
        self.checkpoint.done = self.open.iter().filter(|(_, is_done)| *is_done).map(|(key, _)| key.clone()).collect();
    }
}

/// Reads everything that is configured, until `stop`.
pub(super) async fn run(reader: Rc<Reader>, stop: &Stop) -> Result<(), Error> {
    let Some(backfill) = reader.config.backfill.clone() else { return Ok(()) };
    let folder = reader.intake.state_dir();
    let failed = |operation, error: io::Error| {
        Error::new(ErrorKind::Storage, operation, "a file cannot be used")
            .with("path", folder.join("backfill.json").display())
            .because(error)
    };
    let mut checkpoint = Checkpoint::load(&folder).map_err(|error| failed("read the checkpoint", error))?;
    if checkpoint.of.as_ref() != Some(&backfill) {
        checkpoint = Checkpoint { after: backfill.start_after.clone(), of: Some(backfill.clone()), ..Checkpoint::default() };
    }
    if checkpoint.is_complete {
        return Ok(());
    }
    let (sender, ended) = mpsc::unbounded_channel();
    let past = std::mem::take(&mut checkpoint.done);
    let window = Window { checkpoint, ..Window::default() };
    let mut filling = Filling { reader, backfill, window, past, ended, sender, saved: Instant::now() };
    let saved = async {
        filling.window.checkpoint.is_complete = filling.fill(stop).await?;
        filling.save().await
    };
    saved.await.map_err(|error| failed("write the checkpoint", error))?;
    let Window { checkpoint, .. } = &filling.window;
    if checkpoint.is_complete {
        let Backfill { bucket, prefix, .. } = &filling.backfill;
        tracing::info!(bucket, prefix, failed = checkpoint.failed.len(), "backfill is complete");
    }
    Ok(())
}

struct Filling {
    reader: Rc<Reader>,
    backfill: Backfill,
    window: Window,
    /// Objects that an earlier run has done out of order.
    past: Vec<String>,
    ended: mpsc::UnboundedReceiver<(String, Result<(), Failure>)>,
    sender: mpsc::UnboundedSender<(String, Result<(), Failure>)>,
    saved: Instant,
}

impl Filling {
    /// Whether all was read.
    async fn fill(&mut self, stop: &Stop) -> io::Result<bool> {
        let mut listed = self.window.checkpoint.after.clone();
        loop {
            let Some((page, is_last)) = self.list(&listed, stop).await else { return self.wait_for(0, stop).await.map(|()| false) };
            for object in page {
                let Some(key) = object.key() else { continue };
                listed = key.to_owned();
                if holds_no_events(key, object.size().and_then(|size| u64::try_from(size).ok())) || self.past.iter().any(|past| past == key)
                {
                    self.window.pass(key);
                    continue;
                }
                self.wait_for(self.reader.config.concurrency - 1, stop).await?;
                if stop.is_set() {
                    return self.wait_for(0, stop).await.map(|()| false);
                }
                self.begin(key, &object);
            }
            if is_last {
                self.wait_for(0, stop).await?;
                return Ok(self.window.open.is_empty());
            }
        }
    }

    /// The next keys, and whether they are the last; nothing if Hydrant stops before the store answers well.
    async fn list(&self, after: &str, stop: &Stop) -> Option<(Vec<Object>, bool)> {
        let mut pause = PAUSE;
        loop {
            let request = self.reader.store.list_objects_v2().bucket(&self.backfill.bucket).prefix(&self.backfill.prefix);
            let request = request.max_keys(PAGE_KEYS).set_start_after(Some(after.to_owned()).filter(|after| !after.is_empty()));
            let answer = tokio::select! {
                answer = Box::pin(request.send()) => answer,
                () = stop.wait() => return None,
            };
            match answer {
                Ok(answer) => {
                    let is_truncated = answer.is_truncated.unwrap_or(false);
                    let page = answer.contents.unwrap_or_default();
                    // What is cut off behind nothing would be asked for forever.
                    let is_last = !is_truncated || page.is_empty();
                    return Some((page, is_last));
                }
                Err(error) => {
                    self.reader.intake.count_refused("backfill");
                    tracing::warn!(bucket = self.backfill.bucket, error = aws::explain(&error), "the bucket cannot be listed; tried again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.wait() => return None,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn begin(&mut self, key: &str, object: &Object) {
        self.window.begin(key);
        let announced = Announced {
            bucket: self.backfill.bucket.clone(),
            key: key.to_owned(),
            etag: object.e_tag().map(|etag| etag.trim_matches('"').to_owned()),
            ..Announced::default()
        };
        let (reader, sender, at_work) = (self.reader.clone(), self.sender.clone(), AtWork::new(&self.reader));
        tokio::task::spawn_local(async move {
            let result = reader.fill_in(&announced).await;
            // Nobody listens any more when Hydrant stops.
            let _ = sender.send((announced.key, result));
            drop(at_work);
        });
    }

    /// Waits until at most `count` objects are being read; gives up a while after `stop`, when they are abandoned.
    async fn wait_for(&mut self, count: usize, stop: &Stop) -> io::Result<()> {
        while self.window.reading > count {
            let ended = tokio::select! {
                ended = self.ended.recv() => ended,
                () = patience(stop) => return Ok(()),
            };
            let Some((key, result)) = ended else { return Ok(()) };
            match result {
                Err(Failure { reason: Reason::Stopping, .. }) => self.window.reading -= 1,
                result => self.window.end(&key, result.is_err()),
            }
            if self.saved.elapsed() >= SAVE_INTERVAL {
                self.save().await?;
            }
        }
        Ok(())
    }

    async fn save(&mut self) -> io::Result<()> {
        self.saved = Instant::now();
        let mut checkpoint = self.window.checkpoint.clone();
        checkpoint.done.extend(self.past.iter().filter(|key| **key > checkpoint.after).cloned());
        let folder = self.reader.intake.state_dir();
        tokio::task::spawn_blocking(move || checkpoint.save(&folder)).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// Resolves a while after `stop`.
async fn patience(stop: &Stop) {
    stop.wait().await;
    tokio::time::sleep(STOP_PATIENCE).await;
}

impl Reader {
    /// Reads an object that was found, unless the queue has brought it meanwhile.
    async fn fill_in(&self, object: &Announced) -> Result<(), Failure> {
        let id = Id::of_content(object);
        let _open = self.open(id).await;
        if self.known.borrow().contents.has(&id) {
            return Ok(());
        }
        let (mut pause, mut tries) = (PAUSE, 0);
        loop {
            let failure = match self.read(object).await {
                Ok(etag) => {
                    let found = Announced { etag: Some(etag), ..object.clone() };
                    self.known.borrow_mut().ahead.put(Id::of_content(&found), ());
                    return Ok(());
                }
                Err(failure) => failure,
            };
            tries += 1;
            let is_final = match failure.reason {
                Reason::Store | Reason::NotStored => self.abandon.is_set(),
                Reason::Denied => tries >= TRIES,
                _ => true,
            };
            if failure.reason == Reason::Stopping || self.abandon.is_set() {
                return Err(Failure { reason: Reason::Stopping, ..failure });
            }
            let (bucket, key, reason) = (&object.bucket, &object.key, failure.reason.name());
            if is_final {
                self.intake.count_refused(reason);
                tracing::error!(bucket, key, reason, error = failure.message, "an object could not be read; the backfill leaves it out");
                return Err(failure);
            }
            tracing::warn!(bucket, key, reason, error = failure.message, "an object cannot be read; tried again");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.abandon.wait() => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_up_to_the_first_open_key_is_done() {
        let mut window = Window::default();
        for key in ["a", "b", "c", "d"] {
            window.begin(key);
        }
        window.pass("e");
        window.end("c", true);
        assert_eq!((window.checkpoint.after.as_str(), window.reading), ("", 3));
        assert_eq!(window.checkpoint.done, ["c", "e"]);
        window.end("a", false);
        assert_eq!((window.checkpoint.after.as_str(), &window.checkpoint.done[..]), ("a", &["c".to_owned(), "e".to_owned()][..]));
        window.end("b", false);
        assert_eq!((window.checkpoint.after.as_str(), &window.checkpoint.done[..]), ("c", &["e".to_owned()][..]));
        window.end("d", false);
        assert_eq!((window.checkpoint.after.as_str(), window.open.len(), window.checkpoint.done.len()), ("e", 0, 0));
        assert_eq!(window.checkpoint.failed, ["c"]);
    }

    #[test]
    fn a_checkpoint_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("sources/in");
        assert_eq!(Checkpoint::load(&state).unwrap(), Checkpoint::default());
        let of = Some(Backfill { bucket: "b".into(), prefix: "p/".into(), start_after: String::new() });
        let checkpoint = Checkpoint { of, after: "p/\u{e9}\n".into(), done: vec!["p/z".into()], ..Checkpoint::default() };
        checkpoint.save(&state).unwrap();
        assert_eq!(Checkpoint::load(&state).unwrap(), checkpoint);
        fs::write(state.join("backfill.json"), "{").unwrap();
        assert!(Checkpoint::load(&state).is_err());
    }
}
