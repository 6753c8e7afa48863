//! `hydrant rules`: what rule files hold, and what is wrong with them.
//!
//! `list` tells for each rule on which decoders it runs; `lint` what is wrong with it; `explain` why it matches an event or
//! not; `doctor` whether it can match what really arrives; `cost` what it takes of the CPU; `coverage` which techniques of ATT&CK the
//! rules are about. One file each, but for `list`.

mod cost;
mod coverage;
mod doctor;
mod explain;
mod lint;
mod sarif;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::preparing::Preparing;
use crate::cli::{Failure, Output, message, print, print_json, table};
use crate::detect::Rules;
use crate::pipeline::offline::Offline;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List rules with the decoders that they run on.
    List(Selection),
    /// Check the form and meaning of rules; every mistake at once.
    Lint(lint::Arguments),
    /// Show which predicates of rules hold for an event, and what nearly does.
    Explain(explain::Arguments),
    /// Find rules that cannot match what really arrives.
    Doctor(doctor::Arguments),
    /// Measure what each rule takes of the CPU, on events of the past or in a running node.
    Cost(cost::Arguments),
    /// Show which ATT&CK techniques the rules are about, as a layer for the Navigator.
    Coverage(coverage::Arguments),
}

#[derive(Args)]
struct Selection {
    /// Rule files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    preparing: Preparing,
    /// How rules are printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::List(selection) => list(selection),
        Command::Lint(arguments) => lint::run(arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Cost(arguments) => cost::run(arguments),
        Command::Coverage(arguments) => coverage::run(arguments),
    }
}

fn list(arguments: &Selection) -> Result<(), Failure> {
    let (rules, diagnostics) = Rules::load(&arguments.paths, &arguments.preparing.read()?);
    if diagnostics.has_errors() {
        return Err(diagnostics.into());
    }
    let offline = Offline::new("auto", &rules)?;
    let mut rows = Vec::new();
    for (index, rule) in rules.rules.iter().enumerate() {
        let decoders = offline.carriers(index);
        if arguments.output == Output::Json {
            print_json(&json!({
                "id": rule.id, "title": rule.title, "level": rule.level.as_str(), "status": rule.status.map(|status| status.as_str()),
                "logsource": { "product": rule.logsource.product, "category": rule.logsource.category, "service": rule.logsource.service },
                "tags": rule.tags, "decoders": decoders, "file": rule.file, "line": rule.line, "hash": rule.hash,
                "filters": rule.filters,
            }))?;
            continue;
        }
        let place = format!("{}:{}", rule.file.display(), rule.line);
        rows.push(vec![
            rule.level.to_string(),
            rule.title.clone(),
            rule.logsource.to_string(),
            decoders.join(","),
            rule.id.clone(),
            place,
            rule.filters.join(", "),
        ]);
    }
    for (index, linked) in rules.correlations.iter().enumerate() {
        let (correlation, decoders) = (&linked.correlation, offline.feeders(index));
        let kind = correlation.kind.as_str();
        if arguments.output == Output::Json {
            let names: Vec<&str> = correlation.rules.iter().map(|rule| rule.text.as_str()).collect();
            print_json(&json!({
                "id": correlation.id, "title": correlation.title, "level": linked.level.as_str(),
                "status": correlation.status.map(|status| status.as_str()), "correlation": { "type": kind, "rules": names },
                "tags": correlation.tags, "decoders": decoders, "file": correlation.file, "line": correlation.line,
                "hash": correlation.hash,
            }))?;
            continue;
        }
        let place = format!("{}:{}", correlation.file.display(), correlation.line);
        let (title, id) = (correlation.title.clone(), correlation.id.clone());
        rows.push(vec![linked.level.to_string(), title, format!("correlation/{kind}"), decoders.join(","), id, place, String::new()]);
    }
    for skipped in &rules.skipped {
        message(&skipped.to_string());
    }
    if arguments.output == Output::Table {
        print(table::render(&["LEVEL", "TITLE", "LOG SOURCE", "DECODERS", "ID", "FILE", "FILTERS"], &rows).as_bytes())?;
    }
    Ok(())
}
