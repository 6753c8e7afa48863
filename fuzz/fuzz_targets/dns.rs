//! Answers of name servers, whatever a stranger sends: reading ends, nothing panics, an answer is to the question, and a name is
//! that of a host.
#![no_main]

use hydrant::net::dns::{Reading, Reply, read_names, read_v4, read_v6};
use hydrant_fuzz::seed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seed(seeds()), |input: &[u8]| {
    for kind in [12, 1, 28] {
        let query = query(kind);
        // As it came, and as if its sender knew what was asked.
        let mut known = input.to_vec();
        if known.len() >= query.len() {
            known[..2].copy_from_slice(&query[..2]);
            known[2] |= 0x80;
            known[4..6].copy_from_slice(&query[4..6]);
            known[12..query.len()].copy_from_slice(&query[12..]);
        }
        for message in [input, &known] {
            if let Reading::Whole(Ok(Reply::Records(names, _))) = read_names(&query, message) {
                assert!(!names.is_empty() && names.is_sorted() && message.starts_with(&query[..2]));
                names.iter().for_each(|name| check(name));
            }
            for reading in [read_v4(&query, message), read_v6(&query, message)] {
                assert!(!matches!(reading, Reading::Whole(Ok(Reply::Unusable(_)))));
            }
        }
    }
});

fn check(name: &str) {
    assert!(!name.is_empty() && name.len() <= 253 && name.parse::<std::net::IpAddr>().is_err(), "{name:?}");
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    assert!(name.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(is_part)), "{name:?}");
}

/// A question of this type about 192.0.2.7.
fn query(kind: u8) -> Vec<u8> {
    [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x017\x012\x010\x03192\x07in-addr\x04arpa\x00", &[0, kind, 0, 1]].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let answer = |flags: [u8; 2], counts: [u8; 6], records: &[u8]| {
        let query = query(12);
        [&query[..2], &flags, &[0, 1], &counts, &query[12..], records].concat()
    };
    let ptr = b"\xc0\x0c\x00\x0c\x00\x01\x00\x00\x01\x2c\x00\x0b\x01a\x07example\x00";
    let alias =
        b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x01\x2c\x00\x04\x01b\xc0\x0c\x01b\xc0\x0c\x00\x0c\x00\x01\x00\x00\x01\x2c\x00\x02\xc0\x13";
    let soa = b"\xc0\x13\x00\x06\x00\x01\x00\x00\x02\x58\x00\x18\xc0\x0c\xc0\x0c\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x5a";
    let a = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\xc0\x00\x02\x07";
    vec![
        answer([0x81, 0x80], [0, 1, 0, 0, 0, 0], ptr),
        answer([0x81, 0x80], [0, 2, 0, 0, 0, 0], alias),
        answer([0x81, 0x83], [0, 0, 0, 1, 0, 0], soa),
        answer([0x81, 0x80], [0, 1, 0, 0, 0, 0], a),
        answer([0x83, 0x80], [0, 0, 0, 0, 0, 0], b""),
    ]
}
