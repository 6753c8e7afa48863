//! Decompression with a cap on what comes out.
//!
//! In: gzip (RFC 1952, also several members in a row), zlib or raw deflate (RFC 1950, 1951), zstd (RFC 8878,
//! also several frames), whole or in pieces. Out: the plain bytes, at most `limit` of them, or an
//! [`InflateError`].
//!
//! A few kilobytes can ask for gigabytes, so the output grows with what has been produced and never past the
//! limit, and a zstd frame that wants a window over 8 MiB is refused (RFC 9659). What senders get wrong:
//! `deflate` sent without the zlib header (accepted), zeros behind the last gzip member as tape tools pad
//! (accepted), cut bodies (refused: [`InflateError::Corrupt`]). No input at all is no output, whatever the
//! encoding. Dictionaries, `br`, `lz4` and `snappy` are not supported.

use std::cell::RefCell;
use std::fmt;
use std::ptr::NonNull;

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use crate::limits::ZSTD_WINDOW_LOG_MAX;

/// First size of the output; small bodies need no second allocation.
const OUTPUT_START_BYTES: usize = 16 * 1024;

/// Members of one gzip input. Each costs about a microsecond to set up, so that 20-byte members cannot be
/// used to burn CPU; block gzip has one per 64 KiB.
const GZIP_MEMBERS_MAX: usize = 65_536;

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
    /// zlib, or deflate without a header.
    Deflate,
    /// Zstandard.
    Zstd,
}

impl Encoding {
    /// The meaning of a `Content-Encoding` value with one encoding; `None` if it is not supported.
    pub fn from_content_encoding(value: &str) -> Option<Self> {
        let names = [
            ("identity", Self::Identity),
            ("", Self::Identity),
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("deflate", Self::Deflate),
            ("zstd", Self::Zstd),
        ];
        names.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(value.trim())).map(|(_, encoding)| encoding)
    }

    /// What the first bytes say. zlib is not guessed: `x` and a byte is also how text can start.
    pub fn detect(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Identity,
        }
    }
}

/// Why there is no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// More than `limit` bytes come out.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// Not of this encoding, damaged, or cut.
    Corrupt,
    /// A zstd frame wants a larger window than we give.
    Window,
}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => write!(f, "more than {limit} bytes after decompression"),
            Self::Corrupt => write!(f, "the compressed data is damaged or cut"),
            Self::Window => write!(f, "the zstd window is larger than {} bytes", 1u64 << ZSTD_WINDOW_LOG_MAX),
        }
    }
}

impl std::error::Error for InflateError {}

/// Decompresses `input` whole. For gzip this is more than twice as fast as in pieces.
///
/// # Errors
/// See [`InflateError`].
pub fn inflate(encoding: Encoding, input: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    if encoding == Encoding::Gzip
        && let Some(output) = MEMBERS.with_borrow_mut(|members| members.as_mut()?.inflate(input, limit))
    {
        return Ok(output);
    }
    let mut inflater = Inflater::new(encoding, limit);
    inflater.push(input)?;
    inflater.finish()
}

/// Deflate cannot do better than 258 bytes for 2 bits.
pub const DEFLATE_RATIO_MAX: usize = 1032;

/// Bytes of the shortest gzip member: header 10, an empty block 2, trailer 8.
const MEMBER_BYTES_MIN: usize = 20;

/// Header and trailer of a gzip member say how long the output is, so libdeflate can write it at once: for a
/// record of 2.5 KB 11 us instead of 27, for a body of 1 MB 2.3 ms instead of 6.3 (same machine, same run).
/// The safe wrapper does not tell how much input was used and so ignores every member but the first; hence the
/// C function. Whatever is out of the ordinary is left to the slow path, which also decides what is an error.
struct Members(NonNull<libdeflate_sys::libdeflate_decompressor>);

thread_local! {
    /// Nothing if there was no memory for it.
    static MEMBERS: RefCell<Option<Members>> = RefCell::new(Members::new());
}

impl Members {
    fn new() -> Option<Self> {
        // SAFETY: takes nothing, gives a new object or null.
        NonNull::new(unsafe { libdeflate_sys::libdeflate_alloc_decompressor() }).map(Self)
    }

    /// The output of an input that is exactly one member and fits the limit.
    fn inflate(&mut self, input: &[u8], limit: usize) -> Option<Vec<u8>> {
        let size = u32::from_le_bytes(*input.last_chunk::<4>()?) as usize;
        if input.len() < MEMBER_BYTES_MIN || size == 0 || size > limit || size > input.len().saturating_mul(DEFLATE_RATIO_MAX) {
            return None;
        }
        let mut output = vec![0; size];
        let (mut used, mut written) = (0, 0);
        // SAFETY: the object is ours and alive, `&mut self` keeps others away; both buffers are passed with
        // their true lengths, and the two counters are plain words that live until the call returns.
        let result = unsafe {
            libdeflate_sys::libdeflate_gzip_decompress_ex(
                self.0.as_ptr(),
                input.as_ptr().cast(),
                input.len(),
                output.as_mut_ptr().cast(),
                output.len(),
                &raw mut used,
                &raw mut written,
            )
        };
        let is_whole = result == libdeflate_sys::libdeflate_result_LIBDEFLATE_SUCCESS && used == input.len() && written == size;
        is_whole.then_some(output)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        // SAFETY: the object came from the matching function and is not used afterwards.
        unsafe { libdeflate_sys::libdeflate_free_decompressor(self.0.as_ptr()) }
    }
}

/// Decompresses piece by piece.
pub struct Inflater {
    state: State,
    output: Vec<u8>,
    limit: usize,
    started: bool,
}

enum State {
    Identity,
    Gzip {
        inflate: Decompress,
        members: usize,
        between: bool,
    },
    /// The encoding `deflate` before the two bytes that tell zlib from raw.
    DeflateStart(Vec<u8>),
    Deflate {
        inflate: Decompress,
        ended: bool,
    },
    Zstd {
        decoder: Decoder<'static>,
        between: bool,
    },
    /// The decoder could not be set up (out of memory).
    Broken,
}

const WINDOW_BITS: u8 = 15;

impl Inflater {
    /// For output of at most `limit` bytes.
    pub fn new(encoding: Encoding, limit: usize) -> Self {
        let state = match encoding {
            Encoding::Identity => State::Identity,
            Encoding::Gzip => State::Gzip { inflate: Decompress::new_gzip(WINDOW_BITS), members: 1, between: false },
            Encoding::Deflate => State::DeflateStart(Vec::new()),
            Encoding::Zstd => match zstd_decoder() {
                Ok(decoder) => State::Zstd { decoder, between: true },
                Err(_) => State::Broken,
            },
        };
        Self { state, output: Vec::new(), limit, started: false }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// See [`InflateError`]; the inflater is of no use afterwards.
    pub fn push(&mut self, input: &[u8]) -> Result<(), InflateError> {
        if input.is_empty() {
            return Ok(());
        }
        self.started = true;
        let limit = self.limit;
        match &mut self.state {
            State::Identity => {
                self.output.extend_from_slice(input);
                check(&self.output, limit)
            }
            State::Gzip { inflate, members, between } => push_gzip(inflate, members, between, input, &mut self.output, limit),
            State::DeflateStart(head) => {
                head.extend_from_slice(input);
                let &[method, flags, ..] = head.as_slice() else { return Ok(()) };
                let is_zlib = method & 0x0f == 8 && (u16::from(method) << 8 | u16::from(flags)) % 31 == 0;
                let head = std::mem::take(head);
                self.state = State::Deflate { inflate: Decompress::new(is_zlib), ended: false };
                self.push(&head)
            }
            State::Deflate { ended: true, .. } | State::Broken => Err(InflateError::Corrupt),
            State::Deflate { inflate, ended } => {
                let (used, end) = run(inflate, input, &mut self.output, limit)?;
                *ended = end;
                if used == input.len() { Ok(()) } else { Err(InflateError::Corrupt) }
            }
            State::Zstd { decoder, between } => push_zstd(decoder, between, input, &mut self.output, limit),
        }
    }

    /// Bytes that have come out so far.
    pub fn output_bytes(&self) -> usize {
        self.output.len()
    }

    /// The output.
    ///
    /// # Errors
    /// [`InflateError::Corrupt`] if the input ended too early.
    pub fn finish(self) -> Result<Vec<u8>, InflateError> {
        let complete = match self.state {
            State::Identity => true,
            State::Gzip { between, .. } | State::Zstd { between, .. } => between || !self.started,
            State::Deflate { ended, .. } => ended,
            State::DeflateStart(_) | State::Broken => !self.started,
        };
        if complete { Ok(self.output) } else { Err(InflateError::Corrupt) }
    }
}

fn zstd_decoder() -> std::io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
    Ok(decoder)
}

fn check(output: &[u8], limit: usize) -> Result<(), InflateError> {
    if output.len() > limit { Err(InflateError::TooLarge { limit }) } else { Ok(()) }
}

/// Makes room for more output. One byte more than the limit is allowed for: whether it gets filled tells a
/// stream that just fits from one that does not.
fn grow(output: &mut Vec<u8>, limit: usize) {
    if output.len() == output.capacity() {
        let room = limit.saturating_add(1).saturating_sub(output.len());
        output.reserve_exact(output.len().max(OUTPUT_START_BYTES).min(room));
    }
}

/// Feeds `input` until it is used up or the stream ends. Gives the bytes used and whether it ended.
fn run(inflate: &mut Decompress, input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<(usize, bool), InflateError> {
    let mut rest = input;
    loop {
        grow(output, limit);
        let (before_in, before_out) = (inflate.total_in(), output.len());
        let status = inflate.decompress_vec(rest, output, FlushDecompress::None).map_err(|_| InflateError::Corrupt)?;
        let used = (inflate.total_in() - before_in) as usize;
        rest = rest.get(used..).unwrap_or_default();
        check(output, limit)?;
        if status == Status::StreamEnd {
            return Ok((input.len() - rest.len(), true));
        }
        let is_full = output.len() == output.capacity();
        if rest.is_empty() && !is_full {
            return Ok((input.len(), false));
        }
        if used == 0 && output.len() == before_out && !is_full {
            return Err(InflateError::Corrupt);
        }
    }
}

fn push_gzip(
    inflate: &mut Decompress,
    members: &mut usize,
    between: &mut bool,
    input: &[u8],
    output: &mut Vec<u8>,
    limit: usize,
) -> Result<(), InflateError> {
    let mut rest = input;
    while let Some(&first) = rest.first() {
        if *between {
            if first == 0 {
                // Padding. A member cannot start with a zero, so one behind it fails below.
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            if first != 0x1f || *members == GZIP_MEMBERS_MAX {
                return Err(InflateError::Corrupt);
            }
            *members += 1;
            *inflate = Decompress::new_gzip(WINDOW_BITS);
            *between = false;
        }
        let (used, ended) = run(inflate, rest, output, limit)?;
        rest = rest.get(used..).unwrap_or_default();
        *between = ended;
    }
    Ok(())
}

fn push_zstd(
    decoder: &mut Decoder<'static>,
    between: &mut bool,
    input: &[u8],
    output: &mut Vec<u8>,
    limit: usize,
) -> Result<(), InflateError> {
    let mut source = InBuffer::around(input);
    loop {
        grow(output, limit);
        let start = output.len();
        let mut sink = OutBuffer::around_pos(output, start);
        let hint = decoder.run(&mut source, &mut sink).map_err(|error| {
            // libzstd has a code for this case, but the safe wrapper passes on only its text.
            if error.to_string().contains("requires too much memory") { InflateError::Window } else { InflateError::Corrupt }
        })?;
        check(output, limit)?;
        *between = hint == 0;
        if source.pos() == input.len() && (hint == 0 || output.len() < output.capacity()) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(plain: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(plain: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::encode_all(plain, 1).unwrap()
    }

    fn all(plain: &[u8]) -> [(Encoding, Vec<u8>); 5] {
        [
            (Encoding::Identity, plain.to_vec()),
            (Encoding::Gzip, gzip(plain)),
            (Encoding::Deflate, zlib(plain)),
            (Encoding::Deflate, raw(plain)),
            (Encoding::Zstd, zstd(plain)),
        ]
    }

    #[test]
    fn the_limit_is_exact_for_every_encoding() {
        for size in [0, 1, OUTPUT_START_BYTES, OUTPUT_START_BYTES + 1, 300_000] {
            let plain: Vec<u8> = (0..size).map(|i| (i * i / 7) as u8).collect();
            for (encoding, packed) in all(&plain) {
                assert_eq!(inflate(encoding, &packed, size).as_deref(), Ok(&plain[..]), "{encoding:?} {size}");
                if size > 0 {
                    assert_eq!(inflate(encoding, &packed, size - 1), Err(InflateError::TooLarge { limit: size - 1 }), "{encoding:?}");
                }
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit_without_the_memory() {
        let plain = vec![0; 64 << 20];
        for (encoding, packed) in all(&plain).into_iter().skip(1) {
            let mut inflater = Inflater::new(encoding, LIMIT);
            assert_eq!(inflater.push(&packed), Err(InflateError::TooLarge { limit: LIMIT }), "{encoding:?}");
            assert!(inflater.output.capacity() <= LIMIT + 1, "{encoding:?} {}", inflater.output.capacity());
        }
    }

    #[test]
    fn a_bomb_of_many_members_or_frames_stops_at_the_limit() {
        let part = vec![b'x'; 100_000];
        for (encoding, packed) in [(Encoding::Gzip, gzip(&part)), (Encoding::Zstd, zstd(&part))] {
            assert_eq!(inflate(encoding, &packed.repeat(100), LIMIT), Err(InflateError::TooLarge { limit: LIMIT }));
            assert_eq!(inflate(encoding, &packed.repeat(3), LIMIT).unwrap(), part.repeat(3));
        }
        assert_eq!(inflate(Encoding::Gzip, &gzip(b"").repeat(GZIP_MEMBERS_MAX), LIMIT), Ok(Vec::new()));
        assert_eq!(inflate(Encoding::Gzip, &gzip(b"").repeat(GZIP_MEMBERS_MAX + 1), LIMIT), Err(InflateError::Corrupt));
    }

    #[test]
    fn a_huge_zstd_window_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(24).unwrap();
        encoder.write_all(b"tiny").unwrap();
        let frame = encoder.finish().unwrap();
        assert_eq!(inflate(Encoding::Zstd, &frame, LIMIT), Err(InflateError::Window));
        // A window of 3.75 TiB in 15 bytes: magic, descriptor, window byte, one empty last block.
        let huge = [0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 1, 0, 0];
        assert_eq!(inflate(Encoding::Zstd, &huge, LIMIT), Err(InflateError::Window));
    }

    #[test]
    fn every_cut_and_every_tail_is_corrupt() {
        for (encoding, packed) in all(b"a short text, a short text, a short text").into_iter().skip(1) {
            for end in 1..packed.len() {
                assert_eq!(inflate(encoding, &packed[..end], LIMIT), Err(InflateError::Corrupt), "{encoding:?} {end}");
            }
            assert_eq!(inflate(encoding, &[&packed[..], b"tail"].concat(), LIMIT), Err(InflateError::Corrupt), "{encoding:?}");
            assert_eq!(inflate(encoding, b"<13>not compressed", LIMIT), Err(InflateError::Corrupt), "{encoding:?}");
            assert_eq!(inflate(encoding, b"", LIMIT), Ok(Vec::new()));
        }
        assert_eq!(inflate(Encoding::Gzip, &[&gzip(b"x")[..], &[0; 512]].concat(), LIMIT), Ok(b"x".to_vec()));
        let mut damaged = gzip(b"checked by CRC");
        let at = damaged.len() - 8;
        damaged[at] ^= 1;
        assert_eq!(inflate(Encoding::Gzip, &damaged, LIMIT), Err(InflateError::Corrupt));
    }

    #[test]
    fn the_fast_path_takes_one_whole_member_and_nothing_else() {
        let fast = |input: &[u8], limit| MEMBERS.with_borrow_mut(|members| members.as_mut().unwrap().inflate(input, limit));
        let plain = b"one member, one member, one member".to_vec();
        let member = gzip(&plain);
        assert_eq!(fast(&member, plain.len()), Some(plain.clone()));
        assert_eq!(fast(&member, plain.len() - 1), None);
        assert_eq!(fast(&member.repeat(2), LIMIT), None); // each says the same length
        assert_eq!(inflate(Encoding::Gzip, &member.repeat(2), LIMIT).unwrap(), plain.repeat(2));
        assert_eq!(fast(&[&member[..], &[0; 4]].concat(), LIMIT), None);
        for end in 0..member.len() {
            assert_eq!(fast(&member[..end], LIMIT), None, "{end}");
        }
        let mut liar = member;
        let length = liar.len() - 4;
        liar[length..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(fast(&liar, usize::MAX), None); // 4 GiB out of 40 bytes are not believed
        assert_eq!(inflate(Encoding::Gzip, &liar, LIMIT), Err(InflateError::Corrupt));
    }

    #[test]
    fn encodings_are_known_by_name_and_by_magic() {
        assert_eq!(Encoding::from_content_encoding(" GZIP"), Some(Encoding::Gzip));
        assert_eq!(Encoding::from_content_encoding("br"), None);
        assert_eq!(Encoding::from_content_encoding("gzip, gzip"), None);
        assert_eq!(Encoding::detect(&gzip(b"x")), Encoding::Gzip);
        assert_eq!(Encoding::detect(&zstd(b"x")), Encoding::Zstd);
        assert_eq!(Encoding::detect(b"x\x9c"), Encoding::Identity);
    }

    proptest! {
        #[test]
        fn pieces_give_the_same_as_the_whole(
            plain in prop::collection::vec(any::<u8>(), 0..2000),
            piece in 1usize..200,
            change in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            for (encoding, mut packed) in all(&plain) {
                if let Some((index, value)) = change.filter(|_| !packed.is_empty()) {
                    let index = index.index(packed.len());
                    packed[index] = value;
                }
                let mut inflater = Inflater::new(encoding, LIMIT);
                let pieces = packed.chunks(piece).try_for_each(|piece| inflater.push(piece)).and_then(|()| inflater.finish());
                prop_assert_eq!(pieces, inflate(encoding, &packed, LIMIT), "{:?}", encoding);
            }
        }
    }
}
