//! The record of a large list: how many elements it has, and where they lie.
//!
//! Elements lie in keyspace `data` by position, a `u64`. Pushes put them [`STRIDE`] apart, the first one at [`MIDDLE`], so
//! both ends have room for 2^47 pushes and an insertion in the middle finds a gap. As long as nobody inserts or removes
//! in the middle, the position of an element follows from its index. What was disturbed is remembered as one range:
//!
//! ```text
//! first ... even ... low ~~~ rough ~~~ high ... even ... last
//!
//! even    neighbours are STRIDE apart: index <-> position is arithmetic
//! rough   both its ends are elements; between them only a walk tells
//!
//! body = count varint | first u64 BE | last - first varint [ | low - first varint | high - low varint ]
//! ```
//!
//! First and last are exact, always: a pop reads where they say and never looks for the next element among tombstones.

use haypile_lsm::base::coding::{Cursor, VARINT_BYTES_MAX, put_varint};

/// Distance of neighbours at the ends.
pub const STRIDE: u64 = 1 << 16;
/// Where the first element of a new list lies.
pub const MIDDLE: u64 = 1 << 63;

/// Longest body in bytes.
pub const LAYOUT_BYTES_MAX: usize = 8 + 4 * VARINT_BYTES_MAX;

/// Where a large list's elements lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many there are; at least one.
    pub count: u64,
    /// Position of the first.
    pub first: u64,
    /// Position of the last.
    pub last: u64,
    /// Positions of the first and the last element of the rough part, if there is one.
    pub rough: Option<(u64, u64)>,
}

/// Where an element is, as far as the record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this position.
    At(u64),
    /// In the rough part: so many steps from its first element, and from its last.
    Rough(u64, u64),
}

impl Layout {
    /// `count` elements, all even, the first one at `first`. `None` if there is no room for them or there are none.
    pub fn even(first: u64, count: u64) -> Option<Layout> {
        let last = first.checked_add(count.checked_sub(1)?.checked_mul(STRIDE)?)?;
        Some(Layout { count, first, last, rough: None })
    }

    /// `count` elements, all even, around the middle.
    pub fn centred(count: u64) -> Option<Layout> {
        Layout::even(MIDDLE.checked_sub((count / 2).checked_mul(STRIDE)?)?, count)
    }

    /// How many elements lie in front of the rough part, and behind it.
    fn even_counts(&self) -> (u64, u64) {
        match self.rough {
            None => (self.count, 0),
            Some((low, high)) => ((low - self.first) / STRIDE, (self.last - high) / STRIDE),
        }
    }

    /// Where element `index` is; `index` is below the count.
    pub fn place(&self, index: u64) -> Place {
        let (before, behind) = self.even_counts();
        let from_end = self.count.saturating_sub(1).saturating_sub(index);
        if index < before || self.rough.is_none() {
            Place::At(self.first + index * STRIDE)
        } else if from_end < behind {
            Place::At(self.last - from_end * STRIDE)
        } else {
            // Both ends of the rough part are known.
            match (self.rough, index - before, from_end - behind) {
                (Some((low, _)), 0, _) => Place::At(low),
                (Some((_, high)), _, 0) => Place::At(high),
                (_, from_low, from_high) => Place::Rough(from_low, from_high),
            }
        }
    }

    /// Whether all neighbours between the elements at two positions are a stride apart.
    pub fn is_even_between(&self, low: u64, high: u64) -> bool {
        self.rough.is_none_or(|rough| low == high || high <= rough.0 || low >= rough.1)
    }

    /// The layout of what is left from `first` to `last`, both elements.
    pub fn cut(&self, first: u64, last: u64, count: u64) -> Layout {
        let rough = self.rough.map(|(low, high)| (low.max(first), high.min(last)));
        Layout { count, first, last, rough: rough.filter(|(low, high)| low < high) }
    }

    /// The same with the elements from `low` to `high` rough as well.
    pub fn roughened(&self, low: u64, high: u64) -> Layout {
        if low >= high {
            return *self;
        }
        let rough = self.rough.map_or((low, high), |(a, b)| (a.min(low), b.max(high)));
        Layout { rough: Some(rough), ..*self }
    }

    /// Appends it.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.count);
        out.extend_from_slice(&self.first.to_be_bytes());
        put_varint(out, self.last - self.first);
        if let Some((low, high)) = self.rough {
            put_varint(out, low - self.first);
            put_varint(out, high - low);
        }
    }

    /// Reads it. `None` if the bytes are none, or contradict themselves.
    pub fn read(body: &[u8]) -> Option<Layout> {
        let mut cursor = Cursor::new(body);
        let count = cursor.varint()?;
        let first = u64::from_be_bytes(*cursor.take(8)?.first_chunk()?);
        let last = first.checked_add(cursor.varint()?)?;
        let mut rough = None;
        if !cursor.is_empty() {
            let low = first.checked_add(cursor.varint()?)?;
            rough = Some((low, low.checked_add(cursor.varint()?)?));
        }
        let layout = Layout { count, first, last, rough };
        (cursor.is_empty() && layout.is_sound()).then_some(layout)
    }

    fn is_sound(&self) -> bool {
        let even = |span: u64| span.is_multiple_of(STRIDE);
        match self.rough {
            None => {
                even(self.last - self.first)
                    && self.count.checked_sub(1) == Some((self.last - self.first) / STRIDE)
            }
            Some((low, high)) => {
                let (before, behind) = ((low - self.first) / STRIDE, self.last.checked_sub(high));
                low < high
                    && even(low - self.first)
                    && behind.is_some_and(|span| even(span) && before + span / STRIDE + 2 <= self.count)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(before in 0u64..5, rough in prop::collection::vec(1u64..200_000, 0..6), behind in 0u64..5) {
            // The positions one by one, as the layout is to tell them.
            let first = MIDDLE - 12345;
            let mut positions: Vec<u64> = (0..=before).map(|step| first + step * STRIDE).collect();
            let low = *positions.last().unwrap();
            for gap in &rough {
                positions.push(positions.last().unwrap() + gap);
            }
            let high = *positions.last().unwrap();
            positions.extend((1..=behind).map(|step| high + step * STRIDE));
            let (count, last) = (positions.len() as u64, *positions.last().unwrap());
            let layout = Layout { count, first, last, rough: Some((low, high)).filter(|(a, b)| a < b) };
            let mut body = Vec::new();
            layout.put(&mut body);
            prop_assert!(body.len() <= LAYOUT_BYTES_MAX);
            prop_assert_eq!(Layout::read(&body), Some(layout));
            for (index, &position) in positions.iter().enumerate() {
                match layout.place(index as u64) {
                    Place::At(at) => prop_assert_eq!(at, position),
                    Place::Rough(from_low, from_high) => {
                        let at = positions.iter().position(|p| *p == low).unwrap() + from_low as usize;
                        prop_assert_eq!(at, index);
                        let back = positions.iter().position(|p| *p == high).unwrap() - from_high as usize;
                        prop_assert_eq!(back, index);
                    }
                }
            }
            // Any stretch of it is sound as well.
            for from in 0..positions.len() {
                for to in from..positions.len() {
                    let cut = layout.cut(positions[from], positions[to], (to - from + 1) as u64);
                    prop_assert!(cut.is_sound(), "{:?}", cut);
                }
            }
        }

        #[test]
        fn any_bytes_never_panic(body: Vec<u8>) {
            if let Some(layout) = Layout::read(&body) {
                let _ = (layout.place(0), layout.place(layout.count / 2), layout.place(layout.count - 1));
            }
        }
    }

    #[test]
    fn even_layouts() {
        assert_eq!(Layout::even(u64::MAX - STRIDE, 3), None);
        assert_eq!(Layout::even(0, 0), None);
        let layout = Layout::centred(1000).unwrap();
        assert!(layout.is_sound() && layout.first < MIDDLE && layout.last > MIDDLE);
        assert_eq!(layout.place(999), Place::At(layout.last));
    }
}
