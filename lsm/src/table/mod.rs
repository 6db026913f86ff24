//! Table files: footer and properties, builder, reader, iterator.

pub mod format;
pub mod builder;
pub mod file_handles;
pub mod table;
pub mod table_iter;
#[cfg(any(test, fuzzing))]
pub mod repair;
#[cfg(test)]
mod tests;
