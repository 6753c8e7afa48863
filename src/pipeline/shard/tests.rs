//! From the text of a configuration to the rows of a chunk, without sockets.

mod alerts;

use std::path::Path;
use std::sync::atomic::AtomicU64;

use tokio::runtime::Builder;
use tokio::task::LocalSet;

use super::*;
use crate::event::{Sender, Span, Value};
use crate::journal::Memory;
use crate::task;

/// A configuration in a folder of its own, compiled, with one shard that is not connected to anything.
struct Bench {
    folder: tempfile::TempDir,
    shard: Shard,
    chunk: Chunk,
    ledger: Arc<Ledger>,
}

const SINK: &str = "sinks: { out: { type: splunk_hec, endpoint: \"http://127.0.0.1:9\", token: x, form: json } }\n";
const SOURCE: &str = "sources: { fw: { type: syslog, listen: \"127.0.0.1:5514\", decoder: palo_alto } }\n";

/// A PAN-OS line from `src` with `action`.
fn line(src: &str, action: &str) -> String {
    format!(
        "<14>1 2026-11-21T08:00:00Z fw - - - - 1,2026/11/21 08:00:00,0128,TRAFFIC,end,2561,2026/11/21 08:00:00,{src},93.184.216.34,,,\
         rule-1,,,ssl,vsys1,trust,untrust,e1,e2,fwd,x,1,1,52011,443,0,0,0x0,tcp,{action},5200,1200"
    )
}

fn plan(folder: &Path, config: &str, files: &[(&str, &str)]) -> Result<Plan, String> {
    for (name, text) in files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    Plan::read(&folder.join("c.yaml"), config).map_err(|d| d.to_string().replace(&format!("{}/", folder.display()), ""))
}

fn mistakes(config: &str, files: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    plan(folder.path(), config, files).err().unwrap()
}

impl Bench {
    /// All stages have run over `lines`.
    fn new(config: &str, files: &[(&str, &str)], lines: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plan = Arc::new(plan(folder.path(), config, files).unwrap());
        let sender = Arc::new(Sender { source: plan.sources[0].name.clone(), source_index: 0 });
        let (mut bytes, mut frames) = (Vec::new(), Vec::new());
        for line in lines {
            frames.push(Span::new(bytes.len(), bytes.len() + line.len()));
            bytes.extend_from_slice(line.as_bytes());
        }
        let chunk = Chunk::new(bytes, frames, sender, 1_795_240_800_000);
        let (_stopper, stop) = task::pair();
        let (_plans, plan) = watch::channel(plan);
        let (health, taps) = (Health::new(1, 1, stop), Arc::default());
        let registry = Registry::default();
        let names = (vec!["fw".to_owned()], vec!["out".to_owned()]);
        let ledger = Ledger::open(folder.path(), names, false, registry.clone());
        let source_health = Arc::new(SourceHealth::open(folder.path(), 0));
        let common = Common { budget: Budget::new(1 << 30), plan, registry, health, taps, ledger, source_health };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let shard = LocalSet::new().block_on(&runtime, async {
            let journal = Rc::new(Memory::new(1, Arc::new(AtomicU64::new(0))));
            Shard::new(&common, journal, 1, crate::pipeline::correlation::exchange(1).remove(0)).unwrap()
        });
        let mut bench = Self { folder, shard, chunk, ledger: common.ledger };
        bench.work();
        bench
    }

    fn work(&mut self) {
        let in_work = self.shard.page().received(&self.chunk);
        self.shard.work(0, &self.chunk, Pass::Live).unwrap();
        drop(in_work);
    }

    /// What the ledger finds.
    fn imbalances(&self) -> Vec<String> {
        self.ledger.publish(0, self.shard.page().data());
        self.ledger.book().imbalances()
    }

    /// A field of every row, `-` for a missing one.
    fn field(&self, name: &str) -> Vec<String> {
        let slot = self.shard.plan.sources[0].line.fields.find(name).unwrap_or_else(|| panic!("nobody wants {name}"));
        let events = &self.shard.lines[0].events;
        let text = |row: usize| match events.event(&self.chunk, row).value(slot) {
            Value::Missing => "-".to_owned(),
            Value::Boolean(value) => value.to_string(),
            Value::Text(text) | Value::Number(text) | Value::Array(text) | Value::Object(text) => {
                String::from_utf8_lossy(text).into_owned()
            }
            other => panic!("{other:?}"),
        };
        (0..events.len()).map(text).collect()
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.shard.plan.sources[0].line.fields.find(name).is_some()
    }

    fn warnings(&self) -> String {
        self.shard.plan.warnings.to_string()
    }

    fn count(&self, family: &'static metrics::Family, key: &str, value: &str) -> u64 {
        self.shard.registry.sum(family, key, value)
    }

    /// What the first sink got, item by item.
    fn bodies(&self) -> Vec<serde_json::Value> {
        let items = &self.shard.sinks[0].items;
        let starts = std::iter::once(0).chain(items.ends.iter().copied());
        let separator = self.shard.sinks[0].batcher.batching().separator.len();
        let body = |(start, end): (u32, &u32)| serde_json::from_slice(&items.bytes[start as usize + separator..*end as usize]).unwrap();
        starts.zip(&items.ends).map(body).collect()
    }
}

const TABLES: &str = "enrichments:
  assets: { type: table, path: assets.csv, key: { field: source.ip, column: ip }, columns: { owner: source.owner } }
  zones:  { type: table, path: zones.csv, match: cidr, key: { field: source.ip, column: net }, columns: { zone: source.zone } }
  teams:  { type: table, path: teams.csv, key: { field: source.owner, column: owner }, columns: { team: source.team } }
";
const TABLE_FILES: &[(&str, &str)] = &[
    ("assets.csv", "ip,owner\n10.1.2.3,alice\n10.1.2.4,bob\n"),
    ("zones.csv", "net,zone\n10.0.0.0/8,inside\n10.1.2.0/24,dmz\n"),
    ("teams.csv", "owner,team\nalice,net\n"),
];
const SOURCES_OF: &[&str] = &["10.1.2.3", "10.9.9.9", "192.0.2.1", "10.1.2.4"];

fn lines() -> Vec<String> {
    SOURCES_OF.iter().map(|src| line(src, "allow")).collect()
}

#[test]
fn an_event_that_a_stage_loses_unbalances_the_ledger() {
    let rule = "title: All\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f\nlevel: high\nlogsource: { product: paloalto }\n\
                detection: { s: { source.ip: 10.1.2.4 }, condition: s }\n";
    let mut bench = Bench::new(&format!("{SINK}{SOURCE}rules: [rule.yml]\n"), &[("rule.yml", rule)], &lines());
    assert_eq!(bench.imbalances(), Vec::<String>::new());
    bench.shard.faulty = Some(|rows| rows[0].retain(|row| *row != 1));
    bench.work();
    let lost_on_the_way = "destination `out`: 8 came, 7 are accounted for: 1 missing";
    assert_eq!(bench.imbalances(), [lost_on_the_way]);
    bench.shard.faulty = Some(|rows| rows[0].retain(|row| *row != 4));
    bench.work();
    let lost_alert = "alerts to `out`: 3 came, 2 are accounted for: 1 missing";
    assert_eq!(bench.imbalances(), [lost_on_the_way.replace("8 came, 7", "12 came, 11").as_str(), lost_alert]);
    drop(bench.shard.page().received(&bench.chunk));
    assert_eq!(bench.imbalances()[0], "source `fw`: 16 came, 12 are accounted for: 4 missing");
}

#[test]
fn a_sink_that_tells_people_gets_alerts_only_and_the_rest_counts_as_filtered() {
    let rule = "title: All\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f\nlevel: high\nlogsource: { product: paloalto }\n\
                detection: { s: { source.ip: 10.1.2.4 }, condition: s }\n";
    let sink = "sinks: { out: { type: slack, webhook_url: \"http://127.0.0.1:9\", fields: [source.ip] } }\n";
    // The condition is also true of the event that the alert is about.
    for routes in ["", "routes: [ { when: '%hydrant.alert', to: [out] } ]\n"] {
        let bench = Bench::new(&format!("{sink}{SOURCE}{routes}rules: [rule.yml]\n"), &[("rule.yml", rule)], &lines());
        assert_eq!(bench.imbalances(), Vec::<String>::new());
        let bodies = bench.bodies();
        assert_eq!(bodies.len(), 1, "{routes}");
        assert_eq!((&bodies[0]["rule"]["title"], &bodies[0]["fields"]["source.ip"]), (&"All".into(), &"10.1.2.4".into()));
        assert_eq!(bench.count(&metrics::EVENTS_FILTERED, "component_id", "out"), lines().len() as u64);
    }
}

#[test]
fn a_rule_over_its_budget_is_stopped_and_the_others_go_on() {
    let rule = |title: &str, id: char| {
        format!(
            "title: {title}\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3{id}\nlevel: high\nlogsource: {{ product: paloalto }}\n\
             detection: {{ s: {{ source.ip: 10.1.2.4 }}, condition: s }}\n"
        )
    };
    let files = [("a.yml", rule("Dear", 'a')), ("b.yml", rule("Cheap", 'b'))];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let config = |budget: u64| format!("{SINK}{SOURCE}rules: [a.yml, b.yml]\nrule_budget_percent: {budget}\n");
    let mut bench = Bench::new(&config(20), &files, &lines());
    let alerts = |bench: &Bench| bench.shard.lines[0].events.len() - SOURCES_OF.len();
    let hits = |bench: &Bench, rule| bench.shard.registry.sum(&metrics::RULE_HITS, "rule", rule);
    assert_eq!((hits(&bench, "Dear"), hits(&bench, "Cheap"), alerts(&bench)), (1, 1, 2));
    for dear_ms in [2_100, 1_900, 2_100, 2_100] {
        bench.shard.spend([dear_ms, 1_900]);
        bench.work();
    }
    assert_eq!((hits(&bench, "Dear"), hits(&bench, "Cheap")), (5, 5), "two windows in a row are no reason");
    bench.shard.spend([2_100, 1_900]);
    bench.work();
    assert_eq!((hits(&bench, "Dear"), hits(&bench, "Cheap"), alerts(&bench)), (5, 6, 1));
    assert_eq!(
        (bench.count(&metrics::RULES_QUARANTINED, "rule", "Dear"), bench.count(&metrics::RULES_QUARANTINED, "rule", "Cheap")),
        (1, 0)
    );

    // What a destination was promised before is no matter of the budget.
    let mut owed = Members::none(bench.chunk.position, lines().len());
    owed.alerts
        .extend(["a", "b"].map(|id| AlertKey { frame: 3, rule: AlertKey::rule(&format!("5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3{id}")) }));
    bench.shard.work(0, &bench.chunk, Pass::Owed(0, &owed, Came::Deferred)).unwrap();
    assert_eq!((alerts(&bench), bench.shard.rows[0].len()), (2, 2));
    bench.work();
    assert_eq!(alerts(&bench), 1);

    let mut bench = Bench::new(&config(0), &files, &lines());
    (0..5).for_each(|_| bench.shard.spend([9_000, 0]));
    bench.work();
    assert_eq!(hits(&bench, "Dear"), 2);
    assert!(mistakes(&config(100), &files).contains("rule_budget_percent: expected 0 (never) to 99, found 100"));
}

#[test]
fn tables_add_fields_before_rules_and_routes_and_one_may_key_the_next() {
    let rule = "title: DMZ\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f\nlevel: high\nlogsource: { product: paloalto }\n\
                detection: { s: { source.zone: dmz }, condition: s }\n";
    let routes = "routes: [ { when: '.source.team == \"net\"', to: [out] } ]\n";
    let files = [TABLE_FILES, &[("rule.yml", rule)]].concat();
    let bench = Bench::new(&format!("{SINK}{SOURCE}{TABLES}{routes}rules: [rule.yml]\n"), &files, &lines());
    assert_eq!(bench.warnings(), "");
    assert_eq!(bench.field("source.owner"), ["alice", "-", "-", "bob", "alice", "bob"], "alerts stand behind the events");
    assert_eq!(bench.field("source.zone"), ["dmz", "inside", "-", "dmz", "dmz", "dmz"]);
    assert_eq!(bench.field("source.team"), ["net", "-", "-", "-", "net", "-"]);
    assert_eq!(bench.shard.rows[0], [0, 4], "the event of that team and its alert");
    let bodies = bench.bodies();
    let source = &bodies[0]["event"]["source"];
    assert_eq!((&source["ip"], &source["owner"], &source["team"]), (&"10.1.2.3".into(), &"alice".into(), &"net".into()));
    assert_eq!(bodies[0]["event"]["hydrant"]["rule_ids"], serde_json::json!(["5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f"]));
}

#[test]
fn raw_bodies_carry_what_was_added_and_are_untouched_without() {
    let sink = SINK.replace("form: json", "form: raw");
    let bench = Bench::new(&format!("{sink}{SOURCE}{TABLES}"), TABLE_FILES, &lines());
    let bodies = bench.bodies();
    assert_eq!(bodies[0]["event"]["message"], lines()[0]);
    let added = serde_json::json!({"source": {"owner": "alice", "team": "net", "zone": "dmz"}});
    assert_eq!(bodies[0]["event"]["hydrant"], serde_json::json!({"source": "fw", "added": added}));
    assert_eq!(bodies[2]["event"], lines()[2], "nothing was added to this one");
}

#[test]
fn keys_that_no_source_has_and_mistakes_of_files_are_named() {
    let tables = TABLES.replace("field: source.ip, column: ip", "field: source.ipp, column: ip");
    let bench = Bench::new(&format!("{SINK}{SOURCE}{tables}"), TABLE_FILES, &lines());
    assert!(bench.warnings().contains("enrichments.assets: no source's events have the field `source.ipp`"), "{}", bench.warnings());
    assert!(bench.warnings().contains("did you mean `source.ip`?"));
    assert!(bench.warnings().contains("enrichments.teams: no source's events have the field `source.owner`"));
    assert!(!bench.is_wanted("source.owner") && bench.is_wanted("source.zone"));

    let files = [("assets.csv", "ip,owner\n10.1.2.3\n\",x\n"), ("zones.csv", "net,zone\n10.0.0.0/8,inside\n")];
    let text = mistakes(&format!("{SINK}{SOURCE}{TABLES}  x: {{ type: tabel }}\nroutes: [ {{ to: [nowhere] }} ]\n"), &files);
    for part in [
        "assets.csv:2:1: error: 1 cells; the first line has 2",
        "assets.csv:3:1: error: a quote is opened here and never closed",
        "teams.csv: error: cannot be read: No such file or directory",
        "c.yaml:7:14: error: enrichments.x.type: there is no type `tabel`",
        "routes[0].to: there is no sink `nowhere`",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn a_changed_file_is_used_from_the_next_chunk_on_and_a_broken_one_is_not() {
    let mut bench = Bench::new(&format!("{SINK}{SOURCE}{TABLES}"), TABLE_FILES, &lines());
    let assets = bench.shard.plan.enrichers[0].enricher.clone();
    let path = bench.folder.path().join("assets.csv");
    std::fs::write(&path, "ip,owner\n10.1.2.3,carol\n10.1.2.4,bob\n192.0.2.1,mallory\n").unwrap();
    assets.refresh();
    bench.work();
    assert_eq!(bench.field("source.owner"), ["alice", "-", "-", "bob"], "one look is not enough");
    assert!(matches!(assets.refresh(), crate::enrich::Refresh::Loaded));
    bench.work();
    assert_eq!(bench.field("source.owner"), ["carol", "-", "mallory", "bob"]);
    std::fs::write(&path, "ip\n").unwrap();
    assets.refresh();
    assert!(matches!(assets.refresh(), crate::enrich::Refresh::Failed(_)));
    bench.work();
    assert_eq!(bench.field("source.owner"), ["carol", "-", "mallory", "bob"]);
}

#[cfg(feature = "vrl")]
mod with_transforms {
    use super::*;

    const TRANSFORMS: &str = "transforms:
  - { when: '.event.action == \"deny\"', program: '.labels.team = \"net\"; .rule.name = \"changed\"' }
  - { when: '.source.ip == \"192.0.2.1\"', program: 'abort' }
  - { when: '.source.ip == \"10.9.9.9\"', program: '.source.ip = \"10.1.2.3\"; .x = to_int!(.event.action)' }
  - { when: '.source.ip == \"10.1.2.4\"', program: '.source.ip = \"10.1.2.3\"' }
";

    fn lines() -> Vec<String> {
        [("10.1.2.3", "deny"), ("192.0.2.1", "deny"), ("10.9.9.9", "allow"), ("10.1.2.4", "deny")]
            .map(|(src, action)| line(src, action))
            .to_vec()
    }

    #[test]
    fn programs_run_before_enrichment_and_rules_and_what_they_drop_is_counted_once() {
        let rule = "title: Net\nid: 5d0c0e5e-7a55-4b0e-8a0e-0d9f0c1b2a3f\nlevel: high\nlogsource: { product: paloalto }\n\
                    detection: { s: { labels.team: net }, condition: s }\n";
        let routes = "routes: [ { when: '.labels.team == \"net\" || exists(%hydrant.transform_error)', to: [out] } ]\n";
        let files = [TABLE_FILES, &[("rule.yml", rule)]].concat();
        let bench = Bench::new(&format!("{SINK}{SOURCE}{TABLES}{TRANSFORMS}{routes}rules: [rule.yml]\n"), &files, &lines());
        assert_eq!(bench.warnings(), "");
        assert_eq!(bench.field("labels.team"), ["net", "net", "-", "net", "net", "net"], "two alerts; the dropped event has none");
        assert_eq!(bench.field("source.owner"), ["alice", "-", "-", "alice", "alice", "alice"], "the look-up uses the written key");
        assert_eq!(bench.field("%hydrant.transform_error"), ["-", "-", "error", "-", "-", "-"]);
        assert_eq!(bench.shard.rows[0], [0, 2, 3, 4, 5]);
        assert_eq!(bench.count(&metrics::EVENTS_DROPPED, "reason", "transform"), 1);
        assert_eq!(bench.count(&metrics::EVENTS_FILTERED, "component_id", "out"), 0);
        assert_eq!(bench.count(&metrics::EVENTS_ROUTED, "component_id", "out"), 3);
        assert_eq!(bench.count(&metrics::TRANSFORM_ERRORS, "reason", "error"), 1);
        let bodies = bench.bodies();
        assert_eq!(bodies[0]["event"]["labels"]["team"], "net");
        assert_eq!(bodies[0]["event"]["rule"]["name"], "changed");
        assert_eq!(bodies[1]["event"]["source"]["ip"], "10.9.9.9", "a failed program changed nothing");
    }

    #[test]
    fn raw_bodies_carry_new_fields_only() {
        let sink = SINK.replace("form: json", "form: raw");
        let bench = Bench::new(&format!("{sink}{SOURCE}{TRANSFORMS}"), &[], &lines());
        let bodies = bench.bodies();
        assert_eq!(bodies.len(), 3);
        assert_eq!(bodies[0]["event"]["message"], lines()[0]);
        assert_eq!(bodies[0]["event"]["hydrant"]["added"], serde_json::json!({"labels": {"team": "net"}}));
        assert_eq!(bodies[1]["event"], lines()[2]);
    }

    #[test]
    fn all_mistakes_are_named_at_once_and_what_cannot_work_is_warned_of() {
        let transforms = "transforms:
  - { when: '.event.action ==', program: '.a = 1' }
  - { program: '%native.src = 1', on_abort: dorp }
  - program: |
      .a = 1
      .b = nonsense(.a)
  - { programm: '.a = 1' }
";
        let text = mistakes(&format!("{SINK}{SOURCE}{transforms}enrichments: {{ x: {{ type: tabel }} }}\n"), &[]);
        for part in [
            "c.yaml:4:30: error: transforms[0].when: syntax error",
            "c.yaml:5:45: error: transforms[1].on_abort: `dorp` is not a value of this key\n  help: did you mean `drop`?",
            "c.yaml:8:6: error: transforms[2].program: ",
            "c.yaml:9:7: error: transforms[3].programm: unknown key\n  help: did you mean `program`?",
            "enrichments.x.type: there is no type `tabel`",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let late = "transforms: [ { when: 'exists(.source.zone)', program: '. = merge(., {\"y\": .source.owner})' } ]\n";
        let bench = Bench::new(&format!("{SINK}{SOURCE}{TABLES}{late}"), TABLE_FILES, &lines());
        let warnings = bench.warnings();
        for part in [
            "transforms[0]: transforms run before enrichment: `source.owner` is not there yet",
            "transforms[0]: transforms run before enrichment: `source.zone` is not there yet",
            "transforms[0].program: it may write any field; those that nothing else names are not kept",
        ] {
            assert!(warnings.contains(part), "{part}\n{warnings}");
        }
        assert_eq!(bench.count(&metrics::TRANSFORM_ERRORS, "reason", "unknown_field"), 0, "the condition never holds");
    }
}
