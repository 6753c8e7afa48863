//! What a configuration says of the journal.

use std::time::Duration;

use serde::Deserialize;

use crate::clock;
use crate::config::{ByteSize, Interval, Section};
use crate::error::Diagnostics;

/// Longest wait of a commit: a sender waits as long for its answer.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Least and most bytes of a segment: a small one costs a snapshot often, a large one keeps its space long.
const SEGMENT_BYTES: std::ops::RangeInclusive<usize> = 1 << 20..=1 << 30;

/// Segments of each shard that must fit below the cap: the one that is written, the one that comes next, and one that
/// waits for a destination.
const SEGMENTS_MIN: usize = 3;

#[derive(Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JournalConfig {
    /// `disk`: acknowledged when it is durable. `memory`: acknowledged on receipt, lost if the process dies.
    #[serde(default)]
    r#type: JournalType,
    /// How far apart commits are at least: what comes meanwhile shares one; `disk` only, like everything below.
    commit_interval: Option<Interval>,
    /// Bytes at which one does not wait.
    commit_size: Option<ByteSize>,
    /// Size of a file; its space is taken at once and given back as a whole.
    segment_size: Option<ByteSize>,
    /// Bytes that the journal may take on the disk.
    max_size: Option<ByteSize>,
    /// How long events are kept that every destination has, for `hydrant replay`; less where `max_size` needs the room.
    retain: Option<Interval>,
    /// What happens at `max_size`.
    full: Option<WhenFull>,
    /// Whether events are compressed on the disk: less to write for more CPU.
    compression: Option<JournalCompression>,
    /// Names of sinks and sources that are gone from the configuration: events that wait for them are given up.
    forget: Option<Vec<String>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum JournalType {
    #[default]
    Disk,
    Memory,
}

/// What happens when the journal is full and a destination has not taken something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Senders are held back until it has.
    #[default]
    Hold,
    /// The oldest events that wait for it are dropped, counted.
    DropOldest,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum JournalCompression {
    Lz4,
    None,
}

/// Which journal, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalPlan {
    /// Nothing is kept on a disk.
    Memory,
    /// In `data_dir/journal`.
    Disk(DiskPlan),
}

/// Settings of the journal on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlan {
    /// How far apart commits are.
    pub commit_interval: Duration,
    /// Bytes at which one does not wait.
    pub commit_bytes: usize,
    /// Size of a segment.
    pub segment_bytes: usize,
    /// Bytes that all segments may take.
    pub max_bytes: usize,
    /// How long events are kept that every destination has.
    pub retain: Duration,
    /// What happens at that, for destinations that do not say it themselves.
    pub full: WhenFull,
    /// Whether chunks are compressed.
    pub compress: bool,
    /// Names that are gone.
    pub forget: Vec<String>,
}

/// Where in the past a new destination begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum BackfillFrom {
    /// With the oldest that there is.
    Beginning,
    /// So long before the first start with it.
    Ago(Duration),
    /// At a time, ms since 1970 UTC.
    At(i64),
}

impl BackfillFrom {
    /// The time that is meant if the first start is at `now_ms`, ms since 1970 UTC.
    pub fn at_ms(self, now_ms: i64) -> i64 {
        match self {
            Self::Beginning => 0,
            Self::Ago(ago) => now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
            Self::At(at_ms) => at_ms,
        }
    }
}

impl TryFrom<String> for BackfillFrom {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "beginning" {
            return Ok(Self::Beginning);
        }
        let at = || clock::rfc3339_ms(text.as_bytes()).map(Self::At);
        let message = || {
            format!("`{text}` is no beginning; expected `beginning`, a time span such as `6h`, or a time such as `2026-11-22T06:00:00Z`")
        };
        text.parse::<Interval>().ok().map(|ago| Self::Ago(ago.0)).or_else(at).ok_or_else(message)
    }
}

impl JournalConfig {
    /// What holds; `root` is the whole configuration, for messages.
    pub(super) fn plan(self, root: &Section, shards: usize, diagnostics: &mut Diagnostics) -> JournalPlan {
        let place = |key: &str| {
            let section = root.child("journal").unwrap_or_else(|| root.clone());
            section.child(key).unwrap_or(section)
        };
        if self.r#type == JournalType::Memory {
            let keys = ["commit_interval", "commit_size", "segment_size", "max_size", "retain", "full", "compression", "forget"];
            for key in keys.into_iter().filter(|key| root.child("journal").is_some_and(|section| section.child(key).is_some())) {
                diagnostics.push(place(key).error("only a journal of `type: disk` has this"));
            }
            return JournalPlan::Memory;
        }
        let commit_interval = self.commit_interval.map_or(Duration::from_millis(5), |interval| interval.0);
        if commit_interval > COMMIT_INTERVAL_MAX {
            diagnostics.push(place("commit_interval").error(format!("the longest interval is {} s", COMMIT_INTERVAL_MAX.as_secs())));
        }
        let segment_bytes = self.segment_size.map_or(128 << 20, |size| size.0);
        if !SEGMENT_BYTES.contains(&segment_bytes) {
            let (least, most) = (ByteSize(*SEGMENT_BYTES.start()), ByteSize(*SEGMENT_BYTES.end()));
            diagnostics.push(place("segment_size").error(format!("a segment has {least} to {most}")));
        }
        let least = segment_bytes.saturating_mul(shards).saturating_mul(SEGMENTS_MIN);
        let max_bytes = self.max_size.map_or_else(|| least.max(10_000_000_000), |size| size.0);
        if max_bytes < least {
            let message = format!("{shards} shards with segments of {} need {}", ByteSize(segment_bytes), ByteSize(least));
            diagnostics.push(place("max_size").error(message));
        }
        JournalPlan::Disk(DiskPlan {
            commit_interval,
            commit_bytes: self.commit_size.map_or(1_000_000, |size| size.0).max(1),
            segment_bytes,
            max_bytes,
            retain: self.retain.map_or(Duration::ZERO, |interval| interval.0),
            full: self.full.unwrap_or_default(),
            compress: self.compression == Some(JournalCompression::Lz4),
            forget: self.forget.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn plan(text: &str) -> Result<JournalPlan, String> {
        let root = Section::parse(Path::new("t.yaml"), &format!("journal: {text}")).unwrap();
        let mut diagnostics = Diagnostics::new();
        let config = diagnostics.absorb(root.child("journal").unwrap().read::<JournalConfig>());
        let plan = config.map(|config| config.plan(&root, 2, &mut diagnostics));
        diagnostics.into_result(()).map_err(|diagnostics| diagnostics.to_string())?;
        Ok(plan.unwrap())
    }

    #[test]
    fn a_disk_journal_has_defaults_and_limits() {
        let JournalPlan::Disk(disk) = plan("{ type: disk, commit_interval: 2ms, compression: lz4, forget: [a] }").unwrap() else {
            panic!()
        };
        assert_eq!((disk.commit_interval, disk.commit_bytes), (Duration::from_millis(2), 1_000_000));
        assert_eq!(
            (disk.segment_bytes, disk.max_bytes, disk.compress, disk.forget),
            (128 << 20, 10_000_000_000, true, vec!["a".to_owned()])
        );
        let mistakes = plan("{ type: disk, commit_interval: 2s, segment_size: 100KB, max_size: 100KB, full: drop }").unwrap_err();
        assert!(mistakes.contains("journal.full"), "{mistakes}");
        let mistakes = plan("{ type: disk, commit_interval: 2s, segment_size: 100KB, max_size: 100KB }").unwrap_err();
        for part in [
            "journal.commit_interval: the longest interval is 1 s",
            "journal.segment_size: a segment has 1.0MiB to 1.0GiB",
            "journal.max_size: 2 shards with segments of 97.7KiB need 585.9KiB",
        ] {
            assert!(mistakes.contains(part), "{part}\n{mistakes}");
        }
    }

    #[test]
    fn a_memory_journal_has_no_disk_settings() {
        assert_eq!(plan("{ type: memory }"), Ok(JournalPlan::Memory));
        let mistakes = plan("{ type: memory, max_size: 1GB }").unwrap_err();
        assert!(mistakes.contains("journal.max_size: only a journal of `type: disk` has this"), "{mistakes}");
        assert!(plan("{ type: dusk }").is_err());
    }
}
