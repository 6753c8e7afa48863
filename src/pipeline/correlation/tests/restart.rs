//! Shards on a journal of a folder that are killed at any point and start again, as often as they like: the alerts have to
//! be those of a run that was never interrupted.

use super::deduplicate::{DEDUPLICATED, oracle};
use super::*;
use crate::error::Error;
use crate::journal::{self, Closer, Disk, Opened, Work};
use crate::pipeline::catch_up::CatchUp;
use crate::pipeline::intake::Gate;
use crate::pipeline::mesh;
use crate::pipeline::plan::CORRELATION_SOURCE;

const LATENESS: &str = "lateness: 4s";

/// A folder whose processes come and go.
struct Place {
    folder: tempfile::TempDir,
    shards: usize,
    runtime: Runtime,
}

/// What runs until it is killed.
struct Process {
    gates: Vec<Rc<Gate>>,
    disks: Vec<Rc<Disk>>,
    closer: Closer,
    /// Chunks that were read again for correlation.
    kept: usize,
    registry: Registry,
    _stopper: task::Stopper,
}

impl Place {
    fn new(shards: usize, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yml"), rules).unwrap();
        Self { folder, shards, runtime: Builder::new_current_thread().enable_all().build().unwrap() }
    }

    fn open(&self, registry: &Registry) -> Opened {
        let options = journal::Options {
            folder: self.folder.path().join("journal"),
            shards: self.shards,
            destinations: vec!["out".into(), CORRELATION_SOURCE.into()],
            sources: vec!["app".into(), CORRELATION_SOURCE.into()],
            forget: Vec::new(),
            drop_oldest: 0,
            kept: 0b10,
            commit_interval: Duration::from_millis(1),
            commit_bytes: 1_000_000,
            segment_bytes: 1 << 20,
            max_bytes: 1 << 30,
            retain: Duration::ZERO,
            open_chunks_max: 100_000,
            compress: false,
        };
        journal::open(&options, registry).unwrap()
    }

    /// Starts a process, does some work with it once it has caught up, and kills it.
    fn run<T>(&self, work: impl AsyncFnOnce(&Process) -> T) -> T {
        LocalSet::new().block_on(&self.runtime, async {
            let process = self.start().await;
            let result = work(&process).await;
            // What was told so far is durable: this is the moment of the kill.
            for disk in &process.disks {
                disk.flush().await.unwrap();
            }
            assert!(process.closer.close());
            result
        })
    }

    async fn start(&self) -> Process {
        let config = CONFIG.replace("type: memory", "type: disk").replace("lateness: 30s", LATENESS);
        let plan = Plan::read(&self.folder.path().join("c.yaml"), &config).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        let (_plans, plan) = watch::channel(Arc::new(plan));
        let (stopper, stop) = task::pair();
        let registry = Registry::default();
        let ledger = Ledger::open(self.folder.path(), (vec!["app".into()], vec!["out".into()]), true, registry.clone());
        let (health, taps) = (Health::new(1, self.shards, stop.clone()), Arc::default());
        let source_health = Arc::new(SourceHealth::open(self.folder.path(), 0));
        let common = Common { budget: Budget::new(1 << 30), plan, registry: registry.clone(), health, taps, ledger, source_health };
        let Opened { journals, work, reader, closer, .. } = self.open(&registry);
        let kept = work.iter().flatten().filter(|work| matches!(work, Work::Kept(..))).count();
        let (mut gates, mut disks) = (Vec::new(), Vec::new());
        let mut ends = exchange(self.shards);
        ends.iter_mut().for_each(Exchange::wait_for_journal);
        for (((end, port), disk), work) in ends.into_iter().zip(mesh::mesh(self.shards)).zip(journals).zip(work) {
            let disk = Rc::new(disk);
            let shard = Shard::new(&common, disk.clone(), 1, end).unwrap();
            let gate = Gate::new(common.budget.clone(), disk.clone(), shard, port, stop.clone());
            tokio::task::spawn_local(CatchUp::new(gate.clone(), disk.clone(), reader.clone(), &common).run(work));
            gates.push(gate);
            disks.push(disk);
        }
        let is_behind = |gate: &Rc<Gate>| gate.with_shard(|shard| shard.exchange().peers.faces().iter().any(Face::is_behind));
        while gates.iter().any(is_behind) {
            gates.iter().for_each(|gate| gate.with_shard(|shard| shard.exchange().drain()));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Process { gates, disks, closer, kept, registry, _stopper: stopper }
    }

    /// Alerts that wait for the destination, which never takes any.
    fn alerts(&self) -> Vec<String> {
        let mut found = Vec::new();
        let show = |chunk: &Chunk| -> Result<(), Error> {
            let frames = (0..chunk.frames().len()).map(|frame| chunk.frame(frame)).filter(|_| &*chunk.sender.source == CORRELATION_SOURCE);
            let is_alert = |frame: &&[u8]| String::from_utf8_lossy(frame).contains("\"is_alert\":true");
            found.extend(frames.filter(is_alert).map(shown));
            Ok(())
        };
        assert_eq!(journal::export(&self.folder.path().join("journal"), show).unwrap(), 0);
        found.sort();
        found
    }
}

impl Process {
    /// `is_decided`: otherwise it is killed before.
    fn give(&self, login: &Login, received_ms: i64, is_decided: bool) {
        let shard = login.reader % self.gates.len();
        let mut chunks = [chunk(&[line(login)], received_ms)];
        drop(self.disks[shard].append(&mut chunks));
        for chunk in chunks.into_iter().filter(|_| is_decided) {
            self.gates[shard].with_shard(|shard| shard.process(chunk)).unwrap();
        }
    }

    /// `is_admitted`: otherwise it is killed before alerts are in the journal.
    async fn tick(&self, clock_ms: i64, is_admitted: bool) {
        for gate in &self.gates {
            gate.with_shard(|shard| {
                shard.exchange().tick(clock_ms, false);
                shard.give_back();
            });
            if is_admitted {
                gate.admit_alerts().await.unwrap();
            }
        }
    }

    async fn take(&self, logins: &[Login], is_whole: bool) {
        let groups = logins.chunks(3).count();
        for (index, group) in logins.chunks(3).enumerate() {
            let is_last = index + 1 == groups && !is_whole;
            let received_ms = START_MS + group.iter().map(|login| login.time_ms + login.delay_ms).max().unwrap();
            for (number, login) in group.iter().enumerate() {
                self.give(login, received_ms, !is_last || number == 0);
            }
            self.tick(received_ms, !is_last).await;
        }
    }

    async fn finish(&self) {
        for level in 0..LEVELS_MAX {
            for gate in &self.gates {
                gate.finish_level(level).await;
            }
        }
        for title in ["Count", "Users", "In Order", "Chained"] {
            assert_eq!(self.registry.sum(&metrics::CORRELATION_LEFT_OUT, "rule", title), 0, "{title}: nothing is late");
        }
    }
}

/// Without the one whose windows do not slide; `generate`: what is chained to alerts itself.
fn rules(generate: bool) -> String {
    let documents: Vec<&str> = RULES.split("---\n").filter(|document| !document.contains("Average")).collect();
    let rules = documents.join("---\n");
    if generate { rules } else { rules.replace("generate: true\n", "") }
}

/// The alerts of shards that are killed after each of these numbers of logins.
fn alerts(logins: &[Login], shards: usize, rules: &str, kills: &[usize]) -> Vec<String> {
    let place = Place::new(shards, rules);
    let mut start = 0;
    for kill in kills.iter().map(|kill| *kill.min(&logins.len())).chain([logins.len()]) {
        let is_whole = kill == logins.len();
        place.run(async |process| {
            process.take(&logins[start..kill], is_whole).await;
            if is_whole {
                process.finish().await;
            }
        });
        start = kill;
        if is_whole {
            break;
        }
    }
    place.alerts()
}

fn any_logins() -> impl Strategy<Value = Vec<Login>> {
    let login = (0i64..1_000, 0i64..2_000, 0u8..3, 0u8..4, 0u8..4, 0usize..4);
    proptest::collection::vec(login, 0..300).prop_map(|logins| {
        let mut time_ms = 0;
        let login = |(pause_ms, delay_ms, address, user, kind, reader): (i64, i64, u8, u8, u8, usize)| {
            // No two at one time, and now and then a pause.
            time_ms += 1 + if kind == 3 { 3 * pause_ms } else { pause_ms };
            Login { time_ms, delay_ms, address, user, is_failure: kind > 0, reader, ticker: 0 }
        };
        let mut logins: Vec<Login> = logins.into_iter().map(login).collect();
        logins.sort_by_key(|login| (login.time_ms + login.delay_ms, login.time_ms));
        logins
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_same_alerts_none_twice_wherever_it_is_killed(
        logins in any_logins(),
        shards in 1usize..=4,
        generate in any::<bool>(),
        kills in proptest::collection::btree_set(1usize..300, 1..4),
    ) {
        let rules = rules(generate);
        let kills: Vec<usize> = kills.into_iter().collect();
        prop_assert_eq!(alerts(&logins, shards, &rules, &kills), alerts(&logins, 1, &rules, &[]), "{} shards, killed at {:?}", shards, kills);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_deduplicated_is_told_once_wherever_it_is_killed(
        logins in any_logins(),
        shards in 1usize..=4,
        kills in proptest::collection::btree_set(1usize..300, 1..4),
    ) {
        let kills: Vec<usize> = kills.into_iter().collect();
        prop_assert_eq!(alerts(&logins, shards, DEDUPLICATED, &kills), oracle(&logins), "{} shards, killed at {:?}", shards, kills);
    }
}

#[test]
fn what_comes_late_just_before_a_kill_is_told_once() {
    let place = Place::new(2, &DEDUPLICATED.replace("window: 10s", "window: 1h").replace("window: 4s", "window: 1h"));
    place.run(async |process| {
        for time_ms in (0..60_000).step_by(1_000) {
            process.give(&failure(time_ms, 1, 1), START_MS + time_ms, true);
            process.give(&Login { reader: 1, ..failure(time_ms + 1, 2, 2) }, START_MS + time_ms, true);
            process.tick(START_MS + time_ms, true).await;
        }
        assert!(process.gates[0].with_shard(|shard| shard.exchange().told_ms) > START_MS + 40_000);
        process.give(&failure(1_500, 3, 3), START_MS + 60_000, true);
        process.gates.iter().for_each(|gate| gate.with_shard(|shard| shard.give_back()));
    });
    let of_late = || place.alerts().iter().filter(|alert| alert.contains("192.0.2.3") && alert.starts_with("By Address")).count();
    assert_eq!((of_late(), place.alerts().len()), (0, 4));
    for _ in 0..2 {
        place.run(async |process| process.finish().await);
        assert_eq!((of_late(), place.alerts().len()), (1, 6));
    }
}

#[test]
fn what_is_deduplicated_is_not_kept_for_its_window() {
    let logins: Vec<Login> = (0..200).map(|n| Login { reader: n as usize, ..failure(n * 500, 1, 1) }).collect();
    let place = Place::new(2, &DEDUPLICATED.replace("window: 10s", "window: 1h"));
    place.run(async |process| process.take(&logins, true).await);
    let kept = place.run(async |process| process.kept);
    // The lateness of 4 s, the alerts of the last windows, and what was told.
    assert!((8..40).contains(&kept), "{kept} of {} chunks", logins.len());
}

#[test]
fn killed_again_and_again_it_finds_what_one_run_finds() {
    let login =
        |n: i64| Login { is_failure: n % 5 > 0, reader: n as usize, ..failure(n * 700 + n * n % 97, (n % 7 % 3) as u8, (n % 3) as u8) };
    let logins: Vec<Login> = (0..200).map(login).collect();
    let whole = alerts(&logins, 1, &rules(true), &[]);
    for title in ["Count", "Users", "In Order", "Chained"] {
        assert!(whole.iter().filter(|alert| alert.starts_with(title)).count() > 1, "{title}: {whole:#?}");
    }
    let kills: Vec<usize> = (1..20).map(|n| n * 10).collect();
    for shards in [1, 3] {
        assert_eq!(alerts(&logins, shards, &rules(true), &kills), whole, "{shards} shards");
    }
}

#[test]
fn nothing_is_done_with_before_the_matches_that_it_led_to_are_durable() {
    let place = Place::new(1, &rules(true));
    place.run(async |process| {
        let durable_ms = || process.gates[0].with_shard(|shard| shard.exchange().peers.faces()[0].durable_ms());
        let told_ms = || process.gates[0].with_shard(|shard| shard.exchange().told_ms);
        let clock_ms = START_MS + 300_000;
        [0, 100, 200, 300_000].into_iter().for_each(|time_ms| process.give(&failure(time_ms, 1, 1), START_MS + time_ms, true));
        for _ in 0..3 {
            process.tick(clock_ms, false).await;
            assert!(process.gates[0].with_shard(|shard| shard.exchange().has_alerts()));
            assert_eq!((durable_ms(), told_ms()), (i64::MIN, i64::MIN));
        }
        process.tick(clock_ms, true).await;
        assert!(durable_ms() > START_MS + 200_000);
        assert_eq!(told_ms(), i64::MIN, "not told yet");
        process.tick(clock_ms, true).await;
        assert!(told_ms() > START_MS + 200_000);
        process.tick(clock_ms, true).await;
    });
    assert_eq!(place.alerts().len(), 1);
    assert_eq!(place.run(async |process| process.kept), 2, "the last login, and what was told");
}

#[test]
fn only_what_open_windows_need_is_read_again() {
    let logins: Vec<Login> = (0..400).map(|n| Login { reader: n as usize, ..failure(n * 500, n as u8 % 2, 1) }).collect();
    let place = Place::new(2, &rules(true));
    place.run(async |process| process.take(&logins, true).await);
    let (kept, mistakes) = place.run(async |process| (process.kept, process.registry.sum(&metrics::CORRELATION_FORGOTTEN, "", "")));
    // Counts are chained to a window of a minute: 10 + 60 + 4 s of two chunks each, alerts for 10 s more, and what was told.
    assert!((148..200).contains(&kept), "{kept} of {} chunks", logins.len());
    assert_eq!(mistakes, 0);
}

#[test]
fn what_no_correlation_needs_any_more_is_given_back_at_the_next_start() {
    let place = Place::new(2, &rules(true));
    let logins: Vec<Login> = (0..20).map(|n| Login { reader: n as usize, ..failure(n * 500, 1, 1) }).collect();
    place.run(async |process| process.take(&logins, true).await);
    std::fs::write(place.folder.path().join("rules.yml"), RULES.split("---\ntitle: Count").next().unwrap()).unwrap();
    assert!(place.run(async |process| process.kept) > 20);
    assert_eq!(place.run(async |process| process.kept), 0);
}
