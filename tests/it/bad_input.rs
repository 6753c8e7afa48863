//! Bad input, after incidents of other log shippers: each entry is answered as written, and a good event behind it
//! still arrives.
//!
//! | entry | incident | test |
//! |---|---|---|
//! | decompression bombs: gzip, zstd, many members, huge window | Vector #25819, CVE-2024-36129 | [`bombs_are_refused_in_bounded_memory`]; `net/inflate.rs`: `a_bomb_*`, `a_huge_zstd_window_is_refused`; `unwrap.rs`: `bombs_*` |
//! | frames without an end, octet count 999999999 | Vector #26129, CVE-2022-24903 | [`a_frame_without_end_is_cut_and_the_next_one_is_whole`]; `frame.rs` |
//! | PRI, version and length overflow | CVE-2022-38725, CVE-2014-3634 | [`numbers_of_a_header_that_overflow_are_text`] |
//! | `../`, NUL and other names from events in paths | CVE-2025-12972, Vector #25820 | [`a_path_never_leaves_its_folder_whatever_the_sender_says`]; `encode/key_template/tests.rs` |
//! | a template in an address | Vector #25886 | [`addresses_and_paths_of_the_configuration_that_are_refused`] |
//! | admin API and listeners open to everybody | OTel 0.104 | [`nothing_is_open_to_others_unless_it_says_so`]; `admin.rs`: `what_a_web_page_could_send_is_refused` |
//! | huge answers of a destination | CVE-2026-39882 | `net/http_client.rs`: `a_huge_answer_is_cut_and_its_connection_closed` |
//! | header floods | CVE-2026-29181 | [`header_floods_and_silent_clients_keep_nobody_out`]; `net/http_server.rs`: `header_floods_are_answered_with_431` |
//! | slow heads and bodies | hyper #3178 | `net/http_server.rs`: `slow_heads_and_bodies_are_cut_off_while_others_are_served`, `a_client_that_takes_no_answers_is_cut_off` |
//! | secrets in our own logs | CVE-2016-10362, CVE-2023-46672 | [`no_secret_is_logged`]; `admin.rs` (the plan shows none) |
//! | deep nesting | Vector #26099 | [`deep_nesting_stays_one_event`]; `json/tests.rs`: `nesting_and_collecting_are_bounded` |
//! | invalid UTF-8 | Vector #25582 | [`bytes_that_are_not_utf8_arrive_byte_for_byte`] |
//! | bad port, address, template | Vector #26083, #26180 | [`addresses_and_paths_of_the_configuration_that_are_refused`] |
//! | many senders, many partitions | | `decode/auto.rs`: `senders_are_remembered_up_to_a_bound`; `batch.rs`: `one_partition_too_many_seals_the_oldest` |
//! | line breaks, ANSI, NUL in a record; the tail of a long one | syslog-ng #375 | [`a_record_cannot_make_another_one`] |
//! | HEC data that is no HEC data | CVE-2021-3422 | Hydrant sends HEC and does not take it; answers that are none: `sink/splunk_hec.rs` |
//! | years 0 and 9999, leap seconds, December in January | | [`times_out_of_this_world_are_survived`]; `clock.rs`: `a_december_line_read_in_january_belongs_to_the_old_year` |
//! | forged alerts and tags | | [`nobody_else_writes_our_key`] |

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use hydrant::pipeline::plan::Plan;
use serde_json::Value;

use crate::client::send;
use crate::hec::{Hec, TOKEN, is_alert};
use crate::http::raw;
use crate::process::{Hydrant, eventually, free_port};

/// Longest frame here.
const FRAME_BYTES_MAX: usize = 64 * 1024;

const GOOD: &str = "<13>a good event";

/// A Hydrant with a syslog and an HTTP listener and one destination.
struct Instance {
    hydrant: Hydrant,
    hec: Hec,
    syslog: u16,
    http: u16,
}

impl Instance {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(arguments: &[&str]) -> Self {
        let (hec, syslog, http) = (Hec::start(), free_port(), free_port());
        let config = format!(
            "
data_dir: data
shards: 1
sources:
  net: {{ type: syslog, listen: \"127.0.0.1:{syslog}\", frame_bytes_max: 64KiB }}
  web: {{ type: http, listen: \"127.0.0.1:{http}\", auth: {{ token: tobekeptsecret }} }}
sinks:
  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}
",
            hec.port
        );
        Self { hydrant: Hydrant::run_with(arguments, &config), hec, syslog, http }
    }

    fn tcp(&self) -> TcpStream {
        eventually("the syslog listener", || TcpStream::connect(("127.0.0.1", self.syslog)).ok())
    }

    /// Sends over TCP and closes.
    fn send(&self, bytes: &[u8]) {
        self.tcp().write_all(bytes).unwrap();
    }

    /// Posts a body; the status of the answer.
    fn post(&self, headers: &[&str], body: &[u8]) -> u16 {
        let headers = [&["authorization: Bearer tobekeptsecret"], headers].concat();
        send(self.http, "POST /", &headers, body).status
    }

    /// Sends a good event and waits for all of `count` and it; the texts of what has arrived, sorted.
    fn texts(&self, count: usize) -> Vec<String> {
        self.send(format!("{GOOD}\n").as_bytes());
        let mut texts = raw(&self.hec, count + 1);
        let good = texts.iter().position(|text| text == GOOD).expect("the good event");
        texts.remove(good);
        assert_eq!(texts.len(), count, "nothing else: {texts:?}");
        texts
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bombs_are_refused_in_bounded_memory() {
    let instance = Instance::start();
    let (large, part) = (vec![b'x'; 80 << 20], vec![b'x'; 1 << 20]);
    // 3.75 TiB of window in nine bytes.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 1, 0, 0];
    for (encoding, body, status) in [
        ("gzip", gzip(&large), 413),
        ("gzip", gzip(&part).repeat(100), 413),
        ("gzip", gzip(b"").repeat(1 << 17), 400),
        ("zstd", zstd::bulk::compress(&large, 1).unwrap(), 413),
        ("zstd", zstd::bulk::compress(&part, 1).unwrap().repeat(100), 413),
        ("zstd", window.to_vec(), 400),
    ] {
        assert_eq!(instance.post(&[&format!("content-encoding: {encoding}")], &body), status, "{encoding} of {} bytes", body.len());
    }
    assert_eq!(instance.texts(0), [""; 0]);
    // One body of the largest size at a time, copied once as its buffer grows, and what the process takes by itself: 60 MB
    // unoptimised, most of it the program.
    assert!(instance.hydrant.peak_bytes() < 350 << 20, "{} bytes", instance.hydrant.peak_bytes());
}

#[test]
fn a_frame_without_end_is_cut_and_the_next_one_is_whole() {
    let instance = Instance::start();
    let long = "x".repeat(3 << 20);
    // Counted by our own framer, which reads a count above its limit as text.
    instance.send(format!("<13>{long}\n<13>next\n999999999 <13>{long}\n<13>last\n99999999999999999999 <13>z\n").as_bytes());
    let texts = instance.texts(5);
    let lengths: Vec<usize> = texts.iter().map(String::len).collect();
    assert_eq!(texts.iter().filter(|text| text.len() == FRAME_BYTES_MAX).count(), 2, "{lengths:?}");
    for whole in ["<13>next", "<13>last", "99999999999999999999 <13>z"] {
        assert!(texts.iter().any(|text| text == whole), "{whole}: {lengths:?}");
    }
    assert!(instance.hydrant.peak_bytes() < 200 << 20, "{} bytes", instance.hydrant.peak_bytes());
}

#[test]
fn numbers_of_a_header_that_overflow_are_text() {
    let instance = Instance::start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    drop(instance.tcp());
    let version = format!("<13>{} - - - - - -", "1".repeat(5000));
    let frames = [
        "<444444444444444444444444>x",
        "<999>1 - - - - - -",
        "<-1>x",
        "<13",
        "<",
        "<191>1 - - - - - [a b=\"",
        "<13>2147483648 - -",
        &version,
    ];
    for frame in frames {
        socket.send_to(frame.as_bytes(), ("127.0.0.1", instance.syslog)).unwrap();
    }
    let mut expected: Vec<String> = frames.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(instance.texts(frames.len()), expected);
    let state = instance.hec.state.lock().unwrap();
    let overflow = state.events.iter().find(|event| event.to_string().contains("<4444")).unwrap();
    assert!(overflow["fields"].get("log.syslog.priority").is_none(), "{overflow}");
}

#[test]
fn a_path_never_leaves_its_folder_whatever_the_sender_says() {
    let port = free_port();
    let hydrant = Hydrant::run(
        &format!(
            "
data_dir: data
shards: 1
sources:
  net: {{ type: syslog, listen: \"tcp://127.0.0.1:{port}\", decoder: syslog }}
sinks:
  files: {{ type: file, path: \"out/by-host/!{{field:host.hostname}}/x.log\", format: text, buffer: {{ interval: 50ms }} }}
"
        ),
        &[],
    );
    let hosts =
        ["..", ".", "../..", "../../evil", "/etc/cron.d", "a/../../../b", "a\0b", "%2e%2e", "\u{2024}\u{2024}", "..\u{2044}x", "good"];
    let mut stream = eventually("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
    for host in hosts {
        stream.write_all(format!("<13>1 2026-11-21T08:00:00Z {host} app - - - m\n").as_bytes()).unwrap();
    }
    drop(stream);
    let folder = hydrant.folder().join("out/by-host");
    let found = eventually("a file of each host", || {
        let mut names: Vec<String> =
            std::fs::read_dir(&folder).ok()?.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let is_written = |name: &String| std::fs::read(folder.join(name).join("x.log")).is_ok_and(|bytes| bytes.ends_with(b"m\n"));
        names.sort();
        (names.len() == hosts.len() && names.iter().all(is_written)).then_some(names)
    });
    assert!(found.contains(&"good".to_owned()), "{found:?}");
    assert!(found.iter().all(|name| !name.starts_with('.') && !name.contains('\0')), "{found:?}");
    let mut beside: Vec<_> = std::fs::read_dir(hydrant.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    beside.sort();
    assert_eq!(beside, ["data", "hydrant.yaml", "out"]);
    assert_eq!(std::fs::read_dir(hydrant.folder().join("out")).unwrap().count(), 1);
    assert!(hydrant.stop());
}

/// What is said about a configuration with this source and this sink.
fn said(source: &str, sink: &str, more: &str) -> String {
    let text = format!("sources:\n  in: {source}\nsinks:\n  out: {sink}\n{more}");
    Plan::read(Path::new("hydrant.yaml"), &text).map(|plan| plan.warnings.to_string()).unwrap_or_else(|mistakes| mistakes.to_string())
}

#[test]
fn addresses_and_paths_of_the_configuration_that_are_refused() {
    let syslog = "{ type: syslog, listen: \"127.0.0.1:5514\" }";
    let stdout = "{ type: stdout }";
    for listen in ["127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:", ":5514", "[::1", "127.0.0.1:5514:1", "tcp://", "\\0", "localhost"] {
        let said = said(&format!("{{ type: syslog, listen: \"{listen}\" }}"), stdout, "");
        assert!(said.starts_with("hydrant.yaml:2:") && said.contains(": error: sources.in.listen: "), "{listen}: {said}");
    }
    for endpoint in
        ["https://!{field:host.hostname}:8088", "https://a:99999", "https://", "/only/a/path", "https://a b", "", "https://[::1"]
    {
        let said = said(syslog, &format!("{{ type: splunk_hec, endpoint: \"{endpoint}\", token: x }}"), "");
        assert!(said.starts_with("hydrant.yaml:4:") && said.contains(": error: sinks.out.endpoint: "), "{endpoint}: {said}");
    }
    for path in [
        "!{field:a}",
        "!{field:a}/x",
        "/!{field:a}",
        "../!{field:a}",
        "out/../!{field:a}",
        "out/!{",
        "out/!{nothing:x}",
        "out/!{field:}",
        "out/..",
    ] {
        let said = said(syslog, &format!("{{ type: file, path: \"{path}\" }}"), "");
        assert!(said.starts_with("hydrant.yaml:4:") && said.contains(": error: sinks.out.path: "), "{path}: {said}");
    }
    assert_eq!(said(syslog, "{ type: file, path: \"out/!{field:host.hostname}.log\" }", ""), "");
}

#[test]
fn nothing_is_open_to_others_unless_it_says_so() {
    let stdout = "{ type: stdout }";
    let said_of_admin = said("{ type: syslog, listen: \"127.0.0.1:5514\" }", stdout, "admin: 0.0.0.0:8686\n");
    assert!(said_of_admin.starts_with("hydrant.yaml:5:8: error: admin: the admin API has no authentication"), "{said_of_admin}");
    let said_of_http = said("{ type: http, listen: \"0.0.0.0:8080\" }", stdout, "");
    assert!(said_of_http.contains("sources.in") && said_of_http.contains("auth"), "{said_of_http}");
}

#[test]
fn header_floods_and_silent_clients_keep_nobody_out() {
    let instance = Instance::start();
    assert_eq!(instance.post(&[], b"first"), 200);
    // They say nothing, or begin and go no further, and stay.
    let silent: Vec<TcpStream> = (0..50)
        .map(|number| {
            let mut stream = TcpStream::connect(("127.0.0.1", instance.http)).unwrap();
            stream.write_all(&b"POST / HTTP/1.1\r\nhost: x\r\nx: "[..number % 30]).unwrap();
            stream
        })
        .collect();
    let silent_tcp: Vec<TcpStream> = (0..50).map(|_| instance.tcp()).collect();
    let many = "x-a: b\r\n".repeat(200);
    let long = format!("x-a: {}\r\n", "b".repeat(100_000));
    for head in [many, long] {
        let mut stream = TcpStream::connect(("127.0.0.1", instance.http)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        // It may close before it has read all.
        let _ = stream.write_all(format!("POST / HTTP/1.1\r\nhost: x\r\n{head}content-length: 0\r\n\r\n").as_bytes());
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    assert_eq!(instance.post(&[], b"second"), 200);
    assert_eq!(instance.texts(2), ["first", "second"]);
    drop((silent, silent_tcp));
}

#[test]
fn no_secret_is_logged() {
    let instance = Instance::start_with(&["--log", "trace"]);
    assert_eq!(instance.post(&[], b"an event"), 200);
    assert_eq!(send(instance.http, "POST /", &["authorization: Bearer wrongbutsecrettoo"], b"x").status, 401);
    instance.hec.state.lock().unwrap().faults.push((403, "{\"text\":\"Invalid token\",\"code\":4}".into()));
    assert_eq!(instance.post(&[], b"another event"), 200);
    eventually("the refusal in the log", || instance.hydrant.log().contains("403").then_some(()));
    let log = instance.hydrant.log();
    assert!(log.contains("TRACE"), "it is logged in detail: {log}");
    for secret in [TOKEN, "tobekeptsecret", "wrongbutsecrettoo"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}

#[test]
fn deep_nesting_stays_one_event() {
    let instance = Instance::start();
    let lists = format!("{{\"a\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(8_000), "}".repeat(8_000));
    let open = "{\"a\":".repeat(10_000);
    for body in [&lists, &objects, &open] {
        assert_eq!(instance.post(&["content-type: application/json"], body.as_bytes()), 200);
    }
    instance.send(format!("<13>{lists}\n").as_bytes());
    let mut expected = vec![lists.clone(), objects, open, format!("<13>{lists}")];
    expected.sort();
    assert!(instance.texts(4) == expected, "each arrives as it came");
}

#[test]
fn bytes_that_are_not_utf8_arrive_byte_for_byte() {
    let instance = Instance::start();
    // Overlong, a surrogate, beyond the last character, cut, and bytes that never occur.
    let frames: [&[u8]; 6] =
        [b"<13>a\xc0\xafb", b"<13>\xed\xa0\x80", b"<13>\xf4\x90\x80\x80", b"<13>\xe2\x82", b"\xff\xfe\xfd", b"{\"a\":\"\xff\",\"b\":1}"];
    instance.send(&frames.join(&b'\n'));
    instance.texts(frames.len());
    let state = instance.hec.state.lock().unwrap();
    let mut found: Vec<Vec<u8>> =
        state.events.iter().filter_map(|event| Some(STANDARD.decode(event["event"]["hydrant"]["raw_base64"].as_str()?).unwrap())).collect();
    found.sort();
    let mut expected = frames.map(<[u8]>::to_vec).to_vec();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_record_cannot_make_another_one() {
    let port = free_port();
    let hydrant = Hydrant::run(
        &format!(
            "
data_dir: data
shards: 1
sources:
  net: {{ type: syslog, listen: \"tcp://127.0.0.1:{port}\" }}
sinks:
  text: {{ type: file, path: out/text.log, format: text, buffer: {{ interval: 50ms }} }}
  raw: {{ type: file, path: out/raw.ndjson, buffer: {{ interval: 50ms }} }}
  json: {{ type: file, path: out/json.ndjson, form: json, keep_raw: true, buffer: {{ interval: 50ms }} }}
"
        ),
        &[],
    );
    let mut stream = eventually("the listener", || TcpStream::connect(("127.0.0.1", port)).ok());
    // Octet-counted, so that line breaks are part of the record.
    let records = [
        "<13>Nov 21 08:00:00 host app: user=x\n<9>Nov 21 08:00:00 host sshd: Accepted password for root",
        "<13>1 - - - - - - a\r\nb\rc",
        "<13>\u{1b}[2Kcleared\u{7}\0nul",
        "<13>{\"a\":\"x\\\"y\nz\",\"b\":{\n\"c\":[1,\n2]}}",
        "<13>{\"a\":\"\u{2028}\u{85}\"}",
        "<13>last",
    ];
    for record in records {
        stream.write_all(format!("{} {record}", record.len()).as_bytes()).unwrap();
    }
    drop(stream);
    let mut expected = records.map(str::to_owned).to_vec();
    expected.sort();
    let lines = |name: &str| {
        eventually("every record", || {
            let text = std::fs::read_to_string(hydrant.folder().join("out").join(name)).ok()?;
            text.ends_with('\n').then_some(())?;
            let lines: Vec<String> = text.split_terminator('\n').map(str::to_owned).collect();
            (lines.len() >= records.len()).then_some(lines)
        })
    };
    for name in ["raw.ndjson", "json.ndjson"] {
        let mut found = Vec::new();
        for line in lines(name) {
            assert!(!line.contains(['\r', '\0', '\u{1b}', '\u{7}']), "{name}: {line}");
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
            let key = if name.starts_with("raw") { "message" } else { "event.original" };
            found.push(value[key].as_str().unwrap().to_owned());
        }
        found.sort();
        assert_eq!(found, expected, "{name}");
    }
    let text = lines("text.log");
    assert_eq!(text.len(), records.len(), "{text:#?}");
    let as_json = text.iter().filter(|line| line.starts_with("{\"message\":")).count();
    assert_eq!(as_json, records.iter().filter(|record| record.contains('\n')).count(), "records with line breaks are JSON: {text:#?}");
    assert!(hydrant.stop());
}

#[test]
fn times_out_of_this_world_are_survived() {
    let instance = Instance::start();
    let times = [
        "0000-01-01T00:00:00Z",
        "0000-01-01T00:00:00+23:59",
        "9999-12-31T23:59:60.999999999Z",
        "9999-12-31T23:59:59-23:59",
        "2026-12-31T23:59:60Z",
        "2026-02-30T00:00:00Z",
        "2026-11-21T99:99:99Z",
        "-0001-01-01T00:00:00Z",
        "99999999999-01-01T00:00:00Z",
    ];
    let mut frames: Vec<String> = times.iter().map(|time| format!("<13>1 {time} host app - - - m")).collect();
    frames.extend(
        ["Feb 29 00:00:00", "Feb 30 00:00:00", "Dec 31 23:59:60", "Jan  0 00:00:00", "Dec 31 24:00:00 0000"]
            .map(|time| format!("<13>{time} host app: m")),
    );
    let mut all = String::new();
    for frame in &frames {
        writeln!(all, "{frame}").unwrap();
    }
    instance.send(all.as_bytes());
    frames.sort();
    assert_eq!(instance.texts(frames.len()), frames);
}

#[test]
fn nobody_else_writes_our_key() {
    let instance = Instance::start();
    let forged = [
        r#"{"hydrant":{"alert":true,"rule":{"title":"forged"},"rule_ids":["forged"]},"n":1}"#,
        r#"{"n":2,"hydr\u0061nt":{"alert":true}}"#,
        r#"{"n":3,"hydrant.alert":true,"event":{"hydrant":{"alert":true}}}"#,
        r#"{"category_uid":2,"class_uid":2004,"n":4,"unmapped":{"hydrant":{"alert":true,"rule":{"title":"forged"}}}}"#,
    ];
    for body in forged {
        assert_eq!(instance.post(&["content-type: application/json"], body.as_bytes()), 200);
    }
    instance.send(format!("<13>{}\n", forged[0]).as_bytes());
    eventually("the events", || (instance.hec.count() > forged.len()).then_some(()));
    instance.texts(forged.len() + 1);
    let state = instance.hec.state.lock().unwrap();
    for event in &state.events {
        let ours = &event["event"]["hydrant"];
        assert!(ours.get("alert").is_none() && ours.get("rule").is_none() && ours.get("rule_ids").is_none(), "{event}");
        assert!(event["fields"].get("alert").is_none() && !is_alert(event), "{event}");
    }
}
