//! The code's own rules, checked on its text: who may import whom, and that no module hides from the check.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A module imports modules of lower layers only; modules of one layer never import each other.
const LAYERS: &[(usize, &[&str])] = &[
    (0, &["atomic_file", "clock", "error", "limits", "sync"]),
    (1, &["budget", "config", "event", "metrics", "scan", "task"]),
    (2, &["cursor", "json", "ledger"]),
    (3, &["encode", "envelope", "matcher", "net", "source_health", "traffic"]),
    (4, &["vrl"]),
    (5, &["batch"]),
    (6, &["decode", "detect", "enrich", "frame", "route", "sink", "source", "transform", "unwrap"]),
    (7, &["journal", "deliver"]),
    (8, &["pipeline"]),
    (9, &["admin"]),
    (10, &["cli"]),
];

/// Imports inside one layer that are meant: `(from, to)`, with the reason.
const MEANT: &[(&str, &str)] = &[
    // Metrics are shared cells; `config` and `budget` know nothing of each other.
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().find(|(_, modules)| modules.contains(&module)).map(|(layer, _)| *layer)
}

fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open = vec![root];
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files.sort();
    files
}

/// The top-level module that a file belongs to.
fn module_of(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(root).unwrap().components().next().unwrap();
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// The text without tests (from the first `#[cfg(test)]` of a module on) and without comments.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn modules_import_lower_layers_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        if ["lib", "main"].contains(&module.as_str()) || path.to_string_lossy().contains("/tests") {
            continue;
        }
        let Some(own) = layer(&module) else {
            wrong.push(format!("{}: the module `{module}` has no layer in tests/it/tidy.rs", path.display()));
            continue;
        };
        for (number, line) in code(&text).lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let other: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if other.is_empty() {
                    wrong.push(format!("{}:{}: `use crate::{{...}}` groups hide imports from this check", path.display(), number + 1));
                } else if other != module && layer(&other).is_none_or(|layer| layer >= own) && !MEANT.contains(&(&module, &other)) {
                    wrong.push(format!("{}: `{module}` (layer {own}) must not import `{other}`: {}", path.display(), line.trim()));
                }
            }
            if line.contains("super::super::") {
                wrong.push(format!("{}: `super::super::` hides imports from this check", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lib_lists_every_module_and_no_file_is_dead() {
    let files = sources();
    let texts: BTreeMap<&Path, &str> = files.iter().map(|(path, text)| (path.as_path(), text.as_str())).collect();
    let mut dead = Vec::new();
    for (path, _) in &files {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if ["lib", "main"].contains(&name.as_str()) {
            continue;
        }
        let folder = path.parent().unwrap();
        let parent = if folder.ends_with("src") { folder.join("lib.rs") } else { folder.with_extension("rs") };
        let declares = |text: &str| text.contains(&format!("mod {name};"));
        if !texts.get(parent.as_path()).is_some_and(|text| declares(text)) {
            dead.push(path.display().to_string());
        }
    }
    assert!(dead.is_empty(), "declared nowhere: {dead:#?}");
}

#[test]
fn functions_fit_on_a_screen() {
    // Clippy holds the code to this (clippy.toml); this test holds clippy.toml to it.
    let clippy = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("clippy.toml")).unwrap();
    assert!(clippy.contains("too-many-lines-threshold = 70"));
}
