//! Conditions and programs as a whole: lowered against VRL, lazy against full, limits and messages.

mod conditions;
mod programs;

use std::path::Path;
use std::sync::Arc;

use crate::event::{Chunk, Event, Events, Fields, Kind, Sender, SlotId, Span};

/// One event with its fields.
pub(super) struct Sample {
    chunk: Chunk,
    events: Events,
    pub(super) fields: Fields,
}

impl Sample {
    pub(super) fn new(values: &[(&str, Kind, &[u8])]) -> Self {
        let mut fields = Fields::default();
        let slots: Vec<SlotId> = values.iter().map(|(name, _, _)| fields.slot(name)).collect();
        let sender = Arc::new(Sender { source: "test".into(), source_index: 0 });
        let chunk = Chunk::new(b"raw".to_vec(), vec![Span::new(0, 3)], sender, 0);
        let mut events = Events::default();
        // Room for fields that a program makes.
        events.reset(&chunk, values.len() + 16);
        let mut row = events.row_mut(&chunk, 0);
        for (slot, (_, kind, bytes)) in slots.iter().zip(values) {
            row.set_written(*slot, *kind, |out| out.extend_from_slice(bytes));
        }
        Self { chunk, events, fields }
    }

    pub(super) fn event(&self) -> Event<'_> {
        self.events.event(&self.chunk, 0)
    }
}

pub(super) fn file() -> &'static Path {
    Path::new("hydrant.yaml")
}
