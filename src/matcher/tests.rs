//! What every predicate means, as tables; and the engine against its oracle.

use std::sync::Arc;

use proptest::prelude::*;
use regex::bytes::Regex;

use crate::event::{Chunk, Event, Events, Fields, Kind, Sender, Slot, SlotId, Span};
use crate::matcher::{Builder, Expr, Glob, Number, Order, Predicate, ProgramId, TextOp, TimePart, Type};

const SLOTS: usize = 3;

/// A value to be put into an event.
#[derive(Clone, Debug)]
pub(super) struct Given {
    kind: Kind,
    bytes: Vec<u8>,
    in_arena: bool,
}

pub(super) fn given(kind: Kind, text: &str) -> Given {
    Given { kind, bytes: text.as_bytes().to_vec(), in_arena: false }
}

pub(super) fn slot_ids() -> Vec<SlotId> {
    let mut fields = Fields::default();
    (0..SLOTS).map(|index| fields.slot(&format!("field{index}"))).collect()
}

/// Calls `check` with an event of `values`; the raw event is the values that are not in the arena, in a row.
pub(super) fn with_event<T>(values: &[Given], check: impl FnOnce(Event<'_>) -> T) -> T {
    let mut bytes = b"before the frame ".to_vec();
    let start = bytes.len();
    let mut slots = Vec::new();
    for value in values {
        bytes.extend_from_slice(b" v=");
        slots.push(Slot::new(value.kind, bytes.len(), value.bytes.len()));
        if !value.in_arena && value.kind != Kind::Missing {
            bytes.extend_from_slice(&value.bytes);
        }
    }
    let frame = Span::new(start, bytes.len());
    bytes.extend_from_slice(b" after the frame");
    let sender = Arc::new(Sender { source: "test".into(), source_index: 0 });
    let chunk = Chunk::new(bytes, vec![frame], sender, 0);
    let mut events = Events::default();
    events.reset(&chunk, SLOTS);
    for ((id, slot), value) in slot_ids().into_iter().zip(slots).zip(values) {
        let mut row = events.row_mut(&chunk, 0);
        match value.kind {
            Kind::Missing => {}
            kind if value.in_arena => row.set_written(id, kind, |arena| arena.extend_from_slice(&value.bytes)),
            _ => row.set(id, slot),
        }
    }
    check(events.event(&chunk, 0))
}

/// What both engines say of `predicate` for a value of the first slot.
fn asked(predicate: &Predicate, value: &Given) -> bool {
    holds(Expr::Field(slot_ids()[0], predicate.clone()), std::slice::from_ref(value))
}

fn holds(expr: Expr<SlotId>, values: &[Given]) -> bool {
    let mut builder = Builder::new();
    builder.add(expr.clone());
    let matcher = builder.build();
    let (mut hits, mut expected) = (Vec::new(), Vec::new());
    with_event(values, |event| {
        matcher.evaluate(event, &mut matcher.scratch(), &mut hits);
        matcher.full_scan(event, &mut expected);
    });
    assert_eq!(hits, expected, "{expr:?} {values:?}");
    hits == [ProgramId(0)]
}

fn text(op: TextOp, text: &str, cased: bool) -> Predicate {
    Predicate::Text { op, text: text.to_owned(), cased }
}

fn check_all(predicate: &Predicate, rows: &[(Kind, &str, bool)]) {
    for (kind, value, expected) in rows {
        assert_eq!(asked(predicate, &given(*kind, value)), *expected, "{predicate:?} {kind:?} {value}");
    }
}

#[test]
fn text_is_compared_folded_unless_cased() {
    let rows = |expected: [bool; 7]| -> Vec<(Kind, &'static str, bool)> {
        let values = ["admin", "ADMIN", "xadmin", "adminx", "xAdminx", "", "admi"];
        values.into_iter().zip(expected).map(|(value, expected)| (Kind::Text, value, expected)).collect()
    };
    check_all(&text(TextOp::Equals, "Admin", false), &rows([true, true, false, false, false, false, false]));
    check_all(&text(TextOp::Equals, "ADMIN", true), &rows([false, true, false, false, false, false, false]));
    check_all(&text(TextOp::Contains, "Admin", false), &rows([true, true, true, true, true, false, false]));
    check_all(&text(TextOp::Contains, "Admin", true), &rows([false, false, false, false, true, false, false]));
    check_all(&text(TextOp::StartsWith, "Admin", false), &rows([true, true, false, true, false, false, false]));
    check_all(&text(TextOp::EndsWith, "Admin", false), &rows([true, true, true, false, false, false, false]));
    check_all(&text(TextOp::Equals, "", false), &rows([false, false, false, false, false, true, false]));
    check_all(&text(TextOp::Contains, "", false), &rows([true; 7]));
}

#[test]
fn other_letters_fold_by_simple_lower_case() {
    check_all(
        &text(TextOp::Equals, "Élan", false),
        &[(Kind::Text, "éLAN", true), (Kind::Escaped, r"\u00c9lan", true), (Kind::Text, "Elan", false)],
    );
    // Neither the first nor the last character need be ASCII for the folded text to be.
    check_all(
        &text(TextOp::Equals, "kI", false),
        &[(Kind::Text, "\u{212a}İ", true), (Kind::Text, "Kİ", true), (Kind::Text, "\u{212a}i", true), (Kind::Text, "kk", false)],
    );
    check_all(&text(TextOp::Contains, "kI", false), &[(Kind::Text, "x\u{212a}İ", true), (Kind::Text, "xkı", false)]);
    check_all(&text(TextOp::Equals, "STRASSE", false), &[(Kind::Text, "straße", false), (Kind::Text, "strasse", true)]);
    check_all(&text(TextOp::Equals, "ΑΣ", false), &[(Kind::Text, "ασ", true), (Kind::Text, "ας", false)]);
}

#[test]
fn text_predicates_see_numbers_and_booleans_as_written() {
    check_all(
        &text(TextOp::Equals, "4688", false),
        &[(Kind::Number, "4688", true), (Kind::Text, "4688", true), (Kind::Number, "4688.0", false), (Kind::Object, "4688", false)],
    );
    check_all(
        &text(TextOp::Equals, "TRUE", false),
        &[(Kind::True, "", true), (Kind::False, "", false), (Kind::Null, "null", false), (Kind::Missing, "", false)],
    );
    check_all(&text(TextOp::Equals, "null", false), &[(Kind::Null, "null", false), (Kind::Text, "null", true)]);
}

#[test]
fn a_list_holds_if_a_member_does() {
    check_all(
        &text(TextOp::StartsWith, "b", false),
        &[
            (Kind::Array, r#"["a","b"]"#, true),
            (Kind::Array, r#"["a",["Bc"]]"#, true),
            (Kind::Array, r#"["\u0062"]"#, true),
            (Kind::Array, r#"[{"b":"b"}]"#, false),
            (Kind::Array, "[]", false),
        ],
    );
    check_all(&Predicate::Null, &[(Kind::Array, "[1,null]", true), (Kind::Array, "[]", false)]);
    check_all(&Predicate::Exists, &[(Kind::Array, "[]", true), (Kind::Object, "{}", true)]);
}

#[test]
fn missing_and_null_differ_only_for_exists() {
    check_all(&Predicate::Exists, &[(Kind::Missing, "", false), (Kind::Null, "null", true), (Kind::Text, "", true)]);
    check_all(&Predicate::Null, &[(Kind::Missing, "", true), (Kind::Null, "null", true), (Kind::Text, "", false)]);
    let not = |predicate| Expr::Not(Box::new(Expr::Field(slot_ids()[0], predicate)));
    assert!(holds(not(text(TextOp::Equals, "x", false)), &[given(Kind::Missing, "")]));
    assert!(!holds(not(text(TextOp::Equals, "x", false)), &[given(Kind::Text, "x")]));
}

#[test]
fn wildcards_stand_for_characters() {
    let glob = Predicate::glob(vec![Glob::Text("/x.php".into()), Glob::One, Glob::Text("id=".into()), Glob::Any], false);
    check_all(
        &glob,
        &[
            (Kind::Text, "/X.php?id=1", true),
            (Kind::Text, "/x.phpéid=", true),
            (Kind::Text, "/x.phpid=1", false),
            (Kind::Text, "a/x.php?id=1", false),
        ],
    );
}

#[test]
fn regular_expressions_search_and_are_cased() {
    let regex = |pattern| Predicate::Regex(Regex::new(pattern).unwrap());
    check_all(&regex(r"cmd\.exe\s"), &[(Kind::Text, "x cmd.exe /c", true), (Kind::Text, "x CMD.exe /c", false)]);
    check_all(
        &regex(r"(?i)union\s+select"),
        &[(Kind::Text, "1 UNION  SELECT", true), (Kind::Text, "union all", false), (Kind::Text, "union \u{17f}elect", true)],
    );
    check_all(&regex(r"^\d{4}$"), &[(Kind::Number, "4688", true), (Kind::True, "", false)]);
}

#[test]
fn numbers_are_compared_without_loss() {
    let number = |op, number| Predicate::Number { op, number };
    let large = Number::Integer(9_007_199_254_740_993);
    check_all(
        &number(Order::Equal, large),
        &[
            (Kind::Number, "9007199254740993", true),
            (Kind::Text, "9007199254740993", true),
            (Kind::Number, "9007199254740992", false),
            (Kind::Number, "9007199254740992.0", false),
            (Kind::Number, "9007199254740993.0", true),
            (Kind::True, "", false),
        ],
    );
    check_all(
        &number(Order::GreaterOrEqual, Number::Float(1.5)),
        &[(Kind::Number, "1.5", true), (Kind::Number, "2", true), (Kind::Number, "1", false), (Kind::Text, "x", false)],
    );
    check_all(&number(Order::Less, Number::Integer(0)), &[(Kind::Number, "-0.5", true), (Kind::Number, "0", false)]);
}

#[test]
fn networks_hold_addresses_of_both_spellings() {
    check_all(
        &Predicate::Cidr("10.1.0.0/16".parse().unwrap()),
        &[
            (Kind::Text, "10.1.2.3", true),
            (Kind::Text, "::ffff:10.1.2.3", true),
            (Kind::Text, "10.2.2.3", false),
            (Kind::Text, "10.1.2.3:80", false),
            (Kind::Array, r#"["x","10.1.9.9"]"#, true),
        ],
    );
    check_all(&Predicate::Cidr("2001:db8::/32".parse().unwrap()), &[(Kind::Text, "2001:DB8::1", true), (Kind::Text, "2001:db9::1", false)]);
    check_all(&Predicate::Cidr("0.0.0.0/0".parse().unwrap()), &[(Kind::Text, "1.1.1.1", true), (Kind::Text, "::1", false)]);
}

#[test]
fn booleans_are_true_and_false_in_any_case() {
    check_all(
        &Predicate::Boolean(true),
        &[(Kind::True, "", true), (Kind::Text, "True", true), (Kind::False, "", false), (Kind::Number, "1", false)],
    );
}

#[test]
fn parts_of_a_time_are_in_utc() {
    let hour = Predicate::Time { part: TimePart::Hour, op: Order::GreaterOrEqual, number: 22 };
    check_all(
        &hour,
        &[(Kind::Text, "2026-01-04T01:30:00+02:00", true), (Kind::Text, "2026-01-04T01:30:00Z", false), (Kind::Text, "never", false)],
    );
}

#[test]
fn two_fields_are_compared_member_by_member() {
    let slots = slot_ids();
    let fields = |op, cased| Expr::Fields { left: slots[0], op, right: slots[1], cased };
    let pair = |left: &str, right: &str| [given(Kind::Array, left), given(Kind::Array, right)];
    assert!(holds(fields(TextOp::Equals, false), &pair(r#"["a","B"]"#, r#"["x","b"]"#)));
    assert!(!holds(fields(TextOp::Equals, true), &pair(r#"["a","B"]"#, r#"["x","b"]"#)));
    assert!(holds(fields(TextOp::EndsWith, false), &pair(r#"["a","xB"]"#, r#"["b"]"#)));
    assert!(!holds(fields(TextOp::Equals, false), &[given(Kind::Missing, ""), given(Kind::Missing, "")]));
}

#[test]
fn keywords_see_the_raw_event_and_every_value() {
    let keyword = |op, word| Expr::Keyword(text(op, word, false));
    let arena = Given { in_arena: true, ..given(Kind::Text, "geo Fra") };
    let values = [given(Kind::Escaped, r"C:\\Temp"), given(Kind::Text, "tail"), arena];
    assert!(holds(keyword(TextOp::Contains, r"C:\\temp"), &values), "raw");
    assert!(holds(keyword(TextOp::Contains, r"C:\temp"), &values), "unescaped");
    assert!(holds(keyword(TextOp::Equals, "GEO FRA"), &values), "arena");
    assert!(holds(keyword(TextOp::Equals, "TAIL"), &values), "a whole value");
    assert!(!holds(keyword(TextOp::Equals, "tai"), &values));
    assert!(!holds(keyword(TextOp::Contains, "frame"), &values), "outside the frame");
}

#[test]
fn a_long_list_is_one_atom() {
    let slot = slot_ids()[0];
    let mut builder = Builder::new();
    for program in 0..2 {
        let list = (0..5_000).map(|index| Expr::Field(slot, text(TextOp::Equals, &format!("host{}.example", index + program), false)));
        builder.add(Expr::Any(list.collect()));
    }
    let matcher = builder.build();
    assert_eq!(matcher.atom_count(), 2);
    let mut hits = Vec::new();
    for (host, expected) in
        [("HOST0.example", vec![0]), ("host1.example", vec![0, 1]), ("host5000.example", vec![1]), ("host5001.example", vec![])]
    {
        with_event(&[given(Kind::Text, host)], |event| matcher.evaluate(event, &mut matcher.scratch(), &mut hits));
        assert_eq!(hits.iter().map(|hit| hit.0).collect::<Vec<_>>(), expected, "{host}");
    }
}

/// One by one, by their grams behind Teddy, by their grams alone: chosen by the number of literals.
#[test]
fn every_search_finds_what_the_oracle_finds() {
    let slot = slot_ids()[0];
    let ops = [TextOp::Contains, TextOp::EndsWith, TextOp::StartsWith];
    let word = |index: usize| format!("{}w{:04}.", ["", "x", "yx"][index % 3], index / 3);
    for count in [3, 40, 400, 6_000] {
        let mut builder = Builder::new();
        for index in 0..count {
            builder.add(Expr::Field(slot, text(ops[index / 3 % 3], &word(index), index % 5 == 0)));
        }
        let matcher = builder.build();
        let (mut scratch, mut hits, mut expected) = (matcher.scratch(), Vec::new(), Vec::new());
        let mut found = 0;
        for value in 0..30 {
            let index = value * 7919 % count;
            // Teddy only looks at long values.
            let padding = "-".repeat(value % 2 * 200);
            let bytes = format!("{}{padding}/{}É{}", word(index), word((index + 4) % count).to_uppercase(), word((index + 8) % count));
            let bytes = if value % 3 == 0 { format!("{padding}{bytes}") } else { bytes };
            with_event(&[given(Kind::Text, &bytes)], |event| {
                matcher.evaluate(event, &mut scratch, &mut hits);
                matcher.full_scan(event, &mut expected);
            });
            assert_eq!(hits, expected, "{count} {bytes}");
            found += hits.len();
        }
        assert!(found > 30, "{count}: {found}");
    }
}

/// Literals of every length and number, in a value and in a whole event: so that every way to look for them is taken, and each
/// two of them together.
#[test]
fn literals_of_all_lengths_are_found_together() {
    let slot = slot_ids()[0];
    // Of some length, in letters that make them overlap and begin like others.
    let word = |len: usize, number: usize| -> String {
        (0..len).map(|place| ['a', 'b', '='][(number / 3_usize.pow(place as u32 % 5) + place / 5) % 3]).collect()
    };
    for (short, middle, long) in
        [(0, 0, 9), (2, 0, 9), (2, 2, 9), (9, 0, 90), (9, 9, 0), (9, 9, 90), (70, 40, 200), (0, 40, 1), (200, 0, 0)]
    {
        let lens = (0..short).map(|n| 1 + n % 4).chain((0..middle).map(|n| 5 + n % 2)).chain((0..long).map(|n| 7 + n % 9));
        let words: Vec<String> = lens.enumerate().map(|(number, len)| word(len, number * 7)).collect();
        let mut builder = Builder::new();
        for (index, word) in words.iter().enumerate() {
            let wanted = text([TextOp::Contains, TextOp::EndsWith][index % 2], word, index % 5 == 0);
            builder.add(Expr::Field(slot, wanted));
            builder.add(Expr::Keyword(text(TextOp::Contains, word, index % 5 == 0)));
        }
        let matcher = builder.build();
        let (mut scratch, mut hits, mut expected, mut found) = (matcher.scratch(), Vec::new(), Vec::new(), 0);
        for value in 0..300 {
            let bytes = format!("{}{}B{}", word(value % 60, value), ["", "-", "\\u0061"][value % 3], words[value % words.len()]);
            with_event(&[given(if value % 3 == 2 { Kind::Escaped } else { Kind::Text }, &bytes)], |event| {
                matcher.evaluate(event, &mut scratch, &mut hits);
                matcher.full_scan(event, &mut expected);
            });
            assert_eq!(hits, expected, "{short} {middle} {long} {bytes}");
            found += hits.len();
        }
        assert!(found > 300, "{short} {middle} {long}: {found}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A raw event is searched as it came and without its escapes; most of what the one has, the other has too.
    #[test]
    fn keywords_over_escapes_are_found(
        keywords in prop::collection::vec(r#"[abn"\\]{1,5}"#, 1..12),
        cased in any::<bool>(),
        ops in prop::collection::vec(any_op(), 12),
        raw in prop::collection::vec(prop::sample::select(vec!["a", "b", "A", "\"", r#"\""#, r"\\", r"\\", r"\n", r"\u0061", r"\"]), 0..10),
        plain in any::<bool>(),
    ) {
        let raw: String = raw.into_iter().filter(|part| !plain || part.len() < 6 && !matches!(*part, r"\n" | r"\")).collect();
        let mut builder = Builder::new();
        for (keyword, op) in keywords.iter().zip(ops) {
            builder.add(Expr::Keyword(text(op, keyword, cased)));
        }
        let matcher = builder.build();
        let (mut hits, mut expected) = (Vec::new(), Vec::new());
        with_event(&[given(Kind::Object, &raw)], |event| {
            matcher.evaluate(event, &mut matcher.scratch(), &mut hits);
            matcher.full_scan(event, &mut expected);
        });
        prop_assert_eq!(hits, expected);
    }
}

/// In a whole event many short literals are found together, overlapping ones and those that begin like others too.
#[test]
fn every_short_keyword_is_found() {
    let words = ["abc", "abcd", "bcd", "cda", "dab", "aab", "baa", "aaa", "aaaa", "abab", "bab", "a.b", "é4"];
    for words in [&words[..], &words[..4]] {
        let mut builder = Builder::new();
        for (index, word) in words.iter().enumerate() {
            builder.add(Expr::Keyword(text(TextOp::Contains, word, index % 4 == 3)));
        }
        let matcher = builder.build();
        let (mut scratch, mut hits, mut expected, mut found) = (matcher.scratch(), Vec::new(), Vec::new(), 0);
        for value in 0_usize..2_000 {
            let letters = (0..value % 40).map(|place| b"abcdABCD.\\"[(value * 31 + place * place * 7 + place * value) % 10]);
            let bytes: Vec<u8> = letters.chain(*b"\xc3\x894").take(value % 43).collect();
            with_event(&[Given { kind: Kind::Text, bytes, in_arena: value % 7 == 0 }], |event| {
                matcher.evaluate(event, &mut scratch, &mut hits);
                matcher.full_scan(event, &mut expected);
            });
            assert_eq!(hits, expected, "{value}");
            found += hits.len();
        }
        assert!(found > 100, "{found}");
    }
}

#[test]
fn what_must_not_be_missing_waits_for_its_field() {
    let slots = slot_ids();
    let null = |slot: usize| Expr::Field(slots[slot], Predicate::Null);
    let unlike = |text_op, word| Expr::Field(slots[0], text(text_op, word, false));
    let mut builder = Builder::new();
    builder.add(Expr::Not(Box::new(null(0))));
    builder.add(Expr::Not(Box::new(Expr::Any(vec![unlike(TextOp::EndsWith, ".exe"), unlike(TextOp::Equals, "-"), null(0)]))));
    builder.add(Expr::Not(Box::new(Expr::Field(slots[0], Predicate::Type(Type::Null)))));
    builder.add(Expr::Not(Box::new(Expr::All(vec![null(0), null(1)]))));
    builder.add(Expr::Not(Box::new(unlike(TextOp::Equals, "-"))));
    builder.add(null(0));
    let matcher = builder.build();
    assert_eq!(matcher.unindexed().collect::<Vec<_>>(), [4, 5].map(ProgramId));
}

#[test]
fn a_scratch_outlives_the_wrap_of_its_stamp() {
    let slots = slot_ids();
    let is_x = Expr::Field(slots[0], text(TextOp::Equals, "x", false));
    let regex = Expr::Field(slots[1], Predicate::Regex(Regex::new("^a$").unwrap()));
    let mut builder = Builder::new();
    builder.add(is_x.clone());
    builder.add(Expr::Not(Box::new(Expr::Field(slots[0], text(TextOp::Contains, "xyz", false)))));
    builder.add(Expr::All(vec![is_x, regex]));
    let matcher = builder.build();
    assert_eq!(matcher.unindexed().collect::<Vec<_>>(), [ProgramId(1)]);
    let (mut scratch, mut hits) = (matcher.scratch(), Vec::new());
    // Stamps 1 to 3. At 2, "xyz" holds for the last time; at 3, the regex runs and two programs are candidates.
    for value in ["xyz", "xyz", "x"] {
        with_event(&[given(Kind::Text, value), given(Kind::Text, "b")], |event| matcher.evaluate(event, &mut scratch, &mut hits));
    }
    scratch.set_stamp(u32::MAX - 1);
    // The last stamp, then 1 to 4 again.
    let before = ("y", vec![1]);
    for (value, expected) in [before, ("y", vec![1]), ("y", vec![1]), ("x", vec![0, 1, 2]), ("xyz", vec![])] {
        with_event(&[given(Kind::Text, value), given(Kind::Text, "a")], |event| matcher.evaluate(event, &mut scratch, &mut hits));
        assert_eq!(hits.iter().map(|hit| hit.0).collect::<Vec<_>>(), expected, "{value}");
    }
}

#[test]
fn what_is_remembered_outlives_the_wrap_of_the_stamp() {
    let slots = slot_ids();
    let mut builder = Builder::new();
    let is_x = Expr::Field(slots[0], text(TextOp::Equals, "x", false));
    builder.add(Expr::All(vec![is_x, Expr::Field(slots[1], Predicate::Regex(Regex::new("^a$").unwrap()))]));
    let matcher = builder.build();
    let (mut scratch, mut hits) = (matcher.scratch(), Vec::new());
    let mut evaluate = |scratch: &mut crate::matcher::Scratch, left, right| {
        with_event(&[given(Kind::Text, left), given(Kind::Text, right)], |event| matcher.evaluate(event, scratch, &mut hits));
        !hits.is_empty()
    };
    // Stamps 1 to 3: "b" is remembered.
    assert_eq!(["b"; 3].map(|right| evaluate(&mut scratch, "x", right)), [false; 3]);
    scratch.set_stamp(u32::MAX);
    // Stamps 1 to 4 again; at the third, what is asked of "a" must not be remembered with "b".
    assert_eq!(
        [("y", "b"), ("y", "b"), ("x", "a"), ("x", "b")].map(|(left, right)| evaluate(&mut scratch, left, right)),
        [false, false, true, false]
    );
}

#[test]
fn nothing_is_written_for_constants_and_no_programs() {
    assert!(!holds(Expr::Any(vec![]), &[given(Kind::Text, "x")]));
    assert!(holds(Expr::All(vec![]), &[given(Kind::Missing, "")]));
    let matcher = Builder::new().build();
    let mut hits = vec![ProgramId(7)];
    with_event(&[], |event| matcher.evaluate(event, &mut matcher.scratch(), &mut hits));
    assert!(hits.is_empty() && matcher.program_count() == 0);
}

#[test]
fn comparing_two_long_lists_ends() {
    let list = |word: &str| Given { kind: Kind::Array, bytes: format!("[{}\"{word}\"]", "1,".repeat(2_000)).into_bytes(), in_arena: false };
    let slots = slot_ids();
    let same = |op| Expr::Fields { left: slots[0], op, right: slots[1], cased: true };
    assert!(holds(same(TextOp::Equals), &[list("a"), list("a")]), "the first pair is equal");
    assert!(
        !holds(same(TextOp::StartsWith), &[given(Kind::Array, &format!("[{}2]", "3,".repeat(2_000))), list("b")]),
        "2,001 x 2,001 pairs"
    );
}

const PIECES: [&str; 34] = [
    "",
    "a",
    "A",
    "ab",
    "bA",
    "abc",
    "abcd",
    "bcd",
    "é",
    "É",
    "\u{212a}",
    "k",
    "İ",
    "i",
    "ß",
    "σ",
    "ς",
    "Σ",
    "\\",
    "\"",
    "/",
    "true",
    "False",
    "null",
    "4688",
    "-1.5",
    "1e3",
    "9007199254740993",
    "10.1.2.3",
    "::ffff:10.1.2.3",
    "2001:db8::1",
    "2026-01-03T23:30:59Z",
    "powershell.exe",
    "*",
];

const REGEXES: [&str; 10] =
    ["abc", "(?i)ABCD?", "a+b", "(abc|bcd)$", "^$", r"(?i)powershell\.exe", "[éÉ]", r"\d{3,}", r"(?-u)\xff", "(?i)k|ß"];

const NETWORKS: [&str; 5] = ["10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32", "::ffff:0:0/96", "0.0.0.0/0"];

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(&PIECES[..]).prop_map(str::to_owned),
        2 => prop::collection::vec(prop::sample::select(&PIECES[..]), 0..4).prop_map(|pieces| pieces.concat()),
    ]
}

fn any_order() -> impl Strategy<Value = Order> {
    prop::sample::select(vec![Order::Equal, Order::Equal, Order::Greater, Order::GreaterOrEqual, Order::Less, Order::LessOrEqual])
}

fn any_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        prop::sample::select(vec![0, 4688, 1000, 9_007_199_254_740_993, i128::from(u64::MAX), i128::from(i64::MIN)])
            .prop_map(Number::Integer),
        prop::sample::select(vec![-1.5, 1000.0, 9_007_199_254_740_992.0, f64::NAN, f64::INFINITY, -0.0]).prop_map(Number::Float),
    ]
}

fn any_op() -> impl Strategy<Value = TextOp> {
    prop::sample::select(vec![TextOp::Contains, TextOp::EndsWith, TextOp::Equals, TextOp::StartsWith])
}

fn any_predicate() -> impl Strategy<Value = Predicate> {
    let piece = prop_oneof![Just(Glob::Any), Just(Glob::One), any_text().prop_map(Glob::Text), any_text().prop_map(Glob::Text)];
    let parts = vec![TimePart::Minute, TimePart::Hour, TimePart::Day, TimePart::Week, TimePart::Month, TimePart::Year];
    prop_oneof![
        12 => (any_op(), any_text(), any::<bool>()).prop_map(|(op, text, cased)| Predicate::Text { op, text, cased }),
        2 => (prop::collection::vec(piece, 0..5), any::<bool>()).prop_map(|(pieces, cased)| Predicate::glob(pieces, cased)),
        2 => prop::sample::select(&REGEXES[..]).prop_map(|pattern| Predicate::Regex(Regex::new(pattern).unwrap())),
        2 => (any_order(), any_number()).prop_map(|(op, number)| Predicate::Number { op, number }),
        2 => prop::sample::select(&NETWORKS[..]).prop_map(|network| Predicate::Cidr(network.parse().unwrap())),
        1 => any::<bool>().prop_map(Predicate::Boolean),
        1 => Just(Predicate::Exists),
        1 => Just(Predicate::Null),
        1 => prop::sample::select(vec![Type::Boolean, Type::Integer, Type::Null, Type::Number, Type::Text]).prop_map(Predicate::Type),
        1 => (prop::sample::select(parts), any_order(), prop::sample::select(vec![1, 3, 23, 30, 2026]))
            .prop_map(|(part, op, number)| Predicate::Time { part, op, number }),
    ]
}

fn any_slot() -> impl Strategy<Value = SlotId> {
    prop::sample::select(slot_ids())
}

fn any_program() -> impl Strategy<Value = Expr<SlotId>> {
    let leaf = prop_oneof![
        10 => (any_slot(), any_predicate()).prop_map(|(slot, predicate)| Expr::Field(slot, predicate)),
        2 => any_predicate().prop_map(Expr::Keyword),
        1 => (any_slot(), any_op(), any_slot(), any::<bool>()).prop_map(|(left, op, right, cased)| Expr::Fields { left, op, right, cased }),
    ];
    leaf.prop_recursive(3, 16, 5, |inner| {
        prop_oneof![
            3 => prop::collection::vec(inner.clone(), 0..5).prop_map(Expr::All),
            3 => prop::collection::vec(inner.clone(), 0..5).prop_map(Expr::Any),
            1 => inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

/// The inside of a JSON string, with more escapes than needed.
fn escape(text: &str, all: bool) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if all || matches!(character, '"' | '\\') {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(character);
        }
    }
    out
}

fn any_value() -> impl Strategy<Value = Given> {
    let numbers = vec!["0", "4688", "4688.0", "-1.5", "1e3", "9007199254740993", "18446744073709551615", "1767483059", "-0"];
    let member = prop_oneof![
        (any_text(), any::<bool>()).prop_map(|(text, all)| format!("\"{}\"", escape(&text, all))),
        prop::sample::select(vec!["null", "true", "4688", "-1.5", "[]", "[\"abc\",[4688]]", "{\"a\":[\"abc\",\"}\"]}"])
            .prop_map(str::to_owned),
    ];
    let value = prop_oneof![
        8 => any_text().prop_map(|text| (Kind::Text, text.into_bytes())),
        1 => (any_text(), any_text(), prop::sample::select(vec![&b"\xff"[..], b"\xc3", b"\xe2\x82", b"\xa9"])).prop_map(|(left, right, odd)| {
            (Kind::Text, [left.as_bytes(), odd, right.as_bytes()].concat())
        }),
        3 => (any_text(), any::<bool>()).prop_map(|(text, all)| (Kind::Escaped, escape(&text, all).into_bytes())),
        2 => prop::sample::select(numbers).prop_map(|number| (Kind::Number, number.as_bytes().to_vec())),
        3 => prop::collection::vec(member, 0..4).prop_map(|members| (Kind::Array, format!("[{}]", members.join(", ")).into_bytes())),
        3 => prop::sample::select(vec![(Kind::Null, "null"), (Kind::True, "true"), (Kind::False, "false"), (Kind::Object, "{\"abc\":1}"), (Kind::Missing, "")])
            .prop_map(|(kind, text)| (kind, text.as_bytes().to_vec())),
    ];
    (value, prop::bool::weighted(0.2)).prop_map(|((kind, bytes), in_arena)| Given { kind, bytes, in_arena })
}

proptest! {
    // 700 matchers, each held against 32 events: 22,400 comparisons.
    #![proptest_config(ProptestConfig { cases: 700, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_says_what_the_oracle_says(
        programs in prop::collection::vec(any_program(), 1..12),
        events in prop::collection::vec(prop::collection::vec(any_value(), SLOTS), 32),
    ) {
        let mut builder = Builder::new();
        for program in &programs {
            builder.add(program.clone());
        }
        let matcher = builder.build();
        let mut scratch = matcher.scratch();
        let (mut hits, mut expected) = (Vec::new(), Vec::new());
        for values in &events {
            with_event(values, |event| {
                matcher.evaluate(event, &mut scratch, &mut hits);
                matcher.full_scan(event, &mut expected);
            });
            prop_assert_eq!(&hits, &expected, "programs {:?}, event {:?}", programs, values);
        }
    }
}

/// Values of a slot, and those that are text or numbers once more as other text with the same bytes.
fn any_values() -> impl Strategy<Value = Vec<Given>> {
    let twins = |value: Given| {
        let kind = match value.kind {
            Kind::Text => Kind::Escaped,
            Kind::Escaped | Kind::Number => Kind::Text,
            kind => kind,
        };
        [Given { kind, ..value.clone() }, value]
    };
    prop::collection::vec(any_value(), 2..4).prop_map(move |values| values.into_iter().flat_map(twins).collect())
}

proptest! {
    // 500 matchers, each held against 60 events of few values: 30,000 comparisons, most of them with what is remembered.
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_that_come_again_decide_the_same(
        programs in prop::collection::vec(any_program(), 1..12),
        values in prop::array::uniform3(any_values()),
        events in prop::collection::vec(prop::array::uniform3(any::<prop::sample::Index>()), 60),
        cells in prop::sample::select(vec![1, 2, 64]),
    ) {
        let mut builder = Builder::new();
        for program in &programs {
            builder.add(program.clone());
        }
        let matcher = builder.build();
        let mut scratch = matcher.scratch();
        scratch.set_memo_cells(cells);
        let (mut hits, mut expected) = (Vec::new(), Vec::new());
        for places in &events {
            let values: Vec<Given> = places.iter().zip(&values).map(|(place, values)| place.get(values).clone()).collect();
            with_event(&values, |event| {
                matcher.evaluate(event, &mut scratch, &mut hits);
                matcher.full_scan(event, &mut expected);
            });
            prop_assert_eq!(&hits, &expected, "programs {:?}, event {:?}", programs, values);
        }
    }
}

#[test]
fn programs_are_timed_and_can_be_left_out() {
    let mut builder = Builder::new();
    for word in ["admin", "root"] {
        builder.add(Expr::Field(slot_ids()[0], text(TextOp::Contains, word, false)));
    }
    let matcher = builder.build();
    let (mut scratch, mut hits, mut costs) = (matcher.scratch(), Vec::new(), Vec::new());
    with_event(&[given(Kind::Text, "admin and root")], |event| {
        for _ in 0..crate::matcher::COST_EVERY {
            matcher.evaluate(event, &mut scratch, &mut hits);
        }
        assert_eq!(hits, [ProgramId(0), ProgramId(1)]);
        let every = u64::from(crate::matcher::COST_EVERY);
        let shared = scratch.take_costs(|program, cost| costs.push((program, cost.looks == every && cost.ns >= every)));
        assert_eq!(shared.looks, every);
        costs.sort_unstable();
        assert_eq!(costs, [(ProgramId(0), true), (ProgramId(1), true)]);
        scratch.take_costs(|program, _| panic!("{program:?} was taken"));
        scratch.stop(vec![ProgramId(0)]);
        matcher.evaluate(event, &mut scratch, &mut hits);
        assert_eq!(hits, [ProgramId(1)]);
        scratch.stop(Vec::new());
        matcher.evaluate(event, &mut scratch, &mut hits);
        assert_eq!(hits, [ProgramId(0), ProgramId(1)]);
    });
}
