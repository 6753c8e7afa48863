//! Correlation through the real binary: raw vendor lines in, alerts at a strict HEC, with any number of shards, across a
//! stop, a reload and a kill.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::client;
use crate::hec::{Hec, TOKEN};
use crate::process::{Running, eventually, free_port};

/// A configuration with the pack in a folder that outlives its processes.
struct Setup {
    folder: tempfile::TempDir,
    admin: u16,
    port: u16,
}

impl Setup {
    fn new(shards: usize, hec: u16, lateness: &str) -> Self {
        let setup = Self { folder: tempfile::tempdir().unwrap(), admin: free_port(), port: free_port() };
        let config = format!(
            "data_dir: data\nshards: {shards}\nadmin: \"127.0.0.1:{}\"\nrules: [builtin]\ndrain_timeout: 5s\n\
             correlation: {{ lateness: {lateness}, memory: 16MiB }}\njournal: {{ segment_size: 4MiB, max_size: 1GB }}\n\
             sources:\n  fw: {{ type: syslog, listen: \"tcp://127.0.0.1:{}\", decoder: auto }}\nsinks:\n  \
             splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{hec}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}\n",
            setup.admin, setup.port
        );
        fs::write(setup.folder.path().join("hydrant.yaml"), config).unwrap();
        setup
    }

    fn start(&self) -> Running {
        let running = Running::start(self.folder.path(), Stdio::inherit());
        self.connect();
        running
    }

    fn connect(&self) -> TcpStream {
        eventually("the listener", || TcpStream::connect(("127.0.0.1", self.port)).ok())
    }

    /// Waits until nothing is on its way to the disk any more: two looks that are longer apart than a commit see the same.
    fn quiet(&self) {
        let bytes = || self.metric("hydrant_journal_written_bytes_total", "");
        eventually("a quiet journal", || {
            let before = bytes()?;
            std::thread::sleep(std::time::Duration::from_millis(200));
            (bytes()? == before).then_some(())
        });
    }

    /// The value of the first series of a metric that has a text in its labels.
    fn metric(&self, name: &str, label: &str) -> Option<u64> {
        let text = client::send(self.admin, "GET /metrics", &["connection: close"], b"").body;
        text.lines().find(|line| line.starts_with(name) && line.contains(label))?.rsplit(' ').next()?.parse().ok()
    }
}

/// A failed login at a GlobalProtect gateway, `second` seconds after eight.
fn failure(user: &str, address: &str, second: usize) -> String {
    login(user, address, second, "failure")
}

fn login(user: &str, address: &str, second: usize, outcome: &str) -> String {
    format!(
        "<14>1 2026-11-21T08:00:{second:02}.123Z PA-FW-01 - - - - 1,2026/11/21 08:00:{second:02},012801010010,GLOBALPROTECT,0,2816,\
         2026/11/21 08:00:{second:02},vsys1,gateway-auth,login,LDAP,,{user},NL,LAPTOP-7,{address},0.0.0.0,0.0.0.0,0.0.0.0,,,6.2.1,Windows,\
         \"Microsoft Windows 11 Pro\",1,Authentication failed: Invalid username or password,,\"\",{outcome},,0,,0,GP-Portal,7000000005,\
         0x8000000000000000\n"
    )
}

/// Alerts of correlations that a receiver has.
fn alerts(hec: &Hec) -> Vec<Value> {
    let state = hec.state.lock().unwrap();
    state.events.iter().map(|event| event["event"].clone()).filter(|event| event["hydrant"]["correlation"].is_object()).collect()
}

fn titles(alerts: &[Value]) -> Vec<String> {
    let mut titles: Vec<String> = alerts.iter().map(|alert| alert["hydrant"]["rule"]["title"].as_str().unwrap().to_owned()).collect();
    titles.sort();
    titles
}

/// What every number of shards has to find: two attackers and one person who mistypes.
fn scene() -> Vec<String> {
    let mut lines: Vec<String> = (0..20).map(|n| failure("admin", "198.51.100.7", n)).collect();
    lines.extend((0..12).map(|n| failure(&format!("user{n}"), "198.51.100.8", 20 + n)));
    lines.extend((0..3).map(|n| failure("jsmith", "198.51.100.9", 40 + n)));
    lines
}

#[test]
fn any_number_of_shards_finds_the_brute_force_in_raw_lines_and_only_that() {
    for shards in [1, 2, 4] {
        let hec = Hec::start();
        // Longer than the scene: which connection is read first is left to chance.
        let setup = Setup::new(shards, hec.port, "1m");
        let running = setup.start();
        let mut streams: Vec<TcpStream> = (0..4).map(|_| setup.connect()).collect();
        for (number, line) in scene().iter().enumerate() {
            streams[number % 4].write_all(line.as_bytes()).unwrap();
        }
        let hits = || setup.metric("hydrant_correlation_hits_total", "VPN Brute Force").filter(|count| *count == 35);
        eventually("all hits", hits);
        assert_eq!(setup.metric("hydrant_correlation_left_out_total", "VPN Brute Force"), Some(0));
        drop(streams);
        assert!(running.stop());
        let found = alerts(&hec);
        assert_eq!(titles(&found), ["Password Spray Against the VPN", "VPN Brute Force From One Address"], "{shards} shards");
        let brute_force = found.iter().find(|alert| alert["hydrant"]["rule"]["level"] == "high" && alert["src"] == "198.51.100.7").unwrap();
        let hydrant = &brute_force["hydrant"];
        assert_eq!((&hydrant["alert"], &hydrant["source"]), (&Value::from(true), &Value::from("correlation")));
        let correlation = &hydrant["correlation"];
        assert_eq!((&correlation["type"], &correlation["value"]), (&Value::from("event_count"), &Value::from(15)));
        assert_eq!(correlation["group"], serde_json::json!({"source.ip": "198.51.100.7"}));
        assert_eq!(correlation["sources"], serde_json::json!(["fw"]));
        assert!(brute_force["drilldown_search"].as_str().unwrap().starts_with("index=* source=\"fw\" "), "{brute_force}");
        assert!(correlation["window_end"].as_str().unwrap().starts_with("2026-11-21T08:00:14."));
        assert_eq!(correlation["sample"].as_array().unwrap().len(), 15);
        assert_eq!(hydrant["alert_id"].as_str().unwrap().len(), 32);
        assert_eq!(brute_force["fields"]["source"]["ip"], "198.51.100.7");
        assert!(brute_force["rule_title"].as_str().unwrap().starts_with("VPN Brute Force From One Address: event_count 15 in 300 s"));
        assert!(brute_force.get("orig_raw").is_none());
        let events = hec.count() - 2;
        assert_eq!(events, scene().len(), "every line once, and no alert of a rule that correlations have for themselves");
        let ledger = Command::new(env!("CARGO_BIN_EXE_hydrant"))
            .args(["ledger", "--data-dir", "data", "--json"])
            .current_dir(setup.folder.path())
            .output()
            .unwrap();
        assert!(ledger.status.success(), "{}", String::from_utf8_lossy(&ledger.stderr));
        let ledger: Value = serde_json::from_slice(&ledger.stdout).unwrap();
        let flows = &ledger["destinations"]["splunk"];
        assert_eq!((&flows["alerts"]["delivered"], &flows["events"]["delivered"]), (&Value::from(2), &Value::from(35)), "{ledger}");
    }
}

#[test]
fn a_stop_takes_what_waits_for_the_watermark() {
    let hec = Hec::start();
    let setup = Setup::new(2, hec.port, "10m");
    let running = setup.start();
    let mut stream = setup.connect();
    (0..20).for_each(|n| stream.write_all(failure("admin", "198.51.100.7", n).as_bytes()).unwrap());
    drop(stream);
    eventually("the events", || (hec.count() >= 20).then_some(()));
    assert!(alerts(&hec).is_empty(), "the lateness is not over");
    assert!(running.stop());
    assert_eq!(titles(&alerts(&hec)), ["VPN Brute Force From One Address"]);
}

#[test]
fn an_alert_that_was_fired_survives_a_kill_while_its_destination_is_down() {
    let port = free_port();
    let setup = Setup::new(2, port, "5s");
    let running = setup.start();
    let mut stream = setup.connect();
    (0..20).for_each(|n| stream.write_all(failure("admin", "198.51.100.7", n).as_bytes()).unwrap());
    eventually("the alert", || setup.metric("hydrant_rule_hits_total", "VPN Brute Force").filter(|count| *count == 1));
    let routed = || setup.metric("hydrant_component_routed_events_total", "splunk");
    eventually("the events", || routed().filter(|count| *count == 20));
    setup.quiet();
    // The guard kills without a warning.
    drop(running);
    let hec = Hec::start_on(&format!("127.0.0.1:{port}"));
    let running = setup.start();
    let found = eventually("the alert after the kill", || Some(alerts(&hec)).filter(|alerts| !alerts.is_empty()));
    assert_eq!(titles(&found), ["VPN Brute Force From One Address"]);
    assert!(running.stop());
    assert_eq!(alerts(&hec).len(), 1);
}

/// Sends lines, of which each is a hit of a correlation, ends the process with a kill or a stop once that is durable, starts
/// another one, sends it more lines and stops it. What alerts arrived before the end and in all.
fn interrupted(is_killed: bool, correlation: &str, before: &[String], after: &[String]) -> (Vec<String>, Vec<String>) {
    let hec = Hec::start();
    let setup = Setup::new(2, hec.port, "1s");
    let send = |lines: &[String]| {
        let mut stream = setup.connect();
        lines.iter().for_each(|line| stream.write_all(line.as_bytes()).unwrap());
    };
    let hits = || setup.metric("hydrant_correlation_hits_total", correlation).filter(|hits| *hits >= before.len() as u64);
    let running = setup.start();
    send(before);
    eventually("the hits", hits);
    // What is due is found when the shards have been idle for 2 s and the lateness is over.
    std::thread::sleep(std::time::Duration::from_secs(5));
    setup.quiet();
    match is_killed {
        true => drop(running),
        false => assert!(running.stop()),
    }
    let first = titles(&alerts(&hec));
    let running = setup.start();
    eventually("the hits of the first run", hits);
    send(after);
    let events = || hec.count() - alerts(&hec).len();
    eventually("the events", || (events() >= before.len() + after.len()).then_some(()));
    assert!(running.stop());
    assert_eq!(events(), before.len() + after.len(), "every event once");
    (first, titles(&alerts(&hec)))
}

const BRUTE_FORCE: &str = "VPN Brute Force From One Address";

#[test]
fn a_window_goes_on_after_a_restart() {
    let failures: Vec<String> = (0..19).map(|n| failure("admin", "198.51.100.7", n)).collect();
    for is_killed in [true, false] {
        let (first, all) = interrupted(is_killed, BRUTE_FORCE, &failures[..9], &failures[9..]);
        assert_eq!((first.len(), all), (0, vec![BRUTE_FORCE.to_owned()]), "killed: {is_killed}");
    }
}

#[test]
fn what_was_found_before_a_restart_is_not_found_again() {
    let failures: Vec<String> = (0..40).map(|n| failure("admin", "198.51.100.7", n)).collect();
    for is_killed in [true, false] {
        let (first, all) = interrupted(is_killed, BRUTE_FORCE, &failures[..20], &failures[20..]);
        assert_eq!((first.len(), all), (1, vec![BRUTE_FORCE.to_owned()]), "killed: {is_killed}");
    }
}

#[test]
fn a_chain_goes_on_after_a_restart() {
    // Each from an address of its own, so that nothing but the account is of interest.
    let failures: Vec<String> = (0..6).map(|n| failure("jsmith", &format!("198.51.100.{n}"), n)).collect();
    let success = [login("jsmith", "198.51.100.9", 30, "success")];
    for is_killed in [true, false] {
        let (first, all) = interrupted(is_killed, "VPN Login Failures of One Account", &failures, &success);
        assert_eq!((first.len(), all), (0, vec!["GlobalProtect Login After Many Failures".to_owned()]), "killed: {is_killed}");
    }
}

#[test]
fn a_reload_keeps_what_was_counted() {
    let hec = Hec::start();
    let setup = Setup::new(2, hec.port, "1m");
    let running = setup.start();
    let mut stream = setup.connect();
    (0..10).for_each(|n| stream.write_all(failure("admin", "198.51.100.7", n).as_bytes()).unwrap());
    eventually("the hits", || setup.metric("hydrant_correlation_hits_total", "VPN Brute Force").filter(|count| *count == 10));
    let file = setup.folder.path().join("hydrant.yaml");
    let config = fs::read_to_string(&file).unwrap().replace("lateness: 1m", "lateness: 2m");
    fs::write(&file, config).unwrap();
    assert!(Command::new("kill").args(["-HUP", &running.0.id().to_string()]).status().unwrap().success());
    eventually("the reload", || setup.metric("hydrant_config_reloads_total", "ok").filter(|count| *count == 1));
    (10..16).for_each(|n| stream.write_all(failure("admin", "198.51.100.7", n).as_bytes()).unwrap());
    eventually("the hits", || setup.metric("hydrant_correlation_hits_total", "VPN Brute Force").filter(|count| *count == 16));
    assert!(running.stop());
    let found = alerts(&hec);
    assert_eq!(titles(&found), ["VPN Brute Force From One Address"]);
    assert_eq!(found[0]["hydrant"]["correlation"]["value"], 15, "ten of them came before the reload");
}
