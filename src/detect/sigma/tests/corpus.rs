//! The loader held against the public rules of SigmaHQ; `tests/it/sigmahq.rs` holds the engine against them.
//!
//! The archive stands beside this project's folder (`../shared`), not in it: without it this test prints so and does
//! nothing.

use std::path::{Path, PathBuf};

use super::{Loaded, Placeholders, cpu_seconds, load};
use crate::error::Severity;

fn unpacked() -> Option<tempfile::TempDir> {
    let archive = Path::new("../shared/corpora/sigmahq-rules.tar.zst");
    if !archive.exists() {
        println!("skipped: {} is absent", archive.display());
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("tar").arg("--zstd").arg("-xf").arg(archive).arg("-C").arg(folder.path()).status().unwrap();
    assert!(status.success(), "tar: {status}");
    Some(folder)
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
}

fn rule_texts(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(folder, "yml", &mut found);
    found.retain(|file| !file.starts_with(folder.join("regression_data")));
    found.into_iter().map(|file| (file.clone(), std::fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn every_sigmahq_rule_loads_or_wants_a_placeholder() {
    let Some(folder) = unpacked() else { return };
    let texts = rule_texts(folder.path());
    let start = cpu_seconds();
    let loaded: Vec<Loaded> = texts.iter().map(|(file, text)| load(file, text, &Placeholders::new())).collect();
    let seconds = cpu_seconds() - start;
    let rules = loaded.iter().map(|l| l.rules.len()).sum::<usize>();
    let diagnostics: Vec<_> = loaded.iter().flat_map(|l| &l.diagnostics.0).collect();
    let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.into_iter().partition(|d| d.severity == Severity::Error);
    let refused = loaded.iter().filter(|l| l.diagnostics.has_errors()).count();
    println!("{} files, {rules} rules, {refused} refused, {} warnings, {seconds:.2} s CPU", texts.len(), warnings.len());
    warnings.iter().for_each(|warning| println!("{warning}"));
    for error in &errors {
        assert!(error.message.contains("the placeholder") && error.path.contains("expand"), "{error}");
    }
    assert_eq!((texts.len(), rules + refused), (3780, 3780));
    assert!(loaded.iter().all(|l| l.skipped.is_empty()));
}
