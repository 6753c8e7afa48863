//! Every framer: the same bytes give the same frames however they arrive, and what waits is bounded.
#![no_main]

use hydrant::event::Span;
use hydrant::frame::{FRAMERS, FramerKind};
use hydrant_fuzz::{Choices, Random, chosen, seed};
use libfuzzer_sys::fuzz_target;

/// An octet count in front of the longest frame: nine digits and a blank.
const COUNT_BYTES: usize = 10;

fuzz_target!(init: seed(seeds()), |input: &[u8]| {
    let mut choices = Choices(input);
    let kind = FRAMERS[choices.below(FRAMERS.len())];
    let frame_bytes_max = [1, 7, 40, 4096][choices.below(4)];
    let mut random = Random(u64::from(choices.byte()));
    let stream = choices.0;
    let whole = frames(kind, frame_bytes_max, stream, &mut |left| left);
    let pieces = frames(kind, frame_bytes_max, stream, &mut |_| 1 + random.below(24));
    assert_eq!(whole, pieces, "{}", kind.name());
});

/// The frames of a stream that arrives in pieces of `step` bytes, and how many were cut.
fn frames(kind: &dyn FramerKind, frame_bytes_max: usize, stream: &[u8], step: &mut dyn FnMut(usize) -> usize) -> (Vec<Vec<u8>>, u32) {
    let mut framer = kind.build(frame_bytes_max);
    let (mut buffer, mut fed, mut found, mut cut) = (Vec::new(), 0, Vec::new(), 0);
    loop {
        let next = (fed + step(stream.len() - fed)).min(stream.len());
        buffer.extend_from_slice(&stream[fed..next]);
        fed = next;
        let end = fed == stream.len();
        loop {
            let mut spans = Vec::new();
            let split = framer.split(&buffer, end, &mut spans);
            assert!(split.used <= buffer.len());
            check(&spans, split.used, frame_bytes_max);
            found.extend(spans.iter().map(|span| span.of(&buffer).to_vec()));
            cut += split.cut;
            buffer.drain(..split.used);
            if split.used == 0 || buffer.is_empty() {
                break;
            }
        }
        if end {
            assert!(buffer.is_empty(), "{} keeps {} bytes at the end", kind.name(), buffer.len());
            return (found, cut);
        }
        // `whole` is for messages that have arrived already.
        assert!(buffer.len() <= frame_bytes_max + COUNT_BYTES || kind.name() == "whole", "{} waits with {}", kind.name(), buffer.len());
    }
}

/// Frames are not empty, ascend, do not overlap, lie in what was used and are not too long.
fn check(spans: &[Span], used: usize, frame_bytes_max: usize) {
    let mut end = 0;
    for span in spans {
        assert!(!span.is_empty() && span.start >= end && span.len() <= frame_bytes_max);
        end = span.end;
    }
    assert!(end as usize <= used);
}

fn seeds() -> Vec<Vec<u8>> {
    let streams: [&[u8]; 5] = [
        b"<13>a\r\n<13>b\0\n\n<13>c",
        b"6 <13>ab7 <13>a\nb<13>plain\n5 <1>xx999999999 <13>x\n",
        b"[{\"a\":[1,\"}\"]},\n{\"b\":\"\\\"\"}]{\"c\":{}}\nplain\n{\"open\":\n{\n{",
        b"{{{{[[[[\"\\\"{\n{\n{\n}{}",
        b"a line without end a line without end a line without end",
    ];
    let kinds = 0..FRAMERS.len() as u8;
    kinds.flat_map(|kind| streams.iter().flat_map(move |stream| (0..4).map(move |max| chosen(&[kind, max, 7], stream)))).collect()
}
