//! A value that is never shown.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A secret: `secret://env/NAME`, `secret://file/PATH`, or the value itself. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    is_known: bool,
}

/// Stands for a secret that is not known where nothing is sent. Some secrets are addresses; this is one that nobody has
/// (RFC 2606 section 2).
const UNKNOWN: &str = "https://unknown.invalid/";

impl Secret {
    /// One that is not known here: what a visitor makes of `visit_none`, which no value in a file is.
    pub fn unknown() -> Self {
        Self { value: UNKNOWN.to_owned(), is_known: false }
    }

    /// The value, for the one place that sends or compares it.
    pub fn reveal(&self) -> &str {
        &self.value
    }

    /// Whether the value is known: always, but in a plan that sends nothing ([`super::Section::parse_elsewhere`]).
    pub fn is_known(&self) -> bool {
        self.is_known
    }
}

/// Why a reference to a secret has no value.
#[derive(Debug)]
pub(super) enum SecretError {
    /// There is no such variable or file here.
    Absent(String),
    /// It is no reference.
    Malformed(String),
}

/// The value of what may be a reference.
pub(super) fn resolve(text: &str) -> Result<String, SecretError> {
    let Some(reference) = text.strip_prefix("secret://") else { return Ok(text.to_owned()) };
    match reference.split_once('/') {
        Some(("env", name)) => {
            std::env::var(name).map_err(|_| SecretError::Absent(format!("the environment variable {name} of {text} is not set")))
        }
        Some(("file", path)) => std::fs::read_to_string(path)
            .map(|content| content.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|error| SecretError::Absent(format!("cannot read {path} of {text}: {error}"))),
        _ => Err(SecretError::Malformed(format!("{text} is not `secret://env/NAME` or `secret://file/PATH`"))),
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self { value: value.to_owned(), is_known: true }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SecretVisitor)
    }
}

struct SecretVisitor;

impl de::Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        match resolve(text) {
            Ok(value) => Ok(Secret { value, is_known: true }),
            Err(SecretError::Absent(why) | SecretError::Malformed(why)) => Err(E::custom(why)),
        }
    }

    fn visit_none<E>(self) -> Result<Secret, E> {
        Ok(Secret::unknown())
    }
}

impl schemars::JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "A value, `secret://env/NAME` or `secret://file/PATH`" })
    }
}
