//! Syslog headers: any frame is read, its parts lie inside it, in order, and the message is its end.
#![no_main]

use hydrant::envelope::{TimeContext, begins, parse};
use hydrant_fuzz::{RECEIVED_MS, samples, seed};
use libfuzzer_sys::fuzz_target;

/// 0000-01-01 and 10000-01-02 in ms: no time that a header can write is outside.
const TIMES_MS: std::ops::Range<i64> = -62_167_305_600_000..253_402_387_200_000;

fuzz_target!(init: seed(seeds()), |frame: &[u8]| {
    for offset_ms in [0, 14 * 3_600_000, -12 * 3_600_000] {
        let context = TimeContext { received_ms: RECEIVED_MS, offset_ms };
        let header = parse(frame, context);
        assert!(header.priority.is_none_or(|priority| priority <= 191 && frame.first() == Some(&b'<')));
        assert!(header.time_ms.is_none_or(|ms| TIMES_MS.contains(&ms)), "{:?}", header.time_ms);
        let parts = [header.time, header.host, header.app, header.process, header.message_id, header.structured_data];
        for part in parts {
            assert!(part.start <= part.end && part.end as usize <= frame.len(), "{header:?}");
            assert!(part.is_empty() || part.end <= header.message.start, "the message is behind the header: {header:?}");
        }
        // What follows the part that is understood is the message, to the last byte.
        assert!(header.message.start <= header.message.end && header.message.end as usize == frame.len(), "{header:?}");
        if !begins(frame) {
            assert_eq!(header.priority, None);
        }
    }
});

fn seeds() -> Vec<Vec<u8>> {
    let own = [
        "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 [a b=\"c\\]\\\"\"][d] \u{feff}message",
        "<165>Oct 11 22:14:15 mymachine su[12]: message",
        "<189>2026-11-21T08:00:00+02:00 host app: message",
        "<13>Feb 29 23:59:60 host %ASA-6-302013: message",
        "<444444444444444444>1 - - - - - -",
        "Dec 31 23:59:59 2026 host tag : message",
        "<0>1 9999-12-31T23:59:60.999999999-23:59 - - - - -",
    ];
    own.iter().map(|line| line.as_bytes().to_vec()).chain(samples()).collect()
}
