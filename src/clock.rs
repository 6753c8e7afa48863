//! The only place that reads the wall clock, so that a test can set it.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

thread_local! {
    static FIXED_MS: Cell<Option<i64>> = const { Cell::new(None) };
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the wall clock")]
pub fn now_ms() -> i64 {
    FIXED_MS.get().unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
    })
}

/// Fixes the clock of the calling thread at `ms`, or lets it run again. For tests.
pub fn fix_ms(ms: Option<i64>) {
    FIXED_MS.set(ms);
}
