//! indexed_batch
