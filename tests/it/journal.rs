//! The journal on disk through the real binary: damage is found, named, and taken out, and the rest is delivered.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::hec::{Hec, TOKEN};
use crate::process::{Running, eventually, free_port};

/// A configuration with an HTTP source in a folder that outlives its processes.
pub(crate) struct Setup {
    /// Where it is.
    pub(crate) folder: tempfile::TempDir,
    /// The port of the source.
    pub(crate) port: u16,
}

impl Setup {
    /// `settings` stand in front of the sources, `sinks` in the map of sinks.
    pub(crate) fn new(settings: &str, sinks: &str) -> Self {
        let setup = Self { folder: tempfile::tempdir().unwrap(), port: free_port() };
        let config = format!(
            "data_dir: data\nshards: 1\ndrain_timeout: 1s\n{settings}sources:\n  web: {{ type: http, listen: \"127.0.0.1:{}\" }}\nsinks:\n{sinks}",
            setup.port
        );
        fs::write(setup.folder.path().join("hydrant.yaml"), config).unwrap();
        setup
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(&self) -> Running {
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let running = Running::start(self.folder.path(), log);
        eventually("the listener", || TcpStream::connect(("127.0.0.1", self.port)).ok());
        running
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Posts one event a line; the status of the answer.
    pub(crate) fn post(&self, lines: impl Iterator<Item = String>) -> u16 {
        self.post_text(&lines.map(|line| format!("{{\"message\":\"{line}\"}}\n")).collect::<String>())
    }

    /// Posts a body; the status of the answer.
    pub(crate) fn post_text(&self, body: &str) -> u16 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Runs another command in its folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_hydrant")).args(arguments).current_dir(self.folder.path()).output().unwrap()
    }
}

pub(crate) fn code(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn splunk(port: u16) -> String {
    format!("  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{port}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}\n")
}

fn files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("data/journal")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect()
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text.as_bytes())
}

#[test]
fn a_full_journal_drops_the_oldest_for_the_destination_that_says_so_and_counts_it() {
    let port = free_port();
    let sinks = splunk(port).replace("buffer: { interval: 50ms }", "buffer: { interval: 10ms }, when_journal_full: drop_oldest");
    let file = "  disk: { type: file, path: out/events.ndjson, buffer: { interval: 50ms } }\n";
    let journal = "journal: { segment_size: 1MiB, max_size: 6MiB }\n";
    let setup = Setup::new(journal, &format!("{sinks}{file}"));
    let running = setup.start();
    let padding = "x".repeat(1000);
    for request in 0..200 {
        let lines: Vec<String> = (0..100).map(|event| format!("R{request}E{event} {padding}")).collect();
        eventually("room", || (setup.post(lines.iter().cloned()) == 200).then_some(()));
    }
    let arrived = || fs::read_to_string(setup.folder.path().join("out/events.ndjson")).unwrap().lines().count();
    eventually("everything in the file", || (arrived() == 20_000).then_some(()));
    assert!(running.stop(), "{}", setup.log());
    let hec = Hec::start_on(&format!("127.0.0.1:{port}"));
    let running = setup.start();
    let ledger = || {
        let output = setup.command(&["ledger", "--data-dir", "data", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["destinations"]["splunk"]["events"].clone()
    };
    let count = |flow: &Value, key: &str| flow[key].as_u64().unwrap();
    let flow = eventually("the rest", || {
        let flow = ledger();
        let done = count(&flow, "delivered") + flow["dropped"]["journal_full"].as_u64().unwrap();
        (done == 20_000).then_some(flow)
    });
    let (routed, left, recovered) = (count(&flow, "routed"), count(&flow, "left"), count(&flow, "recovered"));
    assert!((routed, left, count(&flow, "waiting")) == (20_000, recovered, 0), "{flow}");
    assert_eq!(hec.count() as u64, count(&flow, "delivered"));
    let text: String = hec.state.lock().unwrap().events.iter().map(Value::to_string).collect();
    assert!(text.contains("R199E99 "), "the newest are kept");
    assert!(setup.log().contains("the journal is full: the oldest events and alerts that wait for this destination are dropped"));
    assert!(running.stop());
}

#[test]
fn a_repair_names_what_is_lost_keeps_its_bytes_and_the_rest_is_delivered() {
    let port = free_port();
    let setup = Setup::new("", &splunk(port));
    let running = setup.start();
    for request in 0..5 {
        assert_eq!(setup.post((0..10).map(|event| format!("R{request}E{event}x"))), 200);
    }
    let busy = code(&setup.command(&["journal", "repair"]));
    assert!(busy.0 == Some(1) && busy.1.contains("another Hydrant uses this journal"), "{busy:?}");
    assert!(running.stop());

    assert_eq!(code(&setup.command(&["journal", "repair"])), (Some(0), "nothing is damaged\n".to_owned()));
    let damaged = files(setup.folder.path(), ".log").into_iter().find_map(|path| {
        let mut bytes = fs::read(&path).unwrap();
        let at = find(&bytes, "R3E4x")?;
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        Some((path, bytes))
    });
    let (path, bytes) = damaged.unwrap();
    let checked = code(&setup.command(&["journal", "check"]));
    assert!(checked.0 == Some(1) && checked.1.contains("bytes of chunk, chunk ") && checked.1.contains(" is lost"), "{checked:?}");
    let dry = code(&setup.command(&["journal", "repair", "--dry-run"]));
    assert!(dry.0 == Some(1) && dry.1.contains("1 places would be mended, 1 chunks are lost; nothing was changed"), "{dry:?}");
    assert_eq!(fs::read(&path).unwrap(), bytes);

    let repaired = setup.command(&["journal", "repair", "-c", "hydrant.yaml", "--output", "json"]);
    assert_eq!(repaired.status.code(), Some(0), "{repaired:?}");
    let lines: Vec<Value> = String::from_utf8(repaired.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["what"], &lines[1]["mended"], &lines[1]["lost_chunks"]), (&"chunk".into(), &1.into(), &1.into()), "{lines:?}");
    let kept = setup.folder.path().join("data/journal").join(lines[1]["kept"][0].as_str().unwrap());
    assert!(find(&fs::read(&kept).unwrap(), "R3E5x").is_some(), "what was damaged is kept");
    assert_eq!(fs::metadata(kept).unwrap().permissions().mode() & 0o777, 0o600);
    let checked = code(&setup.command(&["journal", "check"]));
    assert!(checked.0 == Some(0) && checked.1.contains("nothing damaged"), "{checked:?}");

    let hec = Hec::start_on(&format!("127.0.0.1:{port}"));
    let running = setup.start();
    eventually("the rest", || (hec.count() == 40).then_some(()));
    let text: String = hec.state.lock().unwrap().events.iter().map(Value::to_string).collect();
    assert!((0..5).all(|request| text.contains(&format!("R{request}E7x")) == (request != 3)), "{text}");
    assert!(running.stop());
    assert!(!setup.log().contains("damage"), "{}", setup.log());
}
