//! Conditions: read leniently (the rules are in the module's page), then compiled, then lowered if they can be.
//!
//! A single expression is always rewritten, also where VRL accepts it as it is: its type check lets
//! `true && .x` pass as a boolean, which then fails for a text.

use ::vrl::compiler::Program as Compiled;
use ::vrl::parser::Literal;
use ::vrl::parser::Program as Tree;
use ::vrl::parser::ast::{self, Container, Expr, Group, Node, Not, Op, Opcode, RootExpr, Unary};

use crate::error::Diagnostics;
use crate::vrl::lower;
use crate::vrl::source::{self, Place, Use};
use crate::vrl::{Condition, Program};

/// [`Condition::compile`].
pub(super) fn compile(place: &Place<'_>) -> Result<Condition, Diagnostics> {
    let (program, native) = both(place)?;
    Ok(native.map_or_else(|| Condition::Program(Box::new(program)), Condition::Native))
}

/// The condition as a program and, if it is in the subset, for the matcher.
pub(super) fn both(place: &Place<'_>) -> Result<(Program, Option<crate::matcher::Expr<String>>), Diagnostics> {
    let (tree, facts) = source::parse(place, Use::Condition)?;
    let single = match tree.0.as_slice() {
        [root] => match root.inner() {
            RootExpr::Expr(expr) => Some(expr.clone()),
            RootExpr::Error(_) => None,
        },
        _ => None,
    };
    let tree = single.clone().map_or(tree, |expr| root(boolean(expr)));
    let compiled = source::compile(tree, Use::Condition).map_err(|list| place.refuse(list))?;
    if !is_boolean(&compiled) {
        let kind = compiled.final_type_info().result.kind().clone();
        let help = "compare it: `.field == \"value\"`";
        return Err(place.error(0, format!("a condition is a boolean, but this is {kind}")).help(help).into());
    }
    Ok((Program::new(compiled, &facts), single.as_ref().and_then(lower::condition)))
}

fn is_boolean(compiled: &Compiled) -> bool {
    compiled.final_type_info().result.is_boolean()
}

fn root(expr: Node<Expr>) -> Tree {
    Tree(vec![Node::new(expr.span(), RootExpr::Expr(expr))])
}

fn compiles(expr: &Node<Expr>) -> bool {
    source::compile(root(expr.clone()), Use::Condition).is_ok()
}

/// The expression where a boolean is asked.
fn boolean(node: Node<Expr>) -> Node<Expr> {
    let (span, expr) = node.take();
    let expr = match expr {
        Expr::Container(container) if matches!(container.inner(), Container::Group(_)) => group(container, boolean),
        Expr::Op(op) if matches!(op.inner().1.inner(), Opcode::And | Opcode::Or) => {
            Expr::Op(op.map(|Op(left, code, right)| Op(Box::new(boolean(*left)), code, Box::new(boolean(*right)))))
        }
        Expr::Unary(unary) => Expr::Unary(unary.map(|Unary::Not(not)| {
            Unary::Not(not.map(|not| {
                let (bang, inner) = not.take();
                Not::new(bang.span(), boolean(*inner))
            }))
        })),
        Expr::Query(query) if matches!(query.inner().target.inner(), ast::QueryTarget::External(_)) => {
            return with(Node::new(span, Expr::Query(query)), Opcode::Eq, Literal::Boolean(true));
        }
        other => return or(arguments(Node::new(span, other)), Literal::Boolean(false)),
    };
    Node::new(span, expr)
}

/// The expression with the arguments of its calls made infallible.
fn arguments(node: Node<Expr>) -> Node<Expr> {
    node.map(|expr| match expr {
        Expr::FunctionCall(call) => Expr::FunctionCall(call.map(|mut call| {
            for argument in &mut call.arguments {
                *argument = argument.clone().map(|mut argument| {
                    argument.expr = or(arguments(argument.expr.clone()), Literal::Null);
                    argument
                });
            }
            call
        })),
        Expr::Op(op) => Expr::Op(op.map(|Op(left, code, right)| Op(Box::new(arguments(*left)), code, Box::new(arguments(*right))))),
        Expr::Container(container) if matches!(container.inner(), Container::Group(_)) => group(container, arguments),
        other => other,
    })
}

fn group(container: Node<Container>, inner: impl Fn(Node<Expr>) -> Node<Expr>) -> Expr {
    Expr::Container(container.map(|container| match container {
        Container::Group(group) => Container::Group(Box::new(group.map(|group| Group(inner(group.into_inner()))))),
        other => other,
    }))
}

/// `node ?? fallback` if it can fail; as it is otherwise, because VRL refuses a `??` that is never reached.
fn or(node: Node<Expr>, fallback: Literal) -> Node<Expr> {
    if compiles(&node) {
        return node;
    }
    let caught = with(node.clone(), Opcode::Err, fallback);
    if compiles(&caught) { caught } else { node }
}

fn with(node: Node<Expr>, code: Opcode, literal: Literal) -> Node<Expr> {
    let span = node.span();
    let right = Node::new(span, Expr::Literal(Node::new(span, literal)));
    Node::new(span, Expr::Op(Node::new(span, Op(Box::new(node), Node::new(span, code), Box::new(right)))))
}
