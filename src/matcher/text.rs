//! Text: folding and wildcards.
//!
//! Folding maps every character to Unicode's simple lower case, one character to one, and leaves bytes that
//! are not UTF-8 alone. `İ` becomes `i`; `ß` and final `ς` stay, as simple lower case has no other form.

use std::borrow::Cow;

use crate::matcher::{Glob, TextOp};

/// A folded character has at least a third of the bytes that it had (the Kelvin sign: 3 to 1), so longer
/// text than this many times the longest literal equals none.
pub(super) const FOLD_SHRINK_MAX: usize = 3;

/// Simple lower case.
pub(super) fn fold_char(character: char) -> char {
    match character {
        // The only character whose full lower case is longer than one.
        'İ' => 'i',
        _ => character.to_lowercase().next().unwrap_or(character),
    }
}

/// Writes `text` folded to `out`, which is overwritten.
pub(super) fn fold_into(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    fold_onto(text, out);
}

/// Bytes that are folded together.
const LANE: usize = 16;

/// Appends `text` folded.
pub(super) fn fold_onto(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(text);
    fold_from(start, out);
}

/// Folds what stands in `out` from `start` on.
pub(super) fn fold_from(start: usize, out: &mut Vec<u8>) {
    let end = out.len();
    // Whole lanes: byte by byte, what is left over would cost more than all of them.
    out.extend_from_slice(&[0; LANE]);
    let mut seen = 0;
    // Written so that the compiler makes vector instructions of it.
    for byte in &mut out[start..start + (end - start).next_multiple_of(LANE)] {
        seen |= *byte;
        *byte |= u8::from(byte.wrapping_sub(b'A') < 26) << 5;
    }
    out.truncate(end);
    if !seen.is_ascii() {
        fold_others(start, out);
    }
}

/// Folds the characters from `at` on that are not ASCII, in place for as long as they keep their length.
fn fold_others(mut at: usize, out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    while let Some(offset) = first_other(&out[at..]) {
        at += offset;
        let len = character_len(&out[at..]);
        let folded = fold_bytes(&out[at..at + len], &mut buffer);
        if folded.len() != len {
            let rest = out.split_off(at);
            return fold_rest(&rest, out);
        }
        out[at..at + len].copy_from_slice(&buffer[..len]);
        at += len;
    }
}

/// Appends `rest`, whose ASCII characters are folded, with the others folded.
fn fold_rest(mut rest: &[u8], out: &mut Vec<u8>) {
    while let Some(offset) = first_other(rest) {
        let (ascii, other) = rest.split_at(offset);
        out.extend_from_slice(ascii);
        let (character, behind) = other.split_at(character_len(other));
        out.extend_from_slice(fold_bytes(character, &mut [0; 4]));
        rest = behind;
    }
    out.extend_from_slice(rest);
}

/// The bytes of one character folded; those that are none stay.
fn fold_bytes<'a>(character: &[u8], buffer: &'a mut [u8; 4]) -> &'a [u8] {
    match std::str::from_utf8(character).ok().and_then(|text| text.chars().next()) {
        Some(character) => fold_char(character).encode_utf8(buffer).as_bytes(),
        None => {
            buffer[..character.len()].copy_from_slice(character);
            &buffer[..character.len()]
        }
    }
}

/// Where the first byte stands that is not ASCII.
fn first_other(text: &[u8]) -> Option<usize> {
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    let (words, rest) = text.as_chunks();
    for (index, word) in words.iter().enumerate() {
        let others = u64::from_le_bytes(*word) & HIGH_BITS;
        if others != 0 {
            return Some(index * size_of::<u64>() + others.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| !byte.is_ascii()).map(|at| text.len() - rest.len() + at)
}

/// `text` folded.
pub(super) fn folded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    fold_into(text, &mut out);
    out
}

/// Whether `text` has `literal` where `op` wants it; both are folded if the comparison folds.
pub(super) fn compare(op: TextOp, text: &[u8], literal: &[u8]) -> bool {
    match op {
        TextOp::Contains => memchr::memmem::find(text, literal).is_some(),
        TextOp::EndsWith => text.ends_with(literal),
        TextOp::Equals => text == literal,
        TextOp::StartsWith => text.starts_with(literal),
    }
}

/// A wildcard pattern, ready to be compared.
#[derive(Debug)]
pub(super) struct Pattern {
    tokens: Box<[Token]>,
    /// Whether upper and lower case differ; if not, text must be folded before.
    pub(super) cased: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Any,
    One,
    Byte(u8),
}

impl Pattern {
    /// A pattern of `pieces`.
    pub(super) fn new(pieces: &[Glob], cased: bool) -> Self {
        let mut tokens = Vec::new();
        for piece in pieces {
            match piece {
                Glob::Any => tokens.push(Token::Any),
                Glob::One => tokens.push(Token::One),
                Glob::Text(text) => {
                    let text = if cased { Cow::Borrowed(text.as_bytes()) } else { Cow::Owned(folded(text.as_bytes())) };
                    tokens.extend(text.iter().copied().map(Token::Byte));
                }
            }
        }
        tokens.dedup_by(|a, b| *a == Token::Any && *b == Token::Any);
        Self { tokens: tokens.into(), cased }
    }

    /// Whether the whole of `text` is of this form. At worst length of text times length of pattern: a `*`
    /// never gives back what an earlier one took.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let (mut at, mut token) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let rest = text.get(at..).unwrap_or_default();
            let step = match self.tokens.get(token) {
                None if rest.is_empty() => return true,
                Some(Token::Any) => {
                    token += 1;
                    retry = Some((at, token));
                    continue;
                }
                Some(Token::One) => character_len(rest),
                Some(Token::Byte(byte)) if rest.first() == Some(byte) => 1,
                _ => 0,
            };
            if step > 0 {
                at += step;
                token += 1;
                continue;
            }
            let Some((from, after)) = retry else { return false };
            let skipped = character_len(text.get(from..).unwrap_or_default());
            if skipped == 0 {
                return false;
            }
            retry = Some((from + skipped, after));
            (at, token) = (from + skipped, after);
        }
    }
}

/// Bytes of the first character; a byte that is not UTF-8 counts as one character. 0 if there is none.
fn character_len(text: &[u8]) -> usize {
    let wanted = match text.first() {
        None => return 0,
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        Some(_) => 1,
    };
    text.get(..wanted).filter(|character| std::str::from_utf8(character).is_ok()).map_or(1, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_is_simple_lower_case_and_keeps_what_is_not_utf8() {
        for (text, expected) in [
            (&b"AbC/9"[..], &b"abc/9"[..]),
            ("ÄÖÜß".as_bytes(), "äöüß".as_bytes()),
            ("İI".as_bytes(), b"ii"),
            ("\u{212a}".as_bytes(), b"k"),
            ("ΑΣ".as_bytes(), "ασ".as_bytes()),
            (b"A\xffB\xc3", b"a\xffb\xc3"),
            ("ÉCOLE à 17 Bytes, KELVIN \u{212a}\u{212a} Ü".as_bytes(), "école à 17 bytes, kelvin kk ü".as_bytes()),
            (b"", b""),
        ] {
            assert_eq!(folded(text), expected);
            let mut out = b"Kept".to_vec();
            fold_onto(text, &mut out);
            assert_eq!(out, [b"Kept", expected].concat());
        }
    }

    #[test]
    fn only_one_character_has_a_long_lower_case() {
        for character in '\0'..=char::MAX {
            let folded = fold_char(character);
            assert!(character == 'İ' || character.to_lowercase().eq([folded]), "{character:?}");
            assert!(folded.len_utf8() * FOLD_SHRINK_MAX >= character.len_utf8(), "{character:?}");
        }
    }

    #[test]
    fn wildcards_match_characters_not_bytes() {
        let text = |text: &str| Glob::Text(text.to_owned());
        for (pieces, value, expected) in [
            (vec![text("a"), Glob::Any, text("c")], &b"abbc"[..], true),
            (vec![text("a"), Glob::Any, text("c")], b"ac", true),
            (vec![text("a"), Glob::Any, text("c")], b"acb", false),
            (vec![text("a"), Glob::One, text("c")], "aéc".as_bytes(), true),
            (vec![text("a"), Glob::One, text("c")], b"a\xffc", true),
            (vec![text("a"), Glob::One, text("c")], b"ac", false),
            (vec![Glob::Any, text("ab"), Glob::Any, text("ab")], b"abcabab", true),
            (vec![Glob::Any, text("ab"), Glob::Any, text("ab")], b"ab", false),
            (vec![Glob::One, Glob::Any], b"", false),
            (vec![Glob::Any, Glob::One], b"x", true),
            (vec![Glob::Any, Glob::One, text("é")], "xÉ".as_bytes(), false),
        ] {
            assert_eq!(Pattern::new(&pieces, true).matches(value), expected, "{pieces:?} {value:?}");
        }
    }
}
