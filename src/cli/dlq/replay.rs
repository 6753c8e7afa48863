//! `hydrant dlq replay`: sends dead letters of one destination again.
//!
//! File by file, oldest first. What the destination takes is removed from the file at the file's end, every
//! [`CHECKPOINT`] and when it is cut short: a replay that is killed may send again what it had sent since. What is
//! refused again stays as it is, and so does what was not tried.
//!
//! The sink is that of the configuration as it is now; letters of a destination that had another `type` are left. A
//! `file` sink cuts its file back when a write fails, which two processes must not do to one file: it is only replayed
//! while no Hydrant runs, which `--stopped` says.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use super::failed;
use crate::cli::{Failure, message, validate};
use crate::config::Interval;
use crate::deliver::dead_letter::{Files, Found, LettersOf, Limits, Maintenance, Record};
use crate::deliver::replay::{Outcome, Replay};
use crate::error::{Error, ErrorKind, nearest};
use crate::pipeline::plan::SinkPlan;

/// Time between two removals of what is stored.
const CHECKPOINT: Duration = Duration::from_secs(2);

/// Bytes that are read before what was read has to be stored or refused; more if a batch has more.
const WINDOW_BYTES: usize = 16 << 20;

/// Time between two looks at how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration of the instance, for its data folder and its sinks.
    #[arg(short, long)]
    config: PathBuf,
    /// The destination.
    #[arg(short, long)]
    destination: String,
    /// Only those with this reason.
    #[arg(long)]
    reason: Option<String>,
    /// Only the one with this EventId.
    #[arg(long)]
    event_id: Option<String>,
    /// End when the destination has taken and refused nothing for so long.
    #[arg(long, default_value = "60s")]
    patience: Interval,
    /// No Hydrant runs with this configuration; needed for `file` sinks.
    #[arg(long)]
    stopped: bool,
}

impl Arguments {
    fn wants(&self, record: &Record, kind: &str) -> bool {
        record.destination_type == kind
            && self.reason.as_ref().is_none_or(|reason| *reason == record.reason)
            && self.event_id.as_ref().is_none_or(|id| *id == record.event_id)
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = validate::read(&arguments.config)?;
    let wrong = |message: String| Failure::from(Error::new(ErrorKind::Configuration, "replay", message));
    let name = &arguments.destination;
    let Some(sink) = plan.sinks.iter().find(|sink| *sink.name == **name) else {
        let near =
            nearest(name, plan.sinks.iter().map(|sink| &*sink.name)).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(wrong(format!("there is no sink `{name}`{near}")));
    };
    if sink.kind == "file" && !arguments.stopped {
        return Err(wrong(format!("`{name}` is a file, which two processes must not write: stop Hydrant and say --stopped")));
    }
    let files = Files::new(&plan.settings.data_dir, name, Limits::NONE);
    let maintenance = files.maintain().map_err(|error| failed("replay", &error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(ErrorKind::Unexpected, "replay", "no runtime").because(error))?;
    let totals = LocalSet::new().block_on(&runtime, all(arguments, sink, &maintenance))?;
    message(&format!("{name}: {} sent, {} refused again, {} left", totals.stored, totals.refused.len(), totals.left));
    for (why, count) in totals.reasons() {
        message(&format!("  {count} times: {why}"));
    }
    if totals.refused.is_empty() && !totals.is_cut_short {
        return Ok(());
    }
    let summary = if totals.is_cut_short { "the replay was cut short" } else { "what was refused again stays in the dead letters" };
    Err(Failure::Found { summary: summary.into(), exit_code: 1 })
}

#[derive(Default)]
struct Totals {
    stored: usize,
    refused: Vec<String>,
    /// Not wanted, not readable, or not tried.
    left: usize,
    is_cut_short: bool,
}

impl Totals {
    fn reasons(&self) -> BTreeMap<&str, usize> {
        let mut reasons = BTreeMap::new();
        self.refused.iter().for_each(|why| *reasons.entry(why.as_str()).or_default() += 1);
        reasons
    }
}

async fn all(arguments: &Arguments, sink: &SinkPlan, maintenance: &Maintenance) -> Result<Totals, Failure> {
    let mut totals = Totals::default();
    for number in maintenance.closed().map_err(|error| failed("replay", &error))? {
        let mut start = 0;
        // Numbers of lines change when some are removed, so what comes behind is a replay of its own.
        while let Some(next) = part(arguments, sink, (maintenance, number, start), &mut totals).await? {
            start = next;
        }
        if totals.is_cut_short {
            break;
        }
    }
    Ok(totals)
}

/// Replays a file from its line `start` on, for [`CHECKPOINT`] at most. Returns the line to go on with, if there are
/// more.
async fn part(
    arguments: &Arguments,
    sink: &SinkPlan,
    (maintenance, number, start): (&Maintenance, u64, usize),
    totals: &mut Totals,
) -> Result<Option<usize>, Failure> {
    let storage = |error: std::io::Error| failed("replay", &error);
    let mut letters = maintenance.open(number).map_err(storage)?;
    for _ in 0..start {
        letters.next_letter().map_err(storage)?;
    }
    let mut replay = Replay::start(&sink.name, sink.sink.batching(), sink.sink.transport()?);
    let begun = Instant::now();
    let (mut line, mut is_end) = (start, false);
    while !is_end && !totals.is_cut_short && begun.elapsed() < CHECKPOINT {
        let window_bytes = WINDOW_BYTES.max(sink.sink.batching().bytes_max);
        is_end = fill((arguments, sink.kind, window_bytes), &mut letters, (&mut replay, &mut line))?;
        replay.flush()?;
        totals.is_cut_short = !drained(&replay, totals.stored, arguments.patience.0).await?;
    }
    let outcomes = replay.outcomes();
    let is_stored = |line: usize| outcomes.get(&(line as u64)) == Some(&Outcome::Stored);
    let removed = maintenance.remove(number, |line, _| is_stored(line)).map_err(storage)?;
    totals.stored += removed;
    totals.left += (line - start) - outcomes.len();
    totals.refused.extend(outcomes.into_values().filter_map(|outcome| match outcome {
        Outcome::Refused(why) => Some(why),
        Outcome::Stored => None,
    }));
    Ok((!is_end && !totals.is_cut_short).then_some(line - removed))
}

/// Gives letters to the replay until the window is full; whether the file has come to its end.
fn fill(
    (arguments, kind, window_bytes): (&Arguments, &str, usize),
    letters: &mut LettersOf,
    (replay, line): (&mut Replay, &mut usize),
) -> Result<bool, Failure> {
    while replay.waiting_bytes() < window_bytes {
        let Some(found) = letters.next_letter().map_err(|error| failed("replay", &error))? else { return Ok(true) };
        if let Found::Record(record) = found
            && arguments.wants(&record, kind)
        {
            // One that cannot be read is left where it is.
            replay.add(*line, *record).unwrap_or_else(|error| message(&error.to_string()));
        }
        *line += 1;
    }
    Ok(false)
}

/// Waits until everything is stored or refused; `false` if it is cut short.
async fn drained(replay: &Replay, before: usize, patience: Duration) -> Result<bool, Failure> {
    let handled = |error| Error::new(ErrorKind::Unexpected, "replay", "signals cannot be handled").because(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(handled)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(handled)?;
    let mut done = std::pin::pin!(replay.drained());
    let (mut counts, mut since) = (replay.counts(), Instant::now());
    let is_terminal = std::io::stderr().is_terminal();
    loop {
        tokio::select! {
            () = &mut done => break Ok(true),
            _ = interrupt.recv() => break Ok(false),
            _ = terminate.recv() => break Ok(false),
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        if replay.counts() != counts {
            (counts, since) = (replay.counts(), Instant::now());
        }
        if since.elapsed() > patience {
            message("the destination takes nothing");
            break Ok(false);
        }
        if is_terminal {
            // Nobody can be told that stderr is closed.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{} sent, {} refused again", before + counts.0, counts.1);
        }
    }
}
