//! What a configuration says of dead letters.

use serde::Deserialize;

use crate::config::{ByteSize, Section};
use crate::deliver::dead_letter::Limits;
use crate::error::Diagnostics;

/// Least and most bytes of a file: a small one is a name for each few letters, a large one is slow to take letters out of.
const FILE_BYTES: std::ops::RangeInclusive<usize> = 64 << 10..=1 << 30;

#[derive(Clone, Copy, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLettersConfig {
    /// Bytes that are kept of one destination; then it is held until `hydrant dlq` has replayed or purged some.
    max_size: Option<ByteSize>,
    /// Size at which a file is closed and another one begun.
    file_size: Option<ByteSize>,
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
}
