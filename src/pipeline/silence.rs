//! Silences: `data_dir/silences.json -> conditions over alerts -> which one silences an alert`.
//!
//! The file is a JSON object, replaced as a whole; `hydrant silence` writes it and a running Hydrant takes it up by a reload:
//!
//! ```json
//! {"silences":[{"id":"4f1c09aa","when":"%hydrant.rule_id == \"..\" && .source.ip == \"10.0.0.9\"",
//!   "starts_at":"2026-11-22T17:00:00.000Z","ends_at":"2026-11-22T19:00:00.000Z","created_by":"alice","comment":"scanner"}]}
//! ```
//!
//! A condition is VRL over the row of an alert: the fields of its event, or of its group for one that Hydrant makes itself,
//! and [`RULE_ID`], [`RULE_TITLE`], `%hydrant.level` (the rule's), `%hydrant.source`. A silence holds for what is received
//! from its start up to its end, so that the same is silenced when a chunk is worked on again after a crash.
//!
//! What is over stays in the file for [`KEPT`], to be looked at. Never: I/O by a shard.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::atomic_file;
use crate::clock;
use crate::error::{Diagnostic, Diagnostics, nearest};
use crate::event::{Event, Fields};
use crate::pipeline::plan::OWN_FIELDS;
use crate::route::{self, Route, Router};
use crate::vrl::Condition;

/// The id of an alert's rule.
pub const RULE_ID: &str = "%hydrant.rule_id";

/// The title of an alert's rule.
pub const RULE_TITLE: &str = "%hydrant.rule_title";

const FILE: &str = "silences.json";

/// What alerts that Hydrant makes itself have, whatever the sources are.
const OF_OWN_ALERTS: [&str; 2] = ["message", "observer.ip"];

/// Silences in the file, over ones included. Each that holds is asked about every alert.
const SILENCES_MAX: usize = 1_000;

/// Longest file that is read: all silences with conditions of some kilobytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Longest silence. What nobody wants to hear for ever belongs into the shadow.
pub const LENGTH_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// How long a silence stays in the file when it is over.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Longest owner and comment.
const TEXT_BYTES_MAX: usize = 1_000;

/// Conditions in one router, which has a bit for each.
const ROUTER_BITS: usize = 64;

/// A silence.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// Eight hexadecimal digits.
    pub id: String,
    /// VRL condition over an alert.
    pub when: String,
    /// From when on it holds; ms since 1970 UTC.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub starts_at: i64,
    /// When it is over.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub ends_at: i64,
    /// Whose it is.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

fn write_time<S: Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time(*ms))
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    clock::rfc3339_ms(text.as_bytes()).ok_or_else(|| de::Error::custom(format!("`{text}` is not a time such as `2026-11-22T17:00:00Z`")))
}

/// A time as the file has it.
pub fn time(ms: i64) -> String {
    let mut text = Vec::new();
    clock::write_rfc3339(ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Where a silence stands in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds.
    Active,
    /// It is over.
    Expired,
    /// It has not begun.
    Pending,
}

impl State {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Pending => "pending",
        }
    }
}

impl Silence {
    /// Where it stands at a time.
    pub fn state(&self, at_ms: i64) -> State {
        if at_ms >= self.ends_at {
            State::Expired
        } else if at_ms < self.starts_at {
            State::Pending
        } else {
            State::Active
        }
    }

    /// Compiles its condition, which stands at `line` of `file` (0 if that says nothing), under `path`.
    fn condition(&self, file: &Path, line: usize, path: &str) -> Result<Condition, Diagnostics> {
        Condition::compile(&self.when, file, line, path).map_err(|mut mistakes| {
            if line == 0 {
                mistakes.0.iter_mut().for_each(|mistake| (mistake.line, mistake.column) = (0, 0));
            }
            mistakes
        })
    }

    /// What is wrong with one that a person wants to add; the places are the arguments that said it.
    ///
    /// # Errors
    /// All of it.
    pub fn check(&self) -> Result<(), Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let mistake = |argument: &str, message: String| Diagnostic::error(Path::new(argument), 0, 0, "", message);
        diagnostics.absorb(self.condition(Path::new("--when"), 1, "").map(|_| ()));
        for (argument, text) in [("--by", &self.created_by), ("--comment", &self.comment)] {
            if text.trim().is_empty() {
                diagnostics.push(mistake(argument, "it is empty; whoever finds this silence needs it".to_owned()));
            } else if text.len() > TEXT_BYTES_MAX {
                diagnostics.push(mistake(argument, format!("{} bytes; at most {TEXT_BYTES_MAX} are kept", text.len())));
            }
        }
        let length_ms = self.ends_at.saturating_sub(self.starts_at);
        if length_ms <= 0 || length_ms > LENGTH_MAX.as_millis() as i64 {
            let help = "what is never to be heard belongs into `alerts: { shadow: [...] }`";
            diagnostics.push(mistake("--for", "expected a time span above 0 and up to 366d".to_owned()).help(help));
        }
        diagnostics.into_result(())
    }
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content {
    silences: Vec<Silence>,
}

/// Tells one file from the one that takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    length: u64,
    inode: u64,
    modified: (i64, i64),
}

/// The file of a data folder.
#[derive(Clone, Debug)]
pub struct Silences {
    path: PathBuf,
}

impl Silences {
    /// That of a data folder. Nothing is opened.
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file is there now; `None` if there is none.
    pub fn stamp(&self) -> Option<Stamp> {
        let meta = fs::metadata(&self.path).ok()?;
        Some(Stamp { length: meta.len(), inode: meta.ino(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }

    /// Reads it; none if there is no file.
    ///
    /// # Errors
    /// It cannot be read, or is no such file.
    pub fn read(&self) -> Result<Vec<Silence>, Diagnostics> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.mistake(format!("cannot be read: {error}"))),
            Ok(file) => file,
        };
        let mut text = Vec::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text);
        read.map_err(|error| self.mistake(format!("cannot be read: {error}")))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(self.mistake(format!("the file has more than {FILE_BYTES_MAX} bytes")));
        }
        let damaged = |error: serde_json::Error| {
            let help = "repair it or move it away; silences can be added again with `hydrant silence add`";
            Diagnostic::error(&self.path, error.line(), error.column(), "", format!("this is no file of silences: {error}")).help(help)
        };
        let Content { silences } = serde_json::from_slice(&text).map_err(damaged)?;
        if silences.len() > SILENCES_MAX {
            return Err(self.mistake(format!("{} silences; at most {SILENCES_MAX} are supported", silences.len())));
        }
        Ok(silences)
    }

    /// Adds one under a new id, which is returned.
    ///
    /// # Errors
    /// Its mistakes, and those of the file; the disk does not take it.
    pub fn add(&self, silence: &Silence) -> Result<Silence, Diagnostics> {
        silence.check()?;
        self.change(|silences| {
            let id = |attempt: u32| {
                let seed = format!("{attempt} {} {silence:?}", std::process::id());
                digest(&SHA256, seed.as_bytes()).as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>()
            };
            let is_new = |id: &String| silences.iter().all(|other| other.id != *id);
            let id = (0..).map(id).find(is_new).unwrap_or_default();
            let silence = Silence { id, ..silence.clone() };
            silences.push(silence.clone());
            if silences.len() > SILENCES_MAX {
                let message = format!("there are {SILENCES_MAX} silences already; those that are over are removed after 30 days");
                return Err(self.mistake(message));
            }
            Ok(silence)
        })
    }

    /// Ends one now.
    ///
    /// # Errors
    /// There is none with this id, or it is over; the file cannot be changed.
    pub fn expire(&self, id: &str, now_ms: i64) -> Result<Silence, Diagnostics> {
        self.change(|silences| {
            let near = nearest(id, silences.iter().map(|silence| silence.id.as_str())).map(str::to_owned);
            let Some(silence) = silences.iter_mut().find(|silence| silence.id == id) else {
                let mut mistake = Diagnostic::error(&self.path, 0, 0, "", format!("there is no silence `{id}`"));
                mistake.help = Some(near.map_or("`hydrant silence list` shows them".to_owned(), |near| format!("did you mean `{near}`?")));
                return Err(mistake.into());
            };
            if silence.state(now_ms) == State::Expired {
                return Err(self.mistake(format!("the silence `{id}` is over since {}", time(silence.ends_at))));
            }
            silence.ends_at = now_ms;
            silence.starts_at = silence.starts_at.min(now_ms);
            Ok(silence.clone())
        })
    }

    /// Changes the file as a whole, one process after the other.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Silence>) -> Result<T, Diagnostics>) -> Result<T, Diagnostics> {
        let refused = |error: std::io::Error| self.mistake(format!("cannot be written: {error}"));
        if !self.path.parent().is_some_and(Path::is_dir) {
            let help = "name it with `--data-dir`, or the configuration with `-c`; `hydrant run` makes it";
            let folder = self.path.parent().unwrap_or(&self.path);
            return Err(Diagnostic::error(folder, 0, 0, "", "there is no such data folder").help(help).into());
        }
        let lock = File::options().create(true).truncate(false).write(true).open(self.path.with_extension("lock")).map_err(refused)?;
        lock.lock().map_err(refused)?;
        let mut silences = self.read()?;
        let oldest_ms = clock::now_ms().saturating_sub(KEPT.as_millis() as i64);
        silences.retain(|silence| silence.ends_at > oldest_ms);
        let changed = change(&mut silences)?;
        let text = serde_json::to_vec_pretty(&Content { silences }).map_err(|error| self.mistake(error.to_string()))?;
        atomic_file::replace(&self.path, &text).map_err(refused)?;
        Ok(changed)
    }

    fn mistake(&self, message: String) -> Diagnostics {
        Diagnostic::error(&self.path, 0, 0, "", message).into()
    }
}

/// The silences of a plan: those that were not over when it was made.
pub struct SilencePlan {
    /// They themselves.
    pub list: Vec<Silence>,
    /// Which file they are of.
    pub stamp: Option<Stamp>,
    path: PathBuf,
    /// Their conditions, a bit each.
    routes: Vec<Vec<Route>>,
    /// Fields that conditions read: index of the silence and name.
    reads: Vec<(usize, String)>,
}

impl SilencePlan {
    /// Reads and compiles those of a data folder.
    pub fn new(data_dir: &Path, diagnostics: &mut Diagnostics) -> Self {
        let file = Silences::new(data_dir);
        // Looked at before the file is read: a change in between is seen as one.
        let mut plan = Self { list: Vec::new(), stamp: file.stamp(), path: file.path.clone(), routes: Vec::new(), reads: Vec::new() };
        let now_ms = clock::now_ms();
        let silences = diagnostics.absorb(file.read()).unwrap_or_default();
        for silence in silences.into_iter().filter(|silence| silence.state(now_ms) != State::Expired) {
            let path = format!("{}.when", silence.id);
            let Some(when) = diagnostics.absorb(silence.condition(&file.path, 0, &path)) else { continue };
            let (index, bit) = (plan.list.len(), plan.list.len() % ROUTER_BITS);
            match &when {
                Condition::Native(condition) => condition.for_each_field(&mut |name| plan.reads.push((index, name.clone()))),
                Condition::Program(program) => plan.reads.extend(program.reads().iter().map(|name| (index, name.clone()))),
            }
            if bit == 0 {
                plan.routes.push(Vec::new());
            }
            plan.routes.last_mut().into_iter().for_each(|routes| routes.push(Route { when: Some(when.clone()), to: 1 << bit }));
            plan.list.push(silence);
        }
        plan
    }

    /// Warns of fields that no alert has; `canonical` are those that events have.
    pub fn warn_of_fields(&self, canonical: &[String], diagnostics: &mut Diagnostics) {
        let known: Vec<&str> = canonical.iter().map(String::as_str).chain(OWN_FIELDS.iter().copied()).chain(OF_OWN_ALERTS).collect();
        let is_known = |name: &str| {
            let is_parent = |other: &&&str| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
            name.starts_with("%native") || known.contains(&name) || known.iter().any(|other| is_parent(&other))
        };
        for (index, name) in self.reads.iter().filter(|(_, name)| !is_known(name)) {
            let Some(silence) = self.list.get(*index) else { continue };
            let message = format!("no alert has the field `{name}`");
            let mut warning = Diagnostic::error(&self.path, 0, 0, format!("{}.when", silence.id), message).warning();
            warning.help = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            diagnostics.push(warning);
        }
    }

    /// The conditions over the rows of one line; the fields that they need are added to `fields`.
    pub fn silencer(&self, known: &[&str], fields: &mut Fields) -> Silencer {
        let router = |routes: &Vec<Route>| Router::new(routes, known, &|name| name.to_owned(), fields);
        Silencer { routers: self.routes.iter().map(router).collect() }
    }

    /// Whether any holds for what was received at a time.
    pub fn is_any_active(&self, received_ms: i64) -> bool {
        self.list.iter().any(|silence| silence.state(received_ms) == State::Active)
    }
}

/// The conditions of all silences over the rows of one line.
pub struct Silencer {
    routers: Vec<Router>,
}

/// Working memory of one shard.
pub struct Scratch {
    routers: Vec<route::Scratch>,
}

impl Silencer {
    /// Working memory for one shard.
    pub fn scratch(&self) -> Scratch {
        Scratch { routers: self.routers.iter().map(Router::scratch).collect() }
    }

    /// The first of the plan's silences that holds for an alert about something that was received at a time.
    pub fn find(&self, silences: &[Silence], received_ms: i64, alert: Event<'_>, scratch: &mut Scratch) -> Option<usize> {
        let routers = self.routers.iter().zip(&mut scratch.routers).enumerate();
        let mut held = routers.flat_map(|(number, (router, scratch))| {
            let bits = router.route(alert, scratch);
            (0..ROUTER_BITS).filter(move |bit| bits & 1 << bit != 0).map(move |bit| number * ROUTER_BITS + bit)
        });
        held.find(|index| silences.get(*index).is_some_and(|silence| silence.state(received_ms) == State::Active))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(when: &str) -> Silence {
        let now_ms = clock::now_ms();
        Silence {
            id: String::new(),
            when: when.to_owned(),
            starts_at: now_ms,
            ends_at: now_ms + 3_600_000,
            created_by: "alice".into(),
            comment: "scanner".into(),
        }
    }

    #[test]
    fn silences_are_written_read_and_ended_and_what_is_long_over_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = Silences::new(folder.path());
        assert_eq!((file.read().unwrap(), file.stamp()), (vec![], None));
        let added: Vec<Silence> = (0..3).map(|_| file.add(&silence(".source.ip == \"10.0.0.9\"")).unwrap()).collect();
        assert_eq!(file.read().unwrap(), added);
        assert!(added[0].id.len() == 8 && added[0].id != added[1].id);
        let before = file.stamp();
        let now_ms = clock::now_ms() + 1_000;
        assert_eq!(file.expire(&added[1].id, now_ms).unwrap().state(now_ms), State::Expired);
        assert_ne!(file.stamp(), before);
        let mistake = |result: Result<Silence, Diagnostics>| result.unwrap_err().to_string();
        assert!(mistake(file.expire(&added[1].id, now_ms)).contains("is over since 20"));
        assert!(mistake(file.expire(&format!("{}x", added[0].id), now_ms)).contains(&format!("did you mean `{}`?", added[0].id)));
        let old_ms = clock::now_ms() - 31 * 24 * 3_600_000;
        let text = fs::read_to_string(file.path()).unwrap().replace(&time(added[0].ends_at), &time(old_ms));
        fs::write(file.path(), text).unwrap();
        file.add(&silence("true")).unwrap();
        let left: Vec<String> = file.read().unwrap().into_iter().map(|silence| silence.id).collect();
        assert!(!left.contains(&added[0].id) && left.contains(&added[1].id), "{left:?}");
        assert!(Silences::new(&folder.path().join("gone")).add(&silence("true")).unwrap_err().to_string().contains("no such data folder"));
    }

    #[test]
    fn two_that_add_at_once_both_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = Silences::new(folder.path());
        std::thread::scope(|scope| {
            (0..8).for_each(|_| _ = scope.spawn(|| file.add(&silence("true")).unwrap()));
        });
        assert_eq!(file.read().unwrap().len(), 8);
    }

    #[test]
    fn mistakes_are_named_all_at_once() {
        let now_ms = clock::now_ms();
        let wrong = Silence { created_by: " ".into(), comment: "x".repeat(1_001), ends_at: now_ms - 5, ..silence(".a == ") };
        let mistakes = wrong.check().unwrap_err().to_string();
        for part in ["--when:1:", "--by: error: it is empty", "--comment: error: 1001 bytes", "--for: error: expected a time span above 0"]
        {
            assert!(mistakes.contains(part), "{part}\n{mistakes}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = Silences::new(folder.path());
        for (text, part) in [
            ("{\"silences\":[", "silences.json:1:13: error: this is no file of silences: EOF"),
            ("{\"silences\":[],\"x\":1}", "unknown field `x`"),
            ("{\"silences\":[{\"id\":\"a\",\"when\":\"true\",\"starts_at\":\"now\"}]}", "`now` is not a time such as"),
        ] {
            fs::write(file.path(), text).unwrap();
            let found = file.read().unwrap_err().to_string();
            assert!(found.contains(part), "{part}\n{found}");
            assert_eq!(file.add(&silence("true")).unwrap_err().to_string(), found, "what is there is not lost");
        }
        let damaged = Content { silences: vec![Silence { id: "4f1c09aa".into(), ..silence(".a === 1") }] };
        fs::write(file.path(), serde_json::to_vec(&damaged).unwrap()).unwrap();
        let mut diagnostics = Diagnostics::new();
        SilencePlan::new(folder.path(), &mut diagnostics);
        assert!(diagnostics.to_string().contains("silences.json: error: 4f1c09aa.when: "), "{diagnostics}");
    }
}
