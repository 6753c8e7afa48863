//! Hits that wait for the watermark: `in any order -> by event time, then position, then order of the rules`.
//!
//! They lie in buckets of a few milliseconds, their bytes in one buffer each: a hit that waits costs no allocation of its
//! own. A bucket is sorted when it is first read; hits mostly come in order, which the sort makes use of.

use std::collections::BTreeMap;

use super::Hit;
use crate::event::Position;

/// Length of a bucket. Longer ones are sorted again more often, since the watermark ends within one.
const BUCKET_MS: i64 = 64;

/// The hits of one correlation.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// By event time in lengths of a bucket.
    buckets: BTreeMap<i64, Bucket>,
    bytes: usize,
    /// The last one taken: a hit that comes twice is one.
    last: Option<(i64, Position, u8)>,
}

#[derive(Debug, Default)]
struct Bucket {
    records: Vec<Record>,
    data: Vec<u8>,
    /// Records that were taken already.
    taken: usize,
    is_sorted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    time_ms: i64,
    position: Position,
    order: u8,
    base: u8,
    has_value: bool,
    start: u32,
    key: u32,
    value: u32,
    carry: u32,
}

impl Record {
    fn place(&self) -> (i64, Position, u8) {
        (self.time_ms, self.position, self.order)
    }

    fn data_bytes(&self) -> usize {
        (self.key + self.value + self.carry) as usize
    }

    /// Twice what it needs: buffers grow by doubling.
    fn bytes(&self) -> usize {
        2 * (size_of::<Self>() + self.data_bytes())
    }

    fn hit<'a>(&self, data: &'a [u8]) -> Option<Hit<'a>> {
        let rest = data.get(self.start as usize..)?;
        let (key, rest) = rest.split_at_checked(self.key as usize)?;
        let (value, rest) = rest.split_at_checked(self.value as usize)?;
        let carry = rest.get(..self.carry as usize)?;
        let value = self.has_value.then_some(value);
        Some(Hit { position: self.position, time_ms: self.time_ms, base: self.base, key, value, carry })
    }
}

impl Pending {
    /// Adds a hit. `order` breaks ties between the rules that one event hits.
    pub(super) fn push(&mut self, hit: &Hit<'_>, order: u8) {
        let bucket = self.buckets.entry(hit.time_ms.div_euclid(BUCKET_MS)).or_default();
        let Ok(start) = u32::try_from(bucket.data.len()) else { return };
        bucket.data.extend_from_slice(hit.key);
        bucket.data.extend_from_slice(hit.value.unwrap_or_default());
        bucket.data.extend_from_slice(hit.carry);
        let record = Record {
            time_ms: hit.time_ms,
            position: hit.position,
            order,
            base: hit.base,
            has_value: hit.value.is_some(),
            start,
            key: hit.key.len() as u32,
            value: hit.value.map_or(0, <[u8]>::len) as u32,
            carry: hit.carry.len() as u32,
        };
        let is_behind = bucket.records.last().is_some_and(|last| last.place() > record.place());
        bucket.is_sorted = (bucket.is_sorted || bucket.records.is_empty()) && !is_behind;
        bucket.records.push(record);
        self.bytes += record.bytes();
    }

    /// What it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives hits up to `until_ms` to `take`, in order, until it returns false. Returns whether it never did.
    pub(super) fn take(&mut self, until_ms: i64, mut take: impl FnMut(&Hit<'_>, usize) -> bool) -> bool {
        while let Some(mut entry) = self.buckets.first_entry().filter(|entry| entry.key().saturating_mul(BUCKET_MS) <= until_ms) {
            let bucket = entry.get_mut();
            bucket.sort();
            while let Some(record) = bucket.records.get(bucket.taken).copied().filter(|record| record.time_ms <= until_ms) {
                bucket.taken += 1;
                self.bytes -= record.bytes();
                let is_new = self.last.replace(record.place()) != Some(record.place());
                let hit = record.hit(&bucket.data).filter(|_| is_new);
                if let Some(hit) = hit
                    && !take(&hit, self.bytes)
                {
                    bucket.compact();
                    return false;
                }
            }
            if bucket.taken < bucket.records.len() {
                bucket.compact();
                return true;
            }
            entry.remove();
        }
        true
    }
}

impl Bucket {
    fn sort(&mut self) {
        if !self.is_sorted {
            // Stable, since it is fast where much is in order already.
            if let Some(left) = self.records.get_mut(self.taken..) {
                left.sort_by_key(Record::place);
            }
            self.is_sorted = true;
        }
    }

    /// Gives back what was taken once that is most of it.
    fn compact(&mut self) {
        if self.taken < self.records.len() / 2 {
            return;
        }
        let mut data = Vec::new();
        self.records.drain(..self.taken);
        self.records.shrink_to_fit();
        self.taken = 0;
        for record in &mut self.records {
            let start = record.start as usize;
            record.start = data.len() as u32;
            data.extend_from_slice(self.data.get(start..start + record.data_bytes()).unwrap_or_default());
        }
        self.data = data;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(time_ms: i64, sequence: u64, key: &[u8]) -> Hit<'_> {
        Hit { position: Position { epoch: 1, sequence }, time_ms, base: 0, key, value: Some(b"v"), carry: b"c" }
    }

    fn taken(pending: &mut Pending, until_ms: i64, most: usize) -> Vec<(i64, u64, Vec<u8>)> {
        let mut found = Vec::new();
        pending.take(until_ms, |hit, _| {
            assert_eq!((hit.value, hit.carry), (Some(&b"v"[..]), &b"c"[..]));
            found.push((hit.time_ms, hit.position.sequence, hit.key.to_vec()));
            found.len() < most
        });
        found
    }

    #[test]
    fn hits_come_in_order_once_and_only_up_to_the_watermark() {
        let mut pending = Pending::default();
        let times = [5, 900, 3, 70, 69, -1, 5, 64, i64::MAX, i64::MIN];
        for (sequence, time_ms) in (0..).zip(times) {
            pending.push(&hit(time_ms, sequence, &time_ms.to_be_bytes()), 0);
            pending.push(&hit(time_ms, sequence, &time_ms.to_be_bytes()), 0);
        }
        let order = |found: Vec<(i64, u64, Vec<u8>)>| {
            assert!(found.iter().all(|(time_ms, _, key)| *key == time_ms.to_be_bytes()));
            found.into_iter().map(|(time_ms, sequence, _)| (time_ms, sequence)).collect::<Vec<_>>()
        };
        assert_eq!(order(taken(&mut pending, 69, usize::MAX)), [(i64::MIN, 9), (-1, 5), (3, 2), (5, 0), (5, 6), (64, 7), (69, 4)]);
        pending.push(&hit(80, 20, &80i64.to_be_bytes()), 0);
        pending.push(&hit(79, 21, &79i64.to_be_bytes()), 0);
        assert_eq!(order(taken(&mut pending, 1_000, 2)), [(70, 3), (79, 21)]);
        assert_eq!(order(taken(&mut pending, i64::MAX, usize::MAX)), [(80, 20), (900, 1), (i64::MAX, 8)]);
        assert_eq!((pending.bytes(), pending.buckets.len()), (0, 0));
    }
}
