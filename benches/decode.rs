//! What it costs to decode an event, a decoder at a time, with the fields that a small set of rules, routes
//! and outputs wants.
//!
//! Criterion's `elem/s` is events per second on one core, the header, the schema map's steps and the reset of
//! the rows included; `time` divided by the events of a chunk is ns per event. Lines come from the traffic
//! generator, or are a decoder's own forms with varied numbers where the generator has none.

use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hydrant::decode::{Compiled, DECODERS, Schema};
use hydrant::event::{Chunk, Events, Fields, Sender, Span};
use hydrant::traffic::{Kind, Traffic};

/// Events of a chunk: 256 KiB, the size at which a chunk is sealed, hold 300 to 1500 of them.
const EVENTS: usize = 400;

const NOW_MS: i64 = 1_795_248_000_000;

/// What rules, routes and outputs ask of a firewall's event.
const WANTED: &[&str] = &[
    "source.ip",
    "source.port",
    "source.nat.ip",
    "source.bytes",
    "destination.ip",
    "destination.port",
    "destination.bytes",
    "network.transport",
    "event.action",
    "event.code",
    "event.outcome",
    "rule.name",
    "user.name",
    "url.original",
    "observer.product",
];

fn generated(kind: Kind) -> Vec<String> {
    let mut traffic = Traffic::new(kind, 1);
    let line = |number: usize| {
        let mut out = Vec::new();
        traffic.next(NOW_MS + number as i64, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    };
    (0..EVENTS).map(line).collect()
}

/// A form with `#` for a number that varies.
fn varied(form: &str) -> Vec<String> {
    let line = |number: usize| {
        form.split('#').enumerate().fold(String::new(), |mut line, (index, part)| {
            if index > 0 {
                // Writing to a string cannot fail.
                write!(line, "{}", (number * 31 + index * 7) % 250 + 1).unwrap_or_default();
            }
            line + part
        })
    };
    (0..EVENTS).map(line).collect()
}

fn lines(decoder: &str) -> Option<Vec<String>> {
    Some(match decoder {
        "palo_alto" => generated(Kind::PaloAlto),
        "fortigate" => generated(Kind::Fortigate),
        "cisco_asa" => generated(Kind::CiscoAsa),
        "cef" => varied(
            "<134>Nov 21 08:00:00 gw-1 CEF:0|Check Point|VPN-1 & FireWall-1|R81|101|Connection denied|5|rt=1795248000007 src=10.20.#.# spt=51#22 \
             dst=203.0.113.# dpt=443 proto=TCP act=drop suser=bsmith# in=12#0 out=4#000 externalId=99#1 cnt=3 cs1Label=Rule cs1=Rule # edge to dc \
             msg=Connection q\\=77#",
        ),
        "leef" => varied(
            "<13>Nov 21 08:00:00 flow-1 LEEF:2.0|Contoso|Scout|1.0|41|^|src=192.0.2.#^dst=203.0.113.#^srcPort=8#1^dstPort=21^proto=TCP^sev=5^\
             cat=anomaly^srcBytes=#76^dstBytes=#^usrName=joe.#^devTime=1795248000123^policy=edge #^action=deny^msg=there was a hit",
        ),
        "netfilter" => varied(
            "<4>Nov 21 21:26:12 vm kernel: [12345.678901] FW-DROP IN=eth0 OUT= MAC=12:25:44:67:26:39:62:df:84:47:f7:3a:08:00 SRC=10.77.0.# \
             DST=10.77.0.# LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=41#87 DF PROTO=TCP SPT=54#60 DPT=22 SEQ=1513#5664 ACK=0 WINDOW=64240 SYN URGP=0",
        ),
        "key_value" => varied(
            "<134>id=firewall sn=0017C5991784 time=\"2026-11-21 08:00:00 UTC\" fw=203.0.113.7 pri=6 c=262144 m=98 msg=\"Connection Opened\" \
             src=10.0.#.# dst=192.0.2.# srcport=52#15 dstport=443 proto=tcp sent=#12 rcvd=9#1 action=allow user=\"corp\\\\u#\" rule=\"edge #\"",
        ),
        "syslog" => varied("<38>Nov 21 08:00:00 bastion sshd[4#1]: Failed password for invalid user u# from 198.51.100.# port 40#2 ssh2"),
        _ => return None,
    })
}

fn chunk(lines: &[String]) -> Chunk {
    let (mut bytes, mut frames) = (Vec::new(), Vec::new());
    for line in lines {
        let start = bytes.len();
        bytes.extend_from_slice(line.as_bytes());
        frames.push(Span::new(start, bytes.len()));
        bytes.push(b'\n');
    }
    let sender = Arc::new(Sender { source: "bench".into(), source_index: 0 });
    Chunk::new(bytes, frames, sender, NOW_MS)
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for kind in DECODERS {
        let Some(lines) = lines(kind.name()) else { continue };
        let chunk = chunk(&lines);
        let Ok(schema) = Schema::parse(Path::new(kind.name()), kind.schema(), kind.natives().as_deref()) else { continue };
        let mut fields = Fields::default();
        let wanted = if kind.name() == "syslog" { &["host.hostname", "process.name", "process.pid", "message"] } else { WANTED };
        for name in wanted {
            fields.slot(name);
        }
        let Ok(compiled) = Compiled::new(*kind, &schema, &mut fields, 0) else { continue };
        let (mut instance, mut events) = (compiled.instance(), Events::default());
        group.throughput(Throughput::Elements(EVENTS as u64));
        group.bench_function(kind.name(), |bencher| {
            bencher.iter(|| {
                events.reset(&chunk, fields.width());
                instance.decode(&chunk, 0..EVENTS, &mut events);
                black_box(&events);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
