//! Lists of indicators and tables, whatever a stranger's server sends: reading ends, nothing panics, what is taken is an
//! indicator whose text is taken again as the same, and a list that is taken answers look-ups.
#![no_main]

use hydrant::enrich::indicators::{Columns, Format, Kind, Pattern, misp_attributes, read_indicators};
use hydrant_fuzz::seed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seed(seeds()), |list: &[u8]| {
    let columns = Columns { value: "v".to_owned(), kind: Some("k".to_owned()), ..Columns::default() };
    for format in [Format::Plain(None), Format::Csv(Box::new(columns)), Format::Misp, Format::Stix] {
        let mut broken = 0;
        for found in read_indicators(&format, list) {
            match found {
                Ok(indicator) => again(&indicator.pattern),
                Err(hydrant::enrich::indicators::Refusal::Broken { .. }) => broken += 1,
                Err(_) => {}
            }
        }
        assert!(broken <= 1, "nothing follows what is broken");
    }
    kept(list);
});

/// What is kept of an event has the indicators of the event.
fn kept(event: &[u8]) {
    let Ok((attributes, _)) = misp_attributes(event, "about") else { return };
    let patterns = |list: &[u8]| read_indicators(&Format::Misp, list).flatten().map(|found| found.pattern).collect::<Vec<_>>();
    let line = serde_json::to_vec(&serde_json::json!({ "uuid": "u", "Attribute": attributes })).unwrap();
    assert_eq!(patterns(&line), patterns(event));
}

fn again(pattern: &Pattern) {
    let kind = match pattern {
        Pattern::Network(_) => Kind::Ip,
        Pattern::Domain(_) => Kind::Domain,
        Pattern::Url(_) => Kind::Url,
        Pattern::Hash(_) => Kind::Hash,
        Pattern::Email(_) => Kind::Email,
    };
    let text = pattern.to_string();
    // Blanks, `#` and `;` end a word of a plain list, and what still looks defanged is read as what it stands for.
    let is_word = !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}') && !text.starts_with(['#', ';', '<']);
    if !is_word || ["[.]", "[:]"].iter().any(|mark| text.contains(mark)) || text.to_ascii_lowercase().starts_with("hxxp") {
        return;
    }
    let found: Vec<_> = read_indicators(&Format::Plain(Some(kind)), text.as_bytes()).flatten().map(|found| found.pattern).collect();
    assert_eq!(found, [pattern.clone()], "{text}");
}

fn seeds() -> Vec<Vec<u8>> {
    let own: [&[u8]; 5] = [
        b"1.10.16.0/20 ; SBL1\nhxxp://evil[.]example/a\nd41d8cd98f00b204e9800998ecf8427e\n0.0.0.0 bad.example\n[2001:db8::1]:80\n",
        b"# \"v\",\"k\"\n\"203.0.113.7:4444\", \"ip:port\"\n\"a \"\"b\"\"\nc\", \"domain\"\n",
        br#"{"Event":{"Attribute":[{"type":"domain|ip","value":"a.example|192.0.2.1","to_ids":true}],"Object":[{"Attribute":[]}]}}"#,
        br#"{"type":"bundle","objects":[{"type":"indicator","pattern":"[ipv4-addr:value = '192.0.2.1' OR file:hashes.'MD5' IN ('d41d8cd98f00b204e9800998ecf8427e')]","valid_until":"2199-01-01T00:00:00Z"}]}"#,
        br#"{"objects":[{"type":"indicator","pattern":"([url:value = 'http://a.example/\\'x'] OR [domain-name:value ISSUBSET 'x']) WITHIN 5 SECONDS"}]}"#,
    ];
    own.iter().map(|list| list.to_vec()).collect()
}
