//! Streaming gzip by Intel's ISA-L (`libisal`, C and assembly), levels 1 to 3.
//!
//! In: slices of bytes. Out: one gzip member (RFC 1952), appended to a vector. Errors: the library's return
//! code. The only `unsafe` of the output path; `docs/adr/0003-unsafe-isal.md` has the reason.
//!
//! Source: `igzip_lib.h` of ISA-L 2.30. `build.rs` compiles `isal_layout.c` against the installed header
//! and leaves this module out if the declarations below do not match it. Of the stream, only the public
//! fields are declared; the library's own state behind them is opaque, zeroed, and larger than 2.30 needs.
//!
//! Not supported: dictionaries, flushes, more than 4 GiB in one member (the counters have 32 bits; batches
//! end far below).

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

/// The library's internal state: 82,320 bytes in 2.30; the rest is room for later 2.x.
const INTERNAL_BYTES: usize = 96 * 1024;

/// Input bytes of one library call; its lengths have 32 bits.
const CALL_BYTES_MAX: usize = 1 << 30;

/// Free space that one library call gets at least.
const OUTPUT_STEP_BYTES: usize = 16 * 1024;

/// A call that leaves less than this free may have been short of room: block headers take up to 328 bytes, and
/// the bit buffer is only written out into 8 bytes or more. It is called again with a fresh step.
const OUTPUT_MARGIN_BYTES: usize = 1024;

/// `IGZIP_GZIP`: header, checksum and length are written by the library.
const GZIP: u16 = 1;

/// Our own code for an answer that contradicts the library's documentation; its own are single digits.
const IMPOSSIBLE: c_int = c_int::MIN;

const _: () = assert!(OUTPUT_MARGIN_BYTES < OUTPUT_STEP_BYTES, "a fresh step always ends the loop");

/// `struct isal_zstream`.
#[repr(C, align(64))]
struct Stream {
    next_in: *const u8,
    avail_in: u32,
    total_in: u32,
    next_out: *mut u8,
    avail_out: u32,
    total_out: u32,
    hufftables: *mut c_void,
    level: u32,
    level_buf_size: u32,
    level_buf: *mut u8,
    end_of_stream: u16,
    flush: u16,
    gzip_flag: u16,
    hist_bits: u16,
    internal_state: [u8; INTERNAL_BYTES],
}

unsafe extern "C" {
    fn isal_deflate_init(stream: *mut Stream);
    fn isal_deflate(stream: *mut Stream) -> c_int;
}

/// Working memory by level: `ISAL_DEF_LVLx_MEDIUM`. The library's default is 128 KiB larger and measured
/// no faster and 0.1 % denser.
fn level_buffer_bytes(level: u8) -> usize {
    match level {
        1 => 148 * 1024,
        2 => 196 * 1024,
        _ => 212 * 1024,
    }
}

/// One gzip member in the making.
pub(crate) struct Deflate {
    /// Owned; allocated and freed as a `Box`. Held as a pointer because the library keeps pointers into it
    /// between calls, which a `Box` (unique by its type) forbids.
    stream: NonNull<Stream>,
    /// The library keeps pointers into its elements, so it never grows.
    level_buffer: Vec<u64>,
    level: u8,
    /// Input that is too little for a call.
    gathered: Vec<u8>,
}

/// Input of one call at least: each call copies the history, up to 32 KiB, so that calls with single events cost
/// several times what compressing them does.
const GATHERED_BYTES: usize = 32 * 1024;

// SAFETY: the two allocations belong to this value alone, and the library keeps no thread-local state.
unsafe impl Send for Deflate {}

impl Deflate {
    /// A new member; `level` is 1 to 3, others are taken to the nearest.
    pub(crate) fn new(level: u8) -> Self {
        let level = level.clamp(1, 3);
        let level_buffer = vec![0_u64; level_buffer_bytes(level) / size_of::<u64>()];
        // SAFETY: every field is an integer, an array of them or a raw pointer; all zeroes are valid.
        let boxed = unsafe { Box::<Stream>::new_zeroed().assume_init() };
        let gathered = Vec::with_capacity(GATHERED_BYTES);
        let mut deflate = Self { stream: NonNull::from(Box::leak(boxed)), level_buffer, level, gathered };
        deflate.reset();
        deflate
    }

    /// Bytes of memory that this holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Stream>() + self.level_buffer.len() * size_of::<u64>() + GATHERED_BYTES
    }

    /// Forgets what was written; the next byte begins a new member.
    ///
    /// By a full init: `isal_deflate_reset` keeps `gzip_flag`, which the library itself changes to "no header"
    /// once it has written one, so the next member would begin without.
    pub(crate) fn reset(&mut self) {
        self.gathered.clear();
        // SAFETY: `stream` is a valid `isal_zstream` (the layout is checked at build time) and nobody else
        // has it. Init writes the public fields and the internal state, nothing behind them.
        unsafe { isal_deflate_init(self.stream.as_ptr()) };
        // SAFETY: valid, initialised, unshared; the reference ends with this function.
        let fields = unsafe { self.stream.as_mut() };
        fields.level = u32::from(self.level);
        fields.level_buf = self.level_buffer.as_mut_ptr().cast();
        fields.level_buf_size = u32::try_from(self.level_buffer.len() * size_of::<u64>()).unwrap_or(0);
        fields.gzip_flag = GZIP;
    }

    /// Appends what `input` compresses to; some of it may stay inside until later. `last` ends the member.
    ///
    /// On an error (the library's return code) the member is unusable until `reset`.
    pub(crate) fn write(&mut self, input: &[u8], last: bool, output: &mut Vec<u8>) -> Result<(), c_int> {
        if !last && self.gathered.len() + input.len() < GATHERED_BYTES {
            self.gathered.extend_from_slice(input);
            return Ok(());
        }
        if !self.gathered.is_empty() {
            let mut gathered = std::mem::take(&mut self.gathered);
            let result = self.compress(&gathered, last && input.is_empty(), output);
            gathered.clear();
            self.gathered = gathered;
            result?;
            if input.is_empty() {
                return Ok(());
            }
        }
        self.compress(input, last, output)
    }

    fn compress(&mut self, input: &[u8], last: bool, output: &mut Vec<u8>) -> Result<(), c_int> {
        let mut pieces = input.chunks(CALL_BYTES_MAX).peekable();
        if pieces.peek().is_none() && last {
            return self.write_piece(&[], true, output);
        }
        while let Some(piece) = pieces.next() {
            self.write_piece(piece, last && pieces.peek().is_none(), output)?;
        }
        Ok(())
    }

    fn write_piece(&mut self, piece: &[u8], last: bool, output: &mut Vec<u8>) -> Result<(), c_int> {
        // SAFETY: valid and unshared; only the fields are touched while this reference lives.
        let fields = unsafe { self.stream.as_mut() };
        fields.next_in = piece.as_ptr();
        fields.avail_in = u32::try_from(piece.len()).unwrap_or(0);
        fields.end_of_stream = u16::from(last);
        loop {
            if output.capacity() - output.len() < OUTPUT_STEP_BYTES {
                output.reserve(OUTPUT_STEP_BYTES);
            }
            let length = output.len();
            let spare = output.spare_capacity_mut();
            let room = spare.len().min(CALL_BYTES_MAX);
            // SAFETY: valid and unshared, as above.
            let fields = unsafe { self.stream.as_mut() };
            fields.next_out = spare.as_mut_ptr().cast();
            fields.avail_out = u32::try_from(room).unwrap_or(0);
            // SAFETY: `next_in` has `avail_in` readable bytes (`piece` outlives the loop, the library
            // advances both together), `next_out` has `avail_out` writable ones, `level_buf` is alive and
            // as large as `level_buf_size` says.
            let code = unsafe { isal_deflate(self.stream.as_ptr()) };
            // SAFETY: valid and unshared, as above.
            let fields = unsafe { self.stream.as_ref() };
            let (left, unread) = (fields.avail_out as usize, fields.avail_in);
            let Some(written) = room.checked_sub(left) else {
                return Err(IMPOSSIBLE);
            };
            // SAFETY: the library wrote the first `written` of at most `room` spare bytes.
            unsafe { output.set_len(length + written) };
            if code != 0 {
                return Err(code);
            }
            // The library stops when the input is used up or the output is (nearly) full.
            if left >= OUTPUT_MARGIN_BYTES {
                return if unread == 0 { Ok(()) } else { Err(IMPOSSIBLE) };
            }
        }
    }
}

impl Drop for Deflate {
    fn drop(&mut self) {
        // SAFETY: `new` leaked it from a `Box`, and it is freed here only.
        drop(unsafe { Box::from_raw(self.stream.as_ptr()) });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::{Deflate, OUTPUT_STEP_BYTES};

    fn inflate(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(bytes).take(1 << 30);
        std::io::copy(&mut decoder, &mut plain).expect("valid gzip");
        assert!(decoder.into_inner().into_inner().is_empty(), "nothing behind the member");
        plain
    }

    /// Bytes that no compressor shrinks.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[3]
            })
            .collect()
    }

    /// Run under valgrind: inputs are exact heap blocks, so that a read behind them shows.
    #[test]
    fn exact_heap_blocks_of_every_level_round_trip() {
        for level in 1..=3 {
            let mut deflate = Deflate::new(level);
            for length in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 255, 256, 257, 258, 259, 4095, 65_535, 65_536, 100_000] {
                for plain in [vec![b'a'; length], noise(length), b"srcip=10.0.0.1 ".repeat(length / 15 + 1)] {
                    let plain = plain.into_boxed_slice();
                    let mut packed = Vec::new();
                    deflate.write(&plain, false, &mut packed).expect("write");
                    deflate.write(&[], true, &mut packed).expect("finish");
                    deflate.reset();
                    assert_eq!(inflate(&packed), plain.as_ref(), "level {level}, {length} bytes");
                }
            }
        }
    }

    #[test]
    fn an_output_that_fills_up_again_and_again_is_continued() {
        let plain = noise(1 << 20);
        let mut deflate = Deflate::new(1);
        let mut packed = Vec::new();
        deflate.write(&plain, true, &mut packed).expect("one call, many output steps");
        assert!(packed.len() >= plain.len() && packed.len() < plain.len() + plain.len() / 100);
        assert_eq!(inflate(&packed), plain);
    }

    #[test]
    fn members_that_end_anywhere_around_the_end_of_the_room_are_complete() {
        let plain = noise(OUTPUT_STEP_BYTES + 200);
        for level in 1..=3 {
            let mut deflate = Deflate::new(level);
            for length in OUTPUT_STEP_BYTES - 400..plain.len() {
                let mut packed = Vec::with_capacity(OUTPUT_STEP_BYTES);
                deflate.write(&plain[..length], false, &mut packed).expect("write");
                deflate.write(&[], true, &mut packed).expect("finish");
                deflate.reset();
                assert_eq!(inflate(&packed), &plain[..length], "level {level}, {length} bytes");
                packed.clear();
                deflate.write(&plain[..length], true, &mut packed).expect("write and finish");
                deflate.reset();
                assert_eq!(inflate(&packed), &plain[..length], "level {level}, {length} bytes at once");
            }
        }
    }

    #[test]
    fn a_member_given_up_half_way_leaves_no_trace_in_the_next() {
        let mut deflate = Deflate::new(2);
        let mut lost = Vec::new();
        deflate.write(&noise(300_000), false, &mut lost).expect("write");
        deflate.reset();
        let mut packed = Vec::new();
        deflate.write(b"short", true, &mut packed).expect("write");
        assert_eq!(inflate(&packed), b"short");
    }

    #[test]
    fn a_stream_works_on_another_thread_than_it_was_made_on() {
        let mut deflate = Deflate::new(1);
        let mut packed = Vec::new();
        deflate.write(&b"one ".repeat(1000), false, &mut packed).expect("write");
        let packed = std::thread::spawn(move || {
            deflate.write(b"two", true, &mut packed).expect("write");
            packed
        });
        let plain = inflate(&packed.join().expect("no panic"));
        assert!(plain.starts_with(b"one one ") && plain.ends_with(b"two"));
    }
}
