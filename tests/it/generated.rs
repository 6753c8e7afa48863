//! Sigma rules and JSON events made of choices; `crate::oracles` asks about them.
//!
//! In: bytes, each a choice, at random ([`Random`]) or from the fuzzer. Out: the text of a rule file, and events as JSON. Behind the end
//! of the bytes every choice is the first one, which is the simplest: fewer and smaller bytes make a smaller case.
//!
//! Events are made of what the rules ask for, so that most of a rule holds, and what does not fails by little: a letter's
//! case, the last character, a place. Literals stand in noise of any length, and so at every border of what walks a text in
//! blocks; noise is mostly a beginning of the literal itself. Text is escaped in every way that JSON has.
//!
//! The package of the fuzz targets has this file too.

use hydrant::detect::sigma::{Placeholders, SigmaRule};
use hydrant::matcher::{Expr, Glob, Number, Predicate, TextOp};
use regex_syntax::hir::{Class, Hir, HirKind};

/// Reads bytes as a stream of choices, so that the fuzzer can change one without moving the others.
pub struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    /// The next byte, 0 behind the end.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `limit`, which is at most 65,536.
    pub fn below(&mut self, limit: usize) -> usize {
        let high = if limit > 256 { usize::from(self.byte()) << 8 } else { 0 };
        (high + usize::from(self.byte())) % limit
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// The next bytes, up to a number that is chosen too.
    pub fn bytes(&mut self, max: usize) -> &'a [u8] {
        let len = self.below(max).min(self.0.len());
        let (found, rest) = self.0.split_at(len);
        self.0 = rest;
        found
    }

    /// Whether it is the one choice of so many; not behind the end.
    fn seldom(&mut self, many: usize) -> bool {
        self.below(many) == many - 1
    }
}

/// Pseudo-random numbers (Knuth's MMIX generator).
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    /// So many choices.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(256) as u8).collect()
    }
}

/// What words are made of: letters of one to four bytes, some with odd cases, and what means something in YAML, in JSON, in a
/// Sigma string or as a number. They overlap, and so do words.
const PARTS: [&str; 45] = [
    "admin",
    "ADMIN",
    "ad",
    "min",
    "a",
    "b",
    "ab",
    "aab",
    "xyz",
    "powershell",
    ".exe",
    "cmd",
    "/",
    "-",
    "%",
    " ",
    "\\",
    "\\\\",
    "*",
    "?",
    "\\*",
    "\"",
    "'",
    "\n",
    "\t",
    ",",
    "]",
    "é",
    "É",
    "\u{212a}",
    "k",
    "i",
    "ß",
    "S",
    "😀",
    "443",
    "5",
    ".",
    "0",
    "true",
    "null",
    "10.1.2.3",
    "::ffff:10.1.2.3",
    "YWRtaW4",
    "|",
];

/// Letters whose lower case is longer, depends on what follows, or is shared.
const ODD: [&str; 5] = ["İ", "σ", "Σ", "ς", "ſ"];

/// Fields that rules ask for. The last one's values are collected into a list that is in no event as it stands.
const FIELDS: [&str; 5] = ["f", "g", "h", "i.j", "t[].n"];

/// What stands behind a modifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Text,
    /// Text without wildcards.
    Plain,
    Regex,
    Network,
    Number,
    Flag,
    Field,
    /// A part of a time.
    Part,
    Year,
    Placeholder,
}

/// Modifiers that load, the common ones more than once.
const MODIFIERS: [(&str, Takes); 62] = [
    ("", Takes::Text),
    ("|contains", Takes::Text),
    ("|startswith", Takes::Text),
    ("|endswith", Takes::Text),
    ("|contains|all", Takes::Text),
    ("|contains", Takes::Text),
    ("|contains|cased", Takes::Text),
    ("", Takes::Text),
    ("|contains", Takes::Text),
    ("|startswith", Takes::Text),
    ("|endswith", Takes::Text),
    ("|endswith", Takes::Plain),
    ("|startswith", Takes::Plain),
    ("|contains|all", Takes::Text),
    ("|contains|cased", Takes::Text),
    ("", Takes::Number),
    ("|all", Takes::Text),
    ("|cased", Takes::Text),
    ("|startswith|cased", Takes::Text),
    ("|endswith|cased", Takes::Plain),
    ("|contains|all|cased", Takes::Text),
    ("|re", Takes::Regex),
    ("|re|i", Takes::Regex),
    ("|re|m", Takes::Regex),
    ("|re|s", Takes::Regex),
    ("|re|i|s", Takes::Regex),
    ("|re|all", Takes::Regex),
    ("|cidr", Takes::Network),
    ("|cidr", Takes::Network),
    ("|lt", Takes::Number),
    ("|lte", Takes::Number),
    ("|gt", Takes::Number),
    ("|gte", Takes::Number),
    ("|exists", Takes::Flag),
    ("|neq", Takes::Text),
    ("|neq", Takes::Number),
    ("|contains|neq", Takes::Text),
    ("|re|neq", Takes::Regex),
    ("|cidr|neq", Takes::Network),
    ("|windash", Takes::Plain),
    ("|contains|windash", Takes::Plain),
    ("|endswith|windash", Takes::Plain),
    ("|base64", Takes::Plain),
    ("|base64|contains", Takes::Plain),
    ("|base64offset|contains", Takes::Plain),
    ("|wide|base64offset|contains", Takes::Plain),
    ("|utf16|base64|contains", Takes::Plain),
    ("|utf16be|base64offset|contains|cased", Takes::Plain),
    ("|fieldref", Takes::Field),
    ("|fieldref|cased", Takes::Field),
    ("|fieldref|neq", Takes::Field),
    ("|fieldref|startswith", Takes::Field),
    ("|fieldref|endswith", Takes::Field),
    ("|fieldref|contains", Takes::Field),
    ("|minute", Takes::Part),
    ("|hour|gte", Takes::Part),
    ("|day", Takes::Part),
    ("|week", Takes::Part),
    ("|month|lt", Takes::Part),
    ("|year", Takes::Year),
    ("|expand", Takes::Placeholder),
    ("|contains|expand", Takes::Placeholder),
];

/// Those of keywords.
const KEYWORD_MODIFIERS: [(&str, Takes); 6] = [
    ("|all", Takes::Text),
    ("|cased", Takes::Text),
    ("|contains", Takes::Text),
    ("|re", Takes::Regex),
    ("|base64offset|contains", Takes::Plain),
    ("|windash", Takes::Plain),
];

const REGEXES: [&str; 14] = [
    "a+b",
    "^ad",
    "in$",
    "(a|b){2,3}",
    "[^x]x",
    ".",
    "admin|power",
    "^power(shell|point)[.]exe",
    r"\d{3}",
    "[éÉ]",
    r"adm.n\s?",
    "^$",
    "k|ß",
    "b(?:admin)?a",
];

const NETWORKS: [&str; 8] =
    ["10.0.0.0/8", "10.1.2.0/24", "10.1.2.3", "10.1.2.3/31", "fe80::/10", "2001:db8::/32", "::ffff:0:0/96", "0.0.0.0/0"];

const NUMBERS: [&str; 9] = ["443", "5", "0", "-7", "0.5", "443.0", "9007199254740993", "18446744073709551615", "1e3"];

/// Literals of a long list: few enough to be searched one by one, as many as fit one table or search, one more, many.
const LONG_LISTS: [usize; 6] = [4, 8, 9, 64, 65, 140];

/// Searches of a rule. Conditions do not count the last among "them".
const SEARCHES: [&str; 3] = ["s0", "s1", "_h"];

/// What has to be known to load the rules: an end of a word, and a pattern.
pub fn placeholders() -> Placeholders {
    [("name".to_owned(), vec!["admin".to_owned(), "ab*n".to_owned()])].into()
}

/// The documents of a rule file: mostly no filter, and rules, whose ids end with their number.
pub fn documents(choices: &mut Choices<'_>) -> Vec<String> {
    let words = (0..3 + choices.below(6)).map(|_| word(choices)).collect();
    let mut maker = RuleMaker { choices, words };
    let count = 1 + maker.choices.below(8);
    let filter = maker.choices.seldom(6).then(|| maker.filter());
    let rules = (0..count).map(|number| maker.rule(number));
    filter.into_iter().chain(rules.collect::<Vec<_>>()).collect()
}

fn word(choices: &mut Choices<'_>) -> String {
    let mut word: String = (0..1 + choices.below(4)).map(|_| choices.pick(&PARTS)).collect();
    if choices.seldom(8) {
        word.extend(choices.bytes(9).iter().map(|byte| char::from(b' ' + byte % 95)));
    }
    if choices.seldom(16) {
        word.push_str(choices.pick(&ODD));
    }
    word
}

/// Text in the quotes of YAML, which here are those of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text without its last character.
fn shorter(text: &str) -> &str {
    text.char_indices().next_back().map_or(text, |(end, _)| &text[..end])
}

struct RuleMaker<'c, 'b> {
    choices: &'c mut Choices<'b>,
    /// All rules are about these.
    words: Vec<String>,
}

impl RuleMaker<'_, '_> {
    fn rule(&mut self, number: usize) -> String {
        let searches = 1 + self.choices.below(SEARCHES.len());
        let mut rule = format!(
            "---\ntitle: t{number}\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a{number:02}\nlogsource: {{ product: test }}\ndetection:\n"
        );
        for name in &SEARCHES[..searches] {
            rule.push_str(&format!("  {name}: {}\n", self.search()));
        }
        let condition = self.condition(searches, 3);
        let condition = match self.choices.seldom(16) {
            true => format!("[{}, {}]", quoted(&condition), quoted(&self.condition(searches, 1))),
            false => condition,
        };
        rule.push_str(&format!("  condition: {condition}\n"));
        rule
    }

    fn filter(&mut self) -> String {
        let rules = self.choices.pick(&["any", "[5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a00]"]);
        let condition = self.choices.pick(&["not selection", "selection"]);
        let search = self.search();
        format!(
            "---\ntitle: x\nlogsource: {{ product: test }}\nfilter:\n  rules: {rules}\n  selection: {search}\n  condition: {condition}\n"
        )
    }

    fn condition(&mut self, searches: usize, depth: usize) -> String {
        let name = SEARCHES[self.choices.below(searches)].to_owned();
        if depth == 0 {
            return name;
        }
        match self.choices.below(10) {
            0 | 1 => name,
            2 => format!("not {}", self.condition(searches, 0)),
            3 | 4 => format!("{} and {}", self.condition(searches, depth - 1), self.condition(searches, depth - 1)),
            5 => format!("{} or {}", self.condition(searches, depth - 1), self.condition(searches, depth - 1)),
            6 => format!("{name} and not ({})", self.condition(searches, depth - 1)),
            7 => format!("not ({}) or {name}", self.condition(searches, depth - 1)),
            8 => format!("({}) and {name}", self.condition(searches, depth - 1)),
            _ => self.choices.pick(&["1 of s*", "all of s*", "1 of them", "all of them", "any of s*", "not 1 of s*", "1 of _*"]).to_owned(),
        }
    }

    fn search(&mut self) -> String {
        match self.choices.below(10) {
            0..=6 => self.map(),
            7 => {
                let alternatives: Vec<String> = (0..1 + self.choices.below(3)).map(|_| self.map()).collect();
                let keyword = if self.choices.seldom(4) { format!(", {}", quoted(&self.text())) } else { String::new() };
                format!("[{}{keyword}]", alternatives.join(", "))
            }
            8 => self.list(1, "", Takes::Text),
            _ => {
                let (modifier, takes) = self.choices.pick(&KEYWORD_MODIFIERS);
                let least = if modifier == "|all" { 2 } else { 1 };
                format!("{{{}: {}}}", quoted(modifier), self.list(least, modifier, takes))
            }
        }
    }

    fn map(&mut self) -> String {
        let first = self.choices.below(FIELDS.len());
        let mut items = Vec::new();
        for index in 0..1 + self.choices.below(3) {
            let (modifier, takes) = self.choices.pick(&MODIFIERS);
            let values = self.values(modifier, takes);
            items.push(format!("{}: {values}", quoted(&format!("{}{modifier}", FIELDS[(first + index) % FIELDS.len()]))));
        }
        format!("{{{}}}", items.join(", "))
    }

    fn values(&mut self, modifier: &str, takes: Takes) -> String {
        if takes == Takes::Flag {
            return self.choices.pick(&["true", "false"]).to_owned();
        }
        if modifier.contains("|all") {
            return self.list(2, modifier, takes);
        }
        match self.choices.below(4) {
            0 | 1 => self.value(modifier, takes),
            2 if ["", "|neq"].contains(&modifier) && self.choices.seldom(2) => "null".to_owned(),
            _ => self.list(1, modifier, takes),
        }
    }

    fn list(&mut self, least: usize, modifier: &str, takes: Takes) -> String {
        let mut values: Vec<String> = (0..least + self.choices.below(4)).map(|_| self.value(modifier, takes)).collect();
        if takes == Takes::Text && self.choices.seldom(8) {
            let word = self.words[self.choices.below(self.words.len())].clone();
            let count = self.choices.pick(&LONG_LISTS);
            values.extend((0..count).map(|number| quoted(&format!("{word}{number}{}", shorter(&word)))));
        }
        format!("[{}]", values.join(", "))
    }

    fn value(&mut self, modifier: &str, takes: Takes) -> String {
        match takes {
            Takes::Text if modifier.is_empty() && self.choices.seldom(6) => self.choices.pick(&["true", "false", "443", "-7"]).to_owned(),
            Takes::Text => quoted(&self.text()),
            Takes::Plain => {
                let text = self.text().replace(['*', '?', '\\'], "");
                quoted(if text.len() < 2 { "ab" } else { &text })
            }
            Takes::Regex => match self.choices.below(3) {
                0 | 1 => quoted(self.choices.pick(&REGEXES)),
                _ => quoted(&format!("{}.*{}", regex_syntax::escape(&self.text()), regex_syntax::escape(&self.text()))),
            },
            Takes::Network => quoted(self.choices.pick(&NETWORKS)),
            Takes::Number => self.choices.pick(&NUMBERS).to_owned(),
            Takes::Flag => "true".to_owned(),
            Takes::Field => quoted(self.choices.pick(&FIELDS)),
            Takes::Part => self.choices.pick(&["1", "3", "11", "2"]).to_owned(),
            Takes::Year => self.choices.pick(&["2026", "2027"]).to_owned(),
            Takes::Placeholder => quoted(self.choices.pick(&["%name%", "x%name%", r"\%name%", "%name% %name%"])),
        }
    }

    fn text(&mut self) -> String {
        let word = self.words[self.choices.below(self.words.len())].clone();
        match self.choices.below(8) {
            0..=3 => word,
            4 => format!("{word}{}", self.words[self.choices.below(self.words.len())]),
            5 => shorter(&word).to_owned(),
            6 => word.chars().skip(1).collect(),
            _ => format!("{word}{}{}", self.choices.pick(&["*", "?"]), self.words[self.choices.below(self.words.len())]),
        }
    }
}

/// An event that some of these rules may match, as JSON. Now and then it is not quite UTF-8.
pub fn event(choices: &mut Choices<'_>, rules: &[SigmaRule]) -> Vec<u8> {
    let spoils = choices.below(2) == 1;
    let mut maker = EventMaker { choices, spoils, fields: Vec::new() };
    for _ in 0..1 + maker.choices.below(3) {
        if let Some(rule) = rules.len().checked_sub(1).and_then(|last| rules.get(maker.choices.below(last + 1))) {
            maker.satisfy(&rule.condition);
        }
    }
    for field in FIELDS {
        if maker.choices.seldom(6) {
            let value = maker.anything();
            maker.fields.push((field.to_owned(), value));
        }
    }
    maker.event()
}

const TIMES: [&str; 4] = ["2026-01-03T11:03:59Z", "2026-02-01T01:30:00+02:00", "2027-01-11T02:11:00.5Z", "never"];

enum Json {
    Text(String),
    /// A number, a boolean, null, something empty.
    Plain(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

fn plain(text: impl ToString) -> Json {
    Json::Plain(text.to_string())
}

struct EventMaker<'c, 'b> {
    choices: &'c mut Choices<'b>,
    /// Whether something may be wrong with what it makes.
    spoils: bool,
    /// By the names that rules have for them; a name may come twice.
    fields: Vec<(String, Json)>,
}

impl EventMaker<'_, '_> {
    /// Fills fields so that the condition tends to hold.
    fn satisfy(&mut self, expr: &Expr<String>) {
        match expr {
            Expr::All(items) => items.iter().for_each(|item| self.satisfy(item)),
            Expr::Any(items) if items.is_empty() => {}
            Expr::Any(items) => {
                let chosen = self.choices.below(items.len());
                self.satisfy(&items[chosen]);
            }
            // Now and then what should not be there is.
            Expr::Not(inner) if self.spoils && self.choices.seldom(8) => self.satisfy(inner),
            Expr::Not(_) => {}
            Expr::Field(name, predicate) => {
                let value = self.value(predicate);
                self.put(name, value);
            }
            Expr::Fields { left, op, right, cased } => {
                let text = self.noise("ab");
                let value = self.around(&text, *op, *cased);
                self.put(right, Json::Text(text));
                self.put(left, value);
            }
            Expr::Keyword(predicate) => match (self.value(predicate), self.choices.below(6)) {
                (Json::Text(text), 0) => self.fields.push((text, plain(1))),
                (value, 1) => self.put("z.y", value),
                (value, 2) => self.put("z", Json::List(vec![value])),
                (value, _) => {
                    let field = self.choices.pick(&FIELDS);
                    self.put(field, value);
                }
            },
        }
    }

    /// Texts that come together in one field are joined, so that all of several may be in it.
    fn put(&mut self, name: &str, value: Json) {
        let before = self.fields.iter_mut().find(|(field, _)| field == name);
        let value = match (before, value) {
            (Some((_, Json::Text(before))), Json::Text(text)) => match self.choices.below(4) {
                0 | 1 => return before.push_str(&text),
                2 => return before.insert_str(0, &text),
                _ => Json::List(vec![Json::Text(std::mem::take(before)), Json::Text(text)]),
            },
            (_, value) => value,
        };
        if self.spoils && self.choices.seldom(12) {
            return;
        }
        let value = match self.choices.below(16) {
            2 => Json::List(vec![self.anything(), value]),
            3 => Json::List(vec![value, Json::List(vec![self.anything()])]),
            _ => value,
        };
        // The last of repeated keys counts.
        if !self.choices.seldom(16) {
            self.fields.retain(|(field, _)| field != name);
        }
        self.fields.push((name.to_owned(), value));
    }

    /// A value that no rule asks for, or any does.
    fn anything(&mut self) -> Json {
        match self.choices.below(10) {
            0 => Json::Text(String::new()),
            1 => plain(self.choices.pick(&["null", "[]", "{}", "true", "false"])),
            2 => plain(self.choices.pick(&NUMBERS)),
            3 => Json::Text(self.choices.pick(&NUMBERS).to_owned()),
            4 => Json::Object(vec![("j".to_owned(), Json::Text(self.noise("x")))]),
            5 => Json::List(vec![plain("null"), Json::Object(vec![("n".to_owned(), plain("5"))])]),
            _ => Json::Text(self.noise("admin")),
        }
    }

    /// A value that the predicate holds for, nearly.
    fn value(&mut self, predicate: &Predicate) -> Json {
        match predicate {
            Predicate::Text { op, text, cased } => self.around(text, *op, *cased),
            Predicate::Glob { pieces, cased } => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Glob::Any => text.push_str(&self.noise("ab")),
                        Glob::One => text.push_str(self.choices.pick(&["x", "é", "?", "", "\n"])),
                        Glob::Text(piece) => text.push_str(&self.spoilt(piece, *cased)),
                    }
                }
                Json::Text(text)
            }
            Predicate::Regex(regex) => {
                let hir = regex_syntax::ParserBuilder::new().utf8(false).build().parse(regex.as_str());
                let mut text = self.noise("ad");
                hir.iter().for_each(|hir| self.sample(hir, &mut text));
                text.push_str(self.choices.pick(&["", "", "\n", "x"]));
                Json::Text(text)
            }
            Predicate::Number { number, .. } => self.number(*number),
            Predicate::Cidr(network) => {
                let (first, last) = (network.addr().to_string(), network.broadcast().to_string());
                let mapped = format!("::ffff:{first}");
                Json::Text(self.choices.pick(&[&*first, &*first, &*last, &*mapped, "192.0.2.1", "10.1.2.3:80", "FE80::1"]).to_owned())
            }
            Predicate::Boolean(wanted) => match self.choices.below(4) {
                0 | 1 => plain(wanted),
                2 => Json::Text(wanted.to_string().to_uppercase()),
                _ => Json::Text(self.choices.pick(&["1", "yes", "no", "true"]).to_owned()),
            },
            Predicate::Null => match self.choices.below(3) {
                0 => plain("null"),
                1 => Json::List(vec![plain("5"), plain("null")]),
                _ if self.spoils => self.anything(),
                _ => plain("null"),
            },
            Predicate::Time { .. } => match self.choices.below(4) {
                0 | 1 => Json::Text(self.choices.pick(&TIMES).to_owned()),
                2 => plain(self.choices.pick(&["1767438239", "1767438239000", "1767438239.5"])),
                _ => Json::Text("1767438239".to_owned()),
            },
            Predicate::Exists if self.choices.seldom(4) => plain("null"),
            Predicate::Exists | Predicate::Type(_) => self.anything(),
        }
    }

    /// A number or one beside it, written in some way.
    fn number(&mut self, number: Number) -> Json {
        let text = match number {
            Number::Integer(integer) => (integer + [0, 0, 1, -1][self.choices.below(4)]).to_string(),
            Number::Float(float) => float.to_string(),
        };
        match self.choices.below(8) {
            0..=3 => plain(text),
            4 => Json::Text(text),
            5 if !text.contains('.') => plain(format!("{text}.0")),
            6 if !text.contains('.') => Json::Text(format!("{text}.0")),
            _ => plain(format!("{text}e0")),
        }
    }

    /// A literal where the comparison wants it, or somewhere else.
    fn around(&mut self, text: &str, op: TextOp, cased: bool) -> Json {
        let wanted = self.spoilt(text, cased);
        let is_strict = !(self.spoils && self.choices.seldom(8));
        let before = if is_strict && matches!(op, TextOp::Equals | TextOp::StartsWith) { String::new() } else { self.noise(text) };
        let behind = if is_strict && matches!(op, TextOp::Equals | TextOp::EndsWith) { String::new() } else { self.noise(text) };
        Json::Text(format!("{before}{wanted}{behind}"))
    }

    /// The literal in letters of another case, or without its last or first character.
    fn spoilt(&mut self, text: &str, cased: bool) -> String {
        match self.choices.below(12) {
            6 if self.spoils => shorter(text).to_owned(),
            7 if self.spoils => text.chars().skip(1).collect(),
            _ if cased && !self.spoils => text.to_owned(),
            8 | 9 => text.to_uppercase(),
            10 => text.to_lowercase(),
            11 => text.chars().enumerate().flat_map(|(at, c)| if at % 2 == 0 { c.to_uppercase().collect() } else { vec![c] }).collect(),
            _ => text.to_owned(),
        }
    }

    /// Text around a literal.
    fn noise(&mut self, literal: &str) -> String {
        match self.choices.below(6) {
            0 => String::new(),
            1 => self.choices.pick(&PARTS).to_owned(),
            2 => format!("{literal}{}", self.choices.pick(&PARTS)),
            kind => {
                let unit = if kind == 3 { self.choices.pick(&["-", "é", "ab", "😀"]) } else { shorter(literal) };
                unit.chars().cycle().take(if unit.is_empty() { 0 } else { self.choices.below(170) }).collect()
            }
        }
    }

    /// A text that a regular expression finds itself in, but for what looks around.
    fn sample(&mut self, hir: &Hir, out: &mut String) {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => out.push_str(&String::from_utf8_lossy(&literal.0)),
            HirKind::Class(Class::Unicode(class)) if !class.ranges().is_empty() => {
                let range = class.ranges()[self.choices.below(class.ranges().len())];
                out.push(if self.choices.below(2) == 0 { range.start() } else { range.end() });
            }
            HirKind::Class(Class::Unicode(_)) => {}
            HirKind::Class(Class::Bytes(class)) => out.extend(class.ranges().first().map(|range| char::from(range.start()))),
            HirKind::Repetition(repetition) => {
                let more = u32::from(repetition.max != Some(repetition.min)) * self.choices.below(3) as u32;
                // A repetition of a thousand says no more than one of a few dozen.
                (0..(repetition.min + more).min(40)).for_each(|_| self.sample(&repetition.sub, out));
            }
            HirKind::Capture(capture) => self.sample(&capture.sub, out),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.sample(part, out)),
            HirKind::Alternation(parts) => {
                let chosen = self.choices.below(parts.len());
                self.sample(&parts[chosen], out);
            }
        }
    }

    fn event(mut self) -> Vec<u8> {
        let mut members = Vec::new();
        for (name, value) in std::mem::take(&mut self.fields) {
            let is_nested = name.contains("[].") || self.choices.below(2) == 0;
            if is_nested { nest(&mut members, &name, value) } else { members.push((name, value)) }
        }
        let gap = self.choices.pick(&["", " ", "\t "]);
        let mut out = Vec::new();
        self.write(&Json::Object(members), gap, &mut out);
        out
    }

    fn write(&mut self, value: &Json, gap: &str, out: &mut Vec<u8>) {
        match value {
            Json::Text(text) => self.write_text(text, out),
            Json::Plain(text) => out.extend_from_slice(text.as_bytes()),
            Json::List(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    out.extend_from_slice(if index > 0 { "," } else { "" }.as_bytes());
                    out.extend_from_slice(gap.as_bytes());
                    self.write(item, gap, out);
                }
                out.push(b']');
            }
            Json::Object(members) => {
                out.push(b'{');
                for (index, (name, value)) in members.iter().enumerate() {
                    out.extend_from_slice(if index > 0 { "," } else { "" }.as_bytes());
                    self.write_text(name, out);
                    out.extend_from_slice(gap.as_bytes());
                    out.push(b':');
                    out.extend_from_slice(gap.as_bytes());
                    self.write(value, gap, out);
                }
                out.push(b'}');
            }
        }
    }

    /// As a JSON string with as many escapes as have to be, one more, or all.
    fn write_text(&mut self, text: &str, out: &mut Vec<u8>) {
        let style = self.choices.below(8);
        let escaped = if style > 5 { self.choices.below(16) } else { usize::MAX };
        out.push(b'"');
        for (at, character) in text.chars().enumerate() {
            match character {
                _ if style == 5 || at == escaped => {
                    let mut units = [0; 2];
                    let hex = character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}"));
                    out.extend(hex.collect::<String>().bytes());
                }
                '/' if style == 4 => out.extend_from_slice(b"\\/"),
                '"' | '\\' | '\0'..' ' => {
                    let quoted = quoted(&character.to_string());
                    out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
                }
                _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if self.choices.seldom(64) {
            out.extend_from_slice(self.choices.pick(&[&b"\xff"[..], b"\xc3", b"\\ud83d"]));
        }
        out.push(b'"');
    }
}

/// Puts a member where its name leads: `a.b` is `b` inside `a`, and `a[].b` is `b` of the elements of `a`.
fn nest(members: &mut Vec<(String, Json)>, name: &str, value: Json) {
    if let Some((list, rest)) = name.split_once("[].") {
        return members.push((list.to_owned(), Json::List(vec![Json::Object(vec![(rest.to_owned(), value)]), plain("5")])));
    }
    let Some((first, rest)) = name.split_once('.') else { return members.push((name.to_owned(), value)) };
    match members.iter_mut().find(|(name, value)| name == first && matches!(value, Json::Object(_))) {
        Some((_, Json::Object(inner))) => nest(inner, rest, value),
        _ => {
            let mut inner = Vec::new();
            nest(&mut inner, rest, value);
            members.push((first.to_owned(), Json::Object(inner)));
        }
    }
}
