//! Sigma 2.1.0 correlation rules: a document to a [`Correlation`], and references to rules ([`link`]).
//!
//! In goes a YAML document with a `correlation` section. Out comes what it counts, for whom, over which time and
//! against which limits; or every mistake with its place. [`link`] then takes the rules and correlations of
//! all files, because a reference may point into another one. Nothing is counted here.
//!
//! Source: `SigmaHQ/sigma-specification` 2.1.0, `sigma-correlation-rules-specification.md` (C) and
//! `json-schema/sigma-correlation-rules-schema.json` (J).
//!
//! # What the text leaves open, and what we do
//!
//! | Subject | The text | Here |
//! |---|---|---|
//! | Missing `group-by` | "mandatory", then "optionally defines" (C); required (J) | one group for all events, with a warning |
//! | An event without one of the `group-by` fields | nothing | belongs to no group |
//! | `timespan` | number and one of s, m, h, d (C) | so; 1 second to [`TIMESPAN_DAYS_MAX`] days; weeks, months and years are refused with what to write |
//! | Missing `condition` | required but for the temporal types (J) | so; a temporal one then needs all its rules |
//! | Two criteria | a range (C) | both hold; more than two, or two that no number fulfils, are refused |
//! | `condition` of `temporal` | "count of different event types" (C) | how many of the rules occur; a count that cannot be reached is refused |
//! | `condition` of `temporal_ordered` | the same | only all rules, since an order of some of them is not defined |
//! | A condition that is an expression | not in 2.1.0 (pySigma has it) | refused |
//! | `field` as a list | allowed (J) | for `value_count`: the values together are one; refused for numbers |
//! | Limits | integers (J) | whole numbers for counts; up to six decimals for sums, averages and percentiles |
//! | `value_percentile` | which percentile is not said; the example compares a text | the key `percentile`, 0 to 100, is required; values are numbers, between two of them is interpolated |
//! | `value_median` | not in 2.1.0 (pySigma has it) | refused; `percentile: 50` is the same |
//! | An alias that says nothing about one of the rules | nothing | the alias is taken as that rule's field, with a warning |
//! | An alias that neither `group-by` nor `field` uses | nothing | refused: it was meant for something |
//! | Rules in aliases | by `name` (C) | as `rules` writes them, name or id |
//! | One name for two rules | "unique" (C) | refused where it is referred to |
//! | Place of `generate` | beside `correlation` (J), inside it (pySigma) | either |
//! | A rule in two correlations | nothing | alerts alone if one of them says `generate: true` |
//! | Missing `level` | optional (C) | the highest level of its rules |
//! | Fields of a correlation's hit, for chains | "only uses its own `group-by`" (C) | those of the event that completed it |

mod link;

pub use link::{Base, Linked, Role, Source, link};

use std::cmp::Ordering;
use std::fmt;
use std::path::PathBuf;

use super::reader::{Place, Reader};
use super::{LEVELS, Level, STATUSES, Status, check_keys, choice, custom, id, missing, text, texts, title};
use crate::config::{Content, Node};

/// Rules of one correlation. People write two to ten; a set of them fits one word.
pub const RULES_MAX: usize = 64;

/// Fields of one `group-by` or `field`, so that a key stays short.
pub const FIELDS_MAX: usize = 16;

/// Longest `timespan`; what is kept for a window has to fit the memory.
pub const TIMESPAN_DAYS_MAX: u64 = 366;

const SECTION_KEYS: [&str; 7] = ["type", "rules", "group-by", "timespan", "condition", "aliases", "generate"];

const KINDS: [(&str, Kind); 7] = [
    ("event_count", Kind::EventCount),
    ("value_count", Kind::ValueCount),
    ("value_sum", Kind::ValueSum),
    ("value_avg", Kind::ValueAvg),
    ("value_percentile", Kind::ValuePercentile),
    ("temporal", Kind::Temporal),
    ("temporal_ordered", Kind::TemporalOrdered),
];

const OPERATORS: [(&str, Operator); 6] = [
    ("gt", Operator::Gt),
    ("gte", Operator::Gte),
    ("lt", Operator::Lt),
    ("lte", Operator::Lte),
    ("eq", Operator::Eq),
    ("neq", Operator::Neq),
];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Events.
    EventCount,
    /// Distinct values of a field.
    ValueCount,
    /// Sum of a field's numbers.
    ValueSum,
    /// Their average.
    ValueAvg,
    /// One of their percentiles.
    ValuePercentile,
    /// How many of the rules occur.
    Temporal,
    /// All of the rules, in their order.
    TemporalOrdered,
}

impl Kind {
    /// As Sigma writes it.
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether `condition` names a field.
    pub fn has_field(self) -> bool {
        matches!(self, Self::ValueCount) || self.is_number()
    }

    /// Whether it reads numbers out of events.
    pub fn is_number(self) -> bool {
        matches!(self, Self::ValueSum | Self::ValueAvg | Self::ValuePercentile)
    }

    fn is_temporal(self) -> bool {
        matches!(self, Self::Temporal | Self::TemporalOrdered)
    }
}

/// How a measure is compared with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Above.
    Gt,
    /// At least.
    Gte,
    /// Below.
    Lt,
    /// At most.
    Lte,
    /// Exactly.
    Eq,
    /// Anything else.
    Neq,
}

/// A number in millionths, so that sums do not depend on the order of their terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(pub i128);

impl Decimal {
    /// Millionths in one.
    pub const ONE: i128 = 1_000_000;

    /// Reads `-12`, `12.5`; up to 20 digits before the point (64-bit numbers, 2^40 of which still sum up), and
    /// any behind it, of which six count. Nothing else is a number: no exponent, no blanks.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || whole.len() > 20 {
            return None;
        }
        let digits = whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(6));
        Some(Self(sign * digits.fold(0, |number, digit| number * 10 + i128::from(digit - b'0'))))
    }

    /// A whole number.
    pub fn whole(number: u64) -> Self {
        Self(i128::from(number) * Self::ONE)
    }
}

/// As JSON writes it, without trailing zeros.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, number) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, fraction) = (number / Self::ONE.unsigned_abs(), number % Self::ONE.unsigned_abs());
        write!(f, "{sign}{whole}")?;
        match format!("{fraction:06}").trim_end_matches('0') {
            "" => Ok(()),
            digits => write!(f, ".{digits}"),
        }
    }
}

/// When a correlation matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// All of these hold: one, or two that make a range.
    pub criteria: Vec<(Operator, Decimal)>,
    /// Whose values are looked at; empty for counts of events and rules.
    pub fields: Vec<String>,
    /// Which percentile, 0 to 100.
    pub percentile: u8,
}

impl Condition {
    /// Whether `measure / parts` fulfils it; the measure is in millionths.
    pub fn holds(&self, measure: i128, parts: i128) -> bool {
        self.criteria.iter().all(|(operator, limit)| {
            let order = measure.cmp(&(limit.0 * parts));
            match operator {
                Operator::Gt => order == Ordering::Greater,
                Operator::Gte => order != Ordering::Less,
                Operator::Lt => order == Ordering::Less,
                Operator::Lte => order != Ordering::Greater,
                Operator::Eq => order == Ordering::Equal,
                Operator::Neq => order != Ordering::Equal,
            }
        })
    }

    /// Whether it has only lower limits: once reached, a larger measure fulfils it too.
    pub fn is_lower_limit(&self) -> bool {
        self.criteria.iter().all(|(operator, _)| matches!(operator, Operator::Gt | Operator::Gte))
    }

    fn count_holds(&self, count: usize) -> bool {
        self.holds(Decimal::whole(count as u64).0, 1)
    }
}

/// A name and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub text: String,
    /// 1-based line.
    pub line: usize,
    /// 1-based column.
    pub column: usize,
}

/// One name for what is called differently in the events of different rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name in `group-by`.
    pub name: Name,
    /// Rule and its field.
    pub fields: Vec<(Name, String)>,
}

/// A correlation rule as written.
#[derive(Clone, Debug)]
pub struct Correlation {
    /// Its id, usually a UUID; made from the title if the document has none.
    pub id: String,
    /// The name by which other correlations may refer to it.
    pub name: Option<String>,
    /// What it detects, for people.
    pub title: String,
    /// How bad a match is, if it says so.
    pub level: Option<Level>,
    /// How mature it is, if it says so.
    pub status: Option<Status>,
    /// The long text, empty if there is none.
    pub description: String,
    /// Who wrote it, empty if unknown.
    pub author: String,
    /// Where the idea comes from.
    pub references: Vec<String>,
    /// Tags such as `attack.t1110`.
    pub tags: Vec<String>,
    /// What else may match.
    pub falsepositives: Vec<String>,
    /// What is measured.
    pub kind: Kind,
    /// The rules, by id or name.
    pub rules: Vec<Name>,
    /// The fields whose values make a group; empty means one group.
    pub group_by: Vec<Name>,
    /// How long a window is, in milliseconds.
    pub timespan_ms: i64,
    /// When it matches.
    pub condition: Condition,
    /// Other names for fields.
    pub aliases: Vec<Alias>,
    /// Whether its rules also alert on their own.
    pub generate: bool,
    /// Where it was read.
    pub file: PathBuf,
    /// 1-based line where the document starts.
    pub line: usize,
    /// As that of a detection rule.
    pub hash: String,
    /// As that of a detection rule.
    pub custom: Node,
}

/// One document; `None` once its mistakes are reported.
pub(super) fn read(reader: &mut Reader<'_>, document: &Node, hash: String) -> Option<Correlation> {
    let errors = reader.error_count();
    check_keys(reader, document);
    for key in ["detection", "logsource"] {
        if let Some(node) = document.entry(key) {
            let help = "write the rule as a document of its own, and its name under `rules`";
            reader.error_with(Place::new(node, key), format!("a correlation has no `{key}`"), help);
        }
    }
    let title = title(reader, document).unwrap_or_default();
    let section = document.entry("correlation")?;
    if !matches!(section.content, Content::Mapping(_)) {
        reader.error(Place::new(section, "correlation"), format!("a map is expected, found {}", section.describe()));
        return None;
    }
    known_keys(reader, section, "correlation", &SECTION_KEYS);
    let kind = kind(reader, section);
    let rules = names(reader, section, "rules", RULES_MAX);
    let group_by = names(reader, section, "group-by", FIELDS_MAX).unwrap_or_default();
    if section.entry("group-by").is_none() {
        reader.warn(Place::new(section, "correlation"), "`group-by` is missing", "all events are one group");
    }
    let timespan_ms = timespan(reader, section);
    let count = rules.as_ref().map_or(RULES_MAX, Vec::len);
    let condition = kind.and_then(|kind| condition(reader, section, kind, count));
    let aliases = aliases(reader, section);
    if let (Some(rules), Some(condition)) = (&rules, &condition) {
        check_aliases(reader, &aliases, rules, &group_by, &condition.fields);
    }
    let correlation = Correlation {
        id: id(reader, document, &title),
        name: text(reader, document, "name"),
        title,
        level: choice(reader, document, "level", &LEVELS),
        status: choice(reader, document, "status", &STATUSES).flatten(),
        description: text(reader, document, "description").unwrap_or_default(),
        author: text(reader, document, "author").unwrap_or_default(),
        references: texts(reader, document, "references"),
        tags: texts(reader, document, "tags"),
        falsepositives: texts(reader, document, "falsepositives"),
        generate: generate(reader, document, section),
        kind: kind?,
        rules: rules?,
        group_by,
        timespan_ms: timespan_ms?,
        condition: condition?,
        aliases,
        file: reader.file().to_owned(),
        line: document.line,
        hash,
        custom: custom(document.clone()),
    };
    (reader.error_count() == errors).then_some(correlation)
}

/// Unlike at the top of a document, own keys have no place in a section of the specification.
fn known_keys(reader: &mut Reader<'_>, section: &Node, path: &str, known: &[&'static str]) {
    for (key, _) in section.entries() {
        let name = key.text().unwrap_or_default();
        if !known.contains(&name) {
            let help = reader.one_of(name, known.iter().copied());
            reader.error_with(Place::new(key, path), format!("there is no key {} here", key.describe()), help);
        }
    }
}

fn kind(reader: &mut Reader<'_>, section: &Node) -> Option<Kind> {
    let Some(node) = section.entry("type") else { return missing(reader, section, "type") };
    let name = node.text().unwrap_or_default();
    let found = KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    if found.is_none() {
        let help = match name {
            "value_median" => "write `value_percentile` with `percentile: 50`".to_owned(),
            _ => reader.one_of(name, KINDS.iter().map(|(known, _)| *known)),
        };
        reader.error_with(Place::new(node, "correlation.type"), format!("there is no correlation type {}", node.describe()), help);
    }
    found
}

/// A list of different names; `None` once it is reported.
fn names(reader: &mut Reader<'_>, section: &Node, key: &str, max: usize) -> Option<Vec<Name>> {
    let path = format!("correlation.{key}");
    let Some(node) = section.entry(key) else {
        return if key == "rules" { missing(reader, section, key) } else { Some(Vec::new()) };
    };
    let items = match &node.content {
        Content::Sequence(items) => items.as_slice(),
        Content::Scalar { .. } if !node.is_null() => std::slice::from_ref(node),
        _ => &[],
    };
    if items.is_empty() || items.len() > max {
        reader.error(Place::new(node, &path), format!("a list of 1 to {max} names is expected, found {}", node.describe()));
        return None;
    }
    let mut names: Vec<Name> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let place = Place { node: item, path: &path, index: Some(index) };
        match item.text().filter(|text| !text.is_empty()) {
            None => reader.error(place, format!("a name is expected, found {}", item.describe())),
            Some(text) if names.iter().any(|name| name.text == text) => reader.error(place, format!("`{text}` stands here twice")),
            Some(text) => names.push(Name { text: text.to_owned(), line: item.line, column: item.column }),
        }
    }
    (names.len() == items.len()).then_some(names)
}

fn timespan(reader: &mut Reader<'_>, section: &Node) -> Option<i64> {
    let Some(node) = section.entry("timespan") else { return missing(reader, section, "timespan") };
    let text = node.text().unwrap_or_default();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 0,
    };
    let span = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds)).filter(|seconds| *seconds > 0);
    if let Some(span) = span.filter(|seconds| *seconds <= TIMESPAN_DAYS_MAX * 86_400) {
        return Some(span as i64 * 1_000);
    }
    let help = match unit {
        _ if span.is_some() => format!("at most {TIMESPAN_DAYS_MAX}d"),
        "w" => "a week is `7d`".to_owned(),
        "M" | "y" => "minutes are `m`; months and years differ in length, so count days, such as `30d`".to_owned(),
        _ => "a whole number above 0 and one unit, s, m, h or d, without a blank, such as `90m`".to_owned(),
    };
    reader.error_with(Place::new(node, "correlation.timespan"), format!("{} is not a time span", node.describe()), help);
    None
}

fn condition(reader: &mut Reader<'_>, section: &Node, kind: Kind, rule_count: usize) -> Option<Condition> {
    let Some(node) = section.entry("condition") else {
        let all = Condition { criteria: vec![(Operator::Gte, Decimal::whole(rule_count as u64))], fields: Vec::new(), percentile: 0 };
        return if kind.is_temporal() { Some(all) } else { missing(reader, section, "condition") };
    };
    let path = "correlation.condition";
    if !matches!(node.content, Content::Mapping(_)) {
        let message = format!("a map such as `gte: 10` is expected, found {}", node.describe());
        reader.error_with(Place::new(node, path), message, "expressions over rules are not part of Sigma 2.1.0; chain correlations");
        return None;
    }
    let errors = reader.error_count();
    let keys: Vec<&str> = OPERATORS.iter().map(|(name, _)| *name).chain(["field", "percentile"]).collect();
    known_keys(reader, node, path, &keys);
    let mut criteria = Vec::new();
    for (name, operator) in OPERATORS {
        let Some(limit) = node.entry(name) else { continue };
        match limit.text().and_then(Decimal::parse).filter(|limit| kind.is_number() || (limit.0 >= 0 && limit.0 % Decimal::ONE == 0)) {
            Some(limit) => criteria.push((operator, limit)),
            None => {
                let wanted = if kind.is_number() { "a number" } else { "a whole number of 0 or more" };
                reader.error(Place::new(limit, path), format!("`{name}`: {wanted} is expected, found {}", limit.describe()));
            }
        }
    }
    let percentile = percentile(reader, node, kind);
    let fields = fields(reader, node, kind);
    if reader.error_count() > errors {
        return None;
    }
    let condition = Condition { criteria, fields, percentile };
    let wrong = contradiction(&condition, kind, rule_count);
    if let Some(message) = &wrong {
        reader.error(Place::new(node, path), message);
    }
    wrong.is_none().then_some(condition)
}

fn percentile(reader: &mut Reader<'_>, node: &Node, kind: Kind) -> u8 {
    let found = node.entry("percentile");
    let value = found.and_then(Node::text).and_then(|text| text.parse().ok()).filter(|value| *value <= 100);
    let place = Place::new(found.unwrap_or(node), "correlation.condition");
    match (kind == Kind::ValuePercentile, found, value) {
        (true, Some(_), Some(_)) | (false, None, _) => {}
        (true, None, _) => reader.error_with(place, "`percentile` is missing", "which one, 0 to 100; 50 is the median"),
        (true, Some(found), None) => {
            reader.error(place, format!("`percentile`: a whole number of 0 to 100 is expected, found {}", found.describe()))
        }
        (false, Some(_), _) => reader.error(place, "`percentile` belongs to `value_percentile` only"),
    }
    value.unwrap_or_default()
}

fn fields(reader: &mut Reader<'_>, node: &Node, kind: Kind) -> Vec<String> {
    let place = Place::new(node.entry("field").unwrap_or(node), "correlation.condition");
    if node.entry("field").is_none() {
        if kind.has_field() {
            reader.error_with(place, "`field` is missing", "the field whose values are meant");
        }
        return Vec::new();
    }
    if !kind.has_field() {
        reader.error_with(place, "`field` has no meaning for this type", "to count distinct values, write `type: value_count`");
        return Vec::new();
    }
    let names = names(reader, node, "field", if kind.is_number() { 1 } else { FIELDS_MAX });
    names.unwrap_or_default().into_iter().map(|name| name.text).collect()
}

/// What is wrong with the criteria taken together.
fn contradiction(condition: &Condition, kind: Kind, rule_count: usize) -> Option<String> {
    let criteria = &condition.criteria;
    if criteria.is_empty() || criteria.len() > 2 {
        return Some(format!("one criterion or two are expected (gt, gte, lt, lte, eq, neq), found {}", criteria.len()));
    }
    // Between two limits lies a number exactly if one of these is: a limit itself, its neighbours, their middle.
    let step = if kind.is_number() { 1 } else { Decimal::ONE };
    let candidates = criteria.iter().flat_map(|(_, limit)| [limit.0 - step, limit.0, limit.0 + step]);
    if !candidates.filter(|number| kind.is_number() || *number >= 0).any(|number| condition.holds(number, 1)) {
        return Some("no number fulfils both criteria".to_owned());
    }
    let below_all = (0..rule_count).any(|count| condition.count_holds(count));
    match kind {
        Kind::Temporal if !(1..=rule_count).any(|count| condition.count_holds(count)) => {
            Some(format!("this never holds: there are {rule_count} rules"))
        }
        Kind::TemporalOrdered if below_all || !condition.count_holds(rule_count) => {
            Some(format!("an order needs all {rule_count} rules: leave `condition` out"))
        }
        _ => None,
    }
}

fn aliases(reader: &mut Reader<'_>, section: &Node) -> Vec<Alias> {
    let Some(node) = section.entry("aliases").filter(|node| !node.is_null()) else { return Vec::new() };
    let path = "correlation.aliases";
    if !matches!(node.content, Content::Mapping(_)) {
        reader.error(Place::new(node, path), format!("a map is expected, found {}", node.describe()));
    }
    let mut aliases = Vec::new();
    for (key, rules) in node.entries() {
        let mut fields = Vec::new();
        if rules.entries().is_empty() {
            reader.error(Place::new(rules, path), format!("a map of rule and field is expected, found {}", rules.describe()));
        }
        for (rule, field) in rules.entries() {
            match (rule.text(), field.text()) {
                (Some(rule_name), Some(field)) if !field.is_empty() => fields.push((name_of(rule, rule_name), field.to_owned())),
                _ => reader.error(Place::new(field, path), format!("the name of a field is expected, found {}", field.describe())),
            }
        }
        match key.text() {
            Some(name) => aliases.push(Alias { name: name_of(key, name), fields }),
            None => reader.error(Place::new(key, path), format!("a name is expected, found {}", key.describe())),
        }
    }
    aliases
}

fn name_of(node: &Node, text: &str) -> Name {
    Name { text: text.to_owned(), line: node.line, column: node.column }
}

fn check_aliases(reader: &mut Reader<'_>, aliases: &[Alias], rules: &[Name], group_by: &[Name], fields: &[String]) {
    let place = |name: &Name| Node { line: name.line, column: name.column, content: Content::Sequence(Vec::new()) };
    let path = "correlation.aliases";
    let used = || group_by.iter().map(|name| name.text.as_str()).chain(fields.iter().map(String::as_str));
    for alias in aliases {
        let node = place(&alias.name);
        if !used().any(|used| used == alias.name.text) {
            let message = format!("`group-by` does not name the alias `{}`", alias.name.text);
            match reader.near(&alias.name.text, used()).map(str::to_owned) {
                Some(near) => reader.error_with(Place::new(&node, path), message, format!("did you mean `{near}`?")),
                None => reader.error(Place::new(&node, path), message),
            }
        }
        for (rule, _) in alias.fields.iter().filter(|(rule, _)| rules.iter().all(|known| known.text != rule.text)) {
            let help = reader.one_of(&rule.text, rules.iter().map(|rule| rule.text.as_str()));
            reader.error_with(Place::new(&place(rule), path), format!("`{}` is not under `rules`", rule.text), help);
        }
        for rule in rules.iter().filter(|rule| alias.fields.iter().all(|(named, _)| named.text != rule.text)) {
            let message = format!("the alias `{}` says nothing about the rule `{}`", alias.name.text, rule.text);
            reader.warn(Place::new(&node, path), message, format!("its field `{}` is taken", alias.name.text));
        }
    }
}

fn generate(reader: &mut Reader<'_>, document: &Node, section: &Node) -> bool {
    let mut found = None;
    for node in [document.entry("generate"), section.entry("generate")].into_iter().flatten() {
        let value = match node.text() {
            Some("true") => true,
            Some("false") => false,
            _ => {
                reader.error(Place::new(node, "generate"), format!("true or false is expected, found {}", node.describe()));
                continue;
            }
        };
        if found.replace(value).is_some_and(|other| other != value) {
            reader.error(Place::new(node, "generate"), "`generate` stands here twice, with different values");
        }
    }
    found.unwrap_or(false)
}

#[cfg(test)]
mod tests;
