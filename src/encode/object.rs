//! One JSON object, written member by member behind what is in a buffer already.
//!
//! For objects whose members may be missing: commas are put where they belong, and an object or a list of which
//! nothing is left is not written at all.

use std::fmt::Display;
use std::io::Write as _;

use crate::json;

/// An open object. What is in the buffer ends in `{` or in a member.
#[derive(Debug)]
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Object<'o> {
    /// Opens an object.
    pub fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out }
    }

    /// Goes on with the object that is open at the end of `out`.
    pub fn within(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// Ends the object.
    pub fn close(self) {
        self.out.push(b'}');
    }

    /// Appends a key; its value is for the caller to append.
    pub fn key(&mut self, key: &str) -> &mut Vec<u8> {
        // No value ends like that.
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        json::write_string(key.as_bytes(), self.out);
        self.out.push(b':');
        self.out
    }

    /// Has `write` append members, if any, each with a comma behind it but the last.
    pub fn members(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        let inside = self.out.len();
        write(self.out);
        if self.out.len() == inside {
            self.out.truncate(start);
        }
    }

    /// Appends a text.
    pub fn text(&mut self, key: &str, text: impl AsRef<[u8]>) {
        json::write_string(text.as_ref(), self.key(key));
    }

    /// Appends a text if there is one.
    pub fn text_if(&mut self, key: &str, text: Option<impl AsRef<[u8]>>) {
        if let Some(text) = text.filter(|text| !text.as_ref().is_empty()) {
            self.text(key, text);
        }
    }

    /// Appends a number or a boolean.
    pub fn plain(&mut self, key: &str, value: impl Display) {
        // Writing to a vector cannot fail.
        drop(write!(self.key(key), "{value}"));
    }

    /// Appends an object, unless nothing is written into it.
    pub fn object(&mut self, key: &str, write: impl FnOnce(&mut Object<'_>)) {
        self.container(key, b"{", b"}", |out| write(&mut Object { out }));
    }

    /// Appends a list of objects, unless there are none; those into which nothing is written are left out.
    pub fn objects<T>(&mut self, key: &str, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Object<'_>, T)) {
        self.container(key, b"[", b"]", |out| {
            for item in items {
                let start = out.len();
                if !out.ends_with(b"[") {
                    out.push(b',');
                }
                let mut object = Object::open(out);
                write(&mut object, item);
                if object.out.ends_with(b"{") { out.truncate(start) } else { object.close() }
            }
        });
    }

    /// Appends a list of texts, unless there are none.
    pub fn texts(&mut self, key: &str, texts: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        self.container(key, b"[", b"]", |out| {
            for text in texts {
                if !out.ends_with(b"[") {
                    out.push(b',');
                }
                json::write_string(text.as_ref(), out);
            }
        });
    }

    fn container(&mut self, key: &str, open: &[u8], close: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        self.key(key).extend_from_slice(open);
        let inside = self.out.len();
        write(self.out);
        if self.out.len() == inside {
            self.out.truncate(start);
        } else {
            self.out.extend_from_slice(close);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_parted_by_commas_and_nothing_empty_is_left() {
        let mut out = b"x".to_vec();
        let mut object = Object::open(&mut out);
        object.object("none", |_| {});
        object.text("t\"", "a\nb");
        object.text_if("gone", Some(""));
        object.text_if("no", None::<&str>);
        object.object("o", |inner| {
            inner.object("none", |_| {});
            inner.plain("n", -1);
            inner.plain("b", true);
        });
        object.objects("list", [0, 1, 2, 3], |object, item| {
            if item % 2 == 1 {
                object.plain("item", item);
            }
        });
        object.objects("empty", [0], |_, _| {});
        object.texts("texts", ["[", "b"]);
        object.texts("nothing", [""; 0]);
        object.members(|_| {});
        object.members(|out| out.extend_from_slice(b"\"m\":1"));
        object.close();
        let expected = r#"x{"t\"":"a\nb","o":{"n":-1,"b":true},"list":[{"item":1},{"item":3}],"texts":["[","b"],"m":1}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
