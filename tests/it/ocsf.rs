//! The schema of OCSF Detection Findings, and what is wrong with a document by it.
//!
//! The rules are those of the OCSF validator: attributes that the schema does not have, required ones that are missing,
//! types with their patterns, lengths and ranges, closed enumerations, and "at least one of". The schema is an extract
//! (`tests/cases/ocsf-1.8.0.json`); an object that is not in it is a mistake too.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Schema {
    version: String,
    types: BTreeMap<String, Type>,
    objects: BTreeMap<String, Object>,
}

#[derive(Deserialize)]
struct Type {
    r#type: Option<String>,
    regex: Option<String>,
    max_len: Option<usize>,
    range: Option<(i64, i64)>,
}

#[derive(Deserialize)]
struct Object {
    attributes: BTreeMap<String, Attribute>,
    #[serde(default)]
    at_least_one: Vec<String>,
}

#[derive(Deserialize)]
struct Attribute {
    r#type: String,
    #[serde(default)]
    is_array: bool,
    #[serde(default)]
    required: bool,
    r#enum: Option<Vec<String>>,
}

/// What is wrong with a Detection Finding; nothing if it is right.
pub(crate) fn mistakes(finding: &Value) -> Vec<String> {
    let schema: Schema = serde_json::from_str(include_str!("../cases/ocsf-1.8.0.json")).unwrap();
    let mut mistakes = Vec::new();
    schema.object("detection_finding", finding, "", &mut mistakes);
    if finding["metadata"]["version"] != schema.version {
        mistakes.push(format!("metadata.version is not {}", schema.version));
    }
    if finding["type_uid"].as_i64() != Some(200_400 + finding["activity_id"].as_i64().unwrap_or(-1)) {
        mistakes.push("type_uid is not class_uid * 100 + activity_id".to_owned());
    }
    for observable in finding["observables"].as_array().into_iter().flatten() {
        let name = observable["name"].as_str().unwrap_or_default();
        let pointer = format!("/{}", name.replace('[', "/").replace(']', "").replace('.', "/"));
        if finding.pointer(&pointer).is_none_or(|value| *value != observable["value"]) {
            mistakes.push(format!("observable {name} is not what stands there"));
        }
    }
    mistakes
}

impl Schema {
    fn object(&self, name: &str, value: &Value, path: &str, mistakes: &mut Vec<String>) {
        let (Some(object), Some(members)) = (self.objects.get(name), value.as_object()) else {
            return mistakes.push(format!("{path}: no object `{name}`: {value}"));
        };
        for (key, attribute) in &object.attributes {
            if attribute.required && !members.contains_key(key) {
                mistakes.push(format!("{path}.{key} is missing"));
            }
        }
        if !object.at_least_one.is_empty() && !object.at_least_one.iter().any(|key| members.contains_key(key)) {
            mistakes.push(format!("{path} has none of {:?}", object.at_least_one));
        }
        for (key, value) in members {
            let path = format!("{path}.{key}");
            match (object.attributes.get(key), value) {
                (None, _) => mistakes.push(format!("{path} is not in the schema")),
                (Some(attribute), Value::Array(items)) if attribute.is_array => {
                    items.iter().zip(0..).for_each(|(item, index)| self.value(attribute, item, &format!("{path}[{index}]"), mistakes));
                }
                (Some(attribute), _) if attribute.is_array => mistakes.push(format!("{path} is not an array")),
                (Some(attribute), value) => self.value(attribute, value, &path, mistakes),
            }
        }
    }

    fn value(&self, attribute: &Attribute, value: &Value, path: &str, mistakes: &mut Vec<String>) {
        let known = |values: &Vec<String>| values.contains(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        if attribute.r#enum.as_ref().is_some_and(|values| !known(values)) {
            mistakes.push(format!("{path}: {value} is not in {:?}", attribute.r#enum));
        }
        let Some(kind) = self.types.get(&attribute.r#type) else {
            // What has no home has no form either.
            return if attribute.r#type == "object" {
                mistakes.extend((!value.is_object()).then(|| format!("{path} is not an object")));
            } else {
                self.object(&attribute.r#type, value, path, mistakes);
            };
        };
        let base = kind.r#type.as_deref().unwrap_or(&attribute.r#type);
        let is_right = match base {
            "string_t" => value.as_str().is_some_and(|text| {
                let fits = kind.regex.as_ref().is_none_or(|regex| regex::Regex::new(regex).unwrap().is_match(text));
                fits && kind.max_len.is_none_or(|len| text.len() <= len)
            }),
            "integer_t" => value.as_i64().is_some_and(|number| {
                i32::try_from(number).is_ok() && kind.range.is_none_or(|(least, most)| (least..=most).contains(&number))
            }),
            "long_t" => value.is_i64(),
            "boolean_t" => value.is_boolean(),
            "json_t" => true,
            other => panic!("the type {other} is not known here"),
        };
        if !is_right {
            mistakes.push(format!("{path}: {value} is no {}", attribute.r#type));
        }
    }
}

#[test]
fn a_document_that_breaks_the_schema_is_told_how() {
    let good = serde_json::json!({
        "category_uid": 2, "class_uid": 2004, "activity_id": 1, "type_uid": 200_401, "time": 1, "severity_id": 4,
        "metadata": { "version": "1.8.0", "product": { "name": "x" } }, "finding_info": { "uid": "u" },
    });
    assert_eq!(mistakes(&good), [""; 0]);
    for (pointer, value, expected) in [
        ("/nowhere", 1.into(), ".nowhere is not in the schema"),
        ("/severity_id", 7.into(), ".severity_id: 7 is not in"),
        ("/time", "1".into(), ".time: \"1\" is no timestamp_t"),
        ("/metadata", serde_json::json!({ "version": "1.8.0" }), ".metadata.product is missing"),
        ("/metadata/product", serde_json::json!({}), ".metadata.product has none of"),
        ("/finding_info/uid", Value::Null, ".finding_info.uid: null is no string_t"),
        ("/evidences", serde_json::json!([{ "src_endpoint": { "ip": "x" } }]), ".evidences[0].src_endpoint.ip: \"x\" is no ip_t"),
        ("/evidences", serde_json::json!([{ "src_endpoint": { "ip": "::1", "port": 65_536 } }]), ".port: 65536 is no port_t"),
        ("/evidences", serde_json::json!({}), ".evidences is not an array"),
        ("/evidences", serde_json::json!([{ "tls": {} }]), "no object `tls`"),
        ("/unmapped", serde_json::json!([]), ".unmapped is not an object"),
        ("/observables", serde_json::json!([{ "name": "message", "type_id": 1, "value": "x" }]), "observable message is not"),
        ("/activity_id", 3.into(), "type_uid is not"),
    ] {
        let mut bad = good.clone();
        let (above, key) = pointer.rsplit_once('/').unwrap();
        bad.pointer_mut(above).unwrap()[key] = value;
        let found = mistakes(&bad);
        assert!(found.iter().any(|mistake| mistake.contains(expected)), "{pointer}: {found:?}");
    }
}
