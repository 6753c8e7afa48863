//! `hydrant tap`: a sample of the live events of a running instance, through its admin API.
//!
//! NDJSON on stdout, one object a line, as [`crate::pipeline::tap`] describes it, until `--limit` or Ctrl-C. The
//! instance never waits for this command: what it reads too slowly is skipped and counted (`skipped`).

use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use crate::cli::{Failure, print, validate};
use crate::error::{Error, ErrorKind};
use crate::limits::ANSWER_BYTES_MAX;

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
    let address = match &arguments.config {
        None => arguments.admin.clone(),
        Some(file) => {
            let address = validate::read(file)?.settings.admin;
            let missing =
                || Error::new(ErrorKind::Configuration, "tap", "the configuration has no `admin` address").with("file", file.display());
            address.ok_or_else(missing)?.to_string()
        }
    };
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

/// Percent encoding of everything but RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => (byte as char).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

async fn stream(address: &str, path: &str) -> Result<(), Failure> {
    let failed = |message: &str| Error::new(ErrorKind::Connection, "tap", message.to_owned()).with("address", address);
    let connection = tokio::net::TcpStream::connect(address).await;
    let connection = connection.map_err(|error| failed("nobody answers; is it running, with `admin` set?").because(error))?;
    let (mut client, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
        .await
        .map_err(|error| failed("it does not speak HTTP").because(error))?;
    let driver = tokio::spawn(driver);
    let request = Request::get(path).header(HOST, address).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| failed("the request cannot be built").because(error))?;
    let mut response = client.send_request(request).await.map_err(|error| failed("the request failed").because(error))?;
    let is_refused = response.status() != StatusCode::OK;
    let mut refusal = Vec::new();
    while let Some(frame) = response.frame().await {
        let frame = frame.map_err(|error| failed("the connection broke").because(error))?;
        match frame.into_data() {
            Ok(data) if !is_refused => print(&data)?,
            Ok(data) if refusal.len() + data.len() <= ANSWER_BYTES_MAX => refusal.extend_from_slice(&data),
            Ok(_) | Err(_) => {}
        }
    }
    driver.abort();
    if !is_refused {
        return Ok(());
    }
    let answer: serde_json::Value = serde_json::from_slice(&refusal).unwrap_or_default();
    let message = answer["error"].as_str().map_or_else(|| response.status().to_string(), str::to_owned);
    Err(failed(&message).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_the_query() {
        assert_eq!(encoded("fw-1 a&b=ä"), "fw-1%20a%26b%3D%C3%A4");
    }
}
