//! `pagerduty`: PagerDuty's Events API, version 2: a group of alerts is an alert there.
//!
//! Out: `POST https://events.pagerduty.com/v2/enqueue` with `event_action: trigger`. Source: PagerDuty Developer
//! Documentation, "Events API v2 Overview" (answers, 512 KB), "Send an Alert Event" (keys and their limits), "Events API Rate
//! Limits" (about 120 calls a minute and key).
//!
//! * `dedup_key` is a hash of the group's name, or the alert's id where each alert is a group (`group_by: ["..."]`). While the
//!   incident is open, what comes later for the group is added to it, and so is what is sent twice. Nothing is
//!   resolved from here: a rule that no longer matches says nothing about the intruder.
//! * `group_wait` is 0 by default: PagerDuty itself decides whom to wake, and when.
//! * Severity by level: `critical`, `error` (high), `warning` (medium), `info`.
//! * The newest [`NEWEST_MAX`] alerts stand in `custom_details` with counts by rule and level; the rules' references are `links`.
//!
//! | answer | what follows |
//! |---|---|
//! | 202 | accepted |
//! | 400 | refused: told one by one until the bad alert is alone; held if it is about the `routing_key` |
//! | 429, 5xx | tried again; after a 429 without `Retry-After` not before 30 s, for all groups |
//! | others | held |
//!
//! Not supported: acknowledging, resolving, change events, images.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Uri};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::notify::{self, AlertEncoder, Speaker, Voice};
use super::{Encoder, Sink, SinkKind, Step, Transport};
use crate::batch::Batching;
use crate::config::{Interval, Secret, Section, schema_of};
use crate::encode::body::Context;
use crate::encode::group::{Grouping, Groups, Telling};
use crate::encode::notice::{DEFAULT_FIELDS, Digest, FIELDS_MAX, Notice, Notices, shorten};
use crate::error::{Diagnostics, Error};
use crate::net::http_client::{Answer, ClientOptions, parse_address};
use crate::net::tls::{ClientTls, TlsClient};

pub(super) struct PagerDuty;

const SAMPLE: &str = r#"
type: pagerduty
routing_key: "R0123456789ABCDEF0123456789ABCDE"  # of an integration "Events API v2"; better secret://env/PD_ROUTING_KEY
region: us                                       # us or eu: where the account is
group_by: [rule.id, source.ip]                   # one incident each; ["..."]: one an alert
group_wait: 0s                                   # from the first alert of a group to its notification
group_interval: 5m                               # between two notifications of a group
"#;

/// PagerDuty takes about 120 calls a minute and key.
const PACE: Duration = Duration::from_millis(550);

/// What PagerDuty suggests after a 429.
const PAUSE: Duration = Duration::from_secs(30);

/// Alerts of a notification that are shown.
const NEWEST_MAX: usize = 10;

/// Rules whose counts are shown.
const RULES_MAX: usize = 20;

/// Links, of which PagerDuty documents no limit.
const LINKS_MAX: usize = 10;

/// PagerDuty's limit for a summary.
const SUMMARY_CHARACTERS_MAX: usize = 1024;

/// Characters of a routing key.
const ROUTING_KEY_CHARACTERS: usize = 32;

impl SinkKind for PagerDuty {
    fn name(&self) -> &'static str {
        "pagerduty"
    }

    fn error_output_type(&self) -> &'static str {
        "http-endpoint-failed"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section) -> Result<Box<dyn Sink>, Diagnostics> {
        let config: Config = section.read()?;
        let place = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
        let mut diagnostics = Diagnostics::new();
        let endpoint = config.endpoint.as_deref().unwrap_or_else(|| config.region.endpoint());
        let endpoint =
            diagnostics.absorb(parse_address(endpoint).map_err(|error| place("endpoint").error(error.explain("https://host/path")).into()));
        let key = config.routing_key.reveal();
        let is_key = key.len() == ROUTING_KEY_CHARACTERS && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if config.routing_key.is_known() && !is_key {
            let mistake = place("routing_key").error("a routing key has 32 letters and digits");
            diagnostics
                .push(mistake.help("the Integration Key of an integration `Events API v2` of the service; not the key of the REST API"));
        }
        if config.fields.len() > FIELDS_MAX {
            diagnostics.push(place("fields").error(format!("at most {FIELDS_MAX} fields")));
        }
        let grouping = Grouping::read(section, &config.group_by, config.group_wait, config.group_interval);
        let (Some(grouping), Some(endpoint)) = (diagnostics.absorb(grouping), endpoint) else { return Err(diagnostics) };
        let Config { routing_key, fields, tls, .. } = config;
        let (voice, groups) = (Arc::new(Service { endpoint, routing_key }), Groups::new(grouping, PACE));
        diagnostics.into_result(Box::new(Configured { tls, fields, voice, groups }))
    }
}

#[derive(Clone, Copy, Default, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Region {
    /// events.pagerduty.com
    #[default]
    Us,
    /// events.eu.pagerduty.com
    Eu,
}

impl Region {
    fn endpoint(self) -> &'static str {
        match self {
            Self::Us => "https://events.pagerduty.com/v2/enqueue",
            Self::Eu => "https://events.eu.pagerduty.com/v2/enqueue",
        }
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The integration key.
    routing_key: Secret,
    /// Where the account is: us or eu.
    #[serde(default)]
    region: Region,
    /// Another address, such as that of a relay.
    endpoint: Option<String>,
    /// What is told of an alert, where it has it.
    #[serde(default = "Config::fields")]
    fields: Vec<String>,
    /// Fields whose values make a group, which is an incident; `["..."]` tells each alert by itself.
    #[serde(default = "Config::group_by")]
    group_by: Vec<String>,
    /// Time from the first alert of a group to its notification.
    #[serde(default = "Config::group_wait")]
    group_wait: Interval,
    /// Time between two notifications of a group.
    #[serde(default = "Grouping::default_interval")]
    group_interval: Interval,
    /// Certificates.
    #[serde(default)]
    tls: TlsClient,
}

impl Config {
    fn fields() -> Vec<String> {
        DEFAULT_FIELDS.map(str::to_owned).to_vec()
    }

    fn group_by() -> Vec<String> {
        vec!["rule.id".to_owned(), "source.ip".to_owned()]
    }

    fn group_wait() -> Interval {
        Interval(Duration::ZERO)
    }
}

struct Configured {
    tls: TlsClient,
    fields: Vec<String>,
    voice: Arc<Service>,
    groups: Arc<Groups>,
}

impl Sink for Configured {
    fn batching(&self) -> Batching {
        notify::batching(&self.groups)
    }

    fn takes_only_alerts(&self) -> bool {
        true
    }

    fn wants(&self, _: &[String]) -> Vec<String> {
        self.fields.iter().chain(self.groups.grouping().fields()).cloned().collect()
    }

    fn encoder(&self, context: &Context) -> Box<dyn Encoder> {
        let notices = Notices::new(&self.fields, context);
        AlertEncoder::boxed(Box::new(move |event, position, out| notices.write(event, position, out)), &self.groups, context)
    }

    fn transport(&self) -> Result<Transport, Error> {
        let options = ClientOptions { tls: Some(ClientTls::load(&self.tls)?), ..ClientOptions::default() };
        Ok(Transport::Http(Speaker::shared(self.voice.clone(), &self.groups), options))
    }
}

struct Service {
    endpoint: Uri,
    routing_key: Secret,
}

/// What an open incident is found again by, at most 255 characters.
fn dedup_key(group: &Map<String, Value>, name: &str) -> String {
    match group.get("alert_id").and_then(Value::as_str).filter(|_| group.len() == 1) {
        Some(id) => id.to_owned(),
        None => digest(&SHA256, name.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn severity(level: &str) -> &'static str {
    match level {
        "critical" => "critical",
        "high" => "error",
        "medium" => "warning",
        _ => "info",
    }
}

fn shown(notice: &Notice) -> Value {
    json!({
        "id": notice.id, "time": notice.time, "rule": notice.rule.title, "level": notice.rule.level, "source": notice.source,
        "message": notice.message, "fields": notice.fields,
    })
}

impl Service {
    fn event(&self, name: &str, digest: &Digest) -> Value {
        let group: Map<String, Value> = serde_json::from_str(name).unwrap_or_default();
        let newest = digest.newest.first();
        let field = |name: &str| newest.and_then(|notice| notice.fields.get(name)).map(String::as_str);
        let source = field("host.hostname").or_else(|| Some(&*newest?.source)).unwrap_or("hydrant");
        let of_rules =
            digest.rules.iter().take(RULES_MAX).map(|(rule, count)| json!({ "id": rule.id, "title": rule.title, "alerts": count }));
        let of_levels: Map<String, Value> = digest.levels.iter().map(|(level, count)| ((*level).to_owned(), json!(count))).collect();
        let links = digest.links(LINKS_MAX).into_iter().map(|link| json!({ "href": link, "text": "Reference" }));
        let values: Vec<&str> = group.iter().filter(|(key, _)| !key.starts_with("rule.")).filter_map(|(_, value)| value.as_str()).collect();
        let about = if values.is_empty() { String::new() } else { format!(": {}", values.join(", ")) };
        json!({
            "routing_key": self.routing_key.reveal(),
            "event_action": "trigger",
            "dedup_key": dedup_key(&group, name),
            "client": "Hydrant",
            "links": links.collect::<Vec<_>>(),
            "payload": {
                "summary": shorten(&format!("[{}] {}{about}", digest.level, digest.headline()), SUMMARY_CHARACTERS_MAX),
                "source": source,
                "severity": severity(digest.level),
                "timestamp": newest.map(|notice| &notice.time),
                "component": newest.map(|notice| &notice.source),
                "class": digest.rules.first().map(|(rule, _)| &rule.title),
                "custom_details": {
                    "group": group,
                    "alerts": digest.count,
                    "levels": of_levels,
                    "rules": of_rules.collect::<Vec<_>>(),
                    "newest": digest.newest.iter().map(shown).collect::<Vec<_>>(),
                },
            },
        })
    }
}

impl Voice for Service {
    fn request(&self, group: &str, telling: &Telling) -> Result<Request<Bytes>, String> {
        let digest = Digest::read(&telling.bodies, NEWEST_MAX).map_err(|error| error.to_string())?;
        let request = Request::post(self.endpoint.clone()).header(CONTENT_TYPE, "application/json");
        request.body(self.event(group, &digest).to_string().into()).map_err(|error| error.to_string())
    }

    fn outcome(&self, answer: &Answer) -> Step {
        let why = notify::why(answer).replace(self.routing_key.reveal(), "***");
        let is_about_key = || ["routing_key", "routing key"].iter().any(|words| why.contains(words));
        match answer.status.as_u16() {
            200..=299 => Step::Stored,
            400 if is_about_key() => Step::Hold(why),
            400 | 413 => Step::Rejected(why),
            429 if !answer.headers.contains_key("retry-after") => Step::Retry(why, Some(PAUSE)),
            408 | 429 | 500.. => Step::Retry(why, None),
            _ => Step::Hold(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, FRAMES};
    use super::*;
    use crate::batch::Sealed;

    const KEY: &str = "R0123456789ABCDEF0123456789ABCDE";

    fn sent(yaml: &str) -> Vec<Request<Bytes>> {
        let (sink, sealed) = golden::seal(&PagerDuty, &format!("routing_key: {KEY}\n{yaml}\n"), FRAMES);
        let Transport::Http(http, _) = sink.transport().unwrap() else { panic!("not HTTP") };
        // Not those of events, which no route gives it.
        let send = |batch: &Sealed| match http.begin(batch).next(None) {
            Step::Send(request) => request,
            other => panic!("{other:?}"),
        };
        sealed.iter().filter(|batch| batch.items.iter().any(|item| item.is_alert)).map(send).collect()
    }

    #[test]
    fn an_incident_has_exactly_this_event() {
        let request = sent("").pop().unwrap();
        assert_eq!(request.uri(), "https://events.pagerduty.com/v2/enqueue");
        let event: Value = serde_json::from_slice(request.body()).unwrap();
        let group = r#"{"rule.id":"r1","source.ip":"10.1.2.3"}"#;
        let expected = json!({
            "routing_key": KEY,
            "event_action": "trigger",
            "dedup_key": digest(&SHA256, group.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "client": "Hydrant",
            "links": [],
            "payload": {
                "summary": "[high] Denied: 10.1.2.3",
                "source": "fw-1",
                "severity": "error",
                "timestamp": "2026-11-21T06:00:00.123Z",
                "component": "fw",
                "class": "Denied",
                "custom_details": {
                    "group": { "rule.id": "r1", "source.ip": "10.1.2.3" },
                    "alerts": 1,
                    "levels": { "high": 1 },
                    "rules": [{ "id": "r1", "title": "Denied", "alerts": 1 }],
                    "newest": [{
                        "id": "1:40:0", "time": "2026-11-21T06:00:00.123Z", "rule": "Denied", "level": "high", "source": "fw",
                        "message": "<134>Nov 21 06:00:00 fw-1 deny \"a\"\tb",
                        "fields": { "source.ip": "10.1.2.3", "event.action": "deny", "host.hostname": "fw-1" },
                    }],
                },
            },
        });
        assert_eq!(event, expected);
        assert_eq!(sent("region: eu")[0].uri(), "https://events.eu.pagerduty.com/v2/enqueue");
    }

    #[test]
    fn an_alert_by_itself_is_found_again_by_its_id() {
        let event: Value = serde_json::from_slice(sent("group_by: ['...']").pop().unwrap().body()).unwrap();
        assert_eq!(event["dedup_key"], "1:40:0");
    }

    /// PagerDuty's limits, whatever senders write into fields and messages and people into rules.
    #[test]
    fn the_longest_event_keeps_the_limits() {
        let long = "\u{1}ä".repeat(500);
        let rule = json!({ "id": "r", "title": long, "level": "critical", "references": vec!["https://x".to_owned() + &long; 40] });
        let fields: Map<String, Value> = (0..FIELDS_MAX).map(|index| (format!("f{index}"), long[..300].into())).collect();
        let alert = json!({ "id": "1", "time": "t", "rule": rule, "source": "s", "message": long, "fields": fields });
        let body = Bytes::from(format!("[{}]", vec![alert.to_string(); 30].join(",")));
        let service = Service { endpoint: Uri::default(), routing_key: KEY.into() };
        let request = service.request("{\"a\":\"b\"}", &Telling { key: String::new(), bodies: vec![body] }).unwrap();
        assert!(request.body().len() <= 512 * 1024, "{}", request.body().len());
        let event: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(event["payload"]["summary"].as_str().unwrap().chars().count(), SUMMARY_CHARACTERS_MAX);
        assert_eq!(event["payload"]["custom_details"]["alerts"], 30);
    }

    #[test]
    fn answers_mean_what_the_table_says() {
        let service = Service { endpoint: Uri::default(), routing_key: KEY.into() };
        let f = |status, body| format!("{:?}", service.outcome(&golden::answer(status, body)));
        let invalid = r#"{"status":"invalid event","message":"Event object is invalid","errors":["Length of 'routing_key' is incorrect (should be 32 characters)"]}"#;
        for (status, body, expected) in [
            (202, "{}", "Stored"),
            (400, r#"{"status":"invalid event","errors":["'payload.severity' is invalid"]}"#, "Rejected"),
            (400, invalid, "Hold"),
            (400, "Invalid routing key", "Hold"),
            (403, "", "Hold"),
            (404, "", "Hold"),
            (500, "", "Retry"),
            (503, "", "Retry"),
        ] {
            assert!(f(status, body).starts_with(expected), "{status} {body}");
        }
        assert!(f(429, "").ends_with("Some(30s))"));
        assert!(!f(400, "R0123456789ABCDEF0123456789ABCDE").contains(KEY), "a key is not logged");
    }

    #[test]
    fn mistakes_are_named_and_the_key_is_not() {
        let error = golden::read(&PagerDuty, "routing_key: swordfish\nendpoint: x\ngroup_by: [rule.ID]\n").err().unwrap();
        for message in ["routing_key: a routing key has 32", "endpoint: this is not an address", "did you mean `rule.id`"] {
            assert!(error.contains(message) && !error.contains("fish"), "{message}: {error}");
        }
        assert!(golden::read(&PagerDuty, &format!("routing_key: {KEY}\nregion: uk")).err().unwrap().contains("one of: us, eu"));
    }
}
