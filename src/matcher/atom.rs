//! Atoms: what is decided at most once per event.
//!
//! A *leaf* is one indexable predicate of one slot. An *atom* is an OR-set of leaves of one *pass*: so a list
//! of 100,000 addresses is one bit of an event, one entry in its rule's program, and 100,000 keys of a map. A
//! pass is what is evaluated together: the exact map of a slot, its automaton, its numbers, its networks, or
//! a single predicate too slow to be asked unless a program needs the answer.

use std::collections::HashMap;
use std::hash::Hash;

use ipnet::IpNet;

use crate::event::SlotId;
use crate::matcher::number::NumberKey;
use crate::matcher::text::folded;
use crate::matcher::{Number, Order, Predicate, TextOp, Type};

/// Index of an atom.
pub(super) type AtomId = u32;

/// Index of a pass.
pub(super) type PassId = u32;

/// What a predicate is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Target {
    /// A field.
    Slot(SlotId),
    /// The raw event and every value in it.
    Event,
}

/// Which pass decides an atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum PassKey {
    /// Whole values, presence and null of a slot.
    Exact(SlotId),
    /// Literals inside values.
    Scan(Target),
    /// Numeric comparisons of a slot.
    Number(SlotId),
    /// Networks of a slot.
    Network(SlotId),
    /// One slow predicate, by its index.
    Slow(usize),
}

impl PassKey {
    /// The slot that it looks at; none if it looks at the whole event, or one cannot tell.
    pub(super) fn slot(self) -> Option<SlotId> {
        match self {
            Self::Exact(slot) | Self::Scan(Target::Slot(slot)) | Self::Number(slot) | Self::Network(slot) => Some(slot),
            Self::Scan(Target::Event) | Self::Slow(_) => None,
        }
    }
}

/// An indexable predicate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaf {
    /// Text comparison; the text is folded unless it is cased.
    Text {
        /// How.
        op: TextOp,
        /// With what.
        text: Box<[u8]>,
        /// Whether upper and lower case differ.
        cased: bool,
    },
    /// Numeric comparison.
    Number {
        /// How.
        op: Order,
        /// With what.
        number: NumberKey,
    },
    /// Inside a network, whose host bits are cleared.
    Network(IpNet),
    /// The field is there.
    Exists,
    /// The field is missing or null.
    Null,
    /// The field itself is of a type.
    Type(Type),
}

impl Leaf {
    /// Whether a missing field makes it hold. No pass runs for what is missing, so no gate may wait for it.
    pub(super) fn holds_for_nothing(&self) -> bool {
        matches!(self, Self::Null | Self::Type(Type::Null))
    }
}

/// A predicate that is evaluated alone, and only if a program asks.
#[derive(Clone, Debug)]
pub(super) enum Slow {
    /// Of a slot or the event.
    Ask(Target, Predicate),
    /// Two fields.
    Fields {
        /// The left field.
        left: SlotId,
        /// How.
        op: TextOp,
        /// The right field.
        right: SlotId,
        /// Whether upper and lower case differ.
        cased: bool,
    },
}

/// An atom: it holds if one of its leaves does. Slow passes have one atom without leaves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Atom {
    /// The pass that decides it.
    pub(super) pass: PassId,
    /// Its leaves, sorted.
    pub(super) leaves: Box<[u32]>,
}

/// Everything that programs ask, each distinct thing once.
#[derive(Debug, Default)]
pub(super) struct Atoms {
    passes: Interner<PassKey>,
    leaves: Interner<(PassId, Leaf)>,
    atoms: Interner<Atom>,
    slow: Vec<Slow>,
    slow_names: HashMap<String, usize>,
}

impl Atoms {
    /// The pass and the leaf of a predicate, or nothing if it is slow.
    pub(super) fn leaf(&mut self, target: Target, predicate: &Predicate) -> Option<(PassId, u32)> {
        let (pass, leaf) = match (target, predicate) {
            (_, Predicate::Text { op, text, cased }) => {
                let text = if *cased { text.as_bytes().to_vec() } else { folded(text.as_bytes()) };
                let pass = match (target, op) {
                    (Target::Slot(slot), TextOp::Equals) => PassKey::Exact(slot),
                    _ => PassKey::Scan(target),
                };
                (pass, Leaf::Text { op: *op, text: text.into(), cased: *cased })
            }
            (Target::Slot(slot), Predicate::Boolean(boolean)) => {
                let text = if *boolean { &b"true"[..] } else { b"false" };
                (PassKey::Exact(slot), Leaf::Text { op: TextOp::Equals, text: text.into(), cased: false })
            }
            (Target::Slot(slot), Predicate::Number { op, number }) => {
                (PassKey::Number(slot), Leaf::Number { op: *op, number: key(*number) })
            }
            (Target::Slot(slot), Predicate::Cidr(network)) => (PassKey::Network(slot), Leaf::Network(network.trunc())),
            (Target::Slot(slot), Predicate::Exists) => (PassKey::Exact(slot), Leaf::Exists),
            (Target::Slot(slot), Predicate::Null) => (PassKey::Exact(slot), Leaf::Null),
            (Target::Slot(slot), Predicate::Type(kind)) => (PassKey::Exact(slot), Leaf::Type(*kind)),
            _ => return None,
        };
        let pass = self.passes.id(pass);
        Some((pass, self.leaves.id((pass, leaf))))
    }

    /// The atom of an OR-set of leaves of one pass.
    pub(super) fn atom(&mut self, pass: PassId, mut leaves: Vec<u32>) -> AtomId {
        leaves.sort_unstable();
        leaves.dedup();
        self.atoms.id(Atom { pass, leaves: leaves.into() })
    }

    /// The atom of a slow predicate.
    pub(super) fn slow_atom(&mut self, slow: Slow) -> AtomId {
        // The debug form says all of a predicate, and a regex, a float and a network have no common key.
        let name = format!("{slow:?}");
        let index = *self.slow_names.entry(name).or_insert(self.slow.len());
        if index == self.slow.len() {
            self.slow.push(slow);
        }
        let pass = self.passes.id(PassKey::Slow(index));
        self.atom(pass, Vec::new())
    }

    /// Takes the atoms that no gate waits for out of the scans that run for every event, each into a scan of its own: those
    /// are the literals that are short and common, and of hundreds of a field an event makes programs ask for a few.
    pub(super) fn split_scans(&mut self, is_gate: &[bool]) {
        for (atom, _) in self.atoms.list.iter_mut().zip(is_gate).filter(|(_, is_gate)| !**is_gate) {
            let key = self.passes.list[atom.pass as usize];
            if matches!(key, PassKey::Scan(_)) {
                self.passes.list.push(key);
                atom.pass = self.passes.list.len() as u32 - 1;
            }
        }
    }

    /// The atoms, by id.
    pub(super) fn atoms(&self) -> &[Atom] {
        &self.atoms.list
    }

    /// The passes, by id.
    pub(super) fn passes(&self) -> &[PassKey] {
        &self.passes.list
    }

    /// The slot whose value decides a pass; none if it looks at more than one.
    pub(super) fn slot_of(&self, pass: PassId) -> Option<SlotId> {
        match self.passes.list[pass as usize] {
            PassKey::Slow(index) => match self.slow[index] {
                Slow::Ask(Target::Slot(slot), _) => Some(slot),
                Slow::Ask(Target::Event, _) | Slow::Fields { .. } => None,
            },
            key => key.slot(),
        }
    }

    /// A leaf with its pass.
    pub(super) fn leaf_of(&self, leaf: u32) -> (PassId, &Leaf) {
        let (pass, leaf) = &self.leaves.list[leaf as usize];
        (*pass, leaf)
    }

    /// The leaves with the passes that they were made for, by id.
    pub(super) fn leaves(&self) -> &[(PassId, Leaf)] {
        &self.leaves.list
    }

    /// A slow predicate.
    pub(super) fn slow(&self, index: usize) -> &Slow {
        &self.slow[index]
    }
}

fn key(number: Number) -> NumberKey {
    NumberKey::new(number)
}

#[derive(Debug)]
struct Interner<T> {
    ids: HashMap<T, u32, foldhash::fast::RandomState>,
    list: Vec<T>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { ids: HashMap::default(), list: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    fn id(&mut self, item: T) -> u32 {
        if let Some(id) = self.ids.get(&item) {
            return *id;
        }
        let id = self.list.len() as u32;
        self.list.push(item.clone());
        self.ids.insert(item, id);
        id
    }
}
