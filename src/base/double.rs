//! Doubles as Redis reads and writes them: scores, weights, bounds of score ranges, coordinates.
//!
//! Redis reads with the C library's `strtod`: decimal or hexadecimal, `inf`, `infinity`, any case. [`parse_f64`] is the strict form
//! (the whole text, no blank in front, neither too large nor too small to be told from infinity or zero); [`parse_bound`] is the
//! loose one that bounds of ranges get (blanks in front, no digits at all, whatever its size). NaN is no number in either.

/// Reads a whole text as a double.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let first = text.first()?;
    if is_blank(*first) {
        return None;
    }
    let number = read_number(text)?;
    (number.used == text.len() && number.in_range && !number.value.is_nan()).then_some(number.value)
}

/// Reads a bound of a score range. As in Redis, a text that ends early ends at a zero byte, and an empty one means 0.
pub fn parse_bound(text: &[u8]) -> Option<f64> {
    read_loosely(text).map(|(value, _)| value)
}

/// Reads what SORT sorts by: as loosely, but neither too large nor too small to be told from infinity or zero.
pub fn parse_weight(text: &[u8]) -> Option<f64> {
    read_loosely(text).and_then(|(value, in_range)| in_range.then_some(value))
}

/// The number, and whether it is in range.
fn read_loosely(text: &[u8]) -> Option<(f64, bool)> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let blanks = text.iter().take_while(|&&byte| is_blank(byte)).count();
    let (value, used, in_range) = match read_number(&text[blanks..]) {
        Some(number) => (number.value, blanks + number.used, number.in_range),
        None => (0.0, 0, true),
    };
    (used == text.len() && !value.is_nan()).then_some((value, in_range))
}

/// What C calls space.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

struct Number {
    value: f64,
    used: usize,
    /// It is neither infinite nor zero for lack of exponent.
    in_range: bool,
}

/// Reads the longest number that `text` begins with.
fn read_number(text: &[u8]) -> Option<Number> {
    let (negative, sign) = match text.first() {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let rest = text.get(sign..)?;
    let mut number = match () {
        () if begins_with(rest, b"infinity") => Number { value: f64::INFINITY, used: 8, in_range: true },
        () if begins_with(rest, b"inf") => Number { value: f64::INFINITY, used: 3, in_range: true },
        () if begins_with(rest, b"nan") => Number { value: f64::NAN, used: 3, in_range: true },
        () => read_hexadecimal(rest).or_else(|| read_decimal(rest))?,
    };
    number.used += sign;
    if negative {
        number.value = -number.value;
    }
    Some(number)
}

fn begins_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// How many bytes from `at` on are digits.
fn digits_from(text: &[u8], at: usize, is_digit: fn(&u8) -> bool) -> usize {
    text.get(at..).unwrap_or_default().iter().take_while(|byte| is_digit(byte)).count()
}

/// Length of an exponent (its letter, a sign, digits) at `at`; 0 if there is none.
fn exponent_length(text: &[u8], at: usize, letter: u8) -> usize {
    if text.get(at).is_none_or(|byte| byte.to_ascii_lowercase() != letter) {
        return 0;
    }
    let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
    match digits_from(text, at + 1 + sign, u8::is_ascii_digit) {
        0 => 0,
        digits => 1 + sign + digits,
    }
}

fn read_decimal(text: &[u8]) -> Option<Number> {
    let whole = digits_from(text, 0, u8::is_ascii_digit);
    let mut used = whole;
    let mut fraction = 0;
    if text.get(whole) == Some(&b'.') {
        fraction = digits_from(text, whole + 1, u8::is_ascii_digit);
        used += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    let mantissa = used;
    used += exponent_length(text, used, b'e');
    // ASCII, so it is text.
    let value: f64 = std::str::from_utf8(text.get(..used)?).ok()?.parse().ok()?;
    let has_value = text[..mantissa].iter().any(|byte| matches!(byte, b'1'..=b'9'));
    Some(Number { value, used, in_range: value.is_finite() && (value != 0.0 || !has_value) })
}

/// 0x, hexadecimal digits with or without a point, a binary exponent or none.
fn read_hexadecimal(text: &[u8]) -> Option<Number> {
    if !begins_with(text, b"0x") {
        return None;
    }
    let whole = digits_from(text, 2, u8::is_ascii_hexdigit);
    let mut used = 2 + whole;
    let mut fraction = 0;
    if text.get(used) == Some(&b'.') {
        fraction = digits_from(text, used + 1, u8::is_ascii_hexdigit);
        used += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    // 60 bits are exact; of what is behind them matters only whether it is zero.
    let (mut mantissa, mut exponent, mut lost) = (0u64, 0i64, false);
    for &byte in text[2..used].iter().filter(|&&byte| byte != b'.') {
        let digit = (byte as char).to_digit(16).map_or(0, u64::from);
        if mantissa >> 56 == 0 {
            mantissa = mantissa << 4 | digit;
        } else {
            lost |= digit != 0;
            exponent += 4;
        }
    }
    exponent -= 4 * fraction as i64;
    let written = exponent_length(text, used, b'p');
    if written != 0 {
        let digits = std::str::from_utf8(text.get(used + 1..used + written)?).ok()?;
        // Beyond this it is out of range whatever the mantissa.
        let limit = 1 << 40;
        let negative = digits.starts_with('-');
        let magnitude = digits.trim_start_matches(['+', '-']).parse::<i64>().unwrap_or(limit).min(limit);
        exponent += if negative { -magnitude } else { magnitude };
        used += written;
    }
    let value = scale((mantissa | u64::from(lost)) as f64, exponent);
    Some(Number { value, used, in_range: value.is_finite() && (value != 0.0 || mantissa == 0) })
}

/// value * 2^exponent.
fn scale(mut value: f64, mut exponent: i64) -> f64 {
    const STEP: i64 = 1000;
    while exponent != 0 && value != 0.0 && value.is_finite() {
        let step = exponent.clamp(-STEP, STEP);
        value *= 2f64.powi(step as i32);
        exponent -= step;
    }
    value
}

/// The text of `%.17g`: 17 digits at most, without zeros behind the point at the end.
pub fn text_17g(value: f64) -> String {
    const DIGITS: i32 = 17;
    if !value.is_finite() {
        let sign = if value.is_sign_negative() { "-" } else { "" };
        return format!("{sign}{}", if value.is_nan() { "nan" } else { "inf" });
    }
    let scientific = format!("{value:.*e}", DIGITS as usize - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..DIGITS).contains(&exponent) {
        return trim(&format!("{value:.*}", (DIGITS - 1 - exponent) as usize));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strict() {
        let good: &[(&str, f64)] = &[
            ("0", 0.0),
            ("-1.5", -1.5),
            ("+3", 3.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1E+3", 1000.0),
            ("inf", f64::INFINITY),
            ("-INF", f64::NEG_INFINITY),
            ("+Infinity", f64::INFINITY),
            ("0x10", 16.0),
            ("-0x1.8p3", -12.0),
            ("0x.8", 0.5),
            ("0X1P-2", 0.25),
            ("0x20000000000001", 9007199254740993.0),
            ("1e-320", 1e-320),
            ("0e999999", 0.0),
        ];
        for (text, value) in good {
            assert_eq!(parse_f64(text.as_bytes()), Some(*value), "{text}");
        }
        for bad in [
            "",
            " 1",
            "1 ",
            "nan",
            "-nan",
            "1e",
            "1e+",
            "e5",
            ".",
            "0x",
            "0x.",
            "0xp1",
            "1..2",
            "--1",
            "1e999",
            "-1e999",
            "1e-999",
            "0x1p9999",
            "0x1p-9999",
            "abc",
            "1\0",
            "inff",
            "1_0",
        ] {
            assert_eq!(parse_f64(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn loose() {
        let good: &[(&str, f64)] =
            &[("", 0.0), (" 1", 1.0), ("\t-2.5", -2.5), ("1e999", f64::INFINITY), ("1\0x", 1.0), ("\0", 0.0)];
        for (text, value) in good {
            assert_eq!(parse_bound(text.as_bytes()), Some(*value), "{text:?}");
        }
        for bad in [" ", "1 ", "nan", "a", "(1", "1e", "0x"] {
            assert_eq!(parse_bound(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn seventeen_digits() {
        let table: &[(f64, &str)] = &[
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.10000000000000001"),
            (-3.25, "-3.25"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in table {
            assert_eq!(text_17g(*value), *text);
        }
    }

    proptest! {
        #[test]
        fn seventeen_digits_read_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(parse_f64(text_17g(value).as_bytes()), Some(value));
        }

        #[test]
        fn any_text_is_safe(text in "[-+ 0-9a-fxXpPeEinNfty.]{0,24}") {
            let strict = parse_f64(text.as_bytes());
            let loose = parse_bound(text.as_bytes());
            if strict.is_some() {
                prop_assert_eq!(strict, loose);
            }
        }
    }
}
