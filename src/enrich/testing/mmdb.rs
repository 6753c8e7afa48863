//! Writes small MaxMind DB files, so that none has to be shipped: "MaxMind DB File Format Specification" 2.0,
//! with an IPv6 tree of 32-bit records. Also used by the benchmark, so it uses nothing of the crate.

use std::net::IpAddr;

/// A value of the data section.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Key and value pairs.
    Map(Vec<(&'static str, Value)>),
    /// A list.
    Array(Vec<Value>),
    /// UTF-8.
    Text(String),
    /// A 64-bit float.
    Double(f64),
    /// An integer without sign; 16 bits.
    U16(u16),
    /// 32 bits.
    U32(u32),
    /// 64 bits.
    U64(u64),
}

/// A map of one entry.
pub(crate) fn map(key: &'static str, value: Value) -> Value {
    Value::Map(vec![(key, value)])
}

/// A text.
pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[derive(Clone, Copy, PartialEq)]
enum Record {
    Empty,
    Node(u32),
    Data(u32),
}

/// A database being written.
pub(crate) struct Writer {
    nodes: Vec<[Record; 2]>,
    data: Vec<u8>,
}

impl Writer {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { nodes: vec![[Record::Empty; 2]], data: Vec::new() }
    }

    /// Adds a network; wider ones before those inside them. IPv4 stands at `::/96`.
    pub(crate) fn add(&mut self, address: IpAddr, prefix_len: u32, value: &Value) {
        let offset = self.data.len() as u32;
        encode(value, &mut self.data);
        let (bits, len) = match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), prefix_len + 96),
            IpAddr::V6(address) => (address.to_bits(), prefix_len),
        };
        let mut node = 0;
        for depth in 0..len {
            let side = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == len {
                self.nodes[node][side] = Record::Data(offset);
                return;
            }
            node = match self.nodes[node][side] {
                Record::Node(next) => next as usize,
                wider => {
                    let next = self.nodes.len();
                    self.nodes.push([wider; 2]);
                    self.nodes[node][side] = Record::Node(next as u32);
                    next
                }
            };
        }
    }

    /// The file.
    pub(crate) fn finish(self, database_type: &str) -> Vec<u8> {
        const SEPARATOR: u32 = 16;
        let count = self.nodes.len() as u32;
        let mut out = Vec::new();
        for record in self.nodes.iter().flatten() {
            let number = match *record {
                Record::Empty => count,
                Record::Node(node) => node,
                Record::Data(offset) => count + SEPARATOR + offset,
            };
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&[0; SEPARATOR as usize]);
        out.extend_from_slice(&self.data);
        out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
        let metadata = Value::Map(vec![
            ("binary_format_major_version", Value::U16(2)),
            ("binary_format_minor_version", Value::U16(0)),
            ("build_epoch", Value::U64(1_795_240_800)),
            ("database_type", text(database_type)),
            ("description", map("en", text("made by a test"))),
            ("ip_version", Value::U16(6)),
            ("languages", Value::Array(vec![text("en")])),
            ("node_count", Value::U32(count)),
            ("record_size", Value::U16(32)),
        ]);
        encode(&metadata, &mut out);
        out
    }
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            control(2, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Double(double) => {
            control(3, 8, out);
            out.extend_from_slice(&double.to_be_bytes());
        }
        Value::U16(number) => {
            control(5, 2, out);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::U32(number) => {
            control(6, 4, out);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::U64(number) => {
            control(9, 8, out);
            out.extend_from_slice(&number.to_be_bytes());
        }
        Value::Map(entries) => {
            control(7, entries.len(), out);
            for (key, value) in entries {
                encode(&text(key), out);
                encode(value, out);
            }
        }
        Value::Array(items) => {
            control(11, items.len(), out);
            items.iter().for_each(|item| encode(item, out));
        }
    }
}

/// Type and size; types above 7 have a second byte, sizes from 29 on a byte behind.
fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let short = size.min(29) as u8;
    if kind > 7 {
        out.extend_from_slice(&[short, kind - 7]);
    } else {
        out.push(kind << 5 | short);
    }
    if size >= 29 {
        out.push(u8::try_from(size - 29).expect("longer values are not written here"));
    }
}
