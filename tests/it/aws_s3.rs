//! `aws_s3` against a real store, read back with boto3: `HYDRANT_TEST_S3` is its address, such as
//! `http://127.0.0.1:8333`, with a bucket `logs` and the key `AKIATEST` / `SECRETTEST` (SeaweedFS:
//! `S3_BUCKET=logs AWS_ACCESS_KEY_ID=AKIATEST AWS_SECRET_ACCESS_KEY=SECRETTEST weed mini`). boto3 is that of
//! `tests/real/setup`, or of the interpreter in `HYDRANT_TEST_PYTHON`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use hydrant::traffic::{Kind, Traffic};

use crate::process::{Hydrant, eventually, free_port};

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

/// Prints one JSON object for each object below a prefix: key, headers, and its rows.
const READ: &str = r#"
import boto3, gzip, json, sys
from botocore.config import Config
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="AKIATEST",
                  aws_secret_access_key="SECRETTEST", config=Config(s3={"addressing_style": "path"}))
for page in s3.get_paginator("list_objects_v2").paginate(Bucket="logs", Prefix=sys.argv[2]):
    for entry in page.get("Contents", []):
        got = s3.get_object(Bucket="logs", Key=entry["Key"])
        body = got["Body"].read()
        if got.get("ContentEncoding") == "gzip":
            body = gzip.decompress(body)
        rows = [json.loads(line) for line in body.decode().splitlines()]
        print(json.dumps({"key": entry["Key"], "type": got["ContentType"], "encoding": got.get("ContentEncoding"),
                          "batch": got["Metadata"].get("hydrant-batch"), "rows": rows}))
"#;

#[derive(serde::Deserialize)]
struct Object {
    key: String,
    r#type: String,
    encoding: Option<String>,
    batch: Option<String>,
    rows: Vec<serde_json::Value>,
}

fn read(endpoint: &str, prefix: &str) -> Vec<Object> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/real/venv/bin/python");
    let python = std::env::var_os("HYDRANT_TEST_PYTHON").unwrap_or_else(|| if own.exists() { own.into() } else { "python3".into() });
    let output = Command::new(python).args(["-c", READ, endpoint, prefix]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A store to test with, and a prefix that nobody used before.
fn store() -> Option<(String, String)> {
    let Ok(endpoint) = std::env::var("HYDRANT_TEST_S3") else {
        eprintln!("skipped: HYDRANT_TEST_S3 is not set");
        return None;
    };
    let run = hydrant::clock::now_ms();
    Some((endpoint, format!("it-{run}-{}", free_port())))
}

/// Runs Hydrant over some lines and reads what is below the prefix afterwards.
fn deliver(endpoint: &str, prefix: &str, sink: &str, lines: &[String]) -> Vec<Object> {
    let port = free_port();
    let config = format!(
        "
data_dir: data
shards: 2
rules: [rules]
sources:
  fw: {{ type: syslog, listen: \"tcp://127.0.0.1:{port}\", decoder: palo_alto }}
sinks:
  lake:
    type: aws_s3
    bucket: logs
    endpoint: {endpoint}
    credentials: {{ access_key_id: AKIATEST, secret_access_key: SECRETTEST }}
{sink}
"
    );
    let hydrant = Hydrant::run(&config, &[("rules/deny.yml", RULE)]);
    // Two connections, so that both shards have something to do.
    for part in lines.chunks(lines.len().div_ceil(2)) {
        let mut stream = eventually("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
        for line in part {
            stream.write_all(line.as_bytes()).and_then(|()| stream.write_all(b"\n")).unwrap();
        }
    }
    eventually("all lines", || (count(&read(endpoint, prefix)) >= lines.len()).then_some(()));
    assert!(hydrant.stop(), "a stop with nothing left to deliver ends well");
    read(endpoint, prefix)
}

fn is_alert(row: &serde_json::Value) -> bool {
    row["hydrant"]["alert"] == true
}

fn count(objects: &[Object]) -> usize {
    objects.iter().flat_map(|object| &object.rows).filter(|row| !is_alert(row)).count()
}

fn lines(count: usize) -> Vec<String> {
    let mut traffic = Traffic::new(Kind::PaloAlto, 11);
    let line = |_| {
        let mut line = Vec::new();
        traffic.next(1_795_240_800_000, &mut line);
        String::from_utf8(line).unwrap()
    };
    (0..count).map(line).collect()
}

fn assert_every_line_once(objects: &[Object], lines: &[String]) {
    let rows = objects.iter().flat_map(|object| &object.rows).filter(|row| !is_alert(row));
    let mut found: Vec<&str> = rows.map(|row| row["message"].as_str().unwrap()).collect();
    let mut expected: Vec<&str> = lines.iter().map(String::as_str).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "every line once, byte for byte");
}

#[test]
fn every_line_is_in_one_object() {
    let Some((endpoint, prefix)) = store() else { return };
    let lines = lines(20_000);
    let sink = format!("    prefix: \"{prefix}/!{{timestamp:yyyy/MM/dd}}/\"\n    buffer: {{ size_mb: 1, interval: 1s }}");
    let objects = deliver(&endpoint, &prefix, &sink, &lines);
    assert!(objects.len() > 4, "{} objects for two shards and several megabytes", objects.len());
    assert_every_line_once(&objects, &lines);
    let alerts = objects.iter().flat_map(|object| &object.rows).filter(|row| is_alert(row)).count();
    let tagged = objects.iter().flat_map(|object| &object.rows).filter(|row| !is_alert(row) && row["hydrant"]["rule_ids"].is_array());
    assert!(alerts > 0 && alerts == tagged.count(), "{alerts} alerts");
    for object in &objects {
        let Object { key, r#type, encoding, batch, .. } = object;
        assert!(key.contains("/lake-1-20") && key.ends_with(".ndjson.gz"), "{key}");
        assert_eq!((r#type.as_str(), encoding.as_deref()), ("application/x-ndjson", Some("gzip")));
        let uuid = key.trim_end_matches(".ndjson.gz");
        let batch = batch.as_deref().unwrap();
        assert_eq!((&uuid[uuid.len() - 12..], &uuid[uuid.len() - 36..uuid.len() - 28]), (&batch[20..], &batch[..8]), "{key}");
    }
    eprintln!("{} lines, {alerts} alerts in {} objects", lines.len(), objects.len());
}

#[test]
fn each_value_of_a_field_has_objects_of_its_own_and_unreadable_lines_too() {
    let Some((endpoint, prefix)) = store() else { return };
    let mut lines = lines(5_000);
    lines.push("<14>1 2026-11-21T08:00:00Z fw - - - - nobody, knows".to_owned());
    let sink = format!(
        "    prefix: \"{prefix}/action=!{{field:event.action}}/!{{timestamp:yyyy}}/\"
    error_prefix: \"{prefix}/bad/!{{firehose:error-output-type}}/\"
    buffer: {{ size_mb: 64, interval: 1s }}"
    );
    let objects = deliver(&endpoint, &prefix, &sink, &lines);
    assert_every_line_once(&objects, &lines);
    let mut actions: BTreeMap<&str, usize> = BTreeMap::new();
    for object in &objects {
        let folder = object.key[prefix.len() + 1..].split('/').next().unwrap();
        *actions.entry(folder).or_default() += object.rows.iter().filter(|row| !is_alert(row)).count();
        let Some(action) = folder.strip_prefix("action=") else { continue };
        for row in object.rows.iter().filter(|row| !is_alert(row)) {
            let columns: Vec<&str> = row["message"].as_str().unwrap().split(" - - - - ").nth(1).unwrap().split(',').collect();
            assert!(action == "_" || columns.contains(&action), "{action}: {columns:?}");
        }
    }
    assert_eq!(actions["bad"], 1, "{actions:?}");
    assert!(actions.keys().filter(|folder| folder.starts_with("action=")).count() >= 2, "{actions:?}");
    eprintln!("{actions:?} in {} objects", objects.len());
}

#[test]
fn a_large_batch_goes_in_parts() {
    let Some((endpoint, prefix)) = store() else { return };
    let lines = lines(30_000);
    let sink = format!(
        "    prefix: \"{prefix}/!{{timestamp:yyyy}}/\"
    compression: none
    multipart_threshold: 5MiB
    buffer: {{ size_mb: 128, interval: 5s }}"
    );
    let objects = deliver(&endpoint, &prefix, &sink, &lines);
    assert_every_line_once(&objects, &lines);
    let bytes = |object: &Object| object.rows.iter().map(|row| row.to_string().len()).sum::<usize>();
    let largest = objects.iter().map(bytes).max().unwrap();
    assert!(largest > 8 << 20, "{largest} bytes are one part only");
    assert!(objects.iter().all(|object| object.encoding.is_none()));
    eprintln!("{} objects, the largest of {largest} bytes", objects.len());
}
