//! Parquet files of an archive: whatever they hold, there are frames or the file is said to have failed; nothing panics beyond
//! the reader, and what comes out of a file of 4 KB is bounded by time and memory of the run (`fuzz/run`).
#![no_main]

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use hydrant::limits::FRAME_BYTES_MAX;
use hydrant::pipeline::archive::Archive;
use hydrant_fuzz::{seed, sender};
use libfuzzer_sys::fuzz_target;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// One file for all inputs of this process.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| std::env::temp_dir().join(format!("hydrant-fuzz-{}.parquet", std::process::id())));

fuzz_target!(
    init: {
        seed(seeds());
        // libFuzzer ends the process at a panic; those of the crate that reads pages are caught on purpose.
        let aborts = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map(|location| location.file()).unwrap_or_default();
            if !place.contains("/parquet-") && !place.contains("/bytes-") && !place.contains("/library/") {
                aborts(panic);
            }
        }));
    },
    |input: &[u8]| {
        let bytes = if input.starts_with(b"PAR1") { input.to_vec() } else { [b"PAR1", input].concat() };
        fs::write(&*FILE, &bytes).expect("a file is written");
        let place = FILE.to_string_lossy();
        let mut archive = at_once(Archive::open(&place, None, (&std::env::temp_dir(), i64::MAX), 0..i64::MAX, None)).expect("the file is there");
        let sender = Arc::clone(&SENDER);
        while let Some(chunk) = at_once(archive.next_frames(&sender)).expect("files cannot fail to be listed") {
            (0..chunk.frames().len()).for_each(|frame| assert!(chunk.frame(frame).len() <= FRAME_BYTES_MAX));
        }
    }
);

static SENDER: LazyLock<Arc<hydrant::event::Sender>> = LazyLock::new(sender);

/// Files on disk are read without waiting.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

/// Small files with a list, nulls, a dictionary, in both versions of pages.
fn seeds() -> Vec<Vec<u8>> {
    let schema = "message m { required binary a (UTF8); optional group l (LIST) { repeated group list { optional int32 element; } } }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let versions = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
    let kinds = versions.into_iter().flat_map(|version| [true, false].map(|has_dictionary| (version, has_dictionary)));
    let written = kinds.map(|(version, has_dictionary)| {
        let properties = WriterProperties::builder().set_writer_version(version).set_dictionary_enabled(has_dictionary);
        let properties = Arc::new(properties.set_compression(Compression::UNCOMPRESSED).build());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema.clone(), properties).expect("a writer");
        let mut group = writer.next_row_group().expect("a row group");
        let mut column = group.next_column().expect("a column").expect("a column");
        let texts = [ByteArray::from("one"), ByteArray::from("two"), ByteArray::from("one")];
        column.typed::<ByteArrayType>().write_batch(&texts, None, None).expect("texts");
        column.close().expect("a column");
        let mut column = group.next_column().expect("a column").expect("a column");
        column.typed::<Int32Type>().write_batch(&[1, 2], Some(&[3, 2, 3, 1, 0]), Some(&[0, 1, 1, 0, 0])).expect("lists");
        column.close().expect("a column");
        group.close().expect("a row group");
        writer.into_inner().expect("a file")
    });
    written.collect()
}
