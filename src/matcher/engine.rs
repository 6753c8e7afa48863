//! The engine: builds the passes, gates and programs, and runs them.

use crate::event::{Event, SlotId};
use crate::matcher::atom::{Atoms, PassId};
use crate::matcher::gate::{self, Estimates};
use crate::matcher::lists::Lists;
use crate::matcher::pass::{Buffers, Facts, LeafAtoms, Pass};
use crate::matcher::program::{ACCEPT, Node, REJECT, Test, compile};
use crate::matcher::{Expr, Matched, matched, oracle};

/// Index of a program, in the order of [`Builder::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProgramId(pub u32);

/// Collects programs.
#[derive(Debug, Default)]
pub struct Builder {
    programs: Vec<Expr<SlotId>>,
    nodes: Vec<Node>,
    atoms: Atoms,
}

impl Builder {
    /// A builder without programs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a program. Its nesting is walked by recursion: who reads expressions from people bounds it.
    pub fn add(&mut self, expr: Expr<SlotId>) -> ProgramId {
        let id = ProgramId(self.programs.len() as u32);
        self.nodes.push(Node::lower(&expr, &mut self.atoms));
        self.programs.push(expr);
        id
    }

    /// The matcher of all programs added. May take seconds for 100,000 literals inside values.
    pub fn build(self) -> Matcher {
        let Self { programs, mut nodes, atoms } = self;
        let estimates = Estimates::new(&atoms);
        let gates = gate::choose(&nodes, &estimates);
        let mut is_eager = vec![false; atoms.passes().len()];
        for atom in gates.iter().flatten().flatten() {
            is_eager[atoms.atoms()[*atom as usize].pass as usize] = true;
        }
        let mut gated = vec![Vec::new(); atoms.atoms().len()];
        let mut always = Vec::new();
        let mut code = Vec::new();
        let mut entries = Vec::new();
        for (program, (node, gate)) in nodes.iter_mut().zip(&gates).enumerate() {
            match gate {
                Some(gate) => gate.iter().for_each(|atom| gated[*atom as usize].push(program as u32)),
                None => always.push(program as u32),
            }
            if let Some([atom]) = gate.as_deref() {
                drop_known(node, &Node::Literal { atom: *atom, negated: false });
            }
            gate::order(node, &estimates, &is_eager, &atoms);
            entries.push(compile(node, &atoms, &mut code));
        }
        let mut by_atom = Lists::default();
        for programs in gated {
            by_atom.push(&programs);
        }
        let eager = (0..atoms.passes().len() as PassId).filter(|pass| is_eager[*pass as usize]).collect();
        Matcher { programs, passes: build_passes(&atoms), eager, gated: by_atom, always, code, entries, atoms: atoms.atoms().len() }
    }
}

/// Takes away what a program's gate has already shown.
fn drop_known(node: &mut Node, known: &Node) {
    if node == known {
        *node = Node::TRUE;
    } else if let Node::All(nodes) = node {
        nodes.retain(|node| node != known);
    }
}

fn build_passes(atoms: &Atoms) -> Vec<Pass> {
    let mut atoms_of_leaf = vec![Vec::new(); atoms.leaves().len()];
    for (id, atom) in atoms.atoms().iter().enumerate() {
        atom.leaves.iter().for_each(|leaf| atoms_of_leaf[*leaf as usize].push(id as u32));
    }
    let mut leaves: Vec<Vec<LeafAtoms<'_>>> = vec![Vec::new(); atoms.passes().len()];
    for ((pass, leaf), atoms) in atoms.leaves().iter().zip(&atoms_of_leaf) {
        leaves[*pass as usize].push((leaf, atoms));
    }
    let keys = atoms.passes().iter().zip(&leaves);
    keys.zip(0..).map(|((key, leaves), id)| Pass::new(id, *key, leaves, atoms)).collect()
}

/// Compiled programs: immutable, shared by all shards.
#[derive(Debug)]
pub struct Matcher {
    programs: Vec<Expr<SlotId>>,
    passes: Vec<Pass>,
    eager: Vec<PassId>,
    /// By atom: the programs behind it.
    gated: Lists,
    always: Vec<u32>,
    code: Vec<Test>,
    entries: Vec<u32>,
    atoms: usize,
}

/// What one shard needs to evaluate; made by [`Matcher::scratch`] for that matcher only.
#[derive(Debug)]
pub struct Scratch {
    stamp: u32,
    facts: Facts,
    /// By pass: the stamp of the last event it ran for.
    decided: Vec<u32>,
    /// By program: the stamp of the last event it was a candidate for.
    seen: Vec<u32>,
    candidates: Vec<u32>,
    buffers: Buffers,
}

impl Scratch {
    /// Lets a test begin close to the wrap, and with stamps in place that a missed clearing would meet again.
    #[cfg(test)]
    pub(super) fn set_stamp(&mut self, stamp: u32) {
        self.stamp = stamp;
    }

    fn begin(&mut self) {
        if self.stamp == u32::MAX {
            self.stamp = 0;
            self.facts.clear();
            self.decided.fill(0);
            self.seen.fill(0);
        }
        self.stamp += 1;
        self.facts.begin(self.stamp);
        self.candidates.clear();
    }
}

impl Matcher {
    /// Working memory for one shard.
    pub fn scratch(&self) -> Scratch {
        Scratch {
            stamp: 0,
            facts: Facts::new(self.atoms),
            decided: vec![0; self.passes.len()],
            seen: vec![0; self.programs.len()],
            candidates: Vec::with_capacity(self.programs.len()),
            buffers: Buffers::default(),
        }
    }

    /// Writes the programs that hold for `event` to `hits`, ascending; `hits` is cleared first.
    pub fn evaluate(&self, event: Event<'_>, scratch: &mut Scratch, hits: &mut Vec<ProgramId>) {
        hits.clear();
        scratch.begin();
        for pass in &self.eager {
            self.decide(*pass, event, scratch);
        }
        let Scratch { stamp, facts, seen, candidates, .. } = scratch;
        for atom in facts.touched() {
            for program in self.gated.list(*atom) {
                let seen = &mut seen[*program as usize];
                if *seen != *stamp {
                    *seen = *stamp;
                    candidates.push(*program);
                }
            }
        }
        for index in 0..scratch.candidates.len() {
            let program = scratch.candidates[index];
            if self.holds(program, event, scratch) {
                hits.push(ProgramId(program));
            }
        }
        for program in &self.always {
            if self.holds(*program, event, scratch) {
                hits.push(ProgramId(*program));
            }
        }
        hits.sort_unstable();
    }

    /// The oracle: evaluates every predicate of every program as written, sharing nothing with
    /// [`Self::evaluate`] but the reading of values. Slow; for tests and explanations.
    pub fn full_scan(&self, event: Event<'_>, hits: &mut Vec<ProgramId>) {
        hits.clear();
        let holding = self.programs.iter().zip(0..).filter(|(program, _)| oracle::holds(program, event));
        hits.extend(holding.map(|(_, id)| ProgramId(id)));
    }

    /// Calls `visit` with what makes a program hold that is known to hold.
    pub fn matched(&self, program: ProgramId, event: Event<'_>, visit: &mut dyn FnMut(Matched<'_>)) {
        if let Some(expr) = self.programs.get(program.0 as usize) {
            matched::walk(expr, event, visit);
        }
    }

    /// Number of programs.
    pub fn program_count(&self) -> usize {
        self.programs.len()
    }

    /// Number of distinct atoms; a list of values of one field counts as one.
    pub fn atom_count(&self) -> usize {
        self.atoms
    }

    /// Programs that no index protects: each is evaluated for every event.
    pub fn unindexed(&self) -> impl Iterator<Item = ProgramId> {
        self.always.iter().copied().map(ProgramId)
    }

    /// Bytes on the heap of what [`Self::evaluate`] reads; the programs as written are not counted.
    pub fn memory_bytes(&self) -> usize {
        self.passes.iter().map(Pass::memory_bytes).sum::<usize>()
            + self.gated.memory_bytes()
            + size_of_val(self.code.as_slice())
            + (self.entries.len() + self.always.len() + self.eager.len()) * size_of::<u32>()
    }

    fn holds(&self, program: u32, event: Event<'_>, scratch: &mut Scratch) -> bool {
        let mut at = self.entries[program as usize];
        while at < REJECT {
            let test = self.code[at as usize];
            self.decide(test.pass, event, scratch);
            at = if scratch.facts.holds(test.atom) { test.holds } else { test.fails };
        }
        at == ACCEPT
    }

    fn decide(&self, pass: PassId, event: Event<'_>, scratch: &mut Scratch) {
        let decided = &mut scratch.decided[pass as usize];
        if *decided != scratch.stamp {
            *decided = scratch.stamp;
            self.passes[pass as usize].run(event, &mut scratch.buffers, &mut scratch.facts);
        }
    }
}
