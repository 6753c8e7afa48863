//! `hydrant demo`: the whole pipeline on generated traffic with an attack in it. No account, no root, no network.
//!
//! The `demo` source, the built-in rules and two `file` sinks run as `hydrant run` would run them; alerts are
//! printed as the file of alerts grows, and a line of counts is kept current on a terminal. At the end the
//! ledger is printed, and it must balance.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Failure, ledger, message};
use crate::clock;
use crate::config::Interval;
use crate::error::{Error, ErrorKind};
use crate::metrics::{self, Registry};
use crate::pipeline::plan::Plan;
use crate::pipeline::run;
use crate::task;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// How long to run, such as `20s`; without it until Ctrl-C. The attack takes 20 s.
    #[arg(long = "for")]
    duration: Option<Interval>,
    /// Benign events a second.
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// Where the events, the alerts and the configuration are written.
    #[arg(long, default_value = "hydrant-demo")]
    folder: PathBuf,
}

/// Time between two looks at the alerts.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

fn configuration(folder: &Path, rate: u32) -> String {
    let folder = folder.display();
    format!(
        r#"# What `hydrant demo` ran; begin your own with `hydrant init`.
data_dir: "{folder}/data"
rules: [builtin]
sources:
  perimeter: {{ type: demo, rate: {rate} }}
sinks:
  lake: {{ type: file, path: "{folder}/events.ndjson", form: json }}
  alerts: {{ type: file, path: "{folder}/alerts.ndjson", form: json, buffer: {{ interval: 100ms }} }}
routes:
  - {{ to: [lake] }}
  - {{ to: [alerts], when: '%hydrant.kind == "alert"' }}
"#
    )
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let text = prepare(arguments)?;
    let file = arguments.folder.join("hydrant.yaml");
    let plan = Plan::read(&file, &text)?;
    let rules = plan.rules.rules.len();
    message(&format!(
        "{} benign events a second from PAN-OS, FortiGate, ASA and AWS WAF, one intruder among them, {rules} rules. Files in {}.\n",
        arguments.rate,
        arguments.folder.display()
    ));
    let registry = Registry::default();
    let (stopper, stop) = task::pair();
    let running = run::start(Arc::new(plan), registry.clone(), &stop)?;
    let mut screen = Screen::new(&arguments.folder, registry);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(ErrorKind::Unexpected, "start", "no runtime").because(error))?;
    runtime.block_on(screen.watch(arguments.duration.map(|interval| interval.0)))?;
    stopper.stop();
    let counted = running.common().ledger.clone();
    let undelivered = running.join()?;
    screen.look()?;
    message("");
    message(&ledger::tables(&counted.book()));
    if undelivered > 0 {
        let text = format!("{undelivered} batches are undelivered");
        return Err(Error::new(ErrorKind::Unexpected, "demo", text).into());
    }
    ledger::verdict(&counted.book().imbalances())
}

/// Makes the folder and the configuration; the files and the counts of an earlier demo go.
fn prepare(arguments: &Arguments) -> Result<String, Error> {
    let folder = &arguments.folder;
    let failed =
        |error: std::io::Error| Error::new(ErrorKind::Storage, "prepare the demo", error.to_string()).with("folder", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    for name in ["events.ndjson", "alerts.ndjson"] {
        match std::fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    match std::fs::remove_dir_all(folder.join("data/ledger")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let text = configuration(folder, arguments.rate);
    std::fs::write(folder.join("hydrant.yaml"), &text).map_err(failed)?;
    Ok(text)
}

/// What a person sees while it runs.
struct Screen {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    line: String,
    registry: Registry,
    start: Instant,
    is_terminal: bool,
}

impl Screen {
    fn new(folder: &Path, registry: Registry) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { path: folder.join("alerts.ndjson"), reader: None, line: String::new(), registry, start: Instant::now(), is_terminal }
    }

    async fn watch(&mut self, duration: Option<Duration>) -> Result<(), Error> {
        let failed = |error| Error::new(ErrorKind::Unexpected, "start", "signals cannot be handled").because(error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let end = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                () = tokio::time::sleep(LOOK_INTERVAL) => self.look()?,
            }
        }
    }

    /// Prints the alerts that were written since the last look.
    fn look(&mut self) -> Result<(), Error> {
        let failed = |error: std::io::Error| Error::new(ErrorKind::Storage, "read the alerts", error.to_string());
        if self.reader.is_none() {
            self.reader = File::open(&self.path).ok().map(BufReader::new);
        }
        while let Some(reader) = &mut self.reader {
            if reader.read_line(&mut self.line).map_err(failed)? == 0 || !self.line.ends_with('\n') {
                break;
            }
            let text = alert(&self.line);
            self.line.clear();
            self.print(&text).map_err(failed)?;
        }
        if self.is_terminal {
            let events = self.registry.sum(&metrics::EVENTS_RECEIVED, "component_id", "perimeter");
            let alerts = self.registry.sum(&metrics::ALERTS_SENT, "component_id", "alerts");
            let seconds = self.start.elapsed().as_secs_f64();
            let mut out = std::io::stderr();
            write!(out, "\r\x1b[2K{seconds:5.1} s   {events} events   {alerts} alerts").and_then(|()| out.flush()).map_err(failed)?;
        }
        Ok(())
    }

    fn print(&self, text: &str) -> std::io::Result<()> {
        if self.is_terminal {
            write!(std::io::stderr(), "\r\x1b[2K")?;
        }
        writeln!(std::io::stdout(), "{text}")
    }
}

/// One line for one alert, which is a finding.
fn alert(line: &str) -> String {
    let finding: Value = serde_json::from_str(line).unwrap_or_default();
    let text = |pointer: &str| finding.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    let mut time = Vec::new();
    clock::write_rfc3339(finding["time"].as_i64().unwrap_or_default(), &mut time);
    let time = String::from_utf8_lossy(time.get(11..19).unwrap_or_default()).into_owned();
    let technique = |attack: &Value| ["sub_technique", "technique"].iter().find_map(|key| Some(attack[key]["uid"].as_str()?.to_owned()));
    let attacks = finding["finding_info"]["attacks"].as_array().into_iter().flatten();
    let techniques: String = attacks.filter_map(technique).map(|id| format!(" {id}")).collect();
    let techniques = if techniques.is_empty() { techniques } else { format!(" {techniques}") };
    let (level, title) = (text("/unmapped/hydrant/rule/level"), text("/finding_info/title"));
    let endpoint = |side: &str| text(&format!("/evidences/0/{side}_endpoint/ip"));
    format!("{time}  {level:<13} {title}  {} -> {}{techniques}", endpoint("src"), endpoint("dst"))
}
