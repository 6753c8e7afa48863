//! What the journal still has of the past: `folder, time -> chunks`, whether anybody waits for them or not.
//!
//! Nothing is written and nothing is locked: a Hydrant may run. Segments that it removes meanwhile are left out and counted.
//! A segment is listed when its turn comes, so that memory holds about one list for each log.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::recover::{ChunkReader, Past, Place};
use super::segment::{file_name, parse_name};
use super::storage::{Folder, Storage};
use crate::error::{Error, ErrorKind};

/// When a chunk comes: its arrival, but not before its segment was begun, ms since 1970 UTC; epoch and sequence. So the
/// order is the same however many segments are there.
pub type Turn = (i64, u64, u64);

/// A chunk of the past.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Its turn.
    pub turn: Turn,
    /// Where it is.
    pub place: Place,
    /// Number of its events.
    pub events: u32,
}

/// Chunks of the past, in the order of their turns.
pub struct History {
    storage: Arc<dyn Storage>,
    period: Range<i64>,
    after: Option<Turn>,
    /// Not listed yet, the newest first.
    segments: Vec<Past>,
    listed: BTreeMap<Turn, Kept>,
    /// Reads the chunks.
    pub reader: ChunkReader,
    /// Places that cannot be read; nobody knows whether they are of the time that was asked for.
    pub damaged: usize,
    /// Segments that went away before they were listed.
    pub gone: usize,
}

impl History {
    /// What the journal in `folder` has that arrived in a period, ms since 1970 UTC, behind the turn `after`.
    ///
    /// # Errors
    /// There is no journal; files that cannot be read; a format of a later version.
    pub fn open(folder: &Path, period: Range<i64>, after: Option<Turn>) -> Result<Self, Error> {
        let failed =
            |error: io::Error| Error::new(ErrorKind::Storage, "read the journal", error.to_string()).with("folder", folder.display());
        let storage: Arc<dyn Storage> = Arc::new(Folder::look(folder).map_err(failed)?);
        Self::open_on(storage, period, after).map_err(failed)
    }

    /// As [`History::open`], on any storage.
    pub(super) fn open_on(storage: Arc<dyn Storage>, period: Range<i64>, after: Option<Turn>) -> io::Result<Self> {
        let files: BTreeMap<(u64, u32), u64> =
            storage.list()?.iter().filter_map(|(name, bytes)| Some((parse_name(name)?, *bytes))).collect();
        let epochs: BTreeSet<u64> = files.keys().map(|(epoch, _)| *epoch).collect();
        let (mut segments, mut secrets) = (Vec::new(), HashMap::new());
        for epoch in epochs {
            for past in Past::of(&*storage, epoch, &files)? {
                secrets.insert(epoch, past.key.secret);
                // What was written the last time before the period has nothing that arrived in it.
                let modified_ms = storage.modified_ms(&file_name(epoch, past.key.segment));
                if !matches!(modified_ms, Ok(modified_ms) if modified_ms < period.start) {
                    segments.push(past);
                }
            }
        }
        segments.sort_by_key(|past| std::cmp::Reverse(past.created_ms));
        let reader = ChunkReader::new(storage.clone(), secrets);
        Ok(Self { storage, period, after, segments, listed: BTreeMap::new(), reader, damaged: 0, gone: 0 })
    }

    /// When the oldest segment was begun, ms since 1970 UTC.
    pub fn begins_ms(&self) -> Option<i64> {
        self.segments.iter().map(|past| past.created_ms).filter(|created_ms| *created_ms > i64::MIN).min()
    }

    /// The next chunk.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn next_chunk(&mut self) -> io::Result<Option<Kept>> {
        loop {
            let first = self.listed.first_key_value().map(|((turn_ms, _, _), _)| *turn_ms);
            match self.segments.pop_if(|past| first.is_none_or(|first| past.created_ms <= first)) {
                Some(past) => self.list(&past)?,
                None => return Ok(self.listed.pop_first().map(|(_, kept)| kept)),
            }
        }
    }

    fn list(&mut self, past: &Past) -> io::Result<()> {
        let (chunks, damaged) = match past.chunks(&*self.storage) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.gone += 1;
                return Ok(());
            }
            chunks => chunks?,
        };
        self.damaged += damaged;
        for (received_ms, place, events) in chunks {
            let turn = (received_ms.max(past.created_ms), place.position.epoch, place.position.sequence);
            if self.period.contains(&received_ms) && self.after.is_none_or(|after| turn > after) {
                self.listed.insert(turn, Kept { turn, place, events });
            }
        }
        Ok(())
    }
}

/// Nobody else runs this journal while it lives.
#[derive(Debug)]
pub struct Hold {
    _folder: Folder,
}

/// Keeps every Hydrant from running the journal in `folder`; `None` if one does.
///
/// # Errors
/// The folder cannot be made or locked.
pub fn hold(folder: &Path) -> Result<Option<Hold>, Error> {
    match Folder::lock(folder) {
        Ok(folder) => Ok(Some(Hold { _folder: folder })),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
        Err(error) => Err(Error::new(ErrorKind::Storage, "lock the journal", error.to_string()).with("folder", folder.display())),
    }
}
