//! Receiving UDP in batches, and knowing what the kernel threw away.
//!
//! In: a blocking socket of its own thread. Out: up to [`DATAGRAMS_PER_CALL`] datagrams per system call
//! (`recvmmsg`, Linux), packed into the caller's buffer one behind the other, each with its sender.
//!
//! When the socket's buffer is full the kernel drops datagrams and tells nobody, unless asked: with
//! SO_RXQ_OVFL every datagram carries the number dropped on this socket so far, and SO_MEMINFO tells the same
//! number when no datagram comes any more. Both are 32 bits wide and wrap; [`Receiver::dropped`] adds the
//! differences up to 64 bits, so that sent = received + dropped holds to the datagram.
//!
//! A datagram longer than [`DATAGRAM_BYTES_MAX`] cannot exist. Datagrams of no bytes are passed on: the sender
//! counted them too. What the network lost before the socket is not known here.

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::SockAddr;

use crate::limits::{DATAGRAM_BYTES_MAX, DATAGRAMS_PER_CALL};
use crate::net::listen::Udp;

/// Most datagrams are short log lines, but each may have [`DATAGRAM_BYTES_MAX`] bytes, and the kernel wants to
/// know where every one goes before it is there: this many bytes are set aside per call.
pub const BATCH_BYTES: usize = DATAGRAMS_PER_CALL * DATAGRAM_SLOT_BYTES;

/// One datagram's place: the maximum, and an odd number of cache lines in all. At a distance of a power of two
/// the starts of all places would share one set of the L1 cache.
const DATAGRAM_SLOT_BYTES: usize = DATAGRAM_BYTES_MAX.next_multiple_of(64) + 9 * 64;

/// Stands in for a sender's address that is not IP, which a UDP socket never gives; the datagram still counts.
const UNKNOWN_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Room for the one control message asked for: header and a `u32`, aligned (24 bytes on 64-bit Linux).
const CONTROL_BYTES: usize = 64;

/// SO_MEMINFO gives an array of `u32`; the drop counter is its last member (`SK_MEMINFO_DROPS`).
const MEMINFO_WORDS: usize = 9;

/// A control buffer must be aligned like its header.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// A socket with the buffers for one batch. 4 MiB, most of it never touched.
pub struct Receiver {
    socket: UdpSocket,
    slots: Box<[MaybeUninit<u8>]>,
    controls: Box<[Control]>,
    names: Box<[libc::sockaddr_storage]>,
    spans: Vec<Datagram>,
    dropped: u64,
    /// The kernel's count as far as somebody has it in `dropped`: receivers may share a socket, and processes take it over
    /// from each other.
    reported: Arc<AtomicU32>,
}

/// CPU time that a receiving thread asks for at a time. The default socket buffer holds less than a millisecond of
/// 100,000 datagrams a second; a shard may run for several before the scheduler takes the core from it.
const SLICE_NS: u64 = 100_000;

/// How much better the niceness of a receiving thread is than that of its process, where that is allowed (root,
/// CAP_SYS_NICE, RLIMIT_NICE). It needs little time, but at once.
const NICENESS: i32 = 10;

/// Asks for this thread to sleep as short as it says, and to run as soon as it wakes, for short times (Linux 6.12,
/// `sched_setattr` with a runtime for an ordinary thread). Where that is unknown, nothing changes.
pub fn prefer_to_wake() {
    // SAFETY: a number is all that this option takes; it concerns the calling thread.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
    // SAFETY: sched_attr is plain numbers, for which all zeros is a value.
    let mut attributes: libc::sched_attr = unsafe { zeroed() };
    let size = size_of::<libc::sched_attr>() as u32;
    attributes.size = size;
    // SAFETY: both calls concern the calling thread (0) and read or write one sched_attr of the size given.
    unsafe {
        if libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) == 0 {
            attributes.sched_runtime = SLICE_NS;
            libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
            attributes.sched_nice = (attributes.sched_nice - NICENESS).max(-20);
            libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
        }
    }
}

/// One received datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its bytes in the buffer that was passed to [`Receiver::receive`].
    pub span: Range<usize>,
    /// Who sent it, as far as UDP can tell: the address is easily forged.
    pub peer: SocketAddr,
}

impl Receiver {
    /// Takes over a bound blocking socket. [`Receiver::receive`] returns after `wait` at the latest, so that the
    /// thread can look whether it should stop.
    ///
    /// # Errors
    /// The socket refuses the options (not a UDP socket, or not Linux).
    pub fn new(udp: Udp, wait: Duration) -> io::Result<Self> {
        let Udp { socket, drops: reported, .. } = udp;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(wait))?;
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and the option reads exactly one c_int from the pointer given.
        let result = unsafe {
            let length = size_of::<libc::c_int>() as libc::socklen_t;
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, (&raw const on).cast(), length)
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: sockaddr_storage is plain bytes, for which all zeros is a value (AF_UNSPEC).
        let name: libc::sockaddr_storage = unsafe { zeroed() };
        Ok(Self {
            socket,
            slots: Box::new_uninit_slice(BATCH_BYTES),
            controls: vec![Control([0; CONTROL_BYTES]); DATAGRAMS_PER_CALL].into_boxed_slice(),
            names: vec![name; DATAGRAMS_PER_CALL].into_boxed_slice(),
            spans: Vec::with_capacity(DATAGRAMS_PER_CALL),
            // A socket that existed for a while may have dropped already; what nobody has reported counts as well.
            dropped: 0,
            reported,
        })
    }

    /// Appends to `buffer` what is waiting, and gives one entry per datagram in the order of arrival. Waits for
    /// the first one at most as long as [`Receiver::new`] was told; then there are none.
    ///
    /// # Errors
    /// What the kernel says about the socket. Interruptions by signals are not errors: there are none then.
    pub fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<&[Datagram]> {
        self.take(buffer, libc::MSG_WAITFORONE)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As [`Receiver::receive`].
    pub fn receive_now(&mut self, buffer: &mut Vec<u8>) -> io::Result<&[Datagram]> {
        self.take(buffer, libc::MSG_DONTWAIT)
    }

    fn take(&mut self, buffer: &mut Vec<u8>, flags: libc::c_int) -> io::Result<&[Datagram]> {
        self.spans.clear();
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; DATAGRAMS_PER_CALL];
        // SAFETY: mmsghdr is plain data, for which all zeros is a value (null pointers, lengths of zero).
        let mut headers: [libc::mmsghdr; DATAGRAMS_PER_CALL] = unsafe { zeroed() };
        let places = self.slots.chunks_exact_mut(DATAGRAM_SLOT_BYTES).zip(&mut self.controls).zip(&mut self.names);
        for ((header, vector), ((slot, control), name)) in headers.iter_mut().zip(&mut vectors).zip(places) {
            *vector = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: every header points at one iovec, name and control buffer of its own with their true sizes;
        // all of them live until the call returns, and nothing else refers to them during it.
        let count = unsafe {
            let length = DATAGRAMS_PER_CALL as libc::c_uint;
            libc::recvmmsg(self.socket.as_raw_fd(), headers.as_mut_ptr(), length, flags, std::ptr::null_mut())
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            let is_quiet = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted);
            return if is_quiet { Ok(&[]) } else { Err(error) };
        }
        let received = headers.get(..count as usize).unwrap_or_default();
        let mut drops = self.reported.load(Ordering::Relaxed);
        for ((header, slot), name) in received.iter().zip(self.slots.chunks_exact(DATAGRAM_SLOT_BYTES)).zip(&self.names) {
            let start = buffer.len();
            let bytes = slot.get(..header.msg_len as usize).unwrap_or_default();
            // SAFETY: the kernel has written the first msg_len bytes of this slot, and `get` keeps it inside.
            buffer.extend_from_slice(unsafe { bytes.assume_init_ref() });
            drops = drop_count(&header.msg_hdr).unwrap_or(drops);
            let peer = address(name, header.msg_hdr.msg_namelen).unwrap_or(UNKNOWN_PEER);
            self.spans.push(Datagram { span: start..buffer.len(), peer });
        }
        self.note_drops(drops);
        Ok(&self.spans)
    }

    /// Datagrams that the kernel dropped because this socket's buffer was full, asked afresh.
    pub fn dropped(&mut self) -> u64 {
        let mut words = [0u32; MEMINFO_WORDS];
        let mut length = size_of_val(&words) as libc::socklen_t;
        // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes into `words`.
        let result = unsafe {
            libc::getsockopt(self.socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MEMINFO, words.as_mut_ptr().cast(), &raw mut length)
        };
        // Kernels before 4.12 do not have it; then the counter moves with the next datagram.
        if let (0, true, [.., drops]) = (result, length as usize == size_of_val(&words), words) {
            self.note_drops(drops);
        }
        self.dropped
    }

    fn note_drops(&mut self, drops: u32) {
        // The number in a datagram was taken when it was queued, so it may be older than one asked for since.
        let newer = |seen: u32| matches!(drops.wrapping_sub(seen), 1..=0x7fff_ffff).then_some(drops);
        if let Ok(seen) = self.reported.fetch_update(Ordering::Relaxed, Ordering::Relaxed, newer) {
            self.dropped += u64::from(drops.wrapping_sub(seen));
        }
    }
}

/// The drop counter that came with a datagram; none before the first drop.
fn drop_count(header: &libc::msghdr) -> Option<u32> {
    // SAFETY: the kernel has filled in msg_controllen and that many bytes of the control buffer, which is still
    // alive and aligned for cmsghdr. The CMSG functions stay within it, and a SO_RXQ_OVFL message holds a u32.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = message.as_ref() {
            if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SO_RXQ_OVFL {
                return Some(libc::CMSG_DATA(control).cast::<u32>().read_unaligned());
            }
            message = libc::CMSG_NXTHDR(header, control);
        }
    }
    None
}

fn address(name: &libc::sockaddr_storage, length: libc::socklen_t) -> Option<SocketAddr> {
    // SAFETY: sockaddr_storage is plain bytes of the size that is copied, and socket2's storage is the same type.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, size| {
            storage.cast::<libc::sockaddr_storage>().write(*name);
            *size = length;
            Ok(())
        })
    }
    .ok()?;
    let socket = address.as_socket()?;
    // A socket at [::] sees IPv4 senders as ::ffff:a.b.c.d; rules and lookups want a.b.c.d.
    Some(SocketAddr::new(socket.ip().to_canonical(), socket.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listen;

    const WAIT: Duration = Duration::from_millis(100);

    fn pair(address: &str, buffer: Option<usize>) -> (Receiver, UdpSocket, SocketAddr) {
        let udp = listen::udp(address.parse().unwrap(), buffer).unwrap();
        let target = SocketAddr::new("127.0.0.1".parse().unwrap(), udp.socket.local_addr().unwrap().port());
        (Receiver::new(udp, WAIT).unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap(), target)
    }

    #[test]
    fn datagrams_of_every_size_come_with_their_sender() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let (mut receiver, sender, target) = pair(address, Some(1 << 20));
            let sizes = [1, 0, 1472, 65_507];
            for size in sizes {
                sender.send_to(&vec![size as u8; size], target).unwrap();
            }
            let mut buffer = b"before".to_vec();
            let mut spans = Vec::new();
            while spans.len() < sizes.len() {
                spans.extend_from_slice(receiver.receive(&mut buffer).unwrap());
            }
            for (datagram, size) in spans.iter().zip(sizes) {
                assert_eq!(buffer[datagram.span.clone()], vec![size as u8; size]);
                assert_eq!(datagram.peer, sender.local_addr().unwrap());
            }
            assert_eq!(&buffer[..6], b"before");
            assert_eq!(receiver.dropped(), 0);
        }
    }

    #[test]
    fn a_quiet_socket_returns_after_the_wait() {
        let (mut receiver, ..) = pair("127.0.0.1:0", None);
        let start = std::time::Instant::now();
        assert_eq!(receiver.receive(&mut Vec::new()).unwrap(), []);
        assert!(start.elapsed() >= WAIT / 2, "{:?}", start.elapsed());
    }

    #[test]
    fn every_datagram_is_received_or_counted_as_dropped() {
        const SENT: u64 = 20_000;
        let (mut receiver, sender, target) = pair("127.0.0.1:0", Some(64 * 1024));
        let sending = std::thread::spawn(move || {
            for index in 0..SENT {
                sender.send_to(&[b'x'; 400], target).unwrap();
                if index % 5_000 == 0 {
                    std::thread::sleep(Duration::from_millis(20)); // so that some get through in between
                }
            }
        });
        let mut received = 0;
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let count = receiver.receive(&mut buffer).unwrap().len();
            received += count as u64;
            std::thread::sleep(Duration::from_millis(1)); // slower than the sender
            if count == 0 && sending.is_finished() {
                break;
            }
        }
        let dropped = receiver.dropped();
        assert!(dropped > 0 && received > 0, "received {received}, dropped {dropped}");
        assert_eq!(received + dropped, SENT);
    }

    #[test]
    fn the_two_sources_of_the_drop_counter_agree() {
        let (mut receiver, sender, target) = pair("127.0.0.1:0", Some(16 * 1024));
        for _ in 0..1000 {
            sender.send_to(&[b'x'; 400], target).unwrap();
        }
        let mut buffer = Vec::new();
        while !receiver.receive(&mut buffer).unwrap().is_empty() {}
        sender.send_to(b"last", target).unwrap(); // carries the count of all drops before it
        assert_eq!(receiver.receive(&mut buffer).unwrap().len(), 1);
        let from_datagram = receiver.dropped;
        assert!(from_datagram > 0);
        assert_eq!(receiver.dropped(), from_datagram);
    }

    #[test]
    fn receivers_of_one_socket_count_a_drop_once() {
        let udp = listen::udp("127.0.0.1:0".parse().unwrap(), Some(16 * 1024)).unwrap();
        let target = udp.socket.local_addr().unwrap();
        let other = Udp { socket: udp.socket.try_clone().unwrap(), receive_buffer_bytes: 0, drops: udp.drops.clone() };
        let (mut one, mut two) = (Receiver::new(udp, WAIT).unwrap(), Receiver::new(other, WAIT).unwrap());
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..1000 {
            sender.send_to(&[b'x'; 400], target).unwrap();
        }
        let dropped = one.dropped();
        assert!(dropped > 0);
        assert_eq!(two.dropped(), 0);
        let mut received = 0;
        loop {
            let count = two.receive(&mut Vec::new()).unwrap().len() as u64;
            received += count;
            if count == 0 {
                break;
            }
        }
        assert_eq!(received + one.dropped() + two.dropped(), 1000);
    }

    #[test]
    fn the_drop_counter_survives_its_wrap_and_older_numbers() {
        let (mut receiver, ..) = pair("127.0.0.1:0", None);
        for (drops, total) in [(10, 10), (7, 10), (u32::MAX / 2, 2_147_483_647), (u32::MAX - 1, 4_294_967_294), (3, 4_294_967_299)] {
            receiver.note_drops(drops);
            assert_eq!(receiver.dropped, total);
        }
    }
}
