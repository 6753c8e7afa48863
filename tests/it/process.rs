//! Hydrant as users run it: the real binary with a configuration file.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running Hydrant; killed when dropped.
pub(crate) struct Hydrant {
    child: Child,
    _folder: tempfile::TempDir,
    log: Arc<Mutex<String>>,
}

/// A port that nobody listens on, and that no test was given before: the system gives a port again at once.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return port;
        }
    }
}

/// Waits until `check` gives something.
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A running Hydrant whose configuration and data outlive it; killed when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Starts `hydrant run -c hydrant.yaml` in a folder; what it says goes to `said`.
    pub(crate) fn start(folder: &Path, said: impl Into<Stdio>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
        command.args(["run", "-c", "hydrant.yaml"]).current_dir(folder).stdin(Stdio::null()).stderr(said);
        Self(command.spawn().unwrap())
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap().success());
    }

    /// Waits until it ends; whether it ended well.
    pub(crate) fn ends(&mut self) -> bool {
        eventually("the process to end", || self.0.try_wait().unwrap()).success()
    }

    /// Sends SIGTERM and waits for the end; whether it ended well.
    pub(crate) fn stop(mut self) -> bool {
        self.signal("TERM");
        self.ends()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Hydrant {
    /// Starts `hydrant run` with a configuration and files beside it.
    pub(crate) fn run(config: &str, files: &[(&str, &str)]) -> Self {
        Self::start(&[], config, files, Stdio::null())
    }

    /// The same with arguments in front of `run`.
    pub(crate) fn run_with(arguments: &[&str], config: &str) -> Self {
        Self::start(arguments, config, &[], Stdio::null())
    }

    /// Starts `hydrant run` and gives it all of `input` on its standard input.
    pub(crate) fn run_with_input(config: &str, input: &[u8]) -> Self {
        let mut hydrant = Self::start(&[], config, &[], Stdio::piped());
        hydrant.child.stdin.take().unwrap().write_all(input).unwrap();
        hydrant
    }

    fn start(arguments: &[&str], config: &str, files: &[(&str, &str)], input: Stdio) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files.iter().chain(&[("hydrant.yaml", config)]) {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydrant"));
        command.args(arguments).args(["run", "-c"]).arg(folder.path().join("hydrant.yaml")).current_dir(folder.path());
        let mut child = command.stderr(Stdio::piped()).stdin(input).spawn().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let log: Arc<Mutex<String>> = Arc::default();
        let written = log.clone();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                eprintln!("hydrant: {line}");
                written.lock().unwrap().extend([line.as_str(), "\n"]);
            }
        });
        Self { child, _folder: folder, log }
    }

    /// Its working folder.
    pub(crate) fn folder(&self) -> &Path {
        self._folder.path()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The most memory that it has held at once, in bytes.
    pub(crate) fn peak_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
        kib.parse::<usize>().unwrap() * 1024
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits until it ends by itself; whether it ended well.
    pub(crate) fn wait(mut self) -> bool {
        eventually("the process to end", || self.child.try_wait().unwrap()).success()
    }

    /// Sends SIGTERM and waits for the end; whether it ended well.
    pub(crate) fn stop(mut self) -> bool {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        eventually("the process to end", || self.child.try_wait().unwrap()).success()
    }
}

impl Drop for Hydrant {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
