//! Sigma rules: any bytes are read without a panic in bounded time, and whatever rules come out, the index finds
//! the same hits as the full scan. Every second input is not text but choices that build plausible rules.
#![no_main]

use std::path::Path;

use hydrant::detect::sigma::{LogSource, Placeholders, load};
use hydrant::detect::{Detector, Vocabulary};
use hydrant::event::{Chunk, Events, Fields, Kind, Span};
use hydrant_fuzz::{Choices, RECEIVED_MS, Random, chosen, seed, sender};
use libfuzzer_sys::fuzz_target;

/// Takes every rule and knows every field.
struct Anything;

impl Vocabulary for Anything {
    fn carries(&self, _: &LogSource) -> bool {
        true
    }

    fn resolve(&self, field: &str) -> Option<String> {
        Some(field.to_owned())
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }
}

const MODIFIERS: [&str; 24] = [
    "",
    "|contains",
    "|startswith",
    "|endswith",
    "|re",
    "|re|i",
    "|cidr",
    "|lt",
    "|gte",
    "|exists",
    "|contains|all",
    "|cased",
    "|contains|cased",
    "|windash",
    "|contains|windash",
    "|base64",
    "|base64offset|contains",
    "|wide|base64offset|contains",
    "|fieldref",
    "|fieldref|startswith",
    "|neq",
    "|hour",
    "|minute|gt",
    "|expand",
];

const VALUES: [&str; 28] = [
    "admin",
    "ADMIN",
    "ad*n",
    "*min",
    "a?min*",
    "",
    "*",
    "?",
    "\\*",
    "a\\\\*b",
    "443",
    "-1.5e3",
    "18446744073709551615",
    "true",
    "10.0.0.0/8",
    "10.1.2.3",
    "::ffff:10.1.2.3",
    "fe80::/10",
    "a.b|c",
    "(?i)^adm.n$",
    "[a-c]{2,4}",
    "cmd -a /b",
    "f",
    "g",
    "\u{212a}elvin\u{130}",
    "strasse",
    "ADMIN\u{301}",
    "2026-11-21T08:00:00Z",
];

const CONDITIONS: [&str; 12] = [
    "s0",
    "not s0",
    "s0 and s1",
    "s0 or s1",
    "s0 and not s1",
    "1 of s*",
    "all of s*",
    "1 of them",
    "not (s0 or s1) or s0",
    "not 1 of s*",
    "s1 and (s0 or not s1)",
    "all of them",
];

const FIELDS: [&str; 3] = ["f", "g", "h.i"];

fuzz_target!(init: seed(seeds()), |input: &[u8]| {
    let mut choices = Choices(input);
    let text = if choices.byte() & 1 == 0 {
        let Ok(text) = std::str::from_utf8(choices.0) else { return };
        text.to_owned()
    } else {
        (0..1 + choices.below(4)).map(|_| rule(&mut choices)).collect()
    };
    let mut placeholders = Placeholders::new();
    placeholders.insert("name".into(), vec!["admin".into(), "srv*".into()]);
    let loaded = load(Path::new("rule.yml"), &text, &placeholders);
    for rule in &loaded.rules {
        assert!(!rule.id.is_empty() && rule.hash.len() == 64);
    }
    for diagnostic in &loaded.diagnostics.0 {
        assert!(!diagnostic.to_string().is_empty());
    }
    let mut fields = Fields::default();
    let (detector, _) = Detector::new(&loaded.rules, &Anything, &mut fields);
    if detector.is_empty() {
        return;
    }
    let frame = choices.bytes(200);
    let chunk = Chunk::new(frame.to_vec(), vec![Span::new(0, frame.len()); 2], sender(), RECEIVED_MS);
    let mut events = Events::default();
    events.reset(&chunk, fields.width());
    for row in 0..2 {
        for (slot, _) in fields.iter() {
            if let Some((kind, bytes)) = value(&mut choices) {
                events.row_mut(&chunk, row).set_written(slot, kind, |out| out.extend_from_slice(&bytes));
            }
        }
    }
    let (mut indexed, mut scanned) = (Vec::new(), Vec::new());
    detector.detect(&chunk, &events, 0..2, &mut detector.scratch(), &mut indexed);
    detector.full_scan(&chunk, &events, 0..2, &mut scanned);
    indexed.sort_unstable_by_key(|hit| (hit.row, hit.rule));
    scanned.sort_unstable_by_key(|hit| (hit.row, hit.rule));
    assert_eq!(indexed, scanned, "{text}");
});

/// A text: one of the constants, or bytes of the input, or both.
fn text(choices: &mut Choices<'_>) -> String {
    let known = choices.pick(&VALUES);
    match choices.below(4) {
        0 | 1 => known.to_owned(),
        2 => String::from_utf8_lossy(choices.bytes(12)).into_owned(),
        _ => format!("{}{known}", String::from_utf8_lossy(choices.bytes(70))),
    }
}

/// The text of one rule.
fn rule(choices: &mut Choices<'_>) -> String {
    let mut rule = "---\ntitle: t\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f\nlogsource: { product: test }\ndetection:\n".to_owned();
    for selection in 0..2 {
        rule.push_str(&format!("  s{selection}:\n"));
        let is_keyword = choices.below(6) == 0;
        for index in 0..1 + choices.below(2) {
            let values: Vec<String> = (0..1 + choices.below(3)).map(|_| scalar(choices)).collect();
            match is_keyword {
                true => rule.push_str(&format!("    - {}\n", values[0])),
                false => {
                    let (field, modifier) = (FIELDS[(index + choices.below(2)) % 3], choices.pick(&MODIFIERS));
                    let value = if values.len() == 1 { values[0].clone() } else { format!("[{}]", values.join(", ")) };
                    rule.push_str(&format!("    {field}{modifier}: {value}\n"));
                }
            }
        }
    }
    rule.push_str(&format!("  condition: {}\n", choices.pick(&CONDITIONS)));
    rule
}

/// A scalar of YAML, quoted or plain.
fn scalar(choices: &mut Choices<'_>) -> String {
    match choices.below(6) {
        0 => choices.pick(&["443", "-7", "0.5", "true", "false", "null", "1e3"]).to_owned(),
        1 => "'%name%'".into(),
        _ => serde_json::Value::String(text(choices)).to_string(),
    }
}

/// What an event has in a slot; the kinds promise what their bytes are.
fn value(choices: &mut Choices<'_>) -> Option<(Kind, Vec<u8>)> {
    let text = text(choices);
    let json = serde_json::Value::String(text.clone()).to_string();
    let numbers = ["443", "-7", "0.5", "1e3", "18446744073709551615", "4430e-1", "1e999"];
    Some(match choices.below(9) {
        0 => return None,
        1 => (Kind::Null, Vec::new()),
        2 => (Kind::True, Vec::new()),
        3 => (Kind::Number, choices.pick(&numbers).into()),
        4 => (Kind::Array, format!("[{json}, 443, [true, {json}], null, {{\"a\": 1}}]").into()),
        5 => (Kind::Object, format!("{{\"a\":{json}}}").into()),
        6 if json.contains('\\') => (Kind::Escaped, json[1..json.len() - 1].into()),
        7 => (Kind::Text, choices.bytes(40).into()),
        _ => (Kind::Text, text.into()),
    })
}

/// Rules that hydrant ships, and choices at random.
fn seeds() -> Vec<Vec<u8>> {
    let rules = hydrant::detect::pack().iter().map(|(_, text)| chosen(&[0], text.as_bytes()));
    let mut random = Random(1);
    let built: Vec<Vec<u8>> = (0..40).map(|_| (0..200).map(|at| if at == 0 { 1 } else { random.below(256) as u8 }).collect()).collect();
    rules.chain(built).collect()
}
