//! Frames on their way to becoming chunks: `bytes + spans + runs of peers, origins, times`.
//!
//! Runs are pairs of the first frame that they hold for and the value; they are moved when frames are counted anew,
//! and cut or joined with them.

use std::net::IpAddr;
use std::sync::Arc;

use crate::event::{Origin, Span};
use crate::limits::{CHUNK_FRAMES_MAX, CHUNK_TARGET_BYTES};

/// Frames of some bytes with what is known of them.
#[derive(Default)]
pub(super) struct Framed {
    /// What the frames are spans of.
    pub(super) bytes: Vec<u8>,
    /// The frames, in the order of the bytes.
    pub(super) frames: Vec<Span>,
    /// Who sent them.
    pub(super) peers: Vec<(u32, IpAddr)>,
    /// Where they come from besides.
    pub(super) origins: Vec<(u32, Arc<Origin>)>,
    /// When they happened, ms since 1970 UTC, where the envelope says so.
    pub(super) times: Vec<(u32, Option<i64>)>,
    /// Messages that they came in.
    pub(super) messages: usize,
    /// Frames that were cut.
    pub(super) cut: u64,
}

impl Framed {
    /// Whether frames of other connections may stand beside these: a run has a beginning and no end, so all of them
    /// need a peer, and none anything else.
    pub(super) fn is_joinable(&self) -> bool {
        !self.peers.is_empty() && self.origins.is_empty() && self.times.is_empty()
    }

    /// Appends frames; both are joinable.
    pub(super) fn join(&mut self, other: &Self) {
        let (base, first) = (self.bytes.len() as u32, self.frames.len() as u32);
        self.messages += other.messages;
        self.cut += other.cut;
        self.bytes.extend_from_slice(&other.bytes);
        self.frames.extend(other.frames.iter().map(|span| Span { start: span.start + base, end: span.end + base }));
        for (frame, peer) in &other.peers {
            if self.peers.last().is_none_or(|(_, last)| last != peer) {
                self.peers.push((first + frame, *peer));
            }
        }
    }
}

/// The same runs, counted in what came of the messages: `first` says for each how much came before it.
pub(super) fn moved<T: Clone>(runs: &[(u32, T)], first: &[u32]) -> Vec<(u32, T)> {
    let at = |message: u32| first.get(message as usize).copied();
    runs.iter().filter_map(|(message, value)| Some((at(*message)?, value.clone()))).collect()
}

/// The part of runs that covers `frames`, counted from its beginning.
pub(super) fn part<T: Clone>(runs: &[(u32, T)], frames: &std::ops::Range<usize>) -> Vec<(u32, T)> {
    let inside = runs.partition_point(|(first, _)| (*first as usize) <= frames.start);
    let before = inside.checked_sub(1).map(|index| (0, runs[index].1.clone()));
    let rest = runs[inside..].iter().take_while(|(first, _)| (*first as usize) < frames.end);
    before.into_iter().chain(rest.map(|(first, value)| (first - frames.start as u32, value.clone()))).collect()
}

/// Ranges of frames that are about a chunk each; a little more stays one chunk, because cutting copies.
pub(super) fn ranges(framed: &Framed) -> Vec<std::ops::Range<usize>> {
    let frames = &framed.frames;
    if framed.bytes.len() <= 2 * CHUNK_TARGET_BYTES && frames.len() <= CHUNK_FRAMES_MAX {
        return std::iter::once(0..frames.len()).collect();
    }
    let mut ranges = Vec::new();
    let mut start = 0;
    for (index, frame) in frames.iter().enumerate() {
        let is_full = frame.end - frames[start].start > CHUNK_TARGET_BYTES as u32 || index - start == CHUNK_FRAMES_MAX;
        if is_full && index > start {
            ranges.push(start..index);
            start = index;
        }
    }
    ranges.push(start..frames.len());
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(peer: [u8; 4], lines: &[&str]) -> Framed {
        let mut framed = Framed { peers: vec![(0, IpAddr::from(peer))], ..Framed::default() };
        for line in lines {
            framed.frames.push(Span::new(framed.bytes.len(), framed.bytes.len() + line.len()));
            framed.bytes.extend_from_slice(line.as_bytes());
        }
        framed
    }

    #[test]
    fn joined_frames_keep_their_bytes_and_their_peers() {
        let mut all = framed([10, 0, 0, 1], &["a", "bc"]);
        for (peer, lines) in [([10, 0, 0, 1], &["d"][..]), ([10, 0, 0, 2], &["", "ef"]), ([10, 0, 0, 1], &["g"])] {
            all.join(&framed(peer, lines));
        }
        let lines: Vec<&[u8]> = all.frames.iter().map(|span| &all.bytes[span.start as usize..span.end as usize]).collect();
        assert_eq!(lines, [&b"a"[..], b"bc", b"d", b"", b"ef", b"g"]);
        assert_eq!(
            all.peers,
            [(0, [10, 0, 0, 1]), (3, [10, 0, 0, 2]), (5, [10, 0, 0, 1])].map(|(first, peer)| (first, IpAddr::from(peer)))
        );
    }

    #[test]
    fn what_has_no_peer_or_an_origin_stands_alone() {
        assert!(framed([10, 0, 0, 1], &["a"]).is_joinable());
        assert!(!Framed { peers: Vec::new(), ..framed([10, 0, 0, 1], &["a"]) }.is_joinable());
        assert!(!Framed { times: vec![(0, Some(5))], ..framed([10, 0, 0, 1], &["a"]) }.is_joinable());
    }
}
