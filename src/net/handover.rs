//! Sockets that a process was given when it began, and gives on to the one that takes its place.
//!
//! In: `LISTEN_PID` and `LISTEN_FDS` (systemd, sd_listen_fds(3): descriptors from 3 on), or our own `HYDRANT_SOCKETS`:
//! `PID:FD/DROPS,FD/DROPS,...`, where `DROPS` is the kernel's count of dropped datagrams that was reported already.
//! Out: [`exec`] puts another program in the place of this one. The process keeps its number, so whoever supervises it
//! sees no restart, and the sockets stay open all the while: the kernel queues what comes in between, nobody is refused.
//!
//! A socket is found by its kind and address, so the new configuration may leave some out or add some. Where fewer
//! sockets were given than shards ask for (systemd gives one), they share it.
//!
//! Descriptors belong to the process, and so does the table of them here. Nothing is kept unless [`take_over`] was called:
//! a library's user, or a test, that starts a pipeline closes its sockets by dropping them.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use socket2::{SockRef, Type};

use crate::error::{Error, ErrorKind};

/// What our own hand-over says to the process that it becomes.
const OURS: &str = "HYDRANT_SOCKETS";

/// What systemd says. [`exec`] does not pass it on: its descriptors are among ours by then.
const SYSTEMD: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Where systemd's descriptors begin (`SD_LISTEN_FDS_START`).
const SYSTEMD_FIRST: RawFd = 3;

/// More is a mistake: a listener a shard and a source make some hundreds on large machines.
const SOCKETS_MAX: usize = 4096;

/// The kind and address of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A TCP listener.
    Tcp(SocketAddr),
    /// A UDP socket.
    Udp(SocketAddr),
    /// A listener at a unix stream socket.
    UnixStream(PathBuf),
    /// A unix datagram socket.
    UnixDatagram(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::UnixStream(path) => write!(f, "unix:{}", path.display()),
            Self::UnixDatagram(path) => write!(f, "unixgram:{}", path.display()),
        }
    }
}

/// A socket that was given, or is kept to be given on.
struct Kept {
    socket: OwnedFd,
    place: Place,
    /// Datagrams that the kernel dropped here and that are in somebody's count.
    drops: Arc<AtomicU32>,
    was_given: bool,
    /// How many have asked for it.
    users: usize,
}

/// `None` until [`take_over`].
static TABLE: Mutex<Option<Vec<Kept>>> = Mutex::new(None);

fn table() -> MutexGuard<'static, Option<Vec<Kept>>> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what this process was given, and keeps every socket that is bound from now on. Call once, before the first
/// thread: the descriptors are taken on the word of the environment. Returns what was given.
///
/// # Errors
/// The environment names descriptors that are not open, or that are not sockets which listen.
pub fn take_over() -> Result<Vec<Place>, Error> {
    let given = match std::env::var(OURS) {
        Ok(text) => parse(&text, process::id()),
        Err(_) => systemd(|name| std::env::var(name).ok(), process::id()),
    };
    let failed = |fd: RawFd, message: &str| {
        Error::new(ErrorKind::Configuration, "take over sockets", format!("descriptor {fd}, which the environment names, {message}"))
    };
    let mut kept = Vec::new();
    for (fd, drops) in given? {
        // SAFETY: only looked at here, and whether it is open is what is asked.
        let is_open = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) }).is_ok();
        if !is_open {
            return Err(failed(fd, "is not open"));
        }
        // SAFETY: it is open, and it was left to this process by the one before it, so nothing else here owns it: this
        // is called once, before anything is opened.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let place = place(&socket).ok_or_else(|| failed(fd, "is not a socket that listens"))?;
        fcntl_setfd(&socket, FdFlags::CLOEXEC).map_err(|_| failed(fd, "cannot be kept from children"))?;
        kept.push(Kept { socket, place, drops: Arc::new(AtomicU32::new(drops)), was_given: true, users: 0 });
    }
    let places = kept.iter().map(|kept| kept.place.clone()).collect();
    *table() = Some(kept);
    Ok(places)
}

/// `PID:FD/DROPS,...`; nothing if it is meant for another process.
fn parse(text: &str, pid: u32) -> Result<Vec<(RawFd, u32)>, Error> {
    let wrong = || Error::new(ErrorKind::Configuration, "take over sockets", format!("`{OURS}` is not PID:FD/DROPS,...: `{text}`"));
    let (owner, sockets) = text.split_once(':').ok_or_else(wrong)?;
    if owner.parse() != Ok(pid) {
        return Ok(Vec::new());
    }
    let socket = |text: &str| {
        let (fd, drops) = text.split_once('/')?;
        Some((fd.parse().ok().filter(|fd| *fd >= 0)?, drops.parse().ok()?))
    };
    let sockets = sockets.split(',').filter(|text| !text.is_empty()).take(SOCKETS_MAX);
    sockets.map(|text| socket(text).ok_or_else(wrong)).collect()
}

fn systemd(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Result<Vec<(RawFd, u32)>, Error> {
    if variable("LISTEN_PID").and_then(|text| text.parse().ok()) != Some(pid) {
        return Ok(Vec::new());
    }
    let text = variable("LISTEN_FDS").unwrap_or_default();
    let count = text.parse::<u16>().ok().filter(|count| usize::from(*count) <= SOCKETS_MAX);
    let wrong = || Error::new(ErrorKind::Configuration, "take over sockets", format!("`LISTEN_FDS` is not a number of sockets: `{text}`"));
    let count = RawFd::from(count.ok_or_else(wrong)?);
    Ok((SYSTEMD_FIRST..SYSTEMD_FIRST + count).map(|fd| (fd, 0)).collect())
}

fn place(socket: &OwnedFd) -> Option<Place> {
    let socket = SockRef::from(socket);
    let (kind, address) = (socket.r#type().ok()?, socket.local_addr().ok()?);
    let listens = || socket.is_listener().unwrap_or(false);
    match (kind, address.as_socket(), address.as_pathname()) {
        (Type::STREAM, Some(address), _) if listens() => Some(Place::Tcp(address)),
        (Type::DGRAM, Some(address), _) => Some(Place::Udp(address)),
        (Type::STREAM, None, Some(path)) if listens() => Some(Place::UnixStream(path.to_owned())),
        (Type::DGRAM, None, Some(path)) => Some(Place::UnixDatagram(path.to_owned())),
        _ => None,
    }
}

/// Whether a socket for this place was given.
pub fn was_given(place: &Place) -> bool {
    table().iter().flatten().any(|kept| kept.was_given && kept.place == *place)
}

/// A socket that was given for this place, and where its reported drops are counted; of several the one with the fewest
/// users.
pub(super) fn given(place: &Place) -> Option<(OwnedFd, Arc<AtomicU32>)> {
    let mut table = table();
    let all = table.iter_mut().flatten();
    let kept = all.filter(|kept| kept.was_given && kept.place == *place).min_by_key(|kept| kept.users)?;
    kept.users += 1;
    kept.socket.try_clone().ok().map(|socket| (socket, kept.drops.clone()))
}

/// Keeps a socket that was bound here, to be given on. Returns where its reported drops are counted.
pub(super) fn keep(socket: impl AsFd) -> Arc<AtomicU32> {
    let drops = Arc::<AtomicU32>::default();
    if let Some(table) = table().as_mut()
        && let Ok(socket) = socket.as_fd().try_clone_to_owned()
        && let Some(place) = place(&socket)
    {
        table.push(Kept { socket, place, drops: drops.clone(), was_given: false, users: 1 });
    }
    drops
}

/// Closes what was given and nobody asked for, once every listener is open; returns the places. Connections that wait
/// there are reset.
pub fn close_unused() -> Vec<Place> {
    let mut table = table();
    let Some(table) = table.as_mut() else { return Vec::new() };
    let unused = table.extract_if(.., |kept| kept.users == 0);
    unused.map(|kept| kept.place).collect()
}

/// Keeps nothing any more: what is closed from here on is closed for those who connect, too.
pub fn close() {
    *table() = None;
}

/// From here on SIGTERM and SIGINT end the process at once: a handler of this program would take a signal with it that
/// came when nobody looks any more. Call when all is written down.
pub fn let_signals_end_this() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: sets the disposition of a signal to a constant of the system; no handler runs.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Becomes `program`, which is given every socket that is kept. Returns only if that fails; the sockets are closed then.
///
/// Signals that a person or a supervisor may send meanwhile (SIGHUP, SIGUSR2) would end a program that has not asked
/// for them yet: they are ignored until it does.
pub fn exec(program: &Path, arguments: impl IntoIterator<Item = OsString>) -> Error {
    let kept = table().take().unwrap_or_default();
    let mut text = format!("{}:", process::id());
    for (index, Kept { socket, drops, .. }) in kept.iter().enumerate() {
        if fcntl_setfd(socket, FdFlags::empty()).is_ok() {
            let separator = if index == 0 { "" } else { "," };
            text.push_str(&format!("{separator}{}/{}", socket.as_raw_fd(), drops.load(Ordering::Relaxed)));
        }
    }
    for signal in [libc::SIGHUP, libc::SIGUSR2] {
        // SAFETY: sets the disposition of a signal to a constant of the system; no handler runs.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let mut command = Command::new(program);
    command.args(arguments).env(OURS, text);
    SYSTEMD.iter().for_each(|name| {
        command.env_remove(name);
    });
    let error = command.exec();
    Error::new(ErrorKind::Unexpected, "hand over", "the program cannot be started").with("program", program.display()).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_sockets_is_read_by_the_process_that_it_is_meant_for() {
        assert_eq!(parse("7:3/0,12/4294967295", 7).unwrap(), [(3, 0), (12, u32::MAX)]);
        assert_eq!(parse("7:", 7).unwrap(), []);
        assert_eq!(parse("8:3/0", 7).unwrap(), [], "the environment of a child");
        for text in ["", "7", "7:3", "7:x/0", "7:3/-1", "7:-3/0", "7:3/0;4/0"] {
            let error = parse(text, 7).unwrap_err().to_string();
            assert!(error.contains("PID:FD/DROPS"), "{text}: {error}");
        }
    }

    #[test]
    fn systemd_gives_descriptors_from_3_on_to_the_process_it_names() {
        let from = |pid: &'static str, count: &'static str| {
            move |name: &str| match name {
                "LISTEN_PID" => Some(pid.to_owned()),
                "LISTEN_FDS" => Some(count.to_owned()),
                _ => None,
            }
        };
        assert_eq!(systemd(from("7", "2"), 7).unwrap(), [(3, 0), (4, 0)]);
        assert_eq!(systemd(from("8", "2"), 7).unwrap(), []);
        assert_eq!(systemd(|_| None, 7).unwrap(), []);
        assert!(systemd(from("7", "many"), 7).unwrap_err().to_string().contains("LISTEN_FDS"));
    }

    #[test]
    fn sockets_are_known_by_kind_and_address() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let (tcp_at, udp_at) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        assert_eq!(place(&tcp.into()), Some(Place::Tcp(tcp_at)));
        assert_eq!(place(&udp.into()), Some(Place::Udp(udp_at)));
        assert_eq!(place(&std::os::unix::net::UnixListener::bind(&path).unwrap().into()), Some(Place::UnixStream(path)));
        assert_eq!(place(&std::os::unix::net::UnixDatagram::bind(&other).unwrap().into()), Some(Place::UnixDatagram(other)));
        let unbound = socket2::Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        assert_eq!(place(&unbound.into()), None);
        assert_eq!(place(&std::fs::File::open("/dev/null").unwrap().into()), None);
    }
}
