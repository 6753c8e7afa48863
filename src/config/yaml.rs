//! YAML 1.2 text to a tree whose nodes know their place.
//!
//! Bounded: bytes, depth, nodes and text (the last two after aliases) have limits in `limits`, and what an
//! anchor keeps for its aliases counts like one more of them, so that work is linear in those limits. Keys that occur twice, merge
//! keys and tags other than the core schema's are refused, because readers disagree about them.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::error::{Diagnostic, Diagnostics};
use crate::limits::{DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX, DOCUMENT_NODES_MAX, DOCUMENT_TEXT_BYTES_MAX};

/// A node and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 1-based line.
    pub line: usize,
    /// 1-based column.
    pub column: usize,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A scalar as written; `plain` means without quotes, so that it may be a number, a boolean or null.
    Scalar {
        /// The text, quotes and escapes resolved.
        text: String,
        /// Whether it stood without quotes.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A map in the order of the file.
    Mapping(Vec<(Node, Node)>),
    /// A scalar whose value is known elsewhere only, and why not here: see [`super::Section::parse_elsewhere`].
    Unknown(String),
}

impl Node {
    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Whether it is YAML's null (`null`, `~` or nothing, without quotes).
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value under `key`, if this is a map that has it.
    pub fn entry(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Mapping(entries) => entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The entries of a map, empty for everything else.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.content {
            Content::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// What it is, in words for messages.
    pub fn describe(&self) -> String {
        match &self.content {
            Content::Scalar { .. } if self.is_null() => "nothing".into(),
            Content::Scalar { text, .. } if text.len() <= 40 => format!("`{text}`"),
            Content::Scalar { .. } => "a long text".into(),
            Content::Sequence(_) => "a list".into(),
            Content::Mapping(_) => "a map".into(),
            Content::Unknown(_) => "a value that is not known here".into(),
        }
    }
}

/// Reads all documents of `text`; an empty file has none.
///
/// # Errors
/// Syntax errors, duplicate keys, unknown aliases, and documents beyond the limits, with their place.
pub fn parse_documents(file: &Path, text: &str) -> Result<Vec<Node>, Diagnostics> {
    if text.len() > DOCUMENT_BYTES_MAX {
        let message = format!("the file has {} bytes, the limit is {DOCUMENT_BYTES_MAX}", text.len());
        return Err(Diagnostic::error(file, 0, 0, "", message).into());
    }
    let mut builder = Builder { file, documents: Vec::new(), open: Vec::new(), anchors: HashMap::new(), total: Size::default() };
    for event in Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        match event {
            Ok((event, span)) => builder.event(event, span)?,
            Err(error) => {
                let mark = error.marker();
                let diagnostic = Diagnostic::error(file, mark.line(), mark.col() + 1, "", error.info());
                return Err(diagnostic.help("keys of one map begin in the same column, with blanks and no tabs before them").into());
            }
        }
    }
    Ok(builder.documents)
}

struct Open {
    node: Node,
    anchor: usize,
    key: Option<Node>,
    /// The keys so far of a map, so that a second one is found without looking at all of them.
    keys: HashSet<String>,
    size: Size,
}

/// What a node amounts to with all that is in it.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    text_bytes: usize,
}

impl Size {
    fn add(&mut self, other: Self) {
        self.nodes += other.nodes;
        self.text_bytes += other.text_bytes;
    }
}

struct Builder<'a> {
    file: &'a Path,
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Size)>,
    total: Size,
}

impl Builder<'_> {
    fn fail(&self, line: usize, column: usize, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.file, line, column, "", message)
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
        let (line, column) = (span.start.line(), span.start.col() + 1);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_string = tag.as_ref().is_some_and(|t| t.is_yaml_core_schema() && t.suffix == "str");
                if tag.is_some() && !is_string {
                    return Err(self.fail(line, column, "tags are not supported here"));
                }
                let plain = style == ScalarStyle::Plain && !is_string;
                let size = Size { nodes: 1, text_bytes: text.len() };
                self.count(line, column, size)?;
                self.close(Node { line, column, content: Content::Scalar { text: text.into_owned(), plain } }, anchor, size)
            }
            Event::SequenceStart(anchor, _) => self.start(line, column, Content::Sequence(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.start(line, column, Content::Mapping(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(done) => self.close(done.node, done.anchor, done.size),
                None => Ok(()),
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor).map(|(_, size)| *size) {
                Some(size) => {
                    self.count(line, column, size)?;
                    let node = self.anchors.get(&anchor).map(|(node, _)| node.clone());
                    node.map_or(Ok(()), |node| self.close(Node { line, column, ..node }, 0, size))
                }
                None => Err(self.fail(line, column, "this alias has no anchor before it")),
            },
            _ => Ok(()),
        }
    }

    fn start(&mut self, line: usize, column: usize, content: Content, anchor: usize) -> Result<(), Diagnostic> {
        if self.open.len() >= DOCUMENT_DEPTH_MAX {
            return Err(self.fail(line, column, format!("nested deeper than {DOCUMENT_DEPTH_MAX} levels")));
        }
        let size = Size { nodes: 1, text_bytes: 0 };
        self.count(line, column, size)?;
        self.open.push(Open { node: Node { line, column, content }, anchor, key: None, keys: HashSet::new(), size });
        Ok(())
    }

    /// Counts what is about to be made, before it is.
    fn count(&mut self, line: usize, column: usize, size: Size) -> Result<(), Diagnostic> {
        self.total.add(size);
        if self.total.nodes > DOCUMENT_NODES_MAX {
            return Err(self.fail(line, column, format!("more than {DOCUMENT_NODES_MAX} values once aliases are resolved")));
        }
        if self.total.text_bytes > DOCUMENT_TEXT_BYTES_MAX {
            return Err(self.fail(line, column, format!("more than {DOCUMENT_TEXT_BYTES_MAX} bytes of text once aliases are resolved")));
        }
        Ok(())
    }

    /// Puts a node that is complete, and counted, where it belongs.
    fn close(&mut self, node: Node, anchor: usize, size: Size) -> Result<(), Diagnostic> {
        if anchor > 0 {
            self.count(node.line, node.column, size)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(parent) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        parent.size.add(size);
        match (&mut parent.node.content, parent.key.take()) {
            (Content::Sequence(items), _) => items.push(node),
            (Content::Mapping(entries), Some(key)) => entries.push((key, node)),
            (Content::Mapping(entries), None) => {
                if let Some(text) = node.text().filter(|text| !parent.keys.insert((*text).to_owned())) {
                    let first = entries.iter().find(|(key, _)| key.text() == Some(text)).map_or(0, |(key, _)| key.line);
                    let message = format!("the key {} stands here a second time (first in line {first})", node.describe());
                    return Err(self.fail(node.line, node.column, message));
                }
                parent.key = Some(node);
            }
            (Content::Scalar { .. } | Content::Unknown(_), _) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f(text: &str) -> Result<Vec<Node>, String> {
        parse_documents(Path::new("t.yaml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn nodes_know_their_line_and_quotes() {
        let documents = f("a: 1\nb:\n  - 'x'\n---\nc: ~\n").unwrap();
        assert_eq!(documents.len(), 2);
        let b = documents[0].entry("b").unwrap();
        let Content::Sequence(items) = &b.content else { panic!("a list") };
        assert_eq!((items[0].line, items[0].column), (3, 5));
        assert_eq!(items[0].content, Content::Scalar { text: "x".into(), plain: false });
        assert!(documents[1].entry("c").unwrap().is_null());
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_with_both_lines() {
        assert_eq!(f("a: 1\na: 2\n").unwrap_err(), "t.yaml:2:1: error: the key `a` stands here a second time (first in line 1)");
    }

    #[test]
    fn an_alias_bomb_is_refused_before_it_grows() {
        let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..9 {
            let previous = i - 1;
            text.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{previous}"); 10].join(",")));
        }
        assert!(f(&text).unwrap_err().contains("aliases"));
    }

    #[test]
    fn aliases_to_a_long_text_are_refused_before_they_grow() {
        let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1024 * 1024), vec!["*a"; 100_000].join(","));
        assert!(f(&text).unwrap_err().contains("bytes of text once aliases are resolved"));
    }

    #[test]
    fn anchors_inside_anchors_count_what_they_keep() {
        // Each level keeps a copy of all levels inside it.
        let leaves = vec!["x"; 40_000].join(",");
        let text = format!("{}[{leaves}]{}", "&a [".repeat(40), "]".repeat(40));
        assert!(f(&text).unwrap_err().contains("values once aliases are resolved"));
    }

    #[test]
    fn many_keys_are_compared_in_linear_time() {
        // All pairs would be five thousand million comparisons: nobody would wait for this test.
        let text: String = (0..100_000).map(|key| format!("k{key}: 1\n")).collect();
        assert_eq!(f(&text).unwrap()[0].entries().len(), 100_000);
        assert!(f(&(text + "k0: 2\n")).unwrap_err().ends_with("the key `k0` stands here a second time (first in line 1)"));
    }

    #[test]
    fn nesting_is_bounded() {
        assert!(f(&"[".repeat(100_000)).is_err());
    }
}
