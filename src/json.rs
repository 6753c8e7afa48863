//! JSON bytes to slots, without a tree.
//!
//! In: the bytes of one document (RFC 8259) and a compiled set of wanted paths. Out: one slot a path, each
//! a span of the document with the byte conventions of [`Kind`](crate::event::Kind), and whether the
//! document is strict, so that its bytes may be spliced into an output as they are.
//!
//! # How
//!
//! One pass marks the bytes that end or complicate a string, with vector instructions; it needs no padding
//! behind the document. A second walks the tokens, checks all of the grammar, and compares keys with the
//! wanted ones only inside objects that a path leads through. UTF-8 is checked if any byte is above 0x7f.
//! Both passes are linear, and neither allocates once the thread's scratch memory has grown. Where two
//! places compete for one slot, `resolve` looks again, also linear, with a few allocations.
//!
//! # Paths
//!
//! `httpRequest.clientIp`. A key may itself contain dots: every spelling is found, the one with most keys
//! joined first (`"a.b"` wins over `"a": {"b"`), and within one object the last of repeated keys counts, as
//! in serde_json and simd-json. Arrays are entered only where the path says so:
//!
//! * `labels[].name` collects the values of all elements, in order, as one JSON array in the arena;
//!   elements that have none are left out, and no value at all is a missing field;
//! * `headers{name=User-Agent}.value` chooses the first element whose member `name` is that text, ASCII
//!   letters in either case.
//!
//! Keys that contain `[`, `]`, `{` or `}`, and values to choose by that contain `}`, cannot be written.
//!
//! # What senders get wrong
//!
//! * Raw control characters in strings, halves of surrogate pairs: read as they are, not strict.
//! * Bytes that are not UTF-8: all fields are read, and the flaw is [`Flaw::NotUtf8`].
//! * Lines cut at a transport's limit, text behind the object: fields before the break are read, and the
//!   flaw is [`Flaw::Truncated`].
//! * An escaped key (`"\u0061"`) is the key it stands for.
//!
//! Not supported: documents other than objects ([`Flaw::Malformed`]), byte order marks, comments,
//! `NaN`. Numbers are kept as written, however large.

mod elements;
mod order;
mod paths;
mod resolve;
mod scan;
mod simd;
mod strings;
mod text;

#[cfg(test)]
mod tests;

pub use elements::{ELEMENTS_MAX, Elements, elements};
pub use strings::{unescape, write_checked, write_inside, write_string};

use std::cell::Cell;

use crate::event::{Flaw, Row, SlotId, Span};
use paths::Tree;
use scan::{Scan, Scratch};
use text::{Stop, Text};

/// Scratch memory beyond this many items is not kept for the next document: 16,384 words mark 1 MiB.
const SCRATCH_KEPT_MAX: usize = 16 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = Cell::default();
}

/// What a scan says about the document as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Exactly one valid UTF-8 JSON object of RFC 8259, from its first byte to its last.
    pub strict: bool,
    /// No line break stands between its tokens, so that it may be a line of NDJSON.
    pub one_line: bool,
    /// A reserved key occurs in its place, in whatever spelling.
    pub reserved: bool,
}

impl Scanned {
    const NOTHING: Self = Self { strict: false, one_line: false, reserved: false };
}

/// A compiled set of wanted paths.
#[derive(Clone, Debug)]
pub struct Paths {
    tree: Tree,
}

impl Paths {
    /// Compiles paths, each with the slot that it fills; several slots may want the same path. The error
    /// says which path is wrong, and how.
    pub fn new<'p>(paths: impl Iterator<Item = (&'p str, SlotId)>) -> Result<Self, String> {
        Ok(Self { tree: Tree::new(paths)? })
    }

    /// Reports a key in [`Scanned::reserved`]: that of `keys` which comes last, below the others.
    #[must_use]
    pub fn reserve(self, keys: &[&str]) -> Self {
        Self { tree: self.tree.reserve(keys) }
    }

    /// Fills the wanted slots, all missing before, from the object at `span` of the row's buffer. On a flaw,
    /// fields before it are filled; with [`Flaw::NotUtf8`] all are.
    pub fn scan(&self, row: &mut Row<'_>, span: Span) -> Result<Scanned, Flaw> {
        let bytes = row.bytes().get(span.start as usize..span.end as usize).ok_or(Flaw::Malformed)?;
        let readable = row.bytes().get(span.start as usize..).unwrap_or_default();
        with_scratch(|scratch| {
            let mut marks = std::mem::take(&mut scratch.marks);
            let any_high = simd::index(bytes, &mut marks);
            let scanned = self.scan_marked(row, &Text::new(readable, bytes.len(), &marks), span, any_high, scratch);
            scratch.marks = marks;
            scanned
        })
    }

    fn scan_marked(&self, row: &mut Row<'_>, text: &Text<'_>, span: Span, any_high: bool, scratch: &mut Scratch) -> Result<Scanned, Flaw> {
        let open = text.space(0);
        if text.byte(open) != b'{' {
            return Err(Flaw::Malformed);
        }
        let scan = Scan::new(text, &self.tree, row, span.start as usize, scratch);
        let (mut end, mut out, mut reserved) = scan.run(open);
        if end == Err(Stop::Conflict) {
            (end, reserved) = resolve::resolve(text, &mut out, open);
        }
        let end = out.flush(text.bytes()).and(end).map_err(flaw)?;
        finish(text, open, end, any_high).map(|scanned| Scanned { reserved, ..scanned })
    }
}

/// What `bytes` are as a whole, without filling anything; `reserved` is the key to look for.
pub fn check(bytes: &[u8], reserved: &str) -> Scanned {
    with_scratch(|scratch| {
        let any_high = simd::index(bytes, &mut scratch.marks);
        let text = Text::new(bytes, bytes.len(), &scratch.marks);
        let open = text.space(0);
        if text.byte(open) != b'{' {
            return Scanned::NOTHING;
        }
        let mut occurs = false;
        let end = text.each_member(open, 0, |key, at| {
            let inside = text.inside(key);
            occurs |= if key.escaped { strings::unescaped_is(inside, reserved) } else { inside == reserved.as_bytes() };
            text.value(at, 1)
        });
        let checked = end.map_err(flaw).and_then(|end| finish(&text, open, end, any_high));
        checked.map_or(Scanned::NOTHING, |scanned| Scanned { reserved: occurs, ..scanned })
    })
}

/// Whether `bytes` are exactly one valid UTF-8 JSON object of RFC 8259, nothing around it.
pub fn is_strict_object(bytes: &[u8]) -> bool {
    check(bytes, "").strict
}

/// Judges the document whose object goes from `open` to `end`.
fn finish(text: &Text<'_>, open: usize, end: usize, any_high: bool) -> Result<Scanned, Flaw> {
    let bytes = text.bytes();
    if any_high && simdutf8::basic::from_utf8(bytes).is_err() {
        return Err(Flaw::NotUtf8);
    }
    let one_line = text.one_line.get();
    if text.space(end) != bytes.len() {
        return Err(Flaw::Truncated);
    }
    let strict = text.strict.get() && open == 0 && end == bytes.len();
    Ok(Scanned { strict, one_line, reserved: false })
}

fn flaw(stop: Stop) -> Flaw {
    match stop {
        Stop::Broken | Stop::Conflict => Flaw::Truncated,
        Stop::Deep | Stop::Many => Flaw::TooLarge,
    }
}

/// Apart, because it is large before it is in its box, which each scan would have to make room for.
#[cold]
#[inline(never)]
fn first_scratch() -> Box<Scratch> {
    Box::default()
}

fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with(|cell| {
        let mut scratch = cell.take().unwrap_or_else(first_scratch);
        let result = work(&mut scratch);
        scratch.marks.truncate(SCRATCH_KEPT_MAX);
        scratch.marks.shrink_to(SCRATCH_KEPT_MAX);
        scratch.key.truncate(SCRATCH_KEPT_MAX);
        scratch.key.shrink_to(SCRATCH_KEPT_MAX);
        cell.set(Some(scratch));
        result
    })
}
