//! What a message of the queue says: `body -> objects to read`.
//!
//! Every way that S3's "object created" takes to a queue:
//!
//! * from S3 itself: `{"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {..}}]}` (S3 User
//!   Guide, "Event message structure", version 2.x). Keys are form-encoded there: `+` is a blank, `%2B` a plus. MinIO and
//!   Ceph write the same with other names of the source.
//! * from EventBridge: `{"source": "aws.s3", "detail-type": "Object Created", "detail": {..}}` (same guide, "EventBridge
//!   event message structure"). Keys are as they are.
//! * from CloudTrail: `{"s3Bucket": .., "s3ObjectKey": [..]}` (CloudTrail User Guide, "Configuring Amazon SNS
//!   notifications for CloudTrail"). Keys are as they are.
//! * any of these as the `Message` of an SNS notification; with raw delivery SNS adds nothing.
//!
//! `s3:TestEvent`, and events of other kinds (removed, restored, replicated), name no object to read. What is none of
//! these is an error: somebody else's message must not be thrown away. Bodies come from outside: they are at most
//! [`BODY_BYTES_MAX`], and JSON nests at most as deep as `serde_json` permits.

use serde::Deserialize;

/// A message of SQS has at most 1 MiB (SQS Developer Guide, "Amazon SQS message quotas").
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The major version of event messages that this reads; AWS promises that minor ones only add.
const VERSION: &str = "2.";

/// An object that was announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) size_bytes: Option<u64>,
    /// Without quotes.
    pub(super) etag: Option<String>,
    pub(super) version: Option<String>,
    /// Orders the events of one key, and is the same in a repeated message.
    pub(super) sequencer: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "Records")]
    records: Option<Vec<Record>>,
    #[serde(rename = "Event")]
    event: Option<String>,
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(rename = "Message")]
    message: Option<String>,
    source: Option<String>,
    #[serde(rename = "detail-type")]
    detail_kind: Option<String>,
    detail: Option<Entity>,
    #[serde(rename = "s3Bucket")]
    trail_bucket: Option<String>,
    #[serde(rename = "s3ObjectKey")]
    trail_keys: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "eventVersion")]
    version: Option<String>,
    #[serde(rename = "eventSource")]
    source: Option<String>,
    #[serde(rename = "eventName")]
    name: Option<String>,
    s3: Option<Entity>,
}

#[derive(Deserialize)]
struct Entity {
    bucket: Bucket,
    object: Object,
}

#[derive(Deserialize)]
struct Bucket {
    name: String,
}

#[derive(Deserialize)]
struct Object {
    key: String,
    size: Option<u64>,
    #[serde(alias = "eTag")]
    etag: Option<String>,
    #[serde(rename = "versionId", alias = "version-id")]
    version: Option<String>,
    sequencer: Option<String>,
}

impl Entity {
    /// The object, under `key`.
    fn announced(self, key: String) -> Announced {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Announced {
            bucket: self.bucket.name,
            key,
            size_bytes: self.object.size,
            etag: given(self.object.etag).map(|etag| etag.trim_matches('"').to_owned()),
            version: given(self.object.version),
            sequencer: given(self.object.sequencer),
        }
    }
}

/// The objects that a message announces; none if it is about something else of S3.
///
/// # Errors
/// What is wrong with a message that is none of S3's.
pub(super) fn parse(body: &str) -> Result<Vec<Announced>, String> {
    let body = read(body)?;
    match (body.kind.as_deref(), body.message) {
        (Some("Notification"), Some(message)) => objects(Body { message: None, ..read(&message)? }),
        (Some(kind @ ("SubscriptionConfirmation" | "UnsubscribeConfirmation")), _) => {
            Err(format!("a {kind} of SNS, which whoever owns the topic has to see"))
        }
        (_, message) => objects(Body { message, ..body }),
    }
}

fn read(text: &str) -> Result<Body, String> {
    if text.len() > BODY_BYTES_MAX {
        return Err(format!("{} bytes; SQS has at most {BODY_BYTES_MAX}", text.len()));
    }
    // A list is taken for the fields of a struct otherwise, one after the other.
    if !text.trim_start().starts_with('{') {
        return Err("not an event of S3: no JSON object".to_owned());
    }
    serde_json::from_str(text).map_err(|error| format!("not an event of S3: {error}"))
}

fn objects(body: Body) -> Result<Vec<Announced>, String> {
    if body.event.as_deref() == Some("s3:TestEvent") {
        return Ok(Vec::new());
    }
    if let (Some(bucket), Some(keys)) = (body.trail_bucket, body.trail_keys) {
        let named = |key| Announced { bucket: bucket.clone(), key, ..Announced::default() };
        return Ok(keys.into_iter().map(named).collect());
    }
    if body.source.as_deref() == Some("aws.s3") {
        return match (body.detail_kind.as_deref(), body.detail) {
            (Some("Object Created"), Some(mut detail)) => {
                let key = std::mem::take(&mut detail.object.key);
                Ok(vec![detail.announced(key)])
            }
            (Some("Object Created"), None) => Err("an event of EventBridge without `detail`".to_owned()),
            _ => Ok(Vec::new()),
        };
    }
    let records = body.records.ok_or("JSON, but neither `Records` nor an event of EventBridge, SNS or CloudTrail")?;
    records.into_iter().filter_map(|record| record.object().transpose()).collect()
}

impl Record {
    /// The object, if one was created.
    fn object(self) -> Result<Option<Announced>, String> {
        if let Some(source) = self.source.filter(|source| !source.ends_with(":s3")) {
            return Err(format!("an event of `{source}`, not of S3"));
        }
        if let Some(version) = self.version.filter(|version| !version.starts_with(VERSION)) {
            return Err(format!("version {version} of event messages; this reads {VERSION}x"));
        }
        let name = self.name.ok_or("a record without `eventName`")?;
        if !name.strip_prefix("s3:").unwrap_or(&name).starts_with("ObjectCreated:") {
            return Ok(None);
        }
        let entity = self.s3.ok_or("a record without `s3`")?;
        let key = form_decoded(&entity.object.key).ok_or("a key that is not UTF-8")?;
        Ok(Some(entity.announced(key)))
    }
}

/// Undoes `application/x-www-form-urlencoded`; a `%` without two digits behind it stands for itself. `None` if what
/// comes out is not UTF-8, which no key of S3 is.
fn form_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return String::from_utf8(out).ok(),
            [b'+', rest @ ..] => {
                out.push(b' ');
                rest
            }
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(digit(*high) << 4 | digit(*low));
                rest
            }
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        };
    }
}

fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        letter => (letter | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn record(name: &str, key: &str) -> serde_json::Value {
        json!({"eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-central-1", "eventTime": "2026-11-22T06:00:00.000Z",
            "eventName": name, "userIdentity": {"principalId": "AWS:X"}, "requestParameters": {"sourceIPAddress": "192.0.2.1"},
            "responseElements": {"x-amz-request-id": "1"},
            "s3": {"s3SchemaVersion": "1.0", "configurationId": "all", "bucket": {"name": "logs", "ownerIdentity": {"principalId": "A"},
                "arn": "arn:aws:s3:::logs"}, "object": {"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko", "sequencer": "0055AED6DCD90281E5"}}})
    }

    fn direct(records: &[serde_json::Value]) -> String {
        json!({ "Records": records }).to_string()
    }

    fn sns(message: &str) -> String {
        json!({"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:eu-central-1:1:t", "Subject": "Amazon S3 Notification",
            "Message": message, "Timestamp": "2026-11-22T06:00:00.000Z", "SignatureVersion": "1", "Signature": "x",
            "SigningCertURL": "https://sns.eu-central-1.amazonaws.com/x.pem", "UnsubscribeURL": "https://x"})
        .to_string()
    }

    fn event_bridge(kind: &str, key: &str) -> String {
        json!({"version": "0", "id": "1", "detail-type": kind, "source": "aws.s3", "account": "111122223333", "region": "eu-central-1",
            "resources": ["arn:aws:s3:::logs"], "detail": {"version": "0", "bucket": {"name": "logs"}, "object": {"key": key, "size": 1024,
            "etag": "d41d8cd98f00b204e9800998ecf8427e", "version-id": "096fKKXTRTtl3on89fVO.nfljtsv6qko", "sequencer": "0055AED6DCD90281E5"},
            "request-id": "1", "requester": "111122223333", "reason": "PutObject"}})
        .to_string()
    }

    fn expected(key: &str) -> Announced {
        Announced {
            bucket: "logs".into(),
            key: key.into(),
            size_bytes: Some(1024),
            etag: Some("d41d8cd98f00b204e9800998ecf8427e".into()),
            version: Some("096fKKXTRTtl3on89fVO.nfljtsv6qko".into()),
            sequencer: Some("0055AED6DCD90281E5".into()),
        }
    }

    #[test]
    fn every_envelope_gives_the_same_object() {
        let plain = direct(&[record("ObjectCreated:Put", "a/red+flower%2B%C3%A9.gz")]);
        let bridged = event_bridge("Object Created", "a/red flower+é.gz");
        for body in [&plain, &sns(&plain), &bridged, &sns(&bridged)] {
            assert_eq!(parse(body), Ok(vec![expected("a/red flower+é.gz")]), "{body}");
        }
    }

    #[test]
    fn several_records_give_their_objects_in_order_without_those_that_were_not_created() {
        let body = direct(&[
            record("ObjectCreated:CompleteMultipartUpload", "1"),
            record("ObjectRemoved:Delete", "2"),
            record("s3:ObjectCreated:Copy", "3"),
            record("ObjectRestore:Completed", "4"),
        ]);
        let keys: Vec<String> = parse(&body).unwrap().into_iter().map(|object| object.key).collect();
        assert_eq!(keys, ["1", "3"]);
        assert_eq!(parse(&event_bridge("Object Deleted", "x")), Ok(Vec::new()));
    }

    #[test]
    fn a_test_event_names_nothing() {
        let test = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-22T06:00:00.000Z","Bucket":"logs","RequestId":"1","HostId":"2"}"#;
        assert_eq!(parse(test), Ok(Vec::new()));
        assert_eq!(parse(&sns(test)), Ok(Vec::new()));
    }

    #[test]
    fn cloudtrail_names_its_files_itself() {
        let body = sns(r#"{"s3Bucket":"trail","s3ObjectKey":["AWSLogs/1/CloudTrail/a+b.json.gz","c"]}"#);
        let found = parse(&body).unwrap();
        assert_eq!(found[0], Announced { bucket: "trail".into(), key: "AWSLogs/1/CloudTrail/a+b.json.gz".into(), ..Announced::default() });
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn what_a_store_leaves_out_is_not_known() {
        let body = r#"{"EventName":"s3:ObjectCreated:Put","Key":"logs/a","Records":[{"eventVersion":"2.0","eventSource":"minio:s3",
            "eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"logs"},"object":{"key":"a%2Fb","eTag":"","sequencer":""}}}]}"#;
        assert_eq!(parse(body), Ok(vec![Announced { bucket: "logs".into(), key: "a/b".into(), ..Announced::default() }]));
    }

    #[test]
    fn messages_of_others_are_errors_that_say_what_is_wrong() {
        let foreign = direct(&[record("ObjectCreated:Put", "a")]).replace("aws:s3", "aws:ses");
        let newer = direct(&[record("ObjectCreated:Put", "a")]).replace("\"2.1\"", "\"3.0\"");
        let confirmation = sns("x").replace("\"Notification\"", "\"SubscriptionConfirmation\"");
        for (body, part) in [
            ("hello", "not an event of S3"),
            ("{}", "neither `Records`"),
            ("[]", "not an event of S3"),
            (r#"{"Records":[{}]}"#, "without `eventName`"),
            (r#"{"Records":[{"eventName":"ObjectCreated:Put"}]}"#, "without `s3`"),
            (r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"%FF"}}}]}"#, "not UTF-8"),
            (&foreign, "`aws:ses`"),
            (&newer, "version 3.0"),
            (&confirmation, "SubscriptionConfirmation"),
            (&sns("hello"), "not an event of S3"),
            (&sns(&sns("{}")), "neither `Records`"),
            (&"x".repeat(BODY_BYTES_MAX + 1), "SQS has at most"),
            (&"{\"x\":".repeat(100_000), "not an event of S3"),
        ] {
            let error = parse(body).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn keys_are_decoded_as_forms_are() {
        for (text, key) in [
            ("a%2Fb+c%2Bd", "a/b c+d"),
            ("AWSLogs/1/x%3D1/%E2%82%AC", "AWSLogs/1/x=1/€"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%%34", "%4"),
            ("%41%6a%6A", "Ajj"),
            ("", ""),
        ] {
            assert_eq!(form_decoded(text).as_deref(), Some(key), "{text}");
        }
    }

    proptest! {
        #[test]
        fn keys_survive_encoding(key in "\\PC{0,40}") {
            let encoded: String = key.bytes().map(|byte| match byte {
                b' ' => "+".to_owned(),
                b'a'..=b'z' | b'/' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            }).collect();
            prop_assert_eq!(form_decoded(&encoded), Some(key));
        }

        #[test]
        fn damaged_bodies_never_panic_and_invent_no_object(
            kind in 0usize..4,
            cuts in prop::collection::vec((any::<prop::sample::Index>(), "\\PC{0,3}"), 1..6),
        ) {
            let plain = direct(&[record("ObjectCreated:Put", "k1"), record("ObjectCreated:Put", "k2")]);
            let bodies = [plain.clone(), sns(&plain), event_bridge("Object Created", "k1"), "{\"s3Bucket\":\"b\",\"s3ObjectKey\":[\"k\"]}".into()];
            let mut body: Vec<char> = bodies[kind].chars().collect();
            for (at, text) in cuts {
                let at = at.index(body.len());
                body.splice(at..at + 1, text.chars());
                if body.is_empty() {
                    body.push('x');
                }
            }
            if let Ok(objects) = parse(&body.into_iter().collect::<String>()) {
                prop_assert!(objects.len() <= 2);
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
