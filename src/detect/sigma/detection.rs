//! The `detection` section: search identifiers to expressions, and their condition over them.
//!
//! Source: Sigma rules specification 2.1.0, "Detection", "Lists", "Maps" and "Keywords search".

use std::collections::HashMap;

use super::condition;
use super::modifier::{Chain, Question};
use super::reader::{Place, Reader, one_of};
use super::value::{Target, all, any, compile};
use crate::config::{Content, Node};
use crate::matcher::{Expr, Predicate};

/// Search identifiers of one rule. Public rules have at most a few dozen; each `1 of x*` visits them all.
const IDENTIFIERS_MAX: usize = 4096;

/// Keys of the section that are no search identifiers.
const CONDITION: &str = "condition";
const TIMEFRAME: &str = "timeframe";

/// A search identifier and what it means.
pub(super) struct Identifier<'a> {
    pub(super) name: &'a str,
    /// `None` if it has a mistake, which is reported by now.
    pub(super) expr: Option<Expr<String>>,
    pub(super) predicate_count: usize,
    pub(super) is_used: bool,
}

/// All search identifiers of a rule, in the order of the file.
pub(super) struct Identifiers<'a> {
    pub(super) list: Vec<Identifier<'a>>,
    pub(super) by_name: HashMap<&'a str, usize>,
}

/// The expression of a whole `detection` section; `None` once its mistakes are reported.
pub(super) fn read(reader: &mut Reader<'_>, detection: &Node) -> Option<Expr<String>> {
    let place = Place::new(detection, "detection");
    if detection.entries().is_empty() {
        reader.error(place, format!("a map of search identifiers and a condition is expected, found {}", detection.describe()));
        return None;
    }
    let mut identifiers = identifiers(reader, detection)?;
    let Some(condition) = detection.entry(CONDITION) else {
        let near = identifiers.list.iter().map(|i| i.name).find(|name| crate::error::nearest(name, [CONDITION]).is_some());
        let help = near.map_or_else(|| "such as `condition: selection`".to_owned(), |near| format!("did you mean `{near}`?"));
        reader.error_with(place, "`condition` is missing", help);
        return None;
    };
    let expr = condition::read(reader, condition, &mut identifiers)?;
    for unused in identifiers.list.iter().filter(|i| !i.is_used && !i.name.starts_with('_')) {
        let path = format!("detection.{}", unused.name);
        let node = detection.entry(unused.name).unwrap_or(detection);
        reader.warn(Place::new(node, &path), "the condition does not use this", "a name that starts with `_` says that this is meant");
    }
    Some(expr)
}

fn identifiers<'a>(reader: &mut Reader<'_>, detection: &'a Node) -> Option<Identifiers<'a>> {
    let mut identifiers = Identifiers { list: Vec::new(), by_name: HashMap::new() };
    for (key, node) in detection.entries() {
        let Some(name) = key.text() else {
            reader.error(Place::new(key, "detection"), format!("a name is expected, found {}", key.describe()));
            continue;
        };
        let path = format!("detection.{name}");
        match name {
            CONDITION => continue,
            TIMEFRAME => {
                let help = "a time window belongs into a correlation rule, as `timespan`";
                reader.warn(Place::new(key, &path), "`timeframe` has no effect without an aggregation", help);
                continue;
            }
            _ if name.contains('|') => {
                let help = "modifiers belong behind a field's name, one level deeper";
                reader.warn(Place::new(key, &path), "a modifier of a search identifier has no effect", help);
            }
            _ => {}
        }
        if identifiers.list.len() >= IDENTIFIERS_MAX {
            reader.error(Place::new(key, &path), format!("more than {IDENTIFIERS_MAX} search identifiers"));
            return None;
        }
        let expr = search(reader, node, &path);
        let predicate_count = expr.as_ref().map_or(0, count);
        identifiers.by_name.insert(name, identifiers.list.len());
        identifiers.list.push(Identifier { name, expr, predicate_count, is_used: false });
    }
    Some(identifiers)
}

fn count(expr: &Expr<String>) -> usize {
    match expr {
        Expr::All(items) | Expr::Any(items) => 1 + items.iter().map(count).sum::<usize>(),
        Expr::Not(inner) => 1 + count(inner),
        _ => 1,
    }
}

/// One search identifier: a map, or a list of maps and keywords of which one has to hold.
fn search(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<Expr<String>> {
    match &node.content {
        Content::Mapping(entries) if !entries.is_empty() => map(reader, node, path),
        Content::Scalar { .. } if !node.is_null() => compile(reader, &Chain::plain(), Target::Event, Place::new(node, path)),
        Content::Sequence(items) if !items.is_empty() => {
            let mut alternatives = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                alternatives.push(match &item.content {
                    Content::Mapping(entries) if !entries.is_empty() => map(reader, item, &format!("{path}[{index}]")),
                    _ => compile(reader, &Chain::plain(), Target::Event, Place { node: item, path, index: Some(index) }),
                });
            }
            alternatives.into_iter().collect::<Option<Vec<_>>>().map(any)
        }
        _ => {
            let message = format!("fields with values or a list of keywords are expected, found {}", node.describe());
            reader.error_with(Place::new(node, path), message, "an empty search holds for every event or for none");
            None
        }
    }
}

/// Fields that all have to hold.
fn map(reader: &mut Reader<'_>, node: &Node, path: &str) -> Option<Expr<String>> {
    let mut parts = Vec::with_capacity(node.entries().len());
    for (key, value) in node.entries() {
        let Some(name) = key.text() else {
            reader.error(Place::new(key, path), format!("the name of a field is expected, found {}", key.describe()));
            parts.push(None);
            continue;
        };
        parts.push(item(reader, key, value, &format!("{path}.{name}")));
    }
    parts.into_iter().collect::<Option<Vec<_>>>().map(all)
}

/// One field with its modifiers and its values.
fn item(reader: &mut Reader<'_>, key: &Node, value: &Node, path: &str) -> Option<Expr<String>> {
    let place = Place::new(key, path);
    let mut names = key.text().unwrap_or_default().split('|');
    let target = match names.next() {
        None | Some("") => Target::Event,
        Some(field) => Target::Field(field),
    };
    let chain = Chain::parse(reader, place, names)?;
    if matches!(target, Target::Event) && !fits_keywords(&chain) {
        reader.error_with(place, "these modifiers need a field in front", "keywords take `all`, `cased`, `contains`, `re` and encodings");
        return None;
    }
    let values: Vec<Place<'_>> = match &value.content {
        Content::Sequence(items) => items.iter().enumerate().map(|(index, node)| Place { node, path, index: Some(index) }).collect(),
        _ => vec![Place::new(value, path)],
    };
    if values.is_empty() {
        reader.error(Place::new(value, path), "the list is empty, so it would never hold");
        return None;
    }
    if chain.all && values.len() < 2 {
        reader.error_with(place, "`all` needs a list of at least two values", "leave `all` out");
        return None;
    }
    if chain.question == Question::Exists && values.iter().any(|place| place.index.is_some()) {
        reader.error(place, "`exists` takes true or false, not a list");
        return None;
    }
    let parts: Vec<_> = values.into_iter().map(|place| compile(reader, &chain, target, place)).collect();
    let parts = parts.into_iter().collect::<Option<Vec<_>>>()?;
    Some(match target {
        Target::Field(field) if chain.negated => none_of(field, parts),
        _ if chain.all => all(parts),
        _ => any(parts),
    })
}

/// Whether the modifiers make sense for a text that may stand anywhere in the event.
fn fits_keywords(chain: &Chain) -> bool {
    use super::modifier::Step::Position;
    use crate::matcher::TextOp::Contains;
    let is_text = matches!(chain.question, Question::Value | Question::Regex { .. });
    is_text && !chain.negated && chain.steps.iter().all(|step| !matches!(step, Position(op) if *op != Contains))
}

/// `neq`: the field is there and none of the values holds. For another field, that one is there too.
fn none_of(field: &str, alternatives: Vec<Expr<String>>) -> Expr<String> {
    let present = |name: &str| Expr::Field(name.to_owned(), Predicate::Exists);
    let mut parts = vec![present(field)];
    parts.extend(alternatives.iter().filter_map(|alternative| match alternative {
        Expr::Fields { right, .. } => Some(present(right)),
        _ => None,
    }));
    parts.push(Expr::Not(Box::new(any(alternatives))));
    Expr::All(parts)
}

/// Help for a search identifier that does not exist.
pub(super) fn known(identifiers: &Identifiers<'_>, name: &str) -> String {
    one_of(name, identifiers.list.iter().map(|identifier| identifier.name))
}
