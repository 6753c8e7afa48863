//! `hydrant rules doctor`: rules that cannot match what really arrives, and why.
//!
//! In go rules and a sample of events: files, a folder, an archive, or a data folder, whose journal is read. What each rule
//! needs is held against what the events have:
//!
//! | verdict | means |
//! |---|---|
//! | `never runs` | no decoder carries the log source, or can fill a field that the rule asks for |
//! | `not seen` | none of the events comes from a decoder that carries the log source |
//! | `field never filled` | it cannot match, since no event has a field that it needs |
//! | `value never fits` | it cannot match, since every value of a field nearly fits at best: case, format, type |
//! | `no hit` | it could match, and has not |
//! | `hits` | it has matched |
//!
//! A sample says what is, not what can be: a field that only comes with a rare event looks as if it never came.

mod profile;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value as Json, json};

use crate::cli::input::decoder;
use crate::cli::past::{Past, Seen};
use crate::cli::preparing::Preparing;
use crate::cli::source::OfSource;
use crate::cli::{Failure, Output, message, print, print_json, table};
use crate::detect::Rules;
use crate::detect::sigma::SigmaRule;
use crate::detect::sigma::correlation::Source;
use crate::error::nearest;
use crate::pipeline::offline::{self, Fill};
use profile::{Doubt, Profile};

#[derive(Args)]
pub(super) struct Arguments {
    /// Rule files and folders.
    #[arg(required_unless_present = "source")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    preparing: Preparing,
    #[command(flatten)]
    of: OfSource,
    /// Where events are: a file, a folder, `s3://bucket/prefix`, a data folder, `-` for stdin; may be given more than once.
    #[arg(long, visible_alias = "sample", required = true, num_args = 1)]
    from: Vec<String>,
    /// The format of the lines; `auto` looks at each.
    #[arg(long, default_value = "auto", value_parser = decoder, conflicts_with = "source")]
    decoder: String,
    /// Also rules that nothing is wrong with, with the fields that they ask for.
    #[arg(long)]
    all: bool,
    /// Exit code 1 if a rule cannot match because of a field or a value.
    #[arg(long)]
    strict: bool,
    /// How it is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Unfilled,
    Unfitting,
    NeverRuns,
    NotSeen,
    NoHit,
    Hits,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::NeverRuns => "never runs",
            Self::NotSeen => "not seen",
            Self::Unfilled => "field never filled",
            Self::Unfitting => "value never fits",
            Self::NoHit => "no hit",
            Self::Hits => "hits",
        }
    }
}

/// What was found out about a rule or correlation.
struct Finding<'a> {
    id: &'a str,
    title: &'a str,
    verdict: Verdict,
    why: Vec<String>,
    /// Events of decoders that carry the log source.
    events: u64,
    hits: u64,
    /// Field and the number of those events that have it.
    fields: Vec<(String, u64)>,
}

/// The sample and what it says.
struct Doctor<'a> {
    rules: &'a Rules,
    /// By decoder.
    profiles: BTreeMap<&'static str, Profile>,
    carriers: Vec<Vec<&'static str>>,
    /// What `rules lint` says about rules that never run.
    lint: crate::error::Diagnostics,
    hits: Vec<u64>,
    /// Of correlations.
    found: Vec<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { paths, preparing, of, decoder, .. } = arguments;
    let (rules, mut offline) = of.load(paths, preparing, decoder, Fill::Everything)?;
    let mut doctor = Doctor {
        rules: &rules,
        profiles: BTreeMap::new(),
        carriers: (0..rules.rules.len()).map(|rule| offline.carriers(rule)).collect(),
        lint: offline::lint(&rules),
        hits: vec![0; rules.rules.len()],
        found: vec![0; rules.correlations.len()],
    };
    for name in offline.decoders() {
        let runs_here = |index: &usize| doctor.carriers[*index].contains(&name);
        let asked = (0..rules.rules.len()).filter(runs_here).flat_map(|index| offline::asked(&rules.rules[index]));
        let asked: Vec<&str> = asked.chain(group_fields(&rules)).collect();
        doctor.profiles.insert(name, Profile::new(&offline, name, &asked));
    }
    let past = Past { places: &arguments.from, config: of.config.as_deref() };
    let seen = past.chunks(|chunk| {
        offline.examine(&chunk, |examined| {
            examined.rules.iter().for_each(|rule| doctor.hits[*rule as usize] += 1);
            let decoder = examined.decoder().filter(|_| !examined.is_dropped);
            if let Some(profile) = decoder.and_then(|decoder| doctor.profiles.get_mut(decoder)) {
                profile.add(examined.event);
            }
            Ok::<_, Failure>(())
        })
    })?;
    offline.finish().iter().for_each(|(correlation, _)| doctor.found[*correlation as usize] += 1);
    doctor.report(arguments, &seen)
}

/// The fields by which correlations group, as the events of their rules call them.
fn group_fields(rules: &Rules) -> impl Iterator<Item = &str> {
    let bases = rules.correlations.iter().flat_map(|linked| &linked.bases);
    bases.flat_map(|base| base.group_by.iter().chain(&base.fields)).map(String::as_str)
}

impl<'a> Doctor<'a> {
    fn report(&self, arguments: &Arguments, seen: &Seen) -> Result<(), Failure> {
        let mut findings: Vec<Finding<'_>> = self.rules.rules.iter().enumerate().map(|(index, rule)| self.rule(index, rule)).collect();
        let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
        for index in 0..self.rules.correlations.len() {
            let finding = self.correlation(index, &verdicts, &findings);
            findings.push(finding);
        }
        findings.sort_by_key(|finding| finding.verdict);
        let shown = findings.iter().filter(|finding| arguments.all || finding.verdict < Verdict::NoHit);
        match arguments.output {
            Output::Json => {
                let decoders: serde_json::Map<String, Json> =
                    self.came().into_iter().map(|(name, events)| (name.to_owned(), events.into())).collect();
                let rules: Vec<Json> = findings.iter().map(Finding::json).collect();
                print_json(&json!({ "input": seen.json(), "decoders": decoders, "rules": rules }))?;
            }
            Output::Table => {
                let rows: Vec<Vec<String>> = shown.map(|finding| finding.row(arguments.all)).collect();
                print(table::render(&["VERDICT", "TITLE", "WHY", "ID"], &rows).as_bytes())?;
            }
        }
        let came: Vec<String> = self.came().iter().map(|(name, events)| format!("{name} {events}")).collect();
        message(&format!("decoders: {}", came.join(", ")));
        let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
        let verdicts = [Verdict::Unfilled, Verdict::Unfitting, Verdict::NeverRuns, Verdict::NotSeen, Verdict::NoHit, Verdict::Hits];
        let counts: Vec<String> = verdicts.iter().map(|verdict| format!("{} {}", count(*verdict), verdict.as_str())).collect();
        let summary = format!("{} rules: {}", findings.len(), counts.join(", "));
        seen.tell()?;
        if arguments.strict && count(Verdict::Unfilled) + count(Verdict::Unfitting) > 0 {
            return Err(Failure::Found { summary, exit_code: 1 });
        }
        message(&summary);
        Ok(())
    }

    /// Decoders whose events came.
    fn came(&self) -> Vec<(&'static str, u64)> {
        self.profiles.iter().map(|(name, profile)| (*name, profile.events)).filter(|(_, events)| *events > 0).collect()
    }

    fn rule(&self, index: usize, rule: &'a SigmaRule) -> Finding<'a> {
        let carriers = &self.carriers[index];
        let profiles: Vec<(&str, &Profile)> =
            carriers.iter().filter_map(|name| Some((*name, self.profiles.get(name)?))).filter(|(_, profile)| profile.events > 0).collect();
        let asked = offline::asked(rule);
        let count = |field: &&str| profiles.iter().map(|(_, profile)| profile.filled(field)).sum();
        let mut finding = Finding {
            id: &rule.id,
            title: &rule.title,
            verdict: Verdict::NoHit,
            why: Vec::new(),
            events: profiles.iter().map(|(_, profile)| profile.events).sum(),
            hits: self.hits[index],
            fields: asked.iter().map(|field| ((*field).to_owned(), count(field))).collect(),
        };
        if finding.hits > 0 {
            finding.verdict = Verdict::Hits;
        } else if carriers.is_empty() {
            finding.verdict = Verdict::NeverRuns;
            let own = self.lint.0.iter().filter(|diagnostic| diagnostic.file == rule.file && diagnostic.line == rule.line);
            let text = |diagnostic: &crate::error::Diagnostic| {
                let help = diagnostic.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
                // The title stands beside it.
                let message = diagnostic.message.split_once("`: ").map_or(&*diagnostic.message, |(_, message)| message);
                format!("{message}{help}")
            };
            finding.why = own.map(text).collect();
            if finding.why.is_empty() {
                finding.why.push(format!("events are {} only", self.profiles.keys().copied().collect::<Vec<_>>().join(", ")));
            }
        } else if profiles.is_empty() {
            finding.verdict = Verdict::NotSeen;
            finding.why.push(format!("no event of {}", carriers.join(", ")));
        } else if profiles.iter().all(|(_, profile)| !profile.can_match(rule, Doubt::Presence)) {
            finding.verdict = Verdict::Unfilled;
            for (name, count) in finding.fields.iter().filter(|(_, count)| *count == 0) {
                let near = nearest(name, profiles.iter().flat_map(|(_, profile)| profile.filled_names()));
                let near = near.map_or(String::new(), |near| format!(", but they have `{near}`"));
                finding.why.push(format!("{count} of {} events have `{name}`{near}", finding.events));
            }
        } else if profiles.iter().all(|(_, profile)| !profile.can_match(rule, Doubt::Values)) {
            let why: Vec<String> = profiles.iter().flat_map(|(_, profile)| profile.misfits(rule)).collect();
            if !why.is_empty() {
                (finding.verdict, finding.why) = (Verdict::Unfitting, why);
            }
        }
        finding
    }

    /// A correlation is as well as its rules are; and the fields of its group have to be there.
    fn correlation(&self, index: usize, verdicts: &[Verdict], findings: &[Finding<'_>]) -> Finding<'a> {
        let linked = &self.rules.correlations[index];
        let correlation = &linked.correlation;
        let (mut hits, mut worst, mut why) = (0, Vec::new(), Vec::new());
        for base in &linked.bases {
            let Source::Rule(rule) = base.source else { continue };
            let rule = rule as usize;
            hits += self.hits[rule];
            worst.push(verdicts[rule]);
            if verdicts[rule] < Verdict::NoHit {
                why.push(format!("`{}`: {}", findings[rule].title, verdicts[rule].as_str()));
            }
            let came = || self.carriers[rule].iter().filter_map(|name| self.profiles.get(name)).filter(|profile| profile.events > 0);
            for field in base.group_by.iter().chain(&base.fields) {
                if came().next().is_some() && came().all(|profile| profile.filled(field) == 0) {
                    worst.push(Verdict::Unfilled);
                    let near = nearest(field, came().flat_map(Profile::filled_names));
                    let near = near.map_or(String::new(), |near| format!(", but they have `{near}`"));
                    why.push(format!("no event of `{}` has `{field}`{near}", findings[rule].title));
                }
            }
        }
        let verdict = match self.found[index] {
            0 => worst.into_iter().min().unwrap_or(Verdict::NoHit).min(Verdict::NoHit),
            _ => Verdict::Hits,
        };
        if verdict >= Verdict::NoHit {
            why = vec![format!("{hits} hits of its rules")];
        }
        let (events, fields) = (hits, Vec::new());
        Finding { id: &correlation.id, title: &correlation.title, verdict, why, events, hits: self.found[index], fields }
    }
}

impl Finding<'_> {
    fn json(&self) -> Json {
        let fields: serde_json::Map<String, Json> = self.fields.iter().map(|(name, count)| (name.clone(), (*count).into())).collect();
        json!({
            "rule_id": self.id, "title": self.title, "verdict": self.verdict.as_str(), "why": self.why,
            "events": self.events, "hits": self.hits, "fields": fields,
        })
    }

    fn row(&self, all: bool) -> Vec<String> {
        let mut why = self.why.clone();
        if all && !self.fields.is_empty() && self.events > 0 {
            let fields: Vec<String> = self.fields.iter().map(|(name, count)| format!("{name} {count}/{}", self.events)).collect();
            why.push(fields.join(", "));
        }
        vec![self.verdict.as_str().to_owned(), self.title.to_owned(), why.join("; "), self.id.to_owned()]
    }
}
