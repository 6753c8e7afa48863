//! An alert as an OCSF Detection Finding: `row of an alert -> one JSON object`.
//!
//! Source: the Open Cybersecurity Schema Framework 1.8.0, class `detection_finding` (2004) and its objects, held against
//! an extract of that schema by a test. No profile and no extension is used.
//!
//! * `metadata.uid` is the idempotency key. `finding_info.uid` is the same but for what has an end (source health): begin
//!   and end are one finding, which the second one closes (`activity_id` 3).
//! * `evidences` has what ECS and OCSF both know; below `data` all fields that the plan fills and what the rule matched.
//!   What a sender wrote in the place of an address, a port or the like and is none is left to `data`.
//! * `raw_data` is the frame as it came, as text; where it is not UTF-8, `unmapped.hydrant.raw_base64` has its bytes.
//! * `unmapped.hydrant` is what flat alerts have under `hydrant`. A sender cannot forge it: a frame with that key of its
//!   own never leaves as an object. [`is_finding`] knows ours by it.
//! * The bytes follow from the event alone: no time of rendering, so a batch that is built again is the same.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::clock;
use crate::encode::alert::{Alert, Attack, Named, Reader, Sources, severity};
use crate::encode::body::Context;
use crate::encode::object::Object;
use crate::encode::template::Template;
use crate::event::{Event, Position};

/// The version of the schema.
pub const VERSION: &str = "1.8.0";

/// What every finding begins with.
const HEAD: &[u8] = b"{\"category_uid\":2,\"class_uid\":2004,";

/// Canonical fields that have a place in the schema.
const FIELDS: &[&str] = &[
    "destination.domain",
    "destination.ip",
    "destination.mac",
    "destination.port",
    "destination.user.name",
    "dns.question.name",
    "dns.question.type",
    "file.hash.md5",
    "file.hash.sha1",
    "file.hash.sha256",
    "file.name",
    "file.path",
    "file.size",
    "host.hostname",
    "http.request.method",
    "http.request.referrer",
    "http.response.status_code",
    "http.version",
    "network.direction",
    "network.iana_number",
    "network.transport",
    "observer.hostname",
    "observer.ip",
    "observer.name",
    "observer.serial_number",
    "observer.type",
    "observer.vendor",
    "process.command_line",
    "process.name",
    "process.pid",
    "source.domain",
    "source.ip",
    "source.mac",
    "source.port",
    "source.user.name",
    "url.domain",
    "url.original",
    "url.path",
    "url.port",
    "url.query",
    "url.scheme",
    "user.domain",
    "user.id",
    "user.name",
    "user_agent.original",
];

/// An endpoint's canonical fields: address, port, name, MAC.
const SOURCE: [&str; 4] = ["source.ip", "source.port", "source.domain", "source.mac"];
const DESTINATION: [&str; 4] = ["destination.ip", "destination.port", "destination.domain", "destination.mac"];

/// Who did it, the first that there is.
pub const USERS: [&str; 3] = ["user.name", "source.user.name", "destination.user.name"];

/// The device that reported it, the first that there is.
pub const DEVICES: [&str; 3] = ["observer.name", "observer.hostname", "host.hostname"];

/// Methods that the schema has (`http_request.http_method`).
const METHODS: [&[u8]; 9] = [b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"];

/// Algorithms of `fingerprint.algorithm_id`.
const HASHES: [(&str, u8); 3] = [("file.hash.md5", 1), ("file.hash.sha1", 2), ("file.hash.sha256", 3)];

/// Names of `severity_id`.
const SEVERITIES: [&str; 6] = ["Unknown", "Informational", "Low", "Medium", "High", "Critical"];

/// `observable.type_id`: Hostname, IP Address, User Name, URL String, File Name, Hash.
const OBSERVABLES: [(&str, u8, &str); 12] = [
    ("source.ip", 2, "evidences[0].src_endpoint.ip"),
    ("destination.ip", 2, "evidences[0].dst_endpoint.ip"),
    ("observer.ip", 2, "evidences[0].device.ip"),
    ("source.domain", 1, "evidences[0].src_endpoint.hostname"),
    ("destination.domain", 1, "evidences[0].dst_endpoint.hostname"),
    ("dns.question.name", 1, "evidences[0].query.hostname"),
    ("url.domain", 1, "evidences[0].url.hostname"),
    ("url.original", 6, "evidences[0].url.url_string"),
    ("file.name", 7, "evidences[0].file.name"),
    ("file.hash.md5", 8, "evidences[0].data.fields.file.hash.md5"),
    ("file.hash.sha1", 8, "evidences[0].data.fields.file.hash.sha1"),
    ("file.hash.sha256", 8, "evidences[0].data.fields.file.hash.sha256"),
];
const IP_ADDRESS: u8 = 2;
const USER_NAME: u8 = 4;

/// Writes findings about one decoder's events.
#[derive(Clone, Debug)]
pub struct Finding {
    reader: Reader,
    named: Named,
    fields: Template,
    sources: Sources,
}

/// Whether a row is a finding of ours, and not an object of a sender that looks like one.
pub fn is_finding(row: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Row {
        hydrant: Option<IgnoredAny>,
        unmapped: Unmapped,
    }
    #[derive(Deserialize)]
    struct Unmapped {
        hydrant: Reserved,
    }
    #[derive(Deserialize)]
    struct Reserved {
        alert: bool,
    }
    // What is spliced into a sender's object stands at the top.
    row.starts_with(HEAD) && serde_json::from_slice::<Row>(row).is_ok_and(|row| row.hydrant.is_none() && row.unmapped.hydrant.alert)
}

impl Finding {
    /// For the events of a decoder; `fields` are those that it fills and that are added to them.
    pub fn new(context: &Context, fields: Template) -> Self {
        Self { reader: Reader::new(context), named: Named::new(FIELDS, &context.fields), fields, sources: Sources::new(context) }
    }

    /// Appends the alert in a row; `reserved` writes the member that all rows of ours have.
    pub fn write(&self, event: Event<'_>, position: Position, reserved: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        let alert = self.reader.read(event, position);
        out.extend_from_slice(&HEAD[..HEAD.len() - 1]);
        let mut finding = Object::within(out);
        let is_over = alert.details["state"] == "over";
        let (activity, status) = if is_over { (3, 4) } else { (1, 1) };
        let severity = severity(&alert.rule.level);
        finding.text("class_name", "Detection Finding");
        finding.plain("activity_id", activity);
        finding.plain("type_uid", 200_400 + activity);
        finding.plain("time", event.time_ms);
        finding.plain("severity_id", severity);
        finding.text("severity", SEVERITIES[severity]);
        finding.plain("status_id", status);
        finding.plain("is_alert", !is_over);
        finding.text("message", alert.message.as_bytes());
        let attack = Attack::new(&alert.rule.tags);
        let event_position = match &alert.evidence {
            Some(evidence) => evidence.position.clone(),
            None if alert.is_of_event => position.to_string(),
            None => String::new(),
        };
        finding.object("metadata", |metadata| self.write_metadata(&alert, &attack, &event_position, event, metadata));
        finding.object("finding_info", |info| self.write_info(&alert, &attack, event, info));
        write_window(&alert, &mut finding);
        finding.objects("evidences", [()], |evidence, ()| self.write_evidence(event, &alert, evidence));
        self.write_observables(event, &mut finding);
        if alert.is_of_event {
            finding.text("raw_data", event.raw());
        }
        finding.text_if("raw_data", alert.evidence.as_ref().map(|evidence| &evidence.raw));
        finding.object("unmapped", |unmapped| {
            unmapped.texts("references", alert.notes.references.iter().map(|text| text.as_bytes()));
            unmapped.texts("falsepositives", alert.notes.falsepositives.iter().map(|text| text.as_bytes()));
            unmapped.members(reserved);
        });
        finding.close();
    }

    fn write_metadata(&self, alert: &Alert<'_>, attack: &Attack, event_position: &str, event: Event<'_>, metadata: &mut Object<'_>) {
        metadata.text("version", VERSION);
        metadata.object("product", |product| {
            product.text("name", "Hydrant");
            product.text("vendor_name", "Hydrant");
            product.text("version", env!("CARGO_PKG_VERSION"));
        });
        metadata.text("uid", alert.id.as_bytes());
        metadata.text("log_source", self.sources.one(event).as_bytes());
        metadata.text_if("log_format", Some(alert.decoder.as_bytes()));
        if alert.is_of_event {
            metadata.text("original_time", rfc3339(event.time_ms));
        }
        metadata.text_if("original_event_uid", Some(event_position));
        metadata.texts("labels", &attack.others);
    }

    fn write_info(&self, alert: &Alert<'_>, attack: &Attack, event: Event<'_>, info: &mut Object<'_>) {
        let Alert { rule, notes, details, .. } = alert;
        info.text("uid", details["episode"].as_str().unwrap_or(&alert.id));
        info.text("title", rule.title.as_bytes());
        info.text_if("desc", Some(notes.description.as_bytes()));
        info.object("analytic", |analytic| {
            analytic.text("uid", rule.id.as_bytes());
            analytic.text("name", rule.title.as_bytes());
            analytic.plain("type_id", 1);
            analytic.text("type", "Rule");
            let version = if notes.version.is_empty() { &rule.hash } else { &notes.version };
            analytic.text_if("version", Some(version.as_bytes()));
            analytic.text_if("category", Some(notes.category.as_bytes()));
        });
        write_attacks(attack, info);
        info.plain("created_time", event.time_ms);
        let time = |key: &str| clock::rfc3339_ms(details[key].as_str()?.as_bytes());
        for (name, time_ms) in [
            ("first_seen_time", time("window_start").or_else(|| time("since"))),
            ("last_seen_time", time("window_end").or_else(|| time("since").map(|_| event.time_ms))),
        ] {
            time_ms.into_iter().for_each(|time_ms| info.plain(name, time_ms));
        }
        let sample = details["sample"].as_array().into_iter().flatten().filter_map(|position| position.as_str());
        info.objects("related_events", sample, |related, position| {
            related.text("uid", position);
            related.text("type", "log event");
        });
        count(alert).into_iter().for_each(|count| info.plain("related_events_count", count));
        info.texts("data_sources", self.sources.all(event).iter().map(|source| source.as_bytes()));
    }

    fn write_evidence(&self, event: Event<'_>, alert: &Alert<'_>, evidence: &mut Object<'_>) {
        let named = &self.named;
        evidence.object("src_endpoint", |endpoint| self.write_endpoint(event, SOURCE, endpoint));
        evidence.object("dst_endpoint", |endpoint| self.write_endpoint(event, DESTINATION, endpoint));
        evidence.object("connection_info", |connection| self.write_connection(event, connection));
        evidence.object("user", |user| {
            let (name, uid) = (named.first(event, &USERS), named.text(event, "user.id"));
            if name.is_some() || uid.is_some() {
                user.text_if("name", name);
                user.text_if("uid", uid);
                user.text_if("domain", named.text(event, "user.domain"));
            }
        });
        evidence.object("device", |device| self.write_device(event, device));
        evidence.object("url", |url| {
            let (whole, path) = (named.text(event, "url.original"), named.text(event, "url.path"));
            if whole.is_some() || path.is_some() {
                url.text_if("url_string", whole);
                url.text_if("path", path);
                url.text_if("hostname", named.text(event, "url.domain"));
                url.text_if("query_string", named.text(event, "url.query"));
                url.text_if("scheme", named.text(event, "url.scheme"));
                named.whole(event, "url.port", PORTS).into_iter().for_each(|port| url.plain("port", port));
            }
        });
        evidence.object("http_request", |request| {
            let method = named.text(event, "http.request.method").map(|method| method.to_ascii_uppercase());
            request.text_if("http_method", method.filter(|method| METHODS.contains(&method.as_slice())));
            request.text_if("user_agent", named.text(event, "user_agent.original"));
            request.text_if("referrer", named.text(event, "http.request.referrer"));
            request.text_if("version", named.text(event, "http.version"));
        });
        evidence.object("http_response", |response| {
            named.whole(event, "http.response.status_code", INTEGERS).into_iter().for_each(|code| response.plain("code", code));
        });
        evidence.object("query", |query| {
            if let Some(hostname) = named.text(event, "dns.question.name") {
                query.text("hostname", hostname);
                query.text_if("type", named.text(event, "dns.question.type"));
            }
        });
        evidence.object("file", |file| self.write_file(event, file));
        evidence.object("process", |process| {
            if let Some(pid) = named.whole(event, "process.pid", INTEGERS) {
                process.plain("pid", pid);
                process.text_if("name", named.text(event, "process.name"));
                process.text_if("cmd_line", named.text(event, "process.command_line"));
            }
        });
        evidence.object("data", |data| {
            data.object("fields", |fields| {
                fields.members(|out| {
                    self.fields.write(event, false, out);
                })
            });
            if let Some(matched) = alert.matched {
                data.key("matched").extend_from_slice(matched);
            }
        });
    }

    /// An endpoint needs an address or a name.
    fn write_endpoint(&self, event: Event<'_>, [ip, port, name, mac]: [&str; 4], endpoint: &mut Object<'_>) {
        let (ip, name) = (self.named.address(event, ip), self.named.text(event, name));
        if ip.is_some() || name.is_some() {
            endpoint.text_if("ip", ip);
            self.named.whole(event, port, PORTS).into_iter().for_each(|port| endpoint.plain("port", port));
            endpoint.text_if("hostname", name);
            endpoint.text_if("mac", self.named.text(event, mac).filter(|mac| is_mac(mac)));
        }
    }

    fn write_connection(&self, event: Event<'_>, connection: &mut Object<'_>) {
        let protocol = self.named.text(event, "network.transport").map(|name| name.to_ascii_lowercase());
        let number = self.named.whole(event, "network.iana_number", 0..=255);
        let direction = self.named.text(event, "network.direction");
        if protocol.is_none() && number.is_none() && direction.is_none() {
            return;
        }
        let direction = match direction.as_deref() {
            Some(b"inbound" | b"ingress") => 1,
            Some(b"outbound" | b"egress") => 2,
            Some(b"internal") => 3,
            _ => 0,
        };
        connection.plain("direction_id", direction);
        connection.text_if("protocol_name", protocol);
        number.into_iter().for_each(|number| connection.plain("protocol_num", number));
    }

    fn write_device(&self, event: Event<'_>, device: &mut Object<'_>) {
        let (name, ip) = (self.named.first(event, &DEVICES), self.named.address(event, "observer.ip"));
        let serial = self.named.text(event, "observer.serial_number");
        if name.is_none() && ip.is_none() && serial.is_none() {
            return;
        }
        let kind = match self.named.text(event, "observer.type").as_deref() {
            Some(b"firewall") => 9,
            Some(b"ids") => 13,
            Some(b"ips") => 14,
            _ => 0,
        };
        device.plain("type_id", kind);
        device.text_if("hostname", name);
        device.text_if("ip", ip);
        device.text_if("uid", serial);
        device.text_if("vendor_name", self.named.text(event, "observer.vendor"));
    }

    fn write_file(&self, event: Event<'_>, file: &mut Object<'_>) {
        let Some(name) = self.named.text(event, "file.name") else { return };
        file.text("name", name);
        file.plain("type_id", 0);
        file.text_if("path", self.named.text(event, "file.path"));
        self.named.whole(event, "file.size", 0..=i64::MAX).into_iter().for_each(|size| file.plain("size", size));
        let hashes = HASHES.iter().filter_map(|(field, algorithm)| Some((self.named.text(event, field)?, algorithm)));
        file.objects("hashes", hashes, |fingerprint, (value, algorithm)| {
            fingerprint.plain("algorithm_id", algorithm);
            fingerprint.text("value", value);
        });
    }

    fn write_observables(&self, event: Event<'_>, finding: &mut Object<'_>) {
        let value = |field: &str, kind| match kind {
            IP_ADDRESS => self.named.address(event, field),
            _ => self.named.text(event, field),
        };
        let known = OBSERVABLES.iter().filter_map(|(field, kind, name)| Some((*name, *kind, value(field, *kind)?)));
        let user = self.named.first(event, &USERS).map(|user| ("evidences[0].user.name", USER_NAME, user));
        finding.objects("observables", known.chain(user), |observable, (name, kind, value)| {
            observable.text("name", name);
            observable.plain("type_id", kind);
            observable.text("value", value);
        });
    }
}

/// Numbers of ports.
pub const PORTS: std::ops::RangeInclusive<i64> = 0..=65_535;
/// `integer_t` has 32 bits with sign.
const INTEGERS: std::ops::RangeInclusive<i64> = 0..=i32::MAX as i64;

fn rfc3339(time_ms: i64) -> Vec<u8> {
    let mut text = Vec::new();
    clock::write_rfc3339(time_ms, &mut text);
    text
}

/// `00-1a:..` as `mac_t` has it.
fn is_mac(text: &[u8]) -> bool {
    let is_right = |(at, byte): (usize, &u8)| if at % 3 == 2 { matches!(byte, b':' | b'-') } else { byte.is_ascii_hexdigit() };
    text.len() == 17 && text.iter().enumerate().all(is_right)
}

/// How many events a correlation has counted.
fn count(alert: &Alert<'_>) -> Option<i64> {
    alert.details["value"].as_i64().filter(|_| alert.details["type"] == "event_count")
}

/// The window of a correlation.
fn write_window(alert: &Alert<'_>, finding: &mut Object<'_>) {
    let time = |key: &str| clock::rfc3339_ms(alert.details[key].as_str()?.as_bytes());
    if let (Some(start), Some(end)) = (time("window_start"), time("window_end")) {
        count(alert).into_iter().for_each(|count| finding.plain("count", count));
        finding.plain("start_time", start);
        finding.plain("end_time", end);
    }
}

/// One object a technique, and one a tactic if it is not known which of them belong together.
fn write_attacks(attack: &Attack, info: &mut Object<'_>) {
    let only = if let [tactic] = attack.tactics.as_slice() { Some(*tactic) } else { None };
    let alone = attack.tactics.iter().filter(|_| only.is_none() || attack.techniques.is_empty()).map(|tactic| (Some(*tactic), None));
    let techniques = attack.techniques.iter().map(|technique| (only, Some(technique.as_str())));
    info.objects("attacks", alone.chain(techniques), |object, (tactic, technique)| {
        if let Some(tactic) = tactic {
            object.object("tactic", |object| {
                object.text("name", tactic.name);
                object.text("uid", tactic.uid);
            });
        }
        if let Some(id) = technique {
            object.object("technique", |object| object.text("uid", id.split('.').next().unwrap_or(id)));
            if id.contains('.') {
                object.object("sub_technique", |object| object.text("uid", id));
            }
        }
    });
}
