//! `hydrant completion`: a completion script, to be sourced by the shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::{self, Failure, print};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The shell.
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut cli::Arguments::command(), "hydrant", &mut script);
    print(&script)
}
