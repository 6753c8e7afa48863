//! The rows of a file, in either format, on their way into a [`Content`].

use std::path::Path;

use serde_json::{Map, Value};

use super::{Cell, Content, EMPTY, Form, Format, Index, Layout, MISTAKES_MAX, Match, Network, Networks, Pool, network};
use crate::enrich::csv::Csv;
use crate::enrich::elements::{ElementError, Elements, Wanted};
use crate::error::{Diagnostic, Diagnostics, nearest};

/// Names of columns that a message lists.
const NAMES_MAX: usize = 30;

/// Reads a file.
///
/// # Errors
/// Up to [`MISTAKES_MAX`] mistakes.
pub(super) fn parse(path: &Path, bytes: &[u8], layout: &Layout) -> Result<Content, Diagnostics> {
    match layout.format {
        Format::Csv => csv(path, bytes, layout),
        Format::Json => json(path, bytes, layout),
    }
}

fn csv(path: &Path, bytes: &[u8], layout: &Layout) -> Result<Content, Diagnostics> {
    let mut csv = Csv::new(path, bytes)?;
    let mut row = Vec::new();
    if !csv.record(&mut row)? {
        return Err(Diagnostic::error(path, 0, 0, "", "the file is empty").help("its first line names the columns").into());
    }
    let (key, columns) = header(path, &row, layout)?;
    let width = row.len();
    let mut rows = Rows { path, key, columns, content: Build::new(layout), scratch: Vec::new(), diagnostics: Diagnostics::new() };
    loop {
        match csv.record(&mut row) {
            Ok(false) => break,
            Ok(true) if row.len() != width => rows.diagnostics.push(csv.uneven(&row, width)),
            Ok(true) => rows.add(&row),
            Err(diagnostic) => {
                rows.diagnostics.push(diagnostic);
                break;
            }
        }
        if rows.diagnostics.0.len() >= MISTAKES_MAX {
            break;
        }
    }
    rows.finish()
}

/// Where the key and the wanted columns are.
fn header(path: &Path, row: &[Cell<'_>], layout: &Layout) -> Result<(usize, Vec<usize>), Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let names: Vec<&str> = row.iter().filter_map(|cell| std::str::from_utf8(&cell.text).ok()).collect();
    let mut find = |wanted: &str| {
        let mut found = row.iter().enumerate().filter(|(_, cell)| *cell.text == *wanted.as_bytes());
        match (found.next(), found.next()) {
            (Some((index, _)), None) => return index,
            (Some(_), Some((_, second))) => {
                diagnostics.push(second.error(path, format!("the column `{wanted}` stands twice")));
            }
            (None, _) => {
                let line = row.first().map_or(1, |cell| cell.line);
                let diagnostic = Diagnostic::error(path, line, 1, "", format!("there is no column `{wanted}`"));
                diagnostics.push(diagnostic.help(columns_here(wanted, &names)));
            }
        }
        0
    };
    let key = find(&layout.key);
    let columns = layout.columns.iter().map(|name| find(name)).collect();
    diagnostics.into_result((key, columns))
}

fn columns_here(wanted: &str, names: &[&str]) -> String {
    let near = nearest(wanted, names.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
    format!("{near}columns here: {}", names.join(", "))
}

fn json(path: &Path, bytes: &[u8], layout: &Layout) -> Result<Content, Diagnostics> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut elements, mut object) = (Elements::new(bytes, Wanted::Top), Vec::new());
    let wanted: Vec<&str> = std::iter::once(&layout.key).chain(&layout.columns).map(String::as_str).collect();
    let mut seen = Seen { is_there: vec![false; wanted.len()], others: Vec::new() };
    let columns = (1..wanted.len()).collect();
    let mut rows = Rows { path, key: 0, columns, content: Build::new(layout), scratch: Vec::new(), diagnostics: Diagnostics::new() };
    while rows.diagnostics.0.len() < MISTAKES_MAX {
        let error = |line, message: String| Diagnostic::error(path, line, 0, "", message);
        match elements.next(&mut object) {
            Ok(None) => break,
            Ok(Some(line)) => match serde_json::from_slice::<Map<String, Value>>(&object) {
                Ok(object) => match cells(line, &object, &wanted, &mut seen) {
                    Ok(cells) => rows.add(&cells),
                    Err(message) => rows.diagnostics.push(error(line, message)),
                },
                Err(mistake) => {
                    // Its own place counts from the object's first byte.
                    let text = mistake.to_string();
                    let what = text.split_once(" at line ").map_or(text.as_str(), |(what, _)| what);
                    rows.diagnostics.push(error(line + mistake.line() - 1, format!("not a JSON object: {what}")));
                }
            },
            Err(mistake @ ElementError::TooLong(line)) => rows.diagnostics.push(error(line, mistake.to_string())),
            Err(mistake) => {
                let line = if let ElementError::NotJson(line, _) = &mistake { *line } else { 0 };
                rows.diagnostics.push(error(line, mistake.to_string()).help("a list of objects, or one object after the other"));
                break;
            }
        }
    }
    if rows.content.lines.is_empty() && rows.diagnostics.0.is_empty() {
        return Err(Diagnostic::error(path, 0, 0, "", "the file has no row")
            .help("a list of objects, or one object after the other")
            .into());
    }
    for (name, _) in wanted.iter().zip(&seen.is_there).filter(|(_, is_there)| !**is_there) {
        let names: Vec<&str> = seen.others.iter().map(String::as_str).chain(wanted.iter().copied().filter(|other| other != name)).collect();
        let diagnostic = Diagnostic::error(path, 0, 0, "", format!("no row has `{name}`"));
        rows.diagnostics.push(diagnostic.help(columns_here(name, &names)));
    }
    rows.finish()
}

/// Which names the rows of a file have.
struct Seen {
    /// Of those that are wanted.
    is_there: Vec<bool>,
    /// Others, for messages.
    others: Vec<String>,
}

/// The wanted cells of an object, the key first.
fn cells<'a>(line: usize, object: &'a Map<String, Value>, wanted: &[&str], seen: &mut Seen) -> Result<Vec<Cell<'a>>, String> {
    for name in object.keys().filter(|name| !wanted.contains(&name.as_str())) {
        if seen.others.len() < NAMES_MAX && !seen.others.contains(name) {
            seen.others.push(name.clone());
        }
    }
    let cell = |(index, name): (usize, &&str)| {
        let Some(value) = object.get(*name) else { return Ok(Cell::new(line, &b""[..])) };
        seen.is_there[index] = true;
        match value {
            Value::Null => Ok(Cell::new(line, &b""[..])),
            Value::String(text) => Ok(Cell::new(line, text.as_bytes())),
            Value::Number(number) => Ok(Cell::new(line, number.to_string().into_bytes())),
            Value::Bool(value) => Ok(Cell::new(line, value.to_string().into_bytes())),
            Value::Array(_) | Value::Object(_) => Err(format!("`{name}` is a list or an object; a cell is text, a number, true or false")),
        }
    };
    wanted.iter().enumerate().map(cell).collect()
}

/// Rows on their way into a [`Content`].
struct Rows<'a> {
    path: &'a Path,
    key: usize,
    columns: Vec<usize>,
    content: Build,
    scratch: Vec<u8>,
    diagnostics: Diagnostics,
}

/// A [`Content`] being built.
struct Build {
    keys: Keys,
    values: Pool,
    cells: Vec<u32>,
    width: usize,
    /// By row, for messages.
    lines: Vec<u32>,
}

enum Keys {
    Pool(Pool, Form),
    Networks(Vec<Network>),
}

impl Rows<'_> {
    fn add(&mut self, row: &[Cell<'_>]) {
        let Some(key) = row.get(self.key) else { return };
        if key.text.is_empty() {
            self.diagnostics.push(key.error(self.path, "the key is empty"));
            return;
        }
        let build = &mut self.content;
        let number = build.lines.len() as u32;
        let mut double = None;
        let shown = || String::from_utf8_lossy(&key.text);
        match &mut build.keys {
            Keys::Pool(keys, form) => {
                let text = key.text.strip_prefix(b"*.").filter(|_| *form == Form::Domain).unwrap_or(&key.text);
                if !form.write(text, &mut self.scratch) {
                    let what = if *form == Form::Hash { "an MD5, SHA-1 or SHA-2 hash" } else { "a domain name" };
                    self.diagnostics.push(key.error(self.path, format!("`{}` is not {what}", shown())));
                    return;
                }
                double = Some(keys.insert(&self.scratch)).filter(|found| *found != number);
            }
            Keys::Networks(networks) => match std::str::from_utf8(&key.text).ok().and_then(network) {
                Some(network) => networks.push(Network { network, row: number }),
                None => {
                    let message = format!("`{}` is not a network", shown());
                    self.diagnostics.push(key.error(self.path, message).help("such as 10.0.0.0/8, 2001:db8::/32 or a single address"));
                    return;
                }
            },
        }
        let start = build.cells.len();
        for column in &self.columns {
            let text = row.get(*column).map_or(&b""[..], |cell| &cell.text);
            build.cells.push(build.values.insert(text));
        }
        let Some(first) = double else {
            build.lines.push(key.line as u32);
            return;
        };
        let width = build.width;
        let same = build.cells[first as usize * width..][..width] == build.cells[start..];
        build.cells.truncate(start);
        if !same {
            self.diagnostics.push(key.error(self.path, doubled(&shown(), build.lines[first as usize])));
        }
    }

    fn finish(self) -> Result<Content, Diagnostics> {
        self.content.finish(self.path, self.diagnostics)
    }
}

fn doubled(key: &str, line: u32) -> String {
    format!("`{key}` says something else in line {line}")
}

impl Build {
    fn new(layout: &Layout) -> Self {
        let mut values = Pool::new();
        values.insert(b"");
        debug_assert_eq!(values.find(b""), Some(EMPTY));
        let keys = match layout.r#match {
            Match::Exact if layout.ignore_case => Keys::Pool(Pool::new(), Form::IgnoreCase),
            Match::Exact => Keys::Pool(Pool::new(), Form::Exact),
            Match::DomainSuffix => Keys::Pool(Pool::new(), Form::Domain),
            Match::Hash => Keys::Pool(Pool::new(), Form::Hash),
            Match::Cidr => Keys::Networks(Vec::new()),
        };
        Self { keys, values, cells: Vec::new(), width: layout.columns.len(), lines: Vec::new() }
    }

    fn finish(self, path: &Path, mut diagnostics: Diagnostics) -> Result<Content, Diagnostics> {
        let Self { keys, values, mut cells, width, lines } = self;
        let index = match keys {
            Keys::Pool(mut keys, form) => {
                keys.shrink();
                Index::Keys(keys, form)
            }
            Keys::Networks(mut networks) => {
                networks.sort_unstable();
                for pair in networks.windows(2) {
                    let [first, second] = pair else { continue };
                    let row = |network: &Network| &cells[network.row as usize * width..][..width];
                    if first.network == second.network && row(first) != row(second) && diagnostics.0.len() < MISTAKES_MAX {
                        let line = lines[second.row as usize] as usize;
                        let message = doubled(&first.network.to_string(), lines[first.row as usize]);
                        diagnostics.push(Diagnostic::error(path, line, 0, "", message));
                    }
                }
                Index::Networks(Networks::new(&networks))
            }
        };
        cells.shrink_to_fit();
        diagnostics.0.sort_by_key(|diagnostic| diagnostic.line);
        diagnostics.into_result(Content { index, values, cells, width })
    }
}
