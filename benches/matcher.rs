//! Cost of matching one event, by number of rules. Throughput is events, so criterion's time per element is
//! what one event costs. Events and rules come from a fixed generator: firewall-like, about 1 event in 100
//! matches a rule.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hydrant::event::{Chunk, Events, Fields, Sender, SlotId, Span};
use hydrant::matcher::{Builder, Expr, Matcher, Predicate, TextOp};

const EVENTS: usize = 4096;
const ACTIONS: [&str; 3] = ["allow", "deny", "drop"];
const WORDS: [&str; 16] = [
    "index", "login", "static", "api", "v1", "images", "search", "admin", "cart", "assets", "user", "profile", "report", "download",
    "feed", "health",
];

/// A small generator (xorshift), the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

struct Slots {
    action: SlotId,
    country: SlotId,
    uri: SlotId,
    address: SlotId,
}

impl Slots {
    fn new() -> Self {
        let mut fields = Fields::default();
        let [action, country, uri, address] =
            ["event.action", "source.geo.country_iso_code", "url.original", "source.ip"].map(|name| fields.slot(name));
        Self { action, country, uri, address }
    }
}

fn country(index: usize) -> String {
    String::from_utf8_lossy(&[b'A' + (index % 8) as u8, b'A' + (index / 8 % 26) as u8]).into_owned()
}

/// What an attacker's request holds, distinct for each rule.
fn attack(rule: usize) -> String {
    format!("/{}{:x}.php?cmd=", WORDS[rule % WORDS.len()], rule.wrapping_mul(0x9e37_79b1) & 0xffff_ffff)
}

fn events(slots: &Slots, rules: usize) -> (Chunk, Events) {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut bytes, mut frames, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..EVENTS {
        let mut uri = String::new();
        for _ in 0..2 + random.below(5) {
            uri.push('/');
            uri.push_str(WORDS[random.below(WORDS.len())]);
        }
        if random.below(50) == 0 {
            uri.push_str(&attack(random.below(rules)));
        }
        uri.push_str(&format!("?id={}&session={:016x}", random.below(100_000), random.0));
        let address = format!("{}.{}.{}.{}", 1 + random.below(223), random.below(256), random.below(256), random.below(256));
        let values = [ACTIONS[random.below(8).min(2)].to_owned(), country(random.below(100)), uri, address];
        let start = bytes.len();
        rows.push(values.map(|value| {
            let from = bytes.len();
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(b' ');
            Span::new(from, from + value.len())
        }));
        frames.push(Span::new(start, bytes.len()));
    }
    let sender = Arc::new(Sender { source: "bench".into(), source_index: 0 });
    let chunk = Chunk::new(bytes, frames, sender, 0);
    let mut events = Events::default();
    events.reset(&chunk, 4);
    for (index, spans) in rows.iter().enumerate() {
        let mut row = events.row_mut(&chunk, index);
        for (slot, span) in [slots.action, slots.country, slots.uri, slots.address].into_iter().zip(spans) {
            row.set_text(slot, *span);
        }
    }
    (chunk, events)
}

fn text(slot: SlotId, op: TextOp, text: String) -> Expr<SlotId> {
    Expr::Field(slot, Predicate::Text { op, text, cased: false })
}

/// `action == X && country == Y && contains(uri, Z)`, as a customer writes 200 of them.
fn three_terms(slots: &Slots, rules: usize) -> Matcher {
    let mut builder = Builder::new();
    for rule in 0..rules {
        builder.add(Expr::All(vec![
            text(slots.action, TextOp::Equals, ACTIONS[rule % 3].to_owned()),
            text(slots.country, TextOp::Equals, country(rule)),
            text(slots.uri, TextOp::Contains, attack(rule)),
        ]));
    }
    builder.build()
}

fn one_contains(slots: &Slots, rules: usize) -> Matcher {
    let mut builder = Builder::new();
    for rule in 0..rules {
        builder.add(text(slots.uri, TextOp::Contains, attack(rule)));
    }
    builder.build()
}

/// One rule that holds for any of 100,000 addresses.
fn long_list(slots: &Slots, values: usize) -> Matcher {
    let mut random = Random(7);
    let address = |_| format!("{}.{}.{}.{}", 1 + random.below(223), random.below(256), random.below(256), random.below(256));
    let list = (0..values).map(address).map(|address| text(slots.address, TextOp::Equals, address)).collect();
    let mut builder = Builder::new();
    builder.add(Expr::Any(list));
    builder.build()
}

type Rules = fn(&Slots, usize) -> Matcher;

fn evaluate(criterion: &mut Criterion) {
    let slots = Slots::new();
    let mut group = criterion.benchmark_group("matcher");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let cases: [(&str, Rules, usize); 8] = [
        ("three_terms", three_terms, 20),
        ("three_terms", three_terms, 200),
        ("three_terms", three_terms, 2_000),
        ("contains", one_contains, 2),
        ("contains", one_contains, 20),
        ("contains", one_contains, 200),
        ("contains", one_contains, 2_000),
        ("list", long_list, 100_000),
    ];
    for (name, rules, count) in cases {
        let matcher = rules(&slots, count);
        let (chunk, events) = events(&slots, count);
        let (mut scratch, mut hits) = (matcher.scratch(), Vec::new());
        group.bench_function(BenchmarkId::new(name, count), |bencher| {
            bencher.iter(|| {
                for index in 0..EVENTS {
                    matcher.evaluate(events.event(&chunk, index), &mut scratch, &mut hits);
                    black_box(&hits);
                }
            });
        });
    }
    group.finish();
}

fn full_scan(criterion: &mut Criterion) {
    let slots = Slots::new();
    let matcher = three_terms(&slots, 200);
    let (chunk, events) = events(&slots, 200);
    let mut hits = Vec::new();
    let mut group = criterion.benchmark_group("matcher_oracle");
    group.throughput(Throughput::Elements(64)).sample_size(10);
    group.bench_function(BenchmarkId::new("three_terms", 200), |bencher| {
        bencher.iter(|| {
            for index in 0..64 {
                matcher.full_scan(events.event(&chunk, index), &mut hits);
                black_box(&hits);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, evaluate, full_scan);
criterion_main!(benches);
