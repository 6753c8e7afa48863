//! What `pipeline/links.rs` uses of rtrb, over loom's atomics and cells.
//!
//! It has the algorithm and the memory orders of rtrb 0.4: one index for each end, published with `Release`
//! and read with `Acquire`; loom's cells find a slot that both ends touch. Only rtrb's cached indexes are left out:
//! it reads an index anew before it says full or empty, so they change no answer.

use std::sync::Arc;

use loom::cell::Cell;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

struct Ring<T> {
    slots: Vec<Cell<Option<T>>>,
    /// Where the consumer reads next; both count on without end.
    head: AtomicUsize,
    /// Where the producer writes next.
    tail: AtomicUsize,
    is_abandoned: AtomicBool,
}

impl<T> Ring<T> {
    fn slot(&self, index: usize) -> &Cell<Option<T>> {
        &self.slots[index % self.slots.len()]
    }
}

/// `rtrb::RingBuffer`.
pub struct RingBuffer;

impl RingBuffer {
    /// The two ends of a ring for `capacity` elements.
    #[expect(clippy::new_ret_no_self, reason = "as in rtrb")]
    pub fn new<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let slots = (0..capacity).map(|_| Cell::new(None)).collect();
        let (head, tail, is_abandoned) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let ring = Arc::new(Ring { slots, head, tail, is_abandoned });
        (Producer { ring: ring.clone(), tail: 0 }, Consumer { ring, head: 0 })
    }
}

/// `rtrb::Producer`.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    tail: usize,
}

/// `rtrb::PushError`.
pub enum PushError<T> {
    /// No slot is free.
    Full(T),
}

impl<T> Producer<T> {
    /// Appends an element.
    pub fn push(&mut self, element: T) -> Result<(), PushError<T>> {
        if self.tail - self.ring.head.load(Ordering::Acquire) == self.ring.slots.len() {
            return Err(PushError::Full(element));
        }
        self.ring.slot(self.tail).set(Some(element));
        self.tail += 1;
        self.ring.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Whether the consumer is gone.
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned.load(Ordering::Acquire)
    }
}

/// `rtrb::Consumer`.
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    head: usize,
}

/// `rtrb::PopError`.
#[derive(Debug)]
pub enum PopError {
    /// Nothing waits.
    Empty,
}

impl<T> Consumer<T> {
    /// Takes the oldest element.
    pub fn pop(&mut self) -> Result<T, PopError> {
        if self.ring.tail.load(Ordering::Acquire) == self.head {
            return Err(PopError::Empty);
        }
        let element = self.ring.slot(self.head).replace(None);
        self.head += 1;
        self.ring.head.store(self.head, Ordering::Release);
        element.ok_or(PopError::Empty)
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.ring.is_abandoned.store(true, Ordering::Release);
    }
}
