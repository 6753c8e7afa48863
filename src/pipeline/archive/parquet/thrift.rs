//! Structures in Thrift's compact protocol, walked without believing them: `bytes -> checked footer, page headers`.
//!
//! Sources: `thrift-compact-protocol.md` of Apache Thrift, `parquet.thrift` of parquet-format 2.12.
//!
//! The crate `parquet` makes room for as many members as a list says that it has, and follows a schema as deep as it goes: a
//! footer of a few bytes could take all memory or the stack. So it is walked here before: every list and text must have room
//! in the bytes that are there, and the schema is as deep and as wide as [`SCHEMA_DEPTH_MAX`] and [`SCHEMA_NODES_MAX`] at most.
//! Fields come in the order of their ids, as all writers have them: a second one could be another to another reader.

use std::fmt;

/// Groups within groups of a schema. OCSF nests ten deep; each list is two.
const SCHEMA_DEPTH_MAX: usize = 64;

/// Columns and groups of a schema. OCSF has some hundreds.
const SCHEMA_NODES_MAX: u64 = 10_000;

/// Structures within structures: `parquet.thrift` has less than ten.
const DEPTH_MAX: u32 = 32;

/// A row group has at least three fields that are required.
const ROW_GROUP_BYTES_MIN: u64 = 7;

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Why a structure cannot be walked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The bytes end before it does.
    Ends,
    /// It is none.
    Wrong(&'static str),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ends => f.write_str("it ends too early"),
            Self::Wrong(what) => f.write_str(what),
        }
    }
}

/// What stands before the bytes of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// 0 data, 1 index, 2 dictionary, 3 data of version 2.
    pub(super) kind: i64,
    pub(super) plain_bytes: i64,
    pub(super) stored_bytes: i64,
    /// Numbers of the data, dictionary or version 2 data header that it has, by the ids of their fields.
    pub(super) numbers: [Option<i64>; NUMBERS],
}

/// Fields of a page's own header: ids 1 to 7 are numbers, the rest is statistics.
const NUMBERS: usize = 8;

impl PageHeader {
    /// Reads one; gives its length too.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, usize), Broken> {
        let mut walk = Walk { rest: bytes };
        let (mut header, mut last) = (Self::default(), 0);
        let (mut has_kind, mut has_sizes) = (false, 0);
        while let Some((id, kind)) = walk.field(last)? {
            last = id;
            match (id, kind) {
                (1, I32) => (header.kind, has_kind) = (walk.signed()?, true),
                (2, I32) => (header.plain_bytes, has_sizes) = (walk.signed()?, has_sizes + 1),
                (3, I32) => (header.stored_bytes, has_sizes) = (walk.signed()?, has_sizes + 1),
                (5 | 7 | 8, STRUCT) => header.numbers = walk.numbers()?,
                _ => walk.skip(kind, 0)?,
            }
        }
        if !has_kind || has_sizes != 2 || header.plain_bytes < 0 || header.stored_bytes < 0 {
            return Err(Broken::Wrong("it has no type or size"));
        }
        Ok((header, bytes.len() - walk.rest.len()))
    }

    /// A number of its own header that must be there and not be negative.
    pub(super) fn number(&self, id: usize) -> Result<u32, Broken> {
        let number = self.numbers.get(id).copied().flatten().and_then(|number| i32::try_from(number).ok());
        number.and_then(|number| u32::try_from(number).ok()).ok_or(Broken::Wrong("a number is missing or negative"))
    }
}

/// Walks a file's metadata.
pub(super) fn check_footer(bytes: &[u8]) -> Result<(), Broken> {
    let (mut walk, mut last) = (Walk { rest: bytes }, 0);
    while let Some((id, kind)) = walk.field(last)? {
        last = id;
        match (id, kind) {
            (2, LIST) => walk.schema()?,
            (4, LIST) => {
                let (count, kind) = walk.list(ROW_GROUP_BYTES_MIN)?;
                (0..count).try_for_each(|_| walk.skip(kind, 1))?;
            }
            _ => walk.skip(kind, 0)?,
        }
    }
    Ok(())
}

struct Walk<'a> {
    rest: &'a [u8],
}

impl Walk<'_> {
    fn byte(&mut self) -> Result<u8, Broken> {
        let (first, rest) = self.rest.split_first().ok_or(Broken::Ends)?;
        self.rest = rest;
        Ok(*first)
    }

    fn pass(&mut self, bytes: u64) -> Result<(), Broken> {
        self.rest = usize::try_from(bytes).ok().and_then(|bytes| self.rest.get(bytes..)).ok_or(Broken::Ends)?;
        Ok(())
    }

    fn unsigned(&mut self) -> Result<u64, Broken> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Broken::Wrong("a number has more than 64 bits"))
    }

    fn signed(&mut self) -> Result<i64, Broken> {
        let number = self.unsigned()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// Id and type of the next field; none at the end of the structure.
    fn field(&mut self, last: i64) -> Result<Option<(i64, u8)>, Broken> {
        let head = self.byte()?;
        let id = match head >> 4 {
            _ if head == 0 => return Ok(None),
            0 => self.signed()?,
            delta => last + i64::from(delta),
        };
        if id <= last || id > i64::from(i16::MAX) {
            return Err(Broken::Wrong("its fields are out of their order"));
        }
        Ok(Some((id, head & 15)))
    }

    /// Count and type of what is in a list, whose members take so many bytes at least.
    fn list(&mut self, bytes_min: u64) -> Result<(u64, u8), Broken> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.unsigned()? } else { u64::from(head >> 4) };
        if count.checked_mul(bytes_min).is_none_or(|bytes| bytes > self.rest.len() as u64) {
            return Err(Broken::Wrong("a list has more members than there are bytes"));
        }
        Ok((count, head & 15))
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Result<(), Broken> {
        if depth > DEPTH_MAX {
            return Err(Broken::Wrong("it is nested too deep"));
        }
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.pass(1),
            I16 | I32 | I64 => self.unsigned().map(drop),
            DOUBLE => self.pass(8),
            BINARY => {
                let bytes = self.unsigned()?;
                self.pass(bytes)
            }
            LIST => {
                let (count, kind) = self.list(1)?;
                // What a flag is in a structure's field takes a byte in a list.
                let kind = if matches!(kind, TRUE | FALSE) { BYTE } else { kind };
                (0..count).try_for_each(|_| self.skip(kind, depth + 1))
            }
            STRUCT => {
                let mut last = 0;
                while let Some((id, kind)) = self.field(last)? {
                    last = id;
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(Broken::Wrong("a field has a type that Parquet does not use")),
        }
    }

    /// The numbers and flags of a structure, by the ids of their fields.
    fn numbers(&mut self) -> Result<[Option<i64>; NUMBERS], Broken> {
        let (mut numbers, mut last) = ([None; NUMBERS], 0);
        while let Some((id, kind)) = self.field(last)? {
            last = id;
            let slot = usize::try_from(id).ok().and_then(|id| numbers.get_mut(id));
            match (kind, slot) {
                (TRUE | FALSE, Some(slot)) => *slot = Some(i64::from(kind == TRUE)),
                (I32, Some(slot)) => *slot = Some(self.signed()?),
                _ => self.skip(kind, 1)?,
            }
        }
        Ok(numbers)
    }

    /// Walks the schema: its nodes in depth-first order, each with the number of its children.
    fn schema(&mut self) -> Result<(), Broken> {
        let (count, kind) = self.list(1)?;
        if kind != STRUCT || count > SCHEMA_NODES_MAX {
            return Err(Broken::Wrong("its schema has more than 10,000 columns and groups"));
        }
        // Children that are still to come, of each group that is open.
        let mut open = Vec::<i64>::new();
        for _ in 0..count {
            while open.pop_if(|left| *left == 0).is_some() {}
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            let (mut children, mut last) = (0, 0);
            while let Some((id, kind)) = self.field(last)? {
                last = id;
                match (id, kind) {
                    (5, I32) => children = self.signed()?,
                    _ => self.skip(kind, 1)?,
                }
            }
            if children < 0 {
                return Err(Broken::Wrong("a group of its schema has less than no columns"));
            }
            if children > 0 {
                open.push(children);
            }
            if open.len() > SCHEMA_DEPTH_MAX {
                return Err(Broken::Wrong("its schema is nested too deep"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: &[u8]) -> Result<(PageHeader, usize), Broken> {
        PageHeader::read(bytes)
    }

    #[test]
    fn a_page_header_is_read_and_what_is_cut_is_said_to_end() {
        // A dictionary page: 300 bytes, 200 as stored, 5 values, encoding 0.
        let bytes = [0x15, 4, 0x15, 0xd8, 4, 0x15, 0x90, 3, 0x4c, 0x15, 10, 0x15, 0, 0x11, 0, 0, 99];
        let (read, len) = header(&bytes).unwrap();
        assert_eq!((read.kind, read.plain_bytes, read.stored_bytes, len), (2, 300, 200, 16));
        assert_eq!((read.number(1), read.number(2), read.numbers[3]), (Ok(5), Ok(0), Some(1)));
        assert!(read.number(4).is_err());
        for end in 0..16 {
            assert_eq!(header(&bytes[..end]), Err(Broken::Ends), "{end}");
        }
    }

    #[test]
    fn headers_that_could_be_read_in_two_ways_are_refused() {
        // A second size behind the first ones; a delta of nothing; sizes that are missing or negative.
        for bytes in
            [&[0x15, 0, 0x15, 2, 0x15, 2, 0x05, 4, 0x7f, 0][..], &[0x05, 0, 0], &[0x15, 0, 0x15, 2, 0], &[0x15, 0, 0x15, 1, 0x15, 2, 0]]
        {
            assert!(matches!(header(bytes), Err(Broken::Wrong(_))), "{bytes:?}");
        }
        assert!(matches!(header(&[0xff; 20]), Err(Broken::Wrong(_))));
    }

    #[test]
    fn a_footer_with_more_than_it_has_bytes_for_is_refused() {
        let long_list = [0x49, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0];
        let long_text = [0x68, 0xff, 0xff, 0xff, 0x7f, b'x'];
        assert_eq!(check_footer(&long_list), Err(Broken::Wrong("a list has more members than there are bytes")));
        assert_eq!(check_footer(&long_text), Err(Broken::Ends));
        let nested: Vec<u8> = std::iter::repeat_n(0x1c, 1000).collect();
        assert_eq!(check_footer(&nested), Err(Broken::Wrong("it is nested too deep")));
        // Groups of one group each.
        let chain = |depth: u16| {
            let count = [0xfc, (depth & 0x7f) as u8 | 0x80, (depth >> 7) as u8];
            let nodes = (0..depth).flat_map(|_| [0x48, 1, b'g', 0x15, 2, 0]);
            [0x15, 2, 0x19].into_iter().chain(count).chain(nodes).chain([0]).collect::<Vec<u8>>()
        };
        assert_eq!(check_footer(&chain(64)), Ok(()));
        assert_eq!(check_footer(&chain(65)), Err(Broken::Wrong("its schema is nested too deep")));
        assert_eq!(check_footer(&chain(10_001)), Err(Broken::Wrong("its schema has more than 10,000 columns and groups")));
    }
}
