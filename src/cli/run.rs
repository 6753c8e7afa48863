//! `hydrant run`: starts a configuration and runs it until SIGTERM, SIGINT, or the end of its sources.
//!
//! SIGHUP reads the file again ([`crate::pipeline::reload`]); a mistake in it keeps the old plan and is told on
//! stderr. The admin API answers from the first moment to the end of the drain.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::admin;
use crate::cli::{Failure, message, validate, warn};
use crate::error::{Error, ErrorKind};
use crate::metrics::{self, Registry};
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
    warn(&plan.warnings);
    make_data_dir(&plan.settings.data_dir)?;
    let registry = Registry::default();
    let (stopper, stop) = task::pair();
    let plan = Arc::new(plan);
    let running = run::start(plan.clone(), registry.clone(), &stop)?;
    let admin = match plan.settings.admin.map(|address| admin::start(address, running.common())).transpose() {
        Ok(admin) => admin,
        Err(error) => {
            stopper.stop();
            running.join()?;
            return Err(error.into());
        }
    };
    if let Some(admin) = &admin {
        tracing::info!(address = %admin.address(), "the admin API is open");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(ErrorKind::Unexpected, "start", "no runtime").because(error))?;
    runtime.block_on(async {
        let failed = |error| Error::new(ErrorKind::Unexpected, "start", "signals cannot be handled").because(error);
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok::<_, Error>(()),
                _ = interrupt.recv() => return Ok(()),
                () = finished(&running) => return Ok(()),
                _ = hangup.recv() => reload(&arguments.config, &running),
            }
        }
    })?;
    stopper.stop();
    let undelivered = running.join();
    if let Some(admin) = admin {
        admin.stop();
    }
    let undelivered = undelivered?;
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

/// Takes up a changed configuration, if it is right.
fn reload(file: &Path, running: &run::Running) {
    let common = running.common();
    let count = |result| common.registry.cell(&metrics::RELOADS, &[("result", result)]).add(1);
    let old = common.plan.borrow().clone();
    match validate::text(file).and_then(|text| old.reload(file, &text)) {
        Ok(plan) => {
            warn(&plan.warnings);
            message(&format!("{}: reloaded; {} rules", file.display(), plan.rules.rules.len()));
            running.replace(plan);
            count("ok");
        }
        Err(diagnostics) => {
            warn(&diagnostics);
            message(&format!("{}: not reloaded; the old plan stays", file.display()));
            count("refused");
        }
    }
}

/// Makes the data folder, readable by its owner only.
fn make_data_dir(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::new(ErrorKind::Storage, "make the data folder", error.to_string()).with("data_dir", path.display()))
}
