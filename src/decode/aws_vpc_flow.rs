//! `aws_vpc_flow`: VPC flow log records as plain text, columns separated by blanks, and as rows of Parquet.
//!
//! Source: Amazon VPC User Guide, "Flow log records" (fields of version 2 to 10). Native fields are the
//! documented names (`srcaddr`, `pkt-dst-aws-service`); `start.rfc3339` and `end.rfc3339` are made here. The
//! event's time is `end`. A column `-` is a missing field: so are those of the traffic in NODATA and SKIPDATA
//! records.
//!
//! A row of Parquet, which archives are read as (`{"version":2,"account_id":"111122223333",...}`), names its columns, with `_`
//! where the documented names have `-` (Amazon Athena User Guide, "Create a table for flow logs in Apache Parquet format").
//!
//! The order of the columns of text is, the first that fits the number of columns of the record:
//! 1. that of the header line of its own file, where the source has taken that off (`%hydrant.header`);
//! 2. that of the last header line of the same sender (files in S3 begin with one; a stream does not);
//! 3. the source's `vpc_flow_format`, as in the flow log's definition (`${version} ${srcaddr} ...`) or as a
//!    header line; `-` in it skips a column;
//! 4. the default format, if the record begins with its version, `2`.
//!
//! If none fits: a record with fewer columns is `Truncated`, and its last column, which may be cut, is left out;
//! more columns than known are ignored; a record of a custom format that nothing is known of is `Malformed`. A
//! header line stays an event without fields. Shards do not share what headers say, so that a custom format
//! should be configured. Transit gateway flow logs are not supported.

use std::net::IpAddr;
use std::sync::Arc;

use super::document::{compile, contains, head};
use super::{Decoder, DecoderKind, MessageDecoder, Options, Wanted, with_envelope};
use crate::clock;
use crate::error::nearest;
use crate::event::{Chunk, Flaw, Kind, Origin, OriginField, Row, Slot, SlotId, Span, Value};
use crate::json::Paths;

pub(super) struct AwsVpcFlow;

/// Every documented field, by version.
const FIELDS: &[&str] = &[
    // 2, in the order of the default format
    "version",
    "account-id",
    "interface-id",
    "srcaddr",
    "dstaddr",
    "srcport",
    "dstport",
    "protocol",
    "packets",
    "bytes",
    "start",
    "end",
    "action",
    "log-status",
    // 3
    "vpc-id",
    "subnet-id",
    "instance-id",
    "tcp-flags",
    "type",
    "pkt-srcaddr",
    "pkt-dstaddr",
    // 4
    "region",
    "az-id",
    "sublocation-type",
    "sublocation-id",
    // 5
    "pkt-src-aws-service",
    "pkt-dst-aws-service",
    "flow-direction",
    "traffic-path",
    // 7
    "ecs-cluster-arn",
    "ecs-cluster-name",
    "ecs-container-instance-arn",
    "ecs-container-instance-id",
    "ecs-container-id",
    "ecs-second-container-id",
    "ecs-service-name",
    "ecs-task-definition-arn",
    "ecs-task-arn",
    "ecs-task-id",
    // 8
    "reject-reason",
    // 9
    "resource-id",
    // 10
    "encryption-status",
];

/// Fields of the default format.
const DEFAULT_FIELDS: usize = 14;

const MADE: [(&str, &str); 2] = [("start.rfc3339", "start"), ("end.rfc3339", "end")];

/// Columns of a format: more than twice the documented fields.
const COLUMNS_MAX: usize = 96;

/// A header line names at least so many fields, so that no other text is taken for one.
const HEADER_FIELDS_MIN: usize = 3;

/// Senders whose header line is remembered; the oldest goes.
const SENDERS_MAX: usize = 64;

impl DecoderKind for AwsVpcFlow {
    fn name(&self) -> &'static str {
        "aws_vpc_flow"
    }

    fn sample(&self) -> &'static str {
        "2 111122223333 eni-06daa2181541306b3 10.20.30.40 198.51.100.23 49152 443 6 20 4249 1795247940 1795248000 ACCEPT OK"
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/aws_vpc_flow.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        Some(FIELDS.iter().copied().chain(MADE.map(|(name, _)| name)).collect())
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        if frame.first() == Some(&b'{') {
            let head = head(frame)?;
            let has_traffic = || ["\"srcaddr\":", "\"interface_id\":"].into_iter().any(|key| contains(head, key));
            let is_row = contains(head, "\"log_status\":") && has_traffic();
            return is_row.then_some("a JSON object with the columns of VPC flow logs in Parquet");
        }
        if frame.first().is_none_or(|first| matches!(first, b'<' | b'[')) {
            return None;
        }
        if is_header(frame) {
            return Some("a header line that names fields of VPC flow logs");
        }
        let (mut columns, mut has_action, mut has_status, mut has_none) = (0, false, false, false);
        for column in frame.split(|byte| *byte == b' ').take(COLUMNS_MAX) {
            columns += 1;
            has_action |= matches!(column, b"ACCEPT" | b"REJECT");
            has_status |= column == b"OK";
            has_none |= matches!(column, b"NODATA" | b"SKIPDATA");
        }
        (columns >= HEADER_FIELDS_MIN && (has_action && has_status || has_none))
            .then_some("columns with the action and the status of a VPC flow log record")
    }

    fn time_natives(&self) -> &'static [&'static str] {
        &["end"]
    }

    fn made_from(&self, native: &str) -> &'static [&'static str] {
        match native {
            "start.rfc3339" => &["start"],
            "end.rfc3339" => &["end"],
            _ => &[],
        }
    }

    fn check(&self, options: &Options) -> Result<(), String> {
        let Some(format) = &options.vpc_flow_format else { return Ok(()) };
        for name in names(format.as_bytes()) {
            if name != b"-" && !is_field(name) {
                let name = String::from_utf8_lossy(name);
                let near = nearest(&name, FIELDS.iter().copied()).map_or(String::new(), |near| format!("did you mean `{near}`? "));
                return Err(format!("VPC flow logs have no field `{name}`; {near}write `-` for a column to be skipped"));
            }
        }
        match names(format.as_bytes()).count() {
            0 => Err("the format names no field".to_owned()),
            1..=COLUMNS_MAX => Ok(()),
            _ => Err(format!("the format has more than {COLUMNS_MAX} columns")),
        }
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let configured = wanted.options.vpc_flow_format.as_ref().map(|format| Layout::new(format.as_bytes(), &wanted));
        let default = Layout::new(FIELDS[..DEFAULT_FIELDS].join(" ").as_bytes(), &wanted);
        let made = MADE.into_iter().filter_map(|(made, from)| Some((wanted.slot(made)?, wanted.slot(from)?))).collect();
        let end = wanted.slot("end");
        let columns: Vec<_> = FIELDS.iter().filter_map(|name| Some((name.replace('-', "_"), wanted.slot(name)?))).collect();
        let paths = compile(&columns.iter().map(|(name, slot)| (name.as_str(), *slot)).collect::<Vec<_>>());
        let decoder = Records {
            columns: columns.into_iter().map(|(_, slot)| slot).collect(),
            paths,
            is_strict: false,
            origin: None,
            given: None,
            headers: Vec::new(),
            sender: (0, None),
            configured,
            default,
            made,
            end,
            wanted: wanted.clone(),
        };
        with_envelope(&wanted, decoder)
    }
}

/// The names of a format or header line.
fn names(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = line.split(|byte| byte.is_ascii_whitespace() || *byte == b',').filter(|name| !name.is_empty());
    words.map(|name| name.strip_prefix(b"${").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name))
}

fn is_field(name: &[u8]) -> bool {
    FIELDS.iter().any(|field| field.as_bytes() == name)
}

/// Whether a line consists of names of fields.
fn is_header(line: &[u8]) -> bool {
    // Nearly every record begins with a digit; names are lower-case letters and `-`.
    line.first().is_some_and(u8::is_ascii_lowercase)
        && names(line).take(COLUMNS_MAX).all(is_field)
        && names(line).nth(HEADER_FIELDS_MIN - 1).is_some()
}

/// The columns of a format.
struct Layout {
    /// The line that it was made from.
    line: Box<[u8]>,
    slots: Vec<Option<SlotId>>,
}

impl Layout {
    fn new(line: &[u8], wanted: &Wanted) -> Self {
        let slot = |name| std::str::from_utf8(name).ok().and_then(|name| wanted.slot(name));
        Self { line: line.into(), slots: names(line).take(COLUMNS_MAX).map(slot).collect() }
    }
}

/// Source and address.
type Sender = (u16, Option<IpAddr>);

struct Records {
    /// The columns of a row of Parquet, and all that they fill.
    paths: Paths,
    columns: Vec<SlotId>,
    /// Whether the last record was such a row, and can be sent on as it is.
    is_strict: bool,
    /// What the last record came with, and the columns that this names.
    origin: Option<Arc<Origin>>,
    given: Option<Layout>,
    headers: Vec<(Sender, Layout)>,
    sender: Sender,
    configured: Option<Layout>,
    default: Layout,
    /// Made natives and what they are made of.
    made: Vec<(SlotId, SlotId)>,
    end: Option<SlotId>,
    wanted: Wanted,
}

impl Records {
    /// Takes up the header line that came beside the record.
    fn take_up(&mut self, origin: Option<&Arc<Origin>>) {
        if self.origin.as_ref().map(Arc::as_ptr) == origin.map(Arc::as_ptr) {
            return;
        }
        let line = origin.and_then(|origin| origin.value(OriginField::Header)).map(str::as_bytes);
        let line = line.filter(|line| is_header(line));
        if self.given.as_ref().map(|layout| &*layout.line) != line {
            self.given = line.map(|line| Layout::new(line, &self.wanted));
        }
        self.origin = origin.cloned();
    }

    fn learn(&mut self, header: &[u8]) {
        let known = self.headers.iter().position(|(sender, _)| *sender == self.sender);
        if known.is_some_and(|index| *self.headers[index].1.line == *header) {
            return;
        }
        if let Some(index) = known.or_else(|| (self.headers.len() == SENDERS_MAX).then_some(0)) {
            self.headers.remove(index);
        }
        self.headers.push((self.sender, Layout::new(header, &self.wanted)));
    }

    /// Sets the time, and what is made of other fields.
    fn make(&self, row: &mut Row<'_>) {
        if let Some(ms) = self.end.and_then(|slot| seconds_to_ms(row.value(slot))) {
            row.set_time_ms(ms);
        }
        for (made, from) in &self.made {
            if let Some(ms) = seconds_to_ms(row.value(*from)) {
                row.set_written(*made, Kind::Text, |out| clock::write_rfc3339(ms, out));
            }
        }
    }

    /// The columns of a record that has `count` of them.
    fn layout(&self, record: &[u8], count: usize) -> Option<&Layout> {
        let header = self.headers.iter().find(|(sender, _)| *sender == self.sender).map(|(_, layout)| layout);
        let default = Some(&self.default).filter(|_| record.starts_with(b"2 "));
        let candidates = [self.given.as_ref(), header, self.configured.as_ref(), default];
        let fits = candidates.into_iter().flatten().find(|layout| layout.slots.len() == count);
        // A header of another file says nothing of a record with another number of columns.
        fits.or(self.given.as_ref()).or(self.configured.as_ref()).or(default)
    }
}

impl MessageDecoder for Records {
    fn is_strict_object(&self) -> bool {
        self.is_strict
    }

    fn begin(&mut self, chunk: &Chunk, index: usize) {
        self.sender = (chunk.sender.source_index, chunk.peer(index));
        self.take_up(chunk.origin(index));
    }

    fn message(&mut self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        self.is_strict = false;
        let bytes = row.bytes();
        let record = message.of(bytes).trim_ascii_end();
        if record.first() == Some(&b'{') {
            let scanned = self.paths.scan(row, message);
            for column in &self.columns {
                if row.value(*column) == Value::Text(b"-") {
                    row.set(*column, Slot::MISSING);
                }
            }
            self.make(row);
            let scanned = scanned?;
            self.is_strict = scanned.strict && scanned.one_line && !scanned.reserved;
            return Ok(());
        }
        if is_header(record) {
            self.learn(record);
            return Ok(());
        }
        let count = memchr::memchr_iter(b' ', record).count() + 1;
        let layout = self.layout(record, count).ok_or(Flaw::Malformed)?;
        let complete = count >= layout.slots.len();
        let mut from = 0;
        for slot in layout.slots.iter().take(if complete { count } else { count - 1 }) {
            let end = memchr::memchr(b' ', &record[from..]).map_or(record.len(), |len| from + len);
            let column = &record[from..end];
            if let Some(slot) = slot.filter(|_| !matches!(column, b"-" | b"")) {
                let start = message.start as usize;
                row.set_text(slot, Span::new(start + from, start + end));
            }
            from = (end + 1).min(record.len());
        }
        self.make(row);
        if complete { Ok(()) } else { Err(Flaw::Truncated) }
    }
}

fn seconds_to_ms(value: Value<'_>) -> Option<i64> {
    let (Value::Text(text) | Value::Number(text)) = value else { return None };
    std::str::from_utf8(text).ok()?.parse::<u32>().ok().map(|seconds| i64::from(seconds) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::trial::{RECEIVED_MS, check, chunk, decode, decode_all, decode_chunk, never_filled, torture};
    use crate::traffic::{Kind as Product, Traffic};

    const NODATA: &str = "2 111122223333 eni-06daa2181541306b3 - - - - - - - 1795247940 1795248000 - NODATA";
    const SKIPDATA: &str = "2 111122223333 eni-06daa2181541306b3 - - - - - - - 1795247940 1795248000 - SKIPDATA";
    const HEADER: &str = "version vpc-id subnet-id instance-id interface-id account-id type srcaddr dstaddr srcport dstport pkt-srcaddr pkt-dstaddr protocol bytes packets start end action tcp-flags log-status region az-id sublocation-type sublocation-id pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path ecs-cluster-arn ecs-cluster-name ecs-container-instance-arn ecs-container-instance-id ecs-container-id ecs-second-container-id ecs-service-name ecs-task-definition-arn ecs-task-arn ecs-task-id reject-reason resource-id encryption-status";
    const FULL: &str = "10 vpc-0a1 subnet-0b2 i-0c3 eni-0d4 111122223333 IPv4 10.0.0.62 52.213.180.42 43416 443 10.0.0.62 52.213.180.42 6 568 8 1795247940 1795247990 REJECT 19 OK eu-west-1 euw1-az1 wavelength wlz-1 S3 AMAZON egress 8 arn:cluster prod arn:instance ci-1 c-1 c-2 web arn:definition arn:task t-1 BPA tgw-1 1";

    fn format(format: &str) -> Options {
        Options { vpc_flow_format: Some(format.to_owned()) }
    }

    #[test]
    fn a_record_of_the_default_format_is_read_column_by_column() {
        check(
            &AwsVpcFlow,
            &[
                (
                    AwsVpcFlow.sample(),
                    &[
                        ("cloud.account.id", "111122223333"),
                        ("observer.ingress.interface.name", "eni-06daa2181541306b3"),
                        ("source.ip", "10.20.30.40"),
                        ("source.port", "49152"),
                        ("destination.ip", "198.51.100.23"),
                        ("destination.port", "443"),
                        ("network.transport", "tcp"),
                        ("network.iana_number", "6"),
                        ("network.packets", "20"),
                        ("network.bytes", "4249"),
                        ("event.start", "2026-11-21T07:59:00.000Z"),
                        ("event.end", "2026-11-21T08:00:00.000Z"),
                        ("event.action", "ACCEPT"),
                        ("event.outcome", "success"),
                        ("aws.vpcflow.log_status", "OK"),
                        ("%native.srcaddr", "10.20.30.40"),
                    ],
                ),
                (
                    NODATA,
                    &[("source.ip", ""), ("event.action", ""), ("aws.vpcflow.log_status", "NODATA"), ("cloud.account.id", "111122223333")],
                ),
                (SKIPDATA, &[("network.bytes", ""), ("aws.vpcflow.log_status", "SKIPDATA")]),
            ],
        );
        for line in [AwsVpcFlow.sample(), NODATA, SKIPDATA] {
            let decoded = decode(&AwsVpcFlow, &["source.ip"], line.as_bytes());
            assert_eq!((decoded.flaw, decoded.time_ms, decoded.is_strict_object), (None, RECEIVED_MS, false));
        }
    }

    #[test]
    fn a_row_of_parquet_names_its_columns() {
        let row = r#"{"version":2,"account_id":"111122223333","interface_id":"eni-1","srcaddr":"10.20.30.40","dstaddr":"198.51.100.23","srcport":49152,"dstport":443,"protocol":6,"packets":20,"bytes":4249,"start":1795247940,"end":1795248000,"action":"REJECT","log_status":"OK","pkt_dst_aws_service":"S3"}"#;
        let nodata = r#"{"account_id":"111122223333","interface_id":"eni-1","srcaddr":"-","start":1795247940,"end":1795248000,"log_status":"NODATA"}"#;
        check(
            &AwsVpcFlow,
            &[
                (
                    row,
                    &[
                        ("cloud.account.id", "111122223333"),
                        ("source.ip", "10.20.30.40"),
                        ("source.port", "49152"),
                        ("destination.port", "443"),
                        ("network.transport", "tcp"),
                        ("network.bytes", "4249"),
                        ("event.end", "2026-11-21T08:00:00.000Z"),
                        ("event.outcome", "failure"),
                        ("aws.vpcflow.log_status", "OK"),
                        ("aws.vpcflow.pkt_dst_aws_service", "S3"),
                        ("%native.log-status", "OK"),
                    ],
                ),
                (nodata, &[("source.ip", ""), ("aws.vpcflow.log_status", "NODATA")]),
            ],
        );
        for line in [row, nodata] {
            let decoded = decode(&AwsVpcFlow, &["source.ip"], line.as_bytes());
            assert_eq!((decoded.flaw, decoded.time_ms, decoded.is_strict_object), (None, 1_795_248_000_000, true));
            assert!(AwsVpcFlow.sniff(line.as_bytes()).is_some());
        }
        let own = row.replace("{\"version\":2", "{\"hydrant\":2");
        assert!(!decode(&AwsVpcFlow, &["source.ip"], own.as_bytes()).is_strict_object);
        assert!(decode(&AwsVpcFlow, &["source.ip"], &row.as_bytes()[..150]).flaw.is_some());
        assert_eq!(AwsVpcFlow.sniff(br#"{"log_status":"OK"}"#), None);
        torture(&AwsVpcFlow, &[row, nodata]);
    }

    #[test]
    fn a_configured_format_gives_the_order() {
        let options = format("${srcaddr} ${dstaddr} ${-} ${dstport} ${action} ${start} ${end}");
        let wanted = ["source.ip", "destination.port", "event.action", "network.bytes"];
        let lines = [b"10.0.0.1 10.0.0.2 99 22 REJECT 1795247000 1795247060".as_slice(), AwsVpcFlow.sample().as_bytes()];
        let decoded = decode_all(&AwsVpcFlow, options, &wanted, &lines);
        assert_eq!(
            (decoded[0].field("source.ip"), decoded[0].field("destination.port"), decoded[0].field("event.action")),
            ("10.0.0.1", "22", "REJECT")
        );
        assert_eq!((decoded[0].time_ms, decoded[0].flaw), (1_795_247_060_000, None));
        // Records of the default format that come the same way are told apart by their number of columns.
        assert_eq!((decoded[1].field("source.ip"), decoded[1].field("network.bytes")), ("10.20.30.40", "4249"));
    }

    #[test]
    fn a_wrong_format_is_refused_with_the_nearest_name() {
        let wrong = AwsVpcFlow.check(&format("${version} ${srcadr}")).unwrap_err();
        assert!(wrong.contains("`srcadr`") && wrong.contains("did you mean `srcaddr`"), "{wrong}");
        assert!(AwsVpcFlow.check(&format("  ")).is_err());
        assert!(AwsVpcFlow.check(&format(&"bytes ".repeat(COLUMNS_MAX + 1))).is_err());
        assert!(AwsVpcFlow.check(&format("version, srcaddr - ${bytes}")).is_ok());
        assert!(AwsVpcFlow.check(&Options::default()).is_ok());
    }

    #[test]
    fn a_header_line_gives_the_order_of_what_follows_from_the_same_sender() {
        let wanted = ["source.ip", "aws.vpcflow.pkt_dst_aws_service", "network.direction", "container.id"];
        let lines = [FULL.as_bytes(), HEADER.as_bytes(), FULL.as_bytes(), AwsVpcFlow.sample().as_bytes()];
        let decoded = decode_all(&AwsVpcFlow, Options::default(), &wanted, &lines);
        assert_eq!((decoded[0].flaw, decoded[0].fields.len()), (Some(Flaw::Malformed), 0));
        assert_eq!((decoded[1].flaw, decoded[1].field("source.ip")), (None, ""));
        let fields: Vec<_> = decoded[2].fields.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(fields, ["10.0.0.62", "AMAZON", "egress", "c-1"]);
        assert_eq!(decoded[3].field("source.ip"), "10.20.30.40");
    }

    #[test]
    fn the_header_line_of_a_file_holds_for_that_file_alone() {
        let lines = [b"10.0.0.1 22 7".as_slice(), b"10.0.0.1 22 7", b"443 7 10.0.0.2", b"443 7 10.0.0.2", b"10.0.0.1 22 7"];
        let beside = |header: &str| Arc::new(Origin::default().with(OriginField::Header, header));
        let origins = vec![
            (0, Arc::new(Origin::default())),
            (1, beside("srcaddr srcport bytes")),
            (2, beside("srcport bytes srcaddr")),
            (4, beside("this is no header")),
        ];
        let chunk = chunk(&lines, 1).with_origins(origins);
        let decoded = decode_chunk(&AwsVpcFlow, Options::default(), &["source.ip", "source.port"], &chunk);
        let found: Vec<_> = decoded.iter().map(|row| (row.field("source.ip"), row.field("source.port"), row.flaw)).collect();
        let (none, second) = (("", "", Some(Flaw::Malformed)), ("10.0.0.2", "443", None));
        assert_eq!(found, [none, ("10.0.0.1", "22", None), second, second, none]);
    }

    #[test]
    fn headers_are_kept_per_sender_and_up_to_a_bound() {
        let wanted = Wanted::default();
        let default = Layout::new(b"version", &wanted);
        let mut records = Records {
            paths: compile(&[]),
            columns: Vec::new(),
            is_strict: false,
            origin: None,
            given: None,
            headers: Vec::new(),
            sender: (0, None),
            configured: None,
            default,
            made: Vec::new(),
            end: None,
            wanted,
        };
        for number in 0..SENDERS_MAX as u16 * 2 {
            records.sender = (number, None);
            records.learn(b"version srcaddr dstaddr");
            records.learn(b"version srcaddr dstaddr bytes");
            records.learn(b"version srcaddr dstaddr bytes");
            assert!(records.headers.len() <= SENDERS_MAX);
        }
        assert!(records.layout(b"3 a b c", 4).is_some_and(|layout| layout.slots.len() == 4));
        records.sender = (0, None);
        assert!(records.layout(b"3 a b c", 4).is_none());
    }

    #[test]
    fn a_cut_record_loses_the_column_that_may_be_cut() {
        let (cut, _) = AwsVpcFlow.sample().split_once(".100.23").unwrap();
        let decoded = decode(&AwsVpcFlow, &["source.ip", "destination.ip"], cut.as_bytes());
        assert_eq!((decoded.field("source.ip"), decoded.field("destination.ip"), decoded.flaw), ("10.20.30.40", "", Some(Flaw::Truncated)));
        assert_eq!(decoded.time_ms, RECEIVED_MS);
        let longer = format!("{} surplus columns\r", AwsVpcFlow.sample());
        let decoded = decode(&AwsVpcFlow, &["aws.vpcflow.log_status"], longer.as_bytes());
        assert_eq!((decoded.field("aws.vpcflow.log_status"), decoded.flaw), ("OK", None));
        for line in ["", "-", "5 a b c", "Nov 21 08:00:00 host x: y"] {
            assert_eq!(decode(&AwsVpcFlow, &["source.ip"], line.as_bytes()).flaw, Some(Flaw::Malformed), "{line}");
        }
    }

    #[test]
    fn records_and_headers_are_recognised_and_other_lines_are_not() {
        let custom = "REJECT 10.0.0.1 10.0.0.2 22 OK";
        for line in [AwsVpcFlow.sample(), NODATA, SKIPDATA, HEADER, FULL, custom] {
            assert!(AwsVpcFlow.sniff(line.as_bytes()).is_some(), "{line}");
        }
        for line in [
            "",
            "ACCEPT OK",
            "<14>a ACCEPT b OK",
            "{\"a\": ACCEPT OK }",
            "kernel: ACCEPT IN=eth0 OUT= SRC=10.0.0.1",
            "version srcaddr",
            "a b c",
        ] {
            assert_eq!(AwsVpcFlow.sniff(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn every_name_of_the_schema_map_is_filled_by_some_line() {
        assert_eq!(never_filled(&AwsVpcFlow, &[HEADER, FULL]), Vec::<String>::new());
    }

    #[test]
    fn made_traffic_is_read_without_a_flaw() {
        let mut traffic = Traffic::new(Product::AwsVpcFlow, 3);
        for number in 0..1000 {
            let mut line = Vec::new();
            traffic.next(RECEIVED_MS + number, &mut line);
            let decoded = decode(&AwsVpcFlow, &["source.ip", "aws.vpcflow.log_status"], &line);
            assert_eq!(decoded.flaw, None);
            assert_eq!(decoded.field("source.ip").is_empty(), decoded.field("aws.vpcflow.log_status") == "NODATA");
        }
    }

    #[test]
    fn broken_lines_never_panic() {
        torture(&AwsVpcFlow, &[AwsVpcFlow.sample(), NODATA, HEADER, FULL]);
    }
}
