//! The `aws_firehose` source over real sockets. Signed requests are made by AWS's own clients: `tests/real/firehose.py`.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::{Answer, send};
use crate::hec::{Hec, TOKEN};
use crate::http::{noise, raw};
use crate::process::{Hydrant, eventually, free_port};

fn start(hec: &Hec, top: &str, source: &str) -> (Hydrant, u16) {
    let port = free_port();
    let config = format!(
        "
data_dir: data
shards: 2
{top}
sources:
  in: {{ type: aws_firehose, listen: \"127.0.0.1:{port}\" {source} }}
sinks:
  splunk: {{ type: splunk_hec, endpoint: \"http://127.0.0.1:{}\", token: \"{TOKEN}\", buffer: {{ interval: 50ms }} }}
",
        hec.port
    );
    (Hydrant::run(&config, &[]), port)
}

fn call(port: u16, operation: &str, body: &Value) -> Answer {
    let target = format!("x-amz-target: Firehose_20150804.{operation}");
    let answer = send(port, "POST /", &[&target, "content-type: application/x-amz-json-1.1"], body.to_string().as_bytes());
    assert_eq!(answer.header("content-type"), Some("application/x-amz-json-1.1"));
    assert_eq!(answer.header("x-amzn-requestid").map(str::len), Some(36));
    answer
}

fn batch(records: &[&[u8]]) -> Value {
    let records: Vec<Value> = records.iter().map(|record| json!({ "Data": STANDARD.encode(record) })).collect();
    json!({ "DeliveryStreamName": "logs", "Records": records })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn error(answer: &Answer) -> (u16, String, String) {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    (answer.status, body["__type"].as_str().unwrap().to_owned(), body["message"].as_str().unwrap().to_owned())
}

#[test]
fn put_records_arrive_and_answers_are_compact() {
    let hec = Hec::start();
    let (hydrant, port) = start(&hec, "", "");
    let one = call(port, "PutRecord", &json!({ "DeliveryStreamName": "logs", "Record": { "Data": STANDARD.encode("one") } }));
    assert_eq!(one.status, 200);
    assert!(one.body.starts_with(r#"{"RecordId":""#) && one.body.ends_with(r#"","Encrypted":false}"#), "{}", one.body);
    let many = call(port, "PutRecordBatch", &batch(&[b"{\"n\":1}\n{\"n\":2}\n", b"two", b"", &gzip(b"three\nfour")]));
    assert_eq!(many.status, 200);
    assert!(many.body.starts_with(r#"{"FailedPutCount":0,"Encrypted":false,"RequestResponses":[{"RecordId":""#), "{}", many.body);
    let answer: Value = serde_json::from_str(&many.body).unwrap();
    assert_eq!(answer["RequestResponses"].as_array().unwrap().len(), 4, "one entry per record");
    assert_eq!(raw(&hec, 6), ["four", "one", "three", "two", "{\"n\":1}", "{\"n\":2}"]);
    assert!(hydrant.stop());
}

#[test]
fn errors_of_the_api_have_names_and_words_of_aws() {
    let hec = Hec::start();
    let (_hydrant, port) = start(&hec, "", ", streams: [logs], account_id: '123456789012'");
    let put = |body: &Value| error(&call(port, "PutRecordBatch", body));
    let bad = |name: &str, message: &str| (400, name.to_owned(), message.to_owned());
    let mut unknown = batch(&[b"x"]);
    unknown["DeliveryStreamName"] = "other".into();
    assert_eq!(put(&unknown), bad("ResourceNotFoundException", "Firehose other under account 123456789012 not found."));
    assert_eq!(
        put(&json!({ "DeliveryStreamName": "logs" })),
        bad(
            "ValidationException",
            "1 validation error detected: Value null at 'records' failed to satisfy constraint: Member must not be null"
        )
    );
    let long = vec![b'x'; 1_024_001];
    assert_eq!(
        put(&batch(&[b"x", &long])),
        bad(
            "ValidationException",
            "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1024001 cap=1024001]' at 'records.2.member.data' failed \
             to satisfy constraint: Member must have length less than or equal to 1024000"
        )
    );
    let full = &long[..1_024_000];
    assert_eq!(put(&batch(&[full; 5])), bad("InvalidArgumentException", "Records size exceeds 4 MB limit"));
    assert_eq!(put(&batch(&[&long[..]; 20])), bad("InvalidArgumentException", "Records size exceeds 4 MB limit"), "a body over the cap");
    let (status, name, message) = put(&batch(&[&b"x"[..]; 501]));
    assert_eq!((status, name.as_str()), (400, "ValidationException"));
    assert!(message.ends_with("Member must have length less than or equal to 500"), "{message}");
    assert_eq!(put(&json!({ "DeliveryStreamName": "logs", "Records": [{ "Data": "?" }] })).1, "SerializationException");
    assert_eq!(error(&call(port, "TagDeliveryStream", &json!({}))).1, "UnknownOperationException");
    assert_eq!(call(port, "PutRecordBatch", &batch(&[full, full, full, full])).status, 200, "what is allowed is taken");
    assert_eq!(raw(&hec, 4).len(), 4);
}

#[test]
fn streams_are_created_described_listed_and_deleted() {
    let hec = Hec::start();
    let (_hydrant, port) = start(&hec, "", ", streams: [logs]");
    let ok = |operation: &str, body: Value| -> Value {
        let answer = call(port, operation, &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_str(&answer.body).unwrap()
    };
    let create = json!({ "DeliveryStreamName": "new", "DeliveryStreamType": "DirectPut", "ExtendedS3DestinationConfiguration": {} });
    let arn = "arn:aws:firehose:us-east-1:000000000000:deliverystream/new";
    assert_eq!(ok("CreateDeliveryStream", create.clone()), json!({ "DeliveryStreamARN": arn }));
    assert_eq!(error(&call(port, "CreateDeliveryStream", &create)).1, "ResourceInUseException");
    let described = ok("DescribeDeliveryStream", json!({ "DeliveryStreamName": "new", "Limit": 1 }));
    let description = &described["DeliveryStreamDescription"];
    assert_eq!((description["DeliveryStreamStatus"].as_str(), description["DeliveryStreamARN"].as_str()), (Some("ACTIVE"), Some(arn)));
    assert!(description["CreateTimestamp"].as_f64().unwrap() > 1.7e9);
    assert_eq!(ok("ListDeliveryStreams", json!({})), json!({ "DeliveryStreamNames": ["logs", "new"], "HasMoreDeliveryStreams": false }));
    assert_eq!(ok("DeleteDeliveryStream", json!({ "DeliveryStreamName": "new" })), json!({}));
    assert_eq!(error(&call(port, "DescribeDeliveryStream", &json!({ "DeliveryStreamName": "new" }))).1, "ResourceNotFoundException");
}

#[test]
fn keys_decide_who_may_send_what() {
    let hec = Hec::start();
    let (_hydrant, port) = start(&hec, "", ", access_key: [old, new], credentials: [{ access_key_id: AKIA, secret_access_key: s }]");
    assert_eq!(error(&call(port, "PutRecordBatch", &batch(&[b"x"]))).1, "MissingAuthenticationTokenException");
    assert_eq!(deliver(port, "1", &[], &[b"x"]).status, 401);
    assert_eq!(deliver(port, "1", &["x-amz-firehose-access-key: wrong"], &[b"x"]).status, 401);
    assert_eq!(deliver(port, "1", &["x-amz-firehose-access-key: old"], &[b"a"]).status, 200);
    assert_eq!(deliver(port, "2", &["x-amz-firehose-access-key: {\"api_key\":\"new\"}"], &[b"b"]).status, 200);
    assert_eq!(raw(&hec, 2), ["a", "b"]);
}

fn deliver(port: u16, id: &str, headers: &[&str], records: &[&[u8]]) -> Answer {
    let records: Vec<Value> = records.iter().map(|record| json!({ "data": STANDARD.encode(record) })).collect();
    let body = json!({ "requestId": id, "timestamp": 1_700_000_000_000_i64, "records": records });
    let id = format!("x-amz-firehose-request-id: {id}");
    let own = [id.as_str(), "x-amz-firehose-protocol-version: 1.0", "content-type: application/json"];
    send(port, "POST /", &[&own, headers].concat(), body.to_string().as_bytes())
}

#[test]
fn deliveries_are_taken_once_and_their_envelopes_come_off() {
    let hec = Hec::start();
    let (hydrant, port) = start(&hec, "", "");
    let envelope = gzip(
        br#"{"messageType":"DATA_MESSAGE","owner":"1","logGroup":"g","logStream":"s","subscriptionFilters":[],
            "logEvents":[{"id":"1","timestamp":1700000000123,"message":"a\nb"},{"id":"2","timestamp":1700000000124,"message":"c"}]}"#,
    );
    let control =
        gzip(br#"{"messageType":"CONTROL_MESSAGE","owner":"","logGroup":"","logStream":"","subscriptionFilters":[],"logEvents":[]}"#);
    for _ in 0..3 {
        let answer = deliver(port, "8f3c", &[], &[&envelope, &control, b"plain"]);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, body["requestId"].as_str()), (200, Some("8f3c")));
        assert!(body["timestamp"].is_i64() && answer.header("content-encoding").is_none());
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert_eq!(deliver(port, "8f3d", &[], &[b"next"]).status, 200);
    assert_eq!(raw(&hec, 4), ["a\nb", "c", "next", "plain"]);
    assert!(hydrant.stop());
    assert_eq!(hec.count(), 4, "a repeated request is not taken again");
}

#[test]
fn a_delivery_that_cannot_be_taken_is_never_answered_with_413() {
    let hec = Hec::start();
    let (_hydrant, port) = start(&hec, "", "");
    let id = "x-amz-firehose-request-id: r";
    let bomb = gzip(&vec![b' '; 65 * 1024 * 1024]);
    let cases: [(&[&str], &[u8]); 6] = [
        (&[id, "content-encoding: gzip"], &bomb),
        (&[id], b"{"),
        (&[id], br#"{"requestId":"other","records":[]}"#),
        (&[id], br#"{"requestId":"r"}"#),
        (&[id], br#"{"requestId":"r","records":[{"data":"?"}]}"#),
        (&[id, "x-amz-firehose-protocol-version: 2.0"], br#"{"requestId":"r","records":[]}"#),
    ];
    for (headers, body) in cases {
        let answer = send(port, "POST /", headers, body);
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, body["requestId"].as_str()), (400, Some("r")), "{answer:?}");
        assert!(!body["errorMessage"].as_str().unwrap().is_empty());
    }
    assert_eq!(deliver(port, "r", &[], &[]).status, 200, "a refused id may come again");
}

#[test]
fn without_room_whole_calls_fail_and_what_was_answered_well_arrives() {
    let hec = Hec::start();
    hec.state.lock().unwrap().faults = (0..100_000).map(|_| (503, r#"{"text":"Server is busy","code":9}"#.to_owned())).collect();
    let (hydrant, port) = start(&hec, "memory: 4MiB\njournal: { type: memory }", "");
    let lines = noise(200, 250);
    let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
    let body = batch(&lines);
    let mut taken = 0;
    let refused = loop {
        let answer = call(port, "PutRecordBatch", &body);
        if answer.status != 200 {
            break answer;
        }
        taken += 200;
        assert!(taken < 1_000_000, "the budget must end");
    };
    assert_eq!(error(&refused), (500, "ServiceUnavailableException".to_owned(), "Slow down.".to_owned()));
    for id in 0.. {
        assert!(id < 1000, "the budget must end for deliveries too");
        match deliver(port, &id.to_string(), &[], &lines) {
            Answer { status: 200, .. } => taken += 200,
            refused => {
                assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
                break;
            }
        }
    }
    hec.state.lock().unwrap().faults.clear();
    eventually("room again", || (deliver(port, "r", &[], &[b"last"]).status == 200).then_some(()));
    assert!(hydrant.stop());
    assert_eq!(hec.count(), taken + 1);
}
