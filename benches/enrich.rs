//! What one look-up costs, by kind of table. A row has one address; criterion's time per element is that of one
//! row, with the writing of what was found. `repeating`: 300 addresses, as behind a firewall; `distinct`: every
//! row has another one. About 9 addresses in 10 are found.
//!
//! `threat_list`: a million indicators of one kind; `absent`: no row has one, as nearly always, `found`: every row.
//!
//! `HYDRANT_LIST_MEMORY=1 cargo bench --bench enrich` measures no time: for each kind a process of its own prints what a million
//! indicators take, as the resident memory after loading less that before, and the most that it was while loading.

#![allow(clippy::expect_used, clippy::print_stderr, clippy::unwrap_used, reason = "a bench that cannot go on says so")]

use std::hint::black_box;
use std::io::{BufWriter, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use hydrant::config::Section;
use hydrant::enrich::{ENRICHERS, Enricher, Folders, Refresh};
use hydrant::event::{Chunk, Events, Fields, Sender, Span};

#[path = "../src/enrich/testing/mmdb.rs"]
mod mmdb;

use mmdb::{Value, Writer, map, text};

/// That of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of a chunk: 256 KiB of PAN-OS lines.
const ROWS: usize = 600;
const ENTRIES: u32 = 100_000;

/// The address of an entry: spread over 10.0.0.0/8, in steps of a network with 28 bits.
fn address(entry: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + entry * 160 % 0x0100_0000 + 3)
}

fn csv(entry: impl Fn(u32) -> String) -> Vec<u8> {
    let rows = (0..ENTRIES).map(|n| format!("{},user{},zone{}\n", entry(n), n % 5000, n % 20));
    std::iter::once("ip,owner,zone\n".to_owned()).chain(rows).collect::<String>().into_bytes()
}

fn city_database() -> Vec<u8> {
    let mut writer = Writer::new();
    for n in 0..ENTRIES {
        let named = |code, value: &str, name: &str| Value::Map(vec![(code, text(value)), ("names", map("en", text(name)))]);
        let location = vec![("latitude", Value::Double(52.5)), ("longitude", Value::Double(13.4)), ("time_zone", text("Europe/Berlin"))];
        let city = Value::Map(vec![
            ("city", map("names", Value::Map(vec![("de", text("Berlin")), ("en", text(&format!("Berlin {}", n % 300)))]))),
            ("continent", named("code", "EU", "Europe")),
            ("country", named("iso_code", "DE", "Germany")),
            ("location", Value::Map(location)),
            ("postal", map("code", text("10178"))),
            ("subdivisions", Value::Array(vec![named("iso_code", "BE", "Land Berlin")])),
        ]);
        writer.add(IpAddr::V4(address(n)), 28, &city);
    }
    writer.finish("GeoLite2-City")
}

fn enricher(folder: &Path, kind: &str, config: &str, file: Option<&[u8]>) -> Box<dyn Enricher> {
    file.iter().for_each(|file| std::fs::write(folder.join("file"), file).unwrap());
    let kind = ENRICHERS.iter().find(|k| k.name() == kind).unwrap();
    let enricher = kind.read(&Section::parse(Path::new("bench.yaml"), config).unwrap(), Folders { base: folder, data: folder }).unwrap();
    let started = std::time::Instant::now();
    assert!(matches!(enricher.refresh(), Refresh::Loaded));
    eprintln!("{config}  loaded in {:?}", started.elapsed());
    enricher
}

fn chunk(addresses: u32) -> (Chunk, Vec<Span>) {
    let value = |row: u32| {
        let entry = (row % addresses).wrapping_mul(2_654_435_761) % ENTRIES;
        let found = if row.is_multiple_of(10) { Ipv4Addr::from_bits(0xc000_0200 + row) } else { address(entry) };
        found.to_string()
    };
    chunk_of(&(0..ROWS as u32).map(value).collect::<Vec<_>>())
}

/// A chunk with one value a row.
fn chunk_of(values: &[String]) -> (Chunk, Vec<Span>) {
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    for value in values {
        let start = bytes.len();
        bytes.extend_from_slice(value.as_bytes());
        spans.push(Span::new(start, bytes.len()));
    }
    let sender = Arc::new(Sender { source: "bench".into(), source_index: 0 });
    (Chunk::new(bytes, spans.clone(), sender, 0), spans)
}

fn look_up(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let table = "key: { field: source.ip, column: ip }\ncolumns: { owner: source.owner, zone: source.zone }\npath: file\n";
    let enrichers = [
        ("exact", enricher(folder.path(), "table", table, Some(&csv(|n| address(n).to_string())))),
        ("cidr", enricher(folder.path(), "table", &format!("{table}match: cidr\n"), Some(&csv(|n| format!("{}/28", address(n)))))),
        ("geoip", enricher(folder.path(), "geoip", "fields: [source.ip]\npath: file\n", Some(&city_database()))),
    ];
    let mut group = criterion.benchmark_group("enrich");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, enricher) in &enrichers {
        for (pattern, addresses) in [("repeating", 300), ("distinct", u32::MAX)] {
            let mut fields = Fields::default();
            let key = fields.slot("source.ip");
            enricher.lookups()[0].adds.iter().for_each(|name| _ = fields.slot(name));
            let (chunk, spans) = chunk(addresses);
            let mut bound = enricher.bind(&fields);
            let mut events = Events::default();
            group.bench_function(BenchmarkId::new(*name, pattern), |bencher| {
                bencher.iter(|| {
                    events.reset(&chunk, fields.width());
                    for (row, span) in spans.iter().enumerate() {
                        events.row_mut(&chunk, row).set_text(key, *span);
                    }
                    black_box(bound.enrich(&chunk, 0..ROWS, &mut events))
                });
            });
        }
    }
}

/// Indicators of a threat list.
const INDICATORS: u32 = 1_000_000;

/// A number that looks like chance, another one for each `n`.
fn spread(n: u32) -> u32 {
    n.wrapping_mul(2_654_435_761)
}

/// A kind of indicator: its name, the field that is looked up, and the text of each.
type ListKind = (&'static str, &'static str, fn(u32) -> String);

const LIST_KINDS: [ListKind; 4] = [
    ("ipv4", "destination.ip", |n| Ipv4Addr::from_bits(0x0b00_0000 + spread(n) % 0xb000_0000).to_string()),
    ("domain", "dns.question.name", |n| format!("{:x}.c{}.example", spread(n), n % 1000)),
    ("sha256", "file.hash.sha256", |n| (0..8).map(|part| format!("{:08x}", spread(n.wrapping_add(part * 77_777_777)))).collect()),
    ("url", "url.full", |n| format!("http://{:x}.c{}.example/wp-content/{}/index.php?id={n}", spread(n / 4), n / 4 % 1000, n % 97)),
];

/// Writes a list of a million and loads it.
fn threat_list(folder: &Path, text: fn(u32) -> String) -> Box<dyn Enricher> {
    let mut list = BufWriter::new(std::fs::File::create(folder.join("list")).unwrap());
    (0..INDICATORS).for_each(|n| writeln!(list, "{}", text(n)).unwrap());
    drop(list);
    enricher(folder, "threat_list", "format: plain\nskip_private: false\npath: list\n", None)
}

fn threat_lists(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let mut group = criterion.benchmark_group("threat_list");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, key, text) in LIST_KINDS {
        let list = threat_list(folder.path(), text);
        for (pattern, first) in [("absent", INDICATORS), ("found", 0)] {
            let values: Vec<String> = (0..ROWS as u32).map(|row| text(first + row * 1600)).collect();
            let values = if pattern == "absent" { values.iter().map(|text| absent(name, text)).collect() } else { values };
            let (chunk, spans) = chunk_of(&values);
            let mut fields = Fields::default();
            let key = fields.slot(key);
            list.lookups()[0].adds.iter().for_each(|name| _ = fields.slot(name));
            let mut bound = list.bind(&fields);
            let mut events = Events::default();
            group.bench_function(BenchmarkId::new(name, pattern), |bencher| {
                bencher.iter(|| {
                    events.reset(&chunk, fields.width());
                    for (row, span) in spans.iter().enumerate() {
                        events.row_mut(&chunk, row).set_text(key, *span);
                    }
                    black_box(bound.enrich(&chunk, 0..ROWS, &mut events))
                });
            });
        }
    }
}

/// A value of the same form that no list has.
fn absent(kind: &str, text: &str) -> String {
    match kind {
        "ipv4" => format!("10.{}", text.split_once('.').unwrap().1),
        "domain" => format!("www.{text}.org"),
        "url" => text.replace(".example/", ".example.org/"),
        _ => format!("ffffffff{}", &text[8..]),
    }
}

/// A line of the process's status, in MiB.
fn status_mib(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB")).unwrap();
    kib.trim().parse::<f64>().unwrap() / 1024.0
}

/// What a million indicators of a kind take.
fn measure(kind: &str) {
    let (name, _, text) = LIST_KINDS.into_iter().find(|(name, ..)| *name == kind).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let before = status_mib("VmRSS:");
    let list = threat_list(folder.path(), text);
    // What the allocator holds back for a moment is none of the list's.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let (after, peak) = (status_mib("VmRSS:") - before, status_mib("VmHWM:") - before);
    eprintln!("{INDICATORS} {name}: {after:.1} MiB, at most {peak:.1} MiB while loading");
    drop(list);
}

const MEMORY: &str = "HYDRANT_LIST_MEMORY";

criterion_group!(benches, look_up, threat_lists);

fn main() {
    match std::env::var(MEMORY).ok().as_deref() {
        None => {
            benches();
            Criterion::default().configure_from_args().final_summary();
        }
        Some("1") => {
            for (name, ..) in LIST_KINDS {
                let program = std::env::current_exe().unwrap();
                assert!(std::process::Command::new(program).env(MEMORY, name).status().unwrap().success());
            }
        }
        Some(kind) => measure(kind),
    }
}
