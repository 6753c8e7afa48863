//! `hydrant rules cost`: what each rule takes of the CPU.
//!
//! On events of the past: every event is measured, on the matcher of a run, with the clock of the thread, and what the clock
//! takes is taken off. Of a running node (`--admin`): what it has measured since its start, on one event in 509. Told for a rule:
//!
//! | | |
//! |---|---|
//! | ns an event | CPU time for each event of its log source; of a node for each event that came, whatever it was |
//! | share | of all detection |
//! | looked at | how often the index let it be looked at, in a million events of its log source; a node does not tell |
//! | hits | in as many |
//!
//! What rules share (passes over the fields of every event, the index) belongs to none of them. Decoding, transforms,
//! enrichments, correlations, and what becomes of a hit are not in it.

use std::collections::HashMap;
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::cli::input::decoder;
use crate::cli::past::{Past, Seen};
use crate::cli::preparing::Preparing;
use crate::cli::source::OfSource;
use crate::cli::{Failure, Output, instance, message, print, print_json, table};
use crate::pipeline::offline::Fill;

/// Rules that a table shows.
const SHOWN: usize = 40;

/// With fewer events the figures are rough: what is done for the first time costs more.
const EVENTS_ENOUGH: u64 = 20_000;

/// Bytes of a node's answer: some hundred for each rule.
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[derive(Args)]
pub(super) struct Arguments {
    /// Rule files and folders.
    #[arg(required_unless_present_any = ["source", "admin"])]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    preparing: Preparing,
    #[command(flatten)]
    of: OfSource,
    /// Where events are: a file, a folder, `s3://bucket/prefix`, a data folder, `-` for stdin; may be given more than once.
    #[arg(long, required_unless_present = "admin", num_args = 1)]
    from: Vec<String>,
    /// The format of the lines; `auto` looks at each.
    #[arg(long, default_value = "auto", value_parser = decoder, conflicts_with = "source")]
    decoder: String,
    /// Ask the running node whose admin API has this address.
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["paths", "from", "decoder", "config", "placeholders", "pipelines"])]
    admin: Option<String>,
    /// Only so many rules, the dearest; otherwise 40 in a table and all in JSON.
    #[arg(long)]
    top: Option<usize>,
    /// How it is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// What one rule has taken.
struct Item {
    id: String,
    title: String,
    ns: u64,
    /// Of its log source, or that a node received.
    events: u64,
    /// How often it was looked at.
    looks: Option<u64>,
    hits: u64,
    /// Of a node.
    is_quarantined: Option<bool>,
}

/// What all rules have taken.
struct Bill {
    /// That rules are held against, or that a node received.
    events: u64,
    shared_ns: u64,
    /// The dearest first.
    items: Vec<Item>,
}

/// What a node answers.
#[derive(Deserialize)]
struct Answer {
    events: u64,
    shared_cpu_ns: u64,
    rules: Vec<AnsweredRule>,
}

#[derive(Deserialize)]
struct AnsweredRule {
    rule_id: String,
    title: String,
    cpu_ns: u64,
    hits: u64,
    quarantined: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Some(address) = &arguments.admin else {
        let (bill, seen) = measured(arguments)?;
        bill.show(arguments, Some(&seen))?;
        if bill.events < EVENTS_ENOUGH {
            message(&format!("{} events are few: the figures are rough below {EVENTS_ENOUGH}", bill.events));
        }
        return seen.tell();
    };
    let Answer { events, shared_cpu_ns, rules } = instance::read(address, "/api/v1/rules", ANSWER_BYTES_MAX, "list of rules")?;
    let item = |rule: AnsweredRule| {
        let AnsweredRule { rule_id: id, title, cpu_ns: ns, hits, quarantined } = rule;
        Item { id, title, ns, events, looks: None, hits, is_quarantined: Some(quarantined) }
    };
    Bill::new(events, shared_cpu_ns, rules.into_iter().map(item).collect()).show(arguments, None)
}

/// Holds the rules against events of the past.
fn measured(arguments: &Arguments) -> Result<(Bill, Seen), Failure> {
    let Arguments { paths, preparing, of, decoder, from, .. } = arguments;
    let (rules, mut offline) = of.load(paths, preparing, decoder, Fill::Rules)?;
    offline.measure_rules();
    let mut hits = vec![0; rules.rules.len()];
    let mut came: HashMap<&str, u64> = HashMap::new();
    let past = Past { places: from, config: of.config.as_deref() };
    let seen = past.chunks(|chunk| {
        offline.examine(&chunk, |examined| {
            examined.rules.iter().for_each(|rule| hits[*rule as usize] += 1);
            if let Some(decoder) = examined.decoder().filter(|_| !examined.is_dropped) {
                *came.entry(decoder).or_default() += 1;
            }
            Ok::<_, Failure>(())
        })
    })?;
    let mut costs = vec![(0, 0); rules.rules.len()];
    let shared = offline.take_costs(|rule, cost| {
        let (ns, looks) = &mut costs[rule as usize];
        (*ns, *looks) = (*ns + cost.ns, *looks + cost.looks);
    });
    let item = |index: usize| {
        let (rule, (ns, looks)) = (&rules.rules[index], costs[index]);
        let events = offline.carriers(index).iter().filter_map(|decoder| came.get(decoder)).sum();
        let (id, title, hits) = (rule.id.clone(), rule.title.clone(), hits[index]);
        Item { id, title, ns, events, looks: Some(looks), hits, is_quarantined: None }
    };
    let items = (0..rules.rules.len()).map(item).collect();
    Ok((Bill::new(shared.looks, shared.ns, items), seen))
}

impl Item {
    fn ns_per_event(&self) -> f64 {
        per(self.ns, self.events)
    }

    fn json(&self, total_ns: u64) -> Json {
        let Self { id, title, ns, events, looks, hits, is_quarantined } = self;
        json!({
            "rule_id": id, "title": title, "ns": ns, "events": events, "ns_per_event": rounded(self.ns_per_event()),
            "share": rounded(per(*ns, total_ns)), "looked_at_per_million": looks.map(|looks| rounded(per(looks, *events) * 1e6)),
            "hits": hits, "hits_per_million": rounded(per(*hits, *events) * 1e6), "quarantined": is_quarantined,
        })
    }

    fn row(&self, total_ns: u64) -> Vec<String> {
        let Self { id, title, ns, events, looks, hits, is_quarantined } = self;
        let state = if *is_quarantined == Some(true) { "quarantined" } else { "" };
        vec![
            format!("{:.2}", self.ns_per_event()),
            format!("{:.1}%", 100.0 * per(*ns, total_ns)),
            looks.map_or("-".to_owned(), |looks| format!("{:.0}", per(looks, *events) * 1e6)),
            format!("{:.0}", per(*hits, *events) * 1e6),
            events.to_string(),
            state.to_owned(),
            title.clone(),
            id.clone(),
        ]
    }
}

impl Bill {
    fn new(events: u64, shared_ns: u64, mut items: Vec<Item>) -> Self {
        items.sort_by(|a, b| b.ns.cmp(&a.ns).then_with(|| a.title.cmp(&b.title)));
        Self { events, shared_ns, items }
    }

    fn show(&self, arguments: &Arguments, seen: Option<&Seen>) -> Result<(), Failure> {
        let Self { events, shared_ns, items } = self;
        let total_ns = shared_ns + items.iter().map(|item| item.ns).sum::<u64>();
        if arguments.output == Output::Json {
            let items = items.iter().take(arguments.top.unwrap_or(usize::MAX));
            return print_json(&json!({
                "input": seen.map(Seen::json), "events": events, "ns_per_event": rounded(per(total_ns, *events)),
                "shared_ns_per_event": rounded(per(*shared_ns, *events)),
                "rules": items.map(|item| item.json(total_ns)).collect::<Vec<Json>>(),
            }));
        }
        // A quarantined rule takes nothing any more and is what one looks for here.
        let is_shown = |item: &&Item| item.ns > 0 || item.is_quarantined == Some(true);
        let rows: Vec<Vec<String>> =
            items.iter().filter(is_shown).take(arguments.top.unwrap_or(SHOWN)).map(|item| item.row(total_ns)).collect();
        let heading = ["NS/EVENT", "SHARE", "LOOKED AT/M", "HITS/M", "EVENTS", "STATE", "TITLE", "ID"];
        let mut out = table::render(&heading, &rows);
        out.push_str(&format!(
            "{:.1} ns an event for all rules, {events} events; {:.1} ns ({:.1}%) of it belong to no rule\n",
            per(total_ns, *events),
            per(*shared_ns, *events),
            100.0 * per(*shared_ns, total_ns),
        ));
        print(out.as_bytes())?;
        let never = items.iter().filter(|item| item.ns == 0).count();
        message(&format!("{} rules, {} of them shown; {never} were never looked at", items.len(), rows.len()));
        Ok(())
    }
}

/// So much for each; nothing for none.
fn per(amount: u64, of: u64) -> f64 {
    amount as f64 / of.max(1) as f64
}

/// Three decimals.
fn rounded(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_stands_first_and_a_quarantined_rule_is_marked() {
        let item = |title: &str, ns, looks, is_quarantined| {
            let (id, title) = (title.to_lowercase(), title.to_owned());
            Item { id, title, ns, events: 200, looks, hits: 1, is_quarantined }
        };
        let bill = Bill::new(200, 500, vec![item("A", 100, Some(50), None), item("C", 400, None, Some(true)), item("B", 400, None, None)]);
        let rows: Vec<Vec<String>> = bill.items.iter().map(|item| item.row(1_400)).collect();
        let expected = [
            ["2.00", "28.6%", "-", "5000", "200", "", "B", "b"],
            ["2.00", "28.6%", "-", "5000", "200", "quarantined", "C", "c"],
            ["0.50", "7.1%", "250000", "5000", "200", "", "A", "a"],
        ];
        assert_eq!(rows, expected);
        let none = Item { events: 0, hits: 0, ..item("N", 0, Some(0), None) };
        assert_eq!(none.row(0)[..4], ["0.00", "0.0%", "0", "0"]);
    }
}
