//! Literals inside text: all of one slot in one walk over the folded value, and one over the value as it is
//! for those that are cased.
//!
//! Few literals are compared one by one. Many become an automaton (Aho-Corasick): a DFA while its table is
//! small, else a compact NFA. An automaton reports every occurrence, overlapping ones too; "starts with" and
//! "ends with" are told by position. Up to [`PREFILTER_LITERALS_MAX`] literals, a vectorised search (Teddy)
//! first finds where the walk of a long text must begin, mostly nowhere.

use std::collections::BTreeMap;

use aho_corasick::automaton::Automaton;
use aho_corasick::packed::{MatchKind, Searcher};
use aho_corasick::{Anchored, StartKind, dfa, nfa};
use memchr::memmem::Finder;

use crate::matcher::TextOp;
use crate::matcher::atom::{AtomId, Leaf};
use crate::matcher::pass::{Facts, LeafAtoms};
use crate::matcher::text::fold_into;

/// Up to this many literals are compared one by one.
const DIRECT_LITERALS_MAX: usize = 4;

/// Teddy takes up to this many.
const PREFILTER_LITERALS_MAX: usize = 64;

/// Teddy looks for the first bytes of literals; with shorter ones it stops everywhere.
const PREFILTER_LITERAL_BYTES_MIN: usize = 3;

/// In shorter text the walk is as fast. In 560 bytes of URI, Teddy was 6 times faster with 20 literals that
/// begin like nothing in it, and 2.4 times slower with 20 that all begin like its words.
const PREFILTER_TEXT_BYTES_MIN: usize = 128;

/// Bytes of literals up to which a DFA's table (about 50 classes of 4 bytes for each) stays near the L2 cache.
const DFA_LITERAL_BYTES_MAX: usize = 32 * 1024;

/// The literals of one slot.
#[derive(Debug)]
pub(in crate::matcher) struct Scan {
    uncased: Search,
    cased: Search,
    /// Atoms of the empty literal, which every text contains.
    anything: Vec<AtomId>,
    has_positions: bool,
}

#[derive(Debug)]
enum Search {
    Nothing,
    Direct(Vec<Literal>),
    Automaton(Box<Walk>),
}

#[derive(Debug)]
struct Literal {
    finder: Finder<'static>,
    wanted: Vec<Wanted>,
}

/// What one occurrence may decide.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    op: TextOp,
    atom: AtomId,
}

impl Wanted {
    fn is_at(self, start: usize, end: usize, len: usize) -> bool {
        match self.op {
            TextOp::Contains => true,
            TextOp::EndsWith => end == len,
            TextOp::Equals => start == 0 && end == len,
            TextOp::StartsWith => start == 0,
        }
    }
}

#[derive(Debug)]
struct Walk {
    prefilter: Option<Searcher>,
    machine: Machine,
    /// By pattern: length of the literal and what it decides.
    patterns: Vec<(u32, Vec<Wanted>)>,
}

#[derive(Debug)]
enum Machine {
    Dfa(dfa::DFA),
    Nfa(nfa::contiguous::NFA),
}

impl Scan {
    pub(super) fn new(leaves: &[LeafAtoms<'_>]) -> Self {
        let mut literals: [BTreeMap<&[u8], Vec<Wanted>>; 2] = Default::default();
        let mut anything = Vec::new();
        let mut has_positions = false;
        for (leaf, atoms) in leaves {
            let Leaf::Text { op, text, cased } = leaf else { continue };
            has_positions |= *op != TextOp::Contains;
            // An empty value equals the empty text, and only it: never found by position, so kept as a literal.
            if text.is_empty() && *op != TextOp::Equals {
                anything.extend_from_slice(atoms);
                continue;
            }
            literals[usize::from(*cased)].entry(text).or_default().extend(atoms.iter().map(|atom| Wanted { op: *op, atom: *atom }));
        }
        let [uncased, cased] = literals.map(Search::new);
        Self { uncased, cased, anything, has_positions }
    }

    /// Whether a literal must stand at a certain place, so that a value is not decided by what surrounds it.
    pub(super) fn has_positions(&self) -> bool {
        self.has_positions
    }

    /// Decides the atoms for `text`; returns whether any literal occurs anywhere.
    pub(super) fn run(&self, text: &[u8], folded: &mut Vec<u8>, facts: &mut Facts) -> bool {
        facts.set_all(&self.anything);
        let mut found = !self.anything.is_empty();
        if !matches!(self.uncased, Search::Nothing) {
            fold_into(text, folded);
            found |= self.uncased.run(folded, facts);
        }
        self.cased.run(text, facts) | found
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.uncased.memory_bytes() + self.cased.memory_bytes()
    }
}

impl Search {
    fn new(literals: BTreeMap<&[u8], Vec<Wanted>>) -> Self {
        if literals.is_empty() {
            return Self::Nothing;
        }
        if literals.len() > DIRECT_LITERALS_MAX
            && !literals.contains_key(&[][..])
            && let Some(machine) = Machine::new(&literals)
        {
            let prefilter = prefilter(&literals);
            let patterns = literals.into_iter().map(|(text, wanted)| (text.len() as u32, wanted)).collect();
            return Self::Automaton(Box::new(Walk { prefilter, machine, patterns }));
        }
        let literal = |(text, wanted): (&[u8], Vec<Wanted>)| Literal { finder: Finder::new(text).into_owned(), wanted };
        Self::Direct(literals.into_iter().map(literal).collect())
    }

    fn run(&self, text: &[u8], facts: &mut Facts) -> bool {
        match self {
            Self::Nothing => false,
            Self::Direct(literals) => literals.iter().fold(false, |found, literal| literal.run(text, facts) | found),
            Self::Automaton(walk) => walk.run(text, facts),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Direct(literals) => literals.iter().map(|literal| size_of::<Literal>() + literal.finder.needle().len()).sum(),
            Self::Automaton(walk) => {
                let machine = match &walk.machine {
                    Machine::Dfa(dfa) => dfa.memory_usage(),
                    Machine::Nfa(nfa) => nfa.memory_usage(),
                };
                let wanted =
                    walk.patterns.iter().map(|(_, wanted)| size_of::<Vec<Wanted>>() + size_of_val(wanted.as_slice())).sum::<usize>();
                machine + wanted + walk.prefilter.as_ref().map_or(0, Searcher::memory_usage)
            }
        }
    }
}

impl Literal {
    fn run(&self, text: &[u8], facts: &mut Facts) -> bool {
        let needle = self.finder.needle();
        let Some(first) = self.finder.find(text) else { return false };
        for wanted in &self.wanted {
            let holds = match wanted.op {
                TextOp::Contains => true,
                TextOp::EndsWith => text.ends_with(needle),
                TextOp::Equals => text.len() == needle.len(),
                TextOp::StartsWith => first == 0,
            };
            if holds {
                facts.set(wanted.atom);
            }
        }
        true
    }
}

impl Machine {
    /// The automaton; nothing if the literals are too many for one.
    fn new(literals: &BTreeMap<&[u8], Vec<Wanted>>) -> Option<Self> {
        let bytes: usize = literals.keys().map(|text| text.len()).sum();
        if bytes <= DFA_LITERAL_BYTES_MAX {
            let dfa = dfa::Builder::new().start_kind(StartKind::Unanchored).prefilter(false).build(literals.keys());
            return dfa.ok().map(Self::Dfa);
        }
        nfa::contiguous::Builder::new().prefilter(false).build(literals.keys()).ok().map(Self::Nfa)
    }
}

fn prefilter(literals: &BTreeMap<&[u8], Vec<Wanted>>) -> Option<Searcher> {
    let short = literals.keys().any(|text| text.len() < PREFILTER_LITERAL_BYTES_MIN);
    if short || literals.len() > PREFILTER_LITERALS_MAX {
        return None;
    }
    aho_corasick::packed::Config::new().match_kind(MatchKind::LeftmostFirst).builder().extend(literals.keys()).build()
}

impl Walk {
    fn run(&self, text: &[u8], facts: &mut Facts) -> bool {
        let start = match &self.prefilter {
            Some(searcher) if text.len() >= PREFILTER_TEXT_BYTES_MIN => match searcher.find(text) {
                Some(found) => found.start(),
                None => return false,
            },
            _ => 0,
        };
        match &self.machine {
            Machine::Dfa(dfa) => self.walk(dfa, text, start, facts),
            Machine::Nfa(nfa) => self.walk(nfa, text, start, facts),
        }
    }

    fn walk(&self, machine: &impl Automaton, text: &[u8], start: usize, facts: &mut Facts) -> bool {
        let Ok(mut state) = machine.start_state(Anchored::No) else { return false };
        let mut found = false;
        for (at, byte) in text.get(start..).unwrap_or_default().iter().enumerate() {
            state = machine.next_state(Anchored::No, state, *byte);
            if machine.is_special(state) && machine.is_match(state) {
                found = true;
                for index in 0..machine.match_len(state) {
                    let pattern = machine.match_pattern(state, index);
                    self.decide(pattern.as_usize(), start + at + 1, text.len(), facts);
                }
            }
        }
        found
    }

    fn decide(&self, pattern: usize, end: usize, text_len: usize, facts: &mut Facts) {
        let Some((len, wanted)) = self.patterns.get(pattern) else { return };
        for wanted in wanted {
            if wanted.is_at(end - *len as usize, end, text_len) {
                facts.set(wanted.atom);
            }
        }
    }
}
