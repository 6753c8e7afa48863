//! `hydrant rules lint`: form and meaning of rules.
//!
//! Everything that loading refuses or warns about, malformed `tests` and `hydrant`, and rules that no decoder can ever feed. It exits with 78
//! if there is an error, or, with `--deny-warnings`, a warning. Each finding belongs to one of [`LINTS`], whose names stay
//! (`docs/reference/lint.md`).

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::sarif;
use crate::cli::preparing::Preparing;
use crate::cli::{EX_CONFIG, Failure, message, print, print_json};
use crate::detect::{Rules, cases, treatment};
use crate::error::{Diagnostic, Diagnostics, Severity};
use crate::pipeline::offline;

#[derive(Args)]
pub(super) struct Arguments {
    /// Rule files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    preparing: Preparing,
    /// How findings are printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Fail on warnings too.
    #[arg(long)]
    deny_warnings: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One JSON object a line.
    Json,
    /// One log in SARIF 2.1.0.
    Sarif,
    /// Lines for people.
    Table,
}

/// A kind of finding.
pub(super) struct Lint {
    /// Its name, which does not change.
    pub(super) id: &'static str,
    /// What it finds.
    pub(super) about: &'static str,
}

/// All kinds. The last takes what fits no other.
pub(super) const LINTS: [Lint; 11] = [
    Lint { id: "duplicate-id", about: "Another rule has the same id." },
    Lint { id: "unheard-logsource", about: "No decoder carries the log source, so the rule never runs." },
    Lint { id: "unknown-field", about: "Events of the log source never have a field that the rule asks for." },
    Lint { id: "unfed-correlation", about: "None of the rules of a correlation ever runs." },
    Lint { id: "condition", about: "The condition cannot be read, or does not mean what it seems to." },
    Lint { id: "detection", about: "A search identifier, a modifier or a value is wrong or doubtful." },
    Lint { id: "logsource", about: "The log source is missing or wrong." },
    Lint { id: "correlation", about: "The correlation section is wrong or doubtful." },
    Lint { id: "tests", about: "A test inside the rule is malformed." },
    Lint { id: "document", about: "The file cannot be read, is no YAML, or a document is no rule or lacks a key." },
    Lint { id: "metadata", about: "Another key of the rule is unknown or has a wrong value." },
];

/// The kind of a finding, as an index of [`LINTS`]: by its code, otherwise by its place.
pub(super) fn kind(diagnostic: &Diagnostic) -> usize {
    let path = diagnostic.path.as_str();
    let top = path.split(['.', '[', '|']).next().unwrap_or_default();
    let name = match (diagnostic.code, top) {
        ("", "") => "document",
        ("", "detection" | "filter") if path.get(top.len()..).is_some_and(|rest| rest.starts_with(".condition")) => "condition",
        ("", "filter") if !path.starts_with("filter.rules") => "detection",
        ("", "generate" | "aliases") => "correlation",
        ("", top) => top,
        (code, _) => code,
    };
    LINTS.iter().position(|lint| lint.id == name).unwrap_or(LINTS.len() - 1)
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (rules, mut diagnostics) = Rules::load(&arguments.paths, &arguments.preparing.read()?);
    for rule in &rules.rules {
        diagnostics.absorb(cases::read(rule, |name| offline::decoders(name).map(|_| ())));
        diagnostics.absorb(treatment::read(rule));
    }
    for linked in &rules.correlations {
        diagnostics.absorb(cases::read_correlation(&linked.correlation, |name| offline::decoders(name).map(|_| ())));
        diagnostics.absorb(treatment::read_correlation(&linked.correlation));
    }
    diagnostics.0.append(&mut offline::lint(&rules).0);
    diagnostics.0.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    show(&diagnostics, arguments.output)?;
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

fn show(diagnostics: &Diagnostics, output: Output) -> Result<(), Failure> {
    match output {
        Output::Json => diagnostics.0.iter().try_for_each(|diagnostic| print_json(&as_json(diagnostic))),
        Output::Sarif => print_json(&sarif::log(diagnostics)),
        Output::Table => diagnostics.0.iter().try_for_each(|diagnostic| print(format!("{diagnostic}\n").as_bytes())),
    }
}

fn as_json(diagnostic: &Diagnostic) -> serde_json::Value {
    json!({
        "severity": if diagnostic.severity == Severity::Error { "error" } else { "warning" }, "lint": LINTS[kind(diagnostic)].id,
        "file": diagnostic.file, "line": diagnostic.line, "column": diagnostic.column,
        "path": diagnostic.path, "message": diagnostic.message, "help": diagnostic.help,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_documented_lints_are_those_of_the_code() {
        let page = include_str!("../../../docs/reference/lint.md");
        let documented: Vec<(&str, &str)> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .map(|(id, about)| (id, about.trim_end_matches([' ', '|'])))
            .collect();
        let known: Vec<(&str, &str)> = LINTS.iter().map(|lint| (lint.id, lint.about)).collect();
        assert_eq!(documented, known);
        assert_eq!(known.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len(), LINTS.len());
    }

    #[test]
    fn a_finding_is_of_the_kind_that_its_code_or_its_place_says() {
        let at = |path: &str| Diagnostic::error(Path::new("r.yml"), 1, 1, path, "m");
        for (diagnostic, expected) in [
            (at(""), "document"),
            (at("detection.selection.src_ip|cidr"), "detection"),
            (at("detection.condition"), "condition"),
            (at("filter.condition"), "condition"),
            (at("filter.selection.src_ip|cidr"), "detection"),
            (at("filter.rules[0]"), "metadata"),
            (at("correlation.timespan"), "correlation"),
            (at("tests[0].log"), "tests"),
            (at("titel"), "metadata"),
            (at("id"), "metadata"),
            (at("id").code("duplicate-id"), "duplicate-id"),
            (at("detection").code("unknown-field"), "unknown-field"),
        ] {
            assert_eq!(LINTS[kind(&diagnostic)].id, expected, "{diagnostic}");
        }
    }
}
