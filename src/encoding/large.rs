//! Body of a hash or set whose elements lie under an id.
//!
//! ```text
//! body = count varint | longest varint | mixed u8
//!
//! count      elements that are stored, expired fields included
//! longest    bytes of the longest field, value or member that it ever held
//! mixed      1 once a set has held a member that is no integer
//! ```
//!
//! The last two never go back; they are what OBJECT ENCODING is told from, as in Redis, where a value that was converted stays so.

use crate::encoding::meta::damaged;
use haypile_lsm::Error;
use haypile_lsm::base::coding::{Cursor, put_varint};

/// What the record knows of the elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Large {
    /// How many there are.
    pub count: u64,
    /// Bytes of the longest one ever.
    pub longest_bytes: u64,
    /// Not all members were integers.
    pub mixed: bool,
}

impl Large {
    /// Reads a body.
    pub fn decode(body: &[u8]) -> Result<Large, Error> {
        let mut cursor = Cursor::new(body);
        let mut read = || {
            let (count, longest_bytes) = (cursor.varint()?, cursor.varint()?);
            let mixed = cursor.u8()? != 0;
            cursor.is_empty().then_some(Large { count, longest_bytes, mixed })
        };
        read().ok_or_else(|| damaged("keyspace meta", "size of a collection"))
    }

    /// Writes the body, replacing what is there.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        put_varint(out, self.count);
        put_varint(out, self.longest_bytes);
        out.push(u8::from(self.mixed));
    }

    /// Takes note of an element's part.
    pub fn note_bytes(&mut self, bytes: usize) {
        self.longest_bytes = self.longest_bytes.max(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(count: u64, longest_bytes: u64, mixed: bool) {
            let large = Large { count, longest_bytes, mixed };
            let mut body = vec![7];
            large.encode(&mut body);
            prop_assert_eq!(Large::decode(&body).unwrap(), large);
        }

        #[test]
        fn any_bytes_never_panic(body: Vec<u8>) {
            let _ = Large::decode(&body);
        }
    }
}
