//! merging_iter
