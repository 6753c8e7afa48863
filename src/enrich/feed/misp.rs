//! A MISP feed: a folder on a web server with `manifest.json` and a file for each event.
//!
//! In: the manifest, an object of events by UUID with the `timestamp` of their last change (MISP core format,
//! draft-dulaunoy-misp-core-format, section "Manifest"), and of the events the new and the changed ones. Out: one list, a
//! line of JSON for each event with its attributes, which the format `misp` reads; the lines of events that have not
//! changed are copied from the list before. An event that left the manifest leaves the list.
//!
//! * Of an attribute only what is read of one is kept; one without `to_ids` is counted and left out. An attribute without a
//!   comment says what its event is about.
//! * An event that cannot be fetched, or is none, stays as it was, and is fetched again next time. After
//!   [`FAILURES_MAX`] in a row, or [`TIME`], the rest is left to the next time.
//! * At most so many events, the newest; at most so many bytes in all. What is left out is told.
//! * The UUID is checked, so an event is a file beside the manifest and nothing else.
//!
//! Not used: `hashes.csv`, which holds MD5 of values (not of files), so that each value of each event of ours would have
//! to be hashed, and neither networks nor names below a name would be found.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Take, Write};
use std::time::{Duration, Instant};

use hyper::Uri;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::enrich::indicators::{MispAttribute, misp_attributes};
use crate::error::{Diagnostic, Diagnostics};
use crate::net::download::{DownloadError, Downloaded, Downloader, Shown, Validators};

/// The file that names the events.
pub(in crate::enrich) const MANIFEST: &str = "manifest.json";

/// Longest manifest: a hundred thousand events with their tags.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest event; it is held in memory while it is read.
const EVENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Time for all events of one turn.
const TIME: Duration = Duration::from_secs(900);

/// Events in a row that cannot be fetched, before the server is left alone.
const FAILURES_MAX: usize = 5;

/// An event in the manifest.
#[derive(Deserialize)]
struct Listed {
    timestamp: Timestamp,
    #[serde(default)]
    info: String,
}

/// Seconds since 1970, which MISP writes as text and others as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Timestamp {
    Number(u64),
    Text(String),
}

impl Timestamp {
    fn seconds(&self) -> Option<u64> {
        match self {
            Self::Number(seconds) => Some(*seconds),
            Self::Text(text) => text.trim().parse().ok(),
        }
    }
}

/// An event that the list is to have.
struct Wanted {
    uuid: String,
    timestamp: u64,
    info: String,
}

/// A line of the list.
#[derive(Serialize)]
struct Line<'a> {
    uuid: &'a str,
    timestamp: u64,
    /// Attributes that are not for detection.
    left_out: u64,
    #[serde(rename = "Attribute")]
    attributes: Vec<MispAttribute>,
}

/// The same, as far as it has to be known to copy it.
#[derive(Deserialize)]
struct Head {
    uuid: String,
    timestamp: u64,
    left_out: u64,
    #[serde(rename = "Attribute")]
    _attributes: IgnoredAny,
}

/// Where a line of the list before stands.
#[derive(Clone, Copy)]
struct Kept {
    timestamp: u64,
    left_out: u64,
    start: u64,
    len: u64,
}

/// A feed, and how much of it is taken.
#[derive(Clone, Copy)]
pub(super) struct MispFeed<'a> {
    pub(super) downloader: &'a Downloader,
    pub(super) events_max: usize,
    pub(super) bytes_max: u64,
}

/// What is told of a turn.
#[derive(Default)]
struct Told {
    /// How many, and the last one's reason.
    failed: Option<(usize, String)>,
    postponed: usize,
    no_room: usize,
    left_out: u64,
}

impl MispFeed<'_> {
    /// Writes the list of all events to `out`, with the lines of `old` where nothing has changed; nothing where the
    /// manifest is the one that `known` tells.
    pub(super) async fn gather(
        self,
        known: &Validators,
        old: Option<Take<File>>,
        out: &mut impl Write,
    ) -> Result<(Downloaded, Diagnostics), DownloadError> {
        let mut manifest = Vec::new();
        let uri = self.downloader.uri();
        // Without a list before everything is new.
        let known = if old.is_some() { known.clone() } else { Validators::default() };
        let new = match self.downloader.download_from((uri, MANIFEST_BYTES_MAX), &known, &mut manifest).await? {
            Downloaded::NotModified => return Ok((Downloaded::NotModified, Diagnostics::new())),
            Downloaded::Whole(new) => new,
        };
        let (wanted, mut diagnostics) = self.wanted(&manifest)?;
        drop(manifest);
        let mut old = Old::read(old);
        let told = self.collect(&wanted, &mut old, out).await?;
        // What is missing is asked for next time, whatever the server says of its manifest.
        let is_whole = told.failed.is_none() && told.postponed == 0;
        diagnostics.0.extend(self.notes(&told));
        Ok((Downloaded::Whole(if is_whole { new } else { Validators::default() }), diagnostics))
    }

    /// The events of a manifest that are taken, the newest first.
    fn wanted(self, manifest: &[u8]) -> Result<(Vec<Wanted>, Diagnostics), DownloadError> {
        let uri = self.downloader.uri();
        let listed: BTreeMap<String, Listed> = serde_json::from_slice(manifest).map_err(|error| {
            let what = format!("this is no manifest of MISP, an object of events by UUID: {error}");
            DownloadError { message: format!("{}: {what}", Shown(uri)), retry_after: None }
        })?;
        let mut diagnostics = Diagnostics::new();
        let (mut wanted, mut strange) = (Vec::new(), None);
        for (uuid, event) in listed {
            match event.timestamp.seconds().filter(|_| is_uuid(&uuid)) {
                Some(timestamp) => wanted.push(Wanted { uuid, timestamp, info: event.info }),
                None => strange = Some((strange.map_or(1, |(count, _)| count + 1), uuid)),
            }
        }
        if let Some((count, uuid)) = strange {
            let shown: String = uuid.chars().take(80).collect();
            diagnostics.push(self.note(format!("{count} left out: no UUID, or no time, such as `{shown}`")));
        }
        wanted.sort_unstable_by(|a, b| b.timestamp.cmp(&a.timestamp).then_with(|| a.uuid.cmp(&b.uuid)));
        if wanted.len() > self.events_max {
            let older = wanted.len() - self.events_max;
            diagnostics.push(self.note(format!("the {older} oldest events are left out")).help("`max_events` says how many are taken"));
            wanted.truncate(self.events_max);
        }
        Ok((wanted, diagnostics))
    }

    async fn collect(self, wanted: &[Wanted], old: &mut Old, out: &mut impl Write) -> Result<Told, DownloadError> {
        let began = Instant::now();
        let (mut told, mut failures, mut left) = (Told::default(), 0, self.bytes_max);
        for (index, event) in wanted.iter().enumerate() {
            let kept = old.kept.get(&event.uuid).copied();
            let is_same = kept.is_some_and(|kept| kept.timestamp == event.timestamp);
            let fetched = if is_same {
                None
            } else if failures >= FAILURES_MAX || began.elapsed() > TIME {
                told.postponed += 1;
                None
            } else {
                let fetched = self.fetch(event).await;
                failures = if fetched.is_err() { failures + 1 } else { 0 };
                fetched.map_err(|error| told.failed = Some((told.failed.take().map_or(1, |(count, _)| count + 1), error))).ok()
            };
            let (line, left_out) = match (fetched, kept) {
                (Some(fetched), _) => fetched,
                (None, Some(kept)) => (old.line(kept).map_err(|error| stored(&error))?, kept.left_out),
                (None, None) => continue,
            };
            let Some(rest) = left.checked_sub(line.len() as u64) else {
                told.no_room = wanted.len() - index;
                break;
            };
            left = rest;
            told.left_out += left_out;
            out.write_all(&line).map_err(|error| stored(&error))?;
        }
        Ok(told)
    }

    /// Fetches an event; gives its line, and how many attributes are not for detection.
    async fn fetch(self, event: &Wanted) -> Result<(Vec<u8>, u64), String> {
        let uri = beside(self.downloader.uri(), &event.uuid).ok_or("the address of an event is none")?;
        let mut bytes = Vec::new();
        let bytes_max = EVENT_BYTES_MAX.min(self.bytes_max);
        let downloaded = self.downloader.download_from((&uri, bytes_max), &Validators::default(), &mut bytes).await;
        downloaded.map_err(|error| error.message)?;
        line(event, &bytes).map_err(|error| format!("{}: {error}", Shown(&uri)))
    }

    fn note(self, message: String) -> Diagnostic {
        Diagnostic::error(Shown(self.downloader.uri()).to_string().as_ref(), 0, 0, "", message).warning()
    }

    fn notes(self, told: &Told) -> Vec<Diagnostic> {
        let mut notes = Vec::new();
        if let Some((count, first)) = &told.failed {
            notes.push(self.note(format!("{count} events cannot be fetched and stay as they were; the last one: {first}")));
        }
        if told.postponed > 0 {
            notes.push(self.note(format!("{} events are left to the next time", told.postponed)));
        }
        if told.no_room > 0 {
            let note = self.note(format!("the {} oldest events are left out: more than {} bytes", told.no_room, self.bytes_max));
            notes.push(note.help("`max_size` says how much is kept of a feed"));
        }
        if told.left_out > 0 {
            notes.push(self.note(format!("{} attributes left out: not meant for detection (to_ids), or deleted", told.left_out)));
        }
        notes
    }
}

fn stored(error: &io::Error) -> DownloadError {
    DownloadError { message: format!("the list of a feed cannot be kept: {error}"), retry_after: None }
}

/// The line of an event as it was sent.
fn line(event: &Wanted, sent: &[u8]) -> Result<(Vec<u8>, u64), String> {
    let (attributes, left_out) = misp_attributes(sent, &event.info)?;
    let mut line = serde_json::to_vec(&Line { uuid: &event.uuid, timestamp: event.timestamp, left_out, attributes })
        .map_err(|error| error.to_string())?;
    line.push(b'\n');
    Ok((line, left_out))
}

/// The address of an event's file: in the folder of the manifest, with the same query.
fn beside(manifest: &Uri, uuid: &str) -> Option<Uri> {
    let folder = manifest.path().strip_suffix(MANIFEST)?;
    let query = manifest.query().map_or(String::new(), |query| format!("?{query}"));
    let mut parts = manifest.clone().into_parts();
    parts.path_and_query = Some(format!("{folder}{uuid}.json{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// RFC 9562 section 4.
fn is_uuid(text: &str) -> bool {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let is_right = |(at, byte): (usize, u8)| if DASHES.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(is_right)
}

/// The list before.
struct Old {
    file: Option<File>,
    kept: BTreeMap<String, Kept>,
}

impl Old {
    /// Finds the lines of a list; those that are none are not there.
    fn read(file: Option<Take<File>>) -> Self {
        let Some(file) = file else { return Self { file: None, kept: BTreeMap::new() } };
        let (mut reader, mut kept, mut line, mut start) = (BufReader::new(file), BTreeMap::new(), Vec::new(), 0);
        while let Ok(len @ 1..) = reader.read_until(b'\n', &mut line) {
            if let Ok(Head { uuid, timestamp, left_out, .. }) = serde_json::from_slice(&line) {
                kept.insert(uuid, Kept { timestamp, left_out, start, len: len as u64 });
            }
            start += len as u64;
            line.clear();
        }
        Self { file: Some(reader.into_inner().into_inner()), kept }
    }

    /// A line of it.
    #[expect(clippy::disallowed_methods, reason = "as long as the line was")]
    fn line(&mut self, kept: Kept) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(kept.start))?;
            file.take(kept.len).read_to_end(&mut line)?;
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests;
