//! `hydrant retro-hunt`: which events of the past hold any of some indicators.
//!
//! Indicators are addresses, networks, domains (with all names below them), links, hashes and e-mail addresses, from the lists
//! that a `threat_list` reads; one that has an end counts for events before it. Each event's raw line is cut into words, once,
//! and each word is looked up ([`index`]): the cost does not depend on the number of indicators, nothing has to be decoded, and
//! what stands inside a field that no decoder knows is found as well. Only events that hold something are decoded: for their
//! time, and to say which fields hold it.
//!
//! Told are events per indicator and day (UTC), first and last, and samples. What was encoded when it was logged (base64,
//! percent signs) is not found; JSON escapes are resolved.

mod index;
mod list;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use crate::cli::past::{Past, Seen};
use crate::cli::source::OfSource;
use crate::cli::{Failure, Output, message, print, print_json, table};
use crate::clock;
use crate::event::{Chunk, Span};
use crate::pipeline::offline::{Examined, Offline};
use index::{Index, Words};
use list::Lists;

/// Days of all indicators that are counted apart; of forged times the rest is one number.
const DAYS_MAX: usize = 1_000_000;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Bytes of an event that a sample keeps.
const SAMPLE_BYTES_MAX: usize = 2_048;

/// Characters of a sample in a table.
const SAMPLE_SHOWN_MAX: usize = 300;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Files of raw lines, of rows that the sink `aws_s3` wrote as NDJSON, or Parquet; folders of them; `s3://bucket/prefix`; a data
    /// folder, for its journal; `-` is stdin.
    #[arg(required = true)]
    inputs: Vec<String>,
    #[command(flatten)]
    lists: Lists,
    /// The format of the lines; `auto` looks at each.
    #[arg(long, default_value = "auto", value_parser = crate::cli::input::decoder, conflicts_with = "source")]
    decoder: String,
    #[command(flatten)]
    of: OfSource,
    /// Events to show for each indicator.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=100))]
    samples: u8,
    /// How the result is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// An event that holds an indicator.
struct Sample {
    time_ms: i64,
    decoder: Option<&'static str>,
    /// Fields whose value holds it.
    fields: Vec<String>,
    raw: String,
}

/// What was found of one indicator.
struct Count {
    events: u64,
    /// By day since 1970.
    days: BTreeMap<i64, u64>,
    other_days: u64,
    first_ms: i64,
    last_ms: i64,
    samples: Vec<Sample>,
}

/// The hunt so far.
struct Hunt<'a> {
    index: &'a Index,
    words: Words,
    offline: Offline,
    counts: BTreeMap<u32, Count>,
    days: usize,
    samples: usize,
    events: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut index = Index::default();
    arguments.lists.read(&mut index)?;
    message(&format!("{} indicators", index.len()));
    let mut hunt = Hunt {
        index: &index,
        words: Words::default(),
        offline: arguments.of.stages(&arguments.decoder)?,
        counts: BTreeMap::new(),
        days: 0,
        samples: usize::from(arguments.samples),
        events: 0,
    };
    let past = Past { places: &arguments.inputs, config: arguments.of.config.as_deref() };
    let seen = past.chunks(|chunk| hunt.take(&chunk))?;
    match arguments.output {
        Output::Json => print_json(&hunt.json(&seen))?,
        Output::Table => print(hunt.text().as_bytes())?,
    }
    message(&format!("{} indicators in {} events", hunt.counts.len(), hunt.events));
    seen.tell()
}

impl Hunt<'_> {
    fn take(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        let (mut bytes, mut spans, mut times, mut found) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for frame in 0..chunk.frames().len() {
            let raw = chunk.frame(frame);
            let ids = self.words.find(raw, self.index);
            if ids.is_empty() {
                continue;
            }
            found.push(ids.to_vec());
            let known = chunk.times().partition_point(|(first, _)| *first as usize <= frame);
            let time_ms = known.checked_sub(1).and_then(|at| chunk.times().get(at)).and_then(|(_, time_ms)| *time_ms);
            times.push((spans.len() as u32, time_ms));
            spans.push(Span::new(bytes.len(), bytes.len() + raw.len()));
            bytes.extend_from_slice(raw);
        }
        if found.is_empty() {
            return Ok(());
        }
        let holding = Chunk::new(bytes, spans, chunk.sender.clone(), chunk.received_ms).with_times(times);
        let Self { index, words, offline, counts, days, samples, events } = self;
        let mut rows = found.iter();
        offline.examine(&holding, |examined| {
            let mut holds = false;
            let in_time = |id: &&u32| index.counts(**id, examined.event.time_ms);
            for id in rows.next().into_iter().flatten().filter(in_time) {
                holds = true;
                let count = counts.entry(*id).or_insert_with(Count::new);
                count.add(examined.event.time_ms, days);
                if count.samples.len() < *samples {
                    count.samples.push(Sample::new(&examined, *id, words, index));
                }
            }
            *events += u64::from(holds);
            Ok::<_, Failure>(())
        })
    }

    fn json(&self, seen: &Seen) -> Json {
        let indicators: Vec<Json> = self
            .counts
            .iter()
            .map(|(id, count)| {
                let mut days: Map<String, Json> = count.days.iter().map(|(day, events)| (day_text(*day), (*events).into())).collect();
                if count.other_days > 0 {
                    days.insert("other".to_owned(), count.other_days.into());
                }
                let (kind, text) = self.index.name(*id);
                json!({
                    "indicator": text, "kind": kind, "events": count.events, "first": time_text(count.first_ms),
                    "last": time_text(count.last_ms), "days": days,
                    "samples": count.samples.iter().map(Sample::json).collect::<Vec<Json>>(),
                })
            })
            .collect();
        json!({ "input": seen.json(), "indicators": self.index.len(), "events": self.events, "found": indicators })
    }

    fn text(&self) -> String {
        let mut found: Vec<(&u32, &Count)> = self.counts.iter().collect();
        found.sort_by_key(|(_, count)| std::cmp::Reverse(count.events));
        let row = |(id, count): &(&u32, &Count)| {
            let (kind, text) = self.index.name(**id);
            let (first, last) = (time_text(count.first_ms), time_text(count.last_ms));
            vec![count.events.to_string(), count.days.len().to_string(), first, last, kind.to_owned(), text.to_owned()]
        };
        let mut out = table::render(&["EVENTS", "DAYS", "FIRST", "LAST", "KIND", "INDICATOR"], &found.iter().map(row).collect::<Vec<_>>());
        for (id, count) in found.iter().filter(|(_, count)| !count.samples.is_empty()) {
            out.push_str(&format!("\n{}:\n", self.index.name(**id).1));
            for Sample { time_ms, fields, raw, .. } in &count.samples {
                let shown: String = raw.chars().take(SAMPLE_SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
                let cut = if shown.len() < raw.len() { "..." } else { "" };
                let fields = if fields.is_empty() { String::new() } else { format!(" [{}]", fields.join(", ")) };
                out.push_str(&format!("  {}{fields} {shown}{cut}\n", time_text(*time_ms)));
            }
        }
        out
    }
}

impl Count {
    fn new() -> Self {
        Self { events: 0, days: BTreeMap::new(), other_days: 0, first_ms: i64::MAX, last_ms: i64::MIN, samples: Vec::new() }
    }

    /// Counts an event; `days` is the number of days of all indicators.
    fn add(&mut self, time_ms: i64, days: &mut usize) {
        self.events += 1;
        (self.first_ms, self.last_ms) = (self.first_ms.min(time_ms), self.last_ms.max(time_ms));
        let day = time_ms.div_euclid(DAY_MS);
        match self.days.get_mut(&day) {
            Some(count) => *count += 1,
            None if *days < DAYS_MAX => {
                *days += 1;
                self.days.insert(day, 1);
            }
            None => self.other_days += 1,
        }
    }
}

impl Sample {
    fn new(examined: &Examined<'_>, id: u32, words: &mut Words, index: &Index) -> Self {
        let raw = examined.event.raw();
        let mut fields = BTreeSet::new();
        let mut text = Vec::new();
        for (name, value) in examined.fields() {
            text.clear();
            crate::encode::template::write_value(value, &mut text);
            if words.find(&text, index).contains(&id) {
                fields.insert(name.to_owned());
            }
        }
        Self {
            time_ms: examined.event.time_ms,
            decoder: examined.decoder(),
            fields: fields.into_iter().collect(),
            raw: String::from_utf8_lossy(raw.get(..SAMPLE_BYTES_MAX).unwrap_or(raw)).into_owned(),
        }
    }

    fn json(&self) -> Json {
        json!({ "time": time_text(self.time_ms), "decoder": self.decoder, "fields": self.fields, "raw": self.raw })
    }
}

fn day_text(day: i64) -> String {
    time_text(day.saturating_mul(DAY_MS)).chars().take_while(|c| *c != 'T').collect()
}

fn time_text(time_ms: i64) -> String {
    let mut text = Vec::new();
    clock::write_rfc3339(time_ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
