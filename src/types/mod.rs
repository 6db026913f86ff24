//! What the commands do, without any protocol: values in, values out, effects staged in a `Txn`.

pub mod bits;
pub mod bitfield;
pub mod lcs;
pub mod string_value;
pub mod strings;
pub mod bitmaps;
pub mod list_value;
pub mod lists;
pub mod keys;
pub mod digest;
