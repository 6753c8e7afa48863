//! The commands that people type, through the real binary: what stands on stdout, and the exit code.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

pub(crate) const LINE: &str = "<14>1 2026-11-21T08:00:00.123Z PA-FW-01 - - - - 1,2026/11/21 08:00:00,012801010010,TRAFFIC,end,2561,\
                    2026/11/21 08:00:00,10.1.2.3,93.184.216.34,,,deny-ssh,,,ssh,vsys1,trust,untrust,ethernet1/1,ethernet1/9,\
                    siem-fwd,2026/11/21 08:00:00,31337,1,52011,22,0,0,0x0,tcp,deny,0,0,0,1";

pub(crate) const RULE: &str = "title: SSH denied
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f
level: high
logsource: { product: paloalto, category: firewall }
detection:
  selection: { event.action: deny, dst_port: 22 }
  condition: selection
";

/// Runs a command in a folder with stdin; returns exit code, stdout and stderr.
pub(crate) fn run(folder: &Path, arguments: &[&str], stdin: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(arguments).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // Beside reading: pipes hold 64 KiB. A command that does not read stdin has closed it.
        scope.spawn(move || drop(pipe.write_all(stdin.as_bytes())));
        child.wait_with_output().unwrap()
    });
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

pub(crate) fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn init_writes_a_configuration_that_validates_and_never_overwrites_one() {
    let folder = folder(&[]);
    let (code, stdout, stderr) = run(folder.path(), &["init"], "");
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    let path = folder.path().join("hydrant.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let (code, _, stderr) = run(folder.path(), &["init"], "");
    assert_eq!(code, 1);
    assert!(stderr.contains("it exists and is not overwritten"), "{stderr}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    // Where a secret is asked for, a value stands in.
    fs::write(&path, text.replace("secret://env/", "")).unwrap();
    let (code, _, stderr) = run(folder.path(), &["validate", "-c", "hydrant.yaml"], "");
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn decode_tells_the_decoder_why_and_the_fields() {
    let folder = folder(&[("in.log", &format!("{LINE}\n{{\"a\":1}}\n"))]);
    let (code, stdout, _) = run(folder.path(), &["decode", "in.log"], "");
    assert_eq!(code, 0);
    let events = objects(&stdout);
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["decoder"], "palo_alto");
    assert_eq!(events[0]["why"], "a comma-separated PAN-OS line whose type is TRAFFIC");
    assert_eq!(events[0]["fields"]["destination"]["port"], 22);
    assert_eq!(events[0]["fields"]["@timestamp"], "2026-11-21T08:00:00.123Z");
    assert_eq!((&events[0]["flaws"], &events[0]["raw"]), (&Value::Array(vec![]), &Value::from(LINE)));
    assert_eq!((&events[1]["frame"], &events[1]["decoder"]), (&Value::from(2), &Value::from("json")));
    let (code, stdout, _) = run(folder.path(), &["decode", "--decoder", "palo_alto", "--output", "table", "-"], LINE);
    assert_eq!(code, 0);
    assert!(stdout.starts_with("# frame 1: palo_alto: it was named\nFIELD "), "{stdout}");
    assert!(stdout.lines().any(|line| line.split_whitespace().eq(["destination.port", "22"])), "{stdout}");
}

#[test]
fn a_frame_that_is_not_what_it_should_be_tells_its_flaws() {
    let folder = folder(&[]);
    fs::write(folder.path().join("in.log"), b"1,2,3\xff").unwrap();
    let (code, stdout, _) = run(folder.path(), &["decode", "--decoder", "palo_alto", "in.log"], "");
    assert_eq!(code, 0);
    let event = &objects(&stdout)[0];
    assert_eq!(event["flaws"], serde_json::json!(["malformed", "not_utf8"]));
    assert_eq!((&event["raw"], &event["raw_base64"]), (&Value::from("1,2,3\u{fffd}"), &Value::from("MSwyLDP/")));
}

#[test]
fn wrong_arguments_name_the_nearest_right_one() {
    let folder = folder(&[]);
    let (code, stdout, stderr) = run(folder.path(), &["decode", "--decoder", "palo_atlo"], "");
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("there is no decoder `palo_atlo`; did you mean `palo_alto`?"), "{stderr}");
    let (code, _, stderr) = run(folder.path(), &["decode", "nowhere.log"], "");
    assert_eq!(code, 1);
    assert!(stderr.contains("nowhere.log"), "{stderr}");
}

#[test]
fn detect_prints_a_line_a_match() {
    let folder = folder(&[("rule.yml", RULE)]);
    let input = format!("{LINE}\n{}\n{LINE}\n", LINE.replace("deny", "allow"));
    let (code, stdout, stderr) = run(folder.path(), &["detect", "--rules", "rule.yml"], &input);
    assert_eq!(code, 0, "{stderr}");
    let expected = |event: u32| {
        format!(
            "{{\"event\":{event},\"rule_id\":\"5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f\",\"title\":\"SSH denied\",\
             \"level\":\"high\",\"decoder\":\"palo_alto\"}}\n"
        )
    };
    assert_eq!(stdout, expected(1) + &expected(3));
    assert!(stderr.contains("3 events, 1 rules, 2 matches"), "{stderr}");
}

#[test]
fn tests_inside_rules_pass_or_fail_with_a_reason_and_a_report() {
    let case = |name: &str, log: &str, expect: &str| format!("  - name: {name}\n    log: '{log}'\n    expect: {expect}\n");
    let good = format!("{RULE}tests:\n{}{}", case("denied", LINE, "match"), case("allowed", &LINE.replace("deny", "allow"), "no_match"));
    let folder = folder(&[("rule.yml", &good)]);
    let (code, stdout, stderr) = run(folder.path(), &["test", "rule.yml"], "");
    assert_eq!((code, stdout.as_str()), (0, "ok    SSH denied: denied\nok    SSH denied: allowed\n"), "{stderr}");
    assert!(stderr.contains("2 passed, 0 failed; 0 of 1 rules have no test"), "{stderr}");

    let bad = format!("{RULE}tests:\n{}{}", case("a < b", LINE, "no_match"), case("json", "{\"a\":1}", "match"));
    fs::write(folder.path().join("rule.yml"), bad).unwrap();
    let (code, stdout, stderr) = run(folder.path(), &["test", "rule.yml", "--junit", "report.xml"], "");
    assert_eq!(code, 1, "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{stdout}");
    assert_eq!(lines[0], "FAIL  SSH denied: a < b");
    assert!(lines[1].contains("rule.yml:9: it matches (decoder: palo_alto, "), "{stdout}");
    assert!(lines[3].contains("it does not match: the rule does not run on events of `json`"), "{stdout}");
    assert!(stderr.contains("0 passed, 2 failed"), "{stderr}");
    let report = fs::read_to_string(folder.path().join("report.xml")).unwrap();
    assert!(report.contains("tests=\"2\" failures=\"2\"") && report.contains("name=\"a &lt; b\""), "{report}");
    let (code, stdout, _) = run(folder.path(), &["test", "rule.yml", "--output", "junit"], "");
    assert_eq!((code, stdout), (1, report), "the same on stdout");
}

#[test]
fn a_mistake_in_a_rule_or_its_tests_is_exit_code_78() {
    let broken = format!("{RULE}tests:\n  - {{ name: n, log: x, expect: maybe }}\n");
    let folder = folder(&[("rule.yml", &broken), ("typo.yml", &RULE.replace("selection: {", "selektion: {").replace("SSH", "RDP"))]);
    for arguments in
        [["test", "rule.yml"].as_slice(), &["rules", "lint", "rule.yml"], &["rules", "lint", "typo.yml"], &["rules", "list", "typo.yml"]]
    {
        assert_eq!(run(folder.path(), arguments, "").0, 78, "{arguments:?}");
    }
    let (_, stdout, _) = run(folder.path(), &["rules", "lint", "rule.yml", "--output", "json"], "");
    let found = &objects(&stdout)[0];
    assert_eq!((&found["path"], &found["line"]), (&Value::from("tests[0].expect"), &Value::from(9)));
}

#[test]
fn lint_finds_rules_that_can_never_run() {
    let field = RULE.replace("dst_port: 22", "dst_prot: 22");
    let source = RULE.replace("paloalto", "vax").replace("5d0c", "6d0c");
    let folder = folder(&[("field.yml", &field), ("source.yml", &source)]);
    let (code, stdout, _) = run(folder.path(), &["rules", "lint", "."], "");
    assert_eq!(code, 0, "warnings only");
    assert!(stdout.contains("have no field `dst_prot`\n  help: did you mean `dst_port`?"), "{stdout}");
    assert!(
        stdout.contains("source.yml:1: warning: logsource: rule `SSH denied`: no decoder carries this log source, so it never runs"),
        "{stdout}"
    );
    assert_eq!(run(folder.path(), &["rules", "lint", ".", "--deny-warnings"], "").0, 78);
}

#[test]
fn list_tells_where_a_rule_runs() {
    let folder = folder(&[("rule.yml", RULE)]);
    let (code, stdout, _) = run(folder.path(), &["rules", "list", "rule.yml", "--output", "json"], "");
    assert_eq!(code, 0);
    assert_eq!(objects(&stdout)[0]["decoders"], serde_json::json!(["palo_alto"]));
}

#[test]
fn schema_and_completion_are_data_on_stdout() {
    let folder = folder(&[]);
    let (code, stdout, stderr) = run(folder.path(), &["schema"], "");
    let schema: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, stderr.as_str(), &schema["title"]), (0, "", &Value::from("Hydrant configuration")));
    for shell in ["bash", "zsh", "fish"] {
        let (code, stdout, _) = run(folder.path(), &["completion", shell], "");
        assert!(code == 0 && stdout.contains("hydrant") && stdout.contains("decode"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let folder = folder(&[("in.log", &format!("{LINE}\n").repeat(2000))]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
    command.args(["decode", "in.log"]).current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

const CORRELATION: &str = "title: SSH denied again and again
name: again
id: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a40
correlation:
  type: event_count
  rules: [5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f]
  group-by: [source.ip]
  timespan: 1m
  condition: { gte: 3 }
tests:
  - { name: three, logs: [{ log: 'LINE', times: 3 }], expect: match }
  - { name: two, logs: [{ log: 'LINE', times: 2 }], expect: no_match }
";

#[test]
fn correlations_are_listed_linted_tested_and_found_in_files() {
    let text = CORRELATION.replace("LINE", LINE);
    let folder =
        folder(&[("rule.yml", RULE), ("again.yml", &text), ("far.yml", &text.replace("source.ip", "source.pi").replace("a40", "a41"))]);
    let (code, stdout, stderr) = run(folder.path(), &["test", "rule.yml", "again.yml"], "");
    assert_eq!((code, stdout.lines().count()), (0, 2), "{stdout}{stderr}");
    assert!(stderr.contains("2 passed, 0 failed; 1 of 2 rules have no test"), "{stderr}");
    fs::write(folder.path().join("wrong.yml"), text.replace("times: 2", "times: 4").replace("a40", "a42")).unwrap();
    let (code, stdout, _) = run(folder.path(), &["test", "rule.yml", "wrong.yml"], "");
    assert_eq!(code, 1);
    assert!(stdout.contains("it matches (4 of 4 lines match any rule; events of palo_alto count)"), "{stdout}");

    let (code, stdout, stderr) = run(folder.path(), &["rules", "list", "--output", "json", "rule.yml", "again.yml"], "");
    assert_eq!(code, 0, "{stderr}");
    let listed = objects(&stdout);
    assert_eq!((&listed[1]["correlation"]["type"], &listed[1]["decoders"][0]), (&"event_count".into(), &"palo_alto".into()), "{stdout}");
    let (code, stdout, _) = run(folder.path(), &["rules", "lint", "--deny-warnings", "rule.yml", "far.yml"], "");
    assert_eq!(code, 78);
    assert!(stdout.contains("events of one of its rules have no field `source.pi`"), "{stdout}");

    let lines = format!("{LINE}\n").repeat(4);
    let (code, stdout, stderr) = run(folder.path(), &["detect", "--rules", "rule.yml", "--rules", "again.yml"], &lines);
    assert_eq!(code, 0, "{stderr}");
    let found = objects(&stdout);
    assert_eq!(found.len(), 1, "the rule belongs to the correlation: {stdout}");
    let correlation = &found[0]["correlation"];
    assert_eq!((&correlation["group"]["source.ip"], &correlation["value"]), (&"10.1.2.3".into(), &3.into()));
    assert_eq!(correlation["sample"], serde_json::json!(["1:1", "1:2", "1:3"]));
}
