//! `hydrant rules explain|lint|coverage|doctor` and the reports of `hydrant test`, through the real binary.

use std::fs;

use serde_json::{Value, json};

use crate::commands::{LINE, RULE, folder, objects, run};

const CORRELATION: &str = "title: Many denied
id: 6d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f
level: high
correlation:
  type: event_count
  rules: [5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f]
  group-by: [source.ip]
  timespan: 1h
  condition: { gte: 3 }
";

#[test]
fn explain_shows_every_predicate_with_the_value_it_saw() {
    let folder = folder(&[("rule.yml", RULE)]);
    let (code, stdout, stderr) = run(folder.path(), &["rules", "explain", "rule.yml", "--line", LINE], "");
    assert_eq!(code, 0, "{stderr}");
    let expected = "event 1 (palo_alto), `SSH denied` [5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f]: matches
  + all of (2 of 2 hold)
    + event.action is `deny`: \"deny\"
    + dst_port (reads destination.port) is 22: 22
";
    assert_eq!(stdout, expected);

    let other = LINE.replace(",52011,22,", ",52011,443,");
    let (code, stdout, _) = run(folder.path(), &["rules", "explain", "rule.yml", "--output", "json"], &other);
    assert_eq!(code, 0);
    let told = &objects(&stdout)[0];
    assert_eq!((&told["matches"], &told["runs"], &told["lacks"]), (&json!(false), &json!(true), &json!(1)));
    assert_eq!(told["lacking"][0]["field"], "dst_port");
    assert_eq!((&told["lacking"][0]["reads"], &told["lacking"][0]["value"]), (&json!("destination.port"), &json!(443)));
    assert_eq!((&told["tree"]["all"][0]["holds"], &told["tree"]["all"][0]["value"]), (&json!(true), &json!("deny")));
}

#[test]
fn explain_says_what_nearly_held() {
    let rule = |detection: &str| RULE.replace("{ event.action: deny, dst_port: 22 }", detection);
    let hint = |detection: &str| {
        let folder = folder(&[("rule.yml", &rule(detection))]);
        let (code, stdout, stderr) = run(folder.path(), &["rules", "explain", "rule.yml", "--line", LINE], "");
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    for (detection, expected) in [
        ("{ event.action|cased: Deny }", "only upper and lower case differ"),
        ("{ rule.name: ssh }", "it is a part of the value: `|contains`"),
        ("{ rule.name: deny-?ssh }", "it holds without `?`"),
        ("{ network.application: 22 }", "the value is no number"),
        ("{ sorce.ip: 10.1.2.3 }", "events of `palo_alto` can never have `sorce.ip`; `source.ip` holds it"),
    ] {
        let stdout = hint(detection);
        assert!(stdout.contains(expected), "{detection}: {stdout}");
    }
}

#[test]
fn explain_near_lists_events_that_lack_one_predicate() {
    let folder = folder(&[("rule.yml", RULE)]);
    let lines = [
        LINE.to_owned(),
        LINE.replace("deny", "allow"),
        LINE.replace("deny", "allow").replace(",22,", ",23,"),
        LINE.replace(",22,", ",23,"),
    ];
    fs::write(folder.path().join("in.log"), lines.join("\n")).unwrap();
    let arguments = ["rules", "explain", "rule.yml", "--file", "in.log", "--near", "--output", "json"];
    let (code, stdout, stderr) = run(folder.path(), &arguments, "");
    assert_eq!(code, 0, "{stderr}");
    let told: Vec<(u64, Value)> =
        objects(&stdout).iter().map(|told| (told["event"].as_u64().unwrap(), told["lacking"][0]["field"].clone())).collect();
    assert_eq!(told, [(2, json!("event.action")), (4, json!("dst_port"))]);
    assert!(stderr.contains("4 events; 2 pairs of event and rule"), "{stderr}");
    let (code, _, stderr) = run(folder.path(), &["rules", "explain", "rule.yml", "--rule", "SSH deny", "--line", LINE], "");
    assert!(code == 1 && stderr.contains("did you mean `SSH denied`?"), "{stderr}");
}

#[test]
fn explain_counts_the_groups_of_a_correlation() {
    let folder = folder(&[("rule.yml", RULE), ("many.yml", CORRELATION)]);
    let from = |last: &str| LINE.replace("10.1.2.3", last) + "\n";
    let input = [from("10.0.0.1"), from("10.0.0.2"), from("10.0.0.2"), LINE.replace("deny", "allow")].concat();
    let (code, stdout, stderr) = run(folder.path(), &["rules", "explain", ".", "--rule", "Many denied"], &input);
    assert_eq!(code, 0, "{stderr}");
    let expected = "correlation `Many denied` [6d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f], event_count in 3600 s: does not match
  + `SSH denied`: 3 hits
  group source.ip=10.0.0.2: 2 hits, at most 2 events in a window, which ends at 2026-11-21T08:00:00.123Z
  group source.ip=10.0.0.1: 1 hits, at most 1 events in a window, which ends at 2026-11-21T08:00:00.123Z
";
    assert_eq!(stdout, expected);
    let input = from("10.0.0.2").repeat(3);
    let (_, stdout, _) = run(folder.path(), &["rules", "explain", ".", "--rule", "Many denied", "--output", "json"], &input);
    let told = &objects(&stdout)[0];
    assert_eq!((&told["matches"], &told["groups"][0]["in_window"]), (&json!(1), &json!(3)));
}

/// What of the SARIF 2.1.0 schema concerns this: required members, types, allowed values. The whole schema has 110 KB.
fn check_sarif(log: &Value) {
    assert_eq!(log["version"], "2.1.0");
    let runs = log["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 1);
    let driver = &runs[0]["tool"]["driver"];
    assert!(driver["name"].is_string() && ["utf16CodeUnits", "unicodeCodePoints"].contains(&runs[0]["columnKind"].as_str().unwrap()));
    let rules = driver["rules"].as_array().unwrap();
    assert!(rules.iter().all(|rule| rule["id"].is_string() && rule["shortDescription"]["text"].is_string()));
    for result in runs[0]["results"].as_array().unwrap() {
        assert!(result["message"]["text"].is_string());
        assert!(["none", "note", "warning", "error"].contains(&result["level"].as_str().unwrap()));
        assert_eq!(rules[result["ruleIndex"].as_u64().unwrap() as usize]["id"], result["ruleId"]);
        for location in result["locations"].as_array().unwrap() {
            let place = &location["physicalLocation"];
            let uri = place["artifactLocation"]["uri"].as_str().unwrap();
            assert!(!uri.contains([' ', '\\']), "{uri}");
            if let Some(region) = place.get("region") {
                assert!(region["startLine"].as_u64().unwrap() >= 1);
                assert!(region.get("startColumn").is_none_or(|column| column.as_u64().unwrap() >= 1));
            }
        }
    }
}

#[test]
fn lint_writes_its_findings_as_sarif() {
    let wrong = RULE.replace("dst_port: 22", "dst_port|nonsense: 22");
    let unheard = RULE.replace("5d0c", "7d0c").replace("paloalto", "toaster");
    let unknown = RULE.replace("5d0c", "8d0c").replace("dst_port", "dst_prt");
    let folder = folder(&[("a wrong.yml", &wrong), ("unheard.yml", &unheard), ("unknown.yml", &unknown), ("broken.yml", "a: [")]);
    let (code, stdout, stderr) = run(folder.path(), &["rules", "lint", ".", "--output", "sarif"], "");
    assert_eq!(code, 78, "{stderr}");
    let log = &objects(&stdout)[0];
    check_sarif(log);
    let results = log["runs"][0]["results"].as_array().unwrap();
    let found: Vec<(&str, &str, &str, u64)> = results
        .iter()
        .map(|result| {
            let place = &result["locations"][0]["physicalLocation"];
            let text = |value: &'_ Value| -> &'static str { String::leak(value.as_str().unwrap_or_default().to_owned()) };
            (
                text(&result["ruleId"]),
                text(&result["level"]),
                text(&place["artifactLocation"]["uri"]),
                place["region"]["startLine"].as_u64().unwrap_or(0),
            )
        })
        .collect();
    for expected in [
        ("detection", "error", "a%20wrong.yml", 6),
        ("unheard-logsource", "warning", "unheard.yml", 1),
        ("unknown-field", "warning", "unknown.yml", 1),
    ] {
        assert!(found.contains(&expected), "{expected:?}: {found:?}");
    }
    assert!(found.iter().any(|(lint, level, file, _)| (*lint, *level, *file) == ("document", "error", "broken.yml")), "{found:?}");
    fs::write(folder.path().join("good.yml"), RULE).unwrap();
    let (code, stdout, _) = run(folder.path(), &["rules", "lint", "good.yml", "--output", "sarif"], "");
    assert_eq!(code, 0);
    check_sarif(&objects(&stdout)[0]);
    assert_eq!(objects(&stdout)[0]["runs"][0]["results"], json!([]));
}

#[test]
fn coverage_is_a_layer_of_the_navigator() {
    let tagged = |id: &str, title: &str, tags: &str| RULE.replace("5d0c", id).replace("SSH denied", title) + &format!("tags: {tags}\n");
    let folder = folder(&[
        ("a.yml", &tagged("1d0c", "A", "[attack.t1110, attack.t1110.001, attack.credential-access]")),
        ("b.yml", &tagged("2d0c", "B", "[attack.T1110.001, attack.t0806, cve.2021-44228]")),
        ("c.yml", &tagged("3d0c", "C", "[attack.t11100, attack.g0007]")),
    ]);
    let (code, stdout, stderr) = run(folder.path(), &["rules", "coverage", "."], "");
    assert_eq!(code, 0, "{stderr}");
    let layer = &objects(&stdout)[0];
    assert_eq!(layer["versions"], json!({ "navigator": "4.9.0", "layer": "4.5" }));
    assert_eq!((&layer["domain"], layer["name"].is_string()), (&json!("enterprise-attack"), true));
    let expected = json!([
        { "techniqueID": "T1110", "score": 1, "comment": "A", "showSubtechniques": true },
        { "techniqueID": "T1110.001", "score": 2, "comment": "A; B" },
    ]);
    assert_eq!(layer["techniques"], expected);
    assert!(layer["gradient"]["maxValue"].as_u64() > layer["gradient"]["minValue"].as_u64());
    assert!(stderr.contains("`attack.t11100` is no technique"), "{stderr}");
    assert!(stderr.contains("3 rules, 2 techniques, 1 rules without a technique, 1 techniques of other matrices left out"), "{stderr}");
    let (_, stdout, _) = run(folder.path(), &["rules", "coverage", ".", "--domain", "ics-attack", "--output", "table"], "");
    assert_eq!(stdout, "TECHNIQUE  RULES  TITLES\nT0806      1      B\n");
}

#[test]
fn doctor_tells_why_a_rule_cannot_match_what_arrives() {
    let rule = |id: &str, title: &str, detection: &str| {
        RULE.replace("5d0c", id).replace("SSH denied", title).replace("{ event.action: deny, dst_port: 22 }", detection)
    };
    let folder = folder(&[
        ("a.yml", &rule("1d0c", "Hits", "{ event.action: deny }")),
        ("b.yml", &rule("2d0c", "Rare", "{ event.action: deny, dst_port: 23 }")),
        ("c.yml", &rule("3d0c", "Case", "{ event.action|cased: DENY }")),
        ("d.yml", &rule("4d0c", "Unfilled", "{ source.user.name: root }")),
        ("e.yml", &rule("5d0c", "Typo", "{ sorce.ip: 10.1.2.3 }")),
        ("f.yml", &rule("6d0c", "Not this", "{ event.action: deny }").replace("paloalto", "fortios")),
        (
            "g.yml",
            &rule("7d0c", "Not without", "{ event.action: allow }\n  other: { source.user.name: root }")
                .replace("condition: selection", "condition: selection and not other"),
        ),
        ("in.log", &format!("{LINE}\n{LINE}\n")),
    ]);
    let (code, stdout, stderr) = run(folder.path(), &["rules", "doctor", ".", "--from", "in.log", "--output", "json"], "");
    assert_eq!(code, 0, "{stderr}");
    let told = &objects(&stdout)[0];
    let rules = told["rules"].as_array().unwrap();
    let of = |title: &str| rules.iter().find(|rule| rule["title"] == title).unwrap();
    let why = |title: &str| of(title)["why"].to_string();
    for (title, verdict) in [
        ("Hits", "hits"),
        ("Rare", "no hit"),
        ("Case", "value never fits"),
        ("Unfilled", "field never filled"),
        ("Typo", "never runs"),
        ("Not without", "no hit"),
    ] {
        assert_eq!(of(title)["verdict"], verdict, "{title}: {}", why(title));
    }
    assert_eq!(told["decoders"], json!({ "palo_alto": 2 }));
    assert_eq!(of("Hits")["fields"], json!({ "event.action": 2 }));
    assert_eq!((&of("Rare")["events"], &of("Rare")["hits"]), (&json!(2), &json!(0)));
    assert!(why("Case").contains("only upper and lower case differ"), "{}", why("Case"));
    assert!(why("Unfilled").contains("0 of 2 events have `source.user.name`"), "{}", why("Unfilled"));
    assert!(why("Typo").contains("did you mean `source.ip`?"), "{}", why("Typo"));

    let (code, stdout, stderr) = run(folder.path(), &["rules", "doctor", ".", "--sample", "in.log", "--strict"], "");
    assert_eq!(code, 1, "{stderr}");
    assert!(!stdout.contains("Rare") && stdout.lines().nth(1).unwrap().starts_with("field never filled  Unfilled"), "{stdout}");
    assert!(stderr.contains("decoders: palo_alto 2"), "{stderr}");
}

#[test]
fn doctor_looks_at_the_groups_of_correlations() {
    let unfilled = CORRELATION.replace("group-by: [source.ip]", "group-by: [source.user.name]");
    let folder = folder(&[("rule.yml", RULE), ("many.yml", &unfilled), ("in.log", LINE)]);
    let (code, stdout, stderr) = run(folder.path(), &["rules", "doctor", ".", "--from", "in.log"], "");
    assert_eq!(code, 0, "{stderr}");
    let line = stdout.lines().find(|line| line.contains("Many denied")).unwrap();
    assert!(line.starts_with("field never filled") && line.contains("no event of `SSH denied` has `source.user.name`"), "{line}");
}
