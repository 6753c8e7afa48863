//! Looking at a journal that does not run, or that runs elsewhere: `files -> report, chunks`.
//!
//! Nothing is written and nothing is locked. Of a journal that is running, the report is that of a moment, and a
//! segment that goes away meanwhile is an error that goes away when it is read again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::recover::{ChunkReader, Damage, Loaded, Place, load};
use super::state::Share;
use super::storage::Folder;
use crate::error::{Error, ErrorKind};
use crate::event::{Chunk, Members, Position, Sender};

/// What waits for one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Events that it is to get and does not have.
    pub events: u64,
    /// Batches that were sealed and are not confirmed.
    pub batches: u64,
    /// The oldest of the events.
    pub oldest: Option<Position>,
}

/// What is in a journal.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Number of segments.
    pub segments: usize,
    /// Bytes that they take.
    pub bytes: u64,
    /// Chunks that some destination has not all of.
    pub open_chunks: usize,
    /// Events of chunks that nobody has decided about.
    pub undecided_events: u64,
    /// By name.
    pub destinations: BTreeMap<String, Waiting>,
    /// What cannot be read.
    pub damage: Vec<Damage>,
    /// Bytes at the ends of logs that a crash tore.
    pub torn_bytes: u64,
}

fn failed(folder: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Storage, "read the journal", error.to_string()).with("folder", folder.display())
}

fn loaded(folder: &Path, every_segment: bool) -> Result<(Folder, Loaded), Error> {
    let storage = Folder::look(folder).map_err(|error| failed(folder, &error))?;
    let loaded = load(&storage, every_segment).map_err(|error| failed(folder, &error))?;
    Ok((storage, loaded))
}

/// What is in the journal in `folder`. With `every_segment` all records and all chunks that wait are read, so that
/// damage is found wherever it is.
///
/// # Errors
/// Files that cannot be read at all; a format of a later version.
pub fn inspect(folder: &Path, every_segment: bool) -> Result<Report, Error> {
    let (_, loaded) = loaded(folder, every_segment)?;
    let mut report = Report {
        segments: loaded.files.len(),
        bytes: loaded.files.values().sum(),
        open_chunks: loaded.chunks.len(),
        damage: loaded.damage,
        torn_bytes: loaded.torn_bytes,
        ..Report::default()
    };
    let names = loaded.names.destinations;
    let name = |number: u16| names.get(usize::from(number)).cloned().unwrap_or_else(|| "?".into());
    for (position, chunk) in &loaded.chunks {
        if chunk.verdict.is_none() {
            report.undecided_events += u64::from(chunk.frames);
        }
        for share in &chunk.shares {
            let mut left: Members = share.expected.clone();
            left.remove(&share.settled);
            if !left.is_empty() {
                let waiting = report.destinations.entry(name(share.destination)).or_default();
                waiting.events += u64::from(left.count);
                waiting.oldest.get_or_insert(*position);
            }
        }
    }
    for batch in loaded.batches.values() {
        report.destinations.entry(name(batch.destination)).or_default().batches += 1;
    }
    Ok(report)
}

/// Shows every chunk that is not settled for every destination of the configuration, in the order of positions. Returns how
/// many cannot be read.
///
/// # Errors
/// Files that cannot be read at all, and those of `show`.
pub fn export<E: From<Error>>(folder: &Path, mut show: impl FnMut(&Chunk) -> Result<(), E>) -> Result<u64, E> {
    let (storage, loaded) = loaded(folder, false)?;
    let reader = ChunkReader::new(Arc::new(storage), loaded.secrets.clone());
    let mut unreadable = 0;
    // Names with a percent sign are our own: those events are delivered.
    let is_own = |number: u16| loaded.names.destinations.get(usize::from(number)).is_some_and(|name| name.starts_with('%'));
    let lacks = |share: &Share| !is_own(share.destination) && !share.expected.is_within(&share.settled);
    for (position, chunk) in &loaded.chunks {
        if chunk.verdict.is_some() && !chunk.shares.iter().any(lacks) {
            continue;
        }
        let position = *position;
        let sender = |source: &str| Arc::new(Sender { source: source.into(), source_index: 0 });
        match reader.read(Place { position, at: chunk.at }, sender).map_err(|error| failed(folder, &error))? {
            Some(chunk) => show(&chunk)?,
            None => unreadable += 1,
        }
    }
    Ok(unreadable)
}
