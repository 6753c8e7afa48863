//! `file`: appends batches to files.
//!
//! Out: lines of JSON or text, plain, gzip or zstd (members and frames one after the other, which every tool
//! reads as one). The path is a template (`encode::key_template`): `!{timestamp:..}` of a batch's oldest event
//! rotates, `!{field:..}` parts by a field of the event, whose value cannot leave the folder that comes before.
//! Files get mode 0600, folders 0700.
//!
//! * A batch is stored when it is written and synced. If either fails, the file is cut back to where it was
//!   and the batch is written anew: after a failed sync the kernel may have dropped the pages and still report
//!   the next sync as good.
//! * A full disk and I/O errors are tried again; what a person must mend (rights, a folder in the place of
//!   the file, a link in its place) holds the destination.
//! * A line that a crash tore is ended before the next one. A compressed file cannot be mended like that,
//!   and what follows a torn member is lost to readers: a compressed file that this process did not begin is
//!   left alone and the next free number is taken, `x.ndjson.gz`, `x.ndjson.1.gz`.
//! * A file that was moved away (logrotate) is begun again. A link as the last part of the path is not followed.
//!
//! Not supported: two sinks or processes that write one plain file at the same time, limits on size or age.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::{Client, Encoder, RowEncoder, Sink, SinkKind, Step, Transport};
use crate::batch::{Batching, Buffer, BufferRange, Limits, Sealed};
use crate::config::{Section, schema_of};
use crate::encode::alert::AlertForm;
use crate::encode::body::{Context, Form};
use crate::encode::compress::{Codec, Compression};
use crate::encode::key_template::{KeyContext, KeyTemplate, Role, time_zone};
use crate::encode::rows::{self, Format, Partitioner, Rows};
use crate::error::{Diagnostics, Error};
use crate::task::LocalFuture;

pub(super) struct File;

const SAMPLE: &str = r#"
type: file
path: "./out/!{timestamp:yyyy-MM-dd}/fw.ndjson"   # !{field:source.ip} parts by a field, behind a literal folder
format: ndjson                                    # ndjson or text
form: raw                                         # raw: the event as it came; json: ECS names
alert_form: ocsf                                  # ocsf: a Detection Finding; flat: an object with ECS names
compression: none                                 # none, gzip or zstd; the path says `.gz` itself
buffer: { size: 1MB, interval: 1s, events: 10000 }
time_zone: UTC
"#;

/// One sync a batch: once a second is what a disk does without being felt.
const BUFFER: BufferRange = BufferRange {
    bytes: 1_000_000,
    bytes_range: (1, 128 << 20),
    interval: Duration::from_secs(1),
    interval_max: Duration::from_secs(900),
    items: 10_000,
    items_max: 1_000_000,
};

/// Files that one sink keeps open: far below the usual limit of 1,024 a process.
const OPEN_FILES_MAX: usize = 64;

/// Compressed files that are remembered as begun here, so that they are continued after they were closed.
const KNOWN_FILES_MAX: usize = 4096;

/// Numbers that are tried for a compressed file: one for each start of the process.
const NUMBER_MAX: u32 = 10_000;

impl SinkKind for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section) -> Result<Box<dyn Sink>, Diagnostics> {
        let config: Config = section.read()?;
        let place = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
        let mut diagnostics = Diagnostics::new();
        let limits = diagnostics.absorb(config.buffer.limits(&BUFFER, section));
        let zone = time_zone(&config.time_zone).map_err(|error| place("time_zone").error(error.to_string()).into());
        let template = diagnostics.absorb(zone).and_then(|zone| {
            let template = KeyTemplate::parse(&config.path, Role::Path, zone);
            diagnostics.absorb(template.map_err(|error| place("path").error(error.to_string()).into()))
        });
        let (Some(limits), Some(template)) = (limits, template) else { return Err(diagnostics) };
        let fields = match rows::field_names(&template) {
            Ok(fields) => fields,
            Err(name) => return Err(place("path").error(format!("{name} does not exist here")).help("!{field:source.ip}").into()),
        };
        let files = Files { codec: config.compression.into(), open: HashMap::new(), known: HashMap::new(), uses: 0 };
        Ok(Box::new(Configured { config, limits, template: Arc::new(template), fields, files: Arc::new(Mutex::new(files)) }))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Template of the path.
    path: String,
    /// Lines of JSON or of text.
    #[serde(default)]
    format: Lines,
    /// What the event is.
    #[serde(default)]
    form: Form,
    /// What an alert is: an OCSF Detection Finding, or an object with ECS names.
    #[serde(default)]
    alert_form: AlertForm,
    /// Whether `json` keeps the frame in `event.original`.
    #[serde(default)]
    keep_raw: bool,
    /// none, gzip or zstd.
    #[serde(default = "Config::compression")]
    compression: Compression,
    /// When a batch is written.
    #[serde(default)]
    buffer: Buffer,
    /// Of the times in the path: an IANA name.
    #[serde(default = "Config::time_zone")]
    time_zone: String,
}

impl Config {
    fn compression() -> Compression {
        Compression::None
    }

    fn time_zone() -> String {
        "UTC".into()
    }
}

#[derive(Clone, Copy, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Lines {
    #[default]
    Ndjson,
    Text,
}

struct Configured {
    config: Config,
    limits: Limits,
    template: Arc<KeyTemplate>,
    fields: Vec<String>,
    /// Of all shards, so that their batches do not mix inside a file.
    files: Arc<Mutex<Files>>,
}

impl Configured {
    fn format(&self) -> Format {
        match self.config.format {
            Lines::Ndjson => Format::Ndjson,
            Lines::Text => Format::Text,
        }
    }
}

impl Sink for Configured {
    fn batching(&self) -> Batching {
        Batching {
            bytes_max: self.limits.bytes,
            items_max: self.limits.items,
            item_bytes_max: BUFFER.bytes_range.1,
            interval: self.limits.interval,
            codec: self.config.compression.into(),
            head: self.format().head(),
            separator: self.format().separator(),
            tail: self.format().tail(),
        }
    }

    fn wants(&self, canonical: &[String]) -> Vec<String> {
        let mut names = self.fields.clone();
        if self.config.form == Form::Json {
            names.extend_from_slice(canonical);
        }
        names
    }

    fn wants_of_alerts(&self) -> &'static [&'static str] {
        self.config.alert_form.wants()
    }

    fn encoder(&self, context: &Context) -> Box<dyn Encoder> {
        let body = rows::body((self.config.form, self.config.alert_form), self.config.keep_raw, false, context);
        RowEncoder::boxed(Rows::new(self.format(), body), Partitioner::new(&self.template, false, context))
    }

    fn transport(&self) -> Result<Transport, Error> {
        Ok(Transport::Client(Rc::new(Appender { template: self.template.clone(), files: self.files.clone() })))
    }
}

struct Appender {
    template: Arc<KeyTemplate>,
    files: Arc<Mutex<Files>>,
}

impl Client for Appender {
    fn write<'a>(&'a self, batch: &'a Sealed) -> LocalFuture<'a, Step> {
        Box::pin(async move {
            let context = KeyContext { oldest_arrival_ms: batch.oldest_ms, seed: batch.id, error_output_type: "" };
            let mut path = String::new();
            if let Err(error) = self.template.render(&batch.partition, &context, &mut path) {
                return Step::Rejected(error.to_string());
            }
            let (files, body) = (self.files.clone(), batch.body.clone());
            // A disk may take seconds; the shard must not.
            let written = tokio::task::spawn_blocking(move || {
                let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
                files.append(Path::new(&path), &body).map_err(|error| (path, error))
            });
            match written.await {
                Ok(Ok(())) => Step::Stored,
                Ok(Err((path, error))) => outcome(&path, &error),
                Err(error) => Step::Retry(error.to_string(), None),
            }
        })
    }
}

/// Later is better for what time mends: a full disk, a failing one, too many open files.
fn outcome(path: &str, error: &io::Error) -> Step {
    let why = format!("{path}: {error}");
    match (error.raw_os_error(), error.kind()) {
        (
            Some(libc::EACCES | libc::EEXIST | libc::EISDIR | libc::ELOOP | libc::ENAMETOOLONG | libc::ENOTDIR | libc::EPERM | libc::EROFS),
            _,
        )
        | (None, io::ErrorKind::AlreadyExists | io::ErrorKind::InvalidInput) => Step::Hold(why),
        _ => Step::Retry(why, None),
    }
}

/// The files of one sink.
struct Files {
    codec: Codec,
    /// By the path that the template gave.
    open: HashMap<PathBuf, Open>,
    /// Compressed files that were closed: where they really are, and their length.
    known: HashMap<PathBuf, (PathBuf, u64)>,
    uses: u64,
}

struct Open {
    file: fs::File,
    path: PathBuf,
    length: u64,
    last_use: u64,
}

impl Open {
    /// Whether the file is still where its path says.
    fn is_in_place(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata().map(identity), fs::symlink_metadata(&self.path).map(identity)) {
            (Ok(open), Ok(named)) => open == named,
            _ => false,
        }
    }
}

impl Files {
    /// Appends a body, all of it or nothing.
    fn append(&mut self, path: &Path, body: &[u8]) -> io::Result<()> {
        self.uses += 1;
        let mut open = match self.open.remove(path).filter(Open::is_in_place) {
            Some(open) => open,
            None => self.begin(path)?,
        };
        // Not what we counted: the file may have been emptied in place (`copytruncate`).
        let before = open.file.metadata()?.len();
        if let Err(error) = open.file.write_all(body).and_then(|()| open.file.sync_data()) {
            if let Err(second) = open.file.set_len(before) {
                tracing::error!(path = %open.path.display(), error = %second, "a failed write cannot be taken back");
            }
            return Err(error);
        }
        open.length = before + body.len() as u64;
        open.last_use = self.uses;
        self.make_room();
        self.open.insert(path.to_owned(), open);
        Ok(())
    }

    /// Closes the file that was not used for longest, if too many are open.
    fn make_room(&mut self) {
        if self.open.len() < OPEN_FILES_MAX {
            return;
        }
        let Some(path) = self.open.iter().min_by_key(|(_, open)| open.last_use).map(|(path, _)| path.clone()) else { return };
        if let Some(open) = self.open.remove(&path).filter(|_| self.codec != Codec::None) {
            if self.known.len() >= KNOWN_FILES_MAX {
                self.known.clear();
            }
            self.known.insert(path, (open.path, open.length));
        }
    }

    fn begin(&mut self, path: &Path) -> io::Result<Open> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let known = self.known.remove(path);
        let open = match self.codec {
            Codec::None => open_plain(path)?,
            _ => open_compressed(path, self.codec.file_extension(), known)?,
        };
        // A new name is durable only when its folder is.
        fs::File::open(folder)?.sync_all()?;
        Ok(open)
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

fn checked(file: fs::File, path: &Path) -> io::Result<Open> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is not a regular file"));
    }
    Ok(Open { file, path: path.to_owned(), length: metadata.len(), last_use: 0 })
}

/// Ends a line that a crash tore, so that only that one is lost.
fn open_plain(path: &Path) -> io::Result<Open> {
    let mut open = checked(options().create(true).open(path)?, path)?;
    if open.length > 0 {
        let mut last = [0];
        open.file.seek(SeekFrom::End(-1))?;
        open.file.read_exact(&mut last)?;
        if last != *b"\n" {
            open.file.write_all(b"\n")?;
        }
    }
    Ok(open)
}

/// Continues a file that is `known` to be whole, or begins a new one.
fn open_compressed(path: &Path, extension: &str, known: Option<(PathBuf, u64)>) -> io::Result<Open> {
    if let Some((place, length)) = known {
        match options().open(&place).and_then(|file| checked(file, &place)) {
            Ok(open) if open.length == length => return Ok(open),
            _ => {}
        }
    }
    for number in 0..NUMBER_MAX {
        let place = numbered(path, extension, number);
        match options().create_new(true).open(&place) {
            Ok(file) => return checked(file, &place),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("there are {NUMBER_MAX} files of this name already")))
}

fn numbered(path: &Path, extension: &str, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, end) = name.strip_suffix(extension).map_or((&*name, ""), |stem| (stem, extension));
    path.with_file_name(format!("{stem}.{number}{end}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::golden::{self, FRAMES};
    use super::*;

    fn files(codec: Codec) -> Files {
        Files { codec, open: HashMap::new(), known: HashMap::new(), uses: 0 }
    }

    fn client(sink: &dyn Sink) -> Rc<dyn Client> {
        match sink.transport().unwrap() {
            Transport::Client(client) => client,
            Transport::Http(..) => panic!("not a client"),
        }
    }

    #[tokio::test]
    async fn batches_land_in_the_files_that_the_template_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/!{timestamp:yyyy-MM-dd}/!{field:source.ip}.ndjson");
        let (sink, sealed) = golden::seal(&File, &format!("path: '{}'\n", path.display()), FRAMES);
        for batch in &sealed {
            assert!(matches!(client(&*sink).write(batch).await, Step::Stored));
        }
        let read = |name: &str| fs::read_to_string(folder.path().join("a/2026-11-21").join(name)).unwrap();
        let lines: Vec<&str> = golden::NDJSON_RAW.split_inclusive('\n').collect();
        // The event and its alert; the object; the frame that has no address.
        let first = read("10.1.2.3.ndjson");
        assert!(first.starts_with(lines[0]) && first.ends_with(golden::FINDING), "{first}");
        assert_eq!(first.lines().count(), 2);
        assert_eq!(read("10.0.0.9.ndjson"), lines[1]);
        assert_eq!(read("_.ndjson"), lines[2]);
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("a"), mode("a/2026-11-21/_.ndjson")), (0o700, 0o600));
    }

    #[test]
    fn every_form_has_exactly_these_bytes() {
        for (options, expected) in [("", golden::NDJSON_RAW), ("form: json", golden::NDJSON_JSON), ("format: text", golden::TEXT_RAW)] {
            let (_, sealed) = golden::seal(&File, &format!("path: out/x\n{options}\n"), FRAMES);
            assert_eq!(golden::text(&sealed[0]), expected, "{options}");
        }
        let untagged = golden::Frame { fields: &[], is_alert: false, ..FRAMES[0] };
        let (_, sealed) = golden::seal(&File, "path: out/x\nformat: text\n", &[untagged, untagged]);
        assert_eq!(golden::text(&sealed[0]), "<134>Nov 21 06:00:00 fw-1 deny \"a\"\tb\n".repeat(2));
    }

    #[test]
    fn a_path_is_checked_when_it_is_read() {
        for (path, message) in [
            ("!{field:host.hostname}/x", "a value of an event cannot choose the first folder"),
            ("out/!{field:a}/../x", "`../` cannot be part"),
            ("out/!{partitionKeyFromQuery:k}", "does not exist here"),
            ("out/!{timestamp:q", "is not closed"),
        ] {
            let error = golden::read(&File, &format!("path: '{path}'")).err().unwrap_or_default();
            assert!(error.contains("path: ") && error.contains(message), "{path}: {error}");
        }
        let error = golden::read(&File, "path: x\ntime_zone: Europe/Berln").err().unwrap_or_default();
        assert!(error.contains("did you mean `Europe/Berlin`"), "{error}");
    }

    #[test]
    fn a_torn_line_is_ended_and_a_moved_file_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "whole\nto").unwrap();
        let mut files = files(Codec::None);
        files.append(&path, b"a\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nto\na\n");
        fs::rename(&path, folder.path().join("x.1")).unwrap();
        files.append(&path, b"b\n").unwrap();
        files.append(&path, b"c\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "b\nc\n");
        assert_eq!(fs::read_to_string(folder.path().join("x.1")).unwrap(), "whole\nto\na\n");
    }

    #[test]
    fn a_compressed_file_is_continued_only_by_who_began_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ndjson.gz");
        fs::write(&path, b"\x1f\x8btorn").unwrap();
        let mut files = files(Codec::GZIP_FAST);
        files.append(&path, b"1").unwrap();
        for index in 0..OPEN_FILES_MAX {
            files.append(&folder.path().join(format!("{index}.gz")), b"-").unwrap();
        }
        assert!(!files.open.contains_key(&path) && files.open.len() == OPEN_FILES_MAX, "it was closed to make room");
        files.append(&path, b"2").unwrap();
        let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
        assert_eq!((read("x.ndjson.gz"), read("x.ndjson.1.gz")), (b"\x1f\x8btorn".to_vec(), b"12".to_vec()));
        assert!(!folder.path().join("x.ndjson.2.gz").exists());
    }

    #[test]
    fn a_write_that_fails_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let mut files = files(Codec::None);
        files.append(&path, b"before\n").unwrap();
        // The same file, opened so that every write fails.
        let open = files.open.get_mut(&path).unwrap();
        open.file = fs::File::open(&path).unwrap();
        assert!(files.append(&path, b"lost\n").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\n");
        files.append(&path, b"again\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before\nagain\n");
    }

    #[test]
    fn what_time_mends_is_tried_again_and_what_a_person_mends_holds() {
        let step = |code| outcome("x", &io::Error::from_raw_os_error(code));
        for code in [libc::ENOSPC, libc::EIO, libc::EDQUOT, libc::EMFILE, libc::EINTR] {
            assert!(matches!(step(code), Step::Retry(..)), "{code}");
        }
        for code in [libc::EACCES, libc::EROFS, libc::EISDIR, libc::ENOTDIR, libc::ELOOP, libc::ENAMETOOLONG] {
            assert!(matches!(step(code), Step::Hold(_)), "{code}");
        }
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("/dev/null", &link).unwrap();
        let error = files(Codec::None).append(&link, b"x").unwrap_err();
        assert!(matches!(outcome("x", &error), Step::Hold(_)), "{error}");
        let error = files(Codec::None).append(Path::new("/dev/null"), b"x").unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}
