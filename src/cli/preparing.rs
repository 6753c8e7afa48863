//! The options that say what is put into rules when they load, for the commands that have no configuration.

use std::path::PathBuf;

use crate::cli::warn;
use crate::detect::preparation::Preparation;
use crate::error::Diagnostics;

#[derive(clap::Args)]
pub(super) struct Preparing {
    /// A file with values of placeholders in rules (`Servers: [srv1, srv2]`); may be given again.
    #[arg(long, value_name = "FILE")]
    placeholders: Vec<PathBuf>,
    /// A pySigma processing pipeline that changes the rules; may be given again.
    #[arg(long = "pipeline", value_name = "FILE")]
    pipelines: Vec<PathBuf>,
}

impl Preparing {
    /// Whether anything is put into rules.
    pub(super) fn is_given(&self) -> bool {
        !self.placeholders.is_empty() || !self.pipelines.is_empty()
    }

    pub(super) fn read(&self) -> Result<Preparation, Diagnostics> {
        let (mut preparation, mut diagnostics) = (Preparation::default(), Diagnostics::new());
        self.placeholders.iter().for_each(|file| preparation.add_placeholder_file(file, &mut diagnostics));
        preparation.read_pipelines(&self.pipelines, &mut diagnostics);
        if !diagnostics.has_errors() {
            warn(&diagnostics);
        }
        diagnostics.into_result(preparation)
    }
}
