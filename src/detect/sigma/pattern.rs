//! Sigma strings: wildcards, escapes, placeholders, and the modifiers that turn one string into others.
//!
//! Source: Sigma rules specification 2.1.0, "String Wildcard", "Escaping" and "Placeholders"; modifiers
//! appendix 2.1.0, "String Modifiers" and "Encoding".

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::matcher::Glob;

/// The characters that `windash` exchanges: hyphen, slash, en dash, em dash, horizontal bar.
const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

/// Dashes in one value under `windash`: each multiplies the variants by five, four give 625. Values in
/// public rules have at most two.
const WINDASH_DASHES_MAX: usize = 4;

/// Shortest value for `base64offset`: one byte has a variant of which nothing is left, which would be
/// found in every value.
const BASE64_OFFSET_BYTES_MIN: usize = 2;

/// A piece of a Sigma string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// `*`
    Any,
    /// `?`
    One,
    /// Plain characters, never empty.
    Text(String),
    /// `%name%` under `expand`.
    Placeholder(String),
}

/// How `utf16*` and `wide` lay out their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Utf16 {
    /// Little end first.
    Little,
    /// Big end first.
    Big,
    /// A byte order mark (FF FE), then little end first.
    Marked,
}

/// Splits a string into its pieces. A backslash escapes `*`, `?`, itself and, where placeholders count,
/// `%`; before anything else it is a plain character.
pub(super) fn parse(text: &str, placeholders: bool) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        rest = after;
        let special = match c {
            '\\' => {
                let escaped = after.chars().next().filter(|next| matches!(next, '*' | '?' | '\\') || (placeholders && *next == '%'));
                plain.push(escaped.unwrap_or('\\'));
                rest = escaped.and_then(|next| after.get(next.len_utf8()..)).unwrap_or(after);
                None
            }
            '*' => Some(Piece::Any),
            '?' => Some(Piece::One),
            '%' if placeholders => placeholder(after).map(|(name, behind)| {
                rest = behind;
                Piece::Placeholder(name.to_owned())
            }),
            _ => None,
        };
        match special {
            Some(piece) => {
                flush(&mut plain, &mut pieces);
                pieces.push(piece);
            }
            None if c != '\\' => plain.push(c),
            None => {}
        }
    }
    flush(&mut plain, &mut pieces);
    pieces
}

fn flush(plain: &mut String, pieces: &mut Vec<Piece>) {
    if !plain.is_empty() {
        pieces.push(Piece::Text(std::mem::take(plain)));
    }
}

/// The name in front of the next `%`, and what follows it. `100% of 5%` has no name, so it has no placeholder.
fn placeholder(text: &str) -> Option<(&str, &str)> {
    let (name, behind) = text.split_once('%')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    is_name.then_some((name, behind))
}

/// The pieces as the matcher wants them: neighbouring texts joined. Placeholders are gone by now.
pub(super) fn globs(pieces: &[Piece]) -> Vec<Glob> {
    let mut globs: Vec<Glob> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match (piece, globs.last_mut()) {
            (Piece::Text(text) | Piece::Placeholder(text), Some(Glob::Text(before))) => before.push_str(text),
            (Piece::Text(text) | Piece::Placeholder(text), _) => globs.push(Glob::Text(text.clone())),
            (Piece::Any, _) => globs.push(Glob::Any),
            (Piece::One, _) => globs.push(Glob::One),
        }
    }
    globs
}

/// The name of a placeholder that is still there.
pub(super) fn placeholder_name(pieces: &[Piece]) -> Option<&str> {
    pieces.iter().find_map(|piece| if let Piece::Placeholder(name) = piece { Some(name.as_str()) } else { None })
}

/// The string, if it has neither wildcards nor placeholders.
pub(super) fn plain_text(pieces: &[Piece]) -> Option<String> {
    let texts = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// How many strings the dashes become; the error is how many dashes there are if they are too many.
pub(super) fn windash_count(pieces: &[Piece]) -> Result<usize, usize> {
    let texts = pieces.iter().filter_map(|piece| if let Piece::Text(text) = piece { Some(text) } else { None });
    let dash_count = texts.flat_map(|text| text.chars()).filter(|c| DASHES.contains(c)).count();
    if dash_count > WINDASH_DASHES_MAX {
        return Err(dash_count);
    }
    Ok(std::iter::repeat_n(DASHES.len(), dash_count).product())
}

/// All exchanges of the dashes, of which there are `count`.
pub(super) fn windash(pieces: &[Piece], count: usize) -> Vec<Vec<Piece>> {
    (0..count).map(|variant| with_dashes(pieces, variant)).collect()
}

/// The variant whose dashes are the digits of `variant` to the base of five.
fn with_dashes(pieces: &[Piece], mut variant: usize) -> Vec<Piece> {
    let mut exchange = |c: char| {
        if !DASHES.contains(&c) {
            return c;
        }
        let digit = variant % DASHES.len();
        variant /= DASHES.len();
        DASHES.get(digit).copied().unwrap_or(c)
    };
    let exchanged = |piece: &Piece| match piece {
        Piece::Text(text) => Piece::Text(text.chars().map(&mut exchange).collect()),
        other => other.clone(),
    };
    pieces.iter().map(exchanged).collect()
}

/// How many strings the placeholders of `pieces` become. Those without values stay as they are.
pub(super) fn expansion_count<'t>(pieces: &[Piece], known: &impl Fn(&str) -> Option<&'t Vec<String>>) -> usize {
    pieces.iter().filter_map(|piece| values(piece, known)).fold(1, |count, values| count.saturating_mul(values.len()))
}

/// Every combination of the placeholders' values. These are Sigma strings themselves: `srv*` has a wildcard.
pub(super) fn expand<'t>(pieces: &[Piece], known: &impl Fn(&str) -> Option<&'t Vec<String>>) -> Vec<Vec<Piece>> {
    let mut done: Vec<Vec<Piece>> = vec![Vec::new()];
    for piece in pieces {
        match values(piece, known) {
            Some(values) => {
                let values: Vec<_> = values.iter().map(|value| parse(value, false)).collect();
                done = done.iter().flat_map(|start| values.iter().map(|value| [start.as_slice(), value].concat())).collect();
            }
            None => done.iter_mut().for_each(|start| start.push(piece.clone())),
        }
    }
    done
}

/// The values of a piece that is a placeholder and has some.
fn values<'t>(piece: &Piece, known: &impl Fn(&str) -> Option<&'t Vec<String>>) -> Option<&'t Vec<String>> {
    let Piece::Placeholder(name) = piece else { return None };
    known(name).filter(|values| !values.is_empty())
}

/// The pieces as a person may write them; a backslash stands before plain `*` and `?` only.
pub(super) fn written(pieces: &[Piece]) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Any => out.push('*'),
            Piece::One => out.push('?'),
            Piece::Text(text) => out.push_str(&text.replace('*', "\\*").replace('?', "\\?")),
            Piece::Placeholder(name) => out.push_str(&format!("%{name}%")),
        }
    }
    out
}

/// The pieces with neighbouring texts as one, and no empty ones.
pub(super) fn joined(pieces: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (piece, joined.last_mut()) {
            (Piece::Text(text), _) if text.is_empty() => {}
            (Piece::Text(text), Some(Piece::Text(before))) => before.push_str(&text),
            (piece, _) => joined.push(piece),
        }
    }
    joined
}

/// `text` as UTF-16 code units, in bytes.
pub(super) fn utf16(text: &str, layout: Utf16) -> Vec<u8> {
    let mark: &[u8] = if layout == Utf16::Marked { &[0xFF, 0xFE] } else { &[] };
    let bytes = |unit: u16| if layout == Utf16::Big { unit.to_be_bytes() } else { unit.to_le_bytes() };
    mark.iter().copied().chain(text.encode_utf16().flat_map(bytes)).collect()
}

/// Standard alphabet, with padding (RFC 4648, section 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// What stands in a longer base64 text for `bytes`, at each of the three positions they can have in it.
/// Characters that also depend on the neighbours are cut off; `None` if the value is too short for that.
pub(super) fn base64_offsets(bytes: &[u8]) -> Option<Vec<String>> {
    if bytes.len() < BASE64_OFFSET_BYTES_MIN {
        return None;
    }
    let at = |offset: usize| {
        let shifted = [&[0, 0, 0][..offset], bytes].concat();
        // Each character stands for 6 bits: keep those that hold only bits of the value.
        let start = (offset * 8).div_ceil(6);
        let end = shifted.len() * 8 / 6;
        STANDARD.encode(&shifted).get(start..end).unwrap_or_default().to_owned()
    };
    Some((0..3).map(at).collect())
}
