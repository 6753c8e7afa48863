//! A cap on what each sender may send: `peer, bytes -> how far it is ahead of its rate`.
//!
//! One token bucket for each address, shared by all shards, so that a sender has one rate however many connections
//! it opens. Asked once per read, not per event. A bucket holds what [`BURST`] brings at most.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time whose bytes a sender may send at once after a silence.
const BURST: Duration = Duration::from_secs(1);

/// Senders with a bucket of their own. When so many are active at once, the next ones share one: forged
/// addresses must not take memory, nor a rate each.
const SENDERS_MAX: usize = 65_536;

const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The buckets of one source.
#[derive(Debug)]
pub struct SenderRates {
    bytes_per_s: f64,
    /// When each sender has paid for all that it has sent.
    paid_at: Mutex<HashMap<IpAddr, Instant, foldhash::fast::RandomState>>,
}

impl SenderRates {
    /// No sender may send more than `bytes_per_s`, which is at least 1.
    pub fn new(bytes_per_s: usize) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1) as f64, paid_at: Mutex::default() }
    }

    /// Counts bytes that were read; the sender is not to be read from again for the time that is returned.
    pub fn hold_back(&self, peer: IpAddr, bytes: usize, now: Instant) -> Duration {
        self.with(peer, now, |paid_at| {
            *paid_at += self.cost(bytes);
            paid_at.saturating_duration_since(now)
        })
    }

    /// Counts bytes that have come and cannot be held back, if the sender has room for them; false if not.
    pub fn admits(&self, peer: IpAddr, bytes: usize, now: Instant) -> bool {
        self.with(peer, now, |paid_at| {
            let after = *paid_at + self.cost(bytes);
            let has_room = after <= now;
            if has_room {
                *paid_at = after;
            }
            has_room
        })
    }

    fn cost(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_s)
    }

    fn with<T>(&self, peer: IpAddr, now: Instant, work: impl FnOnce(&mut Instant) -> T) -> T {
        let mut senders = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full = now.checked_sub(BURST).unwrap_or(now);
        if senders.len() >= SENDERS_MAX && !senders.contains_key(&peer) {
            // A full bucket is what a new sender gets too.
            senders.retain(|_, paid_at| *paid_at > full);
        }
        let key = if senders.len() < SENDERS_MAX || senders.contains_key(&peer) { peer } else { OTHERS };
        let paid_at = senders.entry(key).or_insert(full);
        *paid_at = (*paid_at).max(full);
        work(paid_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn sender(number: usize) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(number as u128 + 2))
    }

    #[test]
    fn a_sender_has_a_burst_and_then_its_rate() {
        let rates = SenderRates::new(1000);
        let start = Instant::now() + Duration::from_secs(10);
        assert_eq!(rates.hold_back(A, 1000, start), Duration::ZERO);
        assert_eq!(rates.hold_back(A, 500, start), Duration::from_millis(500));
        assert_eq!(rates.hold_back(A, 0, start + Duration::from_millis(400)), Duration::from_millis(100));
        assert_eq!(rates.hold_back(sender(1), 1000, start), Duration::ZERO, "another sender has its own");
        let rested = start + Duration::from_secs(60);
        assert_eq!(rates.hold_back(A, 1001, rested), Duration::from_millis(1), "a long silence saves no more than a burst");
    }

    #[test]
    fn what_cannot_be_held_back_is_refused_and_not_counted() {
        let rates = SenderRates::new(1000);
        let start = Instant::now() + Duration::from_secs(10);
        assert!(rates.admits(A, 900, start));
        assert!(!rates.admits(A, 200, start));
        assert!(rates.admits(A, 100, start), "what was refused is not counted");
        assert!(rates.admits(A, 200, start + Duration::from_millis(200)));
    }

    #[test]
    fn many_addresses_take_bounded_memory_and_share_a_rate() {
        let rates = SenderRates::new(1000);
        let start = Instant::now() + Duration::from_secs(10);
        for number in 0..SENDERS_MAX + 10 {
            rates.hold_back(sender(number), 1000, start);
        }
        assert!(rates.paid_at.lock().unwrap().len() <= SENDERS_MAX + 1);
        assert_eq!(rates.hold_back(sender(SENDERS_MAX + 20), 1000, start), Duration::from_secs(10), "the eleventh of the others");
        let later = start + Duration::from_secs(30);
        assert_eq!(rates.hold_back(sender(SENDERS_MAX + 20), 1000, later), Duration::ZERO, "silent senders make room");
    }
}
