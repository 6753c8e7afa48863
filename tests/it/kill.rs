//! `kill -9` at random moments under load, with the journal on disk: what was acknowledged is delivered.
//!
//! Events come by HTTP (acknowledged when the answer is 200) and by syslog over TCP (never acknowledged), and go to
//! a file, a strict HEC and an HTTP server. After the last kill Hydrant is started once more. The oracle: every
//! acknowledged id is at every destination, nothing is there that was not sent, every payload is as sent. What is
//! there twice, and what TCP lost, is counted and printed. `HYDRANT_KILLS` sets the number of kills.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::hec::{Hec, TOKEN};
use crate::process::{eventually, free_port};

const KILLS: u64 = 30;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// What an id's payload is, so that a mixed-up one is seen.
fn payload(id: &str) -> String {
    let mut state = id.bytes().fold(7u64, |state, byte| state.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut out = String::new();
    for _ in 0..12 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        out.push_str(&format!("{:016x}", state));
    }
    out
}

fn token(id: &str) -> String {
    format!("ID[{id}|{}]END", payload(id))
}

/// How often each id is in a text; every payload is right.
fn ids(text: &str) -> HashMap<String, u32> {
    let mut ids = HashMap::new();
    for part in text.split("ID[").skip(1) {
        // A line that a kill tore has no end.
        let Some((inside, _)) = part.split_once("]END") else { continue };
        let (id, found) = inside.split_once('|').unwrap();
        assert_eq!(found, payload(id), "the payload of {id} has changed");
        *ids.entry(id.to_owned()).or_default() += 1;
    }
    ids
}

#[derive(Default)]
struct Sent {
    all: Mutex<HashSet<String>>,
    acknowledged: Mutex<HashSet<String>>,
    stop: AtomicBool,
}

/// Posts requests of one to some thousand events until it is stopped.
fn post(port: u16, number: u64, sent: &Sent) {
    let mut random = Random(number);
    let mut next = 0;
    while !sent.stop.load(Ordering::Relaxed) {
        let count = if random.below(12) == 0 { 2500 } else { 1 + random.below(30) };
        let ids: Vec<String> = (0..count).map(|index| format!("h{number}-{}", next + index)).collect();
        next += count;
        sent.all.lock().unwrap().extend(ids.iter().cloned());
        let body: String = ids.iter().map(|id| format!("{{\"message\":\"{}\"}}\n", token(id))).collect();
        match request(port, &body) {
            Some(200) => sent.acknowledged.lock().unwrap().extend(ids),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn request(port: u16, body: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.take(100_000).read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Writes syslog lines over TCP until it is stopped.
fn write_lines(port: u16, sent: &Sent) {
    let mut next = 0u64;
    while !sent.stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        loop {
            let ids: Vec<String> = (0..50).map(|index| format!("t-{}", next + index)).collect();
            next += 50;
            sent.all.lock().unwrap().extend(ids.iter().cloned());
            let lines: String = ids.iter().map(|id| format!("<14>Nov 22 03:00:00 fw app: {}\n", token(id))).collect();
            if stream.write_all(lines.as_bytes()).is_err() || sent.stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// An HTTP server that keeps every body and answers 200.
fn collector() -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let bodies: Arc<Mutex<String>> = Arc::default();
    let kept = bodies.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let kept = kept.clone();
            std::thread::spawn(move || collect(stream, &kept));
        }
    });
    (port, bodies)
}

fn collect(stream: TcpStream, bodies: &Mutex<String>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        bodies.lock().unwrap().push_str(&String::from_utf8(body).unwrap());
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
    }
}

fn start(folder: &Path, said: &Arc<Mutex<Vec<String>>>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(["run", "-c"]).arg(folder.join("hydrant.yaml")).current_dir(folder);
    let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let errors = BufReader::new(child.stderr.take().unwrap());
    let said = said.clone();
    std::thread::spawn(move || errors.lines().map_while(Result::ok).for_each(|line| said.lock().unwrap().push(line)));
    child
}

/// A configuration with two sources and three destinations, and what has arrived there.
struct Setup {
    folder: tempfile::TempDir,
    http_port: u16,
    tcp_port: u16,
    hec: Hec,
    bodies: Arc<Mutex<String>>,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (http_port, tcp_port) = (free_port(), free_port());
        let (collector_port, bodies) = collector();
        let hec = Hec::start();
        let config = format!(
            "
data_dir: data
shards: 2
drain_timeout: 60s
journal: {{ type: disk, segment_size: 4MiB, max_size: 1GB }}
sources:
  web: {{ type: http, listen: \"127.0.0.1:{http_port}\" }}
  fw: {{ type: syslog, listen: \"tcp://127.0.0.1:{tcp_port}\" }}
sinks:
  disk: {{ type: file, path: \"out/events.ndjson\", buffer: {{ interval: 100ms }} }}
  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}
  web: {{ type: http, endpoint: \"http://127.0.0.1:{collector_port}/\", compression: none, buffer: {{ interval: 150ms }} }}
",
            hec.port
        );
        fs::write(folder.path().join("hydrant.yaml"), config).unwrap();
        Self { folder, http_port, tcp_port, hec, bodies }
    }

    fn wait_for_listener(&self) {
        eventually("the listener", || TcpStream::connect(("127.0.0.1", self.http_port)).ok());
    }

    /// By destination: how often each id has arrived.
    fn delivered(&self) -> BTreeMap<&'static str, HashMap<String, u32>> {
        let file = fs::read_to_string(self.folder.path().join("out/events.ndjson")).unwrap();
        let events: String = self.hec.state.lock().unwrap().events.iter().map(|event| event["event"].to_string()).collect();
        BTreeMap::from([("file", ids(&file)), ("http", ids(&self.bodies.lock().unwrap())), ("splunk_hec", ids(&events))])
    }

    /// Acknowledged ids that a destination lacks.
    fn missing(&self, acknowledged: &HashSet<String>) -> Vec<String> {
        let lacks = |(name, ids): (&str, HashMap<String, u32>)| {
            acknowledged.iter().filter(|id| !ids.contains_key(*id)).map(|id| format!("{name}: {id}")).collect::<Vec<_>>()
        };
        self.delivered().into_iter().flat_map(lacks).collect()
    }
}

#[test]
fn what_was_acknowledged_before_a_kill_is_delivered_after_it() {
    let kills = std::env::var("HYDRANT_KILLS").map_or(KILLS, |value| value.parse().unwrap());
    let seed = std::env::var("HYDRANT_SEED").map_or(u64::from(std::process::id()), |value| value.parse().unwrap());
    println!("HYDRANT_SEED={seed}");
    let mut random = Random(seed);
    let setup = Setup::new();
    let (http_port, tcp_port) = (setup.http_port, setup.tcp_port);
    let sent: Arc<Sent> = Arc::default();
    let shared = || sent.clone();
    let post = |number| {
        let sent = shared();
        std::thread::spawn(move || post(http_port, number, &sent))
    };
    let lines = shared();
    let mut senders: Vec<_> = (0..3).map(post).collect();
    senders.push(std::thread::spawn(move || write_lines(tcp_port, &lines)));

    let said = Arc::default();
    for _ in 0..kills {
        let mut child = start(setup.folder.path(), &said);
        setup.wait_for_listener();
        std::thread::sleep(Duration::from_millis(random.below(700)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut child = start(setup.folder.path(), &said);
    setup.wait_for_listener();
    sent.stop.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|sender| sender.join().unwrap());

    let acknowledged = sent.acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() > 100, "only {} events were acknowledged", acknowledged.len());
    for _ in 0..100 {
        if setup.missing(&acknowledged).is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(eventually("the process to end", || child.try_wait().unwrap()).success());
    let said = said.lock().unwrap();
    let wrong: Vec<&String> = said.iter().filter(|line| line.contains("panicked") || line.contains("damage")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut ledger = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    let ledger = ledger.args(["ledger", "--data-dir", "data"]).current_dir(setup.folder.path()).output().unwrap();
    assert!(ledger.status.success(), "{}", String::from_utf8_lossy(&ledger.stderr));
    let lost = setup.missing(&acknowledged);
    assert!(lost.is_empty(), "{} of {} acknowledged are missing: {:?}", lost.len(), acknowledged.len(), &lost[..lost.len().min(20)]);
    judge(&setup, &sent, kills);
}

/// Nothing is there that was not sent; what is there twice is told.
fn judge(setup: &Setup, sent: &Sent, kills: u64) {
    let (all, acknowledged) = (sent.all.lock().unwrap(), sent.acknowledged.lock().unwrap().len());
    for (name, ids) in setup.delivered() {
        assert_eq!(ids.keys().filter(|id| !all.contains(*id)).count(), 0, "{name} has what was never sent");
        let twice: u32 = ids.values().map(|count| count - 1).sum();
        let lines = ids.keys().filter(|id| id.starts_with('t')).count();
        let lines_sent = all.iter().filter(|id| id.starts_with('t')).count();
        let delivered = ids.len();
        println!(
            "{kills} kills, {name}: {acknowledged} acknowledged, 0 lost, {delivered} delivered, {twice} more than once; \
             TCP lines {lines} of {lines_sent}"
        );
    }
}
