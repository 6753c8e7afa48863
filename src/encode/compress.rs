//! Streaming compression of batches.
//!
//! In: encoded bytes, in slices. Out: one gzip member (RFC 1952) or one zstd frame (RFC 8878) a batch,
//! appended to the batch's own buffer. Errors: only what the libraries report, which is a defect or the end
//! of memory; there is no input that cannot be compressed.
//!
//! # Which library
//!
//! * gzip 1 to 3: ISA-L where it was found at build time (`encode::isal`), 5 to 10 % denser than zlib
//!   level 1 on firewall logs and more than twice as fast as what follows.
//! * gzip 1 to 3 without ISA-L: zlib-rs, but its level 2 for our level 1. Its own level 1 is 20 % less dense
//!   than zlib's, which is what users compare with.
//! * gzip 4 to 9: zlib-rs, for those who pay by the byte.
//! * libdeflate is not used: it has no streaming interface, so a batch would have to be kept uncompressed
//!   (six to ten times the memory) and compressed in one call that holds a shard for tens of milliseconds.
//! * zstd -7 to 3, by the reference library. No content checksum: every transport below (TLS, S3) has its
//!   own. Higher levels are not supported: the library compresses blocks of 128 KiB in one go, which
//!   at level 6 takes 1.5 to 4 ms.
//!
//! # Memory
//!
//! A compressor belongs to one open batch, since it holds the history. [`Compressor::memory_bytes`] says
//! what it takes: gzip 244 to 320 KiB, zstd 1 1.06 MiB, zstd 3 1.75 MiB. Closed batches hand theirs to a
//! [`CompressorPool`] (one a shard), so a batch costs no allocation and an idle partition holds none.
//!
//! # Time
//!
//! A shard must come back to its sockets within 1 ms, so the caller writes at most
//! [`Codec::slice_bytes`] at once.

use std::fmt;
use std::io::{self, Read};

use flate2::{Compress, FlushCompress, Status};
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective, get_error_name};

use crate::error::{Error, ErrorKind};
use crate::limits::ZSTD_WINDOW_LOG_MAX;

/// Window of zstd frames: 256 KiB. Of the levels' own, 512 KiB is 0 to 1.5 % denser for 25 % more memory
/// and 2 MiB (level 3) not at all; 128 KiB loses 5 to 20 %.
pub const ZSTD_WINDOW_LOG: u32 = 18;

/// Bytes that ISA-L and zstd compress in 0.2 to 0.6 ms on a quiet machine (230 to 900 MB/s measured; zstd 3
/// up to 1.4 ms where every core is contended). Also zstd's block: it would not do less at once.
const FAST_SLICE_BYTES: usize = 128 * 1024;

/// Bytes that zlib-rs compresses in 0.1 to 0.3 ms (60 to 150 MB/s measured at levels 2 to 6).
const ZLIB_SLICE_BYTES: usize = 16 * 1024;

/// Free space that a library call gets at least.
const OUTPUT_STEP_BYTES: usize = 16 * 1024;

/// Compressors that a pool keeps for later: the partitions of a usual S3 sink close together once an hour;
/// more than this would hold memory for a peak.
const POOL_IDLE_MAX: usize = 16;

/// How a batch is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip, level 1 (fast) to 9.
    Gzip {
        /// 1 to 9.
        level: u8,
    },
    /// zstd, level -7 (fastest) to 3.
    Zstd {
        /// -7 to 3, not 0.
        level: i8,
    },
}

impl Codec {
    /// gzip at its fast level.
    pub const GZIP_FAST: Self = Self::Gzip { level: 1 };
    /// zstd at its fast level.
    pub const ZSTD_FAST: Self = Self::Zstd { level: 1 };

    /// The name in a configuration, a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip { .. } => "gzip",
            Self::Zstd { .. } => "zstd",
        }
    }

    /// The value of an HTTP `Content-Encoding` header (RFC 9110, 8.4.1; RFC 8878, 7.2).
    pub fn content_encoding(self) -> Option<&'static str> {
        (self != Self::None).then(|| self.name())
    }

    /// What a file name ends with.
    pub fn file_extension(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip { .. } => ".gz",
            Self::Zstd { .. } => ".zst",
        }
    }

    /// Bytes to write at once, so that a shard is held for less than 1 ms.
    pub fn slice_bytes(self) -> usize {
        match self {
            Self::Gzip { level } if !(cfg!(isal) && level <= ISAL_LEVEL_MAX) => ZLIB_SLICE_BYTES,
            _ => FAST_SLICE_BYTES,
        }
    }

    /// An error that names the range if the level is outside.
    pub fn check(self) -> Result<(), Error> {
        let range = match self {
            Self::Gzip { level } if !(1..=9).contains(&level) => "1 to 9",
            Self::Zstd { level } if level == 0 || !(-7..=3).contains(&level) => "-7 to -1 or 1 to 3",
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Configuration, "compress", format!("the level of {} is {range}", self.name())))
    }
}

/// What a configuration says: each at its fast level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// gzip.
    Gzip,
    /// Not at all.
    None,
    /// zstd.
    Zstd,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Gzip => Self::GZIP_FAST,
            Compression::None => Self::None,
            Compression::Zstd => Self::ZSTD_FAST,
        }
    }
}

enum Engine {
    None,
    #[cfg(isal)]
    Isal(crate::encode::isal::Deflate),
    Zlib(Compress),
    Zstd(CCtx<'static>),
}

impl Engine {
    fn new(codec: Codec) -> Result<Self, Error> {
        codec.check()?;
        match codec {
            Codec::None => Ok(Self::None),
            #[cfg(isal)]
            Codec::Gzip { level: level @ ..=ISAL_LEVEL_MAX } => Ok(Self::Isal(crate::encode::isal::Deflate::new(level))),
            Codec::Gzip { level } => Ok(Self::Zlib(zlib(level))),
            Codec::Zstd { level } => {
                let mut context = CCtx::try_create().ok_or_else(|| failed(codec, "no memory for a context"))?;
                for parameter in [CParameter::CompressionLevel(i32::from(level)), CParameter::WindowLog(ZSTD_WINDOW_LOG)] {
                    context.set_parameter(parameter).map_err(|code| failed(codec, get_error_name(code)))?;
                }
                Ok(Self::Zstd(context))
            }
        }
    }
}

/// Levels that ISA-L has, from 1.
const ISAL_LEVEL_MAX: u8 = 3;

/// Least level of zlib-rs that is as dense as zlib's level 1.
const ZLIB_LEVEL_MIN: u8 = 2;

fn zlib(level: u8) -> Compress {
    Compress::new_gzip(flate2::Compression::new(u32::from(level.max(ZLIB_LEVEL_MIN))), ZLIB_WINDOW_BITS)
}

/// Window of a gzip member, as a logarithm: the most that RFC 1951 permits.
const ZLIB_WINDOW_BITS: u8 = 15;

/// What `deflateInit` of zlib-rs allocates at `ZLIB_WINDOW_BITS`: window, chains, hash heads, pending output.
const ZLIB_MEMORY_BYTES: usize = (1 << 17) + (1 << 17) + (1 << 16);

fn failed(codec: Codec, message: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Unexpected, "compress", message.to_string()).with("codec", codec.name())
}

/// Compresses one batch after the other.
pub struct Compressor {
    codec: Codec,
    engine: Engine,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("codec", &self.codec).finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor; a level outside its range is a configuration error.
    pub fn new(codec: Codec) -> Result<Self, Error> {
        Ok(Self { codec, engine: Engine::new(codec)? })
    }

    /// What it compresses to.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Bytes of memory that it holds now.
    pub fn memory_bytes(&self) -> usize {
        match &self.engine {
            Engine::None => 0,
            #[cfg(isal)]
            Engine::Isal(deflate) => deflate.memory_bytes(),
            Engine::Zlib(_) => ZLIB_MEMORY_BYTES,
            Engine::Zstd(context) => context.sizeof(),
        }
    }

    /// Compresses `input` and appends what is ready to `output`; the rest comes with a later call.
    ///
    /// Takes any length; see [`Codec::slice_bytes`] for what to pass. After an error the batch is lost and
    /// [`Compressor::reset`] makes the compressor usable again.
    pub fn write(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<(), Error> {
        let codec = self.codec;
        match &mut self.engine {
            Engine::None => {
                output.extend_from_slice(input);
                Ok(())
            }
            #[cfg(isal)]
            Engine::Isal(deflate) => deflate.write(input, false, output).map_err(|code| isal_failed(codec, code)),
            Engine::Zlib(deflate) => zlib_write(deflate, input, FlushCompress::None, output).map_err(|message| failed(codec, message)),
            Engine::Zstd(context) => {
                let mut input = InBuffer::around(input);
                while input.pos() < input.src.len() {
                    reserve_step(output);
                    let filled = output.len();
                    context
                        .compress_stream(&mut OutBuffer::around_pos(output, filled), &mut input)
                        .map_err(|code| failed(codec, get_error_name(code)))?;
                }
                Ok(())
            }
        }
    }

    /// Appends the rest, ends the member or frame, and is ready for the next batch.
    ///
    /// A batch without bytes becomes an empty but valid member or frame.
    pub fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), Error> {
        let codec = self.codec;
        match &mut self.engine {
            Engine::None => return Ok(()),
            #[cfg(isal)]
            Engine::Isal(deflate) => deflate.write(&[], true, output).map_err(|code| isal_failed(codec, code))?,
            Engine::Zlib(deflate) => {
                zlib_write(deflate, &[], FlushCompress::Finish, output).map_err(|message| failed(codec, message))?;
            }
            Engine::Zstd(context) => loop {
                reserve_step(output);
                let filled = output.len();
                let left =
                    context.end_stream(&mut OutBuffer::around_pos(output, filled)).map_err(|code| failed(codec, get_error_name(code)))?;
                if left == 0 {
                    break;
                }
            },
        }
        self.reset()
    }

    /// Forgets an unfinished batch; the next byte begins a new one.
    pub fn reset(&mut self) -> Result<(), Error> {
        match &mut self.engine {
            Engine::None => {}
            #[cfg(isal)]
            Engine::Isal(deflate) => deflate.reset(),
            Engine::Zlib(deflate) => deflate.reset(),
            Engine::Zstd(context) => {
                context.reset(ResetDirective::SessionOnly).map_err(|code| failed(self.codec, get_error_name(code)))?;
            }
        }
        Ok(())
    }
}

#[cfg(isal)]
fn isal_failed(codec: Codec, code: std::ffi::c_int) -> Error {
    failed(codec, format_args!("isal_deflate returned {code}"))
}

/// The vector grows by doubling; a caller that knows its batch size reserves it once.
fn reserve_step(output: &mut Vec<u8>) {
    if output.capacity() - output.len() < OUTPUT_STEP_BYTES {
        output.reserve(OUTPUT_STEP_BYTES);
    }
}

fn zlib_write(deflate: &mut Compress, mut input: &[u8], flush: FlushCompress, output: &mut Vec<u8>) -> Result<(), String> {
    loop {
        reserve_step(output);
        let before = (deflate.total_in(), deflate.total_out());
        let status = deflate.compress_vec(input, output, flush).map_err(|error| error.to_string())?;
        let taken = usize::try_from(deflate.total_in() - before.0).unwrap_or(usize::MAX);
        input = input.get(taken..).ok_or("zlib took more than it was given")?;
        let done = match flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            _ => input.is_empty(),
        };
        if done {
            return Ok(());
        }
        if before == (deflate.total_in(), deflate.total_out()) {
            return Err("zlib makes no progress".to_owned());
        }
    }
}

/// Compressors of one codec that wait for the next batch. One a shard and destination.
#[derive(Debug)]
pub struct CompressorPool {
    codec: Codec,
    idle: Vec<Compressor>,
}

impl CompressorPool {
    /// An empty pool; a level outside its range is a configuration error.
    pub fn new(codec: Codec) -> Result<Self, Error> {
        codec.check()?;
        Ok(Self { codec, idle: Vec::new() })
    }

    /// One that begins a new batch: an idle one, or a new one.
    pub fn take(&mut self) -> Result<Compressor, Error> {
        match self.idle.pop() {
            Some(compressor) => Ok(compressor),
            None => Compressor::new(self.codec),
        }
    }

    /// Takes one back, finished or not. Beyond 16 idle ones it is freed, and so is one of another codec.
    pub fn give_back(&mut self, mut compressor: Compressor) {
        if self.idle.len() < POOL_IDLE_MAX && compressor.codec == self.codec && compressor.reset().is_ok() {
            self.idle.push(compressor);
        }
    }

    /// Bytes of memory that the idle ones hold.
    pub fn memory_bytes(&self) -> usize {
        self.idle.iter().map(Compressor::memory_bytes).sum()
    }
}

/// The plain bytes of one finished batch, to split it when a destination refuses it.
///
/// Takes exactly what [`Compressor`] makes: one member or frame with nothing behind it. More than `limit`
/// plain bytes are an [`ErrorKind::Limit`]; anything damaged, cut short or appended to is an
/// [`ErrorKind::Protocol`].
pub fn decompress(codec: Codec, bytes: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let mut plain = Vec::new();
    let rest = match codec {
        Codec::None if bytes.len() > limit => return Err(too_long(codec, limit)),
        Codec::None => return Ok(bytes.to_vec()),
        Codec::Gzip { .. } => {
            let mut decoder = flate2::bufread::GzDecoder::new(bytes);
            copy_capped(codec, &mut decoder, limit, &mut plain)?;
            decoder.into_inner()
        }
        Codec::Zstd { .. } => {
            let mut decoder = zstd::Decoder::with_buffer(bytes).map_err(|error| damaged(codec, error))?.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| damaged(codec, error))?;
            copy_capped(codec, &mut decoder, limit, &mut plain)?;
            decoder.finish()
        }
    };
    if rest.is_empty() { Ok(plain) } else { Err(damaged(codec, io::Error::other("bytes follow the end"))) }
}

fn copy_capped(codec: Codec, decoder: &mut impl Read, limit: usize, plain: &mut Vec<u8>) -> Result<(), Error> {
    let cap = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    io::copy(&mut decoder.take(cap), plain).map_err(|error| damaged(codec, error))?;
    if plain.len() > limit { Err(too_long(codec, limit)) } else { Ok(()) }
}

fn too_long(codec: Codec, limit: usize) -> Error {
    Error::new(ErrorKind::Limit, "decompress", "the batch is longer than the limit").with("codec", codec.name()).with("limit", limit)
}

fn damaged(codec: Codec, error: io::Error) -> Error {
    Error::new(ErrorKind::Protocol, "decompress", "the batch cannot be read back").with("codec", codec.name()).because(error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Codec, Compressor, CompressorPool, ErrorKind, FlushCompress, POOL_IDLE_MAX, Read, decompress, io, zlib, zlib_write};

    /// What zlib 1.2.13 makes of `log_lines(20_000)` at level 1.
    const ZLIB_1_BYTES: usize = 270_793;

    const EVERY_KIND: [Codec; 9] = [
        Codec::None,
        Codec::Gzip { level: 1 },
        Codec::Gzip { level: 2 },
        Codec::Gzip { level: 3 },
        Codec::Gzip { level: 4 },
        Codec::Gzip { level: 9 },
        Codec::Zstd { level: -3 },
        Codec::Zstd { level: 1 },
        Codec::Zstd { level: 3 },
    ];

    fn compress(compressor: &mut Compressor, plain: &[u8], slice: usize) -> Vec<u8> {
        let mut packed = Vec::new();
        for piece in plain.chunks(slice.max(1)) {
            compressor.write(piece, &mut packed).expect("write");
        }
        compressor.finish(&mut packed).expect("finish");
        packed
    }

    /// Decodes with the reference libraries, not with `decompress`.
    fn reference(codec: Codec, packed: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match codec {
            Codec::None => plain.extend_from_slice(packed),
            Codec::Gzip { .. } => {
                io::copy(&mut flate2::read::MultiGzDecoder::new(packed).take(1 << 30), &mut plain).expect("gzip");
            }
            Codec::Zstd { .. } => plain = zstd::decode_all(packed).expect("zstd"),
        }
        plain
    }

    fn log_lines(count: usize) -> Vec<u8> {
        (0..count)
            .flat_map(|n| {
                format!(
                    "<189>Nov 21 08:00:{:02} fgt srcip=10.0.{}.{} dstport=443 action=\"accept\" sessionid={}\n",
                    n % 60,
                    n % 256,
                    n * 7 % 251,
                    n * 7919
                )
                .into_bytes()
            })
            .collect()
    }

    #[test]
    fn a_batch_longer_than_every_window_round_trips_and_is_reused() {
        let plain = log_lines(20_000);
        for codec in EVERY_KIND {
            let mut compressor = Compressor::new(codec).expect("codec");
            let first = compress(&mut compressor, &plain, codec.slice_bytes());
            assert_eq!(reference(codec, &first), plain, "{codec:?}");
            assert_eq!(decompress(codec, &first, plain.len()).expect("own batch"), plain, "{codec:?}");
            assert_eq!(compress(&mut compressor, &plain, codec.slice_bytes()), first, "{codec:?}: the second batch is like the first");
        }
    }

    #[test]
    fn an_empty_batch_is_a_valid_member_or_frame() {
        for codec in EVERY_KIND {
            let mut compressor = Compressor::new(codec).expect("codec");
            let packed = compress(&mut compressor, b"", 1);
            assert_eq!(packed.is_empty(), codec == Codec::None);
            assert_eq!(decompress(codec, &packed, 0).expect("empty batch"), b"", "{codec:?}");
        }
    }

    #[test]
    fn a_batch_given_up_leaves_no_trace() {
        for codec in EVERY_KIND {
            let mut compressor = Compressor::new(codec).expect("codec");
            let mut lost = Vec::new();
            compressor.write(&log_lines(5_000), &mut lost).expect("write");
            compressor.reset().expect("reset");
            let packed = compress(&mut compressor, b"kept", 4);
            assert_eq!(reference(codec, &packed), b"kept", "{codec:?}");
        }
    }

    #[test]
    fn a_batch_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
        let bomb = vec![b'0'; 10 << 20];
        for codec in EVERY_KIND {
            let packed = compress(&mut Compressor::new(codec).expect("codec"), &bomb, 1 << 18);
            let error = decompress(codec, &packed, bomb.len() - 1).expect_err("too long");
            assert_eq!(error.kind(), ErrorKind::Limit, "{codec:?}");
            assert_eq!(decompress(codec, &packed, bomb.len()).expect("fits").len(), bomb.len(), "{codec:?}");
        }
    }

    #[test]
    fn a_batch_cut_short_or_appended_to_is_refused() {
        let plain = log_lines(100);
        for codec in EVERY_KIND.into_iter().filter(|codec| *codec != Codec::None) {
            let packed = compress(&mut Compressor::new(codec).expect("codec"), &plain, 1000);
            for length in 0..packed.len() {
                let error = decompress(codec, &packed[..length], 1 << 20).expect_err("cut short");
                assert_eq!(error.kind(), ErrorKind::Protocol, "{codec:?} cut to {length}");
            }
            let twice = [packed.as_slice(), packed.as_slice()].concat();
            assert_eq!(decompress(codec, &twice, 1 << 20).expect_err("two").kind(), ErrorKind::Protocol, "{codec:?}");
        }
    }

    #[test]
    fn levels_outside_the_range_are_configuration_errors() {
        for codec in [Codec::Gzip { level: 0 }, Codec::Gzip { level: 10 }, Codec::Zstd { level: 0 }, Codec::Zstd { level: 4 }] {
            assert_eq!(Compressor::new(codec).expect_err("level").kind(), ErrorKind::Configuration);
            assert_eq!(CompressorPool::new(codec).expect_err("level").kind(), ErrorKind::Configuration);
        }
    }

    #[test]
    fn a_pool_hands_out_clean_compressors_and_keeps_a_bounded_number() {
        let mut pool = CompressorPool::new(Codec::ZSTD_FAST).expect("pool");
        let mut half = pool.take().expect("compressor");
        half.write(&log_lines(5_000), &mut Vec::new()).expect("write");
        pool.give_back(half);
        assert!(pool.memory_bytes() > 0);
        let mut again = pool.take().expect("compressor");
        assert_eq!(pool.memory_bytes(), 0, "the idle one was taken");
        assert_eq!(reference(Codec::ZSTD_FAST, &compress(&mut again, b"clean", 5)), b"clean");
        pool.give_back(Compressor::new(Codec::GZIP_FAST).expect("codec"));
        assert_eq!(pool.memory_bytes(), 0, "one of another codec is not kept");
        for _ in 0..POOL_IDLE_MAX + 3 {
            pool.give_back(Compressor::new(Codec::ZSTD_FAST).expect("codec"));
        }
        assert_eq!(pool.idle.len(), POOL_IDLE_MAX);
    }

    #[test]
    fn a_fast_compressor_stays_within_its_memory() {
        for (codec, most) in [(Codec::GZIP_FAST, 360 << 10), (Codec::ZSTD_FAST, 1100 << 10), (Codec::Zstd { level: 3 }, 2 << 20)] {
            let mut compressor = Compressor::new(codec).expect("codec");
            compress(&mut compressor, &log_lines(20_000), codec.slice_bytes());
            let bytes = compressor.memory_bytes();
            assert!(bytes > 64 << 10 && bytes <= most, "{codec:?} holds {bytes}");
        }
    }

    /// Without ISA-L on the building machine this is what level 1 is, so it is tested with it as well.
    #[test]
    fn the_fallback_of_the_fast_level_is_as_dense_as_zlib_level_1() {
        let plain = log_lines(20_000);
        let packed = |level: u8| {
            let mut packed = Vec::new();
            let mut deflate = zlib(level);
            zlib_write(&mut deflate, &plain, FlushCompress::None, &mut packed).expect("write");
            zlib_write(&mut deflate, &[], FlushCompress::Finish, &mut packed).expect("finish");
            assert_eq!(reference(Codec::GZIP_FAST, &packed), plain);
            packed.len()
        };
        assert!(packed(1) < ZLIB_1_BYTES * 11 / 10, "{}", packed(1));
        assert_eq!(packed(1), packed(2));
        let mut fast = Compressor::new(Codec::GZIP_FAST).expect("codec");
        let bytes = compress(&mut fast, &plain, Codec::GZIP_FAST.slice_bytes()).len();
        assert!(bytes < ZLIB_1_BYTES * 11 / 10, "{bytes}");
    }

    /// Runs of noise, of one byte and of repeats: what log batches and their worst cases are made of.
    fn input() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..3000),
            (any::<u8>(), 0_usize..70_000).prop_map(|(byte, length)| vec![byte; length]),
            (prop::collection::vec(any::<u8>(), 1..300), 0_usize..200).prop_map(|(unit, times)| unit.repeat(times)),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_slicing_of_any_input_comes_back(plain in input(), slices in prop::collection::vec(1_usize..40_000, 1..8)) {
            for codec in EVERY_KIND {
                let mut compressor = Compressor::new(codec).expect("codec");
                let mut packed = Vec::new();
                let mut rest = plain.as_slice();
                for slice in slices.iter().cycle() {
                    let (piece, behind) = rest.split_at((*slice).min(rest.len()));
                    compressor.write(piece, &mut packed).expect("write");
                    rest = behind;
                    if rest.is_empty() {
                        break;
                    }
                }
                compressor.finish(&mut packed).expect("finish");
                prop_assert_eq!(&reference(codec, &packed), &plain);
                prop_assert_eq!(&decompress(codec, &packed, plain.len()).expect("own batch"), &plain);
            }
        }

        #[test]
        fn damaged_batches_never_panic(plain in input(), at in any::<prop::sample::Index>(), flip in 1_u8..) {
            for codec in EVERY_KIND {
                let mut packed = compress(&mut Compressor::new(codec).expect("codec"), &plain, 5000);
                if !packed.is_empty() {
                    let at = at.index(packed.len());
                    packed[at] ^= flip;
                    let limit = plain.len() * 2;
                    if let Ok(read) = decompress(codec, &packed, limit) {
                        prop_assert!(read.len() <= limit);
                    }
                }
            }
        }
    }
}
