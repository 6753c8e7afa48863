//! `hydrant rules cost` through the real binary: on events of the past, and of a running node.

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::commands::{LINE, RULE, folder, objects, run};
use crate::process::{Hydrant, eventually, free_port};

/// A rule of its own id, title and detection.
fn rule(id: &str, title: &str, detection: &str) -> String {
    RULE.replace("5d0c", id).replace("SSH denied", title).replace("selection: { event.action: deny, dst_port: 22 }", detection)
}

fn of<'a>(told: &'a Value, title: &str) -> &'a Value {
    told["rules"].as_array().unwrap().iter().find(|rule| rule["title"] == title).unwrap()
}

#[test]
fn every_rule_is_told_with_what_it_takes_of_the_events_of_its_log_source() {
    let folder = folder(&[
        ("a.yml", RULE),
        // No index protects this one, and the pattern has no literal that would.
        ("b.yml", &rule("6d0c", "Dear", "selection: { message|re: '([a-z0-9,:]+[ /]){3}[^x]*[0-9]{40}' }")),
        ("c.yml", &rule("7d0c", "Never looked at", "selection: { rule.name: no-rule-has-this-name }")),
        ("d.yml", &rule("8d0c", "Elsewhere", "selection: { event.action: deny }").replace("paloalto", "fortios")),
    ]);
    // No two messages are the same: what one has decided would be remembered.
    let input = (50_000..51_000).map(|port| {
        let denied = LINE.replace(",52011,", &format!(",{port},"));
        let allowed = denied.replace(",tcp,deny,", ",tcp,allow,").replace(",22,", ",443,");
        format!("{denied}\n{allowed}\n{{\"a\":1}}\n")
    });
    std::fs::write(folder.path().join("in.log"), input.collect::<String>()).unwrap();
    let arguments = ["rules", "cost", ".", "--from", "in.log", "--output", "json"];
    let (code, stdout, stderr) = run(folder.path(), &arguments, "");
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("2000 events are few"), "{stderr}");
    let told = &objects(&stdout)[0];
    assert_eq!((&told["input"]["events"], &told["events"]), (&json!(3_000), &json!(2_000)), "JSON has no rules");
    let ssh = of(told, "SSH denied");
    assert_eq!((&ssh["events"], &ssh["hits"], &ssh["hits_per_million"]), (&json!(2_000), &json!(1_000), &json!(500_000.0)));
    assert_eq!(ssh["looked_at_per_million"], 500_000.0, "the index lets through what has either value, and here both go together");
    assert_eq!((&told["rules"][0]["title"], &told["rules"][0]["looked_at_per_million"]), (&json!("Dear"), &json!(1_000_000.0)));
    let never = of(told, "Never looked at");
    assert_eq!((&never["ns"], &never["looked_at_per_million"], &never["events"]), (&json!(0), &json!(0.0), &json!(2_000)));
    assert_eq!((&of(told, "Elsewhere")["events"], &of(told, "Elsewhere")["ns"]), (&json!(0), &json!(0)));
    let figure = |value: &Value| value.as_f64().unwrap();
    let own: f64 = told["rules"].as_array().unwrap().iter().map(|rule| figure(&rule["ns"])).sum();
    let parts = own / 2_000.0 + figure(&told["shared_ns_per_event"]);
    assert!((parts - figure(&told["ns_per_event"])).abs() < 0.01, "{told}");
    assert!(figure(&told["shared_ns_per_event"]) > 0.0);

    let (code, stdout, stderr) = run(folder.path(), &[&arguments[..5], &["--top", "1"]].concat(), "");
    assert_eq!(code, 0, "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("NS/EVENT") && lines[1].contains("Dear"), "{stdout}");
    assert!(lines[2].contains(" ns an event for all rules, 2000 events; ") && lines[2].ends_with("belong to no rule"), "{stdout}");
    assert!(stderr.contains("4 rules, 1 of them shown; 2 were never looked at"), "{stderr}");
    let (code, _, stderr) = run(folder.path(), &["rules", "cost", "."], "");
    assert!(code == 2 && stderr.contains("--from"), "{stderr}");
}

#[test]
fn a_running_node_tells_what_its_rules_have_taken() {
    let (port, admin) = (free_port(), free_port());
    let config = format!(
        "data_dir: data\nshards: 1\nadmin: \"127.0.0.1:{admin}\"\nrules: [rules]\nsources:\n  \
         fw: {{ type: syslog, listen: \"127.0.0.1:{port}\", decoder: palo_alto }}\nsinks:\n  out: {{ type: blackhole }}\n"
    );
    let dear = rule("6d0c", "Dear", "selection: { message|re: '([a-z0-9,:]+[ /]){3}[^x]*[0-9]{40}' }");
    let hydrant = Hydrant::run(&config, &[("rules/a.yml", RULE), ("rules/b.yml", &dear)]);
    let mut stream = eventually("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
    let address = format!("127.0.0.1:{admin}");
    let arguments = ["rules", "cost", "--admin", &address, "--output", "json"];
    let told = eventually("a measured event", || {
        stream.write_all(format!("{LINE}\n").repeat(1_000).as_bytes()).unwrap();
        let (code, stdout, stderr) = run(hydrant.folder(), &arguments, "");
        assert_eq!(code, 0, "{stderr}");
        let told = objects(&stdout).remove(0);
        (of(&told, "Dear")["ns"].as_u64() > Some(0)).then_some(told)
    });
    assert!(told["events"].as_u64() >= Some(509) && told["shared_ns_per_event"].as_f64() > Some(0.0), "{told}");
    assert_eq!((&of(&told, "Dear")["quarantined"], &of(&told, "Dear")["looked_at_per_million"]), (&json!(false), &Value::Null));
    assert!(of(&told, "SSH denied")["hits"].as_u64() >= Some(509), "{told}");
    let (code, stdout, stderr) = run(hydrant.folder(), &arguments[..4], "");
    assert!(code == 0 && stdout.lines().last().unwrap().ends_with("belong to no rule"), "{stdout}{stderr}");
    assert!(hydrant.stop());
    let nowhere = tempfile::tempdir().unwrap();
    let (code, _, stderr) = run(nowhere.path(), &arguments, "");
    assert!(code == 1 && stderr.contains("nobody answers; is it running, with `admin` set?"), "{stderr}");
}
