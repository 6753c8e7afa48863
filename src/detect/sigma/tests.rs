//! The loader held against the specification, trap by trap; `corpus` holds it against the public rules.

#![expect(clippy::print_stdout, reason = "a test that is skipped, or measures, says so")]

mod corpus;

use std::path::Path;

use super::{Level, Loaded, Loader, Placeholders, SkipReason, Status, load};
use crate::config::Node;
use crate::matcher::{Expr, Glob, Number, Predicate};

fn read(text: &str) -> Loaded {
    load(Path::new("r.yml"), text, &Placeholders::new())
}

const HEAD: &str = "title: T\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\nlogsource: {category: firewall}\n";

/// The condition of a rule with this `detection` section, or its diagnostics.
fn detect_with(detection: &str, placeholders: &Placeholders) -> String {
    let indented: String = detection.lines().map(|line| format!("  {line}\n")).collect();
    let loaded = load(Path::new("r.yml"), &format!("{HEAD}detection:\n{indented}"), placeholders);
    match loaded.rules.as_slice() {
        [rule] => show(&rule.condition),
        _ => loaded.diagnostics.to_string(),
    }
}

fn detect(detection: &str) -> String {
    detect_with(detection, &Placeholders::new())
}

/// One search identifier with one field.
fn field(item: &str) -> String {
    detect(&format!("s: {{{item}}}\ncondition: s"))
}

/// One search identifier `s` that holds `cond` and the identifiers a, b, c, each one keyword.
fn condition(text: &str) -> String {
    detect(&format!("a: [ka]\nb: [kb]\nc: [kc]\n_d: [kd]\ncondition: {text}"))
}

fn show(expr: &Expr<String>) -> String {
    let list = |name: &str, items: &[Expr<String>]| format!("{name}({})", items.iter().map(show).collect::<Vec<_>>().join(", "));
    let mark = |cased: &bool| if *cased { " cased" } else { "" };
    match expr {
        Expr::All(items) => list("all", items),
        Expr::Any(items) => list("any", items),
        Expr::Not(inner) => format!("not({})", show(inner)),
        Expr::Field(field, predicate) => format!("{field} {}", show_predicate(predicate)),
        Expr::Fields { left, op, right, cased } => format!("{left} {op:?} field {right}{}", mark(cased)),
        Expr::Keyword(predicate) => format!("event {}", show_predicate(predicate)),
    }
}

fn show_predicate(predicate: &Predicate) -> String {
    let glob = |glob: &Glob| match glob {
        Glob::Any => "<*>".to_owned(),
        Glob::One => "<?>".to_owned(),
        Glob::Text(text) => text.clone(),
    };
    match predicate {
        Predicate::Text { op, text, cased } => format!("{op:?} '{text}'{}", if *cased { " cased" } else { "" }),
        Predicate::Glob { pieces, cased } => {
            format!("Glob '{}'{}", pieces.iter().map(glob).collect::<String>(), if *cased { " cased" } else { "" })
        }
        Predicate::Regex(regex) => format!("Regex '{regex}'"),
        Predicate::Number { op, number: Number::Integer(n) } => format!("{op:?} int {n}"),
        Predicate::Number { op, number: Number::Float(n) } => format!("{op:?} float {n}"),
        Predicate::Cidr(network) => format!("in {network}"),
        Predicate::Boolean(value) => format!("is {value}"),
        Predicate::Exists => "exists".into(),
        Predicate::Null => "null".into(),
        Predicate::Type(kind) => format!("is a {kind:?}"),
        Predicate::Time { part, op, number } => format!("{part:?} {op:?} {number}"),
    }
}

mod values {
    use super::*;

    #[test]
    fn a_backslash_escapes_only_wildcards_and_itself() {
        for (value, expected) in [
            (r"C:\Windows\*", r"f Equals 'C:\Windows*'"),
            (r"C:\Windows\\*", r"f StartsWith 'C:\Windows\'"),
            (r"a\\\*", r"f Equals 'a\*'"),
            (r"\\\\srv", r"f Equals '\\srv'"),
            (r"\\\srv", r"f Equals '\\srv'"),
            (r"a\nb", r"f Equals 'a\nb'"),
            (r"a\", r"f Equals 'a\'"),
            (r"/x.php\?id=", r"f Equals '/x.php?id='"),
            (r"/x.php?id=", r"f Glob '/x.php<?>id='"),
        ] {
            assert_eq!(field(&format!("f: '{value}'")), expected, "{value}");
        }
    }

    #[test]
    fn wildcards_become_the_simplest_predicate() {
        assert_eq!(field("f: '*a*'"), "f Contains 'a'");
        assert_eq!(field("f: '*a'"), "f EndsWith 'a'");
        assert_eq!(field("f: 'a**'"), "f StartsWith 'a'");
        assert_eq!(field("f: '*'"), "f Contains ''");
        assert_eq!(field("f: a*b"), "f Glob 'a<*>b'");
    }

    #[test]
    fn escapes_and_wildcards_act_inside_contains_startswith_and_endswith() {
        assert_eq!(field(r"f|contains: 'a\*b'"), "f Contains 'a*b'");
        assert_eq!(field(r"f|contains: 'a*b'"), "f Glob '<*>a<*>b<*>'");
        assert_eq!(field(r"f|endswith: '\\cmd.exe'"), r"f EndsWith '\cmd.exe'");
        assert_eq!(field(r"f|startswith: 'a?'"), "f Glob 'a<?><*>'");
    }

    #[test]
    fn escapes_do_not_act_inside_re() {
        assert_eq!(field(r"f|re: '\\\*a\d'"), r"f Regex '\\\*a\d'");
    }

    #[test]
    fn plain_numbers_are_numbers_and_quoted_ones_are_text() {
        assert_eq!(field("f: 4688"), "f Equal int 4688");
        assert_eq!(field("f: '4688'"), "f Equals '4688'");
        assert_eq!(field("f: '0x40810000'"), "f Equals '0x40810000'");
        assert_eq!(field("f: 0x10"), "f Equal int 16");
        assert_eq!(field("f: 0o17"), "f Equal int 15");
        assert_eq!(field("f: -1.5e3"), "f Equal float -1500");
        assert_eq!(field("f: 10.0.0.1"), "f Equals '10.0.0.1'");
        assert_eq!(field("f: [1, '1']"), "any(f Equal int 1, f Equals '1')");
        assert_eq!(field("f: .inf"), "f Equals '.inf'");
        assert_eq!(field("f: nan"), "f Equals 'nan'");
        assert_eq!(field("f: infinity"), "f Equals 'infinity'");
    }

    #[test]
    fn integers_keep_64_bits_and_larger_ones_stay_text() {
        assert_eq!(field("f: 9007199254740993"), "f Equal int 9007199254740993");
        assert_eq!(field("f: 18446744073709551615"), "f Equal int 18446744073709551615");
        assert_eq!(field("f: -9223372036854775808"), "f Equal int -9223372036854775808");
        assert_eq!(field("f: 18446744073709551616"), "f Equals '18446744073709551616'");
        assert!(field("f|gt: 18446744073709551616").contains("64 bits"));
    }

    #[test]
    fn plain_booleans_are_booleans_and_yes_is_text() {
        assert_eq!(field("f: true"), "f is true");
        assert_eq!(field("f: 'true'"), "f Equals 'true'");
        assert_eq!(field("f: yes"), "f Equals 'yes'");
    }

    #[test]
    fn numbers_under_text_modifiers_are_their_text() {
        assert_eq!(field("f|startswith: 46"), "f StartsWith '46'");
        assert_eq!(field("f|contains: [46, true]"), "any(f Contains '46', f Contains 'true')");
    }

    #[test]
    fn null_empty_and_exists_are_three_questions() {
        assert_eq!(field("f: null"), "f null");
        assert_eq!(field("f: "), "f null");
        assert_eq!(field("f: ''"), "f Equals ''");
        assert_eq!(field("f|exists: true"), "f exists");
        assert_eq!(field("f|exists: false"), "not(f exists)");
        assert_eq!(detect("s: {f: null}\ncondition: not s"), "not(f null)");
    }

    #[test]
    fn null_in_a_list_is_refused() {
        let message = field("f: [a, null]");
        assert!(message.starts_with("r.yml:5:14: error: detection.s.f[1]: null may not stand in a list"), "{message}");
        assert!(field("f|contains: null").contains("these modifiers need one"));
    }

    #[test]
    fn exists_takes_one_boolean_and_stands_alone() {
        assert!(field("f|exists: 'true'").contains("true or false without quotes"));
        assert!(field("f|exists: [true]").contains("not a list"));
        assert!(field("f|exists|contains: x").contains("`exists` stands alone"));
        assert!(field("f|neq|exists: true").contains("`exists` stands alone"));
    }

    #[test]
    fn neq_needs_the_field_and_none_of_its_values() {
        assert_eq!(field("f|neq: a"), "all(f exists, not(f Equals 'a'))");
        assert_eq!(field("f|neq: [a, 2]"), "all(f exists, not(any(f Equals 'a', f Equal int 2)))");
        assert_eq!(field("f|contains|neq: a"), "all(f exists, not(f Contains 'a'))");
        assert_eq!(field("f|neq: null"), "all(f exists, not(f null))");
        assert!(field("f|all|neq: [a, b]").contains("none of it"));
        assert!(field("f|neq|all: [a, b]").contains("none of it"));
    }

    #[test]
    fn lists_are_alternatives_unless_all_is_asked() {
        assert_eq!(field("f: [a, b]"), "any(f Equals 'a', f Equals 'b')");
        assert_eq!(field("f|contains|all: [a, b]"), "all(f Contains 'a', f Contains 'b')");
        assert!(field("f|all: [a]").contains("at least two values"));
        assert!(field("f|contains|all: a").contains("at least two values"));
        assert!(field("f: []").contains("the list is empty"));
    }

    #[test]
    fn cased_is_carried_into_the_predicate() {
        assert_eq!(field("f|cased: Ab"), "f Equals 'Ab' cased");
        assert_eq!(field("f|contains|cased: A?b"), "f Glob '<*>A<?>b<*>' cased");
        assert_eq!(detect("s:\n  '|cased': [Ab]\ncondition: s"), "event Contains 'Ab' cased");
        assert!(field("f|cidr|cased: 10.0.0.0/8").contains("`cased` is for text"));
        assert!(field("f|cased|re: a").contains("case-sensitive without"));
    }

    #[test]
    fn base64_encodes_what_the_escapes_mean() {
        assert_eq!(field("f|base64|contains: spinstall0.aspx"), "f Contains 'c3BpbnN0YWxsMC5hc3B4'");
        assert_eq!(field(r"f|base64: 'a\*'"), "f Equals 'YSo='");
        assert!(field("f|base64: 'a*'").contains("wildcards cannot be encoded"));
        assert!(field("f|contains|base64: a").contains("wildcards cannot be encoded"));
    }

    #[test]
    fn base64offset_drops_what_its_neighbours_decide() {
        // The three forms that SigmaHQ's rules spell out for this text.
        assert_eq!(
            field("f|base64offset|contains: '::FromBase64String'"),
            "any(f Contains 'OjpGcm9tQmFzZTY0U3RyaW5n', f Contains 'o6RnJvbUJhc2U2NFN0cmluZ', f Contains '6OkZyb21CYXNlNjRTdHJpbm')"
        );
        assert!(field("f|base64offset|contains: 'a'").contains("two bytes"));
        assert!(field("f|base64offset|contains: ''").contains("two bytes"));
    }

    #[test]
    fn every_base64offset_variant_is_in_the_encoding_at_its_offset_whatever_surrounds_it() {
        use base64::Engine;

        use crate::detect::sigma::pattern;
        for length in 2..9usize {
            let value: Vec<u8> = (0..length).map(|i| b'a' + u8::try_from(i).unwrap()).collect();
            let variants = pattern::base64_offsets(&value).unwrap();
            for (offset, variant) in variants.iter().enumerate() {
                for neighbour in [0x00, 0x55, 0xAA, 0xFF] {
                    let whole = [&vec![neighbour; 3 + offset][..], &value, &[neighbour; 4]].concat();
                    let encoded = base64::engine::general_purpose::STANDARD.encode(whole);
                    assert!(!variant.is_empty() && encoded.contains(variant), "{variant} in {encoded}");
                }
            }
        }
    }

    #[test]
    fn utf16_modifiers_count_code_units_and_need_base64_behind() {
        assert_eq!(field("f|wide|base64: ab"), "f Equals 'YQBiAA=='");
        assert_eq!(field("f|utf16le|base64: ab"), "f Equals 'YQBiAA=='");
        assert_eq!(field("f|utf16be|base64: ab"), "f Equals 'AGEAYg=='");
        assert_eq!(field("f|utf16|base64: ab"), "f Equals '//5hAGIA'");
        assert_eq!(field("f|wide|base64: '\u{1F600}'"), "f Equals 'PdgA3g=='");
        assert_eq!(
            field("f|wide|base64offset|contains: '::FromBase64String'").split(", ").next(),
            Some("any(f Contains 'OgA6AEYAcgBvAG0AQgBhAHMAZQA2ADQAUwB0AHIAaQBuAGcA'")
        );
        assert!(field("f|wide: ab").contains("base64"));
        assert!(field("f|wide|contains: ab").contains("only `base64`"));
        assert!(field("f|wide|wide|base64: ab").contains("twice"));
    }

    #[test]
    fn windash_exchanges_five_characters_in_every_combination() {
        assert_eq!(
            field("f|contains|windash: ' -s'"),
            "any(f Contains ' -s', f Contains ' /s', f Contains ' \u{2013}s', f Contains ' \u{2014}s', f Contains ' \u{2015}s')"
        );
        let two = field("f|windash: '-a \u{2014}b'");
        assert_eq!(two.matches("Equals").count(), 25);
        for expected in ["'-a -b'", "'/a /b'", "'\u{2015}a \u{2013}b'"] {
            assert!(two.contains(expected), "{expected}");
        }
        assert!(field("f|windash: 'a-b-c-d-e-f'").contains("5 dashes"));
    }

    #[test]
    fn windash_under_all_keeps_its_variants_as_alternatives_of_one_value() {
        let shown = field("f|contains|all|windash: ['-a', 'b']");
        assert!(shown.starts_with("all(any(f Contains '-a'") && shown.ends_with("), f Contains 'b')"), "{shown}");
    }

    #[test]
    fn re_is_unanchored_and_takes_flags() {
        let regex = |item: &str| {
            let loaded = read(&format!("{HEAD}detection:\n  s: {{{item}}}\n  condition: s\n"));
            match &loaded.rules[0].condition {
                Expr::Field(_, Predicate::Regex(regex)) => regex.clone(),
                other => panic!("a regex, not {other:?}"),
            }
        };
        assert!(regex("f|re: b").is_match(b"abc"));
        assert!(!regex("f|re: B").is_match(b"abc"));
        assert!(regex("f|re|i: B").is_match(b"abc"));
        assert!(!regex("f|re: '^b'").is_match(b"a\nb"));
        assert!(regex("f|re|m: '^b'").is_match(b"a\nb"));
        assert!(!regex("f|re: a.b").is_match(b"a\nb"));
        assert!(regex("f|re|s|i: A.b").is_match(b"a\nb"));
        assert!(regex("f|re: 'a.b'").is_match("a\u{e9}b".as_bytes()));
    }

    #[test]
    fn a_bad_regex_is_named_with_its_reason() {
        assert!(field("f|re: 'a(?=b)'").contains("look-around"));
        assert!(field(r"f|re: '(a)\1'").contains("backreferences"));
        assert!(field("f|re: '('").contains("not a regular expression: unclosed group"));
        assert!(field(r"f|re: '(\w{100}){100}'").contains("takes more than"));
        assert!(field("f|i: a").contains("belongs behind `re`"));
        assert!(field("f|re|contains: a").contains("anchor it"));
        assert!(field("f|contains|re: a").contains("taken as written"));
    }

    #[test]
    fn the_regexes_of_one_file_are_bounded_together() {
        let values = vec!["a"; 16_385].join(", ");
        let message = field(&format!("f|re: [{values}]"));
        assert!(message.contains("the regular expressions of this file take more than 268435456 bytes"), "{message}");
        assert_eq!(message.lines().count(), 2, "said once: {message}");
    }

    #[test]
    fn cidr_reads_both_families_and_single_addresses() {
        assert_eq!(field("f|cidr: [10.0.0.0/8, 'fe80::/10']"), "any(f in 10.0.0.0/8, f in fe80::/10)");
        assert_eq!(field("f|cidr: 10.1.2.3"), "f in 10.1.2.3/32");
        assert_eq!(field("f|cidr: '::1'"), "f in ::1/128");
        assert!(field("f|cidr: 10.0.0.0/33").contains("`10.0.0.0/33` is not a network"));
        let loaded = read(&format!("{HEAD}detection:\n  s: {{f|cidr: 10.1.2.3/8}}\n  condition: s\n"));
        assert_eq!(show(&loaded.rules[0].condition), "f in 10.0.0.0/8");
        assert!(loaded.diagnostics.to_string().contains("warning: detection.s.f|cidr: `10.1.2.3/8` has bits"), "{}", loaded.diagnostics);
    }

    #[test]
    fn comparisons_take_numbers_only() {
        assert_eq!(field("f|lt: 1"), "f Less int 1");
        assert_eq!(field("f|lte: -2"), "f LessOrEqual int -2");
        assert_eq!(field("f|gt: 1.5"), "f Greater float 1.5");
        assert_eq!(field("f|gte: 18446744073709551615"), "f GreaterOrEqual int 18446744073709551615");
        assert_eq!(field("f|gt|neq: 5"), "all(f exists, not(f Greater int 5))");
        assert!(field("f|gt: '5'").contains("without quotes"));
        assert!(field("f|gt|lt: 5").contains("two modifiers"));
    }

    #[test]
    fn time_modifiers_take_a_part_and_a_comparison() {
        assert_eq!(field("f|hour: 3"), "f Hour Equal 3");
        assert_eq!(field("f|hour|gte: 22"), "f Hour GreaterOrEqual 22");
        assert_eq!(field("f|lt|minute: 5"), "f Minute Less 5");
        assert_eq!(field("f|week: [1, 53]"), "any(f Week Equal 1, f Week Equal 53)");
        assert_eq!(field("f|year|neq: 2025"), "all(f exists, not(f Year Equal 2025))");
        assert!(field("f|hour: 24").contains("from 0 to 23"));
        assert!(field("f|month: 0").contains("from 1 to 12"));
        assert!(field("f|day: x").contains("from 1 to 31"));
    }

    #[test]
    fn fieldref_compares_two_fields() {
        assert_eq!(field("f|fieldref: g"), "f Equals field g");
        assert_eq!(field("f|fieldref: [g, h]"), "any(f Equals field g, f Equals field h)");
        assert_eq!(field("f|fieldref|startswith: g"), "f StartsWith field g");
        assert_eq!(field("f|endswith|fieldref: g"), "f EndsWith field g");
        assert_eq!(field("f|fieldref|contains|cased: g"), "f Contains field g cased");
        assert_eq!(field("f|fieldref|neq: g"), "all(f exists, g exists, not(f Equals field g))");
        assert!(field("f|fieldref: ''").contains("name of a field"));
        assert!(field("f|base64|fieldref: g").contains("nothing may change it"));
        assert!(field("f|fieldref|base64: g").contains("not text any more"));
    }

    #[test]
    fn an_unknown_modifier_names_the_nearest_one() {
        let message = field("Image|endwith|all: [a, b]");
        let expected =
            "r.yml:5:7: error: detection.s.Image|endwith|all: there is no modifier `endwith`\n  help: did you mean `endswith`? one of: all";
        assert!(message.starts_with(expected), "{message}");
        assert!(field("f|contains|endswith: a").contains("only one of"));
        assert!(field("f|: a").contains("there is no modifier ``"));
    }

    #[test]
    fn a_list_of_100_000_values_loads_in_linear_time() {
        let rule = |count: usize| {
            let values: String = (0..count).map(|i| format!("    - 'evil-{i}.example.com'\n")).collect();
            format!("{HEAD}detection:\n  s:\n   f|endswith:\n{values}  condition: s and not s\n")
        };
        let seconds = |count: usize| {
            let text = rule(count);
            let start = cpu_seconds();
            let loaded = read(&text);
            let seconds = cpu_seconds() - start;
            assert_eq!(loaded.diagnostics.to_string(), "");
            assert!(show(&loaded.rules[0].condition).contains(&format!("'evil-{}.example.com'", count - 1)));
            seconds
        };
        let (small, large) = (seconds(10_000), seconds(100_000));
        println!("10,000 values: {small:.3} s CPU, 100,000 values: {large:.3} s CPU");
        assert!(large < 40.0 * small, "quadratic would be 100 times as long: {small} s, {large} s");
    }
}

/// CPU seconds of the calling thread: other tests on the machine do not count.
fn cpu_seconds() -> f64 {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let ns: u32 = schedule.split(' ').next().unwrap().parse::<u64>().unwrap().div_euclid(1000).try_into().unwrap();
    f64::from(ns) / 1e6
}

mod placeholders {
    use super::*;

    fn table() -> Placeholders {
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        Placeholders::from([
            ("Servers".to_owned(), values(&["srv*", "db1"])),
            ("dom-1".to_owned(), values(&["corp"])),
            ("nets".to_owned(), values(&["10.0.0.0/8", "fe80::/10"])),
            ("none".to_owned(), Vec::new()),
        ])
    }

    fn expand(item: &str) -> String {
        detect_with(&format!("s: {{{item}}}\ncondition: s"), &table())
    }

    #[test]
    fn placeholders_become_their_values_only_under_expand() {
        assert_eq!(expand("f|expand: '%Servers%'"), "any(f StartsWith 'srv', f Equals 'db1')");
        assert_eq!(expand("f: '%Servers%'"), "f Equals '%Servers%'");
        assert_eq!(expand("f|expand: '%dom-1%\\%Servers%'"), "f Equals 'corp%Servers%'");
        assert_eq!(expand("f|expand: '%dom-1%\\\\%Servers%'"), "any(f StartsWith 'corp\\srv', f Equals 'corp\\db1')");
        assert_eq!(expand("f|expand: '\\%plain%dom-1%'"), "f Equals '%plaincorp'");
        assert_eq!(expand("f|expand: '100% of 5%'"), "f Equals '100% of 5%'");
        assert_eq!(expand("f|contains|expand: '%Servers%'"), "any(f Contains 'srv', f Contains 'db1')");
        assert_eq!(expand("f|expand|base64: '%dom-1%'"), "f Equals 'Y29ycA=='");
        assert_eq!(expand("f|expand|cidr: '%nets%'"), "any(f in 10.0.0.0/8, f in fe80::/10)");
    }

    #[test]
    fn a_placeholder_without_values_refuses_the_rule() {
        let message = expand("f|expand: '%servers%'");
        assert!(
            message.starts_with(
                "r.yml:5:17: error: detection.s.f|expand: the placeholder `%servers%` has no values; did you mean `%Servers%`?"
            ),
            "{message}"
        );
        assert!(expand("f|expand: '%none%'").contains("`%none%` has no values"));
        assert!(detect("s: {f|contains|expand: '%x%'}\ncondition: not s").contains("`%x%` has no values"));
        assert!(expand("f|base64|expand: '%dom-1%'").contains("`expand` has to stand before"));
    }

    #[test]
    fn placeholders_cannot_multiply_without_bound() {
        let table = Placeholders::from([("x".to_owned(), vec!["v".to_owned(); 2000])]);
        let message = detect_with("s: {f|expand: '%x%%x%%x%'}\ncondition: s", &table);
        assert!(message.contains("become more than 2000000 predicates"), "{message}");
    }
}

mod searches {
    use super::*;

    #[test]
    fn maps_are_all_lists_of_maps_are_any() {
        assert_eq!(field("a: 1, b|contains: x"), "all(a Equal int 1, b Contains 'x')");
        assert_eq!(detect("s:\n  - a: 1\n    b: 2\n  - c: x\ncondition: s"), "any(all(a Equal int 1, b Equal int 2), c Equals 'x')");
        assert_eq!(detect("s:\n  - a: x\n  - word\ncondition: s"), "any(a Equals 'x', event Contains 'word')");
    }

    #[test]
    fn keywords_are_found_anywhere_in_the_event() {
        assert_eq!(detect("k: [a, 'b*c', 4688]\ncondition: k"), "any(event Contains 'a', event Glob '<*>b<*>c<*>', event Contains '4688')");
        assert_eq!(detect("k: word\ncondition: k"), "event Contains 'word'");
        assert_eq!(detect("k:\n  '|all': [a, 5]\ncondition: k"), "all(event Contains 'a', event Contains '5')");
        assert_eq!(detect("k:\n  '|re': 'a.c'\ncondition: k"), "event Regex 'a.c'");
    }

    #[test]
    fn keywords_refuse_what_needs_a_field() {
        for (keywords, expected) in [
            ("[null]", "null may not stand in a list"),
            ("['']", "found in every event"),
            ("['*']", "found in every event"),
            ("{'|startswith': a}", "need a field in front"),
            ("{'|exists': true}", "need a field in front"),
            ("{'|cidr': 10.0.0.0/8}", "need a field in front"),
            ("{'|neq': a}", "need a field in front"),
            ("[[a]]", "a value is expected, found a list"),
            ("[]", "an empty search holds for every event"),
            ("{}", "an empty search holds for every event"),
            ("", "an empty search holds for every event"),
            ("{f: {g: 1}}", "a value is expected, found a map"),
        ] {
            let message = detect(&format!("k: {keywords}\ncondition: k"));
            assert!(message.contains(expected), "{keywords}: {message}");
        }
    }
}

mod conditions {
    use super::*;

    #[test]
    fn or_binds_less_than_and_which_binds_less_than_not() {
        let (a, b, c) = ("event Contains 'ka'", "event Contains 'kb'", "event Contains 'kc'");
        assert_eq!(condition("a or b and c"), format!("any({a}, all({b}, {c}))"));
        assert_eq!(condition("not a and b or c"), format!("any(all(not({a}), {b}), {c})"));
        assert_eq!(condition("(a or b) and not (c)"), format!("all(any({a}, {b}), not({c}))"));
        assert_eq!(condition("a AND(NOT b)OR c"), format!("any(all({a}, not({b})), {c})"));
        assert_eq!(condition("not 1 of b* and a"), format!("all(not({b}), {a})"));
        assert_eq!(condition("not not a"), format!("not(not({a}))"));
    }

    #[test]
    fn a_list_of_conditions_is_any_of_them() {
        assert_eq!(condition("[a and b, c]"), "any(all(event Contains 'ka', event Contains 'kb'), event Contains 'kc')");
    }

    #[test]
    fn quantifiers_leave_out_names_with_an_underscore() {
        let three = "event Contains 'ka', event Contains 'kb', event Contains 'kc'";
        assert_eq!(condition("1 of them"), format!("any({three})"));
        assert_eq!(condition("any of them"), format!("any({three})"));
        assert_eq!(condition("all of them"), format!("all({three})"));
        assert!(condition("all of '*'").contains("fits `'*'`"), "quotes are no part of the language");
        assert_eq!(condition("1 of * or _d"), format!("any(any({three}), event Contains 'kd')"));
        assert_eq!(condition("1 of _*"), "event Contains 'kd'");
        assert_eq!(detect("sel_a_x: [ka]\nsel_b_y: [kb]\ncondition: all of sel_*_y"), "event Contains 'kb'");
    }

    #[test]
    fn quantifiers_that_fit_nothing_are_refused() {
        assert!(condition("a and all of filter*").contains("no search identifier fits `filter*`"));
        assert!(detect("_a: [k]\ncondition: all of them").contains("no search identifier fits `them`"));
        assert!(condition("2 of them").contains("found `2 of`"));
        assert!(condition("1 of (a)").contains("`them` or a pattern"));
        assert!(condition("1 of").contains("`them` or a pattern"));
    }

    #[test]
    fn an_unknown_identifier_is_named_with_its_column_and_the_nearest_one() {
        let message = detect("selection: [k]\nfilter: [l]\ncondition: selection and not (filtre)");
        let expected = "r.yml:7:33: error: detection.condition: there is no search identifier `filtre`\n  help: did you mean `filter`? one of: selection, filter";
        assert_eq!(message, expected);
        assert!(condition("x and y").matches("there is no search identifier").count() == 2, "both at once");
        assert!(condition("a*").contains("a pattern needs `1 of`"));
    }

    #[test]
    fn syntax_errors_say_what_is_expected() {
        for (text, expected) in [
            ("a and", "ends where a search identifier is expected"),
            ("a b", "`and`, `or` or the end is expected, found `b`"),
            ("(a or b", "`)` is missing"),
            ("a)", "this bracket closes nothing"),
            ("and a", "a search identifier is expected, found `and`"),
            ("()", "a search identifier is expected, found `)`"),
            ("''", "ends where"),
            ("{a: b}", "a condition is expected, found a map"),
            ("", "a condition is expected, found nothing"),
            ("[]", "1 to 64 conditions are expected"),
        ] {
            let message = condition(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn nesting_and_length_are_bounded() {
        let deep = |depth: usize| condition(&format!("{}a{}", "(".repeat(depth), ")".repeat(depth)));
        assert_eq!(deep(64), "event Contains 'ka'");
        assert!(deep(65).contains("nested deeper than 64"));
        assert!(condition(&format!("{}a", "not ".repeat(4000))).contains("nested deeper than 64"));
        assert!(condition(&"a or ".repeat(10_000)).contains("longer than"));
    }

    #[test]
    fn copies_of_large_searches_are_bounded() {
        let values: Vec<String> = (0..5000).map(|i| format!("v{i}")).collect();
        let uses = vec!["s"; 1000].join(" or ");
        let message = detect(&format!("s: {{f: [{}]}}\ncondition: {uses}", values.join(",")));
        assert!(message.contains("become more than"), "{message}");
        assert_eq!(message.lines().count(), 2, "said once: {message}");
    }

    #[test]
    fn copies_of_long_texts_are_bounded() {
        let long = "x".repeat(1 << 20);
        let uses = vec!["s"; 1000].join(" or ");
        assert!(detect(&format!("s: {{f: {long}}}\ncondition: {uses}")).contains("become more than"));
        let dashes = format!("-/-/{}", "x".repeat(1 << 18));
        assert!(detect(&format!("s: {{f|windash: '{dashes}'}}\ncondition: s")).contains("become more than"));
        let name = "n".repeat(1025);
        assert!(detect(&format!("s: {{{name}: 1}}\ncondition: s")).contains("a name of at most 1024 bytes"));
    }

    #[test]
    fn obsolete_aggregations_are_refused_with_a_hint() {
        for text in ["a | count() by src > 5", "a | near b", "near a and b", "a |count(x) > 1"] {
            let message = condition(&format!("\"{text}\""));
            assert!(message.contains("obsolete in Sigma 2\n  help: write a correlation rule"), "{text}: {message}");
        }
    }

    #[test]
    fn what_a_condition_does_not_use_is_a_warning() {
        let loaded = read(&format!("{HEAD}detection:\n  a: [k]\n  b: [k]\n  _c: [k]\n  timeframe: 5m\n  condition: a\n"));
        assert_eq!(loaded.rules.len(), 1);
        let shown = loaded.diagnostics.to_string();
        assert!(shown.contains("r.yml:6:6: warning: detection.b: the condition does not use this"), "{shown}");
        assert!(shown.contains("`timeframe` has no effect"), "{shown}");
        assert!(!shown.contains("detection._c"), "{shown}");
    }

    #[test]
    fn a_modifier_of_an_identifier_is_a_warning_and_the_name_still_fits_patterns() {
        let loaded = read(&format!("{HEAD}detection:\n  sel_tree|endswith: {{Image: /tree}}\n  condition: 1 of sel*\n"));
        assert_eq!(show(&loaded.rules[0].condition), "Image Equals '/tree'");
        assert!(loaded.diagnostics.to_string().contains("no effect"));
    }
}

mod documents {
    use super::*;

    const BODY: &str = "detection:\n  s: [k]\n  condition: s\n";

    #[test]
    fn every_field_of_a_rule_is_read() {
        let text = "title: T\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\nname: n\nstatus: test\nlevel: high\ndescription: d\nauthor: a\n\
            references: [r]\ntags: [attack.t1059]\nfalsepositives: [x, y]\nlogsource: {category: Firewall, product: p, service: s, definition: z}\n\
            fields: [f]\nlicense: DRL-1.1\ntests: [{event: {a: 1}}]\n";
        let loaded = read(&format!("{text}{BODY}"));
        let rule = &loaded.rules[0];
        assert_eq!((rule.name.as_deref(), rule.level, rule.status), (Some("n"), Level::High, Some(Status::Test)));
        assert_eq!((rule.description.as_str(), rule.author.as_str(), rule.line), ("d", "a", 1));
        assert_eq!((rule.references.as_slice(), rule.tags.as_slice()), (&["r".to_owned()][..], &["attack.t1059".to_owned()][..]));
        assert_eq!((rule.falsepositives.len(), rule.fields.len()), (2, 1));
        assert_eq!(rule.logsource.category.as_deref(), Some("firewall"));
        assert_eq!((rule.logsource.product.as_deref(), rule.logsource.service.as_deref()), (Some("p"), Some("s")));
        assert_eq!(rule.custom.entry("license").and_then(Node::text), Some("DRL-1.1"));
        assert!(rule.custom.entry("tests").is_some() && rule.custom.entries().len() == 2);
        assert_eq!(loaded.diagnostics.0.len(), 1, "only the upper-case category: {}", loaded.diagnostics);
    }

    #[test]
    fn all_mistakes_of_all_documents_come_at_once_and_good_documents_load() {
        let bad = "title: [x]\nlogsource: {}\nlevel: hihg\nstatus: stabel\ndetection:\n  s: {f|contians: a, g|re: '('}\n  condition: t\n";
        let loaded = read(&format!("{bad}---\n{HEAD}{BODY}---\n{HEAD}detection:\n  s: {{f: [null]}}\n  condition: s\n"));
        assert_eq!(loaded.rules.len(), 1);
        assert_eq!(loaded.rules[0].line, 9);
        let shown = loaded.diagnostics.to_string();
        for expected in [
            "r.yml:1:8: error: title: a text is expected, found a list",
            "r.yml:2:12: error: logsource: a log source needs",
            "r.yml:3:8: error: level: there is no level `hihg`\n  help: did you mean `high`?",
            "r.yml:4:9: error: status: there is no status `stabel`\n  help: did you mean `stable`?",
            "r.yml:6:7: error: detection.s.f|contians: there is no modifier `contians`\n  help: did you mean `contains`?",
            "r.yml:6:28: error: detection.s.g|re: not a regular expression",
            "r.yml:7:14: error: detection.condition: there is no search identifier `t`",
            "r.yml:20:11: error: detection.s.f[0]: null may not stand in a list",
        ] {
            assert!(shown.contains(expected), "{expected} in:\n{shown}");
        }
        let lines: Vec<usize> = loaded.diagnostics.0.iter().map(|d| d.line).collect();
        assert!(lines.is_sorted(), "{lines:?}");
    }

    #[test]
    fn missing_and_mistyped_keys_name_the_nearest_one() {
        let shown = read("titel: T\nlogsurce: {category: x}\ndetections: {condition: s}\n").diagnostics.to_string();
        assert!(shown.contains("error: `title` is missing\n  help: did you mean `titel`?"), "{shown}");
        assert!(shown.contains("error: `logsource` is missing\n  help: did you mean `logsurce`?"), "{shown}");
        assert!(shown.contains("error: `detection` is missing\n  help: did you mean `detections`?"), "{shown}");
        let shown = detect("s: [k]\nconditon: s");
        assert!(shown.contains("`condition` is missing\n  help: did you mean `conditon`?"), "{shown}");
        let loaded = read(&format!("{HEAD}levle: high\nsimulation: 1\n{BODY}"));
        assert_eq!(
            loaded.diagnostics.to_string(),
            "r.yml:4:1: warning: levle: `levle` is none of Sigma's keys\n  help: did you mean `level`?"
        );
        assert_eq!(loaded.rules[0].level, Level::Medium);
    }

    #[test]
    fn unsupported_rules_are_skipped_in_the_open_and_correlations_are_not() {
        let text = "title: C\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\ncorrelation: {type: event_count, rules: [a], \
                    group-by: [b], timespan: 1m, condition: {gt: 1}}\n---\ntitle: F\nstatus: unsupported\n";
        let loaded = read(text);
        let skipped: Vec<_> = loaded.skipped.iter().map(|s| (s.line, s.title.as_deref(), s.reason.clone())).collect();
        assert_eq!(skipped, [(5, Some("F"), SkipReason::Unsupported)]);
        assert_eq!(loaded.skipped[0].to_string(), "r.yml:5: not loaded: status unsupported: F");
        assert_eq!(loaded.correlations[0].title, "C");
        assert!(loaded.rules.is_empty() && loaded.diagnostics.0.is_empty());
    }

    #[test]
    fn a_missing_id_is_made_from_the_title_and_survives_an_edit() {
        let text = format!("title: T\nlogsource: {{category: x}}\n{BODY}");
        let (first, second) = (read(&text), read(&format!("{text}level: high\n")));
        let (first, second) = (&first.rules[0], &second.rules[0]);
        assert_eq!(first.id, second.id);
        assert_ne!(first.hash, second.hash);
        assert!(first.id.len() == 36 && first.id.as_bytes()[14] == b'8' && b"89ab".contains(&first.id.as_bytes()[19]), "{}", first.id);
        let loaded = read(&format!("title: T\nid: my-rule\nlogsource: {{category: x}}\n{BODY}"));
        assert_eq!(loaded.rules[0].id, "my-rule");
        assert!(loaded.diagnostics.to_string().contains("not a UUID"));
    }

    #[test]
    fn the_hash_is_of_one_document_and_ignores_line_ends() {
        let one = format!("{HEAD}{BODY}");
        let alone = read(&one).rules[0].hash.clone();
        let several = read(&format!("---\r\n{}---\ntitle: C\nstatus: unsupported\n...\n---\n{one}\n\n", one.replace('\n', "\r\n")));
        assert_eq!(several.diagnostics.to_string(), "");
        assert_eq!(several.rules.iter().map(|rule| rule.hash.clone()).collect::<Vec<_>>(), [alone.clone(), alone.clone()]);
        assert_eq!(alone.len(), 64);
        assert_ne!(read(&one.replace("title: T", "title: U")).rules[0].hash, alone);
    }

    #[test]
    fn single_texts_for_lists_are_read_with_a_warning() {
        let loaded = read(&format!("{HEAD}falsepositives: Unknown\n{BODY}"));
        assert_eq!(loaded.rules[0].falsepositives, ["Unknown"]);
        assert!(loaded.diagnostics.to_string().contains("warning: falsepositives: a list is expected"));
    }

    #[test]
    fn what_is_no_rule_says_so() {
        assert!(read("").diagnostics.to_string().contains("no rule in this file"));
        assert!(read("- a\n").diagnostics.to_string().contains("a rule is expected, found a list"));
        assert!(read("action: global\ntitle: x\n").diagnostics.to_string().contains("`action` are obsolete"));
        assert!(read("a: [\n").diagnostics.has_errors());
        assert!(read(&format!("{HEAD}detection: [a]\n")).diagnostics.to_string().contains("a map of search identifiers"));
        assert!(read(&format!("{HEAD}taxonomy: own\n{BODY}")).diagnostics.to_string().contains("the taxonomy `own` is not known"));
    }

    #[test]
    fn the_list_of_mistakes_is_bounded() {
        let loaded = read(&format!("{HEAD}detection:\n  s: {{f: [{}]}}\n  condition: s\n", vec!["null"; 5000].join(",")));
        assert_eq!(loaded.diagnostics.0.len(), 1001);
        assert!(loaded.diagnostics.to_string().ends_with("4000 further mistakes are not listed"));
    }
}

mod filters {
    use super::*;

    const RULES: &str = "title: One\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\nname: one\nlogsource: {category: proxy, product: x}\n\
        detection: {selection: {a: 1}, condition: selection}\n---\n\
        title: Two\nid: 0e95725d-7320-415d-80f7-004da920fc12\nlogsource: {category: dns}\n\
        detection: {selection: {b: 2}, other: {b: 3}, condition: 1 of them}\n";

    /// The conditions of both rules with a filter in a file of its own, or what is wrong.
    fn narrowed(filter: &str) -> String {
        let (placeholders, pipelines) = Default::default();
        let mut loader = Loader::new(&placeholders, &pipelines);
        loader.add(Path::new("f.yml"), filter);
        loader.add(Path::new("r.yml"), RULES);
        let loaded = loader.finish();
        if loaded.diagnostics.has_errors() {
            return loaded.diagnostics.to_string();
        }
        loaded.rules.iter().map(|rule| format!("{}\n", show(&rule.condition))).collect()
    }

    fn filter(rules: &str, more: &str) -> String {
        format!("title: F\nlogsource: {{category: proxy}}\nfilter:\n  rules: {rules}\n{more}")
    }

    const SELECTION: &str = "  selection: {User|startswith: adm_}\n  condition: not selection\n";
    const ONE: &str = "a Equal int 1";
    const TWO: &str = "any(b Equal int 2, b Equal int 3)";

    #[test]
    fn the_condition_of_a_filter_has_to_hold_too_by_id_by_name_and_for_any_rule_of_its_log_source() {
        let expected = format!("all({ONE}, not(User StartsWith 'adm_'))\n{TWO}\n");
        for rules in ["one", "[one]", "[5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64]", "any", "Any"] {
            assert_eq!(narrowed(&filter(rules, SELECTION)), expected, "{rules}");
        }
    }

    #[test]
    fn a_filter_that_keeps_only_what_it_finds_does_so_and_is_warned_of() {
        let of = |condition: &str| {
            let filter = filter("any", &format!("  s1: {{u: x}}\n  s2: {{v: y}}\n  condition: {condition}\n"));
            let (placeholders, pipelines) = Default::default();
            let mut loader = Loader::new(&placeholders, &pipelines);
            loader.add(Path::new("f.yml"), &filter);
            loader.add(Path::new("r.yml"), &RULES.replace("category: dns", "category: proxy"));
            let loaded = loader.finish();
            assert!(!loaded.diagnostics.has_errors() && loaded.rules.len() == 2);
            (show(&loaded.rules[0].condition), loaded.diagnostics.to_string())
        };
        let kept = |text: &str| (format!("all({ONE}, {text})"), String::new());
        assert_eq!(of("not 1 of s*"), kept("not(any(u Equals 'x', v Equals 'y'))"));
        assert_eq!(of("not s1 and not s2"), kept("all(not(u Equals 'x'), not(v Equals 'y'))"));
        assert_eq!(of("not (s1 and not s2)"), kept("not(all(u Equals 'x', not(v Equals 'y')))"));
        let warned = |condition: &str, text: &str| {
            let warning = format!(
                "f.yml:7:14: warning: filter.condition: its rules match only what this filter finds: the condition is added to theirs\n  \
                 help: `not ({condition})` takes away what it finds"
            );
            assert_eq!(of(condition), (format!("all({ONE}, {text})"), warning), "once for both rules");
        };
        warned("1 of s*", "any(u Equals 'x', v Equals 'y')");
        warned("s1 and not s2", "all(u Equals 'x', not(v Equals 'y'))");
        warned("not (not 1 of s*)", "not(not(any(u Equals 'x', v Equals 'y')))");
    }

    #[test]
    fn names_of_the_filter_and_of_the_rule_do_not_meet() {
        // Both have a `selection`, and `them` means only those of its own section.
        let more = "  selection: {u: x}\n  other: {v: y}\n  condition: not all of them\n";
        let of = narrowed(&filter("any", more).replace("category: proxy", "category: dns"));
        assert_eq!(of, format!("{ONE}\nall({TWO}, not(all(u Equals 'x', v Equals 'y')))\n"));
    }

    #[test]
    fn what_a_filter_cannot_name_is_told_with_the_nearest_name() {
        let error = |rules: &str| narrowed(&filter(rules, SELECTION));
        assert_eq!(error("[oen]"), "f.yml:4:11: error: filter.rules[0]: no rule has the id or name `oen`\n  help: did you mean `one`?");
        let outside = error("[0e95725d-7320-415d-80f7-004da920fc12]");
        assert!(outside.contains("is for dns, which is outside this filter's log source\n  help: this filter is for proxy"), "{outside}");
        assert!(error("[one, one]").contains("`one` stands here twice"));
        assert!(error("[one, 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64]").contains("stands here already"));
        assert!(error("[]").contains("1 to 4096 rules are expected"));
        assert!(error("{a: b}").contains("1 to 4096 rules are expected, found a map"));
        let other = format!(
            "{}---\nid: 11111111-2222-3333-4444-555555555555\n{}",
            filter("[one]", SELECTION),
            filter("[11111111-2222-3333-4444-555555555555]", SELECTION)
        );
        assert!(narrowed(&other).contains("is a filter"), "a filter cannot name itself or another one");
        let correlation = "title: C\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a65\nname: c\ncorrelation: {type: event_count, rules: [one], \
            group-by: [b], timespan: 1m, condition: {gt: 1}}\n---\n";
        assert!(narrowed(&format!("{correlation}{}", filter("[c]", SELECTION))).contains("`c` is a correlation"));
    }

    #[test]
    fn what_is_wrong_with_a_filter_is_told_once_at_its_own_place() {
        let two = RULES.replace("category: dns", "category: proxy");
        let (placeholders, pipelines) = Default::default();
        let mut loader = Loader::new(&placeholders, &pipelines);
        loader.add(Path::new("f.yml"), &filter("any", "  selection: {u|re: '('}\n  condition: not selection\n"));
        loader.add(Path::new("r.yml"), &two);
        let loaded = loader.finish();
        assert_eq!(loaded.diagnostics.to_string(), "f.yml:5:21: error: filter.selection.u|re: not a regular expression: unclosed group");
        assert!(loaded.rules.is_empty(), "a rule without its filter would alert on what it was to leave out");
        for (more, expected) in [
            ("  selection: {u: x}\n", "`condition` is missing"),
            ("  condition: selection\n", "no search identifier `selection`"),
            ("  selection: {u: x}\n  condition: [selection]\n", "one condition is expected, found a list"),
            ("  selection: {u: x}\n  condition: selektion\n", "did you mean `selection`?"),
        ] {
            let shown = narrowed(&filter("any", more));
            assert!(shown.starts_with("f.yml:") && shown.contains(expected), "{shown}");
        }
        assert!(
            narrowed("title: F\nlogsource: {category: proxy}\nfilter: {selection: {a: 1}, condition: selection}\n")
                .contains("`rules` is missing")
        );
    }

    #[test]
    fn a_filter_counts_in_the_hash_of_its_rules_only() {
        let hashes = |filter: &str| {
            let (placeholders, pipelines) = Default::default();
            let mut loader = Loader::new(&placeholders, &pipelines);
            loader.add(Path::new("r.yml"), RULES);
            loader.add(Path::new("f.yml"), filter);
            loader.finish().rules.into_iter().map(|rule| (rule.hash, rule.filters)).collect::<Vec<_>>()
        };
        let (none, some, other) =
            (hashes("{}\n"), hashes(&filter("any", SELECTION)), hashes(&filter("any", &SELECTION.replace("adm_", "svc_"))));
        assert_eq!((some[0].1.as_slice(), &some[1]), (&["F".to_owned()][..], &none[1]));
        assert!(none[0].0 != some[0].0 && some[0].0 != other[0].0);
    }

    #[test]
    fn values_of_filters_cannot_multiply_without_bound() {
        let values: String = (0..2_000).map(|number| format!("v{number},")).collect();
        let more = format!("  selection: {{u: [{values}]}}\n  condition: selection\n");
        let rules: String = (0..600)
            .map(|number| {
                format!("title: R{number}\nlogsource: {{category: proxy}}\ndetection: {{s: {{a: {number}}}, condition: s}}\n---\n")
            })
            .collect();
        let shown = read(&format!("{rules}{}", filter("any", &more))).diagnostics.to_string();
        assert!(shown.contains("filters add more than 1000000 values to rules: this one 1200000, to 600 rules"), "{shown}");
    }
}

mod arbitrary_text {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::sigma::modifier;
    use crate::detect::sigma::pattern::{self, Piece};

    proptest! {
        #[test]
        fn an_escaped_text_is_that_text(text in ".{0,20}|[*?\\\\a]{0,12}") {
            let escaped: String = text.chars().flat_map(|c| if "*?\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect();
            let expected = if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] };
            prop_assert_eq!(pattern::parse(&escaped, false), expected);
        }

        #[test]
        fn no_condition_panics(words in proptest::collection::vec("a|b|c|_d|and|or|not|1|all|of|them|\\(|\\)|\\*|\\||near| |\u{e9}", 0..30)) {
            let shown = condition(&format!("'{}'", words.join(" ")));
            prop_assert!(!shown.is_empty());
        }

        #[test]
        fn no_modifiers_and_no_value_panic(
            modifiers in proptest::collection::vec(proptest::sample::select(&modifier::NAMES[..]), 0..5),
            value in "[-*?%a\\\\/.0-9()]{0,12}",
        ) {
            let shown = detect(&format!("s:\n  'f|{}': '{value}'\ncondition: s", modifiers.join("|")));
            prop_assert!(!shown.is_empty());
        }
    }
}
