//! Conditions: what is lowered answers as VRL does, for the matcher's index and for its full scan.
//!
//! The oracle is the same condition as a program: behind `&& downcase("A") == "a"`, which always holds and which
//! no matcher knows. Values for which the two are documented to differ are not made (`hydrant::vrl`).
#![no_main]

use std::path::Path;

use hydrant::event::{Chunk, Events, Fields, Kind, SlotId, Span};
use hydrant::matcher::{Builder, Expr, Matcher};
use hydrant::vrl::{Condition, Program, Scratch};
use hydrant_fuzz::{Choices, RECEIVED_MS, Random, seed, sender};
use libfuzzer_sys::fuzz_target;

const FIELDS: [&str; 4] = ["a", "b.c", "%native.d", "%hydrant.alert"];

/// Events under one condition: compiling it costs more than all of them.
const EVENTS: usize = 16;

const LITERALS: [&str; 18] = [
    "443",
    "443.0",
    "0",
    "-0.0",
    "-5",
    "1.5",
    "1000.25",
    "9007199254740991",
    "-9007199254740992",
    "\"ab\"",
    "\"\"",
    "s'443'",
    "\"é\"",
    "\"10.1.2.3\"",
    "true",
    "false",
    "null",
    "\"a\\\"\\\\b\"",
];

const TEXTS: [&str; 9] = ["\"ab\"", "\"AB\"", "\"\"", "\"b\"", "s'4'", "\"10.\"", "\"é\"", "\"a b\"", "\"\\n\""];

const NETWORKS: [&str; 7] = [
    "\"10.0.0.0/8\"",
    "[\"192.168.0.0/16\", \"2001:db8::/32\"]",
    "[]",
    "\"10.1.2.3\"",
    "\"0.0.0.0/0\"",
    "\"::/0\"",
    "[\"10.1.0.0/30\", \"fe80::/10\"]",
];

const PATTERNS: [&str; 7] = ["^a", "(?i)ab$", "^$", r"^\d+$", "^.ab$", "é", "[a-c]{2}|4"];

const VALUES: [(Kind, &str); 20] = [
    (Kind::Missing, ""),
    (Kind::Null, ""),
    (Kind::True, ""),
    (Kind::False, ""),
    (Kind::Number, "443"),
    (Kind::Number, "443.0"),
    (Kind::Number, "-0"),
    (Kind::Number, "1e400"),
    (Kind::Number, "9223372036854775808"),
    (Kind::Text, "10.1.2.3"),
    (Kind::Text, "2001:db8::1"),
    (Kind::Text, "ab"),
    (Kind::Text, "AB"),
    (Kind::Text, "443"),
    (Kind::Escaped, r"a\u0062"),
    (Kind::Escaped, r#"\"ab\n"#),
    (Kind::Array, r#"["ab",443,null,true]"#),
    (Kind::Array, "[]"),
    (Kind::Object, r#"{"a":"ab"}"#),
    (Kind::Object, "{}"),
];

fuzz_target!(init: seed(seeds()), |input: &[u8]| {
    let mut choices = Choices(input);
    let condition = expression(&mut choices, 3);
    let Condition::Native(native) = compile(&condition) else {
        assert!(!is_always_lowered(&condition), "{condition} is not lowered");
        return;
    };
    let Condition::Program(program) = compile(&format!("({condition}) && downcase(\"A\") == \"a\"")) else {
        panic!("the oracle is lowered: {condition}");
    };
    let mut fields = Fields::default();
    let slots = FIELDS.map(|name| fields.slot(name));
    let (matcher, bound) = (matcher(native, &mut fields), program.bind(&FIELDS, &mut |name| fields.slot(name)));
    let chunk = Chunk::new(b"raw".to_vec(), vec![Span::new(0, 3); EVENTS], sender(), RECEIVED_MS);
    let mut events = Events::default();
    events.reset(&chunk, fields.width());
    let mut shown = Vec::new();
    for row in 0..EVENTS {
        for slot in slots {
            let (kind, bytes) = value(&mut choices, &condition);
            shown.push((kind, String::from_utf8_lossy(&bytes).into_owned()));
            if kind != Kind::Missing {
                events.row_mut(&chunk, row).set_written(slot, kind, |out| out.extend_from_slice(&bytes));
            }
        }
    }
    let mut scratch = (matcher.scratch(), Scratch::default());
    for row in 0..EVENTS {
        let event = events.event(&chunk, row);
        let expected = Program::check(&program, event, &bound, &mut scratch.1);
        let (mut indexed, mut scanned) = (Vec::new(), Vec::new());
        matcher.evaluate(event, &mut scratch.0, &mut indexed);
        matcher.full_scan(event, &mut scanned);
        let given = &shown[row * FIELDS.len()..][..FIELDS.len()];
        assert_eq!(!indexed.is_empty(), expected, "index: {condition}\n{given:?}");
        assert_eq!(!scanned.is_empty(), expected, "full scan: {condition}\n{given:?}");
    }
});

fn compile(source: &str) -> Condition {
    Condition::compile(source, Path::new("hydrant.yaml"), 1, "when").unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn matcher(expr: Expr<String>, fields: &mut Fields) -> Matcher {
    let Ok(expr) = expr.map_fields(&mut |name: String| Ok::<SlotId, std::convert::Infallible>(fields.slot(&name)));
    let mut builder = Builder::new();
    builder.add(expr);
    builder.build()
}

/// 2^53 is where VRL's equality begins to round; such a literal stays with it.
fn is_always_lowered(condition: &str) -> bool {
    !condition.contains("9007199254740992")
}

fn expression(choices: &mut Choices<'_>, depth: usize) -> String {
    let kind = if depth == 0 { 7 } else { choices.below(8) };
    match kind {
        0 => format!("({}) && ({})", expression(choices, depth - 1), expression(choices, depth - 1)),
        1 => format!("({}) || ({})", expression(choices, depth - 1), expression(choices, depth - 1)),
        2 => format!("{} && {}", expression(choices, depth - 1), expression(choices, depth - 1)),
        3 => format!("{} || {}", expression(choices, depth - 1), expression(choices, depth - 1)),
        4 => format!("!({})", expression(choices, depth - 1)),
        _ => test(choices),
    }
}

/// A condition of one field.
fn test(choices: &mut Choices<'_>) -> String {
    let field = choices.pick(&[".a", ".b.c", "%native.d", "%hydrant.alert"]);
    let number = |choices: &mut Choices<'_>| choices.pick(&LITERALS[..8]);
    match choices.below(12) {
        0 => format!("{field} {} {}", choices.pick(&["==", "!="]), choices.pick(&LITERALS)),
        1 => format!("{} {} {field}", choices.pick(&LITERALS), choices.pick(&["==", "!="])),
        2 => format!("{field} {} {}", choices.pick(&["<", "<=", ">", ">="]), number(choices)),
        3 => format!("({} {} {field} ?? false)", number(choices), choices.pick(&["<", "<=", ">", ">="])),
        4 | 5 => {
            let function = choices.pick(&["contains", "starts_with", "ends_with"]);
            let text = choices.pick(&TEXTS);
            let cased = choices.pick(&["", ", case_sensitive: false", ", case_sensitive: true", ", false"]);
            // Letters outside ASCII without case are VRL's own.
            let cased = if text.is_ascii() { cased } else { "" };
            format!("{function}({field}, {text}{cased})")
        }
        6 => format!("contains(substring: {}, value: string({field}))", choices.pick(&TEXTS)),
        7 => format!("match({field}, r'{}')", choices.pick(&PATTERNS)),
        8 => {
            let members: Vec<&str> = (0..choices.below(4)).map(|_| choices.pick(&LITERALS)).filter(|literal| !is_float(literal)).collect();
            format!("includes([{}], {field})", members.join(", "))
        }
        9 => format!("ip_cidr_contains({}, {field})", choices.pick(&NETWORKS)),
        10 => format!("{}({field})", choices.pick(&["exists", "is_null"])),
        _ => field.to_owned(),
    }
}

/// `includes` with a float is left to VRL.
fn is_float(literal: &str) -> bool {
    literal.parse::<f64>().is_ok() && literal.parse::<i64>().is_err()
}

/// What an event has in a slot.
fn value(choices: &mut Choices<'_>, condition: &str) -> (Kind, Vec<u8>) {
    let (kind, known) = choices.pick(&VALUES);
    match choices.below(4) {
        0 if kind == Kind::Text => {
            let bytes = choices.bytes(12);
            let is_utf8_asked = condition.contains("match(") || condition.contains("false)");
            let bytes = if is_utf8_asked { String::from_utf8_lossy(bytes).into_owned().into_bytes() } else { bytes.to_vec() };
            (kind, if differs(&bytes) { known.into() } else { bytes })
        }
        1 if kind == Kind::Number => {
            let digits = u64::from_le_bytes(std::array::from_fn(|_| choices.byte())) >> choices.below(64);
            let sign = choices.pick(&["", "-"]);
            let rest = choices.pick(&["", ".0", ".5", "e2", "e-2"]);
            (kind, format!("{sign}{digits}{rest}").into())
        }
        _ => (kind, known.into()),
    }
}

/// Letters whose lower case is disputed, and IPv4 addresses that are written as IPv6.
fn differs(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.contains(['\u{130}', '\u{212a}']) || text.to_ascii_lowercase().contains("ffff:")
}

/// Choices at random.
fn seeds() -> Vec<Vec<u8>> {
    let mut random = Random(3);
    (0..60).map(|_| (0..240).map(|_| random.below(256) as u8).collect()).collect()
}
