//! `fortigate`: FortiOS logs as `key=value`, default and CSV syslog format.
//!
//! Field names and log ids: FortiOS Log Message Reference (6.x to 7.6). Native fields are the names in the
//! line (`srcip`, `logid`, `cfgpath`), so any name may be asked for. Texts stand in quotes, in which `\"` and
//! `\\` are escapes; numbers and addresses have none.
//!
//! What real appliances and relays do:
//!
//! * `<PRI>date=...` without any header is what the appliance sends itself; relays put RFC 3164 in front.
//! * `eventtime` is in ns since FortiOS 6.2, in s before, and us and ms have been seen: its length tells. It
//!   is kept as written (19 digits do not fit a double). Without it the time is `date`, `time` and `tz`;
//!   without `tz` the source's offset counts.
//! * `N/A` and `(null)` stand for no value, and are no value here.
//! * Of repeated keys the first counts: the device's own fields come first, and what an attacker can write
//!   (URLs, user agents) comes late.
//! * A quote that is not escaped inside a text ends it only if a separator follows.
//!
//! A line that ends inside quotes is [`Flaw::Truncated`] and keeps what was read, the cut text included; one
//! without a pair is [`Flaw::Malformed`]. FortiGate's CEF format is decoder `cef`.

use super::pairs::{self, Found, Keys};
use super::{Decoder, DecoderKind, MessageDecoder, Wanted, body, with_envelope};
use crate::clock;
use crate::event::{Flaw, Row, SlotId, Span};

pub(super) struct Fortigate;

impl DecoderKind for Fortigate {
    fn name(&self) -> &'static str {
        "fortigate"
    }

    fn sample(&self) -> &'static str {
        "<189>date=2026-11-21 time=08:00:00 devname=\"FGT 01\" devid=\"FG100FTK20000001\" eventtime=1795248000123456789 tz=\"+0000\" \
         logid=\"0000000013\" type=\"traffic\" subtype=\"forward\" level=\"notice\" vd=\"root\" srcip=10.1.100.11 srcport=58012 \
         srcintf=\"port12\" srcintfrole=\"lan\" dstip=93.184.216.34 dstport=443 dstintf=\"wan1\" dstintfrole=\"wan\" sessionid=105048 \
         proto=6 action=\"close\" policyid=1 policytype=\"policy\" service=\"HTTPS\" trandisp=\"snat\" transip=203.0.113.7 transport=58012 \
         duration=116 sentbyte=1188 rcvdbyte=1224 sentpkt=17 rcvdpkt=16"
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/fortigate.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        None
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        let body = body(frame);
        let head = &body[..body.len().min(512)];
        let has = |text: &str| memchr::memmem::find(head, text.as_bytes()).is_some();
        let begins = |key: &str| head.starts_with(key.as_bytes());
        let is_log = (begins("date=") || begins("itime=") || begins("logver=") || begins("devname=") || begins("timestamp="))
            && has("logid=")
            && has("type=");
        is_log.then_some("pairs that begin with the date and hold a FortiOS `logid`")
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let own = [("eventtime", Part::EventTime), ("date", Part::Date), ("time", Part::Time), ("tz", Part::Zone)];
        let own_keys = own.iter().map(|(key, part)| (*key, Use { slot: wanted.slot(key), part: Some(*part) }));
        let others = wanted.natives.iter().map(|(key, slot)| (key.as_str(), Use { slot: Some(*slot), part: None }));
        let keys = Keys::new(own_keys.chain(others));
        with_envelope(&wanted, Message { keys, offset_ms: wanted.offset_ms })
    }
}

/// A key that the decoder reads itself.
#[derive(Clone, Copy, Debug)]
enum Part {
    EventTime,
    Date,
    Time,
    Zone,
}

#[derive(Clone, Copy, Debug)]
struct Use {
    slot: Option<SlotId>,
    part: Option<Part>,
}

struct Message {
    keys: Keys<Use>,
    offset_ms: i64,
}

/// Where the parts of the time stand; the first of each counts.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    event_ms: Option<i64>,
    date: Option<Span>,
    time: Option<Span>,
    zone: Option<Span>,
}

impl MessageDecoder for Message {
    fn message(&mut self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        let bytes = row.bytes();
        let mut times = Times::default();
        let walked = pairs::scan(bytes, message, &self.keys, |wanted, found| {
            let text = found.span.of(bytes);
            match wanted.part {
                Some(Part::EventTime) => times.event_ms = times.event_ms.or_else(|| clock::epoch_ms(text)),
                Some(Part::Date) => times.date = times.date.or(Some(found.span)),
                Some(Part::Time) => times.time = times.time.or(Some(found.span)),
                Some(Part::Zone) => times.zone = times.zone.or(Some(found.span)),
                None => {}
            }
            if let Some(slot) = wanted.slot {
                set(row, slot, found);
            }
        });
        if let Some(ms) = times.ms(bytes, self.offset_ms) {
            row.set_time_ms(ms);
        }
        match walked.keys {
            0 => Err(Flaw::Malformed),
            _ if walked.open => Err(Flaw::Truncated),
            _ => Ok(()),
        }
    }
}

impl Times {
    fn ms(self, bytes: &[u8], offset_ms: i64) -> Option<i64> {
        if self.event_ms.is_some() {
            return self.event_ms;
        }
        let (date, time) = (self.date?.of(bytes), self.time?.of(bytes));
        let zone = self.zone.map_or(&[][..], |zone| zone.of(bytes));
        // `2026-11-21T08:00:00+0000`
        let mut text = [b'T'; 24];
        text[..10].copy_from_slice(date.get(..10)?);
        text[11..19].copy_from_slice(time.get(..8)?);
        match zone.first_chunk::<5>() {
            Some(zone) => {
                text[19..].copy_from_slice(zone);
                clock::rfc3339_ms(&text)
            }
            None => Some(clock::rfc3339_ms(&text[..19])? - offset_ms),
        }
    }
}

fn set(row: &mut Row<'_>, slot: SlotId, found: Found) {
    if matches!(found.span.of(row.bytes()), b"N/A" | b"(null)") {
        return;
    }
    let escapes: fn(u8) -> Option<u8> = |byte| matches!(byte, b'"' | b'\\').then_some(byte);
    pairs::set_first(row, slot, found.span, found.quoted.then_some(escapes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::testing::{self, Case};
    use crate::traffic::{Kind, Traffic};

    const CASES: &[Case<'_>] = &[
        (
            "<188>date=2026-11-21 time=12:17:48 devname=\"FGT-HQ-2\" devid=\"FGT60F0000000002\" logid=\"0316013056\" type=\"utm\" \
             subtype=\"webfilter\" eventtype=\"ftgd_blk\" level=\"warning\" vd=\"root\" eventtime=1795240269052907555 tz=\"-0500\" \
             policyid=100602 sessionid=1234 user=\"jdoe\" group=\"staff\" srcip=10.20.2.1 srcport=61930 srcintf=\"port1\" \
             srcintfrole=\"lan\" dstip=198.51.100.13 dstport=443 dstintf=\"wan1\" dstintfrole=\"wan\" proto=6 service=\"HTTPS\" \
             hostname=\"shop.example\" profile=\"web-default\" action=\"blocked\" url=\"/config/\" sentbyte=1152 rcvdbyte=1130 \
             direction=\"outgoing\" msg=\"URL belongs to a denied category in policy\" method=\"domain\" cat=76 catdesc=\"Internet Telephony\"",
            &[
                ("source.ip", "10.20.2.1"),
                ("source.port", "61930"),
                ("source.bytes", "1152"),
                ("source.user.name", "jdoe"),
                ("source.user.group.name", "staff"),
                ("user.group.name", "staff"),
                ("destination.ip", "198.51.100.13"),
                ("destination.domain", "shop.example"),
                ("destination.bytes", "1130"),
                ("network.transport", "tcp"),
                ("network.iana_number", "6"),
                ("network.direction", "outbound"),
                ("network.protocol", "HTTPS"),
                ("event.outcome", "failure"),
                ("event.category", "web"),
                ("event.kind", "event"),
                ("event.code", "0316013056"),
                ("observer.name", "FGT-HQ-2"),
                ("observer.ingress.interface.name", "port1"),
                ("observer.ingress.zone", "lan"),
                ("rule.name", "web-default"),
                ("rule.category", "Internet Telephony"),
                ("url.original", "/config/"),
                ("url.domain", "shop.example"),
                ("event.timezone", "-0500"),
                ("log.syslog.priority", "188"),
                ("fortinet.firewall.eventtime", "1795240269052907555"),
                ("%native.msg", "URL belongs to a denied category in policy"),
                ("eventtype", "ftgd_blk"),
            ],
        ),
        (
            // A blank in the name, quotes with escapes, an RFC 3164 header in front.
            "<185>Mar 31 07:48:26 relay date=2026-03-31 time=07:48:26 devname=\"MY DEV 01\" devid=\"FG1\" eventtime=1773733509096718719 \
             tz=\"-0500\" logid=\"0419016384\" type=\"utm\" subtype=\"ips\" severity=\"high\" srcip=10.11.12.1 dstip=10.7.1.5 action=\"detected\" \
             attack=\"HTTP.X-Forwarded-For.Header.XSS\" attackid=55823 url=\"/?sample=1&x=y z=\" agent=\"curl/7.47.0\" httpmethod=\"GET\" \
             ref=\"http://www.fortinet.com/ids/VID55823\" user=\"CORP\\\\bob\" forwardedfor=\"a.xff\\\"></script>\" crlevel=\"high\"",
            &[
                ("observer.name", "MY DEV 01"),
                ("host.hostname", "relay"),
                ("threat.indicator.name", "HTTP.X-Forwarded-For.Header.XSS"),
                ("threat.indicator.id", "55823"),
                ("threat.indicator.reference", "http://www.fortinet.com/ids/VID55823"),
                ("vulnerability.severity", "high"),
                ("event.severity_name", "high"),
                ("event.kind", "alert"),
                ("url.original", "/?sample=1&x=y z="),
                ("z", ""),
                ("user_agent.original", "curl/7.47.0"),
                ("http.request.method", "GET"),
                ("forwardedfor", "a.xff\"></script>"),
                ("user.name", "CORP\\bob"),
            ],
        ),
        (
            "date=2019-05-10 time=11:37:47 logid=\"0000000013\" type=\"traffic\" subtype=\"forward\" level=\"notice\" vd=\"vdom1\" \
             eventtime=1795513467369913239 srcip=10.1.100.11 srcport=58012 srcintf=\"port12\" dstip=198.51.100.42 dstport=80 \
             dstintf=\"port11\" dstintfrole=\"undefined\" poluuid=\"0f1e2d3c-5735-51e9-a218-a397dd08b7eb\" sessionid=105048 proto=17 \
             action=\"close\" policyid=1 policytype=\"policy\" policyname=\"out\" service=\"HTTP\" dstcountry=\"Canada\" srccountry=\"Reserved\" \
             trandisp=\"snat\" transip=172.16.200.2 transport=58012 tranip=9.9.9.9 tranport=99 app=\"HTTP.BROWSER_Firefox\" \
             appcat=\"Web.Client\" duration=116 sentbyte=1188 rcvdbyte=1224 sentpkt=17 rcvdpkt=16 osname=\"Ubuntu\" \
             mastersrcmac=\"02:00:00:ec:40:01\" srcmac=\"02:00:00:ec:40:01\" dstmac=\"02:00:00:ec:40:02\" srcname=\"pc1\" vlanid=7",
            &[
                ("source.nat.ip", "172.16.200.2"),
                ("source.nat.port", "58012"),
                ("destination.nat.ip", "9.9.9.9"),
                ("destination.nat.port", "99"),
                ("source.geo.country_name", "Reserved"),
                ("destination.geo.country_name", "Canada"),
                ("source.packets", "17"),
                ("destination.packets", "16"),
                ("source.mac", "02:00:00:ec:40:01"),
                ("destination.mac", "02:00:00:ec:40:02"),
                ("source.domain", "pc1"),
                ("network.transport", "udp"),
                ("network.application", "HTTP.BROWSER_Firefox"),
                ("network.vlan.id", "7"),
                ("event.duration_s", "116"),
                ("event.outcome", "success"),
                ("event.category", "network"),
                ("rule.id", "1"),
                ("rule.name", "out"),
                ("rule.uuid", "0f1e2d3c-5735-51e9-a218-a397dd08b7eb"),
                ("rule.ruleset", "policy"),
                ("host.os.name", "Ubuntu"),
                ("log.level", "notice"),
                ("fortinet.firewall.sessionid", "105048"),
                ("fortinet.firewall.vd", "vdom1"),
                ("fortinet.firewall.type", "traffic"),
                ("fortinet.firewall.subtype", "forward"),
            ],
        ),
        (
            "<189>date=2026-11-21 time=12:17:29 devname=\"t\" devid=\"x\" logid=\"1501054802\" type=\"utm\" subtype=\"dns\" \
             eventtype=\"dns-response\" srcip=10.20.2.1 profile=\"test\" xid=2234 qname=\"www.shop.example\" qtype=\"A\" qtypeval=1 \
             qclass=\"IN\" ipaddr=\"198.51.100.13, 198.51.100.14\" action=\"pass\"",
            &[
                ("dns.id", "2234"),
                ("dns.question.name", "www.shop.example"),
                ("dns.question.type", "A"),
                ("dns.question.class", "IN"),
                ("dns.resolved_ip", "198.51.100.13, 198.51.100.14"),
                ("event.outcome", "success"),
            ],
        ),
        (
            // `N/A` is no value; the login's status counts, not its action.
            "date=2019-05-13 time=11:20:54 logid=\"0100032002\" type=\"event\" subtype=\"system\" logdesc=\"Admin login failed\" sn=\"155\" \
             user=\"admin\" ui=\"ssh(172.16.200.254)\" srcip=172.16.200.254 dstip=172.16.200.2 action=\"login\" status=\"failed\" group=\"N/A\" \
             assignip=N/A tunnelip=(null) cfgpath=\"system.admin\" cfgobj=\"x\" cfgattr=\"password[*]\" dstuser=\"d\"",
            &[
                ("event.outcome", "failure"),
                ("event.reason", "Admin login failed"),
                ("event.category", "configuration"),
                ("user.name", "admin"),
                ("user.group.name", ""),
                ("source.nat.ip", ""),
                ("observer.serial_number", "155"),
                ("fortinet.firewall.ui", "ssh(172.16.200.254)"),
                ("fortinet.firewall.cfgpath", "system.admin"),
                ("fortinet.firewall.cfgobj", "x"),
                ("fortinet.firewall.cfgattr", "password[*]"),
                ("destination.user.name", "d"),
                ("cfgpath", "system.admin"),
            ],
        ),
        (
            // Of repeated keys the first counts; the CSV format has commas.
            "date=2019-05-13,time=11:20:54,logid=\"0211008192\",type=\"utm\",subtype=\"virus\",srcip=1.1.1.1,srcip=2.2.2.2,filename=\"a,b.exe\",\
             filesize=99,filehash=\"ab12\",virus=\"EICAR\",virusid=2,from=\"a@x\",to=\"b@y\",subject=\"re: hi\",referralurl=\"http://r/\",\
             scertcname=\"c\",scertissuer=\"i\"",
            &[
                ("source.ip", "1.1.1.1"),
                ("file.name", "a,b.exe"),
                ("file.size", "99"),
                ("file.hash.sha256", "ab12"),
                ("threat.indicator.name", "EICAR"),
                ("email.from.address", "a@x"),
                ("email.to.address", "b@y"),
                ("email.subject", "re: hi"),
                ("http.request.referrer", "http://r/"),
                ("tls.server.x509.subject.common_name", "c"),
                ("tls.server.x509.issuer.common_name", "i"),
                ("event.category", "malware"),
            ],
        ),
    ];

    fn lines() -> impl Iterator<Item = &'static str> {
        CASES.iter().map(|(line, _)| *line).chain([Fortigate.sample()])
    }

    #[test]
    fn real_lines_give_their_fields() {
        testing::check(&Fortigate, CASES);
        testing::check_every_name_is_filled(&Fortigate, lines(), &[]);
        testing::check_sniffed(&Fortigate, lines());
    }

    #[test]
    fn broken_lines_never_panic() {
        testing::check_broken_lines(&Fortigate, lines());
    }

    #[test]
    fn the_time_is_read_in_every_form_that_versions_write() {
        let ms = |pairs: &str| testing::decode(&Fortigate, &[], &format!("{pairs} logid=\"1\" type=\"event\"")).time_ms;
        for time in ["1795248000", "1795248000123", "1795248000123456", "1795248000123456789"] {
            assert_eq!(ms(&format!("date=2001-01-01 time=00:00:00 eventtime={time}")) / 1000, 1_795_248_000, "{time}");
        }
        assert_eq!(ms("date=2026-11-21 time=10:00:00 tz=\"+0200\""), 1_795_248_000_000);
        assert_eq!(ms("date=2026-11-21 time=08:00:00"), 1_795_248_000_000);
        assert_eq!(ms("date=2026-13-41 time=08:00:00 tz=\"+0200\" eventtime=soon"), testing::RECEIVED_MS);
        assert_eq!(ms("<189>Nov 21 07:00:00 relay date=2026-11-21 time=08:00:00 tz=\"+0000\""), 1_795_248_000_000);
    }

    #[test]
    fn a_cut_line_keeps_what_was_read() {
        let decoded = testing::decode(&Fortigate, &["source.ip", "%native.msg"], "<189>date=2026-11-21 srcip=1.2.3.4 msg=\"cut he");
        assert_eq!((decoded.field("source.ip"), decoded.field("%native.msg"), decoded.flaw), ("1.2.3.4", "cut he", Some(Flaw::Truncated)));
        assert_eq!(testing::decode(&Fortigate, &["source.ip"], "no pairs at all").flaw, Some(Flaw::Malformed));
    }

    #[test]
    fn all_generated_traffic_is_read_without_a_flaw() {
        let mut traffic = Traffic::new(Kind::Fortigate, 3);
        let bench = testing::Bench::of_everything(&Fortigate);
        for number in 0..2_000 {
            let mut line = Vec::new();
            traffic.next(testing::RECEIVED_MS + number, &mut line);
            let decoded = bench.decode(&line);
            assert_eq!((decoded.flaw, decoded.time_ms), (None, testing::RECEIVED_MS + number));
            assert!(!decoded.field("source.ip").is_empty() && !decoded.field("event.code").is_empty());
            assert!(Fortigate.sniff(&line).is_some());
        }
    }
}
