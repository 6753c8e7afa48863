//! `cef`: ArcSight Common Event Format, versions 0 and 1.
//!
//! `CEF:Version|Device Vendor|Device Product|Device Version|Signature ID|Name|Severity|Extension`; keys and
//! escapes: "ArcSight Common Event Format (CEF) Implementation Standard", version 25. In the header `\|` and
//! `\\` are escapes, in extension values `\=`, `\\`, `\n` and `\r`. The extension has no quotes: a value ends
//! where a blank, a key and an unescaped `=` follow.
//!
//! Native fields: the extension's keys as written (`src`, `cs1`, `deviceCustomDate1`), the header as
//! `cef_version`, `vendor`, `product`, `product_version`, `signature_id`, `name`, `severity`, and the label of
//! a custom field as a name for its value: with `cs1Label=Policy cs1=Web` the field `Policy` is `Web`, unless
//! the event has a key of that name.
//!
//! What real senders do: `CEF: 0|` (behind a syslog header `CEF` is then its tag, too); a pipe that is not escaped in the extension (legal there); `=` not
//! escaped in URLs, which is harmless as long as no blank stands before the parameter's name; blanks around
//! the last value; full names instead of short ones (`sourceAddress`). Of repeated keys the first counts.
//! The event's time is `rt`, else `end`, else `start`, in ms since 1970 or as `MMM dd [yyyy] HH:mm:ss[.SSS]
//! [zone]`, where of zones only UTC, GMT and Z are understood, any other is the source's offset.
//!
//! A header with fewer than seven parts is [`Flaw::Truncated`]; a line without `CEF:` and a digit is
//! [`Flaw::Malformed`].

use super::pairs::{self, Keys};
use super::{Decoder, DecoderKind, MessageDecoder, Wanted, body, moved, with_envelope};
use crate::clock;
use crate::envelope::Header;
use crate::event::{Flaw, Row, SlotId, Span};
use crate::scan::for_each_of;

pub(super) struct Cef;

/// Native names of the header's parts, in order.
const HEADER: [&str; 7] = ["cef_version", "vendor", "product", "product_version", "signature_id", "name", "severity"];

/// Custom fields; the label of each is in the same key with `Label` behind.
const CUSTOM: [&str; 27] = [
    "cs1",
    "cs2",
    "cs3",
    "cs4",
    "cs5",
    "cs6",
    "cn1",
    "cn2",
    "cn3",
    "cfp1",
    "cfp2",
    "cfp3",
    "cfp4",
    "c6a1",
    "c6a2",
    "c6a3",
    "c6a4",
    "deviceCustomDate1",
    "deviceCustomDate2",
    "flexDate1",
    "flexString1",
    "flexString2",
    "flexNumber1",
    "flexNumber2",
    "cf1",
    "cf2",
    "cf3",
];

/// Keys that hold the time, the best first.
const TIMES: [&str; 6] = ["rt", "deviceReceiptTime", "end", "endTime", "start", "startTime"];

impl DecoderKind for Cef {
    fn name(&self) -> &'static str {
        "cef"
    }

    fn sample(&self) -> &'static str {
        "<134>Nov 21 08:00:00 gw-1 CEF:0|Check Point|VPN-1 & FireWall-1|R81|101|Connection denied|5|rt=1795248000007 src=10.20.30.40 \
         spt=51022 dst=203.0.113.9 dpt=443 proto=TCP act=drop suser=bsmith in=120 out=4000 cs1Label=Rule cs1=Rule 5 edge to dc \
         msg=Connection q\\=77"
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/cef.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        None
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        let why = "the message begins with `CEF:` and a version";
        let body = body(frame);
        // Where a blank stands behind the colon, the header's reader takes `CEF:` for a tag.
        let tagged = || is_version(body) && frame.len() > body.len() && frame[..frame.len() - body.len()].ends_with(b"CEF: ");
        (prefix(body).is_some() || tagged()).then_some(why)
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let custom = CUSTOM.iter().enumerate().map(|(index, key)| (*key, Part::Custom(index)));
        let times = TIMES.iter().enumerate().map(|(index, key)| (*key, Part::Time(index)));
        let own = custom.chain(times).map(|(key, part)| (key, Use { slot: wanted.slot(key), part }));
        let others = wanted.natives.iter().map(|(key, slot)| (key.as_str(), Use { slot: Some(*slot), part: Part::Plain }));
        let keys = Keys::new(own.chain(others));
        let header = HEADER.map(|name| wanted.slot(name));
        with_envelope(&wanted, Message { keys, header, offset_ms: wanted.offset_ms })
    }
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Plain,
    Custom(usize),
    Time(usize),
}

#[derive(Clone, Copy, Debug)]
struct Use {
    slot: Option<SlotId>,
    part: Part,
}

struct Message {
    keys: Keys<Use>,
    header: [Option<SlotId>; HEADER.len()],
    offset_ms: i64,
}

/// What is put together when all pairs have been seen.
struct Seen {
    labels: [Span; CUSTOM.len()],
    values: [Span; CUSTOM.len()],
    times: [Span; TIMES.len()],
}

/// Offset of the version in `CEF:0|`, behind blanks that some senders write.
fn prefix(message: &[u8]) -> Option<usize> {
    let at = message.iter().position(|byte| *byte != b' ')?;
    let behind = message[at..].strip_prefix(b"CEF:")?;
    let blanks = behind.iter().take_while(|byte| **byte == b' ').count();
    is_version(behind.get(blanks..)?).then_some(at + 4 + blanks)
}

fn is_version(text: &[u8]) -> bool {
    matches!(text, [b'0' | b'1', b'|' | b'.', ..])
}

impl MessageDecoder for Message {
    fn message(&mut self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        self.headed(&Header::default(), 0, message, row)
    }

    fn headed(&mut self, header: &Header, start: usize, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        let bytes = row.bytes();
        let (mut at, end) = (message.start as usize, message.end as usize);
        let tagged = moved(header.app, start).of(bytes) == b"CEF" && is_version(message.of(bytes));
        at += if tagged { 0 } else { prefix(message.of(bytes)).ok_or(Flaw::Malformed)? };
        for slot in self.header {
            let pipe = unescaped_pipe(bytes, at, end);
            if let Some(slot) = slot {
                pairs::set_first(row, slot, Span::new(at, pipe.unwrap_or(end)), Some(header_escape));
            }
            at = pipe.ok_or(Flaw::Truncated)? + 1;
        }
        self.extension(at, end, row);
        Ok(())
    }
}

impl Message {
    fn extension(&self, start: usize, end: usize, row: &mut Row<'_>) {
        let bytes = row.bytes();
        let mut seen = Seen {
            labels: [Span::default(); CUSTOM.len()],
            values: [Span::default(); CUSTOM.len()],
            times: [Span::default(); TIMES.len()],
        };
        let mut pending: Option<(Use, usize)> = None;
        let mut label: Option<(usize, usize)> = None;
        let mut from = start;
        let mut finish = |row: &mut Row<'_>, pending: Option<(Use, usize)>, label: Option<(usize, usize)>, to: usize| {
            if let Some((wanted, from)) = pending {
                seen.take(wanted, trimmed(bytes, from, to), row);
            }
            if let Some((index, from)) = label {
                seen.labels[index] = trimmed(bytes, from, to);
            }
        };
        for_each_of(bytes, start, end, b'=', b'=', |at| {
            let key = key_before(bytes, from, at, from == start);
            if key < at {
                finish(row, pending.take(), label.take(), key);
                let name = &bytes[key..at];
                pending = self.keys.find(name).map(|wanted| (wanted, at + 1));
                label = name.strip_suffix(b"Label").and_then(|field| Some((self.custom(field)?, at + 1)));
                from = at + 1;
            }
            true
        });
        finish(row, pending, label, end);
        self.complete(&seen, row);
    }

    fn custom(&self, key: &[u8]) -> Option<usize> {
        match self.keys.find(key)?.part {
            Part::Custom(index) => Some(index),
            _ => None,
        }
    }

    /// Names values by their labels and sets the time.
    fn complete(&self, seen: &Seen, row: &mut Row<'_>) {
        let bytes = row.bytes();
        for (label, value) in seen.labels.iter().zip(&seen.values).filter(|(label, _)| !label.is_empty()) {
            if let Some(Use { slot: Some(slot), part: Part::Plain }) = self.keys.find(label.of(bytes)) {
                pairs::set_first(row, slot, *value, Some(extension_escape));
            }
        }
        if let Some(ms) = seen.times.iter().find_map(|span| time_ms(span.of(bytes), self.offset_ms, row.time_ms())) {
            row.set_time_ms(ms);
        }
    }
}

impl Seen {
    fn take(&mut self, wanted: Use, value: Span, row: &mut Row<'_>) {
        let keep = match wanted.part {
            Part::Plain => None,
            Part::Custom(index) => self.values.get_mut(index),
            Part::Time(index) => self.times.get_mut(index),
        };
        if let Some(keep) = keep.filter(|kept| kept.is_empty()) {
            *keep = value;
        }
        if let Some(slot) = wanted.slot {
            pairs::set_first(row, slot, value, Some(extension_escape));
        }
    }
}

fn header_escape(byte: u8) -> Option<u8> {
    matches!(byte, b'|' | b'\\').then_some(byte)
}

fn extension_escape(byte: u8) -> Option<u8> {
    match byte {
        b'=' | b'\\' | b'|' => Some(byte),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        _ => None,
    }
}

/// Whether an odd number of backslashes stands before `at`, none of them before `from`.
fn is_escaped(bytes: &[u8], from: usize, at: usize) -> bool {
    bytes[from..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

fn unescaped_pipe(bytes: &[u8], start: usize, end: usize) -> Option<usize> {
    memchr::memchr_iter(b'|', &bytes[start..end]).map(|at| start + at).find(|at| !is_escaped(bytes, start, *at))
}

/// Where the key that ends at `at` begins; `at` if there is none. A key is letters, digits and `_ . - [ ]`
/// behind a blank, or at `from` if that is the `start` of the extension.
fn key_before(bytes: &[u8], from: usize, at: usize, start: bool) -> usize {
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'[' | b']');
    let begin = at - bytes[from..at].iter().rev().take_while(|byte| is_key(byte)).count();
    let behind_blank = if begin > from { matches!(bytes[begin - 1], b' ' | b'\t') } else { start };
    if behind_blank { begin } else { at }
}

fn trimmed(bytes: &[u8], from: usize, to: usize) -> Span {
    let blanks = bytes[from..to].iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
    // An escaped blank does not exist, but a value may end in a backslash and a blank.
    Span::new(from, to - blanks)
}

/// The formats of the standard's "Date Formats" table; `near_ms` gives the year where none is written.
fn time_ms(text: &[u8], offset_ms: i64, near_ms: i64) -> Option<i64> {
    if text.is_empty() {
        return None;
    }
    if let Some(ms) = clock::epoch_ms(text) {
        return Some(ms);
    }
    clock::month_first_ms(text, offset_ms, near_ms).or_else(|| clock::rfc3339_ms(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::testing::{self, Case};

    const CASES: &[Case<'_>] = &[
        (
            "Sep 19 08:26:10 host CEF:0|Contoso|Shield|2.4|100|beacon stopped|10|src=10.0.0.1 dst=2.1.2.2 spt=1232",
            &[
                ("host.hostname", "host"),
                ("observer.vendor", "Contoso"),
                ("observer.product", "Shield"),
                ("observer.version", "2.4"),
                ("event.code", "100"),
                ("rule.description", "beacon stopped"),
                ("threat.indicator.name", "beacon stopped"),
                ("event.severity_name", "10"),
                ("event.kind", "alert"),
                ("source.ip", "10.0.0.1"),
                ("destination.ip", "2.1.2.2"),
                ("source.port", "1232"),
                ("%native.cef_version", "0"),
            ],
        ),
        (
            // Escapes of header and extension, pipes and equals signs that need none.
            "CEF:1|security|threat\\|manager|C:\\\\x|100|detected a \\\\ in packet|3|act=blocked a | dst=1.1.1.1 filePath=C:\\\\dir\\file \
             msg=line one\\nline\\=two request=http://x/?a=1&b=2 reason=  \trt=Nov 21 2026 08:00:00.123",
            &[
                ("observer.product", "threat|manager"),
                ("observer.version", "C:\\x"),
                ("rule.description", "detected a \\ in packet"),
                ("event.action", "blocked a |"),
                ("file.path", "C:\\dir\\file"),
                ("%native.msg", "line one\nline=two"),
                ("url.original", "http://x/?a=1&b=2"),
                ("event.reason", ""),
                ("destination.ip", "1.1.1.1"),
            ],
        ),
        (
            // Labels name their values, in either order, unless the event has a key of that name.
            "CEF:0|Trend Micro|Deep Security Agent|20.0.1|210|SQL injection \\| blocked|8|cs1=Web out cs1Label=Rule Name cn1=42 cn1Label=Hit \
             Count cs2Label=src cs2=9.9.9.9 src=10.0.0.1 proto=UDP act=Deny outcome=failure in=5 out=6 cnt=3 suser=CORP\\\\al dhost=d.example",
            &[
                ("rule.name", "Web out"),
                ("Rule Name", "Web out"),
                ("Hit Count", "42"),
                ("%native.cs1", "Web out"),
                ("%native.cs1Label", "Rule Name"),
                ("source.ip", "10.0.0.1"),
                ("network.transport", "udp"),
                ("event.outcome", "failure"),
                ("destination.bytes", "5"),
                ("source.bytes", "6"),
                ("event.count", "3"),
                ("source.user.name", "CORP\\al"),
                ("user.name", "CORP\\al"),
                ("destination.domain", "d.example"),
            ],
        ),
        (
            "<134>CEF: 0|Fortinet|Fortigate|v7.4.3|13|traffic:forward close|3|deviceExternalId=FGT1 FTNTFGTlogid=0000000013 cat=traffic \
             dpt=443 dmac=aa shost=s smac=bb app=HTTPS deviceDirection=1 dvc=10.9.9.9 dvchost=fw1 dvcmac=cc deviceInboundInterface=lan \
             deviceOutboundInterface=wan externalId=77 start=1795248000000 end=1795248001000 dtz=UTC requestMethod=GET requestCookies=a\\=b \
             requestContext=http://r requestClientApplication=curl fname=f fsize=1 fileHash=ab fileType=exe dvcpid=7 deviceProcessName=p \
             sproc=sp dproc=dp sourceServiceName=ss destinationServiceName=ds suid=1 duid=2 duser=du sntdom=sd dntdom=dd \
             sourceTranslatedAddress=1.1.1.1 sourceTranslatedPort=11 destinationTranslatedAddress=2.2.2.2 destinationTranslatedPort=22 \
             reason=closed ad.extra_key[0]=v",
            &[
                ("observer.serial_number", "FGT1"),
                ("FTNTFGTlogid", "0000000013"),
                ("event.dataset", "traffic"),
                ("rule.category", "traffic"),
                ("network.direction", "outbound"),
                ("event.end", "1795248001000"),
                ("http.request.cookies", "a=b"),
                ("source.nat.port", "11"),
                ("ad.extra_key[0]", "v"),
            ],
        ),
    ];

    fn lines() -> impl Iterator<Item = &'static str> {
        CASES.iter().map(|(line, _)| *line).chain([Cef.sample()])
    }

    #[test]
    fn real_lines_give_their_fields() {
        testing::check(&Cef, CASES);
        testing::check_every_name_is_filled(&Cef, lines(), &[]);
        testing::check_sniffed(&Cef, lines());
    }

    #[test]
    fn broken_lines_never_panic() {
        testing::check_broken_lines(&Cef, lines());
    }

    #[test]
    fn the_best_of_the_times_counts() {
        let ms = |extension: &str| testing::decode(&Cef, &[], &format!("CEF:0|a|b|c|d|e|1|{extension}")).time_ms;
        assert_eq!(ms("start=1795240000000 rt=1795248000007 end=1795241000000"), 1_795_248_000_007);
        assert_eq!(ms("start=1795240000000 end=1795241000000"), 1_795_241_000_000);
        assert_eq!(ms("rt=Nov 21 2026 08:00:00.123 UTC src=1.1.1.1"), 1_795_248_000_123);
        assert_eq!(ms("rt=Nov 21 08:00:01 src=1.1.1.1"), 1_795_248_001_000);
        assert_eq!(ms("rt=whenever"), testing::RECEIVED_MS);
    }

    #[test]
    fn a_cut_header_keeps_its_parts() {
        let decoded = testing::decode(&Cef, &["observer.vendor", "observer.product"], "CEF:0|Security|threat");
        assert_eq!(decoded.fields.len(), 2);
        assert_eq!(decoded.flaw, Some(Flaw::Truncated));
        assert_eq!(testing::decode(&Cef, &["source.ip"], "src=1.1.1.1").flaw, Some(Flaw::Malformed));
    }
}
