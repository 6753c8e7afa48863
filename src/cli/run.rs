//! `hydrant run`: starts a configuration and runs it until SIGTERM, SIGINT, or the end of its sources.
//!
//! SIGHUP reads the file again ([`crate::pipeline::reload`]); a mistake in it keeps the old plan and is told on
//! stderr. So does a change of the silences in the data folder ([`crate::pipeline::silence`]). SIGUSR2 starts the program anew in the same process, from the file that it was started from, with the whole
//! configuration as it is then ([`crate::net::handover`]): that is how a new version or new sources and sinks come into
//! use while senders stay. The admin API answers from the first moment to the end of the drain.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin;
use crate::cli::{Failure, message, replay, validate, warn};
use crate::error::{Error, ErrorKind};
use crate::metrics::{self, Registry};
use crate::net::handover;
use crate::pipeline::health::Readiness;
use crate::pipeline::run::{self, Running};
use crate::pipeline::silence::{Silences, Stamp};
use crate::task::{self, Stopper};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(short, long)]
    config: PathBuf,
    /// Write all metrics to this file at the end (for `hydrant bench`).
    #[arg(long, hide = true, value_name = "FILE")]
    dump_metrics: Option<PathBuf>,
}

/// The signals that a run answers to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

impl Signals {
    /// Must be called inside a runtime. From here on none of them ends the process.
    fn new() -> Result<Self, Error> {
        let on =
            |kind| signal(kind).map_err(|error| Error::new(ErrorKind::Unexpected, "start", "signals cannot be handled").because(error));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
            user: on(SignalKind::user_defined2())?,
        })
    }

    /// Whether somebody has asked for the end and was not heard.
    async fn is_end_asked_for(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => true,
            // What a handler has noted is seen when the runtime has slept.
            () = tokio::time::sleep(Duration::from_millis(1)) => false,
        }
    }
}

/// Why a run ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stop,
    HandOver,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    // A program that was replaced has another name afterwards.
    let program =
        std::env::current_exe().map_err(|error| Error::new(ErrorKind::Unexpected, "start", "no path of its own").because(error))?;
    let given = handover::take_over()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(ErrorKind::Unexpected, "start", "no runtime").because(error))?;
    let mut signals = runtime.block_on(async { Signals::new() })?;
    let plan = validate::read(&arguments.config)?;
    warn(&plan.warnings);
    make_data_dir(&plan.settings.data_dir)?;
    let registry = Registry::default();
    let (stopper, stop) = task::pair();
    let plan = Arc::new(plan);
    let due = replay::due(&plan)?;
    let running = run::start(plan.clone(), registry.clone(), &stop)?;
    let filling = replay::start(due, &arguments.config, &stop);
    let admin = match plan.settings.admin.map(|address| admin::start(address, running.common())).transpose() {
        Ok(admin) => admin,
        Err(error) => {
            handover::close();
            stopper.stop();
            running.join()?;
            return Err(error.into());
        }
    };
    if let Some(admin) = &admin {
        tracing::info!(address = %admin.address(), "the admin API is open");
    }
    let end = runtime.block_on(serve(arguments, &running, &mut signals, &program, given.len()));
    let undelivered = finish(end, &stopper, running);
    for thread in filling {
        // A panic is told by the runtime; the next start goes on.
        let _ = thread.join();
    }
    if let Some(admin) = admin {
        admin.stop();
    }
    if let Some(path) = &arguments.dump_metrics {
        std::fs::write(path, registry.render())
            .map_err(|error| Error::new(ErrorKind::Storage, "dump metrics", "failed").with("file", path.display()).because(error))?;
    }
    if end == End::HandOver {
        if let Err(error) = undelivered {
            tracing::error!(%error, "the process that takes over begins behind a stop that failed");
        }
        handover::let_signals_end_this();
        if runtime.block_on(signals.is_end_asked_for()) {
            return Ok(());
        }
        return Err(handover::exec(&program, std::env::args_os().skip(1)).into());
    }
    match undelivered? {
        0 => Ok(()),
        count => Err(Error::new(ErrorKind::Limit, "stop", format!("{count} batches were not delivered in time")).into()),
    }
}

/// Answers signals until one of them, or the end of the sources, ends the run.
async fn serve(arguments: &Arguments, running: &Running, signals: &mut Signals, program: &Path, given: usize) -> End {
    let mut opened = std::pin::pin!(opened(running, given));
    let mut is_open = false;
    let silences = Silences::new(&running.common().plan.borrow().settings.data_dir);
    let mut seen = running.common().plan.borrow().silences.stamp;
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return End::Stop,
            _ = signals.interrupt.recv() => return End::Stop,
            () = finished(running) => return End::Stop,
            () = &mut opened, if !is_open => is_open = true,
            _ = signals.hangup.recv() => reload(&arguments.config, running),
            stamp = changed(&silences, seen) => {
                // A damaged file is told of once.
                seen = stamp;
                reload(&arguments.config, running);
            }
            _ = signals.user.recv() => if may_hand_over(&arguments.config, program, running) {
                return End::HandOver;
            },
        }
    }
}

fn finish(end: End, stopper: &Stopper, running: Running) -> Result<usize, Error> {
    match end {
        // Who connects from here on is to find another instance, or to be told that there is none.
        End::Stop => {
            handover::close();
            stopper.stop();
        }
        End::HandOver => stopper.hand_over(),
    }
    running.join()
}

/// How often silences are looked at.
const SILENCES_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until the file of silences is another one than that which was seen.
async fn changed(silences: &Silences, seen: Option<Stamp>) -> Option<Stamp> {
    loop {
        tokio::time::sleep(SILENCES_INTERVAL).await;
        let stamp = silences.stamp();
        if stamp != seen {
            return stamp;
        }
    }
}

/// Closes the sockets that were given and that nobody listens at, once all that listen do.
async fn opened(running: &Running, given: usize) {
    while given > 0 && matches!(running.common().health.readiness(), Readiness::Starting { .. }) {
        tokio::time::sleep(FINISHED_INTERVAL).await;
    }
    for place in handover::close_unused() {
        tracing::warn!(address = %place, "this process was given a socket at which no source listens; it is closed");
    }
}

/// Whether the program that would take over accepts the configuration. This one goes on if not.
fn may_hand_over(file: &Path, program: &Path, running: &Running) -> bool {
    let mut command = Command::new(program);
    command.arg("validate").arg("-c").arg(file).stdin(Stdio::null()).stdout(Stdio::null());
    let is_valid = match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            message(&format!("{}: cannot be started: {error}", program.display()));
            false
        }
    };
    let result = if is_valid { "ok" } else { "refused" };
    running.common().registry.cell(&metrics::HAND_OVERS, &[("result", result)]).add(1);
    match is_valid {
        true => message(&format!("{}: handing over", file.display())),
        false => message(&format!("{}: not handed over; this process goes on", file.display())),
    }
    is_valid
}

/// How often a run without endless sources is looked at.
const FINISHED_INTERVAL: Duration = Duration::from_millis(20);

async fn finished(running: &Running) {
    while !running.is_finished() {
        tokio::time::sleep(FINISHED_INTERVAL).await;
    }
}

/// Takes up a changed configuration, if it is right.
fn reload(file: &Path, running: &Running) {
    let common = running.common();
    let count = |result| common.registry.cell(&metrics::RELOADS, &[("result", result)]).add(1);
    let old = common.plan.borrow().clone();
    match validate::text(file).and_then(|text| old.reload(file, &text)) {
        Ok(plan) => {
            warn(&plan.warnings);
            message(&format!("{}: reloaded; {} rules, {} silences", file.display(), plan.rules.rules.len(), plan.silences.list.len()));
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
