//! What the commands do, without any protocol: values in, values out, effects staged in a `Txn`.

pub mod bits;
pub mod bitfield;
pub mod lcs;
pub mod string_value;
pub mod strings;
pub mod bitmaps;
pub mod hll;
pub mod hyperloglog;
pub mod stream;
pub mod stream_groups;
pub mod elements;
pub mod hash_value;
pub mod hashes;
pub mod set_value;
pub mod set_algebra;
pub mod sets;
pub mod list_value;
pub mod lists;
pub mod sorted_set_large;
pub mod sorted_set;
pub mod sorted_sets;
pub mod sorted_set_algebra;
pub mod geo;
pub mod keys;
pub mod digest;
