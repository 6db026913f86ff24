//! file_meta
