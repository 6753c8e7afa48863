//! CSV as RFC 4180 has it: text to cells that know their place.
//!
//! A cell in quotes may hold commas and line breaks, and `""` for a quote. A quote in the middle of a cell
//! without quotes is a character like any other.

use std::borrow::Cow;
use std::path::Path;

use crate::error::Diagnostic;

/// A cell and where it begins.
pub(super) struct Cell<'a> {
    pub(super) text: Cow<'a, [u8]>,
    /// 1-based.
    pub(super) line: usize,
    /// 1-based, in characters; 0 if unknown.
    column: usize,
}

impl<'a> Cell<'a> {
    /// A cell of another format.
    pub(super) fn new(line: usize, text: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { text: text.into(), line, column: 0 }
    }

    /// An error at the cell.
    pub(super) fn error(&self, path: &Path, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(path, self.line, self.column, "", message)
    }
}

/// Reads a text record by record.
pub(super) struct Csv<'a> {
    path: &'a Path,
    text: &'a [u8],
    at: usize,
    line: usize,
    line_start: usize,
}

impl<'a> Csv<'a> {
    /// A reader of a whole file.
    ///
    /// # Errors
    /// Bytes that are not UTF-8.
    pub(super) fn new(path: &'a Path, text: &'a [u8]) -> Result<Self, Diagnostic> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut csv = Self { path, text, at: 0, line: 1, line_start: 0 };
        let Err(error) = std::str::from_utf8(text) else { return Ok(csv) };
        let before = &text[..error.valid_up_to()];
        csv.line += memchr::memchr_iter(b'\n', before).count();
        csv.line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Err(csv.error(error.valid_up_to(), "the text is not UTF-8").help("save the file as UTF-8"))
    }

    /// Puts the cells of the next record that is not empty into `cells`; false at the end.
    ///
    /// # Errors
    /// Quotes that are not closed, or closed too early.
    pub(super) fn record(&mut self, cells: &mut Vec<Cell<'a>>) -> Result<bool, Diagnostic> {
        cells.clear();
        loop {
            let blanks = self.blanks(self.at);
            if blanks > 0 && !matches!(self.text.get(self.at + blanks), None | Some(b'\n' | b'\r')) {
                break;
            }
            self.at += blanks;
            if !self.skip_line_end() {
                break;
            }
        }
        if self.at == self.text.len() {
            return Ok(false);
        }
        loop {
            let cell = self.cell()?;
            cells.push(cell);
            if self.text.get(self.at) != Some(&b',') {
                self.skip_line_end();
                return Ok(true);
            }
            self.at += 1;
        }
    }

    /// What is wrong with a record that has not `width` cells.
    pub(super) fn uneven(&self, cells: &[Cell<'_>], width: usize) -> Diagnostic {
        let (line, column) = cells.get(width).or_else(|| cells.last()).map_or((self.line, 0), |cell| (cell.line, cell.column));
        Diagnostic::error(self.path, line, column, "", format!("{} cells; the first line has {width}", cells.len()))
    }

    /// Number of blanks from a place on.
    fn blanks(&self, at: usize) -> usize {
        self.text.get(at..).unwrap_or_default().iter().take_while(|b| matches!(b, b' ' | b'\t')).count()
    }

    fn skip_line_end(&mut self) -> bool {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let len = if rest.starts_with(b"\r\n") { 2 } else { usize::from(matches!(rest.first(), Some(b'\n' | b'\r'))) };
        self.at += len;
        if len > 0 {
            self.line += 1;
            self.line_start = self.at;
        }
        len > 0
    }

    fn cell(&mut self) -> Result<Cell<'a>, Diagnostic> {
        let start = self.at + self.blanks(self.at);
        let (line, column) = (self.line, self.column(start));
        let text = if self.text.get(start) == Some(&b'"') {
            self.quoted(start + 1)?
        } else {
            let rest = &self.text[start..];
            let end = rest.iter().position(|b| matches!(b, b',' | b'\n' | b'\r')).unwrap_or(rest.len());
            self.at = start + end;
            Cow::Borrowed(rest[..end].trim_ascii_end())
        };
        Ok(Cell { text, line, column })
    }

    /// The inside of quotes that begins at `start`.
    fn quoted(&mut self, start: usize) -> Result<Cow<'a, [u8]>, Diagnostic> {
        let opened = self.error(start - 1, "a quote is opened here and never closed");
        let mut text = Cow::Borrowed(&b""[..]);
        let mut from = start;
        loop {
            let Some(len) = memchr::memchr(b'"', &self.text[from..]) else { return Err(opened) };
            let end = from + len;
            let piece = &self.text[from..end];
            if text.is_empty() {
                text = Cow::Borrowed(piece);
            } else {
                text.to_mut().extend_from_slice(piece);
            }
            if let Some(newline) = memchr::memrchr(b'\n', piece) {
                self.line += memchr::memchr_iter(b'\n', piece).count();
                self.line_start = from + newline + 1;
            }
            from = end + 1;
            if self.text.get(from) != Some(&b'"') {
                break;
            }
            text.to_mut().push(b'"');
            from += 1;
        }
        self.at = from + self.blanks(from);
        match self.text.get(self.at) {
            None | Some(b',' | b'\n' | b'\r') => Ok(text),
            Some(_) => Err(self.error(self.at, "text behind a closing quote").help("write a quote inside quotes twice: \"\"")),
        }
    }

    fn column(&self, at: usize) -> usize {
        let before = self.text.get(self.line_start..at).unwrap_or_default();
        // Bytes that begin a character.
        before.iter().filter(|b| **b & 0xc0 != 0x80).count() + 1
    }

    fn error(&self, at: usize, message: &str) -> Diagnostic {
        Diagnostic::error(self.path, self.line, self.column(at), "", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<Vec<String>>, String> {
        let mut records = Vec::new();
        let mut cells = Vec::new();
        let mut csv = Csv::new(Path::new("t.csv"), text).map_err(|d| d.to_string())?;
        while csv.record(&mut cells).map_err(|d| d.to_string())? {
            records.push(cells.iter().map(|cell| String::from_utf8(cell.text.to_vec()).unwrap()).collect());
        }
        Ok(records)
    }

    #[test]
    fn quotes_blanks_and_line_ends_are_read_as_rfc_4180_has_them() {
        let text = b"\xef\xbb\xbfa , \"b,\"\"c\"\"\" ,d\r\n\r\n\"x\ny\",,\"\"\n  \n1,2\"3,\t4";
        assert_eq!(read(text).unwrap(), [["a", "b,\"c\"", "d"], ["x\ny", "", ""], ["1", "2\"3", "4"]]);
        assert_eq!(read(b"").unwrap(), Vec::<Vec<String>>::new());
        assert_eq!(read(b"\"\"\n").unwrap(), [[""]]);
        assert_eq!(read(b"\"\"\"\"").unwrap(), [["\""]]);
    }

    #[test]
    fn mistakes_name_line_and_column_in_characters() {
        assert_eq!(read("é\n\"a\nb\",\"x".as_bytes()).unwrap_err(), "t.csv:3:4: error: a quote is opened here and never closed");
        let error = read("a\nü,\"b\"c\n".as_bytes()).unwrap_err();
        assert!(error.starts_with("t.csv:2:6: error: text behind a closing quote"), "{error}");
        let error = read(b"a\nb,\xff\n").unwrap_err();
        assert!(error.starts_with("t.csv:2:3: error: the text is not UTF-8"), "{error}");
    }
}
