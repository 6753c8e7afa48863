//! `leef`: IBM QRadar Log Event Extended Format, versions 1.0 and 2.0.
//!
//! `LEEF:Version|Vendor|Product|Version|EventID|` and attributes `key=value`; keys: IBM, "Log Event Extended
//! Format (LEEF)", "Predefined LEEF event attributes". In 1.0 a tab stands between attributes. 2.0 names
//! the separator behind the event id: a character (`^|`) or its number in hexadecimal (`x5E|`, `0x5E|`).
//!
//! Native fields: the attributes' keys as written (`src`, `usrName`), the header as `leef_version`, `vendor`,
//! `product`, `product_version`, `event_id`.
//!
//! What real senders do: 2.0 without a separator or with an empty one (a tab is meant); a relay that wrote
//! `#011` for every tab (rsyslog does so unless told otherwise) or blanks (then a value ends at its first
//! blank); `\=`, `\|`, `\\` and the separator behind a backslash as escapes, which the description does not
//! know. Of repeated keys the first counts. The event's time is `devTime`: ms (or s) since 1970,
//! `MMM dd [yyyy] HH:mm:ss[.SSS] [zone]` or RFC 3339. Not supported: other formats that `devTimeFormat` may
//! name; the time is then that of the header or of arrival.
//!
//! A header with fewer than five parts is [`Flaw::Truncated`]; a line without `LEEF:` is [`Flaw::Malformed`].

use super::pairs::{self, Keys};
use super::{Decoder, DecoderKind, MessageDecoder, Wanted, body, with_envelope};
use crate::clock;
use crate::event::{Flaw, Row, SlotId, Span};

pub(super) struct Leef;

/// Native names of the header's parts, in order.
const HEADER: [&str; 5] = ["leef_version", "vendor", "product", "product_version", "event_id"];

/// What rsyslog writes for a tab.
const RSYSLOG_TAB: &[u8] = b"#011";

impl DecoderKind for Leef {
    fn name(&self) -> &'static str {
        "leef"
    }

    fn sample(&self) -> &'static str {
        "<13>Nov 21 08:00:00 flow-1 LEEF:2.0|Lancope|StealthWatch|1.0|41|^|src=192.0.2.20^dst=203.0.113.9^srcPort=81^dstPort=21^\
         proto=TCP^sev=5^cat=anomaly^usrName=joe.black^devTime=1795248000123^msg=there was a hit"
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/leef.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        None
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        prefix(body(frame)).map(|_| "the message begins with `LEEF:` and a version")
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let time = std::iter::once(("devTime", Use { slot: wanted.slot("devTime"), is_time: true }));
        let others = wanted.natives.iter().map(|(key, slot)| (key.as_str(), Use { slot: Some(*slot), is_time: false }));
        let keys = Keys::new(time.chain(others));
        let header = HEADER.map(|name| wanted.slot(name));
        with_envelope(&wanted, Message { keys, header, offset_ms: wanted.offset_ms })
    }
}

#[derive(Clone, Copy, Debug)]
struct Use {
    slot: Option<SlotId>,
    is_time: bool,
}

struct Message {
    keys: Keys<Use>,
    header: [Option<SlotId>; HEADER.len()],
    offset_ms: i64,
}

/// What stands between two attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separator {
    Byte(u8),
    RsyslogTab,
    Blanks,
}

/// Offset of the version in `LEEF:1.0|`.
fn prefix(message: &[u8]) -> Option<usize> {
    let at = message.iter().position(|byte| *byte != b' ')?;
    let behind = message[at..].strip_prefix(b"LEEF:")?;
    matches!(behind, [b'1' | b'2', b'.' | b'|', ..]).then_some(at + 5)
}

impl MessageDecoder for Message {
    fn message(&mut self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        let bytes = row.bytes();
        let (mut at, end) = (message.start as usize, message.end as usize);
        at += prefix(message.of(bytes)).ok_or(Flaw::Malformed)?;
        let is_second = bytes[at] == b'2';
        for slot in self.header {
            let pipe = unescaped(bytes, at, end, b'|');
            if let Some(slot) = slot {
                pairs::set_first(row, slot, Span::new(at, pipe.unwrap_or(end)), Some(escape));
            }
            at = pipe.ok_or(Flaw::Truncated)? + 1;
        }
        let (separator, at) = separator(bytes, at, end, is_second);
        self.attributes(bytes, at, end, separator, row);
        Ok(())
    }
}

impl Message {
    fn attributes(&self, bytes: &[u8], start: usize, end: usize, separator: Separator, row: &mut Row<'_>) {
        if separator == Separator::Blanks {
            pairs::scan(bytes, Span::new(start, end), &self.keys, |wanted, found| self.set(wanted, found.span, row));
            return;
        }
        let mut from = start;
        while from < end {
            let (to, next) = match separator {
                Separator::RsyslogTab => match memchr::memmem::find(&bytes[from..end], RSYSLOG_TAB) {
                    Some(len) => (from + len, from + len + RSYSLOG_TAB.len()),
                    None => (end, end),
                },
                Separator::Byte(byte) => unescaped(bytes, from, end, byte).map_or((end, end), |at| (at, at + 1)),
                Separator::Blanks => (end, end),
            };
            if let Some(len) = memchr::memchr(b'=', &bytes[from..to]) {
                let key = bytes[from..from + len].trim_ascii();
                if let Some(wanted) = self.keys.find(key) {
                    self.set(wanted, Span::new(from + len + 1, to), row);
                }
            }
            from = next;
        }
    }

    fn set(&self, wanted: Use, value: Span, row: &mut Row<'_>) {
        if wanted.is_time {
            let text = value.of(row.bytes()).trim_ascii();
            let ms = clock::epoch_ms(text).or_else(|| clock::month_first_ms(text, self.offset_ms, row.time_ms()));
            if let Some(ms) = ms.or_else(|| clock::rfc3339_ms(text)) {
                row.set_time_ms(ms);
            }
        }
        if let Some(slot) = wanted.slot {
            pairs::set_first(row, slot, value, Some(escape));
        }
    }
}

fn escape(byte: u8) -> Option<u8> {
    matches!(byte, b'=' | b'|' | b'\\' | b'^' | b'~' | b';' | b',' | b'\t').then_some(byte)
}

/// The next `byte` that no odd number of backslashes escapes.
fn unescaped(bytes: &[u8], start: usize, end: usize, byte: u8) -> Option<usize> {
    let backslashes = |at: usize| bytes[start..at].iter().rev().take_while(|byte| **byte == b'\\').count();
    memchr::memchr_iter(byte, &bytes[start..end]).map(|at| start + at).find(|at| backslashes(*at) % 2 == 0)
}

/// The separator, and where the attributes begin.
fn separator(bytes: &[u8], at: usize, end: usize, is_second: bool) -> (Separator, usize) {
    // A named separator has at most six bytes: `0x0009`.
    let named = memchr::memchr(b'|', &bytes[at..end.min(at + 7)]).filter(|_| is_second);
    if let Some(len) = named {
        let name = &bytes[at..at + len];
        let digits = name.strip_prefix(b"0x").or_else(|| name.strip_prefix(b"x")).unwrap_or_default();
        let code = digits.iter().try_fold(0u32, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?));
        match (name, code) {
            ([byte], _) => return (Separator::Byte(*byte), at + len + 1),
            ([], _) => return (without_a_name(&bytes[at + 1..end]), at + 1),
            (_, Some(code)) if (2..=4).contains(&digits.len()) && code < 128 => return (Separator::Byte(code as u8), at + len + 1),
            _ => {}
        }
    }
    (without_a_name(&bytes[at..end]), at)
}

/// A tab, unless a relay replaced the tabs.
fn without_a_name(attributes: &[u8]) -> Separator {
    if memchr::memchr(b'\t', attributes).is_some() {
        Separator::Byte(b'\t')
    } else if memchr::memmem::find(attributes, RSYSLOG_TAB).is_some() {
        Separator::RsyslogTab
    } else if memchr::memchr_iter(b'=', attributes).nth(1).is_some() {
        Separator::Blanks
    } else {
        Separator::Byte(b'\t')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::testing::{self, Case};

    const CASES: &[Case<'_>] = &[
        (
            "Jan 18 11:07:53 192.168.1.1 LEEF:1.0|Contoso|Scout|3.1|NEW_PORT|src=10.5.6.67\tdst=10.50.123.1\tsev=5\tcat=anomaly\t\
             msg=text with blanks\tsrcPort=81\tproto=6",
            &[
                ("host.hostname", "192.168.1.1"),
                ("observer.vendor", "Contoso"),
                ("observer.product", "Scout"),
                ("observer.version", "3.1"),
                ("event.code", "NEW_PORT"),
                ("source.ip", "10.5.6.67"),
                ("source.port", "81"),
                ("event.dataset", "anomaly"),
                ("event.reason", "text with blanks"),
                ("event.severity_name", "5"),
                ("network.transport", "tcp"),
                ("%native.leef_version", "1.0"),
            ],
        ),
        (
            "LEEF:2.0|Lancope|Stealth\\|Watch|1.0|41|^|src=192.0.2.20^dst=203.0.113.9^url=http://x/?a\\=1&b=2^msg=a \\^ b^usrName=CORP\\\\joe",
            &[
                ("observer.product", "Stealth|Watch"),
                ("destination.ip", "203.0.113.9"),
                ("url.original", "http://x/?a=1&b=2"),
                ("%native.msg", "a ^ b"),
                ("user.name", "CORP\\joe"),
                ("source.user.name", "CORP\\joe"),
            ],
        ),
        ("LEEF:2.0|a|b|c|d|x7E|src=1.1.1.1~dst=2.2.2.2", &[("source.ip", "1.1.1.1"), ("destination.ip", "2.2.2.2")]),
        ("LEEF:2.0|a|b|c|d|0x5E|src=1.1.1.1^dst=2.2.2.2", &[("source.ip", "1.1.1.1"), ("destination.ip", "2.2.2.2")]),
        ("LEEF:2.0|a|b|c|d||src=1.1.1.1\tdst=2.2.2.2", &[("source.ip", "1.1.1.1"), ("destination.ip", "2.2.2.2")]),
        // Without a separator's name; with a pipe in the first value all the same.
        ("LEEF:2.0|a|b|c|d|k=1|2\tdst=2.2.2.2", &[("k", "1|2"), ("destination.ip", "2.2.2.2")]),
        // What relays make of tabs.
        ("LEEF:1.0|a|b|c|d|src=1.1.1.1#011dst=2.2.2.2#011msg=x y", &[("destination.ip", "2.2.2.2"), ("%native.msg", "x y")]),
        ("LEEF:1.0|a|b|c|d|src=1.1.1.1 dst=2.2.2.2", &[("source.ip", "1.1.1.1"), ("destination.ip", "2.2.2.2")]),
        // Of repeated keys the first counts.
        ("LEEF:1.0|a|b|c|d|src=1.1.1.1\tsrc=2.2.2.2", &[("source.ip", "1.1.1.1")]),
        (
            "LEEF:1.0|a|b|c|d|action=Deny\tsrcPostNAT=1.1.1.1\tsrcPostNATPort=1\tdstPostNAT=2.2.2.2\tdstPostNATPort=2\tsrcBytes=3\tdstBytes=4\t\
             srcPackets=5\tdstPackets=6\ttotalPackets=11\tsrcMAC=aa\tdstMAC=bb\tidentHostName=h\tdstPort=443\tpolicy=p\tdomain=d\t\
             identGrpName=g\trole=r\treason=why",
            &[
                ("source.nat.ip", "1.1.1.1"),
                ("destination.nat.port", "2"),
                ("source.bytes", "3"),
                ("event.outcome", "failure"),
                ("event.reason", "why"),
                ("network.packets", "11"),
            ],
        ),
    ];

    fn lines() -> impl Iterator<Item = &'static str> {
        CASES.iter().map(|(line, _)| *line).chain([Leef.sample()])
    }

    #[test]
    fn real_lines_give_their_fields() {
        testing::check(&Leef, CASES);
        testing::check_every_name_is_filled(&Leef, lines(), &[]);
        testing::check_sniffed(&Leef, lines());
    }

    #[test]
    fn broken_lines_never_panic() {
        testing::check_broken_lines(&Leef, lines());
    }

    #[test]
    fn the_device_time_is_read_in_its_usual_forms() {
        let ms = |time: &str| testing::decode(&Leef, &[], &format!("LEEF:1.0|a|b|c|d|devTime={time}\tsrc=1.1.1.1")).time_ms;
        for time in ["1795248000123", "Nov 21 2026 08:00:00.123", "Nov 21 2026 08:00:00.123 GMT", "2026-11-21T08:00:00.123Z"] {
            assert_eq!(ms(time), 1_795_248_000_123, "{time}");
        }
        assert_eq!(ms("21.11.2026"), testing::RECEIVED_MS);
    }

    #[test]
    fn a_cut_header_keeps_its_parts() {
        let decoded = testing::decode(&Leef, &["observer.vendor", "observer.product"], "LEEF:1.0|IBM|Q");
        assert_eq!((decoded.fields.len(), decoded.flaw), (2, Some(Flaw::Truncated)));
        assert_eq!(testing::decode(&Leef, &["source.ip"], "src=1.1.1.1").flaw, Some(Flaw::Malformed));
    }
}
