//! Ten mistakes of a new user: each is answered with file, line, path, what was expected and the nearest name.

use std::fs;
use std::path::Path;

use hydrant::pipeline::plan::Plan;

const SOURCES: &str = "sources:\n  fw: { type: syslog, listen: \"127.0.0.1:5514\" }\n";
const SINKS: &str = "sinks:\n  splunk: { type: splunk_hec, endpoint: \"https://splunk:8088\", token: x }\n";

/// What is said about a configuration: its errors, or its warnings.
fn said(text: &str) -> String {
    match Plan::read(Path::new("hydrant.yaml"), text) {
        Ok(plan) => plan.warnings.to_string(),
        Err(diagnostics) => diagnostics.to_string(),
    }
}

#[test]
fn the_configuration_that_the_others_are_made_from_is_right() {
    assert_eq!(said(&format!("{SOURCES}{SINKS}")), "");
}

#[test]
fn an_unknown_key() {
    let sources = SOURCES.replace("listen", "lisen");
    assert_eq!(
        said(&format!("{sources}{SINKS}")),
        "hydrant.yaml:2:7: error: sources.fw: the key `listen` is missing\n\
         hydrant.yaml:2:23: error: sources.fw.lisen: unknown key\n  \
         help: did you mean `listen`? keys here: listen, allow, sender_rate_max, proxy_protocol, receive_buffer, tls"
    );
}

#[test]
fn a_wrong_unit() {
    let sinks = SINKS.replace("token: x", "token: x, buffer: { interval: 5 }");
    assert_eq!(
        said(&format!("{SOURCES}{sinks}")),
        "hydrant.yaml:4:94: error: sinks.splunk.buffer.interval: `5` is not a time span; \
         expected a number with ms, s, m, h or d, such as `30s`"
    );
}

#[test]
fn a_missing_secret() {
    let sinks = SINKS.replace("token: x", "token: \"secret://env/HYDRANT_TEST_NO_SUCH_TOKEN\"");
    assert_eq!(
        said(&format!("{SOURCES}{sinks}")),
        "hydrant.yaml:4:71: error: sinks.splunk.token: the environment variable HYDRANT_TEST_NO_SUCH_TOKEN of \
         secret://env/HYDRANT_TEST_NO_SUCH_TOKEN is not set"
    );
}

#[test]
fn two_listeners_on_one_port() {
    let text = format!("{SOURCES}  waf: {{ type: syslog, listen: \"0.0.0.0:5514\" }}\n{SINKS}");
    assert_eq!(said(&text), "hydrant.yaml:3:32: error: sources.waf.listen: source `fw` listens here already");
}

#[test]
fn a_rule_with_an_unknown_field() {
    let folder = tempfile::tempdir().unwrap();
    let rule = folder.path().join("rule.yml");
    let text = "title: Odd port\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f\nlogsource: { product: paloalto, category: firewall }\n\
                detection:\n  selection: { destination.prot: 4444 }\n  condition: selection\n";
    fs::write(&rule, text).unwrap();
    let sources = SOURCES.replace("type: syslog", "type: syslog, decoder: palo_alto");
    let said = said(&format!("rules: [{}]\n{sources}{SINKS}", rule.display()));
    assert_eq!(
        said.replace(&folder.path().display().to_string(), "DIR"),
        "DIR/rule.yml:1: warning: detection: rule `Odd port`: events of this log source have no field `destination.prot`\n  \
         help: did you mean `destination.port`?"
    );
}

#[test]
#[cfg(feature = "vrl")]
fn a_condition_that_does_not_compile() {
    let text = format!("{SOURCES}{SINKS}routes:\n  - {{ when: '.a == ', to: [splunk] }}\n");
    assert_eq!(
        said(&text),
        "hydrant.yaml:6:19: error: routes[0].when: syntax error: unexpected end of program\n  help: expected one of: \
         \"identifier\", \"string literal\", \"raw string literal\", \"integer literal\", \"float literal\", \"regex literal\", \
         \"timestamp literal\", \"function call\", \"path literal\", \"null\", \"true\", \"false\", \"\\n\", \"!\", \"[\", \"{\", \"(\""
    );
}

#[test]
fn an_empty_file() {
    let expected = "hydrant.yaml: error: the file is empty\n  help: `hydrant init` writes a commented example";
    assert_eq!(said(""), expected);
    assert_eq!(said("# only a comment\n"), expected);
}

#[test]
fn an_unknown_type() {
    let sources = SOURCES.replace("type: syslog", "type: sysolg");
    let said = said(&format!("{sources}{SINKS}"));
    let expected = "hydrant.yaml:2:15: error: sources.fw.type: there is no type `sysolg`\n  help: did you mean `syslog`? one of: ";
    assert!(said.starts_with(expected), "{said}");
    let names: Vec<&str> = hydrant::source::SOURCES.iter().map(|kind| kind.name()).collect();
    assert_eq!(said, format!("{expected}{}", names.join(", ")), "every name is offered, and nothing else is said");
}

#[test]
fn an_unknown_sink_in_a_route() {
    let text = format!("{SOURCES}{SINKS}routes:\n  - {{ to: [splnk] }}\n");
    assert_eq!(said(&text), "hydrant.yaml:6:11: error: routes[0].to: there is no sink `splnk`\n  help: did you mean `splunk`?");
}

#[test]
fn a_wrong_name_of_a_decoder_or_framing() {
    let sources = SOURCES.replace("type: syslog", "type: syslog, decoder: paloalto");
    let decoders = said(&format!("{sources}{SINKS}"));
    let expected =
        "hydrant.yaml:2:32: error: sources.fw.decoder: there is no decoder `paloalto`\n  help: did you mean `palo_alto`? one of: cef, ";
    assert!(decoders.starts_with(expected) && decoders.ends_with(", auto"), "{decoders}");
    let sources = SOURCES.replace("type: syslog", "type: syslog, framing: newlin");
    assert_eq!(
        said(&format!("{sources}{SINKS}")),
        "hydrant.yaml:2:32: error: sources.fw.framing: there is no framing `newlin`\n  \
         help: did you mean `newline`? one of: json, newline, syslog, whole"
    );
}

#[test]
fn a_bad_path_in_a_template() {
    let of = |path: &str| said(&format!("{SOURCES}{SINKS}  files: {{ type: file, path: \"{path}\" }}\n"));
    assert_eq!(
        of("!{field:source.ip}/x.log"),
        "hydrant.yaml:5:30: error: sinks.files.path: at byte 2: a value of an event cannot choose the first folder; \
         begin with a literal folder, such as out/"
    );
    assert_eq!(
        of("out/!{feild:source.ip}.log"),
        "hydrant.yaml:5:30: error: sinks.files.path: at byte 6: unknown namespace `feild`; did you mean `field`?"
    );
}

#[test]
fn bad_indentation() {
    let help = "\n  help: keys of one map begin in the same column, with blanks and no tabs before them";
    let with = |blanks: &str| format!("sources:\n  fw:\n    type: syslog\n{blanks}listen: \"127.0.0.1:5514\"\n{SINKS}");
    assert_eq!(said(&with("    ")), "");
    assert_eq!(said(&with("   ")), format!("hydrant.yaml:4:4: error: while parsing a block mapping, did not find expected key{help}"));
    assert_eq!(said(&with("\t")), format!("hydrant.yaml:3:11: error: while scanning a plain scalar, found a tab{help}"));
}

#[test]
fn a_key_that_stands_twice() {
    let text = format!("{SOURCES}{SINKS}{SOURCES}");
    assert_eq!(said(&text), "hydrant.yaml:5:1: error: the key `sources` stands here a second time (first in line 1)");
    let sources = SOURCES.replace("type: syslog", "type: syslog, type: http");
    assert_eq!(said(&format!("{sources}{SINKS}")), "hydrant.yaml:2:23: error: the key `type` stands here a second time (first in line 2)");
}

#[test]
fn numbers_and_sizes_that_are_none_or_make_no_sense() {
    let with = |line: &str| said(&format!("{SOURCES}{SINKS}{line}\n"));
    assert_eq!(with("shards: many"), "hydrant.yaml:5:9: error: shards: expected a whole number, 0 or more, found `many`");
    assert_eq!(
        with("memory: 10 apples"),
        "hydrant.yaml:5:9: error: memory: `10 apples` is not a size; expected a number with B, KB, MB, GB, KiB, MiB or GiB, such as `64MiB`"
    );
    assert_eq!(with("profile: yes"), "hydrant.yaml:5:10: error: profile: expected `true` or `false`, found `yes`");
    for size in ["0", "8GiB"] {
        let sources = SOURCES.replace("type: syslog", &format!("type: syslog, frame_bytes_max: {size}"));
        let said = said(&format!("{sources}{SINKS}"));
        assert!(said.starts_with("hydrant.yaml:2:40: error: sources.fw.frame_bytes_max: expected 64B to 64.0MiB, found "), "{said}");
    }
}

#[test]
fn rules_that_are_not_there() {
    assert_eq!(
        said(&format!("{SOURCES}{SINKS}rules: [builtin, nowhere/rules]\n")),
        "hydrant.yaml:5:18: error: rules[1]: there is no file or folder `nowhere/rules`\n  \
         help: a rule file, a folder of them, or `builtin` for the rules that come with hydrant"
    );
}

#[test]
fn a_wrong_scheme_of_a_secret_or_an_address_that_is_none() {
    let sinks = SINKS.replace("token: x", "token: \"secret://vault/splunk\"");
    assert_eq!(
        said(&format!("{SOURCES}{sinks}")),
        "hydrant.yaml:4:71: error: sinks.splunk.token: secret://vault/splunk is not `secret://env/NAME` or `secret://file/PATH`"
    );
    let sinks = SINKS.replace("https://splunk:8088", "splunk:8088");
    assert_eq!(
        said(&format!("{SOURCES}{sinks}")),
        "hydrant.yaml:4:41: error: sinks.splunk.endpoint: this is not an address; expected `https://host:8088`"
    );
}

#[test]
fn columns_of_flow_logs_that_no_decoder_reads_or_nobody_documents() {
    let with = |more: &str| said(&format!("{}{SINKS}", SOURCES.replace("5514\"", &format!("5514\", {more}"))));
    assert_eq!(with("decoder: aws_vpc_flow, vpc_flow_format: version srcaddr dstaddr - end"), "");
    assert_eq!(
        with("decoder: aws_vpc_flow, vpc_flow_format: version srcadr"),
        "hydrant.yaml:2:89: error: sources.fw.vpc_flow_format: VPC flow logs have no field `srcadr`; did you mean `srcaddr`? \
         write `-` for a column to be skipped"
    );
    assert_eq!(
        with("decoder: cef, vpc_flow_format: version srcaddr"),
        "hydrant.yaml:2:80: error: sources.fw.vpc_flow_format: only the decoder `aws_vpc_flow` reads this"
    );
}

#[test]
fn a_mistyped_top_level_key_is_known() {
    let said = said(&format!("{}{SINKS}", SOURCES.replace("sources", "soruces")));
    assert!(said.starts_with("hydrant.yaml:1:1: error: soruces: unknown key\n  help: did you mean `sources`? keys here: "), "{said}");
}

#[test]
fn routes_that_deliver_nothing_and_empty_stages() {
    let text = format!("{SOURCES}{SINKS}routes: {{ to: [splunk] }}\n");
    let help = "\n  help: routes: [ { to: [NAME] } ]; without `routes` everything goes to every sink";
    assert_eq!(said(&text), format!("hydrant.yaml:5:9: error: routes: expected a list of routes, found a map{help}"));
    let text = format!("sources: {{}}\n{SINKS}");
    assert!(said(&text).starts_with("hydrant.yaml:1:1: error: there are no `sources`"), "{}", said(&text));
}

#[test]
fn several_mistakes_are_named_at_once_in_the_order_of_the_file() {
    let text =
        "data_dirr: x\nsources:\n  fw: { type: syslog, listen: \"5514\" }\nsinks:\n  a: { type: splunk_hec, endpoint: \"http://a\" }\n";
    let said = said(text);
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with(' ')).collect();
    let expected = [
        "hydrant.yaml:1:1: error: data_dirr: unknown key",
        "hydrant.yaml:3:31: error: sources.fw.listen: `5514` is a port without an address; write `0.0.0.0:5514` for all \
         interfaces or `127.0.0.1:5514` for this machine only",
        "hydrant.yaml:5:6: error: sinks.a: the key `token` is missing",
    ];
    assert_eq!(lines, expected, "{said}");
}
