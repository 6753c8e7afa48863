//! Which bytes end or complicate a JSON string: one bit a byte, 64 bytes at a time.
//!
//! In: any bytes. Out: one `u64` per 64 bytes, lowest bit first, set where the byte is `"`, `\` or below
//! 0x20, and whether any byte is above 0x7f. A walker then finds the end of a string with a shift and a
//! count of zeros; the dependent step is 5 cycles instead of the 14 of a fresh vector load per string.
//!
//! All `unsafe` of the JSON code is here: vector loads from a `&[u8; 64]`, whose bounds the type carries,
//! and calls of functions whose instruction set was detected just before (docs/adr/0002-unsafe-json-scan.md).

/// Bytes that one word of the index covers.
pub(super) const BLOCK: usize = 64;

/// The marks of one block, low half first. Two halves, because LLVM takes a `u64` that is put together from
/// two vector masks apart into its bits (330 instructions a block instead of 25). For the same reason the
/// halves are written through a reference and not returned.
pub(super) type Word = [u32; 2];

/// The marks as one number.
#[inline(always)]
pub(super) fn bits([low, high]: Word) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Fills `words` with the marks of `bytes`. Returns whether a byte above 0x7f occurs.
pub(super) fn index(bytes: &[u8], words: &mut Vec<Word>) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, as just detected.
            return unsafe { x86::index_avx2(bytes, words) };
        }
    }
    index_with(bytes, words, special)
}

/// Sets `word` to the marks of one block, without detection: SSE2 is part of x86-64. Returns whether a byte
/// above 0x7f occurs.
#[inline(always)]
pub(super) fn special(block: &[u8; BLOCK], word: &mut Word) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { x86::special_sse2(block, word) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        special_portable(block, word)
    }
}

/// The backslashes of one block, without detection.
#[inline(always)]
pub(super) fn backslashes(block: &[u8; BLOCK]) -> u64 {
    let mut word = Word::default();
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { x86::backslashes_sse2(block, &mut word) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        backslashes_portable(block, &mut word)
    }
    bits(word)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn backslashes_portable(block: &[u8; BLOCK], word: &mut Word) {
    for (bit, &byte) in block.iter().enumerate() {
        word[bit / 32] |= u32::from(byte == b'\\') << (bit % 32);
    }
}

/// The loop that all variants share; inlined into a function that has their instruction set.
#[inline(always)]
fn index_with(bytes: &[u8], words: &mut Vec<Word>, special: impl Fn(&[u8; BLOCK], &mut Word) -> bool) -> bool {
    words.resize(bytes.len().div_ceil(BLOCK), [0; 2]);
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut any_high = false;
    for (index, block) in blocks.iter().enumerate() {
        if let Some(word) = words.get_mut(index) {
            any_high |= special(block, word);
        }
    }
    if let (false, Some(word)) = (rest.is_empty(), words.last_mut()) {
        // Spaces are neither marked nor high.
        let mut block = [b' '; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        any_high |= special(&block, word);
    }
    any_high
}

/// Without vector instructions: plain comparisons, which compilers turn into what the target has.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn special_portable(block: &[u8; BLOCK], word: &mut Word) -> bool {
    *word = Word::default();
    let mut all = 0;
    for (bit, &byte) in block.iter().enumerate() {
        word[bit / 32] |= u32::from(byte == b'"' || byte == b'\\' || byte < 0x20) << (bit % 32);
        all |= byte;
    }
    all >= 0x80
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8, _mm256_cmpeq_epi8,
        _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8,
    };

    use super::{BLOCK, Word};

    /// Highest control character.
    const CONTROL: i8 = 0x1f;

    #[target_feature(enable = "sse2")]
    #[inline]
    pub(super) fn special_sse2(block: &[u8; BLOCK], word: &mut Word) -> bool {
        let mut marks = [0; 2];
        let mut all = _mm_set1_epi8(0);
        for (index, part) in block.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: `part` has the 16 bytes that are loaded; the load needs no alignment.
            let bytes = unsafe { _mm_loadu_si128(part.as_ptr().cast::<__m128i>()) };
            let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
            let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(CONTROL)), bytes);
            let hit = _mm_or_si128(_mm_or_si128(quote, backslash), control);
            marks[index / 2] |= u32::from(_mm_movemask_epi8(hit) as u16) << (index % 2 * 16);
            all = _mm_or_si128(all, bytes);
        }
        *word = marks;
        _mm_movemask_epi8(all) != 0
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    pub(super) fn backslashes_sse2(block: &[u8; BLOCK], word: &mut Word) {
        let mut marks = [0; 2];
        for (index, part) in block.as_chunks::<16>().0.iter().enumerate() {
            // SAFETY: `part` has the 16 bytes that are loaded; the load needs no alignment.
            let bytes = unsafe { _mm_loadu_si128(part.as_ptr().cast::<__m128i>()) };
            let hit = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
            marks[index / 2] |= u32::from(_mm_movemask_epi8(hit) as u16) << (index % 2 * 16);
        }
        *word = marks;
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn index_avx2(bytes: &[u8], words: &mut Vec<Word>) -> bool {
        super::index_with(bytes, words, |block, word| special_avx2(block, word))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn special_avx2(block: &[u8; BLOCK], word: &mut Word) -> bool {
        let ([low, high], _) = block.as_chunks::<32>() else { return false };
        let (low_marks, low) = mark_32(low);
        let (high_marks, high) = mark_32(high);
        *word = [low_marks, high_marks];
        _mm256_movemask_epi8(_mm256_or_si256(low, high)) != 0
    }

    /// The marks of 32 bytes, and the bytes.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn mark_32(part: &[u8; 32]) -> (u32, __m256i) {
        // SAFETY: `part` has the 32 bytes that are loaded; the load needs no alignment.
        let bytes = unsafe { _mm256_loadu_si256(part.as_ptr().cast::<__m256i>()) };
        let quote = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'"' as i8));
        let backslash = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\\' as i8));
        let control = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(CONTROL)), bytes);
        let hit = _mm256_or_si256(_mm256_or_si256(quote, backslash), control);
        (_mm256_movemask_epi8(hit) as u32, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Word, backslashes, backslashes_portable, bits, index, index_with, special, special_portable};

    #[test]
    fn all_variants_mark_the_same_bytes_at_every_length() {
        let bytes: Vec<u8> = (0..600u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for start in 0..70 {
            for end in start..bytes.len() {
                // An exact allocation, so that a read past its end shows under a memory checker.
                let part = bytes[start..end].to_vec().into_boxed_slice();
                let mut expected = Vec::new();
                let high = index_with(&part, &mut expected, special_portable);
                let mut words = Vec::new();
                assert_eq!(index(&part, &mut words), high, "{start}..{end}");
                assert_eq!(words, expected, "{start}..{end}");
                assert_eq!(index_with(&part, &mut words, special), high, "{start}..{end}");
                assert_eq!(words, expected, "{start}..{end}");
            }
        }
    }

    #[test]
    fn every_byte_is_marked_if_it_ends_or_complicates_a_string() {
        for byte in 0..=255u8 {
            let mut marks = Word::default();
            let high = special(&[byte; 64], &mut marks);
            let expected = byte == b'"' || byte == b'\\' || byte < 0x20;
            assert_eq!(marks, if expected { [u32::MAX; 2] } else { [0; 2] }, "{byte}");
            assert_eq!(high, byte >= 0x80, "{byte}");
        }
    }

    #[test]
    fn backslashes_are_marked_wherever_they_stand() {
        for seed in 0..2_000u32 {
            let block = std::array::from_fn(|at| match (seed ^ (at as u32 * 7)).wrapping_mul(2_654_435_761) >> 29 {
                0..3 => b'\\',
                3 => b'"',
                other => b'X' + other as u8,
            });
            let mut expected = Word::default();
            backslashes_portable(&block, &mut expected);
            assert_eq!(backslashes(&block), bits(expected), "{}", block.escape_ascii());
        }
    }
}
