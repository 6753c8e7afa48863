//! Files that the crate's own writer made, and what damage does to them. Files of other writers: `tests/real/parquet.py`.

use std::io::Write as _;

use ::parquet::basic::{Compression, Encoding};
use ::parquet::column::writer::ColumnCloseResult;
use ::parquet::data_type::{ByteArray, FixedLenByteArray, Int96};
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::*;

/// Values of a column, with definition and repetition levels.
type Write<'a> = &'a dyn Fn(&mut SerializedColumnWriter<'_>);

/// No levels are those of a column that is always there.
fn column<T: DataType>(values: Vec<T::T>, definitions: &[i16], repetitions: &[i16]) -> impl Fn(&mut SerializedColumnWriter<'_>) + use<T> {
    let [definitions, repetitions] = [definitions, repetitions].map(|levels| Some(levels.to_vec()).filter(|levels| !levels.is_empty()));
    move |writer| {
        writer.typed::<T>().write_batch(&values, definitions.as_deref(), repetitions.as_deref()).unwrap();
    }
}

/// A file with the same columns in each of so many row groups.
fn written(schema: &str, properties: WriterPropertiesBuilder, groups: usize, columns: &[Write<'_>]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build())).unwrap();
    for _ in 0..groups {
        let mut group = writer.next_row_group().unwrap();
        for write in columns {
            let mut column = group.next_column().unwrap().unwrap();
            write(&mut column);
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// The rows, as far as they can be read, how many were too long, and what was wrong.
fn read(bytes: &[u8]) -> (Vec<String>, usize, Option<String>) {
    let (mut rows, mut long) = (Vec::new(), 0);
    let mut open = match Rows::open(file(bytes)) {
        Ok(open) => open,
        Err(error) => return (rows, long, Some(error.to_string())),
    };
    loop {
        let mut row = Vec::new();
        match open.next(&mut row) {
            Ok(Next::Row) => rows.push(String::from_utf8(row).unwrap()),
            Ok(Next::TooLong) => long += 1,
            Ok(Next::End) => return (rows, long, None),
            Err(error) => return (rows, long, Some(error.to_string())),
        }
    }
}

fn whole(bytes: &[u8]) -> Vec<String> {
    let (rows, long, error) = read(bytes);
    assert_eq!((long, error), (0, None));
    rows.iter().for_each(|row| drop(serde_json::from_str::<serde_json::Value>(row).unwrap()));
    rows
}

fn texts(texts: &[&str]) -> Vec<ByteArray> {
    texts.iter().map(|text| ByteArray::from(*text)).collect()
}

const EVENTS: &str = "message m {
    required binary srcaddr (UTF8); optional int32 dstport; required int64 start (TIMESTAMP(MILLIS,true)); optional boolean ok; }";

/// Rows of EVENTS, every third without a port, and their JSON.
fn events(count: usize, properties: WriterPropertiesBuilder, groups: usize) -> (Vec<u8>, Vec<String>) {
    let addresses: Vec<String> = (0..count).map(|row| format!("10.0.{}.{}", row / 256 % 256, row % 256)).collect();
    let addresses = texts(&addresses.iter().map(String::as_str).collect::<Vec<_>>());
    let has = |row: &usize| !row.is_multiple_of(3);
    let levels: Vec<i16> = (0..count).map(|row| i16::from(has(&row))).collect();
    let ports: Vec<i32> = (0..count).filter(has).map(|row| row as i32).collect();
    let starts: Vec<i64> = (0..count).map(|row| 1_795_248_000_000 + row as i64).collect();
    let flags: Vec<bool> = (0..count).filter(has).map(|row| row % 2 == 0).collect();
    let rows = (0..count).map(|row| {
        let start = format!("2026-11-21T08:{:02}:{:02}.{:03}Z", row / 60_000, row / 1000 % 60, row % 1000);
        let address = format!(r#""srcaddr":"10.0.{}.{}""#, row / 256 % 256, row % 256);
        match has(&row) {
            true => format!(r#"{{{address},"dstport":{row},"start":"{start}","ok":{}}}"#, row % 2 == 0),
            false => format!(r#"{{{address},"start":"{start}"}}"#),
        }
    });
    let rows: Vec<String> = rows.collect();
    let file = written(
        EVENTS,
        properties,
        groups,
        &[
            &column::<ByteArrayType>(addresses, &[], &[]),
            &column::<Int32Type>(ports, &levels, &[]),
            &column::<Int64Type>(starts, &[], &[]),
            &column::<BoolType>(flags, &levels, &[]),
        ],
    );
    (file, std::iter::repeat_n(rows, groups).flatten().collect())
}

#[test]
fn rows_come_in_their_order_whatever_the_pages_and_encodings() {
    let builder = || WriterProperties::builder().set_data_page_row_count_limit(100).set_write_batch_size(10);
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for encoding in [None, Some(Encoding::DELTA_LENGTH_BYTE_ARRAY), Some(Encoding::DELTA_BYTE_ARRAY)] {
            for has_dictionary in [true, false] {
                let mut properties = builder().set_writer_version(version).set_dictionary_enabled(has_dictionary);
                if let Some(encoding) = encoding {
                    properties = properties.set_column_encoding("srcaddr".into(), encoding);
                    properties = properties.set_column_encoding("start".into(), Encoding::DELTA_BINARY_PACKED);
                }
                let (file, rows) = events(1500, properties, 3);
                assert_eq!(whole(&file), rows, "{version:?} {encoding:?} {has_dictionary}");
            }
        }
    }
    assert_eq!(whole(&events(0, builder(), 0).0), Vec::<String>::new());
    assert_eq!(whole(&events(0, builder(), 2).0), Vec::<String>::new());
}

#[test]
fn every_physical_type_is_read() {
    let schema = "message m {
        required int32 u (INTEGER(32,false)); required int64 money (DECIMAL(10,2)); required int96 old; required float f; required double d;
        required fixed_len_byte_array(16) id (UUID); required fixed_len_byte_array(2) h (FLOAT16); required binary doc (JSON);
        required int32 day (DATE); required int64 at (TIME(MICROS,true)); required binary raw; optional double none; required int32 small; }";
    let mut old = Int96::new();
    old.set_data(1, 0, 2_440_588);
    let fixed = |bytes: &[u8]| vec![FixedLenByteArray::from(bytes.to_vec())];
    let bytes = |bytes: &[u8]| vec![ByteArray::from(bytes.to_vec())];
    let file = written(
        schema,
        WriterProperties::builder(),
        1,
        &[
            &column::<Int32Type>(vec![-1], &[], &[]),
            &column::<Int64Type>(vec![-1005], &[], &[]),
            &column::<Int96Type>(vec![old], &[], &[]),
            &column::<FloatType>(vec![0.5], &[], &[]),
            &column::<DoubleType>(vec![f64::NAN], &[], &[]),
            &column::<FixedLenByteArrayType>(fixed(&[7; 16]), &[], &[]),
            &column::<FixedLenByteArrayType>(fixed(&[0, 0x3c]), &[], &[]),
            &column::<ByteArrayType>(bytes(b"{\"a\":[1,{}]}"), &[], &[]),
            &column::<Int32Type>(vec![20_778], &[], &[]),
            &column::<Int64Type>(vec![1], &[], &[]),
            &column::<ByteArrayType>(bytes(b"\xff\xfe"), &[], &[]),
            &column::<DoubleType>(vec![], &[0], &[]),
            &column::<Int32Type>(vec![-7], &[], &[]),
        ],
    );
    let row = r#"{"u":4294967295,"money":-10.05,"old":"1970-01-01T00:00:00.000000001Z","f":0.5,"id":"07070707-0707-0707-0707-070707070707","h":1.0,"doc":{"a":[1,{}]},"day":"2026-11-21","at":"00:00:00.000001","raw":"//4=","small":-7}"#;
    assert_eq!(whole(&file), [row]);
}

#[test]
fn groups_lists_and_maps_become_what_they_are_in_json() {
    let schema = "message m {
        optional group src { required binary ip (UTF8); optional int32 port; }
        optional group tags (LIST) { repeated group list { optional binary element (UTF8); } }
        optional group labels (MAP) { repeated group key_value { required int32 key; optional binary value (UTF8); } }
        optional group hops (LIST) { repeated group list { optional group element { required int32 ttl; repeated int32 rtt; } } } }";
    let strings =
        |values: &[&str], definitions: &[i16], repetitions: &[i16]| column::<ByteArrayType>(texts(values), definitions, repetitions);
    let ints = |values: &[i32], definitions: &[i16], repetitions: &[i16]| column::<Int32Type>(values.to_vec(), definitions, repetitions);
    for (version, groups) in [(WriterVersion::PARQUET_1_0, 1), (WriterVersion::PARQUET_2_0, 2)] {
        // Four rows: full, with nulls inside, empty, null.
        let file = written(
            schema,
            WriterProperties::builder().set_writer_version(version).set_data_page_row_count_limit(1).set_write_batch_size(1),
            groups,
            &[
                &strings(&["10.0.0.1", "::1", "x"], &[1, 1, 1, 0], &[]),
                &ints(&[443], &[2, 1, 1, 0], &[]),
                &strings(&["a", "b", "c"], &[3, 3, 2, 3, 1, 0], &[0, 1, 0, 1, 0, 0]),
                &ints(&[1, 2, 3], &[2, 2, 2, 1, 0], &[0, 1, 0, 0, 0]),
                &strings(&["one", "two"], &[3, 3, 2, 1, 0], &[0, 1, 0, 0, 0]),
                &ints(&[64, 63, 62], &[3, 3, 3, 2, 1, 0], &[0, 1, 0, 1, 0, 0]),
                &ints(&[5, 6, 7], &[4, 4, 3, 4, 2, 1, 0], &[0, 2, 1, 0, 1, 0, 0]),
            ],
        );
        let rows = [
            r#"{"src":{"ip":"10.0.0.1","port":443},"tags":["a","b"],"labels":{"1":"one","2":"two"},"hops":[{"ttl":64,"rtt":[5,6]},{"ttl":63,"rtt":[]}]}"#,
            r#"{"src":{"ip":"::1"},"tags":[null,"c"],"labels":{"3":null},"hops":[{"ttl":62,"rtt":[7]},null]}"#,
            r#"{"src":{"ip":"x"},"tags":[],"labels":{},"hops":[]}"#,
            "{}",
        ];
        assert_eq!(whole(&file), rows.repeat(groups), "{version:?}");
    }
}

#[test]
fn lists_of_old_writers_are_lists_too() {
    let ints = |values: &[i32], definitions: &[i16], repetitions: &[i16]| column::<Int32Type>(values.to_vec(), definitions, repetitions);
    for (field, definitions, expected) in [
        ("repeated int32 a;", [1, 1, 0], r#"{"a":[1,2]}"#),
        ("required group a (LIST) { repeated int32 element; }", [1, 1, 0], r#"{"a":[1,2]}"#),
        ("required group a (LIST) { repeated group array { required int32 n; } }", [1, 1, 0], r#"{"a":[{"n":1},{"n":2}]}"#),
        ("required group a (LIST) { repeated group a_tuple { required int32 n; } }", [1, 1, 0], r#"{"a":[{"n":1},{"n":2}]}"#),
        ("required group a (LIST) { repeated group bag { required int32 n; } }", [1, 1, 0], r#"{"a":[1,2]}"#),
        ("optional group a (LIST) { repeated group bag { optional int32 n; } }", [3, 3, 1], r#"{"a":[1,2]}"#),
        ("repeated group a { required int32 n; }", [1, 1, 0], r#"{"a":[{"n":1},{"n":2}]}"#),
    ] {
        let file =
            written(&format!("message m {{ {field} }}"), WriterProperties::builder(), 1, &[&ints(&[1, 2], &definitions, &[0, 1, 0])]);
        assert_eq!(whole(&file), [expected, r#"{"a":[]}"#], "{field}");
    }
}

#[test]
fn a_list_that_goes_on_over_pages_is_one() {
    let values: Vec<i32> = (0..5000).collect();
    let mut repetitions = vec![1; 5000];
    (repetitions[0], repetitions[4999]) = (0, 0);
    let builder = WriterProperties::builder().set_data_page_size_limit(64).set_write_batch_size(50).set_dictionary_enabled(false);
    let file = written("message m { repeated int32 a; }", builder, 1, &[&column::<Int32Type>(values.clone(), &[1; 5000], &repetitions)]);
    let rows: Vec<serde_json::Value> = whole(&file).iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows, [serde_json::json!({ "a": values[..4999] }), serde_json::json!({ "a": [4999] })]);
}

#[test]
fn rows_that_are_longer_than_a_frame_are_left_out_and_counted() {
    let long = "x".repeat(FRAME_BYTES_MAX);
    let fits = "y".repeat(FRAME_BYTES_MAX - r#"{"a":""}"#.len());
    let quotes = "\"".repeat(FRAME_BYTES_MAX / 2);
    let columns = column::<ByteArrayType>(texts(&["a", &long, &fits, &quotes, "b"]), &[], &[]);
    let (rows, left_out, error) = read(&written("message m { required binary a (UTF8); }", WriterProperties::builder(), 1, &[&columns]));
    assert_eq!((left_out, error), (2, None));
    assert_eq!(rows, [r#"{"a":"a"}"#.to_owned(), format!(r#"{{"a":"{fits}"}}"#), r#"{"a":"b"}"#.to_owned()]);
}

#[test]
fn a_file_that_is_cut_or_changed_is_an_error_or_other_rows_and_nothing_worse() {
    let builder = || WriterProperties::builder().set_data_page_row_count_limit(50).set_write_batch_size(10);
    let (file, _) = events(120, builder(), 1);
    for end in 4..file.len() {
        let (rows, _, error) = read(&file[..end]);
        assert!(error.is_some() && rows.is_empty(), "{end}");
    }
    let delta = builder().set_dictionary_enabled(false).set_column_encoding("srcaddr".into(), Encoding::DELTA_BYTE_ARRAY);
    for file in [file, events(120, delta.set_writer_version(WriterVersion::PARQUET_2_0), 1).0] {
        // Every byte, in three ways: none may end the process, hang or take all memory.
        let mut told = std::collections::BTreeSet::new();
        for at in 4..file.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = file.clone();
                changed[at] ^= change;
                told.extend(read(&changed).2);
            }
        }
        assert!(told.len() > 10, "{told:#?}");
    }
}

#[test]
fn a_tail_that_is_no_tail_is_told_from_a_cut_one() {
    let (mut file, _) = events(3, WriterProperties::builder(), 1);
    let len = file.len();
    assert!(read(b"PAR1").2.unwrap().contains("the file is cut"));
    assert!(read(b"PAR1\xff\xff\xff\x7fPAR1").2.unwrap().contains("longer than the file"));
    file[len - 1] = b'E';
    assert!(read(&file).2.unwrap().contains("encrypted"));
    let (read_end, _write_end) = io::pipe().unwrap();
    let error = Rows::open(File::from(std::os::fd::OwnedFd::from(read_end))).err().unwrap();
    assert!(error.to_string().contains("no pipe"), "{error}");
}

/// A number as Thrift has it.
fn zigzag(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// A page that says of itself what it likes: type, bytes when decompressed, the numbers of its own header.
fn page(kind: i64, plain_bytes: usize, body: &[u8], numbers: &[i64]) -> Vec<u8> {
    let mut page = Vec::new();
    for number in [kind, plain_bytes as i64, body.len() as i64] {
        page.push(0x15);
        zigzag(number, &mut page);
    }
    // Field 5, 7 or 8, as the type is.
    page.push(if kind == 2 { 0x4c } else { 0x2c });
    for number in numbers {
        page.push(0x15);
        zigzag(*number, &mut page);
    }
    page.extend([0, 0]);
    page.extend(body);
    page
}

/// A file of one column that consists of such pages.
fn crafted(schema: &str, codec: Compression, pages: &[Vec<u8>], rows: u64) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message m {{ {schema} }}")).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let column = writer.schema_descr().column(0);
    let pages = bytes::Bytes::from(pages.concat());
    let metadata = ColumnChunkMetaData::builder(column).set_compression(codec).set_num_values(i64::MAX);
    let metadata = metadata.set_total_compressed_size(pages.len() as i64).set_data_page_offset(0).build().unwrap();
    let (bloom_filter, column_index, offset_index) = Default::default();
    let bytes_written = pages.len() as u64;
    let close = ColumnCloseResult { bytes_written, rows_written: rows, metadata, bloom_filter, column_index, offset_index };
    let mut group = writer.next_row_group().unwrap();
    group.append_column(&pages, close).unwrap();
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn what_a_page_says_of_itself_is_not_believed() {
    const PLAIN: Compression = Compression::UNCOMPRESSED;
    let (texts, lists) = ("required binary a (UTF8);", "repeated int32 a;");
    let data = |body: &[u8], values: i64, encoding: i64| page(0, body.len(), body, &[values, encoding, 3, 3]);
    // Repetition levels of 1 and definition levels of 0: runs of 2^22 of the same.
    let run = |level: u8| [5, 0, 0, 0, 0x80, 0x80, 0x80, 0x04, level];
    let levels = [run(1), run(0)].concat();
    let mut zeros = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zeros.write_all(&vec![0; 100 << 20]).unwrap();
    let zeros = zeros.finish().unwrap();
    let gzip = Compression::GZIP(Default::default());
    for (schema, codec, pages, error) in [
        (texts, PLAIN, vec![page(2, 5, b"\x01\0\0\0x", &[1 << 30, 0])], "its dictionary has more values than there are bytes"),
        (texts, PLAIN, vec![data(&[0], 1, 8)], "a page refers to a dictionary that is not there"),
        (texts, PLAIN, vec![data(b"\x80\x01\x04\x80\x80\x80\x80\x80\x20\0", 3, 6)], "more texts than it has values"),
        // 1000 texts that begin with 2^29 bytes of the one before.
        (
            texts,
            PLAIN,
            vec![data(b"\x80\x01\x01\xe8\x07\x80\x80\x80\x80\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 1000, 7)],
            "texts of too many bytes",
        ),
        (texts, PLAIN, vec![page(0, 2 << 30, b"x", &[1, 0, 3, 3])], "more than 67108864 bytes"),
        (texts, PLAIN, vec![page(0, 1, b"x", &[-1, 0, 3, 3])], "a number is missing or negative"),
        (texts, PLAIN, vec![page(0, 1, b"x", &[1, 77, 3, 3])], "an encoding (77) that is not supported"),
        (texts, gzip, vec![page(0, 1000, &zeros, &[1, 0, 3, 3])], "not decompressed to the 1000 bytes"),
        (texts, Compression::LZO, vec![page(0, 1000, &zeros, &[1, 0, 3, 3])], "LZO"),
        (lists, PLAIN, vec![data(&levels, i64::from(i32::MAX), 0)], "a page of lists has more than 4194304 values"),
        (lists, PLAIN, vec![data(&levels, 1 << 22, 0); 4], "a list has more than 4194304 values"),
        (texts, PLAIN, vec![vec![0x15; 40]], "broken header"),
    ] {
        let (rows, _, told) = read(&crafted(schema, codec, &pages, 1 << 40));
        assert!(
            rows.is_empty() && told.as_ref().is_some_and(|told| told.contains(error) && told.contains("column `a`")),
            "{error}: {told:?}"
        );
    }
    let two = data(b"\x01\0\0\0x\x01\0\0\0y", 2, 0);
    let (rows, _, told) = read(&crafted(texts, PLAIN, &[two.clone(), data(b"", 0, 0), two], 1 << 40));
    assert_eq!((rows.len(), told.as_deref()), (4, Some("column `a`: it has fewer rows than its row group")));
}

#[test]
fn what_comes_out_of_a_file_is_bounded_by_its_size() {
    let meter = Meter::new(1000);
    assert!(meter.work(1 << 30).is_ok() && meter.work(4096 * 1000).is_ok());
    assert!(meter.work(1).is_ok() && meter.work(1).is_err(), "the limit itself is within");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damage_anywhere_is_survived(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), kind in 0..FILES) {
        let mut file = FILE.with(|files| files[kind].clone());
        for (at, byte) in changes {
            let at = 4 + at.index(file.len() - 4);
            file[at] = byte;
        }
        read(&file);
    }
}

const FILES: usize = 4;

thread_local! {
    /// Flat and nested, version 1 and 2, with a dictionary, plain and by deltas.
    static FILE: [Vec<u8>; FILES] = {
        let small = || WriterProperties::builder().set_data_page_row_count_limit(20).set_write_batch_size(5).set_statistics_enabled(EnabledStatistics::None);
        let delta = |encoding| small().set_dictionary_enabled(false).set_column_encoding("srcaddr".into(), encoding);
        let schema = "message m { optional group l (LIST) { repeated group list { optional group element { required int32 n; repeated binary t (UTF8); } } } }";
        let nested = written(
            schema,
            small().set_writer_version(WriterVersion::PARQUET_2_0),
            2,
            &[
                &column::<Int32Type>(vec![64, 63, 62], &[3, 3, 3, 2, 1, 0], &[0, 1, 0, 1, 0, 0]),
                &column::<ByteArrayType>(texts(&["a", "b", "c"]), &[4, 4, 3, 4, 2, 1, 0], &[0, 2, 1, 0, 1, 0, 0]),
            ],
        );
        let version_2 = delta(Encoding::DELTA_LENGTH_BYTE_ARRAY).set_writer_version(WriterVersion::PARQUET_2_0);
        [events(60, small(), 2).0, events(60, delta(Encoding::DELTA_BYTE_ARRAY), 1).0, events(60, version_2, 1).0, nested]
    };
}
