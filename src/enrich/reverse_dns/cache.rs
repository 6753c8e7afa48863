//! Names by address, in memory, read by shards that wait neither for each other nor for whoever writes.
//!
//! The addresses are spread over [`SEGMENTS`] sorted arrays, each exchanged as a whole ([`Published`]). A look-up is one
//! atomic load and a binary search in memory that nobody writes to; only where a segment was exchanged since the shard's
//! last look does it take that segment's lock, which is held for the exchange of a pointer. So no shard waits behind a
//! writer that is at work, and there is no unsafe code. The one writer pays: it copies a segment, some kilobytes, for every
//! answer of a name server.
//!
//! Bounds: so many addresses and bytes over all segments, a share for each. Who is too much is forgotten first where it has
//! expired, then where it would expire next. A shard that has no events keeps the state of a segment that it has seen last.
//!
//! Times are milliseconds since the cache was made, of a clock that nobody sets.

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

use crate::enrich::watch::{Handle, Published};

/// Arrays; at the default size each has at most 256 addresses.
pub(super) const SEGMENTS: usize = 256;

/// For how long a name is used behind its time while it is asked for anew, so that it does not come and go. RFC 8767 allows days.
const STALE: Duration = Duration::from_secs(60);

/// What an address takes beside the bytes of its name: the entry, and what counts the name's users.
const ENTRY_BYTES: usize = size_of::<Entry>() + 16;

/// An address and what is known of it.
#[derive(Clone, Debug)]
struct Entry {
    key: u128,
    /// `None`: it is known that there is none, or that nothing can be known now.
    name: Option<Arc<str>>,
    fresh_until_ms: u64,
    usable_until_ms: u64,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.name.as_ref().map_or(0, |name| name.len())
    }
}

/// Sorted by key.
type Segment = Vec<Entry>;

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known<'a> {
    /// Its name, if it has one.
    pub(super) name: Option<&'a str>,
    /// Whether it need not be asked for.
    pub(super) is_fresh: bool,
}

/// What was learned of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// A name, or that there is none.
    Answer(Option<String>, Duration),
    /// Nothing; not to be asked again so soon. A name that is still usable stays.
    Nothing(Duration),
}

/// All addresses.
pub(super) struct Cache {
    segments: Vec<Arc<Published<Segment>>>,
    hasher: RandomState,
    /// For a segment.
    entries_max: usize,
    bytes_max: usize,
    began: Instant,
}

/// How an insertion changed the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Addresses more or less.
    pub(super) entries: isize,
    /// Addresses that were forgotten for want of room though they had not expired.
    pub(super) evicted: u64,
}

impl Cache {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            segments: (0..SEGMENTS).map(|_| Arc::default()).collect(),
            hasher: RandomState::default(),
            entries_max: (entries_max / SEGMENTS).max(1),
            bytes_max: bytes_max / SEGMENTS,
            began: Instant::now(),
        })
    }

    /// The time by which it goes.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A reader for one shard.
    pub(super) fn reader(self: &Arc<Self>) -> Reader {
        Reader { segments: self.segments.iter().map(Published::handle).collect(), cache: self.clone() }
    }

    /// Notes what was learned. For one caller at a time.
    pub(super) fn insert(&self, address: IpAddr, learned: Learned, now_ms: u64) -> Change {
        let key = key(address);
        let Some(published) = self.segments.get(self.segment(key)) else { return Change::default() };
        let old = published.newest();
        let old: &[Entry] = old.as_deref().map_or(&[], Vec::as_slice);
        let before = old.binary_search_by_key(&key, |entry| entry.key).ok().and_then(|at| old.get(at));
        let new = entry(key, learned, before, now_ms);
        let mut segment: Segment = Vec::with_capacity(old.len() + 1);
        segment.extend(old.iter().filter(|entry| entry.key != key && entry.usable_until_ms > now_ms).cloned());
        let evicted = self.make_room(&mut segment, new.bytes());
        let at = segment.partition_point(|entry| entry.key < key);
        segment.insert(at, new);
        let change = Change { entries: segment.len() as isize - old.len() as isize, evicted };
        published.put(segment);
        change
    }

    /// Forgets who expires next until there is room for one more entry of so many bytes.
    fn make_room(&self, segment: &mut Segment, bytes: usize) -> u64 {
        let mut used: usize = segment.iter().map(Entry::bytes).sum();
        let mut evicted = 0;
        while segment.len() >= self.entries_max || used + bytes > self.bytes_max {
            let next = segment.iter().enumerate().min_by_key(|(_, entry)| entry.fresh_until_ms).map(|(at, _)| at);
            let Some(at) = next else { break };
            used -= segment.remove(at).bytes();
            evicted += 1;
        }
        evicted
    }

    /// By the hash's low bits, which the faster kind of it does not spread with every seed.
    fn segment(&self, key: u128) -> usize {
        self.hasher.hash_one(key) as usize % SEGMENTS
    }
}

fn entry(key: u128, learned: Learned, before: Option<&Entry>, now_ms: u64) -> Entry {
    let after = |wait: Duration| now_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    match learned {
        Learned::Answer(name, ttl) => {
            let stale = if name.is_some() { STALE } else { Duration::ZERO };
            Entry { key, name: name.map(Arc::from), fresh_until_ms: after(ttl), usable_until_ms: after(ttl + stale) }
        }
        Learned::Nothing(wait) => match before.filter(|before| before.name.is_some() && before.usable_until_ms > now_ms) {
            Some(before) => Entry { fresh_until_ms: after(wait).min(before.usable_until_ms), ..before.clone() },
            None => Entry { key, name: None, fresh_until_ms: after(wait), usable_until_ms: after(wait) },
        },
    }
}

/// An address as a number; IPv4 as IPv6 writes it.
pub(super) fn key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The cache as one shard sees it.
pub(super) struct Reader {
    segments: Vec<Handle<Segment>>,
    cache: Arc<Cache>,
}

impl Reader {
    pub(super) fn now_ms(&self) -> u64 {
        self.cache.now_ms()
    }

    /// What is known of an address.
    pub(super) fn find(&mut self, key: u128, now_ms: u64) -> Option<Known<'_>> {
        let segment = self.segments.get_mut(self.cache.segment(key))?.current()?;
        let entry = segment.get(segment.binary_search_by_key(&key, |entry| entry.key).ok()?)?;
        let is_usable = entry.usable_until_ms > now_ms;
        is_usable.then_some(Known { name: entry.name.as_deref(), is_fresh: entry.fresh_until_ms > now_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(n).into()
    }

    fn answer(name: &str, seconds: u64) -> Learned {
        Learned::Answer((!name.is_empty()).then(|| name.to_owned()), Duration::from_secs(seconds))
    }

    fn found(reader: &mut Reader, n: u32, now_ms: u64) -> Option<(Option<String>, bool)> {
        reader.find(key(address(n)), now_ms).map(|known| (known.name.map(str::to_owned), known.is_fresh))
    }

    #[test]
    fn a_name_holds_for_its_time_and_a_minute_more_while_it_is_asked_for() {
        // Two, because what has expired goes when its segment is written, and addresses may share one.
        let [cache, of_absent] = [(); 2].map(|()| Cache::new(1000, 1 << 20));
        let (mut reader, mut absent) = (cache.reader(), of_absent.reader());
        assert_eq!(found(&mut reader, 7, 0), None);
        assert_eq!(cache.insert(address(7), answer("a.example", 10), 0), Change { entries: 1, evicted: 0 });
        of_absent.insert(address(8), answer("", 10), 0);
        let name = Some("a.example".to_owned());
        for (now_ms, seven, eight) in [
            (9_999, Some((name.clone(), true)), Some((None, true))),
            (10_000, Some((name.clone(), false)), None),
            (69_999, Some((name, false)), None),
            (70_000, None, None),
        ] {
            assert_eq!((found(&mut reader, 7, now_ms), found(&mut absent, 8, now_ms)), (seven, eight), "{now_ms}");
        }
        assert_eq!(cache.insert(address(7), answer("b.example", 10), 20_000), Change { entries: 0, evicted: 0 });
        assert_eq!(found(&mut reader, 7, 29_000), Some((Some("b.example".to_owned()), true)));
    }

    #[test]
    fn a_failure_leaves_a_name_that_is_still_usable_and_no_longer() {
        let cache = Cache::new(1000, 1 << 20);
        let mut reader = cache.reader();
        let failure = Learned::Nothing(Duration::from_secs(30));
        cache.insert(address(7), answer("a.example", 10), 0);
        cache.insert(address(7), failure.clone(), 11_000);
        let name = Some("a.example".to_owned());
        assert_eq!(found(&mut reader, 7, 40_000), Some((name.clone(), true)), "it is not asked for all the time");
        assert_eq!(found(&mut reader, 7, 42_000), Some((name, false)));
        cache.insert(address(7), failure.clone(), 60_000);
        assert_eq!(found(&mut reader, 7, 70_000), None, "a minute behind its time it is none");
        cache.insert(address(7), failure, 71_000);
        assert_eq!(found(&mut reader, 7, 100_999), Some((None, true)));
        assert_eq!(found(&mut reader, 7, 101_000), None);
    }

    #[test]
    fn neither_addresses_nor_bytes_grow_past_their_bounds_and_who_expires_next_goes_first() {
        let entries = SEGMENTS * 4;
        let cache = Cache::new(entries, SEGMENTS * 4096);
        let mut held = 0;
        let mut evicted = 0;
        for n in 0..10_000 {
            let change = cache.insert(address(n), answer("host.example", u64::from(n) + 1), 0);
            held += change.entries;
            evicted += change.evicted;
        }
        let mut reader = cache.reader();
        let there = (0..10_000).filter(|n| found(&mut reader, *n, 0).is_some()).count();
        assert_eq!((held as usize, evicted as usize), (there, 10_000 - there));
        assert!((entries * 9 / 10..=entries).contains(&there), "{there}");
        assert!(found(&mut reader, 9_999, 0).is_some() && (0..1000).all(|n| found(&mut reader, n, 0).is_none()));
        let small = Cache::new(100_000, SEGMENTS * 1000);
        let long = "a".repeat(253);
        (0..20_000).for_each(|n| _ = small.insert(address(n), answer(&long, 10), 0));
        let segments = small.segments.iter().map(|segment| segment.newest().unwrap());
        let bytes: Vec<usize> = segments.map(|segment| segment.iter().map(Entry::bytes).sum()).collect();
        assert!(bytes.iter().all(|bytes| (600..=1000).contains(bytes)), "{bytes:?}");
        let change = cache.insert(address(1), answer("host.example", 1), 1_000_000_000);
        assert!(change.entries < 0 && change.evicted == 0, "what has expired makes room by itself: {change:?}");
    }

    #[test]
    fn readers_see_whole_segments_while_one_writes() {
        let cache = Cache::new(SEGMENTS * 8, 1 << 20);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let mut reader = cache.reader();
                scope.spawn(move || {
                    for round in 0..20_000_u32 {
                        let n = round % 500;
                        if let Some((name, _)) = found(&mut reader, n, 0) {
                            assert_eq!(name.unwrap(), format!("{n}.example"));
                        }
                    }
                });
            }
            for n in (0..5_000).map(|n| n % 500) {
                cache.insert(address(n), answer(&format!("{n}.example"), 100), 0);
            }
        });
    }
}
