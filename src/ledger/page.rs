//! What one shard counts. Only its thread touches it: a count is an addition, without a lock or an atomic.
//!
//! Counted once a chunk and run of one sender, a batch, or a request, never once an event. A chunk of one sender looks
//! nothing up: the last sender's counts are kept. Every piece of work that is neither begun nor done leaves the sums
//! as they were, so [`Page::data`], which a shard takes between two pieces, is a state in which everything adds up.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::RandomState;

use crate::event::Chunk;

/// Named senders of one source; further ones are counted together. A spoofed datagram must not take memory for good.
pub const SENDERS_MAX: usize = 10_000;

/// One number.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().wrapping_add(count));
    }

    /// Takes off what was added before.
    fn sub(&self, count: u64) {
        self.0.set(self.0.get().wrapping_sub(count));
    }

    /// Reads it.
    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

/// Who sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SenderName {
    /// A source without senders: a file, `demo`.
    Local,
    /// An address.
    Address(IpAddr),
    /// One of those beyond [`SENDERS_MAX`].
    Other,
}

impl std::fmt::Display for SenderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => f.write_str("-"),
            Self::Address(address) => address.fmt(f),
            Self::Other => f.write_str("other"),
        }
    }
}

/// The senders of a source that have a name of their own, on all shards together.
#[derive(Debug)]
pub struct Names {
    known: RwLock<HashSet<IpAddr>>,
    max: usize,
}

impl Names {
    /// Those that have a name from an earlier run.
    pub fn new(known: HashSet<IpAddr>) -> Self {
        Self { known: RwLock::new(known), max: SENDERS_MAX }
    }

    /// Whether a sender has a name, or gets one now. A shard asks once for each sender, and for each run of one without.
    fn admits(&self, address: IpAddr) -> bool {
        let is_full = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if known.contains(&address) {
                return true;
            }
            known.len() >= self.max
        };
        if is_full {
            return false;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.contains(&address) || (known.len() < self.max && known.insert(address))
    }
}

/// What is counted of a sender.
#[derive(Debug, Default)]
struct SenderCounts {
    received: Count,
    refused: Count,
    /// Events that were no decoder's format at all.
    unreadable: Count,
    /// When the last sampled event came, and how much later than that its own time is: ms.
    skew: Cell<Option<(i64, i64)>>,
}

/// What is counted of a source.
#[derive(Debug)]
pub struct SourceCounts {
    /// Messages as they came, before unwrapping; of a stream, its frames.
    pub messages: Count,
    /// Events that were journaled.
    received: Count,
    /// Frames that were cut because they were too long.
    pub cut: Count,
    /// Datagrams that the kernel dropped.
    pub kernel_drops: Count,
    /// Events about which the plan has decided who gets them.
    pub decided: Count,
    /// Those of them that a transform dropped.
    pub dropped: Count,
    /// Events that are journaled and not decided about: measured, up and down.
    in_work: Count,
    handed_out: Count,
    handed_in: Count,
    senders: RefCell<HashMap<SenderName, Rc<SenderCounts>, RandomState>>,
    last: RefCell<(SenderName, Rc<SenderCounts>)>,
    names: Arc<Names>,
}

impl SourceCounts {
    fn new(names: Arc<Names>) -> Self {
        let local: Rc<SenderCounts> = Rc::default();
        Self {
            messages: Count::default(),
            received: Count::default(),
            cut: Count::default(),
            kernel_drops: Count::default(),
            decided: Count::default(),
            dropped: Count::default(),
            in_work: Count::default(),
            handed_out: Count::default(),
            handed_in: Count::default(),
            senders: RefCell::new(std::iter::once((SenderName::Local, local.clone())).collect()),
            last: RefCell::new((SenderName::Local, local)),
            names,
        }
    }

    fn sender(&self, peer: Option<IpAddr>) -> Rc<SenderCounts> {
        let name = peer.map_or(SenderName::Local, SenderName::Address);
        let mut last = self.last.borrow_mut();
        if last.0 != name {
            *last = (name, self.look_up(name));
        }
        last.1.clone()
    }

    fn look_up(&self, name: SenderName) -> Rc<SenderCounts> {
        let mut senders = self.senders.borrow_mut();
        if let Some(counts) = senders.get(&name) {
            return counts.clone();
        }
        let name = match name {
            SenderName::Address(address) if !self.names.admits(address) => SenderName::Other,
            name => name,
        };
        senders.entry(name).or_default().clone()
    }

    /// Counts a chunk that was journaled; what is returned says that it is in work, until it is dropped.
    fn received(self: &Rc<Self>, chunk: &Chunk) -> InWork {
        let frames = chunk.frames().len() as u64;
        self.received.add(frames);
        for (frames, peer) in runs(chunk) {
            self.sender(peer).received.add(frames.len() as u64);
        }
        InWork::new(self.clone(), frames)
    }

    /// Notes what decoding has found about the senders of a chunk: how far off the clock of each is, by the first event
    /// of each run, and the rows, ascending, that no decoder could read.
    pub fn decoded(&self, chunk: &Chunk, time_ms: impl Fn(usize) -> i64, unreadable: &[u32]) {
        for (frames, peer) in runs(chunk) {
            let sender = self.sender(peer);
            sender.skew.set(Some((chunk.received_ms, time_ms(frames.start).saturating_sub(chunk.received_ms))));
            let before = |end: usize| unreadable.partition_point(|row| (*row as usize) < end);
            sender.unreadable.add((before(frames.end) - before(frames.start)) as u64);
        }
    }

    /// Counts something that was refused of a sender.
    pub fn refused(&self, peer: IpAddr) {
        self.sender(Some(peer)).refused.add(1);
    }

    fn data(&self) -> SourceData {
        let senders = self.senders.borrow();
        let sender = |(name, counts): (&SenderName, &Rc<SenderCounts>)| SenderData {
            name: *name,
            received: counts.received.value(),
            refused: counts.refused.value(),
            unreadable: counts.unreadable.value(),
            skew: counts.skew.get(),
        };
        SourceData {
            messages: self.messages.value(),
            received: self.received.value(),
            cut: self.cut.value(),
            kernel_drops: self.kernel_drops.value(),
            decided: self.decided.value(),
            dropped: self.dropped.value(),
            in_work: self.in_work.value(),
            between: self.handed_out.value() as i64 - self.handed_in.value() as i64,
            senders: senders.iter().map(sender).collect(),
        }
    }
}

/// The frames of a chunk by sender; none is empty.
fn runs(chunk: &Chunk) -> impl Iterator<Item = (Range<usize>, Option<IpAddr>)> {
    let (frames, peers) = (chunk.frames().len(), chunk.peers());
    let start = move |index: usize| peers.get(index).map_or(frames, |(first, _)| (*first as usize).min(frames));
    let named = peers.iter().enumerate().map(move |(index, (_, peer))| (start(index)..start(index + 1), Some(*peer)));
    std::iter::once((0..start(0), None)).chain(named).filter(|(frames, _)| !frames.is_empty())
}

/// Events of a chunk that are journaled and not decided about.
#[derive(Debug)]
pub struct InWork {
    source: Rc<SourceCounts>,
    events: u64,
}

impl InWork {
    fn new(source: Rc<SourceCounts>, events: u64) -> Self {
        source.in_work.add(events);
        Self { source, events }
    }

    /// Another shard has the chunk now.
    pub fn handed_over(self) {
        self.source.handed_out.add(self.events);
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.source.in_work.sub(self.events);
    }
}

/// What is counted of events, or of alerts, on their way to a destination.
#[derive(Debug, Default)]
pub struct FlowCounts {
    /// The plan sends them there.
    pub routed: Count,
    /// An earlier run had journaled them, and they are on their way again.
    pub recovered: Count,
    /// The destination has confirmed them.
    pub delivered: Count,
    /// They are in the dead letters.
    pub dead: Count,
    /// They are alerts of rules that were gone when they were taken up.
    pub gone: Count,
    /// They were dropped since the journal was full.
    pub journal_full: Count,
    /// The destination is behind: the journal has them for later.
    pub deferred: Count,
    /// They were, and are taken up by this shard.
    pub resumed: Count,
    /// They are in batches that are not done with: measured, up and down.
    waiting: Count,
}

impl FlowCounts {
    /// Counts what the journal has dropped: what this run had left to it, and what an earlier one had.
    pub fn dropped_full(&self, deferred: u64, earlier: u64) {
        self.resumed.add(deferred);
        self.recovered.add(earlier);
        self.journal_full.add(deferred + earlier);
    }

    fn data(&self) -> FlowData {
        let Self { routed, recovered, delivered, dead, gone, journal_full, deferred, resumed, waiting } = self;
        FlowData {
            gone: gone.value(),
            journal_full: journal_full.value(),
            deferred: deferred.value() as i64 - resumed.value() as i64,
            routed: routed.value(),
            recovered: recovered.value(),
            delivered: delivered.value(),
            dead: dead.value(),
            waiting: waiting.value(),
        }
    }
}

/// What is counted of a destination.
#[derive(Debug, Default)]
pub struct DestinationCounts {
    /// Events about which was decided whether it gets them; those that a transform dropped are not among them.
    pub offered: Count,
    /// Events that no route sends there.
    pub filtered: Count,
    /// Events and alerts in attempts behind the first one.
    pub resent: Count,
    /// Events that came in.
    pub events: FlowCounts,
    /// Alerts about them.
    pub alerts: FlowCounts,
}

/// The items of a batch: they wait for as long as this lives.
#[derive(Debug, Default)]
pub struct Waiting {
    counts: Rc<DestinationCounts>,
    events: u64,
    alerts: u64,
}

impl Waiting {
    /// Nothing so far.
    pub fn new(counts: Rc<DestinationCounts>) -> Self {
        Self { counts, events: 0, alerts: 0 }
    }

    /// Adds items.
    pub fn add(&mut self, events: u64, alerts: u64) {
        self.events += events;
        self.alerts += alerts;
        self.counts.events.waiting.add(events);
        self.counts.alerts.waiting.add(alerts);
    }

    /// Some of them, on their own.
    #[must_use]
    pub fn part(&self, events: u64, alerts: u64) -> Self {
        let mut part = Self::new(self.counts.clone());
        part.add(events, alerts);
        part
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.counts.events.waiting.sub(self.events);
        self.counts.alerts.waiting.sub(self.alerts);
    }
}

/// The counts of one shard.
#[derive(Debug, Default)]
pub struct Page {
    /// By index in the plan.
    sources: Vec<Rc<SourceCounts>>,
    /// By index in the plan.
    destinations: Vec<Rc<DestinationCounts>>,
}

impl Page {
    /// A page for sources with these names of senders, and for so many destinations.
    pub fn new(names: &[Arc<Names>], destinations: usize) -> Rc<Self> {
        let sources = names.iter().map(|names| Rc::new(SourceCounts::new(names.clone()))).collect();
        Rc::new(Self { sources, destinations: (0..destinations).map(|_| Rc::default()).collect() })
    }

    /// The counts of a source.
    pub fn source(&self, index: usize) -> Option<&Rc<SourceCounts>> {
        self.sources.get(index)
    }

    /// The counts of a destination.
    pub fn destination(&self, index: usize) -> Rc<DestinationCounts> {
        self.destinations.get(index).cloned().unwrap_or_default()
    }

    /// Counts a chunk that was journaled.
    pub fn received(&self, chunk: &Chunk) -> Option<InWork> {
        Some(self.source(usize::from(chunk.sender.source_index))?.received(chunk))
    }

    /// Counts a chunk that another shard has handed over.
    pub fn taken(&self, chunk: &Chunk) -> Option<InWork> {
        let source = self.source(usize::from(chunk.sender.source_index))?;
        let events = chunk.frames().len() as u64;
        source.handed_in.add(events);
        Some(InWork::new(source.clone(), events))
    }

    /// What it says now.
    pub fn data(&self) -> PageData {
        let destination = |counts: &Rc<DestinationCounts>| DestinationData {
            offered: counts.offered.value(),
            filtered: counts.filtered.value(),
            resent: counts.resent.value(),
            events: counts.events.data(),
            alerts: counts.alerts.data(),
        };
        PageData {
            sources: self.sources.iter().map(|source| source.data()).collect(),
            destinations: self.destinations.iter().map(destination).collect(),
            is_held_back: false,
        }
    }
}

/// A copy of a [`Page`], for other threads.
#[derive(Clone, Debug, Default)]
pub struct PageData {
    pub(super) sources: Vec<SourceData>,
    pub(super) destinations: Vec<DestinationData>,
    /// Whether senders are held back.
    pub is_held_back: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct SourceData {
    pub(super) messages: u64,
    pub(super) received: u64,
    pub(super) cut: u64,
    pub(super) kernel_drops: u64,
    pub(super) decided: u64,
    pub(super) dropped: u64,
    pub(super) in_work: u64,
    pub(super) between: i64,
    pub(super) senders: Vec<SenderData>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct SenderData {
    pub(super) name: SenderName,
    pub(super) received: u64,
    pub(super) refused: u64,
    pub(super) unreadable: u64,
    pub(super) skew: Option<(i64, i64)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct DestinationData {
    pub(super) offered: u64,
    pub(super) filtered: u64,
    pub(super) resent: u64,
    pub(super) events: FlowData,
    pub(super) alerts: FlowData,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlowData {
    pub(super) routed: u64,
    pub(super) recovered: u64,
    pub(super) delivered: u64,
    pub(super) dead: u64,
    pub(super) gone: u64,
    pub(super) journal_full: u64,
    /// Of all shards together: one defers, another one takes up.
    pub(super) deferred: i64,
    pub(super) waiting: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Sender, Span};

    fn chunk(frames: usize, peers: Vec<(u32, IpAddr)>) -> Chunk {
        let sender = Arc::new(Sender { source: "fw".into(), source_index: 0 });
        Chunk::new(vec![b'x'; frames], (0..frames).map(|at| Span::new(at, at + 1)).collect(), sender, 0).with_peers(peers)
    }

    fn names(known: &[IpAddr], left: usize) -> Arc<Names> {
        Arc::new(Names { known: RwLock::new(known.iter().copied().collect()), max: known.len() + left })
    }

    fn page(known: &[IpAddr], left: usize) -> Rc<Page> {
        Page::new(&[names(known, left)], 1)
    }

    fn senders(page: &Page) -> Vec<String> {
        let mut senders: Vec<String> = page.data().sources[0]
            .senders
            .iter()
            .filter(|sender| sender.received + sender.refused > 0)
            .map(|SenderData { name, received, refused, .. }| format!("{name} {received} {refused}"))
            .collect();
        senders.sort();
        senders
    }

    #[test]
    fn runs_of_senders_are_counted_and_those_beyond_the_cap_together() {
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let page = page(&[address(9)], 1);
        let runs = vec![(1, address(1)), (3, address(2)), (4, address(3)), (5, address(9)), (6, address(1)), (8, address(1))];
        drop(page.received(&chunk(8, runs)));
        drop(page.received(&chunk(2, Vec::new())));
        page.source(0).unwrap().refused(address(7));
        assert_eq!(senders(&page), ["- 3 0", "192.0.2.1 4 0", "192.0.2.9 1 0", "other 2 1"]);
        let data = &page.data().sources[0];
        assert_eq!((data.received, data.in_work, data.senders.iter().map(|sender| sender.received).sum::<u64>()), (10, 0, 10));
    }

    #[test]
    fn a_sender_has_its_name_on_every_shard_and_takes_one_place() {
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let names = names(&[], 2);
        let shards = [(); 2].map(|()| Page::new(std::slice::from_ref(&names), 1));
        for page in &shards {
            drop(page.received(&chunk(3, vec![(0, address(1)), (1, address(2)), (2, address(3))])));
            assert_eq!(senders(page), ["192.0.2.1 1 0", "192.0.2.2 1 0", "other 1 0"]);
        }
    }

    #[test]
    fn the_clock_and_the_unreadable_events_of_each_sender_are_noted() {
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let page = page(&[], 9);
        let mut chunk = chunk(6, vec![(1, address(1)), (3, address(2)), (9, address(3))]);
        chunk.received_ms = 1_000;
        page.source(0).unwrap().decoded(&chunk, |row| row as i64 * 100, &[1, 2, 5]);
        let mut noted: Vec<_> =
            page.data().sources[0].senders.iter().map(|sender| (sender.name.to_string(), sender.unreadable, sender.skew)).collect();
        noted.sort();
        let expected = [("-", 0, -1_000), ("192.0.2.1", 2, -900), ("192.0.2.2", 1, -700)];
        assert_eq!(noted, expected.map(|(name, unreadable, ms)| (name.to_owned(), unreadable, Some((1_000, ms)))));
    }

    #[test]
    fn what_is_in_work_or_waits_is_measured_for_as_long_as_it_is() {
        let page = page(&[], 1);
        let first = page.received(&chunk(5, Vec::new())).unwrap();
        let second = page.received(&chunk(2, Vec::new())).unwrap();
        assert_eq!(page.data().sources[0].in_work, 7);
        first.handed_over();
        let taken = page.taken(&chunk(5, Vec::new())).unwrap();
        let data = page.data();
        assert_eq!((data.sources[0].in_work, data.sources[0].between), (7, 0));
        drop((second, taken));
        assert_eq!(page.data().sources[0].in_work, 0);

        let mut waiting = Waiting::new(page.destination(0));
        waiting.add(5, 1);
        let part = waiting.part(2, 1);
        drop(waiting);
        let data = page.data();
        assert_eq!((data.destinations[0].events.waiting, data.destinations[0].alerts.waiting), (2, 1));
        drop(part);
        assert_eq!(page.data().destinations[0].events.waiting, 0);
    }
}
