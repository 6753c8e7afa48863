//! The JSON schema (2020-12) of the configuration, made from the settings of every component.

use serde_json::{Value, json};

use crate::config::schema_of;
use crate::enrich::ENRICHERS;
use crate::limits::DESTINATIONS_MAX;
use crate::pipeline::plan::additions::TransformConfig;
use crate::pipeline::plan::dead_letters;
use crate::pipeline::plan::routes::RouteConfig;
use crate::pipeline::plan::settings::Top;
use crate::pipeline::plan::sinks::SinkCommon;
use crate::pipeline::plan::sources::SourceCommon;
use crate::sink::SINKS;
use crate::source::SOURCES;

/// The schema of a whole configuration file.
pub fn configuration() -> Value {
    let mut top = Value::from(schema_of::<Top>());
    let common = Value::from(schema_of::<SourceCommon>());
    let of_sinks = Value::from(schema_of::<SinkCommon>());
    let sources: Vec<Value> = SOURCES.iter().map(|kind| component(kind.name(), kind.schema(), &common)).collect();
    let sinks: Vec<Value> = SINKS.iter().map(|kind| component(kind.name(), kind.schema(), &of_sinks)).collect();
    if let Some(properties) = top.get_mut("properties").and_then(Value::as_object_mut) {
        let named = |components: &[Value], description: &str, least: usize| {
            let component = json!({ "oneOf": components });
            json!({ "type": "object", "description": description, "minProperties": least, "additionalProperties": component })
        };
        properties.insert("sources".into(), named(&sources, "Where events come from, by name.", 1));
        let mut sinks = named(&sinks, "Where events go, by name.", 1);
        sinks["maxProperties"] = json!(DESTINATIONS_MAX);
        properties.insert("sinks".into(), sinks);
        let about = "Which events go where: to all sinks of all routes that hold. Without routes, everything goes everywhere.";
        let routes = json!({ "type": "array", "description": about, "minItems": 1, "items": schema_of::<RouteConfig>() });
        properties.insert("routes".into(), routes);
        let enrichers: Vec<Value> = ENRICHERS.iter().map(|kind| component(kind.name(), kind.schema(), &Value::Null)).collect();
        properties.insert("enrichments".into(), named(&enrichers, "What is looked up for events, by name.", 0));
        let transforms = json!({
            "type": "array",
            "description": "VRL programs that run over every event before enrichment and rules, in this order.",
            "items": schema_of::<TransformConfig>(),
        });
        properties.insert("transforms".into(), transforms);
        if let (Some(kind), Some(letters)) = (dead_letters::bucket(), properties["dead_letters"]["properties"].as_object_mut()) {
            letters.insert("s3".into(), bucket(kind.schema()));
        }
    }
    top["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    top["title"] = json!("Hydrant configuration");
    top["required"] = json!(["sources", "sinks"]);
    top
}

/// What dead letters say of their bucket: the settings of the sink but for those of rows.
fn bucket(schema: schemars::Schema) -> Value {
    let mut schema = Value::from(schema);
    schema["description"] = json!("A bucket that dead letters are moved to, as the sink `aws_s3` writes to one; `buffer` says when.");
    schema["required"] = json!(["bucket", "error_prefix"]);
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
        let properties = object.get_mut("properties").and_then(Value::as_object_mut);
        properties.into_iter().for_each(|properties| properties.retain(|key, _| !dead_letters::NOT_OF_LETTERS.contains(&key.as_str())));
    }
    schema
}

/// A component's own schema with `type` and the keys that all components of its stage have.
fn component(name: &str, schema: schemars::Schema, common: &Value) -> Value {
    let mut schema = Value::from(schema);
    schema["title"] = json!(name);
    let shared = common.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        let properties = object.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            properties.insert("type".into(), json!({ "const": name }));
            properties.extend(shared);
        }
        let required = object.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            required.insert(0, json!("type"));
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Section;

    #[test]
    fn every_key_of_every_sample_is_in_the_schema_of_its_component() {
        let sources = SOURCES.iter().map(|kind| ("sources", kind.name(), kind.sample()));
        let sinks = SINKS.iter().map(|kind| ("sinks", kind.name(), kind.sample()));
        let schema = configuration();
        let enrichers = ENRICHERS.iter().map(|kind| ("enrichments", kind.name(), kind.sample()));
        for (stage, name, sample) in sources.chain(sinks).chain(enrichers) {
            let components = schema["properties"][stage]["additionalProperties"]["oneOf"].as_array().unwrap();
            let component = components.iter().find(|component| component["title"] == name).unwrap();
            let section = Section::parse(Path::new(name), sample).unwrap();
            let keys: Vec<String> = section.children().into_iter().map(|(key, _)| key).collect();
            for key in &keys {
                assert!(component["properties"].get(key).is_some(), "{stage} {name}: `{key}` is not in the schema");
            }
            for key in component["required"].as_array().unwrap() {
                assert!(keys.iter().any(|k| k == key), "{stage} {name}: the sample has no {key}");
            }
            assert_eq!(component["additionalProperties"], false, "{stage} {name}: unknown keys are refused");
        }
    }

    #[test]
    fn the_schema_says_what_every_top_level_key_is() {
        let schema = configuration();
        assert!(schema["properties"].as_object().unwrap().len() >= 10);
        for (key, property) in schema["properties"].as_object().unwrap() {
            assert!(property.get("description").is_some(), "{key} has no description");
        }
        assert!(!schema.to_string().contains("$ref"), "it stands alone");
        let letters = &schema["properties"]["dead_letters"]["properties"];
        assert!(letters.get("max_size").is_some() && letters.get("_s3").is_none());
        assert_eq!(letters["s3"]["properties"].get("bucket").is_some(), cfg!(feature = "aws"));
        assert!(letters["s3"]["properties"].get("form").is_none());
    }
}
