//! The command line. stdout is data, stderr is messages.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done, nothing found wrong |
//! | 1 | it failed at run time |
//! | 2 | the arguments are wrong |
//! | 78 | a configuration or rule file is wrong (`EX_CONFIG`) |

mod bench;
mod run;
mod tune;
mod validate;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Diagnostics, Error};

/// Exit code for a wrong configuration or rule file, as in sysexits.h.
const EX_CONFIG: u8 = 78;

#[derive(Parser)]
#[command(name = "hydrant", version, about = "A self-hosted firehose for security logs, with a detection engine inside")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// What is logged, as in RUST_LOG: `info`, `hydrant=debug`.
    #[arg(long, global = true, default_value = "info")]
    log: String,
}

#[derive(Subcommand)]
enum Command {
    /// Measure this machine with a benchmark profile.
    Bench(bench::Arguments),
    /// The benchmark's destination.
    #[command(hide = true)]
    BenchCounter(bench::CounterArguments),
    /// The benchmark's sender.
    #[command(hide = true)]
    BenchGenerator,
    /// Run a configuration.
    Run(run::Arguments),
    /// Find the settings that need the least CPU for a benchmark profile.
    Tune(tune::Arguments),
    /// Check a configuration and its rules offline; every mistake at once.
    Validate(validate::Arguments),
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Files that people wrote.
    Configuration(Diagnostics),
    /// Run time.
    Error(Error),
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Configuration(diagnostics)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_new(&arguments.log).unwrap_or_default();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match arguments.command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::BenchCounter(arguments) => bench::run_counter(&arguments),
        Command::BenchGenerator => bench::run_generator(),
        Command::Run(arguments) => run::run(&arguments),
        Command::Tune(arguments) => tune::run(&arguments),
        Command::Validate(arguments) => validate::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Configuration(diagnostics)) => {
            message(&diagnostics.to_string());
            ExitCode::from(EX_CONFIG)
        }
        Err(Failure::Error(error)) => {
            message(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// A line for people, on stderr. Nobody can be told that stderr is closed.
fn message(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
