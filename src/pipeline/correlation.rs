//! Correlation between shards: `hits of this shard -> their owners -> matches -> alerts`.
//!
//! Each group has one owner, found by a hash that no sender can foresee. A shard gathers the hits of a chunk by owner
//! and sends each owner one [`Parcel`], over bounded rings ([`peers`]). Behind the hits it publishes the newest event time
//! that it has seen; the smallest of all busy shards is the time up to which owners decide (the watermark). What a correlation fires is a hit of those chained to it, at the owner
//! of that group; how far a shard has come with one level is what the next level waits for.
//!
//! # Why nobody waits for ever
//!
//! A full ring never blocks: the parcel waits here ([`Exchange::is_flushed`] is false), and the shard takes no further
//! chunk until it is gone. A task of its own takes what other shards send ([`Exchange::drain`]); it waits for nothing,
//! neither for room in a ring, since what it fires waits here as well, nor for the journal, since alerts are given to it
//! by another task. So every ring is emptied whatever its owner waits for, and every shard gets rid of its parcels. At
//! most one parcel for each owner and chunk waits, and as many as chunks are in work.
//!
//! # Time
//!
//! An event time counts up to the arrival of its chunk and the lateness: a forged future would wait in memory for years.
//! The watermark follows event times only up to their arrival: a forged future would make everything else late. While
//! nothing comes, it goes on with the clock from where it was, not to where the clock is: a replay may pause.
//!
//! # Across a restart
//!
//! The journal keeps the events whose hits are needed yet, and the matches. What they are needed for is over when all
//! shards have come so far with all levels and their matches are durable; a frame that tells so is journaled before
//! anything is given back. A start makes the hits again ([`Exchange::add`]) and is told of the matches
//! ([`Exchange::recall`]); time stands still until all shards are done with that. Hits that were done with before are
//! left out: an event may be kept for a correlation that needs it longer.

mod kept;
pub mod peers;
pub(super) mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::detect::correlate::{
    Assembly, Correlations, Feed, Fired, Form, Hit, Hits, Holding, MATCHED, Match, Ownership, Set, Watermark, Way, write_reached,
};
use crate::detect::sigma::correlation::Role;
use crate::event::{Chunk, Event, Members, Position, Span};
use crate::metrics::{self, Cell, Registry};
use crate::pipeline::plan::Plan;
use kept::Kept;
pub use kept::Share;
use peers::{Face, Peers, Reach};

/// Parcels that wait in one ring: the consumer empties it between two chunks of its own.
const RING_PARCELS: usize = 64;

/// A shard that worked on nothing for so long is not waited for.
const IDLE_AFTER: Duration = Duration::from_secs(2);

/// Stands for all rules whose alerts are deduplicated, in the metrics of what correlation holds.
const DEDUPLICATION: &str = "deduplication";

/// Bytes of alerts that wait for the journal before no more are made: the disk is full or fails.
const ALERTS_BYTES_MAX: usize = 4 << 20;

/// Hits of one chunk, or of what a level fired, for one owner.
#[derive(Debug)]
struct Parcel {
    /// What the numbers in the hits mean: shards take up a new plan one after the other.
    correlations: Arc<Correlations>,
    hits: Hits,
}

/// One shard's end.
pub struct Exchange {
    since: Instant,
    ownership: Ownership,
    peers: Peers<Parcel>,
    engine: Option<Engine>,
    alerts: Alerts,
    /// Whether the journal keeps anything: matches that are no alerts are of use only then.
    is_durable: bool,
    /// Whether all hits of an earlier run are here, so that time may move.
    has_begun: bool,
    kept: Kept,
    /// Matches that were made, and how many of them are durable.
    matches: (u64, u64),
    /// How many have to be durable so that it may be said that everything has come so far.
    asked: Option<(u64, i64)>,
    /// How far it is durable that everything has come.
    told_ms: i64,
    /// Whether that is on its way to the journal.
    is_telling: bool,
}

/// What is there while there are correlations.
struct Engine {
    set: Set,
    forms: Arc<[Form]>,
    /// By owner: hits that are gathered.
    gathered: Vec<Hits>,
    assembly: Assembly,
    fired: Vec<(u32, Fired)>,
    watermark: Watermark,
    cells: Vec<Cells>,
    forgotten: Cell,
}

/// Alerts of our own, and matches that are none, that wait for the journal.
#[derive(Debug, Default)]
pub struct Alerts {
    /// One JSON object each.
    pub bytes: Vec<u8>,
    /// Where they are.
    pub spans: Vec<Span>,
    /// How many of them are matches.
    matches: u64,
    /// How far the last one tells that everything has come.
    told_ms: Option<i64>,
}

/// What is durable once some alerts are.
#[derive(Clone, Copy, Debug)]
pub struct Durable {
    matches: u64,
    told_ms: Option<i64>,
}

/// Metrics of one correlation; what stands beside a cell is this shard's part of it.
struct Cells {
    hits: Cell,
    fired: Cell,
    groups: (Cell, u64),
    bytes: (Cell, u64),
    late: (Cell, u64),
    evicted: (Cell, u64),
    forced: (Cell, u64),
    without_value: (Cell, u64),
    /// Hits of a deduplicated rule that made no alert.
    suppressed: (Cell, u64),
    /// Matches in the shadow.
    shadow: Option<Cell>,
}

/// The ends of `count` shards.
pub fn exchange(count: usize) -> Vec<Exchange> {
    let (since, ownership) = (Instant::now(), Ownership::new(count));
    let end = |peers| Exchange {
        since,
        ownership: ownership.clone(),
        peers,
        engine: None,
        alerts: Alerts::default(),
        is_durable: false,
        has_begun: false,
        kept: Kept::default(),
        matches: (0, 0),
        asked: None,
        told_ms: i64::MIN,
        is_telling: false,
    };
    peers::peers(count, RING_PARCELS).into_iter().map(end).collect()
}

impl Exchange {
    /// Says that there is a journal, and that time stands still until [`Exchange::caught_up`]. Before any shard runs.
    pub fn wait_for_journal(&mut self) {
        self.is_durable = true;
        self.peers.note_behind();
    }

    /// All hits of an earlier run have been added and sent.
    pub fn caught_up(&self) {
        self.peers.note_caught_up();
    }

    /// Goes on with the correlations of a plan.
    pub fn take_up(&mut self, plan: &Plan, registry: &Registry) {
        let correlation = &plan.correlation;
        if let Some(engine) = &mut self.engine {
            engine.cells.iter_mut().for_each(Cells::leave);
        }
        if correlation.correlations.is_empty() {
            self.engine = None;
            self.peers.clear();
            return;
        }
        let shards = self.peers.faces().len();
        let engine = self.engine.get_or_insert_with(|| Engine {
            set: Set::new(Arc::default(), 0),
            forms: Arc::default(),
            gathered: vec![Hits::default(); shards],
            assembly: Assembly::default(),
            fired: Vec::new(),
            watermark: Watermark::new(shards, 0),
            cells: Vec::new(),
            forgotten: registry.cell(&metrics::CORRELATION_FORGOTTEN, &[]),
        });
        engine.set.take_up(correlation.correlations.clone(), correlation.budget_bytes, &mut engine.fired);
        engine.forms = correlation.forms.clone();
        let cells = correlation.forms.iter().zip(engine.set.holdings()).map(|(form, holding)| Cells::new(form, holding, registry));
        engine.cells = cells.collect();
        // A budget that became smaller; what it fired belongs to the numbers of the new plan already.
        self.settle(Reach::Same);
    }

    /// Whether there are correlations.
    pub fn is_on(&self) -> bool {
        self.engine.is_some()
    }

    /// Adds the hit of an event of a chunk, which `decoder` has read, if it belongs to a group. Returns until when it is needed.
    pub fn add(&mut self, feed: &Feed, event: Event<'_>, chunk: &Chunk, decoder: &str) -> Option<i64> {
        let engine = self.engine.as_mut()?;
        if !feed.assemble(event, Way { source: &chunk.sender.source, decoder }, &mut engine.assembly) {
            return None;
        }
        let (position, received_ms) = (chunk.position.plus(event.frame as usize), chunk.received_ms);
        let compiled = engine.set.correlations().list().get(feed.correlation as usize)?;
        let keep_ms = compiled.keep_ms;
        let time_ms = event.time_ms.min(received_ms.saturating_add(compiled.lateness_ms));
        let owner = self.ownership.owner(compiled.key, &engine.assembly.key);
        let hit = engine.assembly.hit(position, time_ms, feed.base);
        if owner == self.peers.index() {
            engine.set.accept(feed.correlation, &hit, &mut engine.fired);
        } else if let Some(hits) = engine.gathered.get_mut(owner) {
            hits.push(feed.correlation, &hit);
        }
        engine.cells.get(feed.correlation as usize).into_iter().for_each(|cells| cells.hits.add(1));
        // What comes late is decided with what is about now.
        let decided_ms = if feed.is_deduplication() { time_ms.max(engine.watermark.last_ms()) } else { time_ms };
        Some(decided_ms.saturating_add(keep_ms))
    }

    /// Until when a match of a correlation is needed that is known by its id: a hit in the pause behind it would match again
    /// without it. If it `is_earlier`, the owner of the group is told of it.
    pub fn recall(&mut self, found: &Match, is_earlier: bool) -> Option<i64> {
        let engine = self.engine.as_mut()?;
        let index = engine.forms.iter().position(|form| form.id == found.rule)?;
        let compiled = engine.set.correlations().list().get(index)?;
        let until_ms = found.time_ms.saturating_add(compiled.program.timespan_ms).saturating_add(compiled.retain_ms);
        if is_earlier {
            let owner = self.ownership.owner(compiled.key, &found.key);
            let (position, time_ms) = (Position::default(), found.time_ms);
            let hit = Hit { position, time_ms, base: MATCHED, key: &found.key, value: None, carry: &[] };
            if owner == self.peers.index() {
                engine.set.accept(index as u32, &hit, &mut engine.fired);
            } else if let Some(hits) = engine.gathered.get_mut(owner) {
                hits.push(index as u32, &hit);
            }
        }
        Some(until_ms)
    }

    /// An earlier run was done with everything up to this time.
    pub fn recall_reached(&self, reached_ms: i64) {
        self.peers.note_told(reached_ms);
    }

    /// Takes note of what the journal keeps.
    pub fn keep(&mut self, share: Share) {
        let given_up = self.kept.add(share);
        if let Some(engine) = self.engine.as_ref().filter(|_| given_up > 0) {
            engine.forgotten.add(given_up);
        }
    }

    /// What the journal need not keep any more.
    pub fn take_due(&mut self) -> Vec<Members> {
        if self.is_on() { self.kept.take_due(self.told_ms) } else { self.kept.take_all() }
    }

    /// Time begins when all hits of an earlier run are here; whether it has.
    fn has_begun(&mut self) -> bool {
        if self.has_begun {
            return true;
        }
        let engine = &mut self.engine;
        let Some(told_ms) = self.peers.begin(|parcel| engine.iter_mut().for_each(|engine| engine.take(&parcel))) else { return false };
        self.settle(Reach::Same);
        self.told_ms = told_ms;
        if let Some(engine) = &mut self.engine {
            engine.set.begin_behind(told_ms);
        }
        self.has_begun = true;
        true
    }

    /// A chunk is done: sends its hits, and says behind them that its newest event was of `newest_ms`.
    pub fn chunk_done(&mut self, newest_ms: i64, received_ms: i64) {
        self.settle(Reach::Events(newest_ms.min(received_ms)));
        self.note_active();
    }

    /// Says that this shard has something to do, even if it waits to do it.
    fn note_active(&self) {
        self.note_active_of(self.peers.index());
    }

    /// Says that a shard has something to do: it is about to be given a chunk.
    pub fn note_active_of(&self, shard: usize) {
        if self.is_on() {
            self.peers.note_active(shard, self.now_ms());
        }
    }

    /// Whether all hits are on their way. Until then no further chunk may be worked on.
    pub fn is_flushed(&self) -> bool {
        self.peers.is_flushed()
    }

    /// Tries again to send what found no room.
    pub fn flush(&mut self) {
        self.peers.flush();
    }

    /// Takes what other shards have sent. Waits for nothing.
    pub fn drain(&mut self) {
        let engine = &mut self.engine;
        self.peers.take(|parcel| engine.iter_mut().for_each(|engine| engine.take(&parcel)));
        self.settle(Reach::Same);
    }

    /// Resolves when something was sent here since the last call, or has been before it.
    pub fn woken(&self) -> impl Future<Output = ()> + use<> {
        self.peers.woken()
    }

    /// Moves all levels on as far as they can come. `is_busy` says that this shard waits for room.
    pub fn tick(&mut self, clock_ms: i64, is_busy: bool) {
        if is_busy || !self.is_flushed() {
            self.note_active();
        }
        self.flush();
        // While the journal takes no alerts, none are made; hits wait in memory, bounded as ever.
        if self.engine.is_none() || self.alerts.bytes.len() > ALERTS_BYTES_MAX || !self.has_begun() {
            self.drain();
            return;
        }
        let mut all_reached_ms = i64::MIN;
        let levels = self.engine.as_ref().map_or(0, |engine| engine.set.correlations().levels());
        for level in 0..levels {
            let reached_ms = self.reach(level, clock_ms);
            // What was taken may have fired what this level waits for.
            self.settle(Reach::Same);
            if let Some(engine) = &mut self.engine {
                engine.set.advance(level, reached_ms, &mut engine.fired);
            }
            self.settle(Reach::Below(level + 1, reached_ms));
            all_reached_ms = reached_ms;
        }
        if let Some(engine) = &mut self.engine {
            engine.set.share(&mut engine.fired);
            engine.report();
        }
        self.settle(Reach::Same);
        self.asked.get_or_insert((self.matches.0, all_reached_ms));
        self.publish_durable();
        self.tell();
    }

    /// Alerts are durable.
    pub fn note_durable(&mut self, durable: Durable) {
        self.matches.1 += durable.matches;
        self.publish_durable();
        if let Some(told_ms) = durable.told_ms {
            self.told_ms = self.told_ms.max(told_ms);
            self.is_telling = false;
        }
    }

    /// Says how far all levels have come, once the matches up to there are durable.
    fn publish_durable(&mut self) {
        let (_, durable) = self.matches;
        if let Some((_, reached_ms)) = self.asked.take_if(|(made, _)| *made <= durable) {
            self.peers.note_durable(reached_ms);
        }
    }

    /// Tells the journal how far everything has come, if it keeps something that is needed no more.
    fn tell(&mut self) {
        let reached_ms = self.peers.faces().iter().map(Face::durable_ms).min().unwrap_or(i64::MIN);
        if !self.is_telling && reached_ms > self.told_ms && self.kept.is_due(reached_ms) {
            self.is_telling = true;
            self.alerts.push_reached(reached_ms);
        }
    }

    /// Takes everything that waits at one level, at a stop: nothing comes any more.
    pub fn finish_level(&mut self, level: usize) {
        if !self.has_begun() {
            // The journal has it all, and it would not know what was found before.
            return;
        }
        self.drain();
        let newest_ms = self.peers.faces().iter().map(|face| face.seen().1).max().unwrap_or(i64::MIN);
        if let Some(engine) = &mut self.engine {
            engine.set.take_waiting(level, newest_ms, &mut engine.fired);
            engine.report();
        }
        self.settle(Reach::Same);
    }

    /// Alerts that wait for the journal.
    pub fn take_alerts(&mut self) -> Alerts {
        std::mem::take(&mut self.alerts)
    }

    /// Whether there are any.
    pub fn has_alerts(&self) -> bool {
        !self.alerts.spans.is_empty()
    }

    /// Makes alerts and hits of chains of all that was fired; accepting the hits may fire more. Sends the hits that were
    /// gathered, and says behind them how far they reach.
    fn settle(&mut self, reach: Reach) {
        let Some(engine) = &mut self.engine else { return };
        while !engine.fired.is_empty() {
            for (correlation, fired) in std::mem::take(&mut engine.fired) {
                let index = correlation as usize;
                if !fired.is_known {
                    engine.cells.get(index).into_iter().for_each(|cells| cells.note_fired());
                    if let Some(form) = engine.forms.get(index).filter(|form| form.is_alert || self.is_durable) {
                        self.alerts.push(form, &fired);
                        self.matches.0 += 1;
                    }
                }
                engine.chain(index, &fired, &self.ownership, self.peers.index());
            }
        }
        let correlations = engine.set.correlations();
        let filled = engine.gathered.iter_mut().enumerate().filter(|(_, hits)| !hits.is_empty());
        let parcels = filled.map(|(owner, hits)| (owner, Parcel { correlations: correlations.clone(), hits: std::mem::take(hits) }));
        self.peers.send(parcels, reach);
    }

    /// The time up to which all hits that a level waits for have been sent; they have then been taken.
    fn reach(&mut self, level: usize, clock_ms: i64) -> i64 {
        let now_ms = self.now_ms();
        let Some(engine) = &mut self.engine else { return i64::MIN };
        let look = |engine: &mut Engine, faces: &[Face]| match level {
            0 => engine.watermark(faces, now_ms, clock_ms),
            _ => peers::below(faces, level),
        };
        self.peers.reach(engine, look, |engine, parcel| engine.take(&parcel))
    }

    fn now_ms(&self) -> u64 {
        // Never 0, which stands for never.
        self.since.elapsed().as_millis() as u64 + 1
    }
}

impl Engine {
    /// The time up to which all hits of rules have been sent.
    fn watermark(&mut self, faces: &[Face], now_ms: u64, clock_ms: i64) -> i64 {
        let mut idle_ms = i64::MIN;
        for (shard, face) in faces.iter().enumerate() {
            let (active_ms, newest_ms) = face.seen();
            let is_idle = active_ms == 0 || now_ms.saturating_sub(active_ms) > IDLE_AFTER.as_millis() as u64;
            if newest_ms > i64::MIN {
                self.watermark.observe(shard, newest_ms);
                let pause_ms = i64::try_from(now_ms.saturating_sub(active_ms)).unwrap_or(i64::MAX);
                idle_ms = idle_ms.max(newest_ms.saturating_add(pause_ms).min(clock_ms));
            }
            if is_idle {
                self.watermark.idle(shard);
            }
        }
        self.watermark.value(clock_ms, idle_ms)
    }

    /// Takes the hits of a parcel, perhaps of a shard with another plan.
    fn take(&mut self, parcel: &Parcel) {
        let is_same = Arc::ptr_eq(&parcel.correlations, self.set.correlations());
        for (correlation, hit) in parcel.hits.iter() {
            let own = if is_same {
                Some(correlation)
            } else {
                let theirs = parcel.correlations.list().get(correlation as usize);
                theirs.and_then(|theirs| self.set.correlations().find(theirs.key))
            };
            // One that this plan does not have any more, or not yet, counts nothing.
            if let Some(own) = own {
                self.set.accept(own, &hit, &mut self.fired);
            }
        }
    }

    /// Makes hits of a match for the correlations that are chained to it.
    fn chain(&mut self, index: usize, fired: &Fired, ownership: &Ownership, own: usize) {
        let correlations = self.set.correlations().clone();
        for step in correlations.list().get(index).map_or(&[][..], |compiled| &compiled.steps) {
            let Some(to) = correlations.list().get(step.to as usize) else { continue };
            if !step.assemble(fired, &mut self.assembly) {
                continue;
            }
            let owner = ownership.owner(to.key, &self.assembly.key);
            let hit = self.assembly.hit(fired.position, fired.time_ms, step.base);
            if owner == own {
                self.set.accept(step.to, &hit, &mut self.fired);
            } else if let Some(hits) = self.gathered.get_mut(owner) {
                hits.push(step.to, &hit);
            }
        }
    }

    /// Brings the metrics up to date.
    fn report(&mut self) {
        for (cells, holding) in self.cells.iter_mut().zip(self.set.holdings()) {
            let counters = holding.counters;
            for ((cell, own), value) in [
                (&mut cells.groups, holding.groups as u64),
                (&mut cells.bytes, holding.bytes as u64),
                (&mut cells.late, counters.late_events),
                (&mut cells.evicted, counters.evicted_keys),
                (&mut cells.forced, counters.forced_events),
                (&mut cells.without_value, counters.without_value),
                (&mut cells.suppressed, counters.suppressed_events),
            ] {
                // A difference below zero wraps around, and so does the sum.
                cell.add(value.wrapping_sub(std::mem::replace(own, value)));
            }
        }
    }
}

impl Cells {
    /// `holding` is what was counted before.
    fn new(form: &Form, holding: Holding, registry: &Registry) -> Self {
        let counters = holding.counters;
        let is_deduplication = form.role == Role::Deduplication;
        // Deduplications are many and alike: what they hold is told together.
        let (id, title) = if is_deduplication { (DEDUPLICATION, DEDUPLICATION) } else { (form.id.as_str(), form.title.as_str()) };
        let cell = |family: &'static metrics::Family| registry.cell(family, &[("rule_id", id), ("rule", title)]);
        let left_out = |reason| registry.cell(&metrics::CORRELATION_LEFT_OUT, &[("rule_id", id), ("rule", title), ("reason", reason)]);
        let not_made = |reason| {
            let labels = [("rule_id", form.id.as_str()), ("rule", form.title.as_str()), ("reason", reason)];
            registry.cell(&metrics::ALERTS_NOT_MADE, &labels)
        };
        Self {
            hits: cell(&metrics::CORRELATION_HITS),
            // The hits of a rule are counted where they are found.
            fired: if is_deduplication { Cell::default() } else { cell(&metrics::RULE_HITS) },
            groups: (cell(&metrics::CORRELATION_GROUPS), 0),
            bytes: (cell(&metrics::CORRELATION_BYTES), 0),
            late: (left_out("late"), counters.late_events),
            evicted: (cell(&metrics::CORRELATION_EVICTED), counters.evicted_keys),
            forced: (cell(&metrics::CORRELATION_FORCED), counters.forced_events),
            without_value: (left_out("without_value"), counters.without_value),
            suppressed: if is_deduplication { (not_made("deduplicated"), counters.suppressed_events) } else { (Cell::default(), 0) },
            shadow: (form.role == Role::Shadow).then(|| not_made("shadow")),
        }
    }

    fn note_fired(&self) {
        self.fired.add(1);
        self.shadow.iter().for_each(|cell| cell.add(1));
    }

    /// Takes this shard's part out of what goes up and down.
    fn leave(&mut self) {
        for (cell, own) in [&mut self.groups, &mut self.bytes] {
            cell.add(0u64.wrapping_sub(std::mem::take(own)));
        }
    }
}

impl Alerts {
    fn push(&mut self, form: &Form, fired: &Fired) {
        let start = self.bytes.len();
        form.write(fired, &mut self.bytes);
        self.spans.push(Span::new(start, self.bytes.len()));
        self.matches += 1;
    }

    fn push_reached(&mut self, reached_ms: i64) {
        let start = self.bytes.len();
        write_reached(reached_ms, &mut self.bytes);
        self.spans.push(Span::new(start, self.bytes.len()));
        self.told_ms = Some(reached_ms);
    }

    /// What is durable once they are.
    pub fn durable(&self) -> Durable {
        Durable { matches: self.matches, told_ms: self.told_ms }
    }
}

#[cfg(test)]
mod tests;
