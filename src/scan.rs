//! Finding delimiters sixteen bytes at a time.

/// Bit `i` is set where `block[i]` is `a` or `b`.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn either(block: &[u8; 16], a: u8, b: u8) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8};
    let [low @ .., _, _, _, _, _, _, _, _] = *block;
    let [_, _, _, _, _, _, _, _, high @ ..] = *block;
    // SAFETY: SSE2 is part of every x86_64; the intrinsics work on registers and touch no memory.
    unsafe {
        let bytes = _mm_set_epi64x(i64::from_le_bytes(high), i64::from_le_bytes(low));
        let hits = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(a as i8)), _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b as i8)));
        _mm_movemask_epi8(hits) as u32
    }
}

/// Bit `i` is set where `block[i]` is `a` or `b`.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub fn either(block: &[u8; 16], a: u8, b: u8) -> u32 {
    block.iter().enumerate().fold(0, |mask, (index, byte)| mask | u32::from(*byte == a || *byte == b) << index)
}

/// Bit `i` is set where `block[i]` is `byte`.
#[inline]
pub fn equal(block: &[u8; 32], byte: u8) -> u32 {
    let [low, high] = block.as_chunks::<16>().0 else { return 0 };
    either(low, byte, byte) | either(high, byte, byte) << 16
}

/// Bit `i` is set where an odd number of bits of `mask` up to and including `i` are: between an opening quote and
/// its closing one.
#[inline]
pub fn inside(mut mask: u32) -> u32 {
    for shift in [1, 2, 4, 8, 16] {
        mask ^= mask << shift;
    }
    mask
}

/// Calls `hit` with the offset of every `a` and `b` in `bytes[start..end]`, in order, until it returns
/// `false`. `bytes` must be readable up to 16 bytes behind `end` for the fast path; shorter buffers are
/// scanned byte by byte at their end.
#[inline]
pub fn for_each_of(bytes: &[u8], start: usize, end: usize, a: u8, b: u8, mut hit: impl FnMut(usize) -> bool) {
    let mut at = start;
    while at < end {
        let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<16>()) else { break };
        let mut mask = either(block, a, b);
        while mask != 0 {
            let offset = at + mask.trailing_zeros() as usize;
            if offset >= end || !hit(offset) {
                return;
            }
            mask &= mask - 1;
        }
        at += 16;
    }
    for (offset, byte) in bytes[..end].iter().enumerate().skip(at) {
        if (*byte == a || *byte == b) && !hit(offset) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_of_quotes_is_told_from_what_is_outside() {
        let text = b"a\"b,c\",d,\"\",\"e,f,g,h,i,j,k,l,m,n,o";
        let mut block = [b' '; 32];
        block.copy_from_slice(&text[..32]);
        let (mut open, mut expected) = (false, 0);
        for (index, byte) in block.iter().enumerate() {
            open ^= *byte == b'"';
            expected |= u32::from(open) << index;
        }
        assert_eq!(inside(equal(&block, b'"')), expected);
        assert_eq!(equal(&block, b',').count_ones() as usize, block.iter().filter(|byte| **byte == b',').count());
    }

    #[test]
    fn every_delimiter_is_found_wherever_the_buffer_ends() {
        let bytes: Vec<u8> = (0..200u32).map(|i| b"a,b\"cdefgh"[(i * 7 % 10) as usize]).collect();
        for start in 0..40 {
            for end in start..bytes.len() {
                let expected: Vec<usize> = (start..end).filter(|i| matches!(bytes[*i], b',' | b'"')).collect();
                let mut found = Vec::new();
                for_each_of(&bytes[..end.max(start)], start, end, b',', b'"', |at| {
                    found.push(at);
                    true
                });
                assert_eq!(found, expected);
                found.clear();
                for_each_of(&bytes, start, end, b',', b'"', |at| {
                    found.push(at);
                    true
                });
                assert_eq!(found, expected);
            }
        }
    }
}
