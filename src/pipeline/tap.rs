//! A look at live events: `rows of a chunk -> JSON lines for those who watch`.
//!
//! Nothing is done while nobody watches: one relaxed load a chunk. A watcher gets a sample, at most
//! [`ROWS_PER_S`] rows a second, through a bounded queue; what does not fit is skipped and counted in the next
//! line (`skipped`). A shard never waits here: if another shard is at it, the chunk is not looked at.
//!
//! A line is an object: `source`, `decoder`, `@timestamp`, `received`, `peer`, `position`, `to` (names of sinks), `rule` (if
//! it is an alert), `flaw`, `fields` (those that the plan fills, no more), `raw`, and `raw_base64` if the bytes
//! are not UTF-8.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::clock;
use crate::encode::body::Context;
use crate::encode::template::write_value;
use crate::event::{Chunk, Events, Value};
use crate::json;

/// Watchers at a time: each costs the shards time.
pub const WATCHERS_MAX: usize = 8;

/// Rows that one watcher gets in a second: more than anybody reads, less than 1 % of a core.
pub const ROWS_PER_S: u32 = 500;

/// Rows of one chunk for one watcher: the sample is spread over chunks.
const ROWS_PER_CHUNK: usize = 32;

/// Lines that wait for a watcher who reads slowly.
const QUEUE_LINES: usize = 1024;

/// What a watcher wants to see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Index of the source.
    pub source: Option<u16>,
    /// Index of the sink.
    pub sink: Option<usize>,
}

/// Those who watch.
#[derive(Debug, Default)]
pub struct Taps {
    /// Length of the list, to be read without its lock.
    count: AtomicUsize,
    list: Mutex<Vec<Watcher>>,
}

#[derive(Debug)]
struct Watcher {
    filter: Filter,
    lines: mpsc::Sender<Bytes>,
    skipped: u64,
    allowed: f64,
    since: Instant,
}

/// The rows of a chunk, decoded and routed.
#[derive(Clone, Copy)]
pub struct Routed<'a> {
    /// The chunk.
    pub chunk: &'a Chunk,
    /// Its rows, alerts behind the events.
    pub events: &'a Events,
    /// One bit a destination, by row.
    pub masks: &'a [u64],
    /// Names of the destinations.
    pub sinks: &'a [&'a str],
    /// The fields of the source's plan.
    pub context: &'a Context,
    /// Name of the decoder of a frame.
    pub decoder: &'a dyn Fn(usize) -> &'static str,
}

impl Taps {
    /// A new watcher; `None` if there are [`WATCHERS_MAX`] already. He leaves by dropping the receiver.
    pub fn watch(&self, filter: Filter) -> Option<mpsc::Receiver<Bytes>> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|watcher| !watcher.lines.is_closed());
        if list.len() >= WATCHERS_MAX {
            return None;
        }
        let (lines, receiver) = mpsc::channel(QUEUE_LINES);
        list.push(Watcher { filter, lines, skipped: 0, allowed: f64::from(ROWS_PER_S), since: Instant::now() });
        self.count.store(list.len(), Ordering::Relaxed);
        Some(receiver)
    }

    /// Ends every watcher's stream.
    pub fn close(&self) {
        self.list.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.count.store(0, Ordering::Relaxed);
    }

    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Shows a chunk to those who watch.
    pub fn show(&self, routed: Routed<'_>) {
        let Ok(mut list) = self.list.try_lock() else { return };
        list.retain_mut(|watcher| {
            watcher.show(routed);
            !watcher.lines.is_closed()
        });
        self.count.store(list.len(), Ordering::Relaxed);
    }
}

impl Watcher {
    fn show(&mut self, routed: Routed<'_>) {
        if self.filter.source.is_some_and(|source| source != routed.chunk.sender.source_index) {
            return;
        }
        let has = |mask: u64| self.filter.sink.is_none_or(|sink| mask >> sink & 1 == 1);
        let rows: Vec<usize> = (0..routed.events.len()).filter(|row| has(routed.masks[*row])).collect();
        let now = Instant::now();
        let rate = f64::from(ROWS_PER_S);
        self.allowed = (self.allowed + (now - self.since).as_secs_f64() * rate).min(rate);
        self.since = now;
        let count = rows.len().min(ROWS_PER_CHUNK).min(self.allowed as usize).min(self.lines.capacity());
        self.allowed -= count as f64;
        self.skipped += (rows.len() - count) as u64;
        for index in 0..count {
            // Evenly spread over the chunk, the last row included: alerts stand there.
            let row = rows[rows.len() - 1 - (count - 1 - index) * rows.len() / count];
            let mut line = Vec::new();
            routed.write(row, self.skipped, &mut line);
            match self.lines.try_send(line.into()) {
                Ok(()) => self.skipped = 0,
                Err(_) => self.skipped += 1,
            }
        }
    }
}

impl Routed<'_> {
    /// Appends a row as one line.
    fn write(&self, row: usize, skipped: u64, out: &mut Vec<u8>) {
        let event = self.events.event(self.chunk, row);
        let frame = event.frame as usize;
        let text = |key: &str, value: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(key.as_bytes());
            json::write_string(value.as_bytes(), out);
        };
        text("{\"source\":", &self.chunk.sender.source, out);
        text(",\"decoder\":", (self.decoder)(frame), out);
        for (key, ms) in [("@timestamp", event.time_ms), ("received", self.chunk.received_ms)] {
            out.extend_from_slice(format!(",\"{key}\":\"").as_bytes());
            clock::write_rfc3339(ms, out);
            out.push(b'"');
        }
        if let Some(peer) = self.chunk.peer(frame) {
            text(",\"peer\":", &peer.to_string(), out);
        }
        text(",\"position\":", &self.chunk.position.plus(frame).to_string(), out);
        out.extend_from_slice(b",\"to\":");
        let to = self.sinks.iter().enumerate().filter(|(sink, _)| self.masks[row] >> sink & 1 == 1);
        write_list(b'[', b']', to, out, |(_, name), out| json::write_string(name.as_bytes(), out));
        if let Some(rule) = event.alert {
            out.extend_from_slice(b",\"rule\":");
            out.extend_from_slice(self.context.rules.get(rule as usize).map_or(b"null", |rule| rule.as_bytes()));
        }
        if let Some(flaw) = event.flaw {
            text(",\"flaw\":", flaw.name(), out);
        }
        out.extend_from_slice(b",\"fields\":");
        let fields = self.context.fields.iter().map(|(slot, name)| (name, event.value(slot)));
        write_list(b'{', b'}', fields.filter(|(_, value)| *value != Value::Missing), out, |(name, value), out| {
            json::write_string(name.as_bytes(), out);
            out.push(b':');
            write_value(value, out);
        });
        out.extend_from_slice(b",\"raw\":");
        json::write_string(event.raw(), out);
        if simdutf8::basic::from_utf8(event.raw()).is_err() {
            text(",\"raw_base64\":", &STANDARD.encode(event.raw()), out);
        }
        if skipped > 0 {
            out.extend_from_slice(format!(",\"skipped\":{skipped}").as_bytes());
        }
        out.extend_from_slice(b"}\n");
    }
}

fn write_list<T>(open: u8, close: u8, items: impl Iterator<Item = T>, out: &mut Vec<u8>, mut write: impl FnMut(T, &mut Vec<u8>)) {
    out.push(open);
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(close);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Fields, Kind, Sender, Span};

    fn show(taps: &Taps, frames: usize, mask: u64) {
        let sender = Arc::new(Sender { source: "fw".into(), source_index: 1 });
        let spans = (0..frames).map(|index| Span::new(index, index + 1)).collect();
        let chunk = Chunk::new(vec![b'x'; frames], spans, sender, 0);
        let mut context = Context::default();
        let slot = context.fields.slot("a");
        context.fields = Fields::clone(&context.fields);
        let mut events = Events::default();
        events.reset(&chunk, 1);
        events.fill(slot, Kind::Number, b"7");
        taps.show(Routed {
            chunk: &chunk,
            events: &events,
            masks: &vec![mask; frames],
            sinks: &["one", "two"],
            context: &context,
            decoder: &|_| "json",
        });
    }

    #[test]
    fn a_watcher_sees_the_rows_of_his_source_and_sink() {
        let taps = Taps::default();
        assert!(!taps.is_watched());
        let mut two = taps.watch(Filter { source: Some(1), sink: Some(1) }).unwrap();
        let mut other = taps.watch(Filter { source: Some(0), sink: None }).unwrap();
        show(&taps, 1, 0b01);
        show(&taps, 1, 0b10);
        let line = two.try_recv().unwrap();
        let expected = "{\"source\":\"fw\",\"decoder\":\"json\",\"@timestamp\":\"1970-01-01T00:00:00.000Z\",\"received\":\"1970-01-01T00:00:00.000Z\",\
                        \"position\":\"0:0\",\"to\":[\"two\"],\"fields\":{\"a\":7},\"raw\":\"x\"}\n";
        assert_eq!(line, expected);
        assert!(two.try_recv().is_err() && other.try_recv().is_err());
    }

    #[test]
    fn what_a_watcher_does_not_get_is_counted_and_nobody_waits() {
        let taps = Taps::default();
        let mut all = taps.watch(Filter::default()).unwrap();
        for _ in 0..100 {
            show(&taps, 1000, 1);
        }
        let (mut seen, mut skipped) = (0u64, 0);
        while let Ok(line) = all.try_recv() {
            let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
            skipped += line.get("skipped").and_then(serde_json::Value::as_u64).unwrap_or(0);
            seen += 1;
        }
        assert!(seen >= 500 && seen < 2 * QUEUE_LINES as u64, "{seen} lines");
        // The rows behind the last line are told with the next one.
        assert!(seen + skipped <= 100_000 && skipped > 0);
    }

    #[test]
    fn watchers_are_bounded_and_leave_by_dropping() {
        let taps = Taps::default();
        let all: Vec<_> = (0..WATCHERS_MAX).map(|_| taps.watch(Filter::default()).unwrap()).collect();
        assert!(taps.watch(Filter::default()).is_none());
        drop(all);
        show(&taps, 1, 1);
        assert!(!taps.is_watched() && taps.watch(Filter::default()).is_some());
    }
}
