//! `plain`: one indicator a line.
//!
//! Blocklists of Spamhaus (`1.2.3.0/24 ; SBL1`), FireHOL (`#` comments), CINS, hosts files of URLhaus.

use std::collections::VecDeque;
use std::io::BufRead;

use super::{Details, Found, Kind, LINE_BYTES_MAX, Refusal, push, read_line};

pub(super) struct Plain<R> {
    reader: R,
    kind: Option<Kind>,
    line: usize,
    buffer: Vec<u8>,
}

impl<R: BufRead> Plain<R> {
    pub(super) fn new(reader: R, kind: Option<Kind>) -> Self {
        Self { reader, kind, line: 0, buffer: Vec::new() }
    }

    pub(super) fn reader(&mut self) -> &mut R {
        &mut self.reader
    }

    /// Reads one line; false at the end.
    pub(super) fn read(&mut self, found: &mut VecDeque<Found>) -> bool {
        self.buffer.clear();
        match read_line(&mut self.reader, &mut self.buffer) {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                found.push_back(Err(Refusal::unreadable(&error)));
                return false;
            }
        }
        self.line += 1;
        let bytes = self.buffer.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.buffer);
        if bytes.len() > LINE_BYTES_MAX {
            found.push_back(Err(Refusal::skipped(self.line, format!("the line has more than {LINE_BYTES_MAX} bytes"), "")));
            return true;
        }
        let text = String::from_utf8_lossy(bytes);
        let words: Vec<&str> = text.split_whitespace().take_while(|word| !word.starts_with(['#', ';'])).take(MANY).collect();
        match *words {
            [] => {}
            [only] => push(found, self.line, (self.kind, only), Details::default()),
            ["0.0.0.0" | "127.0.0.1" | "::" | "::1", name] => {
                // What every hosts file begins with.
                if !["localhost", "localhost.localdomain", "local", "broadcasthost", "0.0.0.0", "::1"].contains(&name) {
                    push(found, self.line, (Some(Kind::Domain), name), Details::default());
                }
            }
            _ => found.push_back(Err(Refusal::skipped(self.line, "more than one word; a comment begins with # or ;", &text))),
        }
        true
    }
}

/// More words than a line of any list has.
const MANY: usize = 3;
