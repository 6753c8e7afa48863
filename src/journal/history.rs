//! What the journal still has of the past: `folder, time -> chunks`, whether anybody waits for them or not.
//!
//! Nothing is written and nothing is locked: a Hydrant may run. Segments that it removes meanwhile are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::recover::{ChunkReader, Place, each_chunk};
use super::segment::parse_name;
use super::storage::{Folder, Storage as _};
use crate::error::{Error, ErrorKind};

/// A chunk of the past.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// When it arrived, ms since 1970 UTC.
    pub received_ms: i64,
    /// Where it is.
    pub place: Place,
    /// Number of its events.
    pub events: u32,
}

/// Chunks of the past, in the order of their arrival.
pub struct History {
    /// All of them.
    pub chunks: Vec<Kept>,
    /// Reads them.
    pub reader: ChunkReader,
    /// Places that cannot be read; nobody knows whether they are of the time that was asked for.
    pub damaged: usize,
}

/// What the journal in `folder` has that arrived in a period, ms since 1970 UTC.
///
/// # Errors
/// There is no journal; files that cannot be read; a format of a later version.
pub fn history(folder: &Path, period: &Range<i64>) -> Result<History, Error> {
    let failed =
        |error: std::io::Error| Error::new(ErrorKind::Storage, "read the journal", error.to_string()).with("folder", folder.display());
    let storage = Folder::look(folder).map_err(failed)?;
    let files = storage.list().map_err(failed)?;
    let files: BTreeMap<(u64, u32), u64> = files.iter().filter_map(|(name, bytes)| Some((parse_name(name)?, *bytes))).collect();
    let epochs: BTreeSet<u64> = files.keys().map(|(epoch, _)| *epoch).collect();
    let (mut chunks, mut secrets, mut damaged) = (Vec::new(), std::collections::HashMap::new(), 0);
    for epoch in epochs {
        let log = each_chunk(&storage, (epoch, &files), period.start, |received_ms, place, events| {
            if period.contains(&received_ms) {
                chunks.push(Kept { received_ms, place, events });
            }
        });
        let (secret, places) = log.map_err(failed)?;
        secrets.extend(secret.map(|secret| (epoch, secret)));
        damaged += places;
    }
    chunks.sort_unstable_by_key(|chunk| (chunk.received_ms, chunk.place.position));
    chunks.dedup_by_key(|chunk| chunk.place.position);
    Ok(History { chunks, reader: ChunkReader::new(Arc::new(storage), secrets), damaged })
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
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => Ok(None),
        Err(error) => Err(Error::new(ErrorKind::Storage, "lock the journal", error.to_string()).with("folder", folder.display())),
    }
}
