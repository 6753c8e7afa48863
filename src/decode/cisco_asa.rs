//! `cisco_asa`: Cisco ASA, FTD, PIX and FWSM messages, `%ASA-6-302013: ...`.
//!
//! Source: "Cisco Secure Firewall ASA Series Syslog Messages" and "Cisco Secure Firewall Threat Defense Syslog
//! Messages". The texts of the messages stand as patterns in the module `templates`, which also says which
//! messages are understood; any other keeps its id, severity and text and is no flaw. The security events of
//! FTD (430001 to 430005) are `Key: value, Key: value`.
//!
//! Native fields: `src_*` and `dst_*` (`ip`, `port`, `interface`, `user`, `user_domain`, `domain`, `nat_ip`,
//! `nat_port`), the names in the patterns, `product`, `message_id`, `severity`, `text`, and `action`: what
//! happened, in one word a kind of message.
//!
//! **The source is who began.** The messages name the two sides by interface, not by direction, so:
//!
//! * `Built outbound`: the second side began;
//! * `Teardown`, which names no direction: the side whose port is not that of a service (below 1024, or one of
//!   the `SERVICE_PORTS`) began, else the one with the higher port. On a tie (NTP, IKE) the first side stands as
//!   source. ICMP shows the ping's identifier as the port of the side that sent it; it is used here and then
//!   dropped.
//!
//! What real senders do: no timestamp at all (`<166>%ASA-...`), `: ` or a blank before it, the device's name
//! where RFC 3164 has a tag (then it is the host), a time zone there (`EDT:`), a class in the tag
//! (`%ASA-session-6-...`), no colon behind the number, names in place of addresses (`names` and `object`),
//! addresses of IPv6 behind an interface, users and security group tags in brackets behind an address
//! (`(LOCAL\bob, 9999:tag)`), blanks before colons in AAA messages, `#012` for a line break and
//! `message repeated 2 times: [...]` (rsyslog).
//!
//! A message that is in the table but goes on otherwise than its pattern keeps what was read and is
//! [`Flaw::Truncated`]; a line without `%ASA-` or its sisters is [`Flaw::Malformed`].

mod pattern;
mod templates;

use super::pairs::{self, Keys};
use super::{Decoder, DecoderKind, EnvelopeSlots, MessageDecoder, Wanted, body, moved, with_envelope};
use crate::envelope::Header;
use crate::event::{Flaw, Kind, Row, Slot, SlotId, Span};
use pattern::{Captures, Pattern, SIDE, Side};
use templates::{FTD_ABSENT, FTD_KEYS, Order, RANGES, TEMPLATES, VERDICTS};

pub(super) struct CiscoAsa;

/// Natives that are not in a pattern.
const OWN: [&str; 6] = ["product", "message_id", "severity", "text", "action", "repeat_count"];

/// Where the `%` of a message is looked for: behind it a URL may hold anything.
const TAG_WITHIN_BYTES: usize = 256;

impl DecoderKind for CiscoAsa {
    fn name(&self) -> &'static str {
        "cisco_asa"
    }

    fn sample(&self) -> &'static str {
        "<166>Nov 21 2026 08:00:00 asa-01 : %ASA-6-302013: Built outbound TCP connection 89743274 for outside:93.184.216.34/443 \
         (93.184.216.34/443) to inside:10.1.2.3/52011(LOCAL\\asmith1) (203.0.113.7/52011) (asmith1)"
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/cisco_asa.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        let sides = SIDE.iter().flat_map(|(source, destination, _)| [*source, *destination]);
        let ftd = FTD_KEYS.iter().map(|(_, native)| *native);
        let mut names: Vec<_> = OWN.into_iter().chain(sides).chain(pattern::FIELDS).chain(ftd).collect();
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        Tag::find(body(frame)).map(|_| "a Cisco tag such as `%ASA-6-302013`")
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let compile = |row: &templates::Row| Compiled { order: row.order, action: row.action, pattern: Pattern::new(row.pattern) };
        let outputs = Outputs {
            own: OWN.map(|name| wanted.slot(name)),
            sides: SIDE.map(|(source, destination, _)| [wanted.slot(source), wanted.slot(destination)]),
            fields: pattern::FIELDS.iter().map(|name| wanted.slot(name)).collect(),
        };
        let ftd = FTD_KEYS.iter().filter_map(|(key, native)| Some((*key, wanted.slot(native)?)));
        let message = Message {
            templates: TEMPLATES.iter().map(|row| (row.id, compile(row))).collect(),
            ranges: RANGES.iter().map(|(ids, row)| (ids.clone(), compile(row))).collect(),
            ftd: Keys::new(ftd),
            needs_text: outputs.sides.iter().flatten().chain(&outputs.fields).any(Option::is_some) || outputs.own[4].is_some(),
            outputs,
            envelope: wanted.envelope,
        };
        with_envelope(&wanted, message)
    }
}

/// `%ASA-session-6-302013:`; offsets in the message.
#[derive(Clone, Copy, Debug)]
struct Tag {
    product: Span,
    severity: Span,
    id: Span,
    /// Where the text begins.
    text: usize,
}

impl Tag {
    fn find(message: &[u8]) -> Option<Self> {
        let head = &message[..message.len().min(TAG_WITHIN_BYTES)];
        memchr::memchr_iter(b'%', head).find_map(|at| Self::read(message, at))
    }

    fn read(message: &[u8], percent: usize) -> Option<Self> {
        let word = |at: usize| Some(message.get(at..)?.iter().take(16).take_while(|byte| byte.is_ascii_alphanumeric()).count());
        let mut at = percent + 1;
        let product = Span::new(at, at + word(at)?);
        if !matches!(product.of(message), b"ASA" | b"FTD" | b"PIX" | b"FWSM") {
            return None;
        }
        at = product.end as usize + 1;
        // A class between product and severity: `session`, `auth`.
        if !message.get(at)?.is_ascii_digit() {
            at += word(at)? + 1;
        }
        let is_tag = message.get(at)?.is_ascii_digit() && message.get(at + 1) == Some(&b'-');
        let id = Span::new(at + 2, at + 8);
        if !is_tag || !message.get(at + 2..at + 8)?.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let behind = message[at + 8..].iter().take(2).take_while(|byte| matches!(byte, b':' | b' ')).count();
        Some(Self { product, severity: Span::new(at, at + 1), id, text: at + 8 + behind })
    }
}

struct Compiled {
    order: Order,
    action: &'static str,
    pattern: Pattern,
}

/// Where what was read goes.
struct Outputs {
    own: [Option<SlotId>; OWN.len()],
    /// Slots of the source and of the destination.
    sides: [[Option<SlotId>; 2]; SIDE.len()],
    fields: Vec<Option<SlotId>>,
}

struct Message {
    /// Sorted by id; several of one id are tried in turn.
    templates: Vec<(u32, Compiled)>,
    ranges: Vec<(std::ops::RangeInclusive<u32>, Compiled)>,
    ftd: Keys<SlotId>,
    /// Whether anything is wanted that only the text tells.
    needs_text: bool,
    outputs: Outputs,
    envelope: EnvelopeSlots,
}

impl MessageDecoder for Message {
    fn message(&mut self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        let bytes = row.bytes();
        let start = message.start as usize;
        let tag = Tag::find(message.of(bytes)).ok_or(Flaw::Malformed)?;
        let text = Span::new(start + tag.text, message.end as usize);
        for (slot, span) in [(0, tag.product), (1, tag.id), (2, tag.severity)] {
            if let Some(slot) = self.outputs.own[slot] {
                row.set_text(slot, moved(span, start));
            }
        }
        if let Some(slot) = self.outputs.own[3].filter(|_| !text.is_empty()) {
            row.set_text(slot, text);
        }
        if !self.needs_text {
            return Ok(());
        }
        let id = moved(tag.id, start).of(bytes).iter().fold(0u32, |id, digit| id * 10 + u32::from(digit - b'0'));
        if (430_001..=430_005).contains(&id) {
            self.security_event(text, row);
        }
        let (count, text) = repeated(bytes, text);
        if let Some(slot) = self.outputs.own[5].filter(|_| !count.is_empty()) {
            row.set_text(slot, count);
        }
        self.text(id, text, row)
    }

    fn headed(&mut self, header: &Header, start: usize, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        if header.host.is_empty() && !header.app.is_empty() && header.process.is_empty() {
            let name = moved(header.app, start);
            if let Some(slot) = self.envelope.host.filter(|_| !is_time_zone(name.of(row.bytes()))) {
                row.set_text(slot, name);
            }
            if let Some(slot) = self.envelope.app {
                row.set(slot, Slot::MISSING);
            }
        }
        self.message(message, row)
    }
}

/// `message repeated 2 times: [ Deny ...]`, as rsyslog's reduction writes it: how often, and the message.
fn repeated(bytes: &[u8], text: Span) -> (Span, Span) {
    let found = text.of(bytes).strip_prefix(b"message repeated ").and_then(|rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let inside = rest[digits..].strip_prefix(b" times: [")?.strip_suffix(b"]")?;
        let (count, end) = (text.end as usize - rest.len(), text.end as usize - 1);
        Some((Span::new(count, count + digits), Span::new(end - inside.trim_ascii_start().len(), end)))
    });
    found.unwrap_or_else(|| (Span::default(), text))
}

/// `logging timestamp` has no zone, but relays and `service timestamps show-timezone` write one.
fn is_time_zone(name: &[u8]) -> bool {
    const ZONES: [&[u8]; 17] = [
        b"UTC", b"GMT", b"EST", b"EDT", b"CST", b"CDT", b"MST", b"MDT", b"PST", b"PDT", b"CET", b"CEST", b"EET", b"EEST", b"BST", b"IST",
        b"JST",
    ];
    ZONES.contains(&name)
}

impl Message {
    fn text(&self, id: u32, text: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        let bytes = row.bytes();
        let first = self.templates.partition_point(|(other, _)| *other < id);
        let exact = self.templates[first..].iter().take_while(|(other, _)| *other == id).map(|(_, template)| template);
        let ranges = self.ranges.iter().filter(|(ids, _)| ids.contains(&id)).map(|(_, template)| template);
        let mut best: Option<(&Compiled, Captures)> = None;
        for template in exact.chain(ranges) {
            let mut captures = Captures::default();
            let whole = template.pattern.read(bytes, text, &mut captures);
            if whole {
                self.write(template, captures, row);
                return Ok(());
            }
            // Of several that do not fit, the first is the usual form.
            best.get_or_insert((template, captures));
        }
        match best {
            None => Ok(()),
            Some((template, captures)) => {
                self.write(template, captures, row);
                Err(Flaw::Truncated)
            }
        }
    }

    fn write(&self, template: &Compiled, mut captures: Captures, row: &mut Row<'_>) {
        let bytes = row.bytes();
        captures.arrange(template.order, bytes);
        for (part, slots) in self.outputs.sides.iter().enumerate() {
            for (slot, side) in slots.iter().zip(&captures.sides) {
                if let Some(slot) = slot.filter(|_| !side[part].is_empty()) {
                    row.set_text(slot, side[part]);
                }
            }
        }
        for (slot, span) in self.outputs.fields.iter().zip(&captures.fields) {
            if let Some(slot) = slot.filter(|_| !span.is_empty()) {
                row.set_text(slot, *span);
            }
        }
        let Some(slot) = self.outputs.own[4] else { return };
        let captured = captures.verdict().of(bytes);
        let known = VERDICTS.iter().find(|(word, _)| captured.eq_ignore_ascii_case(word.as_bytes())).map(|(_, action)| *action);
        let action = known.unwrap_or(template.action);
        if !action.is_empty() {
            row.set_written(slot, Kind::Text, |out| out.extend_from_slice(action.as_bytes()));
        }
    }

    /// `Key: value, Key: value`; keys may hold blanks, values commas.
    fn security_event(&self, text: Span, row: &mut Row<'_>) {
        let bytes = row.bytes();
        let end = text.end as usize;
        let mut at = text.start as usize;
        while let Some((key, value)) = security_key(&bytes[at..end]) {
            let from = at + value;
            let is_next = |comma: &usize| bytes[from + comma + 1..end].strip_prefix(b" ").is_some_and(|next| security_key(next).is_some());
            let to = memchr::memchr_iter(b',', &bytes[from..end]).find(is_next).map_or(end, |comma| from + comma);
            if let Some(slot) = self.ftd.find(&bytes[at..at + key]) {
                let quoted = to - from >= 2 && bytes[from] == b'"' && bytes[to - 1] == b'"';
                let span = if quoted { Span::new(from + 1, to - 1) } else { Span::new(from, to) };
                if !FTD_ABSENT.contains(&span.of(bytes)) {
                    pairs::set_first(row, slot, span, None);
                }
            }
            at = (to + 2).min(end);
        }
    }
}

/// Length of the key at the start of `text` and offset of its value. A key begins with a capital and holds
/// letters, digits, `_` and blanks; the longest (`FileStaticAnalysisStatus`) has 24 bytes.
fn security_key(text: &[u8]) -> Option<(usize, usize)> {
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b' ');
    let len = text.iter().take(40).take_while(|byte| is_key(byte)).count();
    let is_pair = text.first()?.is_ascii_uppercase() && text.get(len) == Some(&b':') && text.get(len + 1).is_none_or(|byte| *byte == b' ');
    is_pair.then(|| (len, (len + 2).min(text.len())))
}

/// Ports from 1024 on that are far more often a service's than a client's.
const SERVICE_PORTS: [u32; 34] = [
    1194, 1433, 1521, 1701, 1723, 1812, 1813, 2049, 3128, 3268, 3269, 3306, 3389, 4500, 5060, 5061, 5432, 5900, 5985, 5986, 6379, 6443,
    8000, 8008, 8080, 8081, 8443, 8888, 9000, 9090, 9200, 9443, 11_211, 27_017,
];

/// The higher, the more a port looks like a client's.
fn client_rank(port: u32) -> (bool, u32) {
    (port >= 1024 && !SERVICE_PORTS.contains(&port), port)
}

impl Captures {
    /// Puts the side that began in front.
    fn arrange(&mut self, order: Order, bytes: &[u8]) {
        let port =
            |side: &Side| side[1].of(bytes).iter().take(6).fold(0u32, |port, digit| port * 10 + u32::from(digit.wrapping_sub(b'0') & 0xf));
        let swap = match order {
            Order::Given => false,
            Order::Direction | Order::Ping => self.direction().of(bytes) == b"outbound",
            Order::Ports => client_rank(port(&self.sides[1])) > client_rank(port(&self.sides[0])),
            Order::PingEnd => port(&self.sides[1]) > port(&self.sides[0]),
        };
        if swap {
            self.sides.swap(0, 1);
        }
        if matches!(order, Order::Ping | Order::PingEnd) {
            self.sides.iter_mut().for_each(|side| (side[1], side[7]) = (Span::default(), Span::default()));
        }
    }
}

#[cfg(test)]
mod tests;
