//! `json`: objects one after the other, in lines, in an array, or over several lines.
//!
//! Top-level `[`, `]`, `,` and white space between objects are skipped, so `[{..},{..}]`, `{..}{..}` and
//! NDJSON all give one frame an object. Anything else at the top level is a line of text and stays one.
//! The framer only counts braces and strings; whether the object is valid is for the decoder to say.
//!
//! An object that has no end within the longest frame is read as lines. Within those bytes objects have to end on
//! their own line, or every `{` in them would be followed to the limit once more: a body of such lines would take
//! hours.

use super::{Framer, FramerKind, Lines, Split};
use crate::event::Span;
use crate::limits::CHUNK_FRAMES_MAX;

pub(super) struct Json;

impl FramerKind for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn build(&self, frame_bytes_max: usize) -> Box<dyn Framer> {
        Box::new(State { lines: Lines::new(frame_bytes_max), scanned: 0, depth: 0, quoted: false, broken: 0 })
    }
}

struct State {
    lines: Lines,
    /// Bytes of the open object that were scanned before, so that a slow sender does not make it quadratic.
    scanned: usize,
    depth: usize,
    quoted: bool,
    /// Bytes from here on that belong to an object without an end.
    broken: usize,
}

enum Object {
    /// It ends before this offset.
    Ends(usize),
    /// More bytes are needed.
    Open,
    /// It has no end within the longest frame.
    Endless,
}

impl State {
    /// Goes on through the object that begins at `at`.
    fn object(&mut self, bytes: &[u8], at: usize, end: bool) -> Object {
        let limit = at.saturating_add(self.lines.frame_bytes_max);
        let window = &bytes[..bytes.len().min(limit)];
        let one_line = self.broken > 0;
        let mut index = at + self.scanned;
        while let Some(byte) = window.get(index) {
            match byte {
                b'\n' if one_line => return Object::Endless,
                b'"' => self.quoted = !self.quoted,
                b'\\' if self.quoted && index + 1 == window.len() => break,
                b'\\' if self.quoted => index += 1,
                _ if self.quoted => {
                    let rest = &window[index..];
                    let next = if one_line { memchr::memchr3(b'"', b'\\', b'\n', rest) } else { memchr::memchr2(b'"', b'\\', rest) };
                    index += next.unwrap_or(rest.len());
                    continue;
                }
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        self.scanned = 0;
                        return Object::Ends(index + 1);
                    }
                }
                _ => {}
            }
            index += 1;
        }
        self.scanned = index - at;
        if !end && window.len() < limit {
            return Object::Open;
        }
        if !one_line {
            self.broken = window.len() - at;
        }
        Object::Endless
    }

    fn forget(&mut self) {
        self.scanned = 0;
        self.depth = 0;
        self.quoted = false;
    }
}

impl Framer for State {
    fn split(&mut self, bytes: &[u8], end: bool, frames: &mut Vec<Span>) -> Split {
        let mut split = Split::default();
        let mut seen = 0;
        while split.used < bytes.len() && frames.len() < CHUNK_FRAMES_MAX {
            let at = split.used;
            self.broken = self.broken.saturating_sub(at - seen);
            seen = at;
            if !self.lines.skipping && matches!(bytes[at], b' ' | b'\t' | b'\r' | b'\n' | b',' | b'[' | b']') {
                split.used += 1;
                continue;
            }
            if !self.lines.skipping && bytes[at] == b'{' {
                match self.object(bytes, at, end) {
                    Object::Ends(stop) => {
                        frames.push(Span::new(at, stop));
                        split.used = stop;
                        continue;
                    }
                    Object::Open => return split,
                    // What there is of it becomes a line.
                    Object::Endless => self.forget(),
                }
            }
            match self.lines.take(bytes, at, end, frames, &mut split) {
                Some(next) => split.used = next,
                None => break,
            }
        }
        self.broken = self.broken.saturating_sub(split.used - seen);
        split
    }
}
