//! The ledger: what became of every event that came in, kept across restarts.
//!
//! In: counts that are made where something happens ([`Page`], one for each shard). Out: a [`Book`], in which what came
//! in equals what went out, what waits and what was dropped; each term is counted for itself, so that an event that is
//! lost on the way unbalances it. `<data_dir>/ledger` keeps it ([`Store`]): every [`WRITE_INTERVAL`] and at the end.
//!
//! After `kill -9` the file is at most [`WRITE_INTERVAL`] and [`PUBLISH_INTERVAL`] old, and it balances, since a shard
//! gives its counts away between two pieces of work only. What came in or was delivered in these last seconds is in no
//! column. What the file says was on its way is then `left`. With a journal on disk, what is taken up from it is
//! `recovered`, a column of its own: `left` and `recovered` are equal after a clean stop, and differ after a kill by what
//! the last seconds changed. With a journal in memory it is `dropped` as `lost_with_the_process`.

mod book;
mod page;
mod sighting;
mod store;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use book::{Book, Destination, Flow, JOURNAL_FULL, LOST, Sender, Source};
pub use page::{Count, DestinationCounts, FlowCounts, InWork, Names, Page, PageData, SENDERS_MAX, SenderName, SourceCounts, Waiting};
pub use sighting::{Sighting, Sightings};
pub use store::Store;

use crate::clock;
use crate::config::Interval;
use crate::error::{Error, ErrorKind};
use crate::metrics::{Family, REFUSED, Registry, UNWRAP};

/// How often a shard gives its counts away: often enough that a person sees them move.
pub const PUBLISH_INTERVAL: Duration = Duration::from_millis(250);

/// How often the file is written: so much is not in it after a kill.
pub const WRITE_INTERVAL: Duration = Duration::from_secs(2);

/// The ledger of a process.
#[derive(Debug)]
pub struct Ledger {
    base: Book,
    pages: Mutex<Vec<PageData>>,
    sources: Vec<String>,
    destinations: Vec<String>,
    names: Vec<Arc<Names>>,
    registry: Registry,
    store: Store,
    written: Mutex<Option<Book>>,
}

impl Ledger {
    /// Goes on with the ledger below a data folder. One that cannot be read is put aside: events matter more.
    pub fn open(data_dir: &Path, (sources, destinations): (Vec<String>, Vec<String>), is_durable: bool, registry: Registry) -> Arc<Self> {
        let store = Store::new(data_dir);
        let base = store.read().unwrap_or_else(|error| {
            let aside = store.set_aside().err().map(|error| error.to_string());
            tracing::error!(%error, aside, folder = %store.folder().display(), "the ledger cannot be read; a new one is begun");
            None
        });
        let now_ms = clock::now_ms();
        let base = base.unwrap_or_else(|| Book { since_ms: now_ms, ..Book::default() });
        Self::begun(Book { is_durable, at_ms: now_ms, ..base.carried() }, (sources, destinations), data_dir, registry)
    }

    /// Goes on with a book, in which nothing is on its way. Nobody writes it down who does not say so.
    pub fn begun(base: Book, (sources, destinations): (Vec<String>, Vec<String>), data_dir: &Path, registry: Registry) -> Arc<Self> {
        let store = Store::new(data_dir);
        let known = |name: &String| {
            let senders = base.sources.get(name).into_iter().flat_map(|source| source.senders.keys());
            Arc::new(Names::new(senders.filter_map(|sender| sender.parse().ok()).collect::<HashSet<_>>()))
        };
        let names = sources.iter().map(known).collect();
        Arc::new(Self { names, base, pages: Mutex::default(), sources, destinations, registry, store, written: Mutex::default() })
    }

    /// A page for one more shard.
    pub fn page(&self) -> std::rc::Rc<Page> {
        Page::new(&self.names, self.destinations.len())
    }

    /// Takes what a shard has counted so far.
    pub fn publish(&self, shard: usize, data: PageData) {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() <= shard {
            pages.resize_with(shard + 1, PageData::default);
        }
        pages[shard] = data;
    }

    /// Everything that was counted, as of the last time that the shards gave it away.
    pub fn book(&self) -> Book {
        let mut book = Book { at_ms: clock::now_ms(), ..self.base.clone() };
        // What was never used is there as well: nothing is an answer.
        for name in &self.sources {
            book.sources.entry(name.clone()).or_default();
        }
        for name in &self.destinations {
            book.destinations.entry(name.clone()).or_default();
        }
        for page in &*self.pages.lock().unwrap_or_else(PoisonError::into_inner) {
            book.add(page, &self.sources, &self.destinations);
        }
        for (family, is_refusal) in [(&REFUSED, true), (&UNWRAP, false)] {
            for (name, reason, count) in self.reasons(family) {
                let source = book.sources.entry(name).or_default();
                let counts = if is_refusal { &mut source.refused } else { &mut source.unwrap };
                *counts.entry(reason).or_default() += count;
            }
        }
        book
    }

    /// What was seen of the senders in this run, by source; those without a name are left out.
    pub fn sightings(&self) -> Sightings {
        let mut sources: Vec<HashMap<SenderName, Sighting>> = vec![HashMap::new(); self.sources.len()];
        let pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        for (source, data) in pages.iter().flat_map(|page| page.sources.iter().map(|source| &source.senders).enumerate()) {
            let Some(senders) = sources.get_mut(source) else { continue };
            for sender in data.iter().filter(|sender| sender.name != SenderName::Other) {
                let sighting = senders.entry(sender.name).or_default();
                sighting.received += sender.received;
                sighting.unreadable += sender.unreadable;
                // Of the shard that has decoded the latest.
                sighting.skew = sighting.skew.max(sender.skew);
            }
        }
        let is_held_back = pages.iter().any(|page| page.is_held_back);
        Sightings { sources: self.sources.iter().cloned().zip(sources).collect(), is_held_back }
    }

    /// The series of a family that has the labels `component_id` and `reason`.
    fn reasons(&self, family: &'static Family) -> impl Iterator<Item = (String, String, u64)> + use<> {
        let series = self.registry.list(family).into_iter().filter(|(_, count)| *count > 0);
        series.filter_map(|(labels, count)| {
            let label = |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
            Some((label("component_id")?, label("reason")?, count))
        })
    }

    /// What was counted since about a time: since the last state that was kept before it.
    ///
    /// # Errors
    /// That state cannot be read.
    pub fn since(&self, at_ms: i64) -> Result<Book, Error> {
        period(self.book(), &self.store, at_ms)
    }

    /// Writes it down, if anything was counted since the last time.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn write(&self) -> Result<(), Error> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Storage, "write the ledger", error.to_string()).with("folder", self.store.folder().display())
        };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let book = self.book();
        if written.as_ref().is_some_and(|last| Book { at_ms: last.at_ms, ..book.clone() } == *last) {
            return Ok(());
        }
        self.store.write(&book).map_err(failed)?;
        *written = Some(book);
        Ok(())
    }
}

/// The time that a person means: RFC 3339, or how long ago.
///
/// # Errors
/// What would be understood.
pub fn time(text: &str) -> Result<i64, String> {
    if let Some(at_ms) = clock::rfc3339_ms(text.as_bytes()) {
        return Ok(at_ms);
    }
    let Ok(ago) = text.parse::<Interval>() else {
        return Err(format!("`{text}` is not a time; expected one such as `2026-11-22T06:00:00Z`, or `2h` for two hours ago"));
    };
    Ok(clock::now_ms() - i64::try_from(ago.0.as_millis()).unwrap_or(0))
}

/// What a book has counted since about a time.
///
/// # Errors
/// The state of that time cannot be read.
pub fn period(book: Book, store: &Store, at_ms: i64) -> Result<Book, Error> {
    if at_ms <= book.since_ms {
        return Ok(book);
    }
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Storage, "read the ledger", error.to_string()).with("folder", store.folder().display())
    };
    Ok(match store.before(at_ms).map_err(failed)? {
        Some(earlier) => book.since(&earlier),
        None => book,
    })
}

/// The thread that writes the ledger down.
#[derive(Debug)]
pub struct Writer {
    ledger: Arc<Ledger>,
    end: Arc<(Mutex<bool>, Condvar)>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts it.
    ///
    /// # Errors
    /// There is no thread left.
    pub fn start(ledger: Arc<Ledger>) -> Result<Self, Error> {
        let end: Arc<(Mutex<bool>, Condvar)> = Arc::default();
        let (own, shared) = (ledger.clone(), end.clone());
        let run = move || {
            let (lock, condition) = &*shared;
            let mut is_over = lock.lock().unwrap_or_else(PoisonError::into_inner);
            while !*is_over {
                is_over = condition.wait_timeout(is_over, WRITE_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
                if !*is_over {
                    own.write().unwrap_or_else(|error| tracing::warn!(%error, "the ledger is not written down; trying again"));
                }
            }
        };
        let thread = std::thread::Builder::new().name("hydrant-ledger".into()).spawn(run);
        let thread = thread.map_err(|error| Error::new(ErrorKind::Unexpected, "start the ledger", "no thread").because(error))?;
        Ok(Self { ledger, end, thread })
    }

    /// Writes it down for the last time, when all shards have given away what they counted.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn close(self) -> Result<(), Error> {
        *self.end.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.end.1.notify_all();
        if self.thread.join().is_err() {
            tracing::error!("the writer of the ledger panicked");
        }
        self.ledger.write()
    }
}
