//! `http`: log lines and JSON in the bodies of POST and PUT requests.
//!
//! In: HTTP/1.1, optionally TLS (with `client_ca` the client must show a certificate), any path or the configured one;
//! bodies plain, gzip, deflate or zstd. Out: frames. What a body is, its Content-Type says: JSON types are objects in
//! lines, in an array or one after the other; `text/*` is lines; anything else (curl says
//! `application/x-www-form-urlencoded`) is told by its first byte. `framing:` in the configuration overrides that.
//!
//! Answers: 200 only when every event of the body is journaled (`acknowledge: delivery`: delivered), otherwise nothing
//! of it is. 400 damaged or broken off, 401 `Authorization` missing or wrong, 404 another path, 405 another method, 408
//! too slow, 413 too large before or after decompression, 415 an encoding or type that cannot be read, 503 with
//! Retry-After when the memory budget has no room or Hydrant stops. No CORS headers: browsers are no log senders.
//!
//! A client that breaks off behind its body gets no answer, and its events may be taken: if it sends them again, they
//! come twice. Events that are not valid JSON are events all the same; the decoder says what is wrong with them.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde::Deserialize;

use super::{Intake, Messages, Refused, Source, SourceKind};
use crate::config::{ByteSize, Section, schema_of};
use crate::error::{Diagnostics, Error};
use crate::event::Span;
use crate::limits::INFLATED_BYTES_MAX;
use crate::net::http_auth::Auth;
use crate::net::http_server::{self, BodyError, BodyLimits, ConnectionInfo, ReadBody, ServerOptions};
use crate::net::listen::{self, Address, Transport};
use crate::net::tls::{ServerTls, TlsServer};
use crate::task::{LocalFuture, Stop};

pub(super) struct Http;

const SAMPLE: &str = r#"
type: http
listen: "0.0.0.0:8080"
path: /logs                     # default: every path
auth: { token: "secret://env/HYDRANT_HTTP_TOKEN" }   # or { username, password }; `none` lets everybody in
tls: { cert: cert.pem, key: key.pem }                # client_ca: the client must show a certificate
body_bytes_max: 16MiB           # before and after decompression; default 64MiB
"#;

/// What a refused client is told to wait, in seconds.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

impl SourceKind for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn Source>, Diagnostics> {
        let config: Config = section.read()?;
        let child = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
        let mut diagnostics = Diagnostics::new();
        if !matches!(config.listen, Address::Ip { transport: Transport::Any | Transport::Tcp, .. }) {
            diagnostics.push(child("listen").error("HTTP listens at an IP address and port, by TCP").help("127.0.0.1:8080"));
        }
        if let Err(message) = config.auth.check_listener(&config.listen, config.tls.as_ref()) {
            let help = "auth: { token: \"secret://env/NAME\" }, or `auth: none` if everybody may";
            diagnostics.push(child("listen").error(message).help(help));
        }
        if config.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            diagnostics.push(child("path").error("a path starts with `/`"));
        }
        if config.body_bytes_max.is_some_and(|size| size.0 > INFLATED_BYTES_MAX || size.0 == 0) {
            diagnostics.push(child("body_bytes_max").error(format!("at least 1 byte, at most {}", ByteSize(INFLATED_BYTES_MAX))));
        }
        diagnostics.into_result(Arc::new(config))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where to listen.
    listen: Address,
    /// The only path that takes events; default: every path.
    path: Option<String>,
    /// Who may send; needed where other machines can reach the listener.
    #[serde(default)]
    auth: Auth,
    /// Certificate and key: the listener then speaks TLS only.
    tls: Option<TlsServer>,
    /// Largest body, before and after decompression.
    body_bytes_max: Option<ByteSize>,
}

impl Source for Config {
    fn framing(&self) -> &'static str {
        "newline"
    }

    fn listens_on(&self) -> Vec<Address> {
        vec![self.listen.clone()]
    }

    fn run(self: Arc<Self>, intake: Rc<dyn Intake>, stop: Stop) -> LocalFuture<'static, Result<(), Error>> {
        Box::pin(self.serve(intake, stop))
    }
}

/// Why a request is not taken.
struct Rejection {
    status: StatusCode,
    /// Label of the metric.
    reason: &'static str,
    message: String,
}

impl Rejection {
    fn new(status: StatusCode, reason: &'static str, message: &str) -> Self {
        Self { status, reason, message: message.to_owned() }
    }
}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        Self { status: error.status(), reason: error.reason(), message: error.to_string() }
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        let (reason, message) = match refused {
            Refused::Busy => ("busy", "no memory left for these events at the moment; try again"),
            Refused::Stopping => ("stopping", "stopping; try again"),
            Refused::NotStored => ("not_stored", "the events could not be stored; try again"),
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, message)
    }
}

impl Config {
    async fn serve(self: Arc<Self>, intake: Rc<dyn Intake>, stop: Stop) -> Result<(), Error> {
        let Address::Ip { socket, .. } = self.listen else { return Ok(()) };
        let tls = self.tls.clone().map(ServerTls::load).transpose()?.map(Arc::new);
        let options = ServerOptions { tls, counters: intake.server_counters(), ..ServerOptions::default() };
        let events = intake.clone();
        let handler = move |request: Request<Incoming>, info: Rc<ConnectionInfo>| {
            let (source, intake) = (self.clone(), events.clone());
            async move {
                let peer = info.peer.ip().to_canonical();
                match source.take(request, peer, &*intake).await {
                    Ok(()) => Response::new(Full::default()),
                    Err(rejection) => {
                        intake.count_refused_from(rejection.reason, peer);
                        source.refusal(rejection)
                    }
                }
            }
        };
        let listener = listen::tcp(socket)?;
        intake.opened();
        http_server::serve(listener, options, handler, async move { stop.wait().await }).await;
        Ok(())
    }

    async fn take(&self, request: Request<Incoming>, peer: IpAddr, intake: &dyn Intake) -> Result<(), Rejection> {
        let (head, body) = request.into_parts();
        self.check(&head)?;
        let bytes_max = self.body_bytes_max.map_or(INFLATED_BYTES_MAX, |size| size.0);
        let limits =
            BodyLimits { wire_bytes_max: bytes_max, inflated_bytes_max: bytes_max, budget: Some(intake.budget()), ..BodyLimits::default() };
        let ReadBody { bytes, reservation, .. } = http_server::read_body(&head.headers, body, &limits).await?;
        let framing = framing(&head, &bytes)?;
        let held = reservation.unwrap_or_else(|| intake.budget().take(0));
        let spans = vec![Span::new(0, bytes.len())];
        let messages = Messages { bytes, spans, peers: vec![(0, peer)], framing: Some(framing), ..Messages::default() };
        Ok(intake.offer(messages, held).await?)
    }

    fn check(&self, head: &Parts) -> Result<(), Rejection> {
        if !self.auth.allows(&head.headers) {
            return Err(Rejection::new(StatusCode::UNAUTHORIZED, "unauthorized", "the Authorization header is missing or wrong"));
        }
        if self.path.as_deref().is_some_and(|path| path != head.uri.path()) {
            return Err(Rejection::new(StatusCode::NOT_FOUND, "path", "events are not taken at this path"));
        }
        if head.method != Method::POST && head.method != Method::PUT {
            return Err(Rejection::new(StatusCode::METHOD_NOT_ALLOWED, "method", "events come by POST or PUT"));
        }
        Ok(())
    }

    fn refusal(&self, rejection: Rejection) -> Response<Full<Bytes>> {
        let status = rejection.status;
        let mut response = Response::new(Full::from(rejection.message + "\n"));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match status {
            StatusCode::UNAUTHORIZED => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer, Basic realm=\"hydrant\""))),
            StatusCode::METHOD_NOT_ALLOWED => drop(headers.insert(ALLOW, HeaderValue::from_static("POST, PUT"))),
            StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(RETRY_AFTER, RETRY_AFTER_S)),
            _ => {}
        }
        response
    }
}

/// The framer for a body, from its Content-Type, or from its first bytes if that says nothing.
fn framing(head: &Parts, body: &[u8]) -> Result<&'static str, Rejection> {
    let value = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (kind, subtype) = essence.split_once('/').unwrap_or_default();
    match (kind, subtype) {
        ("application", "json" | "x-ndjson" | "ndjson" | "jsonl" | "x-jsonlines" | "jsonlines" | "x-json-stream") => Ok("json"),
        ("application", subtype) if subtype.ends_with("+json") => Ok("json"),
        ("text", _) => Ok("newline"),
        ("multipart" | "image" | "audio" | "video" | "font", _) => Err(Rejection::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content_type",
            "this Content-Type carries no events; send JSON or text",
        )),
        _ => Ok(sniffed(body)),
    }
}

/// `[` alone may also be how a line of text begins: `[2026-11-21] error`.
fn sniffed(body: &[u8]) -> &'static str {
    match body.trim_ascii_start() {
        [b'{', ..] => "json",
        [b'[', rest @ ..] if matches!(rest.trim_ascii_start().first(), Some(b'{' | b']')) => "json",
        _ => "newline",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<Arc<dyn Source>, String> {
        let section = Section::parse(Path::new("t.yaml"), text).map_err(|error| error.to_string())?;
        Http.read(&section.without(&["type"])).map_err(|error| error.to_string())
    }

    #[test]
    fn the_sample_is_valid() {
        let sample = SAMPLE.replace("secret://env/HYDRANT_HTTP_TOKEN", "x");
        assert_eq!(read(&sample).unwrap().listens_on(), ["0.0.0.0:8080".parse().unwrap()]);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, part) in [
            ("listen: '0.0.0.0:80'", "`auth` does not say who may send"),
            ("listen: 'unix:/run/x.sock'", "by TCP"),
            ("listen: 'udp://127.0.0.1:80'", "by TCP"),
            ("{ listen: '127.0.0.1:80', path: logs }", "t.yaml:1:33: error: path: a path starts with `/`"),
            ("{ listen: '127.0.0.1:80', body_bytes_max: 1GiB }", "at most 64.0MiB"),
        ] {
            let error = read(text).err().unwrap();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(read("{ listen: '0.0.0.0:80', auth: none }").is_ok());
        assert!(read("listen: '127.0.0.1:80'").is_ok());
    }

    #[test]
    fn the_content_type_or_the_first_byte_says_what_a_body_is() {
        let framing = |kind: &str, body: &[u8]| {
            let request = Request::post("/").header(CONTENT_TYPE, kind).body(()).unwrap();
            framing(&request.into_parts().0, body).map_err(|rejection| rejection.status.as_u16())
        };
        assert_eq!(framing("application/json; charset=utf-8", b""), Ok("json"));
        assert_eq!(framing("Application/X-NDJSON", b""), Ok("json"));
        assert_eq!(framing("application/cloudevents-batch+json", b""), Ok("json"));
        assert_eq!(framing("text/plain", b"{\"a\":1}"), Ok("newline"));
        assert_eq!(framing("application/x-www-form-urlencoded", b" [ {\"a\":1}]"), Ok("json"));
        assert_eq!(framing("application/x-www-form-urlencoded", b"[2026-11-21] error"), Ok("newline"));
        assert_eq!(framing("", b"{}"), Ok("json"));
        assert_eq!(framing("multipart/form-data; boundary=x", b""), Err(415));
    }
}
