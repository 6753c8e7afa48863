//! `stix`: indicators of a STIX bundle (STIX 2.1, section 4.7; patterns: section 9).
//!
//! A pattern is taken as far as single values say the same: comparisons by `=` and `IN`, for addresses also `ISSUBSET`,
//! joined by `OR`, in one observation or in several joined by `OR`:
//!
//! ```text
//! [ipv4-addr:value = '198.51.100.1' OR ipv4-addr:value ISSUBSET '203.0.113.0/24'] OR [domain-name:value IN ('a.example', 'b.example')]
//! ```
//!
//! `AND`, `FOLLOWEDBY`, `NOT`, `!=`, `LIKE`, `MATCHES`, qualifiers (`WITHIN`, `REPEATS`, `START`) and other paths cannot
//! be looked up one by one: the pattern (or, between `OR`, the comparison) is left out and named. So are indicators that
//! are revoked; those that are no longer valid are given with their end.

use std::collections::VecDeque;

use serde::Deserialize;

use super::{Details, Found, Kind, Refusal, push, text, time_ms};

/// Longest pattern; a list of a few thousand values.
const PATTERN_BYTES_MAX: usize = 512 * 1024;

/// Parentheses in parentheses.
const DEPTH_MAX: usize = 32;

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    pattern: String,
    #[serde(default)]
    pattern_type: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    confidence: Option<u8>,
    #[serde(default)]
    revoked: bool,
    #[serde(default)]
    valid_from: Option<String>,
    #[serde(default)]
    valid_until: Option<String>,
}

/// Reads one object of a bundle; what is no indicator says something about one.
pub(super) fn read(line: usize, object: &[u8], found: &mut VecDeque<Found>) {
    let object: Object = match serde_json::from_slice(object) {
        Ok(object) => object,
        Err(error) => {
            found.push_back(Err(Refusal::skipped(line, "not an object of STIX", &error.to_string())));
            return;
        }
    };
    if object.r#type != "indicator" {
        return;
    }
    let refuse = |reason: String| Err(Refusal::skipped(line, reason, &object.pattern));
    if object.revoked {
        return found.push_back(refuse("revoked".to_owned()));
    }
    if let Some(language) = object.pattern_type.as_deref().filter(|language| *language != "stix") {
        return found.push_back(refuse(format!("the pattern is of the language `{}`", super::cut(language, 40))));
    }
    let valid_until_ms = object.valid_until.as_deref().and_then(time_ms);
    let details = Details {
        confidence: object.confidence.filter(|percent| *percent <= 100),
        description: object.name.as_deref().and_then(text),
        first_seen_ms: object.valid_from.as_deref().and_then(time_ms),
        valid_until_ms,
        ..Details::default()
    };
    match values(&object.pattern) {
        Ok(values) => {
            for value in values {
                match value {
                    Ok((kind, value)) => push(found, line, (Some(kind), &value), details.clone()),
                    Err(reason) => found.push_back(refuse(reason)),
                }
            }
        }
        Err(reason) => found.push_back(refuse(reason)),
    }
}

/// A value to look up, or why a comparison between `OR` is left out.
type Comparison = Result<(Kind, String), String>;

/// The values any of which fulfils the pattern.
fn values(pattern: &str) -> Result<Vec<Comparison>, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err("the pattern is too long".to_owned());
    }
    let mut parser = Parser { rest: pattern, found: Vec::new(), depth: 0 };
    parser.observations()?;
    match parser.token()? {
        None => Ok(parser.found),
        Some(token) => Err(parser.unexpected(&token)),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// Brackets, commas, operators.
    Sign(char),
    /// Keywords, paths, numbers.
    Word(String),
    Text(String),
}

struct Parser<'a> {
    rest: &'a str,
    found: Vec<Comparison>,
    depth: usize,
}

impl Parser<'_> {
    /// `[..] OR ([..] OR [..])`
    fn observations(&mut self) -> Result<(), String> {
        self.joined(|parser| match parser.token()? {
            Some(Token::Sign('[')) => {
                parser.comparisons()?;
                parser.expect(']')
            }
            Some(Token::Sign('(')) => {
                parser.observations()?;
                parser.expect(')')
            }
            Some(token) => Err(parser.unexpected(&token)),
            None => Err(CUT.to_owned()),
        })
    }

    /// `a = 'b' OR (c IN ('d') OR e = 'f')`
    fn comparisons(&mut self) -> Result<(), String> {
        self.joined(|parser| match parser.token()? {
            Some(Token::Sign('(')) => {
                parser.comparisons()?;
                parser.expect(')')
            }
            Some(Token::Word(word)) if !is_keyword(&word) => parser.comparison(&word),
            Some(token) => Err(parser.unexpected(&token)),
            None => Err(CUT.to_owned()),
        })
    }

    /// One or more of something with `OR` between them.
    fn joined(&mut self, mut one: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("too many parentheses".to_owned());
        }
        loop {
            one(self)?;
            let before = self.rest;
            if self.token()? != Some(Token::Word("OR".to_owned())) {
                self.rest = before;
                break;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn comparison(&mut self, path: &str) -> Result<(), String> {
        let operator = match self.token()? {
            Some(Token::Sign(sign @ ('=' | '!' | '<' | '>'))) => sign.to_string(),
            Some(Token::Word(word)) if is_keyword(&word) => word,
            Some(token) => return Err(self.unexpected(&token)),
            None => return Err(CUT.to_owned()),
        };
        let mut values = Vec::new();
        match (operator.as_str(), self.token()?) {
            ("=" | "ISSUBSET" | "LIKE" | "MATCHES" | "ISSUPERSET", Some(Token::Text(text) | Token::Word(text))) => values.push(text),
            ("IN", Some(Token::Sign('('))) => loop {
                match self.token()? {
                    Some(Token::Text(text) | Token::Word(text)) => values.push(text),
                    Some(token) => return Err(self.unexpected(&token)),
                    None => return Err(CUT.to_owned()),
                }
                match self.token()? {
                    Some(Token::Sign(',')) => {}
                    Some(Token::Sign(')')) => break,
                    Some(token) => return Err(self.unexpected(&token)),
                    None => return Err(CUT.to_owned()),
                }
            },
            (_, Some(_)) => return Err(format!("`{operator}` in a pattern cannot be looked up")),
            (_, None) => return Err(CUT.to_owned()),
        }
        let found = match (kind_of(path), operator.as_str()) {
            (Some(kind), "=" | "IN") => Ok(kind),
            (Some(Kind::Ip), "ISSUBSET") => Ok(Kind::Ip),
            (Some(_), _) => Err(format!("`{operator}` in a pattern cannot be looked up")),
            (None, _) => Err(format!("nothing is looked up for `{}`", super::cut(path, 60))),
        };
        match found {
            Ok(kind) => self.found.extend(values.into_iter().map(|value| Ok((kind, value)))),
            Err(reason) => self.found.push(Err(reason)),
        }
        Ok(())
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        match self.token()? {
            Some(Token::Sign(found)) if found == sign => Ok(()),
            Some(token) => Err(self.unexpected(&token)),
            None => Err(CUT.to_owned()),
        }
    }

    /// What stands where it cannot be taken.
    fn unexpected(&self, token: &Token) -> String {
        match token {
            Token::Word(word) if is_keyword(word) => format!("`{word}` in a pattern cannot be looked up"),
            _ => "not a pattern of STIX".to_owned(),
        }
    }

    fn token(&mut self) -> Result<Option<Token>, String> {
        let rest = self.rest.trim_start();
        let Some(first) = rest.chars().next() else {
            self.rest = "";
            return Ok(None);
        };
        match first {
            '[' | ']' | '(' | ')' | ',' | '=' | '<' | '>' | '!' => {
                // `!=`, `<=`, `>=`, `<>`: the first sign says that it is not `=`; `==` is an old form of `=`.
                let len = 1 + usize::from(matches!(first, '=' | '!' | '<' | '>') && rest[1..].starts_with(['=', '>']));
                self.rest = &rest[len..];
                Ok(Some(Token::Sign(first)))
            }
            '\'' => self.text(&rest[1..]).map(Some),
            _ => self.word(rest).map(Some),
        }
    }

    /// A string behind its first quote; `\'` and `\\` are a quote and a backslash.
    fn text(&mut self, rest: &str) -> Result<Token, String> {
        let mut text = String::new();
        let mut characters = rest.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '\'' => {
                    // Moves behind the quote of the text that the parser has.
                    self.skip(rest, at + 1);
                    return Ok(Token::Text(text));
                }
                '\\' => text.extend(characters.next().map(|(_, escaped)| escaped)),
                _ => text.push(character),
            }
        }
        Err(CUT.to_owned())
    }

    /// A word; a path may have quotes inside: `file:hashes.'SHA-256'`.
    fn word(&mut self, rest: &str) -> Result<Token, String> {
        let mut quote = None;
        let is_end = |(_, character): &(usize, char)| match quote {
            Some(open) => {
                if *character == open {
                    quote = None;
                }
                false
            }
            None if matches!(character, '\'' | '"') => {
                quote = Some(*character);
                false
            }
            None => character.is_whitespace() || matches!(character, '[' | ']' | '(' | ')' | ',' | '=' | '<' | '>' | '!'),
        };
        let end = rest.char_indices().find(is_end).map_or(rest.len(), |(at, _)| at);
        let word = rest.get(..end).unwrap_or_default().to_owned();
        self.skip(rest, end);
        if word.is_empty() { Err("not a pattern of STIX".to_owned()) } else { Ok(Token::Word(word)) }
    }

    /// Goes on behind `len` bytes of `rest`, which ends where the parser's text ends.
    fn skip(&mut self, rest: &str, len: usize) {
        let left = rest.len() - len;
        self.rest = self.rest.get(self.rest.len() - left..).unwrap_or_default();
    }
}

const CUT: &str = "the pattern ends in the middle";

fn is_keyword(word: &str) -> bool {
    const KEYWORDS: [&str; 16] = [
        "AND",
        "OR",
        "NOT",
        "FOLLOWEDBY",
        "IN",
        "LIKE",
        "MATCHES",
        "ISSUBSET",
        "ISSUPERSET",
        "EXISTS",
        "WITHIN",
        "REPEATS",
        "TIMES",
        "SECONDS",
        "START",
        "STOP",
    ];
    KEYWORDS.contains(&word)
}

/// What is looked up for an object path.
fn kind_of(path: &str) -> Option<Kind> {
    match path {
        "ipv4-addr:value" | "ipv6-addr:value" => Some(Kind::Ip),
        "domain-name:value" => Some(Kind::Domain),
        "url:value" => Some(Kind::Url),
        "email-addr:value" => Some(Kind::Email),
        _ => {
            let (object, property) = path.split_once(":hashes.")?;
            let name = property.trim_matches(['\'', '"']);
            let is_known = ["MD5", "SHA-1", "SHA-224", "SHA-256", "SHA-384", "SHA-512", "SHA1", "SHA256", "SHA512"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name));
            (matches!(object, "file" | "artifact" | "x509-certificate") && is_known).then_some(Kind::Hash)
        }
    }
}
