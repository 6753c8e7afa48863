//! What was done lately, by id: a map that forgets its oldest entries.

use std::collections::{HashMap, VecDeque};

use aws_lc_rs::digest;

use super::notification::Announced;

/// Entries; 48 bytes each. A message of SQS is repeated within seconds, so that this covers hours of most queues.
const ENTRIES_MAX: usize = 100_000;

/// What an object is known by. Others choose keys, so that ids must not collide on purpose: half of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id([u8; 16]);

impl Id {
    /// One announcement of an object: the same in a repeated message.
    pub(super) fn of_event(object: &Announced) -> Self {
        Self::of(&[&object.bucket, &object.key, known(&object.version), known(&object.etag), known(&object.sequencer)])
    }

    /// One content of an object, however it is known of.
    pub(super) fn of_content(object: &Announced) -> Self {
        Self::of(&[&object.bucket, &object.key, known(&object.etag)])
    }

    fn of(parts: &[&str]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut id = [0; 16];
        id.iter_mut().zip(context.finish().as_ref()).for_each(|(own, byte)| *own = *byte);
        Self(id)
    }
}

fn known(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// The map.
#[derive(Debug)]
pub(super) struct Recent<V> {
    entries: HashMap<Id, V>,
    /// In the order in which they came; an id that was removed stays until its turn.
    order: VecDeque<Id>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<V> Recent<V> {
    pub(super) fn put(&mut self, id: Id, value: V) {
        if self.entries.insert(id, value).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > ENTRIES_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }

    pub(super) fn value(&self, id: &Id) -> Option<&V> {
        self.entries.get(id)
    }

    pub(super) fn has(&self, id: &Id) -> bool {
        self.entries.contains_key(id)
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<V> {
        self.entries.remove(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Id {
        Id::of(&[&number.to_string()])
    }

    #[test]
    fn the_oldest_is_forgotten_first_and_the_size_is_bounded() {
        let mut recent = Recent::default();
        for number in 0..ENTRIES_MAX + 10 {
            recent.put(id(number), number);
        }
        assert!(!recent.has(&id(9)) && recent.value(&id(10)) == Some(&10));
        assert_eq!((recent.entries.len(), recent.order.len()), (ENTRIES_MAX, ENTRIES_MAX));
        for _ in 0..3 {
            recent.remove(&id(50));
            recent.put(id(50), 1);
        }
        assert!(recent.order.len() <= ENTRIES_MAX && recent.has(&id(50)));
    }

    #[test]
    fn parts_of_an_id_do_not_run_together() {
        assert_ne!(Id::of(&["ab", "c", ""]), Id::of(&["a", "bc", ""]));
        let object = Announced { bucket: "b".into(), key: "k".into(), sequencer: Some("1".into()), ..Announced::default() };
        assert_eq!(Id::of_event(&object), Id::of_event(&object.clone()));
        let again = Announced { sequencer: Some("2".into()), ..object.clone() };
        assert_ne!(Id::of_event(&object), Id::of_event(&again));
        assert_eq!(Id::of_content(&object), Id::of_content(&again));
        assert_ne!(Id::of_event(&object), Id::of_event(&Announced { etag: Some("1".into()), sequencer: None, ..object }));
    }
}
