//! The rule engine held against the public rules of SigmaHQ, the events that came with them, and `rsigma`.
//!
//! The rules, and the script that makes the lanes of events, stand beside this project's folder (`../shared`), not in
//! it: without them these tests print so and do nothing. `HYDRANT_EVENTS` sets how many events the index is held
//! against the full scan with; in full that is 1.6 million. `HYDRANT_SEED` makes other random ones,
//! `HYDRANT_LANE` names a lane that is looked at alone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use hydrant::config::Node;
use hydrant::detect::Rules;
use hydrant::detect::preparation::Preparation;
use hydrant::matcher::Expr;
use rsigma_eval::event::JsonEvent;
use serde_json::{Map, Value};

use crate::generated::{Choices, Random, event};
use crate::oracles::{Asked, Shard};

/// Events that the index is held against the full scan with, unless `HYDRANT_EVENTS` says otherwise. The full scan asks
/// 38,000 predicates about each of them, which takes a build without optimisation some 20 times as long.
const EVENTS: usize = if cfg!(debug_assertions) { 800 } else { 20_000 };

/// Bytes of choices for one event: enough for three rules.
const CHOICES: usize = 600;

/// All rules, and the folder that they are in.
struct Hq {
    folder: tempfile::TempDir,
    asked: Asked,
}

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("shared").join(path);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

fn hq() -> Option<&'static Hq> {
    static HQ: OnceLock<Option<Hq>> = OnceLock::new();
    HQ.get_or_init(load).as_ref()
}

fn load() -> Option<Hq> {
    let archive = shared("corpora/sigmahq-rules.tar.zst")?;
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new("tar").arg("--zstd").arg("-xf").arg(archive).arg("-C").arg(folder.path()).status().unwrap();
    assert!(status.success(), "tar: {status}");
    let kinds = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let kinds: Vec<PathBuf> = kinds.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("rules")).collect();
    // Rules with `expand` want values; one that no event has does.
    let mut placeholders = HashMap::new();
    for text in kinds.iter().flat_map(|kind| texts(kind)).filter(|text| text.contains("expand")) {
        for name in text.split('%').filter(|name| name.len() < 64 && name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c))) {
            placeholders.insert(name.to_owned(), vec![format!("value-of-{name}")]);
        }
    }
    let (rules, diagnostics) = Rules::load(&kinds, &Preparation { placeholders, ..Preparation::default() });
    assert!(!diagnostics.has_errors(), "{diagnostics}");
    Some(Hq { folder, asked: Asked::new(rules.rules) })
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
}

fn texts(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    files(folder, "yml", &mut found);
    found.into_iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

impl Hq {
    /// Lets `ask` use this thread's shard: some thousand paths are compiled for it, and explanations ask for one event at a time.
    fn with_shard<T>(&self, ask: impl FnOnce(&Asked, &mut Shard) -> T) -> T {
        thread_local!(static SHARD: RefCell<Option<Shard>> = const { RefCell::new(None) });
        let mut shard = SHARD.take().unwrap_or_else(|| self.asked.shard());
        let answer = ask(&self.asked, &mut shard);
        SHARD.set(Some(shard));
        answer
    }

    /// The rules that hold for each event.
    fn decide(&self, lines: &[String]) -> Vec<BTreeSet<u32>> {
        let [indexed, _] = self.with_shard(|asked, shard| asked.decide(shard, lines, false));
        indexed
    }

    /// Whether a rule holds for an event.
    fn holds(&self, rule: u32, event: &Value) -> bool {
        self.decide(&[event.to_string()]).iter().any(|rules| rules.contains(&rule))
    }

    /// Holds the index against the full scan; the rules that hold for each event.
    fn agreed(&self, what: &str, lines: &[impl AsRef<[u8]>]) -> Vec<BTreeSet<u32>> {
        let indexed =
            self.with_shard(|asked, shard| asked.agreed(shard, lines)).unwrap_or_else(|difference| panic!("{what}: {difference}"));
        let hits: usize = indexed.iter().map(BTreeSet::len).sum();
        let rules: BTreeSet<u32> = indexed.iter().flatten().copied().collect();
        println!("{what}: {} events, {hits} hits of {} rules, no difference", lines.len(), rules.len());
        indexed
    }
}

#[test]
fn every_rule_loads_into_a_detector() {
    let Some(hq) = hq() else { return };
    println!("{} rules over {} fields", hq.asked.rules.len(), hq.asked.width);
    assert_eq!((hq.asked.rules.len(), hq.asked.detector.len()), (3780, 3780));
}

#[test]
fn the_events_that_came_with_rules_match_through_the_engine() {
    let Some(hq) = hq() else { return };
    let mut wanted = HashMap::new();
    for (index, rule) in hq.asked.rules.iter().enumerate() {
        if let Some(tests) = rule.custom.entry("regression_tests_path").and_then(Node::text) {
            wanted.insert(Path::new(tests).parent().unwrap().to_owned(), index as u32);
        }
    }
    let mut found = Vec::new();
    files(&hq.folder.path().join("regression_data"), "json", &mut found);
    let (mut matched, mut missed) = (0, Vec::new());
    for file in found {
        let place = file.strip_prefix(hq.folder.path()).unwrap().parent().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>().map(Result::unwrap);
        let lines: Vec<String> = documents.map(|event| flat(&event).to_string()).collect();
        let is_hit = wanted.get(place).is_some_and(|rule| hq.decide(&lines).iter().any(|rules| rules.contains(rule)));
        if is_hit {
            matched += 1;
        } else {
            missed.push(place.display().to_string());
        }
    }
    println!("{matched} matched, {} missed: {missed:?}", missed.len());
    assert_eq!((matched, missed.len()), (202, 0));
}

/// A Windows event by the names that Sigma uses (Sigma specification 2.1.0, "Field Usage"): `EventData` and `System`
/// flat without spaces in names, attributes behind `_`, `UserData` without the element around its values.
fn flat(event: &Value) -> Value {
    let mut fields = Map::new();
    let user_data = event["Event"]["UserData"].as_object().into_iter().flat_map(|data| data.values());
    for part in user_data.chain([&event["Event"]["System"], &event["Event"]["EventData"]]) {
        for (name, value) in part.as_object().into_iter().flatten() {
            for (attribute, value) in value["#attributes"].as_object().into_iter().flatten() {
                fields.insert(format!("{name}_{attribute}"), value.clone());
            }
            fields.insert(name.replace(' ', ""), value.clone());
        }
    }
    Value::Object(fields)
}

/// How many events the index is held against the full scan with.
fn events() -> usize {
    std::env::var("HYDRANT_EVENTS").map_or(EVENTS, |count| count.parse().expect("HYDRANT_EVENTS is a number"))
}

#[test]
fn index_and_full_scan_agree_on_random_events() {
    let Some(hq) = hq() else { return };
    let mut random = Random(std::env::var("HYDRANT_SEED").map_or(7, |seed| seed.parse().expect("HYDRANT_SEED is a number")));
    let mut left = events() / 2;
    while left > 0 {
        let count = left.min(50_000);
        let lines: Vec<Vec<u8>> = (0..count).map(|_| event(&mut Choices(&random.bytes(CHOICES)), &hq.asked.rules)).collect();
        let decided = hq.agreed("random", &lines);
        assert!(decided.iter().filter(|rules| !rules.is_empty()).count() * 2 > count, "most random events are made to match");
        left -= count;
    }
}

/// The lanes of `gen_events.py`: name and events, `count` in all.
fn lanes(count: usize) -> Option<Vec<(String, Vec<String>)>> {
    let script = shared("tools/gen_events.py")?;
    let folder = tempfile::tempdir().unwrap();
    // Eight lanes.
    let each = (count / 8).max(1).to_string();
    let status = match Command::new("python3").arg(script).arg(folder.path()).args([&each, "7"]).status() {
        Ok(status) => status,
        Err(error) => {
            println!("skipped: python3 does not run: {error}");
            return None;
        }
    };
    assert!(status.success(), "gen_events.py: {status}");
    let mut found = Vec::new();
    files(folder.path(), "ndjson", &mut found);
    found.sort();
    let lane = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let lines = || std::fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
        wanted_lane().is_none_or(|wanted| wanted == name).then(|| (name, lines()))
    };
    Some(found.into_iter().filter_map(lane).collect())
}

fn wanted_lane() -> Option<String> {
    std::env::var("HYDRANT_LANE").ok()
}

/// Why a rule may hold for an event in one engine only.
struct Difference {
    reason: &'static str,
    /// Whether that is why, for this rule, this event, and whether it is ours that holds.
    explains: fn(&Hq, u32, &Value, bool) -> bool,
}

/// Where `rsigma` 0.23 decides otherwise on purpose or by a limit of its own.
const DIFFERENCES: &[Difference] = &[Difference {
    // Sigma 2.1.0: keywords are "applied to the full log message"; rsigma looks into values that are texts.
    reason: "a keyword stands in the raw event, but in none of its texts: in a key, a number, or across values",
    explains: |hq, rule, event, is_ours| is_ours && is_keyword(&hq.asked.rules[rule as usize].condition) && !hq.holds(rule, &bare(event)),
}];

/// Whether a condition asks for keywords and nothing else.
fn is_keyword(expr: &Expr<String>) -> bool {
    match expr {
        Expr::All(items) | Expr::Any(items) => items.iter().all(is_keyword),
        Expr::Not(inner) => is_keyword(inner),
        Expr::Keyword(_) => true,
        Expr::Field(..) | Expr::Fields { .. } => false,
    }
}

/// The texts of an event alone, under keys that no rule asks for.
fn bare(event: &Value) -> Value {
    fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
        match value {
            Value::String(text) => texts.push(text),
            Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
            Value::Object(members) => members.values().for_each(|member| collect(member, texts)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut texts = Vec::new();
    collect(event, &mut texts);
    texts.into_iter().enumerate().map(|(number, text)| (format!("#{number}"), Value::from(text))).collect::<Map<_, _>>().into()
}

#[test]
fn index_and_full_scan_agree_on_lanes_and_rsigma_agrees_but_for_known_differences() {
    let Some(hq) = hq() else { return };
    let Some(lanes) = lanes(events() / 2) else { return };
    let mut engine = rsigma_eval::Engine::new();
    let mut known = HashSet::new();
    let mut parsed = Vec::new();
    for (rule, index) in hq.asked.rules.iter().zip(0..) {
        let text = std::fs::read_to_string(&rule.file).unwrap();
        // Without a pipeline rsigma takes `%name%` as it stands, or for anything; ours had values.
        if !text.contains("|expand") {
            parsed.append(&mut rsigma_parser::parse_sigma_yaml(&text).unwrap().rules);
            known.insert(index);
        }
    }
    // All at once: its index is made anew with every call.
    let refused = engine.add_rules(&parsed);
    assert!(refused.is_empty(), "{refused:?}");
    println!("rsigma has {} of {} rules", engine.rule_count(), hq.asked.rules.len());
    let index: HashMap<&str, u32> = hq.asked.rules.iter().zip(0..).map(|(rule, index)| (rule.id.as_str(), index)).collect();
    let mut explained = vec![(0, BTreeSet::new()); DIFFERENCES.len()];
    let (mut compared, mut same, mut unknown) = (0, 0, BTreeMap::new());
    for (name, lines) in &lanes {
        let decided = hq.agreed(name, lines);
        for (line, ours) in lines.iter().zip(decided) {
            let event: Value = serde_json::from_str(line).unwrap();
            let theirs = engine.evaluate(&JsonEvent::borrow(&event)).into_iter().filter_map(|result| result.header.rule_id);
            let theirs: BTreeSet<u32> = theirs.map(|id| index[id.as_str()]).collect();
            let ours: BTreeSet<u32> = ours.into_iter().filter(|rule| known.contains(rule)).collect();
            compared += 1;
            same += ours.intersection(&theirs).count();
            for rule in ours.symmetric_difference(&theirs) {
                let is_ours = ours.contains(rule);
                let title = hq.asked.rules[*rule as usize].title.as_str();
                match DIFFERENCES.iter().position(|difference| (difference.explains)(hq, *rule, &event, is_ours)) {
                    Some(reason) => {
                        explained[reason].0 += 1;
                        explained[reason].1.insert(title);
                    }
                    None => {
                        unknown.entry((title, is_ours)).or_insert_with(|| line.clone());
                    }
                }
            }
        }
    }
    println!("{compared} events through rsigma, {same} hits in both");
    for (difference, (hits, titles)) in DIFFERENCES.iter().zip(&explained) {
        println!("{hits} hits differ because {}: {titles:?}", difference.reason);
    }
    for ((title, is_ours), line) in &unknown {
        println!("{title}: {}: {line}", if *is_ours { "ours only" } else { "rsigma only" });
    }
    assert!(unknown.is_empty(), "{} rules differ for no known reason", unknown.len());
    assert!(same > 0, "no hit in both: is there such a lane?");
    assert!(wanted_lane().is_some() || explained.iter().all(|(hits, _)| *hits > 0), "a reason explains nothing");
}
