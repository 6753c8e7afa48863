//! How fast events are held against all rules of SigmaHQ, beside `rsigma-eval`.
//!
//! `cargo bench --bench sigma` prints CPU time of one thread, from the bytes of JSON events to the list of rules that
//! match, medians of interleaved rounds over the lanes of `gen_events.py`; then what it costs to load the rules, and
//! what rules beyond the first cost an event. Nothing is asserted. The ratio is the median of the rounds' ratios: what
//! neighbours on the machine do to a round, they do to both.
//!
//! The same for both: the lines (in memory, UTF-8 checked by the same function), the rules (those with `expand` are
//! left out: what they mean depends on a pipeline), mimalloc, and strict log sources: a rule runs for an event that has
//! every part of the log source that the rule names. Hydrant declares a lane's log sources beforehand, as a source
//! does, and chooses the rules of each event by `product`, `service` and `category` in it. `rsigma` is measured with
//! each way that it has to do so, with and without its bloom filter; the fastest of a lane counts. Its batch call is a
//! loop over events unless there are threads, and its cross-rule automaton is meant for more than 5,000 rules.
//!
//! The rules and the generator stand in the folder `HYDRANT_SHARED` (`../shared` without it), which is not part of this
//! project: without them nothing is measured. `HYDRANT_EVENTS` is the number of events of a lane that are measured in a
//! round; `HYDRANT_LANE` names one that our engine alone is run on, for a profiler.

#![expect(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and says why it cannot go on")]

use std::collections::{BTreeSet, HashMap};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hydrant::decode::{Compiled, DECODERS, Instance, Schema};
use hydrant::detect::preparation::Preparation;
use hydrant::detect::sigma::{LogSource, SigmaRule};
use hydrant::detect::{Detector, Hit, Rules, Scratch, Vocabulary};
use hydrant::event::{Chunk, Events, Fields, Sender, SlotId, Span, Value};
use hydrant::limits::CHUNK_TARGET_BYTES;
use hydrant::matcher::Expr;
use rsigma_eval::event::JsonEvent;
use rsigma_eval::{Engine, EvaluationResult, LogSourceExtractor};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of a lane that are measured in a round, unless `HYDRANT_EVENTS` says otherwise.
const EVENTS: usize = 10_000;

/// One event comes before so many that are measured.
const WARM_UP_SHARE: usize = 10;

/// Rounds that are measured. Each has its own events, so that values come again as they do in the stream, and not because
/// the same events do.
const ROUNDS: usize = 15;

/// How often sets of rules take turns at each round. The same events come again only after those of all other rounds.
const TURNS: usize = 2;

const LOADS: usize = 5;

/// Rules that are named when our engine runs alone.
const DEAREST: usize = 12;

/// Rules of the set that more are added to.
const FEW: usize = 270;

/// What those beyond them are to add at most, in µs an event.
const MORE_TARGET: f64 = 0.6;

/// How many times faster than `rsigma` a lane is to be.
const TARGETS: [(&str, f64); 6] = [("aws_waf", 4.0), ("mixed", 10.0), ("panos", 4.0), ("suricata", 2.0), ("web", 10.0), ("win_proc", 4.0)];

/// The ways to ask `rsigma`: name, whether log sources are strict, whether its bloom filter is on. What is not strict
/// leaves out the rules whose log source contradicts the event's.
const WAYS: [(&str, bool, bool); 4] =
    [("open", false, false), ("open, bloom", false, true), ("strict", true, false), ("strict, bloom", true, true)];

/// JSON whose keys are the names in the rules: from one log source, or from every one.
struct Carried(Option<LogSource>);

impl Vocabulary for Carried {
    fn carries(&self, rule: &LogSource) -> bool {
        let fits = |asked: &Option<String>, carried: &Option<String>| asked.is_none() || asked == carried;
        self.0.as_ref().is_none_or(|carried| {
            fits(&rule.product, &carried.product) && fits(&rule.service, &carried.service) && fits(&rule.category, &carried.category)
        })
    }

    fn resolve(&self, field: &str) -> Option<String> {
        Some(format!("%native.{field}"))
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Hydrant's decoder and detectors for one source.
struct Hydrant {
    decoder: Instance,
    events: Events,
    width: usize,
    hits: Vec<Hit>,
    /// Product, service and category of an event.
    parts: [SlotId; 3],
    /// The detector of what the source carries, by [`name`]; without any the first is for all events.
    carried: HashMap<Vec<u8>, usize, RandomState>,
    key: Vec<u8>,
    detectors: Vec<(Detector, Scratch)>,
    /// By row of a chunk: its detector.
    chosen: Vec<Option<usize>>,
}

impl Hydrant {
    fn new(rules: &[SigmaRule], carried: &[LogSource]) -> Self {
        let mut fields = Fields::default();
        let parts = ["product", "service", "category"].map(|part| fields.slot(&format!("%native.{part}")));
        let mut detector = |source| {
            let (detector, _) = Detector::new(rules, &Carried(source), &mut fields);
            let scratch = detector.scratch();
            (detector, scratch)
        };
        let mut detectors: Vec<_> = carried.iter().cloned().map(|source| detector(Some(source))).collect();
        if detectors.is_empty() {
            detectors.push(detector(None));
        }
        let json = DECODERS.iter().find(|kind| kind.name() == "json").expect("there is a decoder of JSON");
        let decoder = Compiled::new(*json, &Schema::default(), &mut fields, 0).expect("an empty schema map is right").instance();
        let carried = carried.iter().zip(0..).map(|(source, index)| {
            let mut key = Vec::new();
            let parts = [&source.product, &source.service, &source.category];
            name(parts.map(|part| part.as_deref().unwrap_or_default().as_bytes()), &mut key);
            (key, index)
        });
        let (events, width, carried) = (Events::default(), fields.width(), carried.collect());
        Self { decoder, events, width, hits: Vec::new(), parts, carried, key: Vec::new(), detectors, chosen: Vec::new() }
    }

    /// The rules that match events of a chunk.
    fn matches(&mut self, chunk: &Chunk) -> &[Hit] {
        let Self { decoder, events, width, hits, parts, carried, key, detectors, chosen } = self;
        hits.clear();
        let is_text = simdutf8::basic::from_utf8(chunk.bytes()).is_ok();
        assert!(is_text, "lanes are UTF-8");
        let frames = chunk.frames().len();
        events.reset(chunk, *width);
        decoder.decode(chunk, 0..frames, events);
        // As a shard does: the events of a chunk that are held against the same rules, one after the other.
        chosen.clear();
        chosen.extend((0..frames).map(|row| {
            if carried.is_empty() {
                return Some(0);
            }
            let event = events.event(chunk, row);
            name(parts.map(|part| if let Value::Text(text) = event.value(part) { text } else { &[] }), key);
            carried.get(key.as_slice()).copied()
        }));
        for (index, (detector, scratch)) in detectors.iter_mut().enumerate() {
            let rows = (0..).zip(&*chosen).filter(|(_, chosen)| **chosen == Some(index)).map(|(row, _)| row);
            detector.detect(chunk, events, rows, scratch, hits);
        }
        hits
    }
}

/// Puts product, service and category together as one key.
fn name(parts: [&[u8]; 3], key: &mut Vec<u8>) {
    key.clear();
    for part in parts {
        key.extend_from_slice(part);
        key.push(0);
    }
}

/// The other engine.
struct Rsigma {
    engine: Engine,
    extractor: LogSourceExtractor,
}

impl Rsigma {
    fn new(files: &[PathBuf]) -> Self {
        let mut parsed = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(file).unwrap();
            parsed.append(&mut rsigma_parser::parse_sigma_yaml(&text).unwrap().rules);
        }
        let mut engine = Engine::new();
        // All at once: its index is made anew with every call.
        let refused = engine.add_rules(&parsed);
        assert!(refused.is_empty(), "{refused:?}");
        engine.set_logsource_extractor(Some(LogSourceExtractor::new()));
        Self { engine, extractor: LogSourceExtractor::new() }
    }

    fn matches(&self, line: &[u8], is_strict: bool) -> Vec<EvaluationResult> {
        let value = parse(line);
        let event = JsonEvent::borrow(&value);
        if is_strict { self.engine.evaluate_with_logsource(&event, &self.extractor.extract(&event)) } else { self.engine.evaluate(&event) }
    }
}

fn parse(line: &[u8]) -> serde_json::Value {
    let text = simdutf8::basic::from_utf8(line).expect("lanes are UTF-8");
    serde_json::from_str(text).expect("lanes are JSON")
}

/// The events of a lane.
struct Lane {
    name: String,
    /// One before those that are measured, as the first pass of an engine builds what it builds lazily.
    rounds: Vec<Round>,
    /// The log sources that occur: what its source would declare.
    carried: Vec<LogSource>,
}

impl Lane {
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let mut carried = Vec::new();
        for line in text.lines() {
            let event = parse(line.as_bytes());
            let part = |name: &str| event[name].as_str().map(str::to_owned);
            let source = LogSource { product: part("product"), service: part("service"), category: part("category") };
            if !carried.contains(&source) {
                carried.push(source);
            }
        }
        let lines: Vec<&str> = text.lines().collect();
        let rounds = lines.chunks(lines.len() / (ROUNDS + 1)).map(Round::new).collect();
        Self { name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(), rounds, carried }
    }
}

/// The events of a round.
struct Round {
    /// Before those that are measured: an engine in service does not begin with caches that another one has filled.
    warm_up: Vec<Chunk>,
    measured: Vec<Chunk>,
}

impl Round {
    fn new(lines: &[&str]) -> Self {
        let (warm_up, measured) = lines.split_at(lines.len() / (WARM_UP_SHARE + 1));
        Self { warm_up: chunks(warm_up), measured: chunks(measured) }
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        lines(&self.measured)
    }

    /// Microseconds of CPU time that `pass` over the measured events costs for each of them. They have just come in: caches
    /// have them.
    fn cost_us(&self, mut pass: impl FnMut(&[Chunk])) -> f64 {
        black_box(self.lines().flatten().fold(0_u8, |all, byte| all ^ byte));
        pass(&self.warm_up);
        let started = cpu_seconds();
        pass(&self.measured);
        (cpu_seconds() - started) * 1e6 / self.lines().count() as f64
    }

    fn hydrant_us(&self, engine: &mut Hydrant) -> f64 {
        self.cost_us(|chunks| {
            for chunk in chunks {
                black_box(engine.matches(chunk));
            }
        })
    }
}

fn chunks(lines: &[&str]) -> Vec<Chunk> {
    let sender = Arc::new(Sender { source: "bench".into(), source_index: 0 });
    let mut chunks = Vec::new();
    let (mut bytes, mut frames) = (Vec::new(), Vec::new());
    for line in lines {
        frames.push(Span::new(bytes.len(), bytes.len() + line.len()));
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        if bytes.len() > CHUNK_TARGET_BYTES {
            chunks.push(Chunk::new(std::mem::take(&mut bytes), std::mem::take(&mut frames), sender.clone(), 0));
        }
    }
    chunks.push(Chunk::new(bytes, frames, sender, 0));
    chunks
}

fn lines(chunks: &[Chunk]) -> impl Iterator<Item = &[u8]> {
    chunks.iter().flat_map(|chunk| chunk.frames().iter().map(|frame| frame.of(chunk.bytes())))
}

/// CPU seconds of the calling thread.
fn cpu_seconds() -> f64 {
    // The kernel brings its account up to date when it looks for what to run next.
    std::thread::yield_now();
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedule.split(' ').next().unwrap().parse::<u64>().map(Duration::from_nanos).unwrap().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Costs of one lane in µs an event.
#[derive(Default)]
struct Costs {
    hydrant: Vec<f64>,
    parse: Vec<f64>,
    ways: [Vec<f64>; WAYS.len()],
}

fn compare(rules: &[SigmaRule], rsigma: &mut Rsigma, lanes: &[Lane]) {
    let mut ours: Vec<_> = lanes.iter().map(|lane| Hydrant::new(rules, &lane.carried)).collect();
    let matches: Vec<_> = lanes.iter().zip(&mut ours).map(|(lane, ours)| matches(rules, ours, rsigma, lane)).collect();
    let mut costs: Vec<Costs> = lanes.iter().map(|_| Costs::default()).collect();
    for number in 1..=ROUNDS {
        for ((lane, ours), costs) in lanes.iter().zip(&mut ours).zip(&mut costs) {
            let round = &lane.rounds[number];
            costs.hydrant.push(round.hydrant_us(ours));
            costs.parse.push(round.cost_us(|chunks| lines(chunks).for_each(|line| drop(black_box(parse(line))))));
            for ((_, is_strict, has_bloom), costs) in WAYS.iter().zip(&mut costs.ways) {
                rsigma.engine.set_bloom_prefilter(*has_bloom);
                costs.push(round.cost_us(|chunks| lines(chunks).for_each(|line| drop(black_box(rsigma.matches(line, *is_strict))))));
            }
        }
    }
    println!(
        "| lane | events | bytes/event | Hydrant µs | rsigma parse µs | rsigma µs | its way | ratio | target | matches | rsigma's | differ |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for ((lane, costs), matches) in lanes.iter().zip(costs).zip(matches) {
        let events = lane.rounds[0].lines().count();
        let bytes: usize = lane.rounds[0].lines().map(<[u8]>::len).sum();
        let ways = WAYS.iter().zip(costs.ways).map(|((name, ..), costs)| (median(costs.clone()), *name, costs));
        let (best, way, theirs) = ways.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are ways");
        let ratio = median(theirs.iter().zip(&costs.hydrant).map(|(theirs, ours)| theirs / ours).collect());
        let (hydrant, parse) = (median(costs.hydrant), median(costs.parse));
        let target =
            TARGETS.iter().find(|(name, _)| *name == lane.name).map_or_else(|| "-".to_owned(), |(_, times)| format!("{times:.0}x"));
        println!(
            "| {} | {events} | {} | {hydrant:.2} | {parse:.2} | {best:.2} | {way} | {ratio:.1}x | {target} | {matches} |",
            lane.name,
            bytes / events
        );
    }
}

/// How many matches ours and the other one has in the round that is not measured, how many differ, and how many of these are
/// of a keyword rule that ours alone finds: "applied to the full log message", where `rsigma` looks into values that are texts.
fn matches(rules: &[SigmaRule], ours: &mut Hydrant, rsigma: &mut Rsigma, lane: &Lane) -> String {
    let index: HashMap<&str, u32> = rules.iter().zip(0..).map(|(rule, index)| (rule.id.as_str(), index)).collect();
    let (mut first, mut own, mut other) = (0, BTreeSet::new(), BTreeSet::new());
    for chunk in &lane.rounds[0].measured {
        own.extend(ours.matches(chunk).iter().map(|hit| (first + hit.row as usize, hit.rule)));
        first += chunk.frames().len();
    }
    rsigma.engine.set_bloom_prefilter(false);
    for (number, line) in lane.rounds[0].lines().enumerate() {
        let ids = rsigma.matches(line, true).into_iter().filter_map(|result| result.header.rule_id);
        other.extend(ids.map(|id| (number, index[id.as_str()])));
    }
    let differ = own.symmetric_difference(&other).count();
    let keywords = own.difference(&other).filter(|(_, rule)| is_keyword(&rules[*rule as usize].condition)).count();
    let known = if differ == 0 { String::new() } else { format!(" ({keywords} by keywords)") };
    format!("{} | {} | {differ}{known}", own.len(), other.len())
}

fn is_keyword(expr: &Expr<String>) -> bool {
    match expr {
        Expr::All(items) | Expr::Any(items) => items.iter().all(is_keyword),
        Expr::Not(inner) => is_keyword(inner),
        Expr::Keyword(_) => true,
        Expr::Field(..) | Expr::Fields { .. } => false,
    }
}

/// What more rules cost when each is held against every event: beyond the first in the order of their files, and beyond
/// those about the perimeter. The sets take turns at each round, again and again: neighbours on the machine, who cost a large set
/// more than a small one, disturb the least of a set and the median of differences within a turn less than a difference of medians.
fn scaling(rules: &[SigmaRule], lane: &Lane) {
    let first = rules.iter().take(FEW).cloned().collect();
    let perimeter = rules.iter().filter(|rule| is_perimeter(&rule.logsource)).cloned().collect();
    let sets: [Vec<SigmaRule>; 3] = [first, perimeter, rules.to_vec()];
    let mut sets = sets.map(|rules| (rules.len(), Hydrant::new(&rules, &[]), Vec::new()));
    let turns = std::iter::once(&lane.rounds[0]).chain((0..TURNS).flat_map(|_| &lane.rounds[1..]));
    for round in turns {
        sets.iter_mut().for_each(|(_, engine, costs)| costs.push(round.hydrant_us(engine)));
    }
    let [first, perimeter, all] = sets.map(|(count, _, costs)| (count, costs[1..].to_vec()));
    println!("\n{} lane, every rule against every event, {} turns: {} rules {}", lane.name, all.1.len(), all.0, least_and_median(&all.1));
    for (which, (count, costs)) in [("first", first), ("perimeter", perimeter)] {
        let more: Vec<f64> = all.1.iter().zip(&costs).map(|(all, few)| all - few).collect();
        let least = least(&all.1) - least(&costs);
        println!(
            "beyond the {which} {count} rules, {}: {least:.2} µs more by the least, {:.2} µs by the median of turns; target {MORE_TARGET}",
            least_and_median(&costs),
            median(more)
        );
    }
}

fn least(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::INFINITY, f64::min)
}

fn least_and_median(figures: &[f64]) -> String {
    format!("{:.2} µs (median {:.2})", least(figures), median(figures.to_vec()))
}

fn is_perimeter(source: &LogSource) -> bool {
    let is_one_of = |part: &Option<String>, of: &[&str]| part.as_deref().is_some_and(|part| of.contains(&part));
    is_one_of(&source.category, &["dns", "firewall", "proxy", "webserver"])
        || is_one_of(&source.product, &["aws", "cisco", "fortigate", "huawei", "juniper", "paloalto", "zeek"])
        || is_one_of(&source.service, &["apache", "nginx"])
}

/// Loads all rules, in a process of its own, until the first event can be asked about. Prints milliseconds of CPU time,
/// and by how many MB the process has grown and grew at most.
fn load(engine: &str, folder: &Path) {
    let files = rule_files(folder);
    let (resident, started) = (memory_mb("VmRSS:"), cpu_seconds());
    let report = || {
        let ms = (cpu_seconds() - started) * 1e3;
        println!("{ms} {} {}", memory_mb("VmRSS:") - resident, memory_mb("VmHWM:") - resident);
    };
    if engine == "hydrant" {
        let (rules, _) = Rules::load(&files, &Preparation::default());
        let engine = Hydrant::new(&rules.rules, &[]);
        report();
        black_box((rules, engine));
    } else {
        let engine = Rsigma::new(&files);
        report();
        black_box(engine);
    }
}

fn memory_mb(what: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
}

fn loading(folder: &Path) {
    let engines = ["hydrant", "rsigma"];
    let mut figures = engines.map(|_| [const { Vec::new() }; 3]);
    for _ in 0..LOADS {
        for (engine, figures) in engines.iter().zip(&mut figures) {
            let out = Command::new(std::env::current_exe().unwrap()).args(["load", engine]).arg(folder).output().unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            figures.iter_mut().zip(text.split_whitespace()).for_each(|(figures, text)| figures.push(text.parse().unwrap()));
        }
    }
    for (engine, figures) in engines.iter().zip(figures) {
        let [ms, grown, peak] = figures.map(median);
        println!("load of all rules by {engine}: {ms:.0} ms, {grown:.0} MB, {peak:.0} MB at most; target 1000 ms, 120 MB");
    }
}

fn shared(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("shared");
    let path = std::env::var_os("HYDRANT_SHARED").map_or_else(beside, PathBuf::from).join(path);
    if !path.exists() {
        println!("nothing is measured: {} is absent", path.display());
        return None;
    }
    Some(path)
}

/// The rule files, without those that want values for placeholders.
fn rule_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(folder, "yml", &mut found);
    let is_rule = |file: &PathBuf| {
        let kind = file.strip_prefix(folder).ok().and_then(|path| path.iter().next());
        kind.is_some_and(|kind| kind.to_string_lossy().starts_with("rules")) && !std::fs::read_to_string(file).unwrap().contains("|expand")
    };
    found.retain(is_rule);
    found
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap().split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Our engine alone, for a profiler: what decoding costs, detection behind it, and of that the dearest rules.
fn alone(rules: &[SigmaRule], lane: &Lane) {
    for (what, carried) in [("strict log sources", lane.carried.as_slice()), ("every rule against every event", &[])] {
        let mut engine = Hydrant::new(rules, carried);
        let nothing = (Detector::new(&[], &Carried(None), &mut Fields::default()).0, engine.detectors[0].0.scratch());
        let [first, rounds @ ..] = &lane.rounds[..] else { return };
        black_box(first.hydrant_us(&mut engine));
        let all = median(rounds.iter().map(|round| round.hydrant_us(&mut engine)).collect());
        let mut dearest: Vec<(u64, &str)> = Vec::new();
        for (detector, scratch) in &mut engine.detectors {
            detector.take_costs(scratch, |rule, cost| dearest.push((cost.ns, &rules[rule as usize].title)));
        }
        dearest.sort_unstable_by(|a, b| b.cmp(a));
        (engine.carried, engine.detectors) = (HashMap::default(), vec![nothing]);
        let decoding = median(rounds.iter().map(|round| round.hydrant_us(&mut engine)).collect());
        println!("{} lane, {what}: decoding {decoding:.2} µs, detection {:.2} µs", lane.name, all - decoding);
        let events = lane.rounds.iter().map(|round| lines(&round.warm_up).count() + round.lines().count()).sum::<usize>() as f64;
        for (ns, title) in dearest.iter().take(DEAREST) {
            println!("  {:.0} ns an event: {title}", *ns as f64 / events);
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, engine, folder] = &arguments[..]
        && command == "load"
    {
        return load(engine, Path::new(folder));
    }
    let Some((archive, script)) = shared("corpora/sigmahq-rules.tar.zst").zip(shared("tools/gen_events.py")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (hq, events) = (folder.path().join("hq"), folder.path().join("events"));
    std::fs::create_dir(&hq).unwrap();
    let unpacked = Command::new("tar").arg("--zstd").arg("-xf").arg(archive).arg("-C").arg(&hq).status().unwrap();
    let count = std::env::var("HYDRANT_EVENTS").map_or(EVENTS, |count| count.parse().expect("HYDRANT_EVENTS is a number"));
    let made_of_lane = (count + count / WARM_UP_SHARE) * (ROUNDS + 1);
    let made = Command::new("python3").arg(script).arg(&events).args([&made_of_lane.to_string(), "7"]).status().unwrap();
    assert!(unpacked.success() && made.success(), "tar: {unpacked}, python3: {made}");
    let mut found = Vec::new();
    files(&events, "ndjson", &mut found);
    let lanes: Vec<Lane> = found.iter().map(|file| Lane::read(file)).collect();
    let files = rule_files(&hq);
    let (rules, diagnostics) = Rules::load(&files, &Preparation::default());
    assert!(!diagnostics.has_errors(), "{diagnostics}");
    if let Ok(name) = std::env::var("HYDRANT_LANE") {
        lanes.iter().filter(|lane| lane.name == name).for_each(|lane| alone(&rules.rules, lane));
        return;
    }
    let mut rsigma = Rsigma::new(&files);
    println!("{} rules, {} of rsigma; {ROUNDS} rounds; load average {}\n", rules.rules.len(), rsigma.engine.rule_count(), load_average());
    compare(&rules.rules, &mut rsigma, &lanes);
    if let Some(mixed) = lanes.iter().find(|lane| lane.name == "mixed") {
        scaling(&rules.rules, mixed);
    }
    loading(&hq);
    println!("load average {}", load_average());
}
