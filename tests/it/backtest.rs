//! `hydrant backtest` through the real binary: counts by day, two versions of rules, correlations, an archive that Hydrant
//! wrote, limits for CI.

use std::fs;

use serde_json::{Value, json};

use crate::commands::{LINE, RULE, folder, objects, run};
use crate::journal::Setup;

const CORRELATION: &str = "title: Many denied
id: 6d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f
level: high
correlation:
  type: event_count
  rules: [5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f]
  group-by: [source.ip]
  timespan: 1h
  generate: true
  condition: { gte: 3 }
";

/// A line on a day of November 2026, from an address, denied or not.
fn line(day: u8, last: u8, action: &str) -> String {
    LINE.replace("2026-11-21T", &format!("2026-11-{day:02}T"))
        .replace("2026/11/21", &format!("2026/11/{day:02}"))
        .replace("10.1.2.3", &format!("10.1.2.{last}"))
        .replace(",tcp,deny,", &format!(",tcp,{action},"))
}

fn lines(lines: &[(u8, u8, &str)]) -> String {
    lines.iter().map(|(day, last, action)| line(*day, *last, action) + "\n").collect()
}

fn rule<'a>(told: &'a Value, title: &str) -> &'a Value {
    told["rules"].as_array().unwrap().iter().find(|rule| rule["title"] == title).unwrap()
}

#[test]
fn hits_are_counted_per_rule_and_day_and_samples_are_kept() {
    let first = lines(&[(20, 1, "deny"), (21, 1, "deny"), (21, 1, "deny"), (21, 1, "allow")]);
    let folder = folder(&[("rule.yml", RULE), ("many.yml", CORRELATION)]);
    fs::create_dir_all(folder.path().join("logs/more")).unwrap();
    fs::write(folder.path().join("logs/a.log"), first).unwrap();
    let second = zstd::encode_all(lines(&[(21, 1, "deny"), (21, 2, "deny")]).as_bytes(), 1).unwrap();
    fs::write(folder.path().join("logs/more/b.log.zst"), second).unwrap();
    let arguments = ["backtest", "--rules", ".", "--output", "json", "--samples", "2", "logs"];
    let (code, stdout, stderr) = run(folder.path(), &arguments, "");
    assert_eq!(code, 0, "{stderr}");
    let told = &objects(&stdout)[0];
    assert_eq!((&told["input"]["events"], &told["input"]["failed"]), (&json!(6), &json!([])));
    let denied = rule(told, "SSH denied");
    assert_eq!((&denied["hits"], &denied["kind"]), (&json!(5), &json!("rule")), "`generate` lets it alert alone");
    assert_eq!(denied["days"], json!({ "2026-11-20": 1, "2026-11-21": 4 }));
    assert_eq!(denied["per_million"], 833_333.33);
    assert_eq!(denied["samples"].as_array().unwrap().len(), 2);
    assert_eq!(denied["samples"][0]["raw"], line(20, 1, "deny"));
    assert_eq!(denied["samples"][0]["decoder"], "palo_alto");
    let many = rule(told, "Many denied");
    assert_eq!((&many["hits"], &many["days"]), (&json!(1), &json!({ "2026-11-21": 1 })));
    assert_eq!(many["samples"][0]["correlation"]["group"], json!({ "source.ip": "10.1.2.1" }));

    let (code, stdout, stderr) = run(folder.path(), &["backtest", "--rules", ".", "logs", "--samples", "1"], "");
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.lines().nth(1).unwrap().starts_with("5     833333.33    2     4 on 2026-11-21  high"), "{stdout}");
    assert!(stdout.contains("\n`SSH denied`:\n  2026-11-20T08:00:00.123Z <14>1 2026-11-20T"), "{stdout}");
    assert!(stderr.contains("2 rules, 0 of them without a hit") && stderr.contains("6 events in "), "{stderr}");
}

#[test]
fn two_versions_of_rules_are_compared_event_by_event() {
    let folder = folder(&[("in.log", &lines(&[(21, 1, "deny"), (21, 2, "allow"), (21, 2, "allow"), (21, 2, "allow")]))]);
    let write = |version: &str, files: &[(&str, String)]| {
        fs::create_dir(folder.path().join(version)).unwrap();
        files.iter().for_each(|(name, text)| fs::write(folder.path().join(version).join(name), text).unwrap());
    };
    let same = RULE.replace("SSH denied", "The same").replace("5d0c", "7d0c");
    let gone = RULE.replace("SSH denied", "Gone").replace("5d0c", "8d0c");
    let new = RULE.replace("SSH denied", "New").replace("5d0c", "9d0c");
    write("old", &[("r.yml", RULE.into()), ("s.yml", same.clone()), ("g.yml", gone), ("c.yml", CORRELATION.into())]);
    let changed = RULE.replace("event.action: deny", "event.action: allow");
    write("new", &[("r.yml", changed), ("s.yml", same), ("n.yml", new), ("c.yml", CORRELATION.into())]);
    let arguments = ["backtest", "--rules", "new", "--against", "old", "in.log", "--output", "json"];
    let (code, stdout, stderr) = run(folder.path(), &arguments, "");
    assert_eq!(code, 0, "{stderr}");
    let told = &objects(&stdout)[0];
    let mut changes: Vec<(String, String, [u64; 4])> = Vec::new();
    for change in told["diff"].as_array().unwrap() {
        let number = |key: &str| change[key].as_u64().unwrap();
        let text = |key: &str| change[key].as_str().unwrap().to_owned();
        changes.push((text("title"), text("change"), ["old_hits", "new_hits", "gained", "lost"].map(number)));
    }
    changes.sort();
    let expected = [
        ("Gone", "gone", [1, 0, 0, 1]),
        // Its own text is the same; the rule that it counts is another.
        ("Many denied", "same", [0, 1, 1, 0]),
        ("New", "new", [0, 1, 1, 0]),
        ("SSH denied", "changed", [1, 3, 3, 1]),
    ];
    assert_eq!(changes, expected.map(|(title, change, numbers)| (title.to_owned(), change.to_owned(), numbers)));
    let changed = told["diff"].as_array().unwrap().iter().find(|change| change["change"] == "changed").unwrap();
    assert_eq!(changed["gained_samples"][0]["raw"], line(21, 2, "allow"));
    assert_eq!(changed["lost_samples"][0]["raw"], line(21, 1, "deny"));

    let (code, stdout, _) = run(folder.path(), &arguments[..6], "");
    assert_eq!(code, 0);
    assert!(stdout.lines().any(|line| line.starts_with("changed  1    3    3       1     SSH denied")), "{stdout}");
    assert!(stdout.contains("`Gone`, only the old rules:\n- 2026-11-21T08:00:00.123Z <14>1"), "{stdout}");
}

#[test]
fn too_many_hits_on_a_day_and_what_cannot_be_read_fail_a_build() {
    let folder = folder(&[("rule.yml", RULE), ("in.log", &lines(&[(20, 1, "deny"), (21, 1, "deny"), (21, 1, "deny")]))]);
    let (code, _, stderr) = run(folder.path(), &["backtest", "--rules", "rule.yml", "in.log", "--fail-above", "2"], "");
    assert_eq!(code, 0, "{stderr}");
    let (code, _, stderr) = run(folder.path(), &["backtest", "--rules", "rule.yml", "in.log", "--fail-above", "1"], "");
    assert_eq!(code, 1);
    assert!(stderr.contains("2026-11-21: `SSH denied` has 2 hits, more than 1"), "{stderr}");
    fs::write(folder.path().join("cut.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    let (code, _, stderr) = run(folder.path(), &["backtest", "--rules", "rule.yml", "in.log", "cut.gz"], "");
    assert!(code == 1 && stderr.contains("not read: cut.gz"), "{stderr}");
    let (code, _, stderr) = run(folder.path(), &["backtest", "--rules", "rule.yml", "nowhere.log"], "");
    assert!(code == 1 && stderr.contains("nowhere.log"), "{stderr}");
    fs::write(folder.path().join("bad.yml"), "title: t\n").unwrap();
    let (code, _, stderr) = run(folder.path(), &["backtest", "--rules", "bad.yml", "in.log"], "");
    assert!(code == 78 && stderr.contains("bad.yml:1"), "{stderr}");
    let (code, stdout, _) = run(folder.path(), &["backtest", "--rules", "rule.yml", "-", "--samples", "0"], &line(21, 1, "deny"));
    assert!(code == 0 && stdout.lines().count() == 2, "{stdout}");
}

/// Rows as the sink `aws_s3` writes them, of a frame that is a text.
fn rows(lines: &[String]) -> String {
    let row = |(number, line): (usize, &String)| {
        let reserved =
            json!({ "source": "fw", "decoder": "palo_alto", "time": "2026-11-21T08:00:00Z", "position": format!("1:{}", 2 * number) });
        format!("{{\"message\":{},\"hydrant\":{reserved}}}\n", json!(line))
    };
    let alert =
        "{\"message\":\"x\",\"hydrant\":{\"source\":\"fw\",\"alert\":true,\"time\":\"2026-11-21T08:00:00Z\",\"position\":\"1:2\"}}\n";
    lines.iter().enumerate().map(row).collect::<String>() + alert
}

#[test]
fn rows_that_hydrant_wrote_are_read_as_the_frames_that_came() {
    let folder = folder(&[("rule.yml", RULE), ("a.ndjson", &rows(&[line(21, 1, "deny"), line(22, 1, "deny"), line(22, 1, "allow")]))]);
    let (code, stdout, stderr) = run(folder.path(), &["backtest", "--rules", "rule.yml", "a.ndjson", "--output", "json"], "");
    assert_eq!(code, 0, "{stderr}");
    let told = &objects(&stdout)[0];
    assert_eq!((&told["input"]["events"], &told["input"]["alerts_left_out"]), (&json!(3), &json!(1)));
    assert_eq!(rule(told, "SSH denied")["days"], json!({ "2026-11-21": 1, "2026-11-22": 1 }));
    assert_eq!(rule(told, "SSH denied")["samples"][1]["raw"], line(22, 1, "deny"));
}

#[test]
fn the_journal_of_a_running_hydrant_is_events_of_the_past_too() {
    let setup = Setup::new("journal: { type: disk, retain: 1h }\n", "  out: { type: blackhole }\n");
    let config = setup.folder.path().join("hydrant.yaml");
    let text = fs::read_to_string(&config).unwrap().replace("type: http,", "type: http, decoder: palo_alto,");
    fs::write(&config, text).unwrap();
    fs::write(setup.folder.path().join("rule.yml"), RULE).unwrap();
    fs::write(setup.folder.path().join("bad.txt"), "10.1.2.7 # new\n").unwrap();
    let running = setup.start();
    assert_eq!(setup.post_text(&lines(&[(20, 1, "deny"), (21, 7, "deny"), (21, 1, "allow")])), 200);
    let (code, stdout, stderr) = run(setup.folder.path(), &["backtest", "--rules", "rule.yml", "data", "--output", "json"], "");
    assert_eq!(code, 0, "{stderr}");
    let told = &objects(&stdout)[0];
    assert_eq!(told["input"]["events"], 3);
    assert_eq!(rule(told, "SSH denied")["days"], json!({ "2026-11-20": 1, "2026-11-21": 1 }));
    let (code, stdout, stderr) = run(setup.folder.path(), &["retro-hunt", "--indicators", "bad.txt", "data", "--output", "json"], "");
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(objects(&stdout)[0]["found"][0]["days"], json!({ "2026-11-21": 1 }));
    assert!(running.stop());
}

#[test]
fn a_hunt_tells_which_events_hold_an_indicator_in_which_fields() {
    let list = "# new today\n10.1.2.0/24\nevil[.]example  # C2\n203.0.113.9\n\nhxxp://evil.example/a?b\n";
    let waf = "{\"host\":\"www.EVIL.example\",\"u\":\"http:\\/\\/evil.example\\/a?b\"}\n";
    let input = lines(&[(20, 3, "deny"), (21, 4, "allow")]).replace("93.184.216.34", "93.184.216.3") + waf;
    let folder = folder(&[("bad.txt", list), ("in.log", &input), ("a.ndjson", &rows(&[line(22, 200, "deny")]))]);
    let arguments = ["retro-hunt", "--indicators", "bad.txt", "in.log", "a.ndjson", "--output", "json"];
    let (code, stdout, stderr) = run(folder.path(), &arguments, "");
    assert_eq!(code, 0, "{stderr}");
    let told = &objects(&stdout)[0];
    assert_eq!((&told["indicators"], &told["events"], &told["input"]["events"]), (&json!(4), &json!(4), &json!(4)));
    let of = |text: &str| told["found"].as_array().unwrap().iter().find(|found| found["indicator"] == text).unwrap();
    let network = of("10.1.2.0/24");
    assert_eq!((&network["kind"], &network["events"]), (&json!("cidr"), &json!(3)));
    assert_eq!(network["days"], json!({ "2026-11-20": 1, "2026-11-21": 1, "2026-11-22": 1 }));
    assert_eq!((&network["first"], &network["last"]), (&json!("2026-11-20T08:00:00.123Z"), &json!("2026-11-22T08:00:00.123Z")));
    assert_eq!(network["samples"][0]["decoder"], "palo_alto");
    let fields = network["samples"][0]["fields"].as_array().unwrap();
    assert!(fields.contains(&json!("source.ip")) && !fields.contains(&json!("destination.ip")), "{fields:?}");
    assert_eq!((&of("evil.example")["events"], &of("evil.example/a?b")["events"]), (&json!(1), &json!(1)));

    let (code, stdout, stderr) = run(folder.path(), &[&arguments[..5], &["--samples", "0"]].concat(), "");
    assert_eq!(code, 0);
    assert_eq!(stdout.lines().count(), 4, "{stdout}");
    assert!(stderr.contains("4 indicators\n") && stderr.contains("3 indicators in 4 events"), "{stderr}");

    fs::write(folder.path().join("page.txt"), "<html>\n<body>no list</body>\n").unwrap();
    let (code, _, stderr) = run(folder.path(), &["retro-hunt", "--indicators", "page.txt", "in.log"], "");
    assert!(code == 78 && stderr.contains("page.txt:1: error: this is a web page or XML, not a list of indicators"), "{stderr}");
}

#[test]
fn a_hunt_reads_the_lists_that_the_node_reads() {
    let sha1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
    let misp = format!(
        "{{\"Event\":{{\"info\":\"x\",\"Attribute\":[{{\"type\":\"ip-dst\",\"value\":\"93.184.216.3\",\"to_ids\":true}},\
         {{\"type\":\"sha1\",\"value\":\"{sha1}\",\"to_ids\":true}},{{\"type\":\"filename\",\"value\":\"a.exe\",\"to_ids\":true}}]}}}}"
    );
    let stix = "{\"type\":\"bundle\",\"id\":\"bundle--1\",\"objects\":[
        {\"type\":\"indicator\",\"id\":\"indicator--1\",\"pattern_type\":\"stix\",\"pattern\":\"[ipv4-addr:value = '10.1.2.4']\",
         \"valid_from\":\"2026-01-01T00:00:00Z\",\"valid_until\":\"2026-11-21T00:00:00Z\"},
        {\"type\":\"indicator\",\"id\":\"indicator--2\",\"pattern_type\":\"stix\",\"pattern\":\"[domain-name:value = 'evil.example']\",
         \"valid_from\":\"2026-01-01T00:00:00Z\"}]}";
    let csv = "first_seen,ioc,kind\n2026-01-01,phish@mail.example,email\n2026-01-01,http://shop.example/a?b,url\n2026-01-01,x,yara\n";
    let mail = format!("{{\"from\":\"Phish@Mail.example\",\"u\":\"https://shop.example/a?b\",\"h\":\"{}\"}}\n", sha1.to_uppercase());
    let input = lines(&[(20, 4, "deny"), (22, 4, "deny")]).replace("93.184.216.34", "93.184.216.3") + &mail + "host=a.evil.example\n";
    let folder = folder(&[("misp.json", &misp), ("stix.json", stix), ("list.csv", csv), ("in.log", &input)]);
    let hunt = |arguments: &[&str]| {
        let (code, stdout, stderr) = run(folder.path(), &[&["retro-hunt", "--output", "json", "in.log"][..], arguments].concat(), "");
        assert_eq!(code, 0, "{stderr}");
        let told = objects(&stdout).remove(0);
        let found = |found: &Value| (found["indicator"].as_str().unwrap().to_owned(), found["events"].as_u64().unwrap());
        (told["found"].as_array().unwrap().iter().map(found).collect::<Vec<_>>(), stderr)
    };
    let named = |found: &[(&str, u64)]| found.iter().map(|(text, events)| ((*text).to_owned(), *events)).collect::<Vec<_>>();
    let (found, stderr) = hunt(&["--indicators", "misp.json", "--indicators", "stix.json"]);
    assert_eq!(found, named(&[("93.184.216.3", 2), (sha1, 1), ("10.1.2.4", 1), ("evil.example", 1)]), "it counts until its end");
    assert!(stderr.contains("misp.json:1: warning: 1 left out: ") && stderr.contains("`a.exe`"), "{stderr}");
    let (found, stderr) = hunt(&["--indicators", "list.csv", "--format", "csv", "--columns", "value=ioc,kind=kind"]);
    assert_eq!(found, named(&[("phish@mail.example", 1), ("shop.example/a?b", 1)]));
    assert!(stderr.contains("1 left out: nothing is looked up for the kind `yara`, such as `x`"), "{stderr}");

    let refused = |arguments: &[&str]| {
        let (code, _, stderr) = run(folder.path(), &[&["retro-hunt", "in.log", "--indicators", "list.csv"][..], arguments].concat(), "");
        (code, stderr)
    };
    let (code, stderr) = refused(&["--columns", "value=ico"]);
    assert!(code == 78 && stderr.contains("there is no column `ico`") && stderr.contains("did you mean `ioc`?"), "{stderr}");
    let (code, stderr) = refused(&["--columns", "valeu=ioc"]);
    assert!(code == 78 && stderr.contains("there is no `valeu`") && stderr.contains("only `value` is needed"), "{stderr}");
    let (code, stderr) = refused(&["--format", "csv"]);
    assert!(code == 2 && stderr.contains("--columns"), "{stderr}");
    let (code, stderr) = refused(&["--kind", "name"]);
    assert!(code == 2 && stderr.contains("expected one of: ip, domain, url, hash, email"), "{stderr}");
    let (code, stderr) = refused(&[]);
    assert!(code == 78 && stderr.contains("--columns: error: which columns of `list.csv` hold what?"), "{stderr}");
    fs::write(folder.path().join("empty.txt"), "# nothing\ncom\n").unwrap();
    let (code, _, stderr) = run(folder.path(), &["retro-hunt", "in.log", "--indicators", "empty.txt"], "");
    assert!(code == 78 && stderr.contains("there is no indicator in it that can be used"), "{stderr}");
    assert!(stderr.contains("empty.txt:2: warning: 1 left out: a top-level domain"), "{stderr}");
}
