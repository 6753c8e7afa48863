//! The one integration test binary: each file tests the whole of something.

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::large_stack_arrays,
    clippy::or_fun_call,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on says so, and need not be fast"
)]

mod admin;
mod alerts;
mod backtest;
mod bad_input;
mod bad_rules;
mod client;
mod commands;
mod conformance;
mod correlation;
mod dlq;
mod enrich;
mod file;
mod firehose;
#[expect(unreachable_pub, reason = "the package of the fuzz targets has this file too")]
mod generated;
mod hec;
mod http;
mod journal;
mod kill;
mod ledger;
mod mistakes;
mod ocsf;
mod of_source;
#[expect(unreachable_pub, reason = "the package of the fuzz targets has this file too")]
mod oracles;
mod peers;
mod pipelines;
mod preparation;
mod process;
mod registry;
mod replay;
mod rules;
mod rules_as_code;
mod rules_cost;
mod sigma_peer;
mod sigmahq;
mod slice;
mod source_health;
mod syslog;
mod tidy;
mod tutorial;
