//! A few literals inside text, by a vectorised search (Teddy).
//!
//! Teddy shares its literals out among eight buckets, or sixteen if there are more than 32, and looks closer at a place where the
//! halves of the next bytes, up to four, are those of some literals in one bucket: not necessarily of the same one. Which literals
//! are together thus says how often it stops for nothing, which a processor cannot foresee. `aho-corasick` 1.1 goes by their order,
//! the nth to bucket n modulo eight, so they are given in an order that puts together what likely bytes do not mix. If it should
//! go by something else one day, this costs time and no match.

use aho_corasick::packed::{Config, MatchKind, Searcher};

use crate::event::Span;
use crate::matcher::typical::byte_likelihood;

/// Teddy takes up to this many, and half as many at its full speed.
pub(super) const LITERALS_MAX: usize = 64;
pub(super) const FAST_LITERALS_MAX: usize = LITERALS_MAX / 2;

/// Teddy looks at as many bytes of its literals as the shortest has, up to this many: those that are shorter are better searched
/// for apart, or it stops wherever a longer one may only begin.
pub(super) const FINGERPRINT_BYTES_MAX: usize = 4;

const BUCKETS: usize = 8;

/// Literals that are searched for together.
#[derive(Debug)]
pub(super) struct Packed {
    searcher: Searcher,
    /// The numbers of the literals, in the order of their texts.
    numbers: Box<[u32]>,
    /// What Teddy looks for, by its number there: the literals that begin with it, among `numbers`.
    heads: Box<[Span]>,
}

impl Packed {
    /// For literals with their numbers, sorted, none of them empty; nothing on processors that have no such search.
    pub(super) fn new(literals: &[(u32, &[u8])]) -> Option<Self> {
        let mut heads: Vec<Span> = Vec::new();
        for (index, (_, text)) in literals.iter().enumerate() {
            match heads.last_mut() {
                Some(head) if text.starts_with(literals[head.start as usize].1) => head.end += 1,
                _ => heads.push(Span::new(index, index + 1)),
            }
        }
        let text = |head: &Span| literals[head.start as usize].1;
        let texts: Vec<&[u8]> = heads.iter().map(text).collect();
        let heads: Box<[Span]> = in_buckets(&texts).into_iter().map(|index| heads[index]).collect();
        let searcher = Config::new().match_kind(MatchKind::LeftmostFirst).builder().extend(heads.iter().map(text)).build()?;
        Some(Self { searcher, numbers: literals.iter().map(|(number, _)| *number).collect(), heads })
    }

    /// Whether any literal stands anywhere in a text.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        self.searcher.find(text).is_some()
    }

    /// Calls `found` with every place where a literal may begin, and the literal.
    pub(super) fn candidates(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let mut from = 0;
        // No two heads stand at one place: none begins with another.
        while let Some(head) = self.searcher.find_in(text, (from..text.len()).into()) {
            let Span { start, end } = self.heads[head.pattern().as_usize()];
            self.numbers[start as usize..end as usize].iter().for_each(|number| found(head.start(), *number));
            from = head.start() + 1;
        }
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        self.searcher.memory_usage() + size_of_val(&*self.numbers) + size_of_val(&*self.heads)
    }
}

/// The halves of bytes that the literals of a bucket begin with.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    low: [u16; FINGERPRINT_BYTES_MAX],
    high: [u16; FINGERPRINT_BYTES_MAX],
    count: usize,
}

impl Bucket {
    fn with(mut self, fingerprint: &[u8]) -> Self {
        for ((low, high), byte) in self.low.iter_mut().zip(&mut self.high).zip(fingerprint) {
            *low |= 1 << (byte & 0xf);
            *high |= 1 << (byte >> 4);
        }
        self.count += 1;
        self
    }

    /// How likely a place of a log looks like one of its literals, of which so many bytes are looked at.
    fn likelihood(&self, bytes: usize) -> f64 {
        let halves = self.low.iter().zip(&self.high).take(bytes);
        let of_place = |(low, high): (&u16, &u16)| {
            let fits = |byte: &u8| low >> (byte & 0xf) & high >> (byte >> 4) & 1 == 1;
            (0..=u8::MAX).filter(fits).map(byte_likelihood).sum::<f64>()
        };
        if self.count == 0 { 0.0 } else { halves.map(of_place).product() }
    }
}

/// The order in which Teddy is given literals: those that many places look like choose first, and each the bucket that it makes
/// the least likelier.
fn in_buckets(texts: &[&[u8]]) -> Vec<usize> {
    let buckets = if texts.len() > FAST_LITERALS_MAX { 2 * BUCKETS } else { BUCKETS };
    let bytes = texts.iter().map(|text| text.len().min(FINGERPRINT_BYTES_MAX)).min().unwrap_or_default();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    if texts.len() <= buckets {
        return order;
    }
    let alone = |index: &usize| Bucket::default().with(&texts[*index][..bytes]).likelihood(bytes);
    order.sort_by(|a, b| alone(b).total_cmp(&alone(a)));
    let mut filled = vec![(Bucket::default(), Vec::new()); buckets];
    for index in order {
        let added = |bucket: &Bucket| bucket.with(&texts[index][..bytes]).likelihood(bytes) - bucket.likelihood(bytes);
        let room = |place: usize| (texts.len() - place).div_ceil(buckets);
        let open = filled.iter_mut().enumerate().filter(|(place, (bucket, _))| bucket.count < room(*place));
        let best = open.map(|(_, entry)| (added(&entry.0), entry)).min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, (bucket, members))) = best {
            *bucket = bucket.with(&texts[index][..bytes]);
            members.push(index);
        }
    }
    (0..texts.len()).map(|place| filled[place % buckets].1[place / buckets]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_filled_so_that_few_places_look_like_a_literal() {
        let texts = [
            "copy", "delete", "dump", "erase", "found", "grep", "more", "puts", "sftp ", "touch", "=$%7b", "/${#", "<svg ", "{{7*",
            "'1'='", "../..",
        ];
        let texts = texts.map(str::as_bytes);
        let likelihood = |order: &[usize]| {
            let bucket = |place: usize| {
                order.iter().skip(place).step_by(BUCKETS).fold(Bucket::default(), |all, index| all.with(&texts[*index][..4]))
            };
            (0..BUCKETS).map(|place| bucket(place).likelihood(4)).sum::<f64>()
        };
        let as_given: Vec<usize> = (0..texts.len()).collect();
        let order = in_buckets(&texts);
        assert!(order.iter().copied().collect::<BTreeSet<_>>().into_iter().eq(0..texts.len()), "{order:?}");
        assert!(likelihood(&order) < likelihood(&as_given) / 2.0, "{} {}", likelihood(&order), likelihood(&as_given));
    }

    proptest! {
        #[test]
        fn every_occurrence_is_found(
            literals in prop::collection::btree_set(prop::collection::vec(prop::sample::select(b"ab/\xff".to_vec()), 3..7), 1..LITERALS_MAX),
            text in prop::collection::vec(prop::sample::select(b"ab/\xff".to_vec()), 0..300),
        ) {
            let numbered: Vec<(u32, &[u8])> = (0..).zip(literals.iter().map(Vec::as_slice)).collect();
            // Not every processor has the search.
            if let Some(packed) = Packed::new(&numbered) {
                let mut found = Vec::new();
                packed.candidates(&text, |start, number| found.push((start, number)));
                found.retain(|(start, number)| text[*start..].starts_with(numbered[*number as usize].1));
                found.sort_unstable();
                let stands = |start: usize, literal: &[u8]| text[start..].starts_with(literal);
                let places = (0..text.len()).flat_map(|start| numbered.iter().map(move |(number, literal)| (start, *number, *literal)));
                let expected: Vec<_> = places.filter(|(start, _, literal)| stands(*start, literal)).map(|(start, number, _)| (start, number)).collect();
                prop_assert_eq!(packed.is_in(&text), !expected.is_empty());
                prop_assert_eq!(found, expected);
            }
        }
    }
}
