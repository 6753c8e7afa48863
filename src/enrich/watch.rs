//! A file's content, parsed once for all shards, and exchanged as a whole when the file changes.
//!
//! Change is told by device, inode, size and modification time. A file is read when two looks in a row find
//! the same, so that one that is being written is not read half; a file replaced by `rename` is safest. What
//! cannot be read or parsed is reported once per change, and the old content stays.

use std::fs::File;
use std::io::{Read as _, Take};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Diagnostic, Diagnostics};

/// What a look at the file came to.
#[derive(Debug)]
pub enum Refresh {
    /// Nothing to do.
    Unchanged,
    /// The new content is in place.
    Loaded,
    /// The same, but for parts that cannot be used; the warnings name them.
    Partly(Diagnostics),
    /// The file has mistakes; the old content, if any, stays.
    Failed(Diagnostics),
}

/// Makes the content of a file; the path is for messages.
pub(super) type Parse<T> = Box<dyn Fn(&Path, Take<File>) -> Result<T, Diagnostics> + Send + Sync>;

/// A file and its content.
pub struct Watched<T> {
    path: PathBuf,
    bytes_max: u64,
    parse: Parse<T>,
    seen: Mutex<Seen>,
    published: Arc<Published<T>>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// `None` stands for a file that is not there.
#[derive(Debug, Default)]
struct Seen {
    is_started: bool,
    taken: Option<Stamp>,
    pending: Option<Option<Stamp>>,
}

impl<T> Watched<T> {
    /// A file that is not read yet, and is parsed from memory.
    pub fn new(
        path: PathBuf,
        bytes_max: u64,
        parse: impl Fn(&Path, Vec<u8>) -> Result<T, Diagnostics> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::streamed(path, bytes_max, Box::new(move |path, file| parse(path, whole(path, file)?)))
    }

    /// A file that is not read yet, and is parsed while it is read.
    pub(super) fn streamed(path: PathBuf, bytes_max: u64, parse: Parse<T>) -> Arc<Self> {
        Arc::new(Self { path, bytes_max, parse, seen: Mutex::default(), published: Arc::default() })
    }

    /// Reads the file at the first call, later if it has changed.
    pub fn refresh(&self) -> Refresh {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path);
        if seen.is_started && now == seen.taken {
            seen.pending = None;
            return Refresh::Unchanged;
        }
        if seen.is_started && seen.pending != Some(now) {
            seen.pending = Some(now);
            return Refresh::Unchanged;
        }
        *seen = Seen { is_started: true, taken: now, pending: None };
        match open(&self.path, self.bytes_max).and_then(|file| (self.parse)(&self.path, file)) {
            Ok(content) => {
                self.published.put(content);
                Refresh::Loaded
            }
            Err(diagnostics) => Refresh::Failed(diagnostics),
        }
    }

    /// What shards read.
    pub(super) fn published(&self) -> &Arc<Published<T>> {
        &self.published
    }

    /// A reader for one shard.
    pub(super) fn handle(&self) -> Handle<T> {
        self.published.handle()
    }
}

/// Opens a file that is at most so long.
pub(super) fn open(path: &Path, bytes_max: u64) -> Result<Take<File>, Diagnostics> {
    let fail = |message: String| Diagnostics::from(Diagnostic::error(path, 0, 0, "", message));
    let unreadable = |error: std::io::Error| fail(format!("cannot be read: {error}"));
    // Opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(fail("is not a file".to_owned()));
    }
    if metadata.len() > bytes_max {
        return Err(fail(format!("the file has more than {bytes_max} bytes")));
    }
    // It may still grow.
    Ok(File::open(path).map_err(unreadable)?.take(bytes_max))
}

#[expect(clippy::disallowed_methods, reason = "bounded by `open`")]
fn whole(path: &Path, mut file: Take<File>) -> Result<Vec<u8>, Diagnostics> {
    let len = file.get_ref().metadata().map_or(0, |metadata| metadata.len()).min(file.limit());
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    let read = file.read_to_end(&mut bytes);
    read.map_err(|error| Diagnostic::error(path, 0, 0, "", format!("cannot be read: {error}")))?;
    Ok(bytes)
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

/// Content that is exchanged as a whole while shards read it.
pub(super) struct Published<T> {
    current: Mutex<Option<Arc<T>>>,
    /// Grows after `current` was exchanged.
    version: AtomicU64,
}

impl<T> Default for Published<T> {
    fn default() -> Self {
        Self { current: Mutex::new(None), version: AtomicU64::new(0) }
    }
}

impl<T> Published<T> {
    /// Puts new content in the place of the old.
    pub(super) fn put(&self, content: T) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(content));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// What is there now.
    pub(super) fn newest(&self) -> Option<Arc<T>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A reader for one shard.
    pub(super) fn handle(self: &Arc<Self>) -> Handle<T> {
        Handle { published: self.clone(), version: 0, current: None }
    }
}

/// Sees the newest content whenever it asks; one per shard.
pub(super) struct Handle<T> {
    published: Arc<Published<T>>,
    version: u64,
    current: Option<Arc<T>>,
}

impl<T> Handle<T> {
    /// The newest content. Takes a lock only when it has changed.
    pub(super) fn current(&mut self) -> Option<&T> {
        let version = self.published.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            self.current = self.published.newest();
        }
        self.current.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(path: &Path) -> Arc<Watched<String>> {
        Watched::new(path.to_owned(), 100, |path, bytes| match String::from_utf8(bytes) {
            Ok(text) if text != "bad" => Ok(text),
            _ => Err(Diagnostic::error(path, 1, 1, "", "bad").into()),
        })
    }

    fn replace(path: &Path, text: &str) {
        let new = path.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, path).unwrap();
    }

    #[test]
    fn a_changed_file_is_taken_at_the_second_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        replace(&path, "one");
        let file = watched(&path);
        let mut handle = file.handle();
        assert!(handle.current().is_none());
        assert!(matches!(file.refresh(), Refresh::Loaded));
        assert_eq!(handle.current().unwrap(), "one");
        assert!(matches!(file.refresh(), Refresh::Unchanged));
        replace(&path, "two");
        assert!(matches!(file.refresh(), Refresh::Unchanged), "it may still be written to");
        assert_eq!(handle.current().unwrap(), "one");
        assert!(matches!(file.refresh(), Refresh::Loaded));
        assert_eq!(handle.current().unwrap(), "two");
    }

    #[test]
    fn a_broken_or_missing_file_is_reported_once_and_the_old_content_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        replace(&path, "one");
        let file = watched(&path);
        let mut handle = file.handle();
        assert!(matches!(file.refresh(), Refresh::Loaded));
        replace(&path, "bad");
        let outcomes: Vec<bool> = (0..4).map(|_| matches!(file.refresh(), Refresh::Failed(_))).collect();
        assert_eq!(outcomes, [false, true, false, false]);
        std::fs::remove_file(&path).unwrap();
        let outcomes: Vec<bool> = (0..4).map(|_| matches!(file.refresh(), Refresh::Failed(_))).collect();
        assert_eq!(outcomes, [false, true, false, false]);
        assert_eq!(handle.current().unwrap(), "one");
        replace(&path, "three");
        assert!(matches!(file.refresh(), Refresh::Unchanged));
        assert!(matches!(file.refresh(), Refresh::Loaded));
        assert_eq!(handle.current().unwrap(), "three");
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        replace(&path, &"x".repeat(101));
        let Refresh::Failed(diagnostics) = watched(&path).refresh() else { panic!("it was taken") };
        assert!(diagnostics.to_string().contains("more than 100 bytes"), "{diagnostics}");
    }
}
