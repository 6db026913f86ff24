//! Floating point with a 64-bit mantissa: what `long double` is on x86-64, for INCRBYFLOAT.
//!
//! Redis adds with `long double` and prints with `%.17Lf`, trailing zeros cut, so 3.0 + 1.1 is `4.1` and not
//! `4.09999999999999964`. A double cannot give these digits; this type gives exactly them, on any machine.
//!
//! ```text
//! value = (-1)^negative * mantissa * 2^exponent        mantissa 0, or its top bit set (but for the smallest numbers)
//! ```
//!
//! Parsing and adding round once, to nearest, ties to even, from the exact result. Speed is that of short schoolbook
//! arithmetic; numbers of usual size need a few words.

use std::cmp::Ordering;

/// Longest text that is parsed, as in Redis.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Exponent of the last bit of the smallest number.
const EXPONENT_MIN: i64 = -16445;
/// Exponent of the last bit of the largest number.
const EXPONENT_MAX: i64 = 16384 - 64;
/// Digits behind the point when printed.
const FRACTION_DIGITS: usize = 17;

/// A number, or an infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    negative: bool,
    mantissa: u64,
    exponent: i64,
    infinite: bool,
}

impl Extended {
    fn infinity(negative: bool) -> Extended {
        Extended { negative, mantissa: 0, exponent: 0, infinite: true }
    }

    /// Whether it is a number.
    pub fn is_finite(&self) -> bool {
        !self.infinite
    }

    /// A thousand times this, rounded as the arithmetic of this type rounds, then up to a whole number. Below zero any number
    /// below zero stands for all. `None` if it is too large.
    pub fn thousandfold_ceil(&self) -> Option<i64> {
        if self.infinite {
            return if self.negative { Some(i64::MIN) } else { None };
        }
        let mut product = u128::from(self.mantissa) * 1000;
        let mut exponent = self.exponent;
        // To 64 bits, to nearest, ties to even.
        let excess = (128 - product.leading_zeros()).saturating_sub(64);
        if excess > 0 {
            let (half, rest) = (1u128 << (excess - 1), product & ((1 << excess) - 1));
            product >>= excess;
            product += u128::from(rest > half || rest == half && product & 1 == 1);
            exponent += i64::from(excess);
        }
        let whole = match u32::try_from(exponent) {
            Ok(0..=62) => product << exponent,
            Ok(_) if product == 0 => 0,
            Ok(_) => u128::MAX,
            Err(_) => {
                let shift = u32::try_from(-exponent).unwrap_or(u32::MAX).min(127);
                let whole = product >> shift;
                let fraction = product != whole << shift;
                whole + u128::from(fraction && !self.negative)
            }
        };
        match (self.negative, i64::try_from(whole)) {
            (false, whole) => whole.ok(),
            (true, whole) => Some(whole.map_or(i64::MIN, |whole| -whole)),
        }
    }

    /// Reads what `strtold` takes whole: decimal or hexadecimal, with or without exponent, or an infinity. `None` for
    /// anything else, and for what is too large or too small to be told from infinity or zero.
    pub fn parse(text: &[u8]) -> Option<Extended> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Some(Extended::infinity(negative));
        }
        let value = match unsigned {
            [b'0', b'x' | b'X', digits @ ..] => parse_hexadecimal(negative, digits)?,
            digits => parse_decimal(negative, digits)?,
        };
        value.is_finite().then_some(value)
    }

    /// The sum, rounded once. `None` for infinity minus infinity.
    pub fn plus(self, other: Extended) -> Option<Extended> {
        match (self.infinite, other.infinite) {
            (true, true) => (self.negative == other.negative).then_some(self),
            (true, false) => Some(self),
            (false, true) => Some(other),
            (false, false) => Some(self.add_finite(other)),
        }
    }

    fn add_finite(self, other: Extended) -> Extended {
        if self.mantissa == 0 {
            return other;
        }
        if other.mantissa == 0 {
            return self;
        }
        let (high, mut low) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        // Far below the last bit that counts, all that matters of the smaller number is that it is there.
        const FAR: i64 = 130;
        if high.exponent - low.exponent > FAR {
            low = Extended { mantissa: 1, exponent: high.exponent - FAR, ..low };
        }
        let mut high_bits = Natural::from(high.mantissa);
        high_bits.shift_left((high.exponent - low.exponent) as usize);
        let mut low_bits = Natural::from(low.mantissa);
        if high.negative == low.negative {
            high_bits.add(&low_bits);
            return round(high.negative, high_bits, low.exponent, false);
        }
        match high_bits.compare(&low_bits) {
            Ordering::Equal => Extended { negative: false, mantissa: 0, exponent: 0, infinite: false },
            Ordering::Greater => {
                high_bits.subtract(&low_bits);
                round(high.negative, high_bits, low.exponent, false)
            }
            Ordering::Less => {
                low_bits.subtract(&high_bits);
                round(low.negative, low_bits, low.exponent, false)
            }
        }
    }

    /// The text that Redis gives it: up to 17 digits behind the point, without zeros at the end; never with an exponent.
    pub fn to_text(&self) -> String {
        if self.infinite {
            return if self.negative { "-inf" } else { "inf" }.to_owned();
        }
        let (whole, fraction) = if self.exponent >= 0 {
            let mut whole = Natural::from(self.mantissa);
            whole.shift_left(self.exponent as usize);
            (whole.to_decimal(), String::new())
        } else {
            let digits = format!("{:018}", self.scaled_by_ten_to_17());
            let (whole, fraction) = digits.split_at(digits.len() - FRACTION_DIGITS);
            (whole.to_owned(), fraction.trim_end_matches('0').to_owned())
        };
        let mut text = String::new();
        if self.negative && !(whole == "0" && fraction.is_empty()) {
            text.push('-');
        }
        text.push_str(&whole);
        if !fraction.is_empty() {
            text.push('.');
            text.push_str(&fraction);
        }
        text
    }

    /// The magnitude times 10^17, rounded to an integer; requires a negative exponent.
    fn scaled_by_ten_to_17(&self) -> u128 {
        let scaled = u128::from(self.mantissa) * 10u128.pow(FRACTION_DIGITS as u32);
        let shift = self.exponent.unsigned_abs();
        if shift >= 127 {
            return 0;
        }
        let (quotient, rest) = (scaled >> shift, scaled & ((1 << shift) - 1));
        let half = 1u128 << (shift - 1);
        quotient + u128::from(rest > half || (rest == half && quotient & 1 == 1))
    }
}

/// The nearest number to `(bits + a bit less than one if sticky) * 2^exponent`.
fn round(negative: bool, mut bits: Natural, exponent: i64, sticky: bool) -> Extended {
    let len = bits.bit_len() as i64;
    if len == 0 {
        return Extended { negative, mantissa: 0, exponent: 0, infinite: false };
    }
    let last = (exponent + len - 64).max(EXPONENT_MIN);
    if last <= exponent {
        bits.shift_left((exponent - last) as usize);
        return finish(negative, bits.low_u64(), last);
    }
    let cut = (last - exponent) as usize;
    let half = bits.bit(cut - 1);
    let below = sticky || bits.any_bit_below(cut - 1);
    bits.shift_right(cut);
    let mantissa = bits.low_u64();
    match mantissa.checked_add(u64::from(half && (below || mantissa & 1 == 1))) {
        Some(mantissa) => finish(negative, mantissa, last),
        None => finish(negative, 1 << 63, last + 1),
    }
}

fn finish(negative: bool, mantissa: u64, exponent: i64) -> Extended {
    if mantissa != 0 && exponent > EXPONENT_MAX {
        return Extended::infinity(negative);
    }
    Extended { negative, mantissa, exponent: if mantissa == 0 { 0 } else { exponent }, infinite: false }
}

/// Splits off an exponent marked by `mark` and reads it, cut to a size that no number has.
fn split_exponent(text: &[u8], mark: u8) -> Option<(&[u8], i64)> {
    const HUGE: i64 = 1_000_000;
    let Some(at) = text.iter().position(|byte| byte.to_ascii_lowercase() == mark) else {
        return Some((text, 0));
    };
    let (negative, digits) = match &text[at + 1..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |value, byte| (value * 10 + i64::from(byte - b'0')).min(HUGE));
    Some((&text[..at], if negative { -value } else { value }))
}

/// Digits without the point, and how many stood behind it.
fn split_point(text: &[u8], is_digit: fn(&u8) -> bool) -> Option<(Vec<u8>, i64)> {
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    let digits = [whole, fraction].concat();
    (!digits.is_empty() && digits.iter().all(is_digit)).then_some((digits, fraction.len() as i64))
}

fn parse_decimal(negative: bool, text: &[u8]) -> Option<Extended> {
    let (text, exponent) = split_exponent(text, b'e')?;
    let (digits, behind_point) = split_point(text, u8::is_ascii_digit)?;
    let mut bits = Natural::default();
    for byte in &digits {
        bits.multiply_add(10, u32::from(byte - b'0'));
    }
    if bits.bit_len() == 0 {
        return Some(Extended { negative, mantissa: 0, exponent: 0, infinite: false });
    }
    let exponent = exponent - behind_point;
    let significant = digits.iter().skip_while(|byte| **byte == b'0').count() as i64;
    // Beyond 10^4933 is infinity and below 10^-4951 is zero, both of which Redis refuses.
    if exponent + significant > 4940 || exponent + significant < -4960 {
        return None;
    }
    let value = if exponent >= 0 {
        bits.multiply_power_of_ten(exponent as u64);
        round(negative, bits, 0, false)
    } else {
        let mut divisor = Natural::from(1);
        divisor.multiply_power_of_ten(exponent.unsigned_abs());
        divide(negative, bits, divisor)
    };
    (value.mantissa != 0 || value.infinite).then_some(value)
}

fn parse_hexadecimal(negative: bool, text: &[u8]) -> Option<Extended> {
    let (text, exponent) = split_exponent(text, b'p')?;
    let (digits, behind_point) = split_point(text, u8::is_ascii_hexdigit)?;
    let mut bits = Natural::default();
    for byte in &digits {
        bits.multiply_add(16, char::from(*byte).to_digit(16)?);
    }
    let zero = bits.bit_len() == 0;
    let value = round(negative, bits, exponent - 4 * behind_point, false);
    (zero || value.mantissa != 0 || value.infinite).then_some(value)
}

/// The nearest number to `dividend / divisor`, both above zero.
fn divide(negative: bool, mut dividend: Natural, mut divisor: Natural) -> Extended {
    const QUOTIENT_BITS: i64 = 67;
    // Scale so that the quotient has 67 or 68 bits: enough for 64, the rounding bit and some.
    let shift = QUOTIENT_BITS - (dividend.bit_len() as i64 - divisor.bit_len() as i64);
    if shift >= 0 {
        dividend.shift_left(shift as usize);
    } else {
        divisor.shift_left(shift.unsigned_abs() as usize);
    }
    let mut quotient = 0u128;
    divisor.shift_left(QUOTIENT_BITS as usize + 1);
    for _ in 0..=QUOTIENT_BITS + 1 {
        quotient <<= 1;
        if dividend.compare(&divisor) != Ordering::Less {
            dividend.subtract(&divisor);
            quotient |= 1;
        }
        divisor.shift_right(1);
    }
    let sticky = dividend.bit_len() != 0;
    round(negative, Natural::from_u128(quotient), -shift, sticky)
}

/// A natural number of any size: 32-bit words, least significant first, no zero word at the end.
#[derive(Clone, Debug, Default)]
struct Natural {
    words: Vec<u32>,
}

impl Natural {
    fn from(value: u64) -> Natural {
        Natural::from_u128(u128::from(value))
    }

    fn from_u128(value: u128) -> Natural {
        let words = (0..4).map(|word| (value >> (32 * word)) as u32).collect();
        let mut natural = Natural { words };
        natural.trim();
        natural
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }

    fn bit_len(&self) -> usize {
        self.words.last().map_or(0, |top| 32 * self.words.len() - top.leading_zeros() as usize)
    }

    fn bit(&self, index: usize) -> bool {
        self.words.get(index / 32).is_some_and(|word| word >> (index % 32) & 1 == 1)
    }

    fn any_bit_below(&self, index: usize) -> bool {
        let whole = (index / 32).min(self.words.len());
        let part = self.words.get(index / 32).is_some_and(|word| word & ((1u32 << (index % 32)) - 1) != 0);
        part || self.words[..whole].iter().any(|word| *word != 0)
    }

    fn low_u64(&self) -> u64 {
        let word = |index| u64::from(self.words.get(index).copied().unwrap_or(0));
        word(0) | word(1) << 32
    }

    fn compare(&self, other: &Natural) -> Ordering {
        let len = self.words.len().cmp(&other.words.len());
        len.then_with(|| self.words.iter().rev().cmp(other.words.iter().rev()))
    }

    fn add(&mut self, other: &Natural) {
        let mut carry = 0u64;
        for index in 0..self.words.len().max(other.words.len()) {
            if index == self.words.len() {
                self.words.push(0);
            }
            let other_word = other.words.get(index).copied().unwrap_or(0);
            let sum = u64::from(self.words[index]) + u64::from(other_word) + carry;
            self.words[index] = sum as u32;
            carry = sum >> 32;
        }
        if carry != 0 {
            self.words.push(carry as u32);
        }
    }

    /// Requires `other <= self`.
    fn subtract(&mut self, other: &Natural) {
        let mut borrow = 0i64;
        for (index, word) in self.words.iter_mut().enumerate() {
            let difference =
                i64::from(*word) - i64::from(other.words.get(index).copied().unwrap_or(0)) + borrow;
            *word = difference as u32;
            borrow = difference >> 32;
        }
        self.trim();
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for word in &mut self.words {
            let product = u64::from(*word) * u64::from(factor) + carry;
            *word = product as u32;
            carry = product >> 32;
        }
        if carry != 0 {
            self.words.push(carry as u32);
        }
    }

    fn multiply_power_of_ten(&mut self, power: u64) {
        for _ in 0..power / 9 {
            self.multiply_add(1_000_000_000, 0);
        }
        self.multiply_add(10u32.pow((power % 9) as u32), 0);
    }

    fn shift_left(&mut self, bits: usize) {
        if self.words.is_empty() {
            return;
        }
        let part = bits % 32;
        if part != 0 {
            let mut carry = 0;
            for word in &mut self.words {
                let shifted = *word << part | carry;
                carry = *word >> (32 - part);
                *word = shifted;
            }
            self.words.push(carry);
        }
        self.words.splice(0..0, std::iter::repeat_n(0, bits / 32));
        self.trim();
    }

    fn shift_right(&mut self, bits: usize) {
        self.words.drain(..(bits / 32).min(self.words.len()));
        let part = bits % 32;
        if part != 0 {
            let mut carry = 0;
            for word in self.words.iter_mut().rev() {
                let shifted = *word >> part | carry;
                carry = *word << (32 - part);
                *word = shifted;
            }
        }
        self.trim();
    }

    fn to_decimal(&self) -> String {
        let mut left = self.clone();
        let mut groups = Vec::new();
        while !left.words.is_empty() {
            let mut rest = 0u64;
            for word in left.words.iter_mut().rev() {
                let value = rest << 32 | u64::from(*word);
                *word = (value / 1_000_000_000) as u32;
                rest = value % 1_000_000_000;
            }
            left.trim();
            groups.push(rest);
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        for group in groups.iter().rev() {
            text.push_str(&format!("{group:09}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousandfold() {
        let of = |text: &str| Extended::parse(text.as_bytes()).unwrap().thousandfold_ceil();
        for (text, wanted) in [
            ("0", 0),
            ("0.1", 100),
            ("1.5", 1500),
            ("0.0001", 1),
            ("0.001", 1),
            ("0.0011", 2),
            ("-0.0001", 0),
            ("-1", -1000),
            ("1e3", 1_000_000),
            ("9223372036854775", 9_223_372_036_854_775_000),
            ("1e-4000", 1),
        ] {
            assert_eq!(of(text), Some(wanted), "{text}");
        }
        assert_eq!(of("9223372036854776"), None);
        assert_eq!(of("1e4000"), None);
        assert_eq!(of("inf"), None);
        assert!(of("-inf").unwrap() < 0 && of("-1e300").unwrap() < 0);
    }
    use proptest::prelude::*;

    fn sum(a: &str, b: &str) -> String {
        let a = Extended::parse(a.as_bytes()).unwrap();
        a.plus(Extended::parse(b.as_bytes()).unwrap()).unwrap().to_text()
    }

    #[test]
    fn known_sums() {
        assert_eq!(sum("3.0", "1.1"), "4.1");
        assert_eq!(sum("0", "0.1"), "0.1");
        assert_eq!(sum("10.50", "0.1"), "10.6");
        assert_eq!(sum("5.0e3", "2.0e2"), "5200");
        assert_eq!(sum("1", "-1"), "0");
        assert_eq!(sum("0", "-1.1"), "-1.1");
        assert_eq!(sum("17179869184", "1"), "17179869185");
        assert_eq!(sum("1.23", "0"), "1.23");
        assert_eq!(sum("0x1.8p3", "0"), "12");
        assert_eq!(sum("1e18", "0.5"), "1000000000000000000.5");
        assert_eq!(sum("0", "-1e-30"), "0");
        assert_eq!(sum("0", "18446744073709551615"), "18446744073709551615");
        assert_eq!(sum("1e-17", "0"), "0.00000000000000001");
        assert_eq!(sum("1", "1e-40"), "1");
        assert_eq!(sum("0.0001", "372.3891"), "372.38919999999999999");
    }

    #[test]
    fn refusals() {
        for bad in
            ["", " 1", "1 ", "nan", "1e", "1e+", ".", "e5", "0x", "1.1.1", "1e5000", "1e-5000", "--1", "1_0"]
        {
            assert!(Extended::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let infinity = Extended::parse(b"-INF").unwrap();
        assert!(!infinity.is_finite());
        assert!(infinity.plus(Extended::parse(b"inf").unwrap()).is_none());
        let largest = Extended::parse(b"1.18973149535723176502e+4932").unwrap();
        assert!(!largest.plus(largest).unwrap().is_finite());
        assert_eq!(largest.to_text().len(), 4933);
    }

    proptest! {
        #[test]
        fn integers_are_exact(a in -(1i64 << 62)..1i64 << 62, b in -(1i64 << 62)..1i64 << 62) {
            prop_assert_eq!(sum(&a.to_string(), &b.to_string()), (a + b).to_string());
        }

        #[test]
        fn doubles_are_exact(value in proptest::num::f64::NORMAL) {
            // Every double is an extended number; 17 digits behind the point of its exact value.
            prop_assume!(value.abs() < 1e300);
            let parsed = Extended::parse(format!("{value:?}").as_bytes());
            if let Some(parsed) = parsed {
                let ratio = parsed.mantissa as f64 * 2f64.powi(parsed.exponent.clamp(-1000, 1000) as i32);
                if value.abs() > 1e-280 {
                    prop_assert!((ratio - value.abs()).abs() <= value.abs() * 1e-15);
                }
            }
        }

        #[test]
        fn any_text_is_safe(text in "[-+0-9a-fxXpPeE.]{0,24}") {
            if let Some(value) = Extended::parse(text.as_bytes()) {
                let _ = value.to_text();
            }
        }
    }
}
