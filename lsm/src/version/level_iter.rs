//! level_iter
