//! What events call their fields: a decoder's schema map, and what is added to it.

use std::path::PathBuf;

use crate::decode::{DecoderKind, ENVELOPE_FIELDS, LogSource, Schema};
use crate::detect::Vocabulary;
use crate::detect::sigma;
use crate::error::Diagnostics;

/// What a decoder calls its fields.
pub(in crate::pipeline) struct Words {
    pub(in crate::pipeline) schema: Schema,
    pub(super) natives: Option<Vec<&'static str>>,
    /// What transforms and enrichment may add.
    pub(in crate::pipeline) added: Vec<String>,
}

impl Words {
    pub(in crate::pipeline) fn new(kind: &'static dyn DecoderKind, diagnostics: &mut Diagnostics) -> Option<Self> {
        let natives = kind.natives();
        let file = PathBuf::from(format!("rules/schema/{}.yaml", kind.name()));
        let schema = diagnostics.absorb(Schema::parse(&file, kind.schema(), natives.as_deref()))?;
        Some(Self { schema, natives, added: Vec::new() })
    }

    /// Whether events can have a canonical field before anything is added.
    pub(super) fn can_fill(&self, name: &str) -> bool {
        self.natives.is_none() || self.schema.ecs.contains_key(name) || ENVELOPE_FIELDS.contains(&name)
    }

    pub(in crate::pipeline) fn canonical(&self) -> Vec<String> {
        self.schema.ecs.keys().cloned().chain(ENVELOPE_FIELDS.iter().map(|name| (*name).to_owned())).collect()
    }
}

impl Vocabulary for Words {
    fn carries(&self, rule: &sigma::LogSource) -> bool {
        let fits = |asked: &Option<String>, carried: &Option<String>| asked.is_none() || asked == carried;
        let carries = |carried: &LogSource| {
            fits(&rule.product, &carried.product) && fits(&rule.category, &carried.category) && fits(&rule.service, &carried.service)
        };
        self.schema.logsources.iter().any(carries)
    }

    fn resolve(&self, field: &str) -> Option<String> {
        if let Some(name) = self.schema.sigma.get(field) {
            return Some(name.clone());
        }
        let is_added = self.added.iter().any(|name| name == field);
        if is_added || self.schema.ecs.contains_key(field) || ENVELOPE_FIELDS.contains(&field) {
            return Some(field.to_owned());
        }
        let is_native = self.natives.as_ref().is_none_or(|natives| natives.contains(&field));
        is_native.then(|| format!("%native.{field}"))
    }

    fn names(&self) -> Vec<&str> {
        let natives = self.natives.iter().flatten().copied();
        let canonical = self.schema.ecs.keys().chain(&self.added).map(String::as_str);
        self.schema.sigma.keys().map(String::as_str).chain(canonical).chain(natives).collect()
    }
}
