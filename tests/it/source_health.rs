//! Source health through the real binary: an alert about a sender that fell silent arrives at a sink, once, also across a
//! restart, and so does the one that says that it is over.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client;
use crate::hec::{Hec, TOKEN};
use crate::process::{Running, eventually, free_port};

struct Setup {
    folder: tempfile::TempDir,
    admin: u16,
    port: u16,
}

impl Setup {
    fn start(&self) -> (Running, TcpStream) {
        let running = Running::start(self.folder.path(), Stdio::inherit());
        (running, eventually("the listener", || TcpStream::connect(("127.0.0.1", self.port)).ok()))
    }

    /// How the sender is.
    fn sender(&self) -> Value {
        let text = client::send(self.admin, "GET /api/v1/health", &["connection: close"], b"").body;
        serde_json::from_str::<Value>(&text).unwrap()["sources"]["fw"]["senders"]["127.0.0.1"].clone()
    }

    fn gauge(&self) -> Option<u64> {
        let text = client::send(self.admin, "GET /metrics", &["connection: close"], b"").body;
        let series = "hydrant_source_health_senders{component_id=\"fw\",condition=\"silent\"}";
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }
}

/// Sends a line every tenth of a second until the sender is known.
fn speak(setup: &Setup, stream: &mut TcpStream) {
    eventually("a steady past", || {
        stream.write_all(b"<14>Nov 22 03:00:00 fw app: Deny\n").unwrap();
        sleep(Duration::from_millis(100));
        setup.sender()["silent_after_s"].is_number().then_some(())
    });
}

fn states(hec: &Hec) -> Vec<Value> {
    let state = hec.state.lock().unwrap();
    let found = state.events.iter().map(|event| event["event"]["hydrant"]["source_health"]["state"].clone());
    found.filter(|state| !state.is_null()).collect()
}

#[test]
fn a_sender_that_falls_silent_is_an_alert_at_a_sink_once_also_across_a_restart() {
    let hec = Hec::start();
    let setup = Setup { folder: tempfile::tempdir().unwrap(), admin: free_port(), port: free_port() };
    // The route shows that it is an alert like any other; the lines themselves go nowhere.
    let config = format!(
        "data_dir: data\nshards: 2\nadmin: \"127.0.0.1:{}\"\njournal: {{ segment_size: 4MiB, max_size: 1GB }}\n\
         source_health: {{ silent_after: 3s, learning: 2s }}\nsources:\n  \
         fw: {{ type: syslog, listen: \"tcp://127.0.0.1:{}\" }}\nsinks:\n  \
         splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}\n\
         routes:\n  - {{ when: '%hydrant.source == \"%source_health\" && %hydrant.alert == true', to: [splunk] }}\n",
        setup.admin, setup.port, hec.port
    );
    fs::write(setup.folder.path().join("hydrant.yaml"), config).unwrap();
    let (running, mut stream) = setup.start();
    speak(&setup, &mut stream);
    eventually("the alert", || (states(&hec) == ["begun"]).then_some(()));
    let alert = hec.state.lock().unwrap().events[0]["event"].clone();
    let hydrant = &alert["hydrant"];
    assert_eq!((&hydrant["alert"], &hydrant["source"]), (&json!(true), &json!("source_health")));
    assert_eq!(hydrant["rule"]["id"], "85f067f6-3b9f-43b8-b898-b58da354d446");
    assert_eq!((&hydrant["rule"]["title"], &hydrant["rule"]["level"]), (&json!("Log Source Silent"), &json!("high")));
    let found = &hydrant["source_health"];
    assert_eq!((&found["condition"], &found["source"], &found["sender"]), (&json!("silent"), &json!("fw"), &json!("127.0.0.1")));
    assert_eq!((&alert["fields"]["observer"]["ip"], hydrant["alert_id"].as_str().unwrap().len()), (&json!("127.0.0.1"), 32), "{alert}");
    assert_eq!((setup.gauge(), setup.sender()["conditions"]["silent"].is_string()), (Some(1), true));
    drop(stream);
    assert!(running.stop());

    let (running, mut stream) = setup.start();
    // Longer than it took the first time.
    sleep(Duration::from_secs(8));
    assert_eq!((states(&hec).len(), setup.gauge()), (1, Some(1)));
    stream.write_all(b"<14>Nov 22 03:00:00 fw app: Deny\n").unwrap();
    eventually("the end", || (states(&hec) == ["begun", "over"]).then_some(()));
    let over = hec.state.lock().unwrap().events[1]["event"]["hydrant"].clone();
    assert_eq!((&over["source_health"]["episode"], &over["rule"]["level"]), (&found["episode"], &json!("informational")));
    assert!(running.stop());
    let output =
        Command::new(env!("CARGO_BIN_EXE_hydrant")).args(["ledger", "--data-dir", "data", "--json"]).current_dir(&setup.folder).output();
    let book: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!((&book["balanced"], &book["destinations"]["splunk"]["alerts"]["delivered"]), (&json!(true), &json!(2)), "{book}");
}
