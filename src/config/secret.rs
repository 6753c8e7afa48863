//! A value that is never shown.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// A secret: `secret://env/NAME`, `secret://file/PATH`, or the value itself. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value, for the one place that sends or compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self(value.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let Some(reference) = text.strip_prefix("secret://") else { return Ok(Self(text)) };
        match reference.split_once('/') {
            Some(("env", name)) => std::env::var(name)
                .map(Self)
                .map_err(|_| de::Error::custom(format!("the environment variable {name} of {text} is not set"))),
            Some(("file", path)) => std::fs::read_to_string(path)
                .map(|content| Self(content.trim_end_matches(['\r', '\n']).to_owned()))
                .map_err(|error| de::Error::custom(format!("cannot read {path} of {text}: {error}"))),
            _ => Err(de::Error::custom(format!("{text} is not `secret://env/NAME` or `secret://file/PATH`"))),
        }
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
