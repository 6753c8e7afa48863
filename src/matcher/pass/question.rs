//! Slow predicates, asked one by one and only when a program needs the answer.

use crate::event::{Event, SlotId, Value};
use crate::matcher::atom::{Slow, Target};
use crate::matcher::instant;
use crate::matcher::member::{Scalar, any_scalar};
use crate::matcher::number::{self, compare};
use crate::matcher::pass::Buffers;
use crate::matcher::text::{self, Pattern, fold_into};
use crate::matcher::{FIELD_PAIRS_MAX, Number, Predicate, TextOp};

/// A slow predicate, ready to be asked.
#[derive(Debug)]
pub(in crate::matcher) enum Question {
    /// Of a slot or the event.
    Ask(Target, Ready),
    /// Two fields.
    Fields { left: SlotId, op: TextOp, right: SlotId, cased: bool },
}

/// A predicate of a scalar.
#[derive(Debug)]
pub(in crate::matcher) enum Ready {
    Glob(Pattern),
    Plain(Predicate),
}

impl Question {
    pub(super) fn new(slow: &Slow) -> Self {
        match slow {
            Slow::Ask(target, Predicate::Glob { pieces, cased }) => Self::Ask(*target, Ready::Glob(Pattern::new(pieces, *cased))),
            Slow::Ask(target, predicate) => Self::Ask(*target, Ready::Plain(predicate.clone())),
            Slow::Fields { left, op, right, cased } => Self::Fields { left: *left, op: *op, right: *right, cased: *cased },
        }
    }

    pub(super) fn holds(&self, event: Event<'_>, buffers: &mut Buffers) -> bool {
        let Buffers { texts, unescaped, folded, .. } = buffers;
        match self {
            Self::Ask(Target::Slot(slot), Ready::Glob(pattern)) => {
                texts.any(event, *slot, &mut |text, folded| pattern.matches(if pattern.cased { text } else { folded }))
            }
            Self::Ask(Target::Slot(slot), Ready::Plain(Predicate::Regex(regex))) => {
                texts.any(event, *slot, &mut |text, _| regex.is_match(text))
            }
            Self::Ask(Target::Slot(slot), ready) => any_scalar(event.value(*slot), unescaped, &mut |scalar| ready.holds(scalar, folded)),
            Self::Ask(Target::Event, ready) => {
                texts.any_of_raw(event, &mut |text, _| ready.holds(Scalar::Text(text), folded))
                    || event.values().any(|value| any_scalar(value, unescaped, &mut |scalar| ready.holds(scalar, folded)))
            }
            Self::Fields { left, op, right, cased } => compare_fields(event.value(*left), *op, event.value(*right), *cased, buffers),
        }
    }
}

impl Ready {
    fn holds(&self, scalar: Scalar<'_>, folded: &mut Vec<u8>) -> bool {
        match self {
            Self::Glob(pattern) => scalar.text().is_some_and(|text| {
                if pattern.cased {
                    return pattern.matches(text);
                }
                fold_into(text, folded);
                pattern.matches(folded)
            }),
            Self::Plain(Predicate::Regex(regex)) => scalar.text().is_some_and(|text| regex.is_match(text)),
            Self::Plain(Predicate::Time { part, op, number }) => instant::part(scalar, *part).is_some_and(|value| {
                let (value, wanted) = (Number::Integer(value.into()), Number::Integer((*number).into()));
                number::satisfies(*op, compare(value, wanted))
            }),
            Self::Plain(Predicate::Number { op, number }) => {
                let (Scalar::Number(text) | Scalar::Text(text)) = scalar else { return false };
                number::parse(text).is_some_and(|value| number::satisfies(*op, compare(value, *number)))
            }
            Self::Plain(Predicate::Boolean(boolean)) => {
                let wanted = if *boolean { &b"true"[..] } else { b"false" };
                scalar.text().is_some_and(|text| text.eq_ignore_ascii_case(wanted))
            }
            Self::Plain(Predicate::Cidr(network)) => {
                let Scalar::Text(text) = scalar else { return false };
                let address = std::str::from_utf8(text).ok().and_then(|text| text.parse::<std::net::IpAddr>().ok());
                address.is_some_and(|address| network.contains(&address) || network.contains(&address.to_canonical()))
            }
            Self::Plain(Predicate::Exists) => true,
            Self::Plain(Predicate::Null) => scalar == Scalar::Null,
            // Of a slot these are indexed; the whole event has no single text and no type.
            Self::Plain(Predicate::Text { .. } | Predicate::Glob { .. } | Predicate::Type(_)) => false,
        }
    }
}

/// Any member of the left against any member of the right, [`FIELD_PAIRS_MAX`] pairs at most.
fn compare_fields(left: Value<'_>, op: TextOp, right: Value<'_>, cased: bool, buffers: &mut Buffers) -> bool {
    let Buffers { unescaped, folded, other_unescaped, other_folded, .. } = buffers;
    let mut pairs = 0;
    let found = any_scalar(left, unescaped, &mut |left| {
        let Some(mut left) = left.text() else { return false };
        if !cased {
            fold_into(left, folded);
            left = folded;
        }
        any_scalar(right, other_unescaped, &mut |right| {
            let Some(mut right) = right.text() else { return false };
            if !cased {
                fold_into(right, other_folded);
                right = other_folded;
            }
            pairs += 1;
            // Beyond the limit the search ends as if it had found something.
            pairs > FIELD_PAIRS_MAX || text::compare(op, left, right)
        })
    });
    found && pairs <= FIELD_PAIRS_MAX
}
