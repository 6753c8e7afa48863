//! `hydrant dlq`: what destinations refused: look at it, send it again, or remove it.
//!
//! All of it works beside a running Hydrant, which may go on writing dead letters meanwhile.

mod replay;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use crate::cli::{Failure, Output, message, print, print_json, table, validate};
use crate::clock;
use crate::config::Interval;
use crate::deliver::dead_letter::{self, Files, Found, Limits, Record};
use crate::error::{Error, ErrorKind};

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Count dead letters by destination and reason.
    List(List),
    /// Print dead letters, one JSON object a line, the item decoded.
    Show(Show),
    /// Send them again to their destination; what it takes is removed.
    Replay(replay::Arguments),
    /// Remove them for good.
    Purge(Purge),
}

#[derive(clap::Args)]
struct Folder {
    /// The configuration of the instance, for its data folder.
    #[arg(short, long, conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// The data folder.
    #[arg(long, default_value = "./data")]
    data_dir: PathBuf,
    /// Only those of this destination.
    #[arg(short, long)]
    destination: Option<String>,
}

impl Folder {
    /// The files of all destinations that are asked for.
    fn files(&self) -> Result<Vec<Files>, Failure> {
        let data_dir = match &self.config {
            Some(file) => validate::read(file)?.settings.data_dir,
            None => self.data_dir.clone(),
        };
        let names = dead_letter::destinations(&data_dir).map_err(|error| failed("list dead letters", &error))?;
        let is_asked = |name: &&String| self.destination.as_ref().is_none_or(|asked| asked == *name);
        Ok(names.iter().filter(is_asked).map(|name| Files::new(&data_dir, name, Limits::NONE)).collect())
    }
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    folder: Folder,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(clap::Args)]
struct Show {
    #[command(flatten)]
    folder: Folder,
    /// Only the one with this EventId.
    #[arg(long)]
    event_id: Option<String>,
    /// Only those with this reason.
    #[arg(long)]
    reason: Option<String>,
    /// How many are shown, the newest ones.
    #[arg(short = 'n', long, default_value_t = 10)]
    limit: usize,
}

#[derive(clap::Args)]
struct Purge {
    #[command(flatten)]
    folder: Folder,
    /// Only those that were given up longer ago than this, such as `30d`.
    #[arg(long)]
    older_than: Option<Interval>,
    /// Do it: what is removed cannot be brought back.
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::List(arguments) => list(arguments),
        Command::Show(arguments) => show(arguments),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Purge(arguments) => purge(arguments),
    }
}

fn failed(operation: &'static str, error: &std::io::Error) -> Failure {
    Error::new(ErrorKind::Storage, operation, error.to_string()).into()
}

/// What is counted of one destination and reason.
#[derive(Default)]
struct Count {
    events: usize,
    alerts: usize,
    oldest_ms: i64,
    newest_ms: i64,
}

impl Count {
    fn add(&mut self, record: &Record) {
        let given_up_ms = record.attempt_ending_timestamp;
        let is_first = self.events + self.alerts == 0;
        self.oldest_ms = if is_first { given_up_ms } else { self.oldest_ms.min(given_up_ms) };
        self.newest_ms = if is_first { given_up_ms } else { self.newest_ms.max(given_up_ms) };
        if record.alert { self.alerts += 1 } else { self.events += 1 }
    }
}

fn list(arguments: &List) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let now_ms = clock::now_ms();
    for files in arguments.folder.files()? {
        let mut counts: BTreeMap<String, Count> = BTreeMap::new();
        let mut broken = 0;
        let read = files.read(|found| match found {
            Found::Record(record) => counts.entry(record.reason.clone()).or_default().add(&record),
            Found::Broken { .. } => broken += 1,
        });
        read.map_err(|error| failed("read dead letters", &error))?;
        for (reason, count) in counts {
            match arguments.output {
                Output::Json => print_json(&json!({
                    "destination": files.destination(), "reason": reason, "events": count.events, "alerts": count.alerts,
                    "oldest_ms": count.oldest_ms, "newest_ms": count.newest_ms,
                }))?,
                Output::Table => rows.push(vec![
                    files.destination().to_owned(),
                    reason,
                    count.events.to_string(),
                    count.alerts.to_string(),
                    age(now_ms - count.oldest_ms),
                    age(now_ms - count.newest_ms),
                ]),
            }
        }
        if broken > 0 {
            message(&format!(
                "{}: {broken} lines are no dead letters; a crash tore them, or somebody else wrote them",
                files.destination()
            ));
        }
    }
    match arguments.output {
        Output::Json => Ok(()),
        Output::Table => print(table::render(&["destination", "reason", "events", "alerts", "oldest", "newest"], &rows).as_bytes()),
    }
}

/// A time span for people, in its largest unit.
fn age(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn show(arguments: &Show) -> Result<(), Failure> {
    let mut last = std::collections::VecDeque::new();
    let is_asked = |record: &Record| {
        arguments.event_id.as_ref().is_none_or(|id| *id == record.event_id)
            && arguments.reason.as_ref().is_none_or(|reason| *reason == record.reason)
    };
    for files in arguments.folder.files()? {
        let read = files.read(|found| match found {
            Found::Record(record) if is_asked(&record) => {
                last.push_back(record);
                if last.len() > arguments.limit {
                    last.pop_front();
                }
            }
            _ => {}
        });
        read.map_err(|error| failed("read dead letters", &error))?;
    }
    last.iter().try_for_each(|record| print_json(&shown(record)))
}

/// The record with its item as text, or as it is if that is no text.
fn shown(record: &Record) -> serde_json::Value {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    let raw = record.raw().and_then(|raw| String::from_utf8(raw).ok());
    if let (Some(raw), Some(object)) = (raw, value.as_object_mut()) {
        object.remove("rawData");
        object.insert("raw".into(), raw.into());
    }
    value
}

fn purge(arguments: &Purge) -> Result<(), Failure> {
    if arguments.folder.destination.is_none() && arguments.older_than.is_none() {
        return Err(Error::new(ErrorKind::Configuration, "purge", "say what: --destination NAME, --older-than AGE, or both").into());
    }
    let end_ms = arguments.older_than.map(|age| clock::now_ms() - i64::try_from(age.0.as_millis()).unwrap_or(i64::MAX));
    // A torn line has no age: it goes when everything does.
    let is_gone = |found: &Found| match (found, end_ms) {
        (_, None) => true,
        (Found::Record(record), Some(end_ms)) => record.attempt_ending_timestamp < end_ms,
        (Found::Broken { .. }, Some(_)) => false,
    };
    let mut all = 0;
    for files in arguments.folder.files()? {
        let count = if arguments.yes { remove(&files, is_gone) } else { count(&files, is_gone) };
        let count = count.map_err(|error| failed("purge dead letters", &error))?;
        let done = if arguments.yes { "removed" } else { "would be removed" };
        message(&format!("{}: {count} {done}", files.destination()));
        all += count;
    }
    match (arguments.yes, all) {
        (true, _) | (_, 0) => Ok(()),
        (false, _) => Err(Failure::Found { summary: "nothing is removed without --yes".into(), exit_code: 1 }),
    }
}

fn count(files: &Files, is_gone: impl Fn(&Found) -> bool) -> std::io::Result<usize> {
    let mut count = 0;
    files.read(|found| count += usize::from(is_gone(&found)))?;
    Ok(count)
}

fn remove(files: &Files, is_gone: impl Fn(&Found) -> bool) -> std::io::Result<usize> {
    let maintenance = files.maintain()?;
    maintenance.closed()?.into_iter().map(|number| maintenance.remove(number, |_, found| is_gone(found))).sum()
}
