//! Checks AWS Signature Version 4 on requests that AWS clients send to us.
//!
//! In: a request as it came, the secret of its access key, the time. Out: the access key id, or a
//! [`SigV4Error`] with AWS's own exception name and wording, because SDKs decide by the name whether to fetch
//! fresh credentials or to correct their clock. Source: "Create a signed AWS API request" in the AWS IAM User
//! Guide; checked with AWS's published test suite and with requests made by botocore.
//!
//! - Only the Authorization header; not signatures in the query (presigned URLs), not Signature Version 4A.
//! - The path is normalised and encoded once more, as all services but S3 do; S3's rules are not supported.
//! - The body's hash is computed here. `x-amz-content-sha256` is signed like any header but believed for
//!   nothing, so `UNSIGNED-PAYLOAD` and `STREAMING-...` do not match.
//! - `host`, `x-amz-date` and `x-amz-target` must be signed: otherwise a recorded request could be sent to
//!   another host, at another time, or for another operation. A session token need not be real.
//! - The region is taken as the client says it: a self-hosted endpoint has none.
//!
//! What goes wrong in practice: a proxy that rewrites `Host` or the path breaks every signature, and a clock
//! that is off by five minutes does, too. Both look like a wrong secret to the user, so the texts differ.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use crate::clock;

/// A signature is good for this long before and after its time, as at AWS.
const SKEW_MS: i64 = 5 * 60 * 1000;

/// Longest Authorization value that is looked at: key, scope and the names of all headers fit in a part of it.
const AUTHORIZATION_BYTES_MAX: usize = 8 * 1024;

/// Longest access key id, from the IAM API.
const ACCESS_KEY_ID_BYTES_MAX: usize = 128;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SCOPE_END: &str = "aws4_request";

/// A request as it came over the wire.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// `POST`
    pub method: &'a str,
    /// The path as sent, percent-encoding included.
    pub path: &'a str,
    /// The query as sent, without `?`; empty if there is none.
    pub query: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The body as sent, before Content-Encoding is undone.
    pub body: &'a [u8],
}

/// Why a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigV4Error {
    /// No Authorization header.
    MissingToken,
    /// The Authorization header or the date cannot be read; says what is missing.
    Incomplete(String),
    /// Nobody here has this access key.
    UnknownKey,
    /// The signature is not valid; says why.
    Invalid(String),
}

impl SigV4Error {
    /// The name of AWS's exception, for `__type` in the answer. The status is 400 for all of them.
    pub fn aws_name(&self) -> &'static str {
        match self {
            Self::MissingToken => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::UnknownKey => "UnrecognizedClientException",
            Self::Invalid(_) => "InvalidSignatureException",
        }
    }
}

impl fmt::Display for SigV4Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingToken => f.write_str("Missing Authentication Token"),
            Self::UnknownKey => f.write_str("The security token included in the request is invalid."),
            Self::Incomplete(message) | Self::Invalid(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for SigV4Error {}

/// Checks `request`, made for `service` (such as `firehose`), at `now_ms`. `secret_of` gives the secret access
/// key of an access key id.
///
/// # Errors
/// See [`SigV4Error`].
pub fn verify<'a, S: AsRef<str>>(
    request: &SignedRequest<'a>,
    service: &str,
    secret_of: impl FnOnce(&str) -> Option<S>,
    now_ms: i64,
) -> Result<&'a str, SigV4Error> {
    let authorization = Authorization::read(request.headers)?;
    let date = single(request.headers, "x-amz-date")
        .ok_or_else(|| incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."))?;
    check_signed_headers(request.headers, &authorization)?;
    let secret = secret_of(authorization.access_key_id).ok_or(SigV4Error::UnknownKey)?;
    check_scope(&authorization, date, service)?;
    check_time(date, now_ms)?;

    let canonical = canonical_request(request, &authorization);
    let text = format!("{ALGORITHM}\n{date}\n{}\n{}", authorization.scope, hex(digest::digest(&digest::SHA256, &canonical).as_ref()));
    // The comparison inside takes the same time wherever the first difference is.
    hmac::verify(&signing_key(secret.as_ref(), &authorization), text.as_bytes(), &authorization.signature).map_err(|_| {
        SigV4Error::Invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing \
             method. Consult the service documentation for details."
                .to_owned(),
        )
    })?;
    Ok(authorization.access_key_id)
}

fn incomplete(message: impl Into<String>) -> SigV4Error {
    SigV4Error::Incomplete(message.into())
}

/// The parts of the Authorization header.
struct Authorization<'a> {
    access_key_id: &'a str,
    /// `date/region/service/aws4_request`
    scope: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: [u8; 32],
}

impl<'a> Authorization<'a> {
    /// Reads `AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=HEX`.
    fn read(headers: &'a HeaderMap) -> Result<Self, SigV4Error> {
        if !headers.contains_key(AUTHORIZATION) {
            return Err(SigV4Error::MissingToken);
        }
        let value = single(headers, "authorization").filter(|value| value.len() <= AUTHORIZATION_BYTES_MAX);
        let value = value.ok_or_else(|| incomplete("The Authorization header is not one line of at most 8192 printable characters."))?;
        let (algorithm, parameters) = value.split_once(' ').unwrap_or((value, ""));
        if algorithm != ALGORITHM {
            return Err(incomplete(format!("Unsupported AWS 'algorithm'; this endpoint accepts {ALGORITHM}.")));
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in parameters.split(',') {
            let Some((name, value)) = part.trim().split_once('=') else {
                return Err(incomplete("A part of the Authorization header is not a valid key=value pair (missing equal-sign)."));
            };
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(incomplete("The Authorization header has a parameter that is not known.")),
            };
            if place.replace(value).is_some() {
                return Err(incomplete(format!("The Authorization header has '{name}' twice.")));
            }
        }
        let missing = |name: &str| incomplete(format!("Authorization header requires '{name}' parameter."));
        let credential = credential.ok_or_else(|| missing("Credential"))?;
        let signed_headers = signed_headers.ok_or_else(|| missing("SignedHeaders"))?;
        let signature = signature.ok_or_else(|| missing("Signature"))?;
        Self::scoped(credential, signed_headers, signature)
            .ok_or_else(|| incomplete("Credential must have exactly 5 slash-delimited elements, and Signature 64 hexadecimal digits."))
    }

    fn scoped(credential: &'a str, signed_headers: &'a str, signature: &str) -> Option<Self> {
        let (access_key_id, scope) = credential.split_once('/')?;
        let mut parts = scope.split('/');
        let [date, region, service, end] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let is_whole = end == SCOPE_END && parts.next().is_none();
        let is_plausible = !access_key_id.is_empty() && access_key_id.len() <= ACCESS_KEY_ID_BYTES_MAX;
        let signature = unhex(signature)?;
        (is_whole && is_plausible).then_some(Self { access_key_id, scope, date, region, service, signed_headers, signature })
    }
}

/// The value of a header that must stand exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn check_signed_headers(headers: &HeaderMap, authorization: &Authorization<'_>) -> Result<(), SigV4Error> {
    let names = || authorization.signed_headers.split(';');
    let is_canonical = names().all(|name| !name.is_empty() && !name.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_whitespace()));
    if !is_canonical || !names().is_sorted_by(|a, b| a < b) {
        return Err(incomplete("SignedHeaders must be lower-case names in alphabetical order, each once."));
    }
    for name in ["host", "x-amz-date", "x-amz-target"] {
        if headers.contains_key(name) && !names().any(|signed| signed == name) {
            return Err(SigV4Error::Invalid(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")));
        }
    }
    if let Some(absent) = names().find(|name| !headers.contains_key(*name)) {
        return Err(SigV4Error::Invalid(format!("The signed header '{absent}' is not in the request; a proxy may have removed it.")));
    }
    Ok(())
}

fn check_scope(authorization: &Authorization<'_>, date: &str, service: &str) -> Result<(), SigV4Error> {
    let day = date.get(..8).unwrap_or(date);
    if authorization.date != day {
        let scope_day = authorization.date;
        return Err(SigV4Error::Invalid(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{scope_day}' != '{day}', from '{date}'."
        )));
    }
    if authorization.service != service {
        return Err(SigV4Error::Invalid(format!("Credential should be scoped to correct service: '{service}'.")));
    }
    Ok(())
}

fn check_time(date: &str, now_ms: i64) -> Result<(), SigV4Error> {
    let then_ms = parse_date(date).ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format', such as 20150830T123600Z."))?;
    let now = format_date(now_ms);
    if then_ms < now_ms - SKEW_MS {
        let bound = format_date(now_ms - SKEW_MS);
        return Err(SigV4Error::Invalid(format!("Signature expired: {date} is now earlier than {bound} ({now} - 5 min.)")));
    }
    if then_ms > now_ms + SKEW_MS {
        let bound = format_date(now_ms + SKEW_MS);
        return Err(SigV4Error::Invalid(format!("Signature not yet current: {date} is still later than {bound} ({now} + 5 min.)")));
    }
    Ok(())
}

/// `20150830T123600Z` in milliseconds since 1970.
fn parse_date(text: &str) -> Option<i64> {
    let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
    if bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        let digits = bytes.get(range)?;
        digits.iter().try_fold(0i64, |value, b| b.is_ascii_digit().then(|| value * 10 + i64::from(b - b'0')))
    };
    let (hour, minute, second) = (number(9..11)?, number(11..13)?, number(13..15)?);
    let is_time = hour < 24 && minute < 60 && second <= 60;
    let time_of_day_ms = ((hour * 60 + minute) * 60 + second) * 1000;
    if is_time { clock::civil_ms(number(0..4)?, number(4..6)?, number(6..8)?, time_of_day_ms) } else { None }
}

fn format_date(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.strftime("%Y%m%dT%H%M%SZ").to_string())
}

fn canonical_request(request: &SignedRequest<'_>, authorization: &Authorization<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(request.method.as_bytes());
    out.push(b'\n');
    canonical_path(request.path, &mut out);
    out.push(b'\n');
    canonical_query(request.query, &mut out);
    out.push(b'\n');
    for name in authorization.signed_headers.split(';') {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        for (index, value) in request.headers.get_all(name).iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            canonical_value(value.as_bytes(), &mut out);
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(authorization.signed_headers.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(hex(digest::digest(&digest::SHA256, request.body).as_ref()).as_bytes());
    out
}

/// Resolves `.`, `..` and empty segments, then encodes every byte but `/` that is not unreserved.
fn canonical_path(path: &str, out: &mut Vec<u8>) {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    out.push(b'/');
    for (index, segment) in segments.iter().enumerate() {
        if index > 0 {
            out.push(b'/');
        }
        encode(segment.bytes(), out);
    }
    if path.ends_with('/') && !segments.is_empty() {
        out.push(b'/');
    }
}

/// Pairs sorted by name, then value, each decoded and encoded anew, so that it does not matter which
/// characters the client chose to encode.
fn canonical_query(query: &str, out: &mut Vec<u8>) {
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (mut encoded_name, mut encoded_value) = (Vec::new(), Vec::new());
            encode(Decoded(name.as_bytes()), &mut encoded_name);
            encode(Decoded(value.as_bytes()), &mut encoded_value);
            (encoded_name, encoded_value)
        })
        .collect();
    pairs.sort_unstable();
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

/// Trims a header value and makes every run of blanks one.
fn canonical_value(value: &[u8], out: &mut Vec<u8>) {
    let words = value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";

fn encode(bytes: impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX_UPPER[usize::from(byte >> 4)], HEX_UPPER[usize::from(byte & 15)]]);
        }
    }
}

/// Undoes percent-encoding; a `%` without two digits stands for itself.
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if let [b'%', high, low, rest @ ..] = self.0
            && let (Some(high), Some(low)) = (nibble(*high), nibble(*low))
        {
            self.0 = rest;
            return Some(high << 4 | low);
        }
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(HEX_LOWER[usize::from(digit)])).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let pairs: &[[u8; 2]; 32] = text.as_bytes().as_chunks().0.try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    (text.len() == 64).then_some(bytes)
}

fn signing_key(secret: &str, authorization: &Authorization<'_>) -> hmac::Key {
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
    for part in [authorization.date, authorization.region, authorization.service, SCOPE_END] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const SUITE_KEY: &str = "AKIDEXAMPLE";
    /// 2015-08-30T12:36:00Z
    const SUITE_NOW_MS: i64 = 1_440_938_160_000;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            // `from_bytes` keeps outer blanks, as a lenient reader would.
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    /// A case of AWS's suite: method, path and query, headers besides host and date, names signed besides them,
    /// body, signature.
    type Case = (&'static str, &'static str, &'static [&'static str], &'static str, &'static str, &'static str);

    const UNRESERVED: &str = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const UNRESERVED_QUERY: &str = "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const FORM: &str = "content-type:application/x-www-form-urlencoded";
    const FORM_CHARSET: &str = "content-type:application/x-www-form-urlencoded; charset=utf8";
    const TOKEN: &str = "x-amz-security-token:AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    /// aws-sig-v4-test-suite, as published with the AWS documentation. Left out: get-header-value-multiline
    /// (folded headers are not HTTP/1.1 any more, and hyper refuses them).
    const SUITE: &[Case] = &[
        ("GET", "/", &[], "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            "GET",
            "/",
            &["my-header1:value2", "my-header1:value2", "my-header1:value1"],
            "my-header1",
            "",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        ),
        (
            "GET",
            "/",
            &["my-header1:value4", "my-header1:value1", "my-header1:value3", "my-header1:value2"],
            "my-header1",
            "",
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
        ),
        (
            "GET",
            "/",
            &["my-header1: value1", "my-header2: \"a   b   c\""],
            "my-header1;my-header2",
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        ("GET", UNRESERVED, &[], "", "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ("GET", "/ሴ", &[], "", "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("GET", "/?Param1=value1", &[], "", "", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        ("GET", "/?Param1=value2&Param1=Value1", &[], "", "", "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1"),
        ("GET", "/?Param2=value2&Param1=value1", &[], "", "", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("GET", "/?Param1=value2&Param1=value1", &[], "", "", "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"),
        ("GET", UNRESERVED_QUERY, &[], "", "", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"),
        ("GET", "/?ሴ=bar", &[], "", "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        ("POST", "/", &[], "", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("POST", "/", &["my-header1:value1"], "my-header1", "", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
        ("POST", "/", &["my-header1:VALUE1"], "my-header1", "", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"),
        ("POST", "/?Param1=value1", &[], "", "", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"),
        ("POST", "/", &[FORM], "content-type", "Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
        ("POST", "/", &[FORM_CHARSET], "content-type", "Param1=value1", "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe"),
        ("GET", "/example/..", &[], "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/example1/example2/../..", &[], "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "//", &[], "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/./", &[], "", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("GET", "/./example", &[], "", "", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
        ("GET", "//example//", &[], "", "", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        ("GET", "/example space/", &[], "", "", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
        ("POST", "/", &[TOKEN], "", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("POST", "/", &[TOKEN], "x-amz-security-token", "", "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
    ];

    #[test]
    fn the_test_suite_of_aws_is_accepted() {
        for (method, target, extra, signed, body, signature) in SUITE {
            let mut names: Vec<_> = signed.split(';').chain(["host", "x-amz-date"]).filter(|name| !name.is_empty()).collect();
            names.sort_unstable();
            let authorization = format!(
                "authorization:AWS4-HMAC-SHA256 Credential={SUITE_KEY}/20150830/us-east-1/service/aws4_request, SignedHeaders={}, Signature={signature}",
                names.join(";")
            );
            let map = headers(&[extra, &["host:example.amazonaws.com", "x-amz-date:20150830T123600Z", &authorization][..]].concat());
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let request = SignedRequest { method, path, query, headers: &map, body: body.as_bytes() };
            assert_eq!(verify(&request, "service", |_| Some(SECRET), SUITE_NOW_MS), Ok(SUITE_KEY), "{method} {target}");
        }
    }

    const BOTO_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
    /// 2026-11-22T00:20:18Z
    const BOTO_NOW_MS: i64 = 1_795_306_818_000;
    const BOTO_BODY: &[u8] = br#"{"DeliveryStreamName": "aws-waf-logs-x", "Records": [{"Data": "b25lCg=="}, {"Data": "dHdvCg=="}]}"#;
    const BOTO_AUTHORIZATION: &str = "authorization:AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20261122/eu-central-1/firehose/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=3a4facdc4104e31cf88659bd3d0dfa243dc2927b46b9752e7f878a7eff77048b";

    /// What botocore 1.44.5 sends for `put_record_batch`.
    fn boto(authorization: &str) -> HeaderMap {
        headers(&[
            "host:hydrant.example:8443",
            "x-amz-target:Firehose_20150804.PutRecordBatch",
            "content-type:application/x-amz-json-1.1",
            "user-agent:Botocore/1.44.5",
            "x-amz-date:20261122T002018Z",
            "amz-sdk-request:attempt=1; max=1",
            "content-length:97",
            authorization,
        ])
    }

    fn check(headers: &HeaderMap, body: &[u8], now_ms: i64) -> Result<String, SigV4Error> {
        let request = SignedRequest { method: "POST", path: "/", query: "", headers, body };
        verify(&request, "firehose", |key| (key == BOTO_KEY).then_some(SECRET), now_ms).map(str::to_owned)
    }

    #[test]
    fn requests_of_botocore_are_accepted() {
        assert_eq!(check(&boto(BOTO_AUTHORIZATION), BOTO_BODY, BOTO_NOW_MS).as_deref(), Ok(BOTO_KEY));
        let with_token = BOTO_AUTHORIZATION.replace("x-amz-date;", "x-amz-date;x-amz-security-token;").replace(
            "3a4facdc4104e31cf88659bd3d0dfa243dc2927b46b9752e7f878a7eff77048b",
            "43868b1db58f54d40ec5dc35ecfb5c6ab5bf7001a3adfb5536bb8da6376d79e1",
        );
        let mut map = boto(&with_token);
        map.append("x-amz-security-token", HeaderValue::from_static("FwoGZXIvYXdzEBYaDExample/token+with==chars"));
        assert_eq!(check(&map, BOTO_BODY, BOTO_NOW_MS).as_deref(), Ok(BOTO_KEY));
    }

    #[test]
    fn odd_paths_and_queries_of_botocore_are_accepted() {
        for (host, path, query, signature) in [
            (
                "host:hydrant.example",
                "/a%20b/../c//d",
                "b=2&a=1%2F3&a=0&empty=&flag",
                "4d84bc6cb8cd48f85f914591b7e31f3b7860f471a4e035921c4b9371a8a82541",
            ),
            (
                "host:hydrant.example:8443",
                "/stream/x~y",
                "Action=List%20All",
                "9bb36caf121d4aef0208fdab400940023b72a18c815d84a1ac0102fa9de20120",
            ),
        ] {
            let authorization = format!(
                "authorization:AWS4-HMAC-SHA256 Credential={BOTO_KEY}/20261122/eu-central-1/firehose/aws4_request, SignedHeaders=content-type;host;my-header;x-amz-date;x-amz-target, Signature={signature}"
            );
            let map = headers(&[
                host,
                "x-amz-target:T",
                "my-header:  a   b ",
                "content-type:application/x-amz-json-1.1",
                "x-amz-date:20261122T002018Z",
                &authorization,
            ]);
            let request = SignedRequest { method: "PUT", path, query, headers: &map, body: b"\x00\xff body" };
            assert_eq!(verify(&request, "firehose", |_| Some(SECRET), BOTO_NOW_MS), Ok(BOTO_KEY), "{path}");
        }
    }

    #[test]
    fn any_change_breaks_the_signature() {
        let good = boto(BOTO_AUTHORIZATION);
        let name = |result: Result<String, SigV4Error>| result.unwrap_err().aws_name();
        assert_eq!(name(check(&good, b"{}", BOTO_NOW_MS)), "InvalidSignatureException");
        for header in ["host", "x-amz-target", "content-type", "x-amz-date"] {
            let mut map = good.clone();
            let changed = if header == "x-amz-date" { "20261122T002019Z" } else { "changed" };
            map.insert(header, HeaderValue::from_str(changed).unwrap());
            assert_eq!(name(check(&map, BOTO_BODY, BOTO_NOW_MS)), "InvalidSignatureException", "{header}");
            map.remove(header);
            assert!(check(&map, BOTO_BODY, BOTO_NOW_MS).is_err(), "{header}");
        }
        let request = SignedRequest { method: "POST", path: "/", query: "", headers: &good, body: BOTO_BODY };
        assert!(
            verify(&request, "firehose", |_| Some("another secret"), BOTO_NOW_MS).unwrap_err().to_string().contains("Secret Access Key")
        );
        assert!(verify(&request, "kinesis", |_| Some(SECRET), BOTO_NOW_MS).unwrap_err().to_string().contains("correct service: 'kinesis'"));
        assert_eq!(verify(&request, "firehose", |_| None::<&str>, BOTO_NOW_MS), Err(SigV4Error::UnknownKey));
        let mut unrelated = good;
        unrelated.insert("user-agent", HeaderValue::from_static("changed by a proxy"));
        assert!(check(&unrelated, BOTO_BODY, BOTO_NOW_MS).is_ok());
    }

    #[test]
    fn a_signature_is_good_for_five_minutes_either_way() {
        let map = boto(BOTO_AUTHORIZATION);
        assert!(check(&map, BOTO_BODY, BOTO_NOW_MS + SKEW_MS).is_ok());
        assert!(check(&map, BOTO_BODY, BOTO_NOW_MS - SKEW_MS).is_ok());
        let late = check(&map, BOTO_BODY, BOTO_NOW_MS + SKEW_MS + 1000).unwrap_err();
        assert_eq!(
            late.to_string(),
            "Signature expired: 20261122T002018Z is now earlier than 20261122T002019Z (20261122T002519Z - 5 min.)"
        );
        let early = check(&map, BOTO_BODY, BOTO_NOW_MS - SKEW_MS - 1000).unwrap_err();
        assert_eq!(
            early.to_string(),
            "Signature not yet current: 20261122T002018Z is still later than 20261122T002017Z (20261122T001517Z + 5 min.)"
        );
        assert_eq!((late.aws_name(), early.aws_name()), ("InvalidSignatureException", "InvalidSignatureException"));
    }

    #[test]
    fn a_malformed_authorization_is_named_as_aws_names_it() {
        let name = |authorization: &str| check(&boto(authorization), BOTO_BODY, BOTO_NOW_MS).unwrap_err().aws_name();
        let good = BOTO_AUTHORIZATION;
        for bad in [
            "authorization:Basic QWxhZGRpbg==".to_owned(),
            "authorization:AWS4-HMAC-SHA256".to_owned(),
            "authorization:".to_owned(),
            good.replace("HMAC", "ECDSA-P256"),
            good.replace("Signature=3a", "Signature=3"),
            good.replace("Signature=3a", "Signature=zz"),
            good.replace("Signature=", "Signature=00"),
            good.replace("SignedHeaders", "Credential"),
            good.replace("/aws4_request", ""),
            good.replace("/aws4_request", "/aws4_request/more"),
            good.replace("Credential=AKIAIOSFODNN7EXAMPLE", "Credential="),
            good.replace("host;", "Host;"),
            good.replace("content-type;host", "host;content-type"),
            good.replace("host;", "host;host;"),
            format!("{good}, Extra=1"),
            format!("{good}{}", " ".repeat(AUTHORIZATION_BYTES_MAX)),
        ] {
            assert_eq!(name(&bad), "IncompleteSignatureException", "{bad}");
        }
        for unsigned in ["host;", ";x-amz-target", "x-amz-date;"] {
            assert_eq!(name(&good.replace(unsigned, "")), "InvalidSignatureException", "{unsigned}");
        }
        assert_eq!(name(&good.replace("20261122/", "20261121/")), "InvalidSignatureException");
        let mut map = boto(good);
        map.append("authorization", HeaderValue::from_static("AWS4-HMAC-SHA256"));
        assert_eq!(check(&map, BOTO_BODY, BOTO_NOW_MS).unwrap_err().aws_name(), "IncompleteSignatureException");
        map.remove("authorization");
        assert_eq!(check(&map, BOTO_BODY, BOTO_NOW_MS), Err(SigV4Error::MissingToken));
        map = boto(good);
        map.remove("x-amz-date");
        assert!(check(&map, BOTO_BODY, BOTO_NOW_MS).unwrap_err().to_string().contains("'X-Amz-Date'"));
    }

    proptest! {
        #[test]
        fn no_header_bytes_panic_or_pass(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0x20u8..0x7f), 1..6),
            cut in any::<prop::sample::Index>(),
            date in "[0-9TZ]{0,20}",
            path in "[/.a%é]{0,20}",
            query in "[&=%a2é]{0,20}",
        ) {
            let mut value = BOTO_AUTHORIZATION.strip_prefix("authorization:").unwrap().as_bytes().to_vec();
            for (index, byte) in edits {
                let index = index.index(value.len());
                value[index] = byte;
            }
            value.truncate(cut.index(value.len()) + 1);
            let mut map = boto(BOTO_AUTHORIZATION);
            let is_changed = map["authorization"] != value.as_slice();
            map.insert("authorization", HeaderValue::from_bytes(&value).unwrap());
            if is_changed {
                prop_assert!(check(&map, BOTO_BODY, BOTO_NOW_MS).is_err());
            }
            let mut map = boto(BOTO_AUTHORIZATION);
            map.insert("x-amz-date", HeaderValue::from_str(&date).unwrap());
            let request = SignedRequest { method: "POST", path: &path, query: &query, headers: &map, body: BOTO_BODY };
            prop_assert!(verify(&request, "firehose", |_| Some(SECRET), BOTO_NOW_MS).is_err());
        }
    }
}
