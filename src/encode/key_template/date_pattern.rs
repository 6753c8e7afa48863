//! Date patterns of Java's `DateTimeFormatter`, for `!{timestamp:...}`.
//!
//! In: a pattern, once; then an instant and a time zone. Out: text. Errors: at parsing only, with the place.
//!
//! Source: `java.time.format.DateTimeFormatterBuilder.appendPattern` of Java 8, which Firehose's guide
//! names. The tests hold what OpenJDK prints. Letters: `G u y Y M L Q q w W d D E e c a h H k K m s S A n N
//! VV z O X x Z`, with Java's counts. Text is English.
//!
//! Decided here, since Java leaves it to the locale and Firehose does not tell its own:
//! * weeks are those of `en_US`: they begin on Sunday and the week with 1 January is the first;
//! * `DD` prints three digits from day 100 on, as Java 9 does (Java 8 fails);
//! * `z` is the abbreviation of the time zone database.
//!
//! Not supported, refused with the place: `F` and `g` (differ between Java versions), `v` and `zzzz` (need
//! names that the time zone database does not have), `p` padding and `[...]`.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::encode::key_template::TemplateError;

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const QUARTERS: [&str; 4] = ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"];

/// Longest run of one letter: Java's widest number.
const COUNT_MAX: usize = 19;

/// Letter and how often it may stand: least, most.
const LETTERS: [(char, usize, usize); 32] = [
    ('G', 1, 5),
    ('u', 1, COUNT_MAX),
    ('y', 1, COUNT_MAX),
    ('Y', 1, COUNT_MAX),
    ('M', 1, 5),
    ('L', 1, 5),
    ('Q', 1, 5),
    ('q', 1, 5),
    ('w', 1, 2),
    ('W', 1, 1),
    ('d', 1, 2),
    ('D', 1, 3),
    ('E', 1, 5),
    ('e', 1, 5),
    ('c', 1, 5),
    ('a', 1, 1),
    ('h', 1, 2),
    ('H', 1, 2),
    ('k', 1, 2),
    ('K', 1, 2),
    ('m', 1, 2),
    ('s', 1, 2),
    ('S', 1, 9),
    ('A', 1, COUNT_MAX),
    ('n', 1, COUNT_MAX),
    ('N', 1, COUNT_MAX),
    ('V', 2, 2),
    ('z', 1, 3),
    ('O', 1, 4),
    ('X', 1, 5),
    ('x', 1, 5),
    ('Z', 1, 5),
];

/// One letter of a pattern and how often it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateField {
    pub(super) letter: char,
    count: usize,
}

/// A part of a pattern.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Literal(String),
    Field(DateField),
}

/// Reads a pattern that begins at byte `offset` of its template.
pub(super) fn parse(pattern: &str, offset: usize) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let at = offset + pattern.len() - rest.len();
        let used = match first {
            '\'' => {
                let (text, used) = quoted(rest, at)?;
                literal(&mut pieces, &text);
                used
            }
            'a'..='z' | 'A'..='Z' => {
                let count = rest.chars().take_while(|letter| *letter == first).count();
                pieces.push(Piece::Field(field(first, count, at)?));
                count
            }
            '[' | ']' => return Err(TemplateError::new(at, "optional sections are not supported").help("leave the brackets out")),
            '#' | '{' => return Err(TemplateError::new(at, format!("`{first}` is reserved")).help(format!("quote it: '{first}'"))),
            other => {
                literal(&mut pieces, other.encode_utf8(&mut [0; 4]));
                other.len_utf8()
            }
        };
        rest = rest.get(used..).unwrap_or("");
    }
    if pieces.is_empty() {
        return Err(TemplateError::new(offset, "a date pattern is missing").help("for example yyyy/MM/dd/HH"));
    }
    Ok(pieces)
}

fn literal(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        Some(Piece::Literal(before)) => before.push_str(text),
        _ => pieces.push(Piece::Literal(text.to_owned())),
    }
}

/// The text behind the opening quote, and the bytes with both quotes. Two quotes are one, in and outside.
fn quoted(rest: &str, at: usize) -> Result<(String, usize), TemplateError> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((index, character)) = characters.next() {
        if character != '\'' {
            text.push(character);
        } else if index == 1 {
            return Ok(("'".to_owned(), 2));
        } else if characters.next_if(|(_, next)| *next == '\'').is_some() {
            text.push('\'');
        } else {
            return Ok((text, index + 1));
        }
    }
    Err(TemplateError::new(at, "a quote is not closed"))
}

fn field(letter: char, count: usize, at: usize) -> Result<DateField, TemplateError> {
    let Some((_, least, most)) = LETTERS.iter().find(|(known, ..)| *known == letter) else {
        let run: String = std::iter::repeat_n(letter, count.min(COUNT_MAX)).collect();
        let error = TemplateError::new(at, format!("`{letter}` is no date letter that is supported"));
        return Err(error.help(format!("quote literal text: '{run}'")));
    };
    let fits = match letter {
        'O' => count == 1 || count == 4,
        'c' => count != 2 && count <= *most,
        _ => (*least..=*most).contains(&count),
    };
    if fits {
        return Ok(DateField { letter, count });
    }
    let counts = match letter {
        'O' => "1 or 4".to_owned(),
        'c' => "1, 3, 4 or 5".to_owned(),
        _ if least == most => least.to_string(),
        _ => format!("{least} to {most}"),
    };
    Err(TemplateError::new(at, format!("`{letter}` stands {count} times, not {counts}")))
}

/// An instant in a time zone, taken apart once for all fields of a template.
pub(super) struct Moment<'z> {
    pub(super) time: DateTime,
    offset_s: i32,
    zone: &'z TimeZone,
    at: Timestamp,
}

impl<'z> Moment<'z> {
    /// Instants outside the years -9999 to 9999 become 1970, which stands out.
    pub(super) fn new(ms: i64, zone: &'z TimeZone) -> Self {
        let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
        let offset = zone.to_offset(at);
        Self { time: offset.to_datetime(at), offset_s: offset.seconds(), zone, at }
    }
}

impl DateField {
    /// Appends the field's text.
    pub(super) fn write(self, moment: &Moment<'_>, out: &mut String) {
        let (time, date) = (moment.time, moment.time.date());
        let weekday = i64::from(date.weekday().to_sunday_zero_offset());
        let hour = i64::from(time.hour());
        match self.letter {
            'G' => out.push_str(match (date.year() > 0, self.count) {
                (true, 4) => "Anno Domini",
                (false, 4) => "Before Christ",
                (true, 5) => "A",
                (false, 5) => "B",
                (true, _) => "AD",
                (false, _) => "BC",
            }),
            'u' => self.year(i64::from(date.year()), out),
            'y' if date.year() <= 0 => self.year(1 - i64::from(date.year()), out),
            'y' => self.year(i64::from(date.year()), out),
            'Y' => self.year(week_of_year(date, weekday).0, out),
            'M' | 'L' => self.text(i64::from(date.month()), &MONTHS, out),
            'Q' | 'q' => self.quarter((i64::from(date.month()) - 1) / 3 + 1, out),
            'w' => self.number(week_of_year(date, weekday).1, out),
            'W' => {
                self.number((i64::from(date.first_of_month().weekday().to_sunday_zero_offset()) + i64::from(date.day()) - 1) / 7 + 1, out)
            }
            'd' => self.number(i64::from(date.day()), out),
            'D' => self.number(i64::from(date.day_of_year()), out),
            'E' => Self { count: self.count.max(3), ..self }.text(weekday + 1, &WEEKDAYS, out),
            'e' | 'c' => self.text(weekday + 1, &WEEKDAYS, out),
            'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            'h' => self.number((hour + 11) % 12 + 1, out),
            'H' => self.number(hour, out),
            'k' => self.number((hour + 23) % 24 + 1, out),
            'K' => self.number(hour % 12, out),
            'm' => self.number(i64::from(time.minute()), out),
            's' => self.number(i64::from(time.second()), out),
            'S' | 'A' | 'n' | 'N' => self.fraction(time, out),
            _ => self.zone(moment, out),
        }
    }

    fn number(self, value: i64, out: &mut String) {
        if value < 0 {
            out.push('-');
        }
        append(out, format_args!("{:0width$}", value.unsigned_abs(), width = self.count));
    }

    fn year(self, value: i64, out: &mut String) {
        self.number(if self.count == 2 { value.abs() % 100 } else { value }, out);
    }

    /// A number up to two letters, then short, full and narrow text; `value` counts from 1.
    fn text(self, value: i64, names: &[&str], out: &mut String) {
        let name = usize::try_from(value - 1).ok().and_then(|index| names.get(index)).copied().unwrap_or("");
        match self.count {
            ..=2 => self.number(value, out),
            3 => out.push_str(name.get(..3).unwrap_or(name)),
            4 => out.push_str(name),
            _ => out.push_str(name.get(..1).unwrap_or(name)),
        }
    }

    fn quarter(self, value: i64, out: &mut String) {
        if self.count == 3 {
            out.push('Q');
            Self { count: 1, ..self }.number(value, out);
        } else {
            self.text(value, &QUARTERS, out);
        }
    }

    fn fraction(self, time: DateTime, out: &mut String) {
        let nanosecond = i64::from(time.subsec_nanosecond());
        let second_of_day = (i64::from(time.hour()) * 60 + i64::from(time.minute())) * 60 + i64::from(time.second());
        match self.letter {
            'S' => {
                let digits = format!("{nanosecond:09}");
                out.push_str(digits.get(..self.count).unwrap_or(&digits));
            }
            'A' => self.number(second_of_day * 1000 + nanosecond / 1_000_000, out),
            'n' => self.number(nanosecond, out),
            _ => self.number(second_of_day * 1_000_000_000 + nanosecond, out),
        }
    }

    fn zone(self, moment: &Moment<'_>, out: &mut String) {
        let offset = moment.offset_s;
        match (self.letter, self.count) {
            ('V', _) => out.push_str(moment.zone.iana_name().unwrap_or("UTC")),
            ('z', _) => out.push_str(moment.zone.to_offset_info(moment.at).abbreviation()),
            ('O', count) => localized_offset(offset, count == 4, out),
            ('Z', 4) => localized_offset(offset, true, out),
            ('X', _) | ('Z', 5) if offset == 0 => out.push('Z'),
            ('Z', 5) => iso_offset(offset, 5, out),
            ('Z', _) => iso_offset(offset, 2, out),
            (_, count) => iso_offset(offset, count, out),
        }
    }
}

/// Year and number of the week: Sunday first, week 1 has 1 January, so a week belongs to its Saturday's year.
fn week_of_year(date: jiff::civil::Date, weekday: i64) -> (i64, i64) {
    let (year, day, length) = (i64::from(date.year()), i64::from(date.day_of_year()), i64::from(date.days_in_year()));
    let saturday = day + 6 - weekday;
    if saturday > length { (year + 1, 1) } else { (year, (saturday - 1) / 7 + 1) }
}

/// `+HH` with minutes if there are any (1), `+HHMM` (2), `+HH:MM` (3), the same with seconds if there are any (4, 5).
fn iso_offset(offset_s: i32, count: usize, out: &mut String) {
    let (sign, hours, minutes, seconds) = offset_parts(offset_s);
    let colon = if matches!(count, 3 | 5) { ":" } else { "" };
    append(out, format_args!("{sign}{hours:02}"));
    if count > 1 || minutes != 0 {
        append(out, format_args!("{colon}{minutes:02}"));
    }
    if count > 3 && seconds != 0 {
        append(out, format_args!("{colon}{seconds:02}"));
    }
}

fn localized_offset(offset_s: i32, full: bool, out: &mut String) {
    out.push_str("GMT");
    if offset_s == 0 {
        return;
    }
    let (sign, hours, minutes, seconds) = offset_parts(offset_s);
    if full {
        append(out, format_args!("{sign}{hours:02}:{minutes:02}"));
    } else {
        append(out, format_args!("{sign}{hours}"));
        if minutes != 0 || seconds != 0 {
            append(out, format_args!(":{minutes:02}"));
        }
    }
    if seconds != 0 {
        append(out, format_args!(":{seconds:02}"));
    }
}

fn offset_parts(offset_s: i32) -> (char, u32, u32, u32) {
    let total = offset_s.unsigned_abs();
    (if offset_s < 0 { '-' } else { '+' }, total / 3600, total / 60 % 60, total % 60)
}

/// Writing into a string cannot fail.
fn append(out: &mut String, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok());
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::{Moment, Piece, parse};

    fn render(pattern: &str, ms: i64, zone: &TimeZone) -> String {
        let (mut out, moment) = (String::new(), Moment::new(ms, zone));
        for piece in parse(pattern, 0).expect("pattern") {
            match piece {
                Piece::Literal(text) => out.push_str(&text),
                Piece::Field(field) => field.write(&moment, &mut out),
            }
        }
        out
    }

    #[test]
    fn every_pattern_prints_what_openjdk_prints() {
        let (mut ms, mut zone, mut compared) = (0, TimeZone::UTC, 0);
        for line in include_str!("openjdk17.txt").lines().skip(1) {
            if let Some((number, name)) = line.strip_prefix("@ ").and_then(|rest| rest.split_once(' ')) {
                ms = number.parse().expect("milliseconds");
                zone = crate::encode::key_template::time_zone(name).expect("zone");
            } else {
                let (pattern, expected) = line.split_once('\t').expect("pattern and text");
                // `|` is a literal in both.
                assert_eq!(render(pattern, ms, &zone), expected, "{pattern} at {ms} in {zone:?}");
                compared += 1;
            }
        }
        assert_eq!(compared, 456);
    }

    #[test]
    fn what_is_not_supported_is_refused_with_its_place() {
        for (pattern, offset, message) in [
            ("yyyy/bb", 5, "`b` is no date letter"),
            ("yyyy/F", 5, "`F` is no date letter"),
            ("zzzz", 0, "`z` stands 4 times, not 1 to 3"),
            ("HHH", 0, "`H` stands 3 times, not 1 to 2"),
            ("V", 0, "`V` stands 1 times, not 2"),
            ("OO", 0, "`O` stands 2 times, not 1 or 4"),
            ("cc", 0, "`c` stands 2 times, not 1, 3, 4 or 5"),
            ("aa", 0, "`a` stands 2 times, not 1"),
            ("yyyy'", 4, "a quote is not closed"),
            ("'a''", 0, "a quote is not closed"),
            ("yyyy[MM]", 4, "optional sections"),
            ("y#", 1, "`#` is reserved"),
            ("", 0, "a date pattern is missing"),
            ("\u{fc}ber", 2, "`b` is no date letter"),
        ] {
            let error = parse(pattern, 100).expect_err(pattern);
            assert_eq!(error.offset, 100 + offset, "{pattern}");
            assert!(error.message.starts_with(message), "{pattern}: {error}");
        }
    }

    #[test]
    fn a_time_out_of_range_is_1970_and_not_a_panic() {
        for ms in [i64::MIN, i64::MAX] {
            assert_eq!(render("yyyy-MM-dd", ms, &TimeZone::UTC), "1970-01-01");
        }
        assert_eq!(render("uuuu GGGG yyyy", -100_000_000_000_000, &TimeZone::UTC), "-1199 Before Christ 1200");
    }

    proptest::proptest! {
        #[test]
        fn any_pattern_is_read_or_refused_and_prints(pattern in "[a-zA-Z'/.\\[{#\u{fc} -]{0,24}", ms in -62_000_000_000_000_i64..200_000_000_000_000) {
            if parse(&pattern, 0).is_ok() {
                render(&pattern, ms, &TimeZone::UTC);
            }
        }
    }
}
