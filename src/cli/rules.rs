//! `hydrant rules`: what rule files hold, and what is wrong with them.
//!
//! `list` tells for each rule on which decoders it runs. `lint` looks at form and meaning: everything that loading
//! refuses or warns about, malformed `tests`, and rules that no decoder can ever feed. It exits with 78 if there
//! is an error, or, with `--deny-warnings`, a warning.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::preparing::Preparing;
use crate::cli::{EX_CONFIG, Failure, Output, message, print, print_json, table};
use crate::detect::{Rules, cases};
use crate::error::{Diagnostic, Severity};
use crate::pipeline::offline::{self, Offline};

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
    Lint(Lint),
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

#[derive(Args)]
struct Lint {
    #[command(flatten)]
    selection: Selection,
    /// Fail on warnings too.
    #[arg(long)]
    deny_warnings: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::List(selection) => list(selection),
        Command::Lint(arguments) => lint(arguments),
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

fn lint(arguments: &Lint) -> Result<(), Failure> {
    let (rules, mut diagnostics) = Rules::load(&arguments.selection.paths, &arguments.selection.preparing.read()?);
    for rule in &rules.rules {
        diagnostics.absorb(cases::read(rule, |name| offline::decoders(name).map(|_| ())));
    }
    for linked in &rules.correlations {
        diagnostics.absorb(cases::read_correlation(&linked.correlation, |name| offline::decoders(name).map(|_| ())));
    }
    diagnostics.0.append(&mut offline::lint(&rules).0);
    diagnostics.0.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    for diagnostic in &diagnostics.0 {
        match arguments.selection.output {
            Output::Json => print_json(&as_json(diagnostic))?,
            Output::Table => print(format!("{diagnostic}\n").as_bytes())?,
        }
    }
    let count = |severity| diagnostics.0.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let (loaded, skipped) = (rules.rules.len() + rules.correlations.len(), rules.skipped.len());
    let summary = format!("{loaded} rules, {skipped} skipped, {errors} errors, {warnings} warnings");
    if errors > 0 || (arguments.deny_warnings && warnings > 0) {
        return Err(Failure::Found { summary, exit_code: EX_CONFIG });
    }
    message(&summary);
    Ok(())
}

fn as_json(diagnostic: &Diagnostic) -> serde_json::Value {
    json!({
        "severity": if diagnostic.severity == Severity::Error { "error" } else { "warning" },
        "file": diagnostic.file, "line": diagnostic.line, "column": diagnostic.column,
        "path": diagnostic.path, "message": diagnostic.message, "help": diagnostic.help,
    })
}
