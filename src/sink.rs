//! Destinations: `events -> items of a batch -> requests; answers -> outcome`.
//!
//! A sink is pure. Its [`Encoder`] turns selected events into items; its [`Exchange`] is a state machine that
//! is fed answers and says what to send next. All I/O, retry, backoff, concurrency, dead letters and metrics
//! belong to `deliver`, once for all sinks, so golden tests need no server. A sink with a client of its own
//! (S3 by the AWS SDK, a file) implements [`Client`] instead, which `deliver` drives in the same way.
//!
//! Never: decide to drop, count, sleep, retry. To add one: a file with a `SinkKind` and its two lines in
//! [`SINKS`].

#[cfg(feature = "aws")]
mod aws_s3;
mod blackhole;
mod datadog_logs;
mod file;
mod http;
mod notify;
mod pagerduty;
mod slack;
mod splunk_hec;
mod stdout;
mod syslog;
mod webhook;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;

use crate::batch::{Batching, Items, Sealed};
use crate::config::Section;
use crate::encode::body::Context;
use crate::encode::rows::{Partitioner, Rows};
use crate::error::{Diagnostics, Error};
use crate::event::{Chunk, Events};
use crate::net::http_client::{Answer, ClientOptions};
use crate::task::LocalFuture;

/// Every sink.
pub static SINKS: &[&dyn SinkKind] = &[
    #[cfg(feature = "aws")]
    &aws_s3::AwsS3,
    &blackhole::Blackhole,
    &datadog_logs::DatadogLogs,
    &file::File,
    &http::HttpPost,
    &pagerduty::PagerDuty,
    &slack::Slack,
    &splunk_hec::SplunkHec,
    &stdout::Stdout,
    &syslog::Syslog,
    &webhook::Webhook,
];

/// A kind of sink.
pub trait SinkKind: Sync {
    /// File name, `type:` in the configuration, metric label.
    fn name(&self) -> &'static str;
    /// A commented sample section; parsed by a test, shown in the documentation.
    fn sample(&self) -> &'static str;
    /// The JSON schema of its section: [`crate::config::schema_of`] its settings.
    fn schema(&self) -> schemars::Schema;
    /// What Amazon Data Firehose calls failures of such a destination (Developer Guide, "Custom prefixes for Amazon S3
    /// objects", `error-output-type`): its dead letters are shipped below this name.
    fn error_output_type(&self) -> &'static str {
        "processing-failed"
    }
    /// Reads a section; opens nothing.
    ///
    /// # Errors
    /// Every mistake in it.
    fn read(&self, section: &Section) -> Result<Box<dyn Sink>, Diagnostics>;
}

/// A configured sink, shared by all shards.
pub trait Sink: Send + Sync {
    /// How its batches are cut and compressed.
    fn batching(&self) -> Batching;
    /// Fields that its bodies want of a decoder that can fill `canonical` (ECS names).
    fn wants(&self, canonical: &[String]) -> Vec<String>;
    /// Fields that its alerts want of events which rules look at, as far as the decoder can fill them.
    fn wants_of_alerts(&self) -> &'static [&'static str] {
        &[]
    }
    /// Whether its bodies carry what enrichment and transforms add. If no sink's do, only what a rule, a route
    /// or [`Self::wants`] names is looked up.
    fn writes_added(&self) -> bool {
        true
    }
    /// Whether it gets alerts only, whatever the routes say: it tells people, and a forgotten condition must not page
    /// somebody for every event. Events count as filtered.
    fn takes_only_alerts(&self) -> bool {
        false
    }
    /// An encoder for the events of one decoder, for one shard.
    fn encoder(&self, context: &Context) -> Box<dyn Encoder>;
    /// How batches leave, for one shard.
    ///
    /// # Errors
    /// Certificates or files that cannot be read.
    fn transport(&self) -> Result<Transport, Error>;
}

/// Some events of a chunk, for one sink.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    /// The chunk.
    pub chunk: &'a Chunk,
    /// Its decoded rows, alerts behind the events.
    pub events: &'a Events,
    /// The selected rows, ascending.
    pub rows: &'a [u32],
}

/// Turns events into items. One per shard, sink and decoder; called once per chunk.
pub trait Encoder {
    /// Appends exactly one item per selected row, in order.
    fn encode(&mut self, selection: Selection<'_>, items: &mut Items);
}

/// An encoder of rows, one item each, by partition if there are any.
pub struct RowEncoder {
    rows: Rows,
    partitioner: Option<Partitioner>,
}

impl RowEncoder {
    /// An encoder.
    pub fn boxed(rows: Rows, partitioner: Option<Partitioner>) -> Box<dyn Encoder> {
        Box::new(Self { rows, partitioner })
    }
}

impl Encoder for RowEncoder {
    fn encode(&mut self, selection: Selection<'_>, items: &mut Items) {
        for row in selection.rows {
            let event = selection.events.event(selection.chunk, *row as usize);
            let position = selection.chunk.position.plus(event.frame as usize);
            match &mut self.partitioner {
                Some(partitioner) => items.push_in(partitioner.partition(event), |out| self.rows.write(event, position, out)),
                None => items.push(|out| self.rows.write(event, position, out)),
            }
        }
    }
}

/// How batches leave.
pub enum Transport {
    /// By HTTP: `deliver` sends what the exchange says.
    Http(Rc<dyn Http>, ClientOptions),
    /// By a client of the sink's own.
    Client(Rc<dyn Client>),
}

/// A sink that speaks HTTP.
pub trait Http {
    /// Begins the exchange of one batch.
    fn begin(&self, batch: &Sealed) -> Box<dyn Exchange>;
    /// No more batches will come: what waits for others to come is to go out.
    fn hurry(&self) {}
}

/// A sink with a client of its own.
pub trait Client {
    /// Tries to deliver a batch once.
    fn write<'a>(&'a self, batch: &'a Sealed) -> LocalFuture<'a, Step>;
}

/// The dialogue about one batch.
pub trait Exchange {
    /// What to do next; `answer` is what the last request got, `None` at the beginning and after a wait.
    fn next(&mut self, answer: Option<&Answer>) -> Step;
}

/// What an exchange wants.
#[expect(clippy::large_enum_variant, reason = "one exists at a time; a box would only cost an allocation a request")]
#[derive(Debug)]
pub enum Step {
    /// Send this and come back with the answer.
    Send(Request<Bytes>),
    /// Come back after this long.
    Wait(Duration),
    /// The same, and others may have the place meanwhile: this batch is not due.
    Later(Duration),
    /// Everything arrived.
    Stored,
    /// Nothing arrived for sure; the same batch may be sent again, not before this long if given.
    Retry(String, Option<Duration>),
    /// The destination will never take the batch as it is. One item: a dead letter; more: it is split.
    Rejected(String),
    /// Some items did not arrive, all others did.
    Partly {
        /// Items to be sent again.
        retry: Vec<u32>,
        /// Items that will never be taken, with the reason.
        rejected: Vec<(u32, String)>,
    },
    /// Nothing will arrive until a person acts (wrong token, missing index): hold the destination.
    Hold(String),
}

/// What the sinks' tests share: events in, sealed batches out, without a pipeline.
#[cfg(test)]
mod golden {
    use std::path::Path;
    use std::sync::Arc;

    use super::{Context, Selection, Sink, SinkKind};
    use crate::batch::{Batcher, Items, Sealed};
    use crate::budget::Budget;
    use crate::config::Section;
    use crate::encode::alert::MATCHED_FIELD;
    use crate::encode::compress::decompress;
    use crate::event::{AlertKey, Chunk, Events, Fields, Flaw, Kind, Position, Sender, Span};
    use crate::net::http_client::Answer;

    /// 2026-11-21T06:00:00.123Z
    pub(super) const EVENT_MS: i64 = 1_795_240_800_123;
    pub(super) const ARRIVAL_MS: i64 = EVENT_MS + 877;

    #[derive(Clone, Copy)]
    pub(super) struct Frame {
        pub(super) raw: &'static [u8],
        pub(super) fields: &'static [(&'static str, Kind, &'static str)],
        pub(super) is_strict_object: bool,
        pub(super) flaw: Option<Flaw>,
        /// Whether a rule matched and made an alert.
        pub(super) is_alert: bool,
    }

    pub(super) static FRAMES: &[Frame] = &[
        Frame {
            raw: b"<134>Nov 21 06:00:00 fw-1 deny \"a\"\tb",
            fields: &[
                ("host.hostname", Kind::Text, "fw-1"),
                ("log.syslog.severity.code", Kind::Number, "6"),
                ("message", Kind::Text, "deny \"a\"\tb"),
                ("source.ip", Kind::Text, "10.1.2.3"),
                ("event.action", Kind::Text, "deny"),
                ("%hydrant.rule_ids", Kind::Array, "[\"r1\"]"),
                (MATCHED_FIELD, Kind::Array, r#"[{"field":"source.ip","value":"10.1.2.3"}]"#),
            ],
            is_strict_object: false,
            flaw: None,
            is_alert: true,
        },
        Frame {
            raw: b"{\"srcip\":\"10.0.0.9\"}",
            fields: &[("source.ip", Kind::Text, "10.0.0.9"), ("service.name", Kind::Escaped, "w\\u0065b")],
            is_strict_object: true,
            flaw: None,
            is_alert: false,
        },
        Frame { raw: b"\xff\x00 junk\n", fields: &[], is_strict_object: false, flaw: Some(Flaw::Malformed), is_alert: false },
    ];

    /// The alert of the first of [`FRAMES`], with the fields that the plan fills.
    macro_rules! finding {
        ($fields:literal) => {
            concat!(
                r#"{"category_uid":2,"class_uid":2004,"class_name":"Detection Finding","activity_id":1,"type_uid":200401,"#,
                r#""time":1795240800123,"severity_id":4,"severity":"High","status_id":1,"is_alert":true,"message":"Denied","#,
                r#""metadata":{"version":"1.8.0","product":{"name":"Hydrant","vendor_name":"Hydrant","version":""#,
                env!("CARGO_PKG_VERSION"),
                r#""},"uid":"1:40:0","log_source":"fw","log_format":"palo_alto","original_time":"2026-11-21T06:00:00.123Z","#,
                r#""original_event_uid":"1:40"},"finding_info":{"uid":"1:40:0","title":"Denied","analytic":{"uid":"r1","name":"Denied","#,
                r#""type_id":1,"type":"Rule"},"attacks":[{"technique":{"uid":"T1190"}}],"created_time":1795240800123,"#,
                r#""data_sources":["fw"]},"evidences":[{"src_endpoint":{"ip":"10.1.2.3"},"device":{"type_id":0,"hostname":"fw-1"},"#,
                r#""data":{"fields":{"#,
                $fields,
                r#"},"matched":[{"field":"source.ip","value":"10.1.2.3"}]}}],"observables":[{"name":"evidences[0].src_endpoint.ip","#,
                r#""type_id":2,"value":"10.1.2.3"}],"raw_data":"<134>Nov 21 06:00:00 fw-1 deny \"a\"\tb","unmapped":{"hydrant":{"#,
                r#""source":"fw","decoder":"palo_alto","position":"1:40","rule_ids":["r1"],"alert":true,"rule":{"id":"r1","#,
                r#""title":"Denied","level":"high","tags":["attack.t1190"]},"alert_id":"1:40:0"}}}"#,
                "\n"
            )
        };
    }

    /// That alert where nothing but alerts asks for fields.
    pub(super) const FINDING: &str = finding!(r#""host":{"hostname":"fw-1"},"source":{"ip":"10.1.2.3"}"#);

    /// That alert as an event, where nothing asks for fields.
    pub(super) const FLAT: &str = concat!(
        r#"{"@timestamp":"2026-11-21T06:00:00.123Z","event.original":"<134>Nov 21 06:00:00 fw-1 deny \"a\"\tb","hydrant":{"source":"fw","#,
        r#""rule_ids":["r1"],"alert":true,"rule":{"id":"r1","title":"Denied","level":"high","tags":["attack.t1190"]},"alert_id":"1:40:0"}}"#,
        "\n"
    );

    /// [`FRAMES`] as lines of JSON.
    pub(super) const NDJSON_RAW: &str = concat!(
        r#"{"message":"<134>Nov 21 06:00:00 fw-1 deny \"a\"\tb","hydrant":{"source":"fw","rule_ids":["r1"]}}"#,
        "\n",
        r#"{"srcip":"10.0.0.9"}"#,
        "\n",
        r#"{"message":"�\u0000 junk\n","hydrant":{"source":"fw","flaw":"malformed","raw_base64":"/wAganVuawo="}}"#,
        "\n",
        finding!(r#""host":{"hostname":"fw-1"},"source":{"ip":"10.1.2.3"}"#),
    );

    /// [`FRAMES`] as lines of JSON with ECS names.
    pub(super) const NDJSON_JSON: &str = concat!(
        r#"{"@timestamp":"2026-11-21T06:00:00.123Z","event":{"action":"deny"},"host":{"hostname":"fw-1"},"log":{"syslog":{"severity":{"code":6}}},"message":"deny \"a\"\tb","source":{"ip":"10.1.2.3"},"hydrant":{"source":"fw","rule_ids":["r1"]}}"#,
        "\n",
        r#"{"@timestamp":"2026-11-21T06:00:01.000Z","service":{"name":"w\u0065b"},"source":{"ip":"10.0.0.9"},"hydrant":{"source":"fw"}}"#,
        "\n",
        r#"{"@timestamp":"2026-11-21T06:00:01.000Z","event.original":"�\u0000 junk\n","hydrant":{"source":"fw","flaw":"malformed","raw_base64":"/wAganVuawo="}}"#,
        "\n",
        finding!(
            r#""event":{"action":"deny"},"host":{"hostname":"fw-1"},"log":{"syslog":{"severity":{"code":6}}},"message":"deny \"a\"\tb","source":{"ip":"10.1.2.3"}"#
        ),
    );

    /// [`FRAMES`] as text: none but the object can be a line as it is.
    pub(super) const TEXT_RAW: &str = concat!(
        r#"{"message":"<134>Nov 21 06:00:00 fw-1 deny \"a\"\tb","hydrant":{"source":"fw","rule_ids":["r1"]}}"#,
        "\n",
        r#"{"srcip":"10.0.0.9"}"#,
        "\n",
        r#"{"message":"�\u0000 junk\n","hydrant":{"source":"fw","flaw":"malformed","raw_base64":"/wAganVuawo="}}"#,
        "\n",
        finding!(r#""host":{"hostname":"fw-1"},"source":{"ip":"10.1.2.3"}"#),
    );

    pub(super) fn read(kind: &dyn SinkKind, yaml: &str) -> Result<Box<dyn Sink>, String> {
        Section::parse(Path::new("t.yaml"), yaml).and_then(|section| kind.read(&section)).map_err(|error| error.to_string())
    }

    /// The batches that a sink makes of some frames.
    pub(super) fn seal(kind: &dyn SinkKind, yaml: &str, frames: &[Frame]) -> (Box<dyn Sink>, Vec<Sealed>) {
        let sink = read(kind, yaml).unwrap();
        let canonical = ["event.action", "host.hostname", "log.syslog.severity.code", "message", "service.name", "source.ip"];
        let canonical: Vec<String> = canonical.map(str::to_owned).to_vec();
        let mut fields = Fields::default();
        fields.slot("%hydrant.rule_ids");
        for name in sink.wants(&canonical) {
            fields.slot(&name);
        }
        let of_alerts =
            sink.wants_of_alerts().iter().filter(|name| **name == MATCHED_FIELD || canonical.iter().any(|known| known == **name));
        of_alerts.for_each(|name| {
            fields.slot(name);
        });
        let (chunk, events) = decoded(frames, &fields);
        let rules = [r#"{"id":"r1","title":"Denied","level":"high","tags":["attack.t1190"]}"#.into()].into();
        let context = Context {
            fields,
            canonical,
            added: Vec::new(),
            rules,
            notes: Arc::default(),
            source: "fw".into(),
            decoder: "palo_alto",
            details: None,
        };
        let mut items = Items::default();
        items.clear(sink.batching().separator);
        let rows: Vec<u32> = (0..events.len() as u32).collect();
        sink.encoder(&context).encode(Selection { chunk: &chunk, events: &events, rows: &rows }, &mut items);
        let mut batcher = Batcher::new(sink.batching(), Budget::new(1 << 30), 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef).unwrap();
        let added = batcher.add(&chunk, &events, &rows, &items).unwrap();
        assert!(added.too_long.is_empty());
        let mut sealed: Vec<Sealed> = added.sealed.into_iter().chain(batcher.seal_all().unwrap()).map(|held| held.batch).collect();
        sealed.sort_by(|a, b| a.partition.cmp(&b.partition));
        (sink, sealed)
    }

    fn decoded(frames: &[Frame], fields: &Fields) -> (Chunk, Events) {
        let mut bytes = Vec::new();
        let mut spans = Vec::new();
        for frame in frames {
            spans.push(Span::new(bytes.len(), bytes.len() + frame.raw.len()));
            bytes.extend_from_slice(frame.raw);
        }
        let sender = Arc::new(Sender { source: "fw".into(), source_index: 0 });
        let mut chunk = Chunk::new(bytes, spans, sender, ARRIVAL_MS).with_peers(vec![(0, [192, 0, 2, 7].into())]);
        chunk.position = Position { epoch: 1, sequence: 40 };
        let mut events = Events::default();
        events.reset(&chunk, fields.width());
        for (index, frame) in frames.iter().enumerate() {
            let mut row = events.row_mut(&chunk, index);
            for (name, kind, text) in frame.fields {
                if let Some(slot) = fields.find(name) {
                    row.set_written(slot, *kind, |out| out.extend_from_slice(text.as_bytes()));
                }
            }
            if frame.is_alert {
                row.set_time_ms(EVENT_MS);
            }
            if frame.is_strict_object {
                row.set_strict_object();
            }
            frame.flaw.into_iter().for_each(|flaw| row.set_flaw(flaw));
        }
        for index in (0..frames.len()).filter(|index| frames[*index].is_alert) {
            events.push_alert(index, 0, AlertKey::rule("r1"));
        }
        (chunk, events)
    }

    pub(super) fn text(batch: &Sealed) -> String {
        String::from_utf8(decompress(batch.codec, &batch.body, batch.plain_bytes).unwrap()).unwrap()
    }

    pub(super) fn answer(status: u16, body: &'static str) -> Answer {
        Answer { status: hyper::StatusCode::from_u16(status).unwrap(), headers: Default::default(), body: body.into(), truncated: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_a_valid_configuration() {
        for kind in SINKS {
            // Secrets of samples come from the environment, which is not there.
            let sample: Vec<&str> = kind.sample().lines().filter(|line| !line.starts_with("type:")).collect();
            let sample = sample.join("\n").replace("secret://env/", "");
            if let Err(error) = golden::read(*kind, &sample) {
                panic!("{}: {error}", kind.name());
            }
        }
    }
}
