//! Objects that Hydrant wrote, read back: `files or objects, .ndjson, .gz, .zst, .parquet -> chunks of the frames as they came`.
//!
//! Rows are those of the sink `aws_s3` (NDJSON): a frame with what is needed to replay it under `hydrant` (source,
//! decoder, time, position, peer), spliced into the frame's own object or beside `message`; of `form: json` those with
//! `event.original` (`keep_raw: true`). Rows of alerts, findings or flat, are left out: a replay makes them anew. Compression is told by the
//! first bytes. Files are read in the order of their names, which begin with their time by default. What stood beside a
//! frame and not in it, as the header line of VPC flow logs does, is not in the archive.
//!
//! A row of a Parquet file is a line of JSON too: see `parquet`.
//!
//! Commands without a configuration take any lines ([`Archive::next_frames`]): what is no row of Hydrant's is a frame itself.

#[cfg(not(feature = "parquet"))]
mod no_parquet;
#[cfg(not(feature = "aws"))]
mod no_store;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg(feature = "aws")]
mod store;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::clock;
use crate::config::Section;
use crate::encode::body::RESERVED_KEY;
use crate::encode::ocsf::is_finding;
use crate::error::{Error, ErrorKind};
use crate::event::{Chunk, Position, Sender, Span};
use crate::limits::{CHUNK_FRAMES_MAX, CHUNK_TARGET_BYTES, FRAME_BYTES_MAX, INFLATED_BYTES_MAX, READ_BYTES, ZSTD_WINDOW_LOG_MAX};
#[cfg(not(feature = "parquet"))]
use no_parquet::Rows;
#[cfg(not(feature = "aws"))]
use no_store::Store;
#[cfg(feature = "parquet")]
use parquet::Rows;
#[cfg(feature = "aws")]
use store::Store;

/// Longest row: a frame of the greatest length, each byte escaped.
const ROW_BYTES_MAX: u64 = 6 * INFLATED_BYTES_MAX as u64;

/// How a Parquet file begins.
const PARQUET: &[u8] = b"PAR1";

/// Where a row stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, Deserialize)]
pub struct RowPlace {
    /// The file, from the archive's folder on.
    pub file: String,
    /// Rows of it that came before.
    pub row: u64,
}

/// What was not replayed of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Skipped {
    /// Rows of another time.
    pub other_time: u64,
    /// Rows of alerts.
    pub alerts: u64,
    /// Rows that Hydrant did not write, or without the frame as it came; rows of Parquet that are longer than a frame may be.
    pub unreadable: u64,
    /// Rows of sources that the configuration does not have.
    pub unknown_source: u64,
}

/// A row, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    source: String,
    time_ms: i64,
    position: Position,
    peer: Option<IpAddr>,
    raw: Vec<u8>,
}

#[derive(Deserialize)]
struct Reserved {
    source: String,
    #[serde(default)]
    alert: bool,
    time: Option<String>,
    position: Option<String>,
    peer: Option<String>,
    raw_base64: Option<String>,
    #[serde(default)]
    object: bool,
}

/// Where files are.
enum Shelf {
    Folder(PathBuf),
    Store(Box<Store>),
}

/// What an open file gives.
enum Input {
    Lines(Box<dyn BufRead>),
    Rows(Box<Rows>),
}

/// What came next.
enum Next {
    Row,
    /// Longer than a frame may be, and left out.
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "lines are cut instead"))]
    TooLong,
    End,
}

/// Reads an archive.
pub struct Archive {
    shelf: Shelf,
    period: Range<i64>,
    /// Files to read, as far as they are listed.
    files: VecDeque<String>,
    open: Option<(RowPlace, Input)>,
    /// The row that did not fit into the last chunk.
    next: Option<Row>,
    /// What was left out so far.
    pub skipped: Skipped,
    /// What was left out up to the place behind the last chunk.
    pub skipped_behind: Skipped,
    /// Files that could not be read to their end.
    pub failed: Vec<String>,
    /// Lines that were no rows, longer than a frame may be, and were cut.
    pub cut: u64,
}

impl Archive {
    /// An archive at a place, which is a folder, a file (`-` is stdin) or `s3://bucket/prefix`: rows of a period of event time,
    /// from behind `after`. The address and the keys of a bucket are those of the sink in the configuration `written` that
    /// writes to it. An object that is read lies in `scratch`, without a name, while it is; one that was written at `begun_ms`
    /// or later is left out.
    ///
    /// # Errors
    /// The folder cannot be read; the bucket cannot be listed.
    pub async fn open(
        place: &str,
        written: Option<&Section>,
        (scratch, begun_ms): (&Path, i64),
        period: Range<i64>,
        after: Option<&RowPlace>,
    ) -> Result<Self, Error> {
        let first = after.map(|after| after.file.clone());
        let (shelf, files) = match place.strip_prefix("s3://") {
            Some(place) => {
                (Shelf::Store(Box::new(Store::open(place, written, scratch, begun_ms, first.clone()).await?)), first.into_iter().collect())
            }
            None => {
                let failed = |error: io::Error| Error::new(ErrorKind::Storage, "read the archive", error.to_string()).with("place", place);
                let place = if place == "-" { "/dev/stdin" } else { place };
                let (folder, mut files) = match fs::metadata(place).map_err(failed)?.is_dir() {
                    true => (PathBuf::from(place), list(Path::new(place)).map_err(failed)?),
                    false => (PathBuf::new(), vec![place.to_owned()]),
                };
                files.retain(|file| first.as_ref().is_none_or(|first| file >= first));
                (Shelf::Folder(folder), files.into())
            }
        };
        let (skipped, skipped_behind, failed, cut) = Default::default();
        let mut archive = Self { shelf, period, files, open: None, next: None, skipped, skipped_behind, failed, cut };
        if let Some(after) = after {
            archive.skip_to(after).await?;
        }
        Ok(archive)
    }

    async fn skip_to(&mut self, after: &RowPlace) -> Result<(), Error> {
        if self.files.front() != Some(&after.file) {
            return Ok(());
        }
        while self.open.as_ref().is_none_or(|(place, _)| place.row < after.row) {
            let line = self.line().await?;
            if line.is_none() || self.open.as_ref().is_none_or(|(place, _)| place.file != after.file) {
                // The file has become shorter: this is a row of the next one.
                self.next = line.and_then(|line| parse(&line).ok());
                break;
            }
        }
        Ok(())
    }

    /// The next frames of one sender, and the place behind them. `sender` knows the sources of the configuration.
    ///
    /// # Errors
    /// A bucket that cannot be listed.
    pub async fn next_chunk(&mut self, mut sender: impl FnMut(&str) -> Option<Arc<Sender>>) -> Result<Option<(Chunk, RowPlace)>, Error> {
        let (mut bytes, mut spans, mut times) = (Vec::new(), Vec::new(), Vec::new());
        let mut first = None::<(Row, Arc<Sender>)>;
        let mut behind = RowPlace::default();
        while let Some((row, place)) = self.next_row().await? {
            let fits = first.as_ref().is_none_or(|(first, _)| {
                let is_next = row.position == first.position.plus(spans.len()) && row.source == first.source && row.peer == first.peer;
                is_next && bytes.len() + row.raw.len() <= CHUNK_TARGET_BYTES
            });
            if !fits {
                self.next = Some(row);
                break;
            }
            spans.push(Span::new(bytes.len(), bytes.len() + row.raw.len()));
            bytes.extend_from_slice(&row.raw);
            times.push(row.time_ms);
            if first.is_none() {
                let Some(sender) = sender(&row.source) else {
                    self.skipped.unknown_source += 1;
                    (bytes, spans, times) = Default::default();
                    continue;
                };
                first = Some((Row { raw: Vec::new(), ..row }, sender));
            }
            behind = place;
            self.skipped_behind = self.skipped;
        }
        let Some((first, sender)) = first else { return Ok(None) };
        let received_ms = times.iter().copied().max().unwrap_or(first.time_ms);
        // What has no time in it had that of its arrival.
        let times = times.into_iter().enumerate().map(|(frame, time_ms)| (frame as u32, Some(time_ms))).collect();
        let peers = first.peer.map(|peer| (0, peer)).into_iter().collect();
        let mut chunk = Chunk::new(bytes, spans, sender, received_ms).with_peers(peers).with_times(times);
        chunk.position = first.position;
        Ok(Some((chunk, behind)))
    }

    /// The next frames, of any source and time. A line that is no row of Hydrant's is a frame itself.
    ///
    /// # Errors
    /// A bucket that cannot be listed.
    pub async fn next_frames(&mut self, sender: &Arc<Sender>) -> Result<Option<Chunk>, Error> {
        let (mut bytes, mut spans, mut times) = (Vec::with_capacity(CHUNK_TARGET_BYTES), Vec::new(), Vec::new());
        while bytes.len() < CHUNK_TARGET_BYTES && spans.len() < CHUNK_FRAMES_MAX {
            let Some(line) = self.line().await? else { break };
            let (frame, time_ms) = match parse(&line) {
                Ok(row) => (row.raw, Some(row.time_ms)),
                Err(Left::Alert) => {
                    self.skipped.alerts += 1;
                    continue;
                }
                Err(Left::Unreadable) => {
                    self.skipped.unreadable += 1;
                    continue;
                }
                Err(Left::Foreign) => {
                    self.cut += u64::from(line.len() > FRAME_BYTES_MAX);
                    (line, None)
                }
            };
            let frame = if time_ms.is_some() { &frame[..] } else { frame.get(..FRAME_BYTES_MAX).unwrap_or(&frame) };
            times.push((spans.len() as u32, time_ms));
            spans.push(Span::new(bytes.len(), bytes.len() + frame.len()));
            bytes.extend_from_slice(frame);
        }
        if spans.is_empty() {
            return Ok(None);
        }
        // For times without a year, and for what has none at all.
        let received_ms = times.iter().filter_map(|(_, time_ms)| *time_ms).max().unwrap_or_else(clock::now_ms);
        Ok(Some(Chunk::new(bytes, spans, sender.clone(), received_ms).with_times(times)))
    }

    /// The file that is being read, and how many are known to come.
    pub fn at(&self) -> (&str, usize) {
        (self.open.as_ref().map_or("", |(place, _)| &place.file), self.files.len())
    }

    async fn next_row(&mut self) -> Result<Option<(Row, RowPlace)>, Error> {
        loop {
            let row = match self.next.take() {
                Some(row) => Ok(row),
                None => match self.line().await? {
                    Some(line) => parse(&line),
                    None => return Ok(None),
                },
            };
            let place = self.open.as_ref().map(|(place, _)| place.clone()).unwrap_or_default();
            match row {
                Ok(row) if self.period.contains(&row.time_ms) => return Ok(Some((row, place))),
                Ok(_) => self.skipped.other_time += 1,
                Err(Left::Alert) => self.skipped.alerts += 1,
                Err(Left::Unreadable | Left::Foreign) => self.skipped.unreadable += 1,
            }
        }
    }

    /// The next line that is not empty, without its end, of this file or the next one.
    async fn line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let Some((place, input)) = &mut self.open else {
                let Some(file) = self.next_file().await? else { return Ok(None) };
                let opened = match &self.shelf {
                    Shelf::Folder(folder) => File::open(folder.join(&file)),
                    Shelf::Store(store) => store.fetch(&file).await,
                };
                match opened.and_then(Input::open) {
                    Ok(input) => self.open = Some((RowPlace { file, row: 0 }, input)),
                    Err(error) => self.failed.push(format!("{file}: {error}")),
                }
                continue;
            };
            let mut line = Vec::new();
            match input.next(&mut line) {
                Ok(Next::End) => self.open = None,
                Ok(Next::Row) => {
                    place.row += 1;
                    if !line.trim_ascii().is_empty() {
                        return Ok(Some(line));
                    }
                }
                Ok(Next::TooLong) => {
                    place.row += 1;
                    self.skipped.unreadable += 1;
                }
                Err(error) => {
                    self.failed.push(format!("{}: {error}", place.file));
                    self.open = None;
                }
            }
        }
    }

    async fn next_file(&mut self) -> Result<Option<String>, Error> {
        if let (true, Shelf::Store(store)) = (self.files.is_empty(), &mut self.shelf) {
            self.files.extend(store.list().await?);
        }
        Ok(self.files.pop_front())
    }
}

/// All files below a folder, by their names from there on.
fn list(folder: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inner) = open.pop() {
        for entry in fs::read_dir(folder.join(&inner))? {
            let entry = entry?;
            let path = inner.join(entry.file_name());
            if entry.file_type()?.is_dir() { open.push(path) } else { files.push(path.to_string_lossy().into_owned()) }
        }
    }
    files.sort_unstable();
    Ok(files)
}

impl Input {
    /// What a file holds, told by its first bytes.
    fn open(file: File) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(READ_BYTES, file);
        let head = file.fill_buf()?;
        if head.starts_with(PARQUET) {
            return Ok(Self::Rows(Box::new(Rows::open(file.into_inner())?)));
        }
        let mut lines: Box<dyn BufRead> = if head.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::new(MultiGzDecoder::new(file)))
        } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(BufReader::new(decoder))
        } else {
            return Ok(Self::Lines(Box::new(file)));
        };
        if lines.fill_buf()?.starts_with(PARQUET) {
            return Err(io::Error::other("Parquet that is compressed as a whole: it is read from its end, decompress it first"));
        }
        Ok(Self::Lines(lines))
    }

    /// The next line, without its end, or row.
    fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Next> {
        match self {
            Self::Rows(rows) => rows.next(line),
            Self::Lines(lines) => {
                if lines.by_ref().take(ROW_BYTES_MAX).read_until(b'\n', line)? == 0 {
                    return Ok(Next::End);
                }
                let end = line.strip_suffix(b"\n").map_or(&line[..], |line| line.strip_suffix(b"\r").unwrap_or(line)).len();
                line.truncate(end);
                Ok(Next::Row)
            }
        }
    }
}

/// Why a row is left out.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// It is an alert.
    Alert,
    /// Hydrant wrote it, but not the frame as it came, or not all that is needed.
    Unreadable,
    /// Hydrant did not write it.
    Foreign,
}

/// Takes a row apart.
fn parse(line: &[u8]) -> Result<Row, Left> {
    let line = line.trim_ascii();
    if is_finding(line) {
        return Err(Left::Alert);
    }
    let key = format!("\"{RESERVED_KEY}\":");
    // Ours is the last one: inside a text its quotes would be escaped.
    let at = memchr::memmem::rfind(line, key.as_bytes()).ok_or(Left::Foreign)?;
    let inside = line.get(at + key.len()..line.len().saturating_sub(1)).ok_or(Left::Foreign)?;
    let reserved: Reserved = serde_json::from_slice(inside).map_err(|_| Left::Foreign)?;
    if reserved.alert {
        return Err(Left::Alert);
    }
    let head = line.get(..at).unwrap_or_default();
    let object = [head.strip_suffix(b",").unwrap_or(head), b"}"].concat();
    let members = || serde_json::from_slice::<Map<String, Value>>(&object).map_err(|_| Left::Unreadable);
    let (time, raw) = match &reserved.time {
        // `raw`: the frame's own object, or a text beside ours.
        Some(time) if reserved.object || !head.starts_with(b"{\"message\":\"") => (time.clone(), object),
        Some(time) => {
            let members = members()?;
            match (members.len(), members.get("message")) {
                (1, Some(Value::String(text))) => (time.clone(), text.clone().into_bytes()),
                _ => (time.clone(), object),
            }
        }
        None => {
            let members = members()?;
            let text = |key: &str| members.get(key).and_then(Value::as_str).map(str::to_owned).ok_or(Left::Unreadable);
            (text("@timestamp")?, text("event.original")?.into_bytes())
        }
    };
    let raw = match &reserved.raw_base64 {
        Some(text) => STANDARD.decode(text).map_err(|_| Left::Unreadable)?,
        None => raw,
    };
    let time_ms = clock::rfc3339_ms(time.as_bytes()).ok_or(Left::Unreadable)?;
    let position = reserved.position.as_deref().and_then(position).ok_or(Left::Unreadable)?;
    let peer = reserved.peer.and_then(|peer| peer.parse().ok());
    Ok(Row { source: reserved.source, time_ms, position, peer, raw })
}

fn position(text: &str) -> Option<Position> {
    let (epoch, sequence) = text.split_once(':')?;
    Some(Position { epoch: epoch.parse().ok()?, sequence: sequence.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::body::{Body, Context, Form, Wrapping};
    use crate::encode::compress::{Codec, Compressor};
    use crate::event::{Events, Fields};

    const FRAMES: &[&[u8]] = &[
        b"<134>Nov 21 06:00:00 fw-1 deny \"a\"\tb",
        b"{\"message\":\"an object of its own\"}",
        b"{\"action\":\"BLOCK\",\"nested\":{\"hydrant\":1}}",
        b"{}",
        b"{\"hydrant\":\"a sender's own\"}",
        b"{\"category_uid\":2,\"class_uid\":2004,\"unmapped\":{\"a\":1}}",
        b"{\"category_uid\":2,\"class_uid\":2004,\"unmapped\":{\"hydrant\":{\"alert\":true}}}",
        b"\xff\x00 no text",
    ];

    /// The rows of the frames, as the sink `aws_s3` writes them.
    fn rows(form: Form) -> Vec<u8> {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for frame in FRAMES {
            spans.push(Span::new(bytes.len(), bytes.len() + frame.len()));
            bytes.extend_from_slice(frame);
        }
        let sender = Arc::new(Sender { source: "fw".into(), source_index: 0 });
        let chunk = Chunk::new(bytes, spans, sender, 1_795_240_800_000);
        let mut fields = Fields::default();
        let compiled = crate::decode::DECODERS.iter().find(|kind| kind.name() == "json").unwrap();
        let schema = crate::decode::Schema::parse(Path::new("t"), compiled.schema(), None).unwrap();
        let compiled = crate::decode::Compiled::new(*compiled, &schema, &mut fields, 0).unwrap();
        let context = Context { source: "fw".into(), decoder: "json", fields: fields.clone(), ..Context::default() };
        let body = Body::new(form, true, &context).wrapped(Wrapping::Described);
        let mut events = Events::default();
        events.reset(&chunk, fields.width());
        compiled.instance().decode(&chunk, 0..FRAMES.len(), &mut events);
        events.row_mut(&chunk, FRAMES.len() - 1).set_flaw(crate::event::Flaw::NotUtf8);
        let mut out = Vec::new();
        for row in 0..FRAMES.len() {
            body.write_json(events.event(&chunk, row), Position { epoch: 7, sequence: 40 + row as u64 }, &mut out);
            out.push(b'\n');
        }
        out
    }

    fn compressed(codec: Codec, plain: &[u8]) -> Vec<u8> {
        let (mut compressor, mut out) = (Compressor::new(codec).unwrap(), Vec::new());
        compressor.write(plain, &mut out).unwrap();
        compressor.finish(&mut out).unwrap();
        out
    }

    /// Frames, and where they end.
    async fn read(archive: &mut Archive) -> Vec<(Vec<u8>, RowPlace)> {
        let mut found = Vec::new();
        let sender = Arc::new(Sender { source: "fw".into(), source_index: 0 });
        while let Some((chunk, place)) = archive.next_chunk(|name| (name == "fw").then(|| sender.clone())).await.unwrap() {
            found.extend((0..chunk.frames().len()).map(|frame| (chunk.frame(frame).to_vec(), place.clone())));
        }
        found
    }

    async fn archive(folder: &Path, period: Range<i64>, after: Option<&RowPlace>) -> Archive {
        Archive::open(folder.to_str().unwrap(), None, (folder, 0), period, after).await.unwrap()
    }

    #[tokio::test]
    async fn frames_come_back_as_they_came_whatever_was_around_them() {
        for form in [Form::Raw, Form::Json] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("b")).unwrap();
            let rows = rows(form);
            let flat = r#"{"@timestamp":"x","hydrant":{"source":"fw","alert":true}}"#;
            let kept = include_str!("../../tests/cases/alerts/correlation.json");
            // As it leaves: on one line, without spaces between the tokens.
            let ocsf = kept.lines().map(str::trim).collect::<String>().replace("\": ", "\":");
            let noise = format!("{{\"a\":1}}\n\n{flat}\n{ocsf}\n").into_bytes();
            for (name, bytes) in [
                ("a.gz", compressed(Codec::GZIP_FAST, &rows)),
                ("b/c.ndjson", [noise, rows.clone()].concat()),
                ("d.zst", zstd::encode_all(&rows[..], 1).unwrap()),
            ] {
                fs::write(folder.path().join(name), bytes).unwrap();
            }
            fs::write(folder.path().join("e.gz"), &compressed(Codec::GZIP_FAST, &rows)[..30]).unwrap();
            let mut whole = archive(folder.path(), 0..i64::MAX, None).await;
            let found = read(&mut whole).await;
            let frames: Vec<&[u8]> = found.iter().map(|(frame, _)| &frame[..]).collect();
            assert_eq!(frames, [FRAMES, FRAMES, FRAMES].concat(), "{form:?}");
            assert_eq!((whole.skipped.alerts, whole.skipped.unreadable, whole.failed.len()), (2, 1, 1));

            let mut any = archive(folder.path(), 5..6, None).await;
            let mut frames: Vec<Vec<u8>> = Vec::new();
            let sender = Arc::new(Sender { source: "input".into(), source_index: 0 });
            while let Some(chunk) = any.next_frames(&sender).await.unwrap() {
                frames.extend((0..chunk.frames().len()).map(|frame| chunk.frame(frame).to_vec()));
            }
            let place = FRAMES.len();
            assert_eq!(frames.remove(place), b"{\"a\":1}", "what is no row is a frame");
            assert_eq!(frames, [FRAMES, FRAMES, FRAMES].concat(), "{form:?}");

            let second = &found[FRAMES.len()].1;
            let rest = read(&mut archive(folder.path(), 0..i64::MAX, Some(second)).await).await;
            assert_eq!(rest.len(), FRAMES.len(), "it goes on behind {second:?}");
            let mut none = archive(folder.path(), 5..6, None).await;
            assert_eq!((read(&mut none).await.len(), none.skipped.other_time), (0, 3 * FRAMES.len() as u64));
        }
    }

    /// A Parquet file of texts, and of rows of Hydrant's around them.
    #[cfg(feature = "parquet")]
    fn parquet(messages: &[&str]) -> Vec<u8> {
        use ::parquet::data_type::{ByteArray, ByteArrayType};
        use ::parquet::file::writer::SerializedFileWriter;
        let schema = "message m { required binary message (UTF8); required group hydrant {
            required binary source (UTF8); required binary time (UTF8); required binary position (UTF8); } }";
        let schema = Arc::new(::parquet::schema::parser::parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let positions: Vec<String> = (0..messages.len()).map(|row| format!("7:{row}")).collect();
        for column in 0..4 {
            let text = |row: usize| [messages[row], "fw", "2026-11-21T08:00:00Z", &positions[row]][column];
            let values: Vec<ByteArray> = (0..messages.len()).map(|row| ByteArray::from(text(row))).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.into_inner().unwrap()
    }

    #[cfg(feature = "parquet")]
    #[tokio::test]
    async fn rows_of_parquet_are_told_by_the_first_bytes_and_unwrapped_as_lines_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = parquet(&["one", "two", "three"]);
        fs::write(folder.path().join("a.log"), &file).unwrap();
        fs::write(folder.path().join("b.parquet"), "a line\n").unwrap();
        fs::write(folder.path().join("c.parquet"), &file[..file.len() - 1]).unwrap();
        fs::write(folder.path().join("d.gz"), compressed(Codec::GZIP_FAST, &file)).unwrap();
        let mut whole = archive(folder.path(), 0..i64::MAX, None).await;
        let found = read(&mut whole).await;
        assert_eq!(found.iter().map(|(frame, _)| &frame[..]).collect::<Vec<_>>(), [b"one".as_slice(), b"two", b"three"]);
        assert_eq!((whole.skipped.unreadable, whole.failed.len()), (1, 2), "{:?}", whole.failed);
        assert!(whole.failed[0].starts_with("c.parquet: the file is cut"), "{:?}", whole.failed);
        assert!(whole.failed[1].starts_with("d.gz: Parquet that is compressed"), "{:?}", whole.failed);

        let behind = RowPlace { file: "a.log".to_owned(), row: 2 };
        let rest = read(&mut archive(folder.path(), 0..i64::MAX, Some(&behind)).await).await;
        assert_eq!(rest.iter().map(|(frame, _)| &frame[..]).collect::<Vec<_>>(), [b"three"]);
    }
}
