//! `hydrant bench`: generator, Hydrant and a counting destination in separate processes on this machine.
//!
//! In: a profile (`benches/profiles/*.yaml` by name, or a file). Out, on stdout: events/s, MB/s, CPU seconds per
//! million events split by stage, peak RSS, latency, loss; each run and the medians. Every event is counted at
//! its destination and compared with what was sent; anything else than an exact match is an error (except for
//! UDP, where loss is a result).
//!
//! CPU time is the figure to trust: rates are those of a machine that also runs generator and destination.

mod counter;
mod generator;
mod process;
mod profile;
mod report;
mod run;
mod stamp;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(in crate::cli) use counter::{Arguments as CounterArguments, run as run_counter};
pub(in crate::cli) use generator::run as run_generator;
pub(in crate::cli) use profile::{BUILT_IN, Profile};
pub(in crate::cli) use report::{Report, Run};
pub(in crate::cli) use run::{Setup, run as run_once};

use profile::Transport;

use crate::cli::{Failure, message};
use crate::clock;
use crate::error::{Error, ErrorKind};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Name of a built-in profile, or a file.
    #[arg(long, required_unless_present = "list")]
    profile: Option<String>,
    /// List the built-in profiles.
    #[arg(long)]
    list: bool,
    /// Number of shards, if the profile has that setting.
    #[arg(long)]
    shards: Option<usize>,
    /// Value of a setting of the profile: `name=value`.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Number of runs; figures are their medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Events of one run, instead of the profile's number.
    #[arg(long)]
    events: Option<u64>,
    /// Events a second, instead of the profile's; 0 is as fast as possible.
    #[arg(long)]
    rate: Option<u64>,
    /// Lines to send instead of made ones.
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
    /// Hydrant on core 0, everything else on core 1.
    #[arg(long)]
    pin: bool,
    /// A report (JSON) of an earlier version: says what got worse, and fails if anything did.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// How the result is written.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    Json,
    Table,
}

fn setting(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "expected `name=value`".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.list {
        let width = BUILT_IN.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, _) in BUILT_IN {
            data(&format!("{name:<width$}  {}\n", Profile::load(name)?.about))?;
        }
        return Ok(());
    }
    let name = arguments.profile.as_deref().unwrap_or_default();
    let mut profile = Profile::load(name)?;
    profile.load.events = arguments.events.unwrap_or(profile.load.events).max(1);
    profile.load.rate = arguments.rate.unwrap_or(profile.load.rate);
    let baseline = arguments.baseline.as_deref().map(read_report).transpose()?;
    let mut settings = profile.defaults();
    let given = arguments.shards.map(|shards| ("shards".to_owned(), shards.to_string()));
    for (name, value) in arguments.settings.iter().cloned().chain(given) {
        if !settings.contains_key(&name) {
            let names: Vec<&str> = settings.keys().map(String::as_str).collect();
            let text = format!("the profile has no setting `{name}`; it has: {}", names.join(", "));
            return Err(Error::new(ErrorKind::Configuration, "bench", text).into());
        }
        settings.insert(name, value);
    }
    let options = Options { runs: arguments.runs, corpus: arguments.corpus.as_deref(), pin: arguments.pin };
    let report = measure(name, &profile, settings, &options)?;
    match arguments.output {
        Output::Table => data(&report.table())?,
        Output::Json => {
            let json = serde_json::to_string_pretty(&report);
            data(&(json.map_err(|error| Error::new(ErrorKind::Unexpected, "write the report", "failed").because(error))? + "\n"))?;
        }
    }
    check(&report, &profile)?;
    let worse = baseline.map(|baseline| report.worse_than(&baseline)).unwrap_or_default();
    worse.iter().for_each(|line| message(&format!("worse: {line}")));
    if worse.is_empty() {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::Limit, "compare", format!("{} figures are worse", worse.len())).into())
    }
}

/// How often and with what is measured.
pub(in crate::cli) struct Options<'a> {
    pub(in crate::cli) runs: u32,
    pub(in crate::cli) corpus: Option<&'a Path>,
    pub(in crate::cli) pin: bool,
}

/// Runs a profile some times.
pub(in crate::cli) fn measure(
    name: &str,
    profile: &Profile,
    settings: BTreeMap<String, String>,
    options: &Options<'_>,
) -> Result<Report, Failure> {
    let machine = machine();
    let work_dir = std::env::temp_dir();
    let mut runs = Vec::new();
    for number in 1..=options.runs {
        let setup = Setup { profile, settings: &settings, corpus: options.corpus, pin: options.pin, work_dir: &work_dir };
        let run = run_once(&setup)?;
        let figures = format!("{:.2} CPU s per million events, {:.0} events/s", run.cpu_s_per_million, run.events_per_s);
        message(&format!("{name}: run {number} of {}: {figures}", options.runs));
        runs.push(run);
    }
    let mut time = Vec::new();
    clock::write_rfc3339(clock::now_ms(), &mut time);
    Ok(Report {
        profile: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: String::from_utf8_lossy(&time).into_owned(),
        machine,
        pinned: options.pin,
        settings,
        median: Run::median(&runs),
        runs,
    })
}

/// Whether everything arrived exactly once.
fn check(report: &Report, profile: &Profile) -> Result<(), Error> {
    for (number, run) in report.runs.iter().enumerate() {
        let (lost, twice) = run.lost_and_twice();
        let broken: u64 = run.points.values().map(|point| point.broken_requests).sum();
        let lost = if profile.load.transport == Transport::Udp { 0 } else { lost };
        if lost + twice + broken > 0 {
            let text = format!("{lost} events lost, {twice} arrived twice, {broken} requests broken");
            return Err(Error::new(ErrorKind::Unexpected, "count", text).with("run", number + 1));
        }
    }
    Ok(())
}

fn read_report(file: &Path) -> Result<Report, Error> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Configuration, "read the baseline", "it is no report of `hydrant bench --output json`")
            .with("file", file.display())
            .because(error)
    };
    let text = std::fs::read_to_string(file).map_err(failed)?;
    serde_json::from_str(&text).map_err(|error| failed(error.into()))
}

/// What stands on stdout.
pub(in crate::cli) fn data(text: &str) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::new(ErrorKind::Storage, "write the result", "stdout is closed").because(error);
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(failed)
}

/// The machine in one line.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map_or("unknown", |(_, name)| name.trim());
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    format!("{model}, {cores} cores, Linux {}, load {load} before", read("/proc/sys/kernel/osrelease").trim())
}
