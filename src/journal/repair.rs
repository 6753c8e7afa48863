//! Repairing a journal that does not run: `damaged files -> files without damage, and what was lost`.
//!
//! What cannot be read is kept beside its segment (`<segment>.<ms>.damaged`: a line that says what it was, then its bytes),
//! and a record that is good takes its place: [`Kind::Lost`] where a chunk was, else [`Kind::Void`]. A segment is written
//! beside its name, synced and renamed, so there is always a whole one; a repair that is cut off is begun again. Then a new
//! log takes over what waits, as a start does, so that nobody looks for chunks that are gone.
//!
//! Nothing that can be read is given up: what a damaged verdict, manifest or settlement said is found out again by the next
//! run, which may deliver some events twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::disk::{Options, start_from};
use super::record::{ALIGNMENT, HEADER_BYTES, Header, Key, Kind};
use super::recover::{Damage, load};
use super::segment::file_name;
use super::storage::{Folder, Storage};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::event::Position;

/// Room for the log that takes over; it has no chunks of its own.
const SEGMENT_BYTES: u64 = 1 << 20;

/// What a repair did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// What could not be read.
    pub damage: Vec<Damage>,
    /// Files with the damaged bytes, in the journal's folder.
    pub kept: Vec<String>,
}

impl Repaired {
    /// Chunks that are lost.
    pub fn lost(&self) -> BTreeSet<Position> {
        self.damage.iter().filter_map(|damage| damage.position).collect()
    }
}

fn failed(folder: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Storage, "repair the journal", error.to_string()).with("folder", folder.display())
}

/// Repairs the journal in `folder`, under its lock; with `is_dry` it is only looked at.
///
/// # Errors
/// There is none; another process has it; a disk that does not take what is written; a format of a later version.
pub fn repair(folder: &Path, is_dry: bool) -> Result<Repaired, Error> {
    let look = Folder::look(folder).map_err(|error| failed(folder, &error))?;
    if is_dry {
        let damage = load(&look, true).map_err(|error| failed(folder, &error))?.damage;
        return Ok(Repaired { damage, kept: Vec::new() });
    }
    repair_on(&(Arc::new(Folder::lock(folder).map_err(|error| failed(folder, &error))?) as Arc<dyn Storage>), folder)
}

/// As [`repair`], on any storage.
pub(super) fn repair_on(storage: &Arc<dyn Storage>, folder: &Path) -> Result<Repaired, Error> {
    let failed = |error: io::Error| failed(folder, &error);
    let loaded = load(&**storage, true).map_err(failed)?;
    let mut repaired = Repaired { damage: loaded.damage, kept: Vec::new() };
    if repaired.damage.is_empty() {
        return Ok(repaired);
    }
    let mut places: BTreeMap<(u64, u32), Vec<&Damage>> = BTreeMap::new();
    for damage in repaired.damage.iter().filter(|damage| damage.bytes > 0) {
        places.entry((damage.epoch, damage.segment)).or_default().push(damage);
    }
    for ((epoch, segment), places) in places {
        let name = file_name(epoch, segment);
        let bytes = storage.read(&name, 0, u64::MAX).map_err(failed)?;
        let kept = format!("{name}.{}.damaged", clock::now_ms());
        storage.replace(&kept, &aside(&bytes, &places)).map_err(failed)?;
        repaired.kept.push(kept);
        let key = Key { secret: loaded.secrets.get(&epoch).copied().unwrap_or(0), epoch, segment };
        storage.replace(&name, &mended(&key, bytes, &places)).map_err(failed)?;
    }
    let mut loaded = load(&**storage, true).map_err(failed)?;
    loaded.give_up(&repaired.lost());
    let options = Options {
        folder: folder.to_owned(),
        shards: 1,
        destinations: loaded.names.destinations.clone(),
        sources: loaded.names.sources.clone(),
        forget: Vec::new(),
        drop_oldest: 0,
        kept: 0,
        commit_interval: Duration::ZERO,
        commit_bytes: 1,
        segment_bytes: SEGMENT_BYTES,
        max_bytes: u64::MAX,
        // A repair removes nothing that a run would keep.
        retain: Duration::MAX,
        open_chunks_max: usize::MAX,
        compress: false,
    };
    drop(start_from(storage, &options, loaded)?);
    match load(&**storage, true).map_err(failed)?.damage.len() {
        0 => Ok(repaired),
        left => Err(failed(io::Error::other(format!("{left} places are damaged all the same; is the disk failing?")))),
    }
}

/// What is kept of damaged places: a line that says where it was, then the bytes.
fn aside(bytes: &[u8], places: &[&Damage]) -> Vec<u8> {
    let mut out = Vec::new();
    for damage in places {
        let Damage { epoch, segment, offset, what, .. } = damage;
        let place = bytes.get(*offset as usize..(offset + damage.bytes) as usize).unwrap_or_default();
        let chunk = damage.position.map(|position| format!(", chunk {position}")).unwrap_or_default();
        let line = format!("log {epoch} segment {segment} offset {offset}: {} bytes of {what}{chunk}\n", place.len());
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(place);
        out.push(b'\n');
    }
    out
}

/// The segment with good records in the place of what is damaged.
fn mended(key: &Key, mut bytes: Vec<u8>, places: &[&Damage]) -> Vec<u8> {
    for damage in places {
        let from = damage.offset as usize;
        // A file that was cut short ends within a record: it grows by some bytes.
        let length = (damage.bytes as usize).next_multiple_of(ALIGNMENT).max(HEADER_BYTES);
        let kind = if damage.position.is_some() { Kind::Lost } else { Kind::Void };
        let body = vec![0; length - HEADER_BYTES];
        let mut record = Vec::with_capacity(length);
        Header::new(kind, 0, damage.position.unwrap_or_default(), &body).write(key, damage.offset, &body, &mut record);
        if bytes.len() < from + length {
            bytes.resize(from + length, 0);
        }
        bytes[from..from + length].copy_from_slice(&record);
    }
    bytes
}
