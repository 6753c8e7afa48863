//! What the tests of enrichers share: rows with given keys, and what is in them afterwards.

pub(super) mod mmdb;

use std::path::Path;
use std::sync::Arc;

use super::{Enricher, EnricherKind, Folders};
use crate::config::Section;
use crate::error::Diagnostics;
use crate::event::{Chunk, Events, Fields, Kind, Sender, Span, Value};

/// Reads a section that stands in `c.yaml`.
pub(super) fn read(kind: &dyn EnricherKind, text: &str, base: &Path) -> Result<Box<dyn Enricher>, Diagnostics> {
    kind.read(&Section::parse(Path::new("c.yaml"), text)?.without(&["type"]), Folders { base, data: base })
}

/// The fields `wanted` of one row per key, `-` for a missing one; keys are text.
pub(super) fn filled(enricher: &dyn Enricher, key: &str, keys: &[&str], wanted: &[&str]) -> Vec<Vec<String>> {
    let keys: Vec<(Kind, &str)> = keys.iter().map(|key| (Kind::Text, *key)).collect();
    kinds(enricher, key, &keys, wanted)
}

/// The same for keys of any kind. The rows are filled twice, the second time from the memo.
pub(super) fn kinds(enricher: &dyn Enricher, key: &str, keys: &[(Kind, &str)], wanted: &[&str]) -> Vec<Vec<String>> {
    let mut fields = Fields::default();
    let slot = fields.slot(key);
    let targets: Vec<_> = wanted.iter().map(|name| fields.slot(name)).collect();
    let sender = Arc::new(Sender { source: "t".into(), source_index: 0 });
    let chunk = Chunk::new(b"x".to_vec(), vec![Span::new(0, 1); keys.len() * 2], sender, 0);
    let mut events = Events::default();
    events.reset(&chunk, fields.width());
    for (index, (kind, key)) in keys.iter().chain(keys).enumerate() {
        events.row_mut(&chunk, index).set_written(slot, *kind, |out| out.extend_from_slice(key.as_bytes()));
    }
    let mut bound = enricher.bind(&fields);
    assert_eq!(bound.enrich(&chunk, 0..keys.len() * 2, &mut events), 0, "nothing is given up");
    let row = |index: usize| -> Vec<String> {
        let text = |value: Value<'_>| match value {
            Value::Missing => "-".to_owned(),
            Value::Text(text) | Value::Number(text) | Value::Object(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        targets.iter().map(|slot| text(events.event(&chunk, index).value(*slot))).collect()
    };
    let rows: Vec<Vec<String>> = (0..keys.len() * 2).map(row).collect();
    assert_eq!(rows[..keys.len()], rows[keys.len()..], "the memo answers as the table does");
    rows[..keys.len()].to_vec()
}
