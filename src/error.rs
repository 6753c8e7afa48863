//! The two error types outside the hot path.
//!
//! [`Error`] says what failed at run time and whether trying again can help. [`Diagnostic`] says what is
//! wrong in a file that a person wrote: file, line, path, what was expected, the nearest right name;
//! [`Diagnostics`] carries all of them at once. On the data path nothing fails this way: a frame that
//! cannot be read stays an event with a reason (`event::DecodeError`).

use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

/// What a caller can decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The configuration or a rule asks for something impossible.
    Configuration,
    /// A name does not resolve, nobody listens, the connection broke.
    Connection,
    /// A file, directory or disk refused.
    Storage,
    /// The other side speaks something else.
    Protocol,
    /// A limit of ours was reached.
    Limit,
    /// None of the above: a defect of ours.
    Unexpected,
}

/// Whether the same operation may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Later may be better.
    Later,
    /// A person has to change something first.
    Never,
}

/// A failed operation: kind, retry, operation, key/value context, source.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    retry: Retry,
    operation: &'static str,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A new error; `operation` is a verb phrase such as `"listen"`.
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        let retry = match kind {
            ErrorKind::Connection | ErrorKind::Storage => Retry::Later,
            _ => Retry::Never,
        };
        Self { kind, retry, operation, message: message.into(), context: Vec::new(), source: None }
    }

    /// Adds a key/value pair to the message.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((key, value.to_string()));
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Overrides whether trying again can help.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether trying again can help.
    pub fn is_retryable(&self) -> bool {
        self.retry == Retry::Later
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.message)?;
        for (key, value) in &self.context {
            write!(f, ", {key} {value}")?;
        }
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// How much a diagnostic weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, but probably not as meant.
    Warning,
    /// It is refused.
    Error,
}

/// One thing that is wrong in a file a person wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Warning or error.
    pub severity: Severity,
    /// The file, or a name such as `<stdin>`.
    pub file: PathBuf,
    /// 1-based line; 0 when the whole file is meant.
    pub line: usize,
    /// 1-based column; 0 when unknown.
    pub column: usize,
    /// Path of the field, such as `sinks.splunk.endpoint`; empty for the whole document.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right, if there is more to say.
    pub help: Option<String>,
    /// A name for mistakes of its kind, for programs; empty if the path says enough.
    pub code: &'static str,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(file: &Path, line: usize, column: usize, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            line,
            column,
            path: path.into(),
            message: message.into(),
            help: None,
            code: "",
        }
    }

    /// Adds what would be right.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says what kind of mistake it is.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// Makes it a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.line > 0 && self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        write!(f, ": {}", if self.severity == Severity::Error { "error" } else { "warning" })?;
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Nothing wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Takes over those of a failed step and passes on the value of a good one.
    pub fn absorb<T>(&mut self, result: Result<T, Diagnostics>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(mut others) => {
                self.0.append(&mut others.0);
                None
            }
        }
    }

    /// Whether any of them is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity == Severity::Error)
    }

    /// `Ok(value)` if there are no errors.
    pub fn into_result<T>(self, value: T) -> Result<T, Diagnostics> {
        if self.has_errors() { Err(self) } else { Ok(value) }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl StdError for Diagnostics {}

/// The candidate nearest to a mistyped `name`, if one is near enough to be meant.
///
/// ```
/// assert_eq!(hydrant::error::nearest("endpiont", ["endpoint", "token"]), Some("endpoint"));
/// assert_eq!(hydrant::error::nearest("colour", ["endpoint", "token"]), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(name.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}
