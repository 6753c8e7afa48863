//! The grammar of RFC 8259 over a buffer and its index of marked bytes.
//!
//! Positions are offsets in the document. Every function takes the position of the first byte of what it
//! reads and returns the position behind it. Structure is checked without exception. Two things that
//! RFC 8259 forbids are common in real logs and are read, but make the text not strict: raw control
//! characters inside strings, and halves of surrogate pairs. What a number's digits amount to is not asked.

use std::cell::Cell;

use super::simd::{Word, bits};
use super::strings::code_unit;
use crate::limits::JSON_DEPTH_MAX;

/// Why reading ended. As wide as a position, so that a [`Read`] travels in two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Stop {
    /// Not JSON from here on, or its end is missing.
    Broken,
    /// Nested beyond [`JSON_DEPTH_MAX`].
    Deep,
    /// More values for one path than are collected.
    Many,
    /// Two candidates for one slot: decided by looking again, see `resolve`.
    Conflict,
}

/// Position behind what was read.
pub(super) type Read = Result<usize, Stop>;

/// A key or a string without its quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) escaped: bool,
}

/// End and escapes of a string from one number, which fits a register.
#[inline(always)]
fn unpack(packed: usize) -> (usize, bool) {
    (packed >> 1, packed & 1 == 1)
}

/// A document with its index.
#[derive(Debug)]
pub(super) struct Text<'d> {
    bytes: &'d [u8],
    readable: &'d [u8],
    marks: &'d [Word],
    /// Whether all strings so far are strict.
    pub(super) strict: Cell<bool>,
    /// Whether no line break stood between tokens so far.
    pub(super) one_line: Cell<bool>,
}

impl<'d> Text<'d> {
    /// The first `len` bytes of `readable`; `marks` as `simd::index` makes them of those.
    pub(super) fn new(readable: &'d [u8], len: usize, marks: &'d [Word]) -> Self {
        Self { bytes: readable.get(..len).unwrap_or_default(), readable, marks, strict: Cell::new(true), one_line: Cell::new(true) }
    }

    /// The document.
    pub(super) fn bytes(&self) -> &'d [u8] {
        self.bytes
    }

    /// The document and what stands behind it in the same buffer, for reads that are wider than what they are about.
    #[inline(always)]
    pub(super) fn readable(&self) -> &'d [u8] {
        self.readable
    }

    /// The bytes of a key or string.
    #[inline(always)]
    pub(super) fn inside(&self, inside: Inside) -> &'d [u8] {
        self.bytes.get(inside.start..inside.end).unwrap_or_default()
    }

    /// The byte at `pos`; 0, which no grammar takes, behind the end.
    #[inline(always)]
    pub(super) fn byte(&self, pos: usize) -> u8 {
        self.bytes.get(pos).copied().unwrap_or(0)
    }

    /// Skips white space.
    #[inline(always)]
    pub(super) fn space(&self, pos: usize) -> usize {
        if self.byte(pos) > b' ' { pos } else { self.spaces(pos) }
    }

    #[inline(never)]
    fn spaces(&self, mut pos: usize) -> usize {
        loop {
            match self.byte(pos) {
                b' ' | b'\t' => {}
                b'\n' | b'\r' => self.one_line.set(false),
                _ => return pos,
            }
            pos += 1;
        }
    }

    #[inline(always)]
    fn word(&self, index: usize) -> Result<u64, Stop> {
        self.marks.get(index).map(|word| bits(*word)).ok_or(Stop::Broken)
    }

    /// Position of the first marked byte at or behind `pos`.
    #[inline(always)]
    pub(super) fn marked(&self, pos: usize) -> Read {
        let mut word = pos / 64;
        let marks = self.word(word)? >> (pos % 64);
        if marks != 0 {
            return Ok(pos + marks.trailing_zeros() as usize);
        }
        loop {
            word += 1;
            let marks = self.word(word)?;
            if marks != 0 {
                return Ok(word * 64 + marks.trailing_zeros() as usize);
            }
        }
    }

    /// The string whose opening quote is at `quote`; its closing quote is at the `end` returned.
    #[inline(always)]
    pub(super) fn string(&self, quote: usize) -> Result<Inside, Stop> {
        let start = quote + 1;
        let end = self.marked(start)?;
        if self.byte(end) == b'"' {
            return Ok(Inside { start, end, escaped: false });
        }
        let (end, escaped) = unpack(self.odd_string(end)?);
        Ok(Inside { start, end, escaped })
    }

    /// The rest of a string that has an escape or a control character at `pos`: its end, and whether it has
    /// escapes, for `unpack`.
    #[inline(never)]
    fn odd_string(&self, mut pos: usize) -> Read {
        let mut escaped = false;
        loop {
            match self.byte(pos) {
                b'"' => return Ok(pos << 1 | usize::from(escaped)),
                b'\\' => {
                    escaped = true;
                    pos = self.escape(pos)?;
                }
                _ => {
                    self.strict.set(false);
                    pos += 1;
                }
            }
            pos = self.marked(pos)?;
        }
    }

    fn escape(&self, pos: usize) -> Read {
        match self.byte(pos + 1) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(pos + 2),
            b'u' => {
                let unit = |at: usize| self.bytes.get(at..).and_then(code_unit);
                match unit(pos).ok_or(Stop::Broken)? {
                    0xd800..=0xdbff if unit(pos + 6).is_some_and(|low| (0xdc00..=0xdfff).contains(&low)) => return Ok(pos + 12),
                    0xd800..=0xdfff => self.strict.set(false),
                    _ => {}
                }
                Ok(pos + 6)
            }
            _ => Err(Stop::Broken),
        }
    }

    /// Skips the colon and the space on both sides of it.
    #[inline(never)]
    fn colon(&self, pos: usize) -> Read {
        let pos = self.space(pos);
        if self.byte(pos) == b':' { Ok(self.space(pos + 1)) } else { Err(Stop::Broken) }
    }

    /// Reads the key that starts behind its quote, and the colon: the key, and the position of its value.
    #[inline(always)]
    pub(super) fn key(&self, start: usize) -> Result<(Inside, usize), Stop> {
        let end = self.marked(start)?;
        // One comparison instead of five, for what nearly all senders write.
        if let Some([b'"', b':', b'!'..=u8::MAX, _]) = self.bytes.get(end..).and_then(|rest| rest.first_chunk::<4>()) {
            return Ok((Inside { start, end, escaped: false }, end + 2));
        }
        let (end, escaped) = unpack(self.odd_string(end)?);
        Ok((Inside { start, end, escaped }, self.colon(end + 1)?))
    }

    /// Calls `value` with each key of the object at `open` and the position of its value; it returns the
    /// position behind the value. `depth` is the number of containers around the object.
    #[inline(always)]
    pub(super) fn each_member(&self, open: usize, depth: usize, mut value: impl FnMut(Inside, usize) -> Read) -> Read {
        self.each_key(open, depth, |start| {
            let (key, at) = self.key(start)?;
            value(key, at)
        })
    }

    /// Calls `member` with the position behind the opening quote of each key of the object at `open`; it reads key and
    /// value, and returns the position behind them. `depth` is the number of containers around the object.
    #[inline(always)]
    pub(super) fn each_key(&self, open: usize, depth: usize, mut member: impl FnMut(usize) -> Read) -> Read {
        if depth >= JSON_DEPTH_MAX {
            return Err(Stop::Deep);
        }
        let mut pos = self.space(open + 1);
        if self.byte(pos) == b'}' {
            return Ok(pos + 1);
        }
        if self.byte(pos) != b'"' {
            return Err(Stop::Broken);
        }
        loop {
            let end = member(pos + 1)?;
            // One comparison instead of four, for what nearly all senders write.
            if let Some(b",\"") = self.bytes.get(end..).and_then(|rest| rest.first_chunk::<2>()) {
                pos = end + 1;
                continue;
            }
            pos = self.space(end);
            match self.byte(pos) {
                b',' => pos = self.space(pos + 1),
                b'}' => return Ok(pos + 1),
                _ => return Err(Stop::Broken),
            }
            if self.byte(pos) != b'"' {
                return Err(Stop::Broken);
            }
        }
    }

    /// Calls `value` with the position of each element of the array at `open`; it returns the position
    /// behind the element.
    #[inline(always)]
    pub(super) fn each_element(&self, open: usize, depth: usize, mut value: impl FnMut(usize) -> Read) -> Read {
        if depth >= JSON_DEPTH_MAX {
            return Err(Stop::Deep);
        }
        let mut pos = self.space(open + 1);
        if self.byte(pos) == b']' {
            return Ok(pos + 1);
        }
        loop {
            pos = self.space(value(pos)?);
            match self.byte(pos) {
                b',' => pos = self.space(pos + 1),
                b']' => return Ok(pos + 1),
                _ => return Err(Stop::Broken),
            }
        }
    }

    /// Skips any value with all that is in it.
    #[inline(always)]
    pub(super) fn value(&self, pos: usize, depth: usize) -> Read {
        match self.byte(pos) {
            b'"' => Ok(self.string(pos)?.end + 1),
            b'{' => self.object(pos, depth),
            b'[' => self.array(pos, depth),
            _ => self.scalar(pos),
        }
    }

    fn object(&self, open: usize, depth: usize) -> Read {
        self.each_member(open, depth, |_, at| self.value(at, depth + 1))
    }

    fn array(&self, open: usize, depth: usize) -> Read {
        self.each_element(open, depth, |at| self.value(at, depth + 1))
    }

    /// Skips a number or a literal.
    #[inline(always)]
    pub(super) fn scalar(&self, pos: usize) -> Read {
        let literal: &[u8] = match self.byte(pos) {
            b'-' | b'0'..=b'9' => return self.number(pos),
            b't' => b"true",
            b'f' => b"false",
            b'n' => b"null",
            _ => return Err(Stop::Broken),
        };
        let end = pos + literal.len();
        if self.bytes.get(pos..end) == Some(literal) { Ok(end) } else { Err(Stop::Broken) }
    }

    #[inline(always)]
    fn number(&self, mut pos: usize) -> Read {
        if self.byte(pos) == b'-' {
            pos += 1;
        }
        pos = if self.byte(pos) == b'0' { pos + 1 } else { self.digits(pos)? };
        // `.`, `E` and `e` are rare and above `,` and `-`, below `}`.
        if self.byte(pos) == b'.' {
            pos = self.digits(pos + 1)?;
        }
        if matches!(self.byte(pos), b'e' | b'E') {
            let sign = usize::from(matches!(self.byte(pos + 1), b'+' | b'-'));
            pos = self.digits(pos + 1 + sign)?;
        }
        Ok(pos)
    }

    /// Skips at least one digit, eight at a time: how many there are differs from record to record, and a
    /// wrong guess costs more than the arithmetic.
    #[inline(always)]
    fn digits(&self, start: usize) -> Read {
        let mut pos = start;
        while let Some(eight) = self.bytes.get(pos..).and_then(|rest| rest.first_chunk()) {
            let eight = u64::from_le_bytes(*eight);
            // The top bit of a byte is set in one of the two unless it is a digit. A carry or borrow only
            // disturbs bytes behind the first that is none.
            let others = (eight.wrapping_add(0x4646_4646_4646_4646) | eight.wrapping_sub(0x3030_3030_3030_3030)) & 0x8080_8080_8080_8080;
            if others != 0 {
                pos += others.trailing_zeros() as usize / 8;
                return if pos > start { Ok(pos) } else { Err(Stop::Broken) };
            }
            pos += 8;
        }
        while self.byte(pos).is_ascii_digit() {
            pos += 1;
        }
        if pos > start { Ok(pos) } else { Err(Stop::Broken) }
    }
}
