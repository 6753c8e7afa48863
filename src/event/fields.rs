//! Which slot holds which field, decided once per decoder when the plan is compiled.

use std::collections::HashMap;

use crate::limits::SLOTS_MAX;

/// Index of a slot in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(u16);

impl SlotId {
    /// The index.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The fields that a plan wants of one decoder: names to slots.
///
/// A name is `source.ip` (canonical, ECS), `%native.src` (the decoder's own) or `%hydrant.source` (ours).
/// Several names may share a slot.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    slots: HashMap<String, SlotId>,
    names: Vec<String>,
}

impl Fields {
    /// The slot of `name`, made if it is new. The plan refuses rows wider than [`SLOTS_MAX`].
    pub fn slot(&mut self, name: &str) -> SlotId {
        if let Some(slot) = self.slots.get(name) {
            return *slot;
        }
        let slot = SlotId(self.names.len().min(SLOTS_MAX) as u16);
        self.slots.insert(name.to_owned(), slot);
        self.names.push(name.to_owned());
        slot
    }

    /// The slot of `name` if anybody wants it.
    pub fn find(&self, name: &str) -> Option<SlotId> {
        self.slots.get(name).copied()
    }

    /// The name that a slot was made for.
    pub fn name(&self, slot: SlotId) -> &str {
        self.names.get(slot.index()).map_or("", String::as_str)
    }

    /// Lets `name` read the same slot as another name. The first meaning of a name stays.
    pub fn alias(&mut self, name: &str, slot: SlotId) {
        self.slots.entry(name.to_owned()).or_insert(slot);
    }

    /// Every slot with the name it was made for.
    pub fn iter(&self) -> impl Iterator<Item = (SlotId, &str)> {
        self.names.iter().enumerate().map(|(index, name)| (SlotId(index as u16), name.as_str()))
    }

    /// Number of slots of a row.
    pub fn width(&self) -> usize {
        self.names.len()
    }
}
