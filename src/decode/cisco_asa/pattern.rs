//! Patterns of message texts, and the matcher that reads a text by one.
//!
//! A pattern is text with fields: `Built {direction} {protocol} connection {connection_id} for {A}`.
//!
//! * `{name}`: text up to what the pattern has next; blanks around it are left out.
//! * `{A}`, `{B}`: `interface:address/port(user)`, of which port and brackets may be missing; `{a}`, `{b}`: the
//!   same without an interface; `{A=}`, `{B=}`: the translated address and port in brackets; `{b=}`: without
//!   brackets; `{A/}`, `{B/}`: the form of access lists, `interface/address(port)(user)`;
//!   `{b:}`: an address that a colon ends; a name before an `@` in any address is the user.
//! * `{?...}`: may be missing; a field in it is not empty.
//! * A blank stands for one blank or more; beside punctuation, and behind a blank, also for none. Letters match
//!   in either case. Quotes and angle brackets around a field are left out of it.
//!
//! Time is bounded: a text is passed over once for each field at most, and a pattern has about ten.

use crate::event::Span;

/// Fields that a pattern may name.
pub(super) const FIELDS: [&str; 38] = [
    "direction",
    "verdict",
    "protocol",
    "connection_id",
    "icmp_type",
    "icmp_code",
    "duration",
    "bytes",
    "reason",
    "interface",
    "user",
    "group",
    "tunnel_group",
    "server",
    "rule",
    "hit_count",
    "tcp_flags",
    "service",
    "command",
    "application",
    "url",
    "object",
    "rate_id",
    "burst_rate",
    "average_rate",
    "total_count",
    "session_type",
    "bytes_sent",
    "bytes_received",
    "assigned_ip",
    "assigned_ipv6",
    "spi",
    "role",
    "detail",
    "mac",
    "file_name",
    "level",
    "client",
];

const DIRECTION: usize = 0;
const VERDICT: usize = 1;
const USER: usize = 10;
const SERVICE: usize = 17;

/// Parts of a side: their names at the source, at the destination, and what they are.
pub(super) const SIDE: [(&str, &str, &str); 8] = [
    ("src_ip", "dst_ip", "address or name"),
    ("src_port", "dst_port", "port, or the identifier of a ping"),
    ("src_interface", "dst_interface", "interface"),
    ("src_user", "dst_user", "user of the identity firewall"),
    ("src_user_domain", "dst_user_domain", "what stands before the user's backslash"),
    ("src_domain", "dst_domain", "name of the address"),
    ("src_nat_ip", "dst_nat_ip", "translated address"),
    ("src_nat_port", "dst_nat_port", "translated port"),
];

/// The parts of one side.
pub(super) type Side = [Span; SIDE.len()];

/// What a pattern read; what it did not stays empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Captures {
    pub(super) sides: [Side; 2],
    pub(super) fields: [Span; FIELDS.len()],
}

impl Default for Captures {
    fn default() -> Self {
        Self { sides: [[Span::default(); SIDE.len()]; 2], fields: [Span::default(); FIELDS.len()] }
    }
}

impl Captures {
    pub(super) fn direction(&self) -> Span {
        self.fields[DIRECTION]
    }

    pub(super) fn verdict(&self) -> Span {
        self.fields[VERDICT]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `interface:address/port`
    Interface,
    /// `address/port`
    Plain,
    /// `address`, which a colon ends
    UpToColon,
    /// `(address/port)`
    Translated,
    /// `address/port` of a translation
    TranslatedPlain,
    /// `interface:address/port` of a translation
    TranslatedInterface,
    /// `interface/address(port)`
    AccessList,
}

#[derive(Clone, Debug)]
enum Op {
    Literal(&'static [u8]),
    /// The field, and where it may end: at any of these literals, and at the end of the text if `last`.
    Text {
        field: usize,
        stops: Vec<&'static [u8]>,
        last: bool,
    },
    Address {
        side: usize,
        form: Form,
    },
    /// The next so many operations may be missing.
    Optional(usize),
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    ops: Vec<Op>,
}

impl Pattern {
    /// Compiles a pattern of this program's own; one that is wrong is found by the test over all of them.
    pub(super) fn new(text: &'static str) -> Self {
        let mut ops = Vec::new();
        parse(text, &mut ops);
        for index in 0..ops.len() {
            let found = ends(&ops[index + 1..]);
            if let Op::Text { stops, last, .. } = &mut ops[index] {
                (*stops, *last) = found;
            }
        }
        Self { ops }
    }

    /// Whether every brace of the text became an operation, and every field has an end.
    #[cfg(test)]
    pub(super) fn is_sound(&self, text: &str) -> bool {
        let fields = self.ops.iter().filter(|op| !matches!(op, Op::Literal(_))).count();
        let ends = |op: &Op| !matches!(op, Op::Text { stops, last, .. } if stops.is_empty() && !last);
        fields == text.matches('{').count() && self.ops.iter().all(ends)
    }

    /// Reads `text`, a span of `bytes`; returns whether all of the pattern was found.
    pub(super) fn read(&self, bytes: &[u8], text: Span, captures: &mut Captures) -> bool {
        let mut reader = Reader { bytes, at: text.start as usize, end: text.end as usize, captures };
        let mut index = 0;
        while let Some(op) = self.ops.get(index) {
            index += 1;
            if let Op::Optional(len) = op {
                let group = self.ops.get(index..index + len).unwrap_or_default();
                index += len;
                // Most groups are not there, which their first literal tells without a copy of the captures.
                if matches!(group.first(), Some(Op::Literal(literal)) if reader.literal(reader.at, literal).is_none()) {
                    continue;
                }
                let saved = (reader.at, *reader.captures);
                if !group.iter().all(|op| reader.op(op, true)) {
                    reader.at = saved.0;
                    *reader.captures = saved.1;
                }
            } else if !reader.op(op, false) {
                return false;
            }
        }
        true
    }
}

/// Appends the operations of a pattern.
fn parse(mut text: &'static str, ops: &mut Vec<Op>) {
    while !text.is_empty() {
        let open = text.find('{').unwrap_or(text.len());
        if open > 0 {
            ops.push(Op::Literal(&text.as_bytes()[..open]));
        }
        let Some(inside) = text.get(open + 1..) else { return };
        let close = closing(inside);
        let name = &inside[..close];
        text = inside.get(close + 1..).unwrap_or_default();
        if let Some(group) = name.strip_prefix('?') {
            let at = ops.len();
            ops.push(Op::Optional(0));
            parse(group, ops);
            ops[at] = Op::Optional(ops.len() - at - 1);
        } else if let Some(op) = field(name) {
            ops.push(op);
        }
    }
}

/// Offset of the brace that closes the one before `inside`.
fn closing(inside: &str) -> usize {
    let mut depth = 1;
    let at = inside.bytes().position(|byte| {
        depth += i32::from(byte == b'{') - i32::from(byte == b'}');
        depth == 0
    });
    at.unwrap_or(inside.len())
}

fn field(name: &str) -> Option<Op> {
    let form = match name {
        "A" | "B" => Some(Form::Interface),
        "a" | "b" => Some(Form::Plain),
        "A=" | "B=" => Some(Form::Translated),
        "b=" => Some(Form::TranslatedPlain),
        "b:" => Some(Form::UpToColon),
        "N" => Some(Form::TranslatedInterface),
        "A/" | "B/" => Some(Form::AccessList),
        _ => None,
    };
    match form {
        Some(form) => Some(Op::Address { side: usize::from(name.starts_with(['B', 'b'])), form }),
        None => FIELDS.iter().position(|known| *known == name).map(|field| Op::Text { field, stops: Vec::new(), last: false }),
    }
}

/// Where a field before `ops` may end: at the literals that may come next, and whether at the end.
fn ends(ops: &[Op]) -> (Vec<&'static [u8]>, bool) {
    let mut stops = Vec::new();
    let mut index = 0;
    while let Some(op) = ops.get(index) {
        match op {
            Op::Optional(len) => {
                if let Some(Op::Literal(literal)) = ops.get(index + 1) {
                    stops.push(*literal);
                }
                index += len + 1;
            }
            Op::Literal(literal) => {
                stops.push(*literal);
                return (stops, false);
            }
            _ => return (stops, false),
        }
    }
    (stops, true)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    captures: &'a mut Captures,
}

impl Reader<'_> {
    fn op(&mut self, op: &Op, is_optional: bool) -> bool {
        match op {
            Op::Literal(literal) => match self.literal(self.at, literal) {
                Some(at) => self.at = at,
                None => return false,
            },
            Op::Text { field, stops, last } => {
                let Some(found) = self.text(stops, *last) else { return false };
                if is_optional && found.is_empty() {
                    return false;
                }
                self.captures.fields[*field] = found;
            }
            Op::Address { side, form } => return self.address(*side, *form),
            Op::Optional(_) => return false,
        }
        true
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes[..self.end].get(at).copied()
    }

    /// The offset behind `literal` at `at`.
    fn literal(&self, mut at: usize, literal: &[u8]) -> Option<usize> {
        for (index, expected) in literal.iter().enumerate() {
            if *expected == b' ' {
                let blanks = self.bytes[at..self.end].iter().take_while(|byte| **byte == b' ').count();
                let beside = |index: Option<usize>| index.and_then(|index| literal.get(index)).is_some_and(u8::is_ascii_punctuation);
                let behind_blank = index == 0 && at > 0 && self.bytes[at - 1] == b' ';
                if blanks == 0 && !behind_blank && !beside(index.checked_sub(1)) && !beside(Some(index + 1)) {
                    return None;
                }
                at += blanks;
            } else {
                if !self.byte(at)?.eq_ignore_ascii_case(expected) {
                    return None;
                }
                at += 1;
            }
        }
        Some(at)
    }

    /// The text up to the first of `stops`, or up to the end if `last`; blanks around it are left out.
    fn text(&mut self, stops: &[&'static [u8]], last: bool) -> Option<Span> {
        while self.byte(self.at) == Some(b' ') {
            self.at += 1;
        }
        let start = self.at;
        let mut previous = b' ';
        let mut stop = self.end;
        let mut found = last;
        for at in start..self.end {
            let byte = self.bytes[at];
            // Of a run of blanks only the first is tried: a literal passes over the run itself.
            let may = byte != b' ' || previous != b' ' || at == start;
            if may && stops.iter().any(|literal| self.may_begin(byte, literal) && self.literal(at, literal).is_some()) {
                (stop, found) = (at, true);
                break;
            }
            previous = byte;
        }
        if !found {
            return None;
        }
        self.at = stop;
        Some(trimmed(self.bytes, start, stop))
    }

    /// Whether `literal` may begin with `byte`.
    fn may_begin(&self, byte: u8, literal: &[u8]) -> bool {
        match literal {
            [b' ', next, ..] => byte == b' ' || byte.eq_ignore_ascii_case(next),
            [first, ..] => byte.eq_ignore_ascii_case(first),
            [] => false,
        }
    }

    fn address(&mut self, side: usize, form: Form) -> bool {
        while let Some(b' ' | b'<') = self.byte(self.at) {
            self.at += 1;
        }
        let brackets = form == Form::Translated;
        if brackets && self.byte(self.at) != Some(b'(') {
            return false;
        }
        let start = self.at + usize::from(brackets);
        let is_end =
            |byte: &u8| matches!(byte, b' ' | b'(' | b')' | b',' | b';' | b'>' | b'\'') || form == Form::UpToColon && *byte == b':';
        let mut len = self.bytes[start..self.end].iter().take_while(|byte| !is_end(byte)).count();
        // What ends a sentence or opens a reason is none of the address.
        len -= usize::from(matches!(self.bytes[start..start + len].last(), Some(b'.' | b':')));
        if len == 0 {
            return false;
        }
        self.at = start + len;
        let mut token = Span::new(start, start + len);
        let mut parts = self.captures.sides[side];
        let separator = if form == Form::AccessList { b'/' } else { b':' };
        if matches!(form, Form::Interface | Form::AccessList | Form::TranslatedInterface)
            && let Some(at) = memchr::memchr(separator, token.of(self.bytes))
        {
            let interface = Span::new(start, start + at);
            match form {
                Form::TranslatedInterface => self.captures.sides[1 - side][2] = interface,
                _ => parts[2] = interface,
            }
            token = Span::new(start + at + 1, start + len);
        }
        if let Some(at) = memchr::memchr(b'@', token.of(self.bytes)) {
            let middle = token.start as usize + at;
            self.captures.fields[USER] = Span::new(token.start as usize, middle);
            token = Span::new(middle + 1, start + len);
        }
        if token.of(self.bytes) == b"None" {
            return true;
        }
        let (address, port) = match self.port(token, form) {
            Some(at) => {
                let middle = token.start as usize + at;
                (Span::new(token.start as usize, middle), Span::new(middle + 1, start + len))
            }
            None => (token, Span::default()),
        };
        let offset = if matches!(form, Form::Translated | Form::TranslatedPlain | Form::TranslatedInterface) { 6 } else { 0 };
        parts[offset] = address;
        match port.of(self.bytes).iter().all(u8::is_ascii_digit) {
            true => parts[offset + 1] = port,
            false => self.captures.fields[SERVICE] = port,
        }
        self.captures.sides[side] = parts;
        if let Some(b'>') = self.byte(self.at) {
            self.at += 1;
        }
        if brackets && self.byte(self.at) == Some(b')') {
            self.at += 1;
        }
        if form == Form::AccessList
            && let Some(inside) = self.bracketed()
        {
            self.captures.sides[side][1] = inside;
        }
        if let Some(inside) = self.bracketed() {
            self.identity(side, inside);
        }
        true
    }

    /// Offset in `token` of what stands between address and port: a slash, or without an interface a single
    /// colon (IPv6 has more).
    fn port(&self, token: Span, form: Form) -> Option<usize> {
        let text = token.of(self.bytes);
        memchr::memrchr(b'/', text).or_else(|| {
            let colon = memchr::memchr(b':', text)?;
            (form == Form::Plain && memchr::memrchr(b':', text) == Some(colon)).then_some(colon)
        })
    }

    /// What stands in brackets right here.
    fn bracketed(&mut self) -> Option<Span> {
        let inside = self.bytes[self.at..self.end].strip_prefix(b"(")?;
        // `(type 8, code 0)` behind an address without a blank is none of it.
        if inside.starts_with(b"type ") {
            return None;
        }
        let len = memchr::memchr(b')', inside)?;
        let span = Span::new(self.at + 1, self.at + 1 + len);
        self.at += len + 2;
        Some(span)
    }

    /// `DOMAIN\user`, `name.of.the.address`, `9999:security-group`, and the first or second with the third.
    fn identity(&mut self, side: usize, inside: Span) {
        let text = inside.of(self.bytes);
        let start = inside.start as usize;
        let first = memchr::memchr(b',', text).unwrap_or(text.len());
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let is_tag = digits > 0 && matches!(text.get(digits), None | Some(b':' | b','));
        let parts = &mut self.captures.sides[side];
        match memchr::memrchr(b'\\', &text[..first]) {
            Some(at) => {
                parts[4] = Span::new(start, start + at);
                parts[3] = Span::new(start + at + 1, start + first);
            }
            None if !is_tag => parts[5] = Span::new(start, start + first),
            None => {}
        }
    }
}

/// Without blanks, quotes and a relay's `#012` around it.
fn trimmed(bytes: &[u8], mut from: usize, mut to: usize) -> Span {
    loop {
        let before = (from, to);
        match &bytes[from..to] {
            [b' ' | b'\t', ..] => from += 1,
            [.., b' ' | b'\t' | b'\r' | b'\n'] => to -= 1,
            [b'"', .., b'"'] | [b'\'', .., b'\''] | [b'<', .., b'>'] => (from, to) = (from + 1, to - 1),
            [.., b'#', b'0', b'1', b'2'] => to -= 4,
            _ => {}
        }
        if (from, to) == before {
            return Span::new(from, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pattern: &'static str, text: &str) -> Option<Vec<String>> {
        let mut captures = Captures::default();
        let whole = Pattern::new(pattern).read(text.as_bytes(), Span::new(0, text.len()), &mut captures);
        let spans = captures.sides.iter().flatten().chain(&captures.fields).filter(|span| !span.is_empty());
        whole.then(|| spans.map(|span| text[span.start as usize..span.end as usize].to_owned()).collect())
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("{A}", "outside:10.0.0.1/443", &["10.0.0.1", "443", "outside"]),
            ("{A}", "outside:2a02:cf40::1/443", &["2a02:cf40::1", "443", "outside"]),
            ("{a}", "fe80::1ff:fe23", &["fe80::1ff:fe23"]),
            ("{a}", "10.0.0.1/https", &["10.0.0.1", "https"]),
            ("{A}", "dmz:OCSP_Server/5678", &["OCSP_Server", "5678", "dmz"]),
            ("{A}", "in:1.1.1.1/1(LOCAL\\First Last, 9:x)", &["1.1.1.1", "1", "in", "First Last", "LOCAL"]),
            ("{A}", "in:1.1.1.1/1(9999:my_SgtName)", &["1.1.1.1", "1", "in"]),
            ("{A}", "in:1.1.1.1/1(host.domain)", &["1.1.1.1", "1", "in", "host.domain"]),
            ("{A} {A=}", "in:1.1.1.1/1 (2.2.2.2/2)(AD\\bob)", &["1.1.1.1", "1", "in", "bob", "AD", "2.2.2.2", "2"]),
            ("{A/}", "in/1.1.1.1(27218)(LOCAL\\u)", &["1.1.1.1", "27218", "in", "u", "LOCAL"]),
            ("{A} (type {icmp_type})", "in:1.1.1.1(type 8)", &["1.1.1.1", "in", "8"]),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(read(pattern, text).unwrap(), *expected, "{text}");
        }
    }

    #[test]
    fn literals_are_lenient_with_blanks_and_case_only() {
        assert_eq!(
            read("rejected : reason = {reason} : user = {user}", "Rejected: reason = bad word:user=  bob ").unwrap(),
            ["bad word", "bob"]
        );
        assert_eq!(read("{user} to {group}", "customer bob to g").unwrap(), ["customer bob", "g"]);
        assert_eq!(read("a {user}", "ab"), None);
        assert_eq!(read("x {user} y", "x bob"), None);
    }

    #[test]
    fn optional_parts_may_be_missing_but_not_empty() {
        let pattern = "bytes {bytes}{? {reason}}{? from {interface}}{? ({user})}";
        assert_eq!(read(pattern, "bytes 1 TCP FINs from outside (First Last)").unwrap(), ["1", "TCP FINs", "outside", "First Last"]);
        assert_eq!(read(pattern, "bytes 1 (bob)").unwrap(), ["1", "bob"]);
        assert_eq!(read(pattern, "bytes 1").unwrap(), ["1"]);
        assert_eq!(read(pattern, "bytes 1 TCP Reset-I").unwrap(), ["1", "TCP Reset-I"]);
    }

    #[test]
    fn long_runs_of_blanks_are_passed_over_once() {
        let text = format!("a{}b", " ".repeat(200_000));
        assert!(read("a {user} c {group} d", &text).is_none());
    }
}
