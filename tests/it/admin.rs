//! The admin API of a running Hydrant: health, metrics, the plan, live events, and reloads seen through it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;

use crate::hec::{Hec, TOKEN};
use crate::process::{Hydrant, PATIENCE, eventually, free_port};

const RULE: &str = "title: SSH denied
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f
level: high
logsource: { product: paloalto, category: firewall }
detection:
  selection: { event.action: deny }
  condition: selection
";

const LINE: &str = "<14>1 2026-11-21T08:00:00.123Z PA-FW-01 - - - - 1,2026/11/21 08:00:00,012801010010,TRAFFIC,end,2561,\
                    2026/11/21 08:00:00,10.1.2.3,93.184.216.34,,,deny-ssh,,,ssh,vsys1,trust,untrust,ethernet1/1,ethernet1/9,\
                    siem-fwd,2026/11/21 08:00:00,31337,1,52011,22,0,0,0x0,tcp,deny,0,0,0,1\n";

struct Instance {
    hydrant: Hydrant,
    hec: Hec,
    port: u16,
    admin: u16,
    config: String,
}

fn start() -> Instance {
    let (hec, port, admin) = (Hec::start(), free_port(), free_port());
    let config = format!(
        "data_dir: data\nshards: 2\nadmin: \"127.0.0.1:{admin}\"\nmemory: 64MiB\nsources:\n  \
         fw: {{ type: syslog, listen: \"127.0.0.1:{port}\", decoder: palo_alto }}\nsinks:\n  \
         splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}\n",
        hec.port
    );
    let hydrant = Hydrant::run(&config, &[("rules/deny.yml", RULE)]);
    let instance = Instance { hydrant, hec, port, admin, config };
    eventually("readiness", || (instance.request("GET", "/readyz", "localhost").ok()?.0 == 200).then_some(()));
    instance
}

impl Instance {
    /// Status and body of an answer.
    fn request(&self, method: &str, path: &str, host: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
    }

    fn read(&self, path: &str) -> (u16, String) {
        self.request("GET", path, "127.0.0.1").unwrap()
    }

    fn send(&self, lines: usize) {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap().write_all(LINE.repeat(lines).as_bytes()).unwrap();
    }

    fn metric(&self, series: &str) -> Option<u64> {
        let (_, text) = self.read("/metrics");
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// Writes the configuration anew and waits until the reload is counted.
    fn reload(&self, config: &str, result: &str) {
        let series = format!("hydrant_config_reloads_total{{result=\"{result}\"}}");
        let before = self.metric(&series).unwrap_or(0);
        fs::write(self.hydrant.folder().join("hydrant.yaml"), config).unwrap();
        self.hydrant.signal("HUP");
        eventually("the reload", || (self.metric(&series).unwrap_or(0) > before).then_some(()));
    }
}

#[test]
fn health_metrics_and_the_plan_are_served() {
    let instance = start();
    assert_eq!(instance.read("/healthz"), (200, "ok\n".to_owned()));
    let (_, ready) = instance.read("/readyz");
    assert_eq!(
        serde_json::from_str::<Value>(&ready).unwrap(),
        serde_json::json!({ "ready": true, "reason": "every listener is open", "held": [] })
    );
    instance.send(100);
    eventually("all events", || (instance.hec.count() >= 100).then_some(()));
    eventually("the count", || {
        (instance.metric("hydrant_component_sent_events_total{component_id=\"splunk\"}") == Some(100)).then_some(())
    });
    assert_eq!(instance.metric("hydrant_component_received_events_total{component_id=\"fw\"}"), Some(100));
    assert_eq!(instance.metric("hydrant_udp_kernel_drops_total{component_id=\"fw\"}"), Some(0));
    assert_eq!(instance.metric("hydrant_memory_budget_limit_bytes"), Some(64 << 20));
    assert!(instance.metric("hydrant_memory_budget_used_bytes").is_some());
    let (status, plan) = instance.read("/api/v1/config");
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!((status, &plan["sources"][0]["type"], &plan["sinks"][0]["name"]), (200, &Value::from("syslog"), &Value::from("splunk")));
    assert_eq!(plan["sources"][0]["decoders"], serde_json::json!([{ "name": "palo_alto", "rules": 0 }]));
    assert!(!plan.to_string().contains(TOKEN), "no secret is shown");
    assert!(instance.hydrant.stop());
}

#[test]
fn what_a_web_page_could_send_is_refused() {
    let instance = start();
    assert_eq!(instance.request("GET", "/metrics", "evil.example").unwrap().0, 421);
    assert_eq!(instance.request("POST", "/metrics", "localhost").unwrap().0, 405);
    assert_eq!(instance.read("/nowhere").0, 404);
    assert_eq!(instance.read("/api/v1/tap?limit=many").0, 400);
    assert_eq!(instance.read("/api/v1/tap?speed=1").0, 400);
    let (status, body) = instance.read("/api/v1/tap?sink=splnk");
    assert_eq!((status, body.contains("did you mean `splunk`?")), (404, true), "{body}");
}

#[test]
fn tap_shows_live_events_and_ends_at_its_limit() {
    let instance = start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(["tap", "--admin", &format!("127.0.0.1:{}", instance.admin), "--sink", "splunk", "--source", "fw", "--limit", "3"]);
    let tap = std::thread::spawn(move || command.output().unwrap());
    while !tap.is_finished() {
        instance.send(2);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let output = tap.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert_eq!((&line["source"], &line["decoder"], &line["to"]), (&"fw".into(), &"palo_alto".into(), &serde_json::json!(["splunk"])));
        assert_eq!((&line["raw"], &line["peer"]), (&Value::from(LINE.trim_end()), &Value::from("127.0.0.1")));
    }
}

#[test]
fn a_stop_ends_a_tap_that_waits() {
    let instance = start();
    let mut stream = TcpStream::connect(("127.0.0.1", instance.admin)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /api/v1/tap HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    assert!(instance.hydrant.stop(), "the stop does not wait for the watcher");
    let mut rest = [0; 1024];
    while stream.read(&mut rest).unwrap() > 0 {}
}

#[test]
fn a_reload_takes_up_rules_and_routes_and_keeps_the_old_plan_on_a_mistake() {
    let instance = start();
    let with_rules = format!("rules: [rules]\n{}", instance.config);
    instance.reload(&with_rules, "ok");
    instance.send(10);
    eventually("alerts of the new rules", || (instance.hec.count() >= 20).then_some(()));
    assert_eq!(instance.metric("hydrant_alerts_total"), Some(10));

    for wrong in ["", "sources: [", &with_rules.replace("64MiB", "65MiB"), &format!("{with_rules}routes:\n  - {{ to: [nowhere] }}\n")] {
        instance.reload(wrong, "refused");
    }
    instance.send(1);
    eventually("an alert of the plan that stays", || (instance.hec.count() >= 22).then_some(()));

    let routed = format!("{with_rules}routes:\n  - {{ when: '%hydrant.kind == \"alert\"', to: [splunk] }}\n");
    instance.reload(&routed, "ok");
    instance.send(5);
    eventually("filtered events", || {
        (instance.metric("hydrant_component_filtered_events_total{component_id=\"splunk\"}") == Some(5)).then_some(())
    });
    eventually("their alerts", || (instance.hec.count() >= 27).then_some(()));
    assert!(instance.hydrant.stop());
    assert_eq!(instance.hec.count(), 27);
}

#[test]
fn a_port_that_another_instance_has_ends_the_start() {
    let instance = start();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hydrant.yaml"), instance.config.replace("admin:", "# admin:")).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_hydrant")).args(["run", "-c", "hydrant.yaml"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("listen: another process listens at this address"));
}

#[test]
fn every_source_that_listens_says_when_it_is_open() {
    // A source that forgets would keep `/readyz` at 503 for ever, whatever its own tests say.
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/source");
    for kind in hydrant::source::SOURCES {
        let text = fs::read_to_string(folder.join(format!("{}.rs", kind.name()))).unwrap();
        assert_eq!(text.contains("fn listens_on("), text.contains(".opened()"), "{}", kind.name());
    }
}

#[test]
fn an_admin_address_that_is_taken_ends_the_start() {
    let instance = start();
    let other = instance.config.replace(&format!(":{}\", decoder", instance.port), &format!(":{}\", decoder", free_port()));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hydrant.yaml"), other).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_hydrant")).args(["run", "-c", "hydrant.yaml"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("start the admin API: another process listens at the address of `admin`"), "{stderr}");
}
