use std::borrow::Cow;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::{
    KeyContext, KeyTemplate, KeyTooLong, NAME_BYTES_MAX, ObjectSuffix, Reference, Role, TemplateError, VALUE_BYTES_MAX,
    check_file_extension, time_zone,
};

/// 2018-08-27T10:30:00.123Z, the instant of the guide's examples.
const CONTEXT: KeyContext<'static> = KeyContext {
    oldest_arrival_ms: 1_535_365_800_123,
    seed: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
    error_output_type: "processing-failed",
};

fn parse(text: &str, role: Role) -> Result<KeyTemplate, TemplateError> {
    KeyTemplate::parse(text, role, TimeZone::UTC)
}

fn refused(text: &str, role: Role) -> TemplateError {
    parse(text, role).expect_err(text)
}

fn partition(template: &KeyTemplate, values: &[&[u8]]) -> String {
    let mut partition = String::from("of the event before");
    template.partition(|index| values.get(index).map(|value| Cow::Borrowed(*value)), &mut partition);
    partition
}

fn key(text: &str, role: Role, values: &[&[u8]]) -> String {
    let template = parse(text, role).expect(text);
    let mut out = String::new();
    template.render(&partition(&template, values), &CONTEXT, &mut out).expect("short");
    out
}

#[test]
fn the_examples_of_the_guide_come_out() {
    for (template, role, expected) in [
        ("", Role::Prefix, "2018/08/27/10/"),
        ("myFirehosePrefix", Role::Prefix, "myFirehosePrefix2018/08/27/10/"),
        ("myFirehosePrefix/", Role::Prefix, "myFirehosePrefix/2018/08/27/10/"),
        ("!{timestamp:yyyy/MM/dd}", Role::Prefix, "2018/08/27"),
        (
            "myPrefix/year=!{timestamp:yyyy}/month=!{timestamp:MM}/day=!{timestamp:dd}/hour=!{timestamp:HH}/",
            Role::Prefix,
            "myPrefix/year=2018/month=08/day=27/hour=10/",
        ),
        ("myFirehoseFailures/!{firehose:error-output-type}/", Role::ErrorPrefix, "myFirehoseFailures/processing-failed/"),
        (
            "myFirehoseFailures/!{firehose:error-output-type}/!{timestamp:yyyy}/anyMonth/!{timestamp:dd}",
            Role::ErrorPrefix,
            "myFirehoseFailures/processing-failed/2018/anyMonth/27",
        ),
        (
            "myErrorPrefix/!{timestamp:'year='yyyy'/month='MM'/day='dd'/hour='HH}/!{firehose:error-output-type}",
            Role::ErrorPrefix,
            "myErrorPrefix/year=2018/month=08/day=27/hour=10/processing-failed",
        ),
        ("myFirehosePrefix/", Role::ErrorPrefix, "myFirehosePrefix/processing-failed/2018/08/27/10/"),
    ] {
        assert_eq!(key(template, role, &[]), expected, "{template}");
    }
}

#[test]
fn a_prefix_with_expressions_has_no_default_error_prefix() {
    let of_plain = KeyTemplate::default_error_prefix("logs/", TimeZone::UTC).expect("plain");
    let mut out = String::new();
    of_plain.render("", &CONTEXT, &mut out).expect("short");
    assert_eq!(out, "logs/processing-failed/2018/08/27/10/");
    let error = KeyTemplate::default_error_prefix("a/!{timestamp:yyyy}", TimeZone::UTC).expect_err("expressions");
    assert_eq!(error.offset, 2);
}

#[test]
fn a_mistake_is_told_with_its_place_and_the_nearest_right_name() {
    for (template, role, offset, shown) in [
        ("a/!{timestmp:yyyy}", Role::Prefix, 4, "unknown namespace `timestmp`; did you mean `timestamp`?"),
        ("a/!{firehose:random-sting}", Role::Prefix, 13, "unknown value `random-sting`; did you mean `random-string`?"),
        ("a/!{colour:x}", Role::Prefix, 4, "unknown namespace `colour`; one of: timestamp, firehose,"),
        ("!{timestamp:yyyy/bb}", Role::Prefix, 17, "`b` is no date letter that is supported; quote literal text: 'bb'"),
        ("!{timestamp:yyyy", Role::Prefix, 0, "`!{` is not closed"),
        ("!{timestamp}", Role::Prefix, 2, "`timestamp` has no namespace; did you mean `timestamp`?"),
        ("e/!{firehose:error-output-type}/", Role::Prefix, 13, "`error-output-type` can only stand in an error prefix"),
        ("e/!{timestamp:yyyy}/", Role::ErrorPrefix, 20, "an error prefix with expressions must tell"),
        ("e/!{partitionKeyFromQuery:a}", Role::ErrorPrefix, 4, "an error prefix cannot have values"),
        ("!{partitionKeyFromQuery:}", Role::Prefix, 24, "`partitionKeyFromQuery:` needs a name"),
        ("!{field:a b}", Role::Prefix, 8, "`field:` needs a name"),
        ("a/../b/", Role::Prefix, 2, "`../` cannot be part of a key"),
        ("out/!{field:a}/..", Role::Path, 15, "`..` cannot end a key"),
        ("a\nb", Role::Prefix, 1, "a control character"),
        ("out/!{field:a}/../x", Role::Path, 15, "`../` cannot be part of a key"),
        ("!{field:a}/x", Role::Path, 2, "a value of an event cannot choose the first folder"),
        ("/!{field:a}/x", Role::Path, 3, "a value of an event cannot choose the first folder"),
        ("../!{field:a}/x", Role::Path, 5, "a value of an event cannot choose the first folder"),
        ("!{timestamp:yyyy}/!{field:a}", Role::Path, 20, "a value of an event cannot choose the first folder"),
    ] {
        let error = refused(template, role);
        assert!(error.to_string().starts_with(&format!("at byte {offset}: {shown}")), "{template}: {error}");
    }
    assert_eq!(refused(&"x".repeat(1025), Role::Prefix).offset, 1024);
    assert_eq!(key("../out/./x.log", Role::Path, &[]), "../out/./x.log", "who writes the configuration may choose any folder");
    // A dot before an expression is no name of its own.
    assert_eq!(key("out/.!{field:a}", Role::Path, &[b"."]), "out/.%2E");
}

#[test]
fn random_strings_differ_by_place_and_seed_and_are_the_same_again() {
    let template = parse("!{firehose:random-string}/!{firehose:random-string}/", Role::Path).expect("template");
    let render = |seed| {
        let mut out = String::new();
        template.render("", &KeyContext { seed, ..CONTEXT }, &mut out).expect("short");
        out
    };
    let once = render(7);
    let names: Vec<&str> = once.split('/').collect();
    assert_eq!((names[0].len(), names[1].len()), (11, 11));
    assert_ne!(names[0], names[1]);
    assert!(once.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase() || c == '/'), "{once}");
    assert_eq!(once, render(7));
    let all: std::collections::HashSet<String> = (0..64).map(|bit| render(1 << (bit * 2))).collect();
    assert_eq!(all.len(), 64, "every bit of the seed counts");
}

#[test]
fn values_are_confined() {
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    let cut = "x".repeat(VALUE_BYTES_MAX);
    let dots = ".".repeat(50);
    for (value, shown) in [
        (b"10.0.0.1".as_slice(), "10.0.0.1"),
        (b"fe80::1", "fe80::1"),
        (b"", "_"),
        (b"..", "%2E%2E"),
        (b".", "%2E"),
        (b".ssh", "%2Essh"),
        (b"../../etc/passwd", "%2E%2E%2F..%2Fetc%2Fpasswd"),
        (b"/abs", "%2Fabs"),
        (b"a\0b\r\n", "a%00b%0D%0A"),
        (b"a b\\c%2f", "a%20b%5Cc%252f"),
        ("caf\u{e9}".as_bytes(), "caf\u{e9}"),
        ("\u{2024}\u{ff0e}\u{2215}\u{202e}".as_bytes(), "%E2%80%A4%EF%BC%8E%E2%88%95%E2%80%AE"),
        (b"a\xffb", "a%FFb"),
        (long.as_bytes(), &cut),
        (dots.as_bytes(), &"%2E".repeat(42)),
    ] {
        assert_eq!(key("p/!{field:x}/", Role::Path, &[value]), format!("p/{shown}/"));
    }
    assert_eq!(key("p/!{field:x}/", Role::Path, &[]), "p/_/", "a field that is missing");
}

#[test]
fn references_are_listed_in_the_order_in_which_values_are_asked_for() {
    let text = "!{partitionKeyFromQuery:customer}/!{field:source.ip}/!{timestamp:yyyy}/!{partitionKeyFromLambda:device}";
    let template = parse(text, Role::Prefix).expect("template");
    let expected =
        [Reference::Query("customer".to_owned()), Reference::Field("source.ip".to_owned()), Reference::Lambda("device".to_owned())];
    assert_eq!(template.references(), expected);
    assert_eq!(partition(&template, &[b"acme", b"10.0.0.1", b"fw/1"]), "acme/10.0.0.1/fw%2F1/");
    assert_eq!(key(text, Role::Prefix, &[b"acme", b"10.0.0.1", b"fw/1"]), "acme/10.0.0.1/2018/fw%2F1");
}

#[test]
fn a_damaged_partition_cannot_leave_the_prefix() {
    let template = parse("p/!{field:a}/!{field:b}", Role::Path).expect("template");
    for (damaged, expected) in [("", "p/_/_"), ("../..", "p/_/_"), ("a", "p/a/_"), ("a/b/c/d", "p/a/b")] {
        let mut out = String::new();
        template.render(damaged, &CONTEXT, &mut out).expect("short");
        assert_eq!(out, expected);
    }
}

#[test]
fn a_key_that_is_too_long_is_refused_and_leaves_nothing_behind() {
    let refuse = |text: &str, role, values: &[&[u8]]| {
        let template = parse(text, role).expect(text);
        let mut out = String::from("kept");
        let error = template.render(&partition(&template, values), &CONTEXT, &mut out).expect_err("too long");
        assert_eq!(out, "kept");
        error
    };
    let value = [b'v'; 128].as_slice();
    let five = "!{field:a}!{field:b}!{field:c}!{field:d}!{field:e}/";
    assert_eq!(refuse(five, Role::Prefix, &[value; 5]), KeyTooLong { length: 641 + 14, limit: 512 });
    assert_eq!(refuse("out/!{field:a}!{field:b}", Role::Path, &[value; 2]), KeyTooLong { length: 256, limit: NAME_BYTES_MAX });
    let letters = "\u{e9}".repeat(512);
    assert_eq!(refuse(&letters, Role::Prefix, &[]).length, 512 + 14, "characters count, not bytes");
}

#[test]
fn the_time_zone_moves_prefix_and_suffix() {
    let tokyo = time_zone("Asia/Tokyo").expect("zone");
    let template = KeyTemplate::parse("a/", Role::Prefix, tokyo.clone()).expect("template");
    let mut out = String::new();
    template.render("", &CONTEXT, &mut out).expect("short");
    ObjectSuffix { stream: "my stream".to_owned(), version: 3, extension: ".gz".to_owned(), zone: tokyo }.write(&CONTEXT, &mut out);
    assert_eq!(out, "a/2018/08/27/19/my%20stream-3-2018-08-27-19-30-00-01234567-89ab-4def-8123-456789abcdef.gz");
    assert_eq!(time_zone("Europe/Berln").expect_err("typo").help.as_deref(), Some("did you mean `Europe/Berlin`?"));
}

#[test]
fn file_extensions_follow_the_pattern_of_the_api() {
    for good in ["", ".gz", ".json.gz", ".a-b_c!'()*"] {
        check_file_extension(good).expect(good);
    }
    for bad in ["gz", ".", ".GZ", ".a/b", ".a b", &format!(".{}", "a".repeat(128))] {
        check_file_extension(bad).expect_err(bad);
    }
}

#[test]
fn letters_that_are_seldom_meant_are_warned_about() {
    let warnings = |text| parse(text, Role::Prefix).expect(text).warnings().len();
    assert_eq!(warnings("!{timestamp:yyyy/MM/dd/HH/}"), 0);
    assert_eq!(warnings("!{timestamp:YYYY/MM/DD/HH/}"), 2);
    assert_eq!(warnings("!{timestamp:YYYY-'W'ww}"), 0);
}

proptest! {
    #[test]
    fn no_value_ever_leaves_its_place(
        values in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "[./\\\\%a\u{2024}\u{ff0e}\u{2044}\u{0}\u{202e}]{0,60}".prop_map(String::into_bytes),
            any::<String>().prop_map(String::into_bytes),
        ], 3),
    ) {
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let template = parse("base/!{field:a}/.!{field:b}!{field:c}/end", Role::Path).expect("template");
        let mut out = String::new();
        if template.render(&partition(&template, &values), &CONTEXT, &mut out).is_ok() {
            let names: Vec<&str> = out.split('/').collect();
            prop_assert_eq!(names.len(), 4, "{}", out);
            prop_assert_eq!((names[0], names[3]), ("base", "end"));
            prop_assert!(names.iter().all(|name| !name.is_empty() && *name != "." && *name != ".."), "{}", out);
            prop_assert!(names[1].len() <= VALUE_BYTES_MAX);
            prop_assert!(out.chars().all(|c| c.is_alphabetic() || c.is_ascii_digit() || "-_.=@+:%/".contains(c)), "{}", out);
            let path = std::path::Path::new(&out);
            prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
        }
    }

    #[test]
    fn different_values_of_up_to_42_bytes_stay_different(a in prop::collection::vec(any::<u8>(), 0..42), b in prop::collection::vec(any::<u8>(), 0..42)) {
        let template = parse("p/!{field:x}", Role::Path).expect("template");
        let is_blank = |value: &[u8]| value.is_empty() || value == b"_";
        if a != b && !(is_blank(&a) && is_blank(&b)) {
            prop_assert_ne!(partition(&template, &[&a]), partition(&template, &[&b]));
        }
    }

    #[test]
    fn any_template_is_read_or_refused_at_a_place_inside(text in "(!\\{|timestamp:|firehose:|field:|random-string|\\}|[a-zA-Z'/.:{}!\u{fc}]){0,12}") {
        for role in [Role::Prefix, Role::ErrorPrefix, Role::Path] {
            match parse(&text, role) {
                Ok(template) => {
                    let mut out = String::new();
                    let rendered = template.render("", &CONTEXT, &mut out);
                    prop_assert!(rendered.is_ok() || out.is_empty());
                }
                Err(error) => prop_assert!(error.offset <= text.len() && text.is_char_boundary(error.offset), "{}: {}", text, error),
            }
        }
    }
}
