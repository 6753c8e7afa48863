//! Any text as a configuration: no panic, bounded time, and every mistake says where.
//!
//! Nothing is opened: paths are relative to a folder that does not exist, and texts that name another place are
//! left out.
#![no_main]

use std::path::Path;

use hydrant::pipeline::plan::Plan;
use hydrant::sink::SINKS;
use hydrant::source::SOURCES;
use hydrant_fuzz::seed;
use libfuzzer_sys::fuzz_target;

const FILE: &str = "nowhere/hydrant.yaml";

fuzz_target!(init: seed(seeds()), |input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if names_a_place(text) {
        return;
    }
    match Plan::read(Path::new(FILE), text) {
        Ok(plan) => assert!(!plan.sources.is_empty() && !plan.sinks.is_empty() && !plan.warnings.has_errors()),
        Err(diagnostics) => {
            assert!(diagnostics.has_errors());
            // YAML ends a line at a carriage return as well.
            let lines = text.matches(['\n', '\r']).count() + 2;
            for diagnostic in &diagnostics.0 {
                assert!(!diagnostic.message.is_empty());
                assert!(diagnostic.line <= lines || diagnostic.file != Path::new(FILE), "{diagnostic}");
            }
        }
    }
});

/// Whether a path in it may lead out of that folder. Escapes of YAML may write anything.
fn names_a_place(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_root =
        |at: usize| bytes[at] == b'/' && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric() && !matches!(bytes[at - 1], b':' | b'/'));
    text.contains("..") || text.contains('\\') || text.contains("file/") || text.contains("${") || (0..bytes.len()).any(is_root)
}

/// The sample of every component, alone and all together.
fn seeds() -> Vec<Vec<u8>> {
    let indented = |name: &str, sample: &str| {
        let lines: String = sample.lines().map(|line| format!("    {line}\n")).collect();
        format!("  {name}:\n{lines}")
    };
    let sources: Vec<String> = SOURCES.iter().map(|kind| indented(kind.name(), kind.sample())).collect();
    let sinks: Vec<String> = SINKS.iter().map(|kind| indented(kind.name(), kind.sample())).collect();
    let stdout = "  out: { type: stdout }\n".to_owned();
    let demo = "  demo: { type: demo, decoder: auto, framing: syslog, frame_bytes_max: 1MiB, utc_offset: \"+02:00\" }\n".to_owned();
    let rest = "routes:\n  - { to: [out] }\nmemory: 64MiB\nshards: 2\ndata_dir: data\nadmin: 127.0.0.1:8686\n";
    let whole = |source: &String, sink: &String| format!("sources:\n{source}sinks:\n{sink}").into_bytes();
    let mut seeds: Vec<Vec<u8>> = sources.iter().map(|source| whole(source, &stdout)).collect();
    seeds.extend(sinks.iter().map(|sink| whole(&demo, sink)));
    seeds.push(whole(&sources.concat(), &(sinks.concat() + &stdout + rest)));
    seeds.push(b"a: &a [x, *b]\nb: &b { c: *a, ? [d] : |\n  e\n }\n--- !!str f\n...\n".to_vec());
    seeds
}
