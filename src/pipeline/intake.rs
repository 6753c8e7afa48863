//! What sources give their bytes to: unwraps and frames them, waits for room, journals, processes or hands over.
//!
//! One [`Gate`] per shard, one [`Port`] per shard and source. A chunk that is admitted is worked on at once by
//! the task that brought it: there is no queue in front of a shard, so a source that is not read is the only
//! place where data can wait.

use std::cell::{Cell as StdCell, RefCell};
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};

use crate::budget::{Budget, Reservation};
use crate::clock;
use crate::cursor::{Commit, Journal};
use crate::deliver::Destination;
use crate::error::Error;
use crate::event::{Acknowledgement, Chunk, Origin, Receipt, Sender, Span};
use crate::frame::{self, Framer, FramerKind};
use crate::ledger::{InWork, Page, SourceCounts};
use crate::limits::{CHUNK_PADDING_BYTES, CHUNK_TARGET_BYTES, READ_BYTES};
use crate::metrics::{self, Cell, Registry};
use crate::net::http_server::ServerCounters;
use crate::pipeline::correlation::Alerts;
use crate::pipeline::framed::{Framed, moved, part, ranges};
use crate::pipeline::health::Health;
use crate::pipeline::mesh::{Handed, Port as MeshPort};
use crate::pipeline::plan::{Acknowledge, CORRELATION_SOURCE, HEALTH_SOURCE, SourcePlan};
use crate::pipeline::shard::{Common, Shard};
use crate::source::{Intake, Messages, Refused, Stream};
use crate::task::{LocalFuture, Stop};
use crate::unwrap::{self, Unwrapped};

/// Buffers that a shard keeps for reuse; more would only hold memory after a peak.
const BUFFERS_KEPT_MAX: usize = 16;

/// How long a sender's answer waits for a disk that fails when Hydrant is told to stop.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// Reads that bring less than this are gathered with those of other connections: a chunk of one event costs what one
/// of a hundred does.
const GATHERED_BYTES_MAX: usize = 32 * 1024;

/// How long a small read waits for others.
const GATHER_INTERVAL: Duration = Duration::from_millis(4);

/// How often it is looked whether hits find room on their way to another shard.
const FLUSH_INTERVAL: Duration = Duration::from_millis(1);

/// How a chunk comes by its room in the budget.
enum Room {
    /// Waits for it.
    Waited,
    /// Has some already; refused if there is not enough now.
    Held(Reservation),
}

/// The way into one shard.
pub struct Gate {
    budget: Arc<Budget>,
    journal: Rc<dyn Journal>,
    page: Rc<Page>,
    shard: RefCell<Shard>,
    mesh: RefCell<MeshPort>,
    buffers: RefCell<Vec<Vec<u8>>>,
    handed_over: Cell,
    /// Woken when correlations have made alerts.
    pub fired: Notify,
    /// Whose turn it is to give alerts to the journal.
    alerts_turn: Mutex<()>,
    /// How many wait for room.
    waiting: StdCell<usize>,
    /// Woken when a batch may have been opened, so that the timer looks at it.
    pub opened: Notify,
    stop_now: Stop,
    /// Streams that are open and messages on their way in.
    at_work: StdCell<usize>,
    idle: Notify,
    /// Nothing is handed over any more.
    keeps_all: StdCell<bool>,
    /// Nothing is taken any more.
    is_closed: StdCell<bool>,
}

/// Somebody who may still bring events; a stop waits until it is dropped.
struct AtWork(Rc<Gate>);

impl AtWork {
    fn new(gate: &Rc<Gate>) -> Self {
        gate.at_work.set(gate.at_work.get() + 1);
        Self(gate.clone())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let left = self.0.at_work.get() - 1;
        self.0.at_work.set(left);
        if left == 0 {
            self.0.idle.notify_one();
        }
    }
}

/// Somebody who waits for room.
struct Waits<'a>(&'a StdCell<usize>);

impl<'a> Waits<'a> {
    fn new(count: &'a StdCell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Gate {
    /// A gate; `stop_now` ends even those who wait for room.
    pub fn new(budget: Arc<Budget>, journal: Rc<dyn Journal>, shard: Shard, mesh: MeshPort, stop_now: Stop) -> Rc<Self> {
        let handed_over = shard.registry().cell(&metrics::CHUNKS_HANDED_OVER, &[]);
        Rc::new(Self {
            budget,
            journal,
            page: shard.page().clone(),
            shard: RefCell::new(shard),
            mesh: RefCell::new(mesh),
            buffers: RefCell::default(),
            handed_over,
            fired: Notify::new(),
            alerts_turn: Mutex::default(),
            waiting: StdCell::new(0),
            opened: Notify::new(),
            stop_now,
            at_work: StdCell::new(0),
            idle: Notify::new(),
            keeps_all: StdCell::new(false),
            is_closed: StdCell::new(false),
        })
    }

    /// Runs `work` with the shard.
    pub fn with_shard<T>(&self, work: impl FnOnce(&mut Shard) -> T) -> T {
        work(&mut self.shard.borrow_mut())
    }

    /// Waits until no stream is open and nothing is on its way in; from then on this shard keeps what comes all
    /// the same. For one task at a time.
    pub async fn idle(&self) {
        while self.at_work.get() > 0 {
            self.idle.notified().await;
        }
        self.keeps_all.set(true);
    }

    /// How many streams are open and messages on their way in.
    pub fn at_work(&self) -> usize {
        self.at_work.get()
    }

    /// Takes nothing more, works on all that other shards have handed over, and seals every batch. Nothing that
    /// comes later could be delivered, so no shard may come here while another one still hands over.
    ///
    /// # Errors
    /// A compressor's.
    pub fn finish(&self) -> Result<Vec<Destination>, Error> {
        self.keeps_all.set(true);
        self.is_closed.set(true);
        loop {
            let handed = self.mesh.borrow_mut().take();
            let Some(handed) = handed else { break };
            self.take(handed);
        }
        self.shard.borrow_mut().finish()
    }

    /// Works on what other shards hand over, until `stop_now`.
    pub async fn serve_mesh(self: Rc<Self>) {
        loop {
            let woken = self.mesh.borrow().woken();
            tokio::select! {
                () = woken => {}
                () = self.stop_now.wait() => return,
            }
            loop {
                self.hits_sent().await;
                let handed = self.mesh.borrow_mut().take();
                let Some(handed) = handed else { break };
                self.take(handed);
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until the hits of earlier chunks are on their way to the shards that correlate them.
    pub async fn hits_sent(&self) {
        while !self.with_shard(|shard| shard.exchange().is_flushed()) {
            tokio::select! {
                () = tokio::time::sleep(FLUSH_INTERVAL) => self.with_shard(|shard| shard.exchange().flush()),
                () = self.stop_now.wait() => return,
            }
        }
    }

    /// Whether somebody waits for room: what comes next may be older than it seems.
    pub fn is_waiting(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Whether senders are held back: somebody waits, or would be refused.
    pub fn is_held_back(&self) -> bool {
        self.is_waiting() || !(self.budget.has_room(CHUNK_TARGET_BYTES) && self.journal.has_room(CHUNK_TARGET_BYTES))
    }

    /// Gives the alerts of correlations to the journal, and works on them.
    ///
    /// # Errors
    /// Hydrant stops before there is room.
    pub async fn admit_alerts(&self) -> Result<(), Refused> {
        let _turn = self.alerts_turn.lock().await;
        let alerts = self.with_shard(|shard| shard.exchange().take_alerts());
        if alerts.spans.is_empty() {
            return Ok(());
        }
        self.admit_own(&alerts, CORRELATION_SOURCE).await?;
        self.journal.flush().await.map_err(|_| Refused::NotStored)?;
        self.with_shard(|shard| shard.exchange().note_durable(alerts.durable()));
        Ok(())
    }

    /// Gives alerts of source health to the journal, and works on them; they are durable when it resolves.
    ///
    /// # Errors
    /// Hydrant stops before that.
    pub async fn admit_health(&self, alerts: &Alerts, health: &Health) -> Result<(), Refused> {
        self.admit_own(alerts, HEALTH_SOURCE).await?;
        self.durable(self.journal.flush(), health).await
    }

    async fn admit_own(&self, alerts: &Alerts, source: &str) -> Result<(), Refused> {
        let Some(sender) = self.with_shard(|shard| shard.alerts_sender(source)) else { return Ok(()) };
        for spans in alerts.spans.chunk_by(|a, b| a.start as usize / CHUNK_TARGET_BYTES == b.start as usize / CHUNK_TARGET_BYTES) {
            let (Some(first), Some(last)) = (spans.first(), spans.last()) else { continue };
            let start = first.start as usize;
            let bytes = alerts.bytes.get(start..last.end as usize).unwrap_or_default().to_vec();
            let frames = spans.iter().map(|span| Span::new(span.start as usize - start, span.end as usize - start)).collect();
            self.admit(vec![Chunk::new(bytes, frames, sender.clone(), clock::now_ms())], Room::Waited).await?;
        }
        Ok(())
    }

    /// Works on all that other shards have handed over, and sends its hits. For a stop, when nothing more can come.
    pub async fn finish_mesh(&self) {
        self.keeps_all.set(true);
        loop {
            self.hits_sent().await;
            let handed = self.mesh.borrow_mut().take();
            let Some(handed) = handed else { return };
            self.take(handed);
        }
    }

    /// Takes everything that waits at one level of correlations, at a stop.
    pub async fn finish_level(&self, level: usize) {
        self.with_shard(|shard| shard.exchange().finish_level(level));
        // Refused only when Hydrant is made to end at once.
        let _ = self.admit_alerts().await;
        self.hits_sent().await;
    }

    /// Gives all chunks to the journal, then works on them while it makes them durable: all of them are taken, or
    /// none. What is returned resolves when they are durable.
    async fn admit(&self, mut chunks: Vec<Chunk>, room: Room) -> Result<Commit, Refused> {
        let cost = chunks.iter().map(Chunk::cost_bytes).sum::<usize>();
        match room {
            Room::Waited => self.wait_for_room(cost).await?,
            Room::Held(_) if !self.journal.has_room(cost) => return Err(Refused::Busy),
            Room::Held(held) if !self.budget.has_room(cost.saturating_sub(held.bytes())) => return Err(Refused::Busy),
            Room::Held(held) => drop(held),
        }
        if self.is_closed.get() {
            return Err(Refused::Stopping);
        }
        let reservations: Vec<Reservation> = chunks.iter().map(|chunk| self.budget.take(chunk.cost_bytes())).collect();
        let commit = self.journal.append(&mut chunks);
        let in_work: Vec<Option<InWork>> = chunks.iter().map(|chunk| self.page.received(chunk)).collect();
        for ((chunk, reservation), in_work) in chunks.into_iter().zip(reservations).zip(in_work) {
            let handed = Handed { chunk, reservation };
            let before = |to| self.with_shard(|shard| shard.exchange().note_active_of(to));
            let offered = if self.keeps_all.get() { Err(handed) } else { self.mesh.borrow_mut().offer(handed, before) };
            match offered {
                Ok(()) => {
                    self.handed_over.add(1);
                    in_work.into_iter().for_each(InWork::handed_over);
                }
                Err(handed) => {
                    self.hits_sent().await;
                    self.mesh.borrow().note_own();
                    self.process(handed);
                    drop(in_work);
                    // A busy connection or a large request must not hold the shard while others, timers and
                    // deliveries wait: a task that always finds bytes would only yield after megabytes.
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(commit)
    }

    /// Waits until `cost` bytes fit into the budget and the journal takes them.
    async fn wait_for_room(&self, cost: usize) -> Result<(), Refused> {
        self.wait_until(|| self.budget.has_room(cost) && self.journal.has_room(cost)).await
    }

    /// Waits until `cost` bytes fit into the budget, whatever the journal says: they come from there.
    ///
    /// # Errors
    /// Hydrant stops before.
    pub async fn wait_for_memory(&self, cost: usize) -> Result<(), Refused> {
        self.wait_until(|| self.budget.has_room(cost)).await
    }

    async fn wait_until(&self, has_room: impl Fn() -> bool) -> Result<(), Refused> {
        if has_room() {
            return Ok(());
        }
        let _waits = Waits::new(&self.waiting);
        while !has_room() {
            let (freed, written) = (self.budget.freed(), self.journal.freed());
            if has_room() {
                break;
            }
            tokio::select! {
                () = freed => {}
                () = written => {}
                () = self.stop_now.wait() => return Err(Refused::Stopping),
            }
        }
        Ok(())
    }

    /// Waits until something is durable.
    async fn durable(&self, commit: Commit, health: &Health) -> Result<(), Refused> {
        tokio::select! {
            committed = commit => committed.map_err(|error| {
                tracing::error!(%error, "the journal cannot be written");
                Refused::NotStored
            }),
            // A disk that fails must not keep the process from ending: these senders are not told that all is well.
            () = health.stopping_for(COMMIT_PATIENCE) => Err(Refused::NotStored),
        }
    }

    /// The journal of this shard.
    pub fn journal(&self) -> &Rc<dyn Journal> {
        &self.journal
    }

    /// Works on what another shard has handed over.
    fn take(&self, handed: Handed) {
        let in_work = self.page.taken(&handed.chunk);
        self.process(handed);
        drop(in_work);
    }

    /// What this shard counts for the ledger.
    pub fn page(&self) -> &Rc<Page> {
        &self.page
    }

    fn process(&self, handed: Handed) {
        let Handed { chunk, reservation } = handed;
        match self.shard.borrow_mut().process(chunk) {
            Ok(buffer) => self.give_back(buffer),
            Err(error) => tracing::error!(%error, "a chunk could not be processed"),
        }
        drop(reservation);
        self.opened.notify_one();
    }

    fn buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(READ_BYTES + CHUNK_PADDING_BYTES))
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < BUFFERS_KEPT_MAX && buffer.capacity() <= 2 * CHUNK_TARGET_BYTES {
            buffer.clear();
            buffers.push(buffer);
        }
    }
}

/// One source's way in.
pub struct SourcePort {
    gate: Rc<Gate>,
    sender: Arc<Sender>,
    unwrap: unwrap::Layers,
    framer: &'static dyn FramerKind,
    framer_is_configured: bool,
    frame_bytes_max: usize,
    acknowledge: Acknowledge,
    state_dir: PathBuf,
    registry: Registry,
    bytes: Cell,
    cut: Cell,
    kernel_drops: Cell,
    counts: Option<Rc<SourceCounts>>,
    health: Arc<Health>,
    gathered: RefCell<Gathered>,
    /// Whose turn it is to admit what was gathered. It is handed on in order, so that a connection's frames keep theirs
    /// while everybody waits for room.
    turn: Mutex<()>,
}

/// Small reads that wait for others.
#[derive(Default)]
struct Gathered {
    framed: Framed,
    /// Counts what was taken, so that a timer knows whether it is still about the same.
    generation: u64,
    /// A stop waits for it.
    at_work: Option<AtWork>,
}

impl SourcePort {
    /// The port of the source with this index in the plan.
    pub fn new(gate: Rc<Gate>, common: &Common, index: usize) -> Rc<Self> {
        let whole = common.plan.borrow();
        let plan: &SourcePlan = &whole.sources[index];
        let registry = &common.registry;
        let labels: &[(&str, &str)] = &[("component_id", &plan.name)];
        Rc::new(Self {
            counts: gate.page.source(index).cloned(),
            gate,
            sender: Arc::new(Sender { source: plan.name.clone(), source_index: index as u16 }),
            unwrap: plan.unwrap,
            framer: plan.framer,
            framer_is_configured: plan.framer_is_configured,
            frame_bytes_max: plan.frame_bytes_max,
            acknowledge: plan.acknowledge,
            state_dir: whole.settings.data_dir.join("sources").join(&*plan.name),
            registry: registry.clone(),
            bytes: registry.cell(&metrics::BYTES_RECEIVED, labels),
            cut: registry.cell(&metrics::FRAMES_CUT, labels),
            kernel_drops: registry.cell(&metrics::KERNEL_DROPS, labels),
            health: common.health.clone(),
            gathered: RefCell::default(),
            turn: Mutex::default(),
        })
    }

    /// Admits what a connection brought, or lets a little of it wait for that of others.
    async fn admit_or_gather(self: &Rc<Self>, framed: Framed) -> Result<(), Refused> {
        let is_small = framed.bytes.len() < GATHERED_BYTES_MAX && self.acknowledge == Acknowledge::Receipt && framed.is_joinable();
        if !is_small {
            // What came before it goes before it.
            self.admit_gathered().await?;
            return self.admit(framed, Room::Waited).await;
        }
        let is_full = {
            let mut gathered = self.gathered.borrow_mut();
            if gathered.framed.frames.is_empty() {
                gathered.framed = Framed { bytes: self.gate.buffer(), ..Framed::default() };
                gathered.at_work = Some(AtWork::new(&self.gate));
                self.admit_in_time(gathered.generation);
            }
            gathered.framed.join(&framed);
            gathered.framed.bytes.len() >= GATHERED_BYTES_MAX
        };
        self.gate.give_back(framed.bytes);
        if is_full { self.admit_gathered().await } else { Ok(()) }
    }

    fn admit_in_time(self: &Rc<Self>, generation: u64) {
        let port = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(GATHER_INTERVAL).await;
            if port.gathered.borrow().generation == generation {
                // Refused only when Hydrant is made to end at once, and nobody was told anything.
                let _ = port.admit_gathered().await;
            }
        });
    }

    async fn admit_gathered(&self) -> Result<(), Refused> {
        let _turn = self.turn.lock().await;
        let (framed, at_work) = {
            let mut gathered = self.gathered.borrow_mut();
            if gathered.framed.frames.is_empty() {
                return Ok(());
            }
            gathered.generation += 1;
            (std::mem::take(&mut gathered.framed), gathered.at_work.take())
        };
        let result = self.admit(framed, Room::Waited).await;
        drop(at_work);
        result
    }

    /// Admits frames as one transaction; waits for their delivery too if the source asks for that.
    async fn admit(&self, framed: Framed, room: Room) -> Result<(), Refused> {
        delivered(self.give(framed, room).await?).await
    }

    /// Admits frames as one transaction; what is returned tells of their delivery if the source asks for that.
    async fn give(&self, framed: Framed, room: Room) -> Result<Vec<Receipt>, Refused> {
        if framed.frames.is_empty() {
            self.gate.give_back(framed.bytes);
            return Ok(Vec::new());
        }
        let (messages, cut) = (framed.messages as u64, framed.cut);
        let mut chunks = self.chunks(framed);
        // Who only reads on has nothing to wait for: the journal is told in the right order.
        let is_answered = matches!(room, Room::Held(_));
        if self.acknowledge == Acknowledge::Receipt {
            let commit = self.gate.admit(chunks, room).await?;
            self.count_messages(messages, cut);
            if is_answered {
                self.gate.durable(commit, &self.health).await?;
            }
            return Ok(Vec::new());
        }
        let mut receipts = Vec::with_capacity(chunks.len());
        for chunk in &mut chunks {
            let (acknowledgement, receipt) = Acknowledgement::pair();
            chunk.acknowledgement = Some(acknowledgement);
            receipts.push(receipt);
        }
        self.gate.admit(chunks, room).await?;
        self.count_messages(messages, cut);
        Ok(receipts)
    }

    fn frames(self: &Rc<Self>, kind: &dyn FramerKind, peer: Option<IpAddr>, origin: Option<Arc<Origin>>) -> FrameStream {
        FrameStream {
            port: self.clone(),
            framer: kind.build(self.frame_bytes_max),
            peers: peer.map(|peer| (0, peer)).into_iter().collect(),
            origins: origin.map(|origin| (0, origin)).into_iter().collect(),
            buffer: self.gate.buffer(),
            seen: 0,
            receipts: None,
            at_work: AtWork::new(&self.gate),
        }
    }

    fn count_messages(&self, messages: u64, cut: u64) {
        if let Some(counts) = &self.counts {
            counts.messages.add(messages);
            counts.cut.add(cut);
        }
    }

    fn chunks(&self, framed: Framed) -> Vec<Chunk> {
        let now_ms = clock::now_ms();
        let mut ranges = ranges(&framed);
        if ranges.len() == 1 {
            let Framed { bytes, frames, peers, origins, times, .. } = framed;
            let chunk = Chunk::new(bytes, frames, self.sender.clone(), now_ms);
            return vec![chunk.with_peers(peers).with_origins(origins).with_times(times)];
        }
        let cut = |range: std::ops::Range<usize>| {
            let (first, last) = (framed.frames[range.start].start, framed.frames[range.end - 1].end);
            let mut bytes = self.gate.buffer();
            bytes.extend_from_slice(&framed.bytes[first as usize..last as usize]);
            let frames =
                framed.frames[range.clone()].iter().map(|span| Span { start: span.start - first, end: span.end - first }).collect();
            Chunk::new(bytes, frames, self.sender.clone(), now_ms)
                .with_peers(part(&framed.peers, &range))
                .with_origins(part(&framed.origins, &range))
                .with_times(part(&framed.times, &range))
        };
        ranges.drain(..).map(cut).collect()
    }

    /// Unwraps and frames whole messages.
    fn framed(&self, messages: Messages) -> Framed {
        self.bytes.add(messages.spans.iter().map(|span| span.len() as u64).sum());
        let kind = messages.framing.filter(|_| !self.framer_is_configured).and_then(frame::find).unwrap_or(self.framer);
        let count = messages.spans.len();
        let Some(plain) = unwrap::unwrap(self.unwrap, &messages.bytes, &messages.spans, &messages.origins) else {
            let (frames, first, cut) = self.split(kind, &messages.bytes, &messages.spans, &[]);
            let (peers, origins) = (moved(&messages.peers, &first), moved(&messages.origins, &first));
            return Framed { frames, peers, origins, times: Vec::new(), bytes: messages.bytes, messages: count, cut };
        };
        self.gate.give_back(messages.bytes);
        for (reason, count) in plain.counts.named() {
            self.registry.cell(&metrics::UNWRAP, &[("component_id", &self.sender.source), ("reason", reason)]).add(count);
        }
        let Unwrapped { bytes, spans, whole, origins, times, first: unwrapped, .. } = plain;
        let (frames, first, cut) = self.split(kind, &bytes, &spans, &whole);
        let peers = moved(&moved(&messages.peers, &unwrapped), &first);
        Framed { frames, peers, origins: moved(&origins, &first), times: moved(&times, &first), bytes, messages: count, cut }
    }

    /// The frames of messages, for each message the number of frames before it, and how many were cut. `whole` says from which
    /// message on messages are one frame, whatever the framer would say.
    fn split(&self, kind: &dyn FramerKind, bytes: &[u8], spans: &[Span], whole: &[(u32, bool)]) -> (Vec<Span>, Vec<u32>, u64) {
        let mut frames = Vec::with_capacity(spans.len());
        let mut first = Vec::with_capacity(spans.len());
        let mut framer = kind.build(self.frame_bytes_max);
        let mut undivided = frame::find("whole").map(|kind| kind.build(self.frame_bytes_max));
        let mut whole = whole.iter().peekable();
        let mut is_whole = false;
        let mut found = Vec::new();
        let mut cut = 0;
        for (index, message) in spans.iter().enumerate() {
            while let Some((_, next)) = whole.next_if(|(first, _)| *first as usize <= index) {
                is_whole = *next;
            }
            first.push(frames.len() as u32);
            let framer = undivided.as_mut().filter(|_| is_whole).unwrap_or(&mut framer);
            let mut at = message.start as usize;
            while at < message.end as usize {
                found.clear();
                let split = framer.split(&bytes[at..message.end as usize], true, &mut found);
                cut += u64::from(split.cut);
                frames.extend(found.iter().map(|span| Span::new(span.start as usize + at, span.end as usize + at)));
                if split.used == 0 {
                    break;
                }
                at += split.used;
            }
        }
        self.cut.add(cut);
        (frames, first, cut)
    }
}

impl Intake for Rc<SourcePort> {
    fn opened(&self) {
        self.health.note_opened();
    }

    fn stream_from(&self, peer: Option<IpAddr>, origin: Option<Arc<Origin>>) -> Box<dyn Stream> {
        Box::new(self.frames(self.framer, peer, origin))
    }

    fn object(&self, origin: Arc<Origin>, framing: &'static str) -> Box<dyn Stream> {
        let kind = Some(framing).filter(|_| !self.framer_is_configured).and_then(frame::find).unwrap_or(self.framer);
        Box::new(FrameStream { receipts: Some(Vec::new()), ..self.frames(kind, None, Some(origin)) })
    }

    fn submit(&self, messages: Messages) -> LocalFuture<'_, Result<(), Refused>> {
        let at_work = AtWork::new(&self.gate);
        Box::pin(async move {
            let result = self.admit(self.framed(messages), Room::Waited).await;
            drop(at_work);
            result
        })
    }

    fn offer(&self, messages: Messages, held: Reservation) -> LocalFuture<'_, Result<(), Refused>> {
        let framed = self.framed(messages);
        let (port, at_work) = (self.clone(), AtWork::new(&self.gate));
        // A task of its own: a client that goes away drops the request's future, but what is journaled must go
        // through all stages.
        let admitted = tokio::task::spawn_local(async move {
            let result = port.admit(framed, Room::Held(held)).await;
            drop(at_work);
            result
        });
        Box::pin(async move { admitted.await.unwrap_or(Err(Refused::NotStored)) })
    }

    fn committed(&self) -> LocalFuture<'_, Result<(), Refused>> {
        Box::pin(async move { self.gate.durable(self.gate.journal.flush(), &self.health).await })
    }

    fn budget(&self) -> Arc<Budget> {
        self.gate.budget.clone()
    }

    fn state_dir(&self) -> PathBuf {
        self.state_dir.clone()
    }

    fn server_counters(&self) -> ServerCounters {
        ServerCounters::register(&self.registry, &self.sender.source)
    }

    fn count_refused_many(&self, reason: &'static str, count: u64) {
        self.registry.cell(&metrics::REFUSED, &[("component_id", &self.sender.source), ("reason", reason)]).add(count);
    }

    fn count_refused_from(&self, reason: &'static str, peer: IpAddr) {
        self.count_refused(reason);
        self.counts.iter().for_each(|counts| counts.refused(peer));
    }

    fn count_kernel_drops(&self, count: u64) {
        self.kernel_drops.add(count);
        self.counts.iter().for_each(|counts| counts.kernel_drops.add(count));
    }
}

/// Waits until everything is delivered.
async fn delivered(receipts: Vec<Receipt>) -> Result<(), Refused> {
    for receipt in receipts {
        if !receipt.await {
            return Err(Refused::NotStored);
        }
    }
    Ok(())
}

struct FrameStream {
    port: Rc<SourcePort>,
    framer: Box<dyn Framer>,
    peers: Vec<(u32, IpAddr)>,
    origins: Vec<(u32, Arc<Origin>)>,
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that were counted before.
    seen: usize,
    /// What tells of the delivery of all that was given, if that is waited for only at the end.
    receipts: Option<Vec<Receipt>>,
    at_work: AtWork,
}

impl FrameStream {
    /// Cuts off what is complete, leaves the rest in the buffer.
    async fn cut(&mut self, end: bool) -> Result<(), Refused> {
        self.port.bytes.add((self.buffer.len() - self.seen) as u64);
        loop {
            let mut frames = Vec::new();
            let split = self.framer.split(&self.buffer, end, &mut frames);
            self.port.cut.add(u64::from(split.cut));
            if split.used == 0 {
                // A long line that comes in small pieces is not copied for each of them.
                self.seen = self.buffer.len();
                return Ok(());
            }
            let mut rest = self.port.gate.buffer();
            rest.extend_from_slice(&self.buffer[split.used..]);
            let mut bytes = std::mem::replace(&mut self.buffer, rest);
            bytes.truncate(split.used);
            self.seen = self.buffer.len();
            let (peers, origins, messages) = (self.peers.clone(), self.origins.clone(), frames.len());
            let framed = Framed { bytes, frames, peers, origins, times: Vec::new(), messages, cut: u64::from(split.cut) };
            match &mut self.receipts {
                Some(receipts) => receipts.extend(self.port.give(framed, Room::Waited).await?),
                None => self.port.admit_or_gather(framed).await?,
            }
            if self.buffer.is_empty() || !end {
                return Ok(());
            }
        }
    }
}

impl Stream for FrameStream {
    fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 2 {
            self.buffer.reserve(READ_BYTES + CHUNK_PADDING_BYTES);
        }
        &mut self.buffer
    }

    fn received(&mut self) -> LocalFuture<'_, Result<(), Refused>> {
        Box::pin(self.cut(false))
    }

    fn finish(mut self: Box<Self>) -> LocalFuture<'static, Result<(), Refused>> {
        Box::pin(async move {
            self.cut(true).await?;
            let Self { receipts, at_work, .. } = *self;
            // Nothing more comes of this stream: a stop, which seals the batches that are waited for, need not wait for it.
            drop(at_work);
            delivered(receipts.unwrap_or_default()).await
        })
    }
}
