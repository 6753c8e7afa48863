//! What is nearly so: `predicate that fails, value -> the nearest thing that would hold`.
//!
//! The candidates are the mistakes that people make: upper and lower case, a whole value where a part was meant, `?` as in a
//! URL, text where a number was meant, an address with its port.

use std::net::IpAddr;

use regex::Regex as TextRegex;

use crate::error::nearest;
use crate::event::Value;
use crate::matcher::number::{compare, parse, satisfies};
use crate::matcher::oracle::{field_holds, texts};
use crate::matcher::{Glob, Order, Predicate, TextOp};

/// Why `predicate` nearly holds for `value`; `None` if it holds, or if nothing that is known is near.
pub fn nearly(predicate: &Predicate, value: Value<'_>) -> Option<String> {
    if value == Value::Missing || field_holds(predicate, value) {
        return None;
    }
    let texts = texts(value);
    let texts: Vec<&str> = texts.iter().filter_map(|text| std::str::from_utf8(text).ok()).collect();
    match predicate {
        Predicate::Text { op, text, cased } => text_nearly(*op, text, *cased, value, &texts),
        Predicate::Glob { pieces, cased } => glob_nearly(pieces, *cased, value),
        Predicate::Regex(regex) => {
            let folded = TextRegex::new(&format!("(?i:{regex})")).ok()?;
            let holds = texts.iter().any(|text| folded.is_match(text));
            holds.then(|| "only upper and lower case differ: `|re|i`".to_owned())
        }
        Predicate::Number { .. } => {
            let is_number = texts.iter().any(|text| parse(text.as_bytes()).is_some());
            (!texts.is_empty() && !is_number).then(|| "the value is no number".to_owned())
        }
        Predicate::Cidr(network) => texts.iter().find_map(|text| {
            let inside = text.trim_matches(['[', ' ']).split([']', '/', '%', ' ']).next()?;
            let address: IpAddr = inside.parse().ok().or_else(|| inside.rsplit_once(':')?.0.parse().ok())?;
            let is_other = network.contains(&address) && text.parse::<IpAddr>().is_err();
            is_other.then(|| format!("{address} is in it, but the value is more than an address"))
        }),
        Predicate::Boolean(_) => (!texts.is_empty()).then(|| "the value is no boolean".to_owned()).filter(|_| {
            let is_boolean = |text: &&str| text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
            !texts.iter().any(is_boolean)
        }),
        Predicate::Exists | Predicate::Null | Predicate::Type(_) | Predicate::Time { .. } => None,
    }
}

fn text_nearly(op: TextOp, text: &str, cased: bool, value: Value<'_>, texts: &[&str]) -> Option<String> {
    let holds = |op, text: &str, cased| field_holds(&Predicate::Text { op, text: text.to_owned(), cased }, value);
    if cased && holds(op, text, false) {
        return Some("only upper and lower case differ".into());
    }
    if op == TextOp::Equals && texts.iter().any(|value| value.trim().eq_ignore_ascii_case(text.trim())) {
        return Some("only white space around it differs".into());
    }
    let is_number = |value: &&str| match (parse(value.as_bytes()), parse(text.as_bytes())) {
        (Some(value), Some(wanted)) => satisfies(Order::Equal, compare(value, wanted)),
        _ => false,
    };
    if op == TextOp::Equals && texts.iter().any(is_number) {
        return Some("equal as numbers, not as text: without quotes it is compared as a number".into());
    }
    if op != TextOp::Contains && holds(TextOp::Contains, text, cased) {
        return Some(match op {
            TextOp::Equals => "it is a part of the value: `|contains`".into(),
            TextOp::StartsWith => "it is inside the value, not at its start: `|contains`".into(),
            _ => "it is inside the value, not at its end: `|contains`".into(),
        });
    }
    let near = texts.iter().find(|value| nearest(value, [text]).is_some()).filter(|_| op == TextOp::Equals);
    near.map(|value| format!("`{value}` is written nearly the same"))
}

fn glob_nearly(pieces: &[Glob], cased: bool, value: Value<'_>) -> Option<String> {
    if cased && field_holds(&Predicate::Glob { pieces: pieces.to_vec(), cased: false }, value) {
        return Some("only upper and lower case differ".into());
    }
    let without: Vec<Glob> = pieces.iter().filter(|piece| **piece != Glob::One).cloned().collect();
    if without.len() < pieces.len() && field_holds(&Predicate::glob(joined(without), cased), value) {
        return Some("it holds without `?`, which stands for exactly one character (`\\?` is the sign itself)".into());
    }
    let around = [&[Glob::Any], pieces, &[Glob::Any]].concat();
    field_holds(&Predicate::glob(around, cased), value).then(|| "it is a part of the value: `*` on both sides".into())
}

/// Texts that stand side by side as one.
fn joined(pieces: Vec<Glob>) -> Vec<Glob> {
    let mut joined: Vec<Glob> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Glob::Text(before)), Glob::Text(text)) => before.push_str(&text),
            (_, piece) => joined.push(piece),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::Number;

    #[test]
    fn the_mistakes_that_people_make_are_told() {
        let text = |op, text: &str, cased| Predicate::Text { op, text: text.into(), cased };
        let piece = |text: &str| Glob::Text(text.into());
        let url = Predicate::Glob { pieces: vec![Glob::Any, piece("/index.php"), Glob::One, piece("")], cased: false };
        let port = Predicate::Number { op: Order::Equal, number: Number::Integer(22) };
        let network = Predicate::Cidr("10.0.0.0/8".parse().unwrap());
        let regex = Predicate::Regex(regex::bytes::Regex::new("Union").unwrap());
        for (predicate, value, expected) in [
            (&text(TextOp::Equals, "Deny", true), "deny", "only upper and lower case differ"),
            (&text(TextOp::Equals, "deny", false), "deny ", "only white space around it differs"),
            (&text(TextOp::Equals, "deny", false), "policy-deny", "it is a part of the value: `|contains`"),
            (&text(TextOp::Equals, "443", false), "0443", "equal as numbers"),
            (&text(TextOp::EndsWith, ".exe", false), "a.exe -x", "it is inside the value, not at its end"),
            (&text(TextOp::Equals, "denied", false), "deny", ""),
            (&text(TextOp::Equals, "blocked", false), "blockd", "`blockd` is written nearly the same"),
            (&url, "/a/index.php", "it holds without `?`"),
            (&port, "ssh", "the value is no number"),
            (&port, "23", ""),
            (&network, "10.1.2.3:443", "10.1.2.3 is in it, but the value is more than an address"),
            (&network, "11.1.2.3:443", ""),
            (&regex, "a union b", "only upper and lower case differ"),
            (&Predicate::Boolean(true), "yes", "the value is no boolean"),
        ] {
            let told = nearly(predicate, Value::Text(value.as_bytes()));
            let is_right = if expected.is_empty() { told.is_none() } else { told.as_ref().is_some_and(|told| told.starts_with(expected)) };
            assert!(is_right, "{predicate}, {value}: {told:?}");
        }
        assert_eq!(nearly(&port, Value::Missing), None);
        assert_eq!(nearly(&port, Value::Number(b"22")), None);
    }
}
