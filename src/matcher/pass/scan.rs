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

/// The same for a slot, whose values are short; the walk for short literals is twice as long.
const DIRECT_OF_SLOT_MAX: usize = 1;
const DIRECT_SHORT_OF_SLOT_MAX: usize = 4;

/// Teddy takes up to this many.
const PREFILTER_LITERALS_MAX: usize = 64;

/// Teddy looks for the first bytes of literals; with shorter ones it stops everywhere.
const PREFILTER_LITERAL_BYTES_MIN: usize = 3;

/// In shorter text the walk is as fast. In 560 bytes of URI, Teddy was 6 times faster with 20 literals that
/// begin like nothing in it, and 2.4 times slower with 20 that all begin like its words.
const PREFILTER_TEXT_BYTES_MIN: usize = 128;

/// How most literals are found.
type LongGrams = Grams<4, 2>;

/// How those are found that are too short for that, in a value.
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
    short: Option<Short>,
    /// All literals, one behind the other.
    bytes: Box<[u8]>,
    wanted: Box<[Wanted]>,
    /// By literal: its bytes, and where what it decides ends.
    literals: Box<[(Span, u32)]>,
}

/// Literals that are too short for long grams.
#[derive(Debug)]
enum Short {
    Grams(ShortGrams),
    /// For a whole event, through which the walk takes a step for each byte. With the numbers of the literals.
    Packed(Searcher, Box<[u32]>),
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
        let [uncased, cased] = literals.map(|literals| Search::new(literals, target));
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
    fn new(literals: BTreeMap<&[u8], Vec<Wanted>>, target: Target) -> Self {
        let short = literals.keys().filter(|text| is_short(text)).count();
        let long = literals.len() - short;
        let [short_max, long_max] = match target {
            Target::Event => [DIRECT_OF_EVENT_MAX, DIRECT_OF_EVENT_MAX],
            Target::Slot(_) => [DIRECT_SHORT_OF_SLOT_MAX, DIRECT_OF_SLOT_MAX],
        };
        let is_direct = |text: &[u8]| match is_short(text) {
            true => text.len() < ShortGrams::LITERAL_BYTES_MIN || short <= short_max,
            false => long <= long_max,
        };
        let (direct, many): (Vec<_>, Vec<_>) = literals.iter().partition(|(text, _)| is_direct(text));
        let literal = |(text, wanted): (&&[u8], &Vec<Wanted>)| Literal { finder: Finder::new(*text).into_owned(), wanted: wanted.clone() };
        Self { direct: direct.into_iter().map(literal).collect(), many: (!many.is_empty()).then(|| Box::new(Many::new(&many, target))) }
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
    fn new(given: &[(&&[u8], &Vec<Wanted>)], target: Target) -> Self {
        let (mut bytes, mut wanted, mut literals) = (Vec::new(), Vec::new(), Vec::new());
        for (text, decides) in given {
            bytes.extend_from_slice(text);
            wanted.extend_from_slice(decides);
            literals.push((Span { start: (bytes.len() - text.len()) as u32, end: bytes.len() as u32 }, wanted.len() as u32));
        }
        let numbered = given.iter().zip(0..).map(|((text, _), number)| (number, **text));
        let (short, long): (Vec<_>, Vec<_>) = numbered.partition(|(_, text)| is_short(text));
        Self {
            prefilter: searcher(given.iter().map(|(text, _)| **text)),
            grams: (!long.is_empty()).then(|| Grams::new(long.into_iter())),
            short: (!short.is_empty()).then(|| Short::new(&short, target)),
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
        match &self.short {
            Some(Short::Grams(grams)) => grams.candidates(text, from, &mut look),
            Some(Short::Packed(searcher, numbers)) => self.packed(searcher, numbers, text, from, &mut look),
            None => {}
        }
        found
    }

    /// Calls `look` with each place where one of the short literals stands, and the literal.
    fn packed(&self, searcher: &Searcher, numbers: &[u32], text: &[u8], mut from: usize, look: &mut impl FnMut(usize, u32)) {
        while let Some(found) = searcher.find_in(text, (from..text.len()).into()) {
            // The first that stands there; longer ones that begin like it come behind it.
            let begins_like =
                |number: &&u32| self.literals[**number as usize].0.of(&self.bytes).starts_with(&text[found.start()..found.end()]);
            numbers[found.pattern().as_usize()..].iter().take_while(begins_like).for_each(|number| look(found.start(), *number));
            from = found.start() + 1;
        }
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
            + self.short.as_ref().map_or(0, Short::memory_bytes)
            + self.prefilter.as_ref().map_or(0, Searcher::memory_usage)
    }
}

impl Short {
    fn new(literals: &[(u32, &[u8])], target: Target) -> Self {
        let packed = (target == Target::Event).then(|| searcher(literals.iter().map(|(_, text)| *text))).flatten();
        match packed {
            Some(packed) => Self::Packed(packed, literals.iter().map(|(number, _)| *number).collect()),
            None => Self::Grams(Grams::new(literals.iter().copied())),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Grams(grams) => grams.memory_bytes(),
            Self::Packed(searcher, numbers) => searcher.memory_usage() + size_of_val(&**numbers),
        }
    }
}

fn is_short(text: &[u8]) -> bool {
    text.len() < LongGrams::LITERAL_BYTES_MIN
}

/// A vectorised search for literals, if they are few and long enough for it.
fn searcher<'a>(literals: impl Iterator<Item = &'a [u8]> + Clone) -> Option<Searcher> {
    let is_fit =
        literals.clone().all(|text| text.len() >= PREFILTER_LITERAL_BYTES_MIN) && literals.clone().count() <= PREFILTER_LITERALS_MAX;
    is_fit.then(|| aho_corasick::packed::Config::new().match_kind(MatchKind::LeftmostFirst).builder().extend(literals).build()).flatten()
}
