//! The `http` source over real sockets.

use std::io::Write as _;

use crate::client::send;
use crate::hec::{Hec, TOKEN};
use crate::process::{Hydrant, eventually, free_port};

fn start(hec: &Hec, top: &str, source: &str) -> (Hydrant, u16) {
    let port = free_port();
    let config = format!(
        "
data_dir: data
shards: 2
{top}
sources:
  in: {{ type: http, listen: \"127.0.0.1:{port}\" {source} }}
sinks:
  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}
",
        hec.port
    );
    (Hydrant::run(&config, &[]), port)
}

/// The raw events that have arrived, sorted: what is said about them taken off.
pub(crate) fn raw(hec: &Hec, count: usize) -> Vec<String> {
    eventually("the events", || (hec.count() >= count).then_some(()));
    let state = hec.state.lock().unwrap();
    let text = |event: &serde_json::Value| {
        let mut event = event["event"].clone();
        event.as_object_mut().map(|object| object.remove("hydrant"));
        event.as_str().or_else(|| event["message"].as_str()).map_or_else(|| event.to_string(), str::to_owned)
    };
    let mut events: Vec<String> = state.events.iter().map(text).collect();
    events.sort();
    events
}

/// Lines that do not compress well, so that a small budget is soon full.
pub(crate) fn noise(count: usize, words: usize) -> Vec<String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:x}", state >> 32)
    };
    (0..count).map(|_| (0..words).map(&mut word).collect::<String>()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bodies_of_every_type_and_encoding_become_events() {
    let hec = Hec::start();
    let (hydrant, port) = start(&hec, "", "");
    let json = "content-type: application/json";
    let zstd = zstd::bulk::compress(b"{\"n\":7}", 1).unwrap();
    let requests: [(&str, &[&str], Vec<u8>); 9] = [
        ("POST /", &[json], b"[{\"n\":1}, {\"n\":2}]".to_vec()),
        ("PUT /any/path?x=y", &["content-type: application/x-ndjson"], b"{\"n\":3}\n\n{\"n\":4}\n".to_vec()),
        ("POST /", &["content-type: text/plain"], b"line one\r\nline two".to_vec()),
        ("POST /", &["content-type: application/x-www-form-urlencoded"], b"{\"n\":5}{\"n\":6}".to_vec()),
        ("POST /", &[json, "content-encoding: zstd"], zstd),
        ("POST /", &[json, "content-encoding: gzip"], [gzip(b"{\"n\":"), gzip(b"8}")].concat()),
        ("POST /", &[json, "content-encoding: deflate"], zlib(b"{\"n\":9}")),
        ("POST /", &[json], b"{\"broken\": ".to_vec()),
        ("POST /", &[], Vec::new()),
    ];
    for (line, headers, body) in requests {
        let answer = send(port, line, headers, &body);
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{line} {headers:?}");
        assert_eq!((answer.header("access-control-allow-origin"), answer.header("transfer-encoding")), (None, None));
    }
    let events = raw(&hec, 12);
    let mut expected: Vec<String> = (1..10).map(|n| format!("{{\"n\":{n}}}")).collect();
    expected.extend(["line one", "line two", "{\"broken\": "].map(str::to_owned));
    expected.sort();
    assert_eq!(events, expected);
    assert!(hydrant.stop());
}

#[test]
fn framing_in_the_configuration_overrides_the_content_type() {
    let hec = Hec::start();
    let (_hydrant, port) = start(&hec, "", ", framing: whole");
    assert_eq!(send(port, "POST /", &["content-type: text/plain"], b"two\nlines").status, 200);
    assert_eq!(raw(&hec, 1), ["two\nlines"]);
}

#[test]
fn envelopes_come_off_if_the_configuration_asks() {
    let hec = Hec::start();
    let (_hydrant, port) = start(&hec, "", ", unwrap: [compressed, cloudwatch_logs]");
    let envelope = br#"{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s","logEvents":[
        {"id":"1","timestamp":1700000000123,"message":"a\nb"},{"id":"2","timestamp":1700000000124,"message":"c"}]}"#;
    assert_eq!(send(port, "POST /", &[], &gzip(envelope)).status, 200);
    assert_eq!(raw(&hec, 2), ["a\nb", "c"]);
    let state = hec.state.lock().unwrap();
    assert_eq!(state.events[0]["time"].to_string(), "1700000000.123", "the envelope's time is the event's");
}

#[test]
fn requests_that_cannot_be_taken_say_why() {
    let hec = Hec::start();
    let (_hydrant, port) = start(&hec, "", ", path: /logs, auth: { token: abc }, body_bytes_max: 100KB");
    let auth = "authorization: Bearer abc";
    let bomb = gzip(&vec![b'x'; 1_000_000]);
    let mut cut = gzip(b"some text that is long enough");
    cut.truncate(20);
    let long = vec![b'x'; 100_001];
    let cases: [(&str, &[&str], &[u8], u16); 12] = [
        ("POST /logs", &[], b"x", 401),
        ("POST /logs", &["authorization: Bearer abd"], b"x", 401),
        ("GET /logs", &[auth], b"", 405),
        ("OPTIONS /logs", &[auth], b"", 405),
        ("POST /other", &[auth], b"x", 404),
        ("POST /logs", &[auth], &long, 413),
        ("POST /logs", &[auth, "content-encoding: gzip"], &bomb, 413),
        ("POST /logs", &[auth, "content-encoding: br"], b"x", 415),
        ("POST /logs", &[auth, "content-encoding: gzip", "content-encoding: gzip"], b"x", 415),
        ("POST /logs", &[auth, "content-type: multipart/form-data"], b"x", 415),
        ("POST /logs", &[auth, "content-encoding: gzip"], &cut, 400),
        ("POST /logs", &[auth], b"taken", 200),
    ];
    for (line, headers, body, status) in cases {
        let answer = send(port, line, headers, body);
        assert_eq!(answer.status, status, "{line} {headers:?} {answer:?}");
        match status {
            401 => assert!(answer.header("www-authenticate").unwrap().starts_with("bearer")),
            405 => assert_eq!(answer.header("allow"), Some("post, put")),
            _ => {}
        }
        assert_eq!(answer.body.is_empty(), status == 200, "a refusal has a reason");
    }
    assert_eq!(raw(&hec, 1), ["taken"], "nothing of a refused request is taken");
}

#[test]
fn without_room_requests_are_refused_and_what_was_accepted_arrives() {
    let hec = Hec::start();
    hec.state.lock().unwrap().faults = (0..100_000).map(|_| (503, r#"{"text":"Server is busy","code":9}"#.to_owned())).collect();
    let (hydrant, port) = start(&hec, "memory: 4MiB\njournal: { type: memory }", "");
    let body = noise(2000, 50).join("\n").into_bytes();
    let mut accepted = 0;
    let refused = loop {
        let answer = send(port, "POST /", &["content-type: text/plain"], &body);
        if answer.status != 200 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 10_000, "the budget must end");
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert!(accepted > 0);
    hec.state.lock().unwrap().faults.clear();
    eventually("room again", || (send(port, "POST /", &["content-type: text/plain"], &body).status == 200).then_some(()));
    assert!(hydrant.stop());
    assert_eq!(hec.count(), (accepted + 1) * 2000);
}

#[test]
fn a_large_body_is_cut_into_chunks_and_nothing_is_lost() {
    let hec = Hec::start();
    let (hydrant, port) = start(&hec, "", "");
    let body: Vec<u8> = (0..40_000).flat_map(|n| format!("event {n:06} {}\n", "x".repeat(n % 80)).into_bytes()).collect();
    assert!(body.len() > 2_000_000);
    assert_eq!(send(port, "POST /", &["content-type: text/plain"], &body).status, 200);
    let events = raw(&hec, 40_000);
    assert!(hydrant.stop());
    let mut expected: Vec<&str> = std::str::from_utf8(&body).unwrap().lines().collect();
    expected.sort_unstable();
    assert!(events == expected, "every line once");
}
