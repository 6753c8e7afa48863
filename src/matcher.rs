//! Predicates over an event, compiled: rules and routes share them.
//!
//! An [`Expr`] is what a rule or a route asks, in terms of fields (names while it is being compiled, slots
//! afterwards). A matcher interns the distinct predicates of all of them as atoms, decides each atom at most
//! once per event, and evaluates only the programs that an index says may hold. The index may only
//! over-approximate; the full scan is its oracle.
//!
//! # What a predicate means
//!
//! * A missing field makes every predicate false but [`Predicate::Null`] and [`Type::Null`]; `Not` is plain
//!   negation, so "not x" holds when the field is missing.
//! * A field that is a list holds if any of its members does (Sigma is silent here; every engine does so).
//!   An object holds only `Exists`.
//! * [`Predicate::Type`] looks at the field itself and never into a list. Beside another predicate it makes
//!   that one strict: "is a number, and equals 443" leaves out the text `443` and the list `[443]`. VRL
//!   conditions are lowered to such pairs.
//! * Comparisons without `cased` fold ASCII letters and, where either side has other letters, Unicode's
//!   simple lower-case mapping. Bytes that are not UTF-8 are compared as bytes.
//! * Text predicates see numbers and booleans as they are written (`4688`, `true`), JSON escapes resolved.

mod atom;
mod cost;
mod engine;
pub mod explain;
mod gate;
mod instant;
mod lists;
mod literal;
mod matched;
mod member;
mod number;
mod oracle;
mod pass;
mod program;
#[cfg(test)]
mod tests;
mod text;
mod typical;

pub use cost::{Cost, EVERY as COST_EVERY};
pub use engine::{Builder, Matcher, ProgramId, Scratch};
pub use matched::Matched;

use regex::bytes::Regex;

/// Pairs of members that a comparison of two lists looks at; what comes later does not count. Two lists that
/// fill a frame have 10^10 pairs, two that anybody compares have a few hundred.
pub const FIELD_PAIRS_MAX: usize = 65_536;

/// How a text is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TextOp {
    /// Somewhere in the value.
    Contains,
    /// At its end.
    EndsWith,
    /// The whole value.
    Equals,
    /// At its start.
    StartsWith,
}

/// How a number is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Order {
    /// Equal.
    Equal,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
}

/// A number that keeps 64 bits of integer apart from floating point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Any integer from `i64::MIN` to `u64::MAX`.
    Integer(i128),
    /// Everything else.
    Float(f64),
}

/// Part of the event's time, in UTC (Sigma 2.1.0, modifiers appendix, time modifiers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TimePart {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// Day of the month, 1 to 31.
    Day,
    /// ISO week, 1 to 53.
    Week,
    /// 1 to 12.
    Month,
    /// Four digits.
    Year,
}

/// A piece of a wildcard pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Glob {
    /// `*`: any run of characters, also none.
    Any,
    /// `?`: exactly one character.
    One,
    /// These characters.
    Text(String),
}

/// What a field's value is, as the event has it: nothing is converted and lists are not looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// `true` or `false`; not their text.
    Boolean,
    /// A number without fraction and exponent that fits 64 bits with sign.
    Integer,
    /// Missing, or JSON `null`.
    Null,
    /// A number, integers included; not its text.
    Number,
    /// Text.
    Text,
}

/// A question to one field.
#[derive(Clone, Debug)]
pub enum Predicate {
    /// Text comparison with a literal.
    Text {
        /// How.
        op: TextOp,
        /// With what.
        text: String,
        /// Whether upper and lower case differ.
        cased: bool,
    },
    /// The whole value against a pattern with wildcards inside. Patterns that [`TextOp`] can say are
    /// normalised to it when the expression is built ([`Predicate::glob`]).
    Glob {
        /// The pieces, in order.
        pieces: Vec<Glob>,
        /// Whether upper and lower case differ.
        cased: bool,
    },
    /// The regular expression finds something in the value. Its flags stand inside it (`(?i)`), not on the
    /// builder, where the index could not see them.
    Regex(Regex),
    /// Numeric comparison; text that reads as a number counts as one.
    Number {
        /// How.
        op: Order,
        /// With what.
        number: Number,
    },
    /// The value is an address inside the network.
    Cidr(ipnet::IpNet),
    /// The value is this boolean, or its text in any case.
    Boolean(bool),
    /// The field is there, whatever its value, `null` included.
    Exists,
    /// The field is missing or `null`.
    Null,
    /// The field itself is of this type.
    Type(Type),
    /// The part of the time that the field holds (RFC 3339 text, or a number of seconds, ms, us or ns).
    Time {
        /// Which part.
        part: TimePart,
        /// How it is compared.
        op: Order,
        /// With what.
        number: i64,
    },
}

/// A boolean expression over predicates of fields of type `F`.
#[derive(Clone, Debug)]
pub enum Expr<F> {
    /// All hold; true when empty.
    All(Vec<Expr<F>>),
    /// At least one holds; false when empty.
    Any(Vec<Expr<F>>),
    /// It does not hold.
    Not(Box<Expr<F>>),
    /// A predicate of a field.
    Field(F, Predicate),
    /// A text comparison of two fields of the same event; false if either is missing.
    Fields {
        /// The left field.
        left: F,
        /// How.
        op: TextOp,
        /// The right field.
        right: F,
        /// Whether upper and lower case differ.
        cased: bool,
    },
    /// A predicate that holds for the raw event, for what it is without JSON escapes, or for any value in it (Sigma keywords).
    Keyword(Predicate),
}

impl<F> Expr<F> {
    /// The same expression over other fields.
    ///
    /// # Errors
    /// The first error of `field`.
    pub fn map_fields<G, E>(self, field: &mut impl FnMut(F) -> Result<G, E>) -> Result<Expr<G>, E> {
        let list = |items: Vec<Self>, field: &mut _| items.into_iter().map(|e| e.map_fields(field)).collect::<Result<Vec<_>, E>>();
        Ok(match self {
            Self::All(items) => Expr::All(list(items, field)?),
            Self::Any(items) => Expr::Any(list(items, field)?),
            Self::Not(inner) => Expr::Not(Box::new(inner.map_fields(field)?)),
            Self::Field(name, predicate) => Expr::Field(field(name)?, predicate),
            Self::Fields { left, op, right, cased } => Expr::Fields { left: field(left)?, op, right: field(right)?, cased },
            Self::Keyword(predicate) => Expr::Keyword(predicate),
        })
    }

    /// Calls `visit` with every field.
    pub fn for_each_field<'a>(&'a self, visit: &mut impl FnMut(&'a F)) {
        match self {
            Self::All(items) | Self::Any(items) => items.iter().for_each(|item| item.for_each_field(visit)),
            Self::Not(inner) => inner.for_each_field(visit),
            Self::Field(field, _) => visit(field),
            Self::Fields { left, right, .. } => {
                visit(left);
                visit(right);
            }
            Self::Keyword(_) => {}
        }
    }
}

impl Predicate {
    /// The simplest predicate for a pattern of `pieces`.
    pub fn glob(mut pieces: Vec<Glob>, cased: bool) -> Self {
        pieces.dedup_by(|a, b| *a == Glob::Any && *b == Glob::Any);
        let text = |op, text: &str| Self::Text { op, text: text.to_owned(), cased };
        match pieces.as_slice() {
            [] => text(TextOp::Equals, ""),
            [Glob::Text(t)] => text(TextOp::Equals, t),
            [Glob::Any] => text(TextOp::Contains, ""),
            [Glob::Any, Glob::Text(t)] => text(TextOp::EndsWith, t),
            [Glob::Text(t), Glob::Any] => text(TextOp::StartsWith, t),
            [Glob::Any, Glob::Text(t), Glob::Any] => text(TextOp::Contains, t),
            _ => Self::Glob { pieces, cased },
        }
    }
}
