//! What a configuration says of dead letters.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::config::{ByteSize, Section};
use crate::deliver::dead_letter::Limits;
use crate::error::Diagnostics;
use crate::sink::{SINKS, Sink, SinkKind};

/// Least and most bytes of a file: a small one is a name for each few letters, a large one is slow to take letters out of.
const FILE_BYTES: std::ops::RangeInclusive<usize> = 64 << 10..=1 << 30;

/// Keys of the sink that are about rows of events: letters are shipped as they are on the disk.
pub(in crate::pipeline) const NOT_OF_LETTERS: [&str; 5] = ["prefix", "format", "form", "alert_form", "keep_raw"];

/// The sink that ships dead letters, if this build has it.
pub(in crate::pipeline) fn bucket() -> Option<&'static dyn SinkKind> {
    SINKS.iter().find(|kind| kind.name() == "aws_s3").copied()
}

#[derive(Clone, Copy, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLettersConfig {
    /// Bytes that are kept of one destination; then it is held until `hydrant dlq` has replayed or purged some.
    max_size: Option<ByteSize>,
    /// Size at which a file is closed and another one begun.
    file_size: Option<ByteSize>,
    // Read on its own; it is here to be known as a key.
    #[serde(default, rename = "s3")]
    #[schemars(skip)]
    _s3: IgnoredAny,
}

/// Where dead letters are shipped to.
pub(super) fn shipped_to(root: &Section, diagnostics: &mut Diagnostics) -> Option<Arc<dyn Sink>> {
    let section = root.child("dead_letters")?.child("s3")?;
    let Some(kind) = bucket() else {
        let help = "take `s3` out, and dead letters stay on the disk; or build with `--features aws`";
        diagnostics.push(section.error("this program is built without S3").help(help));
        return None;
    };
    let example = "error_prefix: \"dead-letters/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/\"";
    for key in NOT_OF_LETTERS {
        let place = section.child(key);
        diagnostics.0.extend(place.map(|place| place.error("dead letters are shipped as they are on the disk").help(example)));
    }
    if section.child("error_prefix").is_none() {
        diagnostics.push(section.error("`error_prefix` is missing").help(example));
    }
    diagnostics.absorb(kind.read(&section.without(&NOT_OF_LETTERS))).map(Arc::from)
}

impl DeadLettersConfig {
    /// What holds; `root` is the whole configuration, for messages.
    pub(super) fn limits(self, root: &Section, diagnostics: &mut Diagnostics) -> Limits {
        let place = |key: &str| root.child("dead_letters").and_then(|section| section.child(key)).unwrap_or_else(|| root.clone());
        let max_bytes = self.max_size.map_or(1 << 30, |size| size.0);
        let file_bytes = self.file_size.map_or_else(|| (64 << 20).min(max_bytes), |size| size.0);
        if !FILE_BYTES.contains(&file_bytes) {
            let (least, most) = (ByteSize(*FILE_BYTES.start()), ByteSize(*FILE_BYTES.end()));
            diagnostics.push(
                place(if self.file_size.is_some() { "file_size" } else { "max_size" }).error(format!("a file has {least} to {most}")),
            );
        }
        if max_bytes < file_bytes {
            diagnostics.push(place("max_size").error(format!("a file of {} does not fit", ByteSize(file_bytes))));
        }
        Limits { file_bytes: file_bytes as u64, max_bytes: max_bytes as u64 }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn limits(text: &str) -> Result<(u64, u64), String> {
        let root = Section::parse(Path::new("t.yaml"), &format!("dead_letters: {text}")).unwrap();
        let mut diagnostics = Diagnostics::new();
        let config = diagnostics.absorb(root.child("dead_letters").unwrap().read::<DeadLettersConfig>());
        let limits = config.map(|config| config.limits(&root, &mut diagnostics));
        diagnostics.into_result(()).map_err(|diagnostics| diagnostics.to_string())?;
        Ok(limits.map(|limits| (limits.file_bytes, limits.max_bytes)).unwrap())
    }

    #[test]
    fn dead_letters_have_defaults_and_limits() {
        assert_eq!(limits("{}"), Ok((64 << 20, 1 << 30)));
        assert_eq!(limits("{ max_size: 1MiB }"), Ok((1 << 20, 1 << 20)));
        assert_eq!(limits("{ max_size: 1GiB, file_size: 1MiB }"), Ok((1 << 20, 1 << 30)));
        for (text, part) in [
            ("{ max_size: 1KiB }", "dead_letters.max_size: a file has 64.0KiB to 1.0GiB"),
            ("{ max_size: 1MiB, file_size: 2MiB }", "dead_letters.max_size: a file of 2.0MiB does not fit"),
            ("{ file_size: 2GiB }", "dead_letters.file_size: a file has"),
            ("{ maxsize: 1MiB }", "did you mean `max_size`?"),
        ] {
            let mistakes = limits(text).unwrap_err();
            assert!(mistakes.contains(part), "{part}\n{mistakes}");
        }
    }

    fn shipped(text: &str) -> Result<Option<(usize, u64)>, String> {
        let text = format!("{{ s3: {text} }}");
        limits(&text)?;
        let root = Section::parse(Path::new("t.yaml"), &format!("dead_letters: {text}")).unwrap();
        let mut diagnostics = Diagnostics::new();
        let sink = shipped_to(&root, &mut diagnostics);
        diagnostics.into_result(()).map_err(|diagnostics| diagnostics.to_string())?;
        Ok(sink.map(|sink| (sink.batching().bytes_max, sink.batching().interval.as_secs())))
    }

    #[cfg(feature = "aws")]
    #[test]
    fn a_bucket_has_the_settings_of_the_sink_but_for_those_of_rows() {
        assert_eq!(shipped("{ bucket: b, region: r, error_prefix: 'dead/' }"), Ok(Some((5 << 20, 300))));
        let buffer = "{ bucket: b, region: r, error_prefix: 'd/!{firehose:error-output-type}/', buffer: { size_mb: 1, interval: 60s } }";
        assert_eq!(shipped(buffer), Ok(Some((1 << 20, 60))));
        for (text, part) in [
            ("{ bucket: b }", "dead_letters.s3: `error_prefix` is missing"),
            ("{ bucket: b, error_prefix: 'd/', prefix: 'd/' }", "dead_letters.s3.prefix: dead letters are shipped as they are"),
            ("{ bucket: b, error_prefix: '!{timestamp:yyyy}/' }", "must tell the kind of error"),
            ("{ error_prefix: 'd/' }", "dead_letters.s3: the key `bucket` is missing"),
            ("{ bucket: b, error_prefix: 'd/', bukket: b }", "did you mean `bucket`?"),
            ("{ bucket: b, error_prefix: 'd/', buffer: { interval: 1h } }", "the longest interval is 900 s"),
        ] {
            let mistakes = shipped(text).unwrap_err();
            assert!(mistakes.contains(part), "{part}\n{mistakes}");
        }
    }

    #[cfg(not(feature = "aws"))]
    #[test]
    fn a_build_without_s3_says_so() {
        let mistakes = shipped("{ bucket: b, error_prefix: 'd/' }").unwrap_err();
        assert!(mistakes.contains("dead_letters.s3: this program is built without S3"), "{mistakes}");
    }
}
