//! Merging sorted sources and what a reader may see of them.

pub mod merging_iter;
pub mod visible_iter;
pub mod indexed_batch;
