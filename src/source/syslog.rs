//! `syslog`: log lines by TCP, TLS, UDP and unix sockets.
//!
//! In: RFC 5426 (UDP), RFC 6587 (TCP, octet counts and lines told apart per frame), RFC 5425 (TLS; with
//! `client_ca` the client must show a certificate). Out: frames; the header is read by the decoder.
//!
//! Plain TCP and UDP have no acknowledgement: what is in a socket buffer when the process is killed is lost.
//! Pressure: a TCP connection is not read while the budget is full, so its sender's window closes; for UDP the
//! kernel drops, and every dropped datagram is counted.
//!
//! * `allow` lists the networks that may send; others are refused and counted (UDP: per datagram).
//! * `sender_rate_max` caps the bytes a second of each sender address: a connection is read no faster; datagrams
//!   beyond it are refused and counted.
//! * `proxy_protocol` lists the relays whose PROXY header (v1, v2) is believed; from them it is required.
//! * A peer that is silent in the middle of a frame keeps its connection: log senders are silent for days.
//!   Connections are capped by `limits::CONNECTIONS_MAX` per shard.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::{Intake, Messages, Source, SourceKind, Stream};
use crate::config::{ByteSize, Section, schema_of};
use crate::error::{Diagnostics, Error, ErrorKind};
use crate::event::Span;
use crate::limits::{CONNECTIONS_MAX, DATAGRAMS_PER_CALL};
use crate::net::listen::{self, Address, ProxyHeader, Transport};
use crate::net::rate::SenderRates;
use crate::net::tls::{RELOAD_INTERVAL, ServerTls, TlsServer};
use crate::net::udp;
use crate::task::{LocalFuture, Stop};

pub(super) struct Syslog;

const SAMPLE: &str = r#"
type: syslog
listen: "0.0.0.0:5514"          # TCP and UDP; `tcp://`, `udp://`, `unix:/path`, `unixgram:/path` for one of them
decoder: auto                   # or the format, if all senders are of one kind
allow: ["10.0.0.0/8"]           # default: everybody
sender_rate_max: 20MB           # bytes a second of one sender address; default: no cap
receive_buffer: 4MiB            # UDP socket buffer, per shard; the system may grant less (net.core.rmem_max)
"#;

impl SourceKind for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn sample(&self) -> &'static str {
        SAMPLE
    }

    fn schema(&self) -> schemars::Schema {
        schema_of::<Config>()
    }

    fn read(&self, section: &Section) -> Result<Arc<dyn Source>, Diagnostics> {
        let config: Config = section.read()?;
        let child = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
        let mut diagnostics = Diagnostics::new();
        let mut addresses = Vec::new();
        for text in config.listen.list() {
            match text.parse::<Address>() {
                Ok(address) => addresses.push(address),
                Err(message) => diagnostics.push(child("listen").error(message)),
            }
        }
        let networks = |key: &str, texts: &[String], diagnostics: &mut Diagnostics| -> Vec<ipnet::IpNet> {
            let mut list = Vec::new();
            for text in texts {
                match text.parse().or_else(|_| text.parse::<IpAddr>().map(ipnet::IpNet::from)) {
                    Ok(network) => list.push(network),
                    Err(_) => {
                        diagnostics.push(child(key).error(format!("`{text}` is neither a network such as `10.0.0.0/8` nor an address")))
                    }
                }
            }
            list
        };
        let allow = networks("allow", &config.allow, &mut diagnostics);
        let relays = networks("proxy_protocol", &config.proxy_protocol, &mut diagnostics);
        let rates = config.sender_rate_max.map(|rate| SenderRates::new(rate.0));
        let receive_buffer = config.receive_buffer.0;
        let unix_is_taken = AtomicBool::new(false);
        let configured = Configured { addresses, allow, relays, rates, receive_buffer, tls: config.tls, unix_is_taken };
        diagnostics.into_result(Arc::new(configured))
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where to listen.
    listen: Listen,
    /// Networks that may send; empty is everybody.
    #[serde(default)]
    allow: Vec<String>,
    /// Bytes a second that one sender address may send.
    sender_rate_max: Option<ByteSize>,
    /// Relays whose PROXY header is believed, and required.
    #[serde(default)]
    proxy_protocol: Vec<String>,
    /// Size of the UDP socket buffer of each shard; the system may grant less.
    #[serde(default = "default_receive_buffer")]
    receive_buffer: ByteSize,
    /// Certificate and key: the TCP listener then speaks TLS only.
    tls: Option<TlsServer>,
}

/// Enough for tens of milliseconds of 100,000 lines a second: a core that is taken away for so long, by another
/// process or a hypervisor, then costs no datagram. The system's own default (208 KiB) holds less than one.
fn default_receive_buffer() -> ByteSize {
    ByteSize(4 * 1024 * 1024)
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
enum Listen {
    One(String),
    Many(Vec<String>),
}

impl Listen {
    fn list(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(list) => list,
        }
    }
}

struct Configured {
    addresses: Vec<Address>,
    allow: Vec<ipnet::IpNet>,
    relays: Vec<ipnet::IpNet>,
    /// Shared by the shards.
    rates: Option<SenderRates>,
    receive_buffer: usize,
    tls: Option<TlsServer>,
    /// Unix sockets have no SO_REUSEPORT: the first shard that comes here has them.
    unix_is_taken: AtomicBool,
}

impl Configured {
    fn is_allowed(&self, peer: IpAddr) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|network| network.contains(&peer))
    }
}

impl Source for Configured {
    fn framing(&self) -> &'static str {
        "syslog"
    }

    fn listens_on(&self) -> Vec<Address> {
        self.addresses.clone()
    }

    fn run(self: Arc<Self>, intake: Rc<dyn Intake>, stop: Stop) -> LocalFuture<'static, Result<(), Error>> {
        Box::pin(self.listen(intake, stop))
    }
}

impl Configured {
    async fn listen(self: Arc<Self>, intake: Rc<dyn Intake>, stop: Stop) -> Result<(), Error> {
        let tls = match &self.tls {
            Some(settings) => Some(Arc::new(ServerTls::load_one_way(settings.clone())?)),
            None => None,
        };
        let context = Rc::new(Context {
            intake: intake.clone(),
            configured: self.clone(),
            tls,
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            stop: stop.clone(),
        });
        let mut tasks = JoinSet::new();
        let has_unix = !self.unix_is_taken.swap(true, Ordering::Relaxed);
        for address in &self.addresses {
            match address {
                Address::Unix { .. } if !has_unix => {}
                Address::Ip { socket, transport } => {
                    if *transport != Transport::Udp {
                        tasks.spawn_local(accept(listen::tcp(*socket)?, context.clone()));
                    }
                    if *transport != Transport::Tcp && self.tls.is_none() {
                        let udp = listen::udp(*socket, Some(self.receive_buffer))?;
                        let granted = udp.receive_buffer_bytes;
                        if granted < self.receive_buffer {
                            let (asked, help) = (self.receive_buffer, "raise net.core.rmem_max, or give CAP_NET_ADMIN");
                            tracing::warn!(address = %socket, asked, granted, help, "the system grants a smaller receive buffer");
                        }
                        tasks.spawn_local(self.clone().receive(*socket, udp, intake.clone(), stop.clone()));
                    }
                }
                Address::Unix { path, datagram: false } => {
                    let listener = listen::unix_stream(path, None)?;
                    tasks.spawn_local(accept_unix(listener, context.clone()));
                }
                Address::Unix { path, datagram: true } => {
                    let socket = listen::unix_datagram(path, None)?;
                    tasks.spawn_local(receive_unix(socket, intake.clone(), stop.clone()));
                }
            }
        }
        if let Some(tls) = &context.tls {
            tasks.spawn_local(renew(tls.clone(), stop));
        }
        intake.opened();
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| Error::new(ErrorKind::Unexpected, "listen", "a listener panicked").because(error))??;
        }
        Ok(())
    }

    /// UDP is read on a thread of its own, so that whatever the shard does, the socket buffer is emptied within
    /// a fraction of a millisecond.
    async fn receive(self: Arc<Self>, address: SocketAddr, socket: listen::Udp, intake: Rc<dyn Intake>, stop: Stop) -> Result<(), Error> {
        let receiver = udp::Receiver::new(socket, UDP_WAIT).map_err(|error| listen_failed(address, error))?;
        let (sender, mut datagrams) = mpsc::channel(UDP_QUEUE);
        let ended = Arc::new(AtomicBool::new(false));
        let thread = {
            let ended = ended.clone();
            std::thread::Builder::new().name("hydrant-udp".into()).spawn(move || read_datagrams(receiver, &sender, &ended))
        };
        let thread = thread.map_err(|error| listen_failed(address, error))?;
        loop {
            let batch = tokio::select! {
                batch = datagrams.recv() => batch,
                () = stop.wait() => {
                    ended.store(true, Ordering::Relaxed);
                    datagrams.recv().await
                }
            };
            let Some(Datagrams { mut messages, dropped }) = batch else { break };
            intake.count_kernel_drops(dropped);
            if !self.allow.is_empty() || self.rates.is_some() {
                self.drop_refused(&mut messages, &*intake);
            }
            if intake.submit(messages).await.is_err() {
                break;
            }
        }
        ended.store(true, Ordering::Relaxed);
        drop(datagrams);
        thread.join().map_err(|_| Error::new(ErrorKind::Unexpected, "receive", "the UDP thread panicked"))
    }

    fn drop_refused(&self, messages: &mut Messages, intake: &dyn Intake) {
        let now = Instant::now();
        let mut kept = Messages { bytes: std::mem::take(&mut messages.bytes), ..Messages::default() };
        for (index, (first, peer)) in messages.peers.iter().enumerate() {
            let end = messages.peers.get(index + 1).map_or(messages.spans.len(), |(next, _)| *next as usize);
            let spans = &messages.spans[*first as usize..end];
            if !self.is_allowed(*peer) {
                spans.iter().for_each(|_| intake.count_refused_from("not_allowed", *peer));
                continue;
            }
            kept.peers.push((kept.spans.len() as u32, *peer));
            for span in spans {
                if self.rates.as_ref().is_none_or(|rates| rates.admits(*peer, span.len(), now)) {
                    kept.spans.push(*span);
                } else {
                    intake.count_refused_from("sender_rate", *peer);
                }
            }
        }
        *messages = kept;
    }
}

fn listen_failed(address: SocketAddr, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Connection, "listen", "the UDP socket cannot be used").with("address", address).because(error)
}

/// Longest wait for a datagram before the thread looks whether it should end.
const UDP_WAIT: Duration = Duration::from_millis(100);

/// Batches between the thread and the shard.
const UDP_QUEUE: usize = 64;

/// While datagrams come steadily, the thread sleeps between two calls, so that one call takes several of them: as
/// long as brings about [`UDP_GUSH`], between these bounds. The default socket buffer holds 69 datagrams of 750 bytes
/// for sure (212,992 bytes; each takes 2,304, and the kernel gives room back by the quarter).
const UDP_PAUSES: RangeInclusive<Duration> = Duration::from_micros(30)..=Duration::from_micros(500);

const UDP_GUSH: usize = 16;

/// Datagrams are given to the shard when so much is together, or so long after the first one: it works on many as
/// cheaply as on a few.
const UDP_BATCH_BYTES: usize = 64 * 1024;

const UDP_BATCH_TIME: Duration = Duration::from_millis(2);

/// While the shard does not take any, a batch may grow to this size before the socket is left alone.
const UDP_BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Default)]
struct Datagrams {
    messages: Messages,
    dropped: u64,
}

/// Empties the socket buffer again and again, and hands over what has come.
fn read_datagrams(mut receiver: udp::Receiver, sender: &mpsc::Sender<Datagrams>, ended: &AtomicBool) {
    udp::prefer_to_wake();
    let mut batch = Datagrams::default();
    let mut counted = 0;
    let mut since = Instant::now();
    let mut pause = *UDP_PAUSES.start();
    while !ended.load(Ordering::Relaxed) || !batch.messages.spans.is_empty() || batch.dropped > 0 {
        let is_first = batch.messages.spans.is_empty();
        if is_first {
            since = Instant::now();
        } else {
            std::thread::sleep(pause);
        }
        let gush = drain_socket(&mut receiver, &mut batch.messages, is_first);
        pause = if gush > UDP_GUSH { pause / 2 } else { pause * 2 }.clamp(*UDP_PAUSES.start(), *UDP_PAUSES.end());
        let bytes = batch.messages.bytes.len();
        let is_due = bytes >= UDP_BATCH_BYTES || since.elapsed() >= UDP_BATCH_TIME || gush == 0 || (is_first && gush == 1);
        if !is_due {
            continue;
        }
        let dropped = receiver.dropped();
        batch.dropped += dropped - counted;
        counted = dropped;
        if batch.messages.spans.is_empty() && batch.dropped == 0 {
            continue;
        }
        match sender.try_send(std::mem::take(&mut batch)) {
            Ok(()) => {}
            Err(TrySendError::Full(kept)) if bytes < UDP_BATCH_BYTES_MAX => batch = kept,
            Err(TrySendError::Full(full)) => {
                if sender.blocking_send(full).is_err() {
                    return;
                }
            }
            Err(TrySendError::Closed(_)) => return,
        }
    }
}

/// Takes what is in the socket buffer; waits for the first datagram if `may_wait`. Returns how many came.
fn drain_socket(receiver: &mut udp::Receiver, messages: &mut Messages, may_wait: bool) -> usize {
    let before = messages.spans.len();
    let mut may_wait = may_wait;
    loop {
        let received = if may_wait { receiver.receive(&mut messages.bytes) } else { receiver.receive_now(&mut messages.bytes) };
        may_wait = false;
        let datagrams = match received {
            Ok(datagrams) => datagrams,
            Err(error) => {
                tracing::error!(%error, "receiving datagrams failed; trying again");
                std::thread::sleep(UDP_WAIT);
                break;
            }
        };
        for datagram in datagrams {
            let peer = datagram.peer.ip().to_canonical();
            if messages.peers.last().is_none_or(|(_, last)| *last != peer) {
                messages.peers.push((messages.spans.len() as u32, peer));
            }
            messages.spans.push(Span::new(datagram.span.start, datagram.span.end));
        }
        if datagrams.len() < DATAGRAMS_PER_CALL || messages.bytes.len() >= UDP_BATCH_BYTES_MAX {
            break;
        }
    }
    messages.spans.len() - before
}

struct Context {
    intake: Rc<dyn Intake>,
    configured: Arc<Configured>,
    tls: Option<Arc<ServerTls>>,
    connections: Arc<Semaphore>,
    stop: Stop,
}

/// Wait after a failed `accept`: out of file descriptors does not mend itself at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

async fn accept(listener: TcpListener, context: Rc<Context>) -> Result<(), Error> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.stop.wait() => return Ok(()),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = context.connections.clone().try_acquire_owned() else {
            context.intake.count_refused_from("too_many_connections", peer.ip().to_canonical());
            continue;
        };
        let context = context.clone();
        tokio::task::spawn_local(async move {
            connection(stream, peer.ip().to_canonical(), &context).await;
            drop(permit);
        });
    }
}

async fn connection(mut stream: tokio::net::TcpStream, peer: IpAddr, context: &Context) {
    let mut peer = peer;
    let mut before = Vec::new();
    if context.configured.relays.iter().any(|relay| relay.contains(&peer)) {
        match proxied(&mut stream, &mut before).await {
            Ok(Some(source)) => peer = source,
            Ok(None) => {}
            Err(reason) => return context.intake.count_refused_from(reason, peer),
        }
    }
    if !context.configured.is_allowed(peer) {
        return context.intake.count_refused_from("not_allowed", peer);
    }
    match &context.tls {
        None => read(stream, Some(peer), before, context).await,
        Some(_) if !before.is_empty() => context.intake.count_refused_from("proxy_header", peer),
        Some(tls) => {
            let acceptor = tokio_rustls::TlsAcceptor::from(tls.config());
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => read(stream, Some(peer), before, context).await,
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "TLS handshake failed");
                    context.intake.count_refused_from("tls", peer);
                }
                Err(_) => context.intake.count_refused_from("tls_timeout", peer),
            }
        }
    }
}

/// Takes up a certificate that was replaced.
async fn renew(tls: Arc<ServerTls>, stop: Stop) -> Result<(), Error> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RELOAD_INTERVAL) => {}
            () = stop.wait() => return Ok(()),
        }
        if let Err(error) = tls.reload_if_changed() {
            tracing::error!(%error, "a new certificate cannot be used; the old one stays");
        }
    }
}

/// Time for a TLS handshake or a PROXY header.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the PROXY header; `Ok(None)` if the relay speaks for itself. Exactly the header is taken from the
/// stream, so that a TLS handshake may follow.
async fn proxied(stream: &mut tokio::net::TcpStream, buffer: &mut Vec<u8>) -> Result<Option<IpAddr>, &'static str> {
    let header = async {
        loop {
            let mut byte = [0];
            if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                return Err("proxy_header");
            }
            buffer.extend_from_slice(&byte);
            match listen::proxy_header(buffer) {
                ProxyHeader::NeedMore => {}
                ProxyHeader::Header { source, .. } => {
                    buffer.clear();
                    return Ok(source.map(|address| address.ip().to_canonical()));
                }
                ProxyHeader::None | ProxyHeader::Invalid(_) => return Err("proxy_header"),
            }
        }
    };
    tokio::time::timeout(HANDSHAKE_TIMEOUT, header).await.unwrap_or(Err("proxy_header"))
}

async fn accept_unix(listener: tokio::net::UnixListener, context: Rc<Context>) -> Result<(), Error> {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.stop.wait() => return Ok(()),
        };
        match accepted {
            Ok((stream, _)) => {
                let context = context.clone();
                tokio::task::spawn_local(async move { read(stream, None, Vec::new(), &context).await });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// On a stop a connection that never falls silent is read for this long: its socket buffer was full of what came
/// before.
const STOP_READ: Duration = Duration::from_secs(1);

/// The same when another process takes over: those who connect meanwhile wait for it.
const HAND_OVER_READ: Duration = Duration::from_millis(100);

/// Reads one connection to its end. On a stop what the kernel already has is still read.
async fn read(mut stream: impl AsyncRead + Unpin, peer: Option<IpAddr>, before: Vec<u8>, context: &Context) {
    let mut frames: Box<dyn Stream> = context.intake.stream(peer);
    frames.buffer().extend_from_slice(&before);
    let mut stopping = None;
    loop {
        if context.stop.is_set() {
            let limit = if context.stop.is_hand_over() { HAND_OVER_READ } else { STOP_READ };
            if stopping.get_or_insert_with(Instant::now).elapsed() > limit {
                break;
            }
        }
        let count = tokio::select! {
            biased;
            count = stream.read_buf(frames.buffer()) => count,
            () = context.stop.wait() => Ok(0),
        };
        match count {
            Ok(0) => break,
            Ok(count) => {
                if frames.received().await.is_err() {
                    return;
                }
                if let (Some(rates), Some(peer)) = (&context.configured.rates, peer) {
                    hold_back(rates.hold_back(peer, count, Instant::now()), &context.stop).await;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "connection ended");
                break;
            }
        }
    }
    if frames.finish().await.is_err() {
        context.intake.count_refused("stopping");
    }
}

/// Leaves a connection alone, but not beyond a stop.
async fn hold_back(time: Duration, stop: &Stop) {
    if !time.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = stop.wait() => {}
        }
    }
}

async fn receive_unix(socket: tokio::net::UnixDatagram, intake: Rc<dyn Intake>, stop: Stop) -> Result<(), Error> {
    let mut buffer = vec![0; crate::limits::DATAGRAM_BYTES_MAX];
    loop {
        let count = tokio::select! {
            count = socket.recv(&mut buffer) => count,
            () = stop.wait() => return Ok(()),
        };
        let Ok(count) = count else { continue };
        let messages = Messages { bytes: buffer[..count].to_vec(), spans: vec![Span::new(0, count)], ..Messages::default() };
        if intake.submit(messages).await.is_err() {
            return Ok(());
        }
    }
}
