//! What is put into rules from outside when they load: values of placeholders, and pipelines.
//!
//! In goes the `placeholders` section of a configuration, or a file that holds nothing else:
//!
//! ```yaml
//! Administrators: [adm_*, root]
//! Servers: { file: servers.txt }    # one value a line; empty lines and lines that begin with # do not count
//! ```
//!
//! Values are Sigma strings: `adm_*` has a wildcard. Paths are relative to the file that names them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::sigma::Placeholders;
use super::sigma::pipeline::{Pipeline, Pipelines};
use super::text_of;
use crate::config::{Content, Section};
use crate::error::Diagnostics;

/// What is put into rules when they load.
#[derive(Clone, Debug, Default)]
pub struct Preparation {
    /// Values of `%name%` under `expand`.
    pub placeholders: Placeholders,
    /// What changes rules before they are lowered.
    pub pipelines: Pipelines,
}

/// The values of a placeholder: a text, a list of texts, or a file with one in each line.
#[derive(schemars::JsonSchema)]
#[serde(untagged)]
pub enum Values {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
    /// Those of a file.
    File {
        /// One value a line.
        file: PathBuf,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithFile {
    file: PathBuf,
}

impl Preparation {
    /// Adds the placeholders of a section; those of the same name are replaced.
    pub fn add_placeholders(&mut self, section: &Section, diagnostics: &mut Diagnostics) {
        if section.node().entries().is_empty() && !section.node().is_null() {
            let message = format!("a map of names and values is expected, found {}", section.node().describe());
            diagnostics.push(section.error(message).help("Administrators: [adm_*, root]"));
        }
        for (name, section) in section.children() {
            if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.')) {
                let help = "letters, digits, `_`, `-` and `.`; no percent signs";
                diagnostics.push(section.error(format!("no rule can refer to `%{name}%`")).help(help));
                continue;
            }
            let Some(values) = diagnostics.absorb(values(&section)) else { continue };
            if values.is_empty() {
                diagnostics.push(section.error("there is no value").help("a rule that refers to it could not load"));
            }
            self.placeholders.insert(name, values);
        }
    }

    /// Adds the placeholders of a file.
    pub fn add_placeholder_file(&mut self, file: &Path, diagnostics: &mut Diagnostics) {
        let section = text_of(file).map_err(Diagnostics::from).and_then(|text| Section::parse(file, &text));
        if let Some(section) = diagnostics.absorb(section) {
            self.add_placeholders(&section, diagnostics);
        }
    }

    /// Reads pipelines, which take the place of those that are there.
    pub fn read_pipelines(&mut self, files: &[PathBuf], diagnostics: &mut Diagnostics) {
        let mut pipelines = Vec::with_capacity(files.len());
        for file in files {
            let read = text_of(file).map_err(Diagnostics::from).and_then(|text| Pipeline::parse(file, &text));
            if let Some((pipeline, mut warnings)) = diagnostics.absorb(read) {
                diagnostics.0.append(&mut warnings.0);
                pipelines.push(pipeline);
            }
        }
        if let Some(pipelines) = diagnostics.absorb(Pipelines::new(pipelines)) {
            self.pipelines = pipelines;
        }
    }
}

fn values(section: &Section) -> Result<Vec<String>, Diagnostics> {
    let expected = |section: &Section| {
        let message = format!("a value, a list of values or `file` is expected, found {}", section.node().describe());
        Diagnostics::from(section.error(message).help("adm_*, or [adm_*, root], or { file: admins.txt }"))
    };
    match &section.node().content {
        Content::Mapping(_) => {
            let named = section.read::<WithFile>()?.file;
            let file = section.file().parent().unwrap_or_else(|| Path::new(".")).join(named);
            let text = text_of(&file).map_err(|diagnostic| {
                let place = section.child("file").unwrap_or_else(|| section.clone());
                place.error(format!("{}: {}", file.display(), diagnostic.message))
            })?;
            let lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines().map(str::trim);
            Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
        }
        Content::Sequence(_) => {
            let value =
                |item: Section| item.node().text().filter(|_| !item.node().is_null()).map(str::to_owned).ok_or_else(|| expected(&item));
            section.items().into_iter().map(value).collect()
        }
        Content::Scalar { text, .. } if !section.node().is_null() => Ok(vec![text.clone()]),
        Content::Scalar { .. } => Err(expected(section)),
        Content::Unknown(why) => Err(section.error(why).into()),
    }
}
