//! What a step does to a rule or a correlation.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use regex::Regex;

use super::{Literal, Refused, Run, Step};
use crate::config::{Content, Node};
use crate::detect::sigma::correlation::Correlation;
use crate::detect::sigma::detection::{self, Also, Body, Detection, Effect, Item, Search, Written, spot};
use crate::detect::sigma::pattern::{self, Piece};
use crate::detect::sigma::reader::{Place, Reader};
use crate::detect::sigma::value::Value;
use crate::detect::sigma::{LogSource, Placeholders, SigmaRule};
use crate::matcher::Number;

/// What an item takes beside its values, in predicates: its name, path and modifiers.
const ITEM_WEIGHT: usize = 16;

/// A transformation.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Rename(Rename),
    DropItem,
    AddCondition { conditions: Node, is_template: bool, is_negated: bool },
    LogSource(LogSource),
    ValuePlaceholders(Which),
    WildcardPlaceholders(Which),
    Replace(Replace),
    MapText(HashMap<String, Vec<String>>),
    SetState { key: String, value: Literal },
    FailRule(String),
    FailItem(String),
}

/// How fields are called.
#[derive(Clone, Debug)]
pub(super) enum Rename {
    /// By name; `None` are keywords.
    Names(HashMap<Option<String>, Vec<String>>),
    /// By what the name starts with, in the order of the file.
    Starts(Vec<(String, Vec<String>)>),
    Prefix(String),
    Suffix(String),
}

/// Which placeholders are meant.
#[derive(Clone, Debug)]
pub(super) enum Which {
    All,
    Only(Vec<String>),
    AllBut(Vec<String>),
}

impl Which {
    fn is(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|own| own == name),
            Self::AllBut(names) => !names.iter().any(|own| own == name),
        }
    }
}

/// What is put in the place of what.
#[derive(Clone, Debug)]
pub(super) struct Replace {
    pub(super) regex: Regex,
    pub(super) replacement: Vec<Part>,
    /// Only the texts between wildcards are looked at.
    pub(super) skips_special: bool,
    /// With that, `*` and `?` that come out are wildcards.
    pub(super) interprets_special: bool,
}

/// A part of a replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Group(usize),
    NamedGroup(String),
}

type Done = Result<(), Refused>;

impl Rename {
    /// The new names of a field; `None` if it keeps its own.
    fn of(&self, field: Option<&str>) -> Option<Vec<String>> {
        match (self, field) {
            (Self::Names(names), field) => names.get(&field.map(str::to_owned)).cloned(),
            (_, None) => None,
            (Self::Prefix(prefix), Some(field)) => Some(vec![format!("{prefix}{field}")]),
            (Self::Suffix(suffix), Some(field)) => Some(vec![format!("{field}{suffix}")]),
            (Self::Starts(starts), Some(field)) => {
                let (start, new) = starts.iter().find(|(start, _)| field.starts_with(start.as_str()))?;
                let rest = field.get(start.len()..).unwrap_or_default();
                Some(new.iter().map(|new| format!("{new}{rest}")).collect())
            }
        }
    }
}

impl Change {
    /// Changes a rule; `index` is that of the step.
    pub(super) fn apply(
        &self,
        run: &mut Run<'_>,
        index: usize,
        reader: &mut Reader<'_>,
        (rule, detection): (&mut SigmaRule, &mut Detection),
    ) -> Done {
        let step = &run.steps[index];
        match self {
            Self::LogSource(logsource) => rule.logsource = logsource.clone(),
            Self::SetState { key, value } => {
                run.state.insert(key.clone(), value.clone());
            }
            Self::FailRule(message) => return Err(Refused::ByPipeline(message.clone())),
            Self::AddCondition { conditions, is_template, is_negated } => {
                let mut node = conditions.clone();
                if *is_template {
                    fill(&mut node, &rule.logsource).map_err(|name| {
                        let message = format!("`${name}`: the log source of the rule `{}` does not say it", rule.title);
                        step.fail(reader, message, "add a condition `logsource`, or write two transformations")
                    })?;
                }
                let effect = if *is_negated { Effect::Refuse } else { Effect::Require };
                let added = reader.inside(Some(&step.file), |reader| added(reader, &node, &step.path));
                detection.also.push(Also { detection: added, effect, file: Some(step.file.to_path_buf()) });
            }
            Self::Rename(rename) => {
                let mut fields = Vec::with_capacity(rule.fields.len());
                for field in std::mem::take(&mut rule.fields) {
                    fields.extend(renamed(rename, field, run, index));
                }
                rule.fields = fields;
                return each_item(detection, &mut |item| rename_item(rename, item, run, index, reader));
            }
            Self::DropItem => return each_item(detection, &mut |item| Ok(step.fits(item, run).then_some(Body::Gone))),
            Self::FailItem(message) => {
                return each_item(detection, &mut |item| match step.fits(item, run) {
                    true => Err(Refused::ByPipeline(message.clone())),
                    false => Ok(None),
                });
            }
            Self::ValuePlaceholders(_) | Self::WildcardPlaceholders(_) | Self::Replace(_) | Self::MapText(_) => {
                return each_item(detection, &mut |item| {
                    if step.fits(item, run) && self.change_values(item, run.vars, step, reader)? {
                        item.applied.insert(index);
                    }
                    Ok(None)
                });
            }
        }
        Ok(())
    }

    /// Changes the names of fields; everything else is for rules.
    pub(super) fn apply_to_correlation(
        &self,
        run: &mut Run<'_>,
        index: usize,
        reader: &mut Reader<'_>,
        correlation: &mut Correlation,
    ) -> Done {
        let step = &run.steps[index];
        let rename = match self {
            Self::Rename(rename) => rename,
            Self::SetState { key, value } => {
                run.state.insert(key.clone(), value.clone());
                return Ok(());
            }
            Self::FailRule(message) => return Err(Refused::ByPipeline(message.clone())),
            _ => return Ok(()),
        };
        let title = &correlation.title;
        let mut one = |field: &mut String| match <[String; 1]>::try_from(renamed(rename, field.clone(), run, index)) {
            Ok([name]) => {
                *field = name;
                Ok(())
            }
            Err(_) => {
                let message = format!("the field `{field}` of the correlation `{title}` cannot become several");
                Err(step.fail(reader, message, "leave correlations out with a condition `is_sigma_rule`"))
            }
        };
        let is_alias = |name: &str| correlation.aliases.iter().any(|alias| alias.name.text == name);
        for name in correlation.group_by.iter_mut().filter(|name| !is_alias(&name.text)) {
            one(&mut name.text)?;
        }
        for field in correlation.condition.fields.iter_mut().filter(|field| !is_alias(field)) {
            one(field)?;
        }
        correlation.aliases.iter_mut().flat_map(|alias| &mut alias.fields).try_for_each(|(_, field)| one(field))
    }

    /// Whether a value changed.
    fn change_values(&self, item: &mut Item, vars: &Placeholders, step: &Step, reader: &mut Reader<'_>) -> Result<bool, Refused> {
        let mut is_changed = false;
        let mut values = Vec::with_capacity(item.values.len());
        for written in std::mem::take(&mut item.values) {
            // What is too much is not even built.
            let count = self.count(&written.value, vars);
            let place = Place { node: &written.node, path: &item.path, index: written.index };
            if count > 1 && !reader.spend(place, count) {
                return Err(step.fail(reader, format!("a value becomes {count} values"), "fewer values, or fewer rules in a file"));
            }
            match self.changed(&written.value, vars) {
                Some(new) => values.extend(new.into_iter().map(|value| Written { value, ..written.clone() })),
                None => {
                    values.push(written);
                    continue;
                }
            }
            is_changed = true;
        }
        item.values = values;
        Ok(is_changed)
    }

    /// How many values a value becomes.
    fn count(&self, value: &Value, vars: &Placeholders) -> usize {
        match (self, value) {
            (Self::ValuePlaceholders(which), _) => {
                let known = |name: &str| vars.get(name).filter(|_| which.is(name));
                value.strings().iter().map(|pieces| pattern::expansion_count(pieces, &known)).fold(0, usize::saturating_add)
            }
            (Self::MapText(mapping), Value::Text(pieces)) => mapping.get(&pattern::written(pieces)).map_or(1, Vec::len),
            _ => 1,
        }
    }

    /// What a value becomes; `None` if it stays.
    fn changed(&self, value: &Value, vars: &Placeholders) -> Option<Vec<Value>> {
        match (self, value) {
            (Self::ValuePlaceholders(which), Value::Text(_) | Value::Variants(_)) => {
                let known = |name: &str| vars.get(name).filter(|_| which.is(name));
                let named = |piece: &Piece| matches!(piece, Piece::Placeholder(name) if known(name).is_some());
                let strings = value.strings();
                if !strings.iter().flatten().any(named) {
                    return None;
                }
                Some(vec![Value::of(strings.iter().flat_map(|pieces| pattern::expand(pieces, &known)).collect())])
            }
            (Self::WildcardPlaceholders(which), Value::Text(_) | Value::Variants(_)) => {
                let mut strings = value.strings().to_vec();
                let mut is_changed = false;
                for piece in strings.iter_mut().flatten() {
                    if matches!(piece, Piece::Placeholder(name) if which.is(name)) {
                        *piece = Piece::Any;
                        is_changed = true;
                    }
                }
                is_changed.then(|| vec![Value::of(strings)])
            }
            (Self::Replace(replace), Value::Text(pieces)) => Some(vec![Value::Text(replace.replaced(pieces))]),
            (Self::Replace(replace), Value::Number(number)) => {
                Some(vec![Value::Text(replace.replaced(&[Piece::Text(written_number(*number))]))])
            }
            (Self::MapText(mapping), Value::Text(pieces)) => {
                let new = mapping.get(&pattern::written(pieces))?;
                Some(new.iter().map(|text| Value::Text(pattern::parse(text, false))).collect())
            }
            _ => None,
        }
    }
}

fn written_number(number: Number) -> String {
    match number {
        Number::Integer(number) => number.to_string(),
        Number::Float(number) => number.to_string(),
    }
}

/// The names of a field that is not in an item; what gave them is remembered.
fn renamed(rename: &Rename, field: String, run: &mut Run<'_>, index: usize) -> Vec<String> {
    let applied = run.fields.get(&field).cloned().unwrap_or_default();
    let new = rename.of(Some(&field)).filter(|_| run.steps[index].fits_field(Some(&field), &applied, run));
    let Some(new) = new else { return vec![field] };
    if new != [field.as_str()] {
        let mut applied = run.fields.remove(&field).unwrap_or_default();
        applied.insert(index);
        for name in &new {
            match run.fields.entry(name.clone()) {
                Entry::Occupied(mut entry) => entry.get_mut().extend(&applied),
                Entry::Vacant(entry) => drop(entry.insert(applied.clone())),
            }
        }
    }
    new
}

fn rename_item(rename: &Rename, item: &mut Item, run: &Run<'_>, index: usize, reader: &mut Reader<'_>) -> Result<Option<Body>, Refused> {
    let step = &run.steps[index];
    if !step.fits(item, run) {
        return Ok(None);
    }
    let mut is_changed = false;
    let mut values = Vec::with_capacity(item.values.len());
    for written in std::mem::take(&mut item.values) {
        let new = match &written.value {
            Value::Field(name) => rename.of(Some(name)).filter(|_| step.fits_field(Some(name), &item.applied, run)),
            _ => None,
        };
        is_changed |= new.is_some();
        match new {
            Some(names) => values.extend(names.into_iter().map(|name| Written { value: Value::Field(name), ..written.clone() })),
            None => values.push(written),
        }
    }
    item.values = values;
    let names = rename.of(item.field.as_deref()).filter(|_| step.fits_field(item.field.as_deref(), &item.applied, run));
    if names.is_some() || is_changed {
        item.applied.insert(index);
    }
    let Some(names) = names else { return Ok(None) };
    if item.field.is_none() {
        item.values.iter_mut().for_each(|written| written.value.surround());
    }
    let count = names.len().saturating_mul(ITEM_WEIGHT + item.values.iter().map(|written| written.value.count()).sum::<usize>());
    if !reader.spend(Place::new(&item.key, &item.path), count) {
        return Err(step.fail(
            reader,
            format!("a field becomes {} names with its values", names.len()),
            "fewer names, or fewer rules in a file",
        ));
    }
    let mut items = names.into_iter().map(|name| Body::Item(Item { field: Some(name), ..item.clone() }));
    Ok(Some(if items.len() == 1 { items.next().unwrap_or(Body::Gone) } else { Body::Any(items.collect()) }))
}

/// Lets `change` see every item, and takes what it gives in its place.
fn each_item(detection: &mut Detection, change: &mut dyn FnMut(&mut Item) -> Result<Option<Body>, Refused>) -> Done {
    let also = detection.also.iter_mut().flat_map(|also| &mut also.detection.searches);
    detection.searches.iter_mut().chain(also).try_for_each(|search| each(&mut search.body, change))
}

fn each(body: &mut Body, change: &mut dyn FnMut(&mut Item) -> Result<Option<Body>, Refused>) -> Done {
    match body {
        Body::Item(item) => {
            if let Some(new) = change(item)? {
                *body = new;
            }
        }
        Body::All(parts) | Body::Any(parts) => {
            parts.iter_mut().try_for_each(|part| each(part, change))?;
            parts.retain(|part| !matches!(part, Body::Gone));
            if parts.is_empty() {
                *body = Body::Gone;
            }
        }
        Body::Mistake | Body::Gone => {}
    }
    Ok(())
}

/// A section of one search, whose condition is that search.
fn added(reader: &mut Reader<'_>, conditions: &Node, path: &str) -> Detection {
    let body = detection::search(reader, conditions, &format!("{path}.conditions"));
    let place = spot(conditions);
    let condition = Node { content: Content::Scalar { text: "added".into(), plain: true }, ..place };
    Detection { path: "transformations", searches: vec![Search { name: "added".into(), spot: place, body }], condition, also: Vec::new() }
}

/// Puts the log source into the texts of a template, as Python's `string.Template` does; the error is a name that the
/// log source does not say.
fn fill(node: &mut Node, logsource: &LogSource) -> Result<(), &'static str> {
    match &mut node.content {
        Content::Scalar { text, .. } => *text = filled(text, logsource)?,
        Content::Sequence(items) => items.iter_mut().try_for_each(|item| fill(item, logsource))?,
        Content::Mapping(entries) => entries.iter_mut().try_for_each(|(_, value)| fill(value, logsource))?,
        Content::Unknown(_) => {}
    }
    Ok(())
}

fn filled(text: &str, logsource: &LogSource) -> Result<String, &'static str> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let inner = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        let (name, behind) = inner.unwrap_or_else(|| after.split_at(end));
        let value = match name {
            "category" => logsource.category.as_ref().ok_or("category")?,
            "product" => logsource.product.as_ref().ok_or("product")?,
            "service" => logsource.service.as_ref().ok_or("service")?,
            _ => {
                out.push('$');
                rest = after.strip_prefix('$').unwrap_or(after);
                continue;
            }
        };
        out.push_str(value);
        rest = behind;
    }
    Ok(out + rest)
}

/// A unit of a string as it is written: where it stands there, and what it is.
struct Unit {
    start: usize,
    end: usize,
    piece: Piece,
}

impl Replace {
    fn replaced(&self, pieces: &[Piece]) -> Vec<Piece> {
        if self.skips_special {
            let part = |piece: &Piece| match piece {
                Piece::Text(text) if self.interprets_special => pattern::parse(&self.text(text), false),
                Piece::Text(text) => vec![Piece::Text(self.text(text))],
                other => vec![other.clone()],
            };
            return pattern::joined(pieces.iter().flat_map(part));
        }
        // What the expression does not touch stays the piece that it is: written out, `\\*` and `\*` look alike.
        let has_placeholders = pattern::placeholder_name(pieces).is_some();
        let (written, units) = units(pieces);
        let (mut new, mut pending, mut at) = (Vec::new(), String::new(), 0);
        let keep = |from: usize, to: usize, pending: &mut String, new: &mut Vec<Piece>| {
            for unit in units.iter().filter(|unit| unit.end > from && unit.start < to) {
                if unit.start >= from && unit.end <= to {
                    flush(pending, has_placeholders, new);
                    new.push(unit.piece.clone());
                } else {
                    pending.push_str(written.get(unit.start.max(from)..unit.end.min(to)).unwrap_or_default());
                }
            }
        };
        for captures in self.regex.captures_iter(&written) {
            let whole = captures.get_match();
            keep(at, whole.start(), &mut pending, &mut new);
            self.expand(&captures, &mut pending);
            at = whole.end();
        }
        keep(at, written.len(), &mut pending, &mut new);
        flush(&mut pending, has_placeholders, &mut new);
        pattern::joined(new)
    }

    fn text(&self, text: &str) -> String {
        let mut out = String::new();
        let mut at = 0;
        for captures in self.regex.captures_iter(text) {
            let whole = captures.get_match();
            out.push_str(text.get(at..whole.start()).unwrap_or_default());
            self.expand(&captures, &mut out);
            at = whole.end();
        }
        out + text.get(at..).unwrap_or_default()
    }

    fn expand(&self, captures: &regex::Captures<'_>, out: &mut String) {
        for part in &self.replacement {
            out.push_str(match part {
                Part::Text(text) => text,
                Part::Group(group) => captures.get(*group).map_or("", |found| found.as_str()),
                Part::NamedGroup(name) => captures.name(name).map_or("", |found| found.as_str()),
            });
        }
    }
}

/// Reads what was replaced: backslashes are literal unless they escape a wildcard.
fn flush(pending: &mut String, placeholders: bool, out: &mut Vec<Piece>) {
    let mut escaped = String::with_capacity(pending.len());
    for (index, c) in pending.char_indices() {
        escaped.push(c);
        let next = pending.get(index + 1..).and_then(|rest| rest.chars().next());
        if c == '\\' && !matches!(next, Some('*' | '?')) {
            escaped.push('\\');
        }
    }
    out.extend(pattern::parse(&escaped, placeholders));
    pending.clear();
}

fn units(pieces: &[Piece]) -> (String, Vec<Unit>) {
    let (mut written, mut units) = (String::new(), Vec::new());
    let mut push = |piece: Piece| {
        let start = written.len();
        written.push_str(&pattern::written(std::slice::from_ref(&piece)));
        units.push(Unit { start, end: written.len(), piece });
    };
    for piece in pieces {
        match piece {
            Piece::Text(text) => text.chars().for_each(|c| push(Piece::Text(c.into()))),
            other => push(other.clone()),
        }
    }
    (written, units)
}
