//! Every decoder, and `auto`, over any lines: no panic, values only of the own frame, raw bytes kept, and rows
//! of output, alerts included, that are valid JSON without a line break whatever was in the frame.
#![no_main]

use std::cell::RefCell;

use hydrant::decode::{Auto, Compiled, DECODERS, ENVELOPE_FIELDS, Instance};
use hydrant::encode::alert::AlertForm;
use hydrant::encode::body::{Context, Form};
use hydrant::encode::rows::{Format, Rows, body};
use hydrant::event::{Chunk, Event, Events, Fields, Position, Value};
use hydrant_fuzz::{chosen, chunk_of_lines, samples, schema, seed};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

struct Line {
    instance: Instance,
    width: usize,
    raw: Rows,
    json: Rows,
}

thread_local! {
    static LINES: RefCell<Vec<Line>> = RefCell::new(lines());
}

/// A decoder each that wants every name of its schema map and of the header.
fn lines() -> Vec<Line> {
    let line = |kind: &&'static dyn hydrant::decode::DecoderKind| {
        let schema = schema(*kind);
        let canonical: Vec<String> = schema.ecs.keys().cloned().chain(ENVELOPE_FIELDS.iter().map(|name| (*name).to_owned())).collect();
        let mut fields = Fields::default();
        canonical.iter().for_each(|name| {
            fields.slot(name);
        });
        kind.natives().iter().flatten().for_each(|native| {
            fields.slot(&format!("%native.{native}"));
        });
        let compiled = Compiled::new(*kind, &schema, &mut fields, 0).expect("its own schema map");
        let context = Context { fields: fields.clone(), canonical, source: "fuzz".into(), decoder: kind.name(), ..Context::default() };
        let rows = |form| Rows::new(Format::Ndjson, body((form, AlertForm::Ocsf), true, true, &context));
        Line { instance: compiled.instance(), width: fields.width(), raw: rows(Form::Raw), json: rows(Form::Json) }
    };
    DECODERS.iter().map(line).collect()
}

fuzz_target!(init: seed(seeds()), |input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    let chunk = chunk_of_lines(bytes);
    let frames = chunk.frames().len();
    let mut runs = vec![(0..frames, usize::from(*choice))];
    if usize::from(*choice) >= DECODERS.len() {
        Auto::default().split(&chunk, &mut runs);
        assert_eq!(runs.iter().map(|(range, _)| range.len()).sum::<usize>(), frames);
    }
    LINES.with_borrow_mut(|lines| {
        for (range, kind) in runs {
            let line = &mut lines[kind];
            let mut events = Events::default();
            events.reset(&chunk, line.width);
            line.instance.decode(&chunk, range.clone(), &mut events);
            for index in range {
                check(&chunk, events.event(&chunk, index), index, line);
                let alert = events.push_alert(index, 0, 0);
                check(&chunk, events.event(&chunk, alert), index, line);
            }
        }
    });
});

fn check(chunk: &Chunk, event: Event<'_>, index: usize, line: &Line) {
    assert_eq!(event.raw(), chunk.frame(index));
    let buffer = chunk.bytes().as_ptr_range();
    let frame = chunk.frame(index).as_ptr_range();
    for value in event.values() {
        let (Value::Number(bytes) | Value::Text(bytes) | Value::Escaped(bytes) | Value::Array(bytes) | Value::Object(bytes)) = value else {
            continue;
        };
        let range = bytes.as_ptr_range();
        let is_outside = !buffer.contains(&range.start) || frame.start <= range.start && range.end <= frame.end;
        assert!(bytes.is_empty() || is_outside, "a value of another frame: {value:?}");
    }
    for rows in [&line.raw, &line.json] {
        let mut out = Vec::new();
        rows.write(event, Position::default(), &mut out);
        let text = std::str::from_utf8(&out).expect("rows are UTF-8");
        assert!(!text.contains(['\n', '\r']), "a line break in the row {text}");
        if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
            // Those are limits of the reader; whoever ignores the values has none.
            let is_limit = ["recursion limit", "out of range"].iter().any(|limit| error.to_string().contains(limit));
            assert!(is_limit && serde_json::from_str::<IgnoredAny>(text).is_ok(), "not JSON, {error}: {text}");
        }
    }
}

/// Every sample under its own decoder, and all of them under `auto`.
fn seeds() -> Vec<Vec<u8>> {
    let own = samples().iter().enumerate().map(|(kind, sample)| chosen(&[kind as u8], sample)).collect::<Vec<_>>();
    let all = chosen(&[0xff], &samples().join(&b'\n'));
    own.into_iter().chain([all]).collect()
}
