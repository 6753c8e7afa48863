//! Appending text and numbers to a line that is being rendered.
//!
//! `write!` costs about ten times as much per number, and a generator that is slower than what it feeds
//! would measure itself.

/// What a line is rendered with; every call appends.
pub(in crate::traffic) trait Line {
    /// Appends text as it is.
    fn text(&mut self, text: &str) -> &mut Self;
    /// Appends bytes as they are.
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self;
    /// Appends a decimal number.
    fn number(&mut self, value: u64) -> &mut Self;
    /// Appends the last `width` decimal digits of a number, with leading zeros; `width` is at most 20.
    fn padded(&mut self, value: u64, width: usize) -> &mut Self;
    /// Appends the last `width` hexadecimal digits of a number; `width` is at most 16.
    fn hex(&mut self, value: u64, width: usize) -> &mut Self;
}

impl Line for Vec<u8> {
    #[inline]
    fn text(&mut self, text: &str) -> &mut Self {
        self.extend_from_slice(text.as_bytes());
        self
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.extend_from_slice(bytes);
        self
    }

    #[inline]
    fn number(&mut self, mut value: u64) -> &mut Self {
        let mut digits = [0u8; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.extend_from_slice(&digits[start..]);
        self
    }

    #[inline]
    fn padded(&mut self, mut value: u64, width: usize) -> &mut Self {
        let mut digits = [b'0'; 20];
        let start = digits.len() - width.min(digits.len());
        for digit in digits[start..].iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
        }
        self.extend_from_slice(&digits[start..]);
        self
    }

    #[inline]
    fn hex(&mut self, value: u64, width: usize) -> &mut Self {
        let mut digits = [[0u8; 2]; 8];
        for (pair, byte) in digits.iter_mut().zip(value.to_be_bytes()) {
            *pair = HEX_PAIRS[usize::from(byte)];
        }
        let digits = digits.as_flattened();
        self.extend_from_slice(&digits[digits.len() - width.min(digits.len())..]);
        self
    }
}

/// Both digits of every byte: ids and fingerprints are a tenth of a WAF log.
const HEX_PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use crate::traffic::line::Line;

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for value in [0, 7, 10, 99, 100, 65_535, 1_795_248_000_000, u64::MAX] {
            let mut out = Vec::new();
            out.number(value).text(" ").padded(value, 20).text(" ").hex(value, 16);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{value} {value:020} {value:016x}"));
        }
    }

    #[test]
    fn a_width_keeps_the_last_digits() {
        let mut out = Vec::new();
        out.padded(1234, 2).text("/").hex(0xabcd, 3);
        assert_eq!(out, b"34/bcd");
    }
}
