use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use hyper::HeaderMap;

use super::*;
use crate::enrich::indicators::{Format, read_indicators};
use crate::enrich::watch::open;
use crate::net::http_client::Reach;
use crate::net::tls::{ClientTls, TlsClient};

const BYTES_MAX: u64 = 100_000;

/// A web server: what stands at each path, and what was asked of it.
#[derive(Default)]
struct Site {
    answers: HashMap<String, (String, Vec<u8>)>,
    asked: Vec<String>,
}

struct Server {
    port: u16,
    site: Arc<Mutex<Site>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), site: Arc::default() };
        let site = server.site.clone();
        std::thread::spawn(move || {
            let serve = |mut stream: TcpStream| {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let mut site = site.lock().unwrap();
                let is_known = |etag: &str| head.contains(&format!("if-none-match: {etag}"));
                let (status, etag, body) = match site.answers.get(&path) {
                    Some((etag, _)) if !etag.is_empty() && is_known(etag) => ("304 Not Modified", "", &b""[..]),
                    Some((etag, body)) => ("200 OK", etag.as_str(), &body[..]),
                    None => ("404 Not Found", "", &b""[..]),
                };
                let etag = if etag.is_empty() { String::new() } else { format!("etag: {etag}\r\n") };
                let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{etag}content-length: {}\r\n\r\n", body.len());
                let answer = [answer.as_bytes(), body].concat();
                site.asked.push(head);
                stream.write_all(&answer)
            };
            // Who has heard enough goes.
            listener.incoming().map_while(Result::ok).for_each(|stream| drop(serve(stream)));
        });
        server
    }

    fn put(&self, path: &str, etag: &str, body: impl Into<Vec<u8>>) {
        self.site.lock().unwrap().answers.insert(path.to_owned(), (etag.to_owned(), body.into()));
    }

    fn manifest(&self, etag: &str, events: &[(u32, &str)]) {
        let entry = |(number, rest): &(u32, &str)| format!("\"{}\": {{\"Orgc\": {{\"name\": \"O\"}}, {rest}}}", uuid(*number));
        let entries: Vec<String> = events.iter().map(entry).collect();
        self.put("/feed/manifest.json", etag, format!("{{{}}}", entries.join(",")));
    }

    fn event(&self, number: u32, attributes: &str) {
        let body = format!("{{\"Event\": {{\"info\": \"of the event\", \"Attribute\": [{attributes}], \"Object\": []}}}}");
        self.put(&format!("/feed/{}.json", uuid(number)), "", body);
    }

    /// The numbers of the events that were asked for, and forgets them; 0 stands for the manifest.
    fn asked(&self) -> Vec<u32> {
        let number = |head: String| head.split("-4000-8000-").nth(1).map_or(0, |rest| rest[..12].parse().unwrap());
        std::mem::take(&mut self.site.lock().unwrap().asked).into_iter().map(number).collect()
    }
}

fn uuid(number: u32) -> String {
    format!("5f0c0000-aaaa-4000-8000-{number:012}")
}

fn domain(name: &str) -> String {
    format!("{{\"type\": \"domain\", \"value\": \"{name}\", \"to_ids\": true, \"comment\": \"\", \"data\": \"AAAA\", \"Tag\": [{{}}]}}")
}

/// A list that is kept in a folder, as a feed does it.
struct List {
    folder: tempfile::TempDir,
    downloader: Downloader,
    known: Validators,
    events_max: usize,
    bytes_max: u64,
}

impl List {
    fn of(server: &Server) -> Self {
        Self::at(&format!("http://127.0.0.1:{}/feed/manifest.json", server.port))
    }

    fn at(address: &str) -> Self {
        let tls = ClientTls::load(&TlsClient { verify: false, ..TlsClient::default() }).unwrap();
        let reach = Reach { private: false, loopback: true };
        let downloader = Downloader::new(address.parse().unwrap(), HeaderMap::new(), tls, reach, BYTES_MAX);
        let folder = tempfile::tempdir().unwrap();
        Self { folder, downloader, known: Validators::default(), events_max: 100, bytes_max: BYTES_MAX }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("list")
    }

    /// Whether there is something new, and what is said of it.
    fn gather(&mut self) -> Result<(bool, String), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let feed = MispFeed { downloader: &self.downloader, events_max: self.events_max, bytes_max: self.bytes_max };
        let mut out = Vec::new();
        let old = open(&self.path(), BYTES_MAX).ok();
        let (downloaded, notes) = runtime.block_on(feed.gather(&self.known, old, &mut out)).map_err(|error| error.message)?;
        assert!(notes.0.iter().all(|note| note.file == Path::new(&Shown(self.downloader.uri()).to_string())), "{notes}");
        match downloaded {
            Downloaded::NotModified => Ok((false, notes.to_string())),
            Downloaded::Whole(known) => {
                self.known = known;
                std::fs::write(self.path(), &out).unwrap();
                Ok((true, notes.to_string()))
            }
        }
    }

    /// The indicators of the list with what they are about.
    fn indicators(&self) -> Vec<String> {
        let list = std::fs::read(self.path()).unwrap();
        let text = |found: Result<crate::enrich::indicators::Indicator, _>| {
            let indicator = found.unwrap();
            format!("{} {}", indicator.pattern, indicator.details.description.unwrap_or_default())
        };
        read_indicators(&Format::Misp, &list[..]).map(text).collect()
    }
}

#[test]
fn only_new_and_changed_events_are_fetched_and_those_that_are_gone_go() {
    let server = Server::start();
    server.manifest(
        "\"1\"",
        &[(1, "\"timestamp\": \"100\", \"info\": \"Emotet\""), (2, "\"timestamp\": 300"), (3, "\"timestamp\": \"200\"")],
    );
    server.event(
        1,
        &format!(
            "{}, {{\"type\": \"ip-dst\", \"value\": \"203.0.113.7\", \"to_ids\": \"1\", \"comment\": \"own\"}}",
            domain("one.example")
        ),
    );
    server.event(2, &domain("two.example"));
    server.event(3, &format!("{{\"type\": \"domain\", \"value\": \"no.example\", \"to_ids\": false}}, {}", domain("three.example")));
    let mut list = List::of(&server);
    let (is_new, notes) = list.gather().unwrap();
    assert!(is_new);
    assert!(notes.ends_with("manifest.json: warning: 1 attributes left out: not meant for detection (to_ids), or deleted"), "{notes}");
    assert_eq!(server.asked(), [0, 2, 3, 1], "the newest first");
    assert_eq!(list.indicators(), ["two.example ", "three.example ", "one.example Emotet", "203.0.113.7 own"]);
    assert!(!std::fs::read_to_string(list.path()).unwrap().contains("AAAA"), "only what is read is kept");

    assert_eq!(list.gather().unwrap(), (false, String::new()));
    assert_eq!(server.asked(), [0]);

    server.manifest(
        "\"2\"",
        &[(1, "\"timestamp\": \"400\", \"info\": \"Emotet\""), (3, "\"timestamp\": \"200\""), (4, "\"timestamp\": \"1\"")],
    );
    server.event(1, &domain("new.example"));
    server.event(4, &domain("four.example"));
    assert!(list.gather().unwrap().0);
    assert_eq!(server.asked(), [0, 1, 4], "the third has not changed");
    assert_eq!(list.indicators(), ["new.example Emotet", "three.example ", "four.example "]);
}

#[test]
fn an_event_that_cannot_be_had_stays_as_it_was_and_is_asked_for_again() {
    let server = Server::start();
    let old = [(1, "\"timestamp\": 9"), (2, "\"timestamp\": 8"), (3, "\"timestamp\": 7")];
    server.manifest("\"1\"", &old);
    (1..4).for_each(|number| server.event(number, &domain(&format!("old{number}.example"))));
    let mut list = List::of(&server);
    list.gather().unwrap();
    server.asked();
    let new = [(1, "\"timestamp\": 19"), (2, "\"timestamp\": 18"), (3, "\"timestamp\": 17"), (4, "\"timestamp\": 16")];
    server.manifest("\"2\"", &new);
    for bad in ["<!doctype html>", "", "{\"message\": \"not found\"}", "{\"Event\": {\"Attribute\": [", "{\"Event\": {\"Attribute\": []}}}"]
    {
        server.put(&format!("/feed/{}.json", uuid(1)), "", bad);
        server.event(2, &domain("new2.example"));
        server.site.lock().unwrap().answers.remove(&format!("/feed/{}.json", uuid(3)));
        let (_, notes) = list.gather().unwrap();
        assert!(notes.contains("3 events cannot be fetched and stay as they were; the last one: "), "{bad}: {notes}");
        assert_eq!(list.indicators(), ["old1.example ", "new2.example ", "old3.example "], "{bad}");
        assert_eq!(list.known, Validators::default(), "the manifest comes again");
    }
    server.asked();
    (1..5).for_each(|number| server.event(number, &domain(&format!("new{number}.example"))));
    assert_eq!(list.gather().unwrap(), (true, String::new()));
    assert_eq!(server.asked(), [0, 1, 3, 4]);
    assert_eq!(list.indicators().len(), 4);
    assert_ne!(list.known, Validators::default());
}

#[test]
fn a_server_that_fails_is_left_alone_after_a_few_events() {
    let server = Server::start();
    let events: Vec<(u32, String)> = (1..=20).map(|number| (number, format!("\"timestamp\": {}", 100 - number))).collect();
    server.manifest("", &events.iter().map(|(number, rest)| (*number, rest.as_str())).collect::<Vec<_>>());
    server.event(1, &domain("one.example"));
    let mut list = List::of(&server);
    let (_, notes) = list.gather().unwrap();
    assert!(notes.contains("5 events cannot be fetched") && notes.contains("14 events are left to the next time"), "{notes}");
    assert_eq!(server.asked(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(list.indicators(), ["one.example "]);
}

#[test]
fn number_and_size_have_bounds_and_the_newest_are_taken() {
    let server = Server::start();
    let events: Vec<(u32, String)> = (1..=9).map(|number| (number, format!("\"timestamp\": {number}"))).collect();
    server.manifest("", &events.iter().map(|(number, rest)| (*number, rest.as_str())).collect::<Vec<_>>());
    (1..=9).for_each(|number| server.event(number, &domain(&format!("e{number}.example"))));
    let mut list = List { events_max: 3, ..List::of(&server) };
    let (_, notes) = list.gather().unwrap();
    assert!(notes.contains("the 6 oldest events are left out\n  help: `max_events`"), "{notes}");
    assert_eq!(list.indicators(), ["e9.example ", "e8.example ", "e7.example "]);
    list = List { bytes_max: 500, ..List::of(&server) };
    let (_, notes) = list.gather().unwrap();
    assert!(notes.contains("oldest events are left out: more than 500 bytes\n  help: `max_size`"), "{notes}");
    assert_eq!(list.indicators()[0], "e9.example ");
    assert!(std::fs::metadata(list.path()).unwrap().len() <= 500);
    server.put(&format!("/feed/{}.json", uuid(9)), "", vec![b' '; 600]);
    std::fs::remove_file(list.path()).unwrap();
    let (_, notes) = list.gather().unwrap();
    assert!(notes.contains("1 events cannot be fetched") && notes.contains("more than 500 bytes"), "{notes}");
    assert_eq!(list.indicators()[0], "e8.example ");
}

#[test]
fn what_is_no_manifest_is_refused_and_no_name_of_an_event_leads_elsewhere() {
    let server = Server::start();
    let mut list = List::of(&server);
    assert!(list.gather().unwrap_err().contains("404 Not Found; has the list moved?"));
    for bad in ["<html>", "[]", "{\"a\": 1}", ""] {
        server.put("/feed/manifest.json", "", bad);
        let error = list.gather().unwrap_err();
        assert!(error.contains("/feed/manifest.json: this is no manifest of MISP, an object of events by UUID: "), "{bad}: {error}");
    }
    let entries = ["../../secret", "http://10.0.0.1/x", "5f0c0000-aaaa-4000-8000-00000000000g", "", "%2e%2e"];
    let entries: Vec<String> = entries.iter().map(|name| format!("\"{name}\": {{\"timestamp\": 1}}")).collect();
    let none = format!("\"{}\": {{\"timestamp\": \"yesterday\"}}", uuid(1));
    server.put("/feed/manifest.json", "", format!("{{{},{none}}}", entries.join(",")));
    server.asked();
    let (_, notes) = list.gather().unwrap();
    assert!(notes.contains("6 left out: no UUID, or no time, such as `"), "{notes}");
    assert_eq!(server.asked(), [0]);
}

#[test]
fn an_event_is_a_file_beside_the_manifest_with_the_same_query() {
    let at = |address: &str| beside(&address.parse().unwrap(), "u").map(|uri| uri.to_string());
    assert_eq!(at("https://h.example:8443/a/b/manifest.json?key=1").as_deref(), Some("https://h.example:8443/a/b/u.json?key=1"));
    assert_eq!(at("https://h.example/manifest.json").as_deref(), Some("https://h.example/u.json"));
    let mut list = List::at("http://10.0.0.1/feed/manifest.json");
    assert!(list.gather().unwrap_err().contains("this address is private, which is not allowed here"));
}
