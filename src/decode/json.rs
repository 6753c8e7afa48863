//! `json`: any JSON object, also behind a syslog header or `@cee:`.
//!
//! Native fields are paths as [`crate::json`] reads them: `user.name`, `tags[]`, `headers{name=Host}.value`. A
//! name that the schema map does not know is read as a path of the same name, so documents in ECS need no map;
//! the map adds the names that loggers without a standard use most.
//!
//! The event's time is the first of `@timestamp`, `timestamp`, `time`, `eventTime` and `ts` that is one: RFC
//! 3339 text, or a number of seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by size.
//! A number that is not between 2000 and 2100 is something else (a duration, a time of day).
//!
//! Documents that are arrays are split by the framer, not here. What is not an object is `Malformed`.

use super::document::{document, head, written_time_ms};
use super::{Decoder, DecoderKind, Wanted};
use crate::event::{Row, Value};

pub(super) struct Json;

const TIMES: &[&str] = &["@timestamp", "timestamp", "time", "eventTime", "ts"];

impl DecoderKind for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn sample(&self) -> &'static str {
        r#"{"@timestamp":"2026-11-21T08:00:00.804184+00:00","message":"session opened","user":{"name":"asmith1"},"source":{"ip":"10.77.0.1","port":60864}}"#
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/json.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        None
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        // Text in braces is not JSON yet: behind the brace stands a key or the other brace.
        let inside = head(frame)?.get(1..)?.trim_ascii_start();
        matches!(inside.first(), Some(b'"' | b'}')).then_some("a JSON object that is no other known format")
    }

    fn time_natives(&self) -> &'static [&'static str] {
        TIMES
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let times: Vec<_> = TIMES.iter().filter_map(|native| wanted.slot(native)).collect();
        let offset_ms = wanted.offset_ms;
        document(&wanted, &[], move |row: &mut Row<'_>| {
            let time = times.iter().find_map(|slot| time_ms(row.value(*slot), offset_ms));
            if let Some(ms) = time {
                row.set_time_ms(ms);
            }
        })
    }
}

/// 2000-01-01 and 2100-01-01 in seconds since 1970.
const PLAUSIBLE_SECONDS: std::ops::Range<i64> = 946_684_800..4_102_444_800;

fn time_ms(value: Value<'_>, offset_ms: i64) -> Option<i64> {
    let Value::Number(text) = value else { return written_time_ms(value, offset_ms) };
    let (whole, fraction) = std::str::from_utf8(text).ok().map(|text| text.split_once('.').unwrap_or((text, "")))?;
    let whole: i64 = whole.parse().ok()?;
    // Units per second, and the divisor or factor to milliseconds.
    if PLAUSIBLE_SECONDS.contains(&whole) {
        let digit =
            |index: usize| fraction.as_bytes().get(index).filter(|byte| byte.is_ascii_digit()).map_or(0, |byte| i64::from(byte - b'0'));
        return Some(whole * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2));
    }
    [1, 1_000, 1_000_000].into_iter().find(|per_ms| PLAUSIBLE_SECONDS.contains(&(whole / per_ms / 1000))).map(|per_ms| whole / per_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::trial::{RECEIVED_MS, check, decode, never_filled, torture};
    use crate::event::Flaw;

    const ECS: &str = r#"{"@timestamp":"2026-11-21T08:00:00.250Z","message":"login","event":{"action":"login","outcome":"failure","category":["authentication"]},"source":{"ip":"10.1.2.3","port":4711},"destination":{"ip":"10.9.9.9","port":22},"host":{"hostname":"h1","name":"h1.example.com"},"user":{"name":"root"},"log.level":"warn","http":{"request":{"method":"GET"},"response":{"status_code":404}},"url":{"original":"/a?b","path":"/a","domain":"www.example.com"},"user_agent":{"original":"curl/8"},"network":{"transport":"tcp","protocol":"ssh"},"rule":{"name":"r1","id":"7"},"observer":{"name":"o1"},"process":{"name":"sshd"},"dns":{"question":{"name":"example.com"}}}"#;

    const LINES: &[&str] = &[
        ECS,
        r#"{"ts":1591367999.305988,"uid":"CMdzit1AMNsmfAIiQc","id.orig_h":"192.168.4.76","id.orig_p":36844,"id.resp_h":"192.168.4.1","id.resp_p":53,"proto":"udp","service":"dns","query":"testmyids.com"}"#,
        r#"{"eventVersion":"1.08","eventTime":"2026-11-21T08:00:01Z","eventSource":"iam.amazonaws.com","eventName":"CreateUser","sourceIPAddress":"198.51.100.23","userAgent":"aws-cli/2.15","userIdentity":{"type":"IAMUser","userName":"alice"}}"#,
        r#"{"time":1795248000123,"level":"error","msg":"no \"route\"","hostname":"web-1","client_ip":"203.0.113.9","client_port":55555,"method":"POST","status":500,"path":"/login","host":"www.example.com","user":"bob","action":"deny","program":"nginx","userAgent":"x/1"}"#,
    ];

    #[test]
    fn names_of_ecs_and_of_common_loggers_are_read() {
        check(
            &Json,
            &[
                (
                    ECS,
                    &[
                        ("source.ip", "10.1.2.3"),
                        ("source.port", "4711"),
                        ("destination.port", "22"),
                        ("message", "login"),
                        ("host.hostname", "h1"),
                        ("event.action", "login"),
                        ("event.category", r#"["authentication"]"#),
                        ("log.level", "warn"),
                        ("user_agent.original", "curl/8"),
                        ("http.response.status_code", "404"),
                    ],
                ),
                (
                    LINES[1],
                    &[
                        ("source.ip", "192.168.4.76"),
                        ("destination.port", "53"),
                        ("dns.question.name", "testmyids.com"),
                        ("query", "testmyids.com"),
                    ],
                ),
                (
                    LINES[2],
                    &[
                        ("source.ip", "198.51.100.23"),
                        ("event.action", "CreateUser"),
                        ("userIdentity.type", "IAMUser"),
                        ("user.name", "alice"),
                    ],
                ),
                (
                    LINES[3],
                    &[
                        ("message", "no \"route\""),
                        ("event.action", "deny"),
                        ("host.hostname", "web-1"),
                        ("%native.status", "500"),
                        ("url.path", "/login"),
                    ],
                ),
                (
                    r#"{"dvc":"Gateway","oob.prefix":"FW-ACCEPT ","ip.protocol":6,"src_ip":"10.77.0.1","dest_ip":"10.77.0.2"}"#,
                    &[("source.ip", "10.77.0.1"), ("destination.ip", "10.77.0.2"), ("oob.prefix", "FW-ACCEPT "), ("ip.protocol", "6")],
                ),
            ],
        );
    }

    #[test]
    fn every_name_of_the_schema_map_is_filled_by_some_line() {
        assert_eq!(never_filled(&Json, LINES), Vec::<String>::new());
    }

    #[test]
    fn the_time_is_read_in_every_unit_and_nothing_else_is_taken_for_one() {
        let cases = [
            (r#"{"@timestamp":"2026-11-21T10:00:00.5+02:00"}"#, RECEIVED_MS + 500),
            (r#"{"timestamp":1795248000}"#, RECEIVED_MS),
            (r#"{"ts":1795248000.0429}"#, RECEIVED_MS + 42),
            (r#"{"ts":1795248000.5}"#, RECEIVED_MS + 500),
            (r#"{"time":1795248000007}"#, RECEIVED_MS + 7),
            (r#"{"time":1795248000007001}"#, RECEIVED_MS + 7),
            (r#"{"time":1795248000007000001}"#, RECEIVED_MS + 7),
            (r#"{"timestamp":"yesterday","time":1795248001}"#, RECEIVED_MS + 1000),
        ];
        for (line, expected) in cases {
            assert_eq!(decode(&Json, &[], line.as_bytes()).time_ms, expected, "{line}");
        }
        for line in [r#"{"time":12}"#, r#"{"time":99999999999999999999999}"#, r#"{"time":-1}"#, r#"{"time":1e9}"#, r#"{"time":{}}"#, "{}"] {
            assert_eq!(decode(&Json, &[], line.as_bytes()).time_ms, RECEIVED_MS, "{line}");
        }
    }

    #[test]
    fn only_a_frame_that_is_exactly_one_clean_object_may_be_spliced() {
        for line in [r#"{}"#, r#"{"a":{"hydrant":1}}"#, ECS] {
            assert!(decode(&Json, &["a"], line.as_bytes()).is_strict_object, "{line}");
        }
        let not = [
            r#"{"hydrant":1}"#,
            r#"{"\u0068ydrant":1}"#,
            " {}",
            "{} ",
            "{\"a\":\n1}",
            "{\"a\":\"\t\"}",
            "{\"a\":1",
            "{}{}",
            "@cee: {}",
            "\u{feff}{}",
            "<14>1 - - - - - - {}",
            "<14>{}",
        ];
        for line in not {
            assert!(!decode(&Json, &["a"], line.as_bytes()).is_strict_object, "{line}");
        }
        assert!(!decode(&Json, &["a"], b"{\"a\":\"\xff\"}").is_strict_object);
    }

    #[test]
    fn the_object_is_found_behind_headers_and_marks() {
        let lines = [
            r#"<14>1 2026-11-21T08:00:00Z host app - - - {"a":"x"}"#,
            r#"<14>Nov 21 08:00:00 host app[7]: @cee: {"a":"x"}"#,
            r#"Nov 21 08:00:00 host app[7]: {"a":"x"}"#,
            r#"@cee:{"a":"x"}"#,
            "\u{feff}{\"a\":\"x\"}",
            " \t{\"a\":\"x\"}",
        ];
        for line in lines {
            let decoded = decode(&Json, &["a", "host.hostname"], line.as_bytes());
            assert_eq!((decoded.field("a"), decoded.flaw), ("x", None), "{line}");
            assert!(Json.sniff(line.as_bytes()).is_some(), "{line}");
        }
        assert_eq!(decode(&Json, &["host.hostname"], lines[0].as_bytes()).field("host.hostname"), "host");
        for line in ["<14>Nov 21 08:00:00 host app: user said {\"a\":1}", "{ block }", "a {\"b\":1}", "", "[{}]"] {
            assert_eq!(Json.sniff(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn what_stands_before_a_flaw_is_kept() {
        let decoded = decode(&Json, &["a", "b"], br#"{"a":1,"b":"#);
        assert_eq!((decoded.field("a"), decoded.field("b"), decoded.flaw), ("1", "", Some(Flaw::Truncated)));
        let decoded = decode(&Json, &["a", "b"], b"{\"a\":\"\xff\",\"b\":2,\"time\":1795248001}");
        assert_eq!((decoded.field("b"), decoded.flaw, decoded.time_ms), ("2", Some(Flaw::NotUtf8), RECEIVED_MS + 1000));
        for line in [b"".as_slice(), b"text", b"[1]", b"\"{\"", b"1"] {
            let flaw = decode(&Json, &["a"], line).flaw;
            assert!(matches!(flaw, Some(Flaw::Malformed | Flaw::Truncated)), "{line:?} {flaw:?}");
        }
    }

    #[test]
    fn names_that_are_no_paths_do_not_disturb_the_others() {
        let decoded = decode(&Json, &["a[", "a..b", "%native.{", "a"], br#"{"a":1}"#);
        assert_eq!(decoded.fields, [("a".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn broken_lines_never_panic() {
        torture(&Json, LINES);
    }
}
