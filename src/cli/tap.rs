//! `hydrant tap`: a sample of the live events of a running instance, through its admin API.
//!
//! NDJSON on stdout, one object a line, as [`crate::pipeline::tap`] describes it, until `--limit` or Ctrl-C. The
//! instance never waits for this command: what it reads too slowly is skipped and counted (`skipped`).

use std::path::PathBuf;

use http_body_util::BodyExt as _;

use crate::cli::instance::{self, encoded};
use crate::cli::{Failure, print};
use crate::error::{Error, ErrorKind};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The configuration of the instance, for its `admin` address.
    #[arg(short, long, conflicts_with = "admin")]
    config: Option<PathBuf>,
    /// Address of the instance's admin API.
    #[arg(long, default_value = "127.0.0.1:8686")]
    admin: String,
    /// Only events that go to this sink.
    #[arg(long)]
    sink: Option<String>,
    /// Only events of this source.
    #[arg(long)]
    source: Option<String>,
    /// End after this many events.
    #[arg(long)]
    limit: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let address = instance::address(arguments.config.as_deref(), &arguments.admin)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(ErrorKind::Unexpected, "tap", "no runtime").because(error))?;
    runtime.block_on(stream(&address, &path(arguments)))
}

fn path(arguments: &Arguments) -> String {
    let limit = arguments.limit.map(|limit| limit.to_string());
    let parameters = [("source", arguments.source.as_deref()), ("sink", arguments.sink.as_deref()), ("limit", limit.as_deref())];
    let pairs = parameters.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", encoded(value?))));
    format!("/api/v1/tap?{}", pairs.collect::<Vec<_>>().join("&"))
}

async fn stream(address: &str, path: &str) -> Result<(), Failure> {
    let (mut response, driver) = instance::get(address, path).await?;
    while let Some(frame) = response.frame().await {
        let frame = frame.map_err(|error| instance::failed(address, "the connection broke").because(error))?;
        if let Ok(data) = frame.into_data() {
            print(&data)?;
        }
    }
    driver.abort();
    Ok(())
}
