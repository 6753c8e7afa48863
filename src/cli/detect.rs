//! `hydrant detect`: raw lines held against rules.
//!
//! One JSON object a match: `event` (number of the frame), `rule_id`, `title`, `level`, `decoder`. The summary goes
//! to stderr.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::input::Input;
use crate::cli::{Failure, Output, message, print, table, warn};
use crate::detect::Rules;
use crate::detect::sigma::Placeholders;
use crate::pipeline::offline::Offline;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Rule files and folders.
    #[arg(long, required = true, num_args = 1)]
    rules: Vec<PathBuf>,
    #[command(flatten)]
    input: Input,
    /// How matches are printed.
    #[arg(long, value_enum, default_value = "json")]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (rules, diagnostics) = Rules::load(&arguments.rules, &Placeholders::new());
    if diagnostics.has_errors() {
        return Err(diagnostics.into());
    }
    warn(&diagnostics);
    let mut offline = Offline::new(&arguments.input.decoder, &rules.rules)?;
    let (mut events, mut matches) = (0u64, 0u64);
    let mut rows = Vec::new();
    arguments.input.chunks(|chunk, first| {
        let mut out = String::new();
        let mut number = first;
        offline.examine(&chunk, |examined| {
            for rule in examined.rules.iter().filter_map(|rule| rules.rules.get(*rule as usize)) {
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
    if arguments.output == Output::Table {
        print(table::render(&["EVENT", "LEVEL", "TITLE", "DECODER", "RULE"], &rows).as_bytes())?;
    }
    message(&format!("{events} events, {} rules, {matches} matches", rules.rules.len()));
    Ok(())
}
