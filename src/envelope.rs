//! Syslog headers: RFC 3164 as it is really sent, and RFC 5424.
//!
//! Pure: bytes to spans. What real senders do: no PRI at all, no host, a time zone or a year in the
//! RFC 3164 time, ISO times (rsyslog's "protocol 23" form), `asa-1 : %ASA-...` with a blank before the colon,
//! FortiGate and PAN-OS without a tag. Whatever follows the part that is understood is the message. PRI above
//! 191 (`<444444...>`, CVE-2022-38725) is no PRI.

use crate::clock;
use crate::event::Span;

/// What a header says; spans are relative to the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Facility * 8 + severity; `None` if there was no valid PRI.
    pub priority: Option<u8>,
    /// The time as written, empty if there was none.
    pub time: Span,
    /// The time in ms since 1970 UTC.
    pub time_ms: Option<i64>,
    /// Host name or address.
    pub host: Span,
    /// APP-NAME, or the tag before `[` or `:`.
    pub app: Span,
    /// PROCID, or what stands in brackets behind the tag.
    pub process: Span,
    /// MSGID.
    pub message_id: Span,
    /// STRUCTURED-DATA with its brackets.
    pub structured_data: Span,
    /// Everything behind the header, a byte order mark left out.
    pub message: Span,
}

/// What a source says about times that do not say it themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeContext {
    /// Time of arrival; a time without a year gets the year that brings it nearest to this.
    pub received_ms: i64,
    /// Offset from UTC of senders that do not write theirs, in ms.
    pub offset_ms: i64,
}

/// Whether `frame` may begin with a header: with a PRI, or, as in files that syslog daemons write, with an
/// RFC 3164 or RFC 3339 time. Cheap; a format that begins in another way is never taken for a header.
pub fn begins(frame: &[u8]) -> bool {
    match frame {
        [b'<', ..] => true,
        [a @ b'A'..=b'Z', b, c, b' ', ..] => clock::month(&[*a, *b, *c]).is_some(),
        [b'0'..=b'9', _, _, _, b'-', _, _, b'-', _, _, b'T', ..] => true,
        _ => false,
    }
}

/// Reads the header of `frame`. Never fails: what is not there stays empty.
pub fn parse(frame: &[u8], context: TimeContext) -> Header {
    let (priority, at) = priority(frame);
    if priority.is_some()
        && frame[at..].starts_with(b"1 ")
        && let Some(header) = rfc5424(frame, at + 2, context)
    {
        return Header { priority, ..header };
    }
    Header { priority, ..rfc3164(frame, at, context) }
}

/// `<0>` to `<191>` and the offset behind it.
fn priority(frame: &[u8]) -> (Option<u8>, usize) {
    let (digits, end) = match frame {
        [b'<', a, b'>', ..] => ([b'0', b'0', *a], 3),
        [b'<', a, b, b'>', ..] => ([b'0', *a, *b], 4),
        [b'<', a, b, c, b'>', ..] => ([*a, *b, *c], 5),
        _ => return (None, 0),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return (None, 0);
    }
    let value = digits.iter().fold(0u16, |value, digit| value * 10 + u16::from(digit - b'0'));
    if value <= 191 { (Some(value as u8), end) } else { (None, 0) }
}

/// A token up to the next blank, and the offset behind the blank.
fn token(frame: &[u8], at: usize) -> Option<(Span, usize)> {
    let len = memchr::memchr(b' ', frame.get(at..)?)?;
    Some((Span::new(at, at + len), at + len + 1))
}

fn unless_nil(frame: &[u8], span: Span) -> Span {
    if span.of(frame) == b"-" { Span::default() } else { span }
}

/// RFC 5424 section 6, behind `<PRI>1 `.
fn rfc5424(frame: &[u8], at: usize, context: TimeContext) -> Option<Header> {
    let (time, at) = token(frame, at)?;
    let (host, at) = token(frame, at)?;
    let (app, at) = token(frame, at)?;
    let (process, at) = token(frame, at)?;
    let (message_id, at) = token(frame, at)?;
    let (structured_data, at) = structured_data(frame, at)?;
    let mut message = Span::new(at.min(frame.len()), frame.len());
    if message.of(frame).starts_with(b"\xef\xbb\xbf") {
        message.start += 3;
    }
    let time = unless_nil(frame, time);
    Some(Header {
        priority: None,
        time,
        time_ms: stamped(time.of(frame), context),
        host: unless_nil(frame, host),
        app: unless_nil(frame, app),
        process: unless_nil(frame, process),
        message_id: unless_nil(frame, message_id),
        structured_data,
        message,
    })
}

fn stamped(time: &[u8], context: TimeContext) -> Option<i64> {
    let has_offset =
        time.last().is_some_and(|b| matches!(b, b'Z' | b'z')) || time.get(19..).is_some_and(|t| t.iter().any(|b| matches!(b, b'+' | b'-')));
    clock::rfc3339_ms(time).map(|ms| if has_offset { ms } else { ms - context.offset_ms })
}

/// Section 6.3: `-` or `[id name="value" ...]...`; in values `\` escapes `"`, `\` and `]`.
fn structured_data(frame: &[u8], at: usize) -> Option<(Span, usize)> {
    match frame.get(at) {
        Some(b'-') => return Some((Span::default(), (at + 2).min(frame.len()))),
        Some(b'[') => {}
        _ => return None,
    }
    let mut index = at;
    let (mut quoted, mut inside) = (false, false);
    while let Some(byte) = frame.get(index) {
        match byte {
            b'\\' if quoted => index += 1,
            b'"' if inside => quoted = !quoted,
            b'[' if !inside => inside = true,
            b']' if inside && !quoted => inside = false,
            b' ' if !inside => return Some((Span::new(at, index), index + 1)),
            _ => {}
        }
        index += 1;
    }
    (!inside).then(|| (Span::new(at, frame.len()), frame.len()))
}

/// RFC 3164 section 4.1.2 and its dialects.
fn rfc3164(frame: &[u8], start: usize, context: TimeContext) -> Header {
    let mut header = Header::default();
    // Cisco writes `*` or `.` before a time that is not synchronised, and a sequence number with a colon.
    let at = start + frame[start..].iter().take_while(|b| matches!(b, b'*' | b'.')).count();
    let Some((time, time_ms, mut at)) = bsd_time(frame, at, context).or_else(|| iso_time(frame, at, context)) else {
        header.message = Span::new(start, frame.len());
        tag(frame, start, &mut header);
        return header;
    };
    header.time = time;
    header.time_ms = time_ms;
    // The host is a token that is no tag: tags end in `:` or have a bracket.
    if let Some((host, behind)) = token(frame, at) {
        let text = host.of(frame);
        if !text.is_empty() && !text.ends_with(b":") && !text.contains(&b'[') && !text.contains(&b'=') && text[0] != b'%' {
            header.host = host;
            at = behind;
        }
    }
    header.message = Span::new(at, frame.len());
    tag(frame, at, &mut header);
    header
}

/// `Mmm dd hh:mm:ss`, also with a year behind the day, a fraction, and a time zone's colon (`UTC:`) behind.
fn bsd_time(frame: &[u8], at: usize, context: TimeContext) -> Option<(Span, Option<i64>, usize)> {
    let text = frame.get(at..)?;
    let month = clock::month(text.get(..3)?)?;
    let day_text = text.get(3..6)?;
    let day = match day_text {
        [b' ', b' ', d] if d.is_ascii_digit() => i64::from(d - b'0'),
        [b' ', a, b] if a.is_ascii_digit() && b.is_ascii_digit() => i64::from(a - b'0') * 10 + i64::from(b - b'0'),
        _ => return None,
    };
    let mut index = 7;
    let mut year = None;
    if text.get(11) == Some(&b' ') && text.get(7..11)?.iter().all(u8::is_ascii_digit) {
        year = Some(text[7..11].iter().fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0')));
        index = 12;
    }
    let time_of_day = clock::time_of_day_ms(text.get(index..index + 8)?)?;
    index += 8;
    if text.get(index) == Some(&b'.') {
        index += 1 + text[index + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
    }
    let ms = match year {
        Some(year) => clock::civil_ms(year, month, day, time_of_day),
        None => clock::nearest_year_ms(month, day, time_of_day, context.received_ms + context.offset_ms),
    };
    let end = at + index;
    let mut behind = end;
    if frame.get(behind) == Some(&b':') {
        behind += 1;
    }
    let behind = behind + usize::from(frame.get(behind) == Some(&b' '));
    Some((Span::new(at, end), ms.map(|ms| ms - context.offset_ms), behind.min(frame.len())))
}

fn iso_time(frame: &[u8], at: usize, context: TimeContext) -> Option<(Span, Option<i64>, usize)> {
    let (time, behind) = token(frame, at)?;
    let ms = stamped(time.of(frame), context)?;
    Some((time, Some(ms), behind))
}

/// Longest tag: RFC 3164 says 32 characters; real programs go beyond it.
const TAG_BYTES_MAX: usize = 64;

/// `program[pid]: `; the message begins behind it. `%ASA-6-302013:` is content, not a tag. rsyslog writes no colon
/// when it relays RFC 5424 in the old form; behind a time, a number in brackets is tag enough.
fn tag(frame: &[u8], at: usize, header: &mut Header) {
    let text = &frame[at..];
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    let len = text.iter().take(TAG_BYTES_MAX).take_while(|b| is_name(b)).count();
    let mut end = len;
    let mut process = Span::default();
    if text.get(end) == Some(&b'[') {
        let Some(close) = memchr::memchr(b']', &text[end..text.len().min(end + TAG_BYTES_MAX)]) else { return };
        process = Span::new(at + end + 1, at + end + close);
        end += close + 1;
    }
    let pid = process.of(frame);
    let has_pid = len > 0 && !pid.is_empty() && pid.iter().all(u8::is_ascii_digit);
    if has_pid && !header.time.is_empty() && text.get(end) == Some(&b' ') && text.get(end + 1) != Some(&b':') {
        header.app = Span::new(at, at + len);
        header.process = process;
        header.message = Span::new(at + end + 1, frame.len());
        return;
    }
    let colon = if text[end..].starts_with(b" :") { end + 1 } else { end };
    if text.get(colon) != Some(&b':') || !matches!(text.get(colon + 1), None | Some(b' ')) {
        return;
    }
    header.app = Span::new(at, at + len);
    header.process = process;
    header.message = Span::new((at + colon + 2).min(frame.len()), frame.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: TimeContext = TimeContext { received_ms: 1_795_240_800_000, offset_ms: 0 };

    fn f(line: &str) -> [String; 8] {
        let header = parse(line.as_bytes(), CONTEXT);
        let text = |span: Span| String::from_utf8_lossy(span.of(line.as_bytes())).into_owned();
        let mut time = Vec::new();
        header.time_ms.iter().for_each(|ms| clock::write_rfc3339(*ms, &mut time));
        [
            header.priority.map_or_else(|| "-".into(), |p| p.to_string()),
            String::from_utf8(time).unwrap(),
            text(header.host),
            text(header.app),
            text(header.process),
            text(header.message_id),
            text(header.structured_data),
            text(header.message),
        ]
    }

    #[test]
    fn headers_as_real_senders_write_them() {
        let cases: &[(&str, [&str; 8])] = &[
            (
                "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [a@1 iut=\"3\" x=\"\\\"]\"][b@2 y=\"z\"] \u{feff}An event",
                [
                    "165",
                    "2003-10-11T22:14:15.003Z",
                    "mymachine.example.com",
                    "evntslog",
                    "",
                    "ID47",
                    "[a@1 iut=\"3\" x=\"\\\"]\"][b@2 y=\"z\"]",
                    "An event",
                ],
            ),
            (
                "<14>1 2026-11-21T08:00:00.123Z PA-FW-01 - - - - 1,2026",
                ["14", "2026-11-21T08:00:00.123Z", "PA-FW-01", "", "", "", "", "1,2026"],
            ),
            (
                "<34>Oct 11 22:14:15 mymachine su: 'su root' failed",
                ["34", "2026-10-11T22:14:15.000Z", "mymachine", "su", "", "", "", "'su root' failed"],
            ),
            ("<13>Nov  1 02:03:04 host sshd[411]: x", ["13", "2026-11-01T02:03:04.000Z", "host", "sshd", "411", "", "", "x"]),
            // By rsyslog, which got it as RFC 5424.
            ("<165>Nov 21 08:00:00 pa-0 app[99] x: y", ["165", "2026-11-21T08:00:00.000Z", "pa-0", "app", "99", "", "", "x: y"]),
            ("<13>Nov 21 08:00:00 h list[x] is", ["13", "2026-11-21T08:00:00.000Z", "h", "", "", "", "", "list[x] is"]),
            ("<13>list[0] is", ["13", "", "", "", "", "", "", "list[0] is"]),
            (
                "<166>Nov 21 08:00:00 asa-00 : %ASA-6-302013: Built",
                ["166", "2026-11-21T08:00:00.000Z", "asa-00", "", "", "", "", "%ASA-6-302013: Built"],
            ),
            (
                "<166>Nov 21 2026 08:00:00: %ASA-6-302013: Built",
                ["166", "2026-11-21T08:00:00.000Z", "", "", "", "", "", "%ASA-6-302013: Built"],
            ),
            (
                "<189>Nov 21 08:00:00 fgt-00 date=2026-11-21 time=08:00:00",
                ["189", "2026-11-21T08:00:00.000Z", "fgt-00", "", "", "", "", "date=2026-11-21 time=08:00:00"],
            ),
            ("<189>date=2026-11-21 devname=\"x\"", ["189", "", "", "", "", "", "", "date=2026-11-21 devname=\"x\""]),
            ("<30>2026-11-21T10:00:00+02:00 host app: hello", ["30", "2026-11-21T08:00:00.000Z", "host", "app", "", "", "", "hello"]),
            ("no header: at all", ["-", "", "", "", "", "", "", "no header: at all"]),
            ("<444444444444444444444>x", ["-", "", "", "", "", "", "", "<444444444444444444444>x"]),
            ("<192>x", ["-", "", "", "", "", "", "", "<192>x"]),
            ("<1", ["-", "", "", "", "", "", "", "<1"]),
            ("", ["-", "", "", "", "", "", "", ""]),
            ("<14>1 2026", ["14", "", "", "", "", "", "", "1 2026"]),
            ("<14>1 - - - - - [a b=\"", ["14", "", "", "", "", "", "", "1 - - - - - [a b=\""]),
            ("<14>1 - - - - - -", ["14", "", "", "", "", "", "", ""]),
        ];
        for (line, expected) in cases {
            assert_eq!(f(line), *expected, "{line}");
        }
    }
}
