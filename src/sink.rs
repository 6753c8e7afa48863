//! Destinations: `events -> items of a batch -> requests; answers -> outcome`.
//!
//! A sink is pure. Its [`Encoder`] turns selected events into items; its [`Exchange`] is a state machine that
//! is fed answers and says what to send next. All I/O, retry, backoff, concurrency, dead letters and metrics
//! belong to `deliver`, once for all sinks, so golden tests need no server. A sink with a client of its own
//! (S3 by the AWS SDK, a file) implements [`Client`] instead, which `deliver` drives in the same way.
//!
//! Never: decide to drop, count, sleep, retry. To add one: a file with a `SinkKind` and its two lines in
//! [`SINKS`].

mod splunk_hec;

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;

use crate::config::Section;
use crate::encode::compress::Codec;
use crate::encode::body::Context;
use crate::error::{Diagnostics, Error};
use crate::event::{Acknowledgement, Chunk, Events, Members};
use crate::net::http_client::{Answer, ClientOptions};
use crate::task::LocalFuture;

/// Every sink.
pub static SINKS: &[&dyn SinkKind] = &[&splunk_hec::SplunkHec];

/// A kind of sink.
pub trait SinkKind: Sync {
    /// File name, `type:` in the configuration, metric label.
    fn name(&self) -> &'static str;
    /// A commented sample section; parsed by a test, shown in the documentation.
    fn sample(&self) -> &'static str;
    /// Reads a section; opens nothing.
    ///
    /// # Errors
    /// Every mistake in it.
    fn read(&self, section: &Section) -> Result<Box<dyn Sink>, Diagnostics>;
}

/// A configured sink, shared by all shards.
pub trait Sink: Send + Sync {
    /// How its batches are cut and compressed.
    fn batching(&self) -> Batching;
    /// Fields that its bodies want of a decoder that can fill `canonical` (ECS names).
    fn wants(&self, canonical: &[String]) -> Vec<String>;
    /// An encoder for the events of one decoder, for one shard.
    fn encoder(&self, context: &Context) -> Box<dyn Encoder>;
    /// How batches leave, for one shard.
    ///
    /// # Errors
    /// Certificates or files that cannot be read.
    fn transport(&self) -> Result<Transport, Error>;
}

/// How batches are cut.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Sealed before it would exceed this many bytes, before compression.
    pub bytes_max: usize,
    /// Sealed at this many items.
    pub items_max: usize,
    /// Longer items go to the dead letters instead of failing a whole batch.
    pub item_bytes_max: usize,
    /// Sealed this long after its first item.
    pub interval: Duration,
    /// How it is compressed.
    pub codec: Codec,
    /// Bytes before the first item.
    pub head: &'static [u8],
    /// Bytes between items.
    pub separator: &'static [u8],
    /// Bytes behind the last item.
    pub tail: &'static [u8],
}

/// Some events of a chunk, for one sink.
#[derive(Clone, Copy)]
pub struct Selection<'a> {
    /// The chunk.
    pub chunk: &'a Chunk,
    /// Its decoded rows, alerts behind the events.
    pub events: &'a Events,
    /// The selected rows, ascending.
    pub rows: &'a [u32],
}

/// Encoded items, one after the other, the sink's separator before each.
#[derive(Debug, Default)]
pub struct Items {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// For each: where its bytes end.
    pub ends: Vec<u32>,
    separator: &'static [u8],
}

impl Items {
    /// Forgets them, keeps the memory.
    pub fn clear(&mut self, separator: &'static [u8]) {
        self.bytes.clear();
        self.ends.clear();
        self.separator = separator;
    }

    /// Adds the item that `write` appends.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(self.separator);
        write(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Where item `index` begins, its separator included.
    pub fn start(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize)
    }
}

/// Turns events into items. One per shard, sink and decoder; called once per chunk.
pub trait Encoder {
    /// Appends exactly one item per selected row, in order.
    fn encode(&mut self, selection: Selection<'_>, items: &mut Items);
}

/// One item of a sealed batch.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Where its bytes end in the uncompressed body, head and separators included.
    pub end: u32,
    /// The chunk, as an index into the batch's members.
    pub member: u32,
    /// The frame in the chunk; alerts have that of their event.
    pub frame: u32,
    /// Whether it is an alert: derived, so not part of the members' sets.
    pub is_alert: bool,
}

/// A batch that will not change any more.
#[derive(Debug)]
pub struct Sealed {
    /// The same for every attempt, also after a restart; names of objects are derived from it.
    pub id: u128,
    /// The compressed body.
    pub body: Bytes,
    /// How it is compressed.
    pub codec: Codec,
    /// Length before compression.
    pub plain_bytes: usize,
    /// The items.
    pub items: Vec<Item>,
    /// The events behind them.
    pub members: Vec<Members>,
    /// Arrival of the oldest event, ms since 1970 UTC.
    pub oldest_ms: i64,
    /// Told when the batch is done with.
    pub acknowledgements: Vec<Acknowledgement>,
    /// Peer of the first event, for dead letters.
    pub peer: Option<IpAddr>,
}

/// How batches leave.
pub enum Transport {
    /// By HTTP: `deliver` sends what the exchange says.
    Http(Rc<dyn Http>, ClientOptions),
    /// By a client of the sink's own.
    Client(Rc<dyn Client>),
}

/// A sink that speaks HTTP.
pub trait Http {
    /// Begins the exchange of one batch.
    fn begin(&self, batch: &Sealed) -> Box<dyn Exchange>;
}

/// A sink with a client of its own.
pub trait Client {
    /// Tries to deliver a batch once.
    fn write<'a>(&'a self, batch: &'a Sealed) -> LocalFuture<'a, Step>;
}

/// The dialogue about one batch.
pub trait Exchange {
    /// What to do next; `answer` is what the last request got, `None` at the beginning and after a wait.
    fn next(&mut self, answer: Option<&Answer>) -> Step;
}

/// What an exchange wants.
#[derive(Debug)]
pub enum Step {
    /// Send this and come back with the answer.
    Send(Request<Bytes>),
    /// Come back after this long.
    Wait(Duration),
    /// Everything arrived.
    Stored,
    /// Nothing arrived for sure; the same batch may be sent again, not before this long if given.
    Retry(String, Option<Duration>),
    /// The destination will never take the batch as it is. One item: a dead letter; more: it is split.
    Rejected(String),
    /// Some items did not arrive, all others did.
    Partly {
        /// Items to be sent again.
        retry: Vec<u32>,
        /// Items that will never be taken, with the reason.
        rejected: Vec<(u32, String)>,
    },
    /// Nothing will arrive until a person acts (wrong token, missing index): hold the destination.
    Hold(String),
}
