//! The command line. stdout is data, stderr is messages.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done, nothing found wrong |
//! | 1 | it failed at run time, or a test failed |
//! | 2 | the arguments are wrong |
//! | 78 | a configuration or rule file is wrong (`EX_CONFIG`) |
//!
//! A reader that closes stdout (`| head`) ends a command quietly, with 0. One file a command.

mod backtest;
mod bench;
mod completion;
mod decode;
mod demo;
mod detect;
mod dlq;
mod init;
mod input;
mod instance;
mod journal;
mod ledger;
mod past;
mod preparing;
mod replay;
mod retro_hunt;
mod rules;
mod run;
mod schema;
mod silence;
mod source;
mod table;
mod tap;
mod test;
mod tune;
mod validate;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use crate::error::{Diagnostics, Error, ErrorKind};

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
    /// See it work: generated traffic, an attack, the built-in rules.
    Demo(demo::Arguments),
    /// Write a commented configuration to begin with.
    Init(init::Arguments),
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
    /// Show what raw lines are decoded to, by which decoder and why.
    Decode(decode::Arguments),
    /// Hold raw lines against rules.
    Detect(detect::Arguments),
    /// Look at rule files.
    Rules(rules::Arguments),
    /// Run the tests that stand in rule files.
    Test(test::Arguments),
    /// Count what rules, or two versions of them, find in events of the past.
    Backtest(backtest::Arguments),
    /// Find events of the past that hold indicators: addresses, domains, links, hashes.
    RetroHunt(retro_hunt::Arguments),
    /// Watch a sample of the events of a running instance.
    Tap(tap::Arguments),
    /// Look at the journal on disk.
    Journal(journal::Arguments),
    /// Show what became of every event, and whether it adds up; exit code 1 if not.
    Ledger(ledger::Arguments),
    /// Send events of the past through the rules, routes and sinks of now.
    Replay(replay::Arguments),
    /// Look at what destinations refused, send it again, or remove it.
    Dlq(dlq::Arguments),
    /// Silence alerts for a while, list silences, end one.
    Silence(silence::Arguments),
    /// Print the JSON schema of the configuration.
    Schema(schema::Arguments),
    /// Print a completion script for a shell.
    Completion(completion::Arguments),
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One JSON object a line.
    Json,
    /// Columns for people.
    Table,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Files that people wrote.
    Configuration(Diagnostics),
    /// Run time.
    Error(Error),
    /// It ran to its end, and what it looked at is not as it should be.
    Found {
        /// For people.
        summary: String,
        /// Of the process.
        exit_code: u8,
    },
    /// Whoever read stdout has closed it.
    Closed,
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
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).init();
    let result = match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::BenchCounter(arguments) => bench::run_counter(&arguments),
        Command::BenchGenerator => bench::run_generator(),
        Command::Run(arguments) => run::run(&arguments),
        Command::Tune(arguments) => tune::run(&arguments),
        Command::Validate(arguments) => validate::run(&arguments),
        Command::Decode(arguments) => decode::run(&arguments),
        Command::Detect(arguments) => detect::run(&arguments),
        Command::Rules(arguments) => rules::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Backtest(arguments) => backtest::run(&arguments),
        Command::RetroHunt(arguments) => retro_hunt::run(&arguments),
        Command::Tap(arguments) => tap::run(&arguments),
        Command::Journal(arguments) => journal::run(&arguments),
        Command::Ledger(arguments) => ledger::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Dlq(arguments) => dlq::run(&arguments),
        Command::Silence(arguments) => silence::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completion(arguments) => completion::run(&arguments),
    };
    match result {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Configuration(diagnostics)) => {
            message(&diagnostics.to_string());
            ExitCode::from(EX_CONFIG)
        }
        Err(Failure::Error(error)) => {
            message(&format!("error: {error}"));
            ExitCode::FAILURE
        }
        Err(Failure::Found { summary, exit_code }) => {
            message(&summary);
            ExitCode::from(exit_code)
        }
    }
}

/// A line for people, on stderr. Nobody can be told that stderr is closed.
fn message(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Every warning, on stderr.
fn warn(diagnostics: &Diagnostics) {
    diagnostics.0.iter().for_each(|diagnostic| message(&diagnostic.to_string()));
}

/// Data, on stdout, flushed so that whoever reads a pipe sees it now.
fn print(data: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(data).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Error::new(ErrorKind::Storage, "print", "stdout cannot be written").because(error).into(),
    })
}

/// A JSON value as one line on stdout.
fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(format!("{value}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn every_command_and_argument_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
