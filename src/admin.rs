//! The admin HTTP API: health, metrics, the plan, live events.
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while every shard runs, else 503 |
//! | `/readyz` | 200 if traffic should come here, else 503; JSON: `ready`, `reason`, `held` |
//! | `/metrics` | Prometheus text format 0.0.4 |
//! | `/api/v1/config` | JSON: settings, sources, sinks, routes, rules; no secret is in it |
//! | `/api/v1/ledger?since=&sender=` | JSON: what became of every event ([`crate::ledger::Book`]), `balanced`, `imbalances` |
//! | `/api/v1/health` | JSON: how every sender is ([`crate::source_health`]) |
//! | `/api/v1/rules` | JSON: what every rule has cost and found since the start, and whether it is in quarantine |
//! | `/api/v1/silences` | JSON: silences that are not over, each with how many alerts it has `silenced` since the start |
//! | `/api/v1/tap?source=&sink=&limit=` | NDJSON, a sample of live events ([`crate::pipeline::tap`]), until the limit or until the client goes |
//!
//! Ready means: every listener of every shard is open, no source has failed, no stop is under way. A destination
//! that is held (a person has to act) is named under `held` and does not make it unready: what comes in waits for
//! it, and sending the traffic elsewhere would mend nothing.
//!
//! It has no authentication, so it listens on loopback only, which the plan checks. A web page that a person on
//! this machine visits must not read it either: a request whose `Host` is not this machine by name or address is
//! refused (DNS rebinding), and no answer permits cross-origin reading. Everything is `GET`.
//!
//! It runs on a thread of its own, so that no request ever takes time from a shard, and it answers until the
//! shards have drained.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::detect::sigma::SigmaRule;
use crate::error::{Error, ErrorKind, nearest};
use crate::ledger;
use crate::metrics::{
    ALERTS_NOT_MADE, BUDGET_LIMIT, BUDGET_USED, EVENTS_RECEIVED, EVENTS_RESENT, EVENTS_WAITING, Family, HELD, LEDGER_IMBALANCES, RULE_CPU,
    RULE_HITS, RULES_QUARANTINED, RULES_SHARED_CPU,
};
use crate::net::http_server::{ServerOptions, serve};
use crate::pipeline::health::Readiness;
use crate::pipeline::plan::Plan;
use crate::pipeline::shard::Common;
use crate::pipeline::silence::Silence;
use crate::pipeline::tap::{Filter, WATCHERS_MAX};
use crate::task::{self, Stopper};

/// Connections at a time: a scraper, a probe, a few people.
const CONNECTIONS_MAX: usize = 64;

/// Time for answers in progress when it ends.
const GRACE: Duration = Duration::from_millis(500);

/// A running admin API.
pub struct Admin {
    address: SocketAddr,
    common: Common,
    stopper: Stopper,
    thread: JoinHandle<()>,
}

/// Starts the API at `address`; `common` is that of the pipeline.
///
/// # Errors
/// The address is taken or cannot be used.
pub fn start(address: SocketAddr, common: &Common) -> Result<Admin, Error> {
    let failed = |error: std::io::Error| {
        let message = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another process listens at the address of `admin`",
            _ => "the admin API cannot listen",
        };
        Error::new(ErrorKind::Connection, "start the admin API", message).with("address", address).because(error)
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (stopper, stop) = task::pair();
    let shared = common.clone();
    let run = move || {
        LocalSet::new().block_on(&runtime, async move {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the admin API ended"),
            };
            let options = ServerOptions { connections_max: CONNECTIONS_MAX, grace: GRACE, ..ServerOptions::default() };
            let shared = Rc::new(shared);
            let handler = move |request: Request<Incoming>, _| std::future::ready(answer(&request, &shared));
            serve(listener, options, handler, stop.wait()).await;
        });
    };
    let thread = std::thread::Builder::new().name("hydrant-admin".into()).spawn(run).map_err(failed)?;
    Ok(Admin { address, common: common.clone(), stopper, thread })
}

impl Admin {
    /// Where it listens; the port is the real one if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it and every stream of live events.
    pub fn stop(self) {
        self.common.taps.close();
        self.stopper.stop();
        if self.thread.join().is_err() {
            tracing::error!("the admin API panicked");
        }
    }
}

fn answer(request: &Request<Incoming>, common: &Common) -> Response<Answer> {
    let host = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
    if host.is_some_and(|host| !is_this_machine(host)) {
        let message = "the Host of the request is not this machine; the admin API is for loopback only";
        return problem(StatusCode::MISDIRECTED_REQUEST, message.to_owned());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here".to_owned());
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/healthz" => health(common),
        "/readyz" => readiness(common),
        "/metrics" => metrics(common),
        "/api/v1/config" => json_answer(StatusCode::OK, &summary(&common.plan.borrow())),
        "/api/v1/ledger" => book(request.uri().query().unwrap_or_default(), common),
        "/api/v1/health" => senders(common),
        "/api/v1/rules" => rules(common),
        "/api/v1/silences" => silences(common),
        "/api/v1/tap" => tap(request.uri().query().unwrap_or_default(), common),
        _ => problem(
            StatusCode::NOT_FOUND,
            "there are /healthz, /readyz, /metrics, /api/v1/config, /api/v1/ledger, /api/v1/health, /api/v1/rules, /api/v1/silences \
             and /api/v1/tap"
                .to_owned(),
        ),
    }
}

/// Whether a `Host` header names this machine from the inside.
fn is_this_machine(host: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn health(common: &Common) -> Response<Answer> {
    match common.health.shards_lost() {
        0 => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".to_owned()),
        lost => problem(StatusCode::SERVICE_UNAVAILABLE, format!("{lost} shards have ended")),
    }
}

fn readiness(common: &Common) -> Response<Answer> {
    let readiness = common.health.readiness();
    let reason = match &readiness {
        Readiness::Ready => "every listener is open".to_owned(),
        Readiness::Starting { opened, of } => format!("{opened} of {of} sources are open"),
        Readiness::Failed(1) => "a source has failed".to_owned(),
        Readiness::Failed(count) => format!("{count} sources have failed"),
        Readiness::Stopping => "it is stopping".to_owned(),
    };
    let held = common.registry.list(&HELD).into_iter().filter(|(_, value)| *value > 0);
    let held: Vec<String> = held.flat_map(|(labels, _)| labels.into_iter().map(|(_, value)| value)).collect();
    let is_ready = readiness == Readiness::Ready;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_answer(status, &json!({ "ready": is_ready, "reason": reason, "held": held }))
}

fn metrics(common: &Common) -> Response<Answer> {
    // Gauges that somebody else keeps are read when they are asked for.
    common.registry.cell(&BUDGET_USED, &[]).set(common.budget.used_bytes() as u64);
    common.registry.cell(&BUDGET_LIMIT, &[]).set(common.budget.limit_bytes() as u64);
    let book = common.ledger.book();
    common.registry.cell(&LEDGER_IMBALANCES, &[]).set(book.imbalances().len() as u64);
    for (name, destination) in &book.destinations {
        let labels: &[(&str, &str)] = &[("component_id", name)];
        common.registry.cell(&EVENTS_WAITING, labels).set(destination.events.waiting + destination.alerts.waiting);
        common.registry.cell(&EVENTS_RESENT, labels).set(destination.resent);
    }
    text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", common.registry.render())
}

fn book(query: &str, common: &Common) -> Response<Answer> {
    let (mut since, mut sender) = (None, None);
    for (key, value) in pairs(query) {
        match key {
            "since" => since = Some(value),
            "sender" => sender = Some(value),
            _ => return problem(StatusCode::BAD_REQUEST, format!("there is no parameter `{key}`; there are since and sender")),
        }
    }
    let book = match since.map(|since| ledger::time(&since)) {
        None => Ok(common.ledger.book()),
        Some(Ok(at_ms)) => common.ledger.since(at_ms),
        Some(Err(message)) => return problem(StatusCode::BAD_REQUEST, message),
    };
    match book {
        Ok(book) => json_answer(StatusCode::OK, &book.report(sender.as_deref())),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn senders(common: &Common) -> Response<Answer> {
    let plan = common.plan.borrow().clone();
    json_answer(StatusCode::OK, &common.source_health.report(&plan.source_health.settings))
}

fn rules(common: &Common) -> Response<Answer> {
    let plan = common.plan.borrow().clone();
    let by_rule = |family: &'static Family| {
        let mut sums = BTreeMap::new();
        for (labels, value) in common.registry.list(family) {
            let id = labels.into_iter().find(|(key, _)| *key == "rule_id").map(|(_, id)| id);
            *sums.entry(id.unwrap_or_default()).or_insert(0) += value;
        }
        sums
    };
    let [cpu_ns, hits, quarantined] = [&RULE_CPU, &RULE_HITS, &RULES_QUARANTINED].map(by_rule);
    let of = |sums: &BTreeMap<String, u64>, rule: &SigmaRule| sums.get(&rule.id).copied().unwrap_or(0);
    let rule = |rule: &SigmaRule| {
        json!({
            "rule_id": rule.id, "title": rule.title, "cpu_ns": of(&cpu_ns, rule), "hits": of(&hits, rule),
            "quarantined": of(&quarantined, rule) > 0,
        })
    };
    let total = |family| common.registry.list(family).into_iter().map(|(_, value)| value).sum::<u64>();
    json_answer(
        StatusCode::OK,
        &json!({
            "events": total(&EVENTS_RECEIVED), "shared_cpu_ns": total(&RULES_SHARED_CPU),
            "rules": plan.rules.rules.iter().map(rule).collect::<Vec<_>>(),
        }),
    )
}

fn silences(common: &Common) -> Response<Answer> {
    let plan = common.plan.borrow().clone();
    let silence = |silence: &Silence| {
        let mut value = json!(silence);
        value["silenced"] = json!(common.registry.sum(&ALERTS_NOT_MADE, "silence", &silence.id));
        value
    };
    json_answer(StatusCode::OK, &json!({ "silences": plan.silences.list.iter().map(silence).collect::<Vec<_>>() }))
}

/// Names and values of a query; those without a value are left out.
fn pairs(query: &str) -> impl Iterator<Item = (&str, String)> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(key, value)| (key, decoded(value))).filter(|(_, value)| !value.is_empty())
}

/// What a plan is, without anything that a component was configured with beyond its type and addresses.
fn summary(plan: &Plan) -> Value {
    let source = |source: &crate::pipeline::plan::SourcePlan| {
        let listens: Vec<String> = source.source.listens_on().iter().map(ToString::to_string).collect();
        let decoders: Vec<Value> = source
            .line
            .decoders
            .iter()
            .map(|decoder| json!({ "name": decoder.compiled.kind().name(), "rules": decoder.detector.len() }))
            .collect();
        json!({
            "name": *source.name, "type": source.kind, "listens_on": listens, "framing": source.framer.name(), "decoders": decoders,
            "fields": source.line.width, "frame_bytes_max": source.frame_bytes_max,
        })
    };
    let sources: Vec<Value> = plan.sources.iter().map(source).collect();
    let sinks: Vec<Value> = plan.sinks.iter().map(|sink| json!({ "name": *sink.name, "type": sink.kind })).collect();
    let settings = &plan.settings;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "file": plan.written.file(),
        "settings": {
            "data_dir": settings.data_dir, "memory_bytes": settings.memory_bytes, "shards": settings.shards,
            "drain_timeout_ms": settings.drain_timeout.0.as_millis() as u64, "profile": settings.profile,
        },
        "sources": sources,
        "sinks": sinks,
        "routes": plan.written.child("routes").map_or(0, |routes| routes.items().len()),
        "rules": { "loaded": plan.rules.rules.len(), "correlations": plan.rules.correlations.len(), "skipped": plan.rules.skipped.len() },
        "warnings": plan.warnings.0.len(),
    })
}

fn tap(query: &str, common: &Common) -> Response<Answer> {
    let (filter, limit) = match tap_query(query, &common.plan.borrow()) {
        Ok(asked) => asked,
        Err((status, message)) => return problem(status, message),
    };
    let Some(lines) = common.taps.watch(filter) else {
        return problem(StatusCode::TOO_MANY_REQUESTS, format!("{WATCHERS_MAX} clients watch already"));
    };
    response(StatusCode::OK, "application/x-ndjson", Answer::Lines { lines, left: limit })
}

fn tap_query(query: &str, plan: &Plan) -> Result<(Filter, u64), (StatusCode, String)> {
    let mut filter = Filter::default();
    let mut limit = u64::MAX;
    let sources: Vec<&str> = plan.sources.iter().map(|source| &*source.name).collect();
    let sinks: Vec<&str> = plan.sinks.iter().map(|sink| &*sink.name).collect();
    for (key, value) in pairs(query) {
        match key {
            "source" => filter.source = Some(index_of("source", &sources, &value)? as u16),
            "sink" => filter.sink = Some(index_of("sink", &sinks, &value)?),
            "limit" => limit = value.parse().map_err(|_| (StatusCode::BAD_REQUEST, format!("`{value}` is not a number of events")))?,
            _ => return Err((StatusCode::BAD_REQUEST, format!("there is no parameter `{key}`; there are source, sink and limit"))),
        }
    }
    Ok((filter, limit))
}

fn index_of(what: &str, names: &[&str], name: &str) -> Result<usize, (StatusCode, String)> {
    names.iter().position(|known| *known == name).ok_or_else(|| {
        let near = nearest(name, names.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
        (StatusCode::NOT_FOUND, format!("there is no {what} `{name}`; {near}one of: {}", names.join(", ")))
    })
}

/// Percent encoding and `+` undone; what is not valid stays as it is.
fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let hex = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
        match (byte, after) {
            (b'%', [high, low, behind @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = behind;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn response(status: StatusCode, content_type: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Answer> {
    response(status, content_type, Answer::Whole(Some(body.into())))
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Answer> {
    text(status, "application/json", format!("{value}\n"))
}

fn problem(status: StatusCode, message: String) -> Response<Answer> {
    json_answer(status, &json!({ "error": message }))
}

/// A body: whole, or lines as they come.
enum Answer {
    Whole(Option<Bytes>),
    Lines { lines: mpsc::Receiver<Bytes>, left: u64 },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut *self {
            Self::Whole(bytes) => bytes.take(),
            Self::Lines { left: 0, .. } => None,
            Self::Lines { lines, left } => {
                let line = ready!(lines.poll_recv(context));
                *left -= 1;
                line
            }
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Lines { .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["localhost", "LOCALHOST:8686", "127.0.0.1:8686", "127.8.8.8", "[::1]:8686", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:8686", "localhost.evil.example", "10.0.0.1:8686", "[::2]:80", "127.0.0.1.evil"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn percent_encoding_is_undone_and_nonsense_stays() {
        for (text, expected) in [("a%20b+c", "a b c"), ("%C3%A4", "ä"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz"), ("%2", "%2")] {
            assert_eq!(decoded(text), expected);
        }
    }
}
