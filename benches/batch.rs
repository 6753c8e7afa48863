//! Batching: encoded items of one chunk to open batches, with and without partitions.
//!
//! The figure is the time for a chunk of 600 items of 420 bytes; divide by 600 for one event. Without
//! compression, so that what batching itself costs is not hidden behind it.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use hydrant::batch::{Batcher, Batching, Items};
use hydrant::budget::Budget;
use hydrant::encode::compress::Codec;
use hydrant::event::{Chunk, Events, Sender, Span};

const EVENTS: usize = 600;
const EVENT_BYTES: usize = 420;

fn chunk() -> (Chunk, Events, Vec<u32>) {
    let spans = (0..EVENTS).map(|index| Span::new(index * EVENT_BYTES, (index + 1) * EVENT_BYTES)).collect();
    let sender = Arc::new(Sender { source: "bench".into(), source_index: 0 });
    let chunk = Chunk::new(vec![b'x'; EVENTS * EVENT_BYTES], spans, sender, 0);
    let mut events = Events::default();
    events.reset(&chunk, 1);
    (chunk, events, (0..EVENTS as u32).collect())
}

fn batching(criterion: &mut Criterion) {
    let (mut chunk, events, rows) = chunk();
    let batching = Batching {
        bytes_max: 5 << 20,
        items_max: 1_000_000,
        item_bytes_max: 1 << 20,
        interval: Duration::from_secs(60),
        codec: Codec::None,
        head: b"",
        separator: b"\n",
        tail: b"\n",
    };
    let mut group = criterion.benchmark_group("batch");
    for partitions in [0, 1, 10, 100, 500] {
        let names: Vec<String> = (0..partitions).map(|index| format!("10.0.{index}.1/")).collect();
        let mut batcher = Batcher::new(batching, Budget::new(1 << 30), 0).expect("no compression has no level");
        let mut items = Items::default();
        group.bench_function(format!("{partitions} partitions"), |bencher| {
            bencher.iter(|| {
                items.clear(b"\n");
                for row in &rows {
                    let raw = chunk.frame(*row as usize);
                    match names.get(*row as usize * 7 % names.len().max(1)) {
                        Some(name) => items.push_in(name, |out| out.extend_from_slice(raw)),
                        None => items.push(|out| out.extend_from_slice(raw)),
                    }
                }
                chunk.position.sequence += EVENTS as u64;
                black_box(batcher.add(&chunk, &events, &rows, &items)).expect("nothing is compressed");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, batching);
criterion_main!(benches);
