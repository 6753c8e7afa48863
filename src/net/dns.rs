//! A stub resolver: a question to name servers, and their answer or why there is none.
//!
//! In: an address, or the name of a host. Out: names or addresses, and for how long they hold. RFC 1035 over UDP, over TCP
//! where the answer is cut (section 4.2); RFC 2308 for how long nothing is nothing. The crate `domain` reads and writes the
//! format; what is here decides how much of a message is believed, and for how long anybody is waited for:
//!
//! * Each attempt has a socket of its own, connected to the server, at a port that the kernel chooses, and a random id
//!   (RFC 5452). What comes and is no answer to the question is passed over, up to [`STRANGE_MAX`] datagrams.
//! * A name is followed through at most [`CHAIN_MAX`] aliases (RFC 2317), looking at [`RECORDS_MAX`] records for each.
//! * What the name of a host can be is written at [`host_name`].
//!
//! Not supported: EDNS, DNSSEC, cookies, DNS over TLS or HTTPS, search lists and `options` of resolv.conf.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::iana::{Class, Rcode};
use domain::base::name::{Name, ParsedName, ToName};
use domain::base::{Message, MessageBuilder, ParseRecordData, Rtype};
use domain::rdata::{A, Aaaa, Cname, Ptr, Soa};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// Where name servers listen.
pub const PORT: u16 = 53;

/// Servers of a list that are asked; the C library takes three.
pub const SERVERS_MAX: usize = 4;

/// A lone server is asked once more: a datagram may be lost.
const ATTEMPTS_MIN: usize = 2;

/// Datagrams that are no answer to the question, before an attempt is given up: somebody is guessing.
const STRANGE_MAX: usize = 32;

/// Aliases one behind the other; resolvers follow 8 to 16.
const CHAIN_MAX: usize = 8;

/// Records of an answer that are looked at.
const RECORDS_MAX: usize = 256;

/// Longest datagram that is read; without EDNS an answer has at most 512 bytes (RFC 1035 section 4.2.1).
const DATAGRAM_BYTES: usize = 4096;

/// What the name servers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<T> {
    /// Each record once, sorted, so that servers that rotate them change nothing; how long they hold.
    Records(Vec<T>, Duration),
    /// There are records, and none can be used: they are not names of hosts.
    Unusable(Duration),
    /// There is none; for how long, if the zone says it.
    Absent(Option<Duration>),
}

/// Why nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No answer came in time.
    Timeout,
    /// The server cannot or will not answer: its RCODE, such as 2 (SERVFAIL) or 5 (REFUSED).
    Refused(u8),
    /// What came is an answer to the question, and damaged.
    Malformed,
    /// The server's machine is not there, or nobody listens there.
    Unreachable,
}

/// What a message is to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// No answer to it.
    Strange,
    /// The answer does not fit a datagram.
    Cut,
    /// The answer.
    Whole(Result<Reply<T>, Failure>),
}

/// Reads a message: the question, and what came.
type Read<T> = fn(&[u8], &[u8]) -> Reading<T>;

/// Servers and how long each is waited for.
#[derive(Clone, Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    timeout: Duration,
}

impl Resolver {
    /// A resolver that asks these one after the other, the first [`SERVERS_MAX`] of them.
    pub fn new(servers: &[SocketAddr], timeout: Duration) -> Self {
        Self { servers: servers.iter().take(SERVERS_MAX).copied().collect(), timeout }
    }

    /// The names of an address (PTR).
    ///
    /// # Errors
    /// What the last server that was asked did.
    pub async fn names_of(&self, address: IpAddr) -> Result<Reply<String>, Failure> {
        let name = Name::<Vec<u8>>::reverse_from_addr(address).map_err(|_| Failure::Malformed)?;
        self.ask(&name, Rtype::PTR, read_names).await
    }

    /// The addresses of a host, of the same family as `like`.
    ///
    /// # Errors
    /// What the last server that was asked did.
    pub async fn addresses_of(&self, host: &str, like: IpAddr) -> Result<Reply<IpAddr>, Failure> {
        let name = Name::vec_from_str(host).map_err(|_| Failure::Malformed)?;
        match like {
            IpAddr::V4(_) => self.ask(&name, Rtype::A, read_v4).await,
            IpAddr::V6(_) => self.ask(&name, Rtype::AAAA, read_v6).await,
        }
    }

    async fn ask<T>(&self, name: &Name<Vec<u8>>, kind: Rtype, read: Read<T>) -> Result<Reply<T>, Failure> {
        let mut failure = Failure::Unreachable;
        for server in self.servers.iter().cycle().take(self.servers.len().max(ATTEMPTS_MIN)) {
            let query = question(name, kind)?;
            failure = match tokio::time::timeout(self.timeout, by_udp(*server, &query, read)).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Timeout,
            };
        }
        Err(failure)
    }
}

fn question(name: &Name<Vec<u8>>, kind: Rtype) -> Result<Vec<u8>, Failure> {
    let mut id = [0; 2];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| Failure::Unreachable)?;
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(u16::from_be_bytes(id));
    message.header_mut().set_rd(true);
    let mut message = message.question();
    message.push((name, kind)).map_err(|_| Failure::Malformed)?;
    Ok(message.finish())
}

async fn by_udp<T>(server: SocketAddr, query: &[u8], read: Read<T>) -> Result<Reply<T>, Failure> {
    let own: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let unreachable = |_| Failure::Unreachable;
    let socket = UdpSocket::bind((own, 0)).await.map_err(unreachable)?;
    socket.connect(server).await.map_err(unreachable)?;
    socket.send(query).await.map_err(unreachable)?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    for _ in 0..STRANGE_MAX {
        let len = socket.recv(&mut buffer).await.map_err(unreachable)?;
        match read(query, buffer.get(..len).unwrap_or_default()) {
            Reading::Strange => {}
            Reading::Cut => return by_tcp(server, query, read).await,
            Reading::Whole(reply) => return reply,
        }
    }
    Err(Failure::Malformed)
}

/// The same question over a connection, where a message has its length in front of it.
async fn by_tcp<T>(server: SocketAddr, query: &[u8], read: Read<T>) -> Result<Reply<T>, Failure> {
    let unreachable = |_| Failure::Unreachable;
    let mut stream = TcpStream::connect(server).await.map_err(unreachable)?;
    let framed = [&(query.len() as u16).to_be_bytes(), query].concat();
    stream.write_all(&framed).await.map_err(unreachable)?;
    let len = stream.read_u16().await.map_err(unreachable)?;
    let mut message = vec![0; usize::from(len)];
    stream.read_exact(&mut message).await.map_err(unreachable)?;
    match read(query, &message) {
        Reading::Whole(reply) => reply,
        Reading::Strange | Reading::Cut => Err(Failure::Malformed),
    }
}

/// Reads what came for a question about the names of an address.
pub fn read_names(query: &[u8], message: &[u8]) -> Reading<String> {
    read(query, message, |record: Ptr<ParsedName<&[u8]>>| host_name(record.ptrdname()))
}

/// Reads what came for a question about the IPv4 addresses of a name.
pub fn read_v4(query: &[u8], message: &[u8]) -> Reading<IpAddr> {
    read(query, message, |record: A| Some(record.addr().into()))
}

/// Reads what came for a question about the IPv6 addresses of a name.
pub fn read_v6(query: &[u8], message: &[u8]) -> Reading<IpAddr> {
    read(query, message, |record: Aaaa| Some(record.addr().into()))
}

fn read<'a, D, T>(query: &[u8], message: &'a [u8], take: impl Fn(D) -> Option<T>) -> Reading<T>
where
    D: ParseRecordData<'a, [u8]>,
    T: Ord,
{
    let (Ok(query), Ok(message)) = (Message::from_slice(query), Message::from_slice(message)) else { return Reading::Strange };
    if !message.is_answer(query) {
        return Reading::Strange;
    }
    if message.header().tc() {
        return Reading::Cut;
    }
    Reading::Whole(match message.header().rcode() {
        Rcode::NOERROR => records(message, take).ok_or(Failure::Malformed),
        Rcode::NXDOMAIN => Ok(Reply::Absent(negative_ttl(message))),
        other => Err(Failure::Refused(other.to_int())),
    })
}

/// The records that belong to the name that was asked for, or to the one that it is an alias of; `None` if they are damaged.
fn records<'a, D, T>(message: &'a Message<[u8]>, take: impl Fn(D) -> Option<T>) -> Option<Reply<T>>
where
    D: ParseRecordData<'a, [u8]>,
    T: Ord,
{
    let mut owner = message.sole_question().ok()?.into_qname();
    let mut ttl_s = u32::MAX;
    for _ in 0..CHAIN_MAX {
        let (mut alias, mut found, mut is_there) = (None, Vec::new(), false);
        for record in message.answer().ok()?.take(RECORDS_MAX) {
            let record = record.ok()?;
            if record.class() != Class::IN || !record.owner().name_eq(&owner) {
                continue;
            }
            let record_ttl_s = record.ttl().as_secs();
            if record.rtype() == Rtype::CNAME {
                alias = Some(record.into_record::<Cname<ParsedName<&[u8]>>>().ok()??.into_data().into_cname());
            } else if let Some(record) = record.into_record::<D>().ok()? {
                is_there = true;
                found.extend(take(record.into_data()));
            } else {
                continue;
            }
            ttl_s = ttl_s.min(record_ttl_s);
        }
        match alias {
            _ if is_there => {
                found.sort_unstable();
                found.dedup();
                let ttl = Duration::from_secs(ttl_s.into());
                return Some(if found.is_empty() { Reply::Unusable(ttl) } else { Reply::Records(found, ttl) });
            }
            Some(name) => owner = name,
            None => return Some(Reply::Absent(negative_ttl(message))),
        }
    }
    None
}

/// For how long there is nothing: RFC 2308 section 5.
fn negative_ttl(message: &Message<[u8]>) -> Option<Duration> {
    let soa = message.authority().ok()?.take(RECORDS_MAX).find(|record| record.as_ref().is_ok_and(|record| record.rtype() == Rtype::SOA));
    let record = soa?.ok()?.into_record::<Soa<ParsedName<&[u8]>>>().ok()??;
    Some(Duration::from_secs(record.ttl().min(record.data().minimum()).as_secs().into()))
}

/// The name of a host, in small letters without the last dot: letters, digits, `-` and `_` (which Windows has), a label neither
/// begins nor ends with `-`, at most 253 bytes. Its last label is not a number, so that no name reads as an address.
fn host_name(name: &ParsedName<&[u8]>) -> Option<String> {
    let mut text = String::new();
    for label in name.iter().filter(|label| !label.is_root()) {
        let bytes: &[u8] = label.as_ref();
        let is_good = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !is_good || bytes.starts_with(b"-") || bytes.ends_with(b"-") {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(bytes.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    }
    let is_number = text.rsplit('.').next().is_none_or(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    (!is_number && text.len() <= HOST_BYTES_MAX).then_some(text)
}

/// Longest name (RFC 1035: 255 octets on the wire are 253 characters).
pub const HOST_BYTES_MAX: usize = 253;

/// The name servers that a resolv.conf names (resolv.conf(5)); this machine if it names none. Those with a zone (`fe80::1%eth0`)
/// are passed over.
pub fn servers_of(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, PORT))
    };
    let servers: Vec<SocketAddr> = resolv_conf.lines().filter_map(server).take(SERVERS_MAX).collect();
    if servers.is_empty() { vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)] } else { servers }
}

#[cfg(test)]
mod tests;
