//! `file`: log files, followed across rotation, and standard input.
//!
//! In: files that match globs (`*`, `?`, `[a-z]`, `**`), plain, gzip or zstd (told by their first bytes), or `-`. Out:
//! frames, by lines unless `framing` says otherwise, with `%hydrant.path`. Only regular files are read. The folders are
//! looked through every `poll_interval`; there is no inotify, which network file systems do not have.
//!
//! * `read: tail` goes on for ever, `read: once` ends when every file was read to its end. `from: end` leaves out what is
//!   in files when Hydrant first sees them at its start; files that appear later are read from the beginning.
//! * Checkpoints are written when the events are journaled, so a crash may read some lines twice and loses none. How a
//!   file is recognised after a rename, a copy or compression: see [`checkpoint`].
//! * Renamed: the open file is read to its end; when it has matched no glob and not grown for [`GONE`], its last line is
//!   taken although it has no end, and it is closed. Truncated (copytruncate): read again from the beginning; what was
//!   written between the copy and the truncation is lost, as rotation tools say themselves.
//! * A line without an end waits for it (`once`: the end of the file ends it).
//! * Compressed files are read whole, not followed, and only when they have not changed for [`SETTLED`]. One that was
//!   interrupted is read again from its beginning. A damaged one gives what can be read, and is counted.
//!
//! Not sharded: the first shard reads, whole chunks go to idle shards.

mod checkpoint;
mod content;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::mpsc;

use super::{Intake, Refused, Source, SourceKind, Stream};
use crate::config::{Interval, Section, schema_of};
use crate::error::{Diagnostics, Error, ErrorKind};
use crate::event::{Origin, OriginField};
use crate::limits::READ_BYTES;
use crate::task::{LocalFuture, Stop};
use checkpoint::Checkpoints;
use content::Content;

pub(super) struct File;

const SAMPLE: &str = r#"
type: file
include: ["/var/log/fw/*.log"]  # `-` alone is standard input
exclude: ["/var/log/fw/debug*"]
read: tail                      # or once
from: beginning                 # or end: leave out what is there at the first start
poll_interval: 250ms
"#;

/// How long a rotated file may stay silent before it is closed: writers reopen their log within seconds.
const GONE: Duration = Duration::from_secs(5);

/// A compressed file that changed later than this may still be written.
const SETTLED: Duration = Duration::from_secs(5);

/// Files that are open at the same time; more wait. Half of the usual hard limit of descriptors.
const FILES_MAX: usize = 2048;

/// Reads of one file before the next one has its turn.
const READS_MAX: usize = 32;

/// Checkpoints are written at most so often.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Pieces of standard input that wait.
const STDIN_QUEUE: usize = 4;

impl SourceKind for File {
    fn name(&self) -> &'static str {
        "file"
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
        for (key, list) in [("include", &config.include), ("exclude", &config.exclude)] {
            for text in list {
                if let Err(error) = glob::Pattern::new(text) {
                    diagnostics.push(child(key).error(format!("`{text}` is not a glob: {error}")));
                }
            }
        }
        if config.include.is_empty() {
            diagnostics.push(child("include").error("at least one glob is needed").help("include: [\"/var/log/*.log\"]"));
        }
        if config.include.iter().any(|text| text == "-") && config.include.len() > 1 {
            diagnostics.push(child("include").error("`-` (standard input) stands alone"));
        }
        if config.poll_interval.0 < Duration::from_millis(10) {
            diagnostics.push(child("poll_interval").error("at least 10ms"));
        }
        diagnostics.into_result(Arc::new(config))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ReadMode {
    /// For ever.
    #[default]
    Tail,
    /// Until the end of every file.
    Once,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum From {
    /// All that is in a file.
    #[default]
    Beginning,
    /// Only what is written after the first start.
    End,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Globs of files to read; `-` alone is standard input.
    include: Vec<String>,
    /// Globs of files to leave out.
    #[serde(default)]
    exclude: Vec<String>,
    /// How long to read.
    #[serde(default)]
    read: ReadMode,
    /// Where a file that was never read begins.
    #[serde(default)]
    from: From,
    /// How often files and folders are looked at.
    #[serde(default = "Config::poll_interval")]
    poll_interval: Interval,
}

impl Config {
    fn poll_interval() -> Interval {
        Interval(Duration::from_millis(250))
    }

    /// Paths of the files that match now. Folders that cannot be read have none.
    fn matches(&self) -> Vec<PathBuf> {
        let exclude: Vec<glob::Pattern> = self.exclude.iter().filter_map(|text| glob::Pattern::new(text).ok()).collect();
        let paths = self.include.iter().filter_map(|text| glob::glob(text).ok()).flatten().filter_map(Result::ok);
        let mut paths: Vec<PathBuf> = paths.filter(|path| !exclude.iter().any(|pattern| pattern.matches_path(path))).collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

impl Source for Config {
    fn framing(&self) -> &'static str {
        "newline"
    }

    fn is_sharded(&self) -> bool {
        false
    }

    fn run(self: Arc<Self>, intake: Rc<dyn Intake>, stop: Stop) -> LocalFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            if self.include.iter().any(|text| text == "-") {
                return read_stdin(&*intake, &stop).await;
            }
            let folder = intake.state_dir();
            let failed = |error: io::Error| storage("read the checkpoints", &folder, error);
            let checkpoints = Checkpoints::load(&folder).map_err(failed)?;
            let files = Files {
                config: self,
                intake,
                folder,
                checkpoints: Arc::new(checkpoints),
                open: HashMap::new(),
                done: HashMap::new(),
                is_full: false,
                looked: None,
                saved: None,
                changed: false,
            };
            files.run(&stop).await
        })
    }
}

fn storage(operation: &'static str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Storage, operation, "a file cannot be used").with("path", path.display()).because(error)
}

/// Runs file work on a thread where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let failed = |error| Error::new(ErrorKind::Unexpected, "read files", "the reading thread panicked").because(error);
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// Device and inode.
type Key = (u64, u64);

/// Size and time of the last change.
type Version = (u64, i64, i64);

/// An open file.
struct Tail {
    path: PathBuf,
    content: Content,
    /// Size and time of the last change when it was opened.
    version: Version,
    /// Bytes given to the stream, after decompression.
    offset: u64,
    /// Bytes whose frames are journaled.
    journaled: u64,
    stream: Box<dyn Stream>,
    /// When it last gave something, or still had its name.
    alive: Instant,
    is_at_end: bool,
    is_dirty: bool,
}

struct Files {
    config: Arc<Config>,
    intake: Rc<dyn Intake>,
    folder: PathBuf,
    checkpoints: Arc<Checkpoints>,
    open: HashMap<Key, Tail>,
    /// Files that were read to their end and closed, until they change.
    done: HashMap<Key, Version>,
    /// Files wait because too many are open.
    is_full: bool,
    looked: Option<Instant>,
    saved: Option<Instant>,
    changed: bool,
}

impl Files {
    async fn run(mut self, stop: &Stop) -> Result<(), Error> {
        loop {
            if self.is_full || self.looked.is_none_or(|looked| looked.elapsed() >= self.config.poll_interval.0) {
                self.look(self.looked.is_none()).await?;
                self.looked = Some(Instant::now());
            }
            let is_idle = match self.read_all(stop).await {
                Ok(is_idle) => is_idle,
                Err(_) if stop.is_set() => break,
                Err(error) => return Err(error),
            };
            self.close_gone().await?;
            self.save(false).await?;
            if stop.is_set() || (is_idle && !self.is_full && self.config.read == ReadMode::Once) {
                break;
            }
            if is_idle {
                tokio::select! {
                    () = tokio::time::sleep(self.config.poll_interval.0) => {}
                    () = stop.wait() => {}
                }
            }
        }
        self.save(true).await
    }

    /// Opens files that are new under the globs.
    async fn look(&mut self, is_first: bool) -> Result<(), Error> {
        let config = self.config.clone();
        let found = blocking(move || {
            let regular = |path: PathBuf| fs::metadata(&path).ok().filter(fs::Metadata::is_file).map(|meta| (path, meta));
            config.matches().into_iter().filter_map(regular).collect::<Vec<_>>()
        })
        .await?;
        self.is_full = false;
        for (path, meta) in found {
            let key = (meta.dev(), meta.ino());
            let version = (meta.len(), meta.mtime(), meta.mtime_nsec());
            if self.done.get(&key) == Some(&version) {
                continue;
            }
            if let Some(tail) = self.open.get_mut(&key) {
                tail.path = path;
                tail.alive = Instant::now();
                continue;
            }
            if self.open.len() >= FILES_MAX {
                if !std::mem::replace(&mut self.is_full, true) {
                    tracing::warn!(path = %path.display(), "too many files are open; this one and others wait");
                }
                continue;
            }
            if let Err(error) = self.open(key, path, version, is_first).await {
                tracing::warn!(%error, "a file cannot be read");
                self.intake.count_refused("file");
                self.done.insert(key, version);
            }
        }
        Ok(())
    }

    async fn open(&mut self, key: Key, path: PathBuf, version: Version, is_first: bool) -> Result<(), Error> {
        // The file may be a copy of one that was just read.
        self.note();
        let (checkpoints, from_path) = (self.checkpoints.clone(), path.clone());
        let starts_at_end = is_first && self.config.from == From::End;
        let settled = if self.config.read == ReadMode::Tail { SETTLED } else { Duration::ZERO };
        let opened = blocking(move || Content::open(&from_path, key, &checkpoints, starts_at_end, settled)).await?;
        let Some((content, offset)) = opened.map_err(|error| storage("open", &path, error))? else { return Ok(()) };
        let origin = Origin::default().with(OriginField::Path, path.to_string_lossy().into_owned());
        let stream = self.intake.stream_from(None, Some(Arc::new(origin)));
        let alive = Instant::now();
        let tail = Tail {
            path,
            content,
            version,
            offset,
            journaled: offset,
            stream,
            alive,
            is_at_end: false,
            is_dirty: offset > 0 || starts_at_end,
        };
        self.open.insert(key, tail);
        Ok(())
    }

    /// Reads what there is; whether there was nothing.
    async fn read_all(&mut self, stop: &Stop) -> Result<bool, Error> {
        let keys: Vec<Key> = self.open.keys().copied().collect();
        let mut is_idle = true;
        for key in keys {
            self.restart_if_truncated(key).await?;
            for _ in 0..READS_MAX {
                if stop.is_set() {
                    return Ok(is_idle);
                }
                let Some(tail) = self.open.get_mut(&key) else { break };
                match tail.read().await {
                    Ok(0) if self.config.read == ReadMode::Once || !tail.content.is_plain() => {
                        self.close(key).await?;
                        is_idle = false;
                    }
                    Ok(0) => break,
                    Ok(_) => is_idle = false,
                    Err(error) if stop.is_set() => return Err(error),
                    Err(error) => {
                        tracing::warn!(%error, "a file could not be read to its end");
                        self.intake.count_refused("file");
                        self.close(key).await?;
                    }
                }
            }
        }
        Ok(is_idle)
    }

    async fn restart_if_truncated(&mut self, key: Key) -> Result<(), Error> {
        let Some(tail) = self.open.get_mut(&key).filter(|tail| tail.is_at_end) else { return Ok(()) };
        if tail.content.is_truncated(tail.offset) {
            tracing::info!(path = %tail.path.display(), "truncated; read again from its beginning");
            self.close(key).await?;
            self.done.remove(&key);
            self.look(false).await?;
        }
        Ok(())
    }

    /// Closes files that were renamed or deleted and are read to their end.
    async fn close_gone(&mut self) -> Result<(), Error> {
        let is_gone = |tail: &Tail| tail.is_at_end && tail.alive.elapsed() >= GONE;
        let gone: Vec<Key> = self.open.iter().filter(|(_, tail)| is_gone(tail)).map(|(key, _)| *key).collect();
        for key in gone {
            self.close(key).await?;
        }
        Ok(())
    }

    /// Takes the last line although it has no end, and closes the file.
    async fn close(&mut self, key: Key) -> Result<(), Error> {
        let Some(tail) = self.open.remove(&key) else { return Ok(()) };
        tail.stream.finish().await.map_err(|refused| not_taken(refused, &tail.path))?;
        let entry = tail.content.entry(key, &tail.path, tail.offset).map_err(|error| storage("read", &tail.path, error))?;
        Arc::make_mut(&mut self.checkpoints).put(entry);
        self.done.insert(key, tail.version);
        self.changed = true;
        Ok(())
    }

    /// Brings the checkpoints in memory up to date.
    fn note(&mut self) {
        for (key, tail) in self.open.iter_mut().filter(|(_, tail)| tail.is_dirty && tail.content.is_plain()) {
            if let Ok(entry) = tail.content.entry(*key, &tail.path, tail.journaled) {
                Arc::make_mut(&mut self.checkpoints).put(entry);
                tail.is_dirty = false;
                self.changed = true;
            }
        }
    }

    /// Writes the checkpoints if they have changed.
    async fn save(&mut self, is_last: bool) -> Result<(), Error> {
        if !is_last && self.saved.is_some_and(|saved| saved.elapsed() < SAVE_INTERVAL) {
            return Ok(());
        }
        self.note();
        if std::mem::take(&mut self.changed) {
            // What was noted was given to the journal before; from here on it is durable.
            self.intake.committed().await.map_err(|refused| not_taken(refused, &self.folder))?;
            let (checkpoints, folder) = (self.checkpoints.clone(), self.folder.clone());
            let saved = blocking(move || checkpoints.save(&folder)).await?;
            saved.map_err(|error| storage("write the checkpoints", &self.folder, error))?;
            // The first one at once: a process that always dies young would read the same lines again and again.
            self.saved = Some(Instant::now());
        }
        Ok(())
    }
}

fn not_taken(refused: Refused, path: &Path) -> Error {
    Error::new(ErrorKind::Storage, "take lines", format!("{refused:?}")).with("path", path.display())
}

impl Tail {
    /// Reads one piece and waits until its frames are journaled; 0 at the end.
    async fn read(&mut self) -> Result<usize, Error> {
        let mut buffer = std::mem::take(self.stream.buffer());
        let before = buffer.len();
        let mut content = std::mem::take(&mut self.content);
        let offset = self.offset;
        let (content, buffer, result) = blocking(move || {
            let result = content.read(offset, &mut buffer);
            (content, buffer, result)
        })
        .await?;
        self.content = content;
        let count = buffer.len() - before;
        *self.stream.buffer() = buffer;
        self.offset += count as u64;
        self.is_at_end = count == 0;
        if count > 0 {
            self.is_dirty = true;
            self.alive = Instant::now();
            self.stream.received().await.map_err(|refused| not_taken(refused, &self.path))?;
            // What is left in the buffer is the beginning of a frame.
            self.journaled = self.offset - (self.stream.buffer().len() as u64).min(self.offset);
        }
        result.map_err(|error| storage("read", &self.path, error))?;
        Ok(count)
    }
}

/// Reads standard input to its end on a thread of its own: a read there can block for ever.
async fn read_stdin(intake: &dyn Intake, stop: &Stop) -> Result<(), Error> {
    let (sender, mut pieces) = mpsc::channel::<io::Result<Vec<u8>>>(STDIN_QUEUE);
    let read = move || {
        let mut stdin = io::stdin().lock();
        loop {
            let mut piece = vec![0; READ_BYTES];
            let result = stdin.read(&mut piece);
            let is_end = matches!(result, Ok(0));
            let result = result.map(|count| {
                piece.truncate(count);
                piece
            });
            if is_end || sender.blocking_send(result).is_err() {
                return;
            }
        }
    };
    let failed = |error: io::Error| storage("read", Path::new("-"), error);
    std::thread::Builder::new().name("hydrant-stdin".into()).spawn(read).map_err(failed)?;
    let mut stream = intake.stream(None);
    loop {
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            () = stop.wait() => None,
        };
        match piece {
            None => break,
            Some(Ok(piece)) => {
                stream.buffer().extend_from_slice(&piece);
                if let Err(refused) = stream.received().await {
                    return if stop.is_set() { Ok(()) } else { Err(not_taken(refused, Path::new("-"))) };
                }
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Some(Err(error)) => return Err(failed(error)),
        }
    }
    stream.finish().await.map_err(|refused| not_taken(refused, Path::new("-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let read = |text: &str| {
            let section = Section::parse(Path::new("t.yaml"), text).map_err(|error| error.to_string())?;
            File.read(&section.without(&["type"])).map_err(|error| error.to_string())
        };
        for (text, part) in [
            ("include: []", "at least one glob"),
            ("include: ['a[']", "`a[` is not a glob"),
            ("include: ['-', a]", "stands alone"),
            ("{ include: [a], poll_interval: 1ms }", "at least 10ms"),
            ("{ include: [a], read: twice }", "`twice` is not a value"),
        ] {
            let error = read(text).err().unwrap();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(read(SAMPLE).is_ok_and(|source| !source.is_sharded()));
    }
}
