//! `blackhole`: takes everything and keeps nothing; for benchmarks.
//!
//! It counts as any destination does, and encodes and compresses as asked, so that what a real one would cost
//! up to its network can be measured.

use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;

use super::{Client, Encoder, RowEncoder, Sink, SinkKind, Step, Transport};
use crate::batch::{Batching, Buffer, BufferRange, Limits, Sealed};
use crate::config::{Section, schema_of};
use crate::encode::alert::AlertForm;
use crate::encode::body::{Context, Form};
use crate::encode::compress::Compression;
use crate::encode::rows::{self, Format, Rows};
use crate::error::{Diagnostics, Error};
use crate::task::LocalFuture;

pub(super) struct Blackhole;

const SAMPLE: &str = r"
type: blackhole
format: ndjson                         # ndjson, json_array or text
form: raw                              # raw: the event as it came; json: ECS names
compression: none                      # none, gzip or zstd
buffer: { size: 1MB, interval: 1s, events: 10000 }
";

/// As the `http` sink has it, so that the two can be compared.
const BUFFER: BufferRange = BufferRange {
    bytes: 1_000_000,
    bytes_range: (1, 128 << 20),
    interval: Duration::from_secs(1),
    interval_max: Duration::from_secs(900),
    items: 10_000,
    items_max: 1_000_000,
};

impl SinkKind for Blackhole {
    fn name(&self) -> &'static str {
        "blackhole"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section) -> Result<Box<dyn Sink>, Diagnostics> {
        let config: Config = section.read()?;
        let limits = config.buffer.limits(&BUFFER, section)?;
        Ok(Box::new(Configured { config, limits }))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
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
    /// none, gzip or zstd.
    #[serde(default = "Config::compression")]
    compression: Compression,
    /// When a batch is thrown away.
    #[serde(default)]
    buffer: Buffer,
}

impl Config {
    fn compression() -> Compression {
        Compression::None
    }
}

struct Configured {
    config: Config,
    limits: Limits,
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
        Ok(Transport::Client(Rc::new(Nowhere)))
    }
}

struct Nowhere;

impl Client for Nowhere {
    fn write<'a>(&'a self, _: &'a Sealed) -> LocalFuture<'a, Step> {
        Box::pin(std::future::ready(Step::Stored))
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, FRAMES};
    use super::*;

    #[tokio::test]
    async fn it_encodes_as_asked_and_stores_all() {
        let (sink, sealed) = golden::seal(&Blackhole, "form: json\ncompression: gzip\n", FRAMES);
        assert_eq!(golden::text(&sealed[0]), golden::NDJSON_JSON);
        let Transport::Client(client) = sink.transport().unwrap() else { panic!("not a client") };
        assert!(matches!(client.write(&sealed[0]).await, Step::Stored));
    }
}
