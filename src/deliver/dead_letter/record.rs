//! One dead letter as it is written: a JSON object on one line.
//!
//! The fields of Amazon Data Firehose's error records (Developer Guide, "Data delivery failure handling", the records
//! of the HTTP endpoint and Splunk destinations) under their names: `attemptsMade`, `arrivalTimestamp`, `errorCode`,
//! `errorMessage`, `attemptEndingTimestamp` (times in ms since 1970 UTC), `rawData` (base64 of the item as it was
//! encoded for the destination), `EventId` (the position in the journal). Firehose's documents show them as text in
//! some places and unescaped quotes in others; this is correct JSON with numbers. Ours, beside them: `sender`,
//! `source`, `destination`, `destinationType`, `partition`, `planHash`, `reason`, `alert`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Letter;
use crate::clock;

/// A dead letter as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// How often it was tried.
    pub attempts_made: u32,
    /// When the event arrived, ms since 1970 UTC.
    pub arrival_timestamp: i64,
    /// What failed, as a name.
    pub error_code: String,
    /// What failed, in the destination's words.
    pub error_message: String,
    /// When it was given up, ms since 1970 UTC.
    pub attempt_ending_timestamp: i64,
    /// The item as encoded for the destination, in base64.
    pub raw_data: String,
    /// Where the event stands in the journal.
    #[serde(rename = "EventId")]
    pub event_id: String,
    /// Address that sent the event.
    #[serde(default)]
    pub sender: Option<String>,
    /// The source that it came through.
    #[serde(default)]
    pub source: String,
    /// Name of the destination.
    #[serde(default)]
    pub destination: String,
    /// Its `type`.
    #[serde(default)]
    pub destination_type: String,
    /// The partition that the sink named for it; empty if it names none.
    #[serde(default)]
    pub partition: String,
    /// Hash of the plan (rules, routes) that was in force, in hexadecimal digits.
    #[serde(default)]
    pub plan_hash: String,
    /// Why, in a word: `too_long`, `refused` or `http_<status>`.
    #[serde(default)]
    pub reason: String,
    /// Whether it is an alert.
    #[serde(default)]
    pub alert: bool,
}

impl Record {
    /// The record of a letter that is given up now.
    pub fn new(letter: &Letter, destination: &str, kind: &str) -> Self {
        Self {
            attempts_made: letter.attempts,
            arrival_timestamp: letter.arrival_ms,
            error_code: letter.reason.error_code().into(),
            error_message: letter.why.clone(),
            attempt_ending_timestamp: clock::now_ms(),
            raw_data: STANDARD.encode(&letter.raw),
            event_id: letter.position.to_string(),
            sender: letter.peer.map(|peer| peer.to_string()),
            source: letter.source.to_string(),
            destination: destination.into(),
            destination_type: kind.into(),
            partition: letter.partition.to_string(),
            plan_hash: format!("{:016x}", letter.plan),
            reason: letter.reason.code(),
            alert: letter.is_alert,
        }
    }

    /// Reads a line; `None` if it is none of ours, or torn.
    pub fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// It as a line, with its end. Text and numbers cannot fail to be written.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// The item as it was encoded for the destination; `None` if it is no base64.
    pub fn raw(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.raw_data).ok()
    }
}
