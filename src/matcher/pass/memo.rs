//! What values have decided: `a slot's value -> the passes that it decided, and the atoms that hold`.
//!
//! Most fields of logs have few values: images, user agents, actions. What a pass says of a slot follows from its value
//! alone, so it is remembered with the value: one that comes again says at once what would take a walk for every pass,
//! and what no program has asked of it yet is added when one does.
//!
//! A value is remembered when it comes twice and its cell has met no other new one between: values that do not come
//! again, such as identifiers, take the place of none that does. A slot that has mostly these is left alone for a while.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::RandomState;

use crate::event::{Event, Kind, SlotId};
use crate::matcher::atom::{AtomId, PassId};

/// Cells for each slot, and for all of them.
const CELLS_OF_SLOT: usize = 64;
const CELLS_MAX: usize = 2048;

/// Longer values are not remembered: they seldom come again.
const VALUE_BYTES_MAX: usize = 512;

/// Passes and atoms that are remembered of a value. With [`VALUE_BYTES_MAX`] and room to grow, a memo takes 11 MB at most.
const KNOWN_MAX: usize = 512;

/// Values that a slot may look up in vain, how many of them one that is found makes up for, and the events for which a slot
/// that has used up its credit is left alone.
const CREDIT: i32 = 256;
const CREDIT_OF_HIT: i32 = 3;
const REST: i32 = 4096;

/// No cell.
const NONE: u32 = u32::MAX;

/// What values of some slots have decided.
#[derive(Debug)]
pub(in crate::matcher) struct Memo {
    stamp: u32,
    /// A power of two, or none.
    cells: Box<[Cell]>,
    slots: Vec<OfSlot>,
    /// Of the kind whose low bits, which choose the cell, are spread with every seed.
    hashes: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct OfSlot {
    /// The last event in which it was looked up.
    stamp: u32,
    /// The cell of its value there.
    cell: u32,
    /// Below zero while it rests.
    credit: i32,
}

/// A value, and what it decides.
#[derive(Debug)]
struct Cell {
    hash: u64,
    /// The hash of the last value that was not this one.
    other: u64,
    slot: Option<SlotId>,
    kind: Kind,
    text: Vec<u8>,
    known: Known,
}

impl Cell {
    const EMPTY: Self = Self {
        hash: 0,
        other: 0,
        slot: None,
        kind: Kind::Missing,
        text: Vec::new(),
        known: Known { passes: Vec::new(), atoms: Vec::new() },
    };
}

/// What a value decides.
#[derive(Debug)]
pub(in crate::matcher) struct Known {
    /// Passes that need not run.
    pub(in crate::matcher) passes: Vec<PassId>,
    /// The atoms of these that hold.
    pub(in crate::matcher) atoms: Vec<AtomId>,
}

impl Memo {
    /// For so many of the slots below `width`.
    pub(in crate::matcher) fn new(slots: usize, width: usize) -> Self {
        let cells = if slots == 0 { 0 } else { (slots * CELLS_OF_SLOT).next_power_of_two().min(CELLS_MAX) };
        let slots = vec![OfSlot { stamp: 0, cell: NONE, credit: CREDIT }; width];
        Self { stamp: 0, cells: (0..cells).map(|_| Cell::EMPTY).collect(), slots, hashes: RandomState::default() }
    }

    /// Has all values share so many cells, a power of two.
    #[cfg(test)]
    pub(in crate::matcher) fn set_cells(&mut self, cells: usize) {
        self.cells = (0..cells).map(|_| Cell::EMPTY).collect();
    }

    /// Closes what the last event opened. `stamp` must not have been used since the last `clear`.
    pub(in crate::matcher) fn begin(&mut self, stamp: u32) {
        self.stamp = stamp;
    }

    /// Forgets all stamps.
    pub(in crate::matcher) fn clear(&mut self) {
        self.slots.iter_mut().for_each(|of| of.stamp = 0);
    }

    /// What is known of the value that a slot has in the current event; told once for an event.
    pub(in crate::matcher) fn recall(&mut self, event: Event<'_>, slot: SlotId) -> Option<&Known> {
        let Self { stamp, cells, slots, hashes } = self;
        let of = &mut slots[slot.index()];
        if of.stamp == *stamp {
            return None;
        }
        (of.stamp, of.cell) = (*stamp, NONE);
        if of.credit < 0 {
            of.credit = if of.credit == -1 { CREDIT } else { of.credit + 1 };
            return None;
        }
        let (kind, text) = (event.slot(slot).kind(), event.bytes(slot));
        if !matches!(kind, Kind::Number | Kind::Text | Kind::Escaped) || text.len() > VALUE_BYTES_MAX {
            return None;
        }
        let mut hasher = hashes.build_hasher();
        hasher.write_usize(slot.index());
        hasher.write(text);
        let hash = hasher.finish();
        let index = hash as usize & (cells.len() - 1);
        let cell = &mut cells[index];
        if cell.hash == hash && cell.slot == Some(slot) && cell.kind == kind && cell.text == text {
            of.cell = index as u32;
            of.credit = (of.credit + CREDIT_OF_HIT).min(CREDIT);
            return Some(&cell.known);
        }
        if cell.other == hash {
            of.cell = index as u32;
            (cell.hash, cell.slot, cell.kind) = (hash, Some(slot), kind);
            cell.text.clear();
            cell.text.extend_from_slice(text);
            cell.known.passes.clear();
            cell.known.atoms.clear();
        }
        cell.other = hash;
        of.credit = if of.credit == 0 { -REST } else { of.credit - 1 };
        None
    }

    /// Remembers what a pass has said of the slot's value in the current event, after [`Self::recall`].
    pub(in crate::matcher) fn learn(&mut self, slot: SlotId, pass: PassId, atoms: &[AtomId]) {
        let of = self.slots[slot.index()];
        // Another slot's value may have taken the cell since.
        let cell = self.cells.get_mut(of.cell as usize).filter(|cell| cell.slot == Some(slot));
        let Some(Cell { known, .. }) = cell else { return };
        if known.passes.len() + known.atoms.len() + atoms.len() < KNOWN_MAX {
            known.passes.push(pass);
            known.atoms.extend_from_slice(atoms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::tests::{given, slot_ids, with_event};

    /// The passes that are known for a text in slot 0 or 1.
    fn recall(memo: &mut Memo, slot: usize, text: &str) -> Option<Vec<PassId>> {
        let values = [0, 1].map(|index| given(Kind::Text, if index == slot { text } else { "" }));
        with_event(&values, |event| memo.recall(event, slot_ids()[slot]).map(|known| known.passes.clone()))
    }

    /// Whether a text is known in slot 0 of an event; if not, pass 7 says of it that atom 9 holds.
    fn is_known(memo: &mut Memo, stamp: u32, text: &str) -> bool {
        memo.begin(stamp);
        let passes = recall(memo, 0, text);
        if passes.is_none() {
            memo.learn(slot_ids()[0], 7, &[9]);
        }
        passes.is_some_and(|passes| passes.contains(&7))
    }

    #[test]
    fn a_value_that_comes_twice_is_known_and_stays_until_another_does() {
        let mut memo = Memo::new(1, 1);
        memo.set_cells(1);
        let texts = ["a", "a", "a", "b", "a", "c", "a", "b", "b", "b", "a", "b", "a", "c", "c", "c"];
        let known: Vec<bool> = texts.iter().zip(1..).map(|(text, stamp)| is_known(&mut memo, stamp, text)).collect();
        let expected = [0, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1].map(|known| known == 1);
        assert_eq!(known, expected);
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        assert_eq!([17, 18, 19].map(|stamp| is_known(&mut memo, stamp, &long)), [false; 3]);
        assert!(is_known(&mut memo, 20, "c"));
    }

    #[test]
    fn what_is_asked_of_a_value_whose_cell_was_taken_is_not_learnt() {
        let (mut memo, slots) = (Memo::new(2, 2), slot_ids());
        memo.set_cells(1);
        for stamp in 1..5 {
            assert_eq!(is_known(&mut memo, stamp, "a"), stamp > 2);
            if stamp > 2 {
                assert_eq!(recall(&mut memo, 1, "b"), None, "the second time, it takes the cell");
                memo.learn(slots[1], 8, &[]);
                memo.learn(slots[0], 6, &[]);
            }
        }
        memo.begin(5);
        assert_eq!((recall(&mut memo, 0, "a"), recall(&mut memo, 1, "b")), (None, Some(vec![8])));
    }

    #[test]
    fn a_value_is_told_once_for_an_event() {
        let mut memo = Memo::new(1, 1);
        assert_eq!([1, 2, 3].map(|stamp| is_known(&mut memo, stamp, "a")), [false, false, true]);
        assert_eq!(recall(&mut memo, 0, "a"), None);
        memo.clear();
        assert!(is_known(&mut memo, 3, "a"), "stamps begin again");
    }

    #[test]
    fn a_slot_whose_values_do_not_come_again_rests() {
        let mut memo = Memo::new(1, 1);
        let mut stamp = 0;
        let mut look = |text: &str| {
            stamp += 1;
            is_known(&mut memo, stamp, text)
        };
        assert_eq!(["often"; 3].map(&mut look), [false, false, true]);
        (0..=CREDIT).for_each(|number| assert!(!look(&format!("once {number}"))));
        (0..REST).for_each(|_| assert!(!look("often"), "it rests"));
        assert!(look("often"), "it is looked up again, and was not forgotten");
    }
}
