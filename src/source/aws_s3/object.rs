//! One object from the store into the intake: fetched, decompressed on a thread of its own, framed, in bounded memory.
//!
//! A connection that breaks goes on where it ended (`Range`, `If-Match`: S3 API, GetObject), so that the decompressor
//! does not notice. An object that cannot be read to its end has given what came before; how far is remembered by the
//! caller, so that the next attempt in this run leaves that out.

use std::cell::RefCell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use super::content::{self, ContentError, Piece};
use super::notification::Announced;
use super::{Intake, Refused, Stream};
use crate::event::{Origin, OriginField};
use crate::net::aws;
use crate::task::Stop;

/// Pieces that wait for the decompressor; each is what one read of the connection gave.
const FETCHED_QUEUE: usize = 8;

/// Pieces that wait for the intake.
const PLAIN_QUEUE: usize = 2;

/// A connection that gives nothing for so long is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Attempts in a row that bring nothing.
const TRIES: u32 = 5;

/// Pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(500);

/// Why an object was not read.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    pub(super) message: String,
    /// What was given nevertheless.
    pub(super) given: Given,
}

/// How much of an object was given to the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// The ETag of what was read.
    pub(super) etag: String,
    /// Bytes from the beginning, as a framer sees them.
    pub(super) bytes: u64,
}

/// Kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The store has no such object (any more).
    Gone,
    /// The keys may not read it.
    Denied,
    /// Damaged or cut.
    Corrupt,
    /// Larger than `object_bytes_max`.
    TooLarge,
    /// Not text.
    Format,
    /// A bucket that `buckets` does not name.
    Bucket,
    /// Anything else that the store says, or no answer.
    Store,
    /// The journal or a destination did not take the events.
    NotStored,
    /// Hydrant stops.
    Stopping,
}

impl Reason {
    /// The label in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gone => "no_such_key",
            Self::Denied => "access_denied",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too_large",
            Self::Format => "format",
            Self::Bucket => "bucket",
            Self::Store => "store",
            Self::NotStored => "not_stored",
            Self::Stopping => "stopping",
        }
    }
}

impl Failure {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), given: Given::default() }
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        let reason = match error {
            ContentError::Corrupt(_) => Reason::Corrupt,
            ContentError::TooLarge(_) => Reason::TooLarge,
            ContentError::Foreign(_) => Reason::Format,
            ContentError::Unwanted => Reason::Stopping,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let reason = if refused == Refused::Stopping { Reason::Stopping } else { Reason::NotStored };
        Self::new(reason, format!("the events were not taken: {refused:?}"))
    }
}

/// How to read an object.
pub(super) struct Reading<'a> {
    pub(super) client: &'a Client,
    pub(super) intake: &'a Rc<dyn Intake>,
    pub(super) bytes_max: u64,
    /// What an earlier attempt has given.
    pub(super) skip: Given,
    /// How far it is fetched.
    pub(super) at: RefCell<Place>,
    /// No more is read once this is set.
    pub(super) abandon: &'a Stop,
}

impl Reading<'_> {
    /// Reads an object; gives its ETag. Its events are then given to the journal, or delivered if the source waits for
    /// that.
    pub(super) async fn run(&self, object: &Announced) -> Result<String, Failure> {
        let (fetched, raw) = mpsc::channel(FETCHED_QUEUE);
        let (plain, pieces) = mpsc::channel(PLAIN_QUEUE);
        let (key, bytes_max) = (object.key.clone(), self.bytes_max);
        let input = Fetched { raw, piece: Bytes::new(), is_whole: false };
        let content =
            tokio::task::spawn_blocking(move || content::read(input, &key, bytes_max, |piece| plain.blocking_send(piece).is_ok()));
        let mut fetching = std::pin::pin!(self.fetch(object, fetched));
        let mut giving = std::pin::pin!(self.give(object, pieces));
        let mut fetched = None;
        // Giving is never broken off: what the journal has must go through all stages.
        let given = loop {
            tokio::select! {
                result = &mut fetching, if fetched.is_none() => fetched = Some(result),
                given = &mut giving => break given,
            }
        };
        let (stream, bytes) = given?;
        let content = content.await.unwrap_or_else(|error| Err(ContentError::Corrupt(io::Error::other(error))));
        let result = match (fetched, content) {
            // Without its last bytes every object looks cut.
            (Some(Err(failure)), _) => Err(failure),
            (_, Err(error)) => Err(error.into()),
            (Some(Ok(())), Ok(())) => Ok(()),
            (None, Ok(())) => fetching.await,
        };
        let etag = self.at.borrow().etag.clone();
        if let Err(failure) = result {
            return Err(Failure { given: Given { etag, bytes }, ..failure });
        }
        if let Some(stream) = stream {
            stream.finish().await?;
        }
        Ok(etag)
    }

    /// Fetches the bytes. The last piece is empty.
    async fn fetch(&self, object: &Announced, fetched: mpsc::Sender<Bytes>) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            let before = self.at.borrow().offset;
            let Err(failure) = self.fetch_on(object, &fetched).await else { return Ok(()) };
            let offset = self.at.borrow().offset;
            tries = if offset > before { 1 } else { tries + 1 };
            if failure.reason != Reason::Store || tries >= TRIES {
                return Err(failure);
            }
            tracing::debug!(bucket = object.bucket, key = object.key, offset, error = failure.message, "read again");
            tokio::time::sleep(PAUSE * 2u32.pow(tries - 1)).await;
        }
    }

    /// The request for what is not yet fetched.
    async fn request(&self, object: &Announced) -> Result<GetObjectOutput, Failure> {
        let Place { offset, etag, .. } = self.at.borrow().clone();
        // The parts have to be of one content: that of now, or that of the earlier attempt.
        let etag = if offset > 0 { etag } else { self.skip.etag.clone() };
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let request = self
            .client
            .get_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version.clone())
            .set_range(range)
            .set_if_match(Some(etag).filter(|etag| !etag.is_empty()));
        let answer = Box::pin(request.send()).await.map_err(|error| refusal(&error))?;
        if offset == 0 {
            let size = answer.content_length().and_then(|size| u64::try_from(size).ok());
            if size.is_some_and(|size| size > self.bytes_max) {
                return Err(ContentError::TooLarge(self.bytes_max).into());
            }
            *self.at.borrow_mut() = Place { offset, etag: answer.e_tag().unwrap_or_default().to_owned(), size };
        }
        Ok(answer)
    }

    /// One connection.
    async fn fetch_on(&self, object: &Announced, fetched: &mpsc::Sender<Bytes>) -> Result<(), Failure> {
        let answer = self.request(object).await?;
        let Place { mut offset, size, .. } = self.at.borrow().clone();
        let mut body = answer.body;
        loop {
            let next = tokio::time::timeout(READ_TIMEOUT, body.next()).await;
            let next = next.map_err(|_| Failure::new(Reason::Store, format!("nothing came for {} s", READ_TIMEOUT.as_secs())))?;
            match next {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => {
                    offset += bytes.len() as u64;
                    self.at.borrow_mut().offset = offset;
                    // Nobody listens any more once the content has failed; that failure is the one to tell.
                    if fetched.send(bytes).await.is_err() {
                        return Ok(());
                    }
                }
                // All of it was read, and then the checksum did not match.
                Some(Err(error)) if size == Some(offset) => return Err(Failure::new(Reason::Corrupt, error.to_string())),
                Some(Err(error)) => return Err(Failure::new(Reason::Store, format!("the connection broke: {error}"))),
                None if size.is_some_and(|size| offset < size) => return Err(Failure::new(Reason::Store, "the connection was closed")),
                None => break,
            }
        }
        // An error means as above.
        let _ = fetched.send(Bytes::new()).await;
        Ok(())
    }

    /// Gives what comes out to the intake; the stream, and how many bytes are framed.
    async fn give(&self, object: &Announced, mut pieces: mpsc::Receiver<Piece>) -> Result<(Option<Box<dyn Stream>>, u64), Failure> {
        let mut stream: Option<Box<dyn Stream>> = None;
        let (mut offset, mut given) = (0u64, self.skip.bytes);
        loop {
            let piece = tokio::select! {
                piece = pieces.recv() => piece,
                () = self.abandon.wait() => {
                    return Err(Failure::new(Reason::Stopping, "Hydrant stops"));
                }
            };
            match piece {
                None => return Ok((stream, given)),
                Some(Piece::Head { framing, header }) => {
                    let mut origin = Origin::default().with(OriginField::Bucket, &*object.bucket).with(OriginField::Key, &*object.key);
                    if let Some(header) = header {
                        origin = origin.with(OriginField::Header, header);
                    }
                    stream = Some(self.intake.object(Arc::new(origin), framing));
                }
                Some(Piece::Bytes(bytes)) => {
                    let Some(stream) = &mut stream else { continue };
                    let known = usize::try_from(self.skip.bytes.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
                    offset += bytes.len() as u64;
                    let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) else { continue };
                    stream.buffer().extend_from_slice(new);
                    stream.received().await?;
                    // What is left in the buffer is the beginning of a frame.
                    given = offset.saturating_sub(stream.buffer().len() as u64).max(given);
                }
            }
        }
    }
}

/// How far an object is fetched.
#[derive(Clone, Default)]
pub(super) struct Place {
    offset: u64,
    etag: String,
    size: Option<u64>,
}

/// What an answer means that has no object in it.
fn refusal(error: &SdkError<GetObjectError>) -> Failure {
    let code = error.code().unwrap_or_default();
    let reason = match (aws::status(error), code) {
        // A delete marker is 405 when its version is asked for.
        (_, "NoSuchKey" | "NoSuchVersion" | "NoSuchBucket") | (Some(404 | 405), _) => Reason::Gone,
        // Somebody wrote the object anew between two parts; the new one has a message of its own.
        (Some(412), _) => Reason::Gone,
        (_, "SlowDown" | "RequestTimeout") | (None | Some(408 | 429 | 500..), _) => Reason::Store,
        _ => Reason::Denied,
    };
    Failure::new(reason, aws::explain(error))
}

/// The bytes that are fetched, for the thread that decompresses.
struct Fetched {
    raw: mpsc::Receiver<Bytes>,
    piece: Bytes,
    is_whole: bool,
}

impl BufRead for Fetched {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.piece.is_empty() && !self.is_whole {
            let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "the rest could not be fetched");
            self.piece = self.raw.blocking_recv().ok_or_else(ended)?;
            self.is_whole = self.piece.is_empty();
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, count: usize) {
        self.piece.advance(count.min(self.piece.len()));
    }
}

impl Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        if let (Some(from), Some(to)) = (bytes.get(..count), buffer.get_mut(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }
}
