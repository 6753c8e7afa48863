//! `json`: objects one after the other, in lines, in an array, or over several lines.
//!
//! Top-level `[`, `]`, `,` and white space between objects are skipped, so `[{..},{..}]`, `{..}{..}` and
//! NDJSON all give one frame an object. Anything else at the top level is a line of text and stays one.
//! The framer only counts braces and strings; whether the object is valid is for the decoder to say.

use super::{Framer, FramerKind, Lines, Split};
use crate::event::Span;
use crate::limits::CHUNK_FRAMES_MAX;

pub(super) struct Json;

impl FramerKind for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn build(&self, frame_bytes_max: usize) -> Box<dyn Framer> {
        Box::new(State { lines: Lines::new(frame_bytes_max), scanned: 0, depth: 0 })
    }
}

struct State {
    lines: Lines,
    /// Bytes of the open object that were scanned before, so that a slow sender does not make it quadratic.
    scanned: usize,
    depth: usize,
}

enum Object {
    /// It ends before this offset.
    Ends(usize),
    Open,
}

impl State {
    /// Goes on through the object that begins at `at`.
    fn object(&mut self, bytes: &[u8], at: usize) -> Object {
        let mut index = at + self.scanned;
        while let Some(byte) = bytes.get(index) {
            match byte {
                b'"' => match string_end(bytes, index + 1) {
                    Some(end) => index = end,
                    None => break,
                },
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
        Object::Open
    }

    fn forget(&mut self) {
        self.scanned = 0;
        self.depth = 0;
    }
}

/// Offset of the closing quote of a string whose inside begins at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut index = at;
    loop {
        index += memchr::memchr2(b'"', b'\\', bytes.get(index..)?)?;
        if bytes[index] == b'"' {
            return Some(index);
        }
        index += 2;
    }
}

impl Framer for State {
    fn split(&mut self, bytes: &[u8], end: bool, frames: &mut Vec<Span>) -> Split {
        let mut split = Split::default();
        while split.used < bytes.len() && frames.len() < CHUNK_FRAMES_MAX {
            let at = split.used;
            if !self.lines.skipping && matches!(bytes[at], b' ' | b'\t' | b'\r' | b'\n' | b',' | b'[' | b']') {
                split.used += 1;
                continue;
            }
            if !self.lines.skipping && bytes[at] == b'{' {
                match self.object(bytes, at) {
                    Object::Ends(stop) if stop - at <= self.lines.frame_bytes_max => {
                        frames.push(Span::new(at, stop));
                        split.used = stop;
                        continue;
                    }
                    Object::Open if !end && bytes.len() - at < self.lines.frame_bytes_max => return split,
                    // Too long, or no end: what there is of it becomes a line.
                    _ => self.forget(),
                }
            }
            match self.lines.take(bytes, at, end, frames, &mut split) {
                Some(next) => split.used = next,
                None => break,
            }
        }
        split
    }
}
