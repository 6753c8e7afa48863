//! The state machine held against a brute-force oracle over sorted events, and against its budget.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::detect::sigma::correlation::Operator;

const RULES: usize = 3;

fn program(kind: Kind, timespan_ms: i64, criteria: &[(Operator, u64)]) -> Program {
    let criteria = criteria.iter().map(|(operator, limit)| (*operator, Decimal::whole(*limit))).collect();
    let condition = Condition { criteria, fields: Vec::new(), percentile: 50 };
    Program { kind, condition, timespan_ms, rule_count: RULES, is_deduplication: false, budget_bytes: 1 << 30 }
}

#[derive(Clone, Debug)]
struct Event {
    time_ms: i64,
    position: Position,
    key: u8,
    bases: Vec<u8>,
    value: u8,
    /// How much later than its time it arrives.
    delay_ms: i64,
    /// The shard that reads it.
    reader: usize,
}

type Match = (Vec<u8>, i64, Position);

fn send(event: &Event, correlator: &mut Correlator, fired: &mut Vec<Fired>) {
    let value = event.value.to_string();
    for base in &event.bases {
        let hit = Hit {
            position: event.position,
            time_ms: event.time_ms,
            base: *base,
            key: &[event.key],
            value: Some(value.as_bytes()),
            carry: &[event.value],
        };
        correlator.accept(&hit, fired);
    }
}

/// Every event in the order of its arrival, to the owner of its group; the watermark after each of them.
fn run(program: &Program, events: &[Event], shards: usize, lateness_ms: i64) -> Vec<Fired> {
    let ownership = Ownership::new(shards);
    let mut correlators: Vec<Correlator> = (0..shards).map(|_| Correlator::new(program.clone())).collect();
    let mut watermark = Watermark::new(shards, lateness_ms);
    let mut arrivals: Vec<&Event> = events.iter().collect();
    arrivals.sort_by_key(|event| (event.time_ms + event.delay_ms, event.delay_ms));
    let mut fired = Vec::new();
    for event in arrivals {
        watermark.observe(event.reader % shards, event.time_ms);
        send(event, &mut correlators[ownership.owner(9, &[event.key])], &mut fired);
        let value_ms = watermark.value(0, 0);
        correlators.iter_mut().for_each(|correlator| correlator.advance(value_ms, &mut fired));
    }
    (0..shards).for_each(|shard| watermark.idle(shard));
    let value_ms = watermark.value(1_000_000, 1_000_000);
    for correlator in &mut correlators {
        correlator.advance(value_ms, &mut fired);
        let counters = Counters { suppressed_events: 0, ..correlator.counters() };
        assert_eq!(counters, Counters::default(), "nothing is late, nothing is evicted");
        assert_eq!((correlator.keys_alive(), correlator.used_bytes()), (0, 0), "what has ended is forgotten");
    }
    fired.sort();
    fired
}

fn matches(fired: &[Fired]) -> BTreeSet<Match> {
    let matches: BTreeSet<Match> = fired.iter().map(|fired| (fired.key.to_vec(), fired.time_ms, fired.position)).collect();
    assert_eq!(matches.len(), fired.len(), "no match twice");
    matches
}

/// The measure of some events in order, ending with the last, from the definition.
fn measure(kind: Kind, events: &[&Event]) -> (i128, i128) {
    let mut values: Vec<i128> = events.iter().map(|event| i128::from(event.value) * Decimal::ONE).collect();
    values.sort_unstable();
    let count = |count: usize| (count as i128 * Decimal::ONE, 1);
    match kind {
        Kind::EventCount => count(events.len()),
        Kind::ValueCount => count(values.iter().collect::<BTreeSet<_>>().len()),
        Kind::ValueSum => (values.iter().sum(), 1),
        Kind::ValueAvg => (values.iter().sum(), values.len() as i128),
        Kind::ValuePercentile => {
            let middle = values.len() / 2;
            if values.len().is_multiple_of(2) { (values[middle - 1] + values[middle], 2) } else { (values[middle], 1) }
        }
        Kind::Temporal => count(events.iter().flat_map(|event| &event.bases).collect::<BTreeSet<_>>().len()),
        Kind::TemporalOrdered => {
            let Some((last, earlier)) = events.split_last() else { return (0, 1) };
            let is_step = |event: &Event, step: usize| event.bases.contains(&(step as u8));
            let is_chain = is_step(last, RULES - 1)
                && (0..earlier.len()).any(|i| is_step(earlier[i], 0) && earlier[i + 1..].iter().any(|event| is_step(event, 1)));
            count(if is_chain { RULES } else { 0 })
        }
    }
}

fn oracle(program: &Program, events: &[Event]) -> BTreeSet<Match> {
    let mut found = BTreeSet::new();
    let is_metric = matches!(program.kind, Kind::ValueAvg | Kind::ValuePercentile);
    for key in 0..=u8::MAX {
        let mut group: Vec<&Event> = events.iter().filter(|event| event.key == key && !event.bases.is_empty()).collect();
        group.sort_by_key(|event| (event.time_ms, event.position));
        let holds = |window: &[&Event]| {
            let (measure, parts) = measure(program.kind, window);
            program.condition.holds(measure, parts)
        };
        if program.condition.is_lower_limit() && !is_metric {
            let mut quiet_until_ms = i64::MIN;
            for (index, event) in group.iter().enumerate() {
                let window: Vec<&Event> =
                    group[..=index].iter().copied().filter(|other| other.time_ms > event.time_ms - program.timespan_ms).collect();
                if event.time_ms >= quiet_until_ms && holds(&window) {
                    quiet_until_ms = event.time_ms + program.timespan_ms;
                    found.insert((vec![key], event.time_ms, event.position));
                }
            }
        } else {
            while let Some(first) = group.first() {
                let end_ms = first.time_ms + program.timespan_ms;
                let count = group.partition_point(|event| event.time_ms < end_ms);
                if holds(&group[..count]) {
                    found.insert((vec![key], end_ms - 1, group[count - 1].position));
                }
                group.drain(..count);
            }
        }
    }
    found
}

const LATENESS_MS: i64 = 30;

fn any_events() -> impl Strategy<Value = Vec<Event>> {
    let event = (0i64..300, 0u8..4, 0u8..1 << RULES, 0u8..5, 0..=LATENESS_MS, 0usize..4);
    proptest::collection::vec(event, 0..80).prop_map(|events| {
        let event = |(sequence, (time_ms, key, bases, value, delay_ms, reader))| Event {
            time_ms,
            position: Position { epoch: 1, sequence },
            key,
            bases: (0..RULES as u8).filter(|base| bases >> base & 1 == 1).collect(),
            value,
            delay_ms,
            reader,
        };
        (0..).zip(events).map(event).collect()
    })
}

fn any_program() -> impl Strategy<Value = Program> {
    use Operator::{Eq, Gt, Gte, Lt, Lte, Neq};
    let kinds = vec![Kind::EventCount, Kind::ValueCount, Kind::ValueSum, Kind::ValueAvg, Kind::ValuePercentile, Kind::Temporal];
    let counted = (proptest::sample::select(kinds), proptest::sample::select(vec![Gt, Gte, Lt, Lte, Eq, Neq]), 1u64..5, 1i64..80)
        .prop_map(|(kind, operator, limit, timespan_ms)| program(kind, timespan_ms, &[(operator, limit)]));
    let range = (1u64..3, 1i64..80).prop_map(|(low, timespan_ms)| program(Kind::EventCount, timespan_ms, &[(Gte, low), (Lt, low + 2)]));
    let ordered = (1i64..150).prop_map(|timespan_ms| program(Kind::TemporalOrdered, timespan_ms, &[(Gte, RULES as u64)]));
    prop_oneof![6 => counted, 1 => range, 2 => ordered]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_order_of_arrival_and_any_number_of_shards_give_what_the_sorted_events_give(program in any_program(), events in any_events()) {
        let expected = oracle(&program, &events);
        let mut in_order = events.clone();
        in_order.iter_mut().for_each(|event| event.delay_ms = 0);
        let alone = run(&program, &in_order, 1, LATENESS_MS);
        prop_assert_eq!(&matches(&alone), &expected);
        for shards in [1, 2, 4] {
            prop_assert_eq!(&run(&program, &events, shards, 2 * LATENESS_MS), &alone, "{} shards", shards);
        }
    }
}

fn event(time_ms: i64, bases: &[u8], value: u8) -> Event {
    let position = Position { epoch: 1, sequence: time_ms as u64 };
    Event { time_ms, position, key: 7, bases: bases.to_vec(), value, delay_ms: 0, reader: 0 }
}

#[test]
fn the_oracle_fires_at_all() {
    let events: Vec<Event> = (0..10).map(|time_ms| event(time_ms, &[0, 1, 2], time_ms as u8)).collect();
    for kind in [Kind::EventCount, Kind::ValueCount, Kind::ValueSum, Kind::ValueAvg, Kind::ValuePercentile, Kind::Temporal] {
        assert!(!oracle(&program(kind, 50, &[(Operator::Gte, 3)]), &events).is_empty(), "{kind:?}");
    }
    assert_eq!(oracle(&program(Kind::TemporalOrdered, 50, &[(Operator::Gte, 3)]), &events).len(), 1);
}

#[test]
fn a_match_names_the_event_that_completed_it_its_evidence_and_what_was_carried() {
    let events: Vec<Event> = (1..=5).map(|time_ms| event(time_ms, &[0], time_ms as u8)).collect();
    let fired = run(&program(Kind::EventCount, 10, &[(Operator::Gt, 2)]), &events, 1, 0);
    let position = |sequence| Position { epoch: 1, sequence };
    let expected = Fired {
        key: Arc::from([7].as_slice()),
        time_ms: 3,
        position: position(3),
        measure: Decimal::whole(3),
        sample: vec![position(1), position(2), position(3)],
        carry: [3].into(),
        suppressed: 0,
        is_known: false,
    };
    assert_eq!(fired, [expected], "once, and then quiet");
}

#[test]
fn what_an_earlier_run_has_found_is_not_told_again_and_the_pause_behind_it_stays() {
    let program = program(Kind::EventCount, 10, &[(Operator::Gte, 3)]);
    let run = |known: &[i64], done_ms: i64| {
        let mut correlator = Correlator::new(Program { budget_bytes: 1 << 20, ..program.clone() });
        let mut fired = Vec::new();
        let mut hit = |time_ms: i64, base: u8| {
            let position = Position { epoch: 1, sequence: time_ms.unsigned_abs() };
            correlator.accept(&Hit { position, time_ms, base, key: b"k", value: None, carry: &[] }, &mut fired);
        };
        (1..=20).for_each(|time_ms| hit(time_ms, 0));
        known.iter().for_each(|time_ms| hit(*time_ms, MATCHED));
        correlator.begin_behind(done_ms);
        assert_eq!(correlator.known.is_empty(), known.is_empty());
        correlator.advance(100, &mut fired);
        assert!(correlator.known.is_empty() && correlator.used_bytes() == 0);
        fired.iter().map(|fired| (fired.time_ms, fired.is_known)).collect::<Vec<_>>()
    };
    assert_eq!(run(&[], 0), [(3, false), (13, false)]);
    assert_eq!(run(&[3], 0), [(3, true), (13, false)]);
    assert_eq!(run(&[3, 13], 0), [(3, true), (13, true)]);
    // The first hits are gone: without what is known of the match at 3, the next would come at 8.
    assert_eq!(run(&[3], 5), [(13, false)]);
    assert_eq!(run(&[13], 5), [(13, true)], "and not before, since the pause behind that would have begun then");
    assert_eq!(run(&[], 5), [(8, false), (18, false)]);
}

#[test]
fn an_event_exactly_one_timespan_later_is_outside() {
    let both = program(Kind::EventCount, 10, &[(Operator::Gte, 2)]);
    assert_eq!(run(&both, &[event(0, &[0], 0), event(10, &[0], 0)], 1, 0).len(), 0);
    assert_eq!(run(&both, &[event(0, &[0], 0), event(9, &[0], 0)], 1, 0).len(), 1);
}

#[test]
fn one_event_counts_once_and_is_one_step_only() {
    let twice = [event(1, &[0, 1, 2], 1)];
    assert_eq!(run(&program(Kind::EventCount, 10, &[(Operator::Gte, 2)]), &twice, 1, 0).len(), 0);
    assert_eq!(run(&program(Kind::Temporal, 10, &[(Operator::Gte, 3)]), &twice, 1, 0).len(), 1);
    assert_eq!(run(&program(Kind::TemporalOrdered, 10, &[(Operator::Gte, 3)]), &twice, 1, 0).len(), 0);
}

#[test]
fn late_hits_and_hits_without_a_number_are_counted() {
    let mut correlator = Correlator::new(program(Kind::ValueSum, 10, &[(Operator::Gte, 1)]));
    let mut fired = Vec::new();
    correlator.advance(100, &mut fired);
    let hit = |time_ms, value| Hit { position: Position::default(), time_ms, base: 0, key: b"k", value, carry: b"" };
    correlator.accept(&hit(100, Some(b"5")), &mut fired);
    correlator.accept(&hit(101, None), &mut fired);
    correlator.accept(&hit(101, Some(b"many")), &mut fired);
    assert_eq!((correlator.used_bytes(), fired.len()), (0, 0));
    assert_eq!(correlator.counters(), Counters { late_events: 1, without_value: 2, ..Counters::default() });
    correlator.accept(&hit(101, Some(b"5")), &mut fired);
    correlator.accept(&hit(101, Some(b"5")), &mut fired);
    correlator.advance(101, &mut fired);
    assert_eq!(fired.len(), 1);
    assert_eq!(fired[0].measure, Decimal::whole(5), "the same hit twice is one");
}

#[test]
fn a_million_keys_stay_within_the_budget_and_the_oldest_go_first() {
    for kind in [Kind::EventCount, Kind::ValueCount] {
        let mut program = program(kind, 60_000, &[(Operator::Gte, 2)]);
        program.budget_bytes = 4 << 20;
        let mut correlator = Correlator::new(program);
        let mut fired = Vec::new();
        for number in 0..1_000_000u32 {
            let key = number.to_be_bytes();
            let position = Position { epoch: 1, sequence: u64::from(number) };
            let time_ms = i64::from(number / 1_000);
            correlator.accept(&Hit { position, time_ms, base: 0, key: &key, value: Some(&key), carry: b"" }, &mut fired);
            if number % 100_000 == 0 {
                correlator.advance(time_ms - 100, &mut fired);
            }
            assert!(correlator.used_bytes() <= 4 << 20);
        }
        correlator.advance(1_000, &mut fired);
        let counters = correlator.counters();
        let kept = correlator.keys_alive() as u64;
        assert!(kept > 1_000 && counters.forced_events > 0, "{kept} {counters:?}");
        assert_eq!(counters.evicted_keys + counters.late_events + kept, 1_000_000, "every key is accounted for");
        // The youngest group is still there: its second event completes it. The oldest is not.
        for (key, time_ms, expected) in [(999_999u32, 2_000, 1), (0, 2_001, 0)] {
            let position = Position { epoch: 2, sequence: u64::from(key) };
            let key = key.to_be_bytes();
            fired.clear();
            correlator.accept(&Hit { position, time_ms, base: 0, key: &key, value: Some(b"other"), carry: b"" }, &mut fired);
            correlator.advance(time_ms, &mut fired);
            assert_eq!(fired.len(), expected);
        }
    }
}

#[test]
fn a_group_that_alone_is_over_the_budget_is_forgotten() {
    let mut program = program(Kind::ValueCount, 60_000, &[(Operator::Lt, 2)]);
    program.budget_bytes = 64 << 10;
    let mut correlator = Correlator::new(program);
    let mut fired = Vec::new();
    for number in 0..10_000u32 {
        let position = Position { epoch: 1, sequence: u64::from(number) };
        let value = [b'v'; 1_000].map(|byte| byte ^ number as u8);
        let value = [&value[..], &number.to_be_bytes()].concat();
        let time_ms = i64::from(number);
        correlator.accept(&Hit { position, time_ms, base: 0, key: b"k", value: Some(&value), carry: b"" }, &mut fired);
        assert!(correlator.used_bytes() <= 64 << 10);
    }
    assert!(correlator.counters().evicted_keys > 0);
}

#[test]
fn the_watermark_is_that_of_the_slowest_shard_that_is_not_idle() {
    let mut watermark = Watermark::new(2, 10);
    watermark.observe(0, 100);
    assert_eq!(watermark.value(0, 0), i64::MIN, "the second may still have something older");
    watermark.idle(1);
    assert_eq!(watermark.value(0, 0), 89);
    watermark.observe(1, 50);
    assert_eq!(watermark.value(0, 0), 89, "it never goes back");
    watermark.observe(1, 120);
    watermark.observe(0, 110);
    assert_eq!(watermark.value(0, 0), 99);
    watermark.idle(0);
    watermark.idle(1);
    assert_eq!(watermark.value(1_000, 1_000), 989);
}

#[test]
fn a_shard_that_reads_an_archive_does_not_hold_up_what_is_about_now() {
    let now_ms = 10 * LAG_MAX_MS;
    let mut watermark = Watermark::new(2, 0);
    watermark.observe(0, 1_000);
    watermark.observe(1, 2_000);
    assert_eq!(watermark.value(now_ms, now_ms), 999, "all of it is an archive: event time counts");
    watermark.observe(1, now_ms);
    assert_eq!(watermark.value(now_ms, now_ms), now_ms - 1);
}
