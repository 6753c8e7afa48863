//! Parts of a time that a field holds.
//!
//! In: a scalar: RFC 3339 text, or seconds, milliseconds, microseconds or nanoseconds since 1970 (as a number
//! or as text). Out: minute, hour, day, ISO week, month or year in UTC. A number's unit is told by its size:
//! in every unit, the times between 1973 and 5138 have a range of their own. Senders that log milliseconds
//! before 1973 do not exist; small numbers are seconds.

use jiff::Timestamp;
use jiff::tz::Offset;

use crate::matcher::member::Scalar;
use crate::matcher::number;
use crate::matcher::{Number, TimePart};

/// Numbers below this are seconds, below its 1,000-fold milliseconds, and so on.
const SECONDS_END: i128 = 100_000_000_000;

const NANOSECONDS: [i128; 4] = [1_000_000_000, 1_000_000, 1_000, 1];

/// The `part` of the time that `scalar` stands for, if it stands for one.
pub(super) fn part(scalar: Scalar<'_>, part: TimePart) -> Option<i64> {
    let text = match scalar {
        Scalar::Text(text) | Scalar::Number(text) => text,
        Scalar::Null | Scalar::Boolean(_) => return None,
    };
    let instant = match number::parse(text) {
        Some(number) => from_number(number)?,
        None => std::str::from_utf8(text).ok()?.parse().ok()?,
    };
    let civil = Offset::UTC.to_datetime(instant);
    Some(match part {
        TimePart::Minute => civil.minute().into(),
        TimePart::Hour => civil.hour().into(),
        TimePart::Day => civil.day().into(),
        TimePart::Week => civil.date().iso_week_date().week().into(),
        TimePart::Month => civil.month().into(),
        TimePart::Year => civil.year().into(),
    })
}

fn from_number(number: Number) -> Option<Timestamp> {
    let whole = match number {
        Number::Integer(integer) => integer,
        // Saturates; what is out of range is refused below.
        Number::Float(float) => float.floor() as i128,
    };
    let unit = NANOSECONDS
        .iter()
        .zip([1, 1_000, 1_000_000, 1_000_000_000])
        .find(|(_, scale)| whole.unsigned_abs() < (SECONDS_END * scale) as u128);
    Timestamp::from_nanosecond(whole.checked_mul(*unit?.0)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        let parts = [TimePart::Year, TimePart::Month, TimePart::Week, TimePart::Day, TimePart::Hour, TimePart::Minute];
        let expected = [2026, 1, 1, 3, 23, 30].map(Some);
        for text in [
            "2026-01-03T23:30:59Z",
            "2026-01-04T01:30:59.123456789+02:00",
            "1767483059",
            "1767483059.5",
            "1767483059123",
            "1767483059123456",
            "1767483059123456789",
        ] {
            let scalar = Scalar::Text(text.as_bytes());
            assert_eq!(parts.map(|wanted| part(scalar, wanted)), expected, "{text}");
        }
        assert_eq!(part(Scalar::Text(b"2027-01-03T00:00:00Z"), TimePart::Week), Some(53));
        assert_eq!(part(Scalar::Number(b"-1"), TimePart::Year), Some(1969));
    }

    #[test]
    fn what_is_no_time_has_no_parts() {
        for text in ["", "2026-01-03", "2026-01-03T23:30:59", "yesterday", "1e400", "99999999999999999999999"] {
            assert_eq!(part(Scalar::Text(text.as_bytes()), TimePart::Year), None, "{text}");
        }
        assert_eq!(part(Scalar::Boolean(true), TimePart::Year), None);
    }
}
