//! Events of the past as chunks, for the commands that look at many of them without a run.
//!
//! A place is a file, a folder with files, `-` (stdin), `s3://bucket/prefix`, or a data folder, whose journal is then read:
//! what it still has, delivered or not. Files are plain, gzip, zstd or Parquet, told by the first bytes.
//! A line that the sink `aws_s3` wrote stands for its frame, rows of alerts are left out, every other line is a frame itself.
//! One piece is in memory at a time.

use std::fs::{self, DirBuilder};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{Failure, message, validate};
use crate::clock;
use crate::config::Section;
use crate::error::{Error, ErrorKind};
use crate::event::{Chunk, Sender};
use crate::journal::History;
use crate::limits::FRAME_BYTES_MAX;
use crate::pipeline::archive::{Archive, Skipped};

/// Time between two looks at how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Where events are.
pub(super) struct Past<'a> {
    /// Files, folders, `s3://bucket/prefix`, `-`.
    pub(super) places: &'a [String],
    /// A configuration whose `aws_s3` sinks know the address and the keys of buckets.
    pub(super) config: Option<&'a Path>,
}

/// What was read.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) events: u64,
    /// Of the frames.
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    skipped: Skipped,
    cut: u64,
    /// Files that could not be read to their end.
    failed: Vec<String>,
}

/// A folder that nobody else can look into; removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("hydrant-{}-{}", std::process::id(), clock::now_ms()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Error::new(ErrorKind::Storage, "make the folder", error.to_string()).with("folder", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing in it has a name; a folder that stays harms nobody.
        let _ = fs::remove_dir(&self.0);
    }
}

impl Past<'_> {
    /// Calls `each` with every chunk.
    pub(super) fn chunks(&self, mut each: impl FnMut(Chunk) -> Result<(), Failure>) -> Result<Seen, Failure> {
        let written =
            self.config.map(|config| Ok::<_, Failure>(Section::parse_elsewhere(config, &validate::text(config)?)?)).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::new(ErrorKind::Unexpected, "read", "no runtime").because(error))?;
        let scratch = Scratch::make()?;
        let sender = Arc::new(Sender { source: "input".into(), source_index: 0 });
        let mut seen = Seen::default();
        let mut screen = Screen { is_shown: io::stderr().is_terminal(), began: Instant::now(), told: Instant::now() };
        for place in self.places {
            let journal = Path::new(place).join("journal");
            // `/var/log` has a folder of that name too, of systemd.
            if journal.join("lock").is_file() {
                read_journal(&journal, &mut seen, &mut screen, &mut each)?;
                continue;
            }
            let mut archive = runtime.block_on(Archive::open(place, written.as_ref(), (&scratch.0, i64::MAX), 0..i64::MAX, None))?;
            while let Some(chunk) = runtime.block_on(archive.next_frames(&sender))? {
                seen.add(&chunk);
                let (file, more) = archive.at();
                screen.show(&seen, file, more);
                each(chunk)?;
            }
            seen.skipped.alerts += archive.skipped.alerts;
            seen.skipped.unreadable += archive.skipped.unreadable;
            seen.cut += archive.cut;
            seen.failed.append(&mut archive.failed);
        }
        screen.clear();
        seen.seconds = screen.began.elapsed().as_secs_f64();
        Ok(seen)
    }
}

/// Reads what the journal in a folder still has. A Hydrant may run meanwhile.
fn read_journal(
    folder: &Path,
    seen: &mut Seen,
    screen: &mut Screen,
    each: &mut impl FnMut(Chunk) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let failed = |error: io::Error| Error::new(ErrorKind::Storage, "read the journal", error.to_string()).with("folder", folder.display());
    let mut history = History::open(folder, 0..i64::MAX, None)?;
    let mut lost = 0_u64;
    while let Some(kept) = history.next_chunk().map_err(failed)? {
        let sender = |name: &str| Arc::new(Sender { source: name.into(), source_index: 0 });
        match history.reader.read(kept.place, sender) {
            // Alerts that Hydrant made itself: no source of a configuration begins so.
            Ok(Some(chunk)) if chunk.sender.source.starts_with('%') => seen.skipped.alerts += chunk.frames().len() as u64,
            Ok(Some(chunk)) => {
                seen.add(&chunk);
                screen.show(seen, &folder.to_string_lossy(), 0);
                each(chunk)?;
            }
            Ok(None) => lost += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => lost += 1,
            Err(error) => return Err(failed(error).into()),
        }
    }
    if lost > 0 || history.damaged + history.gone > 0 {
        let (folder, damaged, gone) = (folder.display(), history.damaged, history.gone);
        seen.failed.push(format!("{folder}: {lost} chunks, {damaged} damaged places, {gone} segments that went away meanwhile"));
    }
    Ok(())
}

impl Seen {
    fn add(&mut self, chunk: &Chunk) {
        self.events += chunk.frames().len() as u64;
        self.bytes += chunk.frames().iter().map(|frame| frame.len() as u64).sum::<u64>();
    }

    pub(super) fn json(&self) -> Value {
        let Self { events, bytes, seconds, skipped, cut, failed } = self;
        json!({
            "events": events, "bytes": bytes, "seconds": seconds, "alerts_left_out": skipped.alerts,
            "unreadable": skipped.unreadable, "cut": cut, "failed": failed,
        })
    }

    /// Says what was read and what was not; an error if that was not all.
    pub(super) fn tell(&self) -> Result<(), Failure> {
        let Self { events, bytes, seconds, skipped, cut, failed } = self;
        let rate = |count: u64| count as f64 / seconds.max(0.001);
        message(&format!("{events} events in {seconds:.1} s: {:.0} a second, {:.1} MB a second", rate(*events), rate(*bytes) / 1e6));
        if skipped.alerts > 0 {
            message(&format!("{} rows of alerts are left out", skipped.alerts));
        }
        if *cut > 0 {
            message(&format!("{cut} lines were longer than {FRAME_BYTES_MAX} bytes and were cut"));
        }
        if skipped.unreadable > 0 {
            let reasons = format!(
                "have no frame as it came (`form: json` needs `keep_raw: true`), or are longer than {FRAME_BYTES_MAX} bytes in Parquet"
            );
            message(&format!("{} rows {reasons}", skipped.unreadable));
        }
        failed.iter().for_each(|failed| message(&format!("not read: {failed}")));
        if failed.is_empty() && skipped.unreadable == 0 {
            return Ok(());
        }
        Err(Failure::Found { summary: "not everything could be read".to_owned(), exit_code: 1 })
    }
}

/// Tells how far it is, where somebody looks.
struct Screen {
    is_shown: bool,
    began: Instant,
    told: Instant,
}

impl Screen {
    fn show(&mut self, seen: &Seen, file: &str, more: usize) {
        if !self.is_shown || self.told.elapsed() < LOOK_INTERVAL {
            return;
        }
        self.told = Instant::now();
        let rate = seen.events as f64 / self.began.elapsed().as_secs_f64();
        let file: String = file.chars().filter(|c| !c.is_control()).collect();
        let more = if more > 0 { format!(", {more} more files") } else { String::new() };
        // Nobody can be told that stderr is closed.
        let _ = write!(io::stderr(), "\r\x1b[2K{} events, {rate:.0} a second, {file}{more}", seen.events);
    }

    fn clear(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}
