//! One value of a column as JSON: `physical value, logical type -> JSON`.
//!
//! Source: `LogicalTypes.md` of parquet-format 2.12.
//!
//! | Column | JSON |
//! |---|---|
//! | boolean, integers (signed, unsigned), `FLOAT`, `DOUBLE`, `FLOAT16` | as they are; what is no number (NaN, infinite) as a null |
//! | `STRING`, `ENUM` | text; bytes that are not UTF-8 become U+FFFD |
//! | `JSON` | the JSON itself; text, if it is none |
//! | binary, `BSON` | text if it is UTF-8, as old writers leave texts without a type; base64 otherwise |
//! | `DECIMAL` | a number with all its digits, also where a float has less |
//! | `DATE` | `2026-11-21` |
//! | `TIME` | `08:00:00.123`, three, six or nine digits by its unit |
//! | `TIMESTAMP`, `INT96` | `2026-11-21T08:00:00.123Z`, three, six or nine digits by its unit; without `Z` if it is local |
//! | `UUID` | `0189dc35-...` |
//! | `INTERVAL` | `{"months":1,"days":2,"milliseconds":3}` |
//!
//! Dates before the year 0 or after 9999, and times that are no time of a day, are left as the integers that they are.

use std::io::Write as _;

use ::parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as Physical};
use ::parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use ::parquet::schema::types::Type;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;

use crate::clock;
use crate::json::write_string;

/// Digits behind the point: DECIMAL of 256 bits has 76.
const SCALE_MAX: i32 = 100;

/// Bytes of a decimal: its digits are made in time that is quadratic.
const DECIMAL_BYTES_MAX: usize = 64;

const DAY_NS: i64 = 86_400_000_000_000;

/// The Julian day of 1970-01-01.
const EPOCH_JULIAN_DAY: i64 = 2_440_588;

/// Dates with four digits: 0000-01-01 and 9999-12-31, in days from 1970.
const WRITABLE_DAYS: std::ops::RangeInclusive<i64> = -719_528..=2_932_896;

/// What a column's values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// What the physical type says.
    Plain,
    Unsigned,
    Text,
    Json,
    Decimal {
        scale: usize,
    },
    Date,
    Time(Unit),
    Timestamp {
        unit: Unit,
        is_utc: bool,
    },
    Uuid,
    Float16,
    Interval,
}

/// Digits of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Milli,
    Micro,
    Nano,
}

impl Unit {
    fn ns(self) -> i64 {
        match self {
            Self::Milli => 1_000_000,
            Self::Micro => 1_000,
            Self::Nano => 1,
        }
    }

    fn digits(self) -> usize {
        match self {
            Self::Milli => 3,
            Self::Micro => 6,
            Self::Nano => 9,
        }
    }
}

impl From<&TimeUnit> for Unit {
    fn from(unit: &TimeUnit) -> Self {
        match unit {
            TimeUnit::MILLIS => Self::Milli,
            TimeUnit::MICROS => Self::Micro,
            TimeUnit::NANOS => Self::Nano,
        }
    }
}

impl Meaning {
    /// That of a column; annotations that do not fit the physical type are as none.
    pub(super) fn of(column: &Type) -> Self {
        let info = column.get_basic_info();
        let decimal = |scale: i32| match usize::try_from(scale) {
            Ok(scale) if scale <= SCALE_MAX as usize => Self::Decimal { scale },
            _ => Self::Plain,
        };
        let meaning = match info.logical_type_ref() {
            Some(LogicalType::String | LogicalType::Enum) => Self::Text,
            Some(LogicalType::Json) => Self::Json,
            Some(LogicalType::Decimal { scale, .. }) => decimal(*scale),
            Some(LogicalType::Date) => Self::Date,
            Some(LogicalType::Time { unit, .. }) => Self::Time(unit.into()),
            Some(LogicalType::Timestamp { is_adjusted_to_u_t_c, unit }) => {
                Self::Timestamp { unit: unit.into(), is_utc: *is_adjusted_to_u_t_c }
            }
            Some(LogicalType::Integer { is_signed: false, .. }) => Self::Unsigned,
            Some(LogicalType::Uuid) => Self::Uuid,
            Some(LogicalType::Float16) => Self::Float16,
            _ => match info.converted_type() {
                ConvertedType::UTF8 | ConvertedType::ENUM => Self::Text,
                ConvertedType::JSON => Self::Json,
                ConvertedType::DECIMAL => decimal(column.get_scale()),
                ConvertedType::DATE => Self::Date,
                ConvertedType::TIME_MILLIS => Self::Time(Unit::Milli),
                ConvertedType::TIME_MICROS => Self::Time(Unit::Micro),
                ConvertedType::TIMESTAMP_MILLIS => Self::Timestamp { unit: Unit::Milli, is_utc: true },
                ConvertedType::TIMESTAMP_MICROS => Self::Timestamp { unit: Unit::Micro, is_utc: true },
                ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64 => Self::Unsigned,
                ConvertedType::INTERVAL => Self::Interval,
                _ => Self::Plain,
            },
        };
        if meaning.fits(column.get_physical_type()) { meaning } else { Self::Plain }
    }

    fn fits(self, physical: Physical) -> bool {
        let is_bytes = matches!(physical, Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY);
        match self {
            Self::Plain => true,
            Self::Text | Self::Json => is_bytes,
            Self::Uuid | Self::Float16 | Self::Interval => physical == Physical::FIXED_LEN_BYTE_ARRAY,
            Self::Decimal { .. } => is_bytes || matches!(physical, Physical::INT32 | Physical::INT64),
            Self::Unsigned | Self::Date | Self::Time(_) | Self::Timestamp { .. } => matches!(physical, Physical::INT32 | Physical::INT64),
        }
    }
}

/// A value that can be written.
pub(super) trait ToJson {
    /// Bytes that are written at least.
    fn len(&self) -> usize {
        1
    }

    /// Appends it as JSON. False: it is as a null, and nothing was written.
    fn write(&self, meaning: Meaning, out: &mut Vec<u8>) -> bool;
}

impl ToJson for bool {
    fn write(&self, _: Meaning, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
        true
    }
}

impl ToJson for i32 {
    fn write(&self, meaning: Meaning, out: &mut Vec<u8>) -> bool {
        match meaning {
            Meaning::Unsigned => i64::from(self.cast_unsigned()).write(Meaning::Plain, out),
            _ => i64::from(*self).write(meaning, out),
        }
    }
}

impl ToJson for i64 {
    fn write(&self, meaning: Meaning, out: &mut Vec<u8>) -> bool {
        match meaning {
            Meaning::Unsigned => write_integer(self.cast_unsigned(), out),
            Meaning::Decimal { scale } => write_decimal(*self < 0, self.unsigned_abs().to_string().as_bytes(), scale, out),
            Meaning::Date if WRITABLE_DAYS.contains(self) => {
                out.push(b'"');
                write_date(*self, out);
                out.push(b'"');
            }
            Meaning::Time(unit) if (0..DAY_NS / unit.ns()).contains(self) => {
                out.push(b'"');
                write_time(*self * unit.ns(), unit, out);
                out.push(b'"');
            }
            Meaning::Timestamp { unit, is_utc } => {
                let day = DAY_NS / unit.ns();
                write_timestamp((self.div_euclid(day), self.rem_euclid(day) * unit.ns()), unit, is_utc, out)
                    .unwrap_or_else(|| write_integer(*self, out));
            }
            _ => write_integer(*self, out),
        }
        true
    }
}

impl ToJson for Int96 {
    /// Nanoseconds of a day, and the Julian day: the time stamps of Impala and of old Spark.
    fn write(&self, _: Meaning, out: &mut Vec<u8>) -> bool {
        let &[low, high, day] = self.data() else { return false };
        let (day, ns) = (i64::from(day) - EPOCH_JULIAN_DAY, (u64::from(high) << 32 | u64::from(low)).cast_signed());
        let written = write_timestamp((day, ns), Unit::Nano, true, out);
        written.is_some()
    }
}

impl ToJson for f32 {
    fn write(&self, _: Meaning, out: &mut Vec<u8>) -> bool {
        // It fails for what a writer cannot take, and a `Vec` takes all.
        self.is_finite() && serde_json::to_writer(out, self).is_ok()
    }
}

impl ToJson for f64 {
    fn write(&self, _: Meaning, out: &mut Vec<u8>) -> bool {
        self.is_finite() && serde_json::to_writer(out, self).is_ok()
    }
}

impl ToJson for ByteArray {
    fn len(&self) -> usize {
        self.data().len()
    }

    fn write(&self, meaning: Meaning, out: &mut Vec<u8>) -> bool {
        write_bytes(self.data(), meaning, out)
    }
}

impl ToJson for FixedLenByteArray {
    fn len(&self) -> usize {
        self.data().len()
    }

    fn write(&self, meaning: Meaning, out: &mut Vec<u8>) -> bool {
        write_bytes(self.data(), meaning, out)
    }
}

fn write_bytes(bytes: &[u8], meaning: Meaning, out: &mut Vec<u8>) -> bool {
    match (meaning, bytes) {
        (Meaning::Text, _) => write_string(bytes, out),
        (Meaning::Json, _) if is_json(bytes) => out.extend_from_slice(bytes.trim_ascii()),
        (Meaning::Decimal { scale }, _) if bytes.len() <= DECIMAL_BYTES_MAX => {
            let is_negative = bytes.first().is_some_and(|first| *first >= 0x80);
            write_decimal(is_negative, &digits(bytes, is_negative), scale, out);
        }
        (Meaning::Uuid, [_, ..]) if bytes.len() == 16 => {
            out.push(b'"');
            for (index, byte) in bytes.iter().enumerate() {
                if matches!(index, 4 | 6 | 8 | 10) {
                    out.push(b'-');
                }
                let _ = write!(out, "{byte:02x}");
            }
            out.push(b'"');
        }
        (Meaning::Float16, &[low, high]) => return half(u16::from_le_bytes([low, high])).write(Meaning::Plain, out),
        (Meaning::Interval, &[a, b, c, d, e, f, g, h, i, j, k, l]) => {
            let [months, days, milliseconds] = [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes);
            let _ = write!(out, r#"{{"months":{months},"days":{days},"milliseconds":{milliseconds}}}"#);
        }
        _ if simdutf8::basic::from_utf8(bytes).is_ok() => write_string(bytes, out),
        _ => write_string(STANDARD.encode(bytes).as_bytes(), out),
    }
    true
}

/// What is skipped is not looked at as text.
fn is_json(bytes: &[u8]) -> bool {
    simdutf8::basic::from_utf8(bytes).is_ok() && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

/// Writing to a `Vec` cannot fail.
fn write_integer(number: impl std::fmt::Display, out: &mut Vec<u8>) {
    let _ = write!(out, "{number}");
}

/// The decimal digits of a number in two's complement, big endian, without its sign.
fn digits(bytes: &[u8], is_negative: bool) -> Vec<u8> {
    let mut digits = vec![0_u8];
    for byte in bytes {
        // The magnitude of a negative number is one more than its inverse.
        let mut carry = u32::from(if is_negative { !byte } else { *byte });
        for digit in digits.iter_mut().rev() {
            carry += u32::from(*digit) * 256;
            *digit = (carry % 10) as u8;
            carry /= 10;
        }
        while carry > 0 {
            digits.insert(0, (carry % 10) as u8);
            carry /= 10;
        }
    }
    let mut at = digits.len();
    let mut carry = is_negative;
    while let (true, Some(digit)) = (carry, at.checked_sub(1).and_then(|index| digits.get_mut(index))) {
        (*digit, carry) = if *digit == 9 { (0, true) } else { (*digit + 1, false) };
        at -= 1;
    }
    if carry {
        digits.insert(0, 1);
    }
    digits.iter().map(|digit| b'0' + digit).collect()
}

fn write_decimal(is_negative: bool, digits: &[u8], scale: usize, out: &mut Vec<u8>) {
    if is_negative {
        out.push(b'-');
    }
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    if scale > 0 {
        out.push(b'.');
        out.resize(out.len() + scale - fraction.len(), b'0');
        out.extend_from_slice(fraction);
    }
}

fn write_date(day: i64, out: &mut Vec<u8>) {
    let start = out.len();
    clock::write_rfc3339(day * (DAY_NS / 1_000_000), out);
    out.truncate(start + "2026-11-21".len());
}

fn write_time(ns: i64, unit: Unit, out: &mut Vec<u8>) {
    let (seconds, fraction) = (ns / 1_000_000_000, ns % 1_000_000_000 / unit.ns());
    let (hours, minutes, seconds, digits) = (seconds / 3600, seconds / 60 % 60, seconds % 60, unit.digits());
    let _ = write!(out, "{hours:02}:{minutes:02}:{seconds:02}.{fraction:0digits$}");
}

/// None, and nothing is written: no time of a year with four digits.
fn write_timestamp((day, ns): (i64, i64), unit: Unit, is_utc: bool, out: &mut Vec<u8>) -> Option<()> {
    if !WRITABLE_DAYS.contains(&day) || !(0..DAY_NS).contains(&ns) {
        return None;
    }
    out.push(b'"');
    write_date(day, out);
    out.push(b'T');
    write_time(ns, unit, out);
    out.extend_from_slice(if is_utc { b"Z\"" } else { b"\"" });
    Some(())
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * 2_f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2_f32.powi(exponent - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &impl ToJson, meaning: Meaning) -> String {
        let mut out = Vec::new();
        if !value.write(meaning, &mut out) {
            assert_eq!(out, b"", "a null writes nothing");
            return "null".to_owned();
        }
        let text = String::from_utf8(out).unwrap();
        serde_json::from_str::<IgnoredAny>(&text).unwrap();
        text
    }

    fn bytes(bytes: &[u8]) -> ByteArray {
        ByteArray::from(bytes.to_vec())
    }

    #[test]
    fn numbers_keep_their_digits() {
        assert_eq!(json(&-1_i32, Meaning::Plain), "-1");
        assert_eq!(json(&-1_i32, Meaning::Unsigned), "4294967295");
        assert_eq!(json(&-1_i64, Meaning::Unsigned), "18446744073709551615");
        assert_eq!(json(&i64::MIN, Meaning::Plain), "-9223372036854775808");
        assert_eq!((json(&0.1_f32, Meaning::Plain), json(&1e300_f64, Meaning::Plain)), ("0.1".into(), "1e+300".into()));
        for none in [f64::NAN, f64::INFINITY] {
            assert_eq!((json(&none, Meaning::Plain), json(&(none as f32), Meaning::Plain)), ("null".into(), "null".into()));
        }
        let halves =
            [(0x3c00, "1.0"), (0xc000, "-2.0"), (0x3555, "0.33325195"), (0x0001, "5.9604645e-8"), (0x7c00, "null"), (0x7e00, "null")];
        for (bits, text) in halves {
            assert_eq!(json(&FixedLenByteArray::from(u16::to_le_bytes(bits).to_vec()), Meaning::Float16), text);
        }
    }

    #[test]
    fn decimals_are_exact_at_any_width() {
        let decimal = |scale| Meaning::Decimal { scale };
        assert_eq!((json(&12_345_i32, decimal(2)), json(&-5_i64, decimal(3))), ("123.45".into(), "-0.005".into()));
        assert_eq!((json(&0_i64, decimal(0)), json(&i64::MIN, decimal(18))), ("0".into(), "-9.223372036854775808".into()));
        for number in [0, 1, -1, 255, -256, i128::MAX, i128::MIN, 10_i128.pow(37), -10_i128.pow(20)] {
            assert_eq!(json(&bytes(&number.to_be_bytes()), decimal(0)), number.to_string());
        }
        let wide = "5.7669001306428065956053000376875938421040345304064124051023973211784186134399";
        assert_eq!(json(&bytes(&[0x7f; 32]), decimal(76)), wide);
        assert_eq!(json(&bytes(&[]), decimal(2)), "0.00");
    }

    #[test]
    fn times_have_the_digits_of_their_unit() {
        let stamp = |unit, is_utc| Meaning::Timestamp { unit, is_utc };
        assert_eq!(json(&1_795_248_000_007_i64, stamp(Unit::Milli, true)), "\"2026-11-21T08:00:00.007Z\"");
        assert_eq!(json(&1_795_248_000_000_007_i64, stamp(Unit::Micro, false)), "\"2026-11-21T08:00:00.000007\"");
        assert_eq!(json(&-1_i64, stamp(Unit::Nano, true)), "\"1969-12-31T23:59:59.999999999Z\"");
        assert_eq!(json(&i64::MAX, stamp(Unit::Milli, true)), "9223372036854775807");
        assert_eq!((json(&20_778_i32, Meaning::Date), json(&-1_i32, Meaning::Date)), ("\"2026-11-21\"".into(), "\"1969-12-31\"".into()));
        assert_eq!((json(&2_932_896_i32, Meaning::Date), json(&2_932_897_i32, Meaning::Date)), ("\"9999-12-31\"".into(), "2932897".into()));
        assert_eq!((json(&-719_528_i32, Meaning::Date), json(&-719_529_i32, Meaning::Date)), ("\"0000-01-01\"".into(), "-719529".into()));
        assert_eq!(
            (json(&1_i32, Meaning::Time(Unit::Milli)), json(&-1_i32, Meaning::Time(Unit::Milli))),
            ("\"00:00:00.001\"".into(), "-1".into())
        );
        assert_eq!(json(&86_399_999_999_i64, Meaning::Time(Unit::Micro)), "\"23:59:59.999999\"");
        let mut old = Int96::new();
        old.set_data(5, 0, 2_440_589);
        assert_eq!(json(&old, Meaning::Plain), "\"1970-01-02T00:00:00.000000005Z\"");
        old.set_data(u32::MAX, u32::MAX, 0);
        assert_eq!(json(&old, Meaning::Plain), "null");
    }

    #[test]
    fn bytes_are_what_their_column_says() {
        assert_eq!(json(&bytes(b"a\"b\xff"), Meaning::Text), "\"a\\\"b\u{fffd}\"");
        assert_eq!(json(&bytes(b" {\"a\": [1]} "), Meaning::Json), "{\"a\": [1]}");
        assert_eq!(json(&bytes(b"{\"a\":"), Meaning::Json), "\"{\\\"a\\\":\"");
        assert_eq!(
            (json(&bytes(b"text"), Meaning::Plain), json(&bytes(b"\xff\0"), Meaning::Plain)),
            ("\"text\"".into(), "\"/wA=\"".into())
        );
        let uuid = FixedLenByteArray::from((0..16).collect::<Vec<u8>>());
        assert_eq!(json(&uuid, Meaning::Uuid), "\"00010203-0405-0607-0809-0a0b0c0d0e0f\"");
        let interval = FixedLenByteArray::from(vec![1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(json(&interval, Meaning::Interval), r#"{"months":1,"days":2,"milliseconds":3}"#);
    }
}
