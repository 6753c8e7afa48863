//! `whole`: the message is the frame (datagrams, records).

use super::{Framer, FramerKind, Split, trimmed};
use crate::event::Span;

pub(super) struct Whole;

impl FramerKind for Whole {
    fn name(&self) -> &'static str {
        "whole"
    }

    fn build(&self, frame_bytes_max: usize) -> Box<dyn Framer> {
        Box::new(State { frame_bytes_max })
    }
}

struct State {
    frame_bytes_max: usize,
}

impl Framer for State {
    fn split(&mut self, bytes: &[u8], end: bool, frames: &mut Vec<Span>) -> Split {
        if !end {
            return Split::default();
        }
        frames.extend(trimmed(bytes, 0, bytes.len().min(self.frame_bytes_max)));
        Split { used: bytes.len(), cut: u32::from(bytes.len() > self.frame_bytes_max) }
    }
}
