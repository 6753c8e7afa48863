//! The sources: `sources` of the configuration, each with its line.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::lines::{Compiler, Dialect, Line};
use super::unknown_name;
use crate::config::{ByteSize, Interval, Section};
use crate::decode::{DECODERS, DecoderKind, Options};
use crate::error::Diagnostics;
use crate::frame::{self, FRAMERS, FramerKind};
use crate::limits::{FRAME_BYTES_MAX, FRAME_BYTES_MAX_RANGE};
use crate::net::listen::{Address, Transport};
use crate::source::{SOURCES, Source};
use crate::unwrap::{Layer, Layers};

/// A source and its line.
pub struct SourcePlan {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Its `type`.
    pub kind: &'static str,
    /// The source.
    pub source: Arc<dyn Source>,
    /// Envelopes that are taken off its messages.
    pub unwrap: Layers,
    /// How its bytes become frames.
    pub framer: &'static dyn FramerKind,
    /// Whether the configuration names the framer; what a request says itself then does not count.
    pub framer_is_configured: bool,
    /// Longest frame.
    pub frame_bytes_max: usize,
    /// When its sender is told that an event has arrived.
    pub acknowledge: Acknowledge,
    /// Whether its senders are judged.
    pub has_health: bool,
    /// What happens to its events.
    pub line: Line,
}

/// When a sender is told that an event has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Acknowledge {
    /// When every destination has it.
    Delivery,
    /// When the journal has it.
    #[default]
    Receipt,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::pipeline) struct SourceCommon {
    /// The format of its frames.
    decoder: Option<String>,
    /// How its bytes become frames.
    framing: Option<String>,
    /// Envelopes that are taken off whole messages (request bodies, records, datagrams).
    unwrap: Option<Vec<Layer>>,
    /// Longest frame; longer ones are cut and counted.
    frame_bytes_max: Option<ByteSize>,
    /// Offset from UTC of times that do not say theirs, such as `+02:00`.
    utc_offset: Option<String>,
    /// Columns of `aws_vpc_flow`: the names of its fields in their order, as in a header line.
    vpc_flow_format: Option<String>,
    /// When the sender is told that an event has arrived.
    #[serde(default)]
    acknowledge: Acknowledge,
    /// How much later than their time its events may come and still count for correlations.
    lateness: Option<Interval>,
    /// Whether there are alerts about its senders.
    #[serde(default = "default_source_health")]
    source_health: bool,
}

fn default_source_health() -> bool {
    true
}

const SOURCE_KEYS: &[&str] =
    &["decoder", "framing", "unwrap", "frame_bytes_max", "utc_offset", "vpc_flow_format", "acknowledge", "lateness", "source_health"];

pub(super) fn read(root: &Section, compiler: &mut Compiler<'_>) -> Vec<SourcePlan> {
    let Some(section) = root.child("sources").filter(|section| !section.node().entries().is_empty()) else {
        compiler
            .diagnostics
            .push(root.error("there are no `sources`").help("sources: { firewalls: { type: syslog, listen: \"0.0.0.0:5514\" } }"));
        return Vec::new();
    };
    let mut sources = Vec::new();
    for (name, section) in section.children() {
        if name.starts_with('%') {
            compiler.diagnostics.push(section.error("the name of a source does not begin with `%`"));
        }
        let Some(kind) = compiler.diagnostics.absorb(section.component(SOURCES, |kind| kind.name())) else { continue };
        let mut component_keys = vec!["type"];
        component_keys.extend_from_slice(SOURCE_KEYS);
        let source = compiler.diagnostics.absorb(kind.read(&section.without(&component_keys)));
        let own: Vec<&str> =
            section.node().entries().iter().filter_map(|(key, _)| key.text()).filter(|key| !SOURCE_KEYS.contains(key)).collect();
        let common = compiler.diagnostics.absorb(section.without(&own).read::<SourceCommon>());
        let (Some(source), Some(common)) = (source, common) else { continue };
        sources.extend(source_plan(name, kind.name(), &section, source, &common, compiler));
    }
    sources
}

fn source_plan(
    name: String,
    kind: &'static str,
    section: &Section,
    source: Arc<dyn Source>,
    common: &SourceCommon,
    compiler: &mut Compiler<'_>,
) -> Option<SourcePlan> {
    let place = |key: &str| section.child(key).unwrap_or_else(|| section.clone());
    let framing = common.framing.as_deref().unwrap_or_else(|| source.framing());
    let framer = frame::find(framing).or_else(|| {
        let names: Vec<&str> = FRAMERS.iter().map(|kind| kind.name()).collect();
        compiler.diagnostics.push(unknown_name(&place("framing"), "framing", framing, &names));
        None
    });
    let offset_ms = match common.utc_offset.as_deref().map(utc_offset_ms) {
        None => 0,
        Some(Some(offset)) => offset,
        Some(None) => {
            compiler.diagnostics.push(place("utc_offset").error("expected an offset such as `+02:00`"));
            0
        }
    };
    let frame_bytes_max = common.frame_bytes_max.map_or(FRAME_BYTES_MAX, |size| size.0);
    if !FRAME_BYTES_MAX_RANGE.contains(&frame_bytes_max) {
        let [least, most] = [FRAME_BYTES_MAX_RANGE.start(), FRAME_BYTES_MAX_RANGE.end()].map(|bytes| ByteSize(*bytes));
        compiler
            .diagnostics
            .push(place("frame_bytes_max").error(format!("expected {least} to {most}, found {}", ByteSize(frame_bytes_max))));
    }
    let decoder = common.decoder.as_deref().unwrap_or_else(|| source.decoder());
    let kinds: Vec<&'static dyn DecoderKind> = match decoder {
        "auto" => DECODERS.to_vec(),
        name => DECODERS.iter().filter(|kind| kind.name() == name).copied().collect(),
    };
    if kinds.is_empty() {
        let names: Vec<&str> = DECODERS.iter().map(|kind| kind.name()).chain(["auto"]).collect();
        compiler.diagnostics.push(unknown_name(&place("decoder"), "decoder", decoder, &names));
    }
    compiler.collected.begin_source(&name, common.lateness, source.delay(), &place("lateness"), &mut compiler.diagnostics);
    let options = Options { vpc_flow_format: common.vpc_flow_format.clone() };
    if let Some(mistake) = mistake(&options, &kinds) {
        compiler.diagnostics.push(place("vpc_flow_format").error(mistake));
        return None;
    }
    let mut line = compiler.line(section, &name, &kinds, &Dialect { offset_ms, options });
    line.iter_mut().for_each(|line| line.is_auto = decoder == "auto");
    let unwrap = match &common.unwrap {
        Some(layers) => layers.iter().copied().collect(),
        None => source.unwrap().iter().filter_map(|name| Layer::find(name)).collect(),
    };
    Some(SourcePlan {
        name: name.into(),
        kind,
        source,
        unwrap,
        framer: framer?,
        framer_is_configured: common.framing.is_some(),
        frame_bytes_max,
        acknowledge: common.acknowledge,
        has_health: common.source_health,
        line: line?,
    })
}

/// What is wrong with the options of a source, for its decoders.
fn mistake(options: &Options, kinds: &[&'static dyn DecoderKind]) -> Option<String> {
    if options.vpc_flow_format.is_some() && !kinds.iter().any(|kind| kind.name() == "aws_vpc_flow") {
        return Some("only the decoder `aws_vpc_flow` reads this".to_owned());
    }
    kinds.iter().find_map(|kind| kind.check(options).err())
}

fn utc_offset_ms(text: &str) -> Option<i64> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..=14).contains(&hours) && (0..60).contains(&minutes)).then_some(sign * (hours * 60 + minutes) * 60_000)
}

/// Two sources on one port.
pub(super) fn check_listeners(root: &Section, sources: &[SourcePlan], diagnostics: &mut Diagnostics) {
    let mut seen: Vec<(&SourcePlan, Address)> = Vec::new();
    for source in sources {
        for address in source.source.listens_on() {
            if let Some((other, _)) = seen.iter().find(|(_, other)| collide(&address, other)) {
                let place = root.child("sources").and_then(|sources| sources.child(&source.name)).and_then(|source| source.child("listen"));
                let message = format!("source `{}` listens here already", other.name);
                diagnostics.push(place.unwrap_or_else(|| root.clone()).error(message));
            }
            seen.push((source, address));
        }
    }
}

fn collide(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Ip { socket: a, transport: s }, Address::Ip { socket: b, transport: t }) => {
            let is_any = |ip: IpAddr| ip.is_unspecified();
            let same_ip = a.ip() == b.ip() || is_any(a.ip()) || is_any(b.ip());
            let same_transport = *s == Transport::Any || *t == Transport::Any || s == t;
            a.port() == b.port() && a.port() != 0 && same_ip && same_transport
        }
        _ => a == b,
    }
}
