//! Sigma 2.1.0 filters: a document that narrows rules of any file, so that those need not be edited.
//!
//! In goes a YAML document with a `filter` section; [`link`] says which rules it is for. Its condition is added to theirs
//! with `and`, as pySigma does (`docs/adr/0017-sigma-filters.md`). Its search identifiers are its
//! own: they neither see those of the rule nor hide them, and a filter is for detection rules only, so nothing can lead
//! back to itself. A filter counts in the hash of the rules that it narrows.
//!
//! Source: `SigmaHQ/sigma-specification` 2.1.0, `sigma-filters-specification.md` (F) and
//! `json-schema/sigma-filters-schema.json` (J). What these leave open is decided in `docs/reference/sigma.md`.

use std::collections::HashMap;
use std::path::PathBuf;

use super::correlation::{Correlation, Name};
use super::detection::{self, Detection, Identifier, Identifiers};
use super::reader::{Place, Reader};
use super::{Draft, LogSource, check_keys, condition, id, logsource, text, title};
use crate::config::{Content, Node};
use crate::matcher::Expr;

/// Rules that one filter names. More of them have a log source in common.
const RULES_MAX: usize = 4096;

/// Values that all filters may add to rules: each rule has its own copy. A filter of 100 values for all public rules
/// adds a third of this.
const VALUES_MAX: usize = 1_000_000;

/// A filter as written.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pub(super) title: String,
    pub(super) id: String,
    /// By id or name; `None` is every rule of its log source.
    rules: Option<Vec<Name>>,
    logsource: LogSource,
    pub(super) detection: Detection,
    pub(super) hash: String,
    pub(super) file: PathBuf,
    /// Where it stands.
    spot: Node,
}

/// One document; `None` once its mistakes are reported.
pub(super) fn read(reader: &mut Reader<'_>, document: &Node, hash: String) -> Option<Filter> {
    let errors = reader.error_count();
    check_keys(reader, document);
    for key in ["detection", "correlation"] {
        if let Some(node) = document.entry(key) {
            let help = "write the rule as a document of its own, and its id or name under `filter.rules`";
            reader.error_with(Place::new(node, key), format!("a filter has no `{key}`"), help);
        }
    }
    for key in ["level", "status"] {
        if let Some(node) = document.entry(key) {
            reader.warn(Place::new(node, key), format!("a filter has no `{key}`"), "that of the rule stays");
        }
    }
    let title = title(reader, document).unwrap_or_default();
    let id = if document.entry("id").is_some() { id(reader, document, &title) } else { String::new() };
    text(reader, document, "description");
    let logsource = logsource(reader, document);
    let section = document.entry("filter")?;
    let rules = rules(reader, section);
    let detection = detection::read(reader, section, "filter")?;
    if !matches!(detection.condition.content, Content::Scalar { .. }) {
        let message = format!("one condition is expected, found {}", detection.condition.describe());
        reader.error(Place::new(&detection.condition, "filter.condition"), message);
    }
    let spot = detection::spot(document);
    let filter = Filter { title, id, rules: rules?, logsource, detection, hash, file: reader.file().to_owned(), spot };
    (reader.error_count() == errors).then_some(filter)
}

/// The rules that it names, `Some(None)` for `any`; `None` once its mistakes are reported.
fn rules(reader: &mut Reader<'_>, section: &Node) -> Option<Option<Vec<Name>>> {
    let path = "filter.rules";
    let help = "a list of ids or names, or `any` for all rules of this log source";
    let Some(node) = section.entry("rules") else {
        reader.error_with(Place::new(section, "filter"), "`rules` is missing", help);
        return None;
    };
    if node.text().is_some_and(|text| text.eq_ignore_ascii_case("any")) {
        return Some(None);
    }
    let items = match &node.content {
        Content::Sequence(items) => items.as_slice(),
        Content::Scalar { .. } if !node.is_null() => std::slice::from_ref(node),
        _ => &[],
    };
    if items.is_empty() || items.len() > RULES_MAX {
        reader.error_with(Place::new(node, path), format!("1 to {RULES_MAX} rules are expected, found {}", node.describe()), help);
        return None;
    }
    let mut names: Vec<Name> = Vec::with_capacity(items.len());
    let mut seen = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let place = Place { node: item, path, index: Some(index) };
        match item.text().filter(|text| !text.is_empty()) {
            None => reader.error(place, format!("an id or name is expected, found {}", item.describe())),
            Some(text) if seen.insert(text, index).is_some() => reader.error(place, format!("`{text}` stands here twice")),
            Some(text) => names.push(Name { text: text.to_owned(), line: item.line, column: item.column }),
        }
    }
    (names.len() == items.len()).then_some(Some(names))
}

/// Warns of a condition that does not hold where no search identifier does: the rule keeps nothing but what the filter
/// finds. That may be meant, but whoever follows the specification's example means the opposite.
pub(super) fn warn_of_the_other_reading(reader: &mut Reader<'_>, detection: &Detection) {
    let nothing = |name| Identifier { name, expr: Some(Expr::Any(Vec::new())), weight: 0, is_used: false };
    let list: Vec<_> = detection.searches.iter().map(|search| nothing(search.name.as_str())).collect();
    let by_name = list.iter().enumerate().map(|(index, identifier)| (identifier.name, index)).collect();
    let (condition, path) = (&detection.condition, "filter.condition");
    if condition::read(reader, condition, path, &mut Identifiers { list, by_name }).is_some_and(|expr| !holds_for_nothing(&expr)) {
        let text = condition.text().unwrap_or_default();
        let help = format!("`not ({text})` takes away what it finds");
        reader.warn(Place::new(condition, path), "its rules match only what this filter finds: the condition is added to theirs", help);
    }
}

fn holds_for_nothing(expr: &Expr<String>) -> bool {
    match expr {
        Expr::All(parts) => parts.iter().all(holds_for_nothing),
        Expr::Any(parts) => parts.iter().any(holds_for_nothing),
        Expr::Not(inner) => !holds_for_nothing(inner),
        Expr::Field(..) | Expr::Fields { .. } | Expr::Keyword(_) => false,
    }
}

/// For each rule the filters that narrow it, in the order of the files. Mistakes are reported where the filter is.
pub(super) fn link(
    filters: &[(usize, Filter)],
    drafts: &[Draft],
    correlations: &[(usize, Correlation)],
    files: &mut [Reader<'_>],
) -> Vec<Vec<usize>> {
    let mut narrowing = vec![Vec::new(); drafts.len()];
    if filters.is_empty() {
        return narrowing;
    }
    let names = Names::new(drafts, correlations, filters);
    let mut values_left = VALUES_MAX;
    for (index, (file, filter)) in filters.iter().enumerate() {
        let Some(reader) = files.get_mut(*file) else { continue };
        let targets = names.targets(filter, drafts, reader);
        let place = Place::new(&filter.spot, "filter.rules");
        if targets.is_empty() && filter.rules.is_none() {
            reader.warn(place, "there is no rule of this log source", "it narrows nothing");
        }
        let values = values(&filter.detection).saturating_mul(targets.len());
        let Some(left) = values_left.checked_sub(values) else {
            let message = format!("filters add more than {VALUES_MAX} values to rules: this one {values}, to {} rules", targets.len());
            reader.error_with(place, message, "name fewer rules, or say more of the log source");
            continue;
        };
        values_left = left;
        targets.into_iter().for_each(|rule| narrowing[rule].push(index));
    }
    narrowing
}

fn values(detection: &Detection) -> usize {
    let mut count = 0;
    detection.searches.iter().for_each(|search| search.body.for_each_item(&mut |item| count += item.values.len()));
    count
}

/// What a filter can refer to, and what it might mean by mistake.
#[derive(Clone, Copy)]
enum Target {
    Rule(usize),
    /// Two rules have the name.
    Several,
    Correlation,
    Filter,
}

struct Names<'a>(HashMap<&'a str, Target>);

impl<'a> Names<'a> {
    /// An id goes before a name.
    fn new(drafts: &'a [Draft], correlations: &'a [(usize, Correlation)], filters: &'a [(usize, Filter)]) -> Self {
        let mut names = HashMap::new();
        for (_, filter) in filters.iter().filter(|(_, filter)| !filter.id.is_empty()) {
            names.insert(filter.id.as_str(), Target::Filter);
        }
        for (_, correlation) in correlations {
            names.insert(correlation.id.as_str(), Target::Correlation);
            names.extend(correlation.name.as_deref().map(|name| (name, Target::Correlation)));
        }
        for (index, draft) in drafts.iter().enumerate() {
            let Some(name) = draft.rule.name.as_deref() else { continue };
            let target =
                if matches!(names.get(name), Some(Target::Rule(_) | Target::Several)) { Target::Several } else { Target::Rule(index) };
            names.insert(name, target);
        }
        // Of two rules with one id the first counts, as for correlations.
        let ids = drafts.iter().enumerate().rev().map(|(index, draft)| (draft.rule.id.as_str(), Target::Rule(index)));
        names.extend(ids);
        Self(names)
    }

    /// The rules of a filter.
    fn targets(&self, filter: &Filter, drafts: &[Draft], reader: &mut Reader<'_>) -> Vec<usize> {
        let Some(rules) = &filter.rules else {
            return (0..drafts.len()).filter(|rule| covers(&filter.logsource, &drafts[*rule].rule.logsource)).collect();
        };
        let mut found = Vec::with_capacity(rules.len());
        for (index, name) in rules.iter().enumerate() {
            let node = Node { line: name.line, column: name.column, content: Content::Sequence(Vec::new()) };
            let place = Place { node: &node, path: "filter.rules", index: Some(index) };
            let text = name.text.as_str();
            match self.0.get(text).copied() {
                Some(Target::Rule(rule)) if covers(&filter.logsource, &drafts[rule].rule.logsource) => {
                    if found.contains(&rule) {
                        reader.error(place, format!("`{text}` is a rule that stands here already, by its id or name"));
                    } else {
                        found.push(rule);
                    }
                }
                Some(Target::Rule(rule)) => {
                    let message = format!("`{text}` is for {}, which is outside this filter's log source", drafts[rule].rule.logsource);
                    reader.error_with(place, message, format!("this filter is for {}", filter.logsource));
                }
                Some(Target::Several) => {
                    reader.error_with(place, format!("more than one rule has the name `{text}`"), "refer to it by its id");
                }
                Some(Target::Correlation) => {
                    reader.error_with(place, format!("`{text}` is a correlation"), "a filter is for the rules that it counts");
                }
                Some(Target::Filter) => reader.error_with(place, format!("`{text}` is a filter"), "a filter is for detection rules"),
                None => self.unknown(text, place, reader),
            }
        }
        found
    }

    fn unknown(&self, text: &str, place: Place<'_>, reader: &mut Reader<'_>) {
        let message = format!("no rule has the id or name `{text}`");
        match crate::error::nearest(text, self.0.keys().copied()) {
            Some(near) => reader.error_with(place, message, format!("did you mean `{near}`?")),
            None => reader.error(place, message),
        }
    }
}

/// Whether everything that one log source says, the other one says too.
pub(super) fn covers(outer: &LogSource, inner: &LogSource) -> bool {
    let part = |outer: &Option<String>, inner: &Option<String>| outer.is_none() || outer == inner;
    part(&outer.category, &inner.category) && part(&outer.product, &inner.product) && part(&outer.service, &inner.service)
}
