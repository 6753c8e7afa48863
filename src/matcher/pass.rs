//! Passes: what decides atoms.
//!
//! In: an event. Out: the atoms of the pass that hold, in [`Facts`]. A pass runs at most once per event.

mod exact;
mod grams;
mod memo;
mod networks;
mod numbers;
mod packed;
mod question;
mod scan;
mod texts;

use crate::event::{Event, SlotId};
use crate::matcher::atom::{AtomId, Atoms, Leaf, PassId, PassKey, Target};
use crate::matcher::member::any_scalar;
use crate::matcher::pass::exact::Exact;
pub(super) use crate::matcher::pass::memo::Memo;
use crate::matcher::pass::networks::Networks;
use crate::matcher::pass::numbers::Numbers;
use crate::matcher::pass::question::Question;
use crate::matcher::pass::scan::Scan;
use crate::matcher::pass::texts::Texts;
use crate::matcher::text::fold_into;

/// A leaf and the atoms that it makes true.
pub(super) type LeafAtoms<'a> = (&'a Leaf, &'a [AtomId]);

/// What is known of the current event. Stamped with its number, so that nothing is cleared between events.
#[derive(Debug)]
pub(super) struct Facts {
    stamp: u32,
    truth: Vec<u32>,
    touched: Vec<AtomId>,
}

impl Facts {
    pub(super) fn new(atoms: usize) -> Self {
        Self { stamp: 0, truth: vec![0; atoms], touched: Vec::with_capacity(atoms) }
    }

    /// Forgets the last event. `stamp` must not have been used since the last `clear`.
    pub(super) fn begin(&mut self, stamp: u32) {
        self.stamp = stamp;
        self.touched.clear();
    }

    /// Forgets all stamps.
    pub(super) fn clear(&mut self) {
        self.truth.fill(0);
    }

    /// Says that an atom holds.
    pub(super) fn set(&mut self, atom: AtomId) {
        let truth = &mut self.truth[atom as usize];
        if *truth != self.stamp {
            *truth = self.stamp;
            self.touched.push(atom);
        }
    }

    /// Says that atoms hold.
    pub(super) fn set_all(&mut self, atoms: &[AtomId]) {
        atoms.iter().for_each(|atom| self.set(*atom));
    }

    /// Whether an atom is known to hold.
    pub(super) fn holds(&self, atom: AtomId) -> bool {
        self.truth[atom as usize] == self.stamp
    }

    /// The atoms that hold, in the order in which they were found.
    pub(super) fn touched(&self) -> &[AtomId] {
        &self.touched
    }
}

/// Buffers that grow to the longest value and stay.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    texts: Texts,
    unescaped: Vec<u8>,
    folded: Vec<u8>,
    other_unescaped: Vec<u8>,
    other_folded: Vec<u8>,
}

impl Buffers {
    /// Forgets the texts of the last event. `stamp` must not have been used since the last `clear`.
    pub(super) fn begin(&mut self, stamp: u32) {
        self.texts.begin(stamp);
    }

    /// Forgets all stamps.
    pub(super) fn clear(&mut self) {
        self.texts.clear();
    }
}

/// One pass.
#[derive(Debug)]
pub(super) enum Pass {
    /// Whole values of a slot.
    Exact(SlotId, Box<Exact>),
    /// Literals inside the values of a slot.
    Scan(SlotId, Scan),
    /// Literals inside the raw event and all values.
    ScanEvent(Scan),
    /// Numbers of a slot.
    Number(SlotId, Numbers),
    /// Networks of a slot.
    Network(SlotId, Networks),
    /// One slow predicate.
    Slow(AtomId, Question),
}

impl Pass {
    /// The pass `key`, which has the id `id`, with its leaves.
    pub(super) fn new(id: PassId, key: PassKey, leaves: &[LeafAtoms<'_>], atoms: &Atoms) -> Self {
        match key {
            PassKey::Exact(slot) => Self::Exact(slot, Box::new(Exact::new(leaves))),
            PassKey::Scan(target @ Target::Slot(slot)) => Self::Scan(slot, Scan::new(target, leaves)),
            PassKey::Scan(target @ Target::Event) => Self::ScanEvent(Scan::new(target, leaves)),
            PassKey::Number(slot) => Self::Number(slot, Numbers::new(leaves)),
            PassKey::Network(slot) => Self::Network(slot, Networks::new(leaves)),
            PassKey::Slow(slow) => {
                let atom = atoms.atoms().iter().position(|atom| atom.pass == id).unwrap_or_default();
                Self::Slow(atom as AtomId, Question::new(atoms.slow(slow)))
            }
        }
    }

    /// Decides its atoms.
    pub(super) fn run(&self, event: Event<'_>, buffers: &mut Buffers, facts: &mut Facts) {
        let Buffers { texts, unescaped, .. } = buffers;
        match self {
            Self::Exact(slot, exact) => exact.run(event, *slot, texts, facts),
            Self::Scan(slot, scan) => {
                texts.any(event, *slot, &mut |text, folded| {
                    scan.run(text, folded, facts);
                    false
                });
            }
            Self::ScanEvent(scan) => scan_event(scan, event, buffers, facts),
            Self::Number(slot, numbers) => {
                any_scalar(event.value(*slot), unescaped, &mut |scalar| {
                    numbers.run(scalar, facts);
                    false
                });
            }
            Self::Network(slot, networks) => {
                any_scalar(event.value(*slot), unescaped, &mut |scalar| {
                    networks.run(scalar, facts);
                    false
                });
            }
            Self::Slow(atom, question) => {
                if question.holds(event, buffers) {
                    facts.set(*atom);
                }
            }
        }
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Self::Exact(_, exact) => exact.memory_bytes(),
            Self::Scan(_, scan) | Self::ScanEvent(scan) => scan.memory_bytes(),
            Self::Number(_, numbers) => numbers.memory_bytes(),
            Self::Network(_, networks) => networks.memory_bytes(),
            Self::Slow(..) => 0,
        }
    }
}

/// The raw event first, as it came and without its escapes; then only those values that it does not show: what is written inside
/// the raw event holds no literal that the raw event, or what it is without escapes, does not hold.
fn scan_event(scan: &Scan, event: Event<'_>, buffers: &mut Buffers, facts: &mut Facts) {
    let Buffers { texts, unescaped, folded, .. } = buffers;
    let escapes = Escapes::of(event.raw());
    let mut found = false;
    if escapes != Escapes::None {
        let (text, folded) = texts.unescaped_raw(event);
        found |= scan.run(text, folded, facts);
    }
    if escapes != Escapes::Plain {
        let (text, folded) = texts.raw(event);
        found |= scan.run(text, folded, facts);
    } else if let Some(over_escapes) = scan.over_escapes() {
        let (text, folded) = texts.raw(event);
        found |= over_escapes.run(text, folded, facts);
    }
    let look_at = |value| {
        any_scalar(value, unescaped, &mut |scalar| {
            if let Some(text) = scalar.text() {
                fold_into(text, folded);
                scan.run(text, folded, facts);
            }
            false
        });
    };
    if found && scan.has_positions() {
        event.values().for_each(look_at);
    } else {
        event.values_beside_raw().for_each(look_at);
    }
}

/// Which JSON escapes a text has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escapes {
    None,
    /// Only `\"` and `\\`: of the literals that stand in the text as it came, just some that have a backslash do not stand in the
    /// text without escapes.
    Plain,
    Other,
}

impl Escapes {
    fn of(mut text: &[u8]) -> Self {
        let mut escapes = Self::None;
        while let Some(at) = memchr::memchr(b'\\', text) {
            match text.get(at + 1) {
                Some(b'"' | b'\\') => text = &text[at + 2..],
                _ => return Self::Other,
            }
            escapes = Self::Plain;
        }
        escapes
    }
}
