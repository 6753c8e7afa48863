//! The YAML of a pipeline: every key is known, and every mistake is named at once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use regex::Regex;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::change::{Change, Part, Rename, Replace, Which};
use super::question::{FieldQuestion, Formula, Gate, ItemQuestion, Link, Operator, Past, RuleQuestion, ValueQuestion};
use super::{Literal, Pipeline, Step};
use crate::config::{Content, Node, Section, parse_documents};
use crate::detect::sigma::detection::spot;
use crate::detect::sigma::{LogSource, hash};
use crate::error::{Diagnostic, Diagnostics, nearest};

/// Steps of one pipeline. The longest public one has some hundred.
const STEPS_MAX: usize = 4096;

/// Brackets and `not` inside each other in a condition expression.
const FORMULA_DEPTH_MAX: usize = 64;

/// Bytes that one compiled regular expression may take.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

const TYPES: &[&str] = &[
    "field_name_mapping",
    "field_name_prefix_mapping",
    "field_name_prefix",
    "field_name_suffix",
    "drop_detection_item",
    "add_condition",
    "change_logsource",
    "value_placeholders",
    "wildcard_placeholders",
    "replace_string",
    "map_string",
    "set_state",
    "rule_failure",
    "detection_item_failure",
];

/// pySigma's other transformations, and why they are not here.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("nest", "write its items one after the other, each with the conditions"),
    ("hashes_fields", "write `field_name_mapping` of the hashes"),
    ("extract_fields", "write the fields into the rule"),
    ("field_name_transform", "it is a function of Python, which YAML cannot hold"),
    ("query_expression_placeholders", "it is for query text, and no query is written here; use `value_placeholders`"),
    ("file_placeholders", "use `placeholders: { name: { file: FILE } }` of the configuration"),
    ("http_placeholders", "rules do not load from the network; use `placeholders: { name: { file: FILE } }` of the configuration"),
    ("command_placeholders", "no program is run; use `placeholders: { name: { file: FILE } }` of the configuration"),
    ("regex", "comparisons fold case without it"),
    ("case", "comparisons fold case without it"),
    ("set_value", "use `map_string`"),
    ("convert_type", "numbers compare as numbers and as text"),
    ("add_field", "an alert has the whole event"),
    ("remove_field", "an alert has the whole event"),
    ("set_field", "an alert has the whole event"),
    ("set_custom_attribute", "nothing here reads such attributes; use `set_state`"),
    ("strict_field_mapping_failure", "`hydrant rules lint` names fields that no event has"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Top {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(default)]
    priority: i64,
    #[serde(default, rename = "vars")]
    _vars: IgnoredAny,
    #[serde(default, rename = "transformations")]
    _transformations: IgnoredAny,
    #[serde(default)]
    allowed_backends: Vec<String>,
    #[serde(default, rename = "postprocessing")]
    _postprocessing: IgnoredAny,
    #[serde(default, rename = "finalizers")]
    _finalizers: IgnoredAny,
}

const COMMON: &[&str] = &[
    "id",
    "type",
    "rule_conditions",
    "rule_cond_op",
    "rule_cond_not",
    "rule_cond_expr",
    "detection_item_conditions",
    "detection_item_cond_op",
    "detection_item_cond_not",
    "detection_item_cond_expr",
    "field_name_conditions",
    "field_name_cond_op",
    "field_name_cond_not",
    "field_name_cond_expr",
];

pub(super) fn pipeline(file: &Path, text: &str) -> Result<(Pipeline, Diagnostics), Diagnostics> {
    let mut documents = parse_documents(file, text)?;
    if documents.len() > 1 {
        return Err(Diagnostic::error(file, documents[1].line, 1, "", "a pipeline is one document; this is a second one").into());
    }
    let Some(node) = documents.pop().filter(|node| !node.is_null()) else {
        return Err(Diagnostic::error(file, 0, 0, "", "the file is empty").into());
    };
    let root = Section::at(file, "", node);
    let mut diagnostics = Diagnostics::new();
    let top = diagnostics.absorb(root.read::<Top>());
    for key in ["postprocessing", "finalizers"] {
        if let Some(section) = root.child(key).filter(|section| !section.items().is_empty()) {
            let help = "no query is written here: rules are evaluated";
            diagnostics.push(section.error(format!("`{key}` changes the text of queries")).help(help));
        }
    }
    let vars = vars(&root, &mut diagnostics);
    let items = root.child("transformations").map(|section| section.items()).unwrap_or_default();
    if items.len() > STEPS_MAX {
        diagnostics.push(root.error(format!("more than {STEPS_MAX} transformations")));
    }
    let shared: Arc<Path> = file.into();
    let steps = items.iter().take(STEPS_MAX).filter_map(|item| step(item, &shared, &mut diagnostics)).collect();
    diagnostics.0.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    let top = top.filter(|_| !diagnostics.has_errors());
    let Some(top) = top else { return Err(diagnostics) };
    if !top.allowed_backends.is_empty() {
        let message = format!("it is made for {}", top.allowed_backends.join(", "));
        diagnostics.push(root.child("allowed_backends").unwrap_or(root).error(message).warning());
    }
    Ok((Pipeline { priority: top.priority, vars, steps, file: file.to_owned(), hash: hash(text) }, diagnostics))
}

/// Values by name; one or a list of them.
fn vars(root: &Section, diagnostics: &mut Diagnostics) -> HashMap<String, Vec<String>> {
    let mut vars = HashMap::new();
    for (name, section) in root.child("vars").map(|vars| vars.children()).unwrap_or_default() {
        match texts(section.node()) {
            Some(values) => drop(vars.insert(name, values)),
            None => diagnostics.push(section.error(format!("a text or a list of texts is expected, found {}", section.node().describe()))),
        }
    }
    vars
}

/// A scalar, or a list of at least one.
fn texts(node: &Node) -> Option<Vec<String>> {
    let text = |node: &Node| node.text().filter(|_| !node.is_null()).map(str::to_owned);
    match &node.content {
        Content::Sequence(items) if !items.is_empty() => items.iter().map(text).collect(),
        _ => Some(vec![text(node)?]),
    }
}

#[derive(Deserialize)]
struct Common {
    id: Option<String>,
}

fn step(section: &Section, file: &Arc<Path>, diagnostics: &mut Diagnostics) -> Option<Step> {
    let common = diagnostics.absorb(section.read::<Common>());
    let change = diagnostics.absorb(change(section));
    let rule = diagnostics.absorb(gate(section, "rule", "rule_conditions", rule_question));
    let item = diagnostics.absorb(gate(section, "detection_item", "detection_item_conditions", item_question));
    let field = diagnostics.absorb(gate(section, "field_name", "field_name_conditions", field_question));
    let (path, spot) = (section.path().to_owned(), spot(section.node()));
    Some(Step { id: common?.id, file: file.clone(), spot, path, change: change?, rule: rule?, item: item?, field: field? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithMapping {
    #[serde(rename = "mapping")]
    _mapping: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithPrefix {
    prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithSuffix {
    suffix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithConditions {
    #[serde(rename = "conditions")]
    _conditions: IgnoredAny,
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(default)]
    template: bool,
    #[serde(default)]
    negated: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithLogSource {
    category: Option<String>,
    product: Option<String>,
    service: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithPlaceholders {
    include: Option<Vec<String>>,
    exclude: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithReplacement {
    regex: String,
    replacement: String,
    #[serde(default)]
    skip_special: bool,
    #[serde(default)]
    interpret_special: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithState {
    key: String,
    #[serde(rename = "val")]
    _val: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithMessage {
    message: String,
}

fn change(section: &Section) -> Result<Change, Diagnostics> {
    let own = section.without(COMMON);
    let kind = type_of(section, TYPES, UNSUPPORTED)?;
    Ok(match kind.as_str() {
        "field_name_mapping" => {
            own.read::<WithMapping>()?;
            Change::Rename(Rename::Names(mapping(&own)?.into_iter().collect()))
        }
        "field_name_prefix_mapping" => {
            own.read::<WithMapping>()?;
            Change::Rename(Rename::Starts(mapping(&own)?.into_iter().filter_map(|(start, new)| Some((start?, new))).collect()))
        }
        "field_name_prefix" => Change::Rename(Rename::Prefix(own.read::<WithPrefix>()?.prefix)),
        "field_name_suffix" => Change::Rename(Rename::Suffix(own.read::<WithSuffix>()?.suffix)),
        "drop_detection_item" => own.read::<Nothing>().map(|_| Change::DropItem)?,
        "add_condition" => {
            let read = own.read::<WithConditions>()?;
            let conditions = own.child("conditions").unwrap_or_else(|| own.clone());
            if conditions.node().entries().is_empty() {
                return Err(conditions.error(format!("a map of fields is expected, found {}", conditions.node().describe())).into());
            }
            Change::AddCondition { conditions: conditions.node().clone(), is_template: read.template, is_negated: read.negated }
        }
        "change_logsource" => Change::LogSource(log_source(&own, own.read()?)?),
        "value_placeholders" => Change::ValuePlaceholders(which(&own)?),
        "wildcard_placeholders" => Change::WildcardPlaceholders(which(&own)?),
        "replace_string" => replace(&own)?,
        "map_string" => {
            own.read::<WithMapping>()?;
            Change::MapText(mapping(&own)?.into_iter().filter_map(|(text, new)| Some((text?, new))).collect())
        }
        "set_state" => {
            let read = own.read::<WithState>()?;
            Change::SetState { key: read.key, value: literal(&own, "val")? }
        }
        "rule_failure" => Change::FailRule(own.read::<WithMessage>()?.message),
        _ => Change::FailItem(own.read::<WithMessage>()?.message),
    })
}

/// The `type` of a section.
fn type_of(section: &Section, known: &[&str], unsupported: &[(&str, &str)]) -> Result<String, Diagnostics> {
    let Some(node) = section.child("type") else {
        return Err(section.error("`type` is missing").help(format!("one of: {}", known.join(", "))).into());
    };
    let text = node.node().text().unwrap_or_default();
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    if let Some((name, reason)) = unsupported.iter().find(|(name, _)| *name == text) {
        return Err(node.error(format!("`{name}` is not supported")).help(*reason).into());
    }
    let near = nearest(text, known.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
    let help = format!("{near}one of: {}", known.join(", "));
    Err(node.error(format!("there is no type {}", node.node().describe())).help(help).into())
}

/// `mapping`: one name or several for each; the key null is `None`.
fn mapping(own: &Section) -> Result<Vec<(Option<String>, Vec<String>)>, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let Some(section) = own.child("mapping") else { return Ok(Vec::new()) };
    let mut mapping = Vec::with_capacity(section.node().entries().len());
    if section.node().entries().is_empty() {
        diagnostics.push(section.error(format!("a map is expected, found {}", section.node().describe())));
    }
    for (key, value) in section.node().entries() {
        let name = key.text().filter(|_| !key.is_null()).map(str::to_owned);
        match texts(value) {
            Some(names) if name.is_some() || key.is_null() => mapping.push((name, names)),
            _ => {
                let path = format!("{}.{}", section.path(), key.text().unwrap_or("?"));
                let message = format!("a name or a list of names is expected, found {}", value.describe());
                diagnostics.push(Diagnostic::error(section.file(), value.line, value.column, path, message));
            }
        }
    }
    diagnostics.into_result(mapping)
}

fn log_source(own: &Section, read: WithLogSource) -> Result<LogSource, Diagnostics> {
    let lower = |part: Option<String>| part.map(|part| part.to_lowercase());
    let logsource = LogSource { category: lower(read.category), product: lower(read.product), service: lower(read.service) };
    if logsource == LogSource::default() {
        return Err(own.error("a log source needs `category`, `product` or `service`").into());
    }
    Ok(logsource)
}

fn which(own: &Section) -> Result<Which, Diagnostics> {
    let read: WithPlaceholders = own.read()?;
    match (read.include, read.exclude) {
        (None, None) => Ok(Which::All),
        (Some(names), None) => Ok(Which::Only(names)),
        (None, Some(names)) => Ok(Which::AllBut(names)),
        (Some(_), Some(_)) => Err(own.error("only one of `include` and `exclude` can hold").into()),
    }
}

fn replace(own: &Section) -> Result<Change, Diagnostics> {
    let read: WithReplacement = own.read()?;
    let regex = regex(own, "regex", &read.regex)?;
    let replacement =
        replacement(&read.replacement, &regex).map_err(|message| own.child("replacement").unwrap_or_else(|| own.clone()).error(message))?;
    let (skips_special, interprets_special) = (read.skip_special, read.interpret_special);
    Ok(Change::Replace(Replace { regex, replacement, skips_special, interprets_special }))
}

/// A replacement as Python writes it: `\1`, `\g<1>`, `\g<name>`, `\\`, `\n`.
fn replacement(text: &str, regex: &Regex) -> Result<Vec<Part>, String> {
    let mut parts = vec![];
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (name, behind) = match after.strip_prefix("g<").and_then(|inner| inner.split_once('>')) {
            Some((name, behind)) => (name, behind),
            None if digits > 0 => after.split_at(digits.min(2)),
            None => {
                let escaped = after.chars().next();
                plain.push(match escaped {
                    Some('\\') => '\\',
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    _ => return Err(format!("`\\{}` is no escape of a replacement", escaped.map_or(String::new(), String::from))),
                });
                rest = after.get(1..).unwrap_or_default();
                continue;
            }
        };
        parts.extend((!plain.is_empty()).then(|| Part::Text(std::mem::take(&mut plain))));
        parts.push(match name.parse::<usize>() {
            Ok(group) if group < regex.captures_len() => Part::Group(group),
            Err(_) if regex.capture_names().flatten().any(|known| known == name) => Part::NamedGroup(name.to_owned()),
            _ => return Err(format!("the expression has no group `{name}`")),
        });
        rest = behind;
    }
    plain.push_str(rest);
    parts.extend((!plain.is_empty()).then_some(Part::Text(plain)));
    Ok(parts)
}

/// A regular expression of Rust's flavour, which has neither look-around nor back-references.
fn regex(own: &Section, key: &str, pattern: &str) -> Result<Regex, Diagnostics> {
    regex::RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build().map_err(|error| {
        let shown = error.to_string();
        let reason = shown.lines().last().unwrap_or_default().trim_start_matches("error: ");
        own.child(key).unwrap_or_else(|| own.clone()).error(format!("not a regular expression: {reason}")).into()
    })
}

fn literal(own: &Section, key: &str) -> Result<Literal, Diagnostics> {
    let node = own.child(key).unwrap_or_else(|| own.clone());
    let expected = || node.error(format!("a text, number or boolean is expected, found {}", node.node().describe()));
    Ok(Literal::new(node.node()).ok_or_else(expected)?)
}

/// The conditions of one kind. `kind` is what their other keys start with.
fn gate<Q>(section: &Section, kind: &str, key: &str, read: fn(&Section) -> Result<Q, Diagnostics>) -> Result<Gate<Q>, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let list = section.child(key);
    let named = list.as_ref().map(|list| list.children()).unwrap_or_default();
    let unnamed = list.as_ref().map(|list| list.items()).unwrap_or_default().into_iter().map(|item| (String::new(), item));
    let sections: Vec<_> = named.into_iter().chain(unnamed).collect();
    let (names, sections): (Vec<String>, Vec<Section>) = sections.into_iter().unzip();
    let questions: Vec<Q> = sections.iter().filter_map(|section| diagnostics.absorb(read(section))).collect();
    let other = |what: &str| section.child(&format!("{kind}_cond_{what}"));
    for place in ["op", "not", "expr"].into_iter().filter_map(other).filter(|_| sections.is_empty()) {
        diagnostics.push(place.error(format!("there are no `{key}` for this")));
    }
    let is_negated = match other("not").as_ref().map(|place| (place, place.node().text())) {
        None | Some((_, Some("false"))) => false,
        Some((_, Some("true"))) => true,
        Some((place, _)) => {
            diagnostics.push(place.error(format!("true or false is expected, found {}", place.node().describe())));
            false
        }
    };
    let link = match (other("op"), other("expr")) {
        (None, None) => Link::All,
        (Some(_), Some(place)) => {
            diagnostics.push(place.error("only one of an expression and an operator can hold"));
            Link::All
        }
        (Some(place), None) => match place.node().text() {
            Some("and") => Link::All,
            Some("or") => Link::Any,
            _ => {
                diagnostics.push(place.error(format!("`and` or `or` is expected, found {}", place.node().describe())));
                Link::All
            }
        },
        (None, Some(place)) => match formula(place.node().text().unwrap_or_default(), &names) {
            Ok(formula) => Link::Formula(formula),
            Err(message) => {
                diagnostics.push(place.error(message).help(format!("`and`, `or`, `not` and brackets over the names under `{key}`")));
                Link::All
            }
        },
    };
    diagnostics.into_result(Gate { questions, link, is_negated })
}

/// An expression over the names of conditions: `or` binds least, then `and`, then `not`.
fn formula(text: &str, names: &[String]) -> Result<Formula, String> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, at: 0, names, used: vec![false; names.len()] };
    let formula = parser.or(0)?;
    if let Some(word) = words.get(parser.at) {
        return Err(format!("`and`, `or` or the end is expected, found `{word}`"));
    }
    match parser.used.iter().position(|used| !used) {
        Some(unused) => Err(format!("the expression does not use `{}`", names[unused])),
        None => Ok(formula),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
    names: &'a [String],
    used: Vec<bool>,
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let is_it = self.words.get(self.at) == Some(&word);
        self.at += usize::from(is_it);
        is_it
    }

    fn or(&mut self, depth: usize) -> Result<Formula, String> {
        let mut parts = vec![self.and(depth)?];
        while self.take("or") {
            parts.push(self.and(depth)?);
        }
        Ok(Formula::Any(parts))
    }

    fn and(&mut self, depth: usize) -> Result<Formula, String> {
        let mut parts = vec![self.unary(depth)?];
        while self.take("and") {
            parts.push(self.unary(depth)?);
        }
        Ok(Formula::All(parts))
    }

    fn unary(&mut self, depth: usize) -> Result<Formula, String> {
        if depth >= FORMULA_DEPTH_MAX {
            return Err(format!("nested deeper than {FORMULA_DEPTH_MAX} levels"));
        }
        if self.take("not") {
            return Ok(Formula::Not(Box::new(self.unary(depth + 1)?)));
        }
        if self.take("(") {
            let inner = self.or(depth + 1)?;
            return if self.take(")") { Ok(inner) } else { Err("`)` is missing".to_owned()) };
        }
        let Some(word) = self.words.get(self.at) else { return Err("the expression ends where a name is expected".to_owned()) };
        self.at += 1;
        let Some(index) = self.names.iter().position(|name| name == word) else {
            let near =
                nearest(word, self.names.iter().map(String::as_str)).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(format!("there is no condition `{word}`{near}"));
        };
        self.used[index] = true;
        Ok(Formula::Question(index))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithField {
    field: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithItem {
    field: Option<String>,
    #[serde(rename = "value")]
    _value: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithId {
    processing_item_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithPastState {
    key: String,
    #[serde(rename = "val")]
    _val: IgnoredAny,
    #[serde(default)]
    op: Operator,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithAttribute {
    attribute: String,
    #[serde(rename = "value")]
    _value: IgnoredAny,
    #[serde(default)]
    op: Operator,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithTag {
    tag: String,
}

/// The conditions that there are of every kind.
fn past(own: &Section, kind: &str) -> Result<Past, Diagnostics> {
    if kind == "processing_item_applied" {
        return Ok(Past::Applied(own.read::<WithId>()?.processing_item_id));
    }
    let read: WithPastState = own.read()?;
    if matches!(read.op, Operator::In | Operator::NotIn) {
        return Err(own.child("op").unwrap_or_else(|| own.clone()).error("a state is no list").into());
    }
    Ok(Past::State { key: read.key, value: literal(own, "val")?, op: read.op })
}

fn rule_question(section: &Section) -> Result<RuleQuestion, Diagnostics> {
    const KINDS: &[&str] = &[
        "logsource",
        "contains_detection_item",
        "contains_field",
        "processing_item_applied",
        "processing_state",
        "is_sigma_rule",
        "is_sigma_correlation_rule",
        "rule_attribute",
        "tag",
    ];
    let (kind, own) = (type_of(section, KINDS, &[])?, section.without(&["type"]));
    Ok(match kind.as_str() {
        "logsource" => RuleQuestion::LogSource(log_source(&own, own.read()?)?),
        "contains_detection_item" => RuleQuestion::ContainsItem { field: own.read::<WithItem>()?.field, value: literal(&own, "value")? },
        "contains_field" => RuleQuestion::ContainsField(own.read::<WithField>()?.field),
        "is_sigma_rule" => own.read::<Nothing>().map(|_| RuleQuestion::IsRule)?,
        "is_sigma_correlation_rule" => own.read::<Nothing>().map(|_| RuleQuestion::IsCorrelation)?,
        "rule_attribute" => {
            let read: WithAttribute = own.read()?;
            RuleQuestion::Attribute { attribute: read.attribute, value: literal(&own, "value")?, op: read.op }
        }
        "tag" => RuleQuestion::Tag(own.read::<WithTag>()?.tag),
        _ => RuleQuestion::Past(past(&own, &kind)?),
    })
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Quantity {
    Any,
    All,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithQuantity {
    cond: Quantity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithPattern {
    cond: Quantity,
    pattern: String,
    #[serde(default)]
    negate: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithValue {
    cond: Quantity,
    #[serde(rename = "value")]
    _value: IgnoredAny,
}

/// Python's `match`: at the start of the text.
fn at_start(own: &Section, key: &str, pattern: &str) -> Result<Regex, Diagnostics> {
    regex(own, key, pattern)?;
    regex(own, key, &format!("\\A(?:{pattern})"))
}

fn item_question(section: &Section) -> Result<ItemQuestion, Diagnostics> {
    const KINDS: &[&str] = &["match_string", "match_value", "contains_wildcard", "is_null", "processing_item_applied", "processing_state"];
    let (kind, own) = (type_of(section, KINDS, &[])?, section.without(&["type"]));
    let (cond, asked) = match kind.as_str() {
        "match_string" => {
            let read: WithPattern = own.read()?;
            (read.cond, ValueQuestion::Matches { regex: at_start(&own, "pattern", &read.pattern)?, is_negated: read.negate })
        }
        "match_value" => (own.read::<WithValue>()?.cond, ValueQuestion::Is(literal(&own, "value")?)),
        "contains_wildcard" => (own.read::<WithQuantity>()?.cond, ValueQuestion::HasWildcard),
        "is_null" => (own.read::<WithQuantity>()?.cond, ValueQuestion::IsNull),
        _ => return Ok(ItemQuestion::Past(past(&own, &kind)?)),
    };
    Ok(ItemQuestion::Values { all: cond == Quantity::All, asked })
}

#[derive(Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Plain,
    Re,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithFields {
    fields: Vec<String>,
    #[serde(default)]
    mode: Mode,
}

fn field_question(section: &Section) -> Result<FieldQuestion, Diagnostics> {
    const KINDS: &[&str] = &["include_fields", "exclude_fields", "processing_item_applied", "processing_state"];
    let (kind, own) = (type_of(section, KINDS, &[])?, section.without(&["type"]));
    let is_excluded = match kind.as_str() {
        "include_fields" => false,
        "exclude_fields" => true,
        _ => return Ok(FieldQuestion::Past(past(&own, &kind)?)),
    };
    let read: WithFields = own.read()?;
    if read.mode == Mode::Plain {
        return Ok(FieldQuestion::Named { names: read.fields, is_excluded });
    }
    let regexes: Result<_, _> = read.fields.iter().map(|pattern| at_start(&own, "fields", pattern)).collect();
    Ok(FieldQuestion::Matches { regexes: regexes?, is_excluded })
}
