//! `hydrant validate`: reads and compiles a configuration, opens nothing.

use std::path::{Path, PathBuf};

use crate::cli::{Failure, message, warn};
use crate::error::{Diagnostic, Diagnostics};
use crate::pipeline::plan::Plan;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration file.
    #[arg(short, long)]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let plan = read(&arguments.config)?;
    warn(&plan.warnings);
    let rules: usize = plan.rules.rules.len();
    message(&format!("{}: valid; {} sources, {} sinks, {rules} rules", arguments.config.display(), plan.sources.len(), plan.sinks.len()));
    Ok(())
}

/// Reads the plan of a file.
pub(super) fn read(file: &Path) -> Result<Plan, Diagnostics> {
    Plan::read(file, &text(file)?)
}

/// Reads the text of a file.
pub(super) fn text(file: &Path) -> Result<String, Diagnostics> {
    let unreadable =
        |error| Diagnostic::error(file, 0, 0, "", format!("cannot be read: {error}")).help("`hydrant init` writes a commented example");
    Ok(std::fs::read_to_string(file).map_err(unreadable)?)
}
