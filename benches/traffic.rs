//! How fast the generator makes lines: it must not be the bottleneck of a benchmark that it feeds.
//!
//! Criterion's `elem/s` is lines per second on one core.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hydrant::traffic::{Corpus, Kind, Traffic};

/// Lines of one measured round.
const LINES: u64 = 10_000;

fn generate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("traffic");
    group.throughput(Throughput::Elements(LINES));
    for kind in Kind::ALL {
        let mut traffic = Traffic::new(kind, 1);
        let mut out = Vec::new();
        let mut now_ms = 1_795_248_000_000;
        group.bench_function(kind.name(), |bencher| {
            bencher.iter(|| {
                for _ in 0..LINES {
                    out.clear();
                    now_ms += 1;
                    traffic.next(now_ms, &mut out);
                    black_box(&out);
                }
            });
        });
    }
    group.finish();
}

fn replay(criterion: &mut Criterion) {
    let mut corpus = Corpus::generate(Kind::PaloAlto, 50_000, 1);
    let mut group = criterion.benchmark_group("corpus");
    group.throughput(Throughput::Elements(LINES));
    group.bench_function("next_line", |bencher| {
        bencher.iter(|| {
            for _ in 0..LINES {
                black_box(corpus.next_line());
            }
        });
    });
    group.finish();
}

criterion_group!(benches, generate, replay);
criterion_main!(benches);
