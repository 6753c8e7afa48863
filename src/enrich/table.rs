//! `table`: fields from a CSV file, by exact key or by network.
//!
//! In: a CSV file (RFC 4180) whose first line names the columns. Out: for each row the wanted columns, as text;
//! an empty cell adds nothing.
//!
//! * The file is UTF-8, with or without a byte order mark, with either line end. Blanks around cells without
//!   quotes do not count, nor do empty lines. Columns that the configuration does not name are not read.
//! * `match: exact` compares bytes: `Web01` is not `web01`, `2001:DB8::1` is not `2001:db8::1`.
//! * `match: cidr` takes networks and single addresses; the longest prefix wins. `10.1.2.3/8` is read as its
//!   network. An IPv4 address written as IPv6 (`::ffff:10.1.2.3`) is IPv4, in the file and in events.
//! * A key that stands twice is refused unless both rows say the same: who wins would be a guess.
//!
//! Memory: every distinct text once, and 4 bytes for each cell; a million networks with two columns take
//! about 30 MB, while a new file is read both the old and the new one are there, with the file's text.
//!
//! Errors name file, line and column, up to [`MISTAKES_MAX`] at once.
//!
//! Not supported: other separators than the comma, keys of several columns, folding of case.

mod csv;
mod networks;
mod pool;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;

use super::{Bound, Cells, Damaged, Enricher, EnricherKind, Entries, Filler, Lookup, Refresh, Watched, address, check_name};
use crate::config::Section;
use crate::error::{Diagnostic, Diagnostics, nearest};
use crate::event::{Fields, Kind};

use csv::{Cell, Csv};
use networks::{Network, Networks};
use pool::Pool;

pub(super) struct Table;

const SAMPLE: &str = r#"
type: table
path: assets.csv                           # ip,owner,zone ... read again when it changes
key: { field: source.ip, column: ip }      # which field of the event, which column of the file
match: exact                               # or cidr: the column holds networks, the longest prefix wins
columns: { owner: source.owner, zone: source.zone }   # column: the field that it becomes
"#;

/// Longest file: about five million rows, loaded in a few seconds.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Mistakes of one file that are reported before reading gives up.
const MISTAKES_MAX: usize = 20;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The CSV file; its first line names the columns.
    path: PathBuf,
    /// What is looked up.
    key: KeyConfig,
    /// How keys are compared.
    #[serde(default)]
    r#match: Match,
    /// Column to the field that it becomes.
    columns: BTreeMap<String, String>,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeyConfig {
    /// Field of the event.
    field: String,
    /// Column of the file.
    column: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Match {
    /// Networks; the longest prefix wins.
    Cidr,
    /// Byte for byte.
    #[default]
    Exact,
}

impl EnricherKind for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn read(&self, section: &Section, base: &Path) -> Result<Box<dyn Enricher>, Diagnostics> {
        let config: Config = section.read()?;
        let mut diagnostics = Diagnostics::new();
        let place = |keys: &[&str]| keys.iter().fold(section.clone(), |at, key| at.child(key).unwrap_or(at));
        diagnostics.absorb(check_name(&place(&["key", "field"]), &config.key.field).map_err(Diagnostics::from));
        if config.columns.is_empty() {
            diagnostics.push(place(&["columns"]).error("no column becomes a field").help("columns: { owner: source.owner }"));
        }
        let mut adds: Vec<String> = Vec::new();
        for (column, field) in &config.columns {
            let place = place(&["columns", column]);
            diagnostics.absorb(check_name(&place, field).map_err(Diagnostics::from));
            if *field == config.key.field {
                diagnostics.push(place.error(format!("`{field}` is the key; it cannot be added as well")));
            } else if adds.contains(field) {
                diagnostics.push(place.error(format!("another column becomes `{field}` already")));
            }
            adds.push(field.clone());
        }
        let layout = Layout { key: config.key.column, columns: config.columns.into_keys().collect(), r#match: config.r#match };
        let file = Watched::new(base.join(config.path), FILE_BYTES_MAX, move |path, bytes| Content::parse(path, &bytes, &layout));
        diagnostics.into_result(Box::new(Configured { file, lookups: vec![Lookup { key: config.key.field, adds }] }))
    }
}

struct Configured {
    file: Arc<Watched<Content>>,
    lookups: Vec<Lookup>,
}

impl Enricher for Configured {
    fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    fn refresh(&self) -> Refresh {
        self.file.refresh()
    }

    fn bind(&self, fields: &Fields) -> Box<dyn Bound> {
        Box::new(Filler::new(self.file.handle(), &self.lookups, fields))
    }
}

/// What is asked of the file.
struct Layout {
    key: String,
    columns: Vec<String>,
    r#match: Match,
}

/// A file's rows.
struct Content {
    index: Index,
    values: Pool,
    /// Numbers of values, row by row; [`EMPTY`] for a cell without text.
    cells: Vec<u32>,
    width: usize,
}

/// The first value of every pool here.
const EMPTY: u32 = 0;

enum Index {
    /// The number of a key is that of its row.
    Exact(Pool),
    Networks(Networks),
}

impl Entries for Content {
    fn find(&self, key: &[u8]) -> Option<u128> {
        match &self.index {
            Index::Exact(keys) => keys.find(key),
            Index::Networks(networks) => networks.find(address(key)?),
        }
        .map(u128::from)
    }

    fn write(&self, entry: u128, cells: &mut Cells<'_, '_>) -> Result<(), Damaged> {
        let start = entry as usize * self.width;
        for (column, value) in self.cells[start..start + self.width].iter().enumerate() {
            if *value != EMPTY {
                cells.set(column, Kind::Text, self.values.bytes(*value));
            }
        }
        Ok(())
    }
}

impl Content {
    fn parse(path: &Path, bytes: &[u8], layout: &Layout) -> Result<Self, Diagnostics> {
        let mut csv = Csv::new(path, bytes)?;
        let mut row = Vec::new();
        if !csv.record(&mut row)? {
            return Err(Diagnostic::error(path, 0, 0, "", "the file is empty").help("its first line names the columns").into());
        }
        let (key, columns) = Self::header(path, &row, layout)?;
        let width = row.len();
        let mut rows = Rows { path, key, columns, content: Build::new(layout), diagnostics: Diagnostics::new() };
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
        let Rows { content, diagnostics, .. } = rows;
        content.finish(path, diagnostics)
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
                    let near = nearest(wanted, names.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
                    let diagnostic =
                        Diagnostic::error(path, row.first().map_or(1, |cell| cell.line), 1, "", format!("there is no column `{wanted}`"));
                    diagnostics.push(diagnostic.help(format!("{near}columns here: {}", names.join(", "))));
                }
            }
            0
        };
        let key = find(&layout.key);
        let columns = layout.columns.iter().map(|name| find(name)).collect();
        diagnostics.into_result((key, columns))
    }
}

/// Rows on their way into a [`Content`].
struct Rows<'a> {
    path: &'a Path,
    key: usize,
    columns: Vec<usize>,
    content: Build,
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
    Exact(Pool),
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
        match &mut build.keys {
            Keys::Exact(keys) => double = Some(keys.insert(&key.text)).filter(|found| *found != number),
            Keys::Networks(networks) => match network(&key.text) {
                Some(network) => networks.push(Network { network, row: number }),
                None => {
                    let message = format!("`{}` is not a network", String::from_utf8_lossy(&key.text));
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
            self.diagnostics.push(key.error(self.path, doubled(&String::from_utf8_lossy(&key.text), build.lines[first as usize])));
        }
    }
}

fn doubled(key: &str, line: u32) -> String {
    format!("`{key}` says something else in line {line}")
}

impl Build {
    fn new(layout: &Layout) -> Self {
        let mut values = Pool::new();
        values.insert(b"");
        let keys = match layout.r#match {
            Match::Exact => Keys::Exact(Pool::new()),
            Match::Cidr => Keys::Networks(Vec::new()),
        };
        Self { keys, values, cells: Vec::new(), width: layout.columns.len(), lines: Vec::new() }
    }

    fn finish(self, path: &Path, mut diagnostics: Diagnostics) -> Result<Content, Diagnostics> {
        let Self { keys, values, mut cells, width, lines } = self;
        let index = match keys {
            Keys::Exact(keys) => Index::Exact(keys),
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

/// A network or a single address, IPv4 wherever it can be.
fn network(text: &[u8]) -> Option<IpNet> {
    const MAPPED_BITS: u8 = 96;
    let text = std::str::from_utf8(text).ok()?;
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?.trunc();
    match (network, network.addr().to_canonical()) {
        (IpNet::V6(network), canonical @ IpAddr::V4(_)) if network.prefix_len() >= MAPPED_BITS => {
            IpNet::new(canonical, network.prefix_len() - MAPPED_BITS).ok()
        }
        _ => Some(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::testing::{filled, kinds, read};

    const ASSETS: &str = "ip,owner,zone,floor\n10.1.2.3,alice,dmz,3\n10.1.2.4,,dmz,3\n\"a\"\"b\",carol,,\n";

    fn config(more: &str) -> String {
        format!(
            "type: table\npath: t.csv\nkey: {{ field: source.ip, column: ip }}\ncolumns: {{ owner: source.owner, zone: source.zone }}\n{more}"
        )
    }

    fn find(config: &str, csv: &str, keys: &[&str]) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.csv"), csv).unwrap();
        let enricher = read(&Table, config, folder.path()).unwrap();
        assert!(matches!(enricher.refresh(), Refresh::Loaded));
        let rows = filled(&*enricher, "source.ip", keys, &["source.owner", "source.zone"]);
        rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
    }

    fn mistakes(config: &str, csv: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.csv"), csv).unwrap();
        let enricher = match read(&Table, config, folder.path()) {
            Ok(enricher) => enricher,
            Err(diagnostics) => return diagnostics.to_string(),
        };
        let Refresh::Failed(diagnostics) = enricher.refresh() else { panic!("the file was taken") };
        diagnostics.to_string().replace(&format!("{}/", folder.path().display()), "")
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn exact_keys_add_their_columns_and_empty_cells_add_nothing() {
        let found = find(&config(""), ASSETS, &["10.1.2.3", "10.1.2.4", "10.1.2.30", "", "a\"b", "10.1.2.3"]);
        assert_eq!(found, pairs(&[("alice", "dmz"), ("-", "dmz"), ("-", "-"), ("-", "-"), ("carol", "-"), ("alice", "dmz")]));
    }

    #[test]
    fn networks_give_the_longest_prefix_in_both_families() {
        let csv = "ip,owner,zone\n10.0.0.0/8,corp,inside\n10.1.2.99/24,web,dmz\n::ffff:10.9.0.0/120,nine,x\n2001:db8::/32,six,v6\n192.0.2.7,one,y\n";
        let keys =
            ["10.200.0.1", "10.1.2.4", "10.9.1.1", "::ffff:10.1.2.4", "2001:DB8::1", "192.0.2.7", "192.0.2.8", "web01", "10.1.2.4:80"];
        let found = find(&config("match: cidr"), csv, &keys);
        let expected = [
            ("corp", "inside"),
            ("web", "dmz"),
            ("corp", "inside"),
            ("web", "dmz"),
            ("six", "v6"),
            ("one", "y"),
            ("-", "-"),
            ("-", "-"),
            ("-", "-"),
        ];
        assert_eq!(found, pairs(&expected));
        assert_eq!(find(&config("match: cidr"), csv, &["10.9.0.1"]), pairs(&[("nine", "x")]));
    }

    #[test]
    fn numbers_and_escaped_text_are_keys_too() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("t.csv"), "ip,owner,zone\n443,https,\ncorp\\bob,bob,\n").unwrap();
        let enricher = read(&Table, &config(""), folder.path()).unwrap();
        assert!(matches!(enricher.refresh(), Refresh::Loaded));
        let keys = [(Kind::Number, "443"), (Kind::Escaped, "corp\\\\bob"), (Kind::Array, "[443]"), (Kind::Missing, "")];
        let owners: Vec<String> = kinds(&*enricher, "source.ip", &keys, &["source.owner"]).into_iter().flatten().collect();
        assert_eq!(owners, ["https", "bob", "-", "-"]);
    }

    #[test]
    fn every_mistake_of_a_file_is_named_with_line_and_column() {
        assert_eq!(
            mistakes(&config(""), "ip,owner,zone\na,b,c\n,x,y\nb,c\na,b,other\na,b,c\nd,e,f,g\n"),
            "t.csv:3:1: error: the key is empty\n\
             t.csv:4:3: error: 2 cells; the first line has 3\n\
             t.csv:5:1: error: `a` says something else in line 2\n\
             t.csv:7:7: error: 4 cells; the first line has 3"
        );
        assert_eq!(
            mistakes(&config(""), "IP,ownr,zone,zone\n"),
            "t.csv:1:1: error: there is no column `ip`\n  help: did you mean `IP`? columns here: IP, ownr, zone, zone\n\
             t.csv:1:1: error: there is no column `owner`\n  help: did you mean `ownr`? columns here: IP, ownr, zone, zone\n\
             t.csv:1:14: error: the column `zone` stands twice"
        );
        assert_eq!(
            mistakes(&config("match: cidr"), "ip,owner,zone\n10.0.0.0/33,a,b\n10.0.0.0/8,a,b\n10.0.0.1/8,a,c\n"),
            "t.csv:2:1: error: `10.0.0.0/33` is not a network\n  help: such as 10.0.0.0/8, 2001:db8::/32 or a single address\n\
             t.csv:4: error: `10.0.0.0/8` says something else in line 3"
        );
        assert!(mistakes(&config(""), "").contains("the file is empty"));
        let many = mistakes(&config(""), &format!("ip,owner,zone\n{}", "x\n".repeat(1000)));
        assert_eq!(many.lines().count(), MISTAKES_MAX);
    }

    #[test]
    fn every_mistake_of_the_section_is_named() {
        let config = "type: table\npath: t.csv\nkey: { field: .source.ip, column: ip }\ncolumns: { a: source.owner, b: source.owner, c: '%native.x', d: source..x }\n";
        let text = mistakes(config, "");
        for part in [
            "c.yaml:3:15: error: key.field: `.source.ip` is not the name of a field\n  help: write `source.ip`, without the first dot",
            "columns.b: another column becomes `source.owner` already",
            "columns.c: `%native.x` is not the name of a field",
            "columns.d: `source..x` is not",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(mistakes("type: table\npath: t.csv\nkey: { field: a, column: a }\ncolumns: { b: a }\n", "").contains("`a` is the key"));
        assert!(
            mistakes("type: table\npath: t.csv\nkey: { field: a, column: a }\ncolumns: {}\n", "").contains("no column becomes a field")
        );
    }
}
