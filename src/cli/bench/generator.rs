//! The process that sends: `hydrant bench-generator`, started by `hydrant bench`.
//!
//! In: a [`Spec`] as one JSON line on stdin; lines are made, then `ready` goes to stdout; any further line starts
//! the load. Out: a [`Sent`] as one JSON line when everything is sent. Blasts if the rate is 0, else keeps it by
//! the clock, in short waits, and never makes up for more than [`CATCH_UP_MS`] at once.
//!
//! One line of each [`STAMP_INTERVAL`] carries the time at which it was sent, in the place where its format has a
//! host name, or in its first JSON string: see `stamp`. The lines themselves are as old as the corpus.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::process;
use super::profile::{Framing, Load, Transport};
use super::stamp;
use crate::cli::Failure;
use crate::error::{Error, ErrorKind};
use crate::traffic::{Corpus, Kind};

/// What to send where.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Spec {
    pub(super) load: Load,
    pub(super) target: SocketAddr,
    pub(super) seed: u64,
    /// Lines to send instead of made ones.
    pub(super) corpus: Option<PathBuf>,
    /// For each: text that a line must hold (`true`) or must not (`false`) to be counted in [`Sent::matching`].
    pub(super) filters: Vec<Option<(String, bool)>>,
}

/// What was sent.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Sent {
    pub(super) lines: u64,
    /// Bytes of the lines without framing.
    pub(super) bytes: u64,
    /// Lines that each filter lets through.
    pub(super) matching: Vec<u64>,
    /// Monotonic time of the first and behind the last byte.
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
}

/// A stamp is put into one line of this many, at most one a block.
const STAMP_INTERVAL: u64 = 1_000;

/// Bytes written at once: large enough that the generator costs little, small enough to keep a rate.
const BLOCK_BYTES: usize = 64 * 1024;

/// A generator that was kept from its core sends at most this much at once when it is back.
const CATCH_UP_MS: u64 = 1;

pub(in crate::cli) fn run() -> Result<(), Failure> {
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line).map_err(|error| failed("read what to send", error))?;
    let spec: Spec = serde_json::from_str(&line).map_err(|error| failed("read what to send", error))?;
    let lines = Arc::new(Lines::new(&spec)?);
    process::answer(&"ready")?;
    line.clear();
    input.read_line(&mut line).map_err(|error| failed("wait for the start", error))?;
    let began_ns = process::monotonic_ns();
    let count = spec.load.connections as u64;
    let spec = Arc::new(spec);
    let share = |total: u64, index: u64| total / count + u64::from(index < total % count);
    let threads: Vec<_> = (0..count)
        .map(|index| {
            let (spec, lines) = (spec.clone(), lines.clone());
            let cursor = Cursor { at: (lines.count() as u64 * index / count) as usize, left: share(spec.load.events, index) };
            let rate = spec.load.rate as f64 / count as f64;
            std::thread::spawn(move || connection(&spec, &lines, cursor, rate))
        })
        .collect();
    let mut sent = Sent { lines: 0, bytes: 0, matching: vec![0; spec.filters.len()], began_ns, ended_ns: 0 };
    for thread in threads {
        let tally = thread.join().map_err(|_| Error::new(ErrorKind::Unexpected, "send", "a connection's thread panicked"))??;
        sent.lines += tally.lines;
        sent.bytes += tally.bytes;
        sent.matching.iter_mut().zip(tally.matching).for_each(|(sum, count)| *sum += count);
    }
    sent.ended_ns = process::monotonic_ns();
    process::answer(&sent)?;
    Ok(())
}

fn failed(operation: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Connection, operation, "the benchmark's generator failed").because(error)
}

/// Lines, framed, in one buffer.
struct Lines {
    bytes: Vec<u8>,
    /// Where each ends, framing included.
    ends: Vec<usize>,
    /// Bytes of framing of each line, in front and behind.
    frame: Vec<(u8, u8)>,
    /// For each filter: how many of the lines before each line it lets through.
    matching: Vec<Vec<u32>>,
}

impl Lines {
    fn new(spec: &Spec) -> Result<Self, Failure> {
        let corpora = match &spec.corpus {
            Some(path) => vec![Corpus::from_file(path)?],
            None => {
                let kinds = spec.load.traffic.iter().map(|kind| kind.parse::<Kind>()).collect::<Result<Vec<_>, _>>()?;
                let lines = spec.load.lines.div_ceil(kinds.len().max(1));
                kinds.into_iter().map(|kind| Corpus::generate(kind, lines, spec.seed)).collect()
            }
        };
        let mut lines = Self { bytes: Vec::new(), ends: Vec::new(), frame: Vec::new(), matching: vec![vec![0]; spec.filters.len()] };
        let mut turns: Vec<_> = corpora.iter().map(Corpus::iter).collect();
        let rounds = corpora.iter().map(Corpus::lines).min().unwrap_or(0);
        for _ in 0..rounds {
            for turn in &mut turns {
                if let Some(line) = turn.next() {
                    lines.push(line, spec);
                }
            }
        }
        Ok(lines)
    }

    fn push(&mut self, line: &[u8], spec: &Spec) {
        let start = self.bytes.len();
        let is_counted = spec.load.framing == Framing::OctetCounted && spec.load.transport == Transport::Tcp;
        if is_counted {
            self.bytes.extend_from_slice(format!("{} ", line.len()).as_bytes());
        }
        let front = self.bytes.len() - start;
        self.bytes.extend_from_slice(line);
        let behind = usize::from(!is_counted && spec.load.transport != Transport::Udp);
        self.bytes.resize(self.bytes.len() + behind, b'\n');
        self.ends.push(self.bytes.len());
        self.frame.push((front as u8, behind as u8));
        for (filter, counts) in spec.filters.iter().zip(&mut self.matching) {
            let passes = filter.as_ref().is_none_or(|(text, with)| memchr::memmem::find(line, text.as_bytes()).is_some() == *with);
            let before = counts.last().copied().unwrap_or(0);
            counts.push(before + u32::from(passes));
        }
    }

    fn count(&self) -> usize {
        self.ends.len()
    }

    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Line `index` without framing.
    fn line(&self, index: usize) -> &[u8] {
        let (front, behind) = self.frame[index];
        &self.bytes[self.start(index) + usize::from(front)..self.ends[index] - usize::from(behind)]
    }

    fn framed(&self, lines: std::ops::Range<usize>) -> &[u8] {
        &self.bytes[self.start(lines.start)..self.start(lines.end)]
    }
}

/// Where one connection is in the lines.
struct Cursor {
    at: usize,
    left: u64,
}

/// What one connection has sent.
struct Tally {
    lines: u64,
    bytes: u64,
    matching: Vec<u64>,
}

impl Tally {
    fn add(&mut self, lines: &Lines, range: std::ops::Range<usize>) {
        self.lines += range.len() as u64;
        let framing: usize = lines.frame[range.clone()].iter().map(|(front, behind)| usize::from(front + behind)).sum();
        self.bytes += (lines.framed(range.clone()).len() - framing) as u64;
        for (sum, counts) in self.matching.iter_mut().zip(&lines.matching) {
            *sum += u64::from(counts[range.end] - counts[range.start]);
        }
    }
}

/// One connection's way out.
enum Way {
    Tcp(TcpStream),
    Udp(UdpSocket),
    Http(Http),
}

fn connection(spec: &Spec, lines: &Lines, mut cursor: Cursor, rate: f64) -> Result<Tally, Error> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Connection, "send", "the connection failed").with("target", spec.target).because(error)
    };
    let mut way = Way::open(spec).map_err(failed)?;
    let mut tally = Tally { lines: 0, bytes: 0, matching: vec![0; spec.filters.len()] };
    let mut scratch = Vec::new();
    let mut pace = Pace::new(rate);
    let mut stamped = 0;
    let block_bytes = if matches!(way, Way::Http(_)) { spec.load.body_bytes } else { BLOCK_BYTES };
    while cursor.left > 0 {
        let allowed = pace.wait(tally.lines).min(cursor.left).min((lines.count() - cursor.at) as u64) as usize;
        let limit = lines.start(cursor.at) + block_bytes;
        let fitting = lines.ends[cursor.at..cursor.at + allowed].partition_point(|end| *end <= limit).max(1);
        let range = cursor.at..cursor.at + fitting;
        let with_stamp = tally.lines >= stamped;
        if with_stamp {
            stamped = tally.lines + STAMP_INTERVAL;
        }
        way.send(spec, lines, range.clone(), with_stamp, &mut scratch).map_err(failed)?;
        tally.add(lines, range.clone());
        cursor.left -= fitting as u64;
        cursor.at = range.end % lines.count();
    }
    Ok(tally)
}

/// Wait of a generator that is ahead of its rate: short, so that lines come singly rather than in gushes, as from
/// many senders.
const PAUSE: Duration = Duration::from_micros(100);

/// Keeps a rate.
struct Pace {
    rate: f64,
    since: Instant,
    given: f64,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self { rate, since: Instant::now(), given: 0.0 }
    }

    /// Waits until lines may be sent; returns how many.
    fn wait(&mut self, sent: u64) -> u64 {
        if self.rate <= 0.0 {
            return u64::MAX;
        }
        let most = (self.rate * CATCH_UP_MS as f64 / 1000.0).max(1.0);
        loop {
            let open = self.since.elapsed().as_secs_f64() * self.rate - self.given - sent as f64;
            if open >= 1.0 {
                // What could not be sent in time is not sent later in one gush.
                self.given += (open - most).max(0.0);
                return open.min(most) as u64;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Way {
    fn open(spec: &Spec) -> std::io::Result<Self> {
        match spec.load.transport {
            Transport::Tcp => Ok(Self::Tcp(TcpStream::connect(spec.target)?)),
            Transport::Http => Ok(Self::Http(Http { stream: TcpStream::connect(spec.target)?, buffer: Vec::new() })),
            Transport::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(spec.target)?;
                Ok(Self::Udp(socket))
            }
        }
    }

    fn send(
        &mut self,
        spec: &Spec,
        lines: &Lines,
        range: std::ops::Range<usize>,
        with_stamp: bool,
        scratch: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let mut rest = range.clone();
        scratch.clear();
        if with_stamp && stamp::write(lines.line(range.start), process::monotonic_ns(), scratch) {
            let (front, behind) = lines.frame[range.start];
            if front > 0 {
                let head = format!("{} ", scratch.len());
                scratch.splice(..0, head.into_bytes());
            }
            scratch.resize(scratch.len() + usize::from(behind), b'\n');
            rest.start += 1;
        }
        match self {
            Self::Tcp(stream) => {
                stream.write_all(scratch)?;
                stream.write_all(lines.framed(rest))
            }
            Self::Udp(socket) => {
                if !scratch.is_empty() {
                    send_datagram(socket, scratch)?;
                }
                rest.into_iter().try_for_each(|index| send_datagram(socket, lines.line(index)))
            }
            Self::Http(http) => http.post(spec, &[scratch, lines.framed(rest)]),
        }
    }
}

/// A datagram that nobody takes is lost, as in real life; it is counted as sent.
fn send_datagram(socket: &UdpSocket, line: &[u8]) -> std::io::Result<()> {
    match socket.send(line) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        result => result.map(drop),
    }
}

/// One kept-alive HTTP/1.1 connection to a server on the same machine.
struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer's head is read up to this length.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A refused request is sent again after this pause.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);

impl Http {
    fn post(&mut self, spec: &Spec, parts: &[&[u8]]) -> std::io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let (path, target, headers) = (&spec.load.path, spec.target, &spec.load.headers);
        let head = format!("POST {path} HTTP/1.1\r\nHost: {target}\r\nContent-Length: {length}\r\n{headers}\r\n");
        loop {
            self.stream.write_all(head.as_bytes())?;
            parts.iter().try_for_each(|part| self.stream.write_all(part))?;
            match self.answer()? {
                200..=299 => return Ok(()),
                429 | 503 => std::thread::sleep(REFUSED_PAUSE),
                status => return Err(std::io::Error::other(format!("the answer was {status}"))),
            }
        }
    }

    fn answer(&mut self) -> std::io::Result<u16> {
        let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
        self.buffer.clear();
        let end = loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            let mut piece = [0; 4096];
            let count = self.stream.read(&mut piece)?;
            if count == 0 || self.buffer.len() > HEAD_BYTES_MAX {
                return Err(broken("the answer has no end of its head"));
            }
            self.buffer.extend_from_slice(&piece[..count]);
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(|| broken("the answer has no status"))?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok()).unwrap_or(0);
        let mut left = (end + length).saturating_sub(self.buffer.len());
        while left > 0 {
            let mut piece = [0; 4096];
            let most = left.min(piece.len());
            let count = self.stream.read(&mut piece[..most])?;
            if count == 0 {
                return Err(broken("the answer ended too early"));
            }
            left -= count;
        }
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(transport: Transport, framing: Framing, target: SocketAddr, events: u64) -> Spec {
        let load = Load {
            traffic: vec!["palo_alto".into()],
            lines: 50,
            transport,
            framing,
            connections: 1,
            path: "/".into(),
            headers: String::new(),
            body_bytes: 10_000,
            events,
            rate: 0,
        };
        Spec { load, target, seed: 1, corpus: None, filters: vec![None, Some((",allow,".into(), false))] }
    }

    #[test]
    fn what_is_sent_is_what_is_tallied() {
        for framing in [Framing::Newline, Framing::OctetCounted] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let spec = spec(Transport::Tcp, framing, listener.local_addr().unwrap(), 120);
            let lines = Lines::new(&spec).unwrap();
            let reader = std::thread::spawn(move || {
                let mut received = Vec::new();
                std::io::copy(&mut listener.accept().unwrap().0, &mut received).unwrap();
                received
            });
            let tally = connection(&spec, &lines, Cursor { at: 7, left: 120 }, 0.0).unwrap();
            let received = reader.join().unwrap();
            let name = if framing == Framing::Newline { "newline" } else { "syslog" };
            let mut frames = Vec::new();
            crate::frame::find(name).unwrap().build(100_000).split(&received, true, &mut frames);
            assert_eq!((tally.lines, frames.len()), (120, 120));
            assert_eq!(tally.matching[0], 120);
            let kept = frames.iter().filter(|frame| memchr::memmem::find(frame.of(&received), b",allow,").is_none()).count();
            assert_eq!(tally.matching[1], kept as u64);
            let stamps = frames.iter().filter_map(|frame| stamp::find(frame.of(&received))).count();
            assert_eq!(stamps, 1);
        }
    }

    #[test]
    fn a_rate_is_kept_from_the_first_line() {
        let mut pace = Pace::new(1_000.0);
        let began = Instant::now();
        let mut sent = 0;
        while sent < 50 {
            sent += pace.wait(sent);
        }
        let elapsed = began.elapsed();
        assert!(elapsed >= Duration::from_millis(49), "{sent} lines in {elapsed:?}");
    }

    #[test]
    fn what_a_stall_held_up_is_not_sent_in_one_gush() {
        let mut pace = Pace::new(10_000.0);
        std::thread::sleep(Duration::from_millis(100));
        let most = 10 * CATCH_UP_MS;
        assert_eq!(pace.wait(0), most);
        assert!(pace.given >= 1_000.0 - most as f64, "the rest of 100 ms is forgiven: {}", pace.given);
    }
}
