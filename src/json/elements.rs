//! The elements of a JSON array whose text is at hand.
//!
//! In: the bytes of a slot of [`Kind::Array`]. Out: each element with the byte conventions of [`Kind`].
//! Nothing is validated again: the scan did that, or this code wrote the array. At the first byte that
//! cannot be right the elements end.

use memchr::memchr2;

use crate::event::Kind;

/// Elements that are given of one array; a rule that asks for more would hold the thread.
pub const ELEMENTS_MAX: usize = 16_384;

/// The elements of `array`, brackets included; none if it is not an array. At most [`ELEMENTS_MAX`].
pub fn elements(array: &[u8]) -> Elements<'_> {
    let rest = array.strip_prefix(b"[").unwrap_or_default();
    Elements { rest, left: ELEMENTS_MAX }
}

/// See [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Elements<'a> {
    type Item = (Kind, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest).trim_ascii_start();
        self.left = self.left.checked_sub(1)?;
        let (kind, len) = measure(rest)?;
        let (value, rest) = rest.split_at_checked(len)?;
        self.rest = rest.trim_ascii_start().strip_prefix(b",").unwrap_or_default();
        match kind {
            Kind::Text | Kind::Escaped => Some((kind, value.get(1..len - 1)?)),
            _ => Some((kind, value)),
        }
    }
}

/// Kind and length of the value at the start of `bytes`.
fn measure(bytes: &[u8]) -> Option<(Kind, usize)> {
    match bytes.first()? {
        b'"' => string(bytes),
        b'{' => Some((Kind::Object, container(bytes)?)),
        b'[' => Some((Kind::Array, container(bytes)?)),
        b't' if bytes.starts_with(b"true") => Some((Kind::True, 4)),
        b'f' if bytes.starts_with(b"false") => Some((Kind::False, 5)),
        b'n' if bytes.starts_with(b"null") => Some((Kind::Null, 4)),
        b'-' | b'0'..=b'9' => {
            let end = bytes.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
            Some((Kind::Number, end.unwrap_or(bytes.len())))
        }
        _ => None,
    }
}

/// Kind and length of the string at the start of `bytes`, quotes included.
fn string(bytes: &[u8]) -> Option<(Kind, usize)> {
    let mut kind = Kind::Text;
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some((kind, at + 1));
        }
        kind = Kind::Escaped;
        at += 2;
    }
}

/// Length of the array or object at the start of `bytes`.
fn container(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => at += string(&bytes[at..])?.1 - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ELEMENTS_MAX, elements};
    use crate::event::Kind;

    #[test]
    fn elements_come_with_the_bytes_of_their_kind() {
        let array = br#" [ "a" ,"b\"]", 1.5e+3 ,true,false,null, {"x":"}]","y":[1]} ,[ [], "\\" ],"" ] "#.trim_ascii();
        let expected: [(Kind, &[u8]); 9] = [
            (Kind::Text, b"a"),
            (Kind::Escaped, br#"b\"]"#),
            (Kind::Number, b"1.5e+3"),
            (Kind::True, b"true"),
            (Kind::False, b"false"),
            (Kind::Null, b"null"),
            (Kind::Object, br#"{"x":"}]","y":[1]}"#),
            (Kind::Array, br#"[ [], "\\" ]"#),
            (Kind::Text, b""),
        ];
        assert_eq!(elements(array).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_no_array_has_no_elements() {
        for bytes in ["", "[", "[]", "[ ]", "{}", "1", "[,1]", "[}", "[\"", "[\"\\", "[[", "[x]"] {
            assert_eq!(elements(bytes.as_bytes()).count(), 0, "{bytes}");
        }
    }

    #[test]
    fn elements_end_where_the_text_breaks() {
        assert_eq!(elements(b"[1,2,\"x").count(), 2);
        assert_eq!(elements(b"[1 2]").count(), 1);
    }

    #[test]
    fn elements_are_bounded() {
        let array = format!("[{}1]", "1,".repeat(ELEMENTS_MAX + 5));
        assert_eq!(elements(array.as_bytes()).count(), ELEMENTS_MAX);
    }
}
