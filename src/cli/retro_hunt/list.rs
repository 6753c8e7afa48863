//! Lists of indicators: `file -> index`. One a line; what follows `#` is a comment. What a line is, its form says.
//!
//! `1.2.3[.]4` and `hxxp://` are read as what they stand for. A line that is none of the kinds is refused with its place, so
//! that a wrong file is not hunted as an empty one.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::index::{Index, Pattern};
use crate::cli::Failure;
use crate::error::{Diagnostic, Diagnostics, Error, ErrorKind};

/// Indicators that are hunted at once; each takes some 150 bytes.
const INDICATORS_MAX: usize = 4_000_000;

/// Longest line.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// Mistakes of one file that are told.
const MISTAKES_MAX: usize = 20;

/// Digits of MD5, SHA-1, SHA-224, SHA-256, SHA-384 and SHA-512.
const HASH_DIGITS: [usize; 6] = [32, 40, 56, 64, 96, 128];

/// Adds the indicators of a file.
pub(super) fn read(path: &Path, index: &mut Index) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Error::new(ErrorKind::Storage, "read the list", error.to_string()).with("file", path.display());
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut diagnostics = Diagnostics::new();
    let before = index.len();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.split('#').next().unwrap_or_default().trim().trim_start_matches('\u{feff}');
        if text.is_empty() {
            continue;
        }
        match pattern(text) {
            Some(pattern) => index.add(pattern, text),
            None => {
                let shown: String = text.chars().take(80).collect();
                let message = format!("`{shown}` is no indicator");
                let help = "an address, a network, a domain, a link, a hash or an e-mail address on each line";
                diagnostics.push(Diagnostic::error(path, number, 0, "", message).help(help));
            }
        }
        if index.len() > INDICATORS_MAX {
            diagnostics.push(Diagnostic::error(path, number, 0, "", format!("more than {INDICATORS_MAX} indicators")));
        }
        if diagnostics.0.len() >= MISTAKES_MAX || index.len() > INDICATORS_MAX {
            break;
        }
    }
    if index.len() == before && diagnostics.0.is_empty() {
        diagnostics.push(Diagnostic::error(path, 0, 0, "", "there is no indicator in this file that was not in those before it").warning());
    }
    Ok(diagnostics.into_result(())?)
}

/// What a text is.
pub(super) fn pattern(text: &str) -> Option<Pattern> {
    let text = text.replace("[.]", ".").replace("(.)", ".").replace("hxxp", "http");
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Pattern::Network(address.to_canonical().into()));
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(Pattern::Network(network.trunc()));
    }
    let folded = text.to_ascii_lowercase();
    if HASH_DIGITS.contains(&folded.len()) && folded.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(Pattern::Hash(folded));
    }
    if text.contains('/') {
        return link(&text).map(Pattern::Link);
    }
    if let Some((user, host)) = folded.split_once('@') {
        return (!user.is_empty() && is_domain(host)).then_some(Pattern::Email(folded));
    }
    let name = folded.strip_suffix('.').unwrap_or(&folded).trim_start_matches("*.");
    is_domain(name).then(|| Pattern::Domain(name.to_owned()))
}

/// A name with at least two labels, the last of which is no number.
fn is_domain(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || byte >= 0x80;
    let is_label = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(is_part);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.contains('.') && name.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// A link without scheme, name and password, usual port and fragment, the host in small letters.
fn link(text: &str) -> Option<String> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let rest = rest.split('#').next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    let host = host.strip_suffix(":80").or_else(|| host.strip_suffix(":443")).unwrap_or(host).to_ascii_lowercase();
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(&*host, |(name, _)| name);
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if !is_domain(name) && name.parse::<IpAddr>().is_err() {
        return None;
    }
    Some(if path.starts_with('/') { format!("{host}{path}") } else { format!("{host}/{path}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_its_form_says() {
        let network = |text: &str| Some(Pattern::Network(text.parse().unwrap()));
        for (text, expected) in [
            ("198.51.100[.]7", network("198.51.100.7/32")),
            ("::ffff:198.51.100.7", network("198.51.100.7/32")),
            ("198.51.100.9/24", network("198.51.100.0/24")),
            ("2001:db8::/32", network("2001:db8::/32")),
            ("Evil.Example.", Some(Pattern::Domain("evil.example".into()))),
            ("*.evil.example", Some(Pattern::Domain("evil.example".into()))),
            ("hxxps://U:p@Evil[.]Example:443/A?b#c", Some(Pattern::Link("evil.example/A?b".into()))),
            ("D41D8CD98F00B204E9800998ECF8427E", Some(Pattern::Hash("d41d8cd98f00b204e9800998ecf8427e".into()))),
            ("Bad@Evil.Example", Some(Pattern::Email("bad@evil.example".into()))),
            ("com", None),
            ("1.2.3", None),
            ("http://10.0.0.1:8080/x", Some(Pattern::Link("10.0.0.1:8080/x".into()))),
            ("/index.html", None),
            ("<html>", None),
            ("a b.example", None),
        ] {
            assert_eq!(pattern(text), expected, "{text}");
        }
    }
}
