//! Lengths of texts in a page, as `DELTA_LENGTH_BYTE_ARRAY` and `DELTA_BYTE_ARRAY` have them: checked before the crate
//! `parquet` makes room for as many as they say they are. Source: `Encodings.md` of parquet-format, "Delta Encoding".

use std::io;

/// Lengths in one page; a length takes no bytes where all are the same.
const LENGTHS_MAX: u64 = 1 << 22;

/// The lengths, each a number of 32 bits: their sum, and where they end.
///
/// # Errors
/// They are cut, negative, or more than `count_max` or [`LENGTHS_MAX`].
fn lengths(bytes: &[u8], count_max: u64) -> io::Result<(u64, usize)> {
    let mut at = 0;
    let block = unsigned(bytes, &mut at)?;
    let minis = unsigned(bytes, &mut at)?;
    let mut left = unsigned(bytes, &mut at)?;
    let mut length = signed(bytes, &mut at)? as i32;
    if left > count_max.min(LENGTHS_MAX) {
        return Err(wrong("more texts than it has values"));
    }
    let mini = block.checked_div(minis).unwrap_or(0);
    if left > 1 && (mini == 0 || mini % 32 != 0 || mini > LENGTHS_MAX || minis > LENGTHS_MAX) {
        return Err(wrong("lengths in blocks of no valid size"));
    }
    let mut sum = 0;
    let mut add = |length: i32| u64::try_from(length).map(|length| sum += length).map_err(|_| wrong("a negative length"));
    if left > 0 {
        add(length)?;
        left -= 1;
    }
    while left > 0 {
        let least = signed(bytes, &mut at)?;
        let widths = bytes.get(at..at + minis as usize).ok_or_else(cut)?;
        at += widths.len();
        for width in widths {
            if left == 0 {
                break;
            }
            let width = u64::from(*width);
            let packed = bytes.get(at..).ok_or_else(cut)?;
            for index in 0..left.min(mini) {
                length = length.wrapping_add(least.wrapping_add(bits(packed, index * width, width)?) as i32);
                add(length)?;
            }
            left -= left.min(mini);
            at += (width * mini / 8) as usize;
        }
    }
    Ok((sum, at.min(bytes.len())))
}

/// Checks the values of a page of `DELTA_LENGTH_BYTE_ARRAY`.
///
/// # Errors
/// The lengths are wrong, or longer than what follows them.
pub(super) fn check_texts(bytes: &[u8], count_max: u64) -> io::Result<()> {
    let (sum, end) = lengths(bytes, count_max)?;
    if sum > (bytes.len() - end) as u64 { Err(cut()) } else { Ok(()) }
}

/// Checks the values of a page of `DELTA_BYTE_ARRAY`: texts that begin as the one before.
///
/// # Errors
/// The lengths are wrong, or the texts are more than `bytes_max` when they are whole.
pub(super) fn check_prefixed(bytes: &[u8], count_max: u64, bytes_max: u64) -> io::Result<()> {
    let (sum, end) = lengths(bytes, count_max)?;
    if sum > bytes_max {
        return Err(wrong("texts of too many bytes in one page"));
    }
    check_texts(bytes.get(end..).unwrap_or_default(), count_max)
}

/// A number of `width` bits, least significant first.
fn bits(bytes: &[u8], at: u64, width: u64) -> io::Result<i64> {
    if width > 32 {
        return Err(wrong("a length of more than 32 bits"));
    }
    let first = (at / 8) as usize;
    let window = bytes.get(first..first + (at % 8 + width).div_ceil(8) as usize).ok_or_else(cut)?;
    let number = window.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Ok((number >> (at % 8) & ((1 << width) - 1)) as i64)
}

fn unsigned(bytes: &[u8], at: &mut usize) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or_else(cut)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(wrong("a number of more than 64 bits"))
}

fn signed(bytes: &[u8], at: &mut usize) -> io::Result<i64> {
    let number = unsigned(bytes, at)?;
    Ok((number >> 1) as i64 ^ -((number & 1) as i64))
}

fn cut() -> io::Error {
    wrong("texts that are cut")
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a page has {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of 128, four miniblocks each: lengths 5, 6, 8, 8, 7 (the deltas 1, 2, 0, -1 by 2 bits above -1).
    const FIVE: [u8; 17] = [0x80, 1, 4, 5, 10, 1, 2, 0, 0, 0, 0b_00_01_11_10, 0, 0, 0, 0, 0, 0];

    #[test]
    fn lengths_are_summed_and_their_end_is_found() {
        assert_eq!(lengths(&[&FIVE[..], &[0; 1], b"rest"].concat(), 5).unwrap(), (34, 18));
        assert_eq!(lengths(&[0x80, 1, 4, 0, 0], 0).unwrap(), (0, 5));
        // 200 texts of no bytes: two blocks.
        let none = [0x80, 1, 4, 0xc8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(lengths(&none, 200).unwrap(), (0, 16));
    }

    #[test]
    fn what_would_take_memory_or_is_cut_is_refused() {
        assert!(lengths(&FIVE, 4).unwrap_err().to_string().contains("more texts than it has values"));
        let many = [0x80, 1, 4, 0xff, 0xff, 0xff, 0xff, 0x7f, 0];
        assert!(lengths(&many, u64::MAX).is_err());
        for end in 0..11 {
            assert!(lengths(&FIVE[..end], 5).is_err(), "{end}");
        }
        assert!(lengths(&[0x80, 1, 4, 1, 1], 1).unwrap_err().to_string().contains("negative"));
        assert!(lengths(&[0x80, 1, 0, 5, 0], 5).is_err(), "no miniblocks");
        assert!(check_texts(&FIVE, 5).is_err(), "no texts behind the lengths");
        assert!(check_texts(&[&FIVE[..], &[0; 35]].concat(), 5).is_ok());
        assert!(check_prefixed(&[&FIVE[..], &[0; 1], &[0x80, 1, 4, 0, 0]].concat(), 5, 33).is_err());
        assert!(check_prefixed(&[&FIVE[..], &[0; 1], &[0x80, 1, 4, 0, 0]].concat(), 5, 34).is_ok());
    }
}
