//! Dead letters through the real binary: written by a running Hydrant, looked at, sent again, removed, held at the cap.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::hec::{Hec, TOKEN};
use crate::process::{Hydrant, eventually, free_port};

fn config(port: u16, hec: u16, more: &str) -> String {
    format!(
        "data_dir: data\nshards: 2\n{more}sources:\n  fw: {{ type: syslog, listen: \"127.0.0.1:{port}\" }}\nsinks:\n  \
         splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{hec}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}\n"
    )
}

fn dlq(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hydrant")).arg("dlq").args(arguments).current_dir(folder).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn send(port: u16, ids: impl Iterator<Item = String>) {
    let mut stream = eventually("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
    ids.for_each(|id| stream.write_all(format!("<14>Nov 22 03:00:00 fw app: {id}\n").as_bytes()).unwrap());
}

/// How many letters `dlq list` counts.
fn count(folder: &Path) -> u64 {
    lines(&dlq(folder, &["list", "--output", "json"])).iter().map(|row| row["events"].as_u64().unwrap()).sum()
}

fn ids(text: &str, word: &str) -> BTreeSet<String> {
    text.split(word).skip(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect()).collect()
}

fn poison(hec: &Hec, word: &str) {
    hec.state.lock().unwrap().poison = Some(word.to_owned());
}

#[test]
fn a_record_says_everything_and_a_purge_wants_a_yes() {
    let (hec, port) = (Hec::start(), free_port());
    poison(&hec, "Bad");
    let hydrant = Hydrant::run(&config(port, hec.port, ""), &[]);
    let folder = hydrant.folder();
    send(port, (0..3).map(|id| format!("Bad{id} Good")).chain((3..20).map(|id| format!("Good{id}"))));
    eventually("the letters", || (count(folder) == 3).then_some(()));
    eventually("the rest", || (hec.count() == 17).then_some(()));
    let listed = lines(&dlq(folder, &["list", "--output", "json"]));
    assert_eq!((&listed[0]["destination"], &listed[0]["reason"], listed.len()), (&"splunk".into(), &"http_400".into(), 1));
    let table = String::from_utf8(dlq(folder, &["list"]).stdout).unwrap();
    assert!(table.starts_with("destination  reason    events  alerts  oldest  newest\nsplunk       http_400  3       0       "), "{table}");
    let shown = lines(&dlq(folder, &["show", "-c", "hydrant.yaml"]));
    let letter = shown.iter().find(|letter| letter["raw"].as_str().unwrap().contains("Bad1")).unwrap();
    assert_eq!((&letter["errorCode"], &letter["attemptsMade"]), (&"Destination.Rejected".into(), &1.into()));
    for (key, expected) in [("sender", "127.0.0.1"), ("source", "fw"), ("destination", "splunk"), ("destinationType", "splunk_hec")] {
        assert_eq!(letter[key], expected, "{key}");
    }
    assert!(letter["planHash"].as_str().unwrap().len() == 16 && letter["EventId"].as_str().unwrap().contains(':'), "{letter}");
    assert!(letter["arrivalTimestamp"].as_i64().unwrap() <= letter["attemptEndingTimestamp"].as_i64().unwrap());
    let id = letter["EventId"].as_str().unwrap();
    assert_eq!(lines(&dlq(folder, &["show", "--event-id", id])), std::slice::from_ref(letter));

    assert_eq!(dlq(folder, &["purge", "--yes"]).status.code(), Some(1), "it is not said what");
    assert_eq!(dlq(folder, &["purge", "-d", "splunk"]).status.code(), Some(1));
    assert_eq!(count(folder), 3);
    assert_eq!(dlq(folder, &["purge", "--older-than", "1h", "--yes"]).status.code(), Some(0));
    assert_eq!(count(folder), 3, "they are younger");
    assert_eq!(dlq(folder, &["purge", "-d", "splunk", "--yes"]).status.code(), Some(0));
    assert_eq!(count(folder), 0);
    assert!(hydrant.stop());
}

#[test]
fn a_replay_sends_what_is_taken_now_while_a_running_hydrant_writes_more() {
    let (hec, port) = (Hec::start(), free_port());
    poison(&hec, "Old");
    let hydrant = Hydrant::run(&config(port, hec.port, "dead_letters: { file_size: 64KiB }\n"), &[]);
    let folder = hydrant.folder();
    let replay = || dlq(folder, &["replay", "-c", "hydrant.yaml", "-d", "splunk"]);
    send(port, (0..150).map(|id| format!("Old{id}")));
    eventually("the letters", || (count(folder) == 150).then_some(()));
    let again = replay();
    assert_eq!((again.status.code(), count(folder), hec.count()), (Some(1), 150, 0), "all of them are refused again");
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(said.contains("splunk: 0 sent, 150 refused again, 0 left"), "{said}");

    poison(&hec, "New");
    send(port, (0..150).map(|id| format!("New{id}")));
    let mut sent = 0;
    while sent < 150 {
        let output = replay();
        let said = String::from_utf8(output.stderr).unwrap();
        sent += said.split("splunk: ").nth(1).unwrap().split(' ').next().unwrap().parse::<u64>().unwrap();
    }
    eventually("the new letters", || (count(folder) == 150).then_some(()));
    let text: String = hec.state.lock().unwrap().events.iter().map(Value::to_string).collect();
    assert_eq!((sent, hec.count(), ids(&text, "Old").len()), (150, 150, 150), "each once");
    let left: String = lines(&dlq(folder, &["show", "-n", "1000"])).iter().map(Value::to_string).collect();
    assert_eq!((ids(&left, "New").len(), ids(&left, "Old").len()), (150, 0));
    hec.state.lock().unwrap().poison = None;
    assert_eq!((replay().status.code(), count(folder), hec.count()), (Some(0), 0, 300));
    assert!(hydrant.stop());
}

#[test]
fn a_replay_ends_when_the_destination_takes_nothing_and_loses_nothing() {
    let (hec, port) = (Hec::start(), free_port());
    poison(&hec, "Bad");
    let hydrant = Hydrant::run(&config(port, hec.port, ""), &[]);
    send(port, (0..5).map(|id| format!("Bad{id}")));
    eventually("the letters", || (count(hydrant.folder()) == 5).then_some(()));
    let file = hydrant.folder().join("hydrant.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&format!("127.0.0.1:{}", hec.port), &format!("127.0.0.1:{}", free_port()))).unwrap();
    let output = dlq(hydrant.folder(), &["replay", "-c", "hydrant.yaml", "-d", "splunk", "--patience", "1s"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("0 sent, 0 refused again, 5 left"), "{said}");
    assert_eq!(count(hydrant.folder()), 5);
    let output = dlq(hydrant.folder(), &["replay", "-c", "hydrant.yaml", "-d", "splnk"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("did you mean `splunk`?"));
    assert!(hydrant.stop());
}

#[test]
fn at_the_cap_events_are_held_with_an_alarm_until_there_is_room() {
    let (hec, port, admin) = (Hec::start(), free_port(), free_port());
    poison(&hec, "Bad");
    let more = format!("admin: \"127.0.0.1:{admin}\"\ndead_letters: {{ max_size: 64KiB }}\n");
    let hydrant = Hydrant::run(&config(port, hec.port, &more), &[]);
    let folder = hydrant.folder();
    send(port, (0..120).map(|id| format!("Bad{id} {}", "x".repeat(600))));
    eventually("the alarm", || hydrant.log().contains("have reached their cap of 65536 bytes; replay or purge them").then_some(()));
    let mut stream = TcpStream::connect(("127.0.0.1", admin)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let metrics = std::io::read_to_string(stream).unwrap();
    assert!(metrics.contains("hydrant_dead_letters_held{component_id=\"splunk\"} 1\n"), "{metrics}");
    let mut removed = 0;
    eventually("all letters", || {
        let output = dlq(folder, &["purge", "-d", "splunk", "--yes"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        removed += said.split("splunk: ").nth(1).map_or(0, |rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap());
        (removed == 120).then_some(())
    });
    assert_eq!(count(folder), 0);
    assert!(hydrant.stop());
}
