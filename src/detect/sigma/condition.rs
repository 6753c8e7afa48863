//! `condition`: a recursive-descent parser over search identifiers.
//!
//! ```text
//! or      = and { "or" and }
//! and     = unary { "and" unary }
//! unary   = "not" unary | primary
//! primary = "(" or ")" | ("1" | "any" | "all") "of" ("them" | pattern) | identifier
//! ```
//!
//! Source: Sigma rules specification 2.1.0, "Condition". Words are separated by white space and brackets;
//! the operators are read in any case.

use super::detection::Identifiers;
use super::reader::{Place, Reader};
use super::value::{all, any};
use crate::config::{Content, Node};
use crate::error::Diagnostic;
use crate::matcher::Expr;

/// Brackets and `not` inside each other.
const CONDITION_DEPTH_MAX: usize = 64;

/// Bytes of one condition; the longest public one has 542. Bounds patterns times identifiers.
const CONDITION_BYTES_MAX: usize = 16 * 1024;

/// Conditions of one rule.
const CONDITIONS_MAX: usize = 64;

/// The expression of a condition, or of a list of them, of which one has to hold.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, path: &str, identifiers: &mut Identifiers<'_>) -> Option<Expr<String>> {
    let items: Vec<Place<'_>> = match &node.content {
        Content::Sequence(items) => items.iter().enumerate().map(|(index, node)| Place { node, path, index: Some(index) }).collect(),
        _ => vec![Place::new(node, path)],
    };
    if items.is_empty() || items.len() > CONDITIONS_MAX {
        reader.error(Place::new(node, path), format!("1 to {CONDITIONS_MAX} conditions are expected, found {}", items.len()));
        return None;
    }
    let errors = reader.error_count();
    let mut conditions = Vec::with_capacity(items.len());
    for place in items {
        let Some(text) = place.node.text().filter(|_| !place.node.is_null()) else {
            reader.error(place, format!("a condition is expected, found {}", place.node.describe()));
            continue;
        };
        if text.len() > CONDITION_BYTES_MAX {
            reader.error(place, format!("the condition is longer than {CONDITION_BYTES_MAX} bytes"));
            continue;
        }
        let words = words(text);
        let mut parser = Parser { reader: &mut *reader, place, words: &words, position: 0, depth: 0, identifiers: &mut *identifiers };
        match parser.whole() {
            Ok(expr) => conditions.push(expr),
            Err(diagnostic) => reader.report(diagnostic),
        }
    }
    (reader.error_count() == errors).then(|| any(conditions))
}

#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    /// Characters in front of it in the condition.
    offset: usize,
}

impl Word<'_> {
    fn is(self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword)
    }
}

/// Whether a word that is no search identifier starts an aggregation of Sigma 1.
fn is_aggregation(word: Word<'_>) -> bool {
    word.text.contains('|') || word.is("near")
}

fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start: Option<(usize, usize)> = None;
    for (offset, (index, c)) in text.char_indices().enumerate() {
        let is_bracket = matches!(c, '(' | ')');
        if !is_bracket && !c.is_whitespace() {
            start.get_or_insert((offset, index));
            continue;
        }
        if let Some((offset, from)) = start.take() {
            words.push(Word { text: text.get(from..index).unwrap_or_default(), offset });
        }
        if is_bracket {
            words.push(Word { text: text.get(index..=index).unwrap_or_default(), offset });
        }
    }
    if let Some((offset, from)) = start {
        words.push(Word { text: text.get(from..).unwrap_or_default(), offset });
    }
    words
}

struct Parser<'p, 'r, 'n> {
    reader: &'p mut Reader<'r>,
    place: Place<'p>,
    words: &'p [Word<'p>],
    position: usize,
    depth: usize,
    identifiers: &'p mut Identifiers<'n>,
}

type Parsed = Result<Expr<String>, Diagnostic>;

impl<'p> Parser<'p, '_, '_> {
    fn whole(&mut self) -> Parsed {
        let expr = self.or()?;
        match self.peek() {
            None => Ok(expr),
            Some(word) if word.is(")") => Err(self.fail(Some(word), "this bracket closes nothing")),
            Some(word) if is_aggregation(word) => Err(self.aggregation(word)),
            Some(word) => Err(self.fail(Some(word), format!("`and`, `or` or the end is expected, found `{}`", word.text))),
        }
    }

    fn aggregation(&self, word: Word<'_>) -> Diagnostic {
        let help = "write a correlation rule: type `event_count`, `value_count` or `temporal`";
        self.fail(Some(word), "aggregations (`| count()`, `near`) are obsolete in Sigma 2").help(help)
    }

    fn peek(&self) -> Option<Word<'p>> {
        self.words.get(self.position).copied()
    }

    fn take(&mut self, keyword: &str) -> bool {
        let is_it = self.peek().is_some_and(|word| word.is(keyword));
        self.position += usize::from(is_it);
        is_it
    }

    /// An error at a word, or at the end. The column is exact if the condition is plain text on one line.
    fn fail(&self, word: Option<Word<'_>>, message: impl Into<String>) -> Diagnostic {
        let mut diagnostic = self.reader.at(self.place, message);
        let text = self.place.node.text().unwrap_or_default();
        if !text.contains('\n') && matches!(self.place.node.content, Content::Scalar { plain: true, .. }) {
            diagnostic.column += word.map_or_else(|| text.chars().count(), |word| word.offset);
        }
        diagnostic
    }

    fn or(&mut self) -> Parsed {
        let mut items = vec![self.and()?];
        while self.take("or") {
            items.push(self.and()?);
        }
        Ok(any(items))
    }

    fn and(&mut self) -> Parsed {
        let mut items = vec![self.unary()?];
        while self.take("and") {
            items.push(self.unary()?);
        }
        Ok(all(items))
    }

    fn unary(&mut self) -> Parsed {
        let word = self.peek();
        if self.take("not") {
            return self.nested(word, |parser| parser.unary().map(|expr| Expr::Not(Box::new(expr))));
        }
        if self.take("(") {
            let expr = self.nested(word, Self::or)?;
            return if self.take(")") { Ok(expr) } else { Err(self.fail(self.peek(), "`)` is missing")) };
        }
        let Some(word) = word else {
            return Err(self.fail(None, "the condition ends where a search identifier is expected"));
        };
        self.position += 1;
        if self.peek().is_some_and(|next| next.is("of")) {
            return self.quantified(word);
        }
        self.identifier(word)
    }

    fn nested(&mut self, word: Option<Word<'_>>, inner: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        if self.depth >= CONDITION_DEPTH_MAX {
            return Err(self.fail(word, format!("nested deeper than {CONDITION_DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let expr = inner(self);
        self.depth -= 1;
        expr
    }

    fn quantified(&mut self, quantity: Word<'_>) -> Parsed {
        self.position += 1;
        let is_all = quantity.is("all");
        if !is_all && !quantity.is("1") && !quantity.is("any") {
            return Err(self.fail(Some(quantity), format!("`1 of` or `all of` is expected, found `{} of`", quantity.text)));
        }
        let Some(pattern) = self.peek().filter(|word| !matches!(word.text, "(" | ")")) else {
            return Err(self.fail(self.peek(), "`them` or a pattern such as `selection*` is expected behind `of`"));
        };
        self.position += 1;
        let wanted = |name: &str| match pattern.text {
            _ if pattern.is("them") => !name.starts_with('_'),
            text => (text.starts_with('_') || !name.starts_with('_')) && wildcard(text, name),
        };
        let found: Vec<usize> = (0..).zip(&self.identifiers.list).filter(|(_, i)| wanted(i.name)).map(|(index, _)| index).collect();
        if found.is_empty() {
            let message = format!("no search identifier fits `{}`", pattern.text);
            let help = self.known(pattern.text);
            let diagnostic = self.fail(Some(pattern), message).help(help);
            self.reader.report(diagnostic);
        }
        let items = found.into_iter().map(|index| self.inline(index)).collect();
        Ok(if is_all { all(items) } else { any(items) })
    }

    fn identifier(&mut self, word: Word<'_>) -> Parsed {
        if let Some(index) = self.identifiers.by_name.get(word.text) {
            return Ok(self.inline(*index));
        }
        if is_aggregation(word) {
            return Err(self.aggregation(word));
        }
        if [")", "and", "or", "of"].iter().any(|keyword| word.is(keyword)) {
            return Err(self.fail(Some(word), format!("a search identifier is expected, found `{}`", word.text)));
        }
        let hint = if word.text.contains('*') { "a pattern needs `1 of` or `all of` in front; " } else { "" };
        let help = format!("{hint}{}", self.known(word.text));
        let diagnostic = self.fail(Some(word), format!("there is no search identifier `{}`", word.text)).help(help);
        self.reader.report(diagnostic);
        Ok(Expr::Any(Vec::new()))
    }

    fn known(&self, name: &str) -> String {
        self.reader.one_of(name, self.identifiers.list.iter().map(|identifier| identifier.name))
    }

    /// The expression of a search identifier. One that is used again is copied, against the file's budget.
    /// After a mistake it does not matter what it is, since the rule is refused.
    fn inline(&mut self, index: usize) -> Expr<String> {
        let nothing = Expr::Any(Vec::new());
        let Some(identifier) = self.identifiers.list.get_mut(index) else { return nothing };
        identifier.is_used = true;
        match &identifier.expr {
            Some(expr) if self.reader.spend(self.place, identifier.weight) => expr.clone(),
            _ => nothing,
        }
    }
}

/// Whether `name` fits a pattern in which `*` stands for any run of characters.
fn wildcard(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some((_, behind)) = name.split_once(part) else { return false };
        name = behind;
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::wildcard;

    #[test]
    fn a_wildcard_may_stand_anywhere_in_a_pattern() {
        assert!(wildcard("selection_*", "selection_"));
        assert!(wildcard("*_cli", "selection_cli"));
        assert!(wildcard("s*_*_x", "selection_a_b_x"));
        assert!(wildcard("*", "anything"));
        assert!(wildcard("same", "same"));
        assert!(!wildcard("same", "samer"));
        assert!(!wildcard("ab*ba", "aba"), "start and end may not overlap");
        assert!(!wildcard("s*_*_x", "selection_x"));
    }
}
