//! `syslog`: RFC 6587, octet counting and newline framing told apart for every single frame.
//!
//! A frame that begins with a number, a blank and `<` is octet-counted (section 3.4.1); everything else is a
//! line (3.4.2). Real senders mix both on one connection after a failover. A count above the limit, or one
//! that is not followed by `<`, is no count: the line is kept as it is, because dropping the connection
//! (as the RFC suggests) loses what follows.

use super::{Framer, FramerKind, Lines, Split, trimmed};
use crate::event::Span;
use crate::limits::CHUNK_FRAMES_MAX;

pub(super) struct Syslog;

impl FramerKind for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn build(&self, frame_bytes_max: usize) -> Box<dyn Framer> {
        Box::new(State(Lines::new(frame_bytes_max)))
    }
}

/// Digits of a count: nine reach a gigabyte.
const COUNT_DIGITS_MAX: usize = 9;

struct State(Lines);

enum Count {
    /// A frame of this many bytes begins at this offset.
    Of(usize, usize),
    /// Not octet-counted.
    None,
    /// Too few bytes to tell.
    Unknown,
}

fn count(bytes: &[u8], at: usize) -> Count {
    let digits = bytes[at..].iter().take(COUNT_DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > COUNT_DIGITS_MAX || bytes[at] == b'0' {
        return Count::None;
    }
    match (bytes.get(at + digits), bytes.get(at + digits + 1)) {
        (Some(b' '), Some(b'<')) => {
            let count = bytes[at..at + digits].iter().fold(0, |value, digit| value * 10 + usize::from(digit - b'0'));
            Count::Of(count, at + digits + 1)
        }
        (None, _) | (Some(b' '), None) => Count::Unknown,
        _ => Count::None,
    }
}

impl Framer for State {
    fn split(&mut self, bytes: &[u8], end: bool, frames: &mut Vec<Span>) -> Split {
        let mut split = Split::default();
        while split.used < bytes.len() && frames.len() < CHUNK_FRAMES_MAX {
            let at = split.used;
            if !self.0.skipping {
                match count(bytes, at) {
                    Count::Of(len, start) if len <= self.0.frame_bytes_max => {
                        let stop = start + len;
                        if stop > bytes.len() && !end {
                            return split;
                        }
                        frames.extend(trimmed(bytes, start, stop.min(bytes.len())));
                        split.used = stop.min(bytes.len());
                        continue;
                    }
                    Count::Unknown if !end => return split,
                    _ => {}
                }
            }
            match self.0.take(bytes, at, end, frames, &mut split) {
                Some(next) => split.used = next,
                None => break,
            }
        }
        split
    }
}
