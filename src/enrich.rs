//! Rows with more fields: `key field -> fields of a table or database`.
//!
//! An [`Enricher`] says which fields it can add and what it looks up for them ([`Lookup`]). The plan binds it
//! to a source only where somebody (a rule, a route, a sink, a later enricher) wants one of these fields and
//! the source's events can have the key; elsewhere it costs nothing. A [`Bound`] is called once per chunk,
//! after the transforms, which may still repair or make a key, and before the rules, which see the result.
//!
//! * A key is text or a number; JSON escapes are resolved. A list is not looked into.
//! * What a look-up finds takes the place of what the decoder said; what it does not find leaves that alone.
//!   A sender whose events may hold any name (JSON) can therefore say `source.owner` for an address that the
//!   table does not know: put the address ranges of such senders into the table.
//! * Values go to the chunk's arena, once per chunk for an entry that repeats.
//!
//! Files are read when the plan is made and again when they change ([`Watched`]): in the background, exchanged
//! as a whole at a chunk boundary; a new file with mistakes is reported and the old content stays. Lists that come over
//! HTTP are fetched by a thread of their own, see the module `feed`; nothing is fetched while a plan is made. Names of
//! addresses are asked for by a thread of their own too, see the module `reverse_dns`; no event waits for it.
//!
//! Never: I/O on a shard, allocation per event. To add one: a file with an `EnricherKind`, and its two lines in
//! [`ENRICHERS`].

mod asn;
mod csv;
mod elements;
mod feed;
mod geoip;
pub mod indicators;
mod keys;
mod local;
mod mmdb;
mod networks;
mod pool;
mod reverse_dns;
mod table;
#[cfg(test)]
mod testing;
mod threat_list;
mod watch;

use std::fmt;
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

pub use local::Local;
pub use watch::{Refresh, Watched};

use crate::config::Section;
use crate::error::{Diagnostic, Diagnostics};
use crate::event::{Chunk, Events, Fields, Kind, Row, Slot, SlotId, Value};
use crate::json;
use crate::metrics::Registry;

use keys::address;
use watch::Handle;

/// Every enricher.
pub static ENRICHERS: &[&dyn EnricherKind] = &[&asn::Asn, &geoip::Geoip, &reverse_dns::ReverseDns, &table::Table, &threat_list::ThreatList];

/// How often files are looked at. A change counts when two looks find the same file, so it takes effect
/// within two intervals.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A kind of enricher.
pub trait EnricherKind: Sync {
    /// File name, `type:` in the configuration, metric label.
    fn name(&self) -> &'static str;
    /// A commented sample section; parsed by a test, shown in the documentation.
    fn sample(&self) -> &'static str;
    /// The JSON schema of its section: [`crate::config::schema_of`] its settings.
    fn schema(&self) -> schemars::Schema;
    /// Reads a section; opens nothing.
    ///
    /// # Errors
    /// Every mistake in it.
    fn read(&self, section: &Section, folders: Folders<'_>) -> Result<Box<dyn Enricher>, Diagnostics>;
}

/// Where files are.
#[derive(Clone, Copy, Debug)]
pub struct Folders<'a> {
    /// Where relative paths of the configuration begin.
    pub base: &'a Path,
    /// Where what has to outlive a restart is kept.
    pub data: &'a Path,
}

/// One field that is looked up, and what that adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The field that holds the key.
    pub key: String,
    /// The fields that an entry can add.
    pub adds: Vec<String>,
    /// Whether nobody asked for this key by name: it is no mistake if no source has it.
    pub is_usual: bool,
}

/// A configured enricher, shared by all shards.
pub trait Enricher: Send + Sync {
    /// What it looks up.
    fn lookups(&self) -> &[Lookup];
    /// Loads its file if that is new or has changed. For one caller at a time, not on a shard: it reads a
    /// whole file.
    fn refresh(&self) -> Refresh;
    /// Why it can add nothing before others are asked, if so; behind the first [`Enricher::refresh`].
    fn lacks(&self) -> Option<&'static str> {
        None
    }
    /// Where it counts what only it has to count, under the name of the enrichment; before [`Enricher::bind`].
    fn observe(&self, _registry: &Registry, _name: &str) {}
    /// The look-ups of which `fields` has the key and anything that they add, for one shard.
    fn bind(&self, fields: &Fields) -> Box<dyn Bound>;
}

/// An enricher of one shard.
pub trait Bound {
    /// Fills the rows of a range. Returns how many look-ups were given up: damaged entries, or no room left
    /// in the chunk's arena.
    fn enrich(&mut self, chunk: &Chunk, rows: Range<usize>, events: &mut Events) -> u64;
}

/// Something with entries that have the same columns each.
trait Entries: Send + Sync + 'static {
    /// The number of the entry for a key; the same for all keys that have the same values. `scratch` is working memory.
    fn find(&self, key: &[u8], scratch: &mut Vec<u8>) -> Option<u128>;
    /// Writes the values of an entry.
    ///
    /// # Errors
    /// The entry cannot be read.
    fn write(&self, entry: u128, cells: &mut Cells<'_, '_>) -> Result<(), Damaged>;
}

/// An entry that cannot be read.
struct Damaged;

/// Where the values of one entry go.
struct Cells<'r, 'a> {
    row: &'r mut Row<'a>,
    targets: &'r [Option<SlotId>],
    slots: &'r mut [Slot],
    is_full: bool,
}

impl Cells<'_, '_> {
    /// Sets a column, if anybody wants it.
    fn set(&mut self, column: usize, kind: Kind, bytes: &[u8]) {
        self.append(column, kind, bytes.len(), |out| out.extend_from_slice(bytes));
    }

    /// The same for what has yet to be written; it is short.
    fn set_formatted(&mut self, column: usize, kind: Kind, text: fmt::Arguments<'_>) {
        // Writing to a vector cannot fail.
        self.append(column, kind, FORMATTED_BYTES_MAX, |out| out.write_fmt(text).unwrap_or_default());
    }

    fn append(&mut self, column: usize, kind: Kind, bytes_max: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(Some(target)) = self.targets.get(column).copied() else { return };
        if !self.row.has_room(bytes_max) {
            self.is_full = true;
            return;
        }
        self.row.set_written(target, kind, write);
        if let Some(slot) = self.slots.get_mut(column) {
            *slot = self.row.slot(target);
        }
    }
}

/// Room that is asked for before something is formatted: codes, numbers and coordinates.
const FORMATTED_BYTES_MAX: usize = 64 * 1024;

/// Entries that a chunk's memo holds: more than a chunk of the usual size has events.
const MEMO_ENTRIES: usize = 1024;

/// The entries that the current chunk has met, with their values' places in its arena.
struct Memo {
    chunk: u32,
    /// The chunk and the entry's number.
    entries: Vec<(u32, u128)>,
    slots: Vec<Slot>,
    columns: usize,
}

impl Memo {
    fn new(columns: usize) -> Self {
        Self { chunk: 0, entries: vec![(0, 0); MEMO_ENTRIES], slots: vec![Slot::MISSING; MEMO_ENTRIES * columns], columns }
    }

    /// Forgets everything.
    fn begin(&mut self) {
        if self.chunk == u32::MAX {
            self.entries.fill((0, 0));
            self.chunk = 0;
        }
        self.chunk += 1;
    }

    /// The slots of an entry, and whether they are those of this chunk; if not, they are to be filled now.
    fn at(&mut self, entry: u128) -> (&mut [Slot], bool) {
        let folded = (entry as u64) ^ (entry >> 64) as u64;
        let index = (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - MEMO_ENTRIES.ilog2())) as usize;
        let slots = &mut self.slots[index * self.columns..(index + 1) * self.columns];
        let is_known = self.entries[index] == (self.chunk, entry);
        if !is_known {
            self.entries[index] = (self.chunk, entry);
            slots.fill(Slot::MISSING);
        }
        (slots, is_known)
    }
}

/// The [`Bound`] of all enrichers here.
struct Filler<T> {
    entries: Handle<T>,
    keys: Vec<Key>,
    text: Vec<u8>,
    scratch: Vec<u8>,
}

/// One bound look-up.
struct Key {
    slot: SlotId,
    /// By column.
    targets: Vec<Option<SlotId>>,
    memo: Memo,
}

impl<T: Entries> Filler<T> {
    /// The columns of an entry are in the order of [`Lookup::adds`].
    fn new(entries: Handle<T>, lookups: &[Lookup], fields: &Fields) -> Self {
        let key = |lookup: &Lookup| {
            let targets: Vec<Option<SlotId>> = lookup.adds.iter().map(|name| fields.find(name)).collect();
            let is_wanted = targets.iter().any(Option::is_some);
            let slot = fields.find(&lookup.key).filter(|_| is_wanted)?;
            Some(Key { slot, memo: Memo::new(targets.len()), targets })
        };
        Self { entries, keys: lookups.iter().filter_map(key).collect(), text: Vec::new(), scratch: Vec::new() }
    }
}

impl<T: Entries> Bound for Filler<T> {
    fn enrich(&mut self, chunk: &Chunk, rows: Range<usize>, events: &mut Events) -> u64 {
        let Some(entries) = self.entries.current() else { return 0 };
        let mut given_up = 0;
        for key in &mut self.keys {
            key.memo.begin();
            for index in rows.clone() {
                let mut row = events.row_mut(chunk, index);
                given_up += u64::from(!key.fill(entries, &mut row, (&mut self.text, &mut self.scratch)));
            }
        }
        given_up
    }
}

impl Key {
    /// Fills one row; false if something was given up.
    fn fill<T: Entries>(&mut self, entries: &T, row: &mut Row<'_>, (text, scratch): (&mut Vec<u8>, &mut Vec<u8>)) -> bool {
        let found = match row.value(self.slot) {
            Value::Text(key) | Value::Number(key) => entries.find(key, scratch),
            Value::Escaped(inside) => {
                text.clear();
                json::unescape(inside, text);
                entries.find(text, scratch)
            }
            _ => None,
        };
        let Some(entry) = found else { return true };
        let (slots, is_known) = self.memo.at(entry);
        if is_known {
            for (target, slot) in self.targets.iter().zip(&*slots).filter(|(_, slot)| slot.kind() != Kind::Missing) {
                if let Some(target) = target {
                    row.set(*target, *slot);
                }
            }
            return true;
        }
        let mut cells = Cells { row, targets: &self.targets, slots, is_full: false };
        let written = entries.write(entry, &mut cells);
        written.is_ok() && !cells.is_full
    }
}

/// Why `name` cannot be a field of an event, if so: canonical names only.
fn check_name(place: &Section, name: &str) -> Result<(), Diagnostic> {
    let is_segment =
        |segment: &str| !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'@'));
    if name.split('.').all(is_segment) {
        return Ok(());
    }
    let diagnostic = place.error(format!("`{name}` is not the name of a field"));
    Err(match name.strip_prefix('.').filter(|rest| rest.split('.').all(is_segment)) {
        Some(rest) => diagnostic.help(format!("write `{rest}`, without the first dot")),
        None => diagnostic.help("a canonical name such as `source.ip`"),
    })
}
