//! Sizes and intervals as people write them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A number of bytes: `500`, `64KiB`, `5MB`, `1GiB`. `KB MB GB` are powers of ten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

/// A time span: `250ms`, `30s`, `5m`, `2h`, `1d`; a unit is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(pub Duration);

const BYTE_UNITS: &[(&str, f64)] =
    &[("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0), ("KB", 1e3), ("MB", 1e6), ("GB", 1e9), ("B", 1.0), ("", 1.0)];
const TIME_UNITS: &[(&str, f64)] = &[("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3_600e3), ("d", 86_400e3)];

fn split(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let unit = text[end..].trim();
    units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| number * factor)
}

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        split(text, BYTE_UNITS)
            .filter(|bytes| *bytes < 1e15)
            .map(|bytes| Self(bytes as usize))
            .ok_or_else(|| format!("`{text}` is not a size; expected a number with B, KB, MB, GB, KiB, MiB or GiB, such as `64MiB`"))
    }
}

impl std::str::FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        split(text, TIME_UNITS)
            .filter(|ms| *ms < 1e14)
            .map(|ms| Self(Duration::from_micros((ms * 1e3) as u64)))
            .ok_or_else(|| format!("`{text}` is not a time span; expected a number with ms, s, m, h or d, such as `30s`"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b if b >= 1 << 30 => write!(f, "{:.1}GiB", b as f64 / 1_073_741_824.0),
            b if b >= 1 << 20 => write!(f, "{:.1}MiB", b as f64 / 1_048_576.0),
            b if b >= 1 << 10 => write!(f, "{:.1}KiB", b as f64 / 1024.0),
            b => write!(f, "{b}B"),
        }
    }
}

macro_rules! unit_serde {
    ($unit:ident, $pattern:literal, $example:literal) => {
        impl<'de> Deserialize<'de> for $unit {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $unit {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($unit).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": ["string", "integer"], "pattern": $pattern, "examples": [$example] })
            }
        }
    };
}

unit_serde!(ByteSize, "^[0-9.]+ *([kKmMgG]i?)?[bB]?$", "64MiB");
unit_serde!(Interval, "^[0-9.]+ *(ms|s|m|h|d)$", "30s");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_intervals_are_read_with_their_units() {
        assert_eq!("64MiB".parse(), Ok(ByteSize(64 << 20)));
        assert_eq!("5 MB".parse(), Ok(ByteSize(5_000_000)));
        assert_eq!("500".parse(), Ok(ByteSize(500)));
        assert_eq!("300s".parse(), Ok(Interval(Duration::from_secs(300))));
        assert_eq!("0.2s".parse(), Ok(Interval(Duration::from_millis(200))));
        assert!("300".parse::<Interval>().unwrap_err().contains("30s"));
        assert!("5 parsecs".parse::<ByteSize>().unwrap_err().contains("64MiB"));
    }
}
