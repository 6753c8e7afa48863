//! References of correlations to rules, over all files: `rules and correlations -> linked correlations`.
//!
//! A name or id that is not there, a name that two rules have and a circle are refused, with place and nearest
//! name. What is refused takes along the correlations that need it.

use std::collections::HashMap;

use super::{Correlation, Name};
use crate::detect::sigma::{Level, SigmaRule};
use crate::error::{Diagnostic, Diagnostics, nearest};

/// Where the hits of a correlation come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A detection rule, by index.
    Rule(u32),
    /// A correlation, by index in the linked ones; always a smaller one than that which refers to it.
    Correlation(u32),
}

/// One of the rules of a correlation, with its own names for fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Which one.
    pub source: Source,
    /// The fields of the group, in the order of `group-by`, as its events call them.
    pub group_by: Vec<String>,
    /// The fields whose values are looked at.
    pub fields: Vec<String>,
}

/// What a correlation is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// What a document says.
    #[default]
    Correlation,
    /// The same, but its matches are only counted, and seen by those chained to it.
    Shadow,
    /// The first hit of a rule in a window is an alert of that rule: [`crate::detect::treatment::deduplication`].
    Deduplication,
}

/// A correlation whose references are resolved.
#[derive(Clone, Debug)]
pub struct Linked {
    /// As written.
    pub correlation: Correlation,
    /// One for each of its `rules`, in order.
    pub bases: Vec<Base>,
    /// Its own level, otherwise the highest of its rules.
    pub level: Level,
    /// Whether a match is an alert; otherwise only other correlations see it.
    pub is_alert: bool,
    /// What it is for.
    pub role: Role,
}

impl Linked {
    /// The rule whose alerts it deduplicates, by its index.
    pub fn deduplicates(&self) -> Option<u32> {
        match (self.role, self.bases.as_slice()) {
            (Role::Deduplication, [Base { source: Source::Rule(rule), .. }]) => Some(*rule),
            _ => None,
        }
    }
}

/// Resolves references. Gives the correlations, each behind those that it refers to; for each rule whether a
/// hit of it alone is an alert; and what is wrong.
pub fn link(rules: &[SigmaRule], correlations: Vec<Correlation>) -> (Vec<Linked>, Vec<bool>, Diagnostics) {
    let names = Names::new(rules, &correlations);
    let mut diagnostics = Diagnostics::new();
    let sources: Vec<Option<Vec<Source>>> = correlations.iter().map(|correlation| names.sources(correlation, &mut diagnostics)).collect();
    let order = order(&correlations, &sources, &mut diagnostics);
    let mut place = vec![None; correlations.len()];
    order.iter().enumerate().for_each(|(index, old)| place[*old] = Some(index as u32));

    let mut rule_alerts = vec![None; rules.len()];
    let mut correlation_alerts = vec![None; order.len()];
    let mut linked: Vec<Linked> = Vec::with_capacity(order.len());
    let mut open: Vec<Option<Correlation>> = correlations.into_iter().map(Some).collect();
    for old in order {
        let (Some(correlation), Some(sources)) = (open[old].take(), &sources[old]) else { continue };
        let mut bases = Vec::with_capacity(sources.len());
        let mut level = Level::Informational;
        for (name, source) in correlation.rules.iter().zip(sources) {
            let (source, alert) = match *source {
                Source::Rule(rule) => {
                    level = level.max(rules[rule as usize].level);
                    (Source::Rule(rule), &mut rule_alerts[rule as usize])
                }
                Source::Correlation(other) => {
                    let Some(other) = place[other as usize] else { continue };
                    level = level.max(linked[other as usize].level);
                    (Source::Correlation(other), &mut correlation_alerts[other as usize])
                }
            };
            *alert = Some(alert.unwrap_or(false) || correlation.generate);
            bases.push(base(&correlation, name, source));
        }
        let level = correlation.level.unwrap_or(level);
        linked.push(Linked { correlation, bases, level, is_alert: true, role: Role::Correlation });
    }
    linked.iter_mut().zip(correlation_alerts).for_each(|(linked, alert)| linked.is_alert = alert.unwrap_or(true));
    (linked, rule_alerts.into_iter().map(|alert| alert.unwrap_or(true)).collect(), diagnostics)
}

fn base(correlation: &Correlation, rule: &Name, source: Source) -> Base {
    let field = |name: &str| {
        let alias = correlation.aliases.iter().find(|alias| alias.name.text == name);
        let own = alias.and_then(|alias| alias.fields.iter().find(|(named, _)| named.text == rule.text));
        own.map_or_else(|| name.to_owned(), |(_, field)| field.clone())
    };
    let group_by = correlation.group_by.iter().map(|name| field(&name.text)).collect();
    Base { source, group_by, fields: correlation.condition.fields.iter().map(|name| field(name)).collect() }
}

/// Everything that can be referred to. An id goes before a name.
struct Names<'a> {
    ids: HashMap<&'a str, Source>,
    /// `None` if two have it.
    names: HashMap<&'a str, Option<Source>>,
}

impl<'a> Names<'a> {
    fn new(rules: &'a [SigmaRule], correlations: &'a [Correlation]) -> Self {
        let rules = rules.iter().zip(0..).map(|(rule, index)| (rule.id.as_str(), rule.name.as_deref(), Source::Rule(index)));
        let correlations = correlations.iter().zip(0..);
        let correlations = correlations.map(|(rule, index)| (rule.id.as_str(), rule.name.as_deref(), Source::Correlation(index)));
        let mut found = Self { ids: HashMap::new(), names: HashMap::new() };
        for (id, name, source) in rules.chain(correlations) {
            found.ids.entry(id).or_insert(source);
            if let Some(name) = name {
                found.names.entry(name).and_modify(|other| *other = None).or_insert(Some(source));
            }
        }
        found
    }

    fn sources(&self, correlation: &Correlation, diagnostics: &mut Diagnostics) -> Option<Vec<Source>> {
        let mut sources = Vec::with_capacity(correlation.rules.len());
        for name in &correlation.rules {
            let text = name.text.as_str();
            match self.ids.get(text).copied().map(Some).or_else(|| self.names.get(text).copied()) {
                Some(Some(source)) => sources.push(source),
                Some(None) => {
                    diagnostics
                        .push(at(correlation, name, format!("more than one rule has the name `{text}`")).help("refer to it by its id"));
                }
                None => {
                    let mut diagnostic = at(correlation, name, format!("no rule has the id or name `{text}`"));
                    let near = nearest(text, self.names.keys().chain(self.ids.keys()).copied());
                    diagnostic.help = near.map(|near| format!("did you mean `{near}`?"));
                    diagnostics.push(diagnostic);
                }
            }
        }
        (sources.len() == correlation.rules.len()).then_some(sources)
    }
}

fn at(correlation: &Correlation, name: &Name, message: String) -> Diagnostic {
    Diagnostic::error(&correlation.file, name.line, name.column, "correlation.rules", message)
}

/// The correlations that can be resolved, each behind those that it refers to.
fn order(correlations: &[Correlation], sources: &[Option<Vec<Source>>], diagnostics: &mut Diagnostics) -> Vec<usize> {
    let mut is_done = vec![false; correlations.len()];
    let mut order = Vec::with_capacity(correlations.len());
    let is_ready = |sources: &[Source], is_done: &[bool]| {
        sources.iter().all(|source| match source {
            Source::Rule(_) => true,
            Source::Correlation(other) => is_done[*other as usize],
        })
    };
    loop {
        let before = order.len();
        for (index, sources) in sources.iter().enumerate() {
            if !is_done[index] && sources.as_ref().is_some_and(|sources| is_ready(sources, &is_done)) {
                is_done[index] = true;
                order.push(index);
            }
        }
        if order.len() == before {
            break;
        }
    }
    for (index, list) in sources.iter().enumerate().filter(|(index, _)| !is_done[*index]) {
        let Some(list) = list else { continue };
        let waits_for = |source: &Source| matches!(source, Source::Correlation(other) if !is_done[*other as usize]);
        let Some(number) = list.iter().position(waits_for) else { continue };
        let name = &correlations[index].rules[number];
        let message = if is_circle(index, sources) {
            format!("`{}` leads back to this correlation", name.text)
        } else {
            format!("`{}` cannot be used, for the reason given there", name.text)
        };
        diagnostics.push(at(&correlations[index], name, message));
    }
    order
}

/// Whether a correlation can be reached from itself.
fn is_circle(start: usize, sources: &[Option<Vec<Source>>]) -> bool {
    let mut is_seen = vec![false; sources.len()];
    let mut open = vec![start];
    while let Some(index) = open.pop() {
        for source in sources[index].iter().flatten() {
            match source {
                Source::Correlation(other) if *other as usize == start => return true,
                Source::Correlation(other) if !std::mem::replace(&mut is_seen[*other as usize], true) => open.push(*other as usize),
                _ => {}
            }
        }
    }
    false
}
