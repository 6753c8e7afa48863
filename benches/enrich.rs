//! What one look-up costs, by kind of table. A row has one address; criterion's time per element is that of one
//! row, with the writing of what was found. `repeating`: 300 addresses, as behind a firewall; `distinct`: every
//! row has another one. About 9 addresses in 10 are found.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot go on says so")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hydrant::config::Section;
use hydrant::enrich::{ENRICHERS, Enricher, Refresh};
use hydrant::event::{Chunk, Events, Fields, Sender, Span};

#[path = "../src/enrich/testing/mmdb.rs"]
mod mmdb;

use mmdb::{Value, Writer, map, text};

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

fn enricher(folder: &Path, kind: &str, config: &str, file: &[u8]) -> Box<dyn Enricher> {
    std::fs::write(folder.join("file"), file).unwrap();
    let kind = ENRICHERS.iter().find(|k| k.name() == kind).unwrap();
    let enricher = kind.read(&Section::parse(Path::new("bench.yaml"), config).unwrap(), folder).unwrap();
    let started = std::time::Instant::now();
    assert!(matches!(enricher.refresh(), Refresh::Loaded));
    eprintln!("{config}  {} bytes loaded in {:?}", file.len(), started.elapsed());
    enricher
}

fn chunk(addresses: u32) -> (Chunk, Vec<Span>) {
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    for row in 0..ROWS as u32 {
        let entry = (row % addresses).wrapping_mul(2_654_435_761) % ENTRIES;
        let found = if row % 10 == 0 { Ipv4Addr::from_bits(0xc000_0200 + row) } else { address(entry) };
        let start = bytes.len();
        bytes.extend_from_slice(found.to_string().as_bytes());
        spans.push(Span::new(start, bytes.len()));
    }
    let sender = Arc::new(Sender { source: "bench".into(), source_index: 0 });
    (Chunk::new(bytes, spans.clone(), sender, 0), spans)
}

fn look_up(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let table = "key: { field: source.ip, column: ip }\ncolumns: { owner: source.owner, zone: source.zone }\npath: file\n";
    let enrichers = [
        ("exact", enricher(folder.path(), "table", table, &csv(|n| address(n).to_string()))),
        ("cidr", enricher(folder.path(), "table", &format!("{table}match: cidr\n"), &csv(|n| format!("{}/28", address(n))))),
        ("geoip", enricher(folder.path(), "geoip", "fields: [source.ip]\npath: file\n", &city_database())),
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

criterion_group!(benches, look_up);
criterion_main!(benches);
