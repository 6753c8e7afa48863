//! Whole values: equality with literals by one hash probe per case rule, presence, null.

use std::collections::HashMap;

use crate::event::{Event, SlotId, Value};
use crate::matcher::Type;
use crate::matcher::atom::{AtomId, Leaf};
use crate::matcher::lists::Lists;
use crate::matcher::member::{Scalar, any_scalar, is_of_type};
use crate::matcher::pass::texts::Texts;
use crate::matcher::pass::{Facts, LeafAtoms};
use crate::matcher::text::FOLD_SHRINK_MAX;

/// A character has at most so many times its bytes when it is escaped: `\u0041`.
const ESCAPE_GROWTH_MAX: usize = 6;

/// Equality, presence and null of one slot.
#[derive(Debug, Default)]
pub(in crate::matcher) struct Exact {
    uncased: Table,
    cased: Table,
    exists: Vec<AtomId>,
    null: Vec<AtomId>,
    types: Vec<(Type, Vec<AtomId>)>,
    ends: Ends,
}

/// The first and last bytes of literals, folded: most values that equal none need not be folded and hashed to see it.
#[derive(Debug, Default)]
struct Ends {
    seen: [u64; 4],
}

impl Ends {
    fn insert(&mut self, literal: &[u8]) {
        if let Some(pair) = Self::pair(literal) {
            self.seen[pair / 64] |= 1 << (pair % 64);
        }
    }

    /// Whether a literal begins and ends like this text, not necessarily the same one. Where a character of other scripts
    /// stands, which may fold to a letter of ASCII, and for the empty text it is true.
    fn may_have(&self, text: &[u8]) -> bool {
        Self::pair(text).is_none_or(|pair| self.seen[pair / 64] >> (pair % 64) & 1 == 1)
    }

    fn pair(text: &[u8]) -> Option<usize> {
        let (first, last) = (*text.first()?, *text.last()?);
        let mixed = first.to_ascii_lowercase().wrapping_mul(5).wrapping_add(last.to_ascii_lowercase());
        (first | last).is_ascii().then_some(usize::from(mixed))
    }
}

/// Literals to lists of atoms.
#[derive(Debug, Default)]
struct Table {
    lists: HashMap<Box<[u8]>, u32, foldhash::fast::RandomState>,
    atoms: Lists,
    /// Longest literal, in bytes.
    len_max: usize,
    /// The list made last: the members of a long list share theirs.
    last: Vec<AtomId>,
}

impl Table {
    fn insert(&mut self, text: &[u8], atoms: &[AtomId]) {
        if self.lists.is_empty() || self.last != atoms {
            self.atoms.push(atoms);
            self.last = atoms.to_vec();
        }
        self.len_max = self.len_max.max(text.len());
        let list = self.atoms.len() as u32 - 1;
        self.lists.insert(text.into(), list);
    }

    fn find(&self, text: &[u8], facts: &mut Facts) {
        if text.len() <= self.len_max
            && !self.lists.is_empty()
            && let Some(list) = self.lists.get(text)
        {
            facts.set_all(self.atoms.list(*list));
        }
    }

    fn memory_bytes(&self) -> usize {
        let keys = self.lists.keys().map(|key| key.len()).sum::<usize>();
        keys + self.lists.capacity() * (size_of::<(Box<[u8]>, u32)>() + 1) + self.atoms.memory_bytes()
    }
}

impl Exact {
    pub(super) fn new(leaves: &[LeafAtoms<'_>]) -> Self {
        let mut exact = Self::default();
        for (leaf, atoms) in leaves {
            if let Leaf::Text { text, .. } = leaf {
                exact.ends.insert(text);
            }
            match leaf {
                Leaf::Text { text, cased: true, .. } => exact.cased.insert(text, atoms),
                Leaf::Text { text, cased: false, .. } => exact.uncased.insert(text, atoms),
                Leaf::Exists => exact.exists.extend_from_slice(atoms),
                Leaf::Null => exact.null.extend_from_slice(atoms),
                Leaf::Type(kind) => exact.types.push((*kind, atoms.to_vec())),
                Leaf::Number { .. } | Leaf::Network(_) => {}
            }
        }
        exact
    }

    pub(super) fn run(&self, event: Event<'_>, slot: SlotId, texts: &mut Texts, facts: &mut Facts) {
        let value = event.value(slot);
        for (kind, atoms) in &self.types {
            if is_of_type(value, *kind) {
                facts.set_all(atoms);
            }
        }
        match value {
            Value::Missing => return facts.set_all(&self.null),
            Value::Null => facts.set_all(&self.null),
            Value::Array(_) if !self.null.is_empty() => self.find_null(value, facts),
            _ => {}
        }
        facts.set_all(&self.exists);
        if self.may_equal(value) {
            texts.any(event, slot, &mut |text, folded| {
                self.cased.find(text, facts);
                self.uncased.find(folded, facts);
                false
            });
        }
    }

    /// A list with a null in it is null as well.
    fn find_null(&self, value: Value<'_>, facts: &mut Facts) {
        if any_scalar(value, &mut Vec::new(), &mut |scalar| scalar == Scalar::Null) {
            facts.set_all(&self.null);
        }
    }

    /// Whether the value is short enough to equal any literal, and begins and ends like one.
    fn may_equal(&self, value: Value<'_>) -> bool {
        let len_max = self.cased.len_max.max(FOLD_SHRINK_MAX * self.uncased.len_max);
        match value {
            Value::Number(text) | Value::Text(text) => text.len() <= len_max && self.ends.may_have(text),
            Value::Escaped(text) => text.len() <= len_max * ESCAPE_GROWTH_MAX,
            _ => true,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let always = (self.exists.len() + self.null.len()) * size_of::<AtomId>();
        size_of::<Self>() + self.uncased.memory_bytes() + self.cased.memory_bytes() + always
    }
}
