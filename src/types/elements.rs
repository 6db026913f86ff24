//! What hashes and sets have in common: pages of a scan, random choices, and the sizes at which Redis changes an encoding.

use crate::base::glob;
use crate::base::reply_error::ReplyError;
use haypile_lsm::base::rng::Rng;
use std::collections::HashSet;

/// What HSCAN and SSCAN are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Where to go on; 0 for the beginning.
    pub cursor: u64,
    /// How many elements to look at.
    pub count: u64,
    /// Which to name.
    pub pattern: Option<&'a [u8]>,
}

impl Page<'_> {
    /// Whether an element is named. A lone star names the empty one too.
    pub fn names(&self, element: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| pattern == b"*" || glob::matches(pattern, element))
    }
}

/// How many random elements are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// So many.
    pub count: u64,
    /// Each at most once, and so no more than there are.
    pub distinct: bool,
}

/// One reply holds no more random elements than this if they may repeat: it must end somewhere.
pub const REPEATED_MAX: u64 = 1 << 24;

impl Wanted {
    /// The count as it was written: below zero, elements may repeat.
    pub fn from_count(count: i64) -> Result<Wanted, ReplyError> {
        let wanted = Wanted { count: count.unsigned_abs(), distinct: count >= 0 };
        if !wanted.distinct && wanted.count > REPEATED_MAX {
            return Err(ReplyError::fixed("ERR value is out of range"));
        }
        Ok(wanted)
    }

    /// How many elements come of it, of so many.
    pub fn of(&self, size: u64) -> u64 {
        match self.distinct {
            true => self.count.min(size),
            false if size == 0 => 0,
            false => self.count,
        }
    }
}

/// Random positions below `size`: so many as are wanted. Distinct ones come in order, repeated ones as they are drawn.
pub fn positions(rng: &mut Rng, size: u64, wanted: Wanted) -> Vec<u64> {
    if size == 0 {
        return Vec::new();
    }
    let count = wanted.of(size);
    if !wanted.distinct {
        return (0..count).map(|_| rng.below(size)).collect();
    }
    if count == size {
        return (0..size).collect();
    }
    // Floyd's sampling: every subset is as likely, in as many steps as it has members.
    let mut chosen = HashSet::with_capacity(count as usize);
    for top in size - count..size {
        let drawn = rng.below(top + 1);
        if !chosen.insert(drawn) {
            chosen.insert(top);
        }
    }
    let mut chosen: Vec<u64> = chosen.into_iter().collect();
    chosen.sort_unstable();
    chosen
}

/// How many picks of what was picked before are borne with, when so many different ones are wanted.
pub fn picks_max(count: u64) -> u64 {
    count.saturating_mul(16).saturating_add(64)
}

/// Up to what sizes Redis keeps a collection in its compact encodings. Here they only decide what OBJECT ENCODING says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactSizes {
    /// Elements.
    pub entries: u64,
    /// Bytes of an element.
    pub value_bytes: u64,
    /// Members of a set of integers.
    pub intset_entries: u64,
}

#[cfg(test)]
mod tests {
    use super::{Rng, Wanted, positions};
    use proptest::{prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn as_many_as_wanted(seed: u64, size in 0u64..50, count in 0u64..60, distinct: bool) {
            let wanted = Wanted { count, distinct };
            let positions = positions(&mut Rng::new(seed), size, wanted);
            prop_assert_eq!(positions.len() as u64, wanted.of(size));
            prop_assert!(positions.iter().all(|position| *position < size));
            if distinct {
                prop_assert!(positions.is_sorted_by(|a, b| a < b));
            }
        }
    }

    #[test]
    fn every_position_is_as_likely() {
        let (mut rng, mut seen) = (Rng::new(7), [0u32; 10]);
        for _ in 0..10_000 {
            for position in positions(&mut rng, 10, Wanted { count: 3, distinct: true }) {
                seen[position as usize] += 1;
            }
        }
        assert!(seen.iter().all(|count| (2700..3300).contains(count)), "{seen:?}");
    }
}
