//! The HTTP client of one shard: a request goes in, the whole answer comes out, or why there is none.
//!
//! HTTP/1.1 over TCP or TLS, connections kept alive and reused per host. Redirects are not followed: a 3xx is
//! an answer like any other, so a destination cannot send our credentials elsewhere. The body of an answer is
//! read up to [`ANSWER_BYTES_MAX`]; if there is more, the rest is not read and the connection is closed. Proxies,
//! HTTP/2 and compressed answers (we never ask for them) are not supported.
//!
//! A request that was put on a connection which the other side had already closed is sent again by the pool
//! only if no byte of it was written. All other retries are the caller's: [`SendError::may_have_arrived`]
//! tells it whether the other side can have acted on the request.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{HeaderMap, Request, Response, StatusCode, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::{Client, Error as PoolError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

use crate::limits::{ANSWER_BYTES_MAX, HTTP_HEADER_BYTES_MAX, HTTP_HEADERS_MAX};
use crate::net::tls::ClientTls;

/// Connecting takes one round trip; three SYN retransmissions fit in this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Splunk and OpenSearch answer a large batch within seconds; a minute says that something is stuck.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Shorter than the keep-alive of the usual load balancers (60 s), so that we close first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Idle connections kept for one host; deliveries to one destination run at most a few dozen at a time.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// A connection whose peer vanished without a word is noticed after this long.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why a text is no address to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// No scheme, host or port that is one.
    Malformed,
    /// A name and password in front of the host: addresses are shown in messages and metrics.
    Credentials,
}

impl AddressError {
    /// The message, with the form that was `expected`. It does not repeat the text, which may hold a password.
    pub fn explain(self, expected: &str) -> String {
        match self {
            Self::Malformed => format!("this is not an address; expected `{expected}`"),
            Self::Credentials => format!("a name and password in an address are shown in messages; expected `{expected}`"),
        }
    }
}

/// The address in a configuration: `http` or `https`, a host, and a port that is one. A number that is too large for
/// a port passes the parser of addresses, and the default port would be taken in its place.
///
/// # Errors
/// Why the text is none.
pub fn parse_address(text: &str) -> Result<Uri, AddressError> {
    let uri = text.parse::<Uri>().map_err(|_| AddressError::Malformed)?;
    let authority = uri.authority().ok_or(AddressError::Malformed)?;
    if authority.as_str().contains('@') {
        return Err(AddressError::Credentials);
    }
    let has_port = authority.as_str() == authority.host() || authority.port_u16().is_some_and(|port| port > 0);
    let is_one = matches!(uri.scheme_str(), Some("http" | "https")) && !authority.host().is_empty() && has_port;
    if is_one { Ok(uri) } else { Err(AddressError::Malformed) }
}

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// TLS settings; without them `https` addresses are refused.
    pub tls: Option<ClientTls>,
    /// Time for the TCP connection.
    pub connect_timeout: Duration,
    /// Time for everything: name, connection, TLS, request, whole answer.
    pub request_timeout: Duration,
    /// Which addresses may be connected to; any without it. For addresses that others choose: names that they resolve,
    /// redirects of downloads.
    pub reach: Option<Reach>,
}

/// Which addresses may be connected to: never link-local ones, metadata services, multicast and unspecified addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Addresses that networks use for themselves (RFC 1918, RFC 4193, RFC 6598).
    pub private: bool,
    /// This machine.
    pub loopback: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { tls: None, connect_timeout: CONNECT_TIMEOUT, request_timeout: REQUEST_TIMEOUT, reach: None }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, whatever it is.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`ANSWER_BYTES_MAX`] bytes.
    pub body: Bytes,
    /// Whether there was more body than that.
    pub truncated: bool,
}

/// Where sending failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The name does not resolve, or nobody answers at the address.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The request timeout ran out.
    Timeout,
    /// The connection broke after the request was started.
    Closed,
    /// What came back is not HTTP/1.1.
    Protocol,
    /// The address may not be connected to: see [`Reach`].
    Denied,
    /// The request itself cannot be sent, such as an address without a host.
    Request,
}

/// No answer, and why.
#[derive(Debug)]
pub struct SendError {
    /// Where it failed.
    pub kind: SendErrorKind,
    /// Whether the same request may succeed later. If not, a person has to change something (an address, a
    /// certificate); it never means that the data may be dropped.
    pub retryable: bool,
    message: String,
}

impl SendError {
    fn new(kind: SendErrorKind, retryable: bool, message: impl Into<String>) -> Self {
        Self { kind, retryable, message: message.into() }
    }

    /// Whether the other side can have received the request, and so have acted on it.
    pub fn may_have_arrived(&self) -> bool {
        matches!(self.kind, SendErrorKind::Timeout | SendErrorKind::Closed | SendErrorKind::Protocol)
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for SendError {}

/// The client. Clones share the connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    options: Arc<ClientOptions>,
}

impl HttpClient {
    /// A client without connections yet. Needs no runtime until [`HttpClient::send`].
    pub fn new(options: ClientOptions) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver { inner: GaiResolver::new(), reach: options.reach });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_connect_timeout(Some(options.connect_timeout));
        let tls = options.tls.clone().unwrap_or_else(ClientTls::trusting_nobody);
        let mut builder = HttpsConnectorBuilder::new().with_tls_config((*tls.config).clone()).https_or_http();
        if let Some(name) = &tls.server_name {
            builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name.clone()));
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http1_max_headers(HTTP_HEADERS_MAX)
            .http1_max_buf_size(HTTP_HEADER_BYTES_MAX)
            .build(builder.enable_http1().wrap_connector(tcp));
        Self { client, options: Arc::new(options) }
    }

    /// Sends one request to an absolute address and reads the answer.
    ///
    /// # Errors
    /// [`SendError`] if there is no whole answer. A status such as 500 is an answer.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, SendError> {
        let exchange = async { read_answer(self.open(request).await?).await };
        match tokio::time::timeout(self.options.request_timeout, exchange).await {
            Ok(result) => result,
            Err(_) => {
                let message = format!("no answer within {} ms", self.options.request_timeout.as_millis());
                Err(SendError::new(SendErrorKind::Timeout, true, message))
            }
        }
    }

    /// Sends one request; the body of the answer is the caller's to read, and so is the time that it takes.
    ///
    /// # Errors
    /// [`SendError`] if no answer begins.
    pub async fn open(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, SendError> {
        self.check(request.uri())?;
        self.client.request(request).await.map_err(|error| classify(&error))
    }

    /// Addresses written as numbers never reach the resolver, so they are checked here.
    fn check(&self, uri: &Uri) -> Result<(), SendError> {
        // The path and query are left out: they may hold a key.
        let shown = uri.host().map_or_else(|| uri.to_string(), str::to_owned);
        let fail = |kind, what: &str| Err(SendError::new(kind, false, format!("{shown}: {what}")));
        match uri.scheme_str() {
            Some("https") if self.options.tls.is_none() => return fail(SendErrorKind::Request, "https without TLS settings"),
            Some("http" | "https") => {}
            _ => return fail(SendErrorKind::Request, "the address does not start with http:// or https://"),
        }
        let Some(host) = uri.host() else { return fail(SendErrorKind::Request, "the address has no host") };
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match (literal, self.options.reach) {
            (Ok(ip), Some(reach)) => reach.admit(ip).or_else(|why| fail(SendErrorKind::Denied, why)),
            _ => Ok(()),
        }
    }
}

async fn read_answer(response: Response<Incoming>) -> Result<Answer, SendError> {
    let (head, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    let mut truncated = false;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| SendError::new(SendErrorKind::Closed, true, format!("reading the answer: {}", chain(&error))))?;
        let Ok(data) = frame.into_data() else { continue };
        let space = ANSWER_BYTES_MAX - bytes.len();
        bytes.extend_from_slice(data.get(..space).unwrap_or(&data));
        if data.len() > space {
            truncated = true;
            break;
        }
    }
    Ok(Answer { status: head.status, headers: head.headers, body: bytes.freeze(), truncated })
}

fn classify(error: &PoolError) -> SendError {
    let text = chain(error);
    let causes = || std::iter::successors(Some(error as &(dyn StdError + 'static)), |error| inner(*error));
    if causes().any(|cause| cause.is::<AddressDenied>()) {
        return SendError::new(SendErrorKind::Denied, false, text);
    }
    if let Some(tls) = causes().find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        // A certificate that we refuse, or that they refuse, stays refused until someone replaces it.
        let retryable = !matches!(tls, rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_));
        // With TLS 1.3 the server refuses our certificate only after the request is on its way.
        return SendError::new(SendErrorKind::Tls, retryable, text);
    }
    if error.is_connect() {
        return SendError::new(SendErrorKind::Connect, true, text);
    }
    match causes().find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
        Some(http) if http.is_parse() => SendError::new(SendErrorKind::Protocol, true, text),
        Some(http) if http.is_user() => SendError::new(SendErrorKind::Request, false, text),
        Some(_) => SendError::new(SendErrorKind::Closed, true, text),
        None => SendError::new(SendErrorKind::Request, false, text),
    }
}

/// The cause of an error. An `io::Error` hides the error that it wraps from `source`.
fn inner<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// All causes in one line; a cause that only repeats the one before is left out.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    for cause in std::iter::successors(inner(error), |error| inner(*error)) {
        let next = cause.to_string();
        if !last.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        last = next;
    }
    text
}

impl Reach {
    /// Lets an address pass, or says why not.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(self, ip: IpAddr) -> Result<(), &'static str> {
        match Place::of(ip) {
            Place::Nowhere => Err("this address is link-local, a metadata service or nobody's; it is never connected to"),
            Place::Private if !self.private => Err("this address is private, which is not allowed here"),
            Place::Loopback if !self.loopback => Err("this address is this machine's own, which is not allowed here"),
            _ => Ok(()),
        }
    }
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The machine's own link, a cloud's metadata service, nobody.
    Nowhere,
    Loopback,
    Private,
    Public,
}

impl Place {
    /// Metadata services: 169.254.169.254 (most clouds), fd00:ec2::254 (AWS), 100.100.100.200 (Alibaba),
    /// 168.63.129.16 (Azure wire server), 192.0.0.192 (Oracle). The ranges are those of RFC 6890.
    fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Self {
        const METADATA: [Ipv4Addr; 3] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
        let [a, b, ..] = ip.octets();
        match (a, b) {
            _ if METADATA.contains(&ip) => Self::Nowhere,
            (0 | 224..=255, _) | (169, 254) => Self::Nowhere,
            (127, _) => Self::Loopback,
            (10, _) | (172, 16..=31) | (192, 168) | (100, 64..=127) | (198, 18 | 19) => Self::Private,
            _ => Self::Public,
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
        let v4 = |high: u16, low: u16| Self::of_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
        match ip.segments() {
            _ if ip.is_loopback() => Self::Loopback,
            _ if ip.is_unspecified() || ip == METADATA => Self::Nowhere,
            // Mapped, compatible, NAT64 (RFC 6052) and 6to4 (RFC 3056): the same IPv4 host.
            [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
            [0x64, 0xff9b, 1, ..] | [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Self::Private,
            [0xfe80..=0xfebf | 0xff00..=0xffff, ..] => Self::Nowhere,
            _ => Self::Public,
        }
    }
}

#[derive(Debug)]
struct AddressDenied(Name, &'static str);

impl fmt::Display for AddressDenied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0, self.1)
    }
}

impl StdError for AddressDenied {}

/// The system's resolver. The addresses that pass are the ones that are connected to, so a name whose answer
/// changes between two look-ups (DNS rebinding) gains nothing.
#[derive(Clone, Debug)]
struct Resolver {
    inner: GaiResolver,
    reach: Option<Reach>,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn StdError + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = self.inner.call(name.clone());
        let reach = self.reach;
        Box::pin(async move {
            let mut denied = None;
            let mut addresses: Vec<_> = lookup.await?.collect();
            addresses.retain(|address| match reach.map_or(Ok(()), |reach| reach.admit(address.ip())) {
                Ok(()) => true,
                Err(why) => {
                    denied = Some(why);
                    false
                }
            });
            match denied {
                Some(why) if addresses.is_empty() => Err(AddressDenied(name, why).into()),
                _ => Ok(addresses.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// All that can be allowed.
    const PRIVATE: Reach = Reach { private: true, loopback: true };

    fn get(uri: &str) -> Request<Full<Bytes>> {
        Request::get(uri).body(Full::default()).unwrap()
    }

    /// Answers every connection's first request with `answer` and counts connections.
    async fn server(answer: Vec<u8>) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                        if stream.write_all(&answer).await.is_err() || answer.is_empty() {
                            break;
                        }
                    }
                });
            }
        });
        (uri, count)
    }

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_port_that_is_one() {
        for good in ["http://a", "https://a:1/x?y", "http://[::1]:65535", "https://[::1]", "http://10.0.0.1:8088/"] {
            assert!(parse_address(good).is_ok(), "{good}");
        }
        let bad = [
            "",
            "a",
            "a:80",
            "/x",
            "ftp://a",
            "http://",
            "http://:80",
            "http://a:",
            "http://a:0",
            "http://a:65536",
            "http://a:x",
            "http://[::1",
            "http://a b",
        ];
        for bad in bad {
            assert_eq!(parse_address(bad), Err(AddressError::Malformed), "{bad}");
        }
        for bad in ["http://u:p@a:80", "https://u@a", "http://:p@a/x"] {
            assert_eq!(parse_address(bad), Err(AddressError::Credentials), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_and_the_connection_is_used_again() {
        let (uri, connections) = server(b"HTTP/1.1 503 x\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nhi".to_vec()).await;
        let client = HttpClient::new(ClientOptions::default());
        for _ in 0..3 {
            let answer = client.send(get(&uri)).await.unwrap();
            assert_eq!((answer.status.as_u16(), &answer.body[..], answer.truncated), (503, &b"hi"[..], false));
            assert_eq!(answer.headers["retry-after"], "7");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_huge_answer_is_cut_and_its_connection_closed() {
        let mut bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", ANSWER_BYTES_MAX * 8).into_bytes();
        bytes.resize(bytes.len() + ANSWER_BYTES_MAX * 8, b'x');
        let (uri, connections) = server(bytes).await;
        let client = HttpClient::new(ClientOptions::default());
        for _ in 0..2 {
            let answer = client.send(get(&uri)).await.unwrap();
            assert_eq!((answer.body.len(), answer.truncated), (ANSWER_BYTES_MAX, true));
        }
        assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn each_failure_has_its_kind() {
        let client = HttpClient::new(ClientOptions { request_timeout: Duration::from_millis(800), ..ClientOptions::default() });
        let kind = async |uri: &str| {
            let error = client.send(get(uri)).await.unwrap_err();
            (error.kind, error.retryable, error.may_have_arrived())
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = format!("http://{}/", listener.local_addr().unwrap());
        assert_eq!(kind(&silent).await, (SendErrorKind::Timeout, true, true));
        drop(listener);
        assert_eq!(kind(&silent).await, (SendErrorKind::Connect, true, false));
        assert_eq!(kind(&server(Vec::new()).await.0).await, (SendErrorKind::Closed, true, true));
        assert_eq!(kind(&server(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()).await.0).await, (SendErrorKind::Protocol, true, true));
        let short = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\nhalf".to_vec();
        let (uri, _) = server(short).await;
        assert_eq!(kind(&uri).await, (SendErrorKind::Timeout, true, true));
        assert_eq!(kind("ftp://127.0.0.1/").await, (SendErrorKind::Request, false, false));
        assert_eq!(kind("https://127.0.0.1:1/").await, (SendErrorKind::Request, false, false));
        assert_eq!(kind("/relative").await, (SendErrorKind::Request, false, false));
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer() {
        let (uri, connections) =
            server(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
        assert_eq!(HttpClient::new(ClientOptions::default()).send(get(&uri)).await.unwrap().status.as_u16(), 302);
        assert_eq!(connections.load(std::sync::atomic::Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn metadata_addresses_are_denied_in_every_spelling() {
        let client = HttpClient::new(ClientOptions { reach: Some(PRIVATE), ..ClientOptions::default() });
        let hosts = [
            "169.254.169.254",
            "[fe80::1]",
            "[::ffff:169.254.169.254]",
            "[::169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:a9fe:a9fe::1]",
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "100.100.100.200",
            "[::ffff:100.100.100.200]",
            "168.63.129.16",
            "[fd00:ec2::254]",
            "[ff02::1]",
            "[::]",
        ];
        for host in hosts {
            let error = client.send(get(&format!("http://{host}/latest/meta-data"))).await.unwrap_err();
            assert_eq!((error.kind, error.retryable), (SendErrorKind::Denied, false), "{host}: {error}");
        }
    }

    #[tokio::test]
    async fn private_addresses_and_this_machine_have_to_be_allowed() {
        let admits = |address: &str, private, loopback| Reach { private, loopback }.admit(address.parse().unwrap()).is_ok();
        for private in
            ["10.0.0.1", "172.31.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1", "2002:a00:1::", "64:ff9b::a00:1"]
        {
            assert_eq!((admits(private, false, true), admits(private, true, false)), (false, true), "{private}");
        }
        for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
            assert_eq!((admits(own, true, false), admits(own, false, true)), (false, true), "{own}");
        }
        for public in ["172.32.0.1", "100.128.0.1", "8.8.8.8", "2001:4860::1", "64:ff9b::808:808", "2002:808:808::"] {
            assert!(admits(public, false, false), "{public}");
        }
        let client = HttpClient::new(ClientOptions { reach: Some(Reach { private: true, loopback: false }), ..ClientOptions::default() });
        for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]"] {
            let error = client.send(get(&format!("http://{host}:9/"))).await.unwrap_err();
            assert_eq!(error.kind, SendErrorKind::Denied, "{host}: {error}");
        }
    }

    #[tokio::test]
    async fn a_number_in_an_odd_base_is_denied_once_it_is_resolved() {
        let client = HttpClient::new(ClientOptions { reach: Some(PRIVATE), ..ClientOptions::default() });
        // The resolver reads these as 169.254.169.254, as inet_aton does.
        for host in ["2852039166", "0xa9fea9fe"] {
            let error = client.send(get(&format!("http://{host}/"))).await.unwrap_err();
            assert_eq!(error.kind, SendErrorKind::Denied, "{host}: {error}");
        }
    }

    #[tokio::test]
    async fn a_name_of_this_host_is_reached_where_that_is_allowed() {
        let (uri, _) = server(b"HTTP/1.1 204 x\r\n\r\n".to_vec()).await;
        let client = HttpClient::new(ClientOptions { reach: Some(PRIVATE), ..ClientOptions::default() });
        assert_eq!(client.send(get(&uri.replace("127.0.0.1", "localhost"))).await.unwrap().status.as_u16(), 204);
    }
}
