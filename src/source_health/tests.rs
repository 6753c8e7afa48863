//! Days in a moment: the clock is what a test says.

use super::*;

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;

/// Midnight, on a Monday: 2026-11-23.
const START_MS: i64 = 20_780 * DAY_MINUTES * MINUTE_MS;

fn settings() -> Settings {
    Settings {
        silent_after: Duration::from_secs(900),
        learning: Duration::from_secs(86_400),
        volume_below_percent: 20,
        clock_skew: Duration::from_secs(300),
        unreadable_above_percent: 20,
    }
}

fn watched() -> Watched {
    Watched { name: "fw".into(), names_devices: true, delay: Some(Duration::ZERO) }
}

/// One sender, looked at every minute.
struct Bench {
    folder: tempfile::TempDir,
    health: SourceHealth,
    registry: Registry,
    seen: Sighting,
    minute: i64,
    source: Watched,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let health = SourceHealth::open(folder.path(), START_MS);
        Self { folder, health, registry: Registry::default(), seen: Sighting::default(), minute: 0, source: watched() }
    }

    fn now_ms(&self) -> i64 {
        START_MS + self.minute * MINUTE_MS
    }

    fn look(&mut self, is_held_back: bool) -> Vec<Value> {
        self.minute += 1;
        let senders = [(SenderName::Address([192, 0, 2, 1].into()), self.seen)].into();
        let seen = Sightings { sources: vec![("fw".into(), senders)], is_held_back };
        let look = Look { elapsed: Duration::from_secs(60), now_ms: self.now_ms() };
        let alerts = self.health.look(&seen, look, (&settings(), std::slice::from_ref(&self.source)), &self.registry);
        alerts.iter().map(|alert| serde_json::from_slice(alert).unwrap()).collect()
    }

    /// Looks for some minutes, in each of which as many events come as `events` says of the minute since the start.
    fn pass(&mut self, minutes: i64, events: impl Fn(i64) -> u64) -> Vec<Value> {
        let pass = |_| {
            let count = events(self.minute);
            self.seen.received += count;
            if count > 0 {
                self.seen.skew = Some((self.now_ms(), -20));
            }
            self.look(false)
        };
        (0..minutes).flat_map(pass).collect()
    }

    /// The process ends, or is killed, and another one begins.
    fn restart(&mut self, is_killed: bool) {
        if !is_killed {
            self.health.write(self.now_ms(), true).unwrap();
        }
        self.health = SourceHealth::open(self.folder.path(), self.now_ms());
        self.seen = Sighting::default();
    }

    fn gauge(&self, condition: &str) -> u64 {
        self.registry.sum(&metrics::SOURCE_HEALTH, "condition", condition)
    }
}

/// Condition and state of each alert.
fn told(alerts: &[Value]) -> Vec<String> {
    let text = |alert: &Value, key: &str| alert["hydrant"]["source_health"][key].as_str().unwrap().to_owned();
    alerts.iter().map(|alert| format!("{} {}", text(alert, "condition"), text(alert, "state"))).collect()
}

#[test]
fn a_sender_that_falls_silent_is_told_once_and_once_more_when_it_sends_again() {
    let mut bench = Bench::new();
    assert_eq!(bench.pass(2 * DAY_MINUTES, |_| 3), Vec::<Value>::new());
    assert_eq!(bench.pass(15, |_| 0), Vec::<Value>::new());
    let begun = bench.pass(3 * DAY_MINUTES, |_| 0);
    assert_eq!((told(&begun), bench.gauge("silent")), (vec!["silent begun".to_owned()], 1));
    let found = &begun[0]["hydrant"]["source_health"];
    assert_eq!((&found["quiet_s"], &found["limit_s"], &found["sender"]), (&json!(960), &json!(900), &json!("192.0.2.1")));
    assert_eq!(found["last_event"], "2026-11-25T00:00:00.000Z");
    assert_eq!((&begun[0]["observer.ip"], &begun[0]["hydrant"]["rule"]["level"]), (&json!("192.0.2.1"), &json!("high")));
    assert_eq!(begun[0]["message"], "Log Source Silent: 192.0.2.1 of source fw: nothing came for 960 s");
    let over = bench.pass(1, |_| 1);
    assert_eq!((told(&over), bench.gauge("silent")), (vec!["silent over".to_owned()], 0));
    let (rule, episode) = (&over[0]["hydrant"]["rule"], &over[0]["hydrant"]["source_health"]["episode"]);
    assert_eq!((rule["level"].as_str(), episode), (Some("informational"), &found["episode"]));
    assert_ne!(over[0]["hydrant"]["alert_id"], begun[0]["hydrant"]["alert_id"]);
    assert_eq!(bench.registry.sum(&metrics::RULE_HITS, "rule", "Log Source Silent"), 1);
}

#[test]
fn a_laptop_that_is_off_at_night_and_on_weekends_is_never_told() {
    let mut bench = Bench::new();
    let is_at_work = |minute: i64| {
        let (day, hour) = (minute.div_euclid(DAY_MINUTES), minute.rem_euclid(DAY_MINUTES) / 60);
        // Two weeks of holidays after the third one.
        day % 7 < 5 && (9..17).contains(&hour) && hour != 12 && !(21..35).contains(&day)
    };
    assert_eq!(told(&bench.pass(50 * DAY_MINUTES, |minute| 20 * u64::from(is_at_work(minute)))), [""; 0]);
}

#[test]
fn who_was_heard_for_less_than_a_day_is_not_missed() {
    let mut bench = Bench::new();
    bench.pass(23 * 60, |_| 3);
    assert_eq!(told(&bench.pass(7 * DAY_MINUTES, |_| 0)), [""; 0]);
}

#[test]
fn a_sender_that_sends_seldom_has_its_own_limit_and_one_outage_teaches_nothing() {
    let mut bench = Bench::new();
    let seldom = |minute: i64| u64::from(minute % 40 == 0);
    bench.pass(5 * DAY_MINUTES + 1, seldom);
    assert_eq!(told(&bench.pass(80, |_| 0)), [""; 0]);
    assert_eq!(told(&bench.pass(300, |_| 0)), ["silent begun"]);
    assert_eq!(told(&bench.pass(2 * DAY_MINUTES, seldom)), ["silent over"]);
    assert_eq!(told(&bench.pass(125, |_| 0)), ["silent begun"], "as soon as before");
}

#[test]
fn nobody_is_silent_while_senders_are_held_back_or_nothing_is_watched() {
    let mut bench = Bench::new();
    bench.pass(2 * DAY_MINUTES, |_| 3);
    let held_back: Vec<Value> = (0..120).flat_map(|_| bench.look(true)).collect();
    assert_eq!(told(&held_back), [""; 0]);
    // The machine slept: the clock has gone on, and so has the time since the last look.
    bench.minute += DAY_MINUTES;
    assert_eq!(told(&bench.pass(15, |_| 0)), [""; 0]);
    assert_eq!(told(&bench.pass(1, |_| 0)), ["silent begun"]);
}

#[test]
fn what_was_told_is_not_told_again_after_a_restart_and_ends_behind_it() {
    let mut bench = Bench::new();
    bench.pass(2 * DAY_MINUTES, |_| 3);
    let begun = bench.pass(20, |_| 0);
    assert_eq!(told(&begun), ["silent begun"]);
    // The alert has not reached the journal: nothing that knows of it may be written.
    bench.health.write(bench.now_ms(), true).unwrap();
    assert!(SourceHealth::open(bench.folder.path(), bench.now_ms()).state().senders.is_empty());
    bench.health.given();
    bench.restart(false);
    assert_eq!(told(&bench.pass(DAY_MINUTES, |_| 0)), [""; 0]);
    bench.restart(true);
    let over = bench.pass(1, |_| 1);
    assert_eq!(told(&over), ["silent over"]);
    assert_eq!(over[0]["hydrant"]["source_health"]["episode"], begun[0]["hydrant"]["source_health"]["episode"]);
    assert_eq!(told(&bench.pass(16, |_| 0)), ["silent begun"], "its past is known");
}

#[test]
fn an_alert_that_a_crash_swallowed_is_made_again_under_its_id() {
    let mut bench = Bench::new();
    bench.pass(2 * DAY_MINUTES, |_| 3);
    bench.health.write(bench.now_ms(), true).unwrap();
    let first = bench.pass(20, |_| 0);
    bench.restart(true);
    let again = bench.pass(20, |_| 0);
    assert_eq!((first.len(), &first[0]["hydrant"]["alert_id"]), (1, &again[0]["hydrant"]["alert_id"]));
}

#[test]
fn an_hour_far_below_those_of_a_week_is_a_drop_until_one_is_as_usual() {
    let mut bench = Bench::new();
    // Ten times as much by day.
    let usual = |minute: i64| if (8..18).contains(&(minute % DAY_MINUTES / 60)) { 100 } else { 10 };
    assert_eq!(told(&bench.pass(8 * DAY_MINUTES + 12 * 60, usual)), [""; 0]);
    assert_eq!(told(&bench.pass(59, |_| 15)), [""; 0], "the hour is not over");
    let begun = bench.pass(121, |_| 15);
    assert_eq!((told(&begun), bench.gauge("volume_drop")), (vec!["volume_drop begun".to_owned()], 1));
    let found = &begun[0]["hydrant"]["source_health"];
    assert_eq!((&found["events"], &found["usual_events"], &found["hour"]), (&json!(985), &json!(6000), &json!("2026-12-01T12:00:00.000Z")));
    assert_eq!(told(&bench.pass(121, |_| 90)), ["volume_drop over"]);
}

#[test]
fn what_is_low_for_a_day_is_usual_from_then_on() {
    let mut bench = Bench::new();
    bench.pass(9 * DAY_MINUTES, |_| 100);
    assert_eq!(told(&bench.pass(DAY_MINUTES, |_| 5)), ["volume_drop begun"]);
    assert_eq!(told(&bench.pass(3 * DAY_MINUTES, |_| 5)), ["volume_drop over"]);
    assert_eq!(told(&bench.pass(2 * 60, |_| 1)), [""; 0], "a quarter of it");
}

#[test]
fn an_hour_that_was_not_watched_or_ends_in_silence_is_no_drop() {
    let mut bench = Bench::new();
    bench.pass(9 * DAY_MINUTES, |_| 100);
    bench.pass(5, |_| 100);
    (0..50).for_each(|_| assert!(bench.look(true).is_empty()));
    assert_eq!(told(&bench.pass(120, |_| 100)), [""; 0]);
    let silent = bench.pass(120, |_| 0);
    assert_eq!(told(&silent), ["silent begun"]);
    bench.health.given();
    bench.restart(false);
    assert_eq!(told(&bench.pass(90, |_| 100)), ["silent over"]);
}

/// Looks for some minutes; in each one event comes, whose time is `offset_s` off.
fn offsets(bench: &mut Bench, minutes: i64, offset_s: i64) -> Vec<Value> {
    let pass = |_| {
        bench.seen.received += 1;
        bench.seen.skew = Some((bench.now_ms(), offset_s * 1_000));
        bench.look(false)
    };
    (0..minutes).flat_map(pass).collect()
}

#[test]
fn a_clock_is_off_by_the_median_of_a_quarter_of_an_hour() {
    let mut bench = Bench::new();
    offsets(&mut bench, 30, -2);
    assert_eq!(told(&offsets(&mut bench, 7, 3_600)), [""; 0], "a few events say nothing");
    let begun = offsets(&mut bench, 60, 3_600);
    assert_eq!(told(&begun), ["clock_skew begun"]);
    assert_eq!(begun[0]["hydrant"]["source_health"]["offset_s"], 3_600);
    assert!(begun[0]["message"].as_str().unwrap().ends_with("its events are 3600 s ahead of their arrival"), "{}", begun[0]);
    assert_eq!(told(&offsets(&mut bench, 60, 250)), [""; 0], "within the limit, but not within half of it");
    assert_eq!(told(&offsets(&mut bench, 60, 0)), ["clock_skew over"]);
    assert_eq!(told(&offsets(&mut bench, 60, -301)), ["clock_skew begun"]);
}

#[test]
fn what_is_late_by_design_is_not_behind() {
    let mut bench = Bench::new();
    bench.source.delay = Some(Duration::from_secs(900));
    assert_eq!(told(&offsets(&mut bench, 60, -1_100)), [""; 0]);
    assert_eq!(told(&offsets(&mut bench, 60, -1_300)), ["clock_skew begun"]);
    let mut bench = Bench::new();
    bench.source.delay = None;
    assert_eq!(told(&offsets(&mut bench, 60, -86_400)), [""; 0], "an old file");
    assert_eq!(told(&offsets(&mut bench, 60, 86_400)), ["clock_skew begun"], "nothing comes out of the future");
}

#[test]
fn a_sender_that_no_decoder_reads_is_told_by_its_share() {
    let mut bench = Bench::new();
    let mut pass = |minutes: i64, percent: u64| -> Vec<Value> {
        let pass = |_| {
            bench.seen.received += 100;
            bench.seen.unreadable += percent;
            bench.look(false)
        };
        (0..minutes).flat_map(pass).collect()
    };
    assert_eq!(told(&pass(60, 20)), [""; 0]);
    let begun = pass(60, 50);
    assert_eq!(told(&begun), ["unreadable begun"]);
    let found = &begun[0]["hydrant"]["source_health"];
    assert_eq!((&found["percent"], &found["events"], &found["unreadable"]), (&json!(50), &json!(1000), &json!(500)));
    assert_eq!(told(&pass(60, 11)), [""; 0]);
    assert_eq!(told(&pass(60, 10)), ["unreadable over"]);
}

#[test]
fn senders_of_a_cloud_service_are_judged_as_one_and_a_source_that_is_off_is_forgotten() {
    let mut bench = Bench::new();
    bench.source.names_devices = false;
    bench.pass(2 * DAY_MINUTES, |_| 3);
    let begun = bench.pass(20, |_| 0);
    assert_eq!(begun[0]["message"], "Log Source Silent: source fw: nothing came for 960 s");
    assert!(begun[0].get("observer.ip").is_none());
    let report = bench.health.report(&settings());
    let sender = &report["sources"]["fw"]["senders"]["-"];
    assert_eq!((&sender["silent_after_s"], &sender["usual_pause_s"]), (&json!(900), &json!(60)));
    assert_eq!(sender["conditions"]["silent"], begun[0]["@timestamp"]);
    bench.source.name = "other".into();
    assert_eq!((told(&bench.pass(1, |_| 0)), bench.gauge("silent")), (Vec::new(), 0));
    assert_eq!(bench.health.report(&settings()), json!({ "sources": {} }));
}

#[test]
fn a_damaged_file_is_learned_anew() {
    let folder = tempfile::tempdir().unwrap();
    Store::new(folder.path()).write_file(FILE, &"nothing").unwrap();
    assert!(SourceHealth::open(folder.path(), START_MS).state().senders.is_empty());
}
