//! An alert with the fields of a notable event: `row of an alert -> the value of HEC's key "event"`.
//!
//! Sources: Splunk Enterprise Security, "Using notable events in search" (dev.splunk.com) and "Customize notable event
//! settings"; Common Information Model 6.0, data model Alerts. Names of CIM (`src`, `dest`, `user`, `dvc`, `signature`, `app`,
//! `type`, `id`) are beside those of notable events (`rule_name`, `rule_title`, `security_domain`, `urgency`, ..). Below
//! `fields` stand the ECS names, below `hydrant` what all alerts of ours have there, so nothing collides with `user`.
//!
//! An index is told what it gets by its name and source type: with `alert_index: notable`, Enterprise Security shows alerts
//! among its own. Its `rule_id` and `event_id` are given by Splunk itself.

use super::sourcetype;
use crate::encode::alert::{Attack, Named, Reader, Sources, risk_score};
use crate::encode::body::{Body, Context};
use crate::encode::object::Object;
use crate::encode::ocsf::{DEVICES, PORTS, USERS};
use crate::event::{Event, Position};

/// What events are looked for around an alert, to both sides.
const DRILLDOWN_S: i64 = 300;

/// Canonical fields that notable events have.
const FIELDS: &[&str] = &[
    "destination.domain",
    "destination.ip",
    "destination.port",
    "destination.user.name",
    "host.hostname",
    "network.transport",
    "observer.hostname",
    "observer.name",
    "source.domain",
    "source.ip",
    "source.port",
    "source.user.name",
    "url.original",
    "user.name",
];

/// Writes alerts of one decoder's events.
pub(super) struct Notable {
    reader: Reader,
    named: Named,
    /// Where the events themselves are found: `index=".."`, and their sources.
    index: String,
    sources: Sources,
    /// Their source type, unless it goes by decoder.
    sourcetype: Option<Box<str>>,
}

impl Notable {
    /// For the events of a decoder, which go to `index` (the token's if none is said) as `sourcetype` (by decoder if none is said).
    pub(super) fn new(context: &Context, index: Option<&str>, sourcetype: Option<&str>) -> Self {
        Self {
            reader: Reader::new(context),
            named: Named::new(FIELDS, &context.fields),
            index: format!("index={}", index.map_or_else(|| "*".to_owned(), quoted)),
            sources: Sources::new(context),
            sourcetype: sourcetype.map(Box::from),
        }
    }

    /// Appends the alert in a row; `body` writes fields and what all rows of ours have.
    pub(super) fn write(&self, event: Event<'_>, position: Position, body: &Body, out: &mut Vec<u8>) {
        let alert = self.reader.read(event, position);
        let attack = Attack::new(&alert.rule.tags);
        let named = &self.named;
        let mut notable = Object::open(out);
        for (name, text) in [
            ("rule_name", &alert.rule.title),
            ("rule_title", &alert.message),
            ("rule_description", &alert.notes.description),
            ("signature", &alert.rule.title),
            ("signature_id", &alert.rule.id),
            ("severity", &alert.rule.level),
            ("urgency", &alert.rule.level),
            ("id", &alert.id),
        ] {
            notable.text_if(name, Some(text.as_bytes()));
        }
        notable.text("app", "Hydrant");
        notable.text("type", "alert");
        notable.text("security_domain", "network");
        notable.plain("risk_score", risk_score(&alert.rule.level));
        notable.text_if("src", named.first(event, &["source.ip", "source.domain"]));
        named.whole(event, "source.port", PORTS).into_iter().for_each(|port| notable.plain("src_port", port));
        notable.text_if("dest", named.first(event, &["destination.ip", "destination.domain"]));
        named.whole(event, "destination.port", PORTS).into_iter().for_each(|port| notable.plain("dest_port", port));
        notable.text_if("transport", named.text(event, "network.transport"));
        notable.text_if("user", named.first(event, &USERS));
        notable.text_if("url", named.text(event, "url.original"));
        notable.text_if("dvc", named.first(event, &DEVICES));
        notable.texts("mitre_technique_id", &attack.techniques);
        notable.object("annotations", |annotations| annotations.texts("mitre_attack", &attack.techniques));
        notable.text("drilldown_search", self.drilldown(event));
        if !alert.decoder.is_empty() {
            notable.text("orig_sourcetype", self.sourcetype.as_deref().unwrap_or_else(|| sourcetype(&alert.decoder)).as_bytes());
        }
        if alert.is_of_event {
            notable.text("orig_raw", event.raw());
        }
        notable.text_if("orig_raw", alert.evidence.as_ref().map(|evidence| &evidence.raw));
        if let Some(matched) = alert.matched {
            notable.key("matched").extend_from_slice(matched);
        }
        notable.object("fields", |fields| fields.members(|out| body.write_fields(event, out)));
        notable.members(|out| body.write_own(event, position, out));
        notable.close();
    }

    /// A search for the events around. Nothing of it is a sender's but addresses.
    fn drilldown(&self, event: Event<'_>) -> String {
        let time_s = event.time_ms.div_euclid(1000);
        let address = ["source.ip", "destination.ip"].iter().find_map(|name| self.named.address(event, name));
        let address = address.map_or_else(String::new, |address| format!(" {}", quoted(&String::from_utf8_lossy(&address))));
        let sources: Vec<String> = self.sources.all(event).iter().map(|source| quoted(source)).collect();
        let sources = match sources.as_slice() {
            [one] => format!("source={one}"),
            several => format!("source IN ({})", several.join(", ")),
        };
        format!("{} {sources}{address} earliest={} latest={}", self.index, time_s - DRILLDOWN_S, time_s + DRILLDOWN_S)
    }
}

/// A text of Splunk's search language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
