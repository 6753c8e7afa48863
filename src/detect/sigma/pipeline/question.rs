//! Conditions of a step: about the rule, about an item, about a field's name.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use regex::Regex;

use super::{Literal, Run, Subject, bodies};
use crate::config::{Content, Node};
use crate::detect::sigma::detection::Item;
use crate::detect::sigma::filter::covers;
use crate::detect::sigma::pattern::{self, Piece};
use crate::detect::sigma::value::Value;
use crate::detect::sigma::{LEVELS, LogSource, STATUSES, SigmaRule};

/// Conditions and how they are linked.
#[derive(Clone, Debug)]
pub(super) struct Gate<Q> {
    pub(super) questions: Vec<Q>,
    pub(super) link: Link,
    pub(super) is_negated: bool,
}

/// How the conditions of a gate make one.
#[derive(Clone, Debug)]
pub(super) enum Link {
    All,
    Any,
    Formula(Formula),
}

/// An expression over conditions by index.
#[derive(Clone, Debug)]
pub(super) enum Formula {
    Question(usize),
    Not(Box<Formula>),
    All(Vec<Formula>),
    Any(Vec<Formula>),
}

impl Formula {
    fn holds(&self, answers: &[bool]) -> bool {
        match self {
            Self::Question(index) => answers.get(*index).copied().unwrap_or(false),
            Self::Not(inner) => !inner.holds(answers),
            Self::All(parts) => parts.iter().all(|part| part.holds(answers)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(answers)),
        }
    }
}

impl<Q> Gate<Q> {
    /// Whether it lets pass; without conditions it does.
    pub(super) fn holds(&self, holds: impl Fn(&Q) -> bool) -> bool {
        let answer = match &self.link {
            _ if self.questions.is_empty() => return true,
            Link::All => self.questions.iter().all(holds),
            Link::Any => self.questions.iter().any(holds),
            Link::Formula(formula) => formula.holds(&self.questions.iter().map(holds).collect::<Vec<_>>()),
        };
        answer != self.is_negated
    }

    pub(super) fn questions(&self) -> std::slice::Iter<'_, Q> {
        self.questions.iter()
    }
}

/// How two things are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operator {
    #[default]
    Eq,
    Ne,
    Gte,
    Gt,
    Lte,
    Lt,
    In,
    NotIn,
}

impl Operator {
    /// Whether it holds for things in this order; `None` for those that have no order and differ.
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Eq => order == Some(Ordering::Equal),
            Self::Ne => order != Some(Ordering::Equal),
            Self::Gte => order.is_some_and(Ordering::is_ge),
            Self::Gt => order.is_some_and(Ordering::is_gt),
            Self::Lte => order.is_some_and(Ordering::is_le),
            Self::Lt => order.is_some_and(Ordering::is_lt),
            Self::In | Self::NotIn => false,
        }
    }
}

/// The step with an id was done, or the state has a value.
#[derive(Clone, Debug)]
pub(super) enum Past {
    Applied(String),
    State { key: String, value: Literal, op: Operator },
}

impl Past {
    fn holds(&self, steps: impl IntoIterator<Item = usize>, run: &Run<'_>) -> bool {
        match self {
            Self::Applied(id) => run.is_called(steps, id),
            Self::State { key, value, op } => run.state.get(key).is_some_and(|found| op.holds(compare(found, value))),
        }
    }

    fn wanted_id(&self) -> Option<&str> {
        if let Self::Applied(id) = self { Some(id) } else { None }
    }
}

fn compare(a: &Literal, b: &Literal) -> Option<Ordering> {
    match (a, b) {
        (Literal::Text(a), Literal::Text(b)) => Some(a.cmp(b)),
        (Literal::Number(a), Literal::Number(b)) => a.partial_cmp(b),
        (Literal::Boolean(a), Literal::Boolean(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// A condition about a rule.
#[derive(Clone, Debug)]
pub(super) enum RuleQuestion {
    LogSource(LogSource),
    ContainsItem { field: Option<String>, value: Literal },
    ContainsField(String),
    Past(Past),
    IsRule,
    IsCorrelation,
    Attribute { attribute: String, value: Literal, op: Operator },
    Tag(String),
}

impl RuleQuestion {
    pub(super) fn holds(&self, subject: &Subject<'_>, run: &Run<'_>) -> bool {
        let done = || run.done.iter().enumerate().filter(|(_, done)| **done).map(|(step, _)| step);
        match (self, subject) {
            (Self::IsRule, _) => matches!(subject, Subject::Rule(..)),
            (Self::IsCorrelation, _) => matches!(subject, Subject::Correlation(..)),
            (Self::Past(past), _) => past.holds(done(), run),
            (Self::LogSource(wanted), Subject::Rule(rule, _)) => covers(wanted, &rule.logsource),
            (Self::LogSource(wanted), Subject::Correlation(_, sources)) => sources.iter().any(|source| covers(wanted, source)),
            (Self::ContainsField(name), Subject::Rule(_, detection)) => {
                has_item(detection, |item| item.field.as_deref() == Some(name.as_str()))
            }
            (Self::ContainsItem { field, value }, Subject::Rule(_, detection)) => has_item(detection, |item| {
                item.field.is_some() && item.field == *field && item.values.iter().any(|written| value.is(&written.value))
            }),
            (Self::ContainsField(_) | Self::ContainsItem { .. }, Subject::Correlation(..)) => false,
            (Self::Tag(tag), Subject::Rule(rule, _)) => rule.tags.contains(tag),
            (Self::Tag(tag), Subject::Correlation(correlation, _)) => correlation.tags.contains(tag),
            (Self::Attribute { attribute, value, op }, Subject::Rule(rule, _)) => {
                Attribute::of_rule(rule, attribute).is_some_and(|a| a.holds(value, *op))
            }
            (Self::Attribute { attribute, value, op }, Subject::Correlation(correlation, _)) => {
                Attribute::written(correlation.custom.entry(attribute)).is_some_and(|a| a.holds(value, *op))
            }
        }
    }

    pub(super) fn wanted_id(&self) -> Option<&str> {
        if let Self::Past(past) = self { past.wanted_id() } else { None }
    }
}

fn has_item(detection: &super::Detection, is_it: impl Fn(&Item) -> bool) -> bool {
    let mut found = false;
    bodies(detection).for_each(|body| body.for_each_item(&mut |item| found |= is_it(item)));
    found
}

/// An attribute of a rule.
enum Attribute {
    One(Literal),
    Many(Vec<String>),
    /// Its place in an order of names, and that order.
    Ranked(usize, Vec<&'static str>),
}

impl Attribute {
    fn of_rule(rule: &SigmaRule, name: &str) -> Option<Self> {
        let text = |text: &str| (!text.is_empty()).then(|| Self::One(Literal::Text(text.to_owned())));
        let ranked =
            |names: Vec<&'static str>, name: &str| names.iter().position(|known| *known == name).map(|rank| Self::Ranked(rank, names));
        match name {
            "title" => text(&rule.title),
            "id" => text(&rule.id),
            "name" => text(rule.name.as_deref().unwrap_or_default()),
            "description" => text(&rule.description),
            "author" => text(&rule.author),
            "references" => Some(Self::Many(rule.references.clone())),
            "tags" => Some(Self::Many(rule.tags.clone())),
            "falsepositives" => Some(Self::Many(rule.falsepositives.clone())),
            "fields" => Some(Self::Many(rule.fields.clone())),
            "level" => ranked(LEVELS.iter().map(|(name, _)| *name).collect(), rule.level.as_str()),
            // From the least mature, as pySigma has it.
            "status" => ranked(STATUSES.iter().rev().map(|(name, _)| *name).collect(), rule.status?.as_str()),
            other => Self::written(rule.custom.entry(other)),
        }
    }

    fn written(node: Option<&Node>) -> Option<Self> {
        match &node?.content {
            Content::Sequence(items) => Some(Self::Many(items.iter().filter_map(|item| item.text().map(str::to_owned)).collect())),
            _ => Literal::new(node?).map(Self::One),
        }
    }

    fn holds(&self, value: &Literal, op: Operator) -> bool {
        match (self, value) {
            (Self::Many(list), Literal::Text(text)) if op == Operator::In => list.contains(text),
            (Self::Many(list), Literal::Text(text)) if op == Operator::NotIn => !list.contains(text),
            // A list is never equal to one value.
            (Self::Many(_), _) => op == Operator::Ne || op == Operator::NotIn,
            (Self::Ranked(rank, names), Literal::Text(text)) => {
                op.holds(names.iter().position(|name| name == text).map(|other| rank.cmp(&other)))
            }
            (Self::Ranked(..), _) => op.holds(None),
            (Self::One(found), value) => op.holds(compare(found, value)),
        }
    }
}

/// A condition about an item.
#[derive(Clone, Debug)]
pub(super) enum ItemQuestion {
    /// About all of its values, or any.
    Values {
        all: bool,
        asked: ValueQuestion,
    },
    Past(Past),
}

/// A condition about a value.
#[derive(Clone, Debug)]
pub(super) enum ValueQuestion {
    Matches { regex: Regex, is_negated: bool },
    Is(Literal),
    HasWildcard,
    IsNull,
}

impl ItemQuestion {
    pub(super) fn holds(&self, item: &Item, run: &Run<'_>) -> bool {
        match self {
            Self::Past(past) => past.holds(item.applied.iter().copied(), run),
            Self::Values { all: true, asked } => item.values.iter().all(|written| asked.holds(&written.value)),
            Self::Values { all: false, asked } => item.values.iter().any(|written| asked.holds(&written.value)),
        }
    }

    pub(super) fn wanted_id(&self) -> Option<&str> {
        if let Self::Past(past) = self { past.wanted_id() } else { None }
    }
}

impl ValueQuestion {
    fn holds(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Matches { regex, is_negated }, Value::Text(pieces)) => regex.is_match(&pattern::written(pieces)) != *is_negated,
            (Self::Matches { is_negated, .. }, _) => *is_negated,
            (Self::Is(literal), value) => literal.is(value),
            (Self::HasWildcard, Value::Text(pieces)) => pieces.iter().any(|piece| matches!(piece, Piece::Any | Piece::One)),
            (Self::IsNull, Value::Null) => true,
            (Self::HasWildcard | Self::IsNull, _) => false,
        }
    }
}

/// A condition about the name of a field; keywords have none.
#[derive(Clone, Debug)]
pub(super) enum FieldQuestion {
    Named { names: Vec<String>, is_excluded: bool },
    Matches { regexes: Vec<Regex>, is_excluded: bool },
    Past(Past),
}

impl FieldQuestion {
    pub(super) fn holds(&self, field: Option<&str>, applied: &BTreeSet<usize>, run: &Run<'_>) -> bool {
        match self {
            Self::Named { names, is_excluded } => field.is_some_and(|field| names.iter().any(|name| name == field)) != *is_excluded,
            Self::Matches { regexes, is_excluded } => {
                field.is_some_and(|field| regexes.iter().any(|regex| regex.is_match(field))) != *is_excluded
            }
            Self::Past(past) => past.holds(applied.iter().copied(), run),
        }
    }

    pub(super) fn wanted_id(&self) -> Option<&str> {
        if let Self::Past(past) = self { past.wanted_id() } else { None }
    }
}
