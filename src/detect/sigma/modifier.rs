//! The part of a field key behind the name: `Image|endswith|all`.
//!
//! Source: Sigma modifiers appendix 2.1.0. What may stand together is narrower here than in the text,
//! which says only "applied in the given order": see `docs/reference/sigma.md`.

use super::pattern::Utf16;
use super::reader::{Place, Reader};
use crate::matcher::{Order, TextOp, TimePart};

/// A modifier by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Modifier {
    All,
    Cased,
    Neq,
    Step(Step),
    Position(TextOp),
    Regex,
    Insensitive,
    MultiLine,
    DotAll,
    Cidr,
    Compare(Order),
    Time(TimePart),
    Exists,
    FieldRef,
}

/// A change of the value, applied in the order of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Position(TextOp),
    Windash,
    Base64,
    Base64Offset,
    Utf16(Utf16),
    Expand,
}

/// What is asked of the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Value,
    Regex { insensitive: bool, multi_line: bool, dot_all: bool },
    Cidr,
    Compare(Order),
    Time(TimePart, Order),
    Exists,
    FieldRef(TextOp),
}

/// All modifiers of a key, checked against each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) question: Question,
    pub(super) steps: Vec<Step>,
    pub(super) cased: bool,
    pub(super) all: bool,
    pub(super) negated: bool,
}

const MODIFIERS: [(&str, Modifier); 31] = [
    ("all", Modifier::All),
    ("base64", Modifier::Step(Step::Base64)),
    ("base64offset", Modifier::Step(Step::Base64Offset)),
    ("cased", Modifier::Cased),
    ("cidr", Modifier::Cidr),
    ("contains", Modifier::Position(TextOp::Contains)),
    ("day", Modifier::Time(TimePart::Day)),
    ("endswith", Modifier::Position(TextOp::EndsWith)),
    ("exists", Modifier::Exists),
    ("expand", Modifier::Step(Step::Expand)),
    ("fieldref", Modifier::FieldRef),
    ("gt", Modifier::Compare(Order::Greater)),
    ("gte", Modifier::Compare(Order::GreaterOrEqual)),
    ("hour", Modifier::Time(TimePart::Hour)),
    ("i", Modifier::Insensitive),
    ("lt", Modifier::Compare(Order::Less)),
    ("lte", Modifier::Compare(Order::LessOrEqual)),
    ("m", Modifier::MultiLine),
    ("minute", Modifier::Time(TimePart::Minute)),
    ("month", Modifier::Time(TimePart::Month)),
    ("neq", Modifier::Neq),
    ("re", Modifier::Regex),
    ("s", Modifier::DotAll),
    ("startswith", Modifier::Position(TextOp::StartsWith)),
    ("utf16", Modifier::Step(Step::Utf16(Utf16::Marked))),
    ("utf16be", Modifier::Step(Step::Utf16(Utf16::Big))),
    ("utf16le", Modifier::Step(Step::Utf16(Utf16::Little))),
    ("week", Modifier::Time(TimePart::Week)),
    ("wide", Modifier::Step(Step::Utf16(Utf16::Little))),
    ("windash", Modifier::Step(Step::Windash)),
    ("year", Modifier::Time(TimePart::Year)),
];

/// Their names, for tests that combine them.
#[cfg(test)]
pub(super) const NAMES: [&str; MODIFIERS.len()] = {
    let mut names = [""; MODIFIERS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = MODIFIERS[index].0;
        index += 1;
    }
    names
};

impl Chain {
    /// No modifiers.
    pub(super) fn plain() -> Self {
        Self { question: Question::Value, steps: Vec::new(), cased: false, all: false, negated: false }
    }

    /// Reads the names behind the field; every mistake is reported at the key.
    pub(super) fn parse<'n>(reader: &mut Reader<'_>, place: Place<'_>, names: impl Iterator<Item = &'n str>) -> Option<Self> {
        let mut chain = Self::plain();
        let mut seen: Vec<&str> = Vec::new();
        let errors = reader.error_count();
        for name in names {
            let Some((name, modifier)) = MODIFIERS.iter().find(|(known, _)| *known == name) else {
                let help = reader.one_of(name, MODIFIERS.iter().map(|(known, _)| *known));
                reader.error_with(place, format!("there is no modifier `{name}`"), help);
                continue;
            };
            if seen.contains(name) {
                reader.error(place, format!("the modifier `{name}` stands here twice"));
            } else if let Err(reason) = chain.add(*modifier) {
                let before = seen.join("|");
                let message =
                    if before.is_empty() { format!("`{name}`: {reason}") } else { format!("`{name}` behind `{before}`: {reason}") };
                reader.error(place, message);
            }
            seen.push(name);
        }
        (reader.error_count() == errors).then_some(chain)
    }

    /// Adds the next modifier, or says why it cannot stand here.
    fn add(&mut self, modifier: Modifier) -> Result<(), &'static str> {
        if self.question == Question::Exists || (modifier == Modifier::Exists && *self != Self::plain()) {
            return Err("`exists` stands alone");
        }
        match modifier {
            Modifier::All if self.negated => return Err("`neq` with a list means none of it; write another selection and `not`"),
            Modifier::Neq if self.all => return Err("a list under `neq` means none of it; write another selection and `not`"),
            Modifier::All => self.all = true,
            Modifier::Neq => self.negated = true,
            Modifier::Cased => {
                self.cased = true;
                return self.check_cased();
            }
            Modifier::Position(op) => return self.position(op),
            Modifier::Step(step) => return self.step(step),
            Modifier::Insensitive | Modifier::MultiLine | Modifier::DotAll => return self.regex_flag(modifier),
            Modifier::Compare(order) => return self.compare(order),
            Modifier::Time(part) => return self.time(part),
            Modifier::Regex => self.question(Question::Regex { insensitive: false, multi_line: false, dot_all: false }, &[])?,
            Modifier::Cidr => self.question(Question::Cidr, &[Step::Expand])?,
            Modifier::Exists => self.question = Question::Exists,
            Modifier::FieldRef => return self.field_ref(),
        }
        Ok(())
    }

    /// Changes what is asked; only the steps in `kept` make sense before that.
    fn question(&mut self, question: Question, kept: &[Step]) -> Result<(), &'static str> {
        if self.question != Question::Value {
            return Err("two modifiers that say what kind of value this is");
        }
        if self.steps.iter().any(|step| !kept.contains(step)) {
            return Err("the value is taken as written, so nothing may change it before");
        }
        self.question = question;
        self.check_cased()
    }

    fn check_cased(&self) -> Result<(), &'static str> {
        match self.question {
            Question::Value | Question::FieldRef(_) => Ok(()),
            Question::Regex { .. } if self.cased => Err("a regular expression is case-sensitive without `cased`"),
            _ if self.cased => Err("`cased` is for text"),
            _ => Ok(()),
        }
    }

    fn position(&mut self, op: TextOp) -> Result<(), &'static str> {
        match &mut self.question {
            Question::FieldRef(position) if *position == TextOp::Equals => *position = op,
            Question::Value if !self.steps.iter().any(|step| matches!(step, Step::Position(_))) => self.steps.push(Step::Position(op)),
            Question::Value | Question::FieldRef(_) => return Err("only one of `contains`, `startswith` and `endswith` can hold"),
            Question::Regex { .. } => return Err("a regular expression is found anywhere; anchor it with `^` or `$`"),
            _ => return Err("this is for text"),
        }
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), &'static str> {
        match self.question {
            Question::Value => {}
            Question::Cidr if step == Step::Expand => {}
            _ => return Err("this changes text, and the value is not text any more"),
        }
        self.steps.push(step);
        Ok(())
    }

    fn regex_flag(&mut self, modifier: Modifier) -> Result<(), &'static str> {
        let Question::Regex { insensitive, multi_line, dot_all } = &mut self.question else {
            return Err("this belongs behind `re`");
        };
        match modifier {
            Modifier::Insensitive => *insensitive = true,
            Modifier::MultiLine => *multi_line = true,
            _ => *dot_all = true,
        }
        Ok(())
    }

    fn compare(&mut self, order: Order) -> Result<(), &'static str> {
        if let Question::Time(part, Order::Equal) = self.question {
            self.question = Question::Time(part, order);
            return Ok(());
        }
        self.question(Question::Compare(order), &[])
    }

    fn time(&mut self, part: TimePart) -> Result<(), &'static str> {
        if let Question::Compare(order) = self.question {
            self.question = Question::Time(part, order);
            return Ok(());
        }
        self.question(Question::Time(part, Order::Equal), &[])
    }

    fn field_ref(&mut self) -> Result<(), &'static str> {
        let op = match self.steps.as_slice() {
            [] => TextOp::Equals,
            [Step::Position(op)] => *op,
            _ => return Err("the value is the name of a field, so nothing may change it before"),
        };
        self.steps.clear();
        self.question(Question::FieldRef(op), &[])
    }
}
