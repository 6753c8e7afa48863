//! The few facts that we read from an X.509 certificate: who it names and how long it is valid.
//!
//! In: one certificate as DER (RFC 5280 section 4.1; DER is ITU-T X.690). Out: [`Certificate`], or `None` if the
//! bytes are not a certificate. Whether it is genuine is decided elsewhere, by rustls; this is only for names
//! in logs and allow lists and for messages such as "expired". Names in BMPString or with control characters
//! (a NUL in a name has fooled verifiers) are left out. Other extensions are not read.

use std::net::IpAddr;

use crate::clock;

/// Names that are read from one certificate; public authorities allow 100 and more, nobody matches on so many.
const NAMES_MAX: usize = 128;

const TAG_SEQUENCE: u8 = 0x30;
const TAG_SET: u8 = 0x31;
const TAG_OID: u8 = 0x06;
const TAG_OCTET_STRING: u8 = 0x04;
const TAG_BOOLEAN: u8 = 0x01;
const TAG_UTC_TIME: u8 = 0x17;
const TAG_GENERALIZED_TIME: u8 = 0x18;
/// Explicit `[0]`: the version.
const TAG_VERSION: u8 = 0xa0;
/// Explicit `[3]`: the extensions.
const TAG_EXTENSIONS: u8 = 0xa3;
/// 2.5.4.3.
const OID_COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17.
const OID_SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// Names and validity of one certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's common name; the last one if there are several.
    pub common_name: Option<String>,
    /// Subject alternative names of the kinds DNS, e-mail, URI and IP address, as text.
    pub alternative_names: Vec<String>,
    /// First second of validity, seconds since 1970.
    pub not_before: i64,
    /// Last second of validity, seconds since 1970.
    pub not_after: i64,
}

impl Certificate {
    /// Reads a certificate.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let mut outer = Der(der).expect(TAG_SEQUENCE)?;
        let mut body = outer.expect(TAG_SEQUENCE)?;
        let (tag, _) = body.next()?;
        if tag == TAG_VERSION {
            body.next()?; // Without a version the first element was the serial number already.
        }
        body.expect(TAG_SEQUENCE)?; // signature algorithm
        body.expect(TAG_SEQUENCE)?; // issuer
        let mut validity = body.expect(TAG_SEQUENCE)?;
        let not_before = validity.time()?;
        let not_after = validity.time()?;
        let common_name = common_name(body.expect(TAG_SEQUENCE)?);
        let mut certificate = Self { common_name, alternative_names: Vec::new(), not_before, not_after };
        while let Some((tag, content)) = body.next() {
            if tag == TAG_EXTENSIONS {
                certificate.alternative_names = alternative_names(Der(content)).unwrap_or_default();
            }
        }
        Some(certificate)
    }

    /// The name to show: the common name, else the first alternative name.
    pub fn name(&self) -> Option<&str> {
        self.common_name.as_deref().or_else(|| self.alternative_names.first().map(String::as_str))
    }
}

fn common_name(mut subject: Der<'_>) -> Option<String> {
    let mut found = None;
    while let Some(mut set) = subject.expect(TAG_SET) {
        while let Some(mut pair) = set.expect(TAG_SEQUENCE) {
            if pair.expect(TAG_OID)?.0 == OID_COMMON_NAME {
                let (tag, value) = pair.next()?;
                // UTF8String, PrintableString, TeletexString, IA5String
                found = if matches!(tag, 0x0c | 0x13 | 0x14 | 0x16) { text(value) } else { None };
            }
        }
    }
    found
}

fn alternative_names(mut extensions: Der<'_>) -> Option<Vec<String>> {
    let mut list = extensions.expect(TAG_SEQUENCE)?;
    while let Some(mut extension) = list.expect(TAG_SEQUENCE) {
        if extension.expect(TAG_OID)?.0 != OID_SUBJECT_ALT_NAME {
            continue;
        }
        let (tag, mut value) = extension.next()?;
        if tag == TAG_BOOLEAN {
            value = extension.expect(TAG_OCTET_STRING)?.0;
        }
        let mut general = Der(value).expect(TAG_SEQUENCE)?;
        let mut names = Vec::new();
        while let Some((tag, content)) = general.next() {
            let name = match tag {
                0x81 | 0x82 | 0x86 => text(content),
                0x87 => ip(content).map(|ip| ip.to_string()),
                _ => None,
            };
            names.extend(name);
            if names.len() == NAMES_MAX {
                break;
            }
        }
        return Some(names);
    }
    None
}

fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The rest of a DER structure.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Takes the next element: its tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk::<2>()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if digits.is_empty() || digits.len() > 4 {
                return None; // indefinite length is not DER, and no certificate has 4 GiB
            }
            length = digits.iter().fold(0, |sum, &digit| (sum << 8) | usize::from(digit));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, wanted: u8) -> Option<Der<'a>> {
        let (tag, content) = self.next()?;
        (tag == wanted).then_some(Der(content))
    }

    /// UTCTime `YYMMDDhhmmssZ` (00 to 49 are 2000 to 2049) or GeneralizedTime `YYYYMMDDhhmmssZ`, in seconds
    /// since 1970.
    fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.next()?;
        let digits = text.strip_suffix(b"Z")?;
        let pair = |index: usize| -> Option<i64> {
            let [tens, ones] = *digits.get(index..index + 2)?.as_array()?;
            (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
        };
        let (year, at) = match (tag, digits.len()) {
            (TAG_UTC_TIME, 12) => (pair(0)? + if pair(0)? < 50 { 2000 } else { 1900 }, 2),
            (TAG_GENERALIZED_TIME, 14) => (pair(0)? * 100 + pair(2)?, 4),
            _ => return None,
        };
        let part = |index: usize| pair(at + index);
        let time_of_day = (part(4)? * 60 + part(6)?) * 60 + part(8)?;
        Some(clock::civil_ms(year, part(0)?, part(2)?, time_of_day * 1000)? / 1000)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn f(common_name: &str, names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = names;
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 12, 31);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_validity_are_read() {
        let names = vec![
            SanType::DnsName("fw1.example".try_into().unwrap()),
            SanType::URI("spiffe://example/fw1".try_into().unwrap()),
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
        ];
        let certificate = Certificate::parse(&f("Fire wall 1 ü", names)).unwrap();
        assert_eq!(certificate.name(), Some("Fire wall 1 ü"));
        assert_eq!(certificate.alternative_names, ["fw1.example", "spiffe://example/fw1", "192.0.2.7"]);
        assert_eq!(certificate.not_before, 1_582_934_400); // date -ud 2020-02-29 +%s
        assert_eq!(certificate.not_after, 2_587_593_600); // date -ud 2051-12-31 +%s, written as GeneralizedTime
    }

    #[test]
    fn a_name_with_a_control_character_is_left_out() {
        let certificate = Certificate::parse(&f("admin\0.example", vec![SanType::DnsName("a.example".try_into().unwrap())])).unwrap();
        assert_eq!(certificate.name(), Some("a.example"));
    }

    #[test]
    fn every_cut_is_refused() {
        let der = f("x", Vec::new());
        assert!((0..der.len()).all(|end| Certificate::parse(&der[..end]).is_none()));
    }

    proptest! {
        #[test]
        fn changed_bytes_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            static DER: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            let mut der = DER.get_or_init(|| f("x", vec![SanType::DnsName("a.example".try_into().unwrap())])).clone();
            for (index, value) in changes {
                let index = index.index(der.len());
                der[index] = value;
            }
            let certificate = Certificate::parse(&der);
            prop_assert!(certificate.is_none_or(|c| c.alternative_names.len() <= NAMES_MAX));
        }
    }
}
