//! JSON text of any length, one object at a time: the elements of the arrays that hold what is wanted.
//!
//! In: RFC 8259 text, read once from front to back, also several documents in a row (NDJSON). Out: the bytes of each
//! object and its line. Memory is that of the longest object, at most [`ELEMENT_BYTES_MAX`]; longer ones are said to be
//! there and left out. What is between the objects is only followed, not checked: a document that is cut is noticed,
//! a missing comma is not. The objects themselves are for a parser.

use std::fmt;
use std::io::{self, BufRead};

/// Longest object: an attribute, an indicator, a row.
const ELEMENT_BYTES_MAX: usize = 1024 * 1024;

/// Nesting around and inside objects.
const DEPTH_MAX: usize = crate::limits::JSON_DEPTH_MAX;

/// Longest name of an array that can be wanted.
const NAME_BYTES_MAX: usize = 32;

/// Which arrays hold the objects.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// Those that are the value of this name, at any depth outside of others.
    Named(&'static str),
    /// The document itself, or every document.
    Top,
}

/// Why there is no further object.
#[derive(Debug)]
pub(super) enum ElementError {
    /// It cannot be read.
    Unreadable(io::Error),
    /// What is there instead of JSON, and its line.
    NotJson(usize, &'static str),
    /// The object in this line is too long; the next one can be asked for.
    TooLong(usize),
}

impl fmt::Display for ElementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::NotJson(_, what) => f.write_str(what),
            Self::TooLong(_) => write!(f, "the object has more than {ELEMENT_BYTES_MAX} bytes"),
        }
    }
}

/// An object or array that is open.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Object,
    Array,
    WantedArray,
}

/// Cuts a text.
pub(super) struct Elements<R> {
    reader: R,
    wanted: Wanted,
    open: Vec<Open>,
    /// The last string: before a colon it is the name of what follows.
    last: Vec<u8>,
    line: usize,
}

impl<R: BufRead> Elements<R> {
    pub(super) fn new(reader: R, wanted: Wanted) -> Self {
        Self { reader, wanted, open: Vec::new(), last: Vec::new(), line: 1 }
    }

    /// What is read.
    pub(super) fn reader(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Puts the next object into `out` and gives its line; `None` at the end.
    ///
    /// # Errors
    /// See [`ElementError`]; only after [`ElementError::TooLong`] there may be more.
    pub(super) fn next(&mut self, out: &mut Vec<u8>) -> Result<Option<usize>, ElementError> {
        loop {
            let Some(byte) = self.byte()? else {
                return if self.open.is_empty() { Ok(None) } else { Err(self.not_json("the document ends in the middle")) };
            };
            match byte {
                b'{' if self.is_wanted() => return self.object(out).map(Some),
                b'{' => self.enter(Open::Object)?,
                b'[' => {
                    let is_wanted = match self.wanted {
                        Wanted::Named(name) => self.open.last() == Some(&Open::Object) && self.last == name.as_bytes(),
                        Wanted::Top => self.open.is_empty(),
                    };
                    self.enter(if is_wanted { Open::WantedArray } else { Open::Array })?;
                }
                b'}' if self.open.last() == Some(&Open::Object) => _ = self.open.pop(),
                b']' if matches!(self.open.last(), Some(Open::Array | Open::WantedArray)) => _ = self.open.pop(),
                b'}' | b']' => return Err(self.not_json("a bracket is closed that is not open")),
                b'"' => self.string()?,
                b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' => {}
                b'0'..=b'9' | b'+' | b'-' | b'.' | b'a'..=b'z' | b'E' if !self.open.is_empty() => {}
                _ => return Err(self.not_json("this is not JSON")),
            }
        }
    }

    fn is_wanted(&self) -> bool {
        match self.wanted {
            Wanted::Named(_) => self.open.last() == Some(&Open::WantedArray),
            Wanted::Top => matches!(self.open.last(), None | Some(Open::WantedArray)),
        }
    }

    fn not_json(&self, what: &'static str) -> ElementError {
        ElementError::NotJson(self.line, what)
    }

    fn enter(&mut self, open: Open) -> Result<(), ElementError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(self.not_json("too many brackets are open"));
        }
        self.open.push(open);
        Ok(())
    }

    #[inline]
    fn byte(&mut self) -> Result<Option<u8>, ElementError> {
        loop {
            match self.reader.fill_buf() {
                Ok([]) => return Ok(None),
                Ok([first, ..]) => {
                    let byte = *first;
                    self.reader.consume(1);
                    self.line += usize::from(byte == b'\n');
                    return Ok(Some(byte));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ElementError::Unreadable(error)),
            }
        }
    }

    /// The rest of a string. Names with escapes are not wanted ones.
    fn string(&mut self) -> Result<(), ElementError> {
        self.last.clear();
        loop {
            match self.byte()? {
                None => return Err(self.not_json("the document ends in the middle")),
                Some(b'"') => return Ok(()),
                Some(b'\\') => {
                    self.byte()?;
                    self.last.push(b'\\');
                }
                Some(byte) if self.last.len() <= NAME_BYTES_MAX => self.last.push(byte),
                Some(_) => {}
            }
            self.last.truncate(NAME_BYTES_MAX + 1);
        }
    }

    /// The rest of an object.
    fn object(&mut self, out: &mut Vec<u8>) -> Result<usize, ElementError> {
        out.clear();
        out.push(b'{');
        let line = self.line;
        let (mut depth, mut is_string, mut is_escaped, mut is_too_long) = (1, false, false, false);
        while depth > 0 {
            let Some(byte) = self.byte()? else { return Err(self.not_json("the document ends in the middle")) };
            if out.len() < ELEMENT_BYTES_MAX {
                out.push(byte);
            } else {
                is_too_long = true;
            }
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_string => is_escaped = true,
                b'"' => is_string = !is_string,
                b'{' | b'[' if !is_string => depth += 1,
                b'}' | b']' if !is_string => depth -= 1,
                _ => {}
            }
        }
        if is_too_long { Err(ElementError::TooLong(line)) } else { Ok(line) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &[u8], wanted: Wanted) -> (Vec<(usize, String)>, Option<String>) {
        let (mut elements, mut out, mut found) = (Elements::new(text, wanted), Vec::new(), Vec::new());
        loop {
            match elements.next(&mut out) {
                Ok(Some(line)) => found.push((line, String::from_utf8_lossy(&out).into_owned())),
                Ok(None) => return (found, None),
                Err(ElementError::TooLong(line)) => found.push((line, "too long".to_owned())),
                Err(error) => return (found, Some(error.to_string())),
            }
        }
    }

    #[test]
    fn objects_of_named_arrays_are_found_at_any_depth() {
        let text = r#"{"response":[{"Event":{"info":"Attribute","x":["Attribute"],
            "Attribute":[{"a":"}\"]"},{"Attribute":[{"inner":1}]}],
            "Object":[{"Attribute":[{"b":[1,{"c":2}]}]}]}}]}"#;
        let (found, error) = cut(text.as_bytes(), Wanted::Named("Attribute"));
        let texts: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, [r#"{"a":"}\"]"}"#, r#"{"Attribute":[{"inner":1}]}"#, r#"{"b":[1,{"c":2}]}"#]);
        assert_eq!((found[0].0, found[2].0, error), (2, 3, None));
    }

    #[test]
    fn rows_are_those_of_an_array_or_documents_in_a_row() {
        let rows = |text: &str| cut(text.as_bytes(), Wanted::Top).0.into_iter().map(|(line, _)| line).collect::<Vec<_>>();
        assert_eq!(rows("[{\"a\":1},\n{\"a\":2}]"), [1, 2]);
        assert_eq!(rows("{\"a\":1}\n{\"a\":{}}\n\n{}"), [1, 2, 4]);
        assert_eq!(rows(""), [] as [usize; 0]);
    }

    #[test]
    fn what_is_no_json_or_cut_or_too_long_is_told() {
        let error = |text: &str| cut(text.as_bytes(), Wanted::Named("objects")).1.unwrap_or_default();
        assert_eq!(error("<html>"), "this is not JSON");
        assert_eq!(error("ip,owner"), "this is not JSON");
        assert_eq!(error("{\"objects\":[{\"a\":1}"), "the document ends in the middle");
        assert_eq!(error("{\"objects\":[{\"a\":"), "the document ends in the middle");
        assert_eq!(error("{\"a"), "the document ends in the middle");
        assert_eq!(error("[}"), "a bracket is closed that is not open");
        assert_eq!(error(&"[".repeat(1000)), "too many brackets are open");
        let long = format!("[{{\"a\":\"{}\"}},{{\"b\":1}}]", "x".repeat(ELEMENT_BYTES_MAX));
        let (found, error) = cut(long.as_bytes(), Wanted::Top);
        assert_eq!((found[0].1.as_str(), found[1].1.as_str(), error), ("too long", "{\"b\":1}", None));
    }

    proptest! {
        /// What serde_json writes is cut as it was put together, whatever is in it.
        #[test]
        fn every_object_comes_out_as_it_was(values in prop::collection::vec(".{0,12}", 0..8), pretty: bool) {
            let rows: Vec<serde_json::Value> =
                values.iter().map(|value| serde_json::json!({ "value": value, value: [value, { "type": [[]] }] })).collect();
            let document = serde_json::json!({ "type": "bundle", "objects": rows, "z": [{}] });
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) }.unwrap();
            let (found, error) = cut(text.as_bytes(), Wanted::Named("objects"));
            prop_assert_eq!(error, None);
            let found: Vec<serde_json::Value> = found.iter().map(|(_, text)| serde_json::from_str(text).unwrap()).collect();
            prop_assert_eq!(found, rows);
        }

        #[test]
        fn no_bytes_make_it_fail(text in prop::collection::vec(prop::sample::select(b"{}[]\",:\\a1 \n<".to_vec()), 0..60)) {
            cut(&text, Wanted::Named("a"));
            cut(&text, Wanted::Top);
        }
    }
}
