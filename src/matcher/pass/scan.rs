//! Literals inside text: all of one slot over the folded value, and those that are cased over the value as it is.
//!
//! Few literals are compared one by one, and so are those of one or two bytes. Many wait behind their grams ([`Grams`]). In a
//! whole event, long ones are looked for at fewer places, and a few short ones by vectorised searches (Teddy). In a long value
//! that search first tells whether any literal is there at all. "Starts with" and "ends with" are told by position.

use std::collections::BTreeMap;

use memchr::memmem::Finder;

use crate::event::Span;
use crate::matcher::TextOp;
use crate::matcher::atom::{AtomId, Leaf, Target};
use crate::matcher::pass::grams::Grams;
use crate::matcher::pass::packed::{self, Packed};
use crate::matcher::pass::{Facts, LeafAtoms};

/// How literals are found: the longer, the fewer places are looked at.
type FarGrams = Grams<4, 4>;
type MiddleGrams = Grams<4, 3>;
type NearGrams = Grams<4, 2>;
type ShortGrams = Grams<3, 1>;

/// What ways to search cost, in instructions as counted on records of a firewall and command lines: beginning one, and each
/// byte of text or place that is looked at.
const BEGIN_COST: f64 = 40.0;
const DIRECT_BYTE_COST: f64 = 0.4;
const GRAM_PLACE_COST: f64 = 5.0;

/// Teddy stops more often the more literals it has, and everywhere if they have less than three bytes.
const PACKED_BYTE_COST: f64 = 0.65;
const PACKED_LITERAL_BYTE_COST: f64 = 0.035;

/// In shorter values a walk is as fast as asking before.
const ASKED_BEFORE_BYTES_MIN: usize = 128;

/// Bytes of text in a value and in an event, to guess what a search costs.
const BYTES_OF_VALUE: f64 = 60.0;
const BYTES_OF_EVENT: f64 = 900.0;

/// The literals of one slot.
#[derive(Debug)]
pub(in crate::matcher) struct Scan {
    searches: Searches,
    /// In an event: the same for the literals that may have a backslash of `\"` or `\\`.
    over_escapes: Option<Box<Searches>>,
    /// Atoms of the empty literal, which every text contains.
    anything: Vec<AtomId>,
    has_positions: bool,
}

/// Literals of both case rules.
#[derive(Debug)]
pub(in crate::matcher) struct Searches {
    uncased: Search,
    cased: Search,
}

/// The literals of one case rule.
#[derive(Debug, Default)]
struct Search {
    direct: Box<[Literal]>,
    /// Those that are not all ASCII: most texts are, and have none of them.
    direct_other: Box<[Literal]>,
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

/// Literals that are found together.
#[derive(Debug)]
struct Many {
    asked_before: Option<Packed>,
    walks: Vec<Walk>,
    /// All literals, one behind the other.
    bytes: Box<[u8]>,
    wanted: Box<[Wanted]>,
    /// By literal: its bytes, and where what it decides ends.
    literals: Box<[(Span, u32)]>,
}

/// One walk through a text.
#[derive(Debug)]
enum Walk {
    Far(FarGrams),
    Middle(MiddleGrams),
    Near(NearGrams),
    Short(ShortGrams),
    Packed(Packed),
}

/// How literals of about one length are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    OneByOne,
    Packed,
    /// At every so many places.
    Grams(usize),
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
        let over_escapes = literals.each_ref().map(|literals| {
            let some = literals.iter().filter(|(text, _)| target == Target::Event && is_over_escapes(text));
            some.map(|(text, wanted)| (*text, wanted.clone())).collect::<BTreeMap<_, _>>()
        });
        let is_met = over_escapes.iter().any(|literals| !literals.is_empty());
        Self {
            searches: Searches::new(literals, target),
            over_escapes: is_met.then(|| Box::new(Searches::new(over_escapes, target))),
            anything,
            has_positions,
        }
    }

    /// Whether a literal must stand at a certain place, so that a value is not decided by what surrounds it.
    pub(super) fn has_positions(&self) -> bool {
        self.has_positions
    }

    /// Decides the atoms for a text, also given folded; returns whether any literal occurs anywhere.
    pub(super) fn run(&self, text: &[u8], folded: &[u8], facts: &mut Facts) -> bool {
        facts.set_all(&self.anything);
        let found = !self.anything.is_empty();
        found | self.searches.run(text, folded, facts)
    }

    /// What is left to search for in an event as it came that has no escapes but `\"` and `\\`, and is decided without them.
    pub(super) fn over_escapes(&self) -> Option<&Searches> {
        self.over_escapes.as_deref()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.searches.memory_bytes() + self.over_escapes.as_ref().map_or(0, |searches| size_of::<Searches>() + searches.memory_bytes())
    }
}

impl Searches {
    fn new(literals: [BTreeMap<&[u8], Vec<Wanted>>; 2], target: Target) -> Self {
        let [uncased, cased] = literals.map(|literals| Search::new(literals, target));
        Self { uncased, cased }
    }

    /// Decides the atoms of literals in a text, also given folded; returns whether any occurs anywhere.
    pub(super) fn run(&self, text: &[u8], folded: &[u8], facts: &mut Facts) -> bool {
        self.uncased.run(folded, facts) | self.cased.run(text, facts)
    }

    fn memory_bytes(&self) -> usize {
        self.uncased.memory_bytes() + self.cased.memory_bytes()
    }
}

impl Search {
    fn new(literals: BTreeMap<&[u8], Vec<Wanted>>, target: Target) -> Self {
        let lens = literals.keys().map(|text| text.len()).filter(|len| *len >= ShortGrams::LITERAL_BYTES_MIN);
        let plan = |(long_bytes_min, stride): (usize, usize)| {
            let (short, long): (Vec<usize>, Vec<usize>) = lens.clone().partition(|len| *len < long_bytes_min);
            let (short_cost, short) = Way::cheapest(&short, ShortGrams::STRIDE, target);
            let (long_cost, long) = Way::cheapest(&long, stride, target);
            (short_cost + long_cost, [short, long], long_bytes_min)
        };
        let near = plan((NearGrams::LITERAL_BYTES_MIN, NearGrams::STRIDE));
        let others = [(MiddleGrams::LITERAL_BYTES_MIN, MiddleGrams::STRIDE), (FarGrams::LITERAL_BYTES_MIN, FarGrams::STRIDE)];
        // A value is too short to make up for more grams.
        let others = others.into_iter().filter(|_| target == Target::Event).map(plan);
        let (_, [short, long], long_bytes_min) = others.fold(near, |best, other| if other.0 <= best.0 { other } else { best });
        let way = |text: &[u8]| match text.len() {
            0..ShortGrams::LITERAL_BYTES_MIN => Way::OneByOne,
            len if len < long_bytes_min => short,
            _ => long,
        };
        let (direct, many): (Vec<_>, Vec<_>) = literals.iter().partition(|(text, _)| way(text) == Way::OneByOne);
        let literal = |(text, wanted): (&&[u8], &Vec<Wanted>)| Literal { finder: Finder::new(*text).into_owned(), wanted: wanted.clone() };
        let (other, ascii): (Vec<_>, Vec<_>) = direct.into_iter().map(literal).partition(|literal| !literal.finder.needle().is_ascii());
        Self { direct: ascii.into(), direct_other: other.into(), many: (!many.is_empty()).then(|| Box::new(Many::new(&many, way, target))) }
    }

    fn run(&self, text: &[u8], facts: &mut Facts) -> bool {
        let mut found = self.direct.iter().fold(false, |found, literal| literal.run(text, facts) | found);
        if !self.direct_other.is_empty() && !text.is_ascii() {
            found = self.direct_other.iter().fold(found, |found, literal| literal.run(text, facts) | found);
        }
        self.many.as_ref().is_some_and(|many| many.run(text, facts)) | found
    }

    fn memory_bytes(&self) -> usize {
        let direct = self.direct.iter().chain(&self.direct_other);
        let direct: usize = direct.map(|literal| size_of::<Literal>() + literal.finder.needle().len()).sum();
        direct + self.many.as_ref().map_or(0, |many| many.memory_bytes())
    }
}

impl Way {
    /// The cheapest way for literals of so many bytes, and what it costs.
    fn cheapest(lens: &[usize], stride: usize, target: Target) -> (f64, Self) {
        if lens.is_empty() {
            return (0.0, Self::OneByOne);
        }
        let bytes = if target == Target::Event { BYTES_OF_EVENT } else { BYTES_OF_VALUE };
        let one_by_one = (lens.len() as f64 * (BEGIN_COST + DIRECT_BYTE_COST * bytes), Self::OneByOne);
        let grams = (BEGIN_COST + GRAM_PLACE_COST / stride as f64 * bytes, Self::Grams(stride));
        let tiny = lens.iter().filter(|len| **len < packed::FINGERPRINT_BYTES_MAX).count();
        let packs = || [tiny, lens.len() - tiny].into_iter().filter(|count| *count > 0);
        let packed = packs().map(|count| BEGIN_COST + (PACKED_BYTE_COST + PACKED_LITERAL_BYTE_COST * count as f64) * bytes).sum();
        // In values, which are short, Teddy begins too often; among long literals it stops too often.
        let is_fit = target == Target::Event && stride == ShortGrams::STRIDE && packs().all(|count| count <= packed::FAST_LITERALS_MAX);
        let others = [grams, (packed, Self::Packed)].into_iter().take(1 + usize::from(is_fit));
        others.fold(one_by_one, |best, other| if other.0 < best.0 { other } else { best })
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
    fn new(given: &[(&&[u8], &Vec<Wanted>)], way: impl Fn(&[u8]) -> Way, target: Target) -> Self {
        let (mut bytes, mut wanted, mut literals) = (Vec::new(), Vec::new(), Vec::new());
        for (text, decides) in given {
            bytes.extend_from_slice(text);
            wanted.extend_from_slice(decides);
            literals.push((Span { start: (bytes.len() - text.len()) as u32, end: bytes.len() as u32 }, wanted.len() as u32));
        }
        let numbered = || given.iter().zip(0..).map(|((text, _), number)| (number, **text));
        let walks_of = |own: Way| {
            let of_way = numbered().filter(|(_, text)| way(text) == own);
            let (tiny, others): (Vec<_>, Vec<_>) =
                of_way.partition(|(_, text)| own == Way::Packed && text.len() < packed::FINGERPRINT_BYTES_MAX);
            [tiny, others].into_iter().filter(|of| !of.is_empty()).map(move |of| Walk::new(own, &of))
        };
        let strides = [ShortGrams::STRIDE, NearGrams::STRIDE, MiddleGrams::STRIDE, FarGrams::STRIDE];
        let walks = strides.map(Way::Grams).into_iter().chain([Way::Packed]).flat_map(walks_of).collect();
        let is_asked = target != Target::Event && given.len() <= packed::LITERALS_MAX;
        let asked_before = is_asked.then(|| Packed::new(&numbered().collect::<Vec<_>>())).flatten();
        Self { asked_before, walks, bytes: bytes.into(), wanted: wanted.into(), literals: literals.into() }
    }

    fn run(&self, text: &[u8], facts: &mut Facts) -> bool {
        if text.len() >= ASKED_BEFORE_BYTES_MIN && self.asked_before.as_ref().is_some_and(|packed| !packed.is_in(text)) {
            return false;
        }
        let mut found = false;
        let mut look = |start, literal| found |= self.decide(literal, start, text, facts);
        for walk in &self.walks {
            match walk {
                Walk::Far(grams) => grams.candidates(text, &mut look),
                Walk::Middle(grams) => grams.candidates(text, &mut look),
                Walk::Near(grams) => grams.candidates(text, &mut look),
                Walk::Short(grams) => grams.candidates(text, &mut look),
                Walk::Packed(packed) => packed.candidates(text, &mut look),
            }
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
            + self.walks.iter().map(Walk::memory_bytes).sum::<usize>()
            + self.asked_before.as_ref().map_or(0, Packed::memory_bytes)
    }
}

impl Walk {
    fn new(way: Way, literals: &[(u32, &[u8])]) -> Self {
        let numbered = || literals.iter().copied();
        match way {
            Way::Packed => Packed::new(literals).map_or_else(|| Self::Short(Grams::new(numbered())), Self::Packed),
            Way::Grams(FarGrams::STRIDE) => Self::Far(Grams::new(numbered())),
            Way::Grams(MiddleGrams::STRIDE) => Self::Middle(Grams::new(numbered())),
            Way::Grams(NearGrams::STRIDE) => Self::Near(Grams::new(numbered())),
            Way::Grams(_) | Way::OneByOne => Self::Short(Grams::new(numbered())),
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Far(grams) => grams.memory_bytes(),
            Self::Middle(grams) => grams.memory_bytes(),
            Self::Near(grams) => grams.memory_bytes(),
            Self::Short(grams) => grams.memory_bytes(),
            Self::Packed(packed) => packed.memory_bytes(),
        }
    }
}

/// Whether a text that has no escapes but `\"` and `\\` may have a literal in it that it has not without them: one that has a
/// backslash of such an escape, and goes on as an escape does. A backslash before anything else than it or a quote is the second
/// half of one, and stands there without escapes as well.
fn is_over_escapes(literal: &[u8]) -> bool {
    let first_run = literal.iter().take_while(|byte| **byte == b'\\').count();
    let mut rest = &literal[first_run..];
    let is_second_half = first_run == 1 && rest.first().is_some_and(|byte| *byte != b'"');
    let mut has_part = first_run > 0 && !is_second_half;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        match rest.get(at + 1) {
            Some(b'"' | b'\\') => rest = &rest[at + 2..],
            Some(_) => return false,
            None => return true,
        }
        has_part = true;
    }
    has_part
}
