//! Enrichment in the running program: a changed table or threat list is used without a restart, a broken one is not; a
//! feed is fetched, kept, and there after a restart without a network; names of addresses come without any event's waiting.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hydrant::traffic::{Kind, Traffic};

use crate::client;
use crate::commands;
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
    let states = fs::read_dir(folder.path().join("data/feeds")).unwrap().map(|file| file.unwrap().path());
    // Then it would be time to ask.
    states.filter(|path| path.extension().is_some_and(|end| end == "json")).for_each(|path| fs::remove_file(path).unwrap());
    let decode = ["decode", "--config", "hydrant.yaml", "--source", "fw"];
    let (code, stdout, stderr) = commands::run(folder.path(), &decode, commands::LINE);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let threat = &commands::objects(&stdout)[0]["fields"]["threat"];
    assert_eq!((&threat["indicator"]["description"], asked.lock().unwrap().len()), (&"fetched".into(), requests), "only what is kept");
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

/// A MISP feed of one event that has every address.
fn misp_feed() -> u16 {
    let uuid = "5f0c0000-aaaa-4000-8000-000000000001";
    let attribute = |first: u32| format!(r#"{{"type": "ip-dst", "value": "{first}.0.0.0/8", "to_ids": true}}"#);
    let attributes: Vec<String> = (1..224).map(attribute).collect();
    let event = format!(r#"{{"Event": {{"uuid": "{uuid}", "Attribute": [{}]}}}}"#, attributes.join(","));
    let manifest = format!(r#"{{"{uuid}": {{"timestamp": "1795240800", "info": "fetched"}}}}"#);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let (status, body) = match head.split(' ').nth(1) {
                Some("/feed/manifest.json") => ("200 OK", manifest.as_str()),
                Some(path) if path == format!("/feed/{uuid}.json") => ("200 OK", event.as_str()),
                _ => ("404 Not Found", ""),
            };
            let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            // Who does not want all of it may go.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn a_misp_feed_is_fetched_by_its_manifest() {
    let hec = Hec::start();
    let port = free_port();
    let url = format!("url: \"http://127.0.0.1:{}/feed/\", allow_loopback: true", misp_feed());
    let config = list_config(port, hec.port, &url)
        .replace("format: csv, kind: ip,", "format: misp, max_events: 5,")
        .replace("columns: { value: value, description: what },", "");
    let hydrant = Hydrant::run(&config, &[]);
    eventually("the feed", || descriptions(&hec, port, 5).contains(&Some("fetched".to_owned())).then_some(()));
    assert!(hydrant.stop());
}

/// A name server that knows every address as `a.example`, until it is silent.
fn name_server(is_silent: Arc<AtomicBool>) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((len, peer)) = socket.recv_from(&mut query) {
            if !is_silent.load(Ordering::SeqCst) {
                let record = b"\xc0\x0c\x00\x0c\x00\x01\x00\x00\x0e\x10\x00\x0b\x01a\x07example\x00";
                let head = [query[0], query[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
                socket.send_to(&[&head, &query[12..len], record].concat(), peer).unwrap();
            }
        }
    });
    port
}

#[test]
fn an_address_gets_its_name_and_no_event_waits_for_a_silent_name_server() {
    let (hec, is_silent) = (Hec::start(), Arc::new(AtomicBool::new(false)));
    let (port, admin) = (free_port(), free_port());
    let server = name_server(is_silent.clone());
    let config = format!(
        "
data_dir: data
shards: 2
admin: \"127.0.0.1:{admin}\"
sources:
  fw: {{ type: syslog, listen: \"127.0.0.1:{port}\", decoder: palo_alto }}
enrichments:
  names: {{ type: reverse_dns, field: source.ip, into: source.domain, servers: [\"127.0.0.1:{server}\"], private: true, timeout: 30s }}
sinks:
  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{}\", token: \"{TOKEN}\", buffer: {{ interval: 20ms }} }}
",
        hec.port
    );
    let hydrant = Hydrant::run(&config, &[]);
    let mut stream = eventually("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
    let mut send = |seed: u64, count: usize| {
        let (seen, mut traffic) = (hec.count(), Traffic::new(Kind::PaloAlto, seed));
        for _ in 0..count {
            let mut line = Vec::new();
            traffic.next(1_795_240_800_000, &mut line);
            line.push(b'\n');
            stream.write_all(&line).unwrap();
        }
        eventually("the events", || (hec.count() >= seen + count).then_some(()));
        let name = |event: &serde_json::Value| event["event"]["hydrant"]["added"]["source"]["domain"].as_str().map(str::to_owned);
        hec.state.lock().unwrap().events.iter().skip(seen).map(name).collect::<Vec<_>>()
    };
    let first = send(3, 1);
    assert_eq!(first, [None], "an event does not wait for its name");
    eventually("the name", || (send(3, 1) == [Some("a.example".to_owned())]).then_some(()));
    is_silent.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let unknown = send(4, 500).iter().filter(|name| name.is_none()).count();
    assert!(unknown > 0 && started.elapsed() < Duration::from_secs(30), "{unknown} without a name, {:?}", started.elapsed());
    assert_eq!(send(3, 1), [Some("a.example".to_owned())]);
    let metrics = client::send(admin, "GET /metrics", &["connection: close"], b"").body;
    for part in [
        "hydrant_reverse_dns_lookups_total{component_id=\"names\",result=\"unknown\"} ",
        "hydrant_reverse_dns_questions_total{component_id=\"names\",outcome=\"name\"} ",
        "hydrant_reverse_dns_cached_addresses{component_id=\"names\"} ",
    ] {
        let value = metrics.split(part).nth(1).and_then(|rest| rest.split('\n').next());
        assert!(value.is_some_and(|value| value != "0"), "{part}\n{metrics}");
    }
    assert!(hydrant.stop());
}
