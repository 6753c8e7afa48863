//! `hydrant backtest`: what rules would have found in events of the past.
//!
//! Each event goes through its decoder and all rules, correlations included: hits per rule and day (UTC, by the event's own
//! time), hits in a million events, samples. With `--against`, older rules go over the same events, and what differs is told:
//! rules and correlations that are new, gone or changed, and the hits that only one of the two has.
//!
//! `rule` and `correlation` alert; a `base` is a rule that only correlations count. Hits of a rule here are its matches:
//! deduplication, silences and shadow mode belong to a configuration. So do transforms and enrichments, which events pass if
//! they are said to be those of a source (`--config`, `--source`).
//!
//! What is held does not grow with the input, but for alerts of correlations that only one of two versions has. Hits that
//! correlations count wait for the end, so that the order of files does not matter; beyond 32 MB of them time goes on an hour
//! behind the newest event, and what comes later than that is told.

mod report;
mod side;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::cli::past::Past;
use crate::cli::preparing::Preparing;
use crate::cli::source::OfSource;
use crate::cli::{Failure, Output};
use crate::detect::Rules;
use crate::detect::correlate::Fired;
use crate::error::{Diagnostic, Diagnostics};
use crate::event::{Chunk, fingerprint};
use crate::pipeline::offline::{Fill, Offline};
use side::{Sample, Side};

/// Samples of each kind of difference, at least: a difference that cannot be looked at helps nobody.
const DIFFERENCE_SAMPLES: usize = 3;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Files of raw lines, of rows that the sink `aws_s3` wrote as NDJSON, or Parquet; folders of them; `s3://bucket/prefix`;
    /// `-` is stdin.
    #[arg(required = true)]
    inputs: Vec<String>,
    /// Rule files and folders.
    #[arg(long, required_unless_present = "source", num_args = 1)]
    rules: Vec<PathBuf>,
    /// Rule files and folders to compare with, such as the version before.
    #[arg(long, num_args = 1)]
    against: Vec<PathBuf>,
    #[command(flatten)]
    preparing: Preparing,
    /// The format of the lines; `auto` looks at each.
    #[arg(long, default_value = "auto", value_parser = crate::cli::input::decoder, conflicts_with = "source")]
    decoder: String,
    #[command(flatten)]
    of: OfSource,
    /// Events to show for each rule.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=100))]
    samples: u8,
    /// Exit code 1 if any rule or correlation has more hits than this on any day.
    #[arg(long, value_name = "HITS")]
    fail_above: Option<u64>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// What only one of two versions has found of one rule.
#[derive(Default)]
struct Difference {
    gained: u64,
    lost: u64,
    gained_samples: Vec<Sample>,
    lost_samples: Vec<Sample>,
}

/// New rules, and older ones to compare them with.
struct Comparison<'a> {
    new: Side<'a>,
    old: Option<Side<'a>>,
    /// By id of the rule.
    differences: BTreeMap<String, Difference>,
    /// Alerts of correlations that only one side has found so far: by their own hash, whether it is the new one, and the
    /// index of the correlation there.
    open: HashMap<u64, (bool, u32, Fired)>,
    samples: usize,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (rules, offline) = load(arguments, &arguments.rules)?;
    let older = if arguments.against.is_empty() { None } else { Some(load(arguments, &arguments.against)?) };
    let (older, offline_of_older) = older.unzip();
    let samples = usize::from(arguments.samples);
    let mut comparison = Comparison {
        new: Side::new(&rules, offline, samples),
        old: older.as_ref().zip(offline_of_older).map(|(older, offline)| Side::new(older, offline, 0)),
        differences: BTreeMap::new(),
        open: HashMap::new(),
        samples: samples.max(DIFFERENCE_SAMPLES),
    };
    let past = Past { places: &arguments.inputs, config: arguments.of.config.as_deref() };
    let seen = past.chunks(|chunk| {
        comparison.take(&chunk);
        Ok(())
    })?;
    comparison.finish();
    report::show(&comparison, &seen, arguments.output, arguments.fail_above)
}

fn load(arguments: &Arguments, paths: &[PathBuf]) -> Result<(Rules, Offline), Failure> {
    let Arguments { of, preparing, decoder, .. } = arguments;
    let (rules, offline) = of.load(paths, preparing, decoder, Fill::Rules)?;
    if rules.rules.is_empty() {
        let file = paths.first().map_or_else(|| Path::new("--rules"), PathBuf::as_path);
        return Err(Diagnostics::from(Diagnostic::error(file, 0, 0, "", "there is no rule here")).into());
    }
    Ok((rules, offline))
}

impl Comparison<'_> {
    fn take(&mut self, chunk: &Chunk) {
        let new = self.new.take(chunk);
        let old = self.old.as_mut().map(|old| old.take(chunk).hits);
        // Both are in the order of rows; of a row, by id.
        let (mut a, mut b) = (new.hits.iter().peekable(), old.iter().flatten().peekable());
        while old.is_some() {
            let (row, id, is_gained) = match (a.peek(), b.peek()) {
                (Some(x), Some(y)) if x == y => {
                    a.next();
                    b.next();
                    continue;
                }
                (Some(x), y) if y.is_none_or(|y| *x < *y) => (x.0, x.1, true),
                (_, Some(y)) => (y.0, y.1, false),
                (_, None) => break,
            };
            if is_gained {
                a.next()
            } else {
                b.next()
            };
            add(&mut self.differences, self.samples, id, is_gained, || Sample::event(chunk, row, &new.rows));
        }
        self.alerts(false);
    }

    fn finish(&mut self) {
        self.alerts(true);
        for (is_gained, index, fired) in std::mem::take(&mut self.open).into_values() {
            let side = if is_gained { Some(&self.new) } else { self.old.as_ref() };
            let Some(linked) = side.and_then(|side| side.linked(index)) else { continue };
            add(&mut self.differences, self.samples, &linked.correlation.id, is_gained, || Sample::found(linked, &fired));
        }
    }

    /// Takes what correlations have found; at the end that is all of it.
    fn alerts(&mut self, is_end: bool) {
        let found = self.new.alerts(is_end);
        let Some(old) = &mut self.old else { return };
        for (is_gained, found) in [(true, found), (false, old.alerts(is_end))] {
            let side = if is_gained { &self.new } else { &*old };
            for (index, fired) in found {
                let Some(linked) = side.linked(index) else { continue };
                match self.open.entry(name(&linked.correlation.id, &fired)) {
                    Entry::Occupied(other) if other.get().0 != is_gained => _ = other.remove(),
                    Entry::Occupied(_) => {}
                    Entry::Vacant(free) => _ = free.insert((is_gained, index, fired)),
                }
            }
        }
    }
}

/// The same for the same alert of two versions.
fn name(id: &str, fired: &Fired) -> u64 {
    let mut bytes = id.as_bytes().to_vec();
    bytes.push(0);
    bytes.extend_from_slice(&fired.key);
    bytes.extend_from_slice(&fired.time_ms.to_be_bytes());
    fingerprint(&bytes)
}

fn add(differences: &mut BTreeMap<String, Difference>, samples: usize, id: &str, is_gained: bool, sample: impl FnOnce() -> Sample) {
    if !differences.contains_key(id) {
        differences.insert(id.to_owned(), Difference::default());
    }
    let Some(difference) = differences.get_mut(id) else { return };
    let (count, kept) = match is_gained {
        true => (&mut difference.gained, &mut difference.gained_samples),
        false => (&mut difference.lost, &mut difference.lost_samples),
    };
    *count += 1;
    if kept.len() < samples {
        kept.push(sample());
    }
}
