//! The thin slice, whole: syslog over TCP, `palo_alto`, a Sigma rule, `splunk_hec`.

use std::io::Write as _;
use std::net::TcpStream;

use hydrant::traffic::{Kind, Traffic};

use crate::hec::{Hec, TOKEN, is_alert};
use crate::process::{Hydrant, eventually, free_port};

const RULE: &str = "
title: Denied by policy
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f
status: stable
level: high
logsource: { product: paloalto, category: firewall }
detection:
  selection: { action: deny, dst_port: 22 }
  condition: selection
";

fn config(port: u16, hec: u16, more: &str) -> String {
    format!(
        "
data_dir: data
shards: 2
rules: [rules]
sources:
  fw: {{ type: syslog, listen: \"127.0.0.1:{port}\", decoder: palo_alto }}
sinks:
  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{hec}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} {more} }}
"
    )
}

fn connect(port: u16) -> TcpStream {
    eventually("the listener", || TcpStream::connect(("127.0.0.1", port)).ok())
}

fn lines(count: usize) -> Vec<Vec<u8>> {
    let mut traffic = Traffic::new(Kind::PaloAlto, 7);
    let line = |_| {
        let mut line = Vec::new();
        traffic.next(1_795_240_800_000, &mut line);
        line
    };
    (0..count).map(line).collect()
}

#[test]
fn a_unix_socket_is_open_with_several_shards() {
    let hec = Hec::start();
    let hydrant = Hydrant::run(&config(free_port(), hec.port, "").replace("\"127.0.0.1:", "\"unix:fw-"), &[("rules/deny.yml", RULE)]);
    let sent = lines(200);
    let is_socket = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("fw-");
    let socket = || std::fs::read_dir(hydrant.folder()).unwrap().map_while(Result::ok).find(is_socket);
    let mut stream = eventually("the socket", || std::os::unix::net::UnixStream::connect(socket()?.path()).ok());
    stream.write_all(&[&sent.join(&b"\n"[..])[..], b"\n"].concat()).unwrap();
    drop(stream);
    eventually("all events", || (hec.count() >= sent.len()).then_some(()));
    assert!(hydrant.stop(), "no shard failed");
}

#[test]
fn every_line_arrives_once_and_rules_alert() {
    let hec = Hec::start();
    let port = free_port();
    let hydrant = Hydrant::run(&config(port, hec.port, ""), &[("rules/deny.yml", RULE)]);
    let sent = lines(5000);
    let is_denied = |line: &[u8]| {
        let text = String::from_utf8_lossy(line);
        let columns: Vec<&str> = text.split(" - - - - ").nth(1).unwrap().split(',').collect();
        columns[25] == "22" && columns[30] == "deny"
    };
    let denied = sent.iter().filter(|line| is_denied(line)).count();
    assert!(denied > 0, "the traffic must have something to find");
    let mut stream = connect(port);
    for line in &sent {
        stream.write_all(line).and_then(|()| stream.write_all(b"\n")).unwrap();
    }
    drop(stream);
    eventually("all events", || (hec.count() >= sent.len() + denied).then_some(()));
    assert!(hydrant.stop(), "a stop with nothing left to deliver ends well");

    let state = hec.state.lock().unwrap();
    let (alerts, events): (Vec<_>, Vec<_>) = state.events.iter().partition(|event| is_alert(event));
    assert_eq!((events.len(), alerts.len()), (sent.len(), denied));
    let mut raw: Vec<String> =
        events.iter().map(|event| event["event"].as_str().or(event["event"]["message"].as_str()).unwrap().to_owned()).collect();
    let mut expected: Vec<String> = sent.iter().map(|line| String::from_utf8(line.clone()).unwrap()).collect();
    raw.sort();
    expected.sort();
    assert_eq!(raw, expected, "every line once, byte for byte");
    let tagged = events.iter().filter(|event| event["event"]["hydrant"]["rule_ids"][0] == "5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f").count();
    assert_eq!(tagged, denied, "the matching events are tagged too");
    let alert = alerts[0];
    assert_eq!(alert["event"]["hydrant"]["rule"]["title"], "Denied by policy");
    let notable = &alert["event"];
    assert_eq!((&notable["dest_port"], &notable["fields"]["destination"]["port"]), (&22.into(), &22.into()));
    let matched = serde_json::json!([{ "field": "action", "value": "deny" }, { "field": "destination.port", "value": "22" }]);
    assert_eq!((&notable["matched"], &alert["sourcetype"]), (&matched, &"hydrant:alert".into()));
    assert_eq!(events[0]["sourcetype"], "pan:log");
}

#[test]
fn nothing_is_lost_or_doubled_while_the_destination_is_down() {
    let hec = Hec::start();
    let port = free_port();
    let more = ", ack: true, ack_timeout: 5s";
    hec.state.lock().unwrap().ack = true;
    hec.state.lock().unwrap().faults = (0..6).map(|_| (503, r#"{"text":"Server is busy","code":9}"#.to_owned())).collect();
    let hydrant = Hydrant::run(&config(port, hec.port, more), &[("rules/deny.yml", RULE)]);
    let sent = lines(2000);
    let mut stream = connect(port);
    for line in &sent {
        stream.write_all(&[line.len().to_string().as_bytes(), b" ", line].concat()).unwrap();
    }
    drop(stream);
    eventually("all events", || (hec.count() >= sent.len()).then_some(()));
    assert!(hydrant.stop());
    let state = hec.state.lock().unwrap();
    let events = state.events.iter().filter(|event| !is_alert(event)).count();
    assert_eq!(events, sent.len());
}

#[test]
fn a_bad_event_goes_to_the_dead_letters_and_the_rest_is_delivered() {
    let hec = Hec::start();
    hec.state.lock().unwrap().poison = Some("PoisonRule".to_owned());
    let port = free_port();
    let hydrant = Hydrant::run(&config(port, hec.port, ""), &[("rules/deny.yml", RULE)]);
    let mut stream = connect(port);
    let good = lines(60);
    for (index, line) in good.iter().enumerate() {
        if index == 23 {
            stream.write_all(b"<14>1 2026-11-21T08:00:00Z fw - - - - 1,,,SYSTEM,PoisonRule,,\n").unwrap();
        }
        stream.write_all(line).and_then(|()| stream.write_all(b"\n")).unwrap();
    }
    drop(stream);
    let path = hydrant.folder().join("data/dead_letters/splunk.ndjson");
    let letters = eventually("the dead letter", || std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n')));
    let is_event = |event: &&serde_json::Value| !is_alert(event);
    eventually("the good events", || (hec.state.lock().unwrap().events.iter().filter(is_event).count() == good.len()).then_some(()));
    assert!(hydrant.stop());
    let letter: serde_json::Value = serde_json::from_str(letters.trim_end()).expect("exactly one record");
    assert!(letter["errorMessage"].as_str().unwrap().contains("code 6"), "{letter}");
    let raw = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, letter["rawData"].as_str().unwrap()).unwrap();
    assert!(String::from_utf8(raw).unwrap().contains("PoisonRule"));
}
