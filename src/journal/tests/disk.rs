//! A disk that loses what was not synced, tears and reorders writes, fails, fills up and rots.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use super::Random;
use crate::journal::storage::{SegmentFile, Storage};

/// What a disk writes as a whole, unless it tears.
const SECTOR: usize = 512;

#[derive(Default)]
struct Inode {
    /// What is on the disk.
    disk: Vec<u8>,
    /// What the kernel shows.
    cache: Vec<u8>,
    /// Sectors that are in the cache only.
    dirty: BTreeSet<usize>,
}

/// What happens to it.
#[derive(Default)]
pub(super) struct Faults {
    /// Of 1000 operations, so many fail.
    pub(super) rate: u64,
    /// Bytes that files may take; `None` for no end.
    pub(super) space: Option<u64>,
}

#[derive(Default)]
struct Inner {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    random: Random,
    faults: Faults,
}

/// A simulated disk; clones are the same.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<Inner>>);

struct Open {
    disk: Disk,
    inode: u64,
}

fn failure(message: &'static str) -> io::Error {
    io::Error::other(message)
}

impl Inner {
    fn fails(&mut self) -> bool {
        let rate = self.faults.rate;
        self.random.below(1000) < rate
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].cache.len() as u64).sum()
    }

    /// Sectors of the cache that reach the disk at a crash or a failed sync: some, in any order, some of them torn.
    fn persist_some(&mut self, inode: u64) {
        let Some(mut file) = self.inodes.remove(&inode) else { return };
        let share = self.random.below(101);
        file.disk.resize(file.cache.len(), 0);
        for sector in std::mem::take(&mut file.dirty) {
            if self.random.below(100) < share {
                let start = sector * SECTOR;
                let mut end = (start + SECTOR).min(file.cache.len());
                if self.random.below(20) == 0 {
                    end = start + self.random.below((end - start) as u64 + 1) as usize;
                }
                file.disk[start..end].copy_from_slice(&file.cache[start..end]);
            }
        }
        self.inodes.insert(inode, file);
    }
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        let disk = Self::default();
        disk.0.lock().unwrap().random = Random(seed);
        disk
    }

    /// Bytes that files take.
    pub(super) fn used(&self) -> u64 {
        self.0.lock().unwrap().used()
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.0.lock().unwrap().faults = faults;
    }

    /// The power goes: what was not synced may be there or not.
    pub(super) fn lose_power(&self) {
        let mut inner = self.0.lock().unwrap();
        let inodes: Vec<u64> = inner.inodes.keys().copied().collect();
        for inode in inodes {
            inner.persist_some(inode);
            let file = inner.inodes.get_mut(&inode).unwrap();
            file.cache.clone_from(&file.disk);
        }
        let changed: BTreeSet<String> = inner.names.keys().chain(inner.durable_names.keys()).cloned().collect();
        for name in changed {
            let (now, before) = (inner.names.get(&name).copied(), inner.durable_names.get(&name).copied());
            let kept = if now != before && inner.random.below(2) == 0 { before } else { now };
            match kept {
                Some(inode) => inner.names.insert(name, inode),
                None => inner.names.remove(&name),
            };
        }
        inner.durable_names = inner.names.clone();
    }

    /// Flips a bit of a byte that is not zero in a file whose name ends so; file, offset and the byte before.
    pub(super) fn rot(&self) -> Option<(String, usize)> {
        let mut inner = self.0.lock().unwrap();
        let logs: Vec<(String, u64)> =
            inner.names.iter().filter(|(name, _)| name.ends_with(".log")).map(|(n, i)| (n.clone(), *i)).collect();
        let index = inner.random.below(logs.len().max(1) as u64) as usize;
        let (name, inode) = logs.get(index)?.clone();
        let used = inner.inodes[&inode].disk.iter().rposition(|byte| *byte != 0)? as u64 + 1;
        let (at, bit) = (inner.random.below(used) as usize, inner.random.below(8));
        let file = inner.inodes.get_mut(&inode).unwrap();
        file.disk[at] ^= 1 << bit;
        file.cache[at] ^= 1 << bit;
        Some((name, at))
    }
}

impl Storage for Disk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let inner = self.0.lock().unwrap();
        Ok(inner.names.iter().map(|(name, inode)| (name.clone(), inner.inodes[inode].cache.len() as u64)).collect())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Box<dyn SegmentFile>> {
        let mut inner = self.0.lock().unwrap();
        if inner.faults.space.is_some_and(|space| inner.used() + bytes > space) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if inner.fails() {
            return Err(failure("create failed"));
        }
        assert!(!inner.names.contains_key(name), "{name} is made twice");
        let inode = inner.next_inode;
        inner.next_inode += 1;
        inner.names.insert(name.to_owned(), inode);
        inner.inodes.insert(inode, Inode { cache: vec![0; bytes as usize], ..Inode::default() });
        Ok(Box::new(Open { disk: self.clone(), inode }))
    }

    fn read(&self, name: &str, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let inner = self.0.lock().unwrap();
        let inode = inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let file = &inner.inodes[inode].cache;
        let start = (offset as usize).min(file.len());
        Ok(file[start..start + (file.len() - start).min(bytes as usize)].to_vec())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if inner.fails() {
            return Err(failure("replace failed"));
        }
        let inode = inner.next_inode;
        inner.next_inode += 1;
        inner.inodes.insert(inode, Inode { disk: bytes.to_vec(), cache: bytes.to_vec(), dirty: BTreeSet::new() });
        inner.names.insert(name.to_owned(), inode);
        inner.durable_names.insert(name.to_owned(), inode);
        Ok(())
    }

    fn shrink(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if inner.fails() {
            return Err(failure("sync failed"));
        }
        let inode = *inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let file = inner.inodes.get_mut(&inode).unwrap();
        file.cache.truncate(bytes as usize);
        file.disk.clone_from(&file.cache);
        file.dirty.clear();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if inner.fails() {
            return Err(failure("remove failed"));
        }
        inner.names.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if inner.fails() {
            return Err(failure("sync of the folder failed"));
        }
        inner.durable_names = inner.names.clone();
        Ok(())
    }

    fn modified_ms(&self, _: &str) -> io::Result<i64> {
        Ok(crate::clock::now_ms())
    }
}

impl SegmentFile for Open {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.0.lock().unwrap();
        let length = inner.inodes[&self.inode].cache.len() as u64;
        let growth = (offset + bytes.len() as u64).saturating_sub(length);
        let is_full = growth > 0 && inner.faults.space.is_some_and(|space| inner.used() + growth > space);
        let fails = inner.fails() || is_full;
        // A write that fails has written some of it.
        let written = if fails { inner.random.below(bytes.len() as u64 + 1) as usize } else { bytes.len() };
        let end = offset as usize + written;
        let file = inner.inodes.get_mut(&self.inode).unwrap();
        if file.cache.len() < end {
            file.cache.resize(end, 0);
        }
        file.cache[offset as usize..end].copy_from_slice(&bytes[..written]);
        file.dirty.extend(offset as usize / SECTOR..end.div_ceil(SECTOR));
        match (is_full, fails) {
            (true, _) => Err(io::ErrorKind::StorageFull.into()),
            (_, true) => Err(failure("write failed")),
            _ => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.disk.0.lock().unwrap();
        if inner.fails() {
            // The kernel drops the error with the pages: the next sync would succeed, and the bytes are gone.
            inner.persist_some(self.inode);
            return Err(failure("sync failed"));
        }
        let file = inner.inodes.get_mut(&self.inode).unwrap();
        file.disk.clone_from(&file.cache);
        file.dirty.clear();
        Ok(())
    }
}
