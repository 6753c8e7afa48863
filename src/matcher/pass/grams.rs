//! Many literals inside text, each found by one of its grams.
//!
//! A gram is `W` bytes in a row. A text is walked once, and the gram at every `S`th place is looked up in a table that
//! stays in the nearest cache. So that none is overlooked, each literal waits behind `S` of its grams that follow each
//! other, those that are least likely in a log. Places depend on nothing that was found before, unlike the states of
//! an automaton, so a processor looks at several at once: an automaton for 150 keywords took 3.5 ns a byte of a WAF
//! record, this takes 0.4. Where the table says "maybe", the literals behind the gram are compared as a whole.
//!
//! At worst each place of a text costs a comparison with all literals behind one gram, of which there are few: a gram
//! that is taken costs more than a free one of the same likelihood.

use std::collections::HashMap;

use crate::matcher::typical::gram_likelihood;

/// Sizes of the table, each for so many grams that a small part of it is taken.
const SMALL: usize = 1 << 11;
const MEDIUM: usize = 1 << 14;
const LARGE: usize = 1 << 17;

/// Cells of the table for each gram: one place in so many is looked at in vain. More than a large table has room for
/// stop the walk more often.
const CELLS_PER_GRAM: usize = 32;

/// Tag of a cell that more than one gram has; all others are odd.
const SEVERAL: u8 = 2;

/// Bytes of the longest gram: one load.
const GRAM_BYTES_MAX: usize = size_of::<u32>();

/// Places that are looked up before the first branch.
const BLOCK: usize = 8;

/// More literals than this wait behind one gram only if they have no other.
const BEHIND_ONE_GRAM: u32 = 8;

/// What looking behind a gram costs before the first comparison, in comparisons.
const PROBE_COMPARISONS: f64 = 2.0;

/// A literal behind a gram.
#[derive(Clone, Copy, Debug)]
struct Entry {
    literal: u32,
    /// Where the gram begins in it.
    offset: u32,
}

/// A gram and its entries.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    gram: u32,
    first: u32,
    /// 0 in a free cell.
    count: u32,
}

/// Whether a gram may be there: 0 where none is, the tag of the only one, or [`SEVERAL`].
#[derive(Debug)]
enum Filter {
    Small(Box<[u8; SMALL]>),
    Medium(Box<[u8; MEDIUM]>),
    Large(Box<[u8; LARGE]>),
}

impl Filter {
    fn new(grams: impl ExactSizeIterator<Item = u32>) -> Self {
        let wanted = grams.len() * CELLS_PER_GRAM;
        if wanted <= SMALL {
            Self::Small(filled(grams))
        } else if wanted <= MEDIUM {
            Self::Medium(filled(grams))
        } else {
            Self::Large(filled(grams))
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Self::Small(_) => SMALL,
            Self::Medium(_) => MEDIUM,
            Self::Large(_) => LARGE,
        }
    }
}

fn filled<const N: usize>(grams: impl Iterator<Item = u32>) -> Box<[u8; N]> {
    let mut filter: Box<[u8; N]> = vec![0; N].try_into().unwrap_or_else(|_| Box::new([0; N]));
    for gram in grams {
        let cell = &mut filter[cell_of::<N>(gram)];
        *cell = if *cell == 0 { tag_of(gram) } else { SEVERAL };
    }
    filter
}

/// Literals of at least `W + S - 1` bytes by their grams.
#[derive(Debug)]
pub(super) struct Grams<const W: usize, const S: usize> {
    filter: Filter,
    /// Open addressing; a power of two, at most half full.
    cells: Box<[Cell]>,
    entries: Box<[Entry]>,
}

impl<const W: usize, const S: usize> Grams<W, S> {
    /// The shortest literal that it can find.
    pub(super) const LITERAL_BYTES_MIN: usize = W + S - 1;

    /// Every so many places are looked at.
    pub(super) const STRIDE: usize = S;

    /// For literals with their numbers.
    pub(super) fn new<'a>(literals: impl Iterator<Item = (u32, &'a [u8])>) -> Self {
        let mut behind: HashMap<u32, Vec<Entry>, foldhash::fast::RandomState> = HashMap::default();
        for (literal, text) in literals {
            let cost = |gram: &[u8]| {
                let comparisons = match behind.get(&key::<W>(gram)).map_or(0, |entries| entries.len() as u32) {
                    0 => 1.0 + PROBE_COMPARISONS,
                    1..BEHIND_ONE_GRAM => 1.0,
                    count => f64::from(count),
                };
                gram_likelihood(gram) * comparisons
            };
            let costs: Vec<f64> = text.windows(W).map(cost).collect();
            let runs = costs.windows(S).map(|run| run.iter().sum::<f64>());
            let Some((offset, _)) = runs.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
            for (offset, gram) in text.windows(W).enumerate().skip(offset).take(S) {
                behind.entry(key::<W>(gram)).or_default().push(Entry { literal, offset: offset as u32 });
            }
        }
        let mut grams = Self {
            filter: Filter::new(behind.keys().copied()),
            cells: vec![Cell::default(); (behind.len() * 2).next_power_of_two()].into(),
            entries: Box::default(),
        };
        let mut entries = Vec::new();
        for (gram, behind) in behind {
            grams.insert(Cell { gram, first: entries.len() as u32, count: behind.len() as u32 });
            entries.extend(behind);
        }
        grams.entries = entries.into();
        grams
    }

    fn insert(&mut self, cell: Cell) {
        let mask = self.cells.len() - 1;
        let mut index = self.first_index(cell.gram);
        while self.cells[index].count != 0 {
            index = (index + 1) & mask;
        }
        self.cells[index] = cell;
    }

    /// Calls `found` with every place where a literal may begin, and the literal: its gram is in `text` there.
    #[inline]
    pub(super) fn candidates(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let look = |at: usize, gram| {
            for entry in self.behind(gram) {
                if let Some(start) = at.checked_sub(entry.offset as usize) {
                    found(start, entry.literal);
                }
            }
        };
        match &self.filter {
            Filter::Small(filter) => walk::<W, S, _>(filter, text, look),
            Filter::Medium(filter) => walk::<W, S, _>(filter, text, look),
            Filter::Large(filter) => walk::<W, S, _>(filter, text, look),
        }
    }

    /// What waits behind a gram.
    fn behind(&self, gram: u32) -> &[Entry] {
        let mask = self.cells.len() - 1;
        let mut index = self.first_index(gram);
        loop {
            let cell = self.cells[index];
            if cell.count == 0 || cell.gram == gram {
                return &self.entries[cell.first as usize..][..cell.count as usize];
            }
            index = (index + 1) & mask;
        }
    }

    /// Where a gram stands if no other does. By the upper bits: the lowest follow from the first byte of the gram alone.
    fn first_index(&self, gram: u32) -> usize {
        ((u64::from(mixed(gram)) * self.cells.len() as u64) >> u32::BITS) as usize
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        self.filter.memory_bytes() + size_of_val(&*self.cells) + size_of_val(&*self.entries)
    }
}

/// Calls `look` with the place of every `S`th gram that `filter` may have, and the gram; with some of them twice.
#[inline]
fn walk<const W: usize, const S: usize, const N: usize>(filter: &[u8; N], text: &[u8], mut look: impl FnMut(usize, u32)) {
    let places = (text.len() + S).saturating_sub(GRAM_BYTES_MAX) / S;
    // The last block ends with the last place: going back a little costs less than going on place by place.
    let Some(last) = places.checked_sub(BLOCK).map(|place| place * S) else { return look_at_some::<W, S, N>(filter, text, 0, &mut look) };
    let mut at = 0;
    while let Some(block) = text.get(at..at + (BLOCK - 1) * S + GRAM_BYTES_MAX) {
        let mut any = 0;
        for place in 0..BLOCK {
            any |= filter[cell_of::<N>(key::<W>(&block[place * S..place * S + GRAM_BYTES_MAX]))];
        }
        if any != 0 {
            look_at_some::<W, S, N>(filter, &block[..(BLOCK - 1) * S + W], at, &mut look);
        }
        if at == last {
            break;
        }
        at = (at + BLOCK * S).min(last);
    }
    if W < GRAM_BYTES_MAX {
        look_at_some::<W, S, N>(filter, &text[places * S..], places * S, &mut look);
    }
}

/// The same for a piece of the text that begins at `at` and has few places: by their tags, and without a branch for each. Not
/// inlined: the loop over blocks would keep all that it looked up, for the one block in some that asks again.
#[inline(never)]
fn look_at_some<const W: usize, const S: usize, const N: usize>(
    filter: &[u8; N],
    piece: &[u8],
    at: usize,
    look: &mut impl FnMut(usize, u32),
) {
    let may_be = |gram: u32| {
        let tag = filter[cell_of::<N>(gram)];
        tag == tag_of(gram) || tag == SEVERAL
    };
    let mut places = 0_u32;
    for (place, gram) in piece.windows(W).step_by(S).enumerate() {
        places |= u32::from(may_be(key::<W>(gram))) << place;
    }
    while places != 0 {
        let place = places.trailing_zeros() as usize * S;
        look(at + place, key::<W>(&piece[place..]));
        places &= places - 1;
    }
}

/// Where a gram stands in a table of `N` cells.
#[inline]
fn cell_of<const N: usize>(gram: u32) -> usize {
    mixed(gram) as usize / (usize::pow(2, 32) / N)
}

/// What tells most grams of one cell apart, by bits that no size of the table goes by.
#[inline]
fn tag_of(gram: u32) -> u8 {
    (mixed(gram) >> 7) as u8 | 1
}

#[inline]
fn mixed(gram: u32) -> u32 {
    gram.wrapping_mul(0x9e37_79b1)
}

/// The first `W` bytes as a number.
#[inline]
fn key<const W: usize>(bytes: &[u8]) -> u32 {
    let number = match bytes.first_chunk() {
        Some(bytes) => u32::from_le_bytes(*bytes),
        None => bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)),
    };
    number & (u32::MAX >> (8 * (GRAM_BYTES_MAX - W)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every occurrence of every literal, as the walk tells and as a plain search does.
    fn occurrences<const W: usize, const S: usize>(literals: &[Vec<u8>], text: &[u8]) -> [Vec<(usize, u32)>; 2] {
        let numbered = || literals.iter().zip(0..).map(|(literal, number)| (number, literal.as_slice()));
        let grams = Grams::<W, S>::new(numbered());
        let mut told = Vec::new();
        grams.candidates(text, |start, literal| {
            if text.get(start..).is_some_and(|rest| rest.starts_with(&literals[literal as usize])) {
                told.push((start, literal));
            }
        });
        told.sort_unstable();
        told.dedup();
        let found = |start: usize| numbered().filter(move |(_, literal)| text[start..].starts_with(literal)).map(move |(n, _)| (start, n));
        [told, (0..text.len()).flat_map(found).collect()]
    }

    proptest! {
        #[test]
        fn no_occurrence_is_overlooked(
            literals in prop::collection::btree_set(prop::collection::vec(prop::sample::select(b"ab/%\xff".to_vec()), 5..12), 1..400),
            text in prop::collection::vec(prop::sample::select(b"ab/%\xff".to_vec()), 0..300),
        ) {
            let literals: Vec<_> = literals.into_iter().collect();
            for [told, expected] in [occurrences::<3, 1>(&literals, &text), occurrences::<4, 2>(&literals, &text)] {
                prop_assert_eq!(told, expected);
            }
            let long: Vec<_> = literals.into_iter().filter(|literal| literal.len() >= Grams::<4, 4>::LITERAL_BYTES_MIN).collect();
            let [told, expected] = occurrences::<4, 4>(&long, &text);
            prop_assert_eq!(told, expected);
        }
    }

    #[test]
    fn every_size_of_the_table_finds_its_literals() {
        for count in [1_usize, 30, 300, 6_000] {
            let literals: Vec<_> = (0..count).map(|number| format!("<{number:05}>").into_bytes()).collect();
            let text = literals.concat();
            let [told, expected] = occurrences::<4, 2>(&literals[..count.min(50)], &text[..text.len().min(700)]);
            assert_eq!((told.len(), told), (count.min(50), expected));
            let grams = Grams::<4, 2>::new(literals.iter().zip(0..).map(|(literal, number)| (number, literal.as_slice())));
            let mut found = vec![false; count];
            grams.candidates(&text, |start, literal| found[literal as usize] |= text[start..].starts_with(&literals[literal as usize]));
            assert!(found.iter().all(|found| *found), "{count}");
            assert!(grams.memory_bytes() > 0);
        }
    }
}
