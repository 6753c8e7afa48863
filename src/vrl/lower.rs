//! VRL's common subset as an expression for the matcher.
//!
//! Everything here must answer as VRL does over the typed values (the exceptions are in the module's page).
//! So each comparison is a pair: the type that VRL asks for, and the predicate. What cannot be said exactly
//! is not lowered, and the condition runs as a program.

use ::vrl::parser::Literal;
use ::vrl::parser::ast::{self, Container, Opcode, Unary};
use ::vrl::path::OwnedTargetPath;
use ipnet::IpNet;
use regex::bytes::Regex;

use crate::matcher::{Expr, Number, Order, Predicate, TextOp, Type};
use crate::vrl::source::{field_of, name_of};

/// VRL compares numbers as 64-bit floats; below this every integer has its own.
const EXACT_MAX: i64 = 1 << 53;

type Lowered = Option<Expr<String>>;

/// The whole condition, if all of it is in the subset.
pub(super) fn condition(expr: &ast::Node<ast::Expr>) -> Lowered {
    lower(expr.inner(), true)
}

/// `last`: if this fails, the whole condition is false anyway. Only there may a call with `!` stand, whose
/// failure ends the condition.
fn lower(expr: &ast::Expr, last: bool) -> Lowered {
    match expr {
        ast::Expr::Container(container) => match container.inner() {
            Container::Group(group) => lower(group.inner().0.inner(), last),
            _ => None,
        },
        ast::Expr::Literal(literal) => match literal.inner() {
            Literal::Boolean(true) => Some(Expr::All(Vec::new())),
            Literal::Boolean(false) => Some(Expr::Any(Vec::new())),
            _ => None,
        },
        ast::Expr::Op(op) => operator(op.inner(), last),
        ast::Expr::Unary(unary) => {
            let Unary::Not(not) = unary.inner();
            let (_, inner) = not.inner().clone().take();
            Some(Expr::Not(Box::new(lower(inner.inner(), false)?)))
        }
        ast::Expr::Query(_) => Some(typed(field(expr)?, Type::Boolean, Predicate::Boolean(true))),
        ast::Expr::FunctionCall(call) => function(call.inner(), last),
        _ => None,
    }
}

fn operator(ast::Op(left, code, right): &ast::Op, last: bool) -> Lowered {
    let (left, right) = (left.inner(), right.inner());
    Some(match code.inner() {
        Opcode::And => {
            let mut items = Vec::new();
            for item in [lower(left, last)?, lower(right, last)?] {
                match item {
                    Expr::All(inner) => items.extend(inner),
                    other => items.push(other),
                }
            }
            Expr::All(items)
        }
        Opcode::Or => {
            let mut items = Vec::new();
            for item in [lower(left, false)?, lower(right, last)?] {
                match item {
                    Expr::Any(inner) => items.extend(inner),
                    other => items.push(other),
                }
            }
            Expr::Any(items)
        }
        // A single test: its failure is the only one that this can catch.
        Opcode::Err if is_false(right) => match left {
            ast::Expr::FunctionCall(call) => function(call.inner(), true)?,
            ast::Expr::Op(op) if order(*op.inner().1.inner()).is_some() => operator(op.inner(), true)?,
            _ => return None,
        },
        Opcode::Ne => Expr::Not(Box::new(compare(left, Opcode::Eq, right)?)),
        other => compare(left, *other, right)?,
    })
}

fn is_false(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Literal(literal) if *literal.inner() == Literal::Boolean(false))
}

fn order(code: Opcode) -> Option<Order> {
    Some(match code {
        Opcode::Eq => Order::Equal,
        Opcode::Ge => Order::GreaterOrEqual,
        Opcode::Gt => Order::Greater,
        Opcode::Le => Order::LessOrEqual,
        Opcode::Lt => Order::Less,
        _ => return None,
    })
}

/// A comparison of a field and a literal, in either order.
fn compare(left: &ast::Expr, code: Opcode, right: &ast::Expr) -> Lowered {
    let mut op = order(code)?;
    let (name, literal) = match (field(left), right, left) {
        (Some(name), ast::Expr::Literal(literal), _) => (name, literal.inner()),
        (None, _, ast::Expr::Literal(literal)) => {
            op = match op {
                Order::Equal => Order::Equal,
                Order::Greater => Order::Less,
                Order::GreaterOrEqual => Order::LessOrEqual,
                Order::Less => Order::Greater,
                Order::LessOrEqual => Order::GreaterOrEqual,
            };
            (field(right)?, literal.inner())
        }
        _ => return None,
    };
    let number = match literal {
        Literal::Integer(n) if n.unsigned_abs() < EXACT_MAX.unsigned_abs() => Some(Number::Integer(i128::from(*n))),
        Literal::Float(n) if n.abs() < EXACT_MAX as f64 => Some(Number::Float(n.into_inner())),
        _ => None,
    };
    if let Some(number) = number {
        return Some(typed(name, Type::Number, Predicate::Number { op, number }));
    }
    match (op, literal) {
        (Order::Equal, Literal::Boolean(value)) => Some(typed(name, Type::Boolean, Predicate::Boolean(*value))),
        (Order::Equal, Literal::Null) => Some(Expr::Field(name, Predicate::Type(Type::Null))),
        (Order::Equal, _) => Some(text(name, TextOp::Equals, string(literal)?, true)),
        _ => None,
    }
}

fn function(call: &ast::FunctionCall, last: bool) -> Lowered {
    if call.closure.is_some() || (call.abort_on_error && !last) {
        return None;
    }
    let ident: &str = call.ident.inner();
    match ident {
        "contains" | "starts_with" | "ends_with" => text_search(call, ident, last),
        "exists" => {
            let [path] = named(call, ["field"])?;
            Some(Expr::Field(field(path?)?, Predicate::Exists))
        }
        "includes" => includes(call),
        "ip_cidr_contains" => cidr(call, last),
        "is_null" => {
            let [value] = named(call, ["value"])?;
            Some(Expr::Field(field(value?)?, Predicate::Type(Type::Null)))
        }
        "match" => {
            let [value, pattern] = named(call, ["value", "pattern"])?;
            let Literal::Regex(pattern) = literal(pattern?)? else { return None };
            Some(typed(text_field(value?, last)?, Type::Text, Predicate::Regex(Regex::new(pattern).ok()?)))
        }
        _ => None,
    }
}

fn text_search(call: &ast::FunctionCall, ident: &str, last: bool) -> Lowered {
    let [value, substring, cased] = named(call, ["value", "substring", "case_sensitive"])?;
    let cased = match cased.map(literal) {
        None => true,
        Some(Some(Literal::Boolean(cased))) => *cased,
        Some(_) => return None,
    };
    let substring = string(literal(substring?)?)?;
    // VRL shows bytes that are not UTF-8 as U+FFFD, and folds other scripts by rules of its own.
    if substring.contains(char::REPLACEMENT_CHARACTER) || (!cased && !substring.is_ascii()) {
        return None;
    }
    let name = text_field(value?, last)?;
    if substring.is_empty() {
        return Some(Expr::Field(name, Predicate::Type(Type::Text)));
    }
    let op = match ident {
        "contains" => TextOp::Contains,
        "starts_with" => TextOp::StartsWith,
        _ => TextOp::EndsWith,
    };
    Some(text(name, op, substring, cased))
}

/// `includes` compares more strictly than `==`: an integer equals no float.
fn includes(call: &ast::FunctionCall) -> Lowered {
    let [list, item] = named(call, ["value", "item"])?;
    let ast::Expr::Container(container) = list? else { return None };
    let Container::Array(array) = container.inner() else { return None };
    let name = field(item?)?;
    let (mut texts, mut integers, mut items) = (Vec::new(), Vec::new(), Vec::new());
    for member in array.inner().clone() {
        match literal(member.inner())? {
            Literal::Integer(n) => {
                let number = Number::Integer(i128::from(*n));
                integers.push(Expr::Field(name.clone(), Predicate::Number { op: Order::Equal, number }));
            }
            Literal::Boolean(value) => items.push(typed(name.clone(), Type::Boolean, Predicate::Boolean(*value))),
            Literal::Null => items.push(Expr::Field(name.clone(), Predicate::Type(Type::Null))),
            other => {
                let text = string(other)?;
                texts.push(Expr::Field(name.clone(), Predicate::Text { op: TextOp::Equals, text, cased: true }));
            }
        }
    }
    for (kind, members) in [(Type::Text, texts), (Type::Integer, integers)] {
        if !members.is_empty() {
            items.push(Expr::All(vec![Expr::Field(name.clone(), Predicate::Type(kind)), Expr::Any(members)]));
        }
    }
    Some(Expr::Any(items))
}

fn cidr(call: &ast::FunctionCall, last: bool) -> Lowered {
    let [networks, value] = named(call, ["cidr", "value"])?;
    let name = text_field(value?, last)?;
    let network = |expr: &ast::Expr| -> Option<IpNet> {
        let text = string(literal(expr)?)?;
        text.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::IpAddr| address.into()))
    };
    let networks = match networks? {
        ast::Expr::Container(container) => match container.inner() {
            Container::Array(array) => array.inner().clone().into_iter().map(|e| network(e.inner())).collect::<Option<Vec<_>>>()?,
            _ => return None,
        },
        single => vec![network(single)?],
    };
    let inside = networks.into_iter().map(|network| Expr::Field(name.clone(), Predicate::Cidr(network))).collect();
    Some(Expr::All(vec![Expr::Field(name, Predicate::Type(Type::Text)), Expr::Any(inside)]))
}

/// The arguments of a call by the names of the function's parameters, as VRL assigns them: a named argument
/// that stands in its own place counts as positional.
fn named<'a, const N: usize>(call: &'a ast::FunctionCall, names: [&str; N]) -> Option<[Option<&'a ast::Expr>; N]> {
    let mut found = [None; N];
    let mut next = 0;
    for argument in &call.arguments {
        let argument = argument.inner();
        let index = match &argument.ident {
            Some(ident) => names.iter().position(|name| *name == &**ident.inner())?,
            None => next,
        };
        if index == next {
            next += 1;
        }
        *found.get_mut(index)? = Some(argument.expr.inner());
    }
    Some(found)
}

/// A field, or `string(.field)`, which fails where the text function around it would.
fn text_field(expr: &ast::Expr, last: bool) -> Option<String> {
    match expr {
        ast::Expr::FunctionCall(call) if &**call.ident.inner() == "string" && (last || !call.abort_on_error) => {
            let [value] = named(call.inner(), ["value"])?;
            field(value?)
        }
        _ => field(expr),
    }
}

/// The name of a single field.
fn field(expr: &ast::Expr) -> Option<String> {
    let ast::Expr::Query(query) = expr else { return None };
    let ast::QueryTarget::External(prefix) = query.inner().target.inner() else { return None };
    let path = OwnedTargetPath { prefix: *prefix, path: query.inner().path.inner().clone() };
    let fields = field_of(&path);
    (!fields.is_empty() && fields.len() == path.path.segments.len()).then(|| name_of(*prefix, fields))
}

fn literal(expr: &ast::Expr) -> Option<&Literal> {
    match expr {
        ast::Expr::Literal(literal) => Some(literal.inner()),
        _ => None,
    }
}

fn string(literal: &Literal) -> Option<String> {
    match literal {
        Literal::RawString(text) => Some(text.clone()),
        Literal::String(template) if template.0.is_empty() => Some(String::new()),
        Literal::String(template) => template.as_literal_string().map(str::to_owned),
        _ => None,
    }
}

fn text(name: String, op: TextOp, text: String, cased: bool) -> Expr<String> {
    typed(name, Type::Text, Predicate::Text { op, text, cased })
}

fn typed(name: String, kind: Type, predicate: Predicate) -> Expr<String> {
    Expr::All(vec![Expr::Field(name.clone(), Predicate::Type(kind)), Expr::Field(name, predicate)])
}
