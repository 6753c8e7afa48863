//! What becomes of the hits of each rule: `alerts:` of the configuration over what the rules say themselves.

use serde::Deserialize;

use super::correlation::Collected;
use crate::config::{Interval, Section};
use crate::detect::Rules;
use crate::detect::correlate::Correlations;
use crate::detect::sigma::Level;
use crate::detect::sigma::correlation::{Linked, Role};
use crate::detect::treatment::{self, Deduplication, Own, Selector, Treatment};
use crate::error::{Diagnostic, Diagnostics, nearest};

#[derive(Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AlertsConfig {
    /// Rules and correlations whose hits mark their events and are counted, and make no alert: ids, titles such as `Foo*`,
    /// `status:experimental`, `level:low`.
    shadow: Vec<String>,
    /// Rules that make one alert for each key in a window; the first entry that fits a rule counts.
    deduplicate: Vec<DeduplicateConfig>,
}

#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeduplicateConfig {
    /// Which rules: as for `shadow`; `"*"` is all of them.
    rules: Vec<String>,
    /// The fields whose values are the key, as rules or ECS call them.
    by: Vec<String>,
    /// For how long there is no other alert with the same key, 1s to 7d.
    window: Interval,
}

/// What becomes of hits, and the correlations that this takes.
pub(super) struct Treated {
    /// By rule.
    pub(super) treatments: Vec<Treatment>,
    /// The correlations of the rules, then one for each rule that is deduplicated.
    pub(super) linked: Vec<Linked>,
    /// The same, compiled.
    pub(super) correlations: Correlations,
    config: AlertsConfig,
    /// Who deduplicates: index of the entry in the configuration and of the correlation.
    entries: Vec<(usize, usize)>,
}

/// Decides for all rules. What a rule says of itself counts where the configuration says nothing.
pub(super) fn treat(config: AlertsConfig, rules: &Rules, root: &Section, diagnostics: &mut Diagnostics) -> Treated {
    let section = root.child("alerts").unwrap_or_else(|| root.clone());
    let shadow = selectors(&config.shadow, section.child("shadow").as_ref(), rules, diagnostics);
    let mut linked = rules.correlations.clone();
    for linked in &mut linked {
        let own = diagnostics.absorb(treatment::read_correlation(&linked.correlation)).unwrap_or_default();
        if own.shadow || shadow.iter().any(|selector| selector.fits(&*linked)) {
            // What only others see is no alert anyway.
            linked.role = if linked.is_alert { Role::Shadow } else { linked.role };
            linked.is_alert = false;
        }
    }
    let entries = entries(&config, &section, rules, diagnostics);
    let treatments = Vec::with_capacity(rules.rules.len());
    let mut treated = Treated { treatments, linked, correlations: Correlations::default(), config, entries: Vec::new() };
    for ((rule, alone), index) in rules.rules.iter().zip(&rules.alone).zip(0..) {
        let Own { shadow: is_shadow, deduplicate } = diagnostics.absorb(treatment::read(rule)).unwrap_or_default();
        if is_shadow || shadow.iter().any(|selector| selector.fits(rule)) {
            treated.treatments.push(Treatment::Shadow);
            continue;
        }
        let entry = entries.iter().position(|(selectors, _)| selectors.iter().any(|selector| selector.fits(rule)));
        let how = entry.and_then(|entry| entries.get(entry)).map(|(_, how)| how.clone()).or(deduplicate);
        // Without alerts there is nothing to deduplicate.
        let Some(how) = how.filter(|_| *alone && rule.level > Level::Informational) else {
            treated.treatments.push(Treatment::Alert);
            continue;
        };
        treated.treatments.push(Treatment::Deduplicate);
        treated.entries.extend(entry.map(|entry| (entry, treated.linked.len())));
        treated.linked.push(treatment::deduplication(rule, index, &how));
    }
    let (correlations, mut mistakes) = Correlations::new(&treated.linked, &rules.rules);
    // Those of the rules' own correlations are known.
    mistakes.0.retain(|mistake| !diagnostics.0.contains(mistake));
    diagnostics.0.append(&mut mistakes.0);
    treated.correlations = correlations;
    treated
}

/// What the configuration says of deduplication.
fn entries(config: &AlertsConfig, section: &Section, rules: &Rules, diagnostics: &mut Diagnostics) -> Vec<(Vec<Selector>, Deduplication)> {
    let places = section.child("deduplicate").map(|section| section.items()).unwrap_or_default();
    let mut entries = Vec::with_capacity(config.deduplicate.len());
    for (entry, place) in config.deduplicate.iter().zip(places) {
        let how = Deduplication { by: entry.by.clone(), window: entry.window };
        how.check(&place, diagnostics);
        let selectors = selectors(&entry.rules, place.child("rules").as_ref(), rules, diagnostics);
        for (selector, place) in selectors.iter().zip(place.child("rules").map(|rules| rules.items()).unwrap_or_default()) {
            let fits_rule = rules.rules.iter().any(|rule| selector.fits(rule));
            if !fits_rule && rules.correlations.iter().any(|linked| selector.fits(linked)) {
                let help = "a group is quiet for a `timespan` after a match; a longer one means fewer alerts";
                diagnostics.push(place.error("only a correlation fits, and that is not deduplicated").warning().help(help));
            }
        }
        entries.push((selectors, how));
    }
    entries
}

/// Reads selectors; warns of those that fit nothing.
fn selectors(texts: &[String], section: Option<&Section>, rules: &Rules, diagnostics: &mut Diagnostics) -> Vec<Selector> {
    let places = section.map(Section::items).unwrap_or_default();
    let mut selectors = Vec::with_capacity(texts.len());
    for (text, place) in texts.iter().zip(places) {
        match Selector::parse(text) {
            Ok(selector) => {
                let fits =
                    rules.rules.iter().any(|rule| selector.fits(rule)) || rules.correlations.iter().any(|linked| selector.fits(linked));
                if !fits {
                    diagnostics.push(fits_nothing(text, &place, rules));
                }
                selectors.push(selector);
            }
            Err(message) => diagnostics.push(place.error(message)),
        }
    }
    selectors
}

fn fits_nothing(text: &str, place: &Section, rules: &Rules) -> Diagnostic {
    let of_rules = rules.rules.iter().flat_map(|rule| [rule.title.as_str(), rule.id.as_str()]);
    let correlations = rules.correlations.iter().map(|linked| &linked.correlation);
    let names = of_rules.chain(correlations.flat_map(|correlation| [correlation.title.as_str(), correlation.id.as_str()]));
    let mut diagnostic = place.error(format!("`{text}` fits no rule")).warning();
    let near = nearest(text.trim_end_matches('*'), names);
    diagnostic.help =
        Some(near.map_or_else(|| "`hydrant rules list` shows titles and ids".to_owned(), |near| format!("did you mean `{near}`?")));
    diagnostic
}

impl Treated {
    /// Warns of keys that no event of any of their rules has.
    pub(super) fn warn_of_keys(&self, collected: &Collected, canonical: &[String], root: &Section, diagnostics: &mut Diagnostics) {
        let help = |name: &str| nearest(name, canonical.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"));
        let places = root.child("alerts").and_then(|alerts| alerts.child("deduplicate")).map(|section| section.items()).unwrap_or_default();
        for (entry, (written, place)) in self.config.deduplicate.iter().zip(places).enumerate() {
            let own: Vec<&Vec<bool>> =
                self.entries.iter().filter(|(other, _)| *other == entry).filter_map(|(_, linked)| collected.parts.get(linked)).collect();
            for (index, name) in written.by.iter().enumerate().filter(|_| !own.is_empty()) {
                if own.iter().all(|parts| !parts.get(index).is_some_and(|is_there| *is_there)) {
                    let by = place.child("by").map(|by| by.items()).unwrap_or_default();
                    let place = by.get(index).unwrap_or(&place);
                    let mut diagnostic =
                        place.error(format!("events of these rules have no field `{name}`: all have the same key")).warning();
                    diagnostic.help = help(name);
                    diagnostics.push(diagnostic);
                }
            }
        }
        let of_entries = |index: &usize| self.entries.iter().any(|(_, linked)| linked == index);
        for (index, linked) in self.linked.iter().enumerate().filter(|(_, linked)| linked.role == Role::Deduplication) {
            let parts = collected.parts.get(&index).filter(|_| !of_entries(&index));
            for (_, name) in parts.into_iter().flatten().zip(&linked.correlation.group_by).filter(|(is_there, _)| !**is_there) {
                let (correlation, name) = (&linked.correlation, &name.text);
                let message = format!("rule `{}`: its events have no field `{name}`: all have the same key", correlation.title);
                let mut diagnostic = Diagnostic::error(&correlation.file, correlation.line, 0, "hydrant.deduplicate.by", message).warning();
                diagnostic.help = help(name);
                diagnostics.push(diagnostic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::detect::preparation::Preparation;
    use crate::pipeline::plan::Plan;

    const RULES: &str = "
title: Denied Often
name: denied
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a31
status: stable
level: high
logsource: { category: firewall }
detection: { s: { event.outcome: failure }, condition: s }
hydrant: { deduplicate: { by: [source.ip, destination.ip], window: 5m } }
---
title: Telnet
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a32
status: experimental
level: low
logsource: { category: firewall }
detection: { s: { destination.port: 23 }, condition: s }
---
title: Only a Mark
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a33
level: informational
logsource: { category: firewall }
detection: { s: { destination.port: 22 }, condition: s }
---
title: Counted
name: counted
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a34
level: low
logsource: { category: firewall }
detection: { s: { destination.port: 21 }, condition: s }
---
title: Many
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a35
level: critical
correlation: { type: event_count, rules: [counted], group-by: [source.ip], timespan: 10s, condition: { gte: 3 } }
";

    fn plan(alerts: &str, rules: &str) -> Result<Plan, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
        let config = format!(
            "alerts:{alerts}\nrules: [rules.yml]\nsinks: {{ out: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:9\", token: x }} }}\n\
             sources: {{ fw: {{ type: syslog, listen: \"127.0.0.1:5514\", decoder: palo_alto }} }}\n"
        );
        let read = Plan::read(Path::new(&folder.path().join("c.yaml")), &config);
        read.map_err(|mistakes| mistakes.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    fn treated(alerts: &str) -> Treated {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules.yml");
        std::fs::write(&file, RULES).unwrap();
        let (rules, mut diagnostics) = Rules::load(&[file], &Preparation::default());
        let root = Section::parse(Path::new("c.yaml"), &format!("alerts:{alerts}\n")).unwrap();
        let config = root.child("alerts").filter(|alerts| !alerts.node().is_null()).map(|alerts| alerts.read().unwrap());
        let treated = treat(config.unwrap_or_default(), &rules, &root, &mut diagnostics);
        assert!(!diagnostics.has_errors(), "{diagnostics}");
        treated
    }

    /// Treatments by rule, and what is deduplicated: title, window in ms and key.
    fn shown(alerts: &str) -> (Vec<Treatment>, Vec<String>) {
        let Treated { treatments, linked, .. } = treated(alerts);
        let shown = linked.iter().filter(|linked| linked.role == Role::Deduplication).map(|linked| {
            let by: Vec<&str> = linked.correlation.group_by.iter().map(|name| name.text.as_str()).collect();
            format!("{} {} {}", linked.correlation.title, linked.correlation.timespan_ms, by.join(","))
        });
        (treatments, shown.collect())
    }

    #[test]
    fn the_configuration_goes_before_the_rule_and_its_first_entry_before_the_others() {
        use Treatment::{Alert, Deduplicate, Shadow};
        let own = "Denied Often 300000 source.ip,destination.ip";
        assert_eq!(shown(""), (vec![Deduplicate, Alert, Alert, Alert], vec![own.to_owned()]));
        let all = "\n  deduplicate:\n    - { rules: [Den*], by: [source.ip], window: 1h }\n    - { rules: ['*'], by: [], window: 2h }";
        let expected = vec!["Denied Often 3600000 source.ip".to_owned(), "Telnet 7200000 ".to_owned()];
        assert_eq!(shown(all), (vec![Deduplicate, Deduplicate, Alert, Alert], expected), "what does not alert is left alone");
        assert_eq!(shown(" { shadow: ['status:experimental', 'level:high'] }"), (vec![Shadow, Shadow, Alert, Alert], vec![]));
        let in_shadow = &treated(" { shadow: [Many] }").linked[0];
        assert_eq!((in_shadow.role, in_shadow.is_alert), (Role::Shadow, false));
    }

    fn warnings(alerts: &str, rules: &str) -> String {
        let mut warnings = plan(alerts, rules).unwrap().warnings;
        // The folder is another one each time.
        warnings.0.iter_mut().for_each(|warning| warning.file = warning.file.file_name().unwrap().into());
        warnings.to_string()
    }

    #[test]
    fn what_fits_nothing_is_warned_of_with_the_nearest_name() {
        let alerts = "\n  shadow: [Telnett, 'level:critical', 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a39, Nothing Like It]\n  deduplicate:\n    \
                      - { rules: [Telnet], by: [source.ip, source.ipp], window: 1h }\n    - { rules: [Many], by: [source.ip], window: 1h }";
        let found = warnings(alerts, RULES);
        let expected = "c.yaml:2:12: warning: alerts.shadow[0]: `Telnett` fits no rule\n  help: did you mean `Telnet`?\n\
                        c.yaml:2:39: warning: alerts.shadow[2]: `5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a39` fits no rule\n  \
                        help: did you mean `5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a31`?\n\
                        c.yaml:2:77: warning: alerts.shadow[3]: `Nothing Like It` fits no rule\n  help: `hydrant rules list` shows titles and ids\n\
                        c.yaml:4:42: warning: alerts.deduplicate[0].by[1]: events of these rules have no field `source.ipp`: all have the same key\n  \
                        help: did you mean `source.ip`?\n\
                        c.yaml:5:17: warning: alerts.deduplicate[1].rules[0]: only a correlation fits, and that is not deduplicated\n  \
                        help: a group is quiet for a `timespan` after a match; a longer one means fewer alerts";
        assert_eq!(found, expected);
        let of_rule = warnings("", &RULES.replace("[source.ip, destination.ip]", "[source.ipp]"));
        assert!(
            of_rule.contains("rules.yml:2: warning: hydrant.deduplicate.by: rule `Denied Often`: its events have no field"),
            "{of_rule}"
        );
    }

    #[test]
    fn mistakes_are_named_with_their_place_in_the_configuration_and_in_rules() {
        let wrong = |alerts: &str, rules: &str, parts: &[&str]| {
            let mistakes = plan(alerts, rules).err().unwrap();
            parts.iter().for_each(|part| assert!(mistakes.contains(part), "{part}\n{mistakes}"));
        };
        wrong(" { silence: [] }", RULES, &["c.yaml:1:11: error: alerts.silence: unknown key\n  help: keys here: shadow, deduplicate"]);
        let rules = RULES.replace("status: experimental", "hydrant: { shdow: true }");
        let alerts = "\n  shadow: ['level:hi']\n  deduplicate: [ { rules: ['*'], by: [a], window: 30d } ]";
        let parts = [
            "c.yaml:2:12: error: alerts.shadow[0]: there is no level `hi`",
            "c.yaml:3:51: error: alerts.deduplicate[0].window: expected a time span of 1s to 7d",
            "rules.yml:13:12: error: hydrant.shdow: unknown key\n  help: did you mean `shadow`?",
        ];
        wrong(alerts, &rules, &parts);
    }
}
