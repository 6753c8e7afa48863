//! Numeric comparisons of one slot: equality by a map, order by direct comparison.

use std::collections::HashMap;

use crate::matcher::atom::{AtomId, Leaf};
use crate::matcher::lists::Lists;
use crate::matcher::member::Scalar;
use crate::matcher::number::{NumberKey, compare, parse, satisfies};
use crate::matcher::pass::{Facts, LeafAtoms};
use crate::matcher::{Number, Order};

/// Comparisons of one slot.
#[derive(Debug, Default)]
pub(in crate::matcher) struct Numbers {
    equal: HashMap<NumberKey, u32, foldhash::fast::RandomState>,
    atoms: Lists,
    ordered: Vec<(Order, Number, Box<[AtomId]>)>,
}

impl Numbers {
    pub(super) fn new(leaves: &[LeafAtoms<'_>]) -> Self {
        let mut numbers = Self::default();
        for (leaf, atoms) in leaves {
            match leaf {
                Leaf::Number { op: Order::Equal, number } => {
                    let list = numbers.atoms.push(atoms);
                    numbers.equal.insert(*number, list);
                }
                Leaf::Number { op, number } => numbers.ordered.push((*op, number.number(), (*atoms).into())),
                Leaf::Text { .. } | Leaf::Network(_) | Leaf::Exists | Leaf::Null | Leaf::Type(_) => {}
            }
        }
        numbers
    }

    pub(super) fn run(&self, scalar: Scalar<'_>, facts: &mut Facts) {
        let (Scalar::Number(text) | Scalar::Text(text)) = scalar else { return };
        let Some(number) = parse(text) else { return };
        if let Some(list) = self.equal.get(&NumberKey::new(number)) {
            facts.set_all(self.atoms.list(*list));
        }
        for (op, wanted, atoms) in &self.ordered {
            if satisfies(*op, compare(number, *wanted)) {
                facts.set_all(atoms);
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let ordered = self.ordered.iter().map(|(.., atoms)| atoms.len() * size_of::<AtomId>()).sum::<usize>();
        ordered
            + self.ordered.capacity() * size_of::<(Order, Number, Box<[AtomId]>)>()
            + self.equal.capacity() * (size_of::<(NumberKey, u32)>() + 1)
            + self.atoms.memory_bytes()
    }
}
