//! `hydrant decode`: raw lines to what the decoders find in them.
//!
//! One JSON object a frame: `frame` (its number), `decoder` and `why`, `flaws` (names, empty if there is none),
//! `fields` (`@timestamp` and the ECS names, nested), `raw`, and `raw_base64` if the bytes are not UTF-8. With `--source` the
//! fields are those behind the transforms and enrichments of that source of a configuration, and `dropped` is there if a
//! transform drops the event.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cli::input::Input;
use crate::cli::source::OfSource;
use crate::cli::{Failure, Output, print, table};
use crate::clock;
use crate::encode::template::write_value;
use crate::json;
use crate::pipeline::offline::Examined;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    of: OfSource,
    /// How events are printed.
    #[arg(long, value_enum, default_value = "json")]
    output: Output,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut offline = arguments.of.stages(&arguments.input.decoder)?;
    arguments.input.chunks(|chunk, first| {
        let mut out = Vec::new();
        let mut number = first;
        offline.examine(&chunk, |examined| {
            match arguments.output {
                Output::Json => write_json(&examined, number, &mut out),
                Output::Table => write_table(&examined, number, &mut out),
            }
            number += 1;
            Ok::<_, Failure>(())
        })?;
        print(&out)
    })
}

fn write_json(examined: &Examined<'_>, number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"frame\":{number},\"decoder\":").as_bytes());
    match examined.decoder() {
        Some(decoder) => json::write_string(decoder.as_bytes(), out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"why\":");
    json::write_string(examined.why.as_bytes(), out);
    out.extend_from_slice(b",\"flaws\":[");
    for (index, flaw) in examined.flaws().into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::write_string(flaw.as_bytes(), out);
    }
    out.push(b']');
    if examined.is_dropped {
        out.extend_from_slice(b",\"dropped\":true");
    }
    out.extend_from_slice(b",\"fields\":{\"@timestamp\":\"");
    clock::write_rfc3339(examined.event.time_ms, out);
    out.push(b'"');
    examined.write_fields(out);
    out.extend_from_slice(b"},\"raw\":");
    let raw = examined.event.raw();
    json::write_string(raw, out);
    if simdutf8::basic::from_utf8(raw).is_err() {
        out.extend_from_slice(b",\"raw_base64\":");
        json::write_string(STANDARD.encode(raw).as_bytes(), out);
    }
    out.extend_from_slice(b"}\n");
}

fn write_table(examined: &Examined<'_>, number: u64, out: &mut Vec<u8>) {
    let decoder = examined.decoder().unwrap_or("no decoder");
    let mut heading = format!("# frame {number}: {decoder}: {}", examined.why);
    for flaw in examined.flaws() {
        heading.push_str(", ");
        heading.push_str(flaw);
    }
    let mut time = Vec::new();
    clock::write_rfc3339(examined.event.time_ms, &mut time);
    let mut rows = vec![vec!["@timestamp".to_owned(), String::from_utf8_lossy(&time).into_owned()]];
    for (name, value) in examined.fields() {
        let mut text = Vec::new();
        write_value(value, &mut text);
        rows.push(vec![name.to_owned(), String::from_utf8_lossy(&text).into_owned()]);
    }
    out.extend_from_slice(format!("{heading}\n{}\n", table::render(&["FIELD", "VALUE"], &rows)).as_bytes());
}
