//! Which destinations an event goes to: `row -> one bit per destination`.
//!
//! A route's condition is VRL. Conditions that lower to the matcher share its atoms; the rest are run as
//! programs. An event goes to the union of all routes that hold; one that no route takes is filtered, and
//! counted as such for every destination.

use crate::event::{Event, Fields};
use crate::matcher::{self, Builder, Matcher, ProgramId};
use crate::vrl::{Bound, Condition, Program, Scratch as VrlScratch};

/// A route before it is compiled.
#[derive(Debug)]
pub struct Route {
    /// When it holds; `None` is always.
    pub when: Option<Condition>,
    /// One bit per destination.
    pub to: u64,
}

/// The routes of one source.
pub struct Router {
    always: u64,
    matcher: Matcher,
    /// By program of the matcher.
    native: Vec<u64>,
    programs: Vec<(Program, Bound, u64)>,
}

/// Working memory of one shard.
pub struct Scratch {
    matcher: matcher::Scratch,
    hits: Vec<ProgramId>,
    vrl: VrlScratch,
}

impl Router {
    /// Compiles routes; the fields that they need are added to `fields`. `canonical` are the names that the
    /// events can have, `resolve` says what a route's name is called in the plan.
    pub fn new(routes: &[Route], canonical: &[&str], resolve: &dyn Fn(&str) -> String, fields: &mut Fields) -> Self {
        let mut always = 0;
        let mut builder = Builder::new();
        let mut native = Vec::new();
        let mut programs = Vec::new();
        for route in routes {
            match &route.when {
                None => always |= route.to,
                Some(Condition::Native(condition)) => {
                    let slots =
                        condition.clone().map_fields(&mut |name: String| Ok::<_, std::convert::Infallible>(fields.slot(&resolve(&name))));
                    let Ok(slots) = slots;
                    builder.add(slots);
                    native.push(route.to);
                }
                Some(Condition::Program(program)) => {
                    let bound = program.bind(canonical, &mut |name| fields.slot(&resolve(name)));
                    programs.push((program.as_ref().clone(), bound, route.to));
                }
            }
        }
        Self { always, matcher: builder.build(), native, programs }
    }

    /// Working memory for one shard.
    pub fn scratch(&self) -> Scratch {
        Scratch { matcher: self.matcher.scratch(), hits: Vec::new(), vrl: VrlScratch::default() }
    }

    /// Whether every event goes the same way.
    pub fn is_unconditional(&self) -> bool {
        self.native.is_empty() && self.programs.is_empty()
    }

    /// The destinations of an event.
    pub fn route(&self, event: Event<'_>, scratch: &mut Scratch) -> u64 {
        let mut to = self.always;
        if !self.native.is_empty() {
            self.matcher.evaluate(event, &mut scratch.matcher, &mut scratch.hits);
            to |= scratch.hits.iter().fold(0, |to, hit| to | self.native[hit.0 as usize]);
        }
        for (program, bound, bits) in &self.programs {
            if to & bits != *bits && program.check(event, bound, &mut scratch.vrl) {
                to |= bits;
            }
        }
        to
    }
}
