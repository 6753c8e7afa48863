//! `aws_firehose`: what speaks to Amazon Data Firehose, and Amazon Data Firehose itself, by HTTP.
//!
//! One listener, two protocols, told apart by a header:
//!
//! * `X-Amz-Target: Firehose_20150804.*`: the Direct PUT API, as producers use it ([`direct_put`]): AWS CLI and SDKs,
//!   Fluent Bit, Vector, the Kinesis Agent. Signatures (SigV4) are checked against `credentials`. Destinations in a
//!   CreateDeliveryStream are not looked at: where events go is for Hydrant's routes to say.
//! * `X-Amz-Firehose-Request-Id`: HTTP endpoint delivery 1.0 ([`delivery`]), by which a real Firehose in AWS hands over
//!   WAF, VPC and CloudWatch logs. `access_key` is checked. It needs TLS with a certificate that AWS trusts, on port
//!   443.
//!
//! Out: one message per record, unwrapped (gzip and envelopes of CloudWatch Logs inside records), then framed: JSON
//! objects one by one, text by lines, since clients join several events in one record. Beside the bytes:
//! `%hydrant.stream`, and `%hydrant.attributes` with the common attributes of a delivery.
//!
//! A request is answered well only when all of its records are journaled; otherwise none is taken and the whole call
//! fails. Partial failure, which AWS has, is never answered: Vector drops and Fluent Bit doubles records then.
//!
//! Without `credentials` no Direct PUT is taken, without `access_key` no delivery; with neither, on loopback or with
//! `auth: none`, everybody may send both.

mod delivery;
mod direct_put;
mod records;
mod streams;

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IntoDeserializer as _, SeqAccess, Visitor};

use super::{Intake, Source, SourceKind};
use crate::config::{Secret, Section, schema_of};
use crate::error::{Diagnostics, Error};
use crate::net::http_auth::Auth;
use crate::net::http_server::{self, ConnectionInfo, ServerOptions};
use crate::net::listen::{self, Address, Transport};
use crate::net::tls::{ServerTls, TlsServer};
use crate::task::{LocalFuture, Stop};
use delivery::Seen;
use streams::{Streams, is_name};

pub(super) struct AwsFirehose;

const SAMPLE: &str = r#"
type: aws_firehose
listen: "0.0.0.0:8443"
tls: { cert: cert.pem, key: key.pem }
access_key: "secret://env/FIREHOSE_KEY"       # of the HTTP endpoint in AWS; a list while a key is replaced
credentials:                                  # who may use the Direct PUT API
  - { access_key_id: AKIAHYDRANT, secret_access_key: "secret://env/PUT_SECRET" }
streams: [aws-waf-logs-main, audit]           # names that the Direct PUT API knows; default: every name
account_id: "123456789012"                    # in ARNs; default 000000000000
"#;

/// A delivery stream buffers for up to 15 minutes.
const DELAY: Duration = Duration::from_secs(15 * 60);

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const DELIVERY_ID: HeaderName = HeaderName::from_static("x-amz-firehose-request-id");

impl SourceKind for AwsFirehose {
    fn name(&self) -> &'static str {
        "aws_firehose"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn Source>, Diagnostics> {
        let config: Config = section.read()?;
        let child = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
        let mut diagnostics = Diagnostics::new();
        if !matches!(config.listen, Address::Ip { transport: Transport::Any | Transport::Tcp, .. }) {
            diagnostics.push(child("listen").error("HTTP listens at an IP address and port, by TCP").help("127.0.0.1:8443"));
        }
        if matches!(config.auth, Auth::Secrets(_)) {
            diagnostics.push(child("auth").error("this source has `access_key` and `credentials`; `auth` can only be `none`"));
        }
        let keys = &config.access_key.0;
        if keys.iter().chain(config.credentials.iter().map(|credential| &credential.secret_access_key)).any(|key| key.reveal().is_empty()) {
            diagnostics.push(section.error("an empty key lets everybody in; if that is meant, leave the key out and write `auth: none`"));
        }
        let has_keys = !keys.is_empty() || !config.credentials.is_empty();
        if has_keys && config.auth == Auth::Nobody {
            diagnostics.push(child("auth").error("`auth: none` contradicts the keys"));
        }
        if !has_keys && let Err(message) = config.auth.check_listener(&config.listen, None) {
            let help = "access_key: \"secret://env/NAME\", or credentials, or `auth: none` if everybody may";
            diagnostics.push(
                child("listen").error(message.replace("`auth` does not say", "neither `access_key` nor `credentials` say")).help(help),
            );
        }
        for name in config.streams.iter().flatten().filter(|name| !is_name(name)) {
            diagnostics.push(child("streams").error(format!("`{name}` is not a stream name: 1 to 64 of a-z, A-Z, 0-9, `_`, `.`, `-`")));
        }
        if config.account_id.len() != 12 || !config.account_id.bytes().all(|byte| byte.is_ascii_digit()) {
            diagnostics.push(child("account_id").error("an account id has 12 digits"));
        }
        diagnostics.into_result(Arc::new(Configured {
            is_open: !has_keys,
            streams: Streams::new(config.streams.clone()),
            seen: Seen::default(),
            config,
        }))
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where to listen.
    listen: Address,
    /// Certificate and key: the listener then speaks TLS only.
    tls: Option<TlsServer>,
    /// What HTTP endpoint delivery has to show.
    #[serde(default)]
    access_key: Keys,
    /// Who may use the Direct PUT API.
    #[serde(default)]
    credentials: Vec<Credential>,
    /// `none`: everybody may send.
    #[serde(default)]
    auth: Auth,
    /// Streams that the Direct PUT API knows; every name if not set.
    streams: Option<Vec<String>>,
    /// The account in ARNs and messages.
    #[serde(default = "Config::account_id")]
    account_id: String,
}

impl Config {
    fn account_id() -> String {
        "000000000000".to_owned()
    }
}

/// One key, or a list.
#[derive(Default, schemars::JsonSchema)]
struct Keys(Vec<Secret>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;
        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key or a list of keys")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Keys, E> {
                Secret::deserialize(text.into_deserializer()).map(|key| Keys(vec![key]))
            }

            fn visit_none<E>(self) -> Result<Keys, E> {
                Ok(Keys(vec![Secret::unknown()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Keys, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Keys)
            }
        }
        deserializer.deserialize_any(KeysVisitor)
    }
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Credential {
    /// The access key id.
    access_key_id: String,
    /// Its secret.
    secret_access_key: Secret,
}

struct Configured {
    config: Config,
    /// No keys are configured: everybody may send.
    is_open: bool,
    streams: Streams,
    seen: Seen,
}

impl Source for Configured {
    fn framing(&self) -> &'static str {
        "json"
    }

    fn delay(&self) -> Duration {
        DELAY
    }

    fn names_devices(&self) -> bool {
        // Amazon Data Firehose delivers from addresses of its own, now from this one, now from another.
        false
    }

    fn unwrap(&self) -> &'static [&'static str] {
        &["compressed", "cloudwatch_logs"]
    }

    fn listens_on(&self) -> Vec<Address> {
        vec![self.config.listen.clone()]
    }

    fn run(self: Arc<Self>, intake: Rc<dyn Intake>, stop: Stop) -> LocalFuture<'static, Result<(), Error>> {
        Box::pin(self.serve(intake, stop))
    }
}

impl Configured {
    async fn serve(self: Arc<Self>, intake: Rc<dyn Intake>, stop: Stop) -> Result<(), Error> {
        let Address::Ip { socket, .. } = self.config.listen else { return Ok(()) };
        let tls = self.config.tls.clone().map(ServerTls::load).transpose()?.map(Arc::new);
        let options = ServerOptions { tls, counters: intake.server_counters(), ..ServerOptions::default() };
        let listener = listen::tcp(socket)?;
        intake.opened();
        let handler = move |request, info: Rc<ConnectionInfo>| {
            let (source, intake) = (self.clone(), intake.clone());
            async move { source.answer(request, info.peer.ip().to_canonical(), intake).await }
        };
        http_server::serve(listener, options, handler, async move { stop.wait().await }).await;
        Ok(())
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: IpAddr, intake: Rc<dyn Intake>) -> Response<Full<Bytes>> {
        if request.headers().contains_key(TARGET) {
            return direct_put::answer(&self, request, peer, &*intake).await;
        }
        if request.headers().contains_key(DELIVERY_ID) {
            return delivery::answer(&self, request, peer, intake).await;
        }
        intake.count_refused_from("protocol", peer);
        let text = r#"{"message":"neither X-Amz-Target (Direct PUT) nor X-Amz-Firehose-Request-Id (HTTP endpoint delivery)"}"#;
        json_response(StatusCode::BAD_REQUEST, "application/json", text.as_bytes().to_vec())
    }
}

fn json_response(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn mistakes_are_named_with_their_place() {
        let read = |text: &str| {
            let section = Section::parse(Path::new("t.yaml"), text).map_err(|error| error.to_string())?;
            AwsFirehose.read(&section.without(&["type"])).map_err(|error| error.to_string())
        };
        for (text, part) in [
            ("listen: '0.0.0.0:443'", "neither `access_key` nor `credentials` say who may send"),
            ("{ listen: '127.0.0.1:443', streams: [a/b] }", "`a/b` is not a stream name"),
            ("{ listen: '127.0.0.1:443', access_key: '' }", "an empty key"),
            ("{ listen: '127.0.0.1:443', access_key: ~ }", "a key or a list of keys"),
            ("{ listen: '127.0.0.1:443', access_key: x, auth: none }", "contradicts"),
            ("{ listen: '127.0.0.1:443', account_id: '12' }", "12 digits"),
            ("listen: 'unix:/x'", "by TCP"),
        ] {
            let error = read(text).err().unwrap();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(read("{ listen: '0.0.0.0:443', auth: none }").is_ok());
        assert!(read("{ listen: '0.0.0.0:443', access_key: [a, b] }").is_ok());
        let sample = read(&SAMPLE.replace("secret://env/", "")).unwrap();
        assert_eq!(sample.listens_on(), ["0.0.0.0:8443".parse().unwrap()]);
        assert!(sample.unwrap().iter().all(|name| ["compressed", "cloudwatch_logs"].contains(name)));
    }
}
