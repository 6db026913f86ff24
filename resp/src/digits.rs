//! The digits of a double as Redis prints them: Grisu2 (Florian Loitsch, "Printing Floating-Point Numbers Quickly and Accurately with
//! Integers", 2010).
//!
//! ```text
//! lower      value        upper         half-way to the neighbours: what lies between reads back as the value
//!   |----------|------------|           scaled by a power of ten, so that the upper one is a number of 32 bits and a fraction
//!        d d d d|d d ..                 digits of the upper one, until what is left of it is less than the distance
//! ```
//!
//! The last digit is then lowered while that leads nearer to the value. Everything has 64 bits and may be off by one in the last, so the
//! bounds are drawn in by as much. What comes out always reads back as the value, but once in some hundred times a bound that was drawn
//! in costs a digit, or the nearest last one: then there are shorter or nearer digits. Redis prints what this method finds, and so do we.

use std::f64::consts::LOG10_2;
use std::ops::Range;

/// Room for the digits.
pub const DIGITS_MAX: usize = 20;

/// The bit in front of a double's fraction, which is not stored.
const HIDDEN_BIT: u64 = 1 << 52;
/// A double of exponent field 0 or 1 counts units of 2 to this.
const EXPONENT_MIN: i32 = -1074;
/// A scaled number counts units of 2 to this at least. Of the powers of ten that lead there, the least is taken.
const SCALED_EXPONENT_MIN: i32 = -60;

/// The powers of ten from this on,
const POWERS_FROM: i32 = -348;
/// and every eighth behind it,
const POWERS_STEP: i32 = 8;
/// rounded to 64 bits, of which the first is one.
const POWERS: [u64; 87] = [
    0xfa8fd5a0_081c0288,
    0xbaaee17f_a23ebf76,
    0x8b16fb20_3055ac76,
    0xcf42894a_5dce35ea,
    0x9a6bb0aa_55653b2d,
    0xe61acf03_3d1a45df,
    0xab70fe17_c79ac6ca,
    0xff77b1fc_bebcdc4f,
    0xbe5691ef_416bd60c,
    0x8dd01fad_907ffc3c,
    0xd3515c28_31559a83,
    0x9d71ac8f_ada6c9b5,
    0xea9c2277_23ee8bcb,
    0xaecc4991_4078536d,
    0x823c1279_5db6ce57,
    0xc2109436_4dfb5637,
    0x9096ea6f_3848984f,
    0xd77485cb_25823ac7,
    0xa086cfcd_97bf97f4,
    0xef340a98_172aace5,
    0xb23867fb_2a35b28e,
    0x84c8d4df_d2c63f3b,
    0xc5dd4427_1ad3cdba,
    0x936b9fce_bb25c996,
    0xdbac6c24_7d62a584,
    0xa3ab6658_0d5fdaf6,
    0xf3e2f893_dec3f126,
    0xb5b5ada8_aaff80b8,
    0x87625f05_6c7c4a8b,
    0xc9bcff60_34c13053,
    0x964e858c_91ba2655,
    0xdff97724_70297ebd,
    0xa6dfbd9f_b8e5b88f,
    0xf8a95fcf_88747d94,
    0xb9447093_8fa89bcf,
    0x8a08f0f8_bf0f156b,
    0xcdb02555_653131b6,
    0x993fe2c6_d07b7fac,
    0xe45c10c4_2a2b3b06,
    0xaa242499_697392d3,
    0xfd87b5f2_8300ca0e,
    0xbce50864_92111aeb,
    0x8cbccc09_6f5088cc,
    0xd1b71758_e219652c,
    0x9c400000_00000000,
    0xe8d4a510_00000000,
    0xad78ebc5_ac620000,
    0x813f3978_f8940984,
    0xc097ce7b_c90715b3,
    0x8f7e32ce_7bea5c70,
    0xd5d238a4_abe98068,
    0x9f4f2726_179a2245,
    0xed63a231_d4c4fb27,
    0xb0de6538_8cc8ada8,
    0x83c7088e_1aab65db,
    0xc45d1df9_42711d9a,
    0x924d692c_a61be758,
    0xda01ee64_1a708dea,
    0xa26da399_9aef774a,
    0xf209787b_b47d6b85,
    0xb454e4a1_79dd1877,
    0x865b8692_5b9bc5c2,
    0xc83553c5_c8965d3d,
    0x952ab45c_fa97a0b3,
    0xde469fbd_99a05fe3,
    0xa59bc234_db398c25,
    0xf6c69a72_a3989f5c,
    0xb7dcbf53_54e9bece,
    0x88fcf317_f22241e2,
    0xcc20ce9b_d35c78a5,
    0x98165af3_7b2153df,
    0xe2a0b5dc_971f303a,
    0xa8d9d153_5ce3b396,
    0xfb9b7cd9_a4a7443c,
    0xbb764c4c_a7a44410,
    0x8bab8eef_b6409c1a,
    0xd01fef10_a657842c,
    0x9b10a4e5_e9913129,
    0xe7109bfb_a19c0c9d,
    0xac2820d9_623bf429,
    0x80444b5e_7aa7cf85,
    0xbf21e440_03acdd2d,
    0x8e679c2f_5e44ff8f,
    0xd433179d_9c8cb841,
    0x9e19db92_b4e31ba9,
    0xeb96bf6e_badf77d9,
    0xaf87023b_9bf0ee6b,
];

/// The exponent that belongs to the 64 bits of a power of ten: 1_741_647 / 2^19 is its binary logarithm, for these powers near enough.
fn exponent_of_power(power: i32) -> i32 {
    ((i64::from(power) * 1_741_647) >> 19) as i32 - 63
}

/// The least power that brings a number of this exponent into the range.
fn index_of_power(exponent: i32) -> usize {
    let least = (f64::from(SCALED_EXPONENT_MIN - 1 - exponent) * LOG10_2).ceil() as i32;
    let index = (least - POWERS_FROM + POWERS_STEP - 1) / POWERS_STEP;
    (index.max(0) as usize).min(POWERS.len() - 1)
}

/// The upper half of a product, rounded.
fn multiply(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b) + (1 << 63)) >> 64) as u64
}

/// Finds digits of `value`, which is digits * 10^scale; it has to be finite and greater than zero. They lie in `out`.
pub fn find(out: &mut [u8; DIGITS_MAX], value: f64) -> (Range<usize>, i32) {
    let (field, fraction) = ((value.to_bits() >> 52) as i32 & 0x7ff, value.to_bits() & (HIDDEN_BIT - 1));
    let bits = if field == 0 { fraction } else { fraction | HIDDEN_BIT };
    let exponent = EXPONENT_MIN + field.max(1) - 1;
    // All three in the units in which the upper bound fills 64 bits.
    let shift = (2 * bits + 1).leading_zeros();
    let upper = (2 * bits + 1) << shift;
    let middle = (2 * bits) << shift;
    let lower = match bits == HIDDEN_BIT {
        // Below a power of two the neighbours are twice as close.
        true => (4 * bits - 1) << (shift - 1),
        false => (2 * bits - 1) << shift,
    };
    let exponent = exponent - 1 - shift as i32;

    let index = index_of_power(exponent);
    let (upper, lower) = (multiply(upper, POWERS[index]) - 1, multiply(lower, POWERS[index]) + 1);
    let middle = multiply(middle, POWERS[index]);
    let fraction_bits = -(exponent + exponent_of_power(power_at(index)) + 64) as u32;

    let (count, power) = generate(out, upper, upper - middle, upper - lower, fraction_bits);
    (0..count, power - power_at(index))
}

fn power_at(index: usize) -> i32 {
    POWERS_FROM + POWERS_STEP * index as i32
}

/// Digits of `upper`, a number with so many bits behind the point, until at most `width` is left; the last one as near to the value,
/// which lies `distance` below, as it gets. How many they are, and what power of ten the last one counts.
fn generate(
    out: &mut [u8; DIGITS_MAX],
    upper: u64,
    mut distance: u64,
    mut width: u64,
    fraction_bits: u32,
) -> (usize, i32) {
    let one = 1u64 << fraction_bits;
    let (mut whole, mut fraction) = (upper >> fraction_bits, upper & (one - 1));
    let (mut count, mut power) = (0, whole.checked_ilog10().unwrap_or(0) as i32);
    loop {
        let (digit, left, unit, done);
        if power >= 0 {
            let ten_to = 10u64.pow(power as u32);
            (digit, whole) = (whole / ten_to, whole % ten_to);
            left = (whole << fraction_bits) + fraction;
            unit = ten_to << fraction_bits;
            done = left <= width;
        } else {
            // Behind the point the number moves, and the unit stays.
            (fraction, distance, width) = (fraction * 10, distance * 10, width * 10);
            (digit, fraction) = (fraction >> fraction_bits, fraction & (one - 1));
            (left, unit) = (fraction, one);
            done = left < width;
        }
        out[count] = b'0' + digit as u8;
        count += 1;
        if done || count == DIGITS_MAX {
            out[count - 1] -= steps_down(left, unit, distance, width);
            return (count, power);
        }
        power -= 1;
    }
}

/// By how much the last digit is to be lowered: as long as it stays within the width, and every step leads nearer.
fn steps_down(mut left: u64, unit: u64, distance: u64, width: u64) -> u8 {
    let mut steps = 0;
    while left < distance && width - left >= unit {
        let next = left + unit;
        if next >= distance && distance - left <= next - distance {
            break;
        }
        left = next;
        steps += 1;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        let mut out = [0; DIGITS_MAX];
        let (digits, scale) = find(&mut out, value);
        format!("{}e{scale}", std::str::from_utf8(&out[digits]).unwrap())
    }

    #[test]
    fn digits_that_are_not_the_shortest_or_nearest_are_those_of_redis() {
        for (value, wanted) in [
            (0.1, "1e-1"),
            (5e-324, "5e-324"),
            (f64::MIN_POSITIVE, "22250738585072014e-324"),
            (f64::MAX, "17976931348623157e292"),
            (1e23, "9999999999999999e7"),
            (9007199254740993.0, "9007199254740992e0"),
            (83804.9780541, "8380497805409999e-11"),
            (f64::from_bits(4829840781901423178), "8106976234527452e-1"),
        ] {
            assert_eq!(text(value), wanted);
        }
    }

    #[test]
    fn the_least_power_in_range_is_taken() {
        for exponent in -1137..=960 {
            let scaled = |index: usize| exponent + exponent_of_power(power_at(index)) + 64;
            let index = index_of_power(exponent);
            assert!((-60..=-32).contains(&scaled(index)), "{exponent}");
            assert!(index == 0 || scaled(index - 1) < -60, "{exponent}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn digits_read_back(bits in 1u64..0x7ff0_0000_0000_0000, whole in 1u64..1 << 53, scale in -30i32..30) {
            for value in [f64::from_bits(bits), whole as f64 * 10f64.powi(scale), (1u64 << (bits % 64)) as f64] {
                let found = text(value);
                prop_assert_eq!(found.parse::<f64>().unwrap(), value, "{}", found);
                let digits = found.find('e').unwrap();
                prop_assert!(digits <= 17 && !found.starts_with('0'), "{}", found);
            }
        }
    }
}
