//! `key_value`: pairs of any sender: logfmt, `key=value, key="value"`, `key=value;`.
//!
//! There is no one description. Understood are the forms of <https://brandur.org/logfmt> and what firewalls
//! of other vendors send (SonicWall, Sophos, Check Point's `syslog` format with `;`, WatchGuard): pairs
//! separated by blanks, tabs, commas or semicolons, values with or without double quotes, with the escapes
//! `\"`, `\\`, `\n`, `\r` and `\t` inside them. Words that are no pair are passed over.
//!
//! Native fields are the keys as written; no name is known beforehand, so the schema map holds the names that
//! several vendors share. Of repeated keys the first counts. The event's time is the header's, else the first
//! of `time`, `ts`, `timestamp`, `eventtime` that reads as RFC 3339 or as digits since 1970.
//!
//! A line that ends inside quotes is [`Flaw::Truncated`] and keeps what was read; one without a pair is
//! [`Flaw::Malformed`]. Not supported: keys with blanks, single quotes, `key: value`.

use super::pairs::{self, Keys};
use super::{Decoder, DecoderKind, MessageDecoder, Wanted, body, with_envelope};
use crate::clock;
use crate::envelope::Header;
use crate::event::{Flaw, Row, SlotId, Span};

pub(super) struct KeyValue;

/// Pairs that a line needs at its start to be taken for this format.
const SNIFF_PAIRS: usize = 3;

const TIMES: [&str; 4] = ["time", "ts", "timestamp", "eventtime"];

impl DecoderKind for KeyValue {
    fn name(&self) -> &'static str {
        "key_value"
    }

    fn sample(&self) -> &'static str {
        "<134>id=firewall sn=0017C5991784 time=\"2026-11-21T08:00:00Z\" fw=203.0.113.7 pri=6 c=262144 m=98 msg=\"Connection Opened\" \
         src=10.0.0.7 dst=192.0.2.9 srcport=52115 dstport=443 proto=tcp action=allow user=\"corp\\\\asmith\""
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/key_value.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        None
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        let body = body(frame);
        let head = &body[..body.len().min(256)];
        let mut words = head.split(|byte| matches!(byte, b' ' | b',' | b';')).filter(|word| !word.is_empty());
        let is_pair = |word: &[u8]| {
            let key = word.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')).count();
            key > 0 && word.get(key) == Some(&b'=')
        };
        let first = words.next().is_some_and(is_pair);
        (first && words.filter(|word| is_pair(word)).count() + 1 >= SNIFF_PAIRS).then_some("a pair `key=value` in front and more behind")
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let times = TIMES.iter().map(|key| (*key, Use { slot: wanted.slot(key), is_time: true }));
        let others = wanted.natives.iter().map(|(key, slot)| (key.as_str(), Use { slot: Some(*slot), is_time: false }));
        let keys = Keys::new(times.chain(others));
        with_envelope(&wanted, Message { keys })
    }
}

#[derive(Clone, Copy, Debug)]
struct Use {
    slot: Option<SlotId>,
    is_time: bool,
}

struct Message {
    keys: Keys<Use>,
}

impl MessageDecoder for Message {
    fn message(&mut self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        self.headed(&Header::default(), 0, message, row)
    }

    fn headed(&mut self, header: &Header, _start: usize, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        let bytes = row.bytes();
        let mut time_ms = header.time_ms;
        let walked = pairs::scan(bytes, message, &self.keys, |wanted, found| {
            if wanted.is_time && time_ms.is_none() {
                let text = found.span.of(bytes);
                time_ms = clock::rfc3339_ms(text).or_else(|| clock::epoch_ms(text).filter(|_| text.len() >= 10));
                if let Some(ms) = time_ms {
                    row.set_time_ms(ms);
                }
            }
            if let Some(slot) = wanted.slot {
                pairs::set_first(row, slot, found.span, found.quoted.then_some(escape));
            }
        });
        match walked.keys {
            0 => Err(Flaw::Malformed),
            _ if walked.open => Err(Flaw::Truncated),
            _ => Ok(()),
        }
    }
}

fn escape(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::testing::{self, Case};

    const CASES: &[Case<'_>] = &[
        (
            // Sophos.
            "<30>device=\"SFW\" date=2026-11-21 time=08:00:00 timezone=\"UTC\" device_name=\"XG 210\" device_id=C44313350024-P29PUA \
             log_id=010101600001 log_type=\"Firewall\" log_subtype=\"Denied\" status=\"Deny\" priority=Information duration=0 fw_rule_id=25 \
             policyid=3 user_name=\"gaurav\" src_mac=11:11:11:11:11:11 src_ip=10.198.47.71 dst_ip=8.8.8.8 protocol=\"ICMP\" src_port=8 dst_port=0 \
             sent_bytes=84 recv_bytes=0",
            &[
                ("observer.name", "XG 210"),
                ("observer.serial_number", "C44313350024-P29PUA"),
                ("event.code", "010101600001"),
                ("event.action", "Denied"),
                ("event.outcome", "failure"),
                ("event.duration_s", "0"),
                ("rule.id", "25"),
                ("user.name", "gaurav"),
                ("source.ip", "10.198.47.71"),
                ("source.mac", "11:11:11:11:11:11"),
                ("source.port", "8"),
                ("source.bytes", "84"),
                ("destination.ip", "8.8.8.8"),
                ("destination.bytes", "0"),
                ("network.transport", "icmp"),
                ("log_type", "Firewall"),
            ],
        ),
        (
            // logfmt.
            "level=info msg=\"say \\\"hi\\\"\\tnow\" method=GET url=/a?b=c status_code=200 user_agent=\"curl/8\" error=\"\" err=none \
             dst_mac=aa app=web rule=r reason=x dport=443",
            &[
                ("log.level", "info"),
                ("%native.msg", "say \"hi\"\tnow"),
                ("url.original", "/a?b=c"),
                ("http.response.status_code", "200"),
                ("http.request.method", "GET"),
                ("user_agent.original", "curl/8"),
                ("error.message", "none"),
                ("destination.mac", "aa"),
                ("destination.port", "443"),
                ("network.application", "web"),
                ("rule.name", "r"),
                ("event.reason", "x"),
            ],
        ),
        ("time=1795248000|x action=\"drop\"; src=\"1.1.1.1\"; proto=\"6\"", &[("source.ip", "1.1.1.1"), ("network.transport", "tcp")]),
    ];

    fn lines() -> impl Iterator<Item = &'static str> {
        CASES.iter().map(|(line, _)| *line).chain([KeyValue.sample()])
    }

    #[test]
    fn real_lines_give_their_fields() {
        testing::check(&KeyValue, CASES);
        testing::check_every_name_is_filled(&KeyValue, lines(), &[]);
        testing::check_sniffed(&KeyValue, lines());
    }

    #[test]
    fn broken_lines_never_panic() {
        testing::check_broken_lines(&KeyValue, lines());
    }

    #[test]
    fn the_header_has_the_time_else_the_first_key_that_holds_one() {
        let ms = |line: &str| testing::decode(&KeyValue, &[], line).time_ms;
        assert_eq!(ms("time=08:00:00 ts=2026-11-21T08:00:01Z timestamp=1795248002"), 1_795_248_001_000);
        assert_eq!(ms("a=1 time=1795248002"), 1_795_248_002_000);
        assert_eq!(ms("<13>Nov 21 08:00:03 host app: a=1 time=1795248002"), 1_795_248_003_000);
    }

    #[test]
    fn text_that_is_no_pairs_is_not_claimed() {
        for line in ["<13>Nov 21 08:00:00 h sshd[1]: Failed a=1 b=2 c=3", "a=1 b=2", "=1 =2 =3", "{\"a\":\"b=1 c=2 d=3\"}", ""] {
            assert_eq!(KeyValue.sniff(line.as_bytes()), None, "{line}");
        }
        assert_eq!(testing::decode(&KeyValue, &["a"], "no pair").flaw, Some(Flaw::Malformed));
        assert_eq!(testing::decode(&KeyValue, &["a"], "b=1 a=\"x").flaw, Some(Flaw::Truncated));
    }
}
