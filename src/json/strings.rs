//! Text to JSON strings and back.
//!
//! Writing takes any bytes: what is not UTF-8 becomes U+FFFD, one for each broken sequence as the WHATWG
//! decoder counts them. Reading takes the inside of a JSON string (RFC 8259, section 7); an escape that the
//! RFC does not know stays as it is written, a surrogate without its partner becomes U+FFFD.

use super::simd::{self, BLOCK, Word};

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` as a JSON string with its quotes.
#[inline]
pub fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    write_inside(bytes, out);
    out.push(b'"');
}

/// Appends `bytes` as the inside of a JSON string: `"`, `\` and control characters escaped, bytes that are
/// not UTF-8 replaced by U+FFFD.
#[inline]
pub fn write_inside(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.len() > BLOCK || !write_short(bytes, out) {
        write_long(bytes, out);
    }
}

/// Most values of logs are short ASCII: one block says whether there is anything to escape or to check. Returns
/// whether it could be written this way.
#[inline]
fn write_short(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let mut block = [b' '; BLOCK];
    block[..bytes.len()].copy_from_slice(bytes);
    let mut marks = Word::default();
    if simd::special(&block, &mut marks) {
        return false;
    }
    if simd::bits(marks) == 0 {
        // A whole block is copied faster than a number of bytes that is not known.
        let end = out.len() + bytes.len();
        out.extend_from_slice(&block);
        out.truncate(end);
    } else {
        let from = write_marked(bytes, 0, 0, marks, out);
        copy(bytes, from, bytes.len(), out);
    }
    true
}

fn write_long(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len());
    if simdutf8::basic::from_utf8(bytes).is_ok() {
        return write_utf8(bytes, out);
    }
    for chunk in bytes.utf8_chunks() {
        write_utf8(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT);
        }
    }
}

fn write_utf8(bytes: &[u8], out: &mut Vec<u8>) {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut from = 0;
    let mut marks = Word::default();
    for (index, block) in blocks.iter().enumerate() {
        simd::special(block, &mut marks);
        from = write_marked(bytes, from, index * BLOCK, marks, out);
    }
    if !rest.is_empty() {
        let mut block = [b' '; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        simd::special(&block, &mut marks);
        from = write_marked(bytes, from, blocks.len() * BLOCK, marks, out);
    }
    copy(bytes, from, bytes.len(), out);
}

/// Appends `bytes` from `from` to behind the last marked one, which are escaped; marks count from `block`.
/// Returns where the rest starts.
#[inline(always)]
fn write_marked(bytes: &[u8], mut from: usize, block: usize, marks: Word, out: &mut Vec<u8>) -> usize {
    let mut marks = simd::bits(marks);
    while marks != 0 {
        let at = block + marks.trailing_zeros() as usize;
        marks &= marks - 1;
        copy(bytes, from, at, out);
        write_escape(bytes[at], out);
        from = at + 1;
    }
    from
}

/// Appends a part. Between two escapes there are mostly a few bytes: 16 are copied in one go, and those
/// that are too many are taken back.
#[inline(always)]
fn copy(bytes: &[u8], from: usize, to: usize, out: &mut Vec<u8>) {
    let len = to - from;
    match bytes[from..].first_chunk::<16>() {
        Some(part) if len <= part.len() => {
            let end = out.len() + len;
            out.extend_from_slice(part);
            out.truncate(end);
        }
        _ => out.extend_from_slice(&bytes[from..to]),
    }
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Appends JSON text as a sender wrote it, made fit for a line of strict JSON: the scan also takes raw control
/// characters, bytes that are not UTF-8, halves of surrogate pairs, and line breaks between tokens. `quoted` says
/// that the text is the inside of a string.
#[inline]
pub fn write_checked(json: &[u8], quoted: bool, out: &mut Vec<u8>) {
    let has_control = json.iter().fold(false, |found, byte| found | (*byte < b' '));
    if has_control || memchr::memmem::find(json, b"\\u").is_some() || simdutf8::basic::from_utf8(json).is_err() {
        write_mended(json, quoted, out);
    } else {
        out.extend_from_slice(json);
    }
}

fn write_mended(json: &[u8], mut quoted: bool, out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(json);
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let mut used = 1;
        match byte {
            b'"' => {
                quoted = !quoted;
                out.push(byte);
            }
            b'\\' if quoted => {
                used = escape_len(rest);
                let is_whole = used != 6 || !matches!(code_unit(rest), Some(0xd800..=0xdfff));
                out.extend_from_slice(if is_whole { &rest[..used] } else { b"\\ufffd" });
            }
            0..b' ' if quoted => write_escape(byte, out),
            0..b' ' => out.push(b' '),
            _ => {
                used += behind.iter().take_while(|byte| !matches!(byte, 0..b' ' | b'"' | b'\\')).count();
                out.extend_from_slice(&rest[..used]);
            }
        }
        rest = &rest[used..];
    }
}

/// Length of the escape at the start of `bytes`, both halves of a pair together.
fn escape_len(bytes: &[u8]) -> usize {
    let is_low = |unit: &u32| (0xdc00..=0xdfff).contains(unit);
    match code_unit(bytes) {
        Some(0xd800..=0xdbff) if bytes.get(6..).and_then(code_unit).as_ref().is_some_and(is_low) => 12,
        Some(_) => 6,
        None => 2.min(bytes.len()),
    }
}

/// Appends the text that the inside of a JSON string stands for. Paths of Windows have a backslash every few bytes: they are
/// looked for a block at a time.
pub fn unescape(inside: &[u8], out: &mut Vec<u8>) {
    out.reserve(inside.len());
    let mut from = 0;
    let (blocks, rest) = inside.as_chunks::<BLOCK>();
    for (index, block) in blocks.iter().enumerate() {
        from = unescape_marked(inside, from, index * BLOCK, simd::backslashes(block), out);
    }
    if !rest.is_empty() {
        let mut block = [b' '; BLOCK];
        block[..rest.len()].copy_from_slice(rest);
        from = unescape_marked(inside, from, blocks.len() * BLOCK, simd::backslashes(&block), out);
    }
    copy(inside, from, inside.len(), out);
}

/// Appends `inside` from `from` to behind the last escape that begins in the block at `block`, whose backslashes `marks` tells.
/// Returns where the rest starts, which an escape may put behind the block.
#[inline(always)]
fn unescape_marked(inside: &[u8], mut from: usize, block: usize, mut marks: u64, out: &mut Vec<u8>) -> usize {
    while marks != 0 {
        let at = block + marks.trailing_zeros() as usize;
        marks &= marks - 1;
        // The second half of `\\`, or of the pair that an escape was the first half of.
        if at >= from {
            copy(inside, from, at, out);
            from = at + unescape_one(&inside[at..], out);
        }
    }
    from
}

/// Whether the inside of a JSON string stands for `text`.
pub(super) fn unescaped_is(inside: &[u8], text: &str) -> bool {
    // Nothing shrinks below a sixth: a long key is not unescaped in vain.
    if inside.len() > text.len().saturating_mul(6) {
        return false;
    }
    let mut unescaped = Vec::new();
    unescape(inside, &mut unescaped);
    unescaped == text.as_bytes()
}

/// Appends what the escape at the start of `bytes` stands for. Returns its length, at least 1.
#[inline(always)]
fn unescape_one(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let byte = match bytes.get(1) {
        Some(b'b') => 0x08,
        Some(b'f') => 0x0c,
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
        Some(b'u') => return unescape_unicode(bytes, out),
        _ => {
            out.push(b'\\');
            return 1;
        }
    };
    out.push(byte);
    2
}

#[inline(never)]
fn unescape_unicode(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let Some(unit) = code_unit(bytes) else {
        out.push(b'\\');
        return 1;
    };
    let pair = match unit {
        0xd800..=0xdbff => bytes.get(6..).and_then(code_unit).filter(|low| (0xdc00..=0xdfff).contains(low)),
        _ => None,
    };
    let (code, len) = match pair {
        Some(low) => (0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00), 12),
        None => (unit, 6),
    };
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    len
}

/// The number of the `\uXXXX` at the start of `bytes`.
pub(super) fn code_unit(bytes: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = bytes.first_chunk::<6>()? else { return None };
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{unescape, unescape_one, write_checked, write_inside, write_string};

    fn unescaped(inside: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        unescape(inside, &mut out);
        out
    }

    fn written(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write_string(bytes, &mut out);
        out
    }

    #[test]
    fn escapes_become_the_text_they_stand_for() {
        let table: [(&[u8], &[u8]); 18] = [
            (b"", b""),
            (b"plain", b"plain"),
            (br#"\"\\\/\b\f\n\r\t"#, b"\"\\/\x08\x0c\n\r\t"),
            (br"a\u0041b", b"aAb"),
            (br"\u00e9", "é".as_bytes()),
            (br"\u20AC", "€".as_bytes()),
            (br"\ud83d\ude00!", "😀!".as_bytes()),
            (br"\ud83d", "\u{fffd}".as_bytes()),
            (br"\ude00", "\u{fffd}".as_bytes()),
            (br"\ud83dx", "\u{fffd}x".as_bytes()),
            (br"\ud83d\n", "\u{fffd}\n".as_bytes()),
            (br"\ud83d\ud83d\ude00", "\u{fffd}😀".as_bytes()),
            (br"\u0000", b"\0"),
            (br"\x41", br"\x41"),
            (br"\u12", br"\u12"),
            (br"\u+123", br"\u+123"),
            (br"end\", br"end\"),
            (b"\xff\\n", b"\xff\n"),
        ];
        for (inside, text) in table {
            assert_eq!(unescaped(inside), text, "{}", inside.escape_ascii());
        }
    }

    proptest! {
        /// Wherever a block ends.
        #[test]
        fn escapes_are_found_as_they_are_one_after_the_other(
            inside in prop::collection::vec(prop::sample::select(br#"\\\\"nu0d8cx"#.to_vec()), 0..300),
        ) {
            let (mut expected, mut at) = (Vec::new(), 0);
            while let Some(&byte) = inside.get(at) {
                if byte == b'\\' {
                    at += unescape_one(&inside[at..], &mut expected);
                } else {
                    expected.push(byte);
                    at += 1;
                }
            }
            prop_assert_eq!(unescaped(&inside), expected);
        }
    }

    #[test]
    fn written_strings_are_the_ones_that_a_parser_reads_back() {
        let mut texts: Vec<String> = (0..=0x7f_u8).map(|byte| format!("x{}y", char::from(byte))).collect();
        texts.extend(["", "é😀\u{7f}\u{2028}"].map(str::to_owned));
        texts.extend((0..200).map(|len| "abcdefg\"".repeat(40)[..len].to_owned()));
        for text in texts {
            let json = written(text.as_bytes());
            assert_eq!(serde_json::from_slice::<String>(&json).expect("valid JSON"), text);
            assert_eq!(unescaped(&json[1..json.len() - 1]), text.as_bytes());
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced_where_they_stand() {
        assert_eq!(written(b"a\xffb\"\xe2\x82"), "\"a\u{fffd}b\\\"\u{fffd}\"".as_bytes());
        for byte in 0x80..=0xff_u8 {
            let mut out = Vec::new();
            write_inside(&[b'<', byte, b'>'], &mut out);
            assert_eq!(out, String::from_utf8_lossy(&[b'<', byte, b'>']).as_bytes());
        }
    }

    #[test]
    fn text_of_senders_is_mended_only_where_it_is_not_strict() {
        let table: [(&[u8], bool, &str); 10] = [
            (b"[1, \"a\"]", false, "[1, \"a\"]"),
            (b"{\n\t\"a\":\r\n1}", false, "{  \"a\":  1}"),
            (b"[\"a\nb\\\"\x1b\"]", false, r#"["a\nb\"\u001b"]"#),
            (b"[\"\xff\xc3\"]", false, "[\"\u{fffd}\u{fffd}\"]"),
            (br#"["\ud83d\ude00\ud83d","\udc00x"]"#, false, r#"["\ud83d\ude00\ufffd","\ufffdx"]"#),
            (br"\ud83d\u0041", true, r"\ufffd\u0041"),
            (br"a\\ud800\u00e9", true, r"a\\ud800\u00e9"),
            (b"x\\\"\ny", true, r#"x\"\ny"#),
            (b"\\", true, "\\"),
            (b"", true, ""),
        ];
        for (json, quoted, expected) in table {
            let mut out = Vec::new();
            write_checked(json, quoted, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{}", json.escape_ascii());
        }
    }

    #[test]
    fn control_characters_without_a_short_escape_are_written_in_hex() {
        assert_eq!(written(b"\x00\x1b\n\x1f"), br#""\u0000\u001b\n\u001f""#);
    }
}
