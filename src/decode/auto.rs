//! `auto`: which decoder a frame gets, and why.
//!
//! The first of [`DECODERS`] that recognises the frame takes it. A sender keeps to its format as a rule, so the
//! specific format that it used last is asked before the others; the general ones (`json`, `key_value`, `syslog`)
//! only take what nobody else does; `syslog` takes anything. Where the header line of a file is known, that is looked
//! at instead of the frame.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use super::DECODERS;
use crate::event::{Chunk, OriginField};

/// Senders whose last format is remembered; beyond that all are forgotten, which costs a few looks.
const SENDERS_MAX: usize = 4096;

/// Formats that recognise nearly anything: never a first guess.
const GENERAL: [&str; 3] = ["json", "key_value", "syslog"];

/// Chooses decoders. One per shard.
#[derive(Debug, Default)]
pub struct Auto {
    last: HashMap<(u16, Option<IpAddr>), usize, foldhash::fast::RandomState>,
}

impl Auto {
    /// Splits the frames of a chunk into runs of one decoder: ranges of frames and indices into [`DECODERS`],
    /// in order and without gaps. What was in `out` is dropped.
    pub fn split(&mut self, chunk: &Chunk, out: &mut Vec<(Range<usize>, usize)>) {
        out.clear();
        let frames = chunk.frames().len();
        let known = chunk.peers().iter().map(|(first, peer)| (*first as usize, Some(*peer)));
        // Frames in front of the first known sender are of an unknown one.
        let mut changes = known.chain([(frames, None)]);
        let (mut from, mut peer) = (0, None);
        while from < frames {
            let (next, next_peer) = changes.next().unwrap_or((frames, None));
            self.split_sender(chunk, from..next.min(frames), peer, out);
            (from, peer) = (next, next_peer);
        }
    }

    /// Splits the frames of one sender.
    fn split_sender(&mut self, chunk: &Chunk, frames: Range<usize>, peer: Option<IpAddr>, out: &mut Vec<(Range<usize>, usize)>) {
        if frames.is_empty() {
            return;
        }
        let sender = (chunk.sender.source_index, peer);
        let last = self.last.get(&sender).copied();
        let mut guess = last;
        let has_header = chunk.origins().iter().any(|(_, origin)| origin.value(OriginField::Header).is_some());
        for index in frames {
            let header = if has_header { chunk.origin(index).and_then(|origin| origin.value(OriginField::Header)) } else { None };
            let (kind, _) = choose(header.map_or_else(|| chunk.frame(index), str::as_bytes), guess);
            match out.last_mut() {
                Some((run, last)) if *last == kind => run.end = index + 1,
                _ => out.push((index..index + 1, kind)),
            }
            guess = Some(kind);
        }
        if let Some(kind) = guess.filter(|_| guess != last) {
            if self.last.len() >= SENDERS_MAX && last.is_none() {
                self.last.clear();
            }
            self.last.insert(sender, kind);
        }
    }
}

/// The name of the decoder that `auto` gives a frame of an unknown sender, and why.
pub fn explain(frame: &[u8]) -> (&'static str, &'static str) {
    let (kind, why) = choose(frame, None);
    (DECODERS.get(kind).map_or("", |kind| kind.name()), why)
}

fn choose(frame: &[u8], guess: Option<usize>) -> (usize, &'static str) {
    let guessed = guess.and_then(|index| Some((index, DECODERS.get(index)?))).filter(|(_, kind)| !GENERAL.contains(&kind.name()));
    if let Some((index, why)) = guessed.and_then(|(index, kind)| Some((index, kind.sniff(frame)?))) {
        return (index, why);
    }
    let recognised = DECODERS.iter().enumerate().find_map(|(index, kind)| Some((index, kind.sniff(frame)?)));
    // The last of the table takes anything.
    recognised.unwrap_or((DECODERS.len() - 1, "nothing else recognises it"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Auto, DECODERS, SENDERS_MAX, choose, explain};
    use crate::decode::trial::chunk;
    use crate::event::{Origin, OriginField};
    use crate::traffic::{Kind, Traffic};

    fn name(index: usize) -> &'static str {
        DECODERS[index].name()
    }

    #[test]
    fn every_sample_is_given_to_its_own_decoder() {
        for kind in DECODERS {
            let (name, why) = explain(kind.sample().as_bytes());
            assert_eq!(name, kind.name(), "{why}");
            assert!(!why.is_empty());
        }
    }

    #[test]
    fn the_format_that_a_sender_used_last_takes_no_frame_of_another() {
        for kind in DECODERS {
            for guess in 0..=DECODERS.len() {
                let (chosen, _) = choose(kind.sample().as_bytes(), Some(guess));
                assert_eq!(name(chosen), kind.name(), "behind {guess}");
            }
        }
    }

    #[test]
    fn made_traffic_is_recognised_alone_and_behind_any_other() {
        let kinds = [
            (Kind::AwsWaf, "aws_waf"),
            (Kind::AwsVpcFlow, "aws_vpc_flow"),
            (Kind::AwsNetworkFirewall, "aws_network_firewall"),
            (Kind::PaloAlto, "palo_alto"),
        ];
        let mut lines = Vec::new();
        for number in 0..400_usize {
            let (kind, expected) = kinds[number % 4];
            let mut line = Vec::new();
            Traffic::new(kind, number as u64).next(1_795_248_000_000, &mut line);
            assert_eq!(explain(&line).0, expected, "{}", String::from_utf8_lossy(&line));
            lines.push((line, expected));
        }
        let frames: Vec<&[u8]> = lines.iter().map(|(line, _)| line.as_slice()).collect();
        let mut runs = Vec::new();
        Auto::default().split(&chunk(&frames, 1), &mut runs);
        assert_eq!(runs.len(), 400);
        for (range, kind) in runs {
            assert_eq!(name(kind), lines[range.start].1);
        }
    }

    #[test]
    fn frames_of_one_format_are_one_run_and_runs_have_no_gaps() {
        let (json, palo_alto) = (b"{\"a\":1}".as_slice(), DECODERS.iter().find(|kind| kind.name() == "palo_alto").unwrap().sample());
        let frames = [json, json, palo_alto.as_bytes(), palo_alto.as_bytes(), palo_alto.as_bytes(), b" {\"broken"];
        let mut runs = vec![(0..9, 0)];
        Auto::default().split(&chunk(&frames, 1), &mut runs);
        let runs: Vec<_> = runs.into_iter().map(|(range, kind)| (range, name(kind))).collect();
        assert_eq!(runs, [(0..2, "json"), (2..5, "palo_alto"), (5..6, "json")]);
        Auto::default().split(&chunk(&[], 1), &mut Vec::new());
    }

    #[test]
    fn a_general_format_is_never_the_first_guess() {
        let waf = DECODERS.iter().find(|kind| kind.name() == "aws_waf").unwrap().sample();
        let mut auto = Auto::default();
        let mut runs = Vec::new();
        auto.split(&chunk(&[b"{\"a\":1}"], 1), &mut runs);
        auto.split(&chunk(&[waf.as_bytes()], 1), &mut runs);
        assert_eq!(name(runs[0].1), "aws_waf");
    }

    #[test]
    fn frames_of_many_senders_in_one_chunk_are_all_given_out_in_order() {
        let waf = DECODERS.iter().find(|kind| kind.name() == "palo_alto").unwrap().sample().as_bytes();
        let frames = [b"{}".as_slice(), waf, waf, b"{}", waf, b"{}"];
        let peer = |last| std::net::Ipv4Addr::new(10, 0, 0, last).into();
        let mut auto = Auto::default();
        let mut runs = Vec::new();
        for peers in [vec![], vec![(0, peer(1)), (2, peer(2)), (4, peer(1))], vec![(3, peer(1)), (3, peer(2))], vec![(6, peer(1))]] {
            auto.split(&chunk(&frames, 1).with_peers(peers.clone()), &mut runs);
            let runs: Vec<_> = runs.iter().map(|(range, kind)| (range.clone(), name(*kind))).collect();
            let expected = [(0..1, "json"), (1..3, "palo_alto"), (3..4, "json"), (4..5, "palo_alto"), (5..6, "json")];
            assert_eq!(runs, expected, "{peers:?}");
        }
    }

    #[test]
    fn the_header_line_of_a_file_says_what_its_lines_are() {
        let header = Arc::new(Origin::default().with(OriginField::Header, "srcaddr dstaddr bytes"));
        let frames: Vec<&[u8]> = vec![b"10.0.0.1 10.0.0.2 7"; 4];
        let mut runs = Vec::new();
        let chunk = chunk(&frames, 1).with_origins(vec![(1, header), (3, Arc::new(Origin::default()))]);
        Auto::default().split(&chunk, &mut runs);
        let runs: Vec<_> = runs.iter().map(|(range, kind)| (range.clone(), name(*kind))).collect();
        assert_eq!(runs, [(0..1, "syslog"), (1..3, "aws_vpc_flow"), (3..4, "syslog")]);
    }

    #[test]
    fn senders_are_remembered_up_to_a_bound() {
        let mut auto = Auto::default();
        let mut runs = Vec::new();
        for number in 0..SENDERS_MAX as u32 * 2 {
            let peer = std::net::Ipv4Addr::from_bits(number).into();
            auto.split(&chunk(&[b"{}"], 1).with_peers(vec![(0, peer)]), &mut runs);
            assert!(auto.last.len() <= SENDERS_MAX);
        }
        assert!(!auto.last.is_empty());
    }

    #[test]
    fn what_nobody_recognises_still_has_a_decoder() {
        assert_eq!(explain(b"{ no json").0, "syslog");
        for frame in [b"".as_slice(), b"hello", b"\xff\xfe", b"<", b"[1,2]"] {
            let (name, why) = explain(frame);
            assert!(DECODERS.iter().any(|kind| kind.name() == name) && !why.is_empty(), "{frame:?}");
        }
    }
}
