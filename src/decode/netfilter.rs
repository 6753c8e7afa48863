//! `netfilter`: packets that iptables or nftables logged, from the kernel log, ulogd2 LOGEMU, or ulogd2 JSON.
//!
//! Text: `[prefix]IN=eth0 OUT= MAC=... SRC=... DST=... PROTO=TCP SPT=... DPT=... SYN URGP=0`, written by the
//! kernel's `nf_log_ipv4`/`nf_log_ipv6` and by ulogd2's `LOGEMU`, which follows them but for a second blank in
//! places and without the kernel's time in brackets. JSON: ulogd2's `JSON` output, keys such as
//! `src_ip`, `oob.prefix`, `tcp.syn`.
//!
//! Native fields have one name each for both (`SRC` for `src_ip`): the kernel's, and
//! * `prefix`: what the rule's `--log-prefix` or `log prefix` wrote, blanks and colon behind it left out;
//! * `action`: the first of a few words (`DROP`, `ACCEPT`) that stands in the prefix, as written there: the
//!   kernel says nothing about what became of the packet;
//! * `syn`, `ack`, `fin`, `rst`, `psh`, `urg`, `ece`, `cwr`: 1 for each TCP flag; JSON has 0 as well;
//! * `src_mac`, `dst_mac`: the parts of `MAC` on Ethernet (text only).
//!
//! What real logs hold: prefixes without a blank behind them (`DROPIN=eth0`) and with `=` in them; a tag
//! that is the prefix (`FW-DROP: IN=`) in LOGEMU lines; ICMP errors with the packet that caused them in
//! brackets, whose fields are not those of the event; `LEN` twice for UDP (the first is the packet's). The
//! time of JSON is `timestamp`, in the source's offset if it names none. A line without `IN=` and `OUT=` is
//! [`Flaw::Malformed`], JSON flaws are those of [`crate::json`].

use std::ops::Range;

use super::pairs::Keys;
use super::{Decoder, DecoderKind, MessageDecoder, Wanted, body, with_envelope};
use crate::clock;
use crate::envelope::Header;
use crate::event::{Flaw, Kind, Row, SlotId, Span, Value};
use crate::json::Paths;

pub(super) struct Netfilter;

/// Native names and the keys of ulogd2's JSON (empty: not in it).
const FIELDS: [(&str, &str); 30] = [
    ("IN", "oob.in"),
    ("OUT", "oob.out"),
    ("PHYSIN", ""),
    ("PHYSOUT", ""),
    ("MAC", ""),
    ("SRC", "src_ip"),
    ("DST", "dest_ip"),
    ("LEN", "ip.totlen"),
    ("TOS", "ip.tos"),
    ("PREC", ""),
    ("TTL", "ip.ttl"),
    ("HOPLIMIT", "ip6.hoplimit"),
    ("TC", ""),
    ("FLOWLBL", "ip6.flowlabel"),
    ("ID", "ip.id"),
    ("FRAG", ""),
    ("PROTO", "ip.protocol"),
    ("SPT", "src_port"),
    ("DPT", "dest_port"),
    ("SEQ", "tcp.seq"),
    ("ACK", "tcp.ackseq"),
    ("WINDOW", "tcp.window"),
    ("RES", ""),
    ("URGP", "tcp.urgp"),
    ("TYPE", "icmp.type"),
    ("CODE", "icmp.code"),
    ("SPI", "ahesp.spi"),
    ("UID", "oob.uid"),
    ("GID", "oob.gid"),
    ("MARK", "oob.mark"),
];

/// TCP flags: in text, native name, in JSON.
const FLAGS: [(&str, &str, &str); 8] = [
    ("CWR", "cwr", "tcp.res2"),
    ("ECE", "ece", "tcp.res1"),
    ("URG", "urg", "tcp.urg"),
    ("ACK", "ack", "tcp.ack"),
    ("PSH", "psh", "tcp.psh"),
    ("RST", "rst", "tcp.rst"),
    ("SYN", "syn", "tcp.syn"),
    ("FIN", "fin", "tcp.fin"),
];

/// Words of a prefix that tell what became of the packet.
const ACTIONS: [&[u8]; 8] = [b"DROP", b"REJECT", b"DENY", b"DENIED", b"BLOCK", b"ACCEPT", b"ALLOW", b"AUDIT"];

/// Longest prefix: nftables allows 127 bytes, iptables 29.
const PREFIX_BYTES_MAX: usize = 128;

impl DecoderKind for Netfilter {
    fn name(&self) -> &'static str {
        "netfilter"
    }

    fn sample(&self) -> &'static str {
        "Nov 21 21:26:12 vm FW-DROP  IN=vB OUT= MAC=12:25:44:67:26:39:62:df:84:47:f7:3a:08:00 SRC=10.77.0.1 DST=10.77.0.2 LEN=60 \
         TOS=00 PREC=0x00 TTL=64 ID=41987 DF PROTO=TCP SPT=54960 DPT=22 SEQ=151375664 ACK=0 WINDOW=64240 SYN URGP=0 MARK=0x0 "
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/netfilter.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        let fields = FIELDS.iter().map(|(name, _)| *name).chain(FLAGS.iter().map(|(_, name, _)| *name));
        Some(fields.chain(["prefix", "action", "src_mac", "dst_mac"]).collect())
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        let body = body(frame);
        let head = &body[..body.len().min(512)];
        if head.first() == Some(&b'{') {
            return memchr::memmem::find(head, b"\"oob.").map(|_| "JSON with keys of ulogd2 (`oob.`)");
        }
        let packet = &head[packet(head)?..];
        memchr::memmem::find(packet, b" SRC=").map(|_| "`IN=`, `OUT=` and `SRC=` of a netfilter log")
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let keys = Keys::new(FIELDS.iter().filter_map(|(name, _)| Some((*name, wanted.slot(name)?))));
        let flags = Keys::new(FLAGS.iter().filter_map(|(text, name, _)| Some((*text, wanted.slot(name)?))));
        let json = FIELDS.iter().copied().chain(FLAGS.iter().map(|(_, name, json)| (*name, *json)));
        let json = json.filter(|(_, json)| !json.is_empty());
        let json = Paths::new(json.filter_map(|(name, json)| Some((json, wanted.slot(name)?))));
        let own = ["prefix", "action", "src_mac", "dst_mac"].map(|name| wanted.slot(name));
        with_envelope(&wanted, Message { keys, flags, json: json.ok(), own, offset_ms: wanted.offset_ms })
    }
}

struct Message {
    keys: Keys<SlotId>,
    flags: Keys<SlotId>,
    /// `None` cannot happen: the paths are those above. A test holds that.
    json: Option<Paths>,
    /// `prefix`, `action`, `src_mac`, `dst_mac`.
    own: [Option<SlotId>; 4],
    offset_ms: i64,
}

/// Where `IN=` stands: the first that the name of an interface and ` OUT=` follow.
fn packet(text: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(text, b"IN=").find(|at| {
        let name = text[at + 3..].iter().take(32).take_while(|byte| **byte != b' ').count();
        text[at + 3 + name..].starts_with(b" OUT=")
    })
}

impl MessageDecoder for Message {
    fn message(&mut self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        self.headed(&Header::default(), 0, message, row)
    }

    fn headed(&mut self, header: &Header, start: usize, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        let bytes = row.bytes();
        let text = message.of(bytes);
        if text.first() == Some(&b'{') {
            return self.json(message, row);
        }
        let at = packet(text).ok_or(Flaw::Malformed)?;
        let (from, packet) = (message.start as usize, message.start as usize + at);
        let mut prefix = prefix(bytes, from, packet);
        let tag = Span::new(header.app.start as usize + start, header.app.end as usize + start);
        if prefix.is_empty() && !matches!(tag.of(bytes), b"kernel" | b"ulogd" | b"ulogd2") {
            prefix = tag;
        }
        self.set_prefix(prefix, row);
        self.tokens(bytes, packet, message.end as usize, row);
        Ok(())
    }
}

impl Message {
    fn json(&self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        let bytes = row.bytes();
        let (start, text) = (message.start as usize, message.of(bytes));
        let scanned = self.json.as_ref().map_or(Err(Flaw::Malformed), |paths| paths.scan(row, message));
        if let Some(found) = json_text(text, b"\"oob.prefix\"") {
            self.set_prefix(prefix(bytes, start + found.start, start + found.end), row);
        }
        if let Some(found) = json_text(text, b"\"timestamp\"") {
            let time = &text[found];
            let has_zone = time.get(19..).is_some_and(|rest| rest.iter().any(|byte| matches!(byte, b'Z' | b'+' | b'-')));
            if let Some(ms) = clock::rfc3339_ms(time) {
                row.set_time_ms(if has_zone { ms } else { ms - self.offset_ms });
            }
        }
        scanned.map(|_| ())
    }

    fn set_prefix(&self, prefix: Span, row: &mut Row<'_>) {
        let [prefix_slot, action_slot, ..] = self.own;
        if prefix.is_empty() {
            return;
        }
        if let Some(slot) = prefix_slot {
            row.set_text(slot, prefix);
        }
        let text = prefix.of(row.bytes());
        let word =
            |at: usize| ACTIONS.iter().find(|word| text[at..].get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word)));
        let found = action_slot.and_then(|slot| (0..text.len()).find_map(|at| Some((slot, at, word(at)?.len()))));
        if let Some((slot, at, len)) = found {
            let start = prefix.start as usize + at;
            row.set_text(slot, Span::new(start, start + len));
        }
    }

    /// The words of `bytes[at..end]`: `KEY=value` or a flag. What an ICMP error quotes begins with a bracket.
    fn tokens(&self, bytes: &[u8], mut at: usize, end: usize, row: &mut Row<'_>) {
        while at < end {
            let len = memchr::memchr(b' ', &bytes[at..end]).unwrap_or(end - at);
            let token = &bytes[at..at + len];
            match memchr::memchr(b'=', token) {
                _ if token.first() == Some(&b'[') => return,
                Some(equals) => {
                    let value = Span::new(at + equals + 1, at + len);
                    if let Some(slot) = self.keys.find(&token[..equals])
                        && row.value(slot) == Value::Missing
                        && !value.is_empty()
                    {
                        row.set_text(slot, value);
                    }
                    if token.starts_with(b"MAC=") {
                        self.set_macs(value, row);
                    }
                }
                None => {
                    if let Some(slot) = self.flags.find(token) {
                        row.set_written(slot, Kind::Number, |out| out.push(b'1'));
                    }
                }
            }
            at += len + 1;
        }
    }

    /// `destination:source:type`, 6, 6 and 2 bytes in hexadecimal; other links have other lengths.
    fn set_macs(&self, value: Span, row: &mut Row<'_>) {
        const ETHERNET_LEN: usize = 41;
        let [.., source, destination] = self.own;
        let start = value.start as usize;
        if value.len() != ETHERNET_LEN {
            return;
        }
        for (slot, at) in [(destination, start), (source, start + 18)] {
            if let Some(slot) = slot {
                row.set_text(slot, Span::new(at, at + 17));
            }
        }
    }
}

/// What the rule wrote: the kernel's time in front and blanks and a colon behind are not part of it.
fn prefix(bytes: &[u8], from: usize, to: usize) -> Span {
    let mut from = from.max(to.saturating_sub(PREFIX_BYTES_MAX));
    if let [b'[', rest @ ..] = &bytes[from..to]
        && let Some(close) = memchr::memchr(b']', rest)
        && rest[..close].iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b' ' | b'.'))
    {
        from += close + 2;
    }
    let text = &bytes[from..to];
    let front = text.iter().take_while(|byte| **byte == b' ').count();
    let back = text[front..].iter().rev().take_while(|byte| matches!(byte, b' ' | b':')).count();
    Span::new(from + front, to - back)
}

/// The inside of the first text behind a key of a JSON object, if it has no escapes. Two fields that
/// `ulogd2` writes without nesting need more than a copy, and the slots of a row are only those wanted.
fn json_text(text: &[u8], quoted_key: &[u8]) -> Option<Range<usize>> {
    let mut at = memchr::memmem::find(text, quoted_key)? + quoted_key.len();
    let gap = text[at..].iter().take_while(|byte| matches!(byte, b':' | b' ')).count();
    at += gap;
    let inside = text.get(at..)?.strip_prefix(b"\"")?;
    let len = memchr::memchr2(b'"', b'\\', inside)?;
    (inside[len] == b'"').then_some(at + 1..at + 1 + len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::testing::{self, Case};

    const CASES: &[Case<'_>] = &[
        (
            // ulogd2 2.0.8, LOGEMU.
            "Nov 21 21:26:12 vm FW-DROP  IN=vB OUT= MAC=12:25:44:67:26:39:62:df:84:47:f7:3a:08:00 SRC=10.77.0.1 DST=10.77.0.2 LEN=60 TOS=00 \
             PREC=0x00 TTL=64 ID=41987 DF PROTO=TCP SPT=54960 DPT=22 SEQ=151375664 ACK=0 WINDOW=64240 SYN URGP=0 MARK=0x0 ",
            &[
                ("host.hostname", "vm"),
                ("rule.name", "FW-DROP"),
                ("event.action", "drop"),
                ("event.outcome", "failure"),
                ("observer.ingress.interface.name", "vB"),
                ("observer.egress.interface.name", ""),
                ("destination.mac", "12:25:44:67:26:39"),
                ("source.mac", "62:df:84:47:f7:3a"),
                ("source.ip", "10.77.0.1"),
                ("source.port", "54960"),
                ("destination.ip", "10.77.0.2"),
                ("destination.port", "22"),
                ("network.transport", "tcp"),
                ("network.bytes", "60"),
                ("network.packet.ttl", "64"),
                ("tcp.syn", "1"),
                ("tcp.ack", ""),
                ("%native.ACK", "0"),
                ("%native.WINDOW", "64240"),
            ],
        ),
        (
            // The same rule's packet in ulogd2's JSON.
            "{\"timestamp\": \"2026-11-21T21:26:12.882300\", \"dvc\": \"Netfilter\", \"raw.pktlen\": 60, \"oob.prefix\": \"FW-DROP \", \
             \"oob.time.sec\": 1795296372, \"oob.mark\": 0, \"oob.hook\": 1, \"ip.protocol\": 6, \"ip.ttl\": 64, \"ip.totlen\": 60, \
             \"src_port\": 54960, \"dest_port\": 22, \"tcp.seq\": 151375664, \"tcp.ackseq\": 0, \"tcp.window\": 64240, \"tcp.urg\": 0, \
             \"tcp.ack\": 0, \"tcp.psh\": 0, \"tcp.rst\": 0, \"tcp.syn\": 1, \"tcp.fin\": 0, \"oob.in\": \"vB\", \"oob.out\": \"\", \
             \"src_ip\": \"10.77.0.1\", \"dest_ip\": \"10.77.0.2\"}",
            &[
                ("rule.name", "FW-DROP"),
                ("event.action", "drop"),
                ("source.ip", "10.77.0.1"),
                ("source.port", "54960"),
                ("destination.port", "22"),
                ("network.transport", "tcp"),
                ("observer.ingress.interface.name", "vB"),
                ("tcp.syn", "1"),
                ("tcp.ack", "0"),
                ("tcp.fin", "0"),
                ("tcp.rst", "0"),
                ("%native.ACK", "0"),
            ],
        ),
        (
            "<4>Nov 21 08:00:00 gw kernel: [12345.678901] [UFW BLOCK] IN=eth0 OUT= MAC= SRC=198.51.100.23 DST=203.0.113.10 LEN=40 TOS=0x00 \
             PREC=0x00 TTL=247 ID=54321 PROTO=UDP SPT=5353 DPT=53 LEN=20",
            &[
                ("rule.name", "[UFW BLOCK]"),
                ("event.action", "block"),
                ("network.bytes", "40"),
                ("source.mac", ""),
                ("log.syslog.appname", "kernel"),
                ("event.kind", "event"),
                ("event.category", "network"),
                ("observer.vendor", "Linux"),
            ],
        ),
        (
            // Prefixes with `=`, without a blank behind them, and as the tag of a LOGEMU line.
            "<4>[  77.1] chain=input DROPIN=br0 OUT=eth1 PHYSIN=vnet0 SRC=fe80::1 DST=ff02::fb LEN=100 TC=0 HOPLIMIT=255 FLOWLBL=7 PROTO=ICMPv6 \
             TYPE=135 CODE=0 UID=1000",
            &[
                ("rule.name", "chain=input DROP"),
                ("observer.ingress.interface.name", "br0"),
                ("observer.egress.interface.name", "eth1"),
                ("%native.PHYSIN", "vnet0"),
                ("network.transport", "ipv6-icmp"),
                ("network.packet.ttl", "255"),
                ("icmp.type", "135"),
                ("icmp.code", "0"),
                ("user.id", "1000"),
                ("source.ip", "fe80::1"),
            ],
        ),
        (
            "Nov 21 21:26:12 vm FW-ACCEPT: IN=lo OUT= SRC=127.0.0.1 DST=127.0.0.1 PROTO=ICMP TYPE=3 CODE=3 [SRC=1.1.1.1 DST=2.2.2.2 PROTO=UDP \
             SPT=9 DPT=10 ] MARK=0x1",
            &[
                ("rule.name", "FW-ACCEPT"),
                ("event.action", "accept"),
                ("event.outcome", "success"),
                ("source.ip", "127.0.0.1"),
                ("source.port", ""),
                ("network.transport", "icmp"),
            ],
        ),
        ("IN=eth0 OUT= SRC=1.1.1.1 DST=2.2.2.2 PROTO=TCP SPT=1 DPT=2 ACK FIN", &[("rule.name", ""), ("tcp.ack", "1"), ("tcp.fin", "1")]),
    ];

    fn lines() -> impl Iterator<Item = &'static str> {
        CASES.iter().map(|(line, _)| *line).chain([Netfilter.sample()])
    }

    #[test]
    fn real_lines_give_their_fields() {
        testing::check(&Netfilter, CASES);
        testing::check_every_name_is_filled(&Netfilter, lines(), &[]);
        testing::check_sniffed(&Netfilter, lines());
    }

    #[test]
    fn broken_lines_never_panic() {
        testing::check_broken_lines(&Netfilter, lines());
    }

    #[test]
    fn times_come_from_the_header_or_from_json() {
        let ms = |line: &str| testing::decode(&Netfilter, &[], line).time_ms;
        assert_eq!(ms(CASES[0].0), 1_795_296_372_000);
        assert_eq!(ms(CASES[1].0), 1_795_296_372_882);
        assert_eq!(ms("{\"timestamp\": \"2026-11-21T22:26:12.882300+0100\", \"oob.in\": \"\"}"), 1_795_296_372_882);
    }

    #[test]
    fn what_is_no_packet_is_malformed_and_what_is_cut_is_kept() {
        assert_eq!(testing::decode(&Netfilter, &["source.ip"], "LOGIN=bob OUT OF MEMORY SRC=1.1.1.1").flaw, Some(Flaw::Malformed));
        let cut = testing::decode(&Netfilter, &["source.ip"], "{\"oob.in\": \"a\", \"src_ip\": \"1.1.1.1\", \"dest_ip");
        assert_eq!((cut.field("source.ip"), cut.flaw), ("1.1.1.1", Some(Flaw::Truncated)));
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "says why nothing was tested")]
    fn the_real_logs_are_read_whole() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/samples");
        for file in ["nftables-ulogd2-syslogemu.log", "nftables-ulogd2.jsonl"] {
            let Ok(text) = std::fs::read_to_string(folder.join(file)) else {
                eprintln!("skipped: {file} is not beside this repository");
                continue;
            };
            for line in text.lines() {
                let decoded = testing::decode(&Netfilter, &["source.ip", "destination.port", "rule.name", "event.action"], line);
                assert_eq!((decoded.fields.len(), decoded.flaw), (4, None), "{line}");
            }
        }
    }
}
