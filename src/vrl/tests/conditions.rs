//! Conditions: what lowers, that it answers as VRL does, and what is refused how.

use proptest::prelude::*;

use crate::event::{self, Kind};
use crate::matcher::{Expr, Number, Order, Predicate, TextOp, Type};
use crate::vrl::source::Place;
use crate::vrl::tests::{Sample, file};
use crate::vrl::{Condition, Program, Scratch, lenient};

type Given<'a> = (&'a str, Kind, &'a [u8]);

fn both(source: &str) -> (Program, Option<Expr<String>>) {
    let place = Place { source, file: file(), line: 7, path: "routes[0].when" };
    lenient::both(&place).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn native(source: &str) -> Expr<String> {
    both(source).1.unwrap_or_else(|| panic!("{source} is not lowered"))
}

fn message(source: &str) -> String {
    Condition::compile(source, file(), 7, "routes[0].when").unwrap_err().to_string()
}

fn check(program: &Program, values: &[Given<'_>]) -> bool {
    let mut sample = Sample::new(values);
    let names: Vec<&str> = values.iter().map(|(name, _, _)| *name).collect();
    let mut fields = sample.fields.clone();
    let bound = program.bind(&names, &mut |name| fields.slot(name));
    sample.fields = fields;
    program.check(sample.event(), &bound, &mut Scratch::default())
}

/// The meaning of an expression, spelled out: the matcher's own page is the text.
fn evaluate(expr: &Expr<String>, sample: &Sample) -> bool {
    match expr {
        Expr::All(items) => items.iter().all(|item| evaluate(item, sample)),
        Expr::Any(items) => items.iter().any(|item| evaluate(item, sample)),
        Expr::Not(inner) => !evaluate(inner, sample),
        Expr::Field(name, predicate) => {
            let value = sample.fields.find(name).map_or(event::Value::Missing, |slot| sample.event().value(slot));
            holds(predicate, value)
        }
        Expr::Fields { .. } | Expr::Keyword(_) => panic!("not made by lowering"),
    }
}

fn holds(predicate: &Predicate, value: event::Value<'_>) -> bool {
    match predicate {
        Predicate::Exists => return value != event::Value::Missing,
        Predicate::Type(kind) => return is(*kind, value),
        _ => {}
    }
    match value {
        event::Value::Array(json) => {
            let members: Vec<serde_json::Value> = serde_json::from_slice(json).unwrap();
            members.iter().any(|member| {
                let text = member.to_string();
                match member {
                    serde_json::Value::Bool(b) => holds(predicate, event::Value::Boolean(*b)),
                    serde_json::Value::Number(_) => holds(predicate, event::Value::Number(text.as_bytes())),
                    serde_json::Value::String(s) => holds(predicate, event::Value::Text(s.as_bytes())),
                    _ => false,
                }
            })
        }
        event::Value::Boolean(b) => one(predicate, if b { b"true" } else { b"false" }),
        event::Value::Number(text) | event::Value::Text(text) => one(predicate, text),
        event::Value::Escaped(inside) => {
            let text: String = serde_json::from_str(&format!("\"{}\"", std::str::from_utf8(inside).unwrap())).unwrap();
            one(predicate, text.as_bytes())
        }
        event::Value::Missing | event::Value::Null | event::Value::Object(_) => false,
    }
}

fn is(kind: Type, value: event::Value<'_>) -> bool {
    match (kind, value) {
        (Type::Boolean, event::Value::Boolean(_))
        | (Type::Null, event::Value::Missing | event::Value::Null)
        | (Type::Number, event::Value::Number(_))
        | (Type::Text, event::Value::Text(_) | event::Value::Escaped(_)) => true,
        (Type::Integer, event::Value::Number(text)) => std::str::from_utf8(text).unwrap().parse::<i64>().is_ok(),
        _ => false,
    }
}

fn one(predicate: &Predicate, text: &[u8]) -> bool {
    let readable = String::from_utf8_lossy(text);
    match predicate {
        Predicate::Text { op, text: wanted, cased } => {
            let (text, wanted) = match cased {
                true => (text.to_vec(), wanted.as_bytes().to_vec()),
                false => (text.to_ascii_lowercase(), wanted.to_ascii_lowercase().into_bytes()),
            };
            match op {
                TextOp::Contains => text.windows(wanted.len()).any(|window| window == wanted),
                TextOp::EndsWith => text.ends_with(&wanted),
                TextOp::Equals => text == wanted,
                TextOp::StartsWith => text.starts_with(&wanted),
            }
        }
        Predicate::Regex(regex) => regex.is_match(text),
        Predicate::Cidr(network) => readable.parse().is_ok_and(|address: std::net::IpAddr| network.contains(&address)),
        Predicate::Boolean(wanted) => readable.eq_ignore_ascii_case(&wanted.to_string()),
        Predicate::Number { op, number } => {
            let order = match (number, readable.parse::<i128>()) {
                (Number::Integer(wanted), Ok(given)) => given.partial_cmp(wanted),
                (Number::Integer(wanted), Err(_)) => readable.parse::<f64>().unwrap().partial_cmp(&(*wanted as f64)),
                (Number::Float(wanted), _) => readable.parse::<f64>().unwrap().partial_cmp(wanted),
            };
            match op {
                Order::Equal => order.is_some_and(|o| o.is_eq()),
                Order::Greater => order.is_some_and(|o| o.is_gt()),
                Order::GreaterOrEqual => order.is_some_and(|o| o.is_ge()),
                Order::Less => order.is_some_and(|o| o.is_lt()),
                Order::LessOrEqual => order.is_some_and(|o| o.is_le()),
            }
        }
        _ => panic!("not made by lowering"),
    }
}

const VALUES: &[(Kind, &[u8])] = &[
    (Kind::Missing, b""),
    (Kind::Null, b"null"),
    (Kind::False, b"false"),
    (Kind::True, b"true"),
    (Kind::Number, b"443"),
    (Kind::Number, b"443.0"),
    (Kind::Number, b"4.43e2"),
    (Kind::Number, b"442.99999999999999999"),
    (Kind::Number, b"0"),
    (Kind::Number, b"-0"),
    (Kind::Number, b"-0.0"),
    (Kind::Number, b"-5"),
    (Kind::Number, b"1.5"),
    (Kind::Number, b"9007199254740993"),
    (Kind::Number, b"9223372036854775807"),
    (Kind::Number, b"9223372036854775808"),
    (Kind::Number, b"18446744073709551615"),
    (Kind::Number, b"1e400"),
    (Kind::Text, b""),
    (Kind::Text, b"ab"),
    (Kind::Text, b"xaby"),
    (Kind::Text, b"AB"),
    (Kind::Text, b"443"),
    (Kind::Text, b"true"),
    (Kind::Text, b"null"),
    (Kind::Text, b"10.1.2.3"),
    (Kind::Text, b"10.1.2.3 "),
    (Kind::Text, b"2001:db8::1"),
    (Kind::Text, "é\u{fffd}ab".as_bytes()),
    (Kind::Escaped, br"a\u0062"),
    (Kind::Escaped, br#"\"ab\""#),
    (Kind::Array, b"[443]"),
    (Kind::Array, br#"["ab"]"#),
    (Kind::Array, b"[null]"),
    (Kind::Array, b"[true]"),
    (Kind::Array, b"[]"),
    (Kind::Object, b"{}"),
    (Kind::Object, br#"{"a":"ab"}"#),
];

/// Not under `match`: the module's page says why.
const NOT_UTF8: &[(Kind, &[u8])] = &[(Kind::Text, b"ab\xff"), (Kind::Text, b"\xc3ab"), (Kind::Text, b"AB\xe9")];

fn literal() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "443",
        "443.0",
        "0",
        "-5",
        "1.5",
        "9007199254740991",
        "-9007199254740991",
        "\"ab\"",
        "\"\"",
        "s'443'",
        "\"é\"",
        "true",
        "false",
        "null",
    ])
}

fn leaf() -> impl Strategy<Value = String> {
    let field = || prop::sample::select(vec![".a", ".b.c", "%native.d", "%hydrant.alert"]);
    let text = || prop::sample::select(vec!["\"ab\"", "\"AB\"", "\"\"", "\"b\"", "s'4'", "\"10.\""]);
    let search = prop::sample::select(vec!["contains", "starts_with", "ends_with"]);
    let cased = prop::sample::select(vec!["", ", case_sensitive: false", ", case_sensitive: true", ", false"]);
    let regex = prop::sample::select(vec!["^a", "(?i)ab$", "^$", r"^\d+$", "^.ab$", "é"]);
    let cidr = prop::sample::select(vec![r#""10.0.0.0/8""#, r#"["192.168.0.0/16", "2001:db8::/32"]"#, "[]", r#""10.1.2.3""#]);
    let equality = prop::sample::select(vec!["==", "!="]);
    let order = prop::sample::select(vec!["<", "<=", ">", ">="]);
    let number = prop::sample::select(vec!["443", "442.5", "0", "-5", "1.5", "9007199254740991"]);
    prop_oneof![
        (field(), equality.clone(), literal()).prop_map(|(f, op, l)| format!("{f} {op} {l}")),
        (field(), equality, literal()).prop_map(|(f, op, l)| format!("{l} {op} {f}")),
        (field(), order.clone(), number.clone()).prop_map(|(f, op, n)| format!("{f} {op} {n}")),
        (field(), order.clone(), number.clone()).prop_map(|(f, op, n)| format!("{n} {op} {f}")),
        (field(), order, number).prop_map(|(f, op, n)| format!("({f} {op} {n} ?? false)")),
        (search, field(), text(), cased).prop_map(|(s, f, t, c)| format!("{s}({f}, {t}{c})")),
        (field(), text()).prop_map(|(f, t)| format!("contains(substring: {t}, value: string({f}))")),
        (field(), regex).prop_map(|(f, r)| format!("match({f}, r'{r}')")),
        (field(), prop::collection::vec(literal(), 0..4)).prop_map(|(f, list)| format!(
            "includes([{}], {f})",
            list.into_iter().filter(|l| !l.contains('.')).collect::<Vec<_>>().join(", ")
        )),
        (field(), cidr).prop_map(|(f, c)| format!("ip_cidr_contains({c}, {f})")),
        field().prop_map(|f| format!("exists({f})")),
        field().prop_map(|f| format!("is_null({f})")),
        field().prop_map(str::to_owned),
        Just("true".to_owned()),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    leaf().prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} && {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} || {b}")),
            inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

fn value() -> impl Strategy<Value = (Kind, &'static [u8])> {
    prop_oneof![12 => prop::sample::select(VALUES), 1 => prop::sample::select(NOT_UTF8)]
}

fn same_answer(source: &str, program: &Program, expr: &Expr<String>, values: &[Given<'_>]) {
    let expected = check(program, values);
    assert_eq!(evaluate(expr, &Sample::new(values)), expected, "{source}\n{values:?}\n{expr:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn lowered_conditions_answer_as_vrl_does(
        source in expression(),
        rows in prop::collection::vec((value(), value(), value(), value()), 40),
    ) {
        let (program, expr) = both(&source);
        let expr = expr.unwrap_or_else(|| panic!("{source} is not lowered"));
        for (a, b, d, alert) in rows {
            let values = [(".a", a), (".b.c", b), ("%native.d", d), ("%hydrant.alert", alert)];
            let values: Vec<Given<'_>> = values.iter().map(|(name, (kind, bytes))| (name.trim_start_matches('.'), *kind, *bytes)).collect();
            if source.contains("match(") && values.iter().any(|(_, _, bytes)| std::str::from_utf8(bytes).is_err()) {
                continue;
            }
            same_answer(&source, &program, &expr, &values);
        }
    }
}

#[test]
fn each_test_answers_as_vrl_does_for_each_value() {
    let sources = [
        ".a == 443",
        ".a == 443.0",
        ".a == -0.0",
        ".a != \"ab\"",
        "\"443\" == .a",
        ".a == true",
        ".a != false",
        ".a == null",
        "null != .a",
        ".a",
        "!.a",
        ".a < 443",
        "443 < .a",
        ".a >= 1.5",
        ".a <= -5",
        "contains(.a, \"b\")",
        "contains!(.a, \"b\")",
        "contains(string!(.a), \"b\")",
        "!contains(.a, \"AB\", case_sensitive: false)",
        "starts_with(.a, \"AB\", false)",
        "ends_with(.a, \"b\")",
        "contains(.a, \"\")",
        "contains(.a, \"ab\") ?? false",
        "includes([443, \"ab\", true, null], .a)",
        "includes([0, -5, 9007199254740993], .a)",
        "includes(value: [], item: .a)",
        "ip_cidr_contains(\"10.0.0.0/8\", .a)",
        "ip_cidr_contains!([\"2001:db8::/32\", \"10.1.2.3\"], .a)",
        "exists(.a)",
        "is_null(.a)",
        "false || .a == 443",
        "exists(.a) && starts_with!(.a, \"a\")",
    ];
    for source in sources {
        let (program, expr) = both(source);
        let expr = expr.unwrap_or_else(|| panic!("{source} is not lowered"));
        for (kind, bytes) in VALUES.iter().chain(NOT_UTF8) {
            same_answer(source, &program, &expr, &[("a", *kind, bytes)]);
        }
    }
}

#[test]
fn what_cannot_be_said_exactly_stays_a_program() {
    let sources = [
        // Beyond 2^53 VRL's equality rounds.
        ".a == 9007199254740993",
        ".a < \"b\"",
        ".a == .b",
        ".a == {\"b\": 1}",
        ".a[0] == 1",
        "exists(.a[1])",
        "includes(.a, \"x\")",
        "includes([1.5], .a)",
        "contains(.a, .b) == true",
        "contains(.a, \"É\", case_sensitive: false)",
        "contains(.a, s'\u{fffd}')",
        // The failure of a call with `!` ends the whole condition.
        "contains!(.a, \"x\") || .b == 1",
        "!contains!(.a, \"x\")",
        "(contains(.a, \"x\") || .b == 1) ?? false",
        "downcase(.a) == \"x\"",
        "x = .a == 1; x",
        "if .a == 1 { true } else { false }",
        "length(.a) > 2",
        "length(filter([1, 2]) -> |_, v| { v == 1 }) == 1",
    ];
    for source in sources {
        assert!(both(source).1.is_none(), "{source}");
    }
}

#[test]
fn a_condition_that_may_fail_is_false_only_where_it_fails() {
    let missing: &[Given<'_>] = &[("b", Kind::Number, b"1")];
    let text: &[Given<'_>] = &[("a", Kind::Text, b"XY"), ("b", Kind::Number, b"1")];
    for (source, on_missing, on_text) in [
        ("downcase(.a) == \"xy\" || .c == 1", false, true),
        ("downcase(.a) == \"xy\" || .b == 1", true, true),
        ("contains(downcase(.a), \"x\")", false, true),
        ("!contains(downcase(.a), \"x\")", true, false),
        ("contains(downcase(.a), .a) || .b < 2", true, true),
        ("!(length(.a) > 1)", true, false),
        ("length(string!(.a)) > 1 || .b == 1", false, true),
        ("is_nullish(parse_json(.a))", true, true),
    ] {
        let (program, native) = both(source);
        assert!(native.is_none(), "{source}");
        assert_eq!(check(&program, missing), on_missing, "{source} without .a");
        assert_eq!(check(&program, text), on_text, "{source} with .a");
    }
}

#[test]
fn the_example_of_the_configuration_is_native() {
    let expr = native("%hydrant.alert || .event.outcome == \"failure\"");
    let mut names = Vec::new();
    expr.for_each_field(&mut |name| names.push(name.as_str()));
    names.dedup();
    assert_eq!(names, ["%hydrant.alert", "event.outcome"]);
}

#[test]
fn names_of_fields_are_the_plans_names() {
    let (program, _) = both("downcase(.source.ip) == \"x\" && %native.src[0].y == 1 && %native.\"cs(host)\" == 2");
    assert_eq!(program.reads(), ["%native.cs(host)", "%native.src", "source.ip"]);
    assert!(program.writes().is_empty() && !program.reads_whole() && !program.writes_whole());
}

#[test]
fn errors_name_line_column_and_the_nearest_function() {
    let error = message("exists(.a) &&\n  contians(.a, \"x\")");
    assert!(error.starts_with("hydrant.yaml:8:3: error: routes[0].when: call to undefined function"), "{error}");
    assert!(error.contains("did you mean \"contains\"?"), "{error}");
}

#[test]
fn other_metadata_roots_are_refused_with_the_nearest() {
    let error = message("%hydrnat.alert");
    assert!(error.contains("there is no `%hydrnat`") && error.contains("did you mean `%hydrant`?"), "{error}");
    assert!(message("exists(%)").contains("`%` alone is not a field"));
    assert!(message(".\"source.ip\" == \"x\"").contains("write `.source.ip` without quotes"));
}

#[test]
fn functions_that_answer_differently_the_second_time_are_refused_by_name() {
    for source in [
        "now() > t'2020-01-01T00:00:00Z'",
        "random_bool()",
        "log(\"x\") == null",
        "get_env_var(\"HOME\") == \"x\"",
        "exists(.a) && uuid_v4() == \"x\"",
    ] {
        assert!(message(source).contains("cannot be used in a condition"), "{source}: {}", message(source));
    }
}

#[test]
fn a_condition_has_no_effects() {
    for source in [".a = 1; true", "del(.a) == 1", "%hydrant.x = true; true"] {
        let error = message(source);
        assert!(error.contains("read-only") || error.contains("read only"), "{source}: {error}");
    }
}

#[test]
fn a_condition_that_is_no_boolean_is_refused() {
    for source in ["\"text\"", ".a + 1", "downcase(.a)", "1", ""] {
        assert!(!message(source).is_empty(), "{source}");
    }
    assert!(message("1").contains("a condition is a boolean, but this is"), "{}", message("1"));
}

#[test]
fn long_and_deep_conditions_are_refused_before_they_are_compiled() {
    let long = format!("contains(.a, \"{}\")", "x".repeat(40_000));
    assert!(message(&long).contains("more than 32768 bytes"));
    let deep = format!("{}.a == 1{}", "(".repeat(500), ")".repeat(500));
    assert!(message(&deep).contains("nested more than 128 deep"));
    let chain = vec![".a == 1"; 500].join(" || ");
    assert!(message(&chain).contains("includes([...], .field)"));
}
