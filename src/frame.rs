//! Bytes of one connection, file or body to frames: `bytes -> spans`.
//!
//! A framer keeps only the state that a cut-off frame needs. What is not used stays with the caller and
//! comes again with more bytes behind it. Promises on bad input: a frame without an end is cut at
//! `limits::FRAME_BYTES_MAX` (or the source's own limit), counted, and the rest of that line is skipped;
//! empty frames are none; a wrong octet count is read as a plain line.
//!
//! Never: I/O, copying, knowing decoders. Owned by the connection's shard. To add one: a file with a
//! `FramerKind` and its two lines in [`FRAMERS`].

mod json;
mod newline;
mod syslog;
mod whole;

use crate::event::Span;

/// Every framer.
pub static FRAMERS: &[&dyn FramerKind] = &[&json::Json, &newline::Newline, &syslog::Syslog, &whole::Whole];

/// A way to find frames.
pub trait FramerKind: Sync {
    /// File name and `framing:` in the configuration.
    fn name(&self) -> &'static str;
    /// A framer for one connection; frames longer than `frame_bytes_max` are cut.
    fn build(&self, frame_bytes_max: usize) -> Box<dyn Framer>;
}

/// What one call found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Bytes that are done with; the rest comes again.
    pub used: usize,
    /// Frames that were cut.
    pub cut: u32,
}

/// Finds the frames of one connection.
pub trait Framer {
    /// Appends the frames of `bytes` to `frames`. `end` says that no byte will follow: the rest is a frame.
    /// Stops after `limits::CHUNK_FRAMES_MAX` frames; the caller calls again with what was not used.
    fn split(&mut self, bytes: &[u8], end: bool, frames: &mut Vec<Span>) -> Split;
}

/// The framer named `name`.
pub fn find(name: &str) -> Option<&'static dyn FramerKind> {
    FRAMERS.iter().find(|kind| kind.name() == name).copied()
}

/// A frame without line end, blank bytes at its end and NUL padding left out; `None` if nothing is left.
fn trimmed(bytes: &[u8], start: usize, end: usize) -> Option<Span> {
    let keep = bytes[start..end].iter().rposition(|b| !matches!(b, b'\r' | b'\n' | 0))?;
    Some(Span::new(start, start + keep + 1))
}

/// State of line framing that all line-based framers share: the rest of a line that was cut is skipped.
#[derive(Debug)]
struct Lines {
    frame_bytes_max: usize,
    skipping: bool,
    /// Bytes of the open line that have no line end, so that a slow sender does not make it quadratic.
    searched: usize,
}

enum Line {
    /// The line ends before this offset; the next begins at the second.
    Ends(usize, usize),
    /// More bytes are needed.
    Open,
}

impl Lines {
    fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max: frame_bytes_max.max(1), skipping: false, searched: 0 }
    }

    fn find(&mut self, bytes: &[u8], at: usize, end: bool) -> Line {
        let from = at + std::mem::take(&mut self.searched);
        match memchr::memchr(b'\n', bytes.get(from..).unwrap_or_default()) {
            Some(len) => Line::Ends(from + len, from + len + 1),
            None if end => Line::Ends(bytes.len(), bytes.len()),
            None => Line::Open,
        }
    }

    /// Takes the line at `at`; returns where the next one begins, or `None` if more bytes are needed.
    fn take(&mut self, bytes: &[u8], at: usize, end: bool, frames: &mut Vec<Span>, split: &mut Split) -> Option<usize> {
        let line = self.find(bytes, at, end);
        if self.skipping {
            return match line {
                Line::Ends(_, next) => {
                    self.skipping = false;
                    Some(next)
                }
                Line::Open => {
                    split.used = bytes.len();
                    None
                }
            };
        }
        let (stop, next) = match line {
            Line::Ends(stop, next) => (stop, next),
            Line::Open if bytes.len() - at > self.frame_bytes_max => {
                self.skipping = true;
                (bytes.len(), bytes.len())
            }
            Line::Open => {
                self.searched = bytes.len() - at;
                return None;
            }
        };
        if stop - at > self.frame_bytes_max || self.skipping {
            split.cut += 1;
        }
        frames.extend(trimmed(bytes, at, stop.min(at + self.frame_bytes_max)));
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(kind: &dyn FramerKind, input: &[u8], step: usize, max: usize) -> (Vec<String>, u32) {
        let mut framer = kind.build(max);
        let (mut buffer, mut fed, mut out, mut cut) = (Vec::new(), 0, Vec::new(), 0);
        loop {
            let end = fed == input.len();
            let next = (fed + step).min(input.len());
            buffer.extend_from_slice(&input[fed..next]);
            fed = next;
            loop {
                let mut spans = Vec::new();
                let split = framer.split(&buffer, end, &mut spans);
                out.extend(spans.iter().map(|span| String::from_utf8_lossy(span.of(&buffer)).into_owned()));
                cut += split.cut;
                buffer.drain(..split.used);
                if split.used == 0 || buffer.is_empty() {
                    break;
                }
            }
            if end {
                assert!(buffer.is_empty(), "{} keeps {} bytes at the end", kind.name(), buffer.len());
                return (out, cut);
            }
        }
    }

    #[test]
    fn frames_do_not_depend_on_how_the_bytes_arrive() {
        let cases: &[(&str, &[u8], &[&str])] = &[
            ("newline", b"a\r\nbb\n\n\nccc", &["a", "bb", "ccc"]),
            ("newline", b"a\0\nb", &["a", "b"]),
            ("syslog", b"<13>a\n<13>b\0\n<13>c", &["<13>a", "<13>b", "<13>c"]),
            ("syslog", b"6 <13>ab7 <13>a\nb<13>plain\n5 <1>xx", &["<13>ab", "<13>a\nb", "<13>plain", "<1>xx"]),
            ("syslog", b"12 monkeys\nx", &["12 monkeys", "x"]),
            ("syslog", b"999999999999 <13>x\ny", &["999999999999 <13>x", "y"]),
            ("syslog", b"50 <13>too short", &["<13>too short"]),
            ("json", br#"{"a":1} {"b":"}"}"#, &[r#"{"a":1}"#, r#"{"b":"}"}"#]),
            ("json", b"[{\"a\":[1,2]},\n{\"b\":\"\\\"\"}]", &[r#"{"a":[1,2]}"#, r#"{"b":"\""}"#]),
            ("json", b"{\"a\":1}\nplain text\n{\"b\":2}\n", &[r#"{"a":1}"#, "plain text", r#"{"b":2}"#]),
            ("json", b"{\"a\":\n1}", &["{\"a\":\n1}"]),
            ("whole", b"a\nb\n", &["a\nb"]),
        ];
        for (name, input, expected) in cases {
            for step in [1, 2, 3, 5, 1000] {
                let (found, cut) = frames(find(name).unwrap(), input, step, 1000);
                assert_eq!(found, *expected, "{name} in steps of {step}");
                assert_eq!(cut, 0, "{name} in steps of {step}");
            }
        }
    }

    #[test]
    fn a_line_as_long_as_allowed_is_not_counted_as_cut_however_it_arrives() {
        for name in ["newline", "syslog", "json"] {
            for step in [1, 3, 10, 1000] {
                let (found, cut) = frames(find(name).unwrap(), b"0123456789\nx", step, 10);
                assert_eq!((found, cut), (vec!["0123456789".to_owned(), "x".to_owned()], 0), "{name} in steps of {step}");
            }
        }
    }

    #[test]
    fn objects_without_end_are_lines_and_those_behind_them_are_found() {
        let input = b"{\"a\":\n{\"b\":1}\n{\"c\":{}} {\"d\":\n\"{\n{\"e\":2}";
        for step in [1, 2, 5, 1000] {
            let (found, _) = frames(find("json").unwrap(), input, step, 1000);
            assert_eq!(found, ["{\"a\":", "{\"b\":1}", "{\"c\":{}}", "{\"d\":", "\"{", "{\"e\":2}"], "in steps of {step}");
        }
    }

    #[test]
    fn objects_that_never_end_cost_linear_time() {
        for line in ["{\n", "{{{\n", "{\"\n", "[{\"a\":\n"] {
            let input = line.repeat(400_000 / line.len());
            // Following each of them to the limit would take minutes.
            for step in [4096, usize::MAX / 2] {
                let (found, _) = frames(find("json").unwrap(), input.as_bytes(), step.min(input.len()), 256 * 1024);
                assert!(!found.is_empty());
            }
        }
    }

    #[test]
    fn bytes_of_an_open_line_are_not_searched_again() {
        for name in ["newline", "syslog", "json"] {
            let mut framer = find(name).unwrap().build(1000);
            let mut spans = Vec::new();
            assert_eq!(framer.split(b"xxxx", false, &mut spans), Split::default());
            // No caller changes what it has shown. A line end there is only found by who looks there once more.
            assert_eq!(framer.split(b"x\nxxyz", false, &mut spans), Split::default(), "{name}");
            assert_eq!(framer.split(b"x\nxxy\n1\n2", false, &mut spans), Split { used: 8, cut: 0 }, "{name}");
            assert_eq!(spans, [Span::new(0, 7)], "{name}: the search goes on where it ended");
        }
    }

    #[test]
    fn a_frame_without_end_is_cut_once_and_the_next_line_is_whole() {
        let long = [b"x".repeat(50), b"\nnext\n".to_vec()].concat();
        for name in ["newline", "syslog", "json"] {
            for step in [1, 7, 1000] {
                let (found, cut) = frames(find(name).unwrap(), &long, step, 10);
                assert_eq!((found.last().map(String::as_str), cut), (Some("next"), 1), "{name} in steps of {step}");
                assert!(found.iter().all(|frame| frame.len() <= 16), "{name}: {found:?}");
            }
        }
    }
}
