//! What a predicate is asked about: the scalars of a value.
//!
//! In: a [`Value`]. Out: each scalar that it stands for, JSON escapes resolved. A list gives its members in
//! order, lists inside lists flattened; objects give nothing. Array text comes from a decoder that has
//! checked it; where it is malformed all the same, the members that can be told apart count.
//!
//! No depth is kept: brackets of lists are skipped like commas, so nesting costs neither stack nor memory.

use memchr::{memchr, memchr2, memchr3};

use crate::event::Value;
use crate::json;
use crate::matcher::Type;

/// One scalar of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    /// `null`.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A number as written.
    Number(&'a [u8]),
    /// Text without escapes.
    Text(&'a [u8]),
}

impl<'a> Scalar<'a> {
    /// The scalar as text predicates see it.
    pub(super) fn text(self) -> Option<&'a [u8]> {
        match self {
            Self::Null => None,
            Self::Boolean(true) => Some(b"true"),
            Self::Boolean(false) => Some(b"false"),
            Self::Number(text) | Self::Text(text) => Some(text),
        }
    }
}

/// Whether `visit` says yes to a scalar of `value`; stops at the first. `buffer` is overwritten.
pub(super) fn any_scalar(value: Value<'_>, buffer: &mut Vec<u8>, visit: &mut impl FnMut(Scalar<'_>) -> bool) -> bool {
    match value {
        Value::Missing | Value::Object(_) => false,
        Value::Null => visit(Scalar::Null),
        Value::Boolean(boolean) => visit(Scalar::Boolean(boolean)),
        Value::Number(number) => visit(Scalar::Number(number)),
        Value::Text(text) => visit(Scalar::Text(text)),
        Value::Escaped(escaped) => {
            unescape_into(escaped, buffer);
            visit(Scalar::Text(buffer))
        }
        Value::Array(json) => any_member(json, buffer, visit),
    }
}

fn unescape_into(escaped: &[u8], buffer: &mut Vec<u8>) {
    buffer.clear();
    json::unescape(escaped, buffer);
}

fn any_member(json: &[u8], buffer: &mut Vec<u8>, visit: &mut impl FnMut(Scalar<'_>) -> bool) -> bool {
    let mut rest = json;
    while let Some((&first, tail)) = rest.split_first() {
        let found = match first {
            b'"' => {
                let (inside, after) = split_string(tail);
                rest = after;
                if memchr(b'\\', inside).is_some() {
                    unescape_into(inside, buffer);
                    visit(Scalar::Text(buffer))
                } else {
                    visit(Scalar::Text(inside))
                }
            }
            b'{' => {
                rest = after_object(tail);
                false
            }
            b'[' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' => {
                rest = tail;
                false
            }
            _ => {
                let (word, after) = rest.split_at(rest.iter().position(|byte| ends_word(*byte)).unwrap_or(rest.len()));
                rest = after;
                match word {
                    b"null" => visit(Scalar::Null),
                    b"true" => visit(Scalar::Boolean(true)),
                    b"false" => visit(Scalar::Boolean(false)),
                    _ if first == b'-' || first.is_ascii_digit() => visit(Scalar::Number(word)),
                    _ => false,
                }
            }
        };
        if found {
            return true;
        }
    }
    false
}

fn ends_word(byte: u8) -> bool {
    matches!(byte, b'"' | b'{' | b'[' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n')
}

/// The inside of a string and what follows its closing quote; `text` begins behind the opening quote.
fn split_string(text: &[u8]) -> (&[u8], &[u8]) {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        let at = from + at;
        if text.get(at) == Some(&b'"') {
            let (inside, after) = text.split_at(at);
            return (inside, after.get(1..).unwrap_or_default());
        }
        from = at + 2;
    }
    (text, &[])
}

/// What follows an object; `text` begins behind its opening brace.
fn after_object(text: &[u8]) -> &[u8] {
    let mut rest = text;
    let mut open = 1_usize;
    while let Some(at) = memchr3(b'"', b'{', b'}', rest) {
        let (sign, tail) = rest.split_at(at).1.split_first().unwrap_or((&b'}', &[]));
        rest = tail;
        match sign {
            b'"' => rest = split_string(tail).1,
            b'{' => open += 1,
            _ => open -= 1,
        }
        if open == 0 {
            return rest;
        }
    }
    &[]
}

/// Whether a field's own value is of a type, lists not looked into.
pub(super) fn is_of_type(value: Value<'_>, kind: Type) -> bool {
    match kind {
        Type::Boolean => matches!(value, Value::Boolean(_)),
        Type::Integer => matches!(value, Value::Number(text) if std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok())),
        Type::Null => matches!(value, Value::Missing | Value::Null),
        Type::Number => matches!(value, Value::Number(_)),
        Type::Text => matches!(value, Value::Text(_) | Value::Escaped(_)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalars(value: Value<'_>) -> Vec<String> {
        let mut seen = Vec::new();
        any_scalar(value, &mut Vec::new(), &mut |scalar| {
            seen.push(match scalar {
                Scalar::Text(text) => format!("t:{}", String::from_utf8_lossy(text)),
                Scalar::Number(text) => format!("n:{}", String::from_utf8_lossy(text)),
                Scalar::Boolean(boolean) => format!("b:{boolean}"),
                Scalar::Null => "null".to_owned(),
            });
            false
        });
        seen
    }

    #[test]
    fn lists_give_their_scalars_flattened_and_objects_nothing() {
        for (json, expected) in [
            ("[]", vec![]),
            (r#"["a", 1,true , null,[-2.5,["x"]]]"#, vec!["t:a", "n:1", "b:true", "null", "n:-2.5", "t:x"]),
            (r#"[{"a":["b","}"],"c":{"d":1}},"e"]"#, vec!["t:e"]),
            (r#"["a\"b,\\","\u0041\ud83d\ude00"]"#, vec!["t:a\"b,\\", "t:A😀"]),
            (r#"["open"#, vec!["t:open"]),
            ("[1,bad,2", vec!["n:1", "n:2"]),
            (r#"[{"open":["#, vec![]),
        ] {
            assert_eq!(scalars(Value::Array(json.as_bytes())), expected, "{json}");
        }
        assert!(scalars(Value::Object(b"{}")).is_empty() && scalars(Value::Missing).is_empty());
        assert_eq!(scalars(Value::Null), ["null"]);
    }
}
