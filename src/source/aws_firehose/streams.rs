//! The delivery streams that the Direct PUT API knows: configured ones, and those that a client created. They are
//! shared by all shards and kept in memory; nothing but the answers depends on them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Streams that clients may create: AWS's highest quota for one account and region.
const CREATED_MAX: usize = 5_000;

/// Longest name, from the API reference.
pub(super) const NAME_BYTES_MAX: usize = 64;

/// Whether `name` is a stream name: `[a-zA-Z0-9_.-]{1,64}`.
pub(super) fn is_name(name: &str) -> bool {
    has_name_characters(name) && (1..=NAME_BYTES_MAX).contains(&name.len())
}

pub(super) fn has_name_characters(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Why a stream cannot be created or deleted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is there already.
    Exists,
    /// It is not there.
    Unknown,
    /// It stands in the configuration.
    Configured,
    /// There are too many.
    TooMany,
}

pub(super) struct Streams {
    /// `None`: every name is a stream.
    configured: Option<Vec<String>>,
    /// Name and time of creation in ms since 1970 UTC.
    created: Mutex<BTreeMap<String, i64>>,
}

impl Streams {
    pub(super) fn new(configured: Option<Vec<String>>) -> Self {
        Self { configured, created: Mutex::default() }
    }

    fn is_configured(&self, name: &str) -> bool {
        self.configured.iter().flatten().any(|own| own == name)
    }

    fn with_created<T>(&self, work: impl FnOnce(&mut BTreeMap<String, i64>) -> T) -> T {
        work(&mut self.created.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether records may be put into the stream.
    pub(super) fn is_known(&self, name: &str) -> bool {
        self.configured.is_none() || self.is_configured(name) || self.with_created(|created| created.contains_key(name))
    }

    /// When a client created it.
    pub(super) fn created_ms(&self, name: &str) -> Option<i64> {
        self.with_created(|created| created.get(name).copied())
    }

    pub(super) fn create(&self, name: &str, now_ms: i64) -> Result<(), Refusal> {
        if self.is_configured(name) {
            return Err(Refusal::Exists);
        }
        self.with_created(|created| match created.get(name) {
            Some(_) => Err(Refusal::Exists),
            None if created.len() >= CREATED_MAX => Err(Refusal::TooMany),
            None => {
                created.insert(name.to_owned(), now_ms);
                Ok(())
            }
        })
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), Refusal> {
        if self.is_configured(name) {
            return Err(Refusal::Configured);
        }
        self.with_created(|created| created.remove(name)).map(drop).ok_or(Refusal::Unknown)
    }

    /// Names behind `after` in alphabetical order, at most `limit`, and whether there are more.
    pub(super) fn list(&self, after: Option<&str>, limit: usize) -> (Vec<String>, bool) {
        let mut names: Vec<String> = self.with_created(|created| created.keys().cloned().collect());
        names.extend(self.configured.iter().flatten().cloned());
        names.retain(|name| after.is_none_or(|after| name.as_str() > after));
        names.sort_unstable();
        names.dedup();
        let has_more = names.len() > limit;
        names.truncate(limit);
        (names, has_more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_created_listed_in_pages_and_deleted() {
        let streams = Streams::new(Some(vec!["b".to_owned()]));
        assert!(streams.is_known("b") && !streams.is_known("a"));
        assert_eq!(
            [streams.create("a", 1), streams.create("a", 2), streams.create("b", 3)],
            [Ok(()), Err(Refusal::Exists), Err(Refusal::Exists)]
        );
        assert_eq!((streams.created_ms("a"), streams.created_ms("b")), (Some(1), None));
        assert_eq!(streams.list(None, 1), (vec!["a".to_owned()], true));
        assert_eq!(streams.list(Some("a"), 10), (vec!["b".to_owned()], false));
        assert_eq!(
            [streams.delete("a"), streams.delete("a"), streams.delete("b")],
            [Ok(()), Err(Refusal::Unknown), Err(Refusal::Configured)]
        );
        for index in 0..CREATED_MAX {
            streams.create(&format!("s{index}"), 0).unwrap();
        }
        assert_eq!(streams.create("one-more", 0), Err(Refusal::TooMany));
    }

    #[test]
    fn without_configured_names_every_name_is_a_stream() {
        assert!(Streams::new(None).is_known("anything"));
        assert!(!is_name("") && !is_name("a/b") && !is_name(&"x".repeat(65)) && is_name("aws-waf-logs-x.1_2"));
    }
}
