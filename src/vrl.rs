//! VRL over events: conditions (`when`, filters) and programs (`transforms`).
//!
//! In goes VRL source from a file that a person wrote; out comes something that can be asked about an event.
//! Language and functions are those of the `vrl` crate with its `stdlib-base`
//! (<https://vector.dev/docs/reference/vrl/>). This module refers to the crate as `::vrl`.
//!
//! # Names
//! `.source.ip` is the canonical field `source.ip`, `%native.src` the decoder's `%native.src`,
//! `%hydrant.alert` ours. Other `%` roots are refused, and so is a dot inside a segment of a canonical name.
//! `%native` is read-only: it is what the sender said. An index (`.tags[0]`) reads into the field `tags`.
//!
//! # Conditions
//! A condition is a boolean and has no effects: it may assign nothing and call nothing that answers
//! differently the second time (the clock, random numbers, the network, the environment). Plain VRL would
//! refuse most conditions, because a field may be missing or of another type. So a condition of a single
//! expression (several statements are plain VRL) is read as follows before it is compiled:
//!
//! * a field where a boolean is asked (the whole condition, an operand of `&&`, `||`, `!`) means
//!   `field == true`;
//! * a call or comparison that may fail and stands where a boolean is asked gets `?? false`, so that
//!   `contains(.x, "a") || .y == 1` still looks at `.y` when `.x` is missing, and `!contains(.x, "a")` holds;
//! * a call that may fail and stands as the argument of another call gets `?? null`.
//!
//! `f!(...)` keeps its meaning: its failure makes the whole condition false, as do an `abort` and a panic.
//!
//! [`Condition::Native`] is the same condition for the matcher, which answers those of all rules and routes
//! together and builds no values. It is chosen when
//! the whole expression consists of `==`, `!=`, `<`, `<=`, `>`, `>=` between a field and a literal, `contains`,
//! `starts_with`, `ends_with`, `match` with literals, `includes([literals], .field)`, `ip_cidr_contains` with
//! literals, `exists`, `is_null`, boolean fields, `&&`, `||`, `!` and parentheses. It answers as VRL does
//! (`443.0 == 443` holds, the text `443` is no number) but for three kinds of value:
//!
//! * an IPv4 address written as IPv6 (`::ffff:10.1.2.3`) lies in IPv4 networks for the matcher, not for VRL;
//! * text that is not UTF-8, under `match`: the expression sees the bytes, VRL shows it U+FFFD instead;
//! * text with U+0130 or U+212A, compared with `case_sensitive: false`: the lower case of these two letters
//!   is or begins with an ASCII letter, and VRL's functions do not agree with each other about them.
//!
//! A `Native` condition speaks of single fields. The caller refuses one that names the parent of other
//! fields (`exists(.source)`), for which there is no slot.
//!
//! # Errors
//! [`Diagnostics`] with VRL's message, the line in the file and the column inside the scalar. A panic inside
//! VRL's functions (its `starts_with` without case cuts text that is not UTF-8 in the wrong place) is caught
//! and counts as an error of the program; the process's panic hook still sees it.

#[cfg(not(feature = "vrl"))]
mod absent;
#[cfg(feature = "vrl")]
mod lenient;
#[cfg(feature = "vrl")]
mod lower;
#[cfg(feature = "vrl")]
mod program;
#[cfg(feature = "vrl")]
mod source;
#[cfg(feature = "vrl")]
mod target;
#[cfg(test)]
#[cfg(feature = "vrl")]
mod tests;
#[cfg(feature = "vrl")]
mod value;

#[cfg(not(feature = "vrl"))]
pub use absent::{Bound, Change, Outcome, Program, Scratch};
#[cfg(feature = "vrl")]
pub use program::{Bound, Change, Outcome, Program, Scratch};

use std::fmt;
use std::path::Path;

use crate::error::Diagnostics;
use crate::matcher::Expr;

/// Why a program changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// VRL's own message.
    Error(String),
    /// It did not end within its budget of steps.
    Steps,
    /// A function of VRL panicked.
    Panic,
    /// It wrote a value larger than a frame may be; the field's name.
    TooLarge(String),
}

impl Failure {
    /// Its name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Error(_) => "error",
            Self::Panic => "panic",
            Self::Steps => "steps",
            Self::TooLarge(_) => "too_large",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(message) => f.write_str(message),
            Self::Panic => f.write_str("a function panicked"),
            Self::Steps => f.write_str("interrupted: too many steps"),
            Self::TooLarge(name) => write!(f, "the value of {name} is too large"),
        }
    }
}

/// A compiled condition.
#[derive(Clone, Debug)]
pub enum Condition {
    /// For the matcher; fields by name.
    Native(Expr<String>),
    /// To be run: [`Program::check`].
    Program(Box<Program>),
}

impl Condition {
    /// Compiles `source`, which begins at `line` of `file`; `path` is the field of the configuration that holds it.
    ///
    /// # Errors
    /// What VRL refuses, what a condition may not do, names that do not exist.
    pub fn compile(source: &str, file: &Path, line: usize, path: &str) -> Result<Self, Diagnostics> {
        #[cfg(feature = "vrl")]
        return lenient::compile(&source::Place { source, file, line, path });
        #[cfg(not(feature = "vrl"))]
        return Program::compile(source, file, line, path).map(|program| Self::Program(Box::new(program)));
    }
}
