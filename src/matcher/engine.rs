//! The engine: builds the passes, gates and programs, and runs them.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::thread_cpu_ns;
use crate::event::{Event, Slot, SlotId, SlotSet};
use crate::matcher::atom::{AtomId, Atoms, PassId, PassKey};
use crate::matcher::cost::{Cost, Costs};
use crate::matcher::gate::{self, Estimates};
use crate::matcher::lists::Lists;
use crate::matcher::pass::{Buffers, Facts, LeafAtoms, Memo, Pass};
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
        let Self { programs, mut nodes, mut atoms } = self;
        let estimates = Estimates::new(&atoms);
        let gates = gate::choose(&nodes, &estimates);
        let mut is_gate = vec![false; atoms.atoms().len()];
        gates.iter().flatten().flatten().for_each(|atom| is_gate[*atom as usize] = true);
        atoms.split_scans(&is_gate);
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
        let eager = Eager::new(&atoms, &is_eager);
        let remembered = remembered(&atoms);
        Matcher {
            programs,
            passes: build_passes(&atoms),
            remembered,
            eager,
            gated: by_atom,
            always,
            code,
            entries,
            atoms: atoms.atoms().len(),
        }
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
    let mut leaves: Vec<BTreeMap<u32, Vec<AtomId>>> = vec![BTreeMap::new(); atoms.passes().len()];
    for (atom, id) in atoms.atoms().iter().zip(0..) {
        atom.leaves.iter().for_each(|leaf| leaves[atom.pass as usize].entry(*leaf).or_default().push(id));
    }
    let pass = |((key, leaves), id): ((&PassKey, &BTreeMap<u32, Vec<AtomId>>), PassId)| {
        let leaves: Vec<LeafAtoms<'_>> = leaves.iter().map(|(leaf, of)| (atoms.leaf_of(*leaf).1, of.as_slice())).collect();
        Pass::new(id, *key, &leaves, atoms)
    };
    atoms.passes().iter().zip(&leaves).zip(0..).map(pass).collect()
}

/// By pass: the slot whose values it is remembered with. Where nothing is searched for, deciding anew is as fast.
fn remembered(atoms: &Atoms) -> Vec<Option<SlotId>> {
    let passes = || atoms.passes().iter().zip((0..).map(|pass| atoms.slot_of(pass)));
    let is_search = |key: &PassKey| matches!(key, PassKey::Scan(_) | PassKey::Slow(_));
    let searched: BTreeSet<SlotId> = passes().filter(|(key, _)| is_search(key)).filter_map(|(_, slot)| slot).collect();
    passes().map(|(_, slot)| slot.filter(|slot| searched.contains(slot))).collect()
}

/// Passes that run for every event that has what they look at.
#[derive(Debug, Default)]
struct Eager {
    of_event: Vec<PassId>,
    slots: SlotSet,
    /// By slot.
    of_slot: Lists,
}

impl Eager {
    fn new(atoms: &Atoms, is_eager: &[bool]) -> Self {
        let mut eager = Self::default();
        let mut of_slot: BTreeMap<usize, Vec<PassId>> = BTreeMap::new();
        let mut slots = Vec::new();
        for ((key, pass), _) in atoms.passes().iter().zip(0..).zip(is_eager).filter(|(_, is_eager)| **is_eager) {
            match key.slot() {
                Some(slot) => {
                    slots.push(slot);
                    of_slot.entry(slot.index()).or_default().push(pass);
                }
                None => eager.of_event.push(pass),
            }
        }
        let width = of_slot.keys().next_back().map_or(0, |last| last + 1);
        for slot in 0..width {
            eager.of_slot.push(of_slot.get(&slot).map_or(&[], Vec::as_slice));
        }
        eager.slots = slots.into_iter().collect();
        eager
    }
}

/// Compiled programs: immutable, shared by all shards.
#[derive(Debug)]
pub struct Matcher {
    programs: Vec<Expr<SlotId>>,
    passes: Vec<Pass>,
    remembered: Vec<Option<SlotId>>,
    eager: Eager,
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
    memo: Memo,
    costs: Costs,
    /// Programs that are left out.
    stopped: Vec<ProgramId>,
}

impl Scratch {
    /// Lets a test begin close to the wrap, and with stamps in place that a missed clearing would meet again.
    #[cfg(test)]
    pub(super) fn set_stamp(&mut self, stamp: u32) {
        self.stamp = stamp;
    }

    /// Lets values meet in few cells of the memo.
    #[cfg(test)]
    pub(super) fn set_memo_cells(&mut self, cells: usize) {
        self.memo.set_cells(cells);
    }

    /// Has one event in so many measured from now on; 1 is every event.
    pub fn measure_every(&mut self, every: u32) {
        self.costs.measure_every(every);
    }

    /// Calls `of` with every program that was looked at on a measured event since the last call, and what it is estimated to
    /// have cost on all events; gives what belongs to no program.
    pub fn take_costs(&mut self, of: impl FnMut(ProgramId, Cost)) -> Cost {
        self.costs.take(of)
    }

    /// Leaves programs out from now on, and none but these; ascending.
    pub fn stop(&mut self, programs: Vec<ProgramId>) {
        self.stopped = programs;
    }

    fn begin(&mut self) {
        if self.stamp == u32::MAX {
            self.stamp = 0;
            self.facts.clear();
            self.buffers.clear();
            self.memo.clear();
            self.decided.fill(0);
            self.seen.fill(0);
        }
        self.stamp += 1;
        self.facts.begin(self.stamp);
        self.buffers.begin(self.stamp);
        self.memo.begin(self.stamp);
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
            memo: self.memo(),
            costs: Costs::new(self.programs.len()),
            stopped: Vec::new(),
        }
    }

    fn memo(&self) -> Memo {
        let slots: BTreeSet<usize> = self.remembered.iter().flatten().map(|slot| slot.index()).collect();
        Memo::new(slots.len(), slots.last().map_or(0, |last| last + 1))
    }

    /// Writes the programs that hold for `event` to `hits`, ascending; `hits` is cleared first.
    pub fn evaluate(&self, event: Event<'_>, scratch: &mut Scratch, hits: &mut Vec<ProgramId>) {
        hits.clear();
        scratch.begin();
        let measured_since_ns = scratch.costs.begin(scratch.stamp);
        self.eager.of_event.iter().for_each(|pass| self.decide(*pass, event, scratch));
        // A missing field decides nothing that a gate waits for.
        for slot in event.present(&self.eager.slots) {
            self.eager.of_slot.list(slot as u32).iter().for_each(|pass| self.decide(*pass, event, scratch));
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
        candidates.extend_from_slice(&self.always);
        if !scratch.stopped.is_empty() {
            let Scratch { candidates, stopped, .. } = &mut *scratch;
            candidates.retain(|program| stopped.binary_search(&ProgramId(*program)).is_err());
        }
        measured_since_ns.into_iter().for_each(|since_ns| scratch.costs.add_shared(since_ns));
        let is_measured = measured_since_ns.is_some();
        for index in 0..scratch.candidates.len() {
            let program = scratch.candidates[index];
            let holds = if is_measured { self.measure(program, event, scratch) } else { self.holds(program, event, scratch) };
            if holds {
                hits.push(ProgramId(program));
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
            + (self.entries.len() + self.always.len() + self.eager.of_event.len()) * size_of::<u32>()
            + self.eager.of_slot.memory_bytes()
    }

    fn measure(&self, program: u32, event: Event<'_>, scratch: &mut Scratch) -> bool {
        let since_ns = thread_cpu_ns();
        let holds = self.holds(program, event, scratch);
        scratch.costs.add(program, since_ns);
        holds
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

    #[inline]
    fn decide(&self, pass: PassId, event: Event<'_>, scratch: &mut Scratch) {
        if scratch.decided[pass as usize] != scratch.stamp {
            self.recall_or_run(pass, event, scratch);
        }
    }

    // Most passes that a program asks have been decided.
    #[inline(never)]
    fn recall_or_run(&self, pass: PassId, event: Event<'_>, scratch: &mut Scratch) {
        let Scratch { stamp, facts, decided, buffers, memo, .. } = scratch;
        let slot = self.remembered[pass as usize].filter(|slot| event.slot(*slot) != Slot::MISSING);
        if let Some(slot) = slot
            && let Some(known) = memo.recall(event, slot)
        {
            known.passes.iter().for_each(|pass| decided[*pass as usize] = *stamp);
            facts.set_all(&known.atoms);
            if decided[pass as usize] == *stamp {
                return;
            }
        }
        decided[pass as usize] = *stamp;
        let before = facts.touched().len();
        self.passes[pass as usize].run(event, buffers, facts);
        slot.into_iter().for_each(|slot| memo.learn(slot, pass, &facts.touched()[before..]));
    }
}
