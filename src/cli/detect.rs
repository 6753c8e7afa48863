//! `hydrant detect`: raw lines held against rules.
//!
//! One JSON object a match: `event` (number of the frame), `rule_id`, `title`, `level`, `decoder`. A rule that a
//! correlation has for itself is not printed; correlations come last, with `correlation` (group, value, window, and
//! under `sample` numbers of events behind a colon) instead of `event` and `decoder`. The summary goes to stderr.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::input::Input;
use crate::cli::preparing::Preparing;
use crate::cli::source::OfSource;
use crate::cli::{Failure, Output, message, print, table};
use crate::detect::Rules;
use crate::detect::correlate::Form;
use crate::json;
use crate::pipeline::offline::{Fill, Offline};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Rule files and folders.
    #[arg(long, required_unless_present = "source", num_args = 1)]
    rules: Vec<PathBuf>,
    #[command(flatten)]
    preparing: Preparing,
    #[command(flatten)]
    of: OfSource,
    #[command(flatten)]
    input: Input,
    /// How matches are printed.
    #[arg(long, value_enum, default_value = "json")]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { rules, preparing, of, input, .. } = arguments;
    let (rules, mut offline) = of.load(rules, preparing, &input.decoder, Fill::Rules)?;
    let (mut events, mut matches) = (0u64, 0u64);
    let mut rows = Vec::new();
    input.chunks(|chunk, first| {
        let mut out = String::new();
        let mut number = first;
        offline.examine(&chunk, |examined| {
            let alone = examined.rules.iter().filter(|rule| rules.alone.get(**rule as usize).is_none_or(|alone| *alone));
            for rule in alone.filter_map(|rule| rules.rules.get(*rule as usize)) {
                matches += 1;
                let decoder = examined.decoder().unwrap_or_default();
                let level = rule.level.as_str();
                if arguments.output == Output::Table {
                    rows.push(vec![number.to_string(), level.to_owned(), rule.title.clone(), decoder.to_owned(), rule.id.clone()]);
                } else {
                    let found = json!({ "event": number, "rule_id": rule.id, "title": rule.title, "level": level, "decoder": decoder });
                    out.push_str(&format!("{found}\n"));
                }
            }
            number += 1;
            events += 1;
            Ok::<_, Failure>(())
        })?;
        print(out.as_bytes())
    })?;
    matches += correlations(&mut offline, &rules, arguments.output, &mut rows)?;
    if arguments.output == Output::Table {
        print(table::render(&["EVENT", "LEVEL", "TITLE", "DECODER", "RULE"], &rows).as_bytes())?;
    }
    message(&format!("{events} events, {} rules, {matches} matches", rules.rules.len() + rules.correlations.len()));
    Ok(())
}

/// Prints what correlations have found over the whole input; returns how much.
fn correlations(offline: &mut Offline, rules: &Rules, output: Output, rows: &mut Vec<Vec<String>>) -> Result<u64, Failure> {
    let mut count = 0;
    let mut out = Vec::new();
    for (index, fired) in offline.finish() {
        let Some(linked) = rules.correlations.get(index as usize).filter(|linked| linked.is_alert) else { continue };
        count += 1;
        let form = Form::new(linked, Vec::new());
        let mut details = Vec::new();
        form.write_details(&fired, &mut details);
        if output == Output::Table {
            let group = format!("value {}, {}", fired.measure, String::from_utf8_lossy(&details));
            rows.push(vec!["-".to_owned(), form.level.to_owned(), form.title.clone(), group, form.id]);
            continue;
        }
        out.extend_from_slice(b"{\"rule_id\":");
        json::write_string(form.id.as_bytes(), &mut out);
        out.extend_from_slice(b",\"title\":");
        json::write_string(form.title.as_bytes(), &mut out);
        out.extend_from_slice(format!(",\"level\":\"{}\",\"correlation\":", form.level).as_bytes());
        out.extend_from_slice(&details);
        out.extend_from_slice(b"}\n");
    }
    print(&out)?;
    Ok(count)
}
