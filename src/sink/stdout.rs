//! `stdout`: one line an event.
//!
//! Out: lines of JSON or text on standard output, whole batches at a time, so that shards never mix inside a
//! line. Nothing else is ever written there: messages go to stderr. JSON escapes control characters; lines
//! of `text` reach a terminal as their senders wrote them, escape sequences included.
//!
//! A closed pipe (`hydrant run | head`) holds the destination. A write that fails half-way is repeated whole, so
//! a reader that comes back may see lines twice.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;

use super::{Client, Encoder, RowEncoder, Sink, SinkKind, Step, Transport};
use crate::batch::{Batching, Buffer, BufferRange, Limits, Sealed};
use crate::config::{Section, schema_of};
use crate::encode::alert::AlertForm;
use crate::encode::body::{Context, Form};
use crate::encode::compress::Codec;
use crate::encode::rows::{self, Format, Rows};
use crate::error::{Diagnostics, Error};
use crate::task::LocalFuture;

pub(super) struct Stdout;

const SAMPLE: &str = r"
type: stdout
format: ndjson                         # ndjson or text
form: json                             # json: ECS names; raw: the event as it came
alert_form: ocsf                       # ocsf: a Detection Finding; flat: an object with ECS names
buffer: { size: 64KiB, interval: 200ms, events: 1000 }
";

/// A person looks at it: a fifth of a second is as good as at once.
const BUFFER: BufferRange = BufferRange {
    bytes: 64 << 10,
    bytes_range: (1, 64 << 20),
    interval: Duration::from_millis(200),
    interval_max: Duration::from_secs(900),
    items: 1000,
    items_max: 1_000_000,
};

impl SinkKind for Stdout {
    fn name(&self) -> &'static str {
        "stdout"
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
    /// Lines of JSON or of text.
    #[serde(default)]
    format: Lines,
    /// What the event is.
    #[serde(default)]
    form: Form,
    /// What an alert is: an OCSF Detection Finding, or an object with ECS names.
    #[serde(default)]
    alert_form: AlertForm,
    /// Whether `json` keeps the frame in `event.original`.
    #[serde(default)]
    keep_raw: bool,
    /// When lines are written.
    #[serde(default)]
    buffer: Buffer,
}

#[derive(Clone, Copy, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Lines {
    #[default]
    Ndjson,
    Text,
}

struct Configured {
    config: Config,
    limits: Limits,
}

impl Configured {
    fn format(&self) -> Format {
        match self.config.format {
            Lines::Ndjson => Format::Ndjson,
            Lines::Text => Format::Text,
        }
    }
}

impl Sink for Configured {
    fn batching(&self) -> Batching {
        Batching {
            bytes_max: self.limits.bytes,
            items_max: self.limits.items,
            item_bytes_max: BUFFER.bytes_range.1,
            interval: self.limits.interval,
            codec: Codec::None,
            head: self.format().head(),
            separator: self.format().separator(),
            tail: self.format().tail(),
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
        RowEncoder::boxed(Rows::new(self.format(), body), None)
    }

    fn transport(&self) -> Result<Transport, Error> {
        Ok(Transport::Client(Rc::new(Lock)))
    }
}

struct Lock;

impl Client for Lock {
    fn write<'a>(&'a self, batch: &'a Sealed) -> LocalFuture<'a, Step> {
        let body = batch.body.clone();
        Box::pin(async move {
            // A pipe blocks while nobody reads; the shard must not.
            let written = tokio::task::spawn_blocking(move || write(&mut io::stdout().lock(), &body)).await;
            match written {
                Ok(Ok(())) => Step::Stored,
                Ok(Err(error)) => failed(&error),
                Err(error) => Step::Retry(error.to_string(), None),
            }
        })
    }
}

fn write(out: &mut impl io::Write, body: &[u8]) -> io::Result<()> {
    out.write_all(body)?;
    out.flush()
}

fn failed(error: &io::Error) -> Step {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Step::Hold("nobody reads standard output any more".into()),
        _ => Step::Retry(format!("standard output: {error}"), None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, FRAMES};
    use super::*;

    #[test]
    fn each_event_is_one_line() {
        for (yaml, expected) in [("{}", golden::NDJSON_RAW), ("form: json", golden::NDJSON_JSON), ("format: text", golden::TEXT_RAW)] {
            let (_, sealed) = golden::seal(&Stdout, yaml, FRAMES);
            assert_eq!(golden::text(&sealed[0]), expected, "{yaml}");
        }
    }

    #[test]
    fn a_closed_pipe_holds_and_anything_else_is_tried_again() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        let error = write(&mut writer, b"x\n").unwrap_err();
        assert!(matches!(failed(&error), Step::Hold(_)), "{error:?}");
        assert!(matches!(failed(&io::Error::from_raw_os_error(libc::ENOSPC)), Step::Retry(..)));
        assert!(golden::read(&Stdout, "format: json_array").is_err_and(|error| error.contains("`json_array` is not a value")));
    }
}
