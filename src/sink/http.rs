//! `http`: any HTTP server that takes bodies of rows by POST.
//!
//! Out: `POST <endpoint>` with NDJSON, a JSON array or lines of text; gzip, zstd or plain; headers and a bearer
//! token or a name and password as configured. What an answer means is RFC 9110, section 15, read with care for
//! the data:
//!
//! | answer | what follows |
//! |---|---|
//! | 2xx | stored |
//! | 408, 429, 5xx | tried again, `Retry-After` obeyed |
//! | 400, 413, 422 | refused: the batch is split until the bad row is alone |
//! | 3xx and other 4xx (401, 403, 404, 405, 415) | held: the set-up is wrong, no row is |
//!
//! Redirects are not followed: they would carry the credentials to another host. Not supported: other methods,
//! fields of events in the address (a sender could choose where its events go), answers for single rows.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use serde::Deserialize;

use super::{Encoder, Exchange, Http, RowEncoder, Sink, SinkKind, Step, Transport};
use crate::batch::{Batching, Buffer, BufferRange, Limits, Sealed};
use crate::config::{Secret, Section, schema_of};
use crate::encode::alert::AlertForm;
use crate::encode::body::{Context, Form};
use crate::encode::compress::Compression;
use crate::encode::rows::{self, Format, Rows};
use crate::error::{Diagnostics, Error};
use crate::net::http_client::{AddressError, Answer, ClientOptions, parse_address};
use crate::net::tls::{ClientTls, TlsClient};

pub(super) struct HttpPost;

const SAMPLE: &str = r#"
type: http
endpoint: "https://collector.example.com/ingest"
auth: { bearer: "secret://env/COLLECTOR_TOKEN" }   # or { username: u, password: "secret://env/P" }
headers: { X-Team: security }
format: ndjson                                      # ndjson, json_array or text
form: raw                                           # raw: the event as it came; json: ECS names
alert_form: ocsf                                    # ocsf: a Detection Finding; flat: an object with ECS names
compression: gzip                                   # gzip, zstd or none
buffer: { size: 1MB, interval: 1s, events: 10000 }
"#;

/// A batch of a megabyte costs one round trip a few thousand events; servers seldom take more than 64 MiB.
const BUFFER: BufferRange = BufferRange {
    bytes: 1_000_000,
    bytes_range: (1, 64 << 20),
    interval: Duration::from_secs(1),
    interval_max: Duration::from_secs(900),
    items: 10_000,
    items_max: 1_000_000,
};

/// Headers that belong to the connection or to the body, which are ours.
const OWN_HEADERS: &[&str] = &["connection", "content-encoding", "content-length", "expect", "host", "te", "transfer-encoding", "upgrade"];

impl SinkKind for HttpPost {
    fn name(&self) -> &'static str {
        "http"
    }

    fn error_output_type(&self) -> &'static str {
        "http-endpoint-failed"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section) -> Result<Box<dyn Sink>, Diagnostics> {
        let config: Config = section.read()?;
        let mut diagnostics = Diagnostics::new();
        let endpoint = diagnostics.absorb(read_endpoint(section, &config.endpoint));
        let headers = diagnostics.absorb(read_headers(section, &config));
        let limits = diagnostics.absorb(config.buffer.limits(&BUFFER, section));
        let (Some(endpoint), Some(headers), Some(limits)) = (endpoint, headers, limits) else { return Err(diagnostics) };
        Ok(Box::new(Configured { config, limits, target: Arc::new((endpoint, headers)) }))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Address, path included.
    endpoint: String,
    /// How we say who we are.
    auth: Option<Auth>,
    /// More headers.
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    /// How rows follow each other.
    #[serde(default)]
    format: Format,
    /// What the event is.
    #[serde(default)]
    form: Form,
    /// What an alert is: an OCSF Detection Finding, or an object with ECS names.
    #[serde(default)]
    alert_form: AlertForm,
    /// Whether `json` keeps the frame in `event.original`.
    #[serde(default)]
    keep_raw: bool,
    /// gzip, zstd or none.
    #[serde(default = "Config::compression")]
    compression: Compression,
    /// When a batch is sent.
    #[serde(default)]
    buffer: Buffer,
    /// Certificates.
    #[serde(default)]
    tls: TlsClient,
}

impl Config {
    fn compression() -> Compression {
        Compression::Gzip
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Auth {
    /// Token (RFC 6750).
    bearer: Option<Secret>,
    /// Name (RFC 7617).
    username: Option<String>,
    /// Password (RFC 7617).
    password: Option<Secret>,
}

fn read_endpoint(section: &Section, text: &str) -> Result<Uri, Diagnostics> {
    let place = || section.child("endpoint").unwrap_or_else(|| section.clone());
    parse_address(text).map_err(|error| {
        let diagnostic = place().error(error.explain("https://host/path"));
        match error {
            AddressError::Malformed => diagnostic,
            AddressError::Credentials => diagnostic.help("auth: { username: .., password: .. }"),
        }
        .into()
    })
}

fn read_headers(section: &Section, config: &Config) -> Result<HeaderMap, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(config.format.content_type()));
    for (name, value) in &config.headers {
        let place = section.child("headers").and_then(|headers| headers.child(name)).unwrap_or_else(|| section.clone());
        match (name.parse::<HeaderName>(), HeaderValue::from_str(value.reveal())) {
            (Ok(name), _) if OWN_HEADERS.contains(&name.as_str()) => diagnostics.push(place.error(format!("`{name}` is set here"))),
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            (Err(_), _) => diagnostics.push(place.error("this is not the name of a header")),
            (_, Err(_)) => diagnostics.push(place.error("the value of a header is of visible characters")),
        }
    }
    if let Some(auth) = &config.auth {
        let place = || section.child("auth").unwrap_or_else(|| section.clone());
        let value = match auth {
            Auth { bearer: Some(token), username: None, password: None } => format!("Bearer {}", token.reveal()),
            Auth { bearer: None, username: Some(name), password: Some(password) } if !name.contains(':') => {
                format!("Basic {}", STANDARD.encode(format!("{name}:{}", password.reveal())))
            }
            _ => {
                diagnostics.push(place().error("expected `bearer`, or `username` (without a colon) and `password`"));
                return Err(diagnostics);
            }
        };
        match HeaderValue::from_str(&value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
            Err(_) => diagnostics.push(place().error("the token is not of visible characters")),
        }
    }
    diagnostics.into_result(headers)
}

struct Configured {
    config: Config,
    limits: Limits,
    target: Arc<(Uri, HeaderMap)>,
}

impl Sink for Configured {
    fn batching(&self) -> Batching {
        let format = self.config.format;
        Batching {
            bytes_max: self.limits.bytes,
            items_max: self.limits.items,
            item_bytes_max: BUFFER.bytes_range.1,
            interval: self.limits.interval,
            codec: self.config.compression.into(),
            head: format.head(),
            separator: format.separator(),
            tail: format.tail(),
        }
    }

    fn wants(&self, canonical: &[String]) -> Vec<String> {
        if self.config.form == Form::Json { canonical.to_vec() } else { Vec::new() }
    }

    fn wants_of_alerts(&self) -> &'static [&'static str] {
        self.config.alert_form.wants()
    }

    fn encoder(&self, context: &Context) -> Box<dyn Encoder> {
        let body = rows::body((self.config.form, self.config.alert_form), self.config.keep_raw, false, context);
        RowEncoder::boxed(Rows::new(self.config.format, body), None)
    }

    fn transport(&self) -> Result<Transport, Error> {
        let tls = ClientTls::load(&self.config.tls)?;
        let options = ClientOptions { tls: Some(tls), ..ClientOptions::default() };
        Ok(Transport::Http(Rc::new(Target(self.target.clone())), options))
    }
}

struct Target(Arc<(Uri, HeaderMap)>);

impl Http for Target {
    fn begin(&self, batch: &Sealed) -> Box<dyn Exchange> {
        Box::new(Post { target: self.0.clone(), body: batch.body.clone(), encoding: batch.codec.content_encoding() })
    }
}

struct Post {
    target: Arc<(Uri, HeaderMap)>,
    body: Bytes,
    encoding: Option<&'static str>,
}

impl Exchange for Post {
    fn next(&mut self, answer: Option<&Answer>) -> Step {
        if let Some(answer) = answer {
            return outcome(answer);
        }
        let (uri, headers) = &*self.target;
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        if let Some(encoding) = self.encoding {
            request.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        Step::Send(request)
    }
}

/// Bytes of an answer that are shown to say why.
const REASON_BYTES_MAX: usize = 300;

fn outcome(answer: &Answer) -> Step {
    let shown = answer.body.get(..REASON_BYTES_MAX).unwrap_or(&answer.body);
    let why = || format!("{} {}", answer.status, String::from_utf8_lossy(shown).escape_debug());
    match answer.status.as_u16() {
        200..=299 => Step::Stored,
        400 | 413 | 422 => Step::Rejected(why()),
        408 | 429 | 500.. => Step::Retry(why(), None),
        _ => Step::Hold(why()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, FRAMES};
    use super::*;

    fn send(batch: &Sealed, sink: &dyn Sink) -> Request<Bytes> {
        let Transport::Http(http, _) = sink.transport().unwrap() else { panic!("not HTTP") };
        match http.begin(batch).next(None) {
            Step::Send(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_has_the_headers_and_the_compressed_body() {
        let yaml = "endpoint: 'http://127.0.0.1:1/in?x=1'\nauth: { bearer: t }\nheaders: { X-A: b }\ncompression: zstd\n";
        let (sink, sealed) = golden::seal(&HttpPost, yaml, FRAMES);
        let request = send(&sealed[0], &*sink);
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("POST", "http://127.0.0.1:1/in?x=1"));
        assert_eq!(
            ["authorization", "x-a", "content-type", "content-encoding"].map(header),
            ["Bearer t", "b", "application/x-ndjson", "zstd"].map(Some)
        );
        assert_eq!(zstd::decode_all(&request.body()[..]).unwrap(), golden::text(&sealed[0]).into_bytes());
    }

    #[test]
    fn every_format_and_form_has_exactly_these_bytes() {
        for (options, expected) in [
            ("format: ndjson", golden::NDJSON_RAW),
            ("format: text", golden::TEXT_RAW),
            ("format: ndjson\nform: json", golden::NDJSON_JSON),
        ] {
            let yaml = format!("endpoint: 'http://127.0.0.1:1'\ncompression: none\n{options}\n");
            let (_, sealed) = golden::seal(&HttpPost, &yaml, FRAMES);
            assert_eq!(golden::text(&sealed[0]), expected, "{options}");
        }
        let (_, sealed) = golden::seal(&HttpPost, "endpoint: 'http://127.0.0.1:1'\nalert_form: flat\n", FRAMES);
        assert_eq!(golden::text(&sealed[0]), golden::NDJSON_RAW.replace(golden::FINDING, golden::FLAT));
        let (_, sealed) = golden::seal(&HttpPost, "endpoint: 'http://127.0.0.1:1'\nformat: json_array\n", FRAMES);
        let expected = format!("[{}]", golden::NDJSON_RAW.trim_end().replace('\n', ","));
        assert_eq!(golden::text(&sealed[0]), expected);
    }

    #[test]
    fn a_status_means_what_the_table_says() {
        let f = |status| format!("{:?}", outcome(&golden::answer(status, "no\n"))).split('(').next().unwrap().to_owned();
        for (statuses, expected) in [
            (&[200, 202, 204, 299][..], "Stored"),
            (&[400, 413, 422], "Rejected"),
            (&[408, 429, 500, 502, 503, 599], "Retry"),
            (&[301, 307, 401, 403, 404, 405, 410, 415, 418], "Hold"),
        ] {
            for status in statuses {
                assert_eq!(f(*status), expected, "{status}");
            }
        }
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        for (yaml, message) in [
            ("endpoint: localhost:8080", "endpoint: this is not an address"),
            ("endpoint: 'https://u:swordfish@h/'", "auth: { username"),
            ("endpoint: 'http://h'\nauth: { bearer: a, username: b }", "auth: expected `bearer`"),
            ("endpoint: 'http://h'\nauth: { username: 'a:b', password: swordfish }", "without a colon"),
            ("endpoint: 'http://h'\nauth: { bearer: \"sword\\nfish\" }", "auth: the token is not"),
            ("endpoint: 'http://h'\nheaders: { Host: x }", "headers.Host: `host` is set here"),
            ("endpoint: 'http://h'\nheaders: { 'a b': x }", "not the name of a header"),
            ("endpoint: 'http://h'\nbuffer: { events: 0 }", "buffer.events: a batch has 1 to 1000000 events"),
            ("endpoint: 'http://h'\nbuffer: { size: 1GB }", "buffer.size: a batch has 1B to 64.0MiB"),
        ] {
            let error = golden::read(&HttpPost, yaml).err().unwrap_or_default();
            assert!(error.contains(message) && !error.contains("fish"), "{yaml}: {error}");
        }
    }
}
