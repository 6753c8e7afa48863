//! `modsecurity`: ModSecurity's JSON audit log (`SecAuditLogFormat JSON`), versions 2.9 and 3.
//!
//! Source: ModSecurity Reference Manual, "SecAuditLogFormat"; for 3 `Transaction::toJSON` of the library. Both
//! have one object a request with `transaction` at the top, and little else in common:
//!
//! | | 2.9 | 3 |
//! |---|---|---|
//! | Client | `transaction.remote_address` | `transaction.client_ip` |
//! | Request | `request.request_line` | `transaction.request.method`, `.uri` |
//! | Rules | text: `audit_data.messages[]` with `[id "..."] [msg "..."]` | `transaction.messages[].details.ruleId` |
//! | Blocked | `audit_data.action.intercepted` | not written |
//! | Time | `21/Nov/2026:21:25:23.578430 +0000` | `Sat Nov 21 21:25:23 2026`, local |
//!
//! Native fields are paths. Made here: `request_line.method`, `.target`, `.version` (`1.1`); `target.path` and
//! `target.query` of either version; of the messages of 2.9 `rules.id`, `.msg`, `.severity`, `.tag`, `.data` and
//! `.file`, one list of all messages each; `verdict`: `blocked` or `detected`, for 2.9.
//!
//! Traps: a message quotes text of the attacker, in which ModSecurity escapes quotes with a backslash, so that a
//! `[id \"1\"]` in a request is no rule; header names keep the case that the client sent; bodies may not be
//! UTF-8. The native audit log with its sections A to Z is not JSON and not supported.

use super::document::{contains, document, head, push_string, set_array};
use super::{Decoder, DecoderKind, Wanted};
use crate::clock;
use crate::event::{Kind, Row, SlotId, Value};
use crate::json::{elements, unescape, write_inside};

pub(super) struct Modsecurity;

const REQUEST_LINE: &str = "request.request_line";
const URI: &str = "transaction.request.uri";
const MESSAGES: &str = "audit_data.messages";
const INTERCEPTED: &str = "audit_data.action.intercepted";
const TIME_2: &str = "transaction.time";
const TIME_3: &str = "transaction.time_stamp";

const LINE_PARTS: [&str; 3] = ["request_line.method", "request_line.target", "request_line.version"];
const TARGET_PARTS: [&str; 2] = ["target.path", "target.query"];
const RULE_PARTS: [&str; 6] = ["rules.data", "rules.file", "rules.id", "rules.msg", "rules.severity", "rules.tag"];
const VERDICT: &str = "verdict";

const MADE: [&str; 12] = [
    LINE_PARTS[0],
    LINE_PARTS[1],
    LINE_PARTS[2],
    TARGET_PARTS[0],
    TARGET_PARTS[1],
    RULE_PARTS[0],
    RULE_PARTS[1],
    RULE_PARTS[2],
    RULE_PARTS[3],
    RULE_PARTS[4],
    RULE_PARTS[5],
    VERDICT,
];

/// Values that are listed of one part of the messages; the Core Rule Set gives a rule some ten tags.
const VALUES_MAX: usize = 256;

impl DecoderKind for Modsecurity {
    fn name(&self) -> &'static str {
        "modsecurity"
    }

    fn sample(&self) -> &'static str {
        r#"{"transaction":{"time":"21/Nov/2026:08:00:00.578430 +0000","transaction_id":"awIMcbVtgVgx6Kl8A6ChQQAAAAU","remote_address":"198.51.100.23","remote_port":57952,"local_address":"10.0.0.10","local_port":443},"request":{"request_line":"GET /shop?id=1'%20OR%201=1 HTTP/1.1","headers":{"Host":"shop.example.com","User-Agent":"sqlmap/1.8.4","Cookie":"sid=1","Referer":"https://r.example/","Content-Type":"text/plain","X-Forwarded-For":"203.0.113.9"}},"response":{"protocol":"HTTP/1.1","status":403,"headers":{"Content-Length":"199","Content-Type":"text/html; charset=iso-8859-1"}},"audit_data":{"messages":["Warning. detected SQLi using libinjection with fingerprint 's&1=1' [file \"/usr/share/modsecurity-crs/rules/REQUEST-942-APPLICATION-ATTACK-SQLI.conf\"] [line \"65\"] [id \"942100\"] [msg \"SQL Injection Attack Detected via libinjection\"] [data \"Matched Data: s&1 found within ARGS:id: 1' OR 1=1\"] [severity \"CRITICAL\"] [ver \"OWASP_CRS/3.3.4\"] [tag \"attack-sqli\"] [tag \"paranoia-level/1\"]","Access denied with code 403 (phase 2). Operator GE matched 5 at TX:anomaly_score. [file \"/usr/share/modsecurity-crs/rules/REQUEST-949-BLOCKING-EVALUATION.conf\"] [line \"93\"] [id \"949110\"] [msg \"Inbound Anomaly Score Exceeded (Total Score: 5)\"] [severity \"CRITICAL\"] [tag \"attack-generic\"]"],"error_messages":["[client 198.51.100.23] ModSecurity: Warning."],"action":{"intercepted":true,"phase":2,"message":"Operator GE matched 5 at TX:anomaly_score."},"stopwatch":{"p1":408},"producer":["ModSecurity for Apache/2.9.7 (http://www.modsecurity.org/)","OWASP_CRS/3.3.4"],"server":"Apache/2.4.71 (Debian)","engine_mode":"ENABLED"}}"#
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/modsecurity.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        None
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        let head = head(frame)?;
        let is_known = contains(head, "\"remote_address\"") || contains(head, "\"client_ip\"");
        let has_id = contains(head, "\"transaction_id\"") || contains(head, "\"unique_id\"");
        (contains(head, "\"transaction\"") && is_known && has_id)
            .then_some("a JSON object with a transaction, its id and its client, as ModSecurity audits it")
    }

    fn time_natives(&self) -> &'static [&'static str] {
        &[TIME_2, TIME_3]
    }

    fn made_from(&self, native: &str) -> &'static [&'static str] {
        match native {
            _ if LINE_PARTS.contains(&native) => &[REQUEST_LINE],
            _ if TARGET_PARTS.contains(&native) => &[REQUEST_LINE, URI],
            _ if RULE_PARTS.contains(&native) => &[MESSAGES],
            VERDICT => &[MESSAGES, INTERCEPTED],
            _ => &[],
        }
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let mut finish = Finish::new(&wanted);
        document(&wanted, &MADE, move |row: &mut Row<'_>| finish.row(row))
    }
}

/// What is made of the natives of a row.
struct Finish {
    times: [Option<SlotId>; 2],
    offset_ms: i64,
    line: Option<SlotId>,
    uri: Option<SlotId>,
    messages: Option<SlotId>,
    intercepted: Option<SlotId>,
    line_parts: [Option<SlotId>; 3],
    target_parts: [Option<SlotId>; 2],
    rule_parts: Vec<Part>,
    verdict: Option<SlotId>,
    /// Working memory that is used again for every row.
    text: Vec<u8>,
}

/// One part of the messages of 2.9, such as `id`.
struct Part {
    name: &'static [u8],
    slot: SlotId,
    /// The values so far, as the start of a JSON array.
    values: Vec<u8>,
    count: usize,
}

impl Finish {
    fn new(wanted: &Wanted) -> Self {
        let slot = |native: &str| wanted.slot(native);
        let part = |native: &&'static str| {
            let name = native.strip_prefix("rules.")?.as_bytes();
            Some(Part { name, slot: slot(native)?, values: Vec::new(), count: 0 })
        };
        Self {
            times: [slot(TIME_2), slot(TIME_3)],
            offset_ms: wanted.offset_ms,
            line: slot(REQUEST_LINE),
            uri: slot(URI),
            messages: slot(MESSAGES),
            intercepted: slot(INTERCEPTED),
            line_parts: LINE_PARTS.map(slot),
            target_parts: TARGET_PARTS.map(slot),
            rule_parts: RULE_PARTS.iter().filter_map(part).collect(),
            verdict: slot(VERDICT),
            text: Vec::new(),
        }
    }

    fn row(&mut self, row: &mut Row<'_>) {
        let [two, three] = self.times;
        let time = two.and_then(|slot| time_2_ms(row.value(slot)));
        let local = || Some(time_3_ms(row.value(three?))? - self.offset_ms);
        if let Some(ms) = time.or_else(local) {
            row.set_time_ms(ms);
        }
        self.request(row);
        self.rules(row);
        let Some(verdict) = self.verdict else { return };
        let is_blocked = self.intercepted.is_some_and(|slot| row.value(slot) == Value::Boolean(true));
        let is_2 = self.messages.is_some_and(|slot| row.value(slot) != Value::Missing);
        if is_blocked || is_2 {
            let text: &[u8] = if is_blocked { b"blocked" } else { b"detected" };
            row.set_written(verdict, Kind::Text, |out| out.extend_from_slice(text));
        }
    }

    /// Takes the request line and its target apart.
    fn request(&mut self, row: &mut Row<'_>) {
        let wants_any = self.line_parts.iter().chain(&self.target_parts).any(Option::is_some);
        if !wants_any {
            return;
        }
        self.text.clear();
        let read = |slot: Option<SlotId>, text: &mut Vec<u8>| match slot.map(|slot| row.value(slot)) {
            Some(Value::Text(line)) => text.extend_from_slice(line),
            Some(Value::Escaped(line)) => unescape(line, text),
            _ => {}
        };
        read(self.line, &mut self.text);
        let mut target = 0..0;
        if self.text.is_empty() {
            read(self.uri, &mut self.text);
            target = 0..self.text.len();
        } else if let Some(method) = memchr::memchr(b' ', &self.text) {
            // A target with blanks in it is not valid, but that is what attackers send.
            let version = memchr::memrchr(b' ', &self.text).filter(|at| self.text[at + 1..].starts_with(b"HTTP/") && *at > method);
            target = method + 1..version.unwrap_or(self.text.len());
            let version = version.map_or(0..0, |at| at + 1 + "HTTP/".len()..self.text.len());
            for (slot, part) in self.line_parts.iter().zip([0..method, target.clone(), version]) {
                set(row, *slot, &self.text[part]);
            }
        }
        let target = &self.text[target];
        let question = memchr::memchr(b'?', target).unwrap_or(target.len());
        let [path, query] = self.target_parts;
        set(row, path, &target[..question]);
        set(row, query, target.get(question + 1..).unwrap_or_default());
    }

    /// Collects the parts of all messages.
    fn rules(&mut self, row: &mut Row<'_>) {
        let Some(messages) = self.messages.filter(|_| !self.rule_parts.is_empty()) else { return };
        if let Value::Array(messages) = row.value(messages) {
            for (kind, message) in elements(messages) {
                self.text.clear();
                match kind {
                    Kind::Escaped => unescape(message, &mut self.text),
                    Kind::Text => self.text.extend_from_slice(message),
                    _ => {}
                }
                each_part(&self.text, |name, value| {
                    if let Some(part) = self.rule_parts.iter_mut().find(|part| part.name == name) {
                        part.push(value);
                    }
                });
            }
        }
        for part in &mut self.rule_parts {
            set_array(row, Some(part.slot), &part.values);
            part.values.clear();
            part.count = 0;
        }
    }
}

impl Part {
    fn push(&mut self, value: &[u8]) {
        if self.count < VALUES_MAX {
            // Opens and closes the string around text that has to be escaped first.
            push_string(b"", &mut self.values);
            self.values.pop();
            write_inside(value, &mut self.values);
            self.values.push(b'"');
            self.count += 1;
        }
    }
}

fn set(row: &mut Row<'_>, slot: Option<SlotId>, text: &[u8]) {
    if let Some(slot) = slot.filter(|_| !text.is_empty()) {
        row.set_written(slot, Kind::Text, |out| out.extend_from_slice(text));
    }
}

/// Calls `part` with name and value of every `[name "value"]` of a message.
fn each_part(message: &[u8], mut part: impl FnMut(&[u8], &[u8])) {
    let mut rest = message;
    while let Some(open) = memchr::memchr(b'[', rest) {
        rest = &rest[open + 1..];
        let name = rest.iter().take_while(|byte| byte.is_ascii_lowercase() || **byte == b'_').count();
        let (name, behind) = rest.split_at(name);
        let Some(value) = behind.strip_prefix(b" \"") else { continue };
        let Some(end) = closing_quote(value) else { return };
        if value.get(end + 1) == Some(&b']') {
            part(name, &value[..end]);
        }
        rest = &value[end + 1..];
    }
}

/// Offset of the first quote that no backslash escapes.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// `21/Nov/2026:21:25:23.578430 +0000`
fn time_2_ms(value: Value<'_>) -> Option<i64> {
    let Value::Text(text) = value else { return None };
    let number = |from: usize, to: usize| std::str::from_utf8(text.get(from..to)?).ok()?.parse::<i64>().ok();
    let is_laid_out = text.get(2) == Some(&b'/') && text.get(6) == Some(&b'/') && text.get(11) == Some(&b':');
    let month = clock::month(text.get(3..6).filter(|_| is_laid_out)?)?;
    let time = clock::time_of_day_ms(text.get(12..20)?)?;
    let ms = clock::civil_ms(number(7, 11)?, month, number(0, 2)?, time)?;
    let fraction = text.get(20..24).filter(|fraction| fraction[0] == b'.').and_then(|_| number(21, 24)).unwrap_or(0);
    // Without an offset the time is taken for UTC; the log always writes one.
    let at = memchr::memchr(b' ', text).unwrap_or(text.len());
    let minutes = match text.get(at + 1) {
        Some(sign @ (b'+' | b'-')) => {
            let minutes = number(at + 2, at + 4)? * 60 + number(at + 4, at + 6)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => 0,
    };
    Some(ms + fraction - minutes * 60_000)
}

/// `Sat Nov 21 21:25:23 2026`, as C's `asctime` writes it: a day below ten has two blanks before it.
fn time_3_ms(value: Value<'_>) -> Option<i64> {
    let Value::Text(text) = value else { return None };
    let mut words = text.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).skip(1);
    let mut word = || words.next();
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<i64>().ok();
    let month = clock::month(word()?)?;
    let day = number(word()?)?;
    let time = clock::time_of_day_ms(word()?)?;
    clock::civil_ms(number(word()?).filter(|year| (1970..10_000).contains(year))?, month, day, time)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::decode::trial::{RECEIVED_MS, check, decode, never_filled, torture};
    use crate::event::Flaw;

    const DETECTED: &str = r#"{"transaction":{"time":"21/Nov/2026:10:00:00.000001 +0200","transaction_id":"awIMQ326yGxRS6VDCB3n5wAAAEA","remote_address":"2001:db8::9","remote_port":57968,"local_address":"2001:db8::1","local_port":80},"request":{"request_line":"POST /a b?x=\"y\" z HTTP/1.0","headers":{"host":"h.example","user-agent":"curl/7.88.1"},"body":["x=1\u00e9"]},"response":{"protocol":"HTTP/1.1","status":200,"headers":{},"body":"<html>"},"audit_data":{"messages":["Warning. Pattern match \"^[\\\\d.:]+$\" at REQUEST_HEADERS:Host. [file \"/crs/REQUEST-920.conf\"] [line \"736\"] [id \"920350\"] [msg \"Host header is a numeric IP address\"] [data \"[id \\\"1\\\"] [tag \\\"x\\\"]\"] [severity \"WARNING\"] [tag \"attack-protocol\"]"],"producer":["ModSecurity for Apache/2.9.7"],"server":"Apache","engine_mode":"DETECTION_ONLY"}}"#;
    const THREE: &str = r#"{"transaction":{"client_ip":"192.0.2.44","time_stamp":"Sat Nov 21 08:00:00 2026","server_id":"9a1fb6","client_port":41622,"host_ip":"10.0.0.20","host_port":8443,"unique_id":"1795248000","request":{"method":"GET","http_version":1.1,"uri":"/?a=<script>alert(1)</script>","headers":{"Host":"nginx.example","User-Agent":"Mozilla/5.0","Accept":"*/*"}},"response":{"body":"","http_code":403,"headers":{"Server":"nginx"}},"producer":{"modsecurity":"ModSecurity v3.0.12 (Linux)","connector":"ModSecurity-nginx v1.0.3","secrules_engine":"Enabled","components":["OWASP_CRS/4.0.0\""]},"messages":[{"message":"XSS Attack Detected via libinjection","details":{"match":"detected XSS using libinjection.","reference":"v8,27t:utf8toUnicode","ruleId":"941100","file":"/crs/REQUEST-941-APPLICATION-ATTACK-XSS.conf","lineNumber":"82","data":"Matched Data: XSS data found within ARGS:a: <script>alert(1)</script>","severity":"2","ver":"OWASP_CRS/4.0.0","rev":"","tags":["application-multi","attack-xss"],"maturity":"0","accuracy":"0"}},{"message":"Inbound Anomaly Score Exceeded","details":{"match":"m","reference":"","ruleId":"949110","file":"f","lineNumber":"1","data":"","severity":"0","tags":["attack-generic"]}}]}}"#;

    const LINES: &[&str] = &[DETECTED, THREE];

    #[test]
    fn a_blocked_request_of_2_9_is_read_field_by_field() {
        check(
            &Modsecurity,
            &[(
                Modsecurity.sample(),
                &[
                    ("source.ip", "198.51.100.23"),
                    ("source.port", "57952"),
                    ("destination.ip", "10.0.0.10"),
                    ("destination.port", "443"),
                    ("http.request.method", "GET"),
                    ("url.original", "/shop?id=1'%20OR%201=1"),
                    ("url.path", "/shop"),
                    ("url.query", "id=1'%20OR%201=1"),
                    ("url.domain", "shop.example.com"),
                    ("http.version", "1.1"),
                    ("http.request.id", "awIMcbVtgVgx6Kl8A6ChQQAAAAU"),
                    ("http.response.status_code", "403"),
                    ("user_agent.original", "sqlmap/1.8.4"),
                    ("http.request.headers.cookie", "sid=1"),
                    ("network.forwarded_ip", "203.0.113.9"),
                    ("rule.id", r#"["942100","949110"]"#),
                    (
                        "rule.name",
                        r#"["SQL Injection Attack Detected via libinjection","Inbound Anomaly Score Exceeded (Total Score: 5)"]"#,
                    ),
                    ("modsecurity.tags", r#"["attack-sqli","paranoia-level/1","attack-generic"]"#),
                    ("modsecurity.severities", r#"["CRITICAL","CRITICAL"]"#),
                    ("modsecurity.data", r#"["Matched Data: s&1 found within ARGS:id: 1' OR 1=1"]"#),
                    ("event.action", "blocked"),
                    ("event.outcome", "failure"),
                    ("event.type", "denied"),
                    ("event.reason", "Operator GE matched 5 at TX:anomaly_score."),
                    ("observer.version", r#"["ModSecurity for Apache/2.9.7 (http://www.modsecurity.org/)","OWASP_CRS/3.3.4"]"#),
                    ("modsecurity.engine_mode", "ENABLED"),
                ],
            )],
        );
        let decoded = decode(&Modsecurity, &["source.ip"], Modsecurity.sample().as_bytes());
        assert_eq!((decoded.time_ms, decoded.flaw, decoded.is_strict_object), (RECEIVED_MS + 578, None, true));
    }

    #[test]
    fn what_an_attacker_writes_is_no_rule() {
        check(
            &Modsecurity,
            &[(
                DETECTED,
                &[
                    ("rule.id", r#"["920350"]"#),
                    ("modsecurity.tags", r#"["attack-protocol"]"#),
                    ("modsecurity.data", r#"["[id \\\"1\\\"] [tag \\\"x\\\"]"]"#),
                    ("event.action", "detected"),
                    ("event.outcome", "success"),
                    ("url.original", "/a b?x=\"y\" z"),
                    ("url.query", "x=\"y\" z"),
                    ("http.version", "1.0"),
                    ("user_agent.original", "curl/7.88.1"),
                    ("url.domain", "h.example"),
                ],
            )],
        );
        assert_eq!(decode(&Modsecurity, &[], DETECTED.as_bytes()).time_ms, RECEIVED_MS);
    }

    #[test]
    fn version_3_is_read_field_by_field() {
        check(
            &Modsecurity,
            &[(
                THREE,
                &[
                    ("source.ip", "192.0.2.44"),
                    ("destination.port", "8443"),
                    ("http.request.method", "GET"),
                    ("url.original", "/?a=<script>alert(1)</script>"),
                    ("url.path", "/"),
                    ("url.query", "a=<script>alert(1)</script>"),
                    ("http.version", "1.1"),
                    ("http.response.status_code", "403"),
                    ("rule.id", r#"["941100","949110"]"#),
                    ("rule.name", r#"["XSS Attack Detected via libinjection","Inbound Anomaly Score Exceeded"]"#),
                    ("modsecurity.tags", r#"[["application-multi","attack-xss"],["attack-generic"]]"#),
                    ("event.action", ""),
                    ("observer.version", "ModSecurity v3.0.12 (Linux)"),
                ],
            )],
        );
        assert_eq!(decode(&Modsecurity, &[], THREE.as_bytes()).time_ms, RECEIVED_MS);
    }

    #[test]
    fn times_of_both_versions_are_read_and_nonsense_is_not() {
        let two = |text: &str| time_2_ms(Value::Text(text.as_bytes()));
        let three = |text: &str| time_3_ms(Value::Text(text.as_bytes()));
        assert_eq!(two("21/Nov/2026:08:00:00.5784 +0000"), Some(RECEIVED_MS + 578));
        assert_eq!(two("21/Nov/2026:02:30:00 -0530"), Some(RECEIVED_MS));
        assert_eq!(two("21/Nov/2026:08:00:00"), Some(RECEIVED_MS));
        assert_eq!(three("Sat Nov 21 08:00:00 2026"), Some(RECEIVED_MS));
        assert_eq!(three("Sun Nov  1 08:00:00 2026"), Some(RECEIVED_MS - 20 * 86_400_000));
        for bad in [
            "",
            "21/Nov/2026",
            "21/Xxx/2026:08:00:00 +0000",
            "21/Nov/2026:08:00:00 +00",
            "x1/Nov/2026:08:00:00 +0000",
            "é/Nov/2026:08:00:00",
        ] {
            assert_eq!(two(bad), None, "{bad}");
        }
        for bad in ["", "Sat Nov", "Sat Nov 21 08:00:00 9223372036854775807", "Sat Nov 31 08:00:00 2026", "Sat Nov 21 8:0:0 2026"] {
            assert_eq!(three(bad), None, "{bad}");
        }
    }

    #[test]
    fn odd_request_lines_give_what_can_be_told() {
        let cases = [
            ("GET", "", ""),
            ("GET /", "GET", "/"),
            ("GET / HTTP/1.1", "GET", "/"),
            (" /", "", "/"),
            ("GET HTTP/1.1", "GET", "HTTP/1.1"),
            ("", "", ""),
        ];
        for (line, method, target) in cases {
            let line = format!(r#"{{"request":{{"request_line":"{line}"}}}}"#);
            let decoded = decode(&Modsecurity, &["http.request.method", "url.original"], line.as_bytes());
            assert_eq!((decoded.field("http.request.method"), decoded.field("url.original")), (method, target), "{line}");
        }
    }

    #[test]
    fn values_of_messages_are_bounded() {
        let message = r#"[id \"1\"] "#.repeat(VALUES_MAX * 4);
        let line = format!(r#"{{"audit_data":{{"messages":["{message}","[id \"2\""]}}}}"#);
        let decoded = decode(&Modsecurity, &["rule.id"], line.as_bytes());
        assert_eq!(decoded.field("rule.id").matches("\"1\"").count(), VALUES_MAX);
    }

    #[test]
    fn every_name_of_the_schema_map_is_filled_by_some_line() {
        let lines: Vec<&str> = LINES.iter().copied().chain([Modsecurity.sample()]).collect();
        assert_eq!(never_filled(&Modsecurity, &lines), Vec::<String>::new());
    }

    #[test]
    fn what_is_cut_off_keeps_the_fields_before() {
        let (cut, _) = Modsecurity.sample().split_once("\"response\"").unwrap();
        let decoded = decode(&Modsecurity, &["source.ip", "url.path", "rule.id"], cut.as_bytes());
        assert_eq!((decoded.field("source.ip"), decoded.field("url.path"), decoded.field("rule.id")), ("198.51.100.23", "/shop", ""));
        assert_eq!((decoded.flaw, decoded.time_ms), (Some(Flaw::Truncated), RECEIVED_MS + 578));
    }

    #[test]
    fn both_versions_are_recognised_and_other_documents_are_not() {
        for line in LINES {
            assert!(Modsecurity.sniff(line.as_bytes()).is_some(), "{line}");
        }
        for line in ["{}", r#"{"transaction":{"id":1}}"#, r#"{"client_ip":"1","unique_id":"2"}"#, "--fc565b0b-A--"] {
            assert_eq!(Modsecurity.sniff(line.as_bytes()), None, "{line}");
        }
    }

    /// Needs the audit log of a real ModSecurity 2.9 under attack that developers share beside the repository.
    #[test]
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    fn a_real_audit_log_agrees_with_a_full_parse() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/samples/modsec-crs-wapiti-sqlmap.audit.json.log");
        let Ok(log) = std::fs::read(&file) else {
            println!("skipped: {} is absent", file.display());
            return;
        };
        let mut blocked = 0;
        for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let names =
                ["source.ip", "source.port", "url.original", "http.response.status_code", "user_agent.original", "event.action", "rule.id"];
            let decoded = decode(&Modsecurity, &names, line);
            let whole: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert_eq!(decoded.flaw, None);
            assert_eq!(decoded.field("source.ip"), whole["transaction"]["remote_address"].as_str().unwrap());
            assert_eq!(decoded.field("source.port"), whole["transaction"]["remote_port"].to_string());
            let words: Vec<&str> = whole["request"]["request_line"].as_str().unwrap().split(' ').collect();
            assert_eq!(decoded.field("url.original"), words[1..words.len() - 1].join(" "));
            assert_eq!(decoded.field("http.response.status_code"), whole["response"]["status"].to_string());
            assert_eq!(decoded.field("user_agent.original"), whole["request"]["headers"]["User-Agent"].as_str().unwrap());
            let intercepted = whole["audit_data"]["action"]["intercepted"].as_bool().unwrap_or(false);
            assert_eq!(decoded.field("event.action"), if intercepted { "blocked" } else { "detected" });
            blocked += usize::from(intercepted);
            let ids: Vec<String> = serde_json::from_str(decoded.field("rule.id")).unwrap();
            let messages = whole["audit_data"]["messages"].as_array().unwrap();
            let expected: Vec<&str> = messages
                .iter()
                .map(|message| message.as_str().unwrap().split("[id \"").nth(1).unwrap().split('"').next().unwrap())
                .collect();
            assert_eq!(ids, expected);
            assert!(Modsecurity.sniff(line).is_some());
        }
        assert_eq!(blocked, 73);
    }

    #[test]
    fn broken_lines_never_panic() {
        torture(&Modsecurity, LINES);
    }
}
