//! `newline`: one frame a line; `\r\n` and NUL at the end of a line go too.

use super::{Framer, FramerKind, Lines, Split};
use crate::event::Span;
use crate::limits::CHUNK_FRAMES_MAX;

pub(super) struct Newline;

impl FramerKind for Newline {
    fn name(&self) -> &'static str {
        "newline"
    }

    fn build(&self, frame_bytes_max: usize) -> Box<dyn Framer> {
        Box::new(State(Lines::new(frame_bytes_max)))
    }
}

struct State(Lines);

impl Framer for State {
    fn split(&mut self, bytes: &[u8], end: bool, frames: &mut Vec<Span>) -> Split {
        let mut split = Split::default();
        while split.used < bytes.len() && frames.len() < CHUNK_FRAMES_MAX {
            match self.0.take(bytes, split.used, end, frames, &mut split) {
                Some(next) => split.used = next,
                None => break,
            }
        }
        split
    }
}
