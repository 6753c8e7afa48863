//! Rules whose alerts are deduplicated, against a plain oracle, in every distribution.

use std::collections::HashMap;

use super::*;

/// Twice the same rule, with keys of one and of two parts.
pub(super) const DEDUPLICATED: &str = "
title: By Address
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a41
level: high
tags: [attack.t1110]
logsource: { product: okta, service: okta }
detection: { s: { action: fail }, condition: s }
hydrant: { deduplicate: { by: [source.ip], window: 10s } }
---
title: By Account and Site
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a42
level: low
logsource: { product: okta, service: okta }
detection: { s: { action: [fail, ok] }, condition: s }
hydrant: { deduplicate: { by: [nowhere, user.name], window: 4s } }
";

/// What has to be told of some logins: the first one of a key, and then the first one that is a window later.
pub(super) fn oracle(logins: &[Login]) -> Vec<String> {
    let mut sorted: Vec<&Login> = logins.iter().collect();
    sorted.sort_by_key(|login| login.time_ms);
    let mut last: HashMap<String, i64> = HashMap::new();
    let mut found = Vec::new();
    for login in sorted {
        let address = format!("By Address {{\"source.ip\":\"192.0.2.{}\"}}", login.address);
        let account = format!("By Account and Site {{\"nowhere\":null,\"user.name\":\"u{}\"}}", login.user);
        for (key, window_ms, fits) in [(address, 10_000, login.is_failure), (account, 4_000, true)] {
            if fits && last.get(&key).is_none_or(|last| login.time_ms - last >= window_ms) {
                let mut time = Vec::new();
                crate::clock::write_rfc3339(START_MS + login.time_ms, &mut time);
                found.push(format!("{key} {} {}", String::from_utf8(time).unwrap(), serde_json::json!(line(login))));
                last.insert(key, login.time_ms);
            }
        }
    }
    found.sort();
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_number_of_shards_tells_the_first_of_each_key_and_window(logins in any_logins()) {
        for shards in [1, 2, 4] {
            prop_assert_eq!(run_rules(DEDUPLICATED, &logins, shards), oracle(&logins), "{} shards", shards);
        }
    }
}

/// The alerts as JSON.
fn told(shards: &mut Shards) -> Vec<serde_json::Value> {
    for level in 0..LEVELS_MAX {
        shards.shards.iter_mut().for_each(|shard| shard.exchange().finish_level(level));
    }
    let mut found = Vec::new();
    for shard in &mut shards.shards {
        let alerts = shard.exchange().take_alerts();
        found.extend(alerts.spans.iter().map(|span| serde_json::from_slice(span.of(&alerts.bytes)).unwrap()));
    }
    found
}

#[test]
fn the_alert_is_the_rules_with_its_key_its_event_and_an_id_that_stays() {
    let ids: Vec<String> = [1, 2]
        .map(|shards| {
            let mut shards = Shards::new(shards, DEDUPLICATED);
            let lines: Vec<String> = (0..5).map(|n| line(&failure(n * 1_000, 1, n as u8))).collect();
            shards.give(0, &lines, START_MS + 5_000);
            shards.give(0, &[line(&failure(12_000, 1, 9))], START_MS + 12_000);
            let hits = shards.sum(&metrics::RULE_HITS, "By Address");
            let mut found: Vec<_> =
                told(&mut shards).into_iter().filter(|alert| alert["hydrant"]["rule"]["title"] == "By Address").collect();
            found.sort_by_key(|alert| alert["@timestamp"].as_str().unwrap().to_owned());
            assert_eq!((found.len(), hits), (2, 6));
            let hydrant = &found[0]["hydrant"];
            assert_eq!((&hydrant["rule"]["level"], &hydrant["rule"]["tags"][0]), (&"high".into(), &"attack.t1110".into()));
            assert_eq!(hydrant["rule"]["hash"].as_str().unwrap().len(), 64);
            let expected = serde_json::json!({"group": {"source.ip": "192.0.2.1"}, "window_ms": 10_000, "suppressed": 0});
            assert_eq!((&hydrant["deduplication"], &found[0]["source.ip"]), (&expected, &"192.0.2.1".into()));
            assert_eq!(hydrant["evidence"], serde_json::json!({"source": "app", "decoder": "json", "position": "1:0", "raw": lines[0]}));
            assert_eq!(found[0]["message"], "By Address, source.ip 192.0.2.1");
            assert_eq!(found[1]["hydrant"]["deduplication"]["suppressed"], 4, "since the first one");
            let not_made = |title| shards.registry.sum(&metrics::ALERTS_NOT_MADE, "rule", title);
            shards.shards.iter_mut().for_each(|shard| shard.exchange().tick(START_MS, false));
            assert_eq!((not_made("By Address"), not_made("By Account and Site")), (4, 0));
            hydrant["alert_id"].as_str().unwrap().to_owned()
        })
        .into();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn an_event_without_its_key_still_alerts_and_so_does_one_that_comes_late() {
    let mut shards = Shards::new(2, DEDUPLICATED);
    let lines = [format!("{{\"time\":{START_MS},\"action\":\"fail\"}}"), line(&failure(100, 1, 1))];
    shards.give(0, &lines, START_MS + 100);
    shards.give(1, &[line(&failure(200, 2, 2))], START_MS + 200);
    let groups = |alerts: Vec<serde_json::Value>| {
        let mut groups: Vec<String> = alerts.iter().map(|alert| alert["hydrant"]["deduplication"]["group"].to_string()).collect();
        groups.sort();
        groups
    };
    let found = groups(told(&mut shards));
    for group in ["{\"source.ip\":null}", "{\"nowhere\":null,\"user.name\":null}", "{\"source.ip\":\"192.0.2.1\"}"] {
        assert!(found.iter().any(|found| found == group), "{group} {found:?}");
    }
    let later_ms = START_MS + 3 * LATENESS_MS;
    shards.give(0, &[line(&failure(3 * LATENESS_MS, 3, 3))], later_ms);
    (0..2).for_each(|shard| shards.tick(shard, later_ms));
    drop(shards.alerts());
    // Behind the watermark by far.
    shards.give(1, &[line(&failure(-50_000, 4, 4))], later_ms);
    let late = told(&mut shards);
    let expected = ["{\"nowhere\":null,\"user.name\":\"u3\"}", "{\"nowhere\":null,\"user.name\":\"u4\"}"];
    let expected = [&expected[..], &["{\"source.ip\":\"192.0.2.3\"}", "{\"source.ip\":\"192.0.2.4\"}"]].concat();
    assert_eq!(groups(late), expected);
    assert_eq!(shards.sum(&metrics::CORRELATION_LEFT_OUT, "deduplication"), 0);
}

#[test]
fn a_reload_goes_on_with_what_is_unchanged() {
    for (change, alerts_again) in [
        (("title: By Account", "title: By User"), false),
        (("window: 10s", "window: 11s"), true),
        (("action: fail", "action: 'fail*'"), true),
    ] {
        let mut shards = Shards::new(2, DEDUPLICATED);
        shards.give(0, &[line(&failure(0, 1, 1))], START_MS);
        assert_eq!(shards.finish().iter().filter(|alert| alert.starts_with("By Address")).count(), 1);
        let new = plan(shards.folder.path(), &DEDUPLICATED.replacen(change.0, change.1, 1));
        shards.plans.send_replace(new);
        shards.give(1, &[line(&failure(1_000, 1, 1))], START_MS + 1_000);
        (0..2).for_each(|shard| shards.shards[shard].look_at_plan());
        let again = shards.finish().iter().filter(|alert| alert.starts_with("By Address")).count();
        assert_eq!(again, usize::from(alerts_again), "{change:?}");
    }
}
