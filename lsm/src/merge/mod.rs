//! Merging sorted sources and what a reader may see of them.

#[cfg(test)]
pub mod vector_iter;

pub mod merging_iter;
pub mod visible_iter;
pub mod indexed_batch;
