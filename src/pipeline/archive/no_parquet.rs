//! Stands in for `parquet` in a build without the feature `parquet`, which cannot read such files.

use std::fs::File;
use std::io;

use super::Next;

/// Nobody can have one.
pub(super) enum Rows {}

impl Rows {
    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub(super) fn open(_: File) -> io::Result<Self> {
        Err(io::Error::other("this is Parquet, and this build has no feature `parquet`, which reads it"))
    }

    pub(super) fn next(&mut self, _: &mut Vec<u8>) -> io::Result<Next> {
        match *self {}
    }
}
