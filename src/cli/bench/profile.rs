//! A benchmark profile: `YAML -> what Hydrant runs, what it is sent, what must arrive`.
//!
//! The built-in ones are the files of `benches/profiles/`. In the text of `config`, `@name@` is replaced:
//! `@listen@` by the address of the source, `@dir@` by a folder that is removed afterwards, the name of each
//! arrival point by its address, the name of each setting by its value. A setting's first value is what `bench`
//! uses; `tune` tries the others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::{Content, Node, parse_documents};
use crate::error::{Diagnostic, Diagnostics, nearest};
use crate::traffic;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// Name and text of every built-in profile.
        pub(in crate::cli) static BUILT_IN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../benches/profiles/", $name, ".yaml")))),*];
    };
}

built_in!("w1", "w2", "w2raw", "w3", "w4f", "w4h", "w5", "w7", "waf-burst", "fw-steady", "syslog-storm", "mixed", "passthrough", "trickle");

/// A profile.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Profile {
    /// What it stands for.
    pub(in crate::cli) about: String,
    /// The configuration, with placeholders.
    pub(in crate::cli) config: String,
    /// Files that the configuration names, by name within `@dir@`.
    #[serde(default)]
    pub(in crate::cli) files: BTreeMap<String, FileContent>,
    /// What is sent.
    pub(in crate::cli) load: Load,
    /// What must arrive, by arrival point.
    pub(in crate::cli) expect: BTreeMap<String, Expect>,
    /// Values of settings, the first being the default.
    #[serde(default)]
    pub(in crate::cli) settings: BTreeMap<String, Vec<String>>,
}

/// What a file of a profile holds.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::cli) enum FileContent {
    /// This text.
    Text(String),
    /// A text repeated with `@n@` counting from 00000, and every `@name@` of `words` taken in turn.
    Repeated(Repeated),
}

/// A text that is repeated.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Repeated {
    /// How often.
    times: usize,
    /// The text.
    text: String,
    /// What stands between two.
    #[serde(default)]
    separator: String,
    /// Words that take turns; list `i` moves on when list `i - 1` is through.
    #[serde(default)]
    words: BTreeMap<String, Vec<String>>,
}

/// Repetitions of one text: ten times the largest profile.
const REPETITIONS_MAX: usize = 2_000;

impl FileContent {
    pub(in crate::cli) fn render(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Repeated(repeated) => {
                let one = |n: usize| {
                    let mut text = repeated.text.replace("@n@", &format!("{n:05}"));
                    let mut turn = n;
                    for (name, words) in repeated.words.iter().filter(|(_, words)| !words.is_empty()) {
                        text = text.replace(&format!("@{name}@"), &words[turn % words.len()]);
                        turn /= words.len();
                    }
                    text
                };
                let all: Vec<String> = (0..repeated.times.min(REPETITIONS_MAX)).map(one).collect();
                all.join(&repeated.separator)
            }
        }
    }
}

/// What is sent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Load {
    /// Whose logs; several take turns line by line.
    pub(in crate::cli) traffic: Vec<String>,
    /// Different lines; they are sent round and round.
    #[serde(default = "Load::default_lines")]
    pub(in crate::cli) lines: usize,
    /// How.
    pub(in crate::cli) transport: Transport,
    /// How lines are told apart on a TCP connection.
    #[serde(default)]
    pub(in crate::cli) framing: Framing,
    /// Connections, or for UDP sockets.
    #[serde(default = "Load::default_connections")]
    pub(in crate::cli) connections: usize,
    /// Path of HTTP requests.
    #[serde(default)]
    pub(in crate::cli) path: String,
    /// Header lines of HTTP requests, each ended by CR LF.
    #[serde(default)]
    pub(in crate::cli) headers: String,
    /// Bytes of one HTTP body at most.
    #[serde(default = "Load::default_body_bytes")]
    pub(in crate::cli) body_bytes: usize,
    /// Events of one run.
    pub(in crate::cli) events: u64,
    /// Events a second; 0 is as fast as possible.
    #[serde(default)]
    pub(in crate::cli) rate: u64,
}

impl Load {
    fn default_lines() -> usize {
        100_000
    }

    fn default_connections() -> usize {
        4
    }

    fn default_body_bytes() -> usize {
        1_000_000
    }
}

/// How the load is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Transport {
    /// TCP connections.
    Tcp,
    /// One datagram a line.
    Udp,
    /// POST requests of many lines.
    Http,
}

/// How lines are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Framing {
    /// By a line feed.
    #[default]
    Newline,
    /// By a count in front (RFC 6587).
    OctetCounted,
}

/// What must arrive at one point.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct Expect {
    /// Who counts.
    pub(in crate::cli) counted_by: Counter,
    /// Only lines that hold this text.
    pub(in crate::cli) with: Option<String>,
    /// Only lines that do not hold this text.
    pub(in crate::cli) without: Option<String>,
    /// For `file`: its path within `@dir@`; all files below it are counted.
    pub(in crate::cli) path: Option<PathBuf>,
}

/// Who counts what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Counter {
    /// The benchmark's HTTP server: the events of each body.
    Http,
    /// The lines of a file that Hydrant wrote.
    File,
    /// Hydrant's own metric of sent events, for a destination that keeps nothing.
    Metrics,
}

impl Profile {
    /// A built-in profile by its name, or the profile of a file.
    ///
    /// # Errors
    /// There is neither; or every mistake in it.
    pub(in crate::cli) fn load(name: &str) -> Result<Self, Diagnostics> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
            return Self::parse(Path::new(&format!("benches/profiles/{name}.yaml")), text);
        }
        let file = Path::new(name);
        let text = std::fs::read_to_string(file).map_err(|error| {
            let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            let near = nearest(name, names.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let message = format!("no built-in profile of this name, and no such file: {error}");
            Diagnostic::error(file, 0, 0, "", message).help(format!("{near}one of: {}", names.join(", ")))
        })?;
        Self::parse(file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, Diagnostics> {
        let failed = |line, message: String| Diagnostics::from(Diagnostic::error(file, line, 0, "", message));
        let documents = parse_documents(file, text)?;
        let Some(node) = documents.first() else { return Err(failed(0, "the file is empty".into())) };
        // Not through `Section`: that would replace `${...}` of the configuration inside.
        let profile: Self = serde_json::from_value(value(node)).map_err(|error| failed(node.line, error.to_string()))?;
        for kind in &profile.load.traffic {
            kind.parse::<traffic::Kind>().map_err(|error| failed(node.line, error.to_string()))?;
        }
        if profile.load.traffic.is_empty() || profile.load.connections == 0 || profile.load.events == 0 {
            return Err(failed(node.line, "`traffic`, `connections` and `events` must not be empty".into()));
        }
        for (name, values) in &profile.settings {
            if values.is_empty() || !profile.config.contains(&format!("@{name}@")) {
                return Err(failed(node.line, format!("setting `{name}` has no value or is not in `config`")));
            }
        }
        Ok(profile)
    }

    /// The first value of each setting.
    pub(in crate::cli) fn defaults(&self) -> BTreeMap<String, String> {
        self.settings.iter().filter_map(|(name, values)| Some((name.clone(), values.first()?.clone()))).collect()
    }

    /// The configuration with its placeholders replaced.
    pub(in crate::cli) fn config(&self, values: &BTreeMap<String, String>) -> String {
        let replace = |text: String, (name, value): (&String, &String)| text.replace(&format!("@{name}@"), value);
        values.iter().fold(self.config.clone(), replace)
    }
}

/// YAML as JSON; plain scalars that read as numbers or booleans become such.
fn value(node: &Node) -> serde_json::Value {
    match &node.content {
        Content::Mapping(entries) => {
            let member = |(key, node): &(Node, Node)| Some((key.text()?.to_owned(), value(node)));
            serde_json::Value::Object(entries.iter().filter_map(member).collect())
        }
        Content::Sequence(items) => items.iter().map(value).collect(),
        Content::Scalar { text, plain } if *plain => match serde_json::from_str(text) {
            Ok(found @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => found,
            _ => text.as_str().into(),
        },
        Content::Scalar { text, .. } => text.as_str().into(),
        Content::Unknown(_) => serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::plan::Plan;

    #[test]
    fn every_built_in_profile_compiles_with_each_value_of_its_settings() {
        for (name, _) in BUILT_IN {
            let profile = Profile::load(name).unwrap_or_else(|error| panic!("{name}: {error}"));
            let folder = tempfile::tempdir().unwrap();
            for (file, content) in &profile.files {
                std::fs::write(folder.path().join(file), content.render()).unwrap();
            }
            let mut given = profile.defaults();
            given.extend([("listen".into(), "127.0.0.1:5514".into()), ("dir".into(), folder.path().display().to_string())]);
            given.extend(profile.expect.keys().map(|point| (point.clone(), "127.0.0.1:8088".into())));
            let changes = profile.settings.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
            for (setting, value) in changes.chain([(&"listen".to_owned(), &"127.0.0.1:5514".to_owned())]) {
                let mut values = given.clone();
                values.insert(setting.clone(), value.clone());
                let plan = Plan::read(&folder.path().join("config.yaml"), &profile.config(&values));
                let plan = plan.unwrap_or_else(|error| panic!("{name}, {setting} {value}: {error}"));
                assert!(plan.warnings.0.is_empty(), "{name}: {}", plan.warnings);
            }
        }
    }

    #[test]
    fn mistakes_in_a_profile_are_named() {
        let parse = |text: &str| Profile::parse(Path::new("p.yaml"), text).unwrap_err().to_string();
        let load = "load: { traffic: [paloalto], transport: tcp, events: 1 }\n";
        assert!(parse("about: a\n").contains("config"));
        assert!(parse(&format!("about: a\nconfig: b\n{load}expect: {{}}\n")).contains("did you mean `palo_alto`"));
        let load = load.replace("paloalto", "palo_alto");
        assert!(parse(&format!("about: a\nconfig: b\n{load}expect: {{}}\nsettings: {{ x: ['1'] }}\n")).contains("setting `x`"));
        assert!(Profile::load("w22").unwrap_err().to_string().contains("did you mean `w2`"));
    }
}
