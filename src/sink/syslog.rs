//! `syslog`: alerts and events to a SIEM or relay by syslog, as CEF, JSON or as they came.
//!
//! Out: messages of RFC 5424, `<PRI>1 TIME HOST hydrant - alert - MESSAGE`, UTF-8 without a byte order mark (the RFC's MSG-ANY,
//! which receivers read best). By TCP (RFC 6587) and TLS (RFC 5425) with octet counts or a line feed behind each, by UDP
//! (RFC 5426) one a datagram.
//!
//! CEF: "ArcSight Common Event Format (CEF) Implementation Standard", version 25: `|` and `\` are escaped in the header, `\`, `=`
//! and line breaks in the extension; keys and lengths are those of its dictionary, longer values are cut. An alert has the
//! rule as signature, name and severity (10, 8, 5, 3, 1 by level), `externalId` is its id, `cs1` has its tags and `cs2` the
//! source; `msg` is the line. An event has its decoder as signature.
//!
//! With `raw` and `json`, what stands in a message is what stands in a row of the sinks for files: one line, always.
//!
//! # What may be lost
//!
//! Syslog has no acknowledgement: a batch is stored when the kernel has taken its last byte. What the kernel had and the receiver
//! did not read when a connection broke is lost; a batch during which it broke is sent again whole. A connection that the
//! receiver has closed is noticed before a batch is written to it, and a certificate that it refuses within [`REFUSAL_WAIT`].
//! By UDP anything may be lost. Where that matters, route to a sink with acknowledgements besides.
//!
//! A message longer than `message_bytes_max` goes to the dead letters, as receivers cut what is too long without a word.
//!
//! Not supported: RFC 3164, structured data, unix sockets, DTLS.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::{Client, Encoder, Selection, Sink, SinkKind, Step, Transport};
use crate::batch::{Batching, Buffer, BufferRange, Items, Limits, Sealed};
use crate::clock;
use crate::config::{ByteSize, Section, schema_of};
use crate::encode::alert::{AlertForm, Sources};
use crate::encode::body::{Context, Form};
use crate::encode::compress::Codec;
use crate::encode::notice::Identity;
use crate::encode::rows::{self, Rows};
use crate::error::{Diagnostics, Error, nearest};
use crate::event::{Event, Position, SlotId, Value};
use crate::net::tls::{ClientTls, TlsClient};
use crate::task::LocalFuture;

pub(super) struct Syslog;

const SAMPLE: &str = r#"
type: syslog
endpoint: "tls://siem.example.com:6514"     # tcp://, tls:// or udp://
format: cef                                 # cef, json (ECS names) or raw (the event as it came)
framing: octet_counting                     # or newline; not for UDP
facility: local0
message_bytes_max: 64KiB                    # longer ones go to the dead letters; what the receiver takes, rsyslog 8k by default
buffer: { size: 1MB, interval: 1s, events: 10000 }
tls: { ca: ca.pem }                         # and cert, key if the receiver wants to know who we are
"#;

/// Small batches: what was being written when a connection breaks comes twice.
const BUFFER: BufferRange = BufferRange {
    bytes: 1_000_000,
    bytes_range: (1, 16 << 20),
    interval: Duration::from_secs(1),
    interval_max: Duration::from_secs(900),
    items: 10_000,
    items_max: 100_000,
};

/// Longest message of a stream by default: what syslog-ng takes.
const MESSAGE_BYTES: usize = 64 * 1024;

/// Longest datagram by default: what most receivers take.
const DATAGRAM_BYTES: usize = 8 * 1024;

/// What every receiver must take (RFC 5424, section 6.1).
const MESSAGE_BYTES_MIN: usize = 480;

/// Longest datagram (RFC 768 in RFC 791).
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// Connecting takes one round trip; three SYN retransmissions fit in this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A receiver that takes nothing for so long is stuck.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// With TLS 1.3 a receiver refuses our certificate when we may write already: so long we wait for that.
const REFUSAL_WAIT: Duration = Duration::from_millis(500);

/// Facilities by number (RFC 5424, table 1), as rsyslog and syslog-ng call them.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// Characters of HOSTNAME and of APP-NAME (RFC 5424, section 6).
const HOST_BYTES_MAX: usize = 255;
const APP_BYTES_MAX: usize = 48;

impl SinkKind for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
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
        let endpoint = Endpoint::parse(&config.endpoint);
        let is_udp = endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme == Scheme::Udp);
        if endpoint.is_none() {
            diagnostics.push(place("endpoint").error("expected `tcp://host:514`, `tls://host:6514` or `udp://host:514`"));
        }
        if is_udp && config.framing.is_some() {
            diagnostics.push(place("framing").error("a datagram is a message; only TCP and TLS have framing"));
        }
        let most = if is_udp { DATAGRAM_BYTES_MAX } else { BUFFER.bytes_range.1 };
        let bytes_max = config.message_bytes_max.map_or(if is_udp { DATAGRAM_BYTES } else { MESSAGE_BYTES }, |size| size.0);
        if !(MESSAGE_BYTES_MIN..=most).contains(&bytes_max) {
            let expected = format!("expected {} to {}", ByteSize(MESSAGE_BYTES_MIN), ByteSize(most));
            diagnostics.push(place("message_bytes_max").error(expected));
        }
        let facility = FACILITIES.iter().position(|name| *name == config.facility);
        if facility.is_none() {
            let near = nearest(&config.facility, FACILITIES).map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let mistake = place("facility").error(format!("there is no facility `{}`", config.facility));
            diagnostics.push(mistake.help(format!("{near}one of: {}", FACILITIES.join(", "))));
        }
        if config.app_name.is_empty()
            || config.app_name.len() > APP_BYTES_MAX
            || !config.app_name.bytes().all(|byte| byte.is_ascii_graphic())
        {
            diagnostics.push(place("app_name").error(format!("1 to {APP_BYTES_MAX} visible ASCII characters without a blank")));
        }
        let (Some(limits), Some(endpoint), Some(facility)) = (limits, endpoint, facility) else { return Err(diagnostics) };
        let framing = if is_udp { Framing::Datagram } else { config.framing.unwrap_or_default().into() };
        diagnostics.into_result(Box::new(Configured { config, limits, endpoint: Arc::new(endpoint), facility, framing, bytes_max }))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Scheme, host and port of the receiver.
    endpoint: String,
    /// What a message is.
    #[serde(default)]
    format: Format,
    /// How messages follow each other in a stream.
    framing: Option<StreamFraming>,
    /// Facility of every message.
    #[serde(default = "Config::facility")]
    facility: String,
    /// APP-NAME of every message.
    #[serde(default = "Config::app_name")]
    app_name: String,
    /// Longest message; longer ones go to the dead letters.
    message_bytes_max: Option<ByteSize>,
    /// When a batch is sent.
    #[serde(default)]
    buffer: Buffer,
    /// Certificates, with `tls://`.
    #[serde(default)]
    tls: TlsClient,
}

impl Config {
    fn facility() -> String {
        "local0".into()
    }

    fn app_name() -> String {
        "hydrant".into()
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// ArcSight's Common Event Format.
    #[default]
    Cef,
    /// An object with ECS names; alerts as OCSF findings.
    Json,
    /// The event as it came; alerts as OCSF findings.
    Raw,
}

#[derive(Clone, Copy, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StreamFraming {
    /// The length in front of each message (RFC 6587, section 3.4.1).
    #[default]
    OctetCounting,
    /// A line feed behind each (RFC 6587, section 3.4.2).
    Newline,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    OctetCounting,
    Newline,
    Datagram,
}

impl From<StreamFraming> for Framing {
    fn from(framing: StreamFraming) -> Self {
        match framing {
            StreamFraming::OctetCounting => Self::OctetCounting,
            StreamFraming::Newline => Self::Newline,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Tcp,
    Tls,
    Udp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Endpoint {
    fn parse(text: &str) -> Option<Self> {
        let uri = text.parse::<Uri>().ok()?;
        let scheme = match uri.scheme_str()? {
            "tcp" => Scheme::Tcp,
            "tls" => Scheme::Tls,
            "udp" => Scheme::Udp,
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().filter(|port| *port > 0)?;
        (!host.is_empty() && matches!(uri.path(), "" | "/")).then_some(Self { scheme, host, port })
    }
}

struct Configured {
    config: Config,
    limits: Limits,
    endpoint: Arc<Endpoint>,
    facility: usize,
    framing: Framing,
    bytes_max: usize,
}

impl Sink for Configured {
    fn batching(&self) -> Batching {
        Batching {
            bytes_max: self.limits.bytes.max(self.bytes_max),
            items_max: self.limits.items,
            item_bytes_max: self.bytes_max,
            interval: self.limits.interval,
            codec: Codec::None,
            head: b"",
            separator: b"",
            tail: b"",
        }
    }

    fn wants(&self, canonical: &[String]) -> Vec<String> {
        let mut names = vec!["host.hostname".to_owned(), "log.syslog.severity.code".to_owned()];
        match self.config.format {
            Format::Cef => names.extend(EXTENSION.iter().map(|key| key.field.to_owned())),
            Format::Json => names.extend_from_slice(canonical),
            Format::Raw => {}
        }
        names
    }

    fn wants_of_alerts(&self) -> &'static [&'static str] {
        if self.config.format == Format::Cef { &[] } else { AlertForm::Ocsf.wants() }
    }

    fn encoder(&self, context: &Context) -> Box<dyn Encoder> {
        let of_rows = |form, format| Content::Rows(Box::new(Rows::new(format, rows::body((form, AlertForm::Ocsf), false, false, context))));
        let content = match self.config.format {
            Format::Cef => Content::Cef(Box::new(Cef::new(context))),
            Format::Json => of_rows(Form::Json, rows::Format::Ndjson),
            Format::Raw => of_rows(Form::Raw, rows::Format::Text),
        };
        Box::new(MessageEncoder {
            content,
            facility: self.facility,
            framing: self.framing,
            app_name: self.config.app_name.clone(),
            identity: Identity::new(context),
            host: context.fields.find("host.hostname"),
            severity: context.fields.find("log.syslog.severity.code"),
            message: Vec::new(),
        })
    }

    fn transport(&self) -> Result<Transport, Error> {
        let tls = if self.endpoint.scheme == Scheme::Tls { Some(ClientTls::load(&self.config.tls)?) } else { None };
        Ok(Transport::Client(Rc::new(Receiver {
            endpoint: self.endpoint.clone(),
            tls,
            stream: Mutex::default(),
            socket: Mutex::default(),
        })))
    }
}

enum Content {
    Cef(Box<Cef>),
    Rows(Box<Rows>),
}

struct MessageEncoder {
    content: Content,
    facility: usize,
    framing: Framing,
    app_name: String,
    identity: Identity,
    host: Option<SlotId>,
    severity: Option<SlotId>,
    /// The message in work.
    message: Vec<u8>,
}

impl MessageEncoder {
    fn message(&mut self, event: Event<'_>, position: Position, peer: Option<IpAddr>) {
        let rule = event.alert.is_some().then(|| self.identity.rule(event));
        let severity = match (&rule, self.severity.map(|slot| event.value(slot))) {
            (Some(rule), _) => severity(&rule.level),
            (None, Some(Value::Number([digit @ b'0'..=b'7']))) => usize::from(digit - b'0'),
            (None, _) => 6,
        };
        let out = &mut self.message;
        out.clear();
        // Writing to a vector cannot fail.
        drop(write!(out, "<{}>1 ", self.facility * 8 + severity));
        clock::write_rfc3339(event.time_ms, out);
        out.push(b' ');
        match (self.host.and_then(|slot| rows::text(event.value(slot))).filter(|host| !host.is_empty()), peer) {
            (Some(host), _) => out.extend(host.iter().take(HOST_BYTES_MAX).map(|byte| if byte.is_ascii_graphic() { *byte } else { b'_' })),
            (None, Some(peer)) => drop(write!(out, "{peer}")),
            (None, None) => out.push(b'-'),
        }
        drop(write!(out, " {} - {} - ", self.app_name, if rule.is_some() { "alert" } else { "event" }));
        match &self.content {
            Content::Cef(cef) => cef.write(event, position, out),
            Content::Rows(rows) => rows.write(event, position, out),
        }
    }
}

/// Syslog's severity of an alert by its level.
fn severity(level: &str) -> usize {
    match level {
        "critical" => 2,
        "high" => 3,
        "medium" => 4,
        "low" => 5,
        _ => 6,
    }
}

impl Encoder for MessageEncoder {
    fn encode(&mut self, selection: Selection<'_>, items: &mut Items) {
        for row in selection.rows {
            let event = selection.events.event(selection.chunk, *row as usize);
            let frame = event.frame as usize;
            self.message(event, selection.chunk.position.plus(frame), selection.chunk.peer(frame));
            let message = &self.message;
            items.push(|out| {
                if self.framing == Framing::OctetCounting {
                    drop(write!(out, "{} ", message.len()));
                }
                out.extend_from_slice(message);
                if self.framing == Framing::Newline {
                    out.push(b'\n');
                }
            });
        }
    }
}

/// A key of the extension dictionary.
struct Key {
    key: &'static str,
    field: &'static str,
    /// Its length there; 0 for numbers and addresses, which have none.
    characters_max: usize,
}

const fn key(key: &'static str, field: &'static str, characters_max: usize) -> Key {
    Key { key, field, characters_max }
}

/// What fields are called in CEF, as our decoder reads them. Of two fields of one key the first that is there is written.
const EXTENSION: [Key; 33] = [
    key("src", "source.ip", 0),
    key("spt", "source.port", 0),
    key("dst", "destination.ip", 0),
    key("dpt", "destination.port", 0),
    key("proto", "network.transport", 31),
    key("app", "network.protocol", 31),
    key("sourceTranslatedAddress", "source.nat.ip", 0),
    key("sourceTranslatedPort", "source.nat.port", 0),
    key("destinationTranslatedAddress", "destination.nat.ip", 0),
    key("destinationTranslatedPort", "destination.nat.port", 0),
    key("suser", "source.user.name", 1023),
    key("suser", "user.name", 1023),
    key("duser", "destination.user.name", 1023),
    key("shost", "source.domain", 1023),
    key("dhost", "destination.domain", 1023),
    key("dvc", "observer.ip", 0),
    key("dvchost", "observer.hostname", 100),
    key("dvchost", "host.hostname", 100),
    key("deviceExternalId", "observer.serial_number", 255),
    key("act", "event.action", 63),
    key("outcome", "event.outcome", 63),
    key("reason", "event.reason", 1023),
    key("cnt", "event.count", 0),
    key("request", "url.original", 1023),
    key("requestMethod", "http.request.method", 1023),
    key("requestClientApplication", "user_agent.original", 1023),
    key("fname", "file.name", 1023),
    key("filePath", "file.path", 1023),
    key("fileHash", "file.hash.value", 255),
    key("out", "source.bytes", 0),
    key("in", "destination.bytes", 0),
    key("deviceInboundInterface", "observer.ingress.interface.name", 128),
    key("deviceOutboundInterface", "observer.egress.interface.name", 128),
];

/// Lengths of `msg`, `externalId` and custom texts in the dictionary, and of the name in the header.
const MSG_CHARACTERS_MAX: usize = 1023;
const ID_CHARACTERS_MAX: usize = 40;
const CUSTOM_CHARACTERS_MAX: usize = 4000;
const NAME_CHARACTERS_MAX: usize = 512;

/// Writes events as CEF.
struct Cef {
    identity: Identity,
    message: Option<SlotId>,
    keys: Vec<(&'static Key, SlotId)>,
    sources: Sources,
    decoder: &'static str,
}

impl Cef {
    fn new(context: &Context) -> Self {
        let find = |key: &'static Key| Some((key, context.fields.find(key.field)?));
        Self {
            identity: Identity::new(context),
            message: context.fields.find("message").filter(|_| context.details.is_some()),
            keys: EXTENSION.iter().filter_map(find).collect(),
            sources: Sources::new(context),
            decoder: context.decoder,
        }
    }

    fn write(&self, event: Event<'_>, position: Position, out: &mut Vec<u8>) {
        let rule = event.alert.is_some().then(|| self.identity.rule(event));
        out.extend_from_slice(concat!("CEF:0|Hydrant|Hydrant|", env!("CARGO_PKG_VERSION"), "|").as_bytes());
        let (signature, name, severity) = match &rule {
            Some(rule) => (rule.id.as_str(), rule.title.as_str(), cef_severity(&rule.level)),
            None => (self.decoder, "Event", "1"),
        };
        for part in [signature, name, severity] {
            write_header(part, out);
            out.push(b'|');
        }
        drop(write!(out, "rt={}", event.time_ms));
        let mut last = "";
        for (key, slot) in &self.keys {
            let Some(value) = rows::text(event.value(*slot)).filter(|value| !value.is_empty() && key.key != last) else { continue };
            write_pair(key.key, &String::from_utf8_lossy(&value), key.characters_max, out);
            last = key.key;
        }
        if let Some(rule) = &rule {
            write_pair("externalId", &self.identity.id(event, position), ID_CHARACTERS_MAX, out);
            if !rule.tags.is_empty() {
                write_custom("cs1", "tags", &rule.tags.join(","), out);
            }
        }
        write_custom("cs2", "source", &self.sources.one(event), out);
        let message = match self.message.map(|slot| event.value(slot)) {
            Some(Value::Text(message)) => message,
            _ => event.raw(),
        };
        // More bytes than that have more characters.
        let message = message.get(..4 * MSG_CHARACTERS_MAX).unwrap_or(message);
        write_pair("msg", &String::from_utf8_lossy(message), MSG_CHARACTERS_MAX, out);
    }
}

/// CEF's severity, 0 to 10, of a level.
fn cef_severity(level: &str) -> &'static str {
    match level {
        "critical" => "10",
        "high" => "8",
        "medium" => "5",
        "low" => "3",
        _ => "1",
    }
}

fn write_custom(key: &str, label: &str, value: &str, out: &mut Vec<u8>) {
    drop(write!(out, " {key}Label={label}"));
    write_pair(key, value, CUSTOM_CHARACTERS_MAX, out);
}

/// Appends a part of the header.
fn write_header(text: &str, out: &mut Vec<u8>) {
    for character in text.chars().take(NAME_CHARACTERS_MAX) {
        match character {
            '|' | '\\' => drop(write!(out, "\\{character}")),
            other if other.is_control() => out.push(b' '),
            other => drop(write!(out, "{other}")),
        }
    }
}

/// Appends ` key=value`; 0 is no limit.
fn write_pair(key: &str, value: &str, characters_max: usize, out: &mut Vec<u8>) {
    drop(write!(out, " {key}="));
    let most = if characters_max == 0 { usize::MAX } else { characters_max };
    for character in value.trim().chars().take(most) {
        match character {
            '\\' | '=' => drop(write!(out, "\\{character}")),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            other if other.is_control() => out.push(b' '),
            other => drop(write!(out, "{other}")),
        }
    }
}

/// A stream to the receiver, whatever is below it.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// The receiver, for one shard.
struct Receiver {
    endpoint: Arc<Endpoint>,
    tls: Option<ClientTls>,
    /// One batch at a time is written to it.
    stream: Mutex<Option<Box<dyn Duplex>>>,
    socket: Mutex<Option<UdpSocket>>,
}

/// Why nothing can be sent, and whether time mends it.
struct Failure {
    why: String,
    is_lasting: bool,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // A certificate that we refuse, or that they refuse, stays refused until somebody replaces it.
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let is_lasting = matches!(tls, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)));
        Self { why: error.to_string(), is_lasting }
    }
}

impl From<Failure> for Step {
    fn from(failure: Failure) -> Self {
        if failure.is_lasting { Self::Hold(failure.why) } else { Self::Retry(failure.why, None) }
    }
}

fn late(what: &str, duration: Duration) -> Failure {
    Failure { why: format!("{what} took more than {} s", duration.as_secs()), is_lasting: false }
}

impl Client for Receiver {
    fn write<'a>(&'a self, batch: &'a Sealed) -> LocalFuture<'a, Step> {
        Box::pin(async move {
            if self.endpoint.scheme == Scheme::Udp {
                return self.send_datagrams(batch).await;
            }
            match self.write_stream(&batch.body).await {
                Ok(()) => Step::Stored,
                Err(failure) => failure.into(),
            }
        })
    }
}

impl Receiver {
    async fn write_stream(&self, body: &[u8]) -> Result<(), Failure> {
        let mut held = self.stream.lock().await;
        // Taken out: a stream in which a write broke off is not used again.
        let mut stream = match still_open(held.take()).await {
            Some(stream) => stream,
            None => timeout(CONNECT_TIMEOUT, self.connect()).await.map_err(|_| late("connecting", CONNECT_TIMEOUT))??,
        };
        let write = async {
            stream.write_all(body).await?;
            stream.flush().await
        };
        timeout(WRITE_TIMEOUT, write).await.map_err(|_| late("writing", WRITE_TIMEOUT))??;
        *held = Some(stream);
        Ok(())
    }

    async fn connect(&self) -> Result<Box<dyn Duplex>, Failure> {
        let tcp = TcpStream::connect((self.endpoint.host.as_str(), self.endpoint.port)).await?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(tcp)) };
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(self.endpoint.host.clone())
                .map_err(|error| Failure { why: format!("{}: {error}", self.endpoint.host), is_lasting: true })?,
        };
        let mut stream: Box<dyn Duplex> = Box::new(tokio_rustls::TlsConnector::from(tls.config.clone()).connect(name, tcp).await?);
        match refusal(&mut stream, REFUSAL_WAIT).await {
            None => Ok(stream),
            Some(error) => Err(error.into()),
        }
    }

    async fn send_datagrams(&self, batch: &Sealed) -> Step {
        let mut held = self.socket.lock().await;
        if held.is_none() {
            match self.bind().await {
                Ok(socket) => *held = Some(socket),
                Err(failure) => return failure.into(),
            }
        }
        let Some(socket) = &*held else { return Step::Retry("no socket".into(), None) };
        let mut start = 0;
        for (index, item) in batch.items.iter().enumerate() {
            let end = item.end as usize;
            if let Err(error) = socket.send(batch.body.get(start..end).unwrap_or_default()).await {
                let why = format!("{error} (datagram {index})");
                return match error.raw_os_error() {
                    Some(libc::EMSGSIZE) => Step::Rejected(why),
                    // What went before is gone; the name may lead elsewhere by now.
                    _ => {
                        *held = None;
                        left(index, batch.items.len(), why)
                    }
                };
            }
            start = end;
        }
        Step::Stored
    }

    async fn bind(&self) -> Result<UdpSocket, Failure> {
        let mut addresses = timeout(CONNECT_TIMEOUT, lookup_host((self.endpoint.host.as_str(), self.endpoint.port)))
            .await
            .map_err(|_| late("resolving the name", CONNECT_TIMEOUT))??;
        let Some(address) = addresses.next() else { return Err(io::Error::other("the name has no address").into()) };
        let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
        socket.connect(address).await?;
        Ok(socket)
    }
}

/// What a failure at a datagram leaves to do.
fn left(failed: usize, items: usize, why: String) -> Step {
    match failed {
        0 => Step::Retry(why, None),
        _ => Step::Partly { retry: (failed as u32..items as u32).collect(), rejected: Vec::new() },
    }
}

/// The stream, unless the receiver has closed it.
async fn still_open(stream: Option<Box<dyn Duplex>>) -> Option<Box<dyn Duplex>> {
    let mut stream = stream?;
    refusal(&mut stream, Duration::ZERO).await.is_none().then_some(stream)
}

/// Why nothing should be written to a stream, if that becomes known within a time. What a receiver says is not read: syslog
/// has no answers.
async fn refusal(stream: &mut Box<dyn Duplex>, within: Duration) -> Option<io::Error> {
    let mut said = [0; 256];
    match timeout(within, stream.read(&mut said)).await {
        Ok(Ok(0)) => Some(io::Error::new(io::ErrorKind::ConnectionReset, "the receiver has closed the connection")),
        Ok(Err(error)) => Some(error),
        Ok(Ok(_)) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, FRAMES, Frame};
    use super::*;
    use crate::event::Kind;

    fn text(yaml: &str, frames: &[Frame]) -> String {
        let (_, sealed) = golden::seal(&Syslog, yaml, frames);
        golden::text(&sealed[0])
    }

    #[test]
    fn every_format_has_exactly_these_messages() {
        let version = env!("CARGO_PKG_VERSION");
        let ends = "endpoint: 'tcp://h:1'\nframing: newline\n";
        let cef = [
            format!(
                r#"<134>1 2026-11-21T06:00:00.123Z fw-1 hydrant - event - CEF:0|Hydrant|Hydrant|{version}|palo_alto|Event|1|rt=1795240800123 src=10.1.2.3 dvchost=fw-1 act=deny cs2Label=source cs2=fw msg=<134>Nov 21 06:00:00 fw-1 deny "a" b"#
            ),
            format!(
                r#"<134>1 2026-11-21T06:00:01.000Z 192.0.2.7 hydrant - event - CEF:0|Hydrant|Hydrant|{version}|palo_alto|Event|1|rt=1795240801000 src=10.0.0.9 cs2Label=source cs2=fw msg={{"srcip":"10.0.0.9"}}"#
            ),
            format!(
                r#"<134>1 2026-11-21T06:00:01.000Z 192.0.2.7 hydrant - event - CEF:0|Hydrant|Hydrant|{version}|palo_alto|Event|1|rt=1795240801000 cs2Label=source cs2=fw msg=�  junk"#
            ),
            format!(
                r#"<131>1 2026-11-21T06:00:00.123Z fw-1 hydrant - alert - CEF:0|Hydrant|Hydrant|{version}|r1|Denied|8|rt=1795240800123 src=10.1.2.3 dvchost=fw-1 act=deny externalId=1:40:0 cs1Label=tags cs1=attack.t1190 cs2Label=source cs2=fw msg=<134>Nov 21 06:00:00 fw-1 deny "a" b"#
            ),
        ];
        assert_eq!(text(ends, FRAMES), cef.join("\n") + "\n");
        let bodies = |messages: &str| -> String {
            messages.lines().map(|line| line.splitn(8, ' ').nth(7).unwrap_or_default().to_owned() + "\n").collect()
        };
        assert_eq!(bodies(&text(&format!("{ends}format: json"), FRAMES)), golden::NDJSON_JSON);
        let fields = r#""host":{"hostname":"fw-1"},"log":{"syslog":{"severity":{"code":6}}},"source""#;
        let wanted = golden::TEXT_RAW.replace(r#""host":{"hostname":"fw-1"},"source""#, fields);
        assert_eq!(bodies(&text(&format!("{ends}format: raw"), FRAMES)), wanted);
    }

    #[test]
    fn octet_counts_are_the_lengths_in_bytes_and_datagrams_have_none() {
        let counted = text("endpoint: 'tls://h:1'\nformat: json\n", FRAMES);
        let mut rest = counted.as_str();
        let mut messages = 0;
        while let Some((count, behind)) = rest.split_once(' ') {
            let message = &behind[..count.parse::<usize>().unwrap()];
            assert!(message.starts_with("<13") && message.ends_with('}'), "{message}");
            rest = &behind[message.len()..];
            messages += 1;
        }
        assert_eq!((messages, rest), (FRAMES.len() + 1, ""));
        assert!(text("endpoint: 'udp://h:1'\nformat: json\n", FRAMES).starts_with("<134>1 "));
    }

    /// What the standard says about escapes, and that a sender cannot add a key or end a message.
    #[test]
    fn values_are_escaped_and_cut() {
        let evil: &'static str = Box::leak(format!("a|b\\c=d\r\n src=6.6.6.6 {}", "x".repeat(2000)).into_boxed_str());
        let fields: &'static [_] = Box::leak(Box::new([("event.action", Kind::Text, evil), ("source.ip", Kind::Text, "10.0.0.1")]));
        let message = text("endpoint: 'udp://h:1'\n", &[Frame { raw: b"x", fields, ..FRAMES[1] }]);
        assert!(message.contains(r"act=a|b\\c\=d\r\n src\=6.6.6.6 xxx"), "{message}");
        let action = message.split(" act=").nth(1).unwrap().split(" cs2Label=").next().unwrap();
        assert_eq!(action.replace(r"\\", "\\").replace(r"\=", "=").replace(r"\r", "\r").replace(r"\n", "\n").chars().count(), 63);
        let mut header = Vec::new();
        write_header("a|b\\c=d\ne", &mut header);
        assert_eq!(String::from_utf8_lossy(&header), r"a\|b\\c=d e");
    }

    #[test]
    fn mistakes_are_named_all_at_once() {
        let yaml = "endpoint: 'http://h'\nfacility: locl0\napp_name: 'a b'\nmessage_bytes_max: 10\nbuffer: { events: 0 }\n";
        let error = golden::read(&Syslog, yaml).err().unwrap();
        for message in [
            "endpoint: expected `tcp://host:514`",
            "did you mean `local0`",
            "app_name: 1 to 48",
            "message_bytes_max: expected 480B to",
            "buffer.events: a batch has",
        ] {
            assert!(error.contains(message), "{message}: {error}");
        }
        for yaml in ["endpoint: 'udp://h:1'\nframing: newline", "endpoint: 'udp://h:1'\nmessage_bytes_max: 64KiB", "endpoint: 'tcp://h'"] {
            assert!(golden::read(&Syslog, yaml).is_err(), "{yaml}");
        }
        let endpoint = Endpoint { scheme: Scheme::Tls, host: "::1".into(), port: 6514 };
        assert_eq!(Endpoint::parse("tls://[::1]:6514"), Some(endpoint));
    }

    async fn write(client: &dyn Client, batch: &Sealed) -> String {
        match client.write(batch).await {
            Step::Retry(..) => "Retry".into(),
            other => format!("{other:?}"),
        }
    }

    fn client(port: u16, scheme: &str) -> (Rc<dyn Client>, Vec<Sealed>) {
        let (sink, sealed) = golden::seal(&Syslog, &format!("endpoint: '{scheme}://127.0.0.1:{port}'\n"), FRAMES);
        let Transport::Client(client) = sink.transport().unwrap() else { panic!("not a client") };
        (client, sealed)
    }

    #[tokio::test]
    async fn a_connection_is_kept_and_one_that_the_receiver_closed_is_made_anew() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, sealed) = client(listener.local_addr().unwrap().port(), "tcp");
        let length = sealed[0].body.len();
        let mut received = vec![0; 2 * length];
        assert_eq!(write(&*client, &sealed[0]).await, "Stored");
        assert_eq!(write(&*client, &sealed[0]).await, "Stored");
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut received).await.unwrap();
        drop(stream);
        // Its end has to arrive.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(write(&*client, &sealed[0]).await, "Stored");
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut received[..length]).await.unwrap();
        assert_eq!(&received[..length], &sealed[0].body[..]);
        drop((stream, listener));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(write(&*client, &sealed[0]).await, "Retry");
    }

    #[tokio::test]
    async fn each_message_is_a_datagram() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (client, sealed) = client(socket.local_addr().unwrap().port(), "udp");
        assert_eq!(write(&*client, &sealed[0]).await, "Stored");
        let mut all = Vec::new();
        for _ in 0..sealed[0].items.len() {
            let mut datagram = [0; 4096];
            let length = socket.recv(&mut datagram).await.unwrap();
            assert!(datagram.starts_with(b"<13"));
            all.extend_from_slice(&datagram[..length]);
        }
        assert_eq!(&all[..], &sealed[0].body[..]);
    }

    #[test]
    fn what_went_before_a_failure_is_not_sent_again() {
        assert!(matches!(left(0, 3, "x".into()), Step::Retry(..)));
        assert!(matches!(left(1, 3, "x".into()), Step::Partly { retry, rejected } if retry == [1, 2] && rejected.is_empty()));
    }
}
