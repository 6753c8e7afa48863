//! Tests of the whole module: tables, and proptest against serde_json and simd-json.

use std::sync::Arc;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};
use serde_json::{Value as Json, json};
use simd_json::StaticNode;

use super::paths::UNNUMBERED;
use super::scan::ROUNDS_MAX;
use super::{Paths, Scanned, check, is_strict_object, unescape, with_scratch};
use crate::event::{Chunk, Events, Fields, Flaw, Sender, SlotId, Span, Value};
use crate::limits::JSON_DEPTH_MAX;

const PATHS: [&str; 14] = [
    "a",
    "b",
    "a.b",
    "a.b.c",
    "c.a.b",
    "b.l[].a.b",
    "a[]",
    "b[].c[].a",
    "c.b[].l{a=x}.b",
    "l{name=User-Agent}.value",
    "a.l{name=user-agent}.value.a",
    "a.l{name=Host}",
    "a.l{value=x}[]",
    "a.l[].name",
];

thread_local! {
    static COMPILED: Compiled = Compiled::new(&PATHS);
}

/// What a scan left behind: one value a path.
#[derive(Debug, PartialEq)]
struct Outcome {
    scanned: Result<Scanned, Flaw>,
    values: Vec<Option<Json>>,
}

fn sender() -> Arc<Sender> {
    Arc::new(Sender { source: "test".into(), source_index: 0 })
}

/// Paths that documents are scanned for one after the other.
struct Compiled {
    fields: Fields,
    ids: Vec<SlotId>,
    paths: Paths,
}

impl Compiled {
    fn new(paths: &[&str]) -> Self {
        let mut fields = Fields::default();
        let ids: Vec<SlotId> = paths.iter().map(|path| fields.slot(path)).collect();
        let paths = Paths::new(paths.iter().copied().zip(ids.iter().copied()))
            .expect("good paths")
            .reserve(&["hydrant"])
            .reserve(&["unmapped", "hydrant"]);
        Self { fields, ids, paths }
    }
}

/// The same whether the order of keys is new, or known from the same document.
fn scan(paths: &[&str], document: &[u8]) -> Outcome {
    let compiled = Compiled::new(paths);
    let outcome = scan_with(&compiled, document);
    assert_eq!(scan_with(&compiled, document), outcome, "{}", document.escape_ascii());
    outcome
}

fn scan_with(compiled: &Compiled, document: &[u8]) -> Outcome {
    scan_cut(compiled, document, document.len())
}

/// A scan of the first `len` bytes.
fn scan_cut(Compiled { fields, ids, paths }: &Compiled, document: &[u8], len: usize) -> Outcome {
    // Neighbours on both sides that would show if a span were left.
    let mut bytes = b"{\"a\":\"before\"}\"".to_vec();
    let start = bytes.len();
    bytes.extend_from_slice(document);
    let span = Span::new(start, start + len);
    bytes.extend_from_slice(b"\",\"a\":\"behind\"}");
    let chunk = Chunk::new(bytes, vec![span], sender(), 0);
    let mut events = Events::default();
    events.reset(&chunk, fields.width());
    let scanned = paths.scan(&mut events.row_mut(&chunk, 0), span);
    let event = events.event(&chunk, 0);
    Outcome { scanned, values: ids.iter().map(|id| as_json(event.value(*id))).collect() }
}

fn as_json(value: Value<'_>) -> Option<Json> {
    Some(match value {
        Value::Missing => return None,
        Value::Null => Json::Null,
        Value::Boolean(boolean) => Json::Bool(boolean),
        Value::Text(bytes) => {
            assert!(!bytes.contains(&b'\\'));
            Json::String(String::from_utf8_lossy(bytes).into_owned())
        }
        Value::Escaped(inside) => {
            assert!(inside.contains(&b'\\'));
            let mut text = Vec::new();
            unescape(inside, &mut text);
            Json::String(String::from_utf8_lossy(&text).into_owned())
        }
        Value::Number(bytes) | Value::Array(bytes) | Value::Object(bytes) => {
            serde_json::from_slice(bytes).unwrap_or_else(|_| Json::String(format!("unreadable: {}", bytes.escape_ascii())))
        }
    })
}

fn values(paths: &[&str], document: &str) -> Vec<Option<Json>> {
    let outcome = scan(paths, document.as_bytes());
    assert!(outcome.scanned.is_ok(), "{document}: {:?}", outcome.scanned);
    outcome.values
}

fn value(path: &str, document: &str) -> Option<Json> {
    values(&[path], document).remove(0)
}

/// The oracle: all values that `path` finds in a tree, by its definition and by nothing else.
fn gather(value: &Json, path: &str) -> Vec<Json> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.is_empty() {
        return vec![value.clone()];
    }
    if let Some(rest) = path.strip_prefix("[]") {
        return value.as_array().map(|array| array.iter().flat_map(|element| gather(element, rest)).collect()).unwrap_or_default();
    }
    if let Some(rest) = path.strip_prefix('{') {
        let (choice, rest) = rest.split_once('}').expect("closed");
        let (key, wanted) = choice.split_once('=').expect("a choice");
        let is_chosen = |element: &&Json| element.get(key).and_then(Json::as_str).is_some_and(|text| text.eq_ignore_ascii_case(wanted));
        return value.as_array().and_then(|array| array.iter().find(is_chosen)).map(|element| gather(element, rest)).unwrap_or_default();
    }
    let keys_end = path.find(['[', '{']).unwrap_or(path.len());
    let ends = path[..keys_end].match_indices('.').map(|(at, _)| at).chain([keys_end]);
    let mut ends: Vec<usize> = ends.collect();
    ends.reverse();
    let found = ends.iter().map(|end| value.get(&path[..*end]).map(|member| gather(member, &path[*end..])).unwrap_or_default());
    found.into_iter().find(|values| !values.is_empty()).unwrap_or_default()
}

fn expected(document: &Json, path: &str) -> Option<Json> {
    let mut values = gather(document, path);
    match (values.is_empty(), path.contains("[]")) {
        (true, _) => None,
        (false, true) => Some(Json::Array(values)),
        (false, false) => Some(values.remove(0)),
    }
}

#[test]
fn values_come_as_written() {
    let document = r#" { "a" : -0.50e+3 , "b":{"c":"x\"y","d":"plain"}, "e":[1, "]"], "f":true,"g":false,"h":null,"i":{},"j":"" } "#;
    let paths = ["a", "b.c", "b.d", "e", "f", "g", "h", "i", "j", "k", "b.x", "b"];
    let mut fields = Fields::default();
    let compiled = Paths::new(paths.iter().map(|path| (*path, fields.slot(path)))).expect("good paths");
    let chunk = Chunk::new(document.into(), vec![Span::new(0, document.len())], sender(), 0);
    let mut events = Events::default();
    events.reset(&chunk, fields.width());
    compiled.scan(&mut events.row_mut(&chunk, 0), chunk.frames()[0]).expect("valid");
    let event = events.event(&chunk, 0);
    let value = |path: &str| event.value(fields.find(path).expect("wanted"));
    assert_eq!(value("a"), Value::Number(b"-0.50e+3"));
    assert_eq!(value("b.c"), Value::Escaped(br#"x\"y"#));
    assert_eq!(value("b.d"), Value::Text(b"plain"));
    assert_eq!(value("e"), Value::Array(br#"[1, "]"]"#));
    assert_eq!(value("f"), Value::Boolean(true));
    assert_eq!(value("g"), Value::Boolean(false));
    assert_eq!(value("h"), Value::Null);
    assert_eq!(value("i"), Value::Object(b"{}"));
    assert_eq!(value("j"), Value::Text(b""));
    assert_eq!(value("k"), Value::Missing);
    assert_eq!(value("b.x"), Value::Missing);
    assert_eq!(value("b"), Value::Object(br#"{"c":"x\"y","d":"plain"}"#));
}

#[test]
fn a_key_with_dots_wins_over_nested_keys_in_either_order() {
    assert_eq!(value("a.b", r#"{"a":{"b":1},"a.b":2}"#), Some(json!(2)));
    assert_eq!(value("a.b", r#"{"a.b":2,"a":{"b":1}}"#), Some(json!(2)));
    assert_eq!(value("a.b", r#"{"a":{"b":1},"a.c":2}"#), Some(json!(1)));
    assert_eq!(value("a.b.c", r#"{"a":{"b.c":1},"a.b":{"c":2}}"#), Some(json!(2)));
    assert_eq!(value("a.b.c", r#"{"a":{"b.c":1,"b":{"c":3}}}"#), Some(json!(1)));
    assert_eq!(value("a.b.c", r#"{"a":{"b":{"c":3}},"a.b":{"x":1}}"#), Some(json!(3)));
    assert_eq!(value("a.b", r#"{"a":{"b":1},"a.b":null}"#), Some(Json::Null));
    assert_eq!(value("a.b[].c", r#"{"a":{"b":[{"c":1}]},"a.b":[{"c":2},{"c":3}]}"#), Some(json!([2, 3])));
    assert_eq!(value("a.b[].c", r#"{"a.b":[{"c":2},{"c":3}],"a":{"b":[{"c":1}]}}"#), Some(json!([2, 3])));
}

#[test]
fn the_last_of_repeated_keys_counts() {
    assert_eq!(value("a", r#"{"a":1,"b":0,"a":2}"#), Some(json!(2)));
    assert_eq!(value("a", r#"{"a":1,"\u0061":2}"#), Some(json!(2)));
    assert_eq!(value("a.b", r#"{"a":{"b":1},"a":{"c":2}}"#), None);
    assert_eq!(value("a.b", r#"{"a":{"b":1},"a":3}"#), None);
    assert_eq!(value("a.b", r#"{"a":{"b":1},"a":{"b":2}}"#), Some(json!(2)));
    assert_eq!(value("a[].b", r#"{"a":[{"b":1,"b":2}]}"#), Some(json!([2])));
    assert_eq!(value("a[].b", r#"{"a":[{"b":1}],"a":[{"b":3}]}"#), Some(json!([3])));
}

#[test]
fn values_of_all_elements_are_collected_in_order() {
    let document = r#"{"labels":[{"name":"x","id":1},{"id":2},7,{"name":"y\n"},{"name":{"z":[ ]}}],"b":[[1],[2,3]]}"#;
    assert_eq!(value("labels[].name", document), Some(json!(["x", "y\n", {"z": []}])));
    assert_eq!(value("labels[].id", document), Some(json!([1, 2])));
    assert_eq!(value("labels[].other", document), None);
    assert_eq!(value("b[][]", document), Some(json!([1, 2, 3])));
    assert_eq!(value("b[]", document), Some(json!([[1], [2, 3]])));
    assert_eq!(value("labels.name", document), None);
    assert_eq!(value("b[].x[]", document), None);
    assert_eq!(value("a[].b.c", r#"{"a":[{"b.c":1},{"b":{"c":2}}]}"#), Some(json!([1, 2])));
}

#[test]
fn the_first_element_with_the_name_is_chosen() {
    let document = r#"{"h":[{"name":"Host","value":"x"},{"value":"ua","name":"user-AGENT"},{"name":"User-Agent","value":"second"},
        {"name":"Empty"},{"name":"empty","value":1},{"n\u0061me":"Co\u006fkie","value":"c"},"name",{"name":5}]}"#;
    assert_eq!(value("h{name=User-Agent}.value", document), Some(json!("ua")));
    assert_eq!(value("h{name=HOST}", document), Some(json!({"name": "Host", "value": "x"})));
    assert_eq!(value("h{name=Empty}.value", document), None);
    assert_eq!(value("h{name=Cookie}.value", document), Some(json!("c")));
    assert_eq!(value("h{name=5}.value", document), None);
    let both = values(&["h{name=host}.value", "h[].value", "h", "h{value=UA}.name"], document);
    assert_eq!(both[0], Some(json!("x")));
    assert_eq!(both[1], Some(json!(["x", "ua", "second", 1, "c"])));
    assert!(both[2].is_some());
    assert_eq!(both[3], Some(json!("user-AGENT")));
}

/// What a document visited and filled is told from what earlier ones did by rounds, which end some day.
#[test]
fn what_earlier_documents_had_is_no_repetition() {
    let paths = ["a[].b", "a[].c", "d.e"];
    let document = r#"{"a":[{"b":1,"c":2},{"b":3}],"d":{"e":4}}"#;
    let first = scan(&paths, document.as_bytes());
    for rounds in [ROUNDS_MAX - 2, ROUNDS_MAX, ROUNDS_MAX + 1, 7] {
        with_scratch(|scratch| scratch.rounds = rounds);
        for _ in 0..4 {
            assert_eq!(scan(&paths, document.as_bytes()), first, "{rounds}");
        }
        // A tree of another shape in the same memory.
        assert_eq!(values(&["d", "a[]", "x.y.z"], document), [Some(json!({"e": 4})), Some(json!([{"b": 1, "c": 2}, {"b": 3}])), None]);
    }
}

/// A key is told from the one that was there in the document before, however they differ.
#[test]
fn a_remembered_key_is_taken_for_no_other() {
    let letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for len in 1..40 {
        let wanted = &letters[..len];
        let same = |at: usize| format!("{}-{}", &wanted[..at], &wanted[at + 1..]);
        let others =
            (0..len).map(same).chain([letters[..len + 1].to_owned(), letters[1..len + 1].to_owned(), letters[..len - 1].to_owned()]);
        let compiled = Compiled::new(&[wanted, "z.y"]);
        let values = |key: &str, tail: &str| {
            let document = format!(r#"{{"x":0,"{key}":1,"z":{{"y":2{tail}"#);
            let outcome = scan_with(&compiled, document.as_bytes());
            (outcome.scanned.is_ok(), outcome.values)
        };
        for other in others {
            for _ in 0..2 {
                assert_eq!(values(wanted, "}}"), (true, vec![Some(json!(1)), Some(json!(2))]), "{wanted}");
                assert_eq!(values(&other, "}}"), (true, vec![None, Some(json!(2))]), "{wanted} {other}");
                assert_eq!(values(wanted, ""), (false, vec![Some(json!(1)), Some(json!(2))]), "{wanted}");
            }
        }
        // Cut within the key: what stands behind the document in the buffer is not part of it.
        let whole = format!(r#"{{"x":0,"{wanted}":1,"z":{{"y":2}}}}"#);
        for end in 1..whole.len() {
            assert!(scan_with(&compiled, whole.as_bytes()).values[0].is_some());
            let outcome = scan_cut(&compiled, whole.as_bytes(), end);
            assert_eq!(outcome.scanned, Err(Flaw::Truncated), "{end} of {whole}");
            assert_eq!(outcome, scan_with(&Compiled::new(&[wanted, "z.y"]), &whole.as_bytes()[..end]), "{end} of {whole}");
        }
    }
}

/// What is wrong with a key is wrong with it each time.
#[test]
fn a_key_that_is_not_strict_is_none_the_next_time_either() {
    let compiled = Compiled::new(&["a\tb", "c"]);
    for document in ["{\"a\tb\":1,\"c\":2}", "{\"\x01\":1,\"c\":2}", "{\"x\": {\"\n\":1},\"c\":2}"] {
        for _ in 0..3 {
            let outcome = scan_with(&compiled, document.as_bytes());
            assert!(outcome.scanned.is_ok_and(|scanned| !scanned.strict), "{document:?}");
            assert_eq!(outcome.values, [document.contains("a\tb").then(|| json!(1)), Some(json!(2))]);
        }
    }
}

/// More keys and trees than are remembered, in orders that change: some are forgotten, none is mistaken.
#[test]
fn forgotten_keys_are_looked_up() {
    let names: Vec<String> = (0..900).map(|number| format!("k{number}{}", "x".repeat(number % 37))).collect();
    let all = || 0..names.len();
    let wanted: [Vec<usize>; 4] = [all().step_by(3).collect(), all().step_by(2).collect(), all().rev().collect(), all().skip(7).collect()];
    let mut trees = wanted.map(|wanted| {
        let paths: Vec<&str> = wanted.iter().map(|number| names[*number].as_str()).collect();
        (Compiled::new(&paths), wanted)
    });
    trees.iter_mut().skip(2).for_each(|(compiled, _)| compiled.paths.tree.base = UNNUMBERED);
    for round in 0..12 {
        let order = all().map(|at| (at * [1, 7, 11][round % 3] + round) % names.len());
        let members: Vec<String> = order.map(|number| format!(r#""{}":{number}"#, names[number])).collect();
        let document = format!("{{{}}}", members.join(","));
        for (compiled, wanted) in &trees {
            let outcome = scan_with(compiled, document.as_bytes());
            assert!(outcome.scanned.is_ok_and(|scanned| scanned.strict));
            let expected: Vec<Option<Json>> = wanted.iter().map(|number| Some(json!(number))).collect();
            assert_eq!(outcome.values, expected, "round {round}");
        }
    }
}

#[test]
fn several_slots_may_want_one_path() {
    let mut fields = Fields::default();
    let [a, b, c, d] = ["s1", "s2", "s3", "s4"].map(|name| fields.slot(name));
    let paths = Paths::new([("x.y", a), ("x.y", b), ("z[]", c), ("z[]", d)].into_iter()).expect("good paths");
    let document = br#"{"x":{"y":"v"},"z":[1]}"#;
    let chunk = Chunk::new(document.to_vec(), vec![Span::new(0, document.len())], sender(), 0);
    let mut events = Events::default();
    events.reset(&chunk, fields.width());
    paths.scan(&mut events.row_mut(&chunk, 0), chunk.frames()[0]).expect("valid");
    let event = events.event(&chunk, 0);
    assert_eq!([a, b].map(|slot| event.value(slot)), [Value::Text(b"v"); 2]);
    assert_eq!([c, d].map(|slot| event.value(slot)), [Value::Array(b"[1]"); 2]);
}

#[test]
fn wrong_paths_are_refused_with_a_reason() {
    let slot = Fields::default().slot("x");
    let deep = ["k"; 11].join(".");
    let table = [
        ("", "a key is empty"),
        ("a..b", "a key is empty"),
        ("a.", "a key is empty"),
        ("[]", "a key is empty"),
        ("a[", "expected `.`"),
        ("a[]b", "expected `.`"),
        ("a]", "expected `.`"),
        ("a{b=c", "`{` without `}`"),
        ("a{b}", "without `=`"),
        ("a{=c}", "a key is empty"),
        (&deep, "more than 10 keys"),
    ];
    for (path, reason) in table {
        let error = Paths::new([(path, slot)].into_iter()).expect_err(path);
        assert!(error.contains(reason) && error.contains(&format!("path `{path}`")), "{error}");
    }
}

#[test]
fn what_is_read_before_a_break_stays() {
    let table: [(&str, Flaw, Option<Json>); 9] = [
        (r#"{"a":1,"b":"cut"#, Flaw::Truncated, Some(json!(1))),
        (r#"{"a":1,"b":tru}"#, Flaw::Truncated, Some(json!(1))),
        (r#"{"a":1} trailing"#, Flaw::Truncated, Some(json!(1))),
        (r#"{"a":1,}"#, Flaw::Truncated, Some(json!(1))),
        (r#"{"a":1,"a.b":2,"a":{"b":3},"b":["#, Flaw::Truncated, Some(json!({"b": 3}))),
        (r#"{"a":"cut"#, Flaw::Truncated, None),
        (r#"["a",1]"#, Flaw::Malformed, None),
        ("", Flaw::Malformed, None),
        ("plain text", Flaw::Malformed, None),
    ];
    for (document, flaw, a) in table {
        let outcome = scan(&["a", "a.b"], document.as_bytes());
        assert_eq!(outcome.scanned, Err(flaw), "{document}");
        assert_eq!(outcome.values[0], a, "{document}");
    }
}

#[test]
fn nesting_and_collecting_are_bounded() {
    for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
        let nested = |levels: usize| format!("{{\"a\":1,\"b\":{}0{}}}", open.repeat(levels), close.repeat(levels));
        assert!(scan(&["a"], nested(JSON_DEPTH_MAX - 1).as_bytes()).scanned.is_ok());
        let outcome = scan(&["a"], nested(JSON_DEPTH_MAX).as_bytes());
        assert_eq!(outcome, Outcome { scanned: Err(Flaw::TooLarge), values: vec![Some(json!(1))] });
        assert_eq!(scan(&["a", "b.x.x.x", "b[][]"], nested(100_000).as_bytes()).scanned, Err(Flaw::TooLarge));
    }
    let many = format!("{{\"b\":true,\"a\":[{}0]}}", "0,".repeat(20_000));
    let outcome = scan(&["b", "a[]"], many.as_bytes());
    assert_eq!((outcome.scanned, &outcome.values[0]), (Err(Flaw::TooLarge), &Some(json!(true))));
    assert_eq!(outcome.values[1].as_ref().and_then(Json::as_array).map(Vec::len), Some(super::ELEMENTS_MAX));
}

#[test]
fn bytes_that_are_not_utf8_are_read_and_reported() {
    let outcome = scan(&["a", "b"], b"{\"a\":\"x\xff\",\"b\":2}");
    assert_eq!(outcome, Outcome { scanned: Err(Flaw::NotUtf8), values: vec![Some(json!("x\u{fffd}")), Some(json!(2))] });
    assert!(!is_strict_object(b"{\"a\":\"x\xff\"}"));
    assert!(is_strict_object("{\"a\":\"é\"}".as_bytes()));
}

#[test]
fn only_strict_objects_are_strict() {
    let strict =
        ["{}", "{ }", "{\"a\":[]}", "{\"a\":[ ],\"b\":{\n}}", r#"{"a":"\u00e9\ud83d\ude00\/"}"#, r#"{"a":-0.0e-0,"a":1E9}"#, "{\"\":0}"];
    for document in strict {
        assert!(is_strict_object(document.as_bytes()), "{document}");
    }
    let loose = [
        "",
        " ",
        "{",
        "}",
        "[]",
        "1",
        "{} ",
        " {}",
        "{}{}",
        "{}\n",
        "\u{feff}{}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\" 1}",
        "{'a':1}",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":1e+}",
        "{\"a\":NaN}",
        "{\"a\":True}",
        "{\"a\":nul}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\u{0}\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\u+123\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udc00\"}",
        "{\"a\":\"\\ud800\\ud800\"}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\":[}",
        "{\"a\":{]}",
        "{\"a\":[[1]}",
        "{\"a\":1]",
        "{\"a\":\"\\\"}",
        "{\"a\":1//\n}",
        "{\"a\":1\u{b}}",
        "{\"a\":1\u{a0}}",
    ];
    for document in loose {
        assert!(!is_strict_object(document.as_bytes()), "{document}");
    }
}

#[test]
fn line_breaks_between_tokens_are_reported() {
    for (document, one_line) in [("{\"a\": [1]}", true), ("{\n\"a\":1}", false), ("{\"a\":[1,\r 2]}", false), ("{\"a\":\"\\n\"}", true)] {
        assert_eq!(check(document.as_bytes(), "x"), Scanned { strict: true, one_line, reserved: false }, "{document}");
        assert_eq!(scan(&["a"], document.as_bytes()).scanned, Ok(check(document.as_bytes(), "x")), "{document}");
    }
}

#[test]
fn the_reserved_key_is_found_in_any_spelling_at_the_top_level_only() {
    let table = [
        (r#"{"hydrant":1}"#, true),
        (r#"{"a":{},"hydrant":{"alert":true}}"#, true),
        (r#"{"hydr\u0061nt":1}"#, true),
        (r#"{"\u0068\u0079\u0064\u0072\u0061\u006e\u0074":1}"#, true),
        (r#"{"a":{"hydrant":1}}"#, false),
        (r#"{"a":"hydrant"}"#, false),
        (r#"{"Hydrant":1,"hydrant.x":2}"#, false),
        (r#"{"unmapped":{"a":{"hydrant":1}},"unmapped.hydrant":1}"#, false),
    ];
    for (document, reserved) in table {
        assert_eq!(check(document.as_bytes(), "hydrant").reserved, reserved, "{document}");
        for path in ["a.hydrant", "hydrant"] {
            assert_eq!(scan(&[path], document.as_bytes()).scanned.map(|scanned| scanned.reserved), Ok(reserved), "{document} {path}");
        }
    }
}

#[test]
fn a_reserved_key_below_another_is_found_as_well() {
    for document in [
        r#"{"unmapped":{"hydrant":{"alert":true}}}"#,
        r#"{"unmapped":{"a":1,"hydr\u0061nt":0}}"#,
        r#"{"unm\u0061pped":{"hydrant":0}}"#,
        r#"{"unmapped":{},"unmapped":{"hydrant":0}}"#,
    ] {
        for paths in [&["a.b"][..], &["unmapped.hydrant.alert"], &["unmapped.hydrant"], &["unmapped"]] {
            assert_eq!(scan(paths, document.as_bytes()).scanned.map(|scanned| scanned.reserved), Ok(true), "{document} {paths:?}");
        }
    }
}

/// Writes documents from a stream of random bytes, so that proptest can shrink them.
struct Writer<'a> {
    entropy: &'a [u8],
    out: String,
}

impl Writer<'_> {
    fn below(&mut self, limit: u8) -> u8 {
        let Some((first, rest)) = self.entropy.split_first() else { return 0 };
        self.entropy = rest;
        first % limit
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        let index = self.below(from.len() as u8);
        from[usize::from(index)]
    }

    fn space(&mut self) {
        let space = self.pick(&["", "", "", "", "", "", " ", "\n", "\t\r  "]);
        self.out.push_str(space);
    }

    fn string(&mut self) {
        let text = self.pick(&[
            "x",
            "",
            "User-Agent",
            "user-agent",
            "Host",
            "\\\"",
            "\\u0078",
            "é",
            "\\ud83d\\ude00",
            "\\\\",
            "a long text that goes beyond sixteen",
            "\\/\\b\\f\\n\\r\\t",
            "padding to cross the border of a block of sixty-four bytes, to be sure",
            "}",
            "]",
            ",",
            ":",
            "User\\u002dAgent",
        ]);
        self.out.push_str(&format!("\"{text}\""));
    }

    fn object(&mut self, depth: u8) {
        self.out.push('{');
        self.space();
        for index in 0..self.below(6) {
            if index > 0 {
                self.out.push(',');
                self.space();
            }
            let key = self.pick(&[
                "a",
                "b",
                "c",
                "l",
                "a.b",
                "b.c",
                "a.b.c",
                "c.a",
                "a.l",
                "name",
                "value",
                "\\u0061",
                "hydrant",
                "x",
                "unwanted key",
            ]);
            self.out.push_str(&format!("\"{key}\""));
            self.space();
            self.out.push(':');
            self.space();
            self.value(depth + 1);
            self.space();
        }
        self.out.push('}');
    }

    fn value(&mut self, depth: u8) {
        match self.below(if depth < 6 { 12 } else { 6 }) {
            0 => self.out.push('1'),
            1 | 2 => self.string(),
            3 => {
                let number = self.pick(&["0", "-1", "12345678901234567890", "0.25", "-1.5e3", "1E-2", "18446744073709551616", "-0"]);
                self.out.push_str(number);
            }
            4 => {
                let literal = self.pick(&["true", "false", "null"]);
                self.out.push_str(literal);
            }
            5 => self.out.push_str("[]"),
            6..=8 => {
                self.out.push('[');
                self.space();
                for index in 0..self.below(4) {
                    if index > 0 {
                        self.out.push(',');
                        self.space();
                    }
                    self.value(depth + 1);
                    self.space();
                }
                self.out.push(']');
            }
            _ => self.object(depth),
        }
    }
}

fn document() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..400).prop_map(|entropy| {
        let mut writer = Writer { entropy: &entropy, out: String::new() };
        writer.object(0);
        writer.out.into_bytes()
    })
}

/// Documents with up to four bytes changed, left out or put in, or cut short.
fn broken_document() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), prop::sample::select(b"\"\\{}[]:,0-.e \n\x1fu".to_vec())];
    let edit = (any::<prop::sample::Index>(), prop_oneof![Just(0_u8), Just(1), Just(2), Just(3)], byte);
    (document(), prop::collection::vec(edit, 1..5)).prop_map(|(mut bytes, edits)| {
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len() + 1);
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                // Cuts are rare, as they make all the rest moot.
                3 if byte < 32 => bytes.truncate(at),
                _ => {}
            }
        }
        bytes
    })
}

/// serde_json's verdict; `None` where its limits, not the grammar, decide.
fn by_serde(bytes: &[u8]) -> Option<Option<Json>> {
    match serde_json::from_slice::<Json>(bytes) {
        Ok(value) => Some(value.is_object().then_some(value)),
        Err(error) if ["out of range", "recursion limit"].iter().any(|limit| error.to_string().contains(limit)) => None,
        Err(_) => Some(None),
    }
}

fn by_simd(bytes: &[u8]) -> Option<Json> {
    let mut copy = bytes.to_vec();
    let tape = simd_json::to_tape(&mut copy).ok()?;
    let mut nodes = tape.0.iter();
    Some(from_tape(&mut nodes))
}

fn from_tape<'n>(nodes: &mut impl Iterator<Item = &'n simd_json::Node<'n>>) -> Json {
    match nodes.next().expect("a node") {
        simd_json::Node::String(text) => json!(text),
        simd_json::Node::Object { len, .. } => {
            let members = (0..*len).map(|_| {
                let Json::String(key) = from_tape(nodes) else { panic!("a key is a string") };
                (key, from_tape(nodes))
            });
            Json::Object(members.collect())
        }
        simd_json::Node::Array { len, .. } => (0..*len).map(|_| from_tape(nodes)).collect(),
        simd_json::Node::Static(StaticNode::Null) => Json::Null,
        simd_json::Node::Static(StaticNode::Bool(boolean)) => json!(boolean),
        simd_json::Node::Static(StaticNode::I64(number)) => json!(number),
        simd_json::Node::Static(StaticNode::U64(number)) => json!(number),
        simd_json::Node::Static(StaticNode::F64(number)) => json!(number),
    }
}

/// `-0` is an integer to one parser and a float to the other.
fn without_sign_of_zero(value: Json) -> Json {
    match value {
        Json::Number(number) if number.as_f64() == Some(0.0) => json!(0),
        Json::Array(elements) => elements.into_iter().map(without_sign_of_zero).collect(),
        Json::Object(members) => members.into_iter().map(|(key, value)| (key, without_sign_of_zero(value))).collect(),
        other => other,
    }
}

fn compare(bytes: &[u8]) -> Result<(), proptest::test_runner::TestCaseError> {
    let Some(tree) = by_serde(bytes) else { return Ok(()) };
    let outcome = scan(&PATHS, bytes);
    let later = COMPILED.with(|compiled| scan_with(compiled, bytes));
    prop_assert_eq!(&later, &outcome, "after other documents");
    let strict = tree.is_some() && bytes.starts_with(b"{") && bytes.ends_with(b"}");
    prop_assert_eq!(is_strict_object(bytes), strict);
    prop_assert_eq!(outcome.scanned.is_ok_and(|scanned| scanned.strict), strict);
    let Some(tree) = tree else { return Ok(()) };
    prop_assert_eq!(outcome.scanned.map(|scanned| scanned.reserved), Ok(tree.get("hydrant").is_some()));
    prop_assert_eq!(check(bytes, "hydrant").reserved, tree.get("hydrant").is_some());
    for (path, value) in PATHS.iter().zip(&outcome.values) {
        prop_assert_eq!(value, &expected(&tree, path), "{}", path);
    }
    if let Some(tree) = by_simd(bytes) {
        for (path, value) in PATHS.iter().zip(outcome.values) {
            let other = expected(&tree, path).map(without_sign_of_zero);
            prop_assert_eq!(value.map(without_sign_of_zero), other, "simd-json: {}", path);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn documents_give_the_values_that_a_tree_gives(bytes in document()) {
        prop_assert!(serde_json::from_slice::<Json>(&bytes).is_ok());
        compare(&bytes)?;
    }

    #[test]
    fn broken_documents_give_the_values_that_a_tree_gives_if_it_takes_them(bytes in broken_document()) {
        compare(&bytes)?;
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        compare(&bytes)?;
        let mut inside = b"{\"a\":".to_vec();
        inside.extend_from_slice(&bytes);
        compare(&inside)?;
        super::elements(&bytes).count();
        unescape(&bytes, &mut Vec::new());
    }

    #[test]
    fn every_prefix_of_a_document_is_truncated(bytes in document()) {
        for end in 1..bytes.len() {
            prop_assert_eq!(scan(&PATHS, &bytes[..end]).scanned, Err(Flaw::Truncated));
            prop_assert!(!is_strict_object(&bytes[..end]));
        }
    }
}
