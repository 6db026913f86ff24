//! An embedded LSM tree.
#![deny(unsafe_code)]

#[path = "base/mod.rs"]
pub mod base;
pub mod env;

pub use crate::base::batch::{KeyspaceId, WriteBatch};
