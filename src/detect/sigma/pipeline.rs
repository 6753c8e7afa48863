//! Processing pipelines in pySigma's YAML: rules are changed between reading and lowering, so that they fit the names
//! and log sources of a place.
//!
//! In go files with `name`, `priority`, `vars` and `transformations`; out comes one list of steps ([`Pipelines`]), by
//! priority and then by file. [`Pipelines::apply`] takes each rule through all of them. A step is done for a rule if its
//! `rule_conditions` hold, and for an item (one field with its values, modifiers applied) if its
//! `detection_item_conditions` and `field_name_conditions` hold. Filters are part of the rules that they narrow.
//!
//! Source: pySigma 2.0 (`sigma/processing`), which is the only definition there is; `tests/real/pysigma.py` holds this
//! module to it. What it does otherwise, on purpose, and what is not supported is in `docs/how-to/fit-rules-to-your-place.md`.
//! Everything that is not known is an error with its line.

mod change;
mod question;
mod read;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::correlation::Correlation;
use super::detection::{Body, Detection, Item};
use super::reader::{Place, Reader};
use super::value::Value;
use super::{LogSource, SigmaRule};
use crate::config::{Content, Node};
use crate::error::{Diagnostic, Diagnostics, nearest};
use crate::matcher::Number;

use change::Change;
use question::{FieldQuestion, Gate, ItemQuestion, RuleQuestion};

/// A pipeline as read.
#[derive(Clone, Debug)]
pub struct Pipeline {
    priority: i64,
    vars: HashMap<String, Vec<String>>,
    steps: Vec<Step>,
    file: PathBuf,
    hash: String,
}

impl Pipeline {
    /// Reads a pipeline. What it warns about is given beside it.
    ///
    /// # Errors
    /// Everything that is wrong with it, or not supported.
    pub fn parse(file: &Path, text: &str) -> Result<(Self, Diagnostics), Diagnostics> {
        read::pipeline(file, text)
    }
}

/// All pipelines, as one list of steps.
#[derive(Clone, Debug, Default)]
pub struct Pipelines {
    vars: HashMap<String, Vec<String>>,
    steps: Vec<Step>,
    hash: String,
}

/// One transformation with its conditions.
#[derive(Clone, Debug)]
struct Step {
    id: Option<String>,
    file: Arc<Path>,
    /// Where it stands.
    spot: Node,
    path: String,
    change: Change,
    rule: Gate<RuleQuestion>,
    item: Gate<ItemQuestion>,
    field: Gate<FieldQuestion>,
}

/// A text, number or boolean of a pipeline.
#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Text(String),
    Number(f64),
    Boolean(bool),
}

/// What is being changed.
enum Subject<'a> {
    Rule(&'a SigmaRule, &'a Detection),
    /// A correlation and the log sources of its rules.
    Correlation(&'a Correlation, &'a [LogSource]),
}

/// What is remembered while a rule goes through the steps.
struct Run<'p> {
    steps: &'p [Step],
    vars: &'p HashMap<String, Vec<String>>,
    /// Steps that were done for the rule.
    done: Vec<bool>,
    /// Steps that gave a field of the rule's `fields` its name.
    fields: HashMap<String, BTreeSet<usize>>,
    state: HashMap<String, Literal>,
}

/// Why a rule does not load.
pub(super) enum Refused {
    /// A pipeline says so (`rule_failure`).
    ByPipeline(String),
    /// A mistake, which is reported by now.
    Mistake,
}

impl Pipelines {
    /// One list of all steps, by priority and then by file.
    ///
    /// # Errors
    /// `processing_item_applied` with an id that no step has.
    pub fn new(mut pipelines: Vec<Pipeline>) -> Result<Self, Diagnostics> {
        pipelines.sort_by(|a, b| (a.priority, &a.file).cmp(&(b.priority, &b.file)));
        let mut all = Self::default();
        for pipeline in pipelines {
            all.vars.extend(pipeline.vars);
            all.steps.extend(pipeline.steps);
            all.hash.push_str(&pipeline.hash);
        }
        let ids: Vec<&str> = all.steps.iter().filter_map(|step| step.id.as_deref()).collect();
        let mut diagnostics = Diagnostics::new();
        for step in &all.steps {
            for id in step.wanted_ids().filter(|id| !ids.contains(id)) {
                let message = format!("no transformation has the id `{id}`");
                let mut diagnostic = Diagnostic::error(&step.file, step.spot.line, step.spot.column, &step.path, message);
                diagnostic.help = nearest(id, ids.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                diagnostics.push(diagnostic);
            }
        }
        diagnostics.into_result(all)
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Tells pipelines apart; it counts in the hash of the rules that they change.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// Changes a rule; whether anything was done.
    pub(super) fn apply(&self, reader: &mut Reader<'_>, rule: &mut SigmaRule, detection: &mut Detection) -> Result<bool, Refused> {
        let mut run = Run::new(self);
        for (index, step) in self.steps.iter().enumerate() {
            if step.rule.holds(|question| question.holds(&Subject::Rule(rule, detection), &run)) {
                step.change.apply(&mut run, index, reader, (rule, detection))?;
                run.done[index] = true;
            }
        }
        Ok(run.done.contains(&true))
    }

    /// Changes the fields of a correlation; whether anything was done.
    pub(super) fn apply_to_correlation(
        &self,
        reader: &mut Reader<'_>,
        correlation: &mut Correlation,
        sources: &[LogSource],
    ) -> Result<bool, Refused> {
        let mut run = Run::new(self);
        for (index, step) in self.steps.iter().enumerate() {
            if step.rule.holds(|question| question.holds(&Subject::Correlation(correlation, sources), &run)) {
                step.change.apply_to_correlation(&mut run, index, reader, correlation)?;
                run.done[index] = true;
            }
        }
        Ok(run.done.contains(&true))
    }
}

impl Step {
    fn wanted_ids(&self) -> impl Iterator<Item = &str> {
        let of_rule = self.rule.questions().filter_map(|question| question.wanted_id());
        let of_item = self.item.questions().filter_map(|question| question.wanted_id());
        let of_field = self.field.questions().filter_map(|question| question.wanted_id());
        of_rule.chain(of_item).chain(of_field)
    }

    /// Whether it is for this item.
    fn fits(&self, item: &Item, run: &Run<'_>) -> bool {
        let references =
            || item.values.iter().filter_map(|written| if let Value::Field(name) = &written.value { Some(name) } else { None });
        self.item.holds(|question| question.holds(item, run))
            && self.field.holds(|question| {
                question.holds(item.field.as_deref(), &item.applied, run)
                    || references().any(|name| question.holds(Some(name), &item.applied, run))
            })
    }

    /// Whether it is for this field of an item.
    fn fits_field(&self, field: Option<&str>, applied: &BTreeSet<usize>, run: &Run<'_>) -> bool {
        self.field.holds(|question| question.holds(field, applied, run))
    }

    /// An error of a rule that this step makes, at the step.
    fn fail(&self, reader: &mut Reader<'_>, message: String, help: &str) -> Refused {
        reader.inside(Some(&self.file), |reader| reader.error_with(Place::new(&self.spot, &self.path), message, help));
        Refused::Mistake
    }
}

impl<'p> Run<'p> {
    fn new(pipelines: &'p Pipelines) -> Self {
        let done = vec![false; pipelines.steps.len()];
        Self { steps: &pipelines.steps, vars: &pipelines.vars, done, fields: HashMap::new(), state: HashMap::new() }
    }

    /// Whether one of the steps is called so.
    fn is_called(&self, steps: impl IntoIterator<Item = usize>, id: &str) -> bool {
        steps.into_iter().any(|step| self.steps.get(step).is_some_and(|step| step.id.as_deref() == Some(id)))
    }
}

impl Literal {
    /// What a scalar of YAML is; null is none.
    fn new(node: &Node) -> Option<Self> {
        let Content::Scalar { text, plain } = &node.content else { return None };
        Some(match text.as_str() {
            _ if node.is_null() => return None,
            "true" | "True" | "TRUE" if *plain => Self::Boolean(true),
            "false" | "False" | "FALSE" if *plain => Self::Boolean(false),
            text => match super::value::number(text).filter(|_| *plain) {
                Some(Number::Integer(number)) => Self::Number(number as f64),
                Some(Number::Float(number)) => Self::Number(number),
                None => Self::Text(text.to_owned()),
            },
        })
    }

    /// Whether a value of a rule is this one.
    fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(text), Value::Text(pieces)) => super::pattern::parse(text, false) == *pieces,
            (Self::Number(number), Value::Number(Number::Integer(other))) => *number == *other as f64,
            (Self::Number(number), Value::Number(Number::Float(other))) => number == other,
            (Self::Boolean(value), Value::Boolean(other)) => value == other,
            _ => false,
        }
    }
}

/// The bodies of a section and of those that hold beside it.
fn bodies(detection: &Detection) -> impl Iterator<Item = &Body> {
    let also = detection.also.iter().flat_map(|also| &also.detection.searches);
    detection.searches.iter().chain(also).map(|search| &search.body)
}
