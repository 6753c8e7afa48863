//! Slots to a nested JSON object, by a plan made once.
//!
//! `source.ip` and `source.port` become `{"source":{"ip":..,"port":..}}`. Missing fields are left out, and so
//! are objects that would be empty. A name that is also the prefix of another (`rule` and `rule.name`) is
//! written as `rule.value`, because JSON cannot have both.

use crate::event::{Event, SlotId, Value};
use crate::json;

/// The fields of one decoder's events in the order in which they are written.
#[derive(Clone, Debug, Default)]
pub struct Template {
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
struct Field {
    slot: SlotId,
    /// `"source":{` for each object above the field, opened when its first field is there.
    opens: Vec<Box<[u8]>>,
    /// `"ip":`
    key: Box<[u8]>,
    /// Objects that this field and the one before it in the list have in common.
    shared: usize,
}

impl Template {
    /// A template for these canonical names.
    pub fn new<'a>(names: impl IntoIterator<Item = (&'a str, SlotId)>) -> Self {
        let mut names: Vec<(Vec<&str>, SlotId)> = names.into_iter().map(|(name, slot)| (name.split('.').collect(), slot)).collect();
        names.sort();
        names.dedup_by(|a, b| a.0 == b.0);
        let paths: Vec<Vec<&str>> = names.iter().map(|(path, _)| path.clone()).collect();
        for (path, _) in &mut names {
            if paths.iter().any(|other| other.len() > path.len() && other.starts_with(path)) {
                path.push("value");
            }
        }
        names.sort();
        let mut fields: Vec<Field> = Vec::with_capacity(names.len());
        let mut previous: &[&str] = &[];
        for (path, slot) in &names {
            let Some((leaf, parents)) = path.split_last() else { continue };
            let above = previous.split_last().map_or(&[][..], |(_, above)| above);
            let shared = above.iter().zip(parents).take_while(|(a, b)| a == b).count();
            let opens = parents.iter().map(|name| key(name, b":{")).collect();
            fields.push(Field { slot: *slot, opens, key: key(leaf, b":"), shared });
            previous = path;
        }
        Self { fields }
    }

    /// Whether it has no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether the event has any of the fields.
    pub fn has_any(&self, event: Event<'_>) -> bool {
        self.fields.iter().any(|field| event.value(field.slot) != Value::Missing)
    }

    /// Appends the members that the event has, without the outer braces, each with a comma before it if
    /// `comma` says that something stands before. Returns whether anything stands there now.
    pub fn write(&self, event: Event<'_>, mut comma: bool, out: &mut Vec<u8>) -> bool {
        let mut open: usize = 0;
        // Objects that the last written field and the current one share: the least of all steps between.
        let mut shared = 0;
        for field in &self.fields {
            shared = shared.min(field.shared);
            let value = event.value(field.slot);
            if matches!(value, Value::Missing) {
                continue;
            }
            while open > shared {
                out.push(b'}');
                open -= 1;
            }
            if comma {
                out.push(b',');
            }
            for opening in &field.opens[open..] {
                out.extend_from_slice(opening);
            }
            open = field.opens.len();
            out.extend_from_slice(&field.key);
            write_value(value, out);
            comma = true;
            shared = usize::MAX;
        }
        out.resize(out.len() + open, b'}');
        comma
    }
}

fn key(name: &str, behind: &[u8]) -> Box<[u8]> {
    let mut out = Vec::new();
    json::write_string(name.as_bytes(), &mut out);
    out.extend_from_slice(behind);
    out.into_boxed_slice()
}

/// Appends a value as JSON; a missing one as `null`.
#[inline]
pub fn write_value(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Missing | Value::Null => out.extend_from_slice(b"null"),
        Value::Boolean(true) => out.extend_from_slice(b"true"),
        Value::Boolean(false) => out.extend_from_slice(b"false"),
        Value::Number(text) => out.extend_from_slice(text),
        Value::Array(text) | Value::Object(text) => json::write_checked(text, false, out),
        Value::Text(text) => json::write_string(text, out),
        Value::Escaped(inside) => {
            out.push(b'"');
            json::write_checked(inside, true, out);
            out.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Chunk, Events, Fields, Kind, Sender, Span};

    #[test]
    fn nested_objects_open_and_close_around_the_fields_that_are_there() {
        let names = ["a", "b.c", "b.d.e", "b.d.f", "b.g", "h.i", "rule", "rule.name"];
        let mut fields = Fields::default();
        let slots: Vec<_> = names.iter().map(|name| (*name, fields.slot(name))).collect();
        let template = Template::new(slots.clone());
        let sender = Arc::new(Sender { source: "t".into(), source_index: 0 });
        let chunk = Chunk::new(b"x\"y".to_vec(), vec![Span::new(0, 3)], sender, 0);
        for mask in 0..1u32 << names.len() {
            let mut events = Events::default();
            events.reset(&chunk, fields.width());
            let mut row = events.row_mut(&chunk, 0);
            let mut expected = serde_json::json!({});
            for (index, (name, slot)) in slots.iter().enumerate() {
                if mask & 1 << index != 0 {
                    row.set_written(*slot, Kind::Text, |out| out.extend_from_slice(b"x\"y"));
                    let path = if *name == "rule" { "/rule/value".into() } else { format!("/{}", name.replace('.', "/")) };
                    set(&mut expected, &path);
                }
            }
            let mut out = b"{".to_vec();
            template.write(events.event(&chunk, 0), false, &mut out);
            out.push(b'}');
            let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(&out));
        }
    }

    fn set(value: &mut serde_json::Value, path: &str) {
        let mut at = value;
        let steps: Vec<_> = path.split('/').skip(1).collect();
        for step in &steps[..steps.len() - 1] {
            at = at.as_object_mut().unwrap().entry(*step).or_insert_with(|| serde_json::json!({}));
        }
        at.as_object_mut().unwrap().insert(steps[steps.len() - 1].into(), "x\"y".into());
    }
}
