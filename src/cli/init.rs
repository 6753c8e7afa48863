//! `hydrant init`: writes a commented configuration to begin with, made from the components' own samples.
//!
//! One source and one sink are active, with the keys that they require; every other key and component stands there
//! as a comment. A file that exists is never overwritten.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::{Failure, message, print};
use crate::enrich::ENRICHERS;
use crate::error::{Error, ErrorKind};
use crate::sink::SINKS;
use crate::source::SOURCES;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The file to write; `-` is stdout.
    #[arg(default_value = "hydrant.yaml")]
    file: PathBuf,
}

const HEAD: &str = r#"# A Hydrant configuration. Unknown keys are refused.
#   check it: hydrant validate -c FILE       every key: hydrant schema
# Values may hold ${VARIABLE} or ${VARIABLE:-default}; secrets: secret://env/NAME or secret://file/PATH.

data_dir: ./data                # journal and dead letters; mode 0700
# journal: { type: memory }     # less work, but what was acknowledged dies with the process; default: disk
# journal: { max_size: 10GB, full: hold }   # or drop_oldest; a sink may say it itself with when_journal_full
# journal: { retain: 24h }      # keep what was delivered as far as max_size has room, for `hydrant replay` and `backfill_from` of new sinks
admin: "127.0.0.1:8686"         # health, metrics and API; loopback only
# dead_letters: { s3: { bucket: NAME, region: REGION, error_prefix: "dead/!{firehose:error-output-type}/" } }   # default: kept on the disk
# memory: 1GiB                  # budget for event bytes; default: a quarter of the memory, at most 1 GiB
# shards: 2                     # threads; default: one for each CPU
# drain_timeout: 30s            # how long a stop waits for destinations
# rules: [rules/]               # Sigma rules: files and folders
"#;

const TRANSFORMS: &str = r#"
# VRL programs for every event, in this order, before enrichment and rules.
# transforms:
#   - { when: '.event.action == "deny"', program: '.labels.team = "net"' }
"#;

const ROUTES: &str = r#"
# Without routes every event and alert goes to every sink.
# routes:
#   - { to: [NAME] }                                   # everything
#   - { when: '%hydrant.alert', to: [NAME] }           # alerts, and the events that they are about
"#;

/// What is active if this build has it: nothing else to install, no account.
const FIRST_SOURCES: [&str; 1] = ["syslog"];
const FIRST_SINKS: [&str; 2] = ["file", "stdout"];

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let text = document();
    if arguments.file == Path::new("-") {
        return print(text.as_bytes());
    }
    // Secrets may be written into it later, so it is for its owner only.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&arguments.file);
    let failed = |error: std::io::Error| {
        let why = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "it exists and is not overwritten; name another file".to_owned(),
            _ => error.to_string(),
        };
        Error::new(ErrorKind::Storage, "write the configuration", why).with("file", arguments.file.display())
    };
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
    let path = arguments.file.display();
    message(&format!("wrote {path}; next: hydrant validate -c {path}, then hydrant run -c {path}"));
    Ok(())
}

struct Component {
    name: &'static str,
    sample: &'static str,
    schema: Value,
}

fn document() -> String {
    let sources = SOURCES.iter().map(|kind| Component { name: kind.name(), sample: kind.sample(), schema: kind.schema().into() });
    let sinks = SINKS.iter().map(|kind| Component { name: kind.name(), sample: kind.sample(), schema: kind.schema().into() });
    let mut out = HEAD.to_owned();
    stage("sources", "Where events come from, by a name of your own.", sources.collect(), &FIRST_SOURCES, &mut out);
    stage("sinks", "Where events go, by a name of your own.", sinks.collect(), &FIRST_SINKS, &mut out);
    let enrichers = ENRICHERS.iter().map(|kind| Component { name: kind.name(), sample: kind.sample(), schema: kind.schema().into() });
    stage("enrichments", "What is looked up for events and added to them, by a name of your own.", enrichers.collect(), &[], &mut out);
    out + TRANSFORMS + ROUTES
}

/// The active component first, then the others as comments; all of them are if `first` names none.
fn stage(stage: &str, about: &str, mut components: Vec<Component>, first: &[&str], out: &mut String) {
    let rank = |component: &Component| first.iter().position(|name| *name == component.name).unwrap_or(first.len());
    components.sort_by_key(rank);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "\n# {about}\n{}{stage}:", if first.is_empty() { "# " } else { "" });
    for (index, component) in components.iter().enumerate() {
        let required: Vec<&str> = component.schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let is_active = index == 0 && !first.is_empty();
        let margin = match (is_active, first.is_empty()) {
            (true, _) => "  ",
            (false, true) => "#   ",
            (false, false) => "  # ",
        };
        let _ = writeln!(out, "{margin}{}:", component.name);
        let mut is_wanted = false;
        for line in component.sample.trim_matches('\n').lines() {
            // A key at the margin begins an entry; what is indented or a comment belongs to the one before.
            if let Some(key) = line.split_once(':').map(|(key, _)| key).filter(|_| !line.starts_with([' ', '#', '-'])) {
                is_wanted = key == "type" || required.contains(&key);
            }
            let comment = if is_active && !is_wanted && !line.starts_with('#') { "# " } else { "" };
            let _ = writeln!(out, "{margin}  {comment}{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Content, parse_documents};
    use crate::pipeline::plan::Plan;

    /// The document with every commented component and key made active.
    fn uncommented(text: &str) -> String {
        let mut stage = "";
        let mut out = String::new();
        for line in text.lines() {
            if ["", "sources:", "sinks:", "# enrichments:"].contains(&line) {
                stage = line;
            }
            let line = match stage {
                "# enrichments:" => line.replacen("# ", "", 1),
                "" => line.to_owned(),
                _ => match (line.strip_prefix("  # "), line.strip_prefix("    # ")) {
                    (Some(rest), _) => format!("  {rest}"),
                    (None, Some(rest)) => format!("    {rest}"),
                    (None, None) => line.to_owned(),
                },
            };
            out.push_str(&line);
            out.push('\n');
        }
        out
    }

    #[test]
    fn what_is_active_is_a_valid_configuration() {
        // The variables that samples name are not set here.
        let text = document().replace("secret://env/", "");
        let plan = Plan::read(Path::new("hydrant.yaml"), &text);
        let plan = plan.map_err(|diagnostics| diagnostics.to_string()).unwrap();
        assert_eq!((plan.sources.len(), plan.sinks.len()), (1, 1));
        assert!(plan.settings.admin.is_some());
    }

    #[test]
    fn every_component_stands_in_it_with_every_key_of_its_sample() {
        let text = uncommented(&document());
        let documents = parse_documents(Path::new("t.yaml"), &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let samples = SOURCES.iter().map(|kind| ("sources", kind.name(), kind.sample()));
        let enrichers = ENRICHERS.iter().map(|kind| ("enrichments", kind.name(), kind.sample()));
        for (stage, name, sample) in samples.chain(enrichers).chain(SINKS.iter().map(|kind| ("sinks", kind.name(), kind.sample()))) {
            let component = documents[0].entry(stage).and_then(|stage| stage.entry(name)).unwrap_or_else(|| panic!("{name}\n{text}"));
            let sample = parse_documents(Path::new("t.yaml"), sample).unwrap().remove(0);
            let Content::Mapping(entries) = &sample.content else { panic!("a map") };
            for (key, _) in entries {
                assert!(component.entry(key.text().unwrap()).is_some(), "{name}: {}", key.describe());
            }
        }
    }
}
