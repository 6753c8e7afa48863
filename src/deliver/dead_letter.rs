//! Items that a destination will never take, kept with the reason.
//!
//! One JSON object a line in `<data_dir>/dead_letters/<destination>.ndjson`, in the form of Amazon Data
//! Firehose's error records (Developer Guide, "Data delivery failure handling"): `attemptsMade`,
//! `arrivalTimestamp`, `errorCode`, `errorMessage`, `attemptEndingTimestamp`, `rawData` (base64 of the item as
//! it was encoded for the destination), `EventId` (the position), and `sender`. Synced before the event counts
//! as settled. A file that cannot be written holds the batch: nothing is given up without its record.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::event::Position;

/// An item that is given up.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// Where its event stands in the journal.
    pub position: Position,
    /// When the event arrived, ms since 1970 UTC.
    pub arrival_ms: i64,
    /// Who sent it.
    pub peer: Option<IpAddr>,
    /// The item as encoded for the destination, or the frame if it was never encoded.
    pub raw: &'a [u8],
    /// Why it is given up.
    pub why: &'a str,
    /// How often it was tried.
    pub attempts: u32,
}

/// Where dead letters go.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    folder: PathBuf,
}

impl DeadLetters {
    /// Dead letters below a data folder; nothing is made until the first one.
    pub fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("dead_letters") }
    }

    /// Writes a record.
    ///
    /// # Errors
    /// The file cannot be written or synced.
    pub fn write(&self, destination: &str, letter: &Letter<'_>) -> Result<(), Error> {
        let record = serde_json::json!({
            "attemptsMade": letter.attempts,
            "arrivalTimestamp": letter.arrival_ms,
            "errorCode": "Destination.Rejected",
            "errorMessage": letter.why,
            "attemptEndingTimestamp": clock::now_ms(),
            "rawData": STANDARD.encode(letter.raw),
            "EventId": letter.position.to_string(),
            "sender": letter.peer.map(|peer| peer.to_string()),
        });
        self.append(destination, &record)
            .map_err(|error| Error::new(ErrorKind::Storage, "write a dead letter", error.to_string()).with("folder", self.folder.display()))
    }

    fn append(&self, destination: &str, record: &serde_json::Value) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(format!("{destination}.ndjson"));
        let mut file: File = OpenOptions::new().create(true).append(true).open(path)?;
        let mut line = record.to_string();
        line.push('\n');
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }
}
