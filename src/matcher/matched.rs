//! What made a program hold: `program, event -> fields and their values`.
//!
//! In goes a program that is known to hold. Out come the positive predicates that hold, each with the value that it holds
//! for; what stands under a `Not` contributes nothing, and neither does a field that has to be missing. It shares the
//! oracle's reading of predicates, and is run for alerts only. Of a list of alternatives about one field, a list of
//! addresses for instance, that field's value is told without asking each of them.

use crate::event::{Event, SlotId, Value};
use crate::matcher::member::any_scalar;
use crate::matcher::{Expr, Glob, Predicate, oracle};

/// Predicates that are looked at for one alert: more than rules have that people write. Of a rule with more of them less
/// is told.
const STEPS_MAX: usize = 4096;

/// Something that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched<'a> {
    /// A field and its value, JSON escapes resolved; of a list the member that made it hold.
    Field(SlotId, &'a [u8]),
    /// A text that is somewhere in the event.
    Keyword(&'a [u8]),
}

/// Calls `visit` with everything that makes `expr` hold.
pub(super) fn walk(expr: &Expr<SlotId>, event: Event<'_>, visit: &mut dyn FnMut(Matched<'_>)) {
    Walk { event, visit, steps: STEPS_MAX }.holding(expr);
}

struct Walk<'a, 'v> {
    event: Event<'a>,
    visit: &'v mut dyn FnMut(Matched<'_>),
    steps: usize,
}

impl Walk<'_, '_> {
    /// `expr` is known to hold.
    fn holding(&mut self, expr: &Expr<SlotId>) {
        match expr {
            Expr::All(items) => items.iter().for_each(|item| self.holding(item)),
            Expr::Any(items) => self.alternatives(items),
            Expr::Not(_) => {}
            Expr::Field(slot, predicate) => self.field(*slot, predicate),
            Expr::Fields { left, right, .. } => {
                self.value(*left);
                self.value(*right);
            }
            Expr::Keyword(predicate) => self.keyword(predicate),
        }
    }

    fn alternatives(&mut self, items: &[Expr<SlotId>]) {
        if let Some(slot) = only_field(items).filter(|slot| !matches!(self.event.value(*slot), Value::Array(_))) {
            return self.value(slot);
        }
        for item in items {
            let Some(left) = self.steps.checked_sub(size(item)) else { return };
            self.steps = left;
            if oracle::holds(item, self.event) {
                self.holding(item);
            }
        }
    }

    fn field(&mut self, slot: SlotId, predicate: &Predicate) {
        match predicate {
            Predicate::Null => {}
            Predicate::Exists | Predicate::Type(_) => self.value(slot),
            _ => self.first(slot, |scalar| oracle::asks(predicate, scalar)),
        }
    }

    /// Tells a field's value, of a list the first member.
    fn value(&mut self, slot: SlotId) {
        self.first(slot, |_| true);
    }

    fn first(&mut self, slot: SlotId, is_it: impl Fn(crate::matcher::member::Scalar<'_>) -> bool) {
        let visit = &mut *self.visit;
        any_scalar(self.event.value(slot), &mut Vec::new(), &mut |scalar| {
            let found = is_it(scalar);
            if let Some(text) = scalar.text().filter(|_| found) {
                visit(Matched::Field(slot, text));
            }
            found
        });
    }

    /// Of a keyword the text is told that was looked for, not the whole event that has it.
    fn keyword(&mut self, predicate: &Predicate) {
        let raw = self.event.raw();
        match predicate {
            Predicate::Text { text, .. } => (self.visit)(Matched::Keyword(text.as_bytes())),
            Predicate::Glob { pieces, .. } => {
                let piece = |piece: &Glob| match piece {
                    Glob::Any => "*".to_owned(),
                    Glob::One => "?".to_owned(),
                    Glob::Text(text) => text.clone(),
                };
                (self.visit)(Matched::Keyword(pieces.iter().map(piece).collect::<String>().as_bytes()));
            }
            Predicate::Regex(regex) => match regex.find(raw) {
                Some(found) => (self.visit)(Matched::Keyword(found.as_bytes())),
                None => (self.visit)(Matched::Keyword(regex.as_str().as_bytes())),
            },
            _ => {}
        }
    }
}

/// The field that all of `items` ask a positive question about, if they do.
fn only_field(items: &[Expr<SlotId>]) -> Option<SlotId> {
    let field = |item: &Expr<SlotId>| match item {
        Expr::Field(slot, predicate) if !matches!(predicate, Predicate::Null) => Some(*slot),
        _ => None,
    };
    let first = items.first().and_then(field)?;
    items.iter().all(|item| field(item) == Some(first)).then_some(first)
}

/// Predicates of an expression.
fn size(expr: &Expr<SlotId>) -> usize {
    match expr {
        Expr::All(items) | Expr::Any(items) => items.iter().map(size).sum(),
        Expr::Not(inner) => size(inner),
        Expr::Field(..) | Expr::Fields { .. } | Expr::Keyword(_) => 1,
    }
}
