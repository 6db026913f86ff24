//! What the commands do, without any protocol: values in, values out, effects staged in a `Txn`.

pub mod bits;
pub mod bitfield;
pub mod lcs;
pub mod string_value;
pub mod strings;
pub mod bitmaps;
pub mod sorted_set_large;
pub mod sorted_set;
pub mod sorted_sets;
pub mod keys;
pub mod digest;
