//! Values of slots as VRL's, and back.
//!
//! | slot | VRL |
//! |---|---|
//! | Text | string of the same bytes, UTF-8 or not |
//! | Escaped | string, the JSON escapes resolved; half a surrogate pair becomes U+FFFD |
//! | Number | integer if it is written as one and fits `i64`, else the nearest 64-bit float; so integers above `i64::MAX` lose digits, as in Vector |
//! | Array, Object | parsed; what serde_json refuses (nested deeper than 128, not UTF-8, a number beyond any float) is a string of the JSON text |
//! | Null, Boolean | the same |
//! | Missing | absent |
//!
//! Back: a string is Text, a timestamp is Text in RFC 3339, a regular expression its source; strings inside
//! arrays and objects are made UTF-8, bytes that are not become U+FFFD; an infinite float is null, for JSON has none.

use ::vrl::value::Value;
use bytes::Bytes;

use crate::event;
use crate::event::Kind;
use crate::json;

/// The value of a slot; `None` if it is missing.
pub(super) fn load(value: event::Value<'_>) -> Option<Value> {
    Some(match value {
        event::Value::Missing => return None,
        event::Value::Null => Value::Null,
        event::Value::Boolean(value) => Value::Boolean(value),
        event::Value::Number(text) => number(text),
        event::Value::Text(text) => Value::Bytes(Bytes::copy_from_slice(text)),
        event::Value::Escaped(text) => {
            let mut out = Vec::new();
            json::unescape(text, &mut out);
            Value::Bytes(out.into())
        }
        event::Value::Array(json) | event::Value::Object(json) => {
            serde_json::from_slice(json).unwrap_or_else(|_| Value::Bytes(Bytes::copy_from_slice(json)))
        }
    })
}

/// Appends the value as a slot holds it.
pub(super) fn write(value: &Value, out: &mut Vec<u8>) -> Kind {
    match value {
        Value::Bytes(bytes) => {
            out.extend_from_slice(bytes);
            Kind::Text
        }
        Value::String(text) => {
            out.extend_from_slice(text.as_bytes());
            Kind::Text
        }
        Value::Regex(_) | Value::Timestamp(_) => {
            out.extend_from_slice(value.to_string_lossy().as_bytes());
            Kind::Text
        }
        Value::Boolean(value) => {
            out.extend_from_slice(if *value { b"true" } else { b"false" });
            if *value { Kind::True } else { Kind::False }
        }
        Value::Null => null(out),
        Value::Float(float) if !float.is_finite() => null(out),
        Value::Integer(_) | Value::Float(_) => json(value, Kind::Number, out),
        Value::Array(_) => json(value, Kind::Array, out),
        Value::Object(_) => json(value, Kind::Object, out),
    }
}

/// Roughly the bytes that [`write`] appends.
pub(super) fn size_bytes(value: &Value) -> usize {
    const SCALAR: usize = 8;
    match value {
        Value::Bytes(bytes) => bytes.len() + SCALAR,
        Value::String(text) => text.len() + SCALAR,
        Value::Array(items) => items.iter().map(size_bytes).sum::<usize>() + SCALAR,
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size_bytes(value)).sum::<usize>() + SCALAR,
        _ => SCALAR,
    }
}

fn null(out: &mut Vec<u8>) -> Kind {
    out.extend_from_slice(b"null");
    Kind::Null
}

fn json(value: &Value, kind: Kind, out: &mut Vec<u8>) -> Kind {
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        return null(out);
    }
    kind
}

fn number(text: &[u8]) -> Value {
    let parsed = std::str::from_utf8(text).ok().and_then(|text| {
        let integer = text.parse().ok().map(Value::Integer);
        integer.or_else(|| text.parse().ok().filter(|float: &f64| !float.is_nan()).map(Value::from_f64_or_zero))
    });
    parsed.unwrap_or_else(|| Value::Bytes(Bytes::copy_from_slice(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(value: &Value) -> (Kind, String) {
        let mut out = Vec::new();
        let kind = write(value, &mut out);
        (kind, String::from_utf8(out).unwrap())
    }

    fn unescape(inside: &[u8]) -> Vec<u8> {
        match load(event::Value::Escaped(inside)) {
            Some(Value::Bytes(bytes)) => bytes.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn escapes_resolve_as_serde_json_resolves_them() {
        for inside in [r#"a\"b"#, r"\\\/\b\f\n\r\t", r"\u00e9\u20AC", r"x\ud83d\ude00y", r"\u0041", "plain é"] {
            let oracle: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
            assert_eq!(unescape(inside.as_bytes()), oracle.as_bytes(), "{inside}");
        }
    }

    #[test]
    fn bad_escapes_stay_and_half_a_pair_is_replaced() {
        assert_eq!(unescape(br"a\qb"), br"a\qb");
        assert_eq!(unescape(br"a\"), br"a\");
        assert_eq!(unescape(br"\u12"), br"\u12");
        assert_eq!(unescape(br"\ud83dx"), "\u{fffd}x".as_bytes());
        assert_eq!(unescape(br"\ud83d\u0041"), "\u{fffd}A".as_bytes());
        assert_eq!(unescape(b"\xff\\n"), b"\xff\n");
    }

    #[test]
    fn numbers_above_i64_become_floats() {
        assert_eq!(load(event::Value::Number(b"9223372036854775807")), Some(Value::Integer(i64::MAX)));
        assert_eq!(load(event::Value::Number(b"9223372036854775808")), Some(Value::from_f64_or_zero(9_223_372_036_854_775_808_f64)));
        assert_eq!(load(event::Value::Number(b"1e2")), Some(Value::from_f64_or_zero(100.0)));
        assert_eq!(
            load(event::Value::Array(b"[9223372036854775808]")),
            Some(Value::Array(vec![Value::from_f64_or_zero(9_223_372_036_854_775_808_f64)]))
        );
    }

    #[test]
    fn json_that_serde_refuses_stays_text() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert_eq!(load(event::Value::Array(deep.as_bytes())), Some(Value::from(deep.as_bytes())));
        assert_eq!(load(event::Value::Object(b"{\"a\":\"\xff\"}")), Some(Value::from(&b"{\"a\":\"\xff\"}"[..])));
    }

    #[test]
    fn values_come_back_as_they_went() {
        assert_eq!(back(&Value::from("a\"b")), (Kind::Text, "a\"b".to_owned()));
        assert_eq!(back(&Value::Integer(-5)), (Kind::Number, "-5".to_owned()));
        assert_eq!(back(&Value::from_f64_or_zero(1.5)), (Kind::Number, "1.5".to_owned()));
        assert_eq!(back(&Value::from_f64_or_zero(f64::INFINITY)), (Kind::Null, "null".to_owned()));
        assert_eq!(back(&Value::Boolean(true)), (Kind::True, "true".to_owned()));
        let object = load(event::Value::Object(br#"{"a":[1,"x",null]}"#)).unwrap();
        assert_eq!(back(&object), (Kind::Object, r#"{"a":[1,"x",null]}"#.to_owned()));
    }
}
