//! Small collections: all elements in the record itself, one byte string behind the other.
//!
//! ```text
//! body = item | item | ...                item = varint length | bytes
//!
//! set        member | member | ..                         sorted by member
//! hash       field | value | expiry | field | ..          expiry: empty, or ms since 1970 as u64 BE
//! zset       member | score | member | ..                 score: 8 bytes as in `data`; sorted by score, then member
//! list       element | element | ..                       head first
//! ```
//!
//! Whether a collection is packed is told by its head: it has no id. A collection that grows beyond the limits of
//! `store/limits.rs` moves under an id and may come back; commands answer the same on both sides.

use haypile_lsm::base::coding::{Cursor, put_slice};

/// Appends an item.
pub fn put_item(out: &mut Vec<u8>, item: &[u8]) {
    put_slice(out, item);
}

/// The items of a packed body, in order. After bytes that are no items it ends, and [`Items::is_damaged`] says so.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
    damaged: bool,
}

impl<'a> Items<'a> {
    /// The items of `body`.
    pub fn new(body: &'a [u8]) -> Items<'a> {
        Items { rest: body, damaged: false }
    }

    /// How many bytes are left behind the last item.
    pub fn bytes_left(&self) -> usize {
        self.rest.len()
    }

    /// What is behind the items taken so far.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether it ended before the end.
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let mut cursor = Cursor::new(self.rest);
        match cursor.slice() {
            Some(item) => {
                self.rest = cursor.rest();
                Some(item)
            }
            None => {
                self.rest = &[];
                self.damaged = true;
                None
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
        fn items_round_trip(items: Vec<Vec<u8>>) {
            let mut body = Vec::new();
            items.iter().for_each(|item| put_item(&mut body, item));
            let mut read = Items::new(&body);
            prop_assert_eq!(read.by_ref().map(<[u8]>::to_vec).collect::<Vec<_>>(), items);
            prop_assert!(!read.is_damaged());
        }

        #[test]
        fn any_bytes_end(body: Vec<u8>) {
            let mut items = Items::new(&body);
            let read: usize = items.by_ref().map(<[u8]>::len).sum();
            prop_assert!(read <= body.len());
        }
    }

    #[test]
    fn a_cut_item_is_damage() {
        let mut body = Vec::new();
        put_item(&mut body, b"whole");
        put_item(&mut body, b"cut");
        body.pop();
        let mut items = Items::new(&body);
        assert_eq!(items.next(), Some(&b"whole"[..]));
        assert_eq!(items.next(), None);
        assert!(items.is_damaged());
    }
}
