//! Settings as people write them, and as librdkafka wants them (its CONFIGURATION.md, 2.12).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use serde::Deserialize;

use crate::config::{Interval, Secret, Section};
use crate::error::Diagnostics;

/// What brokers permit at least unless they are told otherwise (`group.min.session.timeout.ms`), and what librdkafka
/// permits at most (its `max.poll.interval.ms`, which stays as it is: we poll ten times a second).
const SESSION_TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_secs(6), Duration::from_secs(5 * 60));

/// Heartbeats in a session timeout: two may be lost.
const HEARTBEATS: u32 = 3;

/// Longest topic name (Kafka, `Topic.MAX_NAME_LENGTH`).
const TOPIC_BYTES_MAX: usize = 249;

/// Records that librdkafka fetches ahead, in KiB for all partitions together: a second of a busy network, and little
/// beside the memory budget. A fetch that is under way comes on top.
const QUEUED_KIB_MAX: usize = 32 * 1024;

/// One answer of a broker; a larger record comes alone. Half of what is queued, so that there is always a next one.
const FETCH_BYTES_MAX: usize = QUEUED_KIB_MAX * 1024 / 2;

/// How often brokers are asked for new partitions, and for topics that were not there.
const METADATA_INTERVAL: Duration = Duration::from_secs(30);

/// Longest pause between two attempts to connect.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(10);

/// What others call our settings.
const FOREIGN_NAMES: &[(&str, &str)] = &[
    ("auto_offset_reset", "start"),
    ("bootstrap.servers", "brokers"),
    ("bootstrap_servers", "brokers"),
    ("consumer_group", "group_id"),
    ("group", "group_id"),
    ("group.id", "group_id"),
    ("topic", "topics"),
];

/// Where a group begins that has no offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Start {
    /// With the oldest record there is.
    #[default]
    Earliest,
    /// With what comes from now on.
    Latest,
}

/// How we show who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    const NAMES: [(&str, Self); 3] = [("PLAIN", Self::Plain), ("SCRAM-SHA-256", Self::ScramSha256), ("SCRAM-SHA-512", Self::ScramSha512)];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl TryFrom<String> for Mechanism {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wanted = text.to_ascii_uppercase().replace('_', "-");
        if let Some((_, mechanism)) = Self::NAMES.into_iter().find(|(name, _)| *name == wanted) {
            return Ok(mechanism);
        }
        let more = match wanted.as_str() {
            "AWS-MSK-IAM" | "OAUTHBEARER" => {
                "; IAM is not spoken here yet, MSK also takes SCRAM-SHA-512 (with a secret in Secrets Manager)"
            }
            "GSSAPI" => "; Kerberos is not spoken here",
            _ => "",
        };
        Err(format!("`{text}` is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512{more}"))
    }
}

impl schemars::JsonSchema for Mechanism {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Mechanism".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": Self::NAMES.map(|(name, _)| name) })
    }
}

/// How we show who we are.
#[derive(Clone, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sasl {
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    mechanism: Mechanism,
    /// The user.
    username: String,
    /// Its password.
    password: Secret,
}

/// TLS towards the brokers. It is OpenSSL's, not rustls: librdkafka brings its own connections.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// PEM file with the authorities to trust instead of the system's.
    ca: Option<PathBuf>,
    /// PEM file with our client certificate.
    cert: Option<PathBuf>,
    /// PEM file with the key of our client certificate.
    key: Option<PathBuf>,
    /// Whether the brokers' certificates are checked. Without it anybody on the way can read and change everything.
    #[serde(default = "yes")]
    verify: bool,
}

fn yes() -> bool {
    true
}

/// The section of a source.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Brokers to begin with, as `host:port`; they name the others.
    brokers: Vec<String>,
    /// Topics to read.
    pub(super) topics: Vec<String>,
    /// The consumer group: its members share the partitions, and it remembers how far they are read.
    pub(super) group_id: String,
    /// Where a group begins that has no offset: `earliest` or `latest`.
    #[serde(default)]
    pub(super) start: Start,
    /// TLS; `{}` for the system's authorities.
    tls: Option<Tls>,
    /// Name and password.
    sasl: Option<Sasl>,
    /// How long the group waits for a member that has gone without a word.
    #[serde(default = "Settings::session_timeout")]
    session_timeout: Interval,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("brokers", &self.brokers).field("topics", &self.topics).finish_non_exhaustive()
    }
}

impl Settings {
    /// What librdkafka and Kafka's own clients take.
    fn session_timeout() -> Interval {
        Interval(Duration::from_secs(45))
    }

    /// Reads a section; every mistake in it.
    pub(super) fn read(section: &Section) -> Result<Self, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let foreign: Vec<&str> = FOREIGN_NAMES.iter().map(|(name, _)| *name).collect();
        for (name, ours) in FOREIGN_NAMES {
            if let Some(place) = section.child(name) {
                diagnostics.push(place.error(format!("this setting is called `{ours}` here")));
            }
        }
        if diagnostics.has_errors() {
            // What is missing under its right name is not missing.
            let missing: Vec<&str> =
                FOREIGN_NAMES.iter().filter(|(name, _)| section.child(name).is_some()).map(|(_, ours)| *ours).collect();
            if let Err(others) = section.without(&foreign).read::<Self>() {
                let is_new = |text: &str| !missing.iter().any(|ours| text.contains(&format!("`{ours}`")));
                others.0.into_iter().filter(|other| is_new(&other.message)).for_each(|other| diagnostics.push(other));
            }
            return Err(diagnostics);
        }
        let settings: Self = section.read()?;
        settings.check(section, &mut diagnostics);
        diagnostics.into_result(settings)
    }

    fn check(&self, section: &Section, diagnostics: &mut Diagnostics) {
        let child = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
        for (key, list, help) in [("brokers", &self.brokers, "brokers: [\"kafka-1:9092\"]"), ("topics", &self.topics, "topics: [firewall]")]
        {
            if list.is_empty() {
                diagnostics.push(child(key).error("at least one is needed").help(help));
            }
        }
        for place in child("brokers").items() {
            let text = place.node().text().unwrap_or_default();
            let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains([',', '/', ' ']));
            if !port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0)) {
                diagnostics.push(place.error("expected `host:port`").help("kafka-1:9092, or 9094 or 9096 with TLS"));
            }
        }
        for place in child("topics").items() {
            let text = place.node().text().unwrap_or_default();
            if text.starts_with('^') {
                diagnostics.push(place.error("patterns of topics are not supported: name each one"));
            } else if !is_topic(text) {
                diagnostics.push(place.error("not the name of a topic: 1 to 249 of a-z, A-Z, 0-9, `.`, `_`, `-`"));
            }
        }
        if self.group_id.is_empty() {
            diagnostics.push(child("group_id").error("a group has a name").help("group_id: hydrant"));
        }
        let (least, most) = SESSION_TIMEOUT_RANGE;
        if !(least..=most).contains(&self.session_timeout.0) {
            diagnostics.push(child("session_timeout").error("6s to 5m").help("session_timeout: 45s"));
        }
        if let Some(tls) = &self.tls
            && tls.cert.is_some() != tls.key.is_some()
        {
            diagnostics.push(child("tls").error("`cert` and `key` belong together; only one of them is set"));
        }
        if self.sasl.as_ref().is_some_and(|sasl| sasl.username.is_empty() || sasl.password.reveal().is_empty()) {
            diagnostics.push(child("sasl").error("an empty name or password lets nobody in"));
        }
    }

    /// Whether the password goes to the brokers as it is.
    pub(super) fn shows_password(&self) -> bool {
        self.tls.is_none() && self.sasl.as_ref().is_some_and(|sasl| sasl.mechanism == Mechanism::Plain)
    }

    /// The same for librdkafka. Offsets are committed by us alone.
    pub(super) fn client(&self) -> ClientConfig {
        let ms = |duration: Duration| duration.as_millis().to_string();
        let mut client = ClientConfig::new();
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        client
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "hydrant")
            .set("group.id", &self.group_id)
            .set("security.protocol", protocol)
            .set("session.timeout.ms", ms(self.session_timeout.0))
            .set("heartbeat.interval.ms", ms(self.session_timeout.0 / HEARTBEATS))
            // Only partitions that move are stopped, and only they are read twice.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // For offsets that are no longer there. Where a group without offset begins is said at the assignment.
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("queued.max.messages.kbytes", QUEUED_KIB_MAX.to_string())
            .set("fetch.max.bytes", FETCH_BYTES_MAX.to_string())
            .set("topic.metadata.refresh.interval.ms", ms(METADATA_INTERVAL))
            .set("reconnect.backoff.max.ms", ms(RECONNECT_PAUSE_MAX))
            .set("socket.keepalive.enable", "true")
            .set_log_level(RDKafkaLogLevel::Warning);
        if let Some(sasl) = &self.sasl {
            client
                .set("sasl.mechanism", sasl.mechanism.name())
                .set("sasl.username", &sasl.username)
                .set("sasl.password", sasl.password.reveal());
        }
        if let Some(tls) = &self.tls {
            for (key, path) in [("ssl.ca.location", &tls.ca), ("ssl.certificate.location", &tls.cert), ("ssl.key.location", &tls.key)] {
                if let Some(path) = path {
                    client.set(key, path.to_string_lossy());
                }
            }
            client.set("enable.ssl.certificate.verification", tls.verify.to_string());
            client.set("ssl.endpoint.identification.algorithm", if tls.verify { "https" } else { "none" });
        }
        client
    }
}

fn is_topic(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= TOPIC_BYTES_MAX && name.bytes().all(is_allowed) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let section = Section::parse(Path::new("t.yaml"), text).map_err(|error| error.to_string())?;
        Settings::read(&section).map_err(|error| error.to_string())
    }

    const GOOD: &str = "brokers: ['a:9092'], topics: [t], group_id: g";

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, part) in [
            ("{ topics: [t], group_id: g }", "`brokers`"),
            ("{ bootstrap_servers: 'a:1', topics: [t], group_id: g }", "this setting is called `brokers` here"),
            ("{ brokers: ['a:1'], topic: t, group: g }", "this setting is called `topics` here"),
            ("{ brokers: [], topics: [t], group_id: g }", "brokers: at least one is needed"),
            ("{ brokers: [a], topics: [t], group_id: g }", "brokers[0]: expected `host:port`"),
            ("{ brokers: ['a:1,b:1'], topics: [t], group_id: g }", "expected `host:port`"),
            ("{ brokers: ['a:0'], topics: [t], group_id: g }", "expected `host:port`"),
            ("{ brokers: ['a:1'], topics: ['^fw-.*'], group_id: g }", "topics[0]: patterns"),
            ("{ brokers: ['a:1'], topics: ['a b'], group_id: g }", "topics[0]: not the name of a topic"),
            ("{ brokers: ['a:1'], topics: [t], group_id: '' }", "a group has a name"),
            ("{ GOOD, start: newest }", "start"),
            ("{ GOOD, session_timeout: 1s }", "6s to 5m"),
            ("{ GOOD, tls: { cert: a } }", "`cert` and `key` belong together"),
            ("{ GOOD, tls: { server_name: a } }", "server_name"),
            ("{ GOOD, sasl: { mechanism: AWS_MSK_IAM, username: a, password: b } }", "MSK also takes SCRAM-SHA-512"),
            ("{ GOOD, sasl: { mechanism: OAUTHBEARER, username: a, password: b } }", "IAM is not spoken here yet"),
            ("{ GOOD, sasl: { mechanism: GSSAPI, username: a, password: b } }", "Kerberos"),
            ("{ GOOD, sasl: { mechanism: PLAIN, username: '', password: b } }", "lets nobody in"),
        ] {
            let error = read(&text.replace("GOOD", GOOD)).err().unwrap_or_default();
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = read("{ bootstrap_servers: 'a:1', topics: [t], group_id: g }").unwrap_err();
        assert_eq!(error.lines().count(), 1, "{error}");
    }

    #[test]
    fn librdkafka_takes_every_combination() {
        for (more, protocol) in [
            ("", "plaintext"),
            (", tls: {}", "ssl"),
            (", sasl: { mechanism: plain, username: a, password: b }", "sasl_plaintext"),
            (", tls: { verify: false }, sasl: { mechanism: scram_sha_256, username: a, password: b }", "sasl_ssl"),
            (", start: latest, tls: {}, sasl: { mechanism: SCRAM-SHA-512, username: a, password: b }", "sasl_ssl"),
        ] {
            let client = read(&format!("{{ {GOOD}{more} }}")).unwrap().client();
            assert_eq!(client.get("security.protocol"), Some(protocol), "{more}");
            client.create_native_config().unwrap();
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let settings = read(&format!("{{ {GOOD}, sasl: {{ mechanism: PLAIN, username: a, password: hush }} }}")).unwrap();
        assert!(!format!("{settings:?}").contains("hush"));
    }
}
