//! Every component is in its table, under the name of its file, and its sample reads.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hydrant::config::Section;
use hydrant::{decode, enrich, frame, sink, source};

/// Files of a stage that are no components: parts that components share.
const PARTS: &[&str] = &[
    "auto",
    "csv",
    "document",
    "elements",
    "eve",
    "feed",
    "golden",
    "indicators",
    "keys",
    "local",
    "mmdb",
    "networks",
    "notify",
    "pairs",
    "pool",
    "rows",
    "schema",
    "testing",
    "trial",
    "watch",
];

fn files(stage: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(stage);
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let rust = names.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|name| !PARTS.contains(&name.as_str()))
        .filter(|name| cfg!(feature = "aws") || name != "aws_s3")
        .filter(|name| cfg!(feature = "kafka") || name != "kafka")
        .collect()
}

fn assert_registered(stage: &str, names: impl Iterator<Item = &'static str>) {
    let names: Vec<String> = names.map(str::to_owned).collect();
    let set: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(set.len(), names.len(), "{stage}: a name stands twice");
    assert_eq!(set, files(stage), "{stage}: the table and the files differ");
}

#[test]
fn every_component_file_is_in_its_table_under_its_name() {
    assert_registered("source", source::SOURCES.iter().map(|kind| kind.name()));
    assert_registered("frame", frame::FRAMERS.iter().map(|kind| kind.name()));
    assert_registered("decode", decode::DECODERS.iter().map(|kind| kind.name()));
    assert_registered("enrich", enrich::ENRICHERS.iter().map(|kind| kind.name()));
    assert_registered("sink", sink::SINKS.iter().map(|kind| kind.name()));
}

fn section(sample: &str) -> Section {
    // Samples show where secrets come from; here they are given as they are.
    let text: String = sample.replace("secret://env/", "plain-");
    Section::parse(Path::new("sample.yaml"), &text).unwrap().without(&["type", "decoder", "framing", "unwrap"])
}

#[test]
fn every_sample_reads_without_a_mistake() {
    for kind in source::SOURCES {
        assert!(kind.sample().contains(&format!("type: {}", kind.name())), "{}", kind.name());
        if let Err(diagnostics) = kind.read(&section(kind.sample())) {
            panic!("{}: {diagnostics}", kind.name());
        }
    }
    let folders = enrich::Folders { base: Path::new("."), data: Path::new("data") };
    for kind in enrich::ENRICHERS {
        assert!(kind.sample().contains(&format!("type: {}", kind.name())), "{}", kind.name());
        if let Err(diagnostics) = kind.read(&section(kind.sample()), folders) {
            panic!("{}: {diagnostics}", kind.name());
        }
    }
    for kind in sink::SINKS {
        assert!(kind.sample().contains(&format!("type: {}", kind.name())), "{}", kind.name());
        if let Err(diagnostics) = kind.read(&section(kind.sample())) {
            panic!("{}: {diagnostics}", kind.name());
        }
    }
}

#[test]
fn every_schema_map_names_fields_that_its_decoder_has() {
    for kind in decode::DECODERS {
        let natives = kind.natives();
        let file = format!("rules/schema/{}.yaml", kind.name());
        if let Err(diagnostics) = decode::Schema::parse(Path::new(&file), kind.schema(), natives.as_deref()) {
            panic!("{diagnostics}");
        }
    }
}
