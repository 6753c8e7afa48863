//! Networks of one slot: one hash probe for each prefix length that occurs, whatever their number.
//!
//! An IPv4 address written as IPv6 (`::ffff:192.0.2.1`) is in a network of either family. Addresses with a
//! port, brackets or a zone are none.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::matcher::atom::Leaf;
use crate::matcher::lists::Lists;
use crate::matcher::member::Scalar;
use crate::matcher::pass::{Facts, LeafAtoms};

/// Longest text of an address: IPv6 with an IPv4 tail.
const ADDRESS_BYTES_MAX: usize = 45;

/// Networks of one slot.
#[derive(Debug, Default)]
pub(in crate::matcher) struct Networks {
    v4: Tables,
    v6: Tables,
    atoms: Lists,
}

/// Tables by prefix length, shortest first. Addresses of both families stand at the top of 128 bits.
#[derive(Debug, Default)]
struct Tables(Vec<(u128, HashMap<u128, u32, foldhash::fast::RandomState>)>);

impl Tables {
    fn insert(&mut self, address: u128, prefix_len: u8, list: u32) {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len)).unwrap_or(0);
        let index = self.0.partition_point(|(other, _)| *other < mask);
        if self.0.get(index).is_none_or(|(other, _)| *other != mask) {
            self.0.insert(index, (mask, HashMap::default()));
        }
        if let Some((_, table)) = self.0.get_mut(index) {
            table.insert(address & mask, list);
        }
    }

    fn memory_bytes(&self) -> usize {
        self.0.iter().map(|(_, table)| table.capacity() * (size_of::<(u128, u32)>() + 1)).sum()
    }
}

impl Networks {
    pub(super) fn new(leaves: &[LeafAtoms<'_>]) -> Self {
        let mut networks = Self::default();
        for (leaf, atoms) in leaves {
            let Leaf::Network(network) = leaf else { continue };
            let list = networks.atoms.push(atoms);
            let tables = match network {
                IpNet::V4(_) => &mut networks.v4,
                IpNet::V6(_) => &mut networks.v6,
            };
            tables.insert(top(network.addr()), network.prefix_len(), list);
        }
        networks
    }

    pub(super) fn run(&self, scalar: Scalar<'_>, facts: &mut Facts) {
        let Scalar::Text(text) = scalar else { return };
        let Some(address) = parse(text) else { return };
        self.find(address, facts);
        let canonical = address.to_canonical();
        if canonical != address {
            self.find(canonical, facts);
        }
    }

    fn find(&self, address: IpAddr, facts: &mut Facts) {
        let tables = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let address = top(address);
        for (mask, table) in &tables.0 {
            if let Some(list) = table.get(&(address & mask)) {
                facts.set_all(self.atoms.list(*list));
            }
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.v4.memory_bytes() + self.v6.memory_bytes() + self.atoms.memory_bytes()
    }
}

fn top(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn parse(text: &[u8]) -> Option<IpAddr> {
    if text.len() > ADDRESS_BYTES_MAX {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}
