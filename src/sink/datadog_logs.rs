//! `datadog_logs`: Datadog's intake for logs, version 2.
//!
//! Out: `POST https://http-intake.logs.<site>/api/v2/logs` with `DD-API-KEY`, a JSON array of
//! `{"ddsource":..,"ddtags":..,"service":..,"status":..,"hostname":..,"timestamp":ms,"message":"<the line>", ECS..,
//! "hydrant":{..}}`, gzip or zstd. Source: Datadog API reference, "Send logs"; Log Management, "Pre-processing"
//! (reserved attributes), "Status remapper" (severity names).
//!
//! * Limits of a request: 5 MB before compression (we stay below 4.25), 1,000 logs. A log above 1 MB is
//!   accepted by Datadog with a 2xx and silently cut. Who pads a request to that size must not disappear from
//!   the SIEM, so we cut such a message ourselves, say so in its text, tag it `truncated:true`, and keep its
//!   fields if they fit. Route to an archive as well to keep all of it.
//! * Names that are Datadog's own (`service`, `host`, `status`, ..) would collide with ECS: those fields stand
//!   under `ecs`, such as `ecs.service.name`.
//! * Alerts have the source `hydrant`, the status of their rule's level and the tags `rule_id:`, `tactic:` and `technique:`
//!   (Getting Started, "Defining tags"): a monitor or a detection rule of Datadog's makes signals of them.
//! * Datadog takes times of the last 18 hours; an older event gets the time of arrival there and keeps its own
//!   as `@timestamp`. Times more than the usual clock skew ahead are treated in the same way.
//! * 202 means accepted, not indexed. 401 and 403 hold (key, network policy), 400 and 413 split the batch until
//!   the bad log is alone, 408, 429 and 5xx are tried again.
//! * Not supported: Datadog's archives, metrics and events.

use std::borrow::Cow;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Uri};
use serde::Deserialize;

use super::{Encoder, Exchange, Http, Selection, Sink, SinkKind, Step, Transport};
use crate::batch::{Batching, Buffer, BufferRange, Items, Limits, Sealed};
use crate::clock;
use crate::config::{Secret, Section, schema_of};
use crate::encode::alert::{Alert, Attack, Reader, Rule, Sources, WANTED};
use crate::encode::body::{Body, Context, Form};
use crate::encode::compress::Compression;
use crate::error::{Diagnostics, Error, nearest};
use crate::event::{Event, Position, SlotId, Value};
use crate::json;
use crate::net::http_client::{AddressError, Answer, ClientOptions, parse_address};
use crate::net::tls::{ClientTls, TlsClient};

pub(super) struct DatadogLogs;

const SAMPLE: &str = r#"
type: datadog_logs
site: datadoghq.eu                     # of your account; `endpoint:` for a relay instead
api_key: "secret://env/DD_API_KEY"
service: firewall                      # default: the source's name
tags: [ "env:prod", "team:secops" ]
compression: gzip                      # gzip, zstd or none
buffer: { size: 4MB, interval: 1s, events: 1000 }
"#;

/// Datadog's limits, with room for a batch's last log, as Datadog's own agents leave it.
const BUFFER: BufferRange = BufferRange {
    bytes: 4_250_000,
    bytes_range: (1, 4_250_000),
    interval: Duration::from_secs(1),
    interval_max: Duration::from_secs(900),
    items: 1000,
    items_max: 1000,
};

/// Longest log.
const LOG_BYTES_MAX: usize = 1_000_000;

/// What is kept of the message of a longer one: escaped as JSON it has at most six times the bytes.
const CUT_MESSAGE_BYTES: usize = 128 * 1024;

/// How far back Datadog takes times.
const OLDEST_MS: i64 = 18 * 3_600_000;

/// Clocks differ; what is further ahead is wrong.
const NEWEST_MS: i64 = 2 * 3_600_000;

/// Datadog's sites, to find typing errors; others are taken as they are.
const SITES: &[&str] = &[
    "datadoghq.com",
    "us3.datadoghq.com",
    "us5.datadoghq.com",
    "datadoghq.eu",
    "ap1.datadoghq.com",
    "ap2.datadoghq.com",
    "uk1.datadoghq.com",
    "ddog-gov.com",
    "us2.ddog-gov.com",
];

/// First parts of names that Datadog gives a meaning of its own.
const RESERVED: &[&str] =
    &["date", "ddsource", "ddtags", "dd", "host", "hostname", "level", "message", "service", "severity", "status", "timestamp"];

impl SinkKind for DatadogLogs {
    fn name(&self) -> &'static str {
        "datadog_logs"
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
        let place = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
        let mut diagnostics = Diagnostics::new();
        let limits = diagnostics.absorb(config.buffer.limits(&BUFFER, section));
        let endpoint = diagnostics.absorb(read_endpoint(section, &config));
        let mut key = HeaderValue::from_str(config.api_key.reveal()).ok().filter(|key| !key.is_empty());
        match &mut key {
            Some(key) => key.set_sensitive(true),
            None => diagnostics.push(place("api_key").error("a key is of visible characters")),
        }
        for (index, tag) in config.tags.iter().enumerate() {
            if tag.is_empty() || tag.contains(',') {
                let section = place("tags").items().into_iter().nth(index).unwrap_or_else(|| section.clone());
                diagnostics.push(section.error("a tag is text without commas, such as `env:prod`"));
            }
        }
        let (Some(limits), Some(endpoint), Some(key)) = (limits, endpoint, key) else { return Err(diagnostics) };
        diagnostics.into_result(Box::new(Configured { config, limits, target: Arc::new((endpoint, key)) }))
    }
}

fn read_endpoint(section: &Section, config: &Config) -> Result<Uri, Diagnostics> {
    let place = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
    let (key, text) = match (&config.endpoint, &config.site) {
        (Some(endpoint), None) => ("endpoint", format!("{}/api/v2/logs", endpoint.trim_end_matches('/').trim_end_matches("/api/v2/logs"))),
        (None, Some(site)) => {
            let meant = nearest(site, SITES.iter().copied()).filter(|near| near != site);
            if !SITES.contains(&site.as_str()) && meant.is_some() {
                let help = format!("did you mean `{}`? one of: {}", meant.unwrap_or_default(), SITES.join(", "));
                return Err(place("site").error(format!("`{site}` is not a site of Datadog")).help(help).into());
            }
            ("site", format!("https://http-intake.logs.{site}/api/v2/logs"))
        }
        _ => return Err(section.error("expected either `site` or `endpoint`").help(format!("site: one of {}", SITES.join(", "))).into()),
    };
    match parse_address(&text) {
        Ok(uri) if uri.path() == "/api/v2/logs" => Ok(uri),
        other => Err(place(key).error(other.err().unwrap_or(AddressError::Malformed).explain("https://host")).into()),
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The site of the account.
    site: Option<String>,
    /// Address without the path, instead of a site.
    endpoint: Option<String>,
    /// The API key.
    api_key: Secret,
    /// `ddsource`; by decoder if not set.
    source: Option<String>,
    /// `service`; the source's name if not set.
    service: Option<String>,
    /// Tags of every log.
    #[serde(default)]
    tags: Vec<String>,
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

struct Configured {
    config: Config,
    limits: Limits,
    target: Arc<(Uri, HeaderValue)>,
}

impl Sink for Configured {
    fn batching(&self) -> Batching {
        Batching {
            bytes_max: self.limits.bytes,
            items_max: self.limits.items,
            item_bytes_max: LOG_BYTES_MAX,
            interval: self.limits.interval,
            codec: self.config.compression.into(),
            head: b"[",
            separator: b",",
            tail: b"]",
        }
    }

    fn wants(&self, canonical: &[String]) -> Vec<String> {
        let mut names = vec!["host.hostname".to_owned(), "log.syslog.severity.code".to_owned()];
        names.extend_from_slice(canonical);
        names
    }

    fn wants_of_alerts(&self) -> &'static [&'static str] {
        WANTED
    }

    fn encoder(&self, context: &Context) -> Box<dyn Encoder> {
        Box::new(LogEncoder::new(&self.config, context))
    }

    fn transport(&self) -> Result<Transport, Error> {
        let tls = ClientTls::load(&self.config.tls)?;
        let options = ClientOptions { tls: Some(tls), ..ClientOptions::default() };
        Ok(Transport::Http(Rc::new(Intake(self.target.clone())), options))
    }
}

/// The `source` that Datadog's own pipeline for the format listens to, where there is one.
fn ddsource(decoder: &str) -> &str {
    match decoder {
        "palo_alto" => "pan.firewall",
        "aws_waf" => "waf",
        "aws_vpc_flow" => "vpc",
        "suricata_eve" => "suricata",
        other => other,
    }
}

/// Names of syslog's severities 0 to 7 (RFC 5424, table 2) that Datadog's status remapper knows.
const STATUS: [&str; 8] = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];

/// The status of an alert by the level of its rule.
fn alert_status(level: &str) -> &'static str {
    match level {
        "critical" => "critical",
        "high" => "error",
        "medium" => "warning",
        "low" => "notice",
        _ => "info",
    }
}

/// `rule_id:..,tactic:..`. A comma would end a tag.
fn alert_tags(rule: &Rule<'_>) -> String {
    let attack = Attack::new(&rule.tags);
    let mut tags = format!("rule_id:{}", rule.id.replace(',', "_"));
    attack.tactics.iter().for_each(|tactic| tags.extend([",tactic:", tactic.tag]));
    attack.techniques.iter().for_each(|technique| tags.extend([",technique:", technique]));
    tags
}

struct LogEncoder {
    body: Body,
    host: Option<SlotId>,
    severity: Option<SlotId>,
    /// The text of what has no frame of its own: alerts that Hydrant makes itself.
    message: Option<SlotId>,
    /// `{"ddsource":..,"service":..,"ddtags":"a,b` up to the tags' closing quote.
    head: Box<[u8]>,
    /// The same for alerts, which are not all of one source: what stands before the service, and behind it.
    alert_head: (Vec<u8>, Vec<u8>),
    /// The service, if it is configured.
    service: Option<String>,
    sources: Sources,
    reader: Reader,
}

impl LogEncoder {
    fn new(config: &Config, context: &Context) -> Self {
        let source = config.source.as_deref();
        let (mut head, behind) = head(source.unwrap_or_else(|| ddsource(context.decoder)), config);
        json::write_string(config.service.as_deref().unwrap_or(&context.source).as_bytes(), &mut head);
        head.extend_from_slice(&behind);
        Self {
            body: Body::new(Form::Json, false, &without_reserved(context)),
            host: context.fields.find("host.hostname"),
            severity: context.fields.find("log.syslog.severity.code"),
            message: context.fields.find("message").filter(|_| context.details.is_some()),
            head: head.into_boxed_slice(),
            alert_head: self::head(source.unwrap_or("hydrant"), config),
            service: config.service.clone(),
            sources: Sources::new(context),
            reader: Reader::new(context),
        }
    }

    fn status(&self, event: Event<'_>, alert: Option<&Alert<'_>>) -> &'static str {
        if let Some(alert) = alert {
            return alert_status(&alert.rule.level);
        }
        match self.severity.map(|slot| event.value(slot)) {
            Some(Value::Number([digit @ b'0'..=b'7'])) => STATUS[usize::from(digit - b'0')],
            _ => "info",
        }
    }

    /// Appends a log; `now_ms` decides whether Datadog takes the event's time.
    fn write(&self, event: Event<'_>, log: &Log<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        let whole = match self.message.map(|slot| event.value(slot)) {
            Some(Value::Text(message)) => message,
            _ => event.raw(),
        };
        self.write_whole(event, log, (whole, true), out);
        for keeps_fields in [true, false] {
            if out.len() - start <= LOG_BYTES_MAX {
                return;
            }
            out.truncate(start);
            let message = &whole[..whole.len().min(CUT_MESSAGE_BYTES)];
            self.write_whole(event, log, (message, keeps_fields), out);
        }
    }

    fn write_whole(&self, event: Event<'_>, log: &Log<'_>, (message, keeps_fields): (&[u8], bool), out: &mut Vec<u8>) {
        let is_cut = (message.len() < event.raw().len() && self.message.is_none()) || !keeps_fields;
        let alert = log.alert.as_ref();
        if alert.is_some() {
            out.extend_from_slice(&self.alert_head.0);
            let service = self.service.as_deref().map_or_else(|| self.sources.one(event), Cow::Borrowed);
            json::write_string(service.as_bytes(), out);
            out.extend_from_slice(&self.alert_head.1);
        } else {
            out.extend_from_slice(&self.head);
        }
        for tags in [alert.map(|alert| alert_tags(&alert.rule)), is_cut.then(|| "truncated:true".to_owned())].into_iter().flatten() {
            if !out.ends_with(b":\"") {
                out.push(b',');
            }
            json::write_inside(tags.as_bytes(), out);
        }
        out.extend_from_slice(b"\",\"status\":\"");
        out.extend_from_slice(self.status(event, alert).as_bytes());
        out.push(b'"');
        match (self.host.map(|slot| event.value(slot)), log.peer) {
            (Some(Value::Text(host)), _) => {
                out.extend_from_slice(b",\"hostname\":");
                json::write_string(host, out);
            }
            // Writing to a vector cannot fail.
            (_, Some(peer)) => drop(write!(out, ",\"hostname\":\"{peer}\"")),
            _ => {}
        }
        if (log.now_ms - OLDEST_MS..log.now_ms + NEWEST_MS).contains(&event.time_ms) {
            drop(write!(out, ",\"timestamp\":{}", event.time_ms));
        } else {
            out.extend_from_slice(b",\"@timestamp\":\"");
            clock::write_rfc3339(event.time_ms, out);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"message\":");
        json::write_string(message, out);
        if is_cut {
            out.pop();
            drop(write!(out, " ... cut by Hydrant: {} of {} bytes\"", message.len(), event.raw().len()));
        }
        if keeps_fields {
            self.body.write_members(event, log.position, out);
            if let Some(matched) = alert.and_then(|alert| alert.matched) {
                out.extend_from_slice(b",\"matched\":");
                out.extend_from_slice(matched);
            }
        }
        out.push(b'}');
    }
}

/// `{"ddsource":..,"service":` and, behind the service, `,"ddtags":"a,b` up to the tags' closing quote.
fn head(source: &str, config: &Config) -> (Vec<u8>, Vec<u8>) {
    let mut head = b"{\"ddsource\":".to_vec();
    json::write_string(source.as_bytes(), &mut head);
    head.extend_from_slice(b",\"service\":");
    let mut behind = b",\"ddtags\":".to_vec();
    json::write_string(config.tags.join(",").as_bytes(), &mut behind);
    behind.pop();
    (head, behind)
}

/// What a log needs to know beside its event.
struct Log<'a> {
    position: Position,
    alert: Option<Alert<'a>>,
    peer: Option<std::net::IpAddr>,
    now_ms: i64,
}

/// The fields under names that do not collide with Datadog's; what is sent as `message` and `hostname` not twice.
fn without_reserved(context: &Context) -> Context {
    let mut context = context.clone();
    context.canonical.retain(|name| name != "message" && name != "host.hostname");
    for name in &mut context.canonical {
        let first = name.split('.').next().unwrap_or_default();
        if RESERVED.contains(&first) {
            let moved = format!("ecs.{name}");
            if let Some(slot) = context.fields.find(name) {
                context.fields.alias(&moved, slot);
            }
            *name = moved;
        }
    }
    context
}

impl Encoder for LogEncoder {
    fn encode(&mut self, selection: Selection<'_>, items: &mut Items) {
        let now_ms = clock::now_ms();
        for row in selection.rows {
            let event = selection.events.event(selection.chunk, *row as usize);
            let frame = event.frame as usize;
            let position = selection.chunk.position.plus(frame);
            let alert = event.alert.map(|_| self.reader.read(event, position));
            let log = Log { position, alert, peer: selection.chunk.peer(frame), now_ms };
            items.push(|out| self.write(event, &log, out));
        }
    }
}

struct Intake(Arc<(Uri, HeaderValue)>);

impl Http for Intake {
    fn begin(&self, batch: &Sealed) -> Box<dyn Exchange> {
        Box::new(Post { target: self.0.clone(), body: batch.body.clone(), encoding: batch.codec.content_encoding() })
    }
}

struct Post {
    target: Arc<(Uri, HeaderValue)>,
    body: Bytes,
    encoding: Option<&'static str>,
}

impl Exchange for Post {
    fn next(&mut self, answer: Option<&Answer>) -> Step {
        if let Some(answer) = answer {
            return outcome(answer);
        }
        let (uri, key) = &*self.target;
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert("dd-api-key", key.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(encoding) = self.encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
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
        400 | 413 => Step::Rejected(why()),
        408 | 429 | 500.. => Step::Retry(why(), None),
        _ => Step::Hold(why()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, FRAMES, Frame};
    use super::*;

    const CONFIG: &str = "site: datadoghq.eu\napi_key: k\ntags: [ 'env:prod', 'a:\"b' ]\n";

    #[test]
    fn logs_have_exactly_these_bytes() {
        clock::fix_ms(Some(golden::ARRIVAL_MS));
        let (_, sealed) = golden::seal(&DatadogLogs, CONFIG, FRAMES);
        assert_eq!(golden::text(&sealed[0]), GOLDEN.concat());
    }

    const GOLDEN: &[&str] = &[
        r#"[{"ddsource":"pan.firewall","service":"fw","ddtags":"env:prod,a:\"b","status":"info","hostname":"fw-1","timestamp":1795240800123,"message":"<134>Nov 21 06:00:00 fw-1 deny \"a\"\tb","event":{"action":"deny"},"log":{"syslog":{"severity":{"code":6}}},"source":{"ip":"10.1.2.3"},"hydrant":{"source":"fw","rule_ids":["r1"]}},"#,
        r#"{"ddsource":"pan.firewall","service":"fw","ddtags":"env:prod,a:\"b","status":"info","hostname":"192.0.2.7","timestamp":1795240801000,"message":"{\"srcip\":\"10.0.0.9\"}","ecs":{"service":{"name":"w\u0065b"}},"source":{"ip":"10.0.0.9"},"hydrant":{"source":"fw"}},"#,
        r#"{"ddsource":"pan.firewall","service":"fw","ddtags":"env:prod,a:\"b","status":"info","hostname":"192.0.2.7","timestamp":1795240801000,"message":"�\u0000 junk\n","hydrant":{"source":"fw","flaw":"malformed","raw_base64":"/wAganVuawo="}},"#,
        r#"{"ddsource":"hydrant","service":"fw","ddtags":"env:prod,a:\"b,rule_id:r1,technique:T1190","status":"error","hostname":"fw-1","timestamp":1795240800123,"message":"<134>Nov 21 06:00:00 fw-1 deny \"a\"\tb","event":{"action":"deny"},"log":{"syslog":{"severity":{"code":6}}},"source":{"ip":"10.1.2.3"},"hydrant":{"source":"fw","rule_ids":["r1"],"alert":true,"rule":{"id":"r1","title":"Denied","level":"high","tags":["attack.t1190"]},"alert_id":"1:40:0"},"matched":[{"field":"source.ip","value":"10.1.2.3"}]}]"#,
    ];

    #[test]
    fn a_request_goes_to_the_site_with_the_key() {
        let (sink, sealed) = golden::seal(&DatadogLogs, CONFIG, FRAMES);
        let Transport::Http(http, _) = sink.transport().unwrap() else { panic!("not HTTP") };
        let Step::Send(request) = http.begin(&sealed[0]).next(None) else { panic!("not a request") };
        assert_eq!(request.uri(), "https://http-intake.logs.datadoghq.eu/api/v2/logs");
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        assert_eq!(["dd-api-key", "content-type", "content-encoding"].map(header), ["k", "application/json", "gzip"]);
        assert!(request.headers()["dd-api-key"].is_sensitive());
    }

    #[test]
    fn an_old_event_keeps_its_time_beside_that_of_arrival() {
        clock::fix_ms(Some(golden::EVENT_MS + OLDEST_MS + 1));
        let (_, sealed) = golden::seal(&DatadogLogs, CONFIG, &FRAMES[..1]);
        let logs: serde_json::Value = serde_json::from_str(&golden::text(&sealed[0])).unwrap();
        assert_eq!((&logs[0]["timestamp"], &logs[0]["@timestamp"]), (&serde_json::Value::Null, &"2026-11-21T06:00:00.123Z".into()));
    }

    /// Text, quotes (two bytes each in JSON) and control characters (six) that make a log too long.
    #[test]
    fn a_log_that_datadog_would_cut_is_cut_here_and_says_so() {
        clock::fix_ms(Some(golden::ARRIVAL_MS));
        for (piece, count) in [("x", 1_000_000), ("\"", 600_000), ("\u{1}", 900_000), ("ä", 510_000)] {
            let raw: &'static [u8] = Box::leak(piece.repeat(count).into_bytes().into_boxed_slice());
            let frame = Frame { raw, ..FRAMES[0] };
            let (_, sealed) = golden::seal(&DatadogLogs, CONFIG, &[frame]);
            assert_eq!(sealed[0].items.len(), 2, "the event and its alert");
            let logs: serde_json::Value = serde_json::from_str(&golden::text(&sealed[0])).unwrap();
            let log = &logs[0];
            assert!(log.to_string().len() <= LOG_BYTES_MAX);
            assert_eq!(log["ddtags"], "env:prod,a:\"b,truncated:true");
            assert!(log["message"].as_str().unwrap().ends_with(&format!(" ... cut by Hydrant: 131072 of {} bytes", raw.len())));
            assert_eq!(log["source"]["ip"], "10.1.2.3");
        }
        let fields: &'static str = Box::leak("y".repeat(LOG_BYTES_MAX).into_boxed_str());
        let fields: &'static [_] = Box::leak(Box::new([("event.action", crate::event::Kind::Text, fields)]));
        let (_, sealed) = golden::seal(&DatadogLogs, CONFIG, &[Frame { fields, ..FRAMES[1] }]);
        let logs: serde_json::Value = serde_json::from_str(&golden::text(&sealed[0])).unwrap();
        assert_eq!((&logs[0]["ddtags"], &logs[0]["event"]), (&"env:prod,a:\"b,truncated:true".into(), &serde_json::Value::Null));
    }

    #[test]
    fn a_status_means_what_datadog_documents() {
        let f = |status| format!("{:?}", outcome(&golden::answer(status, "{}"))).split('(').next().unwrap().to_owned();
        let cases = [(202, "Stored"), (400, "Rejected"), (413, "Rejected"), (401, "Hold"), (403, "Hold"), (404, "Hold"), (302, "Hold")];
        for (status, expected) in cases.into_iter().chain([408, 429, 500, 503].map(|status| (status, "Retry"))) {
            assert_eq!(f(status), expected, "{status}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (yaml, message) in [
            ("api_key: k", "expected either `site` or `endpoint`"),
            ("site: datadoghq.eu\nendpoint: 'http://h'\napi_key: k", "expected either `site` or `endpoint`"),
            ("site: us3.datadoghq.con\napi_key: k", "did you mean `us3.datadoghq.com`"),
            ("endpoint: h\napi_key: k", "endpoint: this is not an address"),
            ("endpoint: 'https://u:swordfish@h'\napi_key: k", "endpoint: a name and password in an address"),
            ("site: datadoghq.eu\napi_key: ''", "api_key: a key is"),
            ("site: datadoghq.eu\napi_key: k\ntags: [a, 'b,c']", "tags[1]: a tag is text without commas"),
            ("site: datadoghq.eu\napi_key: k\nbuffer: { size: 5MB, events: 1001 }", "buffer.events: a batch has 1 to 1000 events"),
        ] {
            let error = golden::read(&DatadogLogs, yaml).err().unwrap_or_default();
            assert!(error.contains(message), "{yaml}: {error}");
        }
        for endpoint in ["http://127.0.0.1:8", "http://127.0.0.1:8/", "http://127.0.0.1:8/api/v2/logs"] {
            assert!(golden::read(&DatadogLogs, &format!("endpoint: '{endpoint}'\napi_key: k")).is_ok(), "{endpoint}");
        }
    }
}
