//! `hydrant replay`: events of the past through the rules, routes and sinks of now.
//!
//! From the journal: what it still has (`journal: { retain }`), delivered or not, by its time of arrival. From an archive
//! (`--archive`): rows that Hydrant wrote, by their own time. Nothing of it is received again: it is in no ledger but the one
//! that is printed at the end, where everything that was read is accounted for.
//!
//! It works in windows: what was read of one is sealed, sent and confirmed, then `data_dir/replay/<name>.json` says so. The
//! same command goes on from there when it was cut short; what was sent of the last window is sent again. When all is done
//! the file is removed.
//!
//! A Hydrant may run meanwhile. Only a `file` sink must not be written by two processes.

mod backfill;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, IsTerminal as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use crate::atomic_file;
use crate::cli::{Failure, Output, message, print_json, validate, warn};
use crate::clock;
use crate::config::Interval;
use crate::error::{Error, ErrorKind};
use crate::event::{Chunk, Sender, fingerprint};
use crate::journal::{self, History, Hold, Turn};
use crate::ledger::{self, Book, Flow};
use crate::pipeline::archive::{Archive, RowPlace, Skipped};
use crate::pipeline::plan::{CORRELATION_SOURCE, Changes, HEALTH_SOURCE, JournalPlan, Plan};
use crate::pipeline::replay::Replay;
use crate::task::{self, Stop};
pub(super) use backfill::{due, start};

/// Bytes that are read before what was read has to be confirmed; more if a batch has more.
const WINDOW_BYTES: usize = 16 << 20;

/// With `--rate`, a window is what is read in so many seconds.
const WINDOW_SECONDS: u64 = 2;

/// Chunks of the journal that Hydrant made itself: alerts of what came then.
const OWN_ALERTS: [&str; 2] = [CORRELATION_SOURCE, HEALTH_SOURCE];

/// Time between two looks at how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration: its rules, routes and sinks as they are now, and its data folder.
    #[arg(short, long)]
    config: PathBuf,
    /// The beginning: `2026-11-22T06:00:00Z`, or `2h` for two hours ago; default: as far back as there is anything.
    #[arg(long)]
    from: Option<String>,
    /// The end, not included; default: now.
    #[arg(long)]
    to: Option<String>,
    /// Only what goes to this sink.
    #[arg(short, long)]
    sink: Option<String>,
    /// Rule files and folders in the place of those of the configuration.
    #[arg(long)]
    rules: Vec<PathBuf>,
    /// Read what the sink `aws_s3` wrote (NDJSON; plain, gzip, zstd) in the place of the journal: `s3://bucket/prefix`, with
    /// the address and the keys of the sink that writes there, or a folder with its objects.
    #[arg(long, value_name = "PLACE")]
    archive: Option<String>,
    /// Events a second, at most.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Send nothing, only count.
    #[arg(long)]
    dry_run: bool,
    /// Begin anew, although the same command was cut short before.
    #[arg(long)]
    anew: bool,
    /// End when no destination has taken or refused anything for so long.
    #[arg(long, default_value = "60s")]
    patience: Interval,
    /// How the counts are printed at the end.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

impl Arguments {
    /// The same for the same command, so that it finds its progress.
    fn name(&self) -> u64 {
        let Self { from, to, sink, rules, archive, dry_run, .. } = self;
        fingerprint(format!("{from:?} {to:?} {sink:?} {rules:?} {archive:?} {dry_run}").as_bytes())
    }
}

/// How far a replay is.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    from_ms: i64,
    to_ms: i64,
    /// The last chunk of the journal that is done.
    chunk: Option<Turn>,
    /// The last row of the archive that is done.
    row: Option<RowPlace>,
    /// Events that were read.
    events: u64,
    skipped: Skipped,
    /// Chunks of the journal that were damaged, or went away before they were read.
    lost_chunks: u64,
    /// Places of the journal that cannot be read, of whatever time.
    damaged_places: u64,
    /// Segments of the journal that went away before they were read, of whatever time.
    gone_segments: u64,
    /// Hits that no correlation has counted since they came too late.
    late_hits: u64,
    /// Files of the archive that could not be read to their end.
    failed: Vec<String>,
    book: Book,
    /// For a back-fill, whose progress stays: nothing is left to do.
    #[serde(default)]
    is_done: bool,
}

fn storage(operation: &'static str, path: &Path, error: &io::Error) -> Failure {
    Error::new(ErrorKind::Storage, operation, error.to_string()).with("file", path.display()).into()
}

fn wrong(message: impl Into<String>) -> Failure {
    Error::new(ErrorKind::Configuration, "replay", message).into()
}

impl Progress {
    fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let time = |text: &Option<String>, otherwise: i64| match text {
            Some(text) => ledger::time(text).map_err(wrong),
            None => Ok(otherwise),
        };
        let now_ms = clock::now_ms();
        let (from_ms, to_ms) = (time(&arguments.from, 0)?, time(&arguments.to, now_ms)?);
        if from_ms >= to_ms {
            return Err(wrong("--from is not before --to"));
        }
        Ok(Self { from_ms, to_ms, book: Book { since_ms: now_ms, ..Book::default() }, ..Self::default() })
    }

    fn load(path: &Path) -> Result<Option<Self>, Failure> {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(storage("read the progress", path, &error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| storage("read the progress", path, &error.into())),
        }
    }

    fn save(&self, path: &Path) -> Result<(), Failure> {
        let save = || atomic_file::replace(path, &serde_json::to_vec(self)?);
        save().map_err(|error| storage("write the progress", path, &error))
    }

    fn period(&self) -> Range<i64> {
        self.from_ms..self.to_ms
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let text = validate::text(&arguments.config)?;
    let rules = (!arguments.rules.is_empty()).then(|| arguments.rules.clone());
    let changes = Changes { sink: arguments.sink.clone(), rules, is_replay: true, sends_nothing: arguments.dry_run, ..Changes::default() };
    let plan = Arc::new(Plan::read_changed(&arguments.config, &text, &changes)?);
    warn(&plan.warnings);
    let data_dir = &plan.settings.data_dir;
    let hold = hold_files(&plan)?;
    let folder = data_dir.join("replay");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| storage("make the folder", &folder, &error))?;
    let path = folder.join(format!("{:016x}.json", arguments.name()));
    let lock = only_one(&path.with_extension("lock"))?;
    let before = if arguments.anew { None } else { Progress::load(&path)? };
    if let Some(before) = &before {
        message(&format!("going on behind {} events; --anew begins again", before.events));
    }
    let mut progress = before.map_or_else(|| Progress::new(arguments), Ok)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(ErrorKind::Unexpected, "replay", "no runtime").because(error))?;
    let Arguments { archive, rate, patience, .. } = arguments;
    let job = Job { archive: archive.as_deref(), rate: *rate, patience: patience.0, is_shown: io::stderr().is_terminal() };
    let done = async { all(&job, &plan, &mut progress, &path, interrupted()?).await };
    let is_whole = LocalSet::new().block_on(&runtime, done)?;
    if is_whole && path.exists() {
        fs::remove_file(&path).map_err(|error| storage("remove the progress", &path, &error))?;
    }
    drop((hold, lock));
    tell(arguments, &progress, is_whole)
}

/// What is replayed, and how.
struct Job<'a> {
    archive: Option<&'a str>,
    /// Events a second.
    rate: Option<u64>,
    /// How long a destination may take nothing.
    patience: Duration,
    /// Whether somebody looks at how far it is.
    is_shown: bool,
}

/// Keeps other processes from writing the files that this one writes.
fn hold_files(plan: &Plan) -> Result<Option<Hold>, Failure> {
    let Some(sink) = plan.sinks.iter().find(|sink| sink.kind == "file") else { return Ok(None) };
    if plan.settings.journal == JournalPlan::Memory {
        let message = "is a file, which two processes must not write, and without a journal on disk nobody can tell whether a Hydrant runs";
        return Err(wrong(format!("`{}` {message}: name another sink with --sink", sink.name)));
    }
    let hold = journal::hold(&plan.settings.data_dir.join("journal"))?;
    let runs = || {
        let message = "is a file, which two processes must not write: stop it meanwhile, or name another sink with --sink";
        wrong(format!("a Hydrant runs with this data folder, and `{}` {message}", sink.name))
    };
    hold.ok_or_else(runs).map(Some)
}

/// Keeps the same command from running twice.
fn only_one(path: &Path) -> Result<File, Failure> {
    let failed = |error: io::Error| storage("lock the progress", path, &error);
    let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(wrong("the same replay runs already")),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Where chunks come from.
enum Feed {
    Journal(History),
    Archive(Box<Archive>),
}

impl Feed {
    async fn open(job: &Job<'_>, plan: &Plan, progress: &Progress, scratch: &Path) -> Result<Self, Failure> {
        if let Some(place) = job.archive {
            let mut archive =
                Archive::open(place, Some(&plan.written), (scratch, progress.book.since_ms), progress.period(), progress.row.as_ref())
                    .await?;
            (archive.skipped, archive.skipped_behind) = (progress.skipped, progress.skipped);
            return Ok(Self::Archive(Box::new(archive)));
        }
        if plan.settings.journal == JournalPlan::Memory {
            return Err(wrong("a journal of `type: memory` keeps nothing; name an archive with --archive"));
        }
        let history = History::open(&plan.settings.data_dir.join("journal"), progress.period(), progress.chunk)?;
        Ok(Self::Journal(history))
    }

    /// From when on there can be anything, ms since 1970 UTC.
    fn begins_ms(&self) -> Option<i64> {
        match self {
            Self::Journal(history) => history.begins_ms(),
            Self::Archive(_) => None,
        }
    }

    /// The next chunk; `progress` then says that it was read.
    async fn next(&mut self, replay: &Replay, progress: &mut Progress) -> Result<Option<Chunk>, Failure> {
        let history = match self {
            Self::Archive(archive) => {
                let found = archive.next_chunk(|source| replay.sender(source)).await?;
                progress.failed.append(&mut archive.failed);
                let Some((chunk, place)) = found else {
                    progress.skipped = archive.skipped;
                    return Ok(None);
                };
                progress.skipped = archive.skipped_behind;
                progress.row = Some(place);
                progress.events += chunk.frames().len() as u64;
                return Ok(Some(chunk));
            }
            Self::Journal(history) => history,
        };
        let failed = |error: io::Error| Failure::from(Error::new(ErrorKind::Storage, "read the journal", error.to_string()));
        let mut found = None;
        while found.is_none() {
            let Some(kept) = history.next_chunk().map_err(failed)? else { break };
            progress.chunk = Some(kept.turn);
            let unknown = |name: &str| Arc::new(Sender { source: name.into(), source_index: u16::MAX });
            let sender = |name: &str| replay.sender(name).unwrap_or_else(|| unknown(name));
            let events = u64::from(kept.events);
            match history.reader.read(kept.place, sender) {
                Ok(Some(chunk)) if OWN_ALERTS.contains(&&*chunk.sender.source) => progress.skipped.alerts += events,
                Ok(Some(chunk)) if chunk.sender.source_index == u16::MAX => progress.skipped.unknown_source += events,
                Ok(Some(chunk)) => {
                    progress.events += events;
                    found = Some(chunk);
                }
                Ok(None) => progress.lost_chunks += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => progress.lost_chunks += 1,
                Err(error) => return Err(failed(error)),
            }
        }
        progress.damaged_places += std::mem::take(&mut history.damaged) as u64;
        progress.gone_segments += std::mem::take(&mut history.gone) as u64;
        Ok(found)
    }
}

/// Tells how far it is, where somebody looks.
struct Screen {
    is_shown: bool,
    /// The time that is replayed, if what is read comes in its order.
    period: Option<Range<i64>>,
    told: Instant,
}

impl Screen {
    fn new(job: &Job<'_>, feed: &Feed, progress: &Progress) -> Self {
        let period = feed.begins_ms().map(|begins_ms| progress.from_ms.max(begins_ms)..progress.to_ms);
        Self { is_shown: job.is_shown, period, told: Instant::now() }
    }

    fn show(&mut self, progress: &Progress) {
        if !self.is_shown || self.told.elapsed() < LOOK_INTERVAL {
            return;
        }
        self.told = Instant::now();
        let share = self.period.as_ref().zip(progress.chunk).map(|(period, (now_ms, _, _))| {
            let (done, all) = (now_ms.saturating_sub(period.start).max(0), period.end.saturating_sub(period.start).max(1));
            format!(", {} %", (done.saturating_mul(100) / all).min(100))
        });
        let file = progress.row.as_ref().map(|row| format!(", {}", row.file));
        // Nobody can be told that stderr is closed.
        let _ = write!(io::stderr(), "\r\x1b[2K{} events read{}", progress.events, share.or(file).unwrap_or_default());
    }

    fn clear(&self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[2K");
        }
    }
}

/// Replays window by window; `false` if it is cut short.
async fn all(job: &Job<'_>, plan: &Arc<Plan>, progress: &mut Progress, path: &Path, stop: Stop) -> Result<bool, Failure> {
    let mut feed = Feed::open(job, plan, progress, path.parent().unwrap_or(path)).await?;
    let mut replay = Replay::start(plan, progress.book.clone())?;
    let mut screen = Screen::new(job, &feed, progress);
    let late_before = progress.late_hits;
    let largest = plan.sinks.iter().map(|sink| sink.sink.batching().bytes_max).max().unwrap_or(0);
    let window = (WINDOW_BYTES.max(largest), job.rate.map_or(u64::MAX, |rate| rate.saturating_mul(WINDOW_SECONDS)));
    let mut pace = Pace::new(job.rate);
    let (mut is_whole, mut is_confirmed) = (false, true);
    while !is_whole && is_confirmed {
        let (mut bytes, first) = (0, progress.events);
        while bytes < window.0 && progress.events - first < window.1 && !stop.is_set() {
            let before = progress.events;
            let Some(chunk) = feed.next(&replay, progress).await? else {
                is_whole = true;
                break;
            };
            bytes += chunk.bytes().len();
            replay.take(chunk)?;
            screen.show(progress);
            tokio::select! {
                () = pace.wait(progress.events - before) => {}
                () = stop.wait() => {}
            }
        }
        if is_whole {
            replay.finish()?;
        }
        if !stop.is_set() {
            replay.seal()?;
        }
        is_confirmed = !stop.is_set() && confirmed(&replay, job.patience, &stop).await;
        progress.book = replay.book();
        progress.late_hits = late_before + replay.late_hits();
        if is_confirmed {
            progress.save(path)?;
        }
    }
    screen.clear();
    Ok(is_confirmed)
}

/// Holds events to a rate.
struct Pace {
    rate: Option<u64>,
    due: tokio::time::Instant,
}

impl Pace {
    fn new(rate: Option<u64>) -> Self {
        Self { rate, due: tokio::time::Instant::now() }
    }

    /// Waits until the time that so many events take is over; what others took of it is not made up for.
    async fn wait(&mut self, events: u64) {
        let Some(rate) = self.rate else { return tokio::task::yield_now().await };
        self.due = self.due.max(tokio::time::Instant::now()) + Duration::from_secs_f64(events as f64 / rate as f64);
        tokio::time::sleep_until(self.due).await;
    }
}

/// Set by SIGINT and SIGTERM.
fn interrupted() -> Result<Stop, Failure> {
    let handled = |error| Error::new(ErrorKind::Unexpected, "replay", "signals cannot be handled").because(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(handled)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(handled)?;
    let (stopper, stop) = task::pair();
    let stopper = Rc::new(stopper);
    tokio::task::spawn_local(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopper.stop();
    });
    Ok(stop)
}

/// Waits until everything that was sealed is stored or in the dead letters; `false` if it is cut short.
async fn confirmed(replay: &Replay, patience: Duration, stop: &Stop) -> bool {
    let mut drained = std::pin::pin!(replay.drained());
    let (mut moved, mut since) = (replay.progress(), Instant::now());
    loop {
        tokio::select! {
            () = &mut drained => return true,
            () = stop.wait() => return false,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        if replay.progress() != moved {
            (moved, since) = (replay.progress(), Instant::now());
        }
        if since.elapsed() > patience {
            message("a destination takes nothing");
            return false;
        }
    }
}

/// Prints the counts. An error if they do not add up, or something was left out.
fn tell(arguments: &Arguments, progress: &Progress, is_whole: bool) -> Result<(), Failure> {
    let Progress { book, skipped, events, lost_chunks, damaged_places, gone_segments, late_hits, .. } = progress;
    let mut imbalances = book.imbalances();
    let received: u64 = book.sources.values().map(|source| source.received).sum();
    if received != *events {
        imbalances.push(format!("{events} events were read, {received} were taken"));
    }
    if arguments.output == Output::Json {
        print_json(&serde_json::json!({
            "events": events, "from_ms": progress.from_ms, "to_ms": progress.to_ms, "skipped": skipped, "lost_chunks": lost_chunks,
            "damaged_places": damaged_places, "gone_segments": gone_segments, "late_hits": late_hits, "failed": progress.failed,
            "destinations": book.destinations, "balanced": imbalances.is_empty(), "is_complete": is_whole,
        }))?;
    }
    let dropped: u64 = book.sources.values().flat_map(|source| source.dropped.values()).sum();
    let done = if arguments.dry_run { "counted" } else { "replayed" };
    message(&format!("{events} events {done}, {dropped} of them dropped by transforms"));
    for (name, destination) in &book.destinations {
        let counts = |what: &str, flow: &Flow| {
            let Flow { routed, delivered, dead, waiting, .. } = flow;
            format!("{routed} {what} = {delivered} delivered + {dead} dead letters + {waiting} not confirmed")
        };
        let (events, alerts) = (counts("events", &destination.events), counts("alerts", &destination.alerts));
        message(&format!("{name}: {events}; {alerts}; {} filtered", destination.filtered));
    }
    let Skipped { other_time, alerts, unreadable, unknown_source } = skipped;
    if other_time + alerts + unreadable + unknown_source + lost_chunks > 0 {
        message(&format!(
            "left out: {other_time} rows of another time, {alerts} of alerts, {unreadable} that are none of Hydrant's or too long, \
             {unknown_source} events of sources that the configuration does not have, {lost_chunks} chunks that are damaged or gone"
        ));
    }
    if damaged_places + gone_segments > 0 {
        message(&format!(
            "{damaged_places} places of the journal are damaged (`hydrant journal check`) and {gone_segments} of its segments went away meanwhile; \
             nobody knows whether they were of this time"
        ));
    }
    if *late_hits > 0 {
        message(&format!(
            "{late_hits} hits came too late for correlations: what is read is not quite in the order of its time; raise `correlation: {{ lateness }}`"
        ));
    }
    progress.failed.iter().for_each(|failed| message(&format!("not read: {failed}")));
    imbalances.iter().for_each(|imbalance| message(imbalance));
    let dead: u64 = book.destinations.values().map(|destination| destination.events.dead + destination.alerts.dead).sum();
    let summary = match () {
        () if !is_whole => "the replay was cut short; the same command goes on where everything was confirmed",
        () if !imbalances.is_empty() => "the counts do not add up",
        () if !progress.failed.is_empty() || lost_chunks + damaged_places + gone_segments + unreadable > 0 => {
            "not everything could be read"
        }
        () if dead > 0 => "what was refused is in the dead letters",
        () => return Ok(()),
    };
    Err(Failure::Found { summary: summary.into(), exit_code: 1 })
}
