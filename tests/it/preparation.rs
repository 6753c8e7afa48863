//! Filters, placeholders and pipelines through the commands and the configuration.

use std::fs;
use std::path::Path;
use std::process::Command;

use hydrant::pipeline::plan::Plan;
use serde_json::Value;

const RULES: &str = "title: Administrator from a server
id: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64
name: admin
logsource: { product: aws, service: cloudtrail }
detection:
  selection: { 'user|expand': '%Administrators%', 'host|expand': '%Servers%' }
  condition: selection
tests:
  - { name: one, log: '{\"login\":\"adm_x\",\"host\":\"db\"}', decoder: json, expect: match }
  - { name: the robot, log: '{\"login\":\"adm_robot\",\"host\":\"db\"}', decoder: json, expect: no_match }
";

const FILTER: &str = "title: The robot
logsource: { product: aws }
filter: { rules: [admin], selection: { user: adm_robot }, condition: not selection }
";

const PIPELINE: &str = "name: own names
transformations:
- { type: field_name_mapping, mapping: { user: login } }
";

const NAMES: &str = "Administrators: [adm_*, root]\nServers: { file: servers.txt }\n";

const SERVERS: &str = "# the databases\ndb\n\n  web?\n";

fn folder(more: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("rules")).unwrap();
    let files = [("rules/r.yml", RULES), ("rules/f.yml", FILTER), ("p.yml", PIPELINE), ("names.yml", NAMES), ("servers.txt", SERVERS)];
    for (name, text) in files.iter().chain(more) {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_hydrant")).args(arguments).current_dir(folder).output().unwrap();
    (output.status.code().unwrap(), [output.stdout, output.stderr].iter().map(|bytes| String::from_utf8_lossy(bytes)).collect())
}

#[test]
fn the_commands_apply_filters_placeholders_and_pipelines() {
    let folder = folder(&[("e.json", "{\"login\":\"root\",\"host\":\"web1\"}\n{\"login\":\"adm_robot\",\"host\":\"db\"}\n")]);
    let prepared = |arguments: &[&str]| {
        let options = ["--placeholders", "names.yml", "--pipeline", "p.yml"];
        run(folder.path(), &[arguments, &options].concat())
    };
    let (code, said) = prepared(&["test", "rules"]);
    assert!(code == 0 && said.contains("2 passed, 0 failed"), "{said}");
    let (code, said) = prepared(&["detect", "--rules", "rules", "--decoder", "json", "e.json"]);
    assert!(code == 0 && said.contains("\"event\":1") && !said.contains("\"event\":2"), "{said}");
    let (code, said) = prepared(&["rules", "list", "rules", "--output", "json"]);
    let listed: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!((code, &listed["filters"]), (0, &serde_json::json!(["The robot"])));
    let (code, said) = prepared(&["rules", "list", "rules"]);
    assert!(code == 0 && said.contains("FILTERS") && said.trim_end().ends_with("The robot"), "{said}");
    let (_, other) = run(folder.path(), &["rules", "list", "rules", "--output", "json", "--placeholders", "names.yml"]);
    let other: Value = serde_json::from_str(other.lines().next().unwrap()).unwrap();
    assert_ne!(listed["hash"], other["hash"], "the pipeline counts in the hash");
}

#[test]
fn without_values_the_rule_is_refused_by_every_command() {
    let folder = folder(&[]);
    for arguments in [
        vec!["test", "rules"],
        vec!["rules", "lint", "rules"],
        vec!["rules", "list", "rules"],
        vec!["detect", "--rules", "rules", "e.json"],
    ] {
        let (code, said) = run(folder.path(), &arguments);
        assert!(
            code == 78
                && said
                    .contains("rules/r.yml:6:31: error: detection.selection.user|expand: the placeholder `%Administrators%` has no values"),
            "{said}"
        );
    }
}

#[test]
fn what_is_wrong_with_placeholders_is_told_at_once() {
    let text = "A b: x\nEmpty: []\nNone:\nDeep: [[x]]\nGone: { file: gone.txt }\nOdd: { flie: x }\nBlank: { file: blank.txt }\n";
    let folder = folder(&[("bad.yml", text), ("blank.txt", "\n# nothing\n")]);
    let (code, said) = run(folder.path(), &["rules", "lint", "rules", "--placeholders", "bad.yml"]);
    assert_eq!(code, 78);
    for expected in [
        "bad.yml:1:6: error: A b: no rule can refer to `%A b%`",
        "bad.yml:2:8: error: Empty: there is no value",
        "error: None: a value, a list of values or `file` is expected, found nothing",
        "bad.yml:4:8: error: Deep[0]: a value, a list of values or `file` is expected, found a list",
        "bad.yml:5:15: error: Gone.file: gone.txt: cannot be read",
        "bad.yml:6:8: error: Odd.flie: unknown key\n  help: did you mean `file`?",
        "bad.yml:7:8: error: Blank: there is no value",
    ] {
        assert!(said.contains(expected), "{expected}\nin\n{said}");
    }
}

#[test]
fn the_configuration_has_placeholders_and_pipelines_and_a_reload_takes_them_over() {
    let folder = folder(&[]);
    let file = folder.path().join("hydrant.yaml");
    let base =
        "sources:\n  fw: { type: syslog, listen: \"127.0.0.1:0\", decoder: json }\nsinks:\n  a: { type: blackhole }\nrules: [rules]\n";
    let plan = |more: &str| Plan::read(&file, &format!("{base}{more}"));
    let names = NAMES.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let first = plan(&format!("placeholders:\n{names}")).unwrap_or_else(|error| panic!("{error}"));
    let changed = format!("{base}pipelines: [p.yml]\nplaceholders:\n{names}");
    let second = first.reload(&file, &changed).unwrap_or_else(|error| panic!("{error}"));
    assert_ne!(first.rules.rules[0].hash, second.rules.rules[0].hash);
    let error = plan("").err().unwrap().to_string();
    assert!(error.contains("the placeholder `%Administrators%` has no values"), "{error}");
    let error = plan("pipelines: [nowhere.yml]\n").err().unwrap().to_string();
    assert!(error.contains("nowhere.yml: error: cannot be read"), "{error}");
}
