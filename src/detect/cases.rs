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
//! A correlation has `logs` instead, a list in the order of arrival. An entry is a line, or `{ log: LINE, times: 20 }`: the
//! line so many times, `{n}` in it standing for 1, 2, 3 and so on. All lines are seen before it is asked what was found.
//!
//! In goes a loaded rule, out come its cases with their place, and every mistake. Nothing is run here.

use std::path::Path;

use serde::Deserialize;

use crate::config::{Content, Node, Section};
use crate::detect::sigma::SigmaRule;
use crate::detect::sigma::correlation::Correlation;
use crate::error::Diagnostics;

/// Lines of one test of a correlation. More is a matter for a bench.
const LINES_MAX: usize = 10_000;

/// Raw lines and what the rule says about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The lines; one for a rule.
    pub logs: Vec<String>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMany {
    name: String,
    logs: Vec<Lines>,
    decoder: Option<String>,
    expect: Expectation,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Lines {
    One(String),
    Times { log: String, times: usize },
}

impl Lines {
    fn count(&self) -> usize {
        if let Self::Times { times, .. } = self { *times } else { 1 }
    }

    fn lines(self) -> Vec<String> {
        match self {
            Self::One(log) => vec![log],
            Self::Times { log, times } => (1..=times).map(|number| log.replace("{n}", &number.to_string())).collect(),
        }
    }
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
    read_with(&rule.file, &rule.custom, "each with `name`, `log`, `expect` and, if wanted, `decoder`", |item, diagnostics| {
        let written = diagnostics.absorb(item.read::<Written>())?;
        let Written { name, log, decoder, expect } = written;
        let decoder = decoder.unwrap_or_else(|| "auto".to_owned());
        check_case(item, &decoder, (&check, "log"), log.trim().is_empty(), diagnostics);
        Some(Case { name, logs: vec![log], decoder, expects_match: expect == Expectation::Match, line: item.node().line })
    })
}

/// The cases of a correlation.
///
/// # Errors
/// As [`read`].
pub fn read_correlation(correlation: &Correlation, check: impl Fn(&str) -> Result<(), String>) -> Result<Vec<Case>, Diagnostics> {
    let help = "each with `name`, `logs`, `expect` and, if wanted, `decoder`";
    read_with(&correlation.file, &correlation.custom, help, |item, diagnostics| {
        let written = diagnostics.absorb(item.read::<WrittenMany>())?;
        let WrittenMany { name, logs, decoder, expect } = written;
        let decoder = decoder.unwrap_or_else(|| "auto".to_owned());
        let count = logs.iter().map(Lines::count).fold(0, usize::saturating_add);
        if count > LINES_MAX {
            diagnostics.push(item.error(format!("{count} lines; at most {LINES_MAX} are run")));
            return None;
        }
        let logs: Vec<String> = logs.into_iter().flat_map(Lines::lines).collect();
        let is_empty = logs.is_empty() || logs.iter().any(|log| log.trim().is_empty());
        check_case(item, &decoder, (&check, "logs"), is_empty, diagnostics);
        Some(Case { name, logs, decoder, expects_match: expect == Expectation::Match, line: item.node().line })
    })
}

type Check<'a> = dyn Fn(&str) -> Result<(), String> + 'a;

fn check_case(item: &Section, decoder: &str, (check, key): (&Check<'_>, &str), is_empty: bool, diagnostics: &mut Diagnostics) {
    let place = |key: &str| item.child(key).unwrap_or_else(|| item.clone());
    if let Err(message) = check(decoder) {
        diagnostics.push(place("decoder").error(message));
    }
    if is_empty {
        diagnostics.push(place(key).error("the line is empty"));
    }
}

fn read_with(
    file: &Path,
    custom: &Node,
    help: &str,
    mut case: impl FnMut(&Section, &mut Diagnostics) -> Option<Case>,
) -> Result<Vec<Case>, Diagnostics> {
    let Some(node) = custom.entry("tests") else { return Ok(Vec::new()) };
    let section = Section::at(file, "tests", node.clone());
    if !matches!(node.content, Content::Sequence(_)) {
        let message = format!("expected a list of tests, found {}", node.describe());
        return Err(section.error(message).help(help).into());
    }
    let mut diagnostics = Diagnostics::new();
    let cases = section.items().iter().filter_map(|item| case(item, &mut diagnostics)).collect();
    diagnostics.into_result(cases)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(found, [Case { name: "n".into(), logs: vec!["x ".into()], decoder: "auto".into(), expects_match: false, line: 8 }]);
        assert_eq!(cases(" []\n").unwrap(), []);
    }

    #[test]
    fn lines_of_a_correlation_are_repeated_and_numbered() {
        let rule = "title: t\nname: r\nlogsource: { category: firewall }\ndetection:\n  s: { a: 1 }\n  condition: s\n---\n";
        let text = "title: c\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\ncorrelation: { type: event_count, rules: [r], group-by: [a], \
                    timespan: 1m, condition: { gte: 3 } }\ntests:\n  - { name: n, logs: [a, { log: 'p={n}', times: 2 }], expect: match }\n";
        let read = |text: &str| {
            let loaded = sigma::load(Path::new("r.yml"), &format!("{rule}{text}"), &sigma::Placeholders::new());
            read_correlation(&loaded.correlations[0], |_| Ok(())).map_err(|diagnostics| diagnostics.to_string())
        };
        assert_eq!(read(text).unwrap()[0].logs, ["a", "p=1", "p=2"]);
        let error = read(&text.replace("times: 2", "times: 10000")).unwrap_err();
        assert!(error.contains("10001 lines; at most 10000 are run"), "{error}");
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
