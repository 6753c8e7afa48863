//! What a configuration says of source health.

use std::time::Duration;

use serde::Deserialize;

use super::sources::SourcePlan;
use crate::config::{Interval, Section};
use crate::error::Diagnostics;
use crate::source_health::{Settings, Watched};

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SourceHealthConfig {
    /// Whether senders are judged at all; a source of its own is left out with `source_health: false` there.
    enabled: bool,
    /// A sender with a steady past is silent after so long, or after twice its usual pause if that is longer; 0s is never.
    silent_after: Interval,
    /// For so long a new sender is only looked at.
    learning: Interval,
    /// A whole hour with less than this percentage of the same hour of each of the last seven days is a drop; 0 is never.
    volume_below_percent: u64,
    /// A clock that is further off, by the median of a quarter of an hour, is wrong; 0s is never.
    clock_skew: Interval,
    /// More than this percentage of events that no decoder reads are too many; 0 is never.
    unreadable_above_percent: u64,
}

impl Default for SourceHealthConfig {
    fn default() -> Self {
        let minutes = |minutes: u64| Interval(Duration::from_secs(60 * minutes));
        Self {
            enabled: true,
            silent_after: minutes(15),
            learning: minutes(24 * 60),
            volume_below_percent: 20,
            clock_skew: minutes(5),
            unreadable_above_percent: 20,
        }
    }
}

/// Whose health is looked at, and what is told.
pub struct SourceHealthPlan {
    /// When something is told.
    pub settings: Settings,
    /// The sources whose senders are judged.
    pub watched: Vec<Watched>,
}

impl SourceHealthConfig {
    /// What holds; `root` is the whole configuration, for messages.
    pub(super) fn plan(self, sources: &[SourcePlan], root: &Section, diagnostics: &mut Diagnostics) -> SourceHealthPlan {
        let place = |key: &str| root.child("source_health").and_then(|section| section.child(key)).unwrap_or_else(|| root.clone());
        for (key, percent) in
            [("volume_below_percent", self.volume_below_percent), ("unreadable_above_percent", self.unreadable_above_percent)]
        {
            if percent > 99 {
                diagnostics.push(place(key).error(format!("expected 0 to 99, found {percent}")));
            }
        }
        let watched = |plan: &SourcePlan| Watched {
            name: plan.name.to_string(),
            names_devices: plan.source.names_devices(),
            // What is pulled may have waited for as long as it likes.
            delay: (!plan.source.listens_on().is_empty()).then(|| plan.source.delay()),
        };
        let settings = Settings {
            silent_after: self.silent_after.0,
            learning: self.learning.0,
            volume_below_percent: self.volume_below_percent,
            clock_skew: self.clock_skew.0,
            unreadable_above_percent: self.unreadable_above_percent,
        };
        SourceHealthPlan { settings, watched: sources.iter().filter(|plan| self.enabled && plan.has_health).map(watched).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::pipeline::plan::Plan;

    fn plan(config: &str, source: &str) -> Result<Plan, String> {
        let config = format!(
            "{config}\nsinks: {{ out: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:9\", token: x }} }}\nsources:\n  \
             fw: {{ type: syslog, listen: \"127.0.0.1:5514\"{source} }}\n  hose: {{ type: aws_firehose, listen: \"127.0.0.1:5515\" }}\n  \
             log: {{ type: file, include: [/var/log/fw.log] }}\n"
        );
        Plan::read(Path::new("c.yaml"), &config).map_err(|mistakes| mistakes.to_string())
    }

    fn watched(config: &str, source: &str) -> Vec<String> {
        let watched = plan(config, source).unwrap().source_health.watched;
        watched.iter().map(|source| format!("{} {} {:?}", source.name, source.names_devices, source.delay)).collect()
    }

    #[test]
    fn every_source_is_watched_unless_it_says_otherwise() {
        let all = ["fw true Some(0ns)", "hose false Some(900s)", "log true None"];
        assert_eq!(watched("", ""), all);
        assert_eq!(watched("source_health: { silent_after: 1h }", ", source_health: false"), all[1..]);
        assert!(watched("source_health: { enabled: false }", "").is_empty());
        assert_eq!(plan("", "").unwrap().source_health.settings.silent_after.as_secs(), 900);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (config, part) in [
            ("source_health: { volume_below_percent: 100 }", "source_health.volume_below_percent: expected 0 to 99, found 100"),
            ("source_health: { silent_for: 1m }", "source_health.silent_for: unknown key"),
        ] {
            let mistakes = plan(config, "").err().unwrap();
            assert!(mistakes.contains(part), "{mistakes}");
        }
    }
}
