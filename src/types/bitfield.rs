//! Integers of any width at any bit of a string, and what happens when they overflow.

/// Signedness and width of a field: `i1` to `i64`, `u1` to `u63`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldType {
    /// Two's complement.
    pub signed: bool,
    /// Width.
    pub bits: u32,
}

/// What to do with a value that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Keep the low bits.
    #[default]
    Wrap,
    /// Take the nearest value that fits.
    Saturate,
    /// Do nothing.
    Fail,
}

/// Bytes that a field can touch: 64 bits that begin in the middle of a byte.
pub const WINDOW_BYTES: usize = 9;

impl FieldType {
    fn min(self) -> i128 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    fn max(self) -> i128 {
        if self.signed { (1 << (self.bits - 1)) - 1 } else { (1 << self.bits) - 1 }
    }

    fn wrap(self, value: i128) -> i128 {
        let low = value & ((1 << self.bits) - 1);
        if low > self.max() { low - (1 << self.bits) } else { low }
    }

    /// Brings a value into range. `None` if it does not fit and is to fail.
    fn fit(self, value: i128, overflow: Overflow) -> Option<i128> {
        if (self.min()..=self.max()).contains(&value) {
            return Some(value);
        }
        match overflow {
            Overflow::Wrap => Some(self.wrap(value)),
            Overflow::Saturate => Some(value.clamp(self.min(), self.max())),
            Overflow::Fail => None,
        }
    }

    /// The value that SET of `value` stores. Redis takes a negative number for an unsigned field as one of 64 bits.
    pub fn to_set(self, value: i64, overflow: Overflow) -> Option<i64> {
        let number = if self.signed { i128::from(value) } else { i128::from(value as u64) };
        if self.signed && self.bits < 64 && overflow == Overflow::Saturate {
            // Redis asks how much room there is above the value in 64 bits, which wraps for one far below: it then takes the
            // value for one too large. Clients may rely on what it stores.
            let max = self.max() as i64;
            if value < 0 && max.wrapping_sub(value) < 0 {
                return Some(max);
            }
        }
        self.fit(number, overflow).map(|value| value as i64)
    }

    /// The value that INCRBY stores.
    pub fn to_increment(self, value: i64, by: i64, overflow: Overflow) -> Option<i64> {
        self.fit(i128::from(value) + i128::from(by), overflow).map(|value| value as i64)
    }

    /// First byte that a field at bit `offset` touches, and how many: at most [`WINDOW_BYTES`].
    pub fn window(self, offset: u64) -> (u64, usize) {
        let (first, last) = (offset / 8, (offset + u64::from(self.bits) - 1) / 8);
        (first, (last - first + 1) as usize)
    }

    /// The field at bit `offset`, given the bytes of its window.
    pub fn read(self, window: &[u8; WINDOW_BYTES], offset: u64) -> i64 {
        let shift = self.shift(offset);
        let bits = (to_u128(window) >> shift) & ((1 << self.bits) - 1);
        self.wrap(bits as i128) as i64
    }

    /// Stores `value`, which fits, into the window.
    pub fn write(self, window: &mut [u8; WINDOW_BYTES], offset: u64, value: i64) {
        let shift = self.shift(offset);
        let mask = ((1u128 << self.bits) - 1) << shift;
        let bits = (to_u128(window) & !mask) | ((value as u128) << shift & mask);
        window.copy_from_slice(&bits.to_be_bytes()[16 - WINDOW_BYTES..]);
    }

    /// How far the field's last bit lies from the window's.
    fn shift(self, offset: u64) -> u32 {
        8 * WINDOW_BYTES as u32 - (offset % 8) as u32 - self.bits
    }
}

fn to_u128(window: &[u8; WINDOW_BYTES]) -> u128 {
    window.iter().fold(0, |value, byte| value << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field() -> impl Strategy<Value = FieldType> {
        (any::<bool>(), 1u32..=64)
            .prop_map(|(signed, bits)| FieldType { signed, bits: if signed { bits } else { bits.min(63) } })
    }

    proptest! {
        #[test]
        fn only_the_field_changes(
            field in field(), offset in 0u64..1000, before: [u8; WINDOW_BYTES], value: i64,
        ) {
            let stored = field.to_set(value, Overflow::Wrap).unwrap();
            let mut window = before;
            field.write(&mut window, offset, stored);
            prop_assert_eq!(field.read(&window, offset), stored);
            let inside = (offset % 8)..(offset % 8 + u64::from(field.bits));
            for bit in 0..8 * WINDOW_BYTES as u64 {
                let get = |bytes: &[u8]| bytes[bit as usize / 8] & crate::types::bits::mask(bit) != 0;
                if inside.contains(&bit) {
                    let weight = inside.end - 1 - bit;
                    prop_assert_eq!(get(&window), stored >> weight & 1 == 1);
                } else {
                    prop_assert_eq!(get(&window), get(&before));
                }
            }
            let (_, len) = field.window(offset);
            prop_assert!(len <= WINDOW_BYTES && inside.end <= 8 * len as u64);
        }

        #[test]
        fn overflow(field in field(), value: i64, by: i64) {
            let value = field.to_set(value, Overflow::Wrap).unwrap();
            let sum = i128::from(value) + i128::from(by);
            let fits = (field.min()..=field.max()).contains(&sum);
            prop_assert_eq!(field.to_increment(value, by, Overflow::Fail).is_some(), fits);
            let wrapped = i128::from(field.to_increment(value, by, Overflow::Wrap).unwrap());
            prop_assert_eq!((wrapped - sum) % (1 << field.bits), 0);
            let saturated = i128::from(field.to_increment(value, by, Overflow::Saturate).unwrap());
            prop_assert_eq!(saturated, sum.clamp(field.min(), field.max()));
        }
    }

    #[test]
    fn a_negative_number_is_too_large_for_an_unsigned_field() {
        let byte = FieldType { signed: false, bits: 8 };
        assert_eq!(byte.to_set(-1, Overflow::Saturate), Some(255));
        assert_eq!(byte.to_set(-1, Overflow::Wrap), Some(255));
        assert_eq!(byte.to_set(-1, Overflow::Fail), None);
        assert_eq!(byte.to_increment(0, -1, Overflow::Saturate), Some(0));
        let signed = FieldType { signed: true, bits: 22 };
        assert_eq!(signed.to_set(i64::MIN, Overflow::Saturate), Some((1 << 21) - 1));
        assert_eq!(signed.to_set(-(1 << 30), Overflow::Saturate), Some(-(1 << 21)));
    }
}
