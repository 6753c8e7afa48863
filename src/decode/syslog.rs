//! `syslog`: the header alone; the message stays one text. Takes every line that no other decoder does.
//!
//! RFC 3164 as it is sent, RFC 5424, and files of syslog daemons without a PRI: see [`crate::envelope`], which
//! also says what real senders get wrong. A line without any header is a message, which is no flaw.
//!
//! Native fields, beside the canonical ones of the header (`host.hostname`, `message`, `log.syslog.*`):
//! `program` and `pid`, the tag of RFC 3164 or APP-NAME and PROCID of RFC 5424.

use super::{Decoder, DecoderKind, MessageDecoder, Wanted, moved, with_envelope};
use crate::envelope::{self, Header};
use crate::event::{Flaw, Row, SlotId, Span};

pub(super) struct Syslog;

impl DecoderKind for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn sample(&self) -> &'static str {
        "<38>Nov 21 08:00:00 bastion sshd[4711]: Failed password for invalid user admin from 198.51.100.23 port 40022 ssh2"
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/syslog.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        Some(vec!["program", "pid"])
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        Some(if envelope::begins(frame) { "a syslog header, the message of no known format" } else { "of no known format: a line of text" })
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let message = Message { program: wanted.slot("program"), pid: wanted.slot("pid") };
        with_envelope(&wanted, message)
    }
}

struct Message {
    program: Option<SlotId>,
    pid: Option<SlotId>,
}

impl MessageDecoder for Message {
    fn message(&mut self, _message: Span, _row: &mut Row<'_>) -> Result<(), Flaw> {
        Ok(())
    }

    fn headed(&mut self, header: &Header, start: usize, _message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        for (slot, part) in [(self.program, header.app), (self.pid, header.process)] {
            if let Some(slot) = slot.filter(|_| !part.is_empty()) {
                row.set_text(slot, moved(part, start));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::testing::{self, Case};

    const CASES: &[Case<'_>] = &[
        (
            "<38>Nov 21 08:00:00 bastion sshd[4711]: Failed password for root",
            &[
                ("process.name", "sshd"),
                ("process.pid", "4711"),
                ("host.hostname", "bastion"),
                ("message", "Failed password for root"),
                ("log.syslog.facility.code", "4"),
                ("log.syslog.severity.code", "6"),
                ("event.kind", "event"),
            ],
        ),
        (
            "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog 77 ID47 [a@1 iut=\"3\"] An event",
            &[("process.name", "evntslog"), ("process.pid", "77"), ("log.syslog.msgid", "ID47"), ("message", "An event")],
        ),
        // As a daemon writes it to a file.
        ("Nov 21 21:25:16 vm su: session opened", &[("process.name", "su"), ("host.hostname", "vm"), ("message", "session opened")]),
        ("2026-11-21T10:00:00+02:00 host app: hello", &[("process.name", "app"), ("message", "hello")]),
        ("Just some text: nothing more", &[("process.name", ""), ("message", "Just some text: nothing more")]),
        ("", &[("message", "")]),
    ];

    #[test]
    fn headers_are_taken_off_and_lines_without_stay_whole() {
        testing::check(&Syslog, CASES);
        testing::check_every_name_is_filled(&Syslog, CASES.iter().map(|(line, _)| *line), &[]);
        testing::check_sniffed(&Syslog, CASES.iter().map(|(line, _)| *line));
        testing::check_broken_lines(&Syslog, CASES.iter().map(|(line, _)| *line));
    }

    #[test]
    fn times_of_files_without_a_priority_are_read() {
        assert_eq!(testing::decode(&Syslog, &[], "2026-11-21T10:00:00+02:00 host app: hello").time_ms, testing::RECEIVED_MS);
        assert_eq!(testing::decode(&Syslog, &[], "Nov 21 07:59:58 vm su: x").time_ms, testing::RECEIVED_MS - 2000);
    }
}
