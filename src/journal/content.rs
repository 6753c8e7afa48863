//! Bodies of records: numbers as LEB128 (signed ones zigzag), texts and sets with their length before them.
//!
//! Reading gives `None` for anything that is not as it was written; nothing read here makes more memory than the
//! body is long, but for one bit of a set that is said to be full.

use std::net::IpAddr;
use std::sync::Arc;

use crate::event::{AlertKey, Chunk, Members, Origin, OriginField, Position, Sender, Span};
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_FRAMES_MAX};

/// Flag of a chunk's record: its bytes are an LZ4 block.
pub(super) const LZ4: u8 = 1;

/// Flag of a chunk's record: it counts only if the commit mark of its transaction is there.
pub(super) const IN_TRANSACTION: u8 = 2;

/// Appends numbers, texts and sets.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    /// A number.
    pub(super) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn signed(&mut self, value: i64) {
        self.number((value.wrapping_shl(1) ^ (value >> 63)) as u64);
    }

    fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Bytes with their length.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A position.
    pub(super) fn position(&mut self, position: Position) {
        self.number(position.epoch);
        self.number(position.sequence);
    }

    /// A set of members with its chunk.
    pub(super) fn members(&mut self, members: &Members) {
        self.position(members.chunk);
        let full = 64 * members.bits.len();
        // Most sets have every event of the chunk: the last word has its lowest bits, all others have all.
        let is_prefix = (0..members.count as usize).step_by(64).all(|at| {
            let left = members.count as usize - at;
            let word = members.bits.get(at / 64).copied().unwrap_or(0);
            word == if left >= 64 { u64::MAX } else { (1 << left) - 1 }
        });
        self.number(full as u64);
        self.number(u64::from(members.count) << 1 | u64::from(is_prefix));
        if !is_prefix {
            members.bits.iter().for_each(|word| self.fixed(&word.to_le_bytes()));
        }
        self.number(members.alerts.len() as u64);
        for alert in &members.alerts {
            self.number(u64::from(alert.frame));
            self.fixed(&alert.rule.to_le_bytes());
        }
    }

    /// A batch's id.
    pub(super) fn id(&mut self, id: u128) {
        self.fixed(&id.to_le_bytes());
    }

    /// A time.
    pub(super) fn time(&mut self, ms: i64) {
        self.signed(ms);
    }
}

/// Reads what [`Writer`] wrote.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.number()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A number of things that have at least one byte each.
    pub(super) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.number()?).ok()?;
        (count <= self.0.len()).then_some(count)
    }

    fn long(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// Bytes with their length.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.count()?;
        self.take(count)
    }

    /// A text.
    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// A position.
    pub(super) fn position(&mut self) -> Option<Position> {
        Some(Position { epoch: self.number()?, sequence: self.number()? })
    }

    /// A set of members with its chunk.
    pub(super) fn members(&mut self) -> Option<Members> {
        let chunk = self.position()?;
        let full = usize::try_from(self.number()?).ok().filter(|full| *full <= CHUNK_FRAMES_MAX + 64)?;
        let counted = self.number()?;
        let (count, is_prefix) = (usize::try_from(counted >> 1).ok()?, counted & 1 == 1);
        let mut members = Members::first(chunk, full, if is_prefix { count.min(full) } else { 0 });
        if !is_prefix {
            for word in &mut members.bits {
                *word = self.long()?;
                members.count += word.count_ones();
            }
        }
        (members.count as usize == count).then_some(())?;
        for _ in 0..self.count()? {
            members.alerts.push(AlertKey { frame: u32::try_from(self.number()?).ok()?, rule: self.long()? });
        }
        Some(members)
    }

    /// A batch's id.
    pub(super) fn id(&mut self) -> Option<u128> {
        Some(u128::from_le_bytes(self.take(16)?.try_into().ok()?))
    }

    /// A time.
    pub(super) fn time(&mut self) -> Option<i64> {
        self.signed()
    }
}

/// The body of a chunk's record, and its flags. Compressed if `compress` and that makes it smaller.
pub(super) fn write_chunk(chunk: &Chunk, compress: bool) -> (Vec<u8>, u8) {
    let last = chunk.frames().iter().map(|span| span.end as usize).max().unwrap_or(0);
    // The padding is not stored.
    let bytes = chunk.bytes().get(..last).unwrap_or_default();
    let mut out = Writer(Vec::with_capacity(bytes.len() + 4 * chunk.frames().len() + 256));
    out.bytes(chunk.sender.source.as_bytes());
    out.time(chunk.received_ms);
    out.number(chunk.frames().len() as u64);
    let mut end = 0;
    for span in chunk.frames() {
        out.signed(i64::from(span.start) - end);
        out.number(span.len() as u64);
        end = i64::from(span.end);
    }
    out.number(chunk.peers().len() as u64);
    for (first, peer) in chunk.peers() {
        out.number(u64::from(*first));
        match peer {
            IpAddr::V4(address) => out.bytes(&address.octets()),
            IpAddr::V6(address) => out.bytes(&address.octets()),
        }
    }
    out.number(chunk.times().len() as u64);
    for (first, time) in chunk.times() {
        out.number(u64::from(*first));
        out.number(u64::from(time.is_some()));
        out.signed(time.unwrap_or(0));
    }
    out.number(chunk.origins().len() as u64);
    for (first, origin) in chunk.origins() {
        out.number(u64::from(*first));
        let known = || OriginField::ALL.into_iter().filter_map(|field| Some((field, origin.value(field)?)));
        out.number(known().count() as u64);
        for (field, value) in known() {
            out.bytes(field.name().as_bytes());
            out.bytes(value.as_bytes());
        }
    }
    out.number(bytes.len() as u64);
    if compress {
        let start = out.0.len();
        out.0.resize(start + lz4_flex::block::get_maximum_output_size(bytes.len()), 0);
        if let Some(length) = lz4_flex::block::compress_into(bytes, &mut out.0[start..]).ok().filter(|length| *length < bytes.len()) {
            out.0.truncate(start + length);
            return (out.0, LZ4);
        }
        out.0.truncate(start);
    }
    out.fixed(bytes);
    (out.0, 0)
}

/// The chunk of a record; `None` if the body is not one, which a CRC that fits makes a defect of ours.
pub(super) fn read_chunk(body: &[u8], flags: u8, position: Position, sender: impl FnOnce(&str) -> Arc<Sender>) -> Option<Chunk> {
    let mut read = Reader(body);
    let source = read.text()?;
    let received_ms = read.time()?;
    let mut frames = Vec::new();
    let mut end = 0;
    for _ in 0..read.count()? {
        let start = read.signed()?.checked_add(end)?;
        end = start.checked_add(i64::try_from(read.number()?).ok()?)?;
        let is_inside = (0..=end).contains(&start) && end <= CHUNK_BYTES_MAX as i64;
        frames.push(is_inside.then(|| Span::new(start as usize, end as usize))?);
    }
    let mut peers = Vec::new();
    for _ in 0..read.count()? {
        let first = u32::try_from(read.number()?).ok()?;
        let bytes = read.bytes()?;
        let peer = <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()?;
        peers.push((first, peer));
    }
    let mut times = Vec::new();
    for _ in 0..read.count()? {
        let first = u32::try_from(read.number()?).ok()?;
        let is_known = read.number()? != 0;
        let time = read.signed()?;
        times.push((first, is_known.then_some(time)));
    }
    let mut origins = Vec::new();
    for _ in 0..read.count()? {
        let first = u32::try_from(read.number()?).ok()?;
        let mut origin = Origin::default();
        for _ in 0..read.count()? {
            let (name, value) = (read.text()?, read.text()?);
            if let Some(field) = OriginField::ALL.into_iter().find(|field| field.name() == name) {
                origin = origin.with(field, value);
            }
        }
        origins.push((first, Arc::new(origin)));
    }
    let length = usize::try_from(read.number()?).ok().filter(|length| *length <= CHUNK_BYTES_MAX)?;
    let bytes = if flags & LZ4 == 0 { read.0.to_vec() } else { lz4_flex::block::decompress(read.0, length).ok()? };
    let is_whole = bytes.len() == length && frames.iter().all(|frame| frame.end as usize <= length);
    let chunk = is_whole.then(|| Chunk::new(bytes, frames, sender(source), received_ms))?;
    let mut chunk = chunk.with_peers(peers).with_origins(origins).with_times(times);
    chunk.position = position;
    Some(chunk)
}

/// The source, the time of arrival and the number of frames of a chunk's record, without its bytes.
pub(super) fn peek_chunk(body: &[u8]) -> Option<(&str, i64, usize)> {
    let mut read = Reader(body);
    Some((read.text()?, read.time()?, read.count()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(source: &str) -> Arc<Sender> {
        Arc::new(Sender { source: source.into(), source_index: 0 })
    }

    fn chunk() -> Chunk {
        let text = "alpha\nbeta beta beta beta beta beta beta beta beta beta beta beta\n\ngamma";
        let frames = vec![Span::new(0, 5), Span::new(6, 66), Span::new(68, 73)];
        let origin = Origin::default().with(OriginField::Path, "/var/log/a").with(OriginField::Account, "1");
        let mut chunk = Chunk::new(text.into(), frames, sender("fw"), 1_795_240_800_123)
            .with_peers(vec![(0, [192, 0, 2, 7].into()), (2, "2001:db8::1".parse().unwrap())])
            .with_times(vec![(0, None), (1, Some(-5))])
            .with_origins(vec![(1, Arc::new(origin))]);
        chunk.position = Position { epoch: 9, sequence: 41 };
        chunk
    }

    #[test]
    fn a_chunk_comes_back_with_everything_that_is_known_of_it() {
        let chunk = chunk();
        for compress in [false, true] {
            let (body, flags) = write_chunk(&chunk, compress);
            assert_eq!(flags, if compress { LZ4 } else { 0 });
            assert_eq!(peek_chunk(&body), Some(("fw", chunk.received_ms, 3)));
            let back = read_chunk(&body, flags, chunk.position, sender).unwrap();
            assert_eq!(format!("{:?}", (back.frames(), back.peers(), back.times(), back.origins(), back.received_ms, back.position)), {
                format!("{:?}", (chunk.frames(), chunk.peers(), chunk.times(), chunk.origins(), chunk.received_ms, chunk.position))
            });
            assert!((0..3).all(|frame| back.frame(frame) == chunk.frame(frame)));
        }
    }

    #[test]
    fn cut_and_changed_bodies_are_refused_or_read_and_never_worse() {
        for compress in [false, true] {
            let (body, flags) = write_chunk(&chunk(), compress);
            for cut in 0..body.len() {
                assert!(read_chunk(&body[..cut], flags, Position::default(), sender).is_none(), "{cut}");
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut changed = body.clone();
                    changed[cut] = value;
                    // Whatever it says, it is inside its own bytes.
                    if let Some(chunk) = read_chunk(&changed, flags, Position::default(), sender) {
                        (0..chunk.frames().len()).for_each(|frame| assert!(chunk.frame(frame).len() <= 200));
                    }
                }
            }
        }
    }

    #[test]
    fn sets_come_back_full_or_in_part() {
        for (frames, wanted) in
            [(0, vec![]), (1, vec![0]), (64, (0..64).collect()), (65, (0..65).collect()), (700, vec![1, 5, 699]), (70, vec![0, 1])]
        {
            let mut members = Members::none(Position { epoch: 2, sequence: 3 }, frames);
            wanted.iter().for_each(|frame| members.insert(*frame));
            members.alerts.push(AlertKey { frame: 1, rule: u64::MAX });
            let mut out = Writer::default();
            out.members(&members);
            assert_eq!(Reader(&out.0).members(), Some(members));
            (0..out.0.len()).for_each(|cut| assert!(Reader(&out.0[..cut]).members().is_none()));
        }
    }
}
