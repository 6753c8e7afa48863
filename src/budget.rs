//! One byte budget for the process, with a capped share for each destination.
//!
//! Whoever keeps event bytes holds a [`Reservation`]. Sources wait for room before a chunk is admitted, so
//! pressure reaches the sender in its own protocol; what an admitted chunk turns into (encoded batches) may
//! exceed a share for a moment, and closes admission until it is delivered.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::limits::{MEMORY_BUDGET_BYTES_MAX, MEMORY_BUDGET_SHARE};
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Bytes in use and the limit.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    freed: Notify,
}

impl Budget {
    /// A budget of `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { limit_bytes, used_bytes: AtomicUsize::new(0), freed: Notify::new() })
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// The limit.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Whether `bytes` more would still fit. Something always fits into an empty budget.
    pub fn has_room(&self, bytes: usize) -> bool {
        let used = self.used_bytes();
        used == 0 || used + bytes <= self.limit_bytes
    }

    /// A reservation, whether it fits or not.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Reservation {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        Reservation { budget: self.clone(), bytes }
    }

    /// Waits until anything is freed since the returned future was made.
    pub fn freed(&self) -> impl Future<Output = ()> + '_ {
        self.freed.notified()
    }
}

/// Bytes held until drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Changes the size.
    pub fn resize(&mut self, bytes: usize) {
        self.budget.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if bytes < self.bytes {
            self.budget.freed.notify_waiters();
        }
        self.bytes = bytes;
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

/// The default budget: a share of the memory that this process may use (cgroup v2, v1, or the machine).
pub fn default_limit_bytes() -> usize {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |text: String| text.trim().parse::<usize>().ok();
    let cgroup = read("/sys/fs/cgroup/memory.max").or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes")).and_then(number);
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? * 1024)
    });
    let available = [cgroup, machine].into_iter().flatten().min().unwrap_or(MEMORY_BUDGET_BYTES_MAX);
    ((available as f64 * MEMORY_BUDGET_SHARE) as usize).min(MEMORY_BUDGET_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_when_a_reservation_shrinks_or_drops() {
        let budget = Budget::new(100);
        let mut a = budget.take(60);
        assert!(budget.has_room(40) && !budget.has_room(41));
        a.resize(10);
        assert_eq!(budget.used_bytes(), 10);
        drop(a);
        assert_eq!(budget.used_bytes(), 0);
        assert!(budget.has_room(1000), "one oversized item must not wait for ever");
    }

    #[tokio::test]
    async fn a_waiter_is_woken() {
        let budget = Budget::new(10);
        let held = budget.take(10);
        let freed = budget.freed();
        drop(held);
        tokio::time::timeout(std::time::Duration::from_secs(5), freed).await.unwrap();
    }
}
