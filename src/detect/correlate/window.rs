//! What a group remembers of its window: `events in order -> measure and sample`.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::{Program, SAMPLE_MAX, Value};
use crate::detect::sigma::correlation::{Decimal, Kind, Operator};
use crate::event::Position;

/// Event time and position: the order of events.
type Instant = (i64, Position);

/// Entries of the order of values beyond twice their number that are not worth tidying up.
const REPEATED_MIN: usize = 16;

#[derive(Debug)]
pub(super) struct Window {
    content: Content,
    /// Entries that are kept; more would not change the result.
    kept_max: usize,
}

#[derive(Debug)]
enum Content {
    Events(VecDeque<Instant>),
    Values(Values),
    /// `sorted` is filled for percentiles only.
    Numbers {
        entries: VecDeque<(Instant, i128)>,
        sum: i128,
        sorted: Option<Vec<i128>>,
    },
    /// The last event of each rule.
    Rules(Box<[Option<Instant>]>),
    /// For each step the chain up to it that began last.
    Steps(Box<[Option<Chain>]>),
}

/// Each value (its hash) at the last time that it occurred.
#[derive(Debug, Default)]
struct Values {
    /// All in their order. What occurred again later is still there, until it expires or is more than half of it.
    order: VecDeque<(Instant, u64)>,
    /// Where the order has the last one of each value, counted from the first that it ever had: the table is the smaller
    /// for it, and is what misses caches.
    last: HashMap<u64, u64, RandomState>,
    /// How many have left the order in front.
    gone: u64,
}

impl Values {
    fn add(&mut self, at: Instant, value: u64, kept_max: usize) {
        self.last.insert(value, self.gone + self.order.len() as u64);
        self.order.push_back((at, value));
        while self.last.len() > kept_max && self.forget_first(|_| true) {}
        if self.order.len() > 2 * self.last.len() + REPEATED_MIN {
            self.tidy();
        }
    }

    /// Forgets the first if `is_old`; whether it was.
    fn forget_first(&mut self, is_old: impl FnOnce(Instant) -> bool) -> bool {
        let Some((_, value)) = self.order.pop_front_if(|(at, _)| is_old(*at)) else { return false };
        if let Entry::Occupied(last) = self.last.entry(value)
            && *last.get() == self.gone
        {
            last.remove();
        }
        self.gone += 1;
        true
    }

    /// Leaves out what occurred again later.
    fn tidy(&mut self) {
        let mut places = self.gone..;
        self.order.retain(|(_, value)| self.last.get(value).copied() == places.next());
        for (place, (_, value)) in (self.gone..).zip(&self.order) {
            self.last.insert(*value, place);
        }
    }

    /// The last time of each value, the newest first.
    fn newest(&self) -> impl Iterator<Item = Instant> {
        let places = self.order.iter().enumerate().rev();
        places.filter(|(place, (_, value))| self.last.get(value) == Some(&(self.gone + *place as u64))).map(|(_, (at, _))| *at)
    }

    fn bytes(&self) -> usize {
        // A table is filled to seven eighths at most, with a byte of control for each place.
        let place = size_of::<(u64, u64)>() + 1;
        self.order.capacity() * size_of::<(Instant, u64)>() + self.last.capacity() * 8 / 7 * place
    }
}

#[derive(Clone, Debug)]
struct Chain {
    start_ms: i64,
    positions: Vec<Position>,
}

impl Window {
    pub(super) fn new(program: &Program, is_sliding: bool) -> Self {
        let content = match program.kind {
            Kind::EventCount => Content::Events(VecDeque::new()),
            Kind::ValueCount => Content::Values(Values::default()),
            Kind::ValueSum | Kind::ValueAvg => Content::Numbers { entries: VecDeque::new(), sum: 0, sorted: None },
            Kind::ValuePercentile => Content::Numbers { entries: VecDeque::new(), sum: 0, sorted: Some(Vec::new()) },
            Kind::Temporal => Content::Rules(vec![None; program.rule_count].into()),
            Kind::TemporalOrdered => Content::Steps(vec![None; program.rule_count].into()),
        };
        Self { content, kept_max: if is_sliding { needed(program) } else { usize::MAX } }
    }

    /// Forgets what is not younger than `until_ms`.
    pub(super) fn expire(&mut self, until_ms: i64) {
        match &mut self.content {
            Content::Events(events) => {
                while events.front().is_some_and(|event| event.0 <= until_ms) {
                    events.pop_front();
                }
            }
            Content::Values(values) => while values.forget_first(|at| at.0 <= until_ms) {},
            Content::Numbers { entries, sum, sorted } => {
                while let Some((_, number)) = entries.pop_front_if(|(at, _)| at.0 <= until_ms) {
                    *sum -= number;
                    if let Some(sorted) = sorted
                        && let Ok(place) = sorted.binary_search(&number)
                    {
                        sorted.remove(place);
                    }
                }
            }
            Content::Rules(last) => last.iter_mut().filter(|last| last.is_some_and(|at| at.0 <= until_ms)).for_each(|last| *last = None),
            Content::Steps(steps) => {
                let is_old = |chain: &Option<Chain>| chain.as_ref().is_some_and(|chain| chain.start_ms <= until_ms);
                steps.iter_mut().filter(|chain| is_old(chain)).for_each(|chain| *chain = None);
            }
        }
    }

    /// Adds the next event; whether it may complete a match.
    pub(super) fn add(&mut self, time_ms: i64, position: Position, base: u8, value: Value) -> bool {
        let at = (time_ms, position);
        match (&mut self.content, value) {
            (Content::Events(events), _) => {
                events.push_back(at);
                if events.len() > self.kept_max {
                    events.pop_front();
                }
            }
            (Content::Values(values), Value::Distinct(value)) => values.add(at, value, self.kept_max),
            (Content::Numbers { entries, sum, sorted }, Value::Number(number)) => {
                entries.push_back((at, number));
                *sum += number;
                if let Some(sorted) = sorted {
                    sorted.insert(sorted.partition_point(|other| *other < number), number);
                }
            }
            (Content::Rules(last), _) => {
                if let Some(last) = last.get_mut(usize::from(base)) {
                    *last = Some(at);
                }
            }
            (Content::Steps(steps), _) => return step(steps, usize::from(base), at),
            (Content::Values(_) | Content::Numbers { .. }, _) => return false,
        }
        true
    }

    /// The measure in millionths, as a fraction.
    pub(super) fn measure(&self, program: &Program) -> (i128, i128) {
        let count = |count: usize| (Decimal::whole(count as u64).0, 1);
        match &self.content {
            Content::Events(events) => count(events.len()),
            Content::Values(values) => count(values.last.len()),
            Content::Numbers { sorted: Some(sorted), .. } => percentile(sorted, usize::from(program.condition.percentile)),
            Content::Numbers { entries, sum, .. } if program.kind == Kind::ValueAvg => (*sum, entries.len().max(1) as i128),
            Content::Numbers { sum, .. } => (*sum, 1),
            Content::Rules(last) => count(last.iter().flatten().count()),
            Content::Steps(steps) => count(if steps.last().is_some_and(Option::is_some) { steps.len() } else { 0 }),
        }
    }

    /// The newest events, oldest first.
    pub(super) fn sample(&self) -> Vec<Position> {
        let mut sample: Vec<Position> = match &self.content {
            Content::Events(events) => events.iter().rev().take(SAMPLE_MAX).map(|at| at.1).collect(),
            Content::Values(values) => values.newest().take(SAMPLE_MAX).map(|at| at.1).collect(),
            Content::Numbers { entries, .. } => entries.iter().rev().take(SAMPLE_MAX).map(|(at, _)| at.1).collect(),
            Content::Rules(last) => {
                let mut events: Vec<Instant> = last.iter().flatten().copied().collect();
                events.sort_unstable_by(|a, b| b.cmp(a));
                events.dedup();
                events.iter().take(SAMPLE_MAX).map(|at| at.1).collect()
            }
            Content::Steps(steps) => {
                let chain = steps.last().and_then(Option::as_ref);
                chain.into_iter().flat_map(|chain| chain.positions.iter().rev().take(SAMPLE_MAX)).copied().collect()
            }
        };
        sample.reverse();
        sample
    }

    /// What it holds, about.
    pub(super) fn bytes(&self) -> usize {
        match &self.content {
            Content::Events(events) => events.capacity() * size_of::<Instant>(),
            Content::Values(values) => values.bytes(),
            Content::Numbers { entries, sorted, .. } => {
                entries.capacity() * size_of::<(Instant, i128)>() + sorted.as_ref().map_or(0, Vec::capacity) * size_of::<i128>()
            }
            Content::Rules(last) => size_of_val(&**last),
            Content::Steps(steps) => {
                let positions = steps.iter().flatten().map(|chain| chain.positions.capacity()).sum::<usize>();
                size_of_val(&**steps) + positions * size_of::<Position>()
            }
        }
    }
}

/// How many entries a lower limit on a count needs.
fn needed(program: &Program) -> usize {
    let least = |(operator, limit): &(Operator, Decimal)| limit.0 / Decimal::ONE + i128::from(*operator == Operator::Gt);
    let least = program.condition.criteria.iter().map(least).max().unwrap_or(1);
    usize::try_from(least.max(1)).unwrap_or(usize::MAX)
}

/// Extends the chain of the step before; the one that began last stays in the window longest.
fn step(steps: &mut [Option<Chain>], base: usize, at: Instant) -> bool {
    let extended = match base.checked_sub(1) {
        None => Some(Chain { start_ms: at.0, positions: vec![at.1] }),
        Some(before) => steps.get(before).cloned().flatten().map(|mut chain| {
            chain.positions.push(at.1);
            chain
        }),
    };
    let is_last = base + 1 == steps.len();
    match (steps.get_mut(base), extended) {
        (Some(place), Some(extended)) => {
            *place = Some(extended);
            is_last
        }
        _ => false,
    }
}

/// Between two numbers is interpolated, exactly.
fn percentile(sorted: &[i128], percentile: usize) -> (i128, i128) {
    let rank = percentile * sorted.len().saturating_sub(1);
    let at = |index: usize| sorted.get(index).or_else(|| sorted.last()).copied().unwrap_or_default();
    let part = (rank % 100) as i128;
    (at(rank / 100) * (100 - part) + at(rank / 100 + 1) * part, 100)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However often values come again, so that their order is tidied up, and whatever expires.
        #[test]
        fn the_last_time_of_each_value_is_kept(
            steps in prop::collection::vec(0..6_u64, 0..300),
            lifetime_ms in 0..60_i64,
            kept_max in 1..8_usize,
        ) {
            let (mut values, mut all) = (Values::default(), Vec::<(Instant, u64)>::new());
            for (value, sequence) in steps.into_iter().zip(0..) {
                let now_ms = sequence as i64 / 4;
                while values.forget_first(|at| at.0 <= now_ms - lifetime_ms) {}
                all.retain(|(at, _)| at.0 > now_ms - lifetime_ms);
                let at = (now_ms, Position { epoch: 1, sequence });
                values.add(at, value, kept_max);
                all.retain(|(_, other)| *other != value);
                all.push((at, value));
                all.drain(..all.len().saturating_sub(kept_max));
                prop_assert_eq!(values.newest().collect::<Vec<_>>(), all.iter().rev().map(|(at, _)| *at).collect::<Vec<_>>());
                prop_assert_eq!(values.last.len(), all.len());
                prop_assert!(values.order.len() <= 2 * all.len() + REPEATED_MIN);
            }
        }
    }
}
