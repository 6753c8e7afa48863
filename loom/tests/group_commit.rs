//! Group commit in every interleaving that loom finds: who is told that an entry is durable finds it durable, who is not
//! told learns that as well, and what was queued before a stop is durable behind it.

use std::time::Duration;

use group_commit::{Group, Queue, Store, channel};
use loom::future::block_on;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

#[path = "../../src/journal/group_commit.rs"]
mod group_commit;

/// Stands in for `crate::budget`, which is only carried.
mod budget {
    #[derive(Debug)]
    pub struct Reservation;
}

/// Stands in for `crate::sync`.
mod sync {
    pub use loom::sync::atomic;

    /// `std::sync::mpsc` as far as it is used. Of a wait with a time limit it is as if the limit had passed: what comes within
    /// it is another interleaving.
    pub mod mpsc {
        use std::collections::VecDeque;
        use std::time::Duration;

        use loom::sync::{Arc, Condvar, Mutex};

        struct Shared<T> {
            /// `None` when the receiver is gone.
            messages: Mutex<Option<VecDeque<T>>>,
            come: Condvar,
        }

        pub struct Sender<T>(Arc<Shared<T>>);

        pub struct Receiver<T>(Arc<Shared<T>>);

        pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
            let shared = Arc::new(Shared { messages: Mutex::new(Some(VecDeque::new())), come: Condvar::new() });
            (Sender(shared.clone()), Receiver(shared))
        }

        impl<T> Sender<T> {
            pub fn send(&self, message: T) -> Result<(), T> {
                let mut messages = self.0.messages.lock().unwrap();
                let Some(open) = &mut *messages else { return Err(message) };
                open.push_back(message);
                self.0.come.notify_one();
                Ok(())
            }
        }

        impl<T> Receiver<T> {
            /// The sender outlives the receiver in these models.
            pub fn recv(&self) -> Result<T, ()> {
                let mut messages = self.0.messages.lock().unwrap();
                loop {
                    if let Some(message) = messages.as_mut().unwrap().pop_front() {
                        return Ok(message);
                    }
                    messages = self.0.come.wait(messages).unwrap();
                }
            }

            pub fn recv_timeout(&self, _: Duration) -> Result<T, ()> {
                self.0.messages.lock().unwrap().as_mut().unwrap().pop_front().ok_or(())
            }

            pub fn try_iter(&self) -> impl Iterator<Item = T> + '_ {
                std::iter::from_fn(|| self.recv_timeout(Duration::ZERO).ok())
            }
        }

        impl<T> Drop for Receiver<T> {
            fn drop(&mut self) {
                let left = self.0.messages.lock().unwrap().take();
                // What nobody takes any more: who waits for it sees that.
                drop(left);
            }
        }
    }
}

/// Thread switches that are not forced, in one run: with a third it takes minutes.
const PREEMPTIONS: usize = 2;

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// What is durable.
#[derive(Clone)]
struct Disk(Arc<Mutex<Vec<u8>>>);

/// A store on it that may give up at its first commit.
struct Log {
    disk: Disk,
    gives_up: bool,
}

impl Store for Log {
    type Entry = u8;
    type Question = ();

    fn bytes(_: &u8) -> usize {
        1
    }

    fn answer(&mut self, (): (), entries: &mut Vec<u8>) {
        entries.push(u8::MAX);
    }

    fn make_durable(&mut self, entries: &mut Vec<u8>, _: usize) -> bool {
        self.disk.0.lock().unwrap().extend(if self.gives_up { Vec::new() } else { std::mem::take(entries) });
        !self.gives_up
    }

    fn told(&mut self) {}
}

impl Disk {
    fn has(&self, entry: u8) -> bool {
        self.0.lock().unwrap().contains(&entry)
    }
}

struct Running {
    disk: Disk,
    queue: Arc<Queue<u8, ()>>,
    closing: Arc<AtomicBool>,
    thread: thread::JoinHandle<bool>,
}

fn start(gives_up: bool) -> Running {
    let (queue, collector) = channel();
    let (disk, closing) = (Disk(Arc::new(Mutex::new(Vec::new()))), Arc::new(AtomicBool::new(false)));
    let (log, flag) = (Log { disk: disk.clone(), gives_up }, closing.clone());
    let group = Group { interval: Duration::ZERO, bytes: 2 };
    let thread = thread::spawn(move || collector.run(log, group, &flag));
    Running { disk, queue: Arc::new(queue), closing, thread }
}

impl Running {
    /// A caller on a thread of its own; whether it was told that its entry is durable.
    fn caller(&self, entry: u8) -> thread::JoinHandle<bool> {
        let (queue, disk) = (self.queue.clone(), self.disk.clone());
        thread::spawn(move || {
            let is_told = block_on(queue.push(entry, None)).is_ok();
            assert!(!is_told || disk.has(entry), "told before it was durable");
            is_told
        })
    }

    /// As `disk::Closer` does it.
    fn close(self) -> bool {
        self.closing.store(true, Ordering::Release);
        drop(self.queue.push(0, None));
        self.thread.join().unwrap()
    }
}

#[test]
fn everybody_is_told_and_not_before_it_is_durable() {
    explore(|| {
        let running = start(false);
        let callers = [running.caller(1), running.caller(2)];
        callers.into_iter().for_each(|caller| assert!(caller.join().unwrap(), "nobody closes yet"));
        assert!(running.close());
    });
}

#[test]
fn what_was_queued_before_a_stop_is_durable_behind_it_and_who_comes_too_late_is_not_left_waiting() {
    explore(|| {
        let running = start(false);
        let (disk, early) = (running.disk.clone(), running.queue.push(1, None));
        let late = running.caller(2);
        assert!(running.close());
        assert!(disk.has(1));
        late.join().unwrap();
        drop(early);
    });
}

#[test]
fn a_disk_that_is_given_up_acknowledges_nothing() {
    explore(|| {
        let running = start(true);
        let caller = running.caller(1);
        assert!(!running.close());
        assert!(!caller.join().unwrap());
    });
}

#[test]
fn what_a_question_makes_is_durable_with_the_rest() {
    explore(|| {
        let running = start(false);
        let disk = running.disk.clone();
        running.queue.ask(());
        assert!(running.caller(1).join().unwrap());
        // What is asked at a stop is not answered; this was before.
        assert!(disk.has(u8::MAX));
        assert!(running.close());
    });
}
