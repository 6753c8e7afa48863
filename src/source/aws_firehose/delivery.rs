//! HTTP endpoint delivery 1.0, as receiver: a real Firehose hands over batches of records.
//!
//! Source: Amazon Data Firehose Developer Guide, "HTTP endpoint delivery request and response specifications". Only 200
//! with a JSON body that has the request's id is success; everything else is sent again for as long as the stream's
//! retry duration says, with the same request id as a rule. 413 is final and loses the batch without a trace, so it is
//! never answered. Firehose waits three minutes for an answer.
//!
//! A request whose id was taken within the last two hours is answered well and not taken again.
//! What senders get wrong: LocalStack and Moto send none of the `X-Amz-Firehose-*` headers, which is no delivery.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::records::{self, Bad, DELIVERY};
use super::{Configured, DELIVERY_ID, json_response};
use crate::clock;
use crate::event::{Origin, OriginField};
use crate::net::http_auth::is_same;
use crate::net::http_server::{self, BodyError, BodyLimits, ReadBody};
use crate::source::{Intake, Messages, Refused};

/// How long request ids are kept: the longest retry duration of a Firehose destination.
const KEPT_MS: i64 = 2 * 3600 * 1000;

/// Request ids that are kept: 36 bytes each, about 20 MB in all; 18 deliveries a second for two hours.
const KEPT_MAX: usize = 131_072;

/// Longest request id; Firehose sends 36 characters.
const ID_BYTES_MAX: usize = 128;

/// Longest access key, from the guide.
const ACCESS_KEY_BYTES_MAX: usize = 4096;

/// What a sender is told to wait, in seconds. Firehose has its own idea; others read it.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

struct Rejection {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

impl Rejection {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }
}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        let status = if error == BodyError::TooLarge { StatusCode::BAD_REQUEST } else { error.status() };
        Self::new(status, error.reason(), error.to_string())
    }
}

impl From<Refused> for Rejection {
    fn from(refused: Refused) -> Self {
        let (reason, message) = match refused {
            Refused::Busy => ("busy", "no memory left for these records at the moment"),
            Refused::Stopping => ("stopping", "stopping"),
            Refused::NotStored => ("not_stored", "the records could not be stored"),
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, reason, message)
    }
}

/// Answers one request.
pub(super) async fn answer(
    source: &Arc<Configured>,
    request: Request<Incoming>,
    peer: IpAddr,
    intake: Rc<dyn Intake>,
) -> Response<Full<Bytes>> {
    let id = text(request.headers(), DELIVERY_ID.as_str()).unwrap_or_default().to_owned();
    let result = take(source, request, &id, peer, intake.clone()).await;
    let timestamp = clock::now_ms();
    match result {
        Ok(()) => {
            let body = json!({ "requestId": id, "timestamp": timestamp });
            json_response(StatusCode::OK, "application/json", body.to_string().into_bytes())
        }
        Err(rejection) => {
            intake.count_refused_from(rejection.reason, peer);
            let body = json!({ "requestId": id, "timestamp": timestamp, "errorMessage": rejection.message });
            let mut response = json_response(rejection.status, "application/json", body.to_string().into_bytes());
            if rejection.status == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S);
            }
            response
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn take(
    source: &Arc<Configured>,
    request: Request<Incoming>,
    id: &str,
    peer: IpAddr,
    intake: Rc<dyn Intake>,
) -> Result<(), Rejection> {
    let (head, body) = request.into_parts();
    check(source, &head.headers, id)?;
    if head.method != hyper::Method::POST {
        return Err(Rejection::new(StatusCode::METHOD_NOT_ALLOWED, "method", "deliveries come by POST"));
    }
    let limits = BodyLimits { budget: Some(intake.budget()), ..BodyLimits::default() };
    let ReadBody { bytes: body, reservation, .. } = http_server::read_body(&head.headers, body, &limits).await?;
    let bad = |message: String| Rejection::new(StatusCode::BAD_REQUEST, "body", message);
    let records = records::read(&body, &DELIVERY).map_err(|error| match error {
        Bad::Json(message) => bad(message),
        Bad::Base64(index) => bad(format!("the data of record {index} is not base64")),
    })?;
    drop(body);
    if !records.has_records {
        return Err(bad("there are no `records`".to_owned()));
    }
    if records.name.as_deref().is_some_and(|own| own != id) {
        return Err(bad("`requestId` and the header X-Amz-Firehose-Request-Id differ".to_owned()));
    }
    let claim = match source.seen.claim(id, clock::now_ms()) {
        Claimed::New => Claim { source: source.clone(), id: id.to_owned(), is_taken: false },
        Claimed::Taken => {
            intake.count_refused_from("duplicate", peer);
            return Ok(());
        }
        Claimed::InProgress => {
            return Err(Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "in_progress", "this request is being taken already"));
        }
    };
    let origins = vec![(0, Arc::new(origin(&head.headers)))];
    let messages = Messages { bytes: records.bytes, spans: records.spans, peers: vec![(0, peer)], origins, framing: None };
    let held = reservation.unwrap_or_else(|| intake.budget().take(0));
    // A task of its own: if Firehose breaks off now, the id must be kept all the same once the records are taken.
    let taken = tokio::task::spawn_local(async move {
        let mut claim = claim;
        let result = intake.offer(messages, held).await;
        claim.is_taken = result.is_ok();
        result
    });
    Ok(taken.await.unwrap_or(Err(Refused::NotStored))?)
}

fn check(source: &Configured, headers: &HeaderMap, id: &str) -> Result<(), Rejection> {
    let key = text(headers, "x-amz-firehose-access-key").filter(|key| key.len() <= ACCESS_KEY_BYTES_MAX);
    if !source.is_open && !key.is_some_and(|key| is_access_key(source, key)) {
        return Err(Rejection::new(StatusCode::UNAUTHORIZED, "unauthorized", "X-Amz-Firehose-Access-Key is missing or wrong"));
    }
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(Rejection::new(StatusCode::BAD_REQUEST, "request_id", "X-Amz-Firehose-Request-Id is no id"));
    }
    match text(headers, "x-amz-firehose-protocol-version") {
        None | Some("1.0") => Ok(()),
        Some(other) => Err(Rejection::new(StatusCode::BAD_REQUEST, "protocol", format!("protocol version {other}; 1.0 is spoken here"))),
    }
}

/// Whether `key` is one of ours. Secrets Manager keeps it as `{"api_key": "..."}`.
fn is_access_key(source: &Configured, key: &str) -> bool {
    let inner = if key.starts_with('{') { serde_json::from_str::<Value>(key).ok() } else { None };
    let key = inner.as_ref().and_then(|value| value.get("api_key")?.as_str()).unwrap_or(key);
    // Every key is compared, so that the time does not tell which one is near.
    source.config.access_key.0.iter().fold(false, |found, own| found | is_same(own.reveal().as_bytes(), key.as_bytes()))
}

/// The stream and the common attributes of a delivery.
fn origin(headers: &HeaderMap) -> Origin {
    let mut origin = Origin::default();
    if let Some((_, name)) = text(headers, "x-amz-firehose-source-arn").and_then(|arn| arn.rsplit_once('/')) {
        origin = origin.with(OriginField::Stream, name);
    }
    let common = text(headers, "x-amz-firehose-common-attributes").and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(attributes) = common.as_ref().and_then(|common| common.get("commonAttributes")).filter(|value| value.is_object()) {
        origin = origin.with(OriginField::Attributes, attributes.to_string());
    }
    origin
}

/// Request ids of the last two hours, for all shards: a retry may come through another one. One lock per request.
#[derive(Default)]
pub(super) struct Seen(Mutex<Ids>);

#[derive(Default)]
struct Ids {
    /// `None` while the request is being taken.
    known: HashMap<Arc<str>, Option<i64>>,
    /// Taken ids, the oldest first.
    order: VecDeque<(i64, Arc<str>)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Claimed {
    New,
    InProgress,
    Taken,
}

impl Seen {
    fn claim(&self, id: &str, now_ms: i64) -> Claimed {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while ids.order.front().is_some_and(|(taken_ms, _)| *taken_ms < now_ms - KEPT_MS) {
            ids.forget_oldest();
        }
        match ids.known.get(id) {
            Some(Some(_)) => Claimed::Taken,
            Some(None) => Claimed::InProgress,
            None => {
                ids.known.insert(id.into(), None);
                Claimed::New
            }
        }
    }

    fn settle(&self, id: &str, taken_ms: Option<i64>) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(taken_ms) = taken_ms else {
            ids.known.remove(id);
            return;
        };
        let id: Arc<str> = id.into();
        ids.known.insert(id.clone(), Some(taken_ms));
        ids.order.push_back((taken_ms, id));
        if ids.order.len() > KEPT_MAX {
            ids.forget_oldest();
        }
    }
}

impl Ids {
    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.known.remove(&id);
        }
    }
}

/// The right to take a request; whatever happens to it, the id does not stay claimed.
struct Claim {
    source: Arc<Configured>,
    id: String,
    is_taken: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.source.seen.settle(&self.id, self.is_taken.then(clock::now_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_once_within_two_hours() {
        let seen = Seen::default();
        assert_eq!(seen.claim("a", 0), Claimed::New);
        assert_eq!(seen.claim("a", 1), Claimed::InProgress);
        seen.settle("a", None);
        assert_eq!(seen.claim("a", 2), Claimed::New, "what failed may come again");
        seen.settle("a", Some(3));
        assert_eq!(seen.claim("a", KEPT_MS + 3), Claimed::Taken);
        assert_eq!(seen.claim("a", KEPT_MS + 4), Claimed::New);
    }

    #[test]
    fn memory_for_ids_is_bounded() {
        let seen = Seen::default();
        for index in 0..KEPT_MAX + 100 {
            let id = index.to_string();
            assert_eq!(seen.claim(&id, 0), Claimed::New);
            seen.settle(&id, Some(0));
        }
        assert_eq!(seen.0.lock().unwrap().known.len(), KEPT_MAX);
        assert_eq!((seen.claim("99", 0), seen.claim("100", 0)), (Claimed::New, Claimed::Taken), "the oldest are forgotten");
    }

    #[test]
    fn what_a_delivery_says_of_itself_goes_beside_its_records() {
        let mut headers = HeaderMap::new();
        let arn = "arn:aws:firehose:us-east-1:123456789012:deliverystream/waf";
        headers.insert("x-amz-firehose-source-arn", HeaderValue::from_static(arn));
        headers.insert("x-amz-firehose-common-attributes", HeaderValue::from_static(r#"{"commonAttributes":{"env":"prod"}}"#));
        let origin = origin(&headers);
        assert_eq!((origin.value(OriginField::Stream), origin.value(OriginField::Attributes)), (Some("waf"), Some(r#"{"env":"prod"}"#)));
        headers.insert("x-amz-firehose-common-attributes", HeaderValue::from_static("{"));
        assert_eq!(super::origin(&headers).value(OriginField::Attributes), None);
    }
}
