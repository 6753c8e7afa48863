//! Taking over what an earlier run left: `loaded -> states of the new logs, and work for the shards`.
//!
//! What was decided and is owed is deferred in the new logs, as it would be for a destination that is behind.
//!
//! Epochs are dealt out to the new logs, whatever number of shards wrote them. A destination or a source that is not
//! in the configuration any more, while something waits for it, is an error unless it is to be forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::disk::Options;
use super::recover::{Loaded, Place};
use super::state::{Batch, Names, OpenChunk, Share, State, Usage, has_bit};
use crate::error::{Error, ErrorKind};
use crate::event::{Members, Position};

/// Something that an earlier run did not finish.
#[derive(Debug)]
pub enum Work {
    /// A sealed batch, to be built again as it was.
    Batch {
        /// Index of its destination in the plan.
        destination: usize,
        /// Its id.
        id: u128,
        /// Its partition.
        partition: Box<str>,
        /// Arrival of its oldest event, ms since 1970 UTC.
        oldest_ms: i64,
        /// Its chunks and what is left of them, in the order of the batch.
        members: Vec<(Place, Members)>,
    },
    /// A chunk that did not get so far; what destinations have or will get in batches all the same.
    Undecided(Place, Vec<(usize, Members)>),
    /// What is kept for a destination of [`Options::kept`](super::Options::kept).
    Kept(Place, Members),
}

/// What the new logs begin with.
#[derive(Debug)]
pub(super) struct Adopted {
    /// By shard.
    pub(super) states: Vec<State>,
    /// By shard.
    pub(super) work: Vec<Vec<Work>>,
    /// Which log answers for an earlier epoch.
    pub(super) owners: HashMap<u64, usize>,
    /// Events that were given up because their destination was forgotten, by its name.
    pub(super) forgotten: BTreeMap<String, u64>,
}

/// Deals out what was loaded to the logs of the options, whose names are `names`. Names that are gone and of which earlier logs
/// speak are added behind those of the configuration.
///
/// # Errors
/// Names that are gone while events wait for them, and that are not to be forgotten.
pub(super) fn adopt(mut loaded: Loaded, names: &mut Names, options: &Options) -> Result<Adopted, Error> {
    let Options { forget, shards, kept, .. } = options;
    let (shards, kept) = (*shards, *kept);
    let forgotten = forget_gone(&mut loaded, names, forget)?;
    renumber(&mut loaded, names);
    let owners: HashMap<u64, usize> = loaded.epochs.iter().copied().enumerate().map(|(index, epoch)| (epoch, index % shards)).collect();
    let owner = |position: Position| owners.get(&position.epoch).copied().unwrap_or(0);
    let mut work: Vec<Vec<Work>> = (0..shards).map(|_| Vec::new()).collect();
    for batch in loaded.batches.values() {
        let first = batch.members.first().map_or(0, |members| owner(members.chunk));
        work[first].push(batch_work(batch, &loaded.chunks));
    }
    let mut sealed: BTreeMap<Position, Vec<(u16, &Members)>> = BTreeMap::new();
    for batch in loaded.batches.values() {
        batch.members.iter().for_each(|members| sealed.entry(members.chunk).or_default().push((batch.destination, members)));
    }
    let mut states: Vec<State> = (0..shards).map(|_| State { kept, ..State::default() }).collect();
    for (position, chunk) in &mut loaded.chunks {
        let had = had(*position, chunk, sealed.get(position).map_or(&[][..], Vec::as_slice));
        if chunk.verdict.is_none() {
            let had = had.into_iter().map(|(number, members)| (usize::from(number), members)).collect();
            work[owner(*position)].push(Work::Undecided(Place { position: *position, at: chunk.at }, had));
            continue;
        }
        let lacks = |share: &&mut Share| had.get(&share.destination).is_none_or(|had| !share.expected.is_within(had));
        for share in chunk.shares.iter_mut().filter(lacks) {
            share.is_deferred = true;
            if has_bit(kept, share.destination) {
                let mut left = share.expected.clone();
                left.remove(&share.settled);
                work[owner(*position)].push(Work::Kept(Place { position: *position, at: chunk.at }, left));
                continue;
            }
            states[owner(*position)].deferred.entry(share.destination).or_default().push_back(*position);
        }
    }
    for (epoch, owner) in &owners {
        states[*owner].epochs.insert(*epoch, u64::MAX);
    }
    for ((epoch, segment), bytes) in &loaded.files {
        let state = &mut states[owners.get(epoch).copied().unwrap_or(0)];
        state.segments.insert((*epoch, *segment), Usage { open: 0, bytes: *bytes, closed_ms: 0 });
    }
    for (position, chunk) in loaded.chunks {
        states[owner(position)].open(position, chunk);
    }
    for (key, batch) in loaded.batches {
        for (index, state) in states.iter_mut().enumerate() {
            let members: Vec<Members> = batch.members.iter().filter(|members| owner(members.chunk) == index).cloned().collect();
            if !members.is_empty() {
                state.batches.insert(key, Batch { members, ..batch.clone() });
            }
        }
    }
    Ok(Adopted { states, work, owners, forgotten })
}

/// Takes out what nobody can get any more.
fn forget_gone(loaded: &mut Loaded, names: &mut Names, forget: &[String]) -> Result<BTreeMap<String, u64>, Error> {
    let mut forgotten = BTreeMap::new();
    let mut waiting: BTreeSet<String> = BTreeSet::new();
    let Loaded { names: old, chunks, batches, .. } = loaded;
    let mut give_up = |name: &str, count: u64| match forget.iter().any(|gone| gone == name) {
        true => *forgotten.entry(name.to_owned()).or_default() += count,
        false => drop(waiting.insert(name.to_owned())),
    };
    let is_gone =
        |kind: &[String], number: u16, known: &[String]| kind.get(usize::from(number)).filter(|name| !known.contains(name)).cloned();
    chunks.retain(|_, chunk| match is_gone(&old.sources, chunk.source, &names.sources) {
        None => true,
        Some(source) => {
            give_up(&source, u64::from(chunk.frames));
            false
        }
    });
    let mut kept: BTreeSet<String> = BTreeSet::new();
    for share in chunks.values_mut().flat_map(|chunk| &mut chunk.shares) {
        let Some(name) = is_gone(&old.destinations, share.destination, &names.destinations) else { continue };
        let mut left = share.expected.clone();
        left.remove(&share.settled);
        if !left.is_empty() {
            give_up(&name, u64::from(left.count));
        }
        // It stays settled by name: the earlier logs will still say that it was expected.
        share.settled.add(&left);
        kept.insert(name);
    }
    chunks.retain(|_, chunk| !chunk.is_done());
    batches.retain(|_, batch| {
        batch.members.retain(|members| chunks.contains_key(&members.chunk));
        is_gone(&old.destinations, batch.destination, &names.destinations).is_none() && !batch.members.is_empty()
    });
    if waiting.is_empty() {
        names.destinations.extend(kept);
        return Ok(forgotten);
    }
    let waiting = waiting.into_iter().collect::<Vec<_>>().join("`, `");
    let message = format!(
        "events wait in the journal for `{waiting}`, which the configuration does not have any more; put it back, or give them up with \
         `journal: {{ forget: [...] }}`"
    );
    Err(Error::new(ErrorKind::Configuration, "take up the journal", message))
}

/// Numbers of the new logs in the place of those of the loaded ones.
fn renumber(loaded: &mut Loaded, names: &Names) {
    let numbers = |old: &[String], new: &[String]| -> Vec<u16> {
        old.iter().map(|name| new.iter().position(|known| known == name).map_or(u16::MAX, |index| index as u16)).collect()
    };
    let destinations = numbers(&loaded.names.destinations, &names.destinations);
    let sources = numbers(&loaded.names.sources, &names.sources);
    let new = |numbers: &[u16], old: u16| numbers.get(usize::from(old)).copied().unwrap_or(u16::MAX);
    for chunk in loaded.chunks.values_mut() {
        chunk.source = new(&sources, chunk.source);
        chunk.shares.iter_mut().for_each(|share| share.destination = new(&destinations, share.destination));
    }
    let batches = std::mem::take(&mut loaded.batches).into_values();
    loaded.batches = batches
        .map(|batch| Batch { destination: new(&destinations, batch.destination), ..batch })
        .map(|batch| ((batch.destination, batch.id), batch))
        .collect();
}

fn batch_work(batch: &Batch, chunks: &BTreeMap<Position, OpenChunk>) -> Work {
    let place = |members: &Members| Some((Place { position: members.chunk, at: chunks.get(&members.chunk)?.at }, members.clone()));
    Work::Batch {
        destination: usize::from(batch.destination),
        id: batch.id,
        partition: batch.partition.clone(),
        oldest_ms: batch.oldest_ms,
        members: batch.members.iter().filter_map(place).collect(),
    }
}

/// What destinations have of a chunk or will get in batches.
fn had(position: Position, chunk: &OpenChunk, sealed: &[(u16, &Members)]) -> BTreeMap<u16, Members> {
    let mut had: BTreeMap<u16, Members> = BTreeMap::new();
    let settled = chunk.shares.iter().map(|share| (share.destination, &share.settled));
    for (destination, members) in settled.chain(sealed.iter().copied()) {
        had.entry(destination).or_insert_with(|| Members::none(position, chunk.frames as usize)).add(members);
    }
    had
}
