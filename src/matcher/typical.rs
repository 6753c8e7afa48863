//! What logs look like, to tell the common from the rare. A poor guess costs time, never a match.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::matcher::TextOp;
use crate::matcher::text::folded;

/// A line of each of some formats.
const LINES: &str = include_str!("typical.txt");

/// Bytes of a gram whose frequency is known; shorter and longer ones are guessed by their bytes.
const GRAM_BYTES: std::ops::RangeInclusive<usize> = 3..=4;

/// The folded lines, and how often each gram and each byte is in them.
struct Typical {
    lines: Vec<Vec<u8>>,
    grams: HashMap<Vec<u8>, u32, foldhash::fast::RandomState>,
    bytes: [f64; 256],
}

static TYPICAL: LazyLock<Typical> = LazyLock::new(|| {
    let text = folded(LINES.as_bytes());
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    let mut typical = Typical { lines, grams: HashMap::default(), bytes: [1.0 / text.len() as f64; 256] };
    for byte in &text {
        typical.bytes[usize::from(*byte)] += 1.0 / text.len() as f64;
    }
    for gram in GRAM_BYTES.flat_map(|width| text.windows(width)) {
        *typical.grams.entry(gram.to_vec()).or_default() += 1;
    }
    typical
});

/// How likely `gram`, which is folded, stands at a place of a log: as often as it was seen, and as its bytes would by chance.
pub(super) fn gram_likelihood(gram: &[u8]) -> f64 {
    let seen = f64::from(TYPICAL.grams.get(gram).copied().unwrap_or_default()) / LINES.len() as f64;
    let by_chance: f64 = gram.iter().map(|byte| byte_likelihood(*byte)).product();
    seen + by_chance
}

/// How likely a byte stands at a place of a log.
pub(super) fn byte_likelihood(byte: u8) -> f64 {
    TYPICAL.bytes[usize::from(byte)]
}

/// The share of lines that have `text`, which is folded, where `op` says: the ends of a value are where a word ends.
pub(super) fn share_of_lines(op: TextOp, text: &[u8]) -> f64 {
    let is_edge = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
    let (starts, ends) = match op {
        TextOp::Contains => (false, false),
        TextOp::EndsWith => (false, true),
        TextOp::Equals => (true, true),
        TextOp::StartsWith => (true, false),
    };
    let stands = |line: &[u8], at: usize| {
        (!starts || is_edge(at.checked_sub(1).and_then(|before| line.get(before)))) && (!ends || is_edge(line.get(at + text.len())))
    };
    let has = |line: &&Vec<u8>| memchr::memmem::find_iter(line, text).any(|at| stands(line, at));
    TYPICAL.lines.iter().filter(has).count() as f64 / TYPICAL.lines.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_logs_are_full_of_is_likelier_than_what_they_lack() {
        assert!(gram_likelihood(b"http") > 10.0 * gram_likelihood(b"${jn"));
        assert!(gram_likelihood(b"ex.p") > gram_likelihood(b"x$;q"));
        assert!(share_of_lines(TextOp::Contains, b"http") > 0.2);
        assert!(share_of_lines(TextOp::EndsWith, b".exe") > 0.0);
        assert_eq!(share_of_lines(TextOp::Contains, b"union select"), 0.0);
    }

    #[test]
    fn a_whole_value_is_a_whole_word() {
        assert!(share_of_lines(TextOp::Equals, b"get") > 0.0);
        assert_eq!(share_of_lines(TextOp::Equals, b"estamp"), 0.0);
        assert!(share_of_lines(TextOp::Contains, b"estamp") > 0.0);
    }
}
