//! The ledger's files: `<data_dir>/ledger/current.json`, and `<ms>.json` for states of the past, for `--since`.
//!
//! There is always a whole one ([`atomic_file`]). States of the past are kept for each hour of two days and for each day of a
//! month.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Book;
use crate::atomic_file;

const FOLDER: &str = "ledger";
const CURRENT: &str = "current.json";

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// States of every hour are kept for so long.
const HOURS_KEPT_MS: i64 = 2 * DAY_MS;

/// States of every day are kept for so long.
const DAYS_KEPT_MS: i64 = 31 * DAY_MS;

/// The folder of a ledger.
#[derive(Clone, Debug)]
pub struct Store(PathBuf);

impl Store {
    /// The ledger below a data folder.
    pub fn new(data_dir: &Path) -> Self {
        Self(data_dir.join(FOLDER))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The last state that was written; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no ledger.
    pub fn read(&self) -> io::Result<Option<Book>> {
        self.read_file(CURRENT)
    }

    /// A file of the ledger's folder; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or says something else.
    pub fn read_file<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.0.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            bytes => Ok(Some(serde_json::from_slice(&bytes?)?)),
        }
    }

    /// Puts a file that cannot be read out of the way.
    pub(super) fn set_aside(&self) -> io::Result<()> {
        fs::rename(self.0.join(CURRENT), self.0.join("damaged.json"))
    }

    /// Writes a file of the ledger's folder anew.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn write_file(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.create()?;
        self.replace(name, &serde_json::to_vec(value)?)
    }

    fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)
    }

    /// Writes the state, and once an hour keeps it.
    pub(super) fn write(&self, book: &Book) -> io::Result<()> {
        self.create()?;
        let bytes = serde_json::to_vec(book)?;
        let mut past = self.past()?;
        if past.last().is_none_or(|last| book.at_ms - last >= HOUR_MS || *last > book.at_ms) {
            self.replace(&format!("{}.json", book.at_ms), &bytes)?;
            past.push(book.at_ms);
            self.thin_out(&past, book.at_ms)?;
        }
        self.replace(CURRENT, &bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        atomic_file::replace(&self.0.join(name), bytes)
    }

    /// When the states of the past are of, ascending.
    fn past(&self) -> io::Result<Vec<i64>> {
        let mut past = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            past.extend(name.to_str().and_then(|name| name.strip_suffix(".json")?.parse::<i64>().ok()));
        }
        past.sort_unstable();
        Ok(past)
    }

    fn thin_out(&self, past: &[i64], now_ms: i64) -> io::Result<()> {
        for (index, at_ms) in past.iter().enumerate() {
            let age_ms = now_ms - at_ms;
            let day = |ms: i64| ms.div_euclid(DAY_MS);
            let is_first_of_day = index.checked_sub(1).and_then(|before| past.get(before)).is_none_or(|before| day(*before) < day(*at_ms));
            if age_ms > DAYS_KEPT_MS || (age_ms > HOURS_KEPT_MS && !is_first_of_day) {
                fs::remove_file(self.0.join(format!("{at_ms}.json")))?;
            }
        }
        Ok(())
    }

    /// The last state that is not later than a time, or the first one that is there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn before(&self, at_ms: i64) -> io::Result<Option<Book>> {
        let past = match self.past() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            past => past?,
        };
        let found = past.iter().rfind(|past| **past <= at_ms).or_else(|| past.first());
        found.map_or(Ok(None), |found| self.read_file(&format!("{found}.json")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_the_past_are_found_by_time_and_thinned_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        assert!(store.read().unwrap().is_none() && store.before(0).unwrap().is_none());
        let start_ms = 1_000 * DAY_MS;
        for hour in 0..24 * 40 {
            let book = |at_ms| Book { at_ms, ..Book::default() };
            store.write(&book(start_ms + hour * HOUR_MS)).unwrap();
            store.write(&book(start_ms + hour * HOUR_MS + 60_000)).unwrap();
        }
        let end_ms = start_ms + (24 * 40 - 1) * HOUR_MS;
        assert_eq!(store.read().unwrap().unwrap().at_ms, end_ms + 60_000);
        let past = store.past().unwrap();
        assert!((49 + 28..49 + 32).contains(&past.len()), "{}", past.len());
        let before = |ms| store.before(ms).unwrap().unwrap().at_ms;
        assert_eq!(before(end_ms - HOUR_MS + 5), end_ms - HOUR_MS);
        assert_eq!((before(0), past[0]), (past[0], past[0]), "the first one that there is");
        assert!(past[0] >= end_ms - DAYS_KEPT_MS);
    }
}
