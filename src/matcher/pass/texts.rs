//! The texts of the current event, each unescaped and folded at most once.
//!
//! Several passes and questions look at one slot. What they share is kept until the next event: the value without
//! JSON escapes, and its folded form. Members of lists are not kept.

use crate::event::{Event, SlotId, Span, Value};
use crate::matcher::member::{any_scalar, unescape};
use crate::matcher::text::fold_into;

/// Texts by slot. Stamped with the number of the event, so that nothing is cleared between events.
#[derive(Debug, Default)]
pub(super) struct Texts {
    stamp: u32,
    known: Vec<Known>,
    /// What the spans are of.
    bytes: Vec<u8>,
    /// For members of lists.
    unescaped: Vec<u8>,
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
                let known = self.know(slot, value);
                visit(text, known.folded.of(&self.bytes))
            }
            Value::Escaped(_) => {
                let known = self.know(slot, value);
                visit(known.unescaped.of(&self.bytes), known.folded.of(&self.bytes))
            }
        }
    }

    fn know(&mut self, slot: SlotId, value: Value<'_>) -> Known {
        let index = slot.index();
        if index >= self.known.len() {
            self.known.resize(index + 1, Known::default());
        }
        if self.known[index].stamp == self.stamp {
            return self.known[index];
        }
        let Self { bytes, unescaped, folded, .. } = self;
        let mut keep = |text: &[u8]| {
            bytes.extend_from_slice(text);
            Span::new(bytes.len() - text.len(), bytes.len())
        };
        let mut known = Known { stamp: self.stamp, ..Known::default() };
        match value {
            Value::Escaped(escaped) => {
                unescape(escaped, unescaped);
                known.unescaped = keep(unescaped);
                fold_into(unescaped, folded);
            }
            Value::Number(text) | Value::Text(text) => fold_into(text, folded),
            _ => folded.clear(),
        }
        known.folded = keep(folded);
        self.known[index] = known;
        known
    }
}
