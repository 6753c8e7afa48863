//! What a shard does for correlation: hits out of rules' hits; and our own alerts, which come as frames, into rows.

use std::sync::Arc;

use super::Shard;
use crate::encode::body::OWN_ALERT_FIELDS;
use crate::event::{AlertKey, Chunk, Kind, Sender, Slot, SlotId, Value};
use crate::json;
use crate::pipeline::correlation::Exchange;
use crate::pipeline::plan::Line;
use crate::source_health::RULE_IDS;

impl Shard {
    /// This shard's end of the exchange of hits.
    pub fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    /// Who our own alerts come from, by the name of their source.
    pub fn alerts_sender(&self, source: &str) -> Option<Arc<Sender>> {
        self.plan.alerts_sender(source)
    }

    /// Sends the hits of the chunk to the owners of their groups.
    pub(super) fn correlate(&mut self, line: &Line, index: usize, chunk: &Chunk) {
        let state = &self.lines[index];
        let mut hits = self.hits.iter().peekable();
        for (frames, decoder) in &state.runs {
            let feeds = &line.decoders[*decoder].feeds;
            while let Some(hit) = hits.next_if(|hit| (hit.row as usize) < frames.end) {
                for feed in feeds.of(hit.rule) {
                    let event = state.events.event(chunk, hit.row as usize);
                    self.exchange.add(feed, event, chunk.position.plus(hit.row as usize), chunk.received_ms);
                }
            }
        }
        self.exchange.chunk_done(state.events.newest_ms(), chunk.received_ms);
    }

    /// Makes the alert that each frame describes. The frame itself goes nowhere.
    pub(super) fn derive(&mut self, line: &Line, index: usize, chunk: &Chunk) {
        let [_, id, level, _] = OWN_ALERT_FIELDS.map(|name| line.fields.find(name));
        let state = &mut self.lines[index];
        let (events, dropped) = (&mut state.events, &mut state.transforms.scratch.counts.dropped);
        dropped.clear();
        for frame in 0..chunk.frames().len() {
            let text = |slot: Option<SlotId>| match slot.map(|slot| events.event(chunk, frame).value(slot)) {
                Some(Value::Text(text)) => String::from_utf8_lossy(text).into_owned(),
                _ => String::new(),
            };
            let (id, level) = (text(id), text(level));
            let forms = self.plan.correlation.forms.iter().map(|form| form.id.as_str());
            let known = forms.chain(RULE_IDS).position(|known| known == id);
            let rule = known.map_or(u32::MAX - 1, |known| (self.plan.rules.rules.len() + known) as u32);
            let alert = events.push_alert(frame, rule, AlertKey::rule(&id));
            let mut row = events.row_mut(chunk, alert);
            for (slot, text) in [(line.own.kind, "alert"), (line.own.level, level.as_str())] {
                if let Some(slot) = slot {
                    row.set_written(slot, Kind::Text, |out| out.extend_from_slice(text.as_bytes()));
                }
            }
            if let Some(slot) = line.own.rule_ids {
                row.set_written(slot, Kind::Array, |out| {
                    out.push(b'[');
                    json::write_string(id.as_bytes(), out);
                    out.push(b']');
                });
            }
            if let Some(slot) = line.own.alert {
                row.set(slot, Slot::new(Kind::True, 0, 0));
            }
            dropped.push(frame as u32);
            self.alerts.add(1);
        }
    }
}
