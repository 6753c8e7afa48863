//! Names, addresses, hashes and links in the one form in which they are compared.
//!
//! All of these write to a buffer of the caller, so that an event costs no allocation.

use std::net::IpAddr;

/// Longest name (RFC 1035: 255 octets on the wire are 253 characters).
const NAME_BYTES_MAX: usize = 253;

/// Longest label of a name (RFC 1035).
const LABEL_BYTES_MAX: usize = 63;

/// Longest link that is looked up; browsers stop at about this much.
pub(super) const URL_BYTES_MAX: usize = 32 * 1024;

/// Bytes of hashes: MD5, SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
const HASH_BYTES: [usize; 6] = [16, 20, 28, 32, 48, 64];

/// Longest text of an address: IPv6 with an IPv4 tail.
const ADDRESS_BYTES_MAX: usize = 45;

/// The address that a text is; an IPv4 address written as IPv6 is IPv4. With a port, brackets or a zone it is none.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    if text.len() > ADDRESS_BYTES_MAX {
        return None;
    }
    let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.to_canonical())
}

/// A name of the DNS: ASCII letters small, no last dot. Other characters stay as they are written: `xn--` and its
/// Unicode form are two names. False if it is none.
pub(super) fn domain(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    let text = text.strip_suffix(b".").unwrap_or(text);
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return false;
    }
    out.extend(text.iter().map(u8::to_ascii_lowercase));
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || *byte >= 0x80;
    out.split(|byte| *byte == b'.').all(|label| !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.iter().all(is_part))
}

/// A name and the names above it: `a.b.c`, `b.c`, `c`.
pub(super) fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| memchr::memchr(b'.', name).and_then(|dot| name.get(dot + 1..)))
}

/// The bytes that hexadecimal digits stand for; false if they are no hash by their number.
pub(super) fn hash(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    if !text.len().is_multiple_of(2) || !HASH_BYTES.contains(&(text.len() / 2)) {
        return false;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    for pair in text.chunks_exact(2) {
        let &[high, low] = pair else { return false };
        let (Some(high), Some(low)) = (digit(high), digit(low)) else { return false };
        out.push((high << 4 | low) as u8);
    }
    true
}

/// A link without its scheme, name and password, usual port and fragment, the host in small letters:
/// `http://U@Evil.Example:80/A?b#c` is `evil.example/A?b`, and so is what a proxy writes without `http://`. Gives the
/// length of the host; `None` if there is none.
pub(super) fn url(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    out.clear();
    if text.len() > URL_BYTES_MAX {
        return None;
    }
    let rest = memchr::memmem::find(text, b"://").filter(|at| is_scheme(&text[..*at])).map_or(text, |at| &text[at + 3..]);
    let rest = &rest[..memchr::memchr(b'#', rest).unwrap_or(rest.len())];
    let (authority, path) = rest.split_at(rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len()));
    let authority = memchr::memrchr(b'@', authority).map_or(authority, |at| &authority[at + 1..]);
    let host_len = match authority.strip_prefix(b"[") {
        Some(inside) => memchr::memchr(b']', inside)? + 2,
        None => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_len);
    let port = match port {
        b"" | b":" | b":80" | b":443" => b"",
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => port,
        _ => return None,
    };
    let host = &host[..host.iter().rposition(|byte| *byte != b'.').map_or(0, |last| last + 1)];
    if host.is_empty() || host.iter().any(u8::is_ascii_whitespace) {
        return None;
    }
    out.extend(host.iter().map(u8::to_ascii_lowercase));
    let host_len = out.len();
    out.extend_from_slice(port);
    if !path.starts_with(b"/") {
        out.push(b'/');
    }
    out.extend_from_slice(path);
    Some(host_len)
}

fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic) && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_are_compared_without_what_does_not_tell_them_apart() {
        let mut out = Vec::new();
        let mut key = |text: &str| {
            let len = url(text.as_bytes(), &mut out)?;
            Some((String::from_utf8(out.clone()).unwrap(), String::from_utf8(out[..len].to_vec()).unwrap()))
        };
        for (text, whole, host) in [
            ("http://U:p@Evil.Example:80/A?b#c", "evil.example/A?b", "evil.example"),
            ("evil.example/A?b", "evil.example/A?b", "evil.example"),
            ("HTTPS://evil.example.:443", "evil.example/", "evil.example"),
            ("http://evil.example:8080?x=http://y", "evil.example:8080/?x=http://y", "evil.example"),
            ("http://[2001:DB8::1]:80/x", "[2001:db8::1]/x", "[2001:db8::1]"),
            ("http://10.0.0.1/a@b", "10.0.0.1/a@b", "10.0.0.1"),
        ] {
            assert_eq!(key(text), Some((whole.to_owned(), host.to_owned())), "{text}");
        }
        for none in ["", "/index.html", "http://", "http:///x", "GET / HTTP", "http://[::1", "?q", "a:80:80", "a:b", "..:80"] {
            assert_eq!(key(none), None, "{none}");
        }
    }

    #[test]
    fn names_and_hashes_have_one_form() {
        let mut out = Vec::new();
        for (text, good) in [("A.Example.", true), ("a..b", false), ("", false), (".", false), ("a b", false), ("bücher.example", true)] {
            assert_eq!(domain(text.as_bytes(), &mut out), good, "{text}");
        }
        assert!(domain(b"A.Example.", &mut out));
        assert_eq!(suffixes(&out).collect::<Vec<_>>(), [&b"a.example"[..], b"example"]);
        assert!(!domain(&[b'a'; 64], &mut out));
        assert!(hash(b"D41D8CD98F00B204E9800998ECF8427E", &mut out));
        assert_eq!(out[..2], [0xd4, 0x1d]);
        for none in ["", "d4", "zz1d8cd98f00b204e9800998ecf8427e", "d41d8cd98f00b204e9800998ecf8427"] {
            assert!(!hash(none.as_bytes(), &mut out), "{none}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_them_fail(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut out = Vec::new();
            domain(&text, &mut out);
            hash(&text, &mut out);
            if let Some(len) = url(&text, &mut out) {
                prop_assert!(len > 0 && len <= out.len());
                let (mut again, whole) = (Vec::new(), out.clone());
                prop_assert_eq!(url(&whole, &mut again), Some(len));
                prop_assert_eq!(again, whole, "the form is its own form");
            }
            prop_assert!(suffixes(&text).count() <= text.len() + 1);
        }
    }
}
