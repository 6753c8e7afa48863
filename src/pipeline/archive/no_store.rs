//! Stands in for `store` in a build without the feature `aws`, which has no client for buckets.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::config::Section;
use crate::error::{Error, ErrorKind};

/// Nobody can have one.
pub(super) enum Store {}

impl Store {
    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub(super) async fn open(place: &str, _: Option<&Section>, _: &Path, _: i64, _: Option<String>) -> Result<Self, Error> {
        let message = "this build has no feature `aws`, which reads buckets; fetch the objects and name their folder";
        Err(Error::new(ErrorKind::Configuration, "open the archive", message).with("bucket", place))
    }

    pub(super) async fn list(&mut self) -> Result<VecDeque<String>, Error> {
        match *self {}
    }

    pub(super) async fn fetch(&self, _: &str) -> io::Result<File> {
        match *self {}
    }
}
