//! `hydrant silence`: alerts that nobody wants for a while.
//!
//! `add` and `expire` change the file in the data folder, and a running Hydrant takes it up by itself within seconds.
//! `list` asks a running one, which knows how many alerts each has silenced, or else reads the file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::{Failure, Output, instance, message, print, print_json, table, validate, warn};
use crate::clock;
use crate::config::Interval;
use crate::error::{Diagnostic, Diagnostics};
use crate::pipeline::silence::{self, Silence, Silences, State};

/// Bytes of an answer: some kilobytes for each silence.
const LIST_BYTES_MAX: usize = 32 << 20;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Silence the alerts for which a condition holds.
    Add(Add),
    /// List silences.
    List(List),
    /// End a silence now.
    Expire(Expire),
}

#[derive(clap::Args)]
struct Folder {
    /// The configuration of the instance, for its data folder.
    #[arg(short, long, conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// The data folder.
    #[arg(long, default_value = "./data")]
    data_dir: PathBuf,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

impl Folder {
    fn silences(&self) -> Result<Silences, Failure> {
        Ok(Silences::new(&match &self.config {
            Some(file) => validate::read(file)?.settings.data_dir,
            None => self.data_dir.clone(),
        }))
    }
}

#[derive(clap::Args)]
struct Add {
    #[command(flatten)]
    folder: Folder,
    /// VRL condition over an alert: its event's fields, `%hydrant.rule_id`, `%hydrant.rule_title`, `%hydrant.level`.
    #[arg(long)]
    when: String,
    /// For how long, such as `2h`; at most 366d.
    #[arg(long = "for")]
    length: Interval,
    /// From when on, such as `2026-11-22T22:00:00Z`; from now on if not said.
    #[arg(long)]
    starts_at: Option<String>,
    /// Whose it is.
    #[arg(long)]
    by: String,
    /// Why.
    #[arg(long)]
    comment: String,
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    folder: Folder,
    /// Address of the admin API of a running instance; with `--config` that of the configuration.
    #[arg(long, conflicts_with_all = ["config", "data_dir"])]
    admin: Option<String>,
    /// Those too that are over, for the 30 days that they are kept.
    #[arg(long)]
    expired: bool,
}

#[derive(clap::Args)]
struct Expire {
    #[command(flatten)]
    folder: Folder,
    /// The id that `add` and `list` show.
    id: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Add(arguments) => add(arguments),
        Command::List(arguments) => list(arguments),
        Command::Expire(arguments) => {
            let Expire { folder, id } = arguments;
            let silence = folder.silences()?.expire(id, clock::now_ms())?;
            show(&[Listed { silence, silenced: None }], folder.output)
        }
    }
}

fn add(arguments: &Add) -> Result<(), Failure> {
    let Add { folder, when, length, starts_at, by, comment } = arguments;
    let file = folder.silences()?;
    let starts_at = match starts_at.as_deref().map(|text| clock::rfc3339_ms(text.as_bytes())) {
        None => clock::now_ms(),
        Some(Some(at_ms)) => at_ms,
        Some(None) => {
            let mistake = Diagnostic::error(Path::new("--starts-at"), 0, 0, "", "expected a time such as `2026-11-22T22:00:00Z`");
            return Err(Diagnostics::from(mistake).into());
        }
    };
    let ends_at = starts_at.saturating_add(i64::try_from(length.0.as_millis()).unwrap_or(i64::MAX));
    let (when, created_by, comment) = (when.clone(), by.clone(), comment.clone());
    let silence = file.add(&Silence { id: String::new(), when, starts_at, ends_at, created_by, comment })?;
    if let Some(config) = &folder.config {
        // Now that the configuration sees it, it tells of fields that no alert has.
        let mut warnings = validate::read(config)?.warnings;
        warnings.0.retain(|warning| warning.file == file.path() && warning.path.starts_with(&silence.id));
        warn(&warnings);
    }
    show(&[Listed { silence, silenced: None }], folder.output)
}

/// A silence, and how many alerts it has silenced, if a running instance says so.
#[derive(Deserialize)]
struct Listed {
    #[serde(flatten)]
    silence: Silence,
    silenced: Option<u64>,
}

fn list(arguments: &List) -> Result<(), Failure> {
    let List { folder, admin, expired } = arguments;
    let address = match (&folder.config, admin) {
        (Some(file), _) => validate::read(file)?.settings.admin.map(|address| address.to_string()),
        (None, admin) => admin.clone(),
    };
    let mut counts = Vec::new();
    match address.map(|address| asked(&address)) {
        Some(Ok(listed)) => counts = listed,
        // A folder can be read whether an instance runs or not.
        Some(Err(error)) if folder.config.is_none() => return Err(error),
        _ => {}
    }
    let listed = if admin.is_some() {
        counts
    } else {
        let count = |id: &str| counts.iter().find(|known| known.silence.id == id).and_then(|known| known.silenced);
        folder.silences()?.read()?.into_iter().map(|silence| Listed { silenced: count(&silence.id), silence }).collect()
    };
    let now_ms = clock::now_ms();
    let shown: Vec<Listed> = listed.into_iter().filter(|listed| *expired || listed.silence.state(now_ms) != State::Expired).collect();
    show(&shown, folder.output)
}

/// What a running instance says.
fn asked(address: &str) -> Result<Vec<Listed>, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        silences: Vec<Listed>,
    }
    let answer: Answer = instance::read(address, "/api/v1/silences", LIST_BYTES_MAX, "list of silences")?;
    Ok(answer.silences)
}

fn show(listed: &[Listed], output: Output) -> Result<(), Failure> {
    let now_ms = clock::now_ms();
    if output == Output::Json {
        return listed.iter().try_for_each(|listed| print_json(&as_json(listed, now_ms)));
    }
    if listed.is_empty() {
        message("no silences");
        return Ok(());
    }
    let row = |Listed { silence, silenced }: &Listed| {
        let count = silenced.map_or("-".to_owned(), |count| count.to_string());
        vec![
            silence.id.clone(),
            silence.state(now_ms).name().to_owned(),
            silence::time(silence.ends_at),
            silence.created_by.clone(),
            count,
            silence.comment.clone(),
            silence.when.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
    print(table::render(&["ID", "STATE", "ENDS AT", "BY", "SILENCED", "COMMENT", "WHEN"], &rows).as_bytes())
}

fn as_json(listed: &Listed, now_ms: i64) -> Value {
    let mut value = json!(listed.silence);
    value["state"] = json!(listed.silence.state(now_ms).name());
    value["silenced"] = json!(listed.silenced);
    value
}
