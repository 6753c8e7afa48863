//! What a shard does for correlation: hits out of rules' hits; and our own alerts, which come as frames, into rows.

use std::sync::Arc;

use super::alert::Texts;
use super::{Pass, Shard};
use crate::cursor::Verdict;
use crate::detect::correlate::{Match, Told};
use crate::encode::body::{DEDUPLICATION_FIELDS, OWN_ALERT_FIELDS};
use crate::error::Error;
use crate::event::{AlertKey, Chunk, Kind, Members, Sender, SlotId, Value};
use crate::json;
use crate::pipeline::correlation::{Exchange, Share};
use crate::pipeline::plan::{DecoderLine, Line, Plan};
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

    /// The number of the destination in the journal that keeps events for correlation.
    pub(super) fn keeper(&self) -> usize {
        self.sinks.len()
    }

    /// Sends the hits of the chunk, or of some of its events, to the owners of their groups.
    pub(super) fn correlate(&mut self, line: &Line, index: usize, chunk: &Chunk, only: Option<&Members>) {
        let keeps = self.journal.keeps_verdicts();
        let state = &self.lines[index];
        let mut hits = self.hits.iter().peekable();
        for (frames, decoder) in &state.runs {
            let DecoderLine { feeds, compiled, .. } = &line.decoders[*decoder];
            while let Some(hit) = hits.next_if(|hit| (hit.row as usize) < frames.end) {
                if only.is_some_and(|only| !only.has(hit.row)) {
                    continue;
                }
                let frame = hit.row as usize;
                for feed in feeds.of(hit.rule) {
                    if feed.is_deduplication() && self.silenced.contains(hit) {
                        continue;
                    }
                    let event = state.events.event(chunk, frame);
                    let until_ms = self.exchange.add(feed, event, chunk, compiled.kind().name());
                    if let Some(until_ms) = until_ms.filter(|_| keeps) {
                        self.share.get_or_insert_with(|| Share::none(chunk)).add(frame, until_ms);
                    }
                }
            }
        }
        self.exchange.chunk_done(state.events.newest_ms(), chunk.received_ms);
    }

    /// Takes note of what frames of alerts tell, so that the journal keeps it; if they are of an earlier run, tells who
    /// counts.
    pub(super) fn recall(&mut self, chunk: &Chunk, only: Option<&Members>, is_earlier: bool) {
        if !self.journal.keeps_verdicts() {
            return;
        }
        for frame in (0..chunk.frames().len()).filter(|frame| only.is_none_or(|only| only.has(*frame as u32))) {
            let share = || Share::none(chunk);
            match Told::read(chunk.frame(frame)) {
                Some(Told::Match(found)) => {
                    if let Some(until_ms) = self.exchange.recall(&found, is_earlier) {
                        self.share.get_or_insert_with(share).add(frame, until_ms);
                    }
                }
                Some(Told::Reached(reached_ms)) => {
                    if is_earlier {
                        self.exchange.recall_reached(reached_ms);
                    }
                    self.share.get_or_insert_with(share).add_reached(frame, reached_ms);
                }
                None => {}
            }
        }
        if is_earlier {
            self.exchange.chunk_done(i64::MIN, i64::MIN);
        }
    }

    /// Makes the hits again, and tells of the matches, that an earlier run had the journal keep.
    ///
    /// # Errors
    /// None that is known: nothing is encoded.
    pub fn process_kept(&mut self, chunk: &Chunk, members: Members) -> Result<(), Error> {
        self.look_at_plan();
        if usize::from(chunk.sender.source_index) >= self.plan.sources.len() {
            self.recall(chunk, Some(&members), true);
        } else {
            self.process_again(chunk, Pass::Hits(&members))?;
        }
        match self.share.take() {
            Some(mut share) => {
                share.members = members;
                self.exchange.keep(share);
            }
            // By the rules of now it is of no use.
            None => self.journal.settle(self.keeper(), 0, &[members]),
        }
        Ok(())
    }

    /// Tells the journal who gets what of a chunk, correlation among them.
    pub(super) fn decide(&mut self, chunk: &Chunk, mut verdict: Verdict) {
        if let Some(share) = self.share.take() {
            verdict.expected.push((self.keeper(), share.members.clone()));
            self.exchange.keep(share);
        }
        self.journal.decide(chunk.position, verdict);
    }

    /// Has the journal give back what correlation does not need any more.
    pub fn give_back(&mut self) {
        let due = self.exchange.take_due();
        if !due.is_empty() {
            self.journal.settle(self.keeper(), 0, &due);
        }
    }

    /// Makes the alert that each frame describes. The frame itself goes nowhere.
    pub(super) fn derive(&mut self, plan: &Plan, index: usize, chunk: &Chunk) {
        let Some(line) = plan.line(index) else { return };
        self.lines[index].transforms.scratch.counts.dropped.clear();
        for frame in 0..chunk.frames().len() {
            self.derive_one(plan, line, (index, chunk), frame);
        }
    }

    fn derive_one(&mut self, plan: &Plan, line: &Line, (index, chunk): (usize, &Chunk), frame: usize) {
        let [_, id, title, level, _] = OWN_ALERT_FIELDS.map(|name| line.fields.find(name));
        let [deduplication, _, source, decoder] = DEDUPLICATION_FIELDS.map(|name| line.fields.find(name));
        let state = &mut self.lines[index];
        let (events, dropped) = (&mut state.events, &mut state.transforms.scratch.counts.dropped);
        dropped.push(frame as u32);
        if let Some(Told::Reached(_) | Told::Match(Match { is_alert: false, .. })) = Told::read(chunk.frame(frame)) {
            return;
        }
        let text = |slot: Option<SlotId>| {
            let mut out = Vec::new();
            match slot.map(|slot| events.event(chunk, frame).value(slot)) {
                Some(Value::Text(text)) => out.extend_from_slice(text),
                // A title may have any character.
                Some(Value::Escaped(inside)) => json::unescape(inside, &mut out),
                _ => {}
            }
            String::from_utf8_lossy(&out).into_owned()
        };
        let (id, title, level) = (text(id), text(title), text(level));
        let came_through = [(line.own.source, text(source)), (line.own.decoder, text(decoder))];
        let forms = plan.correlation.forms.iter().map(|form| form.id.as_str());
        let known = forms.chain(RULE_IDS).position(|known| *known == *id);
        let rule = known.map_or(u32::MAX - 1, |known| (plan.rules.rules.len() + known) as u32);
        let alert = events.push_alert(frame, rule, AlertKey::rule(&id));
        let mut row = events.row_mut(chunk, alert);
        let texts = Texts { id: id.as_bytes(), title: title.as_bytes(), level: level.as_bytes() };
        texts.own(line.own, |slot, text| row.set_written(slot, Kind::Text, |out| out.extend_from_slice(text)));
        if let Some(slot) = line.own.rule_ids {
            row.set_written(slot, Kind::Array, |out| {
                out.push(b'[');
                json::write_string(id.as_bytes(), out);
                out.push(b']');
            });
        }
        let is_deduplicated = deduplication.is_some_and(|slot| row.value(slot) != Value::Missing);
        // Then it is the alert of an event.
        for (slot, name) in came_through.iter().filter(|_| is_deduplicated) {
            if let Some(slot) = slot {
                row.set_written(*slot, Kind::Text, |out| out.extend_from_slice(name.as_bytes()));
            }
        }
        self.mark_alert(line.own, (index, chunk), alert, true);
        // Silences were asked about the event, which has more fields than this.
        if is_deduplicated || !self.silence(plan, (index, chunk), alert) {
            self.alerts.add(1);
        }
    }
}
