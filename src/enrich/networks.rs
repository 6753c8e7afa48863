//! Which of up to millions of networks holds an address: the one with the longest prefix.
//!
//! Networks nest or are apart, so they cut the addresses into at most `2n + 1` ranges with one answer each.
//! The ranges are sorted; the upper 16 bits of an address say where to search. IPv4: 8 bytes a range.

use std::net::IpAddr;

use ipnet::IpNet;

/// A network of a row. Sorts by family, first address, then longer prefixes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network {
    pub(super) network: IpNet,
    pub(super) row: u32,
}

/// All networks of a file.
pub(super) struct Networks {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

impl Networks {
    /// The ranges of networks that are sorted.
    pub(super) fn new(networks: &[Network]) -> Self {
        let v4 = networks.iter().filter_map(|Network { network, row }| match network {
            IpNet::V4(network) => Some((network.network().to_bits(), network.broadcast().to_bits(), *row)),
            IpNet::V6(_) => None,
        });
        let v6 = networks.iter().filter_map(|Network { network, row }| match network {
            IpNet::V6(network) => Some((network.network().to_bits(), network.broadcast().to_bits(), *row)),
            IpNet::V4(_) => None,
        });
        Self { v4: Ranges::new(v4), v6: Ranges::new(v6) }
    }

    /// The row of the narrowest network that holds the address.
    pub(super) fn find(&self, address: IpAddr) -> Option<u32> {
        match address {
            IpAddr::V4(address) => self.v4.find(address.to_bits()),
            IpAddr::V6(address) => self.v6.find(address.to_bits()),
        }
    }
}

/// An address as a number.
trait Bits: Copy + Ord {
    /// The upper 16 bits.
    fn bucket(self) -> usize;
    fn next(self) -> Option<Self>;
}

impl Bits for u32 {
    fn bucket(self) -> usize {
        (self >> 16) as usize
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Bits for u128 {
    fn bucket(self) -> usize {
        (self >> 112) as usize
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

const BUCKETS: usize = 1 << 16;

/// The row of a range that no network holds.
const NONE: u32 = u32::MAX;

struct Ranges<B> {
    /// First addresses, ascending; a range ends where the next begins.
    starts: Vec<B>,
    rows: Vec<u32>,
    /// By bucket: ranges that begin in lower buckets. One more than there are buckets; empty without ranges.
    below: Vec<u32>,
}

impl<B: Bits> Ranges<B> {
    /// From first and last address, wider networks before those inside them.
    fn new(networks: impl Iterator<Item = (B, B, u32)>) -> Self {
        let mut ranges = Self { starts: Vec::new(), rows: Vec::new(), below: Vec::new() };
        // Networks that hold the current one: last address and row, the narrowest last.
        let mut open: Vec<(B, u32)> = Vec::new();
        for (first, last, row) in networks {
            ranges.close(&mut open, |end| end < first);
            ranges.push(first, row);
            open.push((last, row));
        }
        ranges.close(&mut open, |_| true);
        ranges.starts.shrink_to_fit();
        ranges.rows.shrink_to_fit();
        if !ranges.starts.is_empty() {
            ranges.below = vec![0; BUCKETS + 1];
            for start in &ranges.starts {
                ranges.below[start.bucket() + 1] += 1;
            }
            let mut sum = 0;
            for count in &mut ranges.below {
                sum += *count;
                *count = sum;
            }
        }
        ranges
    }

    /// Ends the open networks whose last address `ends` holds for.
    fn close(&mut self, open: &mut Vec<(B, u32)>, ends: impl Fn(B) -> bool) {
        while let Some((last, _)) = open.pop_if(|(last, _)| ends(*last)) {
            if let Some(next) = last.next() {
                self.push(next, open.last().map_or(NONE, |(_, row)| *row));
            }
        }
    }

    fn push(&mut self, start: B, row: u32) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.rows.pop();
        }
        if self.rows.last().copied().unwrap_or(NONE) != row {
            self.starts.push(start);
            self.rows.push(row);
        }
    }

    fn find(&self, address: B) -> Option<u32> {
        let bucket = address.bucket();
        let (start, end) = (*self.below.get(bucket)? as usize, *self.below.get(bucket + 1)? as usize);
        let after = start + self.starts[start..end].partition_point(|start| *start <= address);
        Some(self.rows[after.checked_sub(1)?]).filter(|row| *row != NONE)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn sorted(networks: &[IpNet]) -> Networks {
        let mut list: Vec<Network> =
            networks.iter().enumerate().map(|(row, network)| Network { network: network.trunc(), row: row as u32 }).collect();
        list.sort_unstable();
        list.dedup_by_key(|network| network.network);
        Networks::new(&list)
    }

    /// The network that a full scan finds; of equal ones the first.
    fn oracle(networks: &[IpNet], address: IpAddr) -> Option<u32> {
        let holding = networks.iter().enumerate().filter(|(_, network)| network.contains(&address));
        holding.rev().max_by_key(|(_, network)| network.prefix_len()).map(|(row, _)| row as u32)
    }

    #[test]
    fn the_longest_prefix_wins_and_edges_belong_to_their_network() {
        let networks: Vec<IpNet> = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "255.255.255.255/32", "2001:db8::/32", "::/0"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let found = sorted(&networks);
        for (address, row) in [
            ("9.255.255.255", 0),
            ("10.0.0.0", 1),
            ("10.1.0.0", 2),
            ("10.1.2.2", 2),
            ("10.1.2.3", 3),
            ("10.1.2.4", 2),
            ("10.2.0.0", 1),
            ("11.0.0.0", 0),
            ("255.255.255.254", 0),
            ("255.255.255.255", 4),
            ("2001:db8::1", 5),
            ("2001:db9::", 6),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 6),
        ] {
            assert_eq!(found.find(address.parse().unwrap()), Some(row), "{address}");
        }
        assert_eq!(sorted(&[]).find(IpAddr::V4(Ipv4Addr::LOCALHOST)), None);
        assert_eq!(sorted(&networks[1..3]).find(IpAddr::V4(Ipv4Addr::BROADCAST)), None);
        assert_eq!(sorted(&networks[1..3]).find(IpAddr::V6(Ipv6Addr::LOCALHOST)), None);
    }

    proptest! {
        /// Few bits vary, so that networks nest, touch and repeat.
        #[test]
        fn ranges_answer_as_a_full_scan(
            seeds in prop::collection::vec((0u32..64, 0u8..=32), 0..40),
            probes in prop::collection::vec(any::<u32>(), 20),
        ) {
            let spread = |bits: u32| bits.reverse_bits() | bits;
            let v4 = |bits: u32| IpAddr::V4(Ipv4Addr::from_bits(spread(bits)));
            let v6 = |bits: u32| IpAddr::V6(Ipv6Addr::from_bits(u128::from(spread(bits)) << 96 | u128::from(bits)));
            for (address, scale) in [(&v4 as &dyn Fn(u32) -> IpAddr, 1), (&v6, 4)] {
                let networks: Vec<IpNet> =
                    seeds.iter().map(|(bits, len)| IpNet::new(address(*bits), len * scale).unwrap()).collect();
                let found = sorted(&networks);
                let near = seeds.iter().flat_map(|(bits, _)| [*bits, bits.wrapping_add(1), bits.wrapping_sub(1)]);
                for bits in probes.iter().copied().chain(near) {
                    prop_assert_eq!(found.find(address(bits)), oracle(&networks, address(bits)), "{}", address(bits));
                }
            }
        }
    }
}
