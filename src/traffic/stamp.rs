//! One instant in the spellings that the products use, rendered again only when the second changes.

use jiff::Timestamp;
use jiff::tz::Offset;

use crate::traffic::line::Line;

/// 9999-12-30T22:00:00Z, the last second that `jiff` knows; the spellings have four digits for a year anyway.
const SECOND_MAX: i64 = 253_402_207_200;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// An instant in UTC. Times before 1970 become 1970, times after 9999 become 9999.
#[derive(Clone, Debug)]
pub(in crate::traffic) struct Stamp {
    second: i64,
    millisecond: u64,
    iso: Vec<u8>,
    slashed: Vec<u8>,
    bsd: Vec<u8>,
}

impl Stamp {
    /// The instant `now_ms`, in milliseconds since 1970.
    pub(in crate::traffic) fn new(now_ms: i64) -> Self {
        let mut stamp = Self { second: -1, millisecond: 0, iso: Vec::new(), slashed: Vec::new(), bsd: Vec::new() };
        stamp.set(now_ms);
        stamp
    }

    /// Moves to another instant.
    pub(in crate::traffic) fn set(&mut self, now_ms: i64) {
        let second = now_ms.div_euclid(1000).clamp(0, SECOND_MAX);
        self.millisecond = now_ms.rem_euclid(1000).unsigned_abs();
        if second != self.second {
            self.second = second;
            self.render();
        }
    }

    fn render(&mut self) {
        let instant = Timestamp::from_second(self.second).unwrap_or(Timestamp::UNIX_EPOCH);
        let time = Offset::UTC.to_datetime(instant);
        let part = |value: i8| u64::from(value.unsigned_abs());
        let year = u64::from(time.year().unsigned_abs());
        let (month, day) = (part(time.month()), part(time.day()));

        self.iso.clear();
        self.iso.padded(year, 4).text("-").padded(month, 2).text("-").padded(day, 2).text("T");
        self.iso.padded(part(time.hour()), 2).text(":").padded(part(time.minute()), 2).text(":").padded(part(time.second()), 2);

        self.slashed.clear();
        let (date, clock) = self.iso.split_at(10);
        self.slashed.extend(date.iter().map(|byte| if *byte == b'-' { b'/' } else { *byte }));
        self.slashed.text(" ").bytes(&clock[1..]);

        self.bsd.clear();
        self.bsd.text(MONTHS[month as usize - 1]).text(if day < 10 { "  " } else { " " }).number(day);
        self.bsd.text(" ").bytes(&clock[1..]);
    }

    /// Whole seconds since 1970.
    pub(in crate::traffic) fn second(&self) -> u64 {
        self.second.unsigned_abs()
    }

    /// The millisecond within the second.
    pub(in crate::traffic) fn millisecond(&self) -> u64 {
        self.millisecond
    }

    /// Milliseconds since 1970.
    pub(in crate::traffic) fn ms(&self) -> u64 {
        self.second() * 1000 + self.millisecond
    }

    /// `2026-11-21T08:00:00`
    pub(in crate::traffic) fn iso(&self) -> &[u8] {
        &self.iso
    }

    /// `2026-11-21`
    pub(in crate::traffic) fn date(&self) -> &[u8] {
        &self.iso[..10]
    }

    /// `08:00:00`
    pub(in crate::traffic) fn time(&self) -> &[u8] {
        &self.iso[11..]
    }

    /// `2026/11/21 08:00:00`
    pub(in crate::traffic) fn slashed(&self) -> &[u8] {
        &self.slashed
    }

    /// `Nov 21 08:00:00`, the day padded with a space (RFC 3164 section 4.1.2).
    pub(in crate::traffic) fn bsd(&self) -> &[u8] {
        &self.bsd
    }
}

#[cfg(test)]
mod tests {
    use crate::traffic::stamp::Stamp;

    #[test]
    fn every_spelling_follows_the_second() {
        let mut stamp = Stamp::new(1_795_248_000_007);
        assert_eq!(stamp.iso(), b"2026-11-21T08:00:00");
        assert_eq!((stamp.date(), stamp.time()), (b"2026-11-21".as_slice(), b"08:00:00".as_slice()));
        assert_eq!(stamp.millisecond(), 7);
        stamp.set(1_796_083_199_999);
        assert_eq!(stamp.slashed(), b"2026/11/30 23:59:59");
        stamp.set(1_796_083_200_000);
        assert_eq!(stamp.bsd(), b"Dec  1 00:00:00");
        assert_eq!(stamp.ms(), 1_796_083_200_000);
    }

    #[test]
    fn times_outside_four_digit_years_are_clamped() {
        assert_eq!(Stamp::new(i64::MIN).iso(), b"1970-01-01T00:00:00");
        assert_eq!(Stamp::new(i64::MAX).iso(), b"9999-12-30T22:00:00");
    }
}
