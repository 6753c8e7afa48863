//! Shards with everything but sockets: raw lines in, alerts out, in every distribution.

mod deduplicate;
mod restart;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::*;
use crate::budget::Budget;
use crate::cursor::Journal as _;
use crate::detect::correlate::LEVELS_MAX;
use crate::event::{Chunk, Sender};
use crate::journal::Memory;
use crate::ledger::Ledger;
use crate::pipeline::health::Health;
use crate::pipeline::shard::{Common, Shard};
use crate::source_health::SourceHealth;
use crate::task;

const START_MS: i64 = 1_795_240_800_000;
const LATENESS_MS: i64 = 30_000;

const CONFIG: &str = "
rules: [rules.yml]
journal: { type: memory }
correlation: { memory: 16MiB, lateness: 30s }
sources: { app: { type: syslog, listen: \"127.0.0.1:5514\", decoder: json } }
sinks: { out: { type: splunk_hec, endpoint: \"http://127.0.0.1:9\", token: x } }
";

const RULES: &str = "
title: Failure
name: failure
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a31
logsource: { product: okta, service: okta }
detection: { s: { action: fail }, condition: s }
---
title: Success
name: success
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a32
logsource: { product: okta, service: okta }
detection: { s: { action: ok }, condition: s }
---
title: Count
name: count
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a33
correlation: { type: event_count, rules: [failure], group-by: [source.ip], timespan: 10s, condition: { gte: 3 } }
---
title: Users
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a34
correlation: { type: value_count, rules: [failure, success], group-by: [source.ip], timespan: 10s, condition: { gt: 2, field: user.name } }
---
title: In Order
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a35
correlation: { type: temporal_ordered, rules: [failure, success], group-by: [user.name], timespan: 10s }
---
title: Average
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a36
correlation: { type: value_avg, rules: [failure], group-by: [user.name], timespan: 5s, condition: { lt: 2, field: size } }
---
title: Chained
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a37
level: critical
generate: true
correlation: { type: value_count, rules: [count], group-by: [site], aliases: { site: { count: site } }, timespan: 1m, condition: { gte: 2, field: source.ip } }
";

/// Shards that are connected to each other and to nothing else.
struct Shards {
    folder: tempfile::TempDir,
    shards: Vec<Shard>,
    journal: Memory,
    registry: Registry,
    plans: watch::Sender<Arc<Plan>>,
    _runtime: (Runtime, LocalSet),
}

fn plan(folder: &Path, rules: &str) -> Arc<Plan> {
    std::fs::write(folder.join("rules.yml"), rules).unwrap();
    Arc::new(Plan::read(&folder.join("c.yaml"), CONFIG).unwrap_or_else(|diagnostics| panic!("{diagnostics}")))
}

impl Shards {
    fn new(count: usize, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (plans, plan) = watch::channel(plan(folder.path(), rules));
        let (_stopper, stop) = task::pair();
        let registry = Registry::default();
        let ledger = Ledger::open(folder.path(), (vec!["app".into()], vec!["out".into()]), false, registry.clone());
        let (health, taps) = (Health::new(1, count, stop), Arc::default());
        let source_health = Arc::new(SourceHealth::open(folder.path(), 0));
        let common = Common { budget: Budget::new(1 << 30), plan, registry: registry.clone(), health, taps, ledger, source_health };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let local = LocalSet::new();
        let next = Arc::new(AtomicU64::new(0));
        let shards = local.block_on(&runtime, async {
            let shard = |end| Shard::new(&common, Rc::new(Memory::new(1, next.clone())), 1, end).unwrap();
            exchange(count).into_iter().map(shard).collect()
        });
        Self { folder, shards, journal: Memory::new(1, next), registry, plans, _runtime: (runtime, local) }
    }

    fn give(&mut self, shard: usize, lines: &[String], received_ms: i64) {
        let mut chunks = [chunk(lines, received_ms)];
        drop(self.journal.append(&mut chunks));
        for chunk in chunks {
            self.shards[shard].process(chunk).unwrap();
        }
    }

    fn tick(&mut self, shard: usize, clock_ms: i64) {
        self.shards[shard].exchange().tick(clock_ms, false);
    }

    /// Everything that was made so far: title, group, value and end of the window.
    fn alerts(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for shard in &mut self.shards {
            let alerts = shard.exchange().take_alerts();
            found.extend(alerts.spans.iter().map(|span| shown(span.of(&alerts.bytes))));
        }
        found.sort();
        found
    }

    fn finish(&mut self) -> Vec<String> {
        for level in 0..LEVELS_MAX {
            self.shards.iter_mut().for_each(|shard| shard.exchange().finish_level(level));
        }
        self.alerts()
    }

    fn sum(&self, family: &'static metrics::Family, title: &str) -> u64 {
        self.registry.sum(family, "rule", title)
    }
}

fn chunk(lines: &[String], received_ms: i64) -> Chunk {
    let (mut bytes, mut frames) = (Vec::new(), Vec::new());
    for line in lines {
        frames.push(Span::new(bytes.len(), bytes.len() + line.len()));
        bytes.extend_from_slice(line.as_bytes());
    }
    let sender = Arc::new(Sender { source: "app".into(), source_index: 0 });
    Chunk::new(bytes, frames, sender, received_ms)
}

/// Title, group, value and end of the window of an alert; of one that was deduplicated its time and event.
fn shown(alert: &[u8]) -> String {
    let alert: serde_json::Value = serde_json::from_slice(alert).unwrap();
    let deduplication = &alert["hydrant"]["deduplication"];
    if deduplication.is_object() {
        let (title, group) = (alert["hydrant"]["rule"]["title"].as_str().unwrap(), &deduplication["group"]);
        return format!("{title} {group} {} {}", alert["@timestamp"].as_str().unwrap(), alert["hydrant"]["evidence"]["raw"]);
    }
    let (rule, correlation) = (&alert["hydrant"]["rule"], &alert["hydrant"]["correlation"]);
    let (title, end) = (rule["title"].as_str().unwrap(), correlation["window_end"].as_str().unwrap());
    format!("{title} {} {} {end}", correlation["group"], correlation["value"])
}

#[derive(Clone, Debug)]
struct Login {
    time_ms: i64,
    delay_ms: i64,
    address: u8,
    user: u8,
    is_failure: bool,
    reader: usize,
    ticker: usize,
}

fn line(login: &Login) -> String {
    let Login { time_ms, address, user, is_failure, .. } = login;
    let action = if *is_failure { "fail" } else { "ok" };
    format!(
        "{{\"time\":{},\"action\":\"{action}\",\"source\":{{\"ip\":\"192.0.2.{address}\"}},\"user\":{{\"name\":\"u{user}\"}},\"size\":{user},\"site\":\"s{}\"}}",
        START_MS + time_ms,
        address % 2
    )
}

fn any_logins() -> impl Strategy<Value = Vec<Login>> {
    let login = (0i64..40_000, 0..LATENESS_MS / 2, 0u8..4, 0u8..4, any::<bool>(), 0usize..4, 0usize..4);
    let login = login.prop_map(|(time_ms, delay_ms, address, user, is_failure, reader, ticker)| Login {
        time_ms,
        delay_ms,
        address,
        user,
        is_failure,
        reader,
        ticker,
    });
    // No two at one time: which of them comes first depends on their positions, and so on the shard that read them.
    proptest::collection::btree_map(0i64..40_000, login, 0..60).prop_map(|logins| {
        let mut logins: Vec<Login> = logins.into_iter().map(|(time_ms, login)| Login { time_ms, ..login }).collect();
        logins.sort_by_key(|login| (login.time_ms + login.delay_ms, login.time_ms));
        logins
    })
}

fn run(logins: &[Login], shards: usize) -> Vec<String> {
    run_rules(RULES, logins, shards)
}

fn run_rules(rules: &str, logins: &[Login], shards: usize) -> Vec<String> {
    let mut running = Shards::new(shards, rules);
    for logins in logins.chunks(3) {
        let received_ms = START_MS + logins.iter().map(|login| login.time_ms + login.delay_ms).max().unwrap();
        for login in logins {
            running.give(login.reader % shards, &[line(login)], received_ms);
        }
        running.tick(logins[0].ticker % shards, received_ms);
    }
    let mut found = running.alerts();
    found.extend(running.finish());
    found.sort();
    for title in ["Count", "Users", "In Order", "Average", "Chained"] {
        assert_eq!(running.registry.sum(&metrics::CORRELATION_LEFT_OUT, "rule", title), 0, "{title}: nothing is late");
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_number_of_shards_makes_the_same_alerts(logins in any_logins()) {
        let alone = run(&logins, 1);
        for shards in [2, 4] {
            prop_assert_eq!(&run(&logins, shards), &alone, "{} shards", shards);
        }
    }
}

fn failure(time_ms: i64, address: u8, user: u8) -> Login {
    Login { time_ms, delay_ms: 0, address, user, is_failure: true, reader: 0, ticker: 0 }
}

#[test]
fn every_type_and_a_chain_fire_across_shards() {
    let mut logins: Vec<Login> = (0..12).map(|n| Login { reader: n as usize, ..failure(n * 100, n as u8 % 4, n as u8 % 3) }).collect();
    logins.push(Login { is_failure: false, ..failure(2_000, 0, 1) });
    let found = run(&logins, 4);
    for part in [
        "Count {\"source.ip\":\"192.0.2.0\"} 3 ",
        "Users {\"source.ip\":\"192.0.2.1\"} 3 ",
        "In Order {\"user.name\":\"u1\"} 2 ",
        "Chained {\"site\":\"s0\"} 2 ",
    ] {
        assert!(found.iter().any(|alert| alert.starts_with(part)), "{part}\n{found:#?}");
    }
    let fourth = [&logins[..], &[failure(9_000, 9, 9)]].concat();
    assert!(run(&fourth, 2).iter().any(|alert| alert.starts_with("Average {\"user.name\":\"u0\"} 0 ")), "judged when its window is over");
}

#[test]
fn a_rule_alerts_alone_only_if_it_is_asked_to() {
    let alerts = |rules: &str| {
        let mut shards = Shards::new(1, rules);
        shards.give(0, &[line(&failure(0, 1, 1))], START_MS);
        (shards.registry.cell(&metrics::ALERTS, &[]).value(), shards.sum(&metrics::RULE_HITS, "Failure"))
    };
    assert_eq!(alerts(RULES), (0, 1), "the hit is counted all the same");
    assert_eq!(alerts(&RULES.replacen("timespan: 10s", "timespan: 10s, generate: true", 1)), (1, 1));
}

#[test]
fn a_reload_keeps_the_state_of_what_is_unchanged_and_only_that() {
    for (change, expected) in
        [(("title: Average", "title: Mean"), 1), (("title: Count", "title: Number"), 0), (("action: fail", "action|contains: fail"), 0)]
    {
        let mut shards = Shards::new(2, RULES);
        (0..2).for_each(|n| shards.give(n, &[line(&failure(n as i64 * 100, 1, 1))], START_MS + 200));
        let rules = RULES.replacen(change.0, change.1, 1);
        let new = plan(shards.folder.path(), &rules);
        let old = shards.plans.borrow().clone();
        let begins: Vec<&str> = new.correlation.begins_empty(&old.correlation).collect();
        assert_eq!(begins.contains(&change.1.trim_start_matches("title: ")), change.1.starts_with("title"), "{begins:?}");
        assert_eq!(begins.len() > 2, change.0.starts_with("action"), "all that look at the rule: {begins:?}");
        shards.plans.send_replace(new.clone());
        // What waits in the ring was sent under the old plan, and its numbers mean the old correlations.
        shards.shards[0].look_at_plan();
        shards.give(1, &[line(&failure(200, 1, 1))], START_MS + 200);
        let found = shards.finish();
        assert_eq!(
            found.iter().filter(|alert| alert.contains("{\"source.ip\":\"192.0.2.1\"} 3")).count(),
            expected,
            "{change:?} {found:?}"
        );
    }
}

#[test]
fn without_correlations_there_is_no_engine_and_a_reload_brings_it() {
    let without = RULES.split("---\ntitle: Count").next().unwrap();
    let mut shards = Shards::new(2, without);
    assert!(shards.shards.iter_mut().all(|shard| !shard.exchange().is_on()));
    let new = plan(shards.folder.path(), RULES);
    shards.plans.send_replace(new);
    (0..3).for_each(|n| shards.give(n % 2, &[line(&failure(n as i64 * 100, 1, 1))], START_MS + 300));
    assert_eq!(shards.finish().iter().filter(|alert| alert.starts_with("Count")).count(), 1);
}

#[test]
fn a_full_ring_holds_chunks_back_and_loses_nothing() {
    let mut shards = Shards::new(2, RULES);
    let mut count = 0;
    while shards.shards[0].exchange().is_flushed() {
        count += 1;
        assert!(count < 10_000, "the ring never fills");
        let lines: Vec<String> = (0..20).map(|address| line(&failure(count, address, 1))).collect();
        shards.give(0, &lines, START_MS + count);
    }
    assert!(count > RING_PARCELS as i64 / 2);
    shards.shards[0].exchange().tick(START_MS, false);
    assert!(!shards.shards[0].exchange().is_flushed(), "nobody has taken anything");
    let published = shards.shards[0].exchange().peers.faces()[0].seen().1;
    assert!(published < START_MS + count, "the time of hits that wait is not published");
    shards.shards[1].exchange().drain();
    shards.shards[0].exchange().flush();
    assert!(shards.shards[0].exchange().is_flushed());
    let found = shards.finish();
    assert_eq!(found.iter().filter(|alert| alert.starts_with("Count")).count(), 20, "each address once");
    assert_eq!(shards.sum(&metrics::CORRELATION_HITS, "Count"), 20 * count as u64);
}

#[test]
fn forged_times_neither_make_others_late_nor_wait_for_years() {
    let mut shards = Shards::new(1, RULES);
    let year_ms = 365 * 86_400_000;
    shards.give(0, &[line(&failure(year_ms, 1, 1))], START_MS);
    shards.tick(0, START_MS);
    (0..3).for_each(|n| shards.give(0, &[line(&failure(n * 100, 2, 1))], START_MS + 300));
    shards.tick(0, START_MS + 300);
    let later_ms = START_MS + 3 * LATENESS_MS;
    shards.give(0, &[line(&failure(3 * LATENESS_MS, 3, 1))], later_ms);
    shards.tick(0, later_ms);
    assert_eq!(shards.alerts().iter().filter(|alert| alert.starts_with("Count")).count(), 1);
    assert_eq!(shards.sum(&metrics::CORRELATION_LEFT_OUT, "Count"), 0);
}

/// `HYDRANT_KEYS=10000000` is the attack that the bound is meant for.
#[test]
fn a_flood_of_keys_stays_within_the_budget_and_is_counted() {
    let keys: u32 = std::env::var("HYDRANT_KEYS").map_or(100_000, |keys| keys.parse().unwrap());
    let mut shards = Shards::new(2, RULES);
    let budget = shards.plans.borrow().correlation.budget_bytes as u64;
    let lines = |first: u32| -> Vec<String> {
        let number = |number: u32| {
            format!("{{\"time\":{},\"action\":\"fail\",\"source\":{{\"ip\":\"k{number}\"}}}}", START_MS + i64::from(number / 100))
        };
        (first..keys.min(first + 1_000)).map(number).collect()
    };
    for first in (0..keys).step_by(1_000) {
        let received_ms = START_MS + i64::from(first / 100) + 10;
        shards.give((first / 1_000 % 2) as usize, &lines(first), received_ms);
        (0..2).for_each(|shard| shards.tick(shard, received_ms));
        let used: u64 =
            ["Count", "Users", "In Order", "Average", "Chained"].iter().map(|title| shards.sum(&metrics::CORRELATION_BYTES, title)).sum();
        assert!(used <= 2 * budget, "{used} of {budget} for each of two shards");
    }
    let given = shards.sum(&metrics::CORRELATION_HITS, "Count");
    let kept = shards.sum(&metrics::CORRELATION_GROUPS, "Count");
    let (forced, evicted) = (shards.sum(&metrics::CORRELATION_FORCED, "Count"), shards.sum(&metrics::CORRELATION_EVICTED, "Count"));
    assert!(
        given == u64::from(keys) && kept > 0 && evicted > 0 && forced > 0,
        "{given} keys: {kept} groups kept, {forced} hits taken early, {evicted} groups evicted"
    );
}
