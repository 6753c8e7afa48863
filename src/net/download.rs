//! Downloads of something that may be anything: a file of somebody else's over HTTP(S), into a writer.
//!
//! In: an address, what is known of the copy at hand (`ETag`, `Last-Modified`, RFC 9110 section 13). Out: that it has not
//! changed, or the whole body, unpacked, in the writer. Whatever the other side does, a download ends after
//! [`DOWNLOAD_TIMEOUT`], writes at most as much as it may, and holds a piece of the body in memory:
//!
//! * gzip, as `Content-Encoding` or as the file itself, is unpacked while it comes; the limit is that of what comes out.
//! * At most [`REDIRECTS_MAX`] redirects, never from https to http. Each is a connection of its own to an address that
//!   passed [`Reach`]; the one that was checked is the one that is connected to.
//! * The headers of the caller, which may hold a key, go to the first scheme, host and port only.
//!
//! The environment's proxy settings are not read: a proxy would resolve names for us, unchecked. Not supported: HTTP/2,
//! ranges, going on with half a download.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
    LOCATION, RETRY_AFTER, USER_AGENT,
};
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};

use crate::net::http_client::{ClientOptions, HttpClient, Reach, parse_address};
use crate::net::inflate::Encoding;
use crate::net::tls::ClientTls;

/// Time for everything: a list of 100 MB over 2 Mbit/s.
pub const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// Redirects of one download; a list that moved has one or two.
pub const REDIRECTS_MAX: usize = 5;

/// Longest `ETag` or `Last-Modified` that is kept.
const VALIDATOR_BYTES_MAX: usize = 1024;

/// Longest wait that a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// What tells one state of a file from another.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// What became of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Downloaded {
    /// The copy at hand is the newest.
    NotModified,
    /// A new one is written.
    Whole(Validators),
}

/// Why there is nothing new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadError {
    /// What happened, with the address where that was.
    pub message: String,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl DownloadError {
    fn new(uri: &Uri, what: impl fmt::Display) -> Self {
        Self { message: format!("{}: {what}", Shown(uri)), retry_after: None }
    }
}

impl fmt::Display for DownloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DownloadError {}

/// An address without its query, which may hold a key.
pub struct Shown<'a>(pub &'a Uri);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}{}", self.0.scheme_str().unwrap_or_default(), self.0.path())
    }
}

/// Downloads one file, and those beside it.
pub struct Downloader {
    client: HttpClient,
    uri: Uri,
    headers: HeaderMap,
    bytes_max: u64,
}

impl Downloader {
    /// For a file of at most `bytes_max` bytes, unpacked.
    pub fn new(uri: Uri, headers: HeaderMap, tls: ClientTls, reach: Reach, bytes_max: u64) -> Self {
        let options = ClientOptions { tls: Some(tls), reach: Some(reach), ..ClientOptions::default() };
        Self { client: HttpClient::new(options), uri, headers, bytes_max }
    }

    /// The address.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Writes the file to `out`, unless it is the one that `known` tells. What is in `out` after an error is worth nothing.
    ///
    /// # Errors
    /// See the module.
    pub async fn download(&self, known: &Validators, out: &mut impl Write) -> Result<Downloaded, DownloadError> {
        self.download_from((&self.uri, self.bytes_max), known, out).await
    }

    /// The same for another file, of at most so many bytes: what it may reach and where the headers go is as for the first.
    ///
    /// # Errors
    /// See the module.
    pub async fn download_from(&self, file: (&Uri, u64), known: &Validators, out: &mut impl Write) -> Result<Downloaded, DownloadError> {
        match tokio::time::timeout(DOWNLOAD_TIMEOUT, self.follow(file, known, out)).await {
            Ok(result) => result,
            Err(_) => Err(DownloadError::new(file.0, format_args!("not done after {} s", DOWNLOAD_TIMEOUT.as_secs()))),
        }
    }

    async fn follow(&self, file: (&Uri, u64), known: &Validators, out: &mut impl Write) -> Result<Downloaded, DownloadError> {
        let mut uri = file.0.clone();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.client.open(self.request(&uri, known)).await.map_err(|error| DownloadError::new(&uri, error))?;
            match response.status() {
                StatusCode::OK => return self.body((&uri, file.1), response, out).await,
                StatusCode::NOT_MODIFIED => return Ok(Downloaded::NotModified),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => uri = redirected(&uri, response.headers())?,
                status => return Err(refused(&uri, status, response.headers())),
            }
        }
        Err(DownloadError::new(file.0, format_args!("more than {REDIRECTS_MAX} redirects")))
    }

    fn request(&self, uri: &Uri, known: &Validators) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri.clone();
        if origin(uri) == origin(&self.uri) {
            *request.headers_mut() = self.headers.clone();
        }
        let headers = request.headers_mut();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        headers.entry(USER_AGENT).or_insert_with(|| HeaderValue::from_static(concat!("hydrant/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)] {
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        request
    }

    async fn body(
        &self,
        (uri, bytes_max): (&Uri, u64),
        response: Response<Incoming>,
        out: &mut impl Write,
    ) -> Result<Downloaded, DownloadError> {
        let (head, mut body) = response.into_parts();
        let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let setting = if bytes_max == self.bytes_max { " (`max_size`)" } else { "" };
        let too_large = || DownloadError::new(uri, format_args!("more than {bytes_max} bytes{setting}"));
        if length.is_some_and(|length| length > bytes_max) {
            return Err(too_large());
        }
        let encoding = head
            .headers
            .get(CONTENT_ENCODING)
            .map_or(Some(Encoding::Identity), |value| value.to_str().ok().and_then(Encoding::from_content_encoding));
        let Some(encoding @ (Encoding::Identity | Encoding::Gzip)) = encoding else {
            return Err(DownloadError::new(uri, "the answer is compressed in a way that was not asked for"));
        };
        let mut unpacking = Unpacking::Unknown(encoding == Encoding::Gzip, Vec::new(), Capped { out, left: bytes_max });
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| DownloadError::new(uri, format_args!("the connection broke: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            unpacking = unpacking.push(&data).map_err(|error| unpacked(uri, &error, too_large))?;
        }
        unpacking.finish().map_err(|error| unpacked(uri, &error, too_large))?;
        let validator = |name: HeaderName| {
            let text = head.headers.get(name)?.to_str().ok()?;
            (text.len() <= VALIDATOR_BYTES_MAX).then(|| text.to_owned())
        };
        Ok(Downloaded::Whole(Validators { etag: validator(ETAG), last_modified: validator(LAST_MODIFIED) }))
    }
}

fn origin(uri: &Uri) -> (Option<&str>, Option<&str>) {
    (uri.scheme_str(), uri.authority().map(|authority| authority.as_str()))
}

fn refused(uri: &Uri, status: StatusCode, headers: &HeaderMap) -> DownloadError {
    let hint = match status.as_u16() {
        401 | 403 => "; does it want a key in `headers`?",
        404 | 410 => "; has the list moved?",
        _ => "",
    };
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    DownloadError { retry_after, ..DownloadError::new(uri, format_args!("the answer is {status}{hint}")) }
}

/// Where a redirect leads (RFC 9110 section 10.2.2; a relative reference as in RFC 3986 section 5, without `..`).
fn redirected(from: &Uri, headers: &HeaderMap) -> Result<Uri, DownloadError> {
    let bad = |what: &str| DownloadError::new(from, format_args!("the redirect {what}"));
    let target = headers.get(LOCATION).and_then(|value| value.to_str().ok()).ok_or_else(|| bad("names no address"))?;
    let (scheme, authority) = origin(from);
    let (scheme, authority) = (scheme.unwrap_or_default(), authority.unwrap_or_default());
    let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let whole = match target {
        _ if target.contains("://") => target.to_owned(),
        _ if target.starts_with("//") => format!("{scheme}:{target}"),
        _ if target.starts_with('/') => format!("{scheme}://{authority}{target}"),
        _ if target.starts_with('?') => format!("{scheme}://{authority}{}{target}", from.path()),
        _ => format!("{scheme}://{authority}{folder}/{target}"),
    };
    let whole = whole.split_once('#').map_or(whole.as_str(), |(whole, _)| whole);
    let uri = parse_address(whole).map_err(|error| bad(&format!("leads nowhere: {}", error.explain("https://host/path"))))?;
    if scheme == "https" && uri.scheme_str() != Some("https") {
        return Err(bad("leads from https to http, which is not followed"));
    }
    Ok(uri)
}

fn unpacked(uri: &Uri, error: &io::Error, too_large: impl Fn() -> DownloadError) -> DownloadError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => too_large(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            DownloadError::new(uri, "what comes is damaged or cut gzip")
        }
        _ => DownloadError::new(uri, format_args!("cannot be stored: {error}")),
    }
}

/// Takes so many bytes and no more.
struct Capped<'a, W> {
    out: &'a mut W,
    left: u64,
}

impl<W: Write> Write for Capped<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A body on its way, gzip or not as its first two bytes say.
enum Unpacking<W: Write> {
    /// Whether it has to be gzip, and the first bytes.
    Unknown(bool, Vec<u8>, W),
    Plain(W),
    Gzip(Box<MultiGzDecoder<W>>),
}

impl<W: Write> Unpacking<W> {
    fn push(mut self, data: &[u8]) -> io::Result<Self> {
        match &mut self {
            Self::Plain(out) => out.write_all(data)?,
            Self::Gzip(decoder) => decoder.write_all(data)?,
            Self::Unknown(_, head, _) => {
                head.extend_from_slice(data);
                if head.len() >= GZIP_MAGIC.len() {
                    return self.decide();
                }
            }
        }
        Ok(self)
    }

    fn decide(self) -> io::Result<Self> {
        match self {
            Self::Unknown(_, head, out) if head.starts_with(&GZIP_MAGIC) => Self::Gzip(Box::new(MultiGzDecoder::new(out))).push(&head),
            Self::Unknown(false, head, out) => Self::Plain(out).push(&head),
            Self::Unknown(true, head, out) if head.is_empty() => Ok(Self::Plain(out)),
            Self::Unknown(true, ..) => Err(io::ErrorKind::InvalidData.into()),
            known => Ok(known),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self.decide()? {
            Self::Gzip(mut decoder) => decoder.try_finish(),
            Self::Plain(mut out) => out.flush(),
            Self::Unknown(..) => Ok(()),
        }
    }
}

/// How every gzip member begins (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

#[cfg(test)]
mod tests;
