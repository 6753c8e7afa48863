//! Correlation documents, right and wrong.

use std::path::Path;

use super::*;
use crate::detect::sigma::{Loaded, Placeholders, load};

fn rule(name: &str, level: &str) -> String {
    format!(
        "title: {name}\nname: {name}\nid: 5d8fd9da-6916-45ef-8d4d-{:012x}\nlevel: {level}\nlogsource: {{category: firewall}}\n\
         detection:\n  s: {{a: 1}}\n  condition: s\n---\n",
        name.bytes().fold(0u64, |sum, byte| (sum * 31 + u64::from(byte)) & 0xFFFF_FFFF)
    )
}

fn document(name: &str, section: &str) -> String {
    let indented: String = section.lines().map(|line| format!("  {line}\n")).collect();
    let id = name.bytes().fold(7u64, |sum, byte| (sum * 31 + u64::from(byte)) & 0xFFFF_FFFF);
    format!("title: {name}\nname: {name}\nid: 6d8fd9da-6916-45ef-8d4d-{id:012x}\ncorrelation:\n{indented}---\n")
}

fn read_all(text: &str) -> Loaded {
    load(Path::new("c.yml"), text, &Placeholders::new())
}

/// Mistakes of one correlation over the rules a and b.
fn mistakes(section: &str) -> String {
    let loaded = read_all(&format!("{}{}{}", document("c", section), rule("a", "low"), rule("b", "high")));
    let (_, _, links) = link(&loaded.rules, loaded.correlations);
    format!("{}{links}", loaded.diagnostics)
}

const COUNT: &str = "type: event_count\nrules: [a]\ngroup-by: [source.ip]\ntimespan: 5m\ncondition: {gte: 10}\n";

#[test]
fn a_whole_document_is_read() {
    let text = "type: value_count\nrules: [a, b]\ngroup-by: [ip]\ntimespan: 90m\ncondition: {field: user, gt: 3, lte: 9}\n\
                aliases:\n  ip: {a: source.ip, b: client.ip}\n";
    let text = format!("{}{}{}", rule("a", "low"), document("c", text), rule("b", "high"));
    let loaded = read_all(&text);
    assert_eq!(loaded.diagnostics.to_string(), "");
    let (linked, alone, diagnostics) = link(&loaded.rules, loaded.correlations);
    assert_eq!(diagnostics.to_string(), "");
    assert_eq!(alone, [false, false], "`generate` is false unless it is written");
    let [found] = linked.as_slice() else { panic!("one correlation") };
    assert_eq!((found.correlation.kind, found.correlation.timespan_ms), (Kind::ValueCount, 5_400_000));
    assert_eq!((found.level, found.is_alert), (Level::High, true));
    assert_eq!(found.bases[0], Base { source: Source::Rule(0), group_by: vec!["source.ip".into()], fields: vec!["user".into()] });
    assert_eq!(found.bases[1], Base { source: Source::Rule(1), group_by: vec!["client.ip".into()], fields: vec!["user".into()] });
    let condition = &found.correlation.condition;
    assert_eq!(condition.criteria, [(Operator::Gt, Decimal::whole(3)), (Operator::Lte, Decimal::whole(9))]);
    assert!(condition.count_holds(4) && condition.count_holds(9) && !condition.count_holds(3) && !condition.count_holds(10));
    assert!(!condition.is_lower_limit());
}

#[test]
fn rules_alert_alone_if_one_correlation_says_so() {
    let inner = document("inner", COUNT);
    let outer = document("outer", "type: temporal\nrules: [inner, b]\ngroup-by: [user]\ntimespan: 1h\ngenerate: true\n");
    let loaded = read_all(&format!("{outer}{inner}{}{}", rule("a", "low"), rule("b", "critical")));
    assert_eq!(loaded.diagnostics.to_string(), "");
    let (linked, alone, diagnostics) = link(&loaded.rules, loaded.correlations);
    assert_eq!(diagnostics.to_string(), "");
    assert_eq!(alone, [false, true]);
    let titles: Vec<_> = linked.iter().map(|linked| (linked.correlation.title.as_str(), linked.is_alert, linked.level)).collect();
    assert_eq!(titles, [("inner", true, Level::Low), ("outer", true, Level::Critical)], "bases come first");
    assert_eq!(linked[1].bases[0].source, Source::Correlation(0));
    assert_eq!(linked[1].correlation.condition.criteria, [(Operator::Gte, Decimal::whole(2))]);
    let quiet = document("outer", "type: temporal\nrules: [inner, b]\ngroup-by: [user]\ntimespan: 1h\n");
    let loaded = read_all(&format!("{quiet}{inner}{}{}", rule("a", "low"), rule("b", "low")));
    assert!(!link(&loaded.rules, loaded.correlations).0[0].is_alert);
}

#[test]
fn unknown_rules_two_of_one_name_and_circles_are_refused_with_their_place() {
    assert_eq!(mistakes(COUNT), "");
    let shown = mistakes(&COUNT.replace("[a]", "[a, firewal_b]"));
    assert_eq!(shown, "c.yml:6:14: error: correlation.rules: no rule has the id or name `firewal_b`");
    let loaded = read_all(&format!("{}{}", rule("firewall_b", "low"), document("c", &COUNT.replace("[a]", "[firewal_b]"))));
    let shown = link(&loaded.rules, loaded.correlations).2.to_string();
    assert!(shown.ends_with("help: did you mean `firewall_b`?"), "{shown}");
    let loaded = read_all(&format!("{}{}{}", rule("a", "low"), rule("a", "low"), document("c", COUNT)));
    let shown = link(&loaded.rules, loaded.correlations).2.to_string();
    assert!(shown.contains("more than one rule has the name `a`"), "{shown}");
    let one = |name: &str, other: &str| document(name, &COUNT.replace("[a]", &format!("[{other}]")));
    let loaded = read_all(&format!("{}{}{}{}", one("x", "y"), one("y", "x"), one("z", "x"), one("self", "self")));
    let (linked, _, diagnostics) = link(&loaded.rules, loaded.correlations);
    let shown = diagnostics.to_string();
    assert!(linked.is_empty());
    assert!(shown.contains("`y` leads back to this") && shown.contains("`self` leads back"), "{shown}");
    assert!(shown.contains("`x` cannot be used"), "{shown}");
}

#[test]
fn time_spans_have_one_unit_of_four() {
    for (text, ms) in [("1s", 1_000), ("90m", 5_400_000), ("24h", 86_400_000), ("366d", 366 * 86_400_000)] {
        let loaded = read_all(&document("c", &COUNT.replace("5m", text)));
        assert_eq!(loaded.correlations[0].timespan_ms, ms);
    }
    for (text, help) in [
        ("1w", "a week is `7d`"),
        ("1M", "minutes are `m`"),
        ("1y", "count days"),
        ("1h30m", "such as `90m`"),
        ("5 m", "without a blank"),
        ("5", "one unit"),
        ("0s", "above 0"),
        ("-1s", "above 0"),
        ("367d", "at most 366d"),
        ("99999999999999999999d", "whole number"),
        ("[5m]", "one unit"),
    ] {
        let shown = mistakes(&COUNT.replace("5m", text));
        assert!(shown.contains("c.yml:8:13: error: correlation.timespan:") && shown.contains(help), "{text}: {shown}");
    }
}

#[test]
fn conditions_say_what_they_lack() {
    let value = "type: value_sum\nrules: [a]\ngroup-by: [u]\ntimespan: 1m\ncondition: {gte: 10}\n";
    let shown = |section: &str, from: &str, to: &str| mistakes(&section.replace(from, to));
    assert!(shown(COUNT, "gte: 10", "gte: ten").contains("c.yml:9:20: error: correlation.condition: `gte`: a whole number of 0 or more"));
    assert!(shown(COUNT, "gte: 10", "gte: 1.5").contains("a whole number"));
    assert!(shown(COUNT, "gte: 10", "get: 10").contains("there is no key `get` here\n  help: did you mean `gt`?"));
    assert!(shown(COUNT, "gte: 10", "gte: 1, field: u").contains("write `type: value_count`"));
    assert!(shown(COUNT, "gte: 10", "gte: 9, lt: 9").contains("no number fulfils both"));
    assert!(shown(COUNT, "gte: 10", "gt: 8, lt: 9").contains("no number fulfils both"));
    assert!(shown(COUNT, "gte: 10", "lt: 0").contains("no number fulfils"));
    assert!(shown(COUNT, "gte: 10", "gt: 1, lt: 9, neq: 3").contains("one criterion or two"));
    assert!(shown(COUNT, "{gte: 10}", "a and b").contains("chain correlations"));
    assert!(shown(COUNT, "condition: {gte: 10}", "").contains("`condition` is missing"));
    assert!(shown(value, "x", "x").contains("`field` is missing"));
    assert!(shown(value, "gte: 10", "field: [a, b], gte: 1").contains("1 to 1 names"));
    assert_eq!(shown(value, "gte: 10", "field: n, gte: -1.5"), "");
    let percentile = value.replace("value_sum", "value_percentile");
    assert!(shown(&percentile, "gte: 10", "field: n, gte: 1").contains("`percentile` is missing"));
    assert!(shown(&percentile, "gte: 10", "field: n, gte: 1, percentile: 101").contains("0 to 100 is expected, found `101`"));
    assert!(shown(value, "gte: 10", "field: n, gte: 1, percentile: 9").contains("belongs to `value_percentile` only"));
}

#[test]
fn temporal_conditions_fit_the_number_of_rules() {
    let temporal = |kind: &str, rest: &str| mistakes(&format!("type: {kind}\nrules: [a, b]\ngroup-by: [u]\ntimespan: 1m\n{rest}"));
    assert_eq!(temporal("temporal", ""), "");
    assert_eq!(temporal("temporal", "condition: {eq: 1}"), "");
    assert!(temporal("temporal", "condition: {gte: 3}").contains("never holds: there are 2 rules"));
    assert_eq!(temporal("temporal_ordered", "condition: {gte: 2}"), "");
    assert!(temporal("temporal_ordered", "condition: {gte: 1}").contains("an order needs all 2 rules"));
}

#[test]
fn aliases_have_to_be_used_and_to_name_rules() {
    let shown = mistakes(&format!("{COUNT}aliases: {{source.ipp: {{a: x}}}}"));
    assert!(shown.contains("c.yml:10:13: error: correlation.aliases: `group-by` does not name the alias `source.ipp`"), "{shown}");
    assert!(shown.contains("did you mean `source.ip`?"), "{shown}");
    let shown = mistakes(&format!("{COUNT}aliases: {{source.ip: {{b: x}}}}"));
    assert!(
        shown.contains("`b` is not under `rules`") && shown.contains("warning: correlation.aliases: the alias `source.ip` says nothing")
    );
    assert!(mistakes(&format!("{COUNT}aliases: [x]")).contains("a map is expected, found a list"));
}

#[test]
fn sections_are_strict() {
    assert!(mistakes(&COUNT.replace("timespan", "timeframe")).contains("there is no key `timeframe` here"));
    assert!(mistakes(&COUNT.replace("event_count", "event_cuont")).contains("did you mean `event_count`?"));
    assert!(mistakes(&COUNT.replace("event_count", "value_median")).contains("`percentile: 50`"));
    assert!(mistakes(&COUNT.replace("group-by: [source.ip]\n", "")).contains("warning: correlation: `group-by` is missing"));
    assert!(mistakes(&COUNT.replace("[a]", "[a, a]")).contains("correlation.rules[1]: `a` stands here twice"));
    assert!(mistakes(&COUNT.replace("[a]", "[]")).contains("1 to 64 names is expected, found a list"));
    assert!(mistakes(&format!("{COUNT}generate: perhaps")).contains("true or false is expected"));
    let both = format!("{}detection: {{s: [x], condition: s}}\n", document("c", COUNT).trim_end_matches("---\n"));
    assert!(read_all(&both).diagnostics.to_string().contains("a correlation has no `detection`"));
    let text = "title: t\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\ncorrelation: 5\n";
    assert!(read_all(text).diagnostics.to_string().contains("a map is expected, found `5`"));
}

#[test]
fn decimals_are_exact() {
    assert_eq!(Decimal::parse("18446744073709551615").unwrap().0, i128::from(u64::MAX) * Decimal::ONE);
    assert_eq!(Decimal::parse("-0.5"), Some(Decimal(-500_000)));
    assert_eq!(Decimal::parse("1.23456789"), Some(Decimal(1_234_567)));
    for text in ["", "-", ".5", "5.", "1e3", " 1", "+1", "100000000000000000000"] {
        assert_eq!(Decimal::parse(text), None, "{text}");
    }
}
