//! Envelopes off: `messages -> the messages inside`, before framing and before the journal.
//!
//! Pure: one buffer and spans in, one buffer and spans out. What is taken off ([`Layers`], a setting of the source):
//!
//! * `compressed`: gzip (several members too), zlib and zstd, told by their first bytes. Two bytes of zlib are also
//!   how a text may begin, so what does not inflate as zlib is that text.
//! * `cloudwatch_logs`: the envelope of a CloudWatch Logs subscription (FilterLogEvents user guide, "Using
//!   subscription filters"; keys in any order). Each log event's message becomes a message of its own, byte for byte,
//!   and no framer splits it: a stack trace stays one event. `owner`, `logGroup` and `logStream` go beside it as an
//!   [`Origin`], its timestamp as the event's time unless the decoder finds a better one. A `CONTROL_MESSAGE`, with
//!   which CloudWatch tries whether the way is open, is dropped and counted.
//! * `base64`: a message that is base64 (RFC 4648, padded) as a whole. It cannot be told from text (`test` is valid),
//!   so it is taken off only where the configuration asks, and once.
//!
//! Layers may stand in each other up to `limits::UNWRAP_DEPTH_MAX`. On bad input nothing is lost: what is damaged,
//! too deep, or would grow beyond `limits::INFLATED_BYTES_MAX` (one message) or [`OUTPUT_BYTES_MAX`] (one call)
//! stays as it came and is counted. Inflating in vain is bounded too; once a call has spent that, what is compressed
//! in it stays so.
//!
//! Not supported: KPL aggregates, SNS envelopes, `br`, `lz4`, `snappy`.

mod cloudwatch_logs;

use std::sync::Arc;

use serde::Deserialize;

use crate::event::{Origin, Span};
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_FRAMES_MAX, INFLATED_BYTES_MAX, UNWRAP_DEPTH_MAX};
use crate::net::inflate::{DEFLATE_RATIO_MAX, Encoding, InflateError, inflate};
use cloudwatch_logs::Envelope;

/// Bytes that come out of one call: offsets have to fit a chunk, and a request of many small bombs must not
/// become many times the largest body.
pub const OUTPUT_BYTES_MAX: usize = CHUNK_BYTES_MAX - INFLATED_BYTES_MAX / 2;

/// Bytes that may be inflated in vain in one call: a few hundred bytes can claim [`INFLATED_BYTES_MAX`], and a
/// request has room for a hundred thousand of them. Two honest messages that are too large still are told so.
const WASTED_BYTES_MAX: usize = 2 * INFLATED_BYTES_MAX;

/// What is taken off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// gzip, zlib, zstd.
    pub compressed: bool,
    /// Envelopes of CloudWatch Logs.
    pub cloudwatch_logs: bool,
    /// base64.
    pub base64: bool,
}

/// One layer, as the configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// gzip, zlib, zstd.
    Compressed,
    /// Envelopes of CloudWatch Logs.
    CloudwatchLogs,
    /// base64.
    Base64,
}

impl Layer {
    /// The layer of this name.
    pub fn find(name: &str) -> Option<Self> {
        [("compressed", Self::Compressed), ("cloudwatch_logs", Self::CloudwatchLogs), ("base64", Self::Base64)]
            .into_iter()
            .find_map(|(own, layer)| (own == name).then_some(layer))
    }
}

impl FromIterator<Layer> for Layers {
    fn from_iter<T: IntoIterator<Item = Layer>>(layers: T) -> Self {
        layers.into_iter().fold(Self::default(), |mut all, layer| {
            match layer {
                Layer::Compressed => all.compressed = true,
                Layer::CloudwatchLogs => all.cloudwatch_logs = true,
                Layer::Base64 => all.base64 = true,
            }
            all
        })
    }
}

/// What could not be taken off, and what was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Control messages, dropped.
    pub control: u64,
    /// Damaged; stays as it came.
    pub corrupt: u64,
    /// Would become too large; stays as it came.
    pub too_large: u64,
    /// Nested too deep; the inner layers stay.
    pub too_deep: u64,
}

impl Counts {
    /// Each count with its name in metrics.
    pub fn named(&self) -> [(&'static str, u64); 4] {
        [("control", self.control), ("corrupt", self.corrupt), ("too_large", self.too_large), ("too_deep", self.too_deep)]
    }
}

/// Messages without their envelopes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unwrapped {
    /// One buffer for all of them.
    pub bytes: Vec<u8>,
    /// Each message, ascending.
    pub spans: Vec<Span>,
    /// Whether the message is one event, not to be split further: each holds from this message on.
    pub whole: Vec<(u32, bool)>,
    /// What is known beside the bytes: each holds from this message on.
    pub origins: Vec<(u32, Arc<Origin>)>,
    /// Times that envelopes give, ms since 1970 UTC: each holds from this message on.
    pub times: Vec<(u32, Option<i64>)>,
    /// For each message that went in, the number of messages that came out before it.
    pub first: Vec<u32>,
    /// What went wrong.
    pub counts: Counts,
}

/// Takes `layers` off the messages `spans` of `bytes`; `origins` is what is known of them, each from a message on.
/// `None` if no message has any: they stay where they are.
pub fn unwrap(layers: Layers, bytes: &[u8], spans: &[Span], origins: &[(u32, Arc<Origin>)]) -> Option<Unwrapped> {
    if !spans.iter().any(|span| layers.may_apply(span.of(bytes), 0)) {
        return None;
    }
    let nothing = Arc::new(Origin::default());
    let mut work = Work { layers, out: Unwrapped::default(), origin: nothing.clone(), time_ms: None, whole: false, wasted_bytes: 0 };
    let mut known = origins.iter().peekable();
    let mut origin = nothing;
    for (index, span) in spans.iter().enumerate() {
        while let Some((_, next)) = known.next_if(|(first, _)| *first as usize <= index) {
            origin = next.clone();
        }
        work.out.first.push(work.out.spans.len() as u32);
        work.take(span.of(bytes), 0, &Beside { origin: origin.clone(), time_ms: None, whole: false });
    }
    Some(work.out)
}

impl Layers {
    /// Whether `message` looks wrapped; cheap, and never wrong in saying no.
    fn may_apply(self, message: &[u8], depth: usize) -> bool {
        self.compressed && compression(message).is_some()
            || self.cloudwatch_logs && cloudwatch_logs::is_likely(message)
            || self.base64 && depth == 0 && !message.is_empty()
    }
}

/// The compression that the first bytes tell, zlib (RFC 1950: a method of 8, a check sum of 31) included.
fn compression(message: &[u8]) -> Option<Encoding> {
    match (Encoding::detect(message), message) {
        (Encoding::Identity, [0x78, flags @ (0x01 | 0x5e | 0x9c | 0xda), ..]) if (0x7800 | u16::from(*flags)) % 31 == 0 => {
            Some(Encoding::Deflate)
        }
        (Encoding::Identity, _) => None,
        (encoding, _) => Some(encoding),
    }
}

/// What is known of a message while its layers come off.
#[derive(Clone)]
struct Beside {
    origin: Arc<Origin>,
    time_ms: Option<i64>,
    whole: bool,
}

struct Work {
    layers: Layers,
    out: Unwrapped,
    origin: Arc<Origin>,
    time_ms: Option<i64>,
    whole: bool,
    wasted_bytes: usize,
}

impl Work {
    fn take(&mut self, message: &[u8], depth: usize, beside: &Beside) {
        if !self.layers.may_apply(message, depth) {
            return self.put(message, beside);
        }
        if depth == UNWRAP_DEPTH_MAX {
            self.out.counts.too_deep += 1;
            return self.put(message, beside);
        }
        if let Some(encoding) = compression(message).filter(|_| self.layers.compressed) {
            match self.inflate(encoding, message) {
                Ok(plain) => return self.take(&plain, depth + 1, beside),
                Err(InflateError::TooLarge { .. } | InflateError::Window) => self.out.counts.too_large += 1,
                Err(InflateError::Corrupt) if encoding == Encoding::Deflate => {}
                Err(InflateError::Corrupt) => self.out.counts.corrupt += 1,
            }
        } else if self.layers.cloudwatch_logs && cloudwatch_logs::is_likely(message) {
            match Envelope::parse(message) {
                Some(Envelope::Control) => return self.out.counts.control += 1,
                Some(Envelope::Data(data)) if data.bytes.len() <= self.room() => {
                    let origin = Arc::new(data.origin(&beside.origin));
                    for (span, time_ms) in &data.messages {
                        let beside = Beside { origin: origin.clone(), time_ms: *time_ms, whole: true };
                        self.take(span.of(&data.bytes), depth + 1, &beside);
                    }
                    return;
                }
                Some(Envelope::Data(_)) => self.out.counts.too_large += 1,
                // Some JSON object of another kind.
                None => {}
            }
        } else if let Some(plain) = decoded(message) {
            return self.take(&plain, depth + 1, beside);
        }
        self.put(message, beside);
    }

    fn inflate(&mut self, encoding: Encoding, message: &[u8]) -> Result<Vec<u8>, InflateError> {
        let room = self.room();
        if self.wasted_bytes >= WASTED_BYTES_MAX {
            return Err(InflateError::TooLarge { limit: 0 });
        }
        let result = inflate(encoding, message, room);
        match (&result, encoding) {
            (Ok(_), _) => {}
            // How far it came is not known, only how far it can have come.
            (Err(_), Encoding::Zstd) => self.wasted_bytes += room,
            (Err(_), _) => self.wasted_bytes += message.len().saturating_mul(DEFLATE_RATIO_MAX).min(room),
        }
        result
    }

    /// Bytes that one more layer may become.
    fn room(&self) -> usize {
        OUTPUT_BYTES_MAX.saturating_sub(self.out.bytes.len()).min(INFLATED_BYTES_MAX)
    }

    fn put(&mut self, message: &[u8], beside: &Beside) {
        if self.out.spans.len() >= CHUNK_FRAMES_MAX || message.len() > CHUNK_BYTES_MAX - self.out.bytes.len() {
            // Cannot happen to what fits one request: the caps above end well below.
            return self.out.counts.too_large += 1;
        }
        let index = self.out.spans.len() as u32;
        if self.origin != beside.origin {
            self.origin = beside.origin.clone();
            self.out.origins.push((index, beside.origin.clone()));
        }
        if self.time_ms != beside.time_ms {
            self.time_ms = beside.time_ms;
            self.out.times.push((index, beside.time_ms));
        }
        if self.whole != beside.whole {
            self.whole = beside.whole;
            self.out.whole.push((index, beside.whole));
        }
        let start = self.out.bytes.len();
        self.out.bytes.extend_from_slice(message);
        self.out.spans.push(Span::new(start, self.out.bytes.len()));
    }
}

/// The bytes of a message that is base64 as a whole, white space around it aside.
fn decoded(message: &[u8]) -> Option<Vec<u8>> {
    base64_simd::STANDARD.decode_to_vec(message.trim_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::event::OriginField;

    const ALL: Layers = Layers { compressed: true, cloudwatch_logs: true, base64: false };

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn run(layers: Layers, messages: &[&[u8]]) -> Option<Unwrapped> {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for message in messages {
            spans.push(Span::new(bytes.len(), bytes.len() + message.len()));
            bytes.extend_from_slice(message);
        }
        unwrap(layers, &bytes, &spans, &[])
    }

    fn texts(unwrapped: &Unwrapped) -> Vec<String> {
        unwrapped.spans.iter().map(|span| String::from_utf8_lossy(span.of(&unwrapped.bytes)).into_owned()).collect()
    }

    const ENVELOPE: &[u8] = br#"{"messageType":"DATA_MESSAGE","owner":"123456789012","logGroup":"/aws/waf","logStream":"eu_1",
        "subscriptionFilters":["all"],"logEvents":[{"id":"1","timestamp":1700000000000,"message":"{\"a\":1}"},
        {"id":"2","timestamp":1700000000001,"message":"line 1\nline 2","extractedFields":{"x":"y"}}]}"#;
    const CONTROL: &[u8] =
        br#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],
        "logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health of destination Firehose."}]}"#;

    #[test]
    fn plain_messages_stay_where_they_are() {
        assert_eq!(run(ALL, &[b"a", b"{\"messageTypes\":1}", b"x\x5dy"]), None);
        assert_eq!(run(Layers::default(), &[&gzip(b"a"), ENVELOPE]), None);
    }

    #[test]
    fn compressed_messages_are_inflated_between_plain_ones() {
        let two_members = [gzip(b"c"), gzip(b"d")].concat();
        let zstd = zstd::bulk::compress(b"zstd", 1).unwrap();
        let found = run(ALL, &[b"plain", &gzip(b"a\nb"), &two_members, &zlib(b"zlib"), &zstd, b"end"]).unwrap();
        assert_eq!(texts(&found), ["plain", "a\nb", "cd", "zlib", "zstd", "end"]);
        assert_eq!((found.first.as_slice(), found.counts), (&[0, 1, 2, 3, 4, 5][..], Counts::default()));
        assert_eq!(found.bytes.len(), "plaina\nbcdzlibzstdend".len(), "no wrapped byte stays in the buffer");
    }

    #[test]
    fn an_envelope_gives_one_message_per_log_event_with_what_it_says_beside() {
        let found = run(ALL, &[b"before", &gzip(ENVELOPE), b"behind"]).unwrap();
        assert_eq!(texts(&found), ["before", "{\"a\":1}", "line 1\nline 2", "behind"]);
        assert_eq!(found.first, [0, 1, 3]);
        assert_eq!(found.whole, [(1, true), (3, false)]);
        assert_eq!(found.times, [(1, Some(1_700_000_000_000)), (2, Some(1_700_000_000_001)), (3, None)]);
        let [(1, origin), (3, none)] = found.origins.as_slice() else { panic!("{:?}", found.origins) };
        assert_eq!(
            [OriginField::Account, OriginField::LogGroup, OriginField::LogStream].map(|field| origin.value(field)),
            [Some("123456789012"), Some("/aws/waf"), Some("eu_1")]
        );
        assert_eq!(**none, Origin::default());
    }

    #[test]
    fn what_the_source_knows_stays_beside_what_the_envelope_says() {
        let bytes = gzip(ENVELOPE);
        let outer = Arc::new(Origin::default().with(OriginField::Stream, "waf"));
        let found = unwrap(ALL, &bytes, &[Span::new(0, bytes.len())], &[(0, outer)]).unwrap();
        let (_, origin) = &found.origins[0];
        assert_eq!((origin.value(OriginField::Stream), origin.value(OriginField::LogStream)), (Some("waf"), Some("eu_1")));
    }

    #[test]
    fn control_messages_are_dropped_and_counted() {
        let found = run(ALL, &[&gzip(CONTROL), b"x"]).unwrap();
        assert_eq!((texts(&found), found.counts.control), (vec!["x".to_owned()], 1));
    }

    #[test]
    fn what_only_looks_wrapped_stays_as_it_came() {
        let mut cut = gzip(b"some text that is long enough");
        cut.truncate(20);
        let odd: [&[u8]; 4] =
            [b"x\x5e is also how text begins", br#"{"owner":"me"}"#, br#"{"messageType":"DATA_MESSAGE","logEvents":7}"#, &cut];
        let found = run(ALL, &odd).unwrap();
        assert_eq!(found.spans.iter().map(|span| span.of(&found.bytes)).collect::<Vec<_>>(), odd);
        assert_eq!(found.counts, Counts { corrupt: 1, ..Counts::default() });
    }

    #[test]
    fn layers_end_at_the_greatest_depth() {
        let mut nested = b"core".to_vec();
        for _ in 0..UNWRAP_DEPTH_MAX {
            nested = gzip(&nested);
        }
        assert_eq!(texts(&run(ALL, &[&nested]).unwrap()), ["core"]);
        let found = run(ALL, &[&gzip(&nested)]).unwrap();
        assert_eq!((found.spans.len(), found.counts.too_deep), (1, 1));
        assert!(found.bytes.starts_with(&[0x1f, 0x8b]));
    }

    #[test]
    fn bombs_stay_compressed_one_by_one_and_together() {
        let large = gzip(&vec![0; INFLATED_BYTES_MAX]);
        let bomb = gzip(&vec![0; INFLATED_BYTES_MAX + 1]);
        let found = run(ALL, &[&bomb, &large, &large, b"x"]).unwrap();
        assert_eq!(found.counts, Counts { too_large: 2, ..Counts::default() });
        assert_eq!(found.spans.iter().map(|span| span.len()).collect::<Vec<_>>(), [bomb.len(), INFLATED_BYTES_MAX, large.len(), 1]);
    }

    #[test]
    fn a_thousand_small_bombs_cost_as_much_as_a_few() {
        let bomb = zstd::bulk::compress(&vec![0; INFLATED_BYTES_MAX + 1], 1).unwrap();
        assert!(bomb.len() < 16 * 1024);
        let messages: Vec<&[u8]> = std::iter::repeat_n(bomb.as_slice(), 3000).collect();
        let found = run(ALL, &messages).unwrap();
        assert_eq!((found.spans.len(), found.counts), (3000, Counts { too_large: 3000, ..Counts::default() }));
        let mut work =
            Work { layers: ALL, out: Unwrapped::default(), origin: Arc::default(), time_ms: None, whole: false, wasted_bytes: 0 };
        let inflated = messages.iter().filter(|bomb| work.inflate(Encoding::Zstd, bomb) != Err(InflateError::TooLarge { limit: 0 }));
        assert_eq!(inflated.count(), WASTED_BYTES_MAX / INFLATED_BYTES_MAX, "the others are not begun");
    }

    #[test]
    fn an_envelope_of_more_events_than_a_chunk_holds_stays_one_message() {
        let events = vec!["{}"; CHUNK_FRAMES_MAX + 1].join(",");
        let envelope = format!("{{\"messageType\":\"DATA_MESSAGE\",\"logEvents\":[{events}]}}");
        let found = run(ALL, &[envelope.as_bytes()]).unwrap();
        assert_eq!((found.spans.len(), found.bytes.len()), (1, envelope.len()));
    }

    #[test]
    fn base64_is_taken_off_once_and_only_if_asked_for() {
        let layers = Layers { base64: true, ..ALL };
        let wrapped = base64_simd::STANDARD.encode_to_string(gzip(b"dGVzdA==")) + "\n";
        let found = run(layers, &[wrapped.as_bytes(), b"not base64!", b"dGVzdA=="]).unwrap();
        assert_eq!(texts(&found), ["dGVzdA==", "not base64!", "test"]);
        assert_eq!(run(ALL, &[b"dGVzdA=="]), None);
    }
}
