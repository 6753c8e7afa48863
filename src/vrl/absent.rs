//! What stands in for programs in a build without the feature `vrl`: nothing compiles, so nothing runs.

use std::convert::Infallible;
use std::path::Path;

use crate::error::{Diagnostic, Diagnostics};
use crate::event::{Event, Kind, SlotId};
use crate::vrl::Failure;

/// Never made.
#[derive(Clone, Debug)]
pub struct Program(Infallible);

/// Never made.
#[derive(Clone, Debug)]
pub struct Bound(Infallible);

/// Never made.
#[derive(Debug)]
pub struct Change(Infallible);

/// Room that nobody needs.
#[derive(Debug, Default)]
pub struct Scratch(());

/// What a program would have done.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Fields to be written.
    Changed(&'a [Change]),
    /// Nothing.
    Unchanged,
    /// `abort`.
    Aborted,
    /// An error.
    Failed(Failure),
}

impl Program {
    /// Refuses every program.
    ///
    /// # Errors
    /// Always.
    pub fn compile(_source: &str, file: &Path, line: usize, path: &str) -> Result<Self, Diagnostics> {
        Err(Diagnostic::error(file, line, 0, path, "this build has no VRL").help("build with the feature `vrl`").into())
    }

    /// The fields it reads.
    pub fn reads(&self) -> &[String] {
        match self.0 {}
    }

    /// Whether it reads every canonical field.
    pub fn reads_whole(&self) -> bool {
        match self.0 {}
    }

    /// The fields it assigns or deletes.
    pub fn writes(&self) -> &[String] {
        match self.0 {}
    }

    /// Whether it may write any canonical field.
    pub fn writes_whole(&self) -> bool {
        match self.0 {}
    }

    /// The program over the slots of one decoder.
    pub fn bind(&self, _names: &[&str], _slot: &mut dyn FnMut(&str) -> SlotId) -> Bound {
        match self.0 {}
    }

    /// Runs it as a condition.
    pub fn check(&self, _event: Event<'_>, _bound: &Bound, _scratch: &mut Scratch) -> bool {
        match self.0 {}
    }

    /// Runs it.
    pub fn run<'s>(&self, _event: Event<'_>, _bound: &Bound, _scratch: &'s mut Scratch) -> Outcome<'s> {
        match self.0 {}
    }
}

impl Change {
    /// The field.
    pub fn name(&self) -> &str {
        match self.0 {}
    }

    /// Its slot.
    pub fn slot(&self) -> Option<SlotId> {
        match self.0 {}
    }

    /// Writes its value.
    pub fn write_json(&self, _out: &mut Vec<u8>) -> Kind {
        match self.0 {}
    }
}
