//! The order in which senders write keys, remembered.
//!
//! Records of one source have the same keys in the same order. So the keys that followed the last two times are compared
//! first, with their closing quote and the colon: that spares the search for a key's end, its hash and its look-up. Another
//! key is looked up as ever, and is remembered to follow. A key is remembered once for each key that it comes behind: records
//! of many kinds in one stream all have a `timestamp`, and what is next depends on what was before it. The memory is of fixed
//! size and says nothing about what a document means: whatever it has forgotten or guesses wrongly costs a look-up.

use super::paths::{NONE, NodeId, Print, UNNUMBERED};
use super::text::{Inside, Text};

/// Keys that are remembered on a thread, of all sources; one line of the processor's cache each.
const KEYS: usize = 1024;

/// Bytes that are compared at once; a key is remembered if it fits two halves with what ends it.
const HALF: usize = size_of::<u128>();

/// What ends a key.
const END: &[u8; 2] = b"\":";

/// A key or the start of an object: where another key is expected next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(u16);

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Known {
    /// The first half of the key with its end, and which bits of it there are.
    first: u128,
    mask: u128,
    /// The last half, if there is more than one.
    last: u128,
    /// The object that the key is a member of; 0 if the place is empty.
    owner: u32,
    /// What the key leads to.
    child: NodeId,
    /// What followed this place lately, the last first.
    next: [u16; 2],
    /// Hash of key and object.
    hash: u16,
    /// Length with the end.
    len: u8,
}

#[derive(Debug)]
pub(super) struct Order {
    /// By hash of key, object and the key before. A start of an object has a place by its hash; for what comes next, it is taken
    /// for the key there.
    known: [Known; KEYS],
}

impl Default for Order {
    fn default() -> Self {
        let nothing = Known { first: 0, mask: 0, last: 0, owner: 0, child: NONE, next: [0; 2], hash: 0, len: 0 };
        Self { known: std::array::from_fn(|_| nothing) }
    }
}

impl Order {
    /// The start of an object.
    #[inline(always)]
    pub(super) fn start(owner: u32) -> Place {
        Place(mix(owner) as u16)
    }

    /// If the key at `start`, which is behind its quote, is one that is expected at `place`: what it leads to, and the
    /// position behind its colon. `place` is then behind it.
    #[inline(always)]
    pub(super) fn expected(&mut self, place: &mut Place, owner: u32, text: &Text<'_>, start: usize) -> Option<(NodeId, usize)> {
        let next = &mut self.known[usize::from(place.0) % KEYS].next;
        let [first, second] = *next;
        if let Some(found) = self.is_at(first, owner, text, start) {
            *place = Place(first);
            return Some(found);
        }
        let found = self.is_at(second, owner, text, start)?;
        self.known[usize::from(place.0) % KEYS].next = [second, first];
        *place = Place(second);
        Some(found)
    }

    #[inline(always)]
    fn is_at(&self, index: u16, owner: u32, text: &Text<'_>, start: usize) -> Option<(NodeId, usize)> {
        let known = &self.known[usize::from(index) % KEYS];
        if known.owner != owner || (half(text, start)? ^ known.first) & known.mask != 0 {
            return None;
        }
        let end = start + usize::from(known.len);
        if usize::from(known.len) > HALF && half(text, end - HALF)? != known.last {
            return None;
        }
        Some((known.child, end))
    }

    /// Notes that `key` is what came at `place`; `place` is then behind it. Nothing is noted of a key that is long, that has no
    /// colon right behind it, or in which any byte needs a closer look.
    pub(super) fn note(&mut self, place: &mut Place, owner: u32, text: &Text<'_>, key: Inside, child: NodeId) {
        let start = key.start;
        let end = key.end + END.len();
        let len = end - start;
        let (Some(first), true) = (half(text, start), len <= 2 * HALF) else { return };
        if owner == UNNUMBERED || text.marked(start) != Ok(key.end) || text.bytes().get(key.end..end) != Some(END) {
            return;
        }
        let mask = if len < HALF { (1 << (8 * len)) - 1 } else { u128::MAX };
        let last = if len > HALF { half(text, end - HALF).unwrap_or(0) } else { 0 };
        let hash = (Print::of(text.inside(key)).place() ^ mix(owner)) as u16;
        // Turned, so that of two keys each has its own place behind the other.
        let before = self.known[usize::from(place.0) % KEYS].hash;
        let index = self.choose(hash ^ before.rotate_left(5), |known| {
            (known.owner, known.first, known.last, usize::from(known.len)) == (owner, first & mask, last, len)
        });
        let known = &mut self.known[usize::from(index) % KEYS];
        *known = Known { first: first & mask, mask, last, owner, child, next: known.next, hash, len: len as u8 };
        let next = &mut self.known[usize::from(place.0) % KEYS].next;
        *next = [index, next[0]];
        *place = Place(index);
    }

    /// Which of the two places of a hash to take: the key's own, else an empty one.
    fn choose(&self, hash: u16, is_own: impl Fn(&Known) -> bool) -> u16 {
        let mut both = [hash, hash ^ 1].map(|index| (index, &self.known[usize::from(index) % KEYS])).into_iter();
        let own = both.clone().find(|(_, known)| is_own(known));
        own.or_else(|| both.find(|(_, known)| known.owner == 0)).map_or(hash, |(index, _)| index)
    }
}

/// The bytes from `at`.
#[inline(always)]
fn half(text: &Text<'_>, at: usize) -> Option<u128> {
    text.readable().get(at..)?.first_chunk().map(|half| u128::from_le_bytes(*half))
}

/// Spreads the objects of all trees.
#[inline(always)]
fn mix(owner: u32) -> usize {
    (owner.wrapping_mul(0x9e37_79b9) >> 16) as usize
}
