//! Finding line ends and reading numbers, the two things the parsers do all day.
//!
//! Nothing here allocates or panics. [`parse_i64`] accepts exactly one spelling per number (no plus sign, no
//! leading zero, no blanks), as Redis does for lengths and for the arguments of INCR and its kin.

/// Index of the first `needle`, eight bytes at a time.
pub(crate) fn find_byte(haystack: &[u8], needle: u8) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let pattern = ONES.wrapping_mul(u64::from(needle));
    let (words, tail) = haystack.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        // A byte equal to the needle becomes zero; the expression sets the high bit of the lowest zero byte.
        // Bits above it may be false alarms (a borrow), below it there are none.
        let difference = u64::from_le_bytes(*word) ^ pattern;
        let zeros = difference.wrapping_sub(ONES) & !difference & HIGHS;
        if zeros != 0 {
            return Some(index * 8 + (zeros.trailing_zeros() / 8) as usize);
        }
    }
    let tail_at = words.len() * 8;
    tail.iter().position(|byte| *byte == needle).map(|index| tail_at + index)
}

/// The number `text` spells, if it is the one canonical spelling of an `i64`.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    let magnitude = parse_u64(digits)?;
    match (negative, magnitude) {
        (true, 0) => None,
        (true, _) => 0i64.checked_sub_unsigned(magnitude),
        (false, _) => i64::try_from(magnitude).ok(),
    }
}

/// The number `digits` spell, if it is the one canonical spelling of a `u64`.
pub fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 || (digits[0] == b'0' && digits.len() > 1) {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Fast path of the length headers: a canonical number of up to eight digits that ends in CRLF, at the start
/// of `text`. Returns the number and the bytes it took, CRLF included. `None` says nothing about the text:
/// the caller then takes the careful path.
#[inline]
pub(crate) fn short_length_line(text: &[u8]) -> Option<(usize, usize)> {
    let first = text.first()?.wrapping_sub(b'0');
    if first > 9 {
        return None;
    }
    let mut value = usize::from(first);
    let mut index = 1;
    if value != 0 {
        while index < 8 {
            let digit = text.get(index)?.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            value = value * 10 + usize::from(digit);
            index += 1;
        }
    }
    match text.get(index..index + 2) {
        Some(b"\r\n") => Some((value, index + 2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_have_one_spelling() {
        for good in [0, 1, -1, 9, 10, i64::MAX, i64::MIN, 1 << 40] {
            assert_eq!(parse_i64(good.to_string().as_bytes()), Some(good));
        }
        let bad = [
            "",
            "-",
            "+1",
            "-0",
            "01",
            "-01",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "-9223372036854775809",
        ];
        for text in bad {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
    }

    proptest! {
        #[test]
        fn find_byte_is_position(text in proptest::collection::vec(0u8..4, 0..64), needle in 0u8..5) {
            prop_assert_eq!(find_byte(&text, needle), text.iter().position(|byte| *byte == needle));
        }

        #[test]
        fn find_byte_any(text in proptest::collection::vec(any::<u8>(), 0..300), needle: u8) {
            prop_assert_eq!(find_byte(&text, needle), text.iter().position(|byte| *byte == needle));
        }

        #[test]
        fn integers_round_trip(value: i64) {
            prop_assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn the_fast_path_agrees_with_the_careful_one(text in "[0-9\r\n-]{0,12}") {
            let bytes = text.as_bytes();
            if let Some((value, used)) = short_length_line(bytes) {
                let line = find_byte(bytes, b'\r').unwrap();
                prop_assert_eq!(used, line + 2);
                prop_assert_eq!(parse_i64(&bytes[..line]), Some(value as i64));
            }
        }
    }
}
