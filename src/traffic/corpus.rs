//! Lines in memory, replayed round and round: what a benchmark sends.
//!
//! In: a file of lines, or a kind to generate. Out: single lines, or blocks of whole lines with their
//! newlines that can be written to a socket as they are. In a file, empty lines are left out and `\r\n`
//! counts as a newline; bytes that are not UTF-8 stay as they are. Errors: a file that can't be read, that
//! is larger than [`CORPUS_BYTES_MAX`], or that has no line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::traffic::{Kind, Traffic};

/// Bytes that a corpus takes at most: a benchmark that swaps measures the disk.
pub const CORPUS_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Generated corpora begin at 2026-11-21T08:00:00Z ...
const START_MS: i64 = 1_795_248_000_000;

/// ... and have about 143 events a second.
const STEP_MS: i64 = 7;

/// Lines with a newline each in one buffer, and the one to be sent next.
#[derive(Clone, Debug)]
pub struct Corpus {
    buffer: Vec<u8>,
    /// The end of each line, behind its newline.
    ends: Vec<usize>,
    next: usize,
}

impl Corpus {
    /// The lines of a file.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let failed = |message: &str| Error::new(ErrorKind::Storage, "read corpus", message).with("path", path.display());
        let file = File::open(path).map_err(|cause| failed("cannot open the file").because(cause))?;
        let mut buffer = Vec::new();
        #[expect(clippy::disallowed_methods, reason = "take bounds it")]
        file.take(CORPUS_BYTES_MAX as u64 + 1).read_to_end(&mut buffer).map_err(|cause| failed("cannot read the file").because(cause))?;
        if buffer.len() > CORPUS_BYTES_MAX {
            let message = format!("the file is larger than {CORPUS_BYTES_MAX} bytes");
            return Err(Error::new(ErrorKind::Limit, "read corpus", message).with("path", path.display()));
        }
        let ends = normalise(&mut buffer);
        if ends.is_empty() {
            return Err(Error::new(ErrorKind::Configuration, "read corpus", "the file has no line").with("path", path.display()));
        }
        Ok(Self { buffer, ends, next: 0 })
    }

    /// `lines` benign lines of a kind, at least one, and fewer if they would exceed [`CORPUS_BYTES_MAX`].
    pub fn generate(kind: Kind, lines: usize, seed: u64) -> Self {
        let mut traffic = Traffic::new(kind, seed);
        let (mut buffer, mut ends) = (Vec::new(), Vec::new());
        let mut now_ms = START_MS;
        loop {
            traffic.next(now_ms, &mut buffer);
            buffer.push(b'\n');
            ends.push(buffer.len());
            now_ms += STEP_MS;
            // No line that the generator makes reaches 16 KiB.
            if ends.len() >= lines || buffer.len() + 16 * 1024 > CORPUS_BYTES_MAX {
                return Self { buffer, ends, next: 0 };
            }
        }
    }

    /// The next line without its newline; the first one again after the last.
    pub fn next_line(&mut self) -> &[u8] {
        let (start, end) = (self.start(self.next), self.ends[self.next]);
        self.next = (self.next + 1) % self.ends.len();
        &self.buffer[start..end - 1]
    }

    /// The next whole lines with their newlines, and how many they are: as many as fit into `bytes`, at
    /// least one, none from behind the end of the corpus.
    pub fn next_block(&mut self, bytes: usize) -> (&[u8], usize) {
        let first = self.next;
        let start = self.start(first);
        let limit = start.saturating_add(bytes);
        let fitting = self.ends[first..].partition_point(|end| *end <= limit);
        let lines = fitting.max(1);
        self.next = (first + lines) % self.ends.len();
        (&self.buffer[start..self.ends[first + lines - 1]], lines)
    }

    /// Every line once, without newlines, from the first.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.ends.iter().enumerate().map(|(number, end)| &self.buffer[self.start(number)..end - 1])
    }

    /// Lines of one round; never 0.
    pub fn lines(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of one round, newlines included.
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    fn start(&self, number: usize) -> usize {
        number.checked_sub(1).map_or(0, |before| self.ends[before])
    }
}

/// Drops empty lines and carriage returns before newlines, ends the last line; gives the end of each line.
fn normalise(buffer: &mut Vec<u8>) -> Vec<usize> {
    let mut ends = Vec::new();
    let (mut read, mut write) = (0, 0);
    while read < buffer.len() {
        let end = memchr::memchr(b'\n', &buffer[read..]).map_or(buffer.len(), |length| read + length);
        let line_end = if end > read && buffer[end - 1] == b'\r' { end - 1 } else { end };
        if line_end > read {
            buffer.copy_within(read..line_end, write);
            write += line_end - read;
            // Only the last line of a file can lack the byte that its newline goes into.
            if write == buffer.len() {
                buffer.push(b'\n')
            } else {
                buffer[write] = b'\n'
            }
            write += 1;
            ends.push(write);
        }
        read = end + 1;
    }
    buffer.truncate(write);
    ends
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use crate::traffic::{Corpus, Kind};

    fn from_bytes(bytes: &[u8]) -> Result<Corpus, crate::error::Error> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Corpus::from_file(file.path())
    }

    #[test]
    fn a_file_is_replayed_round_and_round() {
        let mut corpus = from_bytes(b"one\r\n\n\r\ntwo \xff\nlast").unwrap();
        assert_eq!((corpus.lines(), corpus.bytes()), (3, b"one\ntwo \xff\nlast\n".len()));
        let lines: Vec<Vec<u8>> = (0..4).map(|_| corpus.next_line().to_vec()).collect();
        assert_eq!(lines, [b"one".as_slice(), b"two \xff", b"last", b"one"]);
        assert_eq!(corpus.iter().last().unwrap(), b"last");
    }

    #[test]
    fn files_end_with_or_without_a_newline() {
        for bytes in [b"a\nb".as_slice(), b"a\nb\n", b"a\r\nb\r\n", b"\n\na\n\nb"] {
            assert_eq!(from_bytes(bytes).unwrap().iter().collect::<Vec<_>>(), [b"a", b"b"]);
        }
    }

    #[test]
    fn a_file_without_a_line_and_a_missing_file_are_refused() {
        assert!(from_bytes(b"\r\n\n").unwrap_err().to_string().contains("no line"));
        let error = Corpus::from_file(Path::new("/nonexistent/corpus.log")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/corpus.log"), "{error}");
    }

    #[test]
    fn blocks_hold_whole_lines_and_miss_none() {
        let mut corpus = Corpus::generate(Kind::CiscoAsa, 1_000, 4);
        let whole: Vec<u8> = corpus.iter().flat_map(|line| [line, b"\n"].concat()).collect();
        assert_eq!(whole.len(), corpus.bytes());
        let (mut sent, mut lines) = (Vec::new(), 0);
        while lines < 1_000 {
            let (block, count) = corpus.next_block(4_096);
            assert!(block.len() <= 4_096 && block.ends_with(b"\n"));
            assert_eq!(memchr::memchr_iter(b'\n', block).count(), count);
            sent.extend_from_slice(block);
            lines += count;
        }
        assert_eq!((lines, sent == whole), (1_000, true));
        assert_eq!(corpus.next_block(1).1, 1, "a line longer than the block is sent all the same");
    }

    #[test]
    fn generated_corpora_depend_on_the_seed_and_have_a_line_at_least() {
        let lines = |seed| Corpus::generate(Kind::AwsVpcFlow, 100, seed).iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
        assert_eq!(lines(1), lines(1));
        assert_ne!(lines(1), lines(2));
        assert_eq!(Corpus::generate(Kind::AwsWaf, 0, 1).lines(), 1);
    }
}
