//! The texts of the current event, each unescaped and folded at most once.
//!
//! Several passes and questions look at one slot, or at the raw event. What they share is kept until the next event: the
//! text without JSON escapes, and its folded form. Members of lists are not kept.

use crate::event::{Event, SlotId, Span, Value};
use crate::json;
use crate::matcher::member::any_scalar;
use crate::matcher::text::{fold_from, fold_into, fold_onto};

/// Where the raw event is among the texts, and the raw event without JSON escapes; the slots come behind.
const RAW: usize = 0;
const UNESCAPED_RAW: usize = 1;
const SLOTS: usize = 2;

/// Texts, those of slots by slot. Stamped with the number of the event, so that nothing is cleared between events.
#[derive(Debug, Default)]
pub(super) struct Texts {
    stamp: u32,
    known: Vec<Known>,
    /// What the spans are of.
    bytes: Vec<u8>,
    /// For members of lists.
    unescaped: Vec<u8>,
    /// For these too.
    folded: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    stamp: u32,
    /// Empty unless the value had escapes.
    unescaped: Span,
    folded: Span,
}

impl Texts {
    /// Forgets the last event.
    pub(super) fn begin(&mut self, stamp: u32) {
        self.stamp = stamp;
        self.bytes.clear();
    }

    /// Forgets all stamps.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }

    /// Whether `visit` says yes to a text of a slot, given without escapes and folded; stops at the first. A list has
    /// those of its members.
    pub(super) fn any(&mut self, event: Event<'_>, slot: SlotId, visit: &mut impl FnMut(&[u8], &[u8]) -> bool) -> bool {
        let value = event.value(slot);
        match value {
            Value::Missing | Value::Null | Value::Object(_) => false,
            Value::Array(_) => {
                let Self { unescaped, folded, .. } = self;
                any_scalar(value, unescaped, &mut |scalar| {
                    scalar.text().is_some_and(|text| {
                        fold_into(text, folded);
                        visit(text, folded)
                    })
                })
            }
            Value::Boolean(true) => visit(b"true", b"true"),
            Value::Boolean(false) => visit(b"false", b"false"),
            Value::Number(text) | Value::Text(text) => {
                let known = self.know(SLOTS + slot.index(), value);
                visit(text, known.folded.of(&self.bytes))
            }
            Value::Escaped(_) => {
                let known = self.know(SLOTS + slot.index(), value);
                visit(known.unescaped.of(&self.bytes), known.folded.of(&self.bytes))
            }
        }
    }

    /// Whether `visit` says yes to a form of the raw event, given also folded: as it came, or without JSON escapes if it has
    /// any. In the latter stands every text of a JSON event as it is meant.
    pub(super) fn any_of_raw(&mut self, event: Event<'_>, visit: &mut impl FnMut(&[u8], &[u8]) -> bool) -> bool {
        let (raw, folded) = self.raw(event);
        visit(raw, folded)
            || memchr::memchr(b'\\', raw).is_some() && {
                let (text, folded) = self.unescaped_raw(event);
                visit(text, folded)
            }
    }

    /// The raw event as it came, also folded.
    pub(super) fn raw<'a>(&'a mut self, event: Event<'a>) -> (&'a [u8], &'a [u8]) {
        let known = self.know(RAW, Value::Text(event.raw()));
        (event.raw(), known.folded.of(&self.bytes))
    }

    /// The raw event without JSON escapes, also folded.
    pub(super) fn unescaped_raw(&mut self, event: Event<'_>) -> (&[u8], &[u8]) {
        let known = self.know(UNESCAPED_RAW, Value::Escaped(event.raw()));
        (known.unescaped.of(&self.bytes), known.folded.of(&self.bytes))
    }

    #[inline]
    fn know(&mut self, index: usize, value: Value<'_>) -> Known {
        match self.known.get(index) {
            Some(known) if known.stamp == self.stamp => *known,
            _ => self.learn(index, value),
        }
    }

    #[inline(never)]
    fn learn(&mut self, index: usize, value: Value<'_>) -> Known {
        if index >= self.known.len() {
            self.known.resize(index + 1, Known::default());
        }
        let bytes = &mut self.bytes;
        let mut known = Known { stamp: self.stamp, ..Known::default() };
        let mut start = bytes.len();
        match value {
            Value::Escaped(escaped) => {
                json::unescape(escaped, bytes);
                known.unescaped = Span::new(start, bytes.len());
                bytes.extend_from_within(start..);
                start = known.unescaped.end as usize;
                fold_from(start, bytes);
            }
            Value::Number(text) | Value::Text(text) => fold_onto(text, bytes),
            _ => {}
        }
        known.folded = Span::new(start, bytes.len());
        self.known[index] = known;
        known
    }
}
