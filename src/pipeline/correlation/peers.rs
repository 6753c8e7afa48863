//! What the shards of an exchange send each other and see of each other: parcels of hits, and behind them how far they reach.
//!
//! The promise: who looks at a time and then takes what was sent has every hit up to that time. So a time is published behind
//! its parcels, and not while one of them waits here for room in a ring; and it is looked at before the rings are emptied.
//! In the same way, who sees that no shard is behind any more and then takes what was sent has the hits of an earlier
//! run. `loom/` checks both in every interleaving.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::detect::correlate::LEVELS_MAX;
use crate::pipeline::links::{self, Links};
use crate::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// What others see of a shard.
#[derive(Debug)]
pub struct Face {
    /// Newest event time whose hits have been sent.
    newest_ms: AtomicI64,
    /// When it last worked, in ms since the exchange was made; 0 for never.
    active_ms: AtomicU64,
    /// By level: how far those below it have come, their hits sent.
    reached_ms: [AtomicI64; LEVELS_MAX],
    /// How far all levels have come, their matches durable.
    durable_ms: AtomicI64,
    /// How far an earlier run has told to have come.
    told_ms: AtomicI64,
    /// Whether hits of an earlier run are still to come.
    is_behind: AtomicBool,
}

impl Default for Face {
    fn default() -> Self {
        let never = || AtomicI64::new(i64::MIN);
        Self {
            newest_ms: never(),
            active_ms: AtomicU64::new(0),
            reached_ms: std::array::from_fn(|_| never()),
            durable_ms: never(),
            told_ms: never(),
            is_behind: AtomicBool::new(false),
        }
    }
}

impl Face {
    /// When the shard last worked, and the newest event time whose hits it has sent.
    pub fn seen(&self) -> (u64, i64) {
        // In this order: who becomes active behind this look is seen as it was before.
        let active_ms = self.active_ms.load(Ordering::Acquire);
        (active_ms, self.newest_ms.load(Ordering::Acquire))
    }

    /// How far all levels have come, their matches durable.
    pub fn durable_ms(&self) -> i64 {
        self.durable_ms.load(Ordering::Acquire)
    }

    /// Whether hits of an earlier run are still to come.
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Acquire)
    }
}

/// The time up to which all shards have sent all hits of the levels below this one.
pub fn below(faces: &[Face], level: usize) -> i64 {
    let reached = faces.iter().filter_map(|face| face.reached_ms.get(level));
    reached.map(|reached| reached.load(Ordering::Acquire)).min().unwrap_or(i64::MIN)
}

/// How far the hits reach that have been sent once some parcels have.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// No further than before.
    Same,
    /// Those of all events up to this time, in ms.
    Events(i64),
    /// Those of all levels below this one, up to this time in ms.
    Below(usize, i64),
}

/// One shard's end, for parcels of one kind.
pub struct Peers<T> {
    links: Links<T>,
    faces: Arc<[Face]>,
    /// What found no room in a ring, with the shard that it is for.
    unsent: VecDeque<(usize, T)>,
    /// Newest event time, perhaps not published yet.
    newest_ms: i64,
}

/// The ends of `count` shards, with `places` in each ring.
pub fn peers<T>(count: usize, places: usize) -> Vec<Peers<T>> {
    let faces: Arc<[Face]> = (0..count).map(|_| Face::default()).collect();
    let end = |links| Peers { links, faces: faces.clone(), unsent: VecDeque::new(), newest_ms: i64::MIN };
    links::links(count, places).into_iter().map(end).collect()
}

impl<T> Peers<T> {
    /// Which shard this is.
    pub fn index(&self) -> usize {
        self.links.index()
    }

    /// What is seen of all shards, this one too.
    pub fn faces(&self) -> &[Face] {
        &self.faces
    }

    /// Sends parcels to their shards and says behind them how far they reach. What finds no room waits here.
    pub fn send(&mut self, parcels: impl IntoIterator<Item = (usize, T)>, reach: Reach) {
        for (to, parcel) in parcels {
            // What waits already goes first, so that the order of parcels stays.
            let refused = if self.unsent.is_empty() { self.push(to, parcel).err() } else { Some(parcel) };
            self.unsent.extend(refused.map(|parcel| (to, parcel)));
        }
        if let Reach::Events(newest_ms) = reach {
            self.newest_ms = self.newest_ms.max(newest_ms);
        }
        self.publish();
        // One that cannot be published now is looked for again at the next tick.
        if let (Reach::Below(level, reached_ms), true) = (reach, self.unsent.is_empty()) {
            self.own().reached_ms.get(level).into_iter().for_each(|place| place.store(reached_ms, Ordering::Release));
        }
    }

    /// Tries again to send what found no room.
    pub fn flush(&mut self) {
        while let Some((to, parcel)) = self.unsent.pop_front() {
            if let Err(parcel) = self.push(to, parcel) {
                self.unsent.push_front((to, parcel));
                return;
            }
        }
        self.publish();
    }

    /// Whether nothing waits for room.
    pub fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Begins anew: nothing waits, no event has been seen.
    pub fn clear(&mut self) {
        self.unsent.clear();
        self.newest_ms = i64::MIN;
    }

    /// Takes all that was sent here. Waits for nothing.
    pub fn take(&mut self, mut take: impl FnMut(T)) {
        while let Some(parcel) = self.links.pop() {
            take(parcel);
        }
    }

    /// Looks how far the others have come, then takes what was sent: all up to that time is then here. Gives the time.
    pub fn reach<S>(&mut self, state: &mut S, look: impl FnOnce(&mut S, &[Face]) -> i64, mut take: impl FnMut(&mut S, T)) -> i64 {
        let reached_ms = look(state, &self.faces);
        self.take(|parcel| take(state, parcel));
        reached_ms
    }

    /// If no shard is behind any more, takes what was sent: all hits of an earlier run are then here. Gives how far that run
    /// has told to have come.
    pub fn begin(&mut self, take: impl FnMut(T)) -> Option<i64> {
        if self.faces.iter().any(Face::is_behind) {
            return None;
        }
        self.take(take);
        self.faces.iter().map(|face| face.told_ms.load(Ordering::Acquire)).max()
    }

    /// Says that hits of an earlier run are still to come, before any shard runs.
    pub fn note_behind(&self) {
        self.own().is_behind.store(true, Ordering::Release);
    }

    /// Says that they have all been sent; nothing may wait here.
    pub fn note_caught_up(&self) {
        self.own().is_behind.store(false, Ordering::Release);
    }

    /// Says how far an earlier run has told to have come.
    pub fn note_told(&self, told_ms: i64) {
        self.own().told_ms.fetch_max(told_ms, Ordering::AcqRel);
    }

    /// Says how far all levels have come, their matches durable.
    pub fn note_durable(&self, durable_ms: i64) {
        self.own().durable_ms.store(durable_ms, Ordering::Release);
    }

    /// Says that a shard has something to do at this time.
    pub fn note_active(&self, shard: usize, now_ms: u64) {
        self.faces.get(shard).into_iter().for_each(|face| face.active_ms.store(now_ms, Ordering::Release));
    }

    /// Resolves when something was sent here since the last call, or has been before it.
    pub fn woken(&self) -> impl Future<Output = ()> + use<T> {
        self.links.woken()
    }

    fn own(&self) -> &Face {
        &self.faces[self.links.index()]
    }

    fn push(&mut self, to: usize, parcel: T) -> Result<(), T> {
        if !self.links.reaches(to) {
            // That shard has failed; the process is about to end.
            return Ok(());
        }
        self.links.push(to, parcel)
    }

    /// Publishes the newest event time once its hits are on their way.
    fn publish(&self) {
        if self.unsent.is_empty() {
            self.own().newest_ms.store(self.newest_ms, Ordering::Release);
        }
    }
}
