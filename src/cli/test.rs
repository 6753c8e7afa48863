//! `hydrant test`: runs the tests that stand in rule files ([`crate::detect::cases`]).
//!
//! Each case goes the way of a live line: its decoder (chosen by `auto` unless the case names one), all rules that
//! were given, and then the question whether its own rule is among those that match. With `--source` all cases are lines of
//! that source of a configuration, whatever decoder they name, and pass its transforms and enrichments. One line a case on stdout,
//! the summary on stderr; `--output junit` prints a report for a CI system in their place, `--junit FILE` writes one as well.
//! A failed case makes the exit code 1, a rule that cannot be loaded 78.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use crate::cli::preparing::Preparing;
use crate::cli::source::OfSource;
use crate::cli::{Failure, message, print, print_json, warn};
use crate::clock;
use crate::detect::Rules;
use crate::detect::cases::{self, Case};
use crate::error::{Diagnostics, Error, ErrorKind};
use crate::event::{Chunk, Sender, Span};
use crate::pipeline::offline::{self, Fill, Offline};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Rule files and folders.
    #[arg(required_unless_present = "source")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    preparing: Preparing,
    #[command(flatten)]
    of: OfSource,
    /// Write a JUnit XML report here as well.
    #[arg(long)]
    junit: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// One JSON object a test.
    Json,
    /// One JUnit XML report.
    Junit,
    /// Lines for people.
    Table,
}

/// Whose test it is.
#[derive(Clone, Copy)]
enum Subject {
    /// A rule, by index.
    Rule(usize),
    /// A correlation, by index.
    Correlation(usize),
}

struct Outcome<'a> {
    id: &'a str,
    title: &'a str,
    file: &'a Path,
    case: Case,
    /// Why it failed.
    failure: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { paths, preparing, of, .. } = arguments;
    let (rules, mut diagnostics, mut desks) = if of.is_given() {
        let (rules, offline) = of.load(paths, preparing, "auto", Fill::Canonical)?;
        (rules, Diagnostics::new(), Desks { of_source: Some(offline), ..Desks::default() })
    } else {
        let (rules, diagnostics) = Rules::load(paths, &preparing.read()?);
        (rules, diagnostics, Desks::default())
    };
    let mut all = Vec::new();
    let check = |name: &str| offline::decoders(name).map(|_| ());
    for (index, rule) in rules.rules.iter().enumerate() {
        let cases = diagnostics.absorb(cases::read(rule, check));
        all.extend(cases.unwrap_or_default().into_iter().map(|case| (Subject::Rule(index), case)));
    }
    for (index, linked) in rules.correlations.iter().enumerate() {
        let cases = diagnostics.absorb(cases::read_correlation(&linked.correlation, check));
        all.extend(cases.unwrap_or_default().into_iter().map(|case| (Subject::Correlation(index), case)));
    }
    if diagnostics.has_errors() {
        return Err(diagnostics.into());
    }
    warn(&diagnostics);
    let mut outcomes = Vec::new();
    for (subject, case) in all {
        let failure = try_case(&rules, subject, &case, &mut desks)?;
        let (id, title, file) = match subject {
            Subject::Rule(index) => (&rules.rules[index].id, &rules.rules[index].title, &rules.rules[index].file),
            Subject::Correlation(index) => {
                let correlation = &rules.correlations[index].correlation;
                (&correlation.id, &correlation.title, &correlation.file)
            }
        };
        let outcome = Outcome { id, title, file, case, failure };
        show(&outcome, arguments.output)?;
        outcomes.push(outcome);
    }
    if arguments.output == Output::Junit {
        print(junit(&outcomes).as_bytes())?;
    }
    if let Some(path) = &arguments.junit {
        std::fs::write(path, junit(&outcomes))
            .map_err(|error| Error::new(ErrorKind::Storage, "write the report", error.to_string()).with("file", path.display()))?;
    }
    let tested: std::collections::HashSet<&str> = outcomes.iter().map(|outcome| outcome.id).collect();
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let passed = outcomes.len() - failed;
    let count = rules.rules.len() + rules.correlations.len();
    let untested = count.saturating_sub(tested.len());
    let summary = format!("{passed} passed, {failed} failed; {untested} of {count} rules have no test");
    if failed > 0 {
        return Err(Failure::Found { summary, exit_code: 1 });
    }
    message(&summary);
    Ok(())
}

/// Where cases are tried.
#[derive(Default)]
struct Desks {
    of_source: Option<Offline>,
    by_decoder: HashMap<String, Offline>,
}

impl Desks {
    fn of(&mut self, case: &Case, rules: &Rules) -> Result<&mut Offline, Diagnostics> {
        let desk = match &mut self.of_source {
            Some(offline) => return Ok(offline),
            None => self.by_decoder.entry(case.decoder.clone()),
        };
        Ok(match desk {
            Entry::Occupied(desk) => desk.into_mut(),
            Entry::Vacant(free) => free.insert(Offline::new(&case.decoder, rules)?),
        })
    }
}

/// Runs a case; returns why it failed.
fn try_case(rules: &Rules, subject: Subject, case: &Case, desks: &mut Desks) -> Result<Option<String>, Diagnostics> {
    let offline = desks.of(case, rules)?;
    match subject {
        Subject::Rule(index) => try_rule(offline, index, case),
        Subject::Correlation(index) => try_correlation(offline, index, case),
    }
}

/// The lines of a case as a chunk.
fn chunk(case: &Case) -> Chunk {
    let (mut bytes, mut frames) = (Vec::new(), Vec::new());
    for log in &case.logs {
        // A block scalar ends in a line break, which is not part of the line.
        let line = log.trim_end_matches(['\r', '\n']);
        frames.push(Span::new(bytes.len(), bytes.len() + line.len()));
        bytes.extend_from_slice(line.as_bytes());
    }
    Chunk::new(bytes, frames, Arc::new(Sender { source: "test".into(), source_index: 0 }), clock::now_ms())
}

fn try_correlation(offline: &mut Offline, index: usize, case: &Case) -> Result<Option<String>, Diagnostics> {
    let mut hits = 0;
    offline.examine(&chunk(case), |examined| {
        hits += usize::from(!examined.rules.is_empty());
        Ok::<_, Diagnostics>(())
    })?;
    let found = offline.finish().into_iter().filter(|(correlation, _)| *correlation as usize == index).count();
    let (lines, feeders) = (case.logs.len(), offline.feeders(index).join(", "));
    let why = if found > 0 { "it matches" } else { "it does not match" };
    let is_failure = (found > 0) != case.expects_match;
    Ok(is_failure.then(|| format!("{why} ({hits} of {lines} lines match any rule; events of {feeders} count)")))
}

fn try_rule(offline: &mut Offline, index: usize, case: &Case) -> Result<Option<String>, Diagnostics> {
    let carriers = offline.carriers(index);
    let mut failure = None;
    offline.examine(&chunk(case), |examined| {
        if examined.rules.contains(&(index as u32)) == case.expects_match {
            return Ok::<_, Diagnostics>(());
        }
        let decoder = examined.decoder();
        let mut why = match (case.expects_match, decoder) {
            (false, _) => "it matches".to_owned(),
            (true, _) if examined.is_dropped => "it does not match: a transform drops it".to_owned(),
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
    offline.finish();
    Ok(failure)
}

fn show(outcome: &Outcome<'_>, output: Output) -> Result<(), Failure> {
    let Outcome { id, title, file, case, failure } = outcome;
    let place = format!("{}:{}", file.display(), case.line);
    match (output, failure) {
        (Output::Json, failure) => print_json(&json!({
            "rule_id": id, "rule": title, "test": case.name, "file": file, "line": case.line,
            "passed": failure.is_none(), "reason": failure,
        })),
        // All at once, at the end.
        (Output::Junit, _) => Ok(()),
        (Output::Table, None) => print(format!("ok    {title}: {}\n", case.name).as_bytes()),
        (Output::Table, Some(why)) => print(format!("FAIL  {title}: {}\n      {place}: {why}\n", case.name).as_bytes()),
    }
}

/// The report in the form that Jenkins, GitLab and GitHub actions read.
fn junit(outcomes: &[Outcome<'_>]) -> String {
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"hydrant\" tests=\"{}\" failures=\"{failed}\">\n",
        outcomes.len()
    );
    for Outcome { title, file, case, failure, .. } in outcomes {
        let (class, name, file) = (escape(title), escape(&case.name), escape(&file.display().to_string()));
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
