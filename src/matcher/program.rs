//! Programs: what remains of an expression once its predicates are atoms.
//!
//! An expression is lowered to literals of atoms under "all" and "any" (negation sits on the literals), with
//! the predicates of one "any" gathered into as few atoms as passes, and simplified: constants folded, equal
//! members merged, nesting flattened. It is then compiled to tests with two jumps each: evaluation is a walk
//! without a stack that asks no more than it must, cheap and telling questions first.

use crate::event::SlotId;
use crate::matcher::atom::{AtomId, Atoms, PassId, Slow, Target};
use crate::matcher::{Expr, Predicate, TextOp, literal};

/// A simplified expression.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    /// A test of one atom.
    Literal {
        /// The atom.
        atom: AtomId,
        /// Whether it must not hold.
        negated: bool,
    },
    /// All hold.
    All(Vec<Node>),
    /// One holds.
    Any(Vec<Node>),
}

impl Node {
    /// Always true.
    pub(super) const TRUE: Self = Self::All(Vec::new());
    /// Never true.
    pub(super) const FALSE: Self = Self::Any(Vec::new());

    /// The node of an expression, whose predicates become atoms.
    pub(super) fn lower(expr: &Expr<SlotId>, atoms: &mut Atoms) -> Self {
        lower(expr, false, atoms)
    }
}

fn lower(expr: &Expr<SlotId>, negated: bool, atoms: &mut Atoms) -> Node {
    match expr {
        Expr::Not(inner) => lower(inner, !negated, atoms),
        Expr::All(items) => join(!negated, items.iter().map(|item| lower(item, negated, atoms)).collect()),
        Expr::Any(_) => {
            let mut groups = Groups::default();
            let mut nodes = Vec::new();
            gather(expr, negated, atoms, &mut groups, &mut nodes);
            nodes.extend(groups.into_iter().flat_map(|(pass, leaves)| indexed(pass, leaves, negated, atoms)));
            join(negated, nodes)
        }
        Expr::Field(slot, predicate) => lower_predicate(Target::Slot(*slot), predicate, negated, atoms),
        Expr::Keyword(predicate) => lower_predicate(Target::Event, predicate, negated, atoms),
        Expr::Fields { left, op, right, cased } => {
            let atom = atoms.slow_atom(Slow::Fields { left: *left, op: *op, right: *right, cased: *cased });
            let slow = Node::Literal { atom, negated };
            join(!negated, present(*left, negated, atoms).into_iter().chain([slow]).collect())
        }
    }
}

type Groups = std::collections::BTreeMap<PassId, Vec<u32>>;

/// Collects the members of nested "any": indexable predicates by pass, all else as nodes.
fn gather(expr: &Expr<SlotId>, negated: bool, atoms: &mut Atoms, groups: &mut Groups, nodes: &mut Vec<Node>) {
    let indexed = match expr {
        Expr::Any(items) => return items.iter().for_each(|item| gather(item, negated, atoms, groups, nodes)),
        Expr::Field(slot, predicate) => atoms.leaf(Target::Slot(*slot), predicate),
        Expr::Keyword(predicate) => atoms.leaf(Target::Event, predicate),
        Expr::All(_) | Expr::Not(_) | Expr::Fields { .. } => None,
    };
    match indexed {
        Some((pass, leaf)) => groups.entry(pass).or_default().push(leaf),
        None => nodes.push(lower(expr, negated, atoms)),
    }
}

/// The atom of leaves of one pass. What must not be missing is there: a gate can wait for that, and for nothing that is negated.
fn indexed(pass: PassId, leaves: Vec<u32>, negated: bool, atoms: &mut Atoms) -> impl Iterator<Item = Node> + use<> {
    let holds_for_nothing = leaves.iter().any(|leaf| atoms.leaf_of(*leaf).1.holds_for_nothing());
    let is_there = atoms.slot_of(pass).filter(|_| negated && holds_for_nothing).and_then(|slot| present(slot, false, atoms));
    is_there.into_iter().chain([Node::Literal { atom: atoms.atom(pass, leaves), negated }])
}

fn lower_predicate(target: Target, predicate: &Predicate, negated: bool, atoms: &mut Atoms) -> Node {
    if let Some((pass, leaf)) = atoms.leaf(target, predicate) {
        return join(true, indexed(pass, vec![leaf], negated, atoms).collect());
    }
    let required = match predicate {
        Predicate::Glob { pieces, .. } => literal::of_glob(pieces).map(|text| vec![text]),
        Predicate::Regex(regex) => literal::of_regex(regex),
        _ => None,
    };
    let slow = Node::Literal { atom: atoms.slow_atom(Slow::Ask(target, predicate.clone())), negated };
    let contains = |text| Predicate::Text { op: TextOp::Contains, text, cased: false };
    let leaves: Vec<_> = required.into_iter().flatten().filter_map(|text| atoms.leaf(target, &contains(text))).collect();
    let required = match (leaves.first(), target) {
        (Some((pass, _)), _) => Some(Node::Literal { atom: atoms.atom(*pass, leaves.iter().map(|(_, leaf)| *leaf).collect()), negated }),
        (None, Target::Slot(slot)) => present(slot, negated, atoms),
        (None, Target::Event) => None,
    };
    join(!negated, required.into_iter().chain([slow]).collect())
}

/// That a field is there, which all that is asked slowly of it needs: so nobody asks of events that do not have it.
fn present(slot: SlotId, negated: bool, atoms: &mut Atoms) -> Option<Node> {
    let (pass, leaf) = atoms.leaf(Target::Slot(slot), &Predicate::Exists)?;
    Some(Node::Literal { atom: atoms.atom(pass, vec![leaf]), negated })
}

/// "All" or "any" of `nodes`, simplified.
fn join(all: bool, nodes: Vec<Node>) -> Node {
    let (neutral, absorbing) = if all { (Node::TRUE, Node::FALSE) } else { (Node::FALSE, Node::TRUE) };
    let mut flat = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node {
            node if node == absorbing => return absorbing,
            node if node == neutral => {}
            Node::All(inner) if all => flat.extend(inner),
            Node::Any(inner) if !all => flat.extend(inner),
            node => flat.push(node),
        }
    }
    flat.sort_unstable();
    flat.dedup();
    // Sorted, the two literals of one atom are neighbours.
    let contradicts = |pair: &[Node]| matches!(pair, [Node::Literal { atom: a, .. }, Node::Literal { atom: b, .. }] if a == b);
    if flat.windows(2).any(contradicts) {
        return absorbing;
    }
    match (flat.len(), all) {
        (1, _) => flat.pop().unwrap_or(neutral),
        (_, true) => Node::All(flat),
        (_, false) => Node::Any(flat),
    }
}

/// One step of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Test {
    /// The atom asked.
    pub(super) atom: AtomId,
    /// The pass that decides it, to be run if it was not yet.
    pub(super) pass: PassId,
    /// Where to go if it holds.
    pub(super) holds: u32,
    /// Where to go if not.
    pub(super) fails: u32,
}

/// Jump target: the program holds.
pub(super) const ACCEPT: u32 = u32::MAX;

/// Jump target: it does not.
pub(super) const REJECT: u32 = u32::MAX - 1;

/// Appends the tests of `node` and returns where to begin. Jumps only go to earlier tests, so every walk ends.
pub(super) fn compile(node: &Node, atoms: &Atoms, code: &mut Vec<Test>) -> u32 {
    emit(node, (ACCEPT, REJECT), atoms, code)
}

fn emit(node: &Node, (holds, fails): (u32, u32), atoms: &Atoms, code: &mut Vec<Test>) -> u32 {
    match node {
        Node::Literal { atom, negated } => {
            let (holds, fails) = if *negated { (fails, holds) } else { (holds, fails) };
            code.push(Test { atom: *atom, pass: atoms.atoms()[*atom as usize].pass, holds, fails });
            code.len() as u32 - 1
        }
        Node::All(nodes) => nodes.iter().rev().fold(holds, |next, node| emit(node, (next, fails), atoms, code)),
        Node::Any(nodes) => nodes.iter().rev().fold(fails, |next, node| emit(node, (holds, next), atoms, code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Fields;

    fn field(name: &str, value: &str, fields: &mut Fields) -> Expr<SlotId> {
        Expr::Field(fields.slot(name), Predicate::Text { op: TextOp::Equals, text: value.to_owned(), cased: false })
    }

    #[test]
    fn lists_of_one_field_become_one_atom() {
        let (mut fields, mut atoms) = (Fields::default(), Atoms::default());
        let list =
            Expr::Any(vec![field("a", "x", &mut fields), Expr::Any(vec![field("a", "Y", &mut fields), field("b", "z", &mut fields)])]);
        let node = Node::lower(&list, &mut atoms);
        assert!(matches!(&node, Node::Any(nodes) if nodes.len() == 2), "{node:?}");
        let negated = Node::lower(&Expr::Not(Box::new(list)), &mut atoms);
        assert!(matches!(&negated, Node::All(nodes) if nodes.len() == 2), "{negated:?}");
        assert_eq!(atoms.atoms().len(), 2);
    }

    #[test]
    fn constants_and_contradictions_are_folded() {
        let (mut fields, mut atoms) = (Fields::default(), Atoms::default());
        let a = field("a", "x", &mut fields);
        let not_a = Expr::Not(Box::new(a.clone()));
        for (expr, expected) in [
            (Expr::All(vec![a.clone(), not_a.clone()]), Node::FALSE),
            (Expr::Any(vec![a.clone(), not_a.clone()]), Node::TRUE),
            (Expr::All(vec![a.clone(), Expr::Any(vec![])]), Node::FALSE),
            (Expr::Any(vec![not_a, Expr::All(vec![])]), Node::TRUE),
            (Expr::All(vec![a.clone(), Expr::All(vec![a])]), Node::Literal { atom: 0, negated: false }),
        ] {
            assert_eq!(Node::lower(&expr, &mut atoms), expected, "{expr:?}");
        }
    }
}
