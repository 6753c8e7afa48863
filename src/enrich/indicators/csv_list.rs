//! `csv`: RFC 4180 with a line that names the columns.
//!
//! Lines that begin with `#` are comments; abuse.ch names the columns in the last one before the first record. A cell in
//! quotes may hold line breaks.

use std::collections::VecDeque;
use std::io::BufRead;
use std::path::Path;

use serde::Deserialize;

use super::{Details, Found, Kind, LINE_BYTES_MAX, Refusal, confidence, push, read_line, text, time_ms};
use crate::enrich::csv::{Cell, Csv};
use crate::error::{Diagnostic, nearest};

/// Which columns hold what; only `value` is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// The indicator.
    pub value: String,
    /// What it is: `ip`, `domain`, `url`, `md5`, `sha256`, `email` or a type of MISP's. Without it all are of one kind.
    pub kind: Option<String>,
    /// 0 to 100.
    pub confidence: Option<String>,
    /// Who says so.
    pub provider: Option<String>,
    /// What it is about: the malware, the campaign.
    pub description: Option<String>,
    /// When it was seen first.
    pub first_seen: Option<String>,
    /// When it was seen last.
    pub last_seen: Option<String>,
    /// Until when it counts.
    pub valid_until: Option<String>,
    /// The kind of all, where there is no column for it.
    #[serde(skip)]
    pub all: Option<Kind>,
}

impl Columns {
    fn names(&self) -> [Option<&str>; COLUMNS] {
        [
            Some(self.value.as_str()),
            self.kind.as_deref(),
            self.confidence.as_deref(),
            self.provider.as_deref(),
            self.description.as_deref(),
            self.first_seen.as_deref(),
            self.last_seen.as_deref(),
            self.valid_until.as_deref(),
        ]
    }
}

const COLUMNS: usize = 8;

/// The place of each column; [`None`] for those that nobody named.
type Places = [Option<usize>; COLUMNS];

pub(super) struct CsvList<R> {
    reader: R,
    columns: Columns,
    places: Option<Places>,
    /// The last comment, which may name the columns.
    comment: Vec<u8>,
    line: usize,
    record: Vec<u8>,
}

impl<R: BufRead> CsvList<R> {
    pub(super) fn new(reader: R, columns: &Columns) -> Self {
        Self { reader, columns: columns.clone(), places: None, comment: Vec::new(), line: 0, record: Vec::new() }
    }

    pub(super) fn reader(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Reads one record; false at the end.
    pub(super) fn read(&mut self, found: &mut VecDeque<Found>) -> bool {
        match self.record(found) {
            Ok(goes_on) => goes_on,
            Err(refusal) => {
                found.push_back(Err(refusal));
                false
            }
        }
    }

    fn record(&mut self, found: &mut VecDeque<Found>) -> Result<bool, Refusal> {
        self.record.clear();
        let first = self.line + 1;
        // A quote that is open at the end of a line goes on in the next one.
        loop {
            if self.record.last().is_some() {
                self.record.push(b'\n');
            }
            let is_there = read_line(&mut self.reader, &mut self.record).map_err(|error| Refusal::unreadable(&error))?;
            if !is_there && self.record.is_empty() {
                return Ok(false);
            }
            self.line += usize::from(is_there);
            if self.record.len() > LINE_BYTES_MAX {
                found.push_back(Err(Refusal::skipped(first, format!("the record has more than {LINE_BYTES_MAX} bytes"), "")));
                return Ok(true);
            }
            let is_comment = self.record.starts_with(b"#");
            if !is_there || is_comment || memchr::memchr_iter(b'"', &self.record).count().is_multiple_of(2) {
                break;
            }
        }
        if let Some(comment) = self.record.strip_prefix(b"#") {
            self.comment.clear();
            self.comment.extend_from_slice(comment);
            return Ok(true);
        }
        let record = std::mem::take(&mut self.record);
        let mut cells = Vec::new();
        if let Err(diagnostic) = parse(&record, &mut cells) {
            found.push_back(Err(Refusal::skipped(first, diagnostic.message, &String::from_utf8_lossy(&record))));
        } else if !cells.is_empty() {
            match self.places {
                Some(places) => self.take(first, &cells, &places, found),
                None => self.begin(first, &cells, found)?,
            }
        }
        drop(cells);
        self.record = record;
        Ok(true)
    }

    /// Finds the columns: named by the first record, or by the comment before it.
    fn begin(&mut self, line: usize, cells: &[Cell<'_>], found: &mut VecDeque<Found>) -> Result<(), Refusal> {
        match self.find(line, cells) {
            Ok(places) => self.places = Some(places),
            Err(refusal) => {
                let comment = std::mem::take(&mut self.comment);
                let mut named = Vec::new();
                let places = parse(&comment, &mut named).ok().and_then(|()| self.find(line, &named).ok()).ok_or(refusal)?;
                self.places = Some(places);
                self.take(line, cells, &places, found);
            }
        }
        Ok(())
    }

    fn find(&self, line: usize, cells: &[Cell<'_>]) -> Result<Places, Refusal> {
        let mut places = [None; COLUMNS];
        for (place, name) in places.iter_mut().zip(self.columns.names()) {
            let Some(name) = name else { continue };
            *place = cells.iter().position(|cell| *cell.text == *name.as_bytes());
            if place.is_none() {
                let there: Vec<&str> = cells.iter().filter_map(|cell| std::str::from_utf8(&cell.text).ok()).collect();
                let near = nearest(name, there.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
                let shown: String = there.join(", ").chars().take(200).collect();
                let help = Some(format!("{near}columns here: {shown}"));
                return Err(Refusal::Broken { line, message: format!("there is no column `{name}`"), help });
            }
        }
        Ok(places)
    }

    fn take(&self, line: usize, cells: &[Cell<'_>], places: &Places, found: &mut VecDeque<Found>) {
        let cell = |column: usize| places[column].and_then(|place| cells.get(place)).map(|cell| String::from_utf8_lossy(&cell.text));
        let Some(value) = cell(0).filter(|value| !value.is_empty()) else {
            let whole = cells.iter().map(|cell| String::from_utf8_lossy(&cell.text)).collect::<Vec<_>>().join(",");
            found.push_back(Err(Refusal::skipped(line, "no value", &whole)));
            return;
        };
        let kind = match cell(1).filter(|kind| !kind.is_empty()) {
            Some(name) => match Kind::parse(&name) {
                Some(kind) => Some(kind),
                None => {
                    found.push_back(Err(Refusal::skipped(line, format!("nothing is looked up for the kind `{name}`"), &value)));
                    return;
                }
            },
            None => self.columns.all,
        };
        let details = Details {
            confidence: cell(2).and_then(|cell| confidence(&cell)),
            provider: cell(3).and_then(|cell| text(&cell)),
            description: cell(4).and_then(|cell| text(&cell)),
            first_seen_ms: cell(5).and_then(|cell| time_ms(&cell)),
            last_seen_ms: cell(6).and_then(|cell| time_ms(&cell)),
            valid_until_ms: cell(7).and_then(|cell| time_ms(&cell)),
        };
        push(found, line, (kind, &value), details);
    }
}

/// The cells of one record; none of an empty line.
fn parse<'a>(record: &'a [u8], cells: &mut Vec<Cell<'a>>) -> Result<(), Diagnostic> {
    Csv::new(Path::new(""), record)?.record(cells).map(|_| ())
}
