//! What programs cost: each is timed on one event in so many, in a run one in [`EVERY`].
//!
//! In: how long looking at a program took, lazy passes included that it was the first to need, and how long that took which
//! all programs share (passes that run for every event, the index). Reading the clock of a thread is a system call of some
//! hundred ns, and is in every measurement once: what it takes is found out at the start and again at every measured event,
//! under the conditions of that event, and its mean is taken off.

use crate::clock::thread_cpu_ns;
use crate::matcher::ProgramId;

/// A prime, so that it does not fall in step with what a sender repeats. Few enough measurements that they cost a few ns an
/// event.
pub const EVERY: u32 = 509;

/// Readings of the clock at the start, whose median stands for all of them.
const CLOCK_READINGS: usize = 31;

/// A later reading that takes so many times as long was interrupted, and counts as one that did not take longer.
const CLOCK_SLOWEST: u64 = 4;

/// What something cost on the events that were measured, as an estimate for all events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// CPU time in ns.
    pub ns: u64,
    /// How often it was looked at.
    pub looks: u64,
}

/// Measurements, each with one reading of the clock in it.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    ns: u64,
    looks: u64,
}

impl Measured {
    fn add(&mut self, ns: u64) {
        self.ns += ns;
        self.looks += 1;
    }

    /// The cost on all events; where something was done, however little, it is not nothing.
    fn cost(self, every: u32, clock: Self) -> Cost {
        let clock_ns = u128::from(self.looks) * u128::from(clock.ns) / u128::from(clock.looks.max(1));
        let ns = self.ns.saturating_sub(u64::try_from(clock_ns).unwrap_or(u64::MAX)).max(self.looks.min(1));
        Cost { ns: ns * u64::from(every), looks: self.looks * u64::from(every) }
    }
}

/// Costs by program.
#[derive(Debug)]
pub(super) struct Costs {
    every: u32,
    programs: Vec<Measured>,
    /// What belongs to no program.
    shared: Measured,
    /// Readings of the clock, with nothing between them.
    clock: Measured,
    /// As long as one of these may take.
    clock_max_ns: u64,
    /// Programs that have some.
    touched: Vec<u32>,
}

impl Costs {
    pub(super) fn new(programs: usize) -> Self {
        let mut readings = [0; CLOCK_READINGS].map(|_: u64| reading_ns());
        readings.sort_unstable();
        let median_ns = readings[CLOCK_READINGS / 2];
        let clock = Measured { ns: median_ns * CLOCK_READINGS as u64, looks: CLOCK_READINGS as u64 };
        let (programs, clock_max_ns) = (vec![Measured::default(); programs], CLOCK_SLOWEST * median_ns);
        Self { every: EVERY, programs, shared: Measured::default(), clock, clock_max_ns, touched: Vec::new() }
    }

    /// Has one event in so many measured from now on; 0 counts as 1.
    pub(super) fn measure_every(&mut self, every: u32) {
        self.every = every.max(1);
    }

    /// When the event with this number is measured: now, in ns.
    pub(super) fn begin(&mut self, event: u32) -> Option<u64> {
        event.is_multiple_of(self.every).then(|| {
            self.clock.add(reading_ns().min(self.clock_max_ns));
            thread_cpu_ns()
        })
    }

    /// What programs share was done since `since_ns`.
    pub(super) fn add_shared(&mut self, since_ns: u64) {
        self.shared.add(thread_cpu_ns().saturating_sub(since_ns));
    }

    /// A program was looked at since `since_ns`.
    pub(super) fn add(&mut self, program: u32, since_ns: u64) {
        let measured = &mut self.programs[program as usize];
        if measured.looks == 0 {
            self.touched.push(program);
        }
        measured.add(thread_cpu_ns().saturating_sub(since_ns));
    }

    /// Calls `of` with every program that was looked at, and gives what belongs to none of them.
    pub(super) fn take(&mut self, mut of: impl FnMut(ProgramId, Cost)) -> Cost {
        let Self { every, programs, shared, clock, touched, .. } = self;
        for program in touched.drain(..) {
            of(ProgramId(program), std::mem::take(&mut programs[program as usize]).cost(*every, *clock));
        }
        std::mem::take(shared).cost(*every, *clock)
    }
}

/// What a reading of the clock takes now.
fn reading_ns() -> u64 {
    let since_ns = thread_cpu_ns();
    thread_cpu_ns().saturating_sub(since_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_clock_takes_is_taken_off_and_the_rest_stands_for_all_events() {
        let clock = Measured { ns: 600, looks: 3 };
        let cost = |ns, looks, every| Measured { ns, looks }.cost(every, clock);
        assert_eq!(cost(1_000, 4, 1), Cost { ns: 200, looks: 4 });
        assert_eq!(cost(1_000, 4, 10), Cost { ns: 2_000, looks: 40 });
        assert_eq!(cost(700, 4, 10), Cost { ns: 10, looks: 40 }, "a look is never free");
        assert_eq!(cost(0, 0, 10), Cost::default());
        let never = Measured::default();
        assert_eq!(Measured { ns: 5, looks: 1 }.cost(1, never), Cost { ns: 5, looks: 1 });
    }

    #[test]
    fn one_event_in_so_many_is_measured() {
        let mut costs = Costs::new(2);
        let measured = |costs: &mut Costs| (1..=1018).filter(|event| costs.begin(*event).is_some()).count();
        assert_eq!(measured(&mut costs), 2);
        costs.measure_every(1);
        assert_eq!(measured(&mut costs), 1018);
        costs.measure_every(0);
        let since_ns = costs.begin(7).unwrap();
        costs.add_shared(since_ns);
        costs.add(1, since_ns);
        costs.add(1, since_ns);
        let mut taken = Vec::new();
        let shared = costs.take(|program, cost| taken.push((program, cost.looks, cost.ns > 0)));
        assert_eq!((taken, shared.looks), (vec![(ProgramId(1), 2, true)], 1));
        assert_eq!(costs.take(|program, _| panic!("{program:?} was taken")), Cost::default());
    }
}
