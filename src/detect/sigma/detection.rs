//! The `detection` section: read to search identifiers with their values, then lowered to one expression.
//!
//! Between the two stands what pipelines and filters work on: which field is asked what, with modifiers applied to
//! the values. Lowering looks up the condition's names and turns values into predicates.
//!
//! Source: Sigma rules specification 2.1.0, "Detection", "Lists", "Maps" and "Keywords search".

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use super::condition;
use super::modifier::{Chain, Question, Step};
use super::reader::{Place, Reader};
use super::value::{self, Target, Value, all, any, weight};
use crate::config::{Content, Node};
use crate::matcher::{Expr, Predicate, TextOp};

/// Search identifiers of one rule. Public rules have at most a few dozen; each `1 of x*` visits them all.
const IDENTIFIERS_MAX: usize = 4096;

/// Bytes of a search identifier, or of a field with its modifiers: every predicate carries its field's name.
const NAME_BYTES_MAX: usize = 1024;

/// Keys of the section that are no search identifiers.
const CONDITION: &str = "condition";
const TIMEFRAME: &str = "timeframe";

/// A section with search identifiers and a condition, as read.
#[derive(Clone, Debug)]
pub(super) struct Detection {
    /// Its key in the document.
    pub(super) path: &'static str,
    /// In the order of the file.
    pub(super) searches: Vec<Search>,
    pub(super) condition: Node,
    /// What holds beside the condition: filters, and conditions that a pipeline adds.
    pub(super) also: Vec<Also>,
}

/// A search identifier.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) name: String,
    /// Where its value stands.
    pub(super) spot: Node,
    pub(super) body: Body,
}

/// What a search identifier asks.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Item(Item),
    All(Vec<Body>),
    Any(Vec<Body>),
    /// A mistake, which is reported by now: the rule is refused, but the rest of it is still looked at.
    Mistake,
    /// A pipeline dropped it: what refers to it asks one thing less.
    Gone,
}

/// One field, or the whole event, with its values.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// `None` asks the whole event.
    pub(super) field: Option<String>,
    /// The modifiers; those that change values are applied.
    pub(super) chain: Chain,
    pub(super) values: Vec<Written>,
    /// Where it stands.
    pub(super) path: String,
    pub(super) key: Node,
    /// The steps of pipelines that changed it.
    pub(super) applied: BTreeSet<usize>,
}

/// A value, and how it was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) node: Node,
    pub(super) index: Option<usize>,
    pub(super) value: Value,
}

/// A further section that has to hold, or must not.
#[derive(Clone, Debug)]
pub(super) struct Also {
    pub(super) detection: Detection,
    pub(super) effect: Effect,
    /// Its file, if that is not the rule's.
    pub(super) file: Option<PathBuf>,
}

/// What a further section does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It has to hold.
    Require,
    /// It must not hold.
    Refuse,
    /// It has to hold: it is a filter ([`super::filter`]).
    Filter,
}

/// A search identifier and what it means.
pub(super) struct Identifier<'a> {
    pub(super) name: &'a str,
    /// `None` if it has a mistake, which is reported by now.
    pub(super) expr: Option<Expr<String>>,
    /// What a copy of it takes from the file's budget.
    pub(super) weight: usize,
    pub(super) is_used: bool,
}

/// All search identifiers of a section, in the order of the file.
pub(super) struct Identifiers<'a> {
    pub(super) list: Vec<Identifier<'a>>,
    pub(super) by_name: HashMap<&'a str, usize>,
}

impl Item {
    fn target(&self) -> Target<'_> {
        self.field.as_deref().map_or(Target::Event, Target::Field)
    }
}

impl Body {
    /// Calls `visit` with every item.
    pub(super) fn for_each_item<'a>(&'a self, visit: &mut impl FnMut(&'a Item)) {
        match self {
            Self::Item(item) => visit(item),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.for_each_item(visit)),
            Self::Mistake | Self::Gone => {}
        }
    }
}

/// Reads a section, `rules` of a filter left out; `None` once it is reported that it is none.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, path: &'static str) -> Option<Detection> {
    let place = Place::new(node, path);
    if node.entries().is_empty() {
        reader.error(place, format!("a map of search identifiers and a condition is expected, found {}", node.describe()));
        return None;
    }
    let searches = searches(reader, node, path)?;
    let Some(condition) = node.entry(CONDITION) else {
        let mut names = searches.iter().map(|search| search.name.as_str());
        let near = names.find(|name| reader.near(name, [CONDITION].into_iter()).is_some());
        let help = near.map_or_else(|| "such as `condition: selection`".to_owned(), |near| format!("did you mean `{near}`?"));
        reader.error_with(place, "`condition` is missing", help);
        return None;
    };
    Some(Detection { path, searches, condition: condition.clone(), also: Vec::new() })
}

fn searches(reader: &mut Reader<'_>, section: &Node, path: &'static str) -> Option<Vec<Search>> {
    let mut searches = Vec::new();
    for (key, node) in section.entries() {
        let Some(name) = key_name(reader, key, path) else {
            continue;
        };
        let own = format!("{path}.{name}");
        match name {
            CONDITION => continue,
            "rules" if path == "filter" => continue,
            TIMEFRAME => {
                let help = "a time window belongs into a correlation rule, as `timespan`";
                reader.warn(Place::new(key, &own), "`timeframe` has no effect without an aggregation", help);
                continue;
            }
            _ if name.contains('|') => {
                let help = "modifiers belong behind a field's name, one level deeper";
                reader.warn(Place::new(key, &own), "a modifier of a search identifier has no effect", help);
            }
            _ => {}
        }
        if searches.len() >= IDENTIFIERS_MAX {
            reader.error(Place::new(key, &own), format!("more than {IDENTIFIERS_MAX} search identifiers"));
            return None;
        }
        let body = search(reader, node, &own);
        searches.push(Search { name: name.to_owned(), spot: spot(node), body });
    }
    Some(searches)
}

/// The place of a node, without what it is.
pub(super) fn spot(node: &Node) -> Node {
    Node { line: node.line, column: node.column, content: Content::Sequence(Vec::new()) }
}

/// The text of a key that names something.
fn key_name<'a>(reader: &mut Reader<'_>, key: &'a Node, path: &str) -> Option<&'a str> {
    let name = key.text().filter(|name| name.len() <= NAME_BYTES_MAX);
    if name.is_none() {
        reader.error(Place::new(key, path), format!("a name of at most {NAME_BYTES_MAX} bytes is expected, found {}", key.describe()));
    }
    name
}

/// One search identifier: a map, or a list of maps and keywords of which one has to hold.
pub(super) fn search(reader: &mut Reader<'_>, node: &Node, path: &str) -> Body {
    match &node.content {
        Content::Mapping(entries) if !entries.is_empty() => map(reader, node, path),
        Content::Scalar { .. } if !node.is_null() => keywords(reader, node, path, vec![Place::new(node, path)]),
        Content::Sequence(items) if !items.is_empty() => {
            let places = items.iter().enumerate().map(|(index, node)| Place { node, path, index: Some(index) });
            let is_map = |item: &Node| matches!(&item.content, Content::Mapping(entries) if !entries.is_empty());
            if !items.iter().any(is_map) {
                return keywords(reader, node, path, places.collect());
            }
            let alternatives = places.enumerate().map(|(index, place)| match is_map(place.node) {
                true => map(reader, place.node, &format!("{path}[{index}]")),
                false => keywords(reader, place.node, path, vec![place]),
            });
            Body::Any(alternatives.collect())
        }
        _ => {
            let message = format!("fields with values or a list of keywords are expected, found {}", node.describe());
            reader.error_with(Place::new(node, path), message, "an empty search holds for every event or for none");
            Body::Mistake
        }
    }
}

fn keywords(reader: &mut Reader<'_>, node: &Node, path: &str, places: Vec<Place<'_>>) -> Body {
    let chain = Chain::plain();
    let values = values(reader, &chain, Target::Event, places);
    Body::Item(Item { field: None, chain, values, path: path.to_owned(), key: spot(node), applied: BTreeSet::new() })
}

fn values(reader: &mut Reader<'_>, chain: &Chain, target: Target<'_>, places: Vec<Place<'_>>) -> Vec<Written> {
    let mut read = |place: Place<'_>| {
        let value = value::read(reader, chain, target, place).unwrap_or(Value::Mistake);
        Written { node: place.node.clone(), index: place.index, value }
    };
    places.into_iter().map(&mut read).collect()
}

/// Fields that all have to hold.
fn map(reader: &mut Reader<'_>, node: &Node, path: &str) -> Body {
    let mut part = |(key, value): &(Node, Node)| {
        let name = key_name(reader, key, path)?;
        item(reader, key, value, format!("{path}.{name}")).map(Body::Item)
    };
    Body::All(node.entries().iter().map(|entry| part(entry).unwrap_or(Body::Mistake)).collect())
}

/// One field with its modifiers and its values.
fn item(reader: &mut Reader<'_>, key: &Node, value: &Node, path: String) -> Option<Item> {
    let place = Place::new(key, &path);
    let mut names = key.text().unwrap_or_default().split('|');
    let field = names.next().filter(|field| !field.is_empty()).map(str::to_owned);
    let chain = Chain::parse(reader, place, names)?;
    if field.is_none() && !fits_keywords(&chain) {
        reader.error_with(place, "these modifiers need a field in front", "keywords take `all`, `cased`, `contains`, `re` and encodings");
        return None;
    }
    let places: Vec<Place<'_>> = match &value.content {
        Content::Sequence(items) => items.iter().enumerate().map(|(index, node)| Place { node, path: &path, index: Some(index) }).collect(),
        _ => vec![Place::new(value, &path)],
    };
    if places.is_empty() {
        reader.error(Place::new(value, &path), "the list is empty, so it would never hold");
        return None;
    }
    if chain.all && places.len() < 2 {
        reader.error_with(place, "`all` needs a list of at least two values", "leave `all` out");
        return None;
    }
    if chain.question == Question::Exists && places.iter().any(|place| place.index.is_some()) {
        reader.error(place, "`exists` takes true or false, not a list");
        return None;
    }
    let target = field.as_deref().map_or(Target::Event, Target::Field);
    let values = values(reader, &chain, target, places);
    Some(Item { field, chain, values, key: spot(key), path, applied: BTreeSet::new() })
}

/// Whether the modifiers make sense for a text that may stand anywhere in the event.
fn fits_keywords(chain: &Chain) -> bool {
    let is_text = matches!(chain.question, Question::Value | Question::Regex { .. });
    is_text && !chain.negated && chain.steps.iter().all(|step| !matches!(step, Step::Position(op) if *op != TextOp::Contains))
}

/// The expression of a section and of what holds beside it; `None` once its mistakes are reported.
pub(super) fn lower(reader: &mut Reader<'_>, detection: &Detection) -> Option<Expr<String>> {
    let own = lower_own(reader, detection);
    if let Some(None) = own {
        reader.error(Place::new(&detection.condition, detection.path), "pipelines drop everything that this rule asks");
        return None;
    }
    let mut parts = vec![own];
    for also in &detection.also {
        let part = reader.inside(also.file.as_deref(), |reader| {
            let Some(expr) = lower_own(reader, &also.detection)? else { return Some(None) };
            if also.effect == Effect::Filter {
                super::filter::warn_of_the_other_reading(reader, &also.detection);
            }
            Some(Some(if also.effect == Effect::Refuse { Expr::Not(Box::new(expr)) } else { expr }))
        });
        match also.effect {
            Effect::Filter => parts.push(part),
            // An added condition is mostly the one that decides, so it stands in front.
            Effect::Require | Effect::Refuse => parts.insert(0, part),
        }
    }
    let parts = parts.into_iter().collect::<Option<Vec<_>>>()?;
    Some(all(parts.into_iter().flatten().collect()))
}

/// The expression of a section alone, `Some(None)` if pipelines dropped all of it.
fn lower_own(reader: &mut Reader<'_>, detection: &Detection) -> Option<Option<Expr<String>>> {
    let mut identifiers = Identifiers { list: Vec::with_capacity(detection.searches.len()), by_name: HashMap::new() };
    for search in &detection.searches {
        let expr = lower_body(reader, &search.body);
        let weight = expr.as_ref().map_or(0, weight);
        identifiers.by_name.insert(&search.name, identifiers.list.len());
        identifiers.list.push(Identifier { name: &search.name, expr, weight, is_used: false });
    }
    let expr = condition::read(reader, &detection.condition, &format!("{}.condition", detection.path), &mut identifiers)?;
    for (search, identifier) in detection.searches.iter().zip(identifiers.list) {
        if !identifier.is_used && !search.name.starts_with('_') {
            let path = format!("{}.{}", detection.path, search.name);
            let help = "a name that starts with `_` says that this is meant";
            reader.warn(Place::new(&search.spot, &path), "the condition does not use this", help);
        }
    }
    let has_gap = detection.searches.iter().any(|search| matches!(search.body, Body::Gone));
    Some(if has_gap { without_gaps(expr) } else { Some(expr) })
}

/// The expression without what is gone, which stands in it as an empty list.
fn without_gaps(expr: Expr<String>) -> Option<Expr<String>> {
    let list =
        |items: Vec<Expr<String>>| Some(items.into_iter().filter_map(without_gaps).collect::<Vec<_>>()).filter(|items| !items.is_empty());
    match expr {
        Expr::All(items) => list(items).map(all),
        Expr::Any(items) => list(items).map(any),
        Expr::Not(inner) => without_gaps(*inner).map(|inner| Expr::Not(Box::new(inner))),
        leaf => Some(leaf),
    }
}

fn lower_body(reader: &mut Reader<'_>, body: &Body) -> Option<Expr<String>> {
    let list = |reader: &mut Reader<'_>, parts: &[Body]| {
        let parts: Vec<_> = parts.iter().map(|part| lower_body(reader, part)).collect();
        parts.into_iter().collect::<Option<Vec<_>>>()
    };
    match body {
        Body::Item(item) => lower_item(reader, item),
        Body::All(parts) => list(reader, parts).map(all),
        Body::Any(parts) => list(reader, parts).map(any),
        Body::Mistake => None,
        Body::Gone => Some(Expr::All(Vec::new())),
    }
}

fn lower_item(reader: &mut Reader<'_>, item: &Item) -> Option<Expr<String>> {
    let (chain, target) = (&item.chain, item.target());
    let lower = |written: &Written| {
        let place = Place { node: &written.node, path: &item.path, index: written.index };
        value::lower(reader, chain, target, place, &written.value)
    };
    let parts: Vec<_> = item.values.iter().map(lower).collect();
    let parts = parts.into_iter().collect::<Option<Vec<_>>>()?;
    Some(match target {
        Target::Field(field) if chain.negated => none_of(field, parts),
        _ if chain.all => all(parts),
        _ => any(parts),
    })
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
