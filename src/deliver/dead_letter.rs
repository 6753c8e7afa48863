//! Items that a destination will never take, kept with the reason.
//!
//! One JSON object a line in `<data_dir>/dead_letters/<destination>.ndjson`, in the form of Amazon Data
//! Firehose's error records (Developer Guide, "Data delivery failure handling"): `attemptsMade`,
//! `arrivalTimestamp`, `errorCode`, `errorMessage`, `attemptEndingTimestamp`, `rawData` (base64 of the item as
//! it was encoded for the destination), `EventId` (the position), and `sender`. Synced before the event counts
//! as settled. A file that cannot be written holds the batch: nothing is given up without its record.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::batch::Sealed;
use crate::clock;
use crate::error::{Error, ErrorKind};

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

    /// Writes the record of one item.
    ///
    /// # Errors
    /// The file cannot be written or synced.
    pub fn write(&self, destination: &str, batch: &Sealed, index: usize, item: &[u8], why: &str, attempts: u32) -> Result<(), Error> {
        let position = batch.items.get(index).and_then(|item| {
            let chunk = batch.members.get(item.member as usize)?.chunk;
            Some(chunk.plus(item.frame as usize).to_string())
        });
        let record = serde_json::json!({
            "attemptsMade": attempts,
            "arrivalTimestamp": batch.oldest_ms,
            "errorCode": "Destination.Rejected",
            "errorMessage": why,
            "attemptEndingTimestamp": clock::now_ms(),
            "rawData": STANDARD.encode(item),
            "EventId": position,
            "sender": batch.peer.map(|peer| peer.to_string()),
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
