//! What the tree consists of: files by level, the edits that change that, the manifest that keeps the edits.

pub mod file_meta;
pub mod edit;
pub mod state;
pub mod version;
pub mod level_iter;
pub mod level_cover;
pub mod manifest;
