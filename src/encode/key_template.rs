//! Object keys and file paths, in the `!{namespace:value}` syntax of Amazon Data Firehose.
//!
//! In: a template, once; then, per event, the values that it refers to ([`KeyTemplate::partition`]) and, per
//! batch, time and seed ([`KeyTemplate::render`]). Out: the text of a key. Errors: a [`TemplateError`] with
//! the byte offset when a template is read; a [`KeyTooLong`] when a key is made.
//!
//! Source: Firehose developer guide, "Custom prefixes for Amazon S3 objects" and "Amazon S3 object name
//! format" (May 2023 and current), and the API model of 2015-08-04.
//!
//! | expression | becomes |
//! |---|---|
//! | `!{timestamp:FMT}` | the arrival time of the batch's oldest event; FMT is a Java `DateTimeFormatter` pattern |
//! | `!{firehose:random-string}` | 11 characters, others at each place, the same again for the same seed |
//! | `!{firehose:error-output-type}` | such as `processing-failed`; in error prefixes only |
//! | `!{partitionKeyFromQuery:k}`, `!{partitionKeyFromLambda:k}` | a partition key of the event |
//! | `!{field:source.ip}` | a field of the event; not in Firehose |
//!
//! # Values are confined
//!
//! Senders choose what is in an event, so a value never leaves the place that the template gives it. Letters,
//! ASCII digits and `- _ . = @ + :` stay; all else (slashes, controls, blanks, dots and slashes of other
//! scripts, `%`, bytes that are not UTF-8, and dots at the start) is percent-encoded. Empty or missing
//! becomes `_`. A value is cut at 128 bytes. So a value has no `/`, is never `.` or `..`, and two short ones
//! never become the same (but for `_` itself).
//!
//! # Where Firehose's documents leave it open
//!
//! * An expression ends at its first `}`, quoted or not.
//! * A prefix without a timestamp expression gets `!{timestamp:yyyy/MM/dd/HH/}` appended as it is: the
//!   rule says so; one example shows a slash in between that the rule does not give.
//! * An error prefix without expressions, or none at all (then the prefix stands in for it), gets
//!   `!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd/HH/}` appended, with the slash of the example.
//!   The guide's `YYYY` and `DD` there are meant as `yyyy` and `dd`, as its examples show.
//! * An error prefix with expressions needs `!{firehose:error-output-type}` and gets nothing appended.
//! * 512 characters hold for the evaluated prefix without the suffix.
//! * Random strings are of `a-z0-9`; the guide's examples are pieces of hexadecimal and of a uuid.
//! * Partition keys are confined like fields. Firehose lets a slash in a partition key make folders.
//! * The file extension comes from the configuration; Firehose's defaults by compression are not documented.
//!
//! Not supported: see `date_pattern` for the few letters that are refused.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Write as _};

use jiff::tz::TimeZone;

use crate::encode::key_template::date_pattern::{DateField, Moment, Piece};
use crate::error::nearest;

mod date_pattern;

/// Bytes of a template (Firehose's API: 1,024 characters).
pub const TEMPLATE_BYTES_MAX: usize = 1024;

/// Characters of an evaluated prefix (Firehose's guide, semantic rules). S3 itself stops at 1,024 bytes,
/// which leaves room for the suffix.
pub const PREFIX_CHARACTERS_MAX: usize = 512;

/// Bytes of a path (Linux, `PATH_MAX` with its final NUL).
pub const PATH_BYTES_MAX: usize = 4095;

/// Bytes of one name in a path (Linux, `NAME_MAX`).
pub const NAME_BYTES_MAX: usize = 255;

/// Bytes of one confined value: several fit into a name, and an event cannot use up a whole key.
pub const VALUE_BYTES_MAX: usize = 128;

/// Characters of a file extension (Firehose's API, `FileExtension`).
pub const EXTENSION_BYTES_MAX: usize = 128;

/// Length of a random string (Firehose's guide).
const RANDOM_CHARACTERS: usize = 11;

const DEFAULT_DATE: &str = "!{timestamp:yyyy/MM/dd/HH/}";
const DEFAULT_ERROR: &str = "!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd/HH/}";

const NAMESPACES: [&str; 5] = ["timestamp", "firehose", "partitionKeyFromQuery", "partitionKeyFromLambda", "field"];
const FIREHOSE_VALUES: [&str; 2] = ["random-string", "error-output-type"];

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// Byte offset in the template.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right, if there is more to say.
    pub help: Option<String>,
}

impl TemplateError {
    fn new(offset: usize, message: impl Into<String>) -> Self {
        Self { offset, message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn meant(self, name: &str, candidates: &[&'static str]) -> Self {
        match nearest(name, candidates.iter().copied()) {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None => self.help(format!("one of: {}", candidates.join(", "))),
        }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.offset, self.message)?;
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl StdError for TemplateError {}

/// A key that became longer than its place permits; only the lengths of an event's values can cause it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTooLong {
    /// Its length.
    pub length: usize,
    /// The most that is allowed.
    pub limit: usize,
}

impl fmt::Display for KeyTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the key is {} long, {} is the limit", self.length, self.limit)
    }
}

impl StdError for KeyTooLong {}

/// What a template is for: it decides what may stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A Firehose `Prefix`: a date is appended if it has none.
    Prefix,
    /// A Firehose `ErrorOutputPrefix`: no values of events; must tell the kind of error.
    ErrorPrefix,
    /// A file path or a whole object key: nothing is appended; a literal folder must come before any value.
    Path,
}

/// A value that a template takes from an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `!{field:NAME}`.
    Field(String),
    /// `!{partitionKeyFromQuery:NAME}`.
    Query(String),
    /// `!{partitionKeyFromLambda:NAME}`.
    Lambda(String),
}

/// What a batch knows when its key is made.
#[derive(Clone, Copy, Debug)]
pub struct KeyContext<'a> {
    /// Arrival of its oldest event, milliseconds since 1970.
    pub oldest_arrival_ms: i64,
    /// The seed in its manifest: the same seed gives the same key after a restart.
    pub seed: u128,
    /// What `!{firehose:error-output-type}` becomes, such as `processing-failed`.
    pub error_output_type: &'a str,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Date(DateField),
    Random,
    ErrorOutputType,
    Reference,
}

/// A template that was read.
#[derive(Debug)]
pub struct KeyTemplate {
    parts: Vec<Part>,
    /// In the order of their parts.
    references: Vec<Reference>,
    role: Role,
    zone: TimeZone,
}

impl KeyTemplate {
    /// Reads a template; its times are those of `zone` (see [`time_zone`]).
    pub fn parse(text: &str, role: Role, zone: TimeZone) -> Result<Self, TemplateError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::new(TEMPLATE_BYTES_MAX, format!("longer than {TEMPLATE_BYTES_MAX} bytes")));
        }
        let mut reader = Reader { parts: Vec::new(), offsets: Vec::new(), references: Vec::new(), role };
        reader.read(text)?;
        match role {
            Role::Prefix if !reader.has(|part| matches!(part, Part::Date(_))) => reader.read(DEFAULT_DATE)?,
            Role::ErrorPrefix if !reader.has(|part| !matches!(part, Part::Literal(_))) => reader.read(DEFAULT_ERROR)?,
            Role::ErrorPrefix if !reader.has(|part| *part == Part::ErrorOutputType) => {
                let error = TemplateError::new(text.len(), "an error prefix with expressions must tell the kind of error");
                return Err(error.help("add !{firehose:error-output-type}"));
            }
            _ => {}
        }
        reader.check_names()?;
        Ok(Self { parts: reader.parts, references: reader.references, role, zone })
    }

    /// The error prefix that goes with `prefix` when none is configured; a prefix with expressions has none.
    pub fn default_error_prefix(prefix: &str, zone: TimeZone) -> Result<Self, TemplateError> {
        match prefix.find("!{") {
            Some(at) => Err(TemplateError::new(at, "a prefix with expressions needs an error prefix of its own")
                .help("for example errors/!{firehose:error-output-type}/")),
            None => Self::parse(prefix, Role::ErrorPrefix, zone),
        }
    }

    /// What it takes from an event, in the order in which it asks for it.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// Patterns that are valid but seldom meant, to warn about.
    pub fn warnings(&self) -> Vec<&'static str> {
        let has = |letters: &str| self.parts.iter().any(|part| matches!(part, Part::Date(field) if letters.contains(field.letter)));
        let mut warnings = Vec::new();
        if has("Y") && !has("wW") {
            warnings.push("`Y` is the year of the week, another one than `y` in the days around new year");
        }
        if has("D") && has("ML") {
            warnings.push("`D` is the day of the year; the day of the month is `d`");
        }
        warnings
    }

    /// Replaces `out` by the event's partition: its confined values, each with a `/` behind it.
    ///
    /// `lookup` gets the index into [`KeyTemplate::references`]. Events of one batch share a partition; the
    /// batch's manifest keeps it for [`KeyTemplate::render`]. Nothing is allocated but the growth of `out`.
    pub fn partition<'v>(&self, mut lookup: impl FnMut(usize) -> Option<Cow<'v, [u8]>>, out: &mut String) {
        out.clear();
        for index in 0..self.references.len() {
            confine(lookup(index).as_deref().unwrap_or(b""), out);
            out.push('/');
        }
    }

    /// Appends the key of a batch whose events have this `partition`.
    ///
    /// On an error `out` is as before.
    pub fn render(&self, partition: &str, context: &KeyContext<'_>, out: &mut String) -> Result<(), KeyTooLong> {
        let start = out.len();
        let moment = Moment::new(context.oldest_arrival_ms, &self.zone);
        let mut random = Random::new(context.seed);
        let mut values = partition.split('/');
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Date(field) => field.write(&moment, out),
                Part::Random => random.write(out),
                Part::ErrorOutputType => out.push_str(context.error_output_type),
                // A manifest is read from disk: even a damaged one cannot leave the prefix.
                Part::Reference => out.push_str(values.next().filter(|v| !v.is_empty() && !v.starts_with('.')).unwrap_or("_")),
            }
        }
        let checked = self.check_length(out.get(start..).unwrap_or(""));
        if checked.is_err() {
            out.truncate(start);
        }
        checked
    }

    fn check_length(&self, key: &str) -> Result<(), KeyTooLong> {
        let (length, limit) = match self.role {
            Role::Prefix | Role::ErrorPrefix => (key.chars().count(), PREFIX_CHARACTERS_MAX),
            Role::Path => match key.split('/').map(str::len).max() {
                Some(name) if name > NAME_BYTES_MAX => (name, NAME_BYTES_MAX),
                _ => (key.len(), PATH_BYTES_MAX),
            },
        };
        if length > limit { Err(KeyTooLong { length, limit }) } else { Ok(()) }
    }
}

/// A template that is being read.
struct Reader {
    parts: Vec<Part>,
    /// Where each part begins in the text.
    offsets: Vec<usize>,
    references: Vec<Reference>,
    role: Role,
}

impl Reader {
    fn has(&self, test: impl Fn(&Part) -> bool) -> bool {
        self.parts.iter().any(test)
    }

    fn read(&mut self, text: &str) -> Result<(), TemplateError> {
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once("!{") {
            let at = text.len() - rest.len() + literal.len();
            self.literal(literal, at - literal.len())?;
            let Some((expression, after)) = behind.split_once('}') else {
                return Err(TemplateError::new(at, "`!{` is not closed by `}`"));
            };
            self.expression(expression, at + 2)?;
            rest = after;
        }
        self.literal(rest, text.len() - rest.len())
    }

    fn literal(&mut self, text: &str, offset: usize) -> Result<(), TemplateError> {
        if let Some(at) = text.find(char::is_control) {
            return Err(TemplateError::new(offset + at, "a control character cannot be part of a key"));
        }
        match self.parts.last_mut() {
            Some(Part::Literal(before)) => before.push_str(text),
            _ if text.is_empty() => {}
            _ => self.push(Part::Literal(text.to_owned()), offset),
        }
        Ok(())
    }

    fn push(&mut self, part: Part, offset: usize) {
        self.parts.push(part);
        self.offsets.push(offset);
    }

    fn expression(&mut self, expression: &str, offset: usize) -> Result<(), TemplateError> {
        let Some((namespace, value)) = expression.split_once(':') else {
            return Err(TemplateError::new(offset, format!("`{expression}` has no namespace")).meant(expression, &NAMESPACES));
        };
        let value_offset = offset + namespace.len() + 1;
        let reference = match namespace {
            "timestamp" => return self.timestamp(value, value_offset),
            "firehose" => return self.firehose(value, value_offset),
            "partitionKeyFromQuery" => Reference::Query(value.to_owned()),
            "partitionKeyFromLambda" => Reference::Lambda(value.to_owned()),
            "field" => Reference::Field(value.to_owned()),
            _ => return Err(TemplateError::new(offset, format!("unknown namespace `{namespace}`")).meant(namespace, &NAMESPACES)),
        };
        if self.role == Role::ErrorPrefix {
            return Err(TemplateError::new(offset, "an error prefix cannot have values of events"));
        }
        if value.is_empty() || value.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(TemplateError::new(value_offset, format!("`{namespace}:` needs a name without blanks")));
        }
        if self.role == Role::Path && !self.begins_with_folder() {
            let error = TemplateError::new(offset, "a value of an event cannot choose the first folder");
            return Err(error.help("begin with a literal folder, such as out/"));
        }
        self.push(Part::Reference, offset);
        self.references.push(reference);
        Ok(())
    }

    fn timestamp(&mut self, pattern: &str, offset: usize) -> Result<(), TemplateError> {
        for piece in date_pattern::parse(pattern, offset)? {
            match piece {
                Piece::Literal(text) => self.literal(&text, offset)?,
                Piece::Field(field) => self.push(Part::Date(field), offset),
            }
        }
        Ok(())
    }

    fn firehose(&mut self, value: &str, offset: usize) -> Result<(), TemplateError> {
        match value {
            "random-string" => self.push(Part::Random, offset),
            "error-output-type" if self.role == Role::ErrorPrefix => self.push(Part::ErrorOutputType, offset),
            "error-output-type" => return Err(TemplateError::new(offset, "`error-output-type` can only stand in an error prefix")),
            _ => return Err(TemplateError::new(offset, format!("unknown value `{value}`")).meant(value, &FIREHOSE_VALUES)),
        }
        Ok(())
    }

    /// Whether a folder with a name comes first: `/`, `./` and `../` alone leave too much to choose.
    fn begins_with_folder(&self) -> bool {
        let Some(Part::Literal(text)) = self.parts.first() else {
            return false;
        };
        text.rsplit_once('/').is_some_and(|(folders, _)| folders.contains(|c| c != '/' && c != '.'))
    }

    /// Refuses names `.` and `..`, which would take back what comes before them. A path may begin with them.
    fn check_names(&self) -> Result<(), TemplateError> {
        let mut name = String::new();
        let mut free = self.role == Role::Path;
        let mut named = false;
        let mut end = 0;
        for (part, offset) in self.parts.iter().zip(&self.offsets) {
            let Part::Literal(text) = part else {
                name.push('x');
                free = false;
                continue;
            };
            end = *offset;
            for piece in text.split_inclusive('/') {
                name.push_str(piece);
                if !piece.ends_with('/') {
                    continue;
                }
                let refused = (name == "./" && !free) || (name == "../" && (!free || named));
                if refused {
                    return Err(TemplateError::new(end, format!("`{name}` cannot be part of a key")));
                }
                // Behind a folder with a name, also one of the same literal, nothing leads back.
                named |= !matches!(name.as_str(), "/" | "./" | "../");
                name.clear();
                end += piece.len();
            }
        }
        if matches!(name.as_str(), "." | "..") {
            return Err(TemplateError::new(end, format!("`{name}` cannot end a key")));
        }
        Ok(())
    }
}

/// The time zone of that IANA name.
pub fn time_zone(name: &str) -> Result<TimeZone, TemplateError> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| {
        let names: Vec<String> = jiff::tz::db().available().map(|known| known.as_str().to_owned()).collect();
        let error = TemplateError::new(0, format!("unknown time zone `{name}`"));
        match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.help(format!("did you mean `{near}`?")),
            None => error.help("an IANA name such as Europe/Berlin"),
        }
    })
}

/// Checks a file extension: empty, or `.` and then `0-9 a-z ! - _ . * ' ( )` (Firehose's API).
pub fn check_file_extension(extension: &str) -> Result<(), TemplateError> {
    let allowed = |c: char| c.is_ascii_digit() || c.is_ascii_lowercase() || "!-_.*'()".contains(c);
    let Some(rest) = extension.strip_prefix('.') else {
        return if extension.is_empty() { Ok(()) } else { Err(TemplateError::new(0, "a file extension begins with `.`")) };
    };
    if let Some(at) = rest.find(|c| !allowed(c)) {
        return Err(TemplateError::new(at + 1, "a file extension is of lower-case letters, digits and ! - _ . * ' ( )"));
    }
    if rest.is_empty() || extension.len() > EXTENSION_BYTES_MAX {
        return Err(TemplateError::new(0, format!("a file extension has 2 to {EXTENSION_BYTES_MAX} characters")));
    }
    Ok(())
}

/// What follows the prefix in the key of an S3 object.
#[derive(Clone, Debug)]
pub struct ObjectSuffix {
    /// The stream's name.
    pub stream: String,
    /// 1, and one more with every change of the configuration.
    pub version: u32,
    /// See [`check_file_extension`].
    pub extension: String,
    /// Of the date in the suffix.
    pub zone: TimeZone,
}

impl ObjectSuffix {
    /// Appends `<stream>-<version>-<yyyy>-<MM>-<dd>-<HH>-<mm>-<ss>-<uuid><extension>`. The time is that of the
    /// prefix, so that a batch sent again keeps it; the stream's name is confined like a value; the uuid
    /// (version 4, RFC 9562) is the seed.
    pub fn write(&self, context: &KeyContext<'_>, out: &mut String) {
        confine(self.stream.as_bytes(), out);
        append(out, format_args!("-{}-", self.version));
        let moment = Moment::new(context.oldest_arrival_ms, &self.zone);
        let (date, time) = (moment.time.date(), moment.time.time());
        append(out, format_args!("{:04}-{:02}-{:02}-", date.year(), date.month(), date.day()));
        append(out, format_args!("{:02}-{:02}-{:02}-", time.hour(), time.minute(), time.second()));
        let bits = context.seed & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        for (index, digit) in hex.chars().enumerate() {
            if matches!(index, 8 | 12 | 16 | 20) {
                out.push('-');
            }
            out.push(digit);
        }
        out.push_str(&self.extension);
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): few states, no cryptography, the same on every machine.
struct Random(u64);

impl Random {
    /// Both halves are mixed one after the other, so that every bit of the seed counts.
    fn new(seed: u128) -> Self {
        let [a, b, c, d, e, f, g, h, low @ ..] = seed.to_be_bytes();
        let high = Self(u64::from_be_bytes([a, b, c, d, e, f, g, h])).next();
        Self(high ^ u64::from_be_bytes(low))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn write(&mut self, out: &mut String) {
        // 36^11 is below 2^57, so one number is enough for all of them.
        let mut bits = self.next();
        for _ in 0..RANDOM_CHARACTERS {
            out.push(char::from_digit((bits % 36) as u32, 36).unwrap_or('0'));
            bits /= 36;
        }
    }
}

/// The ASCII characters that a value keeps. A table, since a value's bytes are looked at once an event.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let kept = b"-_.=@+:0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut index = 0;
    while index < kept.len() {
        plain[kept[index] as usize] = true;
        index += 1;
    }
    plain
};

/// Appends a value as one part of a name: see the module's documentation.
fn confine(value: &[u8], out: &mut String) {
    // No early end in the loop: most values are plain to the last byte.
    if value.len() <= VALUE_BYTES_MAX
        && value.iter().fold(true, |plain, byte| plain & PLAIN[usize::from(*byte)])
        && value.first().is_some_and(|first| *first != b'.')
        && let Ok(text) = str::from_utf8(value)
    {
        out.push_str(text);
        return;
    }
    if value.is_empty() {
        out.push('_');
        return;
    }
    let start = out.len();
    // Nothing behind this shows, and a value may have a megabyte.
    let value = value.get(..VALUE_BYTES_MAX + 4).unwrap_or(value);
    let mut leading = true;
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            leading &= character == '.';
            let keep = if character.is_ascii() { PLAIN[character as usize & 0x7f] && !leading } else { character.is_alphabetic() };
            let length = out.len();
            if keep {
                out.push(character);
            } else {
                percent(character.encode_utf8(&mut [0; 4]).as_bytes(), out);
            }
            if out.len() - start > VALUE_BYTES_MAX {
                out.truncate(length);
                return;
            }
        }
        for byte in chunk.invalid() {
            leading = false;
            if out.len() - start + 3 > VALUE_BYTES_MAX {
                return;
            }
            percent(&[*byte], out);
        }
    }
}

fn percent(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        out.push('%');
        for digit in [byte >> 4, byte & 0xf] {
            out.push(char::from(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 }));
        }
    }
}

/// Writing into a string cannot fail.
fn append(out: &mut String, text: fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests;
