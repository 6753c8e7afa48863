//! Numbers, compared without loss.
//!
//! In: text of a value. Out: a [`Number`]: whole numbers (also written `4688.0`) as integers of up to 127
//! bits, all else as the nearest `f64`. Integers and floats are compared by their exact values, never by
//! turning the integer into a float.
//!
//! Text reads as a number if it is an optional sign, digits, an optional fraction and an optional exponent;
//! leading zeros are fine. Hexadecimal, `inf`, `nan`, spaces and digit separators are not numbers.

use std::cmp::Ordering;

use crate::matcher::{Number, Order};

/// Longer text is no number: even the exact decimal form of the smallest `f64` that anybody logs is shorter.
const NUMBER_BYTES_MAX: usize = 512;

/// 2^127, the first float beyond `i128`.
const INTEGER_END: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;

/// A number with one form for each value, for hashing. `NaN` equals nothing that is read from an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum NumberKey {
    /// A whole number.
    Integer(i128),
    /// The bits of any other float.
    Float(u64),
}

impl NumberKey {
    /// The key of `number`.
    pub(super) fn new(number: Number) -> Self {
        match number {
            Number::Integer(integer) => Self::Integer(integer),
            Number::Float(float) if float.trunc() == float && (-INTEGER_END..INTEGER_END).contains(&float) => Self::Integer(float as i128),
            Number::Float(float) => Self::Float(float.to_bits()),
        }
    }

    /// The number it stands for.
    pub(super) fn number(self) -> Number {
        match self {
            Self::Integer(integer) => Number::Integer(integer),
            Self::Float(bits) => Number::Float(f64::from_bits(bits)),
        }
    }
}

/// Reads a number.
pub(super) fn parse(text: &[u8]) -> Option<Number> {
    let (negative, unsigned) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    let (whole, tail) = split_digits(unsigned);
    if whole.is_empty() || text.len() > NUMBER_BYTES_MAX {
        return None;
    }
    let (fraction, exponent) = match tail.strip_prefix(b".") {
        Some(tail) => split_digits(tail),
        None => (&[][..], tail),
    };
    if tail.starts_with(b".") && fraction.is_empty() {
        return None;
    }
    if exponent.is_empty() && fraction.iter().all(|digit| *digit == b'0') {
        let integer = whole.iter().try_fold(0_i128, |sum, digit| sum.checked_mul(10)?.checked_add(i128::from(digit - b'0')));
        if let Some(integer) = integer {
            return Some(Number::Integer(if negative { -integer } else { integer }));
        }
    }
    if !exponent.is_empty() {
        let digits = exponent.strip_prefix(b"e").or_else(|| exponent.strip_prefix(b"E"))?;
        let digits = digits.strip_prefix(b"-").or_else(|| digits.strip_prefix(b"+")).unwrap_or(digits);
        if digits.is_empty() || !split_digits(digits).1.is_empty() {
            return None;
        }
    }
    std::str::from_utf8(text).ok()?.parse().ok().map(Number::Float)
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

/// Compares two numbers by their exact values; `None` if one is `NaN`.
pub(super) fn compare(left: Number, right: Number) -> Option<Ordering> {
    match (left, right) {
        (Number::Integer(left), Number::Integer(right)) => Some(left.cmp(&right)),
        (Number::Float(left), Number::Float(right)) => left.partial_cmp(&right),
        (Number::Integer(left), Number::Float(right)) => compare_mixed(left, right),
        (Number::Float(left), Number::Integer(right)) => compare_mixed(right, left).map(Ordering::reverse),
    }
}

fn compare_mixed(integer: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        None
    } else if float >= INTEGER_END {
        Some(Ordering::Less)
    } else if float < -INTEGER_END {
        Some(Ordering::Greater)
    } else {
        Some(integer.cmp(&(float.trunc() as i128)).then(0.0.partial_cmp(&float.fract())?))
    }
}

/// Whether `ordering` is what `order` asks for.
pub(super) fn satisfies(order: Order, ordering: Option<Ordering>) -> bool {
    ordering.is_some_and(|ordering| match order {
        Order::Equal => ordering.is_eq(),
        Order::Greater => ordering.is_gt(),
        Order::GreaterOrEqual => ordering.is_ge(),
        Order::Less => ordering.is_lt(),
        Order::LessOrEqual => ordering.is_le(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_as_a_number_or_not() {
        let integer = |value| Some(Number::Integer(value));
        let float = |value| Some(Number::Float(value));
        for (text, expected) in [
            ("0", integer(0)),
            ("-0", integer(0)),
            ("+7", integer(7)),
            ("007", integer(7)),
            ("4688.000", integer(4688)),
            ("18446744073709551615", integer(u64::MAX.into())),
            ("-9223372036854775808", integer(i64::MIN.into())),
            ("170141183460469231731687303715884105728", float(INTEGER_END)),
            ("1.5", float(1.5)),
            ("-1.5E+2", float(-150.0)),
            ("1e999", float(f64::INFINITY)),
            ("", None),
            ("-", None),
            (".5", None),
            ("1.", None),
            ("1e", None),
            ("1e+", None),
            ("1e5x", None),
            ("0x10", None),
            ("1_000", None),
            (" 1", None),
            ("inf", None),
            ("nan", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(parse("1".repeat(NUMBER_BYTES_MAX + 1).as_bytes()), None);
    }

    #[test]
    fn integers_and_floats_compare_exactly() {
        let large = (1_i128 << 53) + 1;
        for (left, right, expected) in [
            (Number::Integer(large), Number::Float(large as f64), Some(Ordering::Greater)),
            (Number::Integer(4688), Number::Float(4688.0), Some(Ordering::Equal)),
            (Number::Integer(-1), Number::Float(-1.5), Some(Ordering::Greater)),
            (Number::Integer(-2), Number::Float(-1.5), Some(Ordering::Less)),
            (Number::Float(0.5), Number::Integer(0), Some(Ordering::Greater)),
            (Number::Integer(i128::MAX), Number::Float(INTEGER_END), Some(Ordering::Less)),
            (Number::Integer(i128::MIN), Number::Float(f64::NEG_INFINITY), Some(Ordering::Greater)),
            (Number::Integer(0), Number::Float(-0.0), Some(Ordering::Equal)),
            (Number::Integer(0), Number::Float(f64::NAN), None),
        ] {
            assert_eq!(compare(left, right), expected, "{left:?} {right:?}");
        }
    }

    #[test]
    fn equal_numbers_have_equal_keys() {
        assert_eq!(NumberKey::new(Number::Float(-0.0)), NumberKey::new(Number::Integer(0)));
        assert_eq!(NumberKey::new(Number::Float(3.0)), NumberKey::new(Number::Integer(3)));
        assert_ne!(NumberKey::new(Number::Float(3.5)), NumberKey::new(Number::Integer(3)));
        assert_eq!(NumberKey::new(Number::Float(1e300)).number(), Number::Float(1e300));
    }
}
