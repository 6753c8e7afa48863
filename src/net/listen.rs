//! Where a source listens: addresses as people write them, the sockets for them, and the PROXY header that a
//! trusted relay puts in front of a connection.
//!
//! Addresses: `0.0.0.0:514`, `[::]:514`, `localhost:514`, the same with `tcp://` or `udp://` in front, and
//! `unix:/run/x.sock`, `unixgram:/run/x.sock`. Names other than `localhost` are refused: which of a name's
//! addresses would be bound is a surprise at the next restart.
//!
//! TCP and UDP sockets carry SO_REUSEPORT, so that every shard has its own and the kernel spreads the load.
//! The same flag would let a second instance take half of the data unseen; [`ensure_free`], called once before
//! the first socket, makes that the usual "address in use". A socket that the process was given ([`handover`]) is taken
//! instead of a new one.
//!
//! PROXY protocol: versions 1 and 2 of the specification "The PROXY protocol" (haproxy.org, proxy-protocol.txt).
//! Anybody can send such a header, so a source reads it from configured relays only.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use serde::{Deserialize, Deserializer, de};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Error, ErrorKind, Retry};
use crate::net::handover::{self, Place};

/// Connections that wait to be accepted. The kernel caps it at net.core.somaxconn (4096 since Linux 5.4);
/// after a restart thousands of firewalls connect within a second.
const BACKLOG: i32 = 4096;

/// Bytes of a path in `sockaddr_un`, without the closing NUL.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// What an address carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Nothing said: the component decides (syslog takes both).
    Any,
    /// `tcp://`.
    Tcp,
    /// `udp://`.
    Udp,
}

/// A parsed `listen:` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An IP address and port.
    Ip {
        /// Where.
        socket: SocketAddr,
        /// TCP, UDP or either.
        transport: Transport,
    },
    /// A unix domain socket.
    Unix {
        /// The socket's file.
        path: PathBuf,
        /// Datagrams (`unixgram:`) or a stream (`unix:`).
        datagram: bool,
    },
}

impl Address {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Ip { socket, .. } => socket.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => true,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unix = text.strip_prefix("unixgram:").map(|path| (path, true)).or_else(|| text.strip_prefix("unix:").map(|path| (path, false)));
        if let Some((path, datagram)) = unix {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.len() {
                0 => Err(format!("`{text}` has no path; expected one such as `unix:/run/hydrant.sock`")),
                length if length > UNIX_PATH_BYTES_MAX => {
                    Err(format!("the path of a unix socket has at most {UNIX_PATH_BYTES_MAX} bytes, this one has {length}"))
                }
                _ if path.contains('\0') => Err("the path of a unix socket has no NUL in it".to_owned()),
                _ => Ok(Self::Unix { path: path.into(), datagram }),
            };
        }
        let (transport, rest) = match text.split_once("://") {
            Some(("tcp", rest)) => (Transport::Tcp, rest),
            Some(("udp", rest)) => (Transport::Udp, rest),
            Some((scheme, _)) => return Err(format!("`{scheme}://` is not known here; expected tcp://, udp://, unix: or unixgram:")),
            None => (Transport::Any, text),
        };
        ip_and_port(rest).map(|socket| Self::Ip { socket, transport })
    }
}

fn ip_and_port(text: &str) -> Result<SocketAddr, String> {
    if let Ok(socket) = text.parse() {
        return Ok(socket);
    }
    let example = "expected IP:PORT, such as `0.0.0.0:5514`, `127.0.0.1:8080` or `[::]:5514`";
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(if text.parse::<u16>().is_ok() {
            format!(
                "`{text}` is a port without an address; write `0.0.0.0:{text}` for all interfaces or `127.0.0.1:{text}` for this machine only"
            )
        } else {
            format!("`{text}` has no port; {example}")
        });
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(format!("`{text}`: an IPv6 address stands in brackets; {example}"));
    }
    let Ok(port) = port.parse::<u16>() else { return Err(format!("`{port}` is not a port (0 to 65535); {example}")) };
    match host {
        "localhost" => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        "" | "*" => {
            Err(format!("`{text}` has no address; write `0.0.0.0:{port}` for all interfaces or `127.0.0.1:{port}` for this machine only"))
        }
        _ => Err(format!("`{host}` is not an IP address, and names are not resolved here; {example}")),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip { socket, transport: Transport::Any } => write!(f, "{socket}"),
            Self::Ip { socket, transport: Transport::Tcp } => write!(f, "tcp://{socket}"),
            Self::Ip { socket, transport: Transport::Udp } => write!(f, "udp://{socket}"),
            Self::Unix { path, datagram: false } => write!(f, "unix:{}", path.display()),
            Self::Unix { path, datagram: true } => write!(f, "unixgram:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Address {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "IP:PORT, tcp://IP:PORT, udp://IP:PORT, unix:PATH or unixgram:PATH",
            "examples": ["0.0.0.0:5514"]
        })
    }
}

fn failed(address: impl fmt::Display, error: io::Error) -> Error {
    let (kind, message) = match error.kind() {
        io::ErrorKind::AddrInUse => (ErrorKind::Connection, "another process listens at this address"),
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::Configuration, "not allowed; ports below 1024 need CAP_NET_BIND_SERVICE, and a unix socket a writable directory")
        }
        io::ErrorKind::AddrNotAvailable => (ErrorKind::Configuration, "this machine does not have this address"),
        _ => (ErrorKind::Connection, "cannot listen"),
    };
    Error::new(kind, "listen", message).with("address", address).because(error).retry(Retry::Never)
}

fn bound(address: SocketAddr, kind: Type, shared: bool) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?; // connections of the last run in TIME_WAIT must not stop a restart
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?; // `[::]` means everybody, whatever the system's default is
    }
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Fails if another process has this TCP or UDP address. Call once, before any socket of ours is bound there. Passes
/// where this process was given one.
///
/// # Errors
/// Address in use, not allowed, not on this machine.
pub fn ensure_free(address: SocketAddr, transport: Transport) -> Result<(), Error> {
    for (kind, excluded, place) in [(Type::STREAM, Transport::Udp, Place::Tcp(address)), (Type::DGRAM, Transport::Tcp, Place::Udp(address))]
    {
        if transport != excluded && !handover::was_given(&place) {
            bound(address, kind, false).map_err(|error| failed(address, error))?;
        }
    }
    Ok(())
}

/// A TCP listener of this shard. Must be called inside its runtime.
///
/// # Errors
/// Address in use by a process that does not share it, not allowed, not on this machine.
pub fn tcp(address: SocketAddr) -> Result<tokio::net::TcpListener, Error> {
    let listen = || {
        let socket = match handover::given(&Place::Tcp(address)) {
            Some((socket, _)) => socket.into(),
            None => {
                let socket = bound(address, Type::STREAM, true)?;
                socket.listen(BACKLOG)?;
                handover::keep(&socket);
                socket
            }
        };
        socket.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(socket.into())
    };
    listen().map_err(|error| failed(address, error))
}

/// A UDP socket of a receiving thread.
#[derive(Debug)]
pub struct Udp {
    /// Blocking.
    pub socket: std::net::UdpSocket,
    /// The receive buffer in bytes that the kernel granted.
    pub receive_buffer_bytes: usize,
    /// The kernel's count of dropped datagrams as far as it was reported, by an earlier process too.
    pub drops: Arc<AtomicU32>,
}

/// A blocking UDP socket for a receiving thread.
///
/// `receive_buffer_bytes` is asked for with SO_RCVBUFFORCE, which passes net.core.rmem_max but needs
/// CAP_NET_ADMIN, else with SO_RCVBUF, which the kernel cuts without a word: compare what was granted.
///
/// # Errors
/// Address in use by a process that does not share it, not allowed, not on this machine.
pub fn udp(address: SocketAddr, receive_buffer_bytes: Option<usize>) -> Result<Udp, Error> {
    let listen = || {
        let (socket, drops) = match handover::given(&Place::Udp(address)) {
            Some((socket, drops)) => (Socket::from(socket), drops),
            None => {
                let socket = bound(address, Type::DGRAM, true)?;
                let drops = handover::keep(&socket);
                (socket, drops)
            }
        };
        if let Some(bytes) = receive_buffer_bytes {
            grow_receive_buffer(&socket, bytes)?;
        }
        let granted = socket.recv_buffer_size()? / 2; // the kernel reports twice what was asked, for its own overhead
        Ok(Udp { socket: socket.into(), receive_buffer_bytes: granted, drops })
    };
    listen().map_err(|error| failed(address, error))
}

fn grow_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX / 2);
    // SAFETY: the descriptor is open, and the option reads exactly one c_int from the pointer given.
    let forced = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(socket),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if forced == 0 { Ok(()) } else { socket.set_recv_buffer_size(bytes) }
}

/// A listener at a unix stream socket. `mode` are the permission bits of its file, such as `0o660`. Must be
/// called inside the runtime. A file that a dead process left is replaced.
///
/// # Errors
/// A living process listens there, something that is not a socket has the name, not allowed.
pub fn unix_stream(path: &Path, mode: Option<u32>) -> Result<tokio::net::UnixListener, Error> {
    let listen = || {
        if let Some((socket, _)) = handover::given(&Place::UnixStream(path.to_owned())) {
            let listener = std::os::unix::net::UnixListener::from(socket);
            listener.set_nonblocking(true)?;
            return tokio::net::UnixListener::from_std(listener);
        }
        clear_stale(path)?;
        let listener = tokio::net::UnixListener::bind(path)?;
        handover::keep(&listener);
        set_mode(path, mode)?;
        Ok(listener)
    };
    listen().map_err(|error| failed(path.display(), error))
}

/// A unix datagram socket, as [`unix_stream`] in all else.
///
/// # Errors
/// As for [`unix_stream`].
pub fn unix_datagram(path: &Path, mode: Option<u32>) -> Result<tokio::net::UnixDatagram, Error> {
    let listen = || {
        if let Some((socket, _)) = handover::given(&Place::UnixDatagram(path.to_owned())) {
            let socket = UnixDatagram::from(socket);
            socket.set_nonblocking(true)?;
            return tokio::net::UnixDatagram::from_std(socket);
        }
        clear_stale(path)?;
        let socket = tokio::net::UnixDatagram::bind(path)?;
        handover::keep(&socket);
        set_mode(path, mode)?;
        Ok(socket)
    };
    listen().map_err(|error| failed(path.display(), error))
}

fn set_mode(path: &Path, mode: Option<u32>) -> io::Result<()> {
    mode.map_or(Ok(()), |mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
}

/// Removes a socket file that nobody serves. Any other file stays, and binding then says "in use".
fn clear_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {}
        _ => return Ok(()),
    }
    let refused = |result: io::Result<()>| result.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    let datagram = UnixDatagram::unbound()?;
    // The kind of the socket is not known. Connecting with the wrong kind fails with EPROTOTYPE if it is alive.
    if refused(UnixStream::connect(path).map(drop)) && refused(datagram.connect(path)) { std::fs::remove_file(path) } else { Ok(()) }
}

/// Bytes of a version 1 header with its line end, from the specification.
const PROXY_V1_BYTES_MAX: usize = 107;

/// Bytes of a version 2 header behind its first 16. The specification allows 65,535 and says that 536 suffice
/// for everybody; TLVs with a client certificate's name and a VPC endpoint id stay below 1 KiB.
const PROXY_V2_BYTES_MAX: usize = 2048;

const PROXY_V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What [`proxy_header`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The bytes so far may be the start of a header.
    NeedMore,
    /// The bytes do not start with a header.
    None,
    /// A header.
    Header {
        /// The original sender; `None` if the relay speaks for itself (`LOCAL`, `UNKNOWN`) or the family is not IP.
        source: Option<SocketAddr>,
        /// Bytes of the header; the payload starts behind them.
        header_bytes: usize,
    },
    /// A header that breaks the specification. The connection should be closed, as the specification demands.
    Invalid(&'static str),
}

/// Reads the PROXY header at the start of a connection.
pub fn proxy_header(bytes: &[u8]) -> ProxyHeader {
    if let Some(rest) = bytes.strip_prefix(PROXY_V2_SIGNATURE) {
        return proxy_v2(rest);
    }
    if bytes.starts_with(b"PROXY ") {
        return proxy_v1(bytes);
    }
    if PROXY_V2_SIGNATURE.starts_with(bytes) || b"PROXY ".starts_with(bytes) { ProxyHeader::NeedMore } else { ProxyHeader::None }
}

/// `PROXY TCP4 192.0.2.1 198.51.100.2 50000 514\r\n`
fn proxy_v1(bytes: &[u8]) -> ProxyHeader {
    let window = bytes.get(..PROXY_V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if window.len() < PROXY_V1_BYTES_MAX {
            ProxyHeader::NeedMore
        } else {
            ProxyHeader::Invalid("no line end within 107 bytes")
        };
    };
    let header_bytes = end + 1;
    let line = window.get(..end).and_then(|line| line.strip_suffix(b"\r")).and_then(|line| std::str::from_utf8(line).ok());
    let Some(line) = line else { return ProxyHeader::Invalid("the line does not end with CR LF") };
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return ProxyHeader::Header { source: None, header_bytes };
    }
    let [Some(source), Some(target), Some(source_port), Some(target_port), None] = std::array::from_fn(|_| words.next()) else {
        return ProxyHeader::Invalid("expected a family, two addresses and two ports");
    };
    let address = |text: &str| text.parse::<IpAddr>().ok().filter(|ip| matches!((family, ip.is_ipv4()), ("TCP4", true) | ("TCP6", false)));
    let port = |text: &str| if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse::<u16>().ok() } else { None };
    match (address(source), address(target), port(source_port), port(target_port)) {
        (Some(ip), Some(_), Some(port), Some(_)) => ProxyHeader::Header { source: Some(SocketAddr::new(ip, port)), header_bytes },
        _ => ProxyHeader::Invalid("an address or port does not fit its family"),
    }
}

/// `rest` starts behind the signature: version and command, family, length (big endian), addresses, TLVs.
fn proxy_v2(rest: &[u8]) -> ProxyHeader {
    let Some((&[command, family, high, low], rest)) = rest.split_first_chunk::<4>() else { return ProxyHeader::NeedMore };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 {
        return ProxyHeader::Invalid("the version is not 2");
    }
    if length > PROXY_V2_BYTES_MAX {
        return ProxyHeader::Invalid("longer than 2048 bytes");
    }
    let Some(body) = rest.get(..length) else { return ProxyHeader::NeedMore };
    let header_bytes = PROXY_V2_SIGNATURE.len() + 4 + length;
    let source = match (command & 0x0f, family >> 4) {
        (0, _) => None, // LOCAL: a health check of the relay itself
        (1, 1) => match body.first_chunk::<12>() {
            Some(&[a, b, c, d, _, _, _, _, high, low, _, _]) => Some((IpAddr::from([a, b, c, d]), [high, low])),
            None => return ProxyHeader::Invalid("too short for IPv4 addresses"),
        },
        (1, 2) => match (body.first_chunk::<16>(), body.get(32..36)) {
            (Some(&ip), Some(&[high, low, _, _])) => Some((IpAddr::from(ip), [high, low])),
            _ => return ProxyHeader::Invalid("too short for IPv6 addresses"),
        },
        (1, 0 | 3) => None, // unspecified, unix
        (1, _) => return ProxyHeader::Invalid("the address family is not known"),
        _ => return ProxyHeader::Invalid("the command is neither LOCAL nor PROXY"),
    };
    ProxyHeader::Header { source: source.map(|(ip, port)| SocketAddr::new(ip, u16::from_be_bytes(port))), header_bytes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn f(text: &str) -> Result<Address, String> {
        text.parse()
    }

    #[test]
    fn addresses_are_read_and_written_back() {
        for text in ["0.0.0.0:5514", "[::1]:514", "tcp://127.0.0.1:6514", "udp://[::]:514", "unix:/run/a.sock", "unixgram:/dev/log"] {
            assert_eq!(f(text).unwrap().to_string(), text);
        }
        assert_eq!(f("localhost:80"), f("127.0.0.1:80"));
        assert_eq!(f("unix:///run/a.sock"), f("unix:/run/a.sock"));
        assert!(f("[::ffff:127.0.0.1]:1").unwrap().is_local() && f("unix:/x").unwrap().is_local());
        assert!(!f("0.0.0.0:1").unwrap().is_local());
    }

    #[test]
    fn a_wrong_address_says_what_to_write() {
        for (text, part) in [
            ("5514", "0.0.0.0:5514"),
            (":5514", "0.0.0.0:5514"),
            ("0.0.0.0", "no port"),
            ("0.0.0.0:99999", "not a port"),
            ("::1:514", "brackets"),
            ("firewall.example:514", "not resolved"),
            ("http://0.0.0.0:80", "http://"),
            ("unix:", "no path"),
        ] {
            let error = f(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(f(&format!("unix:/{}", "x".repeat(200))).unwrap_err().contains("107"));
    }

    #[tokio::test]
    async fn shards_share_a_port_and_a_second_instance_is_noticed() {
        let first = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let _second = tcp(address).unwrap();
        assert!(ensure_free(address, Transport::Tcp).unwrap_err().to_string().contains("another process"));
        drop((first, _second));
        ensure_free(address, Transport::Any).unwrap();
        let socket = udp(address, None).unwrap();
        let _other = udp(address, None).unwrap();
        assert!(ensure_free(address, Transport::Udp).is_err());
        ensure_free(address, Transport::Tcp).unwrap();
        drop(socket);
    }

    #[test]
    fn the_granted_receive_buffer_is_reported() {
        let any = "127.0.0.1:0".parse().unwrap();
        assert_eq!(udp(any, Some(64 * 1024)).unwrap().receive_buffer_bytes, 64 * 1024);
        let granted = udp(any, Some(usize::MAX)).unwrap().receive_buffer_bytes;
        assert!(granted > 64 * 1024 && granted < usize::MAX / 2, "{granted}");
    }

    #[tokio::test]
    async fn a_stale_unix_socket_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        drop(unix_stream(&path, Some(0o660)).unwrap());
        let living = unix_stream(&path, Some(0o640)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(unix_stream(&path, None).unwrap_err().to_string().contains("another process"));
        assert!(unix_datagram(&path, None).is_err());
        drop(living);
        let datagram = unix_datagram(&path, None).unwrap();
        assert!(unix_datagram(&path, None).is_err());
        drop(datagram);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(unix_stream(&path, None).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    fn header(source: &str, header_bytes: usize) -> ProxyHeader {
        ProxyHeader::Header { source: Some(source.parse().unwrap()), header_bytes }
    }

    #[test]
    fn proxy_version_1_is_read() {
        assert_eq!(proxy_header(b"PROXY TCP4 192.0.2.1 198.51.100.2 50000 514\r\n<13>"), header("192.0.2.1:50000", 45));
        assert_eq!(proxy_header(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"), header("[2001:db8::1]:1", 44));
        assert_eq!(proxy_header(b"PROXY UNKNOWN anything\r\n"), ProxyHeader::Header { source: None, header_bytes: 24 });
        assert_eq!(proxy_header(b"<13>Oct"), ProxyHeader::None);
        assert_eq!(proxy_header(b""), ProxyHeader::NeedMore);
    }

    #[test]
    fn a_broken_proxy_version_1_line_is_invalid() {
        let long = format!("PROXY {}", "x".repeat(200));
        for line in [
            "PROXY TCP4 2001:db8::1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 70000 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
            &long,
        ] {
            assert!(matches!(proxy_header(line.as_bytes()), ProxyHeader::Invalid(_)), "{line}");
        }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [PROXY_V2_SIGNATURE, &[command, family][..], &length, body].concat()
    }

    #[test]
    fn proxy_version_2_is_read() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xc3, 0x50, 2, 2, 0x04, 0, 1, 0]; // with a TLV
        assert_eq!(proxy_header(&v2(0x21, 0x11, &v4)), header("192.0.2.1:50000", 32));
        let mut v6 = [0; 36];
        (v6[15], v6[33]) = (1, 9);
        assert_eq!(proxy_header(&v2(0x21, 0x21, &v6)), header("[::1]:9", 52));
        assert_eq!(proxy_header(&v2(0x20, 0, &[])), ProxyHeader::Header { source: None, header_bytes: 16 });
        assert_eq!(proxy_header(&v2(0x21, 0x31, &[0; 216])), ProxyHeader::Header { source: None, header_bytes: 232 });
        for bad in [v2(0x31, 0x11, &v4), v2(0x22, 0x11, &v4), v2(0x21, 0x11, &v4[..11]), v2(0x21, 0x41, &v4), v2(0x21, 0x11, &[0; 3000])] {
            assert!(matches!(proxy_header(&bad), ProxyHeader::Invalid(_)), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_proxy_header_is_read_the_same_however_it_is_cut(
            start in prop_oneof![Just(b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n".to_vec()), Just(v2(0x21, 0x11, &[7; 20])), Just(Vec::new())],
            tail in prop::collection::vec(any::<u8>(), 0..300),
            change in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut bytes = [start, tail].concat();
            if let Some((index, value)) = change.filter(|_| !bytes.is_empty()) {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            let whole = proxy_header(&bytes);
            if let ProxyHeader::Header { header_bytes, .. } = whole {
                prop_assert!(header_bytes <= bytes.len());
            }
            for end in 0..bytes.len() {
                let part = proxy_header(&bytes[..end]);
                prop_assert!(part == ProxyHeader::NeedMore || part == whole, "{part:?} of {whole:?}");
            }
        }
    }
}
