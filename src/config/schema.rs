//! JSON schemas of settings.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

/// The JSON schema (2020-12) of a section, without references, so that it can stand inside another one.
pub fn schema_of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>()
}
