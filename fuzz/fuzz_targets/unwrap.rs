//! Envelopes of messages: caps hold, and what cannot be taken off stays as it came.
//!
//! The fuzzer does not find its way through check sums, so the first byte says which layers are put around the
//! rest before they come off again, and whether a byte of that is damaged.
#![no_main]

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use hydrant::event::Span;
use hydrant::limits::{CHUNK_FRAMES_MAX, INFLATED_BYTES_MAX, UNWRAP_DEPTH_MAX};
use hydrant::net::inflate::{Encoding, Inflater, inflate};
use hydrant::unwrap::{Layers, OUTPUT_BYTES_MAX, Unwrapped, unwrap};
use hydrant_fuzz::{Choices, chosen, samples, seed};
use libfuzzer_sys::fuzz_target;

/// Decompressed bytes that the direct calls allow.
const SMALL_BYTES_MAX: usize = 10_000;

fuzz_target!(init: seed(seeds()), |input: &[u8]| {
    let mut choices = Choices(input);
    let flags = choices.byte();
    let layers = Layers { compressed: flags & 1 == 0, cloudwatch_logs: flags & 2 == 0, base64: flags & 4 != 0 };
    let wraps = choices.below(UNWRAP_DEPTH_MAX + 2);
    let mut wrapped = choices.0.to_vec();
    for _ in 0..wraps {
        wrapped = wrap(flags >> 3 & 3, &wrapped);
    }
    if flags & 0x80 != 0 {
        let at = usize::from(flags) * 7 % wrapped.len().max(1);
        wrapped.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (flags & 7));
    }
    let plain = choices.0;
    let bytes = [plain, &wrapped, b"end"].concat();
    let ends = [plain.len(), plain.len() + wrapped.len(), bytes.len()];
    let spans: Vec<Span> = [0, ends[0], ends[1]].iter().zip(ends).map(|(start, end)| Span::new(*start, end)).collect();
    if let Some(found) = unwrap(layers, &bytes, &spans, &[]) {
        check(&found, spans.len());
        let is_gzip_only = layers == Layers { compressed: true, ..Layers::default() } && flags >> 3 & 3 == 0 && flags & 0x80 == 0;
        if is_gzip_only && wraps <= UNWRAP_DEPTH_MAX && found.counts == Default::default() && unwrap(layers, plain, &[Span::new(0, plain.len())], &[]).is_none() {
            assert_eq!(found.spans[1].of(&found.bytes), plain);
        }
    }
    pieces(&wrapped, 1 + usize::from(flags) % 64);
});

fn wrap(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    match kind {
        0 => gzip.write_all(bytes).and_then(|()| gzip.finish()),
        1 => zlib.write_all(bytes).and_then(|()| zlib.finish()),
        2 => zstd::bulk::compress(bytes, 1),
        _ => {
            let message = String::from_utf8_lossy(bytes);
            let event = serde_json::json!({ "id": "1", "timestamp": 1_700_000_000_000_i64, "message": message });
            let envelope = serde_json::json!({ "messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "g", "logStream": "s",
                "subscriptionFilters": [], "logEvents": [event] });
            Ok(envelope.to_string().into_bytes())
        }
    }
    .expect("memory does not fail")
}

fn check(found: &Unwrapped, messages: usize) {
    assert!(found.bytes.len() <= OUTPUT_BYTES_MAX + INFLATED_BYTES_MAX && found.spans.len() <= CHUNK_FRAMES_MAX);
    assert_eq!(found.first.len(), messages);
    assert!(found.first.is_sorted() && found.first.iter().all(|first| *first as usize <= found.spans.len()));
    let mut end = 0;
    for span in &found.spans {
        assert!(span.start == end && span.end as usize <= found.bytes.len());
        end = span.end;
    }
    assert_eq!(end as usize, found.bytes.len());
    for runs in [
        found.whole.iter().map(|run| run.0).collect::<Vec<_>>(),
        found.origins.iter().map(|run| run.0).collect(),
        found.times.iter().map(|run| run.0).collect(),
    ] {
        assert!(runs.windows(2).all(|pair| pair[0] < pair[1]) && runs.iter().all(|first| (*first as usize) < found.spans.len()));
    }
}

/// The same comes out however the bytes arrive, and never more than allowed.
fn pieces(bytes: &[u8], step: usize) {
    for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
        let whole = inflate(encoding, bytes, SMALL_BYTES_MAX);
        assert!(whole.as_ref().is_ok_and(|out| out.len() <= SMALL_BYTES_MAX) || whole.is_err());
        let mut inflater = Inflater::new(encoding, SMALL_BYTES_MAX);
        let result = bytes.chunks(step).try_for_each(|piece| inflater.push(piece)).and_then(|()| inflater.finish());
        assert_eq!(result.is_ok(), whole.is_ok(), "{encoding:?}: {result:?} {whole:?}");
        if let (Ok(result), Ok(whole)) = (result, whole) {
            assert_eq!(result, whole, "{encoding:?}");
        }
    }
}

/// Some lines under every kind of layer, and an envelope.
fn seeds() -> Vec<Vec<u8>> {
    let envelope = wrap(3, b"{\"a\":1}");
    let inner = samples().into_iter().take(2).chain([envelope, Vec::new()]);
    inner.flat_map(|inner| (0..32).map(move |flags: u8| chosen(&[flags << 3 | flags & 1, flags], &inner))).collect()
}
