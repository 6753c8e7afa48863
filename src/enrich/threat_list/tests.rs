use std::path::Path;

use super::*;
use crate::enrich::testing::{filled, read};

const LIST: &str = "value,kind,what,sure,seen\n203.0.113.0/24,ip,C2,90,2026-11-20 10:00:00\nevil.example,domain,,,\nd41d8cd98f00b204e9800998ecf8427e,md5,empty file,,\n";

const CONFIG: &str = "type: threat_list\nformat: csv\npath: l.csv\nname: feed\nprovider: us\nconfidence: 50\n\
    columns: { value: value, kind: kind, description: what, confidence: sure, first_seen: seen }\n";

fn open(folder: &Path, config: &str, list: &str) -> Box<dyn Enricher> {
    std::fs::write(folder.join("l.csv"), list).unwrap();
    let enricher = read(&ThreatList, config, folder).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    let refresh = enricher.refresh();
    assert!(matches!(refresh, Refresh::Loaded), "{refresh:?}");
    enricher
}

fn mistakes(config: &str) -> String {
    read(&ThreatList, config, Path::new(".")).err().map(|diagnostics| diagnostics.to_string()).unwrap_or_default()
}

#[test]
fn an_event_says_which_indicator_it_has_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let enricher = open(folder.path(), CONFIG, LIST);
    let found = filled(&*enricher, "destination.ip", &["203.0.113.7", "198.51.100.1"], &ADDS);
    let hit = ["feed", "ipv4-addr", "203.0.113.0/24", "destination.ip", "203.0.113.7", "us", "C2", "90", "2026-11-20T10:00:00Z", "-"];
    assert_eq!(found, [hit, ["-"; 10]]);
    let found = filled(&*enricher, "dns.question.name", &["WWW.Evil.example"], &ADDS);
    let hit = ["feed", "domain-name", "evil.example", "dns.question.name", "WWW.Evil.example", "us", "-", "50", "-", "-"];
    assert_eq!(found, [hit]);
    let found = filled(&*enricher, "file.hash.md5", &["D41D8CD98F00B204E9800998ECF8427E"], &[ADDS[TYPE], ADDS[NAME]]);
    assert_eq!(found, [["file", "d41d8cd98f00b204e9800998ecf8427e"]]);
    let found = filled(&*enricher, "url.original", &["http://a.evil.example/x"], &[ADDS[TYPE], ADDS[FIELD]]);
    assert_eq!(found, [["domain-name", "url.original"]]);
}

#[test]
fn the_fields_of_a_kind_can_be_named_and_only_those_that_were_have_to_exist() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("{CONFIG}fields: {{ ip: [network.peer.ip], domain: [] }}\n");
    let enricher = open(folder.path(), &config, LIST);
    assert_eq!(filled(&*enricher, "network.peer.ip", &["203.0.113.7"], &[ADDS[FEED]]), [["feed"]]);
    assert_eq!(filled(&*enricher, "destination.ip", &["203.0.113.7"], &[ADDS[FEED]]), [["-"]]);
    assert_eq!(filled(&*enricher, "dns.question.name", &["evil.example"], &[ADDS[FEED]]), [["-"]]);
    let named: Vec<&str> = enricher.lookups().iter().filter(|lookup| !lookup.is_usual).map(|lookup| lookup.key.as_str()).collect();
    assert_eq!(named, ["network.peer.ip"]);
}

#[test]
fn the_first_field_that_is_listed_counts_and_another_list_replaces_all_of_it() {
    use std::sync::Arc;

    use crate::event::{Sender, Span};

    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), CONFIG, LIST);
    let config = CONFIG.replace("name: feed\nprovider: us\nconfidence: 50\n", "name: other\n");
    let second = open(folder.path(), &config, "value,kind,what,sure,seen\n198.51.100.9,ip,,,\n");
    let mut fields = Fields::default();
    let (destination, source) = (fields.slot("destination.ip"), fields.slot("source.ip"));
    let wanted = ADDS.map(|name| fields.slot(name));
    let text = b"203.0.113.7 198.51.100.9";
    let sender = Arc::new(Sender { source: "t".into(), source_index: 0 });
    let chunk = Chunk::new(text.to_vec(), vec![Span::new(0, text.len())], sender, 0);
    let mut events = Events::default();
    events.reset(&chunk, fields.width());
    events.row_mut(&chunk, 0).set_text(destination, Span::new(0, 11));
    events.row_mut(&chunk, 0).set_text(source, Span::new(12, 24));
    let said = |events: &Events| -> Vec<String> {
        let text = |value: Value<'_>| match value {
            Value::Text(text) | Value::Number(text) => String::from_utf8_lossy(text).into_owned(),
            _ => "-".to_owned(),
        };
        wanted.iter().map(|slot| text(events.event(&chunk, 0).value(*slot))).collect()
    };
    assert_eq!(first.bind(&fields).enrich(&chunk, 0..1, &mut events), 0);
    assert_eq!(said(&events)[..5], ["feed", "ipv4-addr", "203.0.113.0/24", "destination.ip", "203.0.113.7"]);
    assert_eq!(second.bind(&fields).enrich(&chunk, 0..1, &mut events), 0);
    assert_eq!(said(&events), ["other", "ipv4-addr", "198.51.100.9", "source.ip", "198.51.100.9", "-", "-", "-", "-", "-"]);
}

#[test]
fn a_list_that_goes_bad_leaves_the_old_one_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let enricher = open(folder.path(), CONFIG, LIST);
    for (list, expected) in [
        ("<!doctype html>", "this is a web page"),
        ("value,kind,what,sure,seen\n", "there is no indicator in it that can be used"),
        ("ip\n203.0.113.7\n", "there is no column `value`"),
        ("", "there is no indicator"),
    ] {
        std::fs::write(folder.path().join("l.csv"), list).unwrap();
        assert!(matches!(enricher.refresh(), Refresh::Unchanged));
        let Refresh::Failed(diagnostics) = enricher.refresh() else { panic!("{list} was taken") };
        assert!(diagnostics.to_string().contains(expected), "{diagnostics}");
        assert_eq!(filled(&*enricher, "destination.ip", &["203.0.113.7"], &[ADDS[FEED]]), [["feed"]]);
    }
    std::fs::write(folder.path().join("l.csv"), "value,kind,what,sure,seen\n203.0.113.9,ip,,,\n10.0.0.1,ip,,,\n").unwrap();
    assert!(matches!(enricher.refresh(), Refresh::Unchanged));
    let Refresh::Partly(notes) = enricher.refresh() else { panic!("nothing is said of the private address") };
    assert!(notes.to_string().contains("1 left out: private or reserved addresses"), "{notes}");
    assert_eq!(filled(&*enricher, "destination.ip", &["203.0.113.9", "203.0.113.7"], &[ADDS[FEED]]), [["feed"], ["-"]]);
    std::fs::write(folder.path().join("l.csv"), vec![b'#'; 2000]).unwrap();
    let small = read(&ThreatList, &format!("{CONFIG}max_size: 1KiB\n"), folder.path()).unwrap();
    let Refresh::Failed(diagnostics) = small.refresh() else { panic!("it is too long") };
    assert!(diagnostics.to_string().contains("more than 1024 bytes"), "{diagnostics}");
}

#[test]
fn every_mistake_of_the_section_is_named() {
    let text = mistakes(
        "type: threat_list\nformat: csv\npath: l.csv\nurl: 'https://a.example/l'\nmax_size: 1B\nconfidence: 101\ninterval: 1s\nfields: { ip: [.source.ip, threat.feed.name] }\n",
    );
    for part in [
        "c.yaml:4:6: error: url: either `path` or `url`",
        "`columns` is missing\n  help: columns: { value: ioc_value }",
        "max_size: is out of range; from 1KiB to 2GiB",
        "confidence: is out of range; from 0 to 100",
        "interval: is out of range; at least 10s",
        "fields.ip[0]: `.source.ip` is not the name of a field\n  help: write `source.ip`",
        "fields.ip[1]: `threat.feed.name` is what is added",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let text = mistakes("type: threat_list\nformat: plain\npath: l\ninterval: 1h\nallow_private: true\ncolumns: { value: a }\n");
    for part in ["interval: `interval` goes with `url`", "allow_private: `allow_private` goes with `url`", "columns: only `format: csv`"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    for (more, part) in [
        ("path: l\nurl: 'https://a.example/l'\n", "url: either `path` or `url`"),
        ("", "`path` or `url` is missing"),
        ("url: 'ftp://a.example/l'\n", "url: this is not an address; expected `https://host/path`"),
        ("url: 'https://u:p@a.example/l'\n", "url: a name and password in an address are shown"),
        ("url: 'https://a.example/l'\nheaders: { 'a b': x }\n", "headers.a b: `a b` is not the name of a header"),
        ("url: 'https://a.example/l'\nheaders: { a: \"x\\ny\" }\n", "headers.a: the value has characters"),
        ("url: 'https://a.example/feed/'\nmax_events: 5\n", "max_events: goes with a feed of MISP: `format: misp`"),
        ("path: l\nmax_events: 5\n", "max_events: `max_events` goes with `url`"),
        ("url: 'https://a.example/l'\nmax_events: 0\n", "max_events: is out of range; from 1 to 100000"),
        ("url: 'https://a.example/l'\ntls: { ca: /nowhere.pem }\n", "tls: "),
    ] {
        let text = mistakes(&format!("type: threat_list\nformat: plain\n{more}"));
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(mistakes("type: threat_list\nformat: stix\npath: l\nkind: ip\n").contains("kind: a list in this format says itself"));
}

#[test]
fn a_folder_or_a_manifest_is_a_feed_of_misp() {
    let form = |format: &str, url: &str| {
        let text = format!("format: {format}\nurl: '{url}'\n");
        let config = Section::parse(Path::new("c.yaml"), &text).unwrap().read::<Config>().unwrap();
        let (uri, form) = feed_of(&config, url.parse().unwrap());
        (uri.to_string(), matches!(form, Form::Misp(EVENTS_MAX)))
    };
    for (url, manifest) in [
        ("https://a.example/feed/", "https://a.example/feed/manifest.json"),
        ("https://a.example/feed/manifest.json", "https://a.example/feed/manifest.json"),
        ("http://a.example:8080/?key=1", "http://a.example:8080/manifest.json?key=1"),
    ] {
        assert_eq!(form("misp", url), (manifest.to_owned(), true));
        assert_eq!(form("stix", url), (url.to_owned(), false));
    }
    for url in ["https://a.example/attributes/restSearch", "https://a.example/my-manifest.json"] {
        assert_eq!(form("misp", url), (url.to_owned(), false));
    }
}
