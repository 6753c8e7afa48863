//! Pages of one column of a row group: `file, place -> decompressed pages for the decoders of the crate parquet`.
//!
//! The crate has a reader of pages too; that one lets gzip and brotli give as much as they like, and believes sizes and counts
//! of headers. Here a page is at most [`PAGE_BYTES_MAX`] and just as long as its header says, what all columns hold together is
//! at most [`HELD_BYTES_MAX`], and counts that a decoder makes room for are held against the bytes of the page.
//!
//! Source: `parquet.thrift`, `Compression.md` and `Encodings.md` of parquet-format 2.12. `LZ4` is taken as Hadoop frames it or
//! as one block; LZO is not supported, encrypted columns are not. Checksums of pages are not looked at.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use ::parquet::basic::{Compression, Encoding, Type};
use ::parquet::column::page::{Page, PageMetadata, PageReader};
use ::parquet::errors::{ParquetError, Result};
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::schema::types::ColumnDescPtr;
use brotli_decompressor::Decompressor;
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::delta;
use super::thrift::{Broken, PageHeader};
use crate::limits::{INFLATED_BYTES_MAX, READ_BYTES};

/// Decompressed bytes of one page. Writers end a page at 1 MiB; one value may be larger.
const PAGE_BYTES_MAX: u64 = INFLATED_BYTES_MAX as u64;

/// Pages and dictionaries of all columns at once: two of a MiB for each of 250 columns.
const HELD_BYTES_MAX: u64 = 512 << 20;

/// Values of one page of lists: their levels are read a whole row at a time, and take no bytes where all are the same.
pub(super) const LEVELS_MAX: u64 = 1 << 22;

/// What a value of a list costs while it is read: two levels and the value.
const LEVEL_BYTES: u64 = 36;

/// What a text of a dictionary costs beside its bytes.
const TEXT_BYTES: u64 = 32;

/// A header without statistics; those of long texts may be long.
const HEADER_BYTES: u64 = 4 << 10;
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// Work that a file may cause beyond what is right for its size.
const WORK_BYTES_MIN: u64 = 1 << 30;

/// The best that zstd does on logs that repeat themselves, and some.
const WORK_BYTES_PER_BYTE: u64 = 4096;

/// What a file takes, over all columns.
pub(super) struct Meter {
    held_bytes: AtomicU64,
    work_bytes: AtomicU64,
    work_bytes_max: u64,
}

impl Meter {
    /// For a file of so many bytes.
    pub(super) fn new(file_bytes: u64) -> Self {
        let work_bytes_max = file_bytes.saturating_mul(WORK_BYTES_PER_BYTE).saturating_add(WORK_BYTES_MIN);
        Self { held_bytes: AtomicU64::new(0), work_bytes: AtomicU64::new(0), work_bytes_max }
    }

    /// Counts bytes that came out of the file, decompressed or as JSON.
    ///
    /// # Errors
    /// It is a bomb.
    pub(super) fn work(&self, bytes: u64) -> io::Result<()> {
        if self.work_bytes.fetch_add(bytes, Relaxed) > self.work_bytes_max {
            return Err(damaged("more comes out of the file than its size can explain"));
        }
        Ok(())
    }

    fn hold(&self, bytes: u64, instead_of: u64) -> io::Result<()> {
        let held = self.held_bytes.fetch_add(bytes, Relaxed) + bytes;
        self.held_bytes.fetch_sub(instead_of, Relaxed);
        if held > HELD_BYTES_MAX {
            return Err(damaged(&format!("the pages of its columns take more than {HELD_BYTES_MAX} bytes at once")));
        }
        Ok(())
    }
}

/// Lets one page through at a time, so that a column holds no more than it has to.
#[derive(Default)]
pub(super) struct Gate(AtomicBool);

impl Gate {
    pub(super) fn open(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether no page went through since it was opened.
    pub(super) fn is_open(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// See the module.
pub(super) struct Pages {
    file: Arc<File>,
    meter: Arc<Meter>,
    gate: Arc<Gate>,
    column: ColumnDescPtr,
    codec: Compression,
    at: u64,
    end: u64,
    /// Levels of the pages that are still to come, by the column's own count.
    values_left: i64,
    is_version_2: bool,
    has_dictionary: bool,
    dictionary_bytes: u64,
    page_bytes: u64,
}

impl Pages {
    /// Those of a column.
    ///
    /// # Errors
    /// They are not in the file.
    pub(super) fn new(
        (file, file_bytes): (Arc<File>, u64),
        meter: Arc<Meter>,
        gate: Arc<Gate>,
        column: ColumnDescPtr,
        chunk: &ColumnChunkMetaData,
    ) -> io::Result<Self> {
        if chunk.file_path().is_some() {
            return Err(damaged("its pages are in another file, which is not supported"));
        }
        let first = chunk.data_page_offset();
        // Some writers say 0 where there is none.
        let first = chunk.dictionary_page_offset().filter(|at| *at > 0 && *at < first).unwrap_or(first);
        let range = u64::try_from(first).ok().zip(u64::try_from(chunk.compressed_size()).ok());
        let range = range.and_then(|(at, bytes)| Some((at, at.checked_add(bytes).filter(|end| *end <= file_bytes)?)));
        let (at, end) = range.ok_or_else(|| damaged("its pages are not in the file"))?;
        let (codec, values_left) = (chunk.compression(), chunk.num_values());
        let (is_version_2, has_dictionary, dictionary_bytes, page_bytes) = Default::default();
        Ok(Self { file, meter, gate, column, codec, at, end, values_left, is_version_2, has_dictionary, dictionary_bytes, page_bytes })
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.end || self.values_left <= 0
    }

    fn read(&self, at: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; bytes as usize];
        self.file.read_exact_at(&mut buffer, at)?;
        Ok(buffer)
    }

    fn header(&mut self) -> io::Result<PageHeader> {
        let mut bytes = HEADER_BYTES;
        loop {
            let head = self.read(self.at, bytes.min(self.end - self.at))?;
            match PageHeader::read(&head) {
                Ok((header, len)) => {
                    self.at += len as u64;
                    return Ok(header);
                }
                Err(Broken::Ends) if bytes < HEADER_BYTES_MAX && bytes < self.end - self.at => bytes = HEADER_BYTES_MAX,
                Err(broken) => return Err(damaged(&format!("a page has a broken header: {broken}"))),
            }
        }
    }

    /// The next page of data or a dictionary; none at the end or if the gate is closed.
    fn next_page(&mut self) -> io::Result<Option<Page>> {
        while !self.is_at_end() {
            let before = self.at;
            let header = self.header()?;
            let is_data = matches!(header.kind, 0 | 3);
            if is_data && !self.gate.0.swap(false, Relaxed) {
                self.at = before;
                return Ok(None);
            }
            let stored = header.stored_bytes as u64;
            if stored > self.end - self.at || header.plain_bytes as u64 > PAGE_BYTES_MAX || stored > 2 * PAGE_BYTES_MAX {
                return Err(damaged(&format!("a page is cut, or has more than {PAGE_BYTES_MAX} bytes")));
            }
            let (at, broken) = (self.at, |broken| damaged(&format!("a page has a broken header: {broken}")));
            self.at += stored;
            return match header.kind {
                0 => self.data(at, &header).map(Some),
                2 => self.dictionary(at, &header, header.number(1).map_err(broken)?).map(Some),
                3 => self.data_2(at, &header).map(Some),
                _ => continue,
            };
        }
        Ok(None)
    }

    /// The bytes of a page, of which the first `plain` are never compressed.
    fn bytes(&self, at: u64, header: &PageHeader, plain: usize, is_compressed: bool) -> io::Result<Bytes> {
        let (stored, size) = (self.read(at, header.stored_bytes as u64)?, header.plain_bytes as usize);
        self.meter.work(stored.len() as u64 + size as u64)?;
        if !is_compressed || self.codec == Compression::UNCOMPRESSED {
            return Ok(stored.into());
        }
        let (levels, packed) = stored.split_at_checked(plain).ok_or_else(|| damaged("a page is shorter than its levels"))?;
        let size = size.checked_sub(plain).ok_or_else(|| damaged("a page is shorter than its levels"))?;
        let values = decompress(self.codec, packed, size)?;
        Ok(if levels.is_empty() { values.into() } else { [levels, &values].concat().into() })
    }

    fn dictionary(&mut self, at: u64, header: &PageHeader, num_values: u32) -> io::Result<Page> {
        if self.has_dictionary {
            return Err(damaged("it has two dictionaries"));
        }
        let buf = self.bytes(at, header, 0, true)?;
        let least = match self.column.physical_type() {
            Type::INT64 | Type::DOUBLE => 8,
            Type::INT96 => 12,
            Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(self.column.type_length()).unwrap_or(1).max(1),
            _ => 4,
        };
        let values = u64::from(num_values);
        if values * least > buf.len() as u64 {
            return Err(damaged("its dictionary has more values than there are bytes"));
        }
        let bytes = buf.len() as u64 + values * TEXT_BYTES;
        self.meter.hold(bytes, 0)?;
        (self.has_dictionary, self.dictionary_bytes) = (true, bytes);
        let encoding = encoding(header, 2)?;
        Ok(Page::DictionaryPage { buf, num_values, encoding, is_sorted: false })
    }

    /// Data of version 1: everything is compressed.
    fn data(&mut self, at: u64, header: &PageHeader) -> io::Result<Page> {
        let buf = self.bytes(at, header, 0, true)?;
        let (num_values, encoding_of_values) = (number(header, 1)?, encoding(header, 2)?);
        let (def_level_encoding, rep_level_encoding) = (encoding(header, 3)?, encoding(header, 4)?);
        let mut values = 0;
        let levels = [(self.column.max_rep_level(), rep_level_encoding), (self.column.max_def_level(), def_level_encoding)];
        for (max, encoding) in levels.into_iter().filter(|(max, _)| *max > 0) {
            let rest = buf.get(values..).unwrap_or_default();
            values += match (encoding, rest.first_chunk::<4>()) {
                (Encoding::RLE, Some(len)) => 4 + u32::from_le_bytes(*len) as usize,
                (Encoding::RLE, None) => return Err(damaged("a page is shorter than its levels")),
                // The only other one that there is for levels.
                _ => (num_values as usize * (i16::BITS - max.leading_zeros()) as usize).div_ceil(8),
            };
        }
        self.take(num_values, encoding_of_values, &buf, values)?;
        self.is_version_2 = false;
        Ok(Page::DataPage { buf, num_values, encoding: encoding_of_values, def_level_encoding, rep_level_encoding, statistics: None })
    }

    /// Data of version 2: levels are never compressed, values if the header says so.
    fn data_2(&mut self, at: u64, header: &PageHeader) -> io::Result<Page> {
        let (num_values, num_nulls, num_rows) = (number(header, 1)?, number(header, 2)?, number(header, 3)?);
        let (def_levels_byte_len, rep_levels_byte_len) = (number(header, 5)?, number(header, 6)?);
        let levels = def_levels_byte_len as usize + rep_levels_byte_len as usize;
        let is_compressed = header.numbers[7] != Some(0);
        let buf = self.bytes(at, header, levels, is_compressed)?;
        let encoding = encoding(header, 4)?;
        self.take(num_values, encoding, &buf, levels)?;
        self.is_version_2 = true;
        let (statistics, is_compressed) = (None, false);
        Ok(Page::DataPageV2 {
            buf,
            num_values,
            encoding,
            num_nulls,
            num_rows,
            def_levels_byte_len,
            rep_levels_byte_len,
            is_compressed,
            statistics,
        })
    }

    /// Checks a page of data, whose values begin at `start`, and counts it.
    fn take(&mut self, num_values: u32, encoding: Encoding, page: &Bytes, start: usize) -> io::Result<()> {
        let values = page.get(start..).ok_or_else(|| damaged("a page is shorter than its levels"))?;
        let count = u64::from(num_values);
        let is_list = self.column.max_rep_level() > 0;
        if is_list && count > LEVELS_MAX {
            return Err(damaged(&format!("a page of lists has more than {LEVELS_MAX} values")));
        }
        match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => delta::check_texts(values, count)?,
            Encoding::DELTA_BYTE_ARRAY => delta::check_prefixed(values, count, PAGE_BYTES_MAX)?,
            Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY if !self.has_dictionary => {
                return Err(damaged("a page refers to a dictionary that is not there"));
            }
            _ => {}
        }
        let bytes = page.len() as u64 + if is_list { count * LEVEL_BYTES } else { 0 };
        self.meter.hold(bytes, self.page_bytes)?;
        self.page_bytes = bytes;
        self.values_left -= i64::from(num_values);
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.meter.held_bytes.fetch_sub(self.dictionary_bytes + self.page_bytes, Relaxed);
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.next_page().map_err(|error| ParquetError::General(error.to_string()))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        Err(ParquetError::NYI("rows are read one after the other".to_owned()))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        Err(ParquetError::NYI("rows are read one after the other".to_owned()))
    }

    /// Lists may go on in the next page in version 1 only.
    fn at_record_boundary(&mut self) -> Result<bool> {
        Ok(self.is_version_2 || self.is_at_end())
    }
}

/// The bytes of a page, just as many as there must be.
fn decompress(codec: Compression, packed: &[u8], size: usize) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    // More than there must be are not made, and one more tells that there are more.
    let most = size as u64 + 1;
    match codec {
        // A page of nulls has no values to compress.
        _ if size == 0 => {}
        Compression::UNCOMPRESSED => plain.extend_from_slice(packed),
        Compression::GZIP(_) => plain = all(MultiGzDecoder::new(packed).take(most))?,
        Compression::BROTLI(_) => plain = all(Decompressor::new(packed, READ_BYTES).take(most))?,
        Compression::ZSTD(_) => plain = zstd::bulk::decompress(packed, size)?,
        Compression::SNAPPY => {
            if snap::raw::decompress_len(packed).map_err(|error| damaged(&error.to_string()))? == size {
                plain = snap::raw::Decoder::new().decompress_vec(packed).map_err(|error| damaged(&error.to_string()))?;
            }
        }
        Compression::LZ4_RAW => plain = lz4(packed, size)?,
        Compression::LZ4 => plain = hadoop_lz4(packed, size).or_else(|_| lz4(packed, size))?,
        Compression::LZO => return Err(damaged("it is compressed by LZO, which is not supported")),
    }
    if plain.len() != size {
        return Err(damaged(&format!("a page is not decompressed to the {size} bytes that it must have")));
    }
    Ok(plain)
}

fn all<R: Read>(mut input: io::Take<R>) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    #[expect(clippy::disallowed_methods, reason = "it is bounded by `take`")]
    input.read_to_end(&mut plain)?;
    Ok(plain)
}

fn lz4(packed: &[u8], size: usize) -> io::Result<Vec<u8>> {
    lz4_flex::block::decompress(packed, size).map_err(|error| damaged(&error.to_string()))
}

/// Blocks, each behind its plain and its compressed length in big endian (Hadoop's `BlockCompressorStream`).
fn hadoop_lz4(packed: &[u8], size: usize) -> io::Result<Vec<u8>> {
    let (mut plain, mut rest) = (Vec::new(), packed);
    while let Some((lengths, behind)) = rest.split_first_chunk::<8>() {
        let [bytes, stored] = [0, 4].map(|at| lengths[at..].first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize));
        let (block, behind) = behind.split_at_checked(stored).ok_or_else(|| damaged("a block is cut"))?;
        if bytes > size - plain.len() {
            return Err(damaged("a block is too long"));
        }
        plain.extend_from_slice(&lz4(block, bytes)?);
        rest = behind;
    }
    if rest.is_empty() && plain.len() == size { Ok(plain) } else { Err(damaged("a block is cut")) }
}

fn number(header: &PageHeader, id: usize) -> io::Result<u32> {
    header.number(id).map_err(|broken| damaged(&format!("a page has a broken header: {broken}")))
}

fn encoding(header: &PageHeader, id: usize) -> io::Result<Encoding> {
    Ok(match number(header, id)? {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        #[expect(deprecated, reason = "old files have levels in it")]
        4 => Encoding::BIT_PACKED,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        other => return Err(damaged(&format!("a page has an encoding ({other}) that is not supported"))),
    })
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn hadoop(blocks: &[&[u8]]) -> Vec<u8> {
        let block = |plain: &&[u8]| {
            let stored = lz4_flex::block::compress(plain);
            [&(plain.len() as u32).to_be_bytes()[..], &(stored.len() as u32).to_be_bytes(), &stored].concat()
        };
        blocks.iter().flat_map(block).collect()
    }

    #[test]
    fn every_codec_gives_what_was_compressed_and_no_byte_more() {
        let plain = b"10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 ".repeat(3);
        // As pyarrow compresses it.
        let brotli = [
            0x1b, 0x6b, 0x00, 0x00, 0x04, 0x14, 0x39, 0x24, 0x2d, 0xd0, 0x72, 0xdb, 0x81, 0x4a, 0x34, 0x81, 0x4c, 0x1a, 0x93, 0x55, 0x2c,
            0x86, 0xa0, 0x6c, 0x71, 0x3e,
        ];
        let (gzip_codec, brotli_codec) = (Compression::GZIP(Default::default()), Compression::BROTLI(Default::default()));
        let zstd_codec = Compression::ZSTD(Default::default());
        let cases = [
            (Compression::UNCOMPRESSED, plain.clone()),
            (gzip_codec, gzip(&plain)),
            (gzip_codec, [gzip(&plain[..50]), gzip(&plain[50..])].concat()),
            (zstd_codec, zstd::encode_all(&plain[..], 3).unwrap()),
            (Compression::SNAPPY, snap::raw::Encoder::new().compress_vec(&plain).unwrap()),
            (Compression::LZ4_RAW, lz4_flex::block::compress(&plain)),
            (Compression::LZ4, lz4_flex::block::compress(&plain)),
            (Compression::LZ4, hadoop(&[&plain[..7], &plain[7..]])),
            (brotli_codec, brotli.to_vec()),
        ];
        for (codec, packed) in cases {
            assert_eq!(decompress(codec, &packed, plain.len()).unwrap(), plain, "{codec}");
            for size in [plain.len() - 1, plain.len() + 1] {
                assert!(decompress(codec, &packed, size).is_err(), "{codec} {size}");
            }
            assert!(decompress(codec, &packed[..packed.len() / 2], plain.len()).is_err(), "{codec} cut");
            assert_eq!(decompress(codec, &[], 0).unwrap(), b"");
        }
        assert!(decompress(Compression::LZO, b"x", 1).unwrap_err().to_string().contains("LZO"));
    }

    #[test]
    fn a_bomb_is_not_inflated_beyond_the_size_of_its_page() {
        let zeros = vec![0; 32 << 20];
        let error = decompress(Compression::GZIP(Default::default()), &gzip(&zeros), 1000).unwrap_err();
        assert!(error.to_string().contains("1000 bytes"), "{error}");
    }
}
