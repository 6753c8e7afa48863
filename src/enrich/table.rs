//! `table`: fields from a CSV or JSON file, by exact key, network, name or hash.
//!
//! In: a CSV file (RFC 4180) whose first line names the columns, or JSON: a list of objects, or one object after the other
//! (NDJSON), whose keys are the columns. Out: for each row the wanted columns, as text; an empty cell adds nothing.
//!
//! * The file is UTF-8, with or without a byte order mark, with either line end. Blanks around cells without
//!   quotes do not count, nor do empty lines. Columns that the configuration does not name are not read.
//! * In JSON a cell is text, a number, `true` or `false`; `null` and a missing key are empty.
//! * `match: exact` compares bytes: `Web01` is not `web01`, `2001:DB8::1` is not `2001:db8::1`; with `ignore_case: true`
//!   the case of ASCII letters does not count.
//! * `match: cidr` takes networks and single addresses; the longest prefix wins. `10.1.2.3/8` is read as its
//!   network. An IPv4 address written as IPv6 (`::ffff:10.1.2.3`) is IPv4, in the file and in events.
//! * `match: domain_suffix` takes names; each stands for those below it too, the longest wins: `b.example` is found for
//!   `A.b.example.`, not for `ab.example`. Case and a last dot do not count; `*.b.example` is `b.example`. Unicode and
//!   `xn--` forms are compared as they are written.
//! * `match: hash` takes MD5, SHA-1 and SHA-2 in hexadecimal digits of either case.
//! * A key that stands twice is refused unless both rows say the same: who wins would be a guess.
//!
//! Memory: every distinct text once, and 4 bytes for each cell; a million networks with two columns take
//! about 30 MB, while a new file is read both the old and the new one are there, with the file's text.
//!
//! Errors name file, line and (in CSV) column, up to [`MISTAKES_MAX`] at once.
//!
//! Not supported: other separators than the comma, keys of several columns.

mod rows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::csv::Cell;
use super::indicators::network;
use super::networks::{Network, Networks};
use super::pool::Pool;
use super::{Bound, Cells, Damaged, Enricher, EnricherKind, Entries, Filler, Folders, Lookup, Refresh, Watched, address, check_name, keys};
use crate::config::{Section, schema_of};
use crate::error::Diagnostics;
use crate::event::{Fields, Kind};

pub(super) struct Table;

const SAMPLE: &str = r#"
type: table
path: assets.csv                           # ip,owner,zone ... read again when it changes; or .json, .ndjson
key: { field: source.ip, column: ip }      # which field of the event, which column of the file
match: exact                               # or cidr, domain_suffix (the longest wins), hash
columns: { owner: source.owner, zone: source.zone }   # column: the field that it becomes
"#;

/// Longest file: about five million rows, loaded in a few seconds.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Mistakes of one file that are reported before reading gives up.
const MISTAKES_MAX: usize = 20;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The file. CSV: its first line names the columns; JSON: a list of objects, or one after the other.
    path: PathBuf,
    /// How it is written, if its name does not tell: JSON ends in `.json`, `.ndjson` or `.jsonl`.
    format: Option<Format>,
    /// What is looked up.
    key: KeyConfig,
    /// How keys are compared.
    #[serde(default)]
    r#match: Match,
    /// Whether `match: exact` takes no notice of the case of ASCII letters.
    #[serde(default)]
    ignore_case: bool,
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
    /// Names with those below them; the longest wins.
    DomainSuffix,
    /// Byte for byte.
    #[default]
    Exact,
    /// MD5, SHA-1, SHA-2.
    Hash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// RFC 4180.
    Csv,
    /// Objects, in a list or one after the other.
    Json,
}

impl Format {
    fn of(path: &Path) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if ["json", "ndjson", "jsonl"].contains(&extension.to_ascii_lowercase().as_str()) { Self::Json } else { Self::Csv }
    }
}

impl EnricherKind for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section, folders: Folders<'_>) -> Result<Box<dyn Enricher>, Diagnostics> {
        let config: Config = section.read()?;
        let mut diagnostics = Diagnostics::new();
        let place = |keys: &[&str]| keys.iter().fold(section.clone(), |at, key| at.child(key).unwrap_or(at));
        diagnostics.absorb(check_name(&place(&["key", "field"]), &config.key.field).map_err(Diagnostics::from));
        if config.ignore_case && config.r#match != Match::Exact {
            diagnostics.push(place(&["ignore_case"]).error("goes with `match: exact`; no other takes notice of the case"));
        }
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
        let layout = Layout {
            format: config.format.unwrap_or_else(|| Format::of(&config.path)),
            key: config.key.column,
            columns: config.columns.into_keys().collect(),
            r#match: config.r#match,
            ignore_case: config.ignore_case,
        };
        let path = folders.base.join(config.path);
        let file = Watched::new(path, FILE_BYTES_MAX, move |path, bytes| rows::parse(path, &bytes, &layout));
        diagnostics.into_result(Box::new(Configured { file, lookups: vec![Lookup { key: config.key.field, adds, is_usual: false }] }))
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
    format: Format,
    key: String,
    columns: Vec<String>,
    r#match: Match,
    ignore_case: bool,
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
    Keys(Pool, Form),
    Networks(Networks),
}

/// In which form keys are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Exact,
    IgnoreCase,
    Domain,
    Hash,
}

impl Form {
    /// Writes a key in this form; false if it is none.
    fn write(self, key: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Self::Domain => return keys::domain(key, out),
            Self::Hash => return keys::hash(key, out),
            Self::Exact => key.clone_into(out),
            Self::IgnoreCase => {
                key.clone_into(out);
                out.make_ascii_lowercase();
            }
        }
        true
    }
}

impl Entries for Content {
    fn find(&self, key: &[u8], scratch: &mut Vec<u8>) -> Option<u128> {
        match &self.index {
            Index::Networks(networks) => networks.find(address(key)?),
            Index::Keys(keys, Form::Exact) => keys.find(key),
            Index::Keys(keys, Form::Domain) => {
                Form::Domain.write(key, scratch).then(|| keys::suffixes(scratch).find_map(|name| keys.find(name))).flatten()
            }
            Index::Keys(keys, form) => form.write(key, scratch).then(|| keys.find(scratch)).flatten(),
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
    fn names_stand_for_those_below_them_and_the_longest_wins() {
        let csv = "ip,owner,zone\nCorp.example,corp,inside\n*.dmz.corp.example.,web,dmz\nlocal,own,x\n";
        let keys = ["corp.example", "A.CORP.example.", "x.y.dmz.corp.example", "notcorp.example", "example", "printer.local", "a b", ""];
        let owners: Vec<String> = find(&config("match: domain_suffix"), csv, &keys).into_iter().map(|(owner, _)| owner).collect();
        assert_eq!(owners, ["corp", "corp", "web", "-", "-", "own", "-", "-"]);
        assert_eq!(
            mistakes(&config("match: domain_suffix"), "ip,owner,zone\na..b,x,y\na.b,x,y\nA.B.,other,y\n"),
            "t.csv:2:1: error: `a..b` is not a domain name\nt.csv:4:1: error: `A.B.` says something else in line 3"
        );
    }

    #[test]
    fn case_and_hashes_are_compared_as_asked_for() {
        let csv = "ip,owner,zone\nWeb01,alice,dmz\n";
        assert_eq!(find(&config(""), csv, &["web01"]), pairs(&[("-", "-")]));
        assert_eq!(
            find(&config("ignore_case: true"), csv, &["web01", "WEB01", "web02"])[..2],
            pairs(&[("alice", "dmz"), ("alice", "dmz")])
        );
        let csv = "ip,owner,zone\nD41D8CD98F00B204E9800998ECF8427E,empty,x\n";
        assert_eq!(find(&config("match: hash"), csv, &["d41d8cd98f00b204e9800998ecf8427e", "d4"]), pairs(&[("empty", "x"), ("-", "-")]));
        assert!(mistakes(&config("match: hash"), "ip,owner,zone\nabc,x,y\n").contains("`abc` is not an MD5, SHA-1 or SHA-2 hash"));
        assert!(mistakes(&config("match: cidr\nignore_case: true"), "").contains("ignore_case: goes with `match: exact`"));
    }

    #[test]
    fn json_rows_are_rows() {
        let json = |text: &str, key: &str| find(&config("format: json"), text, &[key]);
        let list = "[{\"ip\":\"10.1.2.3\",\"owner\":\"al\\u0069ce\",\"zone\":7,\"more\":[1]},\n {\"ip\":443,\"owner\":null,\"zone\":true}]";
        assert_eq!(json(list, "10.1.2.3"), pairs(&[("alice", "7")]));
        assert_eq!(json(list, "443"), pairs(&[("-", "true")]));
        assert_eq!(json("{\"ip\":\"a\",\"owner\":\"x\",\"zone\":\"\"}\n{\"ip\":\"b\",\"owner\":\"y\"}\n", "b"), pairs(&[("y", "-")]));
        let wrong = |text: &str| mistakes(&config("format: json"), text);
        assert_eq!(
            wrong("[{\"ip\":\"a\",\"owner\":\"x\",\"zone\":[1]},\n{\"owner\":\"x\"},\n{\"ip\":\"a\",\"ownr\":1,},\n{\"ip\":\"c\"}]"),
            "t.csv:1: error: `zone` is a list or an object; a cell is text, a number, true or false\n\
             t.csv:2: error: the key is empty\n\
             t.csv:3: error: not a JSON object: trailing comma"
        );
        assert_eq!(
            wrong("[{\"ip\":\"a\",\"ownr\":\"x\",\"zone\":\"y\"}]"),
            "t.csv: error: no row has `owner`\n  help: did you mean `ownr`? columns here: ownr, ip, zone"
        );
        assert!(wrong("[{\"ip\":\"a\",\"owner\":\"x\",\"zone\":\"y\"},").contains("t.csv:1: error: the document ends in the middle"));
        assert!(wrong("ip,owner\n").contains("t.csv:1: error: this is not JSON"));
        assert!(wrong("[]").contains("the file has no row"));
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
