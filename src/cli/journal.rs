//! `hydrant journal`: what the journal on disk holds, without running it.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::cli::{Failure, Output, print, print_json, table, validate};
use crate::event::Chunk;
use crate::journal::{self, Damage, Report};
use crate::json::write_string;

/// Exit code of `check` when something is damaged.
const DAMAGED: u8 = 1;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Read every record and say what is damaged; exit code 1 if anything is.
    Check(Folder),
    /// Take damaged records out of a journal that does not run; their bytes are kept beside it.
    Repair(Repair),
    /// Print what waits for which destination.
    Stat(Folder),
    /// Print the events that wait, as they came, one JSON object a line.
    Export(Folder),
}

#[derive(clap::Args)]
struct Folder {
    /// The configuration of the instance, for its data folder.
    #[arg(short, long, conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// The data folder.
    #[arg(long, default_value = "./data")]
    data_dir: PathBuf,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(clap::Args)]
struct Repair {
    #[command(flatten)]
    folder: Folder,
    /// Only say what would be done; exit code 1 if there is anything.
    #[arg(long)]
    dry_run: bool,
}

impl Folder {
    fn path(&self) -> Result<PathBuf, Failure> {
        let data_dir = match &self.config {
            Some(file) => validate::read(file)?.settings.data_dir,
            None => self.data_dir.clone(),
        };
        Ok(data_dir.join("journal"))
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Check(folder) => check(folder),
        Command::Repair(arguments) => repair(arguments),
        Command::Stat(folder) => stat(folder),
        Command::Export(folder) => export(folder),
    }
}

fn check(folder: &Folder) -> Result<(), Failure> {
    let report = journal::inspect(&folder.path()?, true)?;
    report.damage.iter().try_for_each(|damage| print_damage(damage, folder.output))?;
    if report.damage.is_empty() {
        return stat_line(folder, &report);
    }
    let summary = format!("{} of {} segments' records are damaged", report.damage.len(), report.segments);
    Err(Failure::Found { summary, exit_code: DAMAGED })
}

fn print_damage(damage: &Damage, output: Output) -> Result<(), Failure> {
    let position = damage.position.map(|position| position.to_string());
    match output {
        Output::Json => print_json(&json!({
            "log": damage.epoch, "segment": damage.segment, "offset": damage.offset, "bytes": damage.bytes,
            "what": damage.what, "chunk": position,
        })),
        Output::Table => {
            let chunk = position.map(|position| format!(", chunk {position} is lost")).unwrap_or_default();
            let place = format!("log {} segment {} offset {}", damage.epoch, damage.segment, damage.offset);
            print(format!("{place}: {} bytes of {}{chunk}\n", damage.bytes, damage.what).as_bytes())
        }
    }
}

fn repair(arguments: &Repair) -> Result<(), Failure> {
    let Repair { folder, dry_run } = arguments;
    let repaired = journal::repair(&folder.path()?, *dry_run)?;
    repaired.damage.iter().try_for_each(|damage| print_damage(damage, folder.output))?;
    let (places, chunks) = (repaired.damage.len(), repaired.lost().len());
    if *dry_run && places > 0 {
        let summary = format!("{places} places would be mended, {chunks} chunks are lost; nothing was changed");
        return Err(Failure::Found { summary, exit_code: DAMAGED });
    }
    match folder.output {
        Output::Json => print_json(&json!({ "mended": places, "lost_chunks": chunks, "kept": repaired.kept })),
        Output::Table if places == 0 => print(b"nothing is damaged\n"),
        Output::Table => {
            let kept = if repaired.kept.is_empty() { "nowhere: there were none".into() } else { repaired.kept.join(", ") };
            print(format!("{places} places mended, {chunks} chunks lost; the damaged bytes are in {kept}\n").as_bytes())
        }
    }
}

fn stat_line(folder: &Folder, report: &Report) -> Result<(), Failure> {
    let (segments, bytes, torn) = (report.segments, report.bytes, report.torn_bytes);
    match folder.output {
        Output::Json => print_json(&json!({ "segments": segments, "bytes": bytes, "torn_bytes": torn, "damaged": 0 })),
        Output::Table => print(format!("{segments} segments, {bytes} bytes, {torn} torn by a crash, nothing damaged\n").as_bytes()),
    }
}

fn stat(folder: &Folder) -> Result<(), Failure> {
    let report = journal::inspect(&folder.path()?, false)?;
    if folder.output == Output::Json {
        let waiting = |(name, waiting): (&String, &journal::Waiting)| {
            let oldest = waiting.oldest.map(|position| position.to_string());
            (name.clone(), json!({ "events": waiting.events, "batches": waiting.batches, "oldest": oldest }))
        };
        let destinations: serde_json::Map<_, _> = report.destinations.iter().map(waiting).collect();
        return print_json(&json!({
            "segments": report.segments, "bytes": report.bytes, "open_chunks": report.open_chunks,
            "undecided_events": report.undecided_events, "destinations": destinations,
        }));
    }
    let row = |(name, waiting): (&String, &journal::Waiting)| {
        let oldest = waiting.oldest.map_or_else(|| "-".to_owned(), |position| position.to_string());
        vec![name.clone(), waiting.events.to_string(), waiting.batches.to_string(), oldest]
    };
    let rows: Vec<Vec<String>> = report.destinations.iter().map(row).collect();
    print(table::render(&["destination", "events", "batches", "oldest"], &rows).as_bytes())?;
    let line = format!(
        "{} segments, {} bytes, {} chunks not settled, {} events of chunks without a verdict\n",
        report.segments, report.bytes, report.open_chunks, report.undecided_events
    );
    print(line.as_bytes())
}

fn export(folder: &Folder) -> Result<(), Failure> {
    let unreadable = journal::export(&folder.path()?, |chunk| print(&lines(chunk)))?;
    match unreadable {
        0 => Ok(()),
        count => Err(Failure::Found { summary: format!("{count} chunks cannot be read"), exit_code: DAMAGED }),
    }
}

/// One object a frame: position, source, arrival, peer, and the frame as text or, if it is none, as base64.
fn lines(chunk: &Chunk) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in 0..chunk.frames().len() {
        let raw = chunk.frame(frame);
        let head = json!({
            "position": chunk.position.plus(frame).to_string(), "source": &*chunk.sender.source, "received_ms": chunk.received_ms,
            "peer": chunk.peer(frame).map(|peer| peer.to_string()),
        });
        let mut line = head.to_string().into_bytes();
        line.pop();
        if std::str::from_utf8(raw).is_ok() {
            line.extend_from_slice(b",\"raw\":");
            write_string(raw, &mut line);
        } else {
            line.extend_from_slice(format!(",\"raw_base64\":\"{}\"", STANDARD.encode(raw)).as_bytes());
        }
        line.extend_from_slice(b"}\n");
        out.append(&mut line);
    }
    out
}
