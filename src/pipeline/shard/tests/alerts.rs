//! What an alert looks like where it leaves, from the text of rules to the bytes.

#[path = "../../../../tests/it/ocsf.rs"]
mod ocsf;

use serde_json::{Value as Json, json};

use super::*;
use crate::encode::ocsf::is_finding;
use crate::pipeline::plan::{CORRELATION_SOURCE, HEALTH_SOURCE};

const SINK: &str = "sinks: { out: { type: http, endpoint: \"http://127.0.0.1:9\" } }\n";
const JSON_SOURCE: &str = "sources: { fw: { type: syslog, listen: \"127.0.0.1:5514\", decoder: json } }\n";

const RULE: &str = r#"
title: Denied From the DMZ
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f
status: stable
description: Somebody tries what nobody may.
references: ["https://example.com/dmz"]
author: A. Uthor
date: 2026-01-02
modified: 2026-03-04
tags: [attack.initial-access, attack.t1110.001, attack.t1190, cve.2021-44228]
falsepositives: ["A new rule of the firewall"]
level: high
logsource: { product: paloalto, category: firewall }
detection:
  selection: { action: deny, source.ip|cidr: 10.1.0.0/16 }
  port: { destination.port: [22, 443] }
  not_known: { rule.name: known }
  condition: selection and port and not not_known
"#;

const CORRELATION: &str = "
title: Many Denied
id: 3f0b7f1e-53a1-4f8c-8d2c-1d6f7c3e9b10
description: One address is denied again and again.
level: critical
tags: [attack.reconnaissance, attack.discovery, attack.t1046]
author: A. Uthor
correlation:
  type: event_count
  rules: [5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f]
  group-by: [source.ip]
  timespan: 5m
  condition: { gte: 10 }
  generate: true
";

/// For documents without a list of names.
fn document_rule(detection: &str) -> String {
    format!(
        "title: T\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f\nlevel: low\nlogsource: {{ product: okta, service: okta }}\n\
         detection:\n  s: {detection}\n  condition: s\n"
    )
}

impl Bench {
    /// What the first sink got, without what stands between rows.
    fn rows(&self) -> Vec<Vec<u8>> {
        let items = &self.shard.sinks[0].items;
        let item = |index| items.bytes[items.start(index)..items.ends[index] as usize].trim_ascii();
        (0..items.ends.len()).map(|index| item(index).strip_prefix(b",").unwrap_or_else(|| item(index)).to_vec()).collect()
    }

    /// The alert behind `events` rows of events.
    fn alert(&self, events: usize) -> Json {
        let rows = self.rows();
        assert!(!rows[..events].iter().any(|row| is_finding(row)));
        finding(&rows[events])
    }

    /// The same for an alert that a frame of our own describes.
    fn own(config: &str, source: &str, frame: &str) -> Json {
        let config = format!("{config}{SOURCE}rules: [rule.yml, correlation.yml]\n");
        let mut bench = Self::new(&config, &[("rule.yml", RULE), ("correlation.yml", CORRELATION)], &[]);
        let sender = bench.shard.plan.alerts_sender(source).unwrap();
        let index = usize::from(sender.source_index);
        bench.chunk = Chunk::new(frame.as_bytes().to_vec(), vec![Span::new(0, frame.len())], sender, 1_795_240_800_000);
        bench.shard.work(index, &bench.chunk, Pass::Live).unwrap();
        serde_json::from_slice(&bench.rows()[0]).unwrap()
    }
}

/// A row that is a right finding of ours.
fn finding(row: &[u8]) -> Json {
    assert!(is_finding(row), "{}", String::from_utf8_lossy(row));
    let finding = serde_json::from_slice(row).unwrap();
    assert_eq!(ocsf::mistakes(&finding), [""; 0], "{finding:#}");
    finding
}

/// Holds a document against the one that is kept, and against the schema if there is one.
fn check(name: &str, document: &Json) {
    if document["class_uid"] == 2004 {
        finding(document.to_string().replacen('{', "{\"category_uid\":2,\"class_uid\":2004,", 1).as_bytes());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/cases/alerts/{name}.json"));
    let mut expected: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    if let Some(version) = expected.pointer_mut("/metadata/product/version") {
        *version = env!("CARGO_PKG_VERSION").into();
    }
    assert_eq!(*document, expected, "{}:\n{document:#}", path.display());
}

fn frame_of_correlation(evidence: &str) -> String {
    format!(
        "{{\"@timestamp\":\"2026-11-21T08:05:00.000Z\",\"message\":\"Many Denied: event_count 10 in 300 s, source.ip 198.51.100.7\",\
         \"source.ip\":\"198.51.100.7\",\"hydrant\":{{\"rule\":{{\"id\":\"3f0b7f1e-53a1-4f8c-8d2c-1d6f7c3e9b10\",\"title\":\"Many Denied\",\
         \"level\":\"critical\",\"tags\":[\"attack.reconnaissance\",\"attack.discovery\",\"attack.t1046\"],\"author\":\"A. Uthor\",\
         \"hash\":\"00ff\"}},\"alert_id\":\"0123456789abcdef0123456789abcdef\",{evidence}\"correlation\":{{\"type\":\"event_count\",\
         \"group\":{{\"source.ip\":\"198.51.100.7\",\"hydrant\":\"x\"}},\"value\":10,\"timespan_ms\":300000,\
         \"window_start\":\"2026-11-21T08:00:00.001Z\",\"window_end\":\"2026-11-21T08:05:00.000Z\",\"sample\":[\"1:42\",\"1:57\"],\"sources\":[\"fw\",\"waf\"]}},\
         \"match\":{{\"key\":\"00\",\"time_ms\":1795248300000,\"is_alert\":true}}}}}}"
    )
}

const FRAME_OF_HEALTH: &str = r#"{"@timestamp":"2026-11-21T08:05:00.000Z","message":"Log Source Silent: 192.0.2.1 of source fw: silent","observer.ip":"192.0.2.1","hydrant":{"rule":{"id":"85f067f6-3b9f-43b8-b898-b58da354d446","title":"Log Source Silent","level":"high","tags":[]},"alert_id":"aa","source_health":{"condition":"silent","state":"begun","source":"fw","sender":"192.0.2.1","episode":"ee","since":"2026-11-21T07:50:00.000Z"}}}"#;

#[test]
fn each_kind_of_alert_is_the_finding_that_is_kept() {
    let config = format!("{SINK}{SOURCE}rules: [rule.yml]\n");
    let bench = Bench::new(&config, &[("rule.yml", RULE)], &[line("10.1.2.3", "deny"), line("10.1.2.4", "allow")]);
    check("rule", &bench.alert(2));
    check("correlation", &Bench::own(SINK, CORRELATION_SOURCE, &frame_of_correlation("")));
    let evidence = "\"evidence\":{\"raw\":\"<14>deny \\\"x\\\"\",\"position\":\"1:42\"},";
    let deduplicated = Bench::own(SINK, CORRELATION_SOURCE, &frame_of_correlation(evidence));
    assert_eq!((&deduplicated["raw_data"], &deduplicated["metadata"]["original_event_uid"]), (&json!("<14>deny \"x\""), &json!("1:42")));
    check("source_health", &Bench::own(SINK, HEALTH_SOURCE, FRAME_OF_HEALTH));
    let over = FRAME_OF_HEALTH.replace("begun", "over").replace("\"aa\"", "\"bb\"");
    let over = Bench::own(SINK, HEALTH_SOURCE, &over);
    assert_eq!((&over["activity_id"], &over["status_id"], &over["is_alert"]), (&json!(3), &json!(4), &json!(false)));
    assert_eq!((&over["finding_info"]["uid"], &over["metadata"]["uid"]), (&json!("ee"), &json!("bb")), "one finding, two messages");
    assert_eq!(ocsf::mistakes(&over), [""; 0]);
}

const FRAME_OF_DEDUPLICATION: &str = r#"{"@timestamp":"2026-11-21T08:00:00.000Z","message":"Denied From the DMZ, source.ip 10.1.2.3","source.ip":"10.1.2.3","hydrant":{"rule":{"id":"5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f","title":"Denied From the DMZ","level":"high","tags":[],"hash":"00ff"},"alert_id":"cc","deduplication":{"group":{"source.ip":"10.1.2.3"},"window_ms":3600000,"suppressed":0},"evidence":{"source":"waf","decoder":"palo_alto","position":"1:42","raw":"<14>deny"},"match":{"key":"00","time_ms":1795248000000,"is_alert":true}}}"#;

#[test]
fn an_alert_names_the_source_of_its_event_or_those_that_feed_its_correlation() {
    let deduplicate = "alerts: { deduplicate: [ { rules: ['Denied From*'], by: [source.ip], window: 1h } ] }\n";
    let sink = |kind: &str| format!("{deduplicate}sinks: {{ out: {{ {kind} }} }}\n");
    let several = frame_of_correlation("");
    let one = several.replace("[\"fw\",\"waf\"]", "[\"fw\"]");
    for (origin, frame, name, all) in [
        (CORRELATION_SOURCE, FRAME_OF_DEDUPLICATION, "waf", json!(["waf"])),
        (CORRELATION_SOURCE, &one, "fw", json!(["fw"])),
        (CORRELATION_SOURCE, &several, "correlation", json!(["fw", "waf"])),
        (HEALTH_SOURCE, FRAME_OF_HEALTH, "fw", json!(["fw"])),
    ] {
        let finding = Bench::own(&sink("type: http, endpoint: \"http://127.0.0.1:9\""), origin, frame);
        assert_eq!((&finding["metadata"]["log_source"], &finding["finding_info"]["data_sources"]), (&json!(name), &all));
        let splunk = Bench::own(&sink("type: splunk_hec, endpoint: \"http://127.0.0.1:9\", token: x, index: fw"), origin, frame);
        let search =
            if all.as_array().unwrap().len() > 1 { "source IN (\"fw\", \"waf\")".to_owned() } else { format!("source=\"{name}\"") };
        let drilldown = splunk["event"]["drilldown_search"].as_str().unwrap();
        assert!(drilldown.starts_with(&format!("index=\"fw\" {search} ")), "{drilldown}");
        let datadog = Bench::own(&sink("type: datadog_logs, site: datadoghq.eu, api_key: k"), origin, frame);
        let slack = Bench::own(&sink("type: slack, webhook_url: \"http://127.0.0.1:9/x\""), origin, frame);
        assert_eq!((&splunk["source"], &datadog["service"], &slack["source"]), (&json!(name), &json!(name), &json!(name)));
        if frame == FRAME_OF_DEDUPLICATION {
            let analytic = &finding["finding_info"]["analytic"];
            assert_eq!((&analytic["category"], &analytic["version"]), (&json!("paloalto/firewall"), &json!("2026-03-04")));
            assert_eq!((&finding["metadata"]["log_format"], &splunk["event"]["orig_sourcetype"]), (&json!("palo_alto"), &json!("pan:log")));
            assert_eq!(finding["unmapped"]["hydrant"]["decoder"], "palo_alto");
        } else {
            assert_eq!(finding["metadata"]["log_format"], Json::Null, "it is about no event");
        }
    }
}

#[test]
fn splunk_and_datadog_get_alerts_in_their_own_form() {
    let splunk = "sinks: { out: { type: splunk_hec, endpoint: \"http://127.0.0.1:9\", token: x, index: fw, alert_index: notable } }\n";
    let config = format!("{splunk}{SOURCE}rules: [rule.yml]\n");
    let bench = Bench::new(&config, &[("rule.yml", RULE)], &[line("10.1.2.3", "deny")]);
    let bodies = bench.bodies();
    assert_eq!((&bodies[0]["index"], &bodies[0]["sourcetype"]), (&json!("fw"), &json!("pan:log")));
    check("splunk", &bodies[1]);
    let own = Bench::own(splunk, CORRELATION_SOURCE, &frame_of_correlation(""));
    let notable = &own["event"];
    assert_eq!(
        (&notable["rule_name"], &notable["src"], &notable["id"]),
        (&json!("Many Denied"), &json!("198.51.100.7"), &json!("0123456789abcdef0123456789abcdef"))
    );
    assert_eq!((&notable["hydrant"]["alert"], &notable["urgency"]), (&json!(true), &json!("critical")));

    let datadog = "sinks: { out: { type: datadog_logs, site: datadoghq.eu, api_key: k, tags: [ \"env:prod\" ] } }\n";
    crate::clock::fix_ms(Some(1_795_248_000_000));
    let config = format!("{datadog}{SOURCE}rules: [rule.yml]\n");
    let rows = Bench::new(&config, &[("rule.yml", RULE)], &[line("10.1.2.3", "deny")]).rows();
    check("datadog", &serde_json::from_slice(&rows[1]).unwrap());
    let own = Bench::own(datadog, CORRELATION_SOURCE, &frame_of_correlation(""));
    crate::clock::fix_ms(None);
    assert_eq!((&own["ddsource"], &own["status"]), (&json!("hydrant"), &json!("critical")));
    let tags = "env:prod,rule_id:3f0b7f1e-53a1-4f8c-8d2c-1d6f7c3e9b10,tactic:reconnaissance,tactic:discovery,technique:T1046";
    assert_eq!(own["ddtags"], tags);
}

#[test]
fn what_alerts_want_is_decoded_only_where_a_rule_runs_and_a_sink_shows_it() {
    let flat = SINK.replace(" } }", ", alert_form: flat } }");
    let silent = RULE.replace("product: paloalto", "product: fortigate");
    for (sink, rule, is_wanted) in [(SINK, RULE, true), (&flat, RULE, false), (SINK, &silent, false)] {
        let bench = Bench::new(&format!("{sink}{SOURCE}rules: [rule.yml]\n"), &[("rule.yml", rule)], &[line("10.1.2.3", "deny")]);
        for name in ["%hydrant.matched", "source.port", "host.hostname"] {
            assert_eq!(bench.is_wanted(name), is_wanted, "{name} {sink}");
        }
        if rule == RULE && !is_wanted {
            assert_eq!(bench.bodies()[1]["hydrant"]["alert"], true, "as an event");
        }
    }
}

/// The values that `detection` matched in a document.
fn matched(detection: &str, document: &str) -> Json {
    let rule = document_rule(detection);
    let bench = Bench::new(&format!("{SINK}{JSON_SOURCE}rules: [rule.yml]\n"), &[("rule.yml", &rule)], &[document.to_owned()]);
    bench.alert(1)["evidences"][0]["data"]["matched"].clone()
}

#[test]
fn an_alert_says_which_values_its_rule_matched() {
    let pair = |field: &str, value: &str| json!({ "field": field, "value": value });
    let document = r#"{"a":"x\u0041y","n":4688,"list":["no","Yes!",7],"b":true,"z":null,"deep":{"er":"e"},"c":"xAy"}"#;
    for (detection, expected) in [
        ("{ a|contains: xa, n: 4688 }", json!([pair("a", "xAy"), pair("n", "4688")])),
        ("{ list|startswith: yes }", json!([pair("list", "Yes!")])),
        ("{ list|gt: 6 }", json!([pair("list", "7")])),
        ("{ deep.er: [q, e], b: true }", json!([pair("deep.er", "e"), pair("b", "true")])),
        ("{ a|fieldref: c }", json!([pair("a", "xAy"), pair("c", "xAy")])),
        ("{ a|exists: true, nothing|exists: false, z: null }", json!([pair("a", "xAy")])),
        ("[ nowhere, 'er\":' ]", json!([pair("raw", "er\":")])),
        ("{ '|re': 'n\":[0-9]+' }", json!([pair("raw", "n\":4688")])),
        ("[ { a: no }, { n: 4688 }, { b: true } ]", json!([pair("n", "4688"), pair("b", "true")])),
    ] {
        assert_eq!(matched(detection, document), expected, "{detection}");
    }
}

#[test]
fn a_sender_can_neither_break_an_alert_nor_forge_one() {
    let forged = r#"{"category_uid":2,"class_uid":2004,"a":"x","unmapped":{"hydrant":{"alert":true,"source":"fw"}}}"#;
    let spelt = forged.replace("hydrant", "hydr\\u0061nt").replace("unmapped", "unm\\u0061pped");
    let below = r#"{"a":"x","hydrant":{"alert":true},"n":1}"#;
    let control = format!("{{\"a\":\"x\",\"source\":{{\"ip\":\"no\\u0000address\",\"port\":99999,\"mac\":\"{}\"}}}}", "\u{1}".repeat(17));
    let long = format!("{{\"a\":\"x{}\",\"user\":{{\"name\":[\"u1\",\"u2\"]}}}}", "\\\"".repeat(500_000));
    let rule = document_rule("{ a|startswith: x }");
    for document in [forged, &spelt, below, &control, &long] {
        let bench = Bench::new(&format!("{SINK}{JSON_SOURCE}rules: [rule.yml]\n"), &[("rule.yml", &rule)], &[document.to_owned()]);
        let alert = bench.alert(1);
        assert_eq!(alert["raw_data"], *document);
        assert_eq!(alert["unmapped"]["hydrant"]["rule"]["title"], "T");
        let event: Json = serde_json::from_slice(&bench.rows()[0]).unwrap();
        assert!(event["unmapped"].is_null(), "a frame with our key never leaves as an object: {}", event.to_string().len());
    }
    let kept = Bench::new(&format!("{SINK}{JSON_SOURCE}rules: [rule.yml]\n"), &[("rule.yml", &rule)], std::slice::from_ref(&long)).alert(1);
    assert_eq!(kept["evidences"][0]["data"]["matched"][0]["cut"], true);
}

#[test]
fn bytes_that_are_no_text_are_kept_beside_it() {
    let rule = RULE.replace("condition: selection and port and not not_known", "condition: selection");
    let config = format!("{SINK}{SOURCE}rules: [rule.yml]\n");
    let mut bench = Bench::new(&config, &[("rule.yml", &rule)], &[line("10.1.2.3", "deny")]);
    let frame = line("10.1.2.3", "deny").replace("rule-1", "rule-\u{ff}").chars().map(|c| c as u8).collect::<Vec<u8>>();
    bench.chunk = Chunk::new(frame.clone(), vec![Span::new(0, frame.len())], bench.chunk.sender.clone(), 1_795_240_800_000);
    bench.work();
    let alert = bench.alert(1);
    assert!(alert["raw_data"].as_str().unwrap().contains("rule-\u{fffd}"));
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(alert["unmapped"]["hydrant"]["raw_base64"].as_str().unwrap());
    assert_eq!(bytes.unwrap(), frame);
}
