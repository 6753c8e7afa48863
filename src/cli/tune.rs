//! `hydrant tune`: finds the settings with which a profile needs the least CPU time, and writes them down.
//!
//! In: a profile with settings. Each setting's values are tried one after the other with the best of the others
//! (coordinate descent), until a round over all settings changes nothing. A value wins only if it is better by
//! [`GAIN_MIN`] and nothing is lost. Out: the configuration with the winning values, every measurement as
//! comments in front.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::cli::bench::{self, Options, Profile, Report};
use crate::cli::{Failure, message};
use crate::error::{Error, ErrorKind};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Name of a built-in profile, or a file.
    #[arg(long)]
    profile: String,
    /// Where the winning configuration is written; stdout without.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Runs of each candidate; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Events of one run, instead of the profile's number.
    #[arg(long)]
    events: Option<u64>,
    /// Hydrant on core 0, everything else on core 1.
    #[arg(long)]
    pin: bool,
    /// What is to become least.
    #[arg(long, value_enum, default_value = "cpu")]
    goal: Goal,
}

/// What is to become least.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Goal {
    /// CPU seconds per million events.
    Cpu,
    /// Seconds per million events.
    Time,
    /// Bytes sent to the destinations.
    Bytes,
}

/// A candidate has to be this much better: differences below it are noise, and the profile's own values are tried
/// and understood.
const GAIN_MIN: f64 = 0.03;

/// Rounds over all settings; the second one rarely changes anything.
const ROUNDS_MAX: usize = 3;

impl Goal {
    fn of(self, report: &Report) -> f64 {
        let run = &report.median;
        match self {
            Self::Cpu => run.cpu_s_per_million,
            Self::Time => 1e6 / run.events_per_s.max(f64::MIN_POSITIVE),
            Self::Bytes => run.points.values().map(|point| point.wire_bytes as f64).sum(),
        }
    }
}

type Settings = BTreeMap<String, String>;

struct Search<'a> {
    arguments: &'a Arguments,
    profile: Profile,
    /// Every candidate that was measured, in order.
    measured: Vec<(Settings, Report)>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut profile = Profile::load(&arguments.profile)?;
    profile.load.events = arguments.events.unwrap_or(profile.load.events).max(1);
    if profile.settings.values().all(|values| values.len() < 2) {
        return Err(Error::new(ErrorKind::Configuration, "tune", "the profile has no setting with several values").into());
    }
    let mut search = Search { arguments, profile, measured: Vec::new() };
    let best = search.search()?;
    let text = search.render(&best);
    match &arguments.out {
        None => bench::data(&text)?,
        Some(path) => std::fs::write(path, text)
            .map_err(|error| Error::new(ErrorKind::Storage, "write the settings", "failed").with("file", path.display()).because(error))?,
    }
    Ok(())
}

impl Search<'_> {
    fn search(&mut self) -> Result<Settings, Failure> {
        let mut best = self.profile.defaults();
        let mut least = self.measure(&best)?.ok_or_else(|| Error::new(ErrorKind::Unexpected, "tune", "the profile itself loses events"))?;
        for _ in 0..ROUNDS_MAX {
            let mut changed = false;
            for (name, values) in self.profile.settings.clone() {
                for value in values {
                    let candidate = Settings::from_iter(best.clone().into_iter().chain([(name.clone(), value)]));
                    if self.measured.iter().any(|(settings, _)| *settings == candidate) {
                        continue;
                    }
                    if let Some(found) = self.measure(&candidate)?.filter(|found| *found < least * (1.0 - GAIN_MIN)) {
                        (best, least, changed) = (candidate, found, true);
                    }
                }
            }
            if !changed {
                break;
            }
        }
        Ok(best)
    }

    /// What the goal amounts to with these settings; nothing if events were lost.
    fn measure(&mut self, settings: &Settings) -> Result<Option<f64>, Failure> {
        let options = Options { runs: self.arguments.runs, corpus: None, pin: self.arguments.pin };
        let words: Vec<String> = settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        message(&format!("trying {}", words.join(", ")));
        let report = bench::measure(&self.arguments.profile, &self.profile, settings.clone(), &options)?;
        let is_whole = report.runs.iter().all(|run| run.lost_and_twice() == (0, 0));
        let value = self.arguments.goal.of(&report);
        self.measured.push((settings.clone(), report));
        Ok(is_whole.then_some(value))
    }

    /// The configuration with the measurements in front.
    fn render(&self, best: &Settings) -> String {
        let mut out = format!("# Written by `hydrant tune --profile {}`: {}\n", self.arguments.profile, self.profile.about);
        if let Some((_, report)) = self.measured.first() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# {}\n# {}, {} runs each; the winner is marked.", report.time, report.machine, report.runs.len());
        }
        let _ = writeln!(out, "#   {:>9} {:>10} {:>9} {:>8} {:>6}  settings", "CPU s/M", "events/s", "sent MB", "RSS MB", "lost");
        for (settings, report) in &self.measured {
            let run = &report.median;
            let words: Vec<String> = settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let mark = if settings == best { '*' } else { ' ' };
            let bytes: u64 = run.points.values().map(|point| point.wire_bytes).sum();
            let lost = report.runs.iter().map(|run| run.lost_and_twice().0).max().unwrap_or(0);
            let (cpu, rate, rss) = (run.cpu_s_per_million, run.events_per_s, run.peak_rss_mb);
            let _ =
                writeln!(out, "# {mark} {cpu:>9.2} {rate:>10.0} {:>9.1} {rss:>8.1} {lost:>6}  {}", bytes as f64 / 1e6, words.join(", "));
        }
        out.push_str("# Addresses between @ are to be filled in.\n\n");
        out + &self.profile.config(best)
    }
}
