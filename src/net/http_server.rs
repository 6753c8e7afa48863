//! The HTTP/1.1 server of one shard: connections in, requests to a handler, its answers out.
//!
//! A handler that answers with a `Full` body gets Content-Length and is never chunked or compressed; Amazon Data
//! Firehose takes anything else for a failure, so sources do. Other bodies (the admin API's streams) are chunked. A request body is read with [`read_body`], which
//! undoes Content-Encoding on the way, or [`read_raw_body`] where a signature covers the bytes as sent.
//!
//! Against hostile or broken clients:
//! - the head: [`HTTP_HEADER_BYTES_MAX`] bytes and [`HTTP_HEADERS_MAX`] lines, else 431; `head_timeout` for all of
//!   it, which is also how long a kept-alive connection may be idle, and how long a TLS handshake may take;
//! - the body: caps before and after decompression, a share of the memory budget (else 503), a timeout between pieces, and a lowest mean rate, so that
//!   one byte every few seconds ends as well;
//! - the answer: a client that does not take it within `head_timeout` is cut off by the kernel
//!   (TCP_USER_TIMEOUT);
//! - connections over the cap are closed at once, so that clients turn elsewhere instead of waiting.
//!
//! What real senders get wrong: they close without reading an early answer such as 413, and then report a
//! broken connection; they send `Content-Encoding` with an empty body (accepted).
//! Not supported: HTTP/2, upgrades, trailers, several encodings in one Content-Encoding.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_ENCODING;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::budget::{Budget, Reservation};
use crate::limits::{CONNECTIONS_MAX, HTTP_HEADER_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_READ_TIMEOUT_MS, INFLATED_BYTES_MAX, READ_BYTES};
use crate::metrics::{Cell, REFUSED, Registry};
use crate::net::certificate::Certificate;
use crate::net::inflate::{Encoding, InflateError, Inflater, inflate};
use crate::net::tls::{RELOAD_INTERVAL, ServerTls, peer_certificate};

/// Lowest mean rate of a body once the idle timeout is over. A 64 MiB body may take hours at this rate, but
/// holding a connection costs the client real traffic.
const BODY_RATE_MIN_BYTES_PER_S: f64 = 1024.0;

/// Bodies up to this size are decompressed whole, which is faster; larger ones while they arrive, so that a bomb
/// or a long body does not hold the shard.
const WHOLE_BYTES_MAX: usize = 256 * 1024;

/// When accepting fails because descriptors or memory are used up, the listener waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Requests in progress get this long to finish after the listener was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// A connection whose client vanished without a word is noticed after this long.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How a listener serves.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// TLS; plain HTTP without.
    pub tls: Option<Arc<ServerTls>>,
    /// Open connections of this listener.
    pub connections_max: usize,
    /// Time for a request's head, for a TLS handshake, and for the client to take an answer.
    pub head_timeout: Duration,
    /// Time for requests in progress after shutdown.
    pub grace: Duration,
    /// What is counted.
    pub counters: ServerCounters,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            tls: None,
            connections_max: CONNECTIONS_MAX,
            head_timeout: Duration::from_millis(HTTP_READ_TIMEOUT_MS),
            grace: GRACE,
            counters: ServerCounters::default(),
        }
    }
}

/// Connections that ended before a request reached the handler, by reason.
#[derive(Clone, Debug, Default)]
pub struct ServerCounters {
    /// Closed at once because of the connection cap.
    pub over_cap: Cell,
    /// Accepting failed: no descriptors or memory left.
    pub accept_failed: Cell,
    /// The TLS handshake failed or took too long.
    pub tls_failed: Cell,
    /// The head did not come in time. Kept-alive connections that fell idle are not counted.
    pub timed_out: Cell,
    /// The head is not HTTP/1.1, or too large.
    pub malformed: Cell,
}

impl ServerCounters {
    /// Series of the family of refusals, labelled with the component's id.
    pub fn register(registry: &Registry, component_id: &str) -> Self {
        let cell = |reason| registry.cell(&REFUSED, &[("component_id", component_id), ("reason", reason)]);
        Self {
            over_cap: cell("connection_cap"),
            accept_failed: cell("accept_failed"),
            tls_failed: cell("tls_handshake"),
            timed_out: cell("head_timeout"),
            malformed: cell("malformed_head"),
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Address of the client.
    pub peer: SocketAddr,
    /// Its certificate, verified, if the listener asks for one.
    pub certificate: Option<Certificate>,
}

struct Server<H> {
    options: ServerOptions,
    handler: H,
}

/// Serves `listener` until `shutdown` resolves, then finishes the requests in progress within the grace
/// period. Must run inside a `LocalSet`.
pub async fn serve<H, F, B>(listener: TcpListener, options: ServerOptions, handler: H, shutdown: impl Future<Output = ()>)
where
    H: Fn(Request<Incoming>, Rc<ConnectionInfo>) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes, Error = Infallible> + 'static,
{
    let server = Rc::new(Server { options, handler });
    let counters = &server.options.counters;
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut reload_at = Instant::now() + RELOAD_INTERVAL;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            () = sleep_until(reload_at), if server.options.tls.is_some() => {
                reload_at = Instant::now() + RELOAD_INTERVAL;
                if let Some(Err(error)) = server.options.tls.as_ref().map(|tls| tls.reload_if_changed()) {
                    tracing::error!(%error, "a new certificate cannot be used; the old one stays");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(_) if connections.len() >= server.options.connections_max => counters.over_cap.add(1),
            Ok((stream, peer)) => {
                connections.spawn_local(Rc::clone(&server).connection(stream, peer, stopped.clone()));
            }
            // The client gave up while it waited.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            Err(_) => {
                counters.accept_failed.add(1);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    // What is left after the grace period is aborted when the set is dropped.
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(server.options.grace, finished).await.is_err() {
        connections.abort_all();
    }
}

impl<H, F, B> Server<H>
where
    H: Fn(Request<Incoming>, Rc<ConnectionInfo>) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes, Error = Infallible> + 'static,
{
    async fn connection(self: Rc<Self>, stream: TcpStream, peer: SocketAddr, stopped: watch::Receiver<bool>) {
        if tune(&stream, self.options.head_timeout).is_err() {
            return; // the client has reset the connection already
        }
        let Some(tls) = &self.options.tls else {
            return self.http(stream, ConnectionInfo { peer, certificate: None }, stopped).await;
        };
        let handshake = Box::pin(TlsAcceptor::from(tls.config()).accept(stream));
        match timeout(self.options.head_timeout, handshake).await {
            Ok(Ok(stream)) => {
                let certificate = peer_certificate(stream.get_ref().1);
                self.http(stream, ConnectionInfo { peer, certificate }, stopped).await;
            }
            Ok(Err(_)) | Err(_) => self.options.counters.tls_failed.add(1),
        }
    }

    async fn http<S>(self: &Rc<Self>, stream: S, info: ConnectionInfo, mut stopped: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let info = Rc::new(info);
        let requests = std::cell::Cell::new(0u64);
        let service = service_fn(|request| {
            requests.set(requests.get() + 1);
            let answer = (self.handler)(request, Rc::clone(&info));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.head_timeout)
            .max_headers(HTTP_HEADERS_MAX)
            .max_header_size(HTTP_HEADER_BYTES_MAX)
            .max_buf_size(READ_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            _ = stopped.wait_for(|stop| *stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        match result {
            Err(error) if error.is_timeout() && requests.get() == 0 => self.options.counters.timed_out.add(1),
            Err(error) if error.is_parse() => self.options.counters.malformed.add(1),
            // Everything else is a client that went away, which is its right.
            Ok(()) | Err(_) => {}
        }
    }
}

fn tune(stream: &TcpStream, unacknowledged: Duration) -> std::io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(unacknowledged))?;
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE))
}

/// Bounds of one request body.
#[derive(Clone, Debug)]
pub struct BodyLimits {
    /// Bytes as sent.
    pub wire_bytes_max: usize,
    /// Bytes after decompression.
    pub inflated_bytes_max: usize,
    /// Time between two pieces, and before the mean rate counts.
    pub idle_timeout: Duration,
    /// The process's budget for event bytes. Without it, as many large bodies as there are connections may
    /// wait in memory at the same time.
    pub budget: Option<Arc<Budget>>,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            wire_bytes_max: INFLATED_BYTES_MAX,
            inflated_bytes_max: INFLATED_BYTES_MAX,
            idle_timeout: Duration::from_millis(HTTP_READ_TIMEOUT_MS),
            budget: None,
        }
    }
}

/// A body, whole.
#[derive(Debug)]
pub struct ReadBody {
    /// The bytes after decompression.
    pub bytes: Vec<u8>,
    /// How many were sent.
    pub wire_bytes: usize,
    /// What the bytes hold of the budget, if there is one.
    pub reservation: Option<Reservation>,
}

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// More bytes than allowed, before or after decompression.
    TooLarge,
    /// The data does not fit its Content-Encoding.
    Corrupt(InflateError),
    /// A Content-Encoding that is not supported.
    UnsupportedEncoding,
    /// Too slow.
    Timeout,
    /// The memory budget is used up.
    Busy,
    /// The connection broke, or the chunked framing is wrong.
    Disconnected,
}

impl BodyError {
    /// The status that says so to the client. A source may choose another one: Firehose drops for good what is
    /// answered with 413.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Corrupt(_) | Self::Disconnected => StatusCode::BAD_REQUEST,
            Self::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl BodyError {
    /// Its name in metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge => "body_too_large",
            Self::Corrupt(_) => "body_corrupt",
            Self::UnsupportedEncoding => "content_encoding",
            Self::Timeout => "body_timeout",
            Self::Busy => "busy",
            Self::Disconnected => "disconnected",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the body is too large"),
            Self::Corrupt(error) => write!(f, "{error}"),
            Self::UnsupportedEncoding => f.write_str("the content encoding is not supported; use gzip, deflate, zstd or none"),
            Self::Timeout => f.write_str("the body came too slowly"),
            Self::Busy => f.write_str("no memory left for this body at the moment; try again"),
            Self::Disconnected => f.write_str("the body ended before it was complete"),
        }
    }
}

impl std::error::Error for BodyError {}

/// Reads a body and undoes its Content-Encoding while it arrives.
///
/// # Errors
/// See [`BodyError`].
pub async fn read_body<B>(headers: &HeaderMap, body: B, limits: &BodyLimits) -> Result<ReadBody, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    let encoding = match (encodings.next(), encodings.next()) {
        (None, _) => Some(Encoding::Identity),
        (Some(value), None) => value.to_str().ok().and_then(Encoding::from_content_encoding),
        (Some(_), Some(_)) => None,
    };
    read(encoding.ok_or(BodyError::UnsupportedEncoding)?, body, limits).await
}

/// Reads a body as it was sent, at most `wire_bytes_max` bytes.
///
/// # Errors
/// See [`BodyError`].
pub async fn read_raw_body<B>(body: B, limits: &BodyLimits) -> Result<ReadBody, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let limits = BodyLimits { inflated_bytes_max: limits.wire_bytes_max, ..limits.clone() };
    read(Encoding::Identity, body, &limits).await
}

/// A client that is asked to come again must see the answer: one that still sends when its connection is closed
/// sees a reset instead.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads what is left of a body and keeps nothing.
async fn discard<B>(mut body: B, bytes_max: usize)
where
    B: Body<Data = Bytes> + Unpin,
{
    let rest = async {
        let mut left = bytes_max;
        while let Some(Ok(frame)) = body.frame().await {
            let count = frame.data_ref().map_or(0, Bytes::len);
            if count > left {
                break;
            }
            left -= count;
        }
    };
    // Whoever is slower than this gets the answer as it can.
    let _ = timeout(DISCARD_TIMEOUT, rest).await;
}

async fn read<B>(encoding: Encoding, mut body: B, limits: &BodyLimits) -> Result<ReadBody, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    // Content-Length, if there is one; a body that says it is too large is not read at all.
    if body.size_hint().lower() > limits.wire_bytes_max as u64 {
        return Err(BodyError::TooLarge);
    }
    let inflate_error =
        |error| if matches!(error, InflateError::TooLarge { .. }) { BodyError::TooLarge } else { BodyError::Corrupt(error) };
    let start = Instant::now();
    let mut reservation = limits.budget.as_ref().map(|budget| budget.take(0));
    let mut whole = Vec::new();
    let mut pieces: Option<Inflater> = None;
    let mut wire_bytes = 0;
    loop {
        let allowed = limits.idle_timeout + Duration::from_secs_f64(wire_bytes as f64 / BODY_RATE_MIN_BYTES_PER_S);
        let left = allowed.saturating_sub(start.elapsed()).min(limits.idle_timeout);
        let frame = match timeout(left, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(BodyError::Disconnected),
            Ok(None) => break,
            Err(_) => return Err(BodyError::Timeout),
        };
        let Ok(data) = frame.into_data() else { continue };
        wire_bytes += data.len();
        if wire_bytes > limits.wire_bytes_max {
            return Err(BodyError::TooLarge);
        }
        if let Some(inflater) = &mut pieces {
            inflater.push(&data).map_err(inflate_error)?;
        } else {
            whole.extend_from_slice(&data);
        }
        if whole.len() > WHOLE_BYTES_MAX {
            let mut inflater = Inflater::new(encoding, limits.inflated_bytes_max);
            inflater.push(&std::mem::take(&mut whole)).map_err(inflate_error)?;
            pieces = Some(inflater);
        }
        if let Err(error) = reserve(limits, &mut reservation, whole.len() + pieces.as_ref().map_or(0, Inflater::output_bytes)) {
            drop((whole, pieces, reservation));
            discard(body, limits.wire_bytes_max.saturating_sub(wire_bytes)).await;
            return Err(error);
        }
    }
    let bytes = match pieces {
        Some(inflater) => inflater.finish(),
        None if encoding == Encoding::Identity && whole.len() <= limits.inflated_bytes_max => Ok(whole),
        None => inflate(encoding, &whole, limits.inflated_bytes_max),
    }
    .map_err(inflate_error)?;
    reserve(limits, &mut reservation, bytes.len())?;
    Ok(ReadBody { bytes, wire_bytes, reservation })
}

/// Makes the reservation `bytes` large, if the budget has room for the growth.
fn reserve(limits: &BodyLimits, reservation: &mut Option<Reservation>, bytes: usize) -> Result<(), BodyError> {
    let (Some(budget), Some(reservation)) = (&limits.budget, reservation) else { return Ok(()) };
    let growth = bytes.saturating_sub(reservation.bytes());
    if growth > 0 && !budget.has_room(growth) {
        return Err(BodyError::Busy);
    }
    reservation.resize(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::LocalSet;

    use http_body_util::Full;

    use super::*;
    use crate::net::listen;

    const LIMITS: BodyLimits =
        BodyLimits { wire_bytes_max: 100_000, inflated_bytes_max: 200_000, idle_timeout: Duration::from_millis(150), budget: None };

    /// `GET /sleep` answers after 200 ms, `GET /large` with 8 MiB, everything else with its body or the reason.
    async fn handle(request: Request<Incoming>, info: Rc<ConnectionInfo>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let answer = |status, bytes: Vec<u8>| Response::builder().status(status).body(Full::from(bytes)).unwrap();
        assert!(info.peer.ip().is_loopback());
        match head.uri.path() {
            "/sleep" => sleep(Duration::from_millis(200)).await,
            "/large" => return answer(StatusCode::OK, vec![b'x'; 8 << 20]),
            _ => {}
        }
        match read_body(&head.headers, body, &LIMITS).await {
            Ok(body) => answer(StatusCode::OK, body.bytes),
            Err(error) => answer(error.status(), error.to_string().into_bytes()),
        }
    }

    struct Running {
        address: SocketAddr,
        counters: ServerCounters,
        stop: oneshot::Sender<()>,
        done: tokio::task::JoinHandle<()>,
    }

    fn start(connections_max: usize) -> Running {
        let listener = listen::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let counters = ServerCounters::default();
        let options = ServerOptions {
            connections_max,
            head_timeout: Duration::from_millis(300),
            counters: counters.clone(),
            ..ServerOptions::default()
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let done = tokio::task::spawn_local(serve(listener, options, handle, stopped));
        Running { address, counters, stop, done }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async { timeout(Duration::from_secs(20), test).await.unwrap() });
    }

    /// Sends bytes and reads until the server closes.
    async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        // A server that answers early resets the rest of what we send.
        let send = async { drop(writer.write_all(bytes).await) };
        tokio::join!(send, async {
            let mut buffer = vec![0; 65_536];
            while let Ok(n @ 1..) = reader.read(&mut buffer).await {
                answer.extend_from_slice(&buffer[..n]);
            }
        });
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn post(headers: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn answers_carry_a_length_and_are_neither_chunked_nor_compressed() {
        run(async {
            let server = start(10);
            let request = post("accept-encoding: gzip\r\ncontent-encoding: gzip\r\n", &gzip(b"hello"));
            let answer = talk(server.address, &request).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
            assert!(answer.contains("content-length: 5\r\n") && !answer.contains("-encoding"), "{answer}");
            let empty = talk(server.address, &post("content-encoding: gzip\r\n", b"")).await;
            assert!(empty.starts_with("HTTP/1.1 200") && empty.contains("content-length: 0\r\n"), "{empty}");
        });
    }

    #[tokio::test]
    async fn large_and_small_bodies_are_read_alike() {
        let limits = BodyLimits { wire_bytes_max: 2 << 20, inflated_bytes_max: 4 << 20, ..BodyLimits::default() };
        for size in [10_000, 2_000_000] {
            let mut state = 1u32;
            let noise = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8 & 0x3f
            });
            let plain: Vec<u8> = noise.take(size).collect();
            let packed = gzip(&plain);
            assert_eq!(packed.len() > WHOLE_BYTES_MAX, size > 1_000_000);
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
            let body = read_body(&headers, Full::new(Bytes::from(packed.clone())), &limits).await.unwrap();
            assert!(body.bytes == plain && body.wire_bytes == packed.len());
            let exact = BodyLimits { inflated_bytes_max: plain.len() - 1, ..limits.clone() };
            let body = Full::new(Bytes::from(packed.clone()));
            assert_eq!(read_body(&headers, body, &exact).await.unwrap_err(), BodyError::TooLarge);
            let budget = Budget::new(plain.len());
            let tight = BodyLimits { budget: Some(budget.clone()), ..limits.clone() };
            let first = read_body(&headers, Full::new(Bytes::from(packed.clone())), &tight).await.unwrap();
            assert_eq!(budget.used_bytes(), plain.len());
            let body = Full::new(Bytes::from(packed.clone()));
            assert_eq!(read_body(&headers, body, &tight).await.unwrap_err(), BodyError::Busy);
            drop(first);
            assert_eq!(budget.used_bytes(), 0);
        }
    }

    #[tokio::test]
    async fn the_rest_of_a_body_that_finds_no_room_is_read_so_that_the_client_sees_the_answer() {
        struct Pieces(Rc<std::cell::Cell<usize>>);
        impl Body for Pieces {
            type Data = Bytes;
            type Error = Infallible;
            fn poll_frame(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
                let left = self.0.get();
                self.0.set(left.saturating_sub(1));
                std::task::Poll::Ready((left > 0).then(|| Ok(hyper::body::Frame::data(Bytes::from(vec![b'x'; 1000])))))
            }
        }
        let budget = Budget::new(1500);
        let _held = budget.take(1000);
        let left = Rc::new(std::cell::Cell::new(100));
        let limits = BodyLimits { budget: Some(budget.clone()), ..BodyLimits::default() };
        let error = read_raw_body(Pieces(left.clone()), &limits).await.unwrap_err();
        assert_eq!((error, left.get(), budget.used_bytes()), (BodyError::Busy, 0, 1000));
    }

    #[test]
    fn a_bad_body_gets_its_status() {
        run(async {
            let server = start(10);
            let chunked = |body: &str| format!("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{body}").into_bytes();
            let endless = chunked(&format!("1000\r\n{}\r\n", "x".repeat(0x1000)).repeat(40));
            for (request, status) in [
                (post("", &vec![0; 100_001]), "413"),
                (endless, "413"),
                (post("content-encoding: gzip\r\n", &gzip(&vec![0; 10 << 20])), "413"),
                (post("content-encoding: gzip\r\n", b"not gzip"), "400"),
                (post("content-encoding: gzip\r\n", &gzip(b"cut")[..12]), "400"),
                (post("content-encoding: br\r\n", b"x"), "415"),
                (post("content-encoding: gzip\r\ncontent-encoding: gzip\r\n", b"x"), "415"),
                (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf".to_vec(), "408"),
            ] {
                let answer = talk(server.address, &request).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
            }
        });
    }

    #[test]
    fn header_floods_are_answered_with_431() {
        run(async {
            let server = start(10);
            let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HTTP_HEADERS_MAX + 1));
            let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(HTTP_HEADER_BYTES_MAX));
            let endless = format!("GET / HTTP/1.1\r\na: {}", "x".repeat(2 * HTTP_HEADER_BYTES_MAX));
            for request in [many, long, endless] {
                let answer = talk(server.address, request.as_bytes()).await;
                assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
            }
            let fits = format!("GET / HTTP/1.1\r\nconnection: close\r\n{}\r\n", "a: b\r\n".repeat(HTTP_HEADERS_MAX - 1));
            assert!(talk(server.address, fits.as_bytes()).await.starts_with("HTTP/1.1 200"));
            assert!(talk(server.address, b"\x16\x03\x01 this is TLS").await.starts_with("HTTP/1.1 400"));
            assert_eq!(server.counters.malformed.value(), 4);
        });
    }

    #[test]
    fn slow_heads_and_bodies_are_cut_off_while_others_are_served() {
        run(async {
            let server = start(100);
            let trickle = async |start: &'static [u8]| {
                let mut stream = TcpStream::connect(server.address).await.unwrap();
                stream.write_all(start).await.unwrap();
                let (mut reader, mut writer) = stream.split();
                let mut answer = Vec::new();
                let drip = async {
                    while writer.write_all(b"x").await.is_ok() {
                        sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::select! { () = drip => {}, _ = reader.read_to_end(&mut answer) => {} }
                String::from_utf8_lossy(&answer).into_owned()
            };
            let others = async {
                for _ in 0..20 {
                    assert!(talk(server.address, &post("", b"fine")).await.ends_with("fine"));
                }
            };
            let (head, body, silent, ()) = tokio::join!(
                trickle(b"GET / HTTP/1.1\r\nx-slow: "),
                trickle(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n"),
                talk(server.address, b""),
                others
            );
            assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
            assert!(body.starts_with("HTTP/1.1 408"), "{body}");
            assert!(silent.is_empty() || silent.starts_with("HTTP/1.1 408"), "{silent}");
            assert_eq!(server.counters.timed_out.value(), 2);
        });
    }

    #[test]
    fn a_client_that_takes_no_answers_is_cut_off() {
        run(async {
            let server = start(1);
            let mut stuck = TcpStream::connect(server.address).await.unwrap();
            stuck.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            sleep(Duration::from_millis(50)).await;
            // The only place is taken; it becomes free without `stuck` doing anything.
            while !talk(server.address, &post("", b"free")).await.ends_with("free") {
                sleep(Duration::from_millis(100)).await;
            }
            assert!(server.counters.over_cap.value() > 0);
        });
    }

    #[test]
    fn connections_over_the_cap_are_closed_at_once() {
        run(async {
            let server = start(2);
            let _held = (TcpStream::connect(server.address).await.unwrap(), TcpStream::connect(server.address).await.unwrap());
            sleep(Duration::from_millis(20)).await;
            assert_eq!(talk(server.address, &post("", b"x")).await, "");
            assert_eq!(server.counters.over_cap.value(), 1);
        });
    }

    #[test]
    fn shutdown_finishes_what_is_in_progress_and_closes_what_is_idle() {
        run(async {
            let server = start(10);
            let mut idle = TcpStream::connect(server.address).await.unwrap();
            idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let busy = tokio::task::spawn_local(async move {
                talk(server.address, b"GET /sleep HTTP/1.1\r\nhost: x\r\n\r\n").await // without connection: close
            });
            sleep(Duration::from_millis(50)).await;
            server.stop.send(()).unwrap();
            server.done.await.unwrap();
            assert!(busy.await.unwrap().starts_with("HTTP/1.1 200"));
            let mut answer = Vec::new();
            idle.read_to_end(&mut answer).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200"));
            assert!(TcpStream::connect(server.address).await.is_err());
        });
    }
}
