//! Why an expression holds for an event or not: `expression, event -> the same tree with what was decided`.
//!
//! Every predicate is asked as the full scan asks it, and none is left out because the answer is known already. Slow: for
//! people who look at one event, or at a sample.

mod nearly;

use std::fmt;

pub use nearly::nearly;

use crate::event::{Event, SlotId, Value};
use crate::matcher::{Expr, Glob, Number, Order, Predicate, TextOp, TimePart, Type, oracle};

/// A node of an expression with what was decided.
#[derive(Debug)]
pub struct Explained<'a, F> {
    /// How many predicates have to turn out otherwise, at least, for it to hold; 0 if it does.
    pub to_hold: usize,
    /// The same for it not to hold; 0 if it does not.
    pub to_fail: usize,
    /// What it is.
    pub what: What<'a, F>,
}

/// What a node is.
#[derive(Debug)]
pub enum What<'a, F> {
    /// All hold.
    All(Vec<Explained<'a, F>>),
    /// At least one holds.
    Any(Vec<Explained<'a, F>>),
    /// It does not hold.
    Not(Box<Explained<'a, F>>),
    /// A predicate of a field.
    Field(&'a F, &'a Predicate),
    /// A comparison of two fields.
    Fields {
        /// The left one.
        left: &'a F,
        /// How.
        op: TextOp,
        /// The right one.
        right: &'a F,
        /// Whether upper and lower case differ.
        cased: bool,
    },
    /// A predicate of the raw event and every value in it.
    Keyword(&'a Predicate),
}

/// Asks every predicate of `expr`; `slot` says where a field is, `None` if the event can never have it.
pub fn explain<'a, F>(expr: &'a Expr<F>, event: Event<'_>, slot: &impl Fn(&F) -> Option<SlotId>) -> Explained<'a, F> {
    let value = |field: &F| slot(field).map_or(Value::Missing, |slot| event.value(slot));
    let list = |items: &'a [Expr<F>]| items.iter().map(|item| explain(item, event, slot)).collect::<Vec<_>>();
    match expr {
        Expr::All(items) => Explained::all(list(items)),
        Expr::Any(items) => Explained::any(list(items)),
        Expr::Not(inner) => {
            let inner = explain(inner, event, slot);
            Explained { to_hold: inner.to_fail, to_fail: inner.to_hold, what: What::Not(Box::new(inner)) }
        }
        Expr::Field(field, predicate) => Explained::leaf(oracle::field_holds(predicate, value(field)), What::Field(field, predicate)),
        Expr::Fields { left, op, right, cased } => {
            let holds = oracle::fields_hold(value(left), *op, value(right), *cased);
            Explained::leaf(holds, What::Fields { left, op: *op, right, cased: *cased })
        }
        Expr::Keyword(predicate) => Explained::leaf(oracle::keyword_holds(predicate, event), What::Keyword(predicate)),
    }
}

/// Whether a predicate holds for the value of a field, as the full scan decides it.
pub fn holds(predicate: &Predicate, value: Value<'_>) -> bool {
    oracle::field_holds(predicate, value)
}

impl<'a, F> Explained<'a, F> {
    fn leaf(holds: bool, what: What<'a, F>) -> Self {
        Self { to_hold: usize::from(!holds), to_fail: usize::from(holds), what }
    }

    fn all(items: Vec<Self>) -> Self {
        let to_hold = items.iter().fold(0_usize, |sum, item| sum.saturating_add(item.to_hold));
        let to_fail = items.iter().map(|item| item.to_fail).min().unwrap_or(usize::MAX);
        Self { to_hold, to_fail, what: What::All(items) }
    }

    fn any(items: Vec<Self>) -> Self {
        let to_hold = items.iter().map(|item| item.to_hold).min().unwrap_or(usize::MAX);
        let to_fail = items.iter().fold(0_usize, |sum, item| sum.saturating_add(item.to_fail));
        Self { to_hold, to_fail, what: What::Any(items) }
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.to_hold == 0
    }

    /// The predicates each of which alone keeps it from holding. Empty unless [`Self::to_hold`] is 1.
    pub fn culprits(&self) -> Vec<&Self> {
        let mut found = Vec::new();
        if self.to_hold == 1 {
            self.collect(true, &mut found);
        }
        found
    }

    /// Goes to what turns this over, one step being enough.
    fn collect<'s>(&'s self, wanted: bool, found: &mut Vec<&'s Self>) {
        match &self.what {
            What::All(items) | What::Any(items) => {
                let is_one_step = |item: &&Self| if wanted { item.to_hold == 1 } else { item.to_fail == 1 };
                items.iter().filter(is_one_step).for_each(|item| item.collect(wanted, found));
            }
            What::Not(inner) => inner.collect(!wanted, found),
            What::Field(..) | What::Fields { .. } | What::Keyword(_) => found.push(self),
        }
    }
}

/// What a predicate asks, as the end of a sentence that begins with a field.
impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let case = |cased: bool| if cased { ", case matters" } else { "" };
        match self {
            Self::Text { op, text, cased } => write!(f, "{op} `{text}`{}", case(*cased)),
            Self::Glob { pieces, cased } => {
                f.write_str("is like `")?;
                pieces.iter().try_for_each(|piece| match piece {
                    Glob::Any => f.write_str("*"),
                    Glob::One => f.write_str("?"),
                    Glob::Text(text) => f.write_str(text),
                })?;
                write!(f, "`{}", case(*cased))
            }
            Self::Regex(regex) => write!(f, "matches `{regex}`"),
            Self::Number { op, number } => write!(f, "{op} {number}"),
            Self::Cidr(network) => write!(f, "is in {network}"),
            Self::Boolean(wanted) => write!(f, "is {wanted}"),
            Self::Exists => f.write_str("is there"),
            Self::Null => f.write_str("is missing or null"),
            Self::Type(kind) => f.write_str(match kind {
                Type::Boolean => "is a boolean",
                Type::Integer => "is an integer",
                Type::Null => "is missing or null",
                Type::Number => "is a number",
                Type::Text => "is text",
            }),
            Self::Time { part, op, number } => {
                let part = match part {
                    TimePart::Minute => "minute",
                    TimePart::Hour => "hour",
                    TimePart::Day => "day",
                    TimePart::Week => "week",
                    TimePart::Month => "month",
                    TimePart::Year => "year",
                };
                write!(f, "has a {part} that {op} {number}")
            }
        }
    }
}

impl fmt::Display for TextOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Contains => "contains",
            Self::EndsWith => "ends with",
            Self::Equals => "is",
            Self::StartsWith => "starts with",
        })
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "is",
            Self::Greater => "is above",
            Self::GreaterOrEqual => "is at least",
            Self::Less => "is below",
            Self::LessOrEqual => "is at most",
        })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Chunk, Events, Fields, Kind, Sender, Span};

    fn text(op: TextOp, text: &str) -> Predicate {
        Predicate::Text { op, text: text.into(), cased: false }
    }

    /// Explains an expression over an event with `action` deny and `port` 22.
    fn lacks(expr: &Expr<&'static str>) -> (usize, Vec<String>) {
        let mut fields = Fields::default();
        let (action, port) = (fields.slot("action"), fields.slot("port"));
        let sender = Arc::new(Sender { source: "t".into(), source_index: 0 });
        let chunk = Chunk::new(b"raw".to_vec(), vec![Span::new(0, 3)], sender, 0);
        let mut events = Events::default();
        events.reset(&chunk, fields.width());
        events.row_mut(&chunk, 0).set_written(action, Kind::Text, |out| out.extend_from_slice(b"deny"));
        events.row_mut(&chunk, 0).set_written(port, Kind::Number, |out| out.extend_from_slice(b"22"));
        let explained = explain(expr, events.event(&chunk, 0), &|name| fields.find(name));
        let slots = expr.clone().map_fields(&mut |name| fields.find(name).ok_or(())).unwrap();
        assert_eq!(explained.holds(), oracle::holds(&slots, events.event(&chunk, 0)));
        let culprits = explained.culprits();
        let told = culprits.iter().map(|leaf| match leaf.what {
            What::Field(name, predicate) => format!("{name} {predicate}"),
            _ => format!("{:?}", leaf.what),
        });
        (explained.to_hold, told.collect())
    }

    #[test]
    fn what_alone_keeps_an_expression_from_holding_is_named() {
        let field = |name, predicate| Expr::Field(name, predicate);
        let port = |number| field("port", Predicate::Number { op: Order::Equal, number: Number::Integer(number) });
        let deny = || field("action", text(TextOp::Equals, "deny"));
        let allow = || field("action", text(TextOp::Equals, "allow"));
        assert_eq!(lacks(&Expr::All(vec![deny(), port(22)])), (0, vec![]));
        assert_eq!(lacks(&Expr::All(vec![deny(), port(23)])), (1, vec!["port is 23".into()]));
        assert_eq!(lacks(&Expr::All(vec![allow(), port(23)])), (2, vec![]));
        let any = Expr::Any(vec![port(80), Expr::All(vec![allow(), port(81)]), port(443)]);
        assert_eq!(lacks(&Expr::All(vec![deny(), any])), (1, vec!["port is 80".into(), "port is 443".into()]));
        assert_eq!(lacks(&Expr::All(vec![deny(), Expr::Not(Box::new(port(22)))])), (1, vec!["port is 22".into()]));
        // Both hold, so taking one away is not enough.
        assert_eq!(lacks(&Expr::Not(Box::new(Expr::Any(vec![deny(), port(22)])))), (2, vec![]));
        assert_eq!(lacks(&Expr::Not(Box::new(Expr::All(vec![deny(), port(22)])))).1.len(), 2);
        assert_eq!(lacks(&Expr::Any(vec![])), (usize::MAX, vec![]));
    }
}
