//! `hydrant schema`: the JSON schema of the configuration, for editors and for people who look for a key.
//!
//! `# yaml-language-server: $schema=hydrant.schema.json` in the first line of a configuration makes many editors
//! complete and check it.

use crate::cli::{Failure, print};
use crate::pipeline::schema;

#[derive(clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> Result<(), Failure> {
    print(format!("{:#}\n", schema::configuration()).as_bytes())
}
