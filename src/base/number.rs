//! Integers as Redis reads and writes them.
//!
//! Redis takes an integer only in the one spelling that it would write itself: no plus sign, no leading zero, no blank.
//! So `parse_i64(text) == Some(n)` exactly if `IntegerText::new(n)` is `text`.

/// Longest text of an `i64`: `-9223372036854775808`.
pub const INTEGER_TEXT_BYTES_MAX: usize = 20;

/// Reads an integer in its one spelling.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let magnitude = parse_u64(digits)?;
    match negative {
        false => i64::try_from(magnitude).ok(),
        true if magnitude == 0 => None,
        true => 0i64.checked_sub_unsigned(magnitude),
    }
}

/// Reads an integer without a sign in its one spelling.
pub fn parse_u64(digits: &[u8]) -> Option<u64> {
    match digits {
        [] => None,
        [b'0'] => Some(0),
        [b'0', ..] => None,
        _ if digits.len() > INTEGER_TEXT_BYTES_MAX => None,
        _ => digits.iter().try_fold(0u64, |value, &byte| {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value.checked_mul(10)?.checked_add(u64::from(digit))
        }),
    }
}

/// The text of an integer, without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct IntegerText {
    bytes: [u8; INTEGER_TEXT_BYTES_MAX],
    start: usize,
}

impl IntegerText {
    /// Writes `value`.
    pub fn new(value: i64) -> IntegerText {
        let mut text = IntegerText { bytes: [0; INTEGER_TEXT_BYTES_MAX], start: INTEGER_TEXT_BYTES_MAX };
        let mut left = value.unsigned_abs();
        loop {
            text.start -= 1;
            text.bytes[text.start] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if value < 0 {
            text.start -= 1;
            text.bytes[text.start] = b'-';
        }
        text
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_spelling(value: i64) {
            let text = IntegerText::new(value);
            prop_assert_eq!(text.as_bytes().to_vec(), value.to_string().into_bytes());
            prop_assert_eq!(parse_i64(text.as_bytes()), Some(value));
        }

        #[test]
        fn whatever_parses_is_the_one_spelling(text in "[-+ 0-9]{0,22}") {
            if let Some(value) = parse_i64(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            }
        }
    }

    #[test]
    fn edges() {
        for good in ["0", "-1", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(parse_i64(good.as_bytes()), Some(good.parse().unwrap()));
        }
        for bad in
            ["", "-", "-0", "00", "+1", " 1", "1 ", "9223372036854775808", "-9223372036854775809", "1a"]
        {
            assert_eq!(parse_i64(bad.as_bytes()), None, "{bad}");
        }
    }
}
