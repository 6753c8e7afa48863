//! What a rule matched, for its alert: `fields and values -> a JSON array`.
//!
//! `[{"field":"source.ip","value":"10.1.2.3"},{"field":"raw","value":"union select","cut":true}]`. A field has its canonical
//! name, or the one that the device gives it; `raw` is a text that the rule found somewhere in the event. Each pair stands
//! there once. A sender decides how long values are, so they are cut and say so, and there are so many and no more.

use crate::encode::object::Object;
use crate::event::Fields;
use crate::matcher::Matched;

/// Pairs of one alert: a person reads them.
const PAIRS_MAX: usize = 32;

/// Bytes of one value: a long URL.
const VALUE_BYTES_MAX: usize = 1024;

/// Bytes of the whole array, whatever is escaped in it.
const BYTES_MAX: usize = 16 * 1024;

/// Text that stands for the whole event.
const RAW: &str = "raw";

/// Collects what a rule matched.
#[derive(Debug, Default)]
pub struct Found {
    array: Vec<u8>,
    pairs: usize,
}

impl Found {
    /// Adds one; `fields` names the slots.
    pub fn add(&mut self, matched: Matched<'_>, fields: &Fields) {
        let (field, value) = match matched {
            Matched::Field(slot, value) => (fields.name(slot), value),
            Matched::Keyword(text) => (RAW, text),
        };
        let field = field.strip_prefix("%native.").unwrap_or(field);
        let cut = cut(value);
        let mut pair = Vec::new();
        let mut object = Object::open(&mut pair);
        object.text("field", field);
        object.text("value", cut);
        if cut.len() < value.len() {
            object.plain("cut", true);
        }
        object.close();
        let is_known = memchr::memmem::find(&self.array, &pair).is_some();
        if !is_known && self.pairs < PAIRS_MAX && self.array.len() + pair.len() + 2 <= BYTES_MAX {
            self.array.push(if self.pairs == 0 { b'[' } else { b',' });
            self.array.extend_from_slice(&pair);
            self.pairs += 1;
        }
    }

    /// The array; empty if there is nothing in it.
    pub fn into_array(mut self) -> Vec<u8> {
        if self.pairs > 0 {
            self.array.push(b']');
        }
        self.array
    }
}

/// The beginning of a value, whole characters.
fn cut(value: &[u8]) -> &[u8] {
    let is_inside = |byte: &u8| (0x80..0xc0).contains(byte);
    match value.get(..VALUE_BYTES_MAX) {
        Some(_) if value.len() > VALUE_BYTES_MAX => {
            let back = (0..4).find(|back| !value.get(VALUE_BYTES_MAX - back).is_some_and(is_inside)).unwrap_or_default();
            value.get(..VALUE_BYTES_MAX - back).unwrap_or(value)
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(values: &[(&str, &[u8])]) -> serde_json::Value {
        let (mut fields, mut found) = (Fields::default(), Found::default());
        for (name, value) in values {
            let slot = fields.slot(name);
            found.add(Matched::Field(slot, value), &fields);
        }
        found.add(Matched::Keyword(b"${jndi:"), &fields);
        let array = found.into_array();
        assert!(array.len() <= BYTES_MAX);
        serde_json::from_slice(&array).unwrap()
    }

    #[test]
    fn pairs_stand_there_once_with_the_names_that_people_know() {
        let found = array(&[
            ("source.ip", b"10.0.0.9"),
            ("%native.srcintf", b"wan\xff1\n"),
            ("source.ip", b"10.0.0.9"),
            ("source.ip", b"10.0.0.8"),
        ]);
        let expected = serde_json::json!([
            { "field": "source.ip", "value": "10.0.0.9" },
            { "field": "srcintf", "value": "wan\u{fffd}1\n" },
            { "field": "source.ip", "value": "10.0.0.8" },
            { "field": "raw", "value": "${jndi:" },
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn long_values_are_cut_between_characters_and_long_lists_end() {
        let long = "x".repeat(VALUE_BYTES_MAX - 1) + "äb";
        let found = array(&[("f", long.as_bytes())]);
        assert_eq!((found[0]["value"].as_str().unwrap().len(), &found[0]["cut"]), (VALUE_BYTES_MAX - 1, &true.into()));
        let names: Vec<String> = (0..100).map(|number| format!("f{number}")).collect();
        let values: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"v"[..])).collect();
        assert_eq!(array(&values).as_array().unwrap().len(), PAIRS_MAX);
        // Six bytes for each of them.
        let control = [1; 2 * VALUE_BYTES_MAX];
        let values: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &control[..])).collect();
        assert!(array(&values).as_array().unwrap().len() >= 2);
    }
}
