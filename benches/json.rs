//! What it costs to take 12 fields out of a document and to prove it strict.
//!
//! The documents are made here: 64 different records each of AWS WAF (about 2.5 KB) and of Suricata EVE
//! (about 760 B). Times are per event. The scan always checks the whole grammar; `check` is the proof
//! alone, without filling a slot. The others are what the scan is held against.

#![expect(clippy::expect_used, reason = "a benchmark may stop at the first surprise")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hydrant::event::{Chunk, Events, Fields, Sender, Span};
use hydrant::json::{Paths, check, write_string};

const RECORDS: usize = 64;

const WAF: [&str; 12] = [
    "timestamp",
    "action",
    "terminatingRuleId",
    "webaclId",
    "httpSourceName",
    "httpRequest.clientIp",
    "httpRequest.country",
    "httpRequest.uri",
    "httpRequest.httpMethod",
    "httpRequest.headers{name=Host}.value",
    "httpRequest.headers{name=User-Agent}.value",
    "labels[].name",
];

const EVE: [&str; 12] = [
    "timestamp",
    "event_type",
    "src_ip",
    "src_port",
    "dest_ip",
    "dest_port",
    "proto",
    "alert.signature",
    "alert.signature_id",
    "alert.severity",
    "http.hostname",
    "flow.bytes_toserver",
];

/// Numbers that differ from record to record and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn ip(&mut self) -> String {
        format!("{}.{}.{}.{}", 11 + self.next(200), self.next(256), self.next(256), self.next(256))
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from(b"0123456789abcdef"[self.next(16) as usize])).collect()
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.next(from.len() as u64) as usize]
    }
}

const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
    "curl/8.5.0",
    "python-requests/2.32.3",
];

fn waf(n: &mut Numbers) -> String {
    let rule_group = |id: &str| {
        format!(
            r#"{{"ruleGroupId":"AWS#AWSManagedRules{id}","terminatingRule":null,"nonTerminatingMatchingRules":[],"excludedRules":null,"customerConfig":null}}"#
        )
    };
    let groups = ["CommonRuleSet", "SQLiRuleSet", "KnownBadInputsRuleSet", "AmazonIpReputationList"].map(rule_group).join(",");
    let headers = [
        ("Host", n.pick(&["shop.example.com", "api.example.com", "www.example.org"]).to_owned()),
        ("User-Agent", n.pick(&AGENTS).to_owned()),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8".to_owned()),
        ("Accept-Language", "en-US,en;q=0.5".to_owned()),
        ("Accept-Encoding", "gzip, deflate, br".to_owned()),
        ("Referer", format!("https://www.example.org/products/{}?ref=newsletter", n.next(100_000))),
        ("X-Forwarded-For", n.ip()),
        ("Cookie", format!("session={}; _ga=GA1.2.{}.{}", n.hex(32), n.next(1_000_000_000), n.next(1_000_000_000))),
        ("Sec-Fetch-Mode", "navigate".to_owned()),
    ];
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!(r#"{{"name":"{name}","value":"{value}"}}"#)).collect();
    format!(
        r#"{{"timestamp":{},"formatVersion":1,"webaclId":"arn:aws:wafv2:us-east-1:123456789012:regional/webacl/prod-acl/{}","terminatingRuleId":"{}","terminatingRuleType":"REGULAR","action":"{}","terminatingRuleMatchDetails":[],"httpSourceName":"ALB","httpSourceId":"123456789012-app/prod-alb/{}","ruleGroupList":[{groups}],"rateBasedRuleList":[{{"rateBasedRuleId":"{}","rateBasedRuleName":"per-ip","limitKey":"IP","maxRateAllowed":2000}}],"nonTerminatingMatchingRules":[],"requestHeadersInserted":null,"responseCodeSent":null,"httpRequest":{{"clientIp":"{}","country":"{}","headers":[{}],"uri":"/api/v2/orders/{}/items","args":"q=shoes&page={}&utm_source=newsletter","httpVersion":"HTTP/2.0","httpMethod":"{}","requestId":"1-{}-{}"}},"labels":[{{"name":"awswaf:managed:aws:core-rule-set:NoUserAgent_Header"}},{{"name":"awswaf:clientip:geo:country:US"}}],"ja3Fingerprint":"{}","ja4Fingerprint":"t13d1516h2_8daaf6152771_b186095e22b6"}}"#,
        1_767_225_600_000 + n.next(1_000_000_000),
        n.hex(36),
        n.pick(&["Default_Action", "AWS-AWSManagedRulesSQLiRuleSet"]),
        n.pick(&["ALLOW", "ALLOW", "BLOCK"]),
        n.hex(16),
        n.hex(24),
        n.ip(),
        n.pick(&["US", "DE", "IN"]),
        headers.join(","),
        n.next(100_000),
        n.next(50),
        n.pick(&["GET", "GET", "POST"]),
        n.hex(8),
        n.hex(24),
        n.hex(32),
    )
}

fn eve(n: &mut Numbers) -> String {
    format!(
        r#"{{"timestamp":"2026-01-01T{:02}:{:02}:{:02}.{:06}+0000","flow_id":{},"in_iface":"eth0","event_type":"alert","src_ip":"{}","src_port":{},"dest_ip":"{}","dest_port":{},"proto":"{}","tx_id":0,"alert":{{"action":"{}","gid":1,"signature_id":{},"rev":3,"signature":"{}","category":"Misc activity","severity":{},"metadata":{{"created_at":["2010_09_14"],"updated_at":["2024_03_14"]}}}},"http":{{"hostname":"{}","url":"\/api\/v1\/users\/{}","http_user_agent":"curl\/8.5.0","http_method":"GET","protocol":"HTTP\/1.1","status":200,"length":{}}},"app_proto":"http","flow":{{"pkts_toserver":{},"pkts_toclient":{},"bytes_toserver":{},"bytes_toclient":{},"start":"2026-01-01T00:00:00.000000+0000"}}}}"#,
        n.next(24),
        n.next(60),
        n.next(60),
        n.next(1_000_000),
        n.next(1_000_000_000_000_000),
        n.ip(),
        1024 + n.next(64_000),
        n.ip(),
        n.pick(&["443", "80", "53", "8080"]),
        n.pick(&["TCP", "TCP", "UDP"]),
        n.pick(&["allowed", "blocked"]),
        2_000_000 + n.next(60_000),
        n.pick(&["ET SCAN Suspicious inbound to MSSQL port 1433", "ET POLICY curl User-Agent Outbound"]),
        1 + n.next(3),
        n.pick(&["shop.example.com", "api.example.com"]),
        n.next(100_000),
        n.next(90_000),
        n.next(900),
        n.next(900),
        n.next(90_000),
        n.next(900_000),
    )
}

fn chunk_of(record: fn(&mut Numbers) -> String) -> Chunk {
    let mut numbers = Numbers(7);
    let mut bytes = Vec::new();
    let mut frames = Vec::new();
    for _ in 0..RECORDS {
        let start = bytes.len();
        bytes.extend_from_slice(record(&mut numbers).as_bytes());
        frames.push(Span::new(start, bytes.len()));
        bytes.push(b'\n');
    }
    Chunk::new(bytes, frames, Arc::new(Sender { source: "bench".into(), source_index: 0 }), 0)
}

fn bench(criterion: &mut Criterion) {
    for (name, record, wanted) in [("eve", eve as fn(&mut Numbers) -> String, EVE), ("waf", waf, WAF)] {
        let chunk = chunk_of(record);
        let bytes = chunk.frames().iter().map(|frame| frame.len()).sum::<usize>() / RECORDS;
        let mut fields = Fields::default();
        let paths = Paths::new(wanted.iter().map(|path| (*path, fields.slot(path)))).expect("good paths").reserve(&["hydrant"]);
        let mut group = criterion.benchmark_group(format!("{name} {bytes} B"));
        group.throughput(Throughput::Bytes(bytes as u64));

        // One iteration is one event: times are per event.
        let mut events = Events::default();
        events.reset(&chunk, fields.width());
        let mut index = 0;
        group.bench_function("scan 12 fields, proved strict", |bencher| {
            bencher.iter(|| {
                index = (index + 1) % RECORDS;
                if index == 0 {
                    events.reset(&chunk, fields.width());
                }
                let scanned = paths.scan(&mut events.row_mut(&chunk, index), chunk.frames()[index]).expect("valid");
                assert!(scanned.strict);
            });
        });
        group.bench_function("check: proved strict", |bencher| {
            bencher.iter(|| {
                index = (index + 1) % RECORDS;
                assert!(check(chunk.frame(index), "hydrant").strict);
            });
        });
        let mut copy = Vec::new();
        let mut buffers = simd_json::Buffers::default();
        group.bench_function("simd-json tape, buffers reused, with the copy", |bencher| {
            bencher.iter(|| {
                index = (index + 1) % RECORDS;
                copy.clear();
                copy.extend_from_slice(chunk.frame(index));
                let mut tape = simd_json::Tape::null();
                simd_json::fill_tape(&mut copy, &mut buffers, &mut tape).expect("valid");
                black_box(tape.0.len())
            });
        });
        group.bench_function("serde_json value", |bencher| {
            bencher.iter(|| {
                index = (index + 1) % RECORDS;
                serde_json::from_slice::<serde_json::Value>(chunk.frame(index)).expect("valid")
            });
        });
        let mut out = Vec::new();
        group.bench_function("write_string", |bencher| {
            bencher.iter(|| {
                index = (index + 1) % RECORDS;
                out.clear();
                write_string(chunk.frame(index), &mut out);
                black_box(out.len())
            });
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
