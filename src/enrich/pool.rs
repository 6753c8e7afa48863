//! Byte strings, each once, one after the other in one buffer, found by hash.
//!
//! Open addressing over 4 bytes a place, at most half full: the number of a string, which needs one bit less than the places
//! have, and above it bits of its hash, 12 among a million strings, so that few others are compared. Tables come from the
//! operator and the hash is seeded, so no sender can make strings collide.

use std::hash::BuildHasher as _;

use foldhash::quality::RandomState;

/// The strings; their numbers count from 0 in the order of insertion.
pub(super) struct Pool {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// A power of two.
    places: Vec<u32>,
    /// Of the kind whose low bits, which choose the place, are spread with every seed.
    hasher: RandomState,
}

/// No string is there. The number of one is never all ones: so many would be more than half.
const FREE: u32 = u32::MAX;

impl Pool {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new(), places: vec![FREE; 16], hasher: RandomState::default() }
    }

    /// The number of a string, new or not. All strings together are shorter than 4 GiB, because their file is.
    pub(super) fn insert(&mut self, text: &[u8]) -> u32 {
        if (self.ends.len() + 1) * 2 >= self.places.len() {
            self.grow();
        }
        let (tag, at) = self.locate(text);
        let place = self.places[at];
        if place != FREE {
            return place & self.numbers();
        }
        let number = self.ends.len() as u32;
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
        self.places[at] = tag | number;
        number
    }

    /// The number of a string that is there.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        let (_, at) = self.locate(text);
        Some(self.places[at]).filter(|place| *place != FREE).map(|place| place & self.numbers())
    }

    /// Gives back what was allocated for strings to come.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    /// A string by its number.
    pub(super) fn bytes(&self, number: u32) -> &[u8] {
        let number = number as usize;
        let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        &self.bytes[start..self.ends[number] as usize]
    }

    /// The bits of a place that are a number.
    fn numbers(&self) -> u32 {
        (self.places.len() / 2 - 1) as u32
    }

    /// The bits of its hash that stand in a string's place; and that place, or the free one where it belongs. There always is a
    /// free one.
    fn locate(&self, text: &[u8]) -> (u32, usize) {
        let hash = self.hasher.hash_one(text);
        let (numbers, mask) = (self.numbers(), self.places.len() - 1);
        let tag = (hash >> 32) as u32 & !numbers;
        let mut at = hash as usize & mask;
        loop {
            let place = self.places[at];
            if place == FREE || (place & !numbers == tag && self.bytes(place & numbers) == text) {
                return (tag, at);
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        self.places = vec![FREE; self.places.len() * 2];
        for number in 0..self.ends.len() as u32 {
            // It meets none that is like it.
            let (tag, at) = self.locate(self.bytes(number));
            self.places[at] = tag | number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_keeps_its_number_while_the_pool_grows() {
        let mut pool = Pool::new();
        let text = |n: u32| format!("{}-{n}", "x".repeat(n as usize % 40));
        for n in 0..10_000 {
            assert_eq!(pool.find(text(n).as_bytes()), None);
            assert_eq!(pool.insert(text(n).as_bytes()), n);
            assert_eq!(pool.insert(text(n / 2).as_bytes()), n / 2);
        }
        for n in 0..10_000 {
            assert_eq!(pool.find(text(n).as_bytes()), Some(n));
            assert_eq!(pool.bytes(n), text(n).as_bytes());
        }
        assert_eq!(pool.find(b"absent"), None);
    }

    #[test]
    fn a_full_table_has_free_places_and_finds_all_and_nothing_else() {
        let mut pool = Pool::new();
        for n in 0..70_000_u32 {
            assert_eq!(pool.insert(&n.to_be_bytes()), n);
            // Right before it grows, numbers are the largest that there can be.
            if (n + 2) * 2 == pool.places.len() as u32 {
                assert!((0..=n).all(|n| pool.find(&n.to_be_bytes()) == Some(n)));
                assert!((n + 1..2 * n).all(|n| pool.find(&n.to_be_bytes()).is_none()));
                assert_eq!(pool.places.iter().filter(|place| **place != FREE).count(), n as usize + 1);
            }
        }
    }

    #[test]
    fn the_empty_string_is_a_string() {
        let mut pool = Pool::new();
        assert_eq!(pool.find(b""), None);
        assert_eq!((pool.insert(b""), pool.insert(b"a"), pool.insert(b"")), (0, 1, 0));
        assert_eq!(pool.bytes(0), b"");
        assert_eq!(pool.bytes(1), b"a");
    }
}
