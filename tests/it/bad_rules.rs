//! Rules that nobody should write, through the real binary in bounded memory and CPU time: each is read, or refused
//! with a reason.

use std::fs;
use std::process::Command;

/// Address space of one run in KiB. All public rules take a tenth.
const MEMORY_KIB: &str = "2000000";

/// CPU seconds of one run. Without optimisation the largest takes a tenth.
const CPU_SECONDS: &str = "60";

/// Exit code and output of `hydrant` with files in a folder of their own.
fn run(files: &[(&str, String)], arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let limits = format!("ulimit -v {MEMORY_KIB}; ulimit -t {CPU_SECONDS}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &limits, env!("CARGO_BIN_EXE_hydrant")]).args(arguments).current_dir(folder.path());
    let output = command.output().unwrap();
    (output.status.code(), [output.stdout, output.stderr].iter().map(|bytes| String::from_utf8_lossy(bytes)).collect())
}

fn rule(detection: &str) -> String {
    let indented: String = detection.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "title: t\nid: 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64\nlogsource: {{ product: aws, service: cloudtrail }}\ndetection:\n{indented}"
    )
}

fn many(count: usize, each: impl Fn(usize) -> String) -> String {
    (0..count).map(each).collect()
}

/// What is said about a rule file, which is refused if that contains `error`.
fn lint(text: String) -> String {
    let (code, said) = run(&[("r.yml", text)], &["rules", "lint", "r.yml"]);
    let expected = if said.contains("error:") { 78 } else { 0 };
    assert_eq!(code, Some(expected), "out of memory or time, or a panic: {}", said.chars().take(2000).collect::<String>());
    said
}

#[test]
fn alias_bombs_are_refused() {
    let nested = many(9, |level| {
        let inner = if level == 0 { "x".to_owned() } else { format!("*a{}", level - 1) };
        format!("a{level}: &a{level} [{}]\n", vec![inner; 10].join(","))
    });
    assert!(lint(format!("{nested}{}", rule("s: { f: *a8 }\ncondition: s"))).contains("once aliases are resolved"));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100_000].join(","));
    assert!(lint(long).contains("bytes of text once aliases are resolved"));
}

#[test]
fn a_list_of_100_000_values_loads_and_is_evaluated() {
    let values = many(100_000, |number| format!("- host-{number}.example.com\n"));
    let text = rule(&format!("s:\n  f|endswith:\n{}condition: s", values.replace("- host", "  - host")));
    let (code, said) = run(
        &[("r.yml", text), ("e.json", "{\"f\":\"x.host-99999.example.com\"}\n{\"f\":\"host-99999.example.org\"}\n".into())],
        &["detect", "--rules", "r.yml", "--decoder", "json", "e.json"],
    );
    assert_eq!((code, said.matches("\"rule_id\"").count()), (Some(0), 1), "{said}");
}

#[test]
fn patterns_that_other_engines_hang_on_are_linear_here() {
    let patterns = ["(a+)+$", "(a|a)*$", "(.*a){12}$", "^(([a-z])+.)+[A-Z]([a-z])+$", r"(\w+\s?)*!$"];
    let list = many(patterns.len(), |number| format!("  - '{}'\n", patterns[number]));
    let text = rule(&format!("s:\n  f|re:\n{list}g: {{ f: '*a*a*a*a*a*a*a*a*a*a*b' }}\ncondition: s and not g"));
    let event = format!("{{\"f\":\"{}c\"}}\n", "a".repeat(50_000));
    let (code, said) = run(&[("r.yml", text), ("e.json", event)], &["detect", "--rules", "r.yml", "--decoder", "json", "e.json"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        lint(rule(r"s: { f|re: '((\w{50}){50}){50}' }\ncondition: s".replace("\\n", "\n").as_str()))
            .contains("takes more than 4194304 bytes")
    );
}

#[test]
fn names_that_lead_nowhere_twice_or_back_are_refused() {
    assert!(lint(rule("s: { f: 1 }\ns: { f: 2 }\ncondition: s")).contains("the key `s` stands here a second time"));
    assert!(lint(rule("a: { f: 1 }\ncondition: condition")).contains("there is no search identifier `condition`"));
    let same = rule("s: { f: 1 }\ncondition: s");
    assert!(lint(format!("{same}---\n{same}")).contains("the id 5d8fd9da-6916-45ef-8d4d-3fa9d19d1a64 is also that of"));
    let circle = "title: a\nname: a\ncorrelation: &c { type: event_count, rules: [b], group-by: [x], timespan: 1m, condition: { gte: 2 } }\n---\n\
        title: b\nname: b\ncorrelation: { type: event_count, rules: [a], group-by: [x], timespan: 1m, condition: { gte: 2 } }\n";
    assert!(lint(circle.into()).contains("leads back to this correlation"));
    let filter = "title: f\nid: 11111111-2222-4333-8444-555555555555\nlogsource: { product: aws }\n\
        filter: { rules: [11111111-2222-4333-8444-555555555555], selection: { a: 1 }, condition: selection }\n";
    assert!(lint(format!("{same}---\n{filter}")).contains("is a filter"));
}

#[test]
fn nesting_is_bounded() {
    assert!(lint("[".repeat(100)).contains("nested deeper than 64 levels"));
    // The parser itself stops at some depth, too.
    assert!(lint("[".repeat(100_000)).contains("recursion limit exceeded"));
    assert!(lint(many(1_000, |level| format!("{}a:\n", " ".repeat(level)))).contains("nested deeper than 64 levels"));
    assert!(
        lint(rule(&format!("s: {{ f: 1 }}\ncondition: {}s{}", "(".repeat(5_000), ")".repeat(5_000))))
            .contains("nested deeper than 64 levels")
    );
}

#[test]
fn a_condition_over_10_000_names_is_refused_and_one_over_4_000_is_read() {
    let names = |count: usize| rule(&format!("{}condition: 1 of them", many(count, |number| format!("s{number}: {{ f: v{number} }}\n"))));
    assert!(lint(names(10_000)).contains("more than 4096 search identifiers"));
    assert!(!lint(names(4_000)).contains("error:"));
    let quantifiers = vec!["1 of s*"; 1_200].join(" or ");
    let bomb = format!("{}condition: {quantifiers}", many(4_000, |number| format!("s{number}: {{ f: v{number} }}\n")));
    assert!(lint(rule(&bomb)).contains("become more than 2000000 predicates"));
}

#[test]
fn a_file_of_50_mb_is_refused_before_it_is_read() {
    assert!(lint(format!("title: {}", "x".repeat(50_000_000))).contains("the file has more than 16777216 bytes"));
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("r.yml"), [b't', b':', b' ', 0xff, 0xfe]).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hydrant")).args(["rules", "lint", "r.yml"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stdout).contains("cannot be read"));
}
