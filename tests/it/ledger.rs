//! The ledger through the real binary: it says what happened, it outlives a stop and a kill, and it finds what is missing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::hec::{Hec, TOKEN};
use crate::process::{Running, eventually, free_port};

/// A configuration in a folder that outlives its processes.
struct Setup {
    folder: tempfile::TempDir,
    http: u16,
    syslog: u16,
    hec: u16,
}

impl Setup {
    fn new(journal: &str, more: &str) -> Self {
        let setup = Self { folder: tempfile::tempdir().unwrap(), http: free_port(), syslog: free_port(), hec: free_port() };
        let Self { http, syslog, hec, .. } = setup;
        let config = format!(
            "data_dir: data\nshards: 2\nadmin: \"127.0.0.1:{}\"\ndrain_timeout: 2s\njournal: {{ type: {journal} }}\nsources:\n  \
             web: {{ type: http, listen: \"127.0.0.1:{http}\" }}\n  fw: {{ type: syslog, listen: \"tcp://127.0.0.1:{syslog}\" }}\nsinks:\n  \
             splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{hec}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}\n  \
             disk: {{ type: file, path: out/events.ndjson, buffer: {{ interval: 50ms }} }}\n{more}",
            free_port()
        );
        fs::write(setup.folder.path().join("hydrant.yaml"), config).unwrap();
        setup
    }

    fn start(&self) -> Running {
        let running = Running::start(self.folder.path(), Stdio::inherit());
        eventually("the listeners", || {
            TcpStream::connect(("127.0.0.1", self.http)).and_then(|_| TcpStream::connect(("127.0.0.1", self.syslog))).ok()
        });
        running
    }

    /// Status of the answer.
    fn request(&self, method: &str, body: &str) -> u16 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        let head = format!("{method} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn post(&self, events: usize) {
        let body: String = (0..events).map(|id| format!("{{\"id\":{id}}}\n")).collect();
        assert_eq!(self.request("POST", &body), 200);
    }

    fn lines(&self, lines: impl Iterator<Item = String>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.syslog)).unwrap();
        lines.for_each(|line| stream.write_all(format!("<14>Nov 22 03:00:00 fw app: {line}\n").as_bytes()).unwrap());
    }

    /// Exit code, the ledger, stderr.
    fn ledger(&self, arguments: &[&str]) -> (i32, Value, String) {
        let (code, stdout, stderr) = ledger(self.folder.path(), &[arguments, &["--json"]].concat());
        (code, serde_json::from_str(&stdout).unwrap_or_default(), stderr)
    }

    /// Waits until the ledger of the running instance, or of the folder, has a number somewhere; it balances.
    fn wait_for(&self, arguments: &[&str], pointer: &str, count: u64) -> Value {
        eventually(&format!("{pointer} to be {count}"), || {
            let (code, ledger, stderr) = self.ledger(arguments);
            if !ledger.is_null() {
                assert_eq!(code, 0, "{stderr}");
            }
            (ledger.pointer(pointer) == Some(&json!(count))).then_some(ledger)
        })
    }
}

fn ledger(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hydrant")).arg("ledger").args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

const FILE: &[&str] = &["--data-dir", "data"];
const LIVE: &[&str] = &["-c", "hydrant.yaml"];

#[test]
fn every_term_is_counted_and_one_event_less_is_found() {
    let routes = "routes:\n  - { to: [disk] }\n  - { to: [splunk], when: 'contains(string!(.message), \"Deny\") || .message == null' }\n";
    let setup = Setup::new("memory", routes);
    let hec = Hec::start_on(&format!("127.0.0.1:{}", setup.hec));
    hec.state.lock().unwrap().poison = Some("Poison".into());
    let running = setup.start();
    setup.lines((0..30).map(|id| format!("{} {id}", ["Deny", "Allow", "Deny Poison"][id % 3])));
    setup.post(20);
    assert_eq!(setup.request("GET", ""), 405);
    setup.wait_for(LIVE, "/destinations/disk/events/delivered", 50);
    setup.wait_for(LIVE, "/destinations/splunk/events/dead", 10);
    let (code, book, stderr) = setup.ledger(LIVE);
    assert_eq!((code, stderr.as_str(), &book["balanced"]), (0, "it balances\n", &json!(true)));
    let (web, fw) = (&book["sources"]["web"], &book["sources"]["fw"]);
    assert_eq!((&web["messages"], &web["received"], &web["refused"]), (&json!(1), &json!(20), &json!({ "method": 1 })));
    assert_eq!(
        (&web["senders"], &fw["received"]),
        (&json!({ "127.0.0.1": { "received": 20, "refused": 1, "unreadable": 0 } }), &json!(30))
    );
    let splunk = &book["destinations"]["splunk"];
    let routed = splunk["events"]["routed"].as_u64().unwrap();
    assert_eq!((splunk["offered"].as_u64(), splunk["filtered"].as_u64()), (Some(50), Some(50 - routed)));
    assert!(routed >= 20 && splunk["resent"].as_u64().unwrap() >= 10, "{splunk}");
    let of_sender = setup.ledger(&[LIVE, &["--sender", "192.0.2.1"]].concat()).1;
    assert_eq!((&of_sender["sources"], &of_sender["balanced"]), (&json!({}), &json!(true)));
    running.stop();

    let (code, table, _) = ledger(setup.folder.path(), FILE);
    assert!(code == 0 && table.contains("fw      30        30        0    0        0             30"), "{table}");
    let running = setup.start();
    setup.post(5);
    setup.wait_for(LIVE, "/sources/web/received", 25);
    running.stop();
    let path = setup.folder.path().join("data/ledger/current.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"delivered\":55"), "{text}");
    fs::write(&path, text.replace("\"delivered\":55", "\"delivered\":54")).unwrap();
    let (code, _, stderr) = setup.ledger(FILE);
    assert_eq!((code, stderr.as_str()), (1, "destination `disk`: 55 came, 54 are accounted for: 1 missing\nit does NOT balance\n"));
    assert_eq!(ledger(setup.folder.path(), &["--data-dir", "data", "--since", "2h"]).0, 1);
    assert_eq!(ledger(setup.folder.path(), &["--data-dir", "data", "--since", "then"]).0, 1);
}

#[test]
fn what_a_kill_leaves_in_the_journal_is_recovered_and_the_ledger_balances() {
    let setup = Setup::new("disk, segment_size: 4MiB, max_size: 1GB", "");
    let running = setup.start();
    setup.post(300);
    setup.wait_for(LIVE, "/destinations/splunk/events/waiting", 300);
    setup.wait_for(FILE, "/destinations/splunk/events/waiting", 300);
    running.kill();
    let hec = Hec::start_on(&format!("127.0.0.1:{}", setup.hec));
    let running = setup.start();
    let book = setup.wait_for(LIVE, "/destinations/splunk/events/delivered", 300);
    let flow = &book["destinations"]["splunk"]["events"];
    let counts = ["routed", "recovered", "left", "waiting"].map(|key| flow[key].as_u64().unwrap());
    assert_eq!((counts, hec.count()), ([300, 300, 300, 0], 300), "{flow}");
    // Now so fast that the file cannot know of it.
    setup.post(50);
    running.kill();
    let running = setup.start();
    eventually("the rest", || (hec.count() >= 350).then_some(()));
    let (code, _, stderr) = setup.ledger(LIVE);
    assert_eq!(code, 0, "{stderr}");
    running.stop();
    assert_eq!(setup.ledger(FILE).0, 0);
}

#[test]
fn what_a_journal_in_memory_loses_is_counted_as_lost() {
    let setup = Setup::new("memory", "");
    let running = setup.start();
    setup.post(10);
    setup.wait_for(FILE, "/destinations/splunk/events/waiting", 10);
    running.kill();
    let running = setup.start();
    let book = setup.wait_for(LIVE, "/destinations/splunk/events/dropped/lost_with_the_process", 10);
    assert_eq!(book["destinations"]["splunk"]["events"]["waiting"], 0);
    setup.post(7);
    setup.wait_for(LIVE, "/destinations/splunk/events/waiting", 7);
    running.stop();
    assert_eq!(setup.ledger(FILE).1["destinations"]["splunk"]["events"]["waiting"], 7);
}
