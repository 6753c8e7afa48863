//! Group commit: `entries of many callers -> one thread -> made durable together -> each caller is told`.
//!
//! A commit begins an interval behind the last one, or sooner if there are enough bytes: under load an entry shares its
//! commit with all that came meanwhile, and one that comes alone does not wait. What a caller is told came behind the
//! commit; what came too late, behind the end, is told to nobody. Checked in every interleaving by `loom/`.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::budget::Reservation;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::mpsc;

/// What the thread writes to.
pub(super) trait Store {
    /// What is made durable.
    type Entry;
    /// What is asked of the thread between entries.
    type Question;

    /// Size of an entry.
    fn bytes(entry: &Self::Entry) -> usize;

    /// Answers a question; entries that come of it are made durable with the others.
    fn answer(&mut self, question: Self::Question, entries: &mut Vec<Self::Entry>);

    /// Makes entries durable and empties the list; false if that is given up for good.
    fn make_durable(&mut self, entries: &mut Vec<Self::Entry>, bytes: usize) -> bool;

    /// Who waited for the last commit has been told.
    fn told(&mut self);
}

/// How far apart commits are, and the bytes at which one does not wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// From the beginning of one to the beginning of the next.
    pub(super) interval: Duration,
    /// Of all entries.
    pub(super) bytes: usize,
}

enum Message<E, Q> {
    Entry { entry: E, committed: oneshot::Sender<()>, reservation: Option<Reservation> },
    Question(Q),
}

/// The callers' end.
pub(super) struct Queue<E, Q>(mpsc::Sender<Message<E, Q>>);

/// The thread's end.
pub(super) struct Collector<E, Q>(mpsc::Receiver<Message<E, Q>>);

/// Both ends.
pub(super) fn channel<E, Q>() -> (Queue<E, Q>, Collector<E, Q>) {
    let (sender, receiver) = mpsc::channel();
    (Queue(sender), Collector(receiver))
}

impl<E, Q> Queue<E, Q> {
    /// Queues an entry. Resolves when it is durable; to an error if it never will be. The reservation is given back by then.
    pub(super) fn push(&self, entry: E, reservation: Option<Reservation>) -> oneshot::Receiver<()> {
        let (committed, receiver) = oneshot::channel();
        // A thread that has ended drops the message, which the receiver sees.
        let _ = self.0.send(Message::Entry { entry, committed, reservation });
        receiver
    }

    /// Queues a question.
    pub(super) fn ask(&self, question: Q) {
        // As above: who asked sees that the other half of the answer is gone.
        let _ = self.0.send(Message::Question(question));
    }
}

impl<E, Q> Collector<E, Q> {
    /// Runs until `closing` is seen behind an entry; false if the store gave up. Entries that were queued before `closing` was
    /// set are durable then.
    pub(super) fn run<S: Store<Entry = E, Question = Q>>(self, mut store: S, group: Group, closing: &AtomicBool) -> bool {
        let mut entries = Vec::new();
        let mut waiting = Vec::new();
        let mut next_commit = Instant::now();
        while !closing.load(Ordering::Acquire) {
            let Ok(first) = self.0.recv() else { break };
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Entry { entry, committed, reservation } => {
                        bytes += S::bytes(&entry);
                        entries.push(entry);
                        waiting.push((committed, reservation));
                    }
                    Message::Question(question) => store.answer(question, &mut entries),
                }
                if bytes < group.bytes {
                    let left = next_commit.saturating_duration_since(Instant::now());
                    next = self.0.recv_timeout(left).ok();
                }
            }
            if !entries.is_empty() {
                next_commit = Instant::now() + group.interval;
                if !store.make_durable(&mut entries, bytes) {
                    return false;
                }
            }
            for (committed, reservation) in waiting.drain(..) {
                drop(reservation);
                // Most do not wait for it.
                let _ = committed.send(());
            }
            store.told();
        }
        // What came between the last commit and the end; and the mark that says that the rest is durable.
        for message in self.0.try_iter() {
            if let Message::Entry { entry, .. } = message {
                entries.push(entry);
            }
        }
        store.make_durable(&mut entries, 0) && store.make_durable(&mut entries, 0)
    }
}
