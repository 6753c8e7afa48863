//! What an object holds: `bytes of the object -> bytes for a framer`, in pieces and in bounded memory.
//!
//! Compression is told by the first bytes, never by the name: gzip (any number of members, zeros behind them), zstd (any
//! number of frames), each in the other up to `limits::UNWRAP_DEPTH_MAX` deep, as Firehose's own compression around
//! records that were compressed before. What comes out of any layer is capped, so that a bomb costs time and no memory.
//!
//! What is inside, the first bytes say too:
//!
//! * `{"Records": [..` (CloudTrail): the array's members, without the envelope and what else stands in it.
//! * other JSON, in lines, in an array or one after the other: objects. WAF and Network Firewall logs are such lines.
//! * anything else is lines of text. Below `vpcflowlogs` (VPC User Guide, "Flow log files") the first of them names the
//!   columns; it is taken off and goes beside the events.
//!
//! Formats that are no text (Parquet, ORC, Avro, bzip2, xz, zip) are refused by their magic. A byte order mark is dropped.

use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::GzDecoder;

use crate::limits::{READ_BYTES, UNWRAP_DEPTH_MAX, ZSTD_WINDOW_LOG_MAX};
use crate::net::inflate::Encoding;

/// Bytes that say what an object is: the longest header line of a VPC flow log has 700.
const HEAD_BYTES: usize = 4096;

/// Longest magic.
const MAGIC_BYTES: usize = 8;

/// Formats that the decoders cannot read, by their first bytes.
const FOREIGN: [(&[u8], &str); 6] =
    [(b"PAR1", "Parquet"), (b"ORC", "ORC"), (b"Obj\x01", "Avro"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"PK\x03\x04", "zip")];

/// The folder of VPC flow logs, in the layout of AWS and in that of Hive (`aws-service=vpcflowlogs`).
const FLOW_LOGS: &str = "vpcflowlogs";

/// Columns that a header line has at least.
const COLUMNS_MIN: usize = 3;

/// What comes out of an object.
pub(super) enum Piece {
    /// First: what it is.
    Head {
        /// The framer of what follows.
        framing: &'static str,
        /// The line that names the columns, taken off.
        header: Option<String>,
    },
    /// The next bytes.
    Bytes(Vec<u8>),
}

/// Why an object cannot be read to its end.
#[derive(Debug)]
pub(super) enum ContentError {
    /// Damaged or cut.
    Corrupt(io::Error),
    /// More than so many bytes come out.
    TooLarge(u64),
    /// No text.
    Foreign(&'static str),
    /// Nobody wants more of it.
    Unwanted,
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(error) => write!(f, "damaged or cut: {error}"),
            Self::TooLarge(limit) => write!(f, "more than {limit} bytes after decompression (`object_bytes_max`)"),
            Self::Foreign(format) => write!(f, "{format} is not supported"),
            Self::Unwanted => f.write_str("nobody wants more of it"),
        }
    }
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TooLarge>()) {
            Some(TooLarge(limit)) => Self::TooLarge(*limit),
            None => Self::Corrupt(error),
        }
    }
}

/// Reads an object to its end; `give` says whether more is wanted. Blocks: for a thread of its own.
///
/// # Errors
/// See [`ContentError`]; what came before was given.
pub(super) fn read(
    input: impl BufRead + Send + 'static,
    key: &str,
    bytes_max: u64,
    mut give: impl FnMut(Piece) -> bool,
) -> Result<(), ContentError> {
    let mut plain = plain(Box::new(input), bytes_max)?;
    let mut head = beginning(&mut plain, HEAD_BYTES)?;
    if head.starts_with(b"\xef\xbb\xbf") {
        head.drain(..3);
    }
    if let Some((_, format)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(ContentError::Foreign(format));
    }
    let (framing, header, mut records) = recognise(&mut head, key);
    let mut is_wanted = give(Piece::Head { framing, header });
    let mut piece = head;
    loop {
        if let Some(records) = &mut records {
            records.keep_members(&mut piece);
        }
        if !piece.is_empty() {
            is_wanted = is_wanted && give(Piece::Bytes(piece));
        }
        if !is_wanted {
            return Err(ContentError::Unwanted);
        }
        piece = vec![0; READ_BYTES];
        let count = read_some(&mut plain, &mut piece)?;
        piece.truncate(count);
        if count == 0 {
            return Ok(());
        }
    }
}

fn read_some(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The first `len` bytes, fewer if there are no more.
fn beginning(input: &mut impl Read, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut count = 0;
    while let Some(rest) = bytes.get_mut(count..).filter(|rest| !rest.is_empty()) {
        match read_some(input, rest)? {
            0 => break,
            more => count += more,
        }
    }
    bytes.truncate(count);
    Ok(bytes)
}

type Bytes = Box<dyn BufRead + Send>;

/// The bytes without compression.
fn plain(mut input: Bytes, bytes_max: u64) -> io::Result<Box<dyn Read + Send>> {
    for _ in 0..=UNWRAP_DEPTH_MAX {
        let head = beginning(&mut input, MAGIC_BYTES)?;
        let encoding = Encoding::detect(&head);
        let whole = Cursor::new(head).chain(input);
        let layer: Box<dyn Read + Send> = match encoding {
            Encoding::Gzip => Box::new(Members { member: Some(GzDecoder::new(Box::new(whole) as Bytes)) }),
            Encoding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(whole)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
            Encoding::Identity | Encoding::Deflate => return Ok(Box::new(Capped { inner: whole, left: bytes_max, limit: bytes_max })),
        };
        let capped = Capped { inner: layer, left: bytes_max, limit: bytes_max };
        input = Box::new(BufReader::with_capacity(READ_BYTES, capped));
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "compressed more often than anybody does"))
}

#[derive(Debug)]
struct TooLarge(u64);

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "more than {} bytes", self.0)
    }
}

impl std::error::Error for TooLarge {}

/// Fails when more than the limit comes out.
struct Capped<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(TooLarge(self.limit)))?;
        Ok(count)
    }
}

/// gzip members one after the other. The crate's own reader of many members fails at the zeros with which tools fill up.
struct Members {
    /// None when the input is at its end, or failed.
    member: Option<GzDecoder<Bytes>>,
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(decoder) = &mut self.member else { return Ok(0) };
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(mut input) = self.member.take().map(GzDecoder::into_inner) else { return Ok(0) };
            match skip_zeros(&mut input)? {
                None => return Ok(0),
                Some(0x1f) => self.member = Some(GzDecoder::new(input)),
                Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "something else follows the gzip data")),
            }
        }
    }
}

/// The next byte that is no zero; it stays in the input.
fn skip_zeros(input: &mut Bytes) -> io::Result<Option<u8>> {
    loop {
        let bytes = input.fill_buf()?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let next = bytes.get(zeros).copied();
        input.consume(zeros);
        if next.is_some() {
            return Ok(next);
        }
    }
}

/// What the first bytes are; what does not belong to the events is taken off them.
fn recognise(head: &mut Vec<u8>, key: &str) -> (&'static str, Option<String>, Option<Records>) {
    if let Some(len) = records_start(head) {
        head.drain(..len);
        return ("json", None, Some(Records::default()));
    }
    match head.trim_ascii_start() {
        [b'{', ..] => return ("json", None, None),
        // `[` alone may also be how a line of text begins.
        [b'[', rest @ ..] if matches!(rest.trim_ascii_start().first(), Some(b'{' | b']')) => return ("json", None, None),
        _ => {}
    }
    let header = key.contains(FLOW_LOGS).then(|| header_len(head)).flatten();
    let header = header.map(|len| String::from_utf8_lossy(head.drain(..len).as_slice()).trim_end().to_owned());
    ("newline", header, None)
}

/// Length of `{"Records": [` at the beginning.
fn records_start(head: &[u8]) -> Option<usize> {
    let mut rest = head;
    for token in [b"{".as_slice(), b"\"Records\"", b":", b"["] {
        rest = rest.trim_ascii_start().strip_prefix(token)?;
    }
    Some(head.len() - rest.len())
}

/// Length of the first line, with its end, if it consists of names of columns.
fn header_len(head: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b'\n', head)?;
    let line = head.get(..end)?.trim_ascii_end();
    let is_name = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b' ');
    let is_header = line.first().is_some_and(u8::is_ascii_lowercase) && line.iter().all(is_name);
    (is_header && line.split(|byte| *byte == b' ').count() >= COLUMNS_MIN).then_some(end + 1)
}

/// Takes the members of an array out of the object around it.
#[derive(Default)]
struct Records {
    place: Place,
    depth: u32,
    quoted: bool,
    escaped: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    InArray,
    /// Behind the array, in the object.
    InObject,
    /// Behind the object: whatever it is, it is not lost.
    Behind,
}

impl Records {
    /// Leaves only what is in the array, or behind the object.
    fn keep_members(&mut self, bytes: &mut Vec<u8>) {
        if self.place == Place::InArray {
            let end = self.closing(bytes, 0);
            let rest = end.map(|end| bytes.split_off(end));
            let Some(mut rest) = rest else { return };
            self.place = Place::InObject;
            self.leave_object(&mut rest, 1);
            bytes.append(&mut rest);
        } else if self.place == Place::InObject {
            self.leave_object(bytes, 0);
        }
    }

    fn leave_object(&mut self, bytes: &mut Vec<u8>, from: usize) {
        match self.closing(bytes, from) {
            Some(end) => {
                self.place = Place::Behind;
                bytes.drain(..=end);
            }
            None => bytes.clear(),
        }
    }

    /// The bracket that closes what we are in, from `index` on.
    fn closing(&mut self, bytes: &[u8], mut index: usize) -> Option<usize> {
        while let Some(byte) = bytes.get(index) {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = self.quoted,
                b'"' => self.quoted = !self.quoted,
                _ if self.quoted => {
                    let rest = bytes.get(index..).unwrap_or_default();
                    index += memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    continue;
                }
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' if self.depth == 0 => return Some(index),
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
            index += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 1 << 30;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(plain: &[u8]) -> Vec<u8> {
        zstd::encode_all(plain, 1).unwrap()
    }

    /// Gives its bytes a few at a time.
    struct Trickle(Cursor<Vec<u8>>, usize);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(self.1);
            self.0.read(&mut buffer[..len])
        }
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Found {
        framing: &'static str,
        header: Option<String>,
        text: Vec<u8>,
    }

    fn read_in(object: &[u8], key: &str, step: usize, bytes_max: u64) -> (Found, Result<(), ContentError>) {
        let mut found = Found::default();
        let input = BufReader::with_capacity(step, Trickle(Cursor::new(object.to_vec()), step));
        let result = read(input, key, bytes_max, |piece| {
            match piece {
                Piece::Head { framing, header } => (found.framing, found.header) = (framing, header),
                Piece::Bytes(bytes) => found.text.extend_from_slice(&bytes),
            }
            true
        });
        (found, result)
    }

    fn whole(object: &[u8], key: &str) -> Found {
        let (found, result) = read_in(object, key, 1000, LIMIT);
        result.unwrap();
        found
    }

    fn found(framing: &'static str, text: &str) -> Found {
        Found { framing, header: None, text: text.as_bytes().to_vec() }
    }

    #[test]
    fn compression_is_told_by_the_bytes_and_may_be_nested() {
        let plain = b"line 1\nline 2\n".as_slice();
        let members = [gzip(b"line 1\n"), gzip(b""), gzip(b"line 2\n")].concat();
        let frames = [zstd(b"line 1\n"), zstd(b"line 2\n")].concat();
        let padded = [gzip(plain), vec![0; 512]].concat();
        let padded_between = [gzip(b"line 1\n"), vec![0; 3], gzip(b"line 2\n"), vec![0; 3]].concat();
        for object in
            [plain.to_vec(), gzip(plain), zstd(plain), members, frames, padded, padded_between, gzip(&gzip(plain)), zstd(&gzip(plain))]
        {
            for step in [1, 7, 100_000] {
                let (content, result) = read_in(&object, "a.txt.bz2", step, LIMIT);
                result.unwrap();
                assert_eq!(content, found("newline", "line 1\nline 2\n"));
            }
        }
        assert_eq!(whole(b"", "x"), found("newline", ""));
        assert_eq!(whole(&gzip(b""), "x"), found("newline", ""));
        let mut nested = plain.to_vec();
        for _ in 0..=UNWRAP_DEPTH_MAX {
            nested = gzip(&nested);
        }
        assert!(matches!(read_in(&nested, "x", 100, LIMIT).1, Err(ContentError::Corrupt(_))));
    }

    #[test]
    fn damage_and_cuts_are_errors_and_what_came_before_is_given() {
        let plain = "a line of text\n".repeat(40_000);
        let second = gzip(plain.as_bytes());
        let cut = [gzip(b"first\n"), second[..second.len() / 2].to_vec()].concat();
        let (content, result) = read_in(&cut, "x", 1000, LIMIT);
        assert!(matches!(result, Err(ContentError::Corrupt(_))));
        assert!(content.text.starts_with(b"first\na line") && content.text.len() > 100_000);
        let mut checksum = gzip(plain.as_bytes());
        let at = checksum.len() - 8;
        checksum[at] ^= 1;
        let zstd = zstd(plain.as_bytes());
        for object in [checksum, [gzip(b"x"), b"tail".to_vec()].concat(), zstd[..zstd.len() - 3].to_vec(), gzip(b"x")[..12].to_vec()] {
            assert!(matches!(read_in(&object, "x", 1000, LIMIT).1, Err(ContentError::Corrupt(_))));
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit_in_whichever_layer_it_is() {
        let zeros = vec![0; 20 << 20];
        for object in [gzip(&zeros), zstd(&zeros), gzip(&gzip(&zeros)), gzip(&[gzip(b"x").repeat(1), zeros.clone()].concat())] {
            let (content, result) = read_in(&object, "x", 10_000, 1 << 20);
            assert!(matches!(result, Err(ContentError::TooLarge(limit)) if limit == 1 << 20), "{result:?}");
            assert!(content.text.len() <= 1 << 20);
        }
        assert!(read_in(&gzip(&vec![b'x'; 1 << 20]), "x", 10_000, 1 << 20).1.is_ok(), "what just fits is taken");
        assert!(matches!(read_in(&[b'x'; 1001], "x", 100, 1000).1, Err(ContentError::TooLarge(1000))));
    }

    #[test]
    fn formats_that_are_no_text_are_named() {
        for (object, name) in
            [(b"PAR1....".as_slice(), "Parquet"), (b"Obj\x01...", "Avro"), (&gzip(b"PAR1...."), "Parquet"), (b"BZh91AY", "bzip2")]
        {
            let (_, result) = read_in(object, "x.json.gz", 1000, LIMIT);
            assert!(matches!(result, Err(ContentError::Foreign(format)) if format == name), "{result:?}");
        }
    }

    #[test]
    fn what_it_is_the_first_bytes_say() {
        assert_eq!(whole(b"\xef\xbb\xbf {\"a\":1}\n{\"a\":2}", "x"), found("json", " {\"a\":1}\n{\"a\":2}"));
        assert_eq!(whole(b"[\n{\"a\":1},{\"a\":2}]", "x").framing, "json");
        assert_eq!(whole(b"[2026-11-22] text", "x").framing, "newline");
        assert_eq!(whole(b"2 111122223333 eni-1", "x").framing, "newline");
        assert_eq!(whole(b"{\"Records\":{\"a\":1}}", "x"), found("json", "{\"Records\":{\"a\":1}}"));
    }

    #[test]
    fn members_of_records_come_without_their_envelope() {
        let members = r#"{"eventName":"a]}","x":[{}]},{"eventName":"\"]}","y":{"z":"\\"}}"#;
        for (before, behind, left) in [
            ("{\"Records\":[", "]}", ""),
            (" {\n \"Records\" :\n [", "\n ] }\n", "\n"),
            ("{\"Records\":[", "],\"more\":{\"x\":\"}\",\"y\":[1]}} ", " "),
            ("{\"Records\":[", "]}{\"Records\":[{}]}", "{\"Records\":[{}]}"),
        ] {
            let object = format!("{before}{members}{behind}");
            let inner_end = behind.split(']').next().unwrap();
            for step in [1, 2, 3, 5, 1000] {
                let mut records = Records::default();
                let start = records_start(object.as_bytes()).unwrap();
                let mut out = Vec::new();
                for piece in object.as_bytes()[start..].chunks(step) {
                    let mut piece = piece.to_vec();
                    records.keep_members(&mut piece);
                    out.extend_from_slice(&piece);
                }
                assert_eq!(String::from_utf8(out).unwrap(), format!("{members}{inner_end}{left}"), "in steps of {step}");
            }
            assert_eq!(whole(&gzip(object.as_bytes()), "x").text, format!("{members}{inner_end}{left}").as_bytes());
        }
    }

    #[test]
    fn the_header_of_a_flow_log_goes_beside_its_lines() {
        let text = "version account-id srcaddr\n2 111122223333 10.0.0.1\n";
        let key = "AWSLogs/111122223333/vpcflowlogs/eu-central-1/2026/11/22/x.log.gz";
        let content = whole(&gzip(text.as_bytes()), key);
        assert_eq!(
            (content.header.as_deref(), content.text.as_slice()),
            (Some("version account-id srcaddr"), &b"2 111122223333 10.0.0.1\n"[..])
        );
        for (key, text) in [("other/x.log", text), (key, "2 111122223333 10.0.0.1\n"), (key, "two words\nx"), (key, "no line end at all")] {
            assert_eq!(whole(text.as_bytes(), key), found("newline", text));
        }
    }

    #[test]
    fn who_wants_no_more_gets_no_more() {
        let object = "line\n".repeat(100_000);
        let mut pieces = 0;
        let result = read(Cursor::new(object.into_bytes()), "x", LIMIT, |_| {
            pieces += 1;
            pieces < 3
        });
        assert!(matches!(result, Err(ContentError::Unwanted)) && pieces == 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000), kind in 0usize..4, step in 1usize..50) {
            let object = match kind {
                0 => bytes,
                1 => [b"\x1f\x8b\x08\0".as_slice(), &bytes].concat(),
                2 => [b"\x28\xb5\x2f\xfd".as_slice(), &bytes].concat(),
                _ => [b"{\"Records\":[".as_slice(), &bytes].concat(),
            };
            let (content, _) = read_in(&object, "vpcflowlogs", step, 100_000);
            prop_assert!(content.text.len() <= 100_000);
        }
    }
}
