//! What programs cost: each is timed on one event in [`EVERY`].
//!
//! In: how long looking at a program took, lazy passes included that it was the first to need. What all programs share
//! (passes that run for every event) is nobody's. Reading the clock of a thread is a system call of some 200 ns, so this
//! costs a few ns an event.

use crate::matcher::ProgramId;

/// A prime, so that it does not fall in step with what a sender repeats.
pub const EVERY: u32 = 509;

/// Costs by program.
#[derive(Debug, Default)]
pub(super) struct Costs {
    ns: Vec<u64>,
    /// Programs that have some.
    touched: Vec<u32>,
}

impl Costs {
    pub(super) fn new(programs: usize) -> Self {
        Self { ns: vec![0; programs], touched: Vec::new() }
    }

    pub(super) fn add(&mut self, program: u32, ns: u64) {
        let sum = &mut self.ns[program as usize];
        if *sum == 0 && ns > 0 {
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
