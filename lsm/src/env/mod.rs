//! The seam to the operating system: files, folders, clock, randomness, threads.

pub mod env;
pub mod filename;
pub mod os_env;
pub mod mem_env;
pub mod fault_env;
