//! The time of sending inside a line, to measure how long it takes to the destination.
//!
//! A stamp is `hydrantstamp` and 16 hexadecimal digits: nanoseconds of the monotonic clock, which is the same in
//! all processes of a machine. It stands where it survives decoding and every form of output: as the host name of
//! a syslog header, or as the first non-empty string value of a JSON object. Other lines get none.

use memchr::memmem;

const MARK: &[u8] = b"hydrantstamp";
const DIGITS: usize = 16;

/// Appends `line` with a stamp in it; appends nothing if the line has no place for one.
pub(super) fn write(line: &[u8], now_ns: u64, out: &mut Vec<u8>) -> bool {
    let Some((start, end)) = place(line) else { return false };
    out.extend_from_slice(&line[..start]);
    out.extend_from_slice(MARK);
    out.extend_from_slice(format!("{now_ns:016x}").as_bytes());
    out.extend_from_slice(&line[end..]);
    true
}

fn place(line: &[u8]) -> Option<(usize, usize)> {
    match line.first()? {
        b'{' => {
            let start = memmem::find(line, b":\"")? + 2;
            let end = start + memchr::memchr(b'"', &line[start..])?;
            (end > start).then_some((start, end))
        }
        b'<' => {
            let behind = memchr::memchr(b'>', line)? + 1;
            // RFC 5424: version, time, host. RFC 3164: month, day (padded by a blank), time, host.
            let blanks = if line[behind..].starts_with(b"1 ") { 2 } else { 3 };
            let mut at = behind;
            for _ in 0..blanks {
                at += memchr::memchr(b' ', &line[at..])?;
                at += line[at..].iter().take_while(|byte| **byte == b' ').count();
            }
            let end = at + memchr::memchr(b' ', &line[at..])?;
            Some((at, end))
        }
        _ => None,
    }
}

/// The time of the first stamp in `bytes`, and where it ends.
pub(super) fn find(bytes: &[u8]) -> Option<(u64, usize)> {
    let digits = memmem::find(bytes, MARK)? + MARK.len();
    let text = std::str::from_utf8(bytes.get(digits..digits + DIGITS)?).ok()?;
    Some((u64::from_str_radix(text, 16).ok()?, digits + DIGITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Span;
    use crate::traffic::{Kind, Traffic};

    #[test]
    fn a_stamp_stands_in_the_place_of_the_host_name() {
        for kind in [Kind::PaloAlto, Kind::Fortigate, Kind::CiscoAsa, Kind::AwsWaf, Kind::AwsNetworkFirewall] {
            let (mut line, mut out) = (Vec::new(), Vec::new());
            Traffic::new(kind, 1).next(1_795_248_000_000, &mut line);
            assert!(write(&line, 0x1234, &mut out), "{kind}");
            assert_eq!(find(&out).map(|(time, _)| time), Some(0x1234), "{kind}");
            if line[0] == b'<' {
                let host = |frame: &[u8]| -> (Span, Vec<u8>) {
                    let header = crate::envelope::parse(frame, crate::envelope::TimeContext::default());
                    (header.host, header.message.of(frame).to_vec())
                };
                assert!(host(&out).0.of(&out).starts_with(MARK), "{kind}: {}", String::from_utf8_lossy(&out));
                assert_eq!(host(&out).1, host(&line).1, "{kind}");
            } else {
                assert!(crate::json::is_strict_object(&out), "{kind}");
            }
        }
        assert!(!write(b"2 123456789010 eni-1", 1, &mut Vec::new()));
    }
}
