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

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;

use crate::batch::{Batching, Items, Sealed};
use crate::config::Section;
use crate::encode::body::Context;
use crate::error::{Diagnostics, Error};
use crate::event::{Chunk, Events};
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
    /// Whether its bodies carry what enrichment and transforms add. If no sink's do, only what a rule, a route
    /// or [`Self::wants`] names is looked up.
    fn writes_added(&self) -> bool {
        true
    }
    /// An encoder for the events of one decoder, for one shard.
    fn encoder(&self, context: &Context) -> Box<dyn Encoder>;
    /// How batches leave, for one shard.
    ///
    /// # Errors
    /// Certificates or files that cannot be read.
    fn transport(&self) -> Result<Transport, Error>;
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

/// Turns events into items. One per shard, sink and decoder; called once per chunk.
pub trait Encoder {
    /// Appends exactly one item per selected row, in order.
    fn encode(&mut self, selection: Selection<'_>, items: &mut Items);
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
