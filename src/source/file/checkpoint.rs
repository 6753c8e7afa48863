//! How far each file was read, and how a file is recognised: `data_dir/sources/<name>/checkpoints.json`.
//!
//! A name says nothing about a log file, because rotation gives it to another one. A file is the one of a checkpoint if
//! the bytes at its beginning and the bytes before the checkpoint's offset are the same: first looked for under the
//! same device and inode, then anywhere, so that a file that was copied, moved to another disk or compressed by a
//! rotation is not read again. Both places are compared because many files begin with the same header.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::clock;

/// Bytes that are compared at each of the two places.
pub(super) const PRINT_BYTES: usize = 256;

/// A file that nobody has seen for so long will not come again.
const KEPT_MS: i64 = 30 * 24 * 3600 * 1000;

/// Largest file of checkpoints: 100,000 entries.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A file and how far it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// For people who read the file.
    pub(super) path: PathBuf,
    /// Bytes whose events are journaled, after decompression.
    pub(super) offset: u64,
    seen_ms: i64,
    head: Print,
    tail: Print,
}

/// What some bytes were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Print {
    len: usize,
    sha256: String,
}

impl Print {
    fn of(bytes: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, bytes);
        Self { len: bytes.len(), sha256: hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect() }
    }
}

impl Entry {
    /// The entry of a file that was read up to `offset`; `head` are its first bytes, `tail` those before the offset.
    pub(super) fn new((device, inode): (u64, u64), path: &Path, offset: u64, head: &[u8], tail: &[u8]) -> Self {
        Self { device, inode, path: path.to_owned(), offset, seen_ms: clock::now_ms(), head: Print::of(head), tail: Print::of(tail) }
    }

    /// The entry of a plain file; its bytes are read again from the disk.
    pub(super) fn of_file(key: (u64, u64), path: &Path, offset: u64, file: &File) -> io::Result<Self> {
        let len = offset.min(PRINT_BYTES as u64) as usize;
        Ok(Self::new(key, path, offset, &bytes_at(file, 0, len)?, &bytes_at(file, offset - len as u64, len)?))
    }

    fn may_be(&self, head: &[u8]) -> bool {
        head.get(..self.head.len).is_some_and(|head| Print::of(head) == self.head)
    }

    /// Whether `tail`, the bytes before the offset, are those of the entry.
    pub(super) fn ends_with(&self, tail: &[u8]) -> bool {
        Print::of(tail) == self.tail
    }

    /// Bytes before the offset that are compared.
    pub(super) fn tail_len(&self) -> usize {
        self.tail.len.min(PRINT_BYTES)
    }

    /// Whether a plain file has the same bytes at both places.
    pub(super) fn is_of(&self, file: &File) -> bool {
        let at = |offset: u64, len: usize| bytes_at(file, offset, len).unwrap_or_default();
        self.may_be(&at(0, self.head.len.min(PRINT_BYTES)))
            && self.ends_with(&at(self.offset.saturating_sub(self.tail_len() as u64), self.tail_len()))
    }
}

fn bytes_at(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// All checkpoints of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoints {
    entries: Vec<Entry>,
}

impl Checkpoints {
    fn file(folder: &Path) -> PathBuf {
        folder.join("checkpoints.json")
    }

    /// Reads the checkpoints; none if there is no file.
    pub(super) fn load(folder: &Path) -> io::Result<Self> {
        let path = Self::file(folder);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
            Ok(meta) if meta.len() > FILE_BYTES_MAX => return Err(io::Error::other("the file is too large to be one of checkpoints")),
            Ok(_) => {}
        }
        serde_json::from_slice(&fs::read(&path)?).map_err(io::Error::other)
    }

    /// Replaces the file as a whole: after a crash it is the old or the new one.
    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        atomic_file::replace(&Self::file(folder), &serde_json::to_vec(self).map_err(io::Error::other)?)
    }

    /// Entries that a file beginning with `head` may be, that of its own device and inode first.
    pub(super) fn candidates(&self, key: (u64, u64), head: &[u8]) -> Vec<Entry> {
        let is_own = |entry: &Entry| (entry.device, entry.inode) == key;
        let mut found: Vec<Entry> = self.entries.iter().filter(|entry| entry.offset > 0 && entry.may_be(head)).cloned().collect();
        found.retain(|entry| is_own(entry) || entry.tail.len == PRINT_BYTES);
        found.sort_by_key(|entry| !is_own(entry));
        found
    }

    /// Puts an entry in the place of the one with the same device and inode.
    pub(super) fn put(&mut self, entry: Entry) {
        let oldest = entry.seen_ms - KEPT_MS;
        self.entries.retain(|other| (other.device, other.inode) != (entry.device, entry.inode) && other.seen_ms >= oldest);
        self.entries.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_bytes_at_two_places() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let header = "#fields ".repeat(100);
        fs::write(&path, format!("{header}first{}", "x".repeat(400))).unwrap();
        let file = File::open(&path).unwrap();
        let offset = fs::metadata(&path).unwrap().len();
        let entry = Entry::of_file((1, 2), &path, offset, &file).unwrap();
        assert!(entry.is_of(&file));
        let other = folder.path().join("b.log");
        fs::write(&other, format!("{header}other{}", "y".repeat(400))).unwrap();
        assert!(!entry.is_of(&File::open(&other).unwrap()), "the same header is not the same file");
        fs::write(&other, "short").unwrap();
        assert!(!entry.is_of(&File::open(&other).unwrap()));
        fs::write(&other, format!("{}more", fs::read_to_string(&path).unwrap())).unwrap();
        assert!(entry.is_of(&File::open(&other).unwrap()), "a copy that has grown is the same file");
    }

    #[test]
    fn checkpoints_outlive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("sources/in");
        assert_eq!(Checkpoints::load(&state).unwrap(), Checkpoints::default());
        let mut checkpoints = Checkpoints::default();
        checkpoints.put(Entry::new((1, 2), Path::new("a"), 3, b"abc", b"abc"));
        checkpoints.put(Entry::new((1, 2), Path::new("a"), 4, b"abcd", b"abcd"));
        checkpoints.save(&state).unwrap();
        let loaded = Checkpoints::load(&state).unwrap();
        assert_eq!((loaded.entries.len(), loaded.entries[0].offset), (1, 4));
        assert_eq!(loaded.candidates((1, 2), b"abcde").len(), 1);
        assert_eq!(loaded.candidates((1, 3), b"abcde").len(), 0, "a few bytes are too little to know a file by");
        fs::write(state.join("checkpoints.json"), "{").unwrap();
        assert!(Checkpoints::load(&state).is_err());
    }
}
