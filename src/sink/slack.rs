//! `slack`: a message in a channel for each group of alerts, by an incoming webhook.
//!
//! Out: `POST https://hooks.slack.com/services/..` with `text`, which is also what a notification of the phone shows, and one
//! attachment in the colour of the level with Block Kit blocks: the group and the counts, the newest alerts with their fields,
//! links to the rules' references. Source: Slack Developer Docs, "Sending messages using incoming webhooks", "Improving
//! error conditions for Incoming Webhooks" (answers), "Block Kit: section block, context block" (limits), "Formatting message
//! text" (escapes), "Rate limits" (one message a second and webhook, 429 with `Retry-After`).
//!
//! * Nothing in an event can ping anybody or become a link with another text: `&`, `<` and `>` are escaped, links are not
//!   unfurled, and text is `verbatim`, so `@channel` and addresses in a log line stay text.
//! * Limits: 50 blocks, 3,000 characters a text, 10 fields of 2,000, 10 elements of context. What is longer is cut, and
//!   says so; at most [`NEWEST_MAX`] alerts are shown.
//!
//! | answer | what follows |
//! |---|---|
//! | 200 | told |
//! | 400 | refused: told one by one until the bad alert is alone, which becomes a dead letter; `no_service`, `no_team`, `user_not_found`, `channel_not_found`: held |
//! | 403, 404, 410 and others | held: the webhook was taken back, the channel is archived, posting is not allowed |
//! | 429, 5xx | tried again, `Retry-After` obeyed by all groups |
//!
//! Not supported: other channels than that of the webhook, threads, buttons, the Web API with a token.

use std::sync::Arc;
use std::time::Duration;

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

pub(super) struct Slack;

const SAMPLE: &str = r#"
type: slack
webhook_url: "https://hooks.slack.com/services/T0/B0/X"   # better secret://env/SLACK_WEBHOOK_URL: who has it can post
fields: [source.ip, user.name, event.action]              # what is shown of an alert, where it has it
group_by: [rule.id]                                       # alerts that are told together; ["..."]: each by itself
group_wait: 30s                                           # from the first alert of a group to its message
group_interval: 5m                                        # between two messages of a group
"#;

/// Slack's limit for a webhook.
const PACE: Duration = Duration::from_secs(1);

/// Alerts of a message that are shown: as many as fit on a screen.
const NEWEST_MAX: usize = 5;

/// Rules whose counts are shown.
const RULES_MAX: usize = 10;

/// Links, each an element of a context block.
const LINKS_MAX: usize = 5;

/// Slack's limit for the text of a section, and ours for the top-level text.
const TEXT_CHARACTERS_MAX: usize = 3000;

/// Slack's limit for a field of a section.
const FIELD_CHARACTERS_MAX: usize = 2000;

/// Slack's limit for the fields of a section.
const SECTION_FIELDS_MAX: usize = 10;

/// Characters of a link: Slack's limit for addresses.
const LINK_CHARACTERS_MAX: usize = 2900;

impl SinkKind for Slack {
    fn name(&self) -> &'static str {
        "slack"
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
        let url = parse_address(config.webhook_url.reveal());
        let expected = "https://hooks.slack.com/services/..";
        let url = diagnostics.absorb(url.map_err(|error| place("webhook_url").error(error.explain(expected)).into()));
        if config.fields.len() > FIELDS_MAX {
            diagnostics.push(place("fields").error(format!("at most {FIELDS_MAX} fields")));
        }
        let grouping = Grouping::read(section, &config.group_by, config.group_wait, config.group_interval);
        let (Some(grouping), Some(url)) = (diagnostics.absorb(grouping), url) else { return Err(diagnostics) };
        let Config { fields, tls, .. } = config;
        diagnostics.into_result(Box::new(Configured { tls, fields, voice: Arc::new(Channel { url }), groups: Groups::new(grouping, PACE) }))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The webhook's address, which is a secret.
    webhook_url: Secret,
    /// What is shown of an alert, where it has it.
    #[serde(default = "Config::fields")]
    fields: Vec<String>,
    /// Fields whose values make a group; `["..."]` tells each alert by itself.
    #[serde(default = "Grouping::by_rule")]
    group_by: Vec<String>,
    /// Time from the first alert of a group to its message.
    #[serde(default = "Grouping::default_wait")]
    group_wait: Interval,
    /// Time between two messages of a group.
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
}

struct Configured {
    tls: TlsClient,
    fields: Vec<String>,
    voice: Arc<Channel>,
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

struct Channel {
    url: Uri,
}

/// Red to grey.
fn colour(level: &str) -> &'static str {
    match level {
        "critical" => "#8b0000",
        "high" => "#d93025",
        "medium" => "#f29900",
        "low" => "#1a73e8",
        _ => "#9aa0a6",
    }
}

/// Text of others: nothing in it is markup.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // What is shown as code stays there.
            '`' => out.push('\''),
            other if other.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

/// Text of others, of which at most so many characters are left when it is escaped.
fn escaped(text: &str, characters_max: usize) -> String {
    let whole = escape(text);
    if whole.chars().count() <= characters_max {
        return whole;
    }
    // An escape has at most five characters.
    escape(&shorten(text, characters_max / 5))
}

fn mrkdwn(text: String) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

/// A name and a value, for a section's fields.
fn field(name: &str, value: &str) -> Value {
    mrkdwn(format!("*{}*\n`{}`", escaped(name, FIELD_CHARACTERS_MAX / 4), escaped(value, FIELD_CHARACTERS_MAX / 2)))
}

fn section(text: String, fields: Vec<Value>) -> Value {
    let mut section = json!({ "type": "section", "text": mrkdwn(text) });
    if !fields.is_empty() {
        section["fields"] = fields.into();
    }
    section
}

/// What a group has in common, and how many of what.
fn summary(group: &Map<String, Value>, digest: &Digest) -> Value {
    let levels: Vec<String> = digest.levels.iter().map(|(level, count)| format!("{count} {level}")).collect();
    let alerts = if digest.count == 1 { "alert" } else { "alerts" };
    let mut text = format!("*{} {alerts}*: {}", digest.count, levels.join(", "));
    if digest.rules.len() > 1 {
        for (rule, count) in digest.rules.iter().take(RULES_MAX) {
            text.push_str(&format!("\n• {} × {}", count, escaped(&rule.title, 200)));
        }
        if digest.rules.len() > RULES_MAX {
            text.push_str(&format!("\n• {} other rules", digest.rules.len() - RULES_MAX));
        }
    }
    let fields = group.iter().filter_map(|(name, value)| Some(field(name, value.as_str()?)));
    section(text, fields.take(SECTION_FIELDS_MAX).collect())
}

fn shown(notice: &Notice) -> Value {
    let text = format!(
        "*{}* · {} · {} · {}\n```{}```",
        escaped(&notice.rule.title, 200),
        escaped(&notice.rule.level, 50),
        escaped(&notice.source, 200),
        escaped(&notice.time, 50),
        escaped(&notice.message, TEXT_CHARACTERS_MAX - 600)
    );
    section(text, notice.fields.iter().map(|(name, value)| field(name, value)).take(SECTION_FIELDS_MAX).collect())
}

/// `<address|text>`; an address with a character of the markup would end it.
fn link(address: &str) -> Option<Value> {
    let is_plain = !address.contains(|character: char| "<>|`".contains(character) || character.is_whitespace() || character.is_control());
    let is_short = address.chars().count() <= LINK_CHARACTERS_MAX / 5;
    (is_plain && is_short).then(|| mrkdwn(format!("<{}|{}>", escape(address), escaped(address, 100))))
}

fn message(name: &str, digest: &Digest) -> Value {
    let group: Map<String, Value> = serde_json::from_str(name).unwrap_or_default();
    let headline = format!("[{}] {}", digest.level, digest.headline());
    let mut blocks = vec![summary(&group, digest)];
    blocks.extend(digest.newest.iter().map(shown));
    if digest.count > digest.newest.len() {
        let more = format!("and {} older ones", digest.count - digest.newest.len());
        blocks.push(json!({ "type": "context", "elements": [mrkdwn(more)] }));
    }
    let links: Vec<Value> = digest.links(LINKS_MAX).into_iter().filter_map(link).collect();
    if !links.is_empty() {
        blocks.push(json!({ "type": "context", "elements": links }));
    }
    json!({
        "text": escaped(&headline, TEXT_CHARACTERS_MAX),
        "unfurl_links": false,
        "unfurl_media": false,
        "attachments": [{ "color": colour(digest.level), "fallback": escaped(&headline, TEXT_CHARACTERS_MAX), "blocks": blocks }],
    })
}

/// What Slack says with a 400 when no message would be taken.
const OF_SET_UP: [&str; 5] = ["channel_not_found", "invalid_token", "no_service", "no_team", "user_not_found"];

impl Voice for Channel {
    fn request(&self, group: &str, telling: &Telling) -> Result<Request<Bytes>, String> {
        let digest = Digest::read(&telling.bodies, NEWEST_MAX).map_err(|error| error.to_string())?;
        let request = Request::post(self.url.clone()).header(CONTENT_TYPE, "application/json; charset=utf-8");
        request.body(message(group, &digest).to_string().into()).map_err(|error| error.to_string())
    }

    fn outcome(&self, answer: &Answer) -> Step {
        let why = notify::why(answer);
        match answer.status.as_u16() {
            200..=299 => Step::Stored,
            400 if OF_SET_UP.iter().any(|word| why.contains(word)) => Step::Hold(why),
            400 | 413 => Step::Rejected(why),
            408 | 429 | 500.. => Step::Retry(why, None),
            _ => Step::Hold(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, FRAMES};
    use super::*;

    const URL: &str = "webhook_url: 'http://127.0.0.1:1/services/T/B/X'\n";

    #[test]
    fn a_message_has_exactly_these_blocks() {
        let (sink, sealed) = golden::seal(&Slack, &format!("{URL}group_by: [rule.id, source.ip]\n"), FRAMES);
        let batch = sealed.iter().find(|batch| batch.partition.contains("r1")).unwrap();
        let Transport::Http(http, _) = sink.transport().unwrap() else { panic!("not HTTP") };
        let Step::Send(request) = http.begin(batch).next(None) else { panic!("not a request") };
        let text = |text: &str| json!({ "type": "mrkdwn", "text": text, "verbatim": true });
        let expected = json!({
            "text": "[high] Denied",
            "unfurl_links": false,
            "unfurl_media": false,
            "attachments": [{
                "color": "#d93025",
                "fallback": "[high] Denied",
                "blocks": [
                    { "type": "section", "text": text("*1 alert*: 1 high"), "fields": [text("*rule.id*\n`r1`"), text("*source.ip*\n`10.1.2.3`")] },
                    {
                        "type": "section",
                        "text": text("*Denied* · high · fw · 2026-11-21T06:00:00.123Z\n```&lt;134&gt;Nov 21 06:00:00 fw-1 deny \"a\" b```"),
                        "fields": [text("*event.action*\n`deny`"), text("*host.hostname*\n`fw-1`"), text("*source.ip*\n`10.1.2.3`")],
                    },
                ],
            }],
        });
        assert_eq!(serde_json::from_slice::<Value>(request.body()).unwrap(), expected);
        assert_eq!(request.uri(), "http://127.0.0.1:1/services/T/B/X");
    }

    fn digest(title: &str, message: &str, count: usize) -> Digest {
        let alert = |number: usize| {
            let rule = json!({ "id": format!("{}", number % 30), "title": title, "level": "low", "references": ["https://a/?b=c&d", "https://a|b", "x"] });
            let fields: Map<String, Value> = (0..FIELDS_MAX).map(|index| (format!("f{index}"), message.into())).collect();
            json!({ "id": "1", "time": "t", "rule": rule, "source": message, "message": message, "fields": fields }).to_string()
        };
        let body = Bytes::from(format!("[{}]", (0..count).map(alert).collect::<Vec<_>>().join(",")));
        Digest::read(&[body], NEWEST_MAX).unwrap()
    }

    #[test]
    fn nothing_in_an_event_pings_anybody_or_is_a_link() {
        let evil = "<!channel> <!here> <@U1> <https://evil|bank> ```*b* & @everyone\n";
        let message = message(&json!({ "user.name": evil }).to_string(), &digest(evil, evil, 1)).to_string();
        for markup in ["<!", "<@", "<https://evil", "````"] {
            assert!(!message.contains(markup), "{markup}: {message}");
        }
        assert!(message.contains("&lt;!channel&gt;") && message.contains("<https://a/?b=c&amp;d|"));
        assert!(!message.contains("https://a|b"));
    }

    #[test]
    fn the_longest_message_keeps_the_limits_of_block_kit() {
        for piece in ["<", "ä", "x", "\u{1F600}"] {
            let long = piece.repeat(5000);
            let group: Map<String, Value> = (0..8).map(|index| (format!("k{index}"), long[..4000].into())).collect();
            let message = message(&Value::from(group).to_string(), &digest(&long, &long, 12));
            let attachment = &message["attachments"][0];
            let blocks = attachment["blocks"].as_array().unwrap();
            assert!(blocks.len() <= 50 && message["text"].as_str().unwrap().chars().count() <= TEXT_CHARACTERS_MAX);
            for block in blocks {
                let length = |value: &Value| value["text"].as_str().unwrap().chars().count();
                assert!(block["text"].is_null() || length(&block["text"]) <= 3000, "{piece}: {}", length(&block["text"]));
                let fields = block["fields"].as_array().map_or(&[][..], Vec::as_slice);
                assert!(fields.len() <= 10 && fields.iter().all(|field| length(field) <= 2000));
                assert!(block["elements"].as_array().is_none_or(|elements| elements.len() <= 10));
            }
        }
    }

    #[test]
    fn answers_mean_what_slack_documents() {
        let channel = Channel { url: Uri::default() };
        let f = |status, body| format!("{:?}", channel.outcome(&golden::answer(status, body))).split('(').next().unwrap().to_owned();
        for (status, body, expected) in [
            (200, "ok", "Stored"),
            (400, "invalid_payload", "Rejected"),
            (400, "invalid_blocks", "Rejected"),
            (400, "user_not_found", "Hold"),
            (403, "action_prohibited", "Hold"),
            (404, "channel_not_found", "Hold"),
            (404, "no_service", "Hold"),
            (410, "channel_is_archived", "Hold"),
            (429, "rate_limited", "Retry"),
            (500, "rollup_error", "Retry"),
            (302, "", "Hold"),
        ] {
            assert_eq!(f(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn mistakes_are_named_and_the_address_is_not() {
        let error = golden::read(&Slack, "webhook_url: swordfish\ngroup_wait: 1h\n").err().unwrap();
        for message in ["webhook_url: this is not an address; expected `https://hooks.slack.com/services/..`", "group_wait: at most 900 s"]
        {
            assert!(error.contains(message) && !error.contains("fish"), "{message}: {error}");
        }
    }
}
