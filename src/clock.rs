//! The only place that reads the wall clock, so that a test can set it.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

thread_local! {
    static FIXED_MS: Cell<Option<i64>> = const { Cell::new(None) };
}

/// Milliseconds since 1970-01-01T00:00:00Z.
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the wall clock")]
pub fn now_ms() -> i64 {
    FIXED_MS
        .get()
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
}

/// Fixes the clock of the calling thread at `ms`, or lets it run again. For tests.
pub fn fix_ms(ms: Option<i64>) {
    FIXED_MS.set(ms);
}

const DAY_MS: i64 = 86_400_000;

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Milliseconds since 1970 of a date and time of day in UTC; `None` if a part is out of range (a leap
/// second counts as the second after it).
pub fn civil_ms(year: i64, month: i64, day: i64, time_of_day_ms: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    ((1..=days_in_month).contains(&day) && (0..=DAY_MS).contains(&time_of_day_ms))
        .then(|| days_from_civil(year, month, day) * DAY_MS + time_of_day_ms)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0i64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

/// `HH:MM:SS` in milliseconds; 60 is allowed as a leap second.
pub fn time_of_day_ms(text: &[u8]) -> Option<i64> {
    if text.len() != 8 || text[2] != b':' || text[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (digits(&text[..2])?, digits(&text[3..5])?, digits(&text[6..])?);
    (hour < 24 && minute < 60 && second <= 60).then_some(((hour * 60 + minute) * 60 + second) * 1000)
}

/// RFC 3339 (also with a blank or `/` as separators, an offset without colon, or none, which means UTC) in
/// milliseconds since 1970; digits behind the third decimal are cut.
///
/// ```
/// assert_eq!(hydrant::clock::rfc3339_ms(b"2026-11-21T08:00:00.123456+02:00"), Some(1_795_240_800_123));
/// assert_eq!(hydrant::clock::rfc3339_ms(b"2026/11/21 06:00:00"), Some(1_795_240_800_000));
/// assert_eq!(hydrant::clock::rfc3339_ms(b"2026-13-21T08:00:00Z"), None);
/// ```
pub fn rfc3339_ms(text: &[u8]) -> Option<i64> {
    if text.len() < 19
        || text.len() > 40
        || !matches!(text[4], b'-' | b'/')
        || text[7] != text[4]
        || !matches!(text[10], b'T' | b't' | b' ')
    {
        return None;
    }
    let time = time_of_day_ms(&text[11..19])?;
    let base = civil_ms(digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..10])?, time)?;
    let mut rest = &text[19..];
    let mut fraction_ms = 0;
    if let [b'.' | b',', decimals @ ..] = rest {
        let count = decimals.iter().take_while(|b| b.is_ascii_digit()).count();
        for index in 0..3 {
            fraction_ms = fraction_ms * 10 + decimals.get(index).filter(|_| index < count).map_or(0, |b| i64::from(b - b'0'));
        }
        rest = &decimals[count..];
    }
    Some(base + fraction_ms - offset_ms(rest)?)
}

fn offset_ms(text: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match text {
        [] | b"Z" | b"z" => return Some(0),
        [sign @ (b'+' | b'-'), hours @ .., b':', a, b] if hours.len() == 2 => (sign, hours, [*a, *b]),
        [sign @ (b'+' | b'-'), hours @ .., a, b] if hours.len() == 2 => (sign, hours, [*a, *b]),
        _ => return None,
    };
    let (hours, minutes) = (digits(hours)?, digits(&minutes)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let total = (hours * 60 + minutes) * 60_000;
    Some(if *sign == b'-' { -total } else { total })
}

/// A time since 1970 UTC as digits, in milliseconds; the number of digits tells the unit: up to 11 are
/// seconds (also with decimals), 12 to 14 milliseconds, 15 to 17 microseconds, 18 and 19 nanoseconds. Each unit
/// is thereby right from 1973 on. Nothing is rounded through a float.
///
/// ```
/// use hydrant::clock::epoch_ms;
/// let forms = ["1795248000", "1795248000.123", "1795248000123", "1795248000123456", "1795248000123456789"];
/// let ms = forms.map(|text| epoch_ms(text.as_bytes()).unwrap());
/// assert_eq!(ms, [1_795_248_000_000, 1_795_248_000_123, 1_795_248_000_123, 1_795_248_000_123, 1_795_248_000_123]);
/// assert_eq!(epoch_ms(b"yesterday"), None);
/// ```
pub fn epoch_ms(text: &[u8]) -> Option<i64> {
    let (whole, decimals) = match memchr::memchr(b'.', text) {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    let value = digits(whole).filter(|_| (1..=19).contains(&whole.len()))?;
    Some(match whole.len() {
        ..=11 => {
            digits(decimals.get(..decimals.len().min(18))?)?;
            let tens = (0..3).map(|index| decimals.get(index).map_or(0, |digit| i64::from(digit - b'0')));
            value * 1000 + tens.fold(0, |ms, digit| ms * 10 + digit)
        }
        12..=14 => value,
        15..=17 => value / 1000,
        _ => value / 1_000_000,
    })
}

/// The number of an English month's three letters, 1 to 12.
pub fn month(text: &[u8]) -> Option<i64> {
    const MONTHS: [&[u8; 3]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    MONTHS.iter().position(|month| text.eq_ignore_ascii_case(*month)).map(|index| index as i64 + 1)
}

/// The year of `ms` in UTC.
pub fn year_of(ms: i64) -> i64 {
    let days = ms.div_euclid(DAY_MS) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    era * 400 + year_of_era + i64::from(day_of_year >= 306)
}

/// A time without a year, as RFC 3164 has it: the year that brings it nearest to `near_ms`, so that a line
/// written on 31 December and read on 1 January is not a year off.
pub fn nearest_year_ms(month: i64, day: i64, time_of_day_ms: i64, near_ms: i64) -> Option<i64> {
    let year = year_of(near_ms);
    let candidates = [year - 1, year, year + 1];
    candidates.into_iter().filter_map(|year| civil_ms(year, month, day, time_of_day_ms)).min_by_key(|ms| (ms - near_ms).abs())
}

/// `MMM dd [yyyy] HH:mm:ss[.SSS] [zone]`, as CEF and LEEF write times. Without a year it is the one that
/// brings the time nearest to `near_ms`. Only `UTC`, `GMT`, `Z` and numeric zones are understood; any other,
/// and none, mean `offset` from UTC, in ms.
///
/// ```
/// use hydrant::clock::month_first_ms;
/// assert_eq!(month_first_ms(b"Nov 21 2026 10:00:00.123 +0200", 0, 0), Some(1_795_248_000_123));
/// assert_eq!(month_first_ms(b"Nov 21 08:00:00", 0, 1_795_000_000_000), Some(1_795_248_000_000));
/// assert_eq!(month_first_ms(b"Nov 21", 0, 0), None);
/// ```
pub fn month_first_ms(text: &[u8], offset: i64, near_ms: i64) -> Option<i64> {
    let mut words = text.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let month = month(words.next()?)?;
    let day = digits(words.next().filter(|day| day.len() <= 2)?)?;
    let mut time = words.next()?;
    let mut year = None;
    if time.len() == 4 {
        year = Some(digits(time)?);
        time = words.next()?;
    }
    let mut time_ms = time_of_day_ms(time.get(..8)?)?;
    if let Some([b'.', a, b, c, ..]) = time.get(8..) {
        time_ms += digits(&[*a, *b, *c])?;
    }
    let offset = match words.next() {
        Some(b"UTC" | b"GMT" | b"Z") => 0,
        Some(zone) => offset_ms(zone).unwrap_or(offset),
        None => offset,
    };
    let local = match year {
        Some(year) => civil_ms(year, month, day, time_ms),
        None => nearest_year_ms(month, day, time_ms, near_ms + offset),
    };
    local.map(|ms| ms - offset)
}

/// The first millisecond of the year 0 and the last of 9999: RFC 3339 has four digits.
const WRITABLE_MS: (i64, i64) = (-62_167_219_200_000, 253_402_300_799_999);

/// RFC 3339 with milliseconds, in UTC, appended to `out`; the nearest time that it can write, for others.
pub fn write_rfc3339(ms: i64, out: &mut Vec<u8>) {
    let ms = ms.clamp(WRITABLE_MS.0, WRITABLE_MS.1);
    let days = ms.div_euclid(DAY_MS);
    let (mut year, mut low, mut high) = (year_of(ms).clamp(0, 9999), 1, 12);
    if days < days_from_civil(year, 1, 1) {
        year = 0;
    }
    while low < high {
        let middle = (low + high + 1) / 2;
        if days_from_civil(year, middle, 1) <= days { low = middle } else { high = middle - 1 }
    }
    let day = days - days_from_civil(year, low, 1) + 1;
    let time = ms.rem_euclid(DAY_MS);
    let digit = |value: i64| b'0' + (value % 10) as u8;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let parts = [
        (0, year / 100),
        (2, year),
        (5, low),
        (8, day),
        (11, time / 3_600_000),
        (14, time / 60_000 % 60),
        (17, time / 1000 % 60),
        (20, time % 1000 / 10),
    ];
    for (at, value) in parts {
        text[at] = digit(value / 10);
        text[at + 1] = digit(value);
    }
    text[22] = digit(time);
    out.extend_from_slice(&text);
}

/// CPU time of this thread in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to the address, which is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ms: i64) -> String {
        let mut out = Vec::new();
        write_rfc3339(ms, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_agree_with_jiff_both_ways() {
        for seed in 0..20_000i64 {
            let ms = (seed * 7_919_317_771) % 4_000_000_000_000 - 1_000_000_000_000;
            let stamp = jiff::Timestamp::from_millisecond(ms).unwrap();
            let expected = format!("{stamp:.3}");
            assert_eq!(text(ms), expected);
            assert_eq!(rfc3339_ms(expected.as_bytes()), Some(ms));
        }
    }

    #[test]
    fn a_december_line_read_in_january_belongs_to_the_old_year() {
        let january = rfc3339_ms(b"2027-01-01T00:00:05Z").unwrap();
        assert_eq!(text(nearest_year_ms(12, 31, 86_399_000, january).unwrap()), "2026-12-31T23:59:59.000Z");
        assert_eq!(text(nearest_year_ms(1, 1, 0, january).unwrap()), "2027-01-01T00:00:00.000Z");
    }

    #[test]
    fn times_that_have_no_four_digit_year_are_written_as_the_nearest_that_has() {
        let (first, last) = ("0000-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z");
        for (ms, expected) in
            [(WRITABLE_MS.0, first), (WRITABLE_MS.0 - 1, first), (i64::MIN, first), (WRITABLE_MS.1, last), (i64::MAX, last)]
        {
            assert_eq!(text(ms), expected);
        }
    }

    #[test]
    fn nonsense_is_no_time() {
        for bad in [
            "",
            "2026-02-30T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00+1",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00-00:60",
            "2026-01-01T00:00:00.Zz",
        ] {
            assert_eq!(rfc3339_ms(bad.as_bytes()), None, "{bad}");
        }
        assert!(rfc3339_ms(b"2026-12-31T23:59:60Z").is_some(), "a leap second is a time");
    }
}
