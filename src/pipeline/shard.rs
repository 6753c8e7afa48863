//! One thread's work on a chunk: decode -> transform -> enrich -> detect -> route -> encode -> batch -> deliver.
//!
//! Everything here belongs to one shard and is used from its thread only: no locks, no atomics but counters
//! bumped once per chunk. [`Shard::process`] does not wait; what becomes full is handed to `deliver`.

mod alert;
mod correlate;
mod cost;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::batch::{Again, Batcher, Items};
use crate::budget::Budget;
use crate::clock::thread_cpu_ns;
use crate::cursor::{Journal, Verdict};
use crate::decode::{Auto, Instance};
use crate::deliver::dead_letter::DeadLetters;
use crate::deliver::{Destination, Options};
use crate::detect::matched::Found;
use crate::detect::sigma::{Level, SigmaRule};
use crate::detect::{self, Hit};
use crate::enrich::Bound;
use crate::error::Error;
use crate::event::{AlertKey, Chunk, Events, Flaw, Kind, Members};
use crate::ledger::{DestinationCounts, Ledger, Page, Waiting};
use crate::limits::RULE_HITS_PER_EVENT_MAX;
use crate::metrics::{self, Cell, Registry};
use crate::pipeline::correlation::{Exchange, Share};
use crate::pipeline::health::Health;
use crate::pipeline::own::note_encoding;
use crate::pipeline::plan::{AlertLine, Line, Plan, SourcePlan, WhenFull};
use crate::pipeline::silence;
use crate::pipeline::tap::{Routed, Taps};
use crate::route;
use crate::sink::{Encoder, Selection};
use crate::source_health::SourceHealth;
use crate::transform;
use cost::RuleCosts;

use alert::{NotMade, may_alert};

/// What all shards share.
#[derive(Clone)]
pub struct Common {
    /// The configuration, compiled; a reload sends a new one.
    pub plan: watch::Receiver<Arc<Plan>>,
    /// The memory budget.
    pub budget: Arc<Budget>,
    /// The metrics.
    pub registry: Registry,
    /// What is open and what has ended.
    pub health: Arc<Health>,
    /// Those who watch live events.
    pub taps: Arc<Taps>,
    /// What became of every event.
    pub ledger: Arc<Ledger>,
    /// How senders are.
    pub source_health: Arc<SourceHealth>,
}

/// One shard's stages.
pub struct Shard {
    plan: Arc<Plan>,
    plans: watch::Receiver<Arc<Plan>>,
    taps: Arc<Taps>,
    page: Rc<Page>,
    journal: Rc<dyn Journal>,
    lines: Vec<LineState>,
    sinks: Vec<SinkState>,
    /// One bit per sink that gets alerts only.
    only_alerts: u64,
    /// Bytes that may wait for one destination before the journal keeps the rest.
    queue_bytes_max: usize,
    hits: Vec<Hit>,
    rows: Vec<Vec<u32>>,
    masks: Vec<u64>,
    stages: Stages,
    rule_hits: Vec<Cell>,
    costs: RuleCosts,
    /// By rule: what stands for it in the journal.
    rule_keys: Vec<u64>,
    alerts: Cell,
    not_made: NotMade,
    /// Whether alerts are made whatever holds now: an earlier decision owes them.
    is_owed: bool,
    /// Hits of the chunk in work whose alerts are silenced.
    silenced: Vec<Hit>,
    exchange: Exchange,
    /// What the journal is to keep of the chunk in work, for correlation.
    share: Option<Share>,
    registry: Registry,
    /// For chunks of an earlier run.
    again: Option<Lines>,
    /// A stage that loses events, which the ledger must show.
    #[cfg(test)]
    faulty: Option<fn(&mut Vec<Vec<u32>>)>,
}

/// What a pass over a chunk works with and counts into. That of [`Shard::again`] counts into nothing: those events
/// were counted when they were received.
struct Lines {
    lines: Vec<LineState>,
    rule_hits: Vec<Cell>,
    alerts: Cell,
    not_made: NotMade,
}

/// What is wanted of a chunk.
enum Pass<'a> {
    /// Everything.
    Live,
    /// Everything but this, by destination.
    Rest(&'a [(usize, Members)]),
    /// Only this, for this destination, whatever the routes say now.
    Owed(usize, &'a Members, Came),
    /// The same, for a batch.
    Batch(usize, &'a Members, &'a mut Again),
    /// Only the hits of these, for correlation.
    Hits(&'a Members),
}

/// How what is taken up came to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// An earlier run left it.
    Earlier,
    /// This run deferred it.
    Deferred,
    /// An earlier run had it in this batch, which counts when it is complete.
    InBatch(u128),
}

impl SinkState {
    /// Whether what comes now waits in the journal and not in memory.
    fn is_behind(&self, queue_bytes_max: usize, journal: &dyn Journal) -> bool {
        let queued_bytes = self.destination.queued_bytes();
        // What is in a batch cannot be dropped.
        queued_bytes >= queue_bytes_max || (self.drops_oldest && queued_bytes > 0 && journal.is_filling())
    }

    /// Counts what is taken up, and what of it cannot be any more.
    fn note_taken_up(&self, came: Came, members: &Members, gone: &Members) {
        let DestinationCounts { events, alerts, .. } = &*self.counts;
        if came != Came::Deferred {
            self.routed.add(u64::from(members.count - gone.count));
        }
        for (counts, all, gone) in
            [(events, u64::from(members.count), u64::from(gone.count)), (alerts, members.alerts.len() as u64, gone.alerts.len() as u64)]
        {
            match came {
                Came::InBatch(_) => continue,
                Came::Earlier => counts.recovered.add(all),
                Came::Deferred => counts.resumed.add(all),
            }
            counts.gone.add(gone);
        }
    }
}

struct LineState {
    decoders: Vec<DecoderState>,
    auto: Option<Auto>,
    /// Frames of the chunk and the decoder that reads them.
    runs: Vec<(Range<usize>, usize)>,
    /// Rows that no decoder could read.
    unreadable: Vec<u32>,
    /// By decoder: the rows that its encoders get for one sink.
    rows_of: Vec<Vec<u32>>,
    transforms: TransformState,
    enrichers: Vec<(Box<dyn Bound>, Cell)>,
    silencer: silence::Scratch,
    router: route::Scratch,
    events: Events,
    counters: LineCounters,
}

struct DecoderState {
    instance: Instance,
    detector: detect::Scratch,
    encoders: Vec<Box<dyn Encoder>>,
}

struct TransformState {
    /// With the rows that were dropped, which are left out from there on.
    scratch: transform::Scratch,
    dropped: Cell,
    errors: [Cell; transform::REASONS.len()],
}

struct LineCounters {
    received: Cell,
    flaws: [Cell; 4],
}

const FLAWS: [Flaw; 4] = [Flaw::Malformed, Flaw::NotUtf8, Flaw::TooLarge, Flaw::Truncated];

struct SinkState {
    batcher: Batcher,
    items: Items,
    destination: Destination,
    routed: Cell,
    filtered: Cell,
    deferred: Cell,
    sealed_early: Cell,
    counts: Rc<DestinationCounts>,
    drops_oldest: bool,
}

/// The share of the budget that batches which wait for destinations may take; the rest is for those on their way, for
/// batches that are open, and for what comes in.
const QUEUES_SHARE: usize = 2;

/// CPU time per stage, if it is measured.
struct Stages {
    cells: Option<[Cell; STAGES.len()]>,
    since_ns: u64,
}

const STAGES: [&str; 7] = ["decode", "transform", "enrich", "detect", "route", "encode", "batch"];

impl Stages {
    fn new(registry: &Registry, enabled: bool) -> Self {
        let cells = enabled.then(|| STAGES.map(|stage| registry.cell(&metrics::STAGE_CPU, &[("stage", stage)])));
        Self { cells, since_ns: 0 }
    }

    fn begin(&mut self) {
        if self.cells.is_some() {
            self.since_ns = thread_cpu_ns();
        }
    }

    /// Books the time since the last call to a stage.
    fn end(&mut self, stage: usize) {
        if let Some(cells) = &self.cells {
            let now = thread_cpu_ns();
            cells[stage].add(now - self.since_ns);
            self.since_ns = now;
        }
    }
}

impl Shard {
    /// Builds the stages and starts the delivery workers on the current thread's `LocalSet`.
    ///
    /// # Errors
    /// Sinks whose certificates or files cannot be read.
    pub fn new(common: &Common, journal: Rc<dyn Journal>, seed: u128, mut exchange: Exchange) -> Result<Self, Error> {
        let mut plans = common.plan.clone();
        let plan = plans.borrow_and_update().clone();
        let registry = &common.registry;
        let page = common.ledger.page();
        exchange.take_up(&plan, registry);
        let mut sinks = Vec::new();
        for (index, sink) in plan.sinks.iter().enumerate() {
            let batching = sink.sink.batching();
            let options = Options {
                name: sink.name.to_string(),
                index,
                batching,
                transport: sink.sink.transport()?,
                journal: journal.clone(),
                dead_letters: Rc::new(DeadLetters::new(
                    &plan.settings.data_dir,
                    (&sink.name, sink.kind),
                    plan.settings.dead_letters,
                    registry,
                )),
                registry: registry.clone(),
                counts: page.destination(index),
            };
            let labels: &[(&str, &str)] = &[("component_id", &sink.name)];
            let mut batcher = Batcher::new(batching, common.budget.clone(), seed + ((index as u128) << 64))?;
            batcher.set_plan(plan.hash);
            batcher.set_counts(page.destination(index));
            sinks.push(SinkState {
                batcher,
                items: Items::default(),
                destination: Destination::start(options),
                routed: registry.cell(&metrics::EVENTS_ROUTED, labels),
                filtered: registry.cell(&metrics::EVENTS_FILTERED, labels),
                deferred: registry.cell(&metrics::EVENTS_DEFERRED, labels),
                sealed_early: registry.cell(&metrics::SEALED_EARLY, labels),
                counts: page.destination(index),
                drops_oldest: sink.when_full == WhenFull::DropOldest,
            });
        }
        Ok(Self {
            rule_hits: rule_cells(&plan, registry),
            costs: RuleCosts::new(&plan, registry),
            rule_keys: rule_keys(&plan),
            again: None,
            alerts: registry.cell(&metrics::ALERTS, &[]),
            not_made: NotMade::new(&plan, registry),
            is_owed: false,
            silenced: Vec::new(),
            stages: Stages::new(registry, plan.settings.profile),
            rows: vec![Vec::new(); sinks.len()],
            only_alerts: plan.sinks.iter().rev().fold(0, |bits, sink| bits << 1 | u64::from(sink.takes_only_alerts)),
            queue_bytes_max: common.budget.limit_bytes() / QUEUES_SHARE / (plan.settings.shards * sinks.len()).max(1),
            hits: Vec::new(),
            exchange,
            share: None,
            masks: Vec::new(),
            registry: registry.clone(),
            lines: lines(&plan, registry),
            plan,
            plans,
            taps: common.taps.clone(),
            page,
            journal,
            sinks,
            #[cfg(test)]
            faulty: None,
        })
    }

    /// Takes up the plan of a reload, if there is one.
    pub fn look_at_plan(&mut self) {
        if matches!(self.plans.has_changed(), Ok(true)) {
            self.take_up_plan();
        }
    }

    /// From here on batches are named by what is in them.
    pub fn name_by_content(&mut self) {
        self.sinks.iter_mut().for_each(|sink| sink.batcher.name_by_content());
    }

    /// Takes up the plan of a reload. What it changes is compiled; only working memory is made here.
    fn take_up_plan(&mut self) {
        self.plan = self.plans.borrow_and_update().clone();
        self.lines = lines(&self.plan, &self.registry);
        self.rule_hits = rule_cells(&self.plan, &self.registry);
        self.costs = RuleCosts::new(&self.plan, &self.registry);
        self.rule_keys = rule_keys(&self.plan);
        self.not_made = NotMade::new(&self.plan, &self.registry);
        self.again = None;
        self.exchange.take_up(&self.plan, &self.registry);
        if !self.exchange.is_on() {
            self.give_back();
        }
        self.sinks.iter_mut().for_each(|sink| sink.batcher.set_plan(self.plan.hash));
    }

    /// Takes a chunk of an earlier run through all stages: all of it but `had`, which destinations have or get in
    /// batches.
    ///
    /// # Errors
    /// A compressor's.
    pub fn process_rest(&mut self, chunk: &Chunk, had: &[(usize, Members)]) -> Result<(), Error> {
        self.process_again(chunk, Pass::Rest(had))
    }

    /// Takes what is owed of a chunk to the destination it is owed to.
    ///
    /// # Errors
    /// A compressor's.
    pub fn process_owed(&mut self, chunk: &Chunk, sink: usize, owed: &Members, came: Came) -> Result<(), Error> {
        self.process_again(chunk, Pass::Owed(sink, owed, came))
    }

    /// Whether a destination keeps up so well that it can have more than what comes in.
    pub fn keeps_up(&self, sink: usize) -> bool {
        let queued_bytes = self.sinks.get(sink).map(|sink| sink.destination.queued_bytes());
        queued_bytes.is_some_and(|bytes| bytes < self.queue_bytes_max / 2 && (bytes == 0 || !self.spares_batches(sink)))
    }

    /// Whether what a destination does not need at once is to stay out of batches: from the journal it can be dropped, and
    /// half of that is used.
    pub fn spares_batches(&self, sink: usize) -> bool {
        self.sinks.get(sink).is_some_and(|sink| sink.drops_oldest) && self.journal.is_filling()
    }

    /// Adds members of a chunk of an earlier run to a batch that is built again.
    ///
    /// # Errors
    /// A compressor's.
    pub fn process_member(&mut self, chunk: &Chunk, sink: usize, members: &Members, again: &mut Again) -> Result<(), Error> {
        self.process_again(chunk, Pass::Batch(sink, members, again))
    }

    fn process_again(&mut self, chunk: &Chunk, pass: Pass<'_>) -> Result<(), Error> {
        self.look_at_plan();
        let plan = self.plan.clone();
        let nowhere = Registry::default();
        let again = || Lines {
            lines: lines(&plan, &nowhere),
            rule_hits: rule_cells(&plan, &nowhere),
            alerts: Cell::default(),
            not_made: NotMade::new(&plan, &nowhere),
        };
        let mut again = self.again.take().unwrap_or_else(again);
        self.swap(&mut again);
        let done = self.work(usize::from(chunk.sender.source_index), chunk, pass);
        self.swap(&mut again);
        self.again = Some(again);
        done
    }

    fn swap(&mut self, other: &mut Lines) {
        std::mem::swap(&mut self.lines, &mut other.lines);
        std::mem::swap(&mut self.rule_hits, &mut other.rule_hits);
        std::mem::swap(&mut self.alerts, &mut other.alerts);
        std::mem::swap(&mut self.not_made, &mut other.not_made);
    }

    /// Gives a batch that was built again to its destination.
    ///
    /// # Errors
    /// A compressor's.
    pub fn finish_again(&mut self, sink: usize, again: Again) -> Result<(), Error> {
        let Some(sink) = self.sinks.get_mut(sink) else { return Ok(()) };
        if let Some(mut held) = sink.batcher.seal_again(again)? {
            let alerts = held.batch.items.iter().filter(|item| item.is_alert).count() as u64;
            let events = held.batch.items.len() as u64 - alerts;
            sink.counts.events.recovered.add(events);
            sink.counts.alerts.recovered.add(alerts);
            held.batch.waiting = Waiting::new(sink.counts.clone());
            held.batch.waiting.add(events, alerts);
            sink.destination.send(held);
        }
        Ok(())
    }

    /// Takes a journaled chunk through all stages. Gives the buffer back for reuse.
    ///
    /// # Errors
    /// A compressor's, which are defects or the end of memory.
    pub fn process(&mut self, chunk: Chunk) -> Result<Vec<u8>, Error> {
        self.look_at_plan();
        let index = usize::from(chunk.sender.source_index);
        self.work(index, &chunk, Pass::Live)?;
        Ok(chunk.into_buffers().0)
    }

    fn work(&mut self, index: usize, chunk: &Chunk, pass: Pass<'_>) -> Result<(), Error> {
        let plan = self.plan.clone();
        let Some(line) = plan.line(index) else { return Ok(()) };
        self.stages.begin();
        self.decode(line, index, chunk);
        if let (Pass::Live, Some(source)) = (&pass, self.page.source(index)) {
            let LineState { events, unreadable, .. } = &self.lines[index];
            source.decoded(chunk, |row| events.event(chunk, row).time_ms, unreadable);
        }
        self.stages.end(0);
        self.transform(line, index, chunk);
        self.stages.end(1);
        self.enrich(index, chunk);
        self.stages.end(2);
        // What is taken up for one destination was counted before.
        self.is_owed = pass.is_owed();
        let is_counted = self.exchange.is_on() && matches!(pass, Pass::Live | Pass::Rest(_) | Pass::Hits(_));
        if index >= plan.sources.len() {
            self.derive(&plan, index, chunk);
            if is_counted {
                self.recall(chunk, None, matches!(pass, Pass::Rest(_)));
            }
        } else {
            self.detect(&plan, line, index, chunk);
            if is_counted {
                self.correlate(line, index, chunk, if let Pass::Hits(only) = pass { Some(only) } else { None });
            }
        }
        self.stages.end(3);
        match &pass {
            Pass::Live => self.route(line, index, chunk, None),
            Pass::Rest(had) => self.route(line, index, chunk, Some(had)),
            Pass::Owed(sink, members, came) => self.select(index, chunk, (*sink, members), *came),
            Pass::Batch(sink, members, again) => self.select(index, chunk, (*sink, members), Came::InBatch(again.id)),
            Pass::Hits(_) => return Ok(()),
        }
        #[cfg(test)]
        self.faulty.into_iter().for_each(|lose| lose(&mut self.rows));
        self.stages.end(4);
        if self.taps.is_watched() && matches!(pass, Pass::Live) {
            self.show(line, index, chunk);
        }
        let again = if let Pass::Batch(_, _, again) = pass { Some(again) } else { None };
        self.encode(index, chunk, again)
    }

    /// Selects the rows of a set instead of routing. What is not there any more, which an alert is whose rule is
    /// gone, is settled: it cannot be delivered.
    fn select(&mut self, index: usize, chunk: &Chunk, (sink, members): (usize, &Members), came: Came) {
        self.rows.iter_mut().for_each(Vec::clear);
        let events = &self.lines[index].events;
        let Some(rows) = self.rows.get_mut(sink) else { return };
        rows.extend(events.rows_of(members));
        let mut gone = members.clone();
        gone.remove(&events.members(chunk, rows));
        if let Some(state) = self.sinks.get(sink) {
            state.note_taken_up(came, members, &gone);
        }
        if !gone.is_empty() {
            tracing::warn!(chunk = %chunk.position, alerts = gone.alerts.len(), "alerts of rules that are gone are given up");
            let batch = if let Came::InBatch(id) = came { id } else { 0 };
            self.journal.settle(sink, batch, &[gone]);
        }
    }

    fn decode(&mut self, line: &Line, index: usize, chunk: &Chunk) {
        let state = &mut self.lines[index];
        let frames = chunk.frames().len();
        state.events.reset(chunk, line.width);
        state.runs.clear();
        match &mut state.auto {
            Some(auto) => auto.split(chunk, &mut state.runs),
            None => state.runs.push((0..frames, 0)),
        }
        for (frames, decoder) in &state.runs {
            if let Some(decoder) = state.decoders.get_mut(*decoder) {
                decoder.instance.decode(chunk, frames.clone(), &mut state.events);
            }
        }
        note_encoding(chunk, &mut state.events);
        state.unreadable.clear();
        for (frame, flaw) in (0..frames).filter_map(|frame| Some((frame, state.events.event(chunk, frame).flaw?))) {
            let cell = FLAWS.iter().zip(&state.counters.flaws).find(|(known, _)| **known == flaw);
            cell.inspect(|(_, cell)| cell.add(1));
            if flaw == Flaw::Malformed {
                state.unreadable.push(frame as u32);
            }
        }
        state.counters.received.add(frames as u64);
        let decoder = |number: usize| line.decoders[number].compiled.kind().name();
        line.own.fill(&chunk.sender.source, chunk, &state.runs, decoder, &mut state.events);
    }

    fn transform(&mut self, line: &Line, index: usize, chunk: &Chunk) {
        if line.transforms.is_empty() {
            return;
        }
        let LineState { transforms, events, .. } = &mut self.lines[index];
        line.transforms.run(chunk, events, &mut transforms.scratch);
        let counts = &transforms.scratch.counts;
        transforms.dropped.add(counts.dropped.len() as u64);
        transforms.errors.iter().zip(counts.errors).for_each(|(cell, count)| cell.add(count));
    }

    fn enrich(&mut self, index: usize, chunk: &Chunk) {
        let state = &mut self.lines[index];
        for (enricher, errors) in &mut state.enrichers {
            errors.add(enricher.enrich(chunk, 0..chunk.frames().len(), &mut state.events));
        }
    }

    fn detect(&mut self, plan: &Plan, line: &Line, index: usize, chunk: &Chunk) {
        self.hits.clear();
        self.silenced.clear();
        let state = &mut self.lines[index];
        self.costs.judge(
            &self.plan,
            self.is_owed,
            state.decoders.iter_mut().zip(&line.decoders).map(|(state, line)| (&mut state.detector, &line.detector)),
        );
        let dropped = &state.transforms.scratch.counts.dropped;
        for (frames, decoder) in &state.runs {
            let detector = &line.decoders[*decoder].detector;
            if !detector.is_empty() {
                let rows = frames.start as u32..frames.end as u32;
                let kept = rows.filter(|row| dropped.is_empty() || dropped.binary_search(row).is_err());
                detector.detect(chunk, &state.events, kept, &mut state.decoders[*decoder].detector, &mut self.hits);
            }
        }
        let hits = std::mem::take(&mut self.hits);
        for hits in hits.chunk_by(|a, b| a.row == b.row) {
            self.tag(plan, line, (index, chunk), hits);
        }
        self.hits = hits;
    }

    /// Tags the event and adds the alerts of its rules. Rules of level `informational` only tag, and so do those that a
    /// correlation has for itself. What is both is there to be counted, and leaves no mark.
    fn tag(&mut self, plan: &Plan, line: &Line, (index, chunk): (usize, &Chunk), hits: &[Hit]) {
        let (rules, alone) = (&plan.rules.rules, &plan.rules.alone);
        let is_low = |hit: &Hit| rules[hit.rule as usize].level == Level::Informational;
        let tagging = || hits.iter().filter(|hit| !is_low(hit) || alone[hit.rule as usize]);
        hits.iter().for_each(|hit| self.rule_hits[hit.rule as usize].add(1));
        let Some(row) = tagging().next().map(|hit| hit.row as usize) else { return };
        let level = plan.level(tagging().map(|hit| hit.rule)).unwrap_or(Level::Informational);
        // Before the tags are there: a rule of keywords would find them.
        let matched = |hit: &Hit| if may_alert(plan, hit.rule) { self.matched(line, index, chunk, *hit) } else { Vec::new() };
        let matched: Vec<Vec<u8>> = hits.iter().map(matched).collect();
        let events = &mut self.lines[index].events;
        let mut event = events.row_mut(chunk, row);
        if let Some(slot) = line.own.rule_ids {
            event.set_written(slot, Kind::Array, |out| {
                for (count, hit) in tagging().take(RULE_HITS_PER_EVENT_MAX).enumerate() {
                    out.push(if count == 0 { b'[' } else { b',' });
                    crate::json::write_string(rules[hit.rule as usize].id.as_bytes(), out);
                }
                out.push(b']');
            });
        }
        if let Some(slot) = line.own.level {
            event.set_written(slot, Kind::Text, |out| out.extend_from_slice(level.as_str().as_bytes()));
        }
        if hits.iter().any(|hit| may_alert(plan, hit.rule)) {
            // Alerts begin as copies of their event.
            self.mark_alert(line.own, (index, chunk), row, true);
            if !self.make_alerts(plan, (index, chunk), hits, &matched) {
                self.mark_alert(line.own, (index, chunk), row, false);
            }
        }
    }

    /// What made a rule match, as a JSON array; empty if nobody wants to know.
    fn matched(&self, line: &Line, index: usize, chunk: &Chunk, hit: Hit) -> Vec<u8> {
        let state = &self.lines[index];
        let run = state.runs.partition_point(|(frames, _)| frames.end <= hit.row as usize);
        let decoder = state.runs.get(run).and_then(|(_, decoder)| line.decoders.get(*decoder));
        let mut found = Found::default();
        if let (Some(decoder), Some(_)) = (decoder, line.own.matched) {
            let event = state.events.event(chunk, hit.row as usize);
            decoder.detector.matched(hit.rule, event, &mut |matched| found.add(matched, &line.fields));
        }
        found.into_array()
    }

    /// Finds out who gets what, and tells the journal. Of a chunk of an earlier run all but `had`.
    fn route(&mut self, line: &Line, index: usize, chunk: &Chunk, had: Option<&[(usize, Members)]>) {
        let state = &mut self.lines[index];
        let frames = chunk.frames().len();
        self.rows.iter_mut().for_each(Vec::clear);
        self.masks.clear();
        let dropped = &state.transforms.scratch.counts.dropped;
        for row in 0..state.events.len() {
            if !dropped.is_empty() && dropped.binary_search(&(row as u32)).is_ok() {
                self.masks.push(0);
                continue;
            }
            let allowed = if row < frames { !self.only_alerts } else { u64::MAX };
            let to = line.router.route(state.events.event(chunk, row), &mut state.router) & allowed;
            self.masks.push(to);
            let mut bits = to;
            while bits != 0 {
                let sink = bits.trailing_zeros() as usize;
                bits &= bits - 1;
                if let Some(rows) = self.rows.get_mut(sink) {
                    rows.push(row as u32);
                }
            }
        }
        let mut verdict = Verdict { plan: self.plan.hash, ..Verdict::default() };
        for (sink, (counters, rows)) in self.sinks.iter().zip(&mut self.rows).enumerate() {
            let count = |rows: &[u32]| rows.partition_point(|row| (*row as usize) < frames);
            counters.filtered.add((frames - dropped.len() - count(rows)) as u64);
            if self.journal.keeps_verdicts() {
                let mut members = state.events.members(chunk, rows);
                for (_, had) in had.into_iter().flatten().filter(|(to, _)| *to == sink) {
                    let mut left = members.clone();
                    left.remove(had);
                    rows.clear();
                    rows.extend(state.events.rows_of(&left));
                    members.add(had);
                }
                if !members.is_empty() {
                    verdict.expected.push((sink, members));
                }
            }
            counters.routed.add(count(rows) as u64);
            let (events, alerts) = (count(rows) as u64, (rows.len() - count(rows)) as u64);
            // Who waits for the delivery has to wait: the log does not know whom to tell.
            let is_behind = counters.is_behind(self.queue_bytes_max, &*self.journal);
            if is_behind && self.journal.keeps_verdicts() && chunk.acknowledgement.is_none() && !rows.is_empty() {
                verdict.deferred |= 1 << sink;
                counters.deferred.add(events);
                counters.counts.events.deferred.add(events);
                counters.counts.alerts.deferred.add(alerts);
                rows.clear();
            }
            let DestinationCounts { offered, filtered, events: event_counts, alerts: alert_counts, .. } = &*counters.counts;
            if had.is_some() {
                event_counts.recovered.add(events);
                alert_counts.recovered.add(alerts);
                continue;
            }
            let lacking = self.masks.iter().take(frames).filter(|mask| **mask & 1 << sink == 0).count();
            offered.add((frames - dropped.len()) as u64);
            filtered.add((lacking - dropped.len()) as u64);
            event_counts.routed.add(events);
            alert_counts.routed.add(alerts);
        }
        if had.is_none()
            && let Some(source) = self.page.source(index)
        {
            source.decided.add(frames as u64);
            source.dropped.add(dropped.len() as u64);
        }
        if self.journal.keeps_verdicts() {
            self.decide(chunk, verdict);
        }
    }

    fn show(&self, line: &Line, index: usize, chunk: &Chunk) {
        let sinks: Vec<&str> = self.plan.sinks.iter().map(|sink| &*sink.name).collect();
        let state = &self.lines[index];
        let decoder = |frame: usize| {
            let run = state.runs.partition_point(|(frames, _)| frames.end <= frame);
            let decoder = state.runs.get(run).and_then(|(_, decoder)| line.decoders.get(*decoder));
            decoder.map_or("", |decoder| decoder.compiled.kind().name())
        };
        if let Some(first) = line.decoders.first() {
            let (events, context) = (&state.events, &first.context);
            self.taps.show(Routed { chunk, events, masks: &self.masks, sinks: &sinks, context, decoder: &decoder });
        }
    }

    fn encode(&mut self, index: usize, chunk: &Chunk, mut again: Option<&mut Again>) -> Result<(), Error> {
        let LineState { decoders, runs, rows_of, events, .. } = &mut self.lines[index];
        for (number, sink) in self.sinks.iter_mut().enumerate() {
            rows_of.iter_mut().for_each(Vec::clear);
            // An event's encoder is that of its decoder; so is its alerts'.
            for row in &self.rows[number] {
                let frame = events.event(chunk, *row as usize).frame as usize;
                let run = if runs.len() == 1 { 0 } else { runs.partition_point(|(frames, _)| frames.end <= frame) };
                if let Some((_, decoder)) = runs.get(run) {
                    rows_of[*decoder].push(*row);
                }
            }
            for (decoder, rows) in decoders.iter_mut().zip(&*rows_of).filter(|(_, rows)| !rows.is_empty()) {
                sink.items.clear(sink.batcher.batching().separator);
                decoder.encoders[number].encode(Selection { chunk, events, rows }, &mut sink.items);
                self.stages.end(5);
                if let Some(again) = &mut again {
                    sink.batcher.add_again(again, chunk, events, rows, &sink.items)?;
                    continue;
                }
                let added = sink.batcher.add(chunk, events, rows, &sink.items)?;
                sink.sealed_early.add(added.sealed_early);
                added.sealed.into_iter().for_each(|held| sink.destination.send(held));
                self.stages.end(6);
                added.too_long.into_iter().for_each(|held| sink.destination.give_up(held));
            }
        }
        Ok(())
    }

    /// Seals batches that are due; returns when the next one is.
    ///
    /// # Errors
    /// A compressor's.
    pub fn seal_due(&mut self, now: Instant) -> Result<Option<Instant>, Error> {
        for sink in &mut self.sinks {
            sink.batcher.seal_due(now)?.into_iter().for_each(|held| sink.destination.send(held));
        }
        Ok(self.sinks.iter().filter_map(|sink| sink.batcher.due()).min())
    }

    /// Seals everything and returns the destinations, to be waited for.
    ///
    /// # Errors
    /// A compressor's.
    pub fn finish(&mut self) -> Result<Vec<Destination>, Error> {
        for sink in &mut self.sinks {
            sink.batcher.seal_all()?.into_iter().for_each(|held| sink.destination.send(held));
        }
        Ok(self.sinks.iter().map(|sink| sink.destination.clone()).collect())
    }

    /// What this shard counts for the ledger.
    pub fn page(&self) -> &Rc<Page> {
        &self.page
    }

    /// The metrics that this shard counts into.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

fn lines(plan: &Plan, registry: &Registry) -> Vec<LineState> {
    // The ledger and the metrics know no source of alerts: they did not come in.
    let alerts = |alerts: &AlertLine| LineState::new(&alerts.line, &alerts.sender.source, plan, &Registry::default());
    let source = |source: &SourcePlan| LineState::new(&source.line, &source.name, plan, registry);
    plan.sources.iter().map(source).chain(plan.alerts.iter().map(alerts)).collect()
}

fn rule_keys(plan: &Plan) -> Vec<u64> {
    plan.rules.rules.iter().map(|rule| AlertKey::rule(&rule.id)).collect()
}

fn rule_cells(plan: &Plan, registry: &Registry) -> Vec<Cell> {
    let cell = |rule: &SigmaRule| registry.cell(&metrics::RULE_HITS, &[("rule_id", &rule.id), ("rule", &rule.title)]);
    plan.rules.rules.iter().map(cell).collect()
}

impl LineState {
    fn new(line: &Line, name: &str, plan: &Plan, registry: &Registry) -> Self {
        let decoder = |decoder: &crate::pipeline::plan::DecoderLine| DecoderState {
            instance: decoder.compiled.instance(),
            detector: decoder.detector.scratch(),
            encoders: plan.sinks.iter().map(|sink| sink.sink.encoder(&decoder.context)).collect(),
        };
        let enricher = |index: &usize| {
            let plan = plan.enrichers.get(*index)?;
            plan.enricher.observe(registry, &plan.name);
            Some((plan.enricher.bind(&line.fields), registry.cell(&metrics::ENRICHMENT_ERRORS, &[("component_id", &plan.name)])))
        };
        let flaw = |flaw: Flaw| registry.cell(&metrics::DECODE_FLAWS, &[("component_id", name), ("reason", flaw.name())]);
        Self {
            decoders: line.decoders.iter().map(decoder).collect(),
            auto: line.is_auto.then(Auto::default),
            runs: Vec::new(),
            unreadable: Vec::new(),
            rows_of: vec![Vec::new(); line.decoders.len()],
            transforms: TransformState {
                scratch: line.transforms.scratch(),
                dropped: registry.cell(&metrics::EVENTS_DROPPED, &[("component_id", name), ("reason", "transform")]),
                errors: transform::REASONS
                    .map(|reason| registry.cell(&metrics::TRANSFORM_ERRORS, &[("component_id", name), ("reason", reason)])),
            },
            enrichers: line.enrichers.iter().filter_map(enricher).collect(),
            silencer: line.silencer.scratch(),
            router: line.router.scratch(),
            events: Events::default(),
            counters: LineCounters {
                received: registry.cell(&metrics::EVENTS_RECEIVED, &[("component_id", name)]),
                flaws: FLAWS.map(flaw),
            },
        }
    }
}
