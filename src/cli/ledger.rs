//! `hydrant ledger`: what became of every event, and whether it adds up.
//!
//! Of a running instance through its admin API, of a stopped one from the ledger in its data folder. With `--data-dir`
//! always from the folder, which is a few seconds old while an instance runs.

use std::path::PathBuf;

use crate::cli::instance::{self, encoded};
use crate::cli::{Failure, message, print, print_json, table, validate};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::ledger::{self, Book, Flow, Store};

/// Exit code if something does not add up.
const UNBALANCED: u8 = 1;

/// Bytes of an answer: a hundred for each of the senders of some hundred sources.
const BOOK_BYTES_MAX: usize = 256 << 20;

/// Senders that a table shows, those with the most events.
const SENDERS_SHOWN: usize = 20;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration of the instance, for its admin address and its data folder.
    #[arg(short, long, conflicts_with_all = ["admin", "data_dir"])]
    config: Option<PathBuf>,
    /// Address of the instance's admin API.
    #[arg(long, conflicts_with = "data_dir")]
    admin: Option<String>,
    /// The data folder, whether an instance runs or not.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Only what was counted since about then: `2026-11-22T06:00:00Z`, or `2h` for two hours ago.
    #[arg(long)]
    since: Option<String>,
    /// Only the counts of this sender.
    #[arg(long)]
    sender: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let book = read(arguments)?;
    let imbalances = book.imbalances();
    if arguments.json {
        print_json(&book.report(arguments.sender.as_deref()))?;
    } else {
        let shown = match &arguments.sender {
            Some(sender) => book.of_sender(sender),
            None => book,
        };
        print(tables(&shown).as_bytes())?;
    }
    verdict(&imbalances)
}

/// Says whether everything adds up.
pub(super) fn verdict(imbalances: &[String]) -> Result<(), Failure> {
    if imbalances.is_empty() {
        message("it balances");
        return Ok(());
    }
    imbalances.iter().for_each(|imbalance| message(imbalance));
    Err(Failure::Found { summary: "it does NOT balance".into(), exit_code: UNBALANCED })
}

fn read(arguments: &Arguments) -> Result<Book, Failure> {
    let wrong = |message| Error::new(ErrorKind::Configuration, "read `--since`", message);
    let since_ms = arguments.since.as_deref().map(|since| ledger::time(since).map_err(wrong)).transpose()?;
    if let Some(folder) = &arguments.data_dir {
        return stored(&Store::new(folder), since_ms);
    }
    let plan = arguments.config.as_deref().map(validate::read).transpose()?;
    let store = plan.as_ref().map(|plan| Store::new(&plan.settings.data_dir));
    let address = match &plan {
        Some(plan) => plan.settings.admin.map(|address| address.to_string()),
        None => Some(arguments.admin.clone().unwrap_or_else(|| "127.0.0.1:8686".to_owned())),
    };
    match (address.map(|address| asked(&address, arguments.since.as_deref())), store) {
        (Some(Ok(book)), _) => Ok(book),
        (Some(Err(error)), None) => Err(error),
        // It is stopped, or has no admin API.
        (_, Some(store)) => stored(&store, since_ms),
        (None, None) => Err(wrong("there is neither an instance nor a folder".to_owned()).into()),
    }
}

fn stored(store: &Store, since_ms: Option<i64>) -> Result<Book, Failure> {
    let failed = |message: String| Error::new(ErrorKind::Storage, "read the ledger", message).with("folder", store.folder().display());
    let book = store.read().map_err(|error| failed(error.to_string()))?;
    let book = book.ok_or_else(|| failed("there is none".into()))?;
    Ok(match since_ms {
        Some(since_ms) => ledger::period(book, store, since_ms)?,
        None => book,
    })
}

fn asked(address: &str, since: Option<&str>) -> Result<Book, Failure> {
    let query = since.map_or(String::new(), |since| format!("?since={}", encoded(since)));
    instance::read(address, &format!("/api/v1/ledger{query}"), BOOK_BYTES_MAX, "ledger")
}

fn time(ms: i64) -> String {
    let mut text = Vec::new();
    clock::write_rfc3339(ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The book as columns.
pub(super) fn tables(book: &Book) -> String {
    let mut out = format!("from {} to {}\n\n", time(book.since_ms), time(book.at_ms));
    let cells = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>();
    let mut rows = Vec::new();
    for (name, source) in &book.sources {
        let (refused, dropped) = (source.refused.values().sum(), source.dropped.values().sum());
        let mut row = vec![name.clone()];
        row.extend(cells(&[source.messages, source.received, source.cut, refused, source.kernel_drops, source.decided, dropped]));
        row.extend([source.in_work as i64 + source.between, source.left].map(|count| count.to_string()));
        rows.push(row);
    }
    let heading = ["source", "messages", "received", "cut", "refused", "kernel drops", "decided", "dropped", "in work", "left"];
    out.push_str(&table::render(&heading, &rows));
    out.push('\n');
    let mut senders: Vec<(&str, &str, ledger::Sender)> = Vec::new();
    for (source, counts) in &book.sources {
        senders.extend(counts.senders.iter().map(|(name, sender)| (source.as_str(), name.as_str(), *sender)));
    }
    senders.sort_by_key(|(_, _, sender)| std::cmp::Reverse(sender.received));
    let row = |(source, name, sender): &(&str, &str, ledger::Sender)| {
        vec![
            (*source).to_owned(),
            (*name).to_owned(),
            sender.received.to_string(),
            sender.refused.to_string(),
            sender.unreadable.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = senders.iter().take(SENDERS_SHOWN).map(row).collect();
    out.push_str(&table::render(&["source", "sender", "received", "refused", "unreadable"], &rows));
    if senders.len() > rows.len() {
        out.push_str(&format!("... and {} more\n", senders.len() - rows.len()));
    }
    out.push('\n');
    let mut rows = Vec::new();
    for (name, destination) in &book.destinations {
        rows.push(flow_row(name, &destination.events, (destination.filtered, destination.resent)));
        rows.push(flow_row(&format!("{name} (alerts)"), &destination.alerts, (0, 0)));
    }
    let heading = [
        "destination",
        "filtered",
        "routed",
        "recovered",
        "before",
        "delivered",
        "dead",
        "dropped",
        "waiting",
        "deferred",
        "left",
        "resent",
    ];
    out.push_str(&table::render(&heading, &rows));
    out
}

fn flow_row(name: &str, flow: &Flow, (filtered, resent): (u64, u64)) -> Vec<String> {
    let Flow { routed, recovered, before, delivered, dead, dropped, waiting, deferred, left } = flow;
    let dropped = dropped.values().sum();
    let deferred = (*deferred).max(0).unsigned_abs();
    let counts = [filtered, *routed, *recovered, *before, *delivered, *dead, dropped, *waiting, deferred, *left, resent];
    std::iter::once(name.to_owned()).chain(counts.map(|count| count.to_string())).collect()
}
