//! Enrichment in the running program: a changed table or threat list is used without a restart, a broken one is not; a
//! feed is fetched, kept, and there after a restart without a network.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use hydrant::traffic::{Kind, Traffic};

use crate::hec::{Hec, TOKEN};
use crate::process::{Hydrant, Running, eventually, free_port};

fn config(port: u16, hec: u16) -> String {
    format!(
        "
data_dir: data
shards: 2
sources:
  fw: {{ type: syslog, listen: \"127.0.0.1:{port}\", decoder: palo_alto }}
enrichments:
  rules: {{ type: table, path: rules.csv, match: cidr, key: {{ field: source.ip, column: net }}, columns: {{ owner: source.owner }} }}
sinks:
  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{hec}\", token: \"{TOKEN}\", buffer: {{ interval: 20ms }} }}
"
    )
}

/// The owners of all events since `seen`, as the destination got them; `None` for an event without one.
fn owners(hec: &Hec, seen: usize) -> Vec<Option<String>> {
    let state = hec.state.lock().unwrap();
    let owner = |event: &serde_json::Value| event["event"]["hydrant"]["added"]["source"]["owner"].as_str().map(str::to_owned);
    state.events.iter().skip(seen).map(owner).collect()
}

#[test]
fn a_changed_table_is_used_without_a_restart_and_a_broken_one_is_not() {
    let hec = Hec::start();
    let port = free_port();
    let hydrant = Hydrant::run(&config(port, hec.port), &[("rules.csv", "net,owner\n0.0.0.0/0,first\n")]);
    let mut stream = eventually("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
    let mut traffic = Traffic::new(Kind::PaloAlto, 3);
    let mut send = |count: usize| {
        let seen = hec.count();
        for _ in 0..count {
            let mut line = Vec::new();
            traffic.next(1_795_240_800_000, &mut line);
            line.push(b'\n');
            stream.write_all(&line).unwrap();
        }
        eventually("the events", || (hec.count() >= seen + count).then(|| owners(&hec, seen)))
    };
    let replace = |text: &str| {
        fs::write(hydrant.folder().join("rules.new"), text).unwrap();
        fs::rename(hydrant.folder().join("rules.new"), hydrant.folder().join("rules.csv")).unwrap();
    };
    assert!(send(50).iter().any(|owner| owner.as_deref() == Some("first")));
    replace("net,owner\n0.0.0.0/0,second\n");
    eventually("the second table", || send(1).iter().any(|owner| owner.as_deref() == Some("second")).then_some(()));
    replace("net,owner\nnonsense,third\n");
    // Two looks at the file and one more.
    std::thread::sleep(3 * hydrant::enrich::POLL_INTERVAL);
    let last = send(50);
    assert!(last.iter().any(|owner| owner.as_deref() == Some("second")), "{last:?}");
    assert!(last.iter().all(|owner| owner.as_deref().is_none_or(|owner| owner == "second")), "{last:?}");
    assert!(hydrant.stop());
}

/// A list that holds every address that the traffic can have.
fn everything(what: &str) -> String {
    let networks = (1..224).map(|first| format!("{first}.0.0.0/8,{what}\n"));
    std::iter::once("value,what\n".to_owned()).chain(networks).collect()
}

fn list_config(port: u16, hec: u16, list: &str) -> String {
    format!(
        "
data_dir: data
shards: 2
sources:
  fw: {{ type: syslog, listen: \"127.0.0.1:{port}\", decoder: palo_alto }}
enrichments:
  bad: {{ type: threat_list, format: csv, kind: ip, skip_private: false, columns: {{ value: value, description: what }}, {list} }}
sinks:
  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{hec}\", token: \"{TOKEN}\", buffer: {{ interval: 20ms }} }}
"
    )
}

/// Sends so many events and gives what their indicators are about.
fn descriptions(hec: &Hec, port: u16, count: usize) -> Vec<Option<String>> {
    let seen = hec.count();
    let mut stream = eventually("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
    let mut traffic = Traffic::new(Kind::PaloAlto, 5);
    for _ in 0..count {
        let mut line = Vec::new();
        traffic.next(1_795_240_800_000, &mut line);
        line.push(b'\n');
        stream.write_all(&line).unwrap();
    }
    let about = |event: &serde_json::Value| {
        let threat = &event["event"]["hydrant"]["added"]["threat"];
        // The decoder itself names threats, which are of no feed.
        assert!(threat["feed"].is_null() || threat["feed"]["name"] == "bad", "{event}");
        threat["indicator"]["description"].as_str().map(str::to_owned)
    };
    eventually("the events", || (hec.count() >= seen + count).then_some(()));
    hec.state.lock().unwrap().events.iter().skip(seen).map(about).collect()
}

/// The rule of the how-to; it only tags.
fn documented_rule() -> String {
    let text = include_str!("../../docs/how-to/match-threat-lists.md");
    let rule = text.split("**In a rule:**\n\n```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    rule.replace("level: high", "level: informational")
}

#[test]
fn a_threat_list_is_exchanged_while_events_flow_and_rules_see_it() {
    let hec = Hec::start();
    let port = free_port();
    let config = format!("rules: [rule.yml]\n{}", list_config(port, hec.port, "path: list.csv"));
    let hydrant = Hydrant::run(&config, &[("list.csv", &everything("first")), ("rule.yml", &documented_rule())]);
    let replace = |text: &str| {
        fs::write(hydrant.folder().join("list.new"), text).unwrap();
        fs::rename(hydrant.folder().join("list.new"), hydrant.folder().join("list.csv")).unwrap();
    };
    let has = |events: &[Option<String>], what: &str| events.iter().flatten().any(|about| about == what);
    assert!(has(&descriptions(&hec, port, 50), "first"));
    let rule = |event: &serde_json::Value| event["event"]["hydrant"]["rule_ids"][0] == "6f1f0b0e-6a55-4a4c-8f0b-53c0d1f1a001";
    assert!(hec.state.lock().unwrap().events.iter().any(rule));
    replace(&everything("second"));
    eventually("the second list", || has(&descriptions(&hec, port, 5), "second").then_some(()));
    replace("<!DOCTYPE html><title>Log in</title>");
    eventually("the refusal", || hydrant.log().contains("this is a web page").then_some(()));
    let last = descriptions(&hec, port, 50);
    assert!(has(&last, "second") && last.iter().flatten().all(|about| about == "second"), "{last:?}");
    assert!(hydrant.stop());
}

/// A server that gives its list to whoever asks; what was asked is kept.
fn serve(list: String) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
    let cell = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                head.push(byte[0]);
            }
            cell.lock().unwrap().push(String::from_utf8_lossy(&head).to_ascii_lowercase());
            let answer = format!("HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: {}\r\n\r\n{list}", list.len());
            // Who does not want all of it may go.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, asked)
}

#[test]
fn a_feed_is_fetched_in_the_background_and_is_there_after_a_restart_that_reaches_nobody() {
    let hec = Hec::start();
    let port = free_port();
    let (feed, asked) = serve(everything("fetched"));
    let folder = tempfile::tempdir().unwrap();
    let url = format!("url: \"http://127.0.0.1:{feed}/list?key=s3cret\", allow_loopback: true, headers: {{ Auth-Key: k3y }}");
    fs::write(folder.path().join("hydrant.yaml"), list_config(port, hec.port, &url)).unwrap();
    let start = || Running::start(folder.path(), fs::File::create(folder.path().join("log")).unwrap());
    let running = start();
    eventually("the list", || descriptions(&hec, port, 5).contains(&Some("fetched".to_owned())).then_some(()));
    assert!(running.stop());
    let requests = asked.lock().unwrap().len();
    assert!(asked.lock().unwrap()[0].contains("auth-key: k3y"));
    let running = start();
    assert!(descriptions(&hec, port, 50).contains(&Some("fetched".to_owned())), "the kept list is there from the first event on");
    // Two looks at the schedule.
    std::thread::sleep(2 * hydrant::enrich::POLL_INTERVAL);
    assert_eq!(asked.lock().unwrap().len(), requests, "the interval of an hour is not over");
    assert!(running.stop());
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(!log.contains("s3cret") && !log.contains("k3y"), "{log}");
}

#[test]
fn a_feed_on_this_machine_has_to_be_allowed() {
    let (feed, asked) = serve(everything("fetched"));
    let url = format!("url: \"http://localhost:{feed}/list\", allow_private: true");
    let hydrant = Hydrant::run(&list_config(free_port(), Hec::start().port, &url), &[]);
    eventually("the refusal", || hydrant.log().contains("this machine's own, which is not allowed here").then_some(()));
    assert!(asked.lock().unwrap().is_empty());
    assert!(hydrant.stop());
}
