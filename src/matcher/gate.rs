//! Which programs to look at: every program waits behind a gate, an OR-set of atoms of which one must hold
//! for the program to hold. The cheapest such set is chosen by estimates; a wrong estimate costs time, never
//! a hit. Programs without a gate (only "not" and "null") are looked at for every event.
//!
//! Exact maps, numbers and networks cost little and run for every event if a gate needs them. An automaton
//! walks the whole value: it runs for every event only if the programs that would hide behind it cost more
//! without it than the walk; otherwise they wait behind their other atoms and the first that gets so far
//! runs it.

use std::collections::BTreeMap;

use crate::matcher::atom::{AtomId, Atoms, Leaf, PassId, PassKey, Target};
use crate::matcher::program::Node;
use crate::matcher::typical::{gram_likelihood, share_of_lines};
use crate::matcher::{Order, TextOp};

/// Looking at one program that fails at its first or second test, in ns.
const EVALUATION_NS: f64 = 6.0;

/// Bytes of text in a value and in an event, to guess how often something is inside.
const PLACES_OF_VALUE: f64 = 60.0;
const PLACES_OF_EVENT: f64 = 800.0;

/// Shorter text says nothing: it is in every line.
const TELLING_BYTES_MIN: usize = 3;

/// What an atom of a decided pass costs to ask, in ns.
const DECIDED_NS: f64 = 1.0;

/// How likely an atom is to hold, and what asking costs.
#[derive(Debug)]
pub(super) struct Estimates {
    likelihood: Vec<f64>,
    cost_ns: Vec<f64>,
    gateable: Vec<bool>,
    scan: Vec<Option<PassId>>,
}

impl Estimates {
    /// Estimates for all atoms, from the form of their literals and the number of rivals in their field.
    pub(super) fn new(atoms: &Atoms) -> Self {
        let mut rivals = vec![0_u32; atoms.passes().len()];
        for (pass, _) in atoms.leaves() {
            rivals[*pass as usize] += 1;
        }
        let mut estimates = Self { likelihood: Vec::new(), cost_ns: Vec::new(), gateable: Vec::new(), scan: Vec::new() };
        for atom in atoms.atoms() {
            let pass = atoms.passes()[atom.pass as usize];
            let leaves = || atom.leaves.iter().map(|leaf| atoms.leaf_of(*leaf).1);
            let places = if pass == PassKey::Scan(Target::Event) { PLACES_OF_EVENT } else { PLACES_OF_VALUE };
            let sum = leaves().map(|leaf| likelihood(leaf, rivals[atom.pass as usize], places)).sum::<f64>();
            estimates.likelihood.push(if atom.leaves.is_empty() { 0.5 } else { sum.min(0.95) });
            estimates.cost_ns.push(cost_ns(pass));
            estimates.gateable.push(!atom.leaves.is_empty() && !leaves().any(Leaf::holds_for_nothing));
            estimates.scan.push(matches!(pass, PassKey::Scan(_)).then_some(atom.pass));
        }
        estimates
    }

    fn is_scan(&self, atom: AtomId) -> Option<PassId> {
        self.scan[atom as usize]
    }
}

fn cost_ns(pass: PassKey) -> f64 {
    match pass {
        PassKey::Exact(_) => 10.0,
        PassKey::Number(_) => 15.0,
        PassKey::Network(_) => 40.0,
        PassKey::Scan(Target::Slot(_)) => 80.0,
        PassKey::Scan(Target::Event) => 800.0,
        PassKey::Slow(_) => 1500.0,
    }
}

/// Values of few characters are common, and a field that many rules name different values of has many. What typical lines
/// have is likely, and inside values what is made of their grams.
fn likelihood(leaf: &Leaf, rivals: u32, places: f64) -> f64 {
    let share = 1.0 / (f64::from(rivals) + 1.0);
    match leaf {
        Leaf::Text { op: op @ TextOp::Equals, text, .. } if text.len() >= TELLING_BYTES_MIN => {
            share.min(by_len(text.len(), [0.5, 0.3, 0.1, 0.02])).max(share_of_lines(*op, text))
        }
        Leaf::Text { op: TextOp::Equals, .. } => share.min(0.5),
        Leaf::Text { op, text, .. } => {
            let rarest = text.windows(TELLING_BYTES_MIN).map(gram_likelihood).fold(1.0, f64::min);
            by_len(text.len(), [0.4, 0.02, 0.002, 0.0005]).max(places * rarest).max(share_of_lines(*op, text)).min(0.95)
        }
        Leaf::Number { op: Order::Equal, .. } => share.min(0.3),
        Leaf::Number { .. } => 0.5,
        Leaf::Network(network) => 0.3 / f64::from(network.prefix_len()).max(1.0),
        Leaf::Exists | Leaf::Null | Leaf::Type(_) => 0.9,
    }
}

fn by_len(len: usize, [tiny, short, medium, long]: [f64; 4]) -> f64 {
    match len {
        0..3 => tiny,
        3..6 => short,
        6..12 => medium,
        _ => long,
    }
}

/// Sorts the members of every "all" and "any" so that cheap and telling questions come first; returns the
/// cost in ns and the likelihood of `node`.
pub(super) fn order(node: &mut Node, estimates: &Estimates, eager: &[bool], atoms: &Atoms) -> (f64, f64) {
    let (nodes, all) = match node {
        Node::Literal { atom, negated } => {
            let index = *atom as usize;
            let cost = if eager[atoms.atoms()[index].pass as usize] { DECIDED_NS } else { estimates.cost_ns[index] };
            let likelihood = estimates.likelihood[index];
            return (cost, if *negated { 1.0 - likelihood } else { likelihood });
        }
        Node::All(nodes) => (nodes, true),
        Node::Any(nodes) => (nodes, false),
    };
    let mut keyed: Vec<_> = std::mem::take(nodes)
        .into_iter()
        .map(|mut node| {
            let (cost, likelihood) = order(&mut node, estimates, eager, atoms);
            let decides = if all { 1.0 - likelihood } else { likelihood };
            (cost / decides.max(0.01), cost, likelihood, node)
        })
        .collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let cost = keyed.iter().map(|member| member.1).sum();
    let likelihood = match all {
        true => keyed.iter().map(|member| member.2).product(),
        false => 1.0 - keyed.iter().map(|member| 1.0 - member.2).product::<f64>(),
    };
    nodes.extend(keyed.into_iter().map(|member| member.3));
    (cost, likelihood)
}

/// The gate of every program, `None` for those that have none.
pub(super) fn choose(nodes: &[Node], estimates: &Estimates) -> Vec<Option<Vec<AtomId>>> {
    let mut bills: BTreeMap<PassId, Bill> = BTreeMap::new();
    for node in nodes {
        let Some((with, atoms)) = best(node, estimates, &|_| true) else { continue };
        let Some(pass) = atoms.iter().find_map(|atom| estimates.is_scan(*atom)) else { continue };
        let without = best(node, estimates, &|atom| estimates.is_scan(atom).is_none());
        let bill = bills.entry(pass).or_default();
        bill.with += with;
        bill.without += without.as_ref().map_or(f64::INFINITY, |(likelihood, _)| *likelihood);
        bill.reached += reach(node, pass, estimates);
        bill.walk_ns = atoms.iter().map(|atom| estimates.cost_ns[*atom as usize]).fold(0.0, f64::max);
    }
    let eager: Vec<PassId> = bills.iter().filter(|(_, bill)| bill.is_worth_a_walk()).map(|(pass, _)| *pass).collect();
    let allowed = |atom| estimates.is_scan(atom).is_none_or(|pass| eager.contains(&pass));
    nodes.iter().map(|node| best(node, estimates, &allowed).or_else(|| best(node, estimates, &|_| true)).map(|(_, atoms)| atoms)).collect()
}

/// What it costs to run a scan for every event, and what not to; sums of likelihoods over programs.
#[derive(Debug, Default)]
struct Bill {
    with: f64,
    without: f64,
    reached: f64,
    walk_ns: f64,
}

impl Bill {
    fn is_worth_a_walk(&self) -> bool {
        let lazy = self.without * EVALUATION_NS + self.reached.min(1.0) * self.walk_ns;
        lazy > self.walk_ns + self.with * EVALUATION_NS
    }
}

/// How likely a program gets to its atoms of `pass` if all its other atoms come first.
fn reach(node: &Node, pass: PassId, estimates: &Estimates) -> f64 {
    match node {
        Node::All(nodes) => nodes.iter().map(|node| reach(node, pass, estimates)).product(),
        Node::Literal { atom, negated: false } if estimates.is_scan(*atom) != Some(pass) => estimates.likelihood[*atom as usize],
        Node::Literal { .. } | Node::Any(_) => 1.0,
    }
}

/// The least likely OR-set of necessary atoms, with its likelihood.
fn best(node: &Node, estimates: &Estimates, allowed: &impl Fn(AtomId) -> bool) -> Option<(f64, Vec<AtomId>)> {
    match node {
        Node::Literal { negated: true, .. } => None,
        Node::Literal { atom, .. } => {
            let index = *atom as usize;
            (estimates.gateable[index] && allowed(*atom)).then(|| (estimates.likelihood[index], vec![*atom]))
        }
        Node::All(nodes) => nodes.iter().filter_map(|node| best(node, estimates, allowed)).min_by(|a, b| a.0.total_cmp(&b.0)),
        Node::Any(nodes) => {
            let mut all = (0.0, Vec::new());
            for node in nodes {
                let (likelihood, atoms) = best(node, estimates, allowed)?;
                all.0 += likelihood;
                all.1.extend(atoms);
            }
            Some(all)
        }
    }
}
