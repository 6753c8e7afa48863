//! Commands without a run on events of a source of a configuration: rules see what they would see in the node.

use std::io::{ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};

use hydrant::traffic::{Kind, Traffic};
use serde_json::json;

use crate::client;
use crate::commands::{LINE, RULE, folder, objects, run};
use crate::process::{Hydrant, eventually, free_port};

const CONFIG: &str = "data_dir: data
shards: 1
admin: \"127.0.0.1:ADMIN\"
rules: [rules]
sources:
  fw: { type: syslog, listen: \"127.0.0.1:PORT\", decoder: palo_alto }
  web: { type: http, listen: \"127.0.0.1:WEB\" }
transforms:
  - { when: '%hydrant.source == \"fw\"', program: '.labels.team = \"net\"' }
  - { program: 'if .event.action == \"allow\" { abort }' }
enrichments:
  owners: { type: table, path: owners.csv, match: cidr, key: { field: source.ip, column: net }, columns: { owner: source.owner } }
sinks:
  out: { type: blackhole }
";

const OWNERS: &str = "net,owner\n10.0.0.0/9,low\n10.128.0.0/9,high\n10.1.2.3/32,finance\n";

fn rule(id: &str, title: &str, detection: &str) -> String {
    RULE.replace("5d0c", id).replace("SSH denied", title).replace("{ event.action: deny, dst_port: 22 }", detection)
}

/// Rules over fields that a table and a transform add, and over an action whose events a transform drops.
fn rules() -> [(&'static str, String); 3] {
    [
        ("rules/a.yml", rule("1d0c", "Owned", "{ source.owner: [low, finance] }")),
        ("rules/b.yml", rule("2d0c", "Team", "{ labels.team: net }")),
        ("rules/c.yml", rule("3d0c", "Dropped", "{ event.action: allow }")),
    ]
}

fn setup(config: &str) -> tempfile::TempDir {
    let folder = folder(&[("hydrant.yaml", config), ("owners.csv", OWNERS), ("bad.txt", "192.0.2.1\n")]);
    std::fs::create_dir(folder.path().join("rules")).unwrap();
    rules().iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
    folder
}

fn config() -> String {
    CONFIG.replace("ADMIN", "1").replace("PORT", "2").replace("WEB", "3")
}

const OF_SOURCE: [&str; 4] = ["--config", "hydrant.yaml", "--source", "fw"];

#[test]
fn a_rule_over_an_added_field_matches_where_events_are_those_of_a_source() {
    let folder = setup(&config());
    let input = format!("{LINE}\n{}\n{}\n", LINE.replace("10.1.2.3", "10.200.0.1"), LINE.replace(",tcp,deny,", ",tcp,allow,"));
    std::fs::write(folder.path().join("in.log"), &input).unwrap();
    let found = |arguments: &[&str]| {
        let (code, stdout, stderr) = run(folder.path(), arguments, &input);
        assert_eq!(code, 0, "{stderr}");
        objects(&stdout).iter().map(|found| format!("{} {}", found["event"], found["title"].as_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(found(&["detect", "--rules", "rules"]), ["3 Dropped"], "without a configuration nothing is added or dropped");
    let expected = ["1 Owned", "1 Team", "2 Team"];
    assert_eq!(found(&[&["detect", "--rules", "rules"][..], &OF_SOURCE].concat()), expected);
    assert_eq!(found(&[&["detect"][..], &OF_SOURCE].concat()), expected, "the rules are those of the configuration");

    let (code, stdout, stderr) = run(folder.path(), &[&["backtest", "in.log", "--output", "json"][..], &OF_SOURCE].concat(), "");
    assert_eq!(code, 0, "{stderr}");
    let told = &objects(&stdout)[0];
    let hits: Vec<_> = told["rules"].as_array().unwrap().iter().map(|rule| (&rule["title"], &rule["hits"])).collect();
    assert_eq!(hits, [(&json!("Owned"), &json!(1)), (&json!("Team"), &json!(2)), (&json!("Dropped"), &json!(0))]);

    let (code, stdout, stderr) = run(folder.path(), &[&["decode"][..], &OF_SOURCE].concat(), &input);
    assert_eq!(code, 0, "{stderr}");
    let decoded = objects(&stdout);
    assert_eq!((&decoded[0]["fields"]["source"]["owner"], &decoded[1]["fields"]["labels"]["team"]), (&json!("finance"), &json!("net")));
    assert_eq!((decoded[1].get("dropped"), &decoded[2]["dropped"]), (None, &json!(true)));

    let case = |log: &str, expect: &str| format!("  - {{ name: {expect}, log: '{log}', expect: {expect} }}\n");
    let own = format!("{}tests:\n{}", rule("4d0c", "Cases", "{ source.owner: finance }"), case(LINE, "match"));
    let dropped = format!("{own}{}", case(&LINE.replace(",tcp,deny,", ",tcp,allow,"), "match"));
    std::fs::write(folder.path().join("own.yml"), &own).unwrap();
    let (code, stdout, _) = run(folder.path(), &[&["test", "own.yml"][..], &OF_SOURCE].concat(), "");
    assert_eq!((code, stdout.as_str()), (0, "ok    Cases: match\n"));
    assert_eq!(run(folder.path(), &["test", "own.yml"], "").0, 1, "alone it knows no owner");
    std::fs::write(folder.path().join("own.yml"), &dropped).unwrap();
    let (code, stdout, _) = run(folder.path(), &[&["test", "own.yml"][..], &OF_SOURCE].concat(), "");
    assert!(code == 1 && stdout.contains("it does not match: a transform drops it"), "{stdout}");

    let explain = [&["rules", "explain", "--file", "in.log", "--rule", "Owned"][..], &OF_SOURCE].concat();
    let (code, stdout, stderr) = run(folder.path(), &explain, "");
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("event 1 (palo_alto), `Owned`") && stdout.contains("source.owner is `finance`: \"finance\""), "{stdout}");
    assert!(stdout.contains("is not asked: a transform drops the event"), "{stdout}");

    let (code, stdout, stderr) =
        run(folder.path(), &[&["rules", "cost", "--from", "in.log", "--output", "json"][..], &OF_SOURCE].concat(), "");
    assert_eq!(code, 0, "{stderr}");
    assert_eq!((&objects(&stdout)[0]["events"], &objects(&stdout)[0]["input"]["events"]), (&json!(2), &json!(3)));

    let (code, stdout, stderr) =
        run(folder.path(), &[&["rules", "doctor", "rules", "--from", "in.log", "--all", "--output", "json"][..], &OF_SOURCE].concat(), "");
    assert_eq!(code, 0, "{stderr}");
    let told = &objects(&stdout)[0];
    let verdicts: Vec<_> = told["rules"].as_array().unwrap().iter().map(|rule| rule["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == "hits").count(), 2, "{told}");
    assert_eq!(told["decoders"], json!({ "palo_alto": 2 }), "what is dropped is not seen");
}

#[test]
fn mistakes_in_naming_a_source_are_told_with_what_is_right() {
    let folder = setup(&config());
    let told = |arguments: &[&str]| {
        let (code, _, stderr) = run(folder.path(), arguments, LINE);
        (code, stderr)
    };
    let (code, stderr) = told(&["detect", "--config", "hydrant.yaml", "--source", "fv"]);
    assert!(code == 78 && stderr.contains("there is no source `fv`") && stderr.contains("did you mean `fw`? one of: fw, web"), "{stderr}");
    let (code, stderr) = told(&["detect", "--source", "fw"]);
    assert!(code == 2 && stderr.contains("--config"), "{stderr}");
    let (code, stderr) = told(&[&["detect", "--decoder", "palo_alto"][..], &OF_SOURCE].concat());
    assert!(code == 2 && stderr.contains("--decoder"), "{stderr}");
    let (code, stderr) = told(&["detect"]);
    assert!(code == 2 && stderr.contains("--rules"), "{stderr}");
    std::fs::write(folder.path().join("p.yml"), "A: [b]\n").unwrap();
    let (code, stderr) = told(&[&["detect", "--placeholders", "p.yml"][..], &OF_SOURCE].concat());
    assert!(code == 78 && stderr.contains("the configuration says what is put into its rules"), "{stderr}");
}

#[test]
fn the_node_finds_the_same() {
    let (admin, port) = (free_port(), free_port());
    let config = CONFIG.replace("ADMIN", &admin.to_string()).replace("PORT", &port.to_string()).replace("WEB", &free_port().to_string());
    let files = rules();
    let mut beside: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    beside.push(("owners.csv", OWNERS));
    let hydrant = Hydrant::run(&config, &beside);
    let mut traffic = Traffic::new(Kind::PaloAlto, 7);
    let mut input = Vec::new();
    for _ in 0..2_000 {
        traffic.next(1_795_240_800_000, &mut input);
        input.push(b'\n');
    }
    let mut stream = eventually("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
    stream.write_all(&input).unwrap();
    let metrics = || client::send(admin, "GET /metrics", &["connection: close"], b"").body;
    let count = |text: &str, name: &str, label: &str| {
        let of = |line: &&str| line.starts_with(name) && line.contains(label);
        text.lines().find(of).map_or(0, |line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
    };
    let text = eventually("all events", || {
        let text = metrics();
        let decided = count(&text, "hydrant_component_routed_events_total", "out")
            + count(&text, "hydrant_component_discarded_events_total", "reason=\"transform\"");
        (decided >= 2_000).then_some(text)
    });
    std::fs::write(hydrant.folder().join("in.log"), &input).unwrap();
    let (code, stdout, stderr) = run(hydrant.folder(), &[&["backtest", "in.log", "--output", "json"][..], &OF_SOURCE].concat(), "");
    assert_eq!(code, 0, "{stderr}");
    let told = &objects(&stdout)[0];
    for title in ["Owned", "Team", "Dropped"] {
        let offline = told["rules"].as_array().unwrap().iter().find(|rule| rule["title"] == title).unwrap();
        let online = count(&text, "hydrant_rule_hits_total", &format!("rule=\"{title}\""));
        assert_eq!(offline["hits"], json!(online), "{title}");
        assert_eq!(online > 0, title != "Dropped", "{title}: {online}");
    }
    assert!(hydrant.stop());
}

/// Every command that knows `--source`, on a file of events.
fn commands() -> Vec<Vec<&'static str>> {
    let commands: [&[&str]; 8] = [
        &["decode"],
        &["detect"],
        &["test"],
        &["backtest", "in.log", "--against", "rules"],
        &["retro-hunt", "in.log", "--indicators", "bad.txt"],
        &["rules", "explain", "--file", "in.log", "--rule", "Owned"],
        &["rules", "doctor", "--from", "in.log"],
        &["rules", "cost", "--from", "in.log"],
    ];
    commands.iter().map(|command| [command, &OF_SOURCE[..]].concat()).collect()
}

#[test]
fn trying_rules_asks_nobody() {
    let (server, feed) = (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let enrichments = format!(
        "enrichments:
  names: {{ type: reverse_dns, field: source.ip, into: source.domain, servers: [\"{}\"], private: true }}
  bad: {{ type: threat_list, format: plain, url: \"http://{}/list\", allow_loopback: true }}
",
        server.local_addr().unwrap(),
        feed.local_addr().unwrap()
    );
    let folder = setup(&config().replace("enrichments:\n", &enrichments));
    let wants = "{ source.domain|exists: true, threat.feed.name|exists: true }";
    std::fs::write(folder.path().join("rules/d.yml"), rule("5d0c", "Named", wants)).unwrap();
    let mut traffic = Traffic::new(Kind::PaloAlto, 7);
    let mut input = Vec::new();
    for _ in 0..500 {
        traffic.next(1_795_240_800_000, &mut input);
        input.push(b'\n');
    }
    std::fs::write(folder.path().join("in.log"), &input).unwrap();
    for command in commands() {
        let (code, _, stderr) = run(folder.path(), &command, LINE);
        assert!(code == 0, "{command:?}: {stderr}");
        for told in [
            "warning: enrichments.names: reverse DNS asks name servers, and nothing is sent here: it is left out",
            "warning: enrichments.bad: its list was never fetched, and nothing is sent here: it is left out",
        ] {
            assert_eq!(stderr.matches(told).count(), 1, "{command:?}: {stderr}");
        }
    }
    server.set_nonblocking(true).unwrap();
    feed.set_nonblocking(true).unwrap();
    assert_eq!(server.recv(&mut [0; 512]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(feed.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// Secrets that are had in another place only.
const SECRETS: &str = "
  chat: { type: slack, webhook_url: \"secret://env/HYDRANT_TEST_UNSET\" }
  pager: { type: pagerduty, routing_key: \"secret://file/nowhere/key\" }
  soar: { type: webhook, endpoint: \"secret://env/HYDRANT_TEST_UNSET\", secrets: [\"secret://env/HYDRANT_TEST_UNSET\"] }
  dog: { type: datadog_logs, site: datadoghq.eu, api_key: \"${HYDRANT_TEST_UNSET}\" }
  siem: { type: splunk_hec, endpoint: \"https://splunk.example:8088\", token: \"secret://env/HYDRANT_TEST_UNSET\" }
  other: { type: http, endpoint: \"https://a.example\", headers: { X-Key: \"secret://env/HYDRANT_TEST_UNSET\" },
    auth: { username: a, password: \"secret://env/HYDRANT_TEST_UNSET\" } }
";

const LISTENERS: &str = "
  api: { type: http, listen: \"0.0.0.0:4\", auth: { token: \"secret://env/HYDRANT_TEST_UNSET\" } }
  aws: { type: aws_firehose, listen: \"0.0.0.0:5\", access_key: \"${HYDRANT_TEST_UNSET}\",
    credentials: [{ access_key_id: A, secret_access_key: \"secret://env/HYDRANT_TEST_UNSET\" }] }
";

#[test]
fn trying_rules_needs_no_secret_and_everything_else_of_the_configuration_has_to_be_right() {
    let text = config().replace("sources:\n", &format!("sources:{LISTENERS}")).replace("sinks:\n", &format!("sinks:{SECRETS}"));
    let folder = setup(&text);
    std::fs::write(folder.path().join("in.log"), LINE).unwrap();
    let told = |text: &str, command: &[&str]| {
        std::fs::write(folder.path().join("hydrant.yaml"), text).unwrap();
        let (code, _, stderr) = run(folder.path(), command, LINE);
        (code, stderr)
    };
    for command in commands() {
        let (code, stderr) = told(&text, &command);
        assert!(code == 0 && !stderr.contains("hydrant.yaml"), "{command:?}: {stderr}");
    }
    let (code, stderr) = told(&text, &["validate", "--config", "hydrant.yaml"]);
    assert!(code == 78 && stderr.contains("the environment variable HYDRANT_TEST_UNSET is not set"), "{stderr}");
    let set = text.replace("${HYDRANT_TEST_UNSET}", "x");
    let (code, stderr) = told(&set, &["validate", "--config", "hydrant.yaml"]);
    assert_eq!((code, stderr.matches("secret://").count()), (78, 9), "a run needs all of them: {stderr}");
    for (right, wrong, part) in [
        ("site: datadoghq.eu", "site: \"${HYDRANT_TEST_UNSET}\"", "sinks.dog.site: the environment variable HYDRANT_TEST_UNSET is not set"),
        ("api_key:", "api_kye:", "sinks.dog.api_kye: unknown key"),
        ("https://splunk.example:8088", "splunk", "sinks.siem.endpoint"),
        ("secret://file/nowhere", "secret://nowhere", "sinks.pager.routing_key: secret://nowhere/key is not"),
        ("0.0.0.0:5", "0.0.0.0:4", "source `api` listens here already"),
    ] {
        let (code, stderr) = told(&text.replace(right, wrong), &[&["detect"][..], &OF_SOURCE].concat());
        assert!(code == 78 && stderr.contains(part), "{wrong}: {stderr}");
    }
}
