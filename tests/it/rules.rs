//! The rule pack in `rules/`: loads clean, its own tests hold, it finds the demo's attack and keeps quiet otherwise.
//!
//! All of it goes the way that events go: raw line, `auto`, decoder, schema map, detector, in the plan of a real
//! configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use hydrant::config::{Content, Node};
use hydrant::decode::{Auto, Compiled, DECODERS, Schema, explain};
use hydrant::detect::sigma::{Level, LogSource, SigmaRule, Status};
use hydrant::detect::{Detector, Hit, Rules, Vocabulary, cases, pack};
use hydrant::error::Diagnostics;
use hydrant::event::{Chunk, Events, Fields, Sender, Span};
use hydrant::matcher::Expr;
use hydrant::pipeline::offline::Offline;
use hydrant::pipeline::plan::{Line, Plan};
use hydrant::traffic::{Attack, Kind, Traffic};

const CONFIG: &str = "
rules: [builtin]
sources: { fw: { type: syslog, listen: \"127.0.0.1:5514\", decoder: auto } }
sinks: { out: { type: splunk_hec, endpoint: \"http://127.0.0.1:8088\", token: t } }
";

const START_MS: i64 = 1_795_248_000_000;

/// Bytes by which a negative case may differ from its positive: one value, such as a path or a user agent.
const DIFFERENCE_BYTES_MAX: usize = 64;

/// Benign lines of each kind.
const BENIGN_LINES: usize = 20_000;

fn plan() -> Plan {
    Plan::read(Path::new("pack.yaml"), CONFIG).unwrap_or_else(|diagnostics| panic!("{diagnostics}"))
}

fn line(plan: &Plan) -> &Line {
    &plan.sources[0].line
}

/// Frames through the decoders that `auto` gives them and through their detectors: row and rule of each hit, row and
/// decoder of each frame. The index has to agree with the full scan on all of it.
fn detect(line: &Line, lines: &[Vec<u8>]) -> (Vec<(u32, u32)>, Vec<&'static str>) {
    let mut frames = Vec::new();
    let mut bytes = Vec::new();
    for line in lines {
        frames.push(Span::new(bytes.len(), bytes.len() + line.len()));
        bytes.extend_from_slice(line);
    }
    let sender = Sender { source: "fw".into(), source_index: 0 };
    let chunk = Chunk::new(bytes, frames, Arc::new(sender), START_MS);
    let mut events = Events::default();
    events.reset(&chunk, line.width);
    let mut runs = Vec::new();
    Auto::default().split(&chunk, &mut runs);
    let (mut indexed, mut scanned, mut decoders) = (Vec::new(), Vec::new(), Vec::new());
    for (frames, decoder) in runs {
        let decoder = &line.decoders[decoder];
        decoder.compiled.instance().decode(&chunk, frames.clone(), &mut events);
        decoders.extend(frames.clone().map(|_| decoder.compiled.kind().name()));
        let rows = frames.start as u32..frames.end as u32;
        decoder.detector.detect(&chunk, &events, rows.clone(), &mut decoder.detector.scratch(), &mut indexed);
        decoder.detector.full_scan(&chunk, &events, rows, &mut scanned);
    }
    let sorted = |hits: Vec<Hit>| {
        let mut hits: Vec<(u32, u32)> = hits.into_iter().map(|hit| (hit.row, hit.rule)).collect();
        hits.sort_unstable();
        hits
    };
    let indexed = sorted(indexed);
    assert_eq!(indexed, sorted(scanned), "the index and the full scan differ");
    (indexed, decoders)
}

/// One of a rule's own tests.
struct Case<'a> {
    name: &'a str,
    decoder: &'a str,
    log: &'a str,
    is_match: bool,
}

impl<'a> Case<'a> {
    fn read(test: &'a Node) -> Self {
        let text = |key: &str| test.entry(key).and_then(Node::text);
        let is_match = match text("expect") {
            Some("match") => true,
            Some("no_match") => false,
            other => panic!("line {}: `expect` is match or no_match, not {other:?}", test.line),
        };
        let missing = |key: &str| -> &'a str { panic!("line {}: `{key}` is missing", test.line) };
        let name = text("name").unwrap_or_else(|| missing("name"));
        let log = text("log").unwrap_or_else(|| missing("log"));
        for (key, _) in test.entries() {
            assert!(key.text().is_some_and(|key| ["name", "decoder", "log", "expect"].contains(&key)), "{name}: an unknown key");
        }
        Self { name, decoder: text("decoder").unwrap_or("auto"), log, is_match }
    }
}

fn cases_of(rule: &SigmaRule) -> Vec<Case<'_>> {
    let file = rule.file.display();
    let Some(Content::Sequence(tests)) = rule.custom.entry("tests").map(|tests| &tests.content) else {
        panic!("{file}: `tests` is no list");
    };
    tests.iter().map(Case::read).collect()
}

#[test]
fn every_rule_loads_without_a_warning_in_every_decoder_that_carries_its_log_source() {
    let plan = plan();
    let about_the_pack: Vec<String> = plan.warnings.0.iter().filter(|d| d.file.starts_with("rules")).map(ToString::to_string).collect();
    assert!(about_the_pack.is_empty(), "{}", about_the_pack.join("\n"));
    assert_eq!(plan.rules.rules.len() + plan.rules.correlations.len(), pack().len(), "one rule a file");
    assert!(plan.rules.skipped.is_empty());
    assert!(pack().len() >= 120);
    let mut idle: BTreeSet<u32> = (0..plan.rules.rules.len() as u32).collect();
    for decoder in &line(&plan).decoders {
        println!("{}: {} rules", decoder.compiled.kind().name(), decoder.detector.len());
        decoder.detector.rules().iter().for_each(|rule| {
            idle.remove(rule);
        });
    }
    let idle: Vec<_> = idle.iter().map(|rule| plan.rules.rules[*rule as usize].file.display()).collect();
    assert!(idle.is_empty(), "no decoder carries the log source of {idle:?}");
}

#[test]
fn every_rule_says_what_it_is_and_what_else_may_hit() {
    let (rules, diagnostics) = Rules::load(&["builtin".into()], &Default::default());
    assert!(diagnostics.0.is_empty(), "{diagnostics}");
    let mut titles = BTreeSet::new();
    for rule in &rules.rules {
        let file = rule.file.display();
        assert_eq!(rule.status, Some(Status::Test), "{file}");
        assert!(rule.description.ends_with('.') && !rule.falsepositives.is_empty() && !rule.author.is_empty(), "{file}");
        let is_tag = |tag: &String| tag.strip_prefix("attack.").is_some_and(|name| !name.is_empty() && name.to_lowercase() == name);
        let has_technique = rule.tags.iter().any(|tag| tag.starts_with("attack.t1"));
        assert!(rule.tags.iter().all(is_tag) && has_technique, "{file}: {:?}", rule.tags);
        assert!(titles.insert(&rule.title), "{file}: another rule has the title {}", rule.title);
        let version = rule.id.as_bytes().get(14);
        assert!(rule.id.len() == 36 && version == Some(&b'4'), "{file}: the id is no random UUID");
        assert!(rule.custom.entry("date").is_some(), "{file}");
    }
    for correlation in rules.correlations.iter().map(|linked| &linked.correlation) {
        let file = correlation.file.display();
        assert_eq!(correlation.status, Some(Status::Test), "{file}");
        assert!(correlation.description.ends_with('.') && !correlation.falsepositives.is_empty() && correlation.level.is_some(), "{file}");
        assert!(correlation.tags.iter().any(|tag| tag.starts_with("attack.t1")), "{file}");
        assert!(titles.insert(&correlation.title), "{file}: another rule has the title {}", correlation.title);
        assert!(correlation.id.as_bytes().get(14) == Some(&b'4') && correlation.custom.entry("date").is_some(), "{file}");
    }
}

fn chunk(lines: &[Vec<u8>]) -> Chunk {
    let frames = lines.iter().scan(0, |start, line| {
        let span = Span::new(*start, *start + line.len());
        *start = span.end as usize;
        Some(span)
    });
    Chunk::new(lines.concat(), frames.collect(), Arc::new(Sender { source: "fw".into(), source_index: 0 }), START_MS)
}

/// Titles of what correlations find in some lines.
fn correlate(offline: &mut Offline, rules: &Rules, lines: &[Vec<u8>]) -> Vec<String> {
    for lines in lines.chunks(1000) {
        offline.examine(&chunk(lines), |_| Ok::<_, ()>(())).unwrap();
    }
    offline.finish().into_iter().map(|(index, _)| rules.correlations[index as usize].correlation.title.clone()).collect()
}

#[test]
fn the_tests_inside_the_correlations_hold() {
    let (rules, _) = Rules::load(&["builtin".into()], &Default::default());
    let mut offline = Offline::new("auto", &rules).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert!(rules.correlations.len() >= 20);
    let (mut wrong, mut count) = (Vec::new(), 0);
    for linked in &rules.correlations {
        let correlation = &linked.correlation;
        let cases = cases::read_correlation(correlation, |_| Ok(())).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        assert!(cases.iter().any(|case| case.expects_match) && cases.iter().any(|case| !case.expects_match), "{}", correlation.title);
        for case in cases {
            let lines: Vec<Vec<u8>> = case.logs.iter().map(|log| log.as_bytes().to_vec()).collect();
            let found = correlate(&mut offline, &rules, &lines);
            if found.contains(&correlation.title) != case.expects_match {
                wrong.push(format!("{}: `{}`: {found:?}", correlation.file.display(), case.name));
            }
            count += 1;
        }
    }
    println!("{} correlations, {count} cases", rules.correlations.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_rules_share_a_detection_body() {
    let (rules, _) = Rules::load(&["builtin".into()], &Default::default());
    let mut bodies = BTreeMap::new();
    for rule in &rules.rules {
        if let Some(first) = bodies.insert(format!("{:?}", rule.condition), rule) {
            panic!("{} and {} ask the same", first.file.display(), rule.file.display());
        }
    }
}

#[test]
fn the_tests_inside_the_rules_hold() {
    let plan = plan();
    let (mut positives, mut negatives) = (0, 0);
    let mut wrong = Vec::new();
    for (index, rule) in plan.rules.rules.iter().enumerate() {
        let cases = cases_of(rule);
        assert!(cases.iter().any(|case| case.is_match) && cases.iter().any(|case| !case.is_match), "{}", rule.file.display());
        for case in cases {
            let (hits, decoders) = detect(line(&plan), &[case.log.as_bytes().to_vec()]);
            let count = hits.iter().filter(|(_, rule)| *rule == index as u32).count();
            if count != usize::from(case.is_match) {
                wrong.push(format!("{}: `{}`: {count} hits", rule.file.display(), case.name));
            }
            if case.decoder != "auto" && case.decoder != decoders[0] {
                wrong.push(format!("{}: `{}`: auto gives it to {}", rule.file.display(), case.name, decoders[0]));
            }
            *if case.is_match { &mut positives } else { &mut negatives } += 1;
        }
    }
    println!("{} rules, {positives} positive and {negatives} negative cases", plan.rules.rules.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How many bytes two texts differ in, from the first difference to the last.
fn difference(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let shorter = a.len().min(b.len());
    let front = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count().min(shorter - front);
    a.len().max(b.len()) - front - back
}

/// The fields that a condition asks about, each with all of its predicates.
fn asked(expr: &Expr<String>, fields: &mut BTreeMap<String, Vec<Expr<String>>>) {
    match expr {
        Expr::All(items) | Expr::Any(items) => items.iter().for_each(|item| asked(item, fields)),
        Expr::Not(inner) => asked(inner, fields),
        Expr::Field(name, _) | Expr::Fields { left: name, .. } => fields.entry(name.clone()).or_default().push(expr.clone()),
        Expr::Keyword(_) => fields.entry(String::new()).or_default().push(expr.clone()),
    }
}

/// What a decoder's names are, as the plan has them.
struct Same<'a>(&'a Line, usize);

impl Vocabulary for Same<'_> {
    fn carries(&self, _: &LogSource) -> bool {
        true
    }

    fn resolve(&self, field: &str) -> Option<String> {
        let kind = self.0.decoders[self.1].compiled.kind();
        let schema = Schema::parse(Path::new("schema"), kind.schema(), kind.natives().as_deref()).unwrap();
        let named = schema.sigma.get(field).cloned().or_else(|| schema.ecs.contains_key(field).then(|| field.to_owned()));
        Some(named.unwrap_or_else(|| format!("%native.{field}")))
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// The fields about which at least one predicate of the rule is decided differently for two lines.
fn fields_that_differ(line: &Line, rule: &SigmaRule, decoder: usize, a: &str, b: &str) -> BTreeSet<String> {
    let mut fields = BTreeMap::new();
    asked(&rule.condition, &mut fields);
    let parts: Vec<(String, SigmaRule)> = fields
        .into_iter()
        .flat_map(|(name, parts)| parts.into_iter().map(move |part| (name.clone(), part)))
        .map(|(name, condition)| (name, SigmaRule { condition, ..rule.clone() }))
        .collect();
    let rules: Vec<SigmaRule> = parts.iter().map(|(_, rule)| rule.clone()).collect();
    // Beside the fields that the plan wants: what a decoder reads may depend on them.
    let mut slots: Fields = line.decoders[decoder].context.fields.clone();
    let (detector, _) = Detector::new(&rules, &Same(line, decoder), &mut slots);
    let kind = line.decoders[decoder].compiled.kind();
    let schema = Schema::parse(Path::new("schema"), kind.schema(), kind.natives().as_deref()).unwrap();
    let compiled = Compiled::new(kind, &schema, &mut slots, 0).unwrap();
    let decided = |log: &str| -> BTreeSet<u32> {
        let sender = Sender { source: "fw".into(), source_index: 0 };
        let chunk = Chunk::new(log.as_bytes().to_vec(), vec![Span::new(0, log.len())], Arc::new(sender), START_MS);
        let mut events = Events::default();
        events.reset(&chunk, slots.width());
        compiled.instance().decode(&chunk, 0..1, &mut events);
        let mut hits = Vec::new();
        detector.full_scan(&chunk, &events, 0..1, &mut hits);
        hits.into_iter().map(|hit| hit.rule).collect()
    };
    decided(a).symmetric_difference(&decided(b)).map(|part| parts[*part as usize].0.clone()).collect()
}

#[test]
fn every_negative_case_differs_from_a_positive_one_in_one_atom() {
    let plan = plan();
    let line = line(&plan);
    let mut wrong = Vec::new();
    for rule in &plan.rules.rules {
        let cases = cases_of(rule);
        for negative in cases.iter().filter(|case| !case.is_match) {
            let near = cases.iter().filter(|case| case.is_match && difference(case.log, negative.log) <= DIFFERENCE_BYTES_MAX);
            let name = match negative.decoder {
                "auto" => explain(negative.log.as_bytes()).0,
                name => name,
            };
            let decoder = DECODERS.iter().position(|kind| kind.name() == name).unwrap();
            let fields: Vec<_> = near.map(|positive| fields_that_differ(line, rule, decoder, positive.log, negative.log)).collect();
            if !fields.iter().any(|fields| fields.len() == 1) {
                wrong.push(format!("{}: `{}` differs in {fields:?}", rule.file.display(), negative.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_scene_of_the_attack_raises_an_alert() {
    let plan = plan();
    let mut attack = Attack::new(START_MS, 7);
    let mut lines = Vec::new();
    let mut scenes = Vec::new();
    while let Some((kind, line)) = attack.step(START_MS + Attack::DURATION_MS) {
        lines.push(line.to_vec());
        scenes.push((kind, ""));
        if let Some((scene, _)) = attack.scene() {
            scenes.last_mut().unwrap().1 = scene;
        }
    }
    let (hits, decoders) = detect(line(&plan), &lines);
    for ((kind, scene), decoder) in scenes.iter().zip(&decoders) {
        assert_eq!(kind.name(), *decoder, "{scene}");
    }
    let mut found: BTreeMap<&str, BTreeMap<&str, u32>> = scenes.iter().map(|(_, scene)| (*scene, BTreeMap::new())).collect();
    for (row, rule) in hits {
        let title = &plan.rules.rules[rule as usize].title;
        *found.entry(scenes[row as usize].1).or_default().entry(title).or_default() += 1;
    }
    for (scene, rules) in &found {
        println!("{scene}: {rules:?}");
    }
    let missed: Vec<_> = found.iter().filter(|(_, rules)| rules.is_empty()).map(|(scene, _)| scene).collect();
    assert!(missed.is_empty(), "no rule finds {missed:?}");
}

/// Benign lines of a kind, one every 7 ms.
fn benign(kind: Kind) -> Vec<Vec<u8>> {
    let mut traffic = Traffic::new(kind, 23);
    let line = |number| {
        let mut line = Vec::new();
        traffic.next(START_MS + number as i64 * 7, &mut line);
        line
    };
    (0..BENIGN_LINES).map(line).collect()
}

#[test]
fn benign_traffic_raises_no_high_or_critical_alert() {
    let plan = plan();
    let mut offline = Offline::new("auto", &plan.rules).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    let correlation = |title: &str| plan.rules.correlations.iter().find(|linked| linked.correlation.title == title).unwrap();
    let (mut loud, mut total) = (Vec::new(), 0);
    for kind in Kind::ALL {
        let lines = benign(kind);
        let mut alerts: BTreeMap<(Level, String), usize> = BTreeMap::new();
        for lines in lines.chunks(1000) {
            let (hits, decoders) = detect(line(&plan), lines);
            assert!(decoders.iter().all(|decoder| *decoder == kind.name()), "{kind}: frames that auto gave to another decoder");
            for (row, rule) in hits.into_iter().filter(|(_, rule)| plan.rules.alone[*rule as usize]) {
                let rule = &plan.rules.rules[rule as usize];
                *alerts.entry((rule.level, rule.title.clone())).or_default() += 1;
                if rule.level >= Level::High {
                    loud.push(format!("{}: {}", rule.file.display(), String::from_utf8_lossy(&lines[row as usize])));
                }
            }
        }
        for title in correlate(&mut offline, &plan.rules, &lines) {
            let linked = correlation(&title);
            if linked.is_alert {
                loud.extend((linked.level >= Level::High).then(|| format!("{kind}: {title}")));
                *alerts.entry((linked.level, title)).or_default() += 1;
            }
        }
        let count: usize = alerts.values().sum();
        println!("{kind}: {count} alerts in {BENIGN_LINES} benign events: {alerts:?}");
        total += count;
    }
    let million = total * 1_000_000 / (BENIGN_LINES * Kind::ALL.len());
    println!("alerts in a million benign events, all kinds alike: {million}");
    assert!(loud.is_empty(), "{} alerts, such as\n{}", loud.len(), loud[..loud.len().min(5)].join("\n"));
}

#[test]
fn the_word_builtin_loads_the_pack_and_a_folder_of_that_name_is_a_path() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("builtin")).unwrap();
    let own = pack()[0].1.replace("status: test", "status: stable");
    std::fs::write(folder.path().join("builtin/own.yml"), own).unwrap();
    let read = |rules: &str| {
        let text = CONFIG.replace("[builtin]", rules);
        let plan = Plan::read(&folder.path().join("hydrant.yaml"), &text).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        (plan.rules.rules.len() + plan.rules.correlations.len(), plan.rules.rules[0].status)
    };
    assert_eq!(read("[builtin]"), (pack().len(), Some(Status::Test)));
    assert_eq!(read("[./builtin]"), (1, Some(Status::Stable)));
    let (rules, diagnostics): (Rules, Diagnostics) = Rules::load(&["builtin".into(), "nowhere/".into()], &Default::default());
    assert_eq!((rules.rules.len() + rules.correlations.len(), diagnostics.0.len()), (pack().len(), 1));
}
