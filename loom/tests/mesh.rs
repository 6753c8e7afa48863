//! The hand-over between shards in every interleaving that loom finds: every chunk is worked on exactly once, and
//! a shard that sleeps while a chunk waits for it would be a deadlock, which loom reports.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use hydrant_loom::budget::Reservation;
use hydrant_loom::event::Chunk;
use hydrant_loom::mesh::{Handed, Port, mesh};
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use tokio::sync::Notify;

/// Places in one ring, as in the source.
const RING_CHUNKS: usize = 4;

/// Thread switches that are not forced, in one run: bugs of this kind need two, and a fourth takes minutes.
const PREEMPTIONS: usize = 3;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// How often each chunk was worked on.
#[derive(Clone)]
struct Work(Arc<Vec<AtomicUsize>>);

impl Work {
    fn new(chunks: usize) -> Self {
        Self(Arc::new((0..chunks).map(|_| AtomicUsize::new(0)).collect()))
    }

    fn on(&self, handed: &Handed) {
        self.0[handed.chunk.0].fetch_add(1, Ordering::Relaxed);
    }

    /// Offers chunks as a shard does: what comes back is its own work.
    fn offer(&self, port: &mut Port, chunks: std::ops::Range<usize>) {
        for number in chunks {
            if let Err(back) = port.offer(handed(number), |_| {}) {
                self.on(&back);
            }
        }
    }

    /// Works on all that waits.
    fn drain(&self, port: &mut Port) -> usize {
        std::iter::from_fn(|| port.take()).inspect(|handed| self.on(handed)).count()
    }

    fn counts(&self) -> Vec<usize> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

fn handed(number: usize) -> Handed {
    Handed { chunk: Chunk(number), reservation: Reservation }
}

fn two() -> (Port, Port) {
    let mut ports = mesh(2).into_iter();
    (ports.next().unwrap(), ports.next().unwrap())
}

#[test]
fn no_wake_up_is_lost() {
    explore(|| {
        let (mut producer, mut consumer) = two();
        let work = Work::new(2);
        let offering = work.clone();
        let thread = thread::spawn(move || offering.offer(&mut producer, 0..2));
        let mut count = 0;
        while count < 2 {
            block_on(consumer.woken());
            count += work.drain(&mut consumer);
        }
        thread.join().unwrap();
        assert_eq!(work.counts(), [1, 1]);
    });
}

#[test]
fn two_shards_wake_a_third() {
    explore(|| {
        let mut ports = mesh(3).into_iter();
        let (mut first, mut second, mut third) = (ports.next().unwrap(), ports.next().unwrap(), ports.next().unwrap());
        let work = Work::new(RING_CHUNKS + 2);
        // The ring from the first to the second is full, so that both give to the third.
        work.offer(&mut first, 0..RING_CHUNKS);
        let offering = work.clone();
        let one = thread::spawn(move || offering.offer(&mut first, RING_CHUNKS..RING_CHUNKS + 1));
        let offering = work.clone();
        let other = thread::spawn(move || {
            offering.offer(&mut second, RING_CHUNKS + 1..RING_CHUNKS + 2);
            second
        });
        let mut count = 0;
        while count < 2 {
            block_on(third.woken());
            count += work.drain(&mut third);
        }
        one.join().unwrap();
        assert_eq!(work.drain(&mut other.join().unwrap()), RING_CHUNKS);
        assert_eq!(work.counts(), [1; RING_CHUNKS + 2]);
    });
}

#[test]
fn what_a_full_ring_refuses_is_worked_on_by_its_owner() {
    explore(|| {
        let (mut producer, mut consumer) = two();
        let work = Work::new(RING_CHUNKS + 2);
        work.offer(&mut producer, 0..RING_CHUNKS - 1);
        let offering = work.clone();
        let thread = thread::spawn(move || offering.offer(&mut producer, RING_CHUNKS - 1..RING_CHUNKS + 2));
        block_on(consumer.woken());
        work.drain(&mut consumer);
        thread.join().unwrap();
        work.drain(&mut consumer);
        assert_eq!(work.counts(), [1; RING_CHUNKS + 2]);
    });
}

/// The stop of `pipeline/run.rs`: a shard serves the mesh until no shard hands over any more, then takes the rest.
#[test]
fn a_stop_leaves_no_chunk_behind() {
    explore(|| {
        let (mut producer, mut consumer) = two();
        let (work, all_quiet) = (Work::new(2), Arc::new(Notify::default()));
        let (offering, quiet) = (work.clone(), all_quiet.clone());
        let thread = thread::spawn(move || {
            offering.offer(&mut producer, 0..2);
            quiet.notify_one();
        });
        while block_on(woken_before(&consumer, &all_quiet)) {
            work.drain(&mut consumer);
        }
        work.drain(&mut consumer);
        thread.join().unwrap();
        assert_eq!(work.counts(), [1, 1]);
    });
}

/// Whether a chunk came first, and not the end.
async fn woken_before(port: &Port, end: &Notify) -> bool {
    let (mut woken, mut end) = (pin!(port.woken()), pin!(end.notified()));
    poll_fn(|context| match woken.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => end.as_mut().poll(context).map(|()| false),
    })
    .await
}

/// A shard that fails drops its port: chunks that were on their way are worked on by nobody, and none by two.
#[test]
fn a_shard_that_is_gone_gets_nothing_more() {
    explore(|| {
        let (mut producer, mut consumer) = two();
        let work = Work::new(3);
        work.offer(&mut producer, 0..1);
        let serving = work.clone();
        let thread = thread::spawn(move || {
            serving.drain(&mut consumer);
        });
        work.offer(&mut producer, 1..2);
        thread.join().unwrap();
        work.offer(&mut producer, 2..3);
        let counts = work.counts();
        assert!(counts[0] == 1 && counts[1] <= 1 && counts[2] == 1, "{counts:?}");
    });
}
