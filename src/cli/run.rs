//! `hydrant run`: starts a configuration and runs it until SIGTERM, SIGINT, or the end of its sources.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Failure, message, validate};
use crate::error::{Error, ErrorKind};
use crate::metrics::Registry;
use crate::pipeline::run;
use crate::task;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(short, long)]
    config: PathBuf,
    /// Write all metrics to this file at the end (for `hydrant bench`).
    #[arg(long, hide = true, value_name = "FILE")]
    dump_metrics: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = validate::read(&arguments.config)?;
    for warning in &plan.warnings.0 {
        message(&warning.to_string());
    }
    make_data_dir(&plan.settings.data_dir)?;
    let registry = Registry::default();
    let (stopper, stop) = task::pair();
    let running = run::start(Arc::new(plan), registry.clone(), &stop)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(ErrorKind::Unexpected, "start", "no runtime").because(error))?;
    runtime.block_on(async {
        let failed = |error| Error::new(ErrorKind::Unexpected, "start", "signals cannot be handled").because(error);
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = finished(&running) => {}
        }
        Ok::<_, Error>(())
    })?;
    stopper.stop();
    let undelivered = running.join()?;
    if let Some(path) = &arguments.dump_metrics {
        std::fs::write(path, registry.render())
            .map_err(|error| Error::new(ErrorKind::Storage, "dump metrics", "failed").with("file", path.display()).because(error))?;
    }
    match undelivered {
        0 => Ok(()),
        count => Err(Error::new(ErrorKind::Limit, "stop", format!("{count} batches were not delivered in time")).into()),
    }
}

/// How often a run without endless sources is looked at.
const FINISHED_INTERVAL: Duration = Duration::from_millis(20);

async fn finished(running: &run::Running) {
    while !running.is_finished() {
        tokio::time::sleep(FINISHED_INTERVAL).await;
    }
}

/// Makes the data folder, readable by its owner only.
fn make_data_dir(path: &std::path::Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::new(ErrorKind::Storage, "make the data folder", error.to_string()).with("data_dir", path.display()))
}
