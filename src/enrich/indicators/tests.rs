use proptest::prelude::*;

use super::*;

/// Each entry in one line: what it is, or why it is left out.
fn read(format: &Format, text: &str) -> Vec<String> {
    let shown = |found: Found| match found {
        Ok(Indicator { pattern, details: Details { description, .. } }) => {
            let kind = match &pattern {
                Pattern::Network(_) => "ip",
                Pattern::Domain(_) => "domain",
                Pattern::Url(_) => "url",
                Pattern::Hash(_) => "hash",
                Pattern::Email(_) => "email",
            };
            description.map_or_else(|| format!("{kind} {pattern}"), |description| format!("{kind} {pattern} ({description})"))
        }
        Err(Refusal::Skipped { line, reason, .. }) => format!("{line}: {reason}"),
        Err(Refusal::Broken { line, message, .. }) => format!("{line}: broken: {message}"),
    };
    read_indicators(format, text.as_bytes()).map(shown).collect()
}

fn columns(value: &str) -> Columns {
    Columns { value: value.to_owned(), ..Columns::default() }
}

#[test]
fn a_plain_list_has_one_indicator_a_line_and_comments() {
    let text = "\u{feff}# Spamhaus DROP\r\n1.10.16.0/20 ; SBL256894\r\n\r\n  evil.example.\t# C2\nhxxp://evil[.]example/a#x\n203.0.113.7:4444\n[2001:db8::1]:80\n\
                ::ffff:192.0.2.1\n0.0.0.0 bad.example\n127.0.0.1 localhost\nD41D8CD98F00B204E9800998ECF8427E\nme@evil.example\n*.wild.example\n\
                evil.example/path\nnot found\ncom\n0.0.0.0/0\n10.0.0.0..10.0.0.9\n203.0.113.7:http\n2001:db8::/32";
    assert_eq!(
        read(&Format::Plain(None), text),
        [
            "ip 1.10.16.0/20",
            "domain evil.example",
            "url evil.example/a",
            "ip 203.0.113.7",
            "ip 2001:db8::1",
            "ip 192.0.2.1",
            "domain bad.example",
            "hash d41d8cd98f00b204e9800998ecf8427e",
            "email me@evil.example",
            "domain wild.example",
            "url evil.example/path",
            "15: more than one word; a comment begins with # or ;",
            "16: a top-level domain or a name without a domain",
            "17: too wide a network",
            "18: not a domain name",
            "19: not a domain name",
            "ip 2001:db8::/32"
        ]
    );
    assert_eq!(read(&Format::Plain(Some(Kind::Ip)), "192.0.2.1\nevil.example\n"), ["ip 192.0.2.1", "2: not an address or network"]);
    let long = format!("{}\nevil.example\n", "a".repeat(3 * LINE_BYTES_MAX));
    assert_eq!(read(&Format::Plain(None), &long), ["1: the line has more than 65536 bytes", "domain evil.example"]);
}

#[test]
fn columns_are_named_in_the_first_line_or_in_the_comment_before_the_first_record() {
    let threatfox = "################\n# ThreatFox\n# \"first_seen_utc\",\"ioc_id\",\"ioc_value\",\"ioc_type\",\"malware\",\"confidence_level\"\n\
        \"2026-11-20 10:00:00\", \"1\", \"203.0.113.7:4444\", \"ip:port\", \"Emotet\", \"75\"\n\
        \"2026-11-20 10:00:00\", \"2\", \"evil.example\", \"domain\", \"a \"\"b\"\"\nc\", \"x\"\n\
        \"2026-11-20 10:00:00\", \"3\", \"x\", \"envelope\", \"\", \"\"\n\
        \"2026-11-20 10:00:00\", \"4\", \"\", \"domain\", \"\", \"\"\n# Number of entries: 4\n";
    let named = Columns {
        kind: Some("ioc_type".to_owned()),
        description: Some("malware".to_owned()),
        confidence: Some("confidence_level".to_owned()),
        first_seen: Some("first_seen_utc".to_owned()),
        ..columns("ioc_value")
    };
    let format = Format::Csv(Box::new(named));
    assert_eq!(
        read(&format, threatfox),
        ["ip 203.0.113.7 (Emotet)", "domain evil.example (a \"b\"\nc)", "7: nothing is looked up for the kind `envelope`", "8: no value"]
    );
    let first = read_indicators(&format, threatfox.as_bytes()).next().unwrap().unwrap();
    assert_eq!((first.details.confidence, first.details.first_seen_ms), (Some(75), Some(1_795_168_800_000)));
    let hashes = Columns { all: Some(Kind::Hash), ..columns("sha256") };
    let text = "name,sha256\nx,e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\ny,short\n";
    let found = read(&Format::Csv(Box::new(hashes)), text);
    assert!(found[0].starts_with("hash e3b0c442"), "{found:?}");
    assert_eq!(found[1], "3: not an MD5, SHA-1 or SHA-2 hash");
    let Err(Refusal::Broken { message, help, .. }) =
        read_indicators(&Format::Csv(Box::new(columns("sha265"))), text.as_bytes()).next().unwrap()
    else {
        panic!("the column was found")
    };
    assert_eq!(message, "there is no column `sha265`");
    assert_eq!(help.as_deref(), Some("did you mean `sha256`? columns here: name, sha256"));
}

#[test]
fn of_an_event_of_misp_what_is_read_is_kept_and_is_read_as_before() {
    let event = r#"{"Event":{"info":"x","Attribute":[
        {"type":"domain","value":"a.example","to_ids":true,"comment":" ","data":"AAAA","ShadowAttribute":[{"a":"]"}]},
        {"type":"ip-dst|port","value":"192.0.2.1|80","to_ids":"1","comment":"own","first_seen":"2026-11-20T10:00:00Z"},
        {"type":"domain","value":"b.example","to_ids":false}, {"type":"domain","value":"c.example","to_ids":true,"deleted":true}],
        "Object":[{"Attribute":[{"type":"filename|md5","value":"a.exe|d41d8cd98f00b204e9800998ecf8427e","to_ids":true}]}]}}"#;
    let (attributes, left_out) = misp_attributes(event.as_bytes(), "Emotet").unwrap();
    assert_eq!((attributes.len(), left_out), (3, 2));
    let kept = serde_json::json!({ "uuid": "u", "Attribute": attributes }).to_string();
    assert!(!kept.contains("AAAA") && !kept.contains('\n'));
    let expected = ["domain a.example (Emotet)", "ip 192.0.2.1 (own)", "hash d41d8cd98f00b204e9800998ecf8427e (Emotet)"];
    assert_eq!(read(&Format::Misp, &kept), expected);
    for none in ["", "<html>", "{\"errors\":[]}", "{\"Event\":{\"Attribute\":[{", "{\"Event\":{}}}"] {
        assert!(misp_attributes(none.as_bytes(), "").is_err(), "{none}");
    }
}

#[test]
fn attributes_of_misp_are_taken_if_they_are_for_detection() {
    let text = r#"{"Event":{"info":"OSINT","Orgc":{"name":"x"},"Attribute":[
        {"type":"ip-dst","value":"203.0.113.7","to_ids":true,"comment":"C2","first_seen":"2026-11-20T10:00:00.000000+00:00"},
        {"type":"ip-dst|port","value":"203.0.113.8|443","to_ids":true},
        {"type":"domain|ip","value":"evil.example|203.0.113.9","to_ids":"1"},
        {"type":"filename|md5","value":"a.exe|d41d8cd98f00b204e9800998ecf8427e","to_ids":1},
        {"type":"filename","value":"a.exe","to_ids":true},
        {"type":"domain","value":"fine.example","to_ids":false},
        {"type":"domain","value":"gone.example","to_ids":true,"deleted":true},
        {"type":"hostname|port","value":"www.evil.example|80","to_ids":true},
        {"type":7}],
        "Object":[{"name":"file","Attribute":[{"type":"malware-sample","value":"b.exe|d41d8cd98f00b204e9800998ecf8427e","to_ids":true}]},
        {"Attribute":[{"type":"email-src","value":"Phish@mail.example","to_ids":true}]}]}}"#;
    assert_eq!(
        read(&Format::Misp, text),
        [
            "ip 203.0.113.7 (C2)",
            "ip 203.0.113.8",
            "domain evil.example",
            "ip 203.0.113.9",
            "hash d41d8cd98f00b204e9800998ecf8427e",
            "6: nothing is looked up for the type `filename`",
            "7: not meant for detection (to_ids)",
            "8: deleted",
            "domain www.evil.example",
            "10: not an attribute of MISP",
            "hash d41d8cd98f00b204e9800998ecf8427e",
            "email phish@mail.example"
        ]
    );
    let answer = r#"{"response":{"Attribute":[{"type":"url","value":"http://evil.example/x","to_ids":true}]}}"#;
    assert_eq!(read(&Format::Misp, answer), ["url evil.example/x"]);
    assert_eq!(read(&Format::Misp, &answer[..60]), ["1: broken: the document ends in the middle"]);
    assert_eq!(read(&Format::Misp, "evil.example\n"), ["1: broken: this is not JSON"]);
}

#[test]
fn indicators_of_stix_are_taken_as_far_as_single_values_say_the_same() {
    let indicator = |pattern: &str, more: &str| {
        let pattern = serde_json::to_string(pattern).unwrap();
        let text = format!(
            "{{\"type\":\"bundle\",\"objects\":[{{\"type\":\"identity\",\"name\":\"x\"}},{{\"type\":\"indicator\",\"pattern\":{pattern}{more}}}]}}"
        );
        read(&Format::Stix, &text)
    };
    let values = |pattern: &str| indicator(pattern, "");
    assert_eq!(values("[ipv4-addr:value = '203.0.113.7']"), ["ip 203.0.113.7"]);
    assert_eq!(
        values("[ipv4-addr:value ISSUBSET '203.0.113.0/24' OR ipv6-addr:value='2001:db8::1']"),
        ["ip 203.0.113.0/24", "ip 2001:db8::1"]
    );
    assert_eq!(
        values(
            "([domain-name:value IN ('a.example', 'b.example')] OR [(url:value = 'http://c.example/it\\'s' OR email-addr:value = 'a@b.example')])"
        ),
        ["domain a.example", "domain b.example", "url c.example/it's", "email a@b.example"]
    );
    let md5 = "d41d8cd98f00b204e9800998ecf8427e";
    for path in ["file:hashes.MD5", "file:hashes.'MD5'", "file:hashes.\"MD5\"", "artifact:hashes.md5"] {
        assert_eq!(values(&format!("[{path} = '{md5}']")), [format!("hash {md5}")], "{path}");
    }
    for (pattern, reason) in [
        ("[file:name = 'a' AND file:hashes.MD5 = 'b']", "`AND` in a pattern cannot be looked up"),
        ("[ipv4-addr:value = '1.1.1.1'] AND [ipv4-addr:value = '2.2.2.2']", "`AND` in a pattern cannot be looked up"),
        ("[ipv4-addr:value = '1.1.1.1'] FOLLOWEDBY [ipv4-addr:value = '2.2.2.2']", "`FOLLOWEDBY` in a pattern cannot be looked up"),
        ("[ipv4-addr:value = '1.1.1.1'] WITHIN 5 SECONDS", "`WITHIN` in a pattern cannot be looked up"),
        ("[ipv4-addr:value NOT = '1.1.1.1']", "`NOT` in a pattern cannot be looked up"),
        ("[ipv4-addr:value != '1.1.1.1']", "`!` in a pattern cannot be looked up"),
        ("[domain-name:value LIKE '%.example']", "`LIKE` in a pattern cannot be looked up"),
        ("[url:value MATCHES '^http']", "`MATCHES` in a pattern cannot be looked up"),
        ("[domain-name:value ISSUBSET 'a.example']", "`ISSUBSET` in a pattern cannot be looked up"),
        ("[process:name = 'x']", "nothing is looked up for `process:name`"),
        ("[ipv4-addr:value = '1.1.1.1'", "the pattern ends in the middle"),
        ("[ipv4-addr:value = '1.1.1", "the pattern ends in the middle"),
        ("", "the pattern ends in the middle"),
        ("evil.example", "not a pattern of STIX"),
        (&"(".repeat(100), "too many parentheses"),
    ] {
        assert_eq!(values(pattern), [format!("1: {reason}")], "{pattern}");
    }
    assert_eq!(
        values("[process:name = 'x' OR domain-name:value = 'a.example']"),
        ["1: nothing is looked up for `process:name`", "domain a.example"]
    );
    let good = "[domain-name:value = 'a.example']";
    assert_eq!(indicator(good, ",\"revoked\":true"), ["1: revoked"]);
    assert_eq!(indicator(good, ",\"pattern_type\":\"yara\""), ["1: the pattern is of the language `yara`"]);
    assert_eq!(indicator(good, ",\"valid_until\":\"2020-01-01T00:00:00Z\""), ["domain a.example"]);
    assert_eq!(indicator(good, ",\"valid_until\":\"2199-01-01T00:00:00Z\",\"name\":\"Emotet\""), ["domain a.example (Emotet)"]);
}

#[test]
fn times_are_read_as_lists_write_them() {
    for text in ["2026-11-20T10:00:00Z", "2026-11-20T11:00:00+01:00", "2026-11-20 10:00:00", "2026-11-20 10:00:00 UTC", "1795168800"] {
        assert_eq!(time_ms(text), Some(1_795_168_800_000), "{text}");
    }
    assert_eq!(time_ms("2026-11-20"), Some(1_795_132_800_000));
    for none in ["", "yesterday", "0", "nan", "1e300x"] {
        assert_eq!(time_ms(none), None, "{none}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever a list holds, reading ends, and what comes out can be written as a list and read again as the same.
    #[test]
    fn what_is_taken_is_taken_again_from_its_text(text in "([a-z0-9.:/@\\[\\]#; -]{0,20}\n?){0,6}") {
        for format in [Format::Plain(None), Format::Misp, Format::Stix, Format::Csv(Box::new(columns("a")))] {
            for found in read_indicators(&format, text.as_bytes()).flatten() {
                let (kind, again) = match &found.pattern {
                    Pattern::Network(_) => (Kind::Ip, found.pattern.to_string()),
                    Pattern::Domain(name) => (Kind::Domain, name.clone()),
                    Pattern::Url(url) => (Kind::Url, url.clone()),
                    Pattern::Hash(_) => (Kind::Hash, found.pattern.to_string()),
                    Pattern::Email(email) => (Kind::Email, email.clone()),
                };
                prop_assert_eq!(pattern(Some(kind), &again), Ok(found.pattern), "{}", again);
            }
        }
    }

    #[test]
    fn a_pattern_of_any_text_is_values_or_a_reason(text in "(\\[|\\]|\\(|\\)|'|=|,| |OR|AND|IN|ipv4-addr:value|'1.2.3.4'|\\\\|é){0,24}") {
        let object = serde_json::json!({ "objects": [{ "type": "indicator", "pattern": text }] }).to_string();
        prop_assert!(read(&Format::Stix, &object).len() <= 24);
    }
}
