//! Literals inside text: all of one slot over the folded value, and those that are cased over the value as it is.
//!
//! Few literals are compared one by one, and so are those of one or two bytes. Many wait behind their grams
//! ([`Grams`]); "starts with" and "ends with" are told by position. Up to [`PREFILTER_LITERALS_MAX`] literals, a
//! vectorised search (Teddy) first finds where the walk of a long text must begin, mostly nowhere.

use std::collections::BTreeMap;

use aho_corasick::packed::{MatchKind, Searcher};
use memchr::memmem::Finder;

use crate::event::Span;
use crate::matcher::TextOp;
use crate::matcher::atom::{AtomId, Leaf, Target};
use crate::matcher::pass::grams::Grams;
use crate::matcher::pass::{Facts, LeafAtoms};

/// Up to this many literals are searched one by one in a whole event: a vectorised search of a kilobyte costs a seventh of
/// walking through its grams.
const DIRECT_OF_EVENT_MAX: usize = 8;

/// The same for a slot, whose values are short.
const DIRECT_OF_SLOT_MAX: usize = 1;

/// Teddy takes up to this many.
const PREFILTER_LITERALS_MAX: usize = 64;

/// Teddy looks for the first bytes of literals; with shorter ones it stops everywhere.
const PREFILTER_LITERAL_BYTES_MIN: usize = 3;

/// In shorter text the walk is as fast. In 560 bytes of URI, Teddy was 6 times faster with 20 literals that
/// begin like nothing in it, and 2.4 times slower with 20 that all begin like its words.
const PREFILTER_TEXT_BYTES_MIN: usize = 128;

/// How most literals are found.
type LongGrams = Grams<4, 2>;

/// How those are found that are too short for that.
type ShortGrams = Grams<3, 1>;

/// The literals of one slot.
#[derive(Debug)]
pub(in crate::matcher) struct Scan {
    uncased: Search,
    cased: Search,
    /// Atoms of the empty literal, which every text contains.
    anything: Vec<AtomId>,
    has_positions: bool,
}

/// The literals of one case rule.
#[derive(Debug, Default)]
struct Search {
    direct: Vec<Literal>,
    many: Option<Box<Many>>,
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

/// Literals behind grams.
#[derive(Debug)]
struct Many {
    prefilter: Option<Searcher>,
    grams: Option<LongGrams>,
    short: Option<ShortGrams>,
    /// All literals, one behind the other.
    bytes: Box<[u8]>,
    wanted: Box<[Wanted]>,
    /// By literal: its bytes, and where what it decides ends.
    literals: Box<[(Span, u32)]>,
}

impl Scan {
    pub(super) fn new(target: Target, leaves: &[LeafAtoms<'_>]) -> Self {
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
        let direct_max = if target == Target::Event { DIRECT_OF_EVENT_MAX } else { DIRECT_OF_SLOT_MAX };
        let [uncased, cased] = literals.map(|literals| Search::new(literals, direct_max));
        Self { uncased, cased, anything, has_positions }
    }

    /// Whether a literal must stand at a certain place, so that a value is not decided by what surrounds it.
    pub(super) fn has_positions(&self) -> bool {
        self.has_positions
    }

    /// Decides the atoms for a text, also given folded; returns whether any literal occurs anywhere.
    pub(super) fn run(&self, text: &[u8], folded: &[u8], facts: &mut Facts) -> bool {
        facts.set_all(&self.anything);
        let found = !self.anything.is_empty();
        found | self.uncased.run(folded, facts) | self.cased.run(text, facts)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.uncased.memory_bytes() + self.cased.memory_bytes()
    }
}

impl Search {
    fn new(literals: BTreeMap<&[u8], Vec<Wanted>>, direct_max: usize) -> Self {
        let short = literals.keys().filter(|text| text.len() < LongGrams::LITERAL_BYTES_MIN).count();
        let rivals = |text: &[u8]| if text.len() < LongGrams::LITERAL_BYTES_MIN { short } else { literals.len() - short };
        let is_direct = |text: &[u8]| text.len() < ShortGrams::LITERAL_BYTES_MIN || rivals(text) <= direct_max;
        let (direct, many): (Vec<_>, Vec<_>) = literals.iter().partition(|(text, _)| is_direct(text));
        let literal = |(text, wanted): (&&[u8], &Vec<Wanted>)| Literal { finder: Finder::new(*text).into_owned(), wanted: wanted.clone() };
        Self { direct: direct.into_iter().map(literal).collect(), many: (!many.is_empty()).then(|| Box::new(Many::new(&many))) }
    }

    fn run(&self, text: &[u8], facts: &mut Facts) -> bool {
        let found = self.direct.iter().fold(false, |found, literal| literal.run(text, facts) | found);
        self.many.as_ref().is_some_and(|many| many.run(text, facts)) | found
    }

    fn memory_bytes(&self) -> usize {
        let direct: usize = self.direct.iter().map(|literal| size_of::<Literal>() + literal.finder.needle().len()).sum();
        direct + self.many.as_ref().map_or(0, |many| many.memory_bytes())
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

impl Many {
    fn new(given: &[(&&[u8], &Vec<Wanted>)]) -> Self {
        let (mut bytes, mut wanted, mut literals) = (Vec::new(), Vec::new(), Vec::new());
        for (text, decides) in given {
            bytes.extend_from_slice(text);
            wanted.extend_from_slice(decides);
            literals.push((Span { start: (bytes.len() - text.len()) as u32, end: bytes.len() as u32 }, wanted.len() as u32));
        }
        let numbered = |is_short: bool| {
            let texts = given.iter().zip(0..).map(|((text, _), number)| (number, **text));
            let mut texts = texts.filter(move |(_, text)| (text.len() < LongGrams::LITERAL_BYTES_MIN) == is_short).peekable();
            texts.peek().is_some().then_some(texts)
        };
        Self {
            prefilter: prefilter(given),
            grams: numbered(false).map(Grams::new),
            short: numbered(true).map(Grams::new),
            bytes: bytes.into(),
            wanted: wanted.into(),
            literals: literals.into(),
        }
    }

    fn run(&self, text: &[u8], facts: &mut Facts) -> bool {
        let from = match &self.prefilter {
            Some(searcher) if text.len() >= PREFILTER_TEXT_BYTES_MIN => match searcher.find(text) {
                Some(found) => found.start(),
                None => return false,
            },
            _ => 0,
        };
        let mut found = false;
        let mut look = |start, literal| found |= self.decide(literal, start, text, facts);
        if let Some(grams) = &self.grams {
            grams.candidates(text, from, &mut look);
        }
        if let Some(grams) = &self.short {
            grams.candidates(text, from, &mut look);
        }
        found
    }

    /// Whether a literal stands at `start`; if it does, decides what hangs on it.
    fn decide(&self, literal: u32, start: usize, text: &[u8], facts: &mut Facts) -> bool {
        let (span, last) = self.literals[literal as usize];
        let bytes = span.of(&self.bytes);
        let end = start + bytes.len();
        if text.get(start..end) != Some(bytes) {
            return false;
        }
        let first = (literal as usize).checked_sub(1).map_or(0, |before| self.literals[before].1);
        for wanted in &self.wanted[first as usize..last as usize] {
            if wanted.is_at(start, end, text.len()) {
                facts.set(wanted.atom);
            }
        }
        true
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.len()
            + size_of_val(&*self.wanted)
            + size_of_val(&*self.literals)
            + self.grams.as_ref().map_or(0, Grams::memory_bytes)
            + self.short.as_ref().map_or(0, Grams::memory_bytes)
            + self.prefilter.as_ref().map_or(0, Searcher::memory_usage)
    }
}

fn prefilter(literals: &[(&&[u8], &Vec<Wanted>)]) -> Option<Searcher> {
    let short = literals.iter().any(|(text, _)| text.len() < PREFILTER_LITERAL_BYTES_MIN);
    if short || literals.len() > PREFILTER_LITERALS_MAX {
        return None;
    }
    let texts = literals.iter().map(|(text, _)| **text);
    aho_corasick::packed::Config::new().match_kind(MatchKind::LeftmostFirst).builder().extend(texts).build()
}
