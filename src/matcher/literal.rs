//! Text that a value must contain for a regular expression or a wildcard pattern to match.
//!
//! In: a pattern. Out: a set of folded literals, of which every matching value contains at least one after
//! folding; nothing if there is no set short enough whose literals are long enough. So a pattern is tried
//! only where the automaton has found one of its literals.
//!
//! Only flags written inside the expression (`(?i)`) are seen; [`crate::matcher::Predicate::Regex`] says so.

use regex::bytes::Regex;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::matcher::Glob;
use crate::matcher::text::{fold_char, folded};

/// Shorter literals are in too many values to save anything.
const LITERAL_CHARS_MIN: usize = 3;

/// More literals than this cost the automaton more than they save.
const LITERALS_MAX: usize = 16;

/// Classes with more ranges are no letter in several cases.
const CASES_MAX: usize = 4;

/// What every match of `regex` contains one of.
pub(super) fn of_regex(regex: &Regex) -> Option<Vec<String>> {
    let hir = ParserBuilder::new().utf8(false).build().parse(regex.as_str()).ok()?;
    required(&hir)
}

/// What every value of this form contains, if `pieces` has enough text in one piece.
pub(super) fn of_glob(pieces: &[Glob]) -> Option<String> {
    let texts = pieces.iter().filter_map(|piece| match piece {
        Glob::Text(text) => Some(fold(text)),
        Glob::Any | Glob::One => None,
    });
    texts.max_by_key(|text| text.chars().count()).filter(|text| text.chars().count() >= LITERAL_CHARS_MIN)
}

fn required(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Capture(capture) => required(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub),
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(required(branch)?);
            }
            (all.len() <= LITERALS_MAX).then_some(all)
        }
        HirKind::Concat(parts) => required_of_sequence(parts),
        _ => fixed(hir).and_then(only_if_long),
    }
}

/// The best set of a sequence: its longest run of fixed text, or what one of its parts requires.
fn required_of_sequence(parts: &[Hir]) -> Option<Vec<String>> {
    let mut best = None;
    let mut run = String::new();
    for part in parts {
        if let Some(text) = fixed(part) {
            run.push_str(&text);
            continue;
        }
        best = better(best, only_if_long(std::mem::take(&mut run)));
        best = better(best, required(part));
    }
    better(best, only_if_long(run))
}

fn only_if_long(text: String) -> Option<Vec<String>> {
    (text.chars().count() >= LITERAL_CHARS_MIN).then(|| vec![text])
}

fn better(left: Option<Vec<String>>, right: Option<Vec<String>>) -> Option<Vec<String>> {
    let shortest = |set: &Option<Vec<String>>| set.as_ref().and_then(|set| set.iter().map(String::len).min());
    if shortest(&right) > shortest(&left) { right } else { left }
}

/// The folded text that `hir` matches, if it is always the same.
fn fixed(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(String::new()),
        HirKind::Literal(literal) => Some(fold(std::str::from_utf8(&literal.0).ok()?)),
        HirKind::Class(class) => case_class(class).map(String::from),
        HirKind::Capture(capture) => fixed(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(fixed).collect(),
        HirKind::Repetition(_) | HirKind::Alternation(_) => None,
    }
}

/// The folded character of a class that holds nothing but its cases.
fn case_class(class: &Class) -> Option<char> {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) if class.ranges().len() <= CASES_MAX => class.iter().map(|range| (range.start(), range.end())).collect(),
        Class::Bytes(class) if class.ranges().len() <= CASES_MAX && class.is_ascii() => {
            class.iter().map(|range| (range.start().into(), range.end().into())).collect()
        }
        _ => return None,
    };
    let character = fold_char(ranges.first()?.0);
    ranges.iter().all(|(start, end)| start == end && fold_char(*start) == character).then_some(character)
}

fn fold(text: &str) -> String {
    String::from_utf8_lossy(&folded(text.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_that_every_match_contains_are_found() {
        for (pattern, expected) in [
            ("abc", Some(vec!["abc"])),
            ("(?i)union", Some(vec!["union"])),
            ("(?i-u)select", Some(vec!["select"])),
            // With Unicode, `(?i)s` is also the long s, which folds to itself.
            ("(?i)select", Some(vec!["elect"])),
            (r"\bUNION\s+ALL\b", Some(vec!["union"])),
            (r"x*(cmd|powershell)\.exe$", Some(vec![".exe"])),
            (r"^(foo|bar|quux)\d", Some(vec!["foo", "bar", "quux"])),
            (r"(?:/etc/(?:passwd|shadow))", Some(vec!["passwd", "shadow"])),
            ("(longer)?abc", Some(vec!["abc"])),
            ("(longer)+", Some(vec!["longer"])),
            ("a.b.c", None),
            ("foo|b", None),
            (r"(?-u)\xff\xfe\xfd", None),
            ("", None),
        ] {
            let found = of_regex(&Regex::new(pattern).unwrap());
            assert_eq!(found, expected.map(|set| set.into_iter().map(str::to_owned).collect()), "{pattern}");
        }
    }

    #[test]
    fn a_glob_requires_its_longest_text() {
        let text = |text: &str| Glob::Text(text.to_owned());
        assert_eq!(of_glob(&[text("ab"), Glob::Any, text("CDE")]), Some("cde".to_owned()));
        assert_eq!(of_glob(&[text("ab"), Glob::One, text("cd")]), None);
    }
}
