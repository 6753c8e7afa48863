//! What programs cost: each is timed on one event in [`EVERY`].
//!
//! In: how long looking at a program took, lazy passes included that it was the first to need. What all programs share
//! (passes that run for every event) is nobody's. Reading the clock of a thread is a system call of some hundred ns: few
//! enough measurements that it costs a few ns an event, and what it takes itself is taken off.

use crate::clock::thread_cpu_ns;
use crate::matcher::ProgramId;

/// A prime, so that it does not fall in step with what a sender repeats.
pub const EVERY: u32 = 509;

/// Readings of the clock to find out what one takes.
const CLOCK_READINGS: usize = 32;

/// Costs by program.
#[derive(Debug, Default)]
pub(super) struct Costs {
    ns: Vec<u64>,
    /// What reading the clock takes.
    clock_ns: u64,
    /// Programs that have some.
    touched: Vec<u32>,
}

impl Costs {
    pub(super) fn new(programs: usize) -> Self {
        let reading = |_| {
            let since_ns = thread_cpu_ns();
            thread_cpu_ns().saturating_sub(since_ns)
        };
        let clock_ns = (0..CLOCK_READINGS).map(reading).min().unwrap_or(0);
        Self { ns: vec![0; programs], clock_ns, touched: Vec::new() }
    }

    /// A measurement of a program, with one reading of the clock in it.
    pub(super) fn add(&mut self, program: u32, ns: u64) {
        // Something was done, however little.
        let ns = ns.saturating_sub(self.clock_ns).max(1);
        let sum = &mut self.ns[program as usize];
        if *sum == 0 {
            self.touched.push(program);
        }
        *sum += ns;
    }

    /// Calls `of` with every program that was looked at, and the ns that it is estimated to have taken on all events.
    pub(super) fn take(&mut self, mut of: impl FnMut(ProgramId, u64)) {
        for program in self.touched.drain(..) {
            of(ProgramId(program), std::mem::take(&mut self.ns[program as usize]) * u64::from(EVERY));
        }
    }
}
