//! What a hit costs at the shard that owns its group: taken from a parcel, kept until the watermark passes it, counted.
//!
//! One hit of each group in turn, a thousand hits for each millisecond of event time; windows of a second whose limit is
//! never reached, so that nothing fires. With 50,000 groups a window has 20 hits, with 5,000 it has 200. `value_count`
//! has 4 values for each group (`few`) or another one for each hit (`many`). The watermark stays 100 ms behind.
//! Criterion's time per element is that of one hit.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot go on says so")]

use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hydrant::detect::correlate::{Correlations, Hit, Hits, Set, push_part};
use hydrant::detect::sigma::correlation::link;
use hydrant::detect::sigma::{self, Placeholders};
use hydrant::event::Position;

/// Hits of one parcel.
const PARCEL: u64 = 500;

const HITS_PER_MS: u64 = 1_000;

/// How far the watermark is behind.
const LATENESS_MS: i64 = 100;

fn set(correlation: &str) -> Set {
    let text = format!(
        "title: r\nname: r\nlogsource: {{ category: firewall }}\ndetection:\n  s: {{ a: 1 }}\n  condition: s\n---\n\
         title: c\ncorrelation:\n  rules: [r]\n  group-by: [source.ip]\n  timespan: 1s\n  {correlation}\n"
    );
    let loaded = sigma::load(Path::new("bench.yml"), &text, &Placeholders::new());
    assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics);
    let (linked, _, diagnostics) = link(&loaded.rules, loaded.correlations);
    assert!(!diagnostics.has_errors(), "{diagnostics}");
    let (correlations, _) = Correlations::new(&linked, &loaded.rules);
    Set::new(Arc::new(correlations), 1 << 30)
}

/// Gives one parcel after the other, for ever.
struct Stream {
    set: Set,
    keys: Vec<Vec<u8>>,
    values: u64,
    next: u64,
    hits: Hits,
}

impl Stream {
    /// All groups are there already.
    fn new(correlation: &str, keys: u64, values: u64) -> Self {
        let key = |number| {
            let mut key = Vec::new();
            push_part(&mut key, format!("10.0.{}.{}", number / 256, number % 256).as_bytes());
            key
        };
        let mut stream = Self { set: set(correlation), keys: (0..keys).map(key).collect(), values, next: 0, hits: Hits::default() };
        while stream.next < 1_500 * HITS_PER_MS {
            stream.parcel();
        }
        stream
    }

    fn parcel(&mut self) {
        self.hits.clear();
        let keys = self.keys.len() as u64;
        let mut time_ms = 0;
        for number in self.next..self.next + PARCEL {
            time_ms = (number / HITS_PER_MS) as i64;
            let key = &self.keys[(number % keys) as usize];
            let value = (number / keys % self.values).to_be_bytes();
            let position = Position { epoch: 1, sequence: number };
            self.hits.push(0, &Hit { position, time_ms, base: 0, key, value: Some(&value), carry: b"" });
        }
        self.next += PARCEL;
        let mut fired = Vec::new();
        for (correlation, hit) in self.hits.iter() {
            self.set.accept(correlation, &hit, &mut fired);
        }
        self.set.advance(0, time_ms - LATENESS_MS, &mut fired);
        assert!(fired.is_empty(), "the windows never fill");
    }
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("correlate");
    group.throughput(Throughput::Elements(PARCEL));
    let (events, users) =
        ("type: event_count\n  condition: { gte: 1000 }", "type: value_count\n  condition: { gte: 1000, field: user.name }");
    for (name, correlation, keys, values) in [
        ("event_count/50000_groups", events, 50_000, 1),
        ("event_count/5000_groups", events, 5_000, 1),
        ("value_count/50000_groups/few", users, 50_000, 4),
        ("value_count/50000_groups/many", users, 50_000, u64::MAX),
        ("value_count/5000_groups/many", users, 5_000, u64::MAX),
    ] {
        let mut stream = Stream::new(correlation, keys, values);
        group.bench_with_input(BenchmarkId::from_parameter(name), &(), |bencher, ()| bencher.iter(|| stream.parcel()));
        let groups: usize = stream.set.holdings().map(|holding| holding.groups).sum();
        assert_eq!(groups as u64, keys, "all groups are alive");
    }
    group.finish();
}

criterion_group!(correlate, benches);
criterion_main!(correlate);
