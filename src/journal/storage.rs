//! The few things that a journal asks of a file system, so that tests can put a failing disk in their place.
//!
//! All names are in one folder. Nothing is durable before [`SegmentFile::sync`] (bytes) and [`Storage::sync_folder`]
//! (names).

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::atomic_file;

/// A folder of files.
pub(super) trait Storage: Send + Sync {
    /// Names and lengths of all files.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Makes a file with room for `bytes`, which read as zeros. It must not exist.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn SegmentFile>>;
    /// Up to `bytes` of a file from `offset` on; fewer only at its end.
    fn read(&self, name: &str, offset: u64, bytes: u64) -> io::Result<Vec<u8>>;
    /// Puts a small file in the place of another, durably and at once.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Gives back what a file has behind `bytes`, and makes the rest durable.
    fn shrink(&self, name: &str, bytes: u64) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync_folder(&self) -> io::Result<()>;
    /// When a file was written the last time, ms since 1970 UTC.
    fn modified_ms(&self, name: &str) -> io::Result<i64>;
}

/// A file that is written.
pub(super) trait SegmentFile: Send {
    /// Writes bytes at an offset.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes everything durable that was written.
    fn sync(&mut self) -> io::Result<()>;
}

/// A folder of a real file system. The lock is held until it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: Option<File>,
}

const LOCK: &str = "lock";

impl Folder {
    /// Makes the folder (0700) if it is not there and locks it against other processes.
    pub(super) fn lock(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let lock = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(io::ErrorKind::ResourceBusy, "another Hydrant uses this journal")),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The folder for reading only, whoever has locked it.
    pub(super) fn look(path: &Path) -> io::Result<Self> {
        fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), _lock: None })
    }
}

impl Storage for Folder {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                files.push((name, entry.metadata()?.len()));
            }
        }
        Ok(files)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn SegmentFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            // A file system without it grows the file as it is written.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(Box::new(Open(file))),
            Err(error) => {
                fs::remove_file(&path)?;
                Err(error.into())
            }
        }
    }

    fn read(&self, name: &str, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let file = File::open(self.path.join(name))?;
        let length = file.metadata()?.len().saturating_sub(offset).min(bytes);
        let mut buffer = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        atomic_file::replace(&self.path.join(name), bytes)
    }

    fn shrink(&self, name: &str, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path.join(name))?;
        let length = file.metadata()?.len();
        if bytes < length {
            file.set_len(bytes)?;
        }
        file.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn modified_ms(&self, name: &str) -> io::Result<i64> {
        let modified = fs::metadata(self.path.join(name))?.modified()?;
        Ok(modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64))
    }
}

struct Open(File);

impl SegmentFile for Open {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_is_locked_private_and_its_files_have_room() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("journal");
        let folder = Folder::lock(&path).unwrap();
        assert_eq!(Folder::lock(&path).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        let mut file = folder.create("a.log", 4096).unwrap();
        file.write(8, b"abc").unwrap();
        file.sync().unwrap();
        assert!(folder.create("a.log", 4096).is_err());
        assert_eq!(folder.read("a.log", 6, 7).unwrap(), b"\0\0abc\0\0");
        assert_eq!(folder.read("a.log", 4090, 100).unwrap().len(), 6);
        folder.replace("epoch", b"1").unwrap();
        folder.replace("epoch", b"22").unwrap();
        assert_eq!(folder.read("epoch", 0, 100).unwrap(), b"22");
        let mode = |name: &str| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("a.log"), mode("epoch"), mode(LOCK)), (0o700, 0o600, 0o600, 0o600));
        folder.shrink("a.log", 11).unwrap();
        folder.shrink("a.log", 4096).unwrap();
        assert_eq!(folder.read("a.log", 8, 100).unwrap(), b"abc");
        folder.remove("a.log").unwrap();
        let mut names: Vec<String> = folder.list().unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["epoch", LOCK]);
        drop(folder);
        assert!(Folder::lock(&path).is_ok());
    }
}
