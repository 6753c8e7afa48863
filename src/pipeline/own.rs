//! What the pipeline itself says of the events of a chunk, once they are decoded: what is no UTF-8, and the fields under
//! `%hydrant` that are known before anybody has looked at the event.

use std::ops::Range;

use crate::event::{Chunk, Events, Flaw, Kind, OriginField};
use crate::pipeline::plan::OwnSlots;

/// Gives rows whose frame is no UTF-8 that flaw, unless they have another.
pub(super) fn note_encoding(chunk: &Chunk, events: &mut Events) {
    if simdutf8::basic::from_utf8(chunk.bytes()).is_ok() {
        return;
    }
    for frame in 0..chunk.frames().len() {
        if simdutf8::basic::from_utf8(chunk.frame(frame)).is_err() {
            events.row_mut(chunk, frame).set_flaw(Flaw::NotUtf8);
        }
    }
}

impl OwnSlots {
    /// Fills what somebody wants: of a source, and of runs of frames with their decoder, whose name `decoder` knows.
    pub(super) fn fill(
        &self,
        source: &str,
        chunk: &Chunk,
        runs: &[(Range<usize>, usize)],
        decoder: impl Fn(usize) -> &'static str,
        events: &mut Events,
    ) {
        for (slot, text) in [(self.source, source), (self.kind, "event")] {
            if let Some(slot) = slot {
                events.fill(slot, Kind::Text, text.as_bytes());
            }
        }
        if let Some(slot) = self.decoder {
            for (frames, number) in runs {
                events.fill_run(frames.clone(), slot, Kind::Text, decoder(*number).as_bytes());
            }
        }
        if let Some(slot) = self.peer {
            for frame in 0..chunk.frames().len() {
                if let Some(peer) = chunk.peer(frame) {
                    events.row_mut(chunk, frame).set_written(slot, Kind::Text, |out| out.extend_from_slice(peer.to_string().as_bytes()));
                }
            }
        }
        for field in OriginField::ALL {
            let Some(slot) = self.origin[field as usize] else { continue };
            let origins = chunk.origins();
            for (index, (first, origin)) in origins.iter().enumerate() {
                let end = origins.get(index + 1).map_or_else(|| chunk.frames().len(), |(next, _)| *next as usize);
                if let Some(value) = origin.value(field) {
                    events.fill_run(*first as usize..end, slot, field.kind(), value.as_bytes());
                }
            }
        }
        if let Some(slot) = self.flaw {
            for frame in 0..chunk.frames().len() {
                if let Some(flaw) = events.event(chunk, frame).flaw {
                    events.row_mut(chunk, frame).set_written(slot, Kind::Text, |out| out.extend_from_slice(flaw.name().as_bytes()));
                }
            }
        }
    }
}
