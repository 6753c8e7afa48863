//! `hydrant test`: runs the tests that stand in rule files ([`crate::detect::cases`]).
//!
//! Each case goes the way of a live line: its decoder (chosen by `auto` unless the case names one), all rules that
//! were given, and then the question whether its own rule is among those that match. One line a case on stdout,
//! the summary on stderr; `--junit` writes a report for a CI system. A failed case makes the exit code 1.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use crate::cli::{Failure, Output, message, print, print_json, warn};
use crate::clock;
use crate::detect::Rules;
use crate::detect::cases::{self, Case};
use crate::detect::sigma::{Placeholders, SigmaRule};
use crate::error::{Diagnostics, Error, ErrorKind};
use crate::event::{Chunk, Sender, Span};
use crate::pipeline::offline::{self, Offline};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Rule files and folders.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Write a JUnit XML report here.
    #[arg(long)]
    junit: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

struct Outcome<'a> {
    rule: &'a SigmaRule,
    case: Case,
    /// Why it failed.
    failure: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (rules, mut diagnostics) = Rules::load(&arguments.paths, &Placeholders::new());
    let mut all = Vec::new();
    for (index, rule) in rules.rules.iter().enumerate() {
        let cases = diagnostics.absorb(cases::read(rule, |name| offline::decoders(name).map(|_| ())));
        all.extend(cases.unwrap_or_default().into_iter().map(|case| (index, case)));
    }
    if diagnostics.has_errors() {
        return Err(diagnostics.into());
    }
    warn(&diagnostics);
    let mut desks = HashMap::new();
    let mut outcomes = Vec::new();
    for (index, case) in all {
        let failure = try_case(&rules, index, &case, &mut desks)?;
        let outcome = Outcome { rule: &rules.rules[index], case, failure };
        show(&outcome, arguments.output)?;
        outcomes.push(outcome);
    }
    if let Some(path) = &arguments.junit {
        std::fs::write(path, junit(&outcomes))
            .map_err(|error| Error::new(ErrorKind::Storage, "write the report", error.to_string()).with("file", path.display()))?;
    }
    let tested: std::collections::HashSet<&str> = outcomes.iter().map(|outcome| outcome.rule.id.as_str()).collect();
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let passed = outcomes.len() - failed;
    let untested = rules.rules.len().saturating_sub(tested.len());
    let summary = format!("{passed} passed, {failed} failed; {untested} of {} rules have no test", rules.rules.len());
    if failed > 0 {
        return Err(Failure::Found { summary, exit_code: 1 });
    }
    message(&summary);
    Ok(())
}

/// Runs a case; returns why it failed.
fn try_case(rules: &Rules, index: usize, case: &Case, desks: &mut HashMap<String, Offline>) -> Result<Option<String>, Diagnostics> {
    if !desks.contains_key(&case.decoder) {
        desks.insert(case.decoder.clone(), Offline::new(&case.decoder, &rules.rules)?);
    }
    let Some(offline) = desks.get_mut(&case.decoder) else { return Ok(None) };
    let carriers = offline.carriers(index);
    // A block scalar ends in a line break, which is not part of the line.
    let line = case.log.trim_end_matches(['\r', '\n']);
    let sender = Arc::new(Sender { source: "test".into(), source_index: 0 });
    let chunk = Chunk::new(line.as_bytes().to_vec(), vec![Span::new(0, line.len())], sender, clock::now_ms());
    let mut failure = None;
    offline.examine(&chunk, |examined| {
        if examined.rules.contains(&(index as u32)) == case.expects_match {
            return Ok::<_, Diagnostics>(());
        }
        let decoder = examined.decoder();
        let mut why = match (case.expects_match, decoder) {
            (false, _) => "it matches".to_owned(),
            (true, Some(name)) if !carriers.contains(&name) => format!("it does not match: the rule does not run on events of `{name}`"),
            (true, _) => "it does not match".to_owned(),
        };
        // Writing to a String cannot fail.
        let _ = write!(why, " (decoder: {}, {}", decoder.unwrap_or("none"), examined.why);
        for flaw in examined.flaws() {
            let _ = write!(why, ", {flaw}");
        }
        why.push(')');
        failure = Some(why);
        Ok(())
    })?;
    Ok(failure)
}

fn show(outcome: &Outcome<'_>, output: Output) -> Result<(), Failure> {
    let Outcome { rule, case, failure } = outcome;
    let place = format!("{}:{}", rule.file.display(), case.line);
    match (output, failure) {
        (Output::Json, failure) => print_json(&json!({
            "rule_id": rule.id, "rule": rule.title, "test": case.name, "file": rule.file, "line": case.line,
            "passed": failure.is_none(), "reason": failure,
        })),
        (Output::Table, None) => print(format!("ok    {}: {}\n", rule.title, case.name).as_bytes()),
        (Output::Table, Some(why)) => print(format!("FAIL  {}: {}\n      {place}: {why}\n", rule.title, case.name).as_bytes()),
    }
}

/// The report in the form that Jenkins, GitLab and GitHub actions read.
fn junit(outcomes: &[Outcome<'_>]) -> String {
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"hydrant\" tests=\"{}\" failures=\"{failed}\">\n",
        outcomes.len()
    );
    for Outcome { rule, case, failure } in outcomes {
        let (class, name, file) = (escape(&rule.title), escape(&case.name), escape(&rule.file.display().to_string()));
        let _ = write!(out, "<testcase classname=\"{class}\" name=\"{name}\" file=\"{file}\" line=\"{}\"", case.line);
        match failure {
            None => out.push_str("/>\n"),
            Some(why) => {
                let _ = writeln!(out, "><failure message=\"{}\"/></testcase>", escape(why));
            }
        }
    }
    out + "</testsuite>\n</testsuites>\n"
}

/// Text for XML 1.0; what may not stand in it at all becomes U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_a_report_is_escaped() {
        assert_eq!(escape("a<b>&\"c\"\n\u{1}"), "a&lt;b&gt;&amp;&quot;c&quot; \u{fffd}");
    }
}
