//! What reading a rule file carries along: where mistakes go, and how much may still be built.

use std::path::{Path, PathBuf};

use super::Placeholders;
use crate::config::Node;
use crate::error::{Diagnostic, Diagnostics, Severity, nearest};
use crate::limits::DOCUMENT_NODES_MAX;

/// Predicates that all rules of one file may become. Modifiers multiply values (base64offset by three,
/// placeholders by their lists) and a condition may name a search identifier more than once, so this has
/// room for twice as many as a file has values.
const EXPRESSION_NODES_MAX: usize = 2 * DOCUMENT_NODES_MAX;

/// Bytes that the compiled regular expressions of one file may take together, so that a file of 16 MiB full
/// of `\w{200}` does not fill the memory. All public rules in one file would take a tenth.
const REGEX_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Mistakes of one file that are listed. The rest is counted, so that a list of 100,000 bad values does
/// not become 100,000 messages.
const MISTAKES_MAX: usize = 1000;

/// Longest name that is compared with others to find what was meant.
const NEAR_BYTES_MAX: usize = 64;

/// Names that a mistyped one is compared with.
const NEAR_NAMES_MAX: usize = 256;

/// Names that help lists: all modifiers, and the search identifiers of any rule that a person still reads.
const NAMES_SHOWN_MAX: usize = 40;

/// Where a mistake is: a node, the path of the entry it belongs to, and its index if that is a list.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) node: &'a Node,
    pub(super) path: &'a str,
    pub(super) index: Option<usize>,
}

impl<'a> Place<'a> {
    pub(super) fn new(node: &'a Node, path: &'a str) -> Self {
        Self { node, path, index: None }
    }
}

/// The state of reading one file.
pub(super) struct Reader<'a> {
    file: PathBuf,
    placeholders: &'a Placeholders,
    diagnostics: Diagnostics,
    /// The file of a filter, while a rule is lowered with it.
    other_file: Option<PathBuf>,
    /// What is wrong in other files: each rule that a filter narrows finds it anew.
    elsewhere: Vec<Diagnostic>,
    error_count: usize,
    unlisted_count: usize,
    /// `None` once it did not suffice.
    nodes_left: Option<usize>,
    regex_bytes_left: Option<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &Path, placeholders: &'a Placeholders) -> Self {
        Self {
            file: file.to_owned(),
            placeholders,
            diagnostics: Diagnostics::new(),
            other_file: None,
            elsewhere: Vec::new(),
            error_count: 0,
            unlisted_count: 0,
            nodes_left: Some(EXPRESSION_NODES_MAX),
            regex_bytes_left: Some(REGEX_BYTES_MAX),
        }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn placeholders(&self) -> &'a Placeholders {
        self.placeholders
    }

    /// Errors so far; a document is refused if reading it raised this.
    pub(super) fn error_count(&self) -> usize {
        self.error_count
    }

    /// A diagnostic at a place, not yet reported.
    pub(super) fn at(&self, place: Place<'_>, message: impl Into<String>) -> Diagnostic {
        let path = match place.index {
            Some(index) => format!("{}[{index}]", place.path),
            None => place.path.to_owned(),
        };
        Diagnostic::error(self.other_file.as_ref().unwrap_or(&self.file), place.node.line, place.node.column, path, message)
    }

    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.error_count += usize::from(diagnostic.severity == Severity::Error);
        if self.other_file.is_some() {
            self.elsewhere.extend((self.elsewhere.len() < MISTAKES_MAX).then_some(diagnostic));
        } else if self.diagnostics.0.len() < MISTAKES_MAX {
            self.diagnostics.push(diagnostic);
        } else {
            self.unlisted_count += 1;
        }
    }

    /// Does something whose places are in another file, if one is given.
    pub(super) fn inside<T>(&mut self, file: Option<&Path>, work: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.other_file, file.map(Path::to_owned));
        let done = work(self);
        self.other_file = outer;
        done
    }

    pub(super) fn error(&mut self, place: Place<'_>, message: impl Into<String>) {
        let diagnostic = self.at(place, message);
        self.report(diagnostic);
    }

    pub(super) fn error_with(&mut self, place: Place<'_>, message: impl Into<String>, help: impl Into<String>) {
        let diagnostic = self.at(place, message).help(help);
        self.report(diagnostic);
    }

    pub(super) fn warn(&mut self, place: Place<'_>, message: impl Into<String>, help: impl Into<String>) {
        let diagnostic = self.at(place, message).help(help).warning();
        self.report(diagnostic);
    }

    /// Takes `count` predicates out of the file's budget; reports once that it is used up.
    pub(super) fn spend(&mut self, place: Place<'_>, count: usize) -> bool {
        let was_left = self.nodes_left.is_some();
        self.nodes_left = self.nodes_left.and_then(|left| left.checked_sub(count));
        if self.nodes_left.is_none() {
            let message = format!("the rules of this file become more than {EXPRESSION_NODES_MAX} predicates");
            self.exhausted(place, was_left, message, "fewer values, fewer placeholders, or several files");
        }
        self.nodes_left.is_some()
    }

    /// Takes `bytes` of a compiled regular expression out of the file's budget; reports once that it is used up.
    pub(super) fn spend_regex(&mut self, place: Place<'_>, bytes: usize) -> bool {
        let was_left = self.regex_bytes_left.is_some();
        self.regex_bytes_left = self.regex_bytes_left.and_then(|left| left.checked_sub(bytes));
        if self.regex_bytes_left.is_none() {
            let message = format!("the regular expressions of this file take more than {REGEX_BYTES_MAX} bytes");
            self.exhausted(place, was_left, message, "smaller repetitions, or several files");
        }
        self.regex_bytes_left.is_some()
    }

    /// A budget is used up: said once, but every document that meets it is refused.
    fn exhausted(&mut self, place: Place<'_>, is_first: bool, message: String, help: &str) {
        if is_first {
            self.error_with(place, message, help);
        } else {
            self.error_count += 1;
        }
    }

    /// The name nearest to a mistyped one. Comparing costs the product of the lengths, so this looks at
    /// the first names of a person's length only, and at nothing once no more mistakes are listed.
    pub(super) fn near<'n>(&self, name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
        let is_listed = name.len() <= NEAR_BYTES_MAX && self.diagnostics.0.len() < MISTAKES_MAX;
        let names = names.take(NEAR_NAMES_MAX).filter(|name| name.len() <= NEAR_BYTES_MAX);
        is_listed.then(|| nearest(name, names)).flatten()
    }

    /// Help for a name that is not in `names`: the nearest one first, then all.
    pub(super) fn one_of<'n>(&self, name: &str, names: impl Iterator<Item = &'n str> + Clone) -> String {
        let near = self.near(name, names.clone()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
        let cut = if names.clone().nth(NAMES_SHOWN_MAX).is_some() { ", ..." } else { "" };
        format!("{near}one of: {}{cut}", names.take(NAMES_SHOWN_MAX).collect::<Vec<_>>().join(", "))
    }

    /// Everything reported, in the order of the file, and what is wrong in other files.
    pub(super) fn finish(mut self) -> (Diagnostics, Vec<Diagnostic>) {
        self.diagnostics.0.sort_by_key(|d| (d.line, d.column));
        if self.unlisted_count > 0 {
            let message = format!("{} further mistakes are not listed", self.unlisted_count);
            self.diagnostics.push(Diagnostic::error(&self.file, 0, 0, "", message));
        }
        (self.diagnostics, self.elsewhere)
    }
}
