//! `splunk_hec`: Splunk HTTP Event Collector, event endpoint.
//!
//! Out: `POST /services/collector/event`, items one after the other:
//! `{"time":1795240800.123,"host":..,"source":..,"sourcetype":..,"index":..,"event":..}`, gzip, with a channel
//! of our own. Source: Splunk Enterprise, "Format events for HTTP Event Collector", "Troubleshoot HTTP Event
//! Collector" (code table), "About HTTP Event Collector Indexer Acknowledgment".
//!
//! * `time` is a plain decimal: Splunk refuses scientific notation with code 15.
//! * Alerts have the fields of notable events ([`notable`]), a source type and, if asked for, an index of their own.
//! * With `ack: true` a batch counts as stored only when the indexer says so; a `true` is given only once, so
//!   the answer is kept. No ack within the timeout: the batch is sent again and may be seen twice.
//! * Codes 6, 12, 13, 15 and 7 mean that an event is bad: the batch is split until the bad one is alone. Codes
//!   1 to 4, 10, 11, 14 and 16 mean that the set-up is wrong: the destination is held. 8, 9, 429 and 5xx: later.
//! * Not supported: the raw endpoint, metrics.

mod notable;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{Request, StatusCode, Uri};
use serde::Deserialize;

use self::notable::Notable;
use super::{Encoder, Exchange, Http, Selection, Sink, SinkKind, Step, Transport};
use crate::batch::{Batching, Items, Sealed};
use crate::config::{ByteSize, Interval, Secret, Section, schema_of};
use crate::encode::alert::{Sources, WANTED};
use crate::encode::body::{Body, Context, Form};
use crate::encode::compress::Codec;
use crate::error::{Diagnostics, Error};
use crate::event::{SlotId, Value};
use crate::json;
use crate::net::http_client::{AddressError, Answer, ClientOptions, parse_address};
use crate::net::tls::{ClientTls, TlsClient};

pub(super) struct SplunkHec;

const SAMPLE: &str = r#"
type: splunk_hec
endpoint: "https://splunk.example.com:8088"   # without a path
token: "secret://env/SPLUNK_TOKEN"
ack: true                                      # wait for the indexer; the token must have it enabled
index: firewall                                # default: the token's
sourcetype: "pan:traffic"                      # default: by decoder, as Splunk's own add-ons expect
alert_index: notable                           # default: that of the events
alert_sourcetype: "hydrant:alert"
form: raw                                      # raw: the line as it came; json: ECS names
fields: [source.ip, event.action]              # json: only these; default: all that the decoder knows
buffer: { size: 1MB, interval: 1s, events: 10000 }
compression: gzip
"#;

impl SinkKind for SplunkHec {
    fn name(&self) -> &'static str {
        "splunk_hec"
    }

    fn error_output_type(&self) -> &'static str {
        "splunk-failed"
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
        let base = config.endpoint.trim_end_matches('/');
        let uri = |path: &str| parse_address(&format!("{base}{path}"));
        let place = || section.child("endpoint").unwrap_or_else(|| section.clone());
        let refused = |error: AddressError| Diagnostics::from(place().error(error.explain("https://host:8088")));
        let event = uri("/services/collector/event").map_err(refused)?;
        let ack = uri("/services/collector/ack").map_err(refused)?;
        if event.path() != "/services/collector/event" {
            diagnostics.push(place().error("the path `/services/collector` is added here; leave only `https://host:port`"));
        }
        diagnostics.into_result(Box::new(Configured { config: Arc::new(config), event, ack }))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Address without a path.
    endpoint: String,
    /// The HEC token.
    token: Secret,
    /// Whether to wait for indexer acknowledgement.
    #[serde(default)]
    ack: bool,
    /// How long to wait for it before the batch is sent again.
    #[serde(default = "Config::ack_timeout")]
    ack_timeout: Interval,
    /// Index; the token's default if not set.
    index: Option<String>,
    /// Source type; by decoder if not set.
    sourcetype: Option<String>,
    /// Index of alerts; that of the events if not set.
    alert_index: Option<String>,
    /// Source type of alerts.
    #[serde(default = "Config::alert_sourcetype")]
    alert_sourcetype: String,
    /// What the event is.
    #[serde(default)]
    form: Form,
    /// ECS names that `json` writes; all that the decoder knows if not set.
    fields: Option<Vec<String>>,
    /// Whether `json` keeps the frame in `event.original`.
    #[serde(default)]
    keep_raw: bool,
    /// When a batch is sent.
    #[serde(default)]
    buffer: Buffer,
    /// gzip or none.
    #[serde(default)]
    compression: Compression,
    /// Certificates.
    #[serde(default)]
    tls: TlsClient,
}

impl Config {
    fn ack_timeout() -> Interval {
        Interval(Duration::from_secs(180))
    }

    fn alert_sourcetype() -> String {
        "hydrant:alert".into()
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Buffer {
    /// Bytes before compression.
    size: ByteSize,
    /// Time since the first event.
    interval: Interval,
    /// Number of events.
    events: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { size: ByteSize(1_000_000), interval: Interval(Duration::from_secs(1)), events: 10_000 }
    }
}

#[derive(Clone, Copy, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Compression {
    #[default]
    Gzip,
    None,
}

struct Configured {
    config: Arc<Config>,
    event: Uri,
    ack: Uri,
}

/// Splunk's default `max_content_length` for HEC; an event beyond it can never arrive.
const EVENT_BYTES_MAX: usize = 800 * 1024 * 1024;

impl Sink for Configured {
    fn batching(&self) -> Batching {
        let buffer = &self.config.buffer;
        Batching {
            bytes_max: buffer.size.0,
            items_max: buffer.events,
            item_bytes_max: EVENT_BYTES_MAX,
            interval: buffer.interval.0,
            codec: match self.config.compression {
                Compression::Gzip => Codec::Gzip { level: 1 },
                Compression::None => Codec::None,
            },
            head: b"",
            separator: b"\n",
            tail: b"",
        }
    }

    fn wants(&self, canonical: &[String]) -> Vec<String> {
        let mut names = vec!["host.hostname".to_owned()];
        if self.config.form == Form::Json {
            names.extend_from_slice(self.config.fields.as_deref().unwrap_or(canonical));
        }
        names
    }

    fn wants_of_alerts(&self) -> &'static [&'static str] {
        WANTED
    }

    fn encoder(&self, context: &Context) -> Box<dyn Encoder> {
        let config = &self.config;
        let index = config.index.as_deref();
        let mut context = context.clone();
        let notable = Notable::new(&context, index, config.sourcetype.as_deref());
        let of_alerts = metadata(None, &config.alert_sourcetype, config.alert_index.as_deref().or(index));
        let sourcetype = config.sourcetype.as_deref().unwrap_or_else(|| sourcetype(context.decoder));
        let of_events = metadata(Some(&context.source), sourcetype, index);
        if let Some(fields) = &config.fields {
            context.canonical.clone_from(fields);
        }
        Box::new(EventEncoder {
            body: Body::new(config.form, config.keep_raw, &context),
            host: context.fields.find("host.hostname"),
            of_events,
            of_alerts,
            sources: Sources::new(&context),
            notable,
        })
    }

    fn transport(&self) -> Result<Transport, Error> {
        let tls = ClientTls::load(&self.config.tls)?;
        let options = ClientOptions { tls: Some(tls), ..ClientOptions::default() };
        let shared =
            Rc::new(Collector { config: self.config.clone(), event: self.event.clone(), ack: self.ack.clone(), channel: guid(random()) });
        Ok(Transport::Http(shared, options))
    }
}

/// `,"source":..,..,"event":`; without the source if none is said.
fn metadata(source: Option<&str>, sourcetype: &str, index: Option<&str>) -> Box<[u8]> {
    let mut metadata = Vec::new();
    let mut text = |key: &str, value: &str| {
        metadata.extend_from_slice(format!(",\"{key}\":").as_bytes());
        json::write_string(value.as_bytes(), &mut metadata);
    };
    source.into_iter().for_each(|source| text("source", source));
    text("sourcetype", sourcetype);
    index.into_iter().for_each(|index| text("index", index));
    metadata.extend_from_slice(b",\"event\":");
    metadata.into_boxed_slice()
}

/// The source type that Splunk's own add-on for the format expects.
fn sourcetype(decoder: &str) -> &str {
    match decoder {
        "palo_alto" => "pan:log",
        "fortigate" => "fortigate_log",
        "cisco_asa" => "cisco:asa",
        "aws_waf" => "aws:waf",
        "aws_vpc_flow" => "aws:cloudwatchlogs:vpcflow",
        "suricata_eve" | "aws_network_firewall" => "suricata",
        "cef" => "cef",
        _ => "hydrant",
    }
}

struct EventEncoder {
    body: Body,
    host: Option<SlotId>,
    of_events: Box<[u8]>,
    of_alerts: Box<[u8]>,
    sources: Sources,
    notable: Notable,
}

impl Encoder for EventEncoder {
    fn encode(&mut self, selection: Selection<'_>, items: &mut Items) {
        for row in selection.rows {
            let event = selection.events.event(selection.chunk, *row as usize);
            items.push(|out| {
                out.extend_from_slice(b"{\"time\":");
                write_seconds(event.time_ms, out);
                if let Some(Value::Text(host)) = self.host.map(|slot| event.value(slot)) {
                    out.extend_from_slice(b",\"host\":");
                    json::write_string(host, out);
                }
                let position = selection.chunk.position.plus(event.frame as usize);
                if event.alert.is_some() {
                    out.extend_from_slice(b",\"source\":");
                    json::write_string(self.sources.one(event).as_bytes(), out);
                    out.extend_from_slice(&self.of_alerts);
                    self.notable.write(event, position, &self.body, out);
                } else {
                    out.extend_from_slice(&self.of_events);
                    self.body.write_json(event, position, out);
                }
                out.push(b'}');
            });
        }
    }
}

fn write_seconds(ms: i64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 16];
    let mut rest = ms.max(0);
    let mut at = digits.len();
    while rest > 0 || at > digits.len() - 4 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let point = digits.len() - 3;
    out.extend_from_slice(&digits[at..point]);
    out.push(b'.');
    out.extend_from_slice(&digits[point..]);
}

/// The endpoints of one shard; the channel is the shard's own, as acknowledgement ids count per channel.
struct Collector {
    config: Arc<Config>,
    event: Uri,
    ack: Uri,
    channel: String,
}

impl Http for Collector {
    fn begin(&self, batch: &Sealed) -> Box<dyn Exchange> {
        Box::new(Dialogue {
            config: self.config.clone(),
            event: self.event.clone(),
            ack: self.ack.clone(),
            channel: self.channel.clone(),
            body: batch.body.clone(),
            encoding: batch.codec.content_encoding(),
            waiting_for: None,
            waited: Duration::ZERO,
        })
    }
}

struct Dialogue {
    config: Arc<Config>,
    event: Uri,
    ack: Uri,
    channel: String,
    body: Bytes,
    encoding: Option<&'static str>,
    waiting_for: Option<u64>,
    waited: Duration,
}

/// How often Splunk is asked for an acknowledgement: it answers at once and forgets nothing meanwhile.
const ACK_POLL_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Reply {
    code: Option<u32>,
    text: Option<String>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

#[derive(Deserialize)]
struct AckReply {
    acks: std::collections::HashMap<String, bool>,
}

impl Dialogue {
    fn request(&self, uri: &Uri, body: Bytes, encoding: Option<&'static str>) -> Step {
        let mut request = Request::post(uri.clone())
            .header(AUTHORIZATION, format!("Splunk {}", self.config.token.reveal()))
            .header("X-Splunk-Request-Channel", &self.channel)
            .header(CONTENT_TYPE, "application/json");
        if let Some(encoding) = encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        match request.body(body) {
            Ok(request) => Step::Send(request),
            // Only a token with control characters gets here.
            Err(error) => Step::Hold(format!("the request cannot be built: {error}")),
        }
    }

    fn ask_for_ack(&self, id: u64) -> Step {
        self.request(&self.ack, Bytes::from(format!("{{\"acks\":[{id}]}}")), None)
    }

    fn accepted(&mut self, answer: &Answer) -> Step {
        if !self.config.ack {
            return Step::Stored;
        }
        let reply: Option<Reply> = serde_json::from_slice(&answer.body).ok();
        match reply.and_then(|reply| reply.ack_id) {
            Some(id) => {
                self.waiting_for = Some(id);
                self.ask_for_ack(id)
            }
            None => Step::Hold("the answer has no ackId; enable indexer acknowledgement for the token or set `ack: false`".into()),
        }
    }

    fn acknowledged(&mut self, id: u64, answer: &Answer) -> Step {
        if answer.status != StatusCode::OK {
            return Step::Retry(format!("asking for acknowledgement {id}: {}", answer.status), None);
        }
        let reply: Option<AckReply> = serde_json::from_slice(&answer.body).ok();
        if reply.and_then(|reply| reply.acks.get(&id.to_string()).copied()) == Some(true) {
            return Step::Stored;
        }
        if self.waited >= self.config.ack_timeout.0 {
            return Step::Retry(format!("no acknowledgement {id} within {} s", self.waited.as_secs()), None);
        }
        self.waited += ACK_POLL_INTERVAL;
        Step::Wait(ACK_POLL_INTERVAL)
    }
}

impl Exchange for Dialogue {
    fn next(&mut self, answer: Option<&Answer>) -> Step {
        match (self.waiting_for, answer) {
            (None, None) => self.request(&self.event, self.body.clone(), self.encoding),
            (None, Some(answer)) if answer.status == StatusCode::OK => self.accepted(answer),
            (None, Some(answer)) => refused(answer),
            (Some(id), None) => self.ask_for_ack(id),
            (Some(id), Some(answer)) => self.acknowledged(id, answer),
        }
    }
}

fn refused(answer: &Answer) -> Step {
    let reply: Option<Reply> = serde_json::from_slice(&answer.body).ok();
    let code = reply.as_ref().and_then(|reply| reply.code);
    let text = reply.and_then(|reply| reply.text).unwrap_or_default();
    let why = match code {
        Some(code) => format!("{}, code {code}: {text}", answer.status),
        None => answer.status.to_string(),
    };
    match (answer.status.as_u16(), code) {
        (400, Some(5 | 6 | 7 | 12 | 13 | 15)) | (413, _) => Step::Rejected(why),
        (400..=404, _) => Step::Hold(why),
        _ => Step::Retry(why, None),
    }
}

/// A GUID (RFC 9562 version 4) of these bits: Splunk answers code 11 to a channel that is none.
fn guid(bits: u128) -> String {
    let bits = bits & !(0xf << 76) & !(3 << 62) | 4 << 76 | 2 << 62;
    let part = |from: u32, digits: usize| format!("{:0digits$x}", bits >> from & ((1 << (4 * digits)) - 1));
    format!("{}-{}-{}-{}-{}", part(96, 8), part(80, 4), part(64, 4), part(48, 4), part(0, 12))
}

/// 128 bits that differ between shards and starts.
fn random() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    u128::from(RandomState::new().hash_one(0)) << 64 | u128::from(RandomState::new().hash_one(1))
}

#[cfg(test)]
mod tests {
    use super::super::golden;
    use super::*;

    #[test]
    fn mistakes_in_the_address_are_named_and_a_password_is_not() {
        for (endpoint, message) in [
            ("splunk:8088", "endpoint: this is not an address"),
            ("https://u:swordfish@splunk:8088", "endpoint: a name and password in an address"),
            ("https://u:swordfish@splunk:x", "endpoint: a name and password in an address"),
            ("https://splunk:8088/services", "leave only `https://host:port`"),
        ] {
            let error = golden::read(&SplunkHec, &format!("endpoint: '{endpoint}'\ntoken: t")).err().unwrap_or_default();
            assert!(error.contains(message) && !error.contains("fish"), "{endpoint}: {error}");
        }
    }

    #[test]
    fn the_channel_is_a_guid() {
        assert_eq!(guid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(guid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(guid(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef), "01234567-89ab-4def-8123-456789abcdef");
        assert_ne!(random(), random());
    }

    #[test]
    fn time_is_a_plain_decimal_with_milliseconds() {
        for (ms, expected) in [(0, "0.000"), (7, "0.007"), (1_795_240_800_123, "1795240800.123"), (-5, "0.000")] {
            let mut out = Vec::new();
            write_seconds(ms, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: Default::default(),
            body: body.to_owned().into(),
            truncated: false,
        }
    }

    #[test]
    fn answers_mean_what_the_code_table_says() {
        let f = |status, body: &str| format!("{:?}", refused(&answer(status, body))).split('(').next().unwrap().to_owned();
        assert_eq!(f(400, r#"{"text":"Invalid data format","code":6,"invalid-event-number":0}"#), "Rejected");
        assert_eq!(f(403, r#"{"text":"Invalid token","code":4}"#), "Hold");
        assert_eq!(f(400, r#"{"text":"Data channel is missing","code":10}"#), "Hold");
        assert_eq!(f(503, r#"{"text":"Server is busy","code":9}"#), "Retry");
        assert_eq!(f(429, ""), "Retry");
        assert_eq!(f(404, "<html>"), "Hold");
        assert_eq!(f(413, ""), "Rejected");
    }
}
