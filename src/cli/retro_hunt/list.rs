//! Lists of indicators: `file -> index`, read as the node reads those of a `threat_list`.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use super::index::Index;
use crate::cli::{Failure, warn};
use crate::enrich::indicators::{Columns, Format, Kind, LeftOut, Refusal, read_indicators};
use crate::error::{Diagnostic, Diagnostics, Error, ErrorKind};

/// Indicators that are hunted at once; each takes some 150 bytes.
const INDICATORS_MAX: usize = 4_000_000;

/// Read at once; a format is told by what stands in so much of a list.
const READ_BYTES: usize = 128 * 1024;

/// How lists are written.
#[derive(clap::Args)]
pub(super) struct Lists {
    /// Lists of indicators. May be given more than once.
    #[arg(long, required = true, num_args = 1, value_name = "FILE")]
    indicators: Vec<PathBuf>,
    /// How they are written; `auto` tells MISP and STIX by their JSON, CSV by the name of the file, and takes everything else
    /// for `plain`.
    #[arg(long, value_enum, default_value = "auto")]
    format: FormatName,
    /// Columns of a `csv` list, by the names in its first line or in the comment before its first record.
    #[arg(long, value_delimiter = ',', required_if_eq("format", "csv"), value_name = "value=NAME,kind=NAME")]
    columns: Vec<String>,
    /// What all entries of a `plain` or `csv` list are, in the place of what each looks like.
    #[arg(long, value_parser = kind, value_name = "ip|domain|url|hash|email")]
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FormatName {
    /// Told by the beginning.
    Auto,
    /// One a line; what follows `#` or `;` is a comment.
    Plain,
    /// Columns.
    Csv,
    /// JSON of MISP: an event, a list of them, attributes.
    Misp,
    /// A STIX 2 bundle.
    Stix,
}

fn kind(name: &str) -> Result<Kind, String> {
    let kinds = [Kind::Ip, Kind::Domain, Kind::Url, Kind::Hash, Kind::Email];
    let known = kinds.into_iter().find(|kind| kind.name() == name);
    known.ok_or_else(|| format!("expected one of: {}", kinds.map(Kind::name).join(", ")))
}

impl Lists {
    /// Adds the indicators of all lists.
    pub(super) fn read(&self, index: &mut Index) -> Result<(), Failure> {
        let columns = self.columns()?;
        self.indicators.iter().try_for_each(|path| self.read_one(path, columns.as_ref(), index))
    }

    fn read_one(&self, path: &Path, columns: Option<&Columns>, index: &mut Index) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Error::new(ErrorKind::Storage, "read the list", error.to_string()).with("file", path.display());
        let mut reader = BufReader::with_capacity(READ_BYTES, File::open(path).map_err(failed)?);
        let format = match (self.format, columns) {
            (FormatName::Auto, None) if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) => {
                return Err(wrong(&format!("which columns of `{}` hold what?", path.display())).into());
            }
            (FormatName::Auto, None) => told(reader.fill_buf().map_err(failed)?, self.kind),
            (FormatName::Misp, _) => Format::Misp,
            (FormatName::Stix, _) => Format::Stix,
            (FormatName::Auto | FormatName::Csv, Some(columns)) => Format::Csv(Box::new(columns.clone())),
            (FormatName::Plain | FormatName::Csv, _) => Format::Plain(self.kind),
        };
        let (mut left_out, mut count) = (LeftOut::default(), 0_usize);
        for found in read_indicators(&format, reader) {
            match found {
                Ok(indicator) => {
                    count += 1;
                    index.add(&indicator);
                }
                Err(Refusal::Skipped { line, reason, text }) => left_out.add(line, reason.into_owned(), text),
                Err(Refusal::Broken { line, message, help }) => {
                    return Err(Diagnostics::from(Diagnostic { help, ..Diagnostic::error(path, line, 0, "", message) }).into());
                }
            }
            if index.len() > INDICATORS_MAX {
                let message = format!("more than {INDICATORS_MAX} indicators");
                return Err(Diagnostics::from(Diagnostic::error(path, 0, 0, "", message)).into());
            }
        }
        let mut diagnostics = left_out.warnings(path);
        if count == 0 {
            let help = "`--format` and `--columns` say how a list is written";
            diagnostics.push(Diagnostic::error(path, 0, 0, "", "there is no indicator in it that can be used").help(help));
            return Err(diagnostics.into());
        }
        warn(&diagnostics);
        Ok(())
    }

    /// The columns, if any are named.
    fn columns(&self) -> Result<Option<Columns>, Diagnostics> {
        let mut columns = Columns { all: self.kind, ..Columns::default() };
        for pair in &self.columns {
            let (key, name) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                _ if name.is_empty() => return Err(wrong(&format!("`{pair}` has no name of a column"))),
                "value" => columns.value = name.to_owned(),
                "kind" => columns.kind = Some(name.to_owned()),
                "valid_until" => columns.valid_until = Some(name.to_owned()),
                _ => return Err(wrong(&format!("there is no `{key}`"))),
            }
        }
        if !self.columns.is_empty() && columns.value.is_empty() {
            return Err(wrong("`value` is missing"));
        }
        Ok(Some(columns).filter(|columns| !columns.value.is_empty()))
    }
}

fn wrong(message: &str) -> Diagnostics {
    let mistake = Diagnostic::error(Path::new("--columns"), 0, 0, "", message);
    mistake.help("value=ioc_value,kind=ioc_type,valid_until=expires; only `value` is needed").into()
}

/// The format that the beginning of a list tells.
fn told(head: &[u8], kind: Option<Kind>) -> Format {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    // Lines of a plain list begin with neither; an IPv6 address with a port does with `[`.
    let is_json = text.starts_with(b"{") || text.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"{"));
    let has = |key: &[u8]| memchr::memmem::find(text, key).is_some();
    match is_json {
        true if has(b"\"objects\"") || has(b"\"bundle\"") => Format::Stix,
        true => Format::Misp,
        false => Format::Plain(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_told_by_the_beginning_of_a_list() {
        for (head, expected) in [
            ("# list\n198.51.100.7\n", Format::Plain(None)),
            ("[2001:db8::1]:443\n", Format::Plain(None)),
            ("", Format::Plain(None)),
            ("\u{feff} {\"type\": \"bundle\", \"id\"", Format::Stix),
            ("{\n  \"objects\": [", Format::Stix),
            ("{\"Event\": {\"info\": \"x\"", Format::Misp),
            ("[ {\"Event\": {", Format::Misp),
        ] {
            assert_eq!(told(head.as_bytes(), None), expected, "{head}");
        }
    }
}
