//! The bytes of an open file: plain ones by offset, compressed ones in a row.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use super::checkpoint::{Checkpoints, Entry, PRINT_BYTES};
use crate::clock;
use crate::limits::{READ_BYTES, ZSTD_WINDOW_LOG_MAX};
use crate::net::inflate::Encoding;

/// An open file.
#[derive(Default)]
pub(super) enum Content {
    /// Given away to the reading thread for a moment.
    #[default]
    Away,
    /// A plain file and the bytes at its beginning when it was opened.
    Plain(File, Vec<u8>),
    /// A compressed file.
    Compressed(Box<Compressed>),
}

pub(super) struct Compressed {
    reader: Box<dyn Read + Send>,
    /// The first bytes that came out.
    head: Vec<u8>,
    /// The last bytes that came out.
    tail: Vec<u8>,
}

impl Content {
    /// Opens a file where its checkpoint ends; `None` if a compressed file may still be written.
    pub(super) fn open(
        path: &Path,
        key: (u64, u64),
        checkpoints: &Checkpoints,
        at_end: bool,
        settled: Duration,
    ) -> io::Result<Option<(Self, u64)>> {
        let file = File::open(path)?;
        let mut head = vec![0; PRINT_BYTES];
        let len = read_at(&file, 0, &mut head)?;
        head.truncate(len);
        let encoding = Encoding::detect(&head);
        if encoding == Encoding::Identity {
            let known = checkpoints.candidates(key, &head).into_iter().find(|entry| entry.is_of(&file));
            let offset = match known {
                Some(entry) => entry.offset,
                None if at_end => file.metadata()?.len(),
                None => 0,
            };
            return Ok(Some((Self::Plain(file, head), offset)));
        }
        let meta = file.metadata()?;
        let changed_ms = meta.mtime().saturating_mul(1000);
        if !settled.is_zero() && clock::now_ms().saturating_sub(changed_ms) < settled.as_millis() as i64 {
            return Ok(None);
        }
        let mut compressed = Compressed::new(file, encoding)?;
        let head = compressed.peek()?;
        for entry in checkpoints.candidates(key, &head) {
            if compressed.skip_to(entry.offset)? && entry.ends_with(compressed.last(entry.tail_len())) {
                return Ok(Some((Self::Compressed(Box::new(compressed)), entry.offset)));
            }
            compressed = Compressed::new(File::open(path)?, encoding)?;
        }
        if at_end {
            compressed.skip_to(u64::MAX)?;
        } else {
            compressed = Compressed::new(File::open(path)?, encoding)?;
        }
        Ok(Some((Self::Compressed(Box::new(compressed)), 0)))
    }

    /// Whether the file can grow and be read from any place.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(..))
    }

    /// Appends the next piece to `buffer`; nothing at the end. What comes before an error is appended too.
    pub(super) fn read(&mut self, offset: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        let start = buffer.len();
        buffer.resize(start + READ_BYTES, 0);
        let result = match self {
            Self::Away => Ok(0),
            Self::Plain(file, _) => file.read_at(&mut buffer[start..], offset),
            Self::Compressed(compressed) => compressed.read(&mut buffer[start..]),
        };
        buffer.truncate(start + result.as_ref().copied().unwrap_or(0));
        result.map(drop)
    }

    /// Whether a plain file is shorter than what was read, or begins otherwise than it did.
    pub(super) fn is_truncated(&mut self, offset: u64) -> bool {
        let Self::Plain(file, head) = self else { return false };
        let Ok(len) = file.metadata().map(|meta| meta.len()) else { return false };
        if len <= offset {
            return len < offset;
        }
        let mut now = vec![0; PRINT_BYTES];
        let Ok(count) = read_at(file, 0, &mut now) else { return false };
        now.truncate(count);
        let is_other = !now.starts_with(head);
        *head = now;
        is_other
    }

    /// The checkpoint for `offset`.
    pub(super) fn entry(&self, key: (u64, u64), path: &Path, offset: u64) -> io::Result<Entry> {
        match self {
            // A file that was truncated in the meantime has no bytes there: it will be read from its beginning.
            Self::Plain(file, _) => Entry::of_file(key, path, offset, file).or_else(|_| Ok(Entry::new(key, path, 0, &[], &[]))),
            Self::Compressed(compressed) => Ok(Entry::new(key, path, offset, &compressed.head, &compressed.tail)),
            Self::Away => Err(io::Error::other("the file is being read")),
        }
    }
}

fn read_at(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < bytes.len() {
        match file.read_at(&mut bytes[count..], offset + count as u64)? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

impl Compressed {
    fn new(file: File, encoding: Encoding) -> io::Result<Self> {
        let reader: Box<dyn Read + Send> = if encoding == Encoding::Zstd {
            let mut decoder = zstd::stream::read::Decoder::new(file)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        } else {
            Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::with_capacity(READ_BYTES, file)))
        };
        Ok(Self { reader, head: Vec::new(), tail: Vec::new() })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let piece = &buffer[..count];
        self.head.extend_from_slice(&piece[..count.min(PRINT_BYTES - self.head.len())]);
        self.tail.extend_from_slice(&piece[count.saturating_sub(PRINT_BYTES)..]);
        self.tail.drain(..self.tail.len().saturating_sub(PRINT_BYTES));
        Ok(count)
    }

    /// Reads the first bytes; the reader is then behind them.
    fn peek(&mut self) -> io::Result<Vec<u8>> {
        let mut byte = [0; PRINT_BYTES];
        while self.head.len() < PRINT_BYTES {
            let room = PRINT_BYTES - self.head.len();
            if self.read(&mut byte[..room])? == 0 {
                break;
            }
        }
        Ok(self.head.clone())
    }

    /// Goes on to `offset`, counted from the beginning; whether the file has so many bytes.
    fn skip_to(&mut self, offset: u64) -> io::Result<bool> {
        let mut buffer = vec![0; READ_BYTES];
        let mut at = self.head.len() as u64;
        while at < offset {
            let room = (offset - at).min(READ_BYTES as u64) as usize;
            match self.read(&mut buffer[..room])? {
                0 => return Ok(false),
                count => at += count as u64,
            }
        }
        Ok(at == offset)
    }

    fn last(&self, len: usize) -> &[u8] {
        &self.tail[self.tail.len().saturating_sub(len)..]
    }
}
