//! `backfill_from`: a destination that is new to the data folder gets what the journal has of the past: a replay to it alone,
//! on a thread of its own, while the run goes on.
//!
//! New is what neither the ledger knows nor an earlier back-fill (`data_dir/backfill/<sink>.json`, which stays). The past ends
//! when the first run with the destination begins; from there on the run delivers. Stopped or killed, it goes on at the next
//! start as a replay does. Its counts are in the log at its end, not in the run's ledger, to which nothing came in.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::task::LocalSet;

use super::{Job, Progress, all, storage};
use crate::cli::{Failure, validate};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::ledger::{Book, Store};
use crate::pipeline::plan::{Changes, Plan};
use crate::task::Stop;

/// A destination that has not all of the past that it is to have.
pub(in crate::cli) struct Due {
    sink: String,
    path: PathBuf,
    progress: Progress,
}

/// Finds those that are to be back-filled. To be asked before the run begins, which makes every destination a known one.
pub(in crate::cli) fn due(plan: &Plan) -> Result<Vec<Due>, Failure> {
    let wanted: Vec<_> = plan.sinks.iter().filter_map(|sink| Some((&sink.name, sink.backfill_from?))).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let data_dir = &plan.settings.data_dir;
    let store = Store::new(data_dir);
    let book = store.read().map_err(|error| storage("read the ledger", store.folder(), &error))?.unwrap_or_default();
    let folder = data_dir.join("backfill");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| storage("make the folder", &folder, &error))?;
    let now_ms = clock::now_ms();
    let mut due = Vec::new();
    for (sink, from) in wanted {
        let path = folder.join(format!("{sink}.json"));
        let progress = match Progress::load(&path)? {
            Some(progress) => progress,
            None if book.destinations.contains_key(&**sink) => {
                tracing::info!(%sink, "not new to this data folder: `backfill_from` is not followed");
                continue;
            }
            None => {
                let book = Book { since_ms: now_ms, ..Book::default() };
                let progress = Progress { from_ms: from.at_ms(now_ms), to_ms: now_ms, book, ..Progress::default() };
                progress.save(&path)?;
                progress
            }
        };
        if !progress.is_done {
            due.push(Due { sink: sink.to_string(), path, progress });
        }
    }
    Ok(due)
}

/// Back-fills until `stop`, by the configuration in `file`. The threads are to be waited for.
pub(in crate::cli) fn start(due: Vec<Due>, file: &Path, stop: &Stop) -> Vec<JoinHandle<()>> {
    let begin = |due: Due| {
        let (file, stop, sink) = (file.to_owned(), stop.clone(), due.sink.clone());
        let fill = move || {
            if let Err(error) = fill(due, &file, stop) {
                tracing::error!(sink, ?error, "the back-fill ended; the next start goes on");
            }
        };
        let thread = std::thread::Builder::new().name("hydrant-backfill".into()).spawn(fill);
        thread.inspect_err(|error| tracing::error!(%error, "no thread for a back-fill; the next start goes on")).ok()
    };
    due.into_iter().filter_map(begin).collect()
}

fn fill(due: Due, file: &Path, stop: Stop) -> Result<(), Failure> {
    let Due { sink, path, mut progress } = due;
    let changes = Changes { sink: Some(sink.clone()), is_replay: true, ..Changes::default() };
    let plan = Arc::new(Plan::read_changed(file, &validate::text(file)?, &changes)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(ErrorKind::Unexpected, "back-fill", "no runtime").because(error))?;
    let job = Job { archive: None, rate: None, patience: Duration::MAX, is_shown: false };
    let is_whole = LocalSet::new().block_on(&runtime, all(&job, &plan, &mut progress, &path, stop))?;
    if !is_whole {
        return Ok(());
    }
    progress.is_done = true;
    progress.save(&path)?;
    let Progress { book, events, lost_chunks, damaged_places, gone_segments, .. } = &progress;
    let (events_sent, alerts) =
        book.destinations.get(&sink).map(|counts| (counts.events.delivered, counts.alerts.delivered)).unwrap_or_default();
    let lost = lost_chunks + damaged_places + gone_segments;
    tracing::info!(sink, read = events, events = events_sent, alerts, lost, "the back-fill is complete");
    for imbalance in book.imbalances() {
        tracing::error!(sink, imbalance, "the counts of the back-fill do not add up");
    }
    Ok(())
}
