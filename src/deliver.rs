//! The I/O of all sinks, once: `sealed batch -> stored, dead-lettered, or tried again`.
//!
//! One worker per shard and destination. It makes the batch's manifest durable, runs the sink's exchange,
//! and tries again with backoff and jitter until the batch is stored or refused for good. A refused batch is
//! split until the bad item is alone; that item goes to the dead letters with the reason, the rest is
//! delivered. What a person has to mend (401, 403, 404, a certificate) holds the destination with an alarm
//! and dead-letters nothing. Memory held by waiting batches is charged to the budget; when it is full,
//! sources wait or refuse.
//!
//! Never: knows a format, drops, or slows another destination.

pub mod dead_letter;
pub mod replay;
mod split;

use std::cell::{Cell as StdCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use tokio::sync::Notify;

use crate::batch::{Batching, Held, Sealed};
use crate::cursor::{Journal, Manifest};
use crate::deliver::dead_letter::{Letter, Letters, Reason};
use crate::error::Error;
use crate::ledger::DestinationCounts;
use crate::metrics::{self, Cell, Registry};
use crate::net::http_client::{Answer, HttpClient};
use crate::sink::{Client, Http, Step, Transport};

/// First wait after a failure; doubles up to [`BACKOFF_MAX`].
const BACKOFF_FIRST: Duration = Duration::from_millis(200);

/// Longest wait between attempts: a destination that is back gets its first batch within this time.
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Wait of a held destination: a person is slower than this.
const HOLD_INTERVAL: Duration = Duration::from_secs(5);

/// Longest `Retry-After` that is obeyed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Batches of one destination and shard that are under way at once, at most.
const CONCURRENCY_MAX: usize = 8;

/// What a worker needs to know of its destination.
pub struct Options {
    /// Name in the configuration.
    pub name: String,
    /// Its index in the plan, by which the journal knows it.
    pub index: usize,
    /// How its batches are built, to split one.
    pub batching: Batching,
    /// How they leave.
    pub transport: Transport,
    /// The journal of this shard.
    pub journal: Rc<dyn Journal>,
    /// Where refused items go.
    pub dead_letters: Rc<dyn Letters>,
    /// Where counts go.
    pub registry: Registry,
    /// The ledger's counts.
    pub counts: Rc<DestinationCounts>,
}

enum Way {
    Http(Rc<dyn Http>, Box<HttpClient>),
    Client(Rc<dyn Client>),
}

struct Counters {
    sent: Cell,
    sent_bytes: Cell,
    alerts: Cell,
    dead: Cell,
    retries: Cell,
    held: Cell,
}

struct Shared {
    name: String,
    index: usize,
    batching: Batching,
    way: Way,
    journal: Rc<dyn Journal>,
    dead_letters: Rc<dyn Letters>,
    counts: Rc<DestinationCounts>,
    counters: Counters,
    /// Batches, and items that are given up before they were sent.
    queue: RefCell<VecDeque<(Held, Option<Refusal>)>>,
    /// Memory that the queue holds.
    queued_bytes: StdCell<usize>,
    queued: Notify,
    finished: Notify,
    /// A batch arrived: those that wait for the destination to come back need not wait longer.
    recovered: Notify,
    under_way: StdCell<usize>,
    concurrency: StdCell<usize>,
    /// Batches that gave their place to others ([`Step::Later`]).
    aside: StdCell<usize>,
    /// Those need not stand aside any longer: no more will come.
    hurried: Notify,
}

/// Why a batch of one item is not sent again.
struct Refusal {
    reason: Reason,
    why: String,
    attempts: u32,
}

/// A batch or what it was split into; refused ones only wait for their dead letter.
struct Part {
    batch: Sealed,
    refusal: Option<Refusal>,
    /// Whether its items were sent before, in the batch that it is a part of.
    is_again: bool,
}

impl Part {
    /// A part of a batch that was sent.
    fn new(batch: Sealed) -> Self {
        Self { batch, refusal: None, is_again: true }
    }
}

/// A destination of one shard. Clones are the same.
#[derive(Clone)]
pub struct Destination(Rc<Shared>);

impl Destination {
    /// Starts the worker on the current thread's `LocalSet`.
    pub fn start(options: Options) -> Self {
        let labels: &[(&str, &str)] = &[("component_id", &options.name)];
        let cell = |family| options.registry.cell(family, labels);
        let counters = Counters {
            sent: cell(&metrics::EVENTS_SENT),
            sent_bytes: cell(&metrics::BYTES_SENT),
            alerts: cell(&metrics::ALERTS_SENT),
            dead: cell(&metrics::EVENTS_DEAD),
            retries: cell(&metrics::RETRIES),
            held: cell(&metrics::HELD),
        };
        let way = match options.transport {
            Transport::Http(http, client) => Way::Http(http, Box::new(HttpClient::new(client))),
            Transport::Client(client) => Way::Client(client),
        };
        let shared = Rc::new(Shared {
            name: options.name,
            index: options.index,
            batching: options.batching,
            way,
            journal: options.journal,
            dead_letters: options.dead_letters,
            counts: options.counts,
            counters,
            queue: RefCell::default(),
            queued_bytes: StdCell::new(0),
            queued: Notify::new(),
            finished: Notify::new(),
            recovered: Notify::new(),
            under_way: StdCell::new(0),
            concurrency: StdCell::new(1),
            aside: StdCell::new(0),
            hurried: Notify::new(),
        });
        tokio::task::spawn_local(run(shared.clone()));
        Self(shared)
    }

    /// Takes a batch over.
    pub fn send(&self, held: Held) {
        self.enqueue(held, None);
    }

    /// Takes over an item, alone in its batch, that is longer than the destination takes: it goes to the dead letters.
    pub fn give_up(&self, held: Held) {
        let why = "longer than the destination takes".to_owned();
        self.enqueue(held, Some(Refusal { reason: Reason::TooLong, why, attempts: 0 }));
    }

    fn enqueue(&self, held: Held, refusal: Option<Refusal>) {
        self.0.queued_bytes.set(self.0.queued_bytes.get() + held.reservation.bytes());
        self.0.queue.borrow_mut().push_back((held, refusal));
        self.0.queued.notify_one();
    }

    /// Memory of the batches that nobody has begun to deliver: those that are more than it keeps up with.
    pub fn queued_bytes(&self) -> usize {
        self.0.queued_bytes.get()
    }

    /// Batches that are not done with.
    pub fn pending(&self) -> usize {
        self.0.queue.borrow().len() + self.0.under_way.get() + self.0.aside.get()
    }

    /// Waits until every batch is done with; none stands aside meanwhile.
    pub async fn drained(&self) {
        if let Way::Http(http, _) = &self.0.way {
            http.hurry();
        }
        self.0.hurried.notify_waiters();
        while self.pending() > 0 {
            self.0.finished.notified().await;
        }
    }
}

async fn run(shared: Rc<Shared>) {
    loop {
        if shared.under_way.get() >= shared.concurrency.get() {
            shared.finished.notified().await;
            continue;
        }
        let Some((held, refusal)) = shared.queue.borrow_mut().pop_front() else {
            shared.queued.notified().await;
            continue;
        };
        shared.queued_bytes.set(shared.queued_bytes.get() - held.reservation.bytes());
        shared.under_way.set(shared.under_way.get() + 1);
        let shared = shared.clone();
        tokio::task::spawn_local(async move {
            deliver(&shared, held, refusal).await;
            give_back_place(&shared);
        });
    }
}

fn give_back_place(shared: &Shared) {
    shared.under_way.set(shared.under_way.get() - 1);
    // Who waits: the worker's loop, whoever drains, and batches that come back.
    shared.finished.notify_waiters();
    shared.finished.notify_one();
}

/// Lets others go first for a while. A batch that stands aside counts as queued: it holds memory, and nobody sends it.
async fn step_aside(shared: &Shared, batch: &Sealed, duration: Duration) {
    let bytes = batch.body.len();
    shared.aside.set(shared.aside.get() + 1);
    shared.queued_bytes.set(shared.queued_bytes.get() + bytes);
    give_back_place(shared);
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = shared.hurried.notified() => {}
    }
    while shared.under_way.get() >= shared.concurrency.get() {
        shared.finished.notified().await;
    }
    shared.under_way.set(shared.under_way.get() + 1);
    shared.queued_bytes.set(shared.queued_bytes.get() - bytes);
    shared.aside.set(shared.aside.get() - 1);
}

/// Delivers a batch and whatever it is split into.
async fn deliver(shared: &Shared, held: Held, refusal: Option<Refusal>) {
    let mut backoff = BACKOFF_FIRST;
    while refusal.is_none()
        && let Err(error) = seal(shared, &held.batch).await
    {
        tracing::error!(destination = shared.name, %error, "the manifest cannot be made durable; trying again");
        tokio::time::sleep(jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    let Held { batch, reservation } = held;
    let mut parts = vec![Part { batch, refusal, is_again: false }];
    while let Some(Part { batch, refusal, is_again }) = parts.pop() {
        match refusal {
            None => deliver_part(shared, batch, is_again, &mut parts).await,
            Some(refusal) => bury(shared, &batch, &refusal).await,
        }
    }
    drop(reservation);
}

async fn seal(shared: &Shared, batch: &Sealed) -> Result<(), Error> {
    let Sealed { manifest, plan, partition, oldest_ms, members, .. } = batch;
    let manifest = Manifest { batch: *manifest, plan: *plan, partition, oldest_ms: *oldest_ms, members };
    shared.journal.seal(shared.index, manifest).await
}

async fn deliver_part(shared: &Shared, batch: Sealed, is_again: bool, parts: &mut Vec<Part>) {
    let mut backoff = BACKOFF_FIRST;
    let mut attempts = 0;
    loop {
        attempts += 1;
        if is_again || attempts > 1 {
            shared.counts.resent.add(batch.items.len() as u64);
        }
        let (step, answer) = attempt(shared, &batch).await;
        let (why, wait) = match step {
            Step::Stored => {
                recovered(shared);
                return stored(shared, &batch);
            }
            Step::Rejected(why) if batch.items.len() <= 1 => {
                let reason = Reason::Refused(answer.map(|answer| answer.status.as_u16()));
                parts.push(Part { refusal: Some(Refusal { reason, why, attempts }), ..Part::new(batch) });
                return recovered(shared);
            }
            Step::Rejected(why) => match halve(shared, &batch, parts) {
                Ok(()) => return recovered(shared),
                Err(error) => (format!("{why}; {error}"), None),
            },
            Step::Partly { retry, rejected } => match partly(shared, &batch, &retry, rejected, attempts, parts) {
                Ok(()) => return,
                Err(error) => (error.to_string(), None),
            },
            Step::Hold(why) => {
                if shared.counters.held.value() == 0 {
                    tracing::error!(destination = shared.name, why, "held until somebody mends it; what comes for it waits meanwhile");
                }
                shared.counters.held.set(1);
                (why, Some(HOLD_INTERVAL))
            }
            Step::Retry(why, after) => (why, after.or_else(|| answer.as_ref().and_then(retry_after))),
            Step::Send(_) | Step::Wait(_) | Step::Later(_) => ("the exchange ended without an outcome".to_owned(), None),
        };
        shared.counters.retries.add(1);
        shared.concurrency.set((shared.concurrency.get() / 2).max(1));
        tracing::warn!(destination = shared.name, attempts, why, "delivery failed; trying again");
        tokio::select! {
            () = tokio::time::sleep(wait.unwrap_or_else(|| jittered(backoff))) => {}
            () = shared.recovered.notified(), if wait.is_none() => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

fn recovered(shared: &Shared) {
    shared.counters.held.set(0);
    shared.concurrency.set((shared.concurrency.get() + 1).min(CONCURRENCY_MAX));
    shared.recovered.notify_waiters();
}

async fn attempt(shared: &Shared, batch: &Sealed) -> (Step, Option<Answer>) {
    let (http, client) = match &shared.way {
        Way::Client(client) => return (client.write(batch).await, None),
        Way::Http(http, client) => (http, client),
    };
    let mut exchange = http.begin(batch);
    let mut answer: Option<Answer> = None;
    loop {
        match exchange.next(answer.as_ref()) {
            Step::Send(request) => match client.send(request.map(Full::new)).await {
                Ok(got) => answer = Some(got),
                Err(error) if error.retryable => return (Step::Retry(error.to_string(), None), None),
                Err(error) => return (Step::Hold(error.to_string()), None),
            },
            Step::Wait(duration) => {
                tokio::time::sleep(duration).await;
                answer = None;
            }
            Step::Later(duration) => {
                step_aside(shared, batch, duration).await;
                answer = None;
            }
            step => return (step, answer),
        }
    }
}

fn stored(shared: &Shared, batch: &Sealed) {
    let alerts = batch.items.iter().filter(|item| item.is_alert).count() as u64;
    shared.counters.sent.add(batch.items.len() as u64 - alerts);
    shared.counters.alerts.add(alerts);
    shared.counts.events.delivered.add(batch.items.len() as u64 - alerts);
    shared.counts.alerts.delivered.add(alerts);
    shared.counters.sent_bytes.add(batch.body.len() as u64);
    settle(shared, batch);
}

fn settle(shared: &Shared, batch: &Sealed) {
    shared.journal.settle(shared.index, batch.manifest, &batch.members);
}

/// A batch that is refused: two halves, tried one after the other.
fn halve(shared: &Shared, batch: &Sealed, parts: &mut Vec<Part>) -> Result<(), Error> {
    let count = batch.items.len() as u32;
    let (low, high): (Vec<u32>, Vec<u32>) = (0..count).partition(|index| *index < count / 2);
    let (low, high) = (split::subset(batch, &low, &shared.batching)?, split::subset(batch, &high, &shared.batching)?);
    parts.extend([high, low].map(Part::new));
    Ok(())
}

fn partly(
    shared: &Shared,
    batch: &Sealed,
    retry: &[u32],
    rejected: Vec<(u32, String)>,
    attempts: u32,
    parts: &mut Vec<Part>,
) -> Result<(), Error> {
    let mut left: Vec<u32> = retry.to_vec();
    let mut refused = Vec::with_capacity(rejected.len());
    for (index, why) in rejected {
        let alone = split::subset(batch, &[index], &shared.batching)?;
        let refusal = Some(Refusal { reason: Reason::Refused(None), why, attempts });
        refused.push(Part { refusal, ..Part::new(alone) });
        left.push(index);
    }
    left.sort_unstable();
    let arrived: Vec<u32> = (0..batch.items.len() as u32).filter(|index| left.binary_search(index).is_err()).collect();
    let arrived = split::subset(batch, &arrived, &shared.batching)?;
    if !retry.is_empty() {
        parts.push(Part::new(split::subset(batch, retry, &shared.batching)?));
    }
    parts.append(&mut refused);
    stored(shared, &arrived);
    Ok(())
}

/// Writes the dead letter of a batch of one item; holds it until that is done.
async fn bury(shared: &Shared, batch: &Sealed, refusal: &Refusal) {
    let mut backoff = BACKOFF_FIRST;
    let mut is_held = false;
    while let Err(error) = keep(shared, batch, refusal).await {
        is_held = true;
        shared.counters.held.set(1);
        tracing::error!(destination = shared.name, %error, "an event is given up, and its dead letter cannot be written; it is held");
        tokio::time::sleep(jittered(backoff)).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    tracing::error!(destination = shared.name, why = refusal.why, "an event was refused and is in the dead letters");
    if is_held {
        shared.counters.held.set(0);
    }
    let is_alert = batch.items.first().is_some_and(|item| item.is_alert);
    shared.counters.dead.add(u64::from(!is_alert));
    let flow = if is_alert { &shared.counts.alerts } else { &shared.counts.events };
    flow.dead.add(1);
    settle(shared, batch);
}

async fn keep(shared: &Shared, batch: &Sealed, refusal: &Refusal) -> Result<(), Error> {
    let plain = split::plain(batch)?;
    let Some(item) = batch.items.first() else { return Ok(()) };
    let arrival = batch.arrivals.get(item.member as usize);
    let chunk = batch.members.get(item.member as usize).map(|members| members.chunk).unwrap_or_default();
    let letter = Letter {
        position: chunk.plus(item.frame as usize),
        arrival_ms: arrival.map_or(batch.oldest_ms, |arrival| arrival.received_ms),
        source: arrival.map_or_else(|| "".into(), |arrival| arrival.sender.source.clone()),
        peer: arrival.and_then(|arrival| arrival.peer(item.frame)),
        plan: batch.plan,
        partition: batch.partition.clone(),
        raw: split::item(batch, 0, &plain, &shared.batching).to_vec(),
        is_alert: item.is_alert,
        reason: refusal.reason,
        why: refusal.why.clone(),
        attempts: refusal.attempts,
    };
    shared.dead_letters.keep(letter).await
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3); the date form is not used by destinations we know.
fn retry_after(answer: &Answer) -> Option<Duration> {
    let seconds = answer.headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// The duration, up to a quarter less, so that shards do not come back all at once.
fn jittered(duration: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let part = (RandomState::new().hash_one(0) % 256) as u32;
    duration - duration / 4 * part / 256
}
