//! `hydrant replay` through the real binary: by new rules, beside a running instance, after a kill, from an archive.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::hec::{Hec, TOKEN, is_alert};
use crate::journal::{Setup, code};
use crate::process::{eventually, free_port};

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

const CORRELATION: &str = "
title: Many denied
id: 6d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f
level: high
correlation:
  type: event_count
  rules: [5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f]
  group-by: [source.ip]
  timespan: 1h
  condition: { gte: 200 }
";

/// A PAN-OS line with a number in it; every tenth is denied.
fn line(number: usize) -> String {
    let (action, port) = if number.is_multiple_of(10) { ("deny", 22) } else { ("allow", 443) };
    format!(
        "<14>1 2026-11-21T08:00:00Z fw - - - - 1,2026/11/21 08:00:00,0128,TRAFFIC,end,2561,2026/11/21 08:00:00,10.0.0.1,93.184.216.34,,,\
         rule-{number},,,ssl,vsys1,trust,untrust,e1,e2,fwd,x,1,1,52011,{port},0,0,0x0,tcp,{action},5200,1200"
    )
}

fn setup(hec: &Hec, more: &str) -> Setup {
    let splunk = format!(
        "  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}\n",
        hec.port
    );
    let setup = Setup::new("journal: { type: disk, retain: 1h }\n", &format!("{splunk}{more}"));
    let config = setup.folder.path().join("hydrant.yaml");
    let text = fs::read_to_string(&config).unwrap().replace("type: http,", "type: http, decoder: palo_alto,");
    fs::write(&config, text).unwrap();
    let rules = setup.folder.path().join("rules");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("deny.yml"), RULE).unwrap();
    fs::write(setup.folder.path().join("correlation.yml"), CORRELATION).unwrap();
    setup
}

/// How often each number has arrived as an event, and how many alerts of a replay and others.
fn arrived(hec: &Hec) -> (HashMap<String, usize>, usize, usize) {
    let (mut numbers, mut of_replay, mut others) = (HashMap::new(), 0, 0);
    for event in &hec.state.lock().unwrap().events {
        let reserved = &event["event"]["hydrant"];
        if is_alert(event) {
            *(if reserved["rule"]["replay"] == true { &mut of_replay } else { &mut others }) += 1;
            continue;
        }
        let text = event["event"].to_string();
        let number = text.split(",rule-").nth(1).unwrap().split(',').next().unwrap().to_owned();
        *numbers.entry(number).or_default() += 1;
    }
    (numbers, of_replay, others)
}

fn progress(folder: &Path) -> bool {
    fs::read_dir(folder.join("data/replay")).is_ok_and(|mut files| files.any(|file| file.unwrap().path().extension().unwrap() == "json"))
}

#[test]
fn a_dry_run_asks_no_name_server() {
    let (hec, server) = (Hec::start(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let setup = setup(&hec, "");
    let running = setup.start();
    let body: String = (0..100).map(|number| line(number) + "\n").collect();
    assert_eq!(setup.post_text(&body), 200);
    eventually("the events", || (hec.count() == 100).then_some(()));
    let config = setup.folder.path().join("hydrant.yaml");
    let names = format!(
        "enrichments: {{ names: {{ type: reverse_dns, field: source.ip, into: source.domain, servers: [\"{}\"], private: true }} }}\n",
        server.local_addr().unwrap()
    );
    fs::write(setup.folder.path().join("named.yaml"), fs::read_to_string(config).unwrap() + &names).unwrap();
    let dry = setup.command(&["replay", "-c", "named.yaml", "--dry-run", "--output", "json"]);
    let stderr = String::from_utf8_lossy(&dry.stderr);
    assert_eq!(dry.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("enrichments.names: reverse DNS asks name servers, and nothing is sent here: it is left out"), "{stderr}");
    assert_eq!(serde_json::from_slice::<Value>(&dry.stdout).unwrap()["events"], 100);
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.recv(&mut [0; 512]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(running.stop());
}

#[test]
fn a_replay_of_the_journal_goes_by_new_rules_beside_a_running_hydrant_and_goes_on_after_a_kill() {
    const EVENTS: usize = 2000;
    let hec = Hec::start();
    let setup = setup(&hec, "");
    let running = setup.start();
    for first in (0..EVENTS).step_by(100) {
        let body: String = (first..first + 100).map(|number| line(number) + "\n").collect();
        assert_eq!(setup.post_text(&body), 200);
    }
    eventually("the events", || (hec.count() == EVENTS).then_some(()));

    let dry_run = |more: &[&str]| {
        let dry = setup.command(&[&["replay", "-c", "hydrant.yaml", "--rules", "rules", "--dry-run", "--output", "json"], more].concat());
        assert_eq!(dry.status.code(), Some(0), "{}", String::from_utf8_lossy(&dry.stderr));
        serde_json::from_slice::<Value>(&dry.stdout).unwrap()
    };
    let correlated = dry_run(&["--rules", "correlation.yml"]);
    let alerts = &correlated["destinations"]["splunk"]["alerts"]["routed"];
    assert_eq!((alerts, &correlated["balanced"]), (&1.into(), &true.into()), "of a rule whose hits are counted, only the count alerts");
    let counts = dry_run(&[]);
    let splunk = &counts["destinations"]["splunk"];
    assert_eq!((&counts["events"], &splunk["events"]["routed"], &counts["balanced"]), (&EVENTS.into(), &EVENTS.into(), &true.into()));
    assert_eq!((&splunk["alerts"]["routed"], hec.count()), (&(EVENTS / 10).into(), EVENTS), "nothing is sent");

    let arguments = ["replay", "-c", "hydrant.yaml", "--rules", "rules", "--sink", "splunk", "--rate", "500"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(arguments).current_dir(setup.folder.path()).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    eventually("the first window", || progress(setup.folder.path()).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    let sent = hec.count();
    assert!(sent > EVENTS && sent < 2 * EVENTS + EVENTS / 10, "{sent} were sent before the kill");
    let again = code(&setup.command(&arguments));
    assert!(again.0 == Some(0) && again.1.contains("going on behind 1000 events"), "{again:?}");
    for expected in ["2000 events replayed, 0 of them dropped", "splunk: 2000 events = 2000 delivered + 0 dead letters + 0 not confirmed"] {
        assert!(again.1.contains(expected), "{again:?}");
    }
    assert!(!progress(setup.folder.path()), "it is done");
    let (numbers, of_replay, others) = arrived(&hec);
    assert!(numbers.len() == EVENTS && numbers.values().all(|count| *count >= 2), "each live and in the replay");
    assert!(of_replay >= EVENTS / 10 && others == 0, "{of_replay} alerts of the replay, {others} others");
    let empty = code(&setup.command(&["replay", "-c", "hydrant.yaml", "--to", "2020-01-01T00:00:00Z"]));
    assert!(empty.0 == Some(0) && empty.1.contains("0 events replayed"), "{empty:?}");
    assert!(running.stop());
}

#[test]
fn a_new_sink_begins_in_the_past_whatever_happens_meanwhile_and_only_once() {
    const EVENTS: usize = 500;
    let (hec, later) = (Hec::start(), free_port());
    let setup = setup(&hec, "");
    let post = |first: usize, count: usize| {
        let body: String = (first..first + count).map(|number| line(number) + "\n").collect();
        assert_eq!(setup.post_text(&body), 200);
    };
    let running = setup.start();
    (0..EVENTS).step_by(100).for_each(|first| post(first, 100));
    eventually("the events", || (hec.count() == EVENTS).then_some(()));
    assert!(running.stop());

    let config = setup.folder.path().join("hydrant.yaml");
    let before = fs::read_to_string(&config).unwrap();
    let sink = format!(
        "  later: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{later}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }}, backfill_from: beginning }}\n"
    );
    for (journal, exit, said) in [
        ("type: disk, retain: 1h", 0, "is valid"),
        ("type: disk", 0, "without `journal: { retain }`"),
        ("type: memory", 78, "a journal of `type: memory` has no past to begin in"),
    ] {
        fs::write(&config, before.replace("type: disk, retain: 1h", journal) + &sink).unwrap();
        let validated = code(&setup.command(&["validate", "-c", "hydrant.yaml"]));
        assert!(validated.0 == Some(exit) && (exit == 0 && journal.contains("retain") || validated.1.contains(said)), "{validated:?}");
    }
    fs::write(&config, before + &sink).unwrap();
    let running = setup.start();
    post(EVENTS, 100);
    // The new destination is down; the process dies before it has anything.
    running.kill();
    let later = Hec::start_on(&format!("127.0.0.1:{later}"));
    let running = setup.start();
    eventually("the past and what came since", || (arrived(&later).0.len() == EVENTS + 100).then_some(()));
    eventually("the end", || setup.log().contains("the back-fill is complete").then_some(()));
    assert!(running.stop(), "{}", setup.log());
    let count = later.count();
    let running = setup.start();
    post(EVENTS + 100, 1);
    eventually("what comes from then on", || (later.count() > count).then_some(()));
    assert!(running.stop());
    assert_eq!((later.count(), arrived(&later).0.len()), (count + 1, EVENTS + 101), "the past comes once");
}

#[test]
fn an_archive_is_replayed_from_its_raw_frames_and_files_are_not_written_by_two() {
    let hec = Hec::start();
    let setup = setup(&hec, "  disk: { type: file, path: out/events.ndjson }\n");
    let archive = setup.folder.path().join("archive/2026/11");
    fs::create_dir_all(&archive).unwrap();
    let row = |number: usize, hour: usize| {
        let line = Value::from(line(number));
        format!(
            "{{\"message\":{line},\"hydrant\":{{\"source\":\"web\",\"decoder\":\"palo_alto\",\"time\":\"2026-11-21T{hour:02}:00:00.000Z\",\"position\":\"5:{number}\"}}}}\n"
        )
    };
    let rows: String = (0..100).map(|number| row(number, number / 10)).collect();
    fs::write(archive.join("a.ndjson"), rows + "{\"not\":\"ours\"}\n").unwrap();
    let period = ["--from", "2026-11-21T02:00:00Z", "--to", "2026-11-21T05:00:00Z"];
    let arguments = [&["replay", "-c", "hydrant.yaml", "--archive", "archive", "--rules", "rules"], &period[..]].concat();
    let running = setup.start();
    let refused = code(&setup.command(&arguments));
    assert!(refused.0 == Some(1) && refused.1.contains("`disk` is a file, which two processes must not write"), "{refused:?}");
    let wrong = code(&setup.command(&[&arguments[..], &["--sink", "splnk"]].concat()));
    assert!(wrong.0 == Some(78) && wrong.1.contains("did you mean `splunk`?"), "{wrong:?}");
    assert!(running.stop());

    let done = code(&setup.command(&arguments));
    assert!(done.0 == Some(1) && done.1.contains("not everything could be read"), "{done:?}");
    for expected in [
        "30 events replayed",
        "disk: 30 events = 30 delivered",
        "splunk: 30 events = 30 delivered",
        "left out: 70 rows of another time, 0 of alerts, 1 that",
    ] {
        assert!(done.1.contains(expected), "{expected}: {done:?}");
    }
    let (numbers, of_replay, others) = arrived(&hec);
    assert_eq!((numbers.len(), of_replay, others), (30, 3, 0));
    assert!((20..50).all(|number| numbers.contains_key(&number.to_string())));
}
