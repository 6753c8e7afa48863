//! The files of one destination's dead letters: names, locks, rotation, and taking lines out.
//!
//! | name | what it is |
//! |---|---|
//! | `<destination>.ndjson` | the file that is appended to |
//! | `<destination>.ndjson.<n>` | closed files, in the order of `n` |
//! | `<destination>.lock` | whoever appends, or closes the file, has it for that moment |
//! | `<destination>.work.lock` | whoever takes lines out (replay, purge, shipping) has it for the whole time |
//!
//! A running Hydrant appends to one file only, and it is closed (renamed) under the same lock before anything is taken
//! out; a closed file is replaced as a whole (written anew, synced, renamed, folder synced). So neither loses what the
//! other one writes, and no shard waits longer than for one append of another.
//!
//! A line that a crash tore is ended before the next one; it is kept and counted, since nobody knows what it was.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Record;
use crate::clock;

const FOLDER: &str = "dead_letters";
const CURRENT: &str = ".ndjson";

/// How much is kept of one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A file is closed before it would be longer.
    pub file_bytes: u64,
    /// Nothing is taken that would make all files longer than this together.
    pub max_bytes: u64,
}

impl Limits {
    /// For whoever only reads and removes: they count for what is written.
    pub const NONE: Self = Self { file_bytes: u64::MAX, max_bytes: u64::MAX };
}

/// The files of one destination.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
    destination: String,
    limits: Limits,
}

/// A line of a file.
#[derive(Debug)]
pub enum Found {
    /// A letter.
    Record(Box<Record>),
    /// Something that is no letter: torn by a crash, or not ours.
    Broken {
        /// Its length in bytes.
        bytes: usize,
    },
}

/// Names of the destinations that have files below a data folder.
///
/// # Errors
/// The folder cannot be read.
pub fn destinations(data_dir: &Path) -> io::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for name in names_in(&data_dir.join(FOLDER))? {
        names.extend(destination_of(&name).map(str::to_owned));
    }
    Ok(names.into_iter().collect())
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose()).collect()
}

/// The destination whose letters a file has.
fn destination_of(name: &str) -> Option<&str> {
    name.strip_suffix(CURRENT).or_else(|| {
        let (destination, number) = name.rsplit_once(".ndjson.")?;
        number.parse::<u64>().ok().map(|_| destination)
    })
}

/// Nobody else takes lines out while this lives.
#[derive(Debug)]
pub struct Maintenance {
    files: Files,
    _lock: File,
}

impl Files {
    /// The files of a destination below a data folder.
    pub fn new(data_dir: &Path, destination: &str, limits: Limits) -> Self {
        Self { folder: data_dir.join(FOLDER), destination: destination.to_owned(), limits }
    }

    /// Name of the destination.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn current(&self) -> PathBuf {
        self.folder.join(format!("{}{CURRENT}", self.destination))
    }

    fn closed_path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}{CURRENT}.{number}", self.destination))
    }

    /// Numbers of the closed files, ascending.
    fn closed(&self) -> io::Result<Vec<u64>> {
        let prefix = format!("{}{CURRENT}.", self.destination);
        let mut numbers: Vec<u64> = names_in(&self.folder)?.iter().filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Bytes of all files.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn used_bytes(&self) -> io::Result<u64> {
        let paths = self.closed()?.into_iter().map(|number| self.closed_path(number));
        paths.chain([self.current()]).map(|path| length(&path)).sum()
    }

    /// Waits for the lock that is held for one append.
    fn lock(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let lock = self.open_lock("lock")?;
        lock.lock()?;
        Ok(lock)
    }

    fn open_lock(&self, kind: &str) -> io::Result<File> {
        let path = self.folder.join(format!("{}.{kind}", self.destination));
        OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path)
    }

    /// Appends a line, durably. Returns the bytes of all files.
    ///
    /// # Errors
    /// The cap is reached, or the disk does not take it: then the file is as it was before.
    pub(super) fn append(&self, line: &[u8]) -> io::Result<u64> {
        let _lock = self.lock()?;
        let used = self.used_bytes()?;
        let after = used + line.len() as u64;
        if used > 0 && after > self.limits.max_bytes {
            let message = format!("the dead letters have reached their cap of {} bytes; replay or purge them", self.limits.max_bytes);
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
        let length = length(&self.current())?;
        if length > 0 && length + line.len() as u64 > self.limits.file_bytes {
            self.rename_current()?;
        }
        append_durably(&self.current(), line)?;
        Ok(after)
    }

    /// Closes the file that is appended to.
    fn rename_current(&self) -> io::Result<()> {
        let number = self.closed()?.last().map_or(1, |last| last + 1);
        fs::rename(self.current(), self.closed_path(number))?;
        sync_folder(&self.folder)
    }

    /// Shows every line, oldest first. What is appended meanwhile may be seen or not.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn read(&self, mut show: impl FnMut(Found)) -> io::Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        let lock = self.lock()?;
        let paths = self.closed()?.into_iter().map(|number| self.closed_path(number)).chain([self.current()]);
        let mut files = Vec::new();
        for path in paths {
            match File::open(path) {
                // What is open stays readable, whatever becomes of its name.
                Ok(file) => files.push((file.metadata()?.len(), file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        drop(lock);
        for (length, file) in files {
            let mut lines = Lines { reader: BufReader::new(file).take(length), line: Vec::new() };
            while let Some(line) = lines.next_line()? {
                show(found(line));
            }
        }
        Ok(())
    }

    /// Closes the current file and keeps others from taking lines out.
    ///
    /// # Errors
    /// Somebody else does; the disk.
    pub fn maintain(&self) -> io::Result<Maintenance> {
        self.take_over(true)
    }

    fn take_over(&self, closes: bool) -> io::Result<Maintenance> {
        let lock = self.lock()?;
        let work = self.open_lock("work.lock")?;
        match work.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = "another replay, purge or upload of this destination is at work; try again";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if closes && length(&self.current())? > 0 {
            self.rename_current()?;
        }
        drop(lock);
        Ok(Maintenance { files: self.clone(), _lock: work })
    }

    /// As [`Self::maintain`], but the current file is only closed if it was begun `age` ago. `None` if no file is closed, and
    /// while somebody else is at work.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn maintain_due(&self, age: Duration) -> io::Result<Option<Maintenance>> {
        let is_old = self.is_old(age)?;
        if !is_old && self.closed()?.is_empty() {
            return Ok(None);
        }
        match self.take_over(is_old) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
            maintenance => maintenance.map(Some),
        }
    }

    /// Whether the first letter of the current file was given up `age` ago. What has no time that can be (torn, or of a
    /// clock that was set back since) is old.
    fn is_old(&self, age: Duration) -> io::Result<bool> {
        let mut lines = match Lines::open(&self.current()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            lines => lines?,
        };
        let age_of = |record: Record| u128::try_from(clock::now_ms() - record.attempt_ending_timestamp).ok();
        let is_old = |line: &[u8]| Record::read(line).and_then(age_of).is_none_or(|ms| ms >= age.as_millis());
        Ok(lines.next_line()?.is_some_and(is_old))
    }
}

impl Maintenance {
    /// The files that are maintained.
    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Removes a file as a whole.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn delete(&self, number: u64) -> io::Result<()> {
        fs::remove_file(self.files.closed_path(number))?;
        sync_folder(&self.files.folder)
    }

    /// Numbers of the files that may be rewritten, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn closed(&self) -> io::Result<Vec<u64>> {
        self.files.closed()
    }

    /// The lines of a file, to be read one by one.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(&self, number: u64) -> io::Result<LettersOf> {
        Ok(LettersOf(Lines::open(&self.files.closed_path(number))?))
    }

    /// Takes out the lines for which `is_gone` says so. Crash-safe: before the rename all are there, after it the rest.
    /// Returns how many are gone.
    ///
    /// # Errors
    /// The disk; then the file is as it was.
    pub fn remove(&self, number: u64, mut is_gone: impl FnMut(usize, &Found) -> bool) -> io::Result<usize> {
        let path = self.files.closed_path(number);
        let draft = self.files.folder.join(format!("{}.new", self.files.destination));
        let mut lines = Lines::open(&path)?;
        let mut out = BufWriter::new(OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&draft)?);
        let (mut kept, mut gone) = (0, 0);
        while let Some(line) = lines.next_line()? {
            if is_gone(kept + gone, &found(line)) {
                gone += 1;
                continue;
            }
            kept += 1;
            out.write_all(line)?;
            if !line.ends_with(b"\n") {
                out.write_all(b"\n")?;
            }
        }
        out.flush()?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        match (gone, kept) {
            (0, _) => fs::remove_file(&draft)?,
            (_, 0) => {
                fs::remove_file(&draft)?;
                fs::remove_file(&path)?;
            }
            _ => {
                file.sync_all()?;
                fs::rename(&draft, &path)?;
            }
        }
        sync_folder(&self.files.folder)?;
        Ok(gone)
    }
}

/// What a file holds, line by line.
#[derive(Debug)]
pub struct LettersOf(Lines<BufReader<File>>);

impl LettersOf {
    /// The next line.
    ///
    /// # Errors
    /// The disk.
    pub fn next_letter(&mut self) -> io::Result<Option<Found>> {
        Ok(self.0.next_line()?.map(found))
    }

    /// The next line as it is.
    ///
    /// # Errors
    /// The disk.
    pub(super) fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        self.0.next_line()
    }
}

fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn append_durably(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    let before = file.metadata()?.len();
    let written = write_line(&mut file, before, line);
    if written.is_err() {
        // After a failed sync the kernel may have dropped the pages and report the next sync as good: what is written
        // again must be new to it. If this fails too, the next append ends the torn line.
        let _ = file.set_len(before);
    }
    written?;
    // A name that is not durable would take the line with it.
    if before == 0 { path.parent().map_or(Ok(()), sync_folder) } else { Ok(()) }
}

fn write_line(file: &mut File, before: u64, line: &[u8]) -> io::Result<()> {
    let mut last = [b'\n'];
    if before > 0 {
        file.seek(SeekFrom::Start(before - 1))?;
        file.read_exact(&mut last)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    file.write_all(line)?;
    file.sync_data()
}

fn found(line: &[u8]) -> Found {
    match Record::read(line) {
        Some(record) => Found::Record(Box::new(record)),
        None => Found::Broken { bytes: line.len() },
    }
}

/// Lines of a file, one in memory at a time.
#[derive(Debug)]
struct Lines<R> {
    reader: R,
    line: Vec<u8>,
}

impl Lines<BufReader<File>> {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { reader: BufReader::new(File::open(path)?), line: Vec::new() })
    }
}

impl<R: io::BufRead> Lines<R> {
    /// The next line, with its end if it has one.
    fn next_line(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let count = self.reader.read_until(b'\n', &mut self.line)?;
        Ok((count > 0).then_some(&self.line))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const ROOMY: Limits = Limits { file_bytes: 1 << 20, max_bytes: 1 << 30 };

    fn record(id: &str) -> Record {
        Record::read(
            format!(
                r#"{{"attemptsMade":1,"arrivalTimestamp":1,"errorCode":"c","errorMessage":"m","attemptEndingTimestamp":2,"rawData":"","EventId":"{id}"}}"#
            )
            .as_bytes(),
        )
        .unwrap()
    }

    /// The ids that are there, and how many lines are broken.
    fn ids(files: &Files) -> (Vec<String>, usize) {
        let (mut ids, mut broken) = (Vec::new(), 0);
        let show = |found: Found| match found {
            Found::Record(record) => ids.push(record.event_id),
            Found::Broken { .. } => broken += 1,
        };
        files.read(show).unwrap();
        (ids, broken)
    }

    #[test]
    fn files_are_closed_at_their_size_and_nothing_is_taken_beyond_the_cap() {
        let folder = tempfile::tempdir().unwrap();
        let line = record("1:00").line();
        let bytes = line.len() as u64;
        let files = Files::new(folder.path(), "siem", Limits { file_bytes: 3 * bytes, max_bytes: 8 * bytes });
        assert_eq!(ids(&files), (Vec::new(), 0), "reading makes nothing");
        let expected: Vec<String> = (0..8).map(|index| format!("1:{index:02}")).collect();
        for (index, id) in expected.iter().enumerate() {
            assert_eq!(files.append(&record(id).line()).unwrap(), (index as u64 + 1) * bytes);
        }
        assert_eq!(files.closed().unwrap(), [1, 2]);
        let error = files.append(&line).unwrap_err();
        assert!(error.kind() == io::ErrorKind::StorageFull && error.to_string().contains("replay or purge"), "{error}");
        assert_eq!((ids(&files), files.used_bytes().unwrap()), ((expected, 0), 8 * bytes));
        let maintenance = files.maintain().unwrap();
        assert_eq!(maintenance.remove(1, |_, _| true).unwrap(), 3);
        assert_eq!(maintenance.closed().unwrap(), [2, 3]);
        assert!(files.append(&line).is_ok(), "there is room again");
        assert_eq!(destinations(folder.path()).unwrap(), ["siem"]);
    }

    #[test]
    fn one_letter_fits_always_and_a_torn_line_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path(), "a.ndjson", Limits { file_bytes: 1, max_bytes: 1 });
        files.append(&record("1:1").line()).unwrap();
        assert!(files.append(&record("1:2").line()).is_err());

        let files = Files::new(folder.path(), "b", ROOMY);
        files.append(&record("1:1").line()).unwrap();
        let torn = &record("1:2").line()[..40];
        OpenOptions::new().append(true).open(files.current()).unwrap().write_all(torn).unwrap();
        files.append(&record("1:3").line()).unwrap();
        assert_eq!(ids(&files), (vec!["1:1".to_owned(), "1:3".to_owned()], 1));
        let maintenance = files.maintain().unwrap();
        assert_eq!(maintenance.remove(1, |index, _| index == 0).unwrap(), 1);
        assert_eq!(ids(&files), (vec!["1:3".to_owned()], 1), "nobody knows what it was, so it stays");
        assert_eq!(destinations(folder.path()).unwrap(), ["a.ndjson", "b"]);
    }

    #[test]
    fn only_one_takes_lines_out_and_a_draft_of_a_crash_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path(), "siem", ROOMY);
        for index in 0..3 {
            files.append(&record(&format!("1:{index}")).line()).unwrap();
        }
        fs::write(files.folder.join("siem.new"), b"half of what was to st").unwrap();
        let maintenance = files.maintain().unwrap();
        assert_eq!(files.maintain().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(maintenance.remove(1, |index, _| index == 1).unwrap(), 1);
        assert_eq!(maintenance.remove(1, |_, _| false).unwrap(), 0);
        drop(maintenance);
        assert_eq!(ids(&files).0, ["1:0", "1:2"]);
        assert!(files.maintain().is_ok() && !files.folder.join("siem.new").exists());
    }

    #[test]
    fn what_is_appended_while_lines_are_taken_out_is_never_lost() {
        const WRITERS: usize = 3;
        const EACH: usize = 60;
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path(), "siem", Limits { file_bytes: 2000, ..ROOMY });
        let (done, mut taken) = (AtomicBool::new(false), Vec::new());
        std::thread::scope(|scope| {
            let writer = |number| {
                let files = files.clone();
                move || {
                    for index in 0..EACH {
                        files.append(&record(&format!("{number}:{index}")).line()).unwrap();
                    }
                }
            };
            let writers: Vec<_> = (0..WRITERS).map(|number| scope.spawn(writer(number))).collect();
            let taker = scope.spawn(|| {
                let mut taken = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let maintenance = files.maintain().unwrap();
                    for number in maintenance.closed().unwrap() {
                        let is_odd = |_, found: &Found| match found {
                            Found::Record(record) if !record.event_id.ends_with(['0', '2', '4', '6', '8']) => {
                                taken.push(record.event_id.clone());
                                true
                            }
                            _ => false,
                        };
                        maintenance.remove(number, is_odd).unwrap();
                    }
                }
                taken
            });
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            done.store(true, Ordering::Relaxed);
            taken = taker.join().unwrap();
        });
        let (left, broken) = ids(&files);
        let all: Vec<&String> = left.iter().chain(&taken).collect();
        let different: HashSet<&String> = all.iter().copied().collect();
        assert_eq!((all.len(), different.len(), broken), (WRITERS * EACH, WRITERS * EACH, 0));
        assert!(!taken.is_empty());
    }
}
