//! The generator's own random numbers: xoshiro256++ (Blackman and Vigna, 2019), seeded through SplitMix64.
//!
//! In: a seed and a stream number. Out: the same sequence on every machine and in every version, which is
//! what makes a corpus comparable between runs. Not for secrets.

/// A seeded source of random numbers.
#[derive(Clone, Debug)]
pub(in crate::traffic) struct Random {
    state: [u64; 4],
}

impl Random {
    /// A source that gives the same numbers for the same seed and stream.
    pub(in crate::traffic) fn new(seed: u64, stream: u64) -> Self {
        let mut mix = seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93);
        let state = std::array::from_fn(|_| {
            mix = mix.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mix;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state }
    }

    /// 64 random bits.
    #[inline]
    pub(in crate::traffic) fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (mut c, mut d) = (c ^ a, d ^ b);
        let (b_next, a_next) = (b ^ c, a ^ d);
        c ^= b << 17;
        d = d.rotate_left(45);
        self.state = [a_next, b_next, c, d];
        result
    }

    /// A number below `bound`; 0 if `bound` is 0.
    #[inline]
    pub(in crate::traffic) fn below(&mut self, bound: u64) -> u64 {
        // Multiply and shift: the bias is below bound / 2^64, nobody sees it.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    #[inline]
    pub(in crate::traffic) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Whether an event of this probability, in per cent, happens.
    #[inline]
    pub(in crate::traffic) fn chance(&mut self, per_cent: u64) -> bool {
        self.below(100) < per_cent
    }

    /// Like [`Random::below`], but low numbers come more often: the square of a uniform number follows
    /// Zipf's law with exponent 1/2, about what addresses in firewall logs do.
    #[inline]
    pub(in crate::traffic) fn skewed(&mut self, bound: u64) -> u64 {
        let uniform = self.bits() >> 32;
        ((u128::from(uniform * uniform) * u128::from(bound)) >> 64) as u64
    }

    /// One of `items`, which must not be empty.
    pub(in crate::traffic) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    /// One of `items`, the first ones more often; `items` must not be empty.
    pub(in crate::traffic) fn pick_skewed<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.skewed(items.len() as u64) as usize]
    }

    /// One of `items` with its weight; the weights add up to 100.
    pub(in crate::traffic) fn weighted<T: Copy>(&mut self, items: &[(u64, T)]) -> T {
        debug_assert_eq!(items.iter().map(|item| item.0).sum::<u64>(), 100);
        let mut left = self.below(100);
        for (weight, item) in items {
            if left < *weight {
                return *item;
            }
            left -= weight;
        }
        items[0].1
    }
}

#[cfg(test)]
mod tests {
    use crate::traffic::random::Random;

    #[test]
    fn xoshiro_gives_the_published_sequence() {
        // First outputs of xoshiro256++ for the state 1, 2, 3, 4, as in the tests of the authors' ports.
        let mut random = Random { state: [1, 2, 3, 4] };
        let first: Vec<u64> = (0..4).map(|_| random.bits()).collect();
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn streams_of_one_seed_differ() {
        assert_ne!(Random::new(7, 0).bits(), Random::new(7, 1).bits());
        assert_eq!(Random::new(7, 1).bits(), Random::new(7, 1).bits());
    }

    #[test]
    fn numbers_stay_in_their_bounds_and_reach_them() {
        let mut random = Random::new(1, 0);
        let mut seen = [false; 4];
        for _ in 0..1000 {
            seen[random.between(10, 13) as usize - 10] = true;
            assert!(random.skewed(5) < 5);
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn low_numbers_are_more_frequent_when_skewed() {
        let mut random = Random::new(3, 0);
        let low = (0..10_000).filter(|_| random.skewed(100) < 25).count();
        assert!((4_700..5_300).contains(&low), "half of the draws fall into the first quarter, got {low}");
    }
}
