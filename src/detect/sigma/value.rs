//! One value of a field or keyword: read with its modifiers applied, then lowered to an expression.
//!
//! Plain YAML scalars keep their type (YAML 1.2 core schema): `4688` is a number, `true` a boolean. Numbers
//! beyond 64 bits, `.inf` and `.nan` stay text, because no lossless number could hold them.

use std::net::IpAddr;

use regex::bytes::RegexBuilder;

use super::modifier::{Chain, Question, Step};
use super::pattern::{self, Piece};
use super::reader::{Place, Reader};
use crate::config::{Content, Node};
use crate::matcher::{Expr, Glob, Number, Order, Predicate, TextOp, TimePart};

/// Bytes that one compiled regular expression may take. One public rule needs between 1 and 4 MiB, nearly
/// all others stay below 64 KiB; nested repetitions reach any limit quickly.
const REGEX_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The limit that is tried first. What a regular expression takes is only known as the limit that let it
/// pass, so limits rise by [`REGEX_BYTES_STEP`].
const REGEX_BYTES_FIRST: usize = 16 * 1024;

/// Factor between two limits.
const REGEX_BYTES_STEP: usize = 4;

const _: () = assert!((REGEX_BYTES_MAX / REGEX_BYTES_FIRST).ilog(REGEX_BYTES_STEP) == 4, "the last step is the limit itself");

/// Bytes of text that weigh as much as a predicate, which takes about as many itself.
const BYTES_PER_WEIGHT: usize = 64;

/// What a value is compared with.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Field(&'a str),
    /// The whole event.
    Event,
}

/// What a scalar is by YAML's core schema.
enum Scalar {
    Boolean(bool),
    Number(Number),
    Text,
}

/// A value with its modifiers applied.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A string.
    Text(Vec<Piece>),
    /// The strings that it became, of which one has to hold (`windash`, `base64offset`, `expand`).
    Variants(Vec<Vec<Piece>>),
    Number(Number),
    Boolean(bool),
    Null,
    /// The name of another field.
    Field(String),
    /// What the question makes of the text: a regular expression, a network, a limit, a part of a time.
    AsWritten,
    /// A mistake, which is reported by now.
    Mistake,
}

impl Value {
    /// A value that is one of these strings.
    pub(super) fn of(mut variants: Vec<Vec<Piece>>) -> Self {
        if variants.len() == 1 { Self::Text(variants.swap_remove(0)) } else { Self::Variants(variants) }
    }

    /// The strings that it is.
    pub(super) fn strings(&self) -> &[Vec<Piece>] {
        match self {
            Self::Text(pieces) => std::slice::from_ref(pieces),
            Self::Variants(variants) => variants,
            _ => &[],
        }
    }

    /// How many predicates it becomes.
    pub(super) fn count(&self) -> usize {
        self.strings().len().max(1)
    }

    /// Puts wildcards around its strings, where there are none.
    pub(super) fn surround(&mut self) {
        let strings = match self {
            Self::Text(pieces) => std::slice::from_mut(pieces),
            Self::Variants(variants) => variants.as_mut_slice(),
            _ => &mut [],
        };
        for pieces in strings {
            if pieces.first() != Some(&Piece::Any) {
                pieces.insert(0, Piece::Any);
            }
            if pieces.last() != Some(&Piece::Any) || pieces.len() == 1 {
                pieces.push(Piece::Any);
            }
        }
    }
}

/// A value on its way through the steps of a chain.
enum Stage {
    Pattern(Vec<Piece>),
    /// After `utf16*` and `wide`, until base64 makes it text again.
    Bytes(Vec<u8>),
}

/// One value with the modifiers applied; `None` once its mistake is reported.
pub(super) fn read(reader: &mut Reader<'_>, chain: &Chain, target: Target<'_>, place: Place<'_>) -> Option<Value> {
    let Some(text) = place.node.text() else {
        reader.error(place, format!("a value is expected, found {}", place.node.describe()));
        return None;
    };
    if place.node.is_null() {
        return null(reader, chain, target, place);
    }
    match chain.question {
        Question::Value => strings(reader, chain, target, place, text),
        Question::Cidr if chain.steps.is_empty() => Some(Value::AsWritten),
        Question::Cidr => strings(reader, chain, target, place, text),
        Question::FieldRef(_) if text.is_empty() => {
            reader.error(place, "`fieldref` takes the name of a field");
            None
        }
        Question::FieldRef(_) => Some(Value::Field(text.to_owned())),
        Question::Regex { .. } | Question::Compare(_) | Question::Time(..) | Question::Exists => Some(Value::AsWritten),
    }
}

/// The expression for a value; `None` once its mistake is reported.
pub(super) fn lower(reader: &mut Reader<'_>, chain: &Chain, target: Target<'_>, place: Place<'_>, value: &Value) -> Option<Expr<String>> {
    let predicate = match value {
        Value::Text(pieces) => return texts(reader, chain, target, place, std::slice::from_ref(pieces)),
        Value::Variants(variants) => return texts(reader, chain, target, place, variants),
        Value::Field(name) => return field_ref(reader, chain, target, place, name),
        Value::Number(number) => Predicate::Number { op: Order::Equal, number: *number },
        Value::Boolean(value) => Predicate::Boolean(*value),
        Value::Null => Predicate::Null,
        Value::AsWritten => return as_written(reader, chain, target, place),
        Value::Mistake => return None,
    };
    leaf(reader, target, place, predicate)
}

fn as_written(reader: &mut Reader<'_>, chain: &Chain, target: Target<'_>, place: Place<'_>) -> Option<Expr<String>> {
    let predicate = match chain.question {
        Question::Regex { .. } => regex(reader, chain, place, place.node.text().unwrap_or_default())?,
        Question::Compare(order) => compare(reader, place, order)?,
        Question::Time(part, order) => time(reader, place, part, order)?,
        Question::Cidr => Predicate::Cidr(network(reader, place, place.node.text().unwrap_or_default())?),
        Question::Value | Question::FieldRef(_) | Question::Exists => match scalar(place.node) {
            Scalar::Boolean(true) => Predicate::Exists,
            Scalar::Boolean(false) => return Some(Expr::Not(Box::new(leaf(reader, target, place, Predicate::Exists)?))),
            _ => {
                reader.error(place, format!("`exists` takes true or false without quotes, found {}", place.node.describe()));
                return None;
            }
        },
    };
    leaf(reader, target, place, predicate)
}

fn texts(reader: &mut Reader<'_>, chain: &Chain, target: Target<'_>, place: Place<'_>, variants: &[Vec<Piece>]) -> Option<Expr<String>> {
    let mut alternatives = Vec::with_capacity(variants.len());
    for pieces in variants {
        if let Some(name) = pattern::placeholder_name(pieces) {
            let message = unresolved(reader, name);
            reader.error_with(place, message, "under `placeholders` of the configuration, in a file of `--placeholders`, or by a pipeline");
            return None;
        }
        let predicate = match chain.question {
            Question::Cidr => Predicate::Cidr(network(reader, place, &pattern::plain_text(pieces).unwrap_or_default())?),
            _ => glob(reader, chain, target, place, pieces)?,
        };
        alternatives.push(leaf(reader, target, place, predicate)?);
    }
    Some(any(alternatives))
}

fn unresolved(reader: &Reader<'_>, name: &str) -> String {
    let near = reader.near(name, reader.placeholders().keys().map(String::as_str));
    let near = near.map_or(String::new(), |near| format!("; did you mean `%{near}%`?"));
    format!("the placeholder `%{name}%` has no values{near}")
}

fn glob(reader: &mut Reader<'_>, chain: &Chain, target: Target<'_>, place: Place<'_>, pieces: &[Piece]) -> Option<Predicate> {
    let mut globs = pattern::globs(pieces);
    if matches!(target, Target::Event) {
        if globs.iter().all(|glob| *glob == Glob::Any) {
            reader.error(place, "this keyword would be found in every event");
            return None;
        }
        globs.insert(0, Glob::Any);
        globs.push(Glob::Any);
    }
    Some(Predicate::glob(globs, chain.cased))
}

fn leaf(reader: &mut Reader<'_>, target: Target<'_>, place: Place<'_>, predicate: Predicate) -> Option<Expr<String>> {
    let expr = match target {
        Target::Field(name) => Expr::Field(name.to_owned(), predicate),
        Target::Event => Expr::Keyword(predicate),
    };
    reader.spend(place, weight(&expr)).then_some(expr)
}

/// What an expression takes from the file's budget: one for each predicate, more for long texts.
pub(super) fn weight(expr: &Expr<String>) -> usize {
    let predicate = |predicate: &Predicate| match predicate {
        Predicate::Text { text, .. } => text.len(),
        Predicate::Glob { pieces, .. } => pieces.iter().map(|piece| if let Glob::Text(text) = piece { text.len() } else { 1 }).sum(),
        _ => 0,
    };
    let bytes = match expr {
        Expr::All(items) | Expr::Any(items) => return 1 + items.iter().map(weight).sum::<usize>(),
        Expr::Not(inner) => return 1 + weight(inner),
        Expr::Field(field, asked) => field.len() + predicate(asked),
        Expr::Fields { left, right, .. } => left.len() + right.len(),
        Expr::Keyword(asked) => predicate(asked),
    };
    1 + bytes / BYTES_PER_WEIGHT
}

/// The same for a string that is to be multiplied.
fn pieces_weight(pieces: &[Piece]) -> usize {
    let bytes = |piece: &Piece| match piece {
        Piece::Text(text) | Piece::Placeholder(text) => text.len(),
        Piece::Any | Piece::One => 1,
    };
    1 + pieces.iter().map(bytes).sum::<usize>() / BYTES_PER_WEIGHT
}

/// Alternatives as one expression, without a list around a single one.
pub(super) fn any(mut alternatives: Vec<Expr<String>>) -> Expr<String> {
    if alternatives.len() == 1 { alternatives.swap_remove(0) } else { Expr::Any(alternatives) }
}

/// Parts as one expression, without a list around a single one.
pub(super) fn all(mut parts: Vec<Expr<String>>) -> Expr<String> {
    if parts.len() == 1 { parts.swap_remove(0) } else { Expr::All(parts) }
}

fn null(reader: &mut Reader<'_>, chain: &Chain, target: Target<'_>, place: Place<'_>) -> Option<Value> {
    if place.index.is_some() {
        reader.error_with(place, "null may not stand in a list", "write a second selection for it and `or`; an empty text is ''");
        return None;
    }
    let plain = Chain { negated: chain.negated, ..Chain::plain() };
    if *chain != plain || matches!(target, Target::Event) {
        reader.error(place, "there is no value here, and these modifiers need one");
        return None;
    }
    Some(Value::Null)
}

fn strings(reader: &mut Reader<'_>, chain: &Chain, target: Target<'_>, place: Place<'_>, text: &str) -> Option<Value> {
    if chain.steps.is_empty() && matches!(target, Target::Field(_)) {
        match scalar(place.node) {
            Scalar::Boolean(value) => return Some(Value::Boolean(value)),
            Scalar::Number(number) => return Some(Value::Number(number)),
            Scalar::Text => {}
        }
    }
    patterns(reader, chain, place, text).map(Value::of)
}

/// The strings that a text becomes, after all steps.
fn patterns(reader: &mut Reader<'_>, chain: &Chain, place: Place<'_>, text: &str) -> Option<Vec<Vec<Piece>>> {
    let expands = chain.steps.contains(&Step::Expand);
    let mut values = vec![Stage::Pattern(pattern::parse(text, expands))];
    for step in &chain.steps {
        let mut next = Vec::with_capacity(values.len());
        for value in values {
            if let Err(message) = apply(reader, *step, value, place, &mut next) {
                reader.error(place, message);
                return None;
            }
        }
        values = next;
    }
    let text = |value| match value {
        Stage::Pattern(pieces) => Some(pieces),
        Stage::Bytes(_) => None,
    };
    let patterns: Option<Vec<_>> = values.into_iter().map(text).collect();
    if patterns.is_none() {
        reader.error_with(place, "UTF-16 is bytes, which no field holds as text", "put `base64` or `base64offset` behind it");
    }
    patterns
}

/// Applies one step; what it makes is added to `next`.
fn apply(reader: &mut Reader<'_>, step: Step, value: Stage, place: Place<'_>, next: &mut Vec<Stage>) -> Result<(), String> {
    let mut pieces = match (step, value) {
        (Step::Base64, value) => {
            next.push(text(pattern::base64(&bytes(value)?)));
            return Ok(());
        }
        (Step::Base64Offset, value) => {
            let variants = pattern::base64_offsets(&bytes(value)?).ok_or("too short for `base64offset`, which needs two bytes")?;
            next.extend(variants.into_iter().map(text));
            return Ok(());
        }
        (_, Stage::Bytes(_)) => return Err("UTF-16 is bytes; only `base64` and `base64offset` can follow".to_owned()),
        (_, Stage::Pattern(pieces)) => pieces,
    };
    match step {
        Step::Position(op) => {
            if op != TextOp::StartsWith {
                pieces.insert(0, Piece::Any);
            }
            if op != TextOp::EndsWith {
                pieces.push(Piece::Any);
            }
            next.push(Stage::Pattern(pieces));
        }
        Step::Utf16(layout) => next.push(Stage::Bytes(pattern::utf16(&plain(&pieces)?, layout))),
        Step::Windash => {
            let too_many = |count| format!("{count} dashes under `windash` are too many; write it as a regular expression");
            let count = pattern::windash_count(&pieces).map_err(too_many)?;
            if !reader.spend(place, count * pieces_weight(&pieces)) {
                return Err(format!("its dashes become {count} values"));
            }
            next.extend(pattern::windash(&pieces, count).into_iter().map(Stage::Pattern));
        }
        Step::Expand => {
            let table = reader.placeholders();
            let known = |name: &str| table.get(name);
            let count = pattern::expansion_count(&pieces, &known);
            if !reader.spend(place, count.saturating_mul(pieces_weight(&pieces))) {
                return Err(format!("its placeholders become {count} values"));
            }
            next.extend(pattern::expand(&pieces, &known).into_iter().map(Stage::Pattern));
        }
        Step::Base64 | Step::Base64Offset => {}
    }
    Ok(())
}

fn text(text: String) -> Stage {
    Stage::Pattern(if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] })
}

fn plain(pieces: &[Piece]) -> Result<String, String> {
    if let Some(name) = pattern::placeholder_name(pieces) {
        return Err(format!("`expand` has to stand before the encoding, and `%{name}%` needs values under `placeholders`"));
    }
    let message = "wildcards cannot be encoded; escape them with `\\`, and put `contains` behind the encoding";
    pattern::plain_text(pieces).ok_or_else(|| message.to_owned())
}

fn bytes(value: Stage) -> Result<Vec<u8>, String> {
    match value {
        Stage::Bytes(bytes) => Ok(bytes),
        Stage::Pattern(pieces) => plain(&pieces).map(String::into_bytes),
    }
}

fn network(reader: &mut Reader<'_>, place: Place<'_>, text: &str) -> Option<ipnet::IpNet> {
    let address = || text.parse::<IpAddr>().map(ipnet::IpNet::from).ok();
    let Some(network) = text.parse::<ipnet::IpNet>().ok().or_else(address) else {
        let message = format!("{} is not a network", place.node.describe());
        reader.error_with(place, message, "such as 10.0.0.0/8, fe80::/10 or a single address");
        return None;
    };
    if network.addr() != network.network() {
        reader.warn(place, format!("{} has bits behind its prefix", place.node.describe()), format!("read as {}", network.trunc()));
    }
    Some(network.trunc())
}

fn field_ref(reader: &mut Reader<'_>, chain: &Chain, target: Target<'_>, place: Place<'_>, right: &str) -> Option<Expr<String>> {
    let (Target::Field(left), Question::FieldRef(op)) = (target, chain.question) else {
        reader.error(place, "`fieldref` compares two fields");
        return None;
    };
    let expr = Expr::Fields { left: left.to_owned(), op, right: right.to_owned(), cased: chain.cased };
    reader.spend(place, weight(&expr)).then_some(expr)
}

fn regex(reader: &mut Reader<'_>, chain: &Chain, place: Place<'_>, text: &str) -> Option<Predicate> {
    let Question::Regex { insensitive, multi_line, dot_all } = chain.question else { return None };
    // The matcher reads the pattern again for its required literals, so flags must stand in it.
    let flags: String =
        [(insensitive, 'i'), (multi_line, 'm'), (dot_all, 's')].iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect();
    let pattern = if flags.is_empty() { text.to_owned() } else { format!("(?{flags}){text}") };
    let mut builder = RegexBuilder::new(&pattern);
    let mut size = REGEX_BYTES_FIRST;
    let mut built = builder.size_limit(size).build();
    while size < REGEX_BYTES_MAX && matches!(built, Err(regex::Error::CompiledTooBig(_))) {
        size *= REGEX_BYTES_STEP;
        built = builder.size_limit(size).build();
    }
    match built {
        Ok(regex) => reader.spend_regex(place, size).then_some(Predicate::Regex(regex)),
        Err(regex::Error::CompiledTooBig(_)) => {
            let message = format!("the regular expression takes more than {REGEX_BYTES_MAX} bytes");
            reader.error_with(place, message, "smaller repetitions; \\d, \\w and . stand for all of Unicode unless (?-u) precedes them");
            None
        }
        Err(error) => {
            let shown = error.to_string();
            let reason = shown.lines().last().unwrap_or_default().trim_start_matches("error: ");
            reader.error(place, format!("not a regular expression: {reason}"));
            None
        }
    }
}

fn compare(reader: &mut Reader<'_>, place: Place<'_>, op: Order) -> Option<Predicate> {
    if let Scalar::Number(number) = scalar(place.node) {
        return Some(Predicate::Number { op, number });
    }
    let message = format!("a number of at most 64 bits without quotes is expected, found {}", place.node.describe());
    reader.error(place, message);
    None
}

fn time(reader: &mut Reader<'_>, place: Place<'_>, part: TimePart, op: Order) -> Option<Predicate> {
    let range = match part {
        TimePart::Minute => 0..=59,
        TimePart::Hour => 0..=23,
        TimePart::Day => 1..=31,
        TimePart::Week => 1..=53,
        TimePart::Month => 1..=12,
        TimePart::Year => 0..=9999,
    };
    match scalar(place.node) {
        Scalar::Number(Number::Integer(number)) if range.contains(&number) => {
            i64::try_from(number).ok().map(|number| Predicate::Time { part, op, number })
        }
        _ => {
            let message = format!("a number from {} to {} is expected, found {}", range.start(), range.end(), place.node.describe());
            reader.error(place, message);
            None
        }
    }
}

fn scalar(node: &Node) -> Scalar {
    match &node.content {
        Content::Scalar { text, plain: true } => match text.as_str() {
            "true" | "True" | "TRUE" => Scalar::Boolean(true),
            "false" | "False" | "FALSE" => Scalar::Boolean(false),
            text => number(text).map_or(Scalar::Text, Scalar::Number),
        },
        _ => Scalar::Text,
    }
}

/// A number of YAML's core schema that fits 64 bits or is a finite float.
pub(super) fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let integer = if let Some(hex) = text.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+')).map(i128::from)
    } else if let Some(octal) = text.strip_prefix("0o") {
        u64::from_str_radix(octal, 8).ok().filter(|_| !octal.starts_with('+')).map(i128::from)
    } else if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        text.parse::<i128>().ok().filter(|n| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(n))
    } else {
        let is_float = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.bytes().any(|b| b.is_ascii_digit());
        return text.parse().ok().filter(|n: &f64| is_float && n.is_finite()).map(Number::Float);
    };
    integer.map(Number::Integer)
}
