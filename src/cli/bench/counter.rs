//! The process at which everything arrives: `hydrant bench-counter`, started by `hydrant bench`.
//!
//! One HTTP server for each arrival point. Takes every POST and PUT, undoes gzip, zstd and deflate, counts the
//! events of the body, answers 200. Counting is structural: lines, or the objects of a JSON array. Alerts are
//! told apart by Hydrant's reserved key. In: the number of points as an argument; then a line on stdin for each
//! report, end of input to stop. Out: the addresses as a JSON line, then an [`Arrived`] for each point per report.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::{process, stamp};
use crate::cli::Failure;
use crate::error::{Error, ErrorKind};
use crate::net::http_server::{self, BodyLimits, ServerOptions};
use crate::net::listen;

#[derive(clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Number of arrival points.
    points: usize,
}

/// What has arrived at one point.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Arrived {
    pub(super) events: u64,
    pub(super) alerts: u64,
    pub(super) requests: u64,
    /// Bytes as sent, and after decompression.
    pub(super) wire_bytes: u64,
    pub(super) plain_bytes: u64,
    /// Requests that could not be read.
    pub(super) broken: u64,
    /// Monotonic time of the last request.
    pub(super) last_ns: u64,
    /// From the stamp of a line to its arrival, sampled, since the last report.
    pub(super) latencies_ns: Vec<u64>,
}

/// Samples that are kept between two reports.
const LATENCIES_MAX: usize = 1 << 20;

/// What a `hydrant` object of an alert begins with behind its source.
const ALERT: &[u8] = b"\"alert\":true,\"rule\":";

pub(in crate::cli) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Error::new(ErrorKind::Connection, "count", "the benchmark's counter failed").because(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    LocalSet::new().block_on(&runtime, async {
        let mut points = Vec::new();
        let mut addresses = Vec::new();
        for _ in 0..arguments.points {
            let listener = listen::tcp(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            addresses.push(listener.local_addr().map_err(failed)?);
            let point = Rc::new(RefCell::new(Arrived::default()));
            points.push(point.clone());
            tokio::task::spawn_local(serve(listener, point));
        }
        process::answer(&addresses)?;
        let (asked, mut questions) = mpsc::channel(1);
        std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).all(|_| asked.blocking_send(()).is_ok()));
        while questions.recv().await.is_some() {
            let arrived: Vec<Arrived> = points.iter().map(|point| point.borrow().clone()).collect();
            points.iter().for_each(|point| point.borrow_mut().latencies_ns.clear());
            process::answer(&arrived)?;
        }
        Ok(())
    })
}

async fn serve(listener: tokio::net::TcpListener, point: Rc<RefCell<Arrived>>) {
    let handler = move |request: Request<Incoming>, _| {
        let point = point.clone();
        async move { take(request, &point).await.unwrap_or_else(|never| match never {}) }
    };
    http_server::serve(listener, ServerOptions::default(), handler, std::future::pending()).await;
}

async fn take(request: Request<Incoming>, point: &RefCell<Arrived>) -> Result<Response<Full<Bytes>>, Infallible> {
    // Datadog answers 202, everybody else 200.
    let status = if request.uri().path() == "/api/v2/logs" { StatusCode::ACCEPTED } else { StatusCode::OK };
    let (head, body) = request.into_parts();
    let limits = BodyLimits::default();
    let mut response = Response::new(Full::from(r#"{"text":"Success","code":0}"#));
    match http_server::read_body(&head.headers, body, &limits).await {
        Ok(body) => point.borrow_mut().add(&body.bytes, body.wire_bytes, process::monotonic_ns()),
        Err(error) => {
            point.borrow_mut().broken += 1;
            *response.status_mut() = error.status();
            return Ok(response);
        }
    }
    *response.status_mut() = status;
    Ok(response)
}

impl Arrived {
    fn add(&mut self, body: &[u8], wire_bytes: usize, now_ns: u64) {
        let alerts = Finder::new(ALERT).find_iter(body).count() as u64;
        self.events += events(body) - alerts;
        self.alerts += alerts;
        self.requests += 1;
        self.wire_bytes += wire_bytes as u64;
        self.plain_bytes += body.len() as u64;
        self.last_ns = now_ns;
        let mut rest = body;
        while let Some((sent_ns, end)) = stamp::find(rest) {
            if self.latencies_ns.len() < LATENCIES_MAX {
                self.latencies_ns.push(now_ns.saturating_sub(sent_ns));
            }
            rest = &rest[end..];
        }
    }
}

/// Events of a body: elements of a JSON array, or lines that are not empty.
pub(super) fn events(body: &[u8]) -> u64 {
    if body.first() == Some(&b'[') {
        return crate::json::elements(body).count() as u64;
    }
    let mut count = 0;
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', body) {
        count += u64::from(end > start);
        start = end + 1;
    }
    count + u64::from(start < body.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_counted_in_every_form() {
        assert_eq!(events(b""), 0);
        assert_eq!(events(b"a\n\nb\nc"), 3);
        assert_eq!(events(b"a\nb\n"), 2);
        assert_eq!(events(br#"[{"message":"a,\"{b"},{"c":[1,{"d":2}]},{}]"#), 3);
    }

    #[test]
    fn alerts_are_not_events_and_stamps_give_latencies() {
        let mut arrived = Arrived::default();
        let body =
            b"{\"event\":\"hydrantstamp0000000000000064\"}\n{\"event\":{\"hydrant\":{\"source\":\"in\",\"alert\":true,\"rule\":{}}}}";
        arrived.add(body, 10, 0x65);
        assert_eq!((arrived.events, arrived.alerts, arrived.latencies_ns), (1, 1, vec![1]));
    }
}
