//! Correlation: `hits of rules in event time -> matches of one correlation`, as a state machine without I/O or clock.
//!
//! In go [`Hit`]s in any order and the watermark, the event time up to which everything has arrived, in
//! milliseconds since 1970. Out come [`Fired`]. One [`Correlator`] holds the groups of one correlation that one
//! shard owns ([`Ownership`]); [`Watermark`] makes one time of what all shards have seen.
//!
//! # What is decided when
//!
//! Hits wait until the watermark has passed them and are then taken by event time, ties by position. So the
//! result depends neither on the order of arrival nor on the number of shards, as long as nothing is late. Later
//! than the watermark is late: counted, left out. A pause after a match and a result that ignores the order of
//! arrival cannot be had together with firing on arrival: of the events at 1, 2, 3, 4 any three may come first,
//! and each choice begins another pause. With a lateness of 0 and one source, arrival is the watermark.
//!
//! - **Lower limits** (only `gt`, `gte`) on counts and sums, and the temporal types, slide: the window of an event
//!   holds what is less than a timespan older. The first event whose window fulfils the condition fires, and the
//!   group is quiet for a timespan. An event in the window of one match is so never in that of the next.
//! - **Everything else** (`lt`, `lte`, `eq`, `neq`, ranges, averages, percentiles) needs whole windows: one opens with
//!   the first event that is in no other, lasts one timespan, and is judged when the watermark passes its end. A
//!   group without any event has no window: `lt: 5` does not see what never came.
//!
//! An event that hits several rules of a correlation counts once; in `temporal` it stands for each of them, in
//! `temporal_ordered` for one step only. A hit that comes twice (same position and rule) is one.
//!
//! # Memory
//!
//! All state and all waiting hits count against one budget in bytes. Beyond it the group whose window ends first
//! is forgotten, since it has the least time left to match; when waiting hits alone take more than half, the
//! oldest are taken early instead. Both are counted. Lower limits keep no more than the limit needs.

mod alert;
mod evidence;
mod feed;
mod hits;
mod part;
mod pending;
mod set;
mod window;
mod wiring;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use foldhash::quality::RandomState;

pub use alert::{Form, Match, Told, write_reached};
pub use evidence::{RAW_BYTES_MAX, Way};
pub use feed::{Feed, Feeds, Wanted};
pub use hits::Hits;
pub use part::{Part, parts, push_part};
pub use set::{Holding, Set};
pub use wiring::{Compiled, Correlations, LEVELS_MAX, Step};

use super::sigma::correlation::{Condition, Decimal, Kind};
use crate::event::Position;
use part::VALUE_BYTES_MAX;
use pending::Pending;
use window::Window;

/// Positions that a match names; the newest of its window. A person reads a handful.
pub const SAMPLE_MAX: usize = 16;

/// Stands in the place of a rule for a match that an earlier run has found: its group and time are known. A correlation has
/// fewer rules.
pub const MATCHED: u8 = u8::MAX;

/// The part of the budget, as a divisor, that matches of an earlier run may take.
const KNOWN_SHARE: usize = 4;

/// What a group costs besides its key and window: the entries of map and heap, their spare room, the allocations.
const GROUP_BYTES: usize = 256;

/// What part of the budget is left to waiting hits after some had to be taken early, in eighths. Below the half at which
/// that begins, so that it is not begun for each hit.
const FORCED_EIGHTHS: usize = 3;

/// One correlation, ready to run.
#[derive(Clone, Debug)]
pub struct Program {
    /// What is measured.
    pub kind: Kind,
    /// Against what.
    pub condition: Condition,
    /// Length of a window in milliseconds.
    pub timespan_ms: i64,
    /// Number of its rules.
    pub rule_count: usize,
    /// Whether it makes one alert of many: what comes late is no less an alert, and counts with what comes next.
    pub is_deduplication: bool,
    /// What one shard may hold for it, in bytes.
    pub budget_bytes: usize,
}

/// A hit of one of the rules.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a> {
    /// Of the event.
    pub position: Position,
    /// Of the event, in ms since 1970. One that lies in the future holds up nothing but moves the watermark: the
    /// caller bounds it by its clock.
    pub time_ms: i64,
    /// Which of the correlation's rules.
    pub base: u8,
    /// The group: [`push_part`] for each field.
    pub key: &'a [u8],
    /// The value of the field, for the types that have one.
    pub value: Option<&'a [u8]>,
    /// Handed back with a match that this event completes; what a chained correlation wants to know.
    pub carry: &'a [u8],
}

/// The bytes of a hit while it is put together; used again for the next one.
#[derive(Debug, Default)]
pub struct Assembly {
    /// The group.
    pub key: Vec<u8>,
    value: Vec<u8>,
    has_value: bool,
    carry: Vec<u8>,
}

impl Assembly {
    fn clear(&mut self) {
        [&mut self.key, &mut self.value, &mut self.carry].into_iter().for_each(Vec::clear);
        self.has_value = false;
    }

    /// The hit of an event.
    pub fn hit(&self, position: Position, time_ms: i64, base: u8) -> Hit<'_> {
        let value = self.has_value.then_some(&*self.value);
        Hit { position, time_ms, base, key: &self.key, value, carry: &self.carry }
    }
}

/// A match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fired {
    /// The group.
    pub key: Arc<[u8]>,
    /// When it was complete in event time: that of the event which completed it, or the last ms of the window.
    pub time_ms: i64,
    /// The last event of the window. With correlation and group it names the match, after a restart too.
    pub position: Position,
    /// What was measured; for lower limits on counts no more than the limit needs.
    pub measure: Decimal,
    /// Events of the window, oldest first; the newest [`SAMPLE_MAX`].
    pub sample: Vec<Position>,
    /// Of the last event.
    pub carry: Box<[u8]>,
    /// Events of the group in the pause behind its last match, as far as is known: a group without an event for a timespan is
    /// forgotten. Of what slides only.
    pub suppressed: u64,
    /// Whether an earlier run has found it: others may look at it, but it has been told.
    pub is_known: bool,
}

/// What a correlator went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Hits behind the watermark, left out.
    pub late_events: u64,
    /// Hits without the field, or with no number in it, left out.
    pub without_value: u64,
    /// Groups forgotten because of the budget.
    pub evicted_keys: u64,
    /// Hits taken before the watermark because of the budget.
    pub forced_events: u64,
    /// Hits in the pause behind a match.
    pub suppressed_events: u64,
}

/// The groups of one correlation that one shard owns.
#[derive(Debug)]
pub struct Correlator {
    program: Program,
    is_sliding: bool,
    groups: HashMap<Arc<[u8]>, Group, RandomState>,
    /// One entry a group, with an end of its window that may since have moved on.
    ends: BinaryHeap<Reverse<(i64, Arc<[u8]>)>>,
    pending: Pending,
    /// Times of the matches that an earlier run has found, by group.
    known: HashMap<Box<[u8]>, Vec<i64>, RandomState>,
    /// When none of them matters any more.
    known_until_ms: i64,
    known_bytes: usize,
    group_bytes: usize,
    watermark_ms: i64,
    /// What is not newer is of an earlier run, which is done with it.
    done_ms: i64,
    counters: Counters,
    /// For values that are counted: 64 bits of a keyed hash stand for each. A million in one window have a chance of one in
    /// thirty million that any two are taken for one.
    hasher: RandomState,
}

/// What a window looks at.
#[derive(Clone, Copy, Debug)]
enum Value {
    None,
    Distinct(u64),
    Number(i128),
}

#[derive(Debug)]
struct Group {
    window: Window,
    /// First millisecond in which nothing of it matters any more.
    end_ms: i64,
    quiet_until_ms: i64,
    last: Option<Position>,
    /// Of the last event, for windows that are judged when they are over.
    carry: Box<[u8]>,
    suppressed: u64,
    bytes: usize,
}

impl Correlator {
    /// Without any group.
    pub fn new(program: Program) -> Self {
        let is_metric = matches!(program.kind, Kind::ValueAvg | Kind::ValuePercentile);
        Self {
            is_sliding: program.condition.is_lower_limit() && !is_metric,
            program,
            groups: HashMap::default(),
            ends: BinaryHeap::new(),
            pending: Pending::default(),
            known: HashMap::default(),
            known_until_ms: i64::MIN,
            known_bytes: 0,
            group_bytes: 0,
            watermark_ms: i64::MIN,
            done_ms: i64::MIN,
            counters: Counters::default(),
            hasher: RandomState::default(),
        }
    }

    /// What it went through so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Groups alive.
    pub fn keys_alive(&self) -> usize {
        self.groups.len()
    }

    /// Bytes held, as counted against the budget.
    pub fn used_bytes(&self) -> usize {
        self.pending.bytes() + self.known_bytes + self.group_bytes
    }

    /// Takes everything that waits, at the end; what is over by `reached_ms` is judged, other windows stay open.
    pub fn take_waiting(&mut self, reached_ms: i64, fired: &mut Vec<Fired>) {
        self.take_until(i64::MAX, fired);
        self.advance(reached_ms, fired);
    }

    /// Changes what it may hold.
    pub fn set_budget(&mut self, bytes: usize, fired: &mut Vec<Fired>) {
        self.program.budget_bytes = bytes;
        self.shrink(fired);
    }

    /// Takes a hit. `fired` gets something only if the budget forces hits to be taken early.
    pub fn accept(&mut self, hit: &Hit<'_>, fired: &mut Vec<Fired>) {
        if hit.base == MATCHED {
            return self.note_known(hit);
        }
        if hit.time_ms <= self.done_ms {
            return;
        }
        let mut time_ms = hit.time_ms;
        if time_ms <= self.watermark_ms {
            if !self.program.is_deduplication {
                self.counters.late_events += 1;
                return;
            }
            time_ms = self.watermark_ms.saturating_add(1);
        }
        let (hash, number);
        let value = match (self.program.kind, hit.value) {
            (Kind::ValueCount, Some(value)) if value.len() > VALUE_BYTES_MAX => {
                hash = digest(&SHA256, value);
                Some(hash.as_ref())
            }
            (Kind::ValueCount, value) => value,
            (kind, Some(value)) if kind.is_number() => {
                let parsed = std::str::from_utf8(value).ok().and_then(Decimal::parse);
                number = parsed.map(|number| number.0.to_ne_bytes());
                number.as_ref().map(<[u8; 16]>::as_slice)
            }
            _ => None,
        };
        if value.is_none() && self.program.kind.has_field() {
            self.counters.without_value += 1;
            return;
        }
        // Backwards, so that one event is not two steps of an order.
        let order = if self.program.kind == Kind::TemporalOrdered { u8::MAX - hit.base } else { hit.base };
        self.pending.push(&Hit { value, time_ms, ..*hit }, order);
        self.shrink(fired);
    }

    /// Forgets what waits and is not newer than this, now and later: an earlier run was done with it.
    pub fn begin_behind(&mut self, done_ms: i64) {
        self.done_ms = done_ms;
        self.pending.take(done_ms, |_, _| true);
    }

    /// Takes note of a match that an earlier run has found: it is not found again, nor one that is less than a timespan away.
    fn note_known(&mut self, found: &Hit<'_>) {
        if self.known_bytes > self.program.budget_bytes / KNOWN_SHARE {
            self.counters.evicted_keys += 1;
            return;
        }
        self.known_bytes += GROUP_BYTES + found.key.len();
        self.known_until_ms = self.known_until_ms.max(found.time_ms.saturating_add(self.program.timespan_ms));
        self.known.entry(found.key.into()).or_default().push(found.time_ms);
    }

    /// Everything up to this time, it included, has arrived.
    pub fn advance(&mut self, watermark_ms: i64, fired: &mut Vec<Fired>) {
        self.take_until(watermark_ms, fired);
        self.watermark_ms = self.watermark_ms.max(watermark_ms);
        while let Some(Reverse((end_ms, key))) = self.pop_ended(self.watermark_ms.saturating_add(1)) {
            if let Some(group) = self.forget(&key)
                && !self.is_sliding
            {
                fired.extend(group.judge(&self.program, &key, end_ms - 1, times(&self.known, &key)));
            }
        }
        if self.watermark_ms >= self.known_until_ms && !self.known.is_empty() {
            self.known = HashMap::default();
            self.known_bytes = 0;
        }
    }

    fn take_until(&mut self, until_ms: i64, fired: &mut Vec<Fired>) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.take(until_ms, |hit, waiting_bytes| {
            self.count(hit, fired);
            self.evict(waiting_bytes);
            true
        });
        self.pending = pending;
    }

    /// Takes the next hit in order.
    fn count(&mut self, hit: &Hit<'_>, fired: &mut Vec<Fired>) {
        let value = match (self.program.kind, hit.value) {
            (Kind::ValueCount, Some(value)) => Value::Distinct(self.hasher.hash_one(value)),
            (_, Some(value)) => value.try_into().map_or(Value::None, |bytes| Value::Number(i128::from_ne_bytes(bytes))),
            (_, None) => Value::None,
        };
        let known = times(&self.known, hit.key);
        if let Some(group) = self.groups.get_mut(hit.key) {
            self.group_bytes -= group.bytes;
            let is_quiet = group.add((&self.program, self.is_sliding), (hit, value), known, fired);
            self.group_bytes += group.bytes;
            self.counters.suppressed_events += u64::from(is_quiet);
            return;
        }
        let end_ms = hit.time_ms.saturating_add(self.program.timespan_ms);
        let mut group = Group::new(Window::new(&self.program, self.is_sliding), end_ms);
        let is_quiet = group.add((&self.program, self.is_sliding), (hit, value), known, fired);
        self.group_bytes += group.bytes;
        self.counters.suppressed_events += u64::from(is_quiet);
        let key: Arc<[u8]> = hit.key.into();
        self.ends.push(Reverse((end_ms, key.clone())));
        self.groups.insert(key, group);
    }

    /// Back into the budget: hits early if most of it waits, then groups.
    fn shrink(&mut self, fired: &mut Vec<Fired>) {
        let budget = self.program.budget_bytes;
        if self.used_bytes() <= budget {
            return;
        }
        if self.pending.bytes() > budget / 2 {
            let target = budget / 8 * FORCED_EIGHTHS;
            let mut pending = std::mem::take(&mut self.pending);
            pending.take(i64::MAX, |hit, waiting_bytes| {
                self.counters.forced_events += 1;
                // What comes behind it now would be out of order; of its own millisecond, at most what is waiting.
                self.watermark_ms = self.watermark_ms.max(hit.time_ms);
                self.count(hit, fired);
                self.evict(waiting_bytes);
                waiting_bytes > target
            });
            self.pending = pending;
        }
        self.evict(self.pending.bytes());
    }

    /// Forgets groups until they fit the budget together with what waits.
    fn evict(&mut self, waiting_bytes: usize) {
        while waiting_bytes + self.known_bytes + self.group_bytes > self.program.budget_bytes
            && let Some(Reverse((_, key))) = self.pop_ended(i64::MAX)
        {
            self.counters.evicted_keys += u64::from(self.forget(&key).is_some());
        }
    }

    /// The group whose window ends first, if that is no later than `until_ms`. The caller forgets it.
    fn pop_ended(&mut self, until_ms: i64) -> Option<Reverse<(i64, Arc<[u8]>)>> {
        while self.ends.peek().is_some_and(|Reverse((end_ms, _))| *end_ms <= until_ms) {
            let Reverse((end_ms, key)) = self.ends.pop()?;
            match self.groups.get(&key) {
                Some(group) if group.end_ms > end_ms => self.ends.push(Reverse((group.end_ms, key))),
                _ => return Some(Reverse((end_ms, key))),
            }
        }
        None
    }

    fn forget(&mut self, key: &[u8]) -> Option<Group> {
        let group = self.groups.remove(key)?;
        self.group_bytes -= group.bytes;
        Some(group)
    }
}

/// The times of the matches of a group that an earlier run has found.
fn times<'a>(known: &'a HashMap<Box<[u8]>, Vec<i64>, RandomState>, key: &[u8]) -> &'a [i64] {
    // Most of the time there is none.
    if known.is_empty() { &[] } else { known.get(key).map_or(&[], Vec::as_slice) }
}

impl Group {
    fn new(window: Window, end_ms: i64) -> Self {
        Self { window, end_ms, quiet_until_ms: i64::MIN, last: None, carry: Box::default(), suppressed: 0, bytes: 0 }
    }

    /// Takes the next hit. `known` are times of matches that an earlier run has found: what slides matches then and at no
    /// time in between, since the group was quiet. Whether the hit falls into such a pause.
    fn add(
        &mut self,
        (program, is_sliding): (&Program, bool),
        (hit, value): (&Hit<'_>, Value),
        known: &[i64],
        fired: &mut Vec<Fired>,
    ) -> bool {
        let end_ms = hit.time_ms.saturating_add(program.timespan_ms);
        let is_temporal = matches!(program.kind, Kind::Temporal | Kind::TemporalOrdered);
        if !is_temporal && self.last == Some(hit.position) {
            return false;
        }
        if is_sliding {
            if hit.time_ms >= self.end_ms {
                // Whether the group has been forgotten meanwhile depends on who ticks when.
                self.suppressed = 0;
            }
            self.window.expire(hit.time_ms.saturating_sub(program.timespan_ms));
            self.end_ms = end_ms;
        } else if hit.time_ms >= self.end_ms {
            fired.extend(self.judge(program, hit.key, self.end_ms - 1, known));
            self.window = Window::new(program, false);
            self.end_ms = end_ms;
        }
        let completes = self.window.add(hit.time_ms, hit.position, hit.base, value);
        self.last = Some(hit.position);
        if !is_sliding && *self.carry != *hit.carry {
            self.carry = hit.carry.into();
        }
        let mut is_quiet = is_sliding && completes && hit.time_ms < self.quiet_until_ms;
        if is_sliding && completes && !is_quiet {
            match self.judge(program, hit.key, hit.time_ms, known) {
                Some(found) if found.is_known && !known.contains(&hit.time_ms) => is_quiet = true,
                Some(mut found) => {
                    self.quiet_until_ms = end_ms;
                    found.carry = hit.carry.into();
                    found.suppressed = std::mem::take(&mut self.suppressed);
                    fired.push(found);
                }
                None => {}
            }
        }
        self.suppressed += u64::from(is_quiet);
        self.bytes = GROUP_BYTES + 2 * hit.key.len() + self.carry.len() + self.window.bytes();
        is_quiet
    }

    /// The match of the window as it stands, if it is one.
    fn judge(&self, program: &Program, key: &[u8], time_ms: i64, known: &[i64]) -> Option<Fired> {
        let (measure, parts) = self.window.measure(program);
        program.condition.holds(measure, parts).then(|| Fired {
            key: key.into(),
            time_ms,
            position: self.last.unwrap_or_default(),
            measure: Decimal(measure / parts),
            sample: self.window.sample(),
            carry: self.carry.clone(),
            suppressed: 0,
            is_known: known.iter().any(|other_ms| other_ms.abs_diff(time_ms) < program.timespan_ms.unsigned_abs()),
        })
    }
}

/// Which shard holds a group. Clones agree; a sender cannot foresee it.
#[derive(Clone, Debug)]
pub struct Ownership {
    hasher: RandomState,
    shards: usize,
}

impl Ownership {
    /// For a number of shards.
    pub fn new(shards: usize) -> Self {
        Self { hasher: RandomState::default(), shards: shards.max(1) }
    }

    /// The shard of a group; `correlation` stands for what it is a group of.
    pub fn owner(&self, correlation: u64, key: &[u8]) -> usize {
        ((u128::from(self.hasher.hash_one((correlation, key))) * self.shards as u128) >> 64) as usize
    }
}

/// A shard whose newest event is older than this, while another one has newer ones, reads what is long past: an archive.
/// It does not hold up what is about now.
pub const LAG_MAX_MS: i64 = 300_000;

/// One watermark from what all shards have seen.
#[derive(Clone, Debug)]
pub struct Watermark {
    /// The newest event time by shard, and whether it is idle.
    shards: Vec<(Option<i64>, bool)>,
    lateness_ms: i64,
    value_ms: i64,
}

impl Watermark {
    /// An event may be `lateness_ms` older than the newest one of its shard.
    pub fn new(shards: usize, lateness_ms: i64) -> Self {
        Self { shards: vec![(None, false); shards], lateness_ms, value_ms: i64::MIN }
    }

    /// A shard saw an event of this time.
    pub fn observe(&mut self, shard: usize, time_ms: i64) {
        if let Some((newest, is_idle)) = self.shards.get_mut(shard) {
            *newest = Some(newest.map_or(time_ms, |newest| newest.max(time_ms)));
            *is_idle = false;
        }
    }

    /// A shard has nothing to read; it does not hold the others up until it sees something again.
    pub fn idle(&mut self, shard: usize) {
        if let Some((_, is_idle)) = self.shards.get_mut(shard) {
            *is_idle = true;
        }
    }

    /// The time that [`Self::value`] said last.
    pub fn last_ms(&self) -> i64 {
        self.value_ms
    }

    /// The time up to which everything has arrived; it never goes back. While all shards are idle, `idle_ms` counts: the
    /// newest event time and how long ago it came, so that what is long past is not late because of a pause.
    pub fn value(&mut self, clock_ms: i64, idle_ms: i64) -> i64 {
        let busy = || self.shards.iter().filter(|(_, is_idle)| !is_idle).map(|(newest, _)| *newest);
        let is_of_now = |newest: &Option<i64>| newest.is_none_or(|newest| newest >= clock_ms.saturating_sub(LAG_MAX_MS));
        let has_live = busy().any(|newest| newest.is_some() && is_of_now(&newest));
        let slowest = busy().filter(|newest| !has_live || is_of_now(newest)).map(|newest| newest.unwrap_or(i64::MIN)).min();
        let reached = slowest.unwrap_or(idle_ms).saturating_sub(self.lateness_ms).saturating_sub(1);
        self.value_ms = self.value_ms.max(reached);
        self.value_ms
    }
}

#[cfg(test)]
mod tests;
