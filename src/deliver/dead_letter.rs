//! Items that a destination will never take, kept with the reason: `letters -> lines of a file, durable`.
//!
//! One JSON object a line ([`Record`]) in `<data_dir>/dead_letters/<destination>.ndjson`, in the form of Amazon Data
//! Firehose's error records (Developer Guide, "Data delivery failure handling"), with the sender, the source, the
//! destination, the plan and a reason code beside. Synced before the event counts as settled. A file that cannot be
//! written, or that has reached its cap, holds the batch: nothing is given up without its record.
//!
//! [`Files`] knows the names, the locks and the rotation; [`Record`] the form; [`Shipping`] moves them to a bucket.

mod files;
mod record;
mod ship;

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

pub use files::{Files, Found, LettersOf, Limits, Maintenance, destinations};
pub use record::Record;
pub use ship::Shipping;

use crate::error::{Error, ErrorKind};
use crate::event::Position;
use crate::metrics::{self, Cell, Registry};
use crate::task::LocalFuture;

/// Why a destination never got an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Longer than the destination can take: it was never sent.
    TooLong,
    /// The destination refused it, with this HTTP status if it speaks HTTP.
    Refused(Option<u16>),
}

impl Reason {
    /// Its name in records and lists.
    pub fn code(self) -> String {
        match self {
            Self::TooLong => "too_long".into(),
            Self::Refused(None) => "refused".into(),
            Self::Refused(Some(status)) => format!("http_{status}"),
        }
    }

    /// The `errorCode` of its record.
    fn error_code(self) -> &'static str {
        match self {
            Self::TooLong => "Destination.ItemTooLong",
            Self::Refused(_) => "Destination.Rejected",
        }
    }
}

/// An item that is given up.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Where its event stands in the journal.
    pub position: Position,
    /// When the event arrived, ms since 1970 UTC.
    pub arrival_ms: i64,
    /// The source that it came through.
    pub source: Arc<str>,
    /// Who sent it.
    pub peer: Option<IpAddr>,
    /// Hash of the plan (rules, routes) that was in force.
    pub plan: u64,
    /// The partition that the sink named for it.
    pub partition: Box<str>,
    /// The item as encoded for the destination.
    pub raw: Vec<u8>,
    /// Whether it is an alert.
    pub is_alert: bool,
    /// Why it is given up, in a word.
    pub reason: Reason,
    /// Why, in the destination's words.
    pub why: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// Where letters go.
pub trait Letters {
    /// Keeps a letter for good.
    fn keep(&self, letter: Letter) -> LocalFuture<'_, Result<(), Error>>;
}

/// The dead letters of one destination on the disk.
pub struct DeadLetters {
    files: Files,
    /// `type` of the destination: only the same can take the items later.
    kind: &'static str,
    used: Cell,
    full: Cell,
}

impl DeadLetters {
    /// Dead letters below a data folder; nothing is made until the first one.
    pub fn new(data_dir: &Path, (destination, kind): (&str, &'static str), limits: Limits, registry: &Registry) -> Self {
        let labels: &[(&str, &str)] = &[("component_id", destination)];
        let used = registry.cell(&metrics::DEAD_LETTER_BYTES, labels);
        let files = Files::new(data_dir, destination, limits);
        used.set(files.used_bytes().unwrap_or(0));
        registry.cell(&metrics::DEAD_LETTER_LIMIT, labels).set(limits.max_bytes);
        Self { files, kind, used, full: registry.cell(&metrics::DEAD_LETTERS_FULL, labels) }
    }
}

impl Letters for DeadLetters {
    fn keep(&self, letter: Letter) -> LocalFuture<'_, Result<(), Error>> {
        let record = Record::new(&letter, self.files.destination(), self.kind);
        let files = self.files.clone();
        Box::pin(async move {
            // A sync takes milliseconds, in which the shard has other things to do.
            let appended = tokio::task::spawn_blocking(move || files.append(&record.line())).await;
            let appended = appended.unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
            self.full.set(u64::from(appended.is_err()));
            self.used.set(appended.map_err(|error| self.files.failed("write a dead letter", &error))?);
            Ok(())
        })
    }
}

impl Files {
    /// The error of an operation on these files.
    pub(super) fn failed(&self, operation: &'static str, error: &io::Error) -> Error {
        Error::new(ErrorKind::Storage, operation, error.to_string())
            .with("destination", self.destination())
            .with("folder", self.folder().display())
    }
}
