//! Tests inside rule files: raw vendor lines and whether the rule matches them.
//!
//! A custom key at the top level of a Sigma rule, which other tools ignore:
//!
//! ```yaml
//! tests:
//!   - name: telnet from outside
//!     log: '<14>Nov 21 08:00:00 fw 1,2026/11/21 ...'    # one raw line, as the device sends it
//!     decoder: palo_alto                                 # default: auto
//!     expect: match                                      # or no_match
//! ```
//!
//! In goes a loaded rule, out come its cases with their place, and every mistake. Nothing is run here.

use serde::Deserialize;

use crate::config::{Content, Section};
use crate::detect::sigma::SigmaRule;
use crate::error::Diagnostics;

/// One raw line and what the rule says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The line.
    pub log: String,
    /// The decoder, `auto` if the file does not say.
    pub decoder: String,
    /// Whether the rule has to match.
    pub expects_match: bool,
    /// 1-based line of the file.
    pub line: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    log: String,
    decoder: Option<String>,
    expect: Expectation,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Expectation {
    Match,
    NoMatch,
}

/// The cases of a rule, none if it has no `tests`.
///
/// # Errors
/// Unknown and missing keys, wrong values; `check` says what is wrong with the name of a decoder.
pub fn read(rule: &SigmaRule, check: impl Fn(&str) -> Result<(), String>) -> Result<Vec<Case>, Diagnostics> {
    let Some(node) = rule.custom.entry("tests") else { return Ok(Vec::new()) };
    let section = Section::at(&rule.file, "tests", node.clone());
    if !matches!(node.content, Content::Sequence(_)) {
        let message = format!("expected a list of tests, found {}", node.describe());
        return Err(section.error(message).help("each with `name`, `log`, `expect` and, if wanted, `decoder`").into());
    }
    let mut diagnostics = Diagnostics::new();
    let mut cases = Vec::new();
    for item in section.items() {
        let Some(written) = diagnostics.absorb(item.read::<Written>()) else { continue };
        let place = |key: &str| item.child(key).unwrap_or_else(|| item.clone());
        let decoder = written.decoder.unwrap_or_else(|| "auto".to_owned());
        let mut refuse = |key: &str, message: String| diagnostics.push(place(key).error(message));
        if let Err(message) = check(&decoder) {
            refuse("decoder", message);
        }
        if written.log.trim().is_empty() {
            refuse("log", "the line is empty".to_owned());
        }
        let expects_match = written.expect == Expectation::Match;
        cases.push(Case { name: written.name, log: written.log, decoder, expects_match, line: item.node().line });
    }
    diagnostics.into_result(cases)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::detect::sigma;

    fn cases(tests: &str) -> Result<Vec<Case>, String> {
        let text = format!(
            "title: t\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\nlogsource: {{ category: firewall }}\n\
             detection:\n  s: {{ a: 1 }}\n  condition: s\ntests:{tests}"
        );
        let loaded = sigma::load(Path::new("r.yml"), &text, &sigma::Placeholders::new());
        assert_eq!(loaded.diagnostics.to_string(), "", "`tests` is a known key");
        let check = |name: &str| if name == "auto" { Ok(()) } else { Err(format!("there is no decoder `{name}`")) };
        read(&loaded.rules[0], check).map_err(|diagnostics| diagnostics.to_string())
    }

    #[test]
    fn cases_are_read_with_their_line() {
        let found = cases("\n  - { name: n, log: 'x ', expect: no_match }\n").unwrap();
        assert_eq!(found, [Case { name: "n".into(), log: "x ".into(), decoder: "auto".into(), expects_match: false, line: 8 }]);
        assert_eq!(cases(" []\n").unwrap(), []);
    }

    #[test]
    fn every_mistake_is_named() {
        let error = cases("\n  - { name: n, log: ' ', expect: match, decoder: nope }\n  - { name: n, lgo: x, expect: yes }\n").unwrap_err();
        let expected = "r.yml:8:50: error: tests[0].decoder: there is no decoder `nope`\n\
                        r.yml:8:21: error: tests[0].log: the line is empty\n\
                        r.yml:9:16: error: tests[1].lgo: unknown key\n  help: did you mean `log`? keys here: name, log, decoder, expect\n\
                        r.yml:9:32: error: tests[1].expect: `yes` is not a value of this key\n  help: one of: match, no_match\n\
                        r.yml:9:5: error: tests[1]: the key `log` is missing";
        assert_eq!(error, expected);
        assert!(cases(" 5\n").unwrap_err().contains("expected a list of tests, found `5`"));
    }
}
