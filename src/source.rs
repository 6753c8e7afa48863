//! Where bytes come from: `sockets, files, requests -> bytes with their sender`.
//!
//! A source does I/O and its own protocol's acknowledgement, nothing else: it hands bytes to the
//! [`Intake`] of its shard, which frames, journals and processes them. When [`Intake::offer`] or
//! [`Intake::committed`] resolves, the events are durable: only then may a source that acknowledges do so.
//! While [`Intake::submit`] or [`Stream::received`] do not resolve, the source does not read on: that is how
//! pressure reaches the sender.
//!
//! Never: parse events, drop silently, know sinks. One instance runs per shard (or on the first shard only,
//! see [`Source::is_sharded`]), on the shard's thread. To add one: a file with a `SourceKind` and its two
//! lines in [`SOURCES`].

mod aws_firehose;
#[cfg(feature = "aws")]
mod aws_s3;
mod demo;
mod file;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod syslog;

use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::{Budget, Reservation};
use crate::config::Section;
use crate::error::{Diagnostics, Error};
use crate::event::{Origin, Span};
use crate::net::http_server::ServerCounters;
use crate::net::listen::Address;
use crate::task::{LocalFuture, Stop};

/// Every source.
pub static SOURCES: &[&dyn SourceKind] = &[
    &aws_firehose::AwsFirehose,
    #[cfg(feature = "aws")]
    &aws_s3::AwsS3,
    &demo::Demo,
    &file::File,
    &http::Http,
    #[cfg(feature = "kafka")]
    &kafka::Kafka,
    &syslog::Syslog,
];

/// A kind of source.
pub trait SourceKind: Sync {
    /// File name, `type:` in the configuration, metric label.
    fn name(&self) -> &'static str;
    /// A commented sample section; parsed by a test, shown in the documentation.
    fn sample(&self) -> &'static str;
    /// The JSON schema of its section: [`crate::config::schema_of`] its settings.
    fn schema(&self) -> schemars::Schema;
    /// Reads a section; opens nothing.
    ///
    /// # Errors
    /// Every mistake in it.
    fn read(&self, section: &Section) -> Result<Arc<dyn Source>, Diagnostics>;
}

/// A configured source.
pub trait Source: Send + Sync {
    /// The framer that its byte streams use unless the configuration says otherwise.
    fn framing(&self) -> &'static str;
    /// The decoder that it uses unless the configuration says otherwise.
    fn decoder(&self) -> &'static str {
        "auto"
    }
    /// The envelopes that are taken off its messages unless the configuration says otherwise, as the
    /// configuration names them.
    fn unwrap(&self) -> &'static [&'static str] {
        &[]
    }
    /// Addresses that it listens on, for `validate` to find collisions.
    fn listens_on(&self) -> Vec<Address> {
        Vec::new()
    }
    /// How much later than its time an event may come through this source by design: what is delivered in files waits
    /// until one is full. Correlations wait so much longer.
    fn delay(&self) -> Duration {
        Duration::ZERO
    }
    /// Whether an address that sends here is a device, about which it says something that nothing comes from it.
    fn names_devices(&self) -> bool {
        true
    }
    /// Whether every shard runs one; otherwise the first shard does.
    fn is_sharded(&self) -> bool {
        true
    }
    /// Runs until `stop`, or until there is nothing more to read (files, stdin, `demo`).
    fn run(self: Arc<Self>, intake: Rc<dyn Intake>, stop: Stop) -> LocalFuture<'static, Result<(), Error>>;
}

/// Why events were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The memory budget is used up; the sender should try again.
    Busy,
    /// Hydrant stops.
    Stopping,
    /// The journal cannot be written, or a policy dropped the events.
    NotStored,
}

/// Whole messages: datagrams, request bodies, records.
#[derive(Debug, Default)]
pub struct Messages {
    /// One buffer for all of them.
    pub bytes: Vec<u8>,
    /// Each message, ascending; the source's framer splits it further (`whole` keeps it).
    pub spans: Vec<Span>,
    /// Who sent them: each address holds from this message on.
    pub peers: Vec<(u32, IpAddr)>,
    /// What is known of them beside their bytes: each holds from this message on.
    pub origins: Vec<(u32, Arc<Origin>)>,
    /// The framer for these messages, if they say it themselves (Content-Type) and the configuration does not.
    pub framing: Option<&'static str>,
}

/// What a source gives its bytes to; the pipeline implements it, one per shard and source.
pub trait Intake {
    /// Every listener of this source is open. A source that has any says so once, when it begins to read.
    fn opened(&self);
    /// A byte stream: a connection, a file.
    fn stream(&self, peer: Option<IpAddr>) -> Box<dyn Stream> {
        self.stream_from(peer, None)
    }
    /// A byte stream of which something is known beside its bytes.
    fn stream_from(&self, peer: Option<IpAddr>, origin: Option<Arc<Origin>>) -> Box<dyn Stream>;
    /// A byte stream that has an end, such as an object, framed by `framing` unless the configuration says otherwise.
    /// Where the source waits for delivery, [`Stream::finish`] does so for all of it.
    fn object(&self, origin: Arc<Origin>, framing: &'static str) -> Box<dyn Stream>;
    /// Takes messages as one transaction: all of them are given to the journal when it resolves, or none. Waits for
    /// room.
    fn submit(&self, messages: Messages) -> LocalFuture<'_, Result<(), Refused>>;
    /// As [`Intake::submit`], and durable when it resolves, for protocols that refuse rather than wait:
    /// `Refused::Busy` if there is no room now. `held` is what the bytes hold of the budget already. Goes on to its
    /// end although the caller is dropped.
    fn offer(&self, messages: Messages, held: Reservation) -> LocalFuture<'_, Result<(), Refused>>;
    /// Resolves when everything that was given before is durable.
    fn committed(&self) -> LocalFuture<'_, Result<(), Refused>>;
    /// The process's budget for event bytes, for bodies that are still read.
    fn budget(&self) -> Arc<Budget>;
    /// A folder of this source's own for what has to outlive a restart; it may not exist yet.
    fn state_dir(&self) -> PathBuf;
    /// Counters for an HTTP listener.
    fn server_counters(&self) -> ServerCounters;
    /// Counts something refused, by reason.
    fn count_refused(&self, reason: &'static str) {
        self.count_refused_many(reason, 1);
    }
    /// The same, of as many.
    fn count_refused_many(&self, reason: &'static str, count: u64);
    /// The same, of a sender that is known.
    fn count_refused_from(&self, reason: &'static str, peer: IpAddr);
    /// Counts datagrams that the kernel dropped.
    fn count_kernel_drops(&self, count: u64);
}

/// A byte stream of one sender.
pub trait Stream {
    /// The buffer to read into: append to it. It has spare capacity for one read.
    fn buffer(&mut self) -> &mut Vec<u8>;
    /// Bytes were appended: frames them, and waits until the complete frames are given to the journal.
    fn received(&mut self) -> LocalFuture<'_, Result<(), Refused>>;
    /// No byte will follow: what is left is a frame.
    fn finish(self: Box<Self>) -> LocalFuture<'static, Result<(), Refused>>;
}
