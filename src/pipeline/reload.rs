//! A changed configuration for a running pipeline.
//!
//! The whole file is read and compiled first; with any mistake, an empty file included, the old plan stays. A
//! reload takes over `rules`, `placeholders` and `pipelines` (their files too), `alerts`, silences, `routes`, `enrichments`,
//! `transforms`, `correlation` and `source_health`. Sources, sinks and the settings of the process stay as they were
//! started: a file that changes them is refused as a whole, with the places, because half a reload is worse than none. A
//! secret whose file or variable changed, while the configuration still says the same, is read at the next start.
//!
//! Shards take the new plan up at their next chunk. Batches that are open go on: they hold encoded events.

use std::path::Path;

use crate::config::{Content, Node};
use crate::error::{Diagnostic, Diagnostics};
use crate::pipeline::plan::Plan;

/// Top-level keys that a reload takes over.
pub const RELOADABLE: &[&str] =
    &["rules", "placeholders", "pipelines", "alerts", "routes", "enrichments", "transforms", "correlation", "source_health"];

impl Plan {
    /// Reads a configuration that takes the place of this one in a running pipeline.
    ///
    /// # Errors
    /// Everything that is wrong with it, and everything that needs a restart.
    pub fn reload(&self, file: &Path, text: &str) -> Result<Self, Diagnostics> {
        let mut plan = Self::read(file, text)?;
        let mut diagnostics = Diagnostics::new();
        let (old, new) = (self.written.without(RELOADABLE), plan.written.without(RELOADABLE));
        compare(file, "", old.node(), new.node(), &mut diagnostics);
        diagnostics.into_result(())?;
        // The sinks that run keep whatever they remember.
        plan.sinks.clone_from(&self.sinks);
        Ok(plan)
    }
}

/// Names the differences; maps are compared key by key down to the name of a component.
fn compare(file: &Path, path: &str, old: &Node, new: &Node, diagnostics: &mut Diagnostics) {
    if is_same(old, new) {
        return;
    }
    let is_outer = matches!(path, "" | "sources" | "sinks");
    if let (true, Content::Mapping(before), Content::Mapping(after)) = (is_outer, &old.content, &new.content) {
        let join = |key: &Node| if path.is_empty() { key.describe() } else { format!("{path}.{}", key.describe()) }.replace('`', "");
        for (key, value) in after {
            match key.text().and_then(|text| old.entry(text)) {
                Some(was) => compare(file, &join(key), was, value, diagnostics),
                None => diagnostics.push(refused(file, key, join(key), "is new")),
            }
        }
        let is_gone = |key: &Node| key.text().is_none_or(|text| new.entry(text).is_none());
        for (key, _) in before.iter().filter(|(key, _)| is_gone(key)) {
            diagnostics.push(refused(file, new, join(key), "is gone"));
        }
        let names = |entries: &[(Node, Node)]| entries.iter().map(|(key, _)| key.text().map(str::to_owned)).collect::<Vec<_>>();
        // Positions in these maps are what chunks and cursors refer to.
        if !path.is_empty() && before.len() == after.len() && names(before) != names(after) && !diagnostics.has_errors() {
            diagnostics.push(refused(file, new, path.to_owned(), "has another order"));
        }
        return;
    }
    diagnostics.push(refused(file, new, path.to_owned(), "has changed"));
}

fn refused(file: &Path, at: &Node, path: String, what: &str) -> Diagnostic {
    let help = format!("a reload takes over {}; restart for this", RELOADABLE.join(", "));
    Diagnostic::error(file, at.line, at.column, path, format!("{what}, which a reload cannot take over")).help(help)
}

/// Whether two nodes say the same, wherever they stand.
fn is_same(a: &Node, b: &Node) -> bool {
    match (&a.content, &b.content) {
        (Content::Scalar { text, plain }, Content::Scalar { text: other, plain: other_plain }) => text == other && plain == other_plain,
        (Content::Sequence(a), Content::Sequence(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Content::Mapping(a), Content::Mapping(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, v), (l, w))| is_same(k, l) && is_same(v, w))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str =
        "sources:\n  fw: { type: syslog, listen: \"127.0.0.1:0\" }\nsinks:\n  a: { type: splunk_hec, endpoint: \"http://a\", token: x }\n";

    fn reload(text: &str) -> Result<(), String> {
        let file = Path::new("t.yaml");
        Plan::read(file, OLD).unwrap().reload(file, text).map(|_| ()).map_err(|diagnostics| diagnostics.to_string())
    }

    #[test]
    fn routes_and_rules_are_taken_over_and_comments_do_not_matter() {
        assert_eq!(reload(&format!("# new\n{OLD}routes:\n  - {{ to: [a] }}\nrules: []\n")), Ok(()));
    }

    #[test]
    fn what_needs_a_restart_is_refused_with_its_place() {
        let help = "\n  help: a reload takes over rules, placeholders, pipelines, alerts, routes, enrichments, transforms, correlation, source_health; restart for this";
        let changed = OLD.replace("http://a", "http://b");
        let expected = format!("t.yaml:4:6: error: sinks.a: has changed, which a reload cannot take over{help}");
        assert_eq!(reload(&changed).unwrap_err(), expected);
        let more = format!("{OLD}  b: {{ type: splunk_hec, endpoint: \"http://b\", token: x }}\nshards: 1\n");
        let expected = format!(
            "t.yaml:5:3: error: sinks.b: is new, which a reload cannot take over{help}\n\
             t.yaml:6:1: error: shards: is new, which a reload cannot take over{help}"
        );
        assert_eq!(reload(&more).unwrap_err(), expected);
        let renamed = OLD.replace("  a:", "  c:");
        assert!(reload(&renamed).unwrap_err().contains("sinks.a: is gone"));
    }

    #[test]
    fn an_empty_or_broken_file_is_refused() {
        assert!(reload("").unwrap_err().contains("the file is empty"));
        assert!(reload("sources: [").is_err());
        assert!(reload(&format!("{OLD}routes:\n  - {{ to: [nowhere] }}\n")).unwrap_err().contains("there is no sink `nowhere`"));
    }
}
