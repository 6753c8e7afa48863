//! What a benchmark says: one [`Report`], as a table for people or as JSON, and its comparison with another.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The runs of one profile.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(in crate::cli) struct Report {
    /// Name of the profile.
    pub(in crate::cli) profile: String,
    /// Version of Hydrant.
    pub(in crate::cli) version: String,
    /// When it was made, RFC 3339.
    pub(in crate::cli) time: String,
    /// Processor, number of cores, kernel, load before the first run.
    pub(in crate::cli) machine: String,
    /// Whether Hydrant had core 0 for itself.
    pub(in crate::cli) pinned: bool,
    /// The settings used.
    pub(in crate::cli) settings: BTreeMap<String, String>,
    /// For each figure the median of the runs.
    pub(in crate::cli) median: Run,
    /// The runs.
    pub(in crate::cli) runs: Vec<Run>,
}

/// One run.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(in crate::cli) struct Run {
    /// Events and their bytes, without framing.
    pub(in crate::cli) sent: u64,
    pub(in crate::cli) sent_bytes: u64,
    /// Events that Hydrant received.
    pub(in crate::cli) received: u64,
    /// Datagrams that the kernel dropped.
    pub(in crate::cli) kernel_drops: u64,
    pub(in crate::cli) dead_letters: u64,
    pub(in crate::cli) retries: u64,
    /// From the first byte sent to the last event arrived.
    pub(in crate::cli) seconds: f64,
    pub(in crate::cli) events_per_s: f64,
    /// Millions of bytes of events a second, without framing.
    pub(in crate::cli) mb_per_s: f64,
    /// CPU seconds of the process for a million events received; the same as microseconds an event.
    pub(in crate::cli) cpu_s_per_million: f64,
    pub(in crate::cli) cpu_user_s_per_million: f64,
    pub(in crate::cli) cpu_system_s_per_million: f64,
    /// The same by stage; `io` is what the stages do not account for: sockets, framing, delivery, runtime.
    pub(in crate::cli) stages_s_per_million: BTreeMap<String, f64>,
    /// Most memory, in millions of bytes.
    pub(in crate::cli) peak_rss_mb: f64,
    /// From sending to arrival.
    pub(in crate::cli) latency: Latency,
    /// By arrival point.
    pub(in crate::cli) points: BTreeMap<String, Point>,
}

/// Time from the sender's write to the destination's read of the request.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(in crate::cli) struct Latency {
    pub(in crate::cli) p50_ms: f64,
    pub(in crate::cli) p99_ms: f64,
    pub(in crate::cli) samples: u64,
}

impl Latency {
    /// Sorts the samples.
    pub(super) fn of(samples_ns: &mut [u64]) -> Self {
        samples_ns.sort_unstable();
        let at = |share: f64| {
            let index = ((samples_ns.len() as f64 * share) as usize).min(samples_ns.len().saturating_sub(1));
            samples_ns.get(index).map_or(0.0, |ns| *ns as f64 / 1e6)
        };
        Self { p50_ms: at(0.5), p99_ms: at(0.99), samples: samples_ns.len() as u64 }
    }
}

/// What arrived at one point.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(in crate::cli) struct Point {
    pub(in crate::cli) expected: u64,
    pub(in crate::cli) arrived: u64,
    pub(in crate::cli) alerts: u64,
    pub(in crate::cli) wire_bytes: u64,
    pub(in crate::cli) plain_bytes: u64,
    pub(in crate::cli) broken_requests: u64,
}

impl Point {
    fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.arrived)
    }

    fn twice(&self) -> u64 {
        self.arrived.saturating_sub(self.expected)
    }
}

impl Run {
    /// Events that did not arrive, and those that arrived once too often, over all points.
    pub(in crate::cli) fn lost_and_twice(&self) -> (u64, u64) {
        (self.points.values().map(Point::lost).sum(), self.points.values().map(Point::twice).sum())
    }

    /// Figure by figure the median; counts of the run whose CPU time is the median.
    pub(in crate::cli) fn median(runs: &[Self]) -> Self {
        let of = |figure: &dyn Fn(&Self) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            match values.len() % 2 {
                _ if values.is_empty() => 0.0,
                0 => (values[middle - 1] + values[middle]) / 2.0,
                _ => values[middle],
            }
        };
        let mut by_cpu: Vec<&Self> = runs.iter().collect();
        by_cpu.sort_by(|a, b| a.cpu_s_per_million.total_cmp(&b.cpu_s_per_million));
        let Some(middle) = by_cpu.get(by_cpu.len() / 2) else { return Self::default() };
        let stage = |name: &String| of(&|run| run.stages_s_per_million.get(name).copied().unwrap_or(0.0));
        Self {
            seconds: of(&|run| run.seconds),
            events_per_s: of(&|run| run.events_per_s),
            mb_per_s: of(&|run| run.mb_per_s),
            cpu_s_per_million: of(&|run| run.cpu_s_per_million),
            cpu_user_s_per_million: of(&|run| run.cpu_user_s_per_million),
            cpu_system_s_per_million: of(&|run| run.cpu_system_s_per_million),
            stages_s_per_million: middle.stages_s_per_million.keys().map(|name| (name.clone(), stage(name))).collect(),
            peak_rss_mb: of(&|run| run.peak_rss_mb),
            latency: Latency {
                p50_ms: of(&|run| run.latency.p50_ms),
                p99_ms: of(&|run| run.latency.p99_ms),
                samples: middle.latency.samples,
            },
            ..(*middle).clone()
        }
    }
}

/// A figure of two reports is worse if it is worse by more than this share: runs on a shared machine differ by 5
/// to 20 %.
const TOLERANCE: f64 = 0.1;

/// A latency or a share of memory below this is noise.
const LATENCY_NOISE_MS: f64 = 5.0;

impl Report {
    /// A table for people.
    pub(in crate::cli) fn table(&self) -> String {
        let mut out = String::new();
        let settings: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let pinned = if self.pinned { ", pinned" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}{pinned}, {} runs, {}", self.profile, self.runs.len(), settings.join(", "));
        let _ = writeln!(
            out,
            "{:<8} {:>9} {:>8} {:>9} {:>14} {:>8} {:>8} {:>8} {:>8} {:>7}",
            "", "events/s", "MB/s", "CPU s/M", "user/system", "RSS MB", "p50 ms", "p99 ms", "lost", "twice"
        );
        let numbered = self.runs.iter().enumerate().map(|(index, run)| (format!("run {}", index + 1), run));
        for (name, run) in numbered.chain([("median".to_owned(), &self.median)]) {
            let (lost, twice) = run.lost_and_twice();
            let split = format!("{:.2}/{:.2}", run.cpu_user_s_per_million, run.cpu_system_s_per_million);
            let _ = writeln!(
                out,
                "{name:<8} {:>9.0} {:>8.1} {:>9.2} {split:>14} {:>8.1} {:>8.1} {:>8.1} {lost:>8} {twice:>7}",
                run.events_per_s, run.mb_per_s, run.cpu_s_per_million, run.peak_rss_mb, run.latency.p50_ms, run.latency.p99_ms
            );
        }
        let stages: Vec<String> = self.median.stages_s_per_million.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
        let _ = writeln!(out, "CPU s/M by stage: {}", stages.join(", "));
        for (name, point) in &self.median.points {
            let ratio = point.plain_bytes as f64 / point.wire_bytes.max(1) as f64;
            let _ = write!(out, "{name}: {} of {} events, {} alerts", point.arrived, point.expected, point.alerts);
            if point.wire_bytes > 0 {
                let _ = write!(out, ", {:.1} MB, compressed {ratio:.1}:1", point.wire_bytes as f64 / 1e6);
            }
            out.push('\n');
        }
        let run = &self.median;
        let _ = writeln!(
            out,
            "sent {}, received {}, kernel drops {}, dead letters {}, retries {}",
            run.sent, run.received, run.kernel_drops, run.dead_letters, run.retries
        );
        out
    }

    /// What is worse than in `baseline`, in words; empty if nothing is.
    pub(in crate::cli) fn worse_than(&self, baseline: &Self) -> Vec<String> {
        let (now, before) = (&self.median, &baseline.median);
        let mut found = Vec::new();
        let mut compare = |name: &str, now: f64, before: f64, noise: f64| {
            if now > before * (1.0 + TOLERANCE) && now - before > noise {
                found.push(format!("{name}: {before:.2} -> {now:.2} ({:+.0} %)", (now / before.max(f64::MIN_POSITIVE) - 1.0) * 100.0));
            }
        };
        compare("CPU seconds per million events", now.cpu_s_per_million, before.cpu_s_per_million, 0.0);
        for (stage, value) in &now.stages_s_per_million {
            let before = before.stages_s_per_million.get(stage).copied().unwrap_or(0.0);
            compare(&format!("CPU seconds per million events in {stage}"), *value, before, 0.02);
        }
        compare("seconds per million events", 1e6 / now.events_per_s, 1e6 / before.events_per_s, 0.0);
        compare("peak RSS in MB", now.peak_rss_mb, before.peak_rss_mb, 2.0);
        compare("p50 latency in ms", now.latency.p50_ms, before.latency.p50_ms, LATENCY_NOISE_MS);
        compare("p99 latency in ms", now.latency.p99_ms, before.latency.p99_ms, LATENCY_NOISE_MS);
        let most =
            |report: &Self| report.runs.iter().map(Run::lost_and_twice).fold((0, 0), |most, run| (most.0.max(run.0), most.1.max(run.1)));
        let ((lost, twice), (lost_before, twice_before)) = (most(self), most(baseline));
        compare("events lost", lost as f64, lost_before as f64, 0.0);
        compare("events that arrived twice", twice as f64, twice_before as f64, 0.0);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cpu: &[f64], lost: u64) -> Report {
        let point = Point { expected: 10, arrived: 10 - lost, ..Point::default() };
        let run = |cpu: &f64| Run {
            cpu_s_per_million: *cpu,
            events_per_s: 1e6 / cpu,
            points: [("out".to_owned(), point.clone())].into(),
            ..Run::default()
        };
        let runs: Vec<Run> = cpu.iter().map(run).collect();
        Report {
            profile: "w".into(),
            version: "0".into(),
            time: String::new(),
            machine: String::new(),
            pinned: true,
            settings: BTreeMap::new(),
            median: Run::median(&runs),
            runs,
        }
    }

    #[test]
    fn medians_are_taken_figure_by_figure() {
        assert_eq!(report(&[3.0, 1.0, 2.0], 0).median.cpu_s_per_million, 2.0);
        assert_eq!(report(&[3.0, 1.0], 0).median.cpu_s_per_million, 2.0);
        let mut samples: Vec<u64> = (1..=100).rev().map(|ms| ms * 1_000_000).collect();
        let latency = Latency::of(&mut samples);
        assert_eq!((latency.p50_ms, latency.p99_ms, latency.samples), (51.0, 100.0, 100));
    }

    #[test]
    fn worse_is_named_and_noise_is_not() {
        let before = report(&[2.0, 2.0, 2.1], 0);
        assert!(report(&[2.1, 2.1, 2.1], 0).worse_than(&before).is_empty());
        let worse = report(&[4.0], 1).worse_than(&before);
        assert!(worse.iter().any(|line| line.starts_with("CPU seconds per million events: 2.00 -> 4.00 (+100 %)")), "{worse:?}");
        assert!(worse.iter().any(|line| line.starts_with("events lost")), "{worse:?}");
    }

    #[test]
    fn a_report_is_read_back_from_its_json() {
        let before = report(&[2.0], 0);
        let json = serde_json::to_string(&before).unwrap();
        let read: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(read.median.points, before.median.points);
        assert!(read.table().contains("median"));
    }
}
