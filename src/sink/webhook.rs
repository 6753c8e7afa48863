//! `webhook`: alerts to any program, signed.
//!
//! Out: `POST <endpoint>` with `{"version":1,"group":{"rule.id":".."},"alerts":[..]}`: the alerts of one group, each an OCSF
//! Detection Finding (`encode::ocsf`). What comes with it:
//!
//! * `X-Hydrant-Signature: t=1795240800,v1=<hex>`: HMAC-SHA256 (RFC 2104) with the secret over `1795240800.<body>`, the
//!   time being that of the attempt in seconds since 1970. With two secrets there are two `v1`, that of the newer secret
//!   first; a receiver that knows either accepts one that matches. It compares in constant time and refuses times that
//!   are minutes off, so that a recorded request cannot be played again.
//! * `X-Hydrant-Idempotency-Key`: the same whenever the same alerts are sent again because no answer came. Each alert has its
//!   own id besides, for the rare case that a restart puts them together in another way (see `encode::group`).
//!
//! | answer | what follows |
//! |---|---|
//! | 2xx | stored |
//! | 408, 429, 5xx | tried again, `Retry-After` obeyed by all groups |
//! | 400, 413, 422 | refused: told one by one until the bad alert is alone, which becomes a dead letter |
//! | 3xx and other 4xx | held: the set-up is wrong |
//!
//! Redirects are not followed. Not supported: other methods, headers of one's own.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Uri};
use serde::Deserialize;

use super::notify::{self, AlertEncoder, Speaker, Voice};
use super::{Encoder, Sink, SinkKind, Step, Transport};
use crate::batch::Batching;
use crate::clock;
use crate::config::{Interval, Secret, Section, schema_of};
use crate::encode::alert::AlertForm;
use crate::encode::body::{Context, Form};
use crate::encode::group::{Grouping, Groups, Telling};
use crate::encode::rows;
use crate::error::{Diagnostics, Error};
use crate::net::http_client::{Answer, ClientOptions, parse_address};
use crate::net::tls::{ClientTls, TlsClient};

pub(super) struct Webhook;

const SAMPLE: &str = r#"
type: webhook
endpoint: "https://soar.example.com/hooks/hydrant"
secrets: [ "secret://env/HYDRANT_WEBHOOK_SECRET" ]   # openssl rand -hex 32; two while one is replaced by the other, the new one first
group_by: [rule.id]                                  # alerts that are told together; ["..."]: each by itself
group_wait: 30s                                      # from the first alert of a group to its notification
group_interval: 5m                                   # between two notifications of a group
"#;

/// Bytes of a secret, at least: 128 bits, if they are random.
const SECRET_BYTES_MIN: usize = 16;

impl SinkKind for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
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
        let endpoint = parse_address(config.endpoint.reveal());
        let endpoint = diagnostics.absorb(endpoint.map_err(|error| place("endpoint").error(error.explain("https://host/path")).into()));
        if !(1..=2).contains(&config.secrets.len()) {
            diagnostics.push(place("secrets").error("expected one secret, or two while one is replaced by the other"));
        }
        if config.secrets.iter().any(|secret| secret.reveal().len() < SECRET_BYTES_MIN) {
            let message = format!("a secret has at least {SECRET_BYTES_MIN} bytes");
            diagnostics.push(place("secrets").error(message).help("openssl rand -hex 32"));
        }
        let grouping = Grouping::read(section, &config.group_by, config.group_wait, config.group_interval);
        let (Some(grouping), Some(endpoint)) = (diagnostics.absorb(grouping), endpoint) else { return Err(diagnostics) };
        let keys = config.secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes())).collect();
        let (voice, groups) = (Arc::new(Signed { endpoint, keys }), Groups::new(grouping, Duration::ZERO));
        diagnostics.into_result(Box::new(Configured { tls: config.tls, voice, groups }))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Address, path included.
    endpoint: Secret,
    /// One secret, or two while one is replaced by the other: the new one first.
    secrets: Vec<Secret>,
    /// Fields whose values make a group; `["..."]` tells each alert by itself.
    #[serde(default = "Grouping::by_rule")]
    group_by: Vec<String>,
    /// Time from the first alert of a group to its notification.
    #[serde(default = "Grouping::default_wait")]
    group_wait: Interval,
    /// Time between two notifications of a group.
    #[serde(default = "Grouping::default_interval")]
    group_interval: Interval,
    /// Certificates.
    #[serde(default)]
    tls: TlsClient,
}

struct Configured {
    tls: TlsClient,
    voice: Arc<Signed>,
    groups: Arc<Groups>,
}

impl Sink for Configured {
    fn batching(&self) -> Batching {
        notify::batching(&self.groups)
    }

    fn takes_only_alerts(&self) -> bool {
        true
    }

    fn wants(&self, canonical: &[String]) -> Vec<String> {
        canonical.iter().chain(self.groups.grouping().fields()).cloned().collect()
    }

    fn wants_of_alerts(&self) -> &'static [&'static str] {
        AlertForm::Ocsf.wants()
    }

    fn encoder(&self, context: &Context) -> Box<dyn Encoder> {
        let body = rows::body((Form::Json, AlertForm::Ocsf), false, false, context);
        AlertEncoder::boxed(Box::new(move |event, position, out| body.write_json(event, position, out)), &self.groups, context)
    }

    fn transport(&self) -> Result<Transport, Error> {
        let options = ClientOptions { tls: Some(ClientTls::load(&self.tls)?), ..ClientOptions::default() };
        Ok(Transport::Http(Speaker::shared(self.voice.clone(), &self.groups), options))
    }
}

struct Signed {
    endpoint: Uri,
    keys: Vec<hmac::Key>,
}

impl Signed {
    /// `t=..,v1=..`
    fn signature(&self, body: &[u8]) -> String {
        let seconds = clock::now_ms() / 1000;
        let mut header = format!("t={seconds}");
        for key in &self.keys {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{seconds}.").as_bytes());
            context.update(body);
            let tag = context.sign();
            header.push_str(",v1=");
            header.extend(tag.as_ref().iter().map(|byte| format!("{byte:02x}")));
        }
        header
    }
}

impl Voice for Signed {
    fn request(&self, group: &str, telling: &Telling) -> Result<Request<Bytes>, String> {
        let mut body = format!("{{\"version\":1,\"group\":{group},\"alerts\":[").into_bytes();
        for (index, alerts) in telling.bodies.iter().enumerate() {
            // Each is an array with its brackets.
            let inside = alerts.get(1..alerts.len().saturating_sub(1)).unwrap_or_default();
            body.extend_from_slice(if index > 0 { b"," } else { b"" });
            body.extend_from_slice(inside);
        }
        body.extend_from_slice(b"]}");
        let request = Request::post(self.endpoint.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("X-Hydrant-Signature", self.signature(&body))
            .header("X-Hydrant-Idempotency-Key", &telling.key);
        request.body(body.into()).map_err(|error| error.to_string())
    }

    fn outcome(&self, answer: &Answer) -> Step {
        match answer.status.as_u16() {
            200..=299 => Step::Stored,
            400 | 413 | 422 => Step::Rejected(notify::why(answer)),
            408 | 429 | 500.. => Step::Retry(notify::why(answer), None),
            _ => Step::Hold(notify::why(answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::golden::{self, FRAMES};
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const OLD: &str = "fedcba9876543210fedcba9876543210";

    fn sent(yaml: &str) -> Vec<Request<Bytes>> {
        let yaml = format!("endpoint: 'http://127.0.0.1:1/h'\nsecrets: [ {SECRET}, {OLD} ]\n{yaml}\n");
        let (sink, sealed) = golden::seal(&Webhook, &yaml, FRAMES);
        let Transport::Http(http, _) = sink.transport().unwrap() else { panic!("not HTTP") };
        let send = |batch| match http.begin(batch).next(None) {
            Step::Send(request) => request,
            other => panic!("{other:?}"),
        };
        sealed.iter().map(send).collect()
    }

    #[test]
    fn a_notification_has_the_group_and_the_alerts_as_findings() {
        let requests = sent("group_by: [rule.id, source.ip]");
        let alert = golden::NDJSON_JSON.lines().last().unwrap();
        let expected = format!(r#"{{"version":1,"group":{{"rule.id":"r1","source.ip":"10.1.2.3"}},"alerts":[{alert}]}}"#);
        let bodies: Vec<&[u8]> = requests.iter().map(|request| &request.body()[..]).collect();
        assert!(bodies.contains(&expected.as_bytes()), "{}", String::from_utf8_lossy(&bodies.concat()));
        assert_eq!(requests[0].uri(), "http://127.0.0.1:1/h");
    }

    #[test]
    fn the_signature_is_that_of_rfc_2104_over_the_time_and_the_body_with_each_secret() {
        clock::fix_ms(Some(golden::ARRIVAL_MS));
        let request = sent("group_by: []").pop().unwrap();
        let header = request.headers()["x-hydrant-signature"].to_str().unwrap();
        let parts: Vec<&str> = header.split(',').collect();
        assert_eq!(parts[0], "t=1795240801");
        let signed = [b"1795240801.", &request.body()[..]].concat();
        for (part, secret) in parts[1..].iter().zip([SECRET, OLD]) {
            assert_eq!(*part, format!("v1={}", rfc_2104(secret.as_bytes(), &signed)));
        }
        assert_eq!((parts.len(), request.headers()["x-hydrant-idempotency-key"].len()), (3, 32));
    }

    /// HMAC from its definition; the secrets are shorter than a block.
    fn rfc_2104(secret: &[u8], text: &[u8]) -> String {
        let sha256 = |bytes: &[u8]| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec();
        let pad = |with: u8| (0..64).map(|index| secret.get(index).unwrap_or(&0) ^ with).collect::<Vec<u8>>();
        let inner = sha256(&[pad(0x36), text.to_vec()].concat());
        sha256(&[pad(0x5c), inner].concat()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn each_alert_may_be_a_notification_of_its_own() {
        let requests = sent("group_by: ['...']");
        assert_eq!(requests.len(), FRAMES.len() + 1);
        let of_alert = |request: &&Request<Bytes>| request.body().starts_with(br#"{"version":1,"group":{"alert_id":"1:40:0"},"alerts":[{"#);
        assert_eq!(requests.iter().filter(of_alert).count(), 1);
    }

    #[test]
    fn a_status_means_what_the_table_says() {
        let voice = Signed { endpoint: Uri::default(), keys: Vec::new() };
        let f = |status| format!("{:?}", voice.outcome(&golden::answer(status, "x"))).split('(').next().unwrap().to_owned();
        for (statuses, expected) in [
            (&[200, 202, 204][..], "Stored"),
            (&[400, 413, 422], "Rejected"),
            (&[408, 429, 500, 503], "Retry"),
            (&[302, 401, 403, 404, 410], "Hold"),
        ] {
            statuses.iter().for_each(|status| assert_eq!(f(*status), expected, "{status}"));
        }
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        let yaml = "endpoint: 'swordfish'\nsecrets: [ swordfish ]\ngroup_by: [rule.idd]\n";
        let error = golden::read(&Webhook, yaml).err().unwrap();
        for message in ["endpoint: this is not an address", "secrets: a secret has at least 16 bytes", "did you mean `rule.id`"] {
            assert!(error.contains(message) && !error.contains("fish"), "{message}: {error}");
        }
        assert!(golden::read(&Webhook, "endpoint: 'http://h'\nsecrets: []").err().unwrap().contains("expected one secret"));
    }
}
