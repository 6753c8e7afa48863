//! A typed span, 8 bytes, and the value it stands for.

use crate::event::Span;
use crate::limits::CHUNK_BYTES_MAX;

/// What a slot's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The event has no such field.
    Missing = 0,
    /// JSON `null`.
    Null = 1,
    /// `false`.
    False = 2,
    /// `true`.
    True = 3,
    /// A JSON number as written; nothing is rounded.
    Number = 4,
    /// Text as it is: nothing in it is escaped. Not necessarily UTF-8.
    Text = 5,
    /// The inside of a JSON string that has at least one backslash escape.
    Escaped = 6,
    /// JSON text of an array, brackets included.
    Array = 7,
    /// JSON text of an object, braces included.
    Object = 8,
}

/// Offset, length and kind of a value in a chunk's buffer or arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    offset: u32,
    len_and_kind: u32,
}

const ARENA: u32 = 1 << 31;
const KIND_BITS: u32 = 4;
const KINDS: [Kind; 9] =
    [Kind::Missing, Kind::Null, Kind::False, Kind::True, Kind::Number, Kind::Text, Kind::Escaped, Kind::Array, Kind::Object];

impl Slot {
    /// No such field.
    pub const MISSING: Self = Self { offset: 0, len_and_kind: 0 };

    /// A value at `offset` of the chunk's buffer.
    #[inline]
    pub fn new(kind: Kind, offset: usize, len: usize) -> Self {
        debug_assert!(offset <= CHUNK_BYTES_MAX && len <= CHUNK_BYTES_MAX);
        Self { offset: offset as u32, len_and_kind: (len as u32) << KIND_BITS | kind as u32 }
    }

    /// A value at `offset` of the arena.
    #[inline]
    pub fn in_arena(kind: Kind, offset: usize, len: usize) -> Self {
        let slot = Self::new(kind, offset, len);
        Self { offset: slot.offset | ARENA, ..slot }
    }

    /// The same bytes as another kind.
    #[must_use]
    #[inline]
    pub fn with_kind(self, kind: Kind) -> Self {
        Self { len_and_kind: self.len_and_kind >> KIND_BITS << KIND_BITS | kind as u32, ..self }
    }

    /// What the bytes are.
    #[inline]
    pub fn kind(self) -> Kind {
        KINDS[(self.len_and_kind & 0xf) as usize]
    }

    /// Length in bytes.
    #[inline]
    pub fn len(self) -> usize {
        (self.len_and_kind >> KIND_BITS) as usize
    }

    /// Whether it has no bytes.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether it has bytes, and all of them in a part of the buffer.
    #[inline]
    pub fn is_within(self, part: Span) -> bool {
        // What is in the arena begins behind any part.
        !self.is_empty() && self.offset >= part.start && self.offset as usize + self.len() <= part.end as usize
    }

    /// The bytes, from `buffer` or from `arena`.
    #[inline]
    pub fn bytes<'a>(self, buffer: &'a [u8], arena: &'a [u8]) -> &'a [u8] {
        let offset = (self.offset & !ARENA) as usize;
        let from = if self.offset & ARENA == 0 { buffer } else { arena };
        &from[offset..offset + self.len()]
    }

    /// The value it stands for.
    #[inline]
    pub fn value<'a>(self, buffer: &'a [u8], arena: &'a [u8]) -> Value<'a> {
        match self.kind() {
            Kind::Missing => Value::Missing,
            Kind::Null => Value::Null,
            Kind::False => Value::Boolean(false),
            Kind::True => Value::Boolean(true),
            Kind::Number => Value::Number(self.bytes(buffer, arena)),
            Kind::Text => Value::Text(self.bytes(buffer, arena)),
            Kind::Escaped => Value::Escaped(self.bytes(buffer, arena)),
            Kind::Array => Value::Array(self.bytes(buffer, arena)),
            Kind::Object => Value::Object(self.bytes(buffer, arena)),
        }
    }
}

/// A value, borrowed from the chunk. Kinds as in [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// The event has no such field.
    Missing,
    /// JSON `null`.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A JSON number as written.
    Number(&'a [u8]),
    /// Text as it is.
    Text(&'a [u8]),
    /// The inside of a JSON string that has escapes.
    Escaped(&'a [u8]),
    /// JSON text of an array.
    Array(&'a [u8]),
    /// JSON text of an object.
    Object(&'a [u8]),
}
