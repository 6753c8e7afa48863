use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::enrich::testing::{filled, read};
use crate::event::{Sender as EventSender, Span};

/// A name server: what it says of a name that is asked for, as the data of a record, `None` for NXDOMAIN.
struct Server {
    port: u16,
    asked: Arc<AtomicUsize>,
    is_silent: Arc<AtomicBool>,
}

impl Server {
    fn start(zone: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = Self { port: socket.local_addr().unwrap().port(), asked: Arc::default(), is_silent: Arc::default() };
        let (asked, is_silent) = (server.asked.clone(), server.is_silent.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
                asked.fetch_add(1, Ordering::SeqCst);
                if is_silent.load(Ordering::SeqCst) {
                    continue;
                }
                let query = &buffer[..len];
                let kind = query[len - 3];
                let data = zone(&text(&query[12..]));
                let record = data.map(|data| [&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 9, 0, data.len() as u8][..], &data].concat());
                let flags = if record.is_some() { [0x81, 0x80, 0, 1, 0, 1] } else { [0x81, 0x83, 0, 1, 0, 0] };
                let answer = [&query[..2], &flags, &[0; 4], &query[12..], &record.unwrap_or_default()].concat();
                socket.send_to(&answer, peer).unwrap();
            }
        });
        server
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn config(&self, more: &str) -> String {
        format!("type: reverse_dns\nfield: source.ip\ninto: source.domain\nservers: ['127.0.0.1:{}']\n{more}", self.port)
    }

    fn open(&self, more: &str) -> Box<dyn Enricher> {
        let enricher = read(&ReverseDns, &self.config(more), Path::new(".")).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        assert!(matches!(enricher.refresh(), Refresh::Unchanged));
        enricher
    }
}

/// The text of a name on the wire.
fn text(mut wire: &[u8]) -> String {
    let mut labels = Vec::new();
    while wire[0] > 0 {
        let (label, rest) = wire[1..].split_at(usize::from(wire[0]));
        labels.push(String::from_utf8(label.to_vec()).unwrap());
        wire = rest;
    }
    labels.join(".")
}

fn wire(name: &str) -> Option<Vec<u8>> {
    Some([name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect(), vec![0]].concat())
}

fn names(enricher: &dyn Enricher, addresses: &[&str]) -> Vec<String> {
    filled(enricher, "source.ip", addresses, &["source.domain"]).concat()
}

/// Looks until the names are these.
fn eventually(enricher: &dyn Enricher, addresses: &[&str], expected: &[&str]) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let found = names(enricher, addresses);
        if found == expected {
            return;
        }
        assert!(Instant::now() < end, "{found:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn count(registry: &Registry, family: &'static metrics::Family, label: &str) -> u64 {
    let is_it = |labels: &[(&str, String)]| labels.iter().any(|(_, value)| value == label);
    registry.list(family).into_iter().filter(|(labels, _)| is_it(labels)).map(|(_, value)| value).sum()
}

#[test]
fn the_first_event_has_no_name_and_those_to_come_have_it_after_one_question() {
    let server = Server::start(|name| match name {
        "7.2.0.192.in-addr.arpa" => wire("Mail.example"),
        "8.2.0.192.in-addr.arpa" => wire("not a host"),
        _ => None,
    });
    let enricher = server.open("");
    let registry = Registry::default();
    enricher.observe(&registry, "names");
    assert_eq!(server.asked(), 0, "a plan asks nobody");
    let addresses = ["192.0.2.7", "192.0.2.8", "192.0.2.9", "::ffff:192.0.2.7", "host", "10.0.0.7", "127.0.0.1", "169.254.169.254"];
    assert_eq!(names(&*enricher, &addresses), ["-"; 8]);
    eventually(&*enricher, &addresses, &["mail.example", "-", "-", "mail.example", "-", "-", "-", "-"]);
    let end = Instant::now() + Duration::from_secs(20);
    while count(&registry, &metrics::REVERSE_DNS_CACHED, "names") < 3 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    names(&*enricher, &addresses);
    assert_eq!(server.asked(), 3, "each address once, none of them private");
    for (label, expected) in [("name", 1), ("no_name", 1), ("not_a_host", 1), ("dropped", 0), ("timeout", 0)] {
        assert_eq!(count(&registry, &metrics::REVERSE_DNS_QUESTIONS, label), expected, "{label}");
    }
    for label in ["name", "no_name", "unknown", "private"] {
        assert!(count(&registry, &metrics::REVERSE_DNS_LOOKUPS, label) > 0, "{label}");
    }
}

#[test]
fn private_addresses_are_asked_for_where_that_is_said_and_link_local_ones_never() {
    let server = Server::start(|_| wire("inside.example"));
    let enricher = server.open("private: true\n");
    let addresses = ["10.0.0.7", "fd00::7", "127.0.0.1", "169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0"];
    eventually(&*enricher, &addresses, &["inside.example", "inside.example", "inside.example", "-", "-", "-", "-"]);
    assert_eq!(server.asked(), 3);
}

#[test]
fn a_name_that_is_to_be_verified_counts_only_if_it_has_the_address() {
    let server = Server::start(|name| match name {
        "7.2.0.192.in-addr.arpa" => wire("good.example"),
        "good.example" => Some(vec![192, 0, 2, 7]),
        "8.2.0.192.in-addr.arpa" => wire("www.bank.example"),
        "www.bank.example" => Some(vec![198, 51, 100, 1]),
        "9.2.0.192.in-addr.arpa" => wire("nowhere.example"),
        _ => None,
    });
    let enricher = server.open("verify: true\n");
    let registry = Registry::default();
    enricher.observe(&registry, "names");
    eventually(&*enricher, &["192.0.2.7", "192.0.2.8", "192.0.2.9"], &["good.example", "-", "-"]);
    let end = Instant::now() + Duration::from_secs(20);
    while count(&registry, &metrics::REVERSE_DNS_QUESTIONS, "not_confirmed") < 2 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.asked(), 6);
    eventually(&*server.open(""), &["192.0.2.8"], &["www.bank.example"]);
}

/// A chunk of so many events, each with another address, and how long they took.
fn flood(bound: &mut dyn Bound, fields: &Fields, first: u32, count: u32) -> Duration {
    let text: Vec<String> = (first..first + count).map(|n| std::net::Ipv4Addr::from_bits(0x0800_0000 + n).to_string()).collect();
    let mut spans = Vec::new();
    let mut bytes = Vec::new();
    for address in &text {
        spans.push(Span::new(bytes.len(), bytes.len() + address.len()));
        bytes.extend_from_slice(address.as_bytes());
    }
    let sender = Arc::new(EventSender { source: "t".into(), source_index: 0 });
    let chunk = Chunk::new(bytes, spans.clone(), sender, 0);
    let mut events = Events::default();
    events.reset(&chunk, fields.width());
    let slot = fields.find("source.ip").unwrap();
    spans.iter().enumerate().for_each(|(row, span)| events.row_mut(&chunk, row).set_text(slot, *span));
    let began = Instant::now();
    bound.enrich(&chunk, 0..spans.len(), &mut events);
    began.elapsed()
}

#[test]
fn a_silent_server_costs_events_nothing_and_the_queue_has_an_end() {
    let server = Server::start(|_| wire("a.example"));
    server.is_silent.store(true, Ordering::SeqCst);
    let enricher = server.open("timeout: 30s\nmax_in_flight: 2\n");
    let registry = Registry::default();
    enricher.observe(&registry, "names");
    let mut fields = Fields::default();
    fields.slot("source.ip");
    fields.slot("source.domain");
    let mut bound = enricher.bind(&fields);
    let began = Instant::now();
    let longest = (0..50).map(|chunk| flood(&mut *bound, &fields, chunk * 1000, 1000)).max().unwrap();
    // Three questions would take a minute and a half.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}, {longest:?} the longest chunk", began.elapsed());
    let dropped = count(&registry, &metrics::REVERSE_DNS_QUESTIONS, "dropped");
    assert!((50_000 - QUEUE as u64 - 4..=50_000 - QUEUE as u64).contains(&dropped), "{dropped}");
    assert_eq!(count(&registry, &metrics::REVERSE_DNS_LOOKUPS, "unknown"), 50_000);
    assert!(server.asked() <= 2, "{} at a time", server.asked());
}

#[test]
fn a_flood_of_addresses_is_no_flood_of_questions() {
    let server = Server::start(|_| wire("a.example"));
    let enricher = server.open("max_per_second: 10\n");
    let mut fields = Fields::default();
    fields.slot("source.ip");
    fields.slot("source.domain");
    let began = Instant::now();
    flood(&mut *enricher.bind(&fields), &fields, 0, 1000);
    while server.asked() < 8 {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    let elapsed = began.elapsed();
    // The first one, and the burst's.
    assert!(server.asked() as f64 <= elapsed.as_secs_f64() * 10.0 + 2.0, "{} in {elapsed:?}", server.asked());
    assert!(elapsed > Duration::from_millis(500), "{elapsed:?}");
}

#[test]
fn a_server_that_is_back_is_asked_again_and_a_reload_keeps_what_is_known() {
    let server = Server::start(|_| wire("a.example"));
    let enricher = server.open("");
    eventually(&*enricher, &["192.0.2.7"], &["a.example"]);
    server.is_silent.store(true, Ordering::SeqCst);
    let same = server.open("");
    let other = server.open("private: true\nttl_min: 2m\n");
    drop(enricher);
    assert_eq!(names(&*same, &["192.0.2.7"]), ["a.example"], "the plan before knew it");
    assert_eq!(names(&*other, &["192.0.2.7"]), ["-"], "another section is another memory");
    assert_eq!(names(&*same, &["192.0.2.8"]), ["-"]);
    server.is_silent.store(false, Ordering::SeqCst);
    eventually(&*same, &["192.0.2.8"], &["a.example"]);
}

#[test]
fn every_mistake_of_the_section_is_named() {
    let mistakes = |config: &str| read(&ReverseDns, config, Path::new(".")).err().map(|d| d.to_string()).unwrap_or_default();
    let text = mistakes(
        "type: reverse_dns\nfield: .source.ip\ninto: .source.ip\nservers: [ns.example, 10.0.0.1, '10.0.0.1:0', 0.0.0.0]\ntimeout: 1ms\n\
         max_in_flight: 0\nmax_per_second: 0\nmax_entries: 1\nmax_size: 1KiB\nttl_min: 2h\nttl_max: 1h\n",
    );
    for part in [
        "c.yaml:2:8: error: field: `.source.ip` is not the name of a field\n  help: write `source.ip`",
        "into: the name would take the place of its address",
        "servers[0]: `ns.example` is not the address of a server\n  help: 10.0.0.53",
        "servers[2]: `10.0.0.1:0` is not",
        "servers[3]: `0.0.0.0` is not",
        "timeout: is out of range; from 50ms to 30s",
        "max_in_flight: is out of range; from 1 to 1024",
        "max_per_second: is out of range; from 1 to 100000",
        "max_entries: is out of range; from 256 to 1000000",
        "max_size: is out of range; from 128KiB to 1GiB",
        "ttl_max: is out of range; not less than `ttl_min`",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let config = "type: reverse_dns\nfield: source.ip\ninto: source.domain\nservers: []\n";
    assert!(mistakes(config).contains("servers: expected 1 to 4 servers\n  help: those of /etc/resolv.conf"), "{}", mistakes(config));
    let five = config.replace("[]", "[10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5]");
    assert!(mistakes(&five).contains("expected 1 to 4 servers"));
}
