//! The tutorial, as a new user does it: its files are written, its commands are run by bash one after the other, and what it
//! says that they print is looked for. Only ports are other ones, and behind port 8088 stands the strict collector.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::hec::{Hec, is_alert};
use crate::process::{eventually, free_port};

const TUTORIAL: &str = include_str!("../../docs/tutorial/first-hour.md");

/// A fenced block: what stands behind the fence, and its lines.
struct Block {
    label: &'static str,
    text: String,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut parts = TUTORIAL.split("\n```");
    while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
        let (label, text) = block.split_once('\n').unwrap();
        blocks.push(Block { label, text: format!("{text}\n") });
    }
    blocks
}

/// One bash that runs what it is given; all that it started is killed with it.
struct Shell {
    child: Child,
    input: ChildStdin,
}

impl Shell {
    fn start(folder: &Path) -> Self {
        let programs = Path::new(env!("CARGO_BIN_EXE_hydrant")).parent().unwrap().display();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
        let mut command = Command::new("setsid");
        let mut child = command.arg("bash").env("PATH", path).current_dir(folder).stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        Self { child, input }
    }

    /// What a command prints, messages included, when it has ended well.
    fn run(&mut self, folder: &Path, command: &str) -> String {
        let (output, status) = (folder.join("output"), folder.join("status"));
        fs::remove_file(&status).ok();
        let (redirected, end) = match command.strip_suffix('&') {
            Some(_) => ("", ""),
            None => (" > output 2>&1", ";"),
        };
        let group = if end.is_empty() { command.to_owned() } else { format!("{{ {command}{end} }}{redirected}") };
        fs::write(&output, "").unwrap();
        writeln!(self.input, "{group}\necho $? > status.new; mv status.new status").unwrap();
        let status = eventually(command, || fs::read_to_string(&status).ok());
        let said = fs::read_to_string(&output).unwrap();
        assert_eq!(status.trim(), "0", "{command}: {said}");
        said
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Its process group is its own.
        let _ = Command::new("kill").args(["-9", "--", &format!("-{}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

/// Whether a line of `said` has all pieces of an expected line, in order; `...` stands for anything.
fn is_said(said: &str, expected: &str) -> bool {
    said.lines().any(|line| {
        let mut rest = line;
        expected.split("...").map(str::trim).all(|piece| rest.split_once(piece).map(|(_, behind)| rest = behind).is_some())
    })
}

#[test]
fn the_first_hour_goes_as_the_tutorial_says() {
    let (hec, folder) = (Hec::start(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    let ports = [("5514", free_port()), ("8686", free_port()), ("9000", free_port()), ("8088", hec.port)];
    let with_ports = |text: &str| ports.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, &new.to_string()));
    let mut shell = Shell::start(folder);
    for Block { label, text } in blocks() {
        let text = with_ports(&text);
        if let Some((_, file)) = label.split_once(' ') {
            let file = folder.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
            continue;
        }
        assert_eq!(label, "console");
        let mut said = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix("$ ") {
                Some(command) => said = shell.run(folder, command),
                None => assert!(is_said(&said, line), "{line:?} is not in:\n{said}"),
            }
        }
    }
    // Two hits of the scanner, one of somebody else, two that no rule is about.
    eventually("the events and alerts in Splunk", || (hec.count() >= 7).then_some(()));
    let state = hec.state.lock().unwrap();
    let alerts: Vec<_> = state.events.iter().filter(|event| is_alert(event)).map(|event| event["event"]["src"].clone()).collect();
    assert_eq!((state.events.len(), alerts), (7, vec!["203.0.113.9".into(), "198.51.100.7".into()]));
    assert_eq!(fs::read_to_string(folder.join("alerts.txt")).unwrap().lines().count(), 2);
}
