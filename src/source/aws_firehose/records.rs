//! Request bodies to records: base64 straight into one buffer.
//!
//! In: `{"DeliveryStreamName":"n","Records":[{"Data":"..."}]}`, `{"DeliveryStreamName":"n","Record":{"Data":"..."}}`
//! (Direct PUT) and `{"requestId":"..","timestamp":1,"records":[{"data":".."}]}` (delivery). A small strict scanner reads
//! what real clients write, without a tree; at the first thing out of the ordinary (an unknown key, an escape in a
//! string) serde_json reads the whole body instead and decides what is right.

use serde::Deserialize;
use serde_json::Value;

use crate::event::Span;

/// The keys of a kind of body.
pub(super) struct Shape {
    name: &'static str,
    list: &'static str,
    single: Option<&'static str>,
    data: &'static str,
    number: Option<&'static str>,
}

/// PutRecord and PutRecordBatch.
pub(super) const DIRECT_PUT: Shape =
    Shape { name: "DeliveryStreamName", list: "Records", single: Some("Record"), data: "Data", number: None };

/// HTTP endpoint delivery.
pub(super) const DELIVERY: Shape = Shape { name: "requestId", list: "records", single: None, data: "data", number: Some("timestamp") };

/// The records of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    /// The stream's name, or the request id.
    pub(super) name: Option<String>,
    /// Whether there is a list of records, or the one record.
    pub(super) has_records: bool,
    /// Decoded data of all records, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Each record.
    pub(super) spans: Vec<Span>,
}

/// Why a body cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// Not JSON, or not of this shape.
    Json(String),
    /// The data of this record (from 0) is not base64.
    Base64(usize),
}

/// Reads a body. Callers cap its size.
pub(super) fn read(body: &[u8], shape: &Shape) -> Result<Records, Bad> {
    match scan(body, shape) {
        Some(records) => Ok(records),
        None => read_any(body, shape),
    }
}

impl Records {
    fn with_capacity(body: &[u8]) -> Self {
        Self { bytes: Vec::with_capacity(body.len() / 4 * 3), ..Self::default() }
    }

    /// Decodes the data of one more record; `None` if it is not base64.
    fn push(&mut self, data: &[u8]) -> Option<()> {
        let start = self.bytes.len();
        base64_simd::STANDARD.decode_append(data, &mut self.bytes).ok()?;
        self.spans.push(Span::new(start, self.bytes.len()));
        Some(())
    }
}

/// The usual form; `None` if anything is out of the ordinary.
fn scan(body: &[u8], shape: &Shape) -> Option<Records> {
    let mut records = Records::with_capacity(body);
    let mut text = Text { rest: body };
    text.byte(b'{')?;
    loop {
        let key = text.string()?;
        text.byte(b':')?;
        let key = std::str::from_utf8(key).ok()?;
        if key == shape.name && records.name.is_none() {
            records.name = Some(std::str::from_utf8(text.string()?).ok()?.to_owned());
        } else if key == shape.list && !records.has_records {
            records.has_records = true;
            text.list(shape, &mut records)?;
        } else if Some(key) == shape.single && !records.has_records {
            records.has_records = true;
            records.push(text.record(shape)?)?;
        } else if Some(key) == shape.number {
            text.number()?;
        } else {
            return None;
        }
        match text.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    text.rest.trim_ascii_start().is_empty().then_some(records)
}

/// What is left of a body.
struct Text<'a> {
    rest: &'a [u8],
}

impl<'a> Text<'a> {
    /// The next byte that is not white space.
    fn next(&mut self) -> Option<u8> {
        let rest = self.rest.trim_ascii_start();
        let (byte, rest) = rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.byte(b'"')?;
        let end = memchr::memchr2(b'"', b'\\', self.rest).filter(|end| self.rest[*end] == b'"')?;
        let string = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(string)
    }

    fn number(&mut self) -> Option<()> {
        self.rest = self.rest.trim_ascii_start();
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = &self.rest[digits..];
        (digits > 0).then_some(())
    }

    /// `{"Data":"..."}`
    fn record(&mut self, shape: &Shape) -> Option<&'a [u8]> {
        self.byte(b'{')?;
        if self.string()? != shape.data.as_bytes() {
            return None;
        }
        self.byte(b':')?;
        let data = self.string()?;
        self.byte(b'}')?;
        Some(data)
    }

    fn list(&mut self, shape: &Shape, records: &mut Records) -> Option<()> {
        self.byte(b'[')?;
        if self.rest.trim_ascii_start().first() == Some(&b']') {
            return self.byte(b']');
        }
        loop {
            records.push(self.record(shape)?)?;
            match self.next()? {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }
}

#[derive(Deserialize)]
struct Body {
    #[serde(alias = "DeliveryStreamName", alias = "requestId")]
    name: Option<String>,
    #[serde(alias = "Records")]
    records: Option<Vec<Entry>>,
    #[serde(alias = "Record")]
    record: Option<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(alias = "Data")]
    data: Option<Value>,
}

/// Any form that is right.
fn read_any(body: &[u8], shape: &Shape) -> Result<Records, Bad> {
    let body_read: Body = serde_json::from_slice(body).map_err(|error| Bad::Json(error.to_string()))?;
    let mut records = Records::with_capacity(body);
    records.name = body_read.name;
    records.has_records = body_read.records.is_some() || body_read.record.is_some();
    for (index, entry) in body_read.records.into_iter().flatten().chain(body_read.record).enumerate() {
        match entry.data {
            Some(Value::String(data)) => records.push(data.as_bytes()).ok_or(Bad::Base64(index))?,
            // AWS's own example of a delivery shows an object here.
            Some(value @ Value::Object(_)) if shape.single.is_none() => {
                let start = records.bytes.len();
                records.bytes.extend_from_slice(value.to_string().as_bytes());
                records.spans.push(Span::new(start, records.bytes.len()));
            }
            _ => return Err(Bad::Json(format!("record {index} has no `{}` that is a text", shape.data))),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(records: &Records) -> Vec<&str> {
        records.spans.iter().map(|span| std::str::from_utf8(span.of(&records.bytes)).unwrap()).collect()
    }

    #[test]
    fn the_usual_forms_are_read_without_a_tree() {
        let forms: [(&[u8], &Shape, &str, &[&str]); 5] = [
            (br#"{"DeliveryStreamName":"n","Records":[{"Data":"YQ=="},{"Data":""},{"Data":"YmI="}]}"#, &DIRECT_PUT, "n", &["a", "", "bb"]),
            (br#"{"Records": [{"Data": "YQ=="}, {"Data": "YmI="}], "DeliveryStreamName": "n"} "#, &DIRECT_PUT, "n", &["a", "bb"]),
            (br#"{"DeliveryStreamName":"n","Record":{"Data":"YQ=="}}"#, &DIRECT_PUT, "n", &["a"]),
            (br#"{"DeliveryStreamName":"n","Records":[]}"#, &DIRECT_PUT, "n", &[]),
            (br#"{"requestId":"r","timestamp":1600000000000,"records":[{"data":"YQ=="}]}"#, &DELIVERY, "r", &["a"]),
        ];
        for (body, shape, name, expected) in forms {
            let records = scan(body, shape).unwrap();
            assert_eq!((records.name.as_deref(), records.has_records, texts(&records).as_slice()), (Some(name), true, expected));
            assert_eq!(read_any(body, shape), Ok(records), "both readers agree");
        }
    }

    #[test]
    fn unusual_forms_are_read_by_serde() {
        let forms: [(&[u8], &Shape, &[&str]); 3] = [
            (br#"{"DeliveryStreamName":"n","X":[{}],"Records":[{"Data":"Pz8\/"}]}"#, &DIRECT_PUT, &["???"]),
            (
                br#"{"requestId":"r","timestamp":"1600000000000","records":[{"data":{"messageType":"x"}}]}"#,
                &DELIVERY,
                &[r#"{"messageType":"x"}"#],
            ),
            (br#"{"requestId":"r","records":[{"data":"YQ==","more":1}]}"#, &DELIVERY, &["a"]),
        ];
        for (body, shape, expected) in forms {
            assert_eq!(scan(body, shape), None);
            assert_eq!(texts(&read(body, shape).unwrap()), expected);
        }
    }

    #[test]
    fn bad_bodies_say_what_is_wrong() {
        let wrong = |body: &str| read(body.as_bytes(), &DIRECT_PUT).unwrap_err();
        assert_eq!(wrong(r#"{"Records":[{"Data":"YQ=="},{"Data":"Y!=="}]}"#), Bad::Base64(1));
        assert_eq!(wrong(r#"{"Records":[{"Data":"YQ"}]}"#), Bad::Base64(0));
        for body in
            ["", "{", "[]", r#"{"Records":[{"Data":"YQ=="}]"#, r#"{"Records":[{"Data":1}]}"#, r#"{"Records":[{}]}"#, r#"{"Records":{}}"#]
        {
            assert!(matches!(wrong(body), Bad::Json(_)), "{body}");
        }
        assert!(!read(b"{}", &DIRECT_PUT).unwrap().has_records);
    }

    proptest! {
        #[test]
        fn no_body_reads_differently_in_the_two_readers(body in r#"[{}\[\],:"a\\ ]{0,30}|\{"Records":\[(\{"Data":"[YQ=Z]{0,5}"\},?){0,3}\]\}?"#) {
            if let Some(records) = scan(body.as_bytes(), &DIRECT_PUT) {
                prop_assert_eq!(read_any(body.as_bytes(), &DIRECT_PUT), Ok(records));
            }
        }
    }
}
