//! What other log routers did wrong, by the number of the report: each is done to Hydrant with its journal on disk.
//!
//! `vector_N` is issue or pull request N of vectordotdev/vector. What a process cannot see is in
//! `src/journal/tests/peers.rs`: #22489 and #8540 (acknowledged before it is durable), #25570 (a file gone before the record
//! that says so), #25639 (write, crash, flush), on a disk whose power is cut.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::client;
use crate::hec::{Hec, TOKEN};
use crate::process::{Running, eventually, free_port};

/// A configuration with one source and one destination, which may be away, and its data folder.
struct Site {
    folder: tempfile::TempDir,
    http: u16,
    hec: u16,
}

impl Site {
    fn new(journal: &str) -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap(), http: free_port(), hec: free_port() };
        site.configure(journal);
        site
    }

    fn configure(&self, journal: &str) {
        let Self { http, hec, .. } = self;
        let config = format!(
            "data_dir: data\nshards: 1\ndrain_timeout: 30s\njournal: {{ type: disk{journal} }}\nsources:\n  \
             web: {{ type: http, listen: \"127.0.0.1:{http}\", decoder: json }}\nsinks:\n  \
             splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{hec}\", token: \"{TOKEN}\", \
             buffer: {{ interval: 50ms }} }}\n"
        );
        fs::write(self.file(), config).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("hydrant.yaml")
    }

    fn start(&self) -> Running {
        let said = fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("said")).unwrap();
        let process = Running::start(self.folder.path(), said);
        eventually("the listener", || TcpStream::connect(("127.0.0.1", self.http)).ok());
        process
    }

    fn destination(&self) -> Hec {
        Hec::start_on(&format!("127.0.0.1:{}", self.hec))
    }

    /// How often it has said something on stderr.
    fn said(&self, text: &str) -> usize {
        fs::read_to_string(self.folder.path().join("said")).unwrap().matches(text).count()
    }

    /// Status of the answer.
    fn post(&self, body: &str) -> u16 {
        client::send(self.http, "POST /", &["content-type: application/json"], body.as_bytes()).status
    }

    fn post_event(&self, id: usize) -> u16 {
        self.post(&format!("{{\"id\":\"<{id}>\",\"filler\":\"{}\"}}", "x".repeat(2000)))
    }

    fn segments(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.folder.path().join("data/journal")).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
        segments.sort();
        segments
    }

    /// Exit code and what `hydrant journal check` says.
    fn check(&self) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
        let output = command.args(["journal", "check", "--data-dir", "data"]).current_dir(self.folder.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }
}

/// The ids that have arrived, in order, each as often as it did.
fn arrived(hec: &Hec) -> Vec<usize> {
    let state = hec.state.lock().unwrap();
    let texts = state.events.iter().map(|event| event["event"].to_string());
    let mut ids: Vec<usize> = texts
        .map(|text| {
            let (_, rest) = text.split_once('<').unwrap();
            rest.split_once('>').unwrap().0.parse().unwrap()
        })
        .collect();
    ids.sort_unstable();
    ids
}

fn damage(file: &Path, wanted: &str) {
    let mut bytes = fs::read(file).unwrap();
    let at = memchr::memmem::find(&bytes, wanted.as_bytes()).unwrap();
    bytes[at + wanted.len()] ^= 0x20;
    fs::write(file, bytes).unwrap();
}

/// A damaged record made the buffer's reader go round for ever, so that SIGINT did nothing (#17644), or stand still until
/// somebody deleted the buffer (#18336, #19155, #19379, #19759).
#[test]
fn vector_17644_18336_19155_19379_19759_a_damaged_record_costs_itself_and_nothing_else() {
    let site = Site::new("");
    let process = site.start();
    (0..50).for_each(|id| assert_eq!(site.post_event(id), 200));
    process.kill();
    damage(&site.segments().pop().unwrap(), "<20>");
    let (code, said) = site.check();
    assert!(code != 0 && said.contains(":20 is lost"), "{code}: {said}");

    let hec = site.destination();
    let mut process = site.start();
    assert_eq!(site.post_event(50), 200);
    let expected: Vec<usize> = (0..=50).filter(|id| *id != 20).collect();
    eventually("all but the damaged event", || (arrived(&hec) == expected).then_some(()));
    process.signal("INT");
    assert!(process.ends());
    let mut process = site.start();
    process.signal("INT");
    assert!(process.ends(), "and again with what is left");
}

/// What the buffer took was computed anew after a start, wrongly, so that it was full for good.
#[test]
fn vector_25845_a_journal_that_was_full_empties_and_takes_again_after_every_kill() {
    let journal = ", segment_size: 1MiB, max_size: 4MiB";
    let mut site = Site::new(journal);
    let mut next = 0;
    for round in 0..3 {
        // Receivers stay until their test ends: nobody is at a new port.
        site.hec = free_port();
        site.configure(journal);
        let process = site.start();
        let refused = eventually("the journal to be full", || {
            let status = site.post_event(next);
            next += usize::from(status == 200);
            (status != 200).then_some(status)
        });
        assert_eq!(refused, 503);
        process.kill();
        let hec = site.destination();
        let mut process = site.start();
        eventually(&format!("round {round} to arrive"), || (arrived(&hec).last() == Some(&(next - 1))).then_some(()));
        let last = next;
        eventually("room", || (site.post_event(last) == 200).then_some(()));
        eventually("what came into that room", || arrived(&hec).contains(&last).then_some(()));
        next = last + 1;
        process.signal("TERM");
        assert!(process.ends());
    }
}

/// A record above the buffer's limit ended the process.
#[test]
fn vector_25795_a_record_that_is_too_large_is_refused_and_the_process_goes_on() {
    let site = Site::new("");
    let hec = site.destination();
    let process = site.start();
    for megabytes in [1, 8, 40, 200] {
        let body = format!("{{\"id\":\"<{megabytes}>\",\"filler\":\"{}\"}}", "x".repeat(megabytes << 20));
        let status = site.post(&body);
        assert!(matches!(status, 200 | 413), "{megabytes} MiB: {status}");
    }
    process.kill();
    let mut process = site.start();
    assert_eq!(site.post_event(7), 200);
    eventually("the next event", || arrived(&hec).contains(&7).then_some(()));
    process.signal("TERM");
    assert!(process.ends());
}

/// A deeply nested event could be written to the buffer and not be read from it.
#[test]
fn vector_26099_deep_nesting_is_read_from_the_journal_as_it_was_written() {
    let site = Site::new("");
    let process = site.start();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(site.post(&format!("{{\"id\":\"<1>\",\"deep\":{deep}}}")), 200);
    assert_eq!(site.post_event(2), 200);
    process.kill();
    let hec = site.destination();
    let _process = site.start();
    eventually("both events", || (arrived(&hec) == [1, 2]).then_some(()));
    let state = hec.state.lock().unwrap();
    assert!(state.events.iter().any(|event| event["event"].to_string().contains(&deep)), "bracket for bracket");
}

/// A reader that slept missed its wake-up, and events waited for the next one (#25872); acknowledgements waited for each
/// other after some minutes (#24896).
#[test]
fn vector_25872_24896_an_event_alone_is_acknowledged_and_arrives_without_another_behind_it() {
    let site = Site::new("");
    let hec = site.destination();
    let _process = site.start();
    for id in 0..150 {
        assert_eq!(site.post_event(id), 200);
        eventually(&format!("event {id}"), || (arrived(&hec).len() > id).then_some(()));
        std::thread::sleep(Duration::from_millis(id as u64 * 7 % 23));
    }
    assert_eq!(arrived(&hec), (0..150).collect::<Vec<_>>());
}

/// 2024-11-14, Cloudflare: a blank configuration was taken for "send everything to everybody".
#[test]
fn cloudflare_2024_11_14_a_blank_configuration_changes_nothing() {
    let site = Site::new("");
    let hec = site.destination();
    let mut process = site.start();
    let config = fs::read(site.file()).unwrap();
    for blank in ["", "\n\n", "# nothing\n", "---\n", "{}\n", "sources: {}\nsinks: {}\n"] {
        fs::write(site.file(), blank).unwrap();
        for (id, signal, text) in [(1, "HUP", ": not reloaded"), (2, "USR2", ": not handed over")] {
            let before = site.said(text);
            process.signal(signal);
            eventually(&format!("an answer to {signal} with {blank:?}"), || (site.said(text) > before).then_some(()));
            assert_eq!(site.post_event(id), 200);
        }
    }
    eventually("what was sent", || (arrived(&hec).len() == 12).then_some(()));
    fs::File::create(site.file()).unwrap().write_all(&config).unwrap();
    process.signal("TERM");
    assert!(process.ends());
    fs::write(site.file(), "\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    let output = command.args(["run", "-c", "hydrant.yaml"]).current_dir(site.folder.path()).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("empty"));
}
