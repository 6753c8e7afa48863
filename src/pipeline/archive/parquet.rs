//! Parquet files of an archive, row by row: `file -> {"column":value,...} of each row`.
//!
//! Columns stand in the order of the schema, nulls are left out, groups are objects, lists are arrays (in the forms of old
//! writers too: `LogicalTypes.md` of parquet-format, "Backward-compatibility rules"), maps are objects; values are written by
//! [`value`]. A row of more than [`FRAME_BYTES_MAX`] bytes is left out, for JSON that is cut is worth nothing.
//!
//! In memory are, of each column, the rest of one page and its dictionary ([`pages`] has the bounds). The file needs to be one
//! that can be read at any place: no pipe.
//!
//! The crate `parquet` decodes the footer and the values. It believes a file in places where it should not (see [`thrift`],
//! [`pages`], [`delta`]), and panics at some that are damaged, which is caught here. Its reader of rows is not used: it knows
//! few types, and panics at others.
//!
//! Not supported: encrypted files, LZO, columns in other files.

mod delta;
mod pages;
mod thrift;
mod value;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ::parquet::basic::{ConvertedType, LogicalType, Repetition, Type as Physical};
use ::parquet::column::reader::ColumnReaderImpl;
use ::parquet::data_type::{
    BoolType, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type, Int64Type, Int96Type,
};
use ::parquet::errors::{ParquetError, Result as Decoded};
use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy};
use ::parquet::schema::types::{ColumnDescPtr, Type};
use pages::{Gate, LEVELS_MAX, Meter, Pages, damaged};
use value::{Meaning, ToJson};

use super::Next;
use crate::json::write_string;
use crate::limits::FRAME_BYTES_MAX;

/// Metadata of a file: 100,000 pieces of columns, of 100 bytes each, and some.
const FOOTER_BYTES_MAX: u64 = 32 << 20;

/// Length of the metadata, and `PAR1`.
const TAIL_BYTES: u64 = 8;

/// Rows that are decoded of a column at a time.
const ROWS_AT_ONCE: usize = 1024;

/// Work for a row that has nothing in it.
const ROW_BYTES: u64 = 64;

/// The rows of a file.
pub(super) struct Rows {
    file: Arc<File>,
    file_bytes: u64,
    metadata: ParquetMetaData,
    members: Vec<Member>,
    meter: Arc<Meter>,
    /// The row group that comes next.
    group: usize,
    columns: Vec<Column>,
    rows_left: u64,
}

impl Rows {
    /// # Errors
    /// It is damaged, encrypted, a pipe, or its metadata is beyond what is read.
    pub(super) fn open(file: File) -> io::Result<Self> {
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("Parquet is read from its end: expected a file and no pipe"));
        }
        guarded(|| Self::open_unguarded(file))
    }

    fn open_unguarded(file: File) -> io::Result<Self> {
        let file_bytes = file.metadata()?.len();
        let mut tail = [0; TAIL_BYTES as usize];
        let tail_at = file_bytes.checked_sub(TAIL_BYTES).ok_or_else(|| damaged("the file is cut"))?;
        file.read_exact_at(&mut tail, tail_at)?;
        let [a, b, c, d, magic @ ..] = tail;
        match &magic {
            b"PAR1" => {}
            b"PARE" => return Err(damaged("the file is encrypted, which is not supported")),
            _ => return Err(damaged("the file is cut: its metadata, which stands at its end, is missing")),
        }
        let footer_bytes = u64::from(u32::from_le_bytes([a, b, c, d]));
        let footer_at = tail_at.checked_sub(footer_bytes).ok_or_else(|| damaged("its metadata is longer than the file"))?;
        if footer_bytes > FOOTER_BYTES_MAX {
            return Err(damaged(&format!("its metadata has more than {FOOTER_BYTES_MAX} bytes")));
        }
        let mut footer = vec![0; footer_bytes as usize];
        file.read_exact_at(&mut footer, footer_at)?;
        thrift::check_footer(&footer).map_err(|broken| damaged(&format!("its metadata is broken: {broken}")))?;
        let mut options = ParquetMetaDataOptions::new();
        // Nothing is chosen by them, and they are most of the metadata.
        options.set_column_stats_policy(ParquetStatisticsPolicy::SkipAll);
        options.set_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
        options.set_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let metadata = ParquetMetaDataReader::decode_metadata_with_options(&footer, Some(&options)).map_err(|error| told(&error))?;
        let schema = metadata.file_metadata().schema_descr().root_schema_ptr();
        let members = members(&schema, Levels::default(), &mut 0);
        let (file, meter) = (Arc::new(file), Arc::new(Meter::new(file_bytes)));
        Ok(Self { file, file_bytes, metadata, members, meter, group: 0, columns: Vec::new(), rows_left: 0 })
    }

    /// Appends the next row to `row`.
    ///
    /// # Errors
    /// The file is damaged here; nothing can be read of it any more.
    pub(super) fn next(&mut self, row: &mut Vec<u8>) -> io::Result<Next> {
        // A panic leaves the columns half done; nobody reads on behind an error.
        guarded(|| self.next_unguarded(row))
    }

    fn next_unguarded(&mut self, row: &mut Vec<u8>) -> io::Result<Next> {
        while self.rows_left == 0 {
            if !self.next_group()? {
                return Ok(Next::End);
            }
        }
        self.rows_left -= 1;
        self.columns.iter_mut().try_for_each(Column::begin_row)?;
        let mut writer = Writer { columns: &mut self.columns, out: row, is_long: false };
        writer.object(&self.members)?;
        let is_long = writer.is_long;
        self.columns.iter_mut().try_for_each(Column::end_row)?;
        self.meter.work(row.len() as u64 + ROW_BYTES)?;
        Ok(if is_long { Next::TooLong } else { Next::Row })
    }

    fn next_group(&mut self) -> io::Result<bool> {
        // The pages of the last one are given back before those of the next one are taken.
        self.columns.clear();
        let Some(group) = self.metadata.row_groups().get(self.group) else { return Ok(false) };
        let file = || (self.file.clone(), self.file_bytes);
        let schema = self.metadata.file_metadata().schema_descr();
        for (chunk, column) in group.columns().iter().zip(schema.columns()) {
            let gate = Arc::new(Gate::default());
            let pages = Pages::new(file(), self.meter.clone(), gate.clone(), column.clone(), chunk).map_err(|error| at(column, &error))?;
            self.columns.push(Column::new(column.clone(), pages, gate));
        }
        if self.columns.len() != schema.num_columns() {
            return Err(damaged("a row group lacks columns"));
        }
        self.rows_left = u64::try_from(group.num_rows()).map_err(|_| damaged("a row group has less than no rows"))?;
        self.group += 1;
        Ok(true)
    }
}

/// Runs what may panic at a damaged file: the crate has assertions and slices that such a file reaches, as its own issues
/// say (apache/arrow-rs 9742). One file must not end a run over an archive.
fn guarded<T>(run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(damaged("the file is damaged in a way that its decoder does not expect")))
}

fn told(error: &ParquetError) -> io::Error {
    match error {
        ParquetError::General(text) | ParquetError::NYI(text) | ParquetError::EOF(text) => damaged(text),
        error => damaged(&error.to_string()),
    }
}

fn at(column: &ColumnDescPtr, error: &io::Error) -> io::Error {
    let path: String = column.path().string().chars().filter(|c| !c.is_control()).take(200).collect();
    damaged(&format!("column `{path}`: {error}"))
}

/// Definition and repetition level.
#[derive(Clone, Copy, Default)]
struct Levels {
    definition: i16,
    repetition: i16,
}

impl Levels {
    fn within(self, column: &Type) -> Self {
        let info = column.get_basic_info();
        let repetition = if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED };
        Self {
            definition: self.definition + i16::from(repetition != Repetition::REQUIRED),
            repetition: self.repetition + i16::from(repetition == Repetition::REPEATED),
        }
    }
}

/// A part of a row.
struct Node {
    /// The columns below it, by their places in the file.
    columns: Range<usize>,
    /// From this definition level on it is no null.
    definition: i16,
    shape: Shape,
}

enum Shape {
    Value(Meaning),
    Group(Vec<Member>),
    /// What is in it, and the levels of that.
    List(Box<Node>, Levels),
    /// Key and value, and the levels of both.
    Map(Box<[Node; 2]>, Levels),
}

struct Member {
    /// The name as JSON, with the colon.
    name: Vec<u8>,
    node: Node,
}

/// Those of a group. `column` counts the columns of the file.
fn members(group: &Type, levels: Levels, column: &mut usize) -> Vec<Member> {
    let member = |field: &Arc<Type>| {
        let mut name = Vec::new();
        write_string(field.name().as_bytes(), &mut name);
        name.push(b':');
        let inner = levels.within(field);
        let node = match inner.repetition > levels.repetition {
            // Without a group around it that says so, a field that comes again and again is a list too.
            true => {
                let first = *column;
                let element = required(field, inner, column);
                Node { columns: first..*column, definition: levels.definition, shape: Shape::List(Box::new(element), inner) }
            }
            false => required(field, inner, column),
        };
        Member { name, node }
    };
    group.get_fields().iter().map(member).collect()
}

/// What a field is if it is there, at levels that count its own repetition.
fn required(field: &Type, levels: Levels, column: &mut usize) -> Node {
    let (first, info) = (*column, field.get_basic_info());
    if field.is_primitive() {
        *column += 1;
        return Node { columns: first..*column, definition: levels.definition, shape: Shape::Value(Meaning::of(field)) };
    }
    let is_repeated = |inner: &Type| inner.get_basic_info().has_repetition() && inner.get_basic_info().repetition() == Repetition::REPEATED;
    let only = match field.get_fields() {
        [only] if is_repeated(only) => Some(only),
        _ => None,
    };
    let is_list = matches!(info.logical_type_ref(), Some(LogicalType::List)) || info.converted_type() == ConvertedType::LIST;
    let is_map = matches!(info.logical_type_ref(), Some(LogicalType::Map))
        || matches!(info.converted_type(), ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE);
    let shape = match only {
        Some(repeated) if is_list => {
            let inner = levels.within(repeated);
            Shape::List(Box::new(element(field, repeated, inner, column)), inner)
        }
        Some(repeated) if is_map && repeated.is_group() && repeated.get_fields().len() == 2 => {
            let (inner, fields) = (levels.within(repeated), repeated.get_fields());
            let [key, value] = [0, 1].map(|index| required(&fields[index], inner.within(&fields[index]), column));
            Shape::Map(Box::new([key, value]), inner)
        }
        _ => Shape::Group(members(field, levels, column)),
    };
    Node { columns: first..*column, definition: levels.definition, shape }
}

/// What is in a list, by the rules for files of old writers.
fn element(list: &Type, repeated: &Type, levels: Levels, column: &mut usize) -> Node {
    let fields = if repeated.is_group() { repeated.get_fields() } else { &[] };
    if let [only] = fields {
        let inner = levels.within(only);
        let is_tuple = repeated.name() == "array" || repeated.name().strip_suffix("_tuple") == Some(list.name());
        if !is_tuple && inner.repetition == levels.repetition {
            return required(only, inner, column);
        }
    }
    required(repeated, levels, column)
}

/// Values of a column, whatever their type.
trait Values: Send {
    /// Reads some rows; gives how many of them are whole.
    fn read(&mut self, definitions: &mut Vec<i16>, repetitions: &mut Vec<i16>) -> Decoded<usize>;

    fn count(&self) -> usize;

    fn forget(&mut self, count: usize);

    fn get(&self, index: usize) -> Option<&dyn ToJson>;
}

struct Typed<T: DataType> {
    reader: ColumnReaderImpl<T>,
    values: Vec<T::T>,
}

impl<T: DataType> Values for Typed<T>
where
    T::T: ToJson,
{
    fn read(&mut self, definitions: &mut Vec<i16>, repetitions: &mut Vec<i16>) -> Decoded<usize> {
        let (rows, ..) = self.reader.read_records(ROWS_AT_ONCE, Some(definitions), Some(repetitions), &mut self.values)?;
        Ok(rows)
    }

    fn count(&self) -> usize {
        self.values.len()
    }

    fn forget(&mut self, count: usize) {
        self.values.drain(..count);
    }

    fn get(&self, index: usize) -> Option<&dyn ToJson> {
        self.values.get(index).map(|value| value as &dyn ToJson)
    }
}

/// A column of a row group, with the levels and values that are decoded.
struct Column {
    descriptor: ColumnDescPtr,
    gate: Arc<Gate>,
    values: Box<dyn Values>,
    /// One a level, if the column can be null or a list.
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    /// Whole rows among them that were not begun.
    rows: usize,
    level: usize,
    value: usize,
    /// The level at which the row began.
    row_level: usize,
}

impl Column {
    fn new(descriptor: ColumnDescPtr, pages: Pages, gate: Arc<Gate>) -> Self {
        fn typed<T: DataType>(descriptor: &ColumnDescPtr, pages: Pages) -> Box<dyn Values>
        where
            T::T: ToJson,
        {
            Box::new(Typed::<T> { reader: ColumnReaderImpl::new(descriptor.clone(), Box::new(pages)), values: Vec::new() })
        }
        let values = match descriptor.physical_type() {
            Physical::BOOLEAN => typed::<BoolType>(&descriptor, pages),
            Physical::INT32 => typed::<Int32Type>(&descriptor, pages),
            Physical::INT64 => typed::<Int64Type>(&descriptor, pages),
            Physical::INT96 => typed::<Int96Type>(&descriptor, pages),
            Physical::FLOAT => typed::<FloatType>(&descriptor, pages),
            Physical::DOUBLE => typed::<DoubleType>(&descriptor, pages),
            Physical::BYTE_ARRAY => typed::<ByteArrayType>(&descriptor, pages),
            Physical::FIXED_LEN_BYTE_ARRAY => typed::<FixedLenByteArrayType>(&descriptor, pages),
        };
        let (definitions, repetitions, rows, level, value, row_level) = Default::default();
        Self { descriptor, gate, values, definitions, repetitions, rows, level, value, row_level }
    }

    /// Levels that are decoded.
    fn levels(&self) -> usize {
        if self.descriptor.max_def_level() > 0 { self.definitions.len() } else { self.values.count() }
    }

    fn begin_row(&mut self) -> io::Result<()> {
        if self.rows == 0 {
            self.fill().map_err(|error| at(&self.descriptor, &error))?;
        }
        self.rows -= 1;
        self.row_level = self.level;
        Ok(())
    }

    /// Decodes the next rows, one at least.
    fn fill(&mut self) -> io::Result<()> {
        self.definitions.drain(..self.level.min(self.definitions.len()));
        self.repetitions.drain(..self.level.min(self.repetitions.len()));
        self.values.forget(self.value);
        (self.level, self.value) = (0, 0);
        while self.rows == 0 {
            self.gate.open();
            self.rows = self.values.read(&mut self.definitions, &mut self.repetitions).map_err(|error| told(&error))?;
            if self.repetitions.len() as u64 > 2 * LEVELS_MAX {
                return Err(damaged(&format!("a list has more than {LEVELS_MAX} values")));
            }
            if self.rows == 0 && self.gate.is_open() {
                // The last row ends where the pages do.
                if self.levels() == 0 {
                    return Err(damaged("it has fewer rows than its row group"));
                }
                self.rows = 1;
            }
        }
        Ok(())
    }

    /// Definition level of what comes next in this row.
    fn definition(&self) -> io::Result<i16> {
        let is_next_row = self.level > self.row_level && self.repetition() == 0;
        match self.definitions.get(self.level) {
            _ if is_next_row || self.level >= self.levels() => {
                Err(at(&self.descriptor, &damaged("a row has fewer values than in other columns")))
            }
            Some(level) => Ok(*level),
            None => Ok(self.descriptor.max_def_level()),
        }
    }

    /// Repetition level of what comes next; 0 at the end of the row.
    fn repetition(&self) -> i16 {
        self.repetitions.get(self.level).copied().unwrap_or(0)
    }

    /// Goes on by one level; gives the value that stands there.
    fn take(&mut self) -> io::Result<Option<&dyn ToJson>> {
        let is_value = self.definition()? == self.descriptor.max_def_level();
        self.level += 1;
        if !is_value {
            return Ok(None);
        }
        self.value += 1;
        Ok(self.values.get(self.value - 1))
    }

    fn end_row(&mut self) -> io::Result<()> {
        if self.repetition() > 0 {
            return Err(at(&self.descriptor, &damaged("a row has more values than in other columns")));
        }
        Ok(())
    }
}

/// Writes a row, by the rules of Dremel: levels say where the next value of each column belongs.
struct Writer<'a> {
    columns: &'a mut [Column],
    out: &'a mut Vec<u8>,
    /// It is more than a frame may be; values are passed and not written.
    is_long: bool,
}

impl Writer<'_> {
    /// False: it is a null, and nothing was written.
    fn node(&mut self, node: &Node) -> io::Result<bool> {
        if self.definition(node)? < node.definition {
            self.pass(node)?;
            return Ok(false);
        }
        match &node.shape {
            Shape::Value(meaning) => return self.value(node, *meaning),
            Shape::Group(members) => self.object(members)?,
            Shape::List(element, levels) => self.list(node, *levels, b"[]", |writer| {
                if !writer.node(element)? {
                    writer.out.extend_from_slice(b"null");
                }
                Ok(())
            })?,
            Shape::Map(pair, levels) => self.list(node, *levels, b"{}", |writer| writer.entry(pair))?,
        }
        Ok(true)
    }

    fn object(&mut self, members: &[Member]) -> io::Result<()> {
        self.out.push(b'{');
        let first = self.out.len();
        for Member { name, node } in members {
            let before = self.out.len();
            if before > first {
                self.out.push(b',');
            }
            self.out.extend_from_slice(name);
            if !self.node(node)? {
                self.out.truncate(before);
            }
        }
        self.out.push(b'}');
        self.look();
        Ok(())
    }

    /// Calls `each` for what is in a list; columns below it stand at the next one each time.
    fn list(
        &mut self,
        node: &Node,
        levels: Levels,
        brackets: &[u8; 2],
        mut each: impl FnMut(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        self.out.push(brackets[0]);
        if self.definition(node)? < levels.definition {
            self.pass(node)?;
        } else {
            let first = self.out.len();
            loop {
                if self.out.len() > first {
                    self.out.push(b',');
                }
                each(self)?;
                self.look();
                if self.column(node)?.repetition() != levels.repetition {
                    break;
                }
            }
        }
        self.out.push(brackets[1]);
        Ok(())
    }

    /// Key and value of a map. JSON has keys that are texts only.
    fn entry(&mut self, [key, value]: &[Node; 2]) -> io::Result<()> {
        let start = self.out.len();
        if !self.node(key)? {
            self.out.extend_from_slice(b"null");
        }
        if self.out.get(start).is_some_and(|first| *first != b'"') {
            let text = self.out.split_off(start);
            write_string(&text, self.out);
        }
        self.out.push(b':');
        if !self.node(value)? {
            self.out.extend_from_slice(b"null");
        }
        Ok(())
    }

    fn value(&mut self, node: &Node, meaning: Meaning) -> io::Result<bool> {
        let column = self.columns.get_mut(node.columns.start).ok_or_else(lost)?;
        let Some(value) = column.take()? else { return Ok(false) };
        self.is_long |= self.out.len() + value.len() > FRAME_BYTES_MAX;
        Ok(!self.is_long && value.write(meaning, self.out))
    }

    /// Forgets what is written of a row that has become too long: it grows no further.
    fn look(&mut self) {
        self.is_long |= self.out.len() > FRAME_BYTES_MAX;
        if self.is_long {
            self.out.clear();
        }
    }

    fn column(&self, node: &Node) -> io::Result<&Column> {
        self.columns.get(node.columns.start).ok_or_else(lost)
    }

    /// That of the first column below a node, which says whether the node is there.
    fn definition(&self, node: &Node) -> io::Result<i16> {
        // A group without columns is always there.
        if node.columns.is_empty() { Ok(i16::MAX) } else { self.column(node)?.definition() }
    }

    /// Goes on by one level in all columns below a null or an empty list.
    fn pass(&mut self, node: &Node) -> io::Result<()> {
        let columns = self.columns.get_mut(node.columns.clone()).ok_or_else(lost)?;
        columns.iter_mut().try_for_each(|column| column.take().map(drop))
    }
}

fn lost() -> io::Error {
    damaged("its schema and its columns differ")
}

#[cfg(test)]
mod tests;
