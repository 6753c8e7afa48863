//! What was seen of senders, for those who judge how they are.

use std::collections::HashMap;

use super::SenderName;

/// Of all sources.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    /// By source.
    pub sources: Vec<(String, HashMap<SenderName, Sighting>)>,
    /// Whether some shard holds senders back: what does not come now is not their doing.
    pub is_held_back: bool,
}

/// Of a sender, since the process was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Events that were journaled.
    pub received: u64,
    /// Events that were no decoder's format at all.
    pub unreadable: u64,
    /// When the last sampled event came, and how much later than that its own time is: ms.
    pub skew: Option<(i64, i64)>,
}
