//! The Direct PUT API: JSON 1.1, `X-Amz-Target: Firehose_20150804.<Operation>`.
//!
//! Operations: PutRecord, PutRecordBatch, Create-, Describe-, List- and DeleteDeliveryStream(s). Source: the Amazon Data
//! Firehose API Reference; the texts of errors as clients have reported them. Answers are compact JSON: Fluent Bit
//! looks for `"FailedPutCount":0` without a blank. Limits count decoded bytes, as AWS does.
//!
//! Under pressure the whole call fails with 500 ServiceUnavailableException, which every client retries.
//! Where AWS prints the Java object that it refuses, only its size is printed.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::records::{self, Bad, DIRECT_PUT, Records};
use super::streams::{NAME_BYTES_MAX, Refusal, has_name_characters};
use super::{Configured, TARGET, json_response};
use crate::clock;
use crate::event::{Origin, OriginField};
use crate::net::http_server::{self, BodyError, BodyLimits, ReadBody};
use crate::net::inflate::{Encoding, inflate};
use crate::net::sigv4::{self, SigV4Error, SignedRequest};
use crate::source::{Intake, Messages, Refused};

/// Largest body: 4 MiB of records are 5.6 MiB of base64; the rest lets a client that sends too much hear so
/// instead of losing the connection.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Decoded bytes of one record: 1,000 KiB.
const RECORD_BYTES_MAX: usize = 1_024_000;

/// Decoded bytes of one PutRecordBatch.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Records of one PutRecordBatch.
const BATCH_RECORDS_MAX: usize = 500;

/// Names in one answer of ListDeliveryStreams.
const LIST_LIMIT_MAX: usize = 10_000;

/// What ListDeliveryStreams gives if no limit is asked for, from the API reference.
const LIST_LIMIT: usize = 10;

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// An error as AWS answers it.
struct ApiError {
    status: StatusCode,
    name: &'static str,
    message: String,
}

impl ApiError {
    fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, name, message: message.into() }
    }

    fn slow_down() -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new("ServiceUnavailableException", "Slow down.") }
    }

    /// The wording of AWS's request validation.
    fn validation(wrong: &[String]) -> Self {
        let plural = if wrong.len() == 1 { "" } else { "s" };
        Self::new("ValidationException", format!("{} validation error{plural} detected: {}", wrong.len(), wrong.join("; ")))
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => too_large(),
            BodyError::Busy => Self::slow_down(),
            BodyError::Timeout => Self { status: StatusCode::REQUEST_TIMEOUT, ..Self::new("RequestTimeoutException", error.to_string()) },
            _ => Self::new("SerializationException", error.to_string()),
        }
    }
}

impl From<SigV4Error> for ApiError {
    fn from(error: SigV4Error) -> Self {
        Self::new(error.aws_name(), error.to_string())
    }
}

impl From<Refused> for ApiError {
    fn from(_: Refused) -> Self {
        Self::slow_down()
    }
}

fn too_large() -> ApiError {
    ApiError::new("InvalidArgumentException", "Records size exceeds 4 MB limit")
}

/// Answers one request.
pub(super) async fn answer(source: &Configured, request: Request<Incoming>, peer: IpAddr, intake: &dyn Intake) -> Response<Full<Bytes>> {
    let request_id = request_id();
    let mut response = match run(source, request, peer, intake, &request_id).await {
        Ok(body) => json_response(StatusCode::OK, CONTENT_TYPE, body),
        Err(error) => {
            intake.count_refused_from(error.name, peer);
            let body = json!({ "__type": error.name, "message": error.message });
            json_response(error.status, CONTENT_TYPE, body.to_string().into_bytes())
        }
    };
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

async fn run(
    source: &Configured,
    request: Request<Incoming>,
    peer: IpAddr,
    intake: &dyn Intake,
    request_id: &str,
) -> Result<Vec<u8>, ApiError> {
    let (head, body) = request.into_parts();
    let target = head.headers.get(TARGET).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.strip_prefix("Firehose_20150804.").ok_or_else(|| ApiError::new("UnknownOperationException", ""))?;
    let limits = BodyLimits { wire_bytes_max: BODY_BYTES_MAX, budget: Some(intake.budget()), ..BodyLimits::default() };
    let ReadBody { bytes: body, mut reservation, .. } = http_server::read_raw_body(body, &limits).await?;
    authorize(source, &head, &body)?;
    let body = inflated(&head.headers, body)?;
    if !matches!(operation, "PutRecord" | "PutRecordBatch") {
        return manage(source, operation, &body, &head.headers);
    }
    let records = checked(source, operation, records::read(&body, &DIRECT_PUT).map_err(bad)?)?;
    let count = records.spans.len();
    let name = records.name.unwrap_or_default();
    let origins = vec![(0, Arc::new(Origin::default().with(OriginField::Stream, name)))];
    let messages = Messages { bytes: records.bytes, spans: records.spans, peers: vec![(0, peer)], origins, framing: None };
    drop(body);
    let held = reservation.take().unwrap_or_else(|| intake.budget().take(0));
    intake.offer(messages, held).await?;
    Ok(if operation == "PutRecord" { put_answer(request_id) } else { batch_answer(request_id, count) })
}

/// Checks the signature, unless everybody may send.
fn authorize(source: &Configured, head: &Parts, body: &[u8]) -> Result<(), ApiError> {
    if source.is_open {
        return Ok(());
    }
    let request = SignedRequest {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
        body,
    };
    let secret_of = |id: &str| {
        let mut known = source.config.credentials.iter();
        known.find(|credential| credential.access_key_id == id).map(|credential| credential.secret_access_key.reveal())
    };
    sigv4::verify(&request, "firehose", secret_of, clock::now_ms())?;
    Ok(())
}

fn inflated(headers: &HeaderMap, body: Vec<u8>) -> Result<Vec<u8>, ApiError> {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(body) };
    let encoding = value.to_str().ok().and_then(Encoding::from_content_encoding).ok_or(BodyError::UnsupportedEncoding)?;
    inflate(encoding, &body, BODY_BYTES_MAX).map_err(|error| BodyError::Corrupt(error).into())
}

fn bad(bad: Bad) -> ApiError {
    match bad {
        Bad::Json(message) => ApiError::new("SerializationException", message),
        Bad::Base64(index) => ApiError::new("SerializationException", format!("the data of record {index} is not base64")),
    }
}

/// Checks what a client asks against the API's limits and the streams.
fn checked(source: &Configured, operation: &str, records: Records) -> Result<Records, ApiError> {
    let is_batch = operation == "PutRecordBatch";
    let member = if is_batch { "records" } else { "record" };
    let mut wrong = wrong_name(records.name.as_deref());
    match records.spans.len() {
        _ if !records.has_records => wrong.push(format!("Value null at '{member}' failed to satisfy constraint: Member must not be null")),
        0 => wrong.push(format!("Value '[]' at '{member}' failed to satisfy constraint: Member must have length greater than or equal to 1")),
        count if count > BATCH_RECORDS_MAX => wrong.push(format!(
            "Value '[{count} records]' at '{member}' failed to satisfy constraint: Member must have length less than or equal to {BATCH_RECORDS_MAX}"
        )),
        _ => {}
    }
    for (index, span) in records.spans.iter().enumerate().filter(|(_, span)| span.len() > RECORD_BYTES_MAX).take(BATCH_RECORDS_MAX) {
        let (len, at) = (span.len(), if is_batch { format!("records.{}.member.data", index + 1) } else { "record.data".to_owned() });
        wrong.push(format!(
            "Value 'java.nio.HeapByteBuffer[pos=0 lim={len} cap={len}]' at '{at}' failed to satisfy constraint: Member must have length less \
             than or equal to {RECORD_BYTES_MAX}"
        ));
    }
    if !wrong.is_empty() {
        return Err(ApiError::validation(&wrong));
    }
    if records.bytes.len() > BATCH_BYTES_MAX {
        return Err(too_large());
    }
    let name = records.name.as_deref().unwrap_or_default();
    if source.streams.is_known(name) { Ok(records) } else { Err(not_found(source, name)) }
}

fn wrong_name(name: Option<&str>) -> Vec<String> {
    let Some(name) = name else {
        return vec!["Value null at 'deliveryStreamName' failed to satisfy constraint: Member must not be null".to_owned()];
    };
    let fails = |what: String| format!("Value '{name}' at 'deliveryStreamName' failed to satisfy constraint: Member must {what}");
    let mut wrong = Vec::new();
    if name.is_empty() {
        wrong.push(fails("have length greater than or equal to 1".to_owned()));
    } else if !has_name_characters(name) {
        wrong.push(fails("satisfy regular expression pattern: [a-zA-Z0-9_.-]+".to_owned()));
    }
    if name.len() > NAME_BYTES_MAX {
        wrong.push(fails(format!("have length less than or equal to {NAME_BYTES_MAX}")));
    }
    wrong
}

fn not_found(source: &Configured, name: &str) -> ApiError {
    ApiError::new("ResourceNotFoundException", format!("Firehose {name} under account {} not found.", source.config.account_id))
}

fn put_answer(request_id: &str) -> Vec<u8> {
    format!(r#"{{"RecordId":"{request_id}-0","Encrypted":false}}"#).into_bytes()
}

fn batch_answer(request_id: &str, count: usize) -> Vec<u8> {
    let mut body = String::with_capacity(80 + count * (request_id.len() + 20));
    body.push_str(r#"{"FailedPutCount":0,"Encrypted":false,"RequestResponses":["#);
    for index in 0..count {
        body.push_str(if index == 0 { r#"{"RecordId":""# } else { r#",{"RecordId":""# });
        body.push_str(request_id);
        body.push('-');
        body.push_str(&index.to_string());
        body.push_str(r#""}"#);
    }
    body.push_str("]}");
    body.into_bytes()
}

/// 36 characters that are not used twice.
fn request_id() -> String {
    let mut bytes = [0u8; 16];
    // Without random bytes ids repeat, which nothing here depends on.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Management {
    delivery_stream_name: Option<String>,
    delivery_stream_type: Option<String>,
    exclusive_start_delivery_stream_name: Option<String>,
    limit: Option<usize>,
}

/// The operations on streams.
fn manage(source: &Configured, operation: &str, body: &[u8], headers: &HeaderMap) -> Result<Vec<u8>, ApiError> {
    if !matches!(operation, "CreateDeliveryStream" | "DescribeDeliveryStream" | "ListDeliveryStreams" | "DeleteDeliveryStream") {
        return Err(ApiError::new("UnknownOperationException", ""));
    }
    let input: Management = serde_json::from_slice(body).map_err(|error| ApiError::new("SerializationException", error.to_string()))?;
    if operation == "ListDeliveryStreams" {
        let limit = input.limit.unwrap_or(LIST_LIMIT).clamp(1, LIST_LIMIT_MAX);
        let (names, has_more) = source.streams.list(input.exclusive_start_delivery_stream_name.as_deref(), limit);
        return Ok(json!({ "DeliveryStreamNames": names, "HasMoreDeliveryStreams": has_more }).to_string().into_bytes());
    }
    let wrong = wrong_name(input.delivery_stream_name.as_deref());
    if !wrong.is_empty() {
        return Err(ApiError::validation(&wrong));
    }
    let name = input.delivery_stream_name.unwrap_or_default();
    let account = &source.config.account_id;
    let arn = format!("arn:aws:firehose:{}:{account}:deliverystream/{name}", region(headers));
    let answer = match operation {
        "CreateDeliveryStream" => {
            if input.delivery_stream_type.as_deref().is_some_and(|kind| kind != "DirectPut") {
                return Err(ApiError::new("InvalidArgumentException", "Only delivery streams of the type DirectPut can be created here"));
            }
            source.streams.create(&name, clock::now_ms()).map_err(|refusal| refused(source, &name, &refusal))?;
            json!({ "DeliveryStreamARN": arn })
        }
        "DeleteDeliveryStream" => {
            source.streams.delete(&name).map_err(|refusal| refused(source, &name, &refusal))?;
            json!({})
        }
        _ if source.streams.is_known(&name) => description(source, &name, &arn),
        _ => return Err(not_found(source, &name)),
    };
    Ok(answer.to_string().into_bytes())
}

fn refused(source: &Configured, name: &str, refusal: &Refusal) -> ApiError {
    let account = &source.config.account_id;
    match refusal {
        Refusal::Exists => ApiError::new("ResourceInUseException", format!("Firehose {name} under accountId {account} already exists")),
        Refusal::Unknown => not_found(source, name),
        Refusal::Configured => ApiError::new(
            "ResourceInUseException",
            format!("Firehose {name} stands in the configuration and cannot be deleted by a client"),
        ),
        Refusal::TooMany => ApiError::new("LimitExceededException", "You have already consumed your firehose quota"),
    }
}

fn description(source: &Configured, name: &str, arn: &str) -> Value {
    let mut description = json!({
        "DeliveryStreamName": name,
        "DeliveryStreamARN": arn,
        "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamType": "DirectPut",
        "VersionId": "1",
        "Destinations": [{ "DestinationId": "destinationId-000000000001" }],
        "HasMoreDestinations": false,
    });
    if let (Some(created_ms), Some(object)) = (source.streams.created_ms(name), description.as_object_mut()) {
        object.insert("CreateTimestamp".to_owned(), json!(created_ms as f64 / 1000.0));
    }
    json!({ "DeliveryStreamDescription": description })
}

/// The region that the client has signed for; a listener of one's own has none.
fn region(headers: &HeaderMap) -> &str {
    let scope = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.split("Credential=").nth(1));
    scope.and_then(|scope| scope.split('/').nth(2)).filter(|region| has_name_characters(region)).unwrap_or("us-east-1")
}
