//! What the commands do, without any protocol: values in, values out, effects staged in a `Txn`.

pub mod bitfield;
pub mod bitmaps;
pub mod bits;
pub mod keys;
pub mod lcs;
pub mod string_value;
pub mod strings;
