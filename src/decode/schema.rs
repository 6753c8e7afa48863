//! Schema maps: what a decoder's native fields are called in ECS and in Sigma's taxonomy.
//!
//! ```yaml
//! logsources:
//!   - { product: paloalto, category: firewall }
//! ecs:
//!   source.ip: src                                   # another name for it
//!   source.port: { from: sport, type: integer }      # text becomes a number
//!   url.original: [url, misc]                        # the first that the event has
//!   observer.vendor: { value: Palo Alto Networks }   # always this
//!   event.outcome: { from: action, map: { allow: success, deny: failure }, otherwise: unknown }
//!   event.type: { from: [status, action], map: { ... } }   # the first whose value the table knows
//! sigma:
//!   c-uri: url.original                              # names that Sigma rules use for this log source
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;

use crate::config::{Node, Section};
use crate::error::{Diagnostics, nearest};

/// A schema map.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// The Sigma log sources that the format carries.
    pub logsources: Vec<LogSource>,
    /// Canonical name to where it comes from.
    pub ecs: BTreeMap<String, Origin>,
    /// Names of Sigma rules to canonical (or `%native.`) names.
    pub sigma: HashMap<String, String>,
}

/// A Sigma log source that a format carries.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct LogSource {
    /// For example `paloalto`.
    pub product: Option<String>,
    /// For example `firewall`.
    pub category: Option<String>,
    /// For example `waf`.
    pub service: Option<String>,
}

/// Where a canonical field comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The rule.
    pub meaning: Meaning,
    /// Whether text that reads as an integer becomes a number.
    pub integer: bool,
}

/// How a canonical field is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The first of these native fields that the event has.
    From(Vec<String>),
    /// Always this text.
    Value(String),
    /// A table keyed by the text of a native field, case folded.
    Table {
        /// The native fields; the first whose value is in the table decides.
        from: Vec<String>,
        /// Its values and what they become.
        table: BTreeMap<String, String>,
        /// What every other value becomes; without it, and without any of the fields, the field is missing.
        otherwise: Option<String>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    logsources: Vec<LogSource>,
    #[serde(default)]
    sigma: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Long {
    from: Option<Names>,
    value: Option<String>,
    r#type: Option<Type>,
    map: Option<BTreeMap<String, String>>,
    otherwise: Option<String>,
}

/// One name or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Type {
    Integer,
}

impl Schema {
    /// Reads a schema map.
    ///
    /// # Errors
    /// Every mistake, with its line; native names that the decoder does not have, with the nearest.
    pub fn parse(file: &Path, text: &str, natives: Option<&[&str]>) -> Result<Self, Diagnostics> {
        let root = Section::parse(file, text)?;
        let mut diagnostics = Diagnostics::new();
        let document = diagnostics.absorb(root.without(&["ecs"]).read::<Document>());
        let mut ecs = BTreeMap::new();
        for (name, section) in root.child("ecs").map(|ecs| ecs.children()).unwrap_or_default() {
            let Some(source) = diagnostics.absorb(source(&section)) else { continue };
            for native in source.natives() {
                if natives.is_some_and(|known| !known.contains(&native)) {
                    let near = nearest(native, natives.unwrap_or_default().iter().copied());
                    let mut diagnostic = section.error(format!("the decoder has no field `{native}`"));
                    diagnostic.help = near.map(|near| format!("did you mean `{near}`?"));
                    diagnostics.push(diagnostic);
                }
            }
            ecs.insert(name, source);
        }
        let (logsources, sigma) = document.map(|d| (d.logsources, d.sigma)).unwrap_or_default();
        diagnostics.into_result(Self { logsources, ecs, sigma })
    }
}

impl Origin {
    fn natives(&self) -> Vec<&str> {
        match &self.meaning {
            Meaning::From(natives) | Meaning::Table { from: natives, .. } => natives.iter().map(String::as_str).collect(),
            Meaning::Value(_) => Vec::new(),
        }
    }
}

fn source(section: &Section) -> Result<Origin, Diagnostics> {
    let node: &Node = section.node();
    if let Some(native) = node.text() {
        return Ok(Origin { meaning: Meaning::From(vec![native.to_owned()]), integer: false });
    }
    if !section.items().is_empty() {
        return Ok(Origin { meaning: Meaning::From(section.read()?), integer: false });
    }
    let long: Long = section.read()?;
    let integer = long.r#type == Some(Type::Integer);
    let from = long.from.map(|names| match names {
        Names::One(name) => vec![name],
        Names::Several(names) => names,
    });
    let meaning = match (from, long.value, long.map) {
        (Some(from), None, None) => Meaning::From(from),
        (None, Some(value), None) => Meaning::Value(value),
        (Some(from), None, Some(table)) => Meaning::Table { from, table, otherwise: long.otherwise },
        _ => return Err(section.error("expected `from`, `value`, or `from` with `map`").into()),
    };
    Ok(Origin { meaning, integer })
}
