//! The destinations: `sinks` of the configuration, and what they say of the journal.

use std::sync::Arc;

use serde::Deserialize;

use super::journal::{BackfillFrom, JournalPlan, WhenFull};
use super::{Changes, unknown_name};
use crate::config::Section;
use crate::error::Diagnostics;
use crate::limits::DESTINATIONS_MAX;
use crate::sink::{SINKS, Sink};

/// A destination. Clones are the same.
#[derive(Clone)]
pub struct SinkPlan {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Its `type`.
    pub kind: &'static str,
    /// The sink.
    pub sink: Arc<dyn Sink>,
    /// Whether no events go to it, only alerts.
    pub takes_only_alerts: bool,
    /// What happens when the journal is full and this one has not taken something.
    pub when_full: WhenFull,
    /// Where it begins when it is new to the data folder; with what comes from then on if not said.
    pub backfill_from: Option<BackfillFrom>,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::pipeline) struct SinkCommon {
    /// What happens when the journal is full and this destination has not taken something; otherwise what `journal.full`
    /// says.
    when_journal_full: Option<WhenFull>,
    /// Where a destination begins that is new to the data folder: `beginning`, `6h` ago, or a time; otherwise with what comes from
    /// now on.
    #[schemars(with = "Option<String>")]
    backfill_from: Option<BackfillFrom>,
}

const SINK_KEYS: &[&str] = &["when_journal_full", "backfill_from"];

pub(super) fn read(root: &Section, diagnostics: &mut Diagnostics) -> Vec<SinkPlan> {
    let Some(section) = root.child("sinks").filter(|section| !section.node().entries().is_empty()) else {
        diagnostics.push(root.error("there are no `sinks`").help("sinks: { out: { type: stdout } }"));
        return Vec::new();
    };
    let mut sinks = Vec::new();
    for (name, section) in section.children() {
        let Some(kind) = diagnostics.absorb(section.component(SINKS, |kind| kind.name())) else { continue };
        let mut common_keys = vec!["type"];
        common_keys.extend_from_slice(SINK_KEYS);
        let sink = diagnostics.absorb(kind.read(&section.without(&common_keys)));
        let own: Vec<&str> =
            section.node().entries().iter().filter_map(|(key, _)| key.text()).filter(|key| !SINK_KEYS.contains(key)).collect();
        let common = diagnostics.absorb(section.without(&own).read::<SinkCommon>());
        if let (Some(sink), Some(common)) = (sink, common) {
            let when_full = common.when_journal_full.unwrap_or_default();
            let backfill_from = common.backfill_from;
            let (name, kind, takes_only_alerts) = (name.into(), kind.name(), sink.takes_only_alerts());
            sinks.push(SinkPlan { name, kind, sink: sink.into(), takes_only_alerts, when_full, backfill_from });
        }
    }
    if sinks.len() > DESTINATIONS_MAX {
        diagnostics.push(section.error(format!("{} sinks; at most {DESTINATIONS_MAX} are supported", sinks.len())));
    }
    sinks
}

/// Leaves the sinks of a replay.
pub(super) fn change(root: &Section, changes: &Changes, sinks: &mut Vec<SinkPlan>, diagnostics: &mut Diagnostics) {
    if let Some(name) = &changes.sink {
        let names: Vec<String> = sinks.iter().map(|sink| sink.name.to_string()).collect();
        sinks.retain(|sink| *sink.name == **name);
        if sinks.is_empty() {
            let place = root.child("sinks").unwrap_or_else(|| root.clone());
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            diagnostics.push(unknown_name(&place, "sink", name, &names));
        }
    }
    let nowhere = SINKS.iter().find(|kind| changes.sends_nothing && kind.name() == "blackhole");
    let Some((nowhere, section)) = nowhere.zip(diagnostics.absorb(Section::parse(root.file(), "{}"))) else { return };
    if let Some(nowhere) = diagnostics.absorb(nowhere.read(&section)) {
        let nowhere: Arc<dyn Sink> = nowhere.into();
        for sink in sinks {
            (sink.sink, sink.kind) = (nowhere.clone(), "blackhole");
        }
    }
}

/// What sinks say of the journal has to fit it.
pub(super) fn check(root: &Section, journal: &JournalPlan, sinks: &mut [SinkPlan], diagnostics: &mut Diagnostics) {
    set_when_full(root, journal, sinks, diagnostics);
    check_backfill(root, journal, sinks, diagnostics);
}

/// Sinks that do not say what happens when the journal is full have what it says.
fn set_when_full(root: &Section, journal: &JournalPlan, sinks: &mut [SinkPlan], diagnostics: &mut Diagnostics) {
    for sink in sinks {
        let place = root.child("sinks").and_then(|sinks| sinks.child(&sink.name)?.child("when_journal_full"));
        match (journal, place) {
            (JournalPlan::Disk(disk), None) => sink.when_full = disk.full,
            (JournalPlan::Disk(_), Some(_)) | (JournalPlan::Memory, None) => {}
            (JournalPlan::Memory, Some(place)) => diagnostics.push(place.error("only a journal of `type: disk` becomes full")),
        }
    }
}

/// What is to be back-filled needs a past.
fn check_backfill(root: &Section, journal: &JournalPlan, sinks: &[SinkPlan], diagnostics: &mut Diagnostics) {
    for sink in sinks.iter().filter(|sink| sink.backfill_from.is_some()) {
        let Some(place) = root.child("sinks").and_then(|sinks| sinks.child(&sink.name)?.child("backfill_from")) else { continue };
        match journal {
            JournalPlan::Memory => {
                let help = "journal: { type: disk, retain: 24h }";
                diagnostics.push(place.error("a journal of `type: memory` has no past to begin in").help(help));
            }
            JournalPlan::Disk(_) if sink.kind == "file" => {
                let help = "stop Hydrant once and use `hydrant replay --sink`";
                diagnostics.push(place.error("a file cannot be back-filled while it is written").help(help));
            }
            JournalPlan::Disk(disk) if disk.retain.is_zero() => {
                let message = "without `journal: { retain }` the past is only what other destinations still lack";
                diagnostics.push(place.error(message).warning().help("journal: { retain: 24h }"));
            }
            JournalPlan::Disk(_) => {}
        }
    }
}
