//! The full scan: every predicate as its documentation says, no index, no sharing. It is what the engine is
//! held against, so it is written to be read, not to be fast: it allocates, and looks at every predicate anew. It shares
//! with the engine only how a value's scalars, numbers and times are read.

use std::cell::RefCell;
use std::net::IpAddr;

use crate::event::{Event, SlotId, Value};
use crate::matcher::instant;
use crate::matcher::member::{Scalar, any_scalar, is_of_type};
use crate::matcher::number::{compare, parse, satisfies};
use crate::matcher::{Expr, FIELD_PAIRS_MAX, Glob, Number, Predicate, TextOp};

/// Whether `expr` holds for `event`.
pub(super) fn holds(expr: &Expr<SlotId>, event: Event<'_>) -> bool {
    match expr {
        Expr::All(items) => items.iter().all(|item| holds(item, event)),
        Expr::Any(items) => items.iter().any(|item| holds(item, event)),
        Expr::Not(inner) => !holds(inner, event),
        Expr::Field(slot, predicate) => field_holds(predicate, event.value(*slot)),
        Expr::Fields { left, op, right, cased } => fields_hold(event.value(*left), *op, event.value(*right), *cased),
        Expr::Keyword(predicate) => keyword_holds(predicate, event),
    }
}

/// Whether a predicate holds for the value of a field.
pub(super) fn field_holds(predicate: &Predicate, value: Value<'_>) -> bool {
    match (predicate, value) {
        (Predicate::Exists, value) => value != Value::Missing,
        (Predicate::Null, Value::Missing) => true,
        (Predicate::Type(kind), value) => is_of_type(value, *kind),
        (_, value) => any_scalar(value, &mut Vec::new(), &mut |scalar| asks(predicate, scalar)),
    }
}

/// Whether a comparison of two fields holds.
pub(super) fn fields_hold(left: Value<'_>, op: TextOp, right: Value<'_>, cased: bool) -> bool {
    let (left, right) = (texts(left), texts(right));
    let pairs = left.iter().flat_map(|left| right.iter().map(move |right| (left, right)));
    pairs.take(FIELD_PAIRS_MAX).any(|(left, right)| asks_text(op, left, right, cased))
}

/// Whether a predicate holds for the raw event, for what it is without JSON escapes, or for any value in it.
pub(super) fn keyword_holds(predicate: &Predicate, event: Event<'_>) -> bool {
    let values = [Value::Text(event.raw()), Value::Escaped(event.raw())].into_iter().chain(event.values());
    let mut text = Vec::new();
    values.filter(|value| *value != Value::Missing).any(|value| any_scalar(value, &mut text, &mut |scalar| asks(predicate, scalar)))
}

/// Whether `predicate` holds for one scalar of a value.
pub(super) fn asks(predicate: &Predicate, scalar: Scalar<'_>) -> bool {
    match predicate {
        Predicate::Text { op, text, cased } => scalar.text().is_some_and(|value| asks_text(*op, value, text.as_bytes(), *cased)),
        Predicate::Glob { pieces, cased } => scalar.text().is_some_and(|value| glob_holds(pieces, *cased, &units(value, *cased))),
        Predicate::Regex(regex) => scalar.text().is_some_and(|value| regex.is_match(value)),
        Predicate::Number { op, number } => match scalar {
            Scalar::Number(text) | Scalar::Text(text) => parse(text).is_some_and(|value| satisfies(*op, compare(value, *number))),
            Scalar::Null | Scalar::Boolean(_) => false,
        },
        Predicate::Cidr(network) => match scalar {
            Scalar::Text(text) => {
                let address: Option<IpAddr> = String::from_utf8(text.to_vec()).ok().and_then(|text| text.parse().ok());
                address.is_some_and(|address| [address, address.to_canonical()].iter().any(|address| network.contains(address)))
            }
            _ => false,
        },
        Predicate::Boolean(wanted) => match scalar {
            Scalar::Boolean(boolean) => boolean == *wanted,
            Scalar::Text(text) => units(text, false) == units(wanted.to_string().as_bytes(), false),
            Scalar::Null | Scalar::Number(_) => false,
        },
        Predicate::Exists => true,
        Predicate::Type(_) => false,
        Predicate::Null => scalar == Scalar::Null,
        Predicate::Time { part, op, number } => instant::part(scalar, *part)
            .is_some_and(|value| satisfies(*op, compare(Number::Integer(value.into()), Number::Integer((*number).into())))),
    }
}

thread_local! {
    /// A text and its lower case: one command line is asked for by thousands of predicates, one behind the other.
    static LAST_LOWERED: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

fn asks_text(op: TextOp, value: &[u8], wanted: &[u8], cased: bool) -> bool {
    if cased {
        return text_holds(op, value, wanted);
    }
    if !value.is_ascii() || !wanted.is_ascii() {
        return LAST_LOWERED.with_borrow_mut(|(last, lowered)| {
            if last != value {
                *lowered = lower(value);
                value.clone_into(last);
            }
            text_holds(op, lowered, &lower(wanted))
        });
    }
    // Nearly all text, of which rules by the thousand ask by the million: nothing is copied.
    let is_wanted = |part: &[u8]| part.eq_ignore_ascii_case(wanted);
    let length = wanted.len();
    match op {
        TextOp::Contains => length == 0 || value.windows(length).any(|part| part[0].eq_ignore_ascii_case(&wanted[0]) && is_wanted(part)),
        TextOp::EndsWith => value.len() >= length && is_wanted(&value[value.len() - length..]),
        TextOp::Equals => is_wanted(value),
        TextOp::StartsWith => value.len() >= length && is_wanted(&value[..length]),
    }
}

/// All texts of a value.
pub(super) fn texts(value: Value<'_>) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    any_scalar(value, &mut Vec::new(), &mut |scalar| {
        texts.extend(scalar.text().map(<[u8]>::to_vec));
        false
    });
    texts
}

/// A character, or a byte that is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Character(char),
    Byte(u8),
}

/// The characters of a text, in simple lower case unless `cased`.
fn units(text: &[u8], cased: bool) -> Vec<Unit> {
    let mut units = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        units.extend(chunk.valid().chars().map(|character| Unit::Character(if cased { character } else { simple_lower(character) })));
        units.extend(chunk.invalid().iter().map(|byte| Unit::Byte(*byte)));
    }
    units
}

/// The bytes of the characters of a text in lower case.
fn lower(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            bytes.extend_from_slice(simple_lower(character).encode_utf8(&mut [0; 4]).as_bytes());
        }
        bytes.extend_from_slice(chunk.invalid());
    }
    bytes
}

fn simple_lower(character: char) -> char {
    if character.is_ascii() {
        return character.to_ascii_lowercase();
    }
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(single), None) => single,
        // U+0130 alone has a longer full mapping; its simple one (UnicodeData.txt, field 13) is this.
        _ => 'i',
    }
}

fn text_holds(op: TextOp, value: &[u8], wanted: &[u8]) -> bool {
    match op {
        TextOp::Contains => memchr::memmem::find(value, wanted).is_some(),
        TextOp::EndsWith => value.len() >= wanted.len() && value.iter().rev().zip(wanted.iter().rev()).all(|(a, b)| a == b),
        TextOp::Equals => value == wanted,
        TextOp::StartsWith => value.len() >= wanted.len() && value.iter().zip(wanted).all(|(a, b)| a == b),
    }
}

/// Dynamic programming: `reached[i]` says whether the pieces so far can match the first `i` characters.
fn glob_holds(pieces: &[Glob], cased: bool, value: &[Unit]) -> bool {
    let mut reached = vec![false; value.len() + 1];
    reached[0] = true;
    for piece in pieces {
        let mut next = vec![false; value.len() + 1];
        let mut starts = (0..=value.len()).filter(|start| reached[*start]);
        match piece {
            Glob::Any => starts.next().into_iter().for_each(|first| next[first..].fill(true)),
            Glob::One => starts.for_each(|start| next.iter_mut().skip(start + 1).take(1).for_each(|end| *end = true)),
            Glob::Text(text) => {
                let wanted = units(text.as_bytes(), cased);
                starts.filter(|start| value[*start..].starts_with(&wanted)).for_each(|start| next[start + wanted.len()] = true);
            }
        }
        reached = next;
    }
    reached.last() == Some(&true)
}
