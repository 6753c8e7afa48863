//! Enrichment in the running program: a changed table is used without a restart, a broken one is not.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;

use hydrant::traffic::{Kind, Traffic};

use crate::hec::{Hec, TOKEN};
use crate::process::{Hydrant, eventually, free_port};

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
