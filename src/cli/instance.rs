//! A running instance, through its admin API.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::cli::{Failure, validate};
use crate::error::{Error, ErrorKind};
use crate::limits::ANSWER_BYTES_MAX;

/// The address of the admin API: that of the configuration, if there is one.
pub(super) fn address(config: Option<&Path>, otherwise: &str) -> Result<String, Failure> {
    let Some(file) = config else { return Ok(otherwise.to_owned()) };
    let address = validate::read(file)?.settings.admin;
    let missing = || {
        Error::new(ErrorKind::Configuration, "ask the instance", "the configuration has no `admin` address").with("file", file.display())
    };
    Ok(address.ok_or_else(missing)?.to_string())
}

/// The error of a question to the instance.
pub(super) fn failed(address: &str, message: &str) -> Error {
    Error::new(ErrorKind::Connection, "ask the instance", message.to_owned()).with("address", address)
}

/// Asks for a path. What the task drives ends with it.
pub(super) async fn get(address: &str, path: &str) -> Result<(Response<Incoming>, JoinHandle<hyper::Result<()>>), Failure> {
    let connection = tokio::net::TcpStream::connect(address).await;
    let connection = connection.map_err(|error| failed(address, "nobody answers; is it running, with `admin` set?").because(error))?;
    let (mut client, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
        .await
        .map_err(|error| failed(address, "it does not speak HTTP").because(error))?;
    let driver = tokio::spawn(driver);
    let request = Request::get(path).header(HOST, address).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| failed(address, "the request cannot be built").because(error))?;
    let response = client.send_request(request).await.map_err(|error| failed(address, "the request failed").because(error))?;
    if response.status() == StatusCode::OK {
        return Ok((response, driver));
    }
    let status = response.status();
    let refusal = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let answer: serde_json::Value = serde_json::from_slice(&refusal).unwrap_or_default();
    let message = answer["error"].as_str().map_or_else(|| status.to_string(), str::to_owned);
    Err(failed(address, &message).into())
}

/// Asks for a path whose answer is a JSON document of at most so many bytes: `what` it should be is for messages.
pub(super) fn read<T: DeserializeOwned>(address: &str, path: &str, bytes_max: usize, what: &str) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(ErrorKind::Unexpected, "ask the instance", "no runtime").because(error))?;
    runtime.block_on(async {
        let (response, driver) = get(address, path).await?;
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        driver.abort();
        let body = body.map_err(|error| failed(address, &error.to_string()))?.to_bytes();
        serde_json::from_slice(&body).map_err(|error| failed(address, &format!("this is no {what}")).because(error).into())
    })
}

/// Percent encoding of everything but RFC 3986's unreserved characters.
pub(super) fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => (byte as char).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_the_query() {
        assert_eq!(encoded("fw-1 a&b=ä"), "fw-1%20a%26b%3D%C3%A4");
    }
}
