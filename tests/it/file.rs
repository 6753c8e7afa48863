//! The `file` source with real files: rotation, truncation, restarts.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::hec::{Hec, TOKEN, is_alert};
use crate::http::raw;
use crate::ocsf::mistakes;
use crate::process::{Hydrant, eventually};

fn config(hec: &Hec, logs: &Path, source: &str) -> String {
    format!(
        "
data_dir: {logs}/data
shards: 2
sources:
  in: {{ type: file, include: [\"{logs}/*.log*\"], poll_interval: 20ms {source} }}
sinks:
  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}
",
        hec.port,
        logs = logs.display()
    )
}

fn append(path: &Path, text: &str) {
    fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// Enough bytes that a file is known by them.
fn lines(name: &str, count: usize) -> String {
    (0..count).map(|number| format!("{name} {number:03} {}\n", "x".repeat(40))).collect()
}

fn expected(texts: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = texts.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Long enough for anything that must not come to come.
const QUIET: Duration = Duration::from_millis(400);

#[test]
fn nothing_is_lost_at_the_end_when_another_shard_still_works_on_chunks() {
    let (hec, logs) = (Hec::start(), tempfile::tempdir().unwrap());
    // Slow to work on: the reader is done long before the other shard.
    let sample = fs::read_to_string("tests/cases/samples/modsec-crs-wapiti-sqlmap.audit.json.log").unwrap();
    append(&logs.path().join("a.log"), &sample.repeat(60));
    let hydrant = Hydrant::run(&format!("rules: [builtin]\n{}", config(&hec, logs.path(), ", read: once")), &[]);
    assert!(hydrant.wait());
    let state = hec.state.lock().unwrap();
    let (alerts, events): (Vec<_>, Vec<_>) = state.events.iter().partition(|event| is_alert(event));
    let of_rules = alerts.iter().filter(|alert| alert["event"]["hydrant"]["correlation"].is_null()).count();
    // A blocked injection, and a request with an injection, a script and a path in it.
    assert_eq!((events.len(), of_rules), (4 * 60, 4 * 60));
}

#[test]
fn every_alert_of_the_pack_about_a_real_attack_is_right_by_the_schema() {
    let (hec, logs) = (Hec::start(), tempfile::tempdir().unwrap());
    fs::copy("tests/cases/samples/modsec-crs-wapiti-sqlmap.audit.json.log", logs.path().join("a.log")).unwrap();
    let out = logs.path().join("out/alerts.ndjson");
    let sink = format!("  alerts: {{ type: file, path: \"{}\", buffer: {{ interval: 50ms }} }}\n", out.display());
    let routes = "routes: [ { when: '%hydrant.alert == true', to: [alerts, splunk] } ]\n";
    let config = config(&hec, logs.path(), ", read: once");
    let hydrant = Hydrant::run(&format!("rules: [builtin]\n{}{sink}{routes}", config.trim_end_matches(' ')), &[]);
    assert!(hydrant.wait());
    let text = fs::read_to_string(&out).unwrap();
    let alerts: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).filter(|row: &serde_json::Value| row["class_uid"] == 2004).collect();
    assert!(alerts.len() >= 4, "{text}");
    for alert in &alerts {
        assert_eq!(mistakes(alert), [""; 0], "{alert:#}");
        let is_of_rule = alert["unmapped"]["hydrant"]["correlation"].is_null();
        assert!(!is_of_rule || alert["evidences"][0]["data"]["matched"].is_array(), "{alert:#}");
    }
}

#[test]
fn lines_are_followed_through_renames_truncation_and_restarts() {
    let (hec, logs) = (Hec::start(), tempfile::tempdir().unwrap());
    let log = logs.path().join("a.log");
    let (first, second, third, fourth) = (lines("first", 20), lines("second", 20), lines("third", 20), lines("fourth", 5));
    append(&log, &first);
    append(&log, "part of ");
    let hydrant = Hydrant::run(&config(&hec, logs.path(), ""), &[]);
    assert_eq!(raw(&hec, 20), expected(&[&first]), "a line without an end waits");
    append(&log, "a line\n");
    raw(&hec, 21);
    // Rotation by rename, with a last line into the old file.
    fs::rename(&log, logs.path().join("a.log.1")).unwrap();
    append(&logs.path().join("a.log.1"), "late\n");
    append(&log, &second);
    let so_far = expected(&[&first, "part of a line", "late", &second]);
    assert_eq!(raw(&hec, 42), so_far);
    assert!(hydrant.stop());
    // While it is down: the old file is copied under a new inode, the new one grows.
    fs::copy(logs.path().join("a.log.1"), logs.path().join("a.log.2")).unwrap();
    append(&log, &third);
    let hydrant = Hydrant::run(&config(&hec, logs.path(), ""), &[]);
    raw(&hec, 62);
    // copytruncate, and the file grows beyond its old size at once.
    fs::copy(&log, logs.path().join("a.log.3")).unwrap();
    eventually("the copy to be known", || {
        fs::read_to_string(logs.path().join("data/sources/in/checkpoints.json")).ok().filter(|text| text.contains("a.log.3"))
    });
    fs::write(&log, "").unwrap();
    std::thread::sleep(QUIET);
    append(&log, &fourth);
    raw(&hec, 67);
    std::thread::sleep(QUIET);
    assert!(hydrant.stop());
    assert_eq!(raw(&hec, 67), expected(&[&first, "part of a line", "late", &second, &third, &fourth]), "every line once");
}

#[test]
fn a_run_over_plain_and_compressed_files_ends_by_itself_and_reads_nothing_twice() {
    let (hec, logs) = (Hec::start(), tempfile::tempdir().unwrap());
    let (plain, gzip, zstd) = (lines("plain", 30), lines("gzip", 30), lines("zstd", 30));
    fs::write(logs.path().join("a.log"), plain.clone() + "no line end").unwrap();
    let mut encoder =
        flate2::write::GzEncoder::new(fs::File::create(logs.path().join("b.log.gz")).unwrap(), flate2::Compression::default());
    encoder.write_all(gzip.as_bytes()).unwrap();
    encoder.finish().unwrap();
    fs::write(logs.path().join("c.log.zst"), zstd::bulk::compress(zstd.as_bytes(), 1).unwrap()).unwrap();
    let all = expected(&[&plain, "no line end", &gzip, &zstd]);
    assert!(Hydrant::run(&config(&hec, logs.path(), ", read: once"), &[]).wait());
    assert_eq!(raw(&hec, all.len()), all);
    // Nothing is new, and a rotation that compresses what was read gives nothing new either.
    let mut encoder =
        flate2::write::GzEncoder::new(fs::File::create(logs.path().join("a.log.gz")).unwrap(), flate2::Compression::default());
    encoder.write_all((plain + "no line end").as_bytes()).unwrap();
    encoder.finish().unwrap();
    fs::remove_file(logs.path().join("a.log")).unwrap();
    append(&logs.path().join("d.log"), "new\n");
    assert!(Hydrant::run(&config(&hec, logs.path(), ", read: once"), &[]).wait());
    assert_eq!(raw(&hec, all.len() + 1), expected(&[&all.join("\n"), "new"]));
}

#[test]
fn from_end_leaves_out_what_is_there_at_the_first_start() {
    let (hec, logs) = (Hec::start(), tempfile::tempdir().unwrap());
    let log = logs.path().join("a.log");
    append(&log, &lines("old", 20));
    let hydrant = Hydrant::run(&config(&hec, logs.path(), ", from: end"), &[]);
    eventually("the first look", || logs.path().join("data/sources/in/checkpoints.json").exists().then_some(()));
    append(&log, "new\n");
    append(&logs.path().join("b.log"), "of a new file\n");
    assert_eq!(raw(&hec, 2), ["new", "of a new file"]);
    assert!(hydrant.stop());
}

#[test]
fn standard_input_is_read_to_its_end() {
    let hec = Hec::start();
    let config = format!(
        "
data_dir: data
sources:
  in: {{ type: file, include: ['-'] }}
sinks:
  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}
",
        hec.port
    );
    let text = lines("stdin", 1000) + "no line end";
    assert!(Hydrant::run_with_input(&config, text.as_bytes()).wait());
    assert_eq!(raw(&hec, 1001), expected(&[&text]));
}
