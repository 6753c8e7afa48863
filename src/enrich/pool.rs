//! Byte strings, each once, one after the other in one buffer, found by hash.
//!
//! Open addressing over 8 bytes a place, at most half full. Tables come from the operator and the hash is
//! seeded, so no sender can make strings collide.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

/// The strings; their numbers count from 0 in the order of insertion.
pub(super) struct Pool {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    places: Vec<Place>,
    hasher: RandomState,
}

/// The upper half of the hash, and the string's number.
#[derive(Clone, Copy)]
struct Place {
    tag: u32,
    number: u32,
}

const FREE: Place = Place { tag: 0, number: u32::MAX };

impl Pool {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new(), places: vec![FREE; 16], hasher: RandomState::default() }
    }

    /// The number of a string, new or not. All strings together are shorter than 4 GiB, because their file is.
    pub(super) fn insert(&mut self, text: &[u8]) -> u32 {
        if (self.ends.len() + 1) * 2 > self.places.len() {
            self.grow();
        }
        let (tag, at) = self.locate(text);
        let place = self.places[at];
        if place.number != FREE.number {
            return place.number;
        }
        let number = self.ends.len() as u32;
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u32);
        self.places[at] = Place { tag, number };
        number
    }

    /// The number of a string that is there.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        let (_, at) = self.locate(text);
        Some(self.places[at].number).filter(|number| *number != FREE.number)
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

    /// The place of a string, or the free place where it belongs. There always is a free one.
    fn locate(&self, text: &[u8]) -> (u32, usize) {
        let hash = self.hasher.hash_one(text);
        let (tag, mask) = ((hash >> 32) as u32, self.places.len() - 1);
        let mut at = hash as usize & mask;
        loop {
            let place = self.places[at];
            if place.number == FREE.number || (place.tag == tag && self.bytes(place.number) == text) {
                return (tag, at);
            }
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let mask = self.places.len() * 2 - 1;
        let mut places = vec![FREE; mask + 1];
        for number in 0..self.ends.len() as u32 {
            let hash = self.hasher.hash_one(self.bytes(number));
            let mut at = hash as usize & mask;
            while places[at].number != FREE.number {
                at = (at + 1) & mask;
            }
            places[at] = Place { tag: (hash >> 32) as u32, number };
        }
        self.places = places;
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
    fn the_empty_string_is_a_string() {
        let mut pool = Pool::new();
        assert_eq!(pool.find(b""), None);
        assert_eq!((pool.insert(b""), pool.insert(b"a"), pool.insert(b"")), (0, 1, 0));
        assert_eq!(pool.bytes(0), b"");
        assert_eq!(pool.bytes(1), b"a");
    }
}
