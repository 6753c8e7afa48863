//! `suricata_eve`: Suricata's EVE JSON, versions 4 to 8, all event types.
//!
//! Source: Suricata User Guide, "Eve JSON Format", and `etc/schema.json` of the project. Native fields are
//! paths. The event's time is `timestamp`, whose offset has no colon (old versions write none).
//!
//! Trap: `src_ip` and `dest_ip` are those of the packet that made the event, so that an alert on a reply has the
//! server as its source. Made here: `client.ip`, `client.port`, `server.ip`, `server.port`, the ends of the flow:
//! from `flow.src_ip` and its fellows where they are (version 7), else from the packet, turned round if
//! `direction` is `to_client`.
//!
//! Over syslog the object stands behind a header and perhaps `@cee:`. Statistics (`event_type` `stats`) have no
//! addresses. A DNS answer of version 1 has its record at the top, later ones have lists; all are read.

use super::document::{contains, document, head, written_time_ms};
use super::eve::{EndNames, Ends};
use super::{Decoder, DecoderKind, Wanted};
use crate::event::Row;

pub(super) struct SuricataEve;

const ENDS: [EndNames; 4] = [
    ["client.ip", "flow.src_ip", "src_ip", "dest_ip"],
    ["client.port", "flow.src_port", "src_port", "dest_port"],
    ["server.ip", "flow.dest_ip", "dest_ip", "src_ip"],
    ["server.port", "flow.dest_port", "dest_port", "src_port"],
];

const MADE: [&str; 4] = [ENDS[0][0], ENDS[1][0], ENDS[2][0], ENDS[3][0]];

impl DecoderKind for SuricataEve {
    fn name(&self) -> &'static str {
        "suricata_eve"
    }

    fn sample(&self) -> &'static str {
        r#"{"timestamp":"2026-11-21T08:00:00.500391+0000","flow_id":1632126111222333,"in_iface":"eth1","event_type":"alert","vlan":[440],"src_ip":"10.20.30.40","src_port":49152,"dest_ip":"198.51.100.23","dest_port":80,"proto":"TCP","ip_v":4,"pkt_src":"wire/pcap","community_id":"1:xM0g3u1WbG4c1kcQn8fJ1z2yTqA=","tx_id":0,"alert":{"action":"allowed","gid":1,"signature_id":2033077,"rev":5,"signature":"ET MALWARE Cobalt Strike Beacon Observed","category":"Malware Command and Control Activity Detected","severity":1,"metadata":{"created_at":["2021_06_02"],"mitre_tactic_id":["TA0011"],"mitre_tactic_name":["Command_And_Control"],"mitre_technique_id":["T1071"],"mitre_technique_name":["Application_Layer_Protocol"],"signature_severity":["Major"]}},"http":{"hostname":"update.example.net","http_port":80,"url":"/ca?id=1","http_user_agent":"Mozilla/4.0 (compatible; MSIE 8.0)","http_content_type":"text/html","http_method":"GET","http_refer":"http://r.example/","protocol":"HTTP/1.1","status":200,"length":48,"xff":"203.0.113.5"},"app_proto":"http","direction":"to_server","flow":{"pkts_toserver":4,"pkts_toclient":3,"bytes_toserver":617,"bytes_toclient":1207,"start":"2026-11-21T07:59:59.900000+0000","src_ip":"10.20.30.40","dest_ip":"198.51.100.23","src_port":49152,"dest_port":80}}"#
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/suricata_eve.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        None
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        let head = head(frame)?;
        let is_eve = contains(head, "\"event_type\"") && contains(head, "\"timestamp\"");
        let is_known = ["\"src_ip\"", "\"flow_id\"", "\"stats\"", "\"engine\""].iter().any(|key| contains(head, key));
        // AWS Network Firewall wraps the same object.
        (is_eve && is_known && !contains(head, "\"firewall_name\""))
            .then_some("a JSON object with event_type, timestamp and a flow, as Suricata writes it")
    }

    fn time_natives(&self) -> &'static [&'static str] {
        &["timestamp"]
    }

    fn made_from(&self, native: &str) -> &'static [&'static str] {
        match native {
            "client.ip" | "server.ip" => &["direction", "flow.src_ip", "flow.dest_ip", "src_ip", "dest_ip"],
            "client.port" | "server.port" => &["direction", "flow.src_port", "flow.dest_port", "src_port", "dest_port"],
            _ => &[],
        }
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let ends = Ends::new(&wanted, "direction", &ENDS);
        let (time, offset_ms) = (wanted.slot("timestamp"), wanted.offset_ms);
        document(&wanted, &MADE, move |row: &mut Row<'_>| {
            if let Some(ms) = time.and_then(|slot| written_time_ms(row.value(slot), offset_ms)) {
                row.set_time_ms(ms);
            }
            ends.fill(row);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::trial::{RECEIVED_MS, check, decode, never_filled, torture};
    use crate::event::Flaw;

    const REPLY: &str = r#"{"timestamp":"2026-11-21T10:00:01.000001+0200","flow_id":7,"event_type":"alert","src_ip":"198.51.100.23","src_port":80,"dest_ip":"10.20.30.40","dest_port":49152,"proto":"TCP","alert":{"action":"blocked","gid":1,"signature_id":2019284,"rev":3,"signature":"ET ATTACK_RESPONSE \"id\" output","category":"Successful Administrator Privilege Gain","severity":2},"direction":"to_client","verdict":{"action":"drop","reject-target":"to_client","reject":["tcp-reset"]}}"#;
    const DNS_V1: &str = r#"{"timestamp":"2026-11-21T08:00:00.000000+0000","flow_id":8,"event_type":"dns","src_ip":"10.0.0.53","src_port":53,"dest_ip":"10.0.0.7","dest_port":4711,"proto":"UDP","dns":{"type":"answer","id":16000,"rcode":"NOERROR","rrname":"c2.example.net","rrtype":"A","ttl":30,"rdata":"198.51.100.23"}}"#;
    const DNS_V2: &str = r#"{"timestamp":"2026-11-21T08:00:00.000000+0000","flow_id":9,"event_type":"dns","src_ip":"10.0.0.7","src_port":4711,"dest_ip":"10.0.0.53","dest_port":53,"proto":"UDP","dns":{"version":2,"type":"answer","id":16000,"flags":"8180","qr":true,"rd":true,"ra":true,"rrname":"c2.example.net","rrtype":"A","rcode":"NOERROR","answers":[{"rrname":"c2.example.net","rrtype":"A","ttl":30,"rdata":"198.51.100.23"},{"rrname":"c2.example.net","rrtype":"A","ttl":30,"rdata":"198.51.100.24"}],"grouped":{"A":["198.51.100.23","198.51.100.24"]}}}"#;
    const DNS_V3: &str = r#"{"timestamp":"2026-11-21T08:00:00.000000+0000","flow_id":9,"event_type":"dns","src_ip":"10.0.0.7","src_port":4711,"dest_ip":"10.0.0.53","dest_port":53,"proto":"UDP","dns":{"version":3,"type":"request","tx_id":0,"id":16000,"flags":"100","rd":true,"opcode":0,"rcode":"NOERROR","queries":[{"rrname":"c2.example.net","rrtype":"TXT"}]}}"#;
    const DNS_ALERT: &str = r#"{"timestamp":"2026-11-21T08:00:00.000000+0000","flow_id":9,"event_type":"alert","src_ip":"10.0.0.7","src_port":4711,"dest_ip":"10.0.0.53","dest_port":53,"proto":"UDP","alert":{"action":"allowed","signature_id":1},"dns":{"query":[{"type":"query","id":1,"rrname":"old.example.net","rrtype":"AAAA","tx_id":0}]}}"#;
    const TLS: &str = r#"{"timestamp":"2026-11-21T08:00:00.000000+0000","flow_id":10,"event_type":"tls","src_ip":"2001:db8::1","src_port":4711,"dest_ip":"2001:db8::2","dest_port":443,"proto":"TCP","host":"sensor-1","tls":{"subject":"CN=example.com","issuerdn":"C=US, O=Let's Encrypt","serial":"03:AB","fingerprint":"aa:bb","sni":"example.com","version":"TLS 1.2","notbefore":"2026-01-01T00:00:00","notafter":"2026-12-31T00:00:00","session_resumed":false,"ja3":{"hash":"e7d705a3286e19ea42f587b344ee6865","string":"771,49"},"ja3s":{"hash":"303951d4c50efb2e991652225a6f02b1"},"ja4":"t13d1516h2_8daaf6152771_2aa2e7e47aca"}}"#;
    const FLOW: &str = r#"{"timestamp":"2026-11-21T08:00:00.000000+0000","flow_id":11,"event_type":"flow","src_ip":"10.0.0.7","src_port":1,"dest_ip":"10.0.0.8","dest_port":445,"proto":"TCP","app_proto":"smb","flow":{"pkts_toserver":3,"pkts_toclient":2,"bytes_toserver":300,"bytes_toclient":200,"start":"2026-11-21T07:59:00.000000+0000","end":"2026-11-21T07:59:30.000000+0000","age":30,"state":"closed","reason":"timeout","alerted":false},"smb":{"ntlmssp":{"domain":"CORP","user":"bob","host":"PC7"}}}"#;
    const NETFLOW: &str = r#"{"timestamp":"2026-11-21T08:00:00.000000+0000","flow_id":12,"event_type":"netflow","src_ip":"10.0.0.7","dest_ip":"10.0.0.8","proto":"IPv6-ICMP","icmp_type":8,"icmp_code":0,"netflow":{"pkts":2,"bytes":200,"start":"2026-11-21T07:59:00.000000+0000","end":"2026-11-21T07:59:30.000000+0000","age":30}}"#;
    const FILE: &str = r#"{"timestamp":"2026-11-21T08:00:00.000000+0000","flow_id":13,"event_type":"fileinfo","src_ip":"10.0.0.7","src_port":80,"dest_ip":"10.0.0.8","dest_port":4711,"proto":"TCP","email":{"from":"a@example.com","to":["b@example.com"],"cc":["c@example.com"],"subject":"invoice"},"fileinfo":{"filename":"/invoice.exe","sid":[],"magic":"PE32 executable","gaps":false,"state":"CLOSED","md5":"d41d8cd98f00b204e9800998ecf8427e","sha1":"da39a3ee5e6b4b0d3255bfef95601890afd80709","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","stored":false,"size":4096,"tx_id":0}}"#;
    const ANOMALY: &str = r#"{"timestamp":"2026-11-21T08:00:00.000000+0000","flow_id":14,"event_type":"anomaly","src_ip":"10.0.0.7","dest_ip":"10.0.0.8","proto":"TCP","anomaly":{"type":"stream","event":"stream.pkt_invalid_ack","layer":"proto_parser"}}"#;
    const STATS: &str =
        r#"{"timestamp":"2026-11-21T08:00:00.000000+0000","event_type":"stats","stats":{"uptime":480,"capture":{"kernel_packets":1}}}"#;

    const LINES: &[&str] = &[REPLY, DNS_V1, DNS_V2, DNS_V3, DNS_ALERT, TLS, FLOW, NETFLOW, FILE, ANOMALY, STATS];

    #[test]
    fn events_of_every_type_are_read() {
        check(
            &SuricataEve,
            &[
                (
                    SuricataEve.sample(),
                    &[
                        ("source.ip", "10.20.30.40"),
                        ("destination.port", "80"),
                        ("network.transport", "tcp"),
                        ("network.protocol", "http"),
                        ("network.community_id", "1:xM0g3u1WbG4c1kcQn8fJ1z2yTqA="),
                        ("rule.id", "2033077"),
                        ("rule.name", "ET MALWARE Cobalt Strike Beacon Observed"),
                        ("event.kind", "alert"),
                        ("event.category", "intrusion_detection"),
                        ("event.action", "allowed"),
                        ("event.outcome", "success"),
                        ("event.severity", "1"),
                        ("event.severity_name", "high"),
                        ("threat.technique.id", r#"["T1071"]"#),
                        ("url.domain", "update.example.net"),
                        ("http.response.status_code", "200"),
                        ("http.version", "1.1"),
                        ("user_agent.original", "Mozilla/4.0 (compatible; MSIE 8.0)"),
                        ("source.bytes", "617"),
                        ("destination.bytes", "1207"),
                        ("suricata.eve.flow_id", "1632126111222333"),
                        ("alert.metadata.signature_severity", r#"["Major"]"#),
                    ],
                ),
                (
                    TLS,
                    &[
                        ("tls.client.server_name", "example.com"),
                        ("tls.version", "1.2"),
                        ("event.category", "network"),
                        ("observer.name", "sensor-1"),
                        ("tls.client.ja3", "e7d705a3286e19ea42f587b344ee6865"),
                    ],
                ),
                (
                    FLOW,
                    &[
                        ("source.packets", "3"),
                        ("event.end", "2026-11-21T07:59:30.000000+0000"),
                        ("event.reason", "timeout"),
                        ("user.name", "bob"),
                    ],
                ),
                (NETFLOW, &[("network.bytes", "200"), ("network.transport", "ipv6-icmp"), ("client.ip", "10.0.0.7"), ("client.port", "")]),
                (
                    FILE,
                    &[
                        ("file.name", "/invoice.exe"),
                        ("file.size", "4096"),
                        ("event.category", "file"),
                        ("email.to.address", r#"["b@example.com"]"#),
                    ],
                ),
                (ANOMALY, &[("event.reason", "stream.pkt_invalid_ack")]),
                (STATS, &[("event.kind", "metric"), ("source.ip", ""), ("stats.uptime", "480")]),
            ],
        );
        let decoded = decode(&SuricataEve, &["source.ip"], SuricataEve.sample().as_bytes());
        assert_eq!((decoded.flaw, decoded.time_ms, decoded.is_strict_object), (None, RECEIVED_MS + 500, true));
    }

    #[test]
    fn an_alert_on_a_reply_knows_client_and_server() {
        let expected: &[(&str, &str)] = &[
            ("source.ip", "198.51.100.23"),
            ("client.ip", "10.20.30.40"),
            ("client.port", "49152"),
            ("server.ip", "198.51.100.23"),
            ("server.port", "80"),
            ("event.outcome", "failure"),
            ("rule.name", "ET ATTACK_RESPONSE \"id\" output"),
        ];
        let with_flow = REPLY.replace(
            "\"verdict\"",
            r#""flow":{"src_ip":"10.20.30.40","dest_ip":"198.51.100.23","src_port":49152,"dest_port":80},"verdict""#,
        );
        check(&SuricataEve, &[(REPLY, expected), (&with_flow, expected)]);
        assert_eq!(decode(&SuricataEve, &[], REPLY.as_bytes()).time_ms, RECEIVED_MS + 1000);
    }

    #[test]
    fn dns_of_every_version_gives_question_and_answers() {
        let question = ("dns.question.name", "c2.example.net");
        check(
            &SuricataEve,
            &[
                (DNS_V1, &[question, ("dns.question.type", "A"), ("dns.answers.data", "198.51.100.23"), ("dns.type", "answer")]),
                (
                    DNS_V2,
                    &[
                        question,
                        ("dns.answers.data", r#"["198.51.100.23","198.51.100.24"]"#),
                        ("dns.resolved_ip", r#"["198.51.100.23","198.51.100.24"]"#),
                        ("dns.response_code", "NOERROR"),
                    ],
                ),
                (DNS_V3, &[("dns.question.name", r#"["c2.example.net"]"#), ("dns.question.type", r#"["TXT"]"#), ("dns.type", "query")]),
                (DNS_ALERT, &[("dns.question.name", r#"["old.example.net"]"#), ("event.kind", "alert")]),
            ],
        );
    }

    #[test]
    fn events_over_syslog_are_read_and_may_not_be_spliced() {
        for header in ["<166>Nov 21 08:00:00 sensor suricata[12]: ", "<166>Nov 21 08:00:00 sensor suricata: @cee: ", "@cee: "] {
            let line = format!("{header}{REPLY}");
            let decoded = decode(&SuricataEve, &["source.ip"], line.as_bytes());
            assert_eq!((decoded.field("source.ip"), decoded.flaw, decoded.is_strict_object), ("198.51.100.23", None, false));
            assert_eq!(decoded.time_ms, RECEIVED_MS + 1000);
            assert!(SuricataEve.sniff(line.as_bytes()).is_some());
        }
    }

    #[test]
    fn what_is_cut_off_keeps_the_fields_before() {
        let (cut, _) = REPLY.split_once("\"verdict\"").unwrap();
        let decoded = decode(&SuricataEve, &["rule.id", "client.ip"], cut.as_bytes());
        assert_eq!((decoded.field("rule.id"), decoded.field("client.ip"), decoded.flaw), ("2019284", "10.20.30.40", Some(Flaw::Truncated)));
    }

    #[test]
    fn every_event_type_is_recognised_and_other_documents_are_not() {
        for line in LINES {
            assert!(SuricataEve.sniff(line.as_bytes()).is_some(), "{line}");
        }
        for line in [
            "{}",
            r#"{"event_type":"x","timestamp":"y"}"#,
            r#"{"firewall_name":"f","event":{"timestamp":"","event_type":"alert","src_ip":""}}"#,
        ] {
            assert_eq!(SuricataEve.sniff(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn every_name_of_the_schema_map_is_filled_by_some_line() {
        let lines: Vec<&str> = LINES.iter().copied().chain([SuricataEve.sample()]).collect();
        assert_eq!(never_filled(&SuricataEve, &lines), Vec::<String>::new());
    }

    #[test]
    fn broken_lines_never_panic() {
        torture(&SuricataEve, LINES);
    }
}
