//! Who may send requests to a listener: the `auth:` setting and the check of `Authorization`.
//!
//! `Bearer TOKEN` (RFC 6750) and `Basic BASE64` (RFC 7617). Secrets are compared by their SHA-256 in constant time,
//! so neither their bytes nor their length shows in the time of an answer. Schemes are compared without case;
//! `Splunk TOKEN` and `ApiKey TOKEN` are taken as `Bearer` too, since clients that cannot choose send those.
//!
//! `auth: none` says that everybody may send. It has to be written where a listener can be reached from other
//! machines: see [`Auth::check_listener`].

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::config::Secret;
use crate::net::listen::Address;
use crate::net::tls::TlsServer;

/// Longest Authorization value that is looked at.
const AUTHORIZATION_BYTES_MAX: usize = 8 * 1024;

/// Who may send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nothing is written: everybody on this machine.
    #[default]
    Unset,
    /// `none` is written: everybody.
    Nobody,
    /// Who knows one of these.
    Secrets(Secrets),
}

/// What a client has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// Bearer token.
    pub token: Option<Secret>,
    /// More bearer tokens, so that one can be replaced while the old one is still in use.
    #[serde(default)]
    pub tokens: Vec<Secret>,
    /// User name for Basic.
    pub username: Option<String>,
    /// Password for Basic.
    pub password: Option<Secret>,
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AuthVisitor)
    }
}

struct AuthVisitor;

impl<'de> Visitor<'de> for AuthVisitor {
    type Value = Auth;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`none`, `{ token: ... }` or `{ username: ..., password: ... }`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Auth, E> {
        if text == "none" { Ok(Auth::Nobody) } else { Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)) }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Auth, A::Error> {
        let secrets = Secrets::deserialize(MapAccessDeserializer::new(map))?;
        if secrets.username.is_some() != secrets.password.is_some() {
            return Err(A::Error::custom("`username` and `password` belong together"));
        }
        let all = secrets.token.iter().chain(&secrets.tokens).chain(&secrets.password);
        match all.map(|secret| secret.reveal().is_empty()).reduce(|a, b| a || b) {
            None => Err(A::Error::custom("a token, or a user name and a password, is needed; `auth: none` lets everybody in")),
            Some(true) => Err(A::Error::custom("an empty secret lets everybody in; if that is meant, write `auth: none`")),
            Some(false) => Ok(Auth::Secrets(secrets)),
        }
    }
}

impl schemars::JsonSchema for Auth {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Auth".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "`none`, or what a client has to know",
            "anyOf": [{ "const": "none" }, generator.subschema_for::<Secrets>()]
        })
    }
}

impl Auth {
    /// Whether everybody who reaches the listener may send.
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::Secrets(_))
    }

    /// Whether a request with these headers may come in.
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        let Self::Secrets(secrets) = self else { return true };
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, rest)) =
            value.to_str().ok().filter(|value| value.len() <= AUTHORIZATION_BYTES_MAX).and_then(|v| v.split_once(' '))
        else {
            return false;
        };
        if scheme.eq_ignore_ascii_case("basic") {
            return secrets.allows_basic(rest);
        }
        let is_token = ["bearer", "splunk", "apikey"].iter().any(|name| scheme.eq_ignore_ascii_case(name));
        // Every token is compared, so that the time does not tell which one is near.
        let known = secrets.token.iter().chain(&secrets.tokens);
        is_token & known.fold(false, |found, token| found | is_same(token.reveal().as_bytes(), rest.trim().as_bytes()))
    }

    /// Refuses a listener that others can reach while nobody has said who may send.
    ///
    /// # Errors
    /// What is missing.
    pub fn check_listener(&self, address: &Address, tls: Option<&TlsServer>) -> Result<(), String> {
        let asks_for_certificate = tls.is_some_and(|tls| tls.client_ca.is_some());
        if *self != Self::Unset || asks_for_certificate || address.is_local() {
            return Ok(());
        }
        Err(format!("other machines can reach {address}, and `auth` does not say who may send"))
    }
}

impl Secrets {
    fn allows_basic(&self, encoded: &str) -> bool {
        let (Some(username), Some(password)) = (&self.username, &self.password) else { return false };
        let Ok(given) = STANDARD.decode(encoded.trim()) else { return false };
        let Some(colon) = memchr::memchr(b':', &given) else { return false };
        let (given_name, given_password) = (&given[..colon], &given[colon + 1..]);
        is_same(username.as_bytes(), given_name) & is_same(password.reveal().as_bytes(), given_password)
    }
}

/// Whether two secrets are the same, in a time that depends on the length of `given` only.
pub fn is_same(secret: &[u8], given: &[u8]) -> bool {
    let hash = |bytes| digest::digest(&digest::SHA256, bytes);
    constant_time::verify_slices_are_equal(hash(secret).as_ref(), hash(given).as_ref()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Auth, String> {
        let section = crate::config::Section::parse(std::path::Path::new("t.yaml"), text).map_err(|error| error.to_string())?;
        section.child("auth").unwrap().read().map_err(|error| error.to_string())
    }

    fn allows(auth: &Auth, value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        auth.allows(&headers)
    }

    #[test]
    fn tokens_and_passwords_are_compared_whole() {
        let auth = read("auth: { token: abc, tokens: [def], username: u, password: 'p:w' }").unwrap();
        for good in ["Bearer abc", "bearer def", "Splunk abc", "Basic dTpwOnc="] {
            assert!(allows(&auth, good), "{good}");
        }
        for bad in ["Bearer ab", "Bearer abcd", "Bearer ", "abc", "Digest abc", "Basic abc", "Basic dTpw", "Basic eDpwOnc=", "Bearer p:w"] {
            assert!(!allows(&auth, bad), "{bad}");
        }
        assert!(!auth.allows(&HeaderMap::new()));
        let mut twice = HeaderMap::new();
        twice.append(AUTHORIZATION, "Bearer abc".parse().unwrap());
        twice.append(AUTHORIZATION, "Bearer x".parse().unwrap());
        assert!(!auth.allows(&twice));
    }

    #[test]
    fn half_and_empty_secrets_are_refused() {
        for (text, part) in [
            ("auth: {}", "is needed"),
            ("auth: { token: '' }", "empty secret"),
            ("auth: { username: u }", "belong together"),
            ("auth: of", "none"),
            ("auth: { tokne: x }", "token"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(read("auth: none").unwrap(), Auth::Nobody);
    }

    #[test]
    fn a_listener_that_others_reach_needs_a_word_about_who_may_send() {
        let open: Address = "0.0.0.0:80".parse().unwrap();
        let local: Address = "127.0.0.1:80".parse().unwrap();
        assert!(Auth::Unset.check_listener(&open, None).is_err());
        assert!(Auth::Unset.check_listener(&local, None).is_ok());
        assert!(Auth::Nobody.check_listener(&open, None).is_ok());
        let mutual = TlsServer {
            cert: "c".into(),
            key: "k".into(),
            client_ca: Some("ca".into()),
            ..serde_json::from_str(r#"{"cert":"c","key":"k"}"#).unwrap()
        };
        assert!(Auth::Unset.check_listener(&open, Some(&mutual)).is_ok());
    }
}
