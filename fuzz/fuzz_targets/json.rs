//! Our JSON scan against serde_json and simd-json: the same documents are taken, with the same values at wanted
//! paths. The oracle finds a path in a tree by its definition and by nothing else.
#![no_main]

use hydrant::event::{Chunk, Events, Fields, Flaw, SlotId, Span, Value};
use hydrant::json::{Elements, Paths, Scanned, check, elements, is_strict_object, unescape, write_string};
use hydrant_fuzz::{RECEIVED_MS, samples, seed, sender};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value as Json, json};
use simd_json::StaticNode;

const PATHS: [&str; 16] = [
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
    "a key of 20 letters!",
    "a key of forty letters, and that is many",
];

fuzz_target!(init: seed(seeds()), |document: &[u8]| {
    let (scanned, values) = scan(document);
    let strict = is_strict_object(document);
    assert_eq!(scanned.is_ok_and(|scanned| scanned.strict), strict);
    strings(document);
    let Some(tree) = by_serde(document) else { return };
    if scanned == Err(Flaw::TooLarge) {
        // Nesting ends one level later there than here; more is not compared.
        return;
    }
    let is_exact = tree.is_some() && document.starts_with(b"{") && document.ends_with(b"}");
    assert_eq!(strict, is_exact);
    let Some(tree) = tree else { return };
    let reserved = tree.get("hydrant").is_some();
    assert_eq!(scanned.map(|scanned| scanned.reserved), Ok(reserved));
    assert_eq!(check(document, "hydrant").reserved, reserved);
    for (path, value) in PATHS.iter().zip(&values) {
        assert_eq!(value, &expected(&tree, path), "{path}");
    }
    let Some(tree) = by_simd(document) else { return };
    for (path, value) in PATHS.iter().zip(values) {
        assert_eq!(value.map(without_sign_of_zero), expected(&tree, path).map(without_sign_of_zero), "simd-json: {path}");
    }
});

/// Any bytes are written as a string that serde_json reads back as they are, U+FFFD for what is not UTF-8.
fn strings(bytes: &[u8]) {
    let mut out = Vec::new();
    write_string(bytes, &mut out);
    assert_eq!(serde_json::from_slice::<String>(&out).expect("a string"), String::from_utf8_lossy(bytes));
    unescape(bytes, &mut out);
    let found: Elements<'_> = elements(bytes);
    found.for_each(drop);
}

struct Compiled {
    fields: Fields,
    ids: Vec<SlotId>,
    paths: Paths,
}

thread_local! {
    static COMPILED: Compiled = {
        let mut fields = Fields::default();
        let ids: Vec<SlotId> = PATHS.iter().map(|path| fields.slot(path)).collect();
        let paths = Paths::new(PATHS.iter().copied().zip(ids.iter().copied())).expect("good paths").reserve(&["hydrant"]);
        Compiled { fields, ids, paths }
    };
}

/// The same twice: the second time the order of keys is known.
fn scan(document: &[u8]) -> (Result<Scanned, Flaw>, Vec<Option<Json>>) {
    let scanned = scan_once(document);
    assert_eq!(scan_once(document), scanned);
    scanned
}

fn scan_once(document: &[u8]) -> (Result<Scanned, Flaw>, Vec<Option<Json>>) {
    // Neighbours on both sides that would show if a span were left.
    let bytes = [b"{\"a\":\"before\"}\"", document, b"\",\"a\":\"behind\"}"].concat();
    let span = Span::new(15, 15 + document.len());
    let chunk = Chunk::new(bytes, vec![span], sender(), RECEIVED_MS);
    let mut events = Events::default();
    COMPILED.with(|Compiled { fields, ids, paths }| {
        events.reset(&chunk, fields.width());
        let scanned = paths.scan(&mut events.row_mut(&chunk, 0), span);
        let event = events.event(&chunk, 0);
        (scanned, ids.iter().map(|id| as_json(event.value(*id))).collect())
    })
}

fn as_json(value: Value<'_>) -> Option<Json> {
    Some(match value {
        Value::Missing => return None,
        Value::Null => Json::Null,
        Value::Boolean(boolean) => json!(boolean),
        Value::Text(bytes) => {
            assert!(!bytes.contains(&b'\\'));
            json!(String::from_utf8_lossy(bytes))
        }
        Value::Escaped(inside) => {
            assert!(inside.contains(&b'\\'));
            let mut text = Vec::new();
            unescape(inside, &mut text);
            json!(String::from_utf8_lossy(&text))
        }
        Value::Number(bytes) | Value::Array(bytes) | Value::Object(bytes) => {
            serde_json::from_slice(bytes).unwrap_or_else(|_| json!(format!("unreadable: {}", bytes.escape_ascii())))
        }
    })
}

/// All values that `path` finds in a tree.
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
    let mut ends: Vec<usize> = path[..keys_end].match_indices('.').map(|(at, _)| at).chain([keys_end]).collect();
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

/// serde_json's verdict: an object, something else, or nothing where its limits and not the grammar decide.
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

fn seeds() -> Vec<Vec<u8>> {
    let own: [&[u8]; 5] = [
        br#"{"a":{"b":{"c":1},"l":[{"name":"Host","value":"x"}]},"a.b":2,"l":[{"name":"user-agent","value":"\u0078\ud83d\ude00"}]}"#,
        br#"{"b":{"l":[{"a":{"b":-0.5e+3}}]},"b":[{"c":[{"a":1},{"a":[]}]}],"a":[1,true,null,"\""]}"#,
        br#"{"c":{"a.b":1,"b":[{"l":[{"a":"x","b":"y"}]}]},"hydrant":{},"hydr\u0061nt":1}"#,
        b"{\"a\":\"x\xff\",\"b\":\"\t\"}",
        br#"{"a key of 20 letters!":1,"a key of forty letters, and that is many":2,"a key of 20 letters?":3}"#,
    ];
    own.iter().map(|document| document.to_vec()).chain(samples()).collect()
}
