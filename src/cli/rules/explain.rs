//! `hydrant rules explain`: which predicates of a rule hold for an event, which nearly do, and why.
//!
//! For each event and rule the rule's tree: `+` holds, `-` does not, with the value that was seen. What fails is followed by
//! the nearest thing that would hold. A rule *lacks* as many predicates as have to turn out otherwise, at least, for it to
//! match. With several rules, and with `--near` always, only those that match or lack one are told. For correlations: which
//! of their rules hit, the groups, and how much was in the fullest window of each.
//!
//! Transforms and enrichments come before it if the events are said to be those of a source (`--config`, `--source`).

mod groups;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value as Json, json};

use crate::cli::input::{Input, decoder};
use crate::cli::preparing::Preparing;
use crate::cli::source::OfSource;
use crate::cli::{Failure, Output, message, print, print_json};
use crate::detect::Rules;
use crate::detect::sigma::SigmaRule;
use crate::encode::template::write_value;
use crate::error::{Error, ErrorKind, nearest};
use crate::event::Value;
use crate::matcher::Predicate;
use crate::matcher::explain::{Explained, What, holds, nearly};
use crate::pipeline::offline::{Examined, Fill};
use groups::Groups;

/// Members of one list that are told; a list of indicators may have 100,000.
const LIST_SHOWN_MAX: usize = 8;

/// Characters of a value that are told.
const VALUE_SHOWN_MAX: usize = 200;

#[derive(Args)]
pub(super) struct Arguments {
    /// Rule files and folders.
    #[arg(required_unless_present = "source")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    preparing: Preparing,
    #[command(flatten)]
    of: OfSource,
    /// One raw line, in the place of a file.
    #[arg(long, conflicts_with = "file")]
    line: Option<String>,
    /// A file with raw lines; `-` is stdin.
    #[arg(long, default_value = "-")]
    file: PathBuf,
    /// The format of the lines; `auto` looks at each.
    #[arg(long, default_value = "auto", value_parser = decoder, conflicts_with = "source")]
    decoder: String,
    /// Only the rule or correlation with this id, name or title.
    #[arg(long)]
    rule: Option<String>,
    /// Only events that lack one predicate of a rule.
    #[arg(long)]
    near: bool,
    /// How it is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// What is explained.
struct Selection {
    rules: Vec<usize>,
    correlations: Vec<usize>,
}

impl Selection {
    fn new(rules: &Rules, wanted: Option<&str>) -> Result<Self, Failure> {
        let fits = |id: &str, name: &Option<String>, title: &str| {
            wanted.is_none_or(|wanted| id == wanted || title == wanted || name.as_deref() == Some(wanted))
        };
        let chosen = |fits: &mut dyn Iterator<Item = bool>| fits.enumerate().filter(|(_, fits)| *fits).map(|(index, _)| index).collect();
        let selection = Self {
            rules: chosen(&mut rules.rules.iter().map(|rule| fits(&rule.id, &rule.name, &rule.title))),
            correlations: chosen(&mut rules.correlations.iter().map(|linked| {
                let correlation = &linked.correlation;
                fits(&correlation.id, &correlation.name, &correlation.title)
            })),
        };
        if selection.rules.is_empty() && selection.correlations.is_empty() {
            let titles = rules.rules.iter().map(|rule| rule.title.as_str());
            let titles = titles.chain(rules.correlations.iter().map(|linked| linked.correlation.title.as_str()));
            let near = nearest(wanted.unwrap_or_default(), titles).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            let message = format!("no rule has the id, name or title `{}`{near}", wanted.unwrap_or_default());
            return Err(Error::new(ErrorKind::Configuration, "explain", message).into());
        }
        Ok(selection)
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { paths, preparing, of, decoder, .. } = arguments;
    let (rules, mut offline) = of.load(paths, preparing, decoder, Fill::Everything)?;
    let selection = Selection::new(&rules, arguments.rule.as_deref())?;
    let carriers: Vec<Vec<&str>> = (0..rules.rules.len()).map(|rule| offline.carriers(rule)).collect();
    let is_one = selection.rules.len() == 1;
    let mut groups = Groups::new(&rules);
    let (mut events, mut far) = (0_u64, 0_u64);
    let explain = |examined: &Examined<'_>, number: u64| {
        let mut far = 0;
        for index in &selection.rules {
            let rule = &rules.rules[*index];
            let runs = !examined.is_dropped && examined.decoder().is_some_and(|decoder| carriers[*index].contains(&decoder));
            if !runs && !is_one {
                continue;
            }
            let explained = examined.explain(rule);
            let is_wanted = if arguments.near { explained.to_hold == 1 } else { is_one || explained.to_hold <= 1 };
            if !is_wanted {
                far += 1;
                continue;
            }
            let told = Told { examined, number, rule, runs, explained };
            match arguments.output {
                Output::Json => print_json(&told.json())?,
                Output::Table => print(told.text().as_bytes())?,
            }
        }
        Ok::<u64, Failure>(far)
    };
    let input = Input::lines(arguments.file.clone(), arguments.decoder.clone());
    let mut each = |chunk, first| {
        let mut number = first;
        offline.examine(&chunk, |examined| {
            groups.add(number, &examined);
            far += explain(&examined, number)?;
            number += 1;
            events += 1;
            Ok::<_, Failure>(())
        })
    };
    match &arguments.line {
        Some(line) => input.read(line.trim_end_matches(['\r', '\n']).as_bytes(), &mut each)?,
        None => input.chunks(&mut each)?,
    }
    let fired = offline.finish();
    for index in &selection.correlations {
        let matches = fired.iter().filter(|(correlation, _)| *correlation as usize == *index).count();
        match arguments.output {
            Output::Json => print_json(&groups.json(&rules, *index, matches))?,
            Output::Table => print(groups.text(&rules, *index, matches).as_bytes())?,
        }
    }
    let why = if arguments.near { "that do not lack exactly one predicate" } else { "that lack more than one predicate" };
    message(&format!("{events} events; {far} pairs of event and rule {why} are not shown"));
    Ok(())
}

/// A rule and an event.
struct Told<'a> {
    examined: &'a Examined<'a>,
    number: u64,
    rule: &'a SigmaRule,
    /// Whether the rule runs on events of this decoder.
    runs: bool,
    explained: Explained<'a, String>,
}

impl Told<'_> {
    fn json(&self) -> Json {
        let Self { examined, number, rule, runs, explained } = self;
        let nearly = |leaf: &&Explained<'_, String>| {
            let mut told = self.node(leaf);
            if let (Json::Object(members), Some(hint)) = (&mut told, self.hint(leaf)) {
                members.insert("nearly".to_owned(), hint.into());
            }
            told
        };
        let lacking: Vec<Json> = explained.culprits().iter().take(LIST_SHOWN_MAX).map(nearly).collect();
        json!({
            "event": number, "decoder": examined.decoder(), "rule_id": rule.id, "title": rule.title,
            "matches": *runs && explained.holds(), "runs": runs, "lacks": explained.to_hold, "lacking": lacking,
            "tree": self.node(explained),
        })
    }

    fn node(&self, node: &Explained<'_, String>) -> Json {
        let list = |items: &[Explained<'_, String>]| {
            let (shown, left) = shown(items);
            let mut list: Vec<Json> = shown.into_iter().map(|item| self.node(item)).collect();
            if left > 0 {
                list.push(json!({ "more": left }));
            }
            list
        };
        let mut told = match &node.what {
            What::All(items) => json!({ "all": list(items) }),
            What::Any(items) => json!({ "any": list(items) }),
            What::Not(inner) => json!({ "not": self.node(inner) }),
            What::Field(field, predicate) => {
                let mut told = json!({ "field": field, "reads": self.examined.resolve(field), "asks": predicate.to_string() });
                if let (Json::Object(members), Some(value)) = (&mut told, as_json(self.examined.value(field))) {
                    members.insert("value".to_owned(), value);
                }
                told
            }
            What::Fields { left, op, right, .. } => {
                let value = |name: &String| as_json(self.examined.value(name));
                json!({ "field": left, "asks": op.to_string(), "other": right, "value": value(left), "other_value": value(right) })
            }
            What::Keyword(predicate) => json!({ "keyword": predicate.to_string() }),
        };
        if let Json::Object(members) = &mut told {
            members.insert("holds".to_owned(), node.holds().into());
        }
        told
    }

    fn text(&self) -> String {
        let Self { examined, number, rule, runs, explained } = self;
        let decoder = examined.decoder().unwrap_or("no decoder");
        let verdict = match (runs, explained.to_hold) {
            (true, 0) => "matches".to_owned(),
            (false, _) if examined.is_dropped => "is not asked: a transform drops the event".to_owned(),
            (false, _) => format!("does not run on events of `{decoder}`"),
            (true, 1) => "does not match: it lacks one predicate".to_owned(),
            (true, usize::MAX) => "can never match".to_owned(),
            (true, count) => format!("does not match: it lacks {count} predicates"),
        };
        let mut out = format!("event {number} ({decoder}), `{}` [{}]: {verdict}\n", rule.title, rule.id);
        self.branch(explained, 1, &mut out);
        out
    }

    fn branch(&self, node: &Explained<'_, String>, depth: usize, out: &mut String) {
        let (indent, sign) = ("  ".repeat(depth), if node.holds() { '+' } else { '-' });
        let list = |name: &str, items: &[Explained<'_, String>], out: &mut String| {
            let holding = items.iter().filter(|item| item.holds()).count();
            out.push_str(&format!("{indent}{sign} {name} ({holding} of {} hold)\n", items.len()));
            let (shown, left) = shown(items);
            shown.into_iter().for_each(|item| self.branch(item, depth + 1, out));
            if left > 0 {
                out.push_str(&format!("{indent}  ... {left} more\n"));
            }
        };
        match &node.what {
            What::All(items) => list("all of", items, out),
            What::Any(items) => list("any of", items, out),
            What::Not(inner) => {
                out.push_str(&format!("{indent}{sign} not\n"));
                self.branch(inner, depth + 1, out);
            }
            What::Field(field, predicate) => {
                let reads = self.examined.resolve(field).filter(|name| name != *field);
                let reads = reads.map_or(String::new(), |name| format!(" (reads {name})"));
                let value = as_text(self.examined.value(field));
                out.push_str(&format!("{indent}{sign} {field}{reads} {predicate}: {value}\n"));
            }
            What::Fields { left, op, right, cased } => {
                let case = if *cased { ", case matters" } else { "" };
                let (a, b) = (as_text(self.examined.value(left)), as_text(self.examined.value(right)));
                out.push_str(&format!("{indent}{sign} {left} {op} the value of {right}{case}: {a}, {b}\n"));
            }
            What::Keyword(predicate) => out.push_str(&format!("{indent}{sign} anywhere: {predicate}\n")),
        }
        if let Some(hint) = self.hint(node) {
            out.push_str(&format!("{indent}    {hint}\n"));
        }
    }

    /// The nearest thing that would hold, for a predicate of a field that does not.
    fn hint(&self, node: &Explained<'_, String>) -> Option<String> {
        let What::Field(field, predicate) = &node.what else { return None };
        if node.holds() {
            return None;
        }
        let (field, examined) = (field.as_str(), self.examined);
        let value = examined.value(field);
        if value != Value::Missing {
            return nearly(predicate, value);
        }
        let names = examined.names();
        let elsewhere = names.iter().find(|name| is_telling(predicate) && holds(predicate, examined.value(name)));
        let near = elsewhere.map(|name| format!("`{name}` holds it")).or_else(|| {
            let near = nearest(field, names.iter().copied());
            near.map(|name| format!("it has `{name}`: {}", as_text(examined.value(name))))
        });
        let near = near.map_or(String::new(), |near| format!("; {near}"));
        Some(match examined.resolve(field) {
            Some(_) => format!("the event has no `{field}`{near}"),
            None => format!("events of `{}` can never have `{field}`{near}", examined.decoder().unwrap_or("no decoder")),
        })
    }
}

/// Whether it says something that a predicate holds for another field.
fn is_telling(predicate: &Predicate) -> bool {
    match predicate {
        Predicate::Text { text, .. } => text.len() > 1,
        Predicate::Glob { .. } | Predicate::Regex(_) | Predicate::Number { .. } | Predicate::Cidr(_) => true,
        Predicate::Boolean(_) | Predicate::Exists | Predicate::Null | Predicate::Type(_) | Predicate::Time { .. } => false,
    }
}

/// The members of a list that are told, those that hold first, and how many are left.
fn shown<'a, 'r>(items: &'a [Explained<'r, String>]) -> (Vec<&'a Explained<'r, String>>, usize) {
    if items.len() <= LIST_SHOWN_MAX {
        return (items.iter().collect(), 0);
    }
    let holding = items.iter().filter(|item| item.holds());
    let nearest_first = items.iter().filter(|item| !item.holds());
    let shown: Vec<_> = holding.chain(nearest_first).take(LIST_SHOWN_MAX).collect();
    let left = items.len() - shown.len();
    (shown, left)
}

/// A value as JSON; `None` if it is missing.
fn as_json(value: Value<'_>) -> Option<Json> {
    let mut text = Vec::new();
    write_value(value, &mut text);
    (value != Value::Missing).then(|| serde_json::from_slice(&text).unwrap_or_else(|_| String::from_utf8_lossy(&text).into()))
}

/// A value for people, cut, without control characters.
fn as_text(value: Value<'_>) -> String {
    if value == Value::Missing {
        return "(missing)".to_owned();
    }
    let mut text = Vec::new();
    write_value(value, &mut text);
    let text = String::from_utf8_lossy(&text);
    let mut shown: String = text.chars().take(VALUE_SHOWN_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}
