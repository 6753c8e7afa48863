//! Every upper bound, with its reason. What a user may change has its default here.

/// Bytes of padding behind a chunk's last frame, so that 64-byte vector loads never leave the buffer.
pub const CHUNK_PADDING_BYTES: usize = 64;

/// A chunk is sealed at this size: large enough that per-chunk work (a `dyn` call, a queue slot, a few
/// counters) is below 1 ns an event, small enough to stay in the L2 cache while it is decoded.
pub const CHUNK_TARGET_BYTES: usize = 256 * 1024;

/// Free space offered to one `read`; a read this large costs few system calls and fits the L2 cache.
pub const READ_BYTES: usize = 128 * 1024;

/// Longest frame that a stream framer accepts by default. Longer frames are cut and counted.
/// RFC 5424 asks for 2 KiB; AWS WAF and Windows events reach hundreds of KiB.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// What `frame_bytes_max` of a source may be. Shorter frames would cut every header; longer ones, with what is read
/// behind them, no longer fit a chunk.
pub const FRAME_BYTES_MAX_RANGE: std::ops::RangeInclusive<usize> = 64..=INFLATED_BYTES_MAX;

/// Largest chunk: offsets inside a chunk are 31 bits, the 32nd tells buffer from arena. An HTTP body of
/// Firehose may be 64 MiB before decompression.
pub const CHUNK_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Frames in one chunk; empty frames are not counted, so 16 bytes of memory answer for at least one byte.
pub const CHUNK_FRAMES_MAX: usize = 1 << 20;

/// Share of the machine's (or the cgroup's) memory that the process budget takes by default.
pub const MEMORY_BUDGET_SHARE: f64 = 0.25;

/// Default upper end of the process budget for event bytes.
pub const MEMORY_BUDGET_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// A destination may hold at most this share of the budget in open and sealed batches, so that one that
/// is down leaves room for the others.
pub const DESTINATION_BUDGET_SHARE: f64 = 0.5;

/// Depth of YAML and JSON documents that people write (configuration, rules).
pub const DOCUMENT_DEPTH_MAX: usize = 64;

/// Nodes of a YAML document after its aliases are resolved: stops alias bombs, holds an IOC list of 100,000.
pub const DOCUMENT_NODES_MAX: usize = 1_000_000;

/// Bytes of a configuration or rule file.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of text in a YAML document after its aliases are resolved: one long text and many aliases to it stay
/// below [`DOCUMENT_NODES_MAX`]. Leaves room for a file of the largest size that says everything twice.
pub const DOCUMENT_TEXT_BYTES_MAX: usize = 2 * DOCUMENT_BYTES_MAX;

/// Nesting at which the JSON scan gives up and keeps the raw line.
pub const JSON_DEPTH_MAX: usize = 128;

/// Decompressed bytes of one request body or record: Firehose sends at most 64 MiB before compression,
/// and clients that compress stay below it.
pub const INFLATED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Decompression window that a zstd frame may ask for (RFC 9659 recommends 8 MiB).
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Envelopes inside envelopes (HTTP gzip > Firehose record > CloudWatch gzip > SNS ...).
pub const UNWRAP_DEPTH_MAX: usize = 4;

/// Request header bytes that a listener reads before it answers 431.
pub const HTTP_HEADER_BYTES_MAX: usize = 64 * 1024;

/// Header lines of a request (CVE-2026-29181: many small header fragments).
pub const HTTP_HEADERS_MAX: usize = 128;

/// A client has this long to send a request's head, and as long again between two pieces of a body.
pub const HTTP_READ_TIMEOUT_MS: u64 = 30_000;

/// Bytes of a destination's answer that are read; the rest is ignored (CVE-2026-39882: huge answers).
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Connections that one listener of one shard keeps open.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Datagrams that one `recvmmsg` takes; more gains nothing (measured: 8 to 256 are within 5 %).
pub const DATAGRAMS_PER_CALL: usize = 64;

/// Largest UDP payload.
pub const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Destinations of one plan: a row's routes are one 64-bit word, and in the journal correlation is one more.
pub const DESTINATIONS_MAX: usize = 63;

/// Slots of one decoder's plan.
pub const SLOTS_MAX: usize = 4096;

/// Rule ids that one event carries in its tags; further hits still alert, the tag list is cut and counted.
pub const RULE_HITS_PER_EVENT_MAX: usize = 64;

const _: () = assert!(CHUNK_TARGET_BYTES + FRAME_BYTES_MAX < CHUNK_BYTES_MAX);
const _: () = assert!(INFLATED_BYTES_MAX < CHUNK_BYTES_MAX);
const _: () = assert!(CHUNK_BYTES_MAX < 1 << 28, "a slot's length has 28 bits");
