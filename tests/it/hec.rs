//! A strict Splunk HTTP Event Collector, written from Splunk's documents ("Format events for HTTP Event
//! Collector", "Troubleshoot HTTP Event Collector", "About HTTP Event Collector Indexer Acknowledgment"), since no
//! real one can be installed here. It shares no code with Hydrant.
//!
//! Strict: wrong token 403/4, none 401/2, no data 400/5, bad JSON 400/6, missing event 400/12, blank event 400/13,
//! `time` that is no plain number 400/6, unknown top-level keys 400/6, `fields` with other than strings 400/15,
//! acknowledgement without a channel 400/10, an acknowledgement id is true once. It does not ask for a content
//! type, because Splunk's own client libraries send none or a wrong one.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

const KEYS: [&str; 7] = ["time", "host", "source", "sourcetype", "index", "event", "fields"];

/// What a receiver has and does.
#[derive(Default)]
pub(crate) struct State {
    /// Events in the order of arrival.
    pub(crate) events: Vec<Value>,
    /// Answers to give instead of the real ones: status and body.
    pub(crate) faults: Vec<(u16, String)>,
    /// A text whose event is refused as malformed.
    pub(crate) poison: Option<String>,
    /// Whether the token has indexer acknowledgement.
    pub(crate) ack: bool,
    channels: HashMap<String, HashSet<u64>>,
    next_ack: u64,
}

/// A running receiver.
#[derive(Clone)]
pub(crate) struct Hec {
    /// Its port.
    pub(crate) port: u16,
    /// What it has.
    pub(crate) state: Arc<Mutex<State>>,
}

/// The only token.
pub(crate) const TOKEN: &str = "0b6f3c1e-5f0e-4a55-9d2c-000000000001";

/// Whether something that arrived is an alert, in whatever form.
pub(crate) fn is_alert(event: &Value) -> bool {
    let event = &event["event"];
    [&event["hydrant"], &event["unmapped"]["hydrant"]].iter().any(|ours| ours["alert"] == true)
}

impl Hec {
    /// Starts one on a free port.
    pub(crate) fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Starts one on an address.
    pub(crate) fn start_on(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let hec = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let state = hec.state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = state.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        hec
    }

    /// How many events it has.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().unwrap().events.len()
    }
}

struct Request {
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(request) = read(&mut reader) {
        let (status, body) = answer(&request, &mut state.lock().unwrap());
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        if writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length").and_then(|len| len.parse().ok()).unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        let mut plain = Vec::new();
        #[expect(clippy::disallowed_methods, reason = "bounded by take")]
        flate2::read::GzDecoder::new(&body[..]).take(1 << 30).read_to_end(&mut plain).ok()?;
        body = plain;
    }
    Some(Request { path, headers, body })
}

fn answer(request: &Request, state: &mut State) -> (u16, String) {
    if let Some((status, body)) = state.faults.pop() {
        return (status, body);
    }
    let code = |status: u16, code: u32, text: &str| (status, json!({ "text": text, "code": code }).to_string());
    match request.headers.get("authorization").map(String::as_str) {
        None => return code(401, 2, "Token is required"),
        Some(value) if value.strip_prefix("Splunk ") == Some(TOKEN) => {}
        Some(value) if value.starts_with("Splunk ") => return code(403, 4, "Invalid token"),
        Some(_) => return code(401, 3, "Invalid authorization"),
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let from_query = query.split('&').find_map(|pair| pair.strip_prefix("channel="));
    let channel = request.headers.get("x-splunk-request-channel").map(String::as_str).or(from_query);
    match path {
        "/services/collector" | "/services/collector/event" | "/services/collector/event/1.0" => {}
        "/services/collector/ack" => return acks(request, channel, state),
        _ => return (404, json!({ "text": "The requested URL was not found on this server.", "code": 404 }).to_string()),
    }
    if state.ack && channel.is_none() {
        return code(400, 10, "Data channel is missing");
    }
    if request.body.iter().all(u8::is_ascii_whitespace) {
        return code(400, 5, "No data");
    }
    let mut events = Vec::new();
    for (number, event) in serde_json::Deserializer::from_slice(&request.body).into_iter::<Value>().enumerate() {
        let wrong = match event {
            Err(_) => Some((6, "Invalid data format")),
            Ok(event) => {
                let is_poison = state.poison.as_ref().is_some_and(|poison| event.to_string().contains(poison.as_str()));
                let wrong = mistake(&event).or_else(|| is_poison.then_some((6, "Invalid data format")));
                events.push(event);
                wrong
            }
        };
        if let Some((code, text)) = wrong {
            return (400, json!({ "text": text, "code": code, "invalid-event-number": number }).to_string());
        }
    }
    state.events.append(&mut events);
    if !state.ack {
        return (200, json!({ "text": "Success", "code": 0 }).to_string());
    }
    let id = state.next_ack;
    state.next_ack += 1;
    state.channels.entry(channel.unwrap_or_default().to_owned()).or_default().insert(id);
    (200, json!({ "text": "Success", "code": 0, "ackId": id }).to_string())
}

fn mistake(event: &Value) -> Option<(u32, &'static str)> {
    let Some(object) = event.as_object() else { return Some((6, "Invalid data format")) };
    if object.keys().any(|key| !KEYS.contains(&key.as_str())) {
        return Some((6, "Invalid data format"));
    }
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    match object.get("time") {
        None => {}
        Some(Value::String(text)) if plain(text) => {}
        Some(Value::Number(number)) if plain(&number.to_string()) => {}
        Some(_) => return Some((6, "Invalid data format")),
    }
    if object
        .get("fields")
        .is_some_and(|fields| !fields.as_object().is_some_and(|fields| fields.values().all(|v| v.is_string() || v.is_array())))
    {
        return Some((15, "Error in handling indexed fields"));
    }
    match object.get("event") {
        None | Some(Value::Null) => Some((12, "Event field is required")),
        Some(Value::String(text)) if text.is_empty() => Some((13, "Event field cannot be blank")),
        Some(_) => None,
    }
}

fn acks(request: &Request, channel: Option<&str>, state: &mut State) -> (u16, String) {
    let Some(known) = channel.and_then(|channel| state.channels.get_mut(channel)) else {
        return (400, json!({ "text": "Data channel is missing", "code": 10 }).to_string());
    };
    let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let ids = asked["acks"].as_array().cloned().unwrap_or_default();
    let answers = ids.iter().filter_map(Value::as_u64).map(|id| (id.to_string(), Value::Bool(known.remove(&id))));
    (200, json!({ "acks": answers.collect::<serde_json::Map<_, _>>() }).to_string())
}
