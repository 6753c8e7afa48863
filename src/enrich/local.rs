//! An enricher in a plan that sends nothing: a look at events of the past tells nobody that somebody looks.
//!
//! What was loaded when the plan was made is looked up: files, and lists that were fetched before. Nothing is refreshed, so no
//! list is fetched; what has to ask others first ([`Enricher::lacks`]) is not bound, so nobody is asked.

use std::ops::Range;

use super::{Bound, Enricher, Lookup, Refresh};
use crate::event::{Chunk, Events, Fields};
use crate::metrics::Registry;

/// Another enricher, cut off.
pub struct Local(pub Box<dyn Enricher>);

impl Enricher for Local {
    fn lookups(&self) -> &[Lookup] {
        self.0.lookups()
    }

    fn refresh(&self) -> Refresh {
        Refresh::Unchanged
    }

    fn lacks(&self) -> Option<&'static str> {
        self.0.lacks()
    }

    fn observe(&self, registry: &Registry, name: &str) {
        self.0.observe(registry, name);
    }

    fn bind(&self, fields: &Fields) -> Box<dyn Bound> {
        if self.lacks().is_some() { Box::new(Nothing) } else { self.0.bind(fields) }
    }
}

/// Adds nothing.
struct Nothing;

impl Bound for Nothing {
    fn enrich(&mut self, _: &Chunk, _: Range<usize>, _: &mut Events) -> u64 {
        0
    }
}
