//! `aws_network_firewall`: AWS Network Firewall alert, flow and TLS logs.
//!
//! Source: AWS Network Firewall Developer Guide, "Contents of a firewall log" and "Logging for TLS inspection".
//! Alert and netflow records are Suricata's EVE under `event`; those of the TLS inspection engine only look like
//! it. Native fields are paths.
//!
//! Traps: `event_timestamp` is text in some records and a number in others; ports of TLS records are text, their
//! `event_type` is missing (made here: `event_type` is `tls` then) and their time ends in `Z`; an `sni` of `-` is
//! none; a netflow record describes one direction only. Client and server are made as for Suricata.
//!
//! The event's time is `event.timestamp`, else `event_timestamp` in seconds.

use super::document::{contains, document, head, integer, written_time_ms};
use super::eve::{EndNames, Ends};
use super::{Decoder, DecoderKind, Wanted};
use crate::event::{Kind, Row, Slot, Value};

pub(super) struct AwsNetworkFirewall;

const ENDS: [EndNames; 4] = [
    ["client.ip", "event.flow.src_ip", "event.src_ip", "event.dest_ip"],
    ["client.port", "event.flow.src_port", "event.src_port", "event.dest_port"],
    ["server.ip", "event.flow.dest_ip", "event.dest_ip", "event.src_ip"],
    ["server.port", "event.flow.dest_port", "event.dest_port", "event.src_port"],
];

const DIRECTION: &str = "event.direction";

const EVENT_TYPE: &str = "event_type";

const SNI: &str = "event.sni";

const MADE: [&str; 5] = [ENDS[0][0], ENDS[1][0], ENDS[2][0], ENDS[3][0], EVENT_TYPE];

impl DecoderKind for AwsNetworkFirewall {
    fn name(&self) -> &'static str {
        "aws_network_firewall"
    }

    fn sample(&self) -> &'static str {
        r#"{"firewall_name":"egress-nfw","availability_zone":"eu-central-1a","event_timestamp":"1795248000","event":{"timestamp":"2026-11-21T08:00:00.598481+0000","flow_id":1582438383425873,"event_type":"alert","src_ip":"10.20.30.40","src_port":49152,"dest_ip":"198.51.100.23","dest_port":443,"proto":"TCP","alert":{"action":"blocked","signature_id":2033077,"rev":5,"signature":"ET MALWARE Cobalt Strike Beacon Observed","category":"Malware Command and Control Activity Detected","severity":1,"gid":1,"metadata":{"mitre_tactic_id":["TA0011"],"mitre_tactic_name":["Command_And_Control"],"mitre_technique_id":["T1071"],"mitre_technique_name":["Application_Layer_Protocol"]}},"app_proto":"tls","tls":{"sni":"update.example.net","version":"TLS 1.3"},"verdict":{"action":"drop"},"tls_inspected":true}}"#
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/aws_network_firewall.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        None
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        let head = head(frame)?;
        (contains(head, "\"firewall_name\"") && contains(head, "\"event\""))
            .then_some("a JSON object with firewall_name and an event, as AWS Network Firewall writes it")
    }

    fn time_natives(&self) -> &'static [&'static str] {
        &["event.timestamp", "event_timestamp"]
    }

    fn made_from(&self, native: &str) -> &'static [&'static str] {
        match native {
            "client.ip" | "server.ip" => &[DIRECTION, "event.flow.src_ip", "event.flow.dest_ip", "event.src_ip", "event.dest_ip"],
            "client.port" | "server.port" => {
                &[DIRECTION, "event.flow.src_port", "event.flow.dest_port", "event.src_port", "event.dest_port"]
            }
            EVENT_TYPE => &["event.event_type", SNI],
            _ => &[],
        }
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let ends = Ends::new(&wanted, DIRECTION, &ENDS);
        let (time, seconds, sni) = (wanted.slot("event.timestamp"), wanted.slot("event_timestamp"), wanted.slot(SNI));
        let event_type = wanted.slot(EVENT_TYPE).zip(wanted.slot("event.event_type")).zip(sni);
        let offset_ms = wanted.offset_ms;
        document(&wanted, &MADE, move |row: &mut Row<'_>| {
            let written = time.and_then(|slot| written_time_ms(row.value(slot), offset_ms));
            let created = || Some(integer(row.value(seconds?))?.saturating_mul(1000));
            if let Some(ms) = written.or_else(created) {
                row.set_time_ms(ms);
            }
            ends.fill(row);
            if let Some(((made, written), sni)) = event_type {
                match (row.value(written), row.value(sni)) {
                    (Value::Missing, Value::Missing) => {}
                    (Value::Missing, _) => row.set_written(made, Kind::Text, |out| out.extend_from_slice(b"tls")),
                    _ => row.set(made, row.slot(written)),
                }
            }
            if let Some(sni) = sni.filter(|slot| row.value(*slot) == Value::Text(b"-")) {
                row.set(sni, Slot::MISSING);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::trial::{RECEIVED_MS, check, decode, never_filled, torture};
    use crate::event::Flaw;
    use crate::traffic::{Kind as Product, Traffic};

    const TLS_ERROR: &str = r#"{"firewall_name":"firewall-tls-test","availability_zone":"us-east-1d","event_timestamp":1795248000,"event":{"timestamp":"2026-11-21T08:00:00.412778Z","src_ip":"10.0.2.53","src_port":"59844","dest_ip":"10.0.1.27","dest_port":"443","sni":"-","tls_error":{"error_message":"Server name is not found in client hello."}}}"#;
    const REVOKED: &str = r#"{"firewall_name":"egress-fw","availability_zone":"us-east-1d","event_timestamp":1795248000,"event":{"src_ip":"10.0.2.53","src_port":"55930","revocation_check":{"leaf_cert_fpr":"1234567890EXAMPLE0987654321","status":"REVOKED","action":"DROP"},"dest_ip":"203.0.113.72","dest_port":"443","timestamp":"2026-11-21T08:00:00.441824Z","sni":"revoked.example.com"}}"#;
    const NETFLOW: &str = r#"{"firewall_name":"egress-nfw","availability_zone":"eu-central-1b","event_timestamp":"1795248000","event":{"tcp":{"tcp_flags":"1b","syn":true,"fin":true,"psh":true,"ack":true},"app_proto":"unknown","src_ip":"10.0.0.5","src_port":41414,"netflow":{"pkts":12,"bytes":720,"start":"2026-11-21T07:58:00.000000+0000","end":"2026-11-21T07:59:00.000000+0000","age":60,"min_ttl":55,"max_ttl":64},"event_type":"netflow","flow_id":1,"dest_ip":"10.0.0.6","proto":"TCP","dest_port":22,"timestamp":"2026-11-21T08:00:00.000000+0000"}}"#;
    /// An alert that carries what the inspected protocol had to say; no real one has all of it.
    const EVERYTHING: &str = r#"{"firewall_name":"f","availability_zone":"z","event_timestamp":"1795248000","aws_category":["Malware"],"event":{"timestamp":"2026-11-21T08:00:00.000000+0000","flow_id":2,"event_type":"alert","src_ip":"198.51.100.23","src_port":80,"dest_ip":"10.0.0.5","dest_port":4711,"proto":"UDP","direction":"to_client","alert":{"action":"allowed","gid":1,"signature_id":9,"rev":2,"signature":"s","category":"c","severity":3,"xff":"203.0.113.1"},"http":{"hostname":"h.example","http_port":8080,"url":"/x","http_user_agent":"ua","http_content_type":"text/html","http_method":"POST","http_refer":"r","protocol":"HTTP/1.1","status":404,"length":9},"dns":{"type":"answer","id":1,"rrname":"q.example","rrtype":"A","rcode":"NXDOMAIN","answers":[{"rdata":"192.0.2.1"}],"grouped":{"A":["192.0.2.1"]}},"tls":{"sni":"t.example","version":"TLS 1.2","subject":"CN=t","issuerdn":"CN=i","serial":"01","fingerprint":"aa","notbefore":"a","notafter":"b","session_resumed":true,"ja3":{"hash":"j3"},"ja3s":{"hash":"j3s"},"ja4":"j4"},"fileinfo":{"filename":"f.exe","size":3,"md5":"m","sha1":"s1","sha256":"s2"},"smb":{"ntlmssp":{"user":"u","domain":"d"}},"flow":{"pkts_toserver":1,"pkts_toclient":2,"bytes_toserver":3,"bytes_toclient":4,"start":"2026-11-21T07:59:00.000000+0000"}}}"#;

    const LINES: &[&str] = &[TLS_ERROR, REVOKED, NETFLOW, EVERYTHING];

    #[test]
    fn records_of_every_log_are_read() {
        check(
            &AwsNetworkFirewall,
            &[
                (
                    AwsNetworkFirewall.sample(),
                    &[
                        ("observer.name", "egress-nfw"),
                        ("cloud.availability_zone", "eu-central-1a"),
                        ("source.ip", "10.20.30.40"),
                        ("destination.port", "443"),
                        ("event.kind", "alert"),
                        ("event.category", "intrusion_detection"),
                        ("event.action", "blocked"),
                        ("event.outcome", "failure"),
                        ("rule.name", "ET MALWARE Cobalt Strike Beacon Observed"),
                        ("threat.tactic.id", r#"["TA0011"]"#),
                        ("tls.client.server_name", "update.example.net"),
                        ("aws.firewall.tls_inspected", "true"),
                        ("%native.event.verdict.action", "drop"),
                    ],
                ),
                (
                    TLS_ERROR,
                    &[
                        ("source.port", "59844"),
                        ("server.port", "443"),
                        ("tls.client.server_name", ""),
                        ("event.reason", "Server name is not found in client hello."),
                        ("event.category", "network"),
                        ("aws.firewall.event_type", "tls"),
                    ],
                ),
                (
                    REVOKED,
                    &[
                        ("tls.client.server_name", "revoked.example.com"),
                        ("event.action", "DROP"),
                        ("event.reason", "REVOKED"),
                        ("aws.firewall.revocation_check.fingerprint", "1234567890EXAMPLE0987654321"),
                    ],
                ),
                (
                    NETFLOW,
                    &[
                        ("network.bytes", "720"),
                        ("network.packets", "12"),
                        ("event.kind", "event"),
                        ("event.start", "2026-11-21T07:58:00.000000+0000"),
                    ],
                ),
                (
                    EVERYTHING,
                    &[
                        ("source.ip", "198.51.100.23"),
                        ("client.ip", "10.0.0.5"),
                        ("server.port", "80"),
                        ("aws.firewall.category", r#"["Malware"]"#),
                    ],
                ),
            ],
        );
    }

    #[test]
    fn ports_written_as_text_become_numbers() {
        let mut fields = crate::event::Fields::default();
        let slot = fields.slot("source.port");
        let schema = crate::decode::trial::schema(&AwsNetworkFirewall);
        let compiled = crate::decode::Compiled::new(&AwsNetworkFirewall, &schema, &mut fields, 0).unwrap();
        let chunk = crate::decode::trial::chunk(&[TLS_ERROR.as_bytes()], 1);
        let mut events = crate::event::Events::default();
        events.reset(&chunk, fields.width());
        compiled.instance().decode(&chunk, 0..1, &mut events);
        assert_eq!(events.event(&chunk, 0).value(slot), Value::Number(b"59844"));
    }

    #[test]
    fn the_time_is_that_of_the_event_or_else_of_the_record() {
        let time = |line: &str| decode(&AwsNetworkFirewall, &["source.ip"], line.as_bytes()).time_ms;
        assert_eq!(time(AwsNetworkFirewall.sample()), RECEIVED_MS + 598);
        assert_eq!(time(TLS_ERROR), RECEIVED_MS + 412);
        assert_eq!(time(r#"{"firewall_name":"f","event_timestamp":"1795248005","event":{}}"#), RECEIVED_MS + 5000);
        assert_eq!(time(r#"{"firewall_name":"f","event_timestamp":1795248005,"event":{}}"#), RECEIVED_MS + 5000);
        assert_eq!(time(r#"{"firewall_name":"f","event_timestamp":{},"event":{}}"#), RECEIVED_MS);
    }

    #[test]
    fn every_name_of_the_schema_map_is_filled_by_some_line() {
        let lines: Vec<&str> = LINES.iter().copied().chain([AwsNetworkFirewall.sample()]).collect();
        assert_eq!(never_filled(&AwsNetworkFirewall, &lines), Vec::<String>::new());
    }

    #[test]
    fn made_traffic_is_read_without_a_flaw() {
        let mut traffic = Traffic::new(Product::AwsNetworkFirewall, 3);
        for number in 0..500 {
            let mut line = Vec::new();
            traffic.next(RECEIVED_MS + number, &mut line);
            let decoded = decode(&AwsNetworkFirewall, &["source.ip", "event.kind"], &line);
            assert!(decoded.flaw.is_none() && decoded.is_strict_object && decoded.fields.len() == 2);
            assert_eq!(decoded.time_ms, RECEIVED_MS + number);
        }
    }

    #[test]
    fn what_is_cut_off_keeps_the_fields_before() {
        let (cut, _) = AwsNetworkFirewall.sample().split_once("\"verdict\"").unwrap();
        let decoded = decode(&AwsNetworkFirewall, &["rule.id", "client.ip"], cut.as_bytes());
        assert_eq!((decoded.field("rule.id"), decoded.field("client.ip"), decoded.flaw), ("2033077", "10.20.30.40", Some(Flaw::Truncated)));
    }

    #[test]
    fn every_record_is_recognised_and_other_documents_are_not() {
        for line in LINES {
            assert!(AwsNetworkFirewall.sniff(line.as_bytes()).is_some(), "{line}");
        }
        for line in ["{}", r#"{"firewall_name":1}"#, r#"{"event":{"event_type":"alert"}}"#, ""] {
            assert_eq!(AwsNetworkFirewall.sniff(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn broken_lines_never_panic() {
        torture(&AwsNetworkFirewall, LINES);
    }
}
