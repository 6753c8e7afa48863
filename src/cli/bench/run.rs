//! One run: starts the counter, Hydrant and the generator, waits until everything has arrived, measures.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::counter::Arrived;
use super::generator::{Sent, Spec};
use super::process::{self, Cpu};
use super::profile::{Counter, Expect, Profile, Transport};
use super::report::{Latency, Point, Run};
use crate::error::{Error, ErrorKind};
use crate::metrics;

/// What a run is made with.
pub(in crate::cli) struct Setup<'a> {
    pub(in crate::cli) profile: &'a Profile,
    /// Values of the profile's settings.
    pub(in crate::cli) settings: &'a BTreeMap<String, String>,
    /// Lines to send instead of made ones.
    pub(in crate::cli) corpus: Option<&'a Path>,
    /// Hydrant on core 0, the others on core 1.
    pub(in crate::cli) pin: bool,
    /// Where the folder of the run is made.
    pub(in crate::cli) work_dir: &'a Path,
}

/// Hydrant listens within this time or has failed.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How often arrivals are looked at.
const POLL: Duration = Duration::from_millis(20);

/// Nothing arrived and nothing was worked on for this long: the rest is lost.
const QUIET: Duration = Duration::from_secs(3);

/// For destinations that keep nothing, and for loads of which some is lost by design.
const QUIET_SHORT: Duration = Duration::from_millis(600);

/// CPU time within one poll that is not work: timers.
const IDLE: Duration = Duration::from_millis(10);

/// A stop may take this long.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs once.
///
/// # Errors
/// A process that does not start or ends by itself, with the end of what Hydrant said.
pub(in crate::cli) fn run(setup: &Setup<'_>) -> Result<Run, Error> {
    let folder = Folder::new(setup.work_dir)?;
    if setup.pin {
        process::pin(OTHERS_CORE)?;
    }
    let names: Vec<&String> = setup.profile.expect.keys().collect();
    let mut counter = Helper::start(&["bench-counter", &names.len().to_string()])?;
    let addresses: Vec<SocketAddr> = counter.read()?;
    let listen = free_port()?;
    let mut values = setup.settings.clone();
    values.extend([("listen".to_owned(), listen.to_string()), ("dir".to_owned(), folder.0.display().to_string())]);
    values.extend(names.iter().zip(&addresses).map(|(name, address)| ((*name).clone(), address.to_string())));
    let mut hydrant = Hydrant::start(setup, &folder, &values)?;
    hydrant.wait_until_it_listens(setup.profile.load.transport, listen)?;

    let mut generator = Helper::start(&["bench-generator"])?;
    let filter = |expect: &Expect| match (&expect.with, &expect.without) {
        (Some(text), _) => Some((text.clone(), true)),
        (None, Some(text)) => Some((text.clone(), false)),
        (None, None) => None,
    };
    let spec = Spec {
        load: setup.profile.load.clone(),
        target: listen,
        seed: SEED,
        corpus: setup.corpus.map(Path::to_owned),
        filters: setup.profile.expect.values().map(filter).collect(),
    };
    generator.write(&spec)?;
    let _: String = generator.read()?;
    let before = process::cpu(hydrant.child.id())?;
    generator.write(&"go")?;
    let sent: Sent = generator.read()?;

    let mut waiting = Waiting::new(setup.profile, &sent);
    let (arrived, idle_since) = waiting.wait(&mut counter, &mut hydrant, sent.ended_ns)?;
    let cpu = process::cpu(hydrant.child.id())?.since(before);
    let peak_rss_bytes = process::peak_rss_bytes(hydrant.child.id()).unwrap_or(0);
    let metrics = hydrant.stop(&folder)?;
    let measured = Measured { sent, arrived, latencies_ns: waiting.latencies_ns, cpu, peak_rss_bytes, metrics, idle_since };
    Ok(measured.run(setup.profile, &folder))
}

/// Where Hydrant runs when everything is pinned, and where the others do.
const HYDRANT_CORE: usize = 0;
const OTHERS_CORE: usize = 1;

/// The lines of every run are the same.
const SEED: u64 = 20_261_121;

fn failed(operation: &'static str, message: &str) -> Error {
    Error::new(ErrorKind::Unexpected, operation, message)
}

/// A port of the loopback that nobody uses, for TCP and for UDP.
fn free_port() -> Result<SocketAddr, Error> {
    let error = |error| failed("find a free port", "the loopback cannot be used").because(error);
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
}

/// The folder of one run; removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path) -> Result<Self, Error> {
        let path = parent.join(format!("hydrant-bench-{}-{}", std::process::id(), process::monotonic_ns()));
        std::fs::create_dir_all(&path)
            .map_err(|error| Error::new(ErrorKind::Storage, "make a folder", "failed").with("path", path.display()).because(error))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the folder of a run could not be removed");
        }
    }
}

fn command(arguments: &[&str]) -> Result<Command, Error> {
    let program = std::env::current_exe().map_err(|error| failed("start", "the program does not find itself").because(error))?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

fn spawn(command: &mut Command) -> Result<Child, Error> {
    command.spawn().map_err(|error| failed("start", "a process of the benchmark cannot be started").because(error))
}

/// A helper process: JSON lines in, JSON lines out. Ended with the benchmark.
struct Helper {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Helper {
    fn start(arguments: &[&str]) -> Result<Self, Error> {
        let mut child = spawn(command(arguments)?.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("start", "a process of the benchmark has no pipes"));
        };
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    fn write<T: serde::Serialize>(&mut self, value: &T) -> Result<(), Error> {
        let gone = |error: std::io::Error| failed("ask", "a process of the benchmark has ended").because(error);
        let mut line = serde_json::to_vec(value).map_err(|error| gone(error.into()))?;
        line.push(b'\n');
        self.input.write_all(&line).map_err(gone)
    }

    fn read<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let gone = |error: std::io::Error| failed("ask", "a process of the benchmark has ended").because(error);
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(gone)?;
        serde_json::from_str(&line).map_err(|error| gone(error.into()))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Kills a child that may have ended by itself.
fn end(child: &mut Child) {
    if child.try_wait().is_ok_and(|status| status.is_none()) && child.kill().is_ok() {
        // Nobody asks how a killed process ended.
        let _ = child.wait();
    }
}

/// The process that is measured.
struct Hydrant {
    child: Child,
    messages: PathBuf,
}

impl Hydrant {
    fn start(setup: &Setup<'_>, folder: &Folder, values: &BTreeMap<String, String>) -> Result<Self, Error> {
        let path = |name: &str| folder.0.join(name);
        let write = |name: &str, text: &str| {
            let error = |error| Error::new(ErrorKind::Storage, "write a file of the benchmark", "failed").with("name", name).because(error);
            if let Some(parent) = path(name).parent() {
                std::fs::create_dir_all(parent).map_err(error)?;
            }
            std::fs::write(path(name), text).map_err(error)
        };
        write("config.yaml", &setup.profile.config(values))?;
        for (name, content) in &setup.profile.files {
            write(name, &content.render())?;
        }
        let messages = path("messages");
        let file = std::fs::File::create(&messages).map_err(|error| failed("start", "no file for messages").because(error))?;
        if setup.pin {
            process::pin(HYDRANT_CORE)?;
        }
        let mut command = command(&["--log", "warn", "run", "--config"])?;
        command.arg(path("config.yaml")).arg("--dump-metrics").arg(path("metrics")).stdout(Stdio::null()).stderr(file);
        let child = spawn(&mut command);
        if setup.pin {
            process::pin(OTHERS_CORE)?;
        }
        Ok(Self { child: child?, messages })
    }

    /// Its last messages.
    fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.messages).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(MESSAGES_SHOWN)..].join("\n")
    }

    fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(failed("run", "Hydrant has ended by itself").with("messages", self.said())),
        }
    }

    fn wait_until_it_listens(&mut self, transport: Transport, address: SocketAddr) -> Result<(), Error> {
        let began = Instant::now();
        while began.elapsed() < START_TIMEOUT {
            self.check()?;
            let listens = match transport {
                Transport::Tcp | Transport::Http => TcpStream::connect(address).is_ok(),
                Transport::Udp => UdpSocket::bind(address).is_err(),
            };
            if listens {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        Err(failed("start", "Hydrant does not listen").with("messages", self.said()))
    }

    /// Stops it; its metrics.
    fn stop(mut self, folder: &Folder) -> Result<String, Error> {
        process::terminate(&self.child);
        let began = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => break,
                Ok(None) if began.elapsed() < STOP_TIMEOUT => std::thread::sleep(POLL),
                _ => return Err(failed("stop", "Hydrant did not stop as it should").with("messages", self.said())),
            }
        }
        let file = std::fs::File::open(folder.0.join("metrics"));
        let mut text = String::new();
        file.and_then(|file| file.take(METRICS_BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| failed("stop", "Hydrant wrote no metrics").because(error))?;
        Ok(text)
    }
}

impl Drop for Hydrant {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Lines of Hydrant's messages that an error shows.
const MESSAGES_SHOWN: usize = 20;

/// Metrics of a large configuration have some hundred KiB.
const METRICS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Waits for what was sent to arrive.
struct Waiting {
    /// By arrival point: events, for those that the counter counts.
    expected: Vec<Option<u64>>,
    quiet: Duration,
    latencies_ns: Vec<u64>,
}

impl Waiting {
    fn new(profile: &Profile, sent: &Sent) -> Self {
        let counted = |(expect, matching): (&Expect, &u64)| (expect.counted_by == Counter::Http).then_some(*matching);
        let expected: Vec<_> = profile.expect.values().zip(&sent.matching).map(counted).collect();
        let is_counted = expected.iter().any(Option::is_some) && profile.load.transport != Transport::Udp;
        Self { expected, quiet: if is_counted { QUIET } else { QUIET_SHORT }, latencies_ns: Vec::new() }
    }

    /// Until all is there, or nothing has moved for a while. The arrivals, and since when Hydrant has been idle.
    fn wait(&mut self, counter: &mut Helper, hydrant: &mut Hydrant, ended_ns: u64) -> Result<(Vec<Arrived>, u64), Error> {
        let mut last = (Vec::new(), Cpu::default());
        let mut moved = (Instant::now(), ended_ns);
        loop {
            counter.write(&"report")?;
            let mut arrived: Vec<Arrived> = counter.read()?;
            arrived.iter_mut().for_each(|point| self.latencies_ns.append(&mut point.latencies_ns));
            let is_there = |(arrived, expected): (&Arrived, &Option<u64>)| expected.is_none_or(|expected| arrived.events >= expected);
            let all_there = arrived.iter().zip(&self.expected).all(is_there);
            if all_there && self.expected.iter().all(Option::is_some) {
                return Ok((arrived, moved.1));
            }
            hydrant.check()?;
            let now = (arrived.iter().map(|point| point.events).collect::<Vec<_>>(), process::cpu(hydrant.child.id())?);
            if now.0 != last.0 || now.1.since(last.1).total() > IDLE {
                moved = (Instant::now(), process::monotonic_ns());
                last = now;
            }
            let quiet = if all_there { QUIET_SHORT } else { self.quiet };
            if moved.0.elapsed() > quiet {
                return Ok((arrived, moved.1));
            }
            std::thread::sleep(POLL);
        }
    }
}

/// What one run gave.
struct Measured {
    sent: Sent,
    arrived: Vec<Arrived>,
    latencies_ns: Vec<u64>,
    cpu: Cpu,
    peak_rss_bytes: u64,
    metrics: String,
    /// Monotonic time since which Hydrant had nothing to do, for points that have no time of the last arrival.
    idle_since: u64,
}

impl Measured {
    fn run(mut self, profile: &Profile, folder: &Folder) -> Run {
        let mut points = BTreeMap::new();
        let mut end_ns = self.sent.ended_ns;
        for (((name, expect), arrived), expected) in profile.expect.iter().zip(&self.arrived).zip(&self.sent.matching) {
            let count = match expect.counted_by {
                Counter::Http => arrived.events,
                Counter::File => lines_below(&folder.0.join(expect.path.as_deref().unwrap_or_else(|| Path::new(name)))),
                Counter::Metrics => sum(&self.metrics, metrics::EVENTS_SENT.name, &format!("component_id=\"{name}\"")),
            };
            end_ns = end_ns.max(if expect.counted_by == Counter::Http { arrived.last_ns } else { self.idle_since });
            let point = Point {
                expected: *expected,
                arrived: count,
                alerts: arrived.alerts,
                wire_bytes: arrived.wire_bytes,
                plain_bytes: arrived.plain_bytes,
                broken_requests: arrived.broken,
            };
            points.insert(name.clone(), point);
        }
        let received = sum(&self.metrics, metrics::EVENTS_RECEIVED.name, "");
        let seconds = Duration::from_nanos(end_ns.saturating_sub(self.sent.began_ns)).as_secs_f64().max(f64::MIN_POSITIVE);
        // Work is divided by what was worked on: datagrams that the kernel dropped cost nothing here.
        let millions = received.max(1) as f64 / 1e6;
        let stage = |line: &str| {
            let (labels, value) = line.strip_prefix(metrics::STAGE_CPU.name)?.rsplit_once(' ')?;
            let name = labels.strip_prefix("{stage=\"")?.strip_suffix("\"}")?;
            Some((name.to_owned(), value.parse::<f64>().ok()? / 1e9 / millions))
        };
        let mut stages: BTreeMap<String, f64> = self.metrics.lines().filter_map(stage).collect();
        let total = self.cpu.total().as_secs_f64() / millions;
        stages.insert("io".to_owned(), (total - stages.values().sum::<f64>()).max(0.0));
        Run {
            sent: self.sent.lines,
            sent_bytes: self.sent.bytes,
            received,
            kernel_drops: sum(&self.metrics, metrics::KERNEL_DROPS.name, ""),
            dead_letters: sum(&self.metrics, metrics::EVENTS_DEAD.name, ""),
            retries: sum(&self.metrics, metrics::RETRIES.name, ""),
            seconds,
            events_per_s: self.sent.lines as f64 / seconds,
            mb_per_s: self.sent.bytes as f64 / 1e6 / seconds,
            cpu_s_per_million: total,
            cpu_user_s_per_million: self.cpu.user.as_secs_f64() / millions,
            cpu_system_s_per_million: self.cpu.system.as_secs_f64() / millions,
            stages_s_per_million: stages,
            peak_rss_mb: self.peak_rss_bytes as f64 / 1e6,
            latency: Latency::of(&mut self.latencies_ns),
            points,
        }
    }
}

/// Sum of a metric over the series whose labels hold `label`.
fn sum(metrics: &str, name: &str, label: &str) -> u64 {
    let value = |line: &str| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        (labels.starts_with('{') || labels.is_empty()).then_some(())?;
        labels.contains(label).then(|| value.parse::<u64>().ok())?
    };
    metrics.lines().filter_map(value).sum()
}

/// Lines of a file, or of all files below a folder. Compressed files are not supported.
fn lines_below(path: &Path) -> u64 {
    if let Ok(entries) = std::fs::read_dir(path) {
        return entries.flatten().map(|entry| lines_below(&entry.path())).sum();
    }
    let Ok(mut file) = std::fs::File::open(path) else { return 0 };
    let mut buffer = vec![0; READ_BYTES];
    let mut count = 0;
    while let Ok(length @ 1..) = file.read(&mut buffer) {
        count += memchr::memchr_iter(b'\n', &buffer[..length]).count() as u64;
    }
    count
}

/// Bytes of a file read at once.
const READ_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_by_whole_name_and_label() {
        let text = "# HELP a b\na{component_id=\"x\"} 3\na{component_id=\"y\"} 4\na_total{component_id=\"x\"} 100\n";
        assert_eq!((sum(text, "a", ""), sum(text, "a", "component_id=\"x\""), sum(text, "b", "")), (7, 3, 0));
    }

    #[test]
    fn lines_of_all_files_below_a_folder_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/1"), "x\ny\n").unwrap();
        std::fs::write(folder.path().join("2"), "z\n").unwrap();
        assert_eq!(lines_below(folder.path()), 3);
    }
}
