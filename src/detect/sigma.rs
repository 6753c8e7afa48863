//! Sigma 2.1.0 detection rules: the text of a rule file to rules whose condition is fully resolved.
//!
//! In goes the text of a YAML file with any number of documents, and the values of placeholders. Out come
//! [`Loaded::rules`], each with one expression over field names in which search identifiers are inlined,
//! `1 of x*` is spelt out and all modifiers are applied; the documents that are [`Skipped`], with the
//! reason; and every mistake of every document at once, with line, column and path. A document with an
//! error gives no rule; the others of its file still do. Broken YAML gives no rule at all.
//!
//! Source: `SigmaHQ/sigma-specification`, version 2.1.0 of 2025-08-02: `sigma-rules-specification.md` (R) and
//! `sigma-appendix-modifiers.md` (M).
//!
//! What the text leaves open, and what we do then, is in `docs/reference/sigma.md`, a case for each row.
//!
//! # What people get wrong
//!
//! A single text where a list belongs (`tags`, `references`) is read with a warning. Keys that look like a
//! mistyped known key warn. `| count()` and `near` are refused with a hint, `action: global` collections too.
//!
//! Correlations are read and checked here too ([`correlation`]), and filters, which narrow the rules that they name.

mod condition;
pub mod correlation;
mod detection;
mod filter;
mod modifier;
mod pattern;
pub mod pipeline;
mod reader;
mod value;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};

use self::correlation::Correlation;
use self::detection::{Also, Detection, Effect};
use self::filter::Filter;
use self::pipeline::{Pipelines, Refused};
use self::reader::{Place, Reader};
use crate::config::{Content, Node, parse_documents};
use crate::error::{Diagnostic, Diagnostics};
use crate::matcher::Expr;

/// Characters of a title, from the specification's JSON schema.
const TITLE_CHARS_MAX: usize = 256;

/// Values of `%name%` under `expand`, by name without the percent signs. The values are Sigma strings:
/// `srv*` has a wildcard.
pub type Placeholders = HashMap<String, Vec<String>>;

/// What a rule file holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The rules without errors, in the order of the file.
    pub rules: Vec<SigmaRule>,
    /// The correlations without errors; their references are not yet resolved.
    pub correlations: Vec<Correlation>,
    /// Documents that are valid Sigma but are not loaded.
    pub skipped: Vec<Skipped>,
    /// All mistakes and warnings, in the order of the file.
    pub diagnostics: Diagnostics,
}

/// A detection rule.
#[derive(Clone, Debug)]
pub struct SigmaRule {
    /// Its id, usually a UUID; made from the title if the document has none.
    pub id: String,
    /// The name by which correlation rules may refer to it.
    pub name: Option<String>,
    /// What it detects, for people.
    pub title: String,
    /// How bad a hit is.
    pub level: Level,
    /// How mature it is, if it says so.
    pub status: Option<Status>,
    /// The long text, empty if there is none.
    pub description: String,
    /// Who wrote it, empty if unknown; the Detection Rule License wants it named.
    pub author: String,
    /// Where the idea comes from.
    pub references: Vec<String>,
    /// Tags such as `attack.t1059`.
    pub tags: Vec<String>,
    /// What else may hit.
    pub falsepositives: Vec<String>,
    /// The events it is for.
    pub logsource: LogSource,
    /// Fields that a person wants to see with a hit.
    pub fields: Vec<String>,
    /// When it holds, over field names as written.
    pub condition: Expr<String>,
    /// A map of all other top-level keys: `license`, `related`, `date` and whatever else it carries.
    pub custom: Node,
    /// Where it was read.
    pub file: PathBuf,
    /// 1-based line where the document starts.
    pub line: usize,
    /// SHA-256 of the document's text in lower-case hexadecimal. Line ends and trailing white space do not
    /// count, comments do. Where filters or pipelines change the rule, theirs count as well.
    pub hash: String,
    /// Titles of the filters that narrow it.
    pub filters: Vec<String>,
}

/// What a rule applies to; the values are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogSource {
    /// Such as `firewall`.
    pub category: Option<String>,
    /// Such as `windows`.
    pub product: Option<String>,
    /// Such as `sshd`.
    pub service: Option<String>,
}

impl fmt::Display for LogSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.product, &self.category, &self.service];
        f.write_str(&parts.into_iter().flatten().cloned().collect::<Vec<_>>().join("/"))
    }
}

/// How bad a hit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Tags the event, never alerts.
    Informational,
    /// Rarely an incident.
    Low,
    /// To be looked at regularly.
    Medium,
    /// To be looked at soon.
    High,
    /// To be looked at now.
    Critical,
}

/// How mature a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Fit for production.
    Stable,
    /// Mostly stable.
    Test,
    /// May be noisy.
    Experimental,
    /// Replaced by another rule.
    Deprecated,
}

/// A document that is valid but not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Where it was read.
    pub file: PathBuf,
    /// 1-based line where the document starts.
    pub line: usize,
    /// Its title, if it has one.
    pub title: Option<String>,
    /// Why.
    pub reason: SkipReason,
}

/// Why a document is not loaded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// A pipeline refuses it, with this reason.
    Pipeline(String),
    /// Its status says that it cannot be used.
    Unsupported,
}

/// By name, the lowest first.
pub(super) const LEVELS: [(&str, Level); 5] = [
    ("informational", Level::Informational),
    ("low", Level::Low),
    ("medium", Level::Medium),
    ("high", Level::High),
    ("critical", Level::Critical),
];

/// By name. `unsupported` has no rule, so it has no [`Status`].
pub(super) const STATUSES: [(&str, Option<Status>); 5] = [
    ("stable", Some(Status::Stable)),
    ("test", Some(Status::Test)),
    ("experimental", Some(Status::Experimental)),
    ("deprecated", Some(Status::Deprecated)),
    ("unsupported", None),
];

/// Keys that [`SigmaRule`] has a field for.
const FIELD_KEYS: [&str; 12] =
    ["title", "id", "name", "status", "description", "author", "references", "tags", "falsepositives", "logsource", "fields", "level"];

/// The other keys of the specification, and ours: `tests` ([`crate::detect::cases`]), `hydrant` ([`crate::detect::treatment`]).
const OTHER_KEYS: [&str; 12] =
    ["related", "taxonomy", "license", "date", "modified", "scope", "detection", "tests", "correlation", "generate", "filter", "hydrant"];

impl Level {
    /// As Sigma writes it.
    pub fn as_str(self) -> &'static str {
        LEVELS.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Status {
    /// As Sigma writes it.
    pub fn as_str(self) -> &'static str {
        STATUSES.iter().find(|(_, status)| *status == Some(self)).map_or("", |(name, _)| name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipeline(message) => write!(f, "not loaded: a pipeline says: {message}"),
            Self::Unsupported => f.write_str("not loaded: status unsupported"),
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.reason)?;
        self.title.as_ref().map_or(Ok(()), |title| write!(f, ": {title}"))
    }
}

/// Reads all rules of one file. Ids are not compared: the same id may stand in two files, so that is for the
/// caller, who knows all of them.
///
/// ```
/// use std::path::Path;
/// let text = "
/// title: Telnet is open
/// id: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64
/// logsource: { category: firewall }
/// detection:
///     selection: { destination.port: 23 }
///     condition: selection
/// ";
/// let loaded = hydrant::detect::sigma::load(Path::new("telnet.yml"), text, &Default::default());
/// assert_eq!(loaded.diagnostics.to_string(), "");
/// assert_eq!(loaded.rules[0].title, "Telnet is open");
/// ```
pub fn load(file: &Path, text: &str, placeholders: &Placeholders) -> Loaded {
    let pipelines = Pipelines::default();
    let mut loader = Loader::new(placeholders, &pipelines);
    loader.add(file, text);
    loader.finish()
}

/// Reads rules of any number of files. Filters may stand in other files than the rules that they are for, so rules
/// are finished when all files are there.
pub struct Loader<'a> {
    placeholders: &'a Placeholders,
    pipelines: &'a Pipelines,
    files: Vec<Reader<'a>>,
    drafts: Vec<Draft>,
    filters: Vec<(usize, Filter)>,
    /// With the indices of their files.
    correlations: Vec<(usize, Correlation)>,
    skipped: Vec<Skipped>,
    /// Mistakes of files that are no YAML.
    diagnostics: Diagnostics,
}

/// A rule on its way.
struct Draft {
    /// Its file, an index in [`Loader::files`].
    file: usize,
    /// The rule; its condition comes at the end.
    rule: SigmaRule,
    detection: Option<Detection>,
    /// Whether it has a mistake.
    is_refused: bool,
}

impl<'a> Loader<'a> {
    /// A loader for rules with these placeholders, which these pipelines change.
    pub fn new(placeholders: &'a Placeholders, pipelines: &'a Pipelines) -> Self {
        let (files, drafts, filters, correlations, skipped) = Default::default();
        Self { placeholders, pipelines, files, drafts, filters, correlations, skipped, diagnostics: Diagnostics::new() }
    }

    /// Reads the documents of a file.
    pub fn add(&mut self, file: &Path, text: &str) {
        let documents = match parse_documents(file, text) {
            Ok(documents) => documents,
            Err(mut diagnostics) => return self.diagnostics.0.append(&mut diagnostics.0),
        };
        let texts = document_texts(text);
        let mut reader = Reader::new(file, self.placeholders);
        let mut is_empty = true;
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            is_empty = false;
            let own_text = &texts[..texts.partition_point(|(line, _)| *line <= document.line)];
            let hash = hash(own_text.last().map_or(text, |(_, text)| text));
            if document.entry("status").and_then(Node::text) == Some("unsupported") {
                let title = document.entry("title").and_then(Node::text).map(str::to_owned);
                self.skipped.push(Skipped { file: file.to_owned(), line: document.line, title, reason: SkipReason::Unsupported });
            } else if document.entry("correlation").is_some() {
                let file = self.files.len();
                self.correlations.extend(correlation::read(&mut reader, &document, hash).map(|correlation| (file, correlation)));
            } else if document.entry("filter").is_some() {
                self.filters.extend(filter::read(&mut reader, &document, hash).map(|filter| (self.files.len(), filter)));
            } else if let Some(draft) = draft(&mut reader, document, (self.files.len(), hash)) {
                self.drafts.push(draft);
            }
        }
        if is_empty {
            reader.report(Diagnostic::error(file, 0, 0, "", "there is no rule in this file").warning());
        }
        self.files.push(reader);
    }

    /// The rules, narrowed by their filters and changed by the pipelines.
    pub fn finish(mut self) -> Loaded {
        let narrowing = filter::link(&self.filters, &self.drafts, &self.correlations, &mut self.files);
        let correlations = self.change_correlations();
        let mut rules = Vec::with_capacity(self.drafts.len());
        for (draft, filters) in self.drafts.into_iter().zip(narrowing) {
            let Some(reader) = self.files.get_mut(draft.file) else { continue };
            let filters = filters.into_iter().map(|index| &self.filters[index].1);
            match draft.finish(reader, filters, self.pipelines) {
                Ok(rule) => rules.extend(rule),
                Err(skipped) => self.skipped.push(skipped),
            }
        }
        let mut diagnostics = self.diagnostics;
        let mut elsewhere = Vec::new();
        for reader in self.files {
            let (mut own, mut other) = reader.finish();
            diagnostics.0.append(&mut own.0);
            elsewhere.append(&mut other);
        }
        elsewhere.sort_by(|a, b| (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message)));
        elsewhere.dedup();
        diagnostics.0.append(&mut elsewhere);
        Loaded { rules, correlations, skipped: self.skipped, diagnostics }
    }

    /// Takes the correlations through the pipelines.
    fn change_correlations(&mut self) -> Vec<Correlation> {
        let mut changed = Vec::with_capacity(self.correlations.len());
        for (file, mut correlation) in std::mem::take(&mut self.correlations) {
            let Some(reader) = self.files.get_mut(file) else { continue };
            let names = |rule: &SigmaRule, name: &str| rule.id == name || rule.name.as_deref() == Some(name);
            let is_base = |rule: &SigmaRule| correlation.rules.iter().any(|name| names(rule, &name.text));
            let sources = if self.pipelines.is_empty() {
                Vec::new()
            } else {
                self.drafts.iter().map(|draft| &draft.rule).filter(|rule| is_base(rule)).map(|rule| rule.logsource.clone()).collect()
            };
            match self.pipelines.apply_to_correlation(reader, &mut correlation, &sources) {
                Ok(is_changed) => {
                    if is_changed {
                        correlation.hash = hash(&format!("{}\n{}", correlation.hash, self.pipelines.hash()));
                    }
                    changed.push(correlation);
                }
                Err(Refused::ByPipeline(message)) => {
                    let (file, line, title) = (correlation.file, correlation.line, Some(correlation.title));
                    self.skipped.push(Skipped { file, line, title, reason: SkipReason::Pipeline(message) });
                }
                Err(Refused::Mistake) => {}
            }
        }
        changed
    }
}

impl Draft {
    /// Changes and lowers the rule with its filters; `None` once its mistakes are reported.
    fn finish<'f>(
        mut self,
        reader: &mut Reader<'_>,
        filters: impl Iterator<Item = &'f Filter>,
        pipelines: &Pipelines,
    ) -> Result<Option<SigmaRule>, Skipped> {
        let Some(mut detection) = self.detection else { return Ok(None) };
        let mut parts = vec![self.rule.hash.clone()];
        for filter in filters {
            let file = Some(filter.file.clone());
            detection.also.push(Also { detection: filter.detection.clone(), effect: Effect::Filter, file });
            self.rule.filters.push(filter.title.clone());
            parts.push(filter.hash.clone());
        }
        let errors = reader.error_count();
        match pipelines.apply(reader, &mut self.rule, &mut detection) {
            Ok(is_changed) => parts.extend(is_changed.then(|| pipelines.hash().to_owned())),
            Err(Refused::Mistake) => return Ok(None),
            Err(Refused::ByPipeline(message)) => {
                let (file, line, title) = (self.rule.file, self.rule.line, Some(self.rule.title));
                return Err(Skipped { file, line, title, reason: SkipReason::Pipeline(message) });
            }
        }
        if parts.len() > 1 {
            self.rule.hash = hash(&parts.join("\n"));
        }
        let Some(condition) = detection::lower(reader, &detection) else { return Ok(None) };
        self.rule.condition = condition;
        Ok((!self.is_refused && reader.error_count() == errors).then_some(self.rule))
    }
}

/// The text of each document and the line where it starts. YAML allows `---` and `...` at the start of a
/// line only as marks between documents (YAML 1.2.2, rule 206).
fn document_texts(text: &str) -> Vec<(usize, &str)> {
    let is_mark = |line: &str| {
        ["---", "..."].iter().any(|mark| line.strip_prefix(mark).is_some_and(|rest| rest.trim_start() != rest || rest.is_empty()))
    };
    let mut starts = vec![(1, 0)];
    let mut offset = 0;
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        if is_mark(line) {
            starts.push((number, offset));
        }
        offset += line.len();
    }
    let ends = starts.iter().skip(1).map(|(_, offset)| *offset).chain([text.len()]);
    starts.iter().zip(ends).map(|((line, from), to)| (*line, text.get(*from..to).unwrap_or_default())).collect()
}

fn hash(text: &str) -> String {
    let body = text.strip_prefix("---").unwrap_or(text).trim();
    let lines: Vec<&str> = body.lines().map(str::trim_end).collect();
    hex(digest(&SHA256, lines.join("\n").as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One document, of the file with this index; `None` once it is reported that it is no rule.
fn draft(reader: &mut Reader<'_>, document: Node, (file, hash): (usize, String)) -> Option<Draft> {
    let errors = reader.error_count();
    let root = Place::new(&document, "");
    if document.entries().is_empty() {
        reader.error(root, format!("a rule is expected, found {}", document.describe()));
        return None;
    }
    if matches!(document.entry("action").and_then(Node::text), Some("global" | "reset" | "repeat")) {
        reader.error_with(root, "rule collections with `action` are obsolete", "write each document as a whole rule");
        return None;
    }
    check_keys(reader, &document);
    let title = title(reader, &document);
    let detection = match document.entry("detection") {
        Some(node) => detection::read(reader, node, "detection"),
        None => missing(reader, &document, "detection"),
    };
    let logsource = logsource(reader, &document);
    let level = choice(reader, &document, "level", &LEVELS).unwrap_or(Level::Medium);
    let status = choice(reader, &document, "status", &STATUSES).flatten();
    let id = id(reader, &document, title.as_deref().unwrap_or_default());
    let rule = SigmaRule {
        id,
        name: text(reader, &document, "name"),
        title: title.unwrap_or_default(),
        level,
        status,
        description: text(reader, &document, "description").unwrap_or_default(),
        author: text(reader, &document, "author").unwrap_or_default(),
        references: texts(reader, &document, "references"),
        tags: texts(reader, &document, "tags"),
        falsepositives: texts(reader, &document, "falsepositives"),
        logsource,
        fields: texts(reader, &document, "fields"),
        condition: Expr::All(Vec::new()),
        file: reader.file().to_owned(),
        line: document.line,
        hash,
        filters: Vec::new(),
        custom: custom(document),
    };
    Some(Draft { file, rule, detection, is_refused: reader.error_count() > errors })
}

/// What is left of a document without the keys that a rule has a field for.
fn custom(mut document: Node) -> Node {
    if let Content::Mapping(entries) = &mut document.content {
        entries.retain(|(key, _)| !key.text().is_some_and(|key| key == "detection" || FIELD_KEYS.contains(&key)));
    }
    document
}

/// Own keys are allowed, so a key that looks like a known one is only a warning.
fn check_keys(reader: &mut Reader<'_>, document: &Node) {
    for (key, _) in document.entries() {
        let Some(name) = key.text() else {
            reader.error(Place::new(key, ""), format!("the name of a key is expected, found {}", key.describe()));
            continue;
        };
        let known = || FIELD_KEYS.into_iter().chain(OTHER_KEYS);
        if known().any(|known| known == name) {
            continue;
        }
        if let Some(near) = reader.near(name, known()).filter(|near| document.entry(near).is_none()) {
            reader.warn(Place::new(key, name), format!("`{name}` is none of Sigma's keys"), format!("did you mean `{near}`?"));
        }
    }
    if let Some(taxonomy) = document.entry("taxonomy").filter(|node| node.text() != Some("sigma")) {
        let message = format!("the taxonomy {} is not known here", taxonomy.describe());
        reader.warn(Place::new(taxonomy, "taxonomy"), message, "field names are taken as written");
    }
}

fn missing<T>(reader: &mut Reader<'_>, document: &Node, key: &str) -> Option<T> {
    let near = reader.near(key, document.entries().iter().filter_map(|(key, _)| key.text()));
    let message = format!("`{key}` is missing");
    match near {
        Some(near) => reader.error_with(Place::new(document, ""), message, format!("did you mean `{near}`?")),
        None => reader.error(Place::new(document, ""), message),
    }
    None
}

fn title(reader: &mut Reader<'_>, document: &Node) -> Option<String> {
    let node = document.entry("title").filter(|node| !node.is_null());
    let Some(node) = node else { return missing(reader, document, "title") };
    let title = text(reader, document, "title")?;
    if title.chars().count() > TITLE_CHARS_MAX {
        reader.warn(
            Place::new(node, "title"),
            format!("the title is longer than {TITLE_CHARS_MAX} characters"),
            "move the rest to `description`",
        );
    }
    Some(title)
}

fn id(reader: &mut Reader<'_>, document: &Node, title: &str) -> String {
    let Some(id) = text(reader, document, "id") else {
        let id = uuid_of(title);
        reader.warn(
            Place::new(document, ""),
            "`id` is missing",
            format!("add `id: {id}`, which is made from the title, or any other UUID"),
        );
        return id;
    };
    let groups: Vec<usize> =
        id.split('-').map(|group| if group.bytes().all(|b| b.is_ascii_hexdigit()) { group.len() } else { 0 }).collect();
    if groups != [8, 4, 4, 4, 12] {
        let node = document.entry("id").unwrap_or(document);
        reader.warn(Place::new(node, "id"), "the id is not a UUID", "other tools refuse such a rule");
    }
    id
}

/// A UUID of version 8 (RFC 9562, section 5.8) from the SHA-256 of a text.
fn uuid_of(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    let mut number = hash.as_ref().iter().take(16).fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    number = number & !(0xF << 76) | 0x8 << 76;
    number = number & !(0x3 << 62) | 0x2 << 62;
    let (first, second, third) = (number >> 96, number >> 80 & 0xFFFF, number >> 64 & 0xFFFF);
    format!("{first:08x}-{second:04x}-{third:04x}-{:04x}-{:012x}", number >> 48 & 0xFFFF, number & 0xFFFF_FFFF_FFFF)
}

fn logsource(reader: &mut Reader<'_>, document: &Node) -> LogSource {
    let Some(node) = document.entry("logsource") else {
        return missing(reader, document, "logsource").unwrap_or_default();
    };
    let errors = reader.error_count();
    let mut part = |key: &str| {
        let node = node.entry(key).filter(|node| !node.is_null())?;
        let path = format!("logsource.{key}");
        let Some(text) = node.text() else {
            reader.error(Place::new(node, &path), format!("a text is expected, found {}", node.describe()));
            return None;
        };
        let lower = text.to_lowercase();
        if lower != text {
            reader.warn(Place::new(node, &path), "log sources are lower case", format!("read as `{lower}`"));
        }
        Some(lower)
    };
    let logsource = LogSource { category: part("category"), product: part("product"), service: part("service") };
    if logsource == LogSource::default() && reader.error_count() == errors {
        let message = "a log source needs `category`, `product` or `service`";
        reader.error_with(Place::new(node, "logsource"), message, "without one the rule would hold for every source");
    }
    logsource
}

fn choice<T: Copy>(reader: &mut Reader<'_>, document: &Node, key: &str, table: &[(&str, T)]) -> Option<T> {
    let node = document.entry(key).filter(|node| !node.is_null())?;
    let name = node.text().unwrap_or_default();
    let found = table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    if found.is_none() {
        let help = reader.one_of(name, table.iter().map(|(known, _)| *known));
        reader.error_with(Place::new(node, key), format!("there is no {key} {}", node.describe()), help);
    }
    found
}

/// The text under a key that may be missing.
fn text(reader: &mut Reader<'_>, document: &Node, key: &str) -> Option<String> {
    let node = document.entry(key).filter(|node| !node.is_null())?;
    if node.text().is_none() {
        reader.error(Place::new(node, key), format!("a text is expected, found {}", node.describe()));
    }
    node.text().map(str::to_owned)
}

/// The list of texts under a key that may be missing.
fn texts(reader: &mut Reader<'_>, document: &Node, key: &str) -> Vec<String> {
    let Some(node) = document.entry(key).filter(|node| !node.is_null()) else { return Vec::new() };
    let Content::Sequence(items) = &node.content else {
        if node.text().is_some() {
            reader.warn(Place::new(node, key), "a list is expected, this is a single text", "write `- ` in front of it");
        }
        return text(reader, document, key).into_iter().collect();
    };
    let mut list = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match item.text() {
            Some(text) => list.push(text.to_owned()),
            None => {
                reader.error(Place { node: item, path: key, index: Some(index) }, format!("a text is expected, found {}", item.describe()))
            }
        }
    }
    list
}

#[cfg(test)]
mod tests;
