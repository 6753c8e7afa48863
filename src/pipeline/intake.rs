//! What sources give their bytes to: frames them, waits for room, journals, processes or hands over.
//!
//! One [`Gate`] per shard, one [`Port`] per shard and source. A chunk that is admitted is worked on at once by
//! the task that brought it: there is no queue in front of a shard, so a source that is not read is the only
//! place where data can wait.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::budget::Budget;
use crate::clock;
use crate::cursor::Journal;
use crate::event::{Acknowledgement, Chunk, Sender, Span};
use crate::frame::{Framer, FramerKind};
use crate::limits::{CHUNK_PADDING_BYTES, CHUNK_TARGET_BYTES, READ_BYTES};
use crate::metrics::{self, Cell, Registry};
use crate::pipeline::health::Health;
use crate::pipeline::mesh::{Handed, Port as MeshPort};
use crate::pipeline::plan::{Acknowledge, SourcePlan};
use crate::pipeline::shard::{Common, Shard};
use crate::source::{Intake, Messages, Refused, Stream};
use crate::task::{LocalFuture, Stop};

/// Buffers that a shard keeps for reuse; more would only hold memory after a peak.
const BUFFERS_KEPT_MAX: usize = 16;

/// The way into one shard.
pub struct Gate {
    budget: Arc<Budget>,
    journal: Rc<dyn Journal>,
    shard: RefCell<Shard>,
    mesh: RefCell<MeshPort>,
    buffers: RefCell<Vec<Vec<u8>>>,
    handed_over: Cell,
    /// Woken when a batch may have been opened, so that the timer looks at it.
    pub opened: Notify,
    stop_now: Stop,
}

impl Gate {
    /// A gate; `stop_now` ends even those who wait for room.
    pub fn new(budget: Arc<Budget>, journal: Rc<dyn Journal>, shard: Shard, mesh: MeshPort, stop_now: Stop) -> Rc<Self> {
        let handed_over = shard.registry().cell(&metrics::CHUNKS_HANDED_OVER, &[]);
        Rc::new(Self {
            budget,
            journal,
            shard: RefCell::new(shard),
            mesh: RefCell::new(mesh),
            buffers: RefCell::default(),
            handed_over,
            opened: Notify::new(),
            stop_now,
        })
    }

    /// Runs `work` with the shard.
    pub fn with_shard<T>(&self, work: impl FnOnce(&mut Shard) -> T) -> T {
        work(&mut self.shard.borrow_mut())
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
                let handed = self.mesh.borrow_mut().take();
                let Some(handed) = handed else { break };
                self.process(handed);
                tokio::task::yield_now().await;
            }
        }
    }

    async fn admit(&self, mut chunk: Chunk) -> Result<(), Refused> {
        let cost = chunk.cost_bytes();
        while !self.budget.has_room(cost) {
            let freed = self.budget.freed();
            if self.budget.has_room(cost) {
                break;
            }
            tokio::select! {
                () = freed => {}
                () = self.stop_now.wait() => return Err(Refused::Stopping),
            }
        }
        let reservation = self.budget.take(cost);
        if let Err(error) = self.journal.append(&mut chunk).await {
            tracing::error!(%error, "the journal cannot be written");
            return Err(Refused::NotStored);
        }
        let offered = self.mesh.borrow_mut().offer(Handed { chunk, reservation });
        match offered {
            Ok(()) => self.handed_over.add(1),
            Err(handed) => {
                self.mesh.borrow().note_own();
                self.process(handed);
            }
        }
        Ok(())
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
    framer: &'static dyn FramerKind,
    frame_bytes_max: usize,
    acknowledge: Acknowledge,
    registry: Registry,
    bytes: Cell,
    cut: Cell,
    kernel_drops: Cell,
    health: Arc<Health>,
}

impl SourcePort {
    /// The port of a source.
    pub fn new(gate: Rc<Gate>, plan: &SourcePlan, index: usize, common: &Common) -> Rc<Self> {
        let registry = &common.registry;
        let labels: &[(&str, &str)] = &[("component_id", &plan.name)];
        Rc::new(Self {
            gate,
            sender: Arc::new(Sender { source: plan.name.clone(), source_index: index as u16 }),
            framer: plan.framer,
            frame_bytes_max: plan.frame_bytes_max,
            acknowledge: plan.acknowledge,
            registry: registry.clone(),
            bytes: registry.cell(&metrics::BYTES_RECEIVED, labels),
            cut: registry.cell(&metrics::FRAMES_CUT, labels),
            kernel_drops: registry.cell(&metrics::KERNEL_DROPS, labels),
            health: common.health.clone(),
        })
    }

    /// Admits a chunk; waits for its delivery too if the source asks for that.
    async fn admit(&self, bytes: Vec<u8>, frames: Vec<Span>, peers: Vec<(u32, IpAddr)>) -> Result<(), Refused> {
        if frames.is_empty() {
            self.gate.give_back(bytes);
            return Ok(());
        }
        let mut chunk = Chunk::new(bytes, frames, self.sender.clone(), clock::now_ms()).with_peers(peers);
        if self.acknowledge == Acknowledge::Receipt {
            return self.gate.admit(chunk).await;
        }
        let (acknowledgement, receipt) = Acknowledgement::pair();
        chunk.acknowledgement = Some(acknowledgement);
        self.gate.admit(chunk).await?;
        if receipt.await { Ok(()) } else { Err(Refused::NotStored) }
    }
}

impl Intake for Rc<SourcePort> {
    fn opened(&self) {
        self.health.note_opened();
    }

    fn stream(&self, peer: Option<IpAddr>) -> Box<dyn Stream> {
        Box::new(FrameStream {
            port: self.clone(),
            framer: self.framer.build(self.frame_bytes_max),
            peers: peer.map(|peer| (0, peer)).into_iter().collect(),
            buffer: self.gate.buffer(),
            seen: 0,
        })
    }

    fn submit(&self, messages: Messages) -> LocalFuture<'_, Result<(), Refused>> {
        Box::pin(async move {
            let mut frames = Vec::with_capacity(messages.spans.len());
            let mut peers = Vec::with_capacity(messages.peers.len());
            let mut framer = self.framer.build(self.frame_bytes_max);
            let mut next_peer = messages.peers.iter().peekable();
            let mut found = Vec::new();
            for (index, message) in messages.spans.iter().enumerate() {
                if let Some((_, peer)) = next_peer.next_if(|(first, _)| *first as usize == index) {
                    peers.push((frames.len() as u32, *peer));
                }
                self.bytes.add(message.len() as u64);
                let mut at = message.start as usize;
                while at < message.end as usize {
                    found.clear();
                    let split = framer.split(&messages.bytes[at..message.end as usize], true, &mut found);
                    self.cut.add(u64::from(split.cut));
                    frames.extend(found.iter().map(|span| Span::new(span.start as usize + at, span.end as usize + at)));
                    if split.used == 0 {
                        break;
                    }
                    at += split.used;
                }
            }
            self.admit(messages.bytes, frames, peers).await
        })
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.gate.budget.has_room(bytes)
    }

    fn count_refused(&self, reason: &'static str) {
        self.registry.cell(&metrics::REFUSED, &[("component_id", &self.sender.source), ("reason", reason)]).add(1);
    }

    fn count_kernel_drops(&self, count: u64) {
        self.kernel_drops.add(count);
    }
}

struct FrameStream {
    port: Rc<SourcePort>,
    framer: Box<dyn Framer>,
    peers: Vec<(u32, IpAddr)>,
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that were counted before.
    seen: usize,
}

impl FrameStream {
    /// Cuts off what is complete, leaves the rest in the buffer.
    async fn cut(&mut self, end: bool) -> Result<(), Refused> {
        self.port.bytes.add((self.buffer.len() - self.seen) as u64);
        loop {
            let mut frames = Vec::new();
            let split = self.framer.split(&self.buffer, end, &mut frames);
            self.port.cut.add(u64::from(split.cut));
            let mut rest = self.port.gate.buffer();
            rest.extend_from_slice(&self.buffer[split.used..]);
            let mut bytes = std::mem::replace(&mut self.buffer, rest);
            bytes.truncate(split.used);
            self.seen = self.buffer.len();
            self.port.admit(bytes, frames, self.peers.clone()).await?;
            if split.used == 0 || self.buffer.is_empty() || !end {
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
        Box::pin(async move { self.cut(true).await })
    }
}
